/* The outstanding requests of a connection: slots, deadlines, replies. In the connection's turns. */
#include "broker/gateway/requests.h"

#include <stdio.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "broker/gateway/connection.h"

enum { SLOTS_FIRST = 2, REPLY_ERROR_MAX = 1024, ERROR_TEXT_MAX = 256 };

/* ---------------------------------------------------------------------------------------------- slots */

static bool slots_grow(struct connection *connection)
{
    struct requests *requests = &connection->requests;
    uint32_t old = requests->slot_count, count = old == 0 ? SLOTS_FIRST : old * 2;
    const size_t size = sizeof *requests->slots;
    if (arena_grow(connection->arena, &requests->block, old * size, count * size, connection->budget) != WEIR_OK)
        return false;
    requests->slots = arena_data(connection->arena, requests->block);
    memset(requests->slots + old, 0, (count - old) * size);
    requests->slot_count = count;
    return true;
}

struct request_slot *request_open(struct connection *connection, enum request_kind kind, uint64_t id, struct view hops)
{
    struct requests *requests = &connection->requests;
    REQUIRE(hops.size <= REQUEST_HOPS_SIZE_MAX);
    if (requests->used == requests->slot_count && !slots_grow(connection))
        return NULL;
    uint32_t index = 0;
    while (requests->slots[index].token != 0)
        index++;
    struct request_slot *slot = &requests->slots[index];
    requests->tokens = (requests->tokens + 1) & UINT32_C(0x7fffffff);
    if (requests->tokens == 0)
        requests->tokens = 1;
    *slot = (struct request_slot){.token = requests->tokens, .kind = kind, .id = id, .hops_size = (uint8_t)hops.size};
    if (hops.size > 0)
        memcpy(slot->hops, hops.data, hops.size);
    slot->deadline_ns = turn_now_ns(connection->turn) + connection->config->reply_deadline_ms * NS_PER_MS;
    requests->used++;
    requests_on_replied(connection);
    return slot;
}

struct request_slot *request_find(struct connection *connection, uint32_t token)
{
    struct requests *requests = &connection->requests;
    for (uint32_t i = 0; token != 0 && i < requests->slot_count; i++)
        if (requests->slots[i].token == token)
            return &requests->slots[i];
    return NULL;
}

void request_close(struct connection *connection, struct request_slot *slot)
{
    struct requests *requests = &connection->requests;
    REQUIRE(slot->token != 0);
    arena_drop(connection->arena, slot->error_topic);
    arena_drop(connection->arena, slot->error_text);
    arena_drop(connection->arena, slot->result);
    *slot = (struct request_slot){.token = 0};
    requests->used--;
    requests_on_replied(connection);
}

void request_error_set(struct connection *connection, struct request_slot *slot, enum weir_error error,
                       struct view topic)
{
    if (slot->error != WEIR_OK)
        return;
    slot->error = error;
    if (topic.size == 0 ||
        arena_alloc(connection->arena, topic.size, connection->budget, &slot->error_topic) != WEIR_OK)
        return; /* the reply then says everything but the name */
    memcpy(arena_data(connection->arena, slot->error_topic), topic.data, topic.size);
}

/* A request counts until its reply is on the way, so that a peer that does not read cannot pile replies up. */
void requests_on_replied(struct connection *connection)
{
    /* The one that is being read must be read to its end: what it is paused for may be its own answer. */
    bool is_building = connection->requests.building != 0;
    if (!is_building &&
        connection->requests.used + connection->output.replies.count >= connection->config->requests_max)
        connection_pause(connection, PAUSE_REQUESTS);
    else
        connection_resume(connection, PAUSE_REQUESTS);
}

/* -------------------------------------------------------------------------------------------- replies */

