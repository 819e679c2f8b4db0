/* What feeds are sent: each is taken through BEGIN, ENTRIES, END and then UPDATES, as far as its credit and the room in
 * its subscriber's mailbox go. Only entries and updates cost credit; the frames around them need room alone. */
#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/topic/directory_state.h"

/* One envelope's pairs at the most, so that a feed with much credit does not hold a whole ring in one mailbox. */
#define RUN_SIZE_MAX ((size_t)65536)

enum step {
    STEP_SENT,
    STEP_CAUGHT_UP, /* nothing to send before the next record */
    STEP_NO_CREDIT,
    STEP_NO_ROOM,
    STEP_OVER, /* the feed has ended */
};

static enum step step_of(enum weir_error error)
{
    switch (error) {
    case WEIR_OK: return STEP_SENT;
    case WEIR_FULL:
    case WEIR_NO_MEMORY: return STEP_NO_ROOM;
    default: return STEP_OVER;
    }
}

static enum step step_send(struct turn *turn, const struct feed *feed, enum topic_tag tag, uint64_t word0,
                           uint64_t word1, uint64_t word2)
{
    struct message message = {.tag = tag, .detail = feed->feed, .word = {word0, word1, word2}};
    return step_of(turn_send(turn, feed->subscriber, &message));
}

/* Sends a slice of a block that the caller has a reference to; the envelope gets one of its own. */
static enum step step_send_slice(struct turn *turn, const struct feed *feed, enum topic_tag tag, struct slice slice,
                                 uint32_t count, uint64_t seq)
{
    struct message message = {.tag = tag,
                              .detail = feed->feed,
                              .hold = {slice.block},
                              .word = {TOPIC_WORD(slice.offset, slice.size), count, seq}};
    if (arena_hold(turn_arena(turn), slice.block))
        return STEP_OVER;
    enum weir_error error = turn_send(turn, feed->subscriber, &message);
    if (error)
        arena_drop(turn_arena(turn), slice.block);
    return step_of(error);
}

static void feed_end_with(struct topic *topic, struct feed *feed, enum weir_error error)
{
    join_leave(topic, feed);
    feed->phase = FEED_ENDED;
    feed->end_error = error;
}

void feed_restart(struct topic *topic, uint32_t slot, enum topic_cause cause)
{
    struct feed *feed = &topic->feeds.table[slot];
    join_leave(topic, feed);
    feed->phase = FEED_BEGIN;
    feed->cause = cause;
    feed->gap_from = 0;
    feed->is_resumed = false;
    if (cause == CAUSE_OVERFLOW) {
        feed->resyncs++;
        topic->resyncs++;
    }
    if (feed->list != LIST_PARKED && (feed->list != LIST_WAITING || cause != CAUSE_OVERFLOW))
        feeds_list(&topic->feeds, slot, LIST_READY);
}

void feeds_notify(struct topic *topic, bool is_stale)
{
    for (uint32_t slot = 0; slot < topic->feeds.capacity; slot++) {
        struct feed *feed = &topic->feeds.table[slot];
        if (feed->phase == FEED_FREE)
            continue;
        feed->owes_stale = is_stale;
        feed->owes_live = !is_stale;
        if (feed->list != LIST_PARKED)
            feeds_list(&topic->feeds, slot, LIST_READY);
    }
}

/* Decides where a feed starts: at its cursor, or with a snapshot of now. */
static enum weir_error feed_place(struct turn *turn, struct topic *topic, struct feed *feed)
{
    bool has_cursor = feed->has_cursor;
    feed->has_cursor = false;
    feed->is_resumed = false;
    if (has_cursor && (feed->cursor_epoch != topic->epoch || feed->cursor_seq > topic->ring.seq_last)) {
        feed->cause = CAUSE_EPOCH; /* of another history, or ahead of this one: not of this one */
    } else if (has_cursor && ring_find(&topic->ring, feed->cursor_seq + 1, &feed->cursor) == WEIR_OK) {
        feed->is_resumed = true;
        feed->end_seq = feed->cursor_seq;
        return WEIR_OK;
    } else if (has_cursor) {
        feed->cause = CAUSE_TRIMMED;
    }
    if (feed->wants_snapshot) {
        if (topic->fold.ops->expire)
            topic->fold.ops->expire(&topic->fold, (uint32_t)(turn_now_ns(turn) / NS_PER_MS));
        return join_take(topic, feed);
    }
    feed->cursor = ring_end(&topic->ring);
    feed->end_seq = topic->ring.seq_last;
    if (has_cursor && feed->cause == CAUSE_TRIMMED) {
        /* It goes on where it stood, with what is gone told as a gap. */
        feed->end_seq = feed->cursor_seq;
        feed->gap_from = feed->cursor_seq + 1;
        feed->gap_to = topic->ring.seq_last;
    }
    return WEIR_OK;
}

