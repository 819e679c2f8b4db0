/* Opening, closing, heartbeats and what a broker may do wrong. */
#include "tests/unit/clients/lib/fake.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

struct log {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned ups, downs;
    enum weir_error cause;
    char reason[200];
};

static void log_link(struct weir *client, enum weir_link link, enum weir_error cause, const char *reason, void *context)
{
    struct log *log = context;
    (void)client;
    pthread_mutex_lock(&log->lock);
    if (link == WEIR_LINK_UP) {
        log->ups++;
    } else {
        log->downs++;
        log->cause = cause;
        snprintf(log->reason, sizeof log->reason, "%s", reason);
    }
    pthread_cond_broadcast(&log->changed);
    pthread_mutex_unlock(&log->lock);
}

static void log_init(struct log *log)
{
    *log = (struct log){.ups = 0};
    pthread_mutex_init(&log->lock, NULL);
    pthread_cond_init(&log->changed, NULL);
}

static void client_opens_says_hello_and_goodbye(void **state)
{
    (void)state;
    struct fake fake;
    struct opening opening = {.options = {.name = "tester", .window_bytes = 5000, .heartbeat_ms = 1234}};
    fake_start(&fake);
    open_begin(&opening, &fake);
    struct session *s = fake_next(&fake);
    struct kept *hello = session_take(s, FRAME_HELLO);
    assert_int_equal(hello->frame.as.hello.version, 1);
    assert_int_equal(hello->frame.as.hello.credit, 5000);
    assert_int_equal(hello->frame.as.hello.heartbeat_ms, 1234);
    assert_true(view_is_same(hello->frame.as.hello.peer, view_text("tester")));
    assert_true(hello->frame.as.hello.message_max >= MESSAGE_SIZE_MAX_DEFAULT);
    free(hello);
    session_hello(s, 100, MESSAGE_SIZE_MAX_DEFAULT);
    struct weir *client = open_end(&opening);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    assert_null(client);
    struct kept *close_frame = session_take(s, FRAME_CLOSE);
    assert_true(view_is_same(close_frame->frame.as.close.code, view_text("ok")));
    free(close_frame);
    FAKE_WAIT(&fake, s->is_closed);
    assert_int_equal(weir_close(&client, 0), WEIR_OK);
    fake_stop(&fake);
}

static void open_fails_where_nobody_listens(void **state)
{
    (void)state;
    struct fake fake;
    char url[64];
    struct weir *client = NULL;
    const char *reason = NULL;
    fake_start(&fake);
    snprintf(url, sizeof url, "%s", fake_url(&fake));
    fake_stop(&fake);
    /* A busy machine may need longer to try once. */
    enum weir_error error = WEIR_TIMEOUT;
    for (uint32_t timeout_ms = 200; error == WEIR_TIMEOUT && timeout_ms < WAIT_MS; timeout_ms *= 4) {
        struct weir_options options = {.url = url, .connect_timeout_ms = timeout_ms};
        error = weir_open(&options, &client, &reason);
        assert_null(client);
    }
    assert_int_equal(error, WEIR_CONNECT);
    assert_true(strlen(reason) > 0);
}

static void open_tries_until_the_broker_is_there(void **state)
{
    (void)state;
    struct fake fake;
    char url[64];
    fake_start(&fake);
    snprintf(url, sizeof url, "%s", fake_url(&fake));
    fake_stop(&fake);
    struct opening opening = {
        .options = {.url = url, .connect_timeout_ms = WAIT_MS, .backoff_max_ms = 20, .backoff_min_ms = 5}};
    assert_int_equal(pthread_create(&opening.thread, NULL, opening_main, &opening), 0);
    memset(&fake, 0, sizeof fake);
    pthread_mutex_init(&fake.lock, NULL);
    pthread_cond_init(&fake.changed, NULL);
    fake_listen(&fake, url);
    (void)fake_session(&fake, 100);
    struct weir *client = open_end(&opening);
    assert_int_equal(weir_close(&client, 0), WEIR_OK);
    fake_stop(&fake);
}

