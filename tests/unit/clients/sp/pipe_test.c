/* One connection over real sockets: bytes arrive whole and in order, every end is told once, whoever closes when. */
#include "tests/unit/clients/sp/harness.h"

#define BIG_SIZE ((size_t)8 << 20)

/* Runs a test over tcp (v4 and v6) and ipc. */
static void over_each_transport(void (*test)(const char *url))
{
    char directory[64];
    char url[96];
    test("tcp://127.0.0.1:0");
    test("tcp://[::1]:0");
    directory_make(directory);
    (void)snprintf(url, sizeof url, "ipc://%s/s", directory);
    test(url);
    directory_remove(directory);
}

struct pair {
    struct server server;
    struct end client;
    struct end service;
};

static void pair_init(struct pair *pair, const char *url)
{
    server_init(&pair->server, url, 5000);
    dial(&pair->client, sp_listener_url(pair->server.listener));
    end_init(&pair->service, server_take(&pair->server));
}

static void pair_fini(struct pair *pair)
{
    end_fini(&pair->client);
    end_fini(&pair->service);
    server_fini(&pair->server);
}

static void exchange(const char *url)
{
    struct pair pair;
    char text[16];
    pair_init(&pair, url);
    assert_true(end_send(&pair.client, "hello", 5));
    assert_true(end_receive_all(&pair.service, text, 5));
    assert_memory_equal(text, "hello", 5);
    assert_true(end_send(&pair.service, "welcome", 7));
    assert_true(end_receive_all(&pair.client, text, 7));
    assert_memory_equal(text, "welcome", 7);
    assert_int_equal(sp_pipe_peer_protocol(pair.service.pipe), SP_PAIR0);
    assert_int_equal(sp_pipe_is_ipc(pair.service.pipe), strncmp(url, "ipc", 3) == 0);
    pair_fini(&pair);
}

static void bytes_go_both_ways(void **state)
{
    (void)state;
    over_each_transport(exchange);
}

static void peer_check(const char *url)
{
    struct pair pair;
    char expected[64];
    pair_init(&pair, url);
    const char *peer = sp_pipe_peer(pair.service.pipe);
    const char *address = sp_pipe_address(pair.service.pipe);
    if (strncmp(url, "ipc", 3) == 0) {
        (void)snprintf(expected, sizeof expected, "(pid %u uid %u)", (unsigned)getpid(), (unsigned)getuid());
        assert_non_null(strstr(peer, expected));
        assert_string_equal(address, "ipc");
    } else {
        bool is_v6 = strchr(url, '[') != NULL;
        assert_string_equal(address, is_v6 ? "::1" : "127.0.0.1");
        assert_int_equal(strncmp(peer, is_v6 ? "tcp://[::1]:" : "tcp://127.0.0.1:", is_v6 ? 12 : 16), 0);
    }
    pair_fini(&pair);
}

static void peer_is_described(void **state)
{
    (void)state;
    over_each_transport(peer_check);
}

static void pattern_fill(uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 13);
}

/* 8 parts of 1 MiB against a reader that takes 50,000 bytes at a time: the kernel takes a little at each write. */
static void slow_reader(const char *url)
{
    struct pair pair;
    uint8_t *data = malloc(BIG_SIZE);
    uint8_t *copy = calloc(1, BIG_SIZE);
    struct iovec parts[SP_IOV_MAX];
    assert_true(data && copy);
    pattern_fill(data, BIG_SIZE);
    for (unsigned i = 0; i < SP_IOV_MAX; i++)
        parts[i] = (struct iovec){data + i * (BIG_SIZE / SP_IOV_MAX), BIG_SIZE / SP_IOV_MAX};
    pair_init(&pair, url);
    sp_pipe_send(pair.client.pipe, parts, SP_IOV_MAX);
    for (size_t done = 0; done < BIG_SIZE;) {
        size_t room = BIG_SIZE - done < 50000 ? BIG_SIZE - done : 50000;
        size_t got = end_receive(&pair.service, copy + done, room);
        assert_true(got > 0);
        done += got;
    }
    MONITOR_WAIT(&pair.client.monitor, pair.client.sent_count == 1);
    assert_int_equal(pair.client.sent_error, WEIR_OK);
    assert_memory_equal(data, copy, BIG_SIZE);
    pair_fini(&pair);
    free(data);
    free(copy);
}

