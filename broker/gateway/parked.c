/* Batches whose topic has no room, in order per topic. In the connection's turns. */
#include "broker/gateway/parked.h"

#include "actors/base/assert.h"
#include "broker/gateway/roster.h"

void handed_tell(struct connection *connection, const struct handed *handed, enum weir_error error)
{
    struct connection_counters *counters = &connection->counters;
    counter_sub(&counters->waiting, handed->count);
    if (error == WEIR_OK) {
        counter_add(&counters->accepted, handed->count);
    } else {
        counter_add(&counters->refused, handed->count);
        gateway_count(connection->gateway, refusal_of(error), handed->count);
    }
    if (connection->ops->on_handed != NULL && !connection->is_closing)
        connection->ops->on_handed(connection, handed, error);
}

enum weir_error directory_ask(struct connection *connection, struct view name, uint64_t word)
{
    weir_msg block;
    enum weir_error error = arena_alloc(connection->arena, name.size, connection->budget, &block);
    if (error)
        return error;
    memcpy(arena_data(connection->arena, block), name.data, name.size);
    weir_actor directory = directory_actor(connection->gateway->directory);
    struct message message = {.tag = DIRECTORY_ENSURE, .hold = {block}, .word = {word}};
    error = turn_send(connection->turn, directory, &message);
    if (error == WEIR_OK)
        return WEIR_OK;
    arena_drop(connection->arena, block);
    if (error == WEIR_FULL && turn_await_room(connection->turn, directory) != WEIR_OK)
        error = WEIR_STALE;
    return error;
}

struct parked_topic *parked_find(const struct publisher *publisher, struct view name, uint64_t hash)
{
    for (struct parked_topic *parked = publisher->parked; parked != NULL; parked = parked->next)
        if (parked->hash == hash && view_is_same(view_of(parked->name, parked->name_size), name))
            return parked;
    return NULL;
}

static void blocked_update(struct connection *connection)
{
    const struct parked_topic *parked = connection->publisher.parked;
    connection_blocked_set(connection, parked == NULL ? view_of(NULL, 0) : view_of(parked->name, parked->name_size));
}

static struct parked_topic *parked_ensure(struct connection *connection, weir_actor topic, struct view name,
                                          uint64_t hash)
{
    struct publisher *publisher = &connection->publisher;
    struct parked_topic *parked = parked_find(publisher, name, hash);
    weir_msg block;
    if (parked != NULL ||
        arena_alloc(connection->arena, sizeof *parked + name.size, connection->budget, &block) != WEIR_OK)
        return parked;
    parked = arena_data(connection->arena, block);
    *parked = (struct parked_topic){.self = block, .topic = topic, .hash = hash, .name_size = (uint32_t)name.size};
    parked->token = ++publisher->tokens << 1 | 1;
    memcpy(parked->name, name.data, name.size);
    struct parked_topic **end = &publisher->parked;
    while (*end != NULL)
        end = &(*end)->next;
    *end = parked;
    publisher->parked_count++;
    if (publisher->parked_count == 1)
        blocked_update(connection);
    return parked;
}

static void parked_remove(struct connection *connection, struct parked_topic *parked)
{
    struct publisher *publisher = &connection->publisher;
    struct parked_topic **link = &publisher->parked;
    while (*link != parked)
        link = &(*link)->next;
    bool was_first = link == &publisher->parked;
    *link = parked->next;
    publisher->parked_count--;
    arena_drop(connection->arena, parked->self);
    if (was_first)
        blocked_update(connection);
    connection_parked_changed(connection);
}

/* Asks for whatever the topic waits for: room, or its new actor. */
static void parked_await(struct connection *connection, struct parked_topic *parked)
{
    if (!actor_is_none(parked->topic) && turn_await_room(connection->turn, parked->topic) == WEIR_OK) {
        connection_retry(connection);
        return;
    }
    parked->topic = WEIR_ACTOR_NONE;
    struct view name = view_of(parked->name, parked->name_size);
    if (directory_find(connection->gateway->directory, name, &parked->topic) == WEIR_OK &&
        turn_await_room(connection->turn, parked->topic) == WEIR_OK)
        return;
    parked->topic = WEIR_ACTOR_NONE;
    (void)!directory_ask(connection, name, parked->token); /* connection_retry asks again when this failed */
    connection_retry(connection);
}

