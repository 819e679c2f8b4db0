/* The topic's behaviour: what its messages do to it. One actor for each topic, spawned by the directory. */
#include "actors/topic/topic.h"

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "actors/topic/conflate.h"

/* How long a deleted topic waits for subscribers to have room for the news. */
#define CLOSE_TIMEOUT_NS (2 * NS_PER_S)

const char *topic_cause_name(enum topic_cause cause)
{
    static const char *const names[] = {
        [CAUSE_NONE] = "none",       [CAUSE_NEW] = "new",           [CAUSE_EPOCH] = "epoch",
        [CAUSE_TRIMMED] = "trimmed", [CAUSE_OVERFLOW] = "overflow", [CAUSE_CLEARED] = "cleared",
        [CAUSE_RESTART] = "restart", [CAUSE_DELETED] = "deleted",   [CAUSE_INTERVAL] = "interval",
    };
    REQUIRE((size_t)cause < COUNT_OF(names));
    return names[cause];
}

static enum weir_error topic_start(struct turn *turn, void *state, const void *args_given)
{
    struct topic *topic = state;
    const struct topic_args *args = args_given;
    /* Neither can be stale: the directory has both as long as the topic lives. */
    enum weir_error error = arena_hold(turn_arena(turn), args->shared);
    if (!error && arena_hold(turn_arena(turn), args->rule)) {
        arena_drop(turn_arena(turn), args->shared);
        error = WEIR_STALE;
    }
    if (error)
        return error;
    *topic = (struct topic){.magic = TOPIC_MAGIC,
                            .shared_block = args->shared,
                            .rule_block = args->rule,
                            .common = args->common,
                            .arena = turn_arena(turn),
                            .budget = args->budget,
                            .epoch = args->epoch};
    topic->shared = arena_data(topic->arena, topic->shared_block);
    fold_init(&topic->fold, arena_data(topic->arena, topic->rule_block), topic->arena, topic->budget, args->seed);
    INVARIANT(topic->fold.ops != NULL);
    error = forward_init(topic);
    if (error) {
        arena_drop(topic->arena, topic->shared_block);
        arena_drop(topic->arena, topic->rule_block);
        return error;
    }
    ring_init(&topic->ring, topic->arena, topic->budget, topic->fold.rule->retain_count_max,
              topic->fold.rule->retain_bytes_max, topic->fold.ops->alone_size);
    feeds_init(&topic->feeds);
    pthread_mutex_lock(&topic->shared->lock);
    topic->shared->feeds = &topic->feeds;
    pthread_mutex_unlock(&topic->shared->lock);
    forward_find(turn, topic);
    return WEIR_OK;
}

static void topic_credit(struct topic *topic, const struct message *message)
{
    uint64_t more = message->word[0];
    uint32_t slot = feeds_find(&topic->feeds, message->detail);
    if (slot == FEED_NONE)
        return; /* it has ended meanwhile */
    struct feed *feed = &topic->feeds.table[slot];
    int64_t credit = feed->credit + (int64_t)(more < FEED_CREDIT_MAX ? more : FEED_CREDIT_MAX);
    feed->credit = credit < FEED_CREDIT_MAX ? (int32_t)credit : FEED_CREDIT_MAX;
    if (feed->list == LIST_WAITING && feed->credit > 0)
        feeds_list(&topic->feeds, slot, LIST_READY);
}

static void topic_admitted(struct topic *topic, uint32_t number)
{
    uint32_t slot = feeds_find(&topic->feeds, number);
    if (slot == FEED_NONE || topic->feeds.table[slot].list != LIST_ASKING)
        return; /* it has ended, or started over, in which case it asks again */
    topic->feeds.table[slot].is_admitted = true;
    feeds_list(&topic->feeds, slot, LIST_READY);
}

static void topic_room(struct topic *topic, weir_actor subscriber)
{
    struct feeds *feeds = &topic->feeds;
    for (uint32_t slot = feeds->lists[LIST_PARKED].first; slot != FEED_NONE;) {
        uint32_t next = feeds->table[slot].next;
        if (actor_is_same(feeds->table[slot].subscriber, subscriber))
            feeds_list(feeds, slot, LIST_READY);
        slot = next;
    }
}

