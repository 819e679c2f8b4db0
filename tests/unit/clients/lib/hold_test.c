/* Acks that nobody waits for: the broker may hold them back, and is asked for them in time. */
#include "tests/unit/clients/lib/outcomes.h"

enum { OPEN_MAX = 65536 };

/* A broker that holds back whatever it may, for as long as it may. Under the fake's lock. */
struct holder {
    bool is_holding;
    unsigned holds; /* HOLD true that came */
    struct {
        uint64_t number;
        uint32_t count;
    } open[OPEN_MAX]; /* frames without an answer yet */
    unsigned count;
    uint64_t received; /* records */
};

static void holder_answer(struct session *s, struct holder *holder)
{
    struct frame ack = {.op = FRAME_ACK};
    for (unsigned i = 0; i < holder->count; i++) {
        ack.as.ack.number = holder->open[i].number;
        ack.as.ack.count = holder->open[i].count;
        ack.as.ack.epoch = 1;
        ack.as.ack.seq = holder->open[i].number;
        session_put_frame(s, &ack);
    }
    holder->count = 0;
}

static bool hold_back(struct session *s, const struct frame *frame)
{
    struct holder *holder = s->fake->context;
    if (frame->op == FRAME_HOLD) {
        holder_answer(s, holder);
        holder->is_holding = frame->as.hold.on;
        holder->holds += frame->as.hold.on;
        return true;
    }
    if (frame->op != FRAME_PUBLISH)
        return false;
    holder->received += frame->as.publish.count;
    if (frame->as.publish.ack != ACK_NONE) {
        assert_true(holder->count < OPEN_MAX);
        holder->open[holder->count].number = frame->as.publish.number;
        holder->open[holder->count++].count = frame->as.publish.count;
    }
    if (!holder->is_holding)
        holder_answer(s, holder);
    return true;
}

static struct weir *holder_client(struct fake *fake, struct holder *holder, const struct weir_options *options)
{
    struct session *s = NULL;
    assert_non_null(holder);
    fake_start(fake);
    fake->on_frame = hold_back;
    fake->context = holder;
    fake->takes_hold = true;
    return fake_client(fake, options, UINT64_C(1) << 40, &s);
}

static bool is_holding(struct fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    bool is = ((const struct holder *)fake->context)->is_holding;
    pthread_mutex_unlock(&fake->lock);
    return is;
}

static unsigned holds_count(struct fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    unsigned count = ((const struct holder *)fake->context)->holds;
    pthread_mutex_unlock(&fake->lock);
    return count;
}

/* Some records that follow one another; until they are received, so that they do not pile up. */
static void publish_burst(struct fake *fake, struct weir *client, enum weir_ack ack, unsigned count)
{
    const struct holder *holder = fake->context;
    struct weir_record record = text_record("t", "x", ack);
    struct weir_counts counts;
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(weir_publish(client, &record, 0, NULL), WEIR_OK);
    weir_counts(client, &counts);
    FAKE_WAIT(fake, holder->received == counts.published);
}

static void publish_until_held(struct fake *fake, struct weir *client)
{
    uint64_t deadline = clock_now_ns() + WAIT_MS * NS_PER_MS;
    while (!is_holding(fake)) {
        assert_true(clock_now_ns() < deadline);
        publish_burst(fake, client, WEIR_ACK_FOLDED, 10);
    }
}

/* Looks now and then: nothing is called that waits. */
static void await_acked(struct weir *client, uint64_t acked)
{
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    uint64_t deadline = clock_now_ns() + WAIT_MS * NS_PER_MS;
    struct weir_counts counts;
    do {
        assert_true(clock_now_ns() < deadline);
        nanosleep(&pause, NULL);
        weir_counts(client, &counts);
    } while (counts.acked < acked);
}

static void acks_that_are_held_back_come_when_records_no_longer_do(void **state)
{
    (void)state;
    struct fake fake;
    struct holder *holder = calloc(1, sizeof *holder);
    struct weir_counts counts;
    struct weir *client = holder_client(&fake, holder, NULL);
    for (unsigned i = 0; i < 5; i++) {
        publish_until_held(&fake, client);
        weir_counts(client, &counts);
        await_acked(client, counts.published);
        FAKE_WAIT(&fake, !holder->is_holding);
    }
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
    free(holder);
}