static void partial_sends_go_on_to_the_last_byte(void **state)
{
    (void)state;
    over_each_transport(slow_reader);
}

static void parts_of_no_bytes_are_fine(void **state)
{
    (void)state;
    struct pair pair;
    char text[4];
    const struct iovec parts[] = {
        {NULL, 0}, {(void *)(uintptr_t) "ab", 2}, {NULL, 0}, {(void *)(uintptr_t) "cd", 2}, {NULL, 0}};
    size_t sent = 0;
    pair_init(&pair, "tcp://127.0.0.1:0");
    sp_pipe_send(pair.client.pipe, parts, 5);
    assert_true(end_receive_all(&pair.service, text, 4));
    assert_memory_equal(text, "abcd", 4);
    MONITOR_WAIT(&pair.client.monitor, pair.client.sent_count == 1);
    assert_int_equal(sp_pipe_send_now(pair.client.pipe, parts, 5, &sent), WEIR_OK);
    assert_int_equal(sent, 4);
    assert_true(end_receive_all(&pair.service, text, 4));
    pair_fini(&pair);
}

static void now_check(const char *url)
{
    struct pair pair;
    char text[8];
    size_t size = 0;
    const struct iovec part = {(void *)(uintptr_t) "now", 3};
    pair_init(&pair, url);
    assert_int_equal(sp_pipe_receive_now(pair.service.pipe, text, sizeof text, &size), WEIR_AGAIN);
    assert_int_equal(sp_pipe_send_now(pair.client.pipe, &part, 1, &size), WEIR_OK);
    assert_int_equal(size, 3);
    assert_int_equal(end_receive(&pair.service, text, 1), 1);
    assert_int_equal(sp_pipe_receive_now(pair.service.pipe, text + 1, sizeof text - 1, &size), WEIR_OK);
    assert_int_equal(size, 2);
    assert_memory_equal(text, "now", 3);
    assert_int_equal(sp_pipe_receive_now(pair.service.pipe, text, sizeof text, &size), WEIR_AGAIN);
    end_fini(&pair.client);
    assert_int_equal(end_receive(&pair.service, text, sizeof text), 0);
    assert_int_equal(sp_pipe_receive_now(pair.service.pipe, text, sizeof text, &size), WEIR_CLOSED);
    assert_int_equal(sp_pipe_send_now(pair.service.pipe, &part, 1, &size), WEIR_CLOSED);
    end_fini(&pair.service);
    server_fini(&pair.server);
}

static void now_answers_without_a_handler(void **state)
{
    (void)state;
    over_each_transport(now_check);
}

/* Fills the kernel's buffers at once, then leaves the rest to the ordinary send; nothing is lost or doubled. */
static void now_then_send(const char *url)
{
    struct pair pair;
    uint8_t *data = malloc(BIG_SIZE);
    uint8_t *copy = malloc(BIG_SIZE);
    size_t sent = 0;
    assert_true(data && copy);
    pattern_fill(data, BIG_SIZE);
    pair_init(&pair, url);
    const struct iovec all = {data, BIG_SIZE};
    assert_int_equal(sp_pipe_send_now(pair.client.pipe, &all, 1, &sent), WEIR_AGAIN);
    assert_true(sent > 0 && sent < BIG_SIZE);
    const struct iovec rest = {data + sent, BIG_SIZE - sent};
    sp_pipe_send(pair.client.pipe, &rest, 1);
    size_t done = 0;
    while (done < BIG_SIZE) {
        size_t got = 0;
        enum weir_error error = sp_pipe_receive_now(pair.service.pipe, copy + done, BIG_SIZE - done, &got);
        assert_true(error == WEIR_OK || error == WEIR_AGAIN);
        if (error == WEIR_AGAIN)
            got = end_receive(&pair.service, copy + done, BIG_SIZE - done);
        assert_true(got > 0);
        done += got;
    }
    MONITOR_WAIT(&pair.client.monitor, pair.client.sent_count == 1);
    assert_memory_equal(data, copy, BIG_SIZE);
    pair_fini(&pair);
    free(data);
    free(copy);
}

