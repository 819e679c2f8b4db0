/* Workers: where the next actor comes from, and when one worker helps another.
 *
 *   1. An actor that wakes up is queued on the worker that woke it: what talks to each other stays together.
 *   2. A worker takes from another only where that saves time: there is more than one actor to run and a
 *      message there costs more than carrying it over (CROSSING_NS); or the other has been in one turn for
 *      STUCK_NS, and whatever waits behind it goes at once. Otherwise cheap messages would be spread, and each
 *      would wait for cache lines longer than it takes to handle.
 *      For the same reason other threads wake nobody while a worker with cheap messages is awake to take what
 *      they queue.
 *   3. A worker with too much wakes one that sleeps and leaves it a note (wants_help), since by the time
 *      that one looks, the queue may be short for a moment.
 *
 * The clock is read between turns, once for a batch of them of some microseconds; costs come from that. */
#include "actors/runtime/worker.h"

#include "actors/base/clock.h"
#include "actors/runtime/ahead.h"
#include "actors/runtime/orders.h"
#include "actors/runtime/park.h"
#include "actors/runtime/state.h"

/* Dearer is as dear; so the average comes down soon when work gets cheap again. */
#define COST_MAX_NS (20 * CROSSING_NS)
/* A turn that lasts this long leaves what waits behind it to others. */
#define STUCK_NS (100 * NS_PER_US)
/* Turns of a guest between two looks at how long it has been there. */
#define GUEST_LOOK_TURNS 4
/* Between two looks at the clock. */
#define CLOCK_BATCH_NS (2 * NS_PER_US)
#define CLOCK_TURNS_MAX 64
/* Turns between two looks at the global list, as in Go: not a power of two, so that it falls into no step. */
#define GLOBAL_TURNS 61
#define GLOBAL_BATCH_MAX RUN_BATCH_MAX
/* Taken by a worker that has enough to do: about as many as its own have had since. */
#define GLOBAL_BATCH_BUSY 32
/* A worker that read its clock this recently has short turns and comes by the global list in a moment. */
#define ATTENDED_NS (20 * NS_PER_US)
/* A longer global list is more than one worker keeps up with. */
#define GLOBAL_ATTENDED_MAX 64

static _Thread_local struct worker *worker_self;

struct worker *worker_current(const struct runtime *runtime)
{
    struct worker *worker = worker_self;
    return worker && worker->runtime == runtime ? worker : NULL;
}

struct worker *worker_enter(struct worker *worker)
{
    struct worker *before = worker_self;
    worker_self = worker;
    return before;
}

void worker_init(struct worker *worker, struct runtime *runtime, unsigned index)
{
    worker->caller.worker = worker;
    pthread_mutex_init(&worker->caller.lock, NULL);
    worker->runtime = runtime;
    worker->index = index;
    worker->random = index + 1;
    worker->help_from = HELP_FROM;
    worker->clock_turns = 1;
    worker->clock_left = 1;
    worker->turn.runtime = runtime;
    worker->turn.worker = worker;
    run_queue_init(&worker->queue, runtime->config.workers > 1);
}

void worker_fini(struct worker *worker)
{
    run_queue_fini(&worker->queue);
    pthread_mutex_destroy(&worker->caller.lock);
}

bool worker_is_worth_helping(const struct worker *worker)
{
    uint32_t count = run_queue_count(&worker->queue);
    if (count == 0)
        return false;
    if (atomic_load_explicit(&worker->wants_help, memory_order_relaxed))
        return true;
    if (count > 1 && atomic_load_explicit(&worker->cost_ns, memory_order_relaxed) >= CROSSING_NS)
        return true;
    uint64_t clock = atomic_load_explicit(&worker->clock_ns, memory_order_relaxed);
    return clock != 0 && clock + STUCK_NS < clock_now_ns();
}

