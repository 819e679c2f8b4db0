/* A plugin actor in a simulated runtime, between a host that the test drives (fake_host.h), topics that acknowledge
 * when the test says so, and a publisher that writes down how its records are answered. */
#ifndef TESTS_UNIT_ACTORS_PLUGIN_PLUGIN_SCENE_H
#define TESTS_UNIT_ACTORS_PLUGIN_PLUGIN_SCENE_H

#include "tests/unit/actors/plugin/fake_host.h"

#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "actors/plugin/plugin.h"
#include "actors/runtime/runtime.h"

enum { SCENE_TOPICS = 2, SCENE_HELD_MAX = 64, SCENE_BATCH_MAX = 64, SCENE_LARGE = 1 << 20, SCENE_JOURNAL_SIZE = 32768 };

struct scene;

/* Emissions not acknowledged yet. */
struct held {
    uint64_t number;
    uint32_t count;
};

struct scene_topic {
    struct scene *scene;
    weir_actor actor;
    char name[16];
    uint32_t mark;
    bool is_attached, is_held; /* held: it acknowledges when the test says so */
    bool is_full;              /* it has memory for `room` records more: what comes behind is refused */
    uint32_t room;
    struct held held[SCENE_HELD_MAX];
    size_t held_first, held_end;
    uint64_t epoch, seq;
    uint32_t cleared;                 /* not told to the plugin yet */
    uint32_t shown[FAKE_LETTERS];     /* its state */
    char journal[SCENE_JOURNAL_SIZE]; /* "a1": emitted; "(stale)", "(live)", "(clear)", "(bury a)" */
};

struct scene {
    uint8_t value_head; /* what published values begin with, up to a nil; 0: nils */
    struct arena *arena;
    struct runtime *runtime;
    struct supervision *tree;
    struct directory *directory;
    struct plugins *plugins;
    weir_actor publisher, plugin, supervisor;
    struct scene_topic topics[SCENE_TOPICS];
    uint64_t number;                  /* of the next record */
    uint64_t epoch;                   /* of the last record that was folded */
    char answers[SCENE_JOURNAL_SIZE]; /* of the publisher: "1@5": number 1 folded as seq 5; "2!poisoned" */
};

__attribute__((format(printf, 2, 3))) static inline void journal_add(char journal[SCENE_JOURNAL_SIZE],
                                                                     const char *format, ...)
{
    size_t size = strlen(journal);
    va_list arguments;
    va_start(arguments, format);
    int added = vsnprintf(journal + size, SCENE_JOURNAL_SIZE - size, format, arguments);
    va_end(arguments);
    assert_true(added > 0 && size + (size_t)added < SCENE_JOURNAL_SIZE);
}

/* What was written down since it was last asked for. */
#define assert_journal(journal, expected)           \
    do {                                            \
        assert_string_equal((journal), (expected)); \
        (journal)[0] = '\0';                        \
    } while (0)

/* ------------------------------------------------------------------------------------------- publisher */

static inline enum weir_error scene_actor_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    memcpy(state, args, sizeof(void *));
    return WEIR_OK;
}

static inline enum weir_error scene_publisher_message(struct turn *turn, void *state, struct message *message)
{
    struct scene *scene = *(struct scene **)state;
    (void)turn;
    const char *text = msg_is_none(message->hold[0]) ? NULL : arena_data(scene->arena, message->hold[0]);
    for (uint32_t i = 0; message->tag == TOPIC_ACK && i < message->detail; i++)
        journal_add(scene->answers, " %llu@%llu", (unsigned long long)message->word[0] + i,
                    (unsigned long long)message->word[2] + i);
    if (message->tag == TOPIC_ACK)
        scene->epoch = message->word[1];
    if (message->tag == TOPIC_NACK)
        journal_add(scene->answers, " %llu!%s%s%.*s", (unsigned long long)message->word[0],
                    weir_error_code((enum weir_error)message->word[1]), text == NULL ? "" : ":",
                    text == NULL ? 0 : (int)arena_size(scene->arena, message->hold[0]), text == NULL ? "" : text);
    if (message->tag == TOPIC_DONE)
        journal_add(scene->answers, " done:%s", weir_error_code((enum weir_error)message->word[0]));
    if (message->tag == TOPIC_ANSWER && message->word[1] == WEIR_OK)
        journal_add(scene->answers, " ?%llu=%u", (unsigned long long)message->word[0],
                    (unsigned)((const uint8_t *)text)[2]); /* below 256, see fake_put_count */
    else if (message->tag == TOPIC_ANSWER)
        journal_add(scene->answers, " ?%llu!%s%s%.*s", (unsigned long long)message->word[0],
                    weir_error_code((enum weir_error)message->word[1]), text == NULL ? "" : ":",
                    text == NULL ? 0 : (int)arena_size(scene->arena, message->hold[0]), text == NULL ? "" : text);
    if (message->tag == PLUGIN_RELOADED)
        journal_add(scene->answers, " reloaded:%s", weir_error_code((enum weir_error)message->word[0]));
    if (message->tag == PLUGIN_LOADED)
        journal_add(scene->answers, " loaded:%s", weir_error_code((enum weir_error)message->word[0]));
    if (message->tag == PLUGIN_UNLOADED)
        journal_add(scene->answers, " unloaded:%llu", (unsigned long long)message->word[0]);
    return WEIR_OK;
}

