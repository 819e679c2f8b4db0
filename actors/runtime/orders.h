/* Orders to an actor: stop, run on, look at your control lane. One atomic word beside the mailbox, so that
 * stopping and restarting need no memory and cannot be refused.
 *
 *   bits 63 to 32 generation, 31 to 24 cause of a stop, 23 to 8 incident (failures so far), 7 to 0 flags
 *
 * An order is a swap that checks the generation, so it never reaches the slot's next actor. A suspended
 * actor is in no queue; whoever clears SUSPENDED (one swap, so exactly one) schedules it. A stop of an
 * actor that is not suspended sets the flag first and then counts a token in its mailbox: if the actor went
 * idle in between, the token wakes it; if not, it sees the flag in a turn that is coming anyway. */
#ifndef ACTORS_RUNTIME_ORDERS_H
#define ACTORS_RUNTIME_ORDERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "actors/runtime/block.h"

#define ORDER_STOP UINT64_C(1)
#define ORDER_RESTART UINT64_C(2)
#define ORDER_SUSPENDED UINT64_C(4)
#define ORDER_ATTENTION UINT64_C(8) /* control may wait; a hint, for the worker between two messages */
#define ORDER_INCIDENT_ONE (UINT64_C(1) << 8)
#define ORDER_INCIDENT_MASK UINT64_C(0xffff00)
#define ORDER_CAUSE_SHIFT 24
#define ORDER_CAUSE_MASK UINT64_C(0xff000000)

static inline uint64_t orders_of_generation(uint32_t generation) { return (uint64_t)generation << 32; }
static inline uint32_t orders_generation(uint64_t orders) { return (uint32_t)(orders >> 32); }
static inline uint32_t orders_incident(uint64_t orders) { return (uint32_t)(orders >> 8) & 0xffff; }
static inline enum weir_error orders_cause(uint64_t orders)
{
    return (enum weir_error)((orders & ORDER_CAUSE_MASK) >> ORDER_CAUSE_SHIFT);
}

struct runtime;
struct caller;

/* Any thread. WEIR_STALE. */
WEIR_MUST_USE enum weir_error orders_stop(struct runtime *runtime, struct caller *caller, weir_actor to,
                                          enum weir_error cause);

/* incident: only if that is its latest failure; ORDERS_ANY_INCIDENT: whichever it is. Any thread. WEIR_STALE. */
#define ORDERS_ANY_INCIDENT UINT32_MAX
WEIR_MUST_USE enum weir_error orders_restart(struct runtime *runtime, struct caller *caller, weir_actor to,
                                             uint32_t incident);

/* A failure has happened: a new incident; earlier restart orders are void. Its worker. */
void orders_begin_incident(struct actor *actor);

/* Suspends the actor unless an order is there already. True: suspended, the caller may no longer touch it.
 * False: it has orders, and runs on. Its worker. */
bool orders_suspend(struct actor *actor);

/* Takes the attention flag. Its worker. */
static inline void orders_attend(struct actor *actor)
{
    atomic_fetch_and_explicit(&actor->orders, ~ORDER_ATTENTION, memory_order_relaxed);
}

/* Sets it, after a control push to an actor that was not idle. Any thread. On a slot that serves another
 * actor by now it costs that one a look. Relaxed: the mailbox's counts are what is relied on. */
static inline void orders_call(struct actor *actor)
{
    if (!(atomic_load_explicit(&actor->orders, memory_order_relaxed) & ORDER_ATTENTION))
        atomic_fetch_or_explicit(&actor->orders, ORDER_ATTENTION, memory_order_relaxed);
}

#endif
