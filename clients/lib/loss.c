/* Published frames when the connection goes and comes: what was sent and not answered is unknown, or goes out again
 * where the publisher has a name; what was not sent waits, unless the next broker would not take it. The client's
 * thread, with the lock held; it is released around the user's callback. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "clients/lib/client.h"

/* The connection's end, and its own reason where it has one: of a broker that closed the session, or of the kernel. */
struct lost {
    char text[256];
};

static struct lost lost_of(const struct weir *client)
{
    struct lost lost;
    const char *why = client->link.reason;
    (void)snprintf(lost.text, sizeof lost.text, "the connection was lost before an answer came%s%s",
                   why[0] != '\0' ? ": " : "", why);
    return lost;
}

/* Whatever of the frame was not answered never will be. Answers come in order within a frame, so that its last records
 * are the open ones. */
static void frame_give_up(struct weir *client, const struct unacked *frame, const char *reason)
{
    if (frame->remaining == 0)
        return;
    client->counts.unknown += frame->remaining;
    outcome_tell(client, &(struct outcome){.number = frame->number + frame->count - frame->remaining,
                                           .count = frame->remaining,
                                           .error = WEIR_CLOSED,
                                           .reason = reason});
}

static void oldest_give_up(struct weir *client, const char *reason)
{
    struct publisher *publisher = &client->publisher;
    unacked_release(publisher, unacked_at(publisher, 0));
    struct unacked frame = *unacked_at(publisher, 0);
    unacked_pop(publisher);
    frame_give_up(client, &frame, reason);
}

/* ---------------------------------------------------------------------------------------------- the loss */

/* link.data as it is to be: what was sent and is still open, then what was not sent. False without memory. */
static bool data_again(const struct weir *client, struct outbuf *again)
{
    const struct publisher *publisher = &client->publisher;
    const struct outbuf *data = &client->link.data;
    for (size_t i = 0; i < unacked_sent_count(publisher); i++) {
        const struct unacked *frame = unacked_at(publisher, i);
        if (frame->remaining > 0 && frame->kept != NULL &&
            !outbuf_append(again, view_of(frame->kept, frame->kept_size)))
            return false;
    }
    return outbuf_size(data) == 0 || outbuf_append(again, view_of(data->data + data->start, outbuf_size(data)));
}

/* A publisher with a name sends what was not answered again, before what was not sent yet. Records without ack are not
 * kept; those of them that did not get to the kernel are put into given_up, which has room for all that were sent. */
static size_t sent_requeue(struct publisher *publisher, struct unacked *given_up)
{
    size_t sent = unacked_sent_count(publisher), kept = 0, given_up_count = 0;
    for (size_t i = 0; i < publisher->unacked_count; i++) {
        struct unacked frame = *unacked_at(publisher, i);
        if (i < sent && frame.remaining == 0) {
            unacked_release(publisher, &frame);
        } else if (i < sent && frame.kept == NULL) {
            given_up[given_up_count++] = frame;
        } else {
            frame.is_resent = frame.is_resent || i < sent;
            frame.taken_count = 0;
            *unacked_at(publisher, kept++) = frame;
        }
    }
    publisher->unacked_count = publisher->unsent_count = kept;
    return given_up_count;
}

void publisher_on_link_down(struct weir *client)
{
    struct publisher *publisher = &client->publisher;
    struct outbuf again = {.data = NULL};
    struct lost lost = lost_of(client);
    publisher->sending_count = 0;
    struct unacked *given_up = NULL;
    if (client->publisher_name != NULL && unacked_sent_count(publisher) > 0)
        given_up = malloc(unacked_sent_count(publisher) * sizeof *given_up);
    if (given_up == NULL || !data_again(client, &again)) {
        free(given_up);
        free(again.data);
        while (unacked_sent_count(publisher) > 0)
            oldest_give_up(client, lost.text);
        return;
    }
    size_t count = sent_requeue(publisher, given_up);
    free(client->link.data.data);
    client->link.data = again;
    for (size_t i = 0; i < count; i++)
        frame_give_up(client, &given_up[i], lost.text);
    free(given_up);
}

void publisher_on_over(struct weir *client)
{
    struct publisher *publisher = &client->publisher;
    struct lost lost = lost_of(client);
    publisher_on_link_down(client);
    while (publisher->unacked_count > 0) {
        bool is_resent = unacked_at(publisher, 0)->is_resent;
        publisher->unsent_count--;
        oldest_give_up(client, is_resent ? lost.text : "the client ended before it was sent");
    }
    outbuf_clear(&client->link.data);
    if (publisher->count == 0)
        return;
    struct outcome outcome = {.number = publisher->first_number,
                              .count = publisher->count,
                              .error = WEIR_CLOSED,
                              .reason = "the client ended before it was sent"};
    client->counts.unknown += publisher->count;
    publisher->count = 0;
    publisher->items_size = 0;
    outcome_tell(client, &outcome);
}

