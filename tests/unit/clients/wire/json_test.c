/* JSON and msgpack: what JSON has comes back the same, what it lacks has its stand-in, and refusals say where. */
#include "clients/wire/json.h"

#include "clients/wire/value.h"
#include "tests/unit/clients/wire/exact.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void assert_prints(struct view value, const char *expected)
{
    struct exact exact = exact_of(value);
    char *text = NULL;
    size_t size = 0;
    assert_int_equal(json_from_msgpack(exact.view, 16, &text, &size), WEIR_OK);
    assert_string_equal(text, expected);
    assert_int_equal(size, strlen(expected));
    free(text);
    exact_free(&exact);
}

static void assert_reads(const char *text, struct view expected)
{
    struct exact exact = exact_of(view_text(text));
    uint8_t *value = NULL;
    size_t size = 0;
    const char *reason = "";
    assert_int_equal(json_to_msgpack(exact.view, 16, &value, &size, &reason), WEIR_OK);
    assert_true(view_is_same(view_of(value, size), expected));
    free(value);
    exact_free(&exact);
}

/* Both ways. */
static void assert_same(const char *text, struct view value)
{
    assert_prints(value, text);
    assert_reads(text, value);
}

static void what_json_has_comes_back_the_same(void **state)
{
    (void)state;
    assert_same("null", BYTES(0xc0));
    assert_same("true", BYTES(0xc3));
    assert_same("false", BYTES(0xc2));
    assert_same("0", BYTES(0));
    assert_same("-1", BYTES(0xff));
    assert_same("9223372036854775807", BYTES(0xcf, 0x7f, 255, 255, 255, 255, 255, 255, 255));
    assert_same("-9223372036854775808", BYTES(0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0));
    assert_same("1.0", BYTES(0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0));
    assert_same("0.1", BYTES(0xcb, 0x3f, 0xb9, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a));
    assert_same("\"\"", BYTES(0xa0));
    assert_same("\"\xc3\xa9\"", BYTES(0xa2, 0xc3, 0xa9));
    assert_same("\"\\\"\\\\\\n\\u0000\\u001f\"", BYTES(0xa5, '"', '\\', '\n', 0, 0x1f));
    assert_same("[]", BYTES(0x90));
    assert_same("[1,[2]]", BYTES(0x92, 1, 0x91, 2));
    assert_same("{}", BYTES(0x80));
    assert_same("{\"b\":1,\"a\":{\"c\":null}}", BYTES(0x82, 0xa1, 'b', 1, 0xa1, 'a', 0x81, 0xa1, 'c', 0xc0));
}

static void what_json_lacks_has_a_stand_in(void **state)
{
    (void)state;
    assert_same("{\"$bin\":\"\"}", BYTES(0xc4, 0));
    assert_same("{\"$bin\":\"/w==\"}", BYTES(0xc4, 1, 0xff));
    assert_same("{\"$bin\":\"AQI=\"}", BYTES(0xc4, 2, 1, 2));
    assert_same("{\"$bin\":\"AQID\"}", BYTES(0xc4, 3, 1, 2, 3));
    assert_same("{\"$ext\":[-1,\"AAAAAQ==\"]}", BYTES(0xd6, 0xff, 0, 0, 0, 1));
    assert_same("{\"$uint\":\"18446744073709551615\"}", BYTES(0xcf, 255, 255, 255, 255, 255, 255, 255, 255));
    assert_prints(BYTES(0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0), "null");
    assert_prints(BYTES(0xcb, 0xff, 0xf0, 0, 0, 0, 0, 0, 0), "null");
    assert_prints(BYTES(0xca, 0x3f, 0, 0, 0), "0.5");
}

