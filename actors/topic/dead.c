/* Records that failed for good: taken out of their batch by the runtime's hook, wrapped up by their topic, sent to the
 * directory, which publishes them to $dead/TOPIC. In the turn of the topic that failed. */
#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "actors/topic/directory.h"
#include "actors/topic/state.h"
#include "clients/wire/value.h"

static bool is_batch(const struct message *message)
{
    return message->tag == TOPIC_PUBLISH || message->tag == TOPIC_RESUMED || message->tag == TOPIC_EMITTED;
}

static void tell_publisher(struct turn *turn, const struct message *batch, uint32_t attempts)
{
    struct message nack = {
        .tag = TOPIC_NACK, .detail = 1, .word = {TOPIC_NUMBER(batch->word[2]), WEIR_POISONED, attempts}};
    if (!actor_is_none(batch->from) && turn_control(turn, batch->from, &nack) == WEIR_FULL)
        log_warning("topic.nack_lost", "number=%llu", (unsigned long long)TOPIC_NUMBER(batch->word[2]));
}

bool topic_dead_letter(struct turn *turn, struct message *message, enum weir_error cause, uint32_t attempts,
                       void *context)
{
    (void)context;
    if (!is_batch(message) || message->detail == 0) {
        log_warning("message.dead", "tag=%u cause=%s attempts=%u", message->tag, weir_error_code(cause), attempts);
        return true;
    }
    const struct record_slice *slices = batch_slices(turn_arena(turn), message);
    struct record_slice slice = batch_first(slices, message);
    struct message bury = {.tag = TOPIC_BURY,
                           .hold = {message->hold[0]},
                           .word = {TOPIC_WORD(slice.key_offset, slice.key_size),
                                    TOPIC_WORD(slice.value_offset, slice.value_size), TOPIC_WORD(cause, attempts)}};
    enum weir_error error = arena_hold(turn_arena(turn), message->hold[0]);
    if (!error) {
        error = turn_control(turn, turn_self(turn), &bury);
        if (error)
            arena_drop(turn_arena(turn), message->hold[0]);
    }
    if (error)
        log_error("topic.dead_lost", "cause=%s attempts=%u", weir_error_code(error), attempts);
    tell_publisher(turn, message, attempts);
    batch_advance(slices, message);
    return message->detail == 0;
}

static void dead_value_write(struct value_writer *writer, const struct topic *topic, const struct message *message)
{
    const uint8_t *data = arena_data(topic->arena, message->hold[0]);
    uint32_t key_size = TOPIC_LOW(message->word[0]);
    char time[40];
    size_t time_size = clock_wall_text(time, sizeof time);
    value_write_map(writer, 6);
    value_write_str(writer, view_text("key"));
    if (key_size)
        value_write_raw(writer, view_of(data + TOPIC_HIGH(message->word[0]), key_size));
    else
        value_write_nil(writer);
    value_write_str(writer, view_text("value"));
    value_write_raw(writer, view_of(data + TOPIC_HIGH(message->word[1]), TOPIC_LOW(message->word[1])));
    value_write_str(writer, view_text("cause"));
    value_write_str(writer, view_text(weir_error_code((enum weir_error)TOPIC_HIGH(message->word[2]))));
    value_write_str(writer, view_text("attempts"));
    value_write_uint(writer, TOPIC_LOW(message->word[2]));
    /* The newest record there was when it was given up. */
    value_write_str(writer, view_text("seq"));
    value_write_uint(writer, topic->ring.seq_last);
    value_write_str(writer, view_text("time"));
    value_write_str(writer, view_of(time, time_size));
}

/* A block of the topic's name and the value behind it. */
static enum weir_error dead_block(const struct topic *topic, const struct message *message, weir_msg *out,
                                  size_t *value_size)
{
    size_t name_size = topic->shared->name_size;
    size_t value_max = (size_t)TOPIC_LOW(message->word[0]) + TOPIC_LOW(message->word[1]) + DEAD_LETTER_EXTRA_SIZE;
    enum weir_error error = arena_alloc(topic->arena, name_size + value_max, topic->common->feeds_budget, out);
    if (error)
        return error;
    uint8_t *data = arena_data(topic->arena, *out);
    struct value_writer writer;
    memcpy(data, topic->shared->name, name_size);
    value_writer_init(&writer, data + name_size, value_max);
    dead_value_write(&writer, topic, message);
    *value_size = writer.size;
    return WEIR_OK;
}

enum weir_error topic_bury(struct turn *turn, struct topic *topic, struct message *message)
{
    struct message dead = {.tag = DIRECTORY_DEAD};
    size_t value_size = 0;
    topic->dead++;
    /* The record in trouble is gone; where it was the last one, no other will tell subscribers that all is well. */
    topic_note_success(topic);
    enum weir_error error = WEIR_FORBIDDEN; /* what fails in a topic of dead letters is not buried again */
    if (topic->shared->name[0] != '$')
        error = dead_block(topic, message, &dead.hold[0], &value_size);
    if (!error) {
        dead.word[0] = TOPIC_WORD(topic->shared->name_size, value_size);
        error = turn_control(turn, topic->common->directory, &dead);
        if (error)
            arena_drop(topic->arena, dead.hold[0]);
    }
    if (error)
        log_error("topic.dead_lost", "topic=%.*s cause=%s", (int)topic->shared->name_size, topic->shared->name,
                  weir_error_code(error));
    return WEIR_OK;
}
