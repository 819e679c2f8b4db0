/* Messages larger than the blocks that a stream is read into. */
#include "tests/unit/broker/gateway/asking.h"

/* A record with a text of any size, which body_record has no room for. */
static size_t large_record(uint8_t *out, size_t capacity, const char *topic, struct view text)
{
    struct value_writer writer;
    value_writer_init(&writer, out, capacity);
    value_write_array(&writer, 2);
    value_write_str(&writer, view_text(topic));
    value_write_str(&writer, text);
    assert_false(writer.is_full);
    return writer.size;
}

/* Large messages in a row, each with a letter of its own, small ones between them. */
static void large_messages_follow_one_another_whole(void **state)
{
    (void)state;
    enum { LARGE = 3, SIZE = 300000 };
    struct world world;
    world_start(&world, NULL, NULL);
    static char value[SIZE + 1];
    static uint8_t body[SIZE + 64], reply[1 << 20];
    int fd = raw_dial(&world, SP_PUSH0);
    for (int i = 0; i < LARGE; i++) {
        memset(value, 'a' + i, SIZE);
        value[SIZE - 1000 * i] = '\0';
        raw_message(fd, body, large_record(body, sizeof body, "log/large", view_text(value)));
        raw_message(fd, body, body_record(body, sizeof body, "log/large", NULL, "small"));
    }
    WAIT_UNTIL(world_seq(&world, "log/large") == 2 * LARGE);
    struct view found = log_state(&world, "log/large", reply, sizeof reply);
    struct value_reader reader;
    value_reader_init(&reader, found, 4);
    assert_int_equal(value_read_array(&reader), 2 * LARGE);
    for (int i = 0; i < LARGE; i++) {
        memset(value, 'a' + i, SIZE);
        assert_true(view_is_same(value_read_str(&reader), view_of(value, (size_t)SIZE - 1000 * (size_t)i)));
        assert_true(view_is_same(value_read_str(&reader), view_text("small")));
    }
    close(fd);
    world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_messages_follow_one_another_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
