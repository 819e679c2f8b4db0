/* Kind last: state is the newest record. It stands in the newest page of the ring already, so state is a reference to
 * it. */
#include "actors/topic/fold.h"

static enum weir_error last_apply(struct fold *fold, const struct cell *cell)
{
    if (!fold_has_room(fold, cell->size))
        return WEIR_TOO_BIG;
    if (fold->as.last.block.bits != cell->block.bits) {
        enum weir_error error = arena_hold(fold->arena, cell->block);
        if (error)
            return error;
        arena_drop(fold->arena, fold->as.last.block);
        fold->as.last.block = cell->block;
    }
    fold->as.last.offset = cell->offset;
    fold->bytes = cell->size;
    fold->entries = 1;
    return WEIR_OK;
}

static void last_capture(struct fold *fold, struct fold_snapshot *out)
{
    *out = (struct fold_snapshot){
        .root = fold->as.last.block, .offset = fold->as.last.offset, .bytes = fold->bytes, .entries = fold->entries};
    if (!msg_is_none(out->root))
        (void)arena_hold(fold->arena, out->root); /* cannot be stale: the fold has a reference */
}

static enum weir_error last_read(struct fold *fold, const struct fold_snapshot *snapshot, struct fold_cursor *cursor,
                                 size_t size_max, struct fold_run *out)
{
    (void)fold;
    (void)size_max;
    if (cursor->done >= snapshot->entries)
        return WEIR_AGAIN;
    *out = (struct fold_run){{snapshot->root, snapshot->offset, (uint32_t)snapshot->bytes}, 1};
    cursor->done++;
    return WEIR_OK;
}

static void last_release(struct fold *fold, struct fold_snapshot *snapshot)
{
    arena_drop(fold->arena, snapshot->root);
    *snapshot = (struct fold_snapshot){.entries = 0};
}

static void last_clear(struct fold *fold)
{
    arena_drop(fold->arena, fold->as.last.block);
    fold->as.last.block = WEIR_MSG_NONE;
    fold->bytes = fold->entries = 0;
}

const struct fold_ops fold_last = {
    .name = "last",
    .apply = last_apply,
    .capture = last_capture,
    .read = last_read,
    .release = last_release,
    .clear = last_clear,
};
