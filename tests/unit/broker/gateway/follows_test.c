/* The table of followed topics against a plain list, through growth, removal in any order, and shrinking. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/gateway/connection.h"
#include "broker/gateway/follows.h"

enum { IDS_MAX = 20000, OWNERS = 64 };

struct world {
    struct arena *arena;
    struct connection connection; /* of it only arena and budget are used */
    struct follows follows;
    uint32_t owners[IDS_MAX]; /* by id; 0: not there */
    uint32_t count;
    uint64_t random;
};

static uint32_t random_below(struct world *world, uint32_t bound)
{
    world->random = world->random * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(world->random >> 33) % bound;
}

static void world_start(struct world *world, size_t bytes_max)
{
    *world = (struct world){.random = 7};
    struct arena_config config = {.bytes_max = (size_t)64 << 20};
    assert_int_equal(arena_create(&config, &world->arena), WEIR_OK);
    world->connection.arena = world->arena;
    assert_int_equal(budget_create(NULL, "test", bytes_max, &world->connection.budget), WEIR_OK);
}

static void world_stop(struct world *world)
{
    follows_fini(&world->connection, &world->follows);
    struct budget_usage usage;
    budget_usage(world->connection.budget, &usage);
    assert_int_equal(usage.blocks_used, 0);
    budget_destroy(&world->connection.budget);
    arena_destroy(&world->arena);
}

static void add(struct world *world, uint32_t id)
{
    struct followed *followed = follows_ensure(&world->connection, &world->follows, id);
    assert_non_null(followed);
    if (world->owners[id] == 0) {
        assert_int_equal(followed->owner, 0);
        world->owners[id] = followed->owner = 1 + random_below(world, OWNERS);
        followed_begin(&world->follows, followed, random_below(world, 100));
        world->count++;
    }
    assert_int_equal(followed->owner, world->owners[id]);
}

static void drop(struct world *world, uint32_t id)
{
    struct followed *followed = follows_find(&world->follows, id);
    assert_int_equal(followed != NULL, world->owners[id] != 0);
    if (followed == NULL)
        return;
    follows_remove(&world->connection, &world->follows, followed);
    world->owners[id] = 0;
    world->count--;
}

static void check(const struct world *world)
{
    assert_int_equal(world->follows.count, world->count);
    int64_t granted = 0;
    for (uint32_t id = 1; id < IDS_MAX; id++) {
        const struct followed *followed = follows_find(&world->follows, id);
        assert_int_equal(followed != NULL, world->owners[id] != 0);
        if (followed != NULL)
            assert_true(followed->id == id && followed->owner == world->owners[id]);
        granted += followed != NULL ? followed->granted : 0;
    }
    assert_int_equal(world->follows.granted, granted);
}

static void feeds_are_found_through_growth_and_removal_in_any_order(void **state)
{
    (void)state;
    static struct world world;
    world_start(&world, 0);
    /* Small tables are full of edges; large ones see all steps of growth. */
    for (uint32_t ids = 2; ids <= IDS_MAX; ids = ids * 3 / 2 + 1) {
        for (uint32_t i = 0; i < ids * 4; i++) {
            uint32_t id = 1 + random_below(&world, ids - 1);
            if (random_below(&world, 5) < 3)
                add(&world, id);
            else
                drop(&world, id);
        }
        check(&world);
    }
    world_stop(&world);
}

static void feeds_of_an_owner_go_together_and_the_table_with_the_last(void **state)
{
    (void)state;
    static struct world world;
    world_start(&world, 0);
    for (uint32_t id = 1; id < IDS_MAX; id++)
        add(&world, id);
    uint32_t capacity = world.follows.capacity;
    assert_true(capacity < IDS_MAX * 2);
    for (uint32_t owner = 1; owner <= OWNERS; owner++) {
        follows_remove_owner(&world.connection, &world.follows, owner);
        for (uint32_t id = 1; id < IDS_MAX; id++) {
            world.count -= world.owners[id] == owner;
            world.owners[id] = world.owners[id] == owner ? 0 : world.owners[id];
        }
        if (owner % 16 == 0)
            check(&world);
    }
    assert_int_equal(world.follows.capacity, 0);
    world_stop(&world);
}

static void a_table_that_finds_no_memory_stays_as_it_was(void **state)
{
    (void)state;
    static struct world world;
    world_start(&world, 16 << 10);
    uint32_t id = 1;
    while (follows_ensure(&world.connection, &world.follows, id) != NULL) {
        world.owners[id] = 0;
        id++;
        assert_true(id < IDS_MAX);
    }
    assert_true(id > 100);
    for (uint32_t there = 1; there < id; there++)
        assert_non_null(follows_find(&world.follows, there));
    assert_null(follows_find(&world.follows, id));
    world_stop(&world);
}

static void feeds_of_many_are_lent_more_until_all_together_have_enough(void **state)
{
    (void)state;
    static struct world world;
    enum { OUTBOX = 64 << 10, LENT = 4096 };
    world_start(&world, 0);
    for (uint32_t id = 1; id < IDS_MAX; id++)
        add(&world, id);
    size_t share = follow_window(OUTBOX, world.follows.count);
    assert_true(share < LENT);
    uint32_t lent = 0;
    for (uint32_t id = 1; id < IDS_MAX; id++) {
        size_t window = follow_window_lent(&world.follows, OUTBOX);
        assert_true(window == share || window == LENT);
        lent += window == LENT;
        if (window == LENT)
            followed_begin(&world.follows, follows_find(&world.follows, id), LENT);
    }
    assert_in_range(lent, 100, 64 * OUTBOX / LENT);
    assert_true(world.follows.granted <= 64 * OUTBOX);
    assert_int_equal(follow_window_lent(&world.follows, OUTBOX), share);
    /* Who leaves gives back what it was lent. */
    uint32_t id = 1;
    for (; id < IDS_MAX && follow_window_lent(&world.follows, OUTBOX) == share; id++)
        drop(&world, id);
    assert_in_range(id, 2, 10);
    check(&world);
    /* Few have shares that are larger. */
    assert_int_equal(follow_window(OUTBOX, 2), OUTBOX / 2);
    while (world.follows.count > 2)
        drop(&world, ++id);
    assert_int_equal(follow_window_lent(&world.follows, OUTBOX), OUTBOX / 2);
    world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(feeds_are_found_through_growth_and_removal_in_any_order),
        cmocka_unit_test(feeds_of_an_owner_go_together_and_the_table_with_the_last),
        cmocka_unit_test(feeds_of_many_are_lent_more_until_all_together_have_enough),
        cmocka_unit_test(a_table_that_finds_no_memory_stays_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
