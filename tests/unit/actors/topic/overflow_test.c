/* What each policy does with a subscriber that cannot keep up, one claim each. */
#include "actors/base/clock.h"
#include "tests/unit/actors/topic/topic_scene.h"

/* One byte of credit: one pair, then nothing before it is given back. */
static struct reader_options stingy(enum overflow_policy policy, size_t outbox_max)
{
    struct reader_options options = follow;
    options.policy = policy;
    options.outbox_max = outbox_max;
    options.credit = 1;
    return options;
}

static void drop_leaves_out_the_oldest_and_says_which(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_LOG, .retain_bytes_max = (size_t)64 << 20});
    struct reader *reader = scene_reader(&scene, 0, false);
    reader_subscribe(reader, "a/b", stingy(POLICY_DROP, 3000), false);
    publish(&scene, 40);
    read_on(&scene, reader);
    assert_int_equal(reader->gaps, 1);
    assert_int_equal(reader->begins, 1);
    assert_int_equal(reader->resyncs, 0);
    assert_int_equal(reader->feeds[0]->seq, scene_status(&scene, "a/b").seq);
    /* What the outbox has room for was kept. */
    assert_true(reader->updates > 3);
    assert_int_equal(scene_status(&scene, "a/b").resyncs, 1);
    scene_close(&scene);
}

static void drop_names_also_what_the_ring_has_lost(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_LOG, .retain_bytes_max = 8192});
    struct reader *reader = scene_reader(&scene, 0, false);
    reader_subscribe(reader, "a/b", stingy(POLICY_DROP, 0), false);
    publish(&scene, 200);
    read_on(&scene, reader);
    assert_int_equal(reader->gaps, 1);
    assert_int_equal(reader->begins, 1);
    assert_int_equal(reader->feeds[0]->seq, scene_status(&scene, "a/b").seq);
    scene_close(&scene);
}

static void disconnect_ends_a_feed_that_asks_for_nothing(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    struct reader *slow = scene_reader(&scene, 0, false), *fast = scene_reader(&scene, 1, true);
    reader_subscribe(slow, "a/b", stingy(POLICY_DISCONNECT, 3000), false);
    reader_subscribe(fast, "a/b",
                     (struct reader_options){.policy = POLICY_DISCONNECT, .snapshot = true, .updates = true}, false);
    world_settle(&scene.world); /* both have had their snapshot, which is empty */
    publish(&scene, 60);
    assert_int_equal(slow->ended, 1);
    assert_int_equal(slow->last_error, WEIR_CLOSED);
    assert_int_equal(fast->ended, 0);
    assert_int_equal(fast->feeds[0]->seq, scene_status(&scene, "a/b").seq);
    assert_int_equal(scene_status(&scene, "a/b").subscribers, 1);
    scene_close(&scene);
}

static void a_long_snapshot_disconnects_nobody(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = 8192});
    publish(&scene, 30);
    struct reader *reader = scene_reader(&scene, 0, false);
    reader_subscribe(reader, "a/b", stingy(POLICY_DISCONNECT, 2000), false);
    publish(&scene, 100); /* more than the ring holds, while the snapshot has hardly begun */
    assert_int_equal(reader->ends, 0);
    read_on(&scene, reader);
    assert_int_equal(reader->ended, 0);
    assert_int_equal(reader->ends, 2);
    assert_int_equal(reader->resyncs, 1);
    assert_int_equal(reader->feeds[0]->seq, scene_status(&scene, "a/b").seq);
    scene_close(&scene);
}

