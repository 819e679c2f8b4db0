/* The plugin `window`: against a naive model, by broker's and by records' time, quantiles, bounds, configuration. */
#include "tests/unit/actors/plugins/stage.h"

#include <math.h>

enum { RECORDS_MAX = 4000, KEYS = 5 };

struct record {
    uint64_t time_ms;
    int key;
    double number;
};

struct model {
    struct record records[RECORDS_MAX];
    size_t count;
    uint64_t size_ms, slide_ms;
};

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The numbers of a key's window, sorted. */
static size_t model_window(const struct model *model, int key, uint64_t end_ms, double out[RECORDS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < model->count; i++) {
        const struct record *record = &model->records[i];
        if (record->key == key && record->time_ms < end_ms && record->time_ms + model->size_ms >= end_ms)
            out[count++] = record->number;
    }
    qsort(out, count, sizeof *out, by_number);
    return count;
}

static double number_of(const json_t *value, const char *name)
{
    const json_t *number = json_object_get(value, name);
    assert_true(json_is_number(number));
    return json_number_value(number);
}

static void assert_near(double got, double wanted, double part)
{
    if (fabs(got - wanted) > part * fabs(wanted) + 1e-9)
        fail_msg("got %.17g, wanted %.17g", got, wanted);
}

static void check_window(const struct model *model, int key, const json_t *value)
{
    static double numbers[RECORDS_MAX];
    uint64_t end_ms = (uint64_t)number_of(value, "end_ms");
    size_t count = model_window(model, key, end_ms, numbers);
    double sum = 0;
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++)
        sum += numbers[i];
    assert_int_equal(number_of(value, "start_ms"), end_ms - model->size_ms);
    assert_int_equal(number_of(value, "count"), count);
    assert_true(fabs(number_of(value, "sum") - sum) < 1e-6);
    assert_true(fabs(number_of(value, "mean") - sum / (double)count) < 1e-6);
    assert_near(number_of(value, "min"), numbers[0], 0);
    assert_near(number_of(value, "max"), numbers[count - 1], 0);
    assert_near(number_of(value, "p50"), numbers[(size_t)(0.5 * (double)(count - 1))], 0.0101);
    assert_near(number_of(value, "p90"), numbers[(size_t)(0.9 * (double)(count - 1))], 0.0101);
}

/* Every window that has records is emitted once, with what the model says, restarts or not. */
static void run_against_model(uint64_t seed, uint64_t size_ms, uint64_t slide_ms, bool restarts)
{
    static struct model model;
    static double numbers[RECORDS_MAX];
    char config[256], value[64];
    struct stage stage;
    uint64_t random = seed, now_ms = UINT64_C(1796000000000) + random_below(&random, 5000);
    model = (struct model){.size_ms = size_ms, .slide_ms = slide_ms};
    (void)snprintf(config, sizeof config,
                   "{\"size_ms\":%llu,\"slide_ms\":%llu,\"field\":\"v.0\",\"quantiles\":[0.5,0.9]}",
                   (unsigned long long)size_ms, (unsigned long long)slide_ms);
    stage_open(&stage, "window", WEIR_ACTOR_FOLD, config);
    while (model.count < RECORDS_MAX) {
        struct record *record = &model.records[model.count++];
        now_ms += random_below(&random, 100) == 0 ? random_below(&random, size_ms * 3) : random_below(&random, 40);
        *record = (struct record){now_ms, (int)random_below(&random, KEYS),
                                  ((double)random_below(&random, 200001) - 100000) / 64};
        char key[2] = {(char)('a' + record->key), '\0'};
        (void)snprintf(value, sizeof value, "{\"v\":[%.17g]}", record->number);
        assert_int_equal(stage_give(&stage, now_ms, "t", key, value), WEIR_ACTOR_OK);
        if (restarts && random_below(&random, 50) == 0)
            stage_restart(&stage);
    }
    stage_advance(&stage, now_ms + 2 * size_ms);
    size_t index = 0, wanted = 0;
    json_t *record = NULL;
    json_array_foreach(stage.emitted, index, record) check_window(
        &model, json_string_value(json_object_get(record, "key"))[0] - 'a', json_object_get(record, "value"));
    for (uint64_t end_ms = model.records[0].time_ms / slide_ms * slide_ms; end_ms < now_ms + 2 * size_ms;
         end_ms += slide_ms) {
        for (int key = 0; key < KEYS; key++)
            wanted += model_window(&model, key, end_ms, numbers) > 0;
    }
    if (json_array_size(stage.emitted) != wanted)
        fail_msg("seed %llu: %zu windows emitted, %zu wanted", (unsigned long long)seed, json_array_size(stage.emitted),
                 wanted);
    stage_close(&stage);
}

