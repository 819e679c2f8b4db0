/* Sending and scheduling, on behalf of workers and of other threads. See caller.h. */
#include "actors/runtime/caller.h"

#include "actors/runtime/orders.h"
#include "actors/runtime/park.h"
#include "actors/runtime/state.h"

/* Which of the shared callers a thread that is no worker uses: they take turns as threads appear. */
static uint32_t foreign_index(void)
{
    static _Atomic uint32_t threads_seen;
    static _Thread_local uint32_t index_plus_one;
    if (index_plus_one == 0)
        index_plus_one = 1 + atomic_fetch_add_explicit(&threads_seen, 1, memory_order_relaxed) % CALLERS_FOREIGN;
    return index_plus_one - 1;
}

struct caller *caller_enter(struct runtime *runtime)
{
    struct worker *worker = worker_current(runtime);
    if (worker)
        return &worker->caller;
    struct caller *caller = &runtime->foreign[runtime->config.simulate ? 0 : foreign_index()];
    pthread_mutex_lock(&caller->lock);
    return caller;
}

void caller_leave(struct caller *caller)
{
    if (!caller->worker)
        pthread_mutex_unlock(&caller->lock);
}

void caller_flush(struct runtime *runtime, struct caller *caller)
{
    slots_cache_flush(runtime->envelopes, &caller->caches.envelopes);
    slots_cache_flush(runtime->labels, &caller->caches.labels);
    for (int i = 0; i < ACTOR_CLASSES; i++)
        slots_cache_flush(runtime->actors[i], &caller->caches.actors[i]);
}

struct actor *actor_find(const struct runtime *runtime, weir_actor handle)
{
    uint32_t index = (uint32_t)handle.bits;
    uint32_t class = index >> ACTOR_CLASS_SHIFT;
    uint32_t generation = (uint32_t)(handle.bits >> 32);
    uint32_t slot = index & ACTOR_CLASS_SLOTS_MAX;
    /* A made-up handle must not lead to memory that is not there. */
    if (__builtin_expect(class >= ACTOR_CLASSES, 0) ||
        __builtin_expect(slot > atomic_load_explicit(&runtime->slot_last[class], memory_order_relaxed), 0))
        return NULL;
    struct actor *actor = slots_at(runtime->actors[class], slot);
    /* Generation 0 is the handle of nobody. */
    if (generation == 0 || atomic_load_explicit(&actor->generation, memory_order_relaxed) != generation)
        return NULL;
    return actor;
}

weir_actor actor_handle(const struct actor *actor)
{
    uint64_t generation = atomic_load_explicit(&actor->generation, memory_order_relaxed);
    return (weir_actor){generation << 32 | actor->index};
}

bool actor_is_live(const struct runtime *runtime, weir_actor handle)
{
    const struct actor *actor = actor_find(runtime, handle);
    return actor && !mailbox_is_closed(atomic_load_explicit(&actor->mailbox, memory_order_relaxed));
}

void caller_schedule(struct runtime *runtime, struct caller *caller, struct actor *actor)
{
    if (__builtin_expect(runtime->config.simulate, 0)) {
        simulate_schedule(&runtime->simulation, actor);
    } else if (caller->worker) {
        worker_queue(caller->worker, actor);
    } else {
        unsigned preferred = atomic_load_explicit(&actor->worker_last, memory_order_relaxed);
        actor_list_push(&runtime->global, actor);
        if (!worker_attends_global(runtime))
            park_wake(runtime, preferred);
    }
}

static void count_refusal(struct caller *caller, struct actor *actor)
{
    atomic_fetch_add_explicit(&actor->refused, 1, memory_order_relaxed);
    counter_add(&caller->counters.refused, 1);
}

enum weir_error caller_post(struct runtime *runtime, struct caller *caller, weir_actor from, weir_actor to,
                            const struct message *message, uint32_t flags, uint32_t control_max)
{
    struct actor *actor = actor_find(runtime, to);
    if (__builtin_expect(!actor, 0))
        return WEIR_STALE;
    uint32_t lane_max = control_max;
    if (!(flags & ENVELOPE_CONTROL))
        lane_max = mailbox_bound(atomic_load_explicit(&actor->mailbox_max, memory_order_relaxed));
    /* A look before the work; the push decides. */
    uint64_t word = atomic_load_explicit(&actor->mailbox, memory_order_relaxed);
    enum weir_error error = mailbox_refusal(word, flags & ENVELOPE_CONTROL, lane_max);
    uint32_t index;
    if (!error)
        error = slots_alloc(runtime->envelopes, &caller->caches.envelopes, &index);
    if (__builtin_expect(error, 0)) {
        if (error == WEIR_FULL)
            count_refusal(caller, actor);
        return error;
    }
    struct envelope *envelope = slots_at(runtime->envelopes, index);
    envelope->flags = flags | ((uint32_t)(to.bits >> 32) & ENVELOPE_GENERATION_MASK);
    envelope->message = *message;
    envelope->message.from = from;
    bool was_idle;
    error = mailbox_push(&actor->mailbox, envelope, index, lane_max, &was_idle);
    if (__builtin_expect(error, 0)) {
        slots_free(runtime->envelopes, &caller->caches.envelopes, index);
        if (error == WEIR_FULL)
            count_refusal(caller, actor);
        return error;
    }
    caller->posts++;
    if (was_idle)
        caller_schedule(runtime, caller, actor);
    else if (flags & ENVELOPE_CONTROL)
        orders_call(actor);
    return WEIR_OK;
}

enum weir_error caller_post_event(struct runtime *runtime, struct caller *caller, weir_actor from, weir_actor to,
                                  enum actor_event event, enum weir_error cause, uint32_t attempts)
{
    struct message message = {.tag = MESSAGE_EVENT, .word = {(uint64_t)event, (uint64_t)cause, attempts}};
    return caller_post(runtime, caller, from, to, &message, ENVELOPE_CONTROL, MAILBOX_CONTROL_RUNTIME_MAX);
}
