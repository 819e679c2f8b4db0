/* A message: one 64-byte envelope in a mailbox. Small payloads travel in it, everything else is a
 * block in the arena that it holds. What every actor sees; on the worker that runs its turn. */
#ifndef ACTORS_RUNTIME_MESSAGE_H
#define ACTORS_RUNTIME_MESSAGE_H

#include <stdint.h>

#include "actors/memory/arena.h"

/* Names an actor: index and generation. {0} is nobody. A handle kept after the actor ended is refused
 * with WEIR_STALE, also when the slot serves another actor by then. */
typedef struct {
    uint64_t bits;
} weir_actor;

#define WEIR_ACTOR_NONE ((weir_actor){0})

static inline bool actor_is_none(weir_actor actor) { return actor.bits == 0; }
static inline bool actor_is_same(weir_actor a, weir_actor b) { return a.bits == b.bits; }

enum { MESSAGE_WORDS = 3, MESSAGE_HOLDS = 2 };

/* Tags below this are the users'; those from here on are the runtime's own (below). */
#define MESSAGE_TAG_RUNTIME UINT32_C(0xffff0000)

enum message_tag {
    /* The mailbox you asked to hear of (actor_await_room) has room. from: that actor. */
    MESSAGE_ROOM = 0xffff0000,
    /* A timer fired. word[0]: the word given at timer_start, word[1]: the timer. */
    MESSAGE_TIMER,
    /* A monitored or linked actor, or a child, ended or failed. from: it.
     * word[0]: enum actor_event, word[1]: enum weir_error cause, word[2]: attempts on the message in hand. */
    MESSAGE_EVENT,
    /* Asks the actor to end in order: it finishes with turn_exit(turn, WEIR_OK), at once by default. */
    MESSAGE_SHUTDOWN,
    /* A blocking task's result. word[0]: what its function returned, word[1]: the word given. */
    MESSAGE_TASK,
};

struct message {
    uint32_t tag;
    uint32_t detail;              /* free for the user: a count, an id */
    weir_actor from;              /* the actor that sent it; none from outside */
    weir_msg hold[MESSAGE_HOLDS]; /* references that travel with it; dropped after the turn, if still set */
    uint64_t word[MESSAGE_WORDS];
};

/* Takes hold[i] out of the message: the caller now owns that reference. */
static inline weir_msg message_take(struct message *message, int i)
{
    weir_msg msg = message->hold[i];
    message->hold[i] = WEIR_MSG_NONE;
    return msg;
}

#endif