void topic_reply_done(struct turn *turn, const struct message *order, enum weir_error error)
{
    struct message done = {.tag = TOPIC_DONE, .word = {error, order->word[0]}};
    if (!actor_is_none(order->from))
        (void)!turn_control(turn, order->from, &done); /* whoever asked and does not read does not want to know */
}

void topic_clear(struct turn *turn, struct topic *topic, const struct message *order)
{
    if (order->word[1] != 0 && order->word[1] != topic->ring.seq_last) {
        topic_reply_done(turn, order, WEIR_BUSY);
        return;
    }
    enum topic_cause cause = order->word[2] == CAUSE_NONE ? CAUSE_CLEARED : (enum topic_cause)order->word[2];
    topic->fold.ops->clear(&topic->fold);
    ring_clear(&topic->ring, 0);
    if (topic->memory != NULL) {
        dedup_clear(&topic->memory->dedup);
        marks_clear(&topic->memory->marks);
    }
    topic->served_seq = 0;
    topic->epoch = topic_epoch_next(topic->epoch);
    for (uint32_t slot = 0; slot < topic->feeds.used; slot++) {
        struct feed *feed = &topic->feeds.table[slot];
        if (feed->phase == FEED_FREE || feed->phase == FEED_ENDED)
            continue;
        bool is_new = !feed->has_begun;
        feed->owes_reset = feed->owes_reset || !is_new;
        feed_restart(topic, slot, is_new ? CAUSE_NEW : cause);
    }
    if (order->word[2] != CAUSE_NONE)
        forward_cleared(turn, topic);
    topic_reply_done(turn, order, WEIR_OK);
}

static void topic_close(struct turn *turn, struct topic *topic, const struct message *message)
{
    weir_timer timer;
    topic_reply_done(turn, message, WEIR_OK);
    if (topic->is_closing)
        return;
    topic->is_closing = true;
    topic_mute_update(turn, topic);
    topic_stash_refuse(turn, topic, WEIR_CLOSED);
    for (uint32_t slot = 0; slot < topic->feeds.used; slot++) {
        struct feed *feed = &topic->feeds.table[slot];
        if (feed->phase == FEED_FREE)
            continue;
        join_leave(topic, feed);
        feed->phase = FEED_ENDED;
        feed->end_error = WEIR_NOT_FOUND;
        if (feed->list != LIST_PARKED)
            feeds_list(&topic->feeds, slot, LIST_READY);
    }
    topic->fold.ops->clear(&topic->fold);
    ring_clear(&topic->ring, topic->ring.seq_last);
    if (timer_start(turn_runtime(turn), turn_self(turn), CLOSE_TIMEOUT_NS, 0, TIMER_CLOSE, &timer))
        turn_exit(turn, WEIR_OK);
}

/* Gives back what snapshots and clearing left behind, a piece a turn. True: there is more, and another turn to come. */
static bool topic_sweep(struct turn *turn, struct topic *topic)
{
    struct message message = {.tag = TOPIC_SERVE};
    bool has_more = fold_sweep(&topic->fold, TOPIC_SWEEP_STEPS);
    if (!has_more)
        has_more = ring_sweep(&topic->ring, TOPIC_SWEEP_STEPS / MAP_SWEEP_FREE_STEPS);
    if (!has_more)
        return false;
    if (!topic->is_serve_sent)
        topic->is_serve_sent = turn_control(turn, turn_self(turn), &message) == WEIR_OK;
    return true;
}

/* A deleted topic ends when every batch that reached its mailbox was refused, every subscriber was told and its state
 * was given back. */
static void topic_close_continue(struct turn *turn, struct topic *topic, bool is_swept)
{
    struct message message = {.tag = TOPIC_SERVE};
    if (topic->is_drained && topic->feeds.count == 0 && is_swept)
        turn_exit(turn, WEIR_OK);
    else if (!topic->is_drained && !topic->is_serve_sent)
        topic->is_serve_sent = turn_control(turn, turn_self(turn), &message) == WEIR_OK;
}

static void topic_on_serve(struct turn *turn, struct topic *topic)
{
    struct actor_status status;
    topic->is_serve_sent = false;
    if (topic->is_closing && actor_status(turn_runtime(turn), turn_self(turn), &status) == WEIR_OK)
        topic->is_drained = status.depth == 0;
}

