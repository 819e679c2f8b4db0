/* The plugin `threshold`: against a model that looks at every millisecond, hysteresis, holds, removals, configuration.
 */
#include "tests/unit/actors/plugins/stage.h"

enum { SPAN_MS = 4000, HOLD_MS = 60, CLEAR_HOLD_MS = 35 };
#define CONFIG \
    "{\"rules\":[{\"name\":\"hot\",\"above\":10,\"clear\":6,\"hold_ms\":60,\"clear_hold_ms\":35}],\"keys_max\":100}"

/* Every moment has a number, the one that came last; what the rules in words say, step by step. */
struct model {
    bool is_raised;
    int beyond_since, back_since; /* -1: it is not */
};

static void model_step(struct model *model, int now_ms, double value, char *out, size_t size)
{
    bool is_beyond = value > 10, is_back = value <= 6;
    model->beyond_since = !is_beyond ? -1 : model->beyond_since < 0 ? now_ms : model->beyond_since;
    model->back_since = !is_back ? -1 : model->back_since < 0 ? now_ms : model->back_since;
    if (!model->is_raised && model->beyond_since >= 0 && now_ms - model->beyond_since >= HOLD_MS) {
        model->is_raised = true;
        (void)snprintf(out + strlen(out), size - strlen(out), "%d raised\n", now_ms);
    } else if (model->is_raised && model->back_since >= 0 && now_ms - model->back_since >= CLEAR_HOLD_MS) {
        model->is_raised = false;
        (void)snprintf(out + strlen(out), size - strlen(out), "%d cleared\n", now_ms);
    }
}

static void said_when(struct stage *stage, char *out, size_t size)
{
    size_t index = 0;
    json_t *record = NULL;
    json_array_foreach(stage->emitted, index, record)
    {
        const json_t *value = json_object_get(record, "value");
        (void)snprintf(out + strlen(out), size - strlen(out), "%d %s\n",
                       (int)json_integer_value(json_object_get(value, "time_ms")) - 10000,
                       json_string_value(json_object_get(value, "state")));
    }
}

static void run_against_model(uint64_t seed, bool restarts)
{
    static char wanted[1 << 14], got[1 << 14];
    struct stage stage;
    struct model model = {false, -1, -1};
    uint64_t random = seed;
    double value = 0;
    int next_ms = 0;
    wanted[0] = got[0] = '\0';
    stage_open(&stage, "threshold", WEIR_ACTOR_FOLD, CONFIG);
    for (int now_ms = 0; now_ms < SPAN_MS; now_ms++) {
        /* What became due before a record comes is due whatever that says. */
        model_step(&model, now_ms, value, wanted, sizeof wanted);
        if (now_ms != next_ms)
            continue;
        char text[32];
        if (random_below(&random, 3) == 0)
            value = (double)random_below(&random, 16);
        (void)snprintf(text, sizeof text, "%.0f", value);
        assert_int_equal(stage_give(&stage, 10000 + (uint64_t)now_ms, "t", "k", text), WEIR_ACTOR_OK);
        model_step(&model, now_ms, value, wanted, sizeof wanted);
        next_ms = now_ms + 1 + (int)random_below(&random, 60);
        if (restarts && random_below(&random, 5) == 0)
            stage_restart(&stage);
    }
    stage_advance(&stage, 10000 + SPAN_MS - 1);
    said_when(&stage, got, sizeof got);
    assert_non_null(strstr(wanted, "cleared"));
    if (strcmp(wanted, got) != 0)
        fail_msg("seed %llu: wanted\n%sgot\n%s", (unsigned long long)seed, wanted, got);
    stage_close(&stage);
}

static void alerts_are_what_a_model_of_every_millisecond_says(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++)
        run_against_model(seed, seed % 2 == 0);
}

static void hysteresis_keeps_an_alert_between_the_limits(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage, "threshold", WEIR_ACTOR_PROCESSOR,
               "{\"rules\":[{\"below\":3,\"clear\":5}],\"field\":\"v\",\"to\":\"alerts\",\"by\":\"host\"}");
    static const char *const values[] = {"4", "3", "2.5", "4.9", "1", "5", "4", "2"};
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        char value[64];
        (void)snprintf(value, sizeof value, "{\"host\":\"a\",\"v\":%s}", values[i]);
        assert_int_equal(stage_give(&stage, i, "t", NULL, value), WEIR_ACTOR_OK);
    }
    assert_string_equal(
        stage_said(&stage),
        "alerts a {\"alert\":\"below\",\"state\":\"raised\",\"value\":2.5,\"limit\":3.0,\"since_ms\":2,\"time_ms\":2}\n"
        "alerts a "
        "{\"alert\":\"below\",\"state\":\"cleared\",\"value\":5.0,\"limit\":5.0,\"since_ms\":2,\"time_ms\":5}\n"
        "alerts a "
        "{\"alert\":\"below\",\"state\":\"raised\",\"value\":2.0,\"limit\":3.0,\"since_ms\":7,\"time_ms\":7}\n");
    stage_close(&stage);
}

