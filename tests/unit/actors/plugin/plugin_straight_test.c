/* Batches that are handled straight: whatever becomes of them is what would have become of their records one by one. */
#include "tests/unit/actors/plugin/plugin_scene.h"

enum { VALUE_SIZE = 100, STEPS = 80, BATCH_MAX = 40, STORY_SIZE = 1 << 20 };

static struct scene *called_open(void) { return scene_open_with((struct fake_options){.is_called = true}); }

static void publish(struct scene *scene, const char *keys) { scene_publish_sized(scene, 0, keys, VALUE_SIZE); }

/* The topic acknowledges so many records of its oldest message that it has not. */
static void ack_part(struct scene *scene, struct scene_topic *topic, uint32_t count)
{
    struct held *held = &topic->held[topic->held_first];
    struct held part = {held->number, count};
    assert_true(topic->held_first < topic->held_end && count < held->count);
    held->number += count;
    held->count -= count;
    scene_topic_ack(topic, &part);
    scene_settle(scene);
}

static void a_batch_is_emitted_and_answered_as_one(void **state)
{
    struct scene *scene = called_open();
    struct scene_topic *topic = &scene->topics[0];
    (void)state;
    topic->is_held = true;
    publish(scene, "aabaca");
    assert_journal(topic->journal, " a1 a2 b1 a3 c1 a4");
    assert_int_equal(topic->held_end, 1);
    assert_journal(scene->answers, "");
    scene_ack(scene, 0, 1);
    assert_journal(scene->answers, " 1@1 2@2 3@3 4@4 5@5 6@6");
    assert_int_equal(scene_status(scene).handled, 6);
    scene_close(scene);
}

static void a_batch_of_which_a_part_is_acknowledged_answers_for_that(void **state)
{
    struct scene *scene = called_open();
    struct scene_topic *topic = &scene->topics[0];
    (void)state;
    topic->is_held = true;
    publish(scene, "abcdef");
    publish(scene, "aabbcc");
    ack_part(scene, topic, 2);
    assert_journal(scene->answers, " 1@1 2@2");
    scene_ack(scene, 0, 1);
    assert_journal(scene->answers, " 3@3 4@4 5@5 6@6");
    scene_kill(scene); /* with the second batch not acknowledged */
    scene_live(scene);
    scene_ack(scene, 0, 1);
    assert_journal(scene->answers, " 7@7 8@8 9@9 10@10 11@11 12@12");
    publish(scene, "aaaaaa");
    assert_int_equal(topic->shown['a'], 9);
    scene_ack(scene, 0, 1);
    assert_journal(scene->answers, " 13@13 14@14 15@15 16@16 17@17 18@18");
    scene_close(scene);
}

static void what_fails_amid_a_batch_is_tried_alone_and_buried(void **state)
{
    struct scene *scene = called_open();
    struct scene_topic *topic = &scene->topics[0];
    (void)state;
    publish(scene, "aabvbc");
    for (int tries = 1; tries < PLUGIN_ATTEMPTS_MAX; tries++) {
        assert_int_equal(scene_status(scene).dead, 0);
        scene_live(scene);
        assert_int_equal(scene_next(scene)->key, 'v');
        assert_int_equal(scene_next(scene)->attempt, tries + 1);
        scene_handle(scene, 1);
    }
    scene_live(scene);
    scene_handle_all(scene);
    assert_int_equal(scene_status(scene).dead, 1);
    assert_non_null(strstr(topic->journal, "(bury)"));
    assert_journal(scene->answers, " 1@1 2@2 3@3 4!poisoned:it fails of v 5@4 6@5");
    assert_int_equal(topic->shown['a'], 2);
    assert_int_equal(topic->shown['b'], 2);
    assert_int_equal(topic->shown['c'], 1);
    scene_close(scene);
}

/* What is emitted as it came lies in the batch's block for its topic, too, and is no part of what is gathered. */
static void records_that_are_passed_on_keep_their_order(void **state)
{
    struct scene *scene = called_open();
    struct scene_topic *topic = &scene->topics[0];
    (void)state;
    publish(scene, "zzazzyzz");
    assert_journal(topic->journal, " z49344 z49344 a1 z49344 z49344 y1 y1 z49344 z49344");
    assert_journal(scene->answers, " 1@1 2@2 3@3 4@4 5@5 6@7 7@8 8@9");
    publish(scene, "zzzzzzz");
    assert_journal(topic->journal, " z49344 z49344 z49344 z49344 z49344 z49344 z49344");
    assert_journal(scene->answers, " 9@10 10@11 11@12 12@13 13@14 14@15 15@16");
    scene_close(scene);
}

static void a_topic_that_refuses_a_part_refuses_those_records(void **state)
{
    struct scene *scene = called_open();
    struct scene_topic *topic = &scene->topics[0];
    (void)state;
    topic->is_full = true;
    topic->room = 4;
    publish(scene, "abcdef");
    assert_journal(topic->journal, " a1 b1 c1 d1 (busy 2)");
    assert_journal(scene->answers, " 1@1 2@2 3@3 4@4 5!no-memory 6!no-memory");
    scene_close(scene);
}

