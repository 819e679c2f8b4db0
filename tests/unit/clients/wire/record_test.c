/* Records and live-feed messages. */
#include "clients/wire/record.h"

#include "tests/unit/clients/wire/exact.h"

#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

#define NAME_3 'a', '/', 'b'

static enum weir_error next_of(struct view bytes, struct record *out)
{
    static struct exact exact; /* kept until the next call: *out has views into it */
    const char *reason = NULL;
    exact_free(&exact);
    exact = exact_of(bytes);
    struct view rest = exact.view;
    enum weir_error error = record_next(&rest, 16, out, &reason);
    if (error != WEIR_OK) {
        assert_true(rest.size == bytes.size);
        assert_true(error == WEIR_AGAIN || reason != NULL);
    }
    return error;
}

static void records_come_one_behind_the_other(void **state)
{
    (void)state;
    struct view rest = BYTES(0x92, 0xa3, NAME_3, 5, 0x93, 0xa1, 'c', 0xc0, 0xa1, 'k', 0x93, 0xa1, 'd', 0x91, 1, 0xc0);
    struct record record;
    assert_int_equal(record_next(&rest, 16, &record, NULL), WEIR_OK);
    assert_true(view_is_same(record.topic, view_text("a/b")));
    assert_int_equal(record.value.data[0], 5);
    assert_int_equal(record.key.size, 0);
    assert_int_equal(record_next(&rest, 16, &record, NULL), WEIR_OK);
    assert_true(view_is_same(record.key, BYTES(0xa1, 'k')));
    assert_int_equal(record.value.data[0], 0xc0);
    assert_int_equal(record_next(&rest, 16, &record, NULL), WEIR_OK);
    assert_int_equal(record.key.size, 0);
    assert_int_equal(record.value.size, 2);
    assert_int_equal(record_next(&rest, 16, &record, NULL), WEIR_AGAIN);
}

static void other_shapes_are_refused(void **state)
{
    (void)state;
    struct record record;
    assert_int_equal(next_of(view_of(NULL, 0), &record), WEIR_AGAIN);
    assert_int_equal(next_of(BYTES(0x91, 0xa1, 'a'), &record), WEIR_BAD_REQUEST);
    assert_int_equal(next_of(BYTES(0x94, 0xa1, 'a', 1, 0xc0, 0xc0), &record), WEIR_BAD_REQUEST);
    assert_int_equal(next_of(BYTES(0x80), &record), WEIR_BAD_REQUEST);
    assert_int_equal(next_of(BYTES(0xc1), &record), WEIR_BAD_REQUEST);
    assert_int_equal(next_of(BYTES(0x92, 5, 1), &record), WEIR_BAD_REQUEST);
    assert_int_equal(next_of(BYTES(0x92, 0xc4, 1, 'a', 1), &record), WEIR_BAD_REQUEST);
    assert_int_equal(next_of(BYTES(0x92, 0xa1, 'a', 0xc1), &record), WEIR_BAD_REQUEST);
    assert_int_equal(next_of(BYTES(0x92, 0xa1, 'a', 0xa1, 0xff), &record), WEIR_BAD_REQUEST);
    assert_int_equal(next_of(BYTES(0x93, 0xa1, 'a', 1, 5), &record), WEIR_BAD_REQUEST);
    assert_int_equal(next_of(BYTES(0x93, 0xa1, 'a', 1, 0xd9, 1, 'k'), &record), WEIR_BAD_REQUEST);
    assert_int_equal(next_of(BYTES(0xdd, 255, 255, 255, 255, 0xa1, 'a', 1), &record), WEIR_BAD_REQUEST);
    assert_int_equal(next_of(BYTES(0x92, 0xa1, 'a', 0xdf, 0x10, 0, 0, 0), &record), WEIR_BAD_REQUEST);
}

static void topics_are_checked_as_names(void **state)
{
    (void)state;
    struct record record;
    assert_int_equal(next_of(BYTES(0x92, 0xa0, 1), &record), WEIR_BAD_TOPIC);
    assert_int_equal(next_of(BYTES(0x92, 0xa1, '#', 1), &record), WEIR_BAD_TOPIC);
    assert_int_equal(next_of(BYTES(0x92, 0xa2, 'a', '/', 1), &record), WEIR_BAD_TOPIC);
    assert_int_equal(next_of(BYTES(0x92, 0xa2, 'a', 0, 1), &record), WEIR_BAD_TOPIC);
    assert_int_equal(next_of(BYTES(0x92, 0xa2, '.', '.', 1), &record), WEIR_OK);
    assert_int_equal(next_of(BYTES(0x92, 0xa2, '$', 'a', 1), &record), WEIR_OK);
}

