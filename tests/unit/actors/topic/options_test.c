/* What publishing with numbers and conditions promises: a number is folded once, a condition decides in the topic's
 * turn. */
#include "tests/unit/actors/topic/options_scene.h"

/* -------------------------------------------------------------------------------------------- duplicates */

static void a_number_is_folded_once_and_answered_with_its_first_seq(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    struct publish_options options = numbered("till", 10);
    offer(&scene, &scene.peers[0], &options, "a", 1, 3);
    ASSERT_ANSWER(&scene.peers[0], WEIR_OK, 3);
    offer(&scene, &scene.peers[1], NULL, "b", 7, 1);
    options.number = 11;
    /* From another session of that publisher: two that are known, two that are new. */
    offer(&scene, &scene.peers[2], &options, "a", 2, 4);
    static const uint64_t seqs[] = {2, 3, 5, 6};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(scene.peers[2].answers[i].error, WEIR_OK);
        assert_int_equal(scene.peers[2].answers[i].seq, seqs[i]);
        assert_int_equal(scene.peers[2].answers[i].epoch, scene.peers[0].answers[0].epoch);
    }
    assert_int_equal(scene_status(&scene).published, 6);
    ASSERT_UPDATES(&scene, "1:a=1", "2:a=2", "3:a=3", "4:b=7", "5:a=4", "6:a=5");
    /* Others count for themselves. */
    options = numbered("other", 11);
    offer(&scene, &scene.peers[2], &options, "a", 2, 1);
    ASSERT_ANSWER(&scene.peers[2], WEIR_OK, 7);
    world_close(&scene.world);
}

static void a_number_with_other_bytes_is_a_conflict(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    struct publish_options options = numbered("till", 10);
    offer(&scene, &scene.peers[0], &options, "a", 1, 1);
    offer(&scene, &scene.peers[0], &options, "a", 2, 1);
    ASSERT_ANSWER(&scene.peers[0], WEIR_CONFLICT, 1 | TOPIC_NACK_NUMBER);
    offer(&scene, &scene.peers[0], &options, "b", 1, 1); /* the key is part of it */
    ASSERT_ANSWER(&scene.peers[0], WEIR_CONFLICT, 1 | TOPIC_NACK_NUMBER);
    ASSERT_UPDATES(&scene, "1:a=1");
    assert_int_equal(scene_status(&scene).refused, 2);
    world_close(&scene.world);
}

static void a_window_is_exact_from_its_oldest_number_on_and_says_so_below(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .dedup_records_max = 4});
    struct publish_options options = numbered("till", 10);
    offer(&scene, &scene.peers[0], &options, "a", 1, 3); /* 10, 11, 12 */
    options.number = 20;
    offer(&scene, &scene.peers[0], &options, "a", 4, 1); /* full */
    options.number = 15;
    offer(&scene, &scene.peers[0], &options, "a", 5, 1); /* in a hole: new; 10 is forgotten */
    ASSERT_ANSWER(&scene.peers[0], WEIR_OK, 5);
    offer(&scene, &scene.peers[0], &options, "a", 5, 1);
    ASSERT_ANSWER(&scene.peers[0], WEIR_OK, 5);
    options.number = 10;
    offer(&scene, &scene.peers[0], &options, "a", 1, 1);
    assert_int_equal(answer_last(&scene.peers[0]).error, WEIR_OUTDATED);
    options.number = 11;
    offer(&scene, &scene.peers[0], &options, "a", 2, 1);
    ASSERT_ANSWER(&scene.peers[0], WEIR_OK, 2);
    assert_int_equal(scene_status(&scene).seq, 5);
    world_close(&scene.world);
}

static void publishers_are_bounded_and_the_one_silent_for_longest_goes(void **state)
{
    (void)state;
    static struct scene scene;
    char name[16];
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .dedup_publishers_max = 3});
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "p%d", i);
        struct publish_options options = numbered(name, 1), first = numbered("first", 1);
        offer(&scene, &scene.peers[0], &options, "a", i % 100, 1);
        offer(&scene, &scene.peers[1], &first, "f", 1, 1); /* speaks all the time */
    }
    assert_int_equal(scene_status(&scene).published, 3001);
    ASSERT_ANSWER(&scene.peers[1], WEIR_OK, 2);
    world_close(&scene.world);
}

