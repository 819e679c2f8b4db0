/* What a plugin emitted to its own topic, which has no memory for it: it was counted already, so it is held back and
 * comes again, in its order, until there is memory or it has waited too long. */
#include "tests/unit/actors/topic/topic_scene.h"

#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "actors/topic/topic_limits.h"

/* scene.publisher has a topic of kind map, which fills the memory. */
static struct scene scene;
static struct publisher plugin;

/* A record of a key of its own, which nobody hears the fate of. */
static void fill(uint32_t key, uint16_t value_size)
{
    struct message message = {
        .tag = TOPIC_PUBLISH, .detail = 1, .word = {TOPIC_WORD(0, 7), TOPIC_WORD(7, 3 + value_size)}};
    char data[2048] = {(char)0xa6};
    assert_true(10u + value_size <= sizeof data);
    (void)snprintf(data + 1, 7, "%06u", key);
    data[7] = (char)0xda;
    data[8] = (char)(value_size >> 8);
    data[9] = (char)value_size;
    memset(data + 10, 'x', value_size);
    assert_int_equal(arena_alloc(scene.world.arena, 10 + value_size, NULL, &message.hold[0]), WEIR_OK);
    memcpy(arena_data(scene.world.arena, message.hold[0]), data, 10 + value_size);
    assert_int_equal(actor_send(scene.world.runtime, WEIR_ACTOR_NONE, scene.publisher.topic, &message), WEIR_OK);
    world_settle(&scene.world);
}

static void short_open(void)
{
    enum topic_kind kind;
    memset(&scene, 0, sizeof scene);
    log_level_set(LOG_OFF);
    assert_int_equal(topic_kind_find(view_text("plugin:short"), &kind), WEIR_OK);
    struct directory_rule rules[2] = {{.pattern = "a/#", .rule = {.kind = TOPIC_MAP}},
                                      {.pattern = "p/#", .rule = {.kind = kind}}};
    struct directory_config config = world_config(rules, 2, 1);
    config.state_bytes_max = 120000;
    world_open(&scene.world, &config, 1);
    publisher_open(&scene.world, &scene.publisher, "a/b", TOPIC_MAP);
    publisher_open(&scene.world, &plugin, "p/q", TOPIC_MAP);
    plugin.is_plugin = true;
    world_settle(&scene.world);
    /* More and more of it is state: what updates retain is given up when memory is short. */
    for (uint32_t key = 0; scene_status(&scene, "a/b").refused < 100; key++)
        fill(key, scene_status(&scene, "a/b").refused < 50 ? 1000 : 300);
}

static size_t answered_count(void)
{
    size_t count = 0;
    for (size_t i = 0; i < plugin.history->count; i++)
        count += plugin.history->records[i].is_answered;
    return count;
}

/* Lets it emit until the topic holds something back. */
static void emit_until_short(void)
{
    for (int i = 0; answered_count() == plugin.history->count; i++) {
        assert_true(i < 1000);
        world_tick(&scene.world, plugin.actor, 20);
        world_settle(&scene.world);
    }
    for (int i = 0; i < 20; i++) { /* some of them small enough to overtake */
        world_tick(&scene.world, plugin.actor, 20);
        world_settle(&scene.world);
    }
}

static void relieve(void)
{
    struct message delete = {.tag = TOPIC_DELETE};
    assert_int_equal(actor_control(scene.world.runtime, scene.publisher.actor, scene.publisher.topic, &delete),
                     WEIR_OK);
    world_settle(&scene.world);
}

static void emissions_wait_for_memory_in_their_order(void **state)
{
    (void)state;
    short_open();
    assert_int_equal(scene_status(&scene, "p/q").short_since_ns, 0);
    emit_until_short();
    assert_int_equal(scene_status(&scene, "p/q").refused, 0);
    assert_true(answered_count() < plugin.history->count);
    uint64_t since_ns = scene_status(&scene, "p/q").short_since_ns;
    assert_true(since_ns > 0 && since_ns <= runtime_now_ns(scene.world.runtime));
    assert_true(runtime_advance(scene.world.runtime)); /* it tries again, in vain */
    world_settle(&scene.world);
    assert_true(answered_count() < plugin.history->count);
    relieve();
    while (answered_count() < plugin.history->count) {
        assert_true(runtime_advance(scene.world.runtime));
        world_settle(&scene.world);
    }
    for (size_t i = 0; i < plugin.history->count; i++) {
        assert_int_equal(plugin.history->records[i].refused, WEIR_OK);
        assert_int_equal(plugin.history->records[i].seq, i + 1);
    }
    assert_int_equal(scene_status(&scene, "p/q").refused, 0);
    assert_int_equal(scene_status(&scene, "p/q").short_since_ns, 0);
    assert_int_equal(scene_status(&scene, "p/q").seq, plugin.history->count);
    scene_close(&scene);
}

