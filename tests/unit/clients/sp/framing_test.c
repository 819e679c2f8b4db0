/* SP bytes: header, prefix and the search for a whole message. */
#include "clients/sp/framing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void header_has_the_bytes_of_the_rfc(void **state)
{
    (void)state;
    uint8_t header[SP_HEADER_SIZE];
    const uint8_t expected[SP_HEADER_SIZE] = {0, 'S', 'P', 0, 0, 0x51, 0, 0};
    sp_header_write(header, SP_PULL0);
    assert_memory_equal(header, expected, sizeof header);
}

static void header_read_returns_every_protocol_number(void **state)
{
    (void)state;
    for (unsigned number = 0; number <= 0xffff; number++) {
        const uint8_t header[SP_HEADER_SIZE] = {0, 'S', 'P', 0, (uint8_t)(number >> 8), (uint8_t)number, 0, 0};
        uint16_t protocol = 0;
        assert_int_equal(sp_header_read(header, &protocol), WEIR_OK);
        assert_int_equal(protocol, number);
    }
}

static void header_with_any_other_byte_is_refused(void **state)
{
    (void)state;
    uint8_t good[SP_HEADER_SIZE];
    sp_header_write(good, SP_PUSH0);
    for (unsigned at = 0; at < SP_HEADER_SIZE; at++) {
        if (at == 4 || at == 5)
            continue;
        for (unsigned value = 0; value < 256; value++) {
            uint8_t header[SP_HEADER_SIZE];
            memcpy(header, good, sizeof header);
            header[at] = (uint8_t)value;
            uint16_t protocol;
            enum weir_error expected = value == good[at] ? WEIR_OK : WEIR_PROTOCOL;
            assert_int_equal(sp_header_read(header, &protocol), expected);
        }
    }
}

static void only_four_protocols_are_answered(void **state)
{
    (void)state;
    unsigned served = 0;
    for (unsigned number = 0; number <= 0xffff; number++) {
        enum sp_protocol answer;
        if (sp_protocol_answer((uint16_t)number, &answer) == WEIR_OK)
            served++;
        assert_non_null(sp_protocol_name((uint16_t)number));
    }
    assert_int_equal(served, 4);
    const struct {
        enum sp_protocol peer;
        enum sp_protocol answer;
    } pairs[] = {{SP_PUSH0, SP_PULL0}, {SP_REQ0, SP_REP0}, {SP_PAIR0, SP_PAIR0}, {SP_SUB0, SP_PUB0}};
    for (unsigned i = 0; i < 4; i++) {
        enum sp_protocol answer;
        assert_int_equal(sp_protocol_answer((uint16_t)pairs[i].peer, &answer), WEIR_OK);
        assert_int_equal(answer, pairs[i].answer);
    }
}

/* One message of body_size bytes seen at every length from 0 to all of it and beyond. */
static void splits_check(bool is_ipc, size_t body_size)
{
    uint8_t data[9 + 300 + 3];
    size_t prefix = sp_prefix_size(is_ipc);
    size_t whole = prefix + body_size;
    memset(data, 0x5a, sizeof data);
    sp_prefix_write(data, is_ipc, body_size);
    for (size_t size = 0; size <= whole + 3; size++) {
        size_t offset = 0;
        size_t found = 0;
        size_t needed = 0;
        enum weir_error error = sp_message_find(data, size, is_ipc, 300, &offset, &found, &needed);
        if (size < whole) {
            assert_int_equal(error, WEIR_AGAIN);
            assert_int_equal(needed, size < prefix ? prefix : whole);
            continue;
        }
        assert_int_equal(error, WEIR_OK);
        assert_int_equal(offset, prefix);
        assert_int_equal(found, body_size);
    }
}

static void message_is_found_at_every_split_point(void **state)
{
    (void)state;
    for (size_t body_size = 0; body_size <= 300; body_size++) {
        splits_check(false, body_size);
        splits_check(true, body_size);
    }
}

static void body_beyond_the_bound_is_too_big_from_its_prefix_alone(void **state)
{
    (void)state;
    const uint64_t lengths[] = {1025,
                                UINT64_MAX,
                                UINT64_MAX - 7,
                                UINT64_MAX - 8,
                                UINT64_MAX - 23,
                                UINT64_C(1) << 63,
                                UINT64_C(1) << 32,
                                (UINT64_C(1) << 32) + 5};
    for (unsigned i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        for (int is_ipc = 0; is_ipc < 2; is_ipc++) {
            uint8_t data[SP_PREFIX_SIZE_MAX];
            size_t offset, size, needed;
            sp_prefix_write(data, is_ipc, lengths[i]);
            assert_int_equal(sp_message_find(data, sp_prefix_size(is_ipc), is_ipc, 1024, &offset, &size, &needed),
                             WEIR_TOO_BIG);
        }
    }
}

static void body_of_exactly_the_bound_is_taken(void **state)
{
    (void)state;
    uint8_t data[SP_PREFIX_SIZE_MAX + 1024] = {0};
    size_t offset, size, needed;
    sp_prefix_write(data, false, 1024);
    assert_int_equal(sp_message_find(data, 8 + 1024, false, 1024, &offset, &size, &needed), WEIR_OK);
    assert_int_equal(size, 1024);
}

static void wrong_ipc_type_byte_is_refused_at_once(void **state)
{
    (void)state;
    uint8_t data[SP_PREFIX_SIZE_MAX] = {0};
    size_t offset, size, needed;
    for (unsigned value = 0; value < 256; value++) {
        data[0] = (uint8_t)value;
        enum weir_error expected = value == 1 ? WEIR_AGAIN : WEIR_PROTOCOL;
        assert_int_equal(sp_message_find(data, 1, true, 1024, &offset, &size, &needed), expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_has_the_bytes_of_the_rfc),
        cmocka_unit_test(header_read_returns_every_protocol_number),
        cmocka_unit_test(header_with_any_other_byte_is_refused),
        cmocka_unit_test(only_four_protocols_are_answered),
        cmocka_unit_test(message_is_found_at_every_split_point),
        cmocka_unit_test(body_beyond_the_bound_is_too_big_from_its_prefix_alone),
        cmocka_unit_test(body_of_exactly_the_bound_is_taken),
        cmocka_unit_test(wrong_ipc_type_byte_is_refused_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
