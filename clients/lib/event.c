/* Queued frames, and the events that the user gets of them one at a time; credit goes back to the broker as they are
 * consumed. Any thread, with the lock held. */
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "clients/lib/client.h"

const char *weir_event_name(enum weir_event_kind kind)
{
    static const char *const names[] = {"subscribed", "begin", "entry", "end",   "update", "gap",
                                        "conflated",  "reset", "idle",  "stale", "live",   "ended"};
    return (size_t)kind < COUNT_OF(names) ? names[kind] : "unknown";
}

/* ----------------------------------------------------------------------------------------------- queue */

/* Frames come by the thousand and go soon, and those of a snapshot or with large values are so large that malloc would
 * give their pages back to the system and fetch them again each time, which costs more than what is done with them:
 * blocks stay for the next, as many small ones as one receive brings frames, half a MiB, and a few larger ones. */
enum {
    SMALL_SIZE = 256,
    SMALL_MAX = 1024,
    SPARE_MAX = 8,
    SPARE_BYTES_MAX = 4 << 20, /* together: two or three of the largest messages that a broker takes by default */
    QUEUED_SIZE_STEP = 512,    /* sizes are rounded up, so that one fits for the next */
};

static struct queued *small_alloc(struct weir *client)
{
    struct queued *queued = client->small;
    if (queued != NULL) {
        client->small = queued->next;
        client->small_count--;
        return queued;
    }
    queued = malloc(sizeof *queued + SMALL_SIZE);
    if (queued != NULL)
        queued->capacity = SMALL_SIZE;
    return queued;
}

static struct queued *queued_alloc(struct weir *client, size_t size)
{
    if (size <= SMALL_SIZE)
        return small_alloc(client);
    struct queued **best = NULL;
    for (struct queued **at = &client->spare; *at != NULL; at = &(*at)->next) {
        if ((*at)->capacity >= size && (best == NULL || (*at)->capacity < (*best)->capacity))
            best = at;
    }
    if (best != NULL) {
        struct queued *found = *best;
        *best = found->next;
        client->spare_count--;
        client->spare_bytes -= found->capacity;
        return found;
    }
    size_t capacity = (size + QUEUED_SIZE_STEP - 1) / QUEUED_SIZE_STEP * QUEUED_SIZE_STEP;
    struct queued *queued = malloc(sizeof *queued + capacity);
    if (queued != NULL)
        queued->capacity = capacity;
    return queued;
}

static void queued_free(struct weir *client, struct queued *queued)
{
    bool is_small = queued->capacity == SMALL_SIZE;
    unsigned *count = is_small ? &client->small_count : &client->spare_count;
    struct queued **list = is_small ? &client->small : &client->spare;
    bool has_room =
        is_small ? *count < SMALL_MAX : *count < SPARE_MAX && queued->capacity <= SPARE_BYTES_MAX - client->spare_bytes;
    if (!has_room) {
        free(queued);
        return;
    }
    queued->next = *list;
    *list = queued;
    (*count)++;
    if (!is_small)
        client->spare_bytes += queued->capacity;
}

static void list_free(struct queued *queued)
{
    while (queued != NULL) {
        struct queued *next = queued->next;
        free(queued);
        queued = next;
    }
}

void events_fini(struct weir *client)
{
    list_free(client->spare);
    list_free(client->small);
    client->spare = client->small = NULL;
}

static bool has_items(const struct queued *queued)
{
    return queued->frame.op == FRAME_ENTRIES || queued->frame.op == FRAME_UPDATES;
}

/* Of a frame with items only these are kept: the rest has been followed already (feed.c). */
static void queued_take_items(struct queued *queued, const struct frame *frame, struct view body)
{
    bool is_updates = frame->op == FRAME_UPDATES;
    struct view items = is_updates ? frame->as.updates.items : frame->as.entries.items;
    memcpy(queued->body, items.data, items.size);
    queued->items = view_of(queued->body, items.size);
    queued->seq = is_updates ? frame->as.updates.seq : 0;
    queued->credit = body.size;
}

/* The frame with views into the copy of its body; one that was made here has neither. */
static void queued_take_frame(struct queued *queued, const struct frame *frame, struct view body)
{
    queued->credit = 0;
    queued->items = view_of(NULL, 0);
    queued->frame = *frame;
    if (body.size == 0)
        return;
    memcpy(queued->body, body.data, body.size);
    enum weir_error error = frame_read(view_of(queued->body, body.size), CLIENT_DEPTH_MAX, &queued->frame, NULL);
    INVARIANT(error == WEIR_OK); /* it could be read before, and is the same */
}

enum weir_error events_push(struct weir_subscription *s, const struct frame *frame, struct view body, struct feed *feed)
{
    struct queued *queued = queued_alloc(s->client, body.size);
    if (queued == NULL)
        return WEIR_NO_MEMORY;
    queued->next = NULL;
    queued->frame.op = frame->op;
    queued->feed = feed;
    if (has_items(queued))
        queued_take_items(queued, frame, body);
    else
        queued_take_frame(queued, frame, body);
    queued->epoch = feed != NULL ? feed->epoch : 0;
    if (feed != NULL)
        feed_hold(feed);
    queued->size = body.size;
    s->client->queued_free_bytes += body.size - queued->credit;
    s->client->queued_bytes += queued->credit;
    s->client->queued_count++;
    *s->last = queued;
    s->last = &queued->next;
    return WEIR_OK;
}

