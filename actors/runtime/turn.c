/* One turn of one actor: start it, handle messages up to a limit, suspend it where one fails, and leave it
 * idle or queued again. Called by workers and by the simulation, between turns.
 *
 * Handing over: an actor belongs to the worker that runs it until the settle that leaves it idle, the swap
 * that suspends it, or the push that queues it again. Nothing here touches it after that. */
#include <string.h>

#include "actors/base/log.h"
#include "actors/runtime/ahead.h"
#include "actors/runtime/orders.h"
#include "actors/runtime/state.h"

/* Messages sent in one turn after which others get theirs: an actor that feeds many and keeps itself going by
 * a message to itself would fill all their mailboxes first, and the caches would hold none of it any more. */
#define TURN_POSTS_MAX 256
/* Waiters told of room at the end of a turn: some 20 microseconds. */
#define TURN_TELLS_MAX 256u

/* Behind a lane's list of taken messages; first to last are linked already. */
static void append(struct runtime *runtime, uint32_t *lane_first, uint32_t *lane_last, uint32_t first, uint32_t last)
{
    if (*lane_first)
        envelope_at(runtime, *lane_last)->next = first;
    else
        *lane_first = first;
    *lane_last = last;
}

void turn_sort(struct runtime *runtime, struct actor *actor, uint32_t index)
{
    uint32_t data = 0, data_last = 0;
    uint32_t control = 0, control_last = 0;
    while (index) {
        struct envelope *envelope = envelope_at(runtime, index);
        uint32_t below = envelope->next;
        if (__builtin_expect(envelope->flags & ENVELOPE_CONTROL, 0)) {
            envelope->next = control;
            control_last = control ? control_last : index;
            control = index;
        } else {
            envelope->next = data;
            data_last = data ? data_last : index;
            data = index;
        }
        index = below;
    }
    if (data)
        append(runtime, &actor->data_first, &actor->data_last, data, data_last);
    if (control)
        append(runtime, &actor->control_first, &actor->control_last, control, control_last);
}

static inline void gather(struct turn *turn)
{
    uint32_t top = mailbox_take(&turn->actor->mailbox);
    if (top)
        turn_sort(turn->runtime, turn->actor, top);
}

static void put_back(struct turn *turn, uint32_t index, bool is_control)
{
    struct actor *actor = turn->actor;
    uint32_t *first = is_control ? &actor->control_first : &actor->data_first;
    envelope_at(turn->runtime, index)->next = *first;
    if (!*first)
        *(is_control ? &actor->control_last : &actor->data_last) = index;
    *first = index;
}

/* The oldest control message, else the oldest data message, of those taken; 0 for none. */
static inline uint32_t pop_taken(struct turn *turn, bool *is_control)
{
    struct actor *actor = turn->actor;
    uint32_t index = actor->control_first;
    *is_control = index != 0;
    if (index) {
        actor->control_first = envelope_at(turn->runtime, index)->next;
        return index;
    }
    index = actor->data_first;
    if (index) {
        actor->data_first = envelope_at(turn->runtime, index)->next;
        if (turn->ahead)
            ahead_message(turn);
    }
    return index;
}

/* The next message, from the mailbox where none is taken; 0 for none. */
static inline uint32_t pop_next(struct turn *turn, bool *is_control)
{
    uint32_t index = pop_taken(turn, is_control);
    if (index)
        return index;
    uint32_t top = mailbox_take(&turn->actor->mailbox);
    if (!top)
        return 0;
    const struct envelope *envelope = envelope_at(turn->runtime, top);
    if (envelope->next == 0) { /* alone, as mostly: nothing to sort */
        *is_control = envelope->flags & ENVELOPE_CONTROL;
        return top;
    }
    turn_sort(turn->runtime, turn->actor, top);
    ahead_messages(turn);
    return pop_taken(turn, is_control);
}

static bool has_taken(const struct actor *actor) { return actor->control_first || actor->data_first; }

