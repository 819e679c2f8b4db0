/* Session frames: every op comes back as it was written, and nothing else gets through. */
#include "clients/wire/frame.h"

#include "tests/unit/clients/wire/exact.h"
#include "tests/unit/clients/wire/samples.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static struct view frame_bytes(const struct frame *frame, uint8_t *out, size_t capacity)
{
    struct value_writer writer;
    value_writer_init(&writer, out, capacity);
    frame_write(&writer, frame);
    assert_false(writer.is_full);
    return view_of(out, writer.size);
}

static enum weir_error read_exact(struct view bytes, struct frame *out)
{
    static struct exact exact; /* kept until the next call: *out has views into it */
    exact_free(&exact);
    exact = exact_of(bytes);
    const char *reason = NULL;
    enum weir_error error = frame_read(exact.view, 16, out, &reason);
    assert_true(error == WEIR_OK || (error == WEIR_BAD_REQUEST && reason != NULL && reason[0] != '\0'));
    return error;
}

static void every_op_has_a_sample(void **state)
{
    (void)state;
    for (unsigned op = 0; op < 40; op++) {
        bool is_known = strcmp(frame_op_name((enum frame_op)op), "unknown") != 0, has_sample = false;
        for (size_t at = 0; at < SAMPLE_COUNT; at++)
            has_sample |= samples[at].frame.op == op;
        assert_int_equal(is_known, has_sample);
    }
}

static void every_frame_comes_back_as_written(void **state)
{
    (void)state;
    for (size_t at = 0; at < SAMPLE_COUNT; at++) {
        uint8_t first[512], second[512];
        struct frame frame;
        struct view written = frame_bytes(&samples[at].frame, first, sizeof first);
        assert_int_equal(read_exact(written, &frame), WEIR_OK);
        assert_int_equal(frame.op, samples[at].frame.op);
        assert_true(view_is_same(written, frame_bytes(&frame, second, sizeof second)));
    }
}

static void every_prefix_of_a_frame_is_refused_or_has_items_cut(void **state)
{
    (void)state;
    for (size_t at = 0; at < SAMPLE_COUNT; at++) {
        uint8_t bytes[512];
        struct frame frame;
        struct view written = frame_bytes(&samples[at].frame, bytes, sizeof bytes);
        for (size_t cut = 0; cut < written.size; cut++) {
            if (read_exact(view_of(written.data, cut), &frame) != WEIR_OK)
                continue;
            /* Only frames with items may pass, and those items must not come to their count. */
            assert_true(frame.op == FRAME_PUBLISH || frame.op == FRAME_PUBLISH_WITH || frame.op == FRAME_ENTRIES ||
                        frame.op == FRAME_UPDATES);
            struct view items = frame.op == FRAME_ENTRIES   ? frame.as.entries.items
                                : frame.op == FRAME_UPDATES ? frame.as.updates.items
                                                            : frame.as.publish.items;
            struct view key, value;
            uint32_t count = 0;
            enum weir_error error;
            while ((error = items_next(&items, 16, &key, &value)) == WEIR_OK)
                count++;
            assert_true(error == WEIR_BAD_REQUEST || (error == WEIR_AGAIN && count < 2));
        }
    }
}

static void no_byte_may_follow_a_frame(void **state)
{
    (void)state;
    for (size_t at = 0; at < SAMPLE_COUNT; at++) {
        uint8_t bytes[513];
        struct frame frame;
        struct view written = frame_bytes(&samples[at].frame, bytes, sizeof bytes - 1);
        bool has_items = frame_read(written, 16, &frame, NULL) == WEIR_OK &&
                         (frame.op == FRAME_PUBLISH || frame.op == FRAME_PUBLISH_WITH || frame.op == FRAME_ENTRIES ||
                          frame.op == FRAME_UPDATES);
        bytes[written.size] = 0xc0;
        assert_int_equal(read_exact(view_of(bytes, written.size + 1), &frame) == WEIR_OK, has_items);
    }
}

