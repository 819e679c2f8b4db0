/* Updates whose plugin says what those of their key have come to; see the header. In the topic's turn. */
#include "actors/topic/merged.h"

/* Applies what stands in a block of its own in the place of what stands in the ring. */
static enum weir_error merged_apply(struct topic *topic, const struct cell *update, struct view merged)
{
    struct cell cell = {.seq = update->seq, .time_ms = update->time_ms, .key_size = update->key_size, .is_alone = true};
    size_t size = cell.key_size + merged.size;
    enum weir_error error = arena_alloc(topic->arena, size, topic->budget, &cell.block);
    if (error)
        return error;
    uint8_t *data = arena_data(topic->arena, cell.block);
    memcpy(data, update->data, cell.key_size);
    memcpy(data + cell.key_size, merged.data, merged.size);
    cell.data = data;
    cell.size = cell.capacity = (uint32_t)size;
    error = topic->fold.ops->apply(&topic->fold, &cell);
    arena_drop(topic->arena, cell.block);
    return error;
}

enum weir_error topic_fold_merged(struct topic *topic, struct view key, struct view value, struct view merged,
                                  uint32_t now_ms)
{
    struct cell cell;
    enum weir_error error = ring_reserve(&topic->ring, key, value, now_ms, &cell);
    if (error == WEIR_NO_MEMORY && topic_relieve(topic))
        error = ring_reserve(&topic->ring, key, value, now_ms, &cell);
    if (error)
        return error;
    error = cell.key_size > 0 ? merged_apply(topic, &cell, merged) : WEIR_BAD_REQUEST;
    if (error == WEIR_NO_MEMORY && topic_relieve(topic))
        error = merged_apply(topic, &cell, merged);
    if (error)
        ring_cancel(&topic->ring);
    else
        ring_commit(&topic->ring, &cell);
    topic->has_merged = true;
    return error;
}
