/* What subscribers are promised when they join, resume and fall behind, one claim each. */
#include "tests/unit/actors/topic/topic_scene.h"

static void the_end_of_an_empty_snapshot_comes_too(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    struct reader *reader = scene_reader(&scene, 0, true);
    reader_subscribe(reader, "a/b", follow, false);
    world_settle(&scene.world);
    assert_int_equal(reader->ends, 1);
    assert_int_equal(reader->subscribed, 1);
    assert_int_equal(reader->last_error, WEIR_OK);
    assert_int_equal(reader->feeds[0]->seq, 0);
    scene_close(&scene);
}

static void joiners_at_one_seq_share_one_snapshot(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    publish(&scene, 20);
    struct arena_usage before, after;
    arena_usage(scene.world.arena, &before);
    struct reader_options stingy = follow;
    stingy.credit = 1;
    for (int i = 0; i < 4; i++)
        reader_subscribe(scene_reader(&scene, i, false), "a/b", stingy, false);
    world_settle(&scene.world);
    arena_usage(scene.world.arena, &after);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(scene.readers[i].begins, 1);
        assert_int_equal(scene.readers[i].ends, 0);
        assert_int_equal(scene.readers[i].feeds[0]->end_seq, scene.readers[0].feeds[0]->end_seq);
    }
    assert_true(after.blocks_live - before.blocks_live < 30);
    scene_close(&scene);
}

static void a_page_is_built_once_however_many_read_it(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    publish(&scene, 40);
    struct topic_status before = scene_status(&scene, "a/b"), one;
    assert_true(before.pages_built > 3);
    assert_int_equal(before.pages_sent, 0);
    reader_subscribe(scene_reader(&scene, 0, true), "a/b", follow, false);
    world_settle(&scene.world);
    one = scene_status(&scene, "a/b");
    assert_true(one.pages_sent > 3);
    for (int i = 1; i < 4; i++)
        reader_subscribe(scene_reader(&scene, i, true), "a/b", follow, false);
    world_settle(&scene.world);
    struct topic_status after = scene_status(&scene, "a/b");
    for (int i = 0; i < 4; i++)
        assert_int_equal(scene.readers[i].ends, 1);
    assert_int_equal(after.pages_built, before.pages_built);
    assert_true(after.pages_sent > 2 * one.pages_sent); /* how many pieces a page comes in hangs on credit */
    scene_close(&scene);
}

static void a_cursor_of_this_history_is_resumed(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    struct reader *reader = scene_reader(&scene, 0, true);
    reader_subscribe(reader, "a/b", follow, false);
    publish(&scene, 3);
    reader_unsubscribe(reader);
    publish(&scene, 3);
    reader_subscribe(reader, "#", follow, true);
    world_settle(&scene.world);
    assert_int_equal(reader->resumes, 1);
    assert_int_equal(reader->feeds[0]->seq, scene_status(&scene, "a/b").seq);
    scene_close(&scene);
}

static void resume_with(struct scene *scene, struct reader *reader, uint64_t epoch_change, uint64_t seq_change,
                        enum topic_cause cause)
{
    reader->feeds[0]->epoch += epoch_change;
    reader->feeds[0]->seq += seq_change;
    reader_unsubscribe(reader);
    reader_subscribe(reader, "a/b", follow, true);
    world_settle(&scene->world);
    assert_int_equal(reader->resumes, 0);
    assert_int_equal(reader->last_cause, cause);
    assert_int_equal(reader->feeds[0]->seq, scene_status(scene, "a/b").seq);
}

static void a_cursor_of_another_history_is_never_honoured(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_count_max = 10});
    struct reader *reader = scene_reader(&scene, 0, true);
    reader_subscribe(reader, "a/b", follow, false);
    publish(&scene, 3);
    resume_with(&scene, reader, 1, 0, CAUSE_EPOCH);
    resume_with(&scene, reader, 0, 1, CAUSE_EPOCH);
    scene_close(&scene);
}

