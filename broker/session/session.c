/* A session: hello, frames, credit, heartbeats and the end. In the connection's turns. */
#include "broker/session/session.h"

#include <stdio.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "broker/gateway/roster.h"
#include "broker/session/state.h"

enum { CLOSE_TEXT_MAX = 256 };

bool session_frame(struct connection *connection, const struct frame *frame, size_t size_max)
{
    if (session_of(connection)->is_told_end)
        return false;
    uint8_t *body = output_urgent_reserve(connection, size_max);
    if (body == NULL)
        return false;
    struct value_writer writer;
    value_writer_init(&writer, body, size_max);
    frame_write(&writer, frame);
    ENSURE(!writer.is_full);
    output_urgent_commit(connection, writer.size);
    return true;
}

enum weir_error session_refuse(struct connection *connection, enum refusal refusal, enum weir_error error,
                               const char *text)
{
    connection_refuse(connection, refusal, error, text);
    return error == WEIR_AGAIN ? WEIR_PROTOCOL : error;
}

/* -------------------------------------------------------------------------------------------- opening */

static enum weir_error session_open(struct connection *connection)
{
    connection->intake.body_max = SESSION_HELLO_MAX;
    session_of(connection)->hello_timer =
        connection_timer(connection, TIMER_HELLO, connection->config->handshake_ms, false);
    return WEIR_OK;
}

static void session_hello_answer(struct connection *connection)
{
    struct session *session = session_of(connection);
    struct frame frame = {.op = FRAME_HELLO};
    frame.as.hello.is_server = true;
    frame.as.hello.version = SESSION_VERSION;
    frame.as.hello.credit = session->in_granted;
    frame.as.hello.message_max = connection->config->message_size_max;
    frame.as.hello.heartbeat_ms = connection->config->heartbeat_ms;
    frame.as.hello.peer = view_text(connection->gateway->server_name);
    frame.as.hello.publish_with = true;
    frame.as.hello.hold = true;
    frame.as.hello.records_max = connection->config->records_per_message_max;
    frame.as.hello.depth_max = connection->config->depth_max;
    session_frame(connection, &frame, SESSION_FRAME_MAX);
}

static enum weir_error session_hello(struct connection *connection, const struct frame *frame)
{
    struct session *session = session_of(connection);
    if (session->is_open)
        return session_refuse(connection, REFUSAL_HELLO, WEIR_PROTOCOL, "there was a HELLO already");
    if (frame->as.hello.version != SESSION_VERSION)
        return session_refuse(connection, REFUSAL_HELLO, WEIR_PROTOCOL, "this broker speaks version 1 of the protocol");
    if (frame->as.hello.message_max < connection->config->message_size_max)
        return session_refuse(connection, REFUSAL_HELLO, WEIR_TOO_BIG,
                              "the client's message_max is below the broker's, which could not deliver everything");
    if (frame->as.hello.publisher.size > PUBLISHER_NAME_MAX)
        return session_refuse(connection, REFUSAL_HELLO, WEIR_BAD_REQUEST, "a publisher's name has at most 64 bytes");
    /* A publisher has one session: an older one, perhaps a connection that only this side takes for alive, is ended. */
    if (frame->as.hello.publisher.size > 0 && roster_take_over(connection, frame->as.hello.publisher) != WEIR_OK)
        return session_refuse(connection, REFUSAL_MEMORY, WEIR_NO_MEMORY, weir_error_text(WEIR_NO_MEMORY));
    session->is_open = true;
    session->hold_from = UINT64_MAX;
    timer_cancel(connection->runtime, session->hello_timer);
    session->in_granted = connection->config->publish_window;
    session->out_granted = frame->as.hello.credit;
    size_t out_max = connection->config->message_size_max > OUTPUT_BUFFER_MAX * 4 ? connection->config->message_size_max
                                                                                  : OUTPUT_BUFFER_MAX * 4;
    session->out_max = frame->as.hello.message_max < out_max ? (size_t)frame->as.hello.message_max : out_max;
    connection_name_set(connection, frame->as.hello.peer);
    connection->intake.body_max = connection->config->message_size_max;
    session_hello_answer(connection);
    connection_timer(connection, TIMER_TICK, connection->config->heartbeat_ms, true);
    return WEIR_OK;
}

