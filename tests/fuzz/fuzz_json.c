/* JSON: text that is taken becomes a value that prints and is taken again as the same value; any value prints as JSON
 * that jansson reads. The first byte of the input chooses. */
#include "clients/wire/json.h"

#include "clients/wire/value.h"
#include "tests/fuzz/fuzz.h"

#include <jansson.h>

static void check_text(struct view text)
{
    uint8_t *first, *second;
    char *printed;
    size_t first_size, second_size, printed_size, scanned;
    const char *reason = NULL;
    enum weir_error error = json_to_msgpack(text, FUZZ_DEPTH, &first, &first_size, &reason);
    ENSURE(error == WEIR_OK || (error == WEIR_BAD_REQUEST && reason != NULL));
    if (error != WEIR_OK)
        return;
    struct view value = view_of(first, first_size);
    ENSURE(value_scan(value, FUZZ_DEPTH, &scanned) == WEIR_OK && scanned == value.size);
    ENSURE(json_from_msgpack(value, FUZZ_DEPTH, &printed, &printed_size) == WEIR_OK);
    ENSURE(json_to_msgpack(view_of(printed, printed_size), FUZZ_DEPTH + 1, &second, &second_size, NULL) == WEIR_OK);
    ENSURE(view_is_same(value, view_of(second, second_size)));
    free(first);
    free(second);
    free(printed);
}

static void check_value(struct view value)
{
    char *printed;
    size_t printed_size;
    enum weir_error error = json_from_msgpack(value, FUZZ_DEPTH, &printed, &printed_size);
    if (error != WEIR_OK)
        return;
    json_error_t problem;
    ENSURE(printed[printed_size] == '\0');
    json_t *root = json_loadb(printed, printed_size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &problem);
    /* jansson takes no NUL in keys, though JSON does. */
    ENSURE(root != NULL || json_error_code(&problem) == json_error_null_byte_in_key);
    json_decref(root);
    free(printed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] % 2 == 0)
        check_text(view_of(data + 1, size - 1));
    else
        check_value(view_of(data + 1, size - 1));
    return 0;
}
