/* The simulation. See simulate.h. All on the thread that calls runtime_step. */
#include "actors/runtime/simulate.h"

#include <stdlib.h>

#include "actors/base/clock.h"
#include "actors/runtime/state.h"

/* The virtual clock starts here, so that no deadline is near 0. */
#define SIMULATE_START_NS NS_PER_S

void simulate_init(struct simulation *simulation, uint64_t seed)
{
    simulation->random = seed;
    simulation->hash = UINT64_C(0xcbf29ce484222325);
    simulation->now_ns = SIMULATE_START_NS;
}

void simulate_fini(struct simulation *simulation) { free(simulation->ready); }

/* SplitMix64 (Steele, Lea, Flood 2014): any seed will do. */
static uint64_t random_next(struct simulation *simulation)
{
    uint64_t z = (simulation->random += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void choice_note(struct simulation *simulation, uint64_t choice)
{
    simulation->hash = (simulation->hash ^ choice) * UINT64_C(0x100000001b3);
    simulation->hash ^= simulation->hash >> 31;
}

void simulate_schedule(struct simulation *simulation, struct actor *actor)
{
    if (simulation->count == simulation->capacity) {
        uint32_t capacity = simulation->capacity ? simulation->capacity * 2 : 256;
        struct actor **ready = realloc(simulation->ready, capacity * sizeof(struct actor *));
        REQUIRE(ready != NULL);
        simulation->ready = ready;
        simulation->capacity = capacity;
    }
    simulation->ready[simulation->count++] = actor;
}

/* A turn of a random actor, cut at a random length. */
static void step_actor(struct runtime *runtime, uint32_t chosen)
{
    struct simulation *simulation = &runtime->simulation;
    struct actor *actor = simulation->ready[chosen];
    simulation->ready[chosen] = simulation->ready[--simulation->count];
    uint32_t limit = 1 + (uint32_t)(random_next(simulation) % runtime->config.turn_max);
    choice_note(simulation, actor_handle(actor).bits);
    choice_note(simulation, limit);
    uint64_t before = runtime->workers[0].caller.counters.messages;
    turn_run(&runtime->workers[0], actor, limit);
    choice_note(simulation, runtime->workers[0].caller.counters.messages - before);
}

bool runtime_step(struct runtime *runtime)
{
    struct simulation *simulation = &runtime->simulation;
    MAGIC_CHECK(runtime, RUNTIME_MAGIC);
    REQUIRE(runtime->config.simulate);
    uint32_t tasks = runtime->blocking.count;
    if (simulation->count + tasks == 0)
        return false;
    struct worker *before = worker_enter(&runtime->workers[0]);
    uint32_t chosen = (uint32_t)(random_next(simulation) % (simulation->count + tasks));
    if (chosen < simulation->count) {
        step_actor(runtime, chosen);
    } else {
        choice_note(simulation, chosen);
        blocking_run_one(&runtime->blocking);
    }
    worker_enter(before);
    return true;
}

bool runtime_advance(struct runtime *runtime)
{
    struct simulation *simulation = &runtime->simulation;
    MAGIC_CHECK(runtime, RUNTIME_MAGIC);
    REQUIRE(runtime->config.simulate);
    uint64_t next = timers_next_ns(&runtime->timers);
    if (next == UINT64_MAX)
        return false;
    if (next > simulation->now_ns)
        simulation->now_ns = next;
    choice_note(simulation, simulation->now_ns);
    struct caller *caller = caller_enter(runtime);
    timers_fire(runtime, caller, simulation->now_ns, UINT64_MAX);
    caller_leave(caller);
    return true;
}

uint64_t runtime_order_hash(const struct runtime *runtime) { return runtime->simulation.hash; }
