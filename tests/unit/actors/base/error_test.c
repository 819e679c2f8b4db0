/* actors/base/error.c: every outcome has a code and a sentence, and codes lead back. */
#include "weir_error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void every_error_has_a_code_that_leads_back(void **state)
{
    (void)state;
    for (int i = 0; i < WEIR_ERROR_COUNT; i++) {
        enum weir_error error = (enum weir_error)i;
        const char *code = weir_error_code(error);
        assert_true(strlen(code) > 0);
        assert_true(strlen(weir_error_text(error)) > 0);
        assert_int_equal(weir_error_from_code(code, strlen(code)), error);
    }
}

static void unknown_code_is_a_bug_of_weir(void **state)
{
    (void)state;
    assert_int_equal(weir_error_from_code("", 0), WEIR_INTERNAL);
    assert_int_equal(weir_error_from_code("ful", 3), WEIR_INTERNAL);
    assert_int_equal(weir_error_from_code("fullx", 5), WEIR_INTERNAL);
    /* Only size bytes count: the code need not end in a NUL. */
    assert_int_equal(weir_error_from_code("fullx", 4), WEIR_FULL);
}

static void number_outside_the_table_reads_as_internal(void **state)
{
    (void)state;
    assert_string_equal(weir_error_code((enum weir_error)WEIR_ERROR_COUNT), "internal");
    assert_string_equal(weir_error_text((enum weir_error)1000), weir_error_text(WEIR_INTERNAL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_a_code_that_leads_back),
        cmocka_unit_test(unknown_code_is_a_bug_of_weir),
        cmocka_unit_test(number_outside_the_table_reads_as_internal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