static enum weir_error topic_timer(struct turn *turn, struct topic *topic, uint64_t word)
{
    if (word == TIMER_CLOSE) {
        turn_exit(turn, WEIR_OK);
        return WEIR_OK;
    }
    if (word == TIMER_LAPSE) {
        topic->memory->lapse_armed_ns = MARK_NEVER;
        return topic_lapse(turn, topic);
    }
    if (word == TIMER_SHORT) {
        topic->forward->has_short_timer = false; /* the end of the turn has what was held back go on */
        return WEIR_OK;
    }
    if (word == TIMER_BLOCK) {
        topic->limits->block_timer_ns = 0; /* the end of the turn looks at those who block */
        return WEIR_OK;
    }
    if (word == TIMER_PACE || word == TIMER_PROGRESS) {
        *(word == TIMER_PACE ? &topic->limits->pace_timer_ns : &topic->limits->progress_timer_ns) = 0;
        pthread_mutex_lock(&topic->shared->lock);
        if (word == TIMER_PACE)
            feeds_pace(topic, turn_now_ns(turn));
        else
            filters_progress(topic);
        pthread_mutex_unlock(&topic->shared->lock);
        return WEIR_OK;
    }
    topic->has_expiry = false;
    if (topic->fold.ops->expire)
        topic->fold.ops->expire(&topic->fold, (uint32_t)(turn_now_ns(turn) / NS_PER_MS));
    return WEIR_OK;
}

/* A session that has keys here is over: they have a while left, in which it may come back and publish them again. */
static void topic_on_event(struct turn *turn, struct topic *topic, const struct message *message)
{
    uint64_t grace_ns = topic->fold.rule->bind_grace_ms * NS_PER_MS;
    if (message->word[0] == ACTOR_EVENT_EXITED && forward_is_to(topic, message->from))
        forward_gone(turn, topic);
    else if (message->word[0] == ACTOR_EVENT_EXITED && topic->memory != NULL)
        marks_owner_end(&topic->memory->marks, message->from, turn_now_ns(turn) + grace_ns);
}

static void topic_trim(struct topic *topic)
{
    ring_shrink(&topic->ring, topic->ring.bytes / 2);
    if (topic->fold.ops->compact)
        topic->fold.ops->compact(&topic->fold);
}

/* Orders about feeds; under the shared lock. */
static void topic_feed_order(struct turn *turn, struct topic *topic, struct message *message)
{
    switch (message->tag) {
    case TOPIC_SUBSCRIBE: {
        const struct topic_subscribe *subscribe = arena_data(topic->arena, message->hold[0]);
        if (subscribe != NULL && feed_open(turn, topic, subscribe) == WEIR_FULL)
            log_warning("topic.refusal_lost", "topic=%.*s feed=%u", (int)topic->shared->name_size, topic->shared->name,
                        subscribe->feed);
        return;
    }
    case TOPIC_UNSUBSCRIBE: {
        uint32_t slot = feeds_find(&topic->feeds, message->detail);
        if (slot != FEED_NONE)
            feeds_remove(topic, slot);
        return;
    }
    case TOPIC_CREDIT: topic_credit(topic, message); return;
    case TOPIC_ADMITTED: topic_admitted(topic, message->detail); return;
    case TOPIC_CLEAR:
        if (!forward_clear(turn, topic, message) && !topic_clear_waits(turn, topic, message))
            topic_clear(turn, topic, message);
        return;
    case TOPIC_ASK: forward_ask(turn, topic, message); return;
    case TOPIC_DELETE: topic_close(turn, topic, message); return;
    case TOPIC_TRIM: topic_trim(topic); return;
    case MESSAGE_ROOM: topic_room(topic, message->from); return;
    default: return;
    }
}

