/* A worker: a thread that gives actors their turns, and the turn it gives. Only actors/runtime includes this. */
#ifndef ACTORS_RUNTIME_WORKER_H
#define ACTORS_RUNTIME_WORKER_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "actors/runtime/caller.h"
#include "actors/runtime/run_queue.h"

/* What it costs to handle a message on the other core: its envelope, the mailbox, the sender's lines. */
#define CROSSING_NS 400
/* Queued actors at which a worker calls for help. */
#define HELP_FROM 2

/* One actor's turn. Its worker only. */
struct turn {
    struct runtime *runtime;
    struct worker *worker;
    struct actor *actor;
    weir_actor self;
    uint64_t now_ns;           /* 0 until somebody asks */
    uint32_t limit;            /* messages still allowed */
    uint32_t data, control;    /* handled and not settled */
    uint32_t messages;         /* on_message calls that were OK */
    uint32_t ahead;            /* envelope some places behind the next data message; 0: none, or nobody looks ahead */
    bool exits, yields, keeps; /* turn_exit, turn_yield, turn_shutdown_defer were called */
    bool skips;                /* some of what it took was nothing to handle */
    enum weir_error cause;     /* of the exit */
};

struct worker {
    alignas(64) struct caller caller; /* first: the worker is its own caller */
    struct runtime *runtime;
    unsigned index;
    struct turn turn;
    uint32_t help_from;          /* queued actors at which another worker is worth waking; whoever has the place */
    uint32_t turns_since_global; /* looks at the global list every GLOBAL_TURNS */
    uint64_t random;             /* whom to steal from first */
    uint32_t chain;              /* envelope that waits for the next actor, as far as it was fetched (ahead.h) */

    /* Of those that try later: how many were taken last, and what caller.laters was then. Where they come back, whom
     * they have to tell is not at work: this worker sleeps a while before it tries again. */
    uint32_t later_taken, later_before;
    bool is_later_barren;
    bool is_unrested; /* it may have more memory to give back when it has slept for ARENA_REST_NS */

    /* The clock is read once in clock_turns turns: often enough to tell time to some microseconds. */
    uint32_t clock_turns, clock_left;
    uint64_t clock_messages; /* messages handled when it was read */

    /* Written by this worker (relaxed), read by thieves, the watcher and status. */
    alignas(64) _Atomic uint64_t turns;
    _Atomic(struct actor *) running;
    _Atomic uint64_t clock_ns; /* when the clock was last read; 0 while parked */
    _Atomic uint32_t cost_ns;  /* of a message, moving average */
    _Atomic uint64_t steals, parks, busy_ns;
    /* Set by this worker when it woke another one to share its queue, taken by the one that does. */
    _Atomic bool wants_help;

    /* Futex word: 1 is a wake-up not yet taken. Wakers store (release), the worker takes it (acquire). */
    alignas(64) _Atomic uint32_t token;
    /* Its own thread's words to whoever borrows its place (park.h, 4): that it is awake and waits for the place; until
     * when it sleeps, if it keeps time. */
    _Atomic bool is_awaited;
    _Atomic uint64_t sleeps_until_ns;

    struct run_queue queue;
    pthread_t thread;
};

/* The worker this thread is, of that runtime; NULL for none. */
struct worker *worker_current(const struct runtime *runtime);
/* Makes this thread a worker, or none (NULL); returns what it was. For worker threads and the simulation. */
struct worker *worker_enter(struct worker *worker);

void worker_init(struct worker *worker, struct runtime *runtime, unsigned index);
void worker_fini(struct worker *worker);
/* Thread function: runs turns until the runtime is closed. */
void *worker_main(void *argument);
/* Runs turns of this worker's own queue, at most so many, and begins none after so long; true when some are left. For
 * whoever borrowed its place. */
bool worker_run_some(struct worker *worker, uint32_t turns_max, uint64_t time_max_ns);
/* Runs one turn if there is one to run here; for runtime_stop before any start. */
bool worker_run_one(struct worker *worker);
/* Wakes a parked worker to share this one's queue. Its own thread. */
void worker_call_for_help(struct worker *worker);

/* Puts an actor at the end of this worker's queue; may wake another one to share the work. Its own thread. */
static inline void worker_queue(struct worker *worker, struct actor *actor)
{
    if (run_queue_push(&worker->queue, actor) >= worker->help_from &&
        atomic_load_explicit(&worker->cost_ns, memory_order_relaxed) >= CROSSING_NS)
        worker_call_for_help(worker);
}
/* Whether a worker that is awake will soon take what was just queued on the global list, so that nobody need be
 * woken. Any thread, after queueing. */
bool worker_attends_global(struct runtime *runtime);
/* Whether an idle worker should take work from this one: there is enough of it, and each piece costs more
 * than moving it. Any thread. */
bool worker_is_worth_helping(const struct worker *worker);

/* turn.c: one turn of one actor. limit: messages at most. Afterwards the actor belongs to whoever runs it next. */
void turn_run(struct worker *worker, struct actor *actor, uint32_t limit);

/* ending.c: on_stop, close, tell everyone, free. Goes on in another turn where somebody could not be told. */
void turn_end_actor(struct turn *turn, enum weir_error cause);
void turn_continue_ending(struct turn *turn);
/* Sorts a taken stack (newest first) behind the actor's lists of taken messages (oldest first). */
void turn_sort(struct runtime *runtime, struct actor *actor, uint32_t index);
/* Drops what a message holds and frees its envelope. */
void turn_discard(struct turn *turn, uint32_t index);

/* relations.c */
void turn_command(struct turn *turn, uint32_t index);
/* Tells waiters, the oldest first and so many at the most, that there is room; true when none is left. */
bool turn_tell_waiters(struct turn *turn, uint32_t max);
/* A ROOM message arrived: the actor waits for that one no more. */
void turn_forget_awaited(struct turn *turn, weir_actor from);

#endif