static void a_cleared_topic_forgets_numbers_and_what_was_to_end(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    struct publish_options options = numbered("till", 1);
    options.with.ttl_ms = 1000;
    options.with.bind = true;
    offer(&scene, &scene.peers[0], &options, "a", 1, 1);
    uint64_t epoch = answer_last(&scene.peers[0]).epoch;
    struct message clear = {.tag = TOPIC_CLEAR};
    assert_int_equal(actor_control(scene.world.runtime, WEIR_ACTOR_NONE, scene.topic, &clear), WEIR_OK);
    world_settle(&scene.world);
    options.with = (struct publish_with){.bind = false};
    offer(&scene, &scene.peers[0], &options, "a", 2, 1); /* other bytes, but nobody remembers */
    ASSERT_ANSWER(&scene.peers[0], WEIR_OK, 1);
    assert_true(answer_last(&scene.peers[0]).epoch > epoch);
    peer_end(&scene, &scene.peers[0]);
    while (runtime_advance(scene.world.runtime))
        world_settle(&scene.world);
    assert_int_equal(scene_status(&scene).seq, 1);
    world_close(&scene.world);
}

/* -------------------------------------------------------------------------------------------- conditions */

static void a_condition_holds_for_the_newest_record_of_the_key(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    struct publish_options absent = with((struct publish_with){.has_if_seq = true});
    offer(&scene, &scene.peers[0], &absent, "a", 1, 1);
    ASSERT_ANSWER(&scene.peers[0], WEIR_OK, 1);
    offer(&scene, &scene.peers[1], &absent, "a", 2, 1);
    ASSERT_ANSWER(&scene.peers[1], WEIR_CONFLICT, 1);
    offer(&scene, &scene.peers[1], &absent, "b", 2, 1); /* another key is another matter */
    ASSERT_ANSWER(&scene.peers[1], WEIR_OK, 2);
    struct publish_options first = with((struct publish_with){.has_if_seq = true, .if_seq = 1});
    offer(&scene, &scene.peers[0], &first, "a", 3, 1);
    ASSERT_ANSWER(&scene.peers[0], WEIR_OK, 3);
    offer(&scene, &scene.peers[1], &first, "a", 4, 1);
    ASSERT_ANSWER(&scene.peers[1], WEIR_CONFLICT, 3);
    struct publish_options third = with((struct publish_with){.has_if_seq = true, .if_seq = 3});
    offer(&scene, &scene.peers[1], &third, "a", -1, 1);
    ASSERT_ANSWER(&scene.peers[1], WEIR_OK, 4);
    offer(&scene, &scene.peers[1], &third, "a", 5, 1); /* it was deleted: there is none */
    ASSERT_ANSWER(&scene.peers[1], WEIR_CONFLICT, 0);
    offer(&scene, &scene.peers[1], &absent, "a", 6, 2); /* of two only the first can be */
    ASSERT_ANSWER(&scene.peers[1], WEIR_CONFLICT, 5);
    ASSERT_UPDATES(&scene, "1:a=1", "2:b=2", "3:a=3", "4:a=-", "5:a=6");
    world_close(&scene.world);
}

static void a_condition_on_a_topic_of_another_kind_is_for_its_newest_record(void **state)
{
    (void)state;
    static struct scene scene;
    static const enum topic_kind kinds[] = {TOPIC_LAST, TOPIC_LOG};
    for (size_t i = 0; i < 2; i++) {
        scene_open(&scene, (struct topic_rule){.kind = kinds[i]});
        struct publish_options absent = with((struct publish_with){.has_if_seq = true});
        offer(&scene, &scene.peers[0], &absent, NULL, 1, 1);
        ASSERT_ANSWER(&scene.peers[0], WEIR_OK, 1);
        offer(&scene, &scene.peers[0], &absent, "k", 2, 1);
        ASSERT_ANSWER(&scene.peers[0], WEIR_CONFLICT, 1);
        struct publish_options first = with((struct publish_with){.has_if_seq = true, .if_seq = 1});
        offer(&scene, &scene.peers[0], &first, "k", -1, 1);
        ASSERT_ANSWER(&scene.peers[0], WEIR_OK, 2);
        offer(&scene, &scene.peers[0], &absent, NULL, 3, 1); /* kind last: a nil value is none */
        ASSERT_ANSWER(&scene.peers[0], kinds[i] == TOPIC_LAST ? WEIR_OK : WEIR_CONFLICT,
                      kinds[i] == TOPIC_LAST ? 3 : 2);
        world_close(&scene.world);
    }
}

static void a_record_known_by_its_number_is_not_held_to_its_condition_again(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    struct publish_options options = numbered("till", 5);
    options.with.has_if_seq = true;
    offer(&scene, &scene.peers[0], &options, "a", 1, 1);
    offer(&scene, &scene.peers[0], &options, "a", 1, 1);
    ASSERT_ANSWER(&scene.peers[0], WEIR_OK, 1);
    options.number = 6; /* refused, so its number is free for another try */
    offer(&scene, &scene.peers[0], &options, "a", 2, 1);
    ASSERT_ANSWER(&scene.peers[0], WEIR_CONFLICT, 1);
    options.with = (struct publish_with){.has_if_seq = true, .if_seq = 1};
    offer(&scene, &scene.peers[0], &options, "a", 3, 1);
    ASSERT_ANSWER(&scene.peers[0], WEIR_OK, 2);
    world_close(&scene.world);
}

