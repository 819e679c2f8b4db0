/* msgpack to JSON text, for people and pipes. Called by the commands; any thread.
 *
 * jansson reads JSON for us, but it does not write it: it would print 0.1 as 0.10000000000000001, lose the second of
 * two equal keys and fail on integers beyond 2^63, and none of that may happen to what a subscriber is shown. */
#include "clients/wire/json.h"

#include "clients/wire/token.h"
#include "clients/wire/value.h"

#include <math.h>
#include <msgpack/sbuffer.h>
#include <stdio.h>
#include <stdlib.h>

/* Each map used as the key of a map doubles the backslashes of the one inside, so this bounds the text at 16 times. */
#define KEY_NESTING_MAX 4

struct text {
    msgpack_sbuffer buffer;
    enum weir_error error; /* the first one sticks */
    unsigned key_nesting;
};

static void value_print(struct text *text, struct view *rest);

static void text_fail(struct text *text, enum weir_error error)
{
    if (text->error == WEIR_OK)
        text->error = error;
}

static void text_put(struct text *text, const char *bytes, size_t size)
{
    if (text->error == WEIR_OK && size > 0 && msgpack_sbuffer_write(&text->buffer, bytes, size) != 0)
        text_fail(text, WEIR_NO_MEMORY);
}

static void text_put_word(struct text *text, const char *word) { text_put(text, word, strlen(word)); }

