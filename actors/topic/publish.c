/* Records: folded one by one, given their seqs, appended to the ring, acknowledged. A batch that cannot go on because a
 * subscriber of policy block must not fall further behind is put into the stash, in the order of arrival, and the
 * mailbox is muted, so that it fills up for those who publish; nothing is taken out of turn. */
#include <time.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "actors/topic/directory_state.h"
#include "actors/topic/merged.h"

/* Neighbouring records of a batch with the same outcome, told to the publisher in one message. */
struct outcome {
    enum weir_error error;
    uint32_t count;
    uint64_t number, seq; /* seq: of the first; what word[2] of a conflict says */
    uint64_t number_last;
    uint32_t first; /* its slice */
    bool is_spread; /* their numbers are not neighbours: the slices say which they are */
};

void topic_answer_send(struct turn *turn, struct topic *topic)
{
    struct topic_answer *answer = &topic->answer;
    if (answer->tag == 0)
        return;
    struct message message = {.tag = answer->tag,
                              .detail = answer->count,
                              .hold = {WEIR_MSG_NONE, answer->slices},
                              .word = {answer->word[0], answer->word[1], answer->word[2]}};
    enum weir_error error = turn_control(turn, answer->to, &message);
    if (error)
        arena_drop(topic->arena, answer->slices);
    answer->tag = 0;
    answer->slices = WEIR_MSG_NONE;
    /* The publisher has 64,000 unread messages: it is not reading, and its connection will time out. */
    if (error && error != WEIR_STALE)
        log_warning("topic.ack_lost", "topic=%.*s cause=%s", (int)topic->shared->name_size, topic->shared->name,
                    weir_error_code(error));
}

/* Answers leave in order, so the one before goes now. */
static void outcome_flush(struct turn *turn, struct topic *topic, const struct message *batch, struct outcome *outcome)
{
    uint32_t count = outcome->count;
    bool is_wanted = count > 0 && !actor_is_none(batch->from);
    outcome->count = 0;
    /* Accepted was answered by whoever sent the batch, when the mailbox took it. */
    if (!is_wanted || (!outcome->error && TOPIC_ACK_LEVEL(batch->word[2]) != ACK_FOLDED))
        return;
    topic_answer_send(turn, topic);
    topic->answer = (struct topic_answer){
        TOPIC_ACK, count, batch->from, WEIR_MSG_NONE, {outcome->number, topic->epoch, outcome->seq}};
    if (outcome->is_spread) {
        enum weir_error error = arena_hold(topic->arena, batch->hold[1]);
        ENSURE(error == WEIR_OK);
        topic->answer.slices = batch->hold[1];
        topic->answer.count = TOPIC_SPREAD(outcome->first, count);
    }
    if (outcome->error) {
        topic->answer.tag = TOPIC_NACK;
        topic->answer.word[1] = outcome->error;
        topic->answer.word[2] = outcome->error == WEIR_CONFLICT ? outcome->seq : 1;
    }
}

static void outcome_add(struct turn *turn, struct topic *topic, const struct message *batch, struct outcome *outcome,
                        enum weir_error error, uint64_t seq)
{
    /* Acks of records known before need not be neighbours; nor do those of conflicts say the same seq. */
    uint64_t seq_next = error ? outcome->seq : outcome->seq + outcome->count, number = TOPIC_NUMBER(batch->word[2]);
    bool is_next = number == outcome->number_last + 1;
    if (outcome->count > 0 && (outcome->error != error || seq != seq_next || (error && !is_next)))
        outcome_flush(turn, topic, batch, outcome);
    if (outcome->count++ == 0) {
        outcome->error = error;
        outcome->number = number;
        outcome->seq = seq;
        outcome->first = (uint32_t)batch->word[0];
        outcome->is_spread = false;
    } else {
        outcome->is_spread = outcome->is_spread || !is_next;
    }
    outcome->number_last = number;
}

const struct record_slice *batch_slices(struct arena *arena, const struct message *batch)
{
    if (msg_is_none(batch->hold[1]))
        return NULL;
    const uint8_t *data = arena_data(arena, batch->hold[1]);
    size_t head = batch->word[1] == TOPIC_WITH_OPTIONS ? sizeof(struct publish_options) : 0;
    REQUIRE(head + (batch->word[0] + batch->detail) * sizeof(struct record_slice) <= arena_size(arena, batch->hold[1]));
    return (const struct record_slice *)(const void *)(data + head);
}

