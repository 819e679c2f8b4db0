/* Looking ahead. Among many actors a turn begins with cache misses, and a message to somebody is one more. What is
 * known of the turns and messages to come is fetched into the caches some of them ahead, so that the waits overlap: by
 * workers between turns, and within a turn. Hints all of them: they may fetch what nobody needs any more. Only
 * actors/runtime includes this. */
#ifndef ACTORS_RUNTIME_AHEAD_H
#define ACTORS_RUNTIME_AHEAD_H

#include "actors/runtime/state.h"

/* Messages between the look at one and its own turn: some hundred nanoseconds. */
#define MESSAGES_AHEAD 4

/* What a message to that actor takes first. Any handle will do. */
static inline void ahead_actor(const struct runtime *runtime, weir_actor handle)
{
    uint32_t index = (uint32_t)handle.bits, class = index >> ACTOR_CLASS_SHIFT;
    if (class >= ACTOR_CLASSES)
        return;
    const struct actor_class *slots = &runtime->classes[class];
    __builtin_prefetch(slots->base + (size_t)(index & ACTOR_CLASS_SLOTS_MAX) * slots->slot_size, 1);
}

/* What waits for the next actor is a chain, each envelope found by the one above: the sort would wait for memory at
 * each. While this actor handles messages the chain is followed a step a message. Whoever runs that actor meanwhile may
 * give these envelopes to others, and so to another chain: they are only fetched, and links lead to envelopes always.
 */
static inline AHEAD void ahead_chain(struct worker *worker)
{
    const struct envelope *envelope = envelope_at(worker->runtime, worker->chain);
    worker->chain = __atomic_load_n(&envelope->next, __ATOMIC_RELAXED);
    __builtin_prefetch(envelope_at(worker->runtime, worker->chain));
}

/* Some messages ahead what they will look at is asked for, where the behaviour knows that; else who sent them: most are
 * answered, and in a crowd whoever asked is in no cache any more. */
static inline void ahead_message(struct turn *turn)
{
    const struct envelope *envelope = envelope_at(turn->runtime, turn->ahead);
    const struct behaviour *behaviour = behaviour_of(turn->actor);
    if (behaviour->ahead_message)
        behaviour->ahead_message(turn->actor->state, &envelope->message);
    else
        ahead_actor(turn->runtime, envelope->message.from);
    turn->ahead = envelope->next;
    ahead_chain(turn->worker);
}

/* Begins that at the oldest of the data messages taken. Each that is handled from here on is to move the look by one,
 * so that it is never at an envelope that was freed. */
static inline void ahead_messages(struct turn *turn)
{
    if (!atomic_load_explicit(&turn->runtime->is_crowd, memory_order_relaxed))
        return;
    turn->ahead = turn->actor->data_first;
    for (int i = 0; i < MESSAGES_AHEAD && turn->ahead; i++)
        ahead_message(turn);
}

/* Among many actors each turn begins with cache misses: the control block, the state, what that points to, the
 * envelope. They are asked for some turns ahead, in steps, as each step is found by what the one before has fetched. */
static inline void ahead_turns(struct worker *worker)
{
    enum { BLOCK_AHEAD = 3, STATE_AHEAD = 2, POINTERS_AHEAD = 1, LINE = 64 };
    const struct actor *far = run_queue_peek(&worker->queue, BLOCK_AHEAD);
    const struct actor *middle = run_queue_peek(&worker->queue, STATE_AHEAD);
    const struct actor *near = run_queue_peek(&worker->queue, POINTERS_AHEAD);
    if (far) {
        __builtin_prefetch(far);
        __builtin_prefetch(&far->orders);
    }
    if (middle) {
        __builtin_prefetch(middle->state);
        for (size_t at = LINE; at < behaviour_of(middle)->ahead_size; at += LINE)
            __builtin_prefetch(middle->state + at);
    }
    if (near) {
        /* Another worker may have taken it, and it may have ended there: then there is no envelope. */
        uint64_t word = atomic_load_explicit(&near->mailbox, memory_order_relaxed);
        uint32_t top = mailbox_is_closed(word) ? 0 : mailbox_top(word);
        __builtin_prefetch(envelope_at(worker->runtime, top));
        worker->chain = top;
        void (*ahead)(const void *) = behaviour_of(near)->ahead;
        if (ahead)
            ahead(near->state);
    }
}

#endif
