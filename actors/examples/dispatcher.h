/* A dispatcher for the examples: passes every message it gets to each of its receivers, through their mailboxes. Where
 * one is behind, it waits for that one, and takes in nothing more itself: so its senders are held back, and no queue
 * grows. Each of its messages may hold one block. Included by one .c file each. */
#ifndef ACTORS_EXAMPLES_DISPATCHER_H
#define ACTORS_EXAMPLES_DISPATCHER_H

#include "actors/examples/example.h"

enum { DISPATCHER_RECEIVERS_MAX = 16, DISPATCHER_MAILBOX = 16 };

struct dispatcher_args {
    weir_actor receivers[DISPATCHER_RECEIVERS_MAX];
    unsigned count;
    uint32_t tag_last; /* a message with this tag is passed on too, and is the last */
};

/* Written by the dispatcher's turns, read after its last message has been passed on. */
static uint64_t dispatcher_waits, dispatcher_backlog;

/* Muting refuses what comes, but what the mailbox has taken in still arrives, and the one source may have looked just
 * before: that many messages and no more. */
enum { DISPATCHER_BACKLOG = DISPATCHER_MAILBOX + 1 };

struct dispatcher {
    struct dispatcher_args args;
    unsigned next; /* receiver that the oldest message goes to next */
    uint32_t first, count;
    struct message backlog[DISPATCHER_BACKLOG]; /* a ring; its holds are the dispatcher's */
    bool is_blocked;
};

static enum weir_error dispatcher_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    ((struct dispatcher *)state)->args = *(const struct dispatcher_args *)args;
    return WEIR_OK;
}

/* Passes one message to the receivers that have not got it yet. WEIR_FULL: one of them is behind. */
static enum weir_error dispatcher_pass(struct turn *turn, struct dispatcher *self, const struct message *message)
{
    struct arena *arena = turn_arena(turn);
    for (; self->next < self->args.count; self->next++) {
        if (!msg_is_none(message->hold[0]))
            MUST(arena_hold(arena, message->hold[0]));
        enum weir_error error = turn_send(turn, self->args.receivers[self->next], message);
        if (error)
            arena_drop(arena, message->hold[0]);
        if (error && error != WEIR_STALE) /* stale: that one is gone for good, the others go on */
            return error;
    }
    self->next = 0;
    arena_drop(arena, message->hold[0]);
    return WEIR_OK;
}

/* Passes on what waits. Where a receiver is behind, nothing more is taken in until it tells of room. */
static void dispatcher_drain(struct turn *turn, struct dispatcher *self)
{
    while (self->count > 0 && !self->is_blocked) {
        bool is_last = self->backlog[self->first].tag == self->args.tag_last;
        enum weir_error error = dispatcher_pass(turn, self, &self->backlog[self->first]);
        if (error == WEIR_FULL) {
            dispatcher_waits++;
            error = turn_await_room(turn, self->args.receivers[self->next]);
            self->is_blocked = error == WEIR_OK;
            if (!error || error == WEIR_STALE) /* stale: it has just ended; the next try passes it by */
                continue;
        }
        if (!error) {
            self->first = (self->first + 1) % DISPATCHER_BACKLOG;
            self->count--;
        }
        if (error || is_last) {
            turn_exit(turn, error);
            return;
        }
    }
    turn_mute(turn, self->is_blocked);
}

static enum weir_error dispatcher_message(struct turn *turn, void *state, struct message *message)
{
    struct dispatcher *self = state;
    if (message->tag == MESSAGE_ROOM) {
        self->is_blocked = false;
    } else {
        CHECK(self->count < DISPATCHER_BACKLOG);
        struct message *last = &self->backlog[(self->first + self->count++) % DISPATCHER_BACKLOG];
        *last = *message;
        last->hold[0] = message_take(message, 0);
        dispatcher_backlog = self->count > dispatcher_backlog ? self->count : dispatcher_backlog;
    }
    dispatcher_drain(turn, self);
    return WEIR_OK;
}

static void dispatcher_stop(struct turn *turn, void *state, enum weir_error cause)
{
    (void)cause;
    struct dispatcher *self = state;
    for (; self->count > 0; self->count--, self->first = (self->first + 1) % DISPATCHER_BACKLOG)
        arena_drop(turn_arena(turn), self->backlog[self->first].hold[0]);
}

static const struct behaviour dispatcher_behaviour = {.name = "dispatcher",
                                                      .state_size = sizeof(struct dispatcher),
                                                      .on_start = dispatcher_start,
                                                      .on_message = dispatcher_message,
                                                      .on_stop = dispatcher_stop};

#endif
