/* A publisher with a name: what was not answered goes out again, every record has one outcome, and none is unknown
 * while the broker can tell. And what is published with options. */
#include "tests/unit/clients/lib/outcomes.h"

#include <sys/socket.h>
#include <sys/syscall.h>

#include "clients/lib/client.h"

/* The next connection, with a broker that knows publishers by name. */
static struct session *named_session(struct fake *fake, const char *publisher, uint64_t credit)
{
    struct session *s = fake_next(fake);
    struct kept *kept = session_take(s, FRAME_HELLO);
    assert_true(view_is_same(kept->frame.as.hello.publisher, view_text(publisher)));
    free(kept);
    struct frame frame = {.op = FRAME_HELLO};
    frame.as.hello.version = SESSION_VERSION;
    frame.as.hello.credit = credit;
    frame.as.hello.message_max = MESSAGE_SIZE_MAX_DEFAULT;
    frame.as.hello.is_server = frame.as.hello.publish_with = true;
    session_send(s, &frame);
    return s;
}

static struct weir *named_client(struct fake *fake, const struct weir_options *options, uint64_t credit,
                                 struct session **session)
{
    struct opening opening = {.options = *options};
    open_begin(&opening, fake);
    *session = named_session(fake, options->publisher != NULL ? options->publisher : "", credit);
    return open_end(&opening);
}

static void expect_publish(struct session *s, const char *topic, uint64_t number, uint32_t count)
{
    struct kept *kept = session_take(s, FRAME_PUBLISH);
    assert_true(view_is_same(kept->frame.as.publish.topic, view_text(topic)));
    assert_int_equal(kept->frame.as.publish.number, number);
    assert_int_equal(kept->frame.as.publish.count, count);
    free(kept);
}

static void publish_some(struct weir *client, const char *topic, enum weir_ack ack, int count)
{
    struct weir_record record = text_record(topic, "x", ack);
    for (int i = 0; i < count; i++)
        assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_OK);
}

static void what_was_not_answered_is_sent_again_and_told_once(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct outcomes outcomes;
    outcomes_init(&outcomes);
    fake_start(&fake);
    struct weir_options options = {
        .publisher = "till", .first_number = 100, .on_outcome = on_outcome, .context = &outcomes};
    struct weir *client = named_client(&fake, &options, 0, &s);
    publish_some(client, "a", WEIR_ACK_FOLDED, 10);
    publish_some(client, "b", WEIR_ACK_FOLDED, 5);
    publish_some(client, "c", WEIR_ACK_FOLDED, 1);
    send_credit(s, 40); /* two of the frames: the first has 39 bytes */
    expect_publish(s, "a", 100, 10);
    expect_publish(s, "b", 110, 5);
    send_ack(s, 100, 4, 7, 1);
    FAKE_WAIT(&outcomes, outcomes.count == 1);
    session_cut(s);
    /* Twice over, so that what goes out again is kept still. */
    for (int i = 0; i < 2; i++) {
        s = named_session(&fake, "till", 1000);
        expect_publish(s, "a", 100, 10);
        expect_publish(s, "b", 110, 5);
        expect_publish(s, "c", 115, 1);
        if (i == 0)
            session_cut(s);
    }
    send_ack(s, 100, 3, 7, 1); /* all of it known already */
    send_ack(s, 103, 7, 7, 4);
    send_ack(s, 110, 6, 0, 0); /* of two topics */
    assert_int_equal(weir_flush(client, WAIT_MS), WEIR_OK);
    check_sum(client, 0);
    assert_int_equal(outcomes.records[WEIR_OK], 16);
    assert_int_equal(outcomes.records[WEIR_CLOSED], 0);
    assert_int_equal(outcomes.told[1].number, 104);
    assert_int_equal(outcomes.told[1].count, 6);
    assert_int_equal(outcomes.told[1].seq, 5);
    publish_some(client, "a", WEIR_ACK_FOLDED, 1);
    expect_publish(s, "a", 116, 1);
    assert_int_equal(weir_close(&client, 0), WEIR_TIMEOUT);
    assert_int_equal(outcomes.records[WEIR_CLOSED], 1);
    fake_stop(&fake);
}

enum { LARGE = 20000 };

static void expect_large(struct session *s, const char *text, uint64_t number)
{
    struct kept *kept = session_take(s, FRAME_PUBLISH);
    struct view items = kept->frame.as.publish.items, key, value;
    struct value_reader reader;
    assert_int_equal(kept->frame.as.publish.number, number);
    assert_int_equal(kept->frame.as.publish.count, 1);
    assert_int_equal(items_next(&items, 16, &key, &value), WEIR_OK);
    value_reader_init(&reader, key, 0);
    assert_true(view_is_same(value_read_str(&reader), view_text("key")));
    value_reader_init(&reader, value, 0);
    assert_true(view_is_same(value_read_str(&reader), view_of(text, LARGE)));
    assert_int_equal(items_next(&items, 16, &key, &value), WEIR_AGAIN);
    free(kept);
}

