/* The topic's behaviour: what its messages do to it. One actor for each topic, spawned by the directory. */
#include "actors/topic/topic.h"

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "actors/topic/state.h"

/* How long a deleted topic waits for subscribers to have room for the news. */
#define CLOSE_TIMEOUT_NS (2 * NS_PER_S)
#define TIMER_CLOSE 1u
#define TIMER_EXPIRY 2u

const char *topic_cause_name(enum topic_cause cause)
{
    static const char *const names[] = {
        [CAUSE_NONE] = "none",       [CAUSE_NEW] = "new",           [CAUSE_EPOCH] = "epoch",
        [CAUSE_TRIMMED] = "trimmed", [CAUSE_OVERFLOW] = "overflow", [CAUSE_CLEARED] = "cleared",
        [CAUSE_RESTART] = "restart", [CAUSE_DELETED] = "deleted",
    };
    REQUIRE((size_t)cause < COUNT_OF(names));
    return names[cause];
}

static enum weir_error topic_start(struct turn *turn, void *state, const void *args_given)
{
    struct topic *topic = state;
    const struct topic_args *args = args_given;
    *topic = (struct topic){.magic = TOPIC_MAGIC,
                            .shared_block = args->shared,
                            .arena = turn_arena(turn),
                            .budget = args->budget,
                            .feeds_budget = args->feeds_budget,
                            .all_budget = args->all_budget,
                            .directory = args->directory,
                            .rule = args->rule,
                            .epoch = args->epoch,
                            .block_seq = UINT64_MAX,
                            .block_weight = UINT64_MAX,
                            .blocked_slot = FEED_NONE};
    topic->shared = arena_data(topic->arena, topic->shared_block);
    fold_init(&topic->fold, &topic->rule, topic->arena, topic->budget, args->seed);
    INVARIANT(topic->fold.ops != NULL);
    ring_init(&topic->ring, topic->arena, topic->budget, topic->rule.retain_count_max, topic->rule.retain_bytes_max,
              topic->fold.ops->alone_size);
    feeds_init(&topic->feeds);
    pthread_mutex_lock(&topic->shared->lock);
    topic->shared->feeds = &topic->feeds;
    pthread_mutex_unlock(&topic->shared->lock);
    return WEIR_OK;
}