void turn_discard(struct turn *turn, uint32_t index)
{
    struct runtime *runtime = turn->runtime;
    struct message *message = &envelope_at(runtime, index)->message;
    for (int i = 0; i < MESSAGE_HOLDS; i++) {
        if (!msg_is_none(message->hold[i]))
            arena_drop(runtime->config.arena, message->hold[i]);
    }
    envelope_free(runtime, &turn->worker->caller, index);
}

/* Tells the supervisor what it is owed. False: it could not be told now. */
static bool tell_supervisor(struct turn *turn, uint32_t attempts)
{
    struct actor *actor = turn->actor;
    enum actor_event event = (enum actor_event)(actor->owed - 1);
    enum weir_error cause = WEIR_OK;
    if (event == ACTOR_EVENT_FAILED)
        cause = (enum weir_error)atomic_load_explicit(&actor->last_cause, memory_order_relaxed);
    enum weir_error error =
        caller_post_event(turn->runtime, &turn->worker->caller, turn->self, actor->supervisor, event, cause, attempts);
    if (error == WEIR_FULL || error == WEIR_NO_MEMORY)
        return false;
    actor->owed = 0;
    if (error) /* it has ended: nobody will order this actor on */
        actor->supervisor = WEIR_ACTOR_NONE;
    return true;
}

static void try_later(struct turn *turn) { caller_schedule_later(turn->runtime, &turn->worker->caller, turn->actor); }

static void queue_again(struct turn *turn) { caller_schedule(turn->runtime, &turn->worker->caller, turn->actor); }

static void failure_note(struct turn *turn, enum weir_error cause)
{
    struct actor *actor = turn->actor;
    uint32_t failures = atomic_load_explicit(&actor->failures, memory_order_relaxed);
    atomic_store_explicit(&actor->failures, failures + 1, memory_order_relaxed);
    atomic_store_explicit(&actor->last_cause, (uint8_t)cause, memory_order_relaxed);
    counter_add(&turn->worker->caller.counters.failures, 1);
    phase_set(actor, PHASE_FAILED);
    actor->owed = 1 + ACTOR_EVENT_FAILED;
    orders_begin_incident(actor);
}

/* The failed message has had its tries. True: it is done with. False: on_dead_letter mended it. */
static bool dead_letter(struct turn *turn, struct message *message, uint32_t attempts)
{
    const struct runtime_config *config = &turn->runtime->config;
    enum weir_error cause = (enum weir_error)atomic_load_explicit(&turn->actor->last_cause, memory_order_relaxed);
    counter_add(&turn->worker->caller.counters.dead_letters, 1);
    if (config->on_dead_letter)
        return config->on_dead_letter(turn, message, cause, attempts, config->context);
    log_warning("message.dead", "actor=%s tag=%u cause=%s attempts=%u", behaviour_of(turn->actor)->name, message->tag,
                weir_error_code(cause), attempts);
    return true;
}

/* The message that failed: where its envelope is, at the head of its lane; 0 when it is no longer there. */
static uint32_t failed_message(const struct actor *actor)
{
    return actor->failed_lane ? actor->control_first : actor->data_first;
}

/* Takes the failed message out where it has had its tries. */
static void quarantine(struct turn *turn)
{
    struct actor *actor = turn->actor;
    uint32_t index = failed_message(actor);
    struct envelope *envelope = envelope_at(turn->runtime, index);
    uint32_t attempts = envelope_attempts(envelope->flags);
    bool is_control = actor->failed_lane;
    if (attempts < actor->attempts_max)
        return;
    if (!dead_letter(turn, &envelope->message, attempts)) {
        envelope->flags &= ~(ENVELOPE_ATTEMPTS_MAX * ENVELOPE_ATTEMPT);
        return;
    }
    *(is_control ? &actor->control_first : &actor->data_first) = envelope->next;
    turn_discard(turn, index);
    turn->control += is_control;
    turn->data += !is_control;
}

