/* One topic, sessions that publish to it with options, and one that follows it; for tests of one claim each, on a
 * virtual clock. */
#ifndef TESTS_UNIT_ACTORS_TOPIC_OPTIONS_SCENE_H
#define TESTS_UNIT_ACTORS_TOPIC_OPTIONS_SCENE_H

#include "tests/unit/actors/topic/topic_actors.h"

#include "actors/base/clock.h"
#include "clients/wire/frame.h"

enum { ANSWERS_MAX = 4096, UPDATES_MAX = 4096 };

/* A session, as a topic sees one: it sends batches and notes the answers. */
struct answer {
    uint64_t number, epoch, seq;
    enum weir_error error;
};
struct peer {
    struct scene *scene;
    weir_actor actor;
    struct answer answers[ANSWERS_MAX];
    size_t count;
};

/* Follows the topic and notes each update as text "seq:key=value", nil as "-". */
struct watcher {
    struct scene *scene;
    weir_actor actor, topic;
    uint32_t feed;
    char updates[UPDATES_MAX][48];
    size_t count, entries;
    bool is_whole;
};

struct scene {
    struct world world;
    struct peer peers[3];
    struct watcher watcher;
    weir_actor topic;
    uint64_t next_number;
};

/* ------------------------------------------------------------------------------------------------ actors */

static inline enum weir_error pointer_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    memcpy(state, args, sizeof(void *));
    return WEIR_OK;
}

static inline enum weir_error peer_message(struct turn *turn, void *state, struct message *message)
{
    struct peer *peer = *(struct peer **)state;
    (void)turn;
    if (message->tag == DIRECTORY_TOPIC)
        peer->scene->topic = (weir_actor){message->word[1]};
    if (message->tag != TOPIC_ACK && message->tag != TOPIC_NACK)
        return WEIR_OK;
    for (uint64_t i = 0; i < message->detail; i++) {
        struct answer *answer = &peer->answers[peer->count++ % ANSWERS_MAX];
        *answer = (struct answer){.number = message->word[0] + i};
        if (message->tag == TOPIC_ACK) {
            answer->epoch = message->word[1];
            answer->seq = message->word[2] + i;
        } else {
            answer->error = (enum weir_error)message->word[1];
            answer->seq = message->word[2];
        }
    }
    return WEIR_OK;
}

static const struct behaviour peer_behaviour = {
    .name = "peer", .state_size = sizeof(void *), .on_start = pointer_start, .on_message = peer_message};

static inline void watcher_note(struct watcher *watcher, uint64_t seq, struct view key, struct view value)
{
    char *text = watcher->updates[watcher->count++ % UPDATES_MAX];
    int key_size = key.size > 0 ? (int)key.size - 1 : 0; /* fixstr and fixint only */
    int at = snprintf(text, 48, "%llu:%.*s=", (unsigned long long)seq, key_size, (const char *)key.data + 1);
    if (value.data[0] == 0xc0)
        snprintf(text + at, 48 - (size_t)at, "-");
    else
        snprintf(text + at, 48 - (size_t)at, "%d", value.data[0]);
}

static inline enum weir_error watcher_message(struct turn *turn, void *state, struct message *message)
{
    struct watcher *watcher = *(struct watcher **)state;
    struct topic_run run = topic_run_read(message);
    if (message->tag == TOPIC_BEGIN) {
        const struct topic_begin *begin = arena_data(turn_arena(turn), message->hold[0]);
        watcher->topic = begin->topic;
        watcher->feed = message->detail;
    }
    watcher->is_whole = watcher->is_whole || message->tag == TOPIC_END;
    if (message->tag == TOPIC_ENTRIES)
        watcher->entries += run.count;
    if (message->tag != TOPIC_UPDATES)
        return WEIR_OK;
    assert_true(msg_is_none(message->hold[1]));
    struct view items =
        view_of((uint8_t *)arena_data(turn_arena(turn), run.pairs.block) + run.pairs.offset, run.pairs.size);
    struct view key, value;
    for (uint32_t i = 0; items_next(&items, 16, &key, &value) == WEIR_OK; i++)
        watcher_note(watcher, run.seq + i, key, value);
    struct message credit = {.tag = TOPIC_CREDIT, .detail = watcher->feed, .word = {run.pairs.size}};
    return turn_control(turn, watcher->topic, &credit);
}

static const struct behaviour watcher_behaviour = {
    .name = "watcher", .state_size = sizeof(void *), .on_start = pointer_start, .on_message = watcher_message};

/* ------------------------------------------------------------------------------------------------- scene */

static inline void peer_open(struct scene *scene, struct peer *peer)
{
    memset(peer, 0, sizeof *peer);
    peer->scene = scene;
    assert_int_equal(actor_spawn(scene->world.runtime, &peer_behaviour, &peer, sizeof peer, NULL, &peer->actor),
                     WEIR_OK);
}

static inline void peer_end(struct scene *scene, struct peer *peer)
{
    assert_int_equal(actor_stop(scene->world.runtime, peer->actor, WEIR_CLOSED), WEIR_OK);
    world_settle(&scene->world);
}

