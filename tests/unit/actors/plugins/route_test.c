/* The plugin `route`: what its rules match, what they make of a record, configuration. */
#include "tests/unit/actors/plugins/stage.h"

/* What a processor with these rules makes of one record. */
static const char *routed(const char *rules, const char *topic, const char *key, const char *value)
{
    static char config[2048], text[1 << 14];
    struct stage stage;
    (void)snprintf(config, sizeof config, "{\"rules\":%s}", rules);
    stage_open(&stage, "route", WEIR_ACTOR_PROCESSOR, config);
    enum weir_actor_result result = stage_give(&stage, 1, topic, key, value);
    (void)snprintf(text, sizeof text, "%s", result == WEIR_ACTOR_OK ? stage_said(&stage) : stage.why);
    stage_close(&stage);
    return text;
}

static void topics_match_by_patterns(void **state)
{
    static const struct {
        const char *pattern, *topic;
        bool matches;
    } cases[] = {
        {"a", "a", true},       {"a", "b", false},     {"a", "a/b", false},      {"a/b", "a", false},
        {"+", "a", true},       {"+", "a/b", false},   {"#", "a/b/c", true},     {"a/#", "a", true},
        {"a/#", "a/b/c", true}, {"a/#", "ab", false},  {"a/+/c", "a/b/c", true}, {"a/+/c", "a/b/d", false},
        {"a/+/#", "a/b", true}, {"a/+/#", "a", false}, {"+/+", "a", false},      {"a/+", "a/b", true},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char rules[128];
        (void)snprintf(rules, sizeof rules, "[{\"topic\":\"%s\",\"to\":\"x\"}]", cases[i].pattern);
        if ((*routed(rules, cases[i].topic, NULL, "1") != '\0') != cases[i].matches)
            fail_msg("%s and %s", cases[i].pattern, cases[i].topic);
    }
}

static void tests_hold_or_not(void **state)
{
    static const struct {
        const char *test;
        bool holds;
    } cases[] = {
        {"{\"of\":\"value.level\",\"is\":\"error\"}", true},
        {"{\"of\":\"value.level\",\"is\":\"info\"}", false},
        {"{\"of\":\"value.level\",\"not\":\"info\"}", true},
        {"{\"of\":\"value.nothing\",\"not\":\"info\"}", true},
        {"{\"of\":\"value.nothing\",\"is\":null}", false},
        {"{\"of\":\"value.none\",\"is\":null}", true},
        {"{\"of\":\"value.n\",\"is\":5.0}", true},
        {"{\"of\":\"value.n\",\"is\":\"5\"}", false},
        {"{\"of\":\"value.n\",\"above\":4.9}", true},
        {"{\"of\":\"value.n\",\"above\":5}", false},
        {"{\"of\":\"value.n\",\"below\":6}", true},
        {"{\"of\":\"value.level\",\"below\":6}", false},
        {"{\"of\":\"value.level\",\"in\":[1,\"error\"]}", true},
        {"{\"of\":\"value.level\",\"in\":[]}", false},
        {"{\"of\":\"value.list.1\",\"is\":true}", true},
        {"{\"of\":\"value.list.2\",\"exists\":false}", true},
        {"{\"of\":\"value.list\",\"exists\":true}", true},
        {"{\"of\":\"value.list\",\"exists\":false}", false},
        {"{\"of\":\"key\",\"begins\":\"us\"}", true},
        {"{\"of\":\"key\",\"begins\":\"use1\"}", false},
        {"{\"of\":\"topic.1\",\"is\":\"pay\"}", true},
        {"{\"of\":\"topic.5\",\"exists\":true}", false},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char rules[256];
        (void)snprintf(rules, sizeof rules, "[{\"where\":[%s],\"to\":\"x\"}]", cases[i].test);
        const char *said =
            routed(rules, "logs/pay", "user7", "{\"level\":\"error\",\"n\":5,\"none\":null,\"list\":[1,true]}");
        if ((*said != '\0') != cases[i].holds)
            fail_msg("%s", cases[i].test);
    }
}

