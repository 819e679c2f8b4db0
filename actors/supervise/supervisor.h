/* Supervisors: actors that start, watch, restart and stop other actors, with OTP's words and semantics, and with what
 * OTP lacks: backoff with jitter, a restart that keeps mailbox and last good state, readiness, a bounded history of
 * deaths. All supervisors of a runtime form one tree, which operators can read.
 *
 * What a restart is:
 *   - A turn that failed leaves its actor suspended. Under one_for_one it is restarted in place (actor_restart): same
 *     handle, mailbox kept, last good state, and the message that failed is tried again (at most attempts_max times).
 *   - An actor that has ended has neither mailbox nor state. It is spawned afresh from its spec, with a new handle.
 *   - Under one_for_all and rest_for_one the children's states hang together: the whole group, the failed one
 *     included, is stopped in reverse order and spawned afresh in order.
 *   - A supervisor beyond its intensity stops its children in reverse order and fails. It is itself restarted in place
 *     by its own supervisor, so that its handle stays good; its configured children are then spawned afresh, and
 *     dynamic ones are forgotten, as with OTP. The root has nobody above it: it ends, and on_down tells the program.
 *
 * An end is in order with the causes WEIR_OK and WEIR_CLOSED (OTP's normal and shutdown).
 *
 * Every function here may be called from any thread, turns included, and takes the tree's lock for a moment; none
 * blocks but supervision_wait. Restarts and stops are carried out in the turns of the supervisors. */
#ifndef ACTORS_SUPERVISE_SUPERVISOR_H
#define ACTORS_SUPERVISE_SUPERVISOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "actors/base/limits.h"
#include "actors/runtime/actor.h"
#include "actors/runtime/runtime.h"
#include "weir_error.h"

struct supervision; /* the tree of one runtime */

enum supervisor_strategy { SUPERVISOR_ONE_FOR_ONE, SUPERVISOR_ONE_FOR_ALL, SUPERVISOR_REST_FOR_ONE };

enum restart_type {
    RESTART_PERMANENT, /* always */
    RESTART_TRANSIENT, /* unless it ended in order */
    RESTART_TEMPORARY, /* never; a failed turn ends it */
};

/* How long a child may take to end after MESSAGE_SHUTDOWN before it is stopped without its consent. */
#define SHUTDOWN_DEFAULT UINT32_C(0)               /* SUPERVISOR_SHUTDOWN_MS; for supervisors: SHUTDOWN_INFINITE */
#define SHUTDOWN_BRUTAL (UINT32_MAX - UINT32_C(1)) /* at once */
#define SHUTDOWN_INFINITE UINT32_MAX

/* As intensity: restarts never escalate; backoff is what holds them back. For children whom outsiders can make fail. */
#define SUPERVISOR_INTENSITY_UNLIMITED UINT32_MAX

struct supervisor_config;

/* A child. Everything in it is copied, once for all children whose specs are the same, argument bytes included: a child
 * costs 32 bytes beside its actor, and a spec of its own some 300 more. */
struct child_spec {
    /* for people and supervision_find; NULL: the behaviour's name; cut at 63 bytes */
    const char *name;
    const struct behaviour *behaviour; /* NULL when `supervisor` is set */
    const void *args;                  /* for on_start, at each start */
    size_t args_size;
    /* options.supervisor is set by the supervisor; options.budget outlives the child */
    struct actor_options options;
    enum restart_type restart;
    uint32_t shutdown_ms; /* SHUTDOWN_DEFAULT, _BRUTAL, _INFINITE or milliseconds */
    /* Stopped while it is suspended, waiting for its restart, or suspended before it came to the news of that, it is
     * restarted for it, so that it gets MESSAGE_SHUTDOWN and may end in order; else it is ended where it stands. Not
     * for supervisors. */
    bool hears_its_end;
    const struct supervisor_config *supervisor; /* set: the child is a supervisor of this configuration */
};

struct supervisor_config {
    const char *name; /* cut at 63 bytes */
    enum supervisor_strategy strategy;
    /* More than `intensity` restarts within period_ms escalate: with 5 in 10 s the 6th does. Both 0: 5 in 10 s. */
    uint32_t intensity;
    uint32_t period_ms;
    /* Each child has a window of its own, and beyond it that child alone is given up (stopped, not restarted)
     * instead of the whole supervisor failing. */
    bool is_intensity_per_child;

