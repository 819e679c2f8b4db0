/* Records: folded one by one, given their seqs, appended to the ring, acknowledged. A batch that cannot go on because a
 * subscriber of policy block must not fall further behind is put into the stash, in the order of arrival, and the
 * mailbox is muted, so that it fills up for those who publish; nothing is taken out of turn. */
#include <time.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "actors/topic/state.h"

#define STASH_MIN 16u

/* Neighbouring records of a batch with the same outcome, told to the publisher in one message. */
struct outcome {
    enum weir_error error;
    uint32_t count;
    uint64_t number, seq;
};

static void outcome_flush(struct turn *turn, const struct topic *topic, const struct message *batch,
                          struct outcome *outcome)
{
    enum ack_level level = TOPIC_ACK_LEVEL(batch->word[2]);
    struct message reply = {.detail = outcome->count, .word = {outcome->number}};
    bool is_wanted = outcome->count > 0 && !actor_is_none(batch->from);
    outcome->count = 0;
    if (outcome->error) {
        reply.tag = TOPIC_NACK;
        reply.word[1] = outcome->error;
        reply.word[2] = 1;
    } else {
        /* Accepted was answered by whoever sent the batch, when the mailbox took it. */
        is_wanted = is_wanted && level == ACK_FOLDED;
        reply.tag = TOPIC_ACK;
        reply.word[1] = topic->epoch;
        reply.word[2] = outcome->seq;
    }
    enum weir_error error = is_wanted ? turn_control(turn, batch->from, &reply) : WEIR_OK;
    /* The publisher has 64,000 unread messages: it is not reading, and its connection will time out. */
    if (error && error != WEIR_STALE)
        log_warning("topic.ack_lost", "topic=%.*s cause=%s", (int)topic->shared->name_size, topic->shared->name,
                    weir_error_code(error));
}

static void outcome_add(struct turn *turn, const struct topic *topic, const struct message *batch,
                        struct outcome *outcome, enum weir_error error)
{
    if (outcome->count > 0 && outcome->error != error)
        outcome_flush(turn, topic, batch, outcome);
    if (outcome->count++ == 0) {
        outcome->error = error;
        outcome->number = TOPIC_NUMBER(batch->word[2]);
        outcome->seq = topic->ring.seq_last;
    }
}

struct record_slice batch_first(struct arena *arena, const struct message *batch)
{
    if (msg_is_none(batch->hold[1]))
        return (struct record_slice){TOPIC_HIGH(batch->word[0]), TOPIC_LOW(batch->word[0]), TOPIC_HIGH(batch->word[1]),
                                     TOPIC_LOW(batch->word[1])};
    const struct record_slice *slices = arena_data(arena, batch->hold[1]);
    REQUIRE((batch->word[0] + 1) * sizeof *slices <= arena_size(arena, batch->hold[1]));
    return slices[batch->word[0]];
}

void batch_advance(struct message *batch)
{
    batch->detail--;
    batch->word[2] = TOPIC_NUMBER_WORD(TOPIC_NUMBER(batch->word[2]) + 1, TOPIC_ACK_LEVEL(batch->word[2]));
    if (!msg_is_none(batch->hold[1]))
        batch->word[0]++;
}

static enum weir_error topic_fold(struct topic *topic, const uint8_t *data, struct record_slice slice, uint32_t now_ms)
{
    struct cell cell;
    struct view key = view_of(data + slice.key_offset, slice.key_size);
    struct view value = view_of(data + slice.value_offset, slice.value_size);
    enum weir_error error = ring_reserve(&topic->ring, key, value, now_ms, &cell);
    if (error)
        return error;
    error = topic->fold.ops->apply(&topic->fold, &cell);
    if (error)
        ring_cancel(&topic->ring);
    else
        ring_commit(&topic->ring, &cell);
    return error;
}

static bool is_refusal(enum weir_error error)
{
    return error == WEIR_BAD_REQUEST || error == WEIR_TOO_BIG || error == WEIR_NO_MEMORY;
}

/* How far records may go before this feed's cursor must move: its outbox, and half the ring, so that what it has not
 * had yet is surely kept. */
static void feed_allowance(const struct topic *topic, const struct feed *feed, uint64_t *seq, uint64_t *weight)
{
    uint64_t half = topic->ring.bytes_max / 2;
    uint64_t allowed = feed->outbox_max < half ? feed->outbox_max : half;
    if (feed->lag_allowed > allowed)
        allowed = feed->lag_allowed < half ? feed->lag_allowed : half;
    *seq = feed->cursor.seq + topic->ring.count_max - 1;
    *weight = topic->ring.weight - ring_lag(&topic->ring, &feed->cursor) + allowed;
}

