/* Sleeping and waking of workers without lost wake-ups and without polling, but for one thing (5).
 *
 *   1. A worker that finds nothing sets its bit in runtime.parked, then looks once more at what others may
 *      have queued for it, then sleeps on its token.
 *   2. Whoever queues work where a sleeping worker must find it (the global list, the timers) makes it
 *      visible first and reads runtime.parked after. All four steps are sequentially consistent: either the
 *      worker sees the work or the other sees the bit.
 *   3. Who clears a bit owes that worker a token; nobody else may give one. So tokens never pile up, and a
 *      worker whose bit is gone when it wakes by itself waits for the token that is on its way.
 *
 *   4. A thread that is no worker may borrow a sleeper's place (guest.c): it clears the bit as a waker does, and is
 * that worker for some turns while its thread sleeps on. It owes the token, if it leaves work behind, or else the bit:
 *      it sets it again in the sleeper's name, and then looks once more as in 1. A worker that woke by itself and finds
 *      its bit gone first says that it waits (is_awaited), then looks for the bit a second time: either it finds the
 *      bit there, or the borrower sees that it is awaited and wakes it.
 *
 *   5. Who could not tell somebody something, since that one's control lane is full, waits in runtime.later, and nobody
 *      says when there is room: it would take a look at that list after each turn. The worker that put it there tries
 *      again when it has nothing else to do, and where that is in vain sleeps a millisecond at a time meanwhile.
 *
 * Work on a worker's own queue needs none of this: its owner is awake. Waking another one for it is a
 * matter of speed (worker_is_worth_helping), and the watcher catches what that misses. */
#ifndef ACTORS_RUNTIME_PARK_H
#define ACTORS_RUNTIME_PARK_H

#include <stdbool.h>
#include <stdint.h>

struct runtime;
struct worker;

/* Sleeps until woken, until the next timer is due (if no other worker sleeps for that one), or not at all
 * when work has come meanwhile. Worker threads. */
void park_wait(struct worker *worker);

/* Wakes one parked worker, the preferred one where it is parked; false when none was. Any thread. */
bool park_wake(struct runtime *runtime, unsigned preferred);
void park_wake_all(struct runtime *runtime);

/* The next timer is now earlier than before: whoever sleeps for it must sleep less. Any thread. */
void park_timer_moved(struct runtime *runtime);

/* Takes over the place of a parked worker, whose thread sleeps on; NULL when none is parked. Not for workers. */
struct worker *park_borrow(struct runtime *runtime);
/* And back. has_work_queued: its own thread is to go on with what is queued there. */
void park_give_back(struct worker *worker, bool has_work_queued);

/* Futex wait while *word is expected, until deadline_ns on the monotonic clock (UINT64_MAX: for ever);
 * may return early. And its wake-up of one waiter. */
void park_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns);
void park_futex_wake(_Atomic uint32_t *word);

#endif
