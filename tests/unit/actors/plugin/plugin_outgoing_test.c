/* What a processor emits, and what becomes of it where topics cannot take it at present: nothing is lost, nothing
 * overtakes, and what waits is bounded. */
#include "tests/unit/actors/plugin/follow_scene.h"

static void emissions_go_to_their_topics(void **state)
{
    struct scene *scene = follow_open();
    (void)state;
    follow_update(scene, "anay");
    scene_handle_all(scene);
    assert_journal(scene->topics[0].journal, " a1 a2 y1 y1");
    assert_journal(scene->topics[1].journal, " n1");
    assert_int_equal(scene_status(scene).emitted, 5);
    scene_close(scene);
}

static void what_a_topic_has_no_memory_for_comes_again_in_its_order(void **state)
{
    struct scene *scene = follow_open();
    struct scene_topic *topic = &scene->topics[0];
    (void)state;
    topic->is_full = true;
    follow_update(scene, "a");
    scene_handle_all(scene);
    assert_journal(topic->journal, " (busy 1)");
    follow_update(scene, "bcnd"); /* they come behind it; another topic's do not wait */
    scene_handle_all(scene);
    assert_journal(topic->journal, "");
    assert_journal(scene->topics[1].journal, " n1");
    topic->room = 1;
    scene_pass(scene);
    assert_journal(topic->journal, " a1 (busy 3)");
    topic->room = 2;
    scene_pass(scene);
    assert_journal(topic->journal, " b1 c1 (busy 1)");
    scene_pass(scene);
    assert_journal(topic->journal, " (busy 1)");
    topic->is_full = false;
    while (topic->journal[0] == '\0')
        scene_pass(scene);
    assert_journal(topic->journal, " d1");
    follow_update(scene, "a");
    scene_handle_all(scene);
    assert_journal(topic->journal, " a2");
    scene_close(scene);
}

static void one_batch_of_a_topic_is_under_way_at_a_time(void **state)
{
    struct scene *scene = follow_open();
    (void)state;
    scene->topics[0].is_held = true;
    follow_update(scene, "a");
    scene_handle_all(scene);
    follow_update(scene, "bnc");
    scene_handle_all(scene);
    assert_journal(scene->topics[0].journal, " a1");
    assert_journal(scene->topics[1].journal, " n1");
    scene_ack(scene, 0, 1);
    assert_journal(scene->topics[0].journal, " b1 c1");
    scene_close(scene);
}

static void an_instance_that_ends_leaves_what_waits(void **state)
{
    struct scene *scene = follow_open();
    struct scene_topic *topic = &scene->topics[0];
    (void)state;
    topic->is_full = true;
    follow_update(scene, "ab");
    scene_handle_all(scene);
    topic->journal[0] = '\0';
    scene_kill(scene);
    scene_handle_all(scene);
    topic->is_full = false;
    while (topic->shown['b'] == 0)
        scene_pass(scene);
    assert_non_null(strstr(topic->journal, " a1 b1"));
    assert_null(strstr(topic->journal, "a2"));
    scene_close(scene);
}

/* A topic that takes nothing has the plugin take nothing, once what waits for it has no room. */
static void full_topic_holds_back(struct scene *scene)
{
    struct scene_topic *topic = &scene->topics[0];
    uint64_t given = 0;
    topic->is_held = true;
    for (int round = 0; round < 200; round++) {
        follow_update(scene, "aaaaaaaaaa");
        scene_handle_all(scene);
        topic->journal[0] = '\0';
    }
    given = scene_host(scene)->given;
    assert_in_range(given, TOPIC_BATCH_MAX, 1900); /* a batch, and what may be gathered and given behind it */
    follow_update(scene, "a");
    assert_int_equal(scene_host(scene)->given, given);
    topic->is_held = false;
    scene_ack(scene, 0, 1);
    scene_handle_all(scene);
    assert_int_equal(topic->shown['a'], 2001);
    scene_close(scene);
}

static void a_full_topic_holds_the_plugin_back(void **state)
{
    (void)state;
    full_topic_holds_back(follow_open());
}

/* For no longer, where it waits for a subscription as well. */
static void a_full_topic_holds_the_plugin_back_until_it_takes_more(void **state)
{
    struct scene *scene = follow_open();
    (void)state;
    follow_refuse(scene);
    full_topic_holds_back(scene);
}

/* And what is tried again soon has that tried no sooner. */
static void a_subscription_is_asked_for_again_after_its_time(void **state)
{
    struct scene *scene = follow_open_with((struct fake_options){.emit_bytes_per_s = 1000});
    (void)state;
    follow_update(scene, "aa"); /* the second one has to wait for a moment */
    scene_handle_all(scene);
    follow_refuse(scene);
    scene_pass(scene);
    assert_journal(scene->topics[0].journal, " a1 a2");
    assert_journal(followed.journal, "");
    while (followed.journal[0] == '\0')
        scene_pass(scene);
    assert_journal(followed.journal, " (close) (subscribe)");
    scene_close(scene);
}

static void a_topic_that_cannot_be_made_costs_its_records_alone(void **state)
{
    struct scene *scene = follow_open();
    (void)state;
    fakes.other_topic = "t/none";
    follow_update(scene, "nan");
    scene_handle_all(scene);
    assert_journal(scene->topics[0].journal, " a1");
    assert_int_equal(scene_status(scene).refused, 2);
    follow_update(scene, "na");
    scene_handle_all(scene);
    assert_journal(scene->topics[0].journal, " a2");
    assert_int_equal(scene_status(scene).refused, 3);
    scene_close(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(emissions_go_to_their_topics),
        cmocka_unit_test(what_a_topic_has_no_memory_for_comes_again_in_its_order),
        cmocka_unit_test(one_batch_of_a_topic_is_under_way_at_a_time),
        cmocka_unit_test(an_instance_that_ends_leaves_what_waits),
        cmocka_unit_test(a_full_topic_holds_the_plugin_back),
        cmocka_unit_test(a_full_topic_holds_the_plugin_back_until_it_takes_more),
        cmocka_unit_test(a_subscription_is_asked_for_again_after_its_time),
        cmocka_unit_test(a_topic_that_cannot_be_made_costs_its_records_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
