/* A source for the examples: sends numbered messages to one actor, as fast as that takes them and no faster. Where the
 * mailbox is full it asks to be told of room, and makes the refused message anew then. Included by one .c file each. */
#ifndef ACTORS_EXAMPLES_SOURCE_H
#define ACTORS_EXAMPLES_SOURCE_H

#include "actors/examples/example.h"

struct source {
    weir_actor to;
    uint64_t count, sent;
    /* Fills in message number `number` (0 to count - 1); its holds are the source's until they are sent. */
    enum weir_error (*make)(struct turn *turn, uint64_t number, struct message *out);
};

static uint64_t
    source_waits; /* how often it was held back; written by the source's turns, read after its last message */

static enum weir_error source_start(struct turn *turn, void *state, const void *args)
{
    *(struct source *)state = *(const struct source *)args;
    return turn_send(turn, turn_self(turn), &(struct message){.tag = 1});
}

static enum weir_error source_send(struct turn *turn, const struct source *self)
{
    struct message message = {0};
    enum weir_error error = self->make(turn, self->sent, &message);
    if (error)
        return error;
    error = turn_send(turn, self->to, &message);
    if (error) /* refused: the reference is still ours */
        arena_drop(turn_arena(turn), message.hold[0]);
    return error;
}

/* Its own first message, and MESSAGE_ROOM after each refusal. */
static enum weir_error source_message(struct turn *turn, void *state, struct message *message)
{
    (void)message;
    struct source *self = state;
    enum weir_error error = WEIR_OK;
    while (!error && self->sent < self->count) {
        error = source_send(turn, self);
        self->sent += !error;
    }
    if (error == WEIR_FULL) {
        source_waits++;
        return turn_await_room(turn, self->to);
    }
    turn_exit(turn, error);
    return WEIR_OK;
}

static const struct behaviour source_behaviour = {
    .name = "source", .state_size = sizeof(struct source), .on_start = source_start, .on_message = source_message};

static inline void source_spawn(struct source args)
{
    weir_actor source;
    MUST(actor_spawn(example.runtime, &source_behaviour, &args, sizeof args, NULL, &source));
}

#endif
