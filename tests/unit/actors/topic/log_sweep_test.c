/* What a cleared log and its ring give back, one claim each. */
#include "tests/unit/actors/topic/fold_model.h"

#include "actors/topic/topic_limits.h"

enum { STEPS = 10 * MAP_SWEEP_FREE_STEPS };

static size_t blocks_live(const struct rig *rig)
{
    struct arena_usage usage;
    arena_usage(rig->arena, &usage);
    return usage.blocks_live;
}

/* Each record in a page of its own, so that there are many. */
static void fill(struct rig *rig, uint32_t records)
{
    static const char text[1000];
    uint8_t value[1100];
    size_t size = encode_str(value, text, sizeof text);
    for (uint32_t i = 0; i < records; i++)
        assert_int_equal(rig_apply(rig, view_of(NULL, 0), view_of(value, size)), WEIR_OK);
}

/* Returns how many calls it took; none of them gave back more than a few blocks. */
static uint32_t sweep_all(struct rig *rig)
{
    uint32_t calls = 1;
    for (bool has_more = true; has_more; calls++) {
        size_t before = blocks_live(rig);
        has_more = fold_sweep(&rig->fold, STEPS);
        has_more = ring_sweep(&rig->ring, STEPS / MAP_SWEEP_FREE_STEPS) || has_more;
        assert_in_range(before - blocks_live(rig), 0, 2 * STEPS / MAP_SWEEP_FREE_STEPS + 8);
    }
    return calls;
}

static void a_cleared_log_is_given_back_a_few_pages_at_a_time(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_LOG, .retain_count_max = 2000, .retain_bytes_max = 4096});
    size_t empty = blocks_live(&rig);
    fill(&rig, 2000);
    size_t full = blocks_live(&rig);
    assert_true(full > 1900);
    rig.fold.ops->clear(&rig.fold);
    ring_clear(&rig.ring, 0);
    assert_true(blocks_live(&rig) > full - 10);
    assert_true(sweep_all(&rig) > 100);
    assert_int_equal(blocks_live(&rig), empty);
    rig_close(&rig);
}

static void the_ring_of_a_cleared_topic_is_given_back_a_few_pages_at_a_time(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_LOG,
                                       .log_count_max = 5,
                                       .retain_count_max = 3000,
                                       .retain_bytes_max = (size_t)16 << 20,
                                       .state_bytes_max = 0});
    rig.ring.alone_size = 500;
    fill(&rig, 3000);
    size_t full = blocks_live(&rig);
    assert_true(full > 2900);
    ring_clear(&rig.ring, 0);
    rig.fold.ops->clear(&rig.fold);
    assert_true(blocks_live(&rig) > full - 10);
    /* What comes meanwhile is there, and found. */
    struct ring_cursor cursor;
    fill(&rig, 100);
    assert_int_equal(ring_find(&rig.ring, 1, &cursor), WEIR_OK);
    assert_true(sweep_all(&rig) > 100);
    struct ring_run run;
    uint32_t count = 0;
    while (ring_next(&rig.ring, &cursor, 0, &run))
        assert_int_equal(run.seq, ++count);
    assert_int_equal(count, 100);
    /* Cleared twice in a row. */
    ring_clear(&rig.ring, 0);
    fill(&rig, 50);
    ring_clear(&rig.ring, 0);
    rig_close(&rig);
}

static void a_snapshot_outlasts_the_clearing(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_LOG, .retain_bytes_max = 4096});
    fill(&rig, 500);
    struct fold_snapshot snapshot;
    rig.fold.ops->capture(&rig.fold, &snapshot);
    fill(&rig, 500);
    rig.fold.ops->clear(&rig.fold);
    ring_clear(&rig.ring, 0);
    (void)sweep_all(&rig);
    fill(&rig, 300);
    struct text text = snapshot_text(&rig, &snapshot, 4096);
    assert_int_equal(text.pairs, 500);
    free(text.data);
    size_t before = blocks_live(&rig);
    rig.fold.ops->release(&rig.fold, &snapshot);
    assert_int_equal(blocks_live(&rig), before); /* not in the turn of who read it last */
    assert_true(sweep_all(&rig) > 30);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cleared_log_is_given_back_a_few_pages_at_a_time),
        cmocka_unit_test(the_ring_of_a_cleared_topic_is_given_back_a_few_pages_at_a_time),
        cmocka_unit_test(a_snapshot_outlasts_the_clearing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
