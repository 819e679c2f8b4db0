/* Topic names and patterns: the grammar's edges, and matching against a naive model. */
#include "clients/wire/name.h"

#include "tests/unit/clients/wire/exact.h"

#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

static enum weir_error name_of(const char *text)
{
    struct exact exact = exact_of(view_text(text));
    enum weir_error error = name_check(exact.view, NULL);
    exact_free(&exact);
    return error;
}

static enum weir_error pattern_of(const char *text)
{
    struct exact exact = exact_of(view_text(text));
    enum weir_error error = pattern_check(exact.view, NULL);
    exact_free(&exact);
    return error;
}

static void names_are_segments_joined_by_slashes(void **state)
{
    (void)state;
    assert_int_equal(name_of("a"), WEIR_OK);
    assert_int_equal(name_of("a/b/c"), WEIR_OK);
    assert_int_equal(name_of("a b/\xc3\xa9\xe2\x82\xac"), WEIR_OK);
    assert_int_equal(name_of("."), WEIR_OK);
    assert_int_equal(name_of("../.."), WEIR_OK);
    assert_int_equal(name_of("$SYS/x"), WEIR_OK);
    assert_int_equal(name_of(""), WEIR_BAD_TOPIC);
    assert_int_equal(name_of("/"), WEIR_BAD_TOPIC);
    assert_int_equal(name_of("/a"), WEIR_BAD_TOPIC);
    assert_int_equal(name_of("a/"), WEIR_BAD_TOPIC);
    assert_int_equal(name_of("a//b"), WEIR_BAD_TOPIC);
    assert_int_equal(name_of("a\xff"), WEIR_BAD_TOPIC);
    assert_int_equal(name_of("\xed\xa0\x80"), WEIR_BAD_TOPIC);
    assert_int_equal(name_check(view_of("a\0b", 3), NULL), WEIR_BAD_TOPIC);
    assert_int_equal(name_check(view_of(NULL, 0), NULL), WEIR_BAD_TOPIC);
}

static void names_have_no_wildcards(void **state)
{
    (void)state;
    assert_int_equal(name_of("+"), WEIR_BAD_TOPIC);
    assert_int_equal(name_of("a/#"), WEIR_BAD_TOPIC);
    assert_int_equal(name_of("a+b"), WEIR_BAD_TOPIC);
    assert_int_equal(name_of("a/b#/\xc3\xa9"), WEIR_BAD_TOPIC);
}

static void names_end_at_255_bytes(void **state)
{
    (void)state;
    static char text[65537 + 1];
    memset(text, 'a', sizeof text - 1);
    assert_int_equal(name_of(text), WEIR_BAD_TOPIC);
    text[256] = '\0';
    assert_int_equal(name_of(text), WEIR_BAD_TOPIC);
    assert_int_equal(pattern_of(text), WEIR_BAD_TOPIC);
    text[255] = '\0';
    assert_int_equal(name_of(text), WEIR_OK);
    assert_int_equal(pattern_of(text), WEIR_OK);
}

static void patterns_have_wildcards_as_whole_segments(void **state)
{
    (void)state;
    assert_int_equal(pattern_of("#"), WEIR_OK);
    assert_int_equal(pattern_of("+"), WEIR_OK);
    assert_int_equal(pattern_of("+/+/#"), WEIR_OK);
    assert_int_equal(pattern_of("a/+/b"), WEIR_OK);
    assert_int_equal(pattern_of("$SYS/#"), WEIR_OK);
    assert_int_equal(pattern_of("a"), WEIR_OK);
    assert_int_equal(pattern_of("a+"), WEIR_BAD_TOPIC);
    assert_int_equal(pattern_of("a/b#"), WEIR_BAD_TOPIC);
    assert_int_equal(pattern_of("++"), WEIR_BAD_TOPIC);
    assert_int_equal(pattern_of("#/a"), WEIR_BAD_TOPIC);
    assert_int_equal(pattern_of("a/#/"), WEIR_BAD_TOPIC);
    assert_int_equal(pattern_of("a//#"), WEIR_BAD_TOPIC);
    assert_int_equal(pattern_of(""), WEIR_BAD_TOPIC);
    assert_int_equal(pattern_of("a/\xc0\x80"), WEIR_BAD_TOPIC);
    assert_int_equal(pattern_check(view_of("a\0", 2), NULL), WEIR_BAD_TOPIC);
}

static void share_groups_are_refused(void **state)
{
    (void)state;
    assert_int_equal(pattern_of("$share/ab"), WEIR_BAD_TOPIC);
    assert_int_equal(pattern_of("$share/group/a/#"), WEIR_BAD_TOPIC);
    assert_int_equal(pattern_of("$shared/a"), WEIR_OK);
}

