/* Feeds: each topic under a subscription, its number in this connection, and the cursor that follows what was queued,
 * so that after a loss the broker goes on exactly behind it. Any thread, with the lock held. */
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "clients/lib/client.h"
#include "clients/wire/name.h"

static int feed_compare_topic(const void *a, const void *b)
{
    const struct feed *x = a, *y = b;
    size_t size = x->topic_size < y->topic_size ? x->topic_size : y->topic_size;
    int order = memcmp(x->topic, y->topic, size);
    return order != 0 ? order : x->topic_size < y->topic_size ? -1 : x->topic_size > y->topic_size;
}

struct feed *feed_ensure(struct weir_subscription *subscription, struct view topic)
{
    struct feed *feed = calloc(1, sizeof *feed + topic.size + 1);
    if (feed == NULL)
        return NULL;
    feed->subscription = subscription;
    feed->topic_size = topic.size;
    memcpy(feed->topic, topic.data, topic.size);
    struct feed **found = tsearch(feed, &subscription->feeds_by_topic, feed_compare_topic);
    if (found == NULL || *found != feed) {
        free(feed);
        feed = found == NULL ? NULL : *found;
    }
    return feed;
}

static void feed_close(struct weir *client, struct feed *feed)
{
    if (feed->is_open)
        numbers_remove(&client->feeds_by_id, feed->id);
    feed->is_open = false;
}

/* Nothing of it is left to resume, to receive or to deliver: topics may come and go without end. */
static void feed_free_if_unused(struct feed *feed)
{
    if (feed->references > 0 || feed->is_open || feed->has_cursor)
        return;
    tdelete(feed, &feed->subscription->feeds_by_topic, feed_compare_topic);
    free(feed);
}

void feed_hold(struct feed *feed) { feed->references++; }

void feed_drop(struct feed *feed)
{
    feed->references--;
    feed_free_if_unused(feed);
}

void feeds_close(struct weir *client)
{
    const struct numbers *feeds = &client->feeds_by_id;
    for (size_t i = 0; i < feeds->capacity; i++) {
        struct feed *feed = feeds->places[i].thing;
        if (feed != NULL)
            feed->is_open = false;
    }
    numbers_clear(&client->feeds_by_id);
}

void feeds_free(struct weir_subscription *subscription)
{
    while (subscription->feeds_by_topic != NULL) {
        struct feed *feed = *(struct feed **)subscription->feeds_by_topic;
        tdelete(feed, &subscription->feeds_by_topic, feed_compare_topic);
        feed_close(subscription->client, feed);
        free(feed);
    }
}

/* --------------------------------------------------------------------------------- what the broker says */

enum weir_error feed_begin(struct weir *client, struct weir_subscription *subscription, const struct frame *frame,
                           struct feed **out, const char **reason)
{
    uint32_t id = frame->as.begin.feed;
    /* Users are told the end of a whole subscription by a topic of no bytes. */
    *reason = "the broker began a topic that no topic can be named like";
    if (name_check(frame->as.begin.topic, NULL) != WEIR_OK)
        return WEIR_PROTOCOL;
    struct feed *feed = feed_ensure(subscription, frame->as.begin.topic);
    *reason = "no memory for a topic";
    if (feed == NULL)
        return WEIR_NO_MEMORY;
    if (!feed->is_open || feed->id != id) {
        feed_close(client, feed);
        feed->id = id;
        struct feed *placed = numbers_put(&client->feeds_by_id, id, feed);
        if (placed == NULL)
            return WEIR_NO_MEMORY;
        if (placed != feed) {
            *reason = "the broker gave two topics the same number";
            return WEIR_PROTOCOL;
        }
        feed->is_open = true;
    }
    feed->has_cursor = frame->as.begin.resumed;
    feed->is_joining = true;
    feed->epoch = frame->as.begin.epoch;
    feed->seq = frame->as.begin.seq;
    *out = feed;
    return WEIR_OK;
}

