/* What the parts of actors/supervise share: the tree, its supervisors and their children. Only this folder includes it.
 *
 * Everything here is guarded by the tree's one lock: supervisors' turns hold it while they handle a message, functions
 * called from other threads while they act or read. It is held for microseconds, never over a callback that may block.
 *
 * A child is one 32-byte record of a pool, so that a million of them stay small beside their actors. What many have in
 * common is kept once: the plan (how to spawn it again). What only some have is beside it: a timer, whoever is to hear
 * of its start, and the past, once it has failed. */
#ifndef ACTORS_SUPERVISE_TREE_H
#define ACTORS_SUPERVISE_TREE_H

#include <pthread.h>
#include <string.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/base/limits.h"
#include "actors/base/log.h"
#include "actors/memory/slots.h"
#include "actors/supervise/supervisor.h"
#include "actors/supervise/tables.h"

enum { NAME_SIZE = 64, DEATHS_KEPT = SUPERVISOR_DEATHS_KEPT };

/* Names a record of the pool; 0 is none. */
typedef uint32_t child_index;
/* The same of the pool of plans. */
typedef uint32_t plan_index;

enum child_flag {
    CHILD_IS_SUPERVISOR = 1,
    CHILD_IS_DYNAMIC = 2,       /* forgotten once it is down */
    CHILD_IS_ADOPTED = 4,       /* somebody else spawned it: no plan */
    CHILD_SPAWNS_WHEN_DOWN = 8, /* the operator's restart: stopped now, spawned once it has ended */
    CHILD_FAILED_START = 16,    /* being killed because it did not come up */
    CHILD_IS_NEW = 32,          /* has never been up */
    CHILD_SPAWN_REFUSED = 64,   /* the runtime could not spawn it: do not ask again at once */
};

struct child {
    child_index hash_next;  /* while it is free: the pool's */
    child_index prev, next; /* start order among its siblings */
    plan_index plan;        /* 0: adopted */
    weir_actor actor;       /* none: nothing runs */
    uint32_t aside;         /* slot of struct aside; 0: none */
    uint16_t supervisor;    /* id in the tree; 0: it is the root */
    uint8_t state : 3;      /* enum child_state */
    uint8_t last_cause : 5; /* enum weir_error */
    uint8_t flags;          /* enum child_flag */
};

_Static_assert(sizeof(struct child) == 32, "two children are a cache line");
_Static_assert(CHILD_STATE_COUNT <= 8 && WEIR_ERROR_COUNT <= 32, "they fit into their bits");

/* What only some children have, most of those for a moment: it goes as soon as all of it is zero. */
struct aside {
    uint32_t link; /* the pool's */
    uint32_t restarts;
    weir_timer timer;  /* of its shutdown or its backoff; none: not armed */
    weir_msg past;     /* struct past; none: it never failed */
    weir_actor notify; /* told once of the start */
    uint64_t notify_word;
};

/* How to spawn a child: the spec, copied. Children whose specs are the same in all bytes share one; a supervisor has
 * one of its own. */
struct plan {
    const struct behaviour *behaviour;
    struct supervisor *supervisor; /* of a child that is a supervisor; owned */
    struct actor_options options;  /* label: NULL or points to label below; set at each use */
    uint32_t shutdown_ms;
    uint8_t restart; /* enum restart_type */
    bool has_label, hears_its_end;
    char name[NAME_SIZE];
    char label[NAME_SIZE];
    size_t args_size;
    _Alignas(16) unsigned char args[];
};

/* What a child's record names: the plan's block and how many children have it. */
struct plan_slot {
    plan_index hash_next; /* while it is free: the pool's */
    uint32_t hash;
    uint32_t children;
    uint32_t size; /* of the block */
    weir_msg block;
};

/* Sliding window over the times of the last `max` restarts. */
struct window {
    uint32_t max;
    uint32_t count;
    uint32_t oldest;
    uint64_t *times_ns;
};

struct past {
    uint64_t failed_ns;   /* last failure; the quiet time counts from here */
    uint32_t repeats;     /* restarts since the last quiet time */
    uint32_t death_count; /* in all; the newest DEATHS_KEPT are kept, at death_count % DEATHS_KEPT */
    struct supervision_death deaths[DEATHS_KEPT];
    struct window window; /* is_intensity_per_child; times_ns is set at each use */
    uint64_t times_ns[];
};

#define SUPERVISOR_MAGIC UINT32_C(0x53757076)

