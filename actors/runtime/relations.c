/* Who watches whom: monitors, links, and waiting for room. An actor's relations are the envelopes of the
 * commands that asked for them, kept in its own list, so that accepting one needs no memory and ending
 * needs no lock. Commands are sent from any thread and carried out on the actor's worker. */
#include "actors/runtime/orders.h"
#include "actors/runtime/state.h"

static enum weir_error post_command(struct runtime *runtime, struct caller *caller, weir_actor from, weir_actor to,
                                    enum command command)
{
    /* The handle travels along: a slot that serves another actor by then answers in its place. */
    struct message message = {.tag = command, .word = {to.bits}};
    return caller_post(runtime, caller, from, to, &message, ENVELOPE_CONTROL | ENVELOPE_COMMAND,
                       MAILBOX_CONTROL_RUNTIME_MAX);
}

enum weir_error actor_monitor(struct runtime *runtime, weir_actor watcher, weir_actor actor)
{
    struct caller *caller = caller_enter(runtime);
    enum weir_error error = post_command(runtime, caller, watcher, actor, COMMAND_MONITOR);
    if (error == WEIR_STALE) /* it has ended: nobody knows of what any more */
        error = caller_post_event(runtime, caller, actor, watcher, ACTOR_EVENT_EXITED, WEIR_STALE, 0);
    caller_leave(caller);
    return error;
}

enum weir_error actor_link(struct runtime *runtime, weir_actor a, weir_actor b)
{
    struct caller *caller = caller_enter(runtime);
    enum weir_error error = post_command(runtime, caller, b, a, COMMAND_LINK);
    if (!error) {
        error = post_command(runtime, caller, a, b, COMMAND_LINK);
        if (error) /* b will never end badly for a: if this fails too, a keeps a handle that does nothing */
            (void)!post_command(runtime, caller, b, a, COMMAND_UNLINK);
    }
    caller_leave(caller);
    return error;
}

/* Removes the relations of that kind with that actor; returns how many. */
static uint32_t relations_remove(struct turn *turn, enum command command, weir_actor other)
{
    uint32_t *link = &turn->actor->relations;
    uint32_t removed = 0;
    while (*link) {
        struct envelope *envelope = envelope_at(turn->runtime, *link);
        if (envelope->message.tag == command && actor_is_same(envelope->message.from, other)) {
            uint32_t index = *link;
            *link = envelope->next;
            envelope_free(turn->runtime, &turn->worker->caller, index);
            removed++;
        } else {
            link = &envelope->next;
        }
    }
    return removed;
}

/* A command for the slot's last actor, which ended between its sender's look and the push. */
static void command_missed(struct turn *turn, const struct message *message)
{
    weir_actor meant = {message->word[0]};
    struct caller *caller = &turn->worker->caller;
    struct message room = {.tag = MESSAGE_ROOM};
    if (message->tag == COMMAND_MONITOR)
        (void)!caller_post_event(turn->runtime, caller, meant, message->from, ACTOR_EVENT_EXITED, WEIR_STALE, 0);
    else if (message->tag == COMMAND_AWAIT)
        (void)!caller_post(turn->runtime, caller, meant, message->from, &room, ENVELOPE_CONTROL,
                           MAILBOX_CONTROL_RUNTIME_MAX);
}

/* Watchers end without a word. Their relations are swept away whenever as many were added as were left at
 * the last sweep: the list stays within twice the living ones, at a constant cost for each. */
static void relations_sweep(struct turn *turn)
{
    enum { SWEEP_MIN = 16, SWEEP_MAX = UINT16_MAX };
    uint32_t *link = &turn->actor->relations;
    uint32_t kept = 0;
    while (*link) {
        struct envelope *envelope = envelope_at(turn->runtime, *link);
        uint32_t index = *link;
        if (actor_is_live(turn->runtime, envelope->message.from)) {
            link = &envelope->next;
            kept++;
        } else {
            *link = envelope->next;
            envelope_free(turn->runtime, &turn->worker->caller, index);
        }
    }
    turn->actor->sweep_in = (uint16_t)(kept < SWEEP_MIN ? SWEEP_MIN : kept > SWEEP_MAX ? SWEEP_MAX : kept);
}

