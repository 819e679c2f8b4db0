/* The runtime's life: create, start, stop, destroy. See runtime.h. Called by the thread that owns it. */
#include "actors/runtime/runtime.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/base/clock.h"
#include "actors/runtime/orders.h"
#include "actors/runtime/park.h"
#include "actors/runtime/state.h"
#include "actors/runtime/threads.h"

/* Slots at most: address space is reserved for them, memory only as they are used. */
#define ENVELOPES_MAX (UINT32_C(1) << 28)
#define LABELS_MAX (UINT32_C(1) << 24)
/* Address space of the actors of one class. Less of it can be built in for valgrind, which has only 128 GiB to give. */
#ifndef ACTORS_BYTES_MAX
#define ACTORS_BYTES_MAX ((size_t)1 << 34)
#endif

static void config_complete(struct runtime_config *config)
{
    if (config->workers == 0) {
        long processors = sysconf(_SC_NPROCESSORS_ONLN);
        config->workers = processors < 1 ? 1 : (unsigned)processors;
    }
    if (config->workers > WORKERS_MAX)
        config->workers = WORKERS_MAX;
    if (config->simulate)
        config->workers = 1;
    if (config->mailbox_max == 0)
        config->mailbox_max = MAILBOX_MAX_DEFAULT;
    if (config->turn_max == 0)
        config->turn_max = TURN_MESSAGES_MAX;
    if (config->blocking_max == 0)
        config->blocking_max = BLOCKING_THREADS_DEFAULT;
    if (config->blocking_max > BLOCKING_THREADS_MAX)
        config->blocking_max = BLOCKING_THREADS_MAX;
    if (config->turn_warn_ns == 0)
        config->turn_warn_ns = TURN_WARN_NS;
}

static enum weir_error pools_create(struct runtime *runtime)
{
    struct arena *arena = runtime->config.arena;
    enum weir_error error = slots_create(arena, sizeof(struct envelope), ENVELOPES_MAX, &runtime->envelopes);
    if (!error)
        runtime->envelope_base = slots_at(runtime->envelopes, 0);
    if (!error)
        error = slots_create(arena, sizeof(struct label), LABELS_MAX, &runtime->labels);
    for (uint32_t class = 0; class < ACTOR_CLASSES && !error; class ++) {
        size_t size = sizeof(struct actor) + actor_state_sizes[class];
        size_t slots = ACTORS_BYTES_MAX / size;
        error = slots_create(arena, size, slots < ACTOR_CLASS_SLOTS_MAX ? (uint32_t)slots : ACTOR_CLASS_SLOTS_MAX,
                             &runtime->actors[class]);
        if (!error) {
            runtime->classes[class].base = slots_at(runtime->actors[class], 0);
            runtime->classes[class].slot_size = (uint32_t)size;
        }
    }
    return error;
}

static void pools_destroy(struct runtime *runtime)
{
    slots_destroy(&runtime->envelopes);
    slots_destroy(&runtime->labels);
    for (int class = 0; class < ACTOR_CLASSES; class ++)
        slots_destroy(&runtime->actors[class]);
}

static enum weir_error workers_create(struct runtime *runtime)
{
    size_t size = runtime->config.workers * sizeof(struct worker);
    runtime->workers = aligned_alloc(64, (size + 63) / 64 * 64);
    if (!runtime->workers)
        return WEIR_NO_MEMORY;
    memset(runtime->workers, 0, size);
    for (unsigned i = 0; i < runtime->config.workers; i++)
        worker_init(&runtime->workers[i], runtime, i);
    return WEIR_OK;
}

