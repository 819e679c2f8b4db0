/* The watcher: a thread that sees what busy workers cannot see themselves. It reports turns that last too
 * long and has the rest of such a worker's queue run elsewhere. Asleep soon after the workers are. */
#ifndef ACTORS_RUNTIME_WATCH_H
#define ACTORS_RUNTIME_WATCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "weir_error.h"

struct runtime;

struct watch {
    struct runtime *runtime;
    pthread_t thread;
    bool is_running;
    /* Futex word: 1 while it watches, 0 while it sleeps. It clears it, a worker that wakes sets it; both
     * sequentially consistent, with the workers' parked bits. */
    _Atomic uint32_t is_awake;
    _Atomic bool is_closed; /* owner stores (release); ends the thread */
};

WEIR_MUST_USE enum weir_error watch_start(struct watch *watch, struct runtime *runtime);
void watch_stop(struct watch *watch);

/* A worker has something to do: somebody should watch it. Cheap while the watcher is awake. */
void watch_ensure(struct watch *watch);

#endif
