/* The table of a topic's feeds: slots in one block, lists by what a feed waits for, a hash from feed number to slot.
 * How feeds come and go. */
#include "actors/base/assert.h"
#include "actors/topic/state.h"

/* A table grows by this part of itself, so that little of it is empty; each feed is copied some eight times at most. */
#define GROWTH_PART 8

void feeds_init(struct feeds *feeds)
{
    *feeds = (struct feeds){.free = FEED_NONE, .watched = FEED_NONE};
    for (int i = 0; i < LIST_COUNT; i++)
        feeds->lists[i].first = feeds->lists[i].last = FEED_NONE;
}

void feeds_fini(struct topic *topic)
{
    arena_drop(topic->arena, topic->feeds.block);
    feeds_init(&topic->feeds);
}

static uint32_t *feeds_bucket(const struct feeds *feeds, uint32_t number)
{
    return &feeds->buckets[number & (feeds->bucket_count - 1)];
}

/* As many as fit into the block, whose size is one of few. */
static uint32_t feeds_fit(const struct topic *topic, weir_msg block, uint32_t bucket_count)
{
    return (uint32_t)((arena_capacity(topic->arena, block) - bucket_count * sizeof(uint32_t)) / sizeof(struct feed));
}

static enum weir_error feeds_grow(struct topic *topic)
{
    struct feeds *feeds = &topic->feeds;
    uint32_t capacity = feeds->capacity + 1 + feeds->capacity / GROWTH_PART;
    uint32_t bucket_count = 1;
    while (bucket_count < capacity / 2)
        bucket_count *= 2;
    weir_msg block;
    size_t size = capacity * sizeof(struct feed) + bucket_count * sizeof(uint32_t);
    enum weir_error error = arena_alloc(topic->arena, size, topic->common->feeds_budget, &block);
    if (error)
        return error;
    capacity = feeds_fit(topic, block, bucket_count);
    struct feed *table = arena_data(topic->arena, block);
    if (feeds->used)
        memcpy(table, feeds->table, feeds->used * sizeof *table);
    arena_drop(topic->arena, feeds->block);
    feeds->table = table;
    feeds->buckets = (uint32_t *)(void *)(table + capacity);
    feeds->block = block;
    feeds->capacity = capacity;
    feeds->bucket_count = bucket_count;
    for (uint32_t i = 0; i < bucket_count; i++)
        feeds->buckets[i] = FEED_NONE;
    for (uint32_t i = 0; i < feeds->used; i++) {
        if (table[i].phase == FEED_FREE)
            continue;
        uint32_t *bucket = feeds_bucket(feeds, table[i].feed);
        table[i].chain = *bucket;
        *bucket = i;
    }
    return WEIR_OK;
}

/* One that was in use before, or the next that never was: what lies behind is not touched, and need not be there. */
static enum weir_error feeds_take(struct topic *topic, uint32_t *slot_out)
{
    struct feeds *feeds = &topic->feeds;
    if (feeds->free != FEED_NONE) {
        *slot_out = feeds->free;
        feeds->free = feeds->table[feeds->free].next;
        return WEIR_OK;
    }
    enum weir_error error = feeds->used == feeds->capacity ? feeds_grow(topic) : WEIR_OK;
    if (!error)
        *slot_out = feeds->used++;
    return error;
}

