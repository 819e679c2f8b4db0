/* The end of a plugin waits until topics have decided what it emitted, but not for ever, and says what it gave up. */
#include "tests/unit/actors/plugin/follow_scene.h"
#include "tests/unit/actors/plugin/unload_scene.h"

static void what_a_topic_has_no_memory_for_is_waited_for(void **state)
{
    struct scene *scene = follow_open();
    struct scene_topic *topic = &scene->topics[0];
    (void)state;
    topic->is_full = true;
    follow_update(scene, "abn");
    scene_handle_all(scene);
    follow_update(scene, "c"); /* not handled: it is not waited for */
    scene_unload(scene);
    assert_string_equal(scene_status(scene).state, "ending");
    assert_int_equal(plugins_load(scene->plugins, "fake", WEIR_ACTOR_NONE, 0), WEIR_BUSY);
    assert_null(fakes.hosts[0]);
    topic->room = 1;
    topic->journal[0] = '\0';
    scene_pass(scene);
    assert_journal(topic->journal, " a1 (busy 1)");
    assert_journal(scene->answers, "");
    topic->is_full = false;
    scene_pass(scene);
    assert_journal(topic->journal, " b1");
    assert_journal(scene->answers, " unloaded:0");
    assert_journal(scene->topics[1].journal, " n1");
    assert_string_equal(scene_status(scene).state, "unloaded");
    scene_close(scene);
}

static void what_a_topic_does_not_decide_is_given_up_in_time(void **state)
{
    struct scene *scene = follow_open();
    (void)state;
    scene->topics[0].is_full = true;
    scene->topics[1].is_held = true;
    follow_update(scene, "abn");
    scene_handle_all(scene);
    follow_update(scene, "nc"); /* behind what is under way */
    scene_handle_all(scene);
    uint64_t begun_ns = runtime_now_ns(scene->runtime);
    scene_unload(scene);
    scene_unloaded(scene);
    assert_journal(scene->answers, " unloaded:5");
    assert_true(runtime_now_ns(scene->runtime) - begun_ns <= PLUGIN_ENDING_MS * NS_PER_MS);
    scene_close(scene);
}

static void a_batch_of_which_a_part_is_decided_gives_up_the_rest(void **state)
{
    struct scene *scene = follow_open();
    (void)state;
    scene->topics[0].is_full = scene->topics[0].is_held = true;
    scene->topics[0].room = 1; /* of three it holds one back, and has no memory for two */
    follow_update(scene, "abc");
    scene_handle_all(scene);
    scene_unload(scene);
    scene_unloaded(scene);
    assert_journal(scene->answers, " unloaded:3");
    scene_close(scene);
}

static void publishers_of_a_fold_hear_what_became_of_their_records(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene->topics[0].is_held = true;
    scene_publish(scene, 0, "ab");
    scene_handle(scene, 1);
    scene_unload(scene);
    assert_string_equal(scene_status(scene).state, "ending");
    assert_journal(scene->answers, "");
    scene_ack(scene, 0, 1);
    assert_journal(scene->answers, " 1@1 2!closed unloaded:0");
    scene_close(scene);
}

/* It crashes again and again, which is why it is unloaded: what it emitted is decided all the same. */
static void one_that_waits_for_its_restart_hears_what_was_decided(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene->topics[0].is_held = true;
    scene_publish(scene, 0, "ab");
    scene_handle(scene, 1);
    scene_kill(scene);
    fake_end(scene_host(scene), "killed by SIGKILL");
    scene_ring(scene, scene_host(scene)); /* within half a second of the first: the restart is some time away */
    assert_null(fakes.hosts[fakes.started - 1]);
    scene_unload(scene);
    assert_string_equal(scene_status(scene).state, "ending");
    assert_int_equal(fakes.started, 2); /* for its end it needs no instance, which might fail again */
    assert_journal(scene->answers, "");
    scene_ack(scene, 0, 1);
    assert_journal(scene->answers, " 1@1 2!closed unloaded:0");
    scene_close(scene);
}

/* Acknowledgements and rings come before the news of its end, and wait with it. */
static void what_came_while_it_waited_starts_no_instance(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene->topics[0].is_held = true;
    scene_publish(scene, 0, "abc");
    scene_handle(scene, 2);
    scene_kill(scene);
    fake_end(scene_host(scene), "killed by SIGKILL");
    struct plugin_bell bell = scene_host(scene)->bell;
    scene_ring(scene, scene_host(scene));
    scene_ack(scene, 0, 1);
    bell.ring(bell.context);
    scene_settle(scene);
    scene_unload(scene);
    assert_int_equal(fakes.started, 2);
    assert_journal(scene->answers, " 1@1");
    scene_ack(scene, 0, 1);
    assert_journal(scene->answers, " 2@2 3!closed unloaded:0");
    scene_close(scene);
}

