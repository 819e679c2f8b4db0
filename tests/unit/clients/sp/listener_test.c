/* A listening address under strangers: aborted, slow and wrong handshakes, no descriptors, two brokers on one path. */
#include "tests/unit/clients/sp/harness.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define ABORTED_COUNT 10000

/* True when the listener closes the connection, without a byte, before the deadline. */
static bool is_hung_up_on(int raw, int timeout_ms)
{
    struct pollfd watch = {.fd = raw, .events = POLLIN};
    char byte;
    return poll(&watch, 1, timeout_ms) == 1 && recv(raw, &byte, 1, 0) <= 0;
}

/* FIN at once; part of a header and a reset; garbage; a served peer that leaves before our answer. */
static void handshake_abort(const char *url, unsigned kind)
{
    static const char garbage[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    static const uint8_t header[SP_HEADER_SIZE] = {0, 'S', 'P', 0, 0, SP_PUSH0, 0, 0};
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    int raw = raw_connect(url);
    if (kind == 1 || kind == 3)
        (void)send(raw, header, kind == 1 ? 3 : sizeof header, MSG_NOSIGNAL);
    if (kind == 2)
        (void)send(raw, garbage, sizeof garbage, MSG_NOSIGNAL);
    if (kind == 1 || kind == 3) {
        (void)shutdown(raw, SHUT_WR);
        (void)setsockopt(raw, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    close(raw);
}

static void legitimate_connect_check(struct server *server)
{
    struct end client;
    dial(&client, sp_listener_url(server->listener));
    end_fini(&client);
}

/* Pipes whose peer was gone before we noticed. */
static void ready_drain(struct server *server)
{
    for (;;) {
        struct sp_pipe *pipe = NULL;
        pthread_mutex_lock(&server->monitor.lock);
        if (server->taken_count < server->ready_count)
            pipe = server->pipes[server->taken_count++ % SERVER_PIPES_MAX];
        pthread_mutex_unlock(&server->monitor.lock);
        if (!pipe)
            return;
        sp_pipe_destroy(&pipe);
    }
}

static unsigned descriptors_count(void)
{
    unsigned count = 0;
    for (int i = 0; i < 1024; i++)
        count += fcntl(i, F_GETFD) >= 0;
    return count;
}

/* A handshake that failed closes its descriptor on the poller's thread, a moment later than its peer. */
static void descriptors_check(unsigned expected)
{
    uint64_t deadline = clock_now_ns() + WAIT_S * NS_PER_S;
    while (descriptors_count() != expected && clock_now_ns() < deadline)
        sched_yield();
    assert_int_equal(descriptors_count(), expected);
}

static void aborted_handshakes(const char *url)
{
    struct server server;
    /* The first listener of all makes the pollers open descriptors of their own. */
    server_init(&server, url, 5000);
    server_fini(&server);
    unsigned descriptors = descriptors_count();
    server_init(&server, url, 5000);
    for (unsigned i = 1; i <= ABORTED_COUNT; i++) {
        handshake_abort(sp_listener_url(server.listener), i % 4);
        if (i % 16 == 0)
            ready_drain(&server);
        if (i % 100 == 0)
            legitimate_connect_check(&server);
    }
    ready_drain(&server);
    MONITOR_WAIT(&server.monitor, server.accept_count == server.ready_count + server.refused_count);
    assert_int_equal(sp_listener_accept_failures(server.listener), 0);
    print_message("%s: %u accepted, %u ready, %u refused\n", is_ipc_url(url) ? "ipc" : "tcp", server.accept_count,
                  server.ready_count, server.refused_count);
    server_fini(&server);
    descriptors_check(descriptors);
}

static void listener_survives_10000_aborted_handshakes(void **state)
{
    (void)state;
    over_tcp_and_ipc(aborted_handshakes);
}

/* True when the listener hung up on one that drips. Seven bytes take five times the deadline: one that began anew with
 * each byte would not end meanwhile. */
static bool drip(const char *url)
{
    static const uint8_t header[SP_HEADER_SIZE] = {0, 'S', 'P', 0, 0, SP_PUSH0, 0, 0};
    uint64_t begin = clock_now_ns();
    int raw = raw_connect(url);
    bool is_over = false;
    for (unsigned i = 0; i < 7 && !is_over; i++) {
        (void)send(raw, header + i, 1, MSG_NOSIGNAL);
        is_over = is_hung_up_on(raw, 300);
    }
    assert_true(!is_over || clock_now_ns() - begin >= 390 * NS_PER_MS);
    close(raw);
    return is_over;
}

/* A machine that has no processor for the poller meanwhile makes the deadline late: one of a few must show what the
 * code does. */
static void dripping(const char *url)
{
    enum { TRIES = 5 };
    struct server server;
    bool is_over = false;
    server_init(&server, url, 400);
    for (unsigned i = 0; i < TRIES && !is_over; i++)
        is_over = drip(sp_listener_url(server.listener));
    assert_true(is_over);
    MONITOR_WAIT(&server.monitor, server.refused_by[WEIR_TIMEOUT] == 1);
    server_fini(&server);
}

static void slow_handshake_ends_at_its_deadline_even_when_bytes_drip(void **state)
{
    (void)state;
    over_tcp_and_ipc(dripping);
}

static void silent(const char *url)
{
    struct server server;
    server_init(&server, url, 200);
    int raw = raw_connect(sp_listener_url(server.listener));
    assert_true(is_hung_up_on(raw, WAIT_S * 1000));
    MONITOR_WAIT(&server.monitor, server.refused_by[WEIR_TIMEOUT] == 1);
    close(raw);
    server_fini(&server);
}

static void silent_peer_is_closed_at_the_deadline(void **state)
{
    (void)state;
    over_tcp_and_ipc(silent);
}

static void wrong_protocol(const char *url)
{
    static const uint8_t bad[][SP_HEADER_SIZE] = {{0, 'S', 'P', 0, 0, SP_PULL0, 0, 0},
                                                  {0, 'S', 'P', 0, 0, SP_PUB0, 0, 0},
                                                  {0, 'S', 'P', 0, 0, 0x62, 0, 0},
                                                  {0, 'S', 'P', 1, 0, SP_PUSH0, 0, 0},
                                                  {'G', 'E', 'T', ' ', '/', ' ', 'H', 'T'}};
    struct server server;
    server_init(&server, url, 5000);
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int raw = raw_connect(sp_listener_url(server.listener));
        assert_int_equal(send(raw, bad[i], SP_HEADER_SIZE, MSG_NOSIGNAL), SP_HEADER_SIZE);
        assert_true(is_hung_up_on(raw, WAIT_S * 1000));
        close(raw);
    }
    MONITOR_WAIT(&server.monitor, server.refused_by[WEIR_PROTOCOL] == sizeof bad / sizeof bad[0]);
    assert_int_equal(server.ready_count, 0);
    server_fini(&server);
}

static void peers_that_are_not_served_are_closed_without_an_answer(void **state)
{
    (void)state;
    over_tcp_and_ipc(wrong_protocol);
}

/* The server takes 32 handshakes at once; 100 connect and say nothing, and others get through meanwhile. */
static void silent_strangers_make_room_for_newcomers(void **state)
{
    (void)state;
    enum { STRANGERS = 100 };
    struct server server;
    int raw[STRANGERS];
    server_init(&server, "tcp://127.0.0.1:0", 60000);
    for (unsigned i = 0; i < STRANGERS; i++) {
        raw[i] = raw_connect(sp_listener_url(server.listener));
        if (i % 10 == 9)
            legitimate_connect_check(&server);
    }
    MONITOR_WAIT(&server.monitor, server.refused_by[WEIR_FULL] >= STRANGERS - 32);
    assert_true(is_hung_up_on(raw[0], WAIT_S * 1000));
    assert_false(is_hung_up_on(raw[STRANGERS - 1], 50));
    for (unsigned i = 0; i < STRANGERS; i++)
        close(raw[i]);
    MONITOR_WAIT(&server.monitor, server.refused_count == STRANGERS);
    server_fini(&server);
}

static void unwelcome_address_is_closed_before_the_handshake(void **state)
{
    (void)state;
    struct server server;
    server_init(&server, "tcp://127.0.0.1:0", 5000);
    pthread_mutex_lock(&server.monitor.lock);
    server.is_refusing = true;
    pthread_mutex_unlock(&server.monitor.lock);
    int raw = raw_connect(sp_listener_url(server.listener));
    assert_true(is_hung_up_on(raw, WAIT_S * 1000));
    MONITOR_WAIT(&server.monitor, strcmp(server.accept_address, "127.0.0.1") == 0);
    assert_int_equal(server.refused_count, 0);
    close(raw);
    server_fini(&server);
}

static enum weir_error listen_try(const char *url, const char **reason)
{
    const struct sp_listen_options options = {.handshake_ms = 5000, .handshaking_max = 4};
    struct server server = {0};
    monitor_init(&server.monitor);
    enum weir_error error = sp_listen(url, &options, &server_handlers, &server, &server.listener, reason);
    sp_listener_destroy(&server.listener);
    monitor_fini(&server.monitor);
    return error;
}

static void second_listen_on_a_path_is_refused_and_harmless(void **state)
{
    (void)state;
    struct server server;
    char directory[64];
    char url[96];
    const char *reason = NULL;
    directory_make(directory);
    (void)snprintf(url, sizeof url, "ipc://%s/s", directory);
    server_init(&server, url, 5000);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(listen_try(url, &reason), WEIR_EXISTS);
        assert_non_null(reason);
    }
    assert_int_equal(server.accept_count, 0);
    legitimate_connect_check(&server);
    server_fini(&server);
    assert_int_equal(listen_try(url, &reason), WEIR_OK);
    directory_remove(directory);
}

static void second_listen_on_a_port_is_refused(void **state)
{
    (void)state;
    struct server server;
    const char *reason = NULL;
    server_init(&server, "tcp://127.0.0.1:0", 5000);
    assert_int_equal(listen_try(sp_listener_url(server.listener), &reason), WEIR_EXISTS);
    legitimate_connect_check(&server);
    server_fini(&server);
}

/* A socket at the path with nobody behind it, as after kill -9; returns the bound descriptor. */
static int socket_file_make(const char *path)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    int raw = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)snprintf(local.sun_path, sizeof local.sun_path, "%s", path);
    assert_int_equal(bind(raw, (const void *)&local, sizeof local), 0);
    return raw;
}

