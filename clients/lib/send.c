/* What a client sends: control frames first, then PUBLISH frames as far as the broker's credit reaches. While the line
 * rests for at least as long as sends take, each is one write in the thread that asks for it, which so spends no more
 * than half of its time on them; while they follow one another more closely a poller comes by and sends what has
 * gathered until then. Any thread, with the lock held. */
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "clients/lib/client.h"

enum {
    SENDING_SIZE_MAX = 256 * 1024, /* data sent at once: more would only delay control frames behind it */
    CONTROL_BODY_MAX = 1024,       /* all control frames but those sized by their parts fit */
    RESTED_SENDS = 4,              /* as many sends as may follow one another after a rest */
    SEND_NS_STEP = 1000,           /* more than twice what they take, and this, counts as that */
    PONGS_SIZE_MAX = 64 * 1024,    /* answers that a peer may leave unread: thousands of pings */
};

/* ------------------------------------------------------------------------------------------- buffers */

size_t outbuf_size(const struct outbuf *buffer) { return buffer->end - buffer->start; }

void outbuf_clear(struct outbuf *buffer) { buffer->start = buffer->end = 0; }

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

bool outbuf_append(struct outbuf *buffer, struct view messages)
{
    if (!outbuf_reserve(buffer, messages.size))
        return false;
    if (messages.size > 0)
        memcpy(buffer->data + buffer->end, messages.data, messages.size);
    buffer->end += messages.size;
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

uint8_t *outbuf_body_reserve(struct outbuf *buffer, bool is_ipc, size_t body_max)
{
    size_t prefix = sp_prefix_size(is_ipc);
    return outbuf_reserve(buffer, prefix + body_max) ? buffer->data + buffer->end + prefix : NULL;
}

void outbuf_body_commit(struct outbuf *buffer, bool is_ipc, size_t body_size)
{
    sp_prefix_write(buffer->data + buffer->end, is_ipc, body_size);
    buffer->end += sp_prefix_size(is_ipc) + body_size;
}

/* Moves the first size bytes; where memory is out, false and none. */
static bool outbuf_move(struct outbuf *to, struct outbuf *from, size_t size)
{
    if (size == 0)
        return true;
    if (outbuf_size(to) == 0 && size == outbuf_size(from)) {
        struct outbuf swapped = *to;
        *to = *from;
        *from = swapped;
        outbuf_clear(from);
        return true;
    }
    if (!outbuf_reserve(to, size))
        return false;
    memcpy(to->data + to->end, from->data + from->start, size);
    to->end += size;
    from->start += size;
    if (from->start == from->end)
        outbuf_clear(from);
    return true;
}

/* ------------------------------------------------------------------------------------ control frames */

static size_t frame_size_bound(const struct frame *frame)
{
    if (frame->op == FRAME_SUBSCRIBE)
        return CONTROL_BODY_MAX + frame->as.subscribe.pattern.size + frame->as.subscribe.cursors.size;
    if (frame->op == FRAME_REQUEST)
        return CONTROL_BODY_MAX + frame->as.request.verb.size + frame->as.request.args.size;
    if (frame->op == FRAME_HELLO)
        return CONTROL_BODY_MAX + frame->as.hello.peer.size + frame->as.hello.publisher.size;
    return CONTROL_BODY_MAX;
}

bool link_is_short_of_credit(const struct link *link)
{
    return link->credit_total - link->credit_used < link->credit_first / 2 || link->credit_used > link->credit_total;
}

void link_control(struct weir *client, const struct frame *frame)
{
    link_attend(client);
    link_control_unattended(client, frame);
}

void link_control_unattended(struct weir *client, const struct frame *frame)
{
    struct outbuf *control = &client->link.control;
    size_t capacity = frame_size_bound(frame);
    uint8_t small[CONTROL_BODY_MAX];
    uint8_t *body = capacity <= sizeof small ? small : malloc(capacity);
    struct value_writer writer;
    if (frame->op == FRAME_PONG && outbuf_size(control) > PONGS_SIZE_MAX) {
        link_close(client, WEIR_PROTOCOL, "the broker sends pings and does not read the answers");
        return;
    }
    value_writer_init(&writer, body, body == NULL ? 0 : capacity);
    frame_write(&writer, frame);
    if (writer.is_full || !outbuf_message(control, client->link.is_ipc, view_of(body, writer.size), view_of(NULL, 0)))
        link_close(client, WEIR_NO_MEMORY, "no memory for a frame");
    if (body != small)
        free(body);
}

void link_consumed(struct weir *client, size_t size)
{
    struct link *link = &client->link;
    if (link->state == LINK_DOWN)
        return; /* makes room in the window of the next connection, which counts what is queued when it begins */
    link->consumed_total += size;
    uint64_t window = client->options.window_bytes;
    /* What was queued before this connection takes its part of the window until it is consumed, too. */
    uint64_t target =
        link->consumed_total + window > link->leftover ? link->consumed_total + window - link->leftover : 0;
    if (link->state != LINK_UP || target <= link->granted_total || target - link->granted_total < window / 2)
        return;
    link->granted_total = target;
    link_control(client, &(struct frame){.op = FRAME_CREDIT, .as.credit.total = target});
    link_pump(client);
}

/* --------------------------------------------------------------------------------------------- sending */

/* How many bytes of whole data messages the broker's credit lets out now, of how many bodies. One message may begin as
 * long as any credit is left, so that one larger than the window is not stuck. */
static size_t data_allowed(struct link *link, uint64_t *bodies_size, size_t *count)
{
    size_t prefix = sp_prefix_size(link->is_ipc), allowed = 0;
    uint64_t used = link->credit_used;
    *count = 0;
    while (allowed < outbuf_size(&link->data) && allowed < SENDING_SIZE_MAX && used < link->credit_total) {
        size_t offset = 0, size = 0, needed = 0;
        enum weir_error error =
            sp_message_find(link->data.data + link->data.start + allowed, outbuf_size(&link->data) - allowed,
                            link->is_ipc, SIZE_MAX / 2, &offset, &size, &needed);
        INVARIANT(error == WEIR_OK && offset == prefix);
        used += size;
        allowed += offset + size;
        (*count)++;
    }
    *bodies_size = used - link->credit_used;
    return allowed;
}

static void data_take(struct weir *client)
{
    struct link *link = &client->link;
    uint64_t bodies_size = 0;
    size_t count = 0;
    if (outbuf_size(&link->data) == 0 && link->credit_used < link->credit_total)
        publisher_close_batch(client);
    size_t size = data_allowed(link, &bodies_size, &count);
    if (!outbuf_move(&link->sending, &link->data, size))
        return; /* memory is out: it stays for the next attempt */
    link->credit_used += bodies_size;
    if (link_is_short_of_credit(link))
        link_attend(client);
    for (size_t i = 0; i < count; i++)
        publisher_on_sending(client);
}

static void sending_sent(struct weir *client)
{
    struct link *link = &client->link;
    link->is_sending = false;
    link->sent_before_ns = link->sent_ns;
    link->sent_ns = link->paced_ns = clock_now_ns();
    outbuf_clear(&link->sending);
    publisher_on_sent(client);
}

/* Without the lock, or whoever the broker answers meanwhile would wait for it: the send wakes the broker, which may
 * have answered before it returns. The pipe stays for as long, see link_reap. */
static enum weir_error sending_released(struct weir *client, const struct iovec *part, size_t *sent)
{
    struct link *link = &client->link;
    link->is_sending = link->is_flushing = true;
    pthread_mutex_unlock(&client->lock);
    enum weir_error error = sp_pipe_send_now(link->pipe, part, 1, sent);
    pthread_mutex_lock(&client->lock);
    link->is_flushing = false;
    if (link->is_closed)
        client_wake(client);
    return error;
}

/* Whether the line has rested long enough for one more send by whoever publishes. It saves up rest, so that a few
 * records that are due together do not cost a switch of threads. */
static bool pace_allows(struct link *link, uint64_t now_ns)
{
    uint64_t most = link->send_ns * RESTED_SENDS, rested = link->rested_ns + (now_ns - link->paced_ns);
    link->rested_ns = rested < most ? rested : most;
    link->paced_ns = now_ns;
    return link->rested_ns >= link->send_ns;
}

/* A send took so long. One during which the system ran somebody else looks long: it must not count for much, since
 * while it does no send corrects it. */
static void pace_spend(struct link *link, uint64_t took_ns)
{
    uint64_t most = link->send_ns * 2 + SEND_NS_STEP;
    uint64_t counted = took_ns < most ? took_ns : most;
    link->rested_ns -= link->rested_ns < counted ? link->rested_ns : counted;
    link->send_ns = (link->send_ns * 3 + counted) / 4;
}

/* True when all of it went out at once. */
static bool sending_flush(struct weir *client, bool releases, bool is_paced)
{
    struct link *link = &client->link;
    struct iovec part = {link->sending.data + link->sending.start, outbuf_size(&link->sending)};
    size_t sent = 0;
    client->counts.bytes_sent += part.iov_len;
    uint64_t begin = clock_now_ns();
    enum weir_error error =
        releases ? sending_released(client, &part, &sent) : sp_pipe_send_now(link->pipe, &part, 1, &sent);
    if (error == WEIR_OK) {
        sending_sent(client);
        if (is_paced)
            pace_spend(link, link->sent_ns - begin);
        pthread_cond_broadcast(&client->changed);
        return true;
    }
    link->is_sending = true;
    if (error == WEIR_CLOSED) { /* for ever: what was in it is settled when the link is reaped */
        link_close(client, WEIR_CLOSED, "the connection was lost while sending");
        return false;
    }
    part.iov_base = (uint8_t *)part.iov_base + sent;
    part.iov_len -= sent;
    sp_pipe_send(link->pipe, &part, 1);
    return false;
}

static bool has_unsent(const struct weir *client)
{
    const struct link *link = &client->link;
    if (outbuf_size(&link->control) > 0)
        return true;
    return link->state == LINK_UP && link->credit_used < link->credit_total &&
           (outbuf_size(&link->data) > 0 || client->publisher.count > 0);
}

/* A poller comes by soon and sends what has gathered until then. */
static void sending_defer(struct link *link)
{
    const struct iovec nothing = {.iov_len = 0};
    link->is_sending = link->is_deferred = true;
    sp_pipe_send(link->pipe, &nothing, 1);
}

static void pump(struct weir *client, bool releases, bool is_poller)
{
    struct link *link = &client->link;
    bool is_done = true, has_sent = false;
    while (is_done && !link->is_sending && link->pipe != NULL && link->state != LINK_DOWN && link->error == WEIR_OK &&
           has_unsent(client)) {
        /* A poller comes by again once it has seen whether others want it. */
        if (is_poller ? has_sent : !pace_allows(link, clock_now_ns())) {
            sending_defer(link);
            return;
        }
        /* Of a stream, which has frames in line, acks are few anyway. */
        if (outbuf_size(&link->data) == 0 && client->publisher.count > 0)
            link_hold(client, clock_now_ns());
        if (!outbuf_move(&link->sending, &link->control, outbuf_size(&link->control))) {
            link_close(client, WEIR_NO_MEMORY, "no memory for a frame");
            return;
        }
        if (link->state == LINK_UP)
            data_take(client);
        is_done = has_sent = outbuf_size(&link->sending) > 0 && sending_flush(client, releases, !is_poller);
    }
}

void link_pump(struct weir *client) { pump(client, false, false); }

void link_pump_released(struct weir *client) { pump(client, true, false); }

void link_on_sent(struct weir *client)
{
    struct link *link = &client->link;
    if (link->is_deferred)
        link->is_deferred = link->is_sending = false;
    else
        sending_sent(client);
    pump(client, true, true);
}
