/* Publishing: records are gathered into PUBLISH frames, one topic and ack level each. While the line is idle a record goes
 * out at once; while a send is under way they gather, so that the batch grows with the load and not with a timer. Users'
 * threads and the client's, with the lock held. */
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "actors/base/limits.h"
#include "clients/lib/client.h"
#include "clients/wire/name.h"

enum {
    BATCH_SIZE_MAX = 64 * 1024,     /* a frame beyond this gains nothing and delays what comes behind it */
    BATCH_COUNT_MAX = 4096,
    UNACKED_MAX = 65536,            /* frames with outcomes to come; beyond it publishing waits */
    VALUE_HEAD_MAX = 5,             /* a str or bin header */
};

/* ------------------------------------------------------------------------------------ frames not done with */

static struct unacked *unacked_at(struct publisher *publisher, size_t i)
{
    return &publisher->unacked[(publisher->unacked_start + i) % publisher->unacked_capacity];
}

static bool unacked_reserve(struct publisher *publisher)
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

static void unacked_trim(struct publisher *publisher)
{
    while (publisher->unacked_count > publisher->unsent_count && unacked_at(publisher, 0)->remaining == 0) {
        publisher->unacked_start = (publisher->unacked_start + 1) % publisher->unacked_capacity;
        publisher->unacked_count--;
    }
}

/* The first frame that ends behind number. */
static size_t unacked_find(struct publisher *publisher, uint64_t number)
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
    struct unacked *frame = unacked_at(publisher, publisher->unacked_count - publisher->unsent_count);
    publisher->unsent_count--;
    if (frame->ack == ACK_NONE)
        frame->remaining = 0;
    unacked_trim(publisher);
}

/* -------------------------------------------------------------------------------------------- the batch */

void publisher_close_batch(struct weir *client)
{
    struct publisher *publisher = &client->publisher;
    if (publisher->count == 0)
        return;
    struct frame frame = {.op = FRAME_PUBLISH};
    frame.as.publish.topic = view_text(publisher->topic);
    frame.as.publish.number = publisher->first_number;
    frame.as.publish.ack = publisher->ack;
    frame.as.publish.count = publisher->count;
    uint8_t head[FRAME_HEAD_SIZE_MAX];
    struct value_writer writer;
    value_writer_init(&writer, head, sizeof head);
    frame_head_write(&writer, &frame);
    INVARIANT(!writer.is_full);
    if (!outbuf_message(&client->link.data, client->link.is_ipc, view_of(head, writer.size),
                        view_of(publisher->items, publisher->items_size))) {
        return; /* no memory now: the batch stays and is tried again with the next send */
    }
    INVARIANT(publisher->unacked_count < publisher->unacked_capacity);
    *unacked_at(publisher, publisher->unacked_count++) =
        (struct unacked){publisher->first_number, publisher->count, publisher->count, publisher->ack};
    publisher->unsent_count++;
    publisher->count = 0;
    publisher->items_size = 0;
    publisher->first_number = publisher->next_number;
}

static bool batch_takes(const struct publisher *publisher, const struct weir_record *record, size_t need)
{
    return publisher->count == 0 ||
           (publisher->items_size + need <= BATCH_SIZE_MAX && publisher->count < BATCH_COUNT_MAX &&
            publisher->ack == (enum ack_level)record->ack && strcmp(publisher->topic, record->topic) == 0);
}

static bool batch_reserve(struct publisher *publisher, size_t need)
{
    size_t wanted = publisher->items_size + need;
    if (wanted <= publisher->items_capacity)
        return true;
    size_t capacity = wanted > BATCH_SIZE_MAX ? wanted : BATCH_SIZE_MAX;
    uint8_t *items = realloc(publisher->items, capacity);
    if (items == NULL)
        return false;
    publisher->items = items;
    publisher->items_capacity = capacity;
    return true;
}

static uint64_t batch_add(struct publisher *publisher, const struct weir_record *record)
{
    struct value_writer writer;
    value_writer_init(&writer, publisher->items + publisher->items_size,
                      publisher->items_capacity - publisher->items_size);
    if (record->key != NULL)
        value_write_str(&writer, view_text(record->key));
    else
        value_write_nil(&writer);
    struct view value = view_of(record->value, record->value_size);
    if (record->form == WEIR_TEXT)
        value_write_str(&writer, value);
    else if (record->form == WEIR_BYTES)
        value_write_bin(&writer, value);
    else
        value_write_raw(&writer, value);
    INVARIANT(!writer.is_full);
    publisher->items_size += writer.size;
    if (publisher->count++ == 0) {
        publisher->first_number = publisher->next_number;
        publisher->ack = (enum ack_level)record->ack;
        memcpy(publisher->topic, record->topic, strlen(record->topic) + 1);
    }
    return publisher->next_number++;
}