/* A record that fills a frame is written into it at once; it keeps its place among the others, and is kept like them.
 */
static void large_records_keep_their_place_and_are_sent_again(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    static char text[LARGE];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)('a' + i % 26);
    fake_start(&fake);
    struct weir_options options = {.publisher = "till", .first_number = 100};
    struct weir *client = named_client(&fake, &options, 0, &s);
    struct weir_record large = {
        .topic = "large", .key = "key", .value = text, .value_size = LARGE, .ack = WEIR_ACK_FOLDED};
    large.form = WEIR_TEXT;
    publish_some(client, "a", WEIR_ACK_FOLDED, 2);
    for (int i = 0; i < 2; i++)
        assert_int_equal(weir_publish(client, &large, 0, NULL), WEIR_OK);
    publish_some(client, "a", WEIR_ACK_FOLDED, 1);
    send_credit(s, 1 << 20);
    /* Once as they were published, once as they were kept. */
    for (int i = 0; i < 2; i++) {
        expect_publish(s, "a", 100, 2);
        expect_large(s, text, 102);
        expect_large(s, text, 103);
        expect_publish(s, "a", 104, 1);
        if (i == 0) {
            session_cut(s);
            s = named_session(&fake, "till", 1 << 20);
        }
    }
    send_ack(s, 100, 5, 0, 0);
    assert_int_equal(weir_flush(client, WAIT_MS), WEIR_OK);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

