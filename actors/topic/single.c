/* State that is one pair in one block: shared by the kinds last and merge, in the topic's turn. */
#include "actors/topic/single.h"

void single_capture(struct fold *fold, struct fold_snapshot *out)
{
    *out = (struct fold_snapshot){.root = fold->as.single.block,
                                  .offset = fold->as.single.offset,
                                  .bytes = fold->bytes,
                                  .entries = fold->entries};
    if (!msg_is_none(out->root))
        (void)arena_hold(fold->arena, out->root); /* cannot be stale: the fold has a reference */
}

enum weir_error single_read(struct fold *fold, const struct fold_snapshot *snapshot, struct fold_cursor *cursor,
                            size_t size_max, struct fold_run *out)
{
    (void)fold;
    (void)size_max;
    if (cursor->done >= snapshot->entries)
        return WEIR_AGAIN;
    *out = (struct fold_run){.pairs = {snapshot->root, snapshot->offset, (uint32_t)snapshot->bytes}, .count = 1};
    cursor->done++;
    return WEIR_OK;
}

void single_release(struct fold *fold, struct fold_snapshot *snapshot)
{
    arena_drop(fold->arena, snapshot->root);
    *snapshot = (struct fold_snapshot){.entries = 0};
}

void single_clear(struct fold *fold)
{
    arena_drop(fold->arena, fold->as.single.block);
    fold->as.single.block = WEIR_MSG_NONE;
    fold->bytes = fold->entries = 0;
}
