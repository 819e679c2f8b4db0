/* The words for ops, ack levels and policies, as they stand in frames, requests, logs and on command lines. Any
 * thread. */
#include "clients/wire/frame.h"

#include "actors/base/assert.h"

static const char *const op_names[] = {
    [FRAME_HELLO] = "hello",
    [FRAME_PING] = "ping",
    [FRAME_PONG] = "pong",
    [FRAME_CREDIT] = "credit",
    [FRAME_CLOSE] = "close",
    [FRAME_ALIAS] = "alias",
    [FRAME_PUBLISH] = "publish",
    [FRAME_SUBSCRIBE] = "subscribe",
    [FRAME_UNSUBSCRIBE] = "unsubscribe",
    [FRAME_REQUEST] = "request",
    [FRAME_PUBLISH_WITH] = "publish-with",
    [FRAME_HOLD] = "hold",
    [FRAME_ACK] = "ack",
    [FRAME_REFUSED] = "refused",
    [FRAME_SUBSCRIBED] = "subscribed",
    [FRAME_UNSUBSCRIBED] = "unsubscribed",
    [FRAME_REPLY] = "reply",
    [FRAME_BEGIN] = "begin",
    [FRAME_ENTRIES] = "entries",
    [FRAME_END] = "end",
    [FRAME_UPDATES] = "updates",
    [FRAME_GAP] = "gap",
    [FRAME_CONFLATED] = "conflated",
    [FRAME_RESET] = "reset",
    [FRAME_IDLE] = "idle",
    [FRAME_STALE] = "stale",
    [FRAME_LIVE] = "live",
    [FRAME_ENDED] = "ended",
};

static const char *const level_names[] = {
    [ACK_NONE] = "none", [ACK_ACCEPTED] = "accepted", [ACK_FOLDED] = "folded", [ACK_DURABLE] = "durable"};

static const char *const policy_names[] = {
    [POLICY_RESYNC] = "resync", [POLICY_BLOCK] = "block",           [POLICY_CONFLATE] = "conflate",
    [POLICY_DROP] = "drop",     [POLICY_DISCONNECT] = "disconnect", [POLICY_UNKNOWN] = "unknown"};

static enum weir_error word_find(const char *const words[], size_t count, struct view word, unsigned *index_out)
{
    for (unsigned index = 0; index < count; index++) {
        if (view_is_same(view_text(words[index]), word)) {
            *index_out = index;
            return WEIR_OK;
        }
    }
    return WEIR_NOT_FOUND;
}

enum weir_error ack_level_find(struct view name, enum ack_level *out)
{
    unsigned index;
    enum weir_error error = word_find(level_names, COUNT_OF(level_names), name, &index);
    if (error == WEIR_OK)
        *out = (enum ack_level)index;
    return error;
}

enum weir_error policy_find(struct view name, enum overflow_policy *out)
{
    unsigned index;
    enum weir_error error = word_find(policy_names, COUNT_OF(policy_names), name, &index);
    if (error == WEIR_OK)
        *out = (enum overflow_policy)index;
    return error;
}

const char *ack_level_name(enum ack_level level)
{
    REQUIRE((unsigned)level < COUNT_OF(level_names));
    return level_names[level];
}

const char *policy_name(enum overflow_policy policy)
{
    REQUIRE((unsigned)policy < COUNT_OF(policy_names));
    return policy_names[policy];
}

const char *frame_op_name(enum frame_op op)
{
    unsigned index = (unsigned)op;
    return index < COUNT_OF(op_names) && op_names[index] != NULL ? op_names[index] : "unknown";
}
