/* The connection of a client: dialing, and taking received bytes apart into frames. Everything runs on the client's
 * thread or a user's with the lock held, but for the pipe's three handlers, which a poller calls and which only
 * note what happened and send what has gathered.
 *
 * A client's thread that has nothing to do waits for bytes itself (link_rest): what comes alone then costs one switch
 * of threads less than through on_received, which serves while the thread is busy with what came before. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/base/limits.h"
#include "clients/lib/client.h"

enum {
    RECEIVE_SIZE = 64 * 1024,  /* one read's worth under load */
    STREAM_SIZE_MIN = 8192,    /* some fifty small records: what comes meanwhile is worth another thread */
    PATIENCE_MS = 5,           /* until acks that nobody waits for are asked for and looked at: 200 times a second
                                  costs little */
    UNAWAITED_MS = 20,         /* whoever waits now and then is answered at once */
    PINGS_MAX = 2,             /* silence of one interval and two pings more: dead after the third */
    QUEUED_MAX = 256 * 1024,   /* events that wait for the user; beyond, nothing is received until half are gone */
    QUEUED_FREE_MAX = 4 << 20, /* the same for bytes of those that take no credit: some tens a frame, as a rule */
};

/* ------------------------------------------------------------------------------- handlers, a poller's thread */

static void link_note_received(struct weir *client, size_t size)
{
    struct link *link = &client->link;
    sp_inbox_commit(&link->inbox, size);
    link->is_flowing = size >= link->offered / 2;
    link->is_streaming = size >= STREAM_SIZE_MIN;
    link->has_received = true;
    link->heard_ns = clock_now_ns();
    client->counts.bytes_received += size;
}

