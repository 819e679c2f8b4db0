/* actors/memory/arena.h's contract, claim by claim; for the real arena and for its checked twin. */
#include "actors/memory/arena.h"

#include "actors/base/assert.h"
#include "tests/unit/instrumented.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { CEILING = 64 << 20 };

static struct arena *arena;

static int begin(void **state)
{
    (void)state;
    struct arena_config config = {.bytes_max = CEILING};
    return arena_create(&config, &arena) == WEIR_OK ? 0 : -1;
}

static struct arena_usage usage_now(void)
{
    struct arena_usage usage;
    arena_usage(arena, &usage);
    return usage;
}

static int end(void **state)
{
    (void)state;
    assert_int_equal(usage_now().blocks_live, 0);
    assert_int_equal(usage_now().bytes_live, 0);
    arena_destroy(&arena);
    assert_null(arena);
    return 0;
}

static weir_msg alloc(size_t size)
{
    weir_msg msg = WEIR_MSG_NONE;
    assert_int_equal(arena_alloc(arena, size, NULL, &msg), WEIR_OK);
    assert_false(msg_is_none(msg));
    return msg;
}

static void block_of_every_size_holds_its_bytes(void **state)
{
    (void)state;
    for (size_t size = 1; size <= 4 << 20; size += size < 4200 ? 1 : size / 7) {
        weir_msg msg = alloc(size);
        unsigned char *data = arena_data(arena, msg);
        assert_non_null(data);
        assert_int_equal((uintptr_t)data % 16, 0);
        assert_int_equal(arena_size(arena, msg), size);
        size_t capacity = arena_capacity(arena, msg);
        assert_true(capacity >= size);
        memset(data, 0x5a, capacity);
        assert_int_equal(data[capacity - 1], 0x5a);
        arena_drop(arena, msg);
    }
}

static void sizes_beyond_the_largest_are_refused(void **state)
{
    (void)state;
    weir_msg msg;
    assert_int_equal(arena_alloc(arena, ARENA_BLOCK_SIZE_MAX + 1, NULL, &msg), WEIR_TOO_BIG);
    assert_int_equal(arena_alloc(arena, SIZE_MAX, NULL, &msg), WEIR_TOO_BIG);
}

static void largest_block_can_be_had(void **state)
{
    (void)state;
    struct arena *large = NULL;
    struct arena_config config = {.bytes_max = 2 * ARENA_BLOCK_SIZE_MAX};
    assert_int_equal(arena_create(&config, &large), WEIR_OK);
    weir_msg msg;
    assert_int_equal(arena_alloc(large, ARENA_BLOCK_SIZE_MAX, NULL, &msg), WEIR_OK);
    char *data = arena_data(large, msg);
    data[0] = 1;
    data[ARENA_BLOCK_SIZE_MAX - 1] = 1;
    arena_drop(large, msg);
    arena_destroy(&large);
}

static void last_drop_ends_the_generation(void **state)
{
    (void)state;
    static const size_t sizes[] = {40, 5000, 100000, 1000000};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        weir_msg msg = alloc(sizes[i]);
        assert_true(arena_is_unshared(arena, msg));
        assert_int_equal(arena_hold(arena, msg), WEIR_OK);
        assert_false(arena_is_unshared(arena, msg));
        arena_drop(arena, msg);
        assert_true(arena_is_unshared(arena, msg));
        assert_non_null(arena_data(arena, msg));
        arena_drop(arena, msg);
        uint64_t stale = usage_now().stale;
        assert_null(arena_data(arena, msg));
        assert_int_equal(arena_size(arena, msg), 0);
        assert_int_equal(arena_capacity(arena, msg), 0);
        assert_int_equal(arena_hold(arena, msg), WEIR_STALE);
        assert_false(arena_is_unshared(arena, msg));
        arena_drop(arena, msg);
        assert_int_equal(usage_now().stale, stale + 6);
        /* Also when the slot serves another block by then. */
        weir_msg next = alloc(sizes[i]);
        assert_true(next.bits != msg.bits);
        assert_null(arena_data(arena, msg));
        arena_drop(arena, msg);
        assert_non_null(arena_data(arena, next));
        arena_drop(arena, next);
    }
}

