/* A map gives back piece by piece what snapshots and clearing left behind. */
#include "tests/unit/actors/topic/map_model.h"

#include "actors/topic/map_leaf.h"
#include "actors/topic/topic_limits.h"

#define MANY 20000
/* Blocks of a leaf's size that go from a thread to their slabs at once, and so may all be the last in theirs. */
#define RETURNS_BEYOND 8

static size_t blocks_live(struct rig *rig)
{
    struct arena_usage usage;
    arena_usage(rig->arena, &usage);
    return usage.blocks_live;
}

static void set_many(struct rig *rig, size_t value_size)
{
    uint8_t key[64], value[2048];
    static const char filler[2000];
    size_t size = encode_str(value, filler, value_size);
    for (uint32_t i = 0; i < MANY; i++)
        assert_int_equal(rig_apply(rig, view_of(key, key_encode(key, i)), view_of(value, size)), WEIR_OK);
}

/* Sweeps to the end; no call gives back more blocks than its steps are for and a leaf, with the large pairs in it. The
 * last leaf of a segment takes that with it, the last of all the root too. */
static size_t sweep_all(struct rig *rig, uint32_t steps, size_t large_max)
{
    size_t calls = 0, blocks_max = steps / MAP_SWEEP_FREE_STEPS + 1;
    bool has_more = true;
    rig->fold.as.map.copied = 0; /* or the first call may do more */
    while (has_more) {
        size_t before = blocks_live(rig);
        has_more = fold_sweep(&rig->fold, steps);
        assert_true(before - blocks_live(rig) <= blocks_max * 2 + large_max + 1);
        assert_true(++calls < 100000);
    }
    return calls;
}

static void a_released_snapshot_is_given_back_in_bounded_pieces(void **state)
{
    (void)state;
    struct rig rig;
    struct fold_snapshot snapshot;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = 8192});
    set_many(&rig, 100);
    size_t live = blocks_live(&rig);
    rig.fold.ops->capture(&rig.fold, &snapshot);
    set_many(&rig, 100);
    size_t both = blocks_live(&rig);
    assert_true(both > live + live / 2);
    rig.fold.ops->release(&rig.fold, &snapshot);
    assert_int_equal(blocks_live(&rig), both);
    assert_true(sweep_all(&rig, 160, 0) > 10);
    assert_int_equal(blocks_live(&rig), live);
    assert_int_equal(rig.fold.entries, MANY);
    rig_close(&rig);
}

static void a_single_step_at_a_time_comes_to_the_end_too(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = 8192});
    set_many(&rig, 100);
    rig.fold.ops->clear(&rig.fold);
    assert_true(sweep_all(&rig, 1, 0) > 100);
    assert_true(blocks_live(&rig) <= rig.ring.tail - rig.ring.head + 1);
    rig_close(&rig);
}

static void clearing_a_map_of_large_pairs_is_bounded_too(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = 65536});
    set_many(&rig, 1100);
    size_t full = blocks_live(&rig);
    assert_true(full > MANY);
    rig.fold.ops->clear(&rig.fold);
    assert_true(blocks_live(&rig) + 1000 > full);
    assert_true(sweep_all(&rig, 64, MAP_LEAF_SIZE_MAX / sizeof(struct leaf_large)) > 10);
    assert_true(blocks_live(&rig) <= rig.ring.tail - rig.ring.head + 1);
    rig_close(&rig);
}

static void clearing_gives_few_slabs_back_to_the_system_in_one_piece(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = 8192});
    set_many(&rig, 1000);
    rig.fold.ops->clear(&rig.fold);
    rig.fold.as.map.copied = 0;
    uint64_t start = arena_returns(rig.arena), before = start;
    bool has_more = true;
    for (int calls = 0; has_more; calls++) {
        has_more = fold_sweep(&rig.fold, TOPIC_SWEEP_STEPS);
        uint64_t now = arena_returns(rig.arena);
        /* A leaf was the last of a slab, and with it the thread gives back as many free blocks as it keeps. */
        assert_true(now - before <= MAP_SWEEP_RETURNS_MAX + RETURNS_BEYOND);
        before = now;
        assert_true(calls < 100000);
    }
    struct arena_usage usage;
    arena_usage(rig.arena, &usage);
    print_message("%lu slabs went back, %zu bytes are kept\n", (unsigned long)(before - start), usage.bytes_committed);
    rig_close(&rig);
}