static void emissions_that_wait_too_long_are_refused(void **state)
{
    (void)state;
    short_open();
    emit_until_short();
    uint64_t begun_ns = runtime_now_ns(scene.world.runtime);
    while (answered_count() < plugin.history->count) {
        assert_true(runtime_advance(scene.world.runtime));
        world_settle(&scene.world);
    }
    assert_true(scene_status(&scene, "p/q").refused > 0);
    assert_true(runtime_now_ns(scene.world.runtime) - begun_ns >=
                (FORWARD_SHORT_END_MS - FORWARD_SHORT_MAX_MS) * NS_PER_MS);
    for (size_t i = 0; i < plugin.history->count; i++) {
        enum weir_error refused = plugin.history->records[i].refused;
        assert_true(refused == WEIR_OK || refused == WEIR_NO_MEMORY);
    }
    uint64_t refused = scene_status(&scene, "p/q").refused;
    relieve();
    world_tick(&scene.world, plugin.actor, 20);
    world_settle(&scene.world);
    assert_int_equal(answered_count(), plugin.history->count);
    assert_int_equal(scene_status(&scene, "p/q").refused, refused);
    scene_close(&scene);
}

/* Records of keys of their own in one message, which nobody hears the fate of. is_merged: each with a form of the same
 * size that the updates of its key come to. */
static void publish_keys(uint32_t count, uint16_t value_size, bool is_merged)
{
    struct message message = {.tag = TOPIC_PUBLISH, .detail = count, .word = {0, is_merged ? TOPIC_MERGED : 0}};
    size_t pair = 3u + 3u + value_size, size = pair + (is_merged ? 3u + value_size : 0u);
    assert_int_equal(arena_alloc(scene.world.arena, count * size, NULL, &message.hold[0]), WEIR_OK);
    assert_int_equal(arena_alloc(scene.world.arena, count * sizeof(struct record_slice), NULL, &message.hold[1]),
                     WEIR_OK);
    uint8_t *data = arena_data(scene.world.arena, message.hold[0]);
    struct record_slice *slices = arena_data(scene.world.arena, message.hold[1]);
    memset(data, 'x', count * size);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *record = data + i * size;
        const uint8_t head[] = {0xa2, (uint8_t)('0' + i / 64),    (uint8_t)('0' + i % 64),
                                0xda, (uint8_t)(value_size >> 8), (uint8_t)value_size};
        memcpy(record, head, sizeof head);
        memcpy(record + pair, head + 3, is_merged ? 3 : 0);
        slices[i] = (struct record_slice){(uint32_t)(record - data), 3, (uint32_t)(record - data) + 3, 3u + value_size,
                                          (uint32_t)(size - pair)};
    }
    assert_int_equal(actor_send(scene.world.runtime, WEIR_ACTOR_NONE, scene.publisher.topic, &message), WEIR_OK);
}

/* All in the turn that clears the topic, at whose end the first of it would be given back. */
static void cleared_and_filled_again(bool is_merged)
{
    enum { BYTES_MAX = 600000, VALUE = 848, COUNT = 250 };
    struct message clear = {.tag = TOPIC_CLEAR};
    memset(&scene, 0, sizeof scene);
    log_level_set(LOG_OFF);
    struct directory_rule rules[1] = {{.pattern = "a/#", .rule = {.kind = TOPIC_MAP}}};
    struct directory_config config = world_config(rules, 1, 1);
    config.state_bytes_max = BYTES_MAX;
    world_open(&scene.world, &config, 1);
    publisher_open(&scene.world, &scene.publisher, "a/b", TOPIC_MAP);
    world_settle(&scene.world);
    for (uint32_t i = 0; i < 1000; i++)
        fill(i % 10, VALUE);
    struct topic_status full = scene_status(&scene, "a/b");
    assert_true(full.entries == 10 && full.ring_bytes > BYTES_MAX / 4);
    assert_int_equal(full.refused, 0);
    assert_int_equal(actor_control(scene.world.runtime, WEIR_ACTOR_NONE, scene.publisher.topic, &clear), WEIR_OK);
    publish_keys(COUNT, VALUE, is_merged);
    world_settle(&scene.world);
    assert_int_equal(scene_status(&scene, "a/b").refused, 0);
    assert_int_equal(scene_status(&scene, "a/b").entries, COUNT);
    scene_close(&scene);
}

static void what_a_cleared_topic_has_yet_to_give_back_is_there_for_what_comes_next(void **state)
{
    (void)state;
    cleared_and_filled_again(false);
}

static void what_a_cleared_topic_has_yet_to_give_back_is_there_for_what_a_plugin_merges(void **state)
{
    (void)state;
    cleared_and_filled_again(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_cleared_topic_has_yet_to_give_back_is_there_for_what_comes_next),
        cmocka_unit_test(what_a_cleared_topic_has_yet_to_give_back_is_there_for_what_a_plugin_merges),
        cmocka_unit_test(emissions_wait_for_memory_in_their_order),
        cmocka_unit_test(emissions_that_wait_too_long_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