static void now_and_send_together_lose_nothing(void **state)
{
    (void)state;
    over_each_transport(now_then_send);
}

/* Sends or interrupts from another thread, at a moment that the waiter does not know. */
struct helper {
    struct sp_pipe *from, *waiting;
    uint64_t after_ns;
};

static void *help(void *argument)
{
    const struct helper *helper = argument;
    struct timespec pause = {.tv_nsec = (long)helper->after_ns};
    const struct iovec part = {(void *)(uintptr_t) "late", 4};
    size_t sent = 0;
    nanosleep(&pause, NULL);
    if (helper->waiting)
        sp_pipe_receive_interrupt(helper->waiting);
    else
        assert_int_equal(sp_pipe_send_now(helper->from, &part, 1, &sent), WEIR_OK);
    return NULL;
}

static void wait_check(const char *url)
{
    enum { FOREVER_MS = 60000, ROUNDS = 60 };
    struct pair pair;
    char text[16];
    size_t size = 0;
    pair_init(&pair, url);
    struct sp_pipe *pipe = pair.service.pipe;
    assert_int_equal(sp_pipe_receive_wait(pipe, text, sizeof text, 1, false, &size), WEIR_AGAIN);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        struct helper helper = {pair.client.pipe, i % 2 ? pipe : NULL, i * 20000};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, help, &helper), 0);
        enum weir_error error = sp_pipe_receive_wait(pipe, text, sizeof text, FOREVER_MS, false, &size);
        pthread_join(thread, NULL);
        assert_int_equal(error, i % 2 ? WEIR_AGAIN : WEIR_OK);
        if (i % 2 == 0)
            assert_memory_equal(text, "late", 4);
    }
    /* Nothing is lost to waits that end early: bytes and the end of the time, close together. */
    for (uint64_t i = 0; i < ROUNDS; i++) {
        struct helper helper = {pair.client.pipe, NULL, 900000 + i * 10000};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, help, &helper), 0);
        enum weir_error error = WEIR_AGAIN;
        while ((error = sp_pipe_receive_wait(pipe, text, sizeof text, 1, false, &size)) == WEIR_AGAIN)
            continue;
        pthread_join(thread, NULL);
        assert_int_equal(error, WEIR_OK);
        assert_int_equal(size, 4);
    }
    end_fini(&pair.client);
    enum weir_error error = WEIR_AGAIN; /* as the end of the last wait's time may come late, and to this one */
    while ((error = sp_pipe_receive_wait(pipe, text, sizeof text, FOREVER_MS, false, &size)) == WEIR_AGAIN)
        continue;
    assert_int_equal(error, WEIR_CLOSED);
    assert_int_equal(sp_pipe_receive_wait(pipe, text, sizeof text, FOREVER_MS, false, &size), WEIR_CLOSED);
    end_fini(&pair.service);
    server_fini(&pair.server);
}

static void a_waiting_receive_ends_with_bytes_an_interruption_its_time_or_the_pipe(void **state)
{
    (void)state;
    over_each_transport(wait_check);
}