static enum weir_error begin_block(struct topic *topic, const struct feed *feed, weir_actor self, weir_msg *out)
{
    const struct topic_shared *shared = topic->shared;
    size_t size = sizeof(struct topic_begin) + shared->name_size;
    enum weir_error error = arena_alloc(topic->arena, size, topic->feeds_budget, out);
    if (error)
        return error;
    struct topic_begin *begin = arena_data(topic->arena, *out);
    *begin = (struct topic_begin){.sub = feed->sub,
                                  .slot = (uint32_t)(feed - topic->feeds.table),
                                  .kind = topic->rule.kind,
                                  .resumed = feed->is_resumed,
                                  .cause = feed->is_resumed ? CAUSE_NONE : feed->cause,
                                  .topic = self,
                                  .epoch = topic->epoch,
                                  .seq = feed->end_seq,
                                  .name_size = shared->name_size};
    if (feed->join >= 0) {
        begin->state_bytes = topic->joins[feed->join]->snapshot.bytes;
        begin->entries = topic->joins[feed->join]->snapshot.entries;
    }
    memcpy(begin->name, shared->name, shared->name_size);
    return WEIR_OK;
}

/* Memory that a join cannot have ends the feed: it needs none to be told so. */
static enum step step_begin(struct turn *turn, struct topic *topic, struct feed *feed)
{
    if (feed->cause == CAUSE_OVERFLOW && feed->credit <= 0)
        return STEP_NO_CREDIT;
    /* Placed already: there was no room for BEGIN, and time has passed since. */
    bool is_placed = feed->join >= 0 || (feed->is_resumed && ring_has(&topic->ring, &feed->cursor));
    enum weir_error error = is_placed ? WEIR_OK : feed_place(turn, topic, feed);
    weir_msg block;
    if (!error)
        error = begin_block(topic, feed, turn_self(turn), &block);
    if (error) {
        feed_end_with(topic, feed, WEIR_BUSY);
        return STEP_SENT;
    }
    struct message message = {.tag = TOPIC_BEGIN, .detail = feed->feed, .hold = {block}};
    error = turn_send(turn, feed->subscriber, &message);
    if (error) {
        arena_drop(topic->arena, block);
        return step_of(error);
    }
    feed->phase = feed->join >= 0 ? FEED_ENTRIES : FEED_END;
    return STEP_SENT;
}

static enum weir_error entries_next(struct topic *topic, struct feed *feed, struct fold_run *out)
{
    struct join *join = topic->joins[feed->join];
    size_t size_max = (uint64_t)feed->credit < RUN_SIZE_MAX ? (size_t)feed->credit : RUN_SIZE_MAX;
    if (feed->key_size == 0)
        return topic->fold.ops->read(&topic->fold, &join->snapshot, &feed->entries, size_max, out);
    if (feed->entries.done++ > 0)
        return WEIR_AGAIN;
    struct view key = view_of(arena_data(topic->arena, feed->key), feed->key_size);
    return topic->fold.ops->find(&topic->fold, &join->snapshot, key, out);
}

static enum step step_entries(struct turn *turn, struct topic *topic, struct feed *feed)
{
    if (feed->credit <= 0)
        return STEP_NO_CREDIT;
    struct fold_cursor before = feed->entries;
    struct fold_run run;
    if (entries_next(topic, feed, &run)) {
        join_leave(topic, feed);
        feed->phase = FEED_END;
        return STEP_SENT;
    }
    enum step step = step_send_slice(turn, feed, TOPIC_ENTRIES, run.pairs, run.count, 0);
    if (step == STEP_SENT)
        feed->credit -= run.pairs.size;
    else
        feed->entries = before;
    return step;
}

static enum step step_end(struct turn *turn, struct topic *topic, struct feed *feed)
{
    enum step step = step_send(turn, feed, TOPIC_END, topic->epoch, feed->end_seq, 0);
    if (step != STEP_SENT)
        return step;
    feed->phase = FEED_LIVE;
    feed->is_stalled = false;
    if (!feed->wants_updates)
        feed_end_with(topic, feed, WEIR_OK);
    else if (ring_has(&topic->ring, &feed->cursor))
        feed->lag_allowed = ring_lag(&topic->ring, &feed->cursor);
    return step;
}

/* What it missed is gone or too much: start over, or, without snapshots, say what is missing and go on. */
static void feed_overflow(struct topic *topic, struct feed *feed)
{
    if (feed->wants_snapshot) {
        feed_restart(topic, (uint32_t)(feed - topic->feeds.table), CAUSE_OVERFLOW);
        return;
    }
    feed->gap_from = feed->cursor.seq;
    feed->gap_to = topic->ring.seq_last;
    feed->cursor = ring_end(&topic->ring);
    feed->cause = CAUSE_OVERFLOW;
    feed->resyncs++;
    topic->resyncs++;
}

