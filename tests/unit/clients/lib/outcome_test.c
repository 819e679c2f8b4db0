/* What becomes of published records: acks, refusals, losses, and that the counts add up. */
#include "tests/unit/clients/lib/outcomes.h"

#include <sched.h>

#include "clients/lib/client.h"

static bool answer_by_topic(struct session *s, const struct frame *frame)
{
    struct frame answer = {.op = FRAME_ACK};
    if (frame->op != FRAME_PUBLISH)
        return false;
    if (view_is_same(frame->as.publish.topic, view_text("silent")))
        return true;
    if (view_is_same(frame->as.publish.topic, view_text("bad"))) {
        answer.op = FRAME_REFUSED;
        answer.as.refused.number = frame->as.publish.number;
        answer.as.refused.count = frame->as.publish.count;
        answer.as.refused.code = view_text("forbidden");
        answer.as.refused.message = view_text("not yours");
    } else {
        answer.as.ack.number = frame->as.publish.number;
        answer.as.ack.count = frame->as.publish.count;
        answer.as.ack.epoch = frame->as.publish.ack == ACK_ACCEPTED ? 0 : 7;
        answer.as.ack.seq = frame->as.publish.ack == ACK_ACCEPTED ? 0 : 40 + frame->as.publish.number;
    }
    session_put_frame(s, &answer);
    return true;
}

static void publish_wait_returns_what_became_of_the_record(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_seq seq = {9, 9};
    struct outcomes outcomes;
    outcomes_init(&outcomes);
    fake_start(&fake);
    fake.on_frame = answer_by_topic;
    struct weir_options options = {.on_outcome = on_outcome, .context = &outcomes};
    struct weir *client = fake_client(&fake, &options, 1 << 20, &s);
    struct weir_record record = text_record("good", "x", WEIR_ACK_FOLDED);
    assert_int_equal(weir_publish_wait(client, &record, WAIT_MS, &seq), WEIR_OK);
    assert_int_equal(seq.epoch, 7);
    assert_int_equal(seq.seq, 41);
    record.ack = WEIR_ACK_ACCEPTED;
    assert_int_equal(weir_publish_wait(client, &record, WAIT_MS, &seq), WEIR_OK);
    assert_int_equal(seq.seq, 0);
    record = text_record("bad", "x", WEIR_ACK_FOLDED);
    assert_int_equal(weir_publish_wait(client, &record, WAIT_MS, &seq), WEIR_FORBIDDEN);
    assert_string_equal(weir_reason(), "not yours");
    record = text_record("silent", "x", WEIR_ACK_FOLDED);
    assert_int_equal(weir_publish_wait(client, &record, 50, &seq), WEIR_TIMEOUT);
    assert_string_equal(weir_reason(), weir_error_text(WEIR_TIMEOUT));
    record = text_record("good", "x", WEIR_ACK_NONE);
    assert_int_equal(weir_publish_wait(client, &record, 50, &seq), WEIR_BAD_REQUEST);
    FAKE_WAIT(&outcomes, outcomes.count == 3);
    assert_int_equal(outcomes.told[2].outcome, WEIR_FORBIDDEN);
    assert_int_equal(outcomes.told[2].number, 3);
    assert_string_equal(outcomes.told[2].reason, "not yours");
    check_sum(client, 1);
    assert_int_equal(weir_close(&client, 0), WEIR_TIMEOUT);
    FAKE_WAIT(&outcomes, outcomes.count == 4); /* the silent one, by then unknown */
    assert_int_equal(outcomes.told[3].outcome, WEIR_CLOSED);
    fake_stop(&fake);
}

static void refusals_without_ack_are_counted_and_told(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct outcomes outcomes;
    outcomes_init(&outcomes);
    fake_start(&fake);
    fake.on_frame = answer_by_topic;
    struct weir_options options = {.on_outcome = on_outcome, .context = &outcomes};
    struct weir *client = fake_client(&fake, &options, 1 << 20, &s);
    struct weir_record record = text_record("bad", "x", WEIR_ACK_NONE);
    assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_OK);
    FAKE_WAIT(&outcomes, outcomes.count == 1);
    assert_int_equal(outcomes.told[0].outcome, WEIR_FORBIDDEN);
    struct weir_counts counts;
    weir_counts(client, &counts);
    assert_int_equal(counts.refused, 1);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

