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
    MAP32_HEAD = 0xdf,
    NEXT_HEAD_SIZE = 8,   /* "next" and the encoding of its map */
    MEMBER_HEAD_SIZE = 2, /* what a merged map's member has before it as an entry */
    PAGE_OVERHEAD_MAX = RESULT_TAIL_MAX + RESULT_FIRST + NEXT_HEAD_SIZE + KEY_SIZE_MAX + 3,
};
static const char too_big[] = "the state is longer than a message may be: ask for it in pages with limit, or subscribe";

static const char no_topic[] = "there is no such topic";

static const char no_next[] =
    "the page ends at a member whose key is no str of at most 1024 bytes, and none can be asked "
    "behind it: ask with another limit, or subscribe";

/* A snapshot is not larger than this when it fits a message, so it never waits for credit. */
static uint32_t get_credit(const struct connection *connection)
{
    return (uint32_t)connection->config->message_size_max * 2;
}

/* What is asked for. */
struct get_args {
    struct view topic;
    struct view key, prefix, after; /* encoded; empty: none */
    uint64_t limit;                 /* UINT32_MAX when there is none */
    bool has_limit;
};

static bool get_is_page(const struct get_args *args)
{
    return args->prefix.size > 0 || args->after.size > 0 || args->has_limit;
}

/* args[name] as an encoded key; empty where it is not given. */
static enum weir_error get_arg_key(struct view args, const char *name, unsigned depth_max, struct view *out)
{
    struct view encoded;
    *out = view_of(NULL, 0);
    enum weir_error error = args_find(args, depth_max, name, &encoded);
    if (error == WEIR_NOT_FOUND)
        return WEIR_OK;
    if (error != WEIR_OK)
        return WEIR_BAD_REQUEST;
    struct value_reader reader;
    value_reader_init(&reader, encoded, 1);
    bool is_nil = value_peek_nil(&reader);
    encoded = value_read_key(&reader);
    if (reader.error != WEIR_OK || is_nil)
        return WEIR_BAD_REQUEST;
    *out = encoded;
    return WEIR_OK;
}

static enum weir_error get_args(struct connection *connection, struct view args, struct get_args *out,
                                const char **reason)
{
    unsigned depth_max = connection->config->depth_max;
    *out = (struct get_args){.limit = UINT32_MAX};
    *reason = "get needs a topic";
    if (args_find_str(args, "topic", &out->topic) != WEIR_OK)
        return WEIR_BAD_REQUEST;
    if (name_check(out->topic, reason) != WEIR_OK)
        return WEIR_BAD_TOPIC;
    *reason = "key, prefix and after are str of at most 1024 bytes in their shortest form";
    if (get_arg_key(args, "key", depth_max, &out->key) || get_arg_key(args, "prefix", depth_max, &out->prefix) ||
        get_arg_key(args, "after", depth_max, &out->after))
        return WEIR_BAD_REQUEST;
    *reason = "limit is a number from 1 on";
    enum weir_error error = args_find_uint(args, "limit", &out->limit);
    out->has_limit = error == WEIR_OK;
    if ((error != WEIR_OK && error != WEIR_NOT_FOUND) || out->limit == 0)
        return WEIR_BAD_REQUEST;
    *reason = "key asks for one entry: prefix, after and limit do not go with it";
    return out->key.size > 0 && get_is_page(out) ? WEIR_BAD_REQUEST : WEIR_OK;
}

/* The bytes of pairs that a page may have, so that the reply, with its last key once more, fits a message. */
static uint32_t page_bytes_max(const struct connection *connection)
{
    return (uint32_t)(connection->config->message_size_max - PAGE_OVERHEAD_MAX);
}

static struct topic_part get_part(const struct connection *connection, const struct get_args *args)
{
    struct view key = args->key.size > 0 ? args->key : args->prefix;
    struct topic_part part = {.key_size = (uint16_t)key.size, .after_size = (uint16_t)args->after.size};
    part.match = args->key.size > 0 ? KEY_IS : args->prefix.size > 0 ? KEY_BEGINS : KEY_ANY;
    if (!get_is_page(args))
        return part;
    part.page_entries_max = args->limit < UINT32_MAX ? (uint32_t)args->limit : UINT32_MAX;
    part.page_bytes_max = page_bytes_max(connection);
    return part;
}

