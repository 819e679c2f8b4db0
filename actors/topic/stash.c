/* Batches that a topic holds back. In the topic's turns. */
#include "actors/topic/state.h"

#define STASH_MIN 16u

static uint32_t stash_capacity(struct topic *topic, const struct stash *stash)
{
    return msg_is_none(stash->block) ? 0 : (uint32_t)(arena_size(topic->arena, stash->block) / sizeof(struct message));
}

static enum weir_error stash_grow(struct topic *topic, struct stash *stash)
{
    uint32_t old_capacity = stash_capacity(topic, stash), capacity = old_capacity ? old_capacity * 2 : STASH_MIN;
    weir_msg block;
    enum weir_error error =
        arena_alloc(topic->arena, capacity * sizeof(struct message), topic->common->feeds_budget, &block);
    if (error)
        return error;
    struct message *items = arena_data(topic->arena, block);
    const struct message *old = stash->count > 0 ? arena_data(topic->arena, stash->block) : NULL;
    for (uint32_t i = 0; i < stash->count; i++)
        items[i] = old[(stash->first + i) & (old_capacity - 1)];
    arena_drop(topic->arena, stash->block);
    stash->block = block;
    stash->first = 0;
    return WEIR_OK;
}

enum weir_error stash_push(struct topic *topic, struct stash *stash, struct message *batch, bool is_front)
{
    if (stash->count == stash_capacity(topic, stash)) {
        enum weir_error error = stash_grow(topic, stash);
        if (error)
            return error;
    }
    uint32_t mask = stash_capacity(topic, stash) - 1;
    if (is_front)
        stash->first = (stash->first - 1) & mask;
    struct message *items = arena_data(topic->arena, stash->block);
    items[is_front ? stash->first : (stash->first + stash->count) & mask] = *batch;
    batch->hold[0] = batch->hold[1] = WEIR_MSG_NONE;
    stash->count++;
    return WEIR_OK;
}

struct message *stash_front(struct topic *topic, const struct stash *stash)
{
    struct message *items = arena_data(topic->arena, stash->block);
    return &items[stash->first];
}

void stash_pop(struct topic *topic, struct stash *stash, struct message *out)
{
    *out = *stash_front(topic, stash);
    stash->first = (stash->first + 1) & (stash_capacity(topic, stash) - 1);
    stash->count--;
}

void stash_fini(struct topic *topic, struct stash *stash)
{
    arena_drop(topic->arena, stash->block);
    *stash = (struct stash){.count = 0};
}
