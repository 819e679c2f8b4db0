/* actors/memory/slots.c: fixed-size slots by index, type-stable, cached for each thread. */
#include "actors/memory/slots.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct arena *arena;

static int begin(void **state)
{
    (void)state;
    struct arena_config config = {.bytes_max = 8 << 20};
    return arena_create(&config, &arena) == WEIR_OK ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    struct arena_usage usage;
    arena_usage(arena, &usage);
    assert_int_equal(usage.bytes_committed, 0);
    arena_destroy(&arena);
    return 0;
}

static struct slots *create(size_t slot_size, uint32_t slots_max)
{
    struct slots *slots = NULL;
    assert_int_equal(slots_create(arena, slot_size, slots_max, &slots), WEIR_OK);
    return slots;
}

static void slots_are_aligned_apart_and_fresh_ones_zero(void **state)
{
    (void)state;
    struct slots *slots = create(100, 1000);
    struct slots_cache cache = {0};
    for (int i = 0; i < 1000; i++) {
        uint32_t index = 0;
        assert_int_equal(slots_alloc(slots, &cache, &index), WEIR_OK);
        assert_true(index >= 1 && index <= 1000);
        unsigned char *slot = slots_at(slots, index);
        assert_int_equal((uintptr_t)slot % 64, 0);
        for (int j = 4; j < 128; j++)
            assert_int_equal(slot[j], 0);
        memset(slot, 0xff, 128);
    }
    slots_destroy(&slots);
    assert_null(slots);
}

static void small_slots_are_32_bytes_apart_and_keep_what_is_behind_the_link(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    struct slots *slots = create(24, COUNT);
    struct slots_cache cache = {0};
    uint32_t index[COUNT];
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(slots_alloc(slots, &cache, &index[i]), WEIR_OK);
        unsigned char *slot = slots_at(slots, index[i]);
        assert_int_equal(slot - (unsigned char *)slots_at(slots, 0), 32 * (ptrdiff_t)index[i]);
        memset(slot, i & 0xff, 32);
    }
    for (int i = 0; i < COUNT; i++)
        slots_free(slots, &cache, index[i]);
    for (int i = 0; i < COUNT; i++) {
        const unsigned char *slot = slots_at(slots, index[i]);
        for (int j = 4; j < 32; j++)
            assert_int_equal(slot[j], i & 0xff);
    }
    slots_destroy(&slots);
}

static void pool_refuses_beyond_its_maximum_and_recovers(void **state)
{
    (void)state;
    struct slots *slots = create(64, 100);
    struct slots_cache cache = {0};
    uint32_t index[101];
    for (int i = 0; i < 100; i++)
        assert_int_equal(slots_alloc(slots, &cache, &index[i]), WEIR_OK);
    assert_int_equal(slots_alloc(slots, &cache, &index[100]), WEIR_NO_MEMORY);
    slots_free(slots, &cache, index[42]);
    assert_int_equal(slots_alloc(slots, &cache, &index[100]), WEIR_OK);
    assert_int_equal(index[100], index[42]);
    slots_destroy(&slots);
}

static void pool_refuses_at_the_ceiling_of_the_arena(void **state)
{
    (void)state;
    struct slots *slots = create(64, 1000000);
    struct slots_cache cache = {0};
    uint32_t index = 0;
    uint32_t got = 0;
    while (slots_alloc(slots, &cache, &index) == WEIR_OK)
        got++;
    assert_int_equal(got, (8 << 20) / 64);
    struct arena_usage usage;
    arena_usage(arena, &usage);
    assert_int_equal(usage.bytes_committed, 8 << 20);
    assert_true(usage.refusals > 0);
    slots_destroy(&slots);
}

/* Slots until the pool refuses, each looked at; no slot lies evenly in a page of 2 MiB. */
static uint32_t fill_with_192_bytes(struct slots *slots)
{
    struct slots_cache cache = {0};
    uint32_t index, got = 0;
    while (slots_alloc(slots, &cache, &index) == WEIR_OK) {
        uint64_t *slot = slots_at(slots, index);
        assert_int_equal(index, ++got);
        for (int i = 1; i < 192 / 8; i++)
            assert_int_equal(slot[i], 0);
        memset(slot, 0xff, 192);
    }
    return got;
}

static void large_pool_grows_by_pages_and_meets_the_ceiling_no_sooner(void **state)
{
    (void)state;
    enum { MAX = 40 << 20 };
    struct arena *large;
    struct slots *slots;
    struct arena_usage usage;
    assert_int_equal(arena_create(&(struct arena_config){.bytes_max = MAX}, &large), WEIR_OK);
    assert_int_equal(slots_create(large, 192, 1000000, &slots), WEIR_OK);
    uint32_t got = fill_with_192_bytes(slots);
    arena_usage(large, &usage);
    assert_int_equal(usage.bytes_committed, got * 192);
    assert_true(usage.bytes_committed <= MAX && usage.bytes_committed > MAX - (64 << 10));
    assert_int_equal(usage.refusals, 1);
    slots_destroy(&slots);
    /* And its own maximum, in the middle of a page. */
    assert_int_equal(slots_create(large, 192, 50000, &slots), WEIR_OK);
    assert_int_equal(fill_with_192_bytes(slots), 50000);
    slots_destroy(&slots);
    arena_usage(large, &usage);
    assert_int_equal(usage.bytes_committed, 0);
    arena_destroy(&large);
}

