/* PROTOCOL.md's examples: each is found in the text, decoded with the wire code, compared with what the text says, and
 * encoded again to the same bytes. An example that nothing here describes fails, and so does a description without one.
 */
#include "clients/wire/record.h"
#include "clients/wire/request.h"
#include "tests/unit/clients/wire/exact.h"
#include "tests/unit/clients/wire/samples.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define EXAMPLE_SIZE_MAX 512
#define EXAMPLES_MAX 128

struct example {
    char name[64], kind[32];
    uint8_t bytes[EXAMPLE_SIZE_MAX];
    size_t size;
};

static struct example examples[EXAMPLES_MAX];
static size_t example_count;

/* The hexadecimal bytes of one line, up to '#'. */
static void line_read(const char *line, struct example *example)
{
    for (const char *at = line; *at != '\0' && *at != '#' && *at != '\n';) {
        unsigned byte;
        int used;
        if (isspace((unsigned char)*at)) {
            at++;
            continue;
        }
        assert_int_equal(sscanf(at, "%2x%n", &byte, &used), 1);
        assert_int_equal(used, 2);
        assert_true(example->size < EXAMPLE_SIZE_MAX);
        example->bytes[example->size++] = (uint8_t)byte;
        at += used;
    }
}

static int examples_load(void **state)
{
    (void)state;
    static const char here[] = "tests/unit/clients/wire/protocol_test.c";
    char path[4096], line[1024];
    size_t root = strlen(__FILE__) - (sizeof here - 1);
    (void)snprintf(path, sizeof path, "%.*sclients/PROTOCOL.md", (int)root, __FILE__);
    FILE *file = fopen(path, "r");
    struct example *example = NULL;
    if (file == NULL) {
        print_error("cannot open %s\n", path);
        return -1;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        if (example == NULL && strncmp(line, "```hex", 6) == 0 && example_count < EXAMPLES_MAX) {
            example = &examples[example_count++];
            if (sscanf(line, "```hex name=%63s kind=%31s", example->name, example->kind) != 2)
                return -1;
        } else if (example != NULL && strncmp(line, "```", 3) == 0) {
            example = NULL;
        } else if (example != NULL) {
            line_read(line, example);
        }
    }
    return fclose(file);
}

static const struct example *example_of(const char *name, const char *kind)
{
    const struct example *found = NULL;
    for (size_t at = 0; at < example_count; at++) {
        if (strcmp(examples[at].name, name) != 0)
            continue;
        assert_null(found);
        found = &examples[at];
    }
    if (found == NULL)
        fail_msg("PROTOCOL.md has no example named %s", name);
    assert_string_equal(found->kind, kind);
    return found;
}

static struct view bytes_of(const struct example *example) { return view_of(example->bytes, example->size); }

static void frames_are_as_described(void **state)
{
    (void)state;
    for (size_t at = 0; at < SAMPLE_COUNT; at++) {
        const struct example *example = example_of(samples[at].name, "frame");
        uint8_t described[EXAMPLE_SIZE_MAX], again[EXAMPLE_SIZE_MAX];
        struct value_writer writer;
        struct frame frame;
        value_writer_init(&writer, described, sizeof described);
        frame_write(&writer, &samples[at].frame);
        assert_true(view_is_same(view_of(described, writer.size), bytes_of(example)));
        assert_int_equal(frame_read(bytes_of(example), 16, &frame, NULL), WEIR_OK);
        assert_int_equal(frame.op, samples[at].frame.op);
        value_writer_init(&writer, again, sizeof again);
        frame_write(&writer, &frame);
        assert_true(view_is_same(view_of(again, writer.size), bytes_of(example)));
    }
}

static void assert_record(struct view *rest, struct value_writer *writer, const struct record *expected)
{
    struct record record;
    assert_int_equal(record_next(rest, 16, &record, NULL), WEIR_OK);
    assert_true(view_is_same(record.topic, expected->topic));
    assert_true(view_is_same(record.value, expected->value));
    assert_true(view_is_same(record.key, expected->key));
    record_write(writer, &record);
}

static const struct record oven = {.topic = RAW("sensors/oven"), .value = RAW("\x16")};
static const struct record ada = {.topic = RAW("presence"),
                                  .value = RAW(VALUE_ADA),
                                  .key = RAW("\xa3"
                                             "ada")};
static const struct record bob = {.topic = RAW("presence"),
                                  .value = RAW("\xc0"),
                                  .key = RAW("\xa3"
                                             "bob")};