static void a_broker_that_knows_no_names_leaves_what_was_sent_unknown(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct outcomes outcomes;
    outcomes_init(&outcomes);
    fake_start(&fake);
    struct weir_options options = {.publisher = "till", .on_outcome = on_outcome, .context = &outcomes};
    struct weir *client = named_client(&fake, &options, 0, &s);
    publish_some(client, "a", WEIR_ACK_FOLDED, 3);
    publish_some(client, "b", WEIR_ACK_FOLDED, 2);
    send_credit(s, 1);
    session_skip(s, FRAME_PUBLISH);
    session_cut(s);
    s = fake_session(&fake, 1000);
    FAKE_WAIT(&outcomes, outcomes.records[WEIR_CLOSED] == 3);
    struct kept *kept = session_take(s, FRAME_PUBLISH);
    assert_true(view_is_same(kept->frame.as.publish.topic, view_text("b")));
    send_ack(s, kept->frame.as.publish.number, 2, 7, 1);
    free(kept);
    assert_int_equal(weir_flush(client, WAIT_MS), WEIR_OK);
    check_sum(client, 0);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

static void records_without_ack_are_not_sent_again(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct outcomes outcomes;
    outcomes_init(&outcomes);
    fake_start(&fake);
    struct weir_options options = {
        .publisher = "till", .first_number = 1, .on_outcome = on_outcome, .context = &outcomes};
    struct weir *client = named_client(&fake, &options, 1000, &s);
    publish_some(client, "n", WEIR_ACK_NONE, 1);
    session_skip(s, FRAME_PUBLISH);
    publish_some(client, "a", WEIR_ACK_FOLDED, 1);
    session_skip(s, FRAME_PUBLISH);
    send_refused(s, 1, 1, "forbidden", "not yours");
    FAKE_WAIT(&outcomes, outcomes.records[WEIR_FORBIDDEN] == 1);
    session_cut(s);
    s = named_session(&fake, "till", 1000);
    expect_publish(s, "a", 2, 1);
    send_refused(s, 2, 1, "busy", "full");
    assert_int_equal(weir_flush(client, WAIT_MS), WEIR_OK);
    assert_int_equal(outcomes.records[WEIR_BUSY], 1);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

static void what_is_kept_counts_as_buffered(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    fake_start(&fake);
    struct weir_options options = {.publisher = "till", .first_number = 1, .publish_buffer_bytes = 300};
    struct weir *client = named_client(&fake, &options, 1 << 20, &s);
    struct weir_record record = text_record("a", "0123456789", WEIR_ACK_FOLDED);
    uint32_t taken = 0;
    while (weir_publish(client, &record, 0, NULL) == WEIR_OK && taken < 100)
        taken++;
    assert_true(taken > 2 && taken < 30);
    assert_int_equal(weir_publish(client, &record, 100, NULL), WEIR_BUSY); /* sent or not makes no difference */
    for (uint32_t come = 0; come < taken;) {
        struct kept *kept = session_take(s, FRAME_PUBLISH);
        come += kept->frame.as.publish.count;
        free(kept);
    }
    send_ack(s, 1, taken, 7, 1);
    assert_int_equal(weir_publish(client, &record, WAIT_MS, NULL), WEIR_OK);
    assert_int_equal(weir_close(&client, 0), WEIR_TIMEOUT);
    fake_stop(&fake);
}

static void records_that_brokers_could_forget_are_not_sent(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    fake_start(&fake);
    struct weir_options options = {.publisher = "till", .first_number = 1, .publish_buffer_bytes = 64 << 20};
    struct weir *client = named_client(&fake, &options, 64 << 20, &s);
    struct weir_record record = text_record("a", "x", WEIR_ACK_FOLDED);
    uint32_t taken = 0;
    while (weir_publish(client, &record, 0, NULL) == WEIR_OK)
        taken++;
    assert_int_equal(taken, 4096);
    assert_int_equal(weir_close(&client, 0), WEIR_TIMEOUT);
    fake_stop(&fake);
}

static void an_answer_for_what_waits_for_none_ends_the_session(void **state)
{
    (void)state;
    static const uint64_t numbers[] = {1, 3, 99};
    struct fake fake;
    struct session *s = NULL;
    struct outcomes outcomes;
    outcomes_init(&outcomes);
    fake_start(&fake);
    struct weir_options options = {.publisher = "till", .first_number = 1, .on_link = on_link, .context = &outcomes};
    struct weir *client = named_client(&fake, &options, 1000, &s);
    publish_some(client, "a", WEIR_ACK_FOLDED, 1);
    expect_publish(s, "a", 1, 1);
    send_ack(s, 1, 1, 7, 1);
    for (unsigned i = 0; i < 3; i++) {
        send_ack(s, numbers[i], i == 1 ? UINT32_MAX : 1, 7, 1);
        FAKE_WAIT(&outcomes, outcomes.downs == i + 1);
        s = named_session(&fake, "till", 1000);
    }
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

static void another_client_of_that_name_ends_this_one(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct outcomes outcomes;
    outcomes_init(&outcomes);
    fake_start(&fake);
    struct weir_options options = {
        .publisher = "till", .on_outcome = on_outcome, .on_link = on_link, .context = &outcomes};
    struct weir *client = named_client(&fake, &options, 1000, &s);
    publish_some(client, "a", WEIR_ACK_FOLDED, 1);
    session_skip(s, FRAME_PUBLISH);
    struct frame frame = {.op = FRAME_CLOSE};
    frame.as.close.code = view_text("conflict");
    frame.as.close.message = view_text("another");
    session_send(s, &frame);
    FAKE_WAIT(&outcomes, outcomes.records[WEIR_CLOSED] == 1);
    struct weir_record record = text_record("a", "x", WEIR_ACK_FOLDED);
    assert_int_equal(weir_publish_wait(client, &record, WAIT_MS, NULL), WEIR_CLOSED);
    assert_int_equal(fake.ready, 1);
    (void)weir_close(&client, 0);
    fake_stop(&fake);
}

static void options_are_sent_and_a_conflict_says_what_is_there(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct outcomes outcomes;
    outcomes_init(&outcomes);
    fake_start(&fake);
    struct weir_options options = {.on_outcome = on_outcome, .context = &outcomes};
    struct weir *client = named_client(&fake, &options, 1000, &s);
    struct weir_record record = text_record("a", "x", WEIR_ACK_FOLDED);
    record.is_conditional = true;
    record.if_seq = 42;
    record.ttl_ms = 500;
    assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_OK);
    struct kept *kept = session_take(s, FRAME_PUBLISH_WITH);
    assert_true(kept->frame.as.publish.with.has_if_seq && !kept->frame.as.publish.with.bind);
    assert_int_equal(kept->frame.as.publish.with.if_seq, 42);
    assert_int_equal(kept->frame.as.publish.with.ttl_ms, 500);
    free(kept);
    struct frame frame = {.op = FRAME_REFUSED};
    frame.as.refused.number = frame.as.refused.count = 1;
    frame.as.refused.code = view_text("conflict");
    frame.as.refused.seq = 45;
    session_send(s, &frame);
    FAKE_WAIT(&outcomes, outcomes.records[WEIR_CONFLICT] == 1);
    assert_int_equal(outcomes.told[0].seq, 45);
    record = text_record("a", "x", WEIR_ACK_FOLDED);
    record.bind = true;
    assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_OK);
    kept = session_take(s, FRAME_PUBLISH_WITH);
    assert_true(kept->frame.as.publish.with.bind && !kept->frame.as.publish.with.has_if_seq);
    free(kept);
    /* A broker that does not say so takes none. */
    session_cut(s);
    s = fake_session(&fake, 1000);
    FAKE_WAIT(&outcomes, outcomes.records[WEIR_CLOSED] == 1);
    publish_some(client, "plain", WEIR_ACK_NONE, 1);
    session_skip(s, FRAME_PUBLISH);
    assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_FORBIDDEN);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

/* ------------------------------------------------------------------------------------------- amid a send */

/* What happens before the next send of the thread that asks for it returns. */
static struct {
    struct session *session; /* NULL: nothing */
    struct outcomes *outcomes;
    unsigned losses; /* told until it returned */
} amid;
static _Thread_local bool is_asking;

/* In the place of the C library's. */
/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): libc's names are its own */
ssize_t sendmsg(int descriptor, const struct msghdr *message, int flags)
{
    ssize_t sent = syscall(SYS_sendmsg, descriptor, message, flags);
    struct session *s = is_asking ? amid.session : NULL;
    if (s == NULL)
        return sent;
    amid.session = NULL;
    send_ack(s, 1, 1, 7, 1);
    FAKE_WAIT(amid.outcomes, amid.outcomes->count == 1);
    session_cut(s);
    /* Nothing says that the client has noticed: it is given a while to do what it must not. */
    struct timespec moment = {.tv_nsec = 1000000};
    for (int i = 0; i < 100 && amid.losses == 0; i++) {
        nanosleep(&moment, NULL);
        pthread_mutex_lock(&amid.outcomes->lock);
        amid.losses = amid.outcomes->downs;
        pthread_mutex_unlock(&amid.outcomes->lock);
    }
    return sent;
}

