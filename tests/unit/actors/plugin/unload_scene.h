/* The scene of plugin_scene.h, whose plugin is unloaded, or reloaded. */
#ifndef TESTS_UNIT_ACTORS_PLUGIN_UNLOAD_SCENE_H
#define TESTS_UNIT_ACTORS_PLUGIN_UNLOAD_SCENE_H

#include "tests/unit/actors/plugin/plugin_scene.h"

/* Tells the plugin to end; the publisher is told when it has: "unloaded:0", with what it gave up. */
static inline void scene_unload(struct scene *scene)
{
    struct message order = {.tag = PLUGIN_UNLOAD};
    assert_int_equal(actor_control(scene->runtime, scene->publisher, scene->plugin, &order), WEIR_OK);
    assert_int_equal(plugins_unload(scene->plugins, "fake"), WEIR_OK);
    scene_settle(scene);
}

/* The order to reload; the publisher is told what became of it: "reloaded:ok". */
static inline void scene_reload(struct scene *scene)
{
    struct message order = {.tag = PLUGIN_RELOAD, .word = {1}};
    assert_int_equal(actor_control(scene->runtime, scene->publisher, scene->plugin, &order), WEIR_OK);
    scene_settle(scene);
}

/* Lets time pass until it has ended. */
static inline void scene_unloaded(struct scene *scene)
{
    while (strcmp(scene_status(scene).state, "unloaded") != 0)
        scene_pass(scene);
}

#endif
