/* Records from a connection to topics: names to actors, records to batches. In the connection's turns. */
#include "broker/gateway/publisher.h"

#include "actors/base/assert.h"
#include "broker/gateway/batches.h"
#include "broker/gateway/hash.h"
#include "broker/gateway/parked.h"
#include "broker/gateway/roster.h"

enum { PROBE_MAX = 8 }; /* entries looked at for one name; a power of two */

enum refusal refusal_of(enum weir_error error)
{
    switch (error) {
    case WEIR_BUSY:
    case WEIR_TIMEOUT: return REFUSAL_BUSY;
    case WEIR_TOO_BIG: return REFUSAL_RECORD_SIZE;
    case WEIR_BAD_TOPIC:
    case WEIR_FORBIDDEN: return REFUSAL_TOPIC_NAME;
    case WEIR_NO_MEMORY: return REFUSAL_MEMORY;
    case WEIR_CLOSED: return REFUSAL_CONNECTION_ENDED;
    case WEIR_BAD_REQUEST: return REFUSAL_MALFORMED;
    default: return REFUSAL_NO_TOPIC;
    }
}

void publisher_refuse(struct connection *connection, uint32_t count, enum refusal refusal)
{
    counter_add(&connection->counters.records_in, count);
    counter_add(&connection->counters.refused, count);
    gateway_count(connection->gateway, refusal, count);
}

/* ---------------------------------------------------------------------------------------- the table */

static void entry_forget(struct connection *connection, struct topic_entry *entry)
{
    if (entry->name_size > NAME_INLINE_MAX)
        arena_drop(connection->arena, entry->name_block);
    *entry = (struct topic_entry){.name_size = 0};
}

/* Where the entries are in a block: from a cache line on. */
static struct topic_entry *table_entries(void *block)
{
    uint8_t *data = block;
    return (struct topic_entry *)(void *)(data + -(uintptr_t)data % sizeof(struct topic_entry));
}

/* A table of that many entries, those of the old one taken over where they fit. No batch is open. */
static bool table_resize(struct connection *connection, uint32_t count)
{
    struct publisher *publisher = &connection->publisher;
    weir_msg block;
    size_t open_max = count < PUBLISHER_OPEN_MAX ? count : PUBLISHER_OPEN_MAX;
    size_t size = (count + 1) * sizeof(struct topic_entry) + open_max * sizeof(struct batch);
    if (arena_alloc(connection->arena, size, connection->budget, &block) != WEIR_OK)
        return false;
    struct topic_entry *entries = table_entries(arena_data(connection->arena, block));
    memset(entries, 0, count * sizeof *entries);
    for (uint32_t i = 0; i < publisher->entry_count; i++) {
        struct topic_entry *entry = &publisher->entries[i], *to = NULL;
        for (uint32_t probe = 0; entry->name_size > 0 && to == NULL && probe < PROBE_MAX; probe++)
            if (entries[(entry->hash + probe) % count].name_size == 0)
                to = &entries[(entry->hash + probe) % count];
        if (to != NULL)
            *to = *entry;
        else
            entry_forget(connection, entry);
    }
    arena_drop(connection->arena, publisher->table);
    publisher->table = block;
    publisher->entries = entries;
    publisher->batches = (struct batch *)(void *)(entries + count);
    publisher->entry_count = count;
    publisher->evictions = 0;
    return true;
}

/* The entry of that name or, when there is none, one that may be used for it (name_size 0). */
static struct topic_entry *entry_find(struct connection *connection, struct view name, uint32_t hash)
{
    struct publisher *publisher = &connection->publisher;
    struct topic_entry *vacant = NULL;
    for (uint32_t probe = 0; probe < PROBE_MAX; probe++) {
        struct topic_entry *entry = &publisher->entries[(hash + probe) % publisher->entry_count];
        if (entry->name_size == name.size && entry->hash == hash && view_is_same(entry_name(connection, entry), name))
            return entry;
        if (entry->name_size == 0 && vacant == NULL)
            vacant = entry;
    }
    if (vacant != NULL)
        return vacant;
    vacant = &publisher->entries[(hash + (publisher->evictions & (PROBE_MAX - 1))) % publisher->entry_count];
    publisher->evictions++;
    if (vacant->open > 0)
        batch_hand(connection, vacant);
    entry_forget(connection, vacant);
    return vacant;
}