static void what_was_not_acknowledged_at_the_end_is_told(void **state)
{
    struct scene *scene = called_open();
    struct scene_topic *topic = &scene->topics[0];
    (void)state;
    topic->is_held = true;
    publish(scene, "abcdef");
    publish(scene, "abcdef");
    ack_part(scene, topic, 3);
    assert_journal(scene->answers, " 1@1 2@2 3@3");
    scene_close(scene); /* which finds that no block is left */
}

/* --------------------------------------------------------------------------------------- one by one, and straight */

static uint32_t random_below(uint64_t *random, uint32_t end)
{
    *random = *random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(*random >> 33) % end;
}

static void story_add(struct scene *scene, char *story)
{
    char *journals[] = {scene->topics[0].journal, scene->topics[1].journal, scene->answers};
    size_t size = strlen(story);
    for (size_t i = 0; i < 3; i++) {
        size += (size_t)snprintf(story + size, STORY_SIZE - size, "%s |", journals[i]);
        assert_true(size < STORY_SIZE);
        journals[i][0] = '\0';
    }
    (void)snprintf(story + size, STORY_SIZE - size, "\n");
}

static void step(struct scene *scene, uint64_t *random)
{
    /* Records that bring about nothing are told what seq their topic has by then, which is later where one before them
     * waits for another topic: so they are not in a batch with any that does. */
    static const char *const mixed[] = {"aaaabbbbccccddddeeezzzzzqtuy", "aaaabbbbccccddddeeezzzzznntyy"};
    static const uint32_t sizes[] = {3, VALUE_SIZE, 4000};
    char keys[BATCH_MAX + 1] = "";
    uint32_t what = random_below(random, 8), count = 1 + random_below(random, BATCH_MAX - 1);
    /* Of those that emit once in most cases, so that there are long runs. */
    const char *letters = mixed[random_below(random, 2)];
    uint32_t kinds = random_below(random, 3) == 0 ? (uint32_t)strlen(letters) : 24;
    int topic = (int)random_below(random, SCENE_TOPICS);
    for (uint32_t i = 0; i < count; i++)
        keys[i] = letters[random_below(random, kinds)];
    scene->topics[topic].is_held = what == 0;
    scene_publish_sized(scene, topic, keys, sizes[random_below(random, 3)]);
    scene_handle_all(scene);
    if (what == 1) {
        scene_kill(scene);
        scene_live(scene);
        scene_handle_all(scene);
    }
    for (int i = 0; i < SCENE_TOPICS; i++)
        scene_ack(scene, i, scene->topics[i].held_end - scene->topics[i].held_first);
    scene->topics[topic].held_first = scene->topics[topic].held_end = 0;
    scene->topics[topic].is_held = false;
    scene_settle(scene);
}

static void story_run(bool is_called, uint64_t seed, char *story)
{
    struct scene *scene = scene_open_with((struct fake_options){.is_called = is_called});
    uint64_t random = seed;
    for (int i = 0; i < STEPS; i++) {
        step(scene, &random);
        story_add(scene, story);
    }
    struct plugin_status status = scene_status(scene);
    assert_int_equal(status.handled + status.refused, scene->number - 1);
    scene_close(scene);
}

/* The first line in which the stories differ, twice. */
static const char *difference(char *expected, char *found)
{
    static char text[STORY_SIZE];
    size_t line = 0;
    for (size_t i = 0; expected[i] == found[i]; i++)
        line = expected[i] == '\n' ? i + 1 : line;
    expected[line + strcspn(expected + line, "\n")] = found[line + strcspn(found + line, "\n")] = '\0';
    (void)snprintf(text, sizeof text, "one by one\n%s\nand straight\n%s", expected + line, found + line);
    return text;
}

static void batches_come_out_as_records_one_by_one_do(void **state)
{
    static char expected[STORY_SIZE], found[STORY_SIZE];
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        expected[0] = found[0] = '\0';
        story_run(false, seed, expected);
        story_run(true, seed, found);
        if (strcmp(expected, found) != 0)
            print_message("seed %llu: %s\n", (unsigned long long)seed, difference(expected, found));
        assert_true(strcmp(found, expected) == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_is_emitted_and_answered_as_one),
        cmocka_unit_test(a_batch_of_which_a_part_is_acknowledged_answers_for_that),
        cmocka_unit_test(what_fails_amid_a_batch_is_tried_alone_and_buried),
        cmocka_unit_test(records_that_are_passed_on_keep_their_order),
        cmocka_unit_test(a_topic_that_refuses_a_part_refuses_those_records),
        cmocka_unit_test(what_was_not_acknowledged_at_the_end_is_told),
        cmocka_unit_test(batches_come_out_as_records_one_by_one_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
