/* What must hold at the end: at rest nothing is owed to anybody, and after the stop nothing is left. Between turns. */
#include "tests/simulate/model.h"

#include <string.h>

static bool is_alive(const struct node *node) { return node->is_started && !node->is_ended; }

struct tally {
    struct model *model;
    size_t actors;
};

static bool check_row(const struct supervision_row *row, void *context)
{
    struct tally *tally = context;
    struct model *model = tally->model;
    if (strcmp(row->state, "up") != 0 && strcmp(row->state, "down") != 0)
        model_violate(model, "child %s rests as %s", row->name, row->state);
    if (row->is_supervisor) {
        bool is_up = strcmp(row->state, "up") == 0;
        if (is_up != (strcmp(row->phase, "running") == 0))
            model_violate(model, "supervisor %s is %s and %s", row->name, row->state, row->phase);
        tally->actors += is_up;
        return true;
    }
    if (actor_is_none(row->actor))
        return true;
    uint32_t node = ledger_node(model, row->actor);
    if (node == NODE_NONE || !is_alive(&model->nodes[node]))
        model_violate(model, "child %s is %s and does not live", row->name, row->state);
    else
        model->nodes[node].is_seen = true;
    return true;
}

static void check_pairs(struct model *model)
{
    for (uint32_t i = 0; i < model->pair_count; i++) {
        const struct pair *pair = &model->pairs[i];
        uint32_t to = ledger_node(model, pair->to);
        struct actor_status status;
        if (to == NODE_NONE || !is_alive(&model->nodes[to]) || pair->sent == pair->settled ||
            actor_status(model->runtime, pair->to, &status))
            continue;
        model_violate(model, "node %u (%lx) was sent %lu messages and got %lu; it is %s", to,
                      (unsigned long)pair->to.bits, (unsigned long)pair->sent, (unsigned long)pair->settled,
                      status.state);
    }
}

static void check_nodes(struct model *model, size_t supervisors)
{
    size_t alive = supervisors;
    for (uint32_t i = 0; i < model->node_count; i++) {
        const struct node *node = &model->nodes[i];
        struct actor_status status;
        bool is_there = actor_status(model->runtime, node->actor, &status) == WEIR_OK;
        if (is_there != is_alive(node))
            model_violate(model, "node %u: the runtime says %s", i, is_there ? "alive" : "ended");
        if (!is_alive(node))
            continue;
        alive++;
        if (!actor_is_none(node->awaiting))
            model_violate(model, "node %u waits for room for ever", i);
        uint32_t watched = ledger_node(model, node->monitoring);
        if (watched != NODE_NONE && !is_alive(&model->nodes[watched]))
            model_violate(model, "node %u never heard that node %u ended", i, watched);
        bool has_supervisor =
            !actor_is_none(node->supervisor) && actor_status(model->runtime, node->supervisor, &status) == WEIR_OK;
        if (has_supervisor && !node->is_seen)
            model_violate(model, "node %u is unknown to its supervisor", i);
    }
    struct runtime_status status;
    runtime_status(model->runtime, &status);
    if (status.actors != alive)
        model_violate(model, "%zu actors are known, the runtime has %zu", alive, status.actors);
}

static void check_relations(struct model *model)
{
    for (uint32_t i = 0; i < model->link_count; i++) {
        const struct node *a = &model->nodes[model->links[i].a], *b = &model->nodes[model->links[i].b];
        bool is_broken = (a->is_ended && a->cause && !b->is_ended) || (b->is_ended && b->cause && !a->is_ended);
        if (is_broken)
            model_violate(model, "link %u: only one of nodes %u and %u ended", i, model->links[i].a, model->links[i].b);
    }
    for (uint32_t i = 0; i < model->timer_count; i++) {
        const struct timer_entry *timer = &model->timers[i];
        if (is_alive(&model->nodes[timer->owner]) && !timer->is_over && !timer->is_canceled && timer->period_ns == 0)
            model_violate(model, "timer %u of node %u never fired", i, timer->owner);
    }
}

void final_quiet(struct model *model)
{
    struct tally tally = {.model = model};
    supervision_each(model->tree, check_row, &tally);
    check_pairs(model);
    check_nodes(model, tally.actors);
    check_relations(model);
}

void final_stopped(struct model *model)
{
    struct budget_usage budget;
    budget_usage(model->budget, &budget);
    struct arena_usage arena;
    arena_usage(model->arena, &arena);
    if (budget.bytes_used != 0 || budget.blocks_used != 0)
        model_violate(model, "%zu bytes are still charged", budget.bytes_used);
    if (arena.blocks_live != 0)
        model_violate(model, "%zu blocks are left", arena.blocks_live);
    for (uint32_t i = 0; i < model->node_count; i++) {
        if (is_alive(&model->nodes[i]))
            model_violate(model, "node %u outlived the runtime", i);
    }
}
