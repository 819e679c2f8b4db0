/* The verb get: a subscription to one topic that wants its snapshot only, written into one reply as it comes. In the
 * connection's turns. */
#include "actors/base/assert.h"
#include "broker/gateway/parked.h"
#include "broker/gateway/requests.h"
#include "broker/gateway/roster.h"
#include "clients/wire/name.h"

enum {
    RESULT_TAIL_MAX = 96,  /* epoch, seq and kind behind the state */
    RESULT_FIRST = 128,    /* a small state's block needs no second one */
    STATE_HEADER_SIZE = 5, /* array32, map32 */
};

/* A snapshot is not larger than this when it fits a message, so it never waits for credit. */
static uint32_t get_credit(const struct connection *connection)
{
    return (uint32_t)connection->config.message_size_max * 2;
}

static enum weir_error get_args(struct connection *connection, struct view args, struct view *topic, struct view *key,
                                const char **reason)
{
    *reason = "get needs a topic";
    if (args_find_str(args, "topic", topic) != WEIR_OK)
        return WEIR_BAD_REQUEST;
    if (name_check(*topic, reason) != WEIR_OK)
        return WEIR_BAD_TOPIC;
    *key = view_of(NULL, 0);
    struct view encoded;
    enum weir_error error = args_find(args, connection->config.depth_max, "key", &encoded);
    if (error == WEIR_NOT_FOUND)
        return WEIR_OK;
    *reason = "the key is no str of at most 1024 bytes in its shortest form";
    if (error != WEIR_OK)
        return WEIR_BAD_REQUEST;
    struct value_reader reader;
    value_reader_init(&reader, encoded, 1);
    bool is_nil = value_peek_nil(&reader);
    encoded = value_read_key(&reader);
    if (reader.error != WEIR_OK || is_nil)
        return WEIR_BAD_REQUEST;
    *key = encoded;
    return WEIR_OK;
}

static enum weir_error get_subscribe(struct connection *connection, uint32_t token, struct view topic, struct view key)
{
    struct directory_subscribe *subscribe;
    size_t size = sizeof *subscribe + topic.size + key.size;
    weir_msg block;
    enum weir_error error = arena_alloc(connection->arena, size, connection->budget, &block);
    if (error)
        return error;
    subscribe = arena_data(connection->arena, block);
    *subscribe = (struct directory_subscribe){.sub = token | REQUEST_SUB_BIT,
                                              .policy = POLICY_RESYNC,
                                              .snapshot = true,
                                              .updates = false,
                                              .credit = get_credit(connection),
                                              .key_size = (uint32_t)key.size,
                                              .pattern_size = (uint32_t)topic.size};
    memcpy(subscribe->bytes, topic.data, topic.size);
    if (key.size > 0)
        memcpy(subscribe->bytes + topic.size, key.data, key.size);
    connection_order(connection, &(struct message){.tag = DIRECTORY_SUBSCRIBE, .hold = {block}});
    return WEIR_OK;
}

enum weir_error verb_get(struct connection *connection, const struct request *request, uint64_t id, struct view hops)
{
    struct view topic, key;
    const char *reason;
    enum weir_error error = get_args(connection, request->args, &topic, &key, &reason);
    if (error != WEIR_OK) {
        gateway_count(connection->gateway, REFUSAL_MALFORMED, 1);
        requests_refuse(connection, id, hops, error, reason);
        return WEIR_OK;
    }
    struct request_slot *slot = request_open(connection, REQUEST_GET, id, hops);
    if (slot == NULL)
        return WEIR_NO_MEMORY;
    slot->has_key = key.size > 0;
    /* A subscription would make the topic; a get must not. */
    error = directory_find(connection->gateway->directory, topic, &slot->topic);
    if (error == WEIR_OK)
        error = get_subscribe(connection, slot->token, topic, key);
    if (error == WEIR_OK)
        return WEIR_OK;
    const char *text = error == WEIR_NOT_FOUND ? "there is no such topic" : weir_error_text(error);
    reply_error(connection, slot, error, view_text(text), topic, view_of(NULL, 0), 0);
    request_close(connection, slot);
    return WEIR_OK;
}

