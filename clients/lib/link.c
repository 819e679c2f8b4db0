/* The connection of a client: dialing, taking received bytes apart into frames, and sending what the other parts queued.
 * Everything runs on the client's thread or a user's with the lock held, but for the pipe's three handlers, which nng's
 * threads call and which only note what happened. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/base/limits.h"
#include "clients/lib/client.h"

enum {
    CHUNK_SIZE = 64 * 1024,      /* one read's worth under load */
    SENDING_SIZE_MAX = 256 * 1024, /* data sent at once: more would only delay control frames behind it */
    PINGS_MAX = 3,
    CONTROL_BODY_MAX = 1024,     /* all control frames but SUBSCRIBE and REQUEST fit; those are sized by their parts */
};

/* ------------------------------------------------------------------------------------------- buffers */

void chunk_drop(struct chunk *chunk)
{
    if (chunk != NULL && --chunk->references == 0)
        free(chunk);
}

static struct chunk *chunk_create(size_t capacity)
{
    struct chunk *chunk = malloc(sizeof *chunk + capacity);
    if (chunk != NULL)
        *chunk = (struct chunk){.references = 1, .capacity = capacity};
    return chunk;
}

size_t outbuf_size(const struct outbuf *buffer)
{
    return buffer->end - buffer->start;
}

