/* The plugin `top`: the guarantees of Space-Saving against exact counts, periods, emission, configuration. */
#include "tests/unit/actors/plugins/stage.h"

enum { KEYS = 400, RECORDS = 6000 };

static double number_of(const json_t *value, const char *name)
{
    const json_t *number = json_object_get(value, name);
    assert_true(json_is_number(number));
    return json_number_value(number);
}

/* The newest list that was emitted. */
static const json_t *last_list(const struct stage *stage)
{
    size_t count = json_array_size(stage->emitted);
    assert_true(count > 0);
    return json_object_get(json_array_get(stage->emitted, count - 1), "value");
}

/* Few keys are heavy, many light: the square of a uniform number, thrice over. */
static int key_of(uint64_t *random)
{
    double u = (double)random_below(random, 1 << 20) / (1 << 20);
    return (int)(u * u * u * u * KEYS);
}

static void check_guarantees(const json_t *list, const double exact[KEYS], double total, int counters, size_t k)
{
    const json_t *top = json_object_get(list, "top");
    bool is_listed[KEYS] = {false};
    double last = total;
    assert_int_equal(json_array_size(top), k);
    assert_true(number_of(list, "total") == total);
    assert_true(number_of(list, "missed_max") <= total / counters);
    for (size_t i = 0; i < k; i++) {
        const json_t *item = json_array_get(top, i);
        int key = (int)strtol(json_string_value(json_object_get(item, "key")) + 1, NULL, 10);
        double count = number_of(item, "count"), error = number_of(item, "error");
        assert_true(count >= exact[key] && count - error <= exact[key]);
        assert_true(error <= total / counters && count <= last);
        is_listed[key] = true;
        last = count;
    }
    /* What is not listed is no heavier than the last that is, and nothing that is missed above missed_max. */
    for (int key = 0; key < KEYS; key++)
        assert_true(is_listed[key] || exact[key] <= last);
}

static void run_against_exact_counts(uint64_t seed, int counters, bool is_weighted, bool restarts)
{
    double exact[KEYS] = {0}, total = 0;
    char config[128], value[64], key[16];
    struct stage stage;
    uint64_t random = seed;
    (void)snprintf(config, sizeof config, "{\"k\":8,\"counters\":%d,\"every_ms\":100%s}", counters,
                   is_weighted ? ",\"weight\":\"bytes\"" : "");
    stage_open(&stage, "top", WEIR_ACTOR_FOLD, config);
    for (int i = 0; i < RECORDS; i++) {
        int chosen = key_of(&random);
        double weight = is_weighted ? (double)random_below(&random, 1000) : 1;
        (void)snprintf(key, sizeof key, "k%d", chosen);
        (void)snprintf(value, sizeof value, "{\"bytes\":%.0f}", weight);
        assert_int_equal(stage_give(&stage, 1000 + (uint64_t)i, "t", key, value), WEIR_ACTOR_OK);
        exact[chosen] += weight;
        total += weight;
        if (restarts && random_below(&random, 100) == 0)
            stage_restart(&stage);
    }
    stage_advance(&stage, 1000 + RECORDS + 100);
    check_guarantees(last_list(&stage), exact, total, counters, 8);
    stage_close(&stage);
}

static void counts_are_within_the_guarantees(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        run_against_exact_counts(seed, 20, false, false);
        run_against_exact_counts(seed, 60, true, false);
        run_against_exact_counts(seed, 33, true, true);
    }
}

static void counts_are_exact_while_counters_suffice(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage, "top", WEIR_ACTOR_FOLD, "{\"k\":2,\"counters\":3,\"every_ms\":0}");
    static const char *const keys[] = {"b", "a", "a", "c", "b", "a"};
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        assert_int_equal(stage_give(&stage, i, "t", keys[i], "true"), WEIR_ACTOR_OK);
    json_t *last = json_incref(json_array_get(stage.emitted, 5));
    json_array_clear(stage.emitted);
    json_array_append_new(stage.emitted, last);
    assert_string_equal(stage_said(&stage), "t top {\"total\":6,\"missed_max\":1,\"top\":[{\"key\":\"a\",\"count\":3,"
                                            "\"error\":0},{\"key\":\"b\",\"count\":2,\"error\":0}]}\n");
    /* A fourth key takes over the lightest counter and says so. */
    assert_int_equal(stage_give(&stage, 9, "t", "d", "true"), WEIR_ACTOR_OK);
    assert_string_equal(stage_said(&stage), "t top {\"total\":7,\"missed_max\":2,\"top\":[{\"key\":\"a\",\"count\":3,"
                                            "\"error\":0},{\"key\":\"b\",\"count\":2,\"error\":0}]}\n");
    stage_close(&stage);
}

static void list_is_told_once_a_while_and_only_when_changed(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage, "top", WEIR_ACTOR_FOLD, "{\"k\":1,\"every_ms\":1000}");
    for (uint64_t i = 0; i < 50; i++)
        assert_int_equal(stage_give(&stage, 5000 + i, "t", "k", "1"), WEIR_ACTOR_OK);
    stage_advance(&stage, 5999);
    assert_string_equal(stage_said(&stage), "");
    stage_advance(&stage, 60000);
    assert_string_equal(stage_said(&stage),
                        "t top {\"total\":50,\"missed_max\":0,\"top\":[{\"key\":\"k\",\"count\":50,\"error\":0}]}\n");
    stage_close(&stage);
}

