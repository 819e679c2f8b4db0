/* Subscriptions: frames about feeds are queued for their subscription and handed to the user one event at a time, by
 * callback or by pull; credit goes back to the broker as they are consumed. The cursor of each feed follows what was
 * queued, so that after a loss the broker goes on exactly behind it. */
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "clients/lib/client.h"
#include "clients/wire/name.h"

const char *weir_event_name(enum weir_event_kind kind)
{
    static const char *const names[] = {"subscribed", "begin", "entry", "end", "update", "gap",
                                        "conflated", "reset", "idle", "stale", "live", "ended"};
    return (size_t)kind < COUNT_OF(names) ? names[kind] : "unknown";
}

/* ----------------------------------------------------------------------------------------------- feeds */

static int feed_compare_id(const void *a, const void *b)
{
    const struct feed *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int feed_compare_topic(const void *a, const void *b)
{
    const struct feed *x = a, *y = b;
    size_t size = x->topic_size < y->topic_size ? x->topic_size : y->topic_size;
    int order = memcmp(x->topic, y->topic, size);
    return order != 0 ? order : x->topic_size < y->topic_size ? -1 : x->topic_size > y->topic_size;
}

static struct feed *feed_create(struct weir_subscription *subscription, struct view topic)
{
    struct feed *feed = calloc(1, sizeof *feed + topic.size + 1);
    if (feed == NULL)
        return NULL;
    feed->subscription = subscription;
    feed->topic_size = topic.size;
    memcpy(feed->topic, topic.data, topic.size);
    return feed;
}

/* The feed of that topic, made where there is none; NULL when memory is out. */
static struct feed *feed_ensure(struct weir_subscription *subscription, struct view topic)
{
    struct feed *feed = feed_create(subscription, topic);
    if (feed == NULL)
        return NULL;
    struct feed **found = tsearch(feed, &subscription->feeds_by_topic, feed_compare_topic);
    if (found == NULL || *found != feed) {
        free(feed);
        feed = found == NULL ? NULL : *found;
    }
    return feed;
}

static struct feed *feed_find(struct weir *client, uint32_t id)
{
    struct feed key = {.id = id};
    struct feed **found = tfind(&key, &client->feeds_by_id, feed_compare_id);
    return found == NULL ? NULL : *found;
}

static void feed_forget_id(struct weir *client, struct feed *feed)
{
    if (feed->id != 0)
        tdelete(feed, &client->feeds_by_id, feed_compare_id);
    feed->id = 0;
}

/* ----------------------------------------------------------------------------------------------- queue */

static void queued_free(struct queued *queued)
{
    if (queued == NULL)
        return;
    chunk_drop(queued->chunk);
    free(queued);
}

static bool queue_push(struct weir_subscription *subscription, struct chunk *chunk, const struct frame *frame,
                       struct feed *feed, size_t credit)
{
    struct queued *queued = calloc(1, sizeof *queued);
    if (queued == NULL)
        return false;
    queued->chunk = chunk;
    if (chunk != NULL)
        chunk->references++;
    queued->frame = *frame;
    queued->feed = feed;
    queued->credit = credit;
    if (frame->op == FRAME_ENTRIES)
        queued->items = frame->as.entries.items;
    if (frame->op == FRAME_UPDATES) {
        queued->items = frame->as.updates.items;
        queued->seq = frame->as.updates.seq;
    }
    *subscription->last = queued;
    subscription->last = &queued->next;
    return true;
}

static void queue_pop(struct weir_subscription *subscription)
{
    struct queued *queued = subscription->first;
    subscription->first = queued->next;
    if (subscription->first == NULL)
        subscription->last = &subscription->first;
}

/* ------------------------------------------------------------------------------------ frames from the broker */

static struct weir_subscription *subscription_find(struct weir *client, uint32_t id)
{
    struct weir_subscription *s = client->subscriptions;
    while (s != NULL && s->id != id)
        s = s->next;
    return s;
}

static struct feed *feed_begin(struct weir *client, struct weir_subscription *subscription, const struct frame *frame)
{
    struct feed *feed = feed_ensure(subscription, frame->as.begin.topic);
    if (feed == NULL)
        return NULL;
    feed_forget_id(client, feed);
    feed->id = frame->as.begin.feed;
    if (tsearch(feed, &client->feeds_by_id, feed_compare_id) == NULL) {
        feed->id = 0;
        return NULL;
    }
    feed->has_cursor = frame->as.begin.resumed;
    feed->epoch = frame->as.begin.epoch;
    feed->seq = frame->as.begin.seq;
    return feed;
}

/* Moves the feed's cursor over what the frame says; false when it breaks the order that was promised. */
static bool feed_follow(struct feed *feed, const struct frame *frame)
{
    switch (frame->op) {
    case FRAME_END:
        feed->has_cursor = true;
        feed->epoch = frame->as.end.epoch;
        feed->seq = frame->as.end.seq;
        return true;
    case FRAME_UPDATES:
        if (!feed->has_cursor || frame->as.updates.seq != feed->seq + 1)
            return false;
        feed->seq += frame->as.updates.count;
        return true;
    case FRAME_GAP:
    case FRAME_CONFLATED:
        feed->seq = frame->as.gap.to > feed->seq ? frame->as.gap.to : feed->seq;
        return true;
    case FRAME_RESET:
        feed->has_cursor = false;
        return true;
    default:
        return true;
    }
}

static uint32_t frame_feed(const struct frame *frame)
{
    switch (frame->op) {
    case FRAME_ENTRIES: return frame->as.entries.feed;
    case FRAME_END: return frame->as.end.feed;
    case FRAME_UPDATES: return frame->as.updates.feed;
    case FRAME_GAP: return frame->as.gap.feed;
    case FRAME_CONFLATED: return frame->as.conflated.feed;
    case FRAME_RESET: return frame->as.reset.feed;
    case FRAME_IDLE: return frame->as.idle.feed;
    case FRAME_STALE: return frame->as.stale.feed;
    case FRAME_LIVE: return frame->as.live.feed;
    case FRAME_ENDED: return frame->as.ended.feed;
    default: return 0;
    }
}

static void subscription_over(struct weir_subscription *subscription)
{
    subscription->is_over = true;
    pthread_cond_broadcast(&subscription->client->changed);
}

static void subscriptions_push(struct weir *client, struct weir_subscription *subscription, struct chunk *chunk,
                               const struct frame *frame, struct feed *feed, size_t credit)
{
    if (!queue_push(subscription, chunk, frame, feed, credit))
        link_close(client, WEIR_NO_MEMORY, "no memory for an event");
    pthread_cond_broadcast(&client->changed);
}

static void on_feed_frame(struct weir *client, struct chunk *chunk, const struct frame *frame, size_t credit)
{
    struct feed *feed = feed_find(client, frame_feed(frame));
    if (feed == NULL) { /* of a subscription that was ended meanwhile */
        link_consumed(client, credit);
        return;
    }
    if (!feed_follow(feed, frame)) {
        link_close(client, WEIR_PROTOCOL, "the broker left a gap in a topic's updates");
        return;
    }
    subscriptions_push(client, feed->subscription, chunk, frame, feed, credit);
    if (frame->op == FRAME_ENDED) {
        feed_forget_id(client, feed);
        feed->has_cursor = false;
    }
}

void subscriptions_on_frame(struct weir *client, struct chunk *chunk, const struct frame *frame, size_t body_size)
{
    struct weir_subscription *subscription = NULL;
    size_t credit = frame->op == FRAME_ENTRIES || frame->op == FRAME_UPDATES ? body_size : 0;
    switch (frame->op) {
    case FRAME_SUBSCRIBED:
        subscription = subscription_find(client, frame->as.subscribed.sub);
        if (subscription != NULL)
            subscriptions_push(client, subscription, chunk, frame, NULL, 0);
        break;
    case FRAME_UNSUBSCRIBED:
        subscription = subscription_find(client, frame->as.unsubscribed.sub);
        if (subscription != NULL) {
            subscriptions_push(client, subscription, chunk, frame, NULL, 0);
            subscription_over(subscription);
        }
        break;
    case FRAME_BEGIN: {
        subscription = subscription_find(client, frame->as.begin.sub);
        struct feed *feed = subscription == NULL ? NULL : feed_begin(client, subscription, frame);
        if (feed != NULL)
            subscriptions_push(client, subscription, chunk, frame, feed, 0);
        break;
    }
    default:
        on_feed_frame(client, chunk, frame, credit);
        break;
    }
}

/* ----------------------------------------------------------------------------------------- asking for it */

struct cursors_walk {
    struct value_writer writer;
    uint32_t count;
};

static void cursors_size_add(const void *node, VISIT visit, void *context)
{
    const struct feed *feed = *(struct feed *const *)node;
    if ((visit == postorder || visit == leaf) && feed->has_cursor)
        *(size_t *)context += feed->topic_size + 32;
}

static void cursors_write(const void *node, VISIT visit, void *context)
{
    const struct feed *feed = *(struct feed *const *)node;
    struct cursors_walk *walk = context;
    if ((visit != postorder && visit != leaf) || !feed->has_cursor)
        return;
    value_write_array(&walk->writer, 3);
    value_write_str(&walk->writer, view_of(feed->topic, feed->topic_size));
    value_write_uint(&walk->writer, feed->epoch);
    value_write_uint(&walk->writer, feed->seq);
    walk->count++;
}

static void subscription_ask(struct weir *client, struct weir_subscription *s)
{
    size_t size = 0;
    twalk_r(s->feeds_by_topic, cursors_size_add, &size);
    uint8_t *cursors = malloc(size + 1);
    if (cursors == NULL) {
        link_close(client, WEIR_NO_MEMORY, "no memory for the cursors of a subscription");
        return;
    }
    struct cursors_walk walk = {.count = 0};
    value_writer_init(&walk.writer, cursors, size + 1);
    twalk_r(s->feeds_by_topic, cursors_write, &walk);
    struct frame frame = {.op = FRAME_SUBSCRIBE};
    frame.as.subscribe.sub = s->id;
    frame.as.subscribe.pattern = view_text(s->pattern);
    frame.as.subscribe.policy = s->policy;
    frame.as.subscribe.snapshot = !s->options.no_snapshot;
    frame.as.subscribe.updates = !s->options.snapshot_only;
    frame.as.subscribe.outbox = s->options.outbox_bytes;
    frame.as.subscribe.cursor_count = walk.count;
    frame.as.subscribe.cursors = view_of(cursors, walk.writer.size);
    link_control(client, &frame);
    free(cursors);
}

void subscriptions_on_link_up(struct weir *client)
{
    for (struct weir_subscription *s = client->subscriptions; s != NULL; s = s->next) {
        if (!s->is_over)
            subscription_ask(client, s);
    }
    link_pump(client);
}

void subscriptions_on_link_down(struct weir *client)
{
    while (client->feeds_by_id != NULL)
        feed_forget_id(client, *(struct feed **)client->feeds_by_id);
}

void subscriptions_on_over(struct weir *client)
{
    for (struct weir_subscription *s = client->subscriptions; s != NULL; s = s->next) {
        if (s->is_over)
            continue;
        struct frame frame = {.op = FRAME_UNSUBSCRIBED};
        frame.as.unsubscribed.code = view_text(weir_error_code(client->over_error));
        frame.as.unsubscribed.message = view_text("the client's session is over");
        queue_push(s, NULL, &frame, NULL, 0);
        subscription_over(s);
    }
}

/* ---------------------------------------------------------------------------------------------- events */

static struct weir_view given(struct view view)
{
    return (struct weir_view){view.data, view.size};
}

static const char *kind_text(struct view kind)
{
    static const char *const kinds[] = {"last", "map", "log", "merge"};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        if (view_is_same(kind, view_text(kinds[i])))
            return kinds[i];
    }
    return "plugin";
}

