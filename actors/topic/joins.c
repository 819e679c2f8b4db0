/* Snapshots under way. Who joins at one seq reads one snapshot; at most TOPIC_SNAPSHOTS_MAX different ones are held,
 * since each may keep its own copy of every page that changed. Beyond that a joiner gets the newest one that can still
 * be followed up, by the ring's updates or by a delta: older, but just as whole. Where there is none either, the oldest
 * one is given up, and its readers start over when they can take something. */
#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/topic/directory_state.h"
#include "actors/topic/recall.h"

static void join_end(struct topic *topic, unsigned index)
{
    struct joins *joins = topic->joins;
    topic->fold.ops->release(&topic->fold, &joins->at[index]->snapshot);
    arena_drop(topic->arena, joins->at[index]->block);
    joins->at[index] = NULL;
    if (--joins->count > 0)
        return;
    arena_drop(topic->arena, joins->block);
    topic->joins = NULL;
}

void join_leave(struct topic *topic, struct feed *feed)
{
    recall_leave(topic, feed);
    if (feed->join < 0)
        return;
    unsigned index = (unsigned)feed->join;
    feed->join = -1;
    INVARIANT(topic->joins->at[index] != NULL && topic->joins->at[index]->refs > 0);
    if (--topic->joins->at[index]->refs == 0)
        join_end(topic, index);
    feed_stage_clear(feed);
}

static bool join_can_be_followed(const struct topic *topic, const struct join *join)
{
    const struct fold *fold = &topic->fold;
    return ring_has(&topic->ring, &join->cursor) ||
           (join->seq > 0 && fold->ops->knows_since != NULL && fold->ops->knows_since(fold, join->seq));
}

/* The newest one that can still be followed up, and is not older than what the feed's subscriber knows; -1: none. */
static int join_newest(const struct topic *topic, const struct feed *feed)
{
    int best = -1;
    for (int i = 0; topic->joins != NULL && i < TOPIC_SNAPSHOTS_MAX; i++) {
        const struct join *join = topic->joins->at[i];
        if (join == NULL || join->epoch != topic->epoch || join->seq < feed->stage->base_seq ||
            !join_can_be_followed(topic, join))
            continue;
        if (best < 0 || join->number > topic->joins->at[best]->number)
            best = i;
    }
    return best;
}

static int join_free_index(const struct topic *topic)
{
    for (int i = 0; i < TOPIC_SNAPSHOTS_MAX; i++)
        if (topic->joins == NULL || topic->joins->at[i] == NULL)
            return i;
    return -1;
}

static void join_give_up_oldest(struct topic *topic)
{
    int oldest = 0;
    for (int i = 1; i < TOPIC_SNAPSHOTS_MAX; i++)
        if (topic->joins->at[i]->number < topic->joins->at[oldest]->number)
            oldest = i;
    for (uint32_t slot = 0; slot < topic->feeds.used; slot++) {
        const struct feed *feed = &topic->feeds.table[slot];
        if (feed->phase != FEED_FREE && feed->join == oldest)
            feed_restart(topic, slot, CAUSE_OVERFLOW);
    }
}

static enum weir_error joins_ensure(struct topic *topic)
{
    weir_msg block;
    if (topic->joins != NULL)
        return WEIR_OK;
    enum weir_error error = arena_alloc(topic->arena, sizeof(struct joins), topic->common->feeds_budget, &block);
    if (error)
        return error;
    topic->joins = arena_data(topic->arena, block);
    *topic->joins = (struct joins){.block = block};
    return WEIR_OK;
}

static enum weir_error join_capture(struct topic *topic, int index)
{
    weir_msg block;
    enum weir_error error = arena_alloc(topic->arena, sizeof(struct join), topic->common->feeds_budget, &block);
    if (error)
        return error;
    error = joins_ensure(topic);
    if (error) {
        arena_drop(topic->arena, block);
        return error;
    }
    struct join *join = arena_data(topic->arena, block);
    *join = (struct join){.block = block,
                          .cursor = ring_end(&topic->ring),
                          .epoch = topic->epoch,
                          .seq = topic->ring.seq_last,
                          .number = ++topic->joins->made};
    topic->fold.ops->capture(&topic->fold, &join->snapshot);
    topic->joins->at[index] = join;
    topic->joins->count++;
    return WEIR_OK;
}

static enum weir_error join_take(struct topic *topic, struct feed *feed)
{
    int index = join_newest(topic, feed);
    if (index < 0 || topic->joins->at[index]->seq != topic->ring.seq_last) {
        int free_index = join_free_index(topic);
        if (free_index < 0 && index < 0) {
            join_give_up_oldest(topic);
            free_index = join_free_index(topic);
        }
        enum weir_error error = free_index < 0 ? WEIR_FULL : join_capture(topic, free_index);
        if (!error)
            index = free_index;
        else if (index < 0)
            return error;
    }
    feed->join = (int8_t)index;
    topic->joins->at[index]->refs++;
    feed->stage->as.entries = (struct fold_cursor){.done = 0};
    feed->cursor = topic->joins->at[index]->cursor;
    feed->stage->end_seq = topic->joins->at[index]->seq;
    return WEIR_OK;
}

/* What a snapshot will have to send, about. */
static uint64_t snapshot_size(const struct topic *topic, const struct feed *feed)
{
    uint64_t bytes = topic->fold.bytes, entries = topic->fold.entries;
    uint64_t changed = topic->ring.seq_last - feed->stage->base_seq;
    bool is_small = feed->stage->base_seq > 0 && topic->fold.ops->knows_since != NULL && changed < entries;
    return is_small ? bytes / entries * changed : bytes;
}

/* WEIR_AGAIN: the directory was asked, and tells when it may begin. */
static enum weir_error join_admit(struct turn *turn, struct topic *topic, struct feed *feed)
{
    struct admission *admission = topic->common->admission;
    const struct topic_part *part = feed_filter(feed) != NULL ? &feed_filter(feed)->part : NULL;
    bool is_small = part != NULL && (part->match == KEY_IS || part->page_entries_max > 0);
    if (feed->is_admitted || is_small)
        return WEIR_OK;
    uint64_t size = snapshot_size(topic, feed);
    if (atomic_load_explicit(&admission->waiting, memory_order_relaxed) == 0 &&
        admission_take(admission, turn_now_ns(turn), size))
        return WEIR_OK;
    struct message ask = {.tag = DIRECTORY_ADMIT, .detail = feed->feed, .word = {feed->link, size}};
    /* Where it cannot be asked now, the snapshot comes too early rather than never. */
    return turn_control(turn, topic->common->directory, &ask) == WEIR_OK ? WEIR_AGAIN : WEIR_OK;
}

enum weir_error join_place(struct turn *turn, struct topic *topic, struct feed *feed)
{
    const struct fold *fold = &topic->fold;
    if (fold->ops->expire)
        fold->ops->expire(&topic->fold, (uint32_t)(turn_now_ns(turn) / NS_PER_MS));
    enum weir_error error = join_admit(turn, topic, feed);
    if (!error)
        error = join_take(topic, feed);
    if (error)
        return error;
    feed->is_admitted = false;
    struct feed_stage *stage = feed->stage;
    feed->is_delta = stage->base_seq > 0 && stage->end_seq >= stage->base_seq && fold->ops->knows_since != NULL &&
                     fold->ops->knows_since(fold, stage->base_seq);
    if (feed->is_delta)
        stage->as.entries.since = stage->base_seq;
    else
        feed->has_gap = false;
    return WEIR_OK;
}