/* Ordered on after a failure. False: the restart failed too, or the actor has ended. */
static bool restart(struct turn *turn)
{
    struct actor *actor = turn->actor;
    const struct behaviour *behaviour = behaviour_of(actor);
    atomic_fetch_and_explicit(&actor->orders, ~ORDER_RESTART, memory_order_relaxed);
    counter_add(&turn->worker->caller.counters.restarts, 1);
    if (behaviour->on_restart) {
        enum weir_error cause = (enum weir_error)atomic_load_explicit(&actor->last_cause, memory_order_relaxed);
        enum weir_error error = behaviour->on_restart(turn, actor->state, cause);
        if (error) {
            failure_note(turn, error);
            return false;
        }
    }
    phase_set(actor, PHASE_READY);
    quarantine(turn);
    return true;
}

/* Tells the supervisor of the failure, then suspends, or goes on as ordered. True: the actor runs on. */
static bool resume_failed(struct turn *turn)
{
    struct actor *actor = turn->actor;
    for (;;) {
        uint32_t attempts = envelope_attempts(envelope_at(turn->runtime, failed_message(actor))->flags);
        if (actor->owed && !tell_supervisor(turn, attempts)) {
            try_later(turn);
            return false;
        }
        uint64_t orders = atomic_load_explicit(&actor->orders, memory_order_acquire);
        if (orders & ORDER_STOP) {
            turn_end_actor(turn, orders_cause(orders));
            return false;
        }
        if (actor_is_none(actor->supervisor)) {
            turn_end_actor(turn, (enum weir_error)atomic_load_explicit(&actor->last_cause, memory_order_relaxed));
            return false;
        }
        if (!(orders & ORDER_RESTART)) {
            if (orders_suspend(actor))
                return false;
            continue;
        }
        if (restart(turn))
            return true;
    }
}

static bool start(struct turn *turn)
{
    struct actor *actor = turn->actor;
    const struct behaviour *behaviour = behaviour_of(actor);
    unsigned char args[ACTOR_ARGS_SIZE_MAX];
    memcpy(args, actor->state, actor->args_size);
    memset(actor->state, 0, behaviour->state_size > actor->args_size ? behaviour->state_size : actor->args_size);
    enum weir_error error = WEIR_OK;
    if (behaviour->on_start)
        error = behaviour->on_start(turn, actor->state, args);
    if (error) {
        turn_end_actor(turn, error);
        return false;
    }
    actor->is_started = true;
    phase_set(actor, PHASE_READY);
    if (!actor_is_none(actor->supervisor))
        actor->owed = 1 + ACTOR_EVENT_READY;
    return true;
}

/* Whatever comes before messages. True: they may be handled. */
static bool resume(struct turn *turn)
{
    struct actor *actor = turn->actor;
    enum actor_phase phase = phase_of(actor);
    if (phase == PHASE_ENDING) {
        turn_continue_ending(turn);
        return false;
    }
    uint64_t orders = atomic_load_explicit(&actor->orders, memory_order_acquire);
    if (orders & ORDER_STOP) {
        turn_end_actor(turn, orders_cause(orders));
        return false;
    }
    if (phase == PHASE_STARTING && !start(turn))
        return false;
    if (phase == PHASE_FAILED && !resume_failed(turn))
        return false;
    if (turn->exits) {
        turn_end_actor(turn, turn->cause);
        return false;
    }
    if (actor->owed && !tell_supervisor(turn, 0)) {
        try_later(turn);
        return false;
    }
    return true;
}

/* A message with one of the runtime's tags: false when it is not to be handled after all. */
static bool admit(struct turn *turn, const struct message *message)
{
    if (message->tag == MESSAGE_TIMER)
        return timers_claim(&turn->runtime->timers, turn->actor, message->word[1]);
    if (message->tag == MESSAGE_ROOM)
        turn_forget_awaited(turn, message->from);
    return true;
}