/* --------------------------------------------------------------------------------------------- frames */

static enum weir_error session_request(struct connection *connection, const struct frame *frame)
{
    struct request request = {.verb = frame->as.request.verb, .args = frame->as.request.args};
    enum weir_error error = requests_take(connection, &request, frame->as.request.id, view_of(NULL, 0));
    if (error != WEIR_NO_MEMORY)
        return error;
    requests_refuse(connection, frame->as.request.id, view_of(NULL, 0), error, weir_error_text(error));
    return WEIR_OK;
}

static enum weir_error session_credit(struct connection *connection, const struct frame *frame)
{
    struct session *session = session_of(connection);
    if (frame->as.credit.total > session->out_granted)
        session->out_granted = frame->as.credit.total;
    return WEIR_OK;
}

static enum weir_error session_ping(struct connection *connection, const struct frame *frame)
{
    session_frame(connection, &(struct frame){.op = FRAME_PONG, .as.pong.n = frame->as.ping.n}, SESSION_FRAME_MAX);
    return WEIR_OK;
}

/* The client's last frame. What it sent before still goes to topics; nothing more is sent to it. */
static enum weir_error session_closed(struct connection *connection)
{
    session_ack_flush(connection);
    session_of(connection)->is_told_end = true;
    output_clear(connection);
    connection_finish(connection);
    return WEIR_OK;
}

static enum weir_error session_dispatch(struct connection *connection, const struct frame *frame, size_t body_size)
{
    switch (frame->op) {
    case FRAME_HELLO: return session_hello(connection, frame);
    case FRAME_PING: return session_ping(connection, frame);
    case FRAME_PONG: return WEIR_OK;
    case FRAME_CREDIT: return session_credit(connection, frame);
    case FRAME_CLOSE: return session_closed(connection);
    case FRAME_ALIAS: return session_alias(connection, frame);
    case FRAME_PUBLISH:
    case FRAME_PUBLISH_WITH: return session_publish(connection, frame, body_size);
    case FRAME_SUBSCRIBE: return session_subscribe(connection, frame);
    case FRAME_UNSUBSCRIBE: return session_unsubscribe(connection, frame);
    case FRAME_REQUEST: return session_request(connection, frame);
    case FRAME_HOLD: return session_hold(connection, frame);
    default: return session_refuse(connection, REFUSAL_MALFORMED, WEIR_PROTOCOL, "only a broker sends such a frame");
    }
}

static enum weir_error session_body(struct connection *connection, struct view body)
{
    struct frame frame;
    const char *reason = "the frame is malformed";
    enum weir_error error = frame_read(body, connection->config->depth_max, &frame, &reason);
    if (error != WEIR_OK)
        return session_refuse(connection, REFUSAL_MALFORMED, error, reason);
    if (!session_of(connection)->is_open && frame.op != FRAME_HELLO && frame.op != FRAME_CLOSE)
        return session_refuse(connection, REFUSAL_HELLO, WEIR_PROTOCOL, "the first frame must be HELLO");
    return session_dispatch(connection, &frame, body.size);
}

/* ------------------------------------------------------------------------------------ from topics, timers */

static void session_message(struct connection *connection, struct message *message)
{
    switch (message->tag) {
    case TOPIC_ACK:
    case TOPIC_NACK: session_on_ack(connection, message); return;
    case DIRECTORY_SUBSCRIBED:
    case DIRECTORY_UNSUBSCRIBED:
    case DIRECTORY_TOPIC_GONE: session_on_directory(connection, message); return;
    default: session_on_topic(connection, message); return;
    }
}

