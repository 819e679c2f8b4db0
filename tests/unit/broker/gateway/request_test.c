/* REQ peers: one reply for each request, also for what makes no sense. */
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>

#include "tests/unit/broker/gateway/world.h"

static struct reply ask(int fd, uint8_t *buffer, size_t capacity, const char *verb, struct view args)
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

static void expect_error(struct reply reply, const char *code)
{
    assert_false(reply.ok);
    if (!view_is_same(reply.code, view_text(code)))
        fail_msg("error %.*s (%.*s), not %s", (int)reply.code.size, (const char *)reply.code.data,
                 (int)reply.message.size, (const char *)reply.message.data, code);
}

static uint64_t result_uint(struct reply reply, const char *name)
{
    uint64_t value = UINT64_MAX;
    if (!reply.ok)
        fail_msg("error %.*s: %.*s", (int)reply.code.size, (const char *)reply.code.data, (int)reply.message.size,
                 (const char *)reply.message.data);
    assert_int_equal(args_find_uint(reply.result, name, &value), WEIR_OK);
    return value;
}

static void publish_is_answered_with_epoch_and_seq(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    int fd = raw_dial(&world, SP_REQ0);
    uint8_t args[512], buffer[4096];
    for (uint64_t seq = 1; seq <= 3; seq++) {
        size_t size = body_args(args, sizeof args, "topic", "map/a", "value", "x", "key", "k", NULL);
        struct reply reply = ask(fd, buffer, sizeof buffer, "publish", view_of(args, size));
        assert_int_equal(result_uint(reply, "seq"), seq);
        assert_true(result_uint(reply, "epoch") != 0);
    }
    close(fd);
    world_stop(&world);
}

static void get_returns_state_by_kind(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    int fd = raw_dial(&world, SP_REQ0);
    uint8_t args[512], buffer[4096];
    static const char *const topics[] = {"map/a", "log/a", "last"};
    for (int i = 0; i < 6; i++) {
        const char *key = i < 3 ? "k1" : "k2";
        size_t size = body_args(args, sizeof args, "topic", topics[i % 3], "value", i < 3 ? "v1" : "v2", "key", key, NULL);
        (void)result_uint(ask(fd, buffer, sizeof buffer, "publish", view_of(args, size)), "seq");
    }
    static const struct {
        const char *topic, *bytes;
    } cases[] = {
        {"map/a", "\xdf\0\0\0\2\xa2k1\xa2v1\xa2k2\xa2v2"},
        {"log/a", "\xdd\0\0\0\2\xa2v1\xa2v2"},
        {"last", "\xa2v2"},
    };
    static const size_t sizes[] = {17, 11, 3};
    for (int i = 0; i < 3; i++) {
        size_t size = body_args(args, sizeof args, "topic", cases[i].topic, NULL);
        struct reply reply = ask(fd, buffer, sizeof buffer, "get", view_of(args, size));
        assert_int_equal(result_uint(reply, "seq"), 2);
        struct view found;
        assert_int_equal(args_find(reply.result, 16, "state", &found), WEIR_OK);
        assert_int_equal(found.size, sizes[i]);
        assert_memory_equal(found.data, cases[i].bytes, found.size);
    }
    size_t size = body_args(args, sizeof args, "topic", "map/a", "key", "k2", NULL);
    struct view found;
    struct reply reply = ask(fd, buffer, sizeof buffer, "get", view_of(args, size));
    assert_int_equal(result_uint(reply, "seq"), 2);
    assert_int_equal(args_find(reply.result, 16, "state", &found), WEIR_OK);
    assert_memory_equal(found.data, "\xa2v2", 3);
    size = body_args(args, sizeof args, "topic", "map/a", "key", "none", NULL);
    expect_error(ask(fd, buffer, sizeof buffer, "get", view_of(args, size)), "not-found");
    size = body_args(args, sizeof args, "topic", "log/a", "key", "k1", NULL);
    expect_error(ask(fd, buffer, sizeof buffer, "get", view_of(args, size)), "bad-request");
    close(fd);
    world_stop(&world);
}

static void get_of_nothing_is_not_found_and_makes_no_topic(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    int fd = raw_dial(&world, SP_REQ0);
    uint8_t args[512], buffer[4096];
    size_t size = body_args(args, sizeof args, "topic", "nowhere", NULL);
    expect_error(ask(fd, buffer, sizeof buffer, "get", view_of(args, size)), "not-found");
    struct directory_status status;
    directory_status(world.directory, &status);
    assert_int_equal(status.topics, 0);
    close(fd);
    world_stop(&world);
}

static void list_names_what_matches(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    int fd = raw_dial(&world, SP_REQ0);
    uint8_t args[512];
    static uint8_t buffer[256 * 1024];
    for (int i = 0; i < 200; i++) {
        char topic[64];
        snprintf(topic, sizeof topic, "map/a-rather-long-name-for-a-topic/%d", i);
        size_t size = body_args(args, sizeof args, "topic", topic, "value", "x", "key", "k", NULL);
        (void)result_uint(ask(fd, buffer, sizeof buffer, "publish", view_of(args, size)), "seq");
    }
    size_t size = body_args(args, sizeof args, "pattern", "map/#", NULL);
    struct reply reply = ask(fd, buffer, sizeof buffer, "list", view_of(args, size));
    struct view topics;
    assert_int_equal(args_find(reply.result, 16, "topics", &topics), WEIR_OK);
    struct value_reader reader;
    value_reader_init(&reader, topics, 16);
    assert_int_equal(value_read_array(&reader), 200);
    struct view first = value_read_any(&reader), kind;
    assert_int_equal(args_find_str(first, "kind", &kind), WEIR_OK);
    assert_true(view_is_same(kind, view_text("map")));
    size = body_args(args, sizeof args, "pattern", "other/+", NULL);
    reply = ask(fd, buffer, sizeof buffer, "list", view_of(args, size));
    assert_int_equal(args_find(reply.result, 16, "topics", &topics), WEIR_OK);
    assert_memory_equal(topics.data, "\xdd\0\0\0\0", 5);
    close(fd);
    world_stop(&world);
}

