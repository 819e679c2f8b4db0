/* Kind map: state is the newest record of each key; a nil value deletes its key. Leaves with the pairs (map_leaf.h) in
 * a tree (map_tree.h). */
#include "actors/topic/fold.h"
#include "actors/topic/map_newer.h"
#include "actors/topic/map_page.h"
#include "actors/topic/map_read.h"
#include "actors/topic/map_tree.h"
#include "actors/topic/topic_limits.h"

static bool cell_is_nil(const struct cell *cell)
{
    const uint8_t *value = cell_value(cell);
    return value_is_nil(view_of(value, (size_t)(cell->data + cell->size - value)));
}

static struct leaf_place map_find_place(struct fold *fold, uint64_t hash, struct view key)
{
    if (msg_is_none(fold->as.map.root))
        return (struct leaf_place){.is_found = false};
    struct leaf *leaf = map_leaf_at(fold->arena, map_leaf_find(fold->arena, fold->as.map.root, hash));
    return leaf_find(fold->arena, leaf, (uint16_t)hash, leaf_key_text(key));
}

static enum weir_error map_delete(struct fold *fold, uint64_t hash, struct view key, const struct leaf_place *place)
{
    if (!place->is_found) {
        /* It is the newest record of that key all the same, which who is conflated must be sent. */
        map_deleted_add(&fold->as.map.deleted, fold->arena, fold->budget, key, fold->as.map.seq);
        return WEIR_OK;
    }
    /* Copies keep the pairs of a leaf in order, so the place stays good. */
    struct leaf *leaf;
    enum weir_error error = map_leaf_own(fold, hash, &leaf);
    if (error)
        return error;
    leaf_remove(fold->arena, leaf, place);
    fold->bytes -= place->size;
    fold->entries--;
    map_deleted_add(&fold->as.map.deleted, fold->arena, fold->budget, key, fold->as.map.seq);
    if (fold->entries == 0)
        map_clear_tree(fold);
    else
        map_leaf_narrow(fold, hash);
    return WEIR_OK;
}

static size_t place_need(const struct leaf_place *place) { return place->is_found ? leaf_need(place->size) : 0; }

/* A leaf of our own with room for the cell in place of what it has of that key; *place is kept up to date. */
static enum weir_error map_make_room(struct fold *fold, uint64_t hash, const struct cell *cell, struct leaf **out,
                                     struct leaf_place *place)
{
    enum weir_error error = map_leaf_own(fold, hash, out);
    while (!error && leaf_room(*out) + place_need(place) < leaf_need(cell->size)) {
        error = map_leaf_widen(fold, hash, leaf_need(cell->size));
        if (!error)
            error = map_leaf_own(fold, hash, out);
        if (!error)
            *place = leaf_find(fold->arena, *out, (uint16_t)hash, leaf_key_text(view_of(cell->data, cell->key_size)));
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
        leaf_overwrite(leaf, place->index, cell->seq, cell->data, cell->size);
        return WEIR_OK;
    }
    if (place->is_found)
        leaf_remove(fold->arena, leaf, place);
    else
        fold->entries++;
    if (is_large)
        leaf_add_large(leaf, &(struct leaf_large){
                                 .block = cell->block, .seq = cell->seq, .size = cell->size, .tag = (uint16_t)hash});
    else
        leaf_add(leaf, (uint16_t)hash, cell->seq, cell->data, cell->size);
    fold->bytes += cell->size - old_size;
    return WEIR_OK;
}

static enum weir_error map_record(struct fold *fold, uint64_t hash, struct view key, const struct cell *cell)
{
    struct leaf_place place = map_find_place(fold, hash, key);
    return cell_is_nil(cell) ? map_delete(fold, hash, key, &place) : map_put(fold, hash, cell, &place);
}

static enum weir_error map_apply(struct fold *fold, const struct cell *cell)
{
    if (cell->key_size == 0)
        return WEIR_BAD_REQUEST;
    struct view key = view_of(cell->data, cell->key_size);
    uint64_t hash = map_hash(leaf_key_text(key), fold->seed);
    fold->as.map.seq = cell->seq;
    enum weir_error error = map_record(fold, hash, key, cell);
    /* Nothing is refused for want of memory that only waits to be given back. */
    if (error == WEIR_NO_MEMORY && !msg_is_none(fold->as.map.dead)) {
        (void)map_sweep(fold, MAP_SWEEP_RELIEF_STEPS);
        error = map_record(fold, hash, key, cell);
    }
    return error;
}

static enum weir_error map_find(struct fold *fold, const struct fold_snapshot *snapshot, struct view key,
                                struct fold_run *out)
{
    if (msg_is_none(snapshot->root))
        return WEIR_NOT_FOUND;
    uint64_t hash = map_hash(leaf_key_text(key), fold->seed);
    weir_msg block = map_leaf_find(fold->arena, snapshot->root, hash);
    struct leaf *leaf = map_leaf_at(fold->arena, block);
    struct leaf_place place = leaf_find(fold->arena, leaf, (uint16_t)hash, leaf_key_text(key));
    if (!place.is_found)
        return WEIR_NOT_FOUND;
    if (place.is_large)
        *out = (struct fold_run){{leaf->large[place.index].block, 0, place.size}, 1, leaf->large[place.index].seq};
    else
        *out =
            (struct fold_run){{block, leaf_pair_offset(leaf, place.index), place.size}, 1, leaf_seq(leaf, place.index)};
    return WEIR_OK;
}

const struct fold_ops fold_map = {
    .name = "map",
    .alone_size = MAP_LARGE_SIZE,
    .apply = map_apply,
    .prepare = map_prepare,
    .capture = map_capture,
    .knows_since = map_knows_since,
    .read = map_read,
    .find = map_find,
    .newer = map_newer,
    .change_at = map_change_at,
    .deleted_after = map_deleted_after,
    .page = map_page_read,
    .release = map_release,
    .sweep = map_sweep,
    .clear = map_clear,
};