bool worker_attends_global(struct runtime *runtime)
{
    /* Sequentially consistent after the push: a worker that is not parked here looks at the list before it
     * sleeps (park.h), so the answer decides how soon the list is served, not whether. */
    uint64_t parked = atomic_load_explicit(&runtime->parked, memory_order_seq_cst);
    if (parked == 0)
        return true;
    if (atomic_load_explicit(&runtime->global.count, memory_order_relaxed) > GLOBAL_ATTENDED_MAX)
        return false;
    uint64_t now = 0;
    for (unsigned i = 0; i < runtime->config.workers; i++) {
        const struct worker *worker = &runtime->workers[i];
        if (parked & (UINT64_C(1) << i))
            continue;
        uint64_t clock = atomic_load_explicit(&worker->clock_ns, memory_order_relaxed);
        if (clock == 0)
            return true; /* just waking, or about to look */
        if (atomic_load_explicit(&worker->cost_ns, memory_order_relaxed) >= CROSSING_NS)
            continue;
        now = now ? now : clock_now_ns();
        if (clock + ATTENDED_NS > now)
            return true;
    }
    return false;
}

void worker_call_for_help(struct worker *worker)
{
    struct runtime *runtime = worker->runtime;
    if (atomic_load_explicit(&runtime->parked, memory_order_relaxed) == 0)
        return;
    atomic_store_explicit(&worker->wants_help, true, memory_order_relaxed);
    park_wake(runtime, UINT32_MAX);
}

static void clock_begin(struct worker *worker, uint64_t now_ns)
{
    atomic_store_explicit(&worker->clock_ns, now_ns, memory_order_relaxed);
    worker->clock_messages = atomic_load_explicit(&worker->caller.counters.messages, memory_order_relaxed);
    worker->clock_left = worker->clock_turns;
}

/* A batch of turns is over: what did a message cost, and is a timer due? */
static void clock_tick(struct worker *worker)
{
    struct runtime *runtime = worker->runtime;
    uint64_t now = clock_now_ns();
    uint64_t elapsed = now - atomic_load_explicit(&worker->clock_ns, memory_order_relaxed);
    uint32_t turns = worker->clock_turns - worker->clock_left;
    uint64_t messages =
        atomic_load_explicit(&worker->caller.counters.messages, memory_order_relaxed) - worker->clock_messages;
    counter_add(&worker->busy_ns, elapsed);
    if (turns > 0) {
        uint64_t cost = elapsed / (messages > turns ? messages : turns);
        uint64_t before = atomic_load_explicit(&worker->cost_ns, memory_order_relaxed);
        /* A batch during which the system ran somebody else looks dear: one alone must not count for much. */
        uint64_t most = before * 2 + CROSSING_NS / 2;
        uint64_t mean = (before * 7 + (cost > most ? most : cost)) / 8;
        atomic_store_explicit(&worker->cost_ns, mean > COST_MAX_NS ? COST_MAX_NS : (uint32_t)mean,
                              memory_order_relaxed);
        uint64_t fit = turns * CLOCK_BATCH_NS / (elapsed + 1);
        worker->clock_turns = fit < 1 ? 1 : fit > CLOCK_TURNS_MAX ? CLOCK_TURNS_MAX : (uint32_t)fit;
    }
    clock_begin(worker, now);
    if (__builtin_expect(timers_next_ns(&runtime->timers) <= now, 0)) {
        timers_fire(runtime, &worker->caller, now, elapsed);
        /* Busy, but not with turns: neither their cost nor the next look's measure. */
        uint64_t after = clock_now_ns();
        counter_add(&worker->busy_ns, after - now);
        clock_begin(worker, after);
    }
}

/* Takes a fair part of what other threads have scheduled: one actor to run, the others into the ring. */
static struct actor *global_take(struct worker *worker, uint32_t max)
{
    struct runtime *runtime = worker->runtime;
    struct actor *batch[GLOBAL_BATCH_MAX];
    uint32_t waiting = atomic_load_explicit(&runtime->global.count, memory_order_relaxed);
    if (waiting == 0)
        return NULL;
    uint32_t share = waiting / runtime->config.workers + 1;
    if (share > max)
        share = max;
    uint32_t count = actor_list_take(&runtime->global, batch, share);
    for (uint32_t i = 1; i < count; i++)
        worker_queue(worker, batch[i]);
    return count ? batch[0] : NULL;
}

/* Takes some of those that try again to tell what they could not, into the ring. */
static void later_take(struct worker *worker, uint32_t max)
{
    struct runtime *runtime = worker->runtime;
    struct actor *batch[GLOBAL_BATCH_MAX];
    if (atomic_load_explicit(&runtime->later.count, memory_order_relaxed) == 0)
        return;
    uint32_t count = actor_list_take(&runtime->later, batch, max);
    worker->later_taken = count;
    worker->later_before = worker->caller.laters;
    for (uint32_t i = 0; i < count; i++)
        worker_queue(worker, batch[i]);
}