static void topic_credit(struct topic *topic, const struct message *message)
{
    uint64_t slot = message->word[0], more = message->word[1];
    if (slot >= topic->feeds.capacity || topic->feeds.table[slot].feed != message->detail)
        return; /* it has ended meanwhile */
    struct feed *feed = &topic->feeds.table[slot];
    if (feed->phase == FEED_FREE)
        return;
    feed->credit += (int64_t)(more < UINT32_MAX ? more : UINT32_MAX);
    if (feed->credit > INT64_MAX / 2)
        feed->credit = INT64_MAX / 2;
    if (feed->list == LIST_WAITING && feed->credit > 0)
        feeds_list(&topic->feeds, (uint32_t)slot, LIST_READY);
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

static void topic_reply_done(struct turn *turn, const struct message *order, enum weir_error error)
{
    struct message done = {.tag = TOPIC_DONE, .word = {error, order->word[0]}};
    if (!actor_is_none(order->from))
        (void)!turn_control(turn, order->from, &done); /* whoever asked and does not read does not want to know */
}

static void topic_clear(struct turn *turn, struct topic *topic, const struct message *message)
{
    if (message->word[1] != 0 && message->word[1] != topic->ring.seq_last) {
        topic_reply_done(turn, message, WEIR_BUSY);
        return;
    }
    if (message->word[1] != 0 && message->word[1] != topic->ring.seq_last) {
        topic_reply_done(turn, message, WEIR_BUSY);
        return;
    }
    topic->fold.ops->clear(&topic->fold);
    ring_clear(&topic->ring, 0);
    topic->served_seq = 0;
    topic->epoch = topic_epoch_next(topic->epoch);
    for (uint32_t slot = 0; slot < topic->feeds.capacity; slot++) {
        struct feed *feed = &topic->feeds.table[slot];
        if (feed->phase == FEED_FREE || feed->phase == FEED_ENDED)
            continue;
        bool is_new = feed->phase == FEED_BEGIN && feed->cause == CAUSE_NEW;
        feed->owes_reset = feed->owes_reset || !is_new;
        feed_restart(topic, slot, is_new ? CAUSE_NEW : CAUSE_CLEARED);
    }
    topic_reply_done(turn, message, WEIR_OK);
}

static void topic_close(struct turn *turn, struct topic *topic, const struct message *message)
{
    weir_timer timer;
    topic_reply_done(turn, message, WEIR_OK);
    if (topic->is_closing)
        return;
    topic->is_closing = true;
    turn_mute(turn, true);
    topic_stash_refuse(turn, topic, WEIR_CLOSED);
    for (uint32_t slot = 0; slot < topic->feeds.capacity; slot++) {
        struct feed *feed = &topic->feeds.table[slot];
        if (feed->phase == FEED_FREE)
            continue;
        join_leave(topic, feed);
        feed->phase = FEED_ENDED;
        feed->end_error = WEIR_NOT_FOUND;
        if (feed->list != LIST_PARKED)
            feeds_list(&topic->feeds, slot, LIST_READY);
    }
    if (timer_start(turn_runtime(turn), turn_self(turn), CLOSE_TIMEOUT_NS, 0, TIMER_CLOSE, &timer))
        turn_exit(turn, WEIR_OK);
}

/* A deleted topic ends when every batch that reached its mailbox was refused and every subscriber was told. */
static void topic_close_continue(struct turn *turn, struct topic *topic)
{
    struct message message = {.tag = TOPIC_SERVE};
    if (topic->is_drained && topic->feeds.count == 0)
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

static void topic_timer(struct turn *turn, struct topic *topic, uint64_t word)
{
    if (word == TIMER_CLOSE) {
        turn_exit(turn, WEIR_OK);
        return;
    }
    topic->has_expiry = false;
    if (topic->fold.ops->expire)
        topic->fold.ops->expire(&topic->fold, (uint32_t)(turn_now_ns(turn) / NS_PER_MS));
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
    case TOPIC_CLEAR: topic_clear(turn, topic, message); return;
    case TOPIC_DELETE: topic_close(turn, topic, message); return;
    case TOPIC_TRIM: ring_shrink(&topic->ring, topic->ring.bytes / 2); return;
    case MESSAGE_ROOM: topic_room(topic, message->from); return;
    default: return;
    }
}

static enum weir_error topic_message(struct turn *turn, void *state, struct message *message)
{
    struct topic *topic = state;
    MAGIC_CHECK(topic, TOPIC_MAGIC);
    switch (message->tag) {
    case TOPIC_PUBLISH: return topic_publish(turn, topic, message);
    case TOPIC_RESUME: return topic_resume(turn, topic, message);
    case TOPIC_RESUMED: return topic_publish_resumed(turn, topic, message);
    case TOPIC_BURY: return topic_bury(turn, topic, message);
    case TOPIC_SERVE: topic_on_serve(turn, topic); return WEIR_OK;
    case MESSAGE_TIMER: topic_timer(turn, topic, message->word[0]); return WEIR_OK;
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
    uint64_t age_ms = topic->rule.log_age_max_ms;
    if (topic->fold.ops->expire == NULL || age_ms == 0 || topic->has_expiry || topic->fold.entries == 0)
        return;
    uint64_t delay_ns = (age_ms / LOG_AGE_CHECKS + 1) * NS_PER_MS;
    topic->has_expiry = timer_start(turn_runtime(turn), turn_self(turn), delay_ns, 0, TIMER_EXPIRY, &timer) == WEIR_OK;
}

/* Tells the directory when topics together come near their bound; looked at whenever the ring has grown. */
static void pressure_tell(struct turn *turn, struct topic *topic)
{
    struct budget_usage usage;
    if (topic->ring.tail == topic->pressure_page)
        return;
    topic->pressure_page = topic->ring.tail;
    budget_usage(topic->all_budget, &usage);
    struct message message = {.tag = DIRECTORY_PRESSURE};
    if (usage.bytes_max > 0 && usage.bytes_used > RING_PRESSURE_PART(usage.bytes_max))
        (void)!turn_control(turn, topic->directory, &message); /* a directory that full has been told */
}

static void topic_turn_end(struct turn *turn, void *state)
{
    struct topic *topic = state;
    pressure_tell(turn, topic);
    if (topic->served_seq != topic->ring.seq_last || topic->feeds.lists[LIST_READY].count > 0)
        topic_serve(turn, topic);
    topic_unblock(turn, topic);
    topic_expiry_arm(turn, topic);
    topic_shared_publish(turn, topic);
    topic->turn_records = 0;
    if (topic->is_closing)
        topic_close_continue(turn, topic);
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
    pthread_mutex_lock(&topic->shared->lock);
    for (uint32_t slot = 0; slot < topic->feeds.capacity; slot++) {
        const struct feed *feed = &topic->feeds.table[slot];
        if (feed->phase == FEED_FREE)
            continue;
        struct message ended = {.tag = TOPIC_ENDED, .detail = feed->feed, .word = {cause ? cause : WEIR_CLOSED}};
        /* The last word, and nobody left to repeat it: rather ahead of updates still unread than not at all. */
        if (turn_send(turn, feed->subscriber, &ended) == WEIR_FULL)
            (void)!turn_control(turn, feed->subscriber, &ended);
        feeds_remove(topic, slot);
    }
    topic->shared->feeds = NULL;
    pthread_mutex_unlock(&topic->shared->lock);
    fold_fini(&topic->fold);
    ring_fini(&topic->ring);
    feeds_fini(topic);
    arena_drop(topic->arena, topic->stash_block);
    arena_drop(topic->arena, topic->shared_block);
}

const struct behaviour topic_behaviour = {
    .name = "topic",
    .state_size = sizeof(struct topic),
    .on_start = topic_start,
    .on_message = topic_message,
    .on_turn_end = topic_turn_end,
    .on_restart = topic_restart,
    .on_stop = topic_stop,
};
