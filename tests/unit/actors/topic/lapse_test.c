/* Keys end with their time or their session, and everybody sees it. */
#include "tests/unit/actors/topic/options_scene.h"

/* ------------------------------------------------------------------------------------------ time to live */

static void a_key_ends_with_its_time_and_a_newer_record_decides_anew(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    struct publish_options brief = with((struct publish_with){.ttl_ms = 1000}),
                           lasting = with((struct publish_with){.ttl_ms = 5000});
    offer(&scene, &scene.peers[0], &brief, "a", 1, 1);
    offer(&scene, &scene.peers[0], &lasting, "b", 2, 1);
    offer(&scene, &scene.peers[0], &brief, "c", 3, 1);
    offer(&scene, &scene.peers[0], NULL, "c", 4, 1); /* stays */
    offer(&scene, &scene.peers[0], &brief, "d", 5, 1);
    offer(&scene, &scene.peers[0], NULL, "d", -1, 1); /* deleted: nothing to remove */
    while (scene_advance(&scene)) {
    }
    ASSERT_UPDATES(&scene, "1:a=1", "2:b=2", "3:c=3", "4:c=4", "5:d=5", "6:d=-", "7:a=-", "8:b=-");
    struct topic_status status = scene_status(&scene);
    assert_int_equal(status.entries, 1);
    assert_int_equal(status.published, 8);
    /* Again, and of one key many times over: one removal, and nothing gathers. */
    offer(&scene, &scene.peers[0], &brief, "a", 1, 500);
    while (scene_advance(&scene)) {
    }
    assert_int_equal(scene_status(&scene).seq, 8 + 501);
    world_close(&scene.world);
}

static void a_rule_gives_every_record_a_time(void **state)
{
    (void)state;
    static struct scene scene;
    static const enum topic_kind kinds[] = {TOPIC_MAP, TOPIC_LAST};
    for (size_t i = 0; i < 2; i++) {
        scene_open(&scene, (struct topic_rule){.kind = kinds[i], .ttl_ms = 700});
        offer(&scene, &scene.peers[0], NULL, "a", 1, 2);
        while (scene_advance(&scene)) {
        }
        if (kinds[i] == TOPIC_MAP)
            ASSERT_UPDATES(&scene, "1:a=1", "2:a=2", "3:a=-");
        else
            ASSERT_UPDATES(&scene, "1:a=1", "2:a=2", "3:=-"); /* the newest value is nil then */
        world_close(&scene.world);
    }
}

static void kinds_whose_records_cannot_end_refuse_options_that_say_so(void **state)
{
    (void)state;
    static struct scene scene;
    static const enum topic_kind kinds[] = {TOPIC_LOG, TOPIC_MERGE};
    for (size_t i = 0; i < 2; i++) {
        scene_open(&scene, (struct topic_rule){.kind = kinds[i], .ttl_ms = 10});
        struct publish_options options = with((struct publish_with){.ttl_ms = 1000});
        offer(&scene, &scene.peers[0], &options, NULL, 1, 1);
        assert_int_equal(answer_last(&scene.peers[0]).error, WEIR_BAD_REQUEST);
        options = with((struct publish_with){.bind = true});
        offer(&scene, &scene.peers[0], &options, NULL, 1, 1);
        assert_int_equal(answer_last(&scene.peers[0]).error, WEIR_BAD_REQUEST);
        offer(&scene, &scene.peers[0], NULL, NULL, 1, 1); /* the rule's time is not for them */
        assert_int_equal(answer_last(&scene.peers[0]).error, WEIR_OK);
        assert_int_equal(scene_status(&scene).seq, 1);
        world_close(&scene.world);
    }
}

static void many_keys_end_in_turns_and_leave_nothing(void **state)
{
    (void)state;
    static struct scene scene;
    char key[16];
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    struct publish_options options = with((struct publish_with){.ttl_ms = 1000});
    struct arena_usage before, after;
    offer(&scene, &scene.peers[0], &options, "k", 1, 1);
    while (scene_advance(&scene)) {
    }
    arena_usage(scene.world.arena, &before);
    for (int i = 0; i < 1500; i++) {
        snprintf(key, sizeof key, "k%d", i);
        offer(&scene, &scene.peers[0], &options, key, i % 100, 1);
    }
    while (scene_advance(&scene)) {
    }
    arena_usage(scene.world.arena, &after);
    assert_int_equal(scene_status(&scene).entries, 0);
    assert_int_equal(scene_status(&scene).seq, 2 + 3000);
    assert_true(after.blocks_live < before.blocks_live + 100);
    world_close(&scene.world);
}

