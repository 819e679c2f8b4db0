/* Takes session frames apart. Called by the broker's sessions and by the client library for every frame that comes
 * in; any thread. */
#include "clients/wire/frame.h"

#include "actors/base/assert.h"
#include "actors/base/limits.h"

static void fail(struct value_reader *reader) { reader->error = WEIR_BAD_REQUEST; }

static uint32_t read_uint32(struct value_reader *reader)
{
    uint64_t number = value_read_uint(reader);
    if (number > UINT32_MAX) {
        fail(reader);
        return 0;
    }
    return (uint32_t)number;
}

static uint32_t read_alias(struct value_reader *reader)
{
    uint32_t alias = read_uint32(reader);
    if (alias > ALIAS_MAX)
        fail(reader);
    return alias;
}

static bool is_key(struct view key, const char *name) { return view_is_same(key, view_text(name)); }

/* Goes to the next pair of an options map: true with its key while there is one. */
static bool option_next(struct value_reader *reader, uint32_t *pairs, struct view *key)
{
    if (*pairs == 0 || reader->error != WEIR_OK)
        return false;
    (*pairs)--;
    *key = value_read_str(reader);
    return reader->error == WEIR_OK;
}

/* The items array: its head is read, its elements are left for items_next. */
static uint32_t read_items(struct value_reader *reader, struct view *items)
{
    uint32_t count = value_read_array(reader);
    if (count % 2 != 0)
        fail(reader);
    *items = reader->rest;
    reader->rest = view_of(NULL, 0);
    return count / 2;
}

/* first, first + 1, ... for count of them must be numbers. */
static void check_range(struct value_reader *reader, uint64_t first, uint32_t count)
{
    if (first > UINT64_MAX - count)
        fail(reader);
}

static void read_hello(struct value_reader *reader, struct frame *out)
{
    struct view key;
    out->as.hello.message_max = MESSAGE_SIZE_MAX_DEFAULT;
    out->as.hello.records_max = RECORDS_PER_MESSAGE_MAX_DEFAULT;
    out->as.hello.depth_max = MSGPACK_DEPTH_MAX_DEFAULT;
    out->as.hello.version = value_read_uint(reader);
    uint32_t pairs = value_read_map(reader);
    while (option_next(reader, &pairs, &key)) {
        if (is_key(key, "client") || is_key(key, "server")) {
            out->as.hello.peer = value_read_str(reader);
            out->as.hello.is_server = key.data[0] == 's';
        } else if (is_key(key, "credit")) {
            out->as.hello.credit = value_read_uint(reader);
        } else if (is_key(key, "message_max")) {
            out->as.hello.message_max = value_read_uint(reader);
        } else if (is_key(key, "heartbeat_ms")) {
            out->as.hello.heartbeat_ms = value_read_uint(reader);
        } else if (is_key(key, "publisher")) {
            out->as.hello.publisher = value_read_str(reader);
        } else if (is_key(key, "publish_with")) {
            out->as.hello.publish_with = value_read_bool(reader);
        } else if (is_key(key, "hold")) {
            out->as.hello.hold = value_read_bool(reader);
        } else if (is_key(key, "records_max")) {
            out->as.hello.records_max = value_read_uint(reader);
        } else if (is_key(key, "depth_max")) {
            out->as.hello.depth_max = value_read_uint(reader);
        } else {
            (void)value_read_any(reader);
        }
    }
}

static void read_ping(struct value_reader *reader, struct frame *out) { out->as.ping.n = value_read_uint(reader); }

static void read_pong(struct value_reader *reader, struct frame *out) { out->as.pong.n = value_read_uint(reader); }

static void read_credit(struct value_reader *reader, struct frame *out)
{
    out->as.credit.total = value_read_uint(reader);
}

static void read_close(struct value_reader *reader, struct frame *out)
{
    out->as.close.code = value_read_str(reader);
    out->as.close.message = value_read_str(reader);
}

static void read_alias_frame(struct value_reader *reader, struct frame *out)
{
    out->as.alias.alias = read_alias(reader);
    out->as.alias.topic = value_read_str(reader);
}

