/* The small world (topic_world.h) with its actors: how it is opened, run and checked. */
#ifndef TESTS_UNIT_ACTORS_TOPIC_TOPIC_ACTORS_H
#define TESTS_UNIT_ACTORS_TOPIC_TOPIC_ACTORS_H

#include "tests/unit/actors/topic/topic_publisher.h"
#include "tests/unit/actors/topic/topic_reader.h"

static inline enum weir_error supervisor_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    memcpy(state, args, sizeof(struct world *));
    return WEIR_OK;
}

static inline enum weir_error supervisor_message(struct turn *turn, void *state, struct message *message)
{
    struct world *world = *(struct world **)state;
    if (message->tag == MESSAGE_EVENT && message->word[0] == ACTOR_EVENT_FAILED) {
        world->failures++;
        assert_int_equal(actor_restart(turn_runtime(turn), message->from, world->restart_delay_ns), WEIR_OK);
    }
    return WEIR_OK;
}

static const struct behaviour supervisor_behaviour = {
    .name = "restarter", .state_size = 8, .on_start = supervisor_start, .on_message = supervisor_message};

static inline void world_open(struct world *world, const struct directory_config *config, uint64_t seed)
{
    *world = (struct world){.random = seed * 77 + 1};
    assert_int_equal(arena_create(&(struct arena_config){.bytes_max = (size_t)1 << 30}, &world->arena), WEIR_OK);
    assert_int_equal(budget_create(NULL, "world", 0, &world->budget), WEIR_OK);
    struct runtime_config runtime = {
        .arena = world->arena, .simulate = true, .seed = seed, .on_dead_letter = topic_dead_letter};
    assert_int_equal(runtime_create(&runtime, &world->runtime), WEIR_OK);
    assert_int_equal(actor_spawn(world->runtime, &supervisor_behaviour, &world, sizeof world, NULL, &world->supervisor),
                     WEIR_OK);
    assert_int_equal(directory_create(world->runtime, world->supervisor, world->budget, config, &world->directory),
                     WEIR_OK);
}

static inline struct directory_config world_config(const struct directory_rule *rules, size_t count, uint64_t seed)
{
    return (struct directory_config){.rules = rules,
                                     .rule_count = count,
                                     .auto_create = true,
                                     .topics_max = 20000,
                                     .subscriptions_max = 1000,
                                     .feeds_max = 100000,
                                     .retain_count_max_dead = 100,
                                     .seed = seed + 1};
}

/* Runs turns until nothing is left to do now. */
static inline void world_settle(struct world *world)
{
    for (uint64_t steps = 0; runtime_step(world->runtime); steps++)
        assert_true(steps < 20000000);
}

static inline void world_step(struct world *world, uint64_t steps)
{
    for (uint64_t i = 0; i < steps && runtime_step(world->runtime); i++)
        ;
}

static inline void world_tick(struct world *world, weir_actor actor, uint32_t detail)
{
    struct message tick = {.tag = WORLD_TICK, .detail = detail};
    assert_int_equal(actor_control(world->runtime, WEIR_ACTOR_NONE, actor, &tick), WEIR_OK);
}

static inline void publisher_open(struct world *world, struct publisher *publisher, const char *name,
                                  enum topic_kind kind)
{
    struct topic_history *history = world_history(world, view_text(name));
    if (history == NULL) {
        assert_true(world->history_count < WORLD_TOPICS_MAX);
        history = &world->histories[world->history_count++];
        snprintf(history->name, sizeof history->name, "%s", name);
        history->kind = kind;
    }
    *publisher = (struct publisher){.world = world, .history = history, .random = random_next(&world->random)};
    assert_int_equal(
        actor_spawn(world->runtime, &publisher_behaviour, &publisher, sizeof publisher, NULL, &publisher->actor),
        WEIR_OK);
    struct message ensure = {.tag = DIRECTORY_ENSURE};
    assert_int_equal(arena_alloc(world->arena, strlen(name), NULL, &ensure.hold[0]), WEIR_OK);
    memcpy(arena_data(world->arena, ensure.hold[0]), name, strlen(name));
    assert_int_equal(actor_send(world->runtime, publisher->actor, directory_actor(world->directory), &ensure), WEIR_OK);
}

static inline void reader_open(struct world *world, struct reader *reader, bool generous, uint32_t mailbox_max)
{
    struct actor_options options = {.mailbox_max = mailbox_max};
    *reader = (struct reader){.world = world, .generous = generous, .random = random_next(&world->random)};
    assert_int_equal(actor_spawn(world->runtime, &reader_behaviour, &reader, sizeof reader, &options, &reader->actor),
                     WEIR_OK);
}

struct reader_options {
    enum overflow_policy policy;
    bool snapshot, updates;
    uint32_t credit; /* 0: READER_CREDIT */
    size_t outbox_max;
    uint32_t interval_ms, block_ms;
};

