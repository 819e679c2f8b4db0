/* JSON text to msgpack: jansson reads, msgpack-c's packer writes. Called by the commands; any thread. */
#include "clients/wire/json.h"

#include "clients/wire/value.h"

#include <errno.h>
#include <jansson.h>
#include <msgpack/pack.h>
#include <msgpack/sbuffer.h>
#include <stdio.h>
#include <stdlib.h>

#define REASON_SIZE_MAX 256

/* jansson's sentences name a line and a column: one text a thread, written on refusal only. */
static _Thread_local char reason_text[REASON_SIZE_MAX];

struct output {
    msgpack_packer packer;
    enum weir_error error; /* the first one sticks */
    unsigned depth_max;
};

static void node_pack(struct output *output, json_t *node, unsigned depth);

static void check(struct output *output, int packed)
{
    if (packed != 0 && output->error == WEIR_OK)
        output->error = WEIR_NO_MEMORY;
}

static int base64_digit(char letter)
{
    if (letter >= 'A' && letter <= 'Z')
        return letter - 'A';
    if (letter >= 'a' && letter <= 'z')
        return letter - 'a' + 26;
    if (letter >= '0' && letter <= '9')
        return letter - '0' + 52;
    return letter == '+' ? 62 : letter == '/' ? 63 : -1;
}

/* Three bytes of four letters, fewer of the last four: their count, or -1. Bits beyond the last byte must be 0, so that
 * there is one text for each bytes. */
static int base64_quad(const char *letters, bool is_last, uint8_t out[3])
{
    int padding = !is_last || letters[3] != '=' ? 0 : letters[2] != '=' ? 1 : 2;
    uint32_t bits = 0;
    for (int at = 0; at < 4; at++) {
        int digit = at < 4 - padding ? base64_digit(letters[at]) : 0;
        if (digit < 0)
            return -1;
        bits = bits << 6 | (uint32_t)digit;
    }
    if ((padding == 1 && (bits & 0xff) != 0) || (padding == 2 && (bits & 0xffff) != 0))
        return -1;
    out[0] = (uint8_t)(bits >> 16);
    out[1] = (uint8_t)(bits >> 8);
    out[2] = (uint8_t)bits;
    return 3 - padding;
}

/* The bytes of a base64 string (the caller frees them); NULL when it is none or memory is out, which is noted. */
static uint8_t *base64_read(struct output *output, const json_t *string, size_t *size_out)
{
    const char *letters = json_string_value(string);
    size_t length = json_string_length(string), size = 0;
    if (length % 4 != 0)
        return NULL;
    uint8_t *bytes = malloc(length / 4 * 3 + 1);
    check(output, bytes == NULL ? -1 : 0);
    for (size_t at = 0; bytes != NULL && at < length; at += 4) {
        int found = base64_quad(letters + at, at + 4 == length, bytes + size);
        if (found < 0) {
            free(bytes);
            return NULL;
        }
        size += (size_t)found;
    }
    *size_out = size;
    return bytes;
}

static bool bin_pack(struct output *output, const json_t *string)
{
    size_t size;
    uint8_t *bytes = json_is_string(string) ? base64_read(output, string, &size) : NULL;
    if (bytes == NULL)
        return false;
    check(output, msgpack_pack_bin(&output->packer, size));
    check(output, msgpack_pack_bin_body(&output->packer, bytes, size));
    free(bytes);
    return true;
}

static bool ext_pack(struct output *output, const json_t *pair)
{
    const json_t *type = json_array_get(pair, 0), *string = json_array_get(pair, 1);
    size_t size;
    if (json_array_size(pair) != 2 || !json_is_integer(type) || !json_is_string(string) ||
        json_integer_value(type) < INT8_MIN || json_integer_value(type) > INT8_MAX)
        return false;
    uint8_t *bytes = base64_read(output, string, &size);
    if (bytes == NULL)
        return false;
    check(output, msgpack_pack_ext(&output->packer, size, (int8_t)json_integer_value(type)));
    check(output, msgpack_pack_ext_body(&output->packer, bytes, size));
    free(bytes);
    return true;
}

static bool uint_pack(struct output *output, const json_t *string)
{
    const char *digits = json_string_value(string);
    if (digits == NULL || digits[0] < '0' || digits[0] > '9' || json_string_length(string) != strlen(digits))
        return false;
    char *end;
    errno = 0;
    unsigned long long number = strtoull(digits, &end, 10);
    if (errno != 0 || *end != '\0')
        return false;
    check(output, msgpack_pack_uint64(&output->packer, number));
    return true;
}