static const struct behaviour scene_publisher_behaviour = {
    .name = "publisher", .state_size = 8, .on_start = scene_actor_start, .on_message = scene_publisher_message};

/* ---------------------------------------------------------------------------------------------- topics */

static inline void scene_topic_ack(struct scene_topic *topic, const struct held *held)
{
    struct message ack = {
        .tag = TOPIC_ACK, .detail = held->count, .word = {held->number, topic->epoch, topic->seq + 1}};
    topic->seq += held->count;
    assert_int_equal(actor_control(topic->scene->runtime, topic->actor, topic->scene->plugin, &ack), WEIR_OK);
}

/* It has no memory for the rest of a batch. */
static inline void scene_topic_refuse(struct scene_topic *topic, uint64_t number, uint32_t count)
{
    struct message nack = {.tag = TOPIC_NACK, .detail = count, .word = {number, WEIR_NO_MEMORY, 1}};
    journal_add(topic->journal, " (busy %u)", count);
    assert_int_equal(actor_control(topic->scene->runtime, topic->actor, topic->scene->plugin, &nack), WEIR_OK);
}

static inline void scene_topic_emitted(struct scene_topic *topic, const struct message *message)
{
    struct arena *arena = topic->scene->arena;
    const uint8_t *data = arena_data(arena, message->hold[0]);
    const struct record_slice *slices = msg_is_none(message->hold[1]) ? NULL : arena_data(arena, message->hold[1]);
    uint32_t count = message->detail, taken = topic->is_full && topic->room < count ? topic->room : count;
    uint64_t number = TOPIC_NUMBER(message->word[2]), first = slices ? message->word[0] : 0;
    assert_true(slices == NULL || message->tag == TOPIC_EMITTED || message->word[1] == TOPIC_IN_ORDER);
    for (uint64_t i = first; i < first + taken; i++) {
        uint32_t key = slices ? slices[i].key_offset : TOPIC_HIGH(message->word[0]);
        uint32_t value = slices ? slices[i].value_offset : TOPIC_HIGH(message->word[1]);
        uint32_t shown = (uint32_t)data[value + 1] << 8 | data[value + 2];
        journal_add(topic->journal, " %c%u", data[key + 1], shown);
        topic->shown[data[key + 1] % FAKE_LETTERS] = shown;
    }
    topic->room -= topic->is_full ? taken : 0;
    struct held held = {number, taken};
    if (!topic->is_held && taken > 0)
        scene_topic_ack(topic, &held);
    if (taken < count)
        scene_topic_refuse(topic, number + taken, count - taken);
    if (!topic->is_held || taken == 0)
        return;
    assert_true(topic->held_end < SCENE_HELD_MAX);
    topic->held[topic->held_end++] = held;
}

/* Tells its plugin that it was cleared. */
static inline void scene_topic_cleared(struct scene_topic *topic)
{
    struct message cleared = {
        .tag = TOPIC_CLEARED, .detail = TOPIC_MARKED(topic->mark, 0), .word = {topic->epoch, topic->seq}};
    assert_true(topic->cleared-- > 0);
    assert_int_equal(actor_control(topic->scene->runtime, topic->actor, topic->scene->plugin, &cleared), WEIR_OK);
}

