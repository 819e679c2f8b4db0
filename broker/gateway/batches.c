/* Records to batches, and batches to topics: see publisher.h. In the connection's turns. */
#include "broker/gateway/batches.h"

#include "actors/base/assert.h"
#include "broker/gateway/hash.h"
#include "broker/gateway/parked.h"
#include "broker/gateway/publisher.h"

enum { SLICES_FIRST = 16 }; /* of an index block; it grows fourfold up to TOPIC_BATCH_MAX */

struct view entry_name(const struct connection *connection, const struct topic_entry *entry)
{
    if (entry->name_size <= NAME_INLINE_MAX)
        return view_of(entry->name, entry->name_size);
    return view_of(arena_data(connection->arena, entry->name_block), entry->name_size);
}

static bool batch_has_options(const struct batch *batch) { return batch->capacity > 0 && batch->options != NULL; }

static struct message batch_message(struct connection *connection, struct batch *batch)
{
    struct message message = {.tag = TOPIC_PUBLISH, .detail = batch->count};
    message.hold[0] = connection->intake.block;
    enum weir_error error = arena_hold(connection->arena, message.hold[0]);
    ENSURE(error == WEIR_OK);
    message.word[2] = batch->number_word;
    if (batch->count == 1 && !batch_has_options(batch)) {
        message.word[0] = TOPIC_WORD(batch->only.key_offset, batch->only.key_size);
        message.word[1] = TOPIC_WORD(batch->only.value_offset, batch->only.value_size);
    } else {
        message.hold[1] = batch->index;
        message.word[1] = batch->options != NULL ? TOPIC_WITH_OPTIONS : 0;
        batch->index = WEIR_MSG_NONE;
    }
    return message;
}

static void batch_clear(struct connection *connection, struct batch *batch)
{
    if (batch->capacity > 0)
        arena_drop(connection->arena, batch->index);
    *batch = (struct batch){.entry = batch->entry};
}

/* Hands the batch to its topic, or parks it. Its place stays, empty. */
static void batch_flush(struct connection *connection, struct topic_entry *entry, struct batch *batch)
{
    if (batch->count == 0)
        return;
    struct publisher *publisher = &connection->publisher;
    struct view name = entry_name(connection, entry);
    struct handed handed = {.owner = batch->owner,
                            .count = batch->count,
                            .number_word = batch->number_word,
                            .slices = batch->capacity > 0 && !batch_has_options(batch) ? batch->slices : NULL,
                            .bytes = batch->bytes,
                            .topic = name};
    struct message message = batch_message(connection, batch);
    batch_clear(connection, batch);
    uint64_t hash = publisher->parked_count > 0 ? hash_bytes(name.data, name.size) : 0;
    bool is_parked = publisher->parked_count > 0 && parked_find(publisher, name, hash) != NULL;
    enum weir_error error = WEIR_STALE;
    if (!is_parked && !actor_is_none(entry->topic)) {
        error = turn_send(connection->turn, entry->topic, &message);
        if (error == WEIR_OK) {
            handed_tell(connection, &handed, WEIR_OK);
            return;
        }
    }
    if (error == WEIR_STALE)
        entry->topic = WEIR_ACTOR_NONE;
    parked_add(connection, entry->topic, name, hash_bytes(name.data, name.size), &message, &handed);
}

static struct batch *batch_open(struct publisher *publisher, struct topic_entry *entry)
{
    struct batch *batch = &publisher->batches[publisher->open_count++];
    *batch = (struct batch){.entry = (uint16_t)(entry - publisher->entries)};
    entry->open = (uint8_t)publisher->open_count;
    return batch;
}

/* Takes an empty one out; those behind it move up. */
static void batch_close(struct publisher *publisher, struct topic_entry *entry)
{
    REQUIRE(entry->open > 0 && entry->open <= publisher->open_count);
    for (uint32_t i = entry->open; i < publisher->open_count; i++) {
        publisher->batches[i - 1] = publisher->batches[i];
        publisher->entries[publisher->batches[i].entry].open--;
    }
    publisher->open_count--;
    entry->open = 0;
}

void batch_hand(struct connection *connection, struct topic_entry *entry)
{
    struct publisher *publisher = &connection->publisher;
    batch_flush(connection, entry, &publisher->batches[entry->open - 1]);
    batch_close(publisher, entry);
}

void batches_hand(struct connection *connection)
{
    struct publisher *publisher = &connection->publisher;
    for (uint32_t i = 0; i < publisher->open_count; i++) {
        struct batch *batch = &publisher->batches[i];
        struct topic_entry *entry = &publisher->entries[batch->entry];
        batch_flush(connection, entry, batch);
        entry->open = 0;
    }
    publisher->open_count = 0;
}

