/* Takes msgpack apart one token at a time. Called by the readers, merge and JSON of this folder; any thread. */
#include "clients/wire/token.h"

const struct token_shape token_shapes[32] = {
    {CLASS_FIXED, 0, 0},  /* c0 nil */
    {CLASS_BAD, 0, 0},    /* c1 never used */
    {CLASS_FIXED, 0, 0},  /* c2 false */
    {CLASS_FIXED, 0, 0},  /* c3 true */
    {CLASS_BLOB, 1, 0},   /* c4 bin 8 */
    {CLASS_BLOB, 2, 0},   /* c5 bin 16 */
    {CLASS_BLOB, 4, 0},   /* c6 bin 32 */
    {CLASS_BLOB, 1, 1},   /* c7 ext 8 */
    {CLASS_BLOB, 2, 1},   /* c8 ext 16 */
    {CLASS_BLOB, 4, 1},   /* c9 ext 32 */
    {CLASS_FIXED, 0, 4},  /* ca float 32 */
    {CLASS_FIXED, 0, 8},  /* cb float 64 */
    {CLASS_FIXED, 0, 1},  /* cc uint 8 */
    {CLASS_FIXED, 0, 2},  /* cd uint 16 */
    {CLASS_FIXED, 0, 4},  /* ce uint 32 */
    {CLASS_FIXED, 0, 8},  /* cf uint 64 */
    {CLASS_FIXED, 0, 1},  /* d0 int 8 */
    {CLASS_FIXED, 0, 2},  /* d1 int 16 */
    {CLASS_FIXED, 0, 4},  /* d2 int 32 */
    {CLASS_FIXED, 0, 8},  /* d3 int 64 */
    {CLASS_FIXED, 0, 2},  /* d4 fixext 1 */
    {CLASS_FIXED, 0, 3},  /* d5 fixext 2 */
    {CLASS_FIXED, 0, 5},  /* d6 fixext 4 */
    {CLASS_FIXED, 0, 9},  /* d7 fixext 8 */
    {CLASS_FIXED, 0, 17}, /* d8 fixext 16 */
    {CLASS_STR, 1, 0},    /* d9 str 8 */
    {CLASS_STR, 2, 0},    /* da str 16 */
    {CLASS_STR, 4, 0},    /* db str 32 */
    {CLASS_ARRAY, 2, 0},  /* dc array 16 */
    {CLASS_ARRAY, 4, 0},  /* dd array 32 */
    {CLASS_MAP, 2, 0},    /* de map 16 */
    {CLASS_MAP, 4, 0},    /* df map 32 */
};

static void integer_set(struct token *out, uint64_t bits, bool is_negative)
{
    out->type = is_negative ? TOKEN_NEGATIVE : TOKEN_UINT;
    if (is_negative)
        out->as.negative = (int64_t)bits;
    else
        out->as.uint = bits;
}

static void signed_set(struct token *out, const uint8_t *at, unsigned size)
{
    uint64_t bits = token_load(at, size);
    unsigned shift = 64 - 8 * size;
    uint64_t sign = UINT64_C(1) << 63 >> shift;
    bool is_negative = (bits & sign) != 0;
    if (is_negative && shift > 0)
        bits |= UINT64_MAX << (8 * size);
    integer_set(out, bits, is_negative);
}

static double real_load(const uint8_t *at, unsigned size)
{
    uint64_t bits = token_load(at, size);
    if (size == 4) {
        uint32_t short_bits = (uint32_t)bits;
        float short_real;
        memcpy(&short_real, &short_bits, sizeof short_real);
        return (double)short_real;
    }
    double real;
    memcpy(&real, &bits, sizeof real);
    return real;
}

/* A value whose size its first byte gives; at points behind that byte. */
static void fixed_set(struct token *out, uint8_t first, const uint8_t *at, unsigned size)
{
    if (first == 0xc0) {
        out->type = TOKEN_NIL;
    } else if (first <= 0xc3) {
        out->type = TOKEN_BOOL;
        out->as.boolean = first == 0xc3;
    } else if (first <= 0xcb) {
        out->type = TOKEN_DOUBLE;
        out->as.real = real_load(at, size);
    } else if (first <= 0xcf) {
        integer_set(out, token_load(at, size), false);
    } else if (first <= 0xd3) {
        signed_set(out, at, size);
    } else {
        out->type = TOKEN_EXT;
        out->as.ext = (int8_t)at[0];
        out->bytes = view_of(at + 1, size - 1);
    }
}

/* A value with a length in front. *used is the size of all but the elements of an array or map. */
static enum weir_error sized_set(struct token *out, struct view rest, const struct token_shape *shape, size_t *used)
{
    size_t head = 1u + shape->length_size + shape->fixed;
    if (rest.size < head)
        return WEIR_AGAIN;
    uint64_t length = token_load(rest.data + 1, shape->length_size);
    *used = head;
    if (shape->class == CLASS_ARRAY || shape->class == CLASS_MAP) {
        out->type = shape->class == CLASS_ARRAY ? TOKEN_ARRAY : TOKEN_MAP;
        out->as.count = (uint32_t)length;
        return WEIR_OK;
    }
    if (rest.size - head < length)
        return WEIR_AGAIN;
    out->type = shape->class == CLASS_STR ? TOKEN_STR : shape->fixed > 0 ? TOKEN_EXT : TOKEN_BIN;
    if (out->type == TOKEN_EXT)
        out->as.ext = (int8_t)rest.data[1 + shape->length_size];
    out->bytes = view_of(rest.data + head, length);
    *used = head + length;
    return WEIR_OK;
}

/* First bytes outside 0xc0 to 0xdf: the value or its length is in the byte itself. */
static enum weir_error small_set(struct token *out, struct view rest, size_t *used)
{
    uint8_t first = rest.data[0];
    *used = 1;
    if (first <= 0x7f) {
        integer_set(out, first, false);
    } else if (first >= 0xe0) {
        integer_set(out, UINT64_MAX << 8 | first, true);
    } else if (first >= 0xa0) {
        size_t length = first & 0x1f;
        if (rest.size - 1 < length)
            return WEIR_AGAIN;
        out->type = TOKEN_STR;
        out->bytes = view_of(rest.data + 1, length);
        *used = 1 + length;
    } else {
        out->type = first >= 0x90 ? TOKEN_ARRAY : TOKEN_MAP;
        out->as.count = first & 0x0f;
    }
    return WEIR_OK;
}

enum weir_error token_next(struct view *rest, struct token *out)
{
    if (rest->size == 0)
        return WEIR_AGAIN;
    uint8_t first = rest->data[0];
    size_t used;
    enum weir_error error = WEIR_OK;
    if (first < 0xc0 || first > 0xdf) {
        error = small_set(out, *rest, &used);
    } else {
        const struct token_shape *shape = &token_shapes[first - 0xc0];
        if (shape->class == CLASS_BAD)
            return WEIR_BAD_REQUEST;
        if (shape->class == CLASS_FIXED) {
            used = 1u + shape->fixed;
            if (rest->size < used)
                return WEIR_AGAIN;
            fixed_set(out, first, rest->data + 1, shape->fixed);
        } else {
            error = sized_set(out, *rest, shape, &used);
        }
    }
    if (error != WEIR_OK)
        return error;
    *rest = view_of(rest->data + used, rest->size - used);
    return WEIR_OK;
}
