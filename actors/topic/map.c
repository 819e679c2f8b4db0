/* Kind map: state is the newest record of each key; a nil value deletes its key. Leaves with the pairs (map_leaf.h) in
 * a tree (map_tree.h). */
#include "actors/topic/fold.h"
#include "actors/topic/map_tree.h"
#include "actors/topic/topic_limits.h"

#define MSGPACK_NIL 0xc0

static bool cell_is_nil(const struct cell *cell)
{
    const uint8_t *value = cell_value(cell);
    return cell->data + cell->size == value + 1 && *value == MSGPACK_NIL;
}

static struct leaf_place map_find_place(struct fold *fold, uint64_t hash, struct view key)
{
    if (msg_is_none(fold->as.map.root))
        return (struct leaf_place){.is_found = false};
    struct leaf *leaf = map_leaf_at(fold->arena, map_leaf_find(fold->arena, fold->as.map.root, hash));
    return leaf_find(fold->arena, leaf, (uint16_t)hash, key);
}

static enum weir_error map_delete(struct fold *fold, uint64_t hash, const struct leaf_place *place)
{
    if (!place->is_found)
        return WEIR_OK;
    /* Copies keep the pairs of a leaf in order, so the place stays good. */
    struct leaf *leaf;
    enum weir_error error = map_leaf_own(fold, hash, &leaf);
    if (error)
        return error;
    leaf_remove(fold->arena, leaf, place);
    fold->bytes -= place->size;
    fold->entries--;
    return WEIR_OK;
}

static size_t place_need(const struct leaf_place *place) { return place->is_found ? leaf_need(place->size) : 0; }

/* A leaf of our own with room for the cell in place of what it has of that key; *place is kept up to date. */
static enum weir_error map_make_room(struct fold *fold, uint64_t hash, const struct cell *cell, struct leaf **out,
                                     struct leaf_place *place)
{
    enum weir_error error = map_leaf_own(fold, hash, out);
    while (!error && leaf_room(*out) + place_need(place) < leaf_need(cell->size)) {
        error = map_leaf_widen(fold, hash);
        if (!error)
            error = map_leaf_own(fold, hash, out);
        if (!error)
            *place = leaf_find(fold->arena, *out, (uint16_t)hash, view_of(cell->data, cell->key_size));
    }
    return error;
}

static enum weir_error map_put(struct fold *fold, uint64_t hash, const struct cell *cell, struct leaf_place *place)
{
    size_t old_size = place->is_found ? place->size : 0;
    if (!fold_has_room(fold, fold->bytes - old_size + cell->size))
        return WEIR_TOO_BIG;
    bool is_large = cell->size > MAP_LARGE_SIZE;
    struct leaf *leaf;
    enum weir_error error = map_make_room(fold, hash, cell, &leaf, place);
    if (!error && is_large)
        error = arena_hold(fold->arena, cell->block);
    if (error)
        return error;
    if (place->is_found && !place->is_large && place->size == cell->size) {
        leaf_overwrite(leaf, place->index, cell->data, cell->size);
        return WEIR_OK;
    }
    if (place->is_found)
        leaf_remove(fold->arena, leaf, place);
    else
        fold->entries++;
    if (is_large)
        leaf_add_large(leaf, &(struct leaf_large){cell->block, cell->size, (uint16_t)hash, (uint16_t)cell->key_size});
    else
        leaf_add(leaf, (uint16_t)hash, cell->data, cell->size);
    fold->bytes += cell->size - old_size;
    return WEIR_OK;
}

static enum weir_error map_apply(struct fold *fold, const struct cell *cell)
{
    if (cell->key_size == 0)
        return WEIR_BAD_REQUEST;
    struct view key = view_of(cell->data, cell->key_size);
    uint64_t hash = map_hash(leaf_key_text(key), fold->seed);
    struct leaf_place place = map_find_place(fold, hash, key);
    return cell_is_nil(cell) ? map_delete(fold, hash, &place) : map_put(fold, hash, cell, &place);
}

