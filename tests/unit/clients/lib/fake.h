/* A broker for the client library's tests: a real listener whose sessions keep every frame for the test to look at, and
 * send what the test says. Handlers run on a poller's thread; everything is guarded by the fake's lock. */
#ifndef TESTS_UNIT_CLIENTS_LIB_FAKE_H
#define TESTS_UNIT_CLIENTS_LIB_FAKE_H

#include "clients/lib/weir.h"
#include "clients/sp/inbox.h"
#include "clients/sp/pipe.h"
#include "clients/wire/request.h"

#include "actors/base/clock.h"
#include "actors/base/limits.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS 60000
#define SESSIONS_MAX 32

struct kept {
    struct kept *next;
    struct frame frame;
    size_t size;
    uint8_t body[];
};

struct fake;
struct session {
    struct fake *fake;
    struct sp_pipe *pipe;
    struct sp_inbox inbox;
    struct kept *first, **last; /* frames not looked at yet */
    uint8_t *out;
    size_t out_size, sending_size;
    uint8_t *sending;
    bool is_closed;
    unsigned pings;  /* PINGs that came; kept apart, since their time is their own */
    uint64_t credit; /* the last CREDIT total */
    unsigned credits;
};

struct fake {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct sp_listener *listener;
    struct session *sessions[SESSIONS_MAX];
    unsigned ready, taken;
    bool is_mute;    /* does not answer PING */
    bool takes_hold; /* says so in its HELLO */
    /* Called under the lock for each frame; true: dealt with, not kept. */
    bool (*on_frame)(struct session *session, const struct frame *frame);
    void *context;
};

