/* Threads. See threads.h. Called by whoever starts one. */
#include "actors/runtime/threads.h"

#include <signal.h>

enum weir_error thread_start(pthread_t *out, const char *name, void *(*function)(void *argument), void *argument)
{
    sigset_t all, before;
    sigfillset(&all);
    /* The new thread inherits the mask. */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(out, NULL, function, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return WEIR_NO_MEMORY;
    pthread_setname_np(*out, name);
    return WEIR_OK;
}

void lock_init(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}
