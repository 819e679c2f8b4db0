/* The scene of plugin_scene.h with a processor: it follows the topic "in" and may emit to the scene's topics. A
 * directory that knows these is in the place of the real one. */
#ifndef TESTS_UNIT_ACTORS_PLUGIN_FOLLOW_SCENE_H
#define TESTS_UNIT_ACTORS_PLUGIN_FOLLOW_SCENE_H

#include "tests/unit/actors/plugin/plugin_scene.h"

/* What the followed topic, and the directory, were told since it was last asked for: "(subscribe)", "(close)",
 * "(credit)". */
static struct {
    struct scene *scene;
    weir_actor directory, topic;
    uint32_t feed, value_size; /* value_size: of its pairs, 0: nil */
    uint64_t seq;
    char journal[SCENE_JOURNAL_SIZE];
} followed;

static inline enum weir_error follow_message_of(struct turn *turn, void *state, struct message *message)
{
    struct scene *scene = *(struct scene **)state;
    struct message answer = {.tag = DIRECTORY_TOPIC, .word = {message->word[0], 0, WEIR_NOT_FOUND}};
    switch (message->tag) {
    case DIRECTORY_SUBSCRIBE: journal_add(followed.journal, " (subscribe)"); break;
    case DIRECTORY_CLOSE: journal_add(followed.journal, " (close)"); break;
    case TOPIC_CREDIT: journal_add(followed.journal, " (credit)"); break;
    case TOPIC_UNSUBSCRIBE: journal_add(followed.journal, " (unsubscribe)"); break;
    case DIRECTORY_ENSURE: {
        struct view name =
            view_of(arena_data(scene->arena, message->hold[0]), arena_size(scene->arena, message->hold[0]));
        for (int i = 0; i < SCENE_TOPICS; i++) {
            if (view_is_same(name, view_text(scene->topics[i].name)))
                answer.word[1] = scene->topics[i].actor.bits, answer.word[2] = WEIR_OK;
        }
        assert_int_equal(turn_control(turn, message->from, &answer), WEIR_OK);
        break;
    }
    default: break;
    }
    return WEIR_OK;
}

static const struct behaviour follow_behaviour = {
    .name = "followed", .state_size = 8, .on_start = scene_actor_start, .on_message = follow_message_of};

static inline void follow_send(struct scene *scene, struct message *message)
{
    message->detail = followed.feed;
    assert_int_equal(actor_send(scene->runtime, followed.topic, scene->plugin, message), WEIR_OK);
    scene_settle(scene);
}

/* Pairs of the followed topic, one for each letter. */
static inline void follow_run(struct scene *scene, uint32_t tag, const char *keys)
{
    uint32_t count = (uint32_t)strlen(keys), bytes = followed.value_size, each = bytes > 0 ? 5 + bytes : 3;
    struct message run = {.tag = tag, .word = {TOPIC_WORD(0, each * count), count, followed.seq + 1}};
    if (count == 0)
        return;
    assert_int_equal(arena_alloc(scene->arena, each * count, NULL, &run.hold[0]), WEIR_OK);
    uint8_t *data = arena_data(scene->arena, run.hold[0]);
    memset(data, 0, each * count);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t pair[] = {0xa1, (uint8_t)keys[i], bytes > 0 ? 0xc5 : 0xc0, (uint8_t)(bytes >> 8), (uint8_t)bytes};
        memcpy(data + i * each, pair, bytes > 0 ? 5 : 3);
    }
    followed.seq += tag == TOPIC_UPDATES ? count : 0;
    follow_send(scene, &run);
}

/* A new feed: the topic's snapshot, with one entry for each letter. */
static inline void follow_snapshot(struct scene *scene, const char *keys)
{
    struct message begin = {.tag = TOPIC_BEGIN}, end = {.tag = TOPIC_END, .word = {1, followed.seq}};
    followed.feed++;
    assert_int_equal(arena_alloc(scene->arena, sizeof(struct topic_begin) + 2, NULL, &begin.hold[0]), WEIR_OK);
    struct topic_begin *block = arena_data(scene->arena, begin.hold[0]);
    *block = (struct topic_begin){.sub = 1, .topic = followed.topic, .epoch = 1, .seq = followed.seq, .name_size = 2};
    memcpy(block->name, "in", 2);
    follow_send(scene, &begin);
    follow_run(scene, TOPIC_ENTRIES, keys);
    follow_send(scene, &end);
}

/* The directory has no room for what it asked for. */
static inline void follow_refuse(struct scene *scene)
{
    const struct message refusal = {.tag = DIRECTORY_SUBSCRIBED, .detail = 1, .word = {0, 0, WEIR_BUSY}};
    assert_int_equal(actor_control(scene->runtime, followed.directory, scene->plugin, &refusal), WEIR_OK);
    scene_settle(scene);
}

static inline void follow_update(struct scene *scene, const char *keys) { follow_run(scene, TOPIC_UPDATES, keys); }

static inline struct scene *follow_open_with(struct fake_options options)
{
    memset(&followed, 0, sizeof followed);
    options.is_processor = true;
    struct scene *scene = scene_begin(options);
    assert_int_equal(actor_spawn(scene->runtime, &follow_behaviour, &scene, sizeof scene, NULL, &followed.directory),
                     WEIR_OK);
    followed.topic = followed.directory;
    scene_settle(scene);
    scene_plugin_open(scene, followed.directory);
    for (int i = 0; i < SCENE_TOPICS; i++)
        scene_topic_open(scene, i);
    while (followed.journal[0] == '\0')
        scene_pass(scene);
    assert_journal(followed.journal, " (subscribe)");
    follow_snapshot(scene, "");
    return scene;
}

static inline struct scene *follow_open(void) { return follow_open_with((struct fake_options){.give_error_count = 0}); }

#endif
