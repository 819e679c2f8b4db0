/* A REQ peer over a raw connection: asks, and reads the reply. */
#ifndef TESTS_UNIT_BROKER_GATEWAY_ASKING_H
#define TESTS_UNIT_BROKER_GATEWAY_ASKING_H

#include "tests/unit/broker/gateway/world.h"

static inline struct reply ask(int fd, uint8_t *buffer, size_t capacity, const char *verb, struct view args)
{
    uint8_t body[4096];
    raw_message(fd, body, body_request(body, sizeof body, 7, verb, args));
    size_t size = raw_message_receive(fd, buffer, capacity);
    assert_true(size != SIZE_MAX && size > 4);
    assert_memory_equal(buffer, "\x80\0\0\7", 4);
    struct reply reply;
    assert_int_equal(reply_read(view_of(buffer + 4, size - 4), 64, &reply), WEIR_OK);
    return reply;
}

/* What a log topic holds: its state's bytes in the reply to a get, which is in `out`. */
static inline struct view log_state(struct world *world, const char *topic, uint8_t *out, size_t capacity)
{
    int fd = raw_dial(world, SP_REQ0);
    uint8_t args[512];
    struct view state;
    size_t size = body_args(args, sizeof args, "topic", topic, NULL);
    struct reply reply = ask(fd, out, capacity, "get", view_of(args, size));
    if (!reply.ok)
        fail_msg("get %s: %.*s", topic, (int)reply.message.size, (const char *)reply.message.data);
    assert_int_equal(args_find(reply.result, 16, "state", &state), WEIR_OK);
    close(fd);
    return state;
}

static inline void expect_error(struct reply reply, const char *code)
{
    assert_false(reply.ok);
    if (!view_is_same(reply.code, view_text(code)))
        fail_msg("error %.*s (%.*s), not %s", (int)reply.code.size, (const char *)reply.code.data,
                 (int)reply.message.size, (const char *)reply.message.data, code);
}

#endif
