/* The reader of the small world (topic_world.h): follows topics as a client would and checks each frame as it comes. */
#ifndef TESTS_UNIT_ACTORS_TOPIC_TOPIC_READER_H
#define TESTS_UNIT_ACTORS_TOPIC_TOPIC_READER_H

#include "tests/unit/actors/topic/topic_world.h"

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
    case TOPIC_UPDATES: reader_run(reader, feed, message); break;
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
    case TOPIC_STALE:
        feed->is_stale = true;
        reader->stales++;
        break;
    case TOPIC_LIVE:
        feed->is_stale = false;
        reader->lives++;
        break;
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

#endif
