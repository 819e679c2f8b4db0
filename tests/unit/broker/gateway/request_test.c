/* REQ peers: one reply for each request, also for what makes no sense. */
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>

#include "tests/unit/broker/gateway/asking.h"
#include "tests/unit/broker/gateway/blocker.h"

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
        size_t size =
            body_args(args, sizeof args, "topic", topics[i % 3], "value", i < 3 ? "v1" : "v2", "key", key, NULL);
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

static struct reply merge_one(int fd, uint8_t *buffer, size_t capacity, struct view patch)
{
    uint8_t args[512], body[64];
    struct value_writer writer;
    value_writer_init(&writer, args, sizeof args);
    value_write_map(&writer, 2);
    value_write_str(&writer, view_text("topic"));
    value_write_str(&writer, view_text("merge/a"));
    value_write_str(&writer, view_text("value"));
    value_write_raw(&writer, patch);
    (void)result_uint(ask(fd, buffer, capacity, "publish", view_of(args, writer.size)), "seq");
    size_t size = body_args(body, sizeof body, "topic", "merge/a", NULL);
    return ask(fd, buffer, capacity, "get", view_of(body, size));
}

static void get_puts_a_merged_map_together(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    int fd = raw_dial(&world, SP_REQ0);
    uint8_t buffer[4096];
    static const struct {
        struct view patch, state;
    } cases[] = {
        {{(const uint8_t *)"\x81\xa1"
                           "a\x01",
          4},
         {(const uint8_t *)"\xdf\0\0\0\1\xa1"
                           "a\x01",
          8}},
        {{(const uint8_t *)"\x82\xa1"
                           "a\xc0\x05\xdf\0\0\0\0",
          10},
         {(const uint8_t *)"\xdf\0\0\0\1\x05\x80", 7}},                                       /* a key that is no str */
        {{(const uint8_t *)"\xdd\0\0\0\1\x07", 6}, {(const uint8_t *)"\xdd\0\0\0\1\x07", 6}}, /* no map */
        {{(const uint8_t *)"\x81\x06\x07", 3}, {(const uint8_t *)"\xdf\0\0\0\1\x06\x07", 7}},
        {{(const uint8_t *)"\xc0", 1}, {(const uint8_t *)"\xdf\0\0\0\0", 5}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct view found;
        struct reply reply = merge_one(fd, buffer, sizeof buffer, cases[i].patch);
        assert_int_equal(result_uint(reply, "seq"), i + 1);
        assert_int_equal(args_find(reply.result, 16, "state", &found), WEIR_OK);
        assert_int_equal(found.size, cases[i].state.size);
        assert_memory_equal(found.data, cases[i].state.data, found.size);
    }
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
        {"publish", "", "bad-topic"},    {"publish", "a//b", "bad-topic"},   {"publish", "a/+", "bad-topic"},
        {"publish", "a/#", "bad-topic"}, {"publish", "$SYS/x", "forbidden"}, {"get", "", "bad-topic"},
        {"steal", "a", "bad-request"},   {"get", "a+b", "bad-topic"},        {"publish", NULL, "bad-topic"},
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
    static const char hops[17 * 4] = {0};
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

static void impatient(struct gateway_config *config)
{
    config->reply_deadline_ms = 150;
    config->requests_max = 4;
}

static void a_full_topic_is_busy_and_others_are_not(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, impatient);
    struct blocker blocker;
    blocker_start(&blocker, &world, "slow/a");
    int push = raw_dial(&world, SP_PUSH0);
    WAIT_UNTIL(world_connections(&world) == 1); /* so that the first connection is this one */
    int fd = raw_dial(&world, SP_REQ0);
    WAIT_UNTIL(world_connections(&world) == 2); /* and has its bounds: who comes later may take as long as it needs */
    struct gateway_config config;
    gateway_config_get(world.gateway, &config);
    config.reply_deadline_ms = WORLD_DEADLINE_MS;
    assert_int_equal(gateway_config_set(world.gateway, &config, NULL), WEIR_OK);
    int patient = raw_dial(&world, SP_REQ0);
    uint8_t args[512], buffer[4096], body[512];
    for (int i = 0; i < 300; i++)
        raw_message(push, body,
                    body_record(body, sizeof body, "slow/a", NULL,
                                "0123456789012345678901234567890123456789012345678901234567890123456789"));
    WAIT_UNTIL(world_connection(&world).blocked_on[0] != '\0');
    size_t size = body_args(args, sizeof args, "topic", "slow/a", "value", "x", NULL);
    struct reply reply = ask(fd, buffer, sizeof buffer, "publish", view_of(args, size));
    expect_error(reply, "busy");
    struct view text;
    assert_int_equal(args_find_str(reply.result, "topic", &text), WEIR_OK);
    assert_true(view_is_same(text, view_text("slow/a")));
    assert_int_equal(args_find_str(reply.result, "cause", &text), WEIR_OK);
    assert_true(view_is_same(text, view_text("subscriber")));
    uint64_t retry_ms = 0;
    assert_int_equal(args_find_uint(reply.result, "retry_ms", &retry_ms), WEIR_OK);
    assert_true(retry_ms > 0);
    size = body_args(args, sizeof args, "topic", "fast", "value", "x", NULL);
    assert_int_equal(result_uint(ask(patient, buffer, sizeof buffer, "publish", view_of(args, size)), "seq"), 1);
    /* More at once than may be outstanding: the rest waits unread, and each has its answer. */
    size = body_args(args, sizeof args, "topic", "slow/a", "value", "x", NULL);
    for (uint32_t i = 0; i < 10; i++)
        raw_message(fd, body, body_request(body, sizeof body, i, "publish", view_of(args, size)));
    bool has_answer[10] = {false};
    for (int i = 0; i < 10; i++) {
        size_t got = raw_message_receive(fd, buffer, sizeof buffer);
        assert_true(got != SIZE_MAX && buffer[3] < 10 && !has_answer[buffer[3]]);
        has_answer[buffer[3]] = true;
        assert_int_equal(reply_read(view_of(buffer + 4, got - 4), 16, &reply), WEIR_OK);
        expect_error(reply, "busy");
    }
    assert_int_equal(world_refusals(&world, REFUSAL_BUSY), 11);
    blocker_release(&blocker);
    size = body_args(args, sizeof args, "topic", "slow/a", "value", "x", NULL);
    /* Between two connections there is no order: the request may come before some of what was pushed. */
    uint64_t seq = result_uint(ask(patient, buffer, sizeof buffer, "publish", view_of(args, size)), "seq");
    assert_in_range(seq, 1, 301);
    WAIT_UNTIL(world_seq(&world, "slow/a") == 301);
    close(push);
    close(patient);
    close(fd);
    world_stop(&world);
}

/* {records: [[topic, value], ...], ack} */
static size_t args_records(uint8_t *out, size_t capacity, uint32_t count, const char *bad_topic, const char *ack)
{
    struct value_writer writer;
    value_writer_init(&writer, out, capacity);
    value_write_map(&writer, 2);
    value_write_str(&writer, view_text("records"));
    value_write_array(&writer, count);
    for (uint32_t i = 0; i < count; i++) {
        value_write_array(&writer, 2);
        char topic[32];
        snprintf(topic, sizeof topic, "log/r%u", i % 3);
        value_write_str(&writer, view_text(bad_topic != NULL && i == count / 2 ? bad_topic : topic));
        value_write_uint(&writer, i);
    }
    value_write_str(&writer, view_text("ack"));
    value_write_str(&writer, view_text(ack));
    assert_false(writer.is_full);
    return writer.size;
}

static void many_records_are_published_by_one_request(void **state)
{
    (void)state;
    static const char *const acks[] = {"none", "accepted", "folded"};
    struct world world;
    world_start(&world, NULL, NULL);
    int fd = raw_dial(&world, SP_REQ0);
    static uint8_t args[64 * 1024], body[64 * 1024], buffer[4096];
    struct reply reply;
    for (uint32_t i = 0; i < 3; i++) {
        size_t size = args_records(args, sizeof args, 1500, NULL, acks[i]);
        raw_message(fd, body, body_request(body, sizeof body, 7, "publish", view_of(args, size)));
        size = raw_message_receive(fd, buffer, sizeof buffer);
        assert_int_equal(reply_read(view_of(buffer + 4, size - 4), 16, &reply), WEIR_OK);
        assert_int_equal(result_uint(reply, "count"), 1500);
    }
    assert_int_equal(world_seq(&world, "log/r0"), 1500);
    /* A malformed one publishes nothing; a refused one does not keep the others back. */
    size_t size = args_records(args, sizeof args, 9, "a//b", "folded");
    raw_message(fd, body, body_request(body, sizeof body, 7, "publish", view_of(args, size)));
    size = raw_message_receive(fd, buffer, sizeof buffer);
    assert_int_equal(reply_read(view_of(buffer + 4, size - 4), 16, &reply), WEIR_OK);
    expect_error(reply, "bad-topic");
    assert_int_equal(world_seq(&world, "log/r0"), 1500);
    size = args_records(args, sizeof args, 9, "$x", "folded");
    raw_message(fd, body, body_request(body, sizeof body, 7, "publish", view_of(args, size)));
    size = raw_message_receive(fd, buffer, sizeof buffer);
    assert_int_equal(reply_read(view_of(buffer + 4, size - 4), 16, &reply), WEIR_OK);
    expect_error(reply, "forbidden");
    assert_int_equal(world_seq(&world, "log/r0"), 1503);
    close(fd);
    world_stop(&world);
}

static void a_state_beyond_a_message_is_too_big_to_get(void **state)
{
    (void)state;
    enum { VALUE = 100 * 1024, KEYS = 12 };
    struct world world;
    world_start(&world, NULL, NULL);
    int push = raw_dial(&world, SP_PUSH0), fd = raw_dial(&world, SP_REQ0);
    static uint8_t value[VALUE], body[VALUE + 64], buffer[1 << 20];
    for (uint64_t i = 1; i <= KEYS; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%u", (unsigned)i);
        struct value_writer writer;
        value_writer_init(&writer, body, sizeof body);
        value_write_array(&writer, 3);
        value_write_str(&writer, view_text("big/a"));
        value_write_bin(&writer, view_of(value, sizeof value));
        value_write_str(&writer, view_text(key));
        raw_message(push, body, writer.size);
        WAIT_UNTIL(world_seq(&world, "big/a") == i);
        uint8_t args[64];
        size_t size = body_args(args, sizeof args, "topic", "big/a", NULL);
        struct reply reply = ask(fd, buffer, sizeof buffer, "get", view_of(args, size));
        if (i * VALUE > 1 << 20) {
            expect_error(reply, "too-big");
            continue;
        }
        struct view found;
        assert_int_equal(result_uint(reply, "seq"), i);
        assert_int_equal(args_find(reply.result, 16, "state", &found), WEIR_OK);
        assert_true(found.size > i * VALUE);
    }
    struct directory_status status;
    WAIT_UNTIL((directory_status(world.directory, &status), status.subscriptions == 0));
    close(push);
    close(fd);
    world_stop(&world);
}

static void requesters_that_vanish_cost_nothing(void **state)
{
    (void)state;
    enum { ROUNDS = 100 };
    struct world world;
    world_start(&world, NULL, NULL);
    uint8_t args[128], body[256];
    for (int i = 0; i < ROUNDS; i++) {
        int fd = raw_dial(&world, SP_REQ0);
        size_t size = body_args(args, sizeof args, "topic", "map/a", "value", "x", "key", "k", NULL);
        raw_message(fd, body, body_request(body, sizeof body, 1, "publish", view_of(args, size)));
        size = body_args(args, sizeof args, "topic", "map/a", NULL);
        raw_message(fd, body, body_request(body, sizeof body, 2, "get", view_of(args, size)));
        close(fd);
    }
    struct gateway_status status; /* the last one may still be on its way in */
    WAIT_UNTIL(
        (gateway_status(world.gateway, &status), status.accepted_connections == ROUNDS && status.connections == 0));
    assert_int_equal(status.records_in, status.records_accepted + status.records_refused);
    struct directory_status topics;
    WAIT_UNTIL((directory_status(world.directory, &topics), topics.subscriptions == 0 && topics.feeds == 0));
    world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(publish_is_answered_with_epoch_and_seq),
        cmocka_unit_test(get_returns_state_by_kind),
        cmocka_unit_test(get_puts_a_merged_map_together),
        cmocka_unit_test(get_of_nothing_is_not_found_and_makes_no_topic),
        cmocka_unit_test(list_names_what_matches),
        cmocka_unit_test(malformed_requests_are_answered_and_the_connection_stays),
        cmocka_unit_test(bodies_without_a_request_id_end_the_connection),
        cmocka_unit_test(stock_req_contexts_are_served_side_by_side),
        cmocka_unit_test(a_full_topic_is_busy_and_others_are_not),
        cmocka_unit_test(many_records_are_published_by_one_request),
        cmocka_unit_test(a_state_beyond_a_message_is_too_big_to_get),
        cmocka_unit_test(requesters_that_vanish_cost_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
