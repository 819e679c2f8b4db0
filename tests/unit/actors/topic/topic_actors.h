/* The actors of the small world (topic_world.h), and how it is opened, run and checked. */
#ifndef TESTS_UNIT_ACTORS_TOPIC_TOPIC_ACTORS_H
#define TESTS_UNIT_ACTORS_TOPIC_TOPIC_ACTORS_H

#include "tests/unit/actors/topic/topic_world.h"

/* ------------------------------------------------------------------------------------ publishers */

static inline size_t value_random(struct publisher *publisher, uint8_t *out, size_t capacity)
{
    struct value_writer writer;
    uint64_t *random = &publisher->random;
    value_writer_init(&writer, out, capacity);
    uint64_t choice = random_next(random) % 10;
    if (publisher->history->kind == TOPIC_MERGE) {
        char key[4] = {'k', (char)('a' + random_next(random) % 8), '\0', '\0'};
        value_write_map(&writer, 1);
        value_write_str(&writer, view_text(key));
        if (choice < 3)
            value_write_nil(&writer);
        else
            value_write_uint(&writer, random_next(random) % 1000);
    } else if (choice < 2) {
        value_write_nil(&writer);
    } else if (choice < 8 || capacity < 3000) {
        value_write_uint(&writer, random_next(random) % 100000);
    } else {
        static const char filler[2600];
        value_write_str(&writer, view_of(filler, choice == 9 ? 1100 + random_next(random) % 1400 : 300));
    }
    assert_false(writer.is_full);
    return writer.size;
}

static inline struct published *publisher_record(struct publisher *publisher)
{
    struct topic_history *history = publisher->history;
    if (history->count == history->capacity) {
        history->capacity = history->capacity ? history->capacity * 2 : 64;
        history->records = realloc(history->records, history->capacity * sizeof *history->records);
        assert_non_null(history->records);
    }
    struct published *record = &history->records[history->count++];
    *record = (struct published){.is_answered = false};
    uint8_t value[4096], key[16];
    record->value = bytes_copy(view_of(value, value_random(publisher, value, sizeof value)));
    if (history->kind == TOPIC_MAP) {
        struct value_writer writer;
        char text[8];
        int size = snprintf(text, sizeof text, "key%u", (unsigned)(random_next(&publisher->random) % 40));
        value_writer_init(&writer, key, sizeof key);
        value_write_str(&writer, view_of(text, (size_t)size));
        record->key = bytes_copy(view_of(key, writer.size));
    }
    return record;
}

/* A batch of new records as a message. */
static inline struct message publisher_batch(struct publisher *publisher, uint32_t count)
{
    struct world *world = publisher->world;
    uint64_t number = publisher->history->count;
    struct record_slice slices[64];
    static uint8_t data[64 * 4200];
    uint32_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct published *record = publisher_record(publisher);
        slices[i] = (struct record_slice){size, (uint32_t)record->key.size, size + (uint32_t)record->key.size,
                                          (uint32_t)record->value.size};
        if (record->key.size)
            memcpy(data + size, record->key.data, record->key.size);
        memcpy(data + slices[i].value_offset, record->value.data, record->value.size);
        size = slices[i].value_offset + slices[i].value_size;
    }
    struct message message = {.tag = TOPIC_PUBLISH, .detail = count};
    message.word[2] = TOPIC_NUMBER_WORD(number, ACK_FOLDED);
    assert_int_equal(arena_alloc(world->arena, size, NULL, &message.hold[0]), WEIR_OK);
    memcpy(arena_data(world->arena, message.hold[0]), data, size);
    if (count == 1) {
        message.word[0] = TOPIC_WORD(slices[0].key_offset, slices[0].key_size);
        message.word[1] = TOPIC_WORD(slices[0].value_offset, slices[0].value_size);
    } else {
        assert_int_equal(arena_alloc(world->arena, count * sizeof slices[0], NULL, &message.hold[1]), WEIR_OK);
        memcpy(arena_data(world->arena, message.hold[1]), slices, count * sizeof slices[0]);
    }
    return message;
}

static inline void publisher_send(struct turn *turn, struct publisher *publisher, struct message *message)
{
    enum weir_error error = turn_send(turn, publisher->topic, message);
    publisher->has_waiting = error == WEIR_FULL;
    publisher->waiting = *message;
    if (error == WEIR_FULL) {
        assert_int_equal(turn_await_room(turn, publisher->topic), WEIR_OK);
        return;
    }
    if (!error)
        return;
    uint64_t number = TOPIC_NUMBER(message->word[2]);
    for (uint64_t i = 0; i < message->detail; i++) {
        publisher->history->records[number + i].is_answered = true;
        publisher->history->records[number + i].refused = error;
    }
    for (int i = 0; i < MESSAGE_HOLDS; i++)
        arena_drop(publisher->world->arena, message->hold[i]);
}

