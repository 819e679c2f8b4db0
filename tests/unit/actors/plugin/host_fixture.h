/* A process host for tests: starts an instance, gives it records, waits for outputs with a deadline. */
#ifndef TESTS_UNIT_ACTORS_PLUGIN_HOST_FIXTURE_H
#define TESTS_UNIT_ACTORS_PLUGIN_HOST_FIXTURE_H

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "actors/base/clock.h"
#include "actors/plugin/host.h"
#include "actors/plugin/plugin_limits.h"
#include "actors/plugin/processes.h"
#include "tests/unit/actors/plugin/recorder.h"

/* Last: its macros are called fail and skip, as verbs of plugins are. */
#include <cmocka.h>

/* Nothing here takes so long unless it is broken, sanitizers and a busy machine included. */
#define FIXTURE_WAIT_S 60
/* Records that were put last. */
#define FIXTURE_GIVEN 8

struct fixture {
    struct plugin_host *host;
    pthread_mutex_t lock;
    pthread_cond_t rung;
    unsigned rings;
    uint64_t next_number;
    struct plugin_end end;
    char why[PLUGIN_TEXT_SIZE];
    struct recorder recorder; /* of what was taken last */
    /* As the plugin actor does: what a process leaves out of an emission is put in from the record of that number, and
     * one that is the last is followed by the DONE that it stands for. */
    struct {
        const char *key, *json;
    } given[FIXTURE_GIVEN];
    uint64_t done; /* 0: none is to follow */
};

static inline void fixture_ring(void *context)
{
    struct fixture *fixture = context;
    pthread_mutex_lock(&fixture->lock);
    fixture->rings++;
    pthread_cond_signal(&fixture->rung);
    pthread_mutex_unlock(&fixture->lock);
}

static inline void fixture_init(struct fixture *fixture)
{
    *fixture = (struct fixture){.next_number = 1};
    pthread_mutex_init(&fixture->lock, NULL);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&fixture->rung, &clock);
}

/* Waits until the bell has been rung since `before`. */
static inline void fixture_await(struct fixture *fixture, unsigned before)
{
    struct timespec until;
    int error = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += FIXTURE_WAIT_S;
    pthread_mutex_lock(&fixture->lock);
    while (fixture->rings == before && error == 0)
        error = pthread_cond_timedwait(&fixture->rung, &fixture->lock, &until);
    pthread_mutex_unlock(&fixture->lock);
    if (error != 0)
        fail_msg("no bell within %d s", FIXTURE_WAIT_S);
}

static inline unsigned fixture_rings(struct fixture *fixture)
{
    pthread_mutex_lock(&fixture->lock);
    unsigned rings = fixture->rings;
    pthread_mutex_unlock(&fixture->lock);
    return rings;
}

static inline void fixture_complete(struct fixture *fixture, struct plugin_output *out)
{
    const char *key = fixture->given[out->number % FIXTURE_GIVEN].key;
    struct plugin_input input = {.kind = INPUT_MESSAGE};
    if ((out->same & OUTPUT_SAME_VALUE) != 0) {
        input = input_message(out->number, "t", key, fixture->given[out->number % FIXTURE_GIVEN].json);
        out->value = view_of(input.message.value.data, input.message.value.size);
    }
    if ((out->same & OUTPUT_SAME_TOPIC) != 0)
        out->topic = view_text("t");
    if ((out->same & OUTPUT_SAME_KEY) != 0)
        out->key = view_text(key);
    fixture->done = out->is_last ? out->number : 0;
}

/* The next output, waited for; its text is in the recorder. False: it has ended, see ->end. */
static inline bool fixture_take(struct fixture *fixture, struct plugin_output *out)
{
    if (fixture->done > 0) {
        plugin_output_init(out, OUTPUT_DONE, fixture->done);
        fixture->done = 0;
        recorder_take(&fixture->recorder, out);
        return true;
    }
    for (;;) {
        unsigned rings = fixture_rings(fixture);
        enum weir_error error = plugin_host_process.take(fixture->host, out, &fixture->end);
        if (error == WEIR_CLOSED)
            return false;
        if (error == WEIR_OK) {
            fixture_complete(fixture, out);
            recorder_take(&fixture->recorder, out);
            return true;
        }
        assert_int_equal(error, WEIR_AGAIN);
        fixture_await(fixture, rings);
    }
}

/* Takes outputs up to the DONE of number: its result. -1: it ended first. */
static inline int fixture_done(struct fixture *fixture, uint64_t number)
{
    struct plugin_output output;
    fixture->recorder = (struct recorder){.room = UINT32_MAX};
    while (fixture_take(fixture, &output)) {
        if (output.kind == OUTPUT_DONE && output.number == number)
            return (int)output.result;
    }
    return -1;
}

/* With all the time there is: tests of its bounds have some of their own. */
static inline struct plugin_spec fixture_spec(const char *file)
{
    return (struct plugin_spec){.name = "tested",
                                .file = file,
                                .role = WEIR_ACTOR_FOLD,
                                .config = {(const uint8_t *)"\xc0", 1},
                                .time_ms_max = FIXTURE_WAIT_S * 1000,
                                .start_ms_max = FIXTURE_WAIT_S * 1000};
}

static inline void fixture_start_only(struct fixture *fixture, const struct plugin_spec *spec)
{
    struct plugin_bell bell = {fixture_ring, fixture};
    fixture_init(fixture);
    if (plugin_host_process.start(spec, bell, &fixture->host, fixture->why, sizeof fixture->why) != WEIR_OK)
        fail_msg("%s", fixture->why);
}

static inline void fixture_start(struct fixture *fixture, const struct plugin_spec *spec)
{
    fixture_start_only(fixture, spec);
    int result = fixture_done(fixture, 0);
    if (result != WEIR_ACTOR_OK)
        fail_msg("result %d, %s, end: %s", result, fixture->recorder.text, fixture->end.text);
}

static inline void fixture_stop(struct fixture *fixture)
{
    plugin_host_process.stop(&fixture->host);
    assert_null(fixture->host);
    pthread_mutex_destroy(&fixture->lock);
    pthread_cond_destroy(&fixture->rung);
}

/* Gives one record, not flushed; its number. */
static inline uint64_t fixture_put(struct fixture *fixture, const char *key, const char *json)
{
    struct plugin_input input = input_message(fixture->next_number, "t", key, json);
    fixture->given[input.number % FIXTURE_GIVEN].key = key;
    fixture->given[input.number % FIXTURE_GIVEN].json = json;
    assert_int_equal(plugin_host_process.give(fixture->host, &input), WEIR_OK);
    return fixture->next_number++;
}

/* Gives one record; its number. */
static inline uint64_t fixture_give(struct fixture *fixture, const char *key, const char *json)
{
    uint64_t number = fixture_put(fixture, key, json);
    plugin_host_process.flush(fixture->host);
    return number;
}

/* Gives one record and takes what came of it, as text. */
static inline const char *fixture_handle(struct fixture *fixture, const char *key, const char *json)
{
    if (fixture_done(fixture, fixture_give(fixture, key, json)) < 0)
        return fixture->end.text;
    return fixture->recorder.text;
}

#endif
