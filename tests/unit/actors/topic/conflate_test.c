/* What feeds that leave out what was replaced are promised, and deltas, one claim each. */
#include "actors/base/clock.h"
#include "actors/topic/topic_limits.h"
#include "tests/unit/actors/topic/topic_scene.h"

/* So much that the ring holds whatever a test publishes. */
#define RETAINED ((size_t)64 << 20)

/* One byte of credit: one pair, then nothing before it is given back. */
static struct reader_options stingy(enum overflow_policy policy, size_t outbox_max)
{
    struct reader_options options = follow;
    options.policy = policy;
    options.outbox_max = outbox_max;
    options.credit = 1;
    return options;
}

static void conflation_sends_the_newest_of_each_key_in_order(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = RETAINED});
    struct reader *reader = scene_reader(&scene, 0, false);
    reader_subscribe(reader, "a/b", stingy(POLICY_CONFLATE, 3000), false);
    world_settle(&scene.world);
    publish(&scene, 60);
    size_t before = reader->updates;
    read_on(&scene, reader);
    assert_caught_up(&scene, reader);
    assert_int_equal(reader->begins, 1);
    assert_int_equal(reader->last_cause, CAUSE_OVERFLOW);
    assert_true(reader->conflated > 200);
    /* 40 keys, and of each at most its newest record, or the deletions at its end. */
    assert_true(reader->updates - before < 70);
    assert_int_equal(reader->updates + reader->conflated, scene_status(&scene, "a/b").seq);
    /* Caught up, it gets everything again. */
    before = reader->conflated;
    publish(&scene, 3);
    assert_int_equal(reader->conflated, before);
    assert_caught_up(&scene, reader);
    scene_close(&scene);
}

static void of_one_record_only_the_newest_comes(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_LAST, .retain_bytes_max = RETAINED});
    struct reader *reader = scene_reader(&scene, 0, false);
    reader_subscribe(reader, "a/b", stingy(POLICY_CONFLATE, 1000), false);
    world_settle(&scene.world);
    publish(&scene, 1);
    size_t before = reader->updates;
    publish(&scene, 60);
    read_on(&scene, reader);
    assert_caught_up(&scene, reader);
    assert_true(reader->conflated > 200);
    assert_true(reader->updates < before + 20);
    scene_close(&scene);
}

/* What a scene's reader heard from then on: each is the record of its seq, as it was emitted or as [value]. */
static void assert_forms(struct scene *scene, const struct reader *reader, size_t from, size_t to, bool is_merged)
{
    assert_true(to > from);
    for (size_t i = from; i < to; i++) {
        const struct heard *heard = &scene->world.heard[i];
        const struct published *record = history_find(reader->feeds[0]->history, heard->epoch, heard->seq);
        struct view value = bytes_view(heard->value);
        assert_non_null(record);
        if (is_merged && !value_is_nil(value)) {
            assert_int_equal(value.data[0], 0x91);
            value = view_of(value.data + 1, value.size - 1);
        }
        assert_true(view_is_same(value, bytes_view(record->value)));
    }
}

static void what_updates_come_to_is_for_those_who_missed_some(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = RETAINED});
    scene.publisher.is_plugin = scene.publisher.is_merging = true;
    struct reader *reader = scene_reader(&scene, 0, false);
    reader_subscribe(reader, "a/b", stingy(POLICY_CONFLATE, 3000), false);
    world_settle(&scene.world);
    publish(&scene, 1); /* it is sent as much as its credit allows, as it comes */
    size_t plain = scene.world.heard_count;
    assert_forms(&scene, reader, 0, plain, false);
    publish(&scene, 60);
    read_on(&scene, reader);
    size_t merged = scene.world.heard_count;
    assert_true(reader->conflated > 200);
    assert_int_equal(reader->feeds[0]->seq, scene_status(&scene, "a/b").seq);
    assert_forms(&scene, reader, plain, merged, true);
    /* Caught up, it gets the updates themselves again. */
    publish(&scene, 3);
    assert_forms(&scene, reader, merged, scene.world.heard_count, false);
    /* Who joins gets entries that are arrays of one. */
    struct reader *joiner = scene_reader(&scene, 1, true);
    reader_subscribe(joiner, "a/b", follow, false);
    world_settle(&scene.world);
    assert_int_equal(joiner->ends, 1);
    assert_true(joiner->feeds[0]->model.count > 10);
    for (size_t i = 0; i < joiner->feeds[0]->model.count; i++)
        assert_int_equal(joiner->feeds[0]->model.values[i].data[0], 0x91);
    for (int i = 0; i < 4; i++)
        reader_fini(&scene.readers[i]);
    world_close(&scene.world);
}