/* Handles one message. False: it failed and is back at the head of its lane. */
static inline bool handle(struct turn *turn, const struct behaviour *behaviour, uint32_t index, bool is_control)
{
    struct runtime *runtime = turn->runtime;
    struct actor *actor = turn->actor;
    struct envelope *envelope = envelope_at(runtime, index);
    struct message *message = &envelope->message;
    uint32_t generation = (uint32_t)(turn->self.bits >> 32) & ENVELOPE_GENERATION_MASK;
    turn->control += is_control;
    turn->data += !is_control;
    if (__builtin_expect(envelope->flags & ENVELOPE_COMMAND, 0)) {
        turn->skips = true;
        turn_command(turn, index);
        return true;
    }
    uint32_t tag = message->tag;
    if (__builtin_expect((envelope->flags & ENVELOPE_GENERATION_MASK) != generation, 0) ||
        (__builtin_expect(tag >= MESSAGE_TAG_RUNTIME, 0) && !admit(turn, message))) {
        turn->skips = true;
        turn_discard(turn, index);
        return true;
    }
    enum weir_error error = behaviour->on_message(turn, actor->state, message);
    if (__builtin_expect(tag == MESSAGE_SHUTDOWN, 0) && !turn->keeps)
        turn->exits = true; /* in order (cause is WEIR_OK) unless it called turn_exit itself */
    if (__builtin_expect(error, 0) && !turn->exits) {
        turn->control -= is_control;
        turn->data -= !is_control;
        if (envelope_attempts(envelope->flags) < ENVELOPE_ATTEMPTS_MAX)
            envelope->flags += ENVELOPE_ATTEMPT;
        actor->failed_lane = is_control;
        put_back(turn, index, is_control);
        failure_note(turn, error);
        return false;
    }
    turn->messages++;
    if (message->hold[0].bits | message->hold[1].bits)
        turn_discard(turn, index);
    else
        envelope_free(runtime, &turn->worker->caller, index);
    return true;
}

/* Handles messages until there are none, the limit is reached, or the actor ends or fails. */
static void handle_messages(struct turn *turn)
{
    struct actor *actor = turn->actor;
    const struct behaviour *behaviour = behaviour_of(actor);
    const uint32_t *posts = &turn->worker->caller.posts;
    uint32_t posts_before = *posts;
    if (has_taken(actor)) { /* of the last turn: what came since may go first */
        gather(turn);
        ahead_messages(turn);
    }
    for (uint32_t left = turn->limit; left > 0 && !turn->exits && !turn->yields; left--) {
        if (__builtin_expect(*posts - posts_before >= TURN_POSTS_MAX, 0))
            return;
        uint64_t orders = atomic_load_explicit(&actor->orders, memory_order_acquire);
        if (__builtin_expect(orders & (ORDER_STOP | ORDER_ATTENTION), 0)) {
            if (orders & ORDER_STOP) {
                turn->exits = true;
                turn->cause = orders_cause(orders);
                return;
            }
            orders_attend(actor);
            gather(turn);
        }
        bool is_control;
        uint32_t index = pop_next(turn, &is_control);
        if (!index || !handle(turn, behaviour, index, is_control))
            return;
    }
}

/* Tells as many of those who wait for room as there is room for. Had it told all, most would come only to find the
 * mailbox full again, and wait again. Whoever was told may not come: so while some are left, the actor has another
 * turn, behind those it told, and looks again. The depth counts only after a settle, and after a settle the actor may
 * be idle: so this leaves a token in the mailbox. False: somebody is still to be told, and the token stays. */
