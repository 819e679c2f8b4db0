/* Inputs and outputs as frames of a ring; parcel.h says how. */
#include "actors/plugin/parcel.h"

#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"

_Static_assert(PARCEL_SAME_TOPIC == 4 * OUTPUT_SAME_TOPIC && PARCEL_SAME_KEY == 4 * OUTPUT_SAME_KEY &&
                   PARCEL_SAME_VALUE == 4 * OUTPUT_SAME_VALUE,
               "the same bits, two places up");

/* A fragment takes at most a fourth of the ring, so that the two sides work at the same time on a large message. */
static uint32_t piece_max(const struct channel *ring)
{
    return (uint32_t)(ring->size / 4) - sizeof(struct channel_frame);
}

/* ------------------------------------------------------------------------------------------ writing */

static struct view bytes_view(struct weir_bytes bytes) { return view_of(bytes.data, bytes.size); }

static void parcel_sum(struct parcel *parcel)
{
    parcel->total = 0;
    parcel->done = 0;
    for (size_t i = 0; i < PARCEL_PARTS_MAX; i++)
        parcel->total += parcel->parts[i].size;
}

bool parcel_of_input(struct parcel *out, const struct plugin_input *input)
{
    const struct weir_message *message = &input->message;
    bool is_message = input->kind == INPUT_MESSAGE;
    struct view none = {NULL, 0};
    struct view topic = is_message ? bytes_view(message->topic) : none;
    struct view key = is_message ? bytes_view(message->key) : none;
    struct view value = is_message ? bytes_view(message->value) : input->bytes;
    if (topic.size >= PARCEL_NO_KEY || key.size >= PARCEL_NO_KEY || value.size >= PARCEL_NO_KEY)
        return false;
    out->head.input = (struct parcel_input){
        .kind = input->kind,
        .topic_size = (uint32_t)topic.size,
        .key_size = key.data == NULL ? PARCEL_NO_KEY : (uint32_t)key.size,
        .value_size = (uint32_t)value.size,
        .number = input->number,
    };
    if (is_message) {
        out->head.input.message_kind = message->kind;
        out->head.input.attempt = message->attempt;
        out->head.input.epoch = message->epoch;
        out->head.input.seq = message->seq;
        out->head.input.message_number = message->number;
        out->head.input.time_ms = message->time_ms;
    }
    out->parts[0] = view_of(&out->head.input, sizeof out->head.input);
    out->parts[1] = topic;
    out->parts[2] = key;
    out->parts[3] = value;
    out->parts[4] = none;
    parcel_sum(out);
    return true;
}

bool parcel_of_output(struct parcel *out, const struct plugin_output *output)
{
    bool is_timer = output->kind == OUTPUT_TIMER || output->kind == OUTPUT_TIMER_CANCEL;
    const struct view none = {NULL, 0};
    struct view topic = output->same & OUTPUT_SAME_TOPIC ? none : output->topic;
    struct view key = output->same & OUTPUT_SAME_KEY || !output->has_key ? none : output->key;
    struct view value = is_timer ? view_of(out->words, sizeof out->words) : output->value;
    value = output->same & OUTPUT_SAME_VALUE ? none : value;
    if (topic.size > UINT8_MAX || key.size > UINT16_MAX || output->text.size > UINT16_MAX || value.size >= UINT32_MAX)
        return false;
    out->words[0] = output->timer;
    out->words[1] = output->delay_ms;
    out->words[2] = output->period_ms;
    out->head.output = (struct parcel_output){
        .kind = (uint8_t)output->kind,
        .level = (uint8_t)(output->kind == OUTPUT_DONE ? output->result : output->level),
        .flags = (uint8_t)((output->has_key ? PARCEL_HAS_KEY : 0) | (output->has_snapshot ? PARCEL_HAS_SNAPSHOT : 0) |
                           output->same * PARCEL_SAME_TOPIC),
        .topic_size = (uint8_t)topic.size,
        .key_size = (uint16_t)key.size,
        .text_size = (uint16_t)output->text.size,
        .value_size = (uint32_t)value.size,
        .update_size = output->update_size,
        .number = output->number,
    };
    out->parts[0] = view_of(&out->head.output, sizeof out->head.output);
    out->parts[1] = topic;
    out->parts[2] = key;
    out->parts[3] = output->text;
    out->parts[4] = value;
    parcel_sum(out);
    return true;
}

uint64_t parcel_channel_bytes(const struct channel *ring, uint64_t total)
{
    uint64_t piece = piece_max(ring);
    uint64_t whole = total / piece;
    return whole * channel_frame_bytes(piece) + (total % piece > 0 ? channel_frame_bytes(total % piece) : 0);
}

