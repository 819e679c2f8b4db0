/* What handlers may do: free another pipe, and send again and again; and when others run before they are called. */
#include "tests/unit/clients/sp/harness.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>

/* A pipe whose handler frees another one, as an actor does that has its turn inside a handler. */
struct successor {
    struct monitor monitor;
    struct sp_pipe *other;
    bool is_done, is_closed;
};

static void successor_received(void *owner, size_t size, enum weir_error error)
{
    struct successor *successor = owner;
    (void)size, (void)error;
    sp_pipe_destroy(&successor->other);
    pthread_mutex_lock(&successor->monitor.lock);
    successor->is_done = true;
    pthread_cond_broadcast(&successor->monitor.changed);
    pthread_mutex_unlock(&successor->monitor.lock);
}

static void successor_sent(void *owner, enum weir_error error) { (void)owner, (void)error; }

static void successor_closed(void *owner)
{
    struct successor *successor = owner;
    pthread_mutex_lock(&successor->monitor.lock);
    successor->is_closed = true;
    pthread_cond_broadcast(&successor->monitor.changed);
    pthread_mutex_unlock(&successor->monitor.lock);
}

static void a_closed_pipe_may_be_destroyed_in_the_handler_of_another(void **state)
{
    (void)state;
    static const struct sp_pipe_handlers handlers = {successor_received, successor_sent, successor_closed};
    struct server server;
    struct end victim, its_peer;
    struct end client;
    struct successor successor = {.is_done = false};
    char byte;
    server_init(&server, "tcp://127.0.0.1:0", 5000);
    dial(&its_peer, sp_listener_url(server.listener));
    end_init(&victim, server_take(&server));
    dial(&client, sp_listener_url(server.listener));
    struct sp_pipe *pipe = server_take(&server);
    monitor_init(&successor.monitor);
    successor.other = victim.pipe;
    sp_pipe_start(pipe, &handlers, &successor);
    sp_pipe_close(victim.pipe);
    MONITOR_WAIT(&victim.monitor, victim.closed_count == 1);
    sp_pipe_receive(pipe, &byte, 1);
    assert_true(end_send(&client, "x", 1));
    MONITOR_WAIT(&successor.monitor, successor.is_done);
    assert_null(successor.other);
    sp_pipe_close(pipe);
    MONITOR_WAIT(&successor.monitor, successor.is_closed);
    sp_pipe_destroy(&pipe);
    monitor_fini(&successor.monitor);
    monitor_fini(&victim.monitor);
    end_fini(&client);
    end_fini(&its_peer);
    server_fini(&server);
}

/* An end whose handlers themselves send: the first byte at a receive, then the next one whenever one is sent. */
#define CHAIN_LENGTH 100

static void chain_send(struct end *end)
{
    static const char byte = 'x';
    const struct iovec part = {.iov_base = (void *)(uintptr_t)&byte, .iov_len = 1};
    sp_pipe_send(end->pipe, &part, 1);
}

static void chain_received(void *owner, size_t size, enum weir_error error)
{
    end_received(owner, size, error);
    if (error == WEIR_OK)
        chain_send(owner);
}

static void chain_sent(void *owner, enum weir_error error)
{
    struct end *end = owner;
    end_sent(end, error);
    if (error == WEIR_OK && end->sent_count < CHAIN_LENGTH)
        chain_send(end);
}

static void chain_check(const char *url)
{
    static const struct sp_pipe_handlers chain_handlers = {chain_received, chain_sent, end_closed};
    struct server server;
    struct end client, service;
    char first, rest[CHAIN_LENGTH];
    server_init(&server, url, 5000);
    dial(&client, sp_listener_url(server.listener));
    service = (struct end){.pipe = server_take(&server)};
    monitor_init(&service.monitor);
    sp_pipe_start(service.pipe, &chain_handlers, &service);
    sp_pipe_receive(service.pipe, &first, 1);
    assert_true(end_send(&client, "x", 1));
    assert_true(end_receive_all(&client, rest, CHAIN_LENGTH));
    MONITOR_WAIT(&service.monitor, service.sent_count == CHAIN_LENGTH);
    end_fini(&client);
    end_fini(&service);
    server_fini(&server);
}

static void handlers_may_send_more_than_a_pipe_does_in_its_turn(void **state)
{
    (void)state;
    over_tcp_and_ipc(chain_check);
}

static atomic_uint yields;

/* In the place of the C library's. */
int sched_yield(void)
{
    atomic_fetch_add(&yields, 1);
    return (int)syscall(SYS_sched_yield);
}

static void gather_and_exchange(const char *url)
{
    struct server server;
    struct end client, service;
    char byte;
    server_init(&server, url, 5000);
    dial(&client, sp_listener_url(server.listener));
    end_init(&service, server_take(&server));
    uint64_t deadline = clock_now_ns() + WAIT_S * NS_PER_S;
    for (int gathers = 0; gathers < 2; gathers++) {
        sp_pipe_gather(service.pipe, gathers);
        atomic_store(&yields, 0);
        for (int i = 0; i < 100 || (gathers && atomic_load(&yields) == 0 && clock_now_ns() < deadline); i++) {
            assert_true(end_send(&client, "x", 1));
            assert_int_equal(end_receive(&service, &byte, 1), 1);
        }
        assert_int_equal(atomic_load(&yields) > 0, gathers);
    }
    end_fini(&client);
    end_fini(&service);
    server_fini(&server);
}

static void who_gathers_lets_others_run_before_it_receives(void **state)
{
    (void)state;
    over_tcp_and_ipc(gather_and_exchange);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_closed_pipe_may_be_destroyed_in_the_handler_of_another),
        cmocka_unit_test(handlers_may_send_more_than_a_pipe_does_in_its_turn),
        cmocka_unit_test(who_gathers_lets_others_run_before_it_receives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
