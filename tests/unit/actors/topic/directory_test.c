/* The directory: topics by rule, patterns that catch later topics, bounds. */
#include "tests/unit/actors/topic/topic_crowd.h"

#include "actors/base/assert.h"
#include "actors/base/clock.h"

enum { MANY = 10000 };

/* Settles and returns the longest step. */
static uint64_t settle_timed(struct world *world)
{
    uint64_t longest = 0, before = clock_cpu_ns();
    while (runtime_step(world->runtime)) {
        uint64_t now = clock_cpu_ns();
        longest = now - before > longest ? now - before : longest;
        before = now;
    }
    return longest;
}

static void ten_thousand_topics_are_followed_and_left_by_pattern(void **state)
{
    (void)state;
    static struct world world;
    static struct crowd crowd;
    struct directory_config config = world_config(NULL, 0, 3);
    world_open(&world, &config, 3);
    crowd_open(&world, &crowd);
    static weir_actor topics[MANY];
    for (int i = 0; i < MANY; i++) {
        char name[32];
        snprintf(name, sizeof name, "many/%d/x", i);
        crowd_ensure(&crowd, name);
        world_settle(&world);
        topics[i] = crowd.topic;
    }
    assert_int_equal(crowd.topics, MANY);
    for (int i = 0; i < MANY; i++)
        crowd_publish(&crowd, topics[i]);
    world_settle(&world);
    struct arena_usage usage;
    arena_usage(world.arena, &usage);
    print_message("%zu bytes of arena a topic with one record\n", usage.bytes_live / MANY);
    crowd_subscribe(&crowd, 1, "many/+/x", true);
    uint64_t joined = settle_timed(&world);
    assert_int_equal(crowd.subscribed, 1);
    assert_int_equal(crowd.matched, MANY);
    assert_int_equal(crowd.begins, MANY);
    assert_int_equal(crowd.ends, MANY);
    assert_int_equal(crowd.entries, MANY);
    for (int i = 0; i < MANY; i++)
        crowd_publish(&crowd, topics[i]);
    world_settle(&world);
    assert_int_equal(crowd.updates, MANY);
    crowd_order(&crowd, DIRECTORY_UNSUBSCRIBE, 1);
    uint64_t left = settle_timed(&world);
    print_message("longest turn in processor time: joining %lu us, leaving %lu us\n", (unsigned long)(joined / 1000),
                  (unsigned long)(left / 1000));
    assert_int_equal(crowd.unsubscribed, 1);
    for (int i = 0; i < MANY; i++)
        crowd_publish(&crowd, topics[i]);
    world_settle(&world);
    assert_int_equal(crowd.updates, MANY);
    struct directory_status status;
    directory_status(world.directory, &status);
    assert_int_equal(status.topics, MANY);
    assert_int_equal(status.feeds, 0);
    assert_int_equal(status.subscriptions, 0);
    assert_int_equal(status.published, 3 * MANY);
    world_close(&world);
}

static void a_later_topic_is_followed_from_its_first_record(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        static struct world world;
        static struct crowd crowd, other;
        struct directory_config config = world_config(NULL, 0, seed);
        world_open(&world, &config, seed);
        crowd_open(&world, &crowd);
        crowd_open(&world, &other);
        crowd_subscribe(&crowd, 1, "p/#", true);
        world_settle(&world);
        assert_int_equal(crowd.matched, 0);
        for (int i = 0; i < 20; i++) {
            char name[32];
            snprintf(name, sizeof name, i % 2 ? "p/%d" : "q/%d", i);
            crowd_ensure(&other, name);
            while (other.topics <= (size_t)i)
                assert_true(runtime_step(world.runtime));
            crowd_publish(&other, other.topic);
            crowd_publish(&other, other.topic);
        }
        world_settle(&world);
        assert_int_equal(crowd.begins, 10);
        assert_int_equal(crowd.entries, 0);
        assert_int_equal(crowd.updates, 20);
        world_close(&world);
    }
}

static void topics_made_while_a_pattern_is_visited_are_followed_once(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        static struct world world;
        static struct crowd crowd, other;
        struct directory_config config = world_config(NULL, 0, seed);
        world_open(&world, &config, seed);
        crowd_open(&world, &crowd);
        crowd_open(&world, &other);
        for (int i = 0; i < 1500; i++) {
            char name[32];
            snprintf(name, sizeof name, "p/%d", i);
            crowd_ensure(&other, name);
            if (i == 1000)
                crowd_subscribe(&crowd, 1, "#", true);
        }
        world_settle(&world);
        assert_int_equal(crowd.begins, 1500);
        assert_int_equal(crowd.ends, 1500);
        crowd_order(&crowd, DIRECTORY_CLOSE, 0);
        world_settle(&world);
        struct directory_status status;
        directory_status(world.directory, &status);
        assert_int_equal(status.feeds, 0);
        assert_int_equal(status.subscriptions, 0);
        world_close(&world);
    }
}