/* The key's text behind its str header. */
static struct weir_view key_text(struct view key)
{
    struct value_reader reader;
    if (key.size == 0)
        return (struct weir_view){NULL, 0};
    value_reader_init(&reader, key, 1);
    return given(value_read_str(&reader));
}

/* The next of the items as an event; false when there is none left, or they are malformed. */
static bool event_of_item(struct queued *queued, struct weir_event *event)
{
    struct view key, value;
    if (items_next(&queued->items, CLIENT_DEPTH_MAX, &key, &value) != WEIR_OK)
        return false;
    event->kind = queued->frame.op == FRAME_ENTRIES ? WEIR_EVENT_ENTRY : WEIR_EVENT_UPDATE;
    event->key = key_text(key);
    event->value = given(value);
    event->epoch = queued->feed->epoch;
    event->seq = event->kind == WEIR_EVENT_UPDATE ? queued->seq++ : 0;
    return true;
}

static void event_of_subscription(const struct frame *frame, struct weir_event *event)
{
    if (frame->op == FRAME_SUBSCRIBED) {
        event->kind = WEIR_EVENT_SUBSCRIBED;
        event->count = frame->as.subscribed.topics;
        return;
    }
    struct view code = frame->as.unsubscribed.code;
    event->kind = WEIR_EVENT_ENDED;
    event->error = weir_error_from_code((const char *)code.data, code.size);
    event->cause = given(frame->as.unsubscribed.message);
}

