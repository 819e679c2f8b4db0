/* Kind last: state is the newest record. It stands in the newest page of the ring already, so state is a reference to
 * it. */
#include "actors/topic/fold.h"
#include "actors/topic/single.h"

static enum weir_error last_apply(struct fold *fold, const struct cell *cell)
{
    if (!fold_has_room(fold, cell->size))
        return WEIR_TOO_BIG;
    if (fold->as.single.block.bits != cell->block.bits) {
        enum weir_error error = arena_hold(fold->arena, cell->block);
        if (error)
            return error;
        arena_drop(fold->arena, fold->as.single.block);
        fold->as.single.block = cell->block;
    }
    fold->as.single.offset = cell->offset;
    fold->bytes = cell->size;
    fold->entries = 1;
    return WEIR_OK;
}

const struct fold_ops fold_last = {
    .name = "last",
    .apply = last_apply,
    .capture = single_capture,
    .read = single_read,
    .release = single_release,
    .clear = single_clear,
};