/* A topic whose updates have merged forms, and a reader that stalls. */
static struct reader *merged_open(struct scene *scene, enum overflow_policy policy, size_t outbox_max)
{
    scene_open(scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = RETAINED});
    scene->publisher.is_plugin = scene->publisher.is_merging = true;
    struct reader *reader = scene_reader(scene, 0, false);
    reader_subscribe(reader, "a/b", stingy(policy, outbox_max), false);
    world_settle(&scene->world);
    publish(scene, 60);
    return reader;
}

/* Its publisher knows nothing of the forms: what was told is not compared. */
static void merged_close(struct scene *scene)
{
    for (int i = 0; i < 4; i++)
        reader_fini(&scene->readers[i]);
    world_close(&scene->world);
}

/* What a conflated feed has left out stands in merged forms alone: it must not get updates as they are from there. */
static void who_resumes_in_between_gets_what_updates_come_to(void **state)
{
    (void)state;
    static struct scene scene;
    struct reader *reader = merged_open(&scene, POLICY_CONFLATE, 3000);
    for (int i = 0; i < 60 && reader->conflated == 0; i++) {
        world_tick(&scene.world, reader->actor, 0);
        world_settle(&scene.world);
    }
    assert_true(reader->conflated > 0);
    reader_unsubscribe(reader);
    world_settle(&scene.world);
    size_t before = scene.world.heard_count;
    reader_subscribe(reader, "a/b", stingy(POLICY_CONFLATE, 3000), true);
    world_settle(&scene.world);
    assert_int_equal(reader->resumes, 1);
    read_on(&scene, reader);
    assert_int_equal(reader->feeds[0]->seq, scene_status(&scene, "a/b").seq);
    assert_forms(&scene, reader, before, scene.world.heard_count, true);
    before = scene.world.heard_count;
    publish(&scene, 3);
    assert_forms(&scene, reader, before, scene.world.heard_count, false);
    merged_close(&scene);
}

/* Those of other policies are not conflated there, however often they are overtaken. */
static void who_may_resume_as_it_is_is_not_sent_what_updates_come_to(void **state)
{
    (void)state;
    static struct scene scene;
    struct reader *reader = merged_open(&scene, POLICY_RESYNC, 300);
    for (int i = 0; i < 2000 && reader->resyncs <= 2 * OVERTAKINGS_MAX; i++) {
        world_tick(&scene.world, reader->actor, 0);
        world_settle(&scene.world);
        publish(&scene, i % 3 == 0);
    }
    assert_true(reader->resyncs > 2 * OVERTAKINGS_MAX);
    read_on(&scene, reader);
    assert_int_equal(reader->conflated, 0);
    assert_int_equal(reader->feeds[0]->seq, scene_status(&scene, "a/b").seq);
    merged_close(&scene);
}

static uint64_t newest_wanted(struct reader *reader)
{
    const struct topic_history *history = reader->feeds[0]->history;
    uint64_t newest = 0;
    for (size_t i = 0; i < history->count; i++) {
        const struct published *record = &history->records[i];
        bool is_folded = record->is_answered && !record->refused && record->seq > newest;
        if (is_folded && reader_wants(&reader->filter, bytes_view(record->key)))
            newest = record->seq;
    }
    return newest;
}

