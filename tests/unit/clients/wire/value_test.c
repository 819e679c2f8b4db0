/* Values: what value_scan takes and refuses, and that readers and writers agree with it. */
#include "clients/wire/value.h"

#include "clients/wire/utf8.h"
#include "tests/unit/clients/wire/exact.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static enum weir_error scan(struct view bytes, unsigned depth_max, size_t *size)
{
    struct exact exact = exact_of(bytes);
    enum weir_error error = value_scan(exact.view, depth_max, size);
    exact_free(&exact);
    return error;
}

static void assert_scans(struct view bytes, enum weir_error expected)
{
    size_t size = 0;
    assert_int_equal(scan(bytes, 16, &size), expected);
    if (expected == WEIR_OK)
        assert_int_equal(size, bytes.size);
}

static void scan_takes_every_type(void **state)
{
    (void)state;
    assert_scans(BYTES(0x00), WEIR_OK);
    assert_scans(BYTES(0x7f), WEIR_OK);
    assert_scans(BYTES(0xe0), WEIR_OK);
    assert_scans(BYTES(0xc0), WEIR_OK);
    assert_scans(BYTES(0xc2), WEIR_OK);
    assert_scans(BYTES(0xc3), WEIR_OK);
    assert_scans(BYTES(0xcc, 1), WEIR_OK);
    assert_scans(BYTES(0xcd, 1, 2), WEIR_OK);
    assert_scans(BYTES(0xce, 1, 2, 3, 4), WEIR_OK);
    assert_scans(BYTES(0xcf, 255, 255, 255, 255, 255, 255, 255, 255), WEIR_OK);
    assert_scans(BYTES(0xd0, 0x80), WEIR_OK);
    assert_scans(BYTES(0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0), WEIR_OK);
    assert_scans(BYTES(0xca, 0, 0, 0, 0), WEIR_OK);
    assert_scans(BYTES(0xcb, 0, 0, 0, 0, 0, 0, 0, 0), WEIR_OK);
    assert_scans(BYTES(0xa0), WEIR_OK);
    assert_scans(BYTES(0xa1, 'a'), WEIR_OK);
    assert_scans(BYTES(0xd9, 1, 'a'), WEIR_OK);
    assert_scans(BYTES(0xda, 0, 1, 'a'), WEIR_OK);
    assert_scans(BYTES(0xdb, 0, 0, 0, 1, 'a'), WEIR_OK);
    assert_scans(BYTES(0xc4, 1, 0xff), WEIR_OK);
    assert_scans(BYTES(0xc5, 0, 1, 0xff), WEIR_OK);
    assert_scans(BYTES(0xc6, 0, 0, 0, 1, 0xff), WEIR_OK);
    assert_scans(BYTES(0x90), WEIR_OK);
    assert_scans(BYTES(0x92, 1, 0x91, 2), WEIR_OK);
    assert_scans(BYTES(0xdc, 0, 1, 5), WEIR_OK);
    assert_scans(BYTES(0xdd, 0, 0, 0, 1, 5), WEIR_OK);
    assert_scans(BYTES(0x80), WEIR_OK);
    assert_scans(BYTES(0x81, 0xa1, 'k', 0x80), WEIR_OK);
    assert_scans(BYTES(0xde, 0, 1, 1, 2), WEIR_OK);
    assert_scans(BYTES(0xdf, 0, 0, 0, 1, 1, 2), WEIR_OK);
}

static void scan_takes_ext_as_opaque(void **state)
{
    (void)state;
    assert_scans(BYTES(0xd4, 5, 1), WEIR_OK);
    assert_scans(BYTES(0xd5, 5, 1, 2), WEIR_OK);
    assert_scans(BYTES(0xd6, 0xff, 1, 2, 3, 4), WEIR_OK);
    assert_scans(BYTES(0xd7, 0xff, 1, 2, 3, 4, 5, 6, 7, 8), WEIR_OK);
    assert_scans(BYTES(0xd8, 5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16), WEIR_OK);
    assert_scans(BYTES(0xc7, 0, 5), WEIR_OK);
    assert_scans(BYTES(0xc7, 3, 5, 0xff, 0xff, 0xff), WEIR_OK);
    assert_scans(BYTES(0xc8, 0, 1, 5, 0xc1), WEIR_OK);
    assert_scans(BYTES(0xc9, 0, 0, 0, 1, 5, 0xc1), WEIR_OK);
    assert_scans(BYTES(0xc7, 3, 5, 0xff, 0xff), WEIR_AGAIN);
}