static void rules_have_alerts_of_their_own_and_removals_clear_them(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage, "threshold", WEIR_ACTOR_FOLD,
               "{\"rules\":[{\"name\":\"warm\",\"above\":1},{\"name\":\"hot\",\"above\":2}],\"remove_cleared\":true}");
    assert_int_equal(stage_give(&stage, 1, "t", "k", "3"), WEIR_ACTOR_OK);
    assert_int_equal(stage_give(&stage, 2, "t", "k", "1.5"), WEIR_ACTOR_OK);
    assert_int_equal(stage_give(&stage, 3, "t", "k", "null"), WEIR_ACTOR_OK);
    assert_int_equal(stage_give(&stage, 4, "t", "k", "null"), WEIR_ACTOR_OK);
    assert_string_equal(
        stage_said(&stage),
        "t k:warm {\"alert\":\"warm\",\"state\":\"raised\",\"value\":3.0,\"limit\":1.0,\"since_ms\":1,\"time_ms\":1}\n"
        "t k:hot {\"alert\":\"hot\",\"state\":\"raised\",\"value\":3.0,\"limit\":2.0,\"since_ms\":1,\"time_ms\":1}\n"
        "t k:hot null\nt k:warm null\n");
    stage_close(&stage);
}

static void alerts_are_bounded_and_refused_whole(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage, "threshold", WEIR_ACTOR_FOLD,
               "{\"rules\":[{\"name\":\"warm\",\"above\":1},{\"name\":\"hot\",\"above\":2}],\"keys_max\":3}");
    assert_int_equal(stage_give(&stage, 1, "t", "a", "3"), WEIR_ACTOR_OK);
    (void)stage_said(&stage);
    assert_int_equal(stage_give(&stage, 1, "t", "b", "3"), WEIR_ACTOR_REFUSED);
    assert_string_equal(stage.why, "keys_max: 2 alerts are raised or about to be");
    assert_string_equal(stage_said(&stage), "");
    assert_int_equal(stage_give(&stage, 1, "t", "b", "1.5"), WEIR_ACTOR_OK);
    assert_int_equal(stage_give(&stage, 1, "t", "c", "0"), WEIR_ACTOR_OK);
    stage_close(&stage);
}

/* More alerts than one message may bring about are settled in several timers. */
static void many_alerts_are_settled_in_steps(void **state)
{
    struct stage stage;
    char key[16];
    (void)state;
    stage_open(&stage, "threshold", WEIR_ACTOR_FOLD, "{\"rules\":[{\"above\":1,\"hold_ms\":50}]}");
    for (int i = 0; i < 1700; i++) {
        (void)snprintf(key, sizeof key, "%d", i);
        assert_int_equal(stage_give(&stage, 100, "t", key, "2"), WEIR_ACTOR_OK);
    }
    stage_advance(&stage, 150);
    assert_int_equal(json_array_size(stage.emitted), 1700);
    stage_close(&stage);
}

static void wrong_configuration_is_refused_with_the_reason(void **state)
{
    (void)state;
    stage_refuses("threshold", WEIR_ACTOR_FOLD, "{}", "'rules' is missing");
    stage_refuses("threshold", WEIR_ACTOR_FOLD, "{\"rules\":[]}", "a list of 1 to 8 rules");
    stage_refuses("threshold", WEIR_ACTOR_FOLD, "{\"rules\":[{}]}", "rule 1: give either 'above' or 'below'");
    stage_refuses("threshold", WEIR_ACTOR_FOLD, "{\"rules\":[{\"above\":1,\"below\":0}]}",
                  "give either 'above' or 'below'");
    stage_refuses("threshold", WEIR_ACTOR_FOLD, "{\"rules\":[{\"above\":1},{\"above\":\"x\"}]}",
                  "rule 2: 'above' must be a number");
    stage_refuses("threshold", WEIR_ACTOR_FOLD, "{\"rules\":[{\"above\":1,\"clear\":2}]}",
                  "'clear' (2) must be at most 'above' (1)");
    stage_refuses("threshold", WEIR_ACTOR_FOLD, "{\"rules\":[{\"above\":1},{\"above\":2}]}", "same name 'above'");
    stage_refuses("threshold", WEIR_ACTOR_FOLD, "{\"rules\":[7]}", "rule 1: must be a map, and is a whole number");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alerts_are_what_a_model_of_every_millisecond_says),
        cmocka_unit_test(hysteresis_keeps_an_alert_between_the_limits),
        cmocka_unit_test(rules_have_alerts_of_their_own_and_removals_clear_them),
        cmocka_unit_test(alerts_are_bounded_and_refused_whole),
        cmocka_unit_test(many_alerts_are_settled_in_steps),
        cmocka_unit_test(wrong_configuration_is_refused_with_the_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