static bool feed_is_overtaken(struct topic *topic, struct feed *feed)
{
    if (!ring_has(&topic->ring, &feed->cursor))
        return true;
    if (!feed->is_stalled || feed->policy == POLICY_BLOCK)
        return false;
    feed->is_stalled = false;
    uint64_t lag = ring_lag(&topic->ring, &feed->cursor);
    uint64_t allowed = feed->lag_allowed > feed->outbox_max ? feed->lag_allowed : feed->outbox_max;
    return lag > allowed;
}

static enum step step_gap(struct turn *turn, struct feed *feed)
{
    enum step step = step_send(turn, feed, TOPIC_GAP, feed->gap_from, feed->gap_to, feed->cause);
    if (step == STEP_SENT)
        feed->gap_from = 0;
    return step;
}

static enum step step_live(struct turn *turn, struct topic *topic, struct feed *feed)
{
    if (feed->gap_from)
        return step_gap(turn, feed);
    if (feed->cursor.seq > topic->ring.seq_last)
        return STEP_CAUGHT_UP;
    if (feed->credit <= 0)
        return STEP_NO_CREDIT;
    if (feed_is_overtaken(topic, feed)) {
        feed_overflow(topic, feed);
        return STEP_SENT;
    }
    struct ring_cursor before = feed->cursor;
    struct ring_run run;
    size_t size_max = (uint64_t)feed->credit < RUN_SIZE_MAX ? (size_t)feed->credit : RUN_SIZE_MAX;
    if (!ring_next(&topic->ring, &feed->cursor, size_max, &run))
        return STEP_CAUGHT_UP;
    enum step step = step_send_slice(turn, feed, TOPIC_UPDATES, run.pairs, run.count, run.seq);
    if (step == STEP_SENT)
        feed->credit -= run.pairs.size;
    else
        feed->cursor = before;
    return step;
}

static enum step step_notice(struct turn *turn, const struct topic *topic, struct feed *feed)
{
    enum topic_tag tag = feed->owes_stale ? TOPIC_STALE : TOPIC_LIVE;
    enum step step = step_send(turn, feed, tag, 0, 0, topic->is_stale_told ? CAUSE_RESTART : CAUSE_NONE);
    if (step == STEP_SENT)
        feed->owes_stale = feed->owes_live = false;
    return step;
}

static enum step step_reset(struct turn *turn, const struct topic *topic, struct feed *feed)
{
    enum step step = step_send(turn, feed, TOPIC_RESET, topic->epoch, 0, feed->cause);
    if (step == STEP_SENT)
        feed->owes_reset = false;
    return step;
}

static enum step feed_step(struct turn *turn, struct topic *topic, struct feed *feed)
{
    if (feed->owes_reset && feed->phase != FEED_ENDED)
        return step_reset(turn, topic, feed);
    if ((feed->owes_stale || feed->owes_live) && feed->phase != FEED_ENDED)
        return step_notice(turn, topic, feed);
    switch (feed->phase) {
    case FEED_BEGIN: return step_begin(turn, topic, feed);
    case FEED_ENTRIES: return step_entries(turn, topic, feed);
    case FEED_END: return step_end(turn, topic, feed);
    case FEED_LIVE: return step_live(turn, topic, feed);
    case FEED_ENDED: {
        enum step step = step_send(turn, feed, TOPIC_ENDED, feed->end_error, 0, 0);
        return step == STEP_SENT ? STEP_OVER : step;
    }
    case FEED_FREE: break;
    }
    UNREACHABLE();
}

/* Notes where the feed stands. A live one was let off what had piled up before; what piles up from now on counts. */
static void feed_settle_lag(struct topic *topic, struct feed *feed)
{
    if (feed->phase != FEED_LIVE || !ring_has(&topic->ring, &feed->cursor))
        return;
    uint64_t lag = ring_lag(&topic->ring, &feed->cursor);
    feed->weight = topic->ring.weight - lag;
    if (lag < feed->lag_allowed)
        feed->lag_allowed = lag <= feed->outbox_max ? 0 : lag;
}

/* The directory forgets the feed. */
static void feed_tell_ended(struct turn *turn, const struct topic *topic, uint32_t feed, uint32_t link)
{
    struct message message = {.tag = DIRECTORY_FEED_ENDED, .detail = feed, .word = {link}};
    (void)!turn_control(turn, topic->directory, &message); /* lost, it stays on the books until the subscription ends */
}