void topic_limits_update(struct turn *turn, struct topic *topic)
{
    struct feeds *feeds = &topic->feeds;
    uint32_t blocked = FEED_NONE;
    topic->block_seq = topic->block_weight = topic->ring.keep_page = UINT64_MAX;
    for (uint32_t slot = feeds->blockers; slot != FEED_NONE; slot = feeds->table[slot].block_next) {
        const struct feed *feed = &feeds->table[slot];
        bool is_placed = feed->phase == FEED_ENTRIES || feed->phase == FEED_END || feed->phase == FEED_LIVE;
        if (!is_placed || !feed->wants_updates || !ring_has(&topic->ring, &feed->cursor))
            continue;
        uint64_t seq, weight;
        feed_allowance(topic, feed, &seq, &weight);
        if (feed->cursor.seq <= topic->ring.seq_last && (seq <= topic->ring.seq_last || weight <= topic->ring.weight))
            blocked = slot;
        topic->block_seq = seq < topic->block_seq ? seq : topic->block_seq;
        topic->block_weight = weight < topic->block_weight ? weight : topic->block_weight;
        topic->ring.keep_page = feed->cursor.page < topic->ring.keep_page ? feed->cursor.page : topic->ring.keep_page;
    }
    if (blocked == FEED_NONE)
        topic->blocked_since_ns = 0;
    else if (topic->blocked_since_ns == 0)
        topic->blocked_since_ns = turn_now_ns(turn);
    topic->blocked_slot = blocked;
}

static bool is_at_limit(const struct topic *topic)
{
    return topic->ring.seq_last >= topic->block_seq || topic->ring.weight >= topic->block_weight;
}

/* Whether the next record must wait. Feeds that could take something are served first. */
static bool topic_is_blocked(struct turn *turn, struct topic *topic)
{
    if (!is_at_limit(topic))
        return false;
    topic_serve(turn, topic);
    topic_limits_update(turn, topic);
    return topic->blocked_slot != FEED_NONE;
}

static enum weir_error stash_grow(struct topic *topic)
{
    uint32_t capacity = topic->stash_capacity ? topic->stash_capacity * 2 : STASH_MIN;
    weir_msg block;
    enum weir_error error = arena_alloc(topic->arena, capacity * sizeof(struct message), topic->feeds_budget, &block);
    if (error)
        return error;
    struct message *stash = arena_data(topic->arena, block);
    for (uint32_t i = 0; i < topic->stash_count; i++)
        stash[i] = topic->stash[(topic->stash_first + i) & (topic->stash_capacity - 1)];
    arena_drop(topic->arena, topic->stash_block);
    topic->stash_block = block;
    topic->stash = stash;
    topic->stash_capacity = capacity;
    topic->stash_first = 0;
    return WEIR_OK;
}

/* Moves the batch into the stash; at its front when it came from there. The mailbox is muted meanwhile, so the stash
 * holds no more than the mailbox may. */
static enum weir_error stash_push(struct turn *turn, struct topic *topic, struct message *batch, bool is_front)
{
    if (topic->stash_count == topic->stash_capacity) {
        enum weir_error error = stash_grow(topic);
        if (error)
            return error;
    }
    uint32_t mask = topic->stash_capacity - 1;
    if (is_front)
        topic->stash_first = (topic->stash_first - 1) & mask;
    topic->stash[is_front ? topic->stash_first : (topic->stash_first + topic->stash_count) & mask] = *batch;
    batch->hold[0] = batch->hold[1] = WEIR_MSG_NONE;
    topic->stash_count++;
    if (!topic->is_muted) {
        topic->is_muted = true;
        turn_mute(turn, true);
    }
    return WEIR_OK;
}

static void stash_pop(struct topic *topic, struct message *out)
{
    *out = topic->stash[topic->stash_first];
    topic->stash_first = (topic->stash_first + 1) & (topic->stash_capacity - 1);
    topic->stash_count--;
}

static void stash_resume_send(struct turn *turn, struct topic *topic)
{
    struct message message = {.tag = TOPIC_RESUME};
    if (topic->stash_count > 0 && !topic->is_resume_sent)
        topic->is_resume_sent = turn_control(turn, turn_self(turn), &message) == WEIR_OK;
}

void topic_unblock(struct turn *turn, struct topic *topic)
{
    topic_limits_update(turn, topic);
    if (topic->blocked_slot == FEED_NONE)
        stash_resume_send(turn, topic);
    if (topic->stash_count == 0 && topic->is_muted && !topic->is_closing) {
        topic->is_muted = false;
        turn_mute(turn, false);
    }
}

static void batch_refuse(struct turn *turn, struct topic *topic, struct message *batch, enum weir_error error)
{
    struct outcome outcome = {error, batch->detail, TOPIC_NUMBER(batch->word[2]), 0};
    topic->refused += batch->detail;
    outcome_flush(turn, topic, batch, &outcome);
}

void topic_stash_refuse(struct turn *turn, struct topic *topic, enum weir_error error)
{
    struct message batch;
    while (topic->stash_count > 0) {
        stash_pop(topic, &batch);
        batch_refuse(turn, topic, &batch, error);
        for (int i = 0; i < MESSAGE_HOLDS; i++)
            arena_drop(topic->arena, batch.hold[i]);
    }
}