/* ------------------------------------------------------------------------------------------ publishing */

static enum weir_error record_check(const struct weir_record *record)
{
    size_t scanned = 0;
    struct view value = view_of(record->value, record->value_size);
    enum weir_error error = name_check(view_text(record->topic), NULL);
    if (error != WEIR_OK)
        return error;
    if (record->ack < WEIR_ACK_NONE || record->ack > WEIR_ACK_DURABLE || record->value_size > UINT32_MAX)
        return WEIR_BAD_REQUEST;
    if (record->key != NULL && strlen(record->key) > KEY_SIZE_MAX)
        return WEIR_TOO_BIG;
    if (record->form != WEIR_MSGPACK)
        return WEIR_OK;
    error = value_scan(value, CLIENT_DEPTH_MAX, &scanned);
    return error != WEIR_OK || scanned != value.size ? WEIR_BAD_REQUEST : WEIR_OK;
}

static size_t record_need(const struct weir_record *record)
{
    return (record->key != NULL ? strlen(record->key) : 0) + record->value_size + 2 * VALUE_HEAD_MAX;
}

/* There is room when the buffer takes the record, or is empty: one record of any size always gets its turn. */
static bool publisher_has_room(const struct weir *client, size_t need)
{
    const struct publisher *publisher = &client->publisher;
    size_t waiting = publisher->items_size + outbuf_size(&client->link.data);
    return publisher->unacked_count < UNACKED_MAX &&
           (waiting == 0 || waiting + need <= client->options.publish_buffer_bytes);
}

static enum weir_error publisher_add(struct weir *client, const struct weir_record *record, size_t need,
                                     uint64_t *number)
{
    struct publisher *publisher = &client->publisher;
    if (client->link.message_max != 0 && need + FRAME_HEAD_SIZE_MAX > client->link.message_max)
        return WEIR_TOO_BIG;
    if (!batch_takes(publisher, record, need)) {
        publisher_close_batch(client);
        if (publisher->count > 0)
            return WEIR_NO_MEMORY;
    }
    if (!batch_reserve(publisher, need) || !unacked_reserve(publisher))
        return WEIR_NO_MEMORY;
    uint64_t given = batch_add(publisher, record);
    if (number != NULL)
        *number = given;
    client->counts.published++;
    link_pump(client);
    return WEIR_OK;
}

enum weir_error weir_publish(struct weir *client, const struct weir_record *record, uint64_t timeout_ms,
                             uint64_t *number)
{
    MAGIC_CHECK(client, CLIENT_MAGIC);
    enum weir_error error = record_check(record);
    if (error != WEIR_OK)
        return error;
    size_t need = record_need(record);
    pthread_mutex_lock(&client->lock);
    bool may_wait = timeout_ms > 0 && !client_is_own_thread(client);
    uint64_t deadline = deadline_after_ms(timeout_ms);
    while (!client->is_over && !publisher_has_room(client, need)) {
        if (!may_wait || !client_wait(client, deadline)) {
            error = WEIR_BUSY;
            break;
        }
    }
    if (client->is_over)
        error = WEIR_CLOSED;
    if (error == WEIR_OK)
        error = publisher_add(client, record, need, number);
    pthread_mutex_unlock(&client->lock);
    return error;
}

enum weir_error weir_publish_wait(struct weir *client, const struct weir_record *record, uint64_t timeout_ms,
                                  struct weir_seq *out)
{
    MAGIC_CHECK(client, CLIENT_MAGIC);
    if (record->ack == WEIR_ACK_NONE)
        return WEIR_BAD_REQUEST;
    if (client_is_own_thread(client))
        return WEIR_FORBIDDEN;
    uint64_t deadline = deadline_after_ms(timeout_ms);
    struct publish_waiter waiter = {.outcome = WEIR_TIMEOUT};
    pthread_mutex_lock(&client->lock);
    enum weir_error error = record_check(record);
    size_t need = error == WEIR_OK ? record_need(record) : 0;
    while (error == WEIR_OK && !client->is_over && !publisher_has_room(client, need)) {
        if (!client_wait(client, deadline))
            error = WEIR_BUSY;
    }
    if (error == WEIR_OK)
        error = client->is_over ? WEIR_CLOSED : publisher_add(client, record, need, &waiter.number);
    if (error == WEIR_OK) {
        waiter.next = client->publisher.waiters;
        client->publisher.waiters = &waiter;
        while (!waiter.is_done && !client->is_over && client_wait(client, deadline)) {
        }
        struct publish_waiter **at = &client->publisher.waiters;
        while (*at != &waiter)
            at = &(*at)->next;
        *at = waiter.next;
        error = waiter.is_done ? waiter.outcome : client->is_over ? WEIR_CLOSED : WEIR_TIMEOUT;
        if (out != NULL)
            *out = waiter.seq;
    }
    pthread_mutex_unlock(&client->lock);
    return error;
}

