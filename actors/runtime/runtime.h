/* The runtime: workers, the clock, timers, blocking tasks, and the seam through which a seed can drive
 * all of it in one thread. One for a process, though tests make several in turn. */
#ifndef ACTORS_RUNTIME_RUNTIME_H
#define ACTORS_RUNTIME_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "actors/memory/arena.h"
#include "actors/runtime/actor.h"

struct runtime;

struct runtime_config {
    struct arena *arena;   /* borrowed; outlives the runtime */
    unsigned workers;      /* 0: one for each processor; simulated: ignored */
    uint32_t mailbox_max;  /* default for actors; 0: MAILBOX_MAX_DEFAULT */
    uint32_t turn_max;     /* messages a turn at the most; 0: TURN_MESSAGES_MAX */
    unsigned blocking_max; /* threads for blocking tasks; 0: BLOCKING_THREADS_DEFAULT */
    uint64_t turn_warn_ns; /* a turn longer than this is logged with the actor's name; 0: TURN_WARN_NS */

    /* A message that failed attempts_max times, on the worker, in the failed actor's name. The callee takes over
     * references in message->hold by clearing them. It returns true when the message is done with; false when it has
     * changed it (taken the poisoned record out of a batch) and what is left is to be handled as a fresh message in the
     * same place. NULL: logged and dropped. */
    bool (*on_dead_letter)(struct turn *turn, struct message *message, enum weir_error cause, uint32_t attempts,
                           void *context);
    void *context;

    bool simulate; /* no threads: runtime_step runs one turn, chosen by the seed; the clock is virtual */
    uint64_t seed;
};

WEIR_MUST_USE enum weir_error runtime_create(const struct runtime_config *config, struct runtime **out);

/* Starts the workers. Blocks only as thread creation does. */
WEIR_MUST_USE enum weir_error runtime_start(struct runtime *runtime);

/* Refuses new actors and stops every actor still there (in no order; a supervisor's shutdown comes before),
 * then ends the threads. Blocks until they have ended. */
void runtime_stop(struct runtime *runtime);

void runtime_destroy(struct runtime **runtime);

struct arena *runtime_arena(struct runtime *runtime);
uint64_t runtime_now_ns(struct runtime *runtime);

struct worker_status {
    uint64_t turns, messages, steals, parks;
    uint64_t busy_ns;
    uint32_t queued;     /* actors waiting to run */
    char running[64];    /* who it runs at present, "" when none */
    uint64_t running_ns; /* for how long */
};
struct runtime_status {
    unsigned workers;
    size_t actors;
    size_t timers;
    uint64_t messages, refused, dead_letters, failures, restarts;
};
void runtime_status(struct runtime *runtime, struct runtime_status *out);
WEIR_MUST_USE enum weir_error runtime_worker_status(struct runtime *runtime, unsigned index, struct worker_status *out);

/* ------------------------------------------------------------------------------------------ timers */

typedef struct {
    uint64_t bits;
} weir_timer;

/* Sends `to` a MESSAGE_TIMER with word on its control lane after delay_ns, and then every period_ns (0: once).
 * A periodic timer whose last message is still waiting skips a beat. Ends with the actor. Any thread. */
WEIR_MUST_USE enum weir_error timer_start(struct runtime *runtime, weir_actor to, uint64_t delay_ns, uint64_t period_ns,
                                          uint64_t word, weir_timer *out);

/* After this no message of that timer is handled any more, even one that is waiting. A timer that is over: fine. */
void timer_cancel(struct runtime *runtime, weir_timer handle);

/* --------------------------------------------------------------------------------- blocking tasks */

/* Runs work(argument) on a thread of the blocking pool and sends its result to reply_to as MESSAGE_TASK.
 * WEIR_FULL when BLOCKING_QUEUE_MAX tasks wait. Any thread. */
WEIR_MUST_USE enum weir_error blocking_run(struct runtime *runtime, uint64_t (*work)(void *argument), void *argument,
                                           weir_actor reply_to, uint64_t word);

/* -------------------------------------------------------------------------------------- simulation */

/* Runs one turn, chosen by the seed among the actors that could run; false when none could. */
bool runtime_step(struct runtime *runtime);
/* Moves the virtual clock to the next timer and fires it; false when none is armed. */
bool runtime_advance(struct runtime *runtime);
/* Hash over every choice made so far: equal for equal seeds. */
uint64_t runtime_order_hash(const struct runtime *runtime);

/* ---------------------------------------------------------------------------------------- registry */

/* Names for actors, unique in a runtime. Any thread; a short lock, never held over a callback. */
WEIR_MUST_USE enum weir_error registry_add(struct runtime *runtime, const char *name, size_t size, weir_actor actor);
void registry_remove(struct runtime *runtime, const char *name, size_t size);
WEIR_MUST_USE enum weir_error registry_find(struct runtime *runtime, const char *name, size_t size, weir_actor *out);

#endif
