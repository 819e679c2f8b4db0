/* Snapshots of a map's tree, see map_read.h. In the topic's turn. */
#include "actors/topic/map_read.h"

#include "actors/topic/map_tree.h"
#include "actors/topic/topic_limits.h"

void map_capture(struct fold *fold, struct fold_snapshot *out)
{
    *out = (struct fold_snapshot){.root = fold->as.map.root,
                                  .deleted_end = map_deleted_end(&fold->as.map.deleted, fold->arena),
                                  .bytes = fold->bytes,
                                  .entries = fold->entries};
    if (!msg_is_none(out->root))
        map_root_at(fold->arena, out->root)->shares++;
}

bool map_knows_since(const struct fold *fold, uint64_t seq) { return seq >= fold->as.map.deleted.lost_seq; }

/* The keys deleted since, as far as the snapshot knew of them. */
static enum weir_error map_read_deleted(struct fold *fold, const struct fold_snapshot *snapshot,
                                        struct fold_cursor *cursor, size_t size_max, struct fold_run *out)
{
    const struct map_deleted *deleted = &fold->as.map.deleted;
    if (!map_knows_since(fold, cursor->since))
        return WEIR_STALE;
    struct deleted_place place = {cursor->position[0], cursor->position[1]};
    if (cursor->done == 0)
        place = map_deleted_find(deleted, fold->arena, cursor->since);
    enum weir_error error =
        map_deleted_next(deleted, fold->arena, &place, snapshot->deleted_end, size_max, &out->pairs, &out->count);
    if (error)
        return error;
    cursor->position[0] = place.page;
    cursor->position[1] = place.index;
    cursor->done += out->count;
    return WEIR_OK;
}

static bool large_run(const struct leaf *leaf, struct fold_cursor *cursor, struct fold_run *out)
{
    while (cursor->position[2] < (uint32_t)leaf->count + leaf->large_count) {
        const struct leaf_large *large = &leaf->large[cursor->position[2]++ - leaf->count];
        if (large->seq <= cursor->since)
            continue;
        *out = (struct fold_run){.pairs = {large->block, 0, large->size}, .count = 1};
        return true;
    }
    return false;
}

/* The next run of a leaf of what is newer than the cursor's since. False: there is none. */
static bool leaf_run(struct fold *fold, weir_msg block, struct fold_cursor *cursor, size_t size_max,
                     struct fold_run *out)
{
    const struct leaf *leaf = map_leaf_at(fold->arena, block);
    uint32_t first = cursor->position[2];
    if (leaf->seq_newest <= cursor->since)
        return false;
    while (first < leaf->count && leaf_seq(leaf, first) <= cursor->since)
        first++;
    cursor->position[2] = first;
    if (first >= leaf->count)
        return large_run(leaf, cursor, out);
    uint32_t start = leaf_pair_offset(leaf, first), end = first + 1;
    while (end < leaf->count && leaf_seq(leaf, end) > cursor->since &&
           leaf_pair_offset(leaf, end + 1) - start <= size_max)
        end++;
    *out = (struct fold_run){.pairs = {block, start, leaf_pair_offset(leaf, end) - start}, .count = end - first};
    cursor->position[2] = end;
    return true;
}

/* The pairs. The cursor's position: entry of the root, entry of the segment, pair of the leaf, the large ones last. */
static enum weir_error map_read_pairs(struct fold *fold, const struct fold_snapshot *snapshot,
                                      struct fold_cursor *cursor, size_t size_max, struct fold_run *out)
{
    *out = (struct fold_run){.count = 0};
    if (msg_is_none(snapshot->root))
        return WEIR_AGAIN;
    const struct map_root *root = map_root_at(fold->arena, snapshot->root);
    for (int step = 0; step < MAP_READ_STEPS_MAX; step++) {
        if (cursor->position[0] == 1u << root->bits)
            return WEIR_AGAIN;
        const struct map_segment *segment = map_segment_at(fold->arena, root->segments[cursor->position[0]]);
        if (segment->seq_newest > cursor->since) {
            weir_msg block = segment->leaves[cursor->position[1]];
            if (leaf_run(fold, block, cursor, size_max, out)) {
                cursor->done += out->count;
                return WEIR_OK;
            }
            cursor->position[2] = 0;
            cursor->position[1] += 1u << (segment->depth + segment->bits - map_leaf_at(fold->arena, block)->depth);
        } else {
            cursor->position[1] = 1u << segment->bits;
        }
        if (cursor->position[1] == 1u << segment->bits) {
            cursor->position[1] = 0;
            cursor->position[0] += 1u << (root->bits - segment->depth);
        }
    }
    return WEIR_OK;
}

enum weir_error map_read(struct fold *fold, const struct fold_snapshot *snapshot, struct fold_cursor *cursor,
                         size_t size_max, struct fold_run *out)
{
    if (cursor->since > 0 && !cursor->is_past_deleted) {
        enum weir_error error = map_read_deleted(fold, snapshot, cursor, size_max, out);
        if (error != WEIR_AGAIN)
            return error;
        *cursor = (struct fold_cursor){.since = cursor->since, .done = cursor->done, .is_past_deleted = true};
    }
    return map_read_pairs(fold, snapshot, cursor, size_max, out);
}

void map_clear_tree(struct fold *fold)
{
    map_root_release(fold, fold->as.map.root);
    fold->as.map.root = WEIR_MSG_NONE;
    fold->bytes = fold->entries = 0;
}

void map_release(struct fold *fold, struct fold_snapshot *snapshot)
{
    map_root_release(fold, snapshot->root);
    *snapshot = (struct fold_snapshot){.entries = 0};
}

void map_clear(struct fold *fold)
{
    map_clear_tree(fold);
    map_deleted_clear(&fold->as.map.deleted, fold->arena);
}
