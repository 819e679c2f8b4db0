/* The ledger: who exists, which message of which pair is due next, which timers are armed. Called by the nodes, the
 * driver and the checks. Messages of a pair and lane are numbered, so that "the next one" is all that may come: a
 * lost one, a second copy and a swap all show as a wrong number. */
#include "tests/simulate/model.h"

#include <stdlib.h>
#include <string.h>

enum { NODE_SLOTS = 2 * NODES_MAX };

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void *must_have(void *memory)
{
    REQUIRE(memory != NULL);
    return memory;
}

void ledger_init(struct model *model)
{
    model->nodes = must_have(calloc(NODES_MAX, sizeof *model->nodes));
    model->node_slots = must_have(calloc(NODE_SLOTS, sizeof *model->node_slots));
    model->pair_capacity = 1 << 14;
    model->pair_slot_count = 2 * model->pair_capacity;
    model->pairs = must_have(calloc(model->pair_capacity, sizeof *model->pairs));
    model->pair_slots = must_have(calloc(model->pair_slot_count, sizeof *model->pair_slots));
    model->timers = must_have(calloc(TIMERS_MAX, sizeof *model->timers));
    model->standings = must_have(calloc(NODES_MAX, sizeof *model->standings));
    model->standing_slots = must_have(calloc(NODE_SLOTS, sizeof *model->standing_slots));
}

void ledger_fini(struct model *model)
{
    free(model->nodes);
    free(model->node_slots);
    free(model->pairs);
    free(model->pair_slots);
    free(model->timers);
    free(model->standings);
    free(model->standing_slots);
}

static uint32_t *node_slot(struct model *model, weir_actor actor)
{
    uint32_t slot = (uint32_t)mix(actor.bits) & (NODE_SLOTS - 1);
    while (model->node_slots[slot] && model->nodes[model->node_slots[slot] - 1].actor.bits != actor.bits)
        slot = (slot + 1) & (NODE_SLOTS - 1);
    return &model->node_slots[slot];
}

uint32_t ledger_node(struct model *model, weir_actor actor)
{
    if (actor_is_none(actor))
        return NODE_NONE;
    return *node_slot(model, actor) - 1; /* 0 - 1 is NODE_NONE */
}

uint32_t ledger_node_ensure(struct model *model, weir_actor actor, uint32_t mailbox_max)
{
    uint32_t *slot = node_slot(model, actor);
    if (*slot)
        return *slot - 1;
    REQUIRE(model->node_count < NODES_MAX);
    model->nodes[model->node_count] = (struct node){.actor = actor, .mailbox_max = mailbox_max};
    *slot = ++model->node_count;
    return *slot - 1;
}

struct standing *ledger_standing(struct model *model, weir_actor actor)
{
    uint32_t slot = (uint32_t)mix(actor.bits) & (NODE_SLOTS - 1);
    for (; model->standing_slots[slot]; slot = (slot + 1) & (NODE_SLOTS - 1)) {
        struct standing *standing = &model->standings[model->standing_slots[slot] - 1];
        if (actor_is_same(standing->actor, actor))
            return standing;
    }
    REQUIRE(model->standing_count < NODES_MAX);
    struct standing *standing = &model->standings[model->standing_count++];
    *standing = (struct standing){.actor = actor};
    model->standing_slots[slot] = model->standing_count;
    return standing;
}

static bool pair_is(const struct pair *pair, weir_actor from, weir_actor to, enum lane lane)
{
    return actor_is_same(pair->from, from) && actor_is_same(pair->to, to) && pair->lane == lane;
}

static uint32_t *pair_slot(struct model *model, weir_actor from, weir_actor to, enum lane lane)
{
    uint32_t mask = model->pair_slot_count - 1;
    uint32_t slot = (uint32_t)mix(from.bits + mix(to.bits + lane)) & mask;
    while (model->pair_slots[slot] && !pair_is(&model->pairs[model->pair_slots[slot] - 1], from, to, lane))
        slot = (slot + 1) & mask;
    return &model->pair_slots[slot];
}

