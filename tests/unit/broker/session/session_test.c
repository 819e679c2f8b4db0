/* Sessions: hello, publishing, following, credit, and everything that breaks the protocol. */
#include "broker/session/session.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_publishes_and_is_answered),
        cmocka_unit_test(a_follower_gets_state_then_updates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