static void rules_decide_kinds_and_make_plain_names_at_once(void **state)
{
    (void)state;
    static struct world world;
    struct directory_rule rules[] = {{.pattern = "x/+", .rule = {.kind = TOPIC_MAP}},
                                     {.pattern = "fixed/one", .rule = {.kind = TOPIC_MERGE}},
                                     {.pattern = "x/#", .rule = {.kind = TOPIC_LOG}}};
    struct directory_config config = world_config(rules, 3, 1);
    static struct crowd crowd;
    world_open(&world, &config, 1);
    weir_actor actor;
    assert_int_equal(directory_find(world.directory, view_text("fixed/one"), &actor), WEIR_OK);
    crowd_open(&world, &crowd);
    crowd_ensure(&crowd, "x/y");
    crowd_ensure(&crowd, "x/y/z");
    crowd_ensure(&crowd, "z");
    world_settle(&world);
    assert_int_equal(directory_find(world.directory, view_text("x/y/z"), &actor), WEIR_OK);
    assert_int_equal(actor.bits == crowd.topic.bits, 0);
    world_close(&world);
}

static enum weir_error ensure_error(struct crowd *crowd, const char *name)
{
    crowd_ensure(crowd, name);
    world_settle(crowd->world);
    return crowd->last_error;
}

static void names_and_numbers_have_bounds(void **state)
{
    (void)state;
    static struct world world;
    static struct crowd crowd;
    struct directory_rule rules[] = {{.pattern = "x/#", .rule = {.kind = TOPIC_MAP}}};
    struct directory_config config = world_config(rules, 1, 1);
    config.auto_create = false;
    config.topics_max = 3;
    config.subscriptions_max = 2;
    config.feeds_max = 4;
    world_open(&world, &config, 1);
    crowd_open(&world, &crowd);
    assert_int_equal(ensure_error(&crowd, "y"), WEIR_NOT_FOUND);
    assert_int_equal(ensure_error(&crowd, "$dead/x"), WEIR_FORBIDDEN);
    assert_int_equal(ensure_error(&crowd, "x//y"), WEIR_BAD_TOPIC);
    assert_int_equal(ensure_error(&crowd, "x/+"), WEIR_BAD_TOPIC);
    assert_int_equal(ensure_error(&crowd, "x/1"), WEIR_OK);
    assert_int_equal(ensure_error(&crowd, "x/1"), WEIR_OK);
    assert_int_equal(ensure_error(&crowd, "x/2"), WEIR_OK);
    assert_int_equal(ensure_error(&crowd, "x/3"), WEIR_OK);
    assert_int_equal(ensure_error(&crowd, "x/4"), WEIR_FULL);
    crowd_subscribe(&crowd, 1, "x/#", true);
    world_settle(&world);
    assert_int_equal(crowd.last_error, WEIR_OK);
    crowd_subscribe(&crowd, 1, "x/#", true);
    world_settle(&world);
    assert_int_equal(crowd.last_error, WEIR_EXISTS);
    crowd_subscribe(&crowd, 2, "x/#", true);
    world_settle(&world);
    assert_int_equal(crowd.last_error, WEIR_FULL); /* feeds */
    crowd_subscribe(&crowd, 3, "x/#/y", true);
    world_settle(&world);
    assert_int_equal(crowd.last_error, WEIR_BAD_TOPIC);
    crowd_subscribe(&crowd, 4, "nobody", true);
    world_settle(&world);
    assert_int_equal(crowd.last_error, WEIR_OK); /* it waits */
    assert_int_equal(crowd.matched, 0);
    crowd_subscribe(&crowd, 5, "nobody", true);
    world_settle(&world);
    assert_int_equal(crowd.last_error, WEIR_FULL); /* subscriptions */
    struct directory_status status;
    directory_status(world.directory, &status);
    assert_int_equal(status.topics, 3);
    assert_int_equal(status.feeds, 3);
    assert_int_equal(status.subscriptions, 2);
    world_close(&world);
}

static void a_snapshot_of_nothing_makes_no_topic(void **state)
{
    (void)state;
    static struct world world;
    static struct crowd crowd;
    struct directory_config config = world_config(NULL, 0, 1);
    world_open(&world, &config, 1);
    crowd_open(&world, &crowd);
    crowd_subscribe(&crowd, 1, "not/there", false);
    world_settle(&world);
    assert_int_equal(crowd.last_error, WEIR_OK);
    assert_int_equal(crowd.matched, 0);
    struct directory_status status;
    directory_status(world.directory, &status);
    assert_int_equal(status.topics, 0);
    assert_int_equal(status.subscriptions, 0);
    world_close(&world);
}

/* One record of size bytes, a msgpack bin, to a topic. */
static void crowd_publish_large(struct crowd *crowd, weir_actor topic, uint32_t size)
{
    struct message publish = {.tag = TOPIC_PUBLISH, .detail = 1, .word = {0, TOPIC_WORD(0, size + 3), 0}};
    assert_int_equal(arena_alloc(crowd->world->arena, size + 3, NULL, &publish.hold[0]), WEIR_OK);
    uint8_t *data = arena_data(crowd->world->arena, publish.hold[0]);
    const uint8_t head[] = {0xc5, (uint8_t)(size >> 8), (uint8_t)size};
    memset(data, 0, size + 3);
    memcpy(data, head, sizeof head);
    assert_int_equal(actor_send(crowd->world->runtime, crowd->actor, topic, &publish), WEIR_OK);
}

