/* What becomes of a feed whose subscriber cannot keep up: its policy acts when more waits for it than its outbox, or
 * the ring retains, may hold. A snapshot is no fault of the subscriber's: what piles up while it is sent is let off,
 * and a feed that the ring has outrun meanwhile is resynced, whatever its policy. In the topic's turns. */
#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/topic/conflate.h"
#include "actors/topic/recall.h"

/* Bytes that may wait for it before its policy acts. */
static uint64_t lag_max(const struct feed *feed)
{
    return feed_lag_allowed(feed) > feed_outbox_max(feed) ? feed_lag_allowed(feed) : feed_outbox_max(feed);
}

bool feed_is_overtaken(const struct topic *topic, struct feed *feed)
{
    bool was_stalled = feed->is_stalled;
    if (feed_is_released(feed))
        return true;
    if (!ring_has(&topic->ring, &feed->cursor))
        return !feed->is_conflating || !recall_can(topic, feed);
    if (!was_stalled || feed->policy == POLICY_BLOCK || feed_conflates(topic, feed))
        return false;
    feed->is_stalled = false;
    return ring_lag(&topic->ring, &feed->cursor) > lag_max(feed);
}

/* The place from which no more waits than the outbox may hold; what is behind it is dropped. */
static struct ring_cursor drop_place(const struct topic *topic, const struct feed *feed)
{
    const struct ring *ring = &topic->ring;
    uint64_t low = ring->seq_first > feed->cursor.seq ? ring->seq_first : feed->cursor.seq;
    uint64_t high = ring->seq_last + 1;
    struct ring_cursor place = ring_end(ring);
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        enum weir_error error = ring_find(ring, middle, &place);
        INVARIANT(error == WEIR_OK);
        if (ring_lag(ring, &place) > feed_outbox_max(feed))
            low = middle + 1;
        else
            high = middle;
    }
    enum weir_error error = ring_find(ring, low, &place);
    INVARIANT(error == WEIR_OK);
    return place;
}

static void feed_leave_out(struct topic *topic, struct feed *feed, struct ring_cursor place)
{
    if (!feed_stage_ensure(topic, feed))
        return;
    struct feed_stage *stage = feed->stage;
    stage->as.live.gap_from = stage->as.live.conflated_from ? stage->as.live.conflated_from : feed->cursor.seq;
    stage->as.live.conflated_from = 0;
    feed->has_gap = true;
    recall_leave(topic, feed);
    stage->as.live.gap_to = place.seq - 1;
    feed->cursor = place;
    feed->cause = CAUSE_OVERFLOW;
    feed_released_set(feed, false);
    feed_resync_count(topic, feed);
}

static void feed_cut(struct topic *topic, struct feed *feed)
{
    feed->cause = CAUSE_OVERFLOW;
    feed_resync_count(topic, feed);
    feed_end_with(topic, feed, WEIR_CLOSED);
}

/* Until it has caught up. */
static void feed_conflate(struct topic *topic, struct feed *feed)
{
    feed->is_conflating = true;
    feed_released_set(feed, false);
    feed_resync_count(topic, feed);
}

void feed_start_over(struct topic *topic, struct feed *feed)
{
    if (feed->wants_snapshot)
        feed_restart(topic, (uint32_t)(feed - topic->feeds.table), CAUSE_OVERFLOW);
    else
        feed_leave_out(topic, feed, ring_end(&topic->ring));
}

void feed_overflow(struct topic *topic, struct feed *feed)
{
    bool is_let_off = feed->is_outrun && feed->wants_snapshot && feed->policy != POLICY_CONFLATE;
    enum overflow_policy policy = is_let_off ? POLICY_RESYNC : feed->policy;
    bool can_conflate = topic_can_conflate(topic) && (ring_has(&topic->ring, &feed->cursor) || recall_can(topic, feed));
    /* One that is overtaken again and again would get nothing but snapshots. Where merged forms stand for what is left
     * out, only those are conflated who go on so when they resume from in between, see feed_place. */
    bool is_hopeless = policy == POLICY_RESYNC && feed->overtakings >= OVERTAKINGS_MAX && !topic->has_merged;
    feed->overtakings += feed->overtakings < OVERTAKINGS_MAX;
    if (can_conflate && (policy == POLICY_CONFLATE || (is_hopeless && feed->wants_snapshot)))
        feed_conflate(topic, feed);
    else if (policy == POLICY_DROP)
        feed_leave_out(topic, feed, drop_place(topic, feed));
    else if (policy == POLICY_DISCONNECT)
        feed_cut(topic, feed);
    else
        feed_start_over(topic, feed);
}

void feeds_watch(struct topic *topic)
{
    for (uint32_t slot = topic->feeds.watched; slot != FEED_NONE;
         slot = topic->feeds.table[slot].stage->extra->watch_next) {
        struct feed *feed = &topic->feeds.table[slot];
        bool is_stalled = feed->list == LIST_WAITING || feed->list == LIST_PARKED;
        if (feed->policy != POLICY_DISCONNECT || feed->phase != FEED_LIVE || feed->is_outrun || !is_stalled ||
            feed->cursor.seq > topic->ring.seq_last)
            continue;
        if (ring_has(&topic->ring, &feed->cursor) && ring_lag(&topic->ring, &feed->cursor) <= lag_max(feed))
            continue;
        feed_cut(topic, feed);
        if (feed->list != LIST_PARKED)
            feeds_list(&topic->feeds, slot, LIST_READY);
    }
}

void feed_block_note(struct topic *topic, struct feed *feed, bool is_blocking, uint64_t now_ns)
{
    if (!is_blocking) {
        feed->stage->extra->blocking_since_ns = 0;
        return;
    }
    if (feed->stage->extra->blocking_since_ns == 0)
        feed->stage->extra->blocking_since_ns = now_ns;
    if (feed->stage->extra->block_ns == 0)
        return;
    uint64_t due_ns = feed->stage->extra->blocking_since_ns + feed->stage->extra->block_ns;
    if (due_ns > now_ns) {
        topic->limits->block_due_ns = due_ns < topic->limits->block_due_ns ? due_ns : topic->limits->block_due_ns;
        return;
    }
    feed_released_set(feed, true);
    feed->stage->extra->blocking_since_ns = 0;
}