static inline enum weir_error scene_topic_message(struct turn *turn, void *state, struct message *message)
{
    struct scene_topic *topic = *(struct scene_topic **)state;
    switch (message->tag) {
    case TOPIC_ATTACHED:
        topic->mark = (uint32_t)message->word[0];
        topic->is_attached = true;
        break;
    case TOPIC_PUBLISH:
    case TOPIC_EMITTED: scene_topic_emitted(topic, message); break;
    case TOPIC_PLUGIN_STATE:
        if (topic->is_attached)
            journal_add(topic->journal, " (%s)", message->word[0] ? "stale" : "live");
        break;
    case TOPIC_CLEAR:
        journal_add(topic->journal, " (clear)");
        memset(topic->shown, 0, sizeof topic->shown);
        topic->epoch++;
        topic->seq = 0;
        topic->cleared++;
        if (!topic->is_held)
            scene_topic_cleared(topic);
        if (message->word[2] == CAUSE_CLEARED)
            (void)!turn_control(turn, message->from, &(struct message){.tag = TOPIC_DONE});
        break;
    case TOPIC_BURY: journal_add(topic->journal, " (bury)"); break;
    default: break;
    }
    return WEIR_OK;
}

static const struct behaviour scene_topic_behaviour = {
    .name = "topic", .state_size = 8, .on_start = scene_actor_start, .on_message = scene_topic_message};

/* ----------------------------------------------------------------------------------------------- steps */

/* Runs turns until nothing is left to do now. */
static inline void scene_settle(struct scene *scene)
{
    for (unsigned steps = 0; runtime_step(scene->runtime); steps++)
        assert_true(steps < 1000000);
}

/* Lets time pass until something is due, and that happen. */
static inline void scene_pass(struct scene *scene)
{
    assert_true(runtime_advance(scene->runtime));
    scene_settle(scene);
}

static inline bool scene_status_keep(const struct plugin_status *status, void *context)
{
    *(struct plugin_status *)context = *status;
    return false;
}

static inline struct plugin_status scene_status(struct scene *scene)
{
    struct plugin_status status = {.name = ""};
    plugins_each(scene->plugins, scene_status_keep, &status);
    return status;
}

/* The instance that was started last, which may not have ended. */
static inline struct plugin_host *scene_host(struct scene *scene)
{
    (void)scene;
    assert_true(fakes.started > 0);
    struct plugin_host *host = fakes.hosts[fakes.started - 1];
    assert_non_null(host);
    return host;
}

static inline void scene_ring(struct scene *scene, struct plugin_host *host)
{
    host->bell.ring(host->bell.context);
    scene_settle(scene);
}

/* It handles so many inputs, each when the one before was taken. */
static inline void scene_handle(struct scene *scene, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct plugin_host *host = scene_host(scene);
        fake_handle(host);
        scene_ring(scene, host);
    }
}

/* ... all that it was given, and what it is given thereupon. */
static inline void scene_handle_all(struct scene *scene)
{
    for (struct plugin_host *host = scene_host(scene); host->handled < host->given;)
        scene_handle(scene, 1);
}

/* The instance has ended, which is noticed now, and the next one is started; after how long is the supervisor's to say.
 */
static inline void scene_ended(struct scene *scene, struct plugin_host *host)
{
    size_t started = fakes.started;
    scene_ring(scene, host);
    while (fakes.started == started)
        scene_pass(scene);
}

static inline void scene_kill(struct scene *scene)
{
    fake_end(scene_host(scene), "killed by SIGKILL");
    scene_ended(scene, scene_host(scene));
}

/* Lets time pass until an instance is live that handles whatever it is given. */
static inline void scene_live(struct scene *scene)
{
    while (strcmp(scene_status(scene).state, "live") != 0) {
        struct plugin_host *host = fakes.hosts[fakes.started - 1];
        if (host != NULL && host->handled < host->given)
            scene_handle(scene, 1);
        else
            scene_pass(scene);
    }
}

/* Publishes a record for each letter, in one batch. */
static inline void scene_publish_sized(struct scene *scene, int topic, const char *keys, uint32_t value_size)
{
    uint32_t count = (uint32_t)strlen(keys), each = 2 + value_size;
    struct message message = {.tag = TOPIC_FORWARDED, .detail = TOPIC_MARKED(scene->topics[topic].mark, count)};
    assert_true(count <= SCENE_BATCH_MAX);
    assert_int_equal(arena_alloc(scene->arena, count * each, NULL, &message.hold[0]), WEIR_OK);
    assert_int_equal(arena_alloc(scene->arena, count * sizeof(struct record_slice), NULL, &message.hold[1]), WEIR_OK);
    uint8_t *data = arena_data(scene->arena, message.hold[0]);
    struct record_slice *slices = arena_data(scene->arena, message.hold[1]);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *record = data + i * each;
        slices[i] = (struct record_slice){i * each, 2, i * each + 2, value_size, 0};
        record[0] = 0xa1;
        record[1] = (uint8_t)keys[i];
        memset(record + 2, scene->value_head != 0 ? scene->value_head : 0xc0, value_size - 1);
        record[1 + value_size] = 0xc0;
    }
    message.word[2] = TOPIC_NUMBER_WORD(scene->number, ACK_FOLDED);
    scene->number += count;
    assert_int_equal(actor_send(scene->runtime, scene->publisher, scene->plugin, &message), WEIR_OK);
    scene_settle(scene);
}

