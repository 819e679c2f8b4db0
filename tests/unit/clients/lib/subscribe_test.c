/* Subscribing: events by pull and by callback, credit, cursors after a loss, and what a broker may do wrong. */
#include "tests/unit/clients/lib/fake.h"

/* ------------------------------------------------------------------------------------------- helpers */

static struct weir_event next_event(struct weir_subscription *sub, enum weir_event_kind kind)
{
    struct weir_event event;
    enum weir_error error = weir_next(sub, WAIT_MS, &event);
    if (error != WEIR_OK)
        fail_msg("%s instead of an event %s", weir_error_text(error), weir_event_name(kind));
    if (event.kind != kind)
        fail_msg("event %s instead of %s", weir_event_name(event.kind), weir_event_name(kind));
    return event;
}

static uint64_t event_number(const struct weir_event *event)
{
    struct value_reader reader;
    value_reader_init(&reader, view_of(event->value.data, event->value.size), 1);
    uint64_t number = value_read_uint(&reader);
    assert_int_equal(reader.error, WEIR_OK);
    return number;
}

static bool is_text(struct weir_view view, const char *text)
{
    return view.size == strlen(text) && memcmp(view.data, text, view.size) == 0;
}

/* The snapshot of topic "t" as feed 9 at seq, with one entry. */
static void send_snapshot(struct session *s, uint32_t sub, uint64_t epoch, uint64_t seq)
{
    send_begin(s, sub, 9, "t", epoch, seq, false);
    send_entry(s, 9, seq);
    send_end(s, 9, epoch, seq);
}

static void take_snapshot(struct weir_subscription *sub, uint64_t epoch, uint64_t seq)
{
    struct weir_event event = next_event(sub, WEIR_EVENT_BEGIN);
    assert_true(is_text(event.topic, "t"));
    assert_false(event.resumed);
    event = next_event(sub, WEIR_EVENT_ENTRY);
    assert_int_equal(event_number(&event), seq);
    event = next_event(sub, WEIR_EVENT_END);
    assert_int_equal(event.epoch, epoch);
    assert_int_equal(event.seq, seq);
}

static void take_updates(struct weir_subscription *sub, uint64_t seq, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct weir_event event = next_event(sub, WEIR_EVENT_UPDATE);
        assert_int_equal(event.seq, seq + i);
        assert_int_equal(event_number(&event), seq + i);
        assert_true(is_text(event.topic, "t"));
        assert_null(event.key.data);
    }
}

/* A client that follows "t", whose snapshot at seq 10 of epoch 7 it has taken. */
static struct weir *follower(struct fake *fake, const struct weir_options *options, struct session **s,
                             struct weir_subscription **sub)
{
    fake_start(fake);
    struct weir *client = fake_client(fake, options, 1000, s);
    assert_int_equal(weir_subscribe(client, "t", NULL, sub), WEIR_OK);
    session_skip(*s, FRAME_SUBSCRIBE);
    send_subscribed(*s, 1, 1);
    send_snapshot(*s, 1, 7, 10);
    next_event(*sub, WEIR_EVENT_SUBSCRIBED);
    take_snapshot(*sub, 7, 10);
    return client;
}

static void follower_end(struct fake *fake, struct weir *client)
{
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(fake);
}

/* ------------------------------------------------------------------------------------------------ events */

