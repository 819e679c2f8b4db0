/* Kind merge: state is one msgpack map that RFC 7396 patches are merged into. It stands in one block, a pair of nil and
 * the map, written anew by each patch, so that a snapshot is a reference to the block. The key of a record is ignored.
 */
#include "actors/topic/fold.h"
#include "clients/wire/merge.h"

/* The broker checked each value against the depth it was configured with; merging does not make one deeper. */
#define MERGE_DEPTH_MAX 255u
/* The nil before the map, and what merge_apply may need over both its inputs. */
#define MERGE_EXTRA_SIZE 17u

static bool merge_is_nil(const uint8_t *data, size_t size) { return size == 1 && data[0] == 0xc0; }

static enum weir_error merge_record(struct fold *fold, const struct cell *cell)
{
    struct view target = {NULL, 0};
    if (fold->entries)
        target = view_of((uint8_t *)arena_data(fold->arena, fold->as.merge.block) + 1, fold->bytes - 1);
    struct view patch = view_of(cell_value(cell), (size_t)(cell->data + cell->size - cell_value(cell)));
    weir_msg block;
    enum weir_error error = arena_alloc(fold->arena, target.size + patch.size + MERGE_EXTRA_SIZE, fold->budget, &block);
    if (error)
        return error;
    uint8_t *data = arena_data(fold->arena, block);
    data[0] = 0xc0;
    size_t size = 0;
    error =
        merge_apply(target, patch, MERGE_DEPTH_MAX, data + 1, target.size + patch.size + MERGE_EXTRA_SIZE - 1, &size);
    if (!error && !fold_has_room(fold, size + 1))
        error = WEIR_TOO_BIG;
    if (error) {
        arena_drop(fold->arena, block);
        return error;
    }
    arena_drop(fold->arena, fold->as.merge.block);
    fold->as.merge.block = block;
    /* A merge that came to nil leaves nothing: the state is as if nothing had been published. */
    fold->entries = merge_is_nil(data + 1, size) ? 0 : 1;
    fold->bytes = fold->entries ? size + 1 : 0;
    return WEIR_OK;
}

static void merge_capture(struct fold *fold, struct fold_snapshot *out)
{
    *out = (struct fold_snapshot){.root = fold->as.merge.block, .bytes = fold->bytes, .entries = fold->entries};
    if (!msg_is_none(out->root))
        (void)arena_hold(fold->arena, out->root); /* cannot be stale: the fold has a reference */
}

static enum weir_error merge_read(struct fold *fold, const struct fold_snapshot *snapshot, struct fold_cursor *cursor,
                                  size_t size_max, struct fold_run *out)
{
    (void)fold;
    (void)size_max;
    if (cursor->done >= snapshot->entries)
        return WEIR_AGAIN;
    *out = (struct fold_run){{snapshot->root, 0, (uint32_t)snapshot->bytes}, 1};
    cursor->done++;
    return WEIR_OK;
}

static void merge_release(struct fold *fold, struct fold_snapshot *snapshot)
{
    arena_drop(fold->arena, snapshot->root);
    *snapshot = (struct fold_snapshot){.entries = 0};
}

static void merge_clear(struct fold *fold)
{
    arena_drop(fold->arena, fold->as.merge.block);
    fold->as.merge.block = WEIR_MSG_NONE;
    fold->bytes = fold->entries = 0;
}

const struct fold_ops fold_merge = {
    .name = "merge",
    .apply = merge_record,
    .capture = merge_capture,
    .read = merge_read,
    .release = merge_release,
    .clear = merge_clear,
};