/* In the broker's thread it would fail again in that very turn, before it heard of its end. */
static void one_that_fails_at_once_is_given_nothing_more(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene->topics[0].is_held = true;
    scene_publish(scene, 0, "av");
    scene_handle(scene, 1);
    fakes.options.is_prompt = true; /* from the restart on, which comes at once the first time */
    scene_handle(scene, 1);
    assert_string_equal(scene_status(scene).state, "down");
    size_t started = fakes.started;
    scene_unload(scene);
    assert_string_equal(scene_status(scene).state, "ending");
    assert_int_equal(fakes.started, started);
    assert_journal(scene->answers, "");
    scene_ack(scene, 0, 1);
    assert_journal(scene->answers, " 1@1 2!closed unloaded:0");
    scene_close(scene);
}

/* Its end was told, and the rate lets a part of it out at a time. */
static void an_input_in_hand_is_sent_to_its_end(void **state)
{
    struct scene *scene = scene_open_with((struct fake_options){.emit_bytes_per_s = 10});
    (void)state;
    scene_publish(scene, 0, "y");
    scene_handle(scene, 1);
    assert_journal(scene->topics[0].journal, " y1");
    scene_unload(scene);
    assert_journal(scene->answers, "");
    scene_unloaded(scene);
    assert_journal(scene->topics[0].journal, " y1");
    assert_journal(scene->answers, " 1@2 unloaded:0");
    scene_close(scene);
}

static void the_brokers_shutdown_waits_as_well(void **state)
{
    struct scene *scene = follow_open();
    struct scene_topic *topic = &scene->topics[0];
    (void)state;
    topic->is_full = true;
    follow_update(scene, "ab");
    scene_handle_all(scene);
    topic->journal[0] = '\0';
    supervision_shutdown(scene->tree);
    scene_settle(scene);
    topic->is_full = false;
    scene_unloaded(scene);
    assert_journal(topic->journal, " a1 b1");
    scene_close(scene);
}

static void a_reload_keeps_what_waits(void **state)
{
    struct scene *scene = follow_open();
    struct scene_topic *topic = &scene->topics[0];
    (void)state;
    topic->is_full = true;
    follow_update(scene, "ab");
    scene_handle_all(scene);
    topic->journal[0] = '\0';
    scene_reload(scene);
    while (fakes.hosts[0] != NULL) { /* the old one tells its state, the new one takes it */
        for (size_t i = 0; i < fakes.started; i++) {
            struct plugin_host *host = fakes.hosts[i];
            if (host != NULL && host->handled < host->given) {
                fake_handle(host);
                scene_ring(scene, host);
            }
        }
    }
    assert_journal(scene->answers, " reloaded:ok");
    topic->is_full = false;
    follow_update(scene, "a");
    scene_handle_all(scene);
    while (topic->shown['a'] < 2)
        scene_pass(scene);
    assert_non_null(strstr(topic->journal, " a1 b1 a2"));
    scene_close(scene);
}

static void one_that_is_ending_is_not_reloaded(void **state)
{
    struct scene *scene = follow_open();
    (void)state;
    scene->topics[0].is_held = true;
    follow_update(scene, "a");
    scene_handle_all(scene);
    scene_unload(scene);
    scene_reload(scene);
    assert_journal(scene->answers, " reloaded:closed");
    assert_int_equal(fakes.started, 1);
    scene_ack(scene, 0, 1);
    assert_journal(scene->answers, " unloaded:0");
    scene_close(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_topic_has_no_memory_for_is_waited_for),
        cmocka_unit_test(what_a_topic_does_not_decide_is_given_up_in_time),
        cmocka_unit_test(a_batch_of_which_a_part_is_decided_gives_up_the_rest),
        cmocka_unit_test(publishers_of_a_fold_hear_what_became_of_their_records),
        cmocka_unit_test(one_that_waits_for_its_restart_hears_what_was_decided),
        cmocka_unit_test(what_came_while_it_waited_starts_no_instance),
        cmocka_unit_test(one_that_fails_at_once_is_given_nothing_more),
        cmocka_unit_test(an_input_in_hand_is_sent_to_its_end),
        cmocka_unit_test(the_brokers_shutdown_waits_as_well),
        cmocka_unit_test(a_reload_keeps_what_waits),
        cmocka_unit_test(one_that_is_ending_is_not_reloaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