static void put_escape(struct text *text, uint8_t byte)
{
    static const char letters[] = {
        ['"'] = '"', ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    char escape[8];
    char letter = byte < sizeof letters ? letters[byte] : 0;
    if (letter != 0)
        (void)snprintf(escape, sizeof escape, "\\%c", letter);
    else
        (void)snprintf(escape, sizeof escape, "\\u%04x", byte);
    text_put_word(text, escape);
}

/* bytes are valid UTF-8, which JSON takes as it is. */
static void string_print(struct text *text, struct view bytes)
{
    size_t plain = 0; /* start of what needs no escape */
    text_put_word(text, "\"");
    for (size_t at = 0; at < bytes.size; at++) {
        uint8_t byte = bytes.data[at];
        if (byte >= 0x20 && byte != '"' && byte != '\\')
            continue;
        text_put(text, (const char *)bytes.data + plain, at - plain);
        put_escape(text, byte);
        plain = at + 1;
    }
    text_put(text, (const char *)bytes.data + plain, bytes.size - plain);
    text_put_word(text, "\"");
}

static void base64_print(struct text *text, struct view bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    text_put_word(text, "\"");
    for (size_t at = 0; at < bytes.size; at += 3) {
        size_t left = bytes.size - at;
        uint32_t three = (uint32_t)bytes.data[at] << 16;
        three |= left > 1 ? (uint32_t)bytes.data[at + 1] << 8 : 0;
        three |= left > 2 ? bytes.data[at + 2] : 0;
        char four[4] = {digits[three >> 18], digits[three >> 12 & 63], left > 1 ? digits[three >> 6 & 63] : '=',
                        left > 2 ? digits[three & 63] : '='};
        text_put(text, four, sizeof four);
    }
    text_put_word(text, "\"");
}

/* The shortest digits that read back as the same number, and never as an integer. */
static void real_print(struct text *text, double real)
{
    char digits[40];
    if (!isfinite(real)) {
        text_put_word(text, "null");
        return;
    }
    for (int precision = 15; precision <= 17; precision++) {
        (void)snprintf(digits, sizeof digits, "%.*g", precision, real);
        if (strtod(digits, NULL) == real)
            break;
    }
    /* A program that has set a locale may get a comma. */
    char *comma = strchr(digits, ',');
    if (comma != NULL)
        *comma = '.';
    text_put_word(text, digits);
    if (strpbrk(digits, ".e") == NULL)
        text_put_word(text, ".0");
}

/* jansson, and many another reader, refuses integers beyond 2^63 - 1. */
static void uint_print(struct text *text, uint64_t number)
{
    bool is_big = number > INT64_MAX;
    char digits[48];
    (void)snprintf(digits, sizeof digits, "%s%llu%s", is_big ? "{\"$uint\":\"" : "", (unsigned long long)number,
                   is_big ? "\"}" : "");
    text_put_word(text, digits);
}

static void ext_print(struct text *text, const struct token *token)
{
    char head[32];
    (void)snprintf(head, sizeof head, "{\"$ext\":[%d,", token->as.ext);
    text_put_word(text, head);
    base64_print(text, token->bytes);
    text_put_word(text, "]}");
}

/* JSON's keys are strings: another one's JSON text becomes the string. */
static void key_print(struct text *text, struct view *rest)
{
    struct view after = *rest;
    struct token token;
    if (token_next(&after, &token) == WEIR_OK && token.type == TOKEN_STR) {
        *rest = after;
        string_print(text, token.bytes);
        return;
    }
    if (text->key_nesting == KEY_NESTING_MAX) {
        text_fail(text, WEIR_TOO_BIG);
        return;
    }
    struct text inner = {.error = text->error, .key_nesting = text->key_nesting + 1};
    msgpack_sbuffer_init(&inner.buffer);
    value_print(&inner, rest);
    if (inner.error != WEIR_OK)
        text_fail(text, inner.error);
    string_print(text, view_of(inner.buffer.data, inner.buffer.size));
    msgpack_sbuffer_destroy(&inner.buffer);
}

static void array_print(struct text *text, struct view *rest, uint32_t count)
{
    text_put_word(text, "[");
    for (uint32_t index = 0; index < count && text->error == WEIR_OK; index++) {
        if (index > 0)
            text_put_word(text, ",");
        value_print(text, rest);
    }
    text_put_word(text, "]");
}

static void map_print(struct text *text, struct view *rest, uint32_t pairs)
{
    text_put_word(text, "{");
    for (uint32_t index = 0; index < pairs && text->error == WEIR_OK; index++) {
        if (index > 0)
            text_put_word(text, ",");
        key_print(text, rest);
        text_put_word(text, ":");
        value_print(text, rest);
    }
    text_put_word(text, "}");
}

static void negative_print(struct text *text, int64_t number)
{
    char digits[32];
    (void)snprintf(digits, sizeof digits, "%lld", (long long)number);
    text_put_word(text, digits);
}

/* Goes as deep as the value, which has been scanned and is VALUE_DEPTH_LIMIT deep at most. */
static void value_print(struct text *text, struct view *rest)
{
    struct token token;
    if (token_next(rest, &token) != WEIR_OK) {
        text_fail(text, WEIR_BAD_REQUEST);
        return;
    }
    switch (token.type) {
    case TOKEN_NIL: text_put_word(text, "null"); break;
    case TOKEN_BOOL: text_put_word(text, token.as.boolean ? "true" : "false"); break;
    case TOKEN_UINT: uint_print(text, token.as.uint); break;
    case TOKEN_NEGATIVE: negative_print(text, token.as.negative); break;
    case TOKEN_DOUBLE: real_print(text, token.as.real); break;
    case TOKEN_STR: string_print(text, token.bytes); break;
    case TOKEN_BIN:
        text_put_word(text, "{\"$bin\":");
        base64_print(text, token.bytes);
        text_put_word(text, "}");
        break;
    case TOKEN_EXT: ext_print(text, &token); break;
    case TOKEN_ARRAY: array_print(text, rest, token.as.count); break;
    case TOKEN_MAP: map_print(text, rest, token.as.count); break;
    }
}

enum weir_error json_from_msgpack(struct view value, unsigned depth_max, char **text_out, size_t *size_out)
{
    size_t size;
    if (value_scan(value, depth_max, &size) != WEIR_OK || size != value.size)
        return WEIR_BAD_REQUEST;
    struct text text = {.error = WEIR_OK};
    msgpack_sbuffer_init(&text.buffer);
    value_print(&text, &value);
    text_put(&text, "", 1);
    if (text.error != WEIR_OK) {
        msgpack_sbuffer_destroy(&text.buffer);
        return text.error;
    }
    *size_out = text.buffer.size - 1;
    *text_out = msgpack_sbuffer_release(&text.buffer);
    return WEIR_OK;
}
