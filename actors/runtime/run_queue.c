/* Run queues, after the one of the Go scheduler (runtime/proc.go, runqput and runqgrab): the owner pushes
 * with a plain release store, everyone pops by swapping head. Called by workers, between turns. */
#include "actors/runtime/run_queue.h"

#include "actors/runtime/threads.h"

void actor_list_init(struct actor_list *list)
{
    lock_init(&list->lock);
    for (int i = 0; i < ACTOR_LIST_CHAINS; i++) {
        list->chains[i].first = NULL;
        list->chains[i].last = NULL;
    }
    list->pushed = 0;
    list->taken = 0;
    atomic_init(&list->count, 0);
}

void actor_list_fini(struct actor_list *list) { pthread_mutex_destroy(&list->lock); }

void actor_list_push(struct actor_list *list, struct actor *actor)
{
    pthread_mutex_lock(&list->lock);
    struct actor **first = &list->chains[list->pushed % ACTOR_LIST_CHAINS].first;
    struct actor **last = &list->chains[list->pushed % ACTOR_LIST_CHAINS].last;
    list->pushed++;
    actor->run_next = NULL;
    if (*first)
        (*last)->run_next = actor;
    else
        *first = actor;
    *last = actor;
    /* Sequentially consistent: a parking worker sets its bit, then reads this; a sender adds to this, then
     * reads the bits. One of the two sees the other (park.h). */
    atomic_fetch_add_explicit(&list->count, 1, memory_order_seq_cst);
    pthread_mutex_unlock(&list->lock);
}

uint32_t actor_list_take(struct actor_list *list, struct actor **out, uint32_t max)
{
    pthread_mutex_lock(&list->lock);
    uint32_t there = list->pushed - list->taken;
    uint32_t count = there < max ? there : max;
    for (uint32_t i = 0; i < count; i++) {
        struct actor **first = &list->chains[list->taken++ % ACTOR_LIST_CHAINS].first;
        out[i] = *first;
        *first = (*first)->run_next;
    }
    atomic_fetch_sub_explicit(&list->count, count, memory_order_relaxed);
    pthread_mutex_unlock(&list->lock);
    return count;
}

void run_queue_init(struct run_queue *queue, bool is_shared)
{
    queue->is_shared = is_shared;
    atomic_init(&queue->head, 0);
    atomic_init(&queue->tail, 0);
    for (uint32_t i = 0; i < RUN_RING_SIZE; i++)
        atomic_init(&queue->ring[i], NULL);
    actor_list_init(&queue->overflow);
}

void run_queue_fini(struct run_queue *queue) { actor_list_fini(&queue->overflow); }

static void ring_fill(struct run_queue *queue, struct actor *const *actors, uint32_t count)
{
    uint32_t tail = atomic_load_explicit(&queue->tail, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++)
        atomic_store_explicit(&queue->ring[(tail + i) % RUN_RING_SIZE], actors[i], memory_order_relaxed);
    atomic_store_explicit(&queue->tail, tail + count, memory_order_release);
}

struct actor *run_queue_refill(struct run_queue *queue)
{
    if (atomic_load_explicit(&queue->overflow.count, memory_order_relaxed) == 0)
        return NULL;
    struct actor *batch[RUN_BATCH_MAX];
    uint32_t count = actor_list_take(&queue->overflow, batch, COUNT_OF(batch));
    if (count == 0)
        return NULL;
    ring_fill(queue, batch + 1, count - 1);
    return batch[0];
}

uint32_t run_queue_steal(struct run_queue *thief, struct run_queue *victim)
{
    struct actor *batch[RUN_BATCH_MAX];
    uint32_t count;
    uint32_t head = atomic_load_explicit(&victim->head, memory_order_acquire);
    do {
        /* Acquire: the entries up to tail, and the actors' states behind them. */
        uint32_t tail = atomic_load_explicit(&victim->tail, memory_order_acquire);
        count = tail - head;
        if (count > RUN_RING_SIZE) { /* head moved between the two reads */
            head = atomic_load_explicit(&victim->head, memory_order_acquire);
            continue;
        }
        count -= count / 2;
        if (count > RUN_BATCH_MAX)
            count = RUN_BATCH_MAX;
        if (count == 0)
            break;
        for (uint32_t i = 0; i < count; i++)
            batch[i] = atomic_load_explicit(&victim->ring[(head + i) % RUN_RING_SIZE], memory_order_relaxed);
        if (atomic_compare_exchange_strong_explicit(&victim->head, &head, head + count, memory_order_acq_rel,
                                                    memory_order_acquire))
            break;
    } while (true);
    if (count == 0)
        count = actor_list_take(&victim->overflow, batch, COUNT_OF(batch));
    ring_fill(thief, batch, count);
    return count;
}

uint32_t run_queue_count(const struct run_queue *queue)
{
    uint32_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);
    uint32_t count = atomic_load_explicit(&queue->tail, memory_order_relaxed) - head;
    return (count > RUN_RING_SIZE ? 0 : count) + atomic_load_explicit(&queue->overflow.count, memory_order_relaxed);
}
