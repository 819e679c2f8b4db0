/* Subscriptions to the broker's own topics wait for their patron, and no longer than there is one. */
#include "tests/unit/actors/topic/topic_scene.h"

struct patron {
    weir_actor actor;
    size_t wanted;
    enum weir_error created;
};

static enum weir_error patron_start(struct turn *turn, void *state, const void *args)
{
    memcpy(state, args, sizeof(struct patron *));
    (*(struct patron **)state)->actor = turn_self(turn);
    return WEIR_OK;
}

static enum weir_error patron_message(struct turn *turn, void *state, struct message *message)
{
    struct patron *patron = *(struct patron **)state;
    if (message->tag == DIRECTORY_WANTED) {
        const struct directory_subscribe *request = arena_data(turn_arena(turn), message->hold[0]);
        assert_true(view_begins_with(view_of(request->bytes, request->pattern_size), view_text("$sys/")));
        patron->wanted++;
    } else if (message->tag == DIRECTORY_TOPIC) {
        patron->created = (enum weir_error)message->word[2];
    }
    return WEIR_OK;
}

static const struct behaviour patron_behaviour = {
    .name = "patron", .state_size = 8, .on_start = patron_start, .on_message = patron_message};

static void patron_tell(struct scene *scene, const struct patron *patron, uint32_t tag)
{
    struct message message = {.tag = tag};
    weir_actor directory = directory_actor(scene->world.directory);
    assert_int_equal(actor_control(scene->world.runtime, patron->actor, directory, &message), WEIR_OK);
    world_settle(&scene->world);
}

static void topic_make(struct scene *scene, struct patron *patron, const char *name)
{
    struct message message = {.tag = DIRECTORY_CREATE};
    size_t size = sizeof(struct directory_create) + strlen(name);
    assert_int_equal(arena_alloc(scene->world.arena, size, NULL, &message.hold[0]), WEIR_OK);
    struct directory_create *create = arena_data(scene->world.arena, message.hold[0]);
    *create = (struct directory_create){.name_size = (uint32_t)strlen(name), .has_kind = true, .kind = TOPIC_MAP};
    memcpy(create->name, name, strlen(name));
    weir_actor directory = directory_actor(scene->world.directory);
    assert_int_equal(actor_send(scene->world.runtime, patron->actor, directory, &message), WEIR_OK);
    world_settle(&scene->world);
}

static void patron_open(struct scene *scene, struct patron *patron)
{
    scene_open(scene, (struct topic_rule){.kind = TOPIC_MAP});
    *patron = (struct patron){.wanted = 0};
    assert_int_equal(actor_spawn(scene->world.runtime, &patron_behaviour, &patron, sizeof patron, NULL, &patron->actor),
                     WEIR_OK);
    world_settle(&scene->world);
    topic_make(scene, patron, "$sys/a");
    assert_int_equal(patron->created, WEIR_FORBIDDEN);
    patron_tell(scene, patron, DIRECTORY_PATRON);
    topic_make(scene, patron, "$sys/a");
    assert_int_equal(patron->created, WEIR_OK);
    /* The reader knows the topics that publishers have opened. */
    struct topic_history *history = &scene->world.histories[scene->world.history_count++];
    snprintf(history->name, sizeof history->name, "$sys/a");
    history->kind = TOPIC_MAP;
}

static void a_subscription_waits_until_its_topics_are_fresh(void **state)
{
    (void)state;
    static struct scene scene;
    struct patron patron;
    patron_open(&scene, &patron);
    struct reader *reader = scene_reader(&scene, 0, true), *other = scene_reader(&scene, 1, true);
    reader_subscribe(reader, "$sys/#", follow, false);
    reader_subscribe(other, "a/b", follow, false);
    world_settle(&scene.world);
    assert_int_equal(patron.wanted, 1);
    assert_int_equal(reader->subscribed + reader->begins, 0);
    assert_int_equal(other->ends, 1);
    patron_tell(&scene, &patron, DIRECTORY_FRESH);
    assert_int_equal(reader->subscribed, 1);
    assert_int_equal(reader->ends, 1);
    scene_close(&scene);
}

static void one_that_ends_while_it_waits_is_no_more(void **state)
{
    (void)state;
    static struct scene scene;
    struct patron patron;
    struct directory_status status;
    patron_open(&scene, &patron);
    struct reader *reader = scene_reader(&scene, 0, true), *other = scene_reader(&scene, 1, true);
    reader_subscribe(reader, "$sys/a", follow, false);
    reader_subscribe(other, "$sys/+", follow, false);
    world_settle(&scene.world);
    reader_unsubscribe(reader);
    world_settle(&scene.world);
    patron_tell(&scene, &patron, DIRECTORY_FRESH);
    assert_int_equal(reader->unsubscribed, 1);
    assert_int_equal(reader->begins, 0);
    assert_int_equal(other->ends, 1);
    directory_status(scene.world.directory, &status);
    assert_int_equal(status.subscriptions, 1);
    scene_close(&scene);
}

static void a_patron_that_ends_keeps_nobody_waiting(void **state)
{
    (void)state;
    static struct scene scene;
    struct patron patron;
    patron_open(&scene, &patron);
    struct reader *reader = scene_reader(&scene, 0, true), *other = scene_reader(&scene, 1, true);
    reader_subscribe(reader, "$sys/a", follow, false);
    world_settle(&scene.world);
    assert_int_equal(reader->ends, 0);
    assert_int_equal(actor_stop(scene.world.runtime, patron.actor, WEIR_FAILED), WEIR_OK);
    world_settle(&scene.world);
    assert_int_equal(reader->ends, 1);
    reader_subscribe(other, "$sys/a", follow, false);
    world_settle(&scene.world);
    assert_int_equal(other->ends, 1);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_subscription_waits_until_its_topics_are_fresh),
        cmocka_unit_test(one_that_ends_while_it_waits_is_no_more),
        cmocka_unit_test(a_patron_that_ends_keeps_nobody_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