static void stale_socket_is_removed_a_live_one_and_a_file_are_not(void **state)
{
    (void)state;
    char directory[64];
    char path[80];
    char url[96];
    const char *reason = NULL;
    struct stat status;
    directory_make(directory);
    (void)snprintf(path, sizeof path, "%s/s", directory);
    (void)snprintf(url, sizeof url, "ipc://%s", path);
    close(socket_file_make(path));
    assert_int_equal(listen_try(url, &reason), WEIR_OK);
    int live = socket_file_make(path);
    assert_int_equal(listen(live, 4), 0);
    assert_int_equal(listen_try(url, &reason), WEIR_EXISTS);
    assert_int_equal(stat(path, &status), 0);
    close(live);
    assert_int_equal(unlink(path), 0);
    int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    close(file);
    assert_int_equal(listen_try(url, &reason), WEIR_EXISTS);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(unlink(path), 0);
    directory_remove(directory);
}

static void address_is_refused(const char *url)
{
    const char *reason = NULL;
    struct sp_pipe *pipe = NULL;
    assert_int_not_equal(listen_try(url, &reason), WEIR_OK);
    assert_non_null(reason);
    reason = NULL;
    assert_int_not_equal(sp_dial(url, SP_PAIR0, SP_PAIR0, 2000, &pipe, &reason), WEIR_OK);
    assert_non_null(reason);
}

