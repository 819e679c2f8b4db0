/* Subscribing: events by pull, and credit. */
#include "tests/unit/clients/lib/follower.h"

/* All that a topic can go through, from its first BEGIN to its end. */
static void send_life(struct session *s, uint32_t id)
{
    send_begin(s, id, 0, "a/b", 7, 4, false); /* 0 is a number like any other */
    send_end(s, 0, 7, 4);
    send_updates(s, 0, 5, 2);
    struct frame frame = {.op = FRAME_GAP};
    frame.as.gap.from = 7;
    frame.as.gap.to = 9;
    frame.as.gap.cause = view_text("overflow");
    session_send(s, &frame);
    send_updates(s, 0, 10, 1);
    session_send(s, &(struct frame){.op = FRAME_IDLE, .as.idle.seq = 10});
    frame = (struct frame){.op = FRAME_STALE};
    frame.as.stale.cause = view_text("restart");
    session_send(s, &frame);
    session_send(s, &(struct frame){.op = FRAME_LIVE});
    frame = (struct frame){.op = FRAME_RESET};
    frame.as.reset.epoch = 8;
    frame.as.reset.cause = view_text("cleared");
    session_send(s, &frame);
    send_begin(s, id, 0, "a/b", 8, 0, false);
    send_end(s, 0, 8, 0);
    frame = (struct frame){.op = FRAME_ENDED};
    frame.as.ended.cause = view_text("not-found");
    session_send(s, &frame);
}

static void events_come_as_the_broker_sent_them(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_subscription *sub = NULL;
    struct weir_event event;
    struct weir_subscribe_options options = {
        .policy = "block", .no_snapshot = true, .outbox_bytes = 4321, .interval_ms = 88, .block_ms = 77};
    fake_start(&fake);
    struct weir *client = fake_client(&fake, NULL, 1000, &s);
    assert_int_equal(weir_subscribe(client, "a/+", &options, &sub), WEIR_OK);
    struct kept *kept = session_take(s, FRAME_SUBSCRIBE);
    assert_int_equal(kept->frame.as.subscribe.policy, POLICY_BLOCK);
    assert_false(kept->frame.as.subscribe.snapshot);
    assert_true(kept->frame.as.subscribe.updates);
    assert_int_equal(kept->frame.as.subscribe.outbox, 4321);
    assert_int_equal(kept->frame.as.subscribe.interval_ms, 88);
    assert_int_equal(kept->frame.as.subscribe.block_ms, 77);
    assert_true(view_is_same(kept->frame.as.subscribe.pattern, view_text("a/+")));
    uint32_t id = kept->frame.as.subscribe.sub;
    free(kept);
    assert_int_equal(weir_next(sub, 0, &event), WEIR_TIMEOUT);
    send_subscribed(s, id, 3);
    event = next_event(sub, WEIR_EVENT_SUBSCRIBED);
    assert_int_equal(event.count, 3);
    assert_int_equal(event.topic.size, 0);
    send_life(s, id);
    event = next_event(sub, WEIR_EVENT_BEGIN);
    assert_true(is_text(event.topic, "a/b"));
    assert_string_equal(event.topic_kind, "last");
    event = next_event(sub, WEIR_EVENT_END);
    event = next_event(sub, WEIR_EVENT_UPDATE);
    assert_int_equal(event.seq, 5);
    assert_int_equal(event.epoch, 7);
    event = next_event(sub, WEIR_EVENT_UPDATE);
    event = next_event(sub, WEIR_EVENT_GAP);
    assert_int_equal(event.seq, 7);
    assert_int_equal(event.seq_to, 9);
    assert_int_equal(event.epoch, 7);
    assert_true(is_text(event.cause, "overflow"));
    event = next_event(sub, WEIR_EVENT_UPDATE);
    assert_int_equal(event.seq, 10);
    assert_int_equal(event.epoch, 7); /* although a later epoch has come by now */
    event = next_event(sub, WEIR_EVENT_IDLE);
    assert_int_equal(event.seq, 10);
    event = next_event(sub, WEIR_EVENT_STALE);
    event = next_event(sub, WEIR_EVENT_LIVE);
    event = next_event(sub, WEIR_EVENT_RESET);
    assert_int_equal(event.epoch, 8);
    event = next_event(sub, WEIR_EVENT_BEGIN);
    event = next_event(sub, WEIR_EVENT_END);
    event = next_event(sub, WEIR_EVENT_ENDED);
    assert_true(is_text(event.topic, "a/b"));
    assert_int_equal(event.error, WEIR_NOT_FOUND);
    follower_end(&fake, client);
}

