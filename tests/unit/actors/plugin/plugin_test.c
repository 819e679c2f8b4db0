/* The plugin actor: inputs kept and handled again, and what survives an instance's end at each point. */
#include "tests/unit/actors/plugin/plugin_scene.h"

/* Tries of a snapshot, a restore or a replay; of a message. */
enum { STATE_TRIES = PLUGIN_STATE_ATTEMPTS_MAX, TRIES = PLUGIN_ATTEMPTS_MAX };

static void records_are_handled_emitted_and_answered(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_publish(scene, 0, "aab");
    assert_journal(scene->answers, "");
    scene_handle(scene, 3);
    assert_journal(scene->topics[0].journal, " a1 a2 b1");
    assert_journal(scene->answers, " 1@1 2@2 3@3");
    scene_close(scene);
}

/* Whoever ends instances while they begin to replay finds the same input in hand each time. */
static void ends_during_replays_cost_no_input(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_publish(scene, 0, "aab");
    scene_handle_all(scene);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < STATE_TRIES - 1; i++)
            scene_kill(scene);
        scene_handle_all(scene); /* and they count anew */
    }
    scene_publish(scene, 0, "ab");
    scene_handle_all(scene);
    assert_int_equal(scene->topics[0].shown['a'], 3);
    assert_int_equal(scene->topics[0].shown['b'], 2);
    assert_null(strstr(scene->topics[0].journal, "clear"));
    assert_journal(scene->answers, " 1@1 2@2 3@3 4@4 5@5");
    scene_close(scene);
}

static void a_replay_that_is_given_up_is_told_as_lost_state(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_publish(scene, 0, "aab");
    scene_handle_all(scene);
    assert_journal(scene->topics[0].journal, " a1 a2 b1");
    for (int i = 0; i < STATE_TRIES; i++) {
        scene_kill(scene);
        assert_journal(scene->topics[0].journal, " (stale)");
        scene_handle(scene, 1); /* the second one is what it ends of */
        assert_int_equal(scene_last(scene)->attempt, i + 1);
    }
    scene_kill(scene);
    assert_journal(scene->topics[0].journal, " (clear) (stale) (live)");
    assert_int_equal(scene_host(scene)->given, 0);
    scene_publish(scene, 0, "a");
    scene_handle_all(scene);
    assert_journal(scene->topics[0].journal, " a1");
    assert_journal(scene->answers, " 1@1 2@2 3@3 4@1");
    /* What comes after is kept again. */
    scene_kill(scene);
    scene_handle_all(scene);
    scene_publish(scene, 0, "a");
    scene_handle_all(scene);
    assert_journal(scene->topics[0].journal, " (stale) (live) a2");
    scene_close(scene);
}

static void what_has_failed_is_given_alone(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_publish(scene, 0, "abc");
    assert_int_equal(scene_host(scene)->given, 3);
    scene_kill(scene);
    assert_int_equal(scene_host(scene)->given, 1);
    assert_int_equal(scene_last(scene)->attempt, 2);
    scene_handle(scene, 1);
    assert_int_equal(scene_host(scene)->given, 3);
    assert_int_equal(scene_last(scene)->attempt, 1);
    scene_handle_all(scene);
    assert_journal(scene->topics[0].journal, " (stale) (live) a1 b1 c1");
    /* Handled again, it is as it was when it succeeded. */
    scene_kill(scene);
    assert_int_equal(scene_host(scene)->given, 3);
    assert_int_equal(scene_host(scene)->inputs[0].attempt, 2);
    scene_close(scene);
}

static void three_failures_of_a_message_bury_it_and_others_go_on(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_publish(scene, 0, "abc");
    scene_handle(scene, 1);
    for (int i = 0; i < TRIES; i++) {
        scene_kill(scene);
        scene_handle(scene, 1); /* a again */
    }
    scene_handle_all(scene);
    assert_journal(scene->topics[0].journal, " a1 (stale) (live) (stale) (live) (bury) (stale) (live) c1");
    assert_journal(scene->answers, " 1@1 2!poisoned:killed by SIGKILL 3@2");
    assert_int_equal(scene_status(scene).dead, 1);
    scene_close(scene);
}