static void memory_that_waits_to_be_given_back_refuses_no_record(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = 8192});
    set_many(&rig, 100);
    rig.fold.ops->clear(&rig.fold);
    struct budget_usage usage;
    budget_usage(rig.budget, &usage);
    /* As if all that is dead were in the way: room for the ring's pages only. */
    budget_limit_set(rig.budget, usage.bytes_used + 16384);
    set_many(&rig, 100);
    assert_int_equal(rig.fold.entries, MANY);
    budget_limit_set(rig.budget, 0);
    rig_close(&rig);
}

static void however_fast_snapshots_come_and_go_few_wait_to_be_given_back(void **state)
{
    (void)state;
    struct rig rig;
    uint8_t key[64];
    uint64_t random = 1;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = 8192});
    set_many(&rig, 100);
    size_t live = blocks_live(&rig), most = live;
    for (int turn = 0; turn < 1000; turn++) {
        struct fold_snapshot snapshot;
        rig.fold.ops->capture(&rig.fold, &snapshot);
        for (int i = 0; i < 100; i++) {
            size_t size = key_encode(key, (uint32_t)(random_next(&random) % MANY));
            assert_int_equal(rig_apply(&rig, view_of(key, size), view_text("\x01")), WEIR_OK);
        }
        rig.fold.ops->release(&rig.fold, &snapshot);
        (void)fold_sweep(&rig.fold, TOPIC_SWEEP_STEPS);
        most = blocks_live(&rig) > most ? blocks_live(&rig) : most;
    }
    /* A turn leaves 100 leaves and some segments. */
    print_message("%zu blocks at first, %zu at most\n", live, most);
    assert_true(most < live + 8 * 200);
    rig_close(&rig);
}

/* Snapshots come and go among random records while dead roots are swept a few steps at a time; run_seed of map_test has
 * the same without sweeping. */
static void sweeping_touches_nothing_that_lives(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct rig rig;
        struct model *model = calloc(1, sizeof *model);
        struct fold_snapshot held;
        struct text expected = {.data = NULL};
        bool is_held = false;
        uint64_t random = seed;
        print_message("seed %lu\n", (unsigned long)seed);
        rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP, .retain_bytes_max = 65536});
        for (int step = 0; step < 6000; step++) {
            random_record(&rig, model, &random, seed % 2 ? KEYS : 40);
            uint64_t choice = random_next(&random) % 60;
            if (choice < 20)
                (void)fold_sweep(&rig.fold, 1 + (uint32_t)choice * 3);
            if (choice == 21 && random_next(&random) % 10 == 0) {
                rig.fold.ops->clear(&rig.fold);
                model_clear(model);
            }
            if (choice != 22)
                continue;
            if (is_held) {
                assert_same_text(text_sorted(snapshot_text(&rig, &held, 4096)), expected);
                rig.fold.ops->release(&rig.fold, &held);
            } else {
                rig.fold.ops->capture(&rig.fold, &held);
                expected = model_text(model);
            }
            is_held = !is_held;
        }
        if (is_held) {
            rig.fold.ops->release(&rig.fold, &held);
            free(expected.data);
        }
        model_clear(model);
        free(model);
        rig_close(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_released_snapshot_is_given_back_in_bounded_pieces),
        cmocka_unit_test(a_single_step_at_a_time_comes_to_the_end_too),
        cmocka_unit_test(clearing_a_map_of_large_pairs_is_bounded_too),
        cmocka_unit_test(clearing_gives_few_slabs_back_to_the_system_in_one_piece),
        cmocka_unit_test(memory_that_waits_to_be_given_back_refuses_no_record),
        cmocka_unit_test(however_fast_snapshots_come_and_go_few_wait_to_be_given_back),
        cmocka_unit_test(sweeping_touches_nothing_that_lives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
