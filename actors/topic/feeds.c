/* The table of a topic's feeds: slots in one block, lists by what a feed waits for, a hash from feed number to slot. */
#include "actors/base/assert.h"
#include "actors/topic/state.h"

#define FEEDS_MIN 4u

void feeds_init(struct feeds *feeds)
{
    *feeds = (struct feeds){.free = FEED_NONE, .blockers = FEED_NONE};
    for (int i = 0; i < LIST_COUNT; i++)
        feeds->lists[i].first = feeds->lists[i].last = FEED_NONE;
}

void feeds_fini(struct topic *topic)
{
    arena_drop(topic->arena, topic->feeds.block);
    arena_drop(topic->arena, topic->feeds.bucket_block);
    feeds_init(&topic->feeds);
}

static uint32_t *feeds_bucket(const struct feeds *feeds, uint32_t number)
{
    return &feeds->buckets[number & (feeds->capacity - 1)];
}

static enum weir_error feeds_grow(struct topic *topic)
{
    struct feeds *feeds = &topic->feeds;
    uint32_t capacity = feeds->capacity ? feeds->capacity * 2 : FEEDS_MIN;
    weir_msg block, bucket_block;
    enum weir_error error = arena_alloc(topic->arena, capacity * sizeof(struct feed), topic->feeds_budget, &block);
    if (error)
        return error;
    error = arena_alloc(topic->arena, capacity * sizeof(uint32_t), topic->feeds_budget, &bucket_block);
    if (error) {
        arena_drop(topic->arena, block);
        return error;
    }
    struct feed *table = arena_data(topic->arena, block);
    if (feeds->capacity)
        memcpy(table, feeds->table, feeds->capacity * sizeof *table);
    for (uint32_t i = capacity; i-- > feeds->capacity;) {
        table[i] = (struct feed){.phase = FEED_FREE, .list = LIST_NONE, .next = feeds->free};
        feeds->free = i;
    }
    arena_drop(topic->arena, feeds->block);
    arena_drop(topic->arena, feeds->bucket_block);
    feeds->table = table;
    feeds->buckets = arena_data(topic->arena, bucket_block);
    feeds->block = block;
    feeds->bucket_block = bucket_block;
    feeds->capacity = capacity;
    for (uint32_t i = 0; i < capacity; i++)
        feeds->buckets[i] = FEED_NONE;
    for (uint32_t i = 0; i < capacity; i++) {
        if (table[i].phase == FEED_FREE)
            continue;
        uint32_t *bucket = feeds_bucket(feeds, table[i].feed);
        table[i].chain = *bucket;
        *bucket = i;
    }
    return WEIR_OK;
}

enum weir_error feeds_add(struct topic *topic, uint32_t number, uint32_t *slot_out)
{
    struct feeds *feeds = &topic->feeds;
    if (feeds->free == FEED_NONE) {
        enum weir_error error = feeds_grow(topic);
        if (error)
            return error;
    }
    uint32_t slot = feeds->free;
    uint32_t *bucket = feeds_bucket(feeds, number);
    feeds->free = feeds->table[slot].next;
    feeds->table[slot] = (struct feed){.feed = number,
                                       .phase = FEED_BEGIN,
                                       .list = LIST_NONE,
                                       .join = -1,
                                       .chain = *bucket,
                                       .block_next = FEED_NONE,
                                       .block_prev = FEED_NONE};
    *bucket = slot;
    feeds->count++;
    *slot_out = slot;
    return WEIR_OK;
}

uint32_t feeds_find(const struct feeds *feeds, uint32_t number)
{
    uint32_t slot = feeds->capacity ? *feeds_bucket(feeds, number) : FEED_NONE;
    while (slot != FEED_NONE && feeds->table[slot].feed != number)
        slot = feeds->table[slot].chain;
    return slot;
}

static void feeds_unlist(struct feeds *feeds, uint32_t slot)
{
    struct feed *feed = &feeds->table[slot];
    if (feed->list == LIST_NONE)
        return;
    if (feed->prev == FEED_NONE)
        feeds->lists[feed->list].first = feed->next;
    else
        feeds->table[feed->prev].next = feed->next;
    if (feed->next == FEED_NONE)
        feeds->lists[feed->list].last = feed->prev;
    else
        feeds->table[feed->next].prev = feed->prev;
    feeds->lists[feed->list].count--;
    feed->list = LIST_NONE;
}

void feeds_list(struct feeds *feeds, uint32_t slot, enum feed_list list)
{
    struct feed *feed = &feeds->table[slot];
    feeds_unlist(feeds, slot);
    if (list == LIST_NONE)
        return;
    feed->list = list;
    feed->next = FEED_NONE;
    feed->prev = feeds->lists[list].last;
    if (feed->prev == FEED_NONE)
        feeds->lists[list].first = slot;
    else
        feeds->table[feed->prev].next = slot;
    feeds->lists[list].last = slot;
    feeds->lists[list].count++;
}

void feeds_wake(struct feeds *feeds, enum feed_list list)
{
    for (uint32_t slot = feeds->lists[list].first; slot != FEED_NONE; slot = feeds->lists[list].first)
        feeds_list(feeds, slot, LIST_READY);
}

void feeds_block(struct feeds *feeds, uint32_t slot)
{
    struct feed *feed = &feeds->table[slot];
    feed->block_next = feeds->blockers;
    if (feeds->blockers != FEED_NONE)
        feeds->table[feeds->blockers].block_prev = slot;
    feeds->blockers = slot;
}

static void feeds_unblock(struct feeds *feeds, uint32_t slot)
{
    const struct feed *feed = &feeds->table[slot];
    if (feed->policy != POLICY_BLOCK)
        return;
    if (feed->block_prev == FEED_NONE)
        feeds->blockers = feed->block_next;
    else
        feeds->table[feed->block_prev].block_next = feed->block_next;
    if (feed->block_next != FEED_NONE)
        feeds->table[feed->block_next].block_prev = feed->block_prev;
}

void feeds_remove(struct topic *topic, uint32_t slot)
{
    struct feeds *feeds = &topic->feeds;
    struct feed *feed = &feeds->table[slot];
    REQUIRE(feed->phase != FEED_FREE);
    join_leave(topic, feed);
    arena_drop(topic->arena, feed->key);
    feeds_unlist(feeds, slot);
    feeds_unblock(feeds, slot);
    uint32_t *link = feeds_bucket(feeds, feed->feed);
    while (*link != slot)
        link = &feeds->table[*link].chain;
    *link = feed->chain;
    *feed = (struct feed){.phase = FEED_FREE, .list = LIST_NONE, .next = feeds->free};
    feeds->free = slot;
    feeds->count--;
}
