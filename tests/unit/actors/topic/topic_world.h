/* A small world for the tests of topics: a simulated runtime with a directory, publishers that keep to backpressure,
 * and readers that check every promise as frames come in. Each test steps it by a seed. */
#ifndef TESTS_UNIT_ACTORS_TOPIC_TOPIC_WORLD_H
#define TESTS_UNIT_ACTORS_TOPIC_TOPIC_WORLD_H

#include "actors/runtime/runtime.h"
#include "actors/topic/directory.h"
#include "actors/topic/fold.h"
#include "clients/wire/merge.h"
#include "clients/wire/value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { WORLD_TICK = 0x10, WORLD_LOG_MAX = 20, WORLD_PAIRS_MAX = 4096, WORLD_TOPICS_MAX = 32 };

static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

struct bytes {
    uint8_t *data;
    size_t size;
};

static inline struct bytes bytes_copy(struct view view)
{
    struct bytes bytes = {malloc(view.size + 1), view.size};
    assert_non_null(bytes.data);
    if (view.size)
        memcpy(bytes.data, view.data, view.size);
    return bytes;
}

static inline struct view bytes_view(struct bytes bytes) { return view_of(bytes.data, bytes.size); }

struct model {
    enum topic_kind kind;
    size_t count;
    struct bytes keys[WORLD_PAIRS_MAX], values[WORLD_PAIRS_MAX];
};

static inline void model_remove(struct model *model, size_t at)
{
    free(model->keys[at].data);
    free(model->values[at].data);
    model->count--;
    memmove(&model->keys[at], &model->keys[at + 1], (model->count - at) * sizeof model->keys[0]);
    memmove(&model->values[at], &model->values[at + 1], (model->count - at) * sizeof model->values[0]);
}

static inline void model_clear(struct model *model)
{
    while (model->count > 0)
        model_remove(model, model->count - 1);
}

static inline void model_add(struct model *model, struct view key, struct view value)
{
    assert_true(model->count < WORLD_PAIRS_MAX);
    model->keys[model->count] = bytes_copy(key);
    model->values[model->count++] = bytes_copy(value);
}

/* The members of a map, in its order. */
static inline void model_add_members(struct model *model, struct view map)
{
    struct value_reader reader;
    value_reader_init(&reader, map, 16);
    for (uint32_t count = value_read_map(&reader); count > 0; count--) {
        struct view key = value_read_any(&reader), value = value_read_any(&reader);
        model_add(model, key, value);
    }
    assert_int_equal(reader.error, WEIR_OK);
}

/* Merges a patch, a map, into the whole map, which the members make up. */
static inline void model_merge(struct model *model, struct view patch)
{
    uint8_t whole[8192], merged[8192];
    struct value_writer writer;
    size_t size = 0;
    value_writer_init(&writer, whole, sizeof whole);
    value_write_map(&writer, (uint32_t)model->count);
    for (size_t i = 0; i < model->count; i++) {
        value_write_raw(&writer, bytes_view(model->keys[i]));
        value_write_raw(&writer, bytes_view(model->values[i]));
    }
    assert_false(writer.is_full);
    assert_int_equal(merge_apply(view_of(whole, writer.size), patch, 16, merged, sizeof merged, &size), WEIR_OK);
    model_clear(model);
    model_add_members(model, view_of(merged, size));
}

static inline void model_apply(struct model *model, struct view key, struct view value)
{
    switch (model->kind) {
    case TOPIC_LAST:
        model_clear(model);
        model_add(model, key, value);
        return;
    case TOPIC_MAP:
        for (size_t i = 0; i < model->count; i++) {
            if (view_is_same(bytes_view(model->keys[i]), key)) {
                model_remove(model, i);
                break;
            }
        }
        if (!(value.size == 1 && value.data[0] == 0xc0))
            model_add(model, key, value);
        return;
    case TOPIC_LOG:
        model_add(model, key, value);
        if (model->count > WORLD_LOG_MAX)
            model_remove(model, 0);
        return;
    case TOPIC_MERGE: model_merge(model, value); return;
    }
}

static inline bool model_has(const struct model *model, struct bytes key, struct bytes value)
{
    for (size_t i = 0; i < model->count; i++)
        if (view_is_same(bytes_view(model->keys[i]), bytes_view(key)))
            return view_is_same(bytes_view(model->values[i]), bytes_view(value));
    return false;
}