static enum weir_error get_subscribe(struct connection *connection, uint32_t token, const struct get_args *args)
{
    struct directory_subscribe *subscribe;
    struct view key = args->key.size > 0 ? args->key : args->prefix;
    size_t size = sizeof *subscribe + args->topic.size + key.size + args->after.size;
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
                                              .part = get_part(connection, args),
                                              .pattern_size = (uint32_t)args->topic.size};
    uint8_t *at = subscribe->bytes;
    memcpy(at, args->topic.data, args->topic.size);
    at += args->topic.size;
    if (key.size > 0)
        memcpy(at, key.data, key.size);
    if (args->after.size > 0)
        memcpy(at + key.size, args->after.data, args->after.size);
    connection_order(connection, &(struct message){.tag = DIRECTORY_SUBSCRIBE, .hold = {block}});
    return WEIR_OK;
}

enum weir_error verb_get(struct connection *connection, const struct request *request, uint64_t id, struct view hops)
{
    struct get_args args;
    const char *reason;
    enum weir_error error = get_args(connection, request->args, &args, &reason);
    if (error != WEIR_OK) {
        gateway_count(connection->gateway, REFUSAL_MALFORMED, 1);
        requests_refuse(connection, id, hops, error, reason);
        return WEIR_OK;
    }
    struct request_slot *slot = request_open(connection, REQUEST_GET, id, hops);
    if (slot == NULL)
        return WEIR_NO_MEMORY;
    slot->has_key = args.key.size > 0;
    slot->is_page = get_is_page(&args);
    slot->has_limit = args.has_limit;
    weir_actor topic;
    error = directory_find(connection->gateway->directory, args.topic, &topic);
    if (error == WEIR_OK)
        error = get_subscribe(connection, slot->token, &args);
    if (error == WEIR_OK)
        return WEIR_OK;
    const char *text = error == WEIR_NOT_FOUND ? no_topic : weir_error_text(error);
    reply_error(connection, slot,
                &(struct reply_refusal){.error = error, .message = view_text(text), .topic = args.topic});
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
    if (needed > connection->config->message_size_max + REPLY_HEAD_MAX) {
        get_fail(connection, slot, WEIR_TOO_BIG,
                 slot->has_limit ? "an entry is longer than a reply may be: subscribe to its key instead" : too_big);
        return false;
    }
    capacity = needed < capacity * 2 ? capacity * 2 : needed;
    if (arena_grow(connection->arena, &slot->result, slot->result_size, capacity, connection->budget) != WEIR_OK) {
        get_fail(connection, slot, WEIR_NO_MEMORY, weir_error_text(WEIR_NO_MEMORY));
        return false;
    }
    return true;
}

/* Only after get_reserve. */
static void get_append(struct connection *connection, struct request_slot *slot, struct view bytes)
{
    memcpy((uint8_t *)arena_data(connection->arena, slot->result) + slot->result_size, bytes.data, bytes.size);
    slot->result_size += (uint32_t)bytes.size;
}

static bool get_is_list(const struct request_slot *slot) { return !slot->has_key && slot->topic_kind == TOPIC_LOG; }
static bool get_is_merge(const struct request_slot *slot) { return slot->topic_kind == TOPIC_MERGE; }
static bool get_is_map(const struct request_slot *slot)
{
    return !slot->has_key && (topic_kind_of_state(slot->topic_kind) == TOPIC_MAP || get_is_merge(slot));
}