/* True when the next value is an integer that is not negative: the alias of a PUBLISH, where else its topic stands. */
static bool is_uint_next(const struct value_reader *reader)
{
    struct value_reader probe = *reader;
    /* A short text, as mostly. */
    if (reader->rest.size > 0 && (reader->rest.data[0] & 0xe0) == 0xa0)
        return false;
    (void)value_read_uint(&probe);
    return probe.error == WEIR_OK;
}

static void read_publish_target(struct value_reader *reader, struct frame *out)
{
    if (is_uint_next(reader)) {
        out->as.publish.has_alias = true;
        out->as.publish.alias = read_alias(reader);
    } else {
        out->as.publish.topic = value_read_str(reader);
    }
    out->as.publish.number = value_read_uint(reader);
    uint64_t level = value_read_uint(reader);
    out->as.publish.ack = level <= ACK_DURABLE ? (enum ack_level)level : ACK_NONE;
    if (level > ACK_DURABLE)
        fail(reader);
}

static void read_publish_items(struct value_reader *reader, struct frame *out)
{
    out->as.publish.count = read_items(reader, &out->as.publish.items);
    if (out->as.publish.count == 0)
        fail(reader);
    check_range(reader, out->as.publish.number, out->as.publish.count);
}

static void read_publish(struct value_reader *reader, struct frame *out)
{
    read_publish_target(reader, out);
    read_publish_items(reader, out);
}

static void read_publish_with(struct value_reader *reader, struct frame *out)
{
    struct publish_with *with = &out->as.publish.with;
    struct view key;
    bool is_absent = false;
    read_publish_target(reader, out);
    uint32_t pairs = value_read_map(reader);
    while (option_next(reader, &pairs, &key)) {
        if (is_key(key, "if_seq")) {
            with->if_seq = value_read_uint(reader);
            with->has_if_seq = true;
        } else if (is_key(key, "if_absent")) {
            is_absent = value_read_bool(reader);
        } else if (is_key(key, "ttl_ms")) {
            with->ttl_ms = value_read_uint(reader);
        } else if (is_key(key, "bind")) {
            with->bind = value_read_bool(reader);
        } else {
            (void)value_read_any(reader);
        }
    }
    if (is_absent && with->has_if_seq && with->if_seq != 0)
        fail(reader); /* one of them could never hold */
    with->has_if_seq = with->has_if_seq || is_absent;
    read_publish_items(reader, out);
}

static void read_cursor(struct value_reader *reader, struct cursor *out)
{
    if (value_read_array(reader) != 3)
        fail(reader);
    out->topic = value_read_str(reader);
    out->epoch = value_read_uint(reader);
    out->seq = value_read_uint(reader);
}

static void read_cursors(struct value_reader *reader, struct frame *out)
{
    uint32_t count = value_read_array(reader);
    const uint8_t *start = reader->rest.data;
    for (uint32_t index = 0; index < count && reader->error == WEIR_OK; index++) {
        struct cursor cursor;
        read_cursor(reader, &cursor);
    }
    out->as.subscribe.cursor_count = count;
    out->as.subscribe.cursors = view_of(start, (size_t)(reader->rest.data - start));
}

static void read_policy(struct value_reader *reader, struct frame *out)
{
    struct view name = value_read_str(reader);
    if (reader->error == WEIR_OK && policy_find(name, &out->as.subscribe.policy) != WEIR_OK)
        out->as.subscribe.policy = POLICY_UNKNOWN;
}

