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

static inline void world_told(struct world *world, const struct reader_feed *feed, const struct reader_filter *filter)
{
    if (world->told_count == world->told_capacity) {
        world->told_capacity = world->told_capacity ? world->told_capacity * 2 : 64;
        world->told = realloc(world->told, world->told_capacity * sizeof *world->told);
    }
    struct model *copy = calloc(1, sizeof *copy);
    copy->kind = feed->model.kind;
    for (size_t i = 0; i < feed->model.count; i++)
        model_add(copy, bytes_view(feed->model.keys[i]), bytes_view(feed->model.values[i]));
    world->told[world->told_count++] = (struct told){filter, feed->history, feed->epoch, feed->seq, copy};
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
    struct message credit = {.tag = TOPIC_CREDIT, .detail = feed->feed, .word = {feed->owed}};
    if (feed->owed == 0 || feed->phase == READER_ENDED)
        return;
    if (turn_control(turn, feed->topic, &credit) == WEIR_OK) {
        feed->credit += (int64_t)feed->owed;
        feed->owed = 0;
    }
}

static inline void reader_begin(struct reader *reader, const struct message *message)
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
        feed->credit = reader->credit;
        feed->owed = 0;
        feed->phase = READER_NONE;
    } else if (begin->cause == CAUSE_OVERFLOW) {
        reader->resyncs++;
    }
    if (begin->resumed) {
        assert_int_equal(begin->epoch, feed->epoch);
        assert_int_equal(begin->seq, feed->seq);
        reader->resumes++;
    } else if (begin->delta) {
        /* Based on what this reader knows, and not on something older. */
        assert_true(feed->is_whole || feed->is_delta);
        assert_false(feed->has_gap);
        assert_int_equal(begin->epoch, feed->epoch);
        assert_true(begin->seq >= feed->seq);
        feed->is_whole = false;
        reader->deltas++;
    } else {
        model_clear(&feed->model);
        feed->is_whole = feed->has_gap = false;
    }
    feed->is_delta = begin->delta;
    feed->is_resumed = begin->resumed;
    feed->history = history;
    feed->sub = begin->sub;
    feed->topic = begin->topic;
    feed->epoch = begin->epoch;
    feed->seq = feed->end_seq = begin->seq;
    feed->phase = READER_ENTRIES;
    reader->last_cause = begin->cause;
    reader->begins++;
}

/* What was passed over on the way to seq was not asked for. */
static inline void reader_pass(struct reader *reader, struct reader_feed *feed, uint64_t seq)
{
    assert_true(seq > feed->seq);
    for (uint64_t passed = feed->seq + 1; passed < seq && passed < feed->seq + 200; passed++) {
        const struct published *record = history_find(feed->history, feed->epoch, passed);
        /* No gap, no duplicate, no disorder. */
        assert_true(reader->filter.match != KEY_ANY);
        assert_true(record == NULL || !reader_wants(&reader->filter, bytes_view(record->key)));
    }
    feed->seq = seq;
}

/* An entry of a merge topic is a map of one: that member is set, whatever it was, or with nil goes. */
static inline void reader_entry(struct reader_feed *feed, struct view key, struct view value)
{
    enum topic_kind kind = feed->history->kind;
    struct value_reader reader;
    if (kind == TOPIC_MERGE) {
        assert_int_equal(key.size, 0);
        value_reader_init(&reader, value, 16);
        assert_int_equal(value_read_map(&reader), 1);
        key = value_read_any(&reader);
        value = value_read_any(&reader);
        assert_int_equal(reader.error, WEIR_OK);
    }
    if (!feed->is_delta || (kind != TOPIC_MAP && kind != TOPIC_MERGE)) {
        model_add(&feed->model, key, value);
        return;
    }
    feed->model.kind = TOPIC_MAP;
    model_apply(&feed->model, key, value);
    feed->model.kind = kind;
}