/* with_cursors: for each topic the reader knows. */
static inline void reader_subscribe(struct reader *reader, const char *pattern, struct reader_options options,
                                    bool with_cursors)
{
    static uint8_t bytes[16384];
    struct world *world = reader->world;
    struct value_writer writer;
    uint32_t cursor_count = 0;
    value_writer_init(&writer, bytes, sizeof bytes);
    for (size_t i = 0; with_cursors && i < reader->feed_count; i++) {
        /* A cursor is for who knows the state at it, or does not care. */
        bool has_state = reader->feeds[i]->is_whole && !reader->feeds[i]->has_gap;
        if (!reader->feeds[i]->is_whole || (!has_state && options.policy != POLICY_DROP && options.snapshot))
            continue;
        value_write_array(&writer, 3);
        value_write_str(&writer, view_text(reader->feeds[i]->history->name));
        value_write_uint(&writer, reader->feeds[i]->epoch);
        value_write_uint(&writer, reader->feeds[i]->seq);
        cursor_count++;
    }
    struct message message = {.tag = DIRECTORY_SUBSCRIBE};
    struct directory_subscribe *block;
    uint8_t key[40];
    struct value_writer key_writer;
    value_writer_init(&key_writer, key, sizeof key);
    if (reader->filter.match != KEY_ANY)
        value_write_str(&key_writer, view_text(reader->filter.text));
    size_t size = sizeof *block + strlen(pattern) + key_writer.size + writer.size;
    assert_int_equal(arena_alloc(world->arena, size, NULL, &message.hold[0]), WEIR_OK);
    block = arena_data(world->arena, message.hold[0]);
    *block =
        (struct directory_subscribe){.sub = ++reader->sub,
                                     .policy = options.policy,
                                     .snapshot = options.snapshot,
                                     .updates = options.updates,
                                     .credit = options.credit ? options.credit : READER_CREDIT,
                                     .outbox_max = options.outbox_max,
                                     .interval_ms = options.interval_ms,
                                     .block_ms = options.block_ms,
                                     .part = {.match = reader->filter.match, .key_size = (uint16_t)key_writer.size},
                                     .pattern_size = (uint32_t)strlen(pattern),
                                     .cursors_size = (uint32_t)writer.size,
                                     .cursor_count = cursor_count};
    reader->policy = options.policy;
    reader->credit = block->credit;
    memcpy(block->bytes, pattern, strlen(pattern));
    memcpy(block->bytes + strlen(pattern), key, key_writer.size);
    memcpy(block->bytes + strlen(pattern) + key_writer.size, bytes, writer.size);
    assert_int_equal(actor_send(world->runtime, reader->actor, directory_actor(world->directory), &message), WEIR_OK);
}

static inline void reader_unsubscribe(struct reader *reader)
{
    struct message message = {.tag = DIRECTORY_UNSUBSCRIBE, .detail = reader->sub};
    struct world *world = reader->world;
    assert_int_equal(actor_send(world->runtime, reader->actor, directory_actor(world->directory), &message), WEIR_OK);
}

/* What readers were told agrees with what publishers were told. */
static inline void world_check(struct world *world)
{
    for (size_t i = 0; i < world->heard_count; i++) {
        const struct heard *heard = &world->heard[i];
        const struct published *record = history_find(heard->history, heard->epoch, heard->seq);
        assert_non_null(record);
        assert_true(view_is_same(bytes_view(record->key), bytes_view(heard->key)));
        assert_true(view_is_same(bytes_view(record->value), bytes_view(heard->value)));
    }
    for (size_t i = 0; i < world->told_count; i++) {
        const struct told *told = &world->told[i];
        struct model *model = calloc(1, sizeof *model);
        model->kind = told->history->kind;
        for (uint64_t seq = 1; seq <= told->seq; seq++) {
            const struct published *record = history_find(told->history, told->epoch, seq);
            assert_non_null(record);
            model_apply(model, bytes_view(record->key), bytes_view(record->value));
        }
        for (size_t k = model->count; k-- > 0;)
            if (!reader_wants(told->filter, bytes_view(model->keys[k])))
                model_remove(model, k);
        assert_true(model_is_same(model, told->model));
        model_clear(model);
        free(model);
    }
}

/* What readers were told so far is not to be checked: it was no whole state. */
static inline void world_forget_told(struct world *world)
{
    for (size_t i = 0; i < world->told_count; i++) {
        model_clear(world->told[i].model);
        free(world->told[i].model);
    }
    world->told_count = 0;
}

static inline void reader_fini(struct reader *reader)
{
    for (size_t i = 0; i < reader->feed_count; i++) {
        model_clear(&reader->feeds[i]->model);
        free(reader->feeds[i]);
    }
}

static inline void world_close(struct world *world)
{
    runtime_stop(world->runtime);
    directory_destroy(&world->directory);
    runtime_destroy(&world->runtime);
    struct arena_usage usage;
    arena_usage(world->arena, &usage);
    assert_int_equal(usage.blocks_live, 0);
    assert_int_equal(usage.stale, 0);
    budget_destroy(&world->budget);
    arena_thread_flush(world->arena);
    arena_destroy(&world->arena);
    for (size_t i = 0; i < world->heard_count; i++) {
        free(world->heard[i].key.data);
        free(world->heard[i].value.data);
    }
    world_forget_told(world);
    for (size_t i = 0; i < world->history_count; i++) {
        for (size_t k = 0; k < world->histories[i].count; k++) {
            free(world->histories[i].records[k].key.data);
            free(world->histories[i].records[k].value.data);
        }
        free(world->histories[i].records);
    }
    free(world->heard);
    free(world->told);
}

#endif
