/* SUB peers: every update of every topic that is not the broker's own, as one message each: topic, 0x00, [seq, key|nil,
 * value]. The peer's socket filters. Best effort: topics are never held back; what a slow peer leaves unread beyond its
 * outbox is dropped and counted. In the connection's turns. */
#include "actors/base/assert.h"
#include "broker/gateway/connection.h"
#include "broker/gateway/follows.h"

enum {
    FEED_SUB = 1,
    FEED_CREDIT = 128 * 1024,             /* given back as soon as bytes come, whatever the peer does */
    MESSAGE_OVERHEAD_MAX = 9 + 1 + 1 + 9, /* SP prefix, 0x00, array, seq */
};

struct feed_state {
    struct follows follows;
};

static enum weir_error feed_open(struct connection *connection)
{
    static const char pattern[] = "#";
    struct directory_subscribe *subscribe;
    weir_msg block;
    enum weir_error error = arena_alloc(connection->arena, sizeof *subscribe + 1, connection->budget, &block);
    if (error)
        return error;
    subscribe = arena_data(connection->arena, block);
    *subscribe = (struct directory_subscribe){.sub = FEED_SUB,
                                              .policy = POLICY_RESYNC,
                                              .snapshot = false,
                                              .updates = true,
                                              .credit = FEED_CREDIT,
                                              .pattern_size = sizeof pattern - 1};
    memcpy(subscribe->bytes, pattern, sizeof pattern - 1);
    connection_order(connection, &(struct message){.tag = DIRECTORY_SUBSCRIBE, .hold = {block}});
    return WEIR_OK;
}

static enum weir_error feed_body(struct connection *connection, struct view body)
{
    (void)body;
    connection_refuse(connection, REFUSAL_MALFORMED, WEIR_PROTOCOL, "a SUB peer has nothing to say");
    return WEIR_PROTOCOL;
}

static void feed_dropped(struct connection *connection, uint64_t count)
{
    counter_add(&connection->counters.dropped, count);
}

static void feed_begin(struct connection *connection, struct message *message)
{
    struct feed_state *state = connection->state;
    const struct topic_begin *begin = arena_data(connection->arena, message->hold[0]);
    struct followed *feed = follows_ensure(connection, &state->follows, message->detail);
    if (feed == NULL) {
        connection_starve(connection, "there is no memory to follow a topic");
        return;
    }
    if (msg_is_none(feed->begin))
        followed_begin(&state->follows, feed, begin->credit);
    arena_drop(connection->arena, feed->begin);
    feed->begin = message_take(message, 0);
    atomic_store_explicit(&connection->counters.feeds, state->follows.count, memory_order_relaxed);
}

static void feed_updates(struct connection *connection, struct message *message)
{
    struct feed_state *state = connection->state;
    struct followed *feed = follows_find(&state->follows, message->detail);
    struct topic_run run = topic_run_read(message);
    if (feed == NULL)
        return;
    size_t size = run.pairs.size + run.value.size;
    followed_rendered(connection, &state->follows, feed, message->from, size, FEED_CREDIT);
    if (message->tag == TOPIC_ENTRIES)
        return;
    if (connection->output.data_size + size > connection->config->outbox_bytes && connection->output.data_size > 0) {
        feed_dropped(connection, run.count);
        return;
    }
    if (queue_push(connection, &connection->output.data, message) != WEIR_OK) {
        feed_dropped(connection, run.count);
        return;
    }
    message->hold[0] = message->hold[1] = WEIR_MSG_NONE;
    connection->output.data_size += size;
}

/* A SUB peer cannot be told what it misses; cut, it knows, and dials again. */
static void feed_short(struct connection *connection, enum weir_error error)
{
    connection_refuse(connection, REFUSAL_QUOTA, error, follow_refusal_text(error));
}

static void feed_ended(struct connection *connection, const struct message *message)
{
    struct feed_state *state = connection->state;
    struct followed *feed = follows_find(&state->follows, message->detail);
    if (feed != NULL) {
        arena_drop(connection->arena, feed->begin);
        follows_remove(connection, &state->follows, feed);
    } else if (message->word[0] == WEIR_BUSY) { /* its topic had no memory for it */
        feed_short(connection, WEIR_BUSY);
    }
    atomic_store_explicit(&connection->counters.feeds, state->follows.count, memory_order_relaxed);
}