/* Subscribers hear that the topic is in trouble with its second failure on one message, not with the first, which as a
 * rule is over before they could do anything about it. */
static void topic_note_failure(struct turn *turn, struct topic *topic, enum weir_error error)
{
    topic->failures++;
    topic->last_cause = error;
    if (topic->failures < 2 || topic->is_stale_told)
        return;
    topic->is_stale_told = true;
    pthread_mutex_lock(&topic->shared->lock);
    feeds_notify(topic, true);
    pthread_mutex_unlock(&topic->shared->lock);
    topic_serve(turn, topic);
    topic_shared_publish(turn, topic);
}

static void topic_note_success(struct topic *topic)
{
    topic->failures = 0;
    if (!topic->is_stale_told)
        return;
    topic->is_stale_told = false;
    pthread_mutex_lock(&topic->shared->lock);
    feeds_notify(topic, false);
    pthread_mutex_unlock(&topic->shared->lock);
}

/* Serves feeds amid a long turn, so that those who have credit are not overtaken by the ring for want of a turn end. */
static void serve_amid(struct turn *turn, struct topic *topic)
{
    const struct ring *ring = &topic->ring;
    if (ring->seq_last - topic->served_seq > ring->count_max / 4 ||
        ring->weight - topic->served_weight > ring->bytes_max / 4)
        topic_serve(turn, topic);
}

/* Folds what is left of the batch. WEIR_BUSY: it must wait. Anything else: the fold failed at the first record left. */
static enum weir_error batch_fold(struct turn *turn, struct topic *topic, struct message *batch,
                                  struct outcome *outcome)
{
    const uint8_t *data = arena_data(topic->arena, batch->hold[0]);
    uint32_t now_ms = (uint32_t)(turn_now_ns(turn) / NS_PER_MS);
    while (batch->detail > 0) {
        if (topic_is_blocked(turn, topic))
            return WEIR_BUSY;
        enum weir_error error = topic_fold(topic, data, batch_first(topic->arena, batch), now_ms);
        if (error && !is_refusal(error))
            return error;
        if (error)
            topic->refused++;
        else
            topic->published++;
        if (error == WEIR_NO_MEMORY)
            topic->pressure_page = UINT64_MAX; /* no page of any ring: the turn ends with a look at memory */
        outcome_add(turn, topic, batch, outcome, error == WEIR_NO_MEMORY ? WEIR_BUSY : error);
        batch_advance(batch);
        topic->turn_records++;
        serve_amid(turn, topic);
    }
    return WEIR_OK;
}

static enum weir_error batch_publish(struct turn *turn, struct topic *topic, struct message *batch, bool is_stashed)
{
    struct outcome outcome = {.count = 0};
    /* Who came before these records has them as updates, not in a snapshot. */
    if (topic->has_joiners)
        topic_serve(turn, topic);
    enum weir_error error = batch_fold(turn, topic, batch, &outcome);
    outcome_flush(turn, topic, batch, &outcome);
    if (topic->turn_records >= TOPIC_TURN_RECORDS)
        turn_yield(turn);
    if (error == WEIR_BUSY && stash_push(turn, topic, batch, is_stashed))
        batch_refuse(turn, topic, batch, WEIR_BUSY);
    else if (error && error != WEIR_BUSY)
        topic_note_failure(turn, topic, error);
    else if (!error)
        topic_note_success(topic);
    return error == WEIR_BUSY ? WEIR_OK : error;
}

enum weir_error topic_publish(struct turn *turn, struct topic *topic, struct message *message)
{
    if (topic->is_closing || TOPIC_ACK_LEVEL(message->word[2]) == ACK_DURABLE) {
        batch_refuse(turn, topic, message, topic->is_closing ? WEIR_CLOSED : WEIR_BAD_REQUEST);
        return WEIR_OK;
    }
    if (topic->stash_count == 0)
        return batch_publish(turn, topic, message, false);
    if (stash_push(turn, topic, message, false))
        batch_refuse(turn, topic, message, WEIR_BUSY);
    return WEIR_OK;
}

enum weir_error topic_resume(struct turn *turn, struct topic *topic, struct message *message)
{
    topic->is_resume_sent = false;
    if (topic->stash_count == 0)
        return WEIR_OK;
    topic_limits_update(turn, topic);
    if (topic->blocked_slot != FEED_NONE)
        return WEIR_OK;
    /* It is the message in hand now: should it fail, it is this one that is tried again. */
    stash_pop(topic, message);
    message->tag = TOPIC_RESUMED;
    return topic_publish_resumed(turn, topic, message);
}

enum weir_error topic_publish_resumed(struct turn *turn, struct topic *topic, struct message *message)
{
    return batch_publish(turn, topic, message, true);
}

uint64_t topic_epoch_next(uint64_t last)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t epoch = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    return epoch > last ? epoch : last + 1;
}
