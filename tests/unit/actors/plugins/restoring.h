/* Shipped plugins and snapshots that are none: what the unit test and the fuzz target share. An instance is opened once
 * and begins anew for each snapshot. */
#ifndef TESTS_UNIT_ACTORS_PLUGINS_RESTORING_H
#define TESTS_UNIT_ACTORS_PLUGINS_RESTORING_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "actors/plugin/plugin_limits.h"
#include "actors/plugin/runner_state.h"
#include "clients/wire/json.h"

/* Where the build puts them; CMake says so, except to who compiles this header alone. */
#ifndef SHIPPED_PLUGINS
#define SHIPPED_PLUGINS "plugins"
#endif

#define RESTORING_SNAPSHOT_MAX ((size_t)1 << 20)

static const struct {
    const char *name;
    enum weir_actor_role role;
    const char *config, *record;
} restoring_plugins[] = {
    {"route", WEIR_ACTOR_PROCESSOR, "{\"rules\":[{\"to\":\"out/{topic.1}\"}]}", "%u"},
    {"dedup", WEIR_ACTOR_FOLD, "{\"by\":\"{value.id}\"}", "{\"id\":%u}"},
    {"threshold", WEIR_ACTOR_FOLD, "{\"rules\":[{\"name\":\"hot\",\"above\":90,\"clear\":80,\"hold_ms\":50}]}", "%u"},
    {"top", WEIR_ACTOR_FOLD, "{\"k\":5,\"every_ms\":100}", "%u"},
    {"window", WEIR_ACTOR_FOLD, "{\"size_ms\":1000,\"slide_ms\":500,\"field\":\"ms\",\"quantiles\":[0.5,0.9]}",
     "{\"ms\":%u}"},
};
enum { RESTORING_PLUGINS = COUNT_OF(restoring_plugins) };

struct restoring {
    struct runner *runner;
    uint8_t *config;
    size_t config_size;
    uint64_t number;
    uint8_t snapshot[RESTORING_SNAPSHOT_MAX]; /* the last one that it told */
    size_t snapshot_size;
};

static inline bool restoring_take(void *context, const struct plugin_output *output)
{
    struct restoring *restoring = context;
    if (output->kind != OUTPUT_SNAPSHOT)
        return true;
    restoring->snapshot_size = output->value.size <= RESTORING_SNAPSHOT_MAX ? output->value.size : 0;
    memcpy(restoring->snapshot, output->value.data, restoring->snapshot_size);
    return true;
}

/* Aborts when it cannot: without the plugin there is nothing to find. */
static inline void restoring_open(struct restoring *restoring, size_t plugin)
{
    char file[512], why[PLUGIN_TEXT_SIZE] = "";
    const char *reason = "";
    struct runner_bounds bounds = {0};
    runner_bounds_fill(&bounds);
    ENSURE(json_to_msgpack(view_text(restoring_plugins[plugin].config), 16, &restoring->config, &restoring->config_size,
                           &reason) == WEIR_OK);
    (void)snprintf(file, sizeof file, "%s/%s.so", SHIPPED_PLUGINS, restoring_plugins[plugin].name);
    if (runner_open(file, restoring_plugins[plugin].role, &bounds, restoring_take, restoring, &restoring->runner, why,
                    sizeof why) != WEIR_OK)
        fprintf(stderr, "%s\n", why);
    ENSURE(restoring->runner != NULL);
}

/* A new instance in the place of the old one, whatever became of that. */
static inline void restoring_begin(struct restoring *restoring)
{
    char why[PLUGIN_TEXT_SIZE] = "";
    struct runner *runner = restoring->runner;
    if (runner->is_started)
        (void)runner_handle(runner, &(struct plugin_input){.kind = INPUT_STOP});
    runner_memory_free(runner);
    runner->has_failed = false;
    restoring->number = 0;
    enum weir_error error = runner_start(runner, view_of(restoring->config, restoring->config_size), why, sizeof why);
    ENSURE(error == WEIR_OK);
}

static inline enum weir_actor_result restoring_give(struct restoring *restoring, enum plugin_input_kind kind,
                                                    struct view bytes)
{
    struct plugin_input input = {.kind = kind, .number = ++restoring->number, .bytes = bytes};
    return runner_handle(restoring->runner, &input);
}

static inline enum weir_actor_result restoring_record(struct restoring *restoring, size_t plugin, unsigned value)
{
    char json[64], key[16];
    uint8_t *bytes = NULL;
    size_t size = 0;
    const char *reason = "";
    struct plugin_input input = {.kind = INPUT_MESSAGE, .number = ++restoring->number};
    const char *form = restoring_plugins[plugin].record, *place = strstr(form, "%u");
    (void)snprintf(json, sizeof json, "%.*s%u%s", (int)(place - form), form, value, place + 2);
    (void)snprintf(key, sizeof key, "k%u", value % 7);
    ENSURE(json_to_msgpack(view_text(json), 16, &bytes, &size, &reason) == WEIR_OK);
    input.message = (struct weir_message){.kind = WEIR_MESSAGE_RECORD, .attempt = 1, .time_ms = 1000 + value};
    input.message.topic = weir_bytes_of("t/x", 3);
    input.message.key = weir_bytes_of(key, strlen(key));
    input.message.value = weir_bytes_of(bytes, size);
    enum weir_actor_result result = runner_handle(restoring->runner, &input);
    free(bytes);
    return result;
}

/* Bytes that may be no snapshot at all: they are refused, or the instance goes on with what it made of them, and what
 * it tells of that is a snapshot. True: they were taken. */
static inline bool restoring_try(struct restoring *restoring, size_t plugin, struct view bytes)
{
    restoring_begin(restoring);
    if (restoring_give(restoring, INPUT_RESTORE, bytes) != WEIR_ACTOR_OK)
        return false;
    for (unsigned i = 0; i < 3; i++)
        if (restoring_record(restoring, plugin, 85 + 10 * i) == WEIR_ACTOR_FAILED)
            return true;
    ENSURE(restoring_give(restoring, INPUT_SNAPSHOT, view_of(NULL, 0)) == WEIR_ACTOR_OK);
    restoring_begin(restoring);
    struct view told = view_of(restoring->snapshot, restoring->snapshot_size);
    ENSURE(told.size == 0 || restoring_give(restoring, INPUT_RESTORE, told) == WEIR_ACTOR_OK);
    return true;
}

#endif