static void unknown_ops_and_wrong_counts_are_refused(void **state)
{
    (void)state;
    struct frame frame;
    assert_int_equal(read_exact(BYTES(0x91, 5), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x91, 32), &frame), WEIR_BAD_REQUEST);
    /* PUBLISH_WITH that could never be: if_absent together with a seq; options of other types. */
    assert_int_equal(read_exact(BYTES(0x96, 13, 0xa1, 'a', 1, 2, 0x82, 0xa6, 'i', 'f', '_', 's', 'e', 'q', 7, 0xa9, 'i',
                                      'f', '_', 'a', 'b', 's', 'e', 'n', 't', 0xc3, 0x92, 0xc0, 1),
                                &frame),
                     WEIR_BAD_REQUEST);
    assert_int_equal(
        read_exact(BYTES(0x96, 13, 0xa1, 'a', 1, 2, 0x81, 0xa6, 't', 't', 'l', '_', 'm', 's', 0xff, 0x92, 0xc0, 1),
                   &frame),
        WEIR_BAD_REQUEST);
    assert_int_equal(
        read_exact(BYTES(0x96, 13, 0xa1, 'a', 1, 2, 0x81, 0xa4, 'b', 'i', 'n', 'd', 1, 0x92, 0xc0, 1), &frame),
        WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x92, 0xcd, 1, 1, 1), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x92, 0xff, 1), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x92, 0xcf, 255, 255, 255, 255, 255, 255, 255, 255, 1), &frame),
                     WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x93, 1, 3, 3), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x91, 1), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x90), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x80), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(5), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(view_of(NULL, 0), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0xdd, 255, 255, 255, 255, 1), &frame), WEIR_BAD_REQUEST);
}

static void wrong_types_and_ranges_are_refused(void **state)
{
    (void)state;
    struct frame frame;
    assert_int_equal(read_exact(BYTES(0x92, 1, 0xa1, 'a'), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x92, 3, 0xff), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x93, 8, 0xce, 0, 1, 0, 0, 0xa1, 'a'), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x93, 8, 0xcd, 255, 255, 0xa1, 'a'), &frame), WEIR_OK);
    assert_int_equal(read_exact(BYTES(0x92, 11, 0xcf, 0, 0, 0, 1, 0, 0, 0, 0), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x93, 4, 0xa2, 'o', 'k', 0xa1, 0xff), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x95, 25, 1, 5, 4, 0xa0), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x94, 20, 1, 0xa2, 'n', 'o', 0x80), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x94, 12, 1, 0xa1, 'v', 0x90), &frame), WEIR_BAD_REQUEST);
}

static void publish_needs_records_pairs_and_a_known_ack(void **state)
{
    (void)state;
    struct frame frame;
    assert_int_equal(read_exact(BYTES(0x95, 9, 5, 1, 2, 0x92, 0xc0, 1), &frame), WEIR_OK);
    assert_int_equal(read_exact(BYTES(0x95, 9, 5, 1, 2, 0x90), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x95, 9, 5, 1, 2, 0x93, 0xc0, 1, 0xc0), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x95, 9, 5, 1, 4, 0x92, 0xc0, 1), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x95, 9, 0xc0, 1, 2, 0x92, 0xc0, 1), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x95, 9, 5, 1, 2, 0xdd, 0x10, 0, 0, 0, 0xc0, 1), &frame), WEIR_BAD_REQUEST);
    assert_int_equal(
        read_exact(BYTES(0x95, 9, 5, 0xcf, 255, 255, 255, 255, 255, 255, 255, 255, 2, 0x92, 0xc0, 1), &frame),
        WEIR_BAD_REQUEST);
}