static inline void watcher_open(struct scene *scene)
{
    struct watcher *watcher = &scene->watcher;
    watcher->scene = scene;
    assert_int_equal(
        actor_spawn(scene->world.runtime, &watcher_behaviour, &watcher, sizeof watcher, NULL, &watcher->actor),
        WEIR_OK);
    struct message message = {.tag = DIRECTORY_SUBSCRIBE};
    struct directory_subscribe *block;
    assert_int_equal(arena_alloc(scene->world.arena, sizeof *block + 3, NULL, &message.hold[0]), WEIR_OK);
    block = arena_data(scene->world.arena, message.hold[0]);
    *block =
        (struct directory_subscribe){.sub = 1, .snapshot = true, .updates = true, .credit = 1 << 20, .pattern_size = 3};
    memcpy(block->bytes, "a/b", 3);
    assert_int_equal(
        actor_send(scene->world.runtime, watcher->actor, directory_actor(scene->world.directory), &message), WEIR_OK);
    world_settle(&scene->world);
}

static inline void scene_open(struct scene *scene, struct topic_rule rule)
{
    memset(scene, 0, sizeof *scene);
    struct directory_rule rules[1] = {{.pattern = "a/#", .rule = rule}};
    struct directory_config config = world_config(rules, 1, 1);
    world_open(&scene->world, &config, 1);
    for (int i = 0; i < 3; i++)
        peer_open(scene, &scene->peers[i]);
    scene->next_number = 1;
    struct message ensure = {.tag = DIRECTORY_ENSURE};
    assert_int_equal(arena_alloc(scene->world.arena, 3, NULL, &ensure.hold[0]), WEIR_OK);
    memcpy(arena_data(scene->world.arena, ensure.hold[0]), "a/b", 3);
    assert_int_equal(
        actor_send(scene->world.runtime, scene->peers[0].actor, directory_actor(scene->world.directory), &ensure),
        WEIR_OK);
    world_settle(&scene->world);
    watcher_open(scene);
}

static inline bool keep_status(const struct topic_status *status, void *context)
{
    *(struct topic_status *)context = *status;
    return true;
}

static inline struct topic_status scene_status(struct scene *scene)
{
    struct topic_status status = {.name = ""};
    directory_topics_each(scene->world.directory, view_text("a/b"), keep_status, &status);
    return status;
}

static inline struct publish_options numbered(const char *publisher, uint64_t number)
{
    struct publish_options options = {.number = number, .publisher_size = (uint8_t)strlen(publisher)};
    memcpy(options.publisher, publisher, strlen(publisher));
    return options;
}

static inline struct publish_options with(struct publish_with with) { return (struct publish_options){.with = with}; }

/* Sends records of one key, with values first, first + 1, ...; -1 is nil. NULL as key: none. */
static inline void offer(struct scene *scene, struct peer *peer, const struct publish_options *options, const char *key,
                         int first, uint32_t count)
{
    struct arena *arena = scene->world.arena;
    size_t key_size = key != NULL ? 1 + strlen(key) : 0, head = options != NULL ? sizeof *options : 0;
    struct message message = {.tag = TOPIC_PUBLISH, .detail = count, .word = {0, options != NULL, 0}};
    message.word[2] = TOPIC_NUMBER_WORD(scene->next_number, ACK_FOLDED);
    scene->next_number += count;
    assert_int_equal(arena_alloc(arena, key_size + count, NULL, &message.hold[0]), WEIR_OK);
    assert_int_equal(arena_alloc(arena, head + count * sizeof(struct record_slice), NULL, &message.hold[1]), WEIR_OK);
    uint8_t *data = arena_data(arena, message.hold[0]), *block = arena_data(arena, message.hold[1]);
    if (options != NULL)
        memcpy(block, options, head);
    if (key != NULL) {
        data[0] = (uint8_t)(0xa0 | strlen(key));
        memcpy(data + 1, key, strlen(key));
    }
    for (uint32_t i = 0; i < count; i++) {
        struct record_slice slice = {0, (uint32_t)key_size, (uint32_t)key_size + i, 1, 0};
        data[key_size + i] = first < 0 ? 0xc0 : (uint8_t)(((unsigned)first + i) % 128);
        memcpy(block + head + i * sizeof slice, &slice, sizeof slice);
    }
    assert_int_equal(actor_send(scene->world.runtime, peer->actor, scene->topic, &message), WEIR_OK);
    world_settle(&scene->world);
}

static inline struct answer answer_last(const struct peer *peer)
{
    assert_true(peer->count > 0);
    return peer->answers[(peer->count - 1) % ANSWERS_MAX];
}

#define ASSERT_ANSWER(peer, wanted_error, wanted_seq)       \
    do {                                                    \
        struct answer answer_given = answer_last(peer);     \
        assert_int_equal(answer_given.error, wanted_error); \
        assert_int_equal(answer_given.seq, wanted_seq);     \
    } while (0)

static inline void assert_updates(const struct scene *scene, const char *const *wanted, size_t count)
{
    assert_int_equal(scene->watcher.count, count);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(scene->watcher.updates[i], wanted[i]);
}
#define ASSERT_UPDATES(scene, ...)                            \
    assert_updates(scene, (const char *const[]){__VA_ARGS__}, \
                   sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

/* Lets the clock go on to the next timer. */
static inline bool scene_advance(struct scene *scene)
{
    bool has_fired = runtime_advance(scene->world.runtime);
    world_settle(&scene->world);
    return has_fired;
}

#endif
