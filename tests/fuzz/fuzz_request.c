/* Requests and replies: what is read is written and read the same; arguments are found inside. */
#include "clients/wire/request.h"

#include "clients/wire/record.h"
#include "tests/fuzz/fuzz.h"

static void check_arguments(struct view args)
{
    struct view value, records;
    struct record record;
    uint64_t number;
    uint32_t count;
    bool flag;
    if (args_find(args, FUZZ_DEPTH, "value", &value) == WEIR_OK) {
        size_t scanned;
        ENSURE(value_scan(value, FUZZ_DEPTH, &scanned) == WEIR_OK && scanned == value.size);
    }
    (void)!args_find_str(args, "topic", &value);
    (void)!args_find_uint(args, "n", &number);
    (void)!args_find_bool(args, "flag", &flag);
    if (args_find_records(args, FUZZ_DEPTH, &count, &records) != WEIR_OK)
        return;
    ENSURE(count <= records.size);
    for (; count > 0 && record_next(&records, FUZZ_DEPTH, &record, NULL) == WEIR_OK; count--)
        ENSURE(record.topic.size > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct request request, request_again;
    struct reply reply, reply_again;
    struct value_writer writer;
    uint8_t *memory = fuzz_memory(size + 16);
    value_writer_init(&writer, memory, size + 16);
    if (request_read(view_of(data, size), FUZZ_DEPTH, &request, NULL) == WEIR_OK) {
        check_arguments(request.args);
        request_write(&writer, request.verb, request.args);
        ENSURE(!writer.is_full &&
               request_read(view_of(memory, writer.size), FUZZ_DEPTH, &request_again, NULL) == WEIR_OK);
        ENSURE(view_is_same(request.verb, request_again.verb) && view_is_same(request.args, request_again.args));
    }
    value_writer_init(&writer, memory, size + 16);
    if (reply_read(view_of(data, size), FUZZ_DEPTH, &reply) == WEIR_OK) {
        request_write(&writer, view_text(reply.ok ? "ok" : "error"), reply.result);
        ENSURE(!writer.is_full && reply_read(view_of(memory, writer.size), FUZZ_DEPTH, &reply_again) == WEIR_OK);
        ENSURE(reply.ok == reply_again.ok && view_is_same(reply.code, reply_again.code));
    }
    free(memory);
    return 0;
}