/* Topics one after the other, each of which could fill its ring, and together many times the bound. */
static void fill_topics(int topics, int records, uint32_t size)
{
    static struct world world;
    static struct crowd crowd;
    struct directory_config config = world_config(NULL, 0, 1);
    config.state_bytes_max = (size_t)4 << 20;
    world_open(&world, &config, 1);
    crowd_open(&world, &crowd);
    for (int topic = 0; topic < topics; topic++) {
        char name[16];
        snprintf(name, sizeof name, "t/%d", topic);
        crowd_ensure(&crowd, name);
        world_settle(&world);
        for (int i = 0; i < records; i++) {
            crowd_publish_large(&crowd, crowd.topic, size);
            world_settle(&world);
        }
    }
    struct directory_status status;
    directory_status(world.directory, &status);
    assert_int_equal(status.published, topics * records);
    assert_int_equal(status.refused, 0);
    assert_true(status.state_bytes <= config.state_bytes_max);
    world_close(&world);
}

static void retained_updates_of_idle_topics_yield_to_new_records(void **state)
{
    (void)state;
    fill_topics(40, 250, 4000);
}

static void rings_of_very_many_topics_yield_though_each_is_small(void **state)
{
    (void)state;
    fill_topics(400, 100, 400);
}

/* The runtime may stop at any moment: also between a topic's spawn and its start. */
static void topics_that_never_started_leave_nothing(void **state)
{
    (void)state;
    enum { STEPS_MAX = 12 };
    struct directory_rule rules[] = {{.pattern = "plain"}, {.pattern = "other"}};
    bool has_settled = false;
    for (int steps = 0; steps < STEPS_MAX; steps++) {
        struct world world;
        struct directory_config config = world_config(rules, COUNT_OF(rules), (uint64_t)steps);
        world_open(&world, &config, (uint64_t)steps);
        for (int i = 0; i < steps; i++)
            has_settled |= !runtime_step(world.runtime);
        world_close(&world);
    }
    assert_true(has_settled);
}

static void a_snapshot_of_a_topic_that_goes_is_answered_in_every_order(void **state)
{
    (void)state;
    size_t unmatched = 0, unread = 0, ended = 0, whole = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        static struct world world;
        static struct crowd crowd;
        struct directory_config config = world_config(NULL, 0, seed);
        struct message end = {.tag = TOPIC_DELETE};
        world_open(&world, &config, seed);
        crowd_open(&world, &crowd);
        crowd_ensure(&crowd, "t");
        world_settle(&world);
        crowd_publish(&crowd, crowd.topic);
        crowd_subscribe(&crowd, 1, "t", false);
        world_step(&world, seed % 8);
        /* In order, or without having read what is in its mailbox. */
        if (seed % 2)
            assert_int_equal(actor_control(world.runtime, WEIR_ACTOR_NONE, crowd.topic, &end), WEIR_OK);
        else
            assert_int_equal(actor_stop(world.runtime, crowd.topic, WEIR_CLOSED), WEIR_OK);
        world_settle(&world);
        assert_int_equal(crowd.subscribed, 1);
        assert_int_equal(crowd.last_error, WEIR_OK);
        /* One of them tells the subscriber that it need not wait: of a feed that began its topic, of others the
         * directory. */
        if (crowd.gone + crowd.begins != crowd.matched || (crowd.begins > 0 && crowd.ended == 0))
            fail_msg("seed %lu: matched %lu, ends %zu, ended %zu, gone %zu", (unsigned long)seed,
                     (unsigned long)crowd.matched, crowd.ends, crowd.ended, crowd.gone);
        unmatched += crowd.matched == 0;
        unread += crowd.gone > 0 && crowd.begins + crowd.ended == 0;
        whole += crowd.ends;
        ended += crowd.ended > 0 && crowd.ends == 0;
        world_close(&world);
    }
    print_message("no topic %zu, order unread %zu, ended %zu, whole %zu\n", unmatched, unread, ended, whole);
    assert_true(unmatched > 0 && whole > 0 && unread > 0 && ended > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_thousand_topics_are_followed_and_left_by_pattern),
        cmocka_unit_test(a_later_topic_is_followed_from_its_first_record),
        cmocka_unit_test(topics_made_while_a_pattern_is_visited_are_followed_once),
        cmocka_unit_test(rules_decide_kinds_and_make_plain_names_at_once),
        cmocka_unit_test(topics_that_never_started_leave_nothing),
        cmocka_unit_test(names_and_numbers_have_bounds),
        cmocka_unit_test(a_snapshot_of_nothing_makes_no_topic),
        cmocka_unit_test(retained_updates_of_idle_topics_yield_to_new_records),
        cmocka_unit_test(rings_of_very_many_topics_yield_though_each_is_small),
        cmocka_unit_test(a_snapshot_of_a_topic_that_goes_is_answered_in_every_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
