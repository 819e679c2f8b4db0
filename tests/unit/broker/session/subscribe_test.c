/* Following topics in a session: snapshots, updates, cursors, credit, and numbers used again. */
#include "broker/session/session.h"
#include "tests/unit/broker/session/client.h"

static void small_window(struct gateway_config *config) { config->publish_window = 4096; }

static void a_follower_gets_state_then_updates(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client client;
    client_open(&client, &world, 1 << 20);
    client_publish(&client, "map/a", 1, ACK_FOLDED, 3);
    (void)client_expect(&client, FRAME_ACK);
    client_subscribe(&client, 5, "map/#", POLICY_RESYNC);
    struct frame frame = client_expect(&client, FRAME_BEGIN);
    assert_int_equal(frame.as.begin.sub, 5);
    assert_true(view_is_same(frame.as.begin.topic, view_text("map/a")));
    uint32_t feed = frame.as.begin.feed;
    frame = client_expect(&client, FRAME_ENTRIES);
    assert_int_equal(frame.as.entries.feed, feed);
    assert_int_equal(frame.as.entries.count, 3);
    frame = client_expect(&client, FRAME_END);
    assert_int_equal(frame.as.end.seq, 3);
    client_publish(&client, "map/a", 4, ACK_NONE, 2);
    frame = client_expect(&client, FRAME_UPDATES);
    assert_int_equal(frame.as.updates.seq, 4);
    assert_int_equal(frame.as.updates.count, 2);
    client_publish(&client, "map/new", 6, ACK_NONE, 1);
    frame = client_expect(&client, FRAME_BEGIN);
    assert_true(view_is_same(frame.as.begin.topic, view_text("map/new")));
    client_send(&client, &(struct frame){.op = FRAME_UNSUBSCRIBE, .as.unsubscribe.sub = 5});
    frame = client_expect(&client, FRAME_UNSUBSCRIBED);
    assert_int_equal(frame.as.unsubscribed.sub, 5);
    assert_true(view_is_same(frame.as.unsubscribed.code, view_text("ok")));
    client_close(&client);
    world_stop(&world);
}

static bool keep_held(const struct connection_status *status, void *context)
{
    if (status->blocked_on[0] != '\0')
        *(struct connection_status *)context = *status;
    return true;
}

/* Whether a connection waits for a topic that a subscriber blocks. */
static bool is_held_back(struct world *world, const char *name)
{
    struct topic_status topic = {.depth = 0};
    struct connection_status held = {.id = 0};
    directory_topics_each(world->directory, view_text(name), world_topic_copy, &topic);
    gateway_connections_each(world->gateway, keep_held, &held);
    return !actor_is_none(topic.blocked_by) && strcmp(held.blocked_on, name) == 0;
}

/* The next frame of that op, behind any that grant credit. */
static struct frame expect_counting(struct client *client, enum frame_op op, uint64_t *granted)
{
    struct frame frame;
    do {
        assert_true(client_receive(client, &frame));
        if (frame.op == FRAME_CREDIT)
            *granted = frame.as.credit.total;
    } while (frame.op != op);
    return frame;
}

/* The credit that is granted by now, also what is on its way. */
static void credit_take(struct client *client, uint64_t *granted)
{
    client_send(client, &(struct frame){.op = FRAME_PING, .as.ping.n = 1});
    (void)expect_counting(client, FRAME_PONG, granted);
}