static void windows_are_what_a_naive_model_says(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2; seed++) {
        run_against_model(seed, 1000, 1000, false);
        run_against_model(seed, 1000, 250, false);
        run_against_model(seed, 6000, 100, true);
        run_against_model(seed, 700, 700, true);
    }
}

static void windows_close_by_the_clock_when_nothing_comes(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage, "window", WEIR_ACTOR_FOLD, "{\"size_ms\":1000,\"remove_idle\":true}");
    assert_int_equal(stage_give(&stage, 5100, "t", "k", "4"), WEIR_ACTOR_OK);
    assert_string_equal(stage_said(&stage), "");
    stage_advance(&stage, 5999);
    assert_string_equal(stage_said(&stage), "");
    stage_advance(&stage, 6000);
    assert_string_equal(stage_said(&stage),
                        "t k {\"start_ms\":5000,\"end_ms\":6000,\"count\":1,\"sum\":4.0,\"mean\":4.0,"
                        "\"min\":4.0,\"max\":4.0,\"closed\":true}\nt k null\n");
    uint64_t next_ms = 0;
    assert_false(rehearsal_next(stage.rehearsal, &next_ms));
    stage_close(&stage);
}

static void records_time_closes_windows_and_waits_for_late_ones(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(
        &stage, "window", WEIR_ACTOR_PROCESSOR,
        "{\"size_ms\":100,\"time\":\"at\",\"field\":\"v\",\"lateness_ms\":50,\"to\":\"out/{topic.1}\",\"by\":\"who\"}");
    assert_int_equal(stage_give(&stage, 9000, "in/x", NULL, "{\"at\":120,\"v\":1,\"who\":\"a\"}"), WEIR_ACTOR_OK);
    assert_int_equal(stage_give(&stage, 9000, "in/x", NULL, "{\"at\":210,\"v\":2,\"who\":\"a\"}"), WEIR_ACTOR_OK);
    /* Late, but waited for. */
    assert_int_equal(stage_give(&stage, 9000, "in/x", NULL, "{\"at\":199,\"v\":4,\"who\":\"a\"}"), WEIR_ACTOR_OK);
    assert_string_equal(stage_said(&stage), "");
    assert_int_equal(stage_give(&stage, 9000, "in/x", NULL, "{\"at\":251,\"v\":8,\"who\":\"b\"}"), WEIR_ACTOR_OK);
    assert_string_equal(stage_said(&stage), "out/x a {\"start_ms\":100,\"end_ms\":200,\"count\":2,\"sum\":5.0,"
                                            "\"mean\":2.5,\"min\":1.0,\"max\":4.0,\"closed\":true}\n");
    /* Too late: left out, and said in the log. */
    assert_int_equal(stage_give(&stage, 9000, "in/x", NULL, "{\"at\":150,\"v\":16,\"who\":\"a\"}"), WEIR_ACTOR_OK);
    assert_string_equal(stage_said(&stage), "");
    assert_int_equal(stage.logged, 1);
    /* One wrong clock closes nothing. */
    assert_int_equal(stage_give(&stage, 9000, "in/x", NULL, "{\"at\":99999999,\"v\":1,\"who\":\"a\"}"), WEIR_ACTOR_OK);
    assert_string_equal(stage_said(&stage), "");
    stage_close(&stage);
}

static void each_record_is_told_where_wanted(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage, "window", WEIR_ACTOR_FOLD, "{\"size_ms\":100,\"emit\":\"each\"}");
    assert_int_equal(stage_give(&stage, 10, "t", NULL, "3"), WEIR_ACTOR_OK);
    assert_int_equal(stage_give(&stage, 20, "t", NULL, "5"), WEIR_ACTOR_OK);
    assert_string_equal(
        stage_said(&stage),
        "t all {\"start_ms\":0,\"end_ms\":100,\"count\":1,\"sum\":3.0,\"mean\":3.0,\"min\":3.0,\"max\":3.0,"
        "\"closed\":false}\n"
        "t all {\"start_ms\":0,\"end_ms\":100,\"count\":2,\"sum\":8.0,\"mean\":4.0,\"min\":3.0,\"max\":5.0,"
        "\"closed\":false}\n");
    stage_close(&stage);
}

