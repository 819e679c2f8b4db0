/* A worker's queue of actors that have a turn coming: first in, first out. A ring that others may steal
 * from, and behind it an overflow list, so that it never refuses. */
#ifndef ACTORS_RUNTIME_RUN_QUEUE_H
#define ACTORS_RUNTIME_RUN_QUEUE_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "actors/runtime/block.h"

/* A ring's length: enough that a message to each of some thousand actors does not meet the overflow list and its lock;
 * 32 KiB a worker. */
#define RUN_RING_SIZE UINT32_C(4096)
/* Actors that change queues at once, by a steal or from a list: so many that the lock or the swap does not count. */
#define RUN_BATCH_MAX UINT32_C(128)

/* Chains of an actor list: so many misses at a time its taker can wait for. */
#define ACTOR_LIST_CHAINS 16

/* An intrusive list of actors under a lock: it takes any number and needs no memory. Who takes from it finds each actor
 * by what the one before says, and among very many actors that is a wait for memory each. So the list is dealt out,
 * like cards, to chains that know nothing of each other: the order is one list's, and a processor follows all at once.
 */
struct actor_list {
    pthread_mutex_t lock;
    /* Under the lock. */
    struct {
        struct actor *first, *last;
    } chains[ACTOR_LIST_CHAINS];
    uint32_t pushed, taken; /* ever; they go around, and say whose turn it is */
    _Atomic uint32_t count; /* written under the lock, read by anyone; see park.h for the order it needs */
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
    bool is_shared;                              /* there are other workers, who may steal; constant */
};

void run_queue_init(struct run_queue *queue, bool is_shared);
void run_queue_fini(struct run_queue *queue);

/* Owner only. Returns how many wait now, this one included (the ring's part of them). */
static inline uint32_t run_queue_push(struct run_queue *queue, struct actor *actor)
{
    uint32_t tail = atomic_load_explicit(&queue->tail, memory_order_relaxed);
    /* Acquire: the taker of the entry we overwrite has read it. */
    uint32_t count = tail - atomic_load_explicit(&queue->head, memory_order_acquire);
    /* Whoever comes after the overflow list has begun queues behind it, or order would be lost. */
    if (__builtin_expect(
            count == RUN_RING_SIZE || atomic_load_explicit(&queue->overflow.count, memory_order_relaxed) > 0, 0)) {
        actor_list_push(&queue->overflow, actor);
        return count + 1;
    }
    atomic_store_explicit(&queue->ring[tail % RUN_RING_SIZE], actor, memory_order_relaxed);
    atomic_store_explicit(&queue->tail, tail + 1, memory_order_release);
    return count + 1;
}
/* The ring is empty: takes from the overflow list; NULL when that is empty, too. For run_queue_pop. */
struct actor *run_queue_refill(struct run_queue *queue);

/* Owner only; NULL when empty. */
static inline struct actor *run_queue_pop(struct run_queue *queue)
{
    uint32_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(&queue->tail, memory_order_relaxed);
    while (head != tail) {
        struct actor *actor = atomic_load_explicit(&queue->ring[head % RUN_RING_SIZE], memory_order_relaxed);
        if (!queue->is_shared) { /* nobody to race with */
            atomic_store_explicit(&queue->head, head + 1, memory_order_relaxed);
            return actor;
        }
        if (atomic_compare_exchange_weak_explicit(&queue->head, &head, head + 1, memory_order_acq_rel,
                                                  memory_order_relaxed))
            return actor;
    }
    return run_queue_refill(queue);
}
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
/* Moves about half of the victim's ring, RUN_BATCH_MAX at most, or a part of its overflow, into the thief's ring, which
 * is empty.
 * The thief's owner only. Returns how many. */
uint32_t run_queue_steal(struct run_queue *thief, struct run_queue *victim);
/* How many wait, as it is about now. Any thread. */
uint32_t run_queue_count(const struct run_queue *queue);

#endif
