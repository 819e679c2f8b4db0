/* The spawner: a small process with one thread, which is this program executed anew: a broker with threads cannot be
 * forked safely, a process that has none can, and one that was executed is laid out in memory otherwise than the
 * broker. It forks a child for each plugin instance, kills it when told to, reaps it and says how it ended. When the
 * broker goes, by whatever way, it and all its children go too. Requests: any thread. Events: one thread (the watcher).
 */
#ifndef ACTORS_PLUGIN_SPAWNER_H
#define ACTORS_PLUGIN_SPAWNER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "weir_error.h"

struct spawner;

/* What a child gets, beside /dev/null as 0 to 2. In a child these stand at SPAWNER_CHILD_FD and above. */
enum { SPAWNER_FD_SPEC, SPAWNER_FD_TO_CHILD, SPAWNER_FD_FROM_CHILD, SPAWNER_FD_BELL, SPAWNER_FDS };
#define SPAWNER_CHILD_FD 3

/* Children at the same time. Each is a process: a broker with more plugin instances than this is misconfigured. */
#define SPAWNER_CHILDREN_MAX 256

enum spawner_event_kind { SPAWNER_STARTED, SPAWNER_FAILED, SPAWNER_ENDED };
struct spawner_event {
    uint32_t kind;
    int32_t error; /* FAILED: errno */
    uint64_t id;
    int32_t pid;
    int32_t status; /* ENDED: as waitpid has it */
};

/* First thing in main: where the program was executed as a spawner, it is one from here on, and this does not return.
 * prepare runs once before any child, child in each; it must not return. */
void spawner_main(int argc, char *const argv[], void (*prepare)(void), void (*child)(void));
/* Executes it; main calls spawner_main. Blocks until it is executed. why (256 bytes) says what is wrong. */
WEIR_MUST_USE enum weir_error spawner_open(struct spawner **out, char *why, size_t why_size);
/* Ends it with its children; waits for its end. */
void spawner_close(struct spawner **pointer);

/* Asks for a child with the caller's id (not in use), which gets duplicates of fds. An event tells. WEIR_IO: the
 * spawner is gone. */
WEIR_MUST_USE enum weir_error spawner_spawn(struct spawner *spawner, uint64_t id, const int fds[SPAWNER_FDS]);
/* SIGKILL; fine when there is no such child, or no spawner, any more. */
void spawner_kill(struct spawner *spawner, uint64_t id);

/* For poll: readable when spawner_next has an event. */
int spawner_fd(const struct spawner *spawner);
/* The next event. WEIR_AGAIN: none now. WEIR_CLOSED: the spawner is gone. Does not block. */
WEIR_MUST_USE enum weir_error spawner_next(struct spawner *spawner, struct spawner_event *out);
pid_t spawner_pid(const struct spawner *spawner);

#endif
