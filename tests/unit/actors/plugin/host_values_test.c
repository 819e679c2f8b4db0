/* What goes between broker and child: references to what the message has, and values larger than the ring. */
#include "tests/unit/actors/plugin/host_fixture.h"

#define MISBEHAVE TEST_PLUGINS "/misbehave.so"
#define SUM TEST_PLUGINS "/sum.so"

/* However large that is. */
static void what_is_the_messages_own_is_not_told_again(void **state)
{
    static const uint8_t all = OUTPUT_SAME_TOPIC | OUTPUT_SAME_KEY | OUTPUT_SAME_VALUE;
    static uint8_t value[20000] = {0xc5, (sizeof value - 3) >> 8, (sizeof value - 3) & 0xff}; /* bin 16 */
    struct fixture fixture;
    struct plugin_spec spec = fixture_spec(MISBEHAVE);
    struct plugin_output output;
    (void)state;
    spec.ring_bytes = 4096;
    fixture_start(&fixture, &spec);
    for (uint64_t number = 1; number <= 4; number++) {
        enum weir_error error = WEIR_AGAIN;
        struct plugin_input input = input_message(number, "t", number % 2 > 0 ? "k" : NULL, "1");
        if (number > 2)
            input.message.value = weir_bytes_of(value, sizeof value);
        assert_int_equal(plugin_host_process.give(fixture.host, &input), WEIR_OK);
        plugin_host_process.flush(fixture.host);
        while (error == WEIR_AGAIN) {
            unsigned rings = fixture_rings(&fixture);
            error = plugin_host_process.take(fixture.host, &output, &fixture.end);
            if (error == WEIR_AGAIN)
                fixture_await(&fixture, rings);
        }
        assert_int_equal(error, WEIR_OK);
        assert_int_equal(output.kind, OUTPUT_EMIT);
        assert_int_equal(output.number, number);
        assert_int_equal(output.same, number % 2 > 0 ? all : all & ~OUTPUT_SAME_KEY);
        assert_int_equal(output.has_key, number % 2 > 0);
        assert_int_equal(output.topic.size + output.key.size + output.value.size, 0);
        assert_true(output.is_last);
    }
    fixture_stop(&fixture);
}

/* Larger than the ring either way: in pieces, whole at the end. What was held is no message's own any more. */
static void value_larger_than_the_ring_comes_through(void **state)
{
    struct fixture fixture;
    struct plugin_spec spec = fixture_spec(MISBEHAVE);
    struct plugin_output output;
    size_t size = 300000;
    static const uint8_t hold[] = {0x92, 0xa4, 'h', 'o', 'l', 'd'},
                         tell[] = {0x91, 0xa9, 't', 'e', 'l', 'l', '-', 'h', 'e', 'l', 'd'};
    uint8_t *record = malloc(sizeof hold + size + 5), *value = record + sizeof hold;
    (void)state;
    spec.ring_bytes = 4096;
    assert_non_null(record);
    fixture_start(&fixture, &spec);
    memcpy(record, hold, sizeof hold);
    value[0] = 0xc6; /* bin 32 */
    value[1] = 0;
    value[2] = (uint8_t)(size >> 16);
    value[3] = (uint8_t)(size >> 8);
    value[4] = (uint8_t)size;
    for (size_t i = 0; i < size; i++)
        value[5 + i] = (uint8_t)(i * 7);
    for (uint64_t number = 2; number <= 6; number += 2) {
        struct plugin_input input = input_message(number - 1, "t", "k", "1");
        input.message.value = weir_bytes_of(record, sizeof hold + size + 5);
        assert_int_equal(plugin_host_process.give(fixture.host, &input), WEIR_OK);
        plugin_host_process.flush(fixture.host);
        assert_int_equal(fixture_done(&fixture, number - 1), WEIR_ACTOR_OK);
        input.number = number;
        input.message.value = weir_bytes_of(tell, sizeof tell);
        assert_int_equal(plugin_host_process.give(fixture.host, &input), WEIR_OK);
        plugin_host_process.flush(fixture.host);
        fixture.recorder = (struct recorder){.room = 0};
        if (!fixture_take(&fixture, &output))
            fail_msg("%s", fixture.end.text);
        assert_int_equal(output.kind, OUTPUT_EMIT);
        assert_int_equal(output.value.size, sizeof hold + size + 5);
        assert_memory_equal(output.value.data, record, sizeof hold + size + 5);
        assert_int_equal(fixture_done(&fixture, number), WEIR_ACTOR_OK);
    }
    fixture_stop(&fixture);
    free(record);
}

/* Each as large as a value may be, and together more than a snapshot may have. */
static void update_and_merged_form_of_full_size_come_through(void **state)
{
    struct fixture fixture;
    struct plugin_spec spec = fixture_spec(SUM);
    struct plugin_output output;
    (void)state;
    spec.bounds.value_bytes_max = 4096;
    spec.bounds.snapshot_bytes_max = 1024;
    fixture_start(&fixture, &spec);
    (void)fixture_give(&fixture, "k", "\"both\"");
    if (!fixture_take(&fixture, &output))
        fail_msg("%s", fixture.end.text);
    assert_int_equal(output.kind, OUTPUT_EMIT);
    assert_int_equal(output.update_size, 4096);
    assert_int_equal(output.value.size, 2 * 4096);
    fixture_stop(&fixture);
}

int main(int argc, char **argv)
{
    processes_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_the_messages_own_is_not_told_again),
        cmocka_unit_test(value_larger_than_the_ring_comes_through),
        cmocka_unit_test(update_and_merged_form_of_full_size_come_through),
    };
    char why[PLUGIN_TEXT_SIZE];
    if (processes_open(why, sizeof why) != WEIR_OK) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (failed == 0)
        processes_close();
    return failed;
}
