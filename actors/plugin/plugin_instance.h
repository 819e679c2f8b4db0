/* An entry of the table of plugins (plugins.c), which its actor shares with it. Only actors/plugin includes this. */
#ifndef ACTORS_PLUGIN_PLUGIN_INSTANCE_H
#define ACTORS_PLUGIN_PLUGIN_INSTANCE_H

#include <pthread.h>
#include <stdatomic.h>

#include "actors/plugin/plugin.h"

struct plugin_instance {
    struct plugins *plugins;
    struct runtime *runtime;
    weir_actor directory;
    struct budget *budget;
    /* The bell: whom it wakes, written by the actor's start and end; whether it was rung since the actor last looked,
     * set by the host's threads and cleared by the actor before it looks. Both sequentially consistent: who sets
     * is_rung after an output is there either finds it cleared, and wakes the actor, or the actor has yet to look. */
    _Atomic uint64_t bell_actor;
    _Atomic bool is_rung;
    pthread_mutex_t lock;
    struct plugin_config config; /* of now; under the lock */
    weir_actor actor;            /* under the lock; none: it does not run */
    weir_actor load_from;        /* under the lock; is to be told how its start goes; none: nobody */
    uint64_t load_word;
    pthread_cond_t begun;  /* has_begun is true now; of the monotonic clock */
    bool has_begun;        /* under the lock: its actor was started and others find it, or that failed; for good */
    weir_actor supervisor; /* under the table's lock, as the next one; none: it was not loaded */
    weir_actor unloaded;   /* the supervisor that was told to stop last: its name is free when it has ended */
    struct plugin_status status; /* written by the actor, under the lock */
    struct plugin_instance *next;
    bool is_defined;
};

#endif