static void late_refusals_check(const char *publisher)
{
    struct fake fake;
    struct session *s = NULL;
    struct outcomes outcomes;
    struct weir_counts counts;
    outcomes_init(&outcomes);
    fake_start(&fake);
    struct weir_options options = {.publisher = publisher,
                                   .first_number = publisher != NULL,
                                   .on_outcome = on_outcome,
                                   .on_link = on_link,
                                   .context = &outcomes};
    struct weir *client = fake_client(&fake, &options, 0, &s);
    struct weir_record first = text_record("slow", "x", WEIR_ACK_FOLDED),
                       record = text_record("a", "x", WEIR_ACK_ACCEPTED);
    assert_int_equal(weir_publish(client, &first, 0, NULL), WEIR_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_OK);
    send_credit(s, 1000);
    session_skip(s, FRAME_PUBLISH);
    session_skip(s, FRAME_PUBLISH);
    send_ack(s, 2, 3, 0, 0);
    send_refused(s, 3, 1, "conflict", "others of its frame are open");
    send_ack(s, 5, 1, 0, 0);
    send_refused(s, 4, 2, "conflict", "an older record is open");
    send_ack(s, 1, 1, 7, 1);
    send_refused(s, 2, 1, "conflict", "all is answered");
    FAKE_WAIT(&outcomes, outcomes.downs > 0 || outcomes.records[WEIR_OK] + outcomes.records[WEIR_CONFLICT] == 9);
    assert_int_equal(outcomes.downs, 0);
    assert_int_equal(outcomes.records[WEIR_CONFLICT], 4);
    assert_int_equal(weir_flush(client, WAIT_MS), WEIR_OK);
    weir_counts(client, &counts);
    assert_int_equal(counts.acked, 5);
    assert_int_equal(counts.refused, 4);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

static void accepted_records_may_be_refused_after_their_ack(void **state)
{
    (void)state;
    late_refusals_check(NULL);
    late_refusals_check("till");
}

static void loss_makes_the_sent_unknown_and_keeps_the_unsent(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct outcomes outcomes;
    outcomes_init(&outcomes);
    fake_start(&fake);
    struct weir_options options = {.on_outcome = on_outcome, .context = &outcomes};
    struct weir *client = fake_client(&fake, &options, 0, &s);
    struct weir_record record = text_record("a", "x", WEIR_ACK_FOLDED);
    for (int i = 0; i < 10; i++)
        assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_OK);
    record = text_record("b", "y", WEIR_ACK_FOLDED);
    for (int i = 0; i < 5; i++)
        assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_OK);
    send_credit(s, 1);
    struct kept *kept = session_take(s, FRAME_PUBLISH);
    assert_int_equal(kept->frame.as.publish.count, 10);
    free(kept);
    send_ack(s, 1, 4, 7, 1);
    FAKE_WAIT(&outcomes, outcomes.count == 1);
    session_cut(s);
    FAKE_WAIT(&outcomes, outcomes.count == 2);
    assert_int_equal(outcomes.told[1].outcome, WEIR_CLOSED);
    assert_int_equal(outcomes.told[1].number, 5);
    assert_int_equal(outcomes.told[1].count, 6);
    check_sum(client, 5);
    s = fake_session(&fake, 1000);
    kept = session_take(s, FRAME_PUBLISH);
    assert_true(view_is_same(kept->frame.as.publish.topic, view_text("b")));
    assert_int_equal(kept->frame.as.publish.number, 11);
    assert_int_equal(kept->frame.as.publish.count, 5);
    free(kept);
    send_ack(s, 11, 5, 7, 100);
    assert_int_equal(weir_flush(client, WAIT_MS), WEIR_OK);
    check_sum(client, 0);
    assert_int_equal(outcomes.records[WEIR_OK], 9);
    assert_int_equal(outcomes.records[WEIR_CLOSED], 6);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

