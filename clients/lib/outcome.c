/* What became of published records. Each PUBLISH frame stands in a ring, in order of its numbers, until all its records
 * are answered for; the last ones in it are not sent yet. The client's thread and, when a send ends, nng's, with the
 * lock held; it is released around the user's callback. */
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "clients/lib/client.h"

/* --------------------------------------------------------------------------------------------- the ring */

static struct unacked *unacked_at(const struct publisher *publisher, size_t i)
{
    return &publisher->unacked[(publisher->unacked_start + i) & (publisher->unacked_capacity - 1)];
}

bool unacked_reserve(struct publisher *publisher)
{
    if (publisher->unacked_count < publisher->unacked_capacity)
        return true;
    size_t capacity = publisher->unacked_capacity == 0 ? 64 : publisher->unacked_capacity * 2;
    struct unacked *grown = malloc(capacity * sizeof *grown);
    if (grown == NULL)
        return false;
    for (size_t i = 0; i < publisher->unacked_count; i++)
        grown[i] = *unacked_at(publisher, i);
    free(publisher->unacked);
    publisher->unacked = grown;
    publisher->unacked_start = 0;
    publisher->unacked_capacity = capacity;
    return true;
}

void unacked_push(struct publisher *publisher, const struct unacked *frame)
{
    INVARIANT(publisher->unacked_count < publisher->unacked_capacity);
    *unacked_at(publisher, publisher->unacked_count++) = *frame;
    publisher->unsent_count++;
}

const struct unacked *unacked_oldest(const struct publisher *publisher)
{
    return publisher->unacked_count == 0 ? NULL : unacked_at(publisher, 0);
}

static size_t sent_count(const struct publisher *publisher)
{
    return publisher->unacked_count - publisher->unsent_count;
}

static void unacked_trim(struct publisher *publisher)
{
    while (sent_count(publisher) > publisher->sending_count && unacked_at(publisher, 0)->remaining == 0) {
        publisher->unacked_start = (publisher->unacked_start + 1) & (publisher->unacked_capacity - 1);
        publisher->unacked_count--;
    }
}