struct record_slice batch_first(const struct record_slice *slices, const struct message *batch)
{
    if (slices != NULL)
        return slices[batch->word[0]];
    return (struct record_slice){TOPIC_HIGH(batch->word[0]), TOPIC_LOW(batch->word[0]), TOPIC_HIGH(batch->word[1]),
                                 TOPIC_LOW(batch->word[1]), 0};
}

const struct publish_options *batch_options(struct arena *arena, const struct message *batch)
{
    if (msg_is_none(batch->hold[1]) || batch->word[1] != TOPIC_WITH_OPTIONS)
        return NULL;
    return arena_data(arena, batch->hold[1]);
}

void batch_advance(const struct record_slice *slices, struct message *batch)
{
    uint32_t step = 1;
    batch->detail--;
    if (slices != NULL) {
        batch->word[0]++;
        if (batch->detail > 0 && batch->word[1] != TOPIC_MERGED)
            step = record_step(&slices[batch->word[0]]);
    }
    batch->word[2] = TOPIC_NUMBER_WORD(TOPIC_NUMBER(batch->word[2]) + step, TOPIC_ACK_LEVEL(batch->word[2]));
}

bool topic_relieve(struct topic *topic)
{
    size_t before, after, max;
    budget_level(topic->budget, &before, &max);
    (void)fold_sweep(&topic->fold, MAP_SWEEP_RELIEF_STEPS);
    (void)ring_sweep(&topic->ring, MAP_SWEEP_RELIEF_STEPS / MAP_SWEEP_FREE_STEPS);
    budget_level(topic->budget, &after, &max);
    return after < before;
}

enum weir_error topic_fold(struct topic *topic, struct view key, struct view value, uint32_t now_ms)
{
    struct cell cell;
    enum weir_error error = ring_reserve(&topic->ring, key, value, now_ms, &cell);
    if (error == WEIR_NO_MEMORY && topic_relieve(topic))
        error = ring_reserve(&topic->ring, key, value, now_ms, &cell);
    if (error)
        return error;
    error = topic->fold.ops->apply(&topic->fold, &cell);
    if (error == WEIR_NO_MEMORY && topic_relieve(topic))
        error = topic->fold.ops->apply(&topic->fold, &cell);
    if (error)
        ring_cancel(&topic->ring);
    else
        ring_commit(&topic->ring, &cell);
    return error;
}

bool topic_is_refusal(enum weir_error error)
{
    return error == WEIR_BAD_REQUEST || error == WEIR_TOO_BIG || error == WEIR_NO_MEMORY || error == WEIR_CONFLICT ||
           error == WEIR_OUTDATED || error == WEIR_FULL;
}

void topic_mute_update(struct turn *turn, struct topic *topic)
{
    bool is_muted = topic->stash.count > 0 || forward_waiting(topic) > 0 || topic->is_closing;
    if (is_muted == topic->is_muted)
        return;
    topic->is_muted = is_muted;
    turn_mute(turn, is_muted);
}

static void stash_resume_send(struct turn *turn, struct topic *topic)
{
    struct message message = {.tag = TOPIC_RESUME};
    bool is_short = topic->forward != NULL && topic->forward->has_short_timer;
    if (topic->stash.count > 0 && !is_short && !topic->is_resume_sent)
        topic->is_resume_sent = turn_control(turn, turn_self(turn), &message) == WEIR_OK;
}

void topic_unblock(struct turn *turn, struct topic *topic)
{
    topic_limits_update(turn, topic);
    if (topic_blocked_slot(topic) == FEED_NONE)
        stash_resume_send(turn, topic);
    topic_mute_update(turn, topic);
}

void topic_batch_refuse(struct turn *turn, struct topic *topic, struct message *batch, enum weir_error error)
{
    const struct record_slice *slices = batch_slices(topic->arena, batch);
    struct outcome outcome = {.count = 0};
    topic->refused += batch->detail;
    while (batch->detail > 0) {
        outcome_add(turn, topic, batch, &outcome, error, 0);
        batch_advance(slices, batch);
    }
    outcome_flush(turn, topic, batch, &outcome);
}

void topic_batch_unread(struct turn *turn, const struct topic *topic, const struct message *batch)
{
    const struct record_slice *slices = batch_slices(turn_arena(turn), batch);
    struct message rest = *batch, unread = {.tag = DIRECTORY_UNREAD, .word = {batch->detail}};
    while (rest.detail > 0 && !actor_is_none(batch->from)) {
        struct message nack = {.tag = TOPIC_NACK, .word = {TOPIC_NUMBER(rest.word[2]), WEIR_CLOSED, 1}};
        do {
            nack.detail++;
            batch_advance(slices, &rest);
        } while (rest.detail > 0 && TOPIC_NUMBER(rest.word[2]) == nack.word[0] + nack.detail);
        (void)!turn_control(turn, batch->from, &nack); /* whoever does not read what is sent here has its session end */
    }
    /* One that never started does not know its directory; and one that is gone counts nothing any more. */
    if (topic != NULL)
        (void)!turn_control(turn, topic->common->directory, &unread);
}

