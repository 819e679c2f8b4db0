/* Publishing: batches, credit and bounds, and many threads at once. */
#include "tests/unit/clients/lib/outcomes.h"

static void record_goes_out_at_once_as_it_was_given(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    uint64_t number = 0;
    fake_start(&fake);
    struct weir *client = fake_client(&fake, NULL, 1000, &s);
    struct weir_record record = text_record("a/b", "hello", WEIR_ACK_FOLDED);
    record.key = "k\xc3\xa9";
    assert_int_equal(weir_publish(client, &record, 0, &number), WEIR_OK);
    assert_int_equal(number, 1);
    struct kept *kept = session_take(s, FRAME_PUBLISH);
    assert_true(view_is_same(kept->frame.as.publish.topic, view_text("a/b")));
    assert_int_equal(kept->frame.as.publish.number, 1);
    assert_int_equal(kept->frame.as.publish.ack, ACK_FOLDED);
    assert_int_equal(kept->frame.as.publish.count, 1);
    assert_true(view_is_same(kept->frame.as.publish.items, view_text("\xa3k\xc3\xa9\xa5hello")));
    free(kept);
    record = (struct weir_record){.topic = "b", .value = "\0\xff", .value_size = 2, .form = WEIR_BYTES};
    assert_int_equal(weir_publish(client, &record, 0, &number), WEIR_OK);
    assert_int_equal(number, 2);
    kept = session_take(s, FRAME_PUBLISH);
    assert_true(view_is_same(kept->frame.as.publish.items, view_of("\xc0\xc4\x02\0\xff", 5)));
    free(kept);
    record = (struct weir_record){.topic = "b", .value = "\x93\x01\x02\x03", .value_size = 4, .form = WEIR_MSGPACK};
    assert_int_equal(weir_publish(client, &record, 0, &number), WEIR_OK);
    kept = session_take(s, FRAME_PUBLISH);
    assert_true(view_is_same(kept->frame.as.publish.items, view_of("\xc0\x93\x01\x02\x03", 5)));
    free(kept);
    record = (struct weir_record){.topic = "b", .value = NULL, .value_size = 0, .form = WEIR_TEXT};
    assert_int_equal(weir_publish(client, &record, 0, &number), WEIR_OK);
    session_skip(s, FRAME_PUBLISH);
    assert_int_equal(weir_close(&client, 0), WEIR_TIMEOUT); /* the first one's ack did not come */
    fake_stop(&fake);
}

static void what_would_end_the_session_is_refused_by_the_library(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    static char long_key[KEY_SIZE_MAX + 2];
    static char large[2 << 20];
    uint8_t deep[64];
    fake_start(&fake);
    struct weir *client = fake_client(&fake, NULL, 1 << 30, &s);
    struct weir_record record = text_record("a//b", "x", WEIR_ACK_NONE);
    assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_BAD_TOPIC);
    assert_string_equal(weir_reason(), "the topic's name: segment 2 is empty");
    record = text_record("a/+", "x", WEIR_ACK_NONE);
    assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_BAD_TOPIC);
    record = text_record("a", "\xff", WEIR_ACK_NONE);
    assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_BAD_REQUEST);
    record = text_record("a", "x", (enum weir_ack)7);
    assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_BAD_REQUEST);
    record = text_record("a", "x", WEIR_ACK_NONE);
    record.key = "\xc0\x80";
    assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_BAD_REQUEST);
    memset(long_key, 'k', sizeof long_key - 1);
    record.key = long_key;
    assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_TOO_BIG);
    assert_string_equal(weir_reason(), "the key has 1025 bytes, more than 1024");
    record = (struct weir_record){.topic = "a", .value = "\x92\x01", .value_size = 2};
    assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_BAD_REQUEST);
    record = (struct weir_record){.topic = "a", .value = "\x01\x02", .value_size = 2};
    assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_BAD_REQUEST);
    memset(deep, 0x91, sizeof deep);
    deep[17] = 0x01;
    record = (struct weir_record){.topic = "a", .value = deep, .value_size = 18};
    assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_BAD_REQUEST);
    assert_string_equal(weir_reason(), "the value is nested deeper than the 16 levels that this broker takes");
    record = (struct weir_record){.topic = "a", .value = large, .value_size = sizeof large, .form = WEIR_BYTES};
    assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_TOO_BIG);
    record.value_size = MESSAGE_SIZE_MAX_DEFAULT - 64;
    assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_OK);
    struct kept *kept = session_take(s, FRAME_PUBLISH);
    assert_true(kept->size <= MESSAGE_SIZE_MAX_DEFAULT);
    free(kept);
    check_sum(client, 1);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

