/* Requests to a plugin: one answer each, by its own code or that there is none, whatever becomes of the instance. */
#include "tests/unit/actors/plugin/unload_scene.h"

static void a_request_is_replied_to(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_ask(scene, 0, 'q');
    assert_string_equal(scene_last(scene)->topic, "t/0");
    assert_int_equal(scene_last(scene)->message_kind, WEIR_MESSAGE_ASK);
    scene_ask(scene, -1, 'q');
    assert_string_equal(scene_last(scene)->topic, "");
    assert_journal(scene->answers, "");
    scene_handle_all(scene);
    assert_journal(scene->answers, " ?1=1 ?2=2");
    scene_close(scene);
}

static void a_request_without_a_reply_is_answered_with_an_error(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_ask(scene, 0, 'w');
    scene_ask(scene, 0, 't');
    scene_handle_all(scene);
    assert_journal(scene->answers, " ?1!bad-request:the plugin gave no reply ?2!bad-request:it does not like t");
    scene_close(scene);
}

/* What a request changes is there for whoever has the reply. */
static void a_reply_waits_for_what_the_request_brought_about(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene->topics[0].is_held = true;
    scene_ask(scene, 0, 'a');
    scene_publish(scene, 0, "q");
    scene_handle_all(scene);
    assert_journal(scene->topics[0].journal, " a1");
    assert_journal(scene->answers, "");
    scene_ack(scene, 0, 1);
    assert_journal(scene->answers, " ?1=1 2@1");
    scene_close(scene);
}

static void a_request_whose_emission_is_not_folded_is_told_so(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene->topics[0].is_held = true;
    scene_ask(scene, 0, 'a');
    scene_handle_all(scene);
    assert_int_equal(actor_stop(scene->runtime, scene->topics[0].actor, WEIR_OK), WEIR_OK);
    scene_settle(scene);
    assert_journal(scene->answers, " ?1!closed");
    scene_close(scene);
}

static void a_request_in_hand_is_tried_again_and_then_given_up(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_ask(scene, 0, 'q');
    scene_kill(scene);
    assert_int_equal(scene_last(scene)->attempt, 2);
    scene_kill(scene);
    assert_journal(scene->answers, "");
    scene_kill(scene);
    assert_journal(scene->answers, " ?1!poisoned:killed by SIGKILL");
    assert_string_equal(scene->topics[0].journal, " (stale) (live) (stale) (live) (stale) (live)");
    scene_ask(scene, 0, 'q');
    scene_handle_all(scene);
    assert_journal(scene->answers, " ?2=1");
    scene_close(scene);
}

static void what_is_handled_again_replies_to_nobody(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_ask(scene, 0, 'q');
    scene_handle_all(scene);
    assert_journal(scene->answers, " ?1=1");
    scene_kill(scene);
    scene_handle_all(scene);
    assert_journal(scene->answers, "");
    scene_ask(scene, 0, 'q');
    scene_handle_all(scene);
    assert_journal(scene->answers, " ?2=2"); /* it counts the first one */
    scene_close(scene);
}

static void a_request_that_nobody_waits_for_any_more_is_not_given(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_ask_until(scene, 0, 'q', 0);
    assert_null(scene_next(scene));
    scene_publish(scene, 0, "q");
    uint64_t now_ns = runtime_now_ns(scene->runtime);
    scene_ask_until(scene, 0, 'q', now_ns + 1);
    scene_kill(scene); /* twice within a moment: the second time there is a pause before the restart */
    scene_kill(scene);
    assert_true(runtime_now_ns(scene->runtime) > now_ns);
    scene_handle_all(scene);
    assert_int_equal(scene_status(scene).handled, 1);
    assert_journal(scene->answers, " ?3!timeout 2@0");
    scene_close(scene);
}

static void a_second_reply_fails_the_instance(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_ask(scene, 0, 'x');
    for (int i = 0; i < 3; i++) {
        struct plugin_host *host = scene_host(scene);
        fake_handle(host);
        scene_ended(scene, host);
    }
    assert_journal(scene->answers, " ?1!poisoned:a second reply, or one to nobody");
    scene_close(scene);
}

static void unloading_answers_requests(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene->topics[0].is_held = true;
    scene_ask(scene, 0, 'a');
    scene_ask(scene, -1, 'q');
    scene_ask(scene, 1, 'q');
    scene_handle(scene, 2);
    assert_journal(scene->answers, " ?2=1");
    scene_unload(scene);
    scene_unloaded(scene);
    assert_journal(scene->answers, " ?1!closed ?3!closed unloaded:1");
    scene_close(scene);
}

static void unloading_answers_a_record_among_requests_once(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene->topics[0].is_held = true;
    scene_ask(scene, 0, 'a');
    scene_publish(scene, 0, "q");
    scene_ask(scene, 0, 'q');
    scene_handle(scene, 2);
    scene_unload(scene);
    scene_unloaded(scene);
    assert_journal(scene->answers, " ?1!closed 2!closed ?3!closed unloaded:1");
    scene_close(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_replied_to),
        cmocka_unit_test(a_request_without_a_reply_is_answered_with_an_error),
        cmocka_unit_test(a_reply_waits_for_what_the_request_brought_about),
        cmocka_unit_test(a_request_whose_emission_is_not_folded_is_told_so),
        cmocka_unit_test(a_request_in_hand_is_tried_again_and_then_given_up),
        cmocka_unit_test(what_is_handled_again_replies_to_nobody),
        cmocka_unit_test(a_request_that_nobody_waits_for_any_more_is_not_given),
        cmocka_unit_test(a_second_reply_fails_the_instance),
        cmocka_unit_test(unloading_answers_requests),
        cmocka_unit_test(unloading_answers_a_record_among_requests_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
