/* Pollers that could not be started are started later. A program of its own, since they are there once they are. */
#include "tests/unit/clients/sp/harness.h"

#include <fcntl.h>
#include <sys/resource.h>

static void a_listener_without_descriptors_at_first_listens_later(void **state)
{
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(next >= 0);
    close(next);
    struct rlimit none_left = {.rlim_cur = (rlim_t)next, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none_left), 0);
    struct server server = {.ready_count = 0};
    const struct sp_listen_options options = {.handshake_ms = 5000, .handshaking_max = 4};
    const char *reason = NULL;
    for (int i = 0; i < 3; i++) {
        enum weir_error error =
            sp_listen("tcp://127.0.0.1:0", &options, &server_handlers, &server, &server.listener, &reason);
        assert_int_equal(error, WEIR_NO_MEMORY);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    struct end client, service;
    server_init(&server, "tcp://127.0.0.1:0", 5000);
    dial(&client, sp_listener_url(server.listener));
    end_init(&service, server_take(&server));
    char byte;
    assert_true(end_send(&client, "x", 1));
    assert_int_equal(end_receive(&service, &byte, 1), 1);
    end_fini(&client);
    end_fini(&service);
    server_fini(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listener_without_descriptors_at_first_listens_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
