/* Subscriptions: asking the broker for them, queueing what it says, and handing it to the user by callback or by pull.
 * Users' threads and the client's, with the lock held; it is released around callbacks. */
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "clients/lib/client.h"
#include "clients/lib/reason.h"
#include "clients/wire/name.h"

enum {
    ASK_SIZE = 2304,    /* a SUBSCRIBE frame without its cursors: pattern, key, and some words */
    SUB_MAX = INT32_MAX /* PROTOCOL.md, 6.6 */
};

/* ------------------------------------------------------------------------------------------ who has events */

static void list_push(struct ready_list *list, struct weir_subscription *s)
{
    s->is_listed = true;
    s->listed_next = NULL;
    if (list->first == NULL)
        list->first = s;
    else
        list->last->listed_next = s;
    list->last = s;
}

static struct weir_subscription *list_pop(struct ready_list *list)
{
    struct weir_subscription *s = list->first;
    if (s != NULL) {
        list->first = s->listed_next;
        s->is_listed = false;
    }
    return s;
}

static void list_remove(struct ready_list *list, struct weir_subscription *s)
{
    struct weir_subscription *at = NULL, *rest = list->first;
    if (!s->is_listed)
        return;
    list->first = NULL;
    while ((at = rest) != NULL) {
        rest = at->listed_next;
        if (at != s)
            list_push(list, at);
    }
    s->is_listed = false;
}

static struct ready_list *list_of(struct weir_subscription *s)
{
    return s->options.on_event != NULL ? &s->client->ready : &s->client->pullable;
}

static void subscription_push(struct weir_subscription *s, const struct frame *frame, struct view body,
                              struct feed *feed)
{
    if (events_push(s, frame, body, feed) != WEIR_OK)
        link_close(s->client, WEIR_NO_MEMORY, "no memory for an event");
    if (!s->is_listed)
        list_push(list_of(s), s);
    pthread_cond_broadcast(&s->client->changed);
}

static void subscription_over(struct weir_subscription *s)
{
    s->is_over = true;
    if (!s->is_listed)
        list_push(list_of(s), s);
    pthread_cond_broadcast(&s->client->changed);
}

/* ------------------------------------------------------------------------------------ frames from the broker */

static struct weir_subscription *subscription_find(struct weir *client, uint32_t id)
{
    struct weir_subscription *s = numbers_find(&client->subscriptions_by_id, id);
    return s == NULL || s->is_over ? NULL : s;
}

static void on_feed_frame(struct weir *client, const struct frame *frame, struct view body)
{
    struct feed *feed = NULL;
    const char *reason = "";
    enum weir_error error = feed_follow(client, frame, &feed, &reason);
    if (error != WEIR_OK)
        link_close(client, error, reason);
    else if (feed != NULL)
        subscription_push(feed->subscription, frame, body, feed);
    else if (frame->op == FRAME_ENTRIES || frame->op == FRAME_UPDATES)
        link_consumed(client, body.size); /* of a subscription that was ended meanwhile */
}

void subscriptions_on_frame(struct weir *client, const struct frame *frame, struct view body)
{
    struct weir_subscription *s = NULL;
    struct feed *feed = NULL;
    const char *reason = "";
    switch (frame->op) {
    case FRAME_SUBSCRIBED:
        s = subscription_find(client, frame->as.subscribed.sub);
        if (s != NULL)
            subscription_push(s, frame, body, NULL);
        break;
    case FRAME_UNSUBSCRIBED:
        s = subscription_find(client, frame->as.unsubscribed.sub);
        if (s != NULL) {
            subscription_push(s, frame, body, NULL);
            subscription_over(s);
        }
        break;
    case FRAME_BEGIN: {
        s = subscription_find(client, frame->as.begin.sub);
        enum weir_error error = s == NULL ? WEIR_OK : feed_begin(client, s, frame, &feed, &reason);
        if (error != WEIR_OK)
            link_close(client, error, reason);
        else if (s != NULL)
            subscription_push(s, frame, body, feed);
        break;
    }
    default: on_feed_frame(client, frame, body); break;
    }
}

/* ----------------------------------------------------------------------------------------- asking for it */

