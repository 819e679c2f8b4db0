/* Subscriptions after a loss, and brokers that break their promises. */
#include "tests/unit/clients/lib/follower.h"

static void subscription_resumes_behind_what_came(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_subscription *sub = NULL;
    struct weir *client = follower(&fake, NULL, &s, &sub);
    send_updates(s, 9, 11, 5);
    take_updates(sub, 11, 2); /* the rest waits here while the connection is lost */
    session_cut(s);
    s = fake_session(&fake, 1000);
    cursor_of(s, 7, 15);
    send_subscribed(s, 1, 1);
    send_begin(s, 1, 3, "t", 7, 15, true);
    send_end(s, 3, 7, 15);
    send_updates(s, 3, 16, 2);
    take_updates(sub, 13, 3);
    next_event(sub, WEIR_EVENT_SUBSCRIBED);
    assert_true(next_event(sub, WEIR_EVENT_BEGIN).resumed);
    next_event(sub, WEIR_EVENT_END);
    take_updates(sub, 16, 2);
    session_cut(s);
    s = fake_session(&fake, 1000);
    cursor_of(s, 7, 17);
    follower_end(&fake, client);
}

static void interrupted_snapshot_is_asked_for_afresh(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_subscription *sub = NULL;
    struct weir *client = follower(&fake, NULL, &s, &sub);
    send_begin(s, 1, 9, "t", 7, 20, false);
    send_entry(s, 9, 1);
    next_event(sub, WEIR_EVENT_BEGIN);
    next_event(sub, WEIR_EVENT_ENTRY);
    session_cut(s);
    s = fake_session(&fake, 1000);
    cursor_of(s, 0, 0);
    send_snapshot(s, 1, 7, 21);
    take_snapshot(sub, 7, 21);
    session_cut(s);
    s = fake_session(&fake, 1000);
    cursor_of(s, 7, 21);
    send_begin(s, 1, 9, "t", 7, 21, true); /* a resume that is interrupted has lost nothing */
    next_event(sub, WEIR_EVENT_BEGIN);
    session_cut(s);
    s = fake_session(&fake, 1000);
    cursor_of(s, 7, 21);
    follower_end(&fake, client);
}

static void ended_and_reset_topics_leave_no_cursor(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_subscription *sub = NULL;
    struct weir *client = follower(&fake, NULL, &s, &sub);
    struct frame frame = {.op = FRAME_RESET};
    frame.as.reset.feed = 9;
    frame.as.reset.epoch = 8;
    session_send(s, &frame);
    next_event(sub, WEIR_EVENT_RESET);
    session_cut(s);
    s = fake_session(&fake, 1000);
    cursor_of(s, 0, 0);
    send_snapshot(s, 1, 8, 3);
    take_snapshot(sub, 8, 3);
    frame = (struct frame){.op = FRAME_ENDED};
    frame.as.ended.feed = 9;
    frame.as.ended.cause = view_text("not-found");
    session_send(s, &frame);
    next_event(sub, WEIR_EVENT_ENDED);
    session_cut(s);
    s = fake_session(&fake, 1000);
    cursor_of(s, 0, 0);
    follower_end(&fake, client);
}

static void given_cursors_are_asked_for(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_subscription *sub = NULL;
    struct weir_cursor cursor = {.topic = "t", .epoch = 5, .seq = 77};
    fake_start(&fake);
    struct weir *client = fake_client(&fake, NULL, 1000, &s);
    struct weir_subscribe_options options = {.cursors = &cursor, .cursor_count = 1};
    assert_int_equal(weir_subscribe(client, "t", &options, &sub), WEIR_OK);
    cursor_of(s, 5, 77);
    session_cut(s);
    s = fake_session(&fake, 1000);
    cursor_of(s, 5, 77);
    follower_end(&fake, client);
}

static void cursors_beyond_the_message_bound_are_left_out(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_subscription *sub = NULL;
    fake_start(&fake);
    struct weir *client = fake_client(&fake, NULL, 1000, &s);
    assert_int_equal(weir_subscribe(client, "#", NULL, &sub), WEIR_OK);
    session_skip(s, FRAME_SUBSCRIBE);
    for (uint32_t i = 0; i < 500; i++) {
        char topic[32];
        snprintf(topic, sizeof topic, "topic/%u", i);
        send_begin(s, 1, i, topic, 7, 1, false);
        send_end(s, i, 7, 1);
    }
    for (uint32_t i = 0; i < 500; i++) {
        next_event(sub, WEIR_EVENT_BEGIN);
        next_event(sub, WEIR_EVENT_END);
    }
    session_cut(s);
    s = fake_next(&fake);
    session_skip(s, FRAME_HELLO);
    session_hello(s, 1000, 4096);
    struct kept *kept = session_take(s, FRAME_SUBSCRIBE);
    assert_true(kept->size <= 4096);
    assert_true(kept->frame.as.subscribe.cursor_count > 50);
    free(kept);
    follower_end(&fake, client);
}