bool publisher_is_idle(const struct weir *client)
{
    const struct publisher *publisher = &client->publisher;
    return publisher->count == 0 && publisher->unacked_count == 0 && outbuf_size(&client->link.data) == 0 &&
           !client->link.is_sending;
}

enum weir_error weir_flush(struct weir *client, uint64_t timeout_ms)
{
    MAGIC_CHECK(client, CLIENT_MAGIC);
    if (client_is_own_thread(client))
        return WEIR_FORBIDDEN;
    uint64_t deadline = deadline_after_ms(timeout_ms);
    enum weir_error error = WEIR_OK;
    pthread_mutex_lock(&client->lock);
    link_pump(client);
    while (error == WEIR_OK && !publisher_is_idle(client)) {
        if (client->is_over)
            error = WEIR_CLOSED;
        else if (!client_wait(client, deadline))
            error = WEIR_TIMEOUT;
    }
    pthread_mutex_unlock(&client->lock);
    return error;
}

/* -------------------------------------------------------------------------------------------- outcomes */

struct outcome {
    uint64_t number;
    uint32_t count;
    enum weir_error error;
    uint64_t epoch, seq;
    const char *reason;
};

static void outcome_tell(struct weir *client, const struct outcome *outcome)
{
    for (struct publish_waiter *w = client->publisher.waiters; w != NULL; w = w->next) {
        if (w->is_done || w->number < outcome->number || w->number - outcome->number >= outcome->count)
            continue;
        w->is_done = true;
        w->outcome = outcome->error;
        w->seq = (struct weir_seq){outcome->epoch, outcome->seq + (w->number - outcome->number)};
    }
    pthread_cond_broadcast(&client->changed);
    if (client->options.on_outcome == NULL)
        return;
    pthread_mutex_unlock(&client->lock);
    client->options.on_outcome(client, outcome->number, outcome->count, outcome->error, outcome->epoch, outcome->seq,
                               outcome->reason, client->options.context);
    pthread_mutex_lock(&client->lock);
}

/* Takes the records numbered from outcome->number off the frames not done with. */
static void outcome_settle(struct weir *client, const struct outcome *outcome)
{
    struct publisher *publisher = &client->publisher;
    uint64_t end = outcome->number + outcome->count;
    size_t sent_count = publisher->unacked_count - publisher->unsent_count;
    for (size_t i = unacked_find(publisher, outcome->number); i < sent_count; i++) {
        struct unacked *frame = unacked_at(publisher, i);
        if (frame->number >= end)
            break;
        uint64_t from = frame->number > outcome->number ? frame->number : outcome->number;
        uint64_t to = frame->number + frame->count < end ? frame->number + frame->count : end;
        uint32_t settled = (uint32_t)(to - from);
        frame->remaining -= settled < frame->remaining ? settled : frame->remaining;
    }
    unacked_trim(publisher);
    outcome_tell(client, outcome);
}

void publisher_on_ack(struct weir *client, const struct frame *frame)
{
    client->counts.acked += frame->as.ack.count;
    outcome_settle(client, &(struct outcome){.number = frame->as.ack.number,
                                             .count = frame->as.ack.count,
                                             .epoch = frame->as.ack.epoch,
                                             .seq = frame->as.ack.seq,
                                             .reason = ""});
}

void publisher_on_refused(struct weir *client, const struct frame *frame)
{
    char reason[256];
    size_t size = frame->as.refused.message.size < sizeof reason - 1 ? frame->as.refused.message.size : sizeof reason - 1;
    memcpy(reason, frame->as.refused.message.data, size);
    reason[size] = '\0';
    client->counts.refused += frame->as.refused.count;
    struct view code = frame->as.refused.code;
    outcome_settle(client, &(struct outcome){.number = frame->as.refused.number,
                                             .count = frame->as.refused.count,
                                             .error = weir_error_from_code((const char *)code.data, code.size),
                                             .reason = reason});
}

/* What was sent and not answered may or may not have been folded; what was not sent waits for the next connection. */
void publisher_on_link_down(struct weir *client)
{
    struct publisher *publisher = &client->publisher;
    while (publisher->unacked_count > publisher->unsent_count) {
        struct unacked frame = *unacked_at(publisher, 0);
        unacked_at(publisher, 0)->remaining = 0;
        unacked_trim(publisher);
        if (frame.remaining == 0)
            continue;
        client->counts.unknown += frame.remaining;
        outcome_tell(client, &(struct outcome){.number = frame.number,
                                               .count = frame.count,
                                               .error = WEIR_CLOSED,
                                               .reason = "the connection was lost before an answer came"});
    }
}

void publisher_fini(struct weir *client)
{
    free(client->publisher.items);
    free(client->publisher.unacked);
}