/* Numbers over 24 decades and both signs; then so many that the smallest share a bucket, which the greatest never see.
 */
static void quantiles_keep_their_accuracy(void **state)
{
    static double numbers[RECORDS_MAX];
    static const double q[] = {0, 0.01, 0.25, 0.5, 0.75, 0.99, 1};
    static const char *const names[] = {"p0", "p1", "p25", "p50", "p75", "p99", "p100"};
    (void)state;
    for (int is_narrow = 0; is_narrow < 2; is_narrow++) {
        struct stage stage;
        char value[64];
        uint64_t random = 7;
        stage_open(&stage, "window", WEIR_ACTOR_FOLD,
                   is_narrow ? "{\"size_ms\":1000,\"quantiles\":[0,0.01,0.25,0.5,0.75,0.99,1],\"buckets_max\":300}"
                             : "{\"size_ms\":1000,\"quantiles\":[0,0.01,0.25,0.5,0.75,0.99,1],\"buckets_max\":8192}");
        for (int i = 0; i < RECORDS_MAX; i++) {
            double magnitude = pow(10, (double)random_below(&random, 240) / 10 - 12);
            numbers[i] = is_narrow || random_below(&random, 2) == 0 ? magnitude : -magnitude;
            (void)snprintf(value, sizeof value, "%.17g", numbers[i]);
            assert_int_equal(stage_give(&stage, 500, "t", "k", value), WEIR_ACTOR_OK);
        }
        stage_restart(&stage);
        stage_advance(&stage, 2000);
        qsort(numbers, RECORDS_MAX, sizeof *numbers, by_number);
        const json_t *emitted = json_object_get(json_array_get(stage.emitted, 0), "value");
        for (size_t i = is_narrow ? 5 : 0; i < COUNT_OF(q); i++)
            assert_near(number_of(emitted, names[i]), numbers[(size_t)(q[i] * (RECORDS_MAX - 1))], 0.0101);
        stage_close(&stage);
    }
}

static void keys_and_memory_are_bounded(void **state)
{
    struct stage stage;
    struct runner_bounds bounds = {.memory_bytes_max = 40000};
    char key[16];
    int taken = 0;
    (void)state;
    stage_open(&stage, "window", WEIR_ACTOR_FOLD, "{\"size_ms\":1000,\"keys_max\":2}");
    assert_int_equal(stage_give(&stage, 100, "t", "a", "1"), WEIR_ACTOR_OK);
    assert_int_equal(stage_give(&stage, 100, "t", "b", "1"), WEIR_ACTOR_OK);
    assert_int_equal(stage_give(&stage, 100, "t", "c", "1"), WEIR_ACTOR_REFUSED);
    assert_string_equal(stage.why, "keys_max: windows of 2 keys are open");
    assert_int_equal(stage_give(&stage, 100, "t", "a", "1"), WEIR_ACTOR_OK);
    /* Once their windows are over there is room again. */
    assert_int_equal(stage_give(&stage, 1100, "t", "c", "1"), WEIR_ACTOR_OK);
    stage_close(&stage);
    assert_int_equal(stage_try(&stage, "window", WEIR_ACTOR_FOLD, "{\"size_ms\":1000}", &bounds), WEIR_OK);
    enum weir_actor_result result = WEIR_ACTOR_OK;
    for (; result == WEIR_ACTOR_OK && taken < 1000; taken++) {
        (void)snprintf(key, sizeof key, "%d", taken);
        result = stage_give(&stage, 100, "t", key, "1");
    }
    assert_int_equal(result, WEIR_ACTOR_FAILED);
    assert_non_null(strstr(stage.why, "raise memory_bytes_max"));
    stage_close(&stage);
}