static void keys_that_are_no_str_become_their_json(void **state)
{
    (void)state;
    assert_prints(BYTES(0x83, 1, 2, 0xc0, 3, 0xc3, 4), "{\"1\":2,\"null\":3,\"true\":4}");
    assert_prints(BYTES(0x81, 0x81, 0xa1, 'a', 1, 2), "{\"{\\\"a\\\":1}\":2}");
    assert_prints(BYTES(0x82, 0xa1, 'a', 1, 0xa1, 'a', 2), "{\"a\":1,\"a\":2}");
    /* Six maps, each the key of the one around it. */
    char *text = NULL;
    size_t size;
    assert_int_equal(
        json_from_msgpack(BYTES(0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 1, 1, 1, 1, 1, 1, 1), 16, &text, &size),
        WEIR_TOO_BIG);
    assert_null(text);
}

static void stand_ins_that_are_none_stay_maps(void **state)
{
    (void)state;
    assert_reads("{\"$bin\":\"A\"}", BYTES(0x81, 0xa4, '$', 'b', 'i', 'n', 0xa1, 'A'));
    assert_reads("{\"$bin\":\"AQJ=\"}", BYTES(0x81, 0xa4, '$', 'b', 'i', 'n', 0xa4, 'A', 'Q', 'J', '='));
    assert_reads("{\"$bin\":5}", BYTES(0x81, 0xa4, '$', 'b', 'i', 'n', 5));
    assert_reads("{\"$bin\":\"\",\"a\":1}", BYTES(0x82, 0xa4, '$', 'b', 'i', 'n', 0xa0, 0xa1, 'a', 1));
    assert_reads("{\"$ext\":[200,\"\"]}", BYTES(0x81, 0xa4, '$', 'e', 'x', 't', 0x92, 0xcc, 200, 0xa0));
    assert_reads("{\"$uint\":\"-1\"}", BYTES(0x81, 0xa5, '$', 'u', 'i', 'n', 't', 0xa2, '-', '1'));
}

static const char *refused(const char *text, unsigned depth_max)
{
    uint8_t *value = NULL;
    size_t size;
    const char *reason = NULL;
    assert_int_equal(json_to_msgpack(view_text(text), depth_max, &value, &size, &reason), WEIR_BAD_REQUEST);
    assert_non_null(reason);
    return reason;
}

static void refusals_say_where(void **state)
{
    (void)state;
    assert_non_null(strstr(refused("[1,\n 2", 16), "line 2, column"));
    assert_non_null(strstr(refused("", 16), "line 1"));
    (void)refused("{\"a\":1,\"a\":2}", 16);
    (void)refused("18446744073709551616", 16);
    (void)refused("1e999", 16);
    (void)refused("[1] 2", 16);
    (void)refused("\"\xff\"", 16);
    (void)refused("nul", 16);
    assert_non_null(strstr(refused("[[[1]]]", 2), "more than 2 deep"));
    assert_reads("[[[1]]]", BYTES(0x91, 0x91, 0x91, 1));
}

static void malformed_msgpack_is_refused(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size;
    assert_int_equal(json_from_msgpack(BYTES(0xc1), 16, &text, &size), WEIR_BAD_REQUEST);
    assert_int_equal(json_from_msgpack(BYTES(0x91), 16, &text, &size), WEIR_BAD_REQUEST);
    assert_int_equal(json_from_msgpack(BYTES(1, 2), 16, &text, &size), WEIR_BAD_REQUEST);
    assert_int_equal(json_from_msgpack(BYTES(0x91, 0x91, 1), 1, &text, &size), WEIR_BAD_REQUEST);
    assert_int_equal(json_from_msgpack(view_of(NULL, 0), 16, &text, &size), WEIR_BAD_REQUEST);
    assert_null(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_json_has_comes_back_the_same),
        cmocka_unit_test(what_json_lacks_has_a_stand_in),
        cmocka_unit_test(keys_that_are_no_str_become_their_json),
        cmocka_unit_test(stand_ins_that_are_none_stay_maps),
        cmocka_unit_test(refusals_say_where),
        cmocka_unit_test(malformed_msgpack_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
