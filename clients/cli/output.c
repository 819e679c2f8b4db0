/* Values and results for people and pipes; jansson writes the JSON. Main thread. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/cli.h"
#include "clients/wire/json.h"
#include "clients/wire/value.h"

enum { DEPTH_MAX = VALUE_DEPTH_LIMIT, COLUMNS_MAX = 24, CELL_MAX = 80 };

void cli_print_string(FILE *out, const void *text, size_t size)
{
    json_t *string = json_stringn(text, size);
    if (string == NULL) {
        fputs("null", out);
        return;
    }
    json_dumpf(string, out, JSON_ENCODE_ANY);
    json_decref(string);
}

void cli_print_value(FILE *out, struct view value, bool json)
{
    struct value_reader reader;
    char *text = NULL;
    size_t size = 0;
    value_reader_init(&reader, value, DEPTH_MAX);
    struct view string = value_read_str(&reader);
    if (!json && reader.error == WEIR_OK) {
        fwrite(string.data, 1, string.size, out);
        return;
    }
    if (json_from_msgpack(value, DEPTH_MAX, &text, &size) != WEIR_OK) {
        fputs(json ? "null" : "(unprintable)", out);
        return;
    }
    fwrite(text, 1, size, out);
    free(text);
}

/* ------------------------------------------------------------------------------------------------ tables */

static char *cell_text(const json_t *value)
{
    if (value == NULL || json_is_null(value))
        return strdup("-");
    if (json_is_string(value))
        return strdup(json_string_length(value) == 0 ? "-" : json_string_value(value));
    return json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
}

static int cell_width(const char *text)
{
    size_t width = 0; /* code points */
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width > CELL_MAX ? CELL_MAX : (int)width;
}

static size_t columns_of(json_t *row, const char *columns[COLUMNS_MAX])
{
    size_t count = 0;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(row, key, value)
    {
        if (count < COLUMNS_MAX)
            columns[count++] = key;
    }
    return count;
}

static void print_row(FILE *out, json_t *row, const char *const columns[], const int widths[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        json_t *value = row == NULL ? NULL : json_object_get(row, columns[i]);
        char *text = row == NULL ? strdup(columns[i]) : cell_text(value);
        if (text == NULL)
            continue;
        int pad = widths[i] - cell_width(text);
        bool is_right = json_is_number(value);
        bool is_last = i + 1 == count;
        fprintf(out, "%*s%s%*s", is_right && pad > 0 ? pad : 0, "", text, is_right || is_last || pad < 0 ? 0 : pad, "");
        fputs(is_last ? "\n" : "  ", out);
        free(text);
    }
}

static void print_table(FILE *out, const char *name, json_t *rows)
{
    const char *columns[COLUMNS_MAX];
    int widths[COLUMNS_MAX];
    json_t *row = NULL;
    size_t index = 0;
    if (json_array_size(rows) == 0) {
        fprintf(out, "no %s\n", name);
        return;
    }
    size_t count = columns_of(json_array_get(rows, 0), columns);
    for (size_t i = 0; i < count; i++)
        widths[i] = cell_width(columns[i]);
    json_array_foreach(rows, index, row)
    {
        for (size_t i = 0; i < count; i++) {
            char *text = cell_text(json_object_get(row, columns[i]));
            if (text != NULL && cell_width(text) > widths[i])
                widths[i] = cell_width(text);
            free(text);
        }
    }
    print_row(out, NULL, columns, widths, count);
    json_array_foreach(rows, index, row) print_row(out, row, columns, widths, count);
}

static bool is_table(const json_t *value)
{
    return json_is_array(value) && (json_array_size(value) == 0 || json_is_object(json_array_get(value, 0)));
}

static void print_members(FILE *out, json_t *object, int indent)
{
    const char *key = NULL;
    json_t *value = NULL;
    bool is_first = true;
    json_object_foreach(object, key, value)
    {
        if (is_table(value)) {
            if (!is_first || json_object_size(object) > 1)
                fprintf(out, "%s%s\n", is_first ? "" : "\n", key);
            print_table(out, key, value);
        } else if (json_is_object(value)) {
            fprintf(out, "%*s%s:\n", indent, "", key);
            print_members(out, value, indent + 2);
        } else {
            char *text = cell_text(value);
            fprintf(out, "%*s%s: %s\n", indent, "", key, text != NULL ? text : "");
            free(text);
        }
        is_first = false;
    }
}

void cli_print_result(const struct cli *cli, FILE *out, struct view result)
{
    char *text = NULL;
    size_t size = 0;
    if (json_from_msgpack(result, DEPTH_MAX, &text, &size) != WEIR_OK)
        return;
    json_t *json = cli->json ? NULL : json_loadb(text, size, JSON_ALLOW_NUL, NULL);
    if (json == NULL)
        fprintf(out, "%.*s\n", (int)size, text);
    else
        print_members(out, json, 0);
    json_decref(json);
    free(text);
}
