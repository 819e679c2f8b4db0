/* What became of published records. Each PUBLISH frame stands in a ring, in order of its numbers, until all its records
 * are answered for; the last ones in it are not sent yet. The client's thread and, when a send ends, a poller's, with
 * the lock held; it is released around the user's callback. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "clients/lib/client.h"

/* --------------------------------------------------------------------------------------------- the ring */

struct unacked *unacked_at(const struct publisher *publisher, size_t i)
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

void unacked_fini(struct publisher *publisher)
{
    for (size_t i = 0; i < publisher->unacked_count; i++)
        free(unacked_at(publisher, i)->kept);
    free(publisher->unacked);
    publisher->unacked = NULL;
    publisher->unacked_count = publisher->unacked_capacity = 0;
}

void unacked_release(struct publisher *publisher, struct unacked *frame)
{
    if (frame->kept == NULL)
        return;
    free(frame->kept);
    frame->kept = NULL;
    publisher->kept_bytes -= frame->kept_size;
    publisher->kept_records -= frame->count;
}

void unacked_pop(struct publisher *publisher)
{
    publisher->unacked_start = (publisher->unacked_start + 1) & (publisher->unacked_capacity - 1);
    publisher->unacked_count--;
}

const struct unacked *unacked_oldest(const struct publisher *publisher)
{
    return publisher->unacked_count == 0 ? NULL : unacked_at(publisher, 0);
}

size_t unacked_sent_count(const struct publisher *publisher)
{
    return publisher->unacked_count - publisher->unsent_count;
}

static void unacked_trim(struct publisher *publisher)
{
    while (unacked_sent_count(publisher) > publisher->sending_count && unacked_at(publisher, 0)->remaining == 0) {
        unacked_release(publisher, unacked_at(publisher, 0));
        unacked_pop(publisher);
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
    size_t end = unacked_sent_count(publisher);
    for (size_t i = end - publisher->sending_count; i < end; i++) {
        struct unacked *frame = unacked_at(publisher, i);
        if (frame->ack == ACK_NONE)
            frame->remaining = 0;
    }
    publisher->sending_count = 0;
    unacked_trim(publisher);
}

/* -------------------------------------------------------------------------------------------- outcomes */

/* on_outcome first: who waits for the record is told when that is back. */
void outcome_tell(struct weir *client, const struct outcome *outcome)
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
        (void)snprintf(w->reason, sizeof w->reason, "%s", outcome->reason);
        w->seq.epoch = outcome->epoch;
        w->seq.seq = outcome->seq == 0 ? 0 : outcome->seq + (outcome->error ? 0 : w->number - outcome->number);
    }
    pthread_cond_broadcast(&client->changed);
}

/* Where a refusal of records from to to - 1 of the frame begins to answer for them: accepted ones that were acked may
 * be refused after all, which leaves what is open as it is. An ack always does. */
static uint64_t answer_begin(const struct unacked *frame, uint64_t from, uint64_t to, bool is_refusal)
{
    uint64_t taken_end = frame->number + frame->taken_count;
    if (!is_refusal || taken_end <= from)
        return from;
    return taken_end < to ? taken_end : to;
}

/* The frame's records from to to - 1 are answered for; false when they were before. */
static bool answer_settle(struct unacked *frame, uint64_t from, uint64_t to, bool is_refusal)
{
    if (to - from > frame->remaining)
        return false;
    frame->remaining -= (uint32_t)(to - from);
    if (frame->ack == ACK_ACCEPTED && !is_refusal)
        frame->taken_count = (uint32_t)(to - frame->number);
    return true;
}

/* Takes the records numbered number to number + count - 1 off the frames that were sent; false when one of them was not
 * sent, or answered before. Records without ack are not waited for, but may still be refused. */
static bool outcome_settle(struct publisher *publisher, uint64_t number, uint32_t count, bool is_refusal)
{
    uint64_t end = number + count;
    size_t sent = unacked_sent_count(publisher);
    uint64_t settled = 0, late = 0;
    if (count == 0 || number < publisher->lowest_number || end > publisher->next_number)
        return false;
    for (size_t i = unacked_find(publisher, number); i < sent; i++) {
        struct unacked *frame = unacked_at(publisher, i);
        if (frame->number >= end)
            break;
        uint64_t from = frame->number > number ? frame->number : number;
        uint64_t to = frame->number + frame->count < end ? frame->number + frame->count : end;
        if (frame->ack == ACK_NONE)
            continue;
        uint64_t begin = answer_begin(frame, from, to, is_refusal);
        if (!answer_settle(frame, begin, to, is_refusal))
            return false;
        settled += to - begin;
        late += begin - from;
    }
    unacked_trim(publisher);
    return settled + late == count || (is_refusal && settled == 0);
}

/* Takes what an answer says of records from number on off the frame that has them: *part, count 0 where that was told
 * on an earlier connection; returns the number behind. 0: nobody waits for that answer. */
static uint64_t part_settle(struct publisher *publisher, const struct outcome *whole, uint64_t number,
                            struct outcome *part)
{
    uint64_t end = whole->number + whole->count;
    size_t at = unacked_find(publisher, number);
    struct unacked *frame = at < unacked_sent_count(publisher) ? unacked_at(publisher, at) : NULL;
    bool is_between = frame == NULL || frame->number > number;
    uint64_t part_end = is_between ? (frame == NULL ? end : frame->number) : frame->number + frame->count;
    part_end = part_end < end ? part_end : end;
    bool is_waited_for = !is_between && frame->ack != ACK_NONE;
    if (!is_waited_for && whole->error == WEIR_OK)
        return 0;
    uint64_t from = number,
             begin = is_waited_for ? answer_begin(frame, number, part_end, whole->error != WEIR_OK) : number;
    if (begin > number) {
        part_end = begin;
    } else if (is_waited_for) {
        /* Answers come in order within a frame, so that its last records are the open ones. */
        uint64_t open = frame->number + frame->count - frame->remaining;
        if (frame->is_resent && open > from)
            from = open < part_end ? open : part_end;
        if (!answer_settle(frame, from, part_end, whole->error != WEIR_OK))
            return 0;
    }
    *part = *whole;
    part->number = from;
    part->count = (uint32_t)(part_end - from);
    if (whole->error == WEIR_OK && whole->seq != 0)
        part->seq = whole->seq + (from - whole->number);
    unacked_trim(publisher);
    return part_end;
}

/* The same frame by frame, for a publisher whose frames may have been answered in part before. */
static void on_answer_again(struct weir *client, const struct outcome *outcome)
{
    struct publisher *publisher = &client->publisher;
    uint64_t number = outcome->number, end = outcome->number + outcome->count;
    struct outcome part;
    bool is_known = outcome->count > 0 && number >= publisher->lowest_number && end <= publisher->next_number;
    while (is_known && number < end) {
        number = part_settle(publisher, outcome, number, &part);
        is_known = number != 0;
        if (!is_known || part.count == 0)
            continue;
        *(outcome->error != WEIR_OK ? &client->counts.refused : &client->counts.acked) += part.count;
        outcome_tell(client, &part);
    }
    if (!is_known)
        link_close(client, WEIR_PROTOCOL, "the broker answered for records that wait for no answer");
}

static void on_answer(struct weir *client, const struct outcome *outcome)
{
    bool is_refusal = outcome->error != WEIR_OK;
    if (client->publisher_name != NULL) {
        on_answer_again(client, outcome);
        return;
    }
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
                                        .seq = frame->as.refused.seq,
                                        .reason = reason});
}