void parked_add(struct connection *connection, weir_actor topic, struct view name, uint64_t hash,
                struct message *message, const struct handed *handed)
{
    struct parked_topic *parked = parked_ensure(connection, topic, name, hash);
    weir_msg block = WEIR_MSG_NONE;
    if (parked == NULL || arena_alloc(connection->arena, sizeof(struct parked_batch), connection->budget, &block)) {
        handed_tell(connection, handed, WEIR_NO_MEMORY);
        for (int i = 0; i < MESSAGE_HOLDS; i++)
            arena_drop(connection->arena, message_take(message, i));
        if (parked != NULL && parked->first == NULL)
            parked_remove(connection, parked);
        return;
    }
    struct parked_batch *batch = arena_data(connection->arena, block);
    *batch = (struct parked_batch){.self = block, .message = *message, .handed = *handed};
    batch->handed.was_parked = true;
    batch->handed.topic = view_of(parked->name, parked->name_size);
    bool is_new = parked->first == NULL;
    if (is_new)
        parked->first = batch;
    else
        parked->last->next = batch;
    parked->last = batch;
    connection->publisher.parked_bytes += handed->bytes;
    if (is_new)
        parked_await(connection, parked);
    connection_parked_changed(connection);
}

/* Takes the first batch out and tells of its fate. Its message's holds have gone with it, or are dropped. */
static void parked_batch_end(struct connection *connection, struct parked_topic *parked, enum weir_error error)
{
    struct parked_batch *batch = parked->first;
    parked->first = batch->next;
    if (parked->first == NULL)
        parked->last = NULL;
    connection->publisher.parked_bytes -= batch->handed.bytes;
    handed_tell(connection, &batch->handed, error);
    for (int i = 0; error != WEIR_OK && i < MESSAGE_HOLDS; i++)
        arena_drop(connection->arena, message_take(&batch->message, i));
    arena_drop(connection->arena, batch->self);
}

void parked_drain(struct connection *connection, struct parked_topic *parked)
{
    while (parked->first != NULL && !actor_is_none(parked->topic)) {
        enum weir_error error = turn_send(connection->turn, parked->topic, &parked->first->message);
        if (error == WEIR_STALE)
            parked->topic = WEIR_ACTOR_NONE;
        if (error == WEIR_STALE || error == WEIR_FULL)
            break;
        parked_batch_end(connection, parked, error);
    }
    if (parked->first != NULL)
        parked_await(connection, parked);
    else
        parked_remove(connection, parked);
}

void parked_drain_all(struct connection *connection)
{
    struct parked_topic *next = NULL;
    for (struct parked_topic *parked = connection->publisher.parked; parked != NULL; parked = next) {
        next = parked->next;
        if (actor_is_none(parked->topic))
            parked_await(connection, parked);
        else
            parked_drain(connection, parked);
    }
}

void parked_on_topic(struct connection *connection, uint64_t token, weir_actor topic, enum weir_error error)
{
    struct parked_topic *next = NULL;
    for (struct parked_topic *parked = connection->publisher.parked; parked != NULL; parked = next) {
        next = parked->next;
        if (parked->token != token || !actor_is_none(parked->topic))
            continue;
        parked->topic = error == WEIR_OK ? topic : WEIR_ACTOR_NONE;
        while (error != WEIR_OK && parked->first != NULL)
            parked_batch_end(connection, parked, error);
        if (error != WEIR_OK)
            parked_remove(connection, parked);
        else
            parked_drain(connection, parked);
    }
}

void parked_refuse(struct connection *connection, uint32_t owner, enum weir_error error, char topic[256])
{
    struct parked_topic *next = NULL;
    for (struct parked_topic *parked = connection->publisher.parked; parked != NULL; parked = next) {
        next = parked->next;
        struct parked_batch *kept_first = NULL, *kept_last = NULL;
        while (parked->first != NULL) {
            struct parked_batch *batch = parked->first;
            if (owner == 0 || batch->handed.owner == owner) {
                if (topic != NULL)
                    memcpy(topic, parked->name, parked->name_size), topic[parked->name_size] = '\0';
                parked_batch_end(connection, parked, error);
                continue;
            }
            parked->first = batch->next;
            batch->next = NULL;
            if (kept_last != NULL)
                kept_last->next = batch;
            else
                kept_first = batch;
            kept_last = batch;
        }
        parked->first = kept_first;
        parked->last = kept_last;
        if (kept_first == NULL)
            parked_remove(connection, parked);
    }
}
