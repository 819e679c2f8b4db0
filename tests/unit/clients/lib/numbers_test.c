/* The table of things by number, against a plain array that says which number stands for what. */
#include "clients/lib/numbers.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { NUMBERS = 512, STEPS = 200000 };

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void check_all(const struct numbers *numbers, void *const *model)
{
    size_t count = 0;
    for (uint32_t i = 0; i < NUMBERS; i++) {
        assert_ptr_equal(numbers_find(numbers, i), model[i]);
        count += model[i] != NULL;
    }
    assert_int_equal(numbers->count, count);
}

static void numbers_are_what_a_plain_array_says(void **state)
{
    (void)state;
    static int things[NUMBERS];
    void *model[NUMBERS] = {NULL};
    uint64_t random = 88172645463325252u;
    struct numbers numbers = {.seed = 0x9e3779b97f4a7c15u};
    for (int step = 0; step < STEPS; step++) {
        uint32_t number = (uint32_t)(random_next(&random) % NUMBERS);
        if (random_next(&random) % 2 == 0) {
            numbers_remove(&numbers, number);
            model[number] = NULL;
        } else {
            void *wanted = &things[random_next(&random) % NUMBERS], *expected = model[number] ? model[number] : wanted;
            assert_ptr_equal(numbers_put(&numbers, number, wanted), expected);
            model[number] = expected;
        }
        if (step % 997 == 0)
            check_all(&numbers, model);
    }
    check_all(&numbers, model);
    numbers_clear(&numbers);
    assert_null(numbers_find(&numbers, 1));
}

/* With the worst of seeds all numbers have one home: slow, and right. */
static void numbers_that_collide_are_all_found(void **state)
{
    (void)state;
    static int things[64];
    struct numbers numbers = {.seed = 1};
    for (uint32_t i = 0; i < 64; i++)
        assert_ptr_equal(numbers_put(&numbers, i, &things[i]), &things[i]);
    for (uint32_t i = 0; i < 64; i += 2)
        numbers_remove(&numbers, i);
    for (uint32_t i = 0; i < 64; i++)
        assert_ptr_equal(numbers_find(&numbers, i), i % 2 == 0 ? NULL : (void *)&things[i]);
    numbers_clear(&numbers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_what_a_plain_array_says),
        cmocka_unit_test(numbers_that_collide_are_all_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
