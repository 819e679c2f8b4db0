/* Kind last: state is the newest record. It stands in the newest page of the ring already, so state is a reference to
 * it. */
#include "actors/topic/fold.h"
#include "actors/topic/single.h"

/* Less than this is not worth a block. */
#define LAST_SLACK ((size_t)512)

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

/* A page is kept whole for one record of it: where that is a small part, the record gets a block of its own. */
static void last_compact(struct fold *fold)
{
    weir_msg block;
    if (fold->entries == 0 || arena_capacity(fold->arena, fold->as.single.block) < 2 * fold->bytes + LAST_SLACK)
        return;
    if (arena_alloc(fold->arena, fold->bytes, fold->budget, &block))
        return; /* it is as large as it was, then */
    const uint8_t *page = arena_data(fold->arena, fold->as.single.block);
    memcpy(arena_data(fold->arena, block), page + fold->as.single.offset, fold->bytes);
    arena_drop(fold->arena, fold->as.single.block);
    fold->as.single.block = block;
    fold->as.single.offset = 0;
}

const struct fold_ops fold_last = {
    .name = "last",
    .apply = last_apply,
    .compact = last_compact,
    .capture = single_capture,
    .read = single_read,
    .release = single_release,
    .clear = single_clear,
};
