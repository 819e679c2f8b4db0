/* A broker that breaks the contract: the client says so and goes on elsewhere, and what it holds stays bounded. */
#include "tests/unit/clients/lib/follower.h"
#include "tests/unit/clients/lib/outcomes.h"

/* A client that was told why its connection ended. */
struct told_link {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum weir_error cause;
    char reason[160];
};

static void on_told_link(struct weir *client, enum weir_link link, enum weir_error cause, const char *reason,
                         void *context)
{
    struct told_link *told = context;
    (void)client;
    if (link != WEIR_LINK_DOWN)
        return;
    pthread_mutex_lock(&told->lock);
    if (told->cause == WEIR_OK)
        snprintf(told->reason, sizeof told->reason, "%s", reason);
    told->cause = told->cause == WEIR_OK ? cause : told->cause;
    pthread_cond_broadcast(&told->changed);
    pthread_mutex_unlock(&told->lock);
}

static void told_init(struct told_link *told)
{
    *told = (struct told_link){.cause = WEIR_OK};
    pthread_mutex_init(&told->lock, NULL);
    pthread_cond_init(&told->changed, NULL);
}

static void told_check(struct told_link *told, const char *reason)
{
    FAKE_WAIT(told, told->cause != WEIR_OK);
    assert_int_equal(told->cause, WEIR_PROTOCOL);
    assert_string_equal(told->reason, reason);
    pthread_cond_destroy(&told->changed);
    pthread_mutex_destroy(&told->lock);
}

/* One feed, 9, of topic "t", at seq 1. */
static struct weir *follow(struct fake *fake, const struct weir_options *options, struct session **session,
                           struct weir_subscription **sub)
{
    struct weir *client = fake_client(fake, options, 0, session);
    assert_int_equal(weir_subscribe(client, "t", NULL, sub), WEIR_OK);
    free(session_take(*session, FRAME_SUBSCRIBE));
    return client;
}

static void data_beyond_the_credit_ends_the_session(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s;
    struct told_link told;
    struct weir_subscription *sub;
    fake_start(&fake);
    told_init(&told);
    struct weir_options options = {.on_link = on_told_link, .context = &told, .window_bytes = 1000};
    struct weir *client = follow(&fake, &options, &s, &sub);
    send_begin(s, 1, 9, "t", 7, 1, false);
    send_end(s, 9, 7, 1);
    /* The user takes nothing: the first two begin within the window, as they may, the third does not. */
    size_t sent = 0;
    uint64_t seq = 2;
    while (sent < 1000) {
        sent += send_updates(s, 9, seq, 100);
        seq += 100;
    }
    (void)send_updates(s, 9, seq, 1);
    told_check(&told, "the broker sent more data than it had credit for");
    (void)next_event(sub, WEIR_EVENT_BEGIN);
    (void)next_event(sub, WEIR_EVENT_END);
    take_updates(sub, 2, (unsigned)seq - 2);
    weir_close(&client, 0);
    fake_stop(&fake);
}

