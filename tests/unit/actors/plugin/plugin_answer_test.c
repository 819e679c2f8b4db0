/* What a plugin's publishers are told: of each topic's records in their order, and with which seq. */
#include "tests/unit/actors/plugin/unload_scene.h"

static void what_emits_nothing_waits_for_what_was_emitted_before(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene->topics[0].is_held = true;
    scene_publish(scene, 0, "q"); /* nothing was: the topic has no seq yet */
    scene_handle_all(scene);
    assert_journal(scene->answers, " 1@0");
    scene_publish(scene, 0, "aqqy");
    scene_handle(scene, 4);
    assert_journal(scene->answers, "");
    scene_ack(scene, 0, 1);
    assert_journal(scene->answers, " 2@1 3@1 4@1");
    scene_publish(scene, 0, "q");
    scene_handle_all(scene);
    assert_journal(scene->answers, "");
    scene_ack(scene, 0, 1); /* both of y */
    assert_journal(scene->answers, " 5@3 6@3");
    scene_publish(scene, 0, "q");
    scene_handle_all(scene);
    assert_journal(scene->answers, " 7@3");
    scene_close(scene);
}

/* ... and for a clearing, which changes the epoch. */
static void what_emits_nothing_is_told_the_epoch_that_is_so(void **state)
{
    struct scene *scene = scene_open();
    struct scene_topic *topic = &scene->topics[0];
    (void)state;
    scene_publish(scene, 0, "a");
    scene_handle_all(scene);
    topic->is_held = true;
    struct message order = {.tag = TOPIC_PLUGIN_CLEAR, .detail = TOPIC_MARKED(topic->mark, 0), .word = {9}};
    assert_int_equal(actor_send(scene->runtime, scene->publisher, scene->plugin, &order), WEIR_OK);
    scene_publish(scene, 0, "q");
    scene_handle_all(scene);
    assert_journal(scene->answers, " 1@1 done:ok");
    assert_int_equal(scene->epoch, 100);
    scene_topic_cleared(topic);
    scene_settle(scene);
    assert_journal(scene->answers, " 2@0");
    assert_int_equal(scene->epoch, 101);
    scene_close(scene);
}

/* What another topic's record has emitted to this one counts as well. */
static void what_emits_nothing_waits_for_emissions_from_elsewhere(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene->topics[1].is_held = true;
    scene_publish(scene, 0, "n");
    scene_publish(scene, 1, "q");
    scene_handle_all(scene);
    assert_journal(scene->topics[1].journal, " n1");
    assert_journal(scene->answers, "");
    scene_ack(scene, 1, 1);
    assert_journal(scene->answers, " 1@1 2@1");
    scene_close(scene);
}

/* ... and so does what forgetting the topic has emitted to it. */
static void what_emits_nothing_waits_for_what_a_clearing_emitted(void **state)
{
    struct scene *scene = scene_open_with((struct fake_options){.is_refilling = true});
    struct scene_topic *topic = &scene->topics[0];
    (void)state;
    topic->is_held = true;
    struct message order = {.tag = TOPIC_PLUGIN_CLEAR, .detail = TOPIC_MARKED(topic->mark, 0), .word = {9}};
    assert_int_equal(actor_send(scene->runtime, scene->publisher, scene->plugin, &order), WEIR_OK);
    scene_publish(scene, 0, "q");
    scene_handle_all(scene);
    assert_journal(topic->journal, " (clear) !1");
    scene_topic_cleared(topic);
    scene_settle(scene);
    assert_journal(scene->answers, " done:ok");
    scene_ack(scene, 0, 1);
    assert_journal(scene->answers, " 1@1");
    scene_close(scene);
}

static void answers_of_one_topic_keep_their_order(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene->topics[1].is_held = true;
    scene_publish(scene, 0, "natq");
    scene_publish(scene, 0, "a");
    scene_handle_all(scene);
    assert_journal(scene->topics[0].journal, " a1 a2"); /* and acknowledged */
    assert_journal(scene->answers, "");
    scene_ack(scene, 1, 1);
    assert_journal(scene->answers, " 1@1 2@1 3!bad-request:it does not like t 4@2 5@2");
    scene_close(scene);
}

static void another_topic_is_not_waited_for(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene->topics[0].is_held = true;
    scene_publish(scene, 0, "aq");
    scene_publish(scene, 1, "aqt");
    scene_handle_all(scene);
    assert_journal(scene->answers, " 3@1 4@1 5!bad-request:it does not like t");
    scene_ack(scene, 0, 1);
    assert_journal(scene->answers, " 1@1 2@1");
    scene_close(scene);
}

static void a_buried_record_is_told_in_its_turn(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene->topics[0].is_held = true;
    scene_publish(scene, 0, "abq");
    scene_handle(scene, 1);
    for (int i = 0; i < PLUGIN_ATTEMPTS_MAX; i++) {
        scene_kill(scene);
        scene_handle(scene, 1);
    }
    scene_handle_all(scene);
    assert_int_equal(scene_status(scene).dead, 1);
    assert_journal(scene->answers, "");
    scene_ack(scene, 0, 1);
    assert_journal(scene->answers, " 1@1 2!poisoned:killed by SIGKILL 3@1");
    scene_close(scene);
}

/* An instance that ends takes no answer with it. */
static void answers_outlast_an_instance(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene->topics[0].is_held = true;
    scene_publish(scene, 0, "aqt");
    scene_handle_all(scene);
    scene_kill(scene);
    scene_handle_all(scene); /* again; nothing is emitted or answered twice */
    assert_journal(scene->answers, "");
    scene_ack(scene, 0, 1);
    assert_journal(scene->answers, " 1@1 2@1 3!bad-request:it does not like t");
    assert_journal(scene->topics[0].journal, " a1 (stale) (live)");
    scene_close(scene);
}

static void a_topic_that_ends_answers_for_what_it_had(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene->topics[0].is_held = true;
    scene_publish(scene, 0, "aqt");
    scene_handle_all(scene);
    assert_int_equal(actor_stop(scene->runtime, scene->topics[0].actor, WEIR_OK), WEIR_OK);
    scene_settle(scene);
    assert_journal(scene->answers, " 1!closed 2@0 3!bad-request:it does not like t");
    scene_close(scene);
}

static void unloading_answers_everything_in_order(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene->topics[0].is_held = true;
    scene_publish(scene, 0, "aqtb");
    scene_handle(scene, 3);
    scene_publish(scene, 1, "a"); /* in hand, as b */
    scene_unload(scene);
    scene_unloaded(scene);
    assert_journal(scene->answers, " 1!closed 2!closed 3!bad-request:it does not like t 4!closed 5!closed unloaded:1");
    scene_close(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_emits_nothing_waits_for_what_was_emitted_before),
        cmocka_unit_test(what_emits_nothing_is_told_the_epoch_that_is_so),
        cmocka_unit_test(what_emits_nothing_waits_for_emissions_from_elsewhere),
        cmocka_unit_test(what_emits_nothing_waits_for_what_a_clearing_emitted),
        cmocka_unit_test(answers_of_one_topic_keep_their_order),
        cmocka_unit_test(another_topic_is_not_waited_for),
        cmocka_unit_test(a_buried_record_is_told_in_its_turn),
        cmocka_unit_test(answers_outlast_an_instance),
        cmocka_unit_test(a_topic_that_ends_answers_for_what_it_had),
        cmocka_unit_test(unloading_answers_everything_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