static void event_of_frame(const struct queued *queued, struct weir_event *event)
{
    const struct frame *frame = &queued->frame;
    switch (frame->op) {
    case FRAME_BEGIN:
        event->kind = WEIR_EVENT_BEGIN;
        event->topic_kind = kind_text(frame->as.begin.kind);
        event->epoch = frame->as.begin.epoch;
        event->seq = frame->as.begin.seq;
        event->resumed = frame->as.begin.resumed;
        event->delta = frame->as.begin.delta;
        event->cause = given(frame->as.begin.cause);
        break;
    case FRAME_END:
        event->kind = WEIR_EVENT_END;
        event->epoch = frame->as.end.epoch;
        event->seq = frame->as.end.seq;
        event->delta = frame->as.end.delta;
        break;
    case FRAME_GAP:
    case FRAME_CONFLATED:
        event->kind = frame->op == FRAME_GAP ? WEIR_EVENT_GAP : WEIR_EVENT_CONFLATED;
        event->seq = frame->as.gap.from;
        event->seq_to = frame->as.gap.to;
        event->cause = given(frame->as.gap.cause);
        break;
    case FRAME_RESET:
        event->kind = WEIR_EVENT_RESET;
        event->epoch = frame->as.reset.epoch;
        event->cause = given(frame->as.reset.cause);
        break;
    case FRAME_IDLE:
        event->kind = WEIR_EVENT_IDLE;
        event->seq = frame->as.idle.seq;
        break;
    case FRAME_STALE:
        event->kind = WEIR_EVENT_STALE;
        event->cause = given(frame->as.stale.cause);
        break;
    case FRAME_LIVE:
        event->kind = WEIR_EVENT_LIVE;
        break;
    case FRAME_ENDED: {
        struct view code = frame->as.ended.cause;
        event->kind = WEIR_EVENT_ENDED;
        event->error = weir_error_from_code((const char *)code.data, code.size);
        event->cause = given(code);
        break;
    }
    default:
        event_of_subscription(frame, event);
        break;
    }
}

