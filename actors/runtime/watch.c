/* The watcher thread. See watch.h. It looks at the workers' published counters once in an interval and
 * remembers what it saw; a worker that is in the same turn as before has been in it at least that long.
 *
 * Workers that wake for one message and park again, a thousand times a second, must not wake the watcher each time:
 * that would double the thread switches. So it goes on looking for a while after they have come to rest. */
#include "actors/runtime/watch.h"

#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "actors/runtime/park.h"
#include "actors/runtime/state.h"
#include "actors/runtime/status.h"
#include "actors/runtime/threads.h"

/* While something waits that may be behind a stuck turn, so that it does not wait much longer. */
#define WATCH_INTERVAL_NS NS_PER_MS
/* While nothing does. A look wakes a thread, which where other threads want the processor takes 30 to 60 us: every
 * millisecond that was a tenth of what a broker took for some ten thousand records a second. */
#define WATCH_INTERVAL_CALM_NS (4 * NS_PER_MS)
/* While all workers are parked at a look: messages come one by one, and few looks find any of them running. What waits
 * behind a turn that gets stuck meanwhile waits that much longer. */
#define WATCH_INTERVAL_RESTING_NS (20 * NS_PER_MS)
/* So many such looks without a worker that woke in between: the watcher rests, too. */
#define QUIET_LOOKS_MAX 3
/* A single worker has nobody to be helped by: only reports depend on it. */
#define WATCH_INTERVAL_ALONE_NS (10 * NS_PER_MS)

struct sighting {
    uint64_t progress; /* turns and parks of the worker: the same sum is the same turn, without a sleep in between */
    uint64_t since_ns; /* when that turn was first seen; 0: no turn was */
    bool is_reported;
};

static bool all_parked(struct runtime *runtime)
{
    unsigned workers = runtime->config.workers;
    uint64_t all = workers == 64 ? UINT64_MAX : (UINT64_C(1) << workers) - 1;
    return atomic_load_explicit(&runtime->parked, memory_order_seq_cst) == all;
}

static void report(struct runtime *runtime, const struct worker *worker, uint64_t duration_ns)
{
    char name[STATUS_NAME_SIZE];
    char quoted[2 * STATUS_NAME_SIZE];
    size_t size = status_running_name(runtime, worker, name);
    if (size == 0)
        return;
    log_warning("turn.stuck", "worker=%u actor=%s ms=%llu", worker->index, log_quote(quoted, sizeof quoted, name, size),
                (unsigned long long)(duration_ns / NS_PER_MS));
}

static void look_at(struct runtime *runtime, struct worker *worker, struct sighting *seen, uint64_t now)
{
    uint64_t progress = atomic_load_explicit(&worker->turns, memory_order_relaxed) +
                        atomic_load_explicit(&worker->parks, memory_order_relaxed);
    bool is_running = atomic_load_explicit(&worker->running, memory_order_relaxed) != NULL;
    if (!is_running || progress != seen->progress || seen->since_ns == 0) {
        *seen = (struct sighting){.progress = progress, .since_ns = is_running ? now : 0};
        return;
    }
    if (run_queue_count(&worker->queue) > 0)
        park_wake(runtime, UINT32_MAX);
    if (!seen->is_reported && now - seen->since_ns >= runtime->config.turn_warn_ns) {
        seen->is_reported = true;
        report(runtime, worker, now - seen->since_ns);
    }
}

/* Sleeps until a worker wakes, unless one is awake by now. */
static void sleep_until_needed(struct watch *watch)
{
    atomic_store_explicit(&watch->is_awake, 0, memory_order_seq_cst);
    while (all_parked(watch->runtime) && !atomic_load_explicit(&watch->is_closed, memory_order_seq_cst) &&
           atomic_load_explicit(&watch->is_awake, memory_order_seq_cst) == 0)
        park_futex_wait(&watch->is_awake, 0, UINT64_MAX);
    atomic_store_explicit(&watch->is_awake, 1, memory_order_seq_cst);
}