static inline void reader_run(struct reader *reader, struct reader_feed *feed, const struct message *message)
{
    struct world *world = reader->world;
    struct topic_run run = topic_run_read(message);
    const uint8_t *data = arena_data(world->arena, run.pairs.block);
    assert_non_null(data);
    bool is_update = message->tag == TOPIC_UPDATES;
    assert_int_equal(feed->phase, is_update ? READER_LIVE : READER_ENTRIES);
    reader->entries += is_update ? 0 : run.count;
    reader->entry_runs += !is_update;
    assert_true(feed->credit > 0);
    feed->credit -= run.pairs.size;
    feed->owed += run.pairs.size;
    struct view items = view_of(data + run.pairs.offset, run.pairs.size), key, value;
    for (uint32_t i = 0; i < run.count; i++) {
        assert_int_equal(items_next(&items, 16, &key, &value), WEIR_OK);
        assert_true(reader_wants(&reader->filter, key));
        if (!is_update) {
            reader_entry(feed, key, value);
            continue;
        }
        reader_pass(reader, feed, run.seq + i);
        model_apply(&feed->model, key, value);
        world_heard(world, feed, key, value);
        reader->updates++;
    }
    assert_int_equal(items.size, 0);
    assert_true(feed->credit >= 0 || run.count == 1);
}

/* The last words of a feed that was unsubscribed; or of one that has not begun, which is then lost. */
static inline void reader_decline(struct turn *turn, const struct message *message)
{
    struct message decline = {.tag = TOPIC_UNSUBSCRIBE, .detail = message->detail};
    if (message->tag != TOPIC_ENDED)
        (void)!turn_control(turn, message->from, &decline);
}

static inline void reader_frame(struct turn *turn, struct reader *reader, struct message *message)
{
    struct reader_feed *feed = reader_feed(reader, message->detail);
    if (feed == NULL)
        reader_decline(turn, message);
    if (feed == NULL || feed->phase == READER_ENDED)
        return;
    switch (message->tag) {
    case TOPIC_ENTRIES:
    case TOPIC_UPDATES: reader_run(reader, feed, message); break;
    case TOPIC_END:
        assert_int_equal(feed->phase, READER_ENTRIES);
        assert_int_equal(message->word[0], feed->epoch);
        assert_int_equal(message->word[1], feed->end_seq);
        assert_int_equal(message->word[2], feed->is_delta);
        feed->is_delta = false;
        feed->is_blurred = feed->is_blurred && feed->is_resumed;
        feed->phase = READER_LIVE;
        feed->is_whole = true;
        reader->ends++;
        if (!feed->has_gap && !feed->is_blurred)
            world_told(reader->world, feed, &reader->filter);
        break;
    case TOPIC_RESET:
        assert_true(message->word[0] > feed->epoch);
        feed->phase = READER_NONE;
        feed->is_whole = false;
        reader->resets++;
        break;
    case TOPIC_GAP:
        reader_pass(reader, feed, message->word[0]);
        assert_true(message->word[1] >= message->word[0]);
        feed->seq = message->word[1];
        feed->has_gap = true; /* what it knows is no state of the topic's any more */
        reader->gaps++;
        break;
    case TOPIC_CONFLATED: /* newer ones of the same keys follow, so that the state is whole again in the end */
        assert_true(feed->history->kind == TOPIC_MAP || feed->history->kind == TOPIC_LAST);
        assert_int_equal(feed->phase, READER_LIVE);
        reader_pass(reader, feed, message->word[0]);
        assert_true(message->word[1] >= message->word[0]);
        feed->seq = message->word[1];
        feed->is_blurred = true;
        reader->conflated += message->word[1] - message->word[0] + 1;
        reader->last_cause = (enum topic_cause)message->word[2];
        break;
    case TOPIC_IDLE:
        reader_pass(reader, feed, message->word[0] + 1); /* of all up to it, nothing was asked for */
        feed->seq--;
        reader->idles++;
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
    case TOPIC_BEGIN: reader_begin(reader, message); return WEIR_OK;
    default: reader_frame(turn, reader, message); return WEIR_OK;
    }
}

static const struct behaviour reader_behaviour = {
    .name = "reader", .state_size = 8, .on_start = reader_start, .on_message = reader_message};

#endif
