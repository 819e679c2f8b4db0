/* Bytes to the socket: queues of what waits, and one gathered send at a time. In the connection's turns. */
#include "broker/gateway/output.h"

#include "actors/base/assert.h"
#include "broker/gateway/connection.h"

enum {
    QUEUE_FIRST = 8,
    URGENT_FIRST = 512,
    BUFFER_SMALL = 4 * 1024, /* a message or two */
    ITEMS_AHEAD = 4,         /* far enough for memory to answer */
    SENDS_PER_PUMP = 8,      /* so that a fast peer with a long queue leaves its worker to others now and then */
};

/* -------------------------------------------------------------------------------------------- queues */

/* The one at that place behind the first. The capacity is a power of two. */
static struct message *queue_item(const struct queue *queue, uint32_t place)
{
    return &queue->items[(queue->first + place) & (queue->capacity - 1)];
}

static enum weir_error queue_grow(struct connection *connection, struct queue *queue)
{
    uint32_t capacity = queue->capacity == 0 ? QUEUE_FIRST : queue->capacity * 2;
    weir_msg block;
    enum weir_error error =
        arena_alloc(connection->arena, capacity * sizeof(struct message), connection->budget, &block);
    if (error)
        return error;
    struct message *items = arena_data(connection->arena, block);
    for (uint32_t i = 0; i < queue->count; i++)
        items[i] = *queue_item(queue, i);
    arena_drop(connection->arena, queue->block);
    queue->block = block;
    queue->items = items;
    queue->first = 0;
    queue->capacity = capacity;
    return WEIR_OK;
}

void queue_rest(struct connection *connection, struct queue *queue)
{
    if (queue->count == 0 && queue->capacity > 0)
        queue_clear(connection, queue);
}

enum weir_error queue_push(struct connection *connection, struct queue *queue, const struct message *item)
{
    if (queue->count == queue->capacity) {
        enum weir_error error = queue_grow(connection, queue);
        if (error)
            return error;
    }
    *queue_item(queue, queue->count++) = *item;
    return WEIR_OK;
}

struct message *queue_first(struct queue *queue) { return queue->count == 0 ? NULL : &queue->items[queue->first]; }

struct message *queue_last(struct queue *queue)
{
    return queue->count == 0 ? NULL : queue_item(queue, queue->count - 1);
}

void queue_drop_first(struct connection *connection, struct queue *queue)
{
    REQUIRE(queue->count > 0);
    struct message *item = &queue->items[queue->first];
    for (int i = 0; i < MESSAGE_HOLDS; i++)
        arena_drop(connection->arena, item->hold[i]);
    queue->first = (queue->first + 1) & (queue->capacity - 1);
    queue->count--;
    /* A queue that grew large gives its memory back at once; a small one may be used again in the same turn. */
    if (queue->capacity > QUEUE_FIRST * 8)
        queue_rest(connection, queue);
}

void queue_clear(struct connection *connection, struct queue *queue)
{
    while (queue->count > 0)
        queue_drop_first(connection, queue);
    arena_drop(connection->arena, queue->block);
    *queue = (struct queue){.count = 0};
}

/* -------------------------------------------------------------------------------------------- urgent */

static bool urgent_grow(struct connection *connection, size_t needed)
{
    struct output *output = &connection->output;
    size_t capacity = output->urgent_capacity == 0 ? URGENT_FIRST : output->urgent_capacity;
    while (capacity < needed)
        capacity *= 2;
    if (capacity == output->urgent_capacity)
        return true;
    if (arena_grow(connection->arena, &output->urgent, output->urgent_size, capacity, connection->budget) != WEIR_OK)
        return false;
    output->urgent_capacity = (uint32_t)capacity;
    return true;
}

uint8_t *output_urgent_reserve(struct connection *connection, size_t body_max)
{
    struct output *output = &connection->output;
    size_t prefix = sp_prefix_size(connection->is_ipc);
    if (!urgent_grow(connection, output->urgent_size + prefix + body_max)) {
        connection_starve(connection, "there is no memory to answer into");
        return NULL;
    }
    return (uint8_t *)arena_data(connection->arena, output->urgent) + output->urgent_size + prefix;
}

void output_urgent_commit(struct connection *connection, size_t body_size)
{
    struct output *output = &connection->output;
    size_t prefix = sp_prefix_size(connection->is_ipc);
    uint8_t *at = (uint8_t *)arena_data(connection->arena, output->urgent) + output->urgent_size;
    sp_prefix_write(at, connection->is_ipc, body_size);
    output->urgent_size += (uint32_t)(prefix + body_size);
    ENSURE(output->urgent_size <= output->urgent_capacity);
    counter_add(&connection->counters.messages_out, 1);
    if (output->urgent_size > OUTPUT_URGENT_MAX)
        connection_pause(connection, PAUSE_URGENT);
}

