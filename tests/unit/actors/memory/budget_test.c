/* actors/memory/budget.c: bounds that hold exactly, figures that add up, lives that end with the last block. */
#include "actors/memory/budget.h"

#include "actors/base/limits.h"
#include "actors/memory/arena.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct budget *create(struct budget *parent, const char *owner, size_t bytes_max)
{
    struct budget *budget = NULL;
    assert_int_equal(budget_create(parent, owner, bytes_max, &budget), WEIR_OK);
    return budget;
}

static struct budget_usage usage_of(const struct budget *budget)
{
    struct budget_usage usage;
    budget_usage(budget, &usage);
    return usage;
}

static void budget_refuses_beyond_its_bound_and_not_before(void **state)
{
    (void)state;
    struct budget *budget = create(NULL, "topic a", 10000);
    for (int i = 0; i < 10; i++)
        assert_int_equal(budget_charge(budget, 992), WEIR_OK);
    assert_int_equal(budget_charge(budget, 96), WEIR_NO_MEMORY);
    assert_int_equal(budget_charge(budget, 80), WEIR_OK);
    assert_int_equal(budget_charge(budget, 1), WEIR_NO_MEMORY);
    struct budget_usage usage = usage_of(budget);
    assert_string_equal(usage.owner, "topic a");
    assert_int_equal(usage.bytes_used, 10000);
    assert_int_equal(usage.bytes_peak, 10000);
    assert_int_equal(usage.bytes_max, 10000);
    assert_int_equal(usage.refusals, 2);
    budget_release(budget, 80);
    for (int i = 0; i < 10; i++)
        budget_release(budget, 992);
    usage = usage_of(budget);
    assert_int_equal(usage.bytes_used, 0);
    assert_int_equal(usage.bytes_peak, 10000);
    budget_destroy(&budget);
    assert_null(budget);
}

static void unbounded_budget_only_counts(void **state)
{
    (void)state;
    struct budget *budget = create(NULL, "broker", 0);
    size_t huge = (size_t)100 << 30;
    assert_int_equal(budget_charge(budget, huge), WEIR_OK);
    assert_int_equal(usage_of(budget).bytes_used, huge);
    budget_release(budget, huge);
    assert_int_equal(usage_of(budget).bytes_used, 0);
    budget_destroy(&budget);
}

static void charge_must_fit_every_ancestor(void **state)
{
    (void)state;
    struct budget *root = create(NULL, "broker", 1 << 20);
    struct budget *middle = create(root, "topics", 0);
    struct budget *leaf = create(middle, "topic a", 4 << 20);
    assert_int_equal(budget_charge(leaf, 2 << 20), WEIR_NO_MEMORY);
    assert_int_equal(budget_charge(leaf, 1 << 20), WEIR_OK);
    assert_int_equal(budget_charge(leaf, 16), WEIR_NO_MEMORY);
    assert_int_equal(usage_of(root).bytes_used, 1 << 20);
    assert_int_equal(usage_of(leaf).refusals, 2);
    assert_int_equal(usage_of(root).refusals, 2);
    budget_release(leaf, 1 << 20);
    assert_int_equal(usage_of(leaf).bytes_used, 0);
    assert_true(usage_of(root).bytes_used <= 2 * BUDGET_SLACK_MIN);
    budget_destroy(&leaf);
    budget_destroy(&middle);
    assert_int_equal(usage_of(root).bytes_used, 0);
    budget_destroy(&root);
}

static void ancestors_count_no_more_than_the_slack_too_much(void **state)
{
    (void)state;
    struct budget *root = create(NULL, "broker", 0);
    struct budget *leaf[10];
    for (int i = 0; i < 10; i++) {
        leaf[i] = create(root, "topic", 0);
        assert_int_equal(budget_charge(leaf[i], (size_t)i * 10000), WEIR_OK);
    }
    assert_in_range(usage_of(root).bytes_used, 450000, 450000 + 10 * 2 * BUDGET_SLACK_MIN);
    for (int i = 0; i < 10; i++) {
        budget_release(leaf[i], (size_t)i * 10000);
        budget_destroy(&leaf[i]);
    }
    assert_int_equal(usage_of(root).bytes_used, 0);
    budget_destroy(&root);
}

static void lowered_bound_refuses_until_enough_was_released(void **state)
{
    (void)state;
    struct budget *budget = create(NULL, "topic", 0);
    assert_int_equal(budget_charge(budget, 100000), WEIR_OK);
    budget_limit_set(budget, 50000);
    assert_int_equal(budget_charge(budget, 16), WEIR_NO_MEMORY);
    budget_release(budget, 40000);
    assert_int_equal(budget_charge(budget, 16), WEIR_NO_MEMORY);
    budget_release(budget, 20000);
    assert_int_equal(budget_charge(budget, 9600), WEIR_OK);
    assert_int_equal(budget_charge(budget, 3200), WEIR_NO_MEMORY);
    budget_limit_set(budget, 0);
    assert_int_equal(budget_charge(budget, 1 << 20), WEIR_OK);
    budget_release(budget, 1 << 20);
    budget_release(budget, 9600);
    budget_release(budget, 40000);
    assert_int_equal(usage_of(budget).bytes_used, 0);
    budget_destroy(&budget);
}

