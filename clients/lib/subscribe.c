/* Subscriptions: asking the broker for them, queueing what it says, and handing it to the user by callback or by pull.
 * Users' threads and the client's, with the lock held; it is released around callbacks. */
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "clients/lib/client.h"
#include "clients/wire/name.h"

enum {
    ASK_SIZE = 1024,    /* a SUBSCRIBE frame without its cursors */
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
    struct weir_subscription *s = client->subscriptions;
    while (s != NULL && (s->id != id || s->is_over))
        s = s->next;
    return s;
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
    free(s);
}

bool subscriptions_deliver(struct weir *client)
{
    struct weir_subscription *s = list_pop(&client->ready);
    struct weir_event event;
    if (s == NULL)
        return false;
    client->delivering = s;
    while (!s->is_ended_by_user && subscription_event(s, &event)) {
        pthread_mutex_unlock(&client->lock);
        s->options.on_event(s, &event, s->options.context);
        pthread_mutex_lock(&client->lock);
        if (client->link.has_received) /* pings are answered between two callbacks, too */
            break;
    }
    client->delivering = NULL;
    if (s->is_ended_in_callback)
        subscription_free(s);
    else if (!s->is_ended_by_user && s->first != NULL && !s->is_listed)
        list_push(&client->ready, s);
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

static enum weir_error options_take(struct weir_subscription *s, const struct weir_subscribe_options *options)
{
    s->options = *options;
    if (options->policy != NULL && policy_find(view_text(options->policy), &s->policy) != WEIR_OK)
        return WEIR_BAD_REQUEST;
    for (size_t i = 0; i < options->cursor_count; i++) {
        const struct weir_cursor *cursor = &options->cursors[i];
        enum weir_error error = name_check(view_text(cursor->topic), NULL);
        if (error != WEIR_OK)
            return error;
        struct feed *feed = feed_ensure(s, view_text(cursor->topic));
        if (feed == NULL)
            return WEIR_NO_MEMORY;
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
        return WEIR_NO_MEMORY;
    s->client = client;
    s->last = &s->first;
    s->pattern = strdup(pattern);
    enum weir_error error = s->pattern == NULL ? WEIR_NO_MEMORY : WEIR_OK;
    if (error == WEIR_OK && options != NULL)
        error = options_take(s, options);
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
        s->id = client->next_sub++ & SUB_MAX;
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
    struct weir_subscription **at = &client->subscriptions;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    if (client->link.state == LINK_UP && !s->is_over) {
        link_control(client, &(struct frame){.op = FRAME_UNSUBSCRIBE, .as.unsubscribe.sub = s->id});
        link_pump(client);
    }
    bool is_delivering = client->delivering == s;
    s->is_ended_by_user = true;
    s->is_ended_in_callback = is_delivering && client_is_own_thread(client);
    while (is_delivering && !s->is_ended_in_callback && client->delivering == s)
        client_wait(client, UINT64_MAX);
    if (!s->is_ended_in_callback)
        subscription_free(s);
    pthread_mutex_unlock(&client->lock);
}