static inline void publisher_answer(struct publisher *publisher, const struct message *message)
{
    for (uint64_t i = 0; i < message->detail; i++) {
        uint64_t number = message->word[0] + i;
        assert_true(number < publisher->history->count);
        struct published *record = &publisher->history->records[number];
        assert_false(record->is_answered);
        record->is_answered = true;
        if (message->tag == TOPIC_NACK) {
            record->refused = (enum weir_error)message->word[1];
            publisher->world->refused++;
            continue;
        }
        record->epoch = message->word[1];
        record->seq = message->word[2] + i;
        publisher->world->folded++;
    }
}

static inline enum weir_error publisher_start(struct turn *turn, void *state, const void *args)
{
    memcpy(state, args, sizeof(struct publisher *));
    (*(struct publisher **)state)->actor = turn_self(turn);
    return WEIR_OK;
}

static inline enum weir_error publisher_message(struct turn *turn, void *state, struct message *message)
{
    struct publisher *publisher = *(struct publisher **)state;
    struct message batch;
    switch (message->tag) {
    case WORLD_TICK:
        if (publisher->has_waiting || actor_is_none(publisher->topic))
            return WEIR_OK;
        batch = publisher_batch(publisher, 1 + (uint32_t)(random_next(&publisher->random) % (message->detail + 1)) % 64);
        publisher_send(turn, publisher, &batch);
        return WEIR_OK;
    case MESSAGE_ROOM:
        batch = publisher->waiting;
        if (publisher->has_waiting)
            publisher_send(turn, publisher, &batch);
        return WEIR_OK;
    case TOPIC_ACK:
    case TOPIC_NACK: publisher_answer(publisher, message); return WEIR_OK;
    case DIRECTORY_TOPIC:
        assert_int_equal(message->word[2], WEIR_OK);
        publisher->topic = (weir_actor){message->word[1]};
        return WEIR_OK;
    default: return WEIR_OK;
    }
}

static const struct behaviour publisher_behaviour = {
    .name = "publisher", .state_size = 8, .on_start = publisher_start, .on_message = publisher_message};

/* --------------------------------------------------------------------------------------- readers */

static inline struct topic_history *world_history(struct world *world, struct view name)
{
    for (size_t i = 0; i < world->history_count; i++)
        if (view_is_same(view_text(world->histories[i].name), name))
            return &world->histories[i];
    return NULL;
}

static inline void world_told(struct world *world, const struct reader_feed *feed)
{
    if (world->told_count == world->told_capacity) {
        world->told_capacity = world->told_capacity ? world->told_capacity * 2 : 64;
        world->told = realloc(world->told, world->told_capacity * sizeof *world->told);
    }
    struct model *copy = calloc(1, sizeof *copy);
    copy->kind = feed->model.kind;
    for (size_t i = 0; i < feed->model.count; i++)
        model_add(copy, bytes_view(feed->model.keys[i]), bytes_view(feed->model.values[i]));
    world->told[world->told_count++] = (struct told){feed->history, feed->epoch, feed->seq, copy};
}

static inline void world_heard(struct world *world, const struct reader_feed *feed, struct view key, struct view value)
{
    if (world->heard_count == world->heard_capacity) {
        world->heard_capacity = world->heard_capacity ? world->heard_capacity * 2 : 256;
        world->heard = realloc(world->heard, world->heard_capacity * sizeof *world->heard);
    }
    world->heard[world->heard_count++] =
        (struct heard){feed->history, feed->epoch, feed->seq, bytes_copy(key), bytes_copy(value)};
}

static inline struct reader_feed *reader_feed(struct reader *reader, uint32_t number)
{
    for (size_t i = 0; i < reader->feed_count; i++)
        if (reader->feeds[i]->feed == number)
            return reader->feeds[i];
    return NULL;
}

static inline void reader_credit(struct turn *turn, struct reader_feed *feed)
{
    struct message credit = {.tag = TOPIC_CREDIT, .detail = feed->feed, .word = {feed->slot, feed->owed}};
    if (feed->owed == 0 || feed->phase == READER_ENDED)
        return;
    if (turn_control(turn, feed->topic, &credit) == WEIR_OK) {
        feed->credit += (int64_t)feed->owed;
        feed->owed = 0;
    }
}