static enum weir_error topic_message(struct turn *turn, void *state, struct message *message)
{
    struct topic *topic = state;
    MAGIC_CHECK(topic, TOPIC_MAGIC);
    switch (message->tag) {
    case TOPIC_PUBLISH:
    case TOPIC_EMITTED: return topic_publish(turn, topic, message);
    case TOPIC_RESUME: return topic_resume(turn, topic, message);
    case TOPIC_RESUMED: return topic_publish_resumed(turn, topic, message);
    case TOPIC_BURY: return topic_bury(turn, topic, message);
    case TOPIC_SERVE: topic_on_serve(turn, topic); return WEIR_OK;
    case MESSAGE_TIMER: return topic_timer(turn, topic, message->word[0]);
    case MESSAGE_EVENT: topic_on_event(turn, topic, message); return WEIR_OK;
    case TOPIC_PLUGIN_HERE: forward_attach(turn, topic, (weir_actor){message->word[0]}); return WEIR_OK;
    case TOPIC_ATTACHED: forward_attached(turn, topic, message); return WEIR_OK;
    case TOPIC_PLUGIN_STATE: topic_note_plugin(turn, topic, message->word[0] != 0); return WEIR_OK;
    case MESSAGE_ROOM:
        if (forward_is_to(topic, message->from)) {
            forward_drain(turn, topic);
            return WEIR_OK;
        }
        break;
    default: break;
    }
    pthread_mutex_lock(&topic->shared->lock);
    topic_feed_order(turn, topic, message);
    pthread_mutex_unlock(&topic->shared->lock);
    return WEIR_OK;
}

/* What is too old goes by a timer that is armed only while there is something that can grow old. */
static void topic_expiry_arm(struct turn *turn, struct topic *topic)
{
    weir_timer timer;
    uint64_t age_ms = topic->fold.rule->log_age_max_ms;
    if (topic->fold.ops->expire == NULL || age_ms == 0 || topic->has_expiry || topic->fold.entries == 0)
        return;
    uint64_t delay_ns = (age_ms / LOG_AGE_CHECKS + 1) * NS_PER_MS;
    topic->has_expiry = timer_start(turn_runtime(turn), turn_self(turn), delay_ns, 0, TIMER_EXPIRY, &timer) == WEIR_OK;
}

/* Arms a timer for a moment at which feeds are to be looked at, unless one is armed for no later. */
static void topic_timer_arm(struct turn *turn, uint64_t due_ns, uint64_t word, uint64_t *armed_ns)
{
    weir_timer timer;
    if (due_ns == UINT64_MAX || (*armed_ns != 0 && *armed_ns <= due_ns))
        return;
    uint64_t now_ns = turn_now_ns(turn);
    uint64_t delay_ns = due_ns > now_ns ? due_ns - now_ns : 0;
    if (timer_start(turn_runtime(turn), turn_self(turn), delay_ns, 0, word, &timer) == WEIR_OK)
        *armed_ns = due_ns;
}

/* Tells the directory when topics together come near their bound; looked at whenever the ring has grown. */
static void pressure_tell(struct turn *turn, struct topic *topic)
{
    size_t used, max;
    if (topic->ring.tail == topic->pressure_page)
        return;
    topic->pressure_page = topic->ring.tail;
    budget_level(topic->common->all_budget, &used, &max);
    struct message message = {.tag = DIRECTORY_PRESSURE};
    if (max > 0 && used > RING_PRESSURE_PART(max))
        (void)!turn_control(turn, topic->common->directory, &message); /* a directory that full has been told */
}

static void limits_arm(struct turn *turn, struct topic *topic)
{
    struct topic_limits *limits = topic->limits;
    if (limits == NULL)
        return;
    topic_timer_arm(turn, limits->block_due_ns, TIMER_BLOCK, &limits->block_timer_ns);
    topic_timer_arm(turn, limits->pace_due_ns, TIMER_PACE, &limits->pace_timer_ns);
    if (topic->has_untold)
        topic_timer_arm(turn, turn_now_ns(turn) + FILTER_PROGRESS_MS * NS_PER_MS, TIMER_PROGRESS,
                        &limits->progress_timer_ns);
    topic->has_untold = false;
}

static void topic_turn_end(struct turn *turn, void *state)
{
    struct topic *topic = state;
    pressure_tell(turn, topic);
    if (topic->served_seq != topic->ring.seq_last || topic->feeds.lists[LIST_READY].first != FEED_NONE)
        topic_serve(turn, topic);
    topic_answer_send(turn, topic);
    topic_unblock(turn, topic);
    limits_arm(turn, topic);
    topic_expiry_arm(turn, topic);
    topic_lapse_arm(turn, topic);
    bool is_swept = !topic_sweep(turn, topic);
    topic_shared_publish(turn, topic);
    topic->turn_records = 0;
    topic->turn_weight = (uint32_t)topic->ring.weight;
    if (topic->is_closing)
        topic_close_continue(turn, topic, is_swept);
}