static void open_fails_at_once_where_trying_again_cannot_help(void **state)
{
    (void)state;
    struct weir *client = NULL;
    const char *reason = NULL;
    /* Whoever tried again would do so for longer than this test may take. */
    struct weir_options options = {.url = "http://localhost", .connect_timeout_ms = UINT32_MAX};
    assert_int_equal(weir_open(&options, &client, &reason), WEIR_BAD_REQUEST);
    assert_true(strlen(reason) > 0);
    options = (struct weir_options){.url = "tcp://127.0.0.1:1", .name = "\xff", .connect_timeout_ms = UINT32_MAX};
    assert_int_equal(weir_open(&options, &client, &reason), WEIR_BAD_REQUEST);
}

static void open_times_out_on_a_peer_that_says_nothing(void **state)
{
    (void)state;
    struct weir *client = NULL;
    const char *reason = NULL;
    char url[64];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listener, 4), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", ntohs(address.sin_port));
    struct weir_options options = {.url = url, .connect_timeout_ms = 200};
    assert_int_equal(weir_open(&options, &client, &reason), WEIR_TIMEOUT);
    close(listener);
}

/* Whether a session came, with a HELLO, before the opening was over. */
static bool is_asked(struct fake *fake)
{
    bool is_asked = false;
    pthread_mutex_lock(&fake->lock);
    for (unsigned i = 0; i < fake->ready; i++)
        is_asked = is_asked || (fake->sessions[i]->first != NULL && fake->sessions[i]->first->frame.op == FRAME_HELLO);
    pthread_mutex_unlock(&fake->lock);
    return is_asked;
}

/* A busy machine may need longer to get so far: then with more time. */
static void open_times_out_without_a_hello(void **state)
{
    (void)state;
    bool is_shown = false;
    for (uint32_t timeout_ms = 200; !is_shown && timeout_ms < WAIT_MS; timeout_ms *= 4) {
        struct fake fake;
        struct opening opening = {.options = {.connect_timeout_ms = timeout_ms}};
        fake_start(&fake);
        open_begin(&opening, &fake);
        pthread_join(opening.thread, NULL);
        is_shown = is_asked(&fake) && opening.error == WEIR_TIMEOUT;
        assert_int_not_equal(opening.error, WEIR_OK);
        fake_stop(&fake);
    }
    assert_true(is_shown);
}

static enum weir_error open_against(void (*answer)(struct session *))
{
    struct fake fake;
    struct opening opening = {.options = {.connect_timeout_ms = WAIT_MS}};
    fake_start(&fake);
    open_begin(&opening, &fake);
    struct session *s = fake_next(&fake);
    session_skip(s, FRAME_HELLO);
    answer(s);
    pthread_join(opening.thread, NULL);
    fake_stop(&fake);
    return opening.error;
}

static void answer_other_version(struct session *s)
{
    session_send(s, &(struct frame){.op = FRAME_HELLO, .as.hello.version = 2});
}

static void answer_no_hello(struct session *s) { send_credit(s, 1); }

static void answer_close(struct session *s)
{
    struct frame frame = {.op = FRAME_CLOSE};
    frame.as.close.code = view_text("forbidden");
    frame.as.close.message = view_text("not you");
    session_send(s, &frame);
}

static void answer_garbage(struct session *s) { session_raw(s, "\xc1\xc1", 2); }

static void open_fails_on_a_hello_that_does_not_fit(void **state)
{
    (void)state;
    assert_int_equal(open_against(answer_other_version), WEIR_PROTOCOL);
    assert_int_equal(open_against(answer_no_hello), WEIR_PROTOCOL);
    assert_int_equal(open_against(answer_close), WEIR_FORBIDDEN);
    assert_int_equal(open_against(answer_garbage), WEIR_PROTOCOL);
}

/* ------------------------------------------------------------------------------------------- mishaps */