static inline void reader_begin(struct reader *reader, const struct message *message, uint32_t credit)
{
    struct world *world = reader->world;
    const struct topic_begin *begin = arena_data(world->arena, message->hold[0]);
    struct reader_feed *feed = reader_feed(reader, message->detail);
    struct topic_history *history = world_history(world, view_of(begin->name, begin->name_size));
    assert_non_null(history);
    assert_int_equal(begin->sub, reader->sub);
    assert_int_equal(begin->kind, history->kind);
    if (feed == NULL) {
        /* A new feed of a topic known from before takes that one's place, as a client would have it. */
        for (size_t i = 0; i < reader->feed_count; i++)
            if (reader->feeds[i]->history == history)
                feed = reader->feeds[i];
        if (feed == NULL) {
            assert_true(reader->feed_count < WORLD_TOPICS_MAX);
            feed = reader->feeds[reader->feed_count++] = calloc(1, sizeof *feed);
            feed->model.kind = history->kind;
        }
        feed->feed = message->detail;
        feed->credit = credit;
        feed->owed = 0;
        feed->phase = READER_NONE;
    } else if (begin->cause == CAUSE_OVERFLOW) {
        reader->resyncs++;
    }
    if (begin->resumed) {
        assert_int_equal(begin->epoch, feed->epoch);
        assert_int_equal(begin->seq, feed->seq);
        reader->resumes++;
    } else {
        model_clear(&feed->model);
        feed->is_whole = false;
    }
    feed->history = history;
    feed->slot = begin->slot;
    feed->sub = begin->sub;
    feed->topic = begin->topic;
    feed->epoch = begin->epoch;
    feed->seq = feed->end_seq = begin->seq;
    feed->phase = READER_ENTRIES;
    reader->last_cause = begin->cause;
    reader->begins++;
}

static inline void reader_run(struct reader *reader, struct reader_feed *feed, const struct message *message)
{
    struct world *world = reader->world;
    struct topic_run run = topic_run_read(message);
    const uint8_t *data = arena_data(world->arena, run.pairs.block);
    assert_non_null(data);
    bool is_update = message->tag == TOPIC_UPDATES;
    assert_int_equal(feed->phase, is_update ? READER_LIVE : READER_ENTRIES);
    assert_true(feed->credit > 0);
    feed->credit -= run.pairs.size;
    feed->owed += run.pairs.size;
    struct view items = view_of(data + run.pairs.offset, run.pairs.size), key, value;
    for (uint32_t i = 0; i < run.count; i++) {
        assert_int_equal(items_next(&items, 16, &key, &value), WEIR_OK);
        if (!is_update) {
            model_add(&feed->model, feed->history->kind == TOPIC_MERGE ? view_of(NULL, 0) : key, value);
            continue;
        }
        assert_int_equal(feed->seq + 1, run.seq + i); /* no gap, no duplicate, no disorder */
        feed->seq++;
        model_apply(&feed->model, key, value);
        world_heard(world, feed, key, value);
        reader->updates++;
    }
    assert_int_equal(items.size, 0);
    assert_true(feed->credit > 0 || run.count == 1 || feed->credit == 0);
}

static inline void reader_frame(struct turn *turn, struct reader *reader, struct message *message)
{
    struct reader_feed *feed = reader_feed(reader, message->detail);
    if (feed == NULL || feed->phase == READER_ENDED)
        return; /* the last words of one that was unsubscribed */
    switch (message->tag) {
    case TOPIC_ENTRIES:
    case TOPIC_UPDATES:
        reader_run(reader, feed, message);
        break;
    case TOPIC_END:
        assert_int_equal(feed->phase, READER_ENTRIES);
        assert_int_equal(message->word[0], feed->epoch);
        assert_int_equal(message->word[1], feed->end_seq);
        feed->phase = READER_LIVE;
        feed->is_whole = true;
        reader->ends++;
        world_told(reader->world, feed);
        break;
    case TOPIC_RESET:
        assert_true(message->word[0] > feed->epoch);
        feed->phase = READER_NONE;
        feed->is_whole = false;
        reader->resets++;
        break;
    case TOPIC_GAP:
        assert_int_equal(message->word[0], feed->seq + 1);
        feed->seq = message->word[1];
        reader->gaps++;
        break;
    case TOPIC_STALE: feed->is_stale = true; reader->stales++; break;
    case TOPIC_LIVE: feed->is_stale = false; reader->lives++; break;
    case TOPIC_ENDED:
        feed->phase = READER_ENDED;
        reader->ended++;
        reader->last_error = (enum weir_error)message->word[0];
        break;
    default: break;
    }
    if (reader->generous || random_next(&reader->random) % 4 == 0)
        reader_credit(turn, feed);
}

