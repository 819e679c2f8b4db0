/* Subscriptions by name: what one takes, and that it is about its name, whatever becomes of the topic. */
#include "actors/base/assert.h"
#include "actors/topic/directory_pool.h"
#include "tests/unit/actors/topic/topic_crowd.h"

static void topic_order(struct world *world, const char *name, uint32_t tag)
{
    weir_actor topic;
    struct message order = {.tag = tag};
    assert_int_equal(directory_find(world->directory, view_text(name), &topic), WEIR_OK);
    assert_int_equal(actor_control(world->runtime, WEIR_ACTOR_NONE, topic, &order), WEIR_OK);
}

static void a_subscription_by_name_outlives_its_topic(void **state)
{
    (void)state;
    static struct world world;
    static struct crowd crowd, other;
    struct directory_config config = world_config(NULL, 0, 1);
    world_open(&world, &config, 1);
    crowd_open(&world, &crowd);
    crowd_open(&world, &other);
    crowd_subscribe(&crowd, 1, "t/1", true);
    crowd_subscribe(&crowd, 2, "t/1", true);
    crowd_subscribe(&crowd, 3, "t/2", true);
    world_settle(&world);
    assert_int_equal(crowd.begins, 3);
    for (size_t round = 1; round <= 3; round++) {
        topic_order(&world, "t/1", TOPIC_DELETE);
        world_settle(&world);
        assert_int_equal(crowd.ended, 2 * round);
        crowd_ensure(&other, "t/1");
        world_settle(&world);
        crowd_publish(&other, other.topic);
        world_settle(&world);
        assert_int_equal(crowd.begins, 3 + 2 * round);
        assert_int_equal(crowd.updates, 2 * round);
    }
    crowd_order(&crowd, DIRECTORY_UNSUBSCRIBE, 1);
    topic_order(&world, "t/1", TOPIC_DELETE);
    world_settle(&world);
    crowd_order(&crowd, DIRECTORY_UNSUBSCRIBE, 2); /* while there is no such topic */
    world_settle(&world);
    assert_int_equal(crowd.unsubscribed, 2);
    crowd_ensure(&other, "t/1");
    world_settle(&world);
    assert_int_equal(crowd.begins, 9);
    struct directory_status status;
    directory_status(world.directory, &status);
    assert_int_equal(status.subscriptions, 1);
    assert_int_equal(status.feeds, 1);
    world_close(&world);
}

/* One to a topic of many, by its name: in the directory and at the topic, as the arena counts. */
static void a_subscription_by_name_takes_little(void **state)
{
    (void)state;
    enum { FIRST = 100, LAST = 900, BYTES_MAX = 290 };
    static struct world world;
    static struct crowd crowd;
    struct directory_config config = world_config(NULL, 0, 1);
    struct arena_usage before = {0}, after;
    world_open(&world, &config, 1);
    crowd_open(&world, &crowd);
    for (uint32_t i = 1; i <= LAST; i++) {
        crowd_subscribe(&crowd, i, "a/topic/with/a/name/that/would/be/seen/if/it/were/kept/each/time", true);
        if (i % FIRST == 0)
            world_settle(&world);
        if (i == FIRST)
            arena_usage(world.arena, &before);
    }
    arena_usage(world.arena, &after);
    assert_int_equal(crowd.ends, LAST);
    size_t each = (after.bytes_live - before.bytes_live) / (LAST - FIRST);
    if (each > BYTES_MAX)
        fail_msg("%zu bytes a subscription, at most %d expected", each, BYTES_MAX);
    world_close(&world);
}

struct item {
    struct index_item head;
    uint64_t word;
};

static void a_pool_gives_each_index_to_one_user(void **state)
{
    (void)state;
    enum { ITEMS = 3000 };
    static uint32_t indexes[ITEMS];
    struct arena *arena;
    struct index_pool pool;
    struct arena_usage usage;
    assert_int_equal(arena_create(&(struct arena_config){.bytes_max = (size_t)64 << 20}, &arena), WEIR_OK);
    assert_int_equal(index_pool_init(&pool, arena, NULL, sizeof(struct item), ITEMS), WEIR_OK);
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < ITEMS; i++) {
            assert_int_equal(index_pool_take(&pool, &indexes[i]), WEIR_OK);
            struct item *item = index_pool_at(&pool, indexes[i]);
            assert_int_equal(item->head.is_used, 0);
            assert_int_equal(item->word, 0);
            *item = (struct item){.head.is_used = 1, .word = i};
        }
        for (uint32_t i = 0; i < ITEMS; i++) {
            uint32_t index = indexes[(i * UINT32_C(7919) + 13) % ITEMS]; /* in another order, with no common factor */
            struct item *item = index_pool_find(&pool, index);
            assert_ptr_equal(item, index_pool_at(&pool, index));
            assert_int_equal(indexes[item->word], index);
            index_pool_give(&pool, index);
            assert_null(index_pool_find(&pool, index));
        }
        /* Of all the chunks one stays. */
        arena_usage(arena, &usage);
        assert_int_equal(usage.blocks_live, 1);
    }
    uint32_t index, count = index_pool_count(&pool);
    assert_true(count >= ITEMS && count < 2 * ITEMS); /* what was given back is used first */
    for (uint32_t i = 0; i < pool.chunk_max * pool.chunk_items; i++) {
        assert_int_equal(index_pool_take(&pool, &index), WEIR_OK);
        ((struct item *)index_pool_at(&pool, index))->head.is_used = 1;
    }
    assert_int_equal(index_pool_take(&pool, &index), WEIR_FULL);
    index_pool_fini(&pool);
    arena_usage(arena, &usage);
    assert_int_equal(usage.blocks_live, 0);
    arena_destroy(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_gives_each_index_to_one_user),
        cmocka_unit_test(a_subscription_by_name_outlives_its_topic),
        cmocka_unit_test(a_subscription_by_name_takes_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