/* Frees everything; nothing runs any more. */
static void dismantle(struct runtime *runtime)
{
    if (runtime->workers) {
        for (unsigned i = 0; i < runtime->config.workers; i++)
            worker_fini(&runtime->workers[i]);
    }
    free(runtime->workers);
    for (int i = 0; i < CALLERS_FOREIGN; i++)
        pthread_mutex_destroy(&runtime->foreign[i].lock);
    timers_fini(&runtime->timers);
    blocking_fini(&runtime->blocking);
    registry_fini(&runtime->registry);
    simulate_fini(&runtime->simulation);
    actor_list_fini(&runtime->global);
    actor_list_fini(&runtime->later);
    pools_destroy(runtime);
    pthread_cond_destroy(&runtime->stop_ended);
    pthread_mutex_destroy(&runtime->stop_lock);
    runtime->magic = 0;
    free(runtime);
}

enum weir_error runtime_create(const struct runtime_config *config, struct runtime **out)
{
    REQUIRE(config->arena != NULL);
    struct runtime *runtime = aligned_alloc(64, (sizeof *runtime + 63) / 64 * 64);
    if (!runtime)
        return WEIR_NO_MEMORY;
    memset(runtime, 0, sizeof *runtime);
    runtime->magic = RUNTIME_MAGIC;
    runtime->config = *config;
    config_complete(&runtime->config);
    pthread_mutex_init(&runtime->stop_lock, NULL);
    pthread_cond_init(&runtime->stop_ended, NULL);
    for (int i = 0; i < CALLERS_FOREIGN; i++)
        lock_init(&runtime->foreign[i].lock);
    actor_list_init(&runtime->global);
    actor_list_init(&runtime->later);
    registry_init(&runtime->registry);
    simulate_init(&runtime->simulation, config->seed);
    blocking_init(&runtime->blocking, runtime, runtime->config.blocking_max);
    enum weir_error error = timers_init(&runtime->timers, config->arena);
    if (!error)
        error = pools_create(runtime);
    if (!error)
        error = workers_create(runtime);
    if (error) {
        dismantle(runtime);
        return error;
    }
    *out = runtime;
    return WEIR_OK;
}

static void threads_join(struct runtime *runtime, unsigned count)
{
    atomic_store_explicit(&runtime->is_closed, true, memory_order_seq_cst);
    park_wake_all(runtime);
    for (unsigned i = 0; i < count; i++)
        pthread_join(runtime->workers[i].thread, NULL);
    watch_stop(&runtime->watch);
}

enum weir_error runtime_start(struct runtime *runtime)
{
    MAGIC_CHECK(runtime, RUNTIME_MAGIC);
    REQUIRE(!runtime->is_started && !runtime->is_stopped);
    if (runtime->config.simulate)
        return WEIR_OK;
    enum weir_error error = watch_start(&runtime->watch, runtime);
    for (unsigned i = 0; i < runtime->config.workers && !error; i++) {
        error = thread_start(&runtime->workers[i].thread, "weir-worker", worker_main, &runtime->workers[i]);
        if (error) {
            threads_join(runtime, i);
            atomic_store_explicit(&runtime->is_closed, false, memory_order_seq_cst);
        }
    }
    runtime->is_started = error == WEIR_OK;
    return error;
}

size_t runtime_actors(const struct runtime *runtime)
{
    uint64_t ended = 0;
    uint64_t spawned = 0;
    /* First those that ended, then those spawned: an actor that comes and goes in between is counted as there,
     * never the other way round. */
    for (unsigned i = 0; i < runtime->config.workers; i++)
        ended += atomic_load_explicit(&runtime->workers[i].caller.counters.ended, memory_order_seq_cst);
    for (int i = 0; i < CALLERS_FOREIGN; i++)
        ended += atomic_load_explicit(&runtime->foreign[i].counters.ended, memory_order_seq_cst);
    for (unsigned i = 0; i < runtime->config.workers; i++)
        spawned += atomic_load_explicit(&runtime->workers[i].caller.counters.spawned, memory_order_relaxed);
    for (int i = 0; i < CALLERS_FOREIGN; i++)
        spawned += atomic_load_explicit(&runtime->foreign[i].counters.spawned, memory_order_relaxed);
    return spawned - ended;
}