static void values_deeper_than_allowed_are_refused(void **state)
{
    (void)state;
    uint8_t bytes[32] = {0x92, 0xa1, 'a'};
    struct record record;
    memset(bytes + 3, 0x91, 17);
    bytes[3 + 15] = 0x90;
    assert_int_equal(next_of(view_of(bytes, 3 + 16), &record), WEIR_OK);
    bytes[3 + 15] = 0x91;
    bytes[3 + 16] = 0x90;
    assert_int_equal(next_of(view_of(bytes, 3 + 17), &record), WEIR_BAD_REQUEST);
}

static size_t record_bytes(uint8_t *out, size_t capacity)
{
    struct record record = {.topic = view_text("a/b"),
                            .value = BYTES(0x82, 0xa1, 'x', 0x91, 1, 0xa1, 'y', 0xcb, 1, 2, 3, 4, 5, 6, 7, 8),
                            .key = BYTES(0xa3, 'k', 'e', 'y')};
    struct value_writer writer;
    value_writer_init(&writer, out, capacity);
    record_write(&writer, &record);
    assert_false(writer.is_full);
    return writer.size;
}

static void every_prefix_of_a_record_is_refused(void **state)
{
    (void)state;
    uint8_t bytes[64];
    size_t whole = record_bytes(bytes, sizeof bytes);
    struct record record;
    for (size_t cut = 1; cut < whole; cut++)
        assert_int_equal(next_of(view_of(bytes, cut), &record), WEIR_BAD_REQUEST);
    assert_int_equal(next_of(view_of(bytes, whole), &record), WEIR_OK);
}

static void what_reads_writes_and_reads_the_same(void **state)
{
    (void)state;
    uint64_t seed = (uint64_t)time(NULL) | 1, random = seed;
    print_message("seed %llu\n", (unsigned long long)seed);
    unsigned taken = 0;
    for (unsigned round = 0; round < 200000; round++) {
        uint8_t bytes[64], again[128];
        size_t size = record_bytes(bytes, sizeof bytes);
        bytes[random_next(&random) % size] = (uint8_t)random_next(&random);
        struct record record, second;
        if (next_of(view_of(bytes, size), &record) != WEIR_OK)
            continue;
        taken++;
        struct value_writer writer;
        value_writer_init(&writer, again, sizeof again);
        record_write(&writer, &record);
        struct view rest = view_of(again, writer.size);
        assert_int_equal(record_next(&rest, 16, &second, NULL), WEIR_OK);
        assert_int_equal(rest.size, 0);
        assert_true(view_is_same(record.topic, second.topic) && view_is_same(record.value, second.value) &&
                    view_is_same(record.key, second.key));
    }
    assert_true(taken > 1000);
}

static void live_messages_come_back_as_written(void **state)
{
    (void)state;
    uint8_t bytes[LIVE_HEAD_SIZE_MAX + 8];
    char topic[256] = "";
    static uint8_t key[3 + 1024] = {0xda, 4, 0};
    memset(topic, 't', 255);
    memset(key + 3, 'k', 1024);
    struct value_writer writer;
    value_writer_init(&writer, bytes, LIVE_HEAD_SIZE_MAX);
    live_head_write(&writer, view_text(topic), UINT64_MAX, view_of(key, sizeof key));
    assert_false(writer.is_full);
    writer.capacity = sizeof bytes;
    value_write_uint(&writer, 7);
    struct live live;
    assert_int_equal(live_read(view_of(bytes, writer.size), 16, &live), WEIR_OK);
    assert_true(view_is_same(live.topic, view_text(topic)) && live.seq == UINT64_MAX);
    assert_true(view_is_same(live.key, view_of(key, sizeof key)) && live.value.data[0] == 7);
    for (size_t cut = 0; cut < writer.size; cut++) {
        struct exact exact = exact_of(view_of(bytes, cut));
        assert_int_equal(live_read(exact.view, 16, &live), WEIR_BAD_REQUEST);
        exact_free(&exact);
    }
    assert_int_equal(live_read(BYTES('a', 0, 0x93, 1, 0xc0, 5, 5), 16, &live), WEIR_BAD_REQUEST);
    assert_int_equal(live_read(BYTES(0, 0x93, 1, 0xc0, 5), 16, &live), WEIR_BAD_TOPIC);
    assert_int_equal(live_read(BYTES('a', 0, 0x93, 1, 0xc0, 5), 16, &live), WEIR_OK);
    assert_int_equal(live.key.size, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_one_behind_the_other),   cmocka_unit_test(other_shapes_are_refused),
        cmocka_unit_test(topics_are_checked_as_names),         cmocka_unit_test(values_deeper_than_allowed_are_refused),
        cmocka_unit_test(every_prefix_of_a_record_is_refused), cmocka_unit_test(what_reads_writes_and_reads_the_same),
        cmocka_unit_test(live_messages_come_back_as_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