static void read_subscribe(struct value_reader *reader, struct frame *out)
{
    struct view key;
    out->as.subscribe.snapshot = true;
    out->as.subscribe.updates = true;
    out->as.subscribe.sub = read_uint32(reader);
    out->as.subscribe.pattern = value_read_str(reader);
    uint32_t pairs = value_read_map(reader);
    while (option_next(reader, &pairs, &key)) {
        if (is_key(key, "policy"))
            read_policy(reader, out);
        else if (is_key(key, "snapshot"))
            out->as.subscribe.snapshot = value_read_bool(reader);
        else if (is_key(key, "updates"))
            out->as.subscribe.updates = value_read_bool(reader);
        else if (is_key(key, "outbox"))
            out->as.subscribe.outbox = value_read_uint(reader);
        else if (is_key(key, "interval_ms"))
            out->as.subscribe.interval_ms = value_read_uint(reader);
        else if (is_key(key, "block_ms"))
            out->as.subscribe.block_ms = value_read_uint(reader);
        else if (is_key(key, "key"))
            out->as.subscribe.key = value_read_key(reader);
        else if (is_key(key, "prefix"))
            out->as.subscribe.prefix = value_read_key(reader);
        else if (is_key(key, "cursors"))
            read_cursors(reader, out);
        else
            (void)value_read_any(reader);
    }
}

static void read_unsubscribe(struct value_reader *reader, struct frame *out)
{
    out->as.unsubscribe.sub = read_uint32(reader);
}

/* A whole map, as bytes. */
static struct view read_map_any(struct value_reader *reader)
{
    struct value_reader probe = *reader;
    (void)value_read_map(&probe);
    if (probe.error != WEIR_OK)
        fail(reader);
    return value_read_any(reader);
}

static void read_request(struct value_reader *reader, struct frame *out)
{
    out->as.request.id = value_read_uint(reader);
    out->as.request.verb = value_read_str(reader);
    out->as.request.args = read_map_any(reader);
}

static void read_hold(struct value_reader *reader, struct frame *out) { out->as.hold.on = value_read_bool(reader); }

static void read_ack(struct value_reader *reader, struct frame *out)
{
    out->as.ack.number = value_read_uint(reader);
    out->as.ack.count = read_uint32(reader);
    out->as.ack.epoch = value_read_uint(reader);
    out->as.ack.seq = value_read_uint(reader);
    check_range(reader, out->as.ack.number, out->as.ack.count);
    check_range(reader, out->as.ack.seq, out->as.ack.count);
}

static void read_refused(struct value_reader *reader, struct frame *out)
{
    struct view key;
    out->as.refused.number = value_read_uint(reader);
    out->as.refused.count = read_uint32(reader);
    out->as.refused.code = value_read_str(reader);
    out->as.refused.message = value_read_str(reader);
    check_range(reader, out->as.refused.number, out->as.refused.count);
    uint32_t pairs = value_read_map(reader);
    while (option_next(reader, &pairs, &key)) {
        if (is_key(key, "topic"))
            out->as.refused.topic = value_read_str(reader);
        else if (is_key(key, "cause"))
            out->as.refused.cause = value_read_str(reader);
        else if (is_key(key, "retry_ms"))
            out->as.refused.retry_ms = value_read_uint(reader);
        else if (is_key(key, "seq"))
            out->as.refused.seq = value_read_uint(reader);
        else
            (void)value_read_any(reader);
    }
}

static void read_subscribed(struct value_reader *reader, struct frame *out)
{
    out->as.subscribed.sub = read_uint32(reader);
    out->as.subscribed.topics = value_read_uint(reader);
}

static void read_unsubscribed(struct value_reader *reader, struct frame *out)
{
    out->as.unsubscribed.sub = read_uint32(reader);
    out->as.unsubscribed.code = value_read_str(reader);
    out->as.unsubscribed.message = value_read_str(reader);
}

static void read_reply(struct value_reader *reader, struct frame *out)
{
    out->as.reply.id = value_read_uint(reader);
    struct view word = value_read_str(reader);
    out->as.reply.ok = is_key(word, "ok");
    if (!out->as.reply.ok && !is_key(word, "error"))
        fail(reader);
    out->as.reply.result = read_map_any(reader);
}