static void of_some_keys_the_newest_record_comes_whatever_came_after_it(void **state)
{
    (void)state;
    static struct scene scene;
    /* One key in 40, so that there is much to look past, in several steps; and one in four. */
    static const struct reader_filter filters[] = {{KEY_IS, "key7"}, {KEY_BEGINS, "key1"}};
    for (int round = 0; round < 12; round++) {
        scene_open(&scene, (struct topic_rule){.kind = TOPIC_LAST, .retain_bytes_max = RETAINED});
        struct reader *reader = scene_reader(&scene, 0, false);
        reader->filter = filters[round % 2];
        scene.publisher.has_keys = true;
        reader_subscribe(reader, "a/b", stingy(POLICY_CONFLATE, 1000), false);
        world_settle(&scene.world);
        publish(&scene, 40 + round);
        read_on(&scene, reader);
        assert_int_equal(reader->feeds[0]->phase, READER_LIVE);
        assert_int_equal(scene.world.heard[scene.world.heard_count - 1].seq, newest_wanted(reader));
        assert_true(reader->conflated > 100);
        assert_int_equal(reader->begins, 1);
        scene_close(&scene);
    }
}

static void where_every_record_counts_none_is_left_out(void **state)
{
    (void)state;
    static const enum topic_kind kinds[] = {TOPIC_LOG, TOPIC_MERGE};
    static struct scene scene;
    for (int i = 0; i < 2; i++) {
        scene_open(&scene, (struct topic_rule){.kind = kinds[i], .log_count_max = kinds[i] == TOPIC_LOG ? 20 : 0});
        struct reader *reader = scene_reader(&scene, 0, false);
        reader_subscribe(reader, "a/b", stingy(POLICY_CONFLATE, 100), false);
        world_settle(&scene.world);
        publish(&scene, 60);
        read_on(&scene, reader);
        assert_int_equal(reader->conflated, 0);
        assert_int_equal(reader->resyncs, 1);
        assert_caught_up(&scene, reader);
        scene_close(&scene);
    }
}

static void batches_keep_their_interval(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = RETAINED});
    struct reader *reader = scene_reader(&scene, 0, true);
    struct reader_options options = {
        .policy = POLICY_CONFLATE, .snapshot = true, .updates = true, .interval_ms = 200, .credit = 1 << 20};
    reader_subscribe(reader, "a/b", options, false);
    world_settle(&scene.world);
    publish(&scene, 1); /* the first batch need not wait */
    uint64_t seq = reader->feeds[0]->seq;
    assert_true(seq > 0);
    for (int batch = 0; batch < 5; batch++) {
        publish(&scene, 20);
        assert_int_equal(reader->feeds[0]->seq, seq); /* it is not due */
        uint64_t before = runtime_now_ns(scene.world.runtime);
        assert_true(runtime_advance(scene.world.runtime));
        world_settle(&scene.world);
        uint64_t waited_ns = runtime_now_ns(scene.world.runtime) - before;
        assert_true(waited_ns >= 199 * NS_PER_MS && waited_ns <= 250 * NS_PER_MS);
        assert_caught_up(&scene, reader);
        seq = reader->feeds[0]->seq;
    }
    assert_int_equal(reader->last_cause, CAUSE_INTERVAL);
    assert_true(reader->conflated > 0);
    assert_int_equal(scene_status(&scene, "a/b").resyncs, 0);
    /* At rest it has no timer: time can not be advanced to anything but the end of the last interval. */
    while (runtime_advance(scene.world.runtime))
        world_settle(&scene.world);
    scene_close(&scene);
}

static void who_was_overtaken_gets_only_what_has_changed(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = 8192});
    publish(&scene, 3);
    struct reader *reader = scene_reader(&scene, 0, true);
    reader_subscribe(reader, "a/b", follow, false);
    world_settle(&scene.world);
    reader->generous = false;
    publish(&scene, 100);
    read_on(&scene, reader);
    assert_true(reader->resyncs >= 1);
    assert_int_equal(reader->deltas, reader->resyncs);
    assert_caught_up(&scene, reader);
    scene_close(&scene);
}

