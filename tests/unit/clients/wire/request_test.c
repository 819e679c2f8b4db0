/* Requests, replies and their arguments. */
#include "clients/wire/request.h"

#include "clients/wire/record.h"
#include "tests/unit/clients/wire/exact.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static size_t publish_args(uint8_t *out, size_t capacity)
{
    struct value_writer writer;
    value_writer_init(&writer, out, capacity);
    value_write_map(&writer, 4);
    value_write_str(&writer, view_text("records"));
    value_write_array(&writer, 2);
    record_write(&writer, &(struct record){.topic = view_text("a"), .value = BYTES(5)});
    record_write(&writer, &(struct record){.topic = view_text("b"), .value = BYTES(6), .key = BYTES(0xa1, 'k')});
    value_write_str(&writer, view_text("ack"));
    value_write_str(&writer, view_text("none"));
    value_write_str(&writer, view_text("n"));
    value_write_uint(&writer, 77);
    value_write_str(&writer, view_text("flag"));
    value_write_bool(&writer, true);
    assert_false(writer.is_full);
    return writer.size;
}

static void requests_come_back_as_written(void **state)
{
    (void)state;
    uint8_t args[128], body[256];
    struct value_writer writer;
    struct request request;
    const char *reason = NULL;
    struct view args_view = view_of(args, publish_args(args, sizeof args));
    value_writer_init(&writer, body, sizeof body);
    request_write(&writer, view_text("publish"), args_view);
    assert_int_equal(request_read(view_of(body, writer.size), 16, &request, &reason), WEIR_OK);
    assert_true(view_is_same(request.verb, view_text("publish")) && view_is_same(request.args, args_view));
    for (size_t cut = 0; cut < writer.size; cut++) {
        struct exact exact = exact_of(view_of(body, cut));
        reason = NULL;
        assert_int_equal(request_read(exact.view, 16, &request, &reason), WEIR_BAD_REQUEST);
        assert_non_null(reason);
        exact_free(&exact);
    }
    body[writer.size] = 0xc0;
    assert_int_equal(request_read(view_of(body, writer.size + 1), 16, &request, NULL), WEIR_BAD_REQUEST);
    value_writer_init(&writer, body, sizeof body);
    request_write(&writer, view_text("status"), view_of(NULL, 0));
    assert_true(view_is_same(view_of(body, writer.size), BYTES(0x92, 0xa6, 's', 't', 'a', 't', 'u', 's', 0x80)));
}

static void other_shapes_are_refused(void **state)
{
    (void)state;
    struct request request;
    assert_int_equal(request_read(BYTES(0x92, 5, 0x80), 16, &request, NULL), WEIR_BAD_REQUEST);
    assert_int_equal(request_read(BYTES(0x92, 0xa1, 'a', 0x90), 16, &request, NULL), WEIR_BAD_REQUEST);
    assert_int_equal(request_read(BYTES(0x91, 0xa1, 'a'), 16, &request, NULL), WEIR_BAD_REQUEST);
    assert_int_equal(request_read(BYTES(0x92, 0xa1, 'a', 0xdf, 0x10, 0, 0, 0), 16, &request, NULL), WEIR_BAD_REQUEST);
    assert_int_equal(request_read(BYTES(0xc1), 16, &request, NULL), WEIR_BAD_REQUEST);
}

static void arguments_are_found_by_name_and_type(void **state)
{
    (void)state;
    uint8_t bytes[128];
    struct view args = view_of(bytes, publish_args(bytes, sizeof bytes)), text, value;
    uint64_t number = 0;
    bool flag = false;
    assert_int_equal(args_find_str(args, "ack", &text), WEIR_OK);
    assert_true(view_is_same(text, view_text("none")));
    assert_int_equal(args_find_uint(args, "n", &number), WEIR_OK);
    assert_int_equal(number, 77);
    assert_int_equal(args_find_bool(args, "flag", &flag), WEIR_OK);
    assert_true(flag);
    assert_int_equal(args_find_str(args, "n", &text), WEIR_BAD_REQUEST);
    assert_int_equal(args_find_uint(args, "ack", &number), WEIR_BAD_REQUEST);
    assert_int_equal(args_find_bool(args, "n", &flag), WEIR_BAD_REQUEST);
    assert_int_equal(args_find(args, 16, "none", &value), WEIR_NOT_FOUND);
    assert_int_equal(args_find(args, 1, "records", &value), WEIR_BAD_REQUEST);
    assert_int_equal(args_find(args, 2, "records", &value), WEIR_OK);
    assert_int_equal(args_find(BYTES(0x90), 16, "a", &value), WEIR_BAD_REQUEST);
    assert_int_equal(args_find(BYTES(0x81, 5, 5), 16, "a", &value), WEIR_BAD_REQUEST);
    assert_int_equal(args_find(view_of(NULL, 0), 16, "a", &value), WEIR_BAD_REQUEST);
}