static enum weir_error entry_name_set(struct connection *connection, struct topic_entry *entry, struct view name,
                                      uint32_t hash)
{
    if (name.size > NAME_INLINE_MAX) {
        weir_msg block;
        enum weir_error error = arena_alloc(connection->arena, name.size, connection->budget, &block);
        if (error)
            return error;
        memcpy(arena_data(connection->arena, block), name.data, name.size);
        entry->name_block = block;
    } else {
        memcpy(entry->name, name.data, name.size);
    }
    entry->hash = hash;
    entry->name_size = (uint8_t)name.size;
    return WEIR_OK;
}

/* ---------------------------------------------------------------------------------------- lookups */

static bool lookup_is_for(struct connection *connection, struct view name)
{
    const struct publisher *publisher = &connection->publisher;
    if (!publisher->is_lookup_done || msg_is_none(publisher->lookup_name))
        return false;
    return view_is_same(name, view_of(arena_data(connection->arena, publisher->lookup_name),
                                      arena_size(connection->arena, publisher->lookup_name)));
}

static void lookup_clear(struct connection *connection)
{
    struct publisher *publisher = &connection->publisher;
    arena_drop(connection->arena, publisher->lookup_name);
    publisher->lookup_name = WEIR_MSG_NONE;
    publisher->is_lookup_done = false;
    publisher->is_lookup_sent = false;
}

static void lookup_send(struct connection *connection)
{
    struct publisher *publisher = &connection->publisher;
    struct view name = view_of(arena_data(connection->arena, publisher->lookup_name),
                               arena_size(connection->arena, publisher->lookup_name));
    enum weir_error error = directory_ask(connection, name, publisher->lookup_token);
    publisher->is_lookup_sent = error == WEIR_OK;
    if (error == WEIR_NO_MEMORY) {
        /* It may be the connection's own that is used up, and would not come back while it waits: the record is
         * refused. */
        publisher->lookup_error = error;
        publisher->is_lookup_done = true;
        connection_resume(connection, PAUSE_DIRECTORY);
        return;
    }
    connection_retry(connection);
}

static enum weir_error lookup_begin(struct connection *connection, struct view name)
{
    struct publisher *publisher = &connection->publisher;
    lookup_clear(connection);
    enum weir_error error = arena_alloc(connection->arena, name.size, connection->budget, &publisher->lookup_name);
    if (error)
        return error;
    memcpy(arena_data(connection->arena, publisher->lookup_name), name.data, name.size);
    publisher->lookup_token = ++publisher->tokens << 1;
    connection_pause(connection, PAUSE_DIRECTORY);
    lookup_send(connection);
    return WEIR_AGAIN;
}

/* The actor behind a name: parked ones wait for theirs elsewhere. */
static enum weir_error topic_resolve(struct connection *connection, struct view name, uint64_t hash, weir_actor *out)
{
    struct publisher *publisher = &connection->publisher;
    *out = WEIR_ACTOR_NONE;
    if (publisher->parked_count > 0 && parked_find(publisher, name, hash) != NULL)
        return WEIR_OK;
    if (lookup_is_for(connection, name)) {
        enum weir_error error = publisher->lookup_error;
        *out = publisher->lookup_topic;
        lookup_clear(connection);
        return error;
    }
    if (directory_find(connection->gateway->directory, name, out) == WEIR_OK)
        return WEIR_OK;
    return lookup_begin(connection, name);
}

void publisher_ahead(const struct connection *connection, struct view name)
{
    const struct publisher *publisher = &connection->publisher;
    if (publisher->entry_count == 0)
        return;
    __builtin_prefetch(&publisher->entries[(uint32_t)hash_bytes(name.data, name.size) % publisher->entry_count]);
}

