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

/* The size of a value that is a small integer, nil, a bool or a short bin, none of which has anything inside to be
 * checked: what counters and most devices send. 0: the long way decides, also where the bytes end too early. */
static inline size_t item_value_plain(struct view rest)
{
    if (rest.size == 0)
        return 0;
    uint8_t first = rest.data[0];
    size_t size = 1;
    if (first == 0xc4 && rest.size >= 2)
        size = 2u + rest.data[1];
    else if (first == 0xc5 && rest.size >= 3)
        size = 3u + ((size_t)rest.data[1] << 8 | rest.data[2]);
    else if (first > 0x7f && first < 0xe0 && first != 0xc0 && first != 0xc2 && first != 0xc3)
        return 0;
    return rest.size >= size ? size : 0;
}

/* Every record that comes in and every entry and update that a client gets passes here, with no reader in between. */
static inline enum weir_error item_take(struct view *items, unsigned depth_max, struct view *key, struct view *value)
{
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
    size_t size = item_value_plain(rest);
    if (size == 0 && value_scan(rest, depth_max, &size) != WEIR_OK)
        return WEIR_BAD_REQUEST;
    *value = view_of(rest.data, size);
    *items = view_of(rest.data + size, rest.size - size);
    return WEIR_OK;
}

enum weir_error items_next(struct view *items, unsigned depth_max, struct view *key, struct view *value)
{
    return item_take(items, depth_max, key, value);
}

bool items_are_whole(struct view items, unsigned depth_max, uint32_t count)
{
    struct view key, value;
    uint32_t found = 0;
    enum weir_error error = WEIR_OK;
    while ((error = item_take(&items, depth_max, &key, &value)) == WEIR_OK)
        found++;
    return error == WEIR_AGAIN && found == count;
}
