/* Sessions: hello, publishing, following, credit, and everything that breaks the protocol. */
#include "broker/session/session.h"
#include "tests/unit/broker/gateway/blocker.h"
#include "tests/unit/broker/session/client.h"

static void a_session_publishes_and_is_answered(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client client;
    client_open(&client, &world, 1 << 20);
    client_publish(&client, "map/a", 1, ACK_FOLDED, 3);
    struct frame frame = client_expect(&client, FRAME_ACK);
    assert_int_equal(frame.as.ack.number, 1);
    assert_int_equal(frame.as.ack.count, 3);
    assert_int_equal(frame.as.ack.seq, 1);
    client_publish(&client, "map/a", 4, ACK_ACCEPTED, 2);
    frame = client_expect(&client, FRAME_ACK);
    assert_int_equal(frame.as.ack.number, 4);
    assert_int_equal(frame.as.ack.count, 2);
    assert_int_equal(frame.as.ack.seq, 0);
    client_close(&client);
    world_stop(&world);
}

static void hold(struct client *client, bool on)
{
    client_send(client, &(struct frame){.op = FRAME_HOLD, .as.hold.on = on});
}

static void expect_ack(struct client *client, uint64_t number, uint32_t count)
{
    struct frame frame = client_expect(client, FRAME_ACK);
    assert_int_equal(frame.as.ack.number, number);
    assert_int_equal(frame.as.ack.count, count);
}

static void acks_are_held_back_until_they_are_asked_for(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client client, follower;
    client_open(&client, &world, 1 << 20);
    client_open(&follower, &world, 1 << 20);
    assert_true(client.hello.as.hello.hold);
    client_publish(&client, "map/a", 1, ACK_FOLDED, 1);
    expect_ack(&client, 1, 1);
    client_subscribe(&follower, 1, "map/a", POLICY_BLOCK);
    (void)client_expect(&follower, FRAME_BEGIN);
    (void)client_expect(&follower, FRAME_END);
    hold(&client, true);
    /* Each is folded, and would be answered, before the next is sent. */
    for (uint64_t number = 2; number <= 5; number++) {
        client_publish(&client, "map/a", number, ACK_FOLDED, 1);
        (void)client_expect(&follower, FRAME_UPDATES);
    }
    hold(&client, true); /* asks for them, and goes on holding back */
    expect_ack(&client, 2, 4);
    for (uint64_t number = 6; number <= 8; number++) {
        client_publish(&client, "map/a", number, ACK_FOLDED, 1);
        (void)client_expect(&follower, FRAME_UPDATES);
    }
    client_send(&client, &(struct frame){.op = FRAME_PING, .as.ping.n = 7});
    assert_int_equal(client_expect(&client, FRAME_PONG).as.pong.n, 7);
    expect_ack(&client, 6, 3); /* takes the same way, since something is sent anyway */
    client_publish(&client, "map/a", 9, ACK_FOLDED, 1);
    (void)client_expect(&follower, FRAME_UPDATES);
    hold(&client, false);
    expect_ack(&client, 9, 1);
    client_publish(&client, "map/a", 10, ACK_FOLDED, 1);
    expect_ack(&client, 10, 1);
    client_close(&follower);
    client_close(&client);
    world_stop(&world);
}

static void few_requests(struct gateway_config *config) { config->requests_max = 2; }

