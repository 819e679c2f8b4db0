/* Records that are published with options: numbered by their publisher, so that one that comes again is not folded
 * twice; on a condition; with an end of their own. Whatever must not fail once the record is folded is reserved before.
 * In the topic's turn. */
#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/topic/map_tree.h"
#include "actors/topic/state.h"

bool topic_wants_offers(const struct topic *topic, const struct publish_options *options)
{
    return options != NULL || (topic->memory != NULL && topic->memory->marks.table.count > 0) ||
           topic->fold.rule->ttl_ms > 0;
}

/* Most topics never see an option, so this is made when the first comes. */
static enum weir_error memory_ensure(struct topic *topic)
{
    weir_msg block;
    if (topic->memory != NULL)
        return WEIR_OK;
    enum weir_error error = arena_alloc(topic->arena, sizeof *topic->memory, topic->budget, &block);
    if (error)
        return error;
    const struct topic_rule *rule = topic->fold.rule;
    struct topic_memory *memory = arena_data(topic->arena, block);
    memory->block = block;
    dedup_init(&memory->dedup, topic->arena, topic->budget, rule->dedup_publishers_max, rule->dedup_records_max,
               topic->fold.seed);
    marks_init(&memory->marks, topic->arena, topic->budget, topic->fold.seed);
    memory->lapse_armed_ns = MARK_NEVER;
    topic->memory = memory;
    return WEIR_OK;
}

void topic_memory_fini(struct topic *topic)
{
    if (topic->memory == NULL)
        return;
    dedup_clear(&topic->memory->dedup);
    marks_fini(&topic->memory->marks);
    arena_drop(topic->arena, topic->memory->block);
    topic->memory = NULL;
}

/* Finds who counts; once for a batch. */
static enum weir_error publisher_find(struct topic *topic, struct offer *offer)
{
    const struct publish_options *options = offer->options;
    if (options == NULL || options->publisher_size == 0 || offer->publisher != NULL)
        return WEIR_OK;
    return dedup_ensure(&topic->memory->dedup, view_of(options->publisher, options->publisher_size), &offer->publisher);
}

/* A topic of kind last has one key. */
static struct view mark_key(const struct topic *topic, struct view key)
{
    return topic->fold.rule->kind == TOPIC_MAP ? key : view_of(NULL, 0);
}

/* The seq of the newest record: of the key in a map, where one that was deleted is none; of the topic otherwise, where
 * a last value that is nil is none. */
static uint64_t present_seq(struct topic *topic, struct view key)
{
    struct fold *fold = &topic->fold;
    struct fold_snapshot snapshot;
    struct fold_cursor start = {.done = 0};
    struct fold_run run = {.count = 0};
    uint64_t seq = topic->ring.seq_last;
    if (topic->fold.rule->kind != TOPIC_MAP && topic->fold.rule->kind != TOPIC_LAST)
        return seq;
    if (topic->fold.rule->kind == TOPIC_MAP && key.size == 0)
        return 0; /* the fold refuses it */
    fold->ops->capture(fold, &snapshot);
    if (topic->fold.rule->kind == TOPIC_MAP) {
        seq = fold->ops->find(fold, &snapshot, key, &run) ? 0 : run.seq;
    } else if (fold->ops->read(fold, &snapshot, &start, SIZE_MAX, &run) || run.pairs.size == 0) {
        seq = 0;
    } else {
        const uint8_t *pair = (const uint8_t *)arena_data(topic->arena, run.pairs.block) + run.pairs.offset;
        struct view items = view_of(pair, run.pairs.size), last_key, value;
        if (items_next(&items, VALUE_DEPTH_LIMIT, &last_key, &value) == WEIR_OK && value_is_nil(value))
            seq = 0;
    }
    fold->ops->release(fold, &snapshot);
    return seq;
}

static uint64_t record_hash(const struct topic *topic, const struct offer *offer)
{
    uint64_t key = map_hash(offer->key, topic->fold.seed);
    return map_hash(offer->value, key);
}

/* Whether the session may bind the key: it is its own already, or there is room for one more. */
static bool owner_has_room(const struct topic *topic, const struct offer *offer)
{
    uint32_t keys_max = topic->fold.rule->bound_keys_max ? topic->fold.rule->bound_keys_max : BOUND_KEYS_DEFAULT;
    const struct marks *marks = &topic->memory->marks;
    const struct mark_owner *owner = marks_owner_find(marks, offer->from);
    if (owner == NULL || owner->count < keys_max)
        return true;
    const struct mark *mark = marks_find(marks, mark_key(topic, offer->key));
    return mark != NULL && mark->owner == owner;
}

