/* The merge fold against a naive model, with snapshots held across patches, and what has changed since. */
#include "tests/unit/actors/topic/merge_model.h"

#include "actors/topic/topic_limits.h"
#include "tests/unit/instrumented.h"

#define HELD 3

/* The first three seeds have few and many keys, small and large patches between them; the model is what takes long. */
enum { SEEDS = IS_INSTRUMENTED ? 3 : 6, STEPS = IS_INSTRUMENTED ? 400 : 1000 };

static uint8_t patch_bytes[PATCH_SIZE_MAX];

/* --------------------------------------------------------------------------------- what has changed since */

/* Somebody who knew the state as it was at seq: its members, as pairs. */
struct knower {
    struct text pairs;
    uint64_t seq;
};

static void knower_learn(struct rig *rig, struct knower *knower)
{
    struct fold_snapshot now;
    rig->fold.ops->capture(&rig->fold, &now);
    free(knower->pairs.data);
    knower->pairs = snapshot_text(rig, &now, 4096);
    rig->fold.ops->release(&rig->fold, &now);
    knower->seq = rig->ring.seq_last;
}

/* The key of a member, the text where it is a str, so that two encodings of one are the same. */
static bool is_same_key(struct view a, struct view b)
{
    struct value_reader left, right;
    value_reader_init(&left, a, 1);
    value_reader_init(&right, b, 1);
    struct view a_text = value_read_str(&left), b_text = value_read_str(&right);
    if (left.error || right.error)
        return left.error && right.error && view_is_same(a, b);
    return view_is_same(a_text, b_text);
}

static struct view member_of(struct view *rest, struct view *key, struct view *value)
{
    const uint8_t *start = rest->data;
    assert_int_equal(value_next(rest).data[0], 0xc0);
    struct view member = value_next(rest);
    assert_int_equal(member.data[0], 0x81);
    member = view_of(member.data + 1, member.size - 1);
    *key = value_next(&member);
    *value = value_next(&member);
    return view_of(start, (size_t)(rest->data - start));
}

/* What a client does with an entry of a delta: the member is set, or with nil goes. */
static void knower_lay(struct knower *knower, struct view pair)
{
    struct text next = {.data = NULL};
    struct view key, value, old_key, old_value, rest = view_of(knower->pairs.data, knower->pairs.size), all = pair;
    (void)member_of(&all, &key, &value);
    while (rest.size > 0) {
        struct view old = member_of(&rest, &old_key, &old_value);
        if (is_same_key(key, old_key))
            continue;
        text_append(&next, old);
        next.pairs++;
    }
    if (!(value.size == 1 && value.data[0] == 0xc0)) {
        text_append(&next, pair);
        next.pairs++;
    }
    free(knower->pairs.data);
    knower->pairs = next;
}

static void knower_catch_up(struct rig *rig, struct knower *knower, const struct whole *whole, size_t size_max)
{
    struct fold_snapshot snapshot;
    struct fold_cursor cursor = {.since = knower->seq};
    struct fold_run run;
    enum weir_error error;
    if (!rig->fold.ops->knows_since(&rig->fold, knower->seq)) {
        knower_learn(rig, knower);
        return;
    }
    rig->fold.ops->capture(&rig->fold, &snapshot);
    while ((error = rig->fold.ops->read(&rig->fold, &snapshot, &cursor, size_max, &run)) == WEIR_OK) {
        struct view key, value;
        struct view rest = view_of(NULL, 0);
        if (run.count > 0)
            rest = view_of((uint8_t *)arena_data(rig->arena, run.pairs.block) + run.pairs.offset, run.pairs.size);
        while (rest.size > 0)
            knower_lay(knower, member_of(&rest, &key, &value));
    }
    assert_int_equal(error, WEIR_AGAIN);
    rig->fold.ops->release(&rig->fold, &snapshot);
    assert_text_is(pairs_sorted(knower->pairs), whole_text(whole));
    knower->pairs.data = NULL;
    knower_learn(rig, knower);
}

/* ------------------------------------------------------------------------------------------------ model */

struct held {
    struct fold_snapshot snapshot;
    struct text expected;
    bool is_held;
};

