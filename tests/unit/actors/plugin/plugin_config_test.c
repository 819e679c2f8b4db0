/* Plugins' configuration: which patterns meet, and what does not fit together. */
#include "actors/plugin/plugin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void patterns_meet_where_some_name_matches_both(void **state)
{
    static const struct {
        const char *a, *b;
        bool meet;
    } cases[] = {
        {"a", "a", true},       {"a", "b", false},      {"a/b", "a", false},       {"a/#", "a", true},
        {"a/#", "a/b/c", true}, {"+/b", "a/+", true},   {"+/b", "a/c", false},     {"a/+", "a", false},
        {"#", "x/y", true},     {"a/+/c", "a/#", true}, {"a/b/#", "a/c/#", false}, {"a/+/c", "a/b", false},
        {"+", "+/+", false},    {"a/+/#", "a/b", true}, {"a/b", "a/b/#", true},    {"+/x/#", "y/+/z", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct view a = view_text(cases[i].a), b = view_text(cases[i].b);
        if (patterns_overlap(a, b) != cases[i].meet || patterns_overlap(b, a) != cases[i].meet)
            fail_msg("%s and %s", cases[i].a, cases[i].b);
    }
}

static void copy_owns_its_block(void **state)
{
    (void)state;
    struct plugin_config config, copy;
    uint8_t nil = 0xc0;
    plugin_config_init(&config);
    config.value = &nil;
    config.value_size = 1;
    assert_int_equal(plugin_config_copy(&copy, &config), WEIR_OK);
    assert_ptr_not_equal(copy.value, &nil);
    assert_int_equal(copy.value[0], 0xc0);
    plugin_config_fini(&copy);
    assert_null(copy.value);
}

static void loops_and_roles_are_checked(void **state)
{
    (void)state;
    struct plugin_config config;
    char why[512];
    plugin_config_init(&config);
    snprintf(config.name, sizeof config.name, "p");
    snprintf(config.file, sizeof config.file, "/x.so");
    config.role = WEIR_ACTOR_PROCESSOR;
    assert_int_equal(plugin_config_check(&config, why, sizeof why), WEIR_BAD_REQUEST);
    config.pattern_count = config.emit_count = 1;
    snprintf(config.patterns[0], sizeof config.patterns[0], "a/+");
    snprintf(config.emit[0], sizeof config.emit[0], "b/#");
    assert_int_equal(plugin_config_check(&config, why, sizeof why), WEIR_OK);
    snprintf(config.emit[0], sizeof config.emit[0], "a/#");
    assert_int_equal(plugin_config_check(&config, why, sizeof why), WEIR_BAD_REQUEST);
    snprintf(config.emit[0], sizeof config.emit[0], "$sys/x");
    assert_int_equal(plugin_config_check(&config, why, sizeof why), WEIR_BAD_REQUEST);
    config.emit_count = 0;
    config.file[0] = 'x';
    assert_int_equal(plugin_config_check(&config, why, sizeof why), WEIR_BAD_REQUEST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_meet_where_some_name_matches_both),
        cmocka_unit_test(copy_owns_its_block),
        cmocka_unit_test(loops_and_roles_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