/* Puts prefix and head in front of the map and queues the whole. */
static void reply_send(struct connection *connection, const struct request_slot *slot, bool ok, weir_msg block,
                       size_t size)
{
    uint8_t *data = arena_data(connection->arena, block);
    size_t prefix = sp_prefix_size(connection->is_ipc);
    size_t head = connection->ops->reply_head(slot, ok, data, REPLY_HEAD_MAX);
    REQUIRE(head >= prefix && head <= REPLY_HEAD_MAX);
    sp_prefix_write(data + head - prefix, connection->is_ipc, size - head);
    struct message item = {.tag = OUTPUT_RAW, .hold = {block}, .word = {head - prefix, size - head + prefix}};
    if (queue_push(connection, &connection->output.replies, &item) != WEIR_OK) {
        arena_drop(connection->arena, block);
        connection_starve(connection, "there is no memory to reply into");
    }
    requests_on_replied(connection);
}

void reply_error(struct connection *connection, const struct request_slot *slot, const struct reply_refusal *refusal)
{
    struct reply_refusal said = *refusal;
    weir_msg block;
    size_t capacity = REPLY_HEAD_MAX + REPLY_ERROR_MAX;
    if (arena_alloc(connection->arena, capacity, connection->budget, &block) != WEIR_OK) {
        connection_starve(connection, "there is no memory to reply into");
        return;
    }
    /* The wire code writes ["error", {...}]; what goes before the map is the protocol's to say. */
    uint8_t whole[REPLY_ERROR_MAX];
    struct value_writer writer;
    value_writer_init(&writer, whole, sizeof whole);
    if (said.message.size > ERROR_TEXT_MAX)
        said.message.size = ERROR_TEXT_MAX;
    reply_error_write(&writer, &said);
    ENSURE(!writer.is_full);
    struct value_reader reader;
    value_reader_init(&reader, view_of(whole, writer.size), 4);
    (void)value_read_array(&reader);
    (void)value_read_str(&reader);
    struct view map = value_read_any(&reader);
    ENSURE(reader.error == WEIR_OK);
    memcpy((uint8_t *)arena_data(connection->arena, block) + REPLY_HEAD_MAX, map.data, map.size);
    reply_send(connection, slot, false, block, REPLY_HEAD_MAX + map.size);
}

void reply_error_text(struct connection *connection, const struct request_slot *slot, enum weir_error error,
                      const char *text)
{
    reply_error(connection, slot, &(struct reply_refusal){.error = error, .message = view_text(text)});
}

void reply_ok(struct connection *connection, const struct request_slot *slot, weir_msg block, size_t size)
{
    if (size - REPLY_HEAD_MAX + REPLY_HEAD_MAX / 2 <= connection->config->message_size_max) {
        reply_send(connection, slot, true, block, size);
        return;
    }
    arena_drop(connection->arena, block);
    reply_error_text(connection, slot, WEIR_TOO_BIG, "the reply is longer than a message may be");
}

void requests_refuse(struct connection *connection, uint64_t id, struct view hops, enum weir_error error,
                     const char *text)
{
    struct request_slot slot = {.id = id, .hops_size = (uint8_t)hops.size};
    if (hops.size > 0)
        memcpy(slot.hops, hops.data, hops.size);
    reply_error_text(connection, &slot, error, text);
}

/* ------------------------------------------------------------------------------------------- requests */

static bool verb_is(struct view verb, const char *name) { return view_is_same(verb, view_text(name)); }

enum weir_error requests_take(struct connection *connection, const struct request *request, uint64_t id,
                              struct view hops)
{
    if (verb_is(request->verb, "publish"))
        return verb_publish(connection, request, id, hops);
    if (verb_is(request->verb, "get"))
        return verb_get(connection, request, id, hops);
    if (verb_is(request->verb, "list"))
        return verb_list(connection, request, id, hops);
    if (verb_is(request->verb, "ask"))
        return verb_ask(connection, request, id, hops);
    gateway_count(connection->gateway, REFUSAL_MALFORMED, 1);
    requests_refuse(connection, id, hops, WEIR_BAD_REQUEST, "the verb is none of publish, get, list, ask");
    return WEIR_OK;
}

void requests_on_handed(struct connection *connection, const struct handed *handed, enum weir_error error)
{
    struct request_slot *slot = request_find(connection, handed->owner);
    if (slot == NULL)
        return;
    slot->waiting -= handed->count;
    if (error == WEIR_OK) {
        slot->handed += handed->count;
    } else {
        slot->refused += handed->count;
        request_error_set(connection, slot, error, handed->topic);
    }
    verb_publish_check(connection, slot);
}