/* ------------------------------------------------------------------------------------------ bound to a session */

static void keys_of_a_session_go_a_while_after_it(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .bind_grace_ms = 5000});
    struct publish_options bound = with((struct publish_with){.bind = true});
    offer(&scene, &scene.peers[0], &bound, "a", 1, 1);
    offer(&scene, &scene.peers[0], &bound, "b", 2, 1);
    offer(&scene, &scene.peers[0], &bound, "c", 3, 1);
    offer(&scene, &scene.peers[0], NULL, "c", 4, 1); /* no longer */
    offer(&scene, &scene.peers[1], &bound, "d", 5, 1);
    peer_end(&scene, &scene.peers[0]);
    assert_int_equal(scene_status(&scene).seq, 5);     /* not at once */
    offer(&scene, &scene.peers[2], &bound, "b", 6, 1); /* it has come back, and keeps that key */
    while (scene_advance(&scene)) {
    }
    ASSERT_UPDATES(&scene, "1:a=1", "2:b=2", "3:c=3", "4:c=4", "5:d=5", "6:b=6", "7:a=-");
    peer_end(&scene, &scene.peers[2]);
    peer_end(&scene, &scene.peers[1]);
    while (scene_advance(&scene)) {
    }
    assert_int_equal(scene_status(&scene).entries, 1);
    world_close(&scene.world);
}

static void a_bound_record_sent_again_by_the_next_session_is_that_ones(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .bind_grace_ms = 5000});
    struct publish_options options = numbered("device", 1);
    options.with.bind = true;
    offer(&scene, &scene.peers[0], &options, "a", 1, 1);
    peer_end(&scene, &scene.peers[0]);
    offer(&scene, &scene.peers[1], &options, "a", 1, 1); /* it had no answer: the same once more */
    ASSERT_ANSWER(&scene.peers[1], WEIR_OK, 1);
    while (scene_advance(&scene)) {
    }
    ASSERT_UPDATES(&scene, "1:a=1");
    peer_end(&scene, &scene.peers[1]);
    while (scene_advance(&scene)) {
    }
    ASSERT_UPDATES(&scene, "1:a=1", "2:a=-");
    world_close(&scene.world);
}

static void a_session_that_was_gone_already_when_its_record_came_keeps_nothing(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .bind_grace_ms = 100});
    struct publish_options bound = with((struct publish_with){.bind = true});
    peer_end(&scene, &scene.peers[0]);
    offer(&scene, &scene.peers[0], &bound, "a", 1, 1);
    while (scene_advance(&scene)) {
    }
    ASSERT_UPDATES(&scene, "1:a=1", "2:a=-");
    world_close(&scene.world);
}

static void bound_keys_are_bounded_for_each_session(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .bound_keys_max = 2});
    struct publish_options bound = with((struct publish_with){.bind = true});
    offer(&scene, &scene.peers[0], &bound, "a", 1, 1);
    offer(&scene, &scene.peers[0], &bound, "b", 1, 1);
    offer(&scene, &scene.peers[0], &bound, "c", 1, 1);
    assert_int_equal(answer_last(&scene.peers[0]).error, WEIR_FULL);
    offer(&scene, &scene.peers[0], &bound, "b", 2, 1);
    assert_int_equal(answer_last(&scene.peers[0]).error, WEIR_OK);
    offer(&scene, &scene.peers[1], &bound, "c", 1, 1);
    assert_int_equal(answer_last(&scene.peers[1]).error, WEIR_OK);
    /* That a key has an end already, another's or by time, makes it no less one more. */
    struct publish_options brief = with((struct publish_with){.ttl_ms = 1000});
    offer(&scene, &scene.peers[0], &brief, "d", 1, 1);
    static const char *const keys[] = {"c", "d"};
    for (size_t i = 0; i < 2; i++) {
        offer(&scene, &scene.peers[0], &bound, keys[i], 2, 1);
        assert_int_equal(answer_last(&scene.peers[0]).error, WEIR_FULL);
    }
    offer(&scene, &scene.peers[0], NULL, "b", 3, 1); /* belongs to nobody now */
    offer(&scene, &scene.peers[0], &bound, "c", 2, 1);
    assert_int_equal(answer_last(&scene.peers[0]).error, WEIR_OK);
    world_close(&scene.world);
}