static void items_are_pairs_of_key_and_value(void **state)
{
    (void)state;
    struct view items = BYTES(0xa1, 'k', 5, 0xc0, 0xc0, 0xa0, 0x91, 1), key, value;
    assert_int_equal(items_next(&items, 16, &key, &value), WEIR_OK);
    assert_int_equal(key.size, 2);
    assert_int_equal(value.size, 1);
    assert_int_equal(items_next(&items, 16, &key, &value), WEIR_OK);
    assert_int_equal(key.size, 0);
    assert_int_equal(value.data[0], 0xc0);
    struct view shallow = items;
    assert_int_equal(items_next(&shallow, 0, &key, &value), WEIR_BAD_REQUEST);
    assert_int_equal(items_next(&items, 16, &key, &value), WEIR_OK);
    assert_int_equal(key.size, 1);
    assert_int_equal(items_next(&items, 16, &key, &value), WEIR_AGAIN);
    struct view odd = BYTES(0xa1, 'k');
    assert_int_equal(items_next(&odd, 16, &key, &value), WEIR_BAD_REQUEST);
    struct view wrong = BYTES(5, 5);
    assert_int_equal(items_next(&wrong, 16, &key, &value), WEIR_BAD_REQUEST);
}

/* Those that are decided by their first bytes, too, and wherever they are cut off. */
static void an_items_value_is_what_a_scan_says(void **state)
{
    (void)state;
    uint8_t bytes[600] = {0xc0};
    for (unsigned at = 0; at < 256 * 4; at++) {
        memset(bytes + 1, 'a', sizeof bytes - 1);
        bytes[1] = (uint8_t)(at / 4);
        bytes[2] = bytes[3] = (uint8_t[]){0, 1, 2, 0x91}[at % 4];
        for (size_t size = 1; size < sizeof bytes; size += size < 12 ? 1 : 49) {
            struct view items = view_of(bytes, size), key, value;
            size_t scanned = 0;
            bool is_value = value_scan(view_of(bytes + 1, size - 1), 16, &scanned) == WEIR_OK;
            assert_int_equal(items_next(&items, 16, &key, &value), is_value ? WEIR_OK : WEIR_BAD_REQUEST);
            assert_int_equal(is_value ? value.size : 0, scanned);
            assert_int_equal(items.size, is_value ? size - 1 - scanned : size);
        }
    }
}

static void items_are_whole_when_each_pair_is_and_none_is_missing(void **state)
{
    (void)state;
    struct view items = BYTES(0xa1, 'k', 5, 0xc0, 0xc4, 2, 7, 7, 0xc0, 0x91, 1);
    assert_true(items_are_whole(items, 16, 3));
    assert_false(items_are_whole(items, 16, 2));
    assert_false(items_are_whole(items, 16, 4));
    assert_false(items_are_whole(items, 0, 3));
    for (size_t cut = 1; cut < items.size; cut++)
        assert_false(items_are_whole(view_of(items.data, cut), 16, 3));
    assert_true(items_are_whole(view_of(NULL, 0), 16, 0));
}

static void options_left_out_have_their_defaults(void **state)
{
    (void)state;
    struct frame frame;
    assert_int_equal(read_exact(BYTES(0x93, 0, 1, 0x80), &frame), WEIR_OK);
    assert_true(frame.as.hello.credit == 0 && frame.as.hello.heartbeat_ms == 0 && frame.as.hello.peer.size == 0);
    assert_int_equal(frame.as.hello.message_max, 1048576);
    assert_int_equal(frame.as.hello.records_max, 65536);
    assert_int_equal(frame.as.hello.depth_max, 16);
    assert_int_equal(read_exact(BYTES(0x94, 10, 1, 0xa1, '#', 0x80), &frame), WEIR_OK);
    assert_true(frame.as.subscribe.snapshot && frame.as.subscribe.updates);
    assert_int_equal(frame.as.subscribe.policy, POLICY_RESYNC);
    assert_int_equal(frame.as.subscribe.cursor_count, 0);
}