static void block_for(struct scene *scene, uint32_t block_ms, uint32_t broker_ms)
{
    memset(scene, 0, sizeof *scene);
    struct directory_rule rules[1] = {{.pattern = "a/#", .rule = {.kind = TOPIC_MAP, .mailbox_max = 4}}};
    struct directory_config config = world_config(rules, 1, 1);
    config.block_max_ms = broker_ms;
    world_open(&scene->world, &config, 1);
    publisher_open(&scene->world, &scene->publisher, "a/b", TOPIC_MAP);
    world_settle(&scene->world);
    struct reader_options options = stingy(POLICY_BLOCK, 2000);
    options.block_ms = block_ms;
    reader_subscribe(scene_reader(scene, 0, false), "a/b", options, false);
    publish(scene, 60);
    assert_true(scene_status(scene, "a/b").blocked_feed != 0);
    assert_true(scene->publisher.has_waiting);
}

static void assert_let_go(struct scene *scene)
{
    struct reader *reader = &scene->readers[0];
    while (scene->publisher.has_waiting && runtime_advance(scene->world.runtime))
        world_settle(&scene->world);
    assert_false(scene->publisher.has_waiting);
    assert_int_equal(scene_status(scene, "a/b").blocked_feed, 0);
    publish(scene, 20);
    assert_int_equal(scene->world.folded, scene->publisher.history->count);
    read_on(scene, reader);
    assert_int_equal(reader->resyncs, 1); /* for this overflow; and it is told */
    assert_int_equal(reader->last_cause, CAUSE_OVERFLOW);
    assert_int_equal(reader->feeds[0]->seq, scene_status(scene, "a/b").seq);
    /* From now on it blocks again. */
    reader->generous = false;
    reader->feeds[0]->owed = 0;
    scene_close(scene);
}

static void a_blocking_reader_holds_its_topic_for_its_time_only(void **state)
{
    (void)state;
    static struct scene scene;
    block_for(&scene, 50, 0);
    assert_let_go(&scene);
}

static void a_broker_bounds_how_long_topics_are_held(void **state)
{
    (void)state;
    static struct scene scene;
    block_for(&scene, 0, 50);
    assert_let_go(&scene);
    block_for(&scene, 3600000, 50);
    uint64_t before = runtime_now_ns(scene.world.runtime);
    runtime_advance(scene.world.runtime);
    assert_true(runtime_now_ns(scene.world.runtime) - before <= 50 * NS_PER_MS);
    world_settle(&scene.world);
    assert_let_go(&scene);
}

/* A plugin that forgets its topic has emitted what is held back before it did. */
static void a_plugins_clearing_waits_behind_what_is_held_back(void **state)
{
    (void)state;
    static struct scene scene;
    struct message clear = {.tag = TOPIC_CLEAR, .word = {0, 0, CAUSE_RESTART}};
    block_for(&scene, 3600000, 0);
    struct topic_status before = scene_status(&scene, "a/b");
    assert_true(before.depth > 0);
    assert_int_equal(actor_control(scene.world.runtime, WEIR_ACTOR_NONE, scene.publisher.topic, &clear), WEIR_OK);
    world_settle(&scene.world);
    struct topic_status held = scene_status(&scene, "a/b");
    assert_true(held.seq == before.seq && held.epoch == before.epoch && held.blocked_feed != 0);
    read_on(&scene, &scene.readers[0]);
    struct topic_status after = scene_status(&scene, "a/b");
    assert_true(after.epoch != before.epoch);
    assert_int_equal(scene.world.folded, scene.publisher.history->count);
    /* What waited in the mailbox came after it; what was held back, and that only, before. */
    assert_true(after.seq > 0);
    assert_true(scene.world.folded - after.seq > before.seq);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drop_leaves_out_the_oldest_and_says_which),
        cmocka_unit_test(drop_names_also_what_the_ring_has_lost),
        cmocka_unit_test(disconnect_ends_a_feed_that_asks_for_nothing),
        cmocka_unit_test(a_long_snapshot_disconnects_nobody),
        cmocka_unit_test(a_blocking_reader_holds_its_topic_for_its_time_only),
        cmocka_unit_test(a_broker_bounds_how_long_topics_are_held),
        cmocka_unit_test(a_plugins_clearing_waits_behind_what_is_held_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
