/* The gateway as a whole: who may connect, who is cut, what is counted, and that all of it ends. */
#include <sys/un.h>

#include "tests/unit/broker/gateway/blocker.h"

static void few_connections(struct gateway_config *config)
{
    config->connections_max = 20;
    config->connections_per_address_max = 5;
}

static void quick_handshake(struct gateway_config *config) { config->handshake_ms = 1000; }

static bool is_served(const struct world *world)
{
    int fd = raw_connect(world);
    uint8_t header[SP_HEADER_SIZE];
    sp_header_write(header, SP_REQ0);
    bool is_sent = send(fd, header, sizeof header, MSG_NOSIGNAL) == sizeof header;
    bool is_answered = is_sent && raw_receive(fd, header, sizeof header);
    close(fd);
    return is_answered;
}

static void connections_of_one_address_are_bounded(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, few_connections);
    int fds[5];
    for (int i = 0; i < 5; i++)
        fds[i] = raw_dial(&world, SP_PUSH0);
    for (int i = 0; i < 10; i++)
        assert_false(is_served(&world));
    assert_int_equal(world_refusals(&world, REFUSAL_ADDRESS), 10);
    close(fds[0]);
    WAIT_UNTIL(world_connections(&world) == 4);
    assert_true(is_served(&world));
    for (int i = 1; i < 5; i++)
        close(fds[i]);
    struct gateway_status status; /* the last one may still be on its way in */
    WAIT_UNTIL((gateway_status(world.gateway, &status), status.accepted_connections == 6 && status.connections == 0));
    struct gateway_config config;
    gateway_config_get(world.gateway, &config);
    config.connections_per_address_max = 0;
    config.connections_max = 7;
    const char *reason = NULL;
    assert_int_equal(gateway_config_set(world.gateway, &config, &reason), WEIR_OK);
    assert_null(reason);
    int more[7];
    for (int i = 0; i < 7; i++)
        more[i] = raw_dial(&world, SP_PUSH0);
    assert_false(is_served(&world));
    assert_int_equal(world_refusals(&world, REFUSAL_CONNECTIONS), 1);
    for (int i = 0; i < 7; i++)
        close(more[i]);
    world_stop(&world);
}

static void strangers_are_refused_and_the_next_client_is_served(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } hellos[] = {
        {"", 0},
        {"GET / HTTP/1.1\r\n\r\n", 18},
        {"\x16\3\1\0\xa5\1\0\0\xa1\3\3", 11},
        {"\0SP\1\0\x50\0\0", 8},
        {"\0SP\0\0\x51\0\0", 8},
        {"\0SP\0\0\x62\0\0", 8},
        {"\0SP\0\0\x50\0", 7},
    };
    struct world world;
    world_start(&world, NULL, quick_handshake);
    for (size_t i = 0; i < sizeof hellos / sizeof hellos[0]; i++) {
        int fd = raw_connect(&world);
        raw_send(fd, hellos[i].bytes, hellos[i].size);
        raw_expect_end(fd);
        assert_true(is_served(&world));
    }
    /* Sessions are not served by this gateway. */
    int fd = raw_connect(&world);
    raw_send(fd, "\0SP\0\0\x10\0\0", 8);
    uint8_t header[SP_HEADER_SIZE];
    (void)raw_receive(fd, header, sizeof header);
    raw_expect_end(fd);
    assert_int_equal(world_refusals(&world, REFUSAL_PROTOCOL_UNSERVED), 1);
    assert_true(is_served(&world));
    world_stop(&world);
}

static void aborted_connections_leave_the_listener_alive(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    for (int i = 0; i < 300; i++) {
        int fd = raw_connect(&world);
        if (i % 3 == 1)
            raw_send(fd, "\0SP", 3);
        struct linger reset = {.l_onoff = 1};
        if (i % 2)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
    }
    assert_true(is_served(&world));
    WAIT_UNTIL(world_connections(&world) == 0);
    world_stop(&world);
}

static void idle_soon(struct gateway_config *config) { config->idle_ms = 100; }

static void silent_peers_are_cut_where_that_is_asked_for(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, idle_soon);
    int fd = raw_dial(&world, SP_PUSH0);
    raw_expect_end(fd);
    assert_int_equal(world_refusals(&world, REFUSAL_IDLE), 1);
    world_stop(&world);
}

static void ipc_listeners_serve_too(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    char folder[] = "/tmp/gateway-test-XXXXXX", url[128], path[108];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/socket", folder);
    snprintf(url, sizeof url, "ipc://%s", path);
    const char *reason = "";
    if (gateway_listen(world.gateway, url, &reason) != WEIR_OK)
        fail_msg("listen: %s", reason);
    assert_string_equal(gateway_listener_url(world.gateway, 1), url);
    assert_null(gateway_listener_url(world.gateway, 2));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path) + 1);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    uint8_t header[SP_HEADER_SIZE], body[64], prefix[9];
    sp_header_write(header, SP_PUSH0);
    raw_send(fd, header, sizeof header);
    assert_true(raw_receive(fd, header, sizeof header));
    size_t size = body_record(body, sizeof body, "local", NULL, "x");
    sp_prefix_write(prefix, true, size);
    raw_send(fd, prefix, sizeof prefix);
    raw_send(fd, body, size);
    WAIT_UNTIL(world_seq(&world, "local") == 1);
    prefix[0] = 2; /* no message */
    raw_send(fd, prefix, sizeof prefix);
    raw_expect_end(fd);
    assert_int_equal(world_refusals(&world, REFUSAL_FRAMING), 1);
    world_stop(&world);
    unlink(path);
    rmdir(folder);
}