/* Whether nobody is there any more. Silence alone does not say so, since this process or the machine may have stood
 * still: it was asked, too, and there was time to answer. */
static bool session_is_lost(struct connection *connection)
{
    struct session *session = session_of(connection);
    uint64_t now_ns = turn_now_ns(connection->turn), heartbeat_ns = connection->config->heartbeat_ms * NS_PER_MS;
    /* Whoever is not read, except for not reading, cannot be heard. */
    if ((connection->paused & ~(unsigned)PAUSE_URGENT) != 0)
        connection->heard_ns = now_ns;
    if (connection->heard_ns >= session->asked_ns)
        session->asked_count = 0;
    return session->asked_count == SESSION_ASKS && now_ns - session->asked_ns >= heartbeat_ns / 2 &&
           now_ns - connection->heard_ns >= SESSION_HEARTBEATS * heartbeat_ns;
}

static void session_lose(struct connection *connection)
{
    connection_refuse(connection, REFUSAL_IDLE, WEIR_TIMEOUT, "nothing was heard from the client for too long");
}

static void session_ask(struct connection *connection)
{
    struct session *session = session_of(connection);
    session->asked_ns = turn_now_ns(connection->turn);
    session->asked_count++;
    session_frame(connection, &(struct frame){.op = FRAME_PING, .as.ping.n = session->asked_count}, SESSION_FRAME_MAX);
}

static void session_tick(struct connection *connection)
{
    if (session_is_lost(connection)) {
        session_lose(connection);
        return;
    }
    uint64_t heartbeat_ns = connection->config->heartbeat_ms * NS_PER_MS, end_ns = SESSION_HEARTBEATS * heartbeat_ns;
    uint64_t silent_ns = turn_now_ns(connection->turn) - connection->heard_ns;
    /* Timers come a little early or late: half an interval of silence is enough to ask. */
    if (silent_ns >= heartbeat_ns / 2 && session_of(connection)->asked_count < SESSION_ASKS)
        session_ask(connection);
    /* The end of its time is not one of the moments at which sessions tick together. */
    if (silent_ns < end_ns && end_ns - silent_ns < heartbeat_ns)
        connection_timer(connection, TIMER_SILENCE, (end_ns - silent_ns) / NS_PER_MS + 1, false);
}

static void session_timer(struct connection *connection, enum connection_timer timer)
{
    if (timer == TIMER_HELLO && !session_of(connection)->is_open)
        connection_refuse(connection, REFUSAL_HELLO, WEIR_TIMEOUT, "there was no HELLO in time");
    if (timer == TIMER_TICK)
        session_tick(connection);
    if (timer == TIMER_SILENCE && session_is_lost(connection))
        session_lose(connection);
}

/* What found its way to topics, or was refused, may be sent again: renewed in steps, so that frames are few. */
static void session_grant(struct connection *connection)
{
    struct session *session = session_of(connection);
    uint64_t window = connection->config->publish_window;
    /* Records of requests are parked without having cost credit, so that more may be held back than was ever received.
     */
    uint64_t earned = window + session->in_received, held = connection->publisher.parked_bytes;
    if (earned < held || earned - held < session->in_granted + window / 4)
        return;
    uint64_t total = earned - held;
    session->in_granted = total;
    session_frame(connection, &(struct frame){.op = FRAME_CREDIT, .as.credit.total = total}, SESSION_FRAME_MAX);
}

static void session_turn_end(struct connection *connection)
{
    struct session *session = session_of(connection);
    if (!session_ack_may_wait(connection))
        session_ack_flush(connection);
    if (session->is_open && !connection->is_finishing && !connection->is_gone)
        session_grant(connection);
    /* What takes a send anyway takes acks along that were held back. */
    if (connection->output.urgent_size > 0)
        session_ack_flush(connection);
    atomic_store_explicit(&connection->counters.credit, session->out_granted - session->out_sent, memory_order_relaxed);
}