static void refused_subscription_ends(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_subscription *sub = NULL;
    struct weir_event event;
    struct weir_cursor bad = {.topic = "a//b"};
    fake_start(&fake);
    struct weir *client = fake_client(&fake, NULL, 1000, &s);
    assert_int_equal(weir_subscribe(client, "a/#/b", NULL, &sub), WEIR_BAD_TOPIC);
    assert_null(sub);
    assert_int_equal(weir_subscribe(client, "a", &(struct weir_subscribe_options){.policy = "odd"}, &sub),
                     WEIR_BAD_REQUEST);
    assert_int_equal(
        weir_subscribe(client, "a", &(struct weir_subscribe_options){.cursors = &bad, .cursor_count = 1}, &sub),
        WEIR_BAD_TOPIC);
    assert_int_equal(weir_subscribe(client, "a", NULL, &sub), WEIR_OK);
    session_skip(s, FRAME_SUBSCRIBE);
    struct frame frame = {.op = FRAME_UNSUBSCRIBED};
    frame.as.unsubscribed.sub = 1;
    frame.as.unsubscribed.code = view_text("full");
    frame.as.unsubscribed.message = view_text("enough");
    session_send(s, &frame);
    event = next_event(sub, WEIR_EVENT_ENDED);
    assert_int_equal(event.error, WEIR_FULL);
    assert_true(is_text(event.cause, "enough"));
    assert_int_equal(weir_next(sub, WAIT_MS, &event), WEIR_CLOSED);
    assert_int_equal(weir_next(sub, 0, &event), WEIR_CLOSED);
    session_cut(s);
    s = fake_session(&fake, 1000); /* it is not asked for again */
    assert_int_equal(weir_subscribe(client, "b", NULL, &(struct weir_subscription *){NULL}), WEIR_OK);
    struct kept *kept = session_take(s, FRAME_SUBSCRIBE);
    assert_true(view_is_same(kept->frame.as.subscribe.pattern, view_text("b")));
    free(kept);
    follower_end(&fake, client);
}

static void await_names_each_subscription_that_has_something(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_subscription *subs[3] = {NULL}, *found = NULL;
    struct weir_event event;
    fake_start(&fake);
    struct weir *client = fake_client(&fake, NULL, 1000, &s);
    assert_int_equal(weir_await(client, 0, &found), WEIR_TIMEOUT);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(weir_subscribe(client, "t", NULL, &subs[i]), WEIR_OK);
    send_subscribed(s, 3, 0);
    assert_int_equal(weir_await(client, WAIT_MS, &found), WEIR_OK);
    assert_ptr_equal(found, subs[2]);
    assert_int_equal(weir_await(client, WAIT_MS, &found), WEIR_OK); /* until it is taken */
    assert_ptr_equal(found, subs[2]);
    assert_int_equal(weir_next(subs[2], 0, &event), WEIR_OK);
    assert_int_equal(weir_await(client, 20, &found), WEIR_TIMEOUT);
    send_subscribed(s, 1, 0);
    struct frame frame = {.op = FRAME_UNSUBSCRIBED};
    frame.as.unsubscribed.sub = 2;
    frame.as.unsubscribed.code = view_text("closed");
    session_send(s, &frame);
    bool is_seen[3] = {false};
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(weir_await(client, WAIT_MS, &found), WEIR_OK);
        if (found == subs[0])
            is_seen[0] = weir_next(found, 0, &event) == WEIR_OK;
        else if (weir_next(found, 0, &event) == WEIR_OK)
            is_seen[1] = true;
        else
            is_seen[2] = true; /* the end itself */
    }
    assert_true(is_seen[0] && is_seen[1] && is_seen[2]);
    assert_int_equal(weir_await(client, 20, &found), WEIR_TIMEOUT);
    weir_unsubscribe(&subs[0]);
    follower_end(&fake, client);
}

/* ---------------------------------------------------------------------------------------------- credit */

static void credit_is_renewed_as_the_user_takes_events(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_subscription *sub = NULL;
    struct weir_event event;
    struct weir *client = follower(&fake, &(struct weir_options){.window_bytes = 1000}, &s, &sub);
    size_t used = 0;
    unsigned count = 0;
    while (used < 1000) {
        used += send_updates(s, 9, 11 + count, 10);
        count += 10;
    }
    session_send(s, &(struct frame){.op = FRAME_PING, .as.ping.n = 5});
    session_skip(s, FRAME_PONG);
    assert_int_equal(s->credits, 0); /* nothing was taken */
    for (unsigned i = 0; i < count; i++)
        take_updates(sub, 11 + i, 1);
    assert_int_equal(weir_next(sub, 0, &event), WEIR_TIMEOUT);
    FAKE_WAIT(&fake, s->credits > 0);
    session_send(s, &(struct frame){.op = FRAME_PING, .as.ping.n = 6});
    session_skip(s, FRAME_PONG);
    assert_true(s->credit > 1000 && s->credit <= used + 1010);
    assert_true(s->credits <= 3);
    follower_end(&fake, client);
}

static void what_waits_counts_against_the_window_of_the_next_connection(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_subscription *sub = NULL;
    struct weir_event event;
    struct weir *client = follower(&fake, &(struct weir_options){.window_bytes = 1000}, &s, &sub);
    size_t used = send_updates(s, 9, 11, 300);
    session_send(s, &(struct frame){.op = FRAME_PING, .as.ping.n = 5});
    session_skip(s, FRAME_PONG);
    for (unsigned i = 0; i < 3; i++) {
        session_cut(s);
        s = fake_next(&fake);
        struct kept *hello = session_take(s, FRAME_HELLO);
        assert_int_equal(hello->frame.as.hello.credit, 1000 - used);
        free(hello);
        session_hello(s, 1000, MESSAGE_SIZE_MAX_DEFAULT);
    }
    take_updates(sub, 11, 300);
    assert_int_equal(weir_next(sub, 0, &event), WEIR_TIMEOUT);
    FAKE_WAIT(&fake, s->credit == 1000); /* the whole window, and no more */
    follower_end(&fake, client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_come_as_the_broker_sent_them),
        cmocka_unit_test(refused_subscription_ends),
        cmocka_unit_test(await_names_each_subscription_that_has_something),
        cmocka_unit_test(credit_is_renewed_as_the_user_takes_events),
        cmocka_unit_test(what_waits_counts_against_the_window_of_the_next_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