/* Ends the request and its subscription. */
void verb_get_end(struct connection *connection, struct request_slot *slot)
{
    uint32_t sub = slot->token | REQUEST_SUB_BIT;
    connection_order(connection, &(struct message){.tag = DIRECTORY_UNSUBSCRIBE, .detail = sub});
    request_close(connection, slot);
}

static void get_fail(struct connection *connection, struct request_slot *slot, enum weir_error error, const char *text)
{
    reply_error_text(connection, slot, error, text);
    verb_get_end(connection, slot);
}

/* ------------------------------------------------------------------------------------------- building */

static bool get_reserve(struct connection *connection, struct request_slot *slot, size_t size)
{
    size_t needed = slot->result_size + size + RESULT_TAIL_MAX;
    size_t capacity = msg_is_none(slot->result) ? 0 : arena_size(connection->arena, slot->result);
    if (needed <= capacity)
        return true;
    if (needed > connection->config.message_size_max + REPLY_HEAD_MAX) {
        get_fail(connection, slot, WEIR_TOO_BIG, "the state is longer than a message may be: subscribe to it instead");
        return false;
    }
    weir_msg block;
    capacity = needed < capacity * 2 ? capacity * 2 : needed;
    if (arena_alloc(connection->arena, capacity, connection->budget, &block) != WEIR_OK) {
        get_fail(connection, slot, WEIR_NO_MEMORY, weir_error_text(WEIR_NO_MEMORY));
        return false;
    }
    if (slot->result_size > 0)
        memcpy(arena_data(connection->arena, block), arena_data(connection->arena, slot->result), slot->result_size);
    arena_drop(connection->arena, slot->result);
    slot->result = block;
    return true;
}

/* Only after get_reserve. */
static void get_append(struct connection *connection, struct request_slot *slot, struct view bytes)
{
    memcpy((uint8_t *)arena_data(connection->arena, slot->result) + slot->result_size, bytes.data, bytes.size);
    slot->result_size += (uint32_t)bytes.size;
}

static bool get_is_list(const struct request_slot *slot) { return !slot->has_key && slot->topic_kind == TOPIC_LOG; }
static bool get_is_map(const struct request_slot *slot) { return !slot->has_key && slot->topic_kind == TOPIC_MAP; }

/* The reply is {"state": ..., "epoch", "seq", "kind"}: the state first, as its length is known last. */
static void get_begin(struct connection *connection, struct request_slot *slot, const struct message *message)
{
    const struct topic_begin *begin = arena_data(connection->arena, message->hold[0]);
    slot->is_begun = true;
    slot->feed = message->detail;
    slot->topic = message->from;
    slot->topic_kind = begin->kind;
    slot->pairs = 0;
    slot->result_size = 0;
    size_t expected = slot->has_key ? 0 : begin->state_bytes;
    if (expected > connection->config.message_size_max) {
        get_fail(connection, slot, WEIR_TOO_BIG, "the state is longer than a message may be: subscribe to it instead");
        return;
    }
    slot->result_size = REPLY_HEAD_MAX;
    if (msg_is_none(slot->result)) {
        slot->result_size = 0;
        if (!get_reserve(connection, slot, REPLY_HEAD_MAX + RESULT_FIRST))
            return;
        slot->result_size = REPLY_HEAD_MAX;
    }
    uint8_t head[32];
    struct value_writer writer;
    value_writer_init(&writer, head, sizeof head);
    value_write_map(&writer, 4);
    value_write_str(&writer, view_text("state"));
    slot->state_at = slot->result_size + writer.size;
    if (get_is_list(slot))
        value_write_raw(&writer, view_of("\xdd\0\0\0\0", STATE_HEADER_SIZE));
    if (get_is_map(slot))
        value_write_raw(&writer, view_of("\xdf\0\0\0\0", STATE_HEADER_SIZE));
    get_append(connection, slot, view_of(head, writer.size));
}

