/* The runtime's own state. Only actors/runtime includes this. */
#ifndef ACTORS_RUNTIME_STATE_H
#define ACTORS_RUNTIME_STATE_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "actors/base/limits.h"
#include "actors/memory/slots.h"
#include "actors/runtime/blocking.h"
#include "actors/runtime/registry.h"
#include "actors/runtime/runtime.h"
#include "actors/runtime/simulate.h"
#include "actors/runtime/timers.h"
#include "actors/runtime/watch.h"
#include "actors/runtime/worker.h"

/* Threads that are no workers share these; a few, so that they seldom meet. */
enum { CALLERS_FOREIGN = 8 };

/* Actors of a class, two lines a turn each, that are more than a first-level cache holds. */
#define CROWD_FROM 1024

#define RUNTIME_MAGIC UINT32_C(0x77656972)

/* What a handle is looked up by: its class's slots. */
struct actor_class {
    char *base; /* slot 0 of its pool; this and the size: constant */
    uint32_t slot_size;
    /* Highest slot in use so far; any spawner raises it (relaxed: who has a handle learnt it from a spawn), lookups
     * check handles by it, and runtime_stop goes up to it. */
    _Atomic uint32_t slot_last;
};

struct runtime {
    uint32_t magic;

    /* Constant after runtime_create. */
    struct runtime_config config;   /* zeros replaced by the defaults */
    struct envelope *envelope_base; /* slot 0 of the pool below */
    struct slots *envelopes;
    struct slots *labels;
    struct slots *actors[ACTOR_CLASSES];
    struct worker *workers; /* config.workers of them; simulated: one */
    struct caller foreign[CALLERS_FOREIGN];

    struct actor_class classes[ACTOR_CLASSES];
    /* There were once more actors of a class than the nearest caches hold (CROWD_FROM). Set by a spawner, read by
     * turns; relaxed, a hint. */
    _Atomic bool is_crowd;

    struct actor_list global; /* actors scheduled by threads that are no workers */
    struct actor_list later;  /* actors that could not tell somebody something: caller_schedule_later */

    /* A bit for each parked worker. A worker sets its own, a waker clears it: who clears it owes the token. */
    alignas(64) _Atomic uint64_t parked;
    _Atomic uint32_t timekeeper; /* 1 + the parked worker that sleeps until the next timer; 0 none */

    _Atomic bool is_stopping;    /* runtime_stop began: no new actors */
    _Atomic bool is_closed;      /* no actor is left: workers end */
    bool is_started, is_stopped; /* the owner's thread only */
    pthread_mutex_t stop_lock;
    pthread_cond_t stop_ended; /* an actor ended while stopping */

    struct timers timers;
    struct blocking blocking;
    struct registry registry;
    struct watch watch;
    struct simulation simulation;
};

static inline struct envelope *envelope_at(const struct runtime *runtime, uint32_t index)
{
    return runtime->envelope_base + index;
}

/* Envelopes that a caller keeps: those of a full mailbox, and more than one turn may send, so that where sender and
 * receivers run on one worker they need not trade them with the pool, which is a lock and a walk along a chain for each
 * SLOTS_BATCH. 68 KiB a worker. */
#define ENVELOPES_CACHED (MAILBOX_MAX_DEFAULT + SLOTS_BATCH)

/* Gives an envelope back, whose message holds nothing any more. */
static inline void envelope_free(struct runtime *runtime, struct caller *caller, uint32_t index)
{
    struct slots_cache *cache = &caller->caches.envelopes;
    if (__builtin_expect(cache->count >= ENVELOPES_CACHED, 0))
        slots_spill(runtime->envelopes, cache);
    slots_cache_push(cache, index, envelope_at(runtime, index));
}

/* An actor has ended: runtime_stop may be waiting for it. Its worker. */
void runtime_note_ended(struct runtime *runtime, struct caller *caller);

/* Actors that were spawned and have not ended. Any thread; exact once nobody spawns or ends. */
size_t runtime_actors(const struct runtime *runtime);

#endif