static void periods_begin_anew_and_are_closed(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage, "top", WEIR_ACTOR_PROCESSOR,
               "{\"k\":1,\"every_ms\":3000,\"period_ms\":1000,\"to\":\"heavy/{topic}\",\"by\":\"who\"}");
    assert_int_equal(stage_give(&stage, 5100, "t", NULL, "{\"who\":\"x\"}"), WEIR_ACTOR_OK);
    assert_int_equal(stage_give(&stage, 5200, "u", NULL, "{\"who\":7}"), WEIR_ACTOR_OK);
    stage_restart(&stage);
    stage_advance(&stage, 6000);
    assert_string_equal(stage_said(&stage),
                        "heavy/t top {\"start_ms\":5000,\"closed\":true,\"total\":1,\"missed_max\":0,\"top\":[{\"key\":"
                        "\"x\",\"count\":1,\"error\":0}]}\n"
                        "heavy/u top {\"start_ms\":5000,\"closed\":true,\"total\":1,\"missed_max\":0,\"top\":[{\"key\":"
                        "\"7\",\"count\":1,\"error\":0}]}\n");
    assert_int_equal(stage_give(&stage, 7900, "t", NULL, "{\"who\":\"y\"}"), WEIR_ACTOR_OK);
    stage_advance(&stage, 7999);
    assert_string_equal(stage_said(&stage), "");
    stage_advance(&stage, 8000);
    assert_non_null(strstr(stage_said(&stage), "\"start_ms\":7000,\"closed\":true"));
    stage_close(&stage);
}

static void records_without_what_is_wanted_are_refused_or_skipped(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage, "top", WEIR_ACTOR_FOLD, "{\"by\":\"who\",\"weight\":\"n\"}");
    assert_int_equal(stage_give(&stage, 1, "t", "k", "{\"n\":1}"), WEIR_ACTOR_REFUSED);
    assert_string_equal(stage.why, "the value has no text or number at 'who' to group it by");
    assert_int_equal(stage_give(&stage, 1, "t", "k", "{\"who\":1,\"n\":-1}"), WEIR_ACTOR_REFUSED);
    assert_string_equal(stage.why, "the value has no number of 0 or more at 'n' to weigh it by");
    stage_close(&stage);
    stage_open(&stage, "top", WEIR_ACTOR_PROCESSOR, "{\"by\":\"who\",\"to\":\"x\"}");
    assert_int_equal(stage_give(&stage, 1, "t", "k", "{}"), WEIR_ACTOR_OK);
    stage_close(&stage);
}

/* What a topic had before it was followed is counted as if it came now, unless the configuration says no. */
static void entries_are_counted_unless_told_otherwise(void **state)
{
    struct stage stage;
    (void)state;
    for (int takes = 0; takes < 2; takes++) {
        stage_open(&stage, "top", WEIR_ACTOR_PROCESSOR,
                   takes ? "{\"to\":\"x\",\"every_ms\":0}" : "{\"to\":\"x\",\"every_ms\":0,\"entries\":false}");
        assert_int_equal(stage_give_kind(&stage, WEIR_MESSAGE_ENTRY, 1, "t", "a", "1"), WEIR_ACTOR_OK);
        assert_int_equal(stage_give_kind(&stage, WEIR_MESSAGE_RESET, 1, "t", NULL, "null"), WEIR_ACTOR_OK);
        assert_int_equal(json_array_size(stage.emitted), (size_t)takes);
        stage_close(&stage);
    }
}

static void wrong_configuration_is_refused_with_the_reason(void **state)
{
    (void)state;
    stage_refuses("top", WEIR_ACTOR_FOLD, "{\"k\":0}", "'k' is 0, but must be a whole number from 1 to 1000");
    stage_refuses("top", WEIR_ACTOR_FOLD, "{\"k\":50,\"counters\":10}", "'counters' (10) must be at least 'k' (50)");
    stage_refuses("top", WEIR_ACTOR_FOLD, "{\"weight\":\"\"}", "'weight' must have 1 to 255 bytes, and has 0");
    stage_refuses("top", WEIR_ACTOR_FOLD, "{\"missing\":\"maybe\"}",
                  "'missing' is 'maybe', but must be skip or refuse");
    stage_refuses("top", WEIR_ACTOR_PROCESSOR, "{}", "'to' is missing");
    stage_refuses("top", WEIR_ACTOR_FOLD, "{\"every\":1}", "no key 'every'; there are: k, counters");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_within_the_guarantees),
        cmocka_unit_test(counts_are_exact_while_counters_suffice),
        cmocka_unit_test(list_is_told_once_a_while_and_only_when_changed),
        cmocka_unit_test(periods_begin_anew_and_are_closed),
        cmocka_unit_test(records_without_what_is_wanted_are_refused_or_skipped),
        cmocka_unit_test(entries_are_counted_unless_told_otherwise),
        cmocka_unit_test(wrong_configuration_is_refused_with_the_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
