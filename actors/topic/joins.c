/* Snapshots under way. Who joins at one seq reads one snapshot; at most TOPIC_SNAPSHOTS_MAX different ones are held,
 * since each may keep its own copy of every page that changed. Beyond that a joiner gets the newest one whose updates
 * are still in the ring: older, but just as whole. Where there is none either, the oldest one is given up, and its
 * readers start over when they can take something. */
#include "actors/base/assert.h"
#include "actors/topic/state.h"

static void join_end(struct topic *topic, unsigned index)
{
    topic->fold.ops->release(&topic->fold, &topic->joins[index]->snapshot);
    arena_drop(topic->arena, topic->join_blocks[index]);
    topic->joins[index] = NULL;
    topic->join_blocks[index] = WEIR_MSG_NONE;
}

void join_leave(struct topic *topic, struct feed *feed)
{
    if (feed->join < 0)
        return;
    unsigned index = (unsigned)feed->join;
    feed->join = -1;
    INVARIANT(topic->joins[index] != NULL && topic->joins[index]->refs > 0);
    if (--topic->joins[index]->refs == 0)
        join_end(topic, index);
}

/* The newest one that can still be followed up; -1: none. */
static int join_newest(const struct topic *topic)
{
    int best = -1;
    for (int i = 0; i < TOPIC_SNAPSHOTS_MAX; i++) {
        const struct join *join = topic->joins[i];
        if (join == NULL || join->epoch != topic->epoch || !ring_has(&topic->ring, &join->cursor))
            continue;
        if (best < 0 || join->number > topic->joins[best]->number)
            best = i;
    }
    return best;
}

static int join_free_index(const struct topic *topic)
{
    for (int i = 0; i < TOPIC_SNAPSHOTS_MAX; i++)
        if (topic->joins[i] == NULL)
            return i;
    return -1;
}

static void join_give_up_oldest(struct topic *topic)
{
    int oldest = 0;
    for (int i = 1; i < TOPIC_SNAPSHOTS_MAX; i++)
        if (topic->joins[i]->number < topic->joins[oldest]->number)
            oldest = i;
    for (uint32_t slot = 0; slot < topic->feeds.capacity; slot++) {
        const struct feed *feed = &topic->feeds.table[slot];
        if (feed->phase != FEED_FREE && feed->join == oldest)
            feed_restart(topic, slot, CAUSE_OVERFLOW);
    }
}

static enum weir_error join_capture(struct topic *topic, int index)
{
    weir_msg block;
    enum weir_error error = arena_alloc(topic->arena, sizeof(struct join), topic->feeds_budget, &block);
    if (error)
        return error;
    struct join *join = arena_data(topic->arena, block);
    *join = (struct join){.cursor = ring_end(&topic->ring),
                          .epoch = topic->epoch,
                          .seq = topic->ring.seq_last,
                          .number = ++topic->joins_made};
    topic->fold.ops->capture(&topic->fold, &join->snapshot);
    topic->joins[index] = join;
    topic->join_blocks[index] = block;
    return WEIR_OK;
}

enum weir_error join_take(struct topic *topic, struct feed *feed)
{
    int index = join_newest(topic);
    if (index < 0 || topic->joins[index]->seq != topic->ring.seq_last) {
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
    topic->joins[index]->refs++;
    feed->entries = (struct fold_cursor){.done = 0};
    feed->cursor = topic->joins[index]->cursor;
    feed->end_seq = topic->joins[index]->seq;
    return WEIR_OK;
}
