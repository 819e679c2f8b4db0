/* Feeds' frames to the socket: what topics sent, in their order, under the client's credit. Large runs go by reference
 * to the topic's own pages. In the connection's turns. */
#include "actors/base/assert.h"
#include "broker/session/state.h"

enum {
    FEED_FRAME_MAX = 640, /* BEGIN: a name of 255 bytes and some words */
    DATA_HEAD_MAX = 32,   /* op, feed, seq, the items' header */
};

/* ------------------------------------------------------------------------------------------ data frames */

/* Takes as many pairs off the front of items as fit size_max, at least one. */
static uint32_t run_cut(struct view items, size_t size_max, size_t *size)
{
    struct view rest = items, pair;
    uint32_t count = 0;
    *size = 0;
    while (pair_next(&rest, &pair)) {
        if (count > 0 && *size + pair.size > size_max)
            break;
        *size += pair.size;
        count++;
    }
    ENSURE(count > 0);
    return count;
}

static size_t data_head(uint8_t *out, const struct message *item, uint64_t seq, uint32_t count)
{
    struct frame frame = {.op = item->tag == TOPIC_UPDATES ? FRAME_UPDATES : FRAME_ENTRIES};
    if (frame.op == FRAME_UPDATES) {
        frame.as.updates.feed = item->detail;
        frame.as.updates.seq = seq;
        frame.as.updates.count = count;
    } else {
        frame.as.entries.feed = item->detail;
        frame.as.entries.count = count;
    }
    struct value_writer writer;
    value_writer_init(&writer, out, DATA_HEAD_MAX);
    frame_head_write(&writer, &frame);
    ENSURE(!writer.is_full);
    return writer.size;
}

static void part_write(struct gather *gather, weir_msg block, const uint8_t *data, size_t size)
{
    if (size < OUTPUT_REFERENCE_MIN) {
        gather_copy(gather, data, size);
        return;
    }
    enum weir_error error = arena_hold(gather->connection->arena, block);
    ENSURE(error == WEIR_OK);
    gather_reference(gather, block, data, size);
}

/* How many bytes of items one frame may have now; 0: no credit. */
static size_t data_allowance(const struct session *session)
{
    if (session->out_sent >= session->out_granted)
        return 0;
    uint64_t credit = session->out_granted - session->out_sent;
    size_t max = session->out_max - DATA_HEAD_MAX;
    return credit < max ? (size_t)credit : max;
}

static bool render_run(struct connection *connection, struct followed *followed, struct gather *gather,
                       struct message *item, bool *done)
{
    struct session *session = session_of(connection);
    struct topic_run run = topic_run_read(item);
    size_t allowance = data_allowance(session);
    if (allowance == 0)
        return false;
    if (item->tag == TOPIC_ENTRIES && allowance > OUTPUT_BULK_PIECE)
        allowance = OUTPUT_BULK_PIECE;
    const uint8_t *data = (uint8_t *)arena_data(connection->arena, run.pairs.block) + run.pairs.offset;
    size_t size = run.pairs.size;
    uint32_t count = run.count;
    if (size > allowance && count > 1)
        count = run_cut(view_of(data, size), allowance, &size);
    const uint8_t *value =
        run.value.size == 0 ? NULL : (uint8_t *)arena_data(connection->arena, run.value.block) + run.value.offset;
    bool is_copied = size < OUTPUT_REFERENCE_MIN, is_value_copied = run.value.size < OUTPUT_REFERENCE_MIN;
    size_t copied =
        SP_PREFIX_SIZE_MAX + DATA_HEAD_MAX + (is_copied ? size : 0) + (is_value_copied ? run.value.size : 0);
    if (!gather_has_room(gather, copied, !is_copied + !is_value_copied))
        return false;
    uint8_t head[DATA_HEAD_MAX], prefix[SP_PREFIX_SIZE_MAX];
    size_t head_size = data_head(head, item, run.seq, count), body_size = head_size + size + run.value.size;
    sp_prefix_write(prefix, connection->is_ipc, body_size);
    gather_copy(gather, prefix, sp_prefix_size(connection->is_ipc));
    gather_copy(gather, head, head_size);
    part_write(gather, run.pairs.block, data, size);
    if (value != NULL)
        part_write(gather, run.value.block, value, run.value.size);
    session->out_sent += body_size;
    connection->output.data_size -= size + run.value.size;
    counter_add(&connection->counters.records_out, count);
    counter_add(&connection->counters.messages_out, 1);
    const struct subscription *subscription = subscription_find(session, followed->owner);
    ENSURE(subscription != NULL); /* its feeds are forgotten with it */
    size_t window = follow_window_lent(&session->follows, connection->config->outbox_bytes);
    size_t window_max = subscription_window_max(subscription);
    followed_rendered(connection, &session->follows, followed, item->from, size + run.value.size,
                      window < window_max ? window : window_max);
    *done = count == run.count;
    if (!*done) {
        item->word[0] = TOPIC_WORD(run.pairs.offset + size, run.pairs.size - size);
        item->word[1] = run.count - count;
        item->word[2] = run.seq + count;
    }
    return true;
}

/* ----------------------------------------------------------------------------------------- other frames */

