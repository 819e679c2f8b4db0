/* The map fold against a naive model, with snapshots held across writes. */
#include "tests/unit/actors/topic/map_model.h"

#include "actors/base/assert.h"
#include "actors/topic/topic_limits.h"

#define HELD 3

/* A block of a snapshot may be on its way to a socket: such a hold must keep its bytes too. */
struct flight {
    weir_msg block;
    uint32_t offset, size;
    uint8_t *copy;
};

static void flight_start(struct rig *rig, struct flight *flight, uint64_t *random)
{
    struct fold_snapshot snapshot;
    struct fold_cursor cursor = {.done = 0};
    struct fold_run run;
    rig->fold.ops->capture(&rig->fold, &snapshot);
    uint64_t skip = random_next(random) % 20;
    while (rig->fold.ops->read(&rig->fold, &snapshot, &cursor, 700, &run) == WEIR_OK) {
        if (skip-- > 0)
            continue;
        assert_int_equal(arena_hold(rig->arena, run.pairs.block), WEIR_OK);
        *flight = (struct flight){run.pairs.block, run.pairs.offset, run.pairs.size, malloc(run.pairs.size)};
        memcpy(flight->copy, (uint8_t *)arena_data(rig->arena, flight->block) + flight->offset, flight->size);
        break;
    }
    rig->fold.ops->release(&rig->fold, &snapshot);
}

static void flight_end(struct rig *rig, struct flight *flight)
{
    if (flight->copy == NULL)
        return;
    uint8_t *data = arena_data(rig->arena, flight->block);
    assert_non_null(data);
    assert_memory_equal(data + flight->offset, flight->copy, flight->size);
    arena_drop(rig->arena, flight->block);
    free(flight->copy);
    flight->copy = NULL;
}

static void run_seed(uint64_t seed)
{
    struct rig rig;
    struct model *model = calloc(1, sizeof *model);
    struct fold_snapshot held[HELD] = {{.entries = 0}};
    struct text expected[HELD] = {{.data = NULL}};
    bool is_held[HELD] = {false};
    struct flight flight = {.copy = NULL};
    uint64_t random = seed;
    uint32_t keys = seed % 3 == 0 ? KEYS : 40;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = 65536});
    for (int step = 0; step < 6000; step++) {
        random_record(&rig, model, &random, keys);
        uint64_t slot = random_next(&random) % (HELD * 40);
        if (slot < HELD && is_held[slot]) {
            assert_same_text(text_sorted(snapshot_text(&rig, &held[slot], 1 + random_next(&random) % 5000)),
                             expected[slot]);
            rig.fold.ops->release(&rig.fold, &held[slot]);
            is_held[slot] = false;
        } else if (slot < HELD) {
            rig.fold.ops->capture(&rig.fold, &held[slot]);
            expected[slot] = model_text(model);
            is_held[slot] = true;
        } else if (slot == HELD) {
            flight_end(&rig, &flight);
            flight_start(&rig, &flight, &random);
        } else if (slot == HELD + 1 && random_next(&random) % 10 == 0) {
            rig.fold.ops->clear(&rig.fold);
            model_clear(model);
        }
    }
    for (int i = 0; i < HELD; i++) {
        if (!is_held[i])
            continue;
        assert_same_text(text_sorted(snapshot_text(&rig, &held[i], 4096)), expected[i]);
        rig.fold.ops->release(&rig.fold, &held[i]);
    }
    flight_end(&rig, &flight);
    model_clear(model);
    free(model);
    rig_close(&rig);
}

static void map_agrees_with_a_naive_model_and_snapshots_never_change(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        print_message("seed %lu\n", (unsigned long)seed);
        run_seed(seed);
    }
}

static void map_refuses_records_without_key(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP});
    assert_int_equal(rig_apply(&rig, view_of(NULL, 0), view_of("\x01", 1)), WEIR_BAD_REQUEST);
    assert_int_equal(rig.ring.seq_last, 0);
    rig_close(&rig);
}

static void map_refuses_what_goes_beyond_its_bytes(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP, .state_bytes_max = 8});
    assert_int_equal(rig_apply(&rig,
                               view_text("\xa1"
                                         "a"),
                               view_text("\xa3"
                                         "xyz")),
                     WEIR_OK);
    assert_int_equal(rig_apply(&rig,
                               view_text("\xa1"
                                         "b"),
                               view_text("\xa3"
                                         "xyz")),
                     WEIR_TOO_BIG);
    assert_int_equal(rig_apply(&rig,
                               view_text("\xa1"
                                         "a"),
                               view_text("\xa5"
                                         "vwxyz")),
                     WEIR_OK);
    assert_int_equal(rig_apply(&rig,
                               view_text("\xa1"
                                         "a"),
                               view_text("\xa6"
                                         "uvwxyz")),
                     WEIR_TOO_BIG);
    assert_int_equal(rig.fold.bytes, 8);
    assert_int_equal(rig_apply(&rig,
                               view_text("\xa1"
                                         "a"),
                               view_text("\xc0")),
                     WEIR_OK);
    assert_int_equal(rig.fold.entries, 0);
    assert_int_equal(rig.ring.seq_last, 3);
    rig_close(&rig);
}

