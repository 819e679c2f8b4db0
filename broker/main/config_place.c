/* Finds the line of a key by walking libyaml's events with the path so far. Called by config_load.c. */
#include "broker/main/config_place.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

enum { DEPTH_MAX = 16, PATH_SIZE = 256 };

struct level {
    bool is_sequence, expects_value;
    size_t index;
    size_t path_size; /* of the path to this level */
};

struct walk {
    char path[PATH_SIZE];
    struct level levels[DEPTH_MAX];
    size_t depth;
    const char *wanted;
    size_t from, found;
};

static bool is_wanted(const struct walk *walk, const char *key, size_t line)
{
    if (strncmp(walk->wanted, "*.", 2) == 0)
        return line >= walk->from && strcmp(walk->wanted + 2, key) == 0;
    return strcmp(walk->wanted, walk->path) == 0;
}

static void path_append(struct walk *walk, size_t base, const char *part)
{
    snprintf(walk->path + base, PATH_SIZE - base, "%s%s", base > 0 ? "." : "", part);
}

/* A value begins: in a sequence it gets its index as key. */
static void on_value(struct walk *walk, size_t line)
{
    if (walk->depth == 0)
        return;
    struct level *level = &walk->levels[walk->depth - 1];
    char index[24];
    if (level->is_sequence) {
        snprintf(index, sizeof index, "%zu", level->index++);
        path_append(walk, level->path_size, index);
        if (walk->found == 0 && strcmp(walk->wanted, walk->path) == 0)
            walk->found = line;
    }
    level->expects_value = false;
}

static void on_scalar(struct walk *walk, const char *text, size_t line)
{
    struct level *level = walk->depth > 0 ? &walk->levels[walk->depth - 1] : NULL;
    if (level == NULL || level->is_sequence || level->expects_value) {
        on_value(walk, line);
        return;
    }
    path_append(walk, level->path_size, text);
    level->expects_value = true;
    if (walk->found == 0 && is_wanted(walk, text, line))
        walk->found = line;
}

static bool on_start(struct walk *walk, bool is_sequence, size_t line)
{
    on_value(walk, line);
    if (walk->depth == DEPTH_MAX)
        return false;
    walk->levels[walk->depth++] = (struct level){.is_sequence = is_sequence, .path_size = strlen(walk->path)};
    return true;
}

/* False at the end of the document or of what can be followed. */
static bool on_event(struct walk *walk, const yaml_event_t *event)
{
    size_t line = event->start_mark.line + 1;
    switch (event->type) {
    case YAML_SCALAR_EVENT: on_scalar(walk, (const char *)event->data.scalar.value, line); return walk->found == 0;
    case YAML_MAPPING_START_EVENT: return on_start(walk, false, line);
    case YAML_SEQUENCE_START_EVENT: return on_start(walk, true, line);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT: walk->depth--; return true;
    case YAML_STREAM_END_EVENT: return false;
    default: return true;
    }
}

size_t config_place_find(const char *file, const char *path, size_t from)
{
    struct walk walk = {.wanted = path, .from = from};
    FILE *stream = fopen(file, "re");
    yaml_parser_t parser;
    if (stream == NULL)
        return 0;
    if (yaml_parser_initialize(&parser) != 0) {
        yaml_parser_set_input_file(&parser, stream);
        bool goes_on = true;
        while (goes_on) {
            yaml_event_t event;
            if (yaml_parser_parse(&parser, &event) == 0)
                break;
            goes_on = on_event(&walk, &event);
            yaml_event_delete(&event);
        }
        yaml_parser_delete(&parser);
    }
    fclose(stream);
    return walk.found;
}