/* Sees to it that the topic learns of the session's end. */
static enum weir_error owner_ensure(struct turn *turn, struct topic *topic, const struct offer *offer)
{
    if (marks_owner_find(&topic->memory->marks, offer->from) != NULL)
        return WEIR_OK;
    enum weir_error error = actor_monitor(turn_runtime(turn), turn_self(turn), offer->from);
    if (error)
        return WEIR_NO_MEMORY;
    return marks_owner_add(&topic->memory->marks, offer->from);
}

/* The session that sends a record again is the one that its key belongs to from now on, however many it has: the record
 * is folded, so it cannot be refused any more. */
static enum weir_error known_rebind(struct turn *turn, struct topic *topic, const struct offer *offer, uint64_t seq)
{
    struct mark *mark =
        offer->options->with.bind ? marks_find(&topic->memory->marks, mark_key(topic, offer->key)) : NULL;
    if (mark == NULL || mark->seq != seq)
        return WEIR_OK;
    enum weir_error error = owner_ensure(turn, topic, offer);
    if (!error)
        marks_rebind(mark, marks_owner_find(&topic->memory->marks, offer->from));
    return error;
}

/* What its publisher's number says of the record; WEIR_OK with is_duplicate: it is folded already. */
static enum weir_error number_check(struct turn *turn, struct topic *topic, struct offer *offer, uint64_t hash)
{
    uint64_t seq = 0;
    enum weir_error error = WEIR_OK;
    switch (dedup_find(offer->publisher, offer->number, hash, &seq)) {
    case DEDUP_NEW: break;
    case DEDUP_FORGOTTEN: error = WEIR_OUTDATED; break;
    case DEDUP_OTHER:
        offer->seq = seq | TOPIC_NACK_NUMBER;
        error = WEIR_CONFLICT;
        break;
    case DEDUP_KNOWN:
        error = known_rebind(turn, topic, offer, seq);
        offer->is_duplicate = !error;
        offer->seq = error ? 0 : seq;
        break;
    }
    return error;
}

/* What the record wants for its key. */
static enum weir_error want_of(struct turn *turn, struct topic *topic, const struct offer *offer,
                               struct mark_want *want)
{
    const struct publish_options *options = offer->options;
    bool can_end = topic->fold.rule->kind == TOPIC_LAST || topic->fold.rule->kind == TOPIC_MAP;
    bool is_bound = options != NULL && options->with.bind;
    uint64_t ttl_ms = options != NULL && options->with.ttl_ms > 0 ? options->with.ttl_ms : topic->fold.rule->ttl_ms;
    *want = (struct mark_want){.deadline_ns = MARK_NEVER};
    if ((ttl_ms > 0 || is_bound) && !can_end)
        return WEIR_BAD_REQUEST;
    if (value_is_nil(offer->value) || (topic->fold.rule->kind == TOPIC_MAP && offer->key.size == 0))
        return WEIR_OK; /* what deletes does not end; what has no key the fold refuses */
    if (ttl_ms > 0)
        want->deadline_ns = turn_now_ns(turn) + ttl_ms * NS_PER_MS;
    if (!is_bound)
        return WEIR_OK;
    want->owner = offer->from;
    return owner_has_room(topic, offer) ? owner_ensure(turn, topic, offer) : WEIR_FULL;
}

enum weir_error topic_offer(struct turn *turn, struct topic *topic, struct offer *offer)
{
    const struct publish_options *options = offer->options;
    struct mark_want want;
    uint64_t hash = 0;
    offer->seq = 0;
    offer->is_duplicate = false;
    enum weir_error error = memory_ensure(topic);
    if (!error)
        error = publisher_find(topic, offer);
    if (!error && offer->publisher != NULL) {
        hash = record_hash(topic, offer);
        error = number_check(turn, topic, offer, hash);
    }
    if (error || offer->is_duplicate)
        return error;
    uint64_t present = options != NULL && options->with.has_if_seq ? present_seq(topic, offer->key) : 0;
    if (options != NULL && options->with.has_if_seq && options->with.if_seq != present) {
        offer->seq = present;
        return WEIR_CONFLICT;
    }
    struct view key = mark_key(topic, offer->key);
    error = want_of(turn, topic, offer, &want);
    if (!error)
        error = marks_reserve(&topic->memory->marks, key, &want);
    if (!error && offer->publisher != NULL)
        error = dedup_reserve(&topic->memory->dedup, offer->publisher);
    if (!error)
        error = topic_fold(topic, offer->key, offer->value, (uint32_t)(turn_now_ns(turn) / NS_PER_MS));
    if (error)
        return error;
    offer->seq = topic->ring.seq_last;
    marks_set(&topic->memory->marks, key, offer->seq, &want);
    if (offer->publisher != NULL)
        dedup_commit(&topic->memory->dedup, offer->publisher, &(struct dedup_entry){offer->number, offer->seq, hash});
    return WEIR_OK;
}