static void send_delta_begin(struct session *s, uint64_t seq)
{
    struct frame frame = {.op = FRAME_BEGIN};
    frame.as.begin.sub = 1;
    frame.as.begin.feed = 9;
    frame.as.begin.topic = view_text("t");
    frame.as.begin.kind = view_text("map");
    frame.as.begin.epoch = 7;
    frame.as.begin.seq = seq;
    frame.as.begin.delta = true;
    frame.as.begin.cause = view_text("overflow");
    session_send(s, &frame);
}

static void send_conflated(struct session *s, uint64_t from, uint64_t to)
{
    struct frame frame = {.op = FRAME_CONFLATED};
    frame.as.conflated.feed = 9;
    frame.as.conflated.from = from;
    frame.as.conflated.to = to;
    frame.as.conflated.cause = view_text("overflow");
    session_send(s, &frame);
}

static void a_delta_says_what_changed_and_moves_the_cursor_at_its_end(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_subscription *sub = NULL;
    struct weir *client = follower(&fake, NULL, &s, &sub);
    send_delta_begin(s, 20);
    session_raw(s, "\x93\x16\x09\x92\xa1k\xc0", 7); /* ENTRIES: "k" was deleted */
    struct frame frame = {.op = FRAME_END};
    frame.as.end.feed = 9;
    frame.as.end.epoch = 7;
    frame.as.end.seq = 20;
    frame.as.end.delta = true;
    session_send(s, &frame);
    struct weir_event event = next_event(sub, WEIR_EVENT_BEGIN);
    assert_true(event.delta);
    assert_false(event.resumed);
    assert_true(is_text(event.cause, "overflow"));
    event = next_event(sub, WEIR_EVENT_ENTRY);
    assert_true(is_text(event.key, "k"));
    assert_int_equal(event.value.size, 1);
    assert_int_equal(*(const uint8_t *)event.value.data, 0xc0);
    assert_true(next_event(sub, WEIR_EVENT_END).delta);
    session_cut(s);
    s = fake_session(&fake, 1000);
    cursor_of(s, 7, 20);
    /* One that is cut off has been laid over in part: no cursor is good for that, all is asked for. */
    send_delta_begin(s, 30);
    next_event(sub, WEIR_EVENT_BEGIN);
    session_cut(s);
    s = fake_session(&fake, 1000);
    cursor_of(s, 0, 0);
    follower_end(&fake, client);
}

static void a_conflation_moves_the_cursor_over_what_it_leaves_out(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_subscription *sub = NULL;
    struct weir *client = follower(&fake, NULL, &s, &sub);
    send_conflated(s, 11, 14);
    send_updates(s, 9, 15, 2);
    struct weir_event event = next_event(sub, WEIR_EVENT_CONFLATED);
    assert_int_equal(event.seq, 11);
    assert_int_equal(event.seq_to, 14);
    assert_true(is_text(event.cause, "overflow"));
    take_updates(sub, 15, 2);
    session_cut(s);
    s = fake_session(&fake, 1000);
    cursor_of(s, 7, 16);
    follower_end(&fake, client);
}

/* --------------------------------------------------------------------------------------- broken promises */

static void expect_cut(void (*misbehave)(struct session *s))
{
    struct fake fake;
    struct session *s = NULL;
    struct weir_subscription *sub = NULL;
    struct weir *client = follower(&fake, NULL, &s, &sub);
    misbehave(s);
    FAKE_WAIT(&fake, s->is_closed);
    s = fake_session(&fake, 1000);
    cursor_of(s, 7, 10); /* and nothing of it moved the cursor */
    send_begin(s, 1, 9, "t", 7, 10, true);
    send_end(s, 9, 7, 10);
    send_updates(s, 9, 11, 1);
    struct weir_event event = {.kind = WEIR_EVENT_BEGIN};
    while (event.kind != WEIR_EVENT_UPDATE)
        assert_int_equal(weir_next(sub, WAIT_MS, &event), WEIR_OK);
    assert_int_equal(event.seq, 11);
    follower_end(&fake, client);
}

static void leave_gap(struct session *s) { send_updates(s, 9, 12, 1); }
static void repeat(struct session *s) { send_updates(s, 9, 10, 1); }
static void enter_outside(struct session *s) { send_entry(s, 9, 1); }
static void end_twice(struct session *s) { send_end(s, 9, 7, 10); }
static void idle_ahead(struct session *s)
{
    session_send(s, &(struct frame){.op = FRAME_IDLE, .as.idle.feed = 9, .as.idle.seq = 11});
}
static void number_twice(struct session *s) { send_begin(s, 1, 9, "other", 7, 10, false); }
static void claim_more_items(struct session *s)
{
    session_raw(s, "\x94\x18\x09\x0b\x94\xc0\x01\xc0", 8); /* UPDATES of two, with one and a half */
}
static void claim_fewer_items(struct session *s) { session_raw(s, "\x94\x18\x09\x0b\x92\xc0\x01\xc0\x01", 9); }
static void odd_items(struct session *s)
{
    session_raw(s, "\x94\x18\x09\x0b\x92\x05\x01", 7); /* a key that is no text */
}

