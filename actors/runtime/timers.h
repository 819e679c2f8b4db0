/* Timers: a heap by deadline, under one lock. Armed and cancelled from any thread; fired by whichever
 * worker sees that one is due: a parked one that sleeps until then, or a busy one between two turns. */
#ifndef ACTORS_RUNTIME_TIMERS_H
#define ACTORS_RUNTIME_TIMERS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "actors/memory/slots.h"
#include "actors/runtime/block.h"
#include "actors/runtime/runtime.h"

struct caller;

struct timer_entry {
    uint64_t deadline_ns;
    uint32_t timer; /* slot */
};

struct timers {
    pthread_mutex_t lock; /* for everything below but next_ns */
    struct slots *slots;
    struct slots_cache cache;
    struct timer_entry *heap; /* 4 children each; heap[0] is due first; into the block below */
    struct timer_entry *heap_memory;
    uint32_t count, capacity;
    /* Where in the heap each slot's timer is. Beside the slots, as a step in the heap moves one of these: sixteen to a
     * cache line, while the slots of a million timers are in no cache. */
    uint32_t *positions;
    uint32_t positions_count;
    uint32_t live;      /* armed, or fired and not handled yet */
    uint32_t slot_last; /* highest slot used so far: handles beyond it are made up */
    /* Deadline of heap[0], UINT64_MAX for none. Written under the lock (sequentially consistent, see
     * park.h), read by workers at will. */
    _Atomic uint64_t next_ns;
};

WEIR_MUST_USE enum weir_error timers_init(struct timers *timers, struct arena *arena);
void timers_fini(struct timers *timers);

static inline uint64_t timers_next_ns(const struct timers *timers)
{
    return atomic_load_explicit(&timers->next_ns, memory_order_seq_cst);
}

/* Sends the messages of timers that are due: of a few at least, and of more only in proportion to what the caller has
 * spent on turns since its last look (spent_ns), so that a crowd of due timers does not keep actors waiting. The rest
 * are due still when it next looks. Any thread with a caller. */
void timers_fire(struct runtime *runtime, struct caller *caller, uint64_t now_ns, uint64_t spent_ns);

/* A timer's message is about to be handled: false when it was cancelled meanwhile. actor: whose it is, on its
 * worker. */
bool timers_claim(struct timers *timers, struct actor *actor, uint64_t timer);

/* Ends an actor's timers; it is closed already. The actor's worker. */
void timers_end_actor(struct timers *timers, struct actor *actor);

/* Restarts a suspended actor later, if it is that incident still. Ends with the actor, as all timers. */
WEIR_MUST_USE enum weir_error timers_restart_later(struct runtime *runtime, weir_actor actor, uint32_t incident,
                                                   uint64_t delay_ns);

#endif