static inline void scene_publish(struct scene *scene, int topic, const char *keys)
{
    scene_publish_sized(scene, topic, keys, 1);
}

/* Asks the plugin by the topic, or by its own name (topic -1); until then, by the scene's clock. */
static inline void scene_ask_until(struct scene *scene, int topic, char letter, uint64_t deadline_ns)
{
    struct message ask = {.tag = TOPIC_ASK, .word = {TOPIC_WORD(1, 2), scene->number++, deadline_ns}};
    assert_int_equal(arena_alloc(scene->arena, 3, NULL, &ask.hold[0]), WEIR_OK);
    uint8_t *data = arena_data(scene->arena, ask.hold[0]);
    data[1] = 0xa1;
    data[2] = (uint8_t)letter;
    if (topic >= 0)
        ask.detail = TOPIC_MARKED(scene->topics[topic].mark, 1);
    assert_int_equal(actor_send(scene->runtime, scene->publisher, scene->plugin, &ask), WEIR_OK);
    scene_settle(scene);
}

static inline void scene_ask(struct scene *scene, int topic, char letter)
{
    scene_ask_until(scene, topic, letter, UINT64_MAX);
}

/* What it was given last. */
static inline const struct fake_input *scene_last(struct scene *scene)
{
    const struct plugin_host *host = scene_host(scene);
    assert_true(host->given > 0);
    return &host->inputs[host->given - 1];
}

/* The next input that it is to handle; NULL: it has none. */
static inline const struct fake_input *scene_next(struct scene *scene)
{
    const struct plugin_host *host = scene_host(scene);
    return host->handled < host->given ? &host->inputs[host->handled] : NULL;
}

/* Has large records handled until the instance is to tell its state next. */
static inline void scene_snapshot_ask(struct scene *scene, char key)
{
    const struct fake_input *next = NULL;
    while (next == NULL || next->kind != INPUT_SNAPSHOT) {
        if (next == NULL)
            scene_publish_sized(scene, 0, (char[]){key, '\0'}, SCENE_LARGE);
        else
            scene_handle(scene, 1);
        next = scene_next(scene);
    }
}

/* ... and does. */
static inline void scene_snapshot(struct scene *scene, char key)
{
    scene_snapshot_ask(scene, key);
    scene_handle(scene, 1);
    assert_int_equal(scene_status(scene).snapshot_bytes, sizeof(struct fake_counts));
}

/* A topic that holds back acknowledges so many of its messages, the oldest first. */
static inline void scene_ack(struct scene *scene, int index, size_t count)
{
    struct scene_topic *topic = &scene->topics[index];
    for (size_t i = 0; i < count; i++) {
        assert_true(topic->held_first < topic->held_end);
        scene_topic_ack(topic, &topic->held[topic->held_first++]);
        scene_settle(scene);
    }
}

/* ----------------------------------------------------------------------------------------- begin and end */

static inline void scene_topic_open(struct scene *scene, int index)
{
    struct scene_topic *topic = &scene->topics[index];
    struct message attach = {.tag = TOPIC_ATTACH};
    *topic = (struct scene_topic){.scene = scene, .epoch = 100};
    int size = snprintf(topic->name, sizeof topic->name, "t/%d", index);
    assert_int_equal(actor_spawn(scene->runtime, &scene_topic_behaviour, &topic, sizeof topic, NULL, &topic->actor),
                     WEIR_OK);
    assert_int_equal(arena_alloc(scene->arena, sizeof(struct topic_attach) + (size_t)size, NULL, &attach.hold[0]),
                     WEIR_OK);
    struct topic_attach *block = arena_data(scene->arena, attach.hold[0]);
    *block = (struct topic_attach){.epoch = topic->epoch, .name_size = (uint16_t)size};
    memcpy(block->name, topic->name, (size_t)size);
    assert_int_equal(actor_control(scene->runtime, topic->actor, scene->plugin, &attach), WEIR_OK);
    scene_settle(scene);
    assert_true(topic->is_attached || fakes.options.is_processor);
    topic->journal[0] = '\0';
}