/* What a broker must not send: the session ends with WEIR_PROTOCOL, and the client tries again. */
static void bad_frame_ends_the_session(const void *body, size_t size)
{
    struct fake fake;
    struct session *s = NULL;
    struct log log;
    log_init(&log);
    fake_start(&fake);
    struct weir_options options = {.on_link = log_link, .context = &log};
    struct weir *client = fake_client(&fake, &options, 100, &s);
    session_raw(s, body, size);
    (void)fake_session(&fake, 100);
    FAKE_WAIT(&log, log.ups == 2);
    assert_int_equal(log.downs, 1);
    assert_int_equal(log.cause, WEIR_PROTOCOL);
    assert_true(strlen(log.reason) > 0);
    struct weir_counts counts;
    weir_counts(client, &counts);
    assert_int_equal(counts.reconnects, 1);
    assert_int_equal(weir_close(&client, 0), WEIR_OK);
    fake_stop(&fake);
}

static void malformed_frames_end_the_session(void **state)
{
    (void)state;
    bad_frame_ends_the_session("", 0);
    bad_frame_ends_the_session("\x93\x00\x01\x80", 4);         /* a second HELLO */
    bad_frame_ends_the_session("\x92\x7f\x01", 3);             /* an op that there is not */
    bad_frame_ends_the_session("\x91\x01", 2);                 /* PING without n */
    bad_frame_ends_the_session("\x92\x01\xa1x", 4);            /* PING with a text */
    bad_frame_ends_the_session("\x92\x01\x01\x01", 4);         /* trailing bytes */
    bad_frame_ends_the_session("\x92\x0b\x01", 3);             /* UNSUBSCRIBE: a client's frame */
    bad_frame_ends_the_session("\x95\x10\x01\x01\x01\x01", 6); /* ACK for what was never sent */
    bad_frame_ends_the_session("\xdd\xff\xff\xff\xff\x01", 6); /* a huge array */
}

static void huge_message_lengths_end_the_session(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    static const uint8_t lengths[][8] = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
                                         {0x80, 0, 0, 0, 0, 0, 0, 0},
                                         {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xe8},
                                         {0, 0, 0, 0, 4, 0, 0, 1}};
    fake_start(&fake);
    struct weir *client = fake_client(&fake, NULL, 100, &s);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        pthread_mutex_lock(&fake.lock);
        s->out = malloc(8);
        memcpy(s->out, lengths[i], 8);
        s->out_size = 8;
        session_pump(s);
        pthread_mutex_unlock(&fake.lock);
        s = fake_session(&fake, 100);
    }
    assert_int_equal(weir_close(&client, 0), WEIR_OK);
    fake_stop(&fake);
}

static void ping_is_answered_with_its_number(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    fake_start(&fake);
    struct weir *client = fake_client(&fake, NULL, 100, &s);
    session_send(s, &(struct frame){.op = FRAME_PING, .as.ping.n = 77});
    struct kept *pong = session_take(s, FRAME_PONG);
    assert_int_equal(pong->frame.as.pong.n, 77);
    free(pong);
    assert_int_equal(weir_close(&client, 0), WEIR_OK);
    fake_stop(&fake);
}

static void silent_broker_is_asked_and_dropped(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct log log;
    log_init(&log);
    fake_start(&fake);
    fake.is_mute = true;
    struct weir_options options = {.on_link = log_link, .context = &log, .heartbeat_ms = 60};
    struct weir *client = fake_client(&fake, &options, 100, &s);
    FAKE_WAIT(&fake, s->is_closed);
    assert_int_equal(s->pings, 2);
    FAKE_WAIT(&log, log.downs == 1);
    assert_int_equal(log.cause, WEIR_TIMEOUT);
    /* Answered ones keep it up. A busy machine may answer too late: then the next session has to show it. */
    fake.is_mute = false;
    bool is_shown = false;
    for (int i = 0; i < 10 && !is_shown; i++) {
        s = fake_session(&fake, 100);
        FAKE_WAIT(&fake, s->pings >= 5 || s->is_closed);
        is_shown = s->pings >= 5;
    }
    assert_true(is_shown);
    (void)weir_close(&client, 0);
    fake_stop(&fake);
}