static void records_published_while_down_are_sent_later(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct outcomes outcomes;
    outcomes_init(&outcomes);
    fake_start(&fake);
    struct weir_options options = {
        .backoff_min_ms = 200, .publish_buffer_bytes = 100, .on_link = on_link, .context = &outcomes};
    struct weir *client = fake_client(&fake, &options, 1000, &s);
    session_cut(s);
    FAKE_WAIT(&outcomes, outcomes.downs == 1);
    struct weir_record record = text_record("a", "0123456789", WEIR_ACK_NONE);
    unsigned taken = 0, come = 0;
    while (weir_publish(client, &record, 0, NULL) == WEIR_OK)
        taken++;
    assert_true(taken > 0);
    assert_int_equal(weir_flush(client, 0), WEIR_TIMEOUT);
    s = fake_session(&fake, 1000);
    assert_int_equal(weir_flush(client, WAIT_MS), WEIR_OK);
    while (come < taken) {
        struct kept *kept = session_take(s, FRAME_PUBLISH);
        come += kept->frame.as.publish.count;
        free(kept);
    }
    assert_int_equal(come, taken);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

static void smaller_bound_of_the_next_broker_refuses_what_waits(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    static char large[5000];
    struct outcomes outcomes;
    outcomes_init(&outcomes);
    fake_start(&fake);
    struct weir_options options = {.on_outcome = on_outcome, .context = &outcomes};
    struct weir *client = fake_client(&fake, &options, 0, &s);
    struct weir_record small = text_record("a", "x", WEIR_ACK_FOLDED);
    struct weir_record big = {
        .topic = "b", .value = large, .value_size = sizeof large, .form = WEIR_BYTES, .ack = WEIR_ACK_FOLDED};
    assert_int_equal(weir_publish(client, &small, 0, NULL), WEIR_OK);
    assert_int_equal(weir_publish(client, &big, 0, NULL), WEIR_OK);
    assert_int_equal(weir_publish(client, &small, 0, NULL), WEIR_OK);
    session_cut(s);
    s = fake_next(&fake);
    session_skip(s, FRAME_HELLO);
    session_hello(s, 1000, 1024);
    struct kept *kept = session_take(s, FRAME_PUBLISH);
    assert_int_equal(kept->frame.as.publish.number, 1);
    free(kept);
    kept = session_take(s, FRAME_PUBLISH);
    assert_int_equal(kept->frame.as.publish.number, 3);
    free(kept);
    FAKE_WAIT(&outcomes, outcomes.count == 1);
    assert_int_equal(outcomes.told[0].outcome, WEIR_TOO_BIG);
    assert_int_equal(outcomes.told[0].number, 2);
    send_ack(s, 1, 1, 1, 1);
    send_ack(s, 3, 1, 1, 2);
    assert_int_equal(weir_flush(client, WAIT_MS), WEIR_OK);
    check_sum(client, 0);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

/* The next connection, with a broker of other bounds. */
static struct session *bounded_session(struct fake *fake, uint64_t records_max, uint64_t depth_max)
{
    struct session *s = fake_next(fake);
    struct frame frame = {.op = FRAME_HELLO};
    session_skip(s, FRAME_HELLO);
    frame.as.hello.version = SESSION_VERSION;
    frame.as.hello.credit = 1000;
    frame.as.hello.message_max = MESSAGE_SIZE_MAX_DEFAULT;
    frame.as.hello.is_server = true;
    frame.as.hello.records_max = records_max;
    frame.as.hello.depth_max = depth_max;
    session_send(s, &frame);
    return s;
}

/* Records wait for a broker that takes deep values and many of them in a frame; the one that comes takes neither. */
static void bounds_of_hello_are_kept_to(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct outcomes outcomes;
    struct weir *client = NULL;
    outcomes_init(&outcomes);
    fake_start(&fake);
    struct opening opening = {.options = {.on_outcome = on_outcome, .context = &outcomes}};
    open_begin(&opening, &fake);
    s = bounded_session(&fake, 3, 20);
    client = open_end(&opening);
    static const uint8_t nested[21] = {[0 ... 19] = 0x91, [20] = 1};
    struct weir_record small = text_record("a", "x", WEIR_ACK_FOLDED), deep = small, deeper = small;
    deep.form = deeper.form = WEIR_MSGPACK;
    deep.value = nested;
    deep.value_size = sizeof nested;
    static const uint8_t over[22] = {[0 ... 20] = 0x91, [21] = 1};
    deeper.value = over;
    deeper.value_size = sizeof over;
    assert_int_equal(weir_publish(client, &deeper, 0, NULL), WEIR_BAD_REQUEST);
    assert_string_equal(weir_reason(), "the value is nested deeper than the 20 levels that this broker takes");
    session_cut(s);
    FAKE_WAIT(&fake, fake.ready > fake.taken); /* the next one has not said hello yet, so that what comes now waits */
    for (int i = 0; i < 7; i++)
        assert_int_equal(weir_publish(client, &small, 0, NULL), WEIR_OK);
    assert_int_equal(weir_publish(client, &deep, 0, NULL), WEIR_OK);
    s = bounded_session(&fake, 2, 19);
    FAKE_WAIT(&outcomes, outcomes.count == 3);
    for (int i = 0; i < 3; i++) {
        static const struct told expected[] = {{.number = 1, .count = 3, .outcome = WEIR_TOO_BIG},
                                               {.number = 4, .count = 3, .outcome = WEIR_TOO_BIG},
                                               {.number = 7, .count = 2, .outcome = WEIR_BAD_REQUEST}};
        assert_int_equal(outcomes.told[i].number, expected[i].number);
        assert_int_equal(outcomes.told[i].count, expected[i].count);
        assert_int_equal(outcomes.told[i].outcome, expected[i].outcome);
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(weir_publish(client, &small, 0, NULL), WEIR_OK);
    for (uint32_t come = 0; come < 4;) {
        struct kept *kept = session_take(s, FRAME_PUBLISH);
        assert_in_range(kept->frame.as.publish.count, 1, 2);
        send_ack(s, kept->frame.as.publish.number, kept->frame.as.publish.count, 1, kept->frame.as.publish.number);
        come += kept->frame.as.publish.count;
        free(kept);
    }
    assert_int_equal(weir_flush(client, WAIT_MS), WEIR_OK);
    check_sum(client, 0);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

struct publishing {
    struct weir *client;
    struct weir_record record;
    enum weir_error error;
};

static void *publishing_main(void *argument)
{
    struct publishing *publishing = argument;
    publishing->error = weir_publish(publishing->client, &publishing->record, WAIT_MS, NULL);
    return NULL;
}

/* It was fine for the broker that had the session when the wait began; this one would end the session for it. */
static void record_that_waited_for_room_is_held_against_the_broker_that_answers_now(void **state)
{
    (void)state;
    struct fake fake;
    pthread_t thread;
    static const uint8_t nested[21] = {[0 ... 19] = 0x91, [20] = 1};
    fake_start(&fake);
    struct opening opening = {.options = {.publish_buffer_bytes = 64}};
    open_begin(&opening, &fake);
    struct session *s = bounded_session(&fake, 100, 20);
    struct publishing deep = {.client = open_end(&opening)};
    session_cut(s);
    FAKE_WAIT(&fake, fake.ready > fake.taken);
    struct weir_record small = text_record("a", "0123456789", WEIR_ACK_FOLDED);
    while (weir_publish(deep.client, &small, 0, NULL) == WEIR_OK) {
    }
    deep.record = (struct weir_record){
        .topic = "a", .value = nested, .value_size = sizeof nested, .form = WEIR_MSGPACK, .ack = WEIR_ACK_FOLDED};
    assert_int_equal(pthread_create(&thread, NULL, publishing_main, &deep), 0);
    for (bool is_waiting = false; !is_waiting; sched_yield()) {
        pthread_mutex_lock(&deep.client->lock);
        is_waiting = deep.client->waiting_count > 0;
        pthread_mutex_unlock(&deep.client->lock);
    }
    s = bounded_session(&fake, 100, 19);
    struct kept *kept = session_take(s, FRAME_PUBLISH);
    uint32_t count = kept->frame.as.publish.count;
    free(kept);
    send_ack(s, 1, count, 1, 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(deep.error, WEIR_BAD_REQUEST);
    assert_int_equal(weir_close(&deep.client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

static void close_tells_what_was_never_sent(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct outcomes outcomes;
    outcomes_init(&outcomes);
    fake_start(&fake);
    struct weir_options options = {.on_outcome = on_outcome, .context = &outcomes};
    struct weir *client = fake_client(&fake, &options, 0, &s);
    struct weir_record record = text_record("a", "x", WEIR_ACK_FOLDED);
    for (int i = 0; i < 3; i++)
        assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_OK);
    uint64_t before = clock_now_ns();
    assert_int_equal(weir_close(&client, 50), WEIR_TIMEOUT);
    assert_true(clock_now_ns() - before >= 50 * NS_PER_MS);
    assert_int_equal(outcomes.records[WEIR_CLOSED], 3);
    fake_stop(&fake);
}

static void answers_twice_or_for_strangers_end_the_session(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    fake_start(&fake);
    struct weir *client = fake_client(&fake, NULL, 1 << 20, &s);
    struct weir_record record = text_record("a", "x", WEIR_ACK_FOLDED);
    assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_OK);
    session_skip(s, FRAME_PUBLISH);
    send_ack(s, 1, 1, 1, 1);
    send_ack(s, 1, 1, 1, 1);
    FAKE_WAIT(&fake, s->is_closed);
    s = fake_session(&fake, 1 << 20);
    send_ack(s, 1, 2, 1, 1);
    FAKE_WAIT(&fake, s->is_closed);
    s = fake_session(&fake, 1 << 20);
    send_refused(s, 5, 1, "busy", "no");
    FAKE_WAIT(&fake, s->is_closed);
    check_sum(client, 0);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(publish_wait_returns_what_became_of_the_record),
        cmocka_unit_test(refusals_without_ack_are_counted_and_told),
        cmocka_unit_test(accepted_records_may_be_refused_after_their_ack),
        cmocka_unit_test(loss_makes_the_sent_unknown_and_keeps_the_unsent),
        cmocka_unit_test(records_published_while_down_are_sent_later),
        cmocka_unit_test(smaller_bound_of_the_next_broker_refuses_what_waits),
        cmocka_unit_test(bounds_of_hello_are_kept_to),
        cmocka_unit_test(record_that_waited_for_room_is_held_against_the_broker_that_answers_now),
        cmocka_unit_test(close_tells_what_was_never_sent),
        cmocka_unit_test(answers_twice_or_for_strangers_end_the_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