static void scan_leaves_what_follows(void **state)
{
    (void)state;
    size_t size = 0;
    assert_int_equal(scan(BYTES(0x92, 1, 2, 0xc1, 0xc1), 16, &size), WEIR_OK);
    assert_int_equal(size, 3);
}

static void scan_refuses_c1(void **state)
{
    (void)state;
    assert_scans(BYTES(0xc1), WEIR_BAD_REQUEST);
    assert_scans(BYTES(0x92, 1, 0xc1), WEIR_BAD_REQUEST);
}

static void scan_believes_no_claimed_length(void **state)
{
    (void)state;
    assert_scans(BYTES(0xdf, 0x10, 0, 0, 0), WEIR_AGAIN);
    assert_scans(BYTES(0xdf, 0xff, 0xff, 0xff, 0xff, 1), WEIR_AGAIN);
    assert_scans(BYTES(0xdd, 0xff, 0xff, 0xff, 0xff, 1, 2), WEIR_AGAIN);
    assert_scans(BYTES(0xdb, 0xff, 0xff, 0xff, 0xff, 'a'), WEIR_AGAIN);
    assert_scans(BYTES(0xc6, 0xff, 0xff, 0xff, 0xff, 'a'), WEIR_AGAIN);
    assert_scans(BYTES(0xc9, 0xff, 0xff, 0xff, 0xff, 1, 'a'), WEIR_AGAIN);
    uint8_t nested[155];
    for (size_t at = 0; at < sizeof nested; at += 5)
        memcpy(nested + at, "\xdd\x08\x00\x00\x00", 5);
    size_t size;
    assert_int_not_equal(scan(view_of(nested, sizeof nested), 16, &size), WEIR_OK);
    assert_int_not_equal(scan(view_of(nested, sizeof nested), VALUE_DEPTH_LIMIT, &size), WEIR_OK);
}

static void scan_stops_at_the_depth_allowed(void **state)
{
    (void)state;
    uint8_t nested[VALUE_DEPTH_LIMIT + 3];
    size_t size;
    for (unsigned depth = 0; depth <= VALUE_DEPTH_LIMIT + 1; depth++) {
        memset(nested, 0x91, depth);
        nested[depth] = 5;
        assert_int_equal(scan(view_of(nested, depth + 1), 16, &size), depth <= 16 ? WEIR_OK : WEIR_BAD_REQUEST);
        assert_int_equal(scan(view_of(nested, depth + 1), 1000, &size),
                         depth <= VALUE_DEPTH_LIMIT ? WEIR_OK : WEIR_BAD_REQUEST);
        if (depth > 0) { /* an empty array is as deep as a full one */
            nested[depth - 1] = 0x90;
            assert_int_equal(scan(view_of(nested, depth), depth, &size),
                             depth <= VALUE_DEPTH_LIMIT ? WEIR_OK : WEIR_BAD_REQUEST);
            assert_int_equal(scan(view_of(nested, depth), depth - 1, &size), WEIR_BAD_REQUEST);
        }
    }
    assert_int_equal(scan(BYTES(5), 0, &size), WEIR_OK);
    assert_int_equal(scan(BYTES(0x80), 0, &size), WEIR_BAD_REQUEST);
}

static void depth_counts_levels_not_siblings(void **state)
{
    (void)state;
    size_t size;
    assert_int_equal(scan(BYTES(0x93, 0x91, 1, 0x91, 2, 0x90), 2, &size), WEIR_OK);
    assert_int_equal(size, 6);
}

