/* Subscriptions, and what topics send about their feeds. In the connection's turns.
 *
 * The directory and topics know a subscription by an internal number, place and generation, so that what is still under
 * way for one that ended never meets a later one to which the client gave the same number. */
#include "actors/base/assert.h"
#include "broker/session/state.h"
#include "clients/wire/name.h"

enum {
    SUBSCRIPTIONS_FIRST = 4,
    PLACE_BITS = 16,
    GENERATION_MAX = (1 << 15) - 1, /* below REQUEST_SUB_BIT */
    MERGED_SIZE_MAX = 256 * 1024,
};

static uint32_t internal_of(const struct session *session, const struct subscription *subscription)
{
    uint32_t place = (uint32_t)(subscription - session->subscriptions);
    return (subscription->generation & GENERATION_MAX) << PLACE_BITS | place;
}

struct subscription *subscription_find(struct session *session, uint32_t internal)
{
    uint32_t place = internal & ((1 << PLACE_BITS) - 1);
    if (place >= session->subscription_capacity)
        return NULL;
    struct subscription *subscription = &session->subscriptions[place];
    bool is_it = subscription->state != SUBSCRIPTION_FREE && internal_of(session, subscription) == internal;
    return is_it ? subscription : NULL;
}

static struct subscription *subscription_of_client(struct session *session, uint32_t sub)
{
    for (uint32_t i = 0; i < session->subscription_capacity; i++)
        if (session->subscriptions[i].state != SUBSCRIPTION_FREE && session->subscriptions[i].sub == sub)
            return &session->subscriptions[i];
    return NULL;
}

static bool subscriptions_grow(struct connection *connection)
{
    struct session *session = session_of(connection);
    uint32_t capacity = session->subscription_capacity == 0 ? SUBSCRIPTIONS_FIRST : session->subscription_capacity * 2;
    weir_msg block;
    size_t size = capacity * sizeof *session->subscriptions;
    if (arena_alloc(connection->arena, size, connection->budget, &block) != WEIR_OK)
        return false;
    struct subscription *subscriptions = arena_data(connection->arena, block);
    memset(subscriptions, 0, size);
    if (session->subscription_capacity > 0)
        memcpy(subscriptions, session->subscriptions, session->subscription_capacity * sizeof *subscriptions);
    arena_drop(connection->arena, session->subscription_block);
    session->subscription_block = block;
    session->subscriptions = subscriptions;
    session->subscription_capacity = capacity;
    return true;
}

static struct subscription *subscription_take(struct connection *connection, uint32_t sub)
{
    struct session *session = session_of(connection);
    if (session->subscription_count == session->subscription_capacity && !subscriptions_grow(connection))
        return NULL;
    struct subscription *subscription = session->subscriptions;
    while (subscription->state != SUBSCRIPTION_FREE)
        subscription++;
    subscription->sub = sub;
    subscription->state = SUBSCRIPTION_ASKED;
    subscription->end = WEIR_OK;
    session->subscription_count++;
    atomic_store_explicit(&connection->counters.subscriptions, session->subscription_count, memory_order_relaxed);
    return subscription;
}

static void subscription_free(struct connection *connection, struct subscription *subscription)
{
    struct session *session = session_of(connection);
    follows_remove_owner(connection, &session->follows, internal_of(session, subscription));
    subscription->state = SUBSCRIPTION_FREE;
    subscription->generation++;
    session->subscription_count--;
    atomic_store_explicit(&connection->counters.subscriptions, session->subscription_count, memory_order_relaxed);
    atomic_store_explicit(&connection->counters.feeds, session->follows.count, memory_order_relaxed);
}

static void unsubscribed_send(struct connection *connection, uint32_t sub, enum weir_error error, const char *text)
{
    struct frame frame = {.op = FRAME_UNSUBSCRIBED};
    frame.as.unsubscribed.sub = sub;
    frame.as.unsubscribed.code = view_text(weir_error_code(error));
    frame.as.unsubscribed.message = view_text(text);
    session_frame(connection, &frame, SESSION_FRAME_MAX);
}

/* Ends it: its feeds are forgotten at once, so nothing of it follows; UNSUBSCRIBED goes when the directory has let go.
 */
static void subscription_end(struct connection *connection, struct subscription *subscription, enum weir_error error)
{
    struct session *session = session_of(connection);
    if (subscription->state == SUBSCRIPTION_ENDING)
        return;
    uint32_t internal = internal_of(session, subscription);
    subscription->state = SUBSCRIPTION_ENDING;
    subscription->end = error;
    follows_remove_owner(connection, &session->follows, internal);
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
    *reason = "this broker offers the policies resync and block";
    if (frame->as.subscribe.policy != POLICY_RESYNC && frame->as.subscribe.policy != POLICY_BLOCK)
        return WEIR_BAD_REQUEST;
    *reason = "the session has as many subscriptions or feeds as it may";
    if (session->subscription_count >= connection->config.subscriptions_max ||
        session->follows.count >= connection->config.feeds_max)
        return WEIR_FULL;
    return WEIR_OK;
}