/* Room for one more slice, of a batch with these options if it is the first; false without memory. */
static bool batch_reserve(struct connection *connection, struct batch *batch, const struct publish_options *options)
{
    bool is_alone = batch->count == 0 && options == NULL;
    if (is_alone || (batch->count > 0 && batch->count < batch->capacity))
        return true;
    size_t head = options != NULL ? sizeof *options : 0;
    uint32_t capacity = batch->capacity == 0 ? SLICES_FIRST : batch->capacity * 4;
    if (capacity > TOPIC_BATCH_MAX)
        capacity = TOPIC_BATCH_MAX;
    weir_msg block;
    if (arena_alloc(connection->arena, head + capacity * sizeof *batch->slices, connection->budget, &block) != WEIR_OK)
        return false;
    connection->intake.is_short = !connection_may_have(connection, 0, CONNECTION_RESERVE_PARSE);
    uint8_t *data = arena_data(connection->arena, block);
    struct record_slice *slices = (struct record_slice *)(void *)(data + head);
    if (options != NULL)
        memcpy(data, batch->count > 0 ? batch->options : options, head);
    if (batch->count == 1 && options == NULL)
        slices[0] = batch->only;
    else if (batch->count > 0)
        memcpy(slices, batch->slices, batch->count * sizeof *slices);
    arena_drop(connection->arena, batch->index);
    batch->index = block;
    batch->options = options != NULL ? (struct publish_options *)(void *)data : NULL;
    batch->slices = slices;
    batch->capacity = (uint16_t)capacity;
    return true;
}

/* Whether a record with these options goes on where those of the batch end: the same, with the next number. */
static bool options_continue(const struct batch *batch, const struct publish_options *options)
{
    const struct publish_options *of = batch_has_options(batch) ? batch->options : NULL;
    if (options == NULL || of == NULL)
        return options == of;
    return options->with.has_if_seq == of->with.has_if_seq && options->with.if_seq == of->with.if_seq &&
           options->with.ttl_ms == of->with.ttl_ms && options->with.bind == of->with.bind &&
           options->publisher_size == of->publisher_size &&
           memcmp(options->publisher, of->publisher, of->publisher_size) == 0 &&
           options->number == of->number + batch->count;
}

/* Whether the record goes on where the batch ends: same owner, options and ack level, a later number. */
static bool batch_continues(const struct batch *batch, uint64_t number_word, uint32_t owner,
                            const struct publish_options *options)
{
    if (batch->owner != owner || batch->count >= TOPIC_BATCH_MAX || !options_continue(batch, options))
        return false;
    if (TOPIC_ACK_LEVEL(number_word) != TOPIC_ACK_LEVEL(batch->number_word))
        return false;
    /* Those of a request, and of a PUSH peer, have one number for all. */
    uint64_t number = TOPIC_NUMBER(number_word), last = batch->number_last;
    if (number_word == batch->number_word || number == last + 1)
        return true;
    /* Between a session's records to one topic there may have been others, to other topics. Those that are answered
     * when they are handed over have to be neighbours. */
    return owner == 0 && options == NULL && TOPIC_ACK_LEVEL(number_word) != ACK_ACCEPTED && number > last &&
           number - last <= UINT32_MAX;
}

static void batch_append(struct batch *batch, struct record_slice slice, uint64_t number_word, uint32_t owner)
{
    if (batch->count == 0) {
        batch->only = slice;
        batch->number_word = number_word;
        batch->owner = owner;
    } else if (number_word != batch->number_word) {
        slice.step = (uint32_t)(TOPIC_NUMBER(number_word) - batch->number_last);
    }
    batch->number_last = TOPIC_NUMBER(number_word);
    if (batch->capacity > 0)
        batch->slices[batch->count] = slice;
    batch->count++;
    batch->bytes += slice.key_size + slice.value_size;
}

enum weir_error publisher_add(struct connection *connection, struct topic_entry *entry, struct view key,
                              struct view value, uint64_t number_word, uint32_t owner,
                              const struct publish_options *options)
{
    struct publisher *publisher = &connection->publisher;
    if (key.size + value.size + PUBLISHER_RECORD_OVERHEAD > connection->config->message_size_max)
        return WEIR_TOO_BIG;
    if (entry->open == 0 && publisher->open_count == PUBLISHER_OPEN_MAX) {
        batches_hand(connection);
        publisher->is_round_over = true;
    }
    struct batch *batch = entry->open > 0 ? &publisher->batches[entry->open - 1] : batch_open(publisher, entry);
    /* Without memory for a longer index it begins a batch, in this one's place: slower, but nothing is lost. */
    bool goes_on = batch->count > 0 && batch_continues(batch, number_word, owner, options) &&
                   batch_reserve(connection, batch, options);
    if (!goes_on) {
        batch_flush(connection, entry, batch);
        if (!batch_reserve(connection, batch, options)) {
            batch_close(publisher, entry);
            return WEIR_NO_MEMORY;
        }
    }
    const uint8_t *base = connection->intake.data;
    struct record_slice slice = {.value_offset = (uint32_t)(value.data - base), .value_size = (uint32_t)value.size};
    if (key.size > 0)
        slice.key_offset = (uint32_t)(key.data - base), slice.key_size = (uint32_t)key.size;
    batch_append(batch, slice, number_word, owner);
    counter_add(&connection->counters.records_in, 1);
    counter_add(&connection->counters.waiting, 1);
    return WEIR_OK;
}