static void values_are_rewritten(void **state)
{
    (void)state;
    const char *value = "{\"a\":1,\"b\":{\"c\":[7,8]},\"d\":\"x\"}";
    assert_string_equal(routed("[{\"to\":\"out/{topic.1}/{key}\"}]", "in/x", "k", value),
                        "out/x/k k {\"a\":1,\"b\":{\"c\":[7,8]},\"d\":\"x\"}\n");
    assert_string_equal(routed("[{\"to\":\"o\",\"pick\":\"b.c.1\"}]", "t", "k", value), "o k 8\n");
    assert_string_equal(routed("[{\"to\":\"o\",\"keep\":[\"a\",\"zz\"]}]", "t", "k", value), "o k {\"a\":1}\n");
    assert_string_equal(
        routed("[{\"to\":\"o\",\"remove\":[\"a\",\"b\"],\"key\":\"{value.d}-{value.a}\"}]", "t", "k", value),
        "o x-1 {\"d\":\"x\"}\n");
    assert_string_equal(
        routed("[{\"to\":\"o\",\"keep\":[\"d\"],\"set\":{\"d\":[2],\"from\":\"{topic}!\"}}]", "t", NULL, value),
        "o - {\"d\":[2],\"from\":\"t!\"}\n");
    assert_string_equal(routed("[{\"to\":\"o\",\"pick\":\"b\",\"set\":{\"n\":1}}]", "t", "k", value),
                        "o k {\"c\":[7,8],\"n\":1}\n");
    assert_string_equal(routed("[{\"to\":\"o\",\"set\":{\"n\":1}}]", "t", "k", "null"), "o k null\n");
}

static void rules_end_or_go_on(void **state)
{
    (void)state;
    const char *rules = "[{\"where\":[{\"of\":\"value\",\"below\":0}],\"drop\":true},"
                        "{\"where\":[{\"of\":\"value\",\"above\":10}],\"to\":\"large\",\"go_on\":true},"
                        "{\"to\":\"all\"},{\"to\":\"never\"}]";
    assert_string_equal(routed(rules, "t", "k", "-1"), "");
    assert_string_equal(routed(rules, "t", "k", "5"), "all k 5\n");
    assert_string_equal(routed(rules, "t", "k", "50"), "large k 50\nall k 50\n");
}

static void what_a_rule_cannot_do_is_refused(void **state)
{
    struct stage stage;
    (void)state;
    assert_string_equal(routed("[{\"to\":\"{value.a}\"}]", "t", "k", "{}"),
                        "the message has no {value.a}, which '{value.a}' names");
    assert_string_equal(routed("[{\"to\":\"o\",\"pick\":\"a\"}]", "t", "k", "{}"),
                        "the value has no field 'a', which a rule picks");
    assert_string_equal(routed("[{\"to\":\"o\",\"set\":{\"a\":1}}]", "t", "k", "5"),
                        "the value is no map, and a rule keeps, removes or sets fields of it");
    stage_open(
        &stage, "route", WEIR_ACTOR_FOLD,
        "{\"rules\":[{\"where\":[{\"of\":\"value.ok\",\"is\":true}],\"remove\":[\"ok\"]}],\"otherwise\":\"refuse\"}");
    assert_int_equal(stage_give(&stage, 1, "t", "k", "{\"ok\":true,\"n\":1}"), WEIR_ACTOR_OK);
    stage_restart(&stage);
    assert_int_equal(stage_give(&stage, 1, "t", NULL, "{\"ok\":true,\"n\":1}"), WEIR_ACTOR_REFUSED);
    assert_string_equal(stage.why, "the record has no key, and a fold keeps values by key");
    assert_int_equal(stage_give(&stage, 1, "t", "k", "{}"), WEIR_ACTOR_REFUSED);
    assert_string_equal(stage.why, "no rule is for this record");
    assert_string_equal(stage_said(&stage), "t k {\"n\":1}\n");
    stage_close(&stage);
}