/* GAPs with causes of a megabyte, which take no credit. */
static void frames_without_credit_wait_in_the_kernel_once_they_are_many(void **state)
{
    enum { FRAMES = 12, CAUSE_SIZE = 1 << 20, HELD_MAX = 7 << 20, MORE_MS = 300 };
    (void)state;
    struct fake fake;
    struct session *s;
    struct weir_subscription *sub;
    struct weir_counts counts;
    fake_start(&fake);
    struct weir *client = follow(&fake, NULL, &s, &sub);
    send_begin(s, 1, 9, "t", 7, 1, false);
    send_end(s, 9, 7, 1);
    uint8_t *body = malloc(CAUSE_SIZE + 64), *cause = malloc(CAUSE_SIZE);
    memset(cause, 'c', CAUSE_SIZE);
    for (unsigned i = 0; i < FRAMES; i++) {
        struct frame frame = {.op = FRAME_GAP};
        frame.as.gap.feed = 9;
        frame.as.gap.from = frame.as.gap.to = 2 + i;
        frame.as.gap.cause = view_of(cause, CAUSE_SIZE);
        struct value_writer writer;
        value_writer_init(&writer, body, CAUSE_SIZE + 64);
        frame_write(&writer, &frame);
        assert_false(writer.is_full);
        session_raw(s, body, writer.size);
    }
    /* As much more as there is would come within milliseconds. */
    uint64_t deadline_ns = clock_now_ns() + MORE_MS * NS_PER_MS;
    do
        weir_counts(client, &counts);
    while (counts.bytes_received < HELD_MAX && clock_now_ns() < deadline_ns);
    (void)next_event(sub, WEIR_EVENT_BEGIN);
    (void)next_event(sub, WEIR_EVENT_END);
    assert_true(counts.bytes_received < HELD_MAX);
    for (unsigned i = 0; i < FRAMES; i++) {
        struct weir_event event = next_event(sub, WEIR_EVENT_GAP);
        assert_int_equal(event.seq, 2 + i);
    }
    free(body);
    free(cause);
    weir_close(&client, 0);
    fake_stop(&fake);
}

static void topics_of_no_name_end_the_session(void **state)
{
    (void)state;
    char longer[257];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    const char *const names[] = {"", "a//b", "+", longer};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct fake fake;
        struct session *s;
        struct told_link told;
        struct weir_subscription *sub;
        fake_start(&fake);
        told_init(&told);
        struct weir_options options = {.on_link = on_told_link, .context = &told};
        struct weir *client = follow(&fake, &options, &s, &sub);
        send_begin(s, 1, 9, names[i], 7, 1, false);
        told_check(&told, "the broker began a topic that no topic can be named like");
        weir_close(&client, 0);
        fake_stop(&fake);
    }
}

static void answers_for_numbers_below_all_given_end_the_session(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s;
    struct outcomes outcomes;
    struct weir_counts counts;
    fake_start(&fake);
    outcomes_init(&outcomes);
    struct weir_options options = {
        .publisher = "me", .first_number = 1000, .on_link = on_link, .on_outcome = on_outcome, .context = &outcomes};
    struct weir *client = fake_client(&fake, &options, 1 << 20, &s);
    send_refused(s, 1, 999, "busy", "made up");
    FAKE_WAIT(&outcomes, outcomes.downs == 1);
    weir_counts(client, &counts);
    assert_int_equal(counts.refused, 0);
    assert_int_equal(outcomes.count, 0);
    weir_close(&client, 0);
    fake_stop(&fake);
}

static void a_broker_that_hangs_up_after_hello_is_asked_less_and_less_often(void **state)
{
    enum { SESSIONS = 9, LEAST_MS = 127 }; /* of waits of at least a half of 1, 2, 4 ... 128 ms, rounded down */
    (void)state;
    struct fake fake;
    fake_start(&fake);
    struct opening opening = {.options = {.backoff_min_ms = 1, .backoff_max_ms = 60000}};
    open_begin(&opening, &fake);
    struct session *s = fake_session(&fake, 0);
    struct weir *client = open_end(&opening);
    uint64_t start_ns = clock_now_ns();
    for (unsigned i = 1; i < SESSIONS; i++) {
        session_cut(s);
        s = fake_session(&fake, 0);
    }
    assert_true(clock_now_ns() - start_ns >= LEAST_MS * NS_PER_MS);
    weir_close(&client, 0);
    fake_stop(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_beyond_the_credit_ends_the_session),
        cmocka_unit_test(frames_without_credit_wait_in_the_kernel_once_they_are_many),
        cmocka_unit_test(topics_of_no_name_end_the_session),
        cmocka_unit_test(answers_for_numbers_below_all_given_end_the_session),
        cmocka_unit_test(a_broker_that_hangs_up_after_hello_is_asked_less_and_less_often),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