static void unknown_options_are_ignored(void **state)
{
    (void)state;
    struct frame frame;
    assert_int_equal(
        read_exact(BYTES(0x93, 0, 1, 0x82, 0xa1, 'x', 0x91, 0x80, 0xa6, 'c', 'r', 'e', 'd', 'i', 't', 9), &frame),
        WEIR_OK);
    assert_int_equal(frame.as.hello.credit, 9);
    assert_int_equal(read_exact(BYTES(0x95, 23, 1, 2, 3, 0x81, 0xa1, 'x', 0xc4, 1, 0xff), &frame), WEIR_OK);
    assert_int_equal(read_exact(BYTES(0x95, 23, 1, 2, 3, 0x81, 5, 5), &frame), WEIR_BAD_REQUEST);
}

static void subscribe_checks_policy_and_cursors(void **state)
{
    (void)state;
    struct frame frame;
    struct cursor cursor;
    assert_int_equal(
        read_exact(BYTES(0x94, 10, 1, 0xa1, 'a', 0x81, 0xa6, 'p', 'o', 'l', 'i', 'c', 'y', 0xa1, 'x'), &frame),
        WEIR_OK);
    assert_int_equal(frame.as.subscribe.policy, POLICY_UNKNOWN);
    assert_int_equal(read_exact(BYTES(0x94, 10, 1, 0xa1, 'a', 0x81, 0xa7, 'c', 'u', 'r', 's', 'o', 'r', 's', 0x91, 0x92,
                                      0xa1, 'a', 1),
                                &frame),
                     WEIR_BAD_REQUEST);
    assert_int_equal(read_exact(BYTES(0x94, 10, 1, 0xa1, 'a', 0x81, 0xa7, 'c', 'u', 'r', 's', 'o', 'r', 's', 0x92, 0x93,
                                      0xa1, 'a', 1, 2, 0x93, 0xa1, 'b', 3, 4),
                                &frame),
                     WEIR_OK);
    struct view cursors = frame.as.subscribe.cursors;
    assert_int_equal(frame.as.subscribe.cursor_count, 2);
    assert_int_equal(cursors_next(&cursors, &cursor), WEIR_OK);
    assert_true(view_is_same(cursor.topic, view_text("a")) && cursor.epoch == 1 && cursor.seq == 2);
    assert_int_equal(cursors_next(&cursors, &cursor), WEIR_OK);
    assert_true(view_is_same(cursor.topic, view_text("b")) && cursor.epoch == 3 && cursor.seq == 4);
    assert_int_equal(cursors_next(&cursors, &cursor), WEIR_AGAIN);
}

static void heads_are_the_frame_without_its_items(void **state)
{
    (void)state;
    for (size_t at = 0; at < SAMPLE_COUNT; at++) {
        const struct frame *frame = &samples[at].frame;
        uint8_t whole[512], head[FRAME_HEAD_SIZE_MAX];
        if (frame->op != FRAME_PUBLISH && frame->op != FRAME_PUBLISH_WITH && frame->op != FRAME_ENTRIES &&
            frame->op != FRAME_UPDATES)
            continue;
        struct view written = frame_bytes(frame, whole, sizeof whole);
        struct value_writer writer;
        value_writer_init(&writer, head, sizeof head);
        frame_head_write(&writer, frame);
        assert_false(writer.is_full);
        assert_true(writer.size < written.size && memcmp(head, whole, writer.size) == 0);
    }
}

