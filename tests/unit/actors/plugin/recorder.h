/* Keeps the outputs of a plugin instance as lines of text, for tests to compare. */
#ifndef TESTS_UNIT_ACTORS_PLUGIN_RECORDER_H
#define TESTS_UNIT_ACTORS_PLUGIN_RECORDER_H

#include "actors/plugin/runner.h"
#include "clients/wire/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct recorder {
    char text[16384];
    size_t size;
    unsigned outputs;
    unsigned room; /* outputs other than DONE that are taken; UINT32_MAX: all */
    uint8_t snapshot[4096];
    size_t snapshot_size;
};

__attribute__((format(printf, 2, 3))) static inline void recorder_add(struct recorder *recorder, const char *format,
                                                                      ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(recorder->text + recorder->size, sizeof recorder->text - recorder->size, format, arguments);
    va_end(arguments);
    if (size > 0 && recorder->size + (size_t)size < sizeof recorder->text)
        recorder->size += (size_t)size;
}

static inline void recorder_value(struct recorder *recorder, struct view value)
{
    char *json = NULL;
    size_t size = 0;
    if (json_from_msgpack(value, 16, &json, &size) == WEIR_OK)
        recorder_add(recorder, " %s", json);
    free(json);
}

static inline bool recorder_take(void *context, const struct plugin_output *output)
{
    struct recorder *recorder = context;
    unsigned long long number = output->number;
    if (output->kind != OUTPUT_DONE && recorder->room == 0)
        return false;
    if (output->kind != OUTPUT_DONE && recorder->room != UINT32_MAX)
        recorder->room--;
    recorder->outputs++;
    switch (output->kind) {
    case OUTPUT_EMIT:
        recorder_add(recorder, "%llu emit %.*s", number, (int)output->topic.size, (const char *)output->topic.data);
        if (output->has_key)
            recorder_add(recorder, " %.*s", (int)output->key.size, (const char *)output->key.data);
        break;
    case OUTPUT_TIMER:
        recorder_add(recorder, "%llu timer %llu %llu %llu", number, (unsigned long long)output->timer,
                     (unsigned long long)output->delay_ms, (unsigned long long)output->period_ms);
        break;
    case OUTPUT_TIMER_CANCEL:
        recorder_add(recorder, "%llu cancel %llu", number, (unsigned long long)output->timer);
        break;
    case OUTPUT_LOG: recorder_add(recorder, "%llu log %u", number, (unsigned)output->level); break;
    case OUTPUT_SNAPSHOT:
        recorder_add(recorder, "%llu snapshot", number);
        if (output->value.size <= sizeof recorder->snapshot) {
            memcpy(recorder->snapshot, output->value.data, output->value.size);
            recorder->snapshot_size = output->value.size;
        }
        break;
    case OUTPUT_REPLY: recorder_add(recorder, "%llu reply", number); break;
    case OUTPUT_DONE: recorder_add(recorder, "%llu done %u", number, (unsigned)output->result); break;
    }
    size_t update_size = output->update_size > 0 ? output->update_size : output->value.size;
    recorder_value(recorder, view_of(output->value.data, update_size));
    if (output->update_size > 0)
        recorder_value(recorder, view_of(output->value.data + update_size, output->value.size - update_size));
    if (output->text.size > 0)
        recorder_add(recorder, " (%.*s)", (int)output->text.size, (const char *)output->text.data);
    recorder_add(recorder, "\n");
    return true;
}

/* A message with key and a value given as JSON, in memory of this call's own: one at a time. */
static inline struct plugin_input input_message(uint64_t number, const char *topic, const char *key, const char *json)
{
    static uint8_t value[65536];
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct plugin_input input = {.kind = INPUT_MESSAGE, .number = number};
    if (json_to_msgpack(view_text(json), 16, &bytes, &size, NULL) == WEIR_OK && size <= sizeof value)
        memcpy(value, bytes, size);
    free(bytes);
    input.message.kind = WEIR_MESSAGE_RECORD;
    input.message.attempt = 1;
    input.message.topic = weir_bytes_of(topic, strlen(topic));
    input.message.key = weir_bytes_of(key, key != NULL ? strlen(key) : 0);
    input.message.value = weir_bytes_of(value, size);
    return input;
}

#endif