/* A thousand keys are closed in several steps, each within what one message may emit. */
static void many_keys_are_closed_in_steps(void **state)
{
    struct stage stage;
    struct runner_bounds bounds = {.emits_max = 256};
    char key[16];
    (void)state;
    assert_int_equal(stage_try(&stage, "window", WEIR_ACTOR_FOLD, "{\"size_ms\":1000}", &bounds), WEIR_OK);
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(key, sizeof key, "%d", i);
        assert_int_equal(stage_give(&stage, 100, "t", key, "1"), WEIR_ACTOR_OK);
    }
    stage_advance(&stage, 1000);
    assert_int_equal(json_array_size(stage.emitted), 1000);
    stage_close(&stage);
}

static void snapshot_of_other_windows_is_left(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage, "window", WEIR_ACTOR_FOLD, "{\"size_ms\":1000}");
    assert_int_equal(stage_give(&stage, 100, "t", "a", "1"), WEIR_ACTOR_OK);
    uint8_t *config = NULL;
    size_t size = 0;
    assert_int_equal(json_to_msgpack(view_text("{\"size_ms\":500}"), 16, &config, &size, NULL), WEIR_OK);
    rehearsal_configure(stage.rehearsal, view_of(config, size));
    stage_restart(&stage);
    assert_int_equal(stage.logged, 1);
    stage_advance(&stage, 5000);
    assert_string_equal(stage_said(&stage), "");
    stage_close(&stage);
    free(config);
}

static void what_is_no_number_is_refused_or_skipped(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage, "window", WEIR_ACTOR_FOLD, "{\"size_ms\":1000,\"field\":\"a.b\"}");
    assert_int_equal(stage_give(&stage, 1, "t", "k", "{\"a\":{\"b\":\"x\"}}"), WEIR_ACTOR_REFUSED);
    assert_string_equal(stage.why, "the value has no number at 'a.b'");
    assert_int_equal(stage_give(&stage, 1, "t", "k", "[]"), WEIR_ACTOR_REFUSED);
    assert_int_equal(stage_give(&stage, 1, "t", "k", "null"), WEIR_ACTOR_OK);
    stage_close(&stage);
    stage_open(&stage, "window", WEIR_ACTOR_FOLD, "{\"size_ms\":1000,\"missing\":\"skip\"}");
    assert_int_equal(stage_give(&stage, 1, "t", "k", "\"x\""), WEIR_ACTOR_OK);
    stage_advance(&stage, 5000);
    assert_string_equal(stage_said(&stage), "");
    stage_close(&stage);
}

static void wrong_configuration_is_refused_with_the_reason(void **state)
{
    (void)state;
    stage_refuses("window", WEIR_ACTOR_FOLD, "null", "'size_ms' is missing");
    stage_refuses("window", WEIR_ACTOR_FOLD, "[1]", "config: must be a map, and is a list");
    stage_refuses("window", WEIR_ACTOR_FOLD, "{\"size_ms\":0}", "'size_ms' is 0, but must be a whole number from 1");
    stage_refuses("window", WEIR_ACTOR_FOLD, "{\"size_ms\":\"1s\"}", "'size_ms' must be a whole number");
    stage_refuses("window", WEIR_ACTOR_FOLD, "{\"sise_ms\":1}", "no key 'sise_ms'; there are: size_ms, slide_ms");
    stage_refuses("window", WEIR_ACTOR_FOLD, "{\"size_ms\":10,\"slide_ms\":3}", "multiple of 'slide_ms' (3)");
    stage_refuses("window", WEIR_ACTOR_FOLD, "{\"size_ms\":10000,\"slide_ms\":1}", "choose a longer slide_ms");
    stage_refuses("window", WEIR_ACTOR_FOLD, "{\"size_ms\":10,\"lateness_ms\":3}", "'lateness_ms' needs 'time'");
    stage_refuses("window", WEIR_ACTOR_FOLD, "{\"size_ms\":10,\"quantiles\":[0.5,7]}", "number 2 is not");
    stage_refuses("window", WEIR_ACTOR_FOLD, "{\"size_ms\":10,\"emit\":\"all\"}",
                  "'emit' is 'all', but must be each or closed");
    stage_refuses("window", WEIR_ACTOR_FOLD, "{\"size_ms\":10,\"to\":\"x\"}", "'to' is for processors");
    stage_refuses("window", WEIR_ACTOR_PROCESSOR, "{\"size_ms\":10}", "'to' is missing");
    stage_refuses("window", WEIR_ACTOR_PROCESSOR, "{\"size_ms\":10,\"to\":\"x/{host}\"}", "in braces may stand");
}