static void on_received(void *owner, size_t size, enum weir_error error)
{
    struct weir *client = owner;
    struct link *link = &client->link;
    pthread_mutex_lock(&client->lock);
    link->is_receiving = false;
    if (error == WEIR_OK) {
        link_note_received(client, size);
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
    if (error != WEIR_OK) {
        link_close(client, error, "the connection was lost while sending");
    } else {
        link_on_sent(client);
    }
    pthread_cond_broadcast(&client->changed);
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

/* Whether something may be received now. The client's thread. */
static bool link_may_receive(struct weir *client)
{
    struct link *link = &client->link;
    if (link->is_receiving || link->has_received || link->pipe == NULL || link->error != WEIR_OK)
        return false;
    link->is_paused = client->queued_count > QUEUED_MAX || client->queued_free_bytes > QUEUED_FREE_MAX;
    if (link->is_paused)
        return false;
    if (sp_inbox_reserve(&link->inbox, &link->space, &link->offered) == WEIR_OK)
        return true;
    link_close(client, WEIR_NO_MEMORY, "no memory for a received message");
    return false;
}

/* Receives meanwhile; while much comes, what is there already is taken without a switch of threads. */
void link_receive(struct weir *client)
{
    struct link *link = &client->link;
    size_t received = 0;
    if (!link_may_receive(client))
        return;
    enum weir_error error = WEIR_AGAIN;
    if (link->is_flowing) {
        pthread_mutex_unlock(&client->lock);
        error = sp_pipe_receive_now(link->pipe, link->space, link->offered, &received);
        pthread_mutex_lock(&client->lock);
    }
    if (error == WEIR_OK) {
        link_note_received(client, received);
    } else if (error == WEIR_AGAIN) {
        link->is_flowing = false;
        link->is_receiving = true;
        sp_pipe_receive(link->pipe, link->space, link->offered);
    } else {
        link_close(client, error, "the connection was lost");
    }
}

/* Acks that follow one another, and that nobody waits for, are sent and looked at a few at a time: each would cost the
 * broker as much as the record that it is for, and wake the thread, on a core that whoever publishes, or the broker,
 * wants. As soon as somebody begins to wait, or the credit is half used up, link_attend ends that. */
static bool link_may_be_patient(const struct weir *client, uint64_t now_ns)
{
    const struct link *link = &client->link;
    /* A publisher with a name keeps its records until their acks. */
    bool is_awaited = client->options.on_outcome != NULL || client->subscriptions != NULL ||
                      client->publisher_name != NULL || client->waiting_count > 0;
    uint64_t pause_ns = link->is_holding ? PATIENCE_MS * NS_PER_MS : PATIENCE_MS * NS_PER_MS / 2;
    return link->state == LINK_UP && !is_awaited && now_ns - link->sent_before_ns < pause_ns &&
           !link_is_short_of_credit(link);
}

static void hold_set(struct weir *client, bool is_holding)
{
    client->link.is_holding = is_holding;
    link_control_unattended(client, &(struct frame){.op = FRAME_HOLD, .as.hold.on = is_holding});
}

void link_hold(struct weir *client, uint64_t now_ns)
{
    struct link *link = &client->link;
    bool was_holding = link->is_holding, is_due = !was_holding || now_ns - link->held_ns >= PATIENCE_MS * NS_PER_MS;
    if (!link->takes_hold || !is_due || client->publisher.ack == ACK_NONE || !link_may_be_patient(client, now_ns) ||
        now_ns - link->awaited_ns < UNAWAITED_MS * NS_PER_MS)
        return;
    link->held_ns = now_ns;
    hold_set(client, true);
    /* Acks would have woken it: it has to see when to ask for them. */
    if (!was_holding && !link->is_patient)
        client_wake(client);
}

void link_hold_end(struct weir *client, uint64_t now_ns)
{
    if (client->link.is_holding && !link_may_be_patient(client, now_ns))
        hold_set(client, false);
}

void link_attend(struct weir *client)
{
    struct link *link = &client->link;
    if (!link->is_patient && !link->is_holding)
        return;
    if (link->is_holding)
        hold_set(client, false);
    link->is_patient = false;
    client_wake(client);
}

bool link_rest(struct weir *client, uint64_t until_ns)
{
    struct link *link = &client->link;
    uint64_t now = clock_now_ns();
    size_t received = 0;
    if (!link_may_receive(client))
        return false;
    bool is_patient = link->is_holding || link_may_be_patient(client, now);
    uint64_t left_ms = until_ns > now ? (until_ns - now + NS_PER_MS - 1) / NS_PER_MS : 1;
    left_ms = is_patient && left_ms > PATIENCE_MS ? PATIENCE_MS : left_ms;
    link->is_resting = true;
    link->is_patient = is_patient;
    pthread_mutex_unlock(&client->lock);
    enum weir_error error =
        sp_pipe_receive_wait(link->pipe, link->space, link->offered, left_ms, is_patient, &received);
    pthread_mutex_lock(&client->lock);
    link->is_resting = link->is_patient = false;
    if (error == WEIR_OK)
        link_note_received(client, received);
    else if (error != WEIR_AGAIN)
        link_close(client, error, "the connection was lost");
    return true;
}

static void link_hello(struct weir *client)
{
    struct link *link = &client->link;
    uint64_t window = client->options.window_bytes;
    struct frame frame = {.op = FRAME_HELLO};
    link->leftover = client->queued_bytes;
    link->granted_total = window > link->leftover ? window - link->leftover : 0;
    frame.as.hello.version = SESSION_VERSION;
    frame.as.hello.credit = link->granted_total;
    frame.as.hello.message_max = MESSAGE_SIZE_MAX;
    frame.as.hello.heartbeat_ms = client->options.heartbeat_ms;
    frame.as.hello.peer = view_text(client->name);
    if (client->publisher_name != NULL)
        frame.as.hello.publisher = view_text(client->publisher_name);
    link_control(client, &frame);
    link_pump(client);
}

static void link_begin(struct weir *client, struct sp_pipe *pipe)
{
    struct link *link = &client->link;
    link->pipe = pipe;
    link->is_ipc = sp_pipe_is_ipc(pipe);
    if (link->inbox.space_size != 0)
        sp_inbox_clear(&link->inbox, link->is_ipc);
    else
        sp_inbox_init(&link->inbox, link->is_ipc, RECEIVE_SIZE, MESSAGE_SIZE_MAX);
    link->is_closed = link->is_receiving = link->is_sending = link->is_deferred = link->has_received = false;
    link->is_flowing = link->is_streaming = false;
    link->pings = 0;
    link->credit_total = link->credit_used = link->consumed_total = link->data_total = 0;
    link->dialed_ns = link->heard_ns = clock_now_ns();
    link->error = WEIR_OK;
    link->state = LINK_HELLO;
}

void link_dial(struct weir *client)
{
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
    link_begin(client, pipe);
    sp_pipe_start(pipe, &handlers, client);
    link_hello(client);
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
    link->credit_total = link->credit_first = frame->as.hello.credit;
    link->message_max = frame->as.hello.message_max;
    link->records_max = frame->as.hello.records_max;
    unsigned depth_max =
        frame->as.hello.depth_max < CLIENT_DEPTH_MAX ? (unsigned)frame->as.hello.depth_max : CLIENT_DEPTH_MAX;
    bool is_shallower = depth_max < atomic_exchange_explicit(&link->depth_max, depth_max, memory_order_relaxed);
    link->takes_options = frame->as.hello.publish_with;
    link->takes_hold = frame->as.hello.hold;
    client->counts.reconnects += link->was_up;
    link->was_up = true;
    link->up_ns = clock_now_ns();
    publisher_on_link_up(client, is_shallower);
    link_consumed(client, 0);
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
        link_fail(client, error == WEIR_OK ? WEIR_CLOSED : error, reason);
    if (link->pipe != NULL)
        sp_pipe_close(link->pipe);
}

void link_reap(struct weir *client)
{
    struct link *link = &client->link;
    while (link->is_flushing)
        pthread_cond_wait(&client->work, &client->lock);
    bool was_up = link->state == LINK_UP;
    struct sp_pipe *pipe = link->pipe;
    enum weir_error error = link->error == WEIR_OK ? WEIR_CLOSED : link->error;
    char reason[sizeof link->reason];
    memcpy(reason, link->reason, sizeof reason);
    link->pipe = NULL;
    link->state = LINK_DOWN;
    link->has_received = link->is_sending = link->is_deferred = link->is_receiving = false;
    link->is_holding = false;
    outbuf_clear(&link->control);
    outbuf_clear(&link->sending);
    feeds_close(client);
    requests_on_link_down(client);
    pthread_mutex_unlock(&client->lock);
    sp_pipe_destroy(&pipe);
    pthread_mutex_lock(&client->lock);
    if (!was_up)
        return;
    /* A broker that says hello and hangs up is not asked again and again at once. */
    if (clock_now_ns() - link->up_ns >= client->options.backoff_max_ms * NS_PER_MS)
        client->backoff_ms = client->options.backoff_min_ms;
    publisher_on_link_down(client);
    pthread_cond_broadcast(&client->changed);
    if (client->options.on_link != NULL) {
        pthread_mutex_unlock(&client->lock);
        client->options.on_link(client, WEIR_LINK_DOWN, error, reason, client->options.context);
        pthread_mutex_lock(&client->lock);
    }
}

void link_fini(struct weir *client)
{
    sp_inbox_fini(&client->link.inbox);
    free(client->link.control.data);
    free(client->link.data.data);
    free(client->link.sending.data);
}

/* ------------------------------------------------------------------------------------------- receiving */

static void link_on_close(struct weir *client, const struct frame *frame)
{
    char reason[sizeof client->link.reason];
    struct view code = frame->as.close.code, message = frame->as.close.message;
    snprintf(reason, sizeof reason, "the broker closed the session: %.*s (%.*s)",
             message.size < 120 ? (int)message.size : 120, (const char *)message.data,
             code.size < 20 ? (int)code.size : 20, (const char *)code.data);
    link_close(client, weir_error_from_code((const char *)code.data, code.size), reason);
}

static void link_on_frame(struct weir *client, const struct frame *frame, struct view body)
{
    struct link *link = &client->link;
    switch (frame->op) {
    case FRAME_HELLO: link_on_hello(client, frame); break;
    case FRAME_PING: link_control(client, &(struct frame){.op = FRAME_PONG, .as.pong.n = frame->as.ping.n}); break;
    case FRAME_PONG: break;
    case FRAME_CREDIT:
        if (frame->as.credit.total > link->credit_total)
            link->credit_total = frame->as.credit.total;
        break;
    case FRAME_CLOSE: link_on_close(client, frame); break;
    case FRAME_ACK: publisher_on_ack(client, frame); break;
    case FRAME_REFUSED: publisher_on_refused(client, frame); break;
    case FRAME_REPLY: requests_on_reply(client, frame); break;
    case FRAME_ALIAS:
    case FRAME_PUBLISH:
    case FRAME_PUBLISH_WITH:
    case FRAME_SUBSCRIBE:
    case FRAME_UNSUBSCRIBE:
    case FRAME_HOLD:
    case FRAME_REQUEST: link_close(client, WEIR_PROTOCOL, "the broker sent a frame that only clients send"); break;
    default: subscriptions_on_frame(client, frame, body); break;
    }
}

/* Only a broker that keeps to its credit can be held back: what a user has not consumed stays within the window. */
static bool link_has_credit(struct link *link, enum frame_op op, size_t size)
{
    if (op != FRAME_ENTRIES && op != FRAME_UPDATES)
        return true;
    bool has_credit = link->data_total < link->granted_total;
    link->data_total += size;
    return has_credit;
}

/* Takes one message out of the inbox; false when there is no whole one. */
static bool link_take_one(struct weir *client)
{
    struct link *link = &client->link;
    const uint8_t *body = NULL;
    size_t size = 0;
    enum weir_error error = sp_inbox_next(&link->inbox, &body, &size);
    if (error == WEIR_AGAIN)
        return false;
    struct frame frame;
    const char *reason = "the broker sent a message beyond all bounds";
    if (error == WEIR_OK)
        error = frame_read(view_of(body, size), CLIENT_DEPTH_MAX, &frame, &reason);
    if (error == WEIR_OK && link->state == LINK_HELLO && frame.op != FRAME_HELLO && frame.op != FRAME_CLOSE) {
        error = WEIR_PROTOCOL;
        reason = "the broker did not say hello";
    }
    if (error == WEIR_OK && !link_has_credit(link, frame.op, size)) {
        error = WEIR_PROTOCOL;
        reason = "the broker sent more data than it had credit for";
    }
    if (error != WEIR_OK) {
        link_close(client, WEIR_PROTOCOL, reason);
        return false;
    }
    link_on_frame(client, &frame, view_of(body, size));
    return true;
}

bool link_take(struct weir *client)
{
    struct link *link = &client->link;
    bool is_half_gone = client->queued_count <= QUEUED_MAX / 2 && client->queued_free_bytes <= QUEUED_FREE_MAX / 2;
    if (link->is_paused && is_half_gone) {
        link->heard_ns = clock_now_ns(); /* it was this side that did not listen */
        link_receive(client);
    }
    if (!link->has_received || link->is_closed)
        return false;
    link->has_received = false;
    while (link->error == WEIR_OK && link_take_one(client)) {
    }
    if (link->is_flowing)
        link_receive(client);
    return true;
}

/* ------------------------------------------------------------------------------------------- heartbeat */

static uint64_t heartbeat_next(struct weir *client, uint64_t now_ns)
{
    struct link *link = &client->link;
    if (link->pipe == NULL)
        return now_ns;
    if (link->error != WEIR_OK || link->is_paused)
        return UINT64_MAX; /* on_closed, or the user who takes events, will wake the thread */
    if (link->state == LINK_HELLO) {
        uint64_t until = link->dialed_ns + client->options.connect_timeout_ms * NS_PER_MS;
        if (now_ns < until)
            return until;
        link_close(client, WEIR_TIMEOUT, "the broker did not say hello in time");
        return UINT64_MAX;
    }
    uint64_t interval = client->options.heartbeat_ms * NS_PER_MS;
    if (link->heard_ns >= link->pinged_ns)
        link->pings = 0;
    uint64_t since = link->pings > 0 ? link->pinged_ns : link->heard_ns;
    if (now_ns < since + interval)
        return since + interval;
    if (link->pings == PINGS_MAX) {
        link_close(client, WEIR_TIMEOUT, "the broker was silent for too long");
        return UINT64_MAX;
    }
    link->pings++;
    link->pinged_ns = now_ns;
    link_control(client, &(struct frame){.op = FRAME_PING, .as.ping.n = link->pings});
    link_pump(client);
    return now_ns + interval;
}

uint64_t link_heartbeat(struct weir *client, uint64_t now_ns)
{
    uint64_t next = heartbeat_next(client, now_ns), review = now_ns + PATIENCE_MS * NS_PER_MS;
    return client->link.is_holding && review < next ? review : next;
}