static void credit_is_not_renewed_while_a_topic_is_full(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, small_window);
    struct client blocker, client;
    client_open(&blocker, &world, 1);
    client_subscribe(&blocker, 1, "slow/a", POLICY_BLOCK);
    client_expect_begun(&blocker);
    client_open(&client, &world, 0);
    uint64_t granted = client.hello.as.hello.credit, sent = 0, number = 1;
    /* Publishes as credit allows, until none is left and none is on its way. */
    uint64_t in_all = 0;
    for (bool is_held = false; !is_held || sent < granted;) {
        while (sent < granted) {
            client_publish(&client, "slow/a", number, ACK_NONE, 100);
            number += 100;
            in_all += 100;
            sent += client.sent_size;
        }
        assert_true(in_all < 100000);
        world_pause();
        is_held = is_held_back(&world, "slow/a");
        credit_take(&client, &granted);
    }
    assert_int_equal(world_seq(&world, "slow/a") < in_all, 1);
    /* Other topics of the same session go on as soon as there is credit; requests need none. */
    uint8_t args[64];
    size_t size = body_args(args, sizeof args, "topic", "fast", "value", "x", NULL);
    struct frame request = {.op = FRAME_REQUEST, .as.request = {.id = 9, .verb = view_text("publish")}};
    request.as.request.args = view_of(args, size);
    client_send(&client, &request);
    struct frame reply = expect_counting(&client, FRAME_REPLY, &granted);
    assert_int_equal(reply.as.reply.id, 9);
    assert_true(reply.as.reply.ok);
    /* The blocker goes: everything is folded and credit comes back. */
    client_close(&blocker);
    WAIT_UNTIL((credit_take(&client, &granted), granted > sent));
    WAIT_UNTIL(world_seq(&world, "slow/a") == in_all);
    client_close(&client);
    world_stop(&world);
}

static void a_client_without_credit_gets_everything_but_data(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client client;
    client_open(&client, &world, 0);
    client_publish(&client, "map/a", 1, ACK_FOLDED, 50);
    (void)client_expect(&client, FRAME_ACK);
    client_subscribe(&client, 1, "map/a", POLICY_RESYNC);
    client_expect_begun(&client);
    client_send(&client, &(struct frame){.op = FRAME_PING, .as.ping.n = 77});
    struct frame frame;
    assert_true(client_receive(&client, &frame));
    assert_int_equal(frame.op, FRAME_PONG);
    assert_int_equal(frame.as.pong.n, 77);
    uint32_t entries = 0;
    /* Ten bytes a time: each grant lets one frame begin. */
    while (entries < 50) {
        client_send(&client, &(struct frame){.op = FRAME_CREDIT, .as.credit.total = client.data_bytes + 10});
        assert_true(client_receive(&client, &frame));
        assert_int_equal(frame.op, FRAME_ENTRIES);
        assert_true(frame.as.entries.count <= 3);
        entries += frame.as.entries.count;
    }
    (void)client_expect(&client, FRAME_END);
    client_close(&client);
    world_stop(&world);
}

static void large_state_reaches_a_small_window_whole(void **state)
{
    (void)state;
    enum { KEYS = 600, VALUE = 7000 };
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client client;
    client_open(&client, &world, 64 * 1024);
    static uint8_t value[VALUE], items[VALUE + 64];
    for (uint32_t i = 0; i < KEYS; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%u", i);
        memset(value, (int)i, sizeof value);
        struct value_writer writer;
        value_writer_init(&writer, items, sizeof items);
        value_write_str(&writer, view_text(key));
        value_write_bin(&writer, view_of(value, sizeof value));
        struct frame frame = {.op = FRAME_PUBLISH, .as.publish = {.number = i + 1, .ack = ACK_FOLDED, .count = 1}};
        frame.as.publish.topic = view_text("big/a");
        frame.as.publish.items = view_of(items, writer.size);
        client_send(&client, &frame);
        (void)client_expect(&client, FRAME_ACK);
    }
    client_subscribe(&client, 1, "big/#", POLICY_RESYNC);
    static bool has_come[KEYS];
    memset(has_come, 0, sizeof has_come);
    uint32_t count = 0;
    struct frame frame;
    do {
        assert_true(client_receive(&client, &frame));
        if (frame.op != FRAME_ENTRIES)
            continue;
        struct view left = frame.as.entries.items, key, found;
        while (items_next(&left, 16, &key, &found) == WEIR_OK) {
            unsigned i = (unsigned)atoi((const char *)key.data + 4);
            assert_true(i < KEYS && !has_come[i]);
            has_come[i] = true;
            assert_int_equal(found.size, VALUE + 3);
            assert_int_equal(found.data[3], (uint8_t)i);
            assert_int_equal(found.data[VALUE + 2], (uint8_t)i);
            count++;
        }
        client_send(&client, &(struct frame){.op = FRAME_CREDIT, .as.credit.total = client.data_bytes + 64 * 1024});
    } while (frame.op != FRAME_END);
    assert_int_equal(count, KEYS);
    client_close(&client);
    world_stop(&world);
}

