/* Subscriptions, and what topics send about their feeds. In the connection's turns. */
#include "actors/base/assert.h"
#include "broker/session/state.h"
#include "clients/wire/name.h"

enum {
    MERGED_SIZE_MAX = 256 * 1024, /* of updates; entries make no more than a piece of bulk */
};

static void unsubscribed_send(struct connection *connection, uint32_t sub, enum weir_error error, const char *text)
{
    struct frame frame = {.op = FRAME_UNSUBSCRIBED};
    frame.as.unsubscribed.sub = sub;
    frame.as.unsubscribed.code = view_text(weir_error_code(error));
    frame.as.unsubscribed.message = view_text(text);
    session_frame(connection, &frame, SESSION_FRAME_MAX);
}

/* Why the broker ends one, to a person. */
static const char *end_text(enum weir_error error)
{
    switch (error) {
    case WEIR_OK: return "";
    case WEIR_CLOSED: return "the client did not keep up, and the subscription's policy is disconnect";
    case WEIR_FULL: return "the session has as many feeds as it may: unsubscribe from others";
    case WEIR_BUSY: return "the broker has no memory for the feed at present: subscribe again later";
    default: return weir_error_text(error);
    }
}

/* Ends it: its feeds are forgotten at once, so nothing of it follows; UNSUBSCRIBED goes when the directory has let go.
 */
static void subscription_end(struct connection *connection, struct subscription *subscription, enum weir_error error)
{
    struct session *session = session_of(connection);
    if (subscription->state == SUBSCRIPTION_ENDING)
        return;
    uint32_t internal = subscription_internal(session, subscription);
    subscription_feeds_forget(connection, subscription);
    subscription->state = SUBSCRIPTION_ENDING;
    subscription->end = error;
    connection_order(connection, &(struct message){.tag = DIRECTORY_UNSUBSCRIBE, .detail = internal});
}

/* --------------------------------------------------------------------------------------------- frames */

static enum weir_error subscribe_check(struct connection *connection, const struct frame *frame, const char **reason)
{
    struct session *session = session_of(connection);
    static const char share[] = "$share/";
    struct view pattern = frame->as.subscribe.pattern;
    if (pattern_check(pattern, reason) != WEIR_OK)
        return WEIR_BAD_TOPIC;
    *reason = "shared subscriptions are not available";
    if (pattern.size >= sizeof share - 1 && memcmp(pattern.data, share, sizeof share - 1) == 0)
        return WEIR_BAD_TOPIC;
    *reason = "a subscription with this number stands";
    if (subscription_of_client(session, frame->as.subscribe.sub) != NULL)
        return WEIR_BAD_REQUEST;
    *reason = "this broker offers the policies resync, block, conflate, drop and disconnect";
    if (frame->as.subscribe.policy == POLICY_UNKNOWN)
        return WEIR_BAD_REQUEST;
    *reason = "a subscription is to one key or to a prefix, not to both";
    if (frame->as.subscribe.key.size > 0 && frame->as.subscribe.prefix.size > 0)
        return WEIR_BAD_REQUEST;
    *reason = "the session has as many subscriptions or feeds as it may";
    if (session->subscriptions.count >= connection->config->subscriptions_max ||
        session->follows.count >= connection->config->feeds_max)
        return WEIR_FULL;
    return WEIR_OK;
}

/* Longer than seven weeks is as good as for ever. */
static uint32_t milliseconds_of(uint64_t given) { return given < UINT32_MAX ? (uint32_t)given : UINT32_MAX; }

static uint16_t window_kib_of(uint64_t outbox)
{
    if (outbox == 0 || outbox >= UINT16_MAX * UINT64_C(1024))
        return UINT16_MAX;
    return (uint16_t)((outbox < SESSION_WINDOW_MIN ? SESSION_WINDOW_MIN : outbox) / 1024);
}