static void no_block_is_refused_without_a_count_on_drop(void **state)
{
    (void)state;
    arena_drop(arena, WEIR_MSG_NONE);
    assert_int_equal(usage_now().stale, 0);
    assert_null(arena_data(arena, WEIR_MSG_NONE));
    assert_int_equal(arena_hold(arena, WEIR_MSG_NONE), WEIR_STALE);
}

static uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* True when bits name one of the blocks that the test kept: the odd ones. */
static bool is_kept(const weir_msg *live, size_t count, uint64_t bits)
{
    for (size_t i = 1; i < count; i += 2) {
        if (live[i].bits == bits)
            return true;
    }
    return false;
}

/* Random bits, and near misses: a small generation, an index near a real one. */
static uint64_t garbage_next(uint64_t *seed, int i, const weir_msg *live, size_t count)
{
    uint64_t bits = random_next(seed);
    switch (i % 4) {
    case 1: return (bits & 0xffffffff) | UINT64_C(1) << 32;
    case 2: return live[bits % count].bits ^ (bits >> 8 & 0xffff);
    case 3: return (bits & 0x7ffffff) | UINT64_C(1) << 32;
    default: return bits;
    }
}

static void garbage_handles_are_refused(void **state)
{
    (void)state;
    uint64_t seed = (uint64_t)getpid() * 0x9e3779b97f4a7c15u + 1;
    print_message("seed %llu\n", (unsigned long long)seed);
    weir_msg live[200];
    for (size_t i = 0; i < COUNT_OF(live); i++) {
        live[i] = alloc(1 + random_next(&seed) % 300000);
        /* Bytes that look like the head of a block with one reference and a small generation. */
        uint32_t *words = arena_data(arena, live[i]);
        for (size_t j = 0; j < arena_size(arena, live[i]) / 4; j++)
            words[j] = 1;
    }
    for (size_t i = 0; i < COUNT_OF(live); i += 2)
        arena_drop(arena, live[i]);
    for (int i = 0; i < (IS_INSTRUMENTED ? 200000 : 2000000); i++) {
        weir_msg garbage = {garbage_next(&seed, i, live, COUNT_OF(live))};
        if (is_kept(live, COUNT_OF(live), garbage.bits))
            continue;
        if (arena_data(arena, garbage) || arena_hold(arena, garbage) == WEIR_OK)
            fail_msg("garbage handle %016llx was taken", (unsigned long long)garbage.bits);
        arena_drop(arena, garbage);
    }
    for (size_t i = 1; i < COUNT_OF(live); i += 2) {
        assert_non_null(arena_data(arena, live[i]));
        arena_drop(arena, live[i]);
    }
}

static void ceiling_refuses_and_memory_comes_back_in_any_size(void **state)
{
    (void)state;
    static const size_t sizes[] = {100, 3000, 60000, 700000, 100};
    static weir_msg held[CEILING / 128];
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        size_t count = 0;
        while (arena_alloc(arena, sizes[i], NULL, &held[count]) == WEIR_OK)
            count++;
        struct arena_usage usage = usage_now();
        assert_true(usage.bytes_committed <= CEILING);
        assert_true(usage.refusals > i);
        assert_true(usage.bytes_live > (size_t)CEILING * 3 / 4);
        assert_int_equal(usage.blocks_live, count);
        while (count > 0)
            arena_drop(arena, held[--count]);
    }
}

/* Blocks until there is no more memory for them. */
static size_t alloc_all(struct budget *owner, uint32_t part, weir_msg *held)
{
    size_t count = 0;
    while (arena_alloc_leaving(arena, 3000, owner, part, &held[count]) == WEIR_OK)
        count++;
    return count;
}

static void what_is_left_to_others_is_theirs(void **state)
{
    (void)state;
    static weir_msg held[CEILING / 3000];
    struct budget *parent = NULL, *owner = NULL;
    assert_int_equal(budget_create(NULL, "parent", 0, &parent), WEIR_OK);
    budget_leave_set(parent, 8);
    assert_int_equal(budget_create(parent, "owner", 0, &owner), WEIR_OK);
    size_t count = alloc_all(owner, 0, held);
    assert_true(usage_now().bytes_committed <= CEILING / 8 * 7);
    assert_true(usage_now().bytes_live > CEILING / 8 * 6);
    size_t more = alloc_all(owner, 16, held + count);
    assert_int_equal(more, 0); /* the budget leaves more */
    more = alloc_all(NULL, 16, held + count);
    assert_true(more > 0 && usage_now().bytes_committed <= CEILING / 16 * 15);
    count += more;
    more = alloc_all(NULL, 0, held + count);
    assert_true(more > 0 && usage_now().bytes_committed > CEILING / 16 * 15);
    weir_msg large;
    arena_drop(arena, held[count]);
    assert_int_equal(arena_alloc_leaving(arena, 1 << 20, NULL, 16, &large), WEIR_NO_MEMORY);
    for (size_t i = 0; i < count + more; i++)
        if (i != count)
            arena_drop(arena, held[i]);
    budget_destroy(&owner);
    budget_destroy(&parent);
}

