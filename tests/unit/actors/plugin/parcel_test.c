/* What a child may write that is no message and no progress, and would keep the broker busy if it were taken for that.
 */
#include "actors/plugin/parcel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct pair {
    struct channel ours, theirs;
};

static int pair_open(void **state)
{
    static struct pair pair;
    int to_child = -1, from_child = -1;
    assert_int_equal(channel_half_create(CHANNEL_BYTES_MIN, &to_child), WEIR_OK);
    assert_int_equal(channel_half_create(CHANNEL_BYTES_MIN, &from_child), WEIR_OK);
    assert_int_equal(channel_map(&pair.ours, to_child, from_child, CHANNEL_BYTES_MIN), WEIR_OK);
    assert_int_equal(channel_map(&pair.theirs, from_child, to_child, CHANNEL_BYTES_MIN), WEIR_OK);
    close(to_child);
    close(from_child);
    *state = &pair;
    return 0;
}

static int pair_close(void **state)
{
    struct pair *pair = *state;
    channel_unmap(&pair->ours);
    channel_unmap(&pair->theirs);
    return 0;
}

/* Of empty ones there is no end that a bound on bytes would find. */
static void piece_of_another_size_is_refused(void **state)
{
    struct pair *pair = *state;
    static const uint32_t sizes[] = {0, 1, CHANNEL_BYTES_MIN / 4 - sizeof(struct channel_frame) - 1};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct parcel_inbox inbox = {.size_max = 1 << 20};
        struct view bytes;
        assert_non_null(channel_reserve(&pair->theirs, sizes[i]));
        channel_commit(&pair->theirs, sizes[i], CHANNEL_FRAME_MORE);
        channel_publish(&pair->theirs);
        assert_false(parcel_pull(&pair->ours, &inbox, false, &bytes));
        if (pair->ours.fault == NULL)
            fail_msg("a piece of %u bytes", (unsigned)sizes[i]);
        parcel_inbox_fini(&inbox);
        pair_close(state);
        pair_open(state);
    }
}

static void positions_that_do_not_rise_are_no_move(void **state)
{
    struct pair *pair = *state;
    struct channel_moved moved = {0, 0};
    assert_false(channel_has_moved(&pair->ours, &moved));
    assert_non_null(channel_reserve(&pair->ours, 8));
    channel_commit(&pair->ours, 8, 0);
    channel_publish(&pair->ours);
    atomic_store(&pair->theirs.own->head, 16);
    assert_true(channel_has_moved(&pair->ours, &moved));
    for (int i = 0; i < 3; i++) {
        atomic_store(&pair->theirs.own->head, 8); /* back */
        assert_false(channel_has_moved(&pair->ours, &moved));
        atomic_store(&pair->theirs.own->head, 16);
        assert_false(channel_has_moved(&pair->ours, &moved));
        atomic_store(&pair->theirs.own->head, 24 + 8 * (uint64_t)i); /* beyond what it was sent */
        assert_false(channel_has_moved(&pair->ours, &moved));
    }
    atomic_store(&pair->theirs.own->tail, 8);
    assert_true(channel_has_moved(&pair->ours, &moved));
    assert_false(channel_has_moved(&pair->ours, &moved));
}

/* A head as a child may write it, and behind it so many bytes. */
static bool output_is_taken(struct parcel_output head, size_t size)
{
    uint8_t bytes[sizeof head + 8] = {0};
    struct plugin_output output;
    memcpy(bytes, &head, sizeof head);
    return parcel_to_output(view_of(bytes, sizeof head + size), &output);
}

static void flag_that_there_is_not_is_refused(void **state)
{
    const struct parcel_output good = {.kind = OUTPUT_EMIT, .number = 1, .flags = PARCEL_FLAGS};
    (void)state;
    assert_true(output_is_taken(good, 0));
    for (unsigned bit = 1; bit <= UINT8_MAX; bit *= 2) {
        struct parcel_output head = good;
        head.flags = (uint8_t)bit;
        if (output_is_taken(head, 0) != ((bit & PARCEL_FLAGS) != 0))
            fail_msg("flag %#x", bit);
    }
}

static void key_that_is_not_told_is_refused(void **state)
{
    struct parcel_output head = {.kind = OUTPUT_EMIT, .number = 1, .key_size = 3, .flags = PARCEL_HAS_KEY};
    (void)state;
    assert_true(output_is_taken(head, 3));
    head.flags = 0;
    assert_false(output_is_taken(head, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(piece_of_another_size_is_refused, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(positions_that_do_not_rise_are_no_move, pair_open, pair_close),
        cmocka_unit_test(flag_that_there_is_not_is_refused),
        cmocka_unit_test(key_that_is_not_told_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