void runtime_note_ended(struct runtime *runtime, struct caller *caller)
{
    uint64_t ended = atomic_load_explicit(&caller->counters.ended, memory_order_relaxed);
    /* Sequentially consistent: either the stopper counts this one or we see that somebody stops. */
    atomic_store_explicit(&caller->counters.ended, ended + 1, memory_order_seq_cst);
    if (__builtin_expect(atomic_load_explicit(&runtime->is_stopping, memory_order_seq_cst), 0)) {
        pthread_mutex_lock(&runtime->stop_lock);
        pthread_cond_signal(&runtime->stop_ended);
        pthread_mutex_unlock(&runtime->stop_lock);
    }
}

static void stop_all_actors(struct runtime *runtime)
{
    for (uint32_t class = 0; class < ACTOR_CLASSES; class ++) {
        uint32_t last = atomic_load_explicit(&runtime->classes[class].slot_last, memory_order_seq_cst);
        for (uint32_t slot = 1; slot <= last; slot++) {
            struct actor *actor = slots_at(runtime->actors[class], slot);
            uint8_t phase = atomic_load_explicit(&actor->phase, memory_order_seq_cst);
            if (phase == PHASE_FREE || phase == PHASE_ENDING)
                continue;
            uint64_t generation = atomic_load_explicit(&actor->generation, memory_order_relaxed);
            weir_actor handle = {generation << 32 | (class << ACTOR_CLASS_SHIFT) | slot};
            struct caller *caller = caller_enter(runtime);
            (void)!orders_stop(runtime, caller, handle, WEIR_CLOSED);
            caller_leave(caller);
        }
    }
}

/* Without threads: the stopping one gives the actors their last turns. */
static void run_out(struct runtime *runtime)
{
    struct worker *before = worker_enter(&runtime->workers[0]);
    while (runtime_actors(runtime) > 0) {
        bool has_run = runtime->config.simulate ? runtime_step(runtime) : worker_run_one(&runtime->workers[0]);
        ENSURE(has_run);
    }
    worker_enter(before);
}

static void await_ends(struct runtime *runtime)
{
    pthread_mutex_lock(&runtime->stop_lock);
    while (runtime_actors(runtime) > 0)
        pthread_cond_wait(&runtime->stop_ended, &runtime->stop_lock);
    pthread_mutex_unlock(&runtime->stop_lock);
}

void runtime_stop(struct runtime *runtime)
{
    MAGIC_CHECK(runtime, RUNTIME_MAGIC);
    REQUIRE(worker_current(runtime) == NULL);
    if (runtime->is_stopped)
        return;
    atomic_store_explicit(&runtime->is_stopping, true, memory_order_seq_cst);
    stop_all_actors(runtime);
    if (runtime->is_started)
        await_ends(runtime);
    else
        run_out(runtime);
    if (runtime->config.simulate) {
        while (blocking_run_one(&runtime->blocking))
            continue;
    }
    blocking_stop(&runtime->blocking);
    if (runtime->is_started)
        threads_join(runtime, runtime->config.workers);
    runtime->is_started = false;
    runtime->is_stopped = true;
}

void runtime_destroy(struct runtime **runtime_pointer)
{
    struct runtime *runtime = *runtime_pointer;
    if (!runtime)
        return;
    runtime_stop(runtime);
    for (unsigned i = 0; i < runtime->config.workers; i++)
        caller_flush(runtime, &runtime->workers[i].caller);
    for (int i = 0; i < CALLERS_FOREIGN; i++)
        caller_flush(runtime, &runtime->foreign[i]);
    /* Every message was handled or dropped: an envelope that is left was lost, and what it held with it. */
    ENSURE(slots_live(runtime->envelopes) == 0);
    dismantle(runtime);
    *runtime_pointer = NULL;
}

struct arena *runtime_arena(struct runtime *runtime) { return runtime->config.arena; }

uint64_t runtime_now_ns(struct runtime *runtime)
{
    return runtime->config.simulate ? runtime->simulation.now_ns : clock_now_ns();
}
