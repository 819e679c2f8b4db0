/* What conflated feeds are promised that the ring leaves behind, one claim each. */
#include "actors/topic/topic_limits.h"
#include "tests/unit/actors/topic/topic_scene.h"

/* One byte of credit: one pair, then nothing before it is given back. */
static struct reader_options stingy(enum overflow_policy policy)
{
    struct reader_options options = follow;
    options.policy = policy;
    options.outbox_max = 600;
    options.credit = 1;
    return options;
}

static void read_one(struct scene *scene, struct reader *reader)
{
    world_tick(&scene->world, reader->actor, 0);
    world_settle(&scene->world);
}

/* A ring of ten records, and a reader that is live and stalls. */
static struct reader *left_behind(struct scene *scene, enum topic_kind kind, enum overflow_policy policy)
{
    scene_open(scene, (struct topic_rule){.kind = kind, .retain_count_max = 10});
    scene->publisher.has_keys = true;
    struct reader *reader = scene_reader(scene, 0, false);
    reader_subscribe(reader, "a/b", stingy(policy), false);
    world_settle(&scene->world);
    assert_int_equal(reader->ends, 1);
    return reader;
}

static void a_conflated_feed_is_not_sent_its_state_again(void **state)
{
    (void)state;
    static const enum topic_kind kinds[] = {TOPIC_MAP, TOPIC_LAST};
    static struct scene scene;
    for (int i = 0; i < 2; i++) {
        struct reader *reader = left_behind(&scene, kinds[i], POLICY_CONFLATE);
        for (int round = 0; round < 300; round++) {
            publish(&scene, 1);
            if (round % 3 == 0)
                read_one(&scene, reader);
        }
        assert_true(reader->updates > 50);
        read_on(&scene, reader);
        assert_caught_up(&scene, reader);
        assert_int_equal(reader->begins, 1);
        assert_true(reader->conflated > 1000);
        assert_int_equal(reader->updates + reader->conflated, scene_status(&scene, "a/b").seq);
        /* Caught up, it gets everything again. */
        size_t before = reader->conflated;
        publish(&scene, 3);
        assert_int_equal(reader->conflated, before);
        assert_caught_up(&scene, reader);
        scene_close(&scene);
    }
}

static void of_some_keys_each_is_as_new_as_the_topic_has_it(void **state)
{
    (void)state;
    static const struct reader_filter filters[] = {{KEY_IS, "key7"}, {KEY_BEGINS, "key1"}};
    static struct scene scene;
    for (int i = 0; i < 2; i++) {
        scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_count_max = 10});
        struct reader *reader = scene_reader(&scene, 0, false);
        reader->filter = filters[i];
        reader_subscribe(reader, "a/b", stingy(POLICY_CONFLATE), false);
        world_settle(&scene.world);
        publish(&scene, 200);
        read_on(&scene, reader);
        assert_int_equal(reader->begins, 1);
        assert_true(reader->conflated > 100);
        world_told(&scene.world, reader->feeds[0], &reader->filter);
        scene_close(&scene);
    }
}

/* Those who are not asked for more than the newest of each key, and those who have not kept up for too long. */
static void who_is_outrun_by_the_ring_again_and_again_is_conflated_until_it_has_caught_up(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_count_max = 10});
    publish(&scene, 10);
    struct reader *reader = scene_reader(&scene, 0, false);
    reader_subscribe(reader, "a/b", stingy(POLICY_RESYNC), false);
    world_settle(&scene.world);
    for (int i = 0; i < 4000 && reader->conflated < 1000; i++) {
        if (i % 3 == 0)
            publish(&scene, 1);
        read_one(&scene, reader);
    }
    assert_true(reader->conflated >= 1000);
    assert_true(reader->begins <= 1 + OVERTAKINGS_MAX);
    assert_int_equal(reader->begins, reader->ends);
    read_on(&scene, reader);
    assert_caught_up(&scene, reader);
    assert_true(reader->begins <= 1 + OVERTAKINGS_MAX);
    scene_close(&scene);
}