static struct view cause_view(uint64_t cause)
{
    return cause == CAUSE_NONE ? view_of(NULL, 0) : view_text(topic_cause_name((enum topic_cause)cause));
}

static void frame_of_begin(struct connection *connection, const struct message *item, struct frame *frame)
{
    struct session *session = session_of(connection);
    const struct topic_begin *begin = arena_data(connection->arena, item->hold[0]);
    const struct subscription *subscription = subscription_find(session, begin->sub);
    ENSURE(subscription != NULL); /* its feeds are forgotten with it */
    frame->op = FRAME_BEGIN;
    frame->as.begin.sub = subscription->sub;
    frame->as.begin.feed = item->detail;
    frame->as.begin.topic = view_of(begin->name, begin->name_size);
    frame->as.begin.kind = view_text(topic_kind_name(begin->kind));
    frame->as.begin.epoch = begin->epoch;
    frame->as.begin.seq = begin->seq;
    frame->as.begin.resumed = begin->resumed;
    frame->as.begin.delta = begin->delta;
    frame->as.begin.cause = cause_view(begin->cause);
}

static void frame_of(struct connection *connection, const struct message *item, struct frame *frame)
{
    uint32_t feed = item->detail;
    switch (item->tag) {
    case TOPIC_BEGIN: frame_of_begin(connection, item, frame); return;
    case TOPIC_END:
        frame->op = FRAME_END;
        frame->as.end.feed = feed;
        frame->as.end.epoch = item->word[0];
        frame->as.end.seq = item->word[1];
        frame->as.end.delta = (item->word[2] & END_IS_DELTA) != 0;
        return;
    case TOPIC_GAP:
    case TOPIC_CONFLATED:
        frame->op = item->tag == TOPIC_GAP ? FRAME_GAP : FRAME_CONFLATED;
        frame->as.gap.feed = feed;
        frame->as.gap.from = item->word[0];
        frame->as.gap.to = item->word[1];
        frame->as.gap.cause = cause_view(item->word[2]);
        return;
    case TOPIC_RESET:
        frame->op = FRAME_RESET;
        frame->as.reset.feed = feed;
        frame->as.reset.epoch = item->word[0];
        frame->as.reset.cause = cause_view(item->word[2]);
        return;
    case TOPIC_IDLE:
        frame->op = FRAME_IDLE;
        frame->as.idle.feed = feed;
        frame->as.idle.seq = item->word[0];
        return;
    case TOPIC_STALE:
        frame->op = FRAME_STALE;
        frame->as.stale.feed = feed;
        frame->as.stale.cause = cause_view(item->word[2]);
        return;
    case TOPIC_LIVE:
        frame->op = FRAME_LIVE;
        frame->as.live.feed = feed;
        return;
    case TOPIC_ENDED:
        frame->op = FRAME_ENDED;
        frame->as.ended.feed = feed;
        frame->as.ended.cause = view_text(weir_error_code((enum weir_error)item->word[0]));
        return;
    default: UNREACHABLE();
    }
}

static bool render_frame(struct connection *connection, struct gather *gather, const struct message *item)
{
    struct session *session = session_of(connection);
    if (!gather_has_room(gather, SP_PREFIX_SIZE_MAX + FEED_FRAME_MAX, 0))
        return false;
    struct frame frame = {.op = FRAME_END};
    frame_of(connection, item, &frame);
    uint8_t body[FEED_FRAME_MAX], prefix[SP_PREFIX_SIZE_MAX];
    struct value_writer writer;
    value_writer_init(&writer, body, sizeof body);
    frame_write(&writer, &frame);
    ENSURE(!writer.is_full);
    sp_prefix_write(prefix, connection->is_ipc, writer.size);
    gather_copy(gather, prefix, sp_prefix_size(connection->is_ipc));
    gather_copy(gather, body, writer.size);
    counter_add(&connection->counters.messages_out, 1);
    if (item->tag == TOPIC_ENDED) {
        struct followed *followed = follows_find(&session->follows, item->detail);
        struct subscription *subscription = subscription_find(session, followed->owner);
        if (subscription != NULL)
            subscription_feed_ended(subscription, followed->id);
        follows_remove(connection, &session->follows, followed);
        atomic_store_explicit(&connection->counters.feeds, session->follows.count, memory_order_relaxed);
    }
    return true;
}

bool session_render(struct connection *connection, struct gather *gather, struct message *item, bool *done)
{
    struct session *session = session_of(connection);
    *done = true;
    bool is_run = item->tag == TOPIC_ENTRIES || item->tag == TOPIC_UPDATES;
    struct followed *followed = follows_find(&session->follows, item->detail);
    if (followed != NULL && is_run) {
        if (!render_run(connection, followed, gather, item, done))
            return false;
        followed->queued -= *done;
        return true;
    }
    if (followed != NULL) {
        if (!render_frame(connection, gather, item))
            return false;
        followed = follows_find(&session->follows, item->detail); /* ENDED has ended it */
        if (followed != NULL)
            followed->queued--;
        return true;
    }
    /* Unsubscribed meanwhile: dropped. */
    struct topic_run run = topic_run_read(item);
    if (is_run)
        connection->output.data_size -= run.pairs.size + run.value.size;
    return true;
}