struct nack_text nack_text_of(enum weir_error error, uint64_t nack_word)
{
    bool is_number = (nack_word & TOPIC_NACK_NUMBER) != 0;
    if (error == WEIR_OUTDATED)
        return (struct nack_text){error, weir_error_text(error), "number", 0};
    if (error == WEIR_NO_MEMORY) /* there may be some again: what a client does about "busy" is right */
        return (struct nack_text){WEIR_BUSY, "what topics may have of the broker's memory is used up", "memory", 0};
    if (error == WEIR_BAD_REQUEST) /* well-formed, or it would not have come so far */
        return (struct nack_text){error,
                                  "the topic's kind takes no such record: a map needs a key; ttl_ms and bind go with "
                                  "last and map; a plugin takes no options",
                                  "", 0};
    if (error == WEIR_FULL)
        return (struct nack_text){error,
                                  "there are as many topics as the broker may have (topics.max), or the session has "
                                  "bound as many of the topic's keys as it may (bound_keys_max)",
                                  "", 0};
    if (error == WEIR_FORBIDDEN)
        return (struct nack_text){error, "topics whose name begins with $ are the broker's own", "", 0};
    if (error == WEIR_NOT_FOUND)
        return (struct nack_text){error, "there is no such topic, and this broker makes none (topics.auto_create)", "",
                                  0};
    if (error != WEIR_CONFLICT)
        return (struct nack_text){error, weir_error_text(error), "", 0};
    return (struct nack_text){error, is_number ? "that number was another record's" : "the newest record is another",
                              is_number ? "number" : "if_seq", nack_word & ~TOPIC_NACK_NUMBER};
}

const char *follow_refusal_text(enum weir_error error)
{
    switch (error) {
    case WEIR_FULL:
        return "the broker has as many subscriptions or feeds as it may (topics.subscriptions_max, topics.feeds_max)";
    case WEIR_BUSY: return "the broker has no memory for the subscription at present: subscribe again later";
    default: return weir_error_text(error);
    }
}

void nack_sentence(struct arena *arena, weir_msg said, const char *usual, char out[static NACK_TEXT_SIZE])
{
    const char *text = msg_is_none(said) ? NULL : arena_data(arena, said);
    size_t size = text != NULL ? arena_size(arena, said) : 0;
    if (text == NULL || size >= NACK_TEXT_SIZE)
        snprintf(out, NACK_TEXT_SIZE, "%s", usual);
    else
        snprintf(out, NACK_TEXT_SIZE, "%.*s", (int)size, text);
}

static bool requests_on_ack(struct connection *connection, const struct message *message)
{
    uint64_t number = message->word[0];
    if ((number & REQUEST_NUMBER_BIT) == 0)
        return false;
    struct request_slot *slot =
        request_find(connection, (uint32_t)(number >> REQUEST_NUMBER_SHIFT) & UINT32_C(0x7fffffff));
    if (slot == NULL)
        return true;
    slot->answered += message->detail;
    if (message->tag == TOPIC_ACK) {
        slot->epoch = message->word[1];
        slot->seq = message->word[2];
    } else {
        slot->refused += message->detail;
        if (slot->error == WEIR_OK) {
            slot->error_word = message->word[2];
            if (!msg_is_none(message->hold[0]) && arena_hold(connection->arena, message->hold[0]) == WEIR_OK)
                slot->error_text = message->hold[0];
        }
        request_error_set(connection, slot, (enum weir_error)message->word[1], view_of(NULL, 0));
    }
    verb_publish_check(connection, slot);
    return true;
}

static struct request_slot *request_of_feed(struct connection *connection, const struct message *message)
{
    struct requests *requests = &connection->requests;
    if (message->tag == TOPIC_BEGIN) {
        const struct topic_begin *begin = arena_data(connection->arena, message->hold[0]);
        return (begin->sub & REQUEST_SUB_BIT) != 0 ? request_find(connection, begin->sub & ~REQUEST_SUB_BIT) : NULL;
    }
    for (uint32_t i = 0; i < requests->slot_count; i++) {
        struct request_slot *slot = &requests->slots[i];
        if (slot->token == 0 || slot->kind != REQUEST_GET)
            continue;
        if (slot->is_begun && slot->feed == message->detail)
            return slot;
    }
    return NULL;
}

