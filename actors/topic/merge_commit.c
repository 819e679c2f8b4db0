/* Carrying a plan out, see merge_plan.h. In the topic's turn. */
#include "actors/topic/map_read.h"
#include "actors/topic/map_tree.h"
#include "actors/topic/merge_plan.h"

/* Whether two hashes lead to the same leaf of that depth. */
static bool is_same_leaf(uint64_t hash, uint64_t other, uint8_t depth)
{
    return depth == 0 || (hash ^ other) >> (64 - depth) == 0;
}

static size_t size_need(uint32_t size) { return size > 0 ? leaf_need(size) : 0; }

/* Makes the leaf of the change at `first`, and of those behind it that have the same, the fold's own, with room for all
 * of them; *first is moved behind them. */
static enum weir_error leaf_reserve(struct merge_plan *plan, uint32_t *first)
{
    struct fold *fold = plan->fold;
    const struct merge_change *change = &plan->changes[*first];
    for (;;) {
        struct leaf *leaf;
        enum weir_error error = map_leaf_own(fold, change->hash, &leaf);
        if (error)
            return error;
        size_t taken = 0, given = leaf_room(leaf);
        uint32_t end = *first;
        for (; end < plan->count && is_same_leaf(change->hash, plan->changes[end].hash, leaf->depth); end++) {
            taken += size_need(plan->changes[end].size);
            given += size_need(plan->changes[end].old_size);
        }
        if (taken <= given) {
            *first = end;
            return WEIR_OK;
        }
        error = map_leaf_widen(fold, change->hash, leaf_room(leaf) + taken - given);
        if (error)
            return error;
    }
}

static struct leaf *change_leaf(const struct fold *fold, const struct merge_change *change)
{
    return map_leaf_at(fold->arena, map_leaf_find(fold->arena, fold->as.map.root, change->hash));
}

/* Takes out what is there, or puts the new pair in its place where both are of one size. */
static void change_take_out(struct fold *fold, struct merge_change *change)
{
    struct leaf *leaf = change_leaf(fold, change);
    struct leaf_place place = leaf_find(fold->arena, leaf, (uint16_t)change->hash, change->text);
    if (!place.is_found)
        return;
    if (change->size == place.size && !place.is_large) {
        leaf_overwrite(leaf, place.index, fold->as.map.seq, change->pair, change->size);
        change->is_done = true;
        return;
    }
    if (change->size == 0) {
        const uint8_t *pair = place.is_large ? arena_data(fold->arena, leaf->large[place.index].block)
                                             : (const uint8_t *)leaf + leaf_pair_offset(leaf, place.index);
        struct view key = view_of(pair, MEMBER_KEY_OFFSET + member_key(view_of(pair, place.size)).size);
        map_deleted_add(&fold->as.map.deleted, fold->arena, fold->budget, key, fold->as.map.seq);
    }
    leaf_remove(fold->arena, leaf, &place);
}

static void change_put_in(struct fold *fold, struct merge_change *change)
{
    struct leaf *leaf = change_leaf(fold, change);
    if (msg_is_none(change->block)) {
        leaf_add(leaf, (uint16_t)change->hash, fold->as.map.seq, change->pair, change->size);
        return;
    }
    leaf_add_large(leaf, &(struct leaf_large){.block = change->block,
                                              .seq = fold->as.map.seq,
                                              .size = change->size,
                                              .tag = (uint16_t)change->hash});
    change->block = WEIR_MSG_NONE;
}

enum weir_error merge_plan_commit(struct merge_plan *plan)
{
    struct fold *fold = plan->fold;
    for (uint32_t at = 0; at < plan->count;) {
        enum weir_error error = leaf_reserve(plan, &at);
        if (error)
            return error;
    }
    /* All out before any in: only then is there surely room. */
    for (uint32_t i = 0; i < plan->count; i++) {
        struct merge_change *change = &plan->changes[i];
        if (change->old_size > 0)
            change_take_out(fold, change);
        fold->bytes += change->size - (size_t)change->old_size;
        fold->entries += (size_t)(change->size > 0) - (size_t)(change->old_size > 0);
    }
    for (uint32_t i = 0; i < plan->count; i++)
        if (plan->changes[i].size > 0 && !plan->changes[i].is_done)
            change_put_in(fold, &plan->changes[i]);
    if (fold->entries == 0)
        map_clear_tree(fold);
    for (uint32_t i = 0; i < plan->count && fold->entries > 0; i++)
        if (plan->changes[i].size == 0)
            map_leaf_narrow(fold, plan->changes[i].hash);
    return WEIR_OK;
}
