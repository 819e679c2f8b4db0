/* Generations of the real arena where they could come twice: when a slab is given back and cut anew, and
 * when they run out. Looks inside; the checked twin has no slabs and skips. */
#include "actors/memory/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#ifdef WEIR_ARENA_CHECKED

static void slots_never_repeat_a_generation_across_classes(void **state)
{
    (void)state;
    skip();
}

static void slot_without_generations_left_is_retired(void **state)
{
    (void)state;
    skip();
}

static void first_slab_of_large_blocks_is_retired_likewise(void **state)
{
    (void)state;
    skip();
}

#else

#include "actors/memory/arena_internal.h"

static struct arena *create(void)
{
    struct arena *arena = NULL;
    struct arena_config config = {.bytes_max = 64 << 20};
    assert_int_equal(arena_create(&config, &arena), WEIR_OK);
    return arena;
}

static weir_msg alloc(struct arena *arena, size_t size)
{
    weir_msg msg;
    assert_int_equal(arena_alloc(arena, size, NULL, &msg), WEIR_OK);
    return msg;
}

static uint32_t index_of(weir_msg msg) { return (uint32_t)msg.bits; }
static uint32_t generation_of(weir_msg msg) { return (uint32_t)(msg.bits >> 32); }

static void slots_never_repeat_a_generation_across_classes(void **state)
{
    (void)state;
    static const size_t sizes[] = {30, 400000, 1000, 100, 60000, 300000, 5000};
    struct arena *arena = create();
    uint32_t first_index = 0;
    uint32_t generation_last = 0;
    for (int round = 0; round < 200; round++) {
        weir_msg msg = alloc(arena, sizes[(size_t)round % COUNT_OF(sizes)]);
        if (round == 0)
            first_index = index_of(msg);
        /* Alone in the arena, the block is at the start of the lowest slab, or among the first of its batch. */
        if (index_of(msg) == first_index) {
            assert_true(generation_of(msg) > generation_last);
            generation_last = generation_of(msg);
        }
        assert_true(generation_of(msg) > arena->slabs[index_of(msg) >> SLOT_BITS].generation_base ||
                    arena->slabs[index_of(msg) >> SLOT_BITS].generation_base == 0);
        arena_drop(arena, msg);
        assert_null(arena_data(arena, msg));
        arena_thread_flush(arena);
        classes_trim(arena);
    }
    assert_true(generation_last > 20);
    assert_int_equal(arena->slabs_used, 0);
    arena_destroy(&arena);
}

static void slot_without_generations_left_is_retired(void **state)
{
    (void)state;
    struct arena *arena = create();
    uint32_t slots = SLAB_SIZE / SLOT_SIZE_MAX;
    for (uint32_t slab = 1; slab < 4; slab++)
        arena->slabs[slab].generation_base = UINT32_MAX - 1;
    weir_msg last = alloc(arena, SLOT_SIZE_MAX - ARENA_BLOCK_OVERHEAD);
    assert_int_equal(generation_of(last), UINT32_MAX);
    arena_drop(arena, last);
    assert_null(arena_data(arena, last));
    for (uint32_t i = 0; i < 10 * slots; i++) {
        weir_msg next = alloc(arena, SLOT_SIZE_MAX - ARENA_BLOCK_OVERHEAD);
        assert_true(index_of(next) != index_of(last));
        assert_true(generation_of(next) != 0);
        arena_drop(arena, next);
    }
    struct arena_usage usage;
    arena_usage(arena, &usage);
    assert_int_equal(usage.blocks_live, 0);
    arena_destroy(&arena);
}

static void first_slab_of_large_blocks_is_retired_likewise(void **state)
{
    (void)state;
    struct arena *arena = create();
    arena->slabs[1].generation_base = UINT32_MAX - 1;
    weir_msg last = alloc(arena, 1 << 20);
    assert_int_equal(generation_of(last), UINT32_MAX);
    arena_drop(arena, last);
    weir_msg next = alloc(arena, 1 << 20);
    assert_true(index_of(next) != index_of(last));
    assert_null(arena_data(arena, last));
    arena_drop(arena, next);
    arena_destroy(&arena);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_never_repeat_a_generation_across_classes),
        cmocka_unit_test(slot_without_generations_left_is_retired),
        cmocka_unit_test(first_slab_of_large_blocks_is_retired_likewise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
