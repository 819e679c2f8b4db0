/* Records to batches, and batches to topics: see publisher.h. In the connection's turns. */
#include "broker/gateway/batches.h"

#include "actors/base/assert.h"
#include "broker/gateway/parked.h"
#include "broker/gateway/publisher.h"

enum { SLICES_FIRST = 16 }; /* of an index block; it grows fourfold up to TOPIC_BATCH_MAX */

struct view entry_name(const struct connection *connection, const struct topic_entry *entry)
{
    if (entry->name_size <= NAME_INLINE_MAX)
        return view_of(entry->name, entry->name_size);
    return view_of(arena_data(connection->arena, entry->name_block), entry->name_size);
}

static bool entry_has_options(const struct topic_entry *entry) { return entry->capacity > 0 && entry->options != NULL; }

static void entry_index_drop(struct connection *connection, struct topic_entry *entry)
{
    if (entry->capacity == 0)
        return;
    arena_drop(connection->arena, entry->index);
    entry->index = WEIR_MSG_NONE;
    entry->options = NULL;
    entry->slices = NULL;
    entry->capacity = 0;
}

static struct message entry_message(struct connection *connection, struct topic_entry *entry)
{
    struct message message = {.tag = TOPIC_PUBLISH, .detail = entry->count};
    message.hold[0] = connection->intake.block;
    enum weir_error error = arena_hold(connection->arena, message.hold[0]);
    ENSURE(error == WEIR_OK);
    message.word[2] = entry->number_word;
    if (entry->count == 1 && !entry_has_options(entry)) {
        message.word[0] = TOPIC_WORD(entry->only.key_offset, entry->only.key_size);
        message.word[1] = TOPIC_WORD(entry->only.value_offset, entry->only.value_size);
    } else {
        message.hold[1] = entry->index;
        message.word[1] = entry->options != NULL ? TOPIC_WITH_OPTIONS : 0;
        entry->index = WEIR_MSG_NONE;
    }
    return message;
}

/* Hands the entry's batch to its topic, or parks it. */
static void entry_flush(struct connection *connection, struct topic_entry *entry)
{
    if (entry->count == 0)
        return;
    struct publisher *publisher = &connection->publisher;
    struct view name = entry_name(connection, entry);
    struct handed handed = {.owner = entry->owner,
                            .count = entry->count,
                            .number_word = entry->number_word,
                            .slices = entry->capacity > 0 && !entry_has_options(entry) ? entry->slices : NULL,
                            .bytes = entry->bytes,
                            .topic = name};
    struct message message = entry_message(connection, entry);
    entry->count = 0;
    entry_index_drop(connection, entry);
    bool is_parked = publisher->parked_count > 0 && parked_find(publisher, name, entry->hash) != NULL;
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
    parked_add(connection, entry->topic, name, entry->hash, &message, &handed);
}

_Static_assert(PUBLISHER_ENTRIES_MAX <= UINT16_MAX, "an entry's number has 16 bits");

static void open_add(struct publisher *publisher, struct topic_entry *entry)
{
    uint32_t index = (uint32_t)(entry - publisher->entries);
    if (publisher->open_count++ == 0)
        publisher->open_first = index;
    else
        publisher->entries[publisher->open_last].open_next = (uint16_t)index;
    publisher->open_last = index;
}

/* Takes out an entry that has a batch, or has just had one. */
static void open_remove(struct publisher *publisher, struct topic_entry *entry)
{
    REQUIRE(publisher->open_count > 0);
    uint32_t index = (uint32_t)(entry - publisher->entries), before = publisher->open_first;
    while (before != index && publisher->entries[before].open_next != index)
        before = publisher->entries[before].open_next;
    if (before == index)
        publisher->open_first = entry->open_next;
    else
        publisher->entries[before].open_next = entry->open_next;
    if (index == publisher->open_last)
        publisher->open_last = before;
    publisher->open_count--;
}

void batch_hand(struct connection *connection, struct topic_entry *entry)
{
    open_remove(&connection->publisher, entry);
    entry_flush(connection, entry);
}

void batches_hand(struct connection *connection)
{
    struct publisher *publisher = &connection->publisher;
    for (uint32_t at = publisher->open_first; publisher->open_count > 0; publisher->open_count--) {
        struct topic_entry *entry = &publisher->entries[at];
        at = entry->open_next;
        if (publisher->open_count > 1)
            turn_ahead(connection->turn, publisher->entries[at].topic);
        entry_flush(connection, entry);
    }
}