static void a_send_holds_up_no_answer_and_its_connection_lasts_until_it_returns(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct outcomes outcomes;
    outcomes_init(&outcomes);
    fake_start(&fake);
    struct weir_options options = {.on_outcome = on_outcome, .on_link = on_link, .context = &outcomes};
    struct weir *client = named_client(&fake, &options, 1000, &s);
    amid.session = s;
    amid.outcomes = &outcomes;
    pthread_mutex_lock(&client->lock);
    client->link.send_ns = 0; /* the line rests: the record goes out in this thread */
    pthread_mutex_unlock(&client->lock);
    is_asking = true;
    publish_some(client, "a", WEIR_ACK_FOLDED, 1);
    is_asking = false;
    assert_null(amid.session);
    assert_int_equal(amid.losses, 0);
    s = named_session(&fake, "", 1000);
    FAKE_WAIT(&outcomes, outcomes.downs == 1);
    publish_some(client, "a", WEIR_ACK_NONE, 1);
    expect_publish(s, "a", 2, 1);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

static void odd_names_and_numbers_are_refused(void **state)
{
    (void)state;
    struct weir *client = NULL;
    char name[66];
    memset(name, 'n', 65);
    name[65] = '\0';
    assert_int_equal(weir_open(&(struct weir_options){.publisher = name}, &client, NULL), WEIR_BAD_REQUEST);
    assert_int_equal(weir_open(&(struct weir_options){.publisher = ""}, &client, NULL), WEIR_BAD_REQUEST);
    assert_int_equal(weir_open(&(struct weir_options){.publisher = "\xff"}, &client, NULL), WEIR_BAD_REQUEST);
    assert_int_equal(weir_open(&(struct weir_options){.publisher = "a", .first_number = UINT64_MAX}, &client, NULL),
                     WEIR_BAD_REQUEST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_not_answered_is_sent_again_and_told_once),
        cmocka_unit_test(large_records_keep_their_place_and_are_sent_again),
        cmocka_unit_test(a_broker_that_knows_no_names_leaves_what_was_sent_unknown),
        cmocka_unit_test(records_without_ack_are_not_sent_again),
        cmocka_unit_test(what_is_kept_counts_as_buffered),
        cmocka_unit_test(records_that_brokers_could_forget_are_not_sent),
        cmocka_unit_test(an_answer_for_what_waits_for_none_ends_the_session),
        cmocka_unit_test(another_client_of_that_name_ends_this_one),
        cmocka_unit_test(options_are_sent_and_a_conflict_says_what_is_there),
        cmocka_unit_test(a_send_holds_up_no_answer_and_its_connection_lasts_until_it_returns),
        cmocka_unit_test(odd_names_and_numbers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
