/* Merge patches: RFC 7396's own table, a naive model over jansson, bounds, and the cost of many keys. */
#include "clients/wire/merge.h"

#include "actors/base/clock.h"
#include "clients/wire/json.h"
#include "clients/wire/value.h"
#include "tests/unit/clients/wire/exact.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>
#include <jansson.h>

static struct exact msgpack_of(const char *json)
{
    uint8_t *bytes;
    size_t size;
    assert_int_equal(json_to_msgpack(view_text(json), 16, &bytes, &size, NULL), WEIR_OK);
    struct exact exact = exact_of(view_of(bytes, size));
    free(bytes);
    return exact;
}

/* Merges in memory of exactly the size promised to be enough; the caller frees the text. */
static char *merged(const char *target_json, const char *patch_json)
{
    struct exact target = target_json != NULL ? msgpack_of(target_json) : exact_of(view_of(NULL, 0));
    struct exact patch = msgpack_of(patch_json);
    size_t capacity = target.view.size + patch.view.size + 16, size = 0, text_size = 0;
    uint8_t *out = malloc(capacity);
    char *text = NULL;
    assert_non_null(out);
    assert_int_equal(merge_apply(target.view, patch.view, 16, out, capacity, &size), WEIR_OK);
    assert_int_equal(json_from_msgpack(view_of(out, size), 16, &text, &text_size), WEIR_OK);
    free(out);
    exact_free(&target);
    exact_free(&patch);
    return text;
}

static void assert_merges(const char *target, const char *patch, const char *expected)
{
    char *text = merged(target, patch);
    assert_string_equal(text, expected);
    free(text);
}

static void rfc_7396_examples_hold(void **state)
{
    (void)state;
    assert_merges("{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}");
    assert_merges("{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}");
    assert_merges("{\"a\":\"b\"}", "{\"a\":null}", "{}");
    assert_merges("{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}");
    assert_merges("{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}");
    assert_merges("{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}");
    assert_merges("{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}");
    assert_merges("{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}");
    assert_merges("[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]");
    assert_merges("{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]");
    assert_merges("{\"a\":\"foo\"}", "null", "null");
    assert_merges("{\"a\":\"foo\"}", "\"bar\"", "\"bar\"");
    assert_merges("{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}");
    assert_merges("[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}");
    assert_merges("{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}");
}

static void an_absent_target_takes_the_patch_without_its_nils(void **state)
{
    (void)state;
    assert_merges(NULL, "{\"a\":1,\"b\":null,\"c\":{\"d\":null}}", "{\"a\":1,\"c\":{}}");
    assert_merges(NULL, "5", "5");
    assert_merges(NULL, "{}", "{}");
}

static void keys_keep_their_order(void **state)
{
    (void)state;
    assert_merges("{\"z\":1,\"a\":2,\"m\":3}", "{\"y\":4,\"m\":5,\"b\":6,\"z\":null}",
                  "{\"a\":2,\"m\":5,\"y\":4,\"b\":6}");
}

static void merge_bytes(struct view target, struct view patch, struct view expected)
{
    uint8_t out[64];
    size_t size;
    assert_int_equal(merge_apply(target, patch, 16, out, target.size + patch.size + 16, &size), WEIR_OK);
    assert_true(view_is_same(view_of(out, size), expected));
}

static void keys_are_the_same_however_encoded_and_of_any_type(void **state)
{
    (void)state;
    merge_bytes(BYTES(0x81, 0xa1, 'a', 1), BYTES(0x81, 0xd9, 1, 'a', 2), BYTES(0x81, 0xa1, 'a', 2));
    merge_bytes(BYTES(0x82, 5, 1, 0xa1, 5, 2), BYTES(0x81, 5, 0xc0), BYTES(0x81, 0xa1, 5, 2));
    merge_bytes(BYTES(0x81, 0xc4, 1, 'a', 1), BYTES(0x81, 0xa1, 'a', 2), BYTES(0x82, 0xc4, 1, 'a', 1, 0xa1, 'a', 2));
    merge_bytes(BYTES(0x81, 0x91, 1, 1), BYTES(0x81, 0x91, 1, 2), BYTES(0x81, 0x91, 1, 2));
}

static void a_key_that_is_there_twice_counts_once(void **state)
{
    (void)state;
    merge_bytes(BYTES(0x80), BYTES(0x82, 1, 1, 1, 2), BYTES(0x81, 1, 2));
    merge_bytes(BYTES(0x80), BYTES(0x82, 1, 1, 1, 0xc0), BYTES(0x80));
    merge_bytes(BYTES(0x82, 1, 7, 1, 8), BYTES(0x81, 1, 9), BYTES(0x81, 1, 9));
    merge_bytes(BYTES(0x82, 1, 7, 1, 8), BYTES(0x81, 1, 0xc0), BYTES(0x80));
}

static void malformed_input_is_refused(void **state)
{
    (void)state;
    uint8_t out[64];
    size_t size;
    assert_int_equal(merge_apply(BYTES(0x81, 1), BYTES(0x80), 16, out, sizeof out, &size), WEIR_BAD_REQUEST);
    assert_int_equal(merge_apply(BYTES(0x80), BYTES(0xc1), 16, out, sizeof out, &size), WEIR_BAD_REQUEST);
    assert_int_equal(merge_apply(BYTES(0x80), BYTES(0x80, 1), 16, out, sizeof out, &size), WEIR_BAD_REQUEST);
    assert_int_equal(merge_apply(BYTES(0x80), view_of(NULL, 0), 16, out, sizeof out, &size), WEIR_BAD_REQUEST);
    assert_int_equal(merge_apply(BYTES(0x80), BYTES(0x81, 1, 0x80), 1, out, sizeof out, &size), WEIR_BAD_REQUEST);
}