static void a_drain_cuts_what_topics_hold_back_at_its_deadline(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    struct blocker blocker;
    blocker_start(&blocker, &world, "slow/a");
    int held = raw_dial(&world, SP_PUSH0);
    WAIT_UNTIL(world_connections(&world) == 1); /* so that the first connection is this one */
    int idle = raw_dial(&world, SP_PUSH0);
    uint8_t body[256];
    for (int i = 0; i < 300; i++) {
        size_t size = body_record(body, sizeof body, "slow/a", NULL,
                                  "0123456789012345678901234567890123456789012345678901234567890123456789");
        raw_message(held, body, size);
    }
    WAIT_UNTIL(world_connection(&world).blocked_on[0] != '\0');
    assert_int_equal(gateway_drain(world.gateway, 1000), 1);
    raw_expect_end(idle);
    close(held);
    struct gateway_status status;
    gateway_status(world.gateway, &status);
    assert_int_equal(status.connections, 0);
    assert_int_equal(status.records_in, status.records_accepted + status.records_refused);
    assert_true(status.refusals[REFUSAL_CONNECTION_ENDED] > 0);
    world_stop(&world);
}

struct occupation {
    atomic_int taken, is_over; /* the first by workers, the other by the test; nothing hangs on their order */
};

/* Keeps its worker until the occupation is over. */
static enum weir_error occupy(struct turn *turn, void *state, const void *args)
{
    struct occupation *occupation = *(struct occupation *const *)args;
    (void)state;
    atomic_fetch_add(&occupation->taken, 1);
    WAIT_UNTIL(atomic_load(&occupation->is_over));
    turn_exit(turn, WEIR_OK);
    return WEIR_OK;
}

static enum weir_error ignore(struct turn *turn, void *state, struct message *message)
{
    (void)turn, (void)state, (void)message;
    return WEIR_OK;
}

static const struct behaviour occupier = {
    .name = "occupier", .state_size = sizeof(struct occupation *), .on_start = occupy, .on_message = ignore};

static void a_connection_that_starts_when_the_drain_has_begun_is_drained_too(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    struct occupation occupation = {0};
    const struct occupation *args = &occupation;
    weir_actor actor;
    for (int i = 1; i <= 2; i++) {
        assert_int_equal(actor_spawn(world.runtime, &occupier, &args, sizeof args, NULL, &actor), WEIR_OK);
        WAIT_UNTIL(atomic_load(&occupation.taken) == i);
    }
    int fd = raw_dial(&world, SP_PUSH0); /* the poller greets it; no worker is left to start it */
    WAIT_UNTIL(world_connections(&world) == 1);
    assert_int_equal(gateway_drain(world.gateway, 0), 1);
    atomic_store(&occupation.is_over, 1);
    raw_expect_end(fd);
    WAIT_UNTIL(world_connections(&world) == 0);
    world_stop(&world);
}

static void stopping_the_runtime_under_traffic_leaves_nothing(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    int fds[30];
    uint8_t body[4096];
    for (int i = 0; i < 30; i++) {
        fds[i] = raw_dial(&world, i % 3 == 0 ? SP_SUB0 : SP_PUSH0);
        if (i % 3 == 0)
            continue;
        size_t size = 0;
        for (int n = 0; n < 50; n++)
            size += body_record(body + size, sizeof body - size, n % 2 ? "log/a" : "map/b", "k", "value");
        raw_message(fds[i], body, size);
        raw_send(fds[i], "\0\0\0\0\0\0\1\0cut", 11);
    }
    /* No drain: actors are ended wherever they are. */
    runtime_stop(world.runtime);
    gateway_destroy(&world.gateway);
    directory_destroy(&world.directory);
    runtime_destroy(&world.runtime);
    assert_int_equal(arena_leaks_report(world.arena, world_on_leak, NULL), 0);
    arena_destroy(&world.arena);
    for (int i = 0; i < 30; i++)
        close(fds[i]);
}

static void bounds_out_of_range_are_refused(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    struct gateway_config config = world.config;
    const char *reason = NULL;
    config.depth_max = 0;
    assert_int_equal(gateway_config_set(world.gateway, &config, &reason), WEIR_BAD_REQUEST);
    assert_string_equal(reason, "depth_max");
    config = world.config;
    config.message_size_max = 1;
    assert_int_equal(gateway_config_set(world.gateway, &config, &reason), WEIR_BAD_REQUEST);
    config = world.config;
    config.handshaking_max++;
    assert_int_equal(gateway_config_set(world.gateway, &config, &reason), WEIR_OK);
    assert_string_equal(reason, "handshaking_max needs a restart");
    gateway_stop_accepting(world.gateway);
    assert_int_equal(gateway_listen(world.gateway, "tcp://127.0.0.1:0", &reason), WEIR_CLOSED);
    world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_of_one_address_are_bounded),
        cmocka_unit_test(strangers_are_refused_and_the_next_client_is_served),
        cmocka_unit_test(aborted_connections_leave_the_listener_alive),
        cmocka_unit_test(silent_peers_are_cut_where_that_is_asked_for),
        cmocka_unit_test(ipc_listeners_serve_too),
        cmocka_unit_test(a_drain_cuts_what_topics_hold_back_at_its_deadline),
        cmocka_unit_test(a_connection_that_starts_when_the_drain_has_begun_is_drained_too),
        cmocka_unit_test(stopping_the_runtime_under_traffic_leaves_nothing),
        cmocka_unit_test(bounds_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
