/* Threads that wait for sockets with epoll and call whoever owns them. Private to clients/sp. There are few of them,
 * one for every four processors, started by the first who needs one and there until the process ends; what begins on
 * one stays there, so that all its callbacks come one after the other. */
#ifndef CLIENTS_SP_POLLER_H
#define CLIENTS_SP_POLLER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "weir_error.h"

struct sp_poller;

/* Embedded in whoever waits for a descriptor. events: of epoll. */
struct sp_source {
    void (*on_events)(struct sp_source *source, uint32_t events);
    /* Before it is called, other threads are let run that want the processor, unless other sources have events, too:
     * see sp_pipe_gather. Relaxed: a call sooner or later makes no difference. */
    atomic_bool is_gathering;
};

/* Something to be done once on the poller's thread, between two waits. Its owner embeds it, and posts it again only
 * when it has run. */
struct sp_job {
    struct sp_job *next;
    void (*run)(struct sp_job *job);
};

/* A moment at which something is to be done. Only the poller's thread sets and clears it. */
struct sp_alarm {
    struct sp_alarm *next;
    uint64_t due_ns; /* 0: not set */
    void (*run)(struct sp_alarm *alarm);
};

/* They take turns. NULL: no memory, descriptors or threads at present. Any thread. */
struct sp_poller *sp_poller_take(void);
/* Whether the calling thread is it. */
bool sp_poller_is_here(const struct sp_poller *poller);

/* Begins to watch a descriptor, changes what for, or ends; any thread. A source whose watch ended on another thread may
 * be called once more, until a job posted after that has run. Without memory for the first: WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error sp_poller_watch(struct sp_poller *poller, int descriptor, uint32_t events,
                                              struct sp_source *source);
void sp_poller_change(struct sp_poller *poller, int descriptor, uint32_t events, struct sp_source *source);
void sp_poller_forget(struct sp_poller *poller, int descriptor);

/* Any thread; does not block. */
void sp_poller_post(struct sp_poller *poller, struct sp_job *job);
/* Waits until the job is neither queued nor running; on the poller's own thread it must be neither. */
void sp_poller_await(struct sp_poller *poller, const struct sp_job *job);

void sp_alarm_set(struct sp_poller *poller, struct sp_alarm *alarm, uint64_t due_ns);
void sp_alarm_clear(struct sp_poller *poller, struct sp_alarm *alarm);

#endif
