/* What the shipped plugins reply to questions, and that asking changes nothing. */
#include "tests/unit/actors/plugins/stage.h"

static void window_tells_what_is_open(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage, "window", WEIR_ACTOR_FOLD,
               "{\"size_ms\":1000,\"lateness_ms\":1000,\"time\":\"at\",\"field\":\"n\"}");
    assert_string_equal(stage_ask(&stage, 100, "t", "\"k\""), "[]");
    assert_int_equal(stage_give(&stage, 100, "t", "k", "{\"n\":3,\"at\":100}"), WEIR_ACTOR_OK);
    assert_int_equal(stage_give(&stage, 1100, "t", "k", "{\"n\":5,\"at\":1100}"), WEIR_ACTOR_OK);
    const char *two = "[{\"start_ms\":0,\"end_ms\":1000,\"count\":1,\"sum\":3.0,\"mean\":3.0,\"min\":3.0,\"max\":3.0,"
                      "\"closed\":false},{\"start_ms\":1000,\"end_ms\":2000,\"count\":1,\"sum\":5.0,\"mean\":5.0,"
                      "\"min\":5.0,\"max\":5.0,\"closed\":false}]";
    for (int i = 0; i < 2; i++) {
        assert_string_equal(stage_ask(&stage, 1200, "t", "\"k\""), two);
        stage_restart(&stage);
    }
    assert_string_equal(stage_ask(&stage, 1200, "t", "{\"key\":\"other\"}"), "[]");
    assert_string_equal(stage_ask(&stage, 1200, "u", "{\"topic\":\"t\",\"key\":\"k\"}"), two);
    assert_string_equal(stage_said(&stage), "");
    stage_close(&stage);
}

static void top_tells_its_list_and_a_key(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage, "top", WEIR_ACTOR_FOLD, "{\"k\":1}");
    assert_string_equal(stage_ask(&stage, 1, "t", "null"), "null");
    for (int i = 0; i < 3; i++)
        assert_int_equal(stage_give(&stage, 1, "t", i < 2 ? "a" : "b", "1"), WEIR_ACTOR_OK);
    assert_string_equal(stage_ask(&stage, 1, "t", "null"),
                        "{\"total\":3,\"missed_max\":0,\"top\":[{\"key\":\"a\",\"count\":2,\"error\":0}]}");
    assert_string_equal(stage_ask(&stage, 1, "t", "\"b\""), "{\"count\":1,\"error\":0}");
    assert_string_equal(stage_ask(&stage, 1, "t", "\"c\""), "null");
    assert_string_equal(stage_ask(&stage, 1, "other", "\"b\""), "null");
    /* What was asked for is emitted in its time all the same. */
    assert_string_equal(stage_said(&stage), "");
    stage_advance(&stage, 2000);
    assert_string_equal(stage_said(&stage),
                        "t top {\"total\":3,\"missed_max\":0,\"top\":[{\"key\":\"a\",\"count\":2,\"error\":0}]}\n");
    stage_close(&stage);
}

static void threshold_tells_where_a_key_stands(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage, "threshold", WEIR_ACTOR_PROCESSOR,
               "{\"to\":\"alerts\",\"rules\":[{\"above\":10,\"clear\":5,\"hold_ms\":100,\"clear_hold_ms\":100},"
               "{\"below\":-10}]}");
    assert_string_equal(stage_ask(&stage, 1, "", "\"k\""), "[]");
    static const struct {
        uint64_t time_ms;
        const char *value, *reply;
    } steps[] = {
        {10, "11", "[{\"alert\":\"above\",\"state\":\"rising\",\"value\":11.0,\"limit\":10.0,\"since_ms\":10}]"},
        {200, "12", "[{\"alert\":\"above\",\"state\":\"raised\",\"value\":12.0,\"limit\":5.0,\"since_ms\":10}]"},
        {210, "4", "[{\"alert\":\"above\",\"state\":\"clearing\",\"value\":4.0,\"limit\":5.0,\"since_ms\":10}]"},
        {400, "4", "[]"},
        {410, "-11", "[{\"alert\":\"below\",\"state\":\"raised\",\"value\":-11.0,\"limit\":-10.0,\"since_ms\":410}]"},
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        assert_int_equal(stage_give(&stage, steps[i].time_ms, "t", "k", steps[i].value), WEIR_ACTOR_OK);
        /* By the plugin's name: the topic is the one that it emits to. */
        assert_string_equal(stage_ask(&stage, steps[i].time_ms, "", "\"k\""), steps[i].reply);
    }
    stage_close(&stage);
}