static void a_stalled_follower_stalls_nobody(void **state)
{
    (void)state;
    enum { ROUNDS = 2000 };
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client stalled, lively, publisher;
    client_open(&stalled, &world, 0);
    client_open(&lively, &world, UINT64_MAX / 2);
    client_open(&publisher, &world, 0);
    client_subscribe(&stalled, 1, "log/a", POLICY_RESYNC);
    (void)client_expect(&stalled, FRAME_BEGIN);
    client_subscribe(&lively, 1, "log/a", POLICY_RESYNC);
    (void)client_expect(&lively, FRAME_BEGIN);
    uint64_t seen = 0;
    for (uint64_t i = 0; i < ROUNDS; i += 10) {
        client_publish(&publisher, "log/a", i + 1, ACK_FOLDED, 10);
        (void)client_expect(&publisher, FRAME_ACK);
        while (seen < i + 10) {
            struct frame frame;
            assert_true(client_receive(&lively, &frame));
            if (frame.op != FRAME_UPDATES)
                continue;
            assert_int_equal(frame.as.updates.seq, seen + 1);
            seen += frame.as.updates.count;
        }
    }
    client_close(&stalled);
    client_close(&lively);
    client_close(&publisher);
    world_stop(&world);
}

static void disconnect_ends_the_whole_subscription_of_one_that_does_not_read(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client stalled, publisher;
    client_open(&stalled, &world, 0);
    client_open(&publisher, &world, 0);
    struct frame frame = {.op = FRAME_SUBSCRIBE};
    frame.as.subscribe.sub = 7;
    frame.as.subscribe.pattern = view_text("log/+");
    frame.as.subscribe.policy = POLICY_DISCONNECT;
    frame.as.subscribe.snapshot = frame.as.subscribe.updates = true;
    frame.as.subscribe.outbox = 1024;
    client_send(&stalled, &frame);
    (void)client_expect(&stalled, FRAME_SUBSCRIBED);
    client_publish(&publisher, "log/other", 1, ACK_FOLDED, 1);
    /* What the broker hands the connection ahead is no more than its window, so it is soon overtaken. */
    uint64_t number = 2;
    while (world_connection(&world).subscriptions == 1 && number < 200000) {
        client_publish(&publisher, "log/a", number, ACK_FOLDED, 100);
        (void)client_expect(&publisher, FRAME_ACK);
        number += 100;
    }
    do
        assert_true(client_receive(&stalled, &frame));
    while (frame.op != FRAME_UNSUBSCRIBED);
    assert_int_equal(frame.as.unsubscribed.sub, 7);
    assert_true(view_is_same(frame.as.unsubscribed.code, view_text("closed")));
    WAIT_UNTIL(world_connection(&world).feeds == 0);
    client_close(&stalled);
    client_close(&publisher);
    world_stop(&world);
}

