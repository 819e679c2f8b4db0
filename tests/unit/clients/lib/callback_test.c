/* Subscribing by callback, and many threads at once. */
#include "tests/unit/clients/lib/follower.h"

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

static struct weir *listener_with(struct fake *fake, struct session **s, struct seen *seen, uint64_t heartbeat_ms)
{
    fake_start(fake);
    seen_init(seen);
    struct weir *client = fake_client(fake, &(struct weir_options){.heartbeat_ms = heartbeat_ms}, 1000, s);
    struct weir_subscribe_options options = {.on_event = on_event, .context = seen};
    seen->client = client;
    assert_int_equal(weir_subscribe(client, "t", &options, &seen->sub), WEIR_OK);
    session_skip(*s, FRAME_SUBSCRIBE);
    send_snapshot(*s, 1, 7, 10);
    return client;
}

static struct weir *listener(struct fake *fake, struct session **s, struct seen *seen)
{
    return listener_with(fake, s, seen, 0);
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
    struct weir *client = listener_with(&fake, &s, &seen, 400);
    FAKE_WAIT(&seen, seen.begins == 1);
    hold(&seen, true);
    send_updates(s, 9, 11, 1);
    FAKE_WAIT(&seen, seen.updates == 1);
    session_send(s, &(struct frame){.op = FRAME_PING, .as.ping.n = 1});
    struct timespec hold_on = {.tv_sec = 1, .tv_nsec = 400 * 1000 * 1000}; /* more than three heartbeats */
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
        cmocka_unit_test(callbacks_get_every_event_in_order),
        cmocka_unit_test(callback_may_end_its_own_subscription),
        cmocka_unit_test(unsubscribing_waits_for_the_callback_to_be_back),
        cmocka_unit_test(slow_callback_costs_no_session),
        cmocka_unit_test(many_threads_publish_and_subscribe_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