static void get_pair(struct connection *connection, struct request_slot *slot, struct view key, struct view value)
{
    static const uint8_t nil = 0xc0;
    if (!get_reserve(connection, slot, key.size + value.size + 1))
        return;
    if (get_is_map(slot))
        get_append(connection, slot, key.size > 0 ? key : view_of(&nil, 1));
    if (get_is_map(slot) || get_is_list(slot) || slot->pairs == 0)
        get_append(connection, slot, value);
    slot->pairs++;
}

static void get_entries(struct connection *connection, struct request_slot *slot, const struct message *message)
{
    uint32_t token = slot->token;
    struct topic_run run = topic_run_read(message);
    struct view items =
        view_of((uint8_t *)arena_data(connection->arena, run.pairs.block) + run.pairs.offset, run.pairs.size);
    if (!msg_is_none(run.value.block)) {
        const uint8_t *value = (uint8_t *)arena_data(connection->arena, run.value.block) + run.value.offset;
        bool is_nil = items.size == 1 && items.data[0] == 0xc0;
        get_pair(connection, slot, is_nil ? view_of(NULL, 0) : items, view_of(value, run.value.size));
        return;
    }
    struct view key, value;
    /* Stored values were checked when they came, and merging only makes them deeper by what was allowed. */
    while (items_next(&items, UINT8_MAX, &key, &value) == WEIR_OK) {
        get_pair(connection, slot, key, value);
        slot = request_find(connection, token);
        if (slot == NULL)
            return;
    }
}

static void get_finish(struct connection *connection, struct request_slot *slot, const struct message *message)
{
    if (slot->has_key && slot->pairs == 0) {
        get_fail(connection, slot, WEIR_NOT_FOUND, "there is no such key");
        return;
    }
    if (!get_reserve(connection, slot, 1))
        return;
    uint8_t *data = arena_data(connection->arena, slot->result);
    if (get_is_map(slot) || get_is_list(slot))
        container_count_write(data + slot->state_at, slot->pairs);
    struct value_writer writer;
    value_writer_init(&writer, data + slot->result_size,
                      arena_size(connection->arena, slot->result) - slot->result_size);
    if (!get_is_map(slot) && !get_is_list(slot) && slot->pairs == 0)
        value_write_nil(&writer);
    value_write_str(&writer, view_text("epoch"));
    value_write_uint(&writer, message->word[0]);
    value_write_str(&writer, view_text("seq"));
    value_write_uint(&writer, message->word[1]);
    value_write_str(&writer, view_text("kind"));
    value_write_str(&writer, view_text(topic_kind_name(slot->topic_kind)));
    ENSURE(!writer.is_full);
    weir_msg block = slot->result;
    slot->result = WEIR_MSG_NONE;
    reply_ok(connection, slot, block, slot->result_size + writer.size);
    verb_get_end(connection, slot);
}

void verb_get_message(struct connection *connection, struct request_slot *slot, struct message *message)
{
    switch (message->tag) {
    case DIRECTORY_SUBSCRIBED:
        if (message->word[2] != WEIR_OK)
            get_fail(connection, slot, (enum weir_error)message->word[2],
                     weir_error_text((enum weir_error)message->word[2]));
        return;
    case TOPIC_BEGIN: get_begin(connection, slot, message); return;
    case TOPIC_ENTRIES: get_entries(connection, slot, message); return;
    case TOPIC_END: get_finish(connection, slot, message); return;
    case TOPIC_ENDED:
        if (slot->has_key && message->word[0] == WEIR_BAD_REQUEST)
            get_fail(connection, slot, WEIR_BAD_REQUEST, "only a topic of kind map has keys to ask for");
        else
            get_fail(connection, slot, WEIR_CLOSED, "the topic ended before it answered");
        return;
    default: return; /* a reset or a restart: another BEGIN, or an end, follows */
    }
}
