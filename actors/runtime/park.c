/* Parking. See park.h for the protocol. Called by workers that ran out of work, and by anyone who has some. */
#include "actors/runtime/park.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "actors/base/clock.h"
#include "actors/runtime/state.h"

/* A worker sleeps no longer while there is somebody who could not tell something. It tries a batch of them then: one
 * percent of a processor, and little beside what a supervisor with 64,000 messages unread takes for them. */
#define LATER_RETRY_NS NS_PER_MS

void park_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns)
{
    struct timespec at = {.tv_sec = (time_t)(deadline_ns / NS_PER_S), .tv_nsec = (long)(deadline_ns % NS_PER_S)};
    /* WAIT_BITSET takes an absolute time of the monotonic clock. Errors are all reasons to look again. */
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected, deadline_ns == UINT64_MAX ? NULL : &at, NULL,
            FUTEX_BITSET_MATCH_ANY);
}

void park_futex_wake(_Atomic uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }

static uint64_t worker_bit(const struct worker *worker) { return UINT64_C(1) << worker->index; }

/* The second look: everything that others queue without waking a worker that is not parked yet. is_later_barren: it has
 * just tried those that could not tell something, and is to sleep a while (LATER_RETRY_NS). */
static bool has_work(struct worker *worker, bool is_later_barren)
{
    struct runtime *runtime = worker->runtime;
    if (atomic_load_explicit(&runtime->global.count, memory_order_seq_cst) > 0)
        return true;
    if (!is_later_barren && atomic_load_explicit(&runtime->later.count, memory_order_seq_cst) > 0)
        return true;
    if (atomic_load_explicit(&runtime->is_closed, memory_order_seq_cst))
        return true;
    for (unsigned i = 0; i < runtime->config.workers; i++) {
        if (i != worker->index && worker_is_worth_helping(&runtime->workers[i]))
            return true;
    }
    return false;
}

static void token_take(struct worker *worker)
{
    /* Acquire: what the waker queued before. */
    while (atomic_exchange_explicit(&worker->token, 0, memory_order_acquire) == 0)
        park_futex_wait(&worker->token, 0, UINT64_MAX);
}

static void token_give(struct worker *worker)
{
    atomic_store_explicit(&worker->token, 1, memory_order_release);
    park_futex_wake(&worker->token);
}

/* The worker is awake and its bit was gone: whoever has it gives the token or, where it was borrowed, may have set the
 * bit again by now. */
static void place_await(struct worker *worker, uint64_t bit)
{
    /* Sequentially consistent, all four: this store then this look, there the bit then the look at this. */
    atomic_store_explicit(&worker->is_awaited, true, memory_order_seq_cst);
    if (!(atomic_fetch_and_explicit(&worker->runtime->parked, ~bit, memory_order_seq_cst) & bit))
        token_take(worker);
    atomic_store_explicit(&worker->is_awaited, false, memory_order_relaxed);
}

/* Sleeps until the token or the deadline comes. */
static void token_wait(struct worker *worker, uint64_t deadline_ns)
{
    /* Sequentially consistent, as all about the office of the timekeeper: see sleeps_too_long. */
    atomic_store_explicit(&worker->sleeps_until_ns, deadline_ns, memory_order_seq_cst);
    if (atomic_load_explicit(&worker->token, memory_order_acquire) == 0)
        park_futex_wait(&worker->token, 0, deadline_ns);
}