static enum weir_error subscribe_order(struct connection *connection, const struct frame *frame,
                                       const struct subscription *subscription, uint32_t credit)
{
    struct view pattern = frame->as.subscribe.pattern, cursors = frame->as.subscribe.cursors;
    bool has_key = frame->as.subscribe.key.size > 0;
    struct view key = has_key ? frame->as.subscribe.key : frame->as.subscribe.prefix;
    struct directory_subscribe *subscribe;
    weir_msg block;
    size_t size = sizeof *subscribe + pattern.size + key.size + cursors.size;
    enum weir_error error = arena_alloc(connection->arena, size, connection->budget, &block);
    if (error)
        return error;
    uint64_t outbox = frame->as.subscribe.outbox;
    subscribe = arena_data(connection->arena, block);
    *subscribe = (struct directory_subscribe){.sub = subscription_internal(session_of(connection), subscription),
                                              .policy = frame->as.subscribe.policy,
                                              .snapshot = frame->as.subscribe.snapshot,
                                              .updates = frame->as.subscribe.updates,
                                              .credit = credit,
                                              .outbox_max = outbox < SIZE_MAX ? (size_t)outbox : SIZE_MAX,
                                              .interval_ms = milliseconds_of(frame->as.subscribe.interval_ms),
                                              .block_ms = milliseconds_of(frame->as.subscribe.block_ms),
                                              .part = {.match = has_key        ? KEY_IS
                                                                : key.size > 0 ? KEY_BEGINS
                                                                               : KEY_ANY,
                                                       .key_size = (uint16_t)key.size},
                                              .pattern_size = (uint32_t)pattern.size,
                                              .cursors_size = (uint32_t)cursors.size,
                                              .cursor_count = frame->as.subscribe.cursor_count};
    memcpy(subscribe->bytes, pattern.data, pattern.size);
    if (key.size > 0)
        memcpy(subscribe->bytes + pattern.size, key.data, key.size);
    if (cursors.size > 0)
        memcpy(subscribe->bytes + pattern.size + key.size, cursors.data, cursors.size);
    connection_order(connection, &(struct message){.tag = DIRECTORY_SUBSCRIBE, .hold = {block}});
    return WEIR_OK;
}

enum weir_error session_subscribe(struct connection *connection, const struct frame *frame)
{
    struct session *session = session_of(connection);
    const char *reason = "the pattern is malformed";
    enum weir_error error = subscribe_check(connection, frame, &reason);
    if (error != WEIR_OK) {
        gateway_count(connection->gateway, error == WEIR_FULL ? REFUSAL_QUOTA : REFUSAL_MALFORMED, 1);
        unsubscribed_send(connection, frame->as.subscribe.sub, error, reason);
        return WEIR_OK;
    }
    struct subscription *subscription = subscription_take(connection, frame->as.subscribe.sub);
    if (subscription == NULL)
        return session_refuse(connection, REFUSAL_MEMORY, WEIR_NO_MEMORY, weir_error_text(WEIR_NO_MEMORY));
    /* Subscriptions that were asked for count before their feeds begin, or many at once would have it many times over.
     */
    size_t window =
        follow_window(connection->config->outbox_bytes, session->follows.count + session->subscriptions.count);
    if (pattern_has_wildcard(frame->as.subscribe.pattern) && window > SESSION_PATTERN_CREDIT)
        window = SESSION_PATTERN_CREDIT;
    subscription->window_kib = window_kib_of(frame->as.subscribe.outbox);
    size_t window_max = subscription_window_max(subscription), credit = window < window_max ? window : window_max;
    if (subscribe_order(connection, frame, subscription, (uint32_t)credit) != WEIR_OK) {
        subscription_free(connection, subscription);
        return session_refuse(connection, REFUSAL_MEMORY, WEIR_NO_MEMORY, weir_error_text(WEIR_NO_MEMORY));
    }
    return WEIR_OK;
}

enum weir_error session_unsubscribe(struct connection *connection, const struct frame *frame)
{
    struct subscription *subscription = subscription_of_client(session_of(connection), frame->as.unsubscribe.sub);
    /* One that the broker ended meanwhile has had its last frame. */
    if (subscription != NULL)
        subscription_end(connection, subscription, WEIR_OK);
    return WEIR_OK;
}

/* --------------------------------------------------------------------------------------------- topics */