/* Waits, lock held, until the condition holds; fails the test after WAIT_MS. */
#define FAKE_WAIT(fake, condition)                                                                \
    do {                                                                                          \
        struct timespec deadline_;                                                                \
        clock_gettime(CLOCK_REALTIME, &deadline_);                                                \
        deadline_.tv_sec += WAIT_MS / 1000;                                                       \
        pthread_mutex_lock(&(fake)->lock);                                                        \
        while (!(condition)) {                                                                    \
            if (pthread_cond_timedwait(&(fake)->changed, &(fake)->lock, &deadline_) == ETIMEDOUT) \
                break;                                                                            \
        }                                                                                         \
        bool holds_ = (condition);                                                                \
        pthread_mutex_unlock(&(fake)->lock);                                                      \
        if (!holds_)                                                                              \
            fail_msg("waited in vain for: %s", #condition);                                       \
    } while (0)

/* ---------------------------------------------------------------------------------------------- sessions */

static inline void session_pump(struct session *s)
{
    if (s->sending != NULL || s->out_size == 0 || s->is_closed)
        return;
    s->sending = s->out;
    s->sending_size = s->out_size;
    s->out = NULL;
    s->out_size = 0;
    sp_pipe_send(s->pipe, &(struct iovec){s->sending, s->sending_size}, 1);
}

/* Lock held. */
static inline void session_put(struct session *s, const void *body, size_t size)
{
    size_t prefix = sp_prefix_size(sp_pipe_is_ipc(s->pipe));
    s->out = realloc(s->out, s->out_size + prefix + size);
    assert_non_null(s->out);
    sp_prefix_write(s->out + s->out_size, sp_pipe_is_ipc(s->pipe), size);
    memcpy(s->out + s->out_size + prefix, body, size);
    s->out_size += prefix + size;
    session_pump(s);
}

static inline void session_put_frame(struct session *s, const struct frame *frame)
{
    size_t capacity = 4096 + frame->as.updates.items.size;
    if (frame->op != FRAME_UPDATES && frame->op != FRAME_ENTRIES && frame->op != FRAME_REPLY)
        capacity = 4096;
    if (frame->op == FRAME_REPLY)
        capacity = 4096 + frame->as.reply.result.size;
    if (frame->op == FRAME_ENTRIES)
        capacity = 4096 + frame->as.entries.items.size;
    uint8_t *body = malloc(capacity);
    struct value_writer writer;
    value_writer_init(&writer, body, capacity);
    frame_write(&writer, frame);
    assert_false(writer.is_full);
    session_put(s, body, writer.size);
    free(body);
}

static inline void session_raw(struct session *s, const void *body, size_t size)
{
    pthread_mutex_lock(&s->fake->lock);
    session_put(s, body, size);
    pthread_mutex_unlock(&s->fake->lock);
}

static inline void session_send(struct session *s, const struct frame *frame)
{
    pthread_mutex_lock(&s->fake->lock);
    session_put_frame(s, frame);
    pthread_mutex_unlock(&s->fake->lock);
}

static inline void session_keep(struct session *s, const struct frame *frame, const uint8_t *body, size_t size)
{
    struct fake *fake = s->fake;
    if (frame->op == FRAME_PING) {
        s->pings++;
        if (!fake->is_mute)
            session_put_frame(s, &(struct frame){.op = FRAME_PONG, .as.pong.n = frame->as.ping.n});
    } else if (frame->op == FRAME_CREDIT) {
        s->credit = frame->as.credit.total;
        s->credits++;
    } else if (fake->on_frame == NULL || !fake->on_frame(s, frame)) {
        struct kept *kept = malloc(sizeof *kept + size);
        *kept = (struct kept){.size = size};
        memcpy(kept->body, body, size);
        assert_int_equal(frame_read(view_of(kept->body, size), 64, &kept->frame, NULL), WEIR_OK);
        *s->last = kept;
        s->last = &kept->next;
    }
}

static inline void session_receive(struct session *s)
{
    void *space = NULL;
    size_t size = 0;
    assert_int_equal(sp_inbox_reserve(&s->inbox, &space, &size), WEIR_OK);
    sp_pipe_receive(s->pipe, space, size);
}

static inline void session_received(void *owner, size_t size, enum weir_error error)
{
    struct session *s = owner;
    const uint8_t *body = NULL;
    size_t body_size = 0;
    struct frame frame;
    pthread_mutex_lock(&s->fake->lock);
    if (error == WEIR_OK) {
        sp_inbox_commit(&s->inbox, size);
        while (sp_inbox_next(&s->inbox, &body, &body_size) == WEIR_OK) {
            const char *reason = "";
            if (frame_read(view_of(body, body_size), 64, &frame, &reason) != WEIR_OK) {
                fprintf(stderr, "the client sent a malformed frame: %s\n", reason);
                abort();
            }
            session_keep(s, &frame, body, body_size);
        }
        session_receive(s);
    }
    pthread_cond_broadcast(&s->fake->changed);
    pthread_mutex_unlock(&s->fake->lock);
}

static inline void session_sent(void *owner, enum weir_error error)
{
    struct session *s = owner;
    pthread_mutex_lock(&s->fake->lock);
    free(s->sending);
    s->sending = NULL;
    if (error == WEIR_OK)
        session_pump(s);
    pthread_cond_broadcast(&s->fake->changed);
    pthread_mutex_unlock(&s->fake->lock);
}

static inline void session_closed(void *owner)
{
    struct session *s = owner;
    pthread_mutex_lock(&s->fake->lock);
    s->is_closed = true;
    pthread_cond_broadcast(&s->fake->changed);
    pthread_mutex_unlock(&s->fake->lock);
}

static const struct sp_pipe_handlers session_handlers = {session_received, session_sent, session_closed};

/* The next frame that was kept; fails the test when it is of another kind. Freed by the caller. */
static inline struct kept *session_take(struct session *s, enum frame_op op)
{
    FAKE_WAIT(s->fake, s->first != NULL || s->is_closed);
    pthread_mutex_lock(&s->fake->lock);
    struct kept *kept = s->first;
    if (kept != NULL) {
        s->first = kept->next;
        if (s->first == NULL)
            s->last = &s->first;
    }
    pthread_mutex_unlock(&s->fake->lock);
    if (kept == NULL)
        fail_msg("the session ended while %s was awaited", frame_op_name(op));
    if (kept->frame.op != op)
        fail_msg("%s came where %s was awaited", frame_op_name(kept->frame.op), frame_op_name(op));
    return kept;
}

static inline void session_skip(struct session *s, enum frame_op op) { free(session_take(s, op)); }

/* Cuts the connection. */
static inline void session_cut(struct session *s)
{
    sp_pipe_close(s->pipe);
    FAKE_WAIT(s->fake, s->is_closed);
}

static inline void session_flushed(struct session *s)
{
    FAKE_WAIT(s->fake, (s->sending == NULL && s->out_size == 0) || s->is_closed);
}

/* ------------------------------------------------------------------------------------------------- fake */

static inline bool fake_accept_any(void *owner, const char *address)
{
    (void)owner, (void)address;
    return true;
}

static inline void fake_ready(void *owner, struct sp_pipe *pipe)
{
    struct fake *fake = owner;
    struct session *s = calloc(1, sizeof *s);
    s->fake = fake;
    s->pipe = pipe;
    s->last = &s->first;
    sp_inbox_init(&s->inbox, sp_pipe_is_ipc(pipe), 65536, MESSAGE_SIZE_MAX);
    sp_pipe_start(pipe, &session_handlers, s);
    pthread_mutex_lock(&fake->lock);
    if (fake->ready == SESSIONS_MAX)
        abort();
    fake->sessions[fake->ready++] = s;
    session_receive(s);
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

static inline void fake_refused(void *owner, const char *address, const char *peer, enum weir_error error,
                                const char *reason)
{
    (void)owner, (void)address, (void)peer, (void)error, (void)reason;
}

static inline void fake_listen(struct fake *fake, const char *url)
{
    static const struct sp_listener_handlers listener_handlers = {fake_accept_any, fake_ready, fake_refused};
    struct sp_listen_options options = {.handshake_ms = 5000, .handshaking_max = 64};
    const char *reason = "";
    if (sp_listen(url, &options, &listener_handlers, fake, &fake->listener, &reason) != WEIR_OK)
        fail_msg("%s: %s", url, reason);
}

static inline void fake_start(struct fake *fake)
{
    *fake = (struct fake){.ready = 0};
    pthread_mutex_init(&fake->lock, NULL);
    pthread_cond_init(&fake->changed, NULL);
    fake_listen(fake, "tcp://127.0.0.1:0");
}

static inline const char *fake_url(struct fake *fake) { return sp_listener_url(fake->listener); }

static inline void fake_stop(struct fake *fake)
{
    sp_listener_stop(fake->listener);
    for (unsigned i = 0; i < fake->ready; i++) {
        struct session *s = fake->sessions[i];
        session_cut(s);
        sp_pipe_destroy(&s->pipe);
        while (s->first != NULL) {
            struct kept *kept = s->first;
            s->first = kept->next;
            free(kept);
        }
        sp_inbox_fini(&s->inbox);
        free(s->out);
        free(s->sending);
        free(s);
    }
    sp_listener_destroy(&fake->listener);
    pthread_cond_destroy(&fake->changed);
    pthread_mutex_destroy(&fake->lock);
}

/* The next connection, before any frame was looked at. */
static inline struct session *fake_next(struct fake *fake)
{
    FAKE_WAIT(fake, fake->ready > fake->taken);
    pthread_mutex_lock(&fake->lock);
    struct session *s = fake->sessions[fake->taken++];
    pthread_mutex_unlock(&fake->lock);
    return s;
}

static inline void session_hello(struct session *s, uint64_t credit, uint64_t message_max)
{
    struct frame frame = {.op = FRAME_HELLO};
    frame.as.hello.version = SESSION_VERSION;
    frame.as.hello.credit = credit;
    frame.as.hello.message_max = message_max;
    frame.as.hello.peer = view_text("fake");
    frame.as.hello.is_server = true;
    frame.as.hello.hold = s->fake->takes_hold;
    session_send(s, &frame);
}

/* The next connection, after the hellos. */
static inline struct session *fake_session(struct fake *fake, uint64_t credit)
{
    struct session *s = fake_next(fake);
    session_skip(s, FRAME_HELLO);
    session_hello(s, credit, MESSAGE_SIZE_MAX_DEFAULT);
    return s;
}

/* weir_open needs an answer while it waits. */
struct opening {
    struct weir_options options;
    struct weir *client;
    enum weir_error error;
    pthread_t thread;
};

static inline void *opening_main(void *argument)
{
    struct opening *opening = argument;
    opening->error = weir_open(&opening->options, &opening->client, NULL);
    return NULL;
}

static inline void open_begin(struct opening *opening, struct fake *fake)
{
    opening->options.url = fake_url(fake);
    if (opening->options.backoff_min_ms == 0)
        opening->options.backoff_min_ms = 5;
    assert_int_equal(pthread_create(&opening->thread, NULL, opening_main, opening), 0);
}

static inline struct weir *open_end(struct opening *opening)
{
    pthread_join(opening->thread, NULL);
    assert_int_equal(opening->error, WEIR_OK);
    return opening->client;
}

/* A client and its session. options may be NULL. */
static inline struct weir *fake_client(struct fake *fake, const struct weir_options *options, uint64_t credit,
                                       struct session **session)
{
    struct opening opening = {.error = WEIR_OK};
    if (options != NULL)
        opening.options = *options;
    open_begin(&opening, fake);
    *session = fake_session(fake, credit);
    return open_end(&opening);
}

/* --------------------------------------------------------------------------------- frames for the client */

static inline void send_ack(struct session *s, uint64_t number, uint32_t count, uint64_t epoch, uint64_t seq)
{
    struct frame frame = {.op = FRAME_ACK};
    frame.as.ack.number = number;
    frame.as.ack.count = count;
    frame.as.ack.epoch = epoch;
    frame.as.ack.seq = seq;
    session_send(s, &frame);
}

static inline void send_refused(struct session *s, uint64_t number, uint32_t count, const char *code,
                                const char *message)
{
    struct frame frame = {.op = FRAME_REFUSED};
    frame.as.refused.number = number;
    frame.as.refused.count = count;
    frame.as.refused.code = view_text(code);
    frame.as.refused.message = view_text(message);
    session_send(s, &frame);
}

static inline void send_credit(struct session *s, uint64_t total)
{
    session_send(s, &(struct frame){.op = FRAME_CREDIT, .as.credit.total = total});
}

static inline void send_subscribed(struct session *s, uint32_t sub, uint64_t topics)
{
    struct frame frame = {.op = FRAME_SUBSCRIBED};
    frame.as.subscribed.sub = sub;
    frame.as.subscribed.topics = topics;
    session_send(s, &frame);
}

static inline void send_begin(struct session *s, uint32_t sub, uint32_t feed, const char *topic, uint64_t epoch,
                              uint64_t seq, bool is_resumed)
{
    struct frame frame = {.op = FRAME_BEGIN};
    frame.as.begin.sub = sub;
    frame.as.begin.feed = feed;
    frame.as.begin.topic = view_text(topic);
    frame.as.begin.kind = view_text("last");
    frame.as.begin.epoch = epoch;
    frame.as.begin.seq = seq;
    frame.as.begin.resumed = is_resumed;
    session_send(s, &frame);
}

static inline void send_end(struct session *s, uint32_t feed, uint64_t epoch, uint64_t seq)
{
    struct frame frame = {.op = FRAME_END};
    frame.as.end.feed = feed;
    frame.as.end.epoch = epoch;
    frame.as.end.seq = seq;
    session_send(s, &frame);
}

/* count updates from seq; each value is its seq. Returns the size of the body. */
static inline size_t send_updates(struct session *s, uint32_t feed, uint64_t seq, uint32_t count)
{
    size_t capacity = 64 + (size_t)count * 16;
    uint8_t *items = malloc(capacity), *body = malloc(capacity + 64);
    struct value_writer writer;
    value_writer_init(&writer, items, capacity);
    for (uint32_t i = 0; i < count; i++) {
        value_write_nil(&writer);
        value_write_uint(&writer, seq + i);
    }
    struct frame frame = {.op = FRAME_UPDATES};
    frame.as.updates.feed = feed;
    frame.as.updates.seq = seq;
    frame.as.updates.count = count;
    frame.as.updates.items = view_of(items, writer.size);
    struct value_writer whole;
    value_writer_init(&whole, body, capacity + 64);
    frame_write(&whole, &frame);
    assert_false(whole.is_full);
    session_raw(s, body, whole.size);
    free(items);
    free(body);
    return whole.size;
}

static inline void send_entry(struct session *s, uint32_t feed, uint64_t value)
{
    uint8_t items[32];
    struct value_writer writer;
    value_writer_init(&writer, items, sizeof items);
    value_write_nil(&writer);
    value_write_uint(&writer, value);
    struct frame frame = {.op = FRAME_ENTRIES};
    frame.as.entries.feed = feed;
    frame.as.entries.count = 1;
    frame.as.entries.items = view_of(items, writer.size);
    session_send(s, &frame);
}

#endif