/* What is about a subscription; false when it is none of a request. */
static bool requests_on_sub(struct connection *connection, uint32_t sub, struct message *message)
{
    if ((sub & REQUEST_SUB_BIT) == 0)
        return false;
    struct request_slot *slot = request_find(connection, sub & ~REQUEST_SUB_BIT);
    if (slot != NULL && slot->kind == REQUEST_GET)
        verb_get_message(connection, slot, message);
    return true;
}

bool requests_on_message(struct connection *connection, struct message *message)
{
    switch (message->tag) {
    case TOPIC_ACK:
    case TOPIC_NACK: return requests_on_ack(connection, message);
    case TOPIC_ANSWER: verb_ask_answer(connection, message); return true;
    case DIRECTORY_SUBSCRIBED:
    case DIRECTORY_UNSUBSCRIBED:
    case DIRECTORY_TOPIC_GONE: return requests_on_sub(connection, message->detail, message);
    /* Also of a feed that never began, so it is the subscription's number that says whose it is. */
    case TOPIC_ENDED: return requests_on_sub(connection, (uint32_t)message->word[1], message);
    default: {
        struct request_slot *slot = request_of_feed(connection, message);
        if (slot != NULL)
            verb_get_message(connection, slot, message);
        return slot != NULL;
    }
    }
}

/* ------------------------------------------------------------------------------------------ deadlines */

static void request_expire(struct connection *connection, struct request_slot *slot, uint64_t now_ns)
{
    uint32_t token = slot->token;
    if (slot->kind == REQUEST_ASK) {
        verb_ask_expire(connection, slot);
        return;
    }
    if (slot->kind == REQUEST_PUBLISH && slot->waiting > 0) {
        publisher_cancel(connection, token, WEIR_BUSY, NULL);
        slot = request_find(connection, token);
    }
    /* One that is still being read is finished by whoever reads it, once what paused the connection has room. */
    if (slot == NULL || slot->is_building)
        return;
    if (now_ns < slot->deadline_ns + REQUEST_ANSWER_MS * NS_PER_MS)
        return;
    reply_error_text(connection, slot, WEIR_CLOSED, "the topic ended before it answered");
    if (slot->kind == REQUEST_GET)
        verb_get_end(connection, slot);
    else
        request_close(connection, slot);
}

void requests_on_timer(struct connection *connection)
{
    struct requests *requests = &connection->requests;
    uint64_t now_ns = turn_now_ns(connection->turn);
    requests->is_timer_armed = false;
    for (uint32_t i = 0; i < requests->slot_count && !connection->is_closing; i++) {
        struct request_slot *slot = &requests->slots[i];
        if (slot->token != 0 && now_ns >= slot->deadline_ns)
            request_expire(connection, slot, now_ns);
    }
}

void requests_on_turn_end(struct connection *connection)
{
    struct requests *requests = &connection->requests;
    if (requests->used == 0 || requests->is_timer_armed)
        return;
    uint64_t now_ns = turn_now_ns(connection->turn), delay_ns = connection->config->reply_deadline_ms * NS_PER_MS;
    for (uint32_t i = 0; i < requests->slot_count; i++) {
        const struct request_slot *slot = &requests->slots[i];
        if (slot->token != 0 && slot->deadline_ns > now_ns && slot->deadline_ns - now_ns < delay_ns)
            delay_ns = slot->deadline_ns - now_ns;
    }
    requests->is_timer_armed = true;
    connection_timer(connection, TIMER_REQUESTS, delay_ns / NS_PER_MS + 1, false);
}

void requests_fini(struct connection *connection)
{
    struct requests *requests = &connection->requests;
    for (uint32_t i = 0; i < requests->slot_count; i++)
        if (requests->slots[i].token != 0)
            request_close(connection, &requests->slots[i]);
    arena_drop(connection->arena, requests->block);
    *requests = (struct requests){.tokens = requests->tokens};
}