static void sessions_that_vanish_in_thousands_leave_nothing(void **state)
{
    (void)state;
    static struct scene scene;
    char key[16];
    struct arena_usage before = {0}, after;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .bind_grace_ms = 1000});
    struct publish_options bound = with((struct publish_with){.bind = true});
    for (int i = 0; i < 4000; i++) {
        snprintf(key, sizeof key, "k%d", i % 1000);
        offer(&scene, &scene.peers[0], &bound, key, 1, 1);
        peer_end(&scene, &scene.peers[0]);
        peer_open(&scene, &scene.peers[0]);
        if (i % 1000 != 999)
            continue;
        while (scene_advance(&scene)) {
        }
        assert_int_equal(scene_status(&scene).entries, 0);
        if (i == 999)
            arena_usage(scene.world.arena, &before);
    }
    arena_usage(scene.world.arena, &after);
    assert_true(after.blocks_live < before.blocks_live + 100); /* the ring still grows */
    world_close(&scene.world);
}

static void a_removal_waits_for_a_subscriber_that_blocks(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_count_max = 4});
    struct publish_options brief = with((struct publish_with){.ttl_ms = 1000});
    struct topic_subscribe *block;
    struct message message = {.tag = TOPIC_SUBSCRIBE};
    /* One without credit, whose cursor the ring may not pass. */
    assert_int_equal(arena_alloc(scene.world.arena, sizeof *block, NULL, &message.hold[0]), WEIR_OK);
    block = arena_data(scene.world.arena, message.hold[0]);
    *block = (struct topic_subscribe){
        .subscriber = scene.peers[2].actor, .sub = 9, .feed = 99, .policy = POLICY_BLOCK, .updates = true};
    assert_int_equal(actor_control(scene.world.runtime, WEIR_ACTOR_NONE, scene.topic, &message), WEIR_OK);
    world_settle(&scene.world);
    offer(&scene, &scene.peers[0], &brief, "a", 1, 1);
    offer(&scene, &scene.peers[0], NULL, "b", 1, 8);
    uint64_t seq = scene_status(&scene).seq;
    assert_true(seq < 9); /* the rest is held back */
    for (int i = 0; i < 20; i++)
        assert_true(scene_advance(&scene));
    assert_int_equal(scene_status(&scene).seq, seq);
    message = (struct message){.tag = TOPIC_UNSUBSCRIBE, .detail = 99};
    assert_int_equal(actor_control(scene.world.runtime, WEIR_ACTOR_NONE, scene.topic, &message), WEIR_OK);
    world_settle(&scene.world);
    while (scene_advance(&scene)) {
    }
    assert_int_equal(scene_status(&scene).seq, 10);
    assert_string_equal(scene.watcher.updates[9], "10:a=-");
    world_close(&scene.world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_ends_with_its_time_and_a_newer_record_decides_anew),
        cmocka_unit_test(a_rule_gives_every_record_a_time),
        cmocka_unit_test(kinds_whose_records_cannot_end_refuse_options_that_say_so),
        cmocka_unit_test(many_keys_end_in_turns_and_leave_nothing),
        cmocka_unit_test(keys_of_a_session_go_a_while_after_it),
        cmocka_unit_test(a_bound_record_sent_again_by_the_next_session_is_that_ones),
        cmocka_unit_test(a_session_that_was_gone_already_when_its_record_came_keeps_nothing),
        cmocka_unit_test(bound_keys_are_bounded_for_each_session),
        cmocka_unit_test(sessions_that_vanish_in_thousands_leave_nothing),
        cmocka_unit_test(a_removal_waits_for_a_subscriber_that_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
