/* The pool for work that blocks: a bounded queue and a few threads, started when first needed. */
#ifndef ACTORS_RUNTIME_BLOCKING_H
#define ACTORS_RUNTIME_BLOCKING_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "actors/base/limits.h"
#include "actors/runtime/message.h"
#include "weir_error.h"

struct runtime;

struct blocking_task {
    uint64_t (*work)(void *argument);
    void *argument;
    weir_actor reply_to;
    uint64_t word;
};

enum { BLOCKING_THREADS_MAX = 64 };

/* All under the lock. */
struct blocking {
    struct runtime *runtime;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a task came, or the pool closes */
    pthread_t threads[BLOCKING_THREADS_MAX];
    unsigned threads_count, threads_max, threads_idle;
    struct blocking_task tasks[BLOCKING_QUEUE_MAX]; /* a ring */
    uint32_t first, count;
    bool is_closed;
};

void blocking_init(struct blocking *blocking, struct runtime *runtime, unsigned threads_max);
/* Refuses new tasks, lets the waiting ones run, ends the threads. Blocks as long as the tasks do. */
void blocking_stop(struct blocking *blocking);
void blocking_fini(struct blocking *blocking);

/* Runs one waiting task on this thread; false when there is none. For the simulation. */
bool blocking_run_one(struct blocking *blocking);

#endif