static void what_does_not_fit_is_too_big(void **state)
{
    (void)state;
    size_t size;
    for (size_t capacity = 0; capacity < 7; capacity++) {
        uint8_t *out = malloc(capacity + 1);
        assert_non_null(out);
        assert_int_equal(merge_apply(BYTES(0x81, 1, 0x81, 2, 2), BYTES(0x81, 1, 0x81, 3, 3), 16, out, capacity, &size),
                         WEIR_TOO_BIG);
        free(out);
    }
}

static json_t *naive(json_t *target, json_t *patch)
{
    if (!json_is_object(patch))
        return json_deep_copy(patch);
    json_t *result = json_is_object(target) ? json_deep_copy(target) : json_object();
    const char *key;
    json_t *value;
    json_object_foreach(patch, key, value)
    {
        if (json_is_null(value))
            json_object_del(result, key);
        else
            json_object_set_new(result, key, naive(json_object_get(result, key), value));
    }
    return result;
}

static json_t *random_value(uint64_t *random, unsigned depth)
{
    static const char *const keys[] = {"a", "b", "c", "d", "e", "key", "longer", "x", "y", "z"};
    unsigned choice = random_next(random) % (depth < 4 ? 8 : 3);
    if (choice == 0)
        return json_null();
    if (choice == 1)
        return json_integer((json_int_t)(random_next(random) % 1000));
    if (choice == 2)
        return json_string("text");
    if (choice == 3)
        return json_pack("[i,n,s]", 1, "x");
    json_t *object = json_object();
    for (unsigned pairs = random_next(random) % 10; pairs > 0; pairs--)
        json_object_set_new(object, keys[random_next(random) % 10], random_value(random, depth + 1));
    return object;
}

static void merging_agrees_with_a_naive_model(void **state)
{
    (void)state;
    uint64_t seed = (uint64_t)time(NULL) | 1, random = seed;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (unsigned round = 0; round < 5000; round++) {
        json_t *target = random_value(&random, 0), *patch = random_value(&random, 0);
        char *target_text = json_dumps(target, JSON_ENCODE_ANY), *patch_text = json_dumps(patch, JSON_ENCODE_ANY);
        char *text = merged(target_text, patch_text);
        json_t *expected = naive(target, patch), *found = json_loads(text, JSON_DECODE_ANY, NULL);
        assert_true(json_equal(expected, found));
        json_decref(target);
        json_decref(patch);
        json_decref(expected);
        json_decref(found);
        free(target_text);
        free(patch_text);
        free(text);
    }
}

/* A map of count keys; those of a patch are half known and half new. */
static size_t many_keys(uint8_t *out, size_t capacity, uint32_t count, uint32_t first)
{
    struct value_writer writer;
    char key[16];
    value_writer_init(&writer, out, capacity);
    value_write_map(&writer, count);
    for (uint32_t index = 0; index < count; index++) {
        (void)snprintf(key, sizeof key, "%08x", (first + index) * 2654435761u);
        value_write_str(&writer, view_text(key));
        value_write_uint(&writer, index);
    }
    assert_false(writer.is_full);
    return writer.size;
}

static uint64_t merge_ns(uint32_t count)
{
    size_t capacity = (size_t)count * 16 + 16, size = 0;
    uint8_t *target = malloc(capacity), *patch = malloc(capacity), *out = malloc(2 * capacity + 16);
    assert_true(target != NULL && patch != NULL && out != NULL);
    struct view target_view = view_of(target, many_keys(target, capacity, count, 0));
    struct view patch_view = view_of(patch, many_keys(patch, capacity, count, count / 2));
    uint64_t best = UINT64_MAX;
    for (unsigned round = 0; round < 5; round++) {
        uint64_t start = clock_cpu_ns();
        assert_int_equal(merge_apply(target_view, patch_view, 16, out, 2 * capacity + 16, &size), WEIR_OK);
        uint64_t spent = clock_cpu_ns() - start;
        best = spent < best ? spent : best;
    }
    struct value_reader reader;
    value_reader_init(&reader, view_of(out, size), 16);
    assert_int_equal(value_read_map(&reader), count + count / 2);
    free(target);
    free(patch);
    free(out);
    return best;
}

static void many_keys_are_not_quadratic(void **state)
{
    (void)state;
    uint64_t small = merge_ns(2000), large = merge_ns(40000);
    print_message("2,000 keys: %llu us; 40,000 keys: %llu us\n", (unsigned long long)small / 1000,
                  (unsigned long long)large / 1000);
    /* 20 times the keys: n log n is 29 times the work, n squared 400. Processor time, since others run beside it. */
    assert_true(large < 150 * small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc_7396_examples_hold),
        cmocka_unit_test(an_absent_target_takes_the_patch_without_its_nils),
        cmocka_unit_test(keys_keep_their_order),
        cmocka_unit_test(keys_are_the_same_however_encoded_and_of_any_type),
        cmocka_unit_test(a_key_that_is_there_twice_counts_once),
        cmocka_unit_test(malformed_input_is_refused),
        cmocka_unit_test(what_does_not_fit_is_too_big),
        cmocka_unit_test(merging_agrees_with_a_naive_model),
        cmocka_unit_test(many_keys_are_not_quadratic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