/* Copies size bytes of the parcel from where it stands. */
static void parcel_copy(const struct parcel *parcel, uint8_t *to, size_t size)
{
    uint64_t skip = parcel->done;
    for (size_t i = 0; i < PARCEL_PARTS_MAX && size > 0; i++) {
        struct view part = parcel->parts[i];
        if (skip >= part.size) {
            skip -= part.size;
            continue;
        }
        size_t now = part.size - (size_t)skip < size ? part.size - (size_t)skip : size;
        memcpy(to, part.data + skip, now);
        to += now;
        size -= now;
        skip = 0;
    }
}

bool parcel_push(struct channel *ring, struct parcel *parcel)
{
    uint32_t piece = piece_max(ring);
    parcel->placed = NULL;
    while (parcel->done < parcel->total) {
        uint64_t left = parcel->total - parcel->done;
        uint32_t size = left < piece ? (uint32_t)left : piece;
        uint8_t *place = channel_reserve(ring, size);
        if (place == NULL)
            return false;
        parcel_copy(parcel, place, size);
        if (size == parcel->total)
            parcel->placed = place;
        parcel->done += size;
        channel_commit(ring, size, parcel->done < parcel->total ? CHANNEL_FRAME_MORE : 0);
    }
    return true;
}

bool parcel_make_last(const struct parcel *parcel)
{
    const size_t flags = offsetof(struct parcel_output, flags);
    if (parcel->placed == NULL || parcel->head.output.kind != OUTPUT_EMIT)
        return false;
    parcel->placed[flags] |= PARCEL_LAST;
    return true;
}

/* ------------------------------------------------------------------------------------------ reading */

struct parcel_chunk {
    struct parcel_chunk *next;
    size_t capacity;
    _Alignas(8) uint8_t bytes[];
};
#define CHUNK_BYTES_MIN ((size_t)32 << 10)