static void feed_message(struct connection *connection, struct message *message)
{
    switch (message->tag) {
    case TOPIC_BEGIN: feed_begin(connection, message); return;
    case TOPIC_ENTRIES: /* of a resync: this feed carries no state */
    case TOPIC_UPDATES: feed_updates(connection, message); return;
    case TOPIC_GAP: feed_dropped(connection, message->word[1] - message->word[0] + 1); return;
    case TOPIC_ENDED: feed_ended(connection, message); return;
    case DIRECTORY_SUBSCRIBED:
    case DIRECTORY_UNSUBSCRIBED: /* a new topic could not be followed */
        if (message->word[2] != WEIR_OK)
            feed_short(connection, (enum weir_error)message->word[2]);
        return;
    default: return;
    }
}

/* Writes the message of one pair; false when the gather has no room for it. value: where it is not behind the key. */
static bool feed_write(struct gather *gather, struct view name, uint64_t seq, struct view pair, struct view value,
                       const weir_msg holds[2])
{
    struct connection *connection = gather->connection;
    bool is_pair_copied = pair.size < OUTPUT_REFERENCE_MIN, is_value_copied = value.size < OUTPUT_REFERENCE_MIN;
    size_t copied =
        MESSAGE_OVERHEAD_MAX + name.size + (is_pair_copied ? pair.size : 0) + (is_value_copied ? value.size : 0);
    if (!gather_has_room(gather, copied, !is_pair_copied + !is_value_copied))
        return false;
    uint8_t head[MESSAGE_OVERHEAD_MAX];
    struct value_writer writer;
    value_writer_init(&writer, head, sizeof head);
    value_write_array(&writer, 3);
    value_write_uint(&writer, seq);
    uint8_t prefix[SP_PREFIX_SIZE_MAX];
    size_t body_size = name.size + 1 + writer.size + pair.size + value.size;
    sp_prefix_write(prefix, connection->is_ipc, body_size);
    gather_copy(gather, prefix, sp_prefix_size(connection->is_ipc));
    gather_copy(gather, name.data, name.size);
    gather_copy(gather, "", 1);
    gather_copy(gather, head, writer.size);
    const struct view parts[2] = {pair, value};
    for (int i = 0; i < 2; i++) {
        if (parts[i].size < OUTPUT_REFERENCE_MIN) {
            gather_copy(gather, parts[i].data, parts[i].size);
        } else {
            enum weir_error error = arena_hold(connection->arena, holds[i]);
            ENSURE(error == WEIR_OK);
            gather_reference(gather, holds[i], parts[i].data, parts[i].size);
        }
    }
    counter_add(&connection->counters.records_out, 1);
    counter_add(&connection->counters.messages_out, 1);
    return true;
}

/* The item's first pair, and the item without it. */
static struct view item_pair(struct connection *connection, const struct topic_run *run, struct view *value)
{
    struct view items =
        view_of((uint8_t *)arena_data(connection->arena, run->pairs.block) + run->pairs.offset, run->pairs.size);
    *value = view_of(NULL, 0);
    if (!msg_is_none(run->value.block)) {
        *value =
            view_of((uint8_t *)arena_data(connection->arena, run->value.block) + run->value.offset, run->value.size);
        return items;
    }
    struct view pair = items;
    bool has_pair = pair_next(&items, &pair);
    ENSURE(has_pair);
    return pair;
}

static bool feed_render(struct connection *connection, struct gather *gather, struct message *item, bool *done)
{
    struct feed_state *state = connection->state;
    struct followed *feed = follows_find(&state->follows, item->detail);
    struct topic_run run = topic_run_read(item);
    if (feed == NULL) {
        /* Its topic ended: what waits for the peer has no name any more. */
        connection->output.data_size -= run.pairs.size + run.value.size;
        feed_dropped(connection, run.count);
        *done = true;
        return true;
    }
    const struct topic_begin *begin = arena_data(connection->arena, feed->begin);
    struct view value, pair = item_pair(connection, &run, &value);
    if (!feed_write(gather, view_of(begin->name, begin->name_size), run.seq, pair, value, item->hold))
        return false;
    connection->output.data_size -= pair.size + value.size;
    if (run.count <= 1) {
        *done = true;
        return true;
    }
    item->word[0] = TOPIC_WORD(run.pairs.offset + pair.size, run.pairs.size - pair.size);
    item->word[1] = run.count - 1;
    item->word[2] = run.seq + 1;
    return true;
}

static void feed_close(struct connection *connection)
{
    struct feed_state *state = connection->state;
    for (uint32_t i = 0; i < state->follows.capacity; i++)
        arena_drop(connection->arena, state->follows.places[i].begin);
    follows_fini(connection, &state->follows);
    connection_order(connection, &(struct message){.tag = DIRECTORY_CLOSE});
}

const struct connection_ops feed_ops = {
    .protocol = "sub",
    .state_size = sizeof(struct feed_state),
    .open = feed_open,
    .on_body = feed_body,
    .on_message = feed_message,
    .render = feed_render,
    .close = feed_close,
};
