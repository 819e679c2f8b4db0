/* What happens from outside: the tree is built, messages are sent, actors are spawned, stopped and restarted, timers
 * are armed and canceled. On the simulation's one thread, between turns. */
#include "tests/simulate/model.h"

#include <stdio.h>

static const struct supervisor_config link_config = {
    .intensity = 3, .period_ms = 1000, .backoff_min_ms = 5, .backoff_max_ms = 200, .backoff_jitter_percent = 50};

static struct child_spec node_spec(struct model *model, struct node_args *args, const char *name)
{
    static const uint32_t shutdowns_ms[] = {SHUTDOWN_DEFAULT, SHUTDOWN_BRUTAL, 20, 300};
    *args = (struct node_args){model, model->temper.mailbox_max};
    return (struct child_spec){
        .name = name,
        .behaviour = &node_behaviour,
        .args = args,
        .args_size = sizeof *args,
        .options = {.mailbox_max = model->temper.mailbox_max},
        .restart = model_chance(model, 700) ? RESTART_PERMANENT : RESTART_TRANSIENT,
        .shutdown_ms = shutdowns_ms[model_below(model, COUNT_OF(shutdowns_ms))],
    };
}

void driver_build(struct model *model)
{
    enum { LEAVES = 4 };
    struct node_args args[4][LEAVES];
    struct child_spec leaves[4][LEAVES + 1];
    static const char *const names[4][LEAVES] = {
        {"a0", "a1", "a2", "a3"}, {"b0", "b1", "b2", "b3"}, {"c0", "c1", "c2", "c3"}, {"d0", "d1", "d2", "d3"}};
    for (int group = 0; group < 4; group++) {
        for (int i = 0; i < LEAVES; i++)
            leaves[group][i] = node_spec(model, &args[group][i], names[group][i]);
    }
    struct supervisor_config groups[4] = {link_config, link_config, link_config, link_config};
    static const char *const group_names[4] = {"one", "all", "rest", "inner"};
    for (int group = 0; group < 4; group++) {
        groups[group].name = group_names[group];
        groups[group].strategy = (enum supervisor_strategy)(group % 3);
        groups[group].children = leaves[group];
        groups[group].child_count = LEAVES;
    }
    leaves[2][LEAVES] = (struct child_spec){.supervisor = &groups[3]};
    groups[2].child_count = LEAVES + 1;
    struct supervisor_config pool = {.name = "pool",
                                     .intensity = 20,
                                     .period_ms = 1000,
                                     .backoff_min_ms = 1,
                                     .backoff_max_ms = 100,
                                     .dynamic_max = NODES_MAX,
                                     .adopt = {.is_allowed = true, .restart = RESTART_TRANSIENT, .shutdown_ms = 50}};
    if (model->temper.has_patient_pool)
        pool.intensity = SUPERVISOR_INTENSITY_UNLIMITED;
    struct child_spec specs[4] = {
        {.supervisor = &groups[0]}, {.supervisor = &groups[1]}, {.supervisor = &groups[2]}, {.supervisor = &pool}};
    struct supervisor_config root = {.name = "root", .children = specs, .child_count = 4, .period_ms = 1000};
    root.intensity = model->temper.has_strict_root ? 5 : SUPERVISOR_INTENSITY_UNLIMITED;
    ENSURE(supervisor_spawn(model->tree, WEIR_ACTOR_NONE, &root, &model->root) == WEIR_OK);
}

/* A node, alive if one is found soon. */
static uint32_t pick(struct model *model)
{
    uint32_t node = NODE_NONE;
    for (int tries = 0; tries < 8 && model->node_count > 0; tries++) {
        node = (uint32_t)model_below(model, model->node_count);
        if (model->nodes[node].is_started && !model->nodes[node].is_ended)
            break;
    }
    return node;
}

static void send_burst(struct model *model, weir_actor to, enum lane lane)
{
    for (uint64_t count = 1 + model_below(model, model->temper.burst_max); count > 0; count--) {
        struct message message;
        node_message(model, WEIR_ACTOR_NONE, to, lane, 1 + (unsigned)model_below(model, 6), &message);
        enum weir_error error = lane == LANE_DATA ? actor_send(model->runtime, WEIR_ACTOR_NONE, to, &message)
                                                  : actor_control(model->runtime, WEIR_ACTOR_NONE, to, &message);
        if (!error) {
            ledger_sent(model, WEIR_ACTOR_NONE, to, lane);
            continue;
        }
        node_message_drop(model, &message);
        ledger_refused(model, to, error);
        return;
    }
}