static void held_toggle(struct rig *rig, struct held *held, const struct whole *whole, size_t size_max)
{
    if (held->is_held) {
        assert_text_is(pairs_sorted(snapshot_text(rig, &held->snapshot, size_max)), held->expected);
        rig->fold.ops->release(&rig->fold, &held->snapshot);
    } else {
        rig->fold.ops->capture(&rig->fold, &held->snapshot);
        held->expected = whole_text(whole);
    }
    held->is_held = !held->is_held;
}

static void run_seed(uint64_t seed)
{
    struct rig rig;
    struct whole whole = {NULL, 0};
    struct held held[HELD] = {{.is_held = false}};
    struct knower knower = {.seq = 0};
    uint64_t random = seed, deltas = 0;
    uint32_t keys = seed % 3 == 0 ? MERGE_KEYS : 48, most = seed % 2 ? 4 : 40;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MERGE, .retain_bytes_max = 65536});
    knower_learn(&rig, &knower);
    for (int step = 0; step < STEPS; step++) {
        struct view patch = patch_random(patch_bytes, &random, keys, most);
        assert_int_equal(rig_apply(&rig, view_text("\xa1k"), patch), WEIR_OK);
        whole_merge(&whole, patch);
        uint64_t choice = random_next(&random) % 100;
        if (choice < HELD) {
            held_toggle(&rig, &held[choice], &whole, 1 + random_next(&random) % 5000);
        } else if (choice < HELD + 5) {
            deltas += rig.fold.ops->knows_since(&rig.fold, knower.seq);
            knower_catch_up(&rig, &knower, &whole, 1 + random_next(&random) % 5000);
        } else if (choice == 99) {
            while (fold_sweep(&rig.fold, 16))
                ;
            assert_fold_is(&rig, &whole);
        } else if (choice == 98 && random_next(&random) % 10 == 0) {
            rig.fold.ops->clear(&rig.fold);
            whole_clear(&whole);
            knower_learn(&rig, &knower);
        }
    }
    for (int i = 0; i < HELD; i++)
        if (held[i].is_held)
            held_toggle(&rig, &held[i], &whole, 4096);
    assert_fold_is(&rig, &whole);
    assert_true(deltas > STEPS / 50);
    free(knower.pairs.data);
    whole_clear(&whole);
    rig_close(&rig);
}

static void merge_agrees_with_merge_apply_and_snapshots_never_change(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        print_message("seed %lu\n", (unsigned long)seed);
        run_seed(seed);
    }
}

/* --------------------------------------------------------------------------------------------- refusals */

static void a_refused_allocation_leaves_the_state_as_it_was(void **state)
{
    (void)state;
    enum { EXTRA = 256 };
    struct rig rig;
    struct whole whole = {NULL, 0};
    uint64_t random = 7;
    size_t refused = 0, taken = 0;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MERGE, .retain_bytes_max = 8192});
    for (int i = 0; i < 300; i++) {
        struct view patch = patch_random(patch_bytes, &random, MERGE_KEYS, 10);
        assert_int_equal(rig_apply(&rig, view_of(NULL, 0), patch), WEIR_OK);
        whole_merge(&whole, patch);
    }
    struct fold_snapshot snapshot;
    rig.fold.ops->capture(&rig.fold, &snapshot);
    struct text before = whole_text(&whole);
    for (size_t extra = 0; extra < 60000; extra += EXTRA) {
        struct budget_usage usage;
        uint64_t seq = rig.ring.seq_last;
        struct view patch = patch_random(patch_bytes, &random, MERGE_KEYS, 20);
        budget_usage(rig.budget, &usage);
        budget_limit_set(rig.budget, usage.bytes_used + extra % 20000);
        enum weir_error error = rig_apply(&rig, view_of(NULL, 0), patch);
        budget_limit_set(rig.budget, 0);
        if (error)
            assert_int_equal(error, WEIR_NO_MEMORY);
        else
            whole_merge(&whole, patch);
        assert_int_equal(rig.ring.seq_last, seq + !error);
        refused += error != WEIR_OK;
        taken += error == WEIR_OK;
        assert_fold_is(&rig, &whole);
    }
    assert_true(refused > 10000 / EXTRA && taken > 10000 / EXTRA);
    assert_text_is(pairs_sorted(snapshot_text(&rig, &snapshot, 4096)), before);
    rig.fold.ops->release(&rig.fold, &snapshot);
    whole_clear(&whole);
    rig_close(&rig);
}

