/* New code for old, and what becomes of it when either instance ends on the way. */
#include "tests/unit/actors/plugin/unload_scene.h"

/* "aab" is handled, and the order to reload given; the new instance is at fakes.hosts[1]. */
static struct scene *reload_open(bool is_slow_to_start)
{
    struct scene *scene = scene_open();
    scene_publish(scene, 0, "aab");
    scene_handle_all(scene);
    assert_journal(scene->answers, " 1@1 2@2 3@3");
    scene->topics[0].journal[0] = '\0';
    fakes.options.is_slow_to_start = is_slow_to_start;
    scene_reload(scene);
    assert_int_equal(fakes.started, 2);
    return scene;
}

static void step(struct scene *scene, struct plugin_host *host, enum plugin_input_kind kind)
{
    assert_true(host->handled < host->given);
    assert_int_equal(host->inputs[host->handled].kind, kind);
    fake_handle(host);
    scene_ring(scene, host);
}

/* Another two records are counted as if nothing had been. */
static void reload_close(struct scene *scene)
{
    scene_publish(scene, 0, "ab");
    scene_handle_all(scene);
    assert_int_equal(scene->topics[0].shown['a'], 3);
    assert_int_equal(scene->topics[0].shown['b'], 2);
    assert_null(strstr(scene->topics[0].journal, "clear"));
    assert_journal(scene->answers, " 4@4 5@5");
    scene_close(scene);
}

static void a_reload_carries_state_over(void **state)
{
    struct scene *scene = reload_open(false);
    (void)state;
    step(scene, fakes.hosts[0], INPUT_SNAPSHOT);
    assert_journal(scene->answers, "");
    step(scene, fakes.hosts[1], INPUT_RESTORE);
    assert_journal(scene->answers, " reloaded:ok");
    assert_null(fakes.hosts[0]);
    assert_journal(scene->topics[0].journal, "");
    reload_close(scene);
}

static void a_reload_lets_the_old_one_end_what_it_has(void **state)
{
    struct scene *scene = reload_open(true);
    (void)state;
    struct plugin_host *old = fakes.hosts[0], *new = fakes.hosts[1];
    scene_publish(scene, 0, "a"); /* goes to the old one: the new one is not there yet */
    fake_start(new);
    scene_ring(scene, new);
    scene_publish(scene, 0, "b"); /* waits for the new one */
    assert_int_equal(old->given, 4);
    step(scene, old, INPUT_MESSAGE);
    step(scene, old, INPUT_SNAPSHOT);
    step(scene, new, INPUT_RESTORE);
    step(scene, new, INPUT_MESSAGE);
    assert_journal(scene->answers, " 4@4 reloaded:ok 5@5");
    assert_journal(scene->topics[0].journal, " a3 b2");
    scene_close(scene);
}

static void a_new_one_that_ends_leaves_the_old_one_running(void **state)
{
    (void)state;
    for (int phase = 0; phase < 3; phase++) {
        struct scene *scene = reload_open(phase == 0);
        struct plugin_host *new = fakes.hosts[1];
        if (phase == 2)
            step(scene, fakes.hosts[0], INPUT_SNAPSHOT);
        fake_end(new, "killed by SIGKILL");
        scene_ring(scene, new);
        if (phase == 1) /* it is noticed when it is to be given the state */
            step(scene, fakes.hosts[0], INPUT_SNAPSHOT);
        assert_non_null(strstr(scene->answers, " reloaded:"));
        assert_null(strstr(scene->answers, "ok"));
        scene->answers[0] = '\0';
        assert_null(fakes.hosts[1]);
        assert_non_null(fakes.hosts[0]);
        assert_journal(scene->topics[0].journal, "");
        scene_publish(scene, 0, "ab");
        step(scene, fakes.hosts[0], INPUT_MESSAGE);
        step(scene, fakes.hosts[0], INPUT_MESSAGE);
        assert_journal(scene->topics[0].journal, " a3 b2");
        assert_journal(scene->answers, " 4@4 5@5");
        scene_close(scene);
    }
}