static void read_begin(struct value_reader *reader, struct frame *out)
{
    struct view key;
    out->as.begin.sub = read_uint32(reader);
    out->as.begin.feed = read_uint32(reader);
    out->as.begin.topic = value_read_str(reader);
    out->as.begin.kind = value_read_str(reader);
    out->as.begin.epoch = value_read_uint(reader);
    out->as.begin.seq = value_read_uint(reader);
    uint32_t pairs = value_read_map(reader);
    while (option_next(reader, &pairs, &key)) {
        if (is_key(key, "resumed"))
            out->as.begin.resumed = value_read_bool(reader);
        else if (is_key(key, "delta"))
            out->as.begin.delta = value_read_bool(reader);
        else if (is_key(key, "cause"))
            out->as.begin.cause = value_read_str(reader);
        else
            (void)value_read_any(reader);
    }
}

static void read_entries(struct value_reader *reader, struct frame *out)
{
    out->as.entries.feed = read_uint32(reader);
    out->as.entries.count = read_items(reader, &out->as.entries.items);
}

static void read_end(struct value_reader *reader, struct frame *out)
{
    struct view key;
    out->as.end.feed = read_uint32(reader);
    out->as.end.epoch = value_read_uint(reader);
    out->as.end.seq = value_read_uint(reader);
    uint32_t pairs = value_read_map(reader);
    while (option_next(reader, &pairs, &key)) {
        if (is_key(key, "delta"))
            out->as.end.delta = value_read_bool(reader);
        else
            (void)value_read_any(reader);
    }
}

static void read_updates(struct value_reader *reader, struct frame *out)
{
    out->as.updates.feed = read_uint32(reader);
    out->as.updates.seq = value_read_uint(reader);
    out->as.updates.count = read_items(reader, &out->as.updates.items);
    check_range(reader, out->as.updates.seq, out->as.updates.count);
}

/* GAP and CONFLATED have one form; their members of the union are the same. */
static void read_gap(struct value_reader *reader, struct frame *out)
{
    out->as.gap.feed = read_uint32(reader);
    out->as.gap.from = value_read_uint(reader);
    out->as.gap.to = value_read_uint(reader);
    out->as.gap.cause = value_read_str(reader);
    if (out->as.gap.from > out->as.gap.to)
        fail(reader);
}

static void read_reset(struct value_reader *reader, struct frame *out)
{
    out->as.reset.feed = read_uint32(reader);
    out->as.reset.epoch = value_read_uint(reader);
    out->as.reset.cause = value_read_str(reader);
}

static void read_idle(struct value_reader *reader, struct frame *out)
{
    out->as.idle.feed = read_uint32(reader);
    out->as.idle.seq = value_read_uint(reader);
}

/* STALE and ENDED have one form, too. */
static void read_stale(struct value_reader *reader, struct frame *out)
{
    out->as.stale.feed = read_uint32(reader);
    out->as.stale.cause = value_read_str(reader);
}

static void read_live(struct value_reader *reader, struct frame *out) { out->as.live.feed = read_uint32(reader); }

/* What each op's frame must look like. The form is what a peer is told that sent another. */
struct shape {
    uint32_t count; /* elements, the op included; 0: no such op */
    void (*read)(struct value_reader *reader, struct frame *out);
    const char *form;
};

