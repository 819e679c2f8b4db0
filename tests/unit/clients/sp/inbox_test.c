/* The client's receive buffer against random streams cut at random places. */
#include "clients/sp/inbox.h"

#include "actors/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BODY_MAX 5000

/* Writes count messages whose bodies tell their own number and size; returns the stream's size. */
static size_t stream_write(uint8_t *out, bool is_ipc, unsigned count, const size_t *sizes)
{
    size_t size = 0;
    for (unsigned i = 0; i < count; i++) {
        sp_prefix_write(out + size, is_ipc, sizes[i]);
        size += sp_prefix_size(is_ipc);
        memset(out + size, (int)(i & 0xff), sizes[i]);
        size += sizes[i];
    }
    return size;
}

static void body_check(const uint8_t *body, size_t size, unsigned number, size_t expected)
{
    assert_int_equal(size, expected);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(body[i], number & 0xff);
}

static void stream_check(unsigned *seed, bool is_ipc)
{
    enum { COUNT = 200 };
    size_t sizes[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        size_t max = rand_r(seed) % 10 == 0 ? BODY_MAX : 40;
        sizes[i] = (size_t)rand_r(seed) % (max + 1);
    }
    uint8_t *stream = malloc(COUNT * (BODY_MAX + SP_PREFIX_SIZE_MAX));
    assert_non_null(stream);
    size_t stream_size = stream_write(stream, is_ipc, COUNT, sizes);
    struct sp_inbox inbox;
    sp_inbox_init(&inbox, is_ipc, 64 + (size_t)rand_r(seed) % 1000, BODY_MAX);
    unsigned found = 0;
    for (size_t at = 0; at < stream_size;) {
        void *space;
        size_t room;
        assert_int_equal(sp_inbox_reserve(&inbox, &space, &room), WEIR_OK);
        size_t piece = 1 + (size_t)rand_r(seed) % room;
        if (piece > stream_size - at)
            piece = stream_size - at;
        memcpy(space, stream + at, piece);
        sp_inbox_commit(&inbox, piece);
        at += piece;
        const uint8_t *body;
        size_t size;
        enum weir_error error;
        while ((error = sp_inbox_next(&inbox, &body, &size)) == WEIR_OK) {
            body_check(body, size, found, sizes[found]);
            found++;
        }
        assert_int_equal(error, WEIR_AGAIN);
    }
    assert_int_equal(found, COUNT);
    sp_inbox_fini(&inbox);
    free(stream);
}

static void random_streams_come_out_whole(void **state)
{
    (void)state;
    unsigned seed = (unsigned)clock_now_ns();
    print_message("seed %u\n", seed);
    for (unsigned round = 0; round < 50; round++)
        stream_check(&seed, round % 2 == 1);
}

static enum weir_error next_after(struct sp_inbox *inbox, const uint8_t *data, size_t size)
{
    void *space;
    size_t room;
    assert_int_equal(sp_inbox_reserve(inbox, &space, &room), WEIR_OK);
    assert_true(size <= room);
    memcpy(space, data, size);
    sp_inbox_commit(inbox, size);
    const uint8_t *body;
    return sp_inbox_next(inbox, &body, &room);
}

static void bad_streams_stay_refused(void **state)
{
    (void)state;
    struct sp_inbox inbox;
    uint8_t prefix[SP_PREFIX_SIZE_MAX];
    sp_prefix_write(prefix, true, BODY_MAX + 1);
    sp_inbox_init(&inbox, true, 64, BODY_MAX);
    assert_int_equal(next_after(&inbox, prefix, sizeof prefix), WEIR_TOO_BIG);
    assert_int_equal(next_after(&inbox, prefix, 1), WEIR_TOO_BIG);
    sp_inbox_clear(&inbox, true);
    prefix[0] = 7;
    assert_int_equal(next_after(&inbox, prefix, 1), WEIR_PROTOCOL);
    sp_inbox_fini(&inbox);
}

static void buffer_shrinks_after_large_messages(void **state)
{
    (void)state;
    struct sp_inbox inbox;
    uint8_t message[SP_PREFIX_SIZE_MAX + BODY_MAX] = {0};
    sp_prefix_write(message, false, BODY_MAX);
    sp_inbox_init(&inbox, false, 64, BODY_MAX);
    assert_int_equal(next_after(&inbox, message, 8), WEIR_AGAIN);
    assert_int_equal(next_after(&inbox, message + 8, BODY_MAX), WEIR_OK);
    size_t large = inbox.capacity;
    assert_true(large > BODY_MAX);
    /* In pieces or whole, the next large one finds room; and small ones now and then between do not take it away. */
    for (int round = 0; round < 100; round++) {
        if (round % 2 == 0) {
            assert_int_equal(next_after(&inbox, message, sizeof message - SP_PREFIX_SIZE_MAX + 8), WEIR_OK);
        } else {
            assert_int_equal(next_after(&inbox, message, 8), WEIR_AGAIN);
            assert_int_equal(next_after(&inbox, message + 8, BODY_MAX), WEIR_OK);
        }
        assert_int_equal(inbox.capacity, large);
    }
    uint8_t small[SP_PREFIX_SIZE_MAX] = {0};
    sp_prefix_write(small, false, 0);
    for (int round = 0; round < 20; round++)
        assert_int_equal(next_after(&inbox, small, 8), WEIR_OK);
    assert_true(inbox.capacity <= 128);
    sp_inbox_fini(&inbox);
}

static void no_buffer_for_the_largest_is_kept(void **state)
{
    (void)state;
    enum { HUGE = 3 << 20 };
    struct sp_inbox inbox;
    uint8_t *message = calloc(1, SP_PREFIX_SIZE_MAX + HUGE);
    assert_non_null(message);
    sp_prefix_write(message, false, HUGE);
    sp_inbox_init(&inbox, false, 64, HUGE);
    assert_int_equal(next_after(&inbox, message, 8), WEIR_AGAIN);
    assert_int_equal(next_after(&inbox, message + 8, HUGE), WEIR_OK);
    void *space;
    size_t room;
    assert_int_equal(sp_inbox_reserve(&inbox, &space, &room), WEIR_OK);
    assert_true(inbox.capacity <= 128);
    sp_inbox_fini(&inbox);
    free(message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_streams_come_out_whole),
        cmocka_unit_test(bad_streams_stay_refused),
        cmocka_unit_test(buffer_shrinks_after_large_messages),
        cmocka_unit_test(no_buffer_for_the_largest_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
