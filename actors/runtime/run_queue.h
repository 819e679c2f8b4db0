/* A worker's queue of actors that have a turn coming: first in, first out. A ring that others may steal
 * from, and behind it an overflow list, so that it never refuses. */
#ifndef ACTORS_RUNTIME_RUN_QUEUE_H
#define ACTORS_RUNTIME_RUN_QUEUE_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#include "actors/runtime/block.h"

/* A ring's length: enough that the overflow list and its lock are met by crowds of actors only. */
#define RUN_RING_SIZE UINT32_C(256)

/* An intrusive list of actors under a lock. */
struct actor_list {
    pthread_mutex_t lock;
    struct actor *first, *last; /* under the lock */
    _Atomic uint32_t count;     /* written under the lock, read by anyone; see park.h for the order it needs */
};

void actor_list_init(struct actor_list *list);
void actor_list_fini(struct actor_list *list);
void actor_list_push(struct actor_list *list, struct actor *actor);
/* Moves up to max actors, oldest first, to out; returns how many. */
uint32_t actor_list_take(struct actor_list *list, struct actor **out, uint32_t max);

struct run_queue {
    /* Next to pop; the owner and thieves swap it (acq_rel), so that each entry has one taker. */
    alignas(64) _Atomic uint32_t head;
    /* Next to fill; the owner alone stores it (release, pairs with the acquire of thieves). */
    alignas(64) _Atomic uint32_t tail;
    _Atomic(struct actor *) ring[RUN_RING_SIZE]; /* relaxed; head and tail order them */
    struct actor_list overflow;                  /* pushed by the owner, taken by owner and thieves */
};

void run_queue_init(struct run_queue *queue);
void run_queue_fini(struct run_queue *queue);

/* Owner only. Returns how many wait now, this one included (the ring's part of them). */
uint32_t run_queue_push(struct run_queue *queue, struct actor *actor);
/* Owner only; NULL when empty. */
struct actor *run_queue_pop(struct run_queue *queue);
/* The actor that is `ahead` places behind the next one, NULL when there is none: a hint, it may be gone by
 * now (its memory is type-stable). Owner only. */
static inline struct actor *run_queue_peek(const struct run_queue *queue, uint32_t ahead)
{
    uint32_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);
    uint32_t count = atomic_load_explicit(&queue->tail, memory_order_relaxed) - head;
    if (ahead >= count)
        return NULL;
    return atomic_load_explicit(&queue->ring[(head + ahead) % RUN_RING_SIZE], memory_order_relaxed);
}
/* Moves about half of the victim's ring, or a part of its overflow, into the thief's ring, which is empty.
 * The thief's owner only. Returns how many. */
uint32_t run_queue_steal(struct run_queue *thief, struct run_queue *victim);
/* How many wait, as it is about now. Any thread. */
uint32_t run_queue_count(const struct run_queue *queue);

#endif