static void scan_refuses_invalid_utf8(void **state)
{
    (void)state;
    assert_scans(BYTES(0xa1, 0x80), WEIR_BAD_REQUEST);
    assert_scans(BYTES(0xa1, 0xff), WEIR_BAD_REQUEST);
    assert_scans(BYTES(0xa2, 0xc0, 0x80), WEIR_BAD_REQUEST);
    assert_scans(BYTES(0xa2, 0xc1, 0xbf), WEIR_BAD_REQUEST);
    assert_scans(BYTES(0xa3, 0xe0, 0x80, 0x80), WEIR_BAD_REQUEST);
    assert_scans(BYTES(0xa3, 0xed, 0xa0, 0x80), WEIR_BAD_REQUEST);
    assert_scans(BYTES(0xa4, 0xf0, 0x80, 0x80, 0x80), WEIR_BAD_REQUEST);
    assert_scans(BYTES(0xa4, 0xf4, 0x90, 0x80, 0x80), WEIR_BAD_REQUEST);
    assert_scans(BYTES(0xa4, 0xf5, 0x80, 0x80, 0x80), WEIR_BAD_REQUEST);
    assert_scans(BYTES(0xa2, 0xc3, 0x28), WEIR_BAD_REQUEST);
    assert_scans(BYTES(0xa1, 0xc3), WEIR_BAD_REQUEST);
    assert_scans(BYTES(0xd9, 3, 0xe2, 0x82, 'a'), WEIR_BAD_REQUEST);
    assert_scans(BYTES(0xa1, 0), WEIR_OK);
    assert_scans(BYTES(0xa2, 0xc3, 0xa9), WEIR_OK);
    assert_scans(BYTES(0xa3, 0xe2, 0x82, 0xac), WEIR_OK);
    assert_scans(BYTES(0xa4, 0xf4, 0x8f, 0xbf, 0xbf), WEIR_OK);
}