/* More keys than two recalls have room for, so that one is cut and followed by others, for readers at other places. */
static void of_many_keys_the_changes_come_part_by_part(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_count_max = 10});
    scene.publisher.keys = 4 * RECALL_SIZE_MIN;
    struct reader *readers[2];
    for (int i = 0; i < 2; i++) {
        readers[i] = scene_reader(&scene, i, false);
        reader_subscribe(readers[i], "a/b", stingy(POLICY_CONFLATE), false);
        world_settle(&scene.world);
        publish(&scene, 50);
        read_one(&scene, readers[i]);
    }
    publish(&scene, 300);
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 2; i++)
            read_one(&scene, readers[i]);
        publish(&scene, 1);
    }
    assert_true(scene_status(&scene, "a/b").entries > 2 * RECALL_SIZE_MIN);
    for (int i = 0; i < 2; i++) {
        read_on(&scene, readers[i]);
        assert_caught_up(&scene, readers[i]);
        assert_int_equal(readers[i]->begins, 1);
        assert_true(readers[i]->updates > 1000);
    }
    scene_close(&scene);
}

static bool is_slow, is_forgetful;

static enum weir_error slow_newer(struct fold *fold, const struct fold_snapshot *snapshot, struct fold_cursor *cursor,
                                  struct fold_changes *changes)
{
    return is_slow ? WEIR_OK : fold_map.newer(fold, snapshot, cursor, changes);
}

static bool forgetful_knows_since(const struct fold *fold, uint64_t seq)
{
    return !is_forgetful && fold_map.knows_since(fold, seq);
}

static void whatever_ends_a_feed_gives_back_what_was_being_made_for_it(void **state)
{
    (void)state;
    static struct fold_ops slow;
    static struct scene scene;
    slow = fold_map;
    slow.newer = slow_newer;
    fold_replace(TOPIC_MAP, &slow);
    for (int way = 0; way < 4; way++) {
        struct reader *reader = left_behind(&scene, TOPIC_MAP, POLICY_CONFLATE);
        publish(&scene, 30);
        struct message clear = {.tag = TOPIC_CLEAR};
        is_slow = true;
        reader->feeds[0]->owed += 1000;
        world_tick(&scene.world, reader->actor, 0);
        for (int i = 0; i < 100; i++)
            (void)runtime_step(scene.world.runtime);
        uint64_t seq = reader->feeds[0]->seq;
        if (way == 0) {
            assert_int_equal(actor_control(scene.world.runtime, WEIR_ACTOR_NONE, scene.publisher.topic, &clear),
                             WEIR_OK);
        } else if (way == 1) {
            clear.tag = TOPIC_DELETE;
            assert_int_equal(actor_control(scene.world.runtime, WEIR_ACTOR_NONE, scene.publisher.topic, &clear),
                             WEIR_OK);
        } else if (way == 2) {
            reader_unsubscribe(reader);
        }
        for (int i = 0; i < 100; i++)
            (void)runtime_step(scene.world.runtime);
        assert_true(way == 0 || reader->feeds[0]->seq == seq);
        is_slow = way == 3; /* the last one is ended with the world */
        if (way < 3)
            world_settle(&scene.world);
        is_slow = false;
        scene_close(&scene); /* no block is left */
    }
    fold_replace(TOPIC_MAP, NULL);
}

static void what_the_state_has_forgotten_comes_as_a_snapshot(void **state)
{
    (void)state;
    static struct fold_ops forgetful;
    static struct scene scene;
    forgetful = fold_map;
    forgetful.knows_since = forgetful_knows_since;
    fold_replace(TOPIC_MAP, &forgetful);
    struct reader *reader = left_behind(&scene, TOPIC_MAP, POLICY_CONFLATE);
    publish(&scene, 30);
    for (int i = 0; i < 5; i++)
        read_one(&scene, reader);
    assert_int_equal(reader->begins, 1);
    is_forgetful = true;
    read_on(&scene, reader);
    assert_int_equal(reader->begins, 2);
    assert_int_equal(reader->deltas, 0);
    is_forgetful = false;
    assert_caught_up(&scene, reader);
    scene_close(&scene);
    fold_replace(TOPIC_MAP, NULL);
}

