/* Sending and scheduling, on behalf of workers and of other threads. See caller.h. turn_send (actor.h) is here, too, as
 * the one that the path of a message goes through. */
#include "actors/runtime/caller.h"

#include "actors/runtime/ahead.h"
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

static inline struct actor *find(const struct runtime *runtime, weir_actor handle)
{
    uint32_t index = (uint32_t)handle.bits;
    uint32_t class = index >> ACTOR_CLASS_SHIFT;
    uint32_t generation = (uint32_t)(handle.bits >> 32);
    uint32_t slot = index & ACTOR_CLASS_SLOTS_MAX;
    /* A made-up handle must not lead to memory that is not there. */
    if (__builtin_expect(class >= ACTOR_CLASSES, 0))
        return NULL;
    const struct actor_class *slots = &runtime->classes[class];
    if (__builtin_expect(slot > atomic_load_explicit(&slots->slot_last, memory_order_relaxed), 0))
        return NULL;
    struct actor *actor = (struct actor *)(void *)(slots->base + (size_t)slot * slots->slot_size);
    /* Generation 0 is the handle of nobody. */
    if (__builtin_expect(generation == 0, 0) ||
        __builtin_expect(atomic_load_explicit(&actor->generation, memory_order_relaxed) != generation, 0))
        return NULL;
    return actor;
}

struct actor *actor_find(const struct runtime *runtime, weir_actor handle) { return find(runtime, handle); }

bool actor_is_live(const struct runtime *runtime, weir_actor handle)
{
    const struct actor *actor = actor_find(runtime, handle);
    return actor && !mailbox_is_closed(atomic_load_explicit(&actor->mailbox, memory_order_relaxed));
}

static inline void schedule(struct runtime *runtime, struct caller *caller, struct actor *actor)
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

void caller_schedule(struct runtime *runtime, struct caller *caller, struct actor *actor)
{
    schedule(runtime, caller, actor);
}

void caller_schedule_later(struct runtime *runtime, struct caller *caller, struct actor *actor)
{
    caller->laters++;
    if (runtime->config.simulate)
        schedule(runtime, caller, actor);
    else
        actor_list_push(&runtime->later, actor); /* and this worker looks there before it sleeps for long */
}

static enum weir_error refuse(struct caller *caller, struct actor *actor, enum weir_error error)
{
    if (error == WEIR_FULL) {
        atomic_fetch_add_explicit(&actor->refused, 1, memory_order_relaxed);
        counter_add(&caller->counters.refused, 1);
    }
    return error;
}

/* All but the sender. Member by member: the message was written so a moment ago, and a processor that is asked for two
 * of them in one load waits until both have left its store buffer. */
static inline void message_copy(struct message *to, const struct message *message)
{
    to->tag = message->tag;
    to->detail = message->detail;
    to->hold[0] = message->hold[0];
    to->hold[1] = message->hold[1];
    to->word[0] = message->word[0];
    to->word[1] = message->word[1];
    to->word[2] = message->word[2];
}

/* What it is to send; inlined into each of its users, so that what they know of flags and caller is not asked again
 * for each message. */
static inline __attribute__((always_inline)) enum weir_error post(struct runtime *runtime, struct caller *caller,
                                                                  weir_actor from, weir_actor to,
                                                                  const struct message *message, uint32_t flags,
                                                                  uint32_t control_max)
{
    struct actor *actor = find(runtime, to);
    if (__builtin_expect(!actor, 0))
        return WEIR_STALE;
    bool is_control = flags & ENVELOPE_CONTROL;
    uint32_t lane_max = control_max;
    if (!is_control)
        lane_max = mailbox_bound(atomic_load_explicit(&actor->mailbox_max, memory_order_relaxed));
    /* A look before the work; the push decides. */
    uint64_t word = atomic_load_explicit(&actor->mailbox, memory_order_relaxed);
    enum weir_error error = mailbox_refusal(word, is_control, lane_max);
    if (__builtin_expect(error, 0))
        return refuse(caller, actor, error);
    struct slots_cache *cache = &caller->caches.envelopes;
    if (__builtin_expect(cache->count == 0, 0) && (error = slots_refill(runtime->envelopes, cache)) != WEIR_OK)
        return error;
    uint32_t index = cache->head;
    struct envelope *envelope = envelope_at(runtime, index);
    slots_cache_pop(cache, envelope);
    envelope->flags = flags | ((uint32_t)(to.bits >> 32) & ENVELOPE_GENERATION_MASK);
    message_copy(&envelope->message, message);
    envelope->message.from = from;
    bool was_idle;
    error = mailbox_push(&actor->mailbox, word, envelope, index, is_control, lane_max, &was_idle);
    if (__builtin_expect(error, 0)) {
        envelope_free(runtime, caller, index);
        return refuse(caller, actor, error);
    }
    caller->posts++;
    if (was_idle)
        schedule(runtime, caller, actor);
    else if (is_control)
        orders_call(actor);
    return WEIR_OK;
}

enum weir_error caller_post(struct runtime *runtime, struct caller *caller, weir_actor from, weir_actor to,
                            const struct message *message, uint32_t flags, uint32_t control_max)
{
    return post(runtime, caller, from, to, message, flags, control_max);
}

void turn_ahead(const struct turn *turn, weir_actor to) { ahead_actor(turn->runtime, to); }

enum weir_error turn_send(struct turn *turn, weir_actor to, const struct message *message)
{
    return post(turn->runtime, &turn->worker->caller, turn->self, to, message, 0, 0);
}

enum weir_error caller_post_event(struct runtime *runtime, struct caller *caller, weir_actor from, weir_actor to,
                                  enum actor_event event, enum weir_error cause, uint32_t attempts)
{
    struct message message = {.tag = MESSAGE_EVENT, .word = {(uint64_t)event, (uint64_t)cause, attempts}};
    return caller_post(runtime, caller, from, to, &message, ENVELOPE_CONTROL, MAILBOX_CONTROL_RUNTIME_MAX);
}