/* The session is read no further, so that the broker cannot see that the client asks for what is held back. */
static void acks_are_not_held_back_where_nothing_more_is_read(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, few_requests);
    struct blocker blocker;
    blocker_start(&blocker, &world, "slow/a");
    struct client filler, client, follower;
    client_open(&filler, &world, 1 << 20);
    for (uint64_t number = 1; number <= 3000; number += 100)
        client_publish(&filler, "slow/a", number, ACK_NONE, 100);
    WAIT_UNTIL(world_connection(&world).blocked_on[0] != '\0');
    client_open(&client, &world, 1 << 20);
    client_open(&follower, &world, 1 << 20);
    client_subscribe(&follower, 1, "map/a", POLICY_BLOCK);
    (void)client_expect(&follower, FRAME_SUBSCRIBED);
    hold(&client, true);
    client_publish(&client, "map/a", 1, ACK_FOLDED, 1);
    (void)client_expect(&follower, FRAME_BEGIN);
    (void)client_expect(&follower, FRAME_END);
    uint8_t args[64];
    size_t size = body_args(args, sizeof args, "topic", "slow/a", "value", "x", NULL);
    struct frame request = {.op = FRAME_REQUEST};
    request.as.request.verb = view_text("publish");
    request.as.request.args = view_of(args, size);
    for (request.as.request.id = 1; request.as.request.id <= 2; request.as.request.id++)
        client_send(&client, &request);
    hold(&client, false);
    expect_ack(&client, 1, 1);
    blocker_release(&blocker);
    (void)client_expect(&client, FRAME_REPLY);
    (void)client_expect(&client, FRAME_REPLY);
    client_close(&follower);
    client_close(&client);
    client_close(&filler);
    world_stop(&world);
}

/* ------------------------------------------------------------------------------------------- the opening */

static void the_hello_is_answered_with_bounds(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client client;
    client_open(&client, &world, 1000);
    assert_int_equal(client.hello.as.hello.version, SESSION_VERSION);
    assert_int_equal(client.hello.as.hello.credit, world.config.publish_window);
    assert_int_equal(client.hello.as.hello.message_max, world.config.message_size_max);
    assert_true(view_is_same(client.hello.as.hello.peer, view_text("weir test")));
    struct connection_status status = world_connection(&world);
    assert_string_equal(status.client, "test client");
    assert_string_equal(status.protocol, "pair");
    client_close(&client);
    world_stop(&world);
}

/* But slow enough for the handshake before it, also on a busy machine. */
static void quick_handshake(struct gateway_config *config) { config->handshake_ms = 1000; }

/* The same for who answers. */
static void quick_heartbeats(struct gateway_config *config) { config->heartbeat_ms = 500; }

static void whoever_does_not_say_hello_in_time_is_cut(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, quick_handshake);
    struct client client;
    client_dial(&client, &world);
    client_expect_close(&client, "timeout");
    assert_int_equal(world_refusals(&world, REFUSAL_HELLO), 1);
    world_stop(&world);
}

static void whoever_does_not_answer_pings_is_cut(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, quick_heartbeats);
    struct client silent, lively;
    client_open(&silent, &world, 1000);
    client_open(&lively, &world, 1000);
    for (int i = 0; i < 4; i++) { /* one more than whoever does not answer gets */
        struct frame frame = client_expect(&lively, FRAME_PING);
        client_send(&lively, &(struct frame){.op = FRAME_PONG, .as.pong.n = frame.as.ping.n});
    }
    client_expect_close(&silent, "timeout");
    assert_int_equal(world_refusals(&world, REFUSAL_IDLE), 1);
    client_close(&lively);
    world_stop(&world);
}

/* A client that was there once is asked by the ticks after one and two intervals, and its end is that of the third, not
 * the tick behind it. n counts from the last sign of it. */
static void whoever_falls_silent_is_asked_twice(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, quick_heartbeats);
    struct client client;
    client_open(&client, &world, 1000);
    for (int i = 0; i < 2; i++) {
        struct frame frame = client_expect(&client, FRAME_PING);
        client_send(&client, &(struct frame){.op = FRAME_PONG, .as.pong.n = frame.as.ping.n});
    }
    struct frame frame = {.op = FRAME_PING};
    uint64_t asked = 0;
    while (client_receive(&client, &frame) && frame.op == FRAME_PING) {
        assert_true(frame.as.ping.n <= 2);
        asked = frame.as.ping.n;
    }
    assert_int_equal(frame.op, FRAME_CLOSE);
    assert_int_equal(asked, 2);
    client_close(&client);
    assert_int_equal(world_refusals(&world, REFUSAL_IDLE), 1);
    world_stop(&world);
}