static void feed_serve(struct turn *turn, struct topic *topic, uint32_t slot, uint32_t *sends_left)
{
    struct feed *feed = &topic->feeds.table[slot];
    enum step step = STEP_SENT;
    for (int i = 0; i < FEED_SENDS_MAX && step == STEP_SENT && *sends_left > 0; i++) {
        step = feed_step(turn, topic, feed);
        --*sends_left;
    }
    if (step == STEP_NO_ROOM && turn_await_room(turn, feed->subscriber))
        step = STEP_OVER;
    if (step == STEP_OVER) {
        feed_tell_ended(turn, topic, feed->feed, feed->link);
        feeds_remove(topic, slot);
        return;
    }
    static const enum feed_list lists[] = {[STEP_SENT] = LIST_READY,
                                           [STEP_CAUGHT_UP] = LIST_IDLE,
                                           [STEP_NO_CREDIT] = LIST_WAITING,
                                           [STEP_NO_ROOM] = LIST_PARKED};
    feed_settle_lag(topic, feed);
    feed->is_stalled = step == STEP_NO_CREDIT || step == STEP_NO_ROOM;
    feeds_list(&topic->feeds, slot, lists[step]);
}

void topic_serve(struct turn *turn, struct topic *topic)
{
    uint32_t sends_left = TOPIC_SENDS_MAX;
    struct feeds *feeds = &topic->feeds;
    pthread_mutex_lock(&topic->shared->lock);
    if (topic->served_seq != topic->ring.seq_last)
        feeds_wake(feeds, LIST_IDLE);
    topic->has_joiners = false;
    topic->served_seq = topic->ring.seq_last;
    topic->served_weight = topic->ring.weight;
    while (feeds->lists[LIST_READY].first != FEED_NONE && sends_left > 0)
        feed_serve(turn, topic, feeds->lists[LIST_READY].first, &sends_left);
    pthread_mutex_unlock(&topic->shared->lock);
    if (feeds->blockers != FEED_NONE)
        topic_limits_update(turn, topic);
    if (feeds->lists[LIST_READY].first == FEED_NONE || topic->is_serve_sent)
        return;
    struct message message = {.tag = TOPIC_SERVE};
    topic->is_serve_sent = turn_control(turn, turn_self(turn), &message) == WEIR_OK;
}

enum weir_error feed_open(struct turn *turn, struct topic *topic, const struct topic_subscribe *subscribe)
{
    struct message ended = {.tag = TOPIC_ENDED, .detail = subscribe->feed};
    bool is_refused = subscribe->policy != POLICY_RESYNC && subscribe->policy != POLICY_BLOCK;
    if (subscribe->key_size && (topic->fold.ops->find == NULL || subscribe->updates || !subscribe->snapshot))
        is_refused = true;
    uint32_t slot;
    weir_msg key = WEIR_MSG_NONE;
    enum weir_error error = is_refused ? WEIR_BAD_REQUEST : topic->is_closing ? WEIR_CLOSED : WEIR_OK;
    if (!error && subscribe->key_size)
        error = arena_alloc(topic->arena, subscribe->key_size, topic->feeds_budget, &key);
    if (!error)
        error = feeds_add(topic, subscribe->feed, &slot);
    if (error) {
        arena_drop(topic->arena, key);
        ended.word[0] = error == WEIR_NO_MEMORY ? WEIR_BUSY : error;
        /* On the control lane: there is no feed that could wait for room. */
        feed_tell_ended(turn, topic, subscribe->feed, subscribe->link);
        return turn_control(turn, subscribe->subscriber, &ended);
    }
    if (subscribe->key_size)
        memcpy(arena_data(topic->arena, key), subscribe->key, subscribe->key_size);
    struct feed *feed = &topic->feeds.table[slot];
    feed->link = subscribe->link;
    feed->subscriber = subscribe->subscriber;
    feed->sub = subscribe->sub;
    feed->policy = subscribe->policy;
    feed->cause = CAUSE_NEW;
    feed->wants_snapshot = subscribe->snapshot;
    feed->wants_updates = subscribe->updates;
    feed->has_cursor = subscribe->has_cursor;
    feed->cursor_epoch = subscribe->epoch;
    feed->cursor_seq = subscribe->seq;
    feed->credit = subscribe->credit;
    feed->outbox_max = subscribe->outbox_max ? subscribe->outbox_max : UINT64_MAX;
    feed->key = key;
    feed->key_size = subscribe->key_size;
    if (feed->policy == POLICY_BLOCK)
        feeds_block(&topic->feeds, slot);
    topic->has_joiners = true;
    feeds_list(&topic->feeds, slot, LIST_READY);
    return WEIR_OK;
}