/* Something of a feed that nobody wants any more. */
static void feed_decline(struct connection *connection, const struct message *message)
{
    if (message->tag == TOPIC_ENDED || actor_is_none(message->from))
        return;
    struct message order = {.tag = TOPIC_UNSUBSCRIBE, .detail = message->detail};
    /* Where it cannot be told now, its next message is declined again. */
    (void)!turn_control(connection->turn, message->from, &order);
}

/* Snapshots queue apart from live updates, so that these need not wait for all of it. A feed that has something in one
 * queue stays there until that has gone out, or its frames would change places. */
static struct queue *queue_of(struct connection *connection, struct followed *followed, uint32_t tag)
{
    if (followed->queued == 0)
        followed->is_bulk = tag == TOPIC_BEGIN || tag == TOPIC_ENTRIES || tag == TOPIC_END;
    return followed->is_bulk ? &connection->output.bulk : &connection->output.data;
}

static void data_push(struct connection *connection, struct followed *followed, struct message *message)
{
    if (queue_push(connection, queue_of(connection, followed, message->tag), message) != WEIR_OK) {
        connection_refuse(connection, REFUSAL_MEMORY, WEIR_NO_MEMORY,
                          "the client left more unread than the broker keeps");
        return;
    }
    message->hold[0] = message->hold[1] = WEIR_MSG_NONE;
    followed->queued++;
}

static void topic_begin(struct connection *connection, struct message *message)
{
    struct session *session = session_of(connection);
    const struct topic_begin *begin = arena_data(connection->arena, message->hold[0]);
    struct subscription *subscription = subscription_find(session, begin->sub);
    if (subscription == NULL || subscription->state == SUBSCRIPTION_ENDING) {
        feed_decline(connection, message);
        return;
    }
    struct followed *followed = follows_find(&session->follows, message->detail);
    if (followed == NULL && session->follows.count >= connection->config->feeds_max) {
        gateway_count(connection->gateway, REFUSAL_QUOTA, 1);
        subscription_end(connection, subscription, WEIR_FULL);
        return;
    }
    if (followed == NULL) {
        followed = follows_ensure(connection, &session->follows, message->detail);
        if (followed == NULL) {
            connection_refuse(connection, REFUSAL_MEMORY, WEIR_NO_MEMORY, weir_error_text(WEIR_NO_MEMORY));
            return;
        }
        followed->owner = begin->sub;
        followed_begin(&session->follows, followed, begin->credit);
        subscription->has_more = subscription->feed != 0;
        subscription->feed = message->detail;
    }
    atomic_store_explicit(&connection->counters.feeds, session->follows.count, memory_order_relaxed);
    data_push(connection, followed, message);
}

/* Whether run goes on right where the last item of the queue ends, so that both can be one. */
static bool run_continues(const struct message *last, const struct message *message)
{
    if (last == NULL || last->tag != message->tag || last->detail != message->detail)
        return false;
    if (!msg_is_none(last->hold[1]) || !msg_is_none(message->hold[1]) || last->hold[0].bits != message->hold[0].bits)
        return false;
    struct topic_run before = topic_run_read(last), run = topic_run_read(message);
    size_t size_max = message->tag == TOPIC_ENTRIES ? OUTPUT_BULK_PIECE : MERGED_SIZE_MAX;
    if (before.pairs.size + run.pairs.size > size_max)
        return false;
    bool is_seq_next = message->tag == TOPIC_ENTRIES || run.seq == before.seq + before.count;
    return is_seq_next && run.pairs.offset == before.pairs.offset + before.pairs.size;
}

static void topic_run(struct connection *connection, struct message *message)
{
    struct session *session = session_of(connection);
    struct followed *followed = follows_find(&session->follows, message->detail);
    if (followed == NULL) {
        feed_decline(connection, message);
        return;
    }
    struct topic_run run = topic_run_read(message);
    connection->output.data_size += run.pairs.size + run.value.size;
    struct message *last = queue_last(queue_of(connection, followed, message->tag));
    if (!run_continues(last, message)) {
        data_push(connection, followed, message);
        return;
    }
    /* The queue's reference holds the page for both. */
    struct topic_run before = topic_run_read(last);
    last->word[0] = TOPIC_WORD(before.pairs.offset, before.pairs.size + run.pairs.size);
    last->word[1] = before.count + run.count;
}