static void long_owner_names_are_cut(void **state)
{
    (void)state;
    char name[200];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    struct budget *budget = create(NULL, name, 0);
    assert_int_equal(strlen(usage_of(budget).owner), 63);
    budget_destroy(&budget);
}

static void blocks_are_charged_until_their_last_reference_goes(void **state)
{
    (void)state;
    struct arena *arena = NULL;
    struct arena_config config = {.bytes_max = 16 << 20};
    assert_int_equal(arena_create(&config, &arena), WEIR_OK);
    struct budget *root = create(NULL, "broker", 0);
    struct budget *owner = create(root, "session 1", 0);
    weir_msg msg;
    assert_int_equal(arena_alloc(arena, 1000, owner, &msg), WEIR_OK);
    assert_int_equal(arena_hold(arena, msg), WEIR_OK);
    struct budget_usage usage = usage_of(owner);
    assert_int_equal(usage.blocks_used, 1);
    assert_in_range(usage.bytes_used, 1000 + ARENA_BLOCK_OVERHEAD, 1500);
    arena_drop(arena, msg);
    assert_int_equal(usage_of(owner).blocks_used, 1);
    /* The owner goes first; its block keeps the account. */
    budget_destroy(&owner);
    assert_true(usage_of(root).bytes_used > 0);
    arena_drop(arena, msg);
    assert_int_equal(usage_of(root).bytes_used, 0);
    budget_destroy(&root);
    arena_destroy(&arena);
}

static void refused_block_charges_nothing(void **state)
{
    (void)state;
    struct arena *arena = NULL;
    struct arena_config config = {.bytes_max = 16 << 20};
    assert_int_equal(arena_create(&config, &arena), WEIR_OK);
    struct budget *owner = create(NULL, "session 1", 4096);
    struct budget *rich = create(NULL, "session 2", 0);
    weir_msg msg;
    assert_int_equal(arena_alloc(arena, 5000, owner, &msg), WEIR_NO_MEMORY);
    assert_int_equal(usage_of(owner).bytes_used, 0);
    assert_int_equal(usage_of(owner).refusals, 1);
    assert_int_equal(arena_alloc(arena, 20 << 20, rich, &msg), WEIR_NO_MEMORY);
    assert_int_equal(usage_of(rich).bytes_used, 0);
    assert_int_equal(usage_of(rich).blocks_used, 0);
    budget_destroy(&owner);
    budget_destroy(&rich);
    arena_destroy(&arena);
}

enum { THREADS = 4, LEAVES = 3, STEPS = 100000, HELD_MAX = 64 };

struct crowd {
    struct budget *root;
    struct budget *leaf[LEAVES];
    _Atomic unsigned seed; /* each thread takes the next */
};

static void *crowd_run(void *argument)
{
    struct crowd *crowd = argument;
    struct {
        int leaf;
        size_t size;
    } held[HELD_MAX] = {{0}};
    unsigned seed = ++crowd->seed;
    for (int i = 0; i < STEPS; i++) {
        unsigned place = (unsigned)rand_r(&seed) % HELD_MAX;
        if (held[place].size) {
            budget_release(crowd->leaf[held[place].leaf], held[place].size);
            held[place].size = 0;
            continue;
        }
        int leaf = (int)((unsigned)rand_r(&seed) % LEAVES);
        size_t size = 1 + (size_t)rand_r(&seed) % 5000;
        if (budget_charge(crowd->leaf[leaf], size) == WEIR_OK) {
            held[place].leaf = leaf;
            held[place].size = size;
        }
    }
    for (unsigned i = 0; i < HELD_MAX; i++) {
        if (held[i].size)
            budget_release(crowd->leaf[held[i].leaf], held[i].size);
    }
    return NULL;
}

static void bounds_hold_and_figures_balance_with_many_threads(void **state)
{
    (void)state;
    /* Less than one thread alone would hold, some 80,000: they need not meet for one to be refused. */
    struct crowd crowd = {.root = create(NULL, "broker", 60000)};
    for (int i = 0; i < LEAVES; i++)
        crowd.leaf[i] = create(crowd.root, "leaf", i ? 36000 : 0);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_run, &crowd), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(usage_of(crowd.root).refusals > 0);
    assert_true(usage_of(crowd.root).bytes_peak <= 60000);
    for (int i = 0; i < LEAVES; i++) {
        assert_int_equal(usage_of(crowd.leaf[i]).bytes_used, 0);
        assert_true(i == 0 || usage_of(crowd.leaf[i]).bytes_peak <= 36000);
        budget_destroy(&crowd.leaf[i]);
    }
    assert_int_equal(usage_of(crowd.root).bytes_used, 0);
    assert_int_equal(usage_of(crowd.root).blocks_used, 0);
    budget_destroy(&crowd.root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budget_refuses_beyond_its_bound_and_not_before),
        cmocka_unit_test(unbounded_budget_only_counts),
        cmocka_unit_test(charge_must_fit_every_ancestor),
        cmocka_unit_test(ancestors_count_no_more_than_the_slack_too_much),
        cmocka_unit_test(lowered_bound_refuses_until_enough_was_released),
        cmocka_unit_test(long_owner_names_are_cut),
        cmocka_unit_test(blocks_are_charged_until_their_last_reference_goes),
        cmocka_unit_test(refused_block_charges_nothing),
        cmocka_unit_test(bounds_hold_and_figures_balance_with_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