static void broken_promises_end_the_session(void **state)
{
    (void)state;
    expect_cut(leave_gap);
    expect_cut(repeat);
    expect_cut(enter_outside);
    expect_cut(end_twice);
    expect_cut(idle_ahead);
    expect_cut(number_twice);
    expect_cut(claim_more_items);
    expect_cut(claim_fewer_items);
    expect_cut(odd_items);
}

static void frames_of_unknown_feeds_and_subscriptions_are_ignored(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_subscription *sub = NULL;
    struct weir *client = follower(&fake, &(struct weir_options){.window_bytes = 100}, &s, &sub);
    send_subscribed(s, 55, 1);
    send_begin(s, 55, 56, "u", 1, 1, false);
    for (unsigned i = 0; i < 10; i++)
        send_updates(s, 56, 2, 20);
    FAKE_WAIT(&fake, s->credits > 0); /* they count as consumed */
    send_updates(s, 9, 11, 1);
    take_updates(sub, 11, 1);
    follower_end(&fake, client);
}

static void the_seqs_of_some_keys_have_holes_and_idle_moves_the_cursor(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_subscription *sub = NULL;
    fake_start(&fake);
    struct weir *client = fake_client(&fake, NULL, 1000, &s);
    struct weir_subscribe_options both = {.key = "k", .prefix = "p"}, options = {.prefix = "p/"};
    assert_int_equal(weir_subscribe(client, "t", &both, &sub), WEIR_BAD_REQUEST);
    assert_int_equal(weir_subscribe(client, "t", &options, &sub), WEIR_OK);
    struct kept *kept = session_take(s, FRAME_SUBSCRIBE);
    assert_true(view_is_same(kept->frame.as.subscribe.prefix, view_text("\xa2p/")));
    assert_int_equal(kept->frame.as.subscribe.key.size, 0);
    uint32_t id = kept->frame.as.subscribe.sub;
    free(kept);
    send_subscribed(s, id, 1);
    send_snapshot(s, id, 7, 10);
    next_event(sub, WEIR_EVENT_SUBSCRIBED);
    take_snapshot(sub, 7, 10);
    send_updates(s, 9, 15, 2);
    take_updates(sub, 15, 2);
    struct frame idle = {.op = FRAME_IDLE, .as.idle = {.feed = 9, .seq = 40}};
    session_send(s, &idle);
    assert_int_equal(next_event(sub, WEIR_EVENT_IDLE).seq, 40);
    session_cut(s);
    s = fake_session(&fake, 1000);
    kept = session_take(s, FRAME_SUBSCRIBE);
    struct view cursors = kept->frame.as.subscribe.cursors;
    struct cursor cursor;
    assert_int_equal(cursors_next(&cursors, &cursor), WEIR_OK);
    assert_int_equal(cursor.seq, 40);
    assert_true(view_is_same(kept->frame.as.subscribe.prefix, view_text("\xa2p/"))); /* asked for again */
    free(kept);
    send_subscribed(s, id, 1);
    send_begin(s, id, 3, "t", 7, 40, true);
    send_end(s, 3, 7, 40);
    send_updates(s, 3, 40, 1); /* one that is known already breaks the order here, too */
    struct weir_event event;
    next_event(sub, WEIR_EVENT_SUBSCRIBED);
    next_event(sub, WEIR_EVENT_BEGIN);
    next_event(sub, WEIR_EVENT_END);
    s = fake_session(&fake, 1000);
    assert_int_equal(weir_next(sub, 0, &event), WEIR_TIMEOUT);
    follower_end(&fake, client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subscription_resumes_behind_what_came),
        cmocka_unit_test(interrupted_snapshot_is_asked_for_afresh),
        cmocka_unit_test(ended_and_reset_topics_leave_no_cursor),
        cmocka_unit_test(given_cursors_are_asked_for),
        cmocka_unit_test(cursors_beyond_the_message_bound_are_left_out),
        cmocka_unit_test(a_delta_says_what_changed_and_moves_the_cursor_at_its_end),
        cmocka_unit_test(a_conflation_moves_the_cursor_over_what_it_leaves_out),
        cmocka_unit_test(the_seqs_of_some_keys_have_holes_and_idle_moves_the_cursor),
        cmocka_unit_test(broken_promises_end_the_session),
        cmocka_unit_test(frames_of_unknown_feeds_and_subscriptions_are_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
