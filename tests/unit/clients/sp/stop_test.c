/* A listener that stops amid connections and handshakes. */
#include "tests/unit/clients/sp/harness.h"

#define STOPS 100
#define STOPS_PEERS 16

static void stop_ends_handshakes_and_leaves_connections(void **state)
{
    (void)state;
    struct server server;
    struct end client;
    struct end service;
    char text[2];
    server_init(&server, "tcp://127.0.0.1:0", 60000);
    dial(&client, sp_listener_url(server.listener));
    end_init(&service, server_take(&server));
    int raw = raw_connect(sp_listener_url(server.listener));
    MONITOR_WAIT(&server.monitor, server.accept_count == 2);
    sp_listener_stop(server.listener);
    assert_int_equal(server.refused_by[WEIR_CLOSED], 1);
    assert_true(end_send(&client, "ok", 2));
    assert_true(end_receive_all(&service, text, 2));
    close(raw);
    end_fini(&client);
    end_fini(&service);
    server_fini(&server);
}

/* A handshake may be between two steps when the listener stops: whoever then waits for the peer waits for ever. */
static void stop_comes_between_steps(const char *url)
{
    for (int i = 0; i < STOPS; i++) {
        struct server server;
        int raw[STOPS_PEERS];
        server_init(&server, url, 3600 * 1000);
        for (int k = 0; k < STOPS_PEERS; k++)
            raw[k] = raw_connect(sp_listener_url(server.listener));
        for (int k = 0; k < STOPS_PEERS; k++)
            assert_int_equal(send(raw[k], "\0SP", 3, MSG_NOSIGNAL), 3);
        sp_listener_stop(server.listener);
        server_fini(&server);
        for (int k = 0; k < STOPS_PEERS; k++)
            close(raw[k]);
    }
}

static void stop_does_not_wait_for_a_handshake_between_two_steps(void **state)
{
    (void)state;
    over_tcp_and_ipc(stop_comes_between_steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stop_ends_handshakes_and_leaves_connections),
        cmocka_unit_test(stop_does_not_wait_for_a_handshake_between_two_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