    /* Between restarts of one child. The first after a quiet time comes at once; the n-th repeat waits
     * min * 2^(n-1), at most max, less a random part of up to jitter_percent. max 0: restarts come at once. */
    uint32_t backoff_min_ms;
    uint32_t backoff_max_ms;
    uint32_t backoff_jitter_percent; /* 0 to 100 */
    /* without a failure for so long counts as quiet; 0: the larger of period and 2 * max */
    uint32_t backoff_quiet_ms;

    /* started in this order, each when the one before is ready; stopped in reverse */
    const struct child_spec *children;
    size_t child_count;

    uint32_t dynamic_max; /* children beyond the configured ones; 0: none */
    /* Actors that somebody spawned with options.supervisor set to this supervisor become its children with their first
     * event, and count among the dynamic ones. They are restarted in place; once they have ended they are forgotten, as
     * the supervisor cannot spawn them. Not allowed (or beyond dynamic_max): they are stopped with WEIR_FORBIDDEN
     * (WEIR_FULL). */
    struct {
        bool is_allowed;
        enum restart_type restart;
        uint32_t shutdown_ms;
    } adopt;
};

struct supervision_config {
    struct runtime *runtime; /* borrowed; outlives the tree's use, see supervision_destroy */
    uint32_t children_max;   /* in the whole tree; 0: SUPERVISION_CHILDREN_MAX. Reserves address space only */
    uint64_t seed;           /* of the jitter; 0: from the clock */
    /* The root has ended: in order (WEIR_OK) or because it gave up. On a worker; under no lock. NULL: nobody. */
    void (*on_down)(enum weir_error cause, void *context);
    void *context;
};

WEIR_MUST_USE enum weir_error supervision_create(const struct supervision_config *config, struct supervision **out);
/* After runtime_stop, before runtime_destroy. Nulls *supervision; NULL is fine. */
void supervision_destroy(struct supervision **supervision);

/* Spawns a supervisor. parent none: the root, one a tree. Otherwise a permanent child of parent, which counts as one
 * of its configured children when parent has not started yet (so a program can build the tree before runtime_start
 * and knows each handle at once; such children start as workers get to them), else as a dynamic one.
 * WEIR_NO_MEMORY, WEIR_FULL, WEIR_STALE (parent), WEIR_EXISTS (root), WEIR_CLOSED, WEIR_BAD_REQUEST (config). */
WEIR_MUST_USE enum weir_error supervisor_spawn(struct supervision *tree, weir_actor parent,
                                               const struct supervisor_config *config, weir_actor *out);

/* Control message to whoever asked for a child: it is ready or has failed to start.
 * word[0]: the word given; word[1]: the child's weir_actor bits; word[2]: enum weir_error. */
#define SUPERVISOR_STARTED (MESSAGE_TAG_RUNTIME + UINT32_C(0x100))

/* Starts a dynamic child; *out (may be NULL) is its handle, good at once. notify (may be none) gets
 * SUPERVISOR_STARTED once. A dynamic child that has ended for good is forgotten.
 * WEIR_STALE (no such supervisor), WEIR_CLOSED (it is stopping), WEIR_BUSY (it is restarting its group), WEIR_FULL
 * (dynamic_max, children_max), WEIR_NO_MEMORY, WEIR_TOO_BIG (args), WEIR_BAD_REQUEST. */
WEIR_MUST_USE enum weir_error supervisor_child_start(struct supervision *tree, weir_actor supervisor,
                                                     const struct child_spec *spec, weir_actor notify, uint64_t word,
                                                     weir_actor *out);

/* Begins to stop a child by its shutdown time; it is not restarted. A dynamic one is then forgotten, a configured
 * one stays known and can be restarted. The root's end is everybody's, as by supervision_shutdown. Use actor_monitor to
 * hear of the end. WEIR_STALE, WEIR_NOT_FOUND (of no supervisor). */
WEIR_MUST_USE enum weir_error supervisor_child_stop(struct supervision *tree, weir_actor child);