static void snapshots_make_replays_short(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_publish(scene, 0, "aab");
    scene_handle_all(scene);
    scene_snapshot(scene, 'm'); /* it is due when that one is to be given, and before it */
    scene_publish(scene, 0, "a");
    scene_handle_all(scene);
    scene_kill(scene);
    assert_int_equal(scene_last(scene)->kind, INPUT_RESTORE);
    scene_handle(scene, 1);
    assert_int_equal(scene_host(scene)->given, 3);
    assert_int_equal(scene_host(scene)->inputs[1].key, 'm');
    assert_int_equal(scene_host(scene)->inputs[2].key, 'a');
    scene_handle(scene, 2);
    scene_publish(scene, 0, "a");
    scene_handle_all(scene);
    assert_journal(scene->topics[0].journal, " a1 a2 b1 m1 a3 (stale) (live) a4");
    scene_close(scene);
}

static void a_restore_is_tried_and_then_given_up(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_snapshot(scene, 'a');
    for (int round = 0; round < 2; round++) {
        scene_kill(scene);
        for (int i = 0; i < STATE_TRIES - 1; i++)
            scene_kill(scene);
        if (round == 1)
            break;
        scene_handle_all(scene); /* it succeeds in time, and they count anew */
        scene_publish(scene, 0, "a");
        scene_handle_all(scene);
        assert_int_equal(scene->topics[0].shown['a'], 2);
        assert_null(strstr(scene->topics[0].journal, "clear"));
    }
    scene_kill(scene);
    assert_non_null(strstr(scene->topics[0].journal, " (clear) (stale) (live)"));
    scene_publish(scene, 0, "a");
    scene_handle_all(scene);
    assert_int_equal(scene->topics[0].shown['a'], 1);
    scene_close(scene);
}

static void a_snapshot_is_tried_and_then_given_up(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    for (int i = 0; i < STATE_TRIES; i++) {
        assert_null(strstr(scene->topics[0].journal, "clear"));
        scene_snapshot_ask(scene, 'a');
        scene_kill(scene);
    }
    assert_non_null(strstr(scene->topics[0].journal, " (clear) (stale) (live)"));
    scene_publish(scene, 0, "a");
    scene_handle_all(scene);
    assert_int_equal(scene->topics[0].shown['a'], 1);
    scene_close(scene);
}

static void an_end_before_the_restore_costs_no_state(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_snapshot(scene, 'a');
    fakes.options.give_error = WEIR_CLOSED;
    fakes.options.give_error_of = INPUT_RESTORE;
    fakes.options.give_error_count = 1;
    scene_kill(scene);
    scene_live(scene);
    scene_publish(scene, 0, "a");
    scene_handle_all(scene);
    assert_journal(scene->topics[0].journal, " a1 (stale) (stale) (live) a2");
    scene_close(scene);
}

static void a_restore_waits_for_memory(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_snapshot(scene, 'a');
    fakes.options.give_error = WEIR_NO_MEMORY;
    fakes.options.give_error_of = INPUT_RESTORE;
    fakes.options.give_error_count = 3;
    scene_kill(scene);
    while (scene_host(scene)->given == 0)
        scene_pass(scene);
    scene_handle_all(scene);
    scene_publish(scene, 0, "a");
    scene_handle_all(scene);
    assert_journal(scene->topics[0].journal, " a1 (stale) (live) a2");
    scene_close(scene);
}

static void what_a_new_host_has_no_room_for_is_told_as_lost_state(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct scene *scene = scene_open();
        if (i == 0)
            scene_snapshot(scene, 'a');
        scene_publish(scene, 0, "ab");
        scene_handle_all(scene);
        scene->topics[0].journal[0] = '\0';
        fakes.options.give_error = WEIR_TOO_BIG;
        fakes.options.give_error_of = i == 0 ? INPUT_RESTORE : INPUT_MESSAGE;
        fakes.options.give_error_count = 1;
        scene_kill(scene);
        scene_live(scene);
        assert_journal(scene->topics[0].journal,
                       i == 0 ? " (stale) (clear) (live)" : " (stale) (clear) (stale) (live)");
        scene_publish(scene, 0, "a");
        scene_handle_all(scene);
        assert_journal(scene->topics[0].journal, " a1");
        scene_close(scene);
    }
}

/* A snapshot that was told without its end must not pass for a later one. */
static void half_a_snapshot_is_forgotten(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_snapshot_ask(scene, 'a');
    struct plugin_host *host = scene_host(scene);
    fake_handle(host);
    host->put--; /* not its end */
    scene_ring(scene, host);
    scene_kill(scene);
    scene_handle_all(scene);
    scene_snapshot_ask(scene, 'b');
    fake_done(scene_host(scene), scene_next(scene)->number, WEIR_ACTOR_OK, "");
    scene_ended(scene, scene_host(scene));
    assert_non_null(strstr(scene_status(scene).cause, "no snapshot"));
    scene_handle_all(scene);
    scene_publish(scene, 0, "ab");
    scene_handle_all(scene);
    assert_int_equal(scene->topics[0].shown['a'], 2);
    assert_null(strstr(scene->topics[0].journal, "clear"));
    scene_close(scene);
}

