/* Kind merge: state is one msgpack map that RFC 7396 patches are merged into, kept as the map kind keeps its pairs, a
 * pair a member: so a patch costs what it names, and a snapshot nothing. The key of a record is ignored.
 *
 * A patch that is no map replaces the state; such a state is the only pair, without a member's key. What replaces as a
 * whole, or follows on that, is built in a tree of its own, and nobody who knows an older state is told the difference:
 * entries of a delta are members only. */
#include "actors/topic/fold.h"
#include "actors/topic/map_page.h"
#include "actors/topic/map_read.h"
#include "actors/topic/map_tree.h"
#include "actors/topic/merge_plan.h"

static bool value_is_map(struct view value)
{
    uint8_t head = value.size > 0 ? value.data[0] : MSGPACK_NIL;
    return (head & 0xf0) == 0x80 || head == 0xde || head == 0xdf;
}

/* A map into members, anything else but nil as the only pair. */
static enum weir_error merge_patch(struct fold *fold, struct view patch)
{
    struct merge_plan plan;
    merge_plan_init(&plan, fold);
    enum weir_error error = value_is_map(patch) ? merge_plan_patch(&plan, patch) : merge_plan_whole(&plan, patch);
    if (!error)
        error = merge_plan_commit(&plan);
    merge_plan_fini(&plan);
    return error;
}

/* The patch alone becomes the state: in a new tree, so that on failure the old one is there. */
static enum weir_error merge_replace(struct fold *fold, struct view patch)
{
    weir_msg root = fold->as.map.root;
    size_t bytes = fold->bytes, entries = fold->entries;
    fold->as.map.root = WEIR_MSG_NONE;
    fold->bytes = fold->entries = 0;
    enum weir_error error = value_is_nil(patch) ? WEIR_OK : merge_patch(fold, patch);
    if (error) {
        map_clear_tree(fold);
        fold->as.map.root = root;
        fold->bytes = bytes;
        fold->entries = entries;
        return error;
    }
    map_root_release(fold, root);
    fold->as.map.is_whole = fold->entries > 0 && !value_is_map(patch);
    map_deleted_forget(&fold->as.map.deleted, fold->arena, fold->as.map.seq);
    return WEIR_OK;
}

static enum weir_error merge_value(struct fold *fold, struct view patch)
{
    return value_is_map(patch) && !fold->as.map.is_whole ? merge_patch(fold, patch) : merge_replace(fold, patch);
}

static enum weir_error merge_record(struct fold *fold, const struct cell *cell)
{
    struct view patch = view_of(cell_value(cell), (size_t)(cell->data + cell->size - cell_value(cell)));
    fold->as.map.seq = cell->seq;
    enum weir_error error = merge_value(fold, patch);
    /* Nothing is refused for want of memory that only waits to be given back. */
    if (error == WEIR_NO_MEMORY && !msg_is_none(fold->as.map.dead)) {
        (void)map_sweep(fold, MAP_SWEEP_RELIEF_STEPS);
        error = merge_value(fold, patch);
    }
    return error;
}

static void merge_clear(struct fold *fold)
{
    map_clear(fold);
    fold->as.map.is_whole = false;
}

const struct fold_ops fold_merge = {
    .name = "merge",
    .apply = merge_record,
    .capture = map_capture,
    .knows_since = map_knows_since,
    .read = map_read,
    .page = map_page_read,
    .release = map_release,
    .sweep = map_sweep,
    .clear = merge_clear,
};
