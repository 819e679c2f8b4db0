/* A naive model of a merged map: the whole of it as one value that merge_apply writes anew; and random patches to try
 * both with. Model and fold are compared as pairs, sorted, since the fold has an order of its own. */
#ifndef TESTS_UNIT_ACTORS_TOPIC_MERGE_MODEL_H
#define TESTS_UNIT_ACTORS_TOPIC_MERGE_MODEL_H

#include "clients/wire/merge.h"
#include "clients/wire/value.h"
#include "tests/unit/actors/topic/fold_model.h"

#define PATCH_SIZE_MAX 400000u
#define MERGE_KEYS 1000

struct whole {
    uint8_t *data; /* heap; NULL: nothing */
    size_t size;
};

static inline void whole_clear(struct whole *whole)
{
    free(whole->data);
    *whole = (struct whole){NULL, 0};
}

static inline struct whole whole_copy(const struct whole *whole)
{
    struct whole copy = {whole->size > 0 ? malloc(whole->size) : NULL, whole->size};
    if (copy.data != NULL)
        memcpy(copy.data, whole->data, copy.size);
    return copy;
}

static inline void whole_merge(struct whole *whole, struct view patch)
{
    size_t capacity = whole->size + patch.size + 16;
    struct whole merged = {malloc(capacity), 0};
    assert_int_equal(
        merge_apply(view_of(whole->data, whole->size), patch, VALUE_DEPTH_LIMIT, merged.data, capacity, &merged.size),
        WEIR_OK);
    free(whole->data);
    *whole = merged;
    if (merged.size == 1 && merged.data[0] == 0xc0)
        whole_clear(whole);
}

static inline struct view value_next(struct view *rest)
{
    size_t size;
    assert_int_equal(value_scan(*rest, VALUE_DEPTH_LIMIT, &size), WEIR_OK);
    struct view value = view_of(rest->data, size);
    *rest = view_of(rest->data + size, rest->size - size);
    return value;
}

static inline int view_compare(const void *a, const void *b)
{
    const struct view *left = a, *right = b;
    size_t size = left->size < right->size ? left->size : right->size;
    int order = size > 0 ? memcmp(left->data, right->data, size) : 0;
    return order ? order : (left->size > right->size) - (left->size < right->size);
}

static inline struct text views_text(struct view *views, size_t count)
{
    struct text text = {.pairs = count};
    if (count > 0)
        qsort(views, count, sizeof *views, view_compare);
    for (size_t i = 0; i < count; i++)
        text_append(&text, views[i]);
    free(views);
    return text;
}

/* The model's pairs as the fold is to have them: nil and a map of one for each member; of what is no map, nil and it.
 */
static inline struct text whole_text(const struct whole *whole)
{
    struct text raw = {.data = NULL};
    struct value_reader reader;
    value_reader_init(&reader, view_of(whole->data, whole->size), VALUE_DEPTH_LIMIT);
    uint32_t count = whole->size > 0 ? value_read_map(&reader) : 0;
    if (whole->size > 0 && reader.error) {
        text_append(&raw, view_text("\xc0"));
        text_append(&raw, view_of(whole->data, whole->size));
        raw.pairs = 1;
        return raw;
    }
    size_t *ends = calloc(count + 1, sizeof *ends);
    for (uint32_t i = 0; i < count; i++) {
        text_append(&raw, view_text("\xc0\x81"));
        text_append(&raw, value_read_any(&reader));
        text_append(&raw, value_read_any(&reader));
        ends[i + 1] = raw.size;
    }
    assert_int_equal(reader.error, WEIR_OK);
    struct view *views = calloc(count + 1, sizeof *views);
    for (uint32_t i = 0; i < count; i++)
        views[i] = view_of(raw.data + ends[i], ends[i + 1] - ends[i]);
    struct text text = views_text(views, count);
    free(ends);
    free(raw.data);
    return text;
}