/* ---------------------------------------------------------------------------------------- the next broker */

/* The body of the message at `at` in link.data; *whole: its size with its prefix. */
static struct view data_body(const struct link *link, size_t at, size_t *whole)
{
    size_t offset = 0, size = 0, needed = 0;
    enum weir_error error =
        sp_message_find(link->data.data + at, link->data.end - at, link->is_ipc, SIZE_MAX / 2, &offset, &size, &needed);
    INVARIANT(error == WEIR_OK);
    *whole = offset + size;
    return view_of(link->data.data + at + offset, size);
}

static bool body_is_shallow(struct view body, unsigned depth_max)
{
    struct frame frame;
    return frame_read(body, CLIENT_DEPTH_MAX, &frame, NULL) == WEIR_OK &&
           items_are_whole(frame.as.publish.items, depth_max, frame.as.publish.count);
}

/* What becomes of a frame that waits, at the broker that answers now. */
struct verdict {
    enum weir_error error; /* WEIR_OK: it is sent. WEIR_CLOSED: it is given up */
    const char *reason;
};

/* is_shallower: its records were checked for a broker that takes deeper values. */
static struct verdict frame_check(const struct link *link, const struct unacked *frame, struct view body,
                                  bool is_shallower)
{
    if (body.size > link->message_max)
        return (struct verdict){WEIR_TOO_BIG, "the broker that answers now takes only smaller messages"};
    if (frame->count > 1 && frame->count > link->records_max)
        return (struct verdict){WEIR_TOO_BIG, "the broker that answers now takes fewer records in one message"};
    if (is_shallower && !body_is_shallow(body, atomic_load_explicit(&link->depth_max, memory_order_relaxed)))
        return (struct verdict){WEIR_BAD_REQUEST, "the broker that answers now takes no values nested so deeply"};
    if (link->takes_options)
        return (struct verdict){.error = WEIR_OK};
    if (frame->is_resent)
        return (struct verdict){WEIR_CLOSED,
                                "the broker that answers now knows no publishers, and might fold it twice"};
    return (struct verdict){frame->has_options ? WEIR_FORBIDDEN : WEIR_OK,
                            "the broker that answers now takes no options"};
}

static bool data_is_good(const struct weir *client, bool is_shallower)
{
    const struct link *link = &client->link;
    size_t whole = 0, at = link->data.start;
    for (size_t i = 0; i < client->publisher.unacked_count; i++, at += whole) {
        struct view body = data_body(link, at, &whole);
        if (frame_check(link, unacked_at(&client->publisher, i), body, is_shallower).error != WEIR_OK)
            return false;
    }
    return true;
}

struct refused {
    struct unacked frame;
    struct verdict verdict;
};

/* Takes the frames that are not for this broker off data and ring; returns how many, and them in *taken. */
static size_t frames_take(struct weir *client, bool is_shallower, struct refused *taken)
{
    struct publisher *publisher = &client->publisher;
    struct link *link = &client->link;
    size_t kept_end = link->data.start, kept_count = 0, taken_count = 0, whole = 0, at = link->data.start;
    for (size_t i = 0; i < publisher->unacked_count; i++, at += whole) {
        struct unacked frame = *unacked_at(publisher, i);
        struct verdict verdict = frame_check(link, &frame, data_body(link, at, &whole), is_shallower);
        if (verdict.error != WEIR_OK) {
            unacked_release(publisher, &frame);
            taken[taken_count++] = (struct refused){frame, verdict};
            continue;
        }
        memmove(link->data.data + kept_end, link->data.data + at, whole);
        kept_end += whole;
        *unacked_at(publisher, kept_count++) = frame;
    }
    link->data.end = kept_end;
    publisher->unacked_count = publisher->unsent_count = kept_count;
    return taken_count;
}

/* One that went out before may have been folded. */
static void refused_tell(struct weir *client, const struct refused *refused)
{
    const struct unacked *frame = &refused->frame;
    if (frame->is_resent) {
        frame_give_up(client, frame, refused->verdict.reason);
        return;
    }
    client->counts.refused += frame->remaining;
    outcome_tell(client, &(struct outcome){.number = frame->number + frame->count - frame->remaining,
                                           .count = frame->remaining,
                                           .error = refused->verdict.error,
                                           .reason = refused->verdict.reason});
}

void publisher_on_link_up(struct weir *client, bool is_shallower)
{
    struct publisher *publisher = &client->publisher;
    INVARIANT(unacked_sent_count(publisher) == 0);
    publisher_close_batch(client); /* made by the old bound, as the others */
    if (data_is_good(client, is_shallower))
        return;
    struct refused *taken = malloc(publisher->unacked_count * sizeof *taken);
    if (taken == NULL) {
        link_close(client, WEIR_NO_MEMORY, "no memory to go through what waits");
        return;
    }
    size_t count = frames_take(client, is_shallower, taken);
    for (size_t i = 0; i < count; i++)
        refused_tell(client, &taken[i]);
    free(taken);
}