static inline bool model_is_same(const struct model *a, const struct model *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        bool has_keys = a->kind == TOPIC_MAP || a->kind == TOPIC_MERGE;
        bool same = has_keys ? model_has(b, a->keys[i], a->values[i])
                             : view_is_same(bytes_view(a->values[i]), bytes_view(b->values[i]));
        if (!same)
            return false;
    }
    return true;
}

/* What was published, as the acks tell it. */
struct published {
    struct bytes key, value;
    uint64_t epoch, seq;
    enum weir_error refused;
    bool is_answered;
    bool is_batched; /* it is in one batch with the one before */
};

struct topic_history {
    char name[64];
    enum topic_kind kind;
    struct published *records; /* by the publisher's number */
    size_t count, capacity;
};

static inline const struct published *history_find(const struct topic_history *history, uint64_t epoch, uint64_t seq)
{
    for (size_t i = 0; i < history->count; i++) {
        const struct published *record = &history->records[i];
        if (record->is_answered && !record->refused && record->epoch == epoch && record->seq == seq)
            return record;
    }
    return NULL;
}

struct world;

struct publisher {
    struct world *world;
    struct topic_history *history;
    weir_actor actor, topic;
    struct message waiting; /* a batch that found the mailbox full */
    bool has_waiting;
    uint64_t random;
    unsigned values;  /* see value_random */
    unsigned keys;    /* so many different ones; 0: 40 */
    bool has_keys;    /* also where the topic is no map */
    bool is_in_order; /* TOPIC_IN_ORDER */
    bool is_merging;  /* TOPIC_MERGED: of each record that is no removal */
    bool is_plugin;   /* emits, as the plugin of its topic */
};

enum reader_phase { READER_NONE, READER_ENTRIES, READER_LIVE, READER_ENDED };

struct heard {
    struct topic_history *history;
    uint64_t epoch, seq;
    struct bytes key, value;
};

/* Which keys a reader asked for. */
struct reader_filter {
    enum key_match match;
    const char *text;
};

static inline bool reader_wants(const struct reader_filter *filter, struct view key)
{
    if (filter->match == KEY_ANY)
        return true;
    struct view text = view_text(filter->text);
    if (key.size == 0 || key.size > 32) /* none, or longer than the tests' */
        return false;
    key = view_of(key.data + 1, key.size - 1);
    return filter->match == KEY_IS ? view_is_same(key, text) : view_begins_with(key, text);
}

struct reader_feed {
    uint32_t feed, sub;
    enum reader_phase phase;
    struct topic_history *history;
    weir_actor topic;
    uint64_t epoch, seq;
    uint64_t end_seq;
    uint64_t owed; /* credit to give back */
    int64_t credit;
    bool is_stale;
    bool is_delta; /* a delta is being laid over it */
    bool is_resumed;
    bool is_blurred; /* of some keys newer records are to come, for which the present ones were left out */
    bool has_gap;    /* updates were left out of its state */
    bool is_whole;   /* its state was told to the end, so its cursor may be resumed from */
    struct model model;
};

/* A state that a reader was told of, checked against the history at the end. */
struct told {
    const struct reader_filter *filter;
    struct topic_history *history;
    uint64_t epoch, seq;
    struct model *model;
};

struct reader {
    struct world *world;
    weir_actor actor;
    uint64_t random;
    uint32_t sub;
    enum overflow_policy policy; /* of the subscription, as the credit of its feeds */
    uint32_t credit;
    bool generous; /* gives credit back at once */
    bool wants_updates;
    struct reader_filter filter;
    struct reader_feed *feeds[WORLD_TOPICS_MAX];
    size_t feed_count;
    size_t entries, entry_runs; /* of snapshots: pairs, and the messages that they came in */
    size_t subscribed, unsubscribed, begins, ends, updates, resyncs, resumes, resets, gaps, ended, stales, lives,
        deltas, conflated, idles;
    enum weir_error last_error;
    enum topic_cause last_cause;
};

struct world {
    struct arena *arena;
    struct budget *budget;
    struct runtime *runtime;
    struct directory *directory;
    weir_actor supervisor;
    uint64_t random;
    struct topic_history histories[WORLD_TOPICS_MAX];
    size_t history_count;
    struct told *told;
    size_t told_count, told_capacity;
    struct heard *heard;
    size_t heard_count, heard_capacity;
    uint64_t restart_delay_ns;
    size_t failures;
    uint64_t folded, refused;
};

#endif