static const char *updates_follow(struct feed *feed, const struct frame *frame)
{
    if (feed->is_joining || !feed->has_cursor)
        return "the broker sent updates of a topic before the end of its snapshot";
    /* Where only some keys are followed, updates of the others are left out without a word. */
    if (feed->subscription->key != NULL ? frame->as.updates.seq <= feed->seq : frame->as.updates.seq != feed->seq + 1)
        return "the broker left a gap in a topic's updates";
    if (!items_are_whole(frame->as.updates.items, CLIENT_DEPTH_MAX, frame->as.updates.count))
        return "the broker sent malformed updates";
    feed->seq = frame->as.updates.seq + frame->as.updates.count - 1;
    return NULL;
}

/* Moves the feed's cursor over what the frame says; a sentence when it breaks the order that was promised. */
static const char *frame_follow(struct feed *feed, const struct frame *frame)
{
    switch (frame->op) {
    case FRAME_ENTRIES:
        if (!feed->is_joining)
            return "the broker sent entries outside a snapshot";
        return items_are_whole(frame->as.entries.items, CLIENT_DEPTH_MAX, frame->as.entries.count)
                   ? NULL
                   : "the broker sent malformed entries";
    case FRAME_END:
        if (!feed->is_joining)
            return "the broker ended a snapshot that had not begun";
        feed->is_joining = false;
        feed->has_cursor = true;
        feed->epoch = frame->as.end.epoch;
        feed->seq = frame->as.end.seq;
        return NULL;
    case FRAME_UPDATES: return updates_follow(feed, frame);
    case FRAME_GAP:
    case FRAME_CONFLATED: feed->seq = frame->as.gap.to > feed->seq ? frame->as.gap.to : feed->seq; return NULL;
    case FRAME_RESET:
        feed->has_cursor = feed->is_joining = false;
        feed->epoch = frame->as.reset.epoch;
        feed->seq = 0;
        return NULL;
    case FRAME_IDLE:
        if (!feed->has_cursor || frame->as.idle.seq <= feed->seq)
            return NULL;
        if (feed->subscription->key == NULL)
            return "the broker left a gap in front of an idle topic's seq";
        feed->seq = frame->as.idle.seq;
        return NULL;
    default: return NULL;
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
    default: return frame->as.ended.feed;
    }
}

enum weir_error feed_follow(struct weir *client, const struct frame *frame, struct feed **out, const char **reason)
{
    struct feed *feed = numbers_find(&client->feeds_by_id, frame_feed(frame));
    *out = feed;
    if (feed == NULL)
        return WEIR_OK;
    *reason = frame_follow(feed, frame);
    if (*reason != NULL)
        return WEIR_PROTOCOL;
    if (frame->op == FRAME_ENDED) {
        feed_close(client, feed);
        feed->has_cursor = feed->is_joining = false;
    }
    return WEIR_OK;
}

/* ------------------------------------------------------------------------------------------- cursors */

struct cursors_walk {
    struct value_writer writer;
    uint32_t count;
};

static void cursor_size_add(const void *node, VISIT visit, void *context)
{
    const struct feed *feed = *(struct feed *const *)node;
    if ((visit == postorder || visit == leaf) && feed->has_cursor)
        *(size_t *)context += feed->topic_size + 32;
}

static void cursor_write(const void *node, VISIT visit, void *context)
{
    const struct feed *feed = *(struct feed *const *)node;
    struct cursors_walk *walk = context;
    if ((visit != postorder && visit != leaf) || !feed->has_cursor ||
        walk->writer.capacity - walk->writer.size < feed->topic_size + 32)
        return;
    value_write_array(&walk->writer, 3);
    value_write_str(&walk->writer, view_of(feed->topic, feed->topic_size));
    value_write_uint(&walk->writer, feed->epoch);
    value_write_uint(&walk->writer, feed->seq);
    walk->count++;
}

uint8_t *feeds_cursors(const struct weir_subscription *subscription, size_t size_max, size_t *size, uint32_t *count)
{
    size_t wanted = 0;
    twalk_r(subscription->feeds_by_topic, cursor_size_add, &wanted);
    if (wanted > size_max)
        wanted = size_max;
    uint8_t *cursors = malloc(wanted + 1);
    if (cursors == NULL)
        return NULL;
    struct cursors_walk walk = {.count = 0};
    value_writer_init(&walk.writer, cursors, wanted);
    twalk_r(subscription->feeds_by_topic, cursor_write, &walk);
    *size = walk.writer.size;
    *count = walk.count;
    return cursors;
}
