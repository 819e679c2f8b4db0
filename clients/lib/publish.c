/* Publishing: records are gathered into PUBLISH frames, one topic and ack level each. While the line is idle a record
 * goes out at once; while a send is under way they gather, so that the batch grows with the load and not with a timer.
 * Users' threads and the client's, with the lock held. */
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "actors/base/limits.h"
#include "clients/lib/client.h"
#include "clients/lib/reason.h"
#include "clients/wire/name.h"
#include "clients/wire/utf8.h"

enum {
    BATCH_SIZE_MAX = 16 * 1024, /* beyond this a frame gains nothing, and the broker copies more cut ones */
    BATCH_COUNT_MAX = 4096,
    UNACKED_MAX = 65536,   /* frames with outcomes to come; beyond it publishing waits */
    UNANSWERED_MAX = 4096, /* records of a publisher with a name: brokers remember so many */
    HEAD_MAX = 24,         /* of a PUBLISH frame, without the topic's text */
    OPTIONS_MAX = 48,      /* of a PUBLISH_WITH frame besides */
    VALUE_HEAD_MAX = 5,    /* a str or bin header */
};

/* -------------------------------------------------------------------------------------------- the batch */

static bool with_is_none(const struct publish_with *with)
{
    return !with->has_if_seq && with->ttl_ms == 0 && !with->bind;
}

/* The frame's own copy of its message, which stands at the end of link.data. */
static bool frame_keep(struct weir *client, struct unacked *frame, size_t data_size)
{
    if (client->publisher_name == NULL || frame->ack == ACK_NONE)
        return true;
    const struct outbuf *data = &client->link.data;
    frame->kept_size = outbuf_size(data) - data_size;
    frame->kept = malloc(frame->kept_size);
    if (frame->kept == NULL)
        return false;
    memcpy(frame->kept, data->data + data->end - frame->kept_size, frame->kept_size);
    client->publisher.kept_bytes += frame->kept_size;
    client->publisher.kept_records += frame->count;
    return true;
}

/* The head of the open batch's frame; returns its size. */
static size_t batch_head(const struct publisher *publisher, uint8_t head[FRAME_HEAD_SIZE_MAX])
{
    struct frame frame = {.op = with_is_none(&publisher->with) ? FRAME_PUBLISH : FRAME_PUBLISH_WITH};
    frame.as.publish.with = publisher->with;
    frame.as.publish.topic = view_of(publisher->topic, publisher->topic_size);
    frame.as.publish.number = publisher->first_number;
    frame.as.publish.ack = publisher->ack;
    frame.as.publish.count = publisher->count;
    struct value_writer writer;
    value_writer_init(&writer, head, FRAME_HEAD_SIZE_MAX);
    frame_head_write(&writer, &frame);
    INVARIANT(!writer.is_full);
    return writer.size;
}

/* The batch's frame stands in link.data, which had data_size bytes before: the batch is over. False: no memory to keep
 * a copy, and the frame is taken back. */
static bool batch_framed(struct weir *client, size_t data_size)
{
    struct publisher *publisher = &client->publisher;
    struct unacked unacked = {publisher->first_number, publisher->count, publisher->count, publisher->ack,
                              .has_options = !with_is_none(&publisher->with)};
    if (!frame_keep(client, &unacked, data_size)) {
        client->link.data.end = client->link.data.start + data_size;
        return false;
    }
    unacked_push(publisher, &unacked);
    publisher->count = 0;
    publisher->items_size = 0;
    publisher->first_number = publisher->next_number;
    return true;
}

void publisher_close_batch(struct weir *client)
{
    struct publisher *publisher = &client->publisher;
    if (publisher->count == 0)
        return;
    uint8_t head[FRAME_HEAD_SIZE_MAX];
    size_t head_size = batch_head(publisher, head), data_size = outbuf_size(&client->link.data);
    /* Without memory the batch stays and is tried again with the next send. */
    if (outbuf_message(&client->link.data, client->link.is_ipc, view_of(head, head_size),
                       view_of(publisher->items, publisher->items_size)))
        (void)batch_framed(client, data_size);
}

static bool record_has_options(const struct weir_record *record)
{
    return record->is_conditional || record->ttl_ms > 0 || record->bind;
}