static const struct shape shapes[] = {
    [FRAME_HELLO] = {3, read_hello,
                     "HELLO is [0, version, {client|server?, credit?, message_max?, heartbeat_ms?, publisher?, ...}]"},
    [FRAME_PING] = {2, read_ping, "PING is [1, n]"},
    [FRAME_PONG] = {2, read_pong, "PONG is [2, n]"},
    [FRAME_CREDIT] = {2, read_credit, "CREDIT is [3, total]"},
    [FRAME_CLOSE] = {3, read_close, "CLOSE is [4, code, message]"},
    [FRAME_ALIAS] = {3, read_alias_frame, "ALIAS is [8, alias below 65536, topic]"},
    [FRAME_PUBLISH] = {5, read_publish, "PUBLISH is [9, alias|topic, number, ack 0..3, [key|nil, value, ...]]"},
    [FRAME_SUBSCRIBE] = {4, read_subscribe,
                         "SUBSCRIBE is [10, sub, pattern, {policy?, snapshot?, updates?, outbox?, interval_ms?, "
                         "block_ms?, key?, prefix?, cursors?}]"},
    [FRAME_UNSUBSCRIBE] = {2, read_unsubscribe, "UNSUBSCRIBE is [11, sub]"},
    [FRAME_REQUEST] = {4, read_request, "REQUEST is [12, id, verb, {args}]"},
    [FRAME_PUBLISH_WITH] =
        {6, read_publish_with,
         "PUBLISH_WITH is [13, alias|topic, number, ack 0..3, {if_seq? or if_absent?, ttl_ms?, bind?}, "
         "[key|nil, value, ...]]"},
    [FRAME_HOLD] = {2, read_hold, "HOLD is [14, true|false]"},
    [FRAME_ACK] = {5, read_ack, "ACK is [16, number, count, epoch, seq]"},
    [FRAME_REFUSED] = {6, read_refused,
                       "REFUSED is [17, number, count, code, message, {topic?, cause?, retry_ms?, seq?}]"},
    [FRAME_SUBSCRIBED] = {3, read_subscribed, "SUBSCRIBED is [18, sub, topics]"},
    [FRAME_UNSUBSCRIBED] = {4, read_unsubscribed, "UNSUBSCRIBED is [19, sub, code, message]"},
    [FRAME_REPLY] = {4, read_reply, "REPLY is [20, id, \"ok\"|\"error\", {...}]"},
    [FRAME_BEGIN] = {8, read_begin, "BEGIN is [21, sub, feed, topic, kind, epoch, seq, {resumed?, delta?, cause?}]"},
    [FRAME_ENTRIES] = {3, read_entries, "ENTRIES is [22, feed, [key|nil, value, ...]]"},
    [FRAME_END] = {5, read_end, "END is [23, feed, epoch, seq, {delta?}]"},
    [FRAME_UPDATES] = {4, read_updates, "UPDATES is [24, feed, seq, [key|nil, value, ...]]"},
    [FRAME_GAP] = {5, read_gap, "GAP is [25, feed, from, to, cause]"},
    [FRAME_CONFLATED] = {5, read_gap, "CONFLATED is [26, feed, from, to, cause]"},
    [FRAME_RESET] = {4, read_reset, "RESET is [27, feed, epoch, cause]"},
    [FRAME_IDLE] = {3, read_idle, "IDLE is [28, feed, seq]"},
    [FRAME_STALE] = {3, read_stale, "STALE is [29, feed, cause]"},
    [FRAME_LIVE] = {2, read_live, "LIVE is [30, feed]"},
    [FRAME_ENDED] = {3, read_stale, "ENDED is [31, feed, code]"},
};

static enum weir_error refuse(const char **reason, const char *sentence)
{
    if (reason != NULL)
        *reason = sentence;
    return WEIR_BAD_REQUEST;
}

enum weir_error frame_read(struct view body, unsigned depth_max, struct frame *out, const char **reason)
{
    struct value_reader reader;
    value_reader_init(&reader, body, depth_max + VALUE_ENVELOPE_DEPTH);
    uint32_t count = value_read_array(&reader);
    uint64_t op = value_read_uint(&reader);
    if (reader.error != WEIR_OK)
        return refuse(reason, "a frame is an array that starts with an op");
    if (op >= COUNT_OF(shapes) || shapes[op].count == 0)
        return refuse(reason, "there is no such op");
    const struct shape *shape = &shapes[op];
    if (count != shape->count)
        return refuse(reason, shape->form);
    *out = (struct frame){.op = (enum frame_op)op};
    shape->read(&reader, out);
    if (reader.error != WEIR_OK)
        return refuse(reason, shape->form);
    if (!value_reader_at_end(&reader))
        return refuse(reason, "bytes follow the frame");
    return WEIR_OK;
}

enum weir_error cursors_next(struct view *cursors, struct cursor *out)
{
    if (cursors->size == 0)
        return WEIR_AGAIN;
    struct value_reader reader;
    value_reader_init(&reader, *cursors, 0);
    read_cursor(&reader, out);
    if (reader.error != WEIR_OK)
        return reader.error;
    *cursors = reader.rest;
    return WEIR_OK;
}