/* The reply is {"state": ..., "epoch", "seq", "kind"}: the state first, as its length is known last. */
static void get_begin(struct connection *connection, struct request_slot *slot, const struct message *message)
{
    const struct topic_begin *begin = arena_data(connection->arena, message->hold[0]);
    slot->is_begun = true;
    slot->feed = message->detail;
    slot->topic_kind = begin->kind;
    slot->pairs = 0;
    slot->result_size = 0;
    size_t expected = slot->has_key || slot->is_page ? 0 : begin->state_bytes;
    if (slot->has_key && topic_kind_of_state(slot->topic_kind) != TOPIC_MAP) {
        get_fail(connection, slot, WEIR_BAD_REQUEST, "only a topic of kind map has keys to ask for");
        return;
    }
    if (slot->is_page && !get_is_map(slot)) {
        get_fail(connection, slot, WEIR_BAD_REQUEST,
                 "only a topic of kind map or merge is given in pages: subscribe to it instead");
        return;
    }
    if (get_is_merge(slot) && expected > MEMBER_HEAD_SIZE * begin->entries)
        expected -= MEMBER_HEAD_SIZE * begin->entries;
    if (expected > connection->config->message_size_max) {
        get_fail(connection, slot, WEIR_TOO_BIG, too_big);
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
    slot->last_at = slot->result_size;
    slot->last_size = (uint32_t)key.size;
    if (get_is_map(slot))
        get_append(connection, slot, key.size > 0 ? key : view_of(&nil, 1));
    if (get_is_map(slot) || get_is_list(slot) || slot->pairs == 0)
        get_append(connection, slot, value);
    slot->pairs++;
}

/* An entry of a merged map is a map of one; the one of a state that is no map is the state. */
static void get_member(struct connection *connection, struct request_slot *slot, struct view entry)
{
    struct value_reader reader;
    value_reader_init(&reader, entry, VALUE_DEPTH_LIMIT);
    if (entry.data[0] == TOPIC_MEMBER_HEAD) {
        (void)value_read_map(&reader);
        struct view key = value_read_any(&reader), value = value_read_any(&reader);
        get_pair(connection, slot, key, value);
    } else if (get_reserve(connection, slot, entry.size)) {
        slot->result_size = (uint32_t)slot->state_at;
        get_append(connection, slot, entry);
        slot->pairs++;
    }
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
        if (get_is_merge(slot))
            get_member(connection, slot, value);
        else
            get_pair(connection, slot, key, value);
        slot = request_find(connection, token);
        if (slot == NULL)
            return;
    }
}

/* A str that can be asked behind; a merged map may have others. */
static bool get_can_go_on(const struct request_slot *slot, const uint8_t *data)
{
    struct value_reader reader;
    value_reader_init(&reader, view_of(data + slot->last_at, slot->last_size), 1);
    return !value_peek_nil(&reader) && value_read_key(&reader).size > 0;
}

static void get_finish(struct connection *connection, struct request_slot *slot, const struct message *message)
{
    if (slot->has_key && slot->pairs == 0) {
        get_fail(connection, slot, WEIR_NOT_FOUND, "there is no such key");
        return;
    }
    bool has_next = (message->word[2] & END_HAS_MORE) != 0;
    if (has_next && !slot->has_limit) {
        get_fail(connection, slot, WEIR_TOO_BIG, too_big);
        return;
    }
    if (has_next && !get_can_go_on(slot, arena_data(connection->arena, slot->result))) {
        get_fail(connection, slot, WEIR_BAD_REQUEST, no_next);
        return;
    }
    if (!get_reserve(connection, slot, 1 + (has_next ? NEXT_HEAD_SIZE + slot->last_size : 0)))
        return;
    uint8_t *data = arena_data(connection->arena, slot->result);
    /* A merge topic's state that is no map stands where the head did. */
    if (get_is_list(slot) || (get_is_map(slot) && data[slot->state_at] == MAP32_HEAD))
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
    if (has_next) {
        data[REPLY_HEAD_MAX]++; /* the map has one member more */
        value_write_str(&writer, view_text("next"));
        value_write_raw(&writer, view_of(data + slot->last_at, slot->last_size));
    }
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
                     follow_refusal_text((enum weir_error)message->word[2]));
        else if (message->word[0] == 0) /* deleted between the look-up and the subscription */
            get_fail(connection, slot, WEIR_NOT_FOUND, no_topic);
        return;
    case TOPIC_BEGIN: get_begin(connection, slot, message); return;
    case TOPIC_ENTRIES: get_entries(connection, slot, message); return;
    case TOPIC_END: get_finish(connection, slot, message); return;
    case DIRECTORY_TOPIC_GONE:
    case TOPIC_ENDED: get_fail(connection, slot, WEIR_CLOSED, "the topic ended before it answered"); return;
    default: return; /* a reset or a restart: another BEGIN, or an end, follows */
    }
}
