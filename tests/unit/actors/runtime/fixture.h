/* What the runtime's tests share: an arena and a runtime, an actor that does what its test says, and
 * waiting for events with a deadline. */
#ifndef TESTS_UNIT_ACTORS_RUNTIME_FIXTURE_H
#define TESTS_UNIT_ACTORS_RUNTIME_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "actors/base/clock.h"
#include "actors/base/limits.h"
#include "actors/runtime/runtime.h"

#define DEADLINE_NS (60 * NS_PER_S)

#define must(call) assert_int_equal((call), WEIR_OK)

struct probe;
typedef enum weir_error (*probe_function)(struct turn *turn, struct probe *probe, struct message *message);

/* The state of a test's actor: plain data, and what to call. */
struct probe {
    probe_function on_message, on_start; /* the latter gets no message */
    enum weir_error (*on_restart)(struct turn *turn, struct probe *probe, enum weir_error cause);
    void (*on_stop)(struct turn *turn, struct probe *probe, enum weir_error cause);
    void (*on_turn_end)(struct turn *turn, struct probe *probe);
    void *context; /* the test's */
    weir_actor other;
    uint64_t n[6];
};

static inline enum weir_error probe_start(struct turn *turn, void *state, const void *args)
{
    struct probe *probe = state;
    *probe = *(const struct probe *)args;
    return probe->on_start ? probe->on_start(turn, probe, NULL) : WEIR_OK;
}

static inline enum weir_error probe_message(struct turn *turn, void *state, struct message *message)
{
    struct probe *probe = state;
    return probe->on_message ? probe->on_message(turn, probe, message) : WEIR_OK;
}

static inline enum weir_error probe_restart(struct turn *turn, void *state, enum weir_error cause)
{
    struct probe *probe = state;
    return probe->on_restart ? probe->on_restart(turn, probe, cause) : WEIR_OK;
}

static inline void probe_stop(struct turn *turn, void *state, enum weir_error cause)
{
    struct probe *probe = state;
    if (probe->on_stop)
        probe->on_stop(turn, probe, cause);
}

static inline void probe_turn_end(struct turn *turn, void *state)
{
    struct probe *probe = state;
    if (probe->on_turn_end)
        probe->on_turn_end(turn, probe);
}

static const struct behaviour probe_behaviour = {
    .name = "probe",
    .state_size = sizeof(struct probe),
    .on_start = probe_start,
    .on_message = probe_message,
    .on_restart = probe_restart,
    .on_stop = probe_stop,
    .on_turn_end = probe_turn_end,
};

struct fixture {
    struct arena *arena;
    struct runtime *runtime;
};

static inline struct fixture fixture_with(struct runtime_config config)
{
    struct fixture fixture = {0};
    struct arena_config arena_config = {.bytes_max = (size_t)1 << 30};
    must(arena_create(&arena_config, &fixture.arena));
    config.arena = fixture.arena;
    must(runtime_create(&config, &fixture.runtime));
    must(runtime_start(fixture.runtime));
    return fixture;
}

static inline struct fixture fixture_simulated(uint64_t seed)
{
    return fixture_with((struct runtime_config){.simulate = true, .seed = seed});
}

static inline struct fixture fixture_threaded(unsigned workers)
{
    return fixture_with((struct runtime_config){.workers = workers});
}

/* Stops everything; no block may be left. */
static inline void fixture_end(struct fixture *fixture)
{
    struct arena_usage usage;
    runtime_stop(fixture->runtime);
    runtime_destroy(&fixture->runtime);
    arena_usage(fixture->arena, &usage);
    assert_int_equal(usage.blocks_live, 0);
    arena_destroy(&fixture->arena);
}

static inline weir_actor fixture_spawn(struct fixture *fixture, struct probe probe, struct actor_options options)
{
    weir_actor actor;
    must(actor_spawn(fixture->runtime, &probe_behaviour, &probe, sizeof probe, &options, &actor));
    return actor;
}

/* Runs a simulation until nothing can run; timers stay. */
static inline void fixture_settle(struct fixture *fixture)
{
    for (int steps = 0; runtime_step(fixture->runtime); steps++)
        assert_true(steps < 10000000);
}

static inline void fixture_send(struct fixture *fixture, weir_actor to, uint32_t tag, uint64_t word)
{
    struct message message = {.tag = tag, .word = {word}};
    must(actor_send(fixture->runtime, WEIR_ACTOR_NONE, to, &message));
}

static inline const char *fixture_state(struct fixture *fixture, weir_actor actor)
{
    static struct actor_status status;
    return actor_status(fixture->runtime, actor, &status) ? "ended" : status.state;
}

/* Waits until *value reaches at least that, on real threads; fails the test at the deadline. */
static inline void await_at_least(_Atomic uint64_t *value, uint64_t least)
{
    uint64_t deadline = clock_now_ns() + DEADLINE_NS;
    struct timespec pause = {.tv_nsec = 100000};
    while (atomic_load(value) < least) {
        if (clock_now_ns() > deadline)
            fail_msg("still %llu of %llu at the deadline", (unsigned long long)atomic_load(value),
                     (unsigned long long)least);
        nanosleep(&pause, NULL);
    }
}

#endif
