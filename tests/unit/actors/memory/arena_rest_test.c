/* What threads at rest give back: all that nobody needs, within seconds of their clock, and nothing that is needed
 * again in each period. */
#include "actors/memory/arena.h"

#include "actors/base/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { COUNT = 20000, SIZES = 20, PERIODS_MAX = 40 };

static weir_msg held[COUNT];

static struct arena *arena_new(void)
{
    struct arena *arena;
    struct arena_config config = {.bytes_max = (size_t)1 << 30};
    assert_int_equal(arena_create(&config, &arena), WEIR_OK);
    return arena;
}

/* Blocks of so many sizes, of 100 bytes and more. */
static void burst(struct arena *arena, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_int_equal(arena_alloc(arena, 100 + i % SIZES * 250, NULL, &held[i]), WEIR_OK);
    for (size_t i = 0; i < count; i++)
        arena_drop(arena, held[i]);
}

static void memory_that_nobody_needs_goes_back_within_seconds(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct arena_usage usage;
    weir_msg kept;
    uint64_t now = ARENA_REST_NS;
    assert_int_equal(arena_alloc(arena, 100, NULL, &kept), WEIR_OK);
    burst(arena, COUNT);
    arena_usage(arena, &usage);
    size_t most = usage.bytes_committed_peak;
    assert_true(most >= usage.bytes_committed);
    int periods = 0;
    while (arena_thread_rest(arena, now += ARENA_REST_NS) && periods < PERIODS_MAX)
        periods++;
    assert_true(periods < PERIODS_MAX);
    arena_usage(arena, &usage);
    /* The slab of the one that is live, and what is kept for the next. */
    assert_true(usage.bytes_committed <= (ARENA_SLABS_KEPT_RESTING + 1) * ((size_t)256 << 10));
    assert_int_equal(usage.bytes_committed_peak, most); /* and how much it was is not forgotten */
    assert_true(most > (size_t)COUNT * 1000);
    assert_non_null(arena_data(arena, kept));
    arena_drop(arena, kept);
    arena_destroy(&arena);
}

static void memory_that_each_period_needs_stays(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    uint64_t now = ARENA_REST_NS, returns = 0;
    for (int period = 0; period < PERIODS_MAX; period++) {
        burst(arena, COUNT / 20);
        (void)arena_thread_rest(arena, now += ARENA_REST_NS);
        if (period == PERIODS_MAX / 2)
            returns = arena_returns(arena);
    }
    assert_int_equal(arena_returns(arena), returns);
    arena_destroy(&arena);
}

static void a_thread_that_looks_too_soon_keeps_what_it_has(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct arena_usage before, after;
    uint64_t now = 2 * ARENA_REST_NS;
    burst(arena, COUNT / 20);
    (void)arena_thread_rest(arena, now);
    burst(arena, COUNT / 20);
    arena_usage(arena, &before);
    for (int i = 0; i < PERIODS_MAX; i++)
        (void)arena_thread_rest(arena, now + ARENA_REST_NS - 1);
    arena_usage(arena, &after);
    assert_int_equal(after.bytes_committed, before.bytes_committed);
    arena_destroy(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_that_nobody_needs_goes_back_within_seconds),
        cmocka_unit_test(memory_that_each_period_needs_stays),
        cmocka_unit_test(a_thread_that_looks_too_soon_keeps_what_it_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
