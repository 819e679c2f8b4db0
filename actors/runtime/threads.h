/* Threads of the runtime: named, and without signals, which belong to the program's main thread. */
#ifndef ACTORS_RUNTIME_THREADS_H
#define ACTORS_RUNTIME_THREADS_H

#include <pthread.h>

#include "weir_error.h"

/* Starts one; name for people, at most 15 bytes. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error thread_start(pthread_t *out, const char *name, void *(*function)(void *argument),
                                           void *argument);

/* A lock for a few dozen instructions: who finds it taken spins a little before it sleeps, since the holder is
 * gone sooner than a sleeper wakes. Without that, threads that take it all the time starve a worker. */
void lock_init(pthread_mutex_t *lock);

#endif