/* -------------------------------------------------------------------------------------------- gather */

static size_t gather_wish(const struct gather *gather)
{
    const struct output *output = &gather->connection->output;
    return output->replies.count + output->data.count + output->bulk.count > 2 ? OUTPUT_BUFFER_MAX : BUFFER_SMALL;
}

/* Makes sure of a buffer for `copied` bytes. An empty one may be exchanged for one that is large enough. */
static bool gather_buffer(struct gather *gather, size_t copied)
{
    if (gather->capacity - gather->used >= copied)
        return true;
    if (gather->used > 0)
        return false;
    struct connection *connection = gather->connection;
    size_t capacity = gather_wish(gather);
    if (capacity < copied)
        capacity = copied;
    weir_msg block;
    if (arena_alloc(connection->arena, capacity, connection->budget, &block) != WEIR_OK) {
        gather->is_starved = true;
        return false;
    }
    arena_drop(connection->arena, gather->buffer);
    gather->buffer = block;
    gather->data = arena_data(connection->arena, block);
    gather->capacity = (uint32_t)capacity;
    return true;
}

bool gather_has_room(struct gather *gather, size_t copied, unsigned references)
{
    /* Copies before, between and after the references may each open a part. */
    if (gather->part_count + 2 * references + 1 > SP_IOV_MAX)
        return false;
    return gather_buffer(gather, copied);
}

size_t gather_room(const struct gather *gather)
{
    return gather->used == 0 ? OUTPUT_BUFFER_MAX : gather->capacity - gather->used;
}

uint8_t *gather_copy(struct gather *gather, const void *bytes, size_t size)
{
    REQUIRE(gather->capacity - gather->used >= size);
    uint8_t *at = gather->data + gather->used;
    if (size == 0)
        return at;
    memcpy(at, bytes, size);
    struct iovec *last = gather->part_count > 0 ? &gather->parts[gather->part_count - 1] : NULL;
    if (last != NULL && (uint8_t *)last->iov_base + last->iov_len == at) {
        last->iov_len += size;
    } else {
        REQUIRE(gather->part_count < SP_IOV_MAX);
        gather->parts[gather->part_count++] = (struct iovec){at, size};
    }
    gather->used += (uint32_t)size;
    gather->size += size;
    return at;
}

void gather_reference(struct gather *gather, weir_msg block, const uint8_t *bytes, size_t size)
{
    REQUIRE(gather->part_count < SP_IOV_MAX && size > 0);
    gather->parts[gather->part_count++] = (struct iovec){(void *)(uintptr_t)bytes, size};
    gather->holds[gather->hold_count++] = block;
    gather->size += size;
}

static void gather_urgent(struct gather *gather)
{
    struct output *output = &gather->connection->output;
    if (output->urgent_size == 0)
        return;
    gather_reference(gather, output->urgent, arena_data(gather->connection->arena, output->urgent),
                     output->urgent_size);
    output->urgent = WEIR_MSG_NONE;
    output->urgent_size = output->urgent_capacity = 0;
    connection_resume(gather->connection, PAUSE_URGENT);
}

static void gather_last_words(struct gather *gather)
{
    struct connection *connection = gather->connection;
    if (!connection->output.has_last_words)
        return;
    connection->output.has_last_words = false;
    struct view words = connection->ops->last_words(connection->is_ipc);
    gather_reference(gather, WEIR_MSG_NONE, words.data, words.size);
    counter_add(&connection->counters.messages_out, 1);
}

static bool gather_raw(struct gather *gather, struct message *item)
{
    struct connection *connection = gather->connection;
    size_t size = (size_t)item->word[1];
    bool is_copied = size < OUTPUT_REFERENCE_MIN;
    if (!gather_has_room(gather, is_copied ? size : 0, is_copied ? 0 : 1))
        return false;
    const uint8_t *bytes = (const uint8_t *)arena_data(connection->arena, item->hold[0]) + item->word[0];
    if (is_copied)
        gather_copy(gather, bytes, size);
    else
        gather_reference(gather, message_take(item, 0), bytes, size);
    counter_add(&connection->counters.messages_out, 1);
    return true;
}

static void gather_replies(struct gather *gather)
{
    struct connection *connection = gather->connection;
    struct queue *queue = &connection->output.replies;
    while (queue->count > 0 && gather_raw(gather, queue_first(queue)))
        queue_drop_first(connection, queue);
    requests_on_replied(connection);
}

/* What an item refers to was written by many topics' turns: a few items ahead it is asked for. */
static void queue_ahead(struct connection *connection, const struct queue *queue)
{
    if (queue->count <= ITEMS_AHEAD)
        return;
    const struct message *item = queue_item(queue, ITEMS_AHEAD);
    if (msg_is_none(item->hold[0]))
        return;
    arena_prefetch_part(connection->arena, item->hold[0], TOPIC_HIGH(item->word[0]), TOPIC_LOW(item->word[0]));
}