static void route_tells_what_would_become_of_a_record(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage, "route", WEIR_ACTOR_PROCESSOR,
               "{\"rules\":[{\"where\":[{\"of\":\"value.level\",\"is\":\"debug\"}],\"drop\":true},"
               "{\"topic\":\"a/#\",\"to\":\"b/{topic.1}\",\"key\":\"{value.id}\",\"pick\":\"n\",\"go_on\":true},"
               "{\"to\":\"all\"}]}");
    assert_string_equal(stage_ask(&stage, 1, "", "{\"topic\":\"a/x\",\"value\":{\"level\":\"debug\"}}"),
                        "[{\"rule\":1,\"drop\":true}]");
    assert_string_equal(stage_ask(&stage, 1, "", "{\"topic\":\"a/x\",\"key\":\"k\",\"value\":{\"n\":7,\"id\":\"i\"}}"),
                        "[{\"rule\":2,\"topic\":\"b/x\",\"key\":\"i\",\"value\":7},"
                        "{\"rule\":3,\"topic\":\"all\",\"key\":\"k\",\"value\":{\"n\":7,\"id\":\"i\"}}]");
    assert_string_equal(stage_ask(&stage, 1, "", "{\"topic\":\"c\",\"value\":1}"),
                        "[{\"rule\":3,\"topic\":\"all\",\"value\":1}]");
    assert_non_null(strstr(stage_ask(&stage, 1, "", "{\"topic\":\"a/x\",\"value\":{\"n\":7}}"), "{value.id}"));
    assert_string_equal(stage_said(&stage), "");
    stage_close(&stage);
}

static void dedup_tells_what_it_knows(void **state)
{
    struct stage stage;
    (void)state;
    stage_open(&stage, "dedup", WEIR_ACTOR_FOLD, "{\"by\":\"{value.id}\",\"within_ms\":100}");
    assert_int_equal(stage_give(&stage, 10, "t", "k", "{\"id\":1}"), WEIR_ACTOR_OK);
    assert_string_equal(stage_ask(&stage, 20, "t", "{\"value\":{\"id\":1}}"), "{\"known\":true,\"time_ms\":10}");
    assert_string_equal(stage_ask(&stage, 20, "t", "{\"value\":{\"id\":2}}"), "{\"known\":false}");
    assert_string_equal(stage_ask(&stage, 20, "u", "{\"value\":{\"id\":1}}"), "{\"known\":false}");
    assert_string_equal(stage_ask(&stage, 20, "t", "null"), "{\"count\":1,\"count_max\":10000}");
    assert_string_equal(stage_ask(&stage, 110, "t", "{\"value\":{\"id\":1}}"), "{\"known\":false}");
    /* It was asked for, and did not come. */
    (void)stage_said(&stage);
    assert_int_equal(stage_give(&stage, 110, "t", "k", "{\"id\":2}"), WEIR_ACTOR_OK);
    assert_string_equal(stage_said(&stage), "t k {\"id\":2}\n");
    stage_close(&stage);
}

static void what_is_no_question_is_refused_with_the_reason(void **state)
{
    static const char *const configs[][2] = {
        {"window", "{\"to\":\"s/{topic}\",\"size_ms\":1000}"},
        {"top", "{\"to\":\"s/{topic}\"}"},
        {"threshold", "{\"to\":\"s/{topic}\",\"rules\":[{\"above\":1}]}"},
        {"route", "{\"rules\":[{\"to\":\"s/{topic}\"}]}"},
        {"dedup", "{\"to\":\"s/{topic}\"}"},
    };
    static const char *const cases[][2] = {
        {"7", "ask a key as text, or a map"},        {"[]", "ask a key as text, or a map"},
        {"{\"kee\":\"a\"}", "entry 1 is else"},      {"{\"key\":\"a\",\"topic\":7}", "entry 2 is else"},
        {"{\"topic\":\"a//b\"}", "entry 1 is else"}, {"\"k\"", "which topic?"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        struct stage stage;
        stage_open(&stage, configs[i][0], WEIR_ACTOR_PROCESSOR, configs[i][1]);
        for (size_t at = 0; at < sizeof cases / sizeof *cases; at++) {
            const char *said = stage_ask(&stage, 1, "", cases[at][0]);
            if (strstr(said, cases[at][1]) == NULL)
                fail_msg("%s: %s: \"%s\" does not say \"%s\"", configs[i][0], cases[at][0], said, cases[at][1]);
        }
        char large[1200];
        (void)snprintf(large, sizeof large, "\"%01100d\"", 0);
        assert_non_null(strstr(stage_ask(&stage, 1, "t", large), "a key of 1100 bytes"));
        stage_close(&stage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(window_tells_what_is_open),
        cmocka_unit_test(top_tells_its_list_and_a_key),
        cmocka_unit_test(threshold_tells_where_a_key_stands),
        cmocka_unit_test(route_tells_what_would_become_of_a_record),
        cmocka_unit_test(dedup_tells_what_it_knows),
        cmocka_unit_test(what_is_no_question_is_refused_with_the_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