static void reconnect_never_ends_the_client_at_the_first_loss(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_event event;
    struct weir_subscription *sub = NULL, *other = NULL;
    struct weir_reply reply;
    struct weir_record record = {.topic = "t", .value = "x", .value_size = 1, .form = WEIR_TEXT};
    fake_start(&fake);
    struct weir *client = fake_client(&fake, &(struct weir_options){.reconnect_never = true}, 100, &s);
    assert_int_equal(weir_subscribe(client, "a", NULL, &sub), WEIR_OK);
    session_skip(s, FRAME_SUBSCRIBE);
    session_cut(s);
    assert_int_equal(weir_next(sub, WAIT_MS, &event), WEIR_OK);
    assert_int_equal(event.kind, WEIR_EVENT_ENDED);
    assert_int_equal(event.topic.size, 0);
    assert_int_equal(event.error, WEIR_CLOSED);
    assert_int_equal(weir_next(sub, WAIT_MS, &event), WEIR_CLOSED);
    assert_int_equal(weir_publish(client, &record, WEIR_FOREVER, NULL), WEIR_CLOSED);
    assert_int_equal(weir_request(client, "list", (struct weir_view){NULL, 0}, WAIT_MS, &reply), WEIR_CLOSED);
    assert_int_equal(weir_subscribe(client, "b", NULL, &other), WEIR_CLOSED);
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(&fake);
}

static void close_frame_of_the_broker_tells_why(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct log log;
    log_init(&log);
    fake_start(&fake);
    struct weir *client = fake_client(&fake, &(struct weir_options){.on_link = log_link, .context = &log}, 100, &s);
    struct frame frame = {.op = FRAME_CLOSE};
    frame.as.close.code = view_text("closed");
    frame.as.close.message = view_text("the broker shuts down");
    session_send(s, &frame);
    FAKE_WAIT(&log, log.downs == 1);
    assert_int_equal(log.cause, WEIR_CLOSED);
    assert_non_null(strstr(log.reason, "the broker shuts down"));
    assert_int_equal(weir_close(&client, 0), WEIR_OK);
    fake_stop(&fake);
}

static void on_link_that_calls(struct weir *client, enum weir_link link, enum weir_error cause, const char *reason,
                               void *context)
{
    enum weir_error *errors = context;
    struct weir_record record = {
        .topic = "t", .value = "x", .value_size = 1, .form = WEIR_TEXT, .ack = WEIR_ACK_FOLDED};
    struct weir_reply reply;
    struct weir_seq seq;
    struct weir *same = client;
    (void)cause, (void)reason;
    if (link != WEIR_LINK_UP)
        return;
    errors[0] = weir_publish(client, &record, 0, NULL);
    errors[1] = weir_publish_wait(client, &record, WEIR_FOREVER, &seq);
    errors[2] = weir_flush(client, WEIR_FOREVER);
    errors[3] = weir_request(client, "list", (struct weir_view){NULL, 0}, WEIR_FOREVER, &reply);
    errors[4] = weir_close(&same, WEIR_FOREVER);
}

static void calls_that_would_wait_for_their_own_thread_are_forbidden(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    enum weir_error errors[5] = {WEIR_OK};
    fake_start(&fake);
    struct weir_options options = {.on_link = on_link_that_calls, .context = errors};
    struct weir *client = fake_client(&fake, &options, 1000, &s);
    session_skip(s, FRAME_PUBLISH);
    send_ack(s, 1, 1, 1, 1);
    assert_int_equal(weir_flush(client, WAIT_MS), WEIR_OK);
    assert_int_equal(weir_close(&client, 0), WEIR_OK);
    assert_int_equal(errors[0], WEIR_OK);
    for (int i = 1; i < 5; i++)
        assert_int_equal(errors[i], WEIR_FORBIDDEN);
    fake_stop(&fake);
}