static void a_small_outbox_overflows_after_little(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client stalled, publisher;
    client_open(&stalled, &world, 0);
    client_open(&publisher, &world, 0);
    struct frame frame = {.op = FRAME_SUBSCRIBE,
                          .as.subscribe = {.sub = 1, .outbox = 8192, .snapshot = true, .updates = true}};
    frame.as.subscribe.pattern = view_text("map/a");
    client_publish(&publisher, "map/a", 1, ACK_FOLDED, 1);
    (void)client_expect(&publisher, FRAME_ACK);
    client_send(&stalled, &frame);
    client_expect_begun(&stalled);
    client_send(&stalled, &(struct frame){.op = FRAME_CREDIT, .as.credit.total = 1000});
    (void)client_expect(&stalled, FRAME_END);
    for (uint64_t number = 2; number < 4000; number += 100) { /* some 30,000 bytes */
        client_publish(&publisher, "map/a", number, ACK_FOLDED, 100);
        (void)client_expect(&publisher, FRAME_ACK);
    }
    client_send(&stalled, &(struct frame){.op = FRAME_CREDIT, .as.credit.total = 1 << 20});
    (void)client_expect(&stalled, FRAME_BEGIN);
    assert_true(stalled.data_bytes < 12288);
    client_close(&stalled);
    client_close(&publisher);
    world_stop(&world);
}

static void cursors_resume_without_gap(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client client;
    client_open(&client, &world, 1 << 20);
    client_publish(&client, "log/a", 1, ACK_FOLDED, 10);
    uint64_t epoch = client_expect(&client, FRAME_ACK).as.ack.epoch;
    uint8_t cursors[64];
    struct value_writer writer;
    value_writer_init(&writer, cursors, sizeof cursors);
    value_write_array(&writer, 3);
    value_write_str(&writer, view_text("log/a"));
    value_write_uint(&writer, epoch);
    value_write_uint(&writer, 4);
    struct frame frame = {.op = FRAME_SUBSCRIBE,
                          .as.subscribe = {.sub = 1, .snapshot = true, .updates = true, .cursor_count = 1}};
    frame.as.subscribe.pattern = view_text("log/+");
    frame.as.subscribe.cursors = view_of(cursors, writer.size);
    client_send(&client, &frame);
    frame = client_expect(&client, FRAME_BEGIN);
    assert_true(frame.as.begin.resumed);
    assert_int_equal(frame.as.begin.seq, 4);
    frame = client_expect(&client, FRAME_UPDATES);
    assert_int_equal(frame.as.updates.seq, 5);
    assert_int_equal(frame.as.updates.count, 6);
    client_close(&client);
    world_stop(&world);
}

static void the_same_number_may_be_subscribed_again_at_once(void **state)
{
    (void)state;
    enum { ROUNDS = 300 };
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client client;
    client_open(&client, &world, UINT64_MAX / 2);
    client_publish(&client, "map/a", 1, ACK_FOLDED, 20);
    (void)client_expect(&client, FRAME_ACK);
    for (int i = 0; i < ROUNDS; i++) {
        client_subscribe(&client, 1, i % 2 ? "map/a" : "map/#", POLICY_RESYNC);
        if (i % 3 == 0)
            client_publish(&client, "map/a", 21 + (uint64_t)i, ACK_NONE, 1);
        client_send(&client, &(struct frame){.op = FRAME_UNSUBSCRIBE, .as.unsubscribe.sub = 1});
        struct frame frame;
        do {
            assert_true(client_receive(&client, &frame));
        } while (frame.op != FRAME_UNSUBSCRIBED);
        assert_true(view_is_same(frame.as.unsubscribed.code, view_text("ok")));
    }
    WAIT_UNTIL(world_connection(&world).feeds == 0 && world_connection(&world).subscriptions == 0);
    client_close(&client);
    world_stop(&world);
}

/* Reads all that a subscription without updates gives; returns how many topics ended without giving anything. */
static uint64_t snapshots_read(struct client *client, uint32_t sub)
{
    uint64_t topics = UINT64_MAX, ended = 0, gone = 0;
    bool is_gone = false;
    while (ended < topics) {
        struct frame frame;
        assert_true(client_receive(client, &frame));
        if (frame.op == FRAME_SUBSCRIBED && frame.as.subscribed.sub == sub)
            topics = frame.as.subscribed.topics;
        if (frame.op == FRAME_BEGIN) {
            is_gone = view_is_same(frame.as.begin.cause, view_text("deleted"));
            assert_true(frame.as.begin.sub == sub && frame.as.begin.epoch > 0);
            assert_true(view_is_same(frame.as.begin.topic, view_text("map/a")));
        }
        assert_false(is_gone && (frame.op == FRAME_ENTRIES || frame.op == FRAME_END));
        if (frame.op != FRAME_ENDED)
            continue;
        bool is_whole = view_is_same(frame.as.ended.cause, view_text("ok"));
        assert_true(is_whole || view_is_same(frame.as.ended.cause, view_text("not-found")));
        assert_false(is_whole && is_gone);
        gone += is_gone;
        ended++;
    }
    return gone;
}