static void frames_out_of_place_end_the_session(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client client;
    client_dial(&client, &world);
    client_publish(&client, "a", 1, ACK_FOLDED, 1);
    client_expect_close(&client, "protocol"); /* publish before hello */
    client_open(&client, &world, 1000);
    client_hello(&client, 1000);
    client_expect_close(&client, "protocol"); /* a second hello */
    client_dial(&client, &world);
    struct frame frame = {.op = FRAME_HELLO, .as.hello = {.version = 2, .message_max = 1 << 20}};
    client_send(&client, &frame);
    client_expect_close(&client, "protocol"); /* another version */
    client_dial(&client, &world);
    frame.as.hello.version = 1;
    frame.as.hello.message_max = 1000;
    client_send(&client, &frame);
    client_expect_close(&client, "too-big"); /* takes less than the broker does */
    client_open(&client, &world, 1000);
    client_send(&client, &(struct frame){.op = FRAME_LIVE, .as.live.feed = 1});
    client_expect_close(&client, "protocol"); /* a broker's frame */
    client_dial(&client, &world);
    static const uint8_t large[4097] = {0};
    raw_message(client.fd, large, sizeof large);
    client_expect_close(&client, "too-big"); /* a stranger gets little room */
    assert_int_equal(world_seq(&world, "a"), 0);
    world_stop(&world);
}

static void malformed_frames_end_the_session(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } bodies[] = {
        {"", 0},
        {"\xc1", 1},
        {"\x90", 1},
        {"\x91\x63", 2},                      /* op 99 */
        {"\x92\x01", 2},                      /* cut off */
        {"\x93\x01\x01\x01", 4},              /* one too many */
        {"\x92\x01\x01\x01", 4},              /* bytes behind */
        {"\x92\x01\xa1x", 4},                 /* wrong type */
        {"\x92\x01\xff", 3},                  /* a negative number */
        {"\x95\x09\xa1t\x01\x02\x91\x01", 8}, /* half a pair */
        {"\x95\x09\xa1t\x01\x02\xdd\xff\xff\xff\xfe", 11},
        {"\x95\x09\xa1t\x01\x09\x92\xc0\x01", 9}, /* ack 9 */
        {"\x95\x09\xa1t\x01\x02\x92\x01\x01", 9}, /* the key is no str */
        {"\x95\x09\xa1t\x01\x02\x92\xc0\xc1", 9},
        {"\x95\x09\xa1t\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x02\x92\xc0\x01", 17}, /* a number beyond 60 bits */
    };
    struct world world;
    world_start(&world, &session_ops, NULL);
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct client client;
        client_open(&client, &world, 1000);
        raw_message(client.fd, bodies[i].bytes, bodies[i].size);
        client_expect_close(&client, "bad-request");
    }
    assert_int_equal(world_seq(&world, "t"), 0);
    WAIT_UNTIL(world_connections(&world) == 0);
    struct gateway_status status;
    gateway_status(world.gateway, &status);
    assert_int_equal(status.records_in, status.records_accepted + status.records_refused);
    world_stop(&world);
}

/* --------------------------------------------------------------------------------------------- publishing */

static void expect_refused(struct client *client, uint64_t number, uint32_t count, const char *code)
{
    struct frame frame = client_expect(client, FRAME_REFUSED);
    assert_int_equal(frame.as.refused.number, number);
    assert_int_equal(frame.as.refused.count, count);
    if (!view_is_same(frame.as.refused.code, view_text(code)))
        fail_msg("refused %.*s, not %s", (int)frame.as.refused.code.size, (const char *)frame.as.refused.code.data,
                 code);
}