enum weir_error feeds_add(struct topic *topic, uint32_t number, uint32_t *slot_out)
{
    struct feeds *feeds = &topic->feeds;
    uint32_t slot;
    enum weir_error error = feeds_take(topic, &slot);
    if (error)
        return error;
    uint32_t *bucket = feeds_bucket(feeds, number);
    feeds->table[slot] =
        (struct feed){.feed = number, .phase = FEED_BEGIN, .list = LIST_NONE, .join = -1, .chain = *bucket};
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

bool feed_stage_ensure(struct topic *topic, struct feed *feed)
{
    weir_msg block;
    if (feed->stage != NULL)
        return true;
    if (arena_alloc(topic->arena, sizeof(struct feed_stage), topic->common->feeds_budget, &block)) {
        feed_end_with(topic, feed, WEIR_BUSY);
        return false;
    }
    feed->stage = arena_data(topic->arena, block);
    *feed->stage = (struct feed_stage){.block = block};
    return true;
}

void feed_stage_close(struct topic *topic, struct feed *feed)
{
    if (feed->stage == NULL)
        return;
    if (feed->stage->extra != NULL) {
        *feed->stage = (struct feed_stage){.block = feed->stage->block, .extra = feed->stage->extra};
        return;
    }
    arena_drop(topic->arena, feed->stage->block);
    feed->stage = NULL;
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
}

void feeds_wake(struct feeds *feeds, enum feed_list list)
{
    for (uint32_t slot = feeds->lists[list].first; slot != FEED_NONE; slot = feeds->lists[list].first)
        feeds_list(feeds, slot, LIST_READY);
}

void feeds_watch_add(struct feeds *feeds, uint32_t slot)
{
    struct feed *feed = &feeds->table[slot];
    feed->stage->extra->watch_next = feeds->watched;
    if (feeds->watched != FEED_NONE)
        feeds->table[feeds->watched].stage->extra->watch_prev = slot;
    feeds->watched = slot;
}

static void feeds_watch_end(struct feeds *feeds, uint32_t slot)
{
    const struct feed *feed = &feeds->table[slot];
    if (feed->policy != POLICY_BLOCK && feed->policy != POLICY_DISCONNECT)
        return;
    if (feed->stage->extra->watch_prev == FEED_NONE)
        feeds->watched = feed->stage->extra->watch_next;
    else
        feeds->table[feed->stage->extra->watch_prev].stage->extra->watch_next = feed->stage->extra->watch_next;
    if (feed->stage->extra->watch_next != FEED_NONE)
        feeds->table[feed->stage->extra->watch_next].stage->extra->watch_prev = feed->stage->extra->watch_prev;
}

void feeds_remove(struct topic *topic, uint32_t slot)
{
    struct feeds *feeds = &topic->feeds;
    struct feed *feed = &feeds->table[slot];
    REQUIRE(feed->phase != FEED_FREE);
    join_leave(topic, feed);
    feeds_unlist(feeds, slot);
    feeds_watch_end(feeds, slot);
    feed_extra_close(topic, feed);
    feed_stage_close(topic, feed);
    uint32_t *link = feeds_bucket(feeds, feed->feed);
    while (*link != slot)
        link = &feeds->table[*link].chain;
    *link = feed->chain;
    *feed = (struct feed){.phase = FEED_FREE, .list = LIST_NONE, .next = feeds->free};
    feeds->free = slot;
    if (--feeds->count == 0)
        feeds_fini(topic);
}

enum weir_error feed_open(struct turn *turn, struct topic *topic, const struct topic_subscribe *subscribe)
{
    struct message ended = {.tag = TOPIC_ENDED, .detail = subscribe->feed, .word = {0, subscribe->sub}};
    bool is_refused = (unsigned)subscribe->policy >= POLICY_UNKNOWN;
    uint32_t slot;
    struct feed_extra *extra = NULL;
    enum weir_error error = is_refused ? WEIR_BAD_REQUEST : topic->is_closing ? WEIR_CLOSED : WEIR_OK;
    if (!error)
        error = feed_extra_open(topic, subscribe, &extra);
    if (!error)
        error = feeds_add(topic, subscribe->feed, &slot);
    if (!error && !feed_stage_ensure(topic, &topic->feeds.table[slot])) {
        feeds_remove(topic, slot);
        error = WEIR_NO_MEMORY;
    }
    if (error) {
        if (extra != NULL)
            arena_drop(topic->arena, extra->block);
        ended.word[0] = error == WEIR_NO_MEMORY ? WEIR_BUSY : error;
        /* On the control lane: there is no feed that could wait for room. */
        struct feed refused = {.feed = subscribe->feed, .link = subscribe->link};
        feed_tell_ended(turn, topic, &refused, (enum weir_error)ended.word[0]);
        return turn_control(turn, subscribe->subscriber, &ended);
    }
    struct feed *feed = &topic->feeds.table[slot];
    feed->link = subscribe->link;
    feed->subscriber = subscribe->subscriber;
    feed->sub = subscribe->sub;
    feed->policy = subscribe->policy;
    feed->cause = CAUSE_NEW;
    feed->wants_snapshot = subscribe->snapshot;
    feed->wants_updates = subscribe->updates;
    feed->has_cursor = subscribe->has_cursor;
    if (subscribe->has_cursor) {
        feed->stage->as.asked.epoch = subscribe->epoch;
        feed->stage->as.asked.seq = subscribe->seq;
    }
    feed->credit = subscribe->credit < FEED_CREDIT_MAX ? (int32_t)subscribe->credit : FEED_CREDIT_MAX;
    feed->stage->extra = extra;
    if (feed->policy == POLICY_BLOCK || feed->policy == POLICY_DISCONNECT)
        feeds_watch_add(&topic->feeds, slot);
    topic->has_joiners = true;
    feeds_list(&topic->feeds, slot, LIST_READY);
    return WEIR_OK;
}
