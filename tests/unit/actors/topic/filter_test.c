/* Feeds of some keys only, one claim each. What they are sent is checked by the reader, update by update. */
#include "tests/unit/actors/topic/topic_scene.h"

static struct reader *filtered_reader(struct scene *scene, int index, enum key_match match, const char *text)
{
    struct reader *reader = scene_reader(scene, index, true);
    reader->filter = (struct reader_filter){match, text};
    return reader;
}

static void a_filter_lets_through_what_matches_and_nothing_else(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    publish(&scene, 20);
    struct reader *one = filtered_reader(&scene, 0, KEY_IS, "key7");
    struct reader *some = filtered_reader(&scene, 1, KEY_BEGINS, "key1");
    struct reader *none = filtered_reader(&scene, 2, KEY_IS, "other");
    reader_subscribe(one, "a/#", follow, false);
    reader_subscribe(some, "a/b", follow, false);
    reader_subscribe(none, "a/b", follow, false);
    world_settle(&scene.world);
    publish(&scene, 20);
    assert_int_equal(one->ends, 1);
    assert_int_equal(some->ends, 1);
    assert_int_equal(none->ends, 1);
    assert_true(one->updates > 0 && some->updates > one->updates);
    assert_int_equal(none->updates, 0);
    scene_close(&scene);
}

static void who_was_sent_nothing_learns_the_seq_once_a_while(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    struct reader *reader = filtered_reader(&scene, 0, KEY_IS, "other");
    reader_subscribe(reader, "a/b", follow, false);
    world_settle(&scene.world);
    for (int round = 1; round <= 3; round++) {
        publish(&scene, 10);
        assert_int_equal(reader->idles, round - 1); /* ten turns, and not a word */
        assert_true(runtime_advance(scene.world.runtime));
        world_settle(&scene.world);
        assert_int_equal(reader->idles, round);
        assert_int_equal(reader->feeds[0]->seq, scene_status(&scene, "a/b").seq);
    }
    /* Nothing happens, nobody wakes up for it. */
    while (runtime_advance(scene.world.runtime))
        world_settle(&scene.world);
    assert_int_equal(reader->idles, 3);
    scene_close(&scene);
}

static void what_does_not_match_overtakes_nobody(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = 65536});
    struct reader *reader = filtered_reader(&scene, 0, KEY_IS, "other");
    reader->generous = false;
    struct reader_options options = follow;
    options.credit = 1;
    options.policy = POLICY_DISCONNECT;
    options.outbox_max = 64;
    reader_subscribe(reader, "a/b", options, false);
    world_settle(&scene.world);
    publish(&scene, 100);
    assert_int_equal(reader->begins, 1);
    assert_int_equal(reader->resyncs + reader->ended, 0);
    scene_close(&scene);
}

static void a_filter_resumes_behind_its_cursor(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    struct reader *reader = filtered_reader(&scene, 0, KEY_BEGINS, "key2");
    reader_subscribe(reader, "a/b", follow, false);
    world_settle(&scene.world);
    publish(&scene, 10);
    reader_unsubscribe(reader);
    world_settle(&scene.world);
    publish(&scene, 10);
    uint64_t seq = reader->feeds[0]->seq;
    size_t updates = reader->updates;
    reader_subscribe(reader, "a/b", follow, true);
    world_settle(&scene.world);
    publish(&scene, 1);
    assert_int_equal(reader->resumes, 1);
    assert_true(reader->updates > updates && reader->feeds[0]->seq > seq);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_filter_lets_through_what_matches_and_nothing_else),
        cmocka_unit_test(who_was_sent_nothing_learns_the_seq_once_a_while),
        cmocka_unit_test(what_does_not_match_overtakes_nobody),
        cmocka_unit_test(a_filter_resumes_behind_its_cursor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
