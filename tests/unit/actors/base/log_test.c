/* actors/base/log.c: one logfmt line an event, levels, quoting that nothing in a name can break out of. */
#include "actors/base/log.h"

#include "actors/base/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char captured[2 * LOG_LINE_SIZE_MAX];
static size_t lines;

static void capture(const char *line, size_t size, void *context)
{
    (void)context;
    lines++;
    memcpy(captured, line, size);
    captured[size] = '\0';
}

static int begin(void **state)
{
    (void)state;
    lines = 0;
    captured[0] = '\0';
    log_level_set(LOG_INFO);
    log_sink_set(capture, NULL);
    return 0;
}

static int end(void **state)
{
    (void)state;
    log_sink_set(NULL, NULL);
    return 0;
}

static void line_has_time_level_event_and_fields(void **state)
{
    (void)state;
    log_warning("thing.happened", "count=%d name=%s", 7, "x");
    assert_int_equal(lines, 1);
    assert_memory_equal(captured, "time=20", 7);
    assert_non_null(strstr(captured, "Z level=warning event=thing.happened count=7 name=x\n"));
}

static void event_without_fields_has_no_trailing_space(void **state)
{
    (void)state;
    log_info("started", "%s", "");
    assert_non_null(strstr(captured, " event=started\n"));
}

static void lines_below_the_level_are_not_written(void **state)
{
    (void)state;
    log_debug("quiet", "%s", "");
    assert_int_equal(lines, 0);
    log_level_set(LOG_OFF);
    log_error("quiet", "%s", "");
    assert_int_equal(lines, 0);
    log_level_set(LOG_DEBUG);
    log_debug("loud", "%s", "");
    assert_int_equal(lines, 1);
}

static void long_line_is_cut_and_still_ends(void **state)
{
    (void)state;
    char text[2 * LOG_LINE_SIZE_MAX];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    log_info("long", "text=%s", text);
    assert_true(strlen(captured) <= LOG_LINE_SIZE_MAX);
    assert_int_equal(captured[strlen(captured) - 1], '\n');
}

static void level_names_lead_back(void **state)
{
    (void)state;
    for (int i = LOG_DEBUG; i <= LOG_OFF; i++) {
        enum log_level found = LOG_OFF;
        assert_int_equal(log_level_find(log_level_name((enum log_level)i), &found), WEIR_OK);
        assert_int_equal(found, i);
    }
    enum log_level unchanged = LOG_ERROR;
    assert_int_equal(log_level_find("verbose", &unchanged), WEIR_NOT_FOUND);
    assert_int_equal(unchanged, LOG_ERROR);
}

static void quoted_is(const char *text, size_t size, const char *expected)
{
    char out[64];
    assert_string_equal(log_quote(out, sizeof out, text, size), expected);
}

static void quote_leaves_plain_words_alone(void **state)
{
    (void)state;
    quoted_is("sensors/a", 9, "sensors/a");
    quoted_is("caf\xc3\xa9", 5, "caf\xc3\xa9");
    quoted_is("", 0, "\"\"");
    quoted_is("two words", 9, "\"two words\"");
    quoted_is("a=b", 3, "\"a=b\"");
}

static void quote_escapes_what_could_break_a_line_or_steer_a_terminal(void **state)
{
    (void)state;
    quoted_is("a\"b\\c", 5, "\"a\\\"b\\\\c\"");
    quoted_is("a\nlevel=error", 13, "\"a\\nlevel=error\"");
    quoted_is("\x1b[31m", 5, "\"\\x1b[31m\"");
    quoted_is("\0x", 2, "\"\\x00x\"");
    quoted_is("\x7f", 1, "\"\\x7f\"");
    /* Broken, overlong, surrogate, beyond Unicode, and a C1 control in good UTF-8. */
    quoted_is("\xc3", 1, "\"\\xc3\"");
    quoted_is("\xc0\xaf", 2, "\"\\xc0\\xaf\"");
    quoted_is("\xed\xa0\x80", 3, "\"\\xed\\xa0\\x80\"");
    quoted_is("\xf5\x80\x80\x80", 4, "\"\\xf5\\x80\\x80\\x80\"");
    quoted_is("\xc2\x9b", 2, "\"\\xc2\\x9b\"");
}

static void quote_cuts_with_an_ellipsis_within_capacity(void **state)
{
    (void)state;
    for (size_t capacity = 7; capacity < 40; capacity++) {
        char out[48];
        memset(out, 'Z', sizeof out);
        log_quote(out, capacity, "a long text with \n breaks and more", 34);
        assert_true(strlen(out) < capacity);
        assert_int_equal(out[capacity], 'Z');
        /* 35 characters with the escape, two quotes, NUL. */
        assert_true((strstr(out, "\xe2\x80\xa6") != NULL) == (capacity < 38));
        assert_int_equal(out[strlen(out) - 1], '"');
    }
    char exact[10];
    assert_string_equal(log_quote(exact, sizeof exact, "exact-fit", 9), "exact-fit");
}

static void limit_lets_one_line_through_an_interval_and_counts_the_rest(void **state)
{
    (void)state;
    struct log_limit limit = {.interval_ns = 100};
    uint64_t suppressed = 99;
    assert_true(log_limit_pass(&limit, 1000, &suppressed));
    assert_int_equal(suppressed, 0);
    assert_false(log_limit_pass(&limit, 1001, &suppressed));
    assert_false(log_limit_pass(&limit, 1099, &suppressed));
    assert_true(log_limit_pass(&limit, 1100, &suppressed));
    assert_int_equal(suppressed, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(line_has_time_level_event_and_fields, begin, end),
        cmocka_unit_test_setup_teardown(event_without_fields_has_no_trailing_space, begin, end),
        cmocka_unit_test_setup_teardown(lines_below_the_level_are_not_written, begin, end),
        cmocka_unit_test_setup_teardown(long_line_is_cut_and_still_ends, begin, end),
        cmocka_unit_test(level_names_lead_back),
        cmocka_unit_test(quote_leaves_plain_words_alone),
        cmocka_unit_test(quote_escapes_what_could_break_a_line_or_steer_a_terminal),
        cmocka_unit_test(quote_cuts_with_an_ellipsis_within_capacity),
        cmocka_unit_test(limit_lets_one_line_through_an_interval_and_counts_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