static void a_cursor_from_before_the_ring_gets_a_snapshot(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_count_max = 10});
    struct reader *reader = scene_reader(&scene, 0, true);
    reader_subscribe(reader, "a/b", follow, false);
    publish(&scene, 1);
    reader_unsubscribe(reader);
    publish(&scene, 10);
    reader_subscribe(reader, "a/b", follow, true);
    world_settle(&scene.world);
    assert_int_equal(reader->resumes, 0);
    assert_int_equal(reader->last_cause, CAUSE_TRIMMED);
    scene_close(&scene);
}

static void without_snapshot_what_was_missed_is_a_gap(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_LOG, .retain_count_max = 10});
    struct reader *reader = scene_reader(&scene, 0, false);
    struct reader_options bare = {.updates = true, .credit = 1};
    reader_subscribe(reader, "a/b", bare, false);
    publish(&scene, 10);
    assert_int_equal(reader->gaps, 0);
    reader->generous = true;
    for (int i = 0; i < 100; i++) {
        world_tick(&scene.world, reader->actor, 0);
        world_settle(&scene.world);
    }
    assert_int_equal(reader->gaps, 1);
    assert_int_equal(reader->begins, 1);
    assert_int_equal(reader->feeds[0]->seq, scene_status(&scene, "a/b").seq);
    /* So is what lies before the ring when a cursor is given. */
    reader_unsubscribe(reader);
    publish(&scene, 10);
    reader_subscribe(reader, "a/b", (struct reader_options){.updates = true}, true);
    world_settle(&scene.world);
    assert_int_equal(reader->last_cause, CAUSE_TRIMMED);
    assert_int_equal(reader->gaps, 2);
    assert_int_equal(reader->feeds[0]->seq, scene_status(&scene, "a/b").seq);
    world_forget_told(&scene.world); /* there were no snapshots */
    scene_close(&scene);
}

static void one_key_is_got_alone(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    publish(&scene, 30);
    struct reader *reader = scene_reader(&scene, 0, true);
    size_t known = 0;
    for (int i = 0; i < 40; i++) {
        uint8_t block[sizeof(struct directory_subscribe) + 16];
        struct directory_subscribe *get = (void *)block;
        struct value_writer writer;
        char key[8];
        int size = snprintf(key, sizeof key, "key%d", i);
        *get = (struct directory_subscribe){.sub = ++reader->sub, .snapshot = true, .credit = 1, .pattern_size = 3};
        reader->credit = get->credit;
        memcpy(get->bytes, "a/b", 3);
        value_writer_init(&writer, get->bytes + 3, 12);
        value_write_str(&writer, view_of(key, (size_t)size));
        get->part = (struct topic_part){.match = KEY_IS, .key_size = (uint16_t)writer.size};
        struct message message = {.tag = DIRECTORY_SUBSCRIBE};
        assert_int_equal(arena_alloc(scene.world.arena, sizeof *get + 3 + writer.size, NULL, &message.hold[0]),
                         WEIR_OK);
        memcpy(arena_data(scene.world.arena, message.hold[0]), block, sizeof *get + 3 + writer.size);
        world_forget_told(&scene.world); /* a single key is not a state to be checked */
        assert_int_equal(
            actor_send(scene.world.runtime, reader->actor, directory_actor(scene.world.directory), &message), WEIR_OK);
        world_settle(&scene.world);
        assert_int_equal(reader->last_error, WEIR_OK);
        assert_true(reader->feeds[0]->model.count <= 1);
        known += reader->feeds[0]->model.count;
    }
    world_forget_told(&scene.world);
    assert_int_equal(known, scene_status(&scene, "a/b").entries);
    assert_int_equal(reader->ended, 40);
    /* Such subscriptions end by themselves. */
    struct directory_status status;
    directory_status(scene.world.directory, &status);
    assert_int_equal(status.subscriptions, 0);
    assert_int_equal(status.feeds, 0);
    scene_close(&scene);
}

static void a_slow_reader_is_resynced_and_costs_the_others_nothing(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = 16384});
    struct reader *slow = scene_reader(&scene, 0, false), *fast = scene_reader(&scene, 1, true);
    struct reader_options stingy = follow;
    stingy.credit = 1;
    reader_subscribe(slow, "a/b", stingy, false);
    reader_subscribe(fast, "a/b", follow, false);
    publish(&scene, 100);
    assert_int_equal(fast->feeds[0]->seq, scene_status(&scene, "a/b").seq);
    assert_int_equal(fast->begins, 1);
    slow->generous = true;
    for (int i = 0; i < 50; i++) {
        world_tick(&scene.world, slow->actor, 0);
        world_settle(&scene.world);
    }
    assert_int_equal(slow->resyncs, 1);
    assert_int_equal(slow->feeds[0]->seq, fast->feeds[0]->seq);
    assert_int_equal(scene_status(&scene, "a/b").resyncs, 1);
    scene_close(&scene);
}