/* The topic is deleted while somebody asks for its state alone, until it happens that it ended before it began. */
static void a_snapshot_of_a_topic_that_ends_is_told(void **state)
{
    enum { ROUNDS_MAX = 20000, RECORDS = 800 };
    (void)state;
    struct world world;
    struct client client;
    uint64_t gone = 0, number = 1;
    world_start(&world, &session_ops, NULL);
    client_open(&client, &world, UINT64_MAX / 2);
    for (uint32_t round = 1; gone == 0 && round <= ROUNDS_MAX; round++) {
        struct message end = {.tag = TOPIC_DELETE};
        struct frame frame = {.op = FRAME_SUBSCRIBE, .as.subscribe = {.sub = round, .snapshot = true}};
        weir_actor topic;
        client_publish(&client, "map/a", number, ACK_NONE, RECORDS);
        number += RECORDS;
        WAIT_UNTIL(directory_find(world.directory, view_text("map/a"), &topic) == WEIR_OK);
        enum weir_error error = actor_control(world.runtime, WEIR_ACTOR_NONE, topic, &end);
        assert_true(error == WEIR_OK || error == WEIR_STALE);
        frame.as.subscribe.pattern = view_text(round % 2 ? "map/a" : "map/#");
        client_send(&client, &frame);
        gone = snapshots_read(&client, round);
        client_send(&client, &(struct frame){.op = FRAME_UNSUBSCRIBE, .as.unsubscribe.sub = round});
        do {
            assert_true(client_receive(&client, &frame));
        } while (frame.op != FRAME_UNSUBSCRIBED);
        assert_true(view_is_same(frame.as.unsubscribed.code, view_text("ok")));
    }
    assert_true(gone > 0);
    client_close(&client);
    world_stop(&world);
}

static void bad_subscriptions_are_answered(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        enum overflow_policy policy;
        const char *code;
    } cases[] = {
        {"a/#/b", POLICY_RESYNC, "bad-topic"}, {"", POLICY_RESYNC, "bad-topic"},
        {"a+/b", POLICY_RESYNC, "bad-topic"},  {"$share/ab", POLICY_RESYNC, "bad-topic"},
        {"a", POLICY_UNKNOWN, "bad-request"},
    };
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client client;
    client_open(&client, &world, 1000);
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        client_subscribe(&client, i, cases[i].pattern, cases[i].policy);
        struct frame frame = client_expect(&client, FRAME_UNSUBSCRIBED);
        assert_int_equal(frame.as.unsubscribed.sub, i);
        assert_true(view_is_same(frame.as.unsubscribed.code, view_text(cases[i].code)));
    }
    client_close(&client);
    world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_follower_gets_state_then_updates),
        cmocka_unit_test(credit_is_not_renewed_while_a_topic_is_full),
        cmocka_unit_test(a_client_without_credit_gets_everything_but_data),
        cmocka_unit_test(large_state_reaches_a_small_window_whole),
        cmocka_unit_test(a_stalled_follower_stalls_nobody),
        cmocka_unit_test(a_small_outbox_overflows_after_little),
        cmocka_unit_test(disconnect_ends_the_whole_subscription_of_one_that_does_not_read),
        cmocka_unit_test(cursors_resume_without_gap),
        cmocka_unit_test(the_same_number_may_be_subscribed_again_at_once),
        cmocka_unit_test(a_snapshot_of_a_topic_that_ends_is_told),
        cmocka_unit_test(bad_subscriptions_are_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
