/* What a map knows of its changes: read since a seq; and that it gives memory back. */
#include "tests/unit/actors/topic/map_model.h"

#include "actors/topic/topic_limits.h"

/* Somebody who knew the map as it was at seq, and has heard nothing since. */
struct knower {
    struct model *model;
    uint64_t seq;
};

static void knower_learn(struct rig *rig, struct knower *knower, const struct model *model)
{
    model_clear(knower->model);
    for (uint32_t i = 0; i < KEYS; i++)
        if (model->pairs[i])
            model_set(knower->model, i, model->pairs[i], model->key_sizes[i], model->sizes[i]);
    knower->seq = rig->ring.seq_last;
}

static uint32_t key_of_pair(const uint8_t *pair, size_t key_size)
{
    char text[64];
    size_t head = pair[0] == 0xd9 ? 2 : 1;
    memcpy(text, pair + head, key_size - head);
    text[key_size - head] = 0;
    return (uint32_t)strtoul(text + strcspn(text, "0123456789"), NULL, 10);
}

/* Lays over what it knew what the fold says has changed, and then must know the same as the model. */
static void knower_catch_up(struct rig *rig, struct knower *knower, const struct model *model, size_t size_max)
{
    struct fold_snapshot snapshot;
    struct fold_cursor cursor = {.since = knower->seq};
    struct fold_run run;
    enum weir_error error;
    assert_true(rig->fold.ops->knows_since(&rig->fold, knower->seq));
    rig->fold.ops->capture(&rig->fold, &snapshot);
    while ((error = rig->fold.ops->read(&rig->fold, &snapshot, &cursor, size_max, &run)) == WEIR_OK) {
        const uint8_t *pair = (uint8_t *)arena_data(rig->arena, run.pairs.block) + run.pairs.offset;
        for (const uint8_t *end = pair + run.pairs.size; pair < end;) {
            size_t key_size = value_size_at(pair);
            size_t value_size = pair[key_size] == 0xc0 ? 1 : value_size_at(pair + key_size);
            model_set(knower->model, key_of_pair(pair, key_size), pair, key_size, key_size + value_size);
            pair += key_size + value_size;
        }
    }
    assert_int_equal(error, WEIR_AGAIN);
    rig->fold.ops->release(&rig->fold, &snapshot);
    assert_same_text(model_text(knower->model), model_text(model));
    knower->seq = rig->ring.seq_last;
}

static int change_compare(const void *a, const void *b)
{
    const struct fold_change *left = a, *right = b;
    return (left->seq > right->seq) - (left->seq < right->seq);
}

/* All changes up to now, as many at a time as there is room for. */
static struct fold_changes changes_gather(struct rig *rig, uint64_t since, uint32_t count_max)
{
    struct fold_change *all = calloc(KEYS + count_max, sizeof *all);
    struct fold_changes changes = {.items = all, .count_max = count_max, .seq_max = rig->ring.seq_last};
    struct fold_cursor cursor = {.since = since};
    struct fold_snapshot snapshot;
    enum weir_error error;
    rig->fold.ops->capture(&rig->fold, &snapshot);
    while ((error = rig->fold.ops->newer(&rig->fold, &snapshot, &cursor, &changes)) == WEIR_OK) {
        changes.items += changes.count;
        changes.count = 0;
        assert_true(changes.items <= all + KEYS);
    }
    assert_int_equal(error, WEIR_AGAIN);
    rig->fold.ops->release(&rig->fold, &snapshot);
    changes.count += (uint32_t)(changes.items - all);
    changes.items = all;
    qsort(all, changes.count, sizeof *all, change_compare);
    return changes;
}

static void knower_set(struct knower *knower, struct rig *rig, const struct fold_run *run)
{
    const uint8_t *pair = (uint8_t *)arena_data(rig->arena, run->pairs.block) + run->pairs.offset;
    size_t key_size = value_size_at(pair);
    assert_int_equal(run->count, 1);
    model_set(knower->model, key_of_pair(pair, key_size), pair, key_size, run->pairs.size);
}

/* The same by seq. */
static void knower_follow(struct rig *rig, struct knower *knower, const struct model *model, uint32_t count_max)
{
    struct fold_changes changes = changes_gather(rig, knower->seq, count_max);
    struct fold_run run;
    for (uint32_t i = 0; i <= changes.count; i++) {
        uint64_t seq = i < changes.count ? changes.items[i].seq : UINT64_MAX;
        while (rig->fold.ops->deleted_after(&rig->fold, knower->seq, &run) == WEIR_OK && run.seq < seq) {
            assert_true(run.seq > knower->seq);
            knower_set(knower, rig, &run);
            knower->seq = run.seq;
        }
        if (i == changes.count)
            break;
        assert_int_equal(rig->fold.ops->change_at(&rig->fold, &changes.items[i], &run), WEIR_OK);
        assert_true(run.seq == seq && seq > knower->seq);
        knower_set(knower, rig, &run);
        knower->seq = seq;
    }
    assert_int_equal(knower->seq, rig->ring.seq_last); /* the newest record has not been replaced */
    assert_same_text(model_text(knower->model), model_text(model));
    free(changes.items);
}

