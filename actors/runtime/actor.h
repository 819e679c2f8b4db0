/* Actors: what a behaviour is, and what it may do in its turn.
 *
 * An actor handles one message at a time, on one worker at a time; its state needs no lock. It is
 * never run by two workers at once, and what one worker wrote to its state the next one sees.
 * Nothing here blocks. */
#ifndef ACTORS_RUNTIME_ACTOR_H
#define ACTORS_RUNTIME_ACTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "actors/runtime/message.h"
#include "weir_error.h"

struct runtime;
struct turn; /* one actor running on one worker; valid only inside the callbacks below */

/* What happened to an actor, as MESSAGE_EVENT tells it. */
enum actor_event {
    ACTOR_EVENT_EXITED, /* it ended (or never started); cause WEIR_OK: in order */
    ACTOR_EVENT_FAILED, /* its turn failed; it is suspended with its mailbox until actor_restart or actor_stop */
    ACTOR_EVENT_READY,  /* its on_start returned WEIR_OK */
};

struct behaviour {
    const char *name;  /* for people; lives as long as the program */
    size_t state_size; /* bytes of state, zeroed before on_start; at most ACTOR_STATE_SIZE_MAX */

    /* Optional. args is valid only for this call (copied at spawn, args_size bytes). A failure ends the
     * actor with that cause; on_stop is not called then. */
    enum weir_error (*on_start)(struct turn *turn, void *state, const void *args);

    /* Handles one message. Anything but WEIR_OK fails the turn: the actor is suspended with its mailbox
     * kept, the message in hand included, and its supervisor is told. The behaviour must then have left
     * its state as it was before the message (or mend it in on_restart). Messages it sent stay sent. What it
     * changed in *message stays changed for the next attempt: a batch can note how far it came. */
    enum weir_error (*on_message)(struct turn *turn, void *state, struct message *message);

    /* Optional: once at the end of each turn that took a message, e.g. to pass on what was gathered. */
    void (*on_turn_end)(struct turn *turn, void *state);

    /* Optional: before the message that failed is tried again; state is the last good one. A failure fails
     * the restart: it counts as one more failure, and the supervisor is told. */
    enum weir_error (*on_restart)(struct turn *turn, void *state, enum weir_error cause);

    /* Optional: the actor ends; releases what the state holds. May send, cannot refuse. */
    void (*on_stop)(struct turn *turn, void *state, enum weir_error cause);

    /* Optional: after on_stop, for each message that nobody will read any more, so that who waits for an answer gets
     * one. state is what on_stop left of it, or NULL where the actor ends without having started; the message stays the
     * runtime's. May send. */
    void (*on_unread)(struct turn *turn, void *state, const struct message *message);

    /* Optional, for behaviours with thousands of actors: what most turns touch is fetched into the processor's caches
     * while others have their turns. So many bytes of the state (0: its first cache line). */
    uint16_t ahead_size;
    /* And what it points to. Only fetches (__builtin_prefetch): the actor may be in a turn elsewhere meanwhile, so what
     * this reads of the state may be of any moment, is read atomically, and followed no further. Such a read is no use
     * of it: AHEAD keeps ThreadSanitizer from taking it for one. */
    void (*ahead)(const void *state);
    /* What a message makes the actor look at, some messages before it is handled, by the same rules but that the state
     * is the actor's own. Without this its sender is fetched, since most messages are answered. */
    void (*ahead_message)(const void *state, const struct message *message);
};

#define AHEAD __attribute__((no_sanitize("thread")))

#define ACTOR_STATE_SIZE_MAX ((size_t)16 << 10)
#define ACTOR_ARGS_SIZE_MAX ((size_t)512)

struct actor_options {
    uint32_t mailbox_max;  /* data messages; 0: the runtime's default (limits.h); at most 65,535 */
    uint32_t attempts_max; /* tries of one message before it is a dead letter; 0: 3; at most 255 */
    weir_actor supervisor; /* told of start, failure and end; none: a failure ends the actor */
    struct budget *budget; /* what its turn's allocations may be charged to; borrowed; may be NULL */
    const char *label;     /* for people: "topic a/b"; copied, cut at 63 bytes (costs 128 bytes); NULL: none */
};

/* Spawns an actor; it starts on a worker in its first turn, before any message. options may be NULL.
 * Any thread, also before runtime_start. WEIR_NO_MEMORY, WEIR_TOO_BIG (args), WEIR_CLOSED (stopping). */
WEIR_MUST_USE enum weir_error actor_spawn(struct runtime *runtime, const struct behaviour *behaviour, const void *args,
                                          size_t args_size, const struct actor_options *options, weir_actor *out);

/* ------------------------------------------------------------------------------------ inside a turn */

struct runtime *turn_runtime(struct turn *turn);
struct arena *turn_arena(struct turn *turn);
weir_actor turn_self(struct turn *turn);
/* options.budget of its spawn; may be NULL. */
struct budget *turn_budget(struct turn *turn);
/* The runtime's clock, read once a turn unless simulated; monotonic nanoseconds. */
uint64_t turn_now_ns(struct turn *turn);

/* For on_turn_end: whether messages are left, so that another turn, with another end, comes soon. What was gathered can
 * wait for that. False may be wrong about what came a moment ago; true is certain. */
