/* What feeds are sent: each is taken through BEGIN, ENTRIES, END and then UPDATES, as far as its credit and the room in
 * its subscriber's mailbox go. Only entries and updates cost credit; the frames around them need room alone. */
#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/topic/conflate.h"
#include "actors/topic/delta.h"
#include "actors/topic/directory_state.h"
#include "actors/topic/recall.h"

/* One envelope's pairs at the most, so that a feed with much credit does not hold a whole ring in one mailbox. */
#define RUN_SIZE_MAX ((size_t)65536)

static enum step step_of(enum weir_error error)
{
    switch (error) {
    case WEIR_OK: return STEP_SENT;
    case WEIR_FULL:
    case WEIR_NO_MEMORY: return STEP_NO_ROOM;
    default: return STEP_OVER;
    }
}

enum step step_send(struct turn *turn, const struct feed *feed, enum topic_tag tag, uint64_t word0, uint64_t word1,
                    uint64_t word2)
{
    struct message message = {.tag = tag, .detail = feed->feed, .word = {word0, word1, word2}};
    return step_of(turn_send(turn, feed->subscriber, &message));
}

enum step step_send_slice(struct turn *turn, const struct feed *feed, enum topic_tag tag, struct slice slice,
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

void feed_end_with(struct topic *topic, struct feed *feed, enum weir_error error)
{
    join_leave(topic, feed);
    feed->phase = FEED_ENDED;
    feed->end_error = error;
}

/* What its subscriber knows whole, so that a snapshot need only tell what has changed since. In the midst of a delta it
 * is still what that was based on; in the midst of a whole snapshot it is nothing. */
static void feed_note_base(struct feed *feed, enum topic_cause cause)
{
    bool is_whole = feed->phase == FEED_LIVE || feed->phase == FEED_BEGIN || feed->is_delta;
    if (cause != CAUSE_OVERFLOW || feed->has_gap || !is_whole)
        feed->stage->base_seq = 0;
    else if (feed->phase == FEED_LIVE)
        feed->stage->base_seq = (feed_conflated_from(feed) ? feed_conflated_from(feed) : feed->cursor.seq) - 1;
}

void feed_restart(struct topic *topic, uint32_t slot, enum topic_cause cause)
{
    struct feed *feed = &topic->feeds.table[slot];
    join_leave(topic, feed);
    bool has_stage = feed_stage_ensure(topic, feed);
    if (has_stage) {
        feed_note_base(feed, cause);
        feed->phase = FEED_BEGIN;
    }
    feed->cause = cause;
    if (has_stage && !feed->has_cursor)
        feed_stage_clear(feed);
    feed->is_resumed = false;
    feed_released_set(feed, false);
    feed->is_outrun = feed->is_conflating = false;
    if (cause == CAUSE_OVERFLOW)
        feed_resync_count(topic, feed);
    if (feed->list != LIST_PARKED && (feed->list != LIST_WAITING || cause != CAUSE_OVERFLOW))
        feeds_list(&topic->feeds, slot, LIST_READY);
}

void feeds_notify(struct topic *topic, bool is_stale)
{
    for (uint32_t slot = 0; slot < topic->feeds.used; slot++) {
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
    struct feed_stage *stage = feed->stage;
    uint64_t epoch = has_cursor ? stage->as.asked.epoch : 0, seq = has_cursor ? stage->as.asked.seq : 0;
    if (has_cursor)
        feed_stage_clear(feed);
    feed->has_cursor = feed->is_resumed = feed->is_delta = false;
    if (has_cursor && (epoch != topic->epoch || seq > topic->ring.seq_last)) {
        feed->cause = CAUSE_EPOCH; /* of another history, or ahead of this one: not of this one */
    } else if (has_cursor && ring_find(&topic->ring, seq + 1, &feed->cursor) == WEIR_OK) {
        feed->is_resumed = true;
        /* Its updates so far may be those of a conflated feed: what they left out is in merged forms alone. */
        feed->is_conflating = feed->policy == POLICY_CONFLATE && topic->has_merged;
        stage->end_seq = seq;
        return WEIR_OK;
    } else if (has_cursor) {
        feed->cause = CAUSE_TRIMMED;
        /* With policy drop there may be holes before the cursor. */
        stage->base_seq = feed->policy == POLICY_DROP ? 0 : seq;
    }
    if (feed->wants_snapshot)
        return join_place(turn, topic, feed);
    feed->cursor = ring_end(&topic->ring);
    stage->end_seq = topic->ring.seq_last;
    /* It goes on where it stood, with what is gone told as a gap: all that is by now, if there was no room for BEGIN.
     */
    if (has_cursor && feed->cause == CAUSE_TRIMMED)
        stage->as.live.gap_from = seq + 1;
    if (stage->as.live.gap_from != 0) {
        stage->end_seq = stage->as.live.gap_from - 1;
        stage->as.live.gap_to = topic->ring.seq_last;
    }
    return WEIR_OK;
}

static enum weir_error begin_block(struct topic *topic, const struct feed *feed, weir_actor self, weir_msg *out)
{
    const struct topic_shared *shared = topic->shared;
    size_t size = sizeof(struct topic_begin) + shared->name_size;
    enum weir_error error = arena_alloc(topic->arena, size, topic->common->feeds_budget, out);
    if (error)
        return error;
    struct topic_begin *begin = arena_data(topic->arena, *out);
    *begin = (struct topic_begin){.sub = feed->sub,
                                  .credit = feed->credit > 0 ? (uint32_t)feed->credit : 0,
                                  .kind = topic->fold.rule->kind,
                                  .resumed = feed->is_resumed,
                                  .delta = feed->is_delta,
                                  .cause = feed->is_resumed ? CAUSE_NONE : feed->cause,
                                  .topic = self,
                                  .epoch = topic->epoch,
                                  .seq = feed->stage->end_seq,
                                  .name_size = shared->name_size};
    if (feed->join >= 0) {
        begin->state_bytes = topic->joins->at[feed->join]->snapshot.bytes;
        begin->entries = topic->joins->at[feed->join]->snapshot.entries;
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
    if (error == WEIR_AGAIN)
        return STEP_ASKED;
    if (!error)
        error = begin_block(topic, feed, turn_self(turn), &block);
    if (error) {
        feed_end_with(topic, feed, WEIR_BUSY);
        return STEP_SENT;
    }
    if (feed_filter(feed) != NULL)
        feed->stage->extra->filter->page.is_placed = feed->stage->extra->filter->is_page_done = false;
    struct message message = {.tag = TOPIC_BEGIN, .detail = feed->feed, .hold = {block}};
    error = turn_send(turn, feed->subscriber, &message);
    if (error) {
        arena_drop(topic->arena, block);
        return step_of(error);
    }
    feed->has_begun = true;
    feed->phase = feed->join >= 0 ? FEED_ENTRIES : FEED_END;
    return STEP_SENT;
}

static enum weir_error entries_next(struct topic *topic, struct feed *feed, struct fold_run *out, weir_msg *block)
{
    size_t size_max = (uint64_t)feed->credit < RUN_SIZE_MAX ? (size_t)feed->credit : RUN_SIZE_MAX;
    *block = WEIR_MSG_NONE;
    if (feed_filter(feed) != NULL)
        return filter_entries(topic, feed, size_max, out);
    return delta_read(topic, feed, size_max, out, block);
}

static bool is_page(const struct feed *feed)
{
    return feed_filter(feed) != NULL && feed->stage->extra->filter->part.page_entries_max > 0;
}

/* A page comes as one run; its place in the snapshot is in the filter. */
static enum step step_page(struct turn *turn, struct topic *topic, struct feed *feed)
{
    enum weir_error error = filter_page(topic, feed);
    if (error == WEIR_AGAIN)
        return STEP_SENT;
    const struct fold_page *page = &feed->stage->extra->filter->page;
    if (error) {
        feed_end_with(topic, feed, WEIR_BUSY);
        return STEP_SENT;
    }
    struct slice pairs = {page->block, 0, page->size};
    enum step step = page->count == 0 ? STEP_SENT : step_send_slice(turn, feed, TOPIC_ENTRIES, pairs, page->count, 0);
    if (step != STEP_SENT)
        return step;
    topic->pages_sent += page->count > 0;
    join_leave(topic, feed);
    feed->phase = FEED_END;
    return STEP_SENT;
}

static enum step step_entries(struct turn *turn, struct topic *topic, struct feed *feed)
{
    if (feed->credit <= 0)
        return STEP_NO_CREDIT;
    struct fold_cursor before = feed->stage->as.entries;
    struct fold_run run;
    weir_msg block;
    enum weir_error error = entries_next(topic, feed, &run, &block);
    if (error == WEIR_STALE) { /* what was deleted since is forgotten by now: all of it, then */
        feed_restart(topic, (uint32_t)(feed - topic->feeds.table), feed->cause);
        feed->stage->base_seq = 0;
        return STEP_SENT;
    }
    if (error) {
        join_leave(topic, feed);
        feed->phase = FEED_END;
        return STEP_SENT;
    }
    if (run.count == 0)
        return STEP_SENT; /* the fold looked far and found nothing yet: others first, when the sends are used up */
    enum step step = step_send_slice(turn, feed, TOPIC_ENTRIES, run.pairs, run.count, 0);
    arena_drop(topic->arena, block);
    if (step == STEP_SENT) {
        feed->credit -= (int32_t)run.pairs.size;
        topic->pages_sent++;
    } else {
        feed->stage->as.entries = before;
    }
    return step;
}

static enum step step_end(struct turn *turn, struct topic *topic, struct feed *feed)
{
    bool has_more = feed_filter(feed) != NULL && feed->stage->extra->filter->page.has_more;
    uint64_t flags = (feed->is_delta ? END_IS_DELTA : 0) | (has_more ? END_HAS_MORE : 0);
    enum step step = step_send(turn, feed, TOPIC_END, topic->epoch, feed->stage->end_seq, flags);
    if (step != STEP_SENT)
        return step;
    if (feed_filter(feed) != NULL) {
        feed->stage->extra->filter->told_seq = feed->stage->end_seq;
        feed->stage->extra->filter->ahead = (struct ring_cursor){.seq = 0}; /* of another epoch, perhaps */
    }
    feed->phase = FEED_LIVE;
    feed_released_set(feed, false);
    feed->is_stalled = false;
    feed->is_outrun = !ring_has(&topic->ring, &feed->cursor);
    if (!feed->wants_updates)
        feed_end_with(topic, feed, WEIR_OK);
    else if (!feed->is_outrun)
        feed->stage->lag_allowed = ring_lag(&topic->ring, &feed->cursor);
    return step;
}

static enum step step_gap(struct turn *turn, struct feed *feed)
{
    struct feed_stage *stage = feed->stage;
    enum step step = step_send(turn, feed, TOPIC_GAP, stage->as.live.gap_from, stage->as.live.gap_to, feed->cause);
    if (step == STEP_SENT)
        stage->as.live.gap_from = 0;
    return step;
}

/* Who left out the newest updates is told how far the topic is, but only now and then. */
static enum step step_progress(struct turn *turn, struct topic *topic, struct feed *feed)
{
    struct feed_filter *filter = feed_filter(feed);
    uint64_t seq = feed->cursor.seq - 1;
    if (filter == NULL || filter->told_seq >= seq)
        return STEP_CAUGHT_UP;
    if (filter->is_progress_due) {
        enum step step = step_send(turn, feed, TOPIC_IDLE, seq, 0, 0);
        if (step != STEP_SENT)
            return step;
        filter->told_seq = seq;
        filter->is_progress_due = false;
    }
    topic->has_untold = topic->has_untold || filter->told_seq < seq;
    return STEP_CAUGHT_UP;
}

static enum step step_caught_up(struct turn *turn, struct topic *topic, struct feed *feed)
{
    if (feed_conflated_from(feed))
        return step_conflated(turn, feed);
    feed->is_conflating = feed->is_outrun = false;
    feed->overtakings = 0;
    return step_progress(turn, topic, feed);
}

static enum step step_updates(struct turn *turn, struct topic *topic, struct feed *feed, size_t size_max)
{
    struct ring_cursor before = feed->cursor;
    struct ring_run run;
    if (!ring_next(&topic->ring, &feed->cursor, size_max, &run))
        return STEP_CAUGHT_UP;
    if (feed_filter(feed) != NULL)
        filter_cut(topic, feed, before, &run);
    enum step step = step_send_slice(turn, feed, TOPIC_UPDATES, run.pairs, run.count, run.seq);
    if (step != STEP_SENT) {
        feed->cursor = before;
        return step;
    }
    feed->credit -= (int32_t)run.pairs.size;
    filter_told(feed);
    return step;
}

static enum step step_live(struct turn *turn, struct topic *topic, struct feed *feed)
{
    if (feed_gap_from(feed))
        return step_gap(turn, feed);
    /* The ring may have again what it has not had: for the sake of policy block it keeps whole pages. */
    if (feed->is_recalling && ring_has(&topic->ring, &feed->cursor))
        recall_leave(topic, feed);
    if (feed_filter(feed) != NULL && ring_has(&topic->ring, &feed->cursor) && !filter_skip(topic, feed))
        return STEP_SENT;
    if (recall_is_making(feed)) { /* without credit, too: it holds a snapshot meanwhile */
        recall_make(topic, feed);
        return STEP_SENT;
    }
    if (feed->cursor.seq > topic->ring.seq_last)
        return step_caught_up(turn, topic, feed);
    if (feed->credit <= 0)
        return STEP_NO_CREDIT;
    if (feed_is_overtaken(topic, feed)) {
        feed_overflow(topic, feed);
        return STEP_SENT;
    }
    if (feed_is_early(topic, feed, turn_now_ns(turn)))
        return STEP_EARLY;
    size_t size_max = (uint64_t)feed->credit < RUN_SIZE_MAX ? (size_t)feed->credit : RUN_SIZE_MAX;
    if (!ring_has(&topic->ring, &feed->cursor))
        return step_recall(turn, topic, feed, size_max);
    if (feed_conflates(topic, feed))
        return step_conflate(turn, topic, feed, size_max);
    return step_updates(turn, topic, feed, size_max);
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
    /* Its subscriber knows a feed by its first BEGIN, and declines what comes of it before. */
    if ((feed->owes_stale || feed->owes_live) && feed->has_begun && feed->phase != FEED_ENDED)
        return step_notice(turn, topic, feed);
    switch (feed->phase) {
    case FEED_BEGIN: return step_begin(turn, topic, feed);
    case FEED_ENTRIES: return is_page(feed) ? step_page(turn, topic, feed) : step_entries(turn, topic, feed);
    case FEED_END: return step_end(turn, topic, feed);
    case FEED_LIVE: return step_live(turn, topic, feed);
    case FEED_ENDED: {
        enum step step = step_send(turn, feed, TOPIC_ENDED, feed->end_error, feed->sub,
                                   feed->end_error == WEIR_CLOSED ? feed->cause : CAUSE_NONE);
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
    feed->weight = (uint32_t)(topic->ring.weight - lag);
    if (lag < feed_lag_allowed(feed))
        feed->stage->lag_allowed = lag <= feed_outbox_max(feed) ? 0 : lag;
}

void feed_tell_ended(struct turn *turn, const struct topic *topic, const struct feed *feed, enum weir_error error)
{
    struct message message = {
        .tag = DIRECTORY_FEED_ENDED, .detail = feed->feed, .word = {feed->link, feed->has_begun, error}};
    (void)!turn_control(turn, topic->common->directory,
                        &message); /* lost, it stays on the books until the subscription ends */
}

static void feed_serve(struct turn *turn, struct topic *topic, uint32_t slot, uint32_t *sends_left)
{
    struct feed *feed = &topic->feeds.table[slot];
    enum step step = STEP_SENT;
    for (int i = 0; i < FEED_SENDS_MAX && step == STEP_SENT && *sends_left > 0; i++) {
        topic->looks = 0;
        step = feed_step(turn, topic, feed);
        uint32_t cost = 1 + topic->looks / CONFLATE_LOOKS_SEND;
        *sends_left -= cost < *sends_left ? cost : *sends_left;
    }
    if (step == STEP_NO_ROOM && turn_await_room(turn, feed->subscriber))
        step = STEP_OVER;
    if (step == STEP_OVER) {
        feed_tell_ended(turn, topic, feed, feed->phase == FEED_ENDED ? feed->end_error : WEIR_CLOSED);
        feeds_remove(topic, slot);
        return;
    }
    static const enum feed_list lists[] = {
        [STEP_SENT] = LIST_READY,     [STEP_CAUGHT_UP] = LIST_IDLE, [STEP_NO_CREDIT] = LIST_WAITING,
        [STEP_NO_ROOM] = LIST_PARKED, [STEP_EARLY] = LIST_PACED,    [STEP_ASKED] = LIST_ASKING};
    feed_settle_lag(topic, feed);
    if (step == STEP_CAUGHT_UP && feed_lag_allowed(feed) == 0)
        feed_stage_close(topic, feed);
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
    feeds_watch(topic);
    topic_shared_figures(topic);
    pthread_mutex_unlock(&topic->shared->lock);
    if (feeds->watched != FEED_NONE)
        topic_limits_update(turn, topic);
    if (feeds->lists[LIST_READY].first == FEED_NONE || topic->is_serve_sent)
        return;
    struct message message = {.tag = TOPIC_SERVE};
    topic->is_serve_sent = turn_control(turn, turn_self(turn), &message) == WEIR_OK;
}
