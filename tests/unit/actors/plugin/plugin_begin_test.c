/* Whoever orders a plugin to be loaded hears once how that went: when it is live, or of its first failure. */
#include "tests/unit/actors/plugin/unload_scene.h"

/* It is loaded anew, and was not heard of yet. */
static struct scene *load_open(void)
{
    struct scene *scene = scene_open();
    scene_unload(scene);
    scene_unloaded(scene);
    assert_journal(scene->answers, " unloaded:0");
    fakes.options.is_slow_to_start = true;
    assert_int_equal(plugins_load(scene->plugins, "fake", scene->publisher, 1), WEIR_OK);
    scene_settle(scene);
    assert_int_equal(fakes.started, 2);
    assert_journal(scene->answers, "");
    return scene;
}

static void a_load_is_answered_when_the_plugin_is_live(void **state)
{
    struct scene *scene = load_open();
    (void)state;
    fake_start(scene_host(scene));
    scene_ring(scene, scene_host(scene));
    assert_string_equal(scene_status(scene).state, "live");
    assert_journal(scene->answers, " loaded:ok");
    scene_close(scene);
}

static void a_load_of_what_cannot_start_is_answered_with_its_cause(void **state)
{
    struct scene *scene = load_open();
    (void)state;
    fake_end(scene_host(scene), "killed by SIGSEGV while starting");
    scene_ended(scene, scene_host(scene));
    assert_journal(scene->answers, " loaded:failed");
    /* What becomes of the next try is nobody's answer. */
    fake_start(scene_host(scene));
    scene_ring(scene, scene_host(scene));
    assert_string_equal(scene_status(scene).state, "live");
    assert_journal(scene->answers, "");
    scene_close(scene);
}

static void a_load_that_an_unload_overtakes_is_answered(void **state)
{
    struct scene *scene = load_open();
    (void)state;
    assert_int_equal(plugins_unload(scene->plugins, "fake"), WEIR_OK);
    scene_settle(scene);
    scene_unloaded(scene);
    assert_journal(scene->answers, " loaded:closed");
    scene_close(scene);
}

/* Who is refused takes nobody's place. */
static void a_second_load_leaves_the_first_one_its_answer(void **state)
{
    struct scene *scene = load_open();
    (void)state;
    assert_int_equal(plugins_load(scene->plugins, "fake", WEIR_ACTOR_NONE, 2), WEIR_EXISTS);
    fake_start(scene_host(scene));
    scene_ring(scene, scene_host(scene));
    assert_journal(scene->answers, " loaded:ok");
    scene_close(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_load_is_answered_when_the_plugin_is_live),
        cmocka_unit_test(a_load_of_what_cannot_start_is_answered_with_its_cause),
        cmocka_unit_test(a_load_that_an_unload_overtakes_is_answered),
        cmocka_unit_test(a_second_load_leaves_the_first_one_its_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
