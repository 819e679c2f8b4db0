/* Thousands of subscriptions that come and go while topics are made and deleted under them, by a seed: so many that the
 * directory's pools give parts of themselves back and take others. All that was had is given back in the end. */
#include "tests/unit/actors/topic/topic_crowd.h"
#include "tests/unit/instrumented.h"

enum { CROWDS = 5, NAMES = 60, NUMBERS = 900, ROUNDS = 3000, SEEDS = IS_INSTRUMENTED ? 3 : 6 };
enum { BLOCKS_LEFT = 4 * NAMES }; /* the topics, and a part of each pool */

static struct world world;
static struct crowd crowds[CROWDS];
static uint64_t seed_state;

static uint32_t pick(uint32_t count) { return (uint32_t)(random_next(&seed_state) % count); }

static const char *name_pick(void)
{
    static char name[32];
    snprintf(name, sizeof name, "t/%u/%u", pick(6), pick(NAMES / 6));
    return name;
}

static const char *pattern_pick(void)
{
    static char pattern[32];
    switch (pick(40)) {
    case 0: return "t/#";
    case 1: return "t/+/3";
    case 2: snprintf(pattern, sizeof pattern, "t/%u/+", pick(6)); return pattern;
    default: return name_pick();
    }
}

static void topic_order(uint32_t tag)
{
    weir_actor topic;
    struct message order = {.tag = tag};
    if (directory_find(world.directory, view_text(name_pick()), &topic) == WEIR_OK)
        (void)!actor_control(world.runtime, WEIR_ACTOR_NONE, topic, &order);
}

static void publish(const struct crowd *crowd)
{
    weir_actor topic;
    struct message publish = {.tag = TOPIC_PUBLISH, .detail = 1, .word = {0, TOPIC_WORD(0, 1), 0}};
    if (directory_find(world.directory, view_text(name_pick()), &topic))
        return;
    assert_int_equal(arena_alloc(world.arena, 1, NULL, &publish.hold[0]), WEIR_OK);
    memcpy(arena_data(world.arena, publish.hold[0]), "\x07", 1);
    if (actor_send(world.runtime, crowd->actor, topic, &publish)) /* it has just ended, or has all that it can hold */
        arena_drop(world.arena, publish.hold[0]);
}

static void act(void)
{
    struct crowd *crowd = &crowds[pick(CROWDS)];
    uint32_t number = 1 + pick(NUMBERS), what = pick(1000);
    if (what < 500)
        for (uint32_t i = pick(30); i-- > 0;)
            crowd_subscribe(crowd, 1 + (number + i) % NUMBERS, pattern_pick(), pick(8) > 0);
    else if (what < 850)
        for (uint32_t i = pick(30); i-- > 0;)
            crowd_order(crowd, DIRECTORY_UNSUBSCRIBE, 1 + (number + i) % NUMBERS);
    else if (what < 900)
        topic_order(TOPIC_DELETE);
    else if (what < 920)
        topic_order(TOPIC_CLEAR);
    else if (what < 960)
        publish(crowd);
    else if (what < 990)
        world_step(&world, pick(3000));
    else if (what < 996)
        (void)runtime_advance(world.runtime);
    else if (what < 998)
        crowd_order(crowd, DIRECTORY_CLOSE, 0);
    else {
        assert_int_equal(actor_stop(world.runtime, crowd->actor, WEIR_OK), WEIR_OK);
        crowd_open(&world, crowd);
    }
    world_step(&world, pick(60));
}

static void churn(uint64_t seed)
{
    struct directory_config config = world_config(NULL, 0, seed);
    struct directory_status status;
    struct arena_usage after;
    seed_state = seed;
    config.subscriptions_max = CROWDS * NUMBERS;
    config.join_bytes_per_s = pick(2) ? 2000000 : 0;
    config.join_burst_bytes = 1;
    world_open(&world, &config, seed);
    for (int i = 0; i < CROWDS; i++)
        crowd_open(&world, &crowds[i]);
    world_settle(&world);
    for (int i = 0; i < ROUNDS; i++)
        act();
    directory_status(world.directory, &status);
    assert_true(status.subscriptions > CROWDS * NUMBERS / 8); /* in many parts of the pool */
    if (seed % 3 == 0) {
        world_close(&world); /* amid all of it */
        return;
    }
    for (int i = 0; i < CROWDS; i++)
        crowd_order(&crowds[i], DIRECTORY_CLOSE, 0);
    world_settle(&world);
    directory_status(world.directory, &status);
    assert_int_equal(status.subscriptions, 0);
    assert_int_equal(status.feeds, 0);
    assert_int_equal(status.joins_waiting, 0);
    arena_usage(world.arena, &after);
    assert_true(after.blocks_live < BLOCKS_LEFT);
    world_close(&world);
}

static void all_that_came_and_went_is_given_back(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        churn(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_that_came_and_went_is_given_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