static bool is_item_frame(const struct queued *queued)
{
    return queued->frame.op == FRAME_ENTRIES || queued->frame.op == FRAME_UPDATES;
}

static void queued_done(struct weir *client, struct queued *queued)
{
    link_consumed(client, queued->credit);
    queued_free(queued);
}

/* The next event; false when none is queued. The frame it points into stays as `current` until the next call. */
static bool subscription_event(struct weir_subscription *s, struct weir_event *event)
{
    if (s->current != NULL && s->current != s->first)
        queued_done(s->client, s->current);
    s->current = NULL;
    while (s->first != NULL) {
        struct queued *queued = s->first;
        *event = (struct weir_event){.topic_kind = ""};
        if (queued->feed != NULL)
            event->topic = (struct weir_view){queued->feed->topic, queued->feed->topic_size};
        if (is_item_frame(queued)) {
            if (event_of_item(queued, event)) {
                s->current = queued;
                return true;
            }
            queue_pop(s);
            queued_done(s->client, queued);
            continue;
        }
        event_of_frame(queued, event);
        queue_pop(s);
        s->current = queued;
        return true;
    }
    return false;
}

/* -------------------------------------------------------------------------------------------- delivery */

static void subscription_free(struct weir_subscription *s)
{
    if (s->current != NULL && s->current != s->first)
        queued_free(s->current);
    while (s->first != NULL) {
        struct queued *queued = s->first;
        queue_pop(s);
        link_consumed(s->client, queued->credit);
        queued_free(queued);
    }
    while (s->feeds_by_topic != NULL) {
        struct feed *feed = *(struct feed **)s->feeds_by_topic;
        tdelete(feed, &s->feeds_by_topic, feed_compare_topic);
        feed_forget_id(s->client, feed);
        free(feed);
    }
    free(s->pattern);
    free(s);
}

bool subscriptions_deliver(struct weir *client)
{
    struct weir_subscription *s = client->subscriptions;
    while (s != NULL && (s->options.on_event == NULL || s->first == NULL))
        s = s->next;
    if (s == NULL)
        return false;
    struct weir_event event;
    s->is_delivering = true;
    while (!s->is_ended_by_user && subscription_event(s, &event)) {
        pthread_mutex_unlock(&client->lock);
        s->options.on_event(s, &event, s->options.context);
        pthread_mutex_lock(&client->lock);
        if (client->link.has_received) /* pings are answered between two callbacks, too */
            break;
    }
    s->is_delivering = false;
    if (s->is_ended_by_user)
        subscription_free(s);
    pthread_cond_broadcast(&client->changed);
    return true;
}

