/* What a child may tell, and what the broker kills it for, beside the frames of its ring (channel_test.c). */
#include "actors/plugin/child_check.h"

#include "actors/plugin/output_check.h"
#include "actors/plugin/plugin_limits.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static char why[PLUGIN_TEXT_SIZE];

/* As a child may send it, whatever its runner is. */
static void merged_form_from_a_child_is_checked(void **state)
{
    (void)state;
    struct runner_bounds bounds = {0};
    struct plugin_output output;
    runner_bounds_fill(&bounds);
    plugin_output_init(&output, OUTPUT_EMIT, 1);
    output.topic = view_text("t");
    output.key = view_text("k");
    output.value = view_text("\x01\x02");
    output.has_key = true;
    output.update_size = 1;
    assert_true(output_check(&output, &bounds, why, sizeof why));
    for (uint32_t size = 2; size < 4; size++) {
        output.update_size = size;
        assert_false(output_check(&output, &bounds, why, sizeof why));
    }
    output.update_size = UINT32_MAX;
    assert_false(output_check(&output, &bounds, why, sizeof why));
    output.update_size = 1;
    output.has_key = false;
    assert_false(output_check(&output, &bounds, why, sizeof why));
}

/* A child may tell anything any number of times, and what it tells of one input is kept until that input's end. */
static void child_tells_one_snapshot_of_an_input(void **state)
{
    (void)state;
    struct child_check check = {.number = 0};
    struct plugin_output output;
    runner_bounds_fill(&check.bounds);
    for (uint64_t number = 1; number < 3; number++) {
        child_check_begin(&check, number);
        plugin_output_init(&output, OUTPUT_SNAPSHOT, number);
        output.value = view_text("\x01");
        assert_true(child_check(&check, &output, why, sizeof why));
        assert_false(child_check(&check, &output, why, sizeof why));
    }
}

static void output_with_a_size_that_its_kind_does_not_have_is_refused(void **state)
{
    (void)state;
    static const enum plugin_output_kind kinds[] = {OUTPUT_TIMER, OUTPUT_LOG, OUTPUT_SNAPSHOT, OUTPUT_REPLY,
                                                    OUTPUT_DONE};
    struct child_check check = {.number = 0};
    struct plugin_output output;
    runner_bounds_fill(&check.bounds);
    child_check_begin(&check, 1);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        plugin_output_init(&output, kinds[i], 1);
        if (kinds[i] == OUTPUT_SNAPSHOT || kinds[i] == OUTPUT_REPLY)
            output.value = view_text("\x01");
        output.update_size = 1;
        assert_false(child_check(&check, &output, why, sizeof why));
        output.update_size = 0;
        assert_true(child_check(&check, &output, why, sizeof why));
    }
}

/* What is left out of an emission is left out whole, and of nothing else. */
static void reference_to_what_the_message_has_is_told_alone(void **state)
{
    (void)state;
    static const enum plugin_output_kind kinds[] = {OUTPUT_TIMER, OUTPUT_LOG, OUTPUT_SNAPSHOT, OUTPUT_REPLY,
                                                    OUTPUT_DONE};
    static const struct view texts[2] = {{(const uint8_t *)"", 0}, {(const uint8_t *)"\x01", 1}};
    struct child_check check = {.number = 0};
    struct plugin_output output;
    runner_bounds_fill(&check.bounds);
    child_check_begin(&check, 1);
    for (unsigned bits = 0; bits < 64; bits++) { /* which are the message's own, and which are told */
        bool is_twice = (bits & bits / 8) != 0, has_topic = (bits & (8 | OUTPUT_SAME_TOPIC)) != 0;
        bool has_value = (bits & (32 | OUTPUT_SAME_VALUE)) != 0;
        plugin_output_init(&output, OUTPUT_EMIT, 1);
        output.same = (uint8_t)(bits % 8);
        output.topic = bits & 8 ? view_text("t") : texts[0];
        output.key = bits & 16 ? view_text("k") : texts[0];
        output.has_key = (bits & (16 | OUTPUT_SAME_KEY)) != 0;
        output.value = texts[bits / 32];
        if (child_check(&check, &output, why, sizeof why) != (!is_twice && has_topic && has_value))
            fail_msg("%u: %s", bits, why);
    }
    plugin_output_init(&output, OUTPUT_EMIT, 1);
    output.same = OUTPUT_SAME_TOPIC | OUTPUT_SAME_KEY | OUTPUT_SAME_VALUE;
    assert_false(child_check(&check, &output, why, sizeof why)); /* a key, and none */
    output.key = texts[0];
    output.has_key = true;
    output.is_last = true;
    assert_true(child_check(&check, &output, why, sizeof why));
    output.update_size = 1;
    assert_false(child_check(&check, &output, why, sizeof why));
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        for (int field = 0; field < 2; field++) {
            child_check_begin(&check, 1);
            plugin_output_init(&output, kinds[i], 1);
            output.value = kinds[i] == OUTPUT_SNAPSHOT || kinds[i] == OUTPUT_REPLY ? texts[1] : texts[0];
            output.is_last = field == 0;
            output.same = field == 0 ? 0 : OUTPUT_SAME_VALUE;
            assert_false(child_check(&check, &output, why, sizeof why));
        }
    }
    child_check_begin(&check, 0); /* there is no message in a start */
    plugin_output_init(&output, OUTPUT_EMIT, 0);
    output.same = OUTPUT_SAME_TOPIC | OUTPUT_SAME_VALUE;
    assert_false(child_check(&check, &output, why, sizeof why));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merged_form_from_a_child_is_checked),
        cmocka_unit_test(child_tells_one_snapshot_of_an_input),
        cmocka_unit_test(reference_to_what_the_message_has_is_told_alone),
        cmocka_unit_test(output_with_a_size_that_its_kind_does_not_have_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