static void a_trimmed_cursor_gets_only_what_has_changed(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_count_max = 10});
    struct reader *reader = scene_reader(&scene, 0, true);
    reader_subscribe(reader, "a/b", follow, false);
    publish(&scene, 5);
    reader_unsubscribe(reader);
    publish(&scene, 5);
    reader_subscribe(reader, "a/b", follow, true);
    world_settle(&scene.world);
    assert_int_equal(reader->resumes, 0);
    assert_int_equal(reader->deltas, 1);
    assert_int_equal(reader->last_cause, CAUSE_TRIMMED);
    assert_caught_up(&scene, reader);
    scene_close(&scene);
}

static void keys_changed_here_and_there_come_together(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_count_max = 10});
    scene.publisher.keys = 2000;
    publish(&scene, 300);
    struct reader *reader = scene_reader(&scene, 0, true);
    struct reader_options options = follow;
    options.credit = 1 << 20;
    reader_subscribe(reader, "a/b", options, false);
    world_settle(&scene.world);
    reader_unsubscribe(reader);
    publish(&scene, 10);
    reader->entries = reader->entry_runs = 0;
    reader_subscribe(reader, "a/b", options, true);
    world_settle(&scene.world);
    assert_int_equal(reader->deltas, 1);
    assert_true(reader->entries > 40);
    assert_true(reader->entry_runs < reader->entries / 4);
    assert_caught_up(&scene, reader);
    scene_close(&scene);
}

static void what_a_fold_has_forgotten_comes_whole(void **state)
{
    (void)state;
    static struct fold_ops forgetful;
    static struct scene scene;
    forgetful = fold_map;
    forgetful.knows_since = NULL;
    fold_replace(TOPIC_MAP, &forgetful);
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_count_max = 10});
    struct reader *reader = scene_reader(&scene, 0, true);
    reader_subscribe(reader, "a/b", follow, false);
    publish(&scene, 5);
    reader_unsubscribe(reader);
    publish(&scene, 5);
    reader_subscribe(reader, "a/b", follow, true);
    world_settle(&scene.world);
    assert_int_equal(reader->deltas, 0);
    assert_int_equal(reader->last_cause, CAUSE_TRIMMED);
    assert_caught_up(&scene, reader);
    scene_close(&scene);
    fold_replace(TOPIC_MAP, NULL);
}

static void who_is_overtaken_again_and_again_is_conflated_until_it_has_caught_up(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = RETAINED});
    struct reader *reader = scene_reader(&scene, 0, false);
    reader_subscribe(reader, "a/b", stingy(POLICY_RESYNC, 600), false);
    world_settle(&scene.world);
    for (int i = 0; i < 400 && reader->conflated == 0; i++) {
        /* It reads a little, but less than is published. */
        publish(&scene, 2);
        world_tick(&scene.world, reader->actor, 0);
        world_settle(&scene.world);
    }
    assert_true(reader->conflated > 0);
    assert_true(reader->resyncs <= OVERTAKINGS_MAX);
    read_on(&scene, reader);
    assert_caught_up(&scene, reader);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conflation_sends_the_newest_of_each_key_in_order),
        cmocka_unit_test(what_updates_come_to_is_for_those_who_missed_some),
        cmocka_unit_test(who_resumes_in_between_gets_what_updates_come_to),
        cmocka_unit_test(who_may_resume_as_it_is_is_not_sent_what_updates_come_to),
        cmocka_unit_test(of_one_record_only_the_newest_comes),
        cmocka_unit_test(of_some_keys_the_newest_record_comes_whatever_came_after_it),
        cmocka_unit_test(where_every_record_counts_none_is_left_out),
        cmocka_unit_test(batches_keep_their_interval),
        cmocka_unit_test(who_was_overtaken_gets_only_what_has_changed),
        cmocka_unit_test(a_trimmed_cursor_gets_only_what_has_changed),
        cmocka_unit_test(keys_changed_here_and_there_come_together),
        cmocka_unit_test(what_a_fold_has_forgotten_comes_whole),
        cmocka_unit_test(who_is_overtaken_again_and_again_is_conflated_until_it_has_caught_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
