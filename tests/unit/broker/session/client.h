/* A session's client made of a socket and the wire code: it says what the test wants said, and reads frame by frame. */
#ifndef TESTS_UNIT_BROKER_SESSION_CLIENT_H
#define TESTS_UNIT_BROKER_SESSION_CLIENT_H

#include "tests/unit/broker/gateway/world.h"

enum { CLIENT_FRAME_MAX = 2 << 20 };

struct client {
    int fd;
    uint8_t *buffer, *out;
    size_t sent_size;    /* of the frame's body sent last */
    uint64_t data_bytes; /* of data frames read so far */
    struct frame hello;
    bool is_ending; /* the broker is about to end it: what can be sent no more is not */
};

static inline void client_send(struct client *client, const struct frame *frame)
{
    struct value_writer writer;
    value_writer_init(&writer, client->out, CLIENT_FRAME_MAX);
    frame_write(&writer, frame);
    assert_false(writer.is_full);
    client->sent_size = writer.size;
    uint8_t prefix[8];
    sp_prefix_write(prefix, false, writer.size);
    if (!client->is_ending)
        raw_message(client->fd, client->out, writer.size);
    else if (raw_try_send(client->fd, prefix, sizeof prefix))
        (void)raw_try_send(client->fd, client->out, writer.size);
}

/* The next frame, whatever it is; false when the session ended. Its views die with the next one. */
static inline bool client_receive(struct client *client, struct frame *frame)
{
    size_t size = raw_message_receive(client->fd, client->buffer, CLIENT_FRAME_MAX);
    if (size == SIZE_MAX)
        return false;
    const char *reason = "";
    if (frame_read(view_of(client->buffer, size), 64, frame, &reason) != WEIR_OK)
        fail_msg("the broker's frame does not parse: %s", reason);
    if (frame->op == FRAME_ENTRIES || frame->op == FRAME_UPDATES)
        client->data_bytes += size;
    return true;
}

/* The next frame of that op; what may come at any time, or is not looked at here, is passed over. */
static inline struct frame client_expect(struct client *client, enum frame_op op)
{
    struct frame frame;
    for (;;) {
        if (!client_receive(client, &frame))
            fail_msg("the session ended where %s was expected", frame_op_name(op));
        if (frame.op == op)
            return frame;
        bool is_passed = frame.op == FRAME_CREDIT || frame.op == FRAME_PING || frame.op == FRAME_SUBSCRIBED ||
                         frame.op == FRAME_END || frame.op == FRAME_ENTRIES || frame.op == FRAME_UPDATES;
        if (!is_passed && frame.op == FRAME_CLOSE)
            fail_msg("CLOSE where %s was expected: %.*s", frame_op_name(op), (int)frame.as.close.message.size,
                     (const char *)frame.as.close.message.data);
        if (!is_passed)
            fail_msg("%s where %s was expected", frame_op_name(frame.op), frame_op_name(op));
    }
}

static inline void client_dial(struct client *client, const struct world *world)
{
    *client = (struct client){.fd = raw_dial(world, SP_PAIR0)};
    client->buffer = malloc(CLIENT_FRAME_MAX);
    client->out = malloc(CLIENT_FRAME_MAX);
    assert_non_null(client->buffer);
    assert_non_null(client->out);
}

static inline void client_hello(struct client *client, uint64_t credit)
{
    struct frame frame = {.op = FRAME_HELLO};
    frame.as.hello.version = SESSION_VERSION;
    frame.as.hello.credit = credit;
    frame.as.hello.message_max = 1 << 20;
    frame.as.hello.peer = view_text("test client");
    client_send(client, &frame);
}

static inline void client_open(struct client *client, const struct world *world, uint64_t credit)
{
    client_dial(client, world);
    client_hello(client, credit);
    client->hello = client_expect(client, FRAME_HELLO);
}

static inline void client_close(struct client *client)
{
    close(client->fd);
    free(client->buffer);
    free(client->out);
}

/* count records to one topic: keys k0, k1 ..., values their numbers. */
static inline void client_publish(struct client *client, const char *topic, uint64_t number, enum ack_level ack,
                                  uint32_t count)
{
    static uint8_t items[16384];
    struct value_writer writer;
    value_writer_init(&writer, items, sizeof items);
    for (uint32_t i = 0; i < count; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%u", i);
        value_write_str(&writer, view_text(key));
        value_write_uint(&writer, number + i);
    }
    assert_false(writer.is_full);
    struct frame frame = {.op = FRAME_PUBLISH};
    frame.as.publish.topic = view_text(topic);
    frame.as.publish.number = number;
    frame.as.publish.ack = ack;
    frame.as.publish.count = count;
    frame.as.publish.items = view_of(items, writer.size);
    client_send(client, &frame);
}

static inline void client_subscribe(struct client *client, uint32_t sub, const char *pattern,
                                    enum overflow_policy policy)
{
    struct frame frame = {.op = FRAME_SUBSCRIBE};
    frame.as.subscribe.sub = sub;
    frame.as.subscribe.pattern = view_text(pattern);
    frame.as.subscribe.policy = policy;
    frame.as.subscribe.snapshot = frame.as.subscribe.updates = true;
    client_send(client, &frame);
}

/* SUBSCRIBED, and BEGIN of one feed, which have no order. */
static inline void client_expect_begun(struct client *client)
{
    bool is_begun = false, is_subscribed = false;
    while (!is_begun || !is_subscribed) {
        struct frame frame;
        assert_true(client_receive(client, &frame));
        is_begun = is_begun || frame.op == FRAME_BEGIN;
        is_subscribed = is_subscribed || frame.op == FRAME_SUBSCRIBED;
    }
}

/* CLOSE with that code, then the end. */
static inline void client_expect_close(struct client *client, const char *code)
{
    struct frame frame;
    while (client_receive(client, &frame)) {
        if (frame.op != FRAME_CLOSE)
            continue;
        if (!view_is_same(frame.as.close.code, view_text(code)))
            fail_msg("CLOSE %.*s (%.*s), not %s", (int)frame.as.close.code.size, (const char *)frame.as.close.code.data,
                     (int)frame.as.close.message.size, (const char *)frame.as.close.message.data, code);
        assert_false(client_receive(client, &frame));
        client_close(client);
        return;
    }
    fail_msg("the session ended without CLOSE %s", code);
}

#endif