static uint64_t parks_total(struct runtime *runtime)
{
    uint64_t parks = 0;
    for (unsigned i = 0; i < runtime->config.workers; i++)
        parks += atomic_load_explicit(&runtime->workers[i].parks, memory_order_relaxed);
    return parks;
}

static void look_around(struct runtime *runtime, struct sighting *seen, uint64_t now)
{
    for (unsigned i = 0; i < runtime->config.workers; i++)
        look_at(runtime, &runtime->workers[i], &seen[i], now);
    if (timers_next_ns(&runtime->timers) <= now - NS_PER_MS ||
        atomic_load_explicit(&runtime->global.count, memory_order_relaxed) > 0 ||
        atomic_load_explicit(&runtime->later.count, memory_order_relaxed) > 0)
        park_wake(runtime, UINT32_MAX);
}

/* Whether something waits that a worker in a turn, should that be stuck, would not come to. */
static bool has_waiting(const struct runtime *runtime)
{
    if (atomic_load_explicit(&runtime->global.count, memory_order_relaxed) > 0)
        return true;
    for (unsigned i = 0; i < runtime->config.workers; i++) {
        if (run_queue_count(&runtime->workers[i].queue) > 0)
            return true;
    }
    return false;
}

/* To the next look. */
static uint64_t interval_ns(const struct runtime *runtime, bool is_resting)
{
    uint64_t interval = WATCH_INTERVAL_ALONE_NS;
    if (is_resting)
        interval = WATCH_INTERVAL_RESTING_NS;
    else if (runtime->config.workers > 1)
        interval = has_waiting(runtime) ? WATCH_INTERVAL_NS : WATCH_INTERVAL_CALM_NS;
    return interval < runtime->config.turn_warn_ns ? interval : runtime->config.turn_warn_ns;
}

static void *watch_main(void *argument)
{
    struct watch *watch = argument;
    struct runtime *runtime = watch->runtime;
    struct sighting seen[WORKERS_MAX] = {0};
    uint64_t parks = UINT64_MAX;
    unsigned quiet_looks = 0;
    while (!atomic_load_explicit(&watch->is_closed, memory_order_seq_cst)) {
        uint64_t parks_now = parks_total(runtime);
        bool is_resting = all_parked(runtime);
        quiet_looks = is_resting && parks_now == parks ? quiet_looks + 1 : 0;
        parks = parks_now;
        if (quiet_looks > QUIET_LOOKS_MAX) {
            sleep_until_needed(watch);
            quiet_looks = 0;
            is_resting = false; /* somebody has just begun, and may be stuck with what waits behind */
        }
        uint64_t now = clock_now_ns();
        look_around(runtime, seen, now);
        park_futex_wait(&watch->is_awake, 1, now + interval_ns(runtime, is_resting));
    }
    return NULL;
}

void watch_ensure(struct watch *watch)
{
    if (__builtin_expect(atomic_load_explicit(&watch->is_awake, memory_order_seq_cst) != 0, 1))
        return;
    if (watch->is_running && atomic_exchange_explicit(&watch->is_awake, 1, memory_order_seq_cst) == 0)
        park_futex_wake(&watch->is_awake);
}

enum weir_error watch_start(struct watch *watch, struct runtime *runtime)
{
    watch->runtime = runtime;
    atomic_store(&watch->is_awake, 1);
    atomic_store(&watch->is_closed, false);
    enum weir_error error = thread_start(&watch->thread, "weir-watch", watch_main, watch);
    watch->is_running = error == WEIR_OK;
    return error;
}

void watch_stop(struct watch *watch)
{
    if (!watch->is_running)
        return;
    atomic_store_explicit(&watch->is_closed, true, memory_order_seq_cst);
    /* Whichever value it waits on, this ends the wait. */
    atomic_store_explicit(&watch->is_awake, 2, memory_order_seq_cst);
    park_futex_wake(&watch->is_awake);
    pthread_join(watch->thread, NULL);
    watch->is_running = false;
}