/* ---------------------------------------------------------------------------------- failures and holding back */

static unsigned failures_left;

/* The value 99 fails always, 98 as often as is left. */
static enum weir_error failing_apply(struct fold *fold, const struct cell *cell)
{
    uint8_t value = *cell_value(cell);
    if (value == 99 || (value == 98 && failures_left > 0)) {
        failures_left -= value == 98;
        return WEIR_FAILED;
    }
    return fold_map.apply(fold, cell);
}

static void a_number_is_used_up_by_folding_only(void **state)
{
    (void)state;
    static struct scene scene;
    static struct fold_ops failing;
    failing = fold_map;
    failing.apply = failing_apply;
    fold_replace(TOPIC_MAP, &failing);
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    struct publish_options options = numbered("till", 1);
    options.with.ttl_ms = 60000;
    failures_left = 2;
    offer(&scene, &scene.peers[0], &options, "a", 97, 4); /* 98 fails twice, 99 for good */
    static const enum weir_error errors[] = {WEIR_OK, WEIR_OK, WEIR_POISONED, WEIR_OK};
    assert_int_equal(scene.peers[0].count, 4);
    for (size_t i = 0; i < 4; i++) {
        const struct answer *answer = &scene.peers[0].answers[i];
        assert_int_equal(answer->error, errors[answer->number - 1]);
    }
    ASSERT_UPDATES(&scene, "1:a=97", "2:a=98", "3:a=100");
    /* All of it once more: three are known, and the one that failed may be another now. */
    offer(&scene, &scene.peers[1], &options, "a", 97, 2);
    ASSERT_ANSWER(&scene.peers[1], WEIR_OK, 2);
    options.number = 3;
    offer(&scene, &scene.peers[1], &options, "a", 5, 1);
    ASSERT_ANSWER(&scene.peers[1], WEIR_OK, 4);
    assert_int_equal(scene_status(&scene).seq, 4);
    assert_int_equal(scene_status(&scene).dead, 1);
    world_close(&scene.world);
    fold_replace(TOPIC_MAP, NULL);
}

static void records_held_back_keep_their_options(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .retain_count_max = 4});
    struct publish_options options = numbered("till", 1);
    struct topic_subscribe *block;
    struct message message = {.tag = TOPIC_SUBSCRIBE};
    assert_int_equal(arena_alloc(scene.world.arena, sizeof *block, NULL, &message.hold[0]), WEIR_OK);
    block = arena_data(scene.world.arena, message.hold[0]);
    *block = (struct topic_subscribe){
        .subscriber = scene.peers[2].actor, .sub = 9, .feed = 99, .policy = POLICY_BLOCK, .updates = true};
    assert_int_equal(actor_control(scene.world.runtime, WEIR_ACTOR_NONE, scene.topic, &message), WEIR_OK);
    world_settle(&scene.world);
    offer(&scene, &scene.peers[0], &options, "a", 1, 20);
    assert_true(scene_status(&scene).seq < 20);
    message = (struct message){.tag = TOPIC_UNSUBSCRIBE, .detail = 99};
    assert_int_equal(actor_control(scene.world.runtime, WEIR_ACTOR_NONE, scene.topic, &message), WEIR_OK);
    world_settle(&scene.world);
    ASSERT_ANSWER(&scene.peers[0], WEIR_OK, 20);
    offer(&scene, &scene.peers[1], &options, "a", 1, 20);
    ASSERT_ANSWER(&scene.peers[1], WEIR_OK, 20);
    assert_int_equal(scene_status(&scene).seq, 20);
    assert_int_equal(scene_status(&scene).published, 20);
    world_close(&scene.world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_number_is_folded_once_and_answered_with_its_first_seq),
        cmocka_unit_test(a_number_with_other_bytes_is_a_conflict),
        cmocka_unit_test(a_window_is_exact_from_its_oldest_number_on_and_says_so_below),
        cmocka_unit_test(publishers_are_bounded_and_the_one_silent_for_longest_goes),
        cmocka_unit_test(a_cleared_topic_forgets_numbers_and_what_was_to_end),
        cmocka_unit_test(a_condition_holds_for_the_newest_record_of_the_key),
        cmocka_unit_test(a_condition_on_a_topic_of_another_kind_is_for_its_newest_record),
        cmocka_unit_test(a_record_known_by_its_number_is_not_held_to_its_condition_again),
        cmocka_unit_test(a_number_is_used_up_by_folding_only),
        cmocka_unit_test(records_held_back_keep_their_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