/* Pairs of nil and a value, sorted. Takes raw. */
static inline struct text pairs_sorted(struct text raw)
{
    struct view *views = calloc(raw.pairs + 1, sizeof *views);
    struct view rest = view_of(raw.data, raw.size);
    for (size_t i = 0; i < raw.pairs; i++) {
        const uint8_t *start = rest.data;
        assert_int_equal(value_next(&rest).data[0], 0xc0);
        (void)value_next(&rest);
        views[i] = view_of(start, (size_t)(rest.data - start));
    }
    assert_int_equal(rest.size, 0);
    struct text text = views_text(views, raw.pairs);
    free(raw.data);
    return text;
}

static inline void assert_text_is(struct text a, struct text b)
{
    assert_int_equal(a.pairs, b.pairs);
    assert_int_equal(a.size, b.size);
    assert_true(a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
    free(a.data);
    free(b.data);
}

static inline void assert_fold_is(struct rig *rig, const struct whole *whole)
{
    struct fold_snapshot now;
    rig->fold.ops->capture(&rig->fold, &now);
    assert_text_is(pairs_sorted(snapshot_text(rig, &now, 4096)), whole_text(whole));
    rig->fold.ops->release(&rig->fold, &now);
}

/* ---------------------------------------------------------------------------------------------- patches */

/* Keys of all kinds, some long, some in two encodings: numbers that are near one another make the same key. */
static inline void key_write(struct value_writer *writer, uint64_t *random, uint32_t number)
{
    static const char filler[3000];
    char text[32];
    struct view name = view_of(text, (size_t)snprintf(text, sizeof text, "k%u", number));
    switch (number % 16) {
    case 0: value_write_uint(writer, number); return;
    case 1:
        if (random_next(random) % 2) { /* the same text, not in its shortest form */
            value_write_raw(writer, view_of("\xd9", 1));
            value_write_raw(writer, view_of(&(uint8_t){(uint8_t)name.size}, 1));
            value_write_raw(writer, name);
            return;
        }
        break;
    case 2: value_write_str(writer, view_of(filler, number % 64 == 2 ? 3000 : 40 + number)); return;
    case 3: value_write_nil(writer); return;
    case 4:
        value_write_map(writer, 1);
        value_write_uint(writer, number);
        value_write_nil(writer);
        return;
    case 5: value_write_raw(writer, view_of("\x05", 1)); return;
    case 6: value_write_str(writer, view_of("\x05", 1)); return;
    case 7: value_write_str(writer, view_of(text, 0)); return;
    default: break;
    }
    value_write_str(writer, name);
}

static inline void value_write_random(struct value_writer *writer, uint64_t *random, unsigned depth)
{
    static char filler[5000];
    uint64_t choice = random_next(random) % 100;
    if (choice < 20) {
        value_write_nil(writer);
    } else if (choice < 55 || depth == 0) {
        value_write_uint(writer, random_next(random) % 300);
    } else if (choice < 75) {
        memset(filler, 'a' + (int)(random_next(random) % 26), sizeof filler);
        value_write_str(writer, view_of(filler, choice < 73 ? random_next(random) % 150 : random_next(random) % 5000));
    } else if (choice < 80) {
        value_write_array(writer, 2);
        value_write_nil(writer);
        value_write_uint(writer, choice);
    } else {
        uint32_t count = (uint32_t)(random_next(random) % 4);
        value_write_map(writer, count);
        for (uint32_t i = 0; i < count; i++) {
            key_write(writer, random, (uint32_t)(random_next(random) % 24));
            value_write_random(writer, random, depth - 1);
        }
    }
}

/* A patch that names up to `most` of `keys` members, some perhaps twice; now and then one that is no map. */
static inline struct view patch_random(uint8_t *out, uint64_t *random, uint32_t keys, uint32_t most)
{
    struct value_writer writer;
    value_writer_init(&writer, out, PATCH_SIZE_MAX);
    if (random_next(random) % 400 == 0) {
        value_write_random(&writer, random, 2);
    } else {
        uint32_t count = (uint32_t)(random_next(random) % (most + 1));
        value_write_map(&writer, count);
        for (uint32_t i = 0; i < count; i++) {
            key_write(&writer, random, (uint32_t)(random_next(random) % keys));
            value_write_random(&writer, random, 3);
        }
    }
    assert_false(writer.is_full);
    return view_of(out, writer.size);
}

#endif