static void records_are_handed_on_with_their_own_depth(void **state)
{
    (void)state;
    uint8_t bytes[128];
    struct view args = view_of(bytes, publish_args(bytes, sizeof bytes)), records;
    struct record record;
    uint32_t count = 0;
    assert_int_equal(args_find_records(args, 0, &count, &records), WEIR_OK);
    assert_int_equal(count, 2);
    assert_int_equal(record_next(&records, 0, &record, NULL), WEIR_OK);
    assert_int_equal(record_next(&records, 0, &record, NULL), WEIR_OK);
    assert_true(view_is_same(record.topic, view_text("b")));
    assert_int_equal(record_next(&records, 0, &record, NULL), WEIR_AGAIN);
    assert_int_equal(args_find_records(BYTES(0x80), 16, &count, &records), WEIR_NOT_FOUND);
    assert_int_equal(args_find_records(BYTES(0x81, 0xa7, 'r', 'e', 'c', 'o', 'r', 'd', 's', 5), 16, &count, &records),
                     WEIR_BAD_REQUEST);
}

/* ["publish", {"records": [["t", VALUE]]}] with a value of that many arrays. */
static size_t deep_request(uint8_t *out, unsigned depth)
{
    static const uint8_t head[] = {0x92, 0xa7, 'p', 'u', 'b', 'l', 'i', 's',  'h',  0x81, 0xa7,
                                   'r',  'e',  'c', 'o', 'r', 'd', 's', 0x91, 0x92, 0xa1, 't'};
    memcpy(out, head, sizeof head);
    memset(out + sizeof head, 0x91, depth);
    out[sizeof head + depth] = 1;
    return sizeof head + depth + 1;
}

static void a_values_depth_counts_the_same_inside_a_request(void **state)
{
    (void)state;
    uint8_t body[128];
    for (unsigned depth = 15; depth <= 18; depth++) {
        struct request request;
        struct record record;
        struct view records;
        uint32_t count;
        size_t size = deep_request(body, depth);
        bool is_taken = request_read(view_of(body, size), 16, &request, NULL) == WEIR_OK &&
                        args_find_records(request.args, 16, &count, &records) == WEIR_OK &&
                        record_next(&records, 16, &record, NULL) == WEIR_OK;
        assert_int_equal(is_taken, depth <= 16);
    }
}

static void replies_come_back_as_written(void **state)
{
    (void)state;
    uint8_t body[256];
    struct value_writer writer;
    struct reply reply;
    uint64_t retry_ms = 0;
    struct view text;
    value_writer_init(&writer, body, sizeof body);
    reply_ok_write(&writer, BYTES(0x81, 0xa1, 'a', 5));
    assert_int_equal(reply_read(view_of(body, writer.size), 16, &reply), WEIR_OK);
    assert_true(reply.ok && reply.result.size == 4);
    value_writer_init(&writer, body, sizeof body);
    reply_error_write(
        &writer, &(struct reply_refusal){WEIR_BUSY, view_text("full"), view_text("a/b"), view_text("mailbox"), 100, 0});
    assert_int_equal(reply_read(view_of(body, writer.size), 16, &reply), WEIR_OK);
    assert_false(reply.ok);
    assert_true(view_is_same(reply.code, view_text("busy")) && view_is_same(reply.message, view_text("full")));
    assert_int_equal(args_find_str(reply.result, "topic", &text), WEIR_OK);
    assert_int_equal(args_find_uint(reply.result, "retry_ms", &retry_ms), WEIR_OK);
    assert_int_equal(retry_ms, 100);
    for (size_t cut = 0; cut < writer.size; cut++) {
        struct exact exact = exact_of(view_of(body, cut));
        assert_int_equal(reply_read(exact.view, 16, &reply), WEIR_BAD_REQUEST);
        exact_free(&exact);
    }
    value_writer_init(&writer, body, sizeof body);
    reply_error_write(&writer, &(struct reply_refusal){.error = WEIR_NOT_FOUND, .message = view_text("no")});
    assert_int_equal(reply_read(view_of(body, writer.size), 16, &reply), WEIR_OK);
    assert_int_equal(args_find_str(reply.result, "topic", &text), WEIR_NOT_FOUND);
}

static void replies_of_other_shapes_are_refused(void **state)
{
    (void)state;
    struct reply reply;
    assert_int_equal(reply_read(BYTES(0x92, 0xa3, 'y', 'e', 's', 0x80), 16, &reply), WEIR_BAD_REQUEST);
    assert_int_equal(reply_read(BYTES(0x92, 0xa5, 'e', 'r', 'r', 'o', 'r', 0x80), 16, &reply), WEIR_BAD_REQUEST);
    assert_int_equal(reply_read(BYTES(0x92, 0xa2, 'o', 'k', 5), 16, &reply), WEIR_BAD_REQUEST);
    assert_int_equal(reply_read(BYTES(0x92, 0xa2, 'o', 'k', 0x80, 5), 16, &reply), WEIR_BAD_REQUEST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_come_back_as_written),
        cmocka_unit_test(other_shapes_are_refused),
        cmocka_unit_test(arguments_are_found_by_name_and_type),
        cmocka_unit_test(records_are_handed_on_with_their_own_depth),
        cmocka_unit_test(a_values_depth_counts_the_same_inside_a_request),
        cmocka_unit_test(replies_come_back_as_written),
        cmocka_unit_test(replies_of_other_shapes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
