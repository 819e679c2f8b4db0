/* The simulated world: a runtime under a seed, a tree of supervisors, actors that misbehave at random, and a ledger
 * that knows what must come of every message. One thread. */
#ifndef TESTS_SIMULATE_MODEL_H
#define TESTS_SIMULATE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/supervise/supervisor.h"

enum { NODES_MAX = 65536, TIMERS_MAX = 65536, LINKS_MAX = 4096, GROUPS_MAX = 4096, WINDOW_MAX = 64 };

enum lane { LANE_DATA, LANE_CONTROL };

/* Tags of the nodes' messages. word[0]: enum role | ttl, word[1]: number within its pair; word[2]: attempts seen. */
enum { TAG_DATA = 1, TAG_CONTROL };
enum { ROLE_PLAIN, ROLE_POISON, ROLE_EXIT };

/* One actor, as the model sees it. It is known from the time somebody spawned it, or from its start. */
struct node {
    weir_actor actor;
    uint32_t mailbox_max;
    uint32_t outstanding; /* data messages accepted and not settled */
    uint64_t handled;     /* must equal what its own state says */
    bool is_started, is_ended;
    enum weir_error cause; /* of its end */
    weir_actor awaiting;   /* a ROOM it must get */
    weir_actor monitoring; /* an end it must hear of */
    weir_actor supervisor; /* as given by whoever spawned it from outside */
    bool is_seen;          /* final check: the tree knows it */
};

/* Messages of one lane from one actor to another. */
struct pair {
    weir_actor from, to;
    enum lane lane;
    uint64_t sent, settled;
};

struct timer_entry {
    weir_timer timer;
    uint32_t owner; /* node */
    uint64_t due_ns, period_ns;
    bool is_over, is_canceled;
};

struct link_entry {
    uint32_t a, b;
};

/* A supervisor, as its transitions tell. */
struct group {
    weir_actor actor;
    char name[64];
    const char *phase;
    uint64_t losses_ns[WINDOW_MAX];
    uint32_t loss_count;
    uint32_t intensity;
    uint64_t period_ns;
    bool must_escalate;
};

/* The last state each actor's transitions led to, by handle. */
struct standing {
    weir_actor actor;
    const char *state;
};

/* How this seed misbehaves. */
struct temper {
    uint32_t nodes; /* to begin with */
    uint32_t mailbox_max;
    uint32_t fail_per_mille, exit_per_mille, start_fail_per_mille, restart_fail_per_mille;
    uint32_t forward_per_cent;
    uint32_t burst_max;
    uint32_t advance_per_mille;
    uint32_t act_per_cent;
    bool has_strict_root, has_patient_pool; /* few restarts allowed; any number */
};

struct model {
    uint64_t seed, random;
    struct temper temper;
    struct arena *arena;
    struct budget *budget;
    struct runtime *runtime;
    struct supervision *tree;
    weir_actor root, pool;
    bool is_draining, is_over, is_traced;
    uint64_t event;
    char violation[256];

    struct node *nodes;
    uint32_t node_count;
    uint32_t *node_slots; /* by handle: 1 + node */
    struct pair *pairs;
    uint32_t pair_count, pair_capacity, pair_slot_count;
    uint32_t *pair_slots;
    struct timer_entry *timers;
    uint32_t timer_count;
    struct link_entry links[LINKS_MAX];
    uint32_t link_count;
    struct group groups[GROUPS_MAX];
    uint32_t group_count;
    struct standing *standings;
    uint32_t *standing_slots;
    uint32_t standing_count;
    uint64_t messages, dead, refusals, failures, restarts, escalations;
};

/* What a run was. */
struct outcome {
    uint64_t hash;
    uint64_t events, messages, dead, refusals, restarts, escalations;
    uint32_t nodes;
    char violation[256];
};

/* model.c */
void model_run(uint64_t seed, uint64_t events, bool is_traced, struct outcome *out);
uint64_t model_random(struct model *model);
static inline uint64_t model_below(struct model *model, uint64_t bound) { return model_random(model) % bound; }
static inline bool model_chance(struct model *model, uint32_t per_mille)
{
    return model_below(model, 1000) < per_mille;
}
/* Keeps the first violation; the run ends with it. */
__attribute__((format(printf, 2, 3))) void model_violate(struct model *model, const char *format, ...);
__attribute__((format(printf, 2, 3))) void model_trace(struct model *model, const char *format, ...);

/* ledger.c. NODE_NONE where there is none. */
#define NODE_NONE UINT32_MAX
uint32_t ledger_node(struct model *model, weir_actor actor);
uint32_t ledger_node_ensure(struct model *model, weir_actor actor, uint32_t mailbox_max);
uint64_t ledger_next(struct model *model, weir_actor from, weir_actor to, enum lane lane);
void ledger_sent(struct model *model, weir_actor from, weir_actor to, enum lane lane);
void ledger_refused(struct model *model, weir_actor to, enum weir_error error);
/* The message came to its end at `to`: handled, or a dead letter. */
void ledger_settled(struct model *model, weir_actor from, weir_actor to, enum lane lane, uint64_t number);
void ledger_timer_add(struct model *model, uint32_t owner, weir_timer timer, uint64_t due_ns, uint64_t period_ns);
void ledger_timer_fired(struct model *model, uint32_t owner, weir_timer timer);
struct standing *ledger_standing(struct model *model, weir_actor actor);
void ledger_init(struct model *model);
void ledger_fini(struct model *model);

/* node.c */
extern const struct behaviour node_behaviour;
struct node_args {
    struct model *model;
    uint32_t mailbox_max;
};
/* Builds a message of that lane; hold[0] is set with some chance and belongs to the caller. */
void node_message(struct model *model, weir_actor from, weir_actor to, enum lane lane, unsigned ttl,
                  struct message *message);
/* Gives up what a refused message holds. */
void node_message_drop(struct model *model, struct message *message);
bool node_dead_letter(struct turn *turn, struct message *message, enum weir_error cause, uint32_t attempts,
                      void *context);

/* driver.c: what happens from outside */
void driver_build(struct model *model);
void driver_act(struct model *model);

/* observe.c: the supervision tables, as an independent list */
void observe_transition(const struct supervision_transition *transition, void *context);
void observe_step(struct model *model);

/* final.c: what must hold when nothing moves any more, and after the end */
void final_quiet(struct model *model);
void final_stopped(struct model *model);

#endif