static void spawn(struct model *model)
{
    struct node_args args;
    struct child_spec spec = node_spec(model, &args, "dynamic");
    weir_actor actor;
    uint64_t kind = model_below(model, 3);
    weir_actor supervisor = kind == 0 ? WEIR_ACTOR_NONE : model->pool;
    enum weir_error error;
    if (kind == 2 && !actor_is_none(supervisor)) {
        error = supervisor_child_start(model->tree, supervisor, &spec, WEIR_ACTOR_NONE, 0, &actor);
    } else {
        struct actor_options options = spec.options;
        options.supervisor = supervisor;
        options.label = model_chance(model, 100) ? "labelled" : NULL;
        error = actor_spawn(model->runtime, &node_behaviour, &args, sizeof args, &options, &actor);
    }
    if (error)
        return;
    uint32_t node = ledger_node_ensure(model, actor, model->temper.mailbox_max);
    model->nodes[node].supervisor = supervisor;
}

static void spawn_supervisor(struct model *model)
{
    struct node_args args[2];
    struct child_spec specs[2] = {node_spec(model, &args[0], "s0"), node_spec(model, &args[1], "s1")};
    struct supervisor_config config = link_config;
    config.name = "sub";
    config.strategy = (enum supervisor_strategy)model_below(model, 3);
    config.children = specs;
    config.child_count = 2;
    weir_actor actor;
    if (!actor_is_none(model->pool))
        (void)!supervisor_spawn(model->tree, model->pool, &config, &actor);
}

static void arm(struct model *model, uint32_t node)
{
    uint64_t delay_ns = model_below(model, 100 * NS_PER_MS);
    uint64_t period_ns = model_chance(model, 200) ? NS_PER_MS + model_below(model, 50 * NS_PER_MS) : 0;
    weir_timer timer;
    if (model->timer_count >= TIMERS_MAX)
        return;
    if (timer_start(model->runtime, model->nodes[node].actor, delay_ns, period_ns, 0, &timer) == WEIR_OK)
        ledger_timer_add(model, node, timer, runtime_now_ns(model->runtime) + delay_ns, period_ns);
}

static void cancel(struct model *model)
{
    if (model->timer_count == 0)
        return;
    struct timer_entry *entry = &model->timers[model_below(model, model->timer_count)];
    timer_cancel(model->runtime, entry->timer);
    entry->is_canceled = true;
}

static void relate(struct model *model, uint32_t a, uint32_t b)
{
    struct node *one = &model->nodes[a], *other = &model->nodes[b];
    bool are_alive = one->is_started && !one->is_ended && other->is_started && !other->is_ended;
    if (!are_alive || a == b)
        return;
    if (model_chance(model, 500)) {
        if (actor_is_none(one->monitoring) && actor_monitor(model->runtime, one->actor, other->actor) == WEIR_OK)
            one->monitoring = other->actor;
    } else if (model->link_count < LINKS_MAX && actor_link(model->runtime, one->actor, other->actor) == WEIR_OK) {
        model->links[model->link_count++] = (struct link_entry){a, b};
    }
}

static void operate(struct model *model, uint32_t node)
{
    static const char *const names[] = {"a1", "b2", "c0", "d3", "one", "all", "rest", "inner", "sub", "s0"};
    weir_actor actor = model->nodes[node].actor;
    switch (model_below(model, 4)) {
    case 0: (void)!supervisor_child_stop(model->tree, actor); break;
    case 1: (void)!supervisor_restart(model->tree, actor); break;
    default: (void)!supervisor_restart_named(model->tree, names[model_below(model, COUNT_OF(names))]); break;
    }
}

/* Kills a supervisor: its children must go with it. */
static void kill_supervisor(struct model *model)
{
    static const char *const names[] = {"one", "all", "rest", "inner", "sub", "pool"};
    weir_actor actor;
    if (supervision_find(model->tree, names[model_below(model, COUNT_OF(names))], &actor) == WEIR_OK)
        (void)!actor_stop(model->runtime, actor, WEIR_IO);
}

void driver_act(struct model *model)
{
    (void)!supervision_find(model->tree, "pool", &model->pool);
    uint32_t node = pick(model);
    uint64_t act = model_below(model, 1000);
    if (node == NODE_NONE || (act < 100 && model->node_count < NODES_MAX / 2)) {
        spawn(model);
        return;
    }
    weir_actor actor = model->nodes[node].actor;
    struct message shutdown = {.tag = MESSAGE_SHUTDOWN};
    if (act < 700)
        send_burst(model, actor, model_chance(model, 100) ? LANE_CONTROL : LANE_DATA);
    else if (act < 740)
        (void)!actor_stop(model->runtime, actor, model_chance(model, 500) ? WEIR_OK : WEIR_FAILED);
    else if (act < 770)
        (void)!actor_control(model->runtime, WEIR_ACTOR_NONE, actor, &shutdown);
    else if (act < 870)
        arm(model, node);
    else if (act < 900)
        cancel(model);
    else if (act < 950)
        relate(model, node, pick(model));
    else if (act < 990)
        operate(model, node);
    else if (act < 996)
        spawn_supervisor(model);
    else
        kill_supervisor(model);
}