static void bad_addresses_are_refused_with_a_reason(void **state)
{
    (void)state;
    const char *const urls[] = {"http://127.0.0.1:1",
                                "127.0.0.1:7450",
                                "",
                                "ipc://",
                                "tcp://127.0.0.1:70000",
                                "tcp://[::1:5",
                                "ws://127.0.0.1:0",
                                "ipc:///nonexistent/directory/s"};
    char long_path[128] = "ipc://";
    for (unsigned i = 0; i < sizeof urls / sizeof urls[0]; i++)
        address_is_refused(urls[i]);
    memset(long_path + 6, 'x', 108);
    address_is_refused(long_path);
}

static void ipc_mode_is_set(void **state)
{
    (void)state;
    const struct sp_listen_options options = {.handshake_ms = 5000, .handshaking_max = 4, .ipc_mode = 0600};
    struct server server = {0};
    char directory[64];
    char url[96];
    const char *reason;
    struct stat status;
    directory_make(directory);
    (void)snprintf(url, sizeof url, "ipc://%s/s", directory);
    monitor_init(&server.monitor);
    assert_int_equal(sp_listen(url, &options, &server_handlers, &server, &server.listener, &reason), WEIR_OK);
    assert_int_equal(stat(url + 6, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    server_fini(&server);
    directory_remove(directory);
}

static void dial_says_what_is_wrong(void **state)
{
    (void)state;
    struct server server;
    struct sp_pipe *pipe = NULL;
    const char *reason = NULL;
    char url[64];
    server_init(&server, "tcp://127.0.0.1:0", 5000);
    (void)snprintf(url, sizeof url, "%s", sp_listener_url(server.listener));
    assert_int_equal(sp_dial(url, SP_PAIR0, SP_REP0, WAIT_S * 1000, &pipe, &reason), WEIR_PROTOCOL);
    assert_int_equal(sp_dial(url, SP_PULL0, SP_PUSH0, WAIT_S * 1000, &pipe, &reason), WEIR_CLOSED);
    assert_string_equal(reason, "the listener refused the connection");
    server_fini(&server);
    assert_int_equal(sp_dial(url, SP_PAIR0, SP_PAIR0, WAIT_S * 1000, &pipe, &reason), WEIR_CONNECT);
    assert_string_equal(reason, "nobody listens there");
}

static void dial_gives_up_at_its_deadline(void **state)
{
    (void)state;
    struct sockaddr_in host = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof host;
    struct sp_pipe *pipe = NULL;
    const char *reason = NULL;
    char url[64];
    int raw = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(raw, (const void *)&host, sizeof host), 0);
    assert_int_equal(listen(raw, 4), 0);
    assert_int_equal(getsockname(raw, (void *)&host, &size), 0);
    (void)snprintf(url, sizeof url, "tcp://127.0.0.1:%u", ntohs(host.sin_port));
    uint64_t begin = clock_now_ns();
    assert_int_equal(sp_dial(url, SP_PAIR0, SP_PAIR0, 300, &pipe, &reason), WEIR_TIMEOUT);
    assert_true(clock_now_ns() - begin >= 290 * NS_PER_MS);
    close(raw);
}

/* Where the machine knows localhost as ::1 as well, the resolver may name that first, and nobody listens there. */
static void localhost_reaches_a_listener_on_127_0_0_1(void **state)
{
    (void)state;
    struct server server;
    struct end client;
    char url[64];
    server_init(&server, "tcp://127.0.0.1:0", 5000);
    (void)snprintf(url, sizeof url, "tcp://localhost%s", strrchr(sp_listener_url(server.listener), ':'));
    dial(&client, url);
    end_fini(&client);
    server_fini(&server);
}

/* The process has no descriptor left: accepting fails, is retried, and goes on once there are some. */
static void accepting_goes_on_after_descriptors_run_out(void **state)
{
    (void)state;
    struct server server;
    struct end client;
    struct rlimit before;
    server_init(&server, "tcp://127.0.0.1:0", 5000);
    dial(&client, sp_listener_url(server.listener));
    end_fini(&client);
    int raw = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in host = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    host.sin_port = htons((uint16_t)atoi(strrchr(sp_listener_url(server.listener), ':') + 1));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const struct rlimit none = {.rlim_cur = 3, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(connect(raw, (const void *)&host, sizeof host), 0);
    uint64_t deadline = clock_now_ns() + WAIT_S * NS_PER_S;
    while (sp_listener_accept_failures(server.listener) < 3 && clock_now_ns() < deadline)
        sched_yield();
    uint64_t failures = sp_listener_accept_failures(server.listener);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(failures >= 3);
    legitimate_connect_check(&server);
    close(raw);
    server_fini(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(listener_survives_10000_aborted_handshakes),
        cmocka_unit_test(slow_handshake_ends_at_its_deadline_even_when_bytes_drip),
        cmocka_unit_test(silent_peer_is_closed_at_the_deadline),
        cmocka_unit_test(peers_that_are_not_served_are_closed_without_an_answer),
        cmocka_unit_test(silent_strangers_make_room_for_newcomers),
        cmocka_unit_test(unwelcome_address_is_closed_before_the_handshake),
        cmocka_unit_test(second_listen_on_a_path_is_refused_and_harmless),
        cmocka_unit_test(second_listen_on_a_port_is_refused),
        cmocka_unit_test(stale_socket_is_removed_a_live_one_and_a_file_are_not),
        cmocka_unit_test(bad_addresses_are_refused_with_a_reason),
        cmocka_unit_test(ipc_mode_is_set),
        cmocka_unit_test(dial_says_what_is_wrong),
        cmocka_unit_test(dial_gives_up_at_its_deadline),
        cmocka_unit_test(localhost_reaches_a_listener_on_127_0_0_1),
        cmocka_unit_test(accepting_goes_on_after_descriptors_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
