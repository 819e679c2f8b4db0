/* A plugin's own block of the configuration, any YAML, as one msgpack value. libcyaml passes it over; libyaml's tree of
 * the document is gone through here. Called by config_plugins.c, on the main thread. */
#include "broker/main/config_plugins.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "clients/wire/utf8.h"
#include "clients/wire/value.h"

enum { DEPTH_MAX = 16 };

struct conversion {
    yaml_document_t *document;
    struct value_writer writer;
    size_t line;
    const char *why;
};

static yaml_node_t *member_find(yaml_document_t *document, const yaml_node_t *node, const char *key)
{
    if (node == NULL || node->type != YAML_MAPPING_NODE)
        return NULL;
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
        yaml_node_t *name = yaml_document_get_node(document, pair->key);
        if (name != NULL && name->type == YAML_SCALAR_NODE && strcmp((char *)name->data.scalar.value, key) == 0)
            return yaml_document_get_node(document, pair->value);
    }
    return NULL;
}

static yaml_node_t *config_node(yaml_document_t *document, size_t index)
{
    yaml_node_t *plugins = member_find(document, yaml_document_get_root_node(document), "plugins");
    if (plugins == NULL || plugins->type != YAML_SEQUENCE_NODE)
        return NULL;
    yaml_node_item_t *item = plugins->data.sequence.items.start + index;
    return item < plugins->data.sequence.items.top
               ? member_find(document, yaml_document_get_node(document, *item), "config")
               : NULL;
}

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strcmp(text, *words) == 0)
            return true;
    return false;
}

/* YAML 1.2's core schema, but for octal and hexadecimal numbers and infinities, which stay text. */
static bool number_write(struct value_writer *writer, const char *text)
{
    const char *digits = text + (*text == '-' || *text == '+');
    char *end = NULL;
    if (strspn(text, "+-0123456789.eE") != strlen(text) || strpbrk(digits, "0123456789") == NULL)
        return false;
    errno = 0;
    if (strspn(digits, "0123456789") == strlen(digits)) {
        if (*text == '-') {
            long long number = strtoll(text, &end, 10);
            value_write_int(writer, number);
        } else {
            unsigned long long number = strtoull(text, &end, 10);
            value_write_uint(writer, number);
        }
        return *end == '\0' && errno == 0;
    }
    double number = strtod(text, &end);
    if (*end != '\0')
        return false;
    value_write_double(writer, number);
    return true;
}

static void scalar_write(struct conversion *conversion, const yaml_node_t *node)
{
    static const char *const nils[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const yes[] = {"true", "True", "TRUE", NULL}, *const no[] = {"false", "False", "FALSE", NULL};
    const char *text = (const char *)node->data.scalar.value;
    size_t before = conversion->writer.size;
    bool is_plain = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (is_plain && is_one_of(text, nils)) {
        value_write_nil(&conversion->writer);
    } else if (is_plain && (is_one_of(text, yes) || is_one_of(text, no))) {
        value_write_bool(&conversion->writer, is_one_of(text, yes));
    } else if (!is_plain || !number_write(&conversion->writer, text)) {
        conversion->writer.size = before; /* of a number that turned out to be none */
        value_write_str(&conversion->writer, view_of(text, node->data.scalar.length));
    }
}

static bool fault(struct conversion *conversion, const yaml_node_t *node, const char *why)
{
    conversion->line = node->start_mark.line + 1;
    conversion->why = why;
    return false;
}

/* Recursion is bounded by DEPTH_MAX. */
static bool node_write(struct conversion *conversion, int number, unsigned depth)
{
    yaml_node_t *node = yaml_document_get_node(conversion->document, number);
    if (depth > DEPTH_MAX)
        return fault(conversion, node, "it is nested more than 16 deep");
    switch (node->type) {
    case YAML_SCALAR_NODE: scalar_write(conversion, node); break;
    case YAML_SEQUENCE_NODE:
        value_write_array(&conversion->writer,
                          (uint32_t)(node->data.sequence.items.top - node->data.sequence.items.start));
        for (yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++)
            if (!node_write(conversion, *item, depth + 1))
                return false;
        break;
    case YAML_MAPPING_NODE:
        value_write_map(&conversion->writer, (uint32_t)(node->data.mapping.pairs.top - node->data.mapping.pairs.start));
        for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++)
            if (!node_write(conversion, pair->key, depth + 1) || !node_write(conversion, pair->value, depth + 1))
                return false;
        break;
    default: return fault(conversion, node, "this sort of node cannot be handed over");
    }
    return !conversion->writer.is_full || fault(conversion, node, "it is larger than 64 KiB");
}

static enum weir_error document_convert(yaml_document_t *document, size_t index, uint8_t **out, size_t *size,
                                        size_t *line, char error[CONFIG_ERROR_SIZE])
{
    struct conversion conversion = {.document = document};
    yaml_node_t *node = config_node(document, index);
    if (node == NULL)
        return WEIR_OK;
    uint8_t *data = malloc(CONFIG_VALUE_BYTES_MAX);
    if (data == NULL) {
        snprintf(error, CONFIG_ERROR_SIZE, "no memory");
        return WEIR_NO_MEMORY;
    }
    value_writer_init(&conversion.writer, data, CONFIG_VALUE_BYTES_MAX);
    int number = (int)(node - document->nodes.start) + 1;
    if (!node_write(&conversion, number, 0)) {
        *line = conversion.line;
        snprintf(error, CONFIG_ERROR_SIZE, "%s", conversion.why);
        free(data);
        return WEIR_BAD_REQUEST;
    }
    *out = data;
    *size = conversion.writer.size;
    return WEIR_OK;
}

enum weir_error config_value_read(const char *path, size_t index, uint8_t **out, size_t *size, size_t *line,
                                  char error[CONFIG_ERROR_SIZE])
{
    FILE *stream = fopen(path, "re");
    yaml_parser_t parser;
    yaml_document_t document;
    enum weir_error result = WEIR_BAD_REQUEST;
    *out = NULL;
    *size = *line = 0;
    snprintf(error, CONFIG_ERROR_SIZE, "the file cannot be read again");
    if (stream == NULL)
        return WEIR_NOT_FOUND;
    if (yaml_parser_initialize(&parser) != 0) {
        yaml_parser_set_input_file(&parser, stream);
        if (yaml_parser_load(&parser, &document) != 0) {
            result = document_convert(&document, index, out, size, line, error);
            yaml_document_delete(&document);
        }
        yaml_parser_delete(&parser);
    }
    fclose(stream);
    return result;
}