static void heads_fit_their_bound_and_cost_little(void **state)
{
    (void)state;
    char topic[256];
    memset(topic, 't', sizeof topic);
    struct frame frame = {.op = FRAME_PUBLISH};
    frame.as.publish.topic = view_of(topic, 255);
    frame.as.publish.number = UINT64_MAX - UINT32_MAX;
    frame.as.publish.count = UINT32_MAX / 2;
    uint8_t head[FRAME_HEAD_SIZE_MAX];
    struct value_writer writer;
    value_writer_init(&writer, head, sizeof head);
    frame_head_write(&writer, &frame);
    assert_false(writer.is_full);
    /* 1,000 records of one topic: the frame's own bytes, keys apart, are a nil and a share of the head each. */
    frame.as.publish.has_alias = true;
    frame.as.publish.alias = 65535;
    frame.as.publish.count = 1000;
    value_writer_init(&writer, head, sizeof head);
    frame_head_write(&writer, &frame);
    assert_true(writer.size + 1000 <= 8 * 1000);
}

static void words_are_found_by_their_names(void **state)
{
    (void)state;
    enum ack_level level;
    enum overflow_policy policy;
    for (unsigned at = ACK_NONE; at <= ACK_DURABLE; at++) {
        assert_int_equal(ack_level_find(view_text(ack_level_name((enum ack_level)at)), &level), WEIR_OK);
        assert_int_equal(level, at);
    }
    for (unsigned at = POLICY_RESYNC; at <= POLICY_DISCONNECT; at++) {
        assert_int_equal(policy_find(view_text(policy_name((enum overflow_policy)at)), &policy), WEIR_OK);
        assert_int_equal(policy, at);
    }
    assert_int_equal(ack_level_find(view_text("fold"), &level), WEIR_NOT_FOUND);
    assert_int_equal(policy_find(view_text(""), &policy), WEIR_NOT_FOUND);
}

static void what_reads_writes_and_reads_the_same(void **state)
{
    (void)state;
    uint64_t seed = (uint64_t)time(NULL) | 1, random = seed;
    print_message("seed %llu\n", (unsigned long long)seed);
    unsigned taken = 0;
    for (unsigned round = 0; round < 200000; round++) {
        uint8_t bytes[600], first[1024], second[1024];
        struct frame frame, again;
        struct view written = frame_bytes(&samples[random_next(&random) % SAMPLE_COUNT].frame, bytes, 512);
        size_t size = written.size;
        for (unsigned changes = 1 + random_next(&random) % 3; changes > 0; changes--)
            bytes[random_next(&random) % size] = (uint8_t)random_next(&random);
        if (random_next(&random) % 8 == 0)
            size = random_next(&random) % (size + 1);
        if (read_exact(view_of(bytes, size), &frame) != WEIR_OK)
            continue;
        taken++;
        struct view one = frame_bytes(&frame, first, sizeof first);
        assert_int_equal(frame_read(one, 16, &again, NULL), WEIR_OK);
        assert_int_equal(again.op, frame.op);
        assert_true(view_is_same(one, frame_bytes(&again, second, sizeof second)));
    }
    assert_true(taken > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_has_a_sample),
        cmocka_unit_test(every_frame_comes_back_as_written),
        cmocka_unit_test(every_prefix_of_a_frame_is_refused_or_has_items_cut),
        cmocka_unit_test(no_byte_may_follow_a_frame),
        cmocka_unit_test(unknown_ops_and_wrong_counts_are_refused),
        cmocka_unit_test(wrong_types_and_ranges_are_refused),
        cmocka_unit_test(publish_needs_records_pairs_and_a_known_ack),
        cmocka_unit_test(items_are_pairs_of_key_and_value),
        cmocka_unit_test(an_items_value_is_what_a_scan_says),
        cmocka_unit_test(items_are_whole_when_each_pair_is_and_none_is_missing),
        cmocka_unit_test(options_left_out_have_their_defaults),
        cmocka_unit_test(unknown_options_are_ignored),
        cmocka_unit_test(subscribe_checks_policy_and_cursors),
        cmocka_unit_test(heads_are_the_frame_without_its_items),
        cmocka_unit_test(heads_fit_their_bound_and_cost_little),
        cmocka_unit_test(words_are_found_by_their_names),
        cmocka_unit_test(what_reads_writes_and_reads_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
