/* Puts session frames together. Called by the broker's sessions and by the client library; any thread. */
#include "clients/wire/frame.h"

#include "actors/base/assert.h"
#include "actors/base/limits.h"

/* The head that every frame has: an array of count elements, the op first. */
static void write_op(struct value_writer *writer, const struct frame *frame, uint32_t count)
{
    value_write_array(writer, count);
    value_write_uint(writer, frame->op);
}

static void write_key(struct value_writer *writer, const char *key) { value_write_str(writer, view_text(key)); }

static void write_raw_option(struct value_writer *writer, const char *key, struct view encoded)
{
    write_key(writer, key);
    value_write_raw(writer, encoded);
}

static void write_uint_option(struct value_writer *writer, const char *key, uint64_t value)
{
    write_key(writer, key);
    value_write_uint(writer, value);
}

static void write_bool_option(struct value_writer *writer, const char *key, bool value)
{
    write_key(writer, key);
    value_write_bool(writer, value);
}

static void write_str_option(struct value_writer *writer, const char *key, struct view value)
{
    write_key(writer, key);
    value_write_str(writer, value);
}

/* An encoded map; size 0 stands for the empty one. */
static void write_map_raw(struct value_writer *writer, struct view encoded)
{
    if (encoded.size > 0)
        value_write_raw(writer, encoded);
    else
        value_write_map(writer, 0);
}

static void write_hello(struct value_writer *writer, const struct frame *frame)
{
    bool has_credit = frame->as.hello.credit != 0;
    bool has_message_max = frame->as.hello.message_max != MESSAGE_SIZE_MAX_DEFAULT;
    bool has_heartbeat = frame->as.hello.heartbeat_ms != 0;
    bool has_publisher = frame->as.hello.publisher.size > 0;
    uint64_t records_max = frame->as.hello.records_max, depth_max = frame->as.hello.depth_max;
    bool has_records_max = records_max != 0 && records_max != RECORDS_PER_MESSAGE_MAX_DEFAULT;
    bool has_depth_max = depth_max != 0 && depth_max != MSGPACK_DEPTH_MAX_DEFAULT;
    write_op(writer, frame, 3);
    value_write_uint(writer, frame->as.hello.version);
    value_write_map(writer, 1u + has_credit + has_message_max + has_heartbeat + has_publisher +
                                frame->as.hello.publish_with + frame->as.hello.hold + has_records_max + has_depth_max);
    write_str_option(writer, frame->as.hello.is_server ? "server" : "client", frame->as.hello.peer);
    if (has_credit)
        write_uint_option(writer, "credit", frame->as.hello.credit);
    if (has_message_max)
        write_uint_option(writer, "message_max", frame->as.hello.message_max);
    if (has_heartbeat)
        write_uint_option(writer, "heartbeat_ms", frame->as.hello.heartbeat_ms);
    if (has_publisher)
        write_str_option(writer, "publisher", frame->as.hello.publisher);
    if (frame->as.hello.publish_with)
        write_bool_option(writer, "publish_with", true);
    if (frame->as.hello.hold)
        write_bool_option(writer, "hold", true);
    if (has_records_max)
        write_uint_option(writer, "records_max", records_max);
    if (has_depth_max)
        write_uint_option(writer, "depth_max", depth_max);
}

static void write_publish_options(struct value_writer *writer, const struct publish_with *with)
{
    value_write_map(writer, (uint32_t)with->has_if_seq + (with->ttl_ms != 0) + with->bind);
    if (with->has_if_seq && with->if_seq == 0)
        write_bool_option(writer, "if_absent", true);
    else if (with->has_if_seq)
        write_uint_option(writer, "if_seq", with->if_seq);
    if (with->ttl_ms != 0)
        write_uint_option(writer, "ttl_ms", with->ttl_ms);
    if (with->bind)
        write_bool_option(writer, "bind", true);
}