static void relation_add(struct turn *turn, uint32_t index)
{
    struct actor *actor = turn->actor;
    if (actor->sweep_in == 0)
        relations_sweep(turn);
    actor->sweep_in--;
    envelope_at(turn->runtime, index)->next = actor->relations;
    actor->relations = index;
}

static void waiter_add(struct turn *turn, uint32_t index)
{
    struct actor *actor = turn->actor;
    struct envelope *waiter = envelope_at(turn->runtime, index);
    waiter->next = index;
    if (actor->waiters) {
        struct envelope *newest = envelope_at(turn->runtime, actor->waiters);
        waiter->next = newest->next;
        newest->next = index;
    }
    actor->waiters = index;
}

void turn_command(struct turn *turn, uint32_t index)
{
    struct envelope *envelope = envelope_at(turn->runtime, index);
    struct message *message = &envelope->message;
    if (message->word[0] != turn->self.bits) {
        command_missed(turn, message);
        turn_discard(turn, index);
        return;
    }
    switch ((enum command)message->tag) {
    case COMMAND_AWAIT: waiter_add(turn, index); return;
    case COMMAND_MONITOR:
    case COMMAND_LINK:
    case COMMAND_AWAITING: relation_add(turn, index); return;
    case COMMAND_UNLINK:
        relations_remove(turn, COMMAND_LINK, message->from);
        turn_discard(turn, index);
        return;
    }
    UNREACHABLE();
}

static bool awaits(const struct turn *turn, weir_actor to)
{
    for (uint32_t index = turn->actor->relations; index;) {
        const struct envelope *envelope = envelope_at(turn->runtime, index);
        if (envelope->message.tag == COMMAND_AWAITING && actor_is_same(envelope->message.from, to))
            return true;
        index = envelope->next;
    }
    return false;
}

enum weir_error turn_await_room(struct turn *turn, weir_actor to)
{
    struct runtime *runtime = turn->runtime;
    struct caller *caller = &turn->worker->caller;
    uint32_t index;
    if (!actor_is_live(runtime, to))
        return WEIR_STALE;
    if (awaits(turn, to))
        return WEIR_OK;
    enum weir_error error = slots_alloc(runtime->envelopes, &caller->caches.envelopes, &index);
    if (error)
        return error;
    error = post_command(runtime, caller, turn->self, to, COMMAND_AWAIT);
    if (error) {
        envelope_free(runtime, caller, index);
        return error;
    }
    struct envelope *envelope = envelope_at(runtime, index);
    envelope->flags = 0;
    envelope->message = (struct message){.tag = COMMAND_AWAITING, .from = to, .word = {turn->self.bits}};
    turn_command(turn, index);
    return WEIR_OK;
}

void turn_forget_awaited(struct turn *turn, weir_actor from) { relations_remove(turn, COMMAND_AWAITING, from); }

bool turn_tell_waiters(struct turn *turn, uint32_t max)
{
    struct actor *actor = turn->actor;
    struct caller *caller = &turn->worker->caller;
    struct message room = {.tag = MESSAGE_ROOM};
    for (; actor->waiters && max > 0; max--) {
        struct envelope *newest = envelope_at(turn->runtime, actor->waiters);
        uint32_t index = newest->next;
        struct envelope *waiter = envelope_at(turn->runtime, index);
        enum weir_error error = caller_post(turn->runtime, caller, turn->self, waiter->message.from, &room,
                                            ENVELOPE_CONTROL, MAILBOX_CONTROL_RUNTIME_MAX);
        if (error == WEIR_FULL || error == WEIR_NO_MEMORY)
            return false;
        if (index == actor->waiters)
            actor->waiters = 0;
        else
            newest->next = waiter->next;
        envelope_free(turn->runtime, caller, index);
    }
    return actor->waiters == 0;
}