/* For `restart ACTOR`: a running child is stopped and spawned afresh, one that backs off is restarted now.
 * Does not count against the intensity. WEIR_STALE, WEIR_NOT_FOUND, WEIR_FORBIDDEN (the root; running and adopted:
 * it could not be spawned), WEIR_BUSY (starting), WEIR_CLOSED (its supervisor is stopping). */
WEIR_MUST_USE enum weir_error supervisor_restart(struct supervision *tree, weir_actor child);
/* The same by name, which also finds children that are down. */
WEIR_MUST_USE enum weir_error supervisor_restart_named(struct supervision *tree, const char *name);

/* Forgets a configured child that is down, by name, for good. WEIR_STALE, WEIR_NOT_FOUND, WEIR_BUSY (not down). */
WEIR_MUST_USE enum weir_error supervisor_child_delete(struct supervision *tree, weir_actor supervisor,
                                                      const char *name);

/* The first child of that name in tree order, none when it is down at present. WEIR_NOT_FOUND. */
WEIR_MUST_USE enum weir_error supervision_find(struct supervision *tree, const char *name, weir_actor *out);

/* ---------------------------------------------------------------------------------- the whole tree */

/* Begins the orderly stop of everything, in reverse order, and returns. */
void supervision_shutdown(struct supervision *tree);
/* Blocks until the root has ended, at most timeout_ms: WEIR_TIMEOUT, after which runtime_stop ends what is left. Not
 * in a turn, not in a simulated runtime. */
WEIR_MUST_USE enum weir_error supervision_wait(struct supervision *tree, uint64_t timeout_ms);
/* Blocks until every configured child of the root is ready; WEIR_TIMEOUT, or the cause with which the root ended. */
WEIR_MUST_USE enum weir_error supervision_wait_ready(struct supervision *tree, uint64_t timeout_ms);
bool supervision_is_ready(struct supervision *tree);
bool supervision_is_down(struct supervision *tree);

/* --------------------------------------------------------------------------------- for operators */

struct supervision_row {
    char name[64];         /* of its spec; of an adopted child its label, else its behaviour's name */
    const char *kind;      /* a supervisor's strategy ("one_for_one"), else the behaviour's name */
    const char *state;     /* "down", "starting", "up", "waiting", "stopping", "killing" */
    const char *phase;     /* of a supervisor: "running", "restarting" ...; else "" */
    weir_actor actor;      /* none: down */
    weir_actor supervisor; /* none: it is the root */
    enum restart_type restart;
    unsigned depth; /* 0: the root */
    bool is_supervisor, is_dynamic;
    uint32_t restarts;
    uint32_t children; /* of a supervisor */
    enum weir_error last_cause;
    uint64_t last_death_ns; /* the runtime's clock; 0: none yet */
};

/* Calls each for every child, depth first and in start order, beginning with the root; stops when it returns false.
 * The lock is released between rows, so the callback may do as it likes; what comes and goes meanwhile may be
 * missed. */
void supervision_each(struct supervision *tree, bool (*each)(const struct supervision_row *row, void *context),
                      void *context);

struct supervision_death {
    uint64_t at_ns; /* the runtime's clock */
    enum weir_error cause;
    enum actor_event event; /* ACTOR_EVENT_FAILED or ACTOR_EVENT_EXITED */
    uint32_t attempts;      /* on the message in hand, when a turn failed */
};

/* Copies the newest deaths of a child, newest first, at most SUPERVISOR_DEATHS_KEPT; returns how many. */
size_t supervision_deaths(struct supervision *tree, weir_actor child, struct supervision_death *out, size_t max);

struct supervision_totals {
    size_t supervisors, children; /* children: supervisors included */
    uint64_t restarts, escalations, given_up, killed, adopted, refused;
};
void supervision_totals(struct supervision *tree, struct supervision_totals *out);

/* Every transition of a child or a supervisor passes here, if set, under the tree's lock: for traces and for
 * checking that the tables are obeyed. The callback calls nothing of this header. Set before the first spawn. */
struct supervision_transition {
    bool is_supervisor_phase; /* false: a child's state */
    const char *name, *from, *event, *to;
    weir_actor actor, supervisor;
};
void supervision_trace(struct supervision *tree,
                       void (*on_transition)(const struct supervision_transition *transition, void *context),
                       void *context);

#endif