enum weir_error publisher_topic(struct connection *connection, struct view name, struct topic_entry **out)
{
    struct publisher *publisher = &connection->publisher;
    if (publisher->entry_count == 0 && !table_resize(connection, PUBLISHER_ENTRIES_MIN))
        return WEIR_NO_MEMORY;
    REQUIRE(name.size > 0 && name.size <= TOPIC_NAME_SIZE_MAX);
    uint64_t hash = hash_bytes(name.data, name.size);
    struct topic_entry *entry = entry_find(connection, name, (uint32_t)hash);
    if (entry->name_size > 0 && !actor_is_none(entry->topic)) {
        turn_ahead(connection->turn, entry->topic);
        *out = entry;
        return WEIR_OK;
    }
    if (name_is_reserved(name))
        return WEIR_FORBIDDEN;
    weir_actor topic;
    enum weir_error error = topic_resolve(connection, name, hash, &topic);
    if (error)
        return error;
    if (entry->name_size == 0) {
        error = entry_name_set(connection, entry, name, (uint32_t)hash);
        if (error)
            return error;
    }
    entry->topic = topic;
    *out = entry;
    return WEIR_OK;
}

void publisher_flush(struct connection *connection)
{
    struct publisher *publisher = &connection->publisher;
    batches_hand(connection);
    if (publisher->evictions > publisher->entry_count && publisher->entry_count < PUBLISHER_ENTRIES_MAX)
        (void)table_resize(connection, publisher->entry_count * 4); /* without memory the small one serves on */
}

/* ---------------------------------------------------------------------------------------- answers */

void publisher_on_room(struct connection *connection, weir_actor from)
{
    struct publisher *publisher = &connection->publisher;
    if (actor_is_same(from, directory_actor(connection->gateway->directory))) {
        if (!msg_is_none(publisher->lookup_name) && !publisher->is_lookup_sent && !publisher->is_lookup_done)
            lookup_send(connection);
        from = WEIR_ACTOR_NONE; /* and parked topics that look for theirs */
    }
    struct parked_topic *next = NULL;
    for (struct parked_topic *parked = publisher->parked; parked != NULL; parked = next) {
        next = parked->next;
        if (!actor_is_same(parked->topic, from))
            continue;
        if (actor_is_none(from))
            (void)!directory_ask(connection, view_of(parked->name, parked->name_size), parked->token);
        else
            parked_drain(connection, parked);
    }
}

void publisher_on_topic(struct connection *connection, const struct message *message)
{
    struct publisher *publisher = &connection->publisher;
    weir_actor topic = {.bits = message->word[1]};
    enum weir_error error = (enum weir_error)message->word[2];
    if ((message->word[0] & 1) != 0) {
        parked_on_topic(connection, message->word[0], topic, error);
        return;
    }
    if (msg_is_none(publisher->lookup_name) || message->word[0] != publisher->lookup_token)
        return;
    publisher->lookup_topic = topic;
    publisher->lookup_error = error == WEIR_EXISTS ? WEIR_OK : error;
    publisher->is_lookup_done = true;
    connection_resume(connection, PAUSE_DIRECTORY);
}

void publisher_retry(struct connection *connection)
{
    struct publisher *publisher = &connection->publisher;
    if (!msg_is_none(publisher->lookup_name) && !publisher->is_lookup_done)
        lookup_send(connection);
    parked_drain_all(connection);
}

void publisher_cancel(struct connection *connection, uint32_t owner, enum weir_error error, char topic[256])
{
    parked_refuse(connection, owner, error, topic);
}

void publisher_fini(struct connection *connection)
{
    struct publisher *publisher = &connection->publisher;
    for (uint32_t i = 0; i < publisher->open_count; i++) {
        const struct batch *batch = &publisher->batches[i];
        struct handed handed = {.count = batch->count, .owner = batch->owner};
        handed_tell(connection, &handed, WEIR_CLOSED);
        arena_drop(connection->arena, batch->index);
    }
    parked_refuse(connection, 0, WEIR_CLOSED, NULL);
    lookup_clear(connection);
    for (uint32_t i = 0; i < publisher->entry_count; i++)
        entry_forget(connection, &publisher->entries[i]);
    arena_drop(connection->arena, publisher->table);
    *publisher = (struct publisher){.tokens = publisher->tokens};
}
