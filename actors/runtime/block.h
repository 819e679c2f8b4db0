/* An actor's control block: one type-stable slot with the actor's state behind it. What its worker, its
 * senders and those who order it about know of an actor. Only actors/runtime includes this. */
#ifndef ACTORS_RUNTIME_BLOCK_H
#define ACTORS_RUNTIME_BLOCK_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "actors/runtime/actor.h"
#include "actors/runtime/mailbox.h"

/* Slots come in classes of 128 bytes plus so many of state, whole cache lines; in finer steps around a KiB, where
 * topics are. The class is in the top 4 bits of an actor's index, so that a handle finds its pool. */
static const uint32_t actor_state_sizes[] = {64,   128,  256,  512,  768,  896,  1024,
                                             1152, 1280, 1536, 2048, 4096, 8192, ACTOR_STATE_SIZE_MAX};
enum { ACTOR_CLASSES = sizeof actor_state_sizes / sizeof actor_state_sizes[0] };
#define ACTOR_CLASS_SHIFT 28
#define ACTOR_CLASS_SLOTS_MAX ((UINT32_C(1) << ACTOR_CLASS_SHIFT) - 1)

enum actor_phase {
    PHASE_FREE,     /* the slot serves nobody */
    PHASE_STARTING, /* on_start has not run yet */
    PHASE_READY,
    PHASE_FAILED, /* a message or a restart failed: suspended, or about to be */
    PHASE_ENDING, /* closed; tells those who watch it */
};

struct actor {
    /* What senders touch. */
    uint32_t link; /* the pool's, while the slot is free */
    /* Never 0 once used. Written by the worker that frees the slot (release) and read by senders
     * (relaxed: a late reader is caught by the envelope's generation). */
    _Atomic uint32_t generation;
    _Atomic uint64_t mailbox;     /* mailbox.h */
    _Atomic uint32_t mailbox_max; /* data messages, and MAILBOX_MUTED; written at spawn and by its worker, read by
                                     senders: relaxed, as nothing but the bound hangs on it */
    _Atomic uint32_t refused;     /* any sender adds; relaxed, a statistic */
    _Atomic uint32_t timers;      /* first timer; written under the timers' lock, read at the end (see timers.c) */
    uint32_t index;               /* class and slot; the same for the slot's life, written at spawn */
    struct actor *run_next;       /* behind it in an overflow list; under that list's lock */
    _Atomic(const struct behaviour *) behaviour; /* written at spawn; read by status */
    weir_actor supervisor;                       /* written at spawn; read by its worker */
    _Atomic uint32_t label;       /* slot of struct label or 0; written at spawn and end; read by status */
    _Atomic uint32_t worker_last; /* worker that ran it last; relaxed, a hint for wake-ups */

    /* What its worker touches; others only the orders, and the relaxed statistics. */
    _Atomic uint64_t orders;              /* orders.h */
    uint32_t control_first, control_last; /* taken control messages, oldest first */
    uint32_t data_first, data_last;       /* taken data messages, oldest first */
    uint32_t relations;                   /* envelopes: who watches it, is linked to it, is awaited by it */
    uint32_t waiters; /* envelopes, in a ring: who waits for room in its mailbox. The newest, before the oldest */
    struct budget *budget;
    _Atomic uint64_t handled;   /* worker only (plain read, relaxed store); status reads */
    _Atomic uint32_t failures;  /* the same */
    _Atomic uint8_t phase;      /* enum actor_phase; spawn and worker write, status and stop read */
    _Atomic uint8_t last_cause; /* enum weir_error; worker writes, status reads */
    uint8_t attempts_max;
    uint8_t owed;        /* 1 + enum actor_event that its supervisor has not been told yet */
    uint16_t args_size;  /* bytes of arguments waiting in state[], until it starts */
    uint8_t failed_lane; /* of the message that failed: 0 data, 1 control */
    bool is_started;     /* on_start returned OK */
    uint16_t sweep_in;   /* relations still to add before those of ended actors are removed */
    bool has_offered;    /* some waiters were told of room and the next turn tells more: a token stands for it */

    alignas(64) unsigned char state[];
};

_Static_assert(sizeof(struct actor) == 128, "a control block is two cache lines");

static inline enum actor_phase phase_of(const struct actor *actor)
{
    return (enum actor_phase)atomic_load_explicit(&actor->phase, memory_order_relaxed);
}

static inline void phase_set(struct actor *actor, enum actor_phase phase)
{
    atomic_store_explicit(&actor->phase, (uint8_t)phase, memory_order_relaxed);
}

static inline const struct behaviour *behaviour_of(const struct actor *actor)
{
    return atomic_load_explicit(&actor->behaviour, memory_order_relaxed);
}

/* Text for people beside an actor that has one. Words are atomic (relaxed) because status may read a
 * label while its slot is given to another actor; the generation tells it afterwards. */
struct label {
    uint32_t link;
    uint32_t unused;
    _Atomic uint64_t words[8];
};

/* Tags of commands: control envelopes with ENVELOPE_COMMAND. from is the other actor. */
enum command {
    COMMAND_MONITOR = 1, /* tell `from` when it ends */
    COMMAND_LINK,        /* stop `from` when it ends badly */
    COMMAND_UNLINK,      /* `from` is gone */
    COMMAND_AWAIT,       /* tell `from` when there is room */
    COMMAND_AWAITING,    /* never sent: an entry of relations, "I wait for room in `from`" */
};

#endif
