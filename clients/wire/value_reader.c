/* Reads fields of frames, records and requests one after the other. Called by the decoders of this folder and whoever
 * takes bodies apart; any thread. */
#include "clients/wire/value.h"

#include "clients/wire/token.h"
#include "clients/wire/utf8.h"

#include "actors/base/limits.h"

/* A reader's bytes are all there is: ending inside a value is as wrong as a bad byte. */
static void reader_fail(struct value_reader *reader)
{
    if (reader->error == WEIR_OK)
        reader->error = WEIR_BAD_REQUEST;
}

static bool reader_take(struct value_reader *reader, enum token_type type, struct token *out)
{
    struct view rest = reader->rest;
    if (reader->error != WEIR_OK)
        return false;
    if (token_next(&rest, out) != WEIR_OK || out->type != type) {
        reader_fail(reader);
        return false;
    }
    reader->rest = rest;
    return true;
}

void value_reader_init(struct value_reader *reader, struct view data, unsigned depth_max)
{
    *reader = (struct value_reader){.rest = data, .depth_max = depth_max, .error = WEIR_OK};
}

/* Most numbers are of one byte, or of those behind 0xcc to 0xcf, which say how many follow: these skip the token. */
static bool uint_take(struct value_reader *reader, uint64_t *out)
{
    struct view rest = reader->rest;
    if (reader->error != WEIR_OK || rest.size < 1 + sizeof *out)
        return false;
    uint8_t first = rest.data[0];
    bool is_one = first < 0x80;
    if (!is_one && (first < 0xcc || first > 0xcf))
        return false;
    size_t size = is_one ? 1 : 1 + ((size_t)1 << (first - 0xcc));
    *out = is_one ? first : token_load(rest.data + 1, (unsigned)size - 1);
    reader->rest = view_of(rest.data + size, rest.size - size);
    return true;
}

uint64_t value_read_uint(struct value_reader *reader)
{
    struct token token;
    uint64_t number;
    if (uint_take(reader, &number))
        return number;
    return reader_take(reader, TOKEN_UINT, &token) ? token.as.uint : 0;
}

bool value_read_bool(struct value_reader *reader)
{
    struct token token;
    return reader_take(reader, TOKEN_BOOL, &token) && token.as.boolean;
}

/* Most str are short, and then their head is one byte: these skip the token. */
static bool short_str_take(struct value_reader *reader, struct token *out)
{
    struct view rest = reader->rest;
    if (reader->error != WEIR_OK || rest.size == 0 || (rest.data[0] & 0xe0) != 0xa0)
        return false;
    size_t length = rest.data[0] & 0x1f;
    if (rest.size - 1 < length)
        return false;
    out->bytes = view_of(rest.data + 1, length);
    reader->rest = view_of(rest.data + 1 + length, rest.size - 1 - length);
    return true;
}

struct view value_read_str(struct value_reader *reader)
{
    struct token token;
    if (!short_str_take(reader, &token) && !reader_take(reader, TOKEN_STR, &token))
        return view_of(NULL, 0);
    if (!utf8_is_valid(token.bytes.data, token.bytes.size)) {
        reader_fail(reader);
        return view_of(NULL, 0);
    }
    return token.bytes;
}

uint32_t value_read_array(struct value_reader *reader)
{
    struct token token;
    struct view rest = reader->rest;
    if (reader->error == WEIR_OK && rest.size > 15 && (rest.data[0] & 0xf0) == 0x90) {
        reader->rest = view_of(rest.data + 1, rest.size - 1);
        return rest.data[0] & 0x0f;
    }
    if (!reader_take(reader, TOKEN_ARRAY, &token))
        return 0;
    if (token.as.count > reader->rest.size) {
        reader_fail(reader);
        return 0;
    }
    return token.as.count;
}

uint32_t value_read_map(struct value_reader *reader)
{
    struct token token;
    if (!reader_take(reader, TOKEN_MAP, &token))
        return 0;
    if (token.as.count > reader->rest.size / 2) {
        reader_fail(reader);
        return 0;
    }
    return token.as.count;
}

struct view value_read_any(struct value_reader *reader)
{
    size_t size;
    if (reader->error != WEIR_OK)
        return view_of(NULL, 0);
    if (value_scan(reader->rest, reader->depth_max, &size) != WEIR_OK) {
        reader_fail(reader);
        return view_of(NULL, 0);
    }
    struct view value = view_of(reader->rest.data, size);
    reader->rest = view_of(reader->rest.data + size, reader->rest.size - size);
    return value;
}

/* Size of the shortest head of a str. Keys are compared as encoded bytes, so each must have one encoding only. */
static size_t str_head_size(size_t length) { return length < 32 ? 1 : length < 256 ? 2 : length < 65536 ? 3 : 5; }

struct view value_read_key(struct value_reader *reader)
{
    if (value_peek_nil(reader)) {
        reader->rest = view_of(reader->rest.data + 1, reader->rest.size - 1);
        return view_of(NULL, 0);
    }
    struct view before = reader->rest;
    struct view text = value_read_str(reader);
    if (reader->error != WEIR_OK)
        return view_of(NULL, 0);
    size_t size = before.size - reader->rest.size;
    if (text.size > KEY_SIZE_MAX || size != str_head_size(text.size) + text.size) {
        reader_fail(reader);
        return view_of(NULL, 0);
    }
    return view_of(before.data, size);
}

bool value_peek_nil(const struct value_reader *reader)
{
    return reader->error == WEIR_OK && reader->rest.size > 0 && reader->rest.data[0] == 0xc0;
}

bool value_reader_at_end(const struct value_reader *reader) { return reader->rest.size == 0; }
