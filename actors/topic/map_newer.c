/* What has changed in a map since some record, see map_newer.h. */
#include "actors/topic/map_newer.h"

#include "actors/topic/map_tree.h"
#include "actors/topic/topic_limits.h"

static bool change_is_wanted(const struct fold_cursor *cursor, const struct fold_changes *changes, uint64_t seq)
{
    return seq > cursor->since && seq <= changes->seq_max;
}

static void change_note(const struct fold *fold, struct fold_changes *changes, uint64_t seq, const uint8_t *pair,
                        uint32_t size)
{
    uint64_t hash = map_hash(leaf_pair_key_text(pair, size), fold->seed);
    changes->items[changes->count++] = (struct fold_change){seq, hash};
}

static void leaf_changes(const struct fold *fold, const struct leaf *leaf, const struct fold_cursor *cursor,
                         struct fold_changes *changes)
{
    for (uint32_t i = 0; i < leaf->count; i++)
        if (change_is_wanted(cursor, changes, leaf_seq(leaf, i)))
            change_note(fold, changes, leaf_seq(leaf, i), (const uint8_t *)leaf + leaf_pair_offset(leaf, i),
                        leaf_pair_size(leaf, i));
    for (uint32_t i = 0; i < leaf->large_count; i++)
        if (change_is_wanted(cursor, changes, leaf->large[i].seq))
            change_note(fold, changes, leaf->large[i].seq, arena_data(fold->arena, leaf->large[i].block),
                        leaf->large[i].size);
}

/* The cursor's position: entry of the root, entry of the segment. */
enum weir_error map_newer(struct fold *fold, const struct fold_snapshot *snapshot, struct fold_cursor *cursor,
                          struct fold_changes *changes)
{
    if (msg_is_none(snapshot->root))
        return WEIR_AGAIN;
    const struct map_root *root = map_root_at(fold->arena, snapshot->root);
    uint32_t leaves = 0;
    for (int step = 0; step < MAP_READ_STEPS_MAX && leaves < MAP_PAGE_STEPS_MAX; step++) {
        if (cursor->position[0] == 1u << root->bits)
            return WEIR_AGAIN;
        const struct map_segment *segment = map_segment_at(fold->arena, root->segments[cursor->position[0]]);
        if (segment->seq_newest > cursor->since) {
            const struct leaf *leaf = map_leaf_at(fold->arena, segment->leaves[cursor->position[1]]);
            bool is_newer = leaf->seq_newest > cursor->since;
            if (is_newer && (uint32_t)leaf->count + leaf->large_count > changes->count_max - changes->count)
                return WEIR_OK;
            if (is_newer)
                leaf_changes(fold, leaf, cursor, changes);
            leaves += is_newer;
            cursor->position[1] += map_leaf_span(segment, leaf);
        } else {
            cursor->position[1] = 1u << segment->bits;
        }
        if (cursor->position[1] == 1u << segment->bits) {
            cursor->position[1] = 0;
            cursor->position[0] += map_segment_span(root, segment);
        }
    }
    return WEIR_OK;
}

enum weir_error map_change_at(struct fold *fold, const struct fold_change *change, struct fold_run *out)
{
    if (msg_is_none(fold->as.map.root))
        return WEIR_NOT_FOUND;
    weir_msg block = map_leaf_find(fold->arena, fold->as.map.root, change->hash);
    const struct leaf *leaf = map_leaf_at(fold->arena, block);
    if (leaf->seq_newest < change->seq)
        return WEIR_NOT_FOUND;
    for (uint32_t i = 0; i < leaf->count; i++) {
        if (leaf_seq(leaf, i) != change->seq)
            continue;
        *out = (struct fold_run){{block, leaf_pair_offset(leaf, i), leaf_pair_size(leaf, i)}, 1, change->seq};
        return WEIR_OK;
    }
    for (uint32_t i = 0; i < leaf->large_count; i++) {
        if (leaf->large[i].seq != change->seq)
            continue;
        *out = (struct fold_run){{leaf->large[i].block, 0, leaf->large[i].size}, 1, change->seq};
        return WEIR_OK;
    }
    return WEIR_NOT_FOUND;
}

enum weir_error map_deleted_after(struct fold *fold, uint64_t seq, struct fold_run *out)
{
    const struct map_deleted *deleted = &fold->as.map.deleted;
    struct deleted_place place = map_deleted_find(deleted, fold->arena, seq), at = place;
    enum weir_error error = map_deleted_next(deleted, fold->arena, &place, map_deleted_end(deleted, fold->arena), 0,
                                             &out->pairs, &out->count);
    if (error)
        return WEIR_NOT_FOUND;
    out->seq = map_deleted_seq(deleted, fold->arena, at);
    return WEIR_OK;
}
