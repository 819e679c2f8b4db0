/* The verb ask: a question to a plugin, which answers by its own code. By a topic of kind plugin:NAME, which passes it
 * on with the topic's name, or by the plugin's name. In the connection's turns. */
#include <stdio.h>

#include "actors/base/assert.h"
#include "broker/gateway/connection.h"
#include "broker/gateway/requests.h"
#include "broker/gateway/roster.h"
#include "clients/wire/name.h"

enum { RESULT_HEAD = 16, RETRY_MS = 100 };

struct ask_args {
    struct view topic, plugin; /* one of them */
    struct view value;
};

static enum weir_error args_read(struct view args, unsigned depth_max, struct ask_args *out, const char **reason)
{
    static const uint8_t nil = 0xc0;
    enum weir_error topic = args_find_str(args, "topic", &out->topic);
    enum weir_error plugin = args_find_str(args, "plugin", &out->plugin);
    *reason = "ask needs a topic or a plugin, one of them";
    bool is_one = (topic == WEIR_OK && plugin == WEIR_NOT_FOUND) || (topic == WEIR_NOT_FOUND && plugin == WEIR_OK);
    if (!is_one)
        return WEIR_BAD_REQUEST;
    if (topic == WEIR_OK && name_check(out->topic, reason) != WEIR_OK)
        return WEIR_BAD_TOPIC;
    *reason = "a plugin's name is 1 to 32 of a-z, 0-9, '_' and '-'";
    if (plugin == WEIR_OK && !plugin_name_is_valid(out->plugin))
        return WEIR_BAD_REQUEST;
    *reason = "the value is malformed";
    enum weir_error error = args_find(args, depth_max, "value", &out->value);
    if (error == WEIR_NOT_FOUND)
        out->value = view_of(&nil, 1);
    return error == WEIR_NOT_FOUND ? WEIR_OK : error;
}

/* Hands it over; the block stays the caller's unless WEIR_OK. */
static enum weir_error ask_send(struct connection *connection, const struct ask_args *args, struct message *ask)
{
    weir_actor to;
    if (args->topic.data != NULL) {
        enum weir_error error = directory_find(connection->gateway->directory, args->topic, &to);
        return error != WEIR_OK ? error : turn_control(connection->turn, to, ask);
    }
    char name[sizeof PLUGIN_REGISTRY_PREFIX + PLUGIN_NAME_MAX];
    int size = snprintf(name, sizeof name, PLUGIN_REGISTRY_PREFIX "%.*s", (int)args->plugin.size,
                        (const char *)args->plugin.data);
    enum weir_error error = registry_find(turn_runtime(connection->turn), name, (size_t)size, &to);
    return error != WEIR_OK ? error : turn_send(connection->turn, to, ask);
}

/* What an error is called outside, and why it came. */
static void ask_refuse(struct connection *connection, const struct request_slot *slot, enum weir_error error,
                       weir_msg said)
{
    struct reply_refusal refusal = {.error = error};
    const char *usual = weir_error_text(error);
    char text[NACK_TEXT_SIZE];
    switch (error) {
    case WEIR_NOT_FOUND: usual = "there is no such topic, or no such plugin runs"; break;
    case WEIR_BAD_REQUEST: usual = "the topic is none of a plugin's: nobody answers for it"; break;
    case WEIR_STALE: refusal.error = WEIR_CLOSED; /* fall through */
    case WEIR_CLOSED: usual = "the plugin has ended, or was unloaded"; break;
    case WEIR_POISONED: usual = "the plugin failed of it repeatedly"; break;
    case WEIR_TIMEOUT: usual = "the plugin gave no reply in time; it may still handle this"; break;
    case WEIR_FULL:
    case WEIR_NO_MEMORY:
        refusal.error = WEIR_BUSY;
        refusal.cause = view_text(error == WEIR_FULL ? "mailbox" : "memory");
        refusal.retry_ms = RETRY_MS;
        usual = error == WEIR_FULL ? "more waits for the plugin than it can take" : "the broker's memory is used up";
        break;
    default: break;
    }
    nack_sentence(connection->arena, said, usual, text);
    refusal.message = view_text(text);
    reply_error(connection, slot, &refusal);
}

enum weir_error verb_ask(struct connection *connection, const struct request *request, uint64_t id, struct view hops)
{
    struct ask_args args = {.topic = view_of(NULL, 0)};
    const char *reason = "";
    enum weir_error error = args_read(request->args, connection->config->depth_max, &args, &reason);
    if (error != WEIR_OK) {
        gateway_count(connection->gateway, REFUSAL_MALFORMED, 1);
        requests_refuse(connection, id, hops, error == WEIR_BAD_TOPIC ? error : WEIR_BAD_REQUEST, reason);
        return WEIR_OK;
    }
    struct message ask = {.tag = TOPIC_ASK, .word = {TOPIC_WORD(0, args.value.size)}};
    if (arena_alloc(connection->arena, args.value.size, connection->budget, &ask.hold[0]) != WEIR_OK)
        return WEIR_NO_MEMORY;
    struct request_slot *slot = request_open(connection, REQUEST_ASK, id, hops);
    if (slot == NULL) {
        arena_drop(connection->arena, ask.hold[0]);
        return WEIR_NO_MEMORY;
    }
    memcpy(arena_data(connection->arena, ask.hold[0]), args.value.data, args.value.size);
    ask.word[1] = slot->token;
    ask.word[2] = slot->deadline_ns;
    error = ask_send(connection, &args, &ask);
    if (error != WEIR_OK) {
        arena_drop(connection->arena, ask.hold[0]);
        ask_refuse(connection, slot, error, WEIR_MSG_NONE);
        request_close(connection, slot);
    }
    return WEIR_OK;
}

/* {"value": reply} */
static void ask_replied(struct connection *connection, const struct request_slot *slot, struct view value)
{
    size_t capacity = REPLY_HEAD_MAX + RESULT_HEAD + value.size;
    struct value_writer writer;
    weir_msg block;
    if (arena_alloc(connection->arena, capacity, connection->budget, &block) != WEIR_OK) {
        connection_starve(connection, "there is no memory to reply into");
        return;
    }
    value_writer_init(&writer, (uint8_t *)arena_data(connection->arena, block) + REPLY_HEAD_MAX,
                      capacity - REPLY_HEAD_MAX);
    value_write_map(&writer, 1);
    value_write_str(&writer, view_text("value"));
    value_write_raw(&writer, value);
    ENSURE(!writer.is_full);
    reply_ok(connection, slot, block, REPLY_HEAD_MAX + writer.size);
}

void verb_ask_answer(struct connection *connection, const struct message *message)
{
    struct request_slot *slot = request_find(connection, (uint32_t)message->word[0]);
    enum weir_error error = (enum weir_error)message->word[1];
    if (slot == NULL || slot->kind != REQUEST_ASK)
        return; /* it was told that its time is over */
    if (error == WEIR_OK)
        ask_replied(
            connection, slot,
            view_of(arena_data(connection->arena, message->hold[0]), arena_size(connection->arena, message->hold[0])));
    else
        ask_refuse(connection, slot, error, message->hold[0]);
    request_close(connection, slot);
}

void verb_ask_expire(struct connection *connection, struct request_slot *slot)
{
    ask_refuse(connection, slot, WEIR_TIMEOUT, WEIR_MSG_NONE);
    request_close(connection, slot);
}