/* Gives a reader that was left behind what it needs for one step, in which a recall is refused. */
static void whom_memory_is_refused_for_it_starts_over_or_is_told_of_a_gap(void **state)
{
    (void)state;
    static struct scene scene;
    for (int has_snapshot = 0; has_snapshot < 2; has_snapshot++) {
        scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_count_max = 10});
        struct reader_options options = stingy(POLICY_CONFLATE);
        options.snapshot = has_snapshot;
        struct reader *reader = scene_reader(&scene, 0, false);
        reader_subscribe(reader, "a/b", options, false);
        world_settle(&scene.world);
        publish(&scene, 30);
        struct budget_usage usage;
        budget_usage(scene.world.budget, &usage);
        budget_limit_set(scene.world.budget, usage.bytes_used + 16384);
        read_on(&scene, reader);
        assert_int_equal(reader->feeds[0]->phase, READER_LIVE);
        assert_int_equal(reader->feeds[0]->seq, scene_status(&scene, "a/b").seq);
        assert_int_equal(reader->begins, has_snapshot ? 2 : 1);
        assert_int_equal(reader->deltas, has_snapshot);
        assert_int_equal(reader->gaps, has_snapshot ? 0 : 1);
        budget_limit_set(scene.world.budget, 0);
        publish(&scene, 3);
        assert_int_equal(reader->feeds[0]->seq, scene_status(&scene, "a/b").seq);
        if (has_snapshot)
            assert_caught_up(&scene, reader);
        else
            world_forget_told(&scene.world); /* its state is that of the updates alone */
        scene_close(&scene);
    }
}

/* The ring keeps whole pages for a feed of policy block, and so has again what it had not. */
static void what_the_ring_has_again_ends_a_recall(void **state)
{
    (void)state;
    static struct scene scene;
    for (int batches = 10; batches < 40; batches++) {
        scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_count_max = 3});
        struct reader *reader = scene_reader(&scene, 0, false), *blocking = scene_reader(&scene, 1, false);
        struct reader_options blocks = stingy(POLICY_BLOCK);
        blocks.snapshot = false;
        reader_subscribe(reader, "a/b", stingy(POLICY_CONFLATE), false);
        world_settle(&scene.world);
        publish(&scene, batches);
        for (int i = 0; i < 100 && reader->feeds[0]->seq + 8 < scene_status(&scene, "a/b").seq; i++)
            read_one(&scene, reader);
        reader_subscribe(blocking, "a/b", blocks, false);
        world_settle(&scene.world);
        publish(&scene, 1);
        read_on(&scene, reader);
        read_on(&scene, blocking);
        publish(&scene, 3);
        world_forget_told(&scene.world); /* who got no snapshot has told of no state */
        assert_caught_up(&scene, reader);
        scene_close(&scene);
    }
}

/* Who stalled last reads first, and nobody reads on: each needs a recall of its own, and keeps it. */
static void of_so_many_places_the_rest_get_deltas(void **state)
{
    (void)state;
    enum { READERS = RECALLS_MAX + 8 };
    static struct scene scene;
    static struct reader readers[READERS];
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_count_max = 10});
    for (int i = 0; i < READERS; i++) {
        reader_open(&scene.world, &readers[i], false, 64);
        reader_subscribe(&readers[i], "a/b", stingy(POLICY_CONFLATE), false);
        world_settle(&scene.world);
        for (int k = 0; k < 100 && readers[i].ends == 0; k++)
            read_one(&scene, &readers[i]);
        publish(&scene, 1);
    }
    publish(&scene, 20);
    for (int i = READERS; i-- > 0;) {
        read_one(&scene, &readers[i]);
        assert_true(readers[i].deltas == 0 || i < READERS - RECALLS_MAX);
    }
    assert_int_equal(readers[0].deltas, 1);
    for (int i = 0; i < READERS; i++) {
        read_on(&scene, &readers[i]);
        assert_caught_up(&scene, &readers[i]);
    }
    world_check(&scene.world);
    for (int i = 0; i < READERS; i++)
        reader_fini(&readers[i]);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_conflated_feed_is_not_sent_its_state_again),
        cmocka_unit_test(of_some_keys_each_is_as_new_as_the_topic_has_it),
        cmocka_unit_test(who_is_outrun_by_the_ring_again_and_again_is_conflated_until_it_has_caught_up),
        cmocka_unit_test(of_many_keys_the_changes_come_part_by_part),
        cmocka_unit_test(whatever_ends_a_feed_gives_back_what_was_being_made_for_it),
        cmocka_unit_test(what_the_state_has_forgotten_comes_as_a_snapshot),
        cmocka_unit_test(whom_memory_is_refused_for_it_starts_over_or_is_told_of_a_gap),
        cmocka_unit_test(what_the_ring_has_again_ends_a_recall),
        cmocka_unit_test(of_so_many_places_the_rest_get_deltas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