static void merge_refuses_a_member_longer_than_can_be_sent_and_takes_no_part_of_the_patch(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MERGE, .merged_bytes_max = 7});
    assert_int_equal(rig_apply(&rig, view_of(NULL, 0),
                               view_text("\x82\xa1x\x01\xa1y\xa3"
                                         "abc")),
                     WEIR_OK);
    assert_int_equal(rig_apply(&rig, view_of(NULL, 0),
                               view_text("\x81\xa1z\xa4"
                                         "abcd")),
                     WEIR_TOO_BIG);
    /* Merging makes it too long, not the patch. */
    assert_int_equal(rig_apply(&rig, view_of(NULL, 0),
                               view_text("\x81\xa1m\x81\xa1"
                                         "a\x01")),
                     WEIR_OK);
    assert_int_equal(rig_apply(&rig, view_of(NULL, 0),
                               view_text("\x83\xa1w\x01\xa1x\x02\xa1m\x81\xa1"
                                         "b\x01")),
                     WEIR_TOO_BIG);
    assert_int_equal(rig_apply(&rig, view_of(NULL, 0),
                               view_text("\xa8"
                                         "abcdefgh")),
                     WEIR_TOO_BIG);
    struct whole whole = {NULL, 0};
    whole_merge(&whole, view_text("\x83\xa1x\x01\xa1y\xa3"
                                  "abc\xa1m\x81\xa1"
                                  "a\x01"));
    assert_fold_is(&rig, &whole);
    whole_clear(&whole);
    assert_int_equal(rig.ring.seq_last, 2);
    rig_close(&rig);
}

static void merge_refuses_what_goes_beyond_its_bytes_and_lets_go_of_what_it_has(void **state)
{
    (void)state;
    struct rig rig;
    struct whole whole = {NULL, 0};
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MERGE, .state_bytes_max = 12});
    assert_int_equal(rig_apply(&rig, view_of(NULL, 0),
                               view_text("\x82\xa1"
                                         "a\x01\xa1"
                                         "b\x01")),
                     WEIR_OK);
    assert_int_equal(rig.fold.bytes, 10);
    assert_int_equal(rig_apply(&rig, view_of(NULL, 0),
                               view_text("\x82\xa1"
                                         "a\x02\xa1"
                                         "c\x01")),
                     WEIR_TOO_BIG);
    assert_int_equal(rig_apply(&rig, view_of(NULL, 0),
                               view_text("\xac"
                                         "abcdefghijkl")),
                     WEIR_TOO_BIG);
    whole_merge(&whole, view_text("\x82\xa1"
                                  "a\x01\xa1"
                                  "b\x01"));
    assert_fold_is(&rig, &whole);
    assert_int_equal(rig_apply(&rig, view_of(NULL, 0),
                               view_text("\x82\xa1"
                                         "a\xc0\xa1"
                                         "c\x01")),
                     WEIR_OK);
    assert_int_equal(rig_apply(&rig, view_of(NULL, 0),
                               view_text("\x82\xa1"
                                         "b\xc0\xa1"
                                         "c\xc0")),
                     WEIR_OK);
    assert_int_equal(rig.fold.bytes, 0);
    assert_int_equal(rig.fold.entries, 0);
    whole_clear(&whole);
    rig_close(&rig);
}

static void merge_refuses_a_patch_of_too_many_members(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MERGE});
    for (uint32_t more = 0; more < 2; more++) {
        struct value_writer writer;
        value_writer_init(&writer, patch_bytes, sizeof patch_bytes);
        value_write_map(&writer, MERGE_MEMBERS_MAX + more);
        for (uint32_t i = 0; i < MERGE_MEMBERS_MAX + more; i++) {
            value_write_uint(&writer, i);
            value_write_uint(&writer, 1);
        }
        assert_false(writer.is_full);
        assert_int_equal(rig_apply(&rig, view_of(NULL, 0), view_of(patch_bytes, writer.size)),
                         more ? WEIR_TOO_BIG : WEIR_OK);
        assert_int_equal(rig.fold.entries, MERGE_MEMBERS_MAX);
    }
    rig_close(&rig);
}