static void refused_records_are_named(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client client;
    client_open(&client, &world, 1000);
    client_publish(&client, "$SYS/x", 1, ACK_FOLDED, 3);
    expect_refused(&client, 1, 3, "forbidden");
    client_publish(&client, "a//b", 4, ACK_NONE, 2);
    expect_refused(&client, 4, 2, "bad-topic");
    client_publish(&client, "a", 6, ACK_DURABLE, 1);
    expect_refused(&client, 6, 1, "bad-request");
    struct frame frame = {.op = FRAME_PUBLISH};
    frame.as.publish.has_alias = true;
    frame.as.publish.alias = 7;
    frame.as.publish.number = 7;
    frame.as.publish.ack = ACK_FOLDED;
    frame.as.publish.count = 1;
    frame.as.publish.items = view_of("\xc0\x01", 2);
    client_send(&client, &frame);
    expect_refused(&client, 7, 1, "bad-request"); /* an alias for nothing */
    client_send(&client, &(struct frame){.op = FRAME_ALIAS, .as.alias = {.alias = 7, .topic = view_text("log/x")}});
    frame.as.publish.number = 8;
    client_send(&client, &frame);
    assert_int_equal(client_expect(&client, FRAME_ACK).as.ack.number, 8);
    client_send(&client, &(struct frame){.op = FRAME_ALIAS, .as.alias = {.alias = 7, .topic = view_text("log/y")}});
    frame.as.publish.number = 9;
    client_send(&client, &frame);
    assert_int_equal(client_expect(&client, FRAME_ACK).as.ack.seq, 1); /* renamed: another topic's first */
    static uint8_t large[200];
    uint8_t items[300];
    struct value_writer writer;
    value_writer_init(&writer, items, sizeof items);
    value_write_nil(&writer);
    value_write_bin(&writer, view_of(large, sizeof large));
    frame.as.publish.has_alias = false;
    frame.as.publish.topic = view_text("small/x");
    frame.as.publish.number = 10;
    frame.as.publish.items = view_of(items, writer.size);
    client_send(&client, &frame);
    expect_refused(&client, 10, 1, "too-big"); /* by the topic: beyond its bound on state */
    client_close(&client);
    WAIT_UNTIL(world_connections(&world) == 0);
    struct gateway_status status;
    gateway_status(world.gateway, &status);
    assert_int_equal(status.records_in, 10);
    assert_int_equal(status.records_accepted, 3);
    assert_int_equal(status.records_refused, 7);
    world_stop(&world);
}

static void few_aliases(struct gateway_config *config)
{
    config->aliases_max = 100;
    config->subscriptions_max = 3;
    config->publish_window = 4096;
}

static void quotas_are_kept(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, few_aliases);
    struct client client;
    client_open(&client, &world, 1000);
    client_send(&client, &(struct frame){.op = FRAME_ALIAS, .as.alias = {.alias = 100, .topic = view_text("x")}});
    client_expect_close(&client, "full");
    client_open(&client, &world, 1000);
    client_send(&client, &(struct frame){.op = FRAME_ALIAS, .as.alias = {.alias = 1, .topic = view_text("x/+")}});
    client_expect_close(&client, "bad-topic");
    client_open(&client, &world, 1000);
    for (uint32_t i = 0; i < 3; i++)
        client_subscribe(&client, i, "none/x", POLICY_RESYNC);
    client_subscribe(&client, 3, "none/x", POLICY_RESYNC);
    struct frame frame;
    do {
        assert_true(client_receive(&client, &frame));
    } while (frame.op != FRAME_UNSUBSCRIBED);
    assert_int_equal(frame.as.unsubscribed.sub, 3);
    assert_true(view_is_same(frame.as.unsubscribed.code, view_text("full")));
    client_close(&client);
    world_stop(&world);
}

static void data_beyond_the_credit_ends_the_session(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, few_aliases);
    struct client blocker, client;
    client_open(&blocker, &world, 0);
    client_publish(&blocker, "slow/a", 1, ACK_FOLDED, 1);
    (void)client_expect(&blocker, FRAME_ACK);
    client_subscribe(&blocker, 1, "slow/a", POLICY_BLOCK);
    (void)client_expect(&blocker, FRAME_BEGIN);
    client_open(&client, &world, 0);
    uint64_t number = 1;
    /* A full topic takes nothing more, credit is not renewed, and this client does not care. */
    struct timeval limit = {.tv_sec = 10};
    setsockopt(client.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    client.is_ending = true;
    for (int i = 0; i < 60; i++, number += 100)
        client_publish(&client, "slow/a", number, ACK_ACCEPTED, 100);
    client_expect_close(&client, "protocol");
    assert_int_equal(world_refusals(&world, REFUSAL_CREDIT), 1);
    client_close(&blocker);
    world_stop(&world);
}