void park_wait(struct worker *worker)
{
    struct runtime *runtime = worker->runtime;
    uint64_t bit = worker_bit(worker);
    atomic_fetch_or_explicit(&runtime->parked, bit, memory_order_seq_cst);
    if (!has_work(worker, worker->is_later_barren)) {
        uint32_t nobody = 0;
        bool keeps_time = atomic_compare_exchange_strong_explicit(&runtime->timekeeper, &nobody, worker->index + 1,
                                                                  memory_order_seq_cst, memory_order_relaxed);
        /* Read after taking the office: a timer armed since then finds the keeper and wakes it. */
        uint64_t deadline = keeps_time ? timers_next_ns(&runtime->timers) : UINT64_MAX;
        if (worker->is_later_barren) {
            uint64_t retry = clock_now_ns() + LATER_RETRY_NS;
            deadline = retry < deadline ? retry : deadline;
        }
        if (worker->is_unrested) {
            uint64_t rest = clock_now_ns() + ARENA_REST_NS;
            deadline = rest < deadline ? rest : deadline;
        }
        token_wait(worker, deadline);
        if (keeps_time)
            atomic_store_explicit(&runtime->timekeeper, 0, memory_order_seq_cst);
    }
    uint64_t parked = atomic_fetch_and_explicit(&runtime->parked, ~bit, memory_order_seq_cst);
    if (!(parked & bit))
        place_await(worker, bit);
    counter_add(&worker->parks, 1);
    watch_ensure(&runtime->watch);
}

static bool wake(struct runtime *runtime, unsigned index)
{
    uint64_t bit = UINT64_C(1) << index;
    if (!(atomic_fetch_and_explicit(&runtime->parked, ~bit, memory_order_seq_cst) & bit))
        return false;
    token_give(&runtime->workers[index]);
    return true;
}

bool park_wake(struct runtime *runtime, unsigned preferred)
{
    uint64_t parked = atomic_load_explicit(&runtime->parked, memory_order_seq_cst);
    if (parked == 0)
        return false;
    if (preferred < 64 && (parked & (UINT64_C(1) << preferred)) && wake(runtime, preferred))
        return true;
    while ((parked = atomic_load_explicit(&runtime->parked, memory_order_seq_cst)) != 0) {
        if (wake(runtime, (unsigned)__builtin_ctzll(parked)))
            return true;
    }
    return false;
}

void park_wake_all(struct runtime *runtime)
{
    while (park_wake(runtime, 0))
        continue;
}

void park_timer_moved(struct runtime *runtime)
{
    uint32_t keeper = atomic_load_explicit(&runtime->timekeeper, memory_order_seq_cst);
    if (keeper)
        wake(runtime, keeper - 1);
}

/* Whether the sleeping thread keeps time by a deadline that is no longer the next one: while its place was borrowed,
 * park_timer_moved could not wake it. A deadline it has not published yet counts as too late: one wake-up for nothing.
 */
static bool sleeps_too_long(struct worker *worker)
{
    struct runtime *runtime = worker->runtime;
    return atomic_load_explicit(&runtime->timekeeper, memory_order_seq_cst) == worker->index + 1 &&
           timers_next_ns(&runtime->timers) < atomic_load_explicit(&worker->sleeps_until_ns, memory_order_seq_cst);
}

struct worker *park_borrow(struct runtime *runtime)
{
    uint64_t parked;
    while ((parked = atomic_load_explicit(&runtime->parked, memory_order_seq_cst)) != 0) {
        unsigned index = (unsigned)__builtin_ctzll(parked);
        uint64_t bit = UINT64_C(1) << index;
        /* Acquires what the worker, or the last borrower, released with the bit: the whole of struct worker. */
        if (atomic_fetch_and_explicit(&runtime->parked, ~bit, memory_order_seq_cst) & bit)
            return &runtime->workers[index];
    }
    return NULL;
}

void park_give_back(struct worker *worker, bool has_work_queued)
{
    struct runtime *runtime = worker->runtime;
    if (has_work_queued) {
        token_give(worker);
        return;
    }
    atomic_fetch_or_explicit(&runtime->parked, worker_bit(worker), memory_order_seq_cst);
    if (atomic_load_explicit(&worker->is_awaited, memory_order_seq_cst) || sleeps_too_long(worker) ||
        has_work(worker, false))
        wake(runtime, worker->index);
}