/* The first frame that ends behind number. */
static size_t unacked_find(const struct publisher *publisher, uint64_t number)
{
    size_t low = 0, high = publisher->unacked_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct unacked *frame = unacked_at(publisher, middle);
        if (frame->number + frame->count <= number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void publisher_on_sending(struct weir *client)
{
    struct publisher *publisher = &client->publisher;
    INVARIANT(publisher->unsent_count > 0);
    publisher->unsent_count--;
    publisher->sending_count++;
}

void publisher_on_sent(struct weir *client)
{
    struct publisher *publisher = &client->publisher;
    size_t end = sent_count(publisher);
    for (size_t i = end - publisher->sending_count; i < end; i++) {
        struct unacked *frame = unacked_at(publisher, i);
        if (frame->ack == ACK_NONE)
            frame->remaining = 0;
    }
    publisher->sending_count = 0;
    unacked_trim(publisher);
}

/* -------------------------------------------------------------------------------------------- outcomes */

struct outcome {
    uint64_t number;
    uint32_t count;
    enum weir_error error;
    uint64_t epoch, seq;
    const char *reason;
};

/* The callback comes first, so that who waits for the outcome finds what it left. */
/* on_outcome first: who waits for the record is told when that is back. */
static void outcome_tell(struct weir *client, const struct outcome *outcome)
{
    if (client->options.on_outcome != NULL) {
        client->publisher.is_telling = true;
        pthread_mutex_unlock(&client->lock);
        client->options.on_outcome(client, outcome->number, outcome->count, outcome->error, outcome->epoch,
                                   outcome->seq, outcome->reason, client->options.context);
        pthread_mutex_lock(&client->lock);
        client->publisher.is_telling = false;
    }
    for (struct publish_waiter *w = client->publisher.waiters; w != NULL; w = w->next) {
        if (w->is_done || w->number < outcome->number || w->number - outcome->number >= outcome->count)
            continue;
        w->is_done = true;
        w->outcome = outcome->error;
        w->seq.epoch = outcome->epoch;
        w->seq.seq = outcome->seq == 0 ? 0 : outcome->seq + (w->number - outcome->number);
    }
    pthread_cond_broadcast(&client->changed);
}

/* Takes the records numbered number to number + count - 1 off the frames that were sent; false when one of them was not
 * sent, or answered before. Records without ack are not waited for, but may still be refused. */
static bool outcome_settle(struct publisher *publisher, uint64_t number, uint32_t count, bool is_refusal)
{
    uint64_t end = number + count;
    size_t sent = sent_count(publisher);
    uint64_t settled = 0;
    if (count == 0 || number == 0 || end > publisher->next_number)
        return false;
    for (size_t i = unacked_find(publisher, number); i < sent; i++) {
        struct unacked *frame = unacked_at(publisher, i);
        if (frame->number >= end)
            break;
        uint64_t from = frame->number > number ? frame->number : number;
        uint64_t to = frame->number + frame->count < end ? frame->number + frame->count : end;
        if (frame->ack == ACK_NONE)
            continue;
        if (to - from > frame->remaining)
            return false;
        frame->remaining -= (uint32_t)(to - from);
        settled += to - from;
    }
    unacked_trim(publisher);
    return settled == count || (is_refusal && settled == 0);
}

static void on_answer(struct weir *client, const struct outcome *outcome)
{
    bool is_refusal = outcome->error != WEIR_OK;
    if (!outcome_settle(&client->publisher, outcome->number, outcome->count, is_refusal)) {
        link_close(client, WEIR_PROTOCOL, "the broker answered for records that wait for no answer");
        return;
    }
    *(is_refusal ? &client->counts.refused : &client->counts.acked) += outcome->count;
    outcome_tell(client, outcome);
}

void publisher_on_ack(struct weir *client, const struct frame *frame)
{
    on_answer(client, &(struct outcome){.number = frame->as.ack.number,
                                        .count = frame->as.ack.count,
                                        .epoch = frame->as.ack.epoch,
                                        .seq = frame->as.ack.seq,
                                        .reason = ""});
}

void publisher_on_refused(struct weir *client, const struct frame *frame)
{
    char reason[256];
    struct view message = frame->as.refused.message, code = frame->as.refused.code;
    size_t size = message.size < sizeof reason - 1 ? message.size : sizeof reason - 1;
    memcpy(reason, message.data, size);
    reason[size] = '\0';
    enum weir_error error = weir_error_from_code((const char *)code.data, code.size);
    on_answer(client, &(struct outcome){.number = frame->as.refused.number,
                                        .count = frame->as.refused.count,
                                        .error = error == WEIR_OK ? WEIR_INTERNAL : error,
                                        .reason = reason});
}

/* ------------------------------------------------------------------------------------ losses and bounds */

/* The oldest frame is done with, with whatever of it was not answered. Answers come in order within a frame, so that
 * its last records are the open ones. */
static void oldest_give_up(struct weir *client, const char *reason)
{
    struct publisher *publisher = &client->publisher;
    struct unacked frame = *unacked_at(publisher, 0);
    publisher->unacked_start = (publisher->unacked_start + 1) & (publisher->unacked_capacity - 1);
    publisher->unacked_count--;
    if (frame.remaining == 0)
        return;
    client->counts.unknown += frame.remaining;
    outcome_tell(client, &(struct outcome){.number = frame.number + frame.count - frame.remaining,
                                           .count = frame.remaining,
                                           .error = WEIR_CLOSED,
                                           .reason = reason});
}

/* What was sent and not answered may or may not have been folded; what was not sent waits for the next connection. */
void publisher_on_link_down(struct weir *client)
{
    struct publisher *publisher = &client->publisher;
    publisher->sending_count = 0;
    while (sent_count(publisher) > 0)
        oldest_give_up(client, "the connection was lost before an answer came");
}

void publisher_on_over(struct weir *client)
{
    struct publisher *publisher = &client->publisher;
    publisher_on_link_down(client);
    while (publisher->unacked_count > 0) {
        publisher->unsent_count--;
        oldest_give_up(client, "the client ended before it was sent");
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

/* The size of the body of the message at `at` in link.data; *whole with its prefix. */
static size_t data_body(const struct link *link, size_t at, size_t *whole)
{
    size_t offset = 0, size = 0, needed = 0;
    enum weir_error error =
        sp_message_find(link->data.data + at, link->data.end - at, link->is_ipc, SIZE_MAX / 2, &offset, &size, &needed);
    INVARIANT(error == WEIR_OK);
    *whole = offset + size;
    return size;
}

static bool data_has_larger(const struct link *link, size_t size_max)
{
    size_t whole = 0;
    for (size_t at = link->data.start; at < link->data.end; at += whole) {
        if (data_body(link, at, &whole) > size_max)
            return true;
    }
    return false;
}

/* Takes the unsent frames that the broker would not, off data and ring; returns how many, and them in *taken. */
static size_t larger_take(struct weir *client, struct unacked *taken)
{
    struct publisher *publisher = &client->publisher;
    struct link *link = &client->link;
    size_t kept_end = link->data.start, kept_count = 0, taken_count = 0, whole = 0, at = link->data.start;
    for (size_t i = 0; i < publisher->unacked_count; i++, at += whole) {
        struct unacked frame = *unacked_at(publisher, i);
        if (data_body(link, at, &whole) > link->message_max) {
            taken[taken_count++] = frame;
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

void publisher_on_link_up(struct weir *client)
{
    struct publisher *publisher = &client->publisher;
    INVARIANT(sent_count(publisher) == 0);
    publisher_close_batch(client); /* made by the old bound, as the others */
    if (!data_has_larger(&client->link, client->link.message_max))
        return;
    struct unacked *taken = malloc(publisher->unacked_count * sizeof *taken);
    if (taken == NULL) {
        link_close(client, WEIR_NO_MEMORY, "no memory to go through what waits");
        return;
    }
    size_t count = larger_take(client, taken);
    for (size_t i = 0; i < count; i++) {
        client->counts.refused += taken[i].count;
        outcome_tell(client, &(struct outcome){.number = taken[i].number,
                                               .count = taken[i].count,
                                               .error = WEIR_TOO_BIG,
                                               .reason = "the broker that answers now takes only smaller messages"});
    }
    free(taken);
}
