/* Giving back a map's tree, see map_tree.h. A root that nobody holds any more may be the last to hold some ten thousand
 * leaves, so it is only put on the fold's list of dead roots, and taken apart from there a bounded number of blocks at
 * a time: by the topic at the end of its turns, by map.c where memory is short. A segment or leaf that only dead roots
 * lead to is found by nobody else, so where the taking apart has come to can be noted in the nodes themselves. In the
 * topic's turn. */
#include "actors/topic/map_tree.h"

#include "actors/topic/topic_limits.h"

void map_leaf_release(struct arena *arena, weir_msg block)
{
    struct leaf *leaf = map_leaf_at(arena, block);
    if (--leaf->shares > 0)
        return;
    for (uint32_t i = 0; i < leaf->large_count; i++)
        arena_drop(arena, leaf->large[i].block);
    arena_drop(arena, block);
}

/* Leaves whose heads are fetched before they are needed. */
#define SWEEP_AHEAD 16u

/* What one call may do yet. */
struct sweep {
    uint64_t left; /* steps */
    uint64_t due;  /* of them, those that copying is owed: taken also when enough went back to the system */
    uint64_t returns_max;
};

static void steps_take(uint64_t *steps, uint64_t taken) { *steps -= taken < *steps ? taken : *steps; }

static void sweep_take(struct sweep *sweep, struct arena *arena, uint64_t taken)
{
    steps_take(&sweep->left, taken);
    steps_take(&sweep->due, taken);
    if (arena_returns(arena) >= sweep->returns_max)
        sweep->left = sweep->due;
}

/* Releases leaves of a segment that nobody else lists, as far as the steps last, and with the last of them the segment.
 * False: some are left. */
static bool segment_sweep(struct arena *arena, weir_msg block, struct sweep *sweep)
{
    struct map_segment *segment = map_segment_at(arena, block);
    while (segment->swept < 1u << segment->bits) {
        if (sweep->left == 0)
            return false;
        weir_msg listed = segment->leaves[segment->swept];
        const struct leaf *leaf = map_leaf_at(arena, listed);
        if (segment->swept + SWEEP_AHEAD < 1u << segment->bits)
            arena_prefetch(arena, segment->leaves[segment->swept + SWEEP_AHEAD]);
        segment->swept = (uint16_t)(segment->swept + map_leaf_span(segment, leaf));
        uint64_t steps = leaf->shares > 1 ? 1 : MAP_SWEEP_FREE_STEPS * (1u + leaf->large_count);
        map_leaf_release(arena, listed);
        sweep_take(sweep, arena, steps);
    }
    arena_drop(arena, block);
    return true;
}

void map_segment_release(struct arena *arena, weir_msg block)
{
    struct sweep whole = {UINT64_MAX, UINT64_MAX, UINT64_MAX};
    if (--map_segment_at(arena, block)->shares == 0)
        (void)segment_sweep(arena, block, &whole);
}

/* False: steps have run out before the root was gone. */
static bool root_sweep(struct arena *arena, weir_msg block, struct sweep *sweep)
{
    struct map_root *root = map_root_at(arena, block);
    while (root->swept < 1u << root->bits) {
        if (sweep->left == 0)
            return false;
        weir_msg listed = root->segments[root->swept];
        struct map_segment *segment = map_segment_at(arena, listed);
        uint32_t span = map_segment_span(root, segment);
        if (segment->shares > 1)
            segment->shares--;
        else if (!segment_sweep(arena, listed, sweep))
            return false;
        root->swept += span;
        sweep_take(sweep, arena, 1);
    }
    arena_drop(arena, block);
    return true;
}

void map_root_release(struct fold *fold, weir_msg block)
{
    if (msg_is_none(block))
        return;
    struct map_root *root = map_root_at(fold->arena, block);
    if (--root->shares > 0)
        return;
    root->next_dead = fold->as.map.dead;
    fold->as.map.dead = block;
}

bool map_sweep(struct fold *fold, uint32_t steps)
{
    /* What dies was copied once, or is what the fold itself had. */
    uint64_t due = 2 * fold->as.map.copied;
    struct sweep sweep = {steps + due, due, arena_returns(fold->arena) + MAP_SWEEP_RETURNS_MAX};
    fold->as.map.copied = 0;
    while (!msg_is_none(fold->as.map.dead)) {
        weir_msg next = map_root_at(fold->arena, fold->as.map.dead)->next_dead;
        if (!root_sweep(fold->arena, fold->as.map.dead, &sweep))
            return true;
        fold->as.map.dead = next;
    }
    return false;
}
