/* Runs a shipped plugin on records of a test's own and keeps what it emits as JSON. */
#ifndef TESTS_UNIT_ACTORS_PLUGINS_STAGE_H
#define TESTS_UNIT_ACTORS_PLUGINS_STAGE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "actors/plugin/plugin_limits.h"
#include "actors/plugin/rehearsal.h"
#include "clients/wire/json.h"

/* Behind the plugins' header, some of whose names it takes for macros. */
#include <cmocka.h>
#include <jansson.h>

/* Where the build puts them; CMake says so, except to who compiles this header alone. */
#ifndef SHIPPED_PLUGINS
#define SHIPPED_PLUGINS "plugins"
#endif

struct stage {
    struct rehearsal *rehearsal;
    struct rehearsal_spec spec;
    char file[512];
    uint8_t *config;
    json_t *emitted; /* of {"topic","key","value","time_ms"} */
    char why[PLUGIN_TEXT_SIZE];
    char reply[4096]; /* to the last question, as JSON; empty: there was none */
    uint64_t logged;
};

static inline bool stage_take(void *context, const struct plugin_output *output)
{
    struct stage *stage = context;
    char *text = NULL;
    size_t size = 0;
    if (output->kind == OUTPUT_DONE)
        (void)snprintf(stage->why, sizeof stage->why, "%.*s", (int)output->text.size,
                       output->text.size > 0 ? (const char *)output->text.data : "");
    stage->logged += output->kind == OUTPUT_LOG;
    if (output->kind != OUTPUT_EMIT && output->kind != OUTPUT_REPLY)
        return true;
    size_t update_size = output->update_size > 0 ? output->update_size : output->value.size;
    assert_int_equal(json_from_msgpack(view_of(output->value.data, update_size), 16, &text, &size), WEIR_OK);
    if (output->kind == OUTPUT_REPLY) {
        (void)snprintf(stage->reply, sizeof stage->reply, "%.*s", (int)size, text);
        free(text);
        return true;
    }
    json_t *value = json_loadb(text, size, JSON_DECODE_ANY, NULL);
    free(text);
    json_t *record = json_pack("{s:s%,s:o,s:I}", "topic", output->topic.data, output->topic.size, "value", value,
                               "time_ms", (json_int_t)rehearsal_now(stage->rehearsal));
    assert_non_null(record);
    if (output->update_size > 0) {
        struct view merged = view_of(output->value.data + update_size, output->value.size - update_size);
        assert_int_equal(json_from_msgpack(merged, 16, &text, &size), WEIR_OK);
        json_object_set_new(record, "merged", json_loadb(text, size, JSON_DECODE_ANY, NULL));
        free(text);
    }
    if (output->has_key)
        json_object_set_new(record, "key", json_stringn((const char *)output->key.data, output->key.size));
    json_array_append_new(stage->emitted, record);
    return true;
}

/* Starts a plugin; what comes of it. */
static inline enum weir_error stage_try(struct stage *stage, const char *name, enum weir_actor_role role,
                                        const char *config, const struct runner_bounds *bounds)
{
    const char *reason = "";
    size_t size = 0;
    *stage = (struct stage){.emitted = json_array()};
    (void)snprintf(stage->file, sizeof stage->file, "%s/%s.so", SHIPPED_PLUGINS, name);
    if (json_to_msgpack(view_text(config), 16, &stage->config, &size, &reason) != WEIR_OK)
        fail_msg("%s: %s", config, reason);
    stage->spec = (struct rehearsal_spec){stage->file, role, view_of(stage->config, size), {0}, stage_take, stage};
    if (bounds != NULL)
        stage->spec.bounds = *bounds;
    return rehearsal_open(&stage->spec, &stage->rehearsal, stage->why, sizeof stage->why);
}

static inline void stage_open(struct stage *stage, const char *name, enum weir_actor_role role, const char *config)
{
    if (stage_try(stage, name, role, config, NULL) != WEIR_OK)
        fail_msg("%s: %s", name, stage->why);
}

static inline void stage_close(struct stage *stage)
{
    rehearsal_close(&stage->rehearsal);
    json_decref(stage->emitted);
    free(stage->config);
}

/* A configuration that must be refused, with a text in the reason. */
static inline void stage_refuses(const char *name, enum weir_actor_role role, const char *config, const char *text)
{
    struct stage stage;
    if (stage_try(&stage, name, role, config, NULL) != WEIR_FAILED || strstr(stage.why, text) == NULL)
        fail_msg("%s: \"%s\" does not say \"%s\"", config, stage.why, text);
    stage_close(&stage);
}

static inline enum weir_actor_result stage_give_kind(struct stage *stage, uint32_t kind, uint64_t time_ms,
                                                     const char *topic, const char *key, const char *json)
{
    uint8_t *value = NULL;
    const char *reason = "";
    size_t size = 0;
    if (json_to_msgpack(view_text(json), 16, &value, &size, &reason) != WEIR_OK)
        fail_msg("%s: %s", json, reason);
    struct weir_message message = {.kind = kind, .time_ms = time_ms, .value = weir_bytes_of(value, size)};
    message.topic = weir_bytes_of(topic, strlen(topic));
    if (key != NULL)
        message.key = weir_bytes_of(key, strlen(key));
    enum weir_actor_result result = rehearsal_give(stage->rehearsal, &message);
    free(value);
    return result;
}

static inline enum weir_actor_result stage_give(struct stage *stage, uint64_t time_ms, const char *topic,
                                                const char *key, const char *json)
{
    return stage_give_kind(stage, WEIR_MESSAGE_RECORD, time_ms, topic, key, json);
}

/* Asks, and gives the reply, or why it was refused. */
static inline const char *stage_ask(struct stage *stage, uint64_t time_ms, const char *topic, const char *json)
{
    stage->reply[0] = '\0';
    enum weir_actor_result result = stage_give_kind(stage, WEIR_MESSAGE_ASK, time_ms, topic, NULL, json);
    assert_int_not_equal(result, WEIR_ACTOR_FAILED);
    assert_int_equal(result == WEIR_ACTOR_OK, stage->reply[0] != '\0');
    return result == WEIR_ACTOR_OK ? stage->reply : stage->why;
}

static inline void stage_advance(struct stage *stage, uint64_t time_ms)
{
    if (rehearsal_advance(stage->rehearsal, time_ms) != WEIR_ACTOR_OK)
        fail_msg("%s", stage->why);
}

static inline void stage_restart(struct stage *stage)
{
    if (rehearsal_restart(stage->rehearsal, stage->why, sizeof stage->why) != WEIR_OK)
        fail_msg("%s", stage->why);
}

/* What was emitted since the last call, as "topic key value" lines. */
static inline const char *stage_said(struct stage *stage)
{
    static char text[1 << 14];
    size_t index = 0, used = 0;
    json_t *record = NULL;
    text[0] = '\0';
    json_array_foreach(stage->emitted, index, record)
    {
        char *value = json_dumps(json_object_get(record, "value"), JSON_ENCODE_ANY | JSON_COMPACT);
        const char *key = json_string_value(json_object_get(record, "key"));
        used += (size_t)snprintf(text + used, sizeof text - used, "%s %s %s\n",
                                 json_string_value(json_object_get(record, "topic")), key != NULL ? key : "-", value);
        assert_true(used < sizeof text);
        free(value);
    }
    json_array_clear(stage->emitted);
    return text;
}

/* SplitMix64, so that a seed is a whole run. */
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}
static inline uint64_t random_below(uint64_t *state, uint64_t bound) { return random_next(state) % bound; }

#endif
