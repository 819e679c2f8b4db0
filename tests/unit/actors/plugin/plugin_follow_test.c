/* What a processor gets of the topics that it follows, also after its state was lost. */
#include "tests/unit/actors/plugin/follow_scene.h"

/* What the instance was given since the last call, as letters of its keys: "e:a" an entry, "r:a" a record, "reset". */
static const char *given_since(struct scene *scene, size_t *seen)
{
    static char text[256];
    const struct plugin_host *host = scene_host(scene);
    static const char *const kinds[] = {[WEIR_MESSAGE_RECORD] = "r", [WEIR_MESSAGE_ENTRY] = "e"};
    text[0] = '\0';
    for (; *seen < host->given; ++*seen) {
        const struct fake_input *input = &host->inputs[*seen];
        size_t size = strlen(text);
        if (input->kind != INPUT_MESSAGE)
            continue;
        if (input->message_kind == WEIR_MESSAGE_RESET)
            (void)snprintf(text + size, sizeof text - size, " reset");
        else
            (void)snprintf(text + size, sizeof text - size, " %s:%c", kinds[input->message_kind], input->key);
    }
    return text;
}

static void a_state_that_is_lost_is_built_anew_from_a_snapshot(void **state)
{
    struct scene *scene = follow_open_with((struct fake_options){.has_no_snapshot = true});
    size_t seen = 0;
    (void)state;
    follow_update(scene, "qr");
    assert_string_equal(given_since(scene, &seen), " r:q r:r");
    scene_handle(scene, 1);
    scene_kill(scene); /* with r in hand */
    assert_journal(followed.journal, " (close) (subscribe)");
    seen = 0;
    follow_update(scene, "s"); /* it was under way */
    scene_handle_all(scene);
    assert_string_equal(given_since(scene, &seen), " r:r r:s");
    follow_snapshot(scene, "qrs");
    follow_update(scene, "q");
    scene_handle_all(scene);
    assert_string_equal(given_since(scene, &seen), " reset e:q e:r e:s r:q");
    scene_close(scene);
}

static void a_state_that_is_kept_needs_none(void **state)
{
    struct scene *scene = follow_open();
    size_t seen = 0;
    (void)state;
    follow_update(scene, "qr");
    scene_handle_all(scene);
    scene_kill(scene);
    scene_handle_all(scene);
    assert_journal(followed.journal, "");
    assert_string_equal(given_since(scene, &seen), " r:q r:r");
    scene_close(scene);
}

/* Or each time that it is told anew would end in the next loss of its state, until it is given up. */
static void what_was_buried_is_not_among_what_is_told_anew(void **state)
{
    struct scene *scene = follow_open_with((struct fake_options){.has_no_snapshot = true});
    size_t seen = 0;
    (void)state;
    follow_update(scene, "qs");
    scene_handle(scene, 1);
    for (int i = 0; i < PLUGIN_ATTEMPTS_MAX; i++)
        scene_kill(scene); /* with s in hand */
    assert_int_equal(scene_status(scene).dead, 1);
    follow_snapshot(scene, "qsr");
    scene_handle_all(scene);
    assert_string_equal(given_since(scene, &seen), " reset e:q e:r");
    follow_update(scene, "s"); /* published again it is tried again */
    assert_string_equal(given_since(scene, &seen), " r:s");
    scene_close(scene);
}

/* Or the window would grow with each state that is lost. */
static void what_a_feed_sent_that_has_ended_gives_the_next_no_credit(void **state)
{
    struct scene *scene = follow_open_with((struct fake_options){.has_no_snapshot = true});
    (void)state;
    followed.value_size = PLUGIN_FEED_WINDOW / 8;
    follow_update(scene, "pqrst"); /* four of them are half the window: handled, they would give credit */
    scene_handle(scene, 1);
    assert_journal(followed.journal, "");
    scene_kill(scene);
    assert_journal(followed.journal, " (close) (subscribe)");
    follow_snapshot(scene, "");
    scene_handle_all(scene);
    assert_journal(followed.journal, "");
    follow_update(scene, "pqrs");
    scene_handle_all(scene);
    assert_journal(followed.journal, " (credit)");
    scene_close(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_state_that_is_lost_is_built_anew_from_a_snapshot),
        cmocka_unit_test(a_state_that_is_kept_needs_none),
        cmocka_unit_test(what_was_buried_is_not_among_what_is_told_anew),
        cmocka_unit_test(what_a_feed_sent_that_has_ended_gives_the_next_no_credit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
