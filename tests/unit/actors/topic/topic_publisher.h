/* The publisher of the small world (topic_world.h): sends random batches, keeps to backpressure, checks that each
 * record is answered once. */
#ifndef TESTS_UNIT_ACTORS_TOPIC_TOPIC_PUBLISHER_H
#define TESTS_UNIT_ACTORS_TOPIC_TOPIC_PUBLISHER_H

#include "tests/unit/actors/topic/topic_world.h"

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
    if (history->kind == TOPIC_MAP || publisher->has_keys) {
        struct value_writer writer;
        char text[8];
        unsigned keys = publisher->keys ? publisher->keys : 40;
        int size = snprintf(text, sizeof text, "key%u", (unsigned)(random_next(&publisher->random) % keys));
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
        struct published *record = publisher_record(publisher);
        record->is_batched = i > 0;
        slices[i] = (struct record_slice){size, (uint32_t)record->key.size, size + (uint32_t)record->key.size,
                                          (uint32_t)record->value.size, 0};
        if (record->key.size)
            memcpy(data + size, record->key.data, record->key.size);
        memcpy(data + slices[i].value_offset, record->value.data, record->value.size);
        size = slices[i].value_offset + slices[i].value_size;
        if (publisher->is_merging && !value_is_nil(bytes_view(record->value))) {
            /* What it comes to is [value]. */
            data[size] = 0x91;
            memcpy(data + size + 1, record->value.data, record->value.size);
            slices[i].step = (uint32_t)record->value.size + 1;
            size += slices[i].step;
        }
    }
    struct message message = {.tag = TOPIC_PUBLISH, .detail = count};
    message.word[2] = TOPIC_NUMBER_WORD(number, ACK_FOLDED);
    assert_int_equal(arena_alloc(world->arena, size, NULL, &message.hold[0]), WEIR_OK);
    memcpy(arena_data(world->arena, message.hold[0]), data, size);
    if (count == 1 && !publisher->is_merging) {
        message.word[0] = TOPIC_WORD(slices[0].key_offset, slices[0].key_size);
        message.word[1] = TOPIC_WORD(slices[0].value_offset, slices[0].value_size);
    } else {
        assert_int_equal(arena_alloc(world->arena, count * sizeof slices[0], NULL, &message.hold[1]), WEIR_OK);
        memcpy(arena_data(world->arena, message.hold[1]), slices, count * sizeof slices[0]);
        message.word[1] = publisher->is_merging ? TOPIC_MERGED : publisher->is_in_order ? TOPIC_IN_ORDER : 0;
    }
    return message;
}

static inline void publisher_send(struct turn *turn, struct publisher *publisher, struct message *message)
{
    message->tag = publisher->is_plugin ? TOPIC_EMITTED : TOPIC_PUBLISH;
    enum weir_error error = publisher->is_plugin ? turn_control(turn, publisher->topic, message)
                                                 : turn_send(turn, publisher->topic, message);
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
        batch =
            publisher_batch(publisher, 1 + (uint32_t)(random_next(&publisher->random) % (message->detail + 1)) % 64);
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

#endif