static void pairs_grow(struct model *model)
{
    model->pair_capacity *= 2;
    model->pair_slot_count = 2 * model->pair_capacity;
    model->pairs = must_have(realloc(model->pairs, model->pair_capacity * sizeof *model->pairs));
    free(model->pair_slots);
    model->pair_slots = must_have(calloc(model->pair_slot_count, sizeof *model->pair_slots));
    for (uint32_t i = 0; i < model->pair_count; i++)
        *pair_slot(model, model->pairs[i].from, model->pairs[i].to, model->pairs[i].lane) = i + 1;
}

static struct pair *pair_ensure(struct model *model, weir_actor from, weir_actor to, enum lane lane)
{
    uint32_t *slot = pair_slot(model, from, to, lane);
    if (*slot)
        return &model->pairs[*slot - 1];
    if (model->pair_count == model->pair_capacity) {
        pairs_grow(model);
        slot = pair_slot(model, from, to, lane);
    }
    model->pairs[model->pair_count] = (struct pair){.from = from, .to = to, .lane = lane};
    *slot = ++model->pair_count;
    return &model->pairs[*slot - 1];
}

uint64_t ledger_next(struct model *model, weir_actor from, weir_actor to, enum lane lane)
{
    return pair_ensure(model, from, to, lane)->sent;
}

void ledger_sent(struct model *model, weir_actor from, weir_actor to, enum lane lane)
{
    pair_ensure(model, from, to, lane)->sent++;
    model->messages++;
    uint32_t node = ledger_node(model, to);
    if (node == NODE_NONE || lane == LANE_CONTROL)
        return;
    struct node *receiver = &model->nodes[node];
    if (receiver->is_ended)
        model_violate(model, "node %u took a message after its end", node);
    if (++receiver->outstanding > receiver->mailbox_max)
        model_violate(model, "node %u holds %u messages, at most %u are allowed", node, receiver->outstanding,
                      receiver->mailbox_max);
}

void ledger_refused(struct model *model, weir_actor to, enum weir_error error)
{
    model->refusals++;
    uint32_t node = ledger_node(model, to);
    if (node == NODE_NONE)
        return;
    const struct node *receiver = &model->nodes[node];
    if (error == WEIR_FULL && receiver->is_ended)
        model_violate(model, "node %u has ended and says that it is full", node);
    if (error != WEIR_FULL && error != WEIR_STALE)
        model_violate(model, "node %u refused with %s", node, weir_error_code(error));
    if (error == WEIR_STALE && receiver->is_started && !receiver->is_ended)
        model_violate(model, "node %u lives and says that it has ended", node);
}

void ledger_settled(struct model *model, weir_actor from, weir_actor to, enum lane lane, uint64_t number)
{
    struct pair *pair = pair_ensure(model, from, to, lane);
    uint32_t node = ledger_node(model, to);
    if (number >= pair->sent)
        model_violate(model, "node %u got message %lu, which was never sent", node, (unsigned long)number);
    else if (number != pair->settled)
        model_violate(model, "node %u got message %lu from %lx where %lu is due", node, (unsigned long)number,
                      (unsigned long)from.bits, (unsigned long)pair->settled);
    pair->settled++;
    if (node == NODE_NONE || lane == LANE_CONTROL)
        return;
    model->nodes[node].outstanding--;
}

void ledger_timer_add(struct model *model, uint32_t owner, weir_timer timer, uint64_t due_ns, uint64_t period_ns)
{
    REQUIRE(model->timer_count < TIMERS_MAX);
    model->timers[model->timer_count++] =
        (struct timer_entry){.timer = timer, .owner = owner, .due_ns = due_ns, .period_ns = period_ns};
}

void ledger_timer_fired(struct model *model, uint32_t owner, weir_timer timer)
{
    for (uint32_t i = model->timer_count; i-- > 0;) {
        struct timer_entry *entry = &model->timers[i];
        if (entry->timer.bits != timer.bits || entry->owner != owner)
            continue;
        if (entry->is_canceled)
            model_violate(model, "timer %lx fired after it was canceled", (unsigned long)timer.bits);
        if (entry->is_over)
            model_violate(model, "timer %lx fired twice", (unsigned long)timer.bits);
        if (runtime_now_ns(model->runtime) < entry->due_ns)
            model_violate(model, "timer %lx fired too early", (unsigned long)timer.bits);
        entry->is_over = entry->period_ns == 0;
        return;
    }
    model_violate(model, "node %u got a timer nobody armed", owner);
}
