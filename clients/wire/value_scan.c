/* Finds the end of a msgpack value and checks it on the way. Called for every record that comes in, so this is the
 * hottest loop of the folder: it keeps its place in locals and leaves by the shortest way for what records are made of
 * (short str, small integers). Any thread. */
#include "clients/wire/token.h"
#include "clients/wire/utf8.h"
#include "clients/wire/value.h"

#define LIKELY(condition) __builtin_expect(!!(condition), 1)

/* Steps over the str at `at`, whose head is behind us. */
static inline enum weir_error str_step(const uint8_t **at, const uint8_t *end, uint64_t length)
{
    if ((uint64_t)(end - *at) < length)
        return WEIR_AGAIN;
    if (!utf8_is_valid(*at, length))
        return WEIR_BAD_REQUEST;
    *at += length;
    return WEIR_OK;
}

/* Steps over a value that starts with 0xc0 to 0xdf, or over the head of an array or map, which sets *children. */
static enum weir_error sized_step(const uint8_t **at, const uint8_t *end, uint64_t *children, bool *is_container)
{
    const struct token_shape *shape = &token_shapes[**at - 0xc0];
    size_t left = (size_t)(end - *at);
    size_t head = 1u + shape->length_size + shape->fixed;
    if (left < head)
        return WEIR_AGAIN;
    if (shape->length_size == 0) {
        *at += head;
        return shape->class == CLASS_BAD ? WEIR_BAD_REQUEST : WEIR_OK;
    }
    uint64_t length = token_load(*at + 1, shape->length_size);
    *at += head;
    if (shape->class == CLASS_STR)
        return str_step(at, end, length);
    if (shape->class != CLASS_BLOB) {
        *children = shape->class == CLASS_MAP ? 2 * length : length;
        *is_container = true;
        return WEIR_OK;
    }
    if (left - head < length)
        return WEIR_AGAIN;
    *at += length;
    return WEIR_OK;
}

/* Steps over a scalar, or the head of an array or map. */
static inline enum weir_error step(const uint8_t **at, const uint8_t *end, uint64_t *children, bool *is_container)
{
    uint8_t first = **at;
    if (first <= 0x7f || first >= 0xe0) {
        *at += 1;
        return WEIR_OK;
    }
    if (LIKELY(first >= 0xa0 && first <= 0xbf)) {
        *at += 1;
        return str_step(at, end, first & 0x1f);
    }
    if (first >= 0xc0)
        return sized_step(at, end, children, is_container);
    *children = first >= 0x90 ? first & 0x0fu : 2u * (first & 0x0fu);
    *is_container = true;
    *at += 1;
    return WEIR_OK;
}

/* Walks through the children of an array or map whose head is behind us. Each takes a byte or more, so a claim beyond
 * what is there is found out without a walk. */
static enum weir_error children_scan(const uint8_t **at, const uint8_t *end, uint64_t left, unsigned depth_max)
{
    uint64_t waiting[VALUE_DEPTH_LIMIT]; /* values still to come on each level around the present one */
    unsigned depth = 1;
    if (depth_max == 0)
        return WEIR_BAD_REQUEST;
    for (;;) {
        while (left == 0) {
            if (--depth == 0)
                return WEIR_OK;
            left = waiting[depth];
        }
        if (left > (uint64_t)(end - *at))
            return WEIR_AGAIN;
        uint64_t children = 0;
        bool is_container = false;
        enum weir_error error = step(at, end, &children, &is_container);
        if (error != WEIR_OK)
            return error;
        left--;
        if (is_container) {
            if (depth == depth_max)
                return WEIR_BAD_REQUEST;
            waiting[depth++] = left;
            left = children;
        }
    }
}

enum weir_error value_scan(struct view data, unsigned depth_max, size_t *size_out)
{
    if (data.size == 0)
        return WEIR_AGAIN;
    const uint8_t *at = data.data, *end = data.data + data.size;
    uint64_t children = 0;
    bool is_container = false;
    if (depth_max > VALUE_DEPTH_LIMIT)
        depth_max = VALUE_DEPTH_LIMIT;
    enum weir_error error = step(&at, end, &children, &is_container);
    if (error == WEIR_OK && is_container)
        error = children_scan(&at, end, children, depth_max);
    if (error == WEIR_OK)
        *size_out = (size_t)(at - data.data);
    return error;
}