void subscriptions_fini(struct weir *client)
{
    while (client->subscriptions != NULL) {
        struct weir_subscription *s = client->subscriptions;
        client->subscriptions = s->next;
        subscription_free(s);
    }
}

/* --------------------------------------------------------------------------------------------- the user */

static enum weir_error subscription_create(struct weir *client, const char *pattern,
                                           const struct weir_subscribe_options *options,
                                           struct weir_subscription **out)
{
    struct weir_subscription *s = calloc(1, sizeof *s);
    if (s == NULL)
        return WEIR_NO_MEMORY;
    s->client = client;
    s->last = &s->first;
    s->pattern = strdup(pattern);
    if (options != NULL)
        s->options = *options;
    enum weir_error error = s->pattern == NULL ? WEIR_NO_MEMORY : WEIR_OK;
    if (error == WEIR_OK && s->options.policy != NULL && policy_find(view_text(s->options.policy), &s->policy) != WEIR_OK)
        error = WEIR_BAD_REQUEST;
    for (size_t i = 0; error == WEIR_OK && i < s->options.cursor_count; i++) {
        const struct weir_cursor *cursor = &s->options.cursors[i];
        struct feed *feed = feed_ensure(s, view_text(cursor->topic));
        if (feed == NULL) {
            error = WEIR_NO_MEMORY;
            break;
        }
        feed->has_cursor = true;
        feed->epoch = cursor->epoch;
        feed->seq = cursor->seq;
    }
    if (error != WEIR_OK) {
        subscription_free(s);
        return error;
    }
    *out = s;
    return WEIR_OK;
}

enum weir_error weir_subscribe(struct weir *client, const char *pattern, const struct weir_subscribe_options *options,
                               struct weir_subscription **out)
{
    MAGIC_CHECK(client, CLIENT_MAGIC);
    *out = NULL;
    enum weir_error error = pattern_check(view_text(pattern), NULL);
    if (error != WEIR_OK)
        return error;
    pthread_mutex_lock(&client->lock);
    struct weir_subscription *s = NULL;
    error = client->is_over ? WEIR_CLOSED : subscription_create(client, pattern, options, &s);
    if (error == WEIR_OK) {
        s->id = client->next_sub++;
        s->next = client->subscriptions;
        client->subscriptions = s;
        *out = s;
        if (client->link.state == LINK_UP) {
            subscription_ask(client, s);
            link_pump(client);
        }
    }
    pthread_mutex_unlock(&client->lock);
    return error;
}

enum weir_error weir_next(struct weir_subscription *subscription, uint64_t timeout_ms, struct weir_event *out)
{
    struct weir *client = subscription->client;
    if (client_is_own_thread(client) || subscription->options.on_event != NULL)
        return WEIR_FORBIDDEN;
    uint64_t deadline = deadline_after_ms(timeout_ms);
    enum weir_error error = WEIR_OK;
    pthread_mutex_lock(&client->lock);
    while (error == WEIR_OK && !subscription_event(subscription, out)) {
        if (subscription->is_over)
            error = WEIR_CLOSED;
        else if (timeout_ms == 0 || !client_wait(client, deadline))
            error = WEIR_TIMEOUT;
    }
    pthread_mutex_unlock(&client->lock);
    return error;
}

void weir_unsubscribe(struct weir_subscription **subscription)
{
    struct weir_subscription *s = *subscription;
    *subscription = NULL;
    if (s == NULL)
        return;
    struct weir *client = s->client;
    pthread_mutex_lock(&client->lock);
    struct weir_subscription **at = &client->subscriptions;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    if (client->link.state == LINK_UP && !s->is_over) {
        link_control(client, &(struct frame){.op = FRAME_UNSUBSCRIBE, .as.unsubscribe.sub = s->id});
        link_pump(client);
    }
    if (s->is_delivering) {
        s->is_ended_by_user = true; /* the client's thread frees it when the callback is back */
        while (!client_is_own_thread(client) && s->is_delivering)
            client_wait(client, UINT64_MAX);
    } else {
        subscription_free(s);
    }
    pthread_mutex_unlock(&client->lock);
}