static void without_a_snapshot_state_is_lost_and_told(void **state)
{
    struct scene *scene = scene_open_with((struct fake_options){.has_no_snapshot = true});
    (void)state;
    scene_publish(scene, 0, "aa");
    scene_handle(scene, 1);
    scene_kill(scene);
    assert_int_equal(scene_host(scene)->given, 1);
    scene_handle_all(scene);
    assert_journal(scene->topics[0].journal, " a1 (stale) (clear) (live) a1");
    assert_journal(scene->answers, " 1@1 2@1");
    scene_close(scene);
}

/* It is noticed when the rest was sent, and nothing is sent twice. */
static void an_end_amid_a_commit_costs_nothing(void **state)
{
    struct scene *scene = scene_open_with((struct fake_options){.emit_bytes_per_s = 4});
    (void)state;
    scene_publish(scene, 0, "yq");
    scene_handle(scene, 1);
    assert_journal(scene->topics[0].journal, " y1"); /* the other one is beyond the rate for a second */
    fake_end(scene_host(scene), "killed by SIGKILL");
    scene_ring(scene, scene_host(scene));
    assert_journal(scene->topics[0].journal, "");
    assert_journal(scene->answers, "");
    while (fakes.started == 1)
        scene_pass(scene);
    assert_journal(scene->topics[0].journal, " y1 (stale)");
    assert_journal(scene->answers, " 1@2");
    scene_handle_all(scene);
    assert_journal(scene->topics[0].journal, " (live)");
    assert_journal(scene->answers, " 2@2");
    scene_close(scene);
}

static size_t timers_given(struct scene *scene)
{
    const struct plugin_host *host = scene_host(scene);
    size_t count = 0;
    for (size_t i = 0; i < host->given; i++)
        count += host->inputs[i].message_kind == WEIR_MESSAGE_TIMER;
    return count;
}

static void timers_outlast_an_instance_and_fire_once(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_publish(scene, 0, "u");
    scene_handle_all(scene);
    scene_kill(scene);
    scene_handle_all(scene);
    while (timers_given(scene) == 0)
        scene_pass(scene);
    scene_handle_all(scene);
    assert_int_equal(scene_host(scene)->counts.of['!'], 1);
    scene_kill(scene);
    scene_handle_all(scene); /* both again */
    while (runtime_advance(scene->runtime))
        scene_settle(scene);
    assert_int_equal(timers_given(scene), 1);
    assert_int_equal(scene_host(scene)->counts.of['!'], 1);
    scene_close(scene);
}

static void an_output_that_belongs_to_nothing_ends_the_instance(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_publish(scene, 0, "a");
    fake_done(scene_host(scene), 7, WEIR_ACTOR_OK, "");
    scene_ended(scene, scene_host(scene));
    assert_non_null(strstr(scene_status(scene).cause, "not in hand"));
    scene_handle_all(scene);
    assert_journal(scene->topics[0].journal, " (stale) (live) a1");
    scene_close(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_handled_emitted_and_answered),
        cmocka_unit_test(ends_during_replays_cost_no_input),
        cmocka_unit_test(a_replay_that_is_given_up_is_told_as_lost_state),
        cmocka_unit_test(what_has_failed_is_given_alone),
        cmocka_unit_test(three_failures_of_a_message_bury_it_and_others_go_on),
        cmocka_unit_test(snapshots_make_replays_short),
        cmocka_unit_test(a_restore_is_tried_and_then_given_up),
        cmocka_unit_test(a_snapshot_is_tried_and_then_given_up),
        cmocka_unit_test(an_end_before_the_restore_costs_no_state),
        cmocka_unit_test(a_restore_waits_for_memory),
        cmocka_unit_test(what_a_new_host_has_no_room_for_is_told_as_lost_state),
        cmocka_unit_test(half_a_snapshot_is_forgotten),
        cmocka_unit_test(without_a_snapshot_state_is_lost_and_told),
        cmocka_unit_test(an_end_amid_a_commit_costs_nothing),
        cmocka_unit_test(timers_outlast_an_instance_and_fire_once),
        cmocka_unit_test(an_output_that_belongs_to_nothing_ends_the_instance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