/* Publishers choose what templates become, and must not be able to fail the plugin by it. */
static void what_names_no_topic_is_refused(void **state)
{
    static const char *const names[] = {"$sys/x", "", "a//b", "/a", "a/", "a/+", "#", "a\\u0000b"};
    struct stage stage;
    (void)state;
    stage_open(&stage, "route", WEIR_ACTOR_PROCESSOR, "{\"rules\":[{\"to\":\"{value.to}\"}]}");
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char value[64];
        (void)snprintf(value, sizeof value, "{\"to\":\"%s\"}", names[i]);
        assert_int_equal(stage_give(&stage, 1, "t", "k", value), WEIR_ACTOR_REFUSED);
        assert_non_null(strstr(stage.why, "which names no topic"));
    }
    assert_int_equal(stage_give(&stage, 1, "t", "k", "{\"to\":\"a/b\"}"), WEIR_ACTOR_OK);
    assert_string_equal(stage_said(&stage), "a/b k {\"to\":\"a/b\"}\n");
    stage_close(&stage);
}

static void wrong_configuration_is_refused_with_the_reason(void **state)
{
    static const char *const cases[][2] = {
        {"{}", "'rules' is missing"},
        {"{\"rules\":[]}", "a list of 1 to 64 rules"},
        {"{\"rules\":[{}]}", "rule 1: 'to' is missing"},
        {"{\"rules\":[{\"to\":\"x\"},{\"drop\":true,\"to\":\"x\"}]}", "rule 2: 'drop' ends"},
        {"{\"rules\":[{\"to\":\"{value.a\"}]}", "rule 1: '{value.a': in braces may stand"},
        {"{\"rules\":[{\"to\":\"x\",\"where\":[{\"of\":\"level\",\"is\":1}]}]}", "rule 1, where 1: '{level}'"},
        {"{\"rules\":[{\"to\":\"x\",\"where\":[{\"of\":\"key\"}]}]}", "give exactly one of is, not, in"},
        {"{\"rules\":[{\"to\":\"x\",\"where\":[{\"of\":\"key\",\"is\":1,\"not\":2}]}]}",
         "give exactly one of is, not, in"},
        {"{\"rules\":[{\"to\":\"x\",\"where\":[{\"of\":\"key\",\"is\":1,\"exists\":true}]}]}", "give exactly one of"},
        {"{\"rules\":[{\"to\":\"x\",\"where\":[{\"is\":1}]}]}", "'of' is missing"},
        {"{\"rules\":[{\"to\":\"x\",\"pick\":\"a\",\"keep\":[\"b\"]}]}", "'pick' takes one field"},
        {"{\"rules\":[{\"to\":\"x\",\"set\":{\"a\":\"{b}\"}}]}", "rule 1: '{b}': in braces may stand"},
        {"{\"rules\":[{\"to\":\"x\",\"keep\":[1]}]}", "'keep' must be a list of names"},
        {"{\"rules\":[{\"to\":\"x\"}],\"otherwise\":\"keep\"}", "'otherwise' is 'keep', but must be drop or refuse"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        stage_refuses("route", WEIR_ACTOR_PROCESSOR, cases[i][0], cases[i][1]);
    stage_refuses("route", WEIR_ACTOR_FOLD, "{\"rules\":[{\"to\":\"x\"}]}", "'to' is for processors");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(topics_match_by_patterns),
        cmocka_unit_test(tests_hold_or_not),
        cmocka_unit_test(values_are_rewritten),
        cmocka_unit_test(rules_end_or_go_on),
        cmocka_unit_test(what_a_rule_cannot_do_is_refused),
        cmocka_unit_test(what_names_no_topic_is_refused),
        cmocka_unit_test(wrong_configuration_is_refused_with_the_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