static void map_capture(struct fold *fold, struct fold_snapshot *out)
{
    *out = (struct fold_snapshot){.root = fold->as.map.root, .bytes = fold->bytes, .entries = fold->entries};
    if (!msg_is_none(out->root))
        map_root_at(fold->arena, out->root)->shares++;
}

static void leaf_run(struct fold *fold, weir_msg block, struct fold_cursor *cursor, size_t size_max,
                     struct fold_run *out)
{
    const struct leaf *leaf = map_leaf_at(fold->arena, block);
    uint32_t first = cursor->position[2];
    if (first >= leaf->count) {
        const struct leaf_large *large = &leaf->large[first - leaf->count];
        *out = (struct fold_run){{large->block, 0, large->size}, 1};
    } else {
        uint32_t start = leaf_pair_offset(leaf, first), end = first + 1;
        while (end < leaf->count && leaf_pair_offset(leaf, end + 1) - start <= size_max)
            end++;
        *out = (struct fold_run){{block, start, leaf_pair_offset(leaf, end) - start}, end - first};
    }
    cursor->position[2] += out->count;
    cursor->done += out->count;
}

/* The cursor's position: entry of the root, entry of the segment, pair of the leaf, the large ones last. */
static enum weir_error map_read(struct fold *fold, const struct fold_snapshot *snapshot, struct fold_cursor *cursor,
                                size_t size_max, struct fold_run *out)
{
    if (cursor->done >= snapshot->entries)
        return WEIR_AGAIN;
    const struct map_root *root = map_root_at(fold->arena, snapshot->root);
    for (;;) {
        const struct map_segment *segment = map_segment_at(fold->arena, root->segments[cursor->position[0]]);
        weir_msg block = segment->leaves[cursor->position[1]];
        const struct leaf *leaf = map_leaf_at(fold->arena, block);
        if (cursor->position[2] < (uint32_t)leaf->count + leaf->large_count) {
            leaf_run(fold, block, cursor, size_max, out);
            return WEIR_OK;
        }
        cursor->position[2] = 0;
        cursor->position[1] += 1u << (segment->depth + segment->bits - leaf->depth);
        if (cursor->position[1] == 1u << segment->bits) {
            cursor->position[1] = 0;
            cursor->position[0] += 1u << (root->bits - segment->depth);
        }
    }
}

static enum weir_error map_find(struct fold *fold, const struct fold_snapshot *snapshot, struct view key,
                                struct fold_run *out)
{
    if (msg_is_none(snapshot->root))
        return WEIR_NOT_FOUND;
    uint64_t hash = map_hash(leaf_key_text(key), fold->seed);
    weir_msg block = map_leaf_find(fold->arena, snapshot->root, hash);
    struct leaf *leaf = map_leaf_at(fold->arena, block);
    struct leaf_place place = leaf_find(fold->arena, leaf, (uint16_t)hash, key);
    if (!place.is_found)
        return WEIR_NOT_FOUND;
    if (place.is_large)
        *out = (struct fold_run){{leaf->large[place.index].block, 0, place.size}, 1};
    else
        *out = (struct fold_run){{block, leaf_pair_offset(leaf, place.index), place.size}, 1};
    return WEIR_OK;
}

static void map_release(struct fold *fold, struct fold_snapshot *snapshot)
{
    map_root_release(fold->arena, snapshot->root);
    *snapshot = (struct fold_snapshot){.entries = 0};
}

static void map_clear(struct fold *fold)
{
    map_root_release(fold->arena, fold->as.map.root);
    fold->as.map.root = WEIR_MSG_NONE;
    fold->bytes = fold->entries = 0;
}

const struct fold_ops fold_map = {
    .name = "map",
    .alone_size = MAP_LARGE_SIZE,
    .apply = map_apply,
    .capture = map_capture,
    .read = map_read,
    .find = map_find,
    .release = map_release,
    .clear = map_clear,
};
