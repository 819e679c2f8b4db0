/* Conflation: of the updates that wait for a feed only the newest of each key is sent, and the others are named in
 * CONFLATED. Nothing is queued for that. The feed walks the ring from where it stands, and asks the fold of each record
 * whether it is still the one of its key: if not, a newer one is further on in the ring, and this one is left out.
 *
 * So it takes no memory, what is sent carries its own seq in rising order, and a feed that is so slow that records are
 * replaced while it walks is sent even less. Kinds in which every record counts (log, merge) can not leave any out;
 * their feeds are resynced instead. What the ring no longer has comes out of the state, see recall.c.
 *
 * Where a plugin has said what the updates of a key come to (topic_fold_merged), that stands in the state, and is sent
 * in the place of the newest of them: so what is left out is in what follows it. In the topic's turns. */
#include "actors/topic/conflate.h"

#include "actors/base/clock.h"

bool topic_can_conflate(const struct topic *topic)
{
    return topic->fold.rule->kind == TOPIC_LAST ||
           (topic_kind_of_state(topic->fold.rule->kind) == TOPIC_MAP && topic->fold.ops->find != NULL);
}

bool feed_conflates(const struct topic *topic, const struct feed *feed)
{
    return (feed->is_conflating || feed_interval_ns(feed) > 0) && topic_can_conflate(topic);
}

bool record_is_newest(struct topic *topic, const struct fold_snapshot *now, const struct ring_run *record,
                      struct fold_run *newest)
{
    const uint8_t *data = (const uint8_t *)arena_data(topic->arena, record->pairs.block) + record->pairs.offset;
    struct view pair = view_of(data, record->pairs.size), key, value;
    newest->count = 0;
    if (items_next(&pair, UINT8_MAX, &key, &value) != WEIR_OK)
        return true; /* it was checked when it came */
    if (topic->fold.ops->find(&topic->fold, now, key, newest) == WEIR_OK)
        return newest->seq == record->seq;
    return value_is_nil(value);
}

struct walk {
    struct ring_cursor at;
    struct ring_run run; /* records to be sent, one behind the other in one page */
    uint32_t looks;
    weir_msg entry; /* or, as the run, what the updates of one key come to; a reference of our own */
    bool is_short;  /* there was no memory for that */
};

static bool run_extend(struct ring_run *run, const struct ring_run *record, size_t size_max)
{
    if (run->count == 0) {
        *run = *record;
        return true;
    }
    bool is_next = run->pairs.block.bits == record->pairs.block.bits &&
                   run->pairs.offset + run->pairs.size == record->pairs.offset;
    if (!is_next || run->pairs.size + record->pairs.size > size_max)
        return false;
    run->pairs.size += record->pairs.size;
    run->count++;
    return true;
}

/* The key's entry becomes the run, in the place of the record and with its seq. State is written in place unless a
 * snapshot holds it, so it is copied. */
static bool run_merged(struct topic *topic, const struct ring_run *record, const struct fold_run *entry,
                       struct walk *walk)
{
    size_t size = entry->pairs.size;
    walk->is_short = arena_alloc(topic->arena, size, topic->budget, &walk->entry) != WEIR_OK;
    if (walk->is_short)
        return false;
    const uint8_t *from = arena_data(topic->arena, entry->pairs.block);
    memcpy(arena_data(topic->arena, walk->entry), from + entry->pairs.offset, size);
    walk->run = (struct ring_run){{walk->entry, 0, (uint32_t)size}, record->seq, 1};
    return true;
}

/* The same in a topic of kind `last`, where each record replaces the one before; for a feed with a filter it is one
 * that the feed wants. `behind` is the record's end. */
static enum filter_ahead last_ahead(struct topic *topic, struct feed *feed, const struct ring_cursor *behind,
                                    struct walk *walk)
{
    if (feed_filter(feed) != NULL)
        return filter_look_ahead(topic, feed, behind, &walk->looks, CONFLATE_LOOKS_MAX);
    return behind->seq <= topic->ring.seq_last ? AHEAD_WANTED : AHEAD_NONE;
}

/* Walks over what is left out, and then over what can be sent in one run; stops in front of it while what was left out
 * is still to be told. */