/* The definition, one code point at a time: what the fast check must agree with. */
static bool utf8_is_valid_naive(const uint8_t *text, size_t size)
{
    size_t at = 0;
    while (at < size) {
        uint32_t first = text[at], point;
        size_t more = first < 0x80 ? 0 : (first & 0xe0) == 0xc0 ? 1 : (first & 0xf0) == 0xe0 ? 2 : 3;
        if ((first >= 0x80 && first < 0xc0) || first >= 0xf8 || at + more >= size + (more == 0))
            return false;
        point = more == 0 ? first : first & (0x3fu >> more);
        for (size_t next = 1; next <= more; next++) {
            if ((text[at + next] & 0xc0) != 0x80)
                return false;
            point = point << 6 | (text[at + next] & 0x3fu);
        }
        static const uint32_t least[4] = {0, 0x80, 0x800, 0x10000};
        if (point < least[more] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
            return false;
        at += more + 1;
    }
    return true;
}

static void utf8_agrees_with_the_definition(void **state)
{
    (void)state;
    static const uint8_t pieces[] = {'a',  0x7f, 0x80, 0xbf, 0xc2, 0xc3, 0xdf, 0xe0, 0xa0, 0x9f,
                                     0xe1, 0xed, 0xef, 0xf0, 0x90, 0x8f, 0xf1, 0xf4, 0xf5, 0xff};
    uint64_t seed = (uint64_t)time(NULL) | 1, random = seed;
    print_message("seed %llu\n", (unsigned long long)seed);
    size_t valid = 0;
    for (unsigned round = 0; round < 300000; round++) {
        uint8_t text[40];
        size_t size = random_next(&random) % sizeof text;
        memset(text, 'x', sizeof text);
        size_t spots = random_next(&random) % 5;
        for (size_t spot = 0; spot < spots && size > 0; spot++)
            text[random_next(&random) % size] = pieces[random_next(&random) % sizeof pieces];
        if (size > 6 && random_next(&random) % 2)
            memcpy(text + random_next(&random) % (size - 4), "\xf0\x9f\x8c\x8a", 4);
        struct exact exact = exact_of(view_of(text, size));
        bool expected = utf8_is_valid_naive(exact.view.data, size);
        valid += expected;
        assert_int_equal(utf8_is_valid(exact.view.data, size), expected);
        exact_free(&exact);
    }
    assert_true(valid > 10000);
}

static size_t sample_write(uint8_t *out, size_t capacity)
{
    struct value_writer writer;
    value_writer_init(&writer, out, capacity);
    value_write_map(&writer, 3);
    value_write_str(&writer, view_text("name"));
    value_write_str(&writer, view_text("a text that is longer than thirty-one bytes are"));
    value_write_str(&writer, view_text("list"));
    value_write_array(&writer, 7);
    value_write_nil(&writer);
    value_write_bool(&writer, true);
    value_write_uint(&writer, UINT64_MAX);
    value_write_int(&writer, INT64_MIN);
    value_write_double(&writer, 0.5);
    value_write_bin(&writer, view_text("bytes"));
    value_write_raw(&writer, BYTES(0xd6, 0xff, 1, 2, 3, 4));
    value_write_str(&writer, view_text("more"));
    value_write_map(&writer, 0);
    assert_false(writer.is_full);
    return writer.size;
}

static void scan_says_again_for_every_prefix(void **state)
{
    (void)state;
    uint8_t bytes[256];
    size_t whole = sample_write(bytes, sizeof bytes), size;
    for (size_t cut = 0; cut < whole; cut++)
        assert_int_equal(scan(view_of(bytes, cut), 16, &size), WEIR_AGAIN);
    assert_int_equal(scan(view_of(bytes, whole), 16, &size), WEIR_OK);
    assert_int_equal(size, whole);
    assert_int_equal(value_scan(view_of(NULL, 0), 16, &size), WEIR_AGAIN);
}

static void writer_stops_where_its_memory_ends(void **state)
{
    (void)state;
    uint8_t bytes[256];
    size_t whole = sample_write(bytes, sizeof bytes);
    for (size_t capacity = 0; capacity < whole; capacity++) {
        struct exact exact = exact_of(view_of(bytes, capacity));
        struct value_writer writer;
        value_writer_init(&writer, exact.memory, capacity);
        value_write_raw(&writer, view_of(bytes, whole - 1));
        value_write_nil(&writer);
        assert_true(writer.is_full || capacity >= whole);
        size_t size = writer.size;
        value_write_nil(&writer);
        assert_int_equal(writer.size, writer.is_full ? size : size + 1);
        exact_free(&exact);
    }
}

static void reader_reads_what_the_writer_wrote(void **state)
{
    (void)state;
    uint8_t bytes[256];
    struct view whole = view_of(bytes, sample_write(bytes, sizeof bytes));
    struct value_reader reader;
    value_reader_init(&reader, whole, 16);
    assert_int_equal(value_read_map(&reader), 3);
    assert_true(view_is_same(value_read_str(&reader), view_text("name")));
    assert_int_equal(value_read_str(&reader).size, 47);
    assert_true(view_is_same(value_read_str(&reader), view_text("list")));
    assert_int_equal(value_read_array(&reader), 7);
    assert_true(value_peek_nil(&reader));
    assert_int_equal(value_read_any(&reader).size, 1);
    assert_true(value_read_bool(&reader));
    assert_true(value_read_uint(&reader) == UINT64_MAX);
    for (unsigned left = 4; left > 0; left--)
        assert_true(value_read_any(&reader).size > 0);
    assert_true(view_is_same(value_read_str(&reader), view_text("more")));
    assert_int_equal(value_read_map(&reader), 0);
    assert_int_equal(reader.error, WEIR_OK);
    assert_true(value_reader_at_end(&reader));
    (void)value_read_any(&reader);
    assert_int_equal(reader.error, WEIR_BAD_REQUEST);
}

static uint64_t read_one_uint(struct view bytes, enum weir_error expected)
{
    struct value_reader reader;
    value_reader_init(&reader, bytes, 16);
    uint64_t number = value_read_uint(&reader);
    assert_int_equal(reader.error, expected);
    return number;
}

static void integers_are_read_in_any_encoding_and_refused_when_negative(void **state)
{
    (void)state;
    assert_int_equal(read_one_uint(BYTES(5), WEIR_OK), 5);
    assert_int_equal(read_one_uint(BYTES(0xcc, 5), WEIR_OK), 5);
    assert_int_equal(read_one_uint(BYTES(0xcd, 0, 5), WEIR_OK), 5);
    assert_int_equal(read_one_uint(BYTES(0xd0, 5), WEIR_OK), 5);
    assert_int_equal(read_one_uint(BYTES(0xd1, 1, 0), WEIR_OK), 256);
    assert_int_equal(read_one_uint(BYTES(0xd2, 0, 0, 1, 0), WEIR_OK), 256);
    assert_int_equal(read_one_uint(BYTES(0xd3, 0, 0, 0, 0, 0, 0, 1, 0), WEIR_OK), 256);
    assert_int_equal(read_one_uint(BYTES(0xd0, 0xff), WEIR_BAD_REQUEST), 0);
    assert_int_equal(read_one_uint(BYTES(0xff), WEIR_BAD_REQUEST), 0);
    assert_int_equal(read_one_uint(BYTES(0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0), WEIR_BAD_REQUEST), 0);
    assert_int_equal(read_one_uint(BYTES(0xca, 0, 0, 0, 0), WEIR_BAD_REQUEST), 0);
    assert_int_equal(read_one_uint(BYTES(0xcd, 5), WEIR_BAD_REQUEST), 0);
}

static void readers_failure_sticks(void **state)
{
    (void)state;
    struct value_reader reader;
    value_reader_init(&reader, BYTES(0xa1, 'a', 5), 16);
    assert_int_equal(value_read_uint(&reader), 0);
    assert_int_equal(reader.error, WEIR_BAD_REQUEST);
    assert_int_equal(value_read_str(&reader).size, 0);
    assert_int_equal(value_read_array(&reader), 0);
    assert_int_equal(value_read_map(&reader), 0);
    assert_int_equal(value_read_any(&reader).size, 0);
    assert_int_equal(value_read_key(&reader).size, 0);
    assert_false(value_peek_nil(&reader));
    assert_false(value_reader_at_end(&reader));
}

static void reader_believes_no_count(void **state)
{
    (void)state;
    struct value_reader reader;
    value_reader_init(&reader, BYTES(0xdd, 0xff, 0xff, 0xff, 0xff, 1), 16);
    assert_int_equal(value_read_array(&reader), 0);
    assert_int_equal(reader.error, WEIR_BAD_REQUEST);
    value_reader_init(&reader, BYTES(0x82, 1, 2, 3), 16);
    assert_int_equal(value_read_map(&reader), 0);
    assert_int_equal(reader.error, WEIR_BAD_REQUEST);
}

static struct view read_one_key(struct view bytes, enum weir_error expected)
{
    struct value_reader reader;
    value_reader_init(&reader, bytes, 16);
    struct view key = value_read_key(&reader);
    assert_int_equal(reader.error, expected);
    return key;
}

static void key_is_nil_or_a_str_in_its_shortest_form(void **state)
{
    (void)state;
    static uint8_t text[3 + 1025];
    assert_int_equal(read_one_key(BYTES(0xc0), WEIR_OK).size, 0);
    assert_int_equal(read_one_key(BYTES(0xa0), WEIR_OK).size, 1);
    assert_int_equal(read_one_key(BYTES(0xa1, 'k'), WEIR_OK).size, 2);
    assert_int_equal(read_one_key(BYTES(0xd9, 1, 'k'), WEIR_BAD_REQUEST).size, 0);
    assert_int_equal(read_one_key(BYTES(0xda, 0, 1, 'k'), WEIR_BAD_REQUEST).size, 0);
    assert_int_equal(read_one_key(BYTES(5), WEIR_BAD_REQUEST).size, 0);
    assert_int_equal(read_one_key(BYTES(0xc4, 1, 'k'), WEIR_BAD_REQUEST).size, 0);
    assert_int_equal(read_one_key(BYTES(0xa1, 0xff), WEIR_BAD_REQUEST).size, 0);
    memset(text, 'k', sizeof text);
    memcpy(text, "\xda\x04\x00", 3);
    assert_int_equal(read_one_key(view_of(text, 3 + 1024), WEIR_OK).size, 3 + 1024);
    memcpy(text, "\xda\x04\x01", 3);
    assert_int_equal(read_one_key(view_of(text, 3 + 1025), WEIR_BAD_REQUEST).size, 0);
    memcpy(text, "\xd9\xff", 2);
    assert_int_equal(read_one_key(view_of(text, 2 + 255), WEIR_OK).size, 2 + 255);
}

/* Bytes at random, and the sample with bytes changed: what scans is what the readers can walk through. */
static bool walk(struct value_reader *reader, unsigned depth)
{
    struct view any = value_read_any(reader);
    if (reader->error != WEIR_OK)
        return false;
    struct value_reader inner;
    value_reader_init(&inner, any, 64);
    uint8_t first = any.data[0];
    bool is_map = (first >= 0x80 && first <= 0x8f) || first == 0xde || first == 0xdf;
    bool is_array = (first >= 0x90 && first <= 0x9f) || first == 0xdc || first == 0xdd;
    uint64_t count = is_map ? 2 * (uint64_t)value_read_map(&inner) : is_array ? value_read_array(&inner) : 0;
    if (depth > 16 || ((is_map || is_array) && inner.error != WEIR_OK))
        return false;
    for (; count > 0; count--) {
        if (!walk(&inner, depth + 1))
            return false;
    }
    return !(is_map || is_array) || value_reader_at_end(&inner);
}

static void what_scans_can_be_walked(void **state)
{
    (void)state;
    uint64_t seed = (uint64_t)time(NULL) | 1, random = seed;
    print_message("seed %llu\n", (unsigned long long)seed);
    uint8_t sample[256];
    size_t whole = sample_write(sample, sizeof sample), taken = 0;
    for (unsigned round = 0; round < 200000; round++) {
        uint8_t bytes[256];
        size_t size = random_next(&random) % (whole + 1), scanned;
        memcpy(bytes, sample, sizeof bytes);
        unsigned changes = random_next(&random) % 4;
        for (; changes > 0; changes--)
            bytes[random_next(&random) % whole] = (uint8_t)random_next(&random);
        if (round % 2 == 0)
            size = whole;
        struct exact exact = exact_of(view_of(bytes, size));
        if (value_scan(exact.view, 16, &scanned) == WEIR_OK) {
            struct value_reader reader;
            value_reader_init(&reader, exact.view, 16);
            taken++;
            assert_in_range(scanned, 1, size);
            assert_true(walk(&reader, 0));
            assert_int_equal(reader.rest.size, size - scanned);
        }
        exact_free(&exact);
    }
    assert_true(taken > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scan_takes_every_type),
        cmocka_unit_test(scan_takes_ext_as_opaque),
        cmocka_unit_test(scan_leaves_what_follows),
        cmocka_unit_test(scan_refuses_c1),
        cmocka_unit_test(scan_believes_no_claimed_length),
        cmocka_unit_test(scan_stops_at_the_depth_allowed),
        cmocka_unit_test(depth_counts_levels_not_siblings),
        cmocka_unit_test(scan_refuses_invalid_utf8),
        cmocka_unit_test(utf8_agrees_with_the_definition),
        cmocka_unit_test(scan_says_again_for_every_prefix),
        cmocka_unit_test(writer_stops_where_its_memory_ends),
        cmocka_unit_test(reader_reads_what_the_writer_wrote),
        cmocka_unit_test(integers_are_read_in_any_encoding_and_refused_when_negative),
        cmocka_unit_test(readers_failure_sticks),
        cmocka_unit_test(reader_believes_no_count),
        cmocka_unit_test(key_is_nil_or_a_str_in_its_shortest_form),
        cmocka_unit_test(what_scans_can_be_walked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
