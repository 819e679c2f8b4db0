/* PUSH peers: records reach topics, and nothing they say harms anybody else. */
#include "tests/unit/broker/gateway/world.h"

static void push_publishes_records(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    int fd = raw_dial(&world, SP_PUSH0);
    uint8_t body[1024];
    size_t size = body_record(body, sizeof body, "a/b", NULL, "one");
    size += body_record(body + size, sizeof body - size, "a/c", "k", "two");
    raw_message(fd, body, size);
    WAIT_UNTIL(world_seq(&world, "a/b") == 1 && world_seq(&world, "a/c") == 1);
    struct gateway_status status;
    gateway_status(world.gateway, &status);
    assert_int_equal(status.records_in, 2);
    assert_int_equal(status.records_accepted, 2);
    assert_int_equal(status.records_refused, 0);
    close(fd);
    WAIT_UNTIL(world_connections(&world) == 0);
    world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(push_publishes_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