static bool offer_room(struct turn *turn)
{
    struct actor *actor = turn->actor;
    uint64_t handled = turn->data * MAILBOX_DATA_ONE + turn->control * MAILBOX_CONTROL_ONE;
    uint64_t change = (actor->has_offered ? 0 : MAILBOX_CONTROL_ONE) - handled;
    uint64_t word = atomic_fetch_add_explicit(&actor->mailbox, change, memory_order_acq_rel) + change;
    turn->data = 0;
    turn->control = 1;
    actor->has_offered = false;
    uint32_t mailbox_max = atomic_load_explicit(&actor->mailbox_max, memory_order_relaxed);
    if (mailbox_max & MAILBOX_MUTED || mailbox_data(word) > mailbox_max / 2)
        return true;
    uint32_t room = mailbox_max - mailbox_data(word);
    actor->has_offered = !turn_tell_waiters(turn, room < TURN_TELLS_MAX ? room : TURN_TELLS_MAX);
    return !actor->has_offered;
}

/* Takes the handled messages off the mailbox's counts, and leaves the actor idle, queued, or ended. */
static void settle(struct turn *turn)
{
    struct actor *actor = turn->actor;
    bool has_more = has_taken(actor);
    uint64_t word = mailbox_settle(&actor->mailbox, turn->data, turn->control);
    if ((word & MAILBOX_COUNTS) == 0)
        return;
    while (!has_more && mailbox_top(word) == 0) {
        /* Only tokens. One may have come with a stop, whose flag was set before it. */
        uint64_t orders = atomic_load_explicit(&actor->orders, memory_order_seq_cst);
        if (orders & ORDER_STOP) {
            turn_end_actor(turn, orders_cause(orders));
            return;
        }
        if (mailbox_clear_tokens(&actor->mailbox, &word))
            return;
    }
    queue_again(turn);
}

/* The turn's bookkeeping and its last callback. */
static void close_turn(struct turn *turn)
{
    const struct behaviour *behaviour = behaviour_of(turn->actor);
    counter_add(&turn->actor->handled, turn->messages);
    counter_add(&turn->worker->caller.counters.messages, turn->messages);
    if (behaviour->on_turn_end)
        behaviour->on_turn_end(turn, turn->actor->state);
}

/* Ends the turn of an actor that goes on. */
static void rest(struct turn *turn)
{
    if (__builtin_expect(turn->actor->waiters, 0) && !offer_room(turn))
        queue_again(turn);
    else
        settle(turn);
}

/* The failed message stays counted, so the actor does not go idle in the first settle. */
static void finish_failed(struct turn *turn)
{
    mailbox_settle(&turn->actor->mailbox, turn->data, turn->control);
    turn->data = 0;
    turn->control = 0;
    if (!resume_failed(turn))
        return;
    if (turn->exits)
        turn_end_actor(turn, turn->cause);
    else
        rest(turn);
}

static void finish(struct turn *turn)
{
    struct actor *actor = turn->actor;
    if (turn->messages || turn->skips)
        close_turn(turn);
    if (__builtin_expect(turn->exits, 0))
        turn_end_actor(turn, turn->cause);
    else if (__builtin_expect(phase_of(actor) == PHASE_FAILED, 0))
        finish_failed(turn);
    else
        rest(turn);
}

void turn_run(struct worker *worker, struct actor *actor, uint32_t limit)
{
    struct turn *turn = &worker->turn;
    turn->actor = actor;
    turn->self = actor_handle(actor);
    turn->now_ns = 0;
    turn->limit = limit;
    turn->data = 0;
    turn->control = 0;
    turn->messages = 0;
    turn->ahead = 0;
    turn->exits = turn->yields = turn->keeps = turn->skips = false;
    turn->cause = WEIR_OK;
    atomic_store_explicit(&worker->running, actor, memory_order_relaxed);
    atomic_store_explicit(&actor->worker_last, worker->index, memory_order_relaxed);
    if (phase_of(actor) == PHASE_READY && !actor->owed) {
        handle_messages(turn);
        finish(turn);
    } else {
        if (phase_of(actor) == PHASE_STARTING)
            turn->control = 1; /* the token it was spawned with */
        if (resume(turn)) {
            handle_messages(turn);
            finish(turn);
        }
    }
    counter_add(&worker->turns, 1);
}