/* Room for one more slice, of a batch with these options if it is the first; false without memory. */
static bool entry_reserve(struct connection *connection, struct topic_entry *entry,
                          const struct publish_options *options)
{
    bool is_alone = entry->count == 0 && options == NULL;
    if (is_alone || (entry->count > 0 && entry->count < entry->capacity))
        return true;
    size_t head = options != NULL ? sizeof *options : 0;
    uint32_t capacity = entry->capacity == 0 ? SLICES_FIRST : entry->capacity * 4;
    if (capacity > TOPIC_BATCH_MAX)
        capacity = TOPIC_BATCH_MAX;
    weir_msg block;
    if (arena_alloc(connection->arena, head + capacity * sizeof *entry->slices, connection->budget, &block) != WEIR_OK)
        return false;
    connection->intake.is_short = !connection_may_have(connection, 0, CONNECTION_RESERVE_PARSE);
    uint8_t *data = arena_data(connection->arena, block);
    struct record_slice *slices = (struct record_slice *)(void *)(data + head);
    if (options != NULL)
        memcpy(data, entry->count > 0 ? entry->options : options, head);
    if (entry->count == 1 && options == NULL)
        slices[0] = entry->only;
    else if (entry->count > 0)
        memcpy(slices, entry->slices, entry->count * sizeof *slices);
    arena_drop(connection->arena, entry->index);
    entry->index = block;
    entry->options = options != NULL ? (struct publish_options *)(void *)data : NULL;
    entry->slices = slices;
    entry->capacity = (uint16_t)capacity;
    return true;
}

/* Whether a record with these options goes on where those of the batch end: the same, with the next number. */
static bool options_continue(const struct topic_entry *entry, const struct publish_options *options)
{
    const struct publish_options *of = entry_has_options(entry) ? entry->options : NULL;
    if (options == NULL || of == NULL)
        return options == of;
    return options->with.has_if_seq == of->with.has_if_seq && options->with.if_seq == of->with.if_seq &&
           options->with.ttl_ms == of->with.ttl_ms && options->with.bind == of->with.bind &&
           options->publisher_size == of->publisher_size &&
           memcmp(options->publisher, of->publisher, of->publisher_size) == 0 &&
           options->number == of->number + entry->count;
}

/* Whether the record goes on where the entry's batch ends: same owner, options and ack level, a later number. */
static bool entry_continues(const struct topic_entry *entry, uint64_t number_word, uint32_t owner,
                            const struct publish_options *options)
{
    if (entry->owner != owner || entry->count >= TOPIC_BATCH_MAX || !options_continue(entry, options))
        return false;
    if (TOPIC_ACK_LEVEL(number_word) != TOPIC_ACK_LEVEL(entry->number_word))
        return false;
    /* Those of a request, and of a PUSH peer, have one number for all. */
    uint64_t number = TOPIC_NUMBER(number_word), last = entry->number_last;
    if (number_word == entry->number_word || number == last + 1)
        return true;
    /* Between a session's records to one topic there may have been others, to other topics. Those that are answered
     * when they are handed over have to be neighbours. */
    return owner == 0 && options == NULL && TOPIC_ACK_LEVEL(number_word) != ACK_ACCEPTED && number > last &&
           number - last <= UINT32_MAX;
}

enum weir_error publisher_add(struct connection *connection, struct topic_entry *entry, struct view key,
                              struct view value, uint64_t number_word, uint32_t owner,
                              const struct publish_options *options)
{
    struct publisher *publisher = &connection->publisher;
    if (key.size + value.size + PUBLISHER_RECORD_OVERHEAD > connection->config->message_size_max)
        return WEIR_TOO_BIG;
    /* Without memory for a longer index it begins a batch: slower, but nothing is lost. */
    bool is_new = entry->count == 0 || !entry_continues(entry, number_word, owner, options) ||
                  !entry_reserve(connection, entry, options);
    /* Its next batch keeps the place of this one among the open ones: with topics in turn each record begins one. */
    bool is_open = entry->count > 0;
    if (is_new)
        entry_flush(connection, entry);
    if (!is_open && publisher->open_count == PUBLISHER_OPEN_MAX) {
        batches_hand(connection);
        publisher->is_round_over = true;
    }
    if (is_new && !entry_reserve(connection, entry, options)) {
        if (is_open)
            open_remove(publisher, entry);
        return WEIR_NO_MEMORY;
    }
    const uint8_t *base = connection->intake.data;
    struct record_slice slice = {.value_offset = (uint32_t)(value.data - base), .value_size = (uint32_t)value.size};
    if (key.size > 0)
        slice.key_offset = (uint32_t)(key.data - base), slice.key_size = (uint32_t)key.size;
    if (entry->count == 0) {
        entry->only = slice;
        entry->number_word = number_word;
        entry->owner = owner;
        entry->bytes = 0;
        if (!is_open)
            open_add(publisher, entry);
    }
    if (entry->count > 0 && number_word != entry->number_word)
        slice.step = (uint32_t)(TOPIC_NUMBER(number_word) - entry->number_last);
    entry->number_last = TOPIC_NUMBER(number_word);
    if (entry->capacity > 0)
        entry->slices[entry->count] = slice;
    entry->count++;
    entry->bytes += (uint32_t)(key.size + value.size);
    counter_add(&connection->counters.records_in, 1);
    counter_add(&connection->counters.waiting, 1);
    return WEIR_OK;
}
