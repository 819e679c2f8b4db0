/* Records and live messages: what is read is written and read the same. */
#include "clients/wire/record.h"

#include "clients/wire/name.h"
#include "tests/fuzz/fuzz.h"

static void check_record(const struct record *record)
{
    size_t capacity = record->topic.size + record->value.size + record->key.size + 16;
    uint8_t *memory = fuzz_memory(capacity);
    struct value_writer writer;
    struct record again;
    ENSURE(name_check(record->topic, NULL) == WEIR_OK);
    value_writer_init(&writer, memory, capacity);
    record_write(&writer, record);
    ENSURE(!writer.is_full);
    struct view rest = view_of(memory, writer.size);
    ENSURE(record_next(&rest, FUZZ_DEPTH, &again, NULL) == WEIR_OK && rest.size == 0);
    ENSURE(view_is_same(again.topic, record->topic) && view_is_same(again.value, record->value) &&
           view_is_same(again.key, record->key));
    free(memory);
}

static void check_live(struct view body)
{
    struct live live, again;
    if (live_read(body, FUZZ_DEPTH, &live) != WEIR_OK)
        return;
    size_t capacity = LIVE_HEAD_SIZE_MAX + live.value.size;
    uint8_t *memory = fuzz_memory(capacity);
    struct value_writer writer;
    value_writer_init(&writer, memory, capacity);
    live_head_write(&writer, live.topic, live.seq, live.key);
    ENSURE(!writer.is_full && writer.size <= LIVE_HEAD_SIZE_MAX);
    value_write_raw(&writer, live.value);
    ENSURE(live_read(view_of(memory, writer.size), FUZZ_DEPTH, &again) == WEIR_OK && again.seq == live.seq);
    ENSURE(view_is_same(again.topic, live.topic) && view_is_same(again.value, live.value) &&
           view_is_same(again.key, live.key));
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view rest = view_of(data, size);
    struct record record;
    const char *reason = NULL;
    enum weir_error error;
    while ((error = record_next(&rest, FUZZ_DEPTH, &record, &reason)) == WEIR_OK)
        check_record(&record);
    ENSURE((error == WEIR_AGAIN) == (rest.size == 0));
    ENSURE(error == WEIR_AGAIN || reason != NULL);
    check_live(view_of(data, size));
    return 0;
}