static void refusals_say_why(void **state)
{
    (void)state;
    const char *reason = NULL;
    assert_int_equal(name_check(view_text("a//b"), &reason), WEIR_BAD_TOPIC);
    assert_string_equal(reason, "segment 2 is empty");
    assert_int_equal(name_check(view_text("a/+"), &reason), WEIR_BAD_TOPIC);
    assert_string_equal(reason, "segment 2 has a wildcard, which only a pattern may have");
    assert_int_equal(pattern_check(view_text("#/a"), &reason), WEIR_BAD_TOPIC);
    assert_string_equal(reason, "segment 1 is '#', which only the last may be");
    assert_int_equal(name_check(view_text(""), &reason), WEIR_BAD_TOPIC);
    assert_string_equal(reason, "it is empty");
}

static bool matches(const char *pattern, const char *name)
{
    assert_int_equal(pattern_of(pattern), WEIR_OK);
    assert_int_equal(name_of(name), WEIR_OK);
    return pattern_matches(view_text(pattern), view_text(name));
}

static void patterns_match_by_mqtts_rules(void **state)
{
    (void)state;
    assert_true(matches("a/b", "a/b"));
    assert_false(matches("a/b", "a/bc"));
    assert_false(matches("a/b", "a"));
    assert_false(matches("a", "a/b"));
    assert_true(matches("a/+", "a/b"));
    assert_false(matches("a/+", "a"));
    assert_false(matches("a/+", "a/b/c"));
    assert_true(matches("+/b", "a/b"));
    assert_true(matches("a/#", "a"));
    assert_true(matches("a/#", "a/b/c"));
    assert_false(matches("a/#", "ab"));
    assert_true(matches("#", "a/b"));
    assert_true(matches("+/#", "a"));
    assert_false(matches("#", "$SYS/a"));
    assert_false(matches("+/a", "$SYS/a"));
    assert_true(matches("$SYS/#", "$SYS/a"));
    assert_true(matches("$SYS/+", "$SYS/a"));
    assert_true(matches("a/#", "a/$b"));
}

static void reserved_and_wildcard_are_told(void **state)
{
    (void)state;
    assert_true(name_is_reserved(view_text("$dead/a")));
    assert_false(name_is_reserved(view_text("a/$b")));
    assert_false(name_is_reserved(view_text("")));
    assert_true(pattern_has_wildcard(view_text("a/+")));
    assert_true(pattern_has_wildcard(view_text("#")));
    assert_false(pattern_has_wildcard(view_text("a/b")));
}

static bool naive_rest(const char *pattern, const char *name)
{
    const char *pattern_end = strchrnul(pattern, '/'), *name_end = strchrnul(name, '/');
    size_t wanted = (size_t)(pattern_end - pattern), found = (size_t)(name_end - name);
    if (wanted == 1 && *pattern == '#')
        return true;
    bool is_same = (wanted == 1 && *pattern == '+') || (wanted == found && memcmp(pattern, name, found) == 0);
    if (!is_same)
        return false;
    if (*pattern_end == '\0' || *name_end == '\0')
        return *pattern_end == *name_end || strcmp(pattern_end, "/#") == 0;
    return naive_rest(pattern_end + 1, name_end + 1);
}

static bool naive_matches(const char *pattern, const char *name)
{
    return !(name[0] == '$' && (pattern[0] == '+' || pattern[0] == '#')) && naive_rest(pattern, name);
}

static void matching_agrees_with_a_naive_model(void **state)
{
    (void)state;
    static const char letters[] = "aab$/+#/";
    uint64_t seed = (uint64_t)time(NULL) | 1, random = seed;
    print_message("seed %llu\n", (unsigned long long)seed);
    unsigned compared = 0, matched = 0;
    for (unsigned round = 0; round < 2000000; round++) {
        char pattern[9] = "", name[9] = "";
        for (size_t at = random_next(&random) % 8; at < 8; at++)
            pattern[strlen(pattern)] = letters[random_next(&random) % 8];
        for (size_t at = random_next(&random) % 8; at < 8; at++)
            name[strlen(name)] = letters[random_next(&random) % 5];
        if (pattern_check(view_text(pattern), NULL) != WEIR_OK || name_check(view_text(name), NULL) != WEIR_OK)
            continue;
        bool expected = naive_matches(pattern, name);
        compared++;
        matched += expected;
        assert_int_equal(pattern_matches(view_text(pattern), view_text(name)), expected);
    }
    assert_true(compared > 10000 && matched > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_segments_joined_by_slashes),
        cmocka_unit_test(names_have_no_wildcards),
        cmocka_unit_test(names_end_at_255_bytes),
        cmocka_unit_test(patterns_have_wildcards_as_whole_segments),
        cmocka_unit_test(share_groups_are_refused),
        cmocka_unit_test(refusals_say_why),
        cmocka_unit_test(patterns_match_by_mqtts_rules),
        cmocka_unit_test(reserved_and_wildcard_are_told),
        cmocka_unit_test(matching_agrees_with_a_naive_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