static void what_changed_since_a_seq_is_all_that_is_read_since_it(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct rig rig;
        uint64_t random = seed;
        struct model *model = calloc(1, sizeof *model);
        struct knower knower = {.model = calloc(1, sizeof *model)};
        uint32_t keys = seed % 2 ? KEYS : 60;
        print_message("seed %lu\n", (unsigned long)seed);
        rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = 65536});
        random_record(&rig, model, &random, keys);
        knower_learn(&rig, &knower, model);
        for (int step = 0; step < 8000; step++) {
            random_record(&rig, model, &random, keys);
            uint64_t choice = random_next(&random) % 150;
            if (choice == 1)
                knower_follow(&rig, &knower, model, 400 + random_next(&random) % 5000);
            if (choice == 0)
                knower_catch_up(&rig, &knower, model, 1 + random_next(&random) % 5000);
        }
        knower_catch_up(&rig, &knower, model, 4096);
        model_clear(model);
        model_clear(knower.model);
        free(knower.model);
        free(model);
        rig_close(&rig);
    }
}

static void set_and_delete(struct rig *rig, uint32_t first, uint32_t count)
{
    uint8_t key[64];
    for (uint32_t i = first; i < first + count; i++)
        assert_int_equal(rig_apply(rig, view_of(key, key_encode(key, i)), view_text("\x01")), WEIR_OK);
    for (uint32_t i = first; i < first + count; i++)
        assert_int_equal(rig_apply(rig, view_of(key, key_encode(key, i)), view_text("\xc0")), WEIR_OK);
}

static void what_was_deleted_long_ago_is_forgotten_and_said_so(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP});
    uint8_t key[64];
    assert_int_equal(rig_apply(&rig, view_of(key, key_encode(key, 0)), view_text("\x01")), WEIR_OK);
    set_and_delete(&rig, 1, 1000);
    assert_true(rig.fold.ops->knows_since(&rig.fold, 1));
    struct fold_snapshot snapshot;
    rig.fold.ops->capture(&rig.fold, &snapshot);
    struct fold_cursor cursor = {.since = 1};
    struct fold_run run;
    assert_int_equal(rig.fold.ops->read(&rig.fold, &snapshot, &cursor, 100, &run), WEIR_OK);
    set_and_delete(&rig, 1001, 100000);
    assert_false(rig.fold.ops->knows_since(&rig.fold, 1));
    assert_true(rig.fold.ops->knows_since(&rig.fold, rig.ring.seq_last - 1000));
    assert_true(rig.fold.as.map.deleted.bytes <= MAP_DELETED_BYTES_MAX);
    /* Whoever was reading hears of it rather than miss a deletion. */
    assert_int_equal(rig.fold.ops->read(&rig.fold, &snapshot, &cursor, 100, &run), WEIR_STALE);
    rig.fold.ops->release(&rig.fold, &snapshot);
    rig_close(&rig);
}

static size_t state_memory(struct rig *rig)
{
    struct budget_usage usage;
    while (fold_sweep(&rig->fold, UINT32_MAX))
        ;
    budget_usage(rig->budget, &usage);
    return usage.bytes_used - rig->ring.bytes - rig->fold.as.map.deleted.bytes;
}

static void deleted_keys_give_their_memory_back(void **state)
{
    (void)state;
    struct rig rig;
    uint8_t key[64], value[102];
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = 65536});
    size_t empty = state_memory(&rig);
    value[0] = 0xd9;
    value[1] = 100;
    memset(value + 2, 'v', 100);
    for (uint32_t i = 0; i < 50000; i++)
        assert_int_equal(rig_apply(&rig, view_of(key, key_encode(key, i)), view_of(value, sizeof value)), WEIR_OK);
    size_t full = state_memory(&rig);
    print_message("%.1f bytes a key beyond key and value\n", (double)(full - rig.fold.bytes) / 50000);
    assert_true(full - rig.fold.bytes <= 48u * 50000);
    for (uint32_t i = 0; i < 45000; i++)
        assert_int_equal(rig_apply(&rig, view_of(key, key_encode(key, i)), view_text("\xc0")), WEIR_OK);
    size_t tenth = state_memory(&rig);
    assert_true(tenth < full / 4);
    for (uint32_t i = 45000; i < 50000; i++)
        assert_int_equal(rig_apply(&rig, view_of(key, key_encode(key, i)), view_text("\xc0")), WEIR_OK);
    /* What is left are the tables of pages of the ring and of the deleted keys. */
    print_message("%zu bytes left\n", state_memory(&rig) - empty);
    assert_true(state_memory(&rig) - empty < 16384);
    rig_close(&rig);
}

static void a_key_can_be_deleted_though_memory_is_used_up(void **state)
{
    (void)state;
    struct rig rig;
    struct budget_usage usage;
    uint8_t key[64], value[102] = {0xd9, 100};
    uint32_t count = 0;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP});
    budget_limit_set(rig.budget, 1 << 20);
    while (rig_apply(&rig, view_of(key, key_encode(key, count)), view_of(value, sizeof value)) == WEIR_OK)
        count++;
    assert_true(count > 1000);
    /* Others use what it gives up, and its ring too. */
    ring_shrink(&rig.ring, 0);
    budget_usage(rig.budget, &usage);
    budget_limit_set(rig.budget, usage.bytes_used);
    assert_int_equal(rig_apply(&rig, view_of(key, key_encode(key, count)), view_of(value, sizeof value)),
                     WEIR_NO_MEMORY);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(rig_apply(&rig, view_of(key, key_encode(key, i)), view_text("\xc0")), WEIR_OK);
        budget_usage(rig.budget, &usage);
        budget_limit_set(rig.budget, usage.bytes_used ? usage.bytes_used : 1);
    }
    assert_int_equal(rig.fold.entries, 0);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_changed_since_a_seq_is_all_that_is_read_since_it),
        cmocka_unit_test(what_was_deleted_long_ago_is_forgotten_and_said_so),
        cmocka_unit_test(deleted_keys_give_their_memory_back),
        cmocka_unit_test(a_key_can_be_deleted_though_memory_is_used_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