static void write_publish_head(struct value_writer *writer, const struct frame *frame)
{
    REQUIRE(frame->as.publish.count <= UINT32_MAX / 2);
    bool has_options = frame->op == FRAME_PUBLISH_WITH;
    write_op(writer, frame, 5u + has_options);
    if (frame->as.publish.has_alias)
        value_write_uint(writer, frame->as.publish.alias);
    else
        value_write_str(writer, frame->as.publish.topic);
    value_write_uint(writer, frame->as.publish.number);
    value_write_uint(writer, frame->as.publish.ack);
    if (has_options)
        write_publish_options(writer, &frame->as.publish.with);
    value_write_array(writer, 2 * frame->as.publish.count);
}

static void write_entries_head(struct value_writer *writer, const struct frame *frame)
{
    REQUIRE(frame->as.entries.count <= UINT32_MAX / 2);
    write_op(writer, frame, 3);
    value_write_uint(writer, frame->as.entries.feed);
    value_write_array(writer, 2 * frame->as.entries.count);
}

static void write_updates_head(struct value_writer *writer, const struct frame *frame)
{
    REQUIRE(frame->as.updates.count <= UINT32_MAX / 2);
    write_op(writer, frame, 4);
    value_write_uint(writer, frame->as.updates.feed);
    value_write_uint(writer, frame->as.updates.seq);
    value_write_array(writer, 2 * frame->as.updates.count);
}

static void write_subscribe(struct value_writer *writer, const struct frame *frame)
{
    bool has_policy = frame->as.subscribe.policy != POLICY_RESYNC;
    bool has_outbox = frame->as.subscribe.outbox != 0;
    bool has_interval = frame->as.subscribe.interval_ms != 0;
    bool has_block = frame->as.subscribe.block_ms != 0;
    bool has_key = frame->as.subscribe.key.size > 0, has_prefix = frame->as.subscribe.prefix.size > 0;
    bool has_cursors = frame->as.subscribe.cursor_count != 0;
    write_op(writer, frame, 4);
    value_write_uint(writer, frame->as.subscribe.sub);
    value_write_str(writer, frame->as.subscribe.pattern);
    value_write_map(writer, (uint32_t)has_policy + !frame->as.subscribe.snapshot + !frame->as.subscribe.updates +
                                has_outbox + has_interval + has_block + has_key + has_prefix + has_cursors);
    if (has_policy)
        write_str_option(writer, "policy", view_text(policy_name(frame->as.subscribe.policy)));
    if (!frame->as.subscribe.snapshot)
        write_bool_option(writer, "snapshot", false);
    if (!frame->as.subscribe.updates)
        write_bool_option(writer, "updates", false);
    if (has_outbox)
        write_uint_option(writer, "outbox", frame->as.subscribe.outbox);
    if (has_interval)
        write_uint_option(writer, "interval_ms", frame->as.subscribe.interval_ms);
    if (has_block)
        write_uint_option(writer, "block_ms", frame->as.subscribe.block_ms);
    if (has_key)
        write_raw_option(writer, "key", frame->as.subscribe.key);
    if (has_prefix)
        write_raw_option(writer, "prefix", frame->as.subscribe.prefix);
    if (has_cursors) {
        write_key(writer, "cursors");
        value_write_array(writer, frame->as.subscribe.cursor_count);
        value_write_raw(writer, frame->as.subscribe.cursors);
    }
}

