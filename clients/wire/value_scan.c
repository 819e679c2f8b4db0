/* Finds the end of a msgpack value and checks it on the way. Called for every record that comes in, so this is the
 * hottest loop of the folder: it keeps its place in locals and leaves by the shortest way for what records are made of
 * (short str, small integers). Any thread. */
#include "clients/wire/token.h"
#include "clients/wire/utf8.h"
#include "clients/wire/value.h"

#define LIKELY(condition) __builtin_expect(!!(condition), 1)

/* Steps over a value that starts with 0xc0 to 0xdf, or over the head of an array or map, which sets *children. */
static enum weir_error sized_step(const uint8_t **at, const uint8_t *end, uint64_t *children, bool *is_container)
{
    const struct token_shape *shape = &token_shapes[**at - 0xc0];
    size_t left = (size_t)(end - *at);
    size_t head = 1u + shape->length_size + shape->fixed;
    if (shape->class == CLASS_BAD)
        return WEIR_BAD_REQUEST;
    if (left < head)
        return WEIR_AGAIN;
    if (shape->class == CLASS_FIXED) {
        *at += head;
        return WEIR_OK;
    }
    uint64_t length = token_load(*at + 1, shape->length_size);
    *at += head;
    if (shape->class == CLASS_ARRAY || shape->class == CLASS_MAP) {
        *children = shape->class == CLASS_MAP ? 2 * length : length;
        *is_container = true;
        return WEIR_OK;
    }
    if (left - head < length)
        return WEIR_AGAIN;
    if (shape->class == CLASS_STR && !utf8_is_valid(*at, length))
        return WEIR_BAD_REQUEST;
    *at += length;
    return WEIR_OK;
}

enum weir_error value_scan(struct view data, unsigned depth_max, size_t *size_out)
{
    if (data.size == 0)
        return WEIR_AGAIN;
    const uint8_t *at = data.data, *end = data.data + data.size;
    uint64_t waiting[VALUE_DEPTH_LIMIT]; /* values still to come on each level around the present one */
    uint64_t left = 1;                   /* and on the present one */
    unsigned depth = 0;
    if (depth_max > VALUE_DEPTH_LIMIT)
        depth_max = VALUE_DEPTH_LIMIT;
    for (;;) {
        if (at == end)
            return WEIR_AGAIN;
        uint8_t first = *at;
        uint64_t children = 0;
        bool is_container = false;
        left--;
        if (first <= 0x7f || first >= 0xe0) {
            at++;
        } else if (LIKELY(first >= 0xa0 && first <= 0xbf)) {
            size_t length = first & 0x1f;
            at++;
            if ((size_t)(end - at) < length)
                return WEIR_AGAIN;
            if (!utf8_is_valid(at, length))
                return WEIR_BAD_REQUEST;
            at += length;
        } else if (first <= 0x9f) {
            children = first >= 0x90 ? first & 0x0fu : 2u * (first & 0x0fu);
            is_container = true;
            at++;
        } else {
            enum weir_error error = sized_step(&at, end, &children, &is_container);
            if (error != WEIR_OK)
                return error;
        }
        if (is_container) {
            if (depth == depth_max)
                return WEIR_BAD_REQUEST;
            /* Each child takes a byte or more: a claim beyond what is there needs no walk to be found out. */
            if (children > (size_t)(end - at))
                return WEIR_AGAIN;
            waiting[depth++] = left;
            left = children;
        }
        while (left == 0) {
            if (depth == 0) {
                *size_out = (size_t)(at - data.data);
                return WEIR_OK;
            }
            left = waiting[--depth];
        }
    }
}