bool turn_has_more(const struct turn *turn);

/* Something will be sent to that actor soon: what that takes is fetched into the processor's caches meanwhile. */
void turn_ahead(const struct turn *turn, weir_actor to);

/* Sends a data message; from is set to the caller. On WEIR_OK the references in message->hold have moved to the
 * receiver. On a refusal they are still the caller's: WEIR_FULL (see actor_await_room), WEIR_STALE (it ended). */
WEIR_MUST_USE enum weir_error turn_send(struct turn *turn, weir_actor to, const struct message *message);

/* The same on the control lane, which is handled before data and has its own bound of CONTROL_MAX messages, less a
 * few kept for what the runtime itself has to tell. */
WEIR_MUST_USE enum weir_error turn_control(struct turn *turn, weir_actor to, const struct message *message);

/* Asks for one MESSAGE_ROOM (control lane) from `to` once its mailbox is at most half full; at once when it is
 * so already. Asking twice before it came gives one. When `to` has ended: WEIR_STALE, no message; when it ends
 * later, the message comes, and the next send learns that it is stale. */
WEIR_MUST_USE enum weir_error turn_await_room(struct turn *turn, weir_actor to);

/* Ends the caller after this message; the rest of its mailbox is dropped (references too). */
void turn_exit(struct turn *turn, enum weir_error cause);

/* In on_message of MESSAGE_SHUTDOWN: the actor has more to do and will call turn_exit itself. Without this the
 * actor ends in order when on_message returns, whatever it returns. */
void turn_shutdown_defer(struct turn *turn);

/* For conditions that only a bug of this actor could break: where REQUIRE would end the process, this fails the turn,
 * so that the actor's supervisor decides and the others run on. Use it before the message has changed anything. */
#define ACTOR_CHECK(turn, condition)                                          \
    do {                                                                      \
        if (__builtin_expect(!(condition), 0))                                \
            return turn_check_failed((turn), #condition, __FILE__, __LINE__); \
    } while (0)

/* Logs the failed check with the actor's name and returns WEIR_FAILED. */
WEIR_MUST_USE enum weir_error turn_check_failed(struct turn *turn, const char *condition, const char *file, int line);

/* Ends this turn after this message; the rest of the mailbox waits for another turn. */
void turn_yield(struct turn *turn);

/* Mutes the caller's mailbox: no more data messages are taken in (WEIR_FULL), and nobody is told of room, until it is
 * unmuted. Those taken in already still come, and so does control. Senders that looked just before may yet push one
 * each. */
void turn_mute(struct turn *turn, bool is_muted);

/* ----------------------------------------------------------------------- from anywhere, turns included */

/* As turn_send and turn_control, with from given (may be none). For threads that are no workers. */
WEIR_MUST_USE enum weir_error actor_send(struct runtime *runtime, weir_actor from, weir_actor to,
                                         const struct message *message);
WEIR_MUST_USE enum weir_error actor_control(struct runtime *runtime, weir_actor from, weir_actor to,
                                            const struct message *message);

/* As actor_control; and where a worker sleeps, the calling thread takes its place for a few turns: the actor's, and of
 * those that it wakes. So it may last as long as they do, and they run on this thread: it must hold no lock that they
 * take. For threads that are no workers; for others it is actor_control. */
WEIR_MUST_USE enum weir_error actor_control_here(struct runtime *runtime, weir_actor from, weir_actor to,
                                                 const struct message *message);

/* Runs a suspended actor on: on_restart, then the message that failed again, unless that has had attempts_max tries,
 * in which case it goes to the runtime's on_dead_letter. delay_ns: not before then (backoff). WEIR_STALE. */
WEIR_MUST_USE enum weir_error actor_restart(struct runtime *runtime, weir_actor actor, uint64_t delay_ns);

/* Ends an actor without its consent, after the message in hand at the latest (a suspended one at once). */
WEIR_MUST_USE enum weir_error actor_stop(struct runtime *runtime, weir_actor actor, enum weir_error cause);

/* watcher gets MESSAGE_EVENT when actor ends (at once when it has, with cause WEIR_STALE: nobody knows the true one
 * any more). One-way, as OTP's monitor. WEIR_STALE: the watcher has ended. */
WEIR_MUST_USE enum weir_error actor_monitor(struct runtime *runtime, weir_actor watcher, weir_actor actor);

/* As OTP's link: when either ends with a cause other than WEIR_OK, the other is stopped with that cause.
 * WEIR_STALE: one of them has ended, and the other goes on unlinked. */
WEIR_MUST_USE enum weir_error actor_link(struct runtime *runtime, weir_actor a, weir_actor b);

struct actor_status {
    weir_actor actor;
    const char *behaviour;
    char label[64];
    const char *state; /* "starting", "idle", "ready", "running", "suspended", "stopping" */
    uint32_t depth;    /* data messages waiting, the one in hand included */
    uint32_t depth_max;
    uint64_t handled;  /* messages */
    uint64_t refused;  /* sends refused because the mailbox was full */
    uint32_t failures; /* since it was spawned */
    enum weir_error last_cause;
};

/* A view of an actor as it is about now. WEIR_STALE. Any thread. */
WEIR_MUST_USE enum weir_error actor_status(struct runtime *runtime, weir_actor actor, struct actor_status *out);

#endif