/* --------------------------------------------------------------------------------------------- the end */

static void session_tell_end(struct connection *connection, enum weir_error error, const char *text)
{
    struct session *session = session_of(connection);
    if (session->is_told_end)
        return;
    session_ack_flush(connection);
    struct frame frame = {.op = FRAME_CLOSE};
    frame.as.close.code = view_text(weir_error_code(error));
    frame.as.close.message = view_of(text, strnlen(text, CLOSE_TEXT_MAX));
    /* Without memory for it the end has been told meanwhile, or it is told by what needs none. */
    if (!session_frame(connection, &frame, SESSION_FRAME_MAX) && !session->is_told_end)
        connection->output.has_last_words = true;
    session->is_told_end = true;
    queue_clear(connection, &connection->output.replies);
    queue_clear(connection, &connection->output.data);
    queue_clear(connection, &connection->output.bulk);
    connection->output.data_size = 0;
}

/* CLOSE `no-memory` as it stands on the wire: the type byte of ipc, the length, the frame. */
static struct view session_last_words(bool is_ipc)
{
    static const char words[] = "\1\0\0\0\0\0\0\0\x40"
                                "\x93\x04\xa9no-memory\xd9\x32"
                                "the broker has no memory to answer into at present";
    _Static_assert(sizeof words - 1 == 9 + 0x40, "the length is that of the frame");
    size_t skipped = is_ipc ? 0 : 1;
    return view_of(words + skipped, sizeof words - 1 - skipped);
}

static void session_refused(struct connection *connection, enum weir_error error, const char *text)
{
    session_tell_end(connection, error, text);
}

static bool session_has_pending(const struct connection *connection) { return session_of(connection)->unanswered > 0; }

static void session_drain(struct connection *connection)
{
    output_pump(connection); /* CLOSE is the last frame: what the socket takes now still goes before it */
    if (connection->is_taken_over)
        session_tell_end(connection, WEIR_CONFLICT, "another session has said hello as this publisher");
    else
        session_tell_end(connection, WEIR_CLOSED, "the broker ends this session");
}

/* Nobody is left to follow topics: at once, since a subscription of policy block would hold its topic back meanwhile.
 */
static void session_gone(struct connection *connection)
{
    struct session *session = session_of(connection);
    if (session->subscriptions.count > 0 || session->follows.count > 0)
        connection_order(connection, &(struct message){.tag = DIRECTORY_CLOSE});
    session_subscriptions_fini(connection);
    follows_fini(connection, &session->follows);
}

static void session_close(struct connection *connection)
{
    session_gone(connection);
    session_aliases_fini(connection);
}

static size_t session_reply_head(const struct request_slot *slot, bool ok, uint8_t *head, size_t capacity)
{
    uint8_t bytes[32];
    struct value_writer writer;
    value_writer_init(&writer, bytes, sizeof bytes);
    value_write_array(&writer, 4);
    value_write_uint(&writer, FRAME_REPLY);
    value_write_uint(&writer, slot->id);
    value_write_str(&writer, view_text(ok ? "ok" : "error"));
    size_t at = capacity - writer.size;
    memcpy(head + at, bytes, writer.size);
    return at;
}

const struct connection_ops session_ops = {
    .protocol = "pair",
    .parked_max = PUBLISHER_PARKED_MAX,
    .state_size = sizeof(struct session),
    .open = session_open,
    .on_body = session_body,
    .on_ahead = session_ahead,
    .on_message = session_message,
    .ahead_message = session_ahead_message,
    .on_handed = session_on_handed,
    .render = session_render,
    .reply_head = session_reply_head,
    .on_timer = session_timer,
    .on_turn_end = session_turn_end,
    .has_pending = session_has_pending,
    .on_drain = session_drain,
    .on_refused = session_refused,
    .last_words = session_last_words,
    .on_gone = session_gone,
    .close = session_close,
};