/* -------------------------------------------------------------------------------------------------- the end */

static void a_drain_tells_sessions_and_loses_nothing_accepted(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client client;
    client_open(&client, &world, 1000);
    client_publish(&client, "log/a", 1, ACK_FOLDED, 500);
    (void)client_expect(&client, FRAME_ACK);
    assert_int_equal(gateway_drain(world.gateway, 5000), 0);
    client_expect_close(&client, "closed");
    assert_int_equal(world_seq(&world, "log/a"), 500);
    world_stop(&world);
}

static void an_operator_can_disconnect_a_session(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client client, other;
    client_open(&client, &world, 1000);
    client_open(&other, &world, 1000);
    uint64_t id = world_connection(&world).id;
    assert_int_equal(gateway_disconnect(world.gateway, id), WEIR_OK);
    client_expect_close(&client, "closed");
    WAIT_UNTIL(world_connections(&world) == 1);
    assert_int_equal(gateway_disconnect(world.gateway, id), WEIR_NOT_FOUND);
    client_send(&other, &(struct frame){.op = FRAME_PING, .as.ping.n = 1});
    (void)client_expect(&other, FRAME_PONG);
    client_close(&other);
    world_stop(&world);
}

static void sessions_that_vanish_leave_nothing(void **state)
{
    (void)state;
    enum { ROUNDS = 60 };
    unsigned seed = (unsigned)clock_now_ns();
    print_message("seed %u\n", seed);
    struct world world;
    world_start(&world, &session_ops, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        struct client client;
        client_open(&client, &world, (uint64_t)rand_r(&seed) % 3 * 1000);
        client_subscribe(&client, 1, "log/#", rand_r(&seed) % 2 ? POLICY_BLOCK : POLICY_RESYNC);
        client_publish(&client, "log/a", 1, rand_r(&seed) % 3, 1 + (uint32_t)rand_r(&seed) % 500);
        struct frame frame = {.op = FRAME_HELLO};
        while (i % 2 && frame.op != FRAME_SUBSCRIBED)
            assert_true(client_receive(&client, &frame));
        if (rand_r(&seed) % 2) {
            struct linger reset = {.l_onoff = 1};
            setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        }
        if (rand_r(&seed) % 2)
            raw_send(client.fd, "\0\0\0\0\0\0\1\0half a frame", 20);
        client_close(&client);
    }
    WAIT_UNTIL(world_connections(&world) == 0);
    struct gateway_status status;
    gateway_status(world.gateway, &status);
    assert_int_equal(status.records_in, status.records_accepted + status.records_refused);
    struct directory_status topics;
    WAIT_UNTIL((directory_status(world.directory, &topics), topics.subscriptions == 0 && topics.feeds == 0));
    world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_publishes_and_is_answered),
        cmocka_unit_test(acks_are_held_back_until_they_are_asked_for),
        cmocka_unit_test(acks_are_not_held_back_where_nothing_more_is_read),
        cmocka_unit_test(the_hello_is_answered_with_bounds),
        cmocka_unit_test(whoever_does_not_say_hello_in_time_is_cut),
        cmocka_unit_test(whoever_does_not_answer_pings_is_cut),
        cmocka_unit_test(whoever_falls_silent_is_asked_twice),
        cmocka_unit_test(frames_out_of_place_end_the_session),
        cmocka_unit_test(malformed_frames_end_the_session),
        cmocka_unit_test(refused_records_are_named),
        cmocka_unit_test(quotas_are_kept),
        cmocka_unit_test(data_beyond_the_credit_ends_the_session),
        cmocka_unit_test(a_drain_tells_sessions_and_loses_nothing_accepted),
        cmocka_unit_test(an_operator_can_disconnect_a_session),
        cmocka_unit_test(sessions_that_vanish_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