static void records_are_as_described(void **state)
{
    (void)state;
    uint8_t again[EXAMPLE_SIZE_MAX];
    struct value_writer writer;
    const struct example *example = example_of("push-one", "push");
    struct view rest = bytes_of(example);
    value_writer_init(&writer, again, sizeof again);
    assert_record(&rest, &writer, &(struct record){.topic = oven.topic, .value = RAW(VALUE_OVEN)});
    assert_true(rest.size == 0 && view_is_same(view_of(again, writer.size), bytes_of(example)));
    example = example_of("push-many", "push");
    rest = bytes_of(example);
    value_writer_init(&writer, again, sizeof again);
    assert_record(&rest, &writer, &oven);
    assert_record(&rest, &writer, &ada);
    assert_record(&rest, &writer, &bob);
    assert_true(rest.size == 0 && view_is_same(view_of(again, writer.size), bytes_of(example)));
}

static void live_message_is_as_described(void **state)
{
    (void)state;
    const struct example *example = example_of("live", "live");
    uint8_t again[EXAMPLE_SIZE_MAX];
    struct value_writer writer;
    struct live live;
    assert_int_equal(live_read(bytes_of(example), 16, &live), WEIR_OK);
    assert_true(view_is_same(live.topic, ada.topic) && live.seq == 42 && view_is_same(live.key, ada.key) &&
                view_is_same(live.value, ada.value));
    value_writer_init(&writer, again, sizeof again);
    live_head_write(&writer, live.topic, live.seq, live.key);
    value_write_raw(&writer, live.value);
    assert_true(view_is_same(view_of(again, writer.size), bytes_of(example)));
}

/* The request or reply whose map is `map` encodes to the example, and the example's map is that. */
static void assert_request(const char *name, const char *verb, struct view map)
{
    const struct example *example = example_of(name, "request");
    uint8_t again[EXAMPLE_SIZE_MAX];
    struct value_writer writer;
    struct request request;
    assert_int_equal(request_read(bytes_of(example), 16, &request, NULL), WEIR_OK);
    assert_true(view_is_same(request.verb, view_text(verb)));
    assert_true(view_is_same(request.args, map));
    value_writer_init(&writer, again, sizeof again);
    request_write(&writer, request.verb, request.args);
    assert_true(view_is_same(view_of(again, writer.size), bytes_of(example)));
}

static struct reply assert_reply(const char *name, struct view map)
{
    const struct example *example = example_of(name, "reply");
    uint8_t again[EXAMPLE_SIZE_MAX];
    struct value_writer writer;
    struct reply reply;
    assert_int_equal(reply_read(bytes_of(example), 16, &reply), WEIR_OK);
    if (!reply.ok)
        return reply;
    assert_true(view_is_same(reply.result, map));
    value_writer_init(&writer, again, sizeof again);
    reply_ok_write(&writer, reply.result);
    assert_true(view_is_same(view_of(again, writer.size), bytes_of(example)));
    return reply;
}

/* One literal's bytes as a view argument. */
#define MAP(literal) ((struct view)RAW(literal))

static void requests_are_as_described(void **state)
{
    (void)state;
    assert_request("req-publish", "publish",
                   MAP("\x84\xa5topic\xa8presence\xa5value" VALUE_ADA "\xa3key\xa3"
                       "ada"
                       "\xa3"
                       "ack\xa6"
                       "folded"));
    assert_request("req-publish-many", "publish",
                   MAP("\x82\xa7records\x92\x92\xacsensors/oven\x16\x93\xa8presence\xc0\xa3"
                       "bob"
                       "\xa3"
                       "ack"
                       "\xa8"
                       "accepted"));
    assert_request("req-publish-if", "publish",
                   MAP("\x85\xa5topic\xa8presence\xa5value" VALUE_ADA "\xa3key\xa3"
                       "ada"
                       "\xa6if_seq*\xa6ttl_ms\xcd\x75\x30"));
    assert_request("req-get", "get", MAP("\x81\xa5topic\xa8presence"));
    assert_request("req-get-page", "get",
                   MAP("\x84\xa5topic\xa8presence\xa6prefix\xa1"
                       "a"
                       "\xa5"
                       "after\xa3"
                       "abe"
                       "\xa5limit\x01"));
    assert_request("req-list", "list", MAP("\x81\xa7pattern\xa1#"));
    assert_request("req-ask", "ask",
                   MAP("\x82\xa5topic\xa8presence\xa5value\xa3"
                       "ada"));
}

static void request_on_the_wire_has_its_id(void **state)
{
    (void)state;
    const struct example *example = example_of("req-wire", "req-wire");
    struct request request;
    assert_true((example->bytes[0] & 0x80) != 0);
    assert_int_equal(request_read(view_of(example->bytes + 4, example->size - 4), 16, &request, NULL), WEIR_OK);
    assert_true(view_is_same(request.verb, view_text("list")));
}