void parcel_inbox_fini(struct parcel_inbox *inbox)
{
    for (struct parcel_chunk *chunk = inbox->chunks, *next = NULL; chunk != NULL; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    inbox->chunks = NULL;
    inbox->data = NULL;
    inbox->size = inbox->room = 0;
}

/* The largest chunk stays, and with a message on its way the one that it is in. */
void parcel_inbox_clear(struct parcel_inbox *inbox)
{
    struct parcel_chunk *kept = inbox->chunks;
    if (kept == NULL || inbox->is_partial)
        return;
    for (struct parcel_chunk *chunk = kept->next; chunk != NULL; chunk = chunk->next)
        kept = chunk->capacity > kept->capacity ? chunk : kept;
    for (struct parcel_chunk *chunk = inbox->chunks, *next = NULL; chunk != NULL; chunk = next) {
        next = chunk->next;
        if (chunk != kept)
            free(chunk);
    }
    kept->next = NULL;
    inbox->chunks = kept;
    inbox->data = kept->bytes;
    inbox->size = 0;
    inbox->room = kept->capacity;
}

/* Room for so much more of the message on its way, which lies in one piece. Messages before it stay where they are. */
static bool inbox_grow(struct channel *ring, struct parcel_inbox *inbox, size_t more)
{
    size_t wanted = inbox->size + more;
    if (wanted > inbox->size_max) {
        ring->fault = "a message is larger than any that is allowed";
        return false;
    }
    if (inbox->chunks != NULL && wanted <= inbox->room)
        return true;
    size_t capacity = CHUNK_BYTES_MIN;
    while (capacity < wanted)
        capacity *= 2;
    struct parcel_chunk *chunk = malloc(sizeof *chunk + capacity);
    if (chunk == NULL) {
        ring->fault = "there is no memory for a message";
        return false;
    }
    *chunk = (struct parcel_chunk){.next = inbox->chunks, .capacity = capacity};
    if (inbox->size > 0)
        memcpy(chunk->bytes, inbox->data, inbox->size);
    inbox->chunks = chunk;
    inbox->data = chunk->bytes;
    inbox->room = capacity;
    return true;
}

/* The message is whole: the next one begins behind it. */
static struct view inbox_whole(struct parcel_inbox *inbox)
{
    struct view whole = view_of(inbox->data, inbox->size);
    size_t size = (inbox->size + 7) & ~(size_t)7;
    size = size < inbox->room ? size : inbox->room;
    inbox->data += size;
    inbox->room -= size;
    inbox->size = 0;
    return whole;
}

void parcel_release(struct channel *ring, struct parcel_inbox *inbox)
{
    if (!inbox->is_borrowed)
        return;
    inbox->is_borrowed = false;
    channel_consume(ring, &inbox->frame);
}

bool parcel_pull(struct channel *ring, struct parcel_inbox *inbox, bool may_borrow, struct view *out)
{
    struct channel_frame frame;
    const uint8_t *data = NULL;
    parcel_release(ring, inbox);
    if (!inbox->keeps)
        parcel_inbox_clear(inbox);
    while (channel_peek(ring, &frame, &data)) {
        bool has_more = (frame.flags & CHANNEL_FRAME_MORE) != 0;
        /* Or a child that writes smaller ones, or empty ones, as fast as they are taken keeps us here for ever. */
        if (has_more && frame.size != piece_max(ring)) {
            ring->fault = "a piece of a message that does not have the size of pieces";
            return false;
        }
        if (may_borrow && !has_more && !inbox->is_partial) {
            inbox->is_borrowed = true;
            inbox->frame = frame;
            *out = view_of(data, frame.size);
            return true;
        }
        if (!inbox_grow(ring, inbox, frame.size))
            return false;
        if (frame.size > 0)
            memcpy(inbox->data + inbox->size, data, frame.size);
        inbox->size += frame.size;
        inbox->is_partial = has_more;
        channel_consume(ring, &frame);
        if (!has_more) {
            *out = inbox_whole(inbox);
            return true;
        }
    }
    return false;
}

static struct view cut(struct view *rest, size_t size)
{
    struct view part = view_of(rest->data, size);
    REQUIRE(size <= rest->size);
    rest->data += size;
    rest->size -= size;
    return part;
}

static struct weir_bytes bytes_of(struct view view) { return weir_bytes_of(view.data, view.size); }

bool parcel_to_input(struct view data, struct plugin_input *out)
{
    struct parcel_input head;
    if (data.size < sizeof head)
        return false;
    memcpy(&head, data.data, sizeof head);
    cut(&data, sizeof head);
    uint64_t key_size = head.key_size == PARCEL_NO_KEY ? 0 : head.key_size;
    if ((uint64_t)head.topic_size + key_size + head.value_size != data.size)
        return false;
    struct view topic = cut(&data, head.topic_size);
    struct view key = cut(&data, (size_t)key_size);
    struct view value = cut(&data, head.value_size);
    struct weir_message *message = &out->message;
    out->kind = head.kind;
    out->number = head.number;
    out->bytes = out->kind == INPUT_MESSAGE ? view_of(NULL, 0) : value;
    message->kind = head.message_kind;
    message->attempt = head.attempt;
    message->topic = bytes_of(topic);
    message->key = head.key_size != PARCEL_NO_KEY ? bytes_of(key) : weir_bytes_of(NULL, 0);
    message->value = bytes_of(value);
    message->epoch = head.epoch;
    message->seq = head.seq;
    message->number = head.message_number;
    message->time_ms = head.time_ms;
    return true;
}

bool parcel_to_output(struct view data, struct plugin_output *out)
{
    struct parcel_output head;
    uint64_t words[3] = {0};
    if (data.size < sizeof head)
        return false;
    memcpy(&head, data.data, sizeof head);
    cut(&data, sizeof head);
    if ((uint64_t)head.topic_size + head.key_size + head.text_size + head.value_size != data.size)
        return false;
    /* What nobody looks at would be a place to hide in. */
    if ((head.flags & ~PARCEL_FLAGS) != 0 || (head.key_size > 0 && (head.flags & PARCEL_HAS_KEY) == 0))
        return false;
    plugin_output_init(out, head.kind, head.number);
    out->has_key = (head.flags & PARCEL_HAS_KEY) != 0;
    out->has_snapshot = (head.flags & PARCEL_HAS_SNAPSHOT) != 0;
    out->is_last = (head.flags & PARCEL_LAST) != 0;
    out->same = (uint8_t)(head.flags / PARCEL_SAME_TOPIC % (2 * OUTPUT_SAME_VALUE));
    out->update_size = head.update_size;
    out->topic = cut(&data, head.topic_size);
    out->key = cut(&data, head.key_size);
    out->text = cut(&data, head.text_size);
    out->value = cut(&data, head.value_size);
    if (!out->has_key)
        out->key = view_of(NULL, 0);
    out->level = out->kind == OUTPUT_DONE ? 0 : head.level;
    out->result = out->kind == OUTPUT_DONE ? head.level : 0;
    if (out->kind != OUTPUT_TIMER && out->kind != OUTPUT_TIMER_CANCEL)
        return true;
    if (out->value.size != sizeof words)
        return false;
    memcpy(words, out->value.data, sizeof words);
    out->timer = words[0];
    out->delay_ms = words[1];
    out->period_ms = words[2];
    out->value = view_of(NULL, 0);
    return true;
}