static void malformed_requests_are_answered_and_the_connection_stays(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    int fd = raw_dial(&world, SP_REQ0);
    uint8_t args[2048], buffer[4096];
    char long_name[TOPIC_NAME_SIZE_MAX + 2];
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    static const struct {
        const char *verb, *topic, *code;
    } cases[] = {
        {"publish", "", "bad-topic"},      {"publish", "a//b", "bad-topic"},   {"publish", "a/+", "bad-topic"},
        {"publish", "a/#", "bad-topic"},   {"publish", "$SYS/x", "forbidden"}, {"get", "", "bad-topic"},
        {"steal", "a", "bad-request"},     {"get", "a+b", "bad-topic"},        {"publish", NULL, "bad-topic"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *topic = cases[i].topic != NULL ? cases[i].topic : long_name;
        size_t size = body_args(args, sizeof args, "topic", topic, "value", "x", NULL);
        expect_error(ask(fd, buffer, sizeof buffer, cases[i].verb, view_of(args, size)), cases[i].code);
    }
    size_t size = body_args(args, sizeof args, "topic", "a", "value", "x", "ack", "durable", NULL);
    expect_error(ask(fd, buffer, sizeof buffer, "publish", view_of(args, size)), "bad-request");
    size = body_args(args, sizeof args, "pattern", "a/#/b", NULL);
    expect_error(ask(fd, buffer, sizeof buffer, "list", view_of(args, size)), "bad-topic");
    raw_message(fd, "\x80\0\0\1\xc1", 5);
    size = raw_message_receive(fd, buffer, sizeof buffer);
    struct reply reply;
    assert_int_equal(reply_read(view_of(buffer + 4, size - 4), 16, &reply), WEIR_OK);
    expect_error(reply, "bad-request");
    size = body_args(args, sizeof args, "topic", "a", "value", "x", NULL);
    assert_int_equal(result_uint(ask(fd, buffer, sizeof buffer, "publish", view_of(args, size)), "seq"), 1);
    close(fd);
    world_stop(&world);
}

static void bodies_without_a_request_id_end_the_connection(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    static const char hops[9 * 4] = {0};
    const struct view cases[] = {view_of("", 0), view_of("\x80\0\0", 3), view_of(hops, sizeof hops)};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int fd = raw_dial(&world, SP_REQ0);
        raw_message(fd, cases[i].data, cases[i].size);
        raw_expect_end(fd);
        assert_int_equal(world_refusals(&world, REFUSAL_FRAMING), i + 1);
    }
    world_stop(&world);
}

static void stock_req_contexts_are_served_side_by_side(void **state)
{
    (void)state;
    enum { CONTEXTS = 40 };
    struct world world;
    world_start(&world, NULL, NULL);
    nng_socket socket;
    char url[64];
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", world.port);
    assert_int_equal(nng_req0_open(&socket), 0);
    assert_int_equal(nng_dial(socket, url, NULL, 0), 0);
    nng_ctx contexts[CONTEXTS];
    nng_aio *aios[CONTEXTS];
    uint8_t args[256], body[512];
    for (int i = 0; i < CONTEXTS; i++) {
        assert_int_equal(nng_ctx_open(&contexts[i], socket), 0);
        assert_int_equal(nng_aio_alloc(&aios[i], NULL, NULL), 0);
        nng_aio_set_timeout(aios[i], WORLD_DEADLINE_MS);
        size_t size = body_args(args, sizeof args, "topic", "log/ctx", "value", "x", NULL);
        struct value_writer writer;
        value_writer_init(&writer, body, sizeof body);
        request_write(&writer, view_text("publish"), view_of(args, size));
        nng_msg *msg;
        assert_int_equal(nng_msg_alloc(&msg, 0), 0);
        assert_int_equal(nng_msg_append(msg, body, writer.size), 0);
        nng_aio_set_msg(aios[i], msg);
        nng_ctx_send(contexts[i], aios[i]);
    }
    for (int i = 0; i < CONTEXTS; i++) {
        nng_aio_wait(aios[i]);
        assert_int_equal(nng_aio_result(aios[i]), 0);
        nng_ctx_recv(contexts[i], aios[i]);
    }
    for (int i = 0; i < CONTEXTS; i++) {
        nng_aio_wait(aios[i]);
        assert_int_equal(nng_aio_result(aios[i]), 0);
        nng_msg *msg = nng_aio_get_msg(aios[i]);
        struct reply reply;
        assert_int_equal(reply_read(view_of(nng_msg_body(msg), nng_msg_len(msg)), 16, &reply), WEIR_OK);
        assert_true(result_uint(reply, "seq") >= 1);
        nng_msg_free(msg);
        nng_aio_free(aios[i]);
        nng_ctx_close(contexts[i]);
    }
    assert_int_equal(world_seq(&world, "log/ctx"), CONTEXTS);
    nng_close(socket);
    world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(publish_is_answered_with_epoch_and_seq),
        cmocka_unit_test(get_returns_state_by_kind),
        cmocka_unit_test(get_of_nothing_is_not_found_and_makes_no_topic),
        cmocka_unit_test(list_names_what_matches),
        cmocka_unit_test(malformed_requests_are_answered_and_the_connection_stays),
        cmocka_unit_test(bodies_without_a_request_id_end_the_connection),
        cmocka_unit_test(stock_req_contexts_are_served_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