/* Counts frames and records, and acks every record as it comes. */
struct tally {
    uint64_t frames, records, next_number, seq;
};

static bool ack_each(struct session *s, const struct frame *frame)
{
    struct tally *tally = s->fake->context;
    if (frame->op != FRAME_PUBLISH)
        return false;
    assert_int_equal(frame->as.publish.number, tally->next_number);
    tally->frames++;
    tally->records += frame->as.publish.count;
    tally->next_number += frame->as.publish.count;
    if (frame->as.publish.ack != ACK_NONE) {
        struct frame ack = {.op = FRAME_ACK};
        ack.as.ack.number = frame->as.publish.number;
        ack.as.ack.count = frame->as.publish.count;
        ack.as.ack.epoch = 1;
        ack.as.ack.seq = tally->seq + 1;
        session_put_frame(s, &ack);
    }
    tally->seq += frame->as.publish.count;
    return true;
}

static void records_gather_while_the_line_is_busy(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct tally tally = {.next_number = 1};
    struct outcomes outcomes;
    enum { RECORDS = 20000 };
    outcomes_init(&outcomes);
    fake_start(&fake);
    fake.on_frame = ack_each;
    fake.context = &tally;
    struct weir_options options = {.on_outcome = on_outcome, .context = &outcomes};
    struct weir *client = fake_client(&fake, &options, UINT64_C(1) << 40, &s);
    struct weir_record record = text_record("t", "0123456789", WEIR_ACK_FOLDED);
    for (unsigned i = 0; i < RECORDS; i++)
        assert_int_equal(weir_publish(client, &record, WEIR_FOREVER, NULL), WEIR_OK);
    assert_int_equal(weir_flush(client, WAIT_MS), WEIR_OK);
    assert_int_equal(tally.records, RECORDS);
    assert_true(tally.frames < RECORDS / 4);
    assert_int_equal(outcomes.records[WEIR_OK], RECORDS);
    check_sum(client, 0);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

static void batches_stay_below_the_brokers_message_bound(void **state)
{
    (void)state;
    struct fake fake;
    struct opening opening = {.error = WEIR_OK};
    fake_start(&fake);
    open_begin(&opening, &fake);
    struct session *s = fake_next(&fake);
    session_skip(s, FRAME_HELLO);
    session_hello(s, 0, 1024);
    struct weir *client = open_end(&opening);
    struct weir_record record = text_record("topic", "0123456789012345678901234567890123456789", WEIR_ACK_NONE);
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_OK);
    send_credit(s, 1 << 20);
    assert_int_equal(weir_flush(client, WAIT_MS), WEIR_OK);
    for (unsigned records = 0; records < 200;) {
        struct kept *kept = session_take(s, FRAME_PUBLISH);
        assert_true(kept->size <= 1024);
        records += kept->frame.as.publish.count;
        free(kept);
    }
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

static void frames_split_by_topic_and_ack_level_and_keep_their_order(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    static const char *const topics[] = {"a", "a", "b", "a", "a"};
    static const enum weir_ack acks[] = {WEIR_ACK_NONE, WEIR_ACK_NONE, WEIR_ACK_NONE, WEIR_ACK_NONE, WEIR_ACK_ACCEPTED};
    static const uint32_t counts[] = {2, 1, 1, 1};
    fake_start(&fake);
    struct weir *client = fake_client(&fake, NULL, 0, &s);
    for (unsigned i = 0; i < 5; i++) {
        struct weir_record record = text_record(topics[i], "x", acks[i]);
        assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_OK);
    }
    send_credit(s, 1000);
    uint64_t number = 1;
    for (unsigned i = 0; i < 4; i++) {
        struct kept *kept = session_take(s, FRAME_PUBLISH);
        assert_int_equal(kept->frame.as.publish.number, number);
        assert_int_equal(kept->frame.as.publish.count, counts[i]);
        number += counts[i];
        free(kept);
    }
    assert_int_equal(weir_close(&client, 0), WEIR_TIMEOUT);
    fake_stop(&fake);
}

