/* The end of an actor: on_stop, close the mailbox, drop what is in it, tell everyone who is to know, free the
 * slot. On its worker, as the last thing of a turn; where a receiver's control lane is full the actor is
 * queued behind all others and goes on telling in another turn, so that no end is ever lost. */
#include "actors/runtime/orders.h"
#include "actors/runtime/state.h"

static enum weir_error cause_of(const struct actor *actor)
{
    return (enum weir_error)atomic_load_explicit(&actor->last_cause, memory_order_relaxed);
}

/* A command that came too late to be carried out becomes a relation, for its sender to be told of the end. */
static void keep_command(struct turn *turn, uint32_t index)
{
    struct envelope *envelope = envelope_at(turn->runtime, index);
    if (envelope->message.tag == COMMAND_UNLINK) {
        turn_command(turn, index);
        return;
    }
    envelope->next = turn->actor->relations;
    turn->actor->relations = index;
}

/* A child's failure that this actor will not hear of any more: nobody else would order that child on. */
static void end_orphan(struct turn *turn, const struct message *message)
{
    if (message->tag != MESSAGE_EVENT || message->word[0] != ACTOR_EVENT_FAILED)
        return;
    /* Stale: it has ended by itself. */
    (void)!orders_stop(turn->runtime, &turn->worker->caller, message->from, (enum weir_error)message->word[1]);
}

static void empty_lane(struct turn *turn, uint32_t index)
{
    const struct behaviour *behaviour = behaviour_of(turn->actor);
    /* Before the start the state holds the arguments, and after one that failed, anything. */
    void *state = turn->actor->is_started ? turn->actor->state : NULL;
    while (index) {
        struct envelope *envelope = envelope_at(turn->runtime, index);
        uint32_t next = envelope->next;
        if (envelope->flags & ENVELOPE_COMMAND) {
            keep_command(turn, index);
        } else {
            end_orphan(turn, &envelope->message);
            if (behaviour->on_unread)
                behaviour->on_unread(turn, state, &envelope->message);
            turn_discard(turn, index);
        }
        index = next;
    }
}

/* True: told, or there is nobody to tell. */
static bool tell(struct turn *turn, const struct envelope *relation)
{
    struct runtime *runtime = turn->runtime;
    struct caller *caller = &turn->worker->caller;
    weir_actor other = relation->message.from;
    enum weir_error cause = cause_of(turn->actor);
    enum weir_error error = WEIR_OK;
    struct message message = {0};
    switch ((enum command)relation->message.tag) {
    case COMMAND_MONITOR:
        error = caller_post_event(runtime, caller, turn->self, other, ACTOR_EVENT_EXITED, cause, 0);
        break;
    case COMMAND_LINK:
        if (cause) {
            error = orders_stop(runtime, caller, other, cause);
            break;
        }
        message = (struct message){.tag = COMMAND_UNLINK, .word = {other.bits}};
        /* Only tidies the other's list: where it cannot be told, a handle that is stale by then stays there. */
        (void)!caller_post(runtime, caller, turn->self, other, &message, ENVELOPE_CONTROL | ENVELOPE_COMMAND,
                           MAILBOX_CONTROL_USERS_MAX);
        break;
    case COMMAND_AWAIT:
        /* There will never be room; its next send learns that. */
        message = (struct message){.tag = MESSAGE_ROOM};
        error =
            caller_post(runtime, caller, turn->self, other, &message, ENVELOPE_CONTROL, MAILBOX_CONTROL_RUNTIME_MAX);
        break;
    case COMMAND_UNLINK:
    case COMMAND_AWAITING: break;
    }
    return error != WEIR_FULL && error != WEIR_NO_MEMORY;
}

static void free_actor(struct turn *turn)
{
    struct runtime *runtime = turn->runtime;
    struct caller *caller = &turn->worker->caller;
    struct actor *actor = turn->actor;
    uint32_t class = actor->index >> ACTOR_CLASS_SHIFT;
    uint32_t slot = actor->index & ACTOR_CLASS_SLOTS_MAX;
    uint32_t label = atomic_load_explicit(&actor->label, memory_order_relaxed);
    uint32_t generation = atomic_load_explicit(&actor->generation, memory_order_relaxed) + 1;
    if (generation == 0)
        generation = 1;
    atomic_store_explicit(&actor->label, 0, memory_order_relaxed);
    if (label)
        slots_free(runtime->labels, &caller->caches.labels, label);
    atomic_store_explicit(&actor->orders, orders_of_generation(generation), memory_order_relaxed);
    atomic_store_explicit(&actor->generation, generation, memory_order_release);
    phase_set(actor, PHASE_FREE);
    atomic_store_explicit(&turn->worker->running, NULL, memory_order_relaxed);
    slots_free(runtime->actors[class], &caller->caches.actors[class], slot);
    runtime_note_ended(runtime, caller);
}

void turn_continue_ending(struct turn *turn)
{
    struct actor *actor = turn->actor;
    struct runtime *runtime = turn->runtime;
    struct caller *caller = &turn->worker->caller;
    if (actor->owed) {
        enum weir_error error =
            caller_post_event(runtime, caller, turn->self, actor->supervisor, ACTOR_EVENT_EXITED, cause_of(actor), 0);
        if (error == WEIR_FULL || error == WEIR_NO_MEMORY) {
            caller_schedule_later(runtime, caller, actor);
            return;
        }
        actor->owed = 0;
    }
    while (actor->relations) {
        uint32_t index = actor->relations;
        if (!tell(turn, envelope_at(runtime, index))) {
            caller_schedule_later(runtime, caller, actor);
            return;
        }
        actor->relations = envelope_at(runtime, index)->next;
        envelope_free(runtime, caller, index);
    }
    free_actor(turn);
}

static void join_waiters(struct turn *turn)
{
    struct actor *actor = turn->actor;
    if (!actor->waiters)
        return;
    struct envelope *newest = envelope_at(turn->runtime, actor->waiters);
    uint32_t oldest = newest->next;
    newest->next = actor->relations;
    actor->relations = oldest;
    actor->waiters = 0;
}

void turn_end_actor(struct turn *turn, enum weir_error cause)
{
    struct actor *actor = turn->actor;
    const struct behaviour *behaviour = behaviour_of(actor);
    atomic_store_explicit(&actor->last_cause, (uint8_t)cause, memory_order_relaxed);
    phase_set(actor, PHASE_ENDING);
    if (actor->is_started && behaviour->on_stop)
        behaviour->on_stop(turn, actor->state, cause);
    turn_sort(turn->runtime, actor, mailbox_close(&actor->mailbox));
    timers_end_actor(&turn->runtime->timers, actor);
    uint32_t control = actor->control_first;
    uint32_t data = actor->data_first;
    actor->control_first = 0;
    actor->data_first = 0;
    empty_lane(turn, control);
    empty_lane(turn, data);
    join_waiters(turn);
    actor->owed = actor_is_none(actor->supervisor) ? 0 : 1 + ACTOR_EVENT_EXITED;
    turn_continue_ending(turn);
}