static void bytes_behind_the_link_survive_reuse(void **state)
{
    (void)state;
    struct slots *slots = create(64, 500);
    struct slots_cache cache = {0};
    uint32_t index[500];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 500; i++)
            assert_int_equal(slots_alloc(slots, &cache, &index[i]), WEIR_OK);
        for (int i = 0; i < 500; i++) {
            unsigned char *slot = slots_at(slots, index[i]);
            for (int j = 4; j < 64; j++)
                assert_int_equal(slot[j], round ? (index[i] + (uint32_t)j) & 0xff : 0);
            for (int j = 4; j < 64; j++)
                slot[j] = (unsigned char)(index[i] + (uint32_t)j);
        }
        for (int i = 0; i < 500; i++)
            slots_free(slots, &cache, index[i]);
        slots_cache_flush(slots, &cache);
        assert_int_equal(slots_live(slots), 0);
    }
    slots_destroy(&slots);
}

static void live_counts_what_was_not_given_back(void **state)
{
    (void)state;
    struct slots *slots = create(192, 10000);
    struct slots_cache cache = {0};
    uint32_t index[777];
    for (int i = 0; i < 777; i++)
        assert_int_equal(slots_alloc(slots, &cache, &index[i]), WEIR_OK);
    slots_cache_flush(slots, &cache);
    assert_int_equal(slots_live(slots), 777);
    for (int i = 0; i < 700; i++)
        slots_free(slots, &cache, index[i]);
    slots_cache_flush(slots, &cache);
    assert_int_equal(slots_live(slots), 77);
    slots_destroy(&slots);
}

enum { THREADS = 4, HELD = 300, STEPS = 200000 };

struct crossing {
    struct slots *slots;
    _Atomic uint32_t handed;  /* one slot on its way between threads; 0: none. Exchanged, acquire and release */
    _Atomic uint32_t *owners; /* by index: 1 while somebody has the slot */
    _Atomic bool is_broken;
    _Atomic unsigned seed; /* each thread takes the next */
};

static void slot_own(struct crossing *crossing, uint32_t index, uint32_t from, uint32_t to)
{
    if (atomic_exchange(&crossing->owners[index], to) != from)
        atomic_store(&crossing->is_broken, true);
}

static void *crossing_run(void *argument)
{
    struct crossing *crossing = argument;
    struct slots_cache cache = {0};
    uint32_t held[HELD] = {0};
    unsigned seed = ++crossing->seed;
    for (int i = 0; i < STEPS; i++) {
        uint32_t *place = &held[(unsigned)rand_r(&seed) % HELD];
        if (*place) {
            *place = atomic_exchange(&crossing->handed, *place);
            if (!*place)
                continue;
            slot_own(crossing, *place, 1, 0);
            slots_free(crossing->slots, &cache, *place);
            *place = 0;
        } else if (slots_alloc(crossing->slots, &cache, place) == WEIR_OK) {
            slot_own(crossing, *place, 0, 1);
        }
    }
    for (int i = 0; i < HELD; i++) {
        if (!held[i])
            continue;
        slot_own(crossing, held[i], 1, 0);
        slots_free(crossing->slots, &cache, held[i]);
    }
    slots_cache_flush(crossing->slots, &cache);
    return NULL;
}

static void no_slot_has_two_owners_when_threads_exchange_them(void **state)
{
    (void)state;
    enum { SLOTS = 2 * THREADS * (HELD + 2 * SLOTS_BATCH) };
    struct crossing crossing = {.slots = create(64, SLOTS)};
    crossing.owners = calloc(SLOTS + 1, sizeof *crossing.owners);
    assert_non_null(crossing.owners);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, crossing_run, &crossing), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_false(crossing.is_broken);
    assert_int_equal(slots_live(crossing.slots), crossing.handed ? 1 : 0);
    free(crossing.owners);
    slots_destroy(&crossing.slots);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(slots_are_aligned_apart_and_fresh_ones_zero, begin, end),
        cmocka_unit_test_setup_teardown(small_slots_are_32_bytes_apart_and_keep_what_is_behind_the_link, begin, end),
        cmocka_unit_test_setup_teardown(pool_refuses_beyond_its_maximum_and_recovers, begin, end),
        cmocka_unit_test_setup_teardown(pool_refuses_at_the_ceiling_of_the_arena, begin, end),
        cmocka_unit_test(large_pool_grows_by_pages_and_meets_the_ceiling_no_sooner),
        cmocka_unit_test_setup_teardown(bytes_behind_the_link_survive_reuse, begin, end),
        cmocka_unit_test_setup_teardown(live_counts_what_was_not_given_back, begin, end),
        cmocka_unit_test_setup_teardown(no_slot_has_two_owners_when_threads_exchange_them, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