struct supervisor {
    uint32_t magic;
    uint16_t id;
    uint8_t phase;     /* enum supervisor_phase */
    bool is_finished;  /* everything is stopped; its own turn must end it */
    bool is_announced; /* its own supervisor has heard that it is ready, since its last start */
    bool is_walking;   /* stop_next is at work further up the stack */
    bool is_fresh;     /* never started: children added now are configured ones */
    struct supervision *tree;
    struct supervisor_config config; /* defaults filled in; name and children point nowhere */
    char name[NAME_SIZE];
    uint64_t random;         /* state of the jitter */
    weir_actor actor;        /* its own; none: not spawned */
    child_index self;        /* its own record */
    child_index first, last; /* its children, in start order */
    child_index cursor;      /* the child that is being started or stopped */
    child_index group_first; /* REGROUPING, RESTARTING: the first one concerned */
    uint64_t group_delay_ns; /* REGROUPING: wait so long before the start */
    weir_timer timer;        /* RESTARTING: that wait */
    uint32_t children, dynamic;
    uint32_t live;         /* not down */
    uint32_t stopping;     /* stopping or killing */
    enum weir_error cause; /* why it escalates, or ends */
    struct window window;
    /* Told by log after the lock is released. */
    struct report {
        enum log_level level;
        const char *event;
        char child[NAME_SIZE];
        weir_actor actor;
        enum weir_error cause;
        uint64_t delay_ns;
    } report;
    struct log_limit report_limit;
};

/* A reader of the tree, between two rows. Removing the record it stands at moves it on. */
struct walker {
    struct walker *next;
    child_index at;
    unsigned depth;
};

/* A hash of records, chained through their hash_next (table.c). */
struct index_table {
    weir_msg block;   /* uint32_t[buckets] */
    uint32_t buckets; /* a power of two; 0: nothing was ever added */
    uint32_t count;
};

#define SUPERVISION_MAGIC UINT32_C(0x54726565)

struct supervision {
    uint32_t magic;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* the root became ready, or ended */
    struct runtime *runtime;
    struct arena *arena;
    void (*on_down)(enum weir_error cause, void *context);
    void *context;
    void (*on_transition)(const struct supervision_transition *transition, void *context);
    void *transition_context;
    uint64_t seed;
    struct slots *pool, *asides, *plans;
    struct slots_cache cache, asides_cache, plans_cache;
    struct index_table by_actor;     /* children whose actor lives */
    struct index_table by_spec;      /* plans that can be shared */
    struct supervisor **supervisors; /* by id; [0] unused */
    uint32_t supervisors_max;        /* entries allocated */
    uint16_t id_last;                /* highest id in use so far */
    child_index root;
    bool is_ready, is_down;
    enum weir_error down_cause;
    struct walker *walkers;
    struct supervision_totals totals;
};

void tree_lock(struct supervision *tree);
void tree_unlock(struct supervision *tree);

/* ---------------------------------------------------------------- tree.c: records, lists, the hash */

static inline struct child *child_at(struct supervision *tree, child_index index)
{
    return slots_at(tree->pool, index);
}
struct supervisor *supervisor_by_id(struct supervision *tree, uint16_t id);
/* The supervisor a live actor is; NULL for other actors. */
struct supervisor *supervisor_of_actor(struct supervision *tree, weir_actor actor);
/* The supervisor that a child's record stands for; NULL for other children. */
struct supervisor *supervisor_of_child(struct supervision *tree, child_index index);

/* A new record at the end of the supervisor's list (NULL: the root), state down. */
WEIR_MUST_USE enum weir_error child_add(struct supervision *tree, struct supervisor *supervisor, plan_index plan,
                                        child_index *out);
/* Forgets a record that is down, with its plan (and a supervisor's whole subtree) and past. */
void child_remove(struct supervision *tree, child_index index);
/* Sets or clears which actor the record stands for. */
WEIR_MUST_USE enum weir_error child_actor_set(struct supervision *tree, child_index index, weir_actor actor);
void child_actor_clear(struct supervision *tree, child_index index);
child_index child_find(struct supervision *tree, weir_actor actor);
child_index child_find_named(struct supervision *tree, const char *name);
const char *child_name(struct supervision *tree, child_index index);
enum restart_type child_restart_type(struct supervision *tree, const struct child *child);
uint32_t child_shutdown_ms(struct supervision *tree, const struct child *child);
/* What is beside the record; NULL: nothing. */
struct aside *aside_of(struct supervision *tree, const struct child *child);
/* The same, made when there is none; NULL: no memory. */
struct aside *aside_ensure(struct supervision *tree, struct child *child);
/* Gives it back when nothing is in it. */
void aside_tidy(struct supervision *tree, struct child *child);
/* The next record of the tree after `index`, depth first; 0 at the end. *depth follows. */
child_index tree_next(struct supervision *tree, child_index index, unsigned *depth);

/* ---------------------------------------------------------------- table.c: the two hashes */

/* What kind of record stands in a table. */
struct index_kind {
    uint32_t load; /* records a bucket, before the buckets double */
    uint32_t (*hash)(const struct supervision *tree, uint32_t index);
    uint32_t *(*next)(const struct supervision *tree, uint32_t index);
};

/* Without memory for more buckets the chains grow instead; WEIR_NO_MEMORY only for the first. */
WEIR_MUST_USE enum weir_error tree_index_add(struct supervision *tree, struct index_table *table,
                                             const struct index_kind *kind, uint32_t index);