/* Refuses each request that has a key. */
static bool refuse_with_key(struct session *s, const struct frame *frame)
{
    uint8_t map[128];
    struct value_writer writer;
    struct view key;
    if (frame->op != FRAME_REQUEST || args_find_str(frame->as.request.args, "key", &key) != WEIR_OK)
        return false;
    value_writer_init(&writer, map, sizeof map);
    reply_error_map_write(
        &writer, &(struct reply_refusal){.error = WEIR_NOT_FOUND, .message = view_text("no such topic"), .topic = key});
    struct frame answer = {.op = FRAME_REPLY};
    answer.as.reply.id = frame->as.request.id;
    answer.as.reply.result = view_of(map, writer.size);
    session_put_frame(s, &answer);
    return true;
}

static void reply_reaches_only_who_waits_for_it(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    struct weir_reply reply;
    fake_start(&fake);
    fake.on_frame = refuse_with_key;
    struct weir *client = fake_client(&fake, NULL, 100, &s);
    assert_int_equal(weir_list(client, "#", 50, &reply), WEIR_TIMEOUT);
    session_skip(s, FRAME_REQUEST);
    struct frame late = {.op = FRAME_REPLY};
    late.as.reply.id = 1;
    late.as.reply.ok = true;
    late.as.reply.result = view_of("\x80", 1);
    session_send(s, &late);
    assert_int_equal(weir_get(client, "a", "k", WAIT_MS, &reply), WEIR_OK);
    assert_int_equal(reply.error, WEIR_NOT_FOUND);
    assert_string_equal(reply.message, "no such topic");
    weir_reply_free(&reply);
    assert_int_equal(weir_request(client, "x", (struct weir_view){"\xc1", 1}, 0, &reply), WEIR_BAD_REQUEST);
    assert_int_equal(weir_close(&client, 0), WEIR_OK);
    fake_stop(&fake);
}

static void *list_main(void *argument)
{
    static enum weir_error error;
    struct weir_reply reply;
    error = weir_list(argument, "#", WEIR_FOREVER, &reply);
    return &error;
}

static void request_ends_with_its_connection(void **state)
{
    (void)state;
    struct fake fake;
    struct session *s = NULL;
    pthread_t thread;
    void *error = NULL;
    fake_start(&fake);
    struct weir *client = fake_client(&fake, NULL, 100, &s);
    assert_int_equal(pthread_create(&thread, NULL, list_main, client), 0);
    session_skip(s, FRAME_REQUEST);
    session_cut(s);
    pthread_join(thread, &error);
    assert_int_equal(*(enum weir_error *)error, WEIR_CLOSED);
    assert_int_equal(weir_close(&client, 0), WEIR_OK);
    fake_stop(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(client_opens_says_hello_and_goodbye),
        cmocka_unit_test(open_fails_where_nobody_listens),
        cmocka_unit_test(open_tries_until_the_broker_is_there),
        cmocka_unit_test(open_fails_at_once_where_trying_again_cannot_help),
        cmocka_unit_test(open_times_out_on_a_peer_that_says_nothing),
        cmocka_unit_test(open_times_out_without_a_hello),
        cmocka_unit_test(open_fails_on_a_hello_that_does_not_fit),
        cmocka_unit_test(malformed_frames_end_the_session),
        cmocka_unit_test(huge_message_lengths_end_the_session),
        cmocka_unit_test(ping_is_answered_with_its_number),
        cmocka_unit_test(silent_broker_is_asked_and_dropped),
        cmocka_unit_test(reconnect_never_ends_the_client_at_the_first_loss),
        cmocka_unit_test(close_frame_of_the_broker_tells_why),
        cmocka_unit_test(calls_that_would_wait_for_their_own_thread_are_forbidden),
        cmocka_unit_test(reply_reaches_only_who_waits_for_it),
        cmocka_unit_test(request_ends_with_its_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
