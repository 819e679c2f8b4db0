/* How far records may go before subscribers of policy block have moved on, and the moments at which feeds are to be
 * looked at: what only topics have that once had such feeds. In the topic's turn. */
#include "actors/topic/state.h"

enum weir_error topic_limits_ensure(struct topic *topic)
{
    weir_msg block;
    if (topic->limits != NULL)
        return WEIR_OK;
    enum weir_error error = arena_alloc(topic->arena, sizeof(struct topic_limits), topic->common->feeds_budget, &block);
    if (error)
        return error;
    topic->limits = arena_data(topic->arena, block);
    *topic->limits = (struct topic_limits){.block = block,
                                           .block_seq = UINT64_MAX,
                                           .block_weight = UINT64_MAX,
                                           .block_due_ns = UINT64_MAX,
                                           .pace_due_ns = UINT64_MAX,
                                           .blocked_slot = FEED_NONE};
    return WEIR_OK;
}

/* How far records may go before this feed's cursor must move: its outbox, and half the ring, so that what it has not
 * had yet is surely kept. */
static void feed_allowance(const struct topic *topic, const struct feed *feed, uint64_t *seq, uint64_t *weight)
{
    uint64_t half = topic->ring.bytes_max / 2;
    uint64_t allowed = feed_outbox_max(feed) < half ? feed_outbox_max(feed) : half;
    uint64_t let_off = feed_lag_allowed(feed);
    if (let_off > allowed)
        allowed = let_off < half ? let_off : half;
    *seq = feed->cursor.seq + topic->ring.count_max - 1;
    *weight = topic->ring.weight - ring_lag(&topic->ring, &feed->cursor) + allowed;
}

void topic_limits_update(struct turn *turn, struct topic *topic)
{
    struct feeds *feeds = &topic->feeds;
    struct topic_limits *limits = topic->limits;
    uint32_t blocked = FEED_NONE;
    if (limits == NULL)
        return;
    limits->block_seq = limits->block_weight = topic->ring.keep_page = limits->block_due_ns = UINT64_MAX;
    for (uint32_t slot = feeds->watched; slot != FEED_NONE; slot = feeds->table[slot].stage->extra->watch_next) {
        struct feed *feed = &feeds->table[slot];
        bool is_placed = feed->phase == FEED_ENTRIES || feed->phase == FEED_END || feed->phase == FEED_LIVE;
        if (feed->policy != POLICY_BLOCK || feed_is_released(feed) || !is_placed || !feed->wants_updates ||
            !ring_has(&topic->ring, &feed->cursor))
            continue;
        uint64_t seq, weight;
        feed_allowance(topic, feed, &seq, &weight);
        bool is_blocking =
            feed->cursor.seq <= topic->ring.seq_last && (seq <= topic->ring.seq_last || weight <= topic->ring.weight);
        feed_block_note(topic, feed, is_blocking, turn_now_ns(turn));
        if (feed_is_released(feed))
            continue;
        if (is_blocking)
            blocked = slot;
        limits->block_seq = seq < limits->block_seq ? seq : limits->block_seq;
        limits->block_weight = weight < limits->block_weight ? weight : limits->block_weight;
        topic->ring.keep_page = feed->cursor.page < topic->ring.keep_page ? feed->cursor.page : topic->ring.keep_page;
    }
    if (blocked == FEED_NONE)
        limits->blocked_since_ns = 0;
    else if (limits->blocked_since_ns == 0)
        limits->blocked_since_ns = turn_now_ns(turn);
    limits->blocked_slot = blocked;
}

static bool is_at_limit(const struct topic *topic)
{
    const struct topic_limits *limits = topic->limits;
    return limits != NULL && (topic->ring.seq_last >= limits->block_seq || topic->ring.weight >= limits->block_weight);
}

bool topic_is_blocked(struct turn *turn, struct topic *topic)
{
    if (!is_at_limit(topic))
        return false;
    topic_serve(turn, topic);
    topic_limits_update(turn, topic);
    return topic_blocked_slot(topic) != FEED_NONE;
}