static void patient_check(const char *url)
{
    enum { FOREVER_MS = 600000 };
    struct pair pair;
    char text[16];
    size_t size = 0;
    pair_init(&pair, url);
    struct sp_pipe *pipe = pair.service.pipe;
    struct helper sending = {pair.client.pipe, NULL, 0}, interrupting = {NULL, pipe, 1000000};
    (void)help(&sending);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, help, &interrupting), 0);
    assert_int_equal(sp_pipe_receive_wait(pipe, text, sizeof text, FOREVER_MS, true, &size), WEIR_AGAIN);
    pthread_join(thread, NULL);
    uint64_t deadline = clock_now_ns() + WAIT_S * NS_PER_S; /* the kernel of a busy machine may be late */
    enum weir_error error = WEIR_AGAIN;
    while ((error = sp_pipe_receive_wait(pipe, text, sizeof text, 1, true, &size)) == WEIR_AGAIN)
        assert_true(clock_now_ns() < deadline);
    assert_int_equal(error, WEIR_OK);
    assert_int_equal(size, 4);
    assert_int_equal(sp_pipe_receive_wait(pipe, text, sizeof text, 1, true, &size), WEIR_AGAIN);
    end_fini(&pair.client);
    assert_int_equal(sp_pipe_receive_wait(pipe, text, sizeof text, FOREVER_MS, true, &size), WEIR_CLOSED);
    end_fini(&pair.service);
    server_fini(&pair.server);
}

static void a_patient_wait_ends_with_its_time_an_interruption_or_the_pipe_alone(void **state)
{
    (void)state;
    over_each_transport(patient_check);
}

static void an_interruption_before_the_wait_ends_it_at_once(void **state)
{
    (void)state;
    struct pair pair;
    char text[16];
    size_t size = 0;
    pair_init(&pair, "tcp://127.0.0.1:0");
    sp_pipe_receive_interrupt(pair.service.pipe);
    assert_int_equal(sp_pipe_receive_wait(pair.service.pipe, text, sizeof text, 600000, false, &size), WEIR_AGAIN);
    pair_fini(&pair);
}

static void idle_close(const char *url)
{
    struct pair pair;
    pair_init(&pair, url);
    sp_pipe_close(pair.client.pipe);
    sp_pipe_close(pair.client.pipe);
    MONITOR_WAIT(&pair.client.monitor, pair.client.closed_count == 1);
    char byte;
    sp_pipe_receive(pair.client.pipe, &byte, 1);
    assert_int_equal(end_receive(&pair.service, &byte, 1), 0);
    assert_int_equal(pair.service.received_error, WEIR_CLOSED);
    assert_int_equal(pair.client.received_count, 0);
    pair_fini(&pair);
}

static void idle_pipe_closes_once_and_its_peer_hears_of_it(void **state)
{
    (void)state;
    over_each_transport(idle_close);
}

struct closer {
    struct sp_pipe *pipe;
    pthread_barrier_t *barrier;
};

static void *closer_run(void *argument)
{
    struct closer *closer = argument;
    pthread_barrier_wait(closer->barrier);
    sp_pipe_close(closer->pipe);
    return NULL;
}

/* Receive and a send that cannot finish are under way, or about to be, when two threads close. */
static void close_race(const char *url, const struct iovec *big)
{
    struct pair pair;
    char byte;
    pthread_t threads[2];
    pthread_barrier_t barrier;
    pair_init(&pair, url);
    struct closer closer = {pair.client.pipe, &barrier};
    assert_int_equal(pthread_barrier_init(&barrier, NULL, 3), 0);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, closer_run, &closer), 0);
    pthread_barrier_wait(&barrier);
    sp_pipe_receive(pair.client.pipe, &byte, 1);
    sp_pipe_send(pair.client.pipe, big, 1);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    MONITOR_WAIT(&pair.client.monitor, pair.client.closed_count == 1);
    pthread_barrier_destroy(&barrier);
    pair_fini(&pair);
}

static void close_from_other_threads_ends_everything_once(void **state)
{
    (void)state;
    const struct iovec big = {calloc(1, BIG_SIZE), BIG_SIZE};
    char directory[64];
    char url[96];
    directory_make(directory);
    (void)snprintf(url, sizeof url, "ipc://%s/s", directory);
    for (unsigned round = 0; round < 150; round++)
        close_race(round % 2 == 0 ? "tcp://127.0.0.1:0" : url, &big);
    directory_remove(directory);
    free(big.iov_base);
}