static double member(const json_t *record, const char *form, const char *name)
{
    const json_t *value = json_object_get(json_object_get(record, form), name);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

/* One that was emitted last; its window, and what it comes to. */
static void assert_merged(struct stage *stage, int count, double sum, int start_ms, int total_count, double total_sum)
{
    assert_int_equal(json_array_size(stage->emitted), 1);
    const json_t *record = json_array_get(stage->emitted, 0);
    assert_int_equal((int)member(record, "value", "count"), count);
    assert_true(member(record, "value", "sum") == sum);
    assert_int_equal((int)member(record, "merged", "start_ms"), start_ms);
    assert_true(member(record, "merged", "end_ms") == member(record, "value", "end_ms"));
    assert_int_equal((int)member(record, "merged", "count"), total_count);
    assert_true(member(record, "merged", "sum") == total_sum);
    json_array_clear(stage->emitted);
}

static void windows_without_a_gap_are_merged(void **state)
{
    (void)state;
    for (int restarts = 0; restarts < 2; restarts++) {
        struct stage stage;
        stage_open(&stage, "window", WEIR_ACTOR_FOLD, "{\"size_ms\":1000,\"merge\":true,\"quantiles\":[0,1]}");
        static const struct {
            uint64_t time_ms;
            const char *value;
        } records[] = {{100, "5"}, {200, "1"}, {1900, "9"}, {2500, "2"}};
        for (size_t i = 0; i < sizeof records / sizeof *records; i++) {
            if (i == 2) {
                stage_advance(&stage, 1000);
                assert_merged(&stage, 2, 6, 0, 2, 6);
            }
            if (i == 3) {
                stage_advance(&stage, 2000);
                const json_t *last = json_array_get(stage.emitted, 0);
                assert_true(member(last, "merged", "min") == 1 && member(last, "merged", "max") == 9);
                assert_true(member(last, "merged", "p0") == 1 && member(last, "value", "p0") == 9);
                assert_merged(&stage, 1, 9, 0, 3, 15);
            }
            assert_int_equal(stage_give(&stage, records[i].time_ms, "t", "k", records[i].value), WEIR_ACTOR_OK);
            if (restarts)
                stage_restart(&stage);
        }
        stage_advance(&stage, 3000);
        assert_merged(&stage, 1, 2, 0, 4, 17);
        /* A window without a record: what comes behind it begins anew. */
        stage_advance(&stage, 4000);
        assert_int_equal(json_array_size(stage.emitted), 0);
        assert_int_equal(stage_give(&stage, 4100, "t", "k", "3"), WEIR_ACTOR_OK);
        stage_advance(&stage, 5000);
        assert_merged(&stage, 1, 3, 4000, 1, 3);
        stage_close(&stage);
    }
    stage_refuses("window", WEIR_ACTOR_FOLD, "{\"size_ms\":1000,\"slide_ms\":500,\"merge\":true}", "'merge' is for");
    stage_refuses("window", WEIR_ACTOR_FOLD, "{\"size_ms\":1000,\"emit\":\"each\",\"merge\":true}", "'merge' is for");
    stage_refuses("window", WEIR_ACTOR_PROCESSOR, "{\"size_ms\":1000,\"to\":\"t\",\"merge\":true}", "'merge' is for");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_without_a_gap_are_merged),
        cmocka_unit_test(windows_are_what_a_naive_model_says),
        cmocka_unit_test(windows_close_by_the_clock_when_nothing_comes),
        cmocka_unit_test(records_time_closes_windows_and_waits_for_late_ones),
        cmocka_unit_test(each_record_is_told_where_wanted),
        cmocka_unit_test(quantiles_keep_their_accuracy),
        cmocka_unit_test(keys_and_memory_are_bounded),
        cmocka_unit_test(many_keys_are_closed_in_steps),
        cmocka_unit_test(snapshot_of_other_windows_is_left),
        cmocka_unit_test(what_is_no_number_is_refused_or_skipped),
        cmocka_unit_test(wrong_configuration_is_refused_with_the_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