/* Its policy cut a feed: the subscription ends as a whole, since the client was to read all of it or nothing. */
static void topic_cut(struct connection *connection, const struct followed *followed)
{
    struct subscription *subscription = subscription_find(session_of(connection), followed->owner);
    if (subscription != NULL)
        subscription_end(connection, subscription, WEIR_CLOSED);
}

/* Without memory a feed ended before it began: the client cannot know of it, so its subscription does not stand. */
static void topic_short(struct connection *connection, uint32_t sub)
{
    struct subscription *subscription = subscription_find(session_of(connection), sub);
    if (subscription != NULL)
        subscription_end(connection, subscription, WEIR_BUSY);
}

void session_ahead_message(const struct connection *connection, const struct message *message)
{
    if (message->tag == TOPIC_UPDATES)
        follows_ahead(&session_of(connection)->follows, message->detail);
}

void session_on_topic(struct connection *connection, struct message *message)
{
    struct followed *followed;
    switch (message->tag) {
    case TOPIC_BEGIN: topic_begin(connection, message); return;
    case TOPIC_ENTRIES:
    case TOPIC_UPDATES: topic_run(connection, message); return;
    case TOPIC_END:
    case TOPIC_GAP:
    case TOPIC_CONFLATED:
    case TOPIC_RESET:
    case TOPIC_IDLE:
    case TOPIC_STALE:
    case TOPIC_LIVE:
    case TOPIC_ENDED:
        followed = follows_find(&session_of(connection)->follows, message->detail);
        if (followed == NULL && message->tag == TOPIC_ENDED && message->word[0] == WEIR_BUSY)
            topic_short(connection, (uint32_t)message->word[1]);
        else if (followed == NULL)
            feed_decline(connection, message);
        else if (message->tag == TOPIC_ENDED && message->word[2] == CAUSE_OVERFLOW)
            topic_cut(connection, followed);
        else
            data_push(connection, followed, message);
        return;
    default: return;
    }
}

/* ------------------------------------------------------------------------------------ the directory */

/* A topic that SUBSCRIBED counts has ended before its snapshot began: its feed is that it has ended. */
static void topic_gone(struct connection *connection, struct subscription *subscription, struct message *message)
{
    uint32_t feed = (uint32_t)message->word[0];
    struct message ended = {.tag = TOPIC_ENDED, .detail = feed, .word = {message->word[1], message->detail}};
    if (msg_is_none(message->hold[0])) {
        subscription_end(connection, subscription, WEIR_BUSY);
        return;
    }
    message->tag = TOPIC_BEGIN;
    message->detail = feed;
    message->from = WEIR_ACTOR_NONE;
    topic_begin(connection, message);
    struct followed *followed = follows_find(&session_of(connection)->follows, feed);
    if (followed != NULL)
        data_push(connection, followed, &ended);
}

void session_on_directory(struct connection *connection, struct message *message)
{
    struct subscription *subscription = subscription_find(session_of(connection), message->detail);
    if (subscription == NULL)
        return;
    if (message->tag == DIRECTORY_TOPIC_GONE) {
        topic_gone(connection, subscription, message);
        return;
    }
    enum weir_error error = (enum weir_error)message->word[2];
    if (message->tag == DIRECTORY_UNSUBSCRIBED) {
        bool is_of_session = subscription->state == SUBSCRIPTION_ENDING; /* or the directory could not go on with it */
        enum weir_error end = is_of_session ? subscription->end : error;
        unsubscribed_send(connection, subscription->sub, end, is_of_session ? end_text(end) : follow_refusal_text(end));
        subscription_free(connection, subscription);
        return;
    }
    if (error != WEIR_OK) {
        unsubscribed_send(connection, subscription->sub, error, follow_refusal_text(error));
        subscription_free(connection, subscription);
        return;
    }
    if (subscription->state != SUBSCRIPTION_ASKED)
        return;
    subscription->state = SUBSCRIPTION_STANDS;
    struct frame frame = {.op = FRAME_SUBSCRIBED};
    frame.as.subscribed.sub = subscription->sub;
    frame.as.subscribed.topics = message->word[0];
    session_frame(connection, &frame, SESSION_FRAME_MAX);
}