static inline enum weir_error reader_start(struct turn *turn, void *state, const void *args)
{
    memcpy(state, args, sizeof(struct reader *));
    (*(struct reader **)state)->actor = turn_self(turn);
    return WEIR_OK;
}

#define READER_CREDIT 3000u

static inline enum weir_error reader_message(struct turn *turn, void *state, struct message *message)
{
    struct reader *reader = *(struct reader **)state;
    switch (message->tag) {
    case WORLD_TICK:
        for (size_t i = 0; i < reader->feed_count; i++)
            reader_credit(turn, reader->feeds[i]);
        return WEIR_OK;
    case DIRECTORY_SUBSCRIBED:
        reader->subscribed++;
        reader->last_error = (enum weir_error)message->word[2];
        return WEIR_OK;
    case DIRECTORY_UNSUBSCRIBED:
        if (message->word[2] == WEIR_OK)
            reader->unsubscribed++;
        return WEIR_OK;
    case TOPIC_BEGIN: reader_begin(reader, message, READER_CREDIT); return WEIR_OK;
    default: reader_frame(turn, reader, message); return WEIR_OK;
    }
}

static const struct behaviour reader_behaviour = {
    .name = "reader", .state_size = 8, .on_start = reader_start, .on_message = reader_message};

/* ------------------------------------------------------------------------------------ supervisor */

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

/* ----------------------------------------------------------------------------------------- world */

static inline void world_open(struct world *world, const struct directory_config *config, uint64_t seed)
{
    *world = (struct world){.random = seed * 77 + 1};
    assert_int_equal(arena_create(&(struct arena_config){.bytes_max = (size_t)1 << 30}, &world->arena), WEIR_OK);
    assert_int_equal(budget_create(NULL, "world", 0, &world->budget), WEIR_OK);
    struct runtime_config runtime = {.arena = world->arena, .simulate = true, .seed = seed,
                                     .on_dead_letter = topic_dead_letter};
    assert_int_equal(runtime_create(&runtime, &world->runtime), WEIR_OK);
    assert_int_equal(actor_spawn(world->runtime, &supervisor_behaviour, &world, sizeof world, NULL, &world->supervisor),
                     WEIR_OK);
    assert_int_equal(directory_create(world->runtime, world->supervisor, world->budget, config, &world->directory),
                     WEIR_OK);
}

static inline struct directory_config world_config(const struct directory_rule *rules, size_t count, uint64_t seed)
{
    return (struct directory_config){.rules = rules, .rule_count = count, .auto_create = true, .topics_max = 20000,
                                     .subscriptions_max = 1000, .feeds_max = 100000, .retain_count_max_dead = 100,
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
    assert_int_equal(actor_spawn(world->runtime, &publisher_behaviour, &publisher, sizeof publisher, NULL,
                                 &publisher->actor), WEIR_OK);
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

/* with_cursors: for each topic the reader knows. */
static inline void reader_subscribe(struct reader *reader, const char *pattern, struct directory_subscribe options,
                                    bool with_cursors)
{
    static uint8_t bytes[16384];
    struct world *world = reader->world;
    struct value_writer writer;
    value_writer_init(&writer, bytes, sizeof bytes);
    for (size_t i = 0; with_cursors && i < reader->feed_count; i++) {
        if (!reader->feeds[i]->is_whole)
            continue;
        value_write_array(&writer, 3);
        value_write_str(&writer, view_text(reader->feeds[i]->history->name));
        value_write_uint(&writer, reader->feeds[i]->epoch);
        value_write_uint(&writer, reader->feeds[i]->seq);
        options.cursor_count++;
    }
    options.sub = ++reader->sub;
    options.pattern_size = (uint32_t)strlen(pattern);
    options.cursors_size = (uint32_t)writer.size;
    if (options.credit == 0)
        options.credit = READER_CREDIT;
    struct message message = {.tag = DIRECTORY_SUBSCRIBE};
    size_t size = sizeof options + options.pattern_size + options.cursors_size;
    assert_int_equal(arena_alloc(world->arena, size, NULL, &message.hold[0]), WEIR_OK);
    struct directory_subscribe *block = arena_data(world->arena, message.hold[0]);
    *block = options;
    memcpy(block->bytes, pattern, options.pattern_size);
    memcpy(block->bytes + options.pattern_size, bytes, writer.size);
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