static bool gather_item(struct gather *gather, struct queue *queue)
{
    struct connection *connection = gather->connection;
    bool done = false;
    queue_ahead(connection, queue);
    if (queue->count == 0 || !connection->ops->render(connection, gather, queue_first(queue), &done))
        return false;
    if (done)
        queue_drop_first(connection, queue);
    return true;
}

static void gather_data(struct gather *gather)
{
    struct output *output = &gather->connection->output;
    for (;;) {
        size_t before = gather->size;
        bool is_bulk_due = output->bulk.count > 0 && output->live_rendered >= OUTPUT_LIVE_SHARE;
        if (!is_bulk_due && gather_item(gather, &output->data)) {
            output->live_rendered += gather->size - before;
            continue;
        }
        /* Where there is no room, or no credit, for the one, there may be for the other. */
        if (!gather_item(gather, &output->bulk)) {
            if (!is_bulk_due || !gather_item(gather, &output->data))
                return;
            continue;
        }
        size_t worth = (gather->size - before) * (OUTPUT_LIVE_SHARE / OUTPUT_BULK_PIECE);
        output->live_rendered -= worth < output->live_rendered ? worth : output->live_rendered;
    }
}

/* ------------------------------------------------------------------------------------------- sending */

static void holds_drop(struct connection *connection, weir_msg *holds, unsigned *count)
{
    for (unsigned i = 0; i < *count; i++)
        arena_drop(connection->arena, holds[i]);
    *count = 0;
}

/* Hands the gather to the kernel; true when all of it went at once. */
static bool gather_send(struct gather *gather)
{
    struct connection *connection = gather->connection;
    struct output *output = &connection->output;
    if (!msg_is_none(gather->buffer))
        gather->holds[gather->hold_count++] = gather->buffer;
    size_t sent = 0;
    enum weir_error error = sp_pipe_send_now(connection->pipe, gather->parts, gather->part_count, &sent);
    counter_add(&connection->counters.bytes_out, gather->size);
    if (error == WEIR_OK) {
        holds_drop(connection, gather->holds, &gather->hold_count);
        return true;
    }
    memcpy(output->flight, gather->holds, gather->hold_count * sizeof gather->holds[0]);
    output->flight_count = gather->hold_count;
    output->is_sending = true;
    if (error != WEIR_AGAIN)
        return false; /* the pipe is closing: on_closed comes */
    unsigned first = 0;
    while (sent >= gather->parts[first].iov_len)
        sent -= gather->parts[first++].iov_len;
    gather->parts[first].iov_base = (uint8_t *)gather->parts[first].iov_base + sent;
    gather->parts[first].iov_len -= sent;
    sp_pipe_send(connection->pipe, gather->parts + first, gather->part_count - first);
    return false;
}

void output_pump(struct connection *connection)
{
    struct output *output = &connection->output;
    for (int i = 0; i < SENDS_PER_PUMP && !output->is_sending && !connection->is_closing; i++) {
        struct gather gather = {.connection = connection};
        gather_urgent(&gather);
        gather_last_words(&gather);
        gather_replies(&gather);
        if (connection->ops->render != NULL)
            gather_data(&gather);
        if (gather.part_count == 0) {
            arena_drop(connection->arena, gather.buffer);
            if (gather.is_starved)
                connection_retry(connection);
            break;
        }
        if (!gather_send(&gather))
            break;
        if (i + 1 == SENDS_PER_PUMP)
            connection_wake(connection);
    }
}

void output_sent(struct connection *connection)
{
    struct output *output = &connection->output;
    output->is_sending = false;
    holds_drop(connection, output->flight, &output->flight_count);
}

void output_rest(struct connection *connection)
{
    struct output *output = &connection->output;
    queue_rest(connection, &output->bulk);
    queue_rest(connection, &output->replies);
}

bool output_is_idle(const struct output *output)
{
    return !output->is_sending && output->urgent_size == 0 && !output->has_last_words && output->replies.count == 0 &&
           output->data.count == 0 && output->bulk.count == 0;
}

void output_clear(struct connection *connection)
{
    struct output *output = &connection->output;
    arena_drop(connection->arena, output->urgent);
    output->urgent = WEIR_MSG_NONE;
    output->urgent_size = output->urgent_capacity = 0;
    output->has_last_words = false;
    queue_clear(connection, &output->replies);
    queue_clear(connection, &output->data);
    queue_clear(connection, &output->bulk);
    output->data_size = 0;
}

void output_fini(struct connection *connection)
{
    output_clear(connection);
    holds_drop(connection, connection->output.flight, &connection->output.flight_count);
}