static void publish_is_busy_when_credit_and_buffer_are_out(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    fake_start(&fake);
    struct weir_options options = {.publish_buffer_bytes = 1000};
    struct weir *client = fake_client(&fake, &options, 1, &s);
    struct weir_record record = text_record("t", "0123456789012345678901234567890123456789", WEIR_ACK_NONE);
    unsigned taken = 0;
    enum weir_error error = WEIR_OK;
    while ((error = weir_publish(client, &record, 0, NULL)) == WEIR_OK)
        taken++;
    assert_int_equal(error, WEIR_BUSY);
    assert_true(taken > 10 && taken < 40);
    uint64_t before = clock_now_ns();
    assert_int_equal(weir_publish(client, &record, 50, NULL), WEIR_BUSY);
    assert_true(clock_now_ns() - before >= 50 * NS_PER_MS);
    struct kept *kept = session_take(s, FRAME_PUBLISH); /* one frame may begin on one byte of credit */
    assert_int_equal(kept->frame.as.publish.count, 1);
    size_t used = kept->size;
    free(kept);
    struct weir_counts counts;
    weir_counts(client, &counts);
    assert_int_equal(counts.published, taken);
    send_credit(s, used + 1);
    assert_int_equal(weir_publish(client, &record, WAIT_MS, NULL), WEIR_OK); /* waits until the credit has come */
    kept = session_take(s, FRAME_PUBLISH);
    assert_int_equal(kept->frame.as.publish.count, taken - 1);
    used += kept->size;
    free(kept);
    send_credit(s, used); /* below the total used: nothing may begin */
    send_credit(s, 1);    /* does not lower it */
    session_flushed(s);
    assert_int_equal(weir_flush(client, 50), WEIR_TIMEOUT);
    send_credit(s, used + 1);
    assert_int_equal(weir_flush(client, WAIT_MS), WEIR_OK);
    session_skip(s, FRAME_PUBLISH);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

static void record_larger_than_the_buffer_gets_its_turn(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    static char large[100000];
    fake_start(&fake);
    struct weir_options options = {.publish_buffer_bytes = 1};
    struct weir *client = fake_client(&fake, &options, 1 << 30, &s);
    struct weir_record record = {.topic = "t", .value = large, .value_size = sizeof large, .form = WEIR_BYTES};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(weir_publish(client, &record, WAIT_MS, NULL), WEIR_OK);
        session_skip(s, FRAME_PUBLISH);
    }
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

/* ------------------------------------------------------------------------------------------- threads */

enum { PUBLISHERS = 6, EACH = 3000 };

static bool ack_in_order(struct session *s, const struct frame *frame) { return ack_each(s, frame); }

static void *publisher_main(void *argument)
{
    struct weir *client = argument;
    struct weir_seq seq;
    for (unsigned i = 0; i < EACH; i++) {
        struct weir_record record = text_record(i % 2 == 0 ? "even" : "odd", "value",
                                                i % 3 == 0 && i % 500 != 1 ? WEIR_ACK_NONE : WEIR_ACK_FOLDED);
        enum weir_error error = i % 500 == 1 ? weir_publish_wait(client, &record, WEIR_FOREVER, &seq)
                                             : weir_publish(client, &record, WEIR_FOREVER, NULL);
        if (error == WEIR_OK && i % 1000 == 0)
            error = weir_flush(client, WEIR_FOREVER);
        if (error != WEIR_OK) {
            fprintf(stderr, "publisher: %s\n", weir_error_text(error));
            abort();
        }
    }
    return NULL;
}

static void many_threads_publish_through_one_client(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct tally tally = {.next_number = 1};
    pthread_t threads[PUBLISHERS];
    fake_start(&fake);
    fake.on_frame = ack_in_order;
    fake.context = &tally;
    struct weir_options options = {.publish_buffer_bytes = 4096};
    struct weir *client = fake_client(&fake, &options, UINT64_C(1) << 40, &s);
    for (unsigned i = 0; i < PUBLISHERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, publisher_main, client), 0);
    for (unsigned i = 0; i < PUBLISHERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    FAKE_WAIT(&fake, s->is_closed);
    assert_int_equal(tally.records, PUBLISHERS * EACH);
    fake_stop(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(record_goes_out_at_once_as_it_was_given),
        cmocka_unit_test(what_would_end_the_session_is_refused_by_the_library),
        cmocka_unit_test(records_gather_while_the_line_is_busy),
        cmocka_unit_test(batches_stay_below_the_brokers_message_bound),
        cmocka_unit_test(frames_split_by_topic_and_ack_level_and_keep_their_order),
        cmocka_unit_test(publish_is_busy_when_credit_and_buffer_are_out),
        cmocka_unit_test(record_larger_than_the_buffer_gets_its_turn),
        cmocka_unit_test(many_threads_publish_through_one_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
