/* The elements of PUBLISH, ENTRIES and UPDATES frames: [key|nil, value] pairs, one behind the other. Pure functions,
 * any thread. */
#include "clients/wire/frame.h"
#include "clients/wire/utf8.h"

/* What most keys are: none, or a short str. False: the long way decides. */
static inline bool item_key_take(struct view *rest, struct view *key)
{
    uint8_t first = rest->data[0];
    size_t size = first == 0xc0 ? 1 : 1u + (first & 0x1f);
    if ((first != 0xc0 && (first & 0xe0) != 0xa0) || rest->size < size || !utf8_is_valid(rest->data + 1, size - 1))
        return false;
    *key = first == 0xc0 ? view_of(NULL, 0) : view_of(rest->data, size);
    *rest = view_of(rest->data + size, rest->size - size);
    return true;
}

/* Every record that comes in and every entry and update that a client gets passes here, with no reader in between. */
enum weir_error items_next(struct view *items, unsigned depth_max, struct view *key, struct view *value)
{
    size_t size = 0;
    struct view rest = *items;
    if (rest.size == 0)
        return WEIR_AGAIN;
    if (!item_key_take(&rest, key)) {
        struct value_reader reader;
        value_reader_init(&reader, rest, depth_max);
        *key = value_read_key(&reader);
        if (reader.error != WEIR_OK)
            return reader.error;
        rest = reader.rest;
    }
    if (value_scan(rest, depth_max, &size) != WEIR_OK)
        return WEIR_BAD_REQUEST;
    *value = view_of(rest.data, size);
    *items = view_of(rest.data + size, rest.size - size);
    return WEIR_OK;
}