void stash_refuse(struct turn *turn, struct topic *topic, struct stash *stash, enum weir_error error)
{
    struct message batch;
    while (stash->count > 0) {
        stash_pop(topic, stash, &batch);
        if (batch.tag == TOPIC_CLEAR)
            topic_reply_done(turn, &batch, error);
        else if (batch.tag == TOPIC_ASK)
            forward_ask_refuse(turn, &batch, error);
        else
            topic_batch_refuse(turn, topic, &batch, error);
        for (int hold = 0; hold < MESSAGE_HOLDS; hold++)
            arena_drop(topic->arena, batch.hold[hold]);
    }
}

void topic_stash_refuse(struct turn *turn, struct topic *topic, enum weir_error error)
{
    stash_refuse(turn, topic, &topic->stash, error);
    if (topic->forward != NULL)
        stash_refuse(turn, topic, &topic->forward->waiting, error);
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

void topic_note_success(struct topic *topic)
{
    topic->failures = 0;
    if (!topic->is_stale_told || (topic->forward != NULL && topic->forward->is_stale))
        return;
    topic->is_stale_told = false;
    pthread_mutex_lock(&topic->shared->lock);
    feeds_notify(topic, false);
    pthread_mutex_unlock(&topic->shared->lock);
}

void topic_note_plugin(struct turn *turn, struct topic *topic, bool is_stale)
{
    if (topic->forward == NULL)
        return;
    topic->forward->is_stale = is_stale;
    if (topic->is_stale_told == is_stale)
        return;
    topic->is_stale_told = is_stale;
    pthread_mutex_lock(&topic->shared->lock);
    feeds_notify(topic, is_stale);
    pthread_mutex_unlock(&topic->shared->lock);
    topic_serve(turn, topic);
}

/* Serves feeds amid a long turn, so that those who have credit are not overtaken by the ring for want of a turn end. */
static void serve_amid(struct turn *turn, struct topic *topic)
{
    const struct ring *ring = &topic->ring;
    if (ring->seq_last - topic->served_seq > ring->count_max / 4 ||
        ring->weight - topic->served_weight > ring->bytes_max / 4)
        topic_serve(turn, topic);
}

/* Lets the fold fetch what the next records of the batch will look at. */
static void batch_prepare(struct topic *topic, const uint8_t *data, const struct record_slice *slices,
                          const struct message *batch)
{
    struct view keys[FOLD_PREPARE_MAX];
    uint32_t count = batch->detail < FOLD_PREPARE_MAX ? batch->detail : FOLD_PREPARE_MAX;
    if (topic->fold.ops->prepare == NULL || count == 1)
        return;
    for (uint32_t i = 0; i < count; i++) {
        const struct record_slice *slice = &slices[batch->word[0] + i];
        keys[i] = view_of(data + slice->key_offset, slice->key_size);
    }
    topic->fold.ops->prepare(&topic->fold, keys, count);
}

/* Folds the batch's first record as its options, or the topic's marks, want it. */
static enum weir_error batch_offer(struct turn *turn, struct topic *topic, const struct message *batch,
                                   struct offer *offer, struct view key, struct view value)
{
    offer->key = key;
    offer->value = value;
    offer->number = offer->options ? offer->options->number + batch->word[0] : 0;
    return topic_offer(turn, topic, offer);
}

/* Folds what is left of the batch. WEIR_BUSY: it must wait. Anything else: the fold failed at the first record left. */
static enum weir_error batch_fold(struct turn *turn, struct topic *topic, struct message *batch,
                                  struct outcome *outcome)
{
    const uint8_t *data = arena_data(topic->arena, batch->hold[0]);
    const struct record_slice *slices = batch_slices(topic->arena, batch);
    uint32_t now_ms = (uint32_t)(turn_now_ns(turn) / NS_PER_MS);
    struct offer offer = {.options = batch_options(topic->arena, batch), .from = batch->from};
    bool is_plain = !topic_wants_offers(topic, offer.options);
    for (uint32_t i = 0; batch->detail > 0; i++) {
        if (topic_is_blocked(turn, topic))
            return WEIR_BUSY;
        if (i % FOLD_PREPARE_MAX == 0)
            batch_prepare(topic, data, slices, batch);
        struct record_slice slice = batch_first(slices, batch);
        struct view key = view_of(data + slice.key_offset, slice.key_size);
        struct view value = view_of(data + slice.value_offset, slice.value_size);
        bool is_merged = batch->word[1] == TOPIC_MERGED && slice.step > 0;
        struct view merged = view_of(value.data + value.size, is_merged ? slice.step : 0);
        enum weir_error error = !is_plain   ? batch_offer(turn, topic, batch, &offer, key, value)
                                : is_merged ? topic_fold_merged(topic, key, value, merged, now_ms)
                                            : topic_fold(topic, key, value, now_ms);
        uint64_t seq = is_plain ? topic->ring.seq_last : offer.seq;
        if (error && !topic_is_refusal(error))
            return error;
        if (error == WEIR_NO_MEMORY)
            topic->pressure_page = UINT64_MAX; /* no page of any ring: the turn ends with a look at memory */
        if (error == WEIR_NO_MEMORY && forward_short(turn, topic))
            return WEIR_BUSY;
        if (error)
            topic->refused++;
        else
            *(offer.is_duplicate ? &topic->duplicates : &topic->published) += 1;
        outcome_add(turn, topic, batch, outcome, error, seq);
        batch_advance(slices, batch);
        topic->turn_records++;
        bool is_over = error == WEIR_NO_MEMORY && slices != NULL && batch->word[1] == TOPIC_IN_ORDER;
        while (is_over && batch->detail > 0) {
            topic->refused++;
            outcome_add(turn, topic, batch, outcome, error, seq);
            batch_advance(slices, batch);
        }
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
    uint64_t published = topic->published;
    enum weir_error error = batch_fold(turn, topic, batch, &outcome);
    if (topic->forward != NULL && topic->published > published)
        topic->forward->short_since_ns = topic->forward->short_pause_ns = 0;
    outcome_flush(turn, topic, batch, &outcome);
    if (topic_turn_is_over(topic))
        turn_yield(turn);
    if (error == WEIR_BUSY && stash_push(topic, &topic->stash, batch, is_stashed))
        topic_batch_refuse(turn, topic, batch, WEIR_NO_MEMORY);
    else if (error && error != WEIR_BUSY)
        topic_note_failure(turn, topic, error);
    /* A turn that fails has no end to tell it at. */
    if (error && error != WEIR_BUSY)
        topic_answer_send(turn, topic);
    if (!error)
        topic_note_success(topic);
    topic_mute_update(turn, topic);
    return error == WEIR_BUSY ? WEIR_OK : error;
}

bool topic_clear_waits(struct turn *turn, struct topic *topic, struct message *order)
{
    if (topic->stash.count == 0 || order->word[2] == CAUSE_NONE)
        return false;
    if (stash_push(topic, &topic->stash, order, false) == WEIR_OK)
        return true;
    /* No memory: what it was to forget is not folded either. */
    stash_refuse(turn, topic, &topic->stash, WEIR_NO_MEMORY);
    return false;
}

enum weir_error topic_publish(struct turn *turn, struct topic *topic, struct message *message)
{
    if (topic->is_closing || TOPIC_ACK_LEVEL(message->word[2]) == ACK_DURABLE) {
        topic_batch_refuse(turn, topic, message, topic->is_closing ? WEIR_CLOSED : WEIR_BAD_REQUEST);
        return WEIR_OK;
    }
    if (topic_kind_is_plugin(topic->fold.rule->kind) && message->tag == TOPIC_PUBLISH) {
        forward_publish(turn, topic, message);
        return WEIR_OK;
    }
    if (topic->stash.count == 0)
        return batch_publish(turn, topic, message, false);
    if (stash_push(topic, &topic->stash, message, false))
        topic_batch_refuse(turn, topic, message, WEIR_NO_MEMORY);
    topic_mute_update(turn, topic);
    return WEIR_OK;
}

enum weir_error topic_resume(struct turn *turn, struct topic *topic, struct message *message)
{
    topic->is_resume_sent = false;
    if (topic->stash.count == 0)
        return WEIR_OK;
    topic_limits_update(turn, topic);
    if (topic_blocked_slot(topic) != FEED_NONE)
        return WEIR_OK;
    /* It is the message in hand now: should it fail, it is this one that is tried again. */
    stash_pop(topic, &topic->stash, message);
    if (message->tag == TOPIC_CLEAR) {
        pthread_mutex_lock(&topic->shared->lock);
        topic_clear(turn, topic, message);
        pthread_mutex_unlock(&topic->shared->lock);
        return WEIR_OK;
    }
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
