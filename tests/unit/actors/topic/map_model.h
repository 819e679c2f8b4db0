/* A naive model of a map, and records to try both with. */
#ifndef TESTS_UNIT_ACTORS_TOPIC_MAP_MODEL_H
#define TESTS_UNIT_ACTORS_TOPIC_MAP_MODEL_H

#include "tests/unit/actors/topic/fold_model.h"

#define KEYS 3000

struct model {
    uint8_t *pairs[KEYS];
    size_t sizes[KEYS], key_sizes[KEYS];
    size_t bytes, entries;
};

static inline size_t key_encode(uint8_t *out, uint32_t key)
{
    char text[64];
    /* Some keys are long enough for the other forms of str. */
    int size = snprintf(text, sizeof text, key % 7 ? "key/%u" : "a key with a much longer name than most %u", key);
    return encode_str(out, text, (size_t)size);
}

static inline void model_set(struct model *model, uint32_t key, const uint8_t *pair, size_t key_size, size_t size)
{
    if (model->pairs[key]) {
        model->bytes -= model->sizes[key];
        model->entries--;
        free(model->pairs[key]);
        model->pairs[key] = NULL;
    }
    if (size == key_size + 1 && pair[key_size] == 0xc0)
        return;
    model->pairs[key] = malloc(size);
    assert_non_null(model->pairs[key]);
    memcpy(model->pairs[key], pair, size);
    model->sizes[key] = size;
    model->key_sizes[key] = key_size;
    model->bytes += size;
    model->entries++;
}

static inline int text_compare(const void *a, const void *b)
{
    const struct view *left = a, *right = b;
    size_t size = left->size < right->size ? left->size : right->size;
    int order = memcmp(left->data, right->data, size);
    return order ? order : (left->size > right->size) - (left->size < right->size);
}

/* The pairs sorted and joined: the same for the same contents in any order. */
static inline struct text model_text(const struct model *model)
{
    struct view *views = calloc(KEYS, sizeof *views);
    size_t count = 0;
    for (uint32_t i = 0; i < KEYS; i++)
        if (model->pairs[i])
            views[count++] = view_of(model->pairs[i], model->sizes[i]);
    qsort(views, count, sizeof *views, text_compare);
    struct text text = {.pairs = count};
    for (size_t i = 0; i < count; i++)
        text_append(&text, views[i]);
    free(views);
    return text;
}

static inline size_t value_size_at(const uint8_t *value)
{
    return value[0] == 0xda   ? 3 + ((size_t)value[1] << 8 | value[2])
           : value[0] == 0xd9 ? 2u + value[1]
                              : 1u + (value[0] & 0x1f);
}

static inline struct text text_sorted(struct text raw)
{
    struct view *views = calloc(raw.pairs + 1, sizeof *views);
    size_t at = 0;
    for (size_t i = 0; i < raw.pairs; i++) {
        size_t key_size = value_size_at(raw.data + at);
        size_t size = key_size + value_size_at(raw.data + at + key_size);
        views[i] = view_of(raw.data + at, size);
        at += size;
    }
    assert_int_equal(at, raw.size);
    qsort(views, raw.pairs, sizeof *views, text_compare);
    struct text text = {.pairs = raw.pairs};
    for (size_t i = 0; i < raw.pairs; i++)
        text_append(&text, views[i]);
    free(views);
    free(raw.data);
    return text;
}

static inline void assert_same_text(struct text a, struct text b)
{
    assert_int_equal(a.pairs, b.pairs);
    assert_int_equal(a.size, b.size);
    assert_true(a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
    free(a.data);
    free(b.data);
}

static inline void random_record(struct rig *rig, struct model *model, uint64_t *random, uint32_t keys)
{
    static char filler[5000];
    uint8_t pair[6000];
    uint32_t key = (uint32_t)(random_next(random) % keys);
    size_t key_size = key_encode(pair, key);
    size_t size = key_size;
    uint64_t choice = random_next(random) % 100;
    memset(filler, 'a' + (int)(random_next(random) % 26), sizeof filler);
    if (choice < 20)
        pair[size++] = 0xc0;
    else if (choice < 95)
        size += encode_str(pair + size, filler, random_next(random) % 200);
    else
        size += encode_str(pair + size, filler, 900 + random_next(random) % 4000);
    assert_int_equal(rig_apply(rig, view_of(pair, key_size), view_of(pair + key_size, size - key_size)), WEIR_OK);
    model_set(model, key, pair, key_size, size);
    assert_int_equal(rig->fold.bytes, model->bytes);
    assert_int_equal(rig->fold.entries, model->entries);
}

static inline void model_clear(struct model *model)
{
    for (uint32_t i = 0; i < KEYS; i++)
        free(model->pairs[i]);
    *model = (struct model){.bytes = 0};
}

#endif