/* A fold that fails leaves its state alone, and the batch has noted how far it came: there is nothing to mend. */
static enum weir_error topic_restart(struct turn *turn, void *state, enum weir_error cause)
{
    struct topic *topic = state;
    (void)turn;
    topic->restarts++;
    topic->last_cause = cause;
    return WEIR_OK;
}

static void topic_stop(struct turn *turn, void *state, enum weir_error cause)
{
    struct topic *topic = state;
    topic_stash_refuse(turn, topic, WEIR_CLOSED);
    topic_answer_send(turn, topic);
    topic_shared_publish(turn, topic);
    pthread_mutex_lock(&topic->shared->lock);
    for (uint32_t slot = 0; slot < topic->feeds.used; slot++) {
        const struct feed *feed = &topic->feeds.table[slot];
        if (feed->phase == FEED_FREE)
            continue;
        struct message ended = {
            .tag = TOPIC_ENDED, .detail = feed->feed, .word = {cause ? cause : WEIR_CLOSED, feed->sub}};
        /* The last word, and nobody left to repeat it: rather ahead of updates still unread than not at all. */
        if (turn_send(turn, feed->subscriber, &ended) == WEIR_FULL)
            (void)!turn_control(turn, feed->subscriber, &ended);
        feed_tell_ended(turn, topic, feed, (enum weir_error)ended.word[0]);
        feeds_remove(topic, slot);
    }
    topic->shared->feeds = NULL;
    pthread_mutex_unlock(&topic->shared->lock);
    fold_fini(&topic->fold);
    ring_fini(&topic->ring);
    topic_memory_fini(topic);
    feeds_fini(topic);
    stash_fini(topic, &topic->stash);
    forward_fini(topic);
    if (topic->limits != NULL)
        arena_drop(topic->arena, topic->limits->block);
    arena_drop(topic->arena, topic->shared_block);
    arena_drop(topic->arena, topic->rule_block);
}

/* Stopped without having read its mailbox: whoever waits for an answer gets one now. Orders about feeds are the
 * directory's to answer for. */
static void topic_unread(struct turn *turn, void *state, const struct message *message)
{
    const struct topic *topic = state; /* NULL: it never started */
    switch (message->tag) {
    case TOPIC_PUBLISH:
    case TOPIC_EMITTED:
    case TOPIC_RESUMED: topic_batch_unread(turn, topic, message); return;
    case TOPIC_CLEAR:
    case TOPIC_DELETE: topic_reply_done(turn, message, WEIR_NOT_FOUND); return;
    case TOPIC_ASK: forward_ask_refuse(turn, message, WEIR_NOT_FOUND); return;
    default: return;
    }
}

/* What a record and one feed take; some of it is a turn's work at the most, so a few lines too many cost little. */
static AHEAD void topic_ahead(const void *state)
{
    const struct topic *topic = state;
    const char *feed = (const char *)__atomic_load_n(&topic->feeds.table, __ATOMIC_RELAXED);
    const char *shared = (const char *)__atomic_load_n(&topic->shared, __ATOMIC_RELAXED);
    if (feed != NULL) {
        __builtin_prefetch(feed, 1);
        __builtin_prefetch(feed + sizeof(struct feed) - 1, 1);
    }
    if (shared != NULL) {
        __builtin_prefetch(shared, 1);
        __builtin_prefetch(shared + offsetof(struct topic_shared, pages_sent), 1);
    }
    ring_ahead(&topic->ring);
}

const struct behaviour topic_behaviour = {
    .name = "topic",
    .state_size = sizeof(struct topic),
    .on_start = topic_start,
    .on_message = topic_message,
    .on_turn_end = topic_turn_end,
    .on_restart = topic_restart,
    .on_stop = topic_stop,
    .on_unread = topic_unread,
    .ahead_size = sizeof(struct topic),
    .ahead = topic_ahead,
};