static void an_old_one_that_ends_gives_the_reload_up_and_comes_back(void **state)
{
    (void)state;
    for (int phase = 0; phase < 3; phase++) {
        struct scene *scene = reload_open(phase == 0);
        struct plugin_host *old = fakes.hosts[0];
        if (phase == 2)
            step(scene, old, INPUT_SNAPSHOT);
        fakes.options.is_slow_to_start = false;
        fake_end(old, "killed by SIGKILL");
        scene_ended(scene, old);
        assert_null(fakes.hosts[0]);
        assert_null(fakes.hosts[1]);
        scene_handle_all(scene); /* the replay, or the restore */
        assert_journal(scene->answers, " reloaded:failed");
        assert_journal(scene->topics[0].journal, " (stale) (live)");
        reload_close(scene);
    }
}

/* While nothing runs well, the new code simply starts. */
static void a_reload_during_a_replay_starts_anew(void **state)
{
    struct scene *scene = scene_open();
    (void)state;
    scene_publish(scene, 0, "aab");
    scene_handle_all(scene);
    scene_kill(scene);
    scene_handle(scene, 1);
    scene->answers[0] = '\0';
    scene_reload(scene);
    assert_int_equal(fakes.started, 3);
    assert_journal(scene->answers, " reloaded:ok");
    scene_handle_all(scene);
    reload_close(scene);
}

/* Neither can tell its state to the other. */
static void without_a_snapshot_a_reload_loses_state_and_tells(void **state)
{
    struct scene *scene = scene_open_with((struct fake_options){.has_no_snapshot = true});
    (void)state;
    scene_publish(scene, 0, "aa");
    scene_handle_all(scene);
    scene_reload(scene);
    scene_publish(scene, 0, "a");
    scene_handle_all(scene);
    assert_journal(scene->answers, " 1@1 2@2 reloaded:ok 3@1");
    assert_journal(scene->topics[0].journal, " a1 a2 (clear) a1");
    scene_close(scene);
}

/* What it emits is let out a byte a second. */
static void a_reload_does_not_wait_for_ever_for_what_is_stalled(void **state)
{
    struct scene *scene = scene_open_with((struct fake_options){.emit_bytes_per_s = 1});
    (void)state;
    scene_publish(scene, 0, "y");
    scene_handle(scene, 1);
    assert_journal(scene->topics[0].journal, " y1");
    uint64_t begun_ns = runtime_now_ns(scene->runtime);
    scene_reload(scene);
    while (scene->answers[0] == '\0')
        scene_pass(scene);
    assert_journal(scene->answers, " reloaded:busy");
    assert_true(runtime_now_ns(scene->runtime) - begun_ns <= PLUGIN_RELOAD_MS * NS_PER_MS);
    assert_non_null(fakes.hosts[0]);
    assert_null(fakes.hosts[1]);
    /* It goes on as it was, and is reloaded when it is no longer stalled; the timer of before is nothing to that. */
    while (scene->answers[0] == '\0')
        scene_pass(scene);
    assert_journal(scene->topics[0].journal, " y1");
    assert_journal(scene->answers, " 1@2");
    scene_reload(scene);
    step(scene, fakes.hosts[0], INPUT_SNAPSHOT);
    step(scene, fakes.hosts[2], INPUT_RESTORE);
    assert_journal(scene->answers, " reloaded:ok");
    scene_close(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reload_carries_state_over),
        cmocka_unit_test(a_reload_lets_the_old_one_end_what_it_has),
        cmocka_unit_test(a_new_one_that_ends_leaves_the_old_one_running),
        cmocka_unit_test(an_old_one_that_ends_gives_the_reload_up_and_comes_back),
        cmocka_unit_test(a_reload_during_a_replay_starts_anew),
        cmocka_unit_test(a_reload_does_not_wait_for_ever_for_what_is_stalled),
        cmocka_unit_test(without_a_snapshot_a_reload_loses_state_and_tells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