static enum weir_error subscribe_order(struct connection *connection, const struct frame *frame,
                                       const struct subscription *subscription)
{
    struct view pattern = frame->as.subscribe.pattern, cursors = frame->as.subscribe.cursors;
    struct directory_subscribe *subscribe;
    weir_msg block;
    enum weir_error error =
        arena_alloc(connection->arena, sizeof *subscribe + pattern.size + cursors.size, connection->budget, &block);
    if (error)
        return error;
    uint64_t outbox = frame->as.subscribe.outbox;
    subscribe = arena_data(connection->arena, block);
    *subscribe = (struct directory_subscribe){.sub = internal_of(session_of(connection), subscription),
                                              .policy = frame->as.subscribe.policy,
                                              .snapshot = frame->as.subscribe.snapshot,
                                              .updates = frame->as.subscribe.updates,
                                              .credit = subscription->credit,
                                              .outbox_max = outbox < SIZE_MAX ? (size_t)outbox : SIZE_MAX,
                                              .pattern_size = (uint32_t)pattern.size,
                                              .cursors_size = (uint32_t)cursors.size,
                                              .cursor_count = frame->as.subscribe.cursor_count};
    memcpy(subscribe->bytes, pattern.data, pattern.size);
    if (cursors.size > 0)
        memcpy(subscribe->bytes + pattern.size, cursors.data, cursors.size);
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
        follow_window(connection->config.outbox_bytes, session->follows.count + session->subscription_count);
    if (pattern_has_wildcard(frame->as.subscribe.pattern) && window > SESSION_PATTERN_CREDIT)
        window = SESSION_PATTERN_CREDIT;
    subscription->credit = (uint32_t)window;
    if (subscribe_order(connection, frame, subscription) != WEIR_OK) {
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

/* ------------------------------------------------------------------------------------ the directory */

void session_on_directory(struct connection *connection, const struct message *message)
{
    struct subscription *subscription = subscription_find(session_of(connection), message->detail);
    if (subscription == NULL)
        return;
    enum weir_error error = (enum weir_error)message->word[2];
    if (message->tag == DIRECTORY_UNSUBSCRIBED) {
        enum weir_error end = subscription->end;
        unsubscribed_send(connection, subscription->sub, end, end == WEIR_OK ? "" : weir_error_text(end));
        subscription_free(connection, subscription);
        return;
    }
    if (error != WEIR_OK) {
        unsubscribed_send(connection, subscription->sub, error, weir_error_text(error));
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

static void data_push(struct connection *connection, struct message *message)
{
    if (queue_push(connection, &connection->output.data, message) != WEIR_OK) {
        connection_refuse(connection, REFUSAL_MEMORY, WEIR_NO_MEMORY,
                          "the client left more unread than the broker keeps");
        return;
    }
    message->hold[0] = message->hold[1] = WEIR_MSG_NONE;
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
    if (followed == NULL && session->follows.count >= connection->config.feeds_max) {
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
        followed->granted = subscription->credit;
    }
    followed->slot = begin->slot;
    followed->topic = message->from;
    atomic_store_explicit(&connection->counters.feeds, session->follows.count, memory_order_relaxed);
    data_push(connection, message);
}

/* Whether run goes on right where the last item of the queue ends, so that both can be one. */
static bool run_continues(const struct message *last, const struct message *message)
{
    if (last == NULL || last->tag != message->tag || last->detail != message->detail)
        return false;
    if (!msg_is_none(last->hold[1]) || !msg_is_none(message->hold[1]) || last->hold[0].bits != message->hold[0].bits)
        return false;
    struct topic_run before = topic_run_read(last), run = topic_run_read(message);
    if (before.pairs.size + run.pairs.size > MERGED_SIZE_MAX)
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
    followed_came(followed, run.pairs.size + run.value.size);
    connection->output.data_size += run.pairs.size + run.value.size;
    struct message *last = queue_last(&connection->output.data);
    if (!run_continues(last, message)) {
        data_push(connection, message);
        return;
    }
    /* The queue's reference holds the page for both. */
    struct topic_run before = topic_run_read(last);
    last->word[0] = TOPIC_WORD(before.pairs.offset, before.pairs.size + run.pairs.size);
    last->word[1] = before.count + run.count;
}

void session_on_topic(struct connection *connection, struct message *message)
{
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
        if (follows_find(&session_of(connection)->follows, message->detail) != NULL)
            data_push(connection, message);
        else
            feed_decline(connection, message);
        return;
    default: return;
    }
}

void session_subscriptions_fini(struct connection *connection)
{
    struct session *session = session_of(connection);
    arena_drop(connection->arena, session->subscription_block);
    session->subscription_block = WEIR_MSG_NONE;
    session->subscriptions = NULL;
    session->subscription_capacity = session->subscription_count = 0;
}
