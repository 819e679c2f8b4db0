/* What a process says of its record by reference is put in again from the record itself, whatever comes between, and
 * what it says of something that is not there fails it. */
#include "tests/unit/actors/plugin/plugin_scene.h"

#include "actors/base/assert.h"

/* Below and above what is passed on in the block that it came in. */
static const uint32_t sizes[] = {100, 2 * PLUGIN_LEND_MIN};

static void records_passed_on_by_reference_keep_their_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct scene *scene = scene_open_with((struct fake_options){.is_sparing = true});
        struct scene_topic *topic = &scene->topics[0];
        scene_publish_sized(scene, 0, "zzazyz", sizes[i]);
        scene_handle_all(scene);
        assert_journal(topic->journal, " z49344 z49344 a1 z49344 y1 y1 z49344");
        assert_journal(scene->answers, " 1@1 2@2 3@3 4@4 5@6 6@7");
        scene_publish_sized(scene, 0, "zzzz", sizes[i]);
        scene_publish_sized(scene, 1, "zz", sizes[i]);
        scene_handle_all(scene);
        assert_journal(topic->journal, " z49344 z49344 z49344 z49344");
        assert_journal(scene->topics[1].journal, " z49344 z49344");
        assert_journal(scene->answers, " 7@8 8@9 9@10 10@11 11@1 12@2");
        scene_close(scene);
    }
}

/* Of a plugin with a snapshot they are kept for long, in a copy; of one without, in the publisher's block. */
static void records_passed_on_by_reference_outlast_an_instance(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * COUNT_OF(sizes); i++) {
        struct scene *scene =
            scene_open_with((struct fake_options){.is_sparing = true, .has_no_snapshot = i >= COUNT_OF(sizes)});
        struct scene_topic *topic = &scene->topics[0];
        topic->is_held = true;
        scene_publish_sized(scene, 0, "zzaz", sizes[i % COUNT_OF(sizes)]);
        scene_handle(scene, 3);
        scene_kill(scene);
        scene_live(scene);
        scene_handle_all(scene);
        topic->is_held = false;
        while (topic->held_first < topic->held_end)
            scene_ack(scene, 0, 1);
        scene_publish_sized(scene, 0, "z", sizes[i % COUNT_OF(sizes)]);
        scene_handle_all(scene);
        assert_non_null(strstr(topic->journal, " z49344 z49344 a1"));
        assert_non_null(strstr(scene->answers, " 5@5"));
        assert_null(strchr(scene->answers, '!'));
        scene_close(scene);
    }
}

static void reference_to_what_the_message_does_not_have_fails_the_instance(void **state)
{
    struct scene *scene = scene_open_with((struct fake_options){.is_sparing = true});
    (void)state;
    scene_publish(scene, 0, "u");
    scene_handle_all(scene);
    while (scene_host(scene)->given == scene_host(scene)->handled)
        scene_pass(scene);
    scene_handle(scene, 1);
    assert_string_equal(scene_status(scene).cause, "it emits what its message does not have");
    scene_close(scene);
}

/* Publishers may be allowed more than plugins. */
static void reference_to_a_value_that_is_too_deep_fails_the_instance(void **state)
{
    struct scene *scene = scene_open_with((struct fake_options){.is_sparing = true});
    (void)state;
    scene->value_head = 0x91; /* an array of one */
    scene_publish_sized(scene, 0, "z", 4);
    scene_handle_all(scene);
    assert_journal(scene->answers, " 1@1");
    scene_publish_sized(scene, 0, "z", 300);
    scene_handle(scene, 1);
    assert_non_null(strstr(scene_status(scene).cause, "is not exactly one msgpack value of depth"));
    scene_close(scene);
}

/* Small ones are copied into pages, and large ones stand between. */
static void small_records_among_large_ones_are_kept_in_little(void **state)
{
    (void)state;
    for (int has_no_snapshot = 0; has_no_snapshot < 2; has_no_snapshot++) {
        struct scene *scene = scene_open_with((struct fake_options){.has_no_snapshot = has_no_snapshot});
        struct arena_usage before, after;
        arena_usage(scene->arena, &before);
        for (int i = 0; i < 200; i++) {
            scene_publish(scene, 0, "a");
            scene_publish_sized(scene, 0, "b", PLUGIN_LEND_MIN);
        }
        arena_usage(scene->arena, &after);
        assert_in_range(after.bytes_live - before.bytes_live, 200 * PLUGIN_LEND_MIN, 200 * 3 * PLUGIN_LEND_MIN);
        scene_handle_all(scene);
        assert_non_null(strstr(scene->answers, " 400@400"));
        scene_close(scene);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_records_among_large_ones_are_kept_in_little),
        cmocka_unit_test(records_passed_on_by_reference_keep_their_order),
        cmocka_unit_test(records_passed_on_by_reference_outlast_an_instance),
        cmocka_unit_test(reference_to_a_value_that_is_too_deep_fails_the_instance),
        cmocka_unit_test(reference_to_what_the_message_does_not_have_fails_the_instance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