static void write_refused(struct value_writer *writer, const struct frame *frame)
{
    bool has_topic = frame->as.refused.topic.size > 0;
    bool has_cause = frame->as.refused.cause.size > 0;
    bool has_retry = frame->as.refused.retry_ms != 0;
    bool has_seq = frame->as.refused.seq != 0;
    write_op(writer, frame, 6);
    value_write_uint(writer, frame->as.refused.number);
    value_write_uint(writer, frame->as.refused.count);
    value_write_str(writer, frame->as.refused.code);
    value_write_str(writer, frame->as.refused.message);
    value_write_map(writer, (uint32_t)has_topic + has_cause + has_retry + has_seq);
    if (has_topic)
        write_str_option(writer, "topic", frame->as.refused.topic);
    if (has_cause)
        write_str_option(writer, "cause", frame->as.refused.cause);
    if (has_retry)
        write_uint_option(writer, "retry_ms", frame->as.refused.retry_ms);
    if (has_seq)
        write_uint_option(writer, "seq", frame->as.refused.seq);
}

static void write_begin(struct value_writer *writer, const struct frame *frame)
{
    bool has_cause = frame->as.begin.cause.size > 0;
    write_op(writer, frame, 8);
    value_write_uint(writer, frame->as.begin.sub);
    value_write_uint(writer, frame->as.begin.feed);
    value_write_str(writer, frame->as.begin.topic);
    value_write_str(writer, frame->as.begin.kind);
    value_write_uint(writer, frame->as.begin.epoch);
    value_write_uint(writer, frame->as.begin.seq);
    value_write_map(writer, (uint32_t)frame->as.begin.resumed + frame->as.begin.delta + has_cause);
    if (frame->as.begin.resumed)
        write_bool_option(writer, "resumed", true);
    if (frame->as.begin.delta)
        write_bool_option(writer, "delta", true);
    if (has_cause)
        write_str_option(writer, "cause", frame->as.begin.cause);
}

static void write_end(struct value_writer *writer, const struct frame *frame)
{
    write_op(writer, frame, 5);
    value_write_uint(writer, frame->as.end.feed);
    value_write_uint(writer, frame->as.end.epoch);
    value_write_uint(writer, frame->as.end.seq);
    value_write_map(writer, frame->as.end.delta);
    if (frame->as.end.delta)
        write_bool_option(writer, "delta", true);
}

/* [op, number] */
static void write_one(struct value_writer *writer, const struct frame *frame, uint64_t number)
{
    write_op(writer, frame, 2);
    value_write_uint(writer, number);
}

/* [op, number, number] */
static void write_two(struct value_writer *writer, const struct frame *frame, uint64_t first, uint64_t second)
{
    write_op(writer, frame, 3);
    value_write_uint(writer, first);
    value_write_uint(writer, second);
}

/* [op, number, text] */
static void write_text(struct value_writer *writer, const struct frame *frame, uint64_t number, struct view text)
{
    write_op(writer, frame, 3);
    value_write_uint(writer, number);
    value_write_str(writer, text);
}

static void write_close(struct value_writer *writer, const struct frame *frame)
{
    write_op(writer, frame, 3);
    value_write_str(writer, frame->as.close.code);
    value_write_str(writer, frame->as.close.message);
}

static void write_request(struct value_writer *writer, const struct frame *frame)
{
    write_op(writer, frame, 4);
    value_write_uint(writer, frame->as.request.id);
    value_write_str(writer, frame->as.request.verb);
    write_map_raw(writer, frame->as.request.args);
}

static void write_hold(struct value_writer *writer, const struct frame *frame)
{
    write_op(writer, frame, 2);
    value_write_bool(writer, frame->as.hold.on);
}

static void write_ack(struct value_writer *writer, const struct frame *frame)
{
    write_op(writer, frame, 5);
    value_write_uint(writer, frame->as.ack.number);
    value_write_uint(writer, frame->as.ack.count);
    value_write_uint(writer, frame->as.ack.epoch);
    value_write_uint(writer, frame->as.ack.seq);
}

static void write_unsubscribed(struct value_writer *writer, const struct frame *frame)
{
    write_op(writer, frame, 4);
    value_write_uint(writer, frame->as.unsubscribed.sub);
    value_write_str(writer, frame->as.unsubscribed.code);
    value_write_str(writer, frame->as.unsubscribed.message);
}