static size_t resident_size(void)
{
    size_t total = 0;
    size_t resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%zu %zu", &total, &resident), 2);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

enum { IS_RESIDENT_TELLING = !IS_INSTRUMENTED }; /* else shadow and quarantine drown what the arena does */

static void free_slabs_go_back_to_the_system(void **state)
{
    (void)state;
    enum { COUNT = 48000 };
    static weir_msg held[COUNT];
    size_t before = resident_size();
    for (int i = 0; i < COUNT; i++) {
        held[i] = alloc(1000);
        memset(arena_data(arena, held[i]), 1, 1000);
    }
    size_t full = resident_size();
    assert_true(!IS_RESIDENT_TELLING || full - before > 48000000);
    for (int i = 0; i < COUNT; i++)
        arena_drop(arena, held[i]);
    arena_thread_flush(arena);
    size_t after = resident_size();
    assert_true(!IS_RESIDENT_TELLING || after - before < 10 << 20);
    assert_true(usage_now().bytes_committed <= CEILING / 8);
    for (int i = 0; i < COUNT; i++)
        assert_null(arena_data(arena, held[i]));
}

static void large_blocks_give_back_what_is_not_kept_for_reuse(void **state)
{
    (void)state;
    size_t before = resident_size();
    for (int i = 0; i < (IS_INSTRUMENTED ? 3 : 20); i++) {
        weir_msg msg = alloc(50 << 20);
        memset(arena_data(arena, msg), 1, 50 << 20);
        arena_drop(arena, msg);
        assert_null(arena_data(arena, msg));
    }
    size_t after = resident_size();
    assert_true(!IS_RESIDENT_TELLING || after < before + (8 << 20));
}

/* Fills the arena with large blocks, frees every second one, and then wants larger ones. */
static void fragmented_range_still_serves_large_blocks(void **state)
{
    (void)state;
    weir_msg held[CEILING / (256 << 10)];
    for (int round = 0; round < (IS_INSTRUMENTED ? 4 : 50); round++) {
        size_t count = 0;
        while (count < COUNT_OF(held) && arena_alloc(arena, 500000, NULL, &held[count]) == WEIR_OK)
            count++;
        for (size_t i = (size_t)round % 2; i < count; i += 2)
            arena_drop(arena, held[i]);
        weir_msg large = alloc(20 << 20);
        for (size_t i = 1 - (size_t)round % 2; i < count; i += 2)
            arena_drop(arena, held[i]);
        arena_drop(arena, large);
    }
}

struct leaks {
    size_t count;
    size_t size;
    char owner[64];
    weir_msg msg;
};

static void leak_seen(weir_msg msg, size_t size, const char *owner, void *context)
{
    struct leaks *leaks = context;
    leaks->count++;
    leaks->size = size;
    leaks->msg = msg;
    snprintf(leaks->owner, sizeof leaks->owner, "%s", owner);
}

static void leak_report_names_block_size_and_owner(void **state)
{
    (void)state;
    struct budget *budget = NULL;
    assert_int_equal(budget_create(NULL, "topic sensors/a", 0, &budget), WEIR_OK);
    weir_msg held[100];
    for (int i = 0; i < 100; i++)
        held[i] = alloc(64);
    weir_msg leak;
    assert_int_equal(arena_alloc(arena, 777, budget, &leak), WEIR_OK);
    for (int i = 0; i < 100; i++)
        arena_drop(arena, held[i]);
    struct leaks leaks = {0};
    assert_int_equal(arena_leaks_report(arena, leak_seen, &leaks), 1);
    assert_int_equal(leaks.count, 1);
    assert_int_equal(leaks.size, 777);
    assert_int_equal(leaks.msg.bits, leak.bits);
    assert_string_equal(leaks.owner, "topic sensors/a");
    arena_drop(arena, leak);
    assert_int_equal(arena_leaks_report(arena, leak_seen, &leaks), 0);
    weir_msg large = alloc(1 << 20);
    assert_int_equal(arena_leaks_report(arena, leak_seen, &leaks), 1);
    assert_int_equal(leaks.size, 1 << 20);
    assert_string_equal(leaks.owner, "");
    arena_drop(arena, large);
    budget_destroy(&budget);
}

static void ceiling_that_serves_nobody_is_a_bad_request(void **state)
{
    (void)state;
    struct arena *none = NULL;
    struct arena_config config = {.bytes_max = 0};
    assert_int_equal(arena_create(&config, &none), WEIR_BAD_REQUEST);
    assert_null(none);
    arena_destroy(&none);
}

static void two_arenas_in_one_thread_do_not_mix(void **state)
{
    (void)state;
    struct arena *other = NULL;
    struct arena_config config = {.bytes_max = CEILING};
    assert_int_equal(arena_create(&config, &other), WEIR_OK);
    weir_msg held[100];
    for (int i = 0; i < 100; i++)
        assert_int_equal(arena_alloc(i % 2 ? other : arena, 100, NULL, &held[i]), WEIR_OK);
    for (int i = 0; i < 100; i++)
        memset(arena_data(i % 2 ? other : arena, held[i]), i, 100);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(*(unsigned char *)arena_data(i % 2 ? other : arena, held[i]), i);
        arena_drop(i % 2 ? other : arena, held[i]);
    }
    struct arena_usage usage;
    arena_usage(other, &usage);
    assert_int_equal(usage.blocks_live, 0);
    arena_destroy(&other);
}