static void subscription_ask(struct weir *client, struct weir_subscription *s)
{
    size_t size = 0;
    uint32_t count = 0;
    /* Cursors that do not fit are left out: their topics come as fresh snapshots. */
    uint64_t size_max = client->link.message_max > ASK_SIZE ? client->link.message_max - ASK_SIZE : 0;
    uint8_t *cursors = feeds_cursors(s, size_max, &size, &count);
    if (cursors == NULL) {
        link_close(client, WEIR_NO_MEMORY, "no memory for the cursors of a subscription");
        return;
    }
    struct frame frame = {.op = FRAME_SUBSCRIBE};
    frame.as.subscribe.sub = s->id;
    frame.as.subscribe.pattern = view_text(s->pattern);
    frame.as.subscribe.policy = s->policy;
    frame.as.subscribe.snapshot = !s->options.no_snapshot;
    frame.as.subscribe.updates = !s->options.snapshot_only;
    frame.as.subscribe.outbox = s->options.outbox_bytes;
    frame.as.subscribe.interval_ms = s->options.interval_ms;
    frame.as.subscribe.block_ms = s->options.block_ms;
    *(s->key_is_prefix ? &frame.as.subscribe.prefix : &frame.as.subscribe.key) = view_of(s->key, s->key_size);
    frame.as.subscribe.cursor_count = count;
    frame.as.subscribe.cursors = view_of(cursors, size);
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

void subscriptions_on_over(struct weir *client)
{
    for (struct weir_subscription *s = client->subscriptions; s != NULL; s = s->next) {
        if (s->is_over)
            continue;
        struct frame frame = {.op = FRAME_UNSUBSCRIBED};
        frame.as.unsubscribed.code = view_text(weir_error_code(client->over_error));
        frame.as.unsubscribed.message = view_text("the client's session is over");
        subscription_push(s, &frame, view_of(NULL, 0), NULL);
        subscription_over(s);
    }
}

/* -------------------------------------------------------------------------------------------- delivery */

static void subscription_free(struct weir_subscription *s)
{
    list_remove(list_of(s), s);
    events_clear(s);
    feeds_free(s);
    free(s->pattern);
    free(s->key);
    free(s);
}

/* Events that are handled quickly follow one another without the lock between, up to BURST_MAX of them. Between two
 * bursts that were quick the next is delivered before more is received, so that what waits stays small and in the
 * processor's caches; pings are answered and other subscriptions served once this has lasted for DELIVER_NS. A poller
 * receives meanwhile in a stream, and when it has lasted for RECEIVE_NS; what is over sooner is not worth its switches
 * of threads, since this one then waits for the next bytes itself. */
enum { BURST_MAX = 16, BURST_NS = 100 * 1000, RECEIVE_NS = 50 * 1000, DELIVER_NS = 200 * 1000 };

/* Calls back with event and those behind it in the same frame; the time afterwards. Without the lock. */
static uint64_t subscription_burst(struct weir_subscription *s, struct weir_event *event, uint64_t start_ns)
{
    struct weir *client = s->client;
    unsigned count = 0;
    do
        s->options.on_event(s, event, s->options.context);
    while (++count < client->burst && !atomic_load_explicit(&s->is_ended_by_user, memory_order_relaxed) &&
           subscription_event_more(s, event));
    uint64_t end_ns = clock_now_ns();
    if (end_ns - start_ns > BURST_NS)
        client->burst = 1;
    else if (count == client->burst && count < BURST_MAX)
        client->burst *= 2;
    return end_ns;
}

/* Events of one subscription, since start_ns of this round of deliveries; the time afterwards. */
static uint64_t subscription_deliver(struct weir *client, struct weir_subscription *s, uint64_t start_ns,
                                     uint64_t now_ns)
{
    struct weir_event event;
    client->delivering = s;
    while (!s->is_ended_by_user && subscription_event(s, &event)) {
        if ((client->link.is_streaming && now_ns != start_ns) || now_ns - start_ns >= RECEIVE_NS)
            link_receive(client);
        pthread_mutex_unlock(&client->lock);
        now_ns = subscription_burst(s, &event, now_ns);
        pthread_mutex_lock(&client->lock);
        if (client->link.has_received && (client->burst == 1 || now_ns - start_ns > DELIVER_NS))
            break;
    }
    client->delivering = NULL;
    if (s->is_ended_in_callback)
        subscription_free(s);
    else if (!s->is_ended_by_user && s->first != NULL && !s->is_listed)
        list_push(&client->ready, s);
    pthread_cond_broadcast(&client->changed);
    return now_ns;
}

/* Whether others want the client's thread, in the midst of many subscriptions that have something. */
static bool deliveries_pause(const struct weir *client)
{
    return client->link.is_closed || client->is_stopping || client->burst == 1;
}

bool subscriptions_deliver(struct weir *client)
{
    struct weir_subscription *s = list_pop(&client->ready);
    if (s == NULL)
        return false;
    uint64_t start_ns = clock_now_ns(), now_ns = start_ns;
    do
        now_ns = subscription_deliver(client, s, start_ns, now_ns);
    while (!deliveries_pause(client) && now_ns - start_ns < DELIVER_NS && (s = list_pop(&client->ready)) != NULL);
    return true;
}

void subscriptions_fini(struct weir *client)
{
    while (client->subscriptions != NULL) {
        struct weir_subscription *s = client->subscriptions;
        client->subscriptions = s->next;
        subscription_free(s);
    }
    numbers_clear(&client->subscriptions_by_id);
    numbers_clear(&client->feeds_by_id);
}

/* --------------------------------------------------------------------------------------------- the user */

static enum weir_error key_take(struct weir_subscription *s, const struct weir_subscribe_options *options)
{
    const char *text = options->key != NULL ? options->key : options->prefix;
    if (text == NULL)
        return WEIR_OK;
    size_t size = strlen(text);
    if (options->key != NULL && options->prefix != NULL)
        return reason_give(WEIR_BAD_REQUEST, "a subscription is to one key or to a prefix, not to both");
    if (size > KEY_SIZE_MAX)
        return reason_give(WEIR_BAD_REQUEST, "the key or prefix has %zu bytes, more than %d", size, KEY_SIZE_MAX);
    s->key = malloc(size + 5);
    if (s->key == NULL)
        return reason_usual(WEIR_NO_MEMORY);
    struct value_writer writer;
    value_writer_init(&writer, s->key, size + 5);
    value_write_str(&writer, view_text(text));
    s->key_size = writer.size;
    s->key_is_prefix = options->key == NULL;
    return WEIR_OK;
}

static enum weir_error options_take(struct weir_subscription *s, const struct weir_subscribe_options *options)
{
    s->options = *options;
    if (options->policy != NULL && policy_find(view_text(options->policy), &s->policy) != WEIR_OK)
        return reason_give(WEIR_BAD_REQUEST, "there is no policy '%s'", options->policy);
    enum weir_error error = key_take(s, options);
    if (error != WEIR_OK)
        return error;
    for (size_t i = 0; i < options->cursor_count; i++) {
        const struct weir_cursor *cursor = &options->cursors[i];
        const char *reason = "";
        error = name_check(view_text(cursor->topic), &reason);
        if (error != WEIR_OK)
            return reason_give(error, "the topic of cursor %zu: %s", i + 1, reason);
        struct feed *feed = feed_ensure(s, view_text(cursor->topic));
        if (feed == NULL)
            return reason_usual(WEIR_NO_MEMORY);
        feed->has_cursor = true;
        feed->epoch = cursor->epoch;
        feed->seq = cursor->seq;
    }
    return WEIR_OK;
}

static enum weir_error subscription_create(struct weir *client, const char *pattern,
                                           const struct weir_subscribe_options *options, struct weir_subscription **out)
{
    struct weir_subscription *s = calloc(1, sizeof *s);
    if (s == NULL)
        return reason_usual(WEIR_NO_MEMORY);
    s->client = client;
    s->last = &s->first;
    s->pattern = strdup(pattern);
    enum weir_error error = s->pattern == NULL ? reason_usual(WEIR_NO_MEMORY) : WEIR_OK;
    if (error == WEIR_OK && options != NULL)
        error = options_take(s, options);
    if (error != WEIR_OK) {
        subscription_free(s);
        return error;
    }
    *out = s;
    return WEIR_OK;
}

/* Gives it a number and a place among the client's; false without memory. */
static bool subscription_link(struct weir *client, struct weir_subscription *s)
{
    s->id = client->next_sub & SUB_MAX;
    if (numbers_put(&client->subscriptions_by_id, s->id, s) != s)
        return false;
    client->next_sub++;
    s->next = client->subscriptions;
    if (s->next != NULL)
        s->next->previous = s;
    client->subscriptions = s;
    return true;
}

static void subscription_unlink(struct weir *client, struct weir_subscription *s)
{
    *(s->previous != NULL ? &s->previous->next : &client->subscriptions) = s->next;
    if (s->next != NULL)
        s->next->previous = s->previous;
    numbers_remove(&client->subscriptions_by_id, s->id);
}

enum weir_error weir_subscribe(struct weir *client, const char *pattern, const struct weir_subscribe_options *options,
                               struct weir_subscription **out)
{
    MAGIC_CHECK(client, CLIENT_MAGIC);
    *out = NULL;
    const char *reason = "";
    enum weir_error error = pattern_check(view_text(pattern), &reason);
    if (error != WEIR_OK)
        return reason_give(error, "the pattern: %s", reason);
    pthread_mutex_lock(&client->lock);
    struct weir_subscription *s = NULL;
    error = client->is_over ? reason_usual(WEIR_CLOSED) : subscription_create(client, pattern, options, &s);
    if (error == WEIR_OK && !subscription_link(client, s)) {
        subscription_free(s);
        error = reason_usual(WEIR_NO_MEMORY);
    }
    if (error == WEIR_OK) {
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
    uint64_t deadline = timeout_ms == 0 ? 0 : deadline_after_ms(timeout_ms);
    enum weir_error error = WEIR_OK;
    pthread_mutex_lock(&client->lock);
    while (error == WEIR_OK && !subscription_event(subscription, out)) {
        if (subscription->is_over)
            error = WEIR_CLOSED;
        else if (!client_wait(client, deadline))
            error = WEIR_TIMEOUT;
    }
    subscription->is_over_told |= error == WEIR_CLOSED;
    pthread_mutex_unlock(&client->lock);
    return error;
}

/* The first in the list that has something to say; it goes to the list's end, so that each gets its turn. */
static struct weir_subscription *pullable_find(struct weir *client)
{
    struct weir_subscription *s = NULL;
    while ((s = list_pop(&client->pullable)) != NULL) {
        if (s->first == NULL && (!s->is_over || s->is_over_told))
            continue;
        list_push(&client->pullable, s);
        return s;
    }
    return NULL;
}

enum weir_error weir_await(struct weir *client, uint64_t timeout_ms, struct weir_subscription **out)
{
    MAGIC_CHECK(client, CLIENT_MAGIC);
    if (client_is_own_thread(client))
        return WEIR_FORBIDDEN;
    uint64_t deadline = timeout_ms == 0 ? 0 : deadline_after_ms(timeout_ms);
    enum weir_error error = WEIR_OK;
    pthread_mutex_lock(&client->lock);
    while (error == WEIR_OK && (*out = pullable_find(client)) == NULL) {
        if (client->is_over)
            error = WEIR_CLOSED;
        else if (!client_wait(client, deadline))
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
    subscription_unlink(client, s);
    /* First of all, so that nothing is delivered once the broker has heard of it. */
    atomic_store_explicit(&s->is_ended_by_user, true, memory_order_relaxed);
    if (client->link.state == LINK_UP && !s->is_over) {
        link_control(client, &(struct frame){.op = FRAME_UNSUBSCRIBE, .as.unsubscribe.sub = s->id});
        link_pump(client);
    }
    bool is_delivering = client->delivering == s;
    s->is_ended_in_callback = is_delivering && client_is_own_thread(client);
    while (is_delivering && !s->is_ended_in_callback && client->delivering == s)
        client_wait(client, UINT64_MAX);
    if (!s->is_ended_in_callback)
        subscription_free(s);
    pthread_mutex_unlock(&client->lock);
}
