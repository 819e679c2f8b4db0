/* The plugin `dedup`: against a naive list, by whole values and by fields, within counts and times, configuration. */
#include "tests/unit/actors/plugins/stage.h"

enum { COUNT_MAX = 20, WITHIN_MS = 300, RECORDS = 3000 };

struct seen {
    uint64_t time_ms;
    int id;
};

static void run_against_list(uint64_t seed, bool restarts)
{
    struct stage stage;
    struct seen list[COUNT_MAX];
    size_t count = 0, passed = 0;
    uint64_t random = seed, now_ms = 1000;
    stage_open(&stage, "dedup", WEIR_ACTOR_FOLD, "{\"by\":\"{value.id}\",\"count_max\":20,\"within_ms\":300}");
    for (int i = 0; i < RECORDS; i++) {
        char value[64];
        bool is_there = false;
        int id = (int)random_below(&random, 40);
        now_ms += random_below(&random, 30);
        while (count > 0 && list[0].time_ms + WITHIN_MS <= now_ms)
            memmove(list, list + 1, --count * sizeof *list);
        for (size_t at = 0; at < count; at++)
            is_there |= list[at].id == id;
        if (!is_there && count == COUNT_MAX)
            memmove(list, list + 1, --count * sizeof *list);
        if (!is_there)
            list[count++] = (struct seen){now_ms, id};
        passed += !is_there;
        (void)snprintf(value, sizeof value, "{\"id\":%d,\"n\":%d}", id, i);
        assert_int_equal(stage_give(&stage, now_ms, "t", "k", value), WEIR_ACTOR_OK);
        if (json_array_size(stage.emitted) != passed)
            fail_msg("seed %llu, record %d: %s", (unsigned long long)seed, i,
                     is_there ? "a repeat passed" : "left out");
        if (restarts && random_below(&random, 20) == 0)
            stage_restart(&stage);
    }
    assert_true(passed > 100 && passed < RECORDS);
    stage_close(&stage);
}

static void repeats_are_what_a_naive_list_says(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++)
        run_against_list(seed, seed % 2 == 0);
}

static void without_by_key_and_whole_value_tell_records_apart(void **state)
{
    struct stage stage;
    char large[1200];
    (void)state;
    memset(large, 'x', sizeof large);
    memcpy(large, "{\"a\":\"", 6);
    memcpy(large + sizeof large - 3, "\"}", 3);
    stage_open(&stage, "dedup", WEIR_ACTOR_PROCESSOR, "{\"to\":\"once/{topic}\"}");
    assert_int_equal(stage_give(&stage, 1, "t", "k", "{\"a\":1}"), WEIR_ACTOR_OK);
    assert_int_equal(stage_give(&stage, 2, "t", "k", "{\"a\":1}"), WEIR_ACTOR_OK);
    assert_int_equal(stage_give(&stage, 3, "t", "l", "{\"a\":1}"), WEIR_ACTOR_OK);
    assert_int_equal(stage_give(&stage, 4, "u", "k", "{\"a\":1}"), WEIR_ACTOR_OK);
    assert_int_equal(stage_give(&stage, 5, "t", NULL, "{\"a\":2}"), WEIR_ACTOR_OK);
    assert_string_equal(stage_said(&stage),
                        "once/t k {\"a\":1}\nonce/t l {\"a\":1}\nonce/u k {\"a\":1}\nonce/t - {\"a\":2}\n");
    /* Large ones by their hash, the key's included. */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(stage_give(&stage, 6, "t", "k", large), WEIR_ACTOR_OK);
        assert_int_equal(stage_give(&stage, 6, "t", "l", large), WEIR_ACTOR_OK);
        stage_restart(&stage);
    }
    assert_int_equal(json_array_size(stage.emitted), 2);
    stage_close(&stage);
}

static void repeats_are_refused_where_wanted(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage, "dedup", WEIR_ACTOR_FOLD, "{\"by\":\"{key}\",\"refuse_repeats\":true}");
    assert_int_equal(stage_give(&stage, 10, "t", "k", "1"), WEIR_ACTOR_OK);
    assert_int_equal(stage_give(&stage, 35, "t", "k", "2"), WEIR_ACTOR_REFUSED);
    assert_string_equal(stage.why, "a repeat of the record of 25 ms before");
    assert_int_equal(stage_give(&stage, 35, "t", NULL, "2"), WEIR_ACTOR_REFUSED);
    assert_string_equal(stage.why, "the record has no key, and a fold keeps values by key");
    stage_close(&stage);
}

static void a_smaller_window_keeps_the_newest(void **state)
{
    struct stage stage;
    uint8_t *config = NULL;
    size_t size = 0;
    (void)state;
    stage_open(&stage, "dedup", WEIR_ACTOR_FOLD, "{\"by\":\"{key}\"}");
    assert_int_equal(stage_give(&stage, 1, "t", "a", "1"), WEIR_ACTOR_OK);
    assert_int_equal(stage_give(&stage, 2, "t", "b", "1"), WEIR_ACTOR_OK);
    assert_int_equal(json_to_msgpack(view_text("{\"by\":\"{key}\",\"count_max\":1}"), 16, &config, &size, NULL),
                     WEIR_OK);
    rehearsal_configure(stage.rehearsal, view_of(config, size));
    stage_restart(&stage);
    (void)stage_said(&stage);
    assert_int_equal(stage_give(&stage, 3, "t", "b", "2"), WEIR_ACTOR_OK);
    assert_string_equal(stage_said(&stage), "");
    assert_int_equal(stage_give(&stage, 4, "t", "a", "2"), WEIR_ACTOR_OK);
    assert_string_equal(stage_said(&stage), "t a 2\n");
    stage_close(&stage);
    free(config);
}

static void wrong_configuration_is_refused_with_the_reason(void **state)
{
    (void)state;
    stage_refuses("dedup", WEIR_ACTOR_FOLD, "{\"by\":\"id\"}", "'by' names nothing of the record");
    stage_refuses("dedup", WEIR_ACTOR_FOLD, "{\"by\":\"{id}\"}", "in braces may stand");
    stage_refuses("dedup", WEIR_ACTOR_FOLD, "{\"count_max\":0}", "'count_max' is 0");
    stage_refuses("dedup", WEIR_ACTOR_FOLD, "{\"refuse_repeats\":1}",
                  "'refuse_repeats' must be true or false, and is a whole number");
    stage_refuses("dedup", WEIR_ACTOR_PROCESSOR, "null", "'to' is missing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeats_are_what_a_naive_list_says),
        cmocka_unit_test(without_by_key_and_whole_value_tell_records_apart),
        cmocka_unit_test(repeats_are_refused_where_wanted),
        cmocka_unit_test(a_smaller_window_keeps_the_newest),
        cmocka_unit_test(wrong_configuration_is_refused_with_the_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