/* {"$bin": ...}, {"$ext": ...} and {"$uint": ...} alone in their object and well-formed stand for what JSON lacks;
 * anything else is an object like any other. */
static bool special_pack(struct output *output, json_t *object)
{
    if (json_object_size(object) != 1)
        return false;
    const json_t *bin = json_object_get(object, "$bin"), *ext = json_object_get(object, "$ext");
    const json_t *number = json_object_get(object, "$uint");
    return (bin != NULL && bin_pack(output, bin)) || (ext != NULL && ext_pack(output, ext)) ||
           (number != NULL && uint_pack(output, number));
}

static void string_pack(struct output *output, const char *text, size_t size)
{
    check(output, msgpack_pack_str(&output->packer, size));
    check(output, msgpack_pack_str_body(&output->packer, text, size));
}

/* False, and the refusal noted, when an array or map may not be put inside what is there. */
static bool can_nest(struct output *output, unsigned depth)
{
    if (depth >= output->depth_max && output->error == WEIR_OK)
        output->error = WEIR_BAD_REQUEST;
    return output->error == WEIR_OK;
}

static void object_pack(struct output *output, json_t *object, unsigned depth)
{
    if (special_pack(output, object) || !can_nest(output, depth))
        return;
    check(output, msgpack_pack_map(&output->packer, json_object_size(object)));
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        string_pack(output, json_object_iter_key(at), json_object_iter_key_len(at));
        node_pack(output, json_object_iter_value(at), depth + 1);
    }
}

static void array_pack(struct output *output, const json_t *node, unsigned depth)
{
    if (!can_nest(output, depth))
        return;
    size_t count = json_array_size(node);
    check(output, msgpack_pack_array(&output->packer, count));
    for (size_t index = 0; index < count; index++)
        node_pack(output, json_array_get(node, index), depth + 1);
}

static void integer_pack(struct output *output, json_int_t number)
{
    if (number >= 0)
        check(output, msgpack_pack_uint64(&output->packer, (uint64_t)number));
    else
        check(output, msgpack_pack_int64(&output->packer, number));
}

/* Goes depth_max deep at most: can_nest stops it. */
static void node_pack(struct output *output, json_t *node, unsigned depth)
{
    if (output->error != WEIR_OK)
        return;
    switch (json_typeof(node)) {
    case JSON_OBJECT: object_pack(output, node, depth); break;
    case JSON_ARRAY: array_pack(output, node, depth); break;
    case JSON_STRING: string_pack(output, json_string_value(node), json_string_length(node)); break;
    case JSON_INTEGER: integer_pack(output, json_integer_value(node)); break;
    case JSON_REAL: check(output, msgpack_pack_double(&output->packer, json_real_value(node))); break;
    case JSON_TRUE: check(output, msgpack_pack_true(&output->packer)); break;
    case JSON_FALSE: check(output, msgpack_pack_false(&output->packer)); break;
    case JSON_NULL: check(output, msgpack_pack_nil(&output->packer)); break;
    }
}

static enum weir_error refuse(const char **reason, const char *sentence)
{
    if (reason != NULL)
        *reason = sentence;
    return WEIR_BAD_REQUEST;
}

enum weir_error json_to_msgpack(struct view text, unsigned depth_max, uint8_t **value_out, size_t *size_out,
                                const char **reason)
{
    json_error_t problem;
    const char *bytes = text.size > 0 ? (const char *)text.data : "";
    json_t *root = json_loadb(bytes, text.size, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &problem);
    if (root == NULL) {
        if (json_error_code(&problem) == json_error_out_of_memory)
            return WEIR_NO_MEMORY;
        (void)snprintf(reason_text, sizeof reason_text, "line %d, column %d: %s", problem.line, problem.column,
                       problem.text);
        return refuse(reason, reason_text);
    }
    msgpack_sbuffer buffer;
    msgpack_sbuffer_init(&buffer);
    struct output output = {.depth_max = depth_max < VALUE_DEPTH_LIMIT ? depth_max : VALUE_DEPTH_LIMIT};
    msgpack_packer_init(&output.packer, &buffer, msgpack_sbuffer_write);
    node_pack(&output, root, 0);
    json_decref(root);
    if (output.error != WEIR_OK) {
        msgpack_sbuffer_destroy(&buffer);
        if (output.error != WEIR_BAD_REQUEST)
            return output.error;
        (void)snprintf(reason_text, sizeof reason_text, "arrays and objects are nested more than %u deep",
                       output.depth_max);
        return refuse(reason, reason_text);
    }
    *size_out = buffer.size;
    *value_out = (uint8_t *)msgpack_sbuffer_release(&buffer);
    return WEIR_OK;
}