static void two_encodings_of_one_text_are_one_key(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP});
    assert_int_equal(rig_apply(&rig,
                               view_text("\xa1"
                                         "a"),
                               view_text("\x01")),
                     WEIR_OK);
    assert_int_equal(rig_apply(&rig,
                               view_text("\xd9\x01"
                                         "a"),
                               view_text("\x02")),
                     WEIR_OK);
    assert_int_equal(rig.fold.entries, 1);
    struct fold_snapshot snapshot;
    struct fold_run run;
    rig.fold.ops->capture(&rig.fold, &snapshot);
    assert_int_equal(rig.fold.ops->find(&rig.fold, &snapshot,
                                        view_of("\xda\x00\x01"
                                                "a",
                                                4),
                                        &run),
                     WEIR_OK);
    assert_int_equal(rig.fold.ops->find(&rig.fold, &snapshot,
                                        view_text("\xa1"
                                                  "a"),
                                        &run),
                     WEIR_OK);
    assert_int_equal(run.pairs.size, 4);
    rig.fold.ops->release(&rig.fold, &snapshot);
    rig_close(&rig);
}

static void map_finds_each_of_many_keys(void **state)
{
    (void)state;
    struct rig rig;
    uint8_t key[64];
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP});
    for (uint32_t i = 0; i < 100000; i++)
        assert_int_equal(rig_apply(&rig, view_of(key, key_encode(key, i)),
                                   view_text("\xa2"
                                             "ab")),
                         WEIR_OK);
    struct fold_snapshot snapshot;
    rig.fold.ops->capture(&rig.fold, &snapshot);
    assert_int_equal(snapshot.entries, 100000);
    for (uint32_t i = 0; i < 100000; i++) {
        struct fold_run run;
        size_t size = key_encode(key, i);
        assert_int_equal(rig.fold.ops->find(&rig.fold, &snapshot, view_of(key, size), &run), WEIR_OK);
        assert_int_equal(run.pairs.size, size + 3);
    }
    rig.fold.ops->release(&rig.fold, &snapshot);
    rig_close(&rig);
}

static void a_refused_allocation_leaves_the_map_as_it_was(void **state)
{
    (void)state;
    struct rig rig;
    uint64_t random = 7;
    struct model *model = calloc(1, sizeof *model);
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = 8192});
    for (int i = 0; i < 1000; i++)
        random_record(&rig, model, &random, KEYS);
    struct fold_snapshot snapshot;
    rig.fold.ops->capture(&rig.fold, &snapshot);
    struct text before = text_sorted(snapshot_text(&rig, &snapshot, 4096));
    struct budget_usage usage;
    budget_usage(rig.budget, &usage);
    size_t refused = 0;
    for (size_t extra = 0; extra < 12000; extra += 64) {
        budget_limit_set(rig.budget, usage.bytes_used + extra);
        uint8_t key[64];
        size_t size = key_encode(key, (uint32_t)(random_next(&random) % KEYS));
        enum weir_error error = rig_apply(&rig, view_of(key, size),
                                          view_text("\xa9"
                                                    "refused?!"));
        if (error) {
            assert_int_equal(error, WEIR_NO_MEMORY);
            refused++;
        } else {
            uint8_t pair[128];
            memcpy(pair, key, size);
            memcpy(pair + size,
                   "\xa9"
                   "refused?!",
                   10);
            uint32_t index = 0;
            uint8_t other[64];
            while (key_encode(other, index) != size || memcmp(other, key, size) != 0)
                index++;
            model_set(model, index, pair, size, size + 10);
        }
        struct fold_snapshot now;
        rig.fold.ops->capture(&rig.fold, &now);
        assert_same_text(text_sorted(snapshot_text(&rig, &now, 4096)), model_text(model));
        rig.fold.ops->release(&rig.fold, &now);
    }
    assert_true(refused > 0);
    budget_limit_set(rig.budget, 0);
    assert_same_text(text_sorted(snapshot_text(&rig, &snapshot, 4096)), before);
    rig.fold.ops->release(&rig.fold, &snapshot);
    model_clear(model);
    free(model);
    rig_close(&rig);
}

/* Pages that the same records make while so many snapshots are out, of one moment or of moments between them. */
static uint64_t built_under(unsigned snapshots)
{
    enum { COUNT = 2000, UPDATES = 500 };
    struct rig rig;
    struct fold_snapshot held[4];
    uint8_t key[64];
    assert_true(snapshots <= COUNT_OF(held));
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = 65536});
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(rig_apply(&rig, view_of(key, key_encode(key, i)), view_text("\x01")), WEIR_OK);
    for (unsigned i = 0; i < snapshots; i++)
        rig.fold.ops->capture(&rig.fold, &held[i]);
    uint64_t before = rig.fold.pages_built;
    for (uint32_t i = 0; i < UPDATES; i++)
        assert_int_equal(rig_apply(&rig, view_of(key, key_encode(key, i % 20)), view_text("\x02")), WEIR_OK);
    uint64_t built = rig.fold.pages_built - before;
    for (unsigned i = 0; i < snapshots; i++)
        rig.fold.ops->release(&rig.fold, &held[i]);
    rig_close(&rig);
    return built;
}

static void an_update_copies_a_page_once_and_only_under_a_snapshot(void **state)
{
    (void)state;
    uint64_t one = built_under(1);
    assert_int_equal(built_under(0), 0);
    assert_true(one > 0 && one <= 20); /* of 500 updates of 20 keys */
    assert_int_equal(built_under(4), one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_agrees_with_a_naive_model_and_snapshots_never_change),
        cmocka_unit_test(map_refuses_records_without_key),
        cmocka_unit_test(map_refuses_what_goes_beyond_its_bytes),
        cmocka_unit_test(two_encodings_of_one_text_are_one_key),
        cmocka_unit_test(map_finds_each_of_many_keys),
        cmocka_unit_test(a_refused_allocation_leaves_the_map_as_it_was),
        cmocka_unit_test(an_update_copies_a_page_once_and_only_under_a_snapshot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