/* It is in the table. */
void tree_index_remove(struct supervision *tree, struct index_table *table, const struct index_kind *kind,
                       uint32_t index);
/* The first record of that hash's chain, which has others, too; 0: none. */
uint32_t tree_index_first(const struct supervision *tree, const struct index_table *table, uint32_t hash);

/* ---------------------------------------------------------------- plan.c: copies of specs */

/* The plan of that spec, new or shared, with one child more. */
WEIR_MUST_USE enum weir_error plan_ensure(struct supervision *tree, const struct child_spec *spec, plan_index *out);
/* One child less; it goes with the last. 0 is fine. */
void plan_drop(struct supervision *tree, plan_index plan);
static inline struct plan *plan_at(struct supervision *tree, plan_index plan)
{
    const struct plan_slot *slot = slots_at(tree->plans, plan);
    return arena_data(tree->arena, slot->block);
}

/* The supervisor's own table with its configured children, not spawned. */
WEIR_MUST_USE enum weir_error supervisor_create(struct supervision *tree, const struct supervisor_config *config,
                                                struct supervisor **out);
void supervisor_destroy(struct supervisor **supervisor);
/* Adds a child of that spec, down. */
WEIR_MUST_USE enum weir_error supervisor_add(struct supervisor *supervisor, const struct child_spec *spec,
                                             uint8_t flags, child_index *out);

/* ---------------------------------------------------------------- past.c: deaths, intensity, backoff */

/* Notes a death. Without memory it is not noted: history is for people. */
void past_note(struct supervisor *supervisor, struct child *child, const struct supervision_death *death);
/* Counts a restart; false when that is one too many. */
bool past_admit(struct supervisor *supervisor, struct child *child, uint64_t now_ns);
/* How long the restart must wait that follows the failure noted last. */
uint64_t past_backoff_ns(struct supervisor *supervisor, struct child *child);
size_t past_deaths(struct supervisor *supervisor, struct child *child, struct supervision_death *out, size_t max);
/* Pure: whether one more at now_ns is within the bound; it is then noted. Source: OTP supervisor.erl, add_restart. */
bool window_admit(struct window *window, uint64_t period_ns, uint64_t now_ns);

/* ---------------------------------------------------------------- child.c: one child's life */

struct child_news {
    enum child_event event;
    enum weir_error cause;
    uint32_t attempts;
};

/* Every transition of a child goes through the table here. */
WEIR_MUST_USE enum weir_error child_handle(struct supervision *tree, child_index index, const struct child_news *news);
/* The same where a refusal cannot matter. */
void child_tell(struct supervision *tree, child_index index, enum child_event event, enum weir_error cause);
/* A child that needs a restart gets it, after delay_ns: in place if it is suspended, else spawned. */
void child_restart_later(struct supervision *tree, child_index index, uint64_t delay_ns);
/* Leaves a waiting child down: ends it where it is suspended. */
void child_give_up(struct supervision *tree, child_index index, enum weir_error cause);
/* The only place where a child's state changes. A child that is down for good and dynamic is forgotten here. */
void child_enter(struct supervision *tree, child_index index, enum child_state state, const char *event);
/* Spawns a child that is down or waiting from its plan: it is starting then. */
WEIR_MUST_USE enum weir_error child_spawn(struct supervision *tree, child_index index);
/* Makes a child down without telling its supervisor, and forgets it if it is dynamic. Whatever runs is the caller's
 * affair. */
void child_drop(struct supervision *tree, child_index index);
const char *child_state_name(enum child_state state);
/* Somebody else's actor becomes a child, starting. */
WEIR_MUST_USE enum weir_error child_adopt(struct supervisor *supervisor, weir_actor actor, child_index *out);

/* ---------------------------------------------------------------- machine.c: a supervisor's life */

/* Every transition of a supervisor goes through the table here. child: 0 where none is meant. */
void supervisor_handle(struct supervisor *supervisor, enum supervisor_event event, child_index child,
                       enum weir_error cause);
/* It has ended or failed, with all its children down. */
void supervisor_go_down(struct supervisor *supervisor);
const char *supervisor_phase_name(enum supervisor_phase phase);
/* A record is about to be forgotten: whatever points to it moves on. */
void supervisor_forget(struct supervisor *supervisor, child_index child);
/* Keeps news of a child for the log, until the lock is released. */
void supervisor_report(struct supervisor *supervisor, enum log_level level, const char *event, child_index child,
                       enum weir_error cause, uint64_t delay_ns);

/* ---------------------------------------------------------------- behaviour.c: a supervisor's turns */

extern const struct behaviour supervisor_behaviour;
/* Control message of a supervisor to itself: its turn is needed to end it. */
#define SUPERVISOR_NUDGE (SUPERVISOR_STARTED + 1)

/* Children do not outlive their supervisor: stops what still runs, and forgets what is not configured, in the whole
 * subtree. */
void supervisor_abandon(struct supervisor *supervisor, enum weir_error cause);

#endif
