/* Session frames: what is read is written and read the same; items and cursors stay inside the frame. */
#include "clients/wire/frame.h"

#include "tests/fuzz/fuzz.h"

static struct view items_of(const struct frame *frame, uint32_t *count)
{
    *count = 0;
    switch (frame->op) {
    case FRAME_PUBLISH:
    case FRAME_PUBLISH_WITH: *count = frame->as.publish.count; return frame->as.publish.items;
    case FRAME_ENTRIES: *count = frame->as.entries.count; return frame->as.entries.items;
    case FRAME_UPDATES: *count = frame->as.updates.count; return frame->as.updates.items;
    default: return view_of(NULL, 0);
    }
}

static void check_items(const struct frame *frame)
{
    uint32_t count;
    struct view items = items_of(frame, &count), key, value;
    enum weir_error error;
    while ((error = items_next(&items, FUZZ_DEPTH, &key, &value)) == WEIR_OK)
        ENSURE(value.size > 0);
    ENSURE(error == WEIR_BAD_REQUEST || items.size == 0);
}

static void check_cursors(const struct frame *frame)
{
    struct view cursors = frame->op == FRAME_SUBSCRIBE ? frame->as.subscribe.cursors : view_of(NULL, 0);
    struct cursor cursor;
    uint32_t found = 0;
    enum weir_error error;
    while ((error = cursors_next(&cursors, &cursor)) == WEIR_OK)
        found++;
    ENSURE(error == WEIR_AGAIN);
    ENSURE(frame->op != FRAME_SUBSCRIBE || found == frame->as.subscribe.cursor_count);
}

static struct view write_whole(const struct frame *frame, uint8_t *memory, size_t capacity)
{
    struct value_writer writer;
    value_writer_init(&writer, memory, capacity);
    frame_write(&writer, frame);
    ENSURE(!writer.is_full);
    return view_of(memory, writer.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct frame frame, again;
    const char *reason = NULL;
    if (frame_read(view_of(data, size), FUZZ_DEPTH, &frame, &reason) != WEIR_OK) {
        ENSURE(reason != NULL);
        return 0;
    }
    check_items(&frame);
    check_cursors(&frame);
    /* Shortest encodings, defaults left out and the name of HELLO's sender added: never much longer. */
    size_t capacity = size + 64;
    uint8_t *first = fuzz_memory(capacity), *second = fuzz_memory(capacity);
    struct view written = write_whole(&frame, first, capacity);
    ENSURE(frame_read(written, FUZZ_DEPTH, &again, NULL) == WEIR_OK && again.op == frame.op);
    ENSURE(view_is_same(written, write_whole(&again, second, capacity)));
    free(first);
    free(second);
    return 0;
}