/* What a frame takes beside its items: op, topic, number, ack and the heads of the arrays. */
static size_t head_need(const struct weir_record *record, size_t topic_size)
{
    return topic_size + HEAD_MAX + (record_has_options(record) ? OPTIONS_MAX : 0);
}

/* Whether the topic is that of the batch, or of the last one, whose name has been checked. */
static bool topic_is_last(const struct publisher *publisher, struct view topic)
{
    return topic.size > 0 && view_is_same(topic, view_of(publisher->topic, publisher->topic_size));
}

static bool batch_takes(const struct weir *client, const struct weir_record *record, struct view topic, size_t need,
                        size_t size_max)
{
    const struct publisher *publisher = &client->publisher;
    return publisher->count == 0 ||
           (publisher->items_size + need <= size_max && publisher->count < BATCH_COUNT_MAX &&
            publisher->count < client->link.records_max && !publisher->with.has_if_seq && !record->is_conditional &&
            publisher->with.ttl_ms == record->ttl_ms && publisher->with.bind == record->bind &&
            publisher->ack == (enum ack_level)record->ack && topic_is_last(publisher, topic));
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

/* The record's pair; returns its size. */
static size_t item_write(uint8_t *out, size_t capacity, const struct weir_record *record)
{
    struct value_writer writer;
    value_writer_init(&writer, out, capacity);
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
    return writer.size;
}

/* Counts the record as the batch's next one. */
static void batch_count(struct publisher *publisher, const struct weir_record *record, struct view topic)
{
    if (publisher->count++ > 0)
        return;
    publisher->first_number = publisher->next_number;
    publisher->ack = (enum ack_level)record->ack;
    publisher->with = (struct publish_with){record->is_conditional, record->bind,
                                            record->is_conditional ? record->if_seq : 0, record->ttl_ms};
    memcpy(publisher->topic, topic.data, topic.size);
    publisher->topic_size = topic.size;
}

static bool batch_add(struct publisher *publisher, const struct weir_record *record, struct view topic, size_t need)
{
    if (!batch_reserve(publisher, need))
        return false;
    publisher->items_size +=
        item_write(publisher->items + publisher->items_size, publisher->items_capacity - publisher->items_size, record);
    batch_count(publisher, record, topic);
    publisher->next_number++;
    return true;
}

/* A record that fills a frame by itself is written into it at once, rather than copied once more. No batch is open. */
static bool batch_add_alone(struct weir *client, const struct weir_record *record, struct view topic, size_t need)
{
    struct publisher *publisher = &client->publisher;
    struct outbuf *data = &client->link.data;
    size_t data_size = outbuf_size(data);
    uint8_t head[FRAME_HEAD_SIZE_MAX];
    batch_count(publisher, record, topic);
    size_t head_size = batch_head(publisher, head);
    uint8_t *body = outbuf_body_reserve(data, client->link.is_ipc, head_size + need);
    publisher->next_number++;
    if (body != NULL) {
        memcpy(body, head, head_size);
        outbuf_body_commit(data, client->link.is_ipc, head_size + item_write(body + head_size, need, record));
    }
    if (body != NULL && batch_framed(client, data_size))
        return true;
    publisher->count = 0;
    publisher->next_number--;
    return false;
}

/* ------------------------------------------------------------------------------------------ publishing */

static enum weir_error key_check(const char *key)
{
    if (key == NULL)
        return WEIR_OK;
    size_t size = strlen(key);
    if (size > KEY_SIZE_MAX)
        return reason_give(WEIR_TOO_BIG, "the key has %zu bytes, more than %d", size, KEY_SIZE_MAX);
    return utf8_is_valid((const uint8_t *)key, size) ? WEIR_OK
                                                     : reason_give(WEIR_BAD_REQUEST, "the key is not valid UTF-8");
}

static enum weir_error msgpack_check(struct view value, unsigned depth_max)
{
    size_t scanned = 0;
    if (value_scan(value, depth_max, &scanned) == WEIR_OK && scanned == value.size)
        return WEIR_OK;
    if (value_scan(value, VALUE_DEPTH_LIMIT, &scanned) == WEIR_OK && scanned == value.size)
        return reason_give(WEIR_BAD_REQUEST, "the value is nested deeper than the %u levels that this broker takes",
                           depth_max);
    return reason_give(WEIR_BAD_REQUEST, "the value is not one well-formed msgpack value");
}

/* What the broker would end the session for must not get there; the topic's name is looked at in publisher_offer.
 * *depth_max: what the value's depth was held against, without the lock. */
static enum weir_error record_check(const struct weir *client, const struct weir_record *record, unsigned *depth_max)
{
    *depth_max = atomic_load_explicit(&client->link.depth_max, memory_order_relaxed);
    struct view value = view_of(record->value, record->value_size);
    if (record->ack < WEIR_ACK_NONE || record->ack > WEIR_ACK_DURABLE)
        return reason_give(WEIR_BAD_REQUEST, "there is no ack level %d", (int)record->ack);
    if (value.size > MESSAGE_SIZE_MAX)
        return reason_give(WEIR_TOO_BIG, "the value has %zu bytes, more than %d", value.size, MESSAGE_SIZE_MAX);
    enum weir_error error = key_check(record->key);
    if (error != WEIR_OK)
        return error;
    if (record->form == WEIR_TEXT && !utf8_is_valid(value.data, value.size))
        return reason_give(WEIR_BAD_REQUEST, "the value is text that is not valid UTF-8");
    return record->form == WEIR_MSGPACK ? msgpack_check(value, *depth_max) : WEIR_OK;
}

/* Once more, with the lock, where a broker that takes less deep values has answered since then. */
static enum weir_error record_check_again(const struct weir *client, const struct weir_record *record,
                                          unsigned depth_checked)
{
    unsigned depth_max = atomic_load_explicit(&client->link.depth_max, memory_order_relaxed);
    if (record->form != WEIR_MSGPACK || depth_max >= depth_checked)
        return WEIR_OK;
    return msgpack_check(view_of(record->value, record->value_size), depth_max);
}

static size_t record_need(const struct weir_record *record)
{
    return (record->key != NULL ? strlen(record->key) : 0) + record->value_size + 2 * VALUE_HEAD_MAX;
}

/* There is room when the buffer takes the record, or is empty: one record of any size always gets its turn. */
static bool publisher_has_room(const struct weir *client, size_t need)
{
    const struct publisher *publisher = &client->publisher;
    size_t waiting = publisher->items_size + outbuf_size(&client->link.data) + publisher->kept_bytes;
    if (client->publisher_name != NULL && publisher->kept_records + publisher->count >= UNANSWERED_MAX)
        return false;
    return publisher->unacked_count < UNACKED_MAX &&
           (waiting == 0 || waiting + need <= client->options.publish_buffer_bytes);
}

static enum weir_error publisher_add(struct weir *client, const struct weir_record *record, struct view topic,
                                     size_t need, uint64_t *number)
{
    struct publisher *publisher = &client->publisher;
    size_t head = head_need(record, topic.size), message_max = client->link.message_max;
    if (record_has_options(record) && !client->link.takes_options)
        return reason_give(WEIR_FORBIDDEN, "the broker is too old for conditions, ttl and bind");
    if (need + head > message_max)
        return reason_give(WEIR_TOO_BIG, "the value has %zu bytes, and a message of this broker at most %zu",
                           record->value_size, message_max);
    if (!batch_takes(client, record, topic, need,
                     message_max - head < BATCH_SIZE_MAX ? message_max - head : BATCH_SIZE_MAX)) {
        publisher_close_batch(client);
        if (publisher->count > 0)
            return reason_usual(WEIR_NO_MEMORY);
    }
    if (!unacked_reserve(publisher))
        return reason_usual(WEIR_NO_MEMORY);
    uint64_t given = publisher->next_number;
    bool is_alone = publisher->count == 0 && need > BATCH_SIZE_MAX;
    if (is_alone ? !batch_add_alone(client, record, topic, need) : !batch_add(publisher, record, topic, need))
        return reason_usual(WEIR_NO_MEMORY);
    if (number != NULL)
        *number = given;
    client->counts.published++;
    return WEIR_OK;
}

/* Waits for room, then adds; the caller pumps. Lock held: most records are for the same topic as the one before, whose
 * name need not be checked again. */
static enum weir_error publisher_offer(struct weir *client, const struct weir_record *record, unsigned depth_checked,
                                       uint64_t deadline_ns, bool may_wait, uint64_t *number)
{
    struct view topic = view_text(record->topic);
    const char *reason = "";
    if (!topic_is_last(&client->publisher, topic) && name_check(topic, &reason) != WEIR_OK)
        return reason_give(WEIR_BAD_TOPIC, "the topic's name: %s", reason);
    size_t need = record_need(record);
    while (!client->is_over && !publisher_has_room(client, need)) {
        link_attend(client);
        if (!may_wait || !client_wait(client, deadline_ns))
            return reason_usual(WEIR_BUSY);
    }
    if (client->is_over)
        return reason_usual(WEIR_CLOSED);
    enum weir_error error = record_check_again(client, record, depth_checked);
    return error != WEIR_OK ? error : publisher_add(client, record, topic, need, number);
}

enum weir_error weir_publish(struct weir *client, const struct weir_record *record, uint64_t timeout_ms,
                             uint64_t *number)
{
    MAGIC_CHECK(client, CLIENT_MAGIC);
    unsigned depth = 0;
    enum weir_error error = record_check(client, record, &depth);
    if (error != WEIR_OK)
        return error;
    uint64_t deadline = timeout_ms == 0 ? 0 : deadline_after_ms(timeout_ms);
    pthread_mutex_lock(&client->lock);
    bool may_wait = timeout_ms > 0 && !client_is_own_thread(client);
    error = publisher_offer(client, record, depth, deadline, may_wait, number);
    if (error == WEIR_OK)
        link_pump_released(client);
    pthread_mutex_unlock(&client->lock);
    return error;
}

static enum weir_error publish_wait(struct weir *client, struct publish_waiter *waiter, uint64_t deadline_ns)
{
    waiter->next = client->publisher.waiters;
    client->publisher.waiters = waiter;
    link_pump_released(client);
    while (!waiter->is_done && !client->is_over && client_wait(client, deadline_ns)) {
    }
    struct publish_waiter **at = &client->publisher.waiters;
    while (*at != waiter)
        at = &(*at)->next;
    *at = waiter->next;
    if (!waiter->is_done)
        return reason_usual(client->is_over ? WEIR_CLOSED : WEIR_TIMEOUT);
    return waiter->reason[0] != '\0' ? reason_give(waiter->outcome, "%s", waiter->reason)
                                     : reason_usual(waiter->outcome);
}

enum weir_error weir_publish_wait(struct weir *client, const struct weir_record *record, uint64_t timeout_ms,
                                  struct weir_seq *out)
{
    MAGIC_CHECK(client, CLIENT_MAGIC);
    if (record->ack == WEIR_ACK_NONE)
        return reason_give(WEIR_BAD_REQUEST, "a record without ack has no outcome to wait for");
    if (client_is_own_thread(client))
        return reason_callback();
    unsigned depth = 0;
    enum weir_error error = record_check(client, record, &depth);
    if (error != WEIR_OK)
        return error;
    uint64_t deadline = deadline_after_ms(timeout_ms);
    struct publish_waiter waiter = {.outcome = WEIR_TIMEOUT};
    pthread_mutex_lock(&client->lock);
    error = publisher_offer(client, record, depth, deadline, true, &waiter.number);
    if (error == WEIR_OK)
        error = publish_wait(client, &waiter, deadline);
    if (out != NULL)
        *out = waiter.seq;
    pthread_mutex_unlock(&client->lock);
    return error;
}

/* Is everything below number settled, and its outcome told? */
static bool is_settled(const struct weir *client, uint64_t number)
{
    const struct publisher *publisher = &client->publisher;
    const struct unacked *oldest = unacked_oldest(publisher);
    return !publisher->is_telling && (publisher->count == 0 || publisher->first_number >= number) &&
           (oldest == NULL || oldest->number >= number);
}

enum weir_error weir_flush(struct weir *client, uint64_t timeout_ms)
{
    MAGIC_CHECK(client, CLIENT_MAGIC);
    if (client_is_own_thread(client))
        return reason_callback();
    uint64_t deadline = deadline_after_ms(timeout_ms);
    enum weir_error error = WEIR_OK;
    pthread_mutex_lock(&client->lock);
    uint64_t number = client->publisher.next_number;
    link_pump_released(client);
    while (error == WEIR_OK && !is_settled(client, number)) {
        if (client->is_over)
            error = WEIR_CLOSED;
        else if (!client_wait(client, deadline))
            error = WEIR_TIMEOUT;
    }
    pthread_mutex_unlock(&client->lock);
    return reason_usual(error);
}

void client_publisher_fini(struct weir *client)
{
    unacked_fini(&client->publisher);
    free(client->publisher.items);
}