static void events_come_as_the_broker_sent_them(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_subscription *sub = NULL;
    struct weir_event event;
    struct weir_subscribe_options options = {.policy = "block", .no_snapshot = true, .outbox_bytes = 4321};
    fake_start(&fake);
    struct weir *client = fake_client(&fake, NULL, 1000, &s);
    assert_int_equal(weir_subscribe(client, "a/+", &options, &sub), WEIR_OK);
    struct kept *kept = session_take(s, FRAME_SUBSCRIBE);
    assert_int_equal(kept->frame.as.subscribe.policy, POLICY_BLOCK);
    assert_false(kept->frame.as.subscribe.snapshot);
    assert_true(kept->frame.as.subscribe.updates);
    assert_int_equal(kept->frame.as.subscribe.outbox, 4321);
    assert_true(view_is_same(kept->frame.as.subscribe.pattern, view_text("a/+")));
    uint32_t id = kept->frame.as.subscribe.sub;
    free(kept);
    assert_int_equal(weir_next(sub, 0, &event), WEIR_TIMEOUT);
    send_subscribed(s, id, 3);
    event = next_event(sub, WEIR_EVENT_SUBSCRIBED);
    assert_int_equal(event.count, 3);
    assert_int_equal(event.topic.size, 0);
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

/* ------------------------------------------------------------------------------------------ after a loss */

static void cursor_of(struct session *s, uint64_t epoch, uint64_t seq)
{
    struct kept *kept = session_take(s, FRAME_SUBSCRIBE);
    struct cursor cursor;
    struct view cursors = kept->frame.as.subscribe.cursors;
    if (epoch == 0) {
        assert_int_equal(kept->frame.as.subscribe.cursor_count, 0);
    } else {
        assert_int_equal(kept->frame.as.subscribe.cursor_count, 1);
        assert_int_equal(cursors_next(&cursors, &cursor), WEIR_OK);
        assert_true(view_is_same(cursor.topic, view_text("t")));
        assert_int_equal(cursor.epoch, epoch);
        assert_int_equal(cursor.seq, seq);
    }
    free(kept);
}

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

/* -------------------------------------------------------------------------------------------- callbacks */

struct seen {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t updates, last_seq;
    unsigned begins, ended;
    bool is_wrong, is_held, unsubscribes;
    struct weir *client;
    struct weir_subscription *sub;
};

static void seen_init(struct seen *seen)
{
    *seen = (struct seen){.updates = 0};
    pthread_mutex_init(&seen->lock, NULL);
    pthread_cond_init(&seen->changed, NULL);
}

static void on_event(struct weir_subscription *subscription, const struct weir_event *event, void *context)
{
    struct seen *seen = context;
    bool unsubscribes = false;
    pthread_mutex_lock(&seen->lock);
    if (event->kind == WEIR_EVENT_UPDATE) {
        seen->is_wrong |= event->seq != seen->last_seq + 1;
        seen->last_seq = event->seq;
        seen->updates++;
        unsubscribes = seen->unsubscribes;
    } else if (event->kind == WEIR_EVENT_END) {
        seen->begins++;
        seen->last_seq = event->seq;
    } else if (event->kind == WEIR_EVENT_ENDED) {
        seen->ended++;
    }
    pthread_cond_broadcast(&seen->changed);
    while (seen->is_held)
        pthread_cond_wait(&seen->changed, &seen->lock);
    pthread_mutex_unlock(&seen->lock);
    if (unsubscribes) {
        struct weir_event unused;
        if (weir_next(subscription, 0, &unused) != WEIR_FORBIDDEN)
            abort();
        weir_unsubscribe(&seen->sub);
    }
}

static void hold(struct seen *seen, bool is_held)
{
    pthread_mutex_lock(&seen->lock);
    seen->is_held = is_held;
    pthread_cond_broadcast(&seen->changed);
    pthread_mutex_unlock(&seen->lock);
}

static struct weir *listener(struct fake *fake, struct session **s, struct seen *seen)
{
    fake_start(fake);
    seen_init(seen);
    struct weir *client = fake_client(fake, &(struct weir_options){.heartbeat_ms = 100}, 1000, s);
    struct weir_subscribe_options options = {.on_event = on_event, .context = seen};
    seen->client = client;
    assert_int_equal(weir_subscribe(client, "t", &options, &seen->sub), WEIR_OK);
    session_skip(*s, FRAME_SUBSCRIBE);
    send_snapshot(*s, 1, 7, 10);
    return client;
}

static void callbacks_get_every_event_in_order(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct seen seen;
    struct weir *client = listener(&fake, &s, &seen);
    for (unsigned i = 0; i < 50; i++)
        send_updates(s, 9, 11 + i * 100, 100);
    FAKE_WAIT(&seen, seen.updates == 5000);
    assert_false(seen.is_wrong);
    assert_int_equal(seen.begins, 1);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    assert_int_equal(seen.ended, 1);
    fake_stop(&fake);
}

static void callback_may_end_its_own_subscription(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct seen seen;
    struct weir *client = listener(&fake, &s, &seen);
    seen.unsubscribes = true;
    send_updates(s, 9, 11, 100);
    session_skip(s, FRAME_UNSUBSCRIBE);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    assert_int_equal(seen.updates, 1);
    assert_null(seen.sub);
    fake_stop(&fake);
}

static void *unsubscribe_main(void *argument)
{
    struct seen *seen = argument;
    weir_unsubscribe(&seen->sub);
    return NULL;
}

static void unsubscribing_waits_for_the_callback_to_be_back(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct seen seen;
    pthread_t thread;
    struct weir *client = listener(&fake, &s, &seen);
    FAKE_WAIT(&seen, seen.begins == 1);
    hold(&seen, true);
    send_updates(s, 9, 11, 100);
    FAKE_WAIT(&seen, seen.updates == 1);
    assert_int_equal(pthread_create(&thread, NULL, unsubscribe_main, &seen), 0);
    session_skip(s, FRAME_UNSUBSCRIBE);
    hold(&seen, false);
    pthread_join(thread, NULL);
    assert_int_equal(seen.updates, 1);
    send_updates(s, 9, 111, 1);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    assert_int_equal(seen.updates, 1);
    fake_stop(&fake);
}

static void slow_callback_costs_no_session(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct seen seen;
    struct weir *client = listener(&fake, &s, &seen);
    FAKE_WAIT(&seen, seen.begins == 1);
    hold(&seen, true);
    send_updates(s, 9, 11, 1);
    FAKE_WAIT(&seen, seen.updates == 1);
    session_send(s, &(struct frame){.op = FRAME_PING, .as.ping.n = 1});
    struct timespec hold_on = {.tv_nsec = 450 * 1000 * 1000}; /* more than three heartbeats */
    nanosleep(&hold_on, NULL);
    hold(&seen, false);
    session_skip(s, FRAME_PONG);
    send_updates(s, 9, 12, 1);
    FAKE_WAIT(&seen, seen.updates == 2);
    assert_false(s->is_closed);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

/* --------------------------------------------------------------------------------------------- all at once */

enum { THREADS = 4, ROUNDS = 60 };

/* A broker of one topic: every record becomes an update for each subscription. */
struct tiny {
    uint64_t seq;
    uint32_t subs[4096];
    unsigned count;
};

static bool tiny_broker(struct session *s, const struct frame *frame)
{
    struct tiny *tiny = s->fake->context;
    struct frame answer = {.op = FRAME_ACK};
    if (frame->op == FRAME_SUBSCRIBE && tiny->count < 4096) {
        answer = (struct frame){.op = FRAME_BEGIN};
        answer.as.begin.sub = answer.as.begin.feed = frame->as.subscribe.sub;
        answer.as.begin.topic = view_text("t");
        answer.as.begin.kind = view_text("last");
        answer.as.begin.epoch = 7;
        answer.as.begin.seq = tiny->seq;
        session_put_frame(s, &answer);
        answer = (struct frame){.op = FRAME_END};
        answer.as.end.feed = frame->as.subscribe.sub;
        answer.as.end.epoch = 7;
        answer.as.end.seq = tiny->seq;
        session_put_frame(s, &answer);
        tiny->subs[tiny->count++] = frame->as.subscribe.sub;
    } else if (frame->op == FRAME_UNSUBSCRIBE) {
        unsigned kept = 0;
        for (unsigned i = 0; i < tiny->count; i++) {
            if (tiny->subs[i] != frame->as.unsubscribe.sub)
                tiny->subs[kept++] = tiny->subs[i];
        }
        tiny->count = kept;
    } else if (frame->op == FRAME_PUBLISH) {
        for (unsigned i = 0; i < tiny->count; i++) {
            struct frame update = {.op = FRAME_UPDATES};
            update.as.updates.feed = tiny->subs[i];
            update.as.updates.seq = tiny->seq + 1;
            update.as.updates.count = frame->as.publish.count;
            update.as.updates.items = frame->as.publish.items;
            session_put_frame(s, &update);
        }
        answer.as.ack.number = frame->as.publish.number;
        answer.as.ack.count = frame->as.publish.count;
        answer.as.ack.epoch = 7;
        answer.as.ack.seq = tiny->seq + 1;
        session_put_frame(s, &answer);
        tiny->seq += frame->as.publish.count;
    } else {
        return false;
    }
    return true;
}

static void *mixed_main(void *argument)
{
    struct seen *seen = argument;
    struct weir_record record = {
        .topic = "t", .value = "x", .value_size = 1, .form = WEIR_TEXT, .ack = WEIR_ACK_FOLDED};
    struct weir_event event;
    struct weir_counts counts;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct weir_subscription *pulled = NULL, *called = NULL;
        struct weir_subscribe_options options = {.on_event = on_event, .context = seen};
        if (weir_subscribe(seen->client, "t", NULL, &pulled) != WEIR_OK ||
            weir_subscribe(seen->client, "t", &options, &called) != WEIR_OK)
            abort();
        for (unsigned k = 0; k < 5; k++) {
            if (weir_publish_wait(seen->client, &record, WEIR_FOREVER, NULL) != WEIR_OK)
                abort();
        }
        uint64_t seq = 0;
        for (unsigned updates = 0; updates < 5;) {
            if (weir_next(pulled, WAIT_MS, &event) != WEIR_OK)
                abort();
            if (event.kind == WEIR_EVENT_UPDATE && (updates++ > 0 && event.seq != seq + 1))
                abort();
            seq = event.seq;
        }
        weir_counts(seen->client, &counts);
        weir_unsubscribe(&called);
        weir_unsubscribe(&pulled);
    }
    return NULL;
}

static void many_threads_publish_and_subscribe_at_once(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct tiny tiny = {.seq = 0};
    struct seen seen[THREADS];
    pthread_t threads[THREADS];
    fake_start(&fake);
    fake.on_frame = tiny_broker;
    fake.context = &tiny;
    struct weir *client = fake_client(&fake, NULL, UINT64_C(1) << 40, &s);
    for (unsigned i = 0; i < THREADS; i++) {
        seen_init(&seen[i]);
        seen[i].client = client;
        assert_int_equal(pthread_create(&threads[i], NULL, mixed_main, &seen[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(tiny.seq, THREADS * ROUNDS * 5);
    follower_end(&fake, client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_come_as_the_broker_sent_them),
        cmocka_unit_test(refused_subscription_ends),
        cmocka_unit_test(await_names_each_subscription_that_has_something),
        cmocka_unit_test(subscription_resumes_behind_what_came),
        cmocka_unit_test(interrupted_snapshot_is_asked_for_afresh),
        cmocka_unit_test(ended_and_reset_topics_leave_no_cursor),
        cmocka_unit_test(given_cursors_are_asked_for),
        cmocka_unit_test(cursors_beyond_the_message_bound_are_left_out),
        cmocka_unit_test(broken_promises_end_the_session),
        cmocka_unit_test(frames_of_unknown_feeds_and_subscriptions_are_ignored),
        cmocka_unit_test(credit_is_renewed_as_the_user_takes_events),
        cmocka_unit_test(what_waits_counts_against_the_window_of_the_next_connection),
        cmocka_unit_test(callbacks_get_every_event_in_order),
        cmocka_unit_test(callback_may_end_its_own_subscription),
        cmocka_unit_test(unsubscribing_waits_for_the_callback_to_be_back),
        cmocka_unit_test(slow_callback_costs_no_session),
        cmocka_unit_test(many_threads_publish_and_subscribe_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
