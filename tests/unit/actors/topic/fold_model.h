/* What the tests of folds share: a fold on a ring as the topic uses it, and a naive model to compare it with. */
#ifndef TESTS_UNIT_ACTORS_TOPIC_FOLD_MODEL_H
#define TESTS_UNIT_ACTORS_TOPIC_FOLD_MODEL_H

#include "actors/topic/fold.h"
#include "actors/topic/ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

struct rig {
    struct arena *arena;
    struct budget *budget;
    struct topic_rule rule;
    struct fold fold;
    struct ring ring;
    uint32_t now_ms;
};

static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline void rig_open(struct rig *rig, struct topic_rule rule)
{
    *rig = (struct rig){.rule = rule};
    assert_int_equal(arena_create(&(struct arena_config){.bytes_max = (size_t)512 << 20}, &rig->arena), WEIR_OK);
    assert_int_equal(budget_create(NULL, "fold", 0, &rig->budget), WEIR_OK);
    fold_init(&rig->fold, &rig->rule, rig->arena, rig->budget, 42);
    ring_init(&rig->ring, rig->arena, rig->budget, rule.retain_count_max, rule.retain_bytes_max,
              rig->fold.ops->alone_size);
}

static inline void rig_close(struct rig *rig)
{
    fold_fini(&rig->fold);
    ring_fini(&rig->ring);
    struct arena_usage usage;
    arena_usage(rig->arena, &usage);
    assert_int_equal(usage.blocks_live, 0);
    assert_int_equal(usage.stale, 0);
    arena_thread_flush(rig->arena);
    budget_destroy(&rig->budget);
    arena_destroy(&rig->arena);
}

/* Encoded str of at most 65,535 bytes. */
static inline size_t encode_str(uint8_t *out, const char *text, size_t size)
{
    size_t head = 0;
    if (size < 32) {
        out[head++] = (uint8_t)(0xa0 | size);
    } else if (size < 256) {
        out[head++] = 0xd9;
        out[head++] = (uint8_t)size;
    } else {
        out[head++] = 0xda;
        out[head++] = (uint8_t)(size >> 8);
        out[head++] = (uint8_t)size;
    }
    memcpy(out + head, text, size);
    return head + size;
}

static inline enum weir_error rig_apply(struct rig *rig, struct view key, struct view value)
{
    struct cell cell;
    enum weir_error error = ring_reserve(&rig->ring, key, value, rig->now_ms, &cell);
    if (error)
        return error;
    if (rig->fold.ops->prepare && key.size)
        rig->fold.ops->prepare(&rig->fold, &key, 1);
    error = rig->fold.ops->apply(&rig->fold, &cell);
    if (error)
        ring_cancel(&rig->ring);
    else
        ring_commit(&rig->ring, &cell);
    return error;
}

/* A string of pairs, heap. */
struct text {
    uint8_t *data;
    size_t size, pairs, capacity;
};

static inline void text_append(struct text *text, struct view bytes)
{
    if (text->size + bytes.size > text->capacity) {
        text->capacity = 2 * (text->size + bytes.size);
        text->data = realloc(text->data, text->capacity);
        assert_non_null(text->data);
    }
    memcpy(text->data + text->size, bytes.data, bytes.size);
    text->size += bytes.size;
}

static inline struct text snapshot_text(struct rig *rig, const struct fold_snapshot *snapshot, size_t size_max)
{
    struct text text = {.data = NULL};
    struct fold_cursor cursor = {.done = 0};
    struct fold_run run;
    enum weir_error error;
    while ((error = rig->fold.ops->read(&rig->fold, snapshot, &cursor, size_max, &run)) == WEIR_OK) {
        if (run.count == 0)
            continue;
        assert_true(run.count == 1 || run.pairs.size <= size_max);
        const uint8_t *data = arena_data(rig->arena, run.pairs.block);
        assert_non_null(data);
        text_append(&text, view_of(data + run.pairs.offset, run.pairs.size));
        text.pairs += run.count;
    }
    assert_int_equal(error, WEIR_AGAIN);
    assert_int_equal(text.pairs, snapshot->entries);
    assert_int_equal(text.size, snapshot->bytes);
    return text;
}

#endif