static void feed_walk(struct topic *topic, struct feed *feed, size_t size_max, uint64_t to, struct walk *walk)
{
    struct fold_snapshot now;
    topic->fold.ops->capture(&topic->fold, &now);
    for (; walk->looks < CONFLATE_LOOKS_MAX && walk->at.seq <= to; walk->looks++) {
        struct ring_cursor next = walk->at;
        struct ring_run record;
        struct fold_run newest = {.count = 0};
        if (!ring_next(&topic->ring, &next, 1, &record))
            break;
        if (feed_filter(feed) != NULL && !filter_wants(topic, feed, &record)) {
            if (walk->run.count > 0)
                break;
            walk->at = next;
            continue;
        }
        enum filter_ahead ahead = topic->fold.rule->kind == TOPIC_LAST ? last_ahead(topic, feed, &next, walk)
                                  : record_is_newest(topic, &now, &record, &newest) ? AHEAD_NONE
                                                                                    : AHEAD_WANTED;
        if (ahead == AHEAD_UNKNOWN)
            break;
        bool is_newest = ahead == AHEAD_NONE;
        if (is_newest && topic->has_merged && newest.count > 0) {
            if (feed->stage->as.live.conflated_from == 0 && walk->run.count == 0 &&
                run_merged(topic, &record, &newest, walk))
                walk->at = next;
            break;
        }
        if (is_newest ? feed->stage->as.live.conflated_from != 0 || !run_extend(&walk->run, &record, size_max)
                      : walk->run.count > 0)
            break;
        if (!is_newest && feed->stage->as.live.conflated_from == 0)
            feed->stage->as.live.conflated_from = walk->at.seq;
        walk->at = next;
    }
    topic->fold.ops->release(&topic->fold, &now);
}

enum step step_conflate(struct turn *turn, struct topic *topic, struct feed *feed, size_t size_max)
{
    uint64_t to = feed_interval_ns(feed) ? feed->stage->extra->batch_to : topic->ring.seq_last;
    struct walk walk = {.at = feed->cursor};
    if (!feed_stage_ensure(topic, feed))
        return STEP_SENT;
    feed_walk(topic, feed, size_max, to, &walk);
    topic->looks += walk.looks * CONFLATE_LOOKS_SEND;
    if (walk.is_short)
        return STEP_NO_ROOM;
    if (walk.run.count > 0) {
        enum step step = step_send_slice(turn, feed, TOPIC_UPDATES, walk.run.pairs, walk.run.count, walk.run.seq);
        if (step == STEP_SENT) {
            feed->credit -= (int32_t)walk.run.pairs.size;
            feed->cursor = walk.at;
            filter_told(feed);
        }
        arena_drop(topic->arena, walk.entry);
        return step;
    }
    feed->cursor = walk.at;
    if (feed->stage->as.live.conflated_from == 0 || walk.looks >= CONFLATE_LOOKS_MAX)
        return STEP_SENT; /* perhaps there is more to leave out: told in one */
    return step_conflated(turn, feed);
}

enum step step_conflated(struct turn *turn, struct feed *feed)
{
    enum topic_cause cause = feed_interval_ns(feed) ? CAUSE_INTERVAL : CAUSE_OVERFLOW;
    enum step step =
        step_send(turn, feed, TOPIC_CONFLATED, feed->stage->as.live.conflated_from, feed->cursor.seq - 1, cause);
    if (step != STEP_SENT)
        return step;
    feed->stage->as.live.conflated_from = 0;
    filter_told(feed);
    return step;
}

/* ---------------------------------------------------------------------------------------------- pacing */

bool feed_is_early(struct topic *topic, struct feed *feed, uint64_t now_ns)
{
    if (feed_interval_ns(feed) == 0 || feed->cursor.seq <= feed->stage->extra->batch_to ||
        feed->cursor.seq > topic->ring.seq_last)
        return false;
    if (now_ns < feed->stage->extra->due_ns) {
        topic->limits->pace_due_ns = feed->stage->extra->due_ns < topic->limits->pace_due_ns
                                         ? feed->stage->extra->due_ns
                                         : topic->limits->pace_due_ns;
        return true;
    }
    /* On a grid, so that many feeds of one interval are woken by few timers. */
    uint64_t grain_ns = feed_interval_ns(feed) / PACE_GRAINS;
    if (grain_ns < PACE_GRAIN_MIN_NS)
        grain_ns = PACE_GRAIN_MIN_NS;
    feed->stage->extra->due_ns = (now_ns + feed_interval_ns(feed) + grain_ns - 1) / grain_ns * grain_ns;
    feed->stage->extra->batch_to = topic->ring.seq_last;
    return false;
}

void feeds_pace(struct topic *topic, uint64_t now_ns)
{
    struct feeds *feeds = &topic->feeds;
    topic->limits->pace_due_ns = UINT64_MAX;
    for (uint32_t slot = feeds->lists[LIST_PACED].first; slot != FEED_NONE;) {
        const struct feed *feed = &feeds->table[slot];
        uint32_t next = feed->next;
        if (feed->stage->extra->due_ns <= now_ns)
            feeds_list(feeds, slot, LIST_READY);
        else if (feed->stage->extra->due_ns < topic->limits->pace_due_ns)
            topic->limits->pace_due_ns = feed->stage->extra->due_ns;
        slot = next;
    }
}