/* The same for a worker that has nothing else to do. Where most of the last ones came back it takes none, once. */
static void later_take_idle(struct worker *worker)
{
    uint32_t back = worker->caller.laters - worker->later_before;
    worker->is_later_barren = worker->later_taken > 0 && back >= (worker->later_taken + 1) / 2;
    worker->later_taken = 0;
    if (!worker->is_later_barren)
        later_take(worker, GLOBAL_BATCH_MAX);
}

static struct actor *steal(struct worker *worker)
{
    struct runtime *runtime = worker->runtime;
    unsigned workers = runtime->config.workers;
    worker->random = worker->random * UINT64_C(6364136223846793005) + 1;
    unsigned first = (unsigned)((worker->random >> 33) % workers);
    for (unsigned i = 0; i < workers; i++) {
        struct worker *victim = &runtime->workers[(first + i) % workers];
        if (victim == worker || !worker_is_worth_helping(victim))
            continue;
        atomic_store_explicit(&victim->wants_help, false, memory_order_relaxed);
        if (run_queue_steal(&worker->queue, &victim->queue) > 0) {
            counter_add(&worker->steals, 1);
            return run_queue_pop(&worker->queue);
        }
    }
    return NULL;
}

static struct actor *worker_next(struct worker *worker)
{
    struct actor *actor;
    if (++worker->turns_since_global >= GLOBAL_TURNS) {
        worker->turns_since_global = 0;
        later_take(worker, GLOBAL_BATCH_BUSY);
        if ((actor = global_take(worker, GLOBAL_BATCH_BUSY)) != NULL)
            return actor;
    }
    if ((actor = run_queue_pop(&worker->queue)) != NULL) {
        ahead_turns(worker);
        return actor;
    }
    if ((actor = global_take(worker, GLOBAL_BATCH_MAX)) != NULL)
        return actor;
    clock_tick(worker);
    if ((actor = run_queue_pop(&worker->queue)) != NULL || (actor = steal(worker)) != NULL)
        return actor;
    later_take_idle(worker);
    return run_queue_pop(&worker->queue);
}

static void worker_turn(struct worker *worker, struct actor *actor)
{
    turn_run(worker, actor, worker->runtime->config.turn_max);
    if (--worker->clock_left == 0)
        clock_tick(worker);
}

bool worker_run_one(struct worker *worker)
{
    struct actor *actor = worker_next(worker);
    if (!actor)
        return false;
    worker_turn(worker, actor);
    return true;
}

bool worker_run_some(struct worker *worker, uint32_t turns_max, uint64_t time_max_ns)
{
    struct actor *actor;
    uint64_t begin = clock_now_ns();
    clock_begin(worker, begin);
    for (uint32_t i = 0; i < turns_max && (actor = run_queue_pop(&worker->queue)) != NULL; i++) {
        worker_turn(worker, actor);
        if (i % GUEST_LOOK_TURNS == GUEST_LOOK_TURNS - 1 && clock_now_ns() - begin > time_max_ns)
            break;
    }
    clock_tick(worker);
    atomic_store_explicit(&worker->running, NULL, memory_order_relaxed);
    atomic_store_explicit(&worker->clock_ns, 0, memory_order_relaxed);
    return run_queue_count(&worker->queue) > 0;
}

void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct runtime *runtime = worker->runtime;
    worker_enter(worker);
    clock_begin(worker, clock_now_ns());
    while (!atomic_load_explicit(&runtime->is_closed, memory_order_relaxed)) {
        struct actor *actor = worker_next(worker);
        if (actor) {
            worker_turn(worker, actor);
            continue;
        }
        uint64_t now = atomic_load_explicit(&worker->clock_ns, memory_order_relaxed); /* read just now, worker_next */
        worker->is_unrested = arena_thread_rest(runtime->config.arena, now);
        atomic_store_explicit(&worker->running, NULL, memory_order_relaxed);
        atomic_store_explicit(&worker->clock_ns, 0, memory_order_relaxed);
        park_wait(worker);
        clock_begin(worker, clock_now_ns());
    }
    worker_enter(NULL);
    caller_flush(runtime, &worker->caller);
    arena_thread_flush(runtime->config.arena);
    return NULL;
}
