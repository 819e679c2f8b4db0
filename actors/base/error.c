/* Names and sentences for enum weir_error. Called by everybody who reports an outcome to a peer or a
 * person; any thread, constant data. */
#include "weir_error.h"

#include <string.h>

struct error_row {
    const char *code;
    const char *text;
};

static const struct error_row error_rows[WEIR_ERROR_COUNT] = {
#define ERROR_ROW(name, wire_code, sentence) [WEIR_##name] = {wire_code, sentence},
    WEIR_ERROR_TABLE(ERROR_ROW)
#undef ERROR_ROW
};

/* A value outside the enum is a bug elsewhere; reporting it as one beats reading behind the table. */
static const struct error_row *error_row(enum weir_error error)
{
    unsigned row = (unsigned)error;
    return &error_rows[row < WEIR_ERROR_COUNT ? row : WEIR_INTERNAL];
}

const char *weir_error_code(enum weir_error error) { return error_row(error)->code; }

const char *weir_error_text(enum weir_error error) { return error_row(error)->text; }

enum weir_error weir_error_from_code(const char *code, unsigned long size)
{
    for (unsigned row = 0; row < WEIR_ERROR_COUNT; row++) {
        if (strlen(error_rows[row].code) == size && memcmp(error_rows[row].code, code, size) == 0)
            return (enum weir_error)row;
    }
    return WEIR_INTERNAL;
}
