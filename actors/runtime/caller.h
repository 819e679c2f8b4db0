/* Who calls into the runtime: a worker, or one of the other threads that share a few locked callers. A
 * caller has the caches to allocate from and the counters to count in; with one in hand, the functions
 * here work the same for both. Only actors/runtime includes this. */
#ifndef ACTORS_RUNTIME_CALLER_H
#define ACTORS_RUNTIME_CALLER_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>

#include "actors/memory/slots.h"
#include "actors/runtime/block.h"

struct runtime;
struct worker;

struct caches {
    struct slots_cache envelopes;
    struct slots_cache labels;
    struct slots_cache actors[ACTOR_CLASSES];
};

/* Written by their caller alone (plain read, relaxed store), summed up by runtime_status. */
struct counters {
    _Atomic uint64_t messages, refused, dead_letters, failures, restarts, spawned, ended;
};

static inline void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

struct caller {
    struct worker *worker; /* NULL for threads that are no workers */
    struct caches caches;  /* its worker, or whoever has the lock */
    uint32_t posts;        /* messages sent; the same; goes around */
    uint32_t laters;       /* caller_schedule_later was called; the same */
    struct counters counters;
    pthread_mutex_t lock; /* taken by threads that are no workers */
};

/* The caller for this thread; leave with caller_leave. A worker's own costs nothing, others take a lock. */
struct caller *caller_enter(struct runtime *runtime);
void caller_leave(struct caller *caller);

/* Gives a caller's cached slots back to the pools. */
void caller_flush(struct runtime *runtime, struct caller *caller);

/* The actor a handle names, NULL when it has ended. The answer may be late: see mailbox.h and orders.h. */
struct actor *actor_find(const struct runtime *runtime, weir_actor handle);
static inline weir_actor actor_handle(const struct actor *actor)
{
    uint64_t generation = atomic_load_explicit(&actor->generation, memory_order_relaxed);
    return (weir_actor){generation << 32 | actor->index};
}
/* Whether that actor still takes messages. May be late too. */
bool actor_is_live(const struct runtime *runtime, weir_actor handle);

/* Sends on the lanes and bounds that flags say: 0 data, ENVELOPE_CONTROL, with ENVELOPE_COMMAND for the
 * runtime's own. WEIR_FULL, WEIR_STALE, WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error caller_post(struct runtime *runtime, struct caller *caller, weir_actor from,
                                          weir_actor to, const struct message *message, uint32_t flags,
                                          uint32_t control_max);

/* Gives an actor that has work a turn: on the caller's worker, else on any. Once per transition from idle. */
void caller_schedule(struct runtime *runtime, struct caller *caller, struct actor *actor);

/* The same for one that has a turn only to tell what it could not tell just now, since the receiver's control lane was
 * full: behind all others, so that a crowd of them tries a batch at a time, as the receiver goes through its lane a
 * batch at a time. Had each its turn in every round, many would try for each that finds room. Workers. */
void caller_schedule_later(struct runtime *runtime, struct caller *caller, struct actor *actor);

/* MESSAGE_EVENT of `from` to `to`, with the bound of the runtime's own messages. */
WEIR_MUST_USE enum weir_error caller_post_event(struct runtime *runtime, struct caller *caller, weir_actor from,
                                                weir_actor to, enum actor_event event, enum weir_error cause,
                                                uint32_t attempts);

#endif