static void a_block_grows_with_what_is_in_it_or_stays_as_it_was(void **state)
{
    (void)state;
    struct budget *budget;
    assert_int_equal(budget_create(NULL, "grows", 4096, &budget), WEIR_OK);
    weir_msg block = WEIR_MSG_NONE;
    assert_int_equal(arena_grow(arena, &block, 0, 100, budget), WEIR_OK);
    memset(arena_data(arena, block), 'a', 100);
    weir_msg first = block;
    assert_int_equal(arena_grow(arena, &block, 60, 1000, budget), WEIR_OK);
    assert_null(arena_data(arena, first));
    assert_int_equal(arena_size(arena, block), 1000);
    const char *data = arena_data(arena, block);
    for (size_t i = 0; i < 60; i++)
        assert_int_equal(data[i], 'a');
    weir_msg second = block;
    assert_int_equal(arena_grow(arena, &block, 60, 5000, budget), WEIR_NO_MEMORY);
    assert_int_equal(arena_grow(arena, &block, 60, ARENA_BLOCK_SIZE_MAX + 1, budget), WEIR_TOO_BIG);
    assert_int_equal(block.bits, second.bits);
    assert_int_equal(((const char *)arena_data(arena, block))[59], 'a');
    arena_drop(arena, block);
    budget_destroy(&budget);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(block_of_every_size_holds_its_bytes, begin, end),
        cmocka_unit_test_setup_teardown(sizes_beyond_the_largest_are_refused, begin, end),
        cmocka_unit_test(largest_block_can_be_had),
        cmocka_unit_test_setup_teardown(a_block_grows_with_what_is_in_it_or_stays_as_it_was, begin, end),
        cmocka_unit_test_setup_teardown(last_drop_ends_the_generation, begin, end),
        cmocka_unit_test_setup_teardown(no_block_is_refused_without_a_count_on_drop, begin, end),
        cmocka_unit_test_setup_teardown(garbage_handles_are_refused, begin, end),
        cmocka_unit_test_setup_teardown(ceiling_refuses_and_memory_comes_back_in_any_size, begin, end),
        cmocka_unit_test_setup_teardown(what_is_left_to_others_is_theirs, begin, end),
        cmocka_unit_test_setup_teardown(free_slabs_go_back_to_the_system, begin, end),
        cmocka_unit_test_setup_teardown(large_blocks_give_back_what_is_not_kept_for_reuse, begin, end),
        cmocka_unit_test_setup_teardown(fragmented_range_still_serves_large_blocks, begin, end),
        cmocka_unit_test_setup_teardown(leak_report_names_block_size_and_owner, begin, end),
        cmocka_unit_test(ceiling_that_serves_nobody_is_a_bad_request),
        cmocka_unit_test_setup_teardown(two_arenas_in_one_thread_do_not_mix, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
