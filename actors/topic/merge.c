/* Kind merge: state is one msgpack map that RFC 7396 patches are merged into. It stands in one block, a pair of nil and
 * the map, written anew by each patch, so that a snapshot is a reference to the block. The key of a record is ignored.
 */
#include "actors/topic/fold.h"
#include "actors/topic/single.h"
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
        target = view_of((uint8_t *)arena_data(fold->arena, fold->as.single.block) + 1, fold->bytes - 1);
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
    bool is_long = fold->rule.merged_bytes_max > 0 && size > fold->rule.merged_bytes_max;
    if (!error && (is_long || !fold_has_room(fold, size + 1)))
        error = WEIR_TOO_BIG;
    if (error) {
        arena_drop(fold->arena, block);
        return error;
    }
    arena_drop(fold->arena, fold->as.single.block);
    fold->as.single.block = block;
    /* A merge that came to nil leaves nothing: the state is as if nothing had been published. */
    fold->entries = merge_is_nil(data + 1, size) ? 0 : 1;
    fold->bytes = fold->entries ? size + 1 : 0;
    return WEIR_OK;
}

const struct fold_ops fold_merge = {
    .name = "merge",
    .apply = merge_record,
    .capture = single_capture,
    .read = single_read,
    .release = single_release,
    .clear = single_clear,
};