static void write_reply(struct value_writer *writer, const struct frame *frame)
{
    write_op(writer, frame, 4);
    value_write_uint(writer, frame->as.reply.id);
    write_key(writer, frame->as.reply.ok ? "ok" : "error");
    write_map_raw(writer, frame->as.reply.result);
}

static void write_gap(struct value_writer *writer, const struct frame *frame)
{
    write_op(writer, frame, 5);
    value_write_uint(writer, frame->as.gap.feed);
    value_write_uint(writer, frame->as.gap.from);
    value_write_uint(writer, frame->as.gap.to);
    value_write_str(writer, frame->as.gap.cause);
}

static void write_reset(struct value_writer *writer, const struct frame *frame)
{
    write_op(writer, frame, 4);
    value_write_uint(writer, frame->as.reset.feed);
    value_write_uint(writer, frame->as.reset.epoch);
    value_write_str(writer, frame->as.reset.cause);
}

void frame_head_write(struct value_writer *writer, const struct frame *frame)
{
    switch (frame->op) {
    case FRAME_PUBLISH:
    case FRAME_PUBLISH_WITH: write_publish_head(writer, frame); break;
    case FRAME_ENTRIES: write_entries_head(writer, frame); break;
    case FRAME_UPDATES: write_updates_head(writer, frame); break;
    default: UNREACHABLE();
    }
}

static void write_data(struct value_writer *writer, const struct frame *frame, struct view items)
{
    frame_head_write(writer, frame);
    value_write_raw(writer, items);
}

void frame_write(struct value_writer *writer, const struct frame *frame)
{
    switch (frame->op) {
    case FRAME_HELLO: write_hello(writer, frame); return;
    case FRAME_PING: write_one(writer, frame, frame->as.ping.n); return;
    case FRAME_PONG: write_one(writer, frame, frame->as.pong.n); return;
    case FRAME_CREDIT: write_one(writer, frame, frame->as.credit.total); return;
    case FRAME_CLOSE: write_close(writer, frame); return;
    case FRAME_ALIAS: write_text(writer, frame, frame->as.alias.alias, frame->as.alias.topic); return;
    case FRAME_PUBLISH:
    case FRAME_PUBLISH_WITH: write_data(writer, frame, frame->as.publish.items); return;
    case FRAME_SUBSCRIBE: write_subscribe(writer, frame); return;
    case FRAME_UNSUBSCRIBE: write_one(writer, frame, frame->as.unsubscribe.sub); return;
    case FRAME_REQUEST: write_request(writer, frame); return;
    case FRAME_HOLD: write_hold(writer, frame); return;
    case FRAME_ACK: write_ack(writer, frame); return;
    case FRAME_REFUSED: write_refused(writer, frame); return;
    case FRAME_SUBSCRIBED: write_two(writer, frame, frame->as.subscribed.sub, frame->as.subscribed.topics); return;
    case FRAME_UNSUBSCRIBED: write_unsubscribed(writer, frame); return;
    case FRAME_REPLY: write_reply(writer, frame); return;
    case FRAME_BEGIN: write_begin(writer, frame); return;
    case FRAME_ENTRIES: write_data(writer, frame, frame->as.entries.items); return;
    case FRAME_END: write_end(writer, frame); return;
    case FRAME_UPDATES: write_data(writer, frame, frame->as.updates.items); return;
    case FRAME_GAP:
    case FRAME_CONFLATED: write_gap(writer, frame); return;
    case FRAME_RESET: write_reset(writer, frame); return;
    case FRAME_IDLE: write_two(writer, frame, frame->as.idle.feed, frame->as.idle.seq); return;
    case FRAME_STALE:
    case FRAME_ENDED: write_text(writer, frame, frame->as.stale.feed, frame->as.stale.cause); return;
    case FRAME_LIVE: write_one(writer, frame, frame->as.live.feed); return;
    }
    UNREACHABLE();
}