static void replies_are_as_described(void **state)
{
    (void)state;
    (void)assert_reply("reply-publish", MAP("\x82\xa5"
                                            "epoch\x07\xa3seq*"));
    (void)assert_reply("reply-publish-many", MAP("\x81\xa5"
                                                 "count\x02"));
    (void)assert_reply("reply-get", MAP("\x84\xa5"
                                        "epoch\x07\xa3seq*\xa4kind\xa3map\xa5state\x81\xa3"
                                        "ada" VALUE_ADA));
    (void)assert_reply("reply-get-page", MAP("\x85\xa5state\x81\xa3"
                                             "ada" VALUE_ADA "\xa5"
                                             "epoch\x07\xa3seq*\xa4kind\xa3map\xa4next\xa3"
                                             "ada"));
    (void)assert_reply("reply-ask", MAP("\x81\xa5value\x07"));
    (void)assert_reply("reply-list", MAP("\x81\xa6topics\x91\x86\xa5topic\xa8presence\xa4kind\xa3map\xa5"
                                         "epoch\x07"
                                         "\xa3seq*\xa5"
                                         "bytes\x0e\xabsubscribers\x03"));
}

static void error_reply_is_as_described(void **state)
{
    (void)state;
    struct reply reply = assert_reply("reply-busy", view_of(NULL, 0));
    uint8_t again[EXAMPLE_SIZE_MAX];
    struct value_writer writer;
    assert_false(reply.ok);
    assert_true(view_is_same(reply.code, view_text("busy")));
    value_writer_init(&writer, again, sizeof again);
    reply_error_write(&writer, &(struct reply_refusal){WEIR_BUSY, view_text("the topic is full"), view_text("presence"),
                                                       view_text("mailbox"), 100, 0});
    assert_true(view_is_same(view_of(again, writer.size), bytes_of(example_of("reply-busy", "reply"))));
    reply = assert_reply("reply-conflict", view_of(NULL, 0));
    assert_true(view_is_same(reply.code, view_text("conflict")));
    value_writer_init(&writer, again, sizeof again);
    reply_error_write(&writer, &(struct reply_refusal){.error = WEIR_CONFLICT,
                                                       .message = view_text("the newest record is another"),
                                                       .topic = view_text("presence"),
                                                       .cause = view_text("if_seq"),
                                                       .seq = 45});
    assert_true(view_is_same(view_of(again, writer.size), bytes_of(example_of("reply-conflict", "reply"))));
}

static void transport_bytes_are_as_described(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint8_t protocol;
    } headers[] = {{"sp-header-push", 0x50}, {"sp-header-pull", 0x51}, {"sp-header-pair", 0x10}};
    for (size_t at = 0; at < sizeof headers / sizeof headers[0]; at++)
        assert_true(view_is_same(bytes_of(example_of(headers[at].name, "sp-header")),
                                 BYTES(0, 'S', 'P', 0, 0, headers[at].protocol, 0, 0)));
    assert_true(
        view_is_same(bytes_of(example_of("tcp-message", "tcp")), BYTES(0, 0, 0, 0, 0, 0, 0, 4, 0x92, 0xa1, 't', 1)));
    assert_true(
        view_is_same(bytes_of(example_of("ipc-message", "ipc")), BYTES(1, 0, 0, 0, 0, 0, 0, 0, 4, 0x92, 0xa1, 't', 1)));
}

static void no_example_is_left_out(void **state)
{
    (void)state;
    static const char *const others[] = {"sp-header-push",     "sp-header-pull", "sp-header-pair",   "tcp-message",
                                         "ipc-message",        "push-one",       "push-many",        "req-wire",
                                         "req-publish",        "reply-publish",  "req-publish-many", "req-get",
                                         "reply-publish-many", "reply-busy",     "reply-get",        "req-list",
                                         "reply-list",         "req-ask",        "reply-ask",        "live",
                                         "req-publish-if",     "reply-conflict", "req-get-page",     "reply-get-page"};
    for (size_t at = 0; at < example_count; at++) {
        bool is_known = false;
        for (size_t other = 0; other < sizeof others / sizeof others[0]; other++)
            is_known |= strcmp(others[other], examples[at].name) == 0;
        for (size_t sample = 0; sample < SAMPLE_COUNT; sample++)
            is_known |= strcmp(samples[sample].name, examples[at].name) == 0;
        if (!is_known)
            fail_msg("nothing describes the example %s", examples[at].name);
    }
    assert_int_equal(example_count, SAMPLE_COUNT + sizeof others / sizeof others[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_as_described),        cmocka_unit_test(records_are_as_described),
        cmocka_unit_test(live_message_is_as_described),   cmocka_unit_test(requests_are_as_described),
        cmocka_unit_test(request_on_the_wire_has_its_id), cmocka_unit_test(replies_are_as_described),
        cmocka_unit_test(error_reply_is_as_described),    cmocka_unit_test(transport_bytes_are_as_described),
        cmocka_unit_test(no_example_is_left_out),
    };
    return cmocka_run_group_tests(tests, examples_load, NULL);
}