static inline void scene_plugin_open(struct scene *scene, weir_actor directory)
{
    static struct plugin_config config;
    struct plugins_options options = {
        .runtime = scene->runtime, .supervision = scene->tree, .supervisor = scene->supervisor, .directory = directory};
    plugin_config_init(&config);
    config.role = fakes.options.is_processor ? WEIR_ACTOR_PROCESSOR : WEIR_ACTOR_FOLD;
    if (fakes.options.is_processor) {
        (void)snprintf(config.patterns[config.pattern_count++], sizeof config.patterns[0], "in");
        (void)snprintf(config.emit[config.emit_count++], sizeof config.emit[0], "t/+");
    }
    config.host = fakes.options.is_called ? &fake_called_ops : &fake_host_ops;
    config.intensity = 1000;
    config.emit_bytes_per_s = fakes.options.emit_bytes_per_s;
    (void)snprintf(config.name, sizeof config.name, "fake");
    (void)snprintf(config.file, sizeof config.file, "/fake.so");
    assert_int_equal(plugins_create(&options, &scene->plugins), WEIR_OK);
    assert_int_equal(plugins_config_set(scene->plugins, &config, 1), WEIR_OK);
    assert_int_equal(plugins_load_all(scene->plugins), WEIR_OK);
    scene_settle(scene);
    while (fakes.started == 0)
        scene_pass(scene);
    assert_int_equal(plugins_find(scene->plugins, "fake", &scene->plugin), WEIR_OK);
}

/* All but the plugin and the topics. */
static inline struct scene *scene_begin(struct fake_options options)
{
    struct scene *scene = calloc(1, sizeof *scene);
    struct supervisor_config each = {.name = "scene",
                                     .intensity = SUPERVISOR_INTENSITY_UNLIMITED,
                                     .period_ms = 1000,
                                     .dynamic_max = 16,
                                     .adopt = {true, RESTART_PERMANENT, SHUTDOWN_DEFAULT}};
    struct directory_config directory = {.topics_max = 16, .subscriptions_max = 16, .feeds_max = 16};
    weir_actor root, topics, plugins;
    assert_non_null(scene);
    log_level_set(LOG_OFF);
    memset(&fakes, 0, sizeof fakes);
    fakes.options = options;
    fakes.other_topic = "t/1";
    scene->number = 1;
    assert_int_equal(arena_create(&(struct arena_config){.bytes_max = (size_t)1 << 30}, &scene->arena), WEIR_OK);
    struct runtime_config runtime = {.arena = scene->arena, .simulate = true, .seed = 1};
    assert_int_equal(runtime_create(&runtime, &scene->runtime), WEIR_OK);
    assert_int_equal(
        supervision_create(&(struct supervision_config){.runtime = scene->runtime, .seed = 1}, &scene->tree), WEIR_OK);
    assert_int_equal(supervisor_spawn(scene->tree, WEIR_ACTOR_NONE, &each, &root), WEIR_OK);
    assert_int_equal(supervisor_spawn(scene->tree, root, &each, &topics), WEIR_OK);
    assert_int_equal(supervisor_spawn(scene->tree, root, &each, &plugins), WEIR_OK);
    assert_int_equal(runtime_start(scene->runtime), WEIR_OK);
    scene_settle(scene);
    assert_int_equal(directory_create(scene->runtime, topics, NULL, &directory, &scene->directory), WEIR_OK);
    assert_int_equal(
        actor_spawn(scene->runtime, &scene_publisher_behaviour, &scene, sizeof scene, NULL, &scene->publisher),
        WEIR_OK);
    scene->supervisor = plugins;
    return scene;
}

static inline struct scene *scene_open_with(struct fake_options options)
{
    struct scene *scene = scene_begin(options);
    scene_plugin_open(scene, directory_actor(scene->directory));
    for (int i = 0; i < SCENE_TOPICS; i++)
        scene_topic_open(scene, i);
    return scene;
}

static inline struct scene *scene_open(void) { return scene_open_with((struct fake_options){.give_error_count = 0}); }

static inline void scene_close(struct scene *scene)
{
    supervision_shutdown(scene->tree);
    scene_settle(scene);
    runtime_stop(scene->runtime);
    plugins_destroy(&scene->plugins);
    directory_destroy(&scene->directory);
    supervision_destroy(&scene->tree);
    runtime_destroy(&scene->runtime);
    for (size_t i = 0; i < fakes.started; i++)
        assert_null(fakes.hosts[i]);
    struct arena_usage usage;
    arena_usage(scene->arena, &usage);
    assert_int_equal(usage.blocks_live, 0);
    assert_int_equal(usage.stale, 0);
    arena_thread_flush(scene->arena);
    arena_destroy(&scene->arena);
    free(scene);
}

#endif
