/* The processes of the process host: the spawner, and one thread of the broker that waits for all children at once. It
 * rings a child's plugin actor when the child has something for it, holds children to their time, and takes down how
 * they end. One for a process. */
#ifndef ACTORS_PLUGIN_PROCESSES_H
#define ACTORS_PLUGIN_PROCESSES_H

#include "actors/plugin/host.h"
#include "actors/plugin/channel.h"
#include "actors/plugin/spawner.h"

/* How a child ended, as the spawner saw it. */
struct process_end {
    bool is_late;   /* it was killed because its time was up */
    bool is_loud;   /* it was killed because it rang again and again with nothing to show */
    int32_t error;  /* not 0: it was never there, errno; ESRCH: nor is the spawner any more */
    int32_t status; /* as waitpid has it */
};

/* A child, as the watcher sees it; part of its host. */
struct process {
    /* Set before process_add, constant then. */
    struct plugin_bell bell;
    struct channel *ring; /* the watcher looks at two of its words, and checks neither */

    /* The watcher's, under its lock. */
    uint64_t id;
    uint64_t rung_ns;
    struct channel_moved moved; /* as of its last ring */
    uint32_t rings_for_nothing;
    int bell_fd;

    /* Written by the plugin actor, read by the watcher. waiting: inputs that the child has not answered; its store
     * (release) comes behind that of since_ns and is read (acquire) before it. is_draining: the actor is taking
     * outputs, and since_ns says nothing at present. */
    _Atomic uint32_t waiting;
    _Atomic bool is_draining;
    _Atomic uint64_t since_ns;
    _Atomic uint64_t budget_ns;

    /* Written by the watcher: end, then has_ended (release); read by the actor (acquire). The last two under the lock.
     */
    _Atomic bool has_ended;
    struct process_end end;
    bool is_late, is_loud;

    _Atomic int32_t pid; /* written by the watcher, for people; relaxed. 0: it is not there yet, or no more */
};

/* First thing in main of every program that calls processes_open, which executes the program anew as the spawner: then
 * this does not return. */
void processes_main(int argc, char *const argv[]);
/* Starts the spawner; broker/main calls it first of all. why has PLUGIN_TEXT_SIZE bytes. */
WEIR_MUST_USE enum weir_error processes_open(char *why, size_t why_size);
/* Ends watcher, spawner and children. Every process has been removed. Fine when it was never opened. */
void processes_close(void);

/* Starts a child with duplicates of fds and watches it; fds[SPAWNER_FD_BELL] is kept (and closed when removed), the
 * others stay the caller's. WEIR_FULL: SPAWNER_CHILDREN_MAX are there. WEIR_AGAIN: the spawner
 * has ended, the next one will be there soon. WEIR_IO. */
WEIR_MUST_USE enum weir_error process_add(struct process *process, const int fds[SPAWNER_FDS]);
/* Kills it if it is still there and forgets it: no bell is rung once this has returned. Waits for one that is being
 * rung by the watcher at this moment, but for the one that calls this. */
void process_remove(struct process *process);
/* Kills it; has_ended tells when. */
void process_kill(struct process *process);
/* Inputs wait: from now on until the child has answered them its time is watched. Cheap when it is so already. */
void processes_watch_time(void);

/* For tests: the spawner's process, -1: there is none. */
int processes_spawner_pid(void);

#endif