/* ------------------------------------------------------------------------------------------ what it costs */

static size_t state_memory(struct rig *rig)
{
    struct budget_usage usage;
    while (fold_sweep(&rig->fold, UINT32_MAX))
        ;
    budget_usage(rig->budget, &usage);
    return usage.bytes_used - rig->ring.bytes;
}

static struct view patch_of_one(uint32_t number, char letter)
{
    static uint8_t bytes[64];
    struct value_writer writer;
    char text[32], value[20];
    int size = snprintf(text, sizeof text, "member/%u", number);
    memset(value, letter, sizeof value);
    value_writer_init(&writer, bytes, sizeof bytes);
    value_write_map(&writer, 1);
    value_write_str(&writer, view_of(text, (size_t)size));
    if (letter)
        value_write_str(&writer, view_of(value, sizeof value));
    else
        value_write_nil(&writer);
    return view_of(bytes, writer.size);
}

static void a_patch_copies_no_more_than_a_page_and_only_under_a_snapshot(void **state)
{
    (void)state;
    enum { MEMBERS = 20000 };
    struct rig rig;
    struct fold_snapshot snapshot;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MERGE, .retain_bytes_max = 4096});
    for (uint32_t i = 0; i < MEMBERS; i++)
        assert_int_equal(rig_apply(&rig, view_of(NULL, 0), patch_of_one(i, 'a')), WEIR_OK);
    assert_true(rig.fold.entries == MEMBERS && rig.fold.bytes > 700000);
    size_t before = state_memory(&rig);
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(rig_apply(&rig, view_of(NULL, 0), patch_of_one(i * 7, 'b')), WEIR_OK);
    assert_int_equal(state_memory(&rig), before);
    rig.fold.ops->capture(&rig.fold, &snapshot);
    assert_int_equal(state_memory(&rig), before);
    assert_int_equal(rig_apply(&rig, view_of(NULL, 0), patch_of_one(7, 'c')), WEIR_OK);
    size_t after = state_memory(&rig);
    assert_true(after > before && after - before < 16384);
    assert_int_equal(rig_apply(&rig, view_of(NULL, 0), patch_of_one(7, 'd')), WEIR_OK);
    assert_int_equal(state_memory(&rig), after);
    rig.fold.ops->release(&rig.fold, &snapshot);
    assert_int_equal(state_memory(&rig), before);
    rig_close(&rig);
}

static void members_that_go_give_their_memory_back(void **state)
{
    (void)state;
    enum { MEMBERS = 20000 };
    struct rig rig;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MERGE, .retain_bytes_max = 4096});
    for (uint32_t i = 0; i < MEMBERS; i++)
        assert_int_equal(rig_apply(&rig, view_of(NULL, 0), patch_of_one(i, 'a')), WEIR_OK);
    size_t full = state_memory(&rig);
    for (uint32_t i = 0; i < MEMBERS - 10; i++)
        assert_int_equal(rig_apply(&rig, view_of(NULL, 0), patch_of_one(i, 0)), WEIR_OK);
    assert_int_equal(rig.fold.entries, 10);
    assert_true(state_memory(&rig) - rig.fold.as.map.deleted.bytes < full / 10);
    assert_int_equal(rig_apply(&rig, view_of(NULL, 0), view_text("\xc0")), WEIR_OK);
    assert_int_equal(rig.fold.entries, 0);
    assert_true(state_memory(&rig) < 1024); /* the ring has a table beside its pages */
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merge_agrees_with_merge_apply_and_snapshots_never_change),
        cmocka_unit_test(a_refused_allocation_leaves_the_state_as_it_was),
        cmocka_unit_test(merge_refuses_a_member_longer_than_can_be_sent_and_takes_no_part_of_the_patch),
        cmocka_unit_test(merge_refuses_what_goes_beyond_its_bytes_and_lets_go_of_what_it_has),
        cmocka_unit_test(merge_refuses_a_patch_of_too_many_members),
        cmocka_unit_test(a_patch_copies_no_more_than_a_page_and_only_under_a_snapshot),
        cmocka_unit_test(members_that_go_give_their_memory_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