static void close_during_send_reports_the_send(const char *url)
{
    struct pair pair;
    char byte;
    const struct iovec big = {calloc(1, BIG_SIZE), BIG_SIZE};
    pair_init(&pair, url);
    sp_pipe_receive(pair.client.pipe, &byte, 1);
    sp_pipe_send(pair.client.pipe, &big, 1);
    sp_pipe_close(pair.client.pipe);
    MONITOR_WAIT(&pair.client.monitor, pair.client.closed_count == 1);
    assert_int_equal(pair.client.received_count, 1);
    assert_int_equal(pair.client.sent_count, 1);
    assert_int_equal(pair.client.received_error, WEIR_CLOSED);
    assert_int_equal(pair.client.sent_error, WEIR_CLOSED);
    pair_fini(&pair);
    free(big.iov_base);
}

static void every_operation_that_began_is_ended_by_its_handler(void **state)
{
    (void)state;
    over_each_transport(close_during_send_reports_the_send);
}

/* A plain socket that has done the handshake as pair0. */
static int raw_dial(const char *url)
{
    const uint8_t header[SP_HEADER_SIZE] = {0, 'S', 'P', 0, 0, SP_PAIR0, 0, 0};
    uint8_t answer[SP_HEADER_SIZE];
    int raw = raw_connect(url);
    assert_int_equal(send(raw, header, sizeof header, 0), sizeof header);
    assert_int_equal(recv(raw, answer, sizeof answer, MSG_WAITALL), sizeof answer);
    return raw;
}

/* The peer sends, then dies with bytes of ours unread: the kernel flags an error, yet what it sent is still there. */
static void reset_after_data(const char *url)
{
    struct server server;
    struct end service;
    char data[4096] = {0};
    char copy[512];
    server_init(&server, url, 5000);
    int raw = raw_dial(sp_listener_url(server.listener));
    end_init(&service, server_take(&server));
    sp_pipe_receive(service.pipe, copy, 1);
    assert_true(end_send(&service, "unread", 6));
    assert_int_equal(send(raw, data, sizeof data, MSG_NOSIGNAL), sizeof data);
    close(raw);
    MONITOR_WAIT(&service.monitor, service.received_count == 1);
    while (end_receive(&service, copy, sizeof copy) > 0) {
    }
    assert_int_equal(service.received_total, sizeof data);
    end_fini(&service);
    server_fini(&server);
}

static void what_came_before_a_reset_is_received(void **state)
{
    (void)state;
    char directory[64];
    char url[96];
    directory_make(directory);
    (void)snprintf(url, sizeof url, "ipc://%s/s", directory);
    for (unsigned round = 0; round < 200; round++) {
        reset_after_data("tcp://127.0.0.1:0");
        reset_after_data(url);
    }
    directory_remove(directory);
}

static void pipe_that_was_never_started_can_be_destroyed(void **state)
{
    (void)state;
    struct server server;
    struct end client;
    char byte;
    server_init(&server, "tcp://127.0.0.1:0", 5000);
    dial(&client, sp_listener_url(server.listener));
    struct sp_pipe *pipe = server_take(&server);
    sp_pipe_destroy(&pipe);
    assert_int_equal(end_receive(&client, &byte, 1), 0);
    end_fini(&client);
    server_fini(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_go_both_ways),
        cmocka_unit_test(peer_is_described),
        cmocka_unit_test(partial_sends_go_on_to_the_last_byte),
        cmocka_unit_test(parts_of_no_bytes_are_fine),
        cmocka_unit_test(now_answers_without_a_handler),
        cmocka_unit_test(now_and_send_together_lose_nothing),
        cmocka_unit_test(a_waiting_receive_ends_with_bytes_an_interruption_its_time_or_the_pipe),
        cmocka_unit_test(a_patient_wait_ends_with_its_time_an_interruption_or_the_pipe_alone),
        cmocka_unit_test(an_interruption_before_the_wait_ends_it_at_once),
        cmocka_unit_test(idle_pipe_closes_once_and_its_peer_hears_of_it),
        cmocka_unit_test(close_from_other_threads_ends_everything_once),
        cmocka_unit_test(every_operation_that_began_is_ended_by_its_handler),
        cmocka_unit_test(what_came_before_a_reset_is_received),
        cmocka_unit_test(pipe_that_was_never_started_can_be_destroyed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