static void block_scene(struct scene *scene)
{
    scene_open(scene, (struct topic_rule){.kind = TOPIC_MAP, .mailbox_max = 4});
    struct reader_options block = follow;
    block.policy = POLICY_BLOCK;
    block.outbox_max = 2000;
    block.credit = 1;
    reader_subscribe(scene_reader(scene, 0, false), "a/b", block, false);
    publish(scene, 60);
    struct topic_status status = scene_status(scene, "a/b");
    assert_int_equal(status.blocked_by.bits, scene->readers[0].actor.bits);
    assert_true(status.blocked_feed != 0);
    assert_true(status.depth > 0);
    assert_true(scene->publisher.has_waiting);
}

static void assert_flows_again(struct scene *scene)
{
    assert_int_equal(scene_status(scene, "a/b").blocked_feed, 0);
    publish(scene, 5);
    assert_false(scene->publisher.has_waiting);
    for (size_t i = 0; i < scene->publisher.history->count; i++)
        assert_true(scene->publisher.history->records[i].is_answered);
    assert_int_equal(scene->world.folded, scene->publisher.history->count);
}

static void a_blocking_reader_holds_its_topic_and_lets_it_go_with_credit(void **state)
{
    (void)state;
    static struct scene scene;
    block_scene(&scene);
    scene.readers[0].generous = true;
    for (int i = 0; i < 200; i++) {
        world_tick(&scene.world, scene.readers[0].actor, 0);
        world_settle(&scene.world);
    }
    /* It has had 1 byte of credit, so it goes one pair at a time; give it more. */
    scene.readers[0].feeds[0]->owed = 1000000;
    world_tick(&scene.world, scene.readers[0].actor, 0);
    world_settle(&scene.world);
    assert_flows_again(&scene);
    assert_int_equal(scene.readers[0].resyncs, 0);
    assert_int_equal(scene.readers[0].feeds[0]->seq, scene_status(&scene, "a/b").seq);
    scene_close(&scene);
}

static void a_blocking_reader_that_unsubscribes_lets_its_topic_go(void **state)
{
    (void)state;
    static struct scene scene;
    block_scene(&scene);
    reader_unsubscribe(&scene.readers[0]);
    world_settle(&scene.world);
    assert_flows_again(&scene);
    scene_close(&scene);
}

static void a_blocking_reader_that_ends_lets_its_topic_go(void **state)
{
    (void)state;
    static struct scene scene;
    block_scene(&scene);
    assert_int_equal(actor_stop(scene.world.runtime, scene.readers[0].actor, WEIR_CLOSED), WEIR_OK);
    world_settle(&scene.world);
    assert_flows_again(&scene);
    struct directory_status status;
    directory_status(scene.world.directory, &status);
    assert_int_equal(status.subscriptions, 0);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_end_of_an_empty_snapshot_comes_too),
        cmocka_unit_test(joiners_at_one_seq_share_one_snapshot),
        cmocka_unit_test(a_page_is_built_once_however_many_read_it),
        cmocka_unit_test(a_cursor_of_this_history_is_resumed),
        cmocka_unit_test(a_cursor_of_another_history_is_never_honoured),
        cmocka_unit_test(a_cursor_from_before_the_ring_gets_a_snapshot),
        cmocka_unit_test(without_snapshot_what_was_missed_is_a_gap),
        cmocka_unit_test(one_key_is_got_alone),
        cmocka_unit_test(a_slow_reader_is_resynced_and_costs_the_others_nothing),
        cmocka_unit_test(a_blocking_reader_holds_its_topic_and_lets_it_go_with_credit),
        cmocka_unit_test(a_blocking_reader_that_unsubscribes_lets_its_topic_go),
        cmocka_unit_test(a_blocking_reader_that_ends_lets_its_topic_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