static void a_client_asks_for_acks_though_nothing_wakes_it(void **state)
{
    (void)state;
    struct fake fake;
    struct holder *holder = calloc(1, sizeof *holder);
    struct weir_options options = {.heartbeat_ms = 10 * WAIT_MS};
    struct weir *client = holder_client(&fake, holder, &options);
    uint64_t deadline = clock_now_ns() + WAIT_MS * NS_PER_MS;
    for (uint64_t answers = 1; holds_count(&fake) < 3; answers++) {
        assert_true(clock_now_ns() < deadline);
        publish_burst(&fake, client, WEIR_ACK_NONE, 3);
        publish_burst(&fake, client, WEIR_ACK_FOLDED, 1);
        await_acked(client, answers); /* for so long that the client's thread rests until acks, or others, wake it */
    }
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
    free(holder);
}

static void acks_that_are_held_back_come_while_records_follow_one_another(void **state)
{
    (void)state;
    struct fake fake;
    struct holder *holder = calloc(1, sizeof *holder);
    struct weir_counts counts = {.acked = 0};
    struct weir *client = holder_client(&fake, holder, NULL);
    uint64_t deadline = clock_now_ns() + WAIT_MS * NS_PER_MS;
    unsigned rises = 0;
    while (rises < 5) {
        uint64_t acked = counts.acked;
        assert_true(clock_now_ns() < deadline);
        publish_burst(&fake, client, WEIR_ACK_FOLDED, 10);
        weir_counts(client, &counts);
        rises += counts.acked > acked && is_holding(&fake);
    }
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
    free(holder);
}

static void whoever_waits_for_acks_gets_them(void **state)
{
    (void)state;
    struct fake fake;
    struct holder *holder = calloc(1, sizeof *holder);
    struct weir_record record = text_record("t", "x", WEIR_ACK_FOLDED);
    struct weir *client = holder_client(&fake, holder, NULL);
    publish_until_held(&fake, client);
    assert_int_equal(weir_flush(client, WAIT_MS), WEIR_OK);
    check_sum(client, 0);
    publish_until_held(&fake, client);
    assert_int_equal(weir_publish_wait(client, &record, WAIT_MS, NULL), WEIR_OK);
    check_sum(client, 0);
    /* Who always waits has nothing held back, however fast: a HOLD more would double what is sent. */
    FAKE_WAIT(&fake, !holder->is_holding);
    unsigned holds = holds_count(&fake);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(weir_publish_wait(client, &record, WAIT_MS, NULL), WEIR_OK);
    assert_int_equal(holds_count(&fake), holds);
    publish_until_held(&fake, client);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
    free(holder);
}

static void nothing_is_held_back_from_who_is_told_outcomes(void **state)
{
    (void)state;
    struct fake fake;
    struct holder *holder = calloc(1, sizeof *holder);
    struct outcomes outcomes;
    outcomes_init(&outcomes);
    struct weir_options options = {.on_outcome = on_outcome, .context = &outcomes};
    struct weir_record record = text_record("t", "x", WEIR_ACK_FOLDED);
    struct weir *client = holder_client(&fake, holder, &options);
    for (unsigned i = 0; i < 20000; i++)
        assert_int_equal(weir_publish(client, &record, WEIR_FOREVER, NULL), WEIR_OK);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    assert_int_equal(holds_count(&fake), 0);
    fake_stop(&fake);
    free(holder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acks_that_are_held_back_come_when_records_no_longer_do),
        cmocka_unit_test(a_client_asks_for_acks_though_nothing_wakes_it),
        cmocka_unit_test(acks_that_are_held_back_come_while_records_follow_one_another),
        cmocka_unit_test(whoever_waits_for_acks_gets_them),
        cmocka_unit_test(nothing_is_held_back_from_who_is_told_outcomes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