static void events_pop(struct weir_subscription *s)
{
    struct queued *queued = s->first;
    s->first = queued->next;
    if (s->first == NULL)
        s->last = &s->first;
}

static void queued_done(struct weir *client, struct queued *queued)
{
    client->queued_bytes -= queued->credit;
    client->queued_free_bytes -= queued->size - queued->credit;
    client->queued_count--;
    if (queued->credit > 0)
        link_consumed(client, queued->credit);
    if (queued->feed != NULL)
        feed_drop(queued->feed);
    if (client->link.is_paused)
        client_wake(client);
    queued_free(client, queued);
}

void events_clear(struct weir_subscription *s)
{
    if (s->current != NULL && s->current != s->first)
        queued_done(s->client, s->current);
    s->current = NULL;
    while (s->first != NULL) {
        struct queued *queued = s->first;
        events_pop(s);
        queued_done(s->client, queued);
    }
}

/* ---------------------------------------------------------------------------------------------- events */

static struct weir_view given(struct view view) { return (struct weir_view){view.data, view.size}; }

static const char *kind_text(struct view kind)
{
    static const char *const kinds[] = {"last", "map", "log", "merge"};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        if (view_is_same(kind, view_text(kinds[i])))
            return kinds[i];
    }
    return "plugin";
}

/* The key's text behind its str header, which is of the shortest form: items_next has checked it. */
static struct weir_view key_text(struct view key)
{
    if (key.size == 0)
        return (struct weir_view){NULL, 0};
    size_t head = key.data[0] < 0xc0 ? 1 : key.data[0] == 0xd9 ? 2 : 3;
    return (struct weir_view){key.data + head, key.size - head};
}

/* The next of the items; false when there is none left. */
static bool event_of_item(struct queued *queued, struct weir_event *event)
{
    struct view key, value;
    if (items_next(&queued->items, CLIENT_DEPTH_MAX, &key, &value) != WEIR_OK)
        return false;
    event->kind = queued->frame.op == FRAME_ENTRIES ? WEIR_EVENT_ENTRY : WEIR_EVENT_UPDATE;
    event->key = key_text(key);
    event->value = given(value);
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

static void event_of_gap(const struct frame *frame, struct weir_event *event)
{
    event->kind = frame->op == FRAME_GAP ? WEIR_EVENT_GAP : WEIR_EVENT_CONFLATED;
    event->seq = frame->as.gap.from;
    event->seq_to = frame->as.gap.to;
    event->cause = given(frame->as.gap.cause);
}

static void event_of_frame(const struct frame *frame, struct weir_event *event)
{
    switch (frame->op) {
    case FRAME_BEGIN:
        event->kind = WEIR_EVENT_BEGIN;
        event->topic_kind = kind_text(frame->as.begin.kind);
        event->seq = frame->as.begin.seq;
        event->resumed = frame->as.begin.resumed;
        event->delta = frame->as.begin.delta;
        event->cause = given(frame->as.begin.cause);
        break;
    case FRAME_END:
        event->kind = WEIR_EVENT_END;
        event->seq = frame->as.end.seq;
        event->delta = frame->as.end.delta;
        break;
    case FRAME_GAP:
    case FRAME_CONFLATED: event_of_gap(frame, event); break;
    case FRAME_RESET:
        event->kind = WEIR_EVENT_RESET;
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
    case FRAME_LIVE: event->kind = WEIR_EVENT_LIVE; break;
    case FRAME_ENDED: {
        struct view code = frame->as.ended.cause;
        event->kind = WEIR_EVENT_ENDED;
        event->error = weir_error_from_code((const char *)code.data, code.size);
        event->cause = given(code);
        break;
    }
    default: event_of_subscription(frame, event); break;
    }
}

bool subscription_event_more(struct weir_subscription *s, struct weir_event *event)
{
    return has_items(s->current) && event_of_item(s->current, event);
}

bool subscription_event(struct weir_subscription *s, struct weir_event *event)
{
    if (s->current != NULL && s->current != s->first)
        queued_done(s->client, s->current);
    s->current = NULL;
    while (s->first != NULL) {
        struct queued *queued = s->first;
        *event = (struct weir_event){.topic_kind = "", .epoch = queued->epoch};
        if (queued->feed != NULL)
            event->topic = (struct weir_view){queued->feed->topic, queued->feed->topic_size};
        if (has_items(queued) && event_of_item(queued, event)) {
            s->current = queued;
            return true;
        }
        events_pop(s);
        if (!has_items(queued)) {
            event_of_frame(&queued->frame, event);
            s->current = queued;
            return true;
        }
        queued_done(s->client, queued);
    }
    return false;
}