/* Makes room for size more bytes at the end. */
static bool outbuf_reserve(struct outbuf *buffer, size_t size)
{
    if (buffer->capacity - buffer->end >= size)
        return true;
    size_t used = outbuf_size(buffer);
    if (buffer->start > 0) {
        memmove(buffer->data, buffer->data + buffer->start, used);
        buffer->start = 0;
        buffer->end = used;
    }
    if (buffer->capacity - used >= size)
        return true;
    size_t capacity = buffer->capacity == 0 ? 4096 : buffer->capacity;
    while (capacity - used < size)
        capacity *= 2;
    uint8_t *data = realloc(buffer->data, capacity);
    if (data == NULL)
        return false;
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

bool outbuf_message(struct outbuf *buffer, bool is_ipc, struct view head, struct view items)
{
    size_t prefix = sp_prefix_size(is_ipc);
    if (!outbuf_reserve(buffer, prefix + head.size + items.size))
        return false;
    uint8_t *at = buffer->data + buffer->end;
    sp_prefix_write(at, is_ipc, head.size + items.size);
    memcpy(at + prefix, head.data, head.size);
    if (items.size > 0)
        memcpy(at + prefix + head.size, items.data, items.size);
    buffer->end += prefix + head.size + items.size;
    return true;
}

static void outbuf_move(struct outbuf *to, struct outbuf *from, size_t size)
{
    if (size == 0 || !outbuf_reserve(to, size))
        return;
    memcpy(to->data + to->end, from->data + from->start, size);
    to->end += size;
    from->start += size;
    if (from->start == from->end)
        from->start = from->end = 0;
}

/* ------------------------------------------------------------------------------- handlers, nng's threads */

static void on_received(void *owner, size_t size, enum weir_error error)
{
    struct weir *client = owner;
    pthread_mutex_lock(&client->lock);
    client->link.is_receiving = false;
    if (error == WEIR_OK) {
        client->link.chunk->size += size;
        client->link.has_received = true;
        client->link.heard_ns = clock_now_ns();
        client->counts.bytes_received += size;
    } else {
        link_close(client, error, "the connection was lost");
    }
    client_wake(client);
    pthread_mutex_unlock(&client->lock);
}

static void on_sent(void *owner, enum weir_error error)
{
    struct weir *client = owner;
    pthread_mutex_lock(&client->lock);
    client->link.is_sending = false;
    client->counts.bytes_sent += outbuf_size(&client->link.sending);
    client->link.sending.start = client->link.sending.end = 0;
    if (error != WEIR_OK)
        link_close(client, error, "the connection was lost while sending");
    else
        link_pump(client);
    pthread_cond_broadcast(&client->changed);
    client_wake(client);
    pthread_mutex_unlock(&client->lock);
}

static void on_closed(void *owner)
{
    struct weir *client = owner;
    pthread_mutex_lock(&client->lock);
    client->link.is_closed = true;
    client_wake(client);
    pthread_mutex_unlock(&client->lock);
}

static const struct sp_pipe_handlers handlers = {on_received, on_sent, on_closed};

/* --------------------------------------------------------------------------------------------- opening */

static void link_fail(struct weir *client, enum weir_error error, const char *reason)
{
    client->link.error = error;
    snprintf(client->link.reason, sizeof client->link.reason, "%s", reason);
    pthread_cond_broadcast(&client->changed);
}

static void link_receive(struct weir *client)
{
    struct link *link = &client->link;
    if (link->is_receiving || link->pipe == NULL || link->state == LINK_DOWN)
        return;
    link->is_receiving = true;
    sp_pipe_receive(link->pipe, link->chunk->data + link->chunk->size, link->chunk->capacity - link->chunk->size);
}

static void link_hello(struct weir *client)
{
    struct frame frame = {.op = FRAME_HELLO};
    frame.as.hello.version = SESSION_VERSION;
    frame.as.hello.credit = client->options.window_bytes;
    frame.as.hello.message_max = MESSAGE_SIZE_MAX;
    frame.as.hello.heartbeat_ms = client->options.heartbeat_ms;
    frame.as.hello.peer = view_text(client->name);
    client->link.granted_total = client->options.window_bytes;
    link_control(client, &frame);
    link_pump(client);
}

void link_dial(struct weir *client)
{
    struct link *link = &client->link;
    struct sp_pipe *pipe = NULL;
    const char *reason = "";
    pthread_mutex_unlock(&client->lock);
    enum weir_error error =
        sp_dial(client->url, SP_PAIR0, SP_PAIR0, client->options.connect_timeout_ms, &pipe, &reason);
    pthread_mutex_lock(&client->lock);
    if (error != WEIR_OK) {
        link_fail(client, error, reason);
        return;
    }
    link->chunk = chunk_create(CHUNK_SIZE);
    link->pipe = pipe;
    link->is_ipc = sp_pipe_is_ipc(pipe);
    link->is_closed = link->is_receiving = link->is_sending = link->has_received = false;
    link->parsed = 0;
    link->pings = 0;
    link->credit_total = link->credit_used = link->consumed_total = 0;
    link->heard_ns = clock_now_ns();
    link->error = WEIR_OK;
    sp_pipe_start(pipe, &handlers, client);
    if (link->chunk == NULL) {
        link_close(client, WEIR_NO_MEMORY, "no memory for a receive buffer");
        return;
    }
    link->state = LINK_HELLO;
    link_hello(client);
    link_receive(client);
}

static void link_on_hello(struct weir *client, const struct frame *frame)
{
    struct link *link = &client->link;
    if (link->state != LINK_HELLO) {
        link_close(client, WEIR_PROTOCOL, "the broker said hello twice");
        return;
    }
    if (frame->as.hello.version != SESSION_VERSION) {
        link_close(client, WEIR_PROTOCOL, "the broker speaks another version of the session protocol");
        return;
    }
    link->state = LINK_UP;
    link->credit_total = frame->as.hello.credit;
    link->message_max = frame->as.hello.message_max;
    client->backoff_ms = client->options.backoff_min_ms;
    subscriptions_on_link_up(client);
    pthread_cond_broadcast(&client->changed);
    if (client->options.on_link != NULL) {
        pthread_mutex_unlock(&client->lock);
        client->options.on_link(client, WEIR_LINK_UP, WEIR_OK, "connected", client->options.context);
        pthread_mutex_lock(&client->lock);
    }
}

/* --------------------------------------------------------------------------------------------- closing */

void link_close(struct weir *client, enum weir_error error, const char *reason)
{
    struct link *link = &client->link;
    if (link->error == WEIR_OK)
        link_fail(client, error, reason);
    if (link->pipe != NULL)
        sp_pipe_close(link->pipe);
}

void link_reap(struct weir *client)
{
    struct link *link = &client->link;
    bool was_up = link->state == LINK_UP;
    struct sp_pipe *pipe = link->pipe;
    link->pipe = NULL;
    link->state = LINK_DOWN;
    link->has_received = false;
    chunk_drop(link->chunk);
    link->chunk = NULL;
    link->control.start = link->control.end = 0;
    link->sending.start = link->sending.end = 0;
    pthread_mutex_unlock(&client->lock);
    sp_pipe_destroy(&pipe);
    pthread_mutex_lock(&client->lock);
    if (!was_up)
        return;
    client->counts.reconnects++;
    subscriptions_on_link_down(client);
    requests_on_link_down(client);
    publisher_on_link_down(client);
    pthread_cond_broadcast(&client->changed);
    if (client->options.on_link != NULL) {
        pthread_mutex_unlock(&client->lock);
        client->options.on_link(client, WEIR_LINK_DOWN, link->error, link->reason, client->options.context);
        pthread_mutex_lock(&client->lock);
    }
}

void link_fini(struct weir *client)
{
    chunk_drop(client->link.chunk);
    free(client->link.control.data);
    free(client->link.data.data);
    free(client->link.sending.data);
}

/* ------------------------------------------------------------------------------------------- receiving */

static void link_on_close(struct weir *client, const struct frame *frame)
{
    char reason[sizeof client->link.reason];
    snprintf(reason, sizeof reason, "the broker closed the session: %.*s (%.*s)", (int)frame->as.close.message.size,
             (const char *)frame->as.close.message.data, (int)frame->as.close.code.size,
             (const char *)frame->as.close.code.data);
    link_close(client, weir_error_from_code((const char *)frame->as.close.code.data, frame->as.close.code.size), reason);
}

static void link_on_frame(struct weir *client, const struct frame *frame, size_t body_size)
{
    struct link *link = &client->link;
    switch (frame->op) {
    case FRAME_HELLO:
        link_on_hello(client, frame);
        break;
    case FRAME_PING:
        link_control(client, &(struct frame){.op = FRAME_PONG, .as.pong.n = frame->as.ping.n});
        break;
    case FRAME_PONG:
        break;
    case FRAME_CREDIT:
        if (frame->as.credit.total > link->credit_total)
            link->credit_total = frame->as.credit.total;
        break;
    case FRAME_CLOSE:
        link_on_close(client, frame);
        break;
    case FRAME_ACK:
        publisher_on_ack(client, frame);
        break;
    case FRAME_REFUSED:
        publisher_on_refused(client, frame);
        break;
    case FRAME_REPLY:
        requests_on_reply(client, frame);
        break;
    case FRAME_ALIAS:
    case FRAME_PUBLISH:
    case FRAME_SUBSCRIBE:
    case FRAME_UNSUBSCRIBE:
    case FRAME_REQUEST:
        link_close(client, WEIR_PROTOCOL, "the broker sent a frame that only clients send");
        break;
    default:
        subscriptions_on_frame(client, link->chunk, frame, body_size);
        break;
    }
}

/* Frames found so far stay in the old chunk as long as they are queued; what is incomplete moves on. */
static void link_make_room(struct weir *client, size_t needed)
{
    struct link *link = &client->link;
    struct chunk *chunk = link->chunk;
    size_t tail = chunk->size - link->parsed;
    if (chunk->references == 1 && tail == 0) {
        chunk->size = link->parsed = 0;
        if (chunk->capacity == CHUNK_SIZE)
            return;
    }
    if (chunk->capacity - link->parsed >= needed && chunk->capacity - chunk->size >= CHUNK_SIZE / 4)
        return;
    struct chunk *next = chunk_create(needed > CHUNK_SIZE ? needed : CHUNK_SIZE);
    if (next == NULL) {
        link_close(client, WEIR_NO_MEMORY, "no memory for a received message");
        return;
    }
    memcpy(next->data, chunk->data + link->parsed, tail);
    next->size = tail;
    link->chunk = next;
    link->parsed = 0;
    chunk_drop(chunk);
}

/* Takes one message off the chunk; false when there is no whole one. */
static bool link_take_one(struct weir *client, size_t *needed)
{
    struct link *link = &client->link;
    size_t offset = 0, size = 0;
    const uint8_t *at = link->chunk->data + link->parsed;
    enum weir_error error = sp_message_find(at, link->chunk->size - link->parsed, link->is_ipc, MESSAGE_SIZE_MAX,
                                            &offset, &size, needed);
    if (error == WEIR_AGAIN)
        return false;
    struct frame frame;
    const char *reason = "the broker sent a message beyond all bounds";
    if (error == WEIR_OK)
        error = frame_read(view_of(at + offset, size), CLIENT_DEPTH_MAX, &frame, &reason);
    if (error == WEIR_OK && link->state == LINK_HELLO && frame.op != FRAME_HELLO && frame.op != FRAME_CLOSE) {
        error = WEIR_PROTOCOL;
        reason = "the broker did not say hello";
    }
    if (error != WEIR_OK) {
        link_close(client, WEIR_PROTOCOL, reason);
        return false;
    }
    link->parsed += offset + size;
    link_on_frame(client, &frame, size);
    return true;
}

bool link_take(struct weir *client)
{
    struct link *link = &client->link;
    if (!link->has_received || link->is_closed)
        return false;
    link->has_received = false;
    size_t needed = 0;
    while (link->error == WEIR_OK && link_take_one(client, &needed)) {
    }
    if (link->error == WEIR_OK) {
        link_make_room(client, needed);
        link_receive(client);
    }
    return true;
}

/* ------------------------------------------------------------------------------------------- sending */

static size_t frame_size_bound(const struct frame *frame)
{
    if (frame->op == FRAME_SUBSCRIBE)
        return CONTROL_BODY_MAX + frame->as.subscribe.pattern.size + frame->as.subscribe.cursors.size;
    if (frame->op == FRAME_REQUEST)
        return CONTROL_BODY_MAX + frame->as.request.verb.size + frame->as.request.args.size;
    if (frame->op == FRAME_HELLO)
        return CONTROL_BODY_MAX + frame->as.hello.peer.size;
    return CONTROL_BODY_MAX;
}

void link_control(struct weir *client, const struct frame *frame)
{
    size_t capacity = frame_size_bound(frame);
    uint8_t *body = malloc(capacity);
    struct value_writer writer;
    value_writer_init(&writer, body, body == NULL ? 0 : capacity);
    frame_write(&writer, frame);
    if (writer.is_full ||
        !outbuf_message(&client->link.control, client->link.is_ipc, view_of(body, writer.size), view_of(NULL, 0)))
        link_close(client, WEIR_NO_MEMORY, "no memory for a frame");
    free(body);
}

/* How many bytes of whole data messages the broker's credit lets out now. One message may begin as long as any credit is
 * left, so that one larger than the window is not stuck. */
static size_t link_data_allowed(struct weir *client)
{
    struct link *link = &client->link;
    size_t prefix = sp_prefix_size(link->is_ipc), allowed = 0;
    while (allowed < outbuf_size(&link->data) && allowed < SENDING_SIZE_MAX && link->credit_used < link->credit_total) {
        size_t offset = 0, size = 0, needed = 0;
        enum weir_error error =
            sp_message_find(link->data.data + link->data.start + allowed, outbuf_size(&link->data) - allowed,
                            link->is_ipc, SIZE_MAX / 2, &offset, &size, &needed);
        INVARIANT(error == WEIR_OK && offset == prefix);
        link->credit_used += size;
        publisher_on_sending(client);
        allowed += offset + size;
    }
    return allowed;
}

void link_pump(struct weir *client)
{
    struct link *link = &client->link;
    if (link->is_sending || link->pipe == NULL || link->state == LINK_DOWN || link->error != WEIR_OK)
        return;
    outbuf_move(&link->sending, &link->control, outbuf_size(&link->control));
    if (link->state == LINK_UP) {
        if (outbuf_size(&link->data) == 0 && link->credit_used < link->credit_total)
            publisher_close_batch(client);
        outbuf_move(&link->sending, &link->data, link_data_allowed(client));
    }
    size_t size = outbuf_size(&link->sending);
    if (size == 0)
        return;
    link->is_sending = true;
    sp_pipe_send(link->pipe, &(struct iovec){link->sending.data + link->sending.start, size}, 1);
}

void link_consumed(struct weir *client, size_t size)
{
    struct link *link = &client->link;
    link->consumed_total += size;
    uint64_t window = client->options.window_bytes;
    if (link->state != LINK_UP || link->consumed_total + window - link->granted_total < window / 2)
        return;
    link->granted_total = link->consumed_total + window;
    link_control(client, &(struct frame){.op = FRAME_CREDIT, .as.credit.total = link->granted_total});
    link_pump(client);
}

uint64_t link_heartbeat(struct weir *client, uint64_t now_ns)
{
    struct link *link = &client->link;
    if (link->pipe == NULL)
        return now_ns;
    uint64_t interval = client->options.heartbeat_ms * NS_PER_MS;
    uint64_t since = link->pings > 0 && link->pinged_ns > link->heard_ns ? link->pinged_ns : link->heard_ns;
    if (link->heard_ns >= link->pinged_ns)
        link->pings = 0;
    if (now_ns < since + interval)
        return since + interval;
    if (link->pings == PINGS_MAX || link->state == LINK_HELLO) {
        link_close(client, WEIR_TIMEOUT, "the broker was silent for too long");
        return UINT64_MAX;
    }
    link->pings++;
    link->pinged_ns = now_ns;
    link_control(client, &(struct frame){.op = FRAME_PING, .as.ping.n = link->pings});
    link_pump(client);
    return now_ns + interval;
}
