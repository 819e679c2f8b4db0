/* Conflation out of the state: a feed that leaves out what was replaced, and that the ring has left behind, is sent
 * what has changed since its cursor from the pages of the state, newest of each key, in the order of the records' seqs,
 * deletions among them. What lies between two of these is told by CONFLATED, as with conflation out of the ring, which
 * it goes over to as soon as the ring has what follows. So its cursor is good at any moment, and it is never sent
 * anything over again.
 *
 * State is not in the order of seqs. A recall is a part of it that is: the changes of least seq from some cursor on,
 * found by going through a snapshot once and sorted; a place of the next ones starts where it ends. It holds no pairs,
 * only where they are: one that was replaced meanwhile is passed over. So it costs no copies of pages but while it is
 * made, goes bad only with the epoch, and serves all feeds whose cursor is within. In the topic's turns. */
#include "actors/topic/recall.h"

#include "actors/base/assert.h"
#include "actors/topic/conflate.h"

/* A sort's digit. */
#define DIGIT_BITS 11u
#define DIGITS (1u << DIGIT_BITS)

struct recall {
    weir_msg block;
    weir_msg page; /* pairs on their way, one behind the other */
    uint32_t page_used;
    weir_msg items; /* fold_change; while it is made with room for twice as many, which serves to sort them, too */
    struct recall *next;
    uint64_t from, to; /* no key's newest record is between these and not among the changes; `to` falls while made */
    uint32_t refs;
    bool is_read; /* all were found, and are to be sorted */
    bool is_made;
    struct fold_snapshot snapshot; /* while it is made */
    struct fold_cursor cursor;
    struct fold_changes changes;
};

bool recall_can(const struct topic *topic, const struct feed *feed)
{
    const struct fold *fold = &topic->fold;
    if (fold->rule->kind == TOPIC_LAST) /* what the ring still has replaces the rest, if anybody's record will do */
        return feed_filter(feed) == NULL && topic->ring.seq_first <= topic->ring.seq_last;
    return fold->ops->newer != NULL && fold->ops->knows_since(fold, feed->cursor.seq - 1);
}

/* ---------------------------------------------------------------------------------------- making of one */

/* By seq, least first, digit by digit: in time that goes with their number only, and needs no stack. */
static void changes_sort(struct fold_change *items, struct fold_change *other, uint32_t count, uint64_t base,
                         uint64_t span)
{
    struct fold_change *from = items, *into = other;
    for (unsigned shift = 0; shift < 64 && span >> shift > 0; shift += DIGIT_BITS) {
        uint32_t starts[DIGITS] = {0};
        for (uint32_t i = 0; i < count; i++)
            starts[(from[i].seq - base) >> shift & (DIGITS - 1)]++;
        for (uint32_t digit = 0, at = 0; digit < DIGITS; digit++) {
            uint32_t here = starts[digit];
            starts[digit] = at;
            at += here;
        }
        for (uint32_t i = 0; i < count; i++)
            into[starts[(from[i].seq - base) >> shift & (DIGITS - 1)]++] = from[i];
        struct fold_change *swap = from;
        from = into;
        into = swap;
    }
    if (from != items)
        memcpy(items, from, count * sizeof *items);
}

/* The seq that so many have at the most; digit by digit from the front, in time that goes with their number only. */
static uint64_t changes_seq_of(const struct fold_change *items, uint32_t count, uint64_t base, uint64_t span,
                               uint32_t wanted)
{
    unsigned shift = 0;
    while (shift + DIGIT_BITS < 64 && span >> (shift + DIGIT_BITS) > 0)
        shift += DIGIT_BITS;
    for (;; shift -= DIGIT_BITS) {
        uint32_t counts[DIGITS] = {0}, digit = 0;
        for (uint32_t i = 0; i < count; i++)
            if (items[i].seq >= base && (items[i].seq - base) >> shift < DIGITS)
                counts[(items[i].seq - base) >> shift]++;
        for (; counts[digit] < wanted; digit++)
            wanted -= counts[digit];
        base += (uint64_t)digit << shift;
        if (shift == 0)
            return base;
    }
}

/* Keeps so many of least seq, in no order. */
static void recall_cut(struct topic *topic, struct recall *recall, uint32_t count)
{
    struct fold_changes *changes = &recall->changes;
    if (changes->count <= count)
        return;
    uint64_t last = changes_seq_of(changes->items, changes->count, recall->from, recall->to - recall->from, count);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < changes->count; i++)
        if (changes->items[i].seq <= last)
            changes->items[kept++] = changes->items[i];
    INVARIANT(kept == count);
    topic->looks += changes->count / RECALL_CUT_LOOK;
    changes->count = count;
    recall->to = changes->seq_max = last;
}

static uint32_t recall_size(const struct topic *topic)
{
    size_t size = topic->fold.entries / RECALL_PART;
    return size < RECALL_SIZE_MIN ? RECALL_SIZE_MIN : size > RECALL_SIZE_MAX ? RECALL_SIZE_MAX : (uint32_t)size;
}

static struct recall *recall_create(struct topic *topic, uint64_t from)
{
    uint32_t count_max = 2 * recall_size(topic);
    weir_msg block, items;
    if (arena_alloc(topic->arena, sizeof(struct recall), topic->common->feeds_budget, &block))
        return NULL;
    if (arena_alloc(topic->arena, count_max * sizeof(struct fold_change), topic->common->feeds_budget, &items)) {
        arena_drop(topic->arena, block);
        return NULL;
    }
    struct recall *recall = arena_data(topic->arena, block);
    *recall = (struct recall){
        .block = block,
        .items = items,
        .next = topic->recalls,
        .from = from,
        .to = topic->ring.seq_last,
        .cursor = {.since = from - 1},
        .changes = {arena_data(topic->arena, items), 0, count_max, topic->ring.seq_last},
    };
    topic->fold.ops->capture(&topic->fold, &recall->snapshot);
    topic->recalls = recall;
    return recall;
}

/* It keeps a block of the size that it needs, if there is one to be had. */
static void recall_finish(struct topic *topic, struct recall *recall)
{
    struct fold_changes *changes = &recall->changes;
    weir_msg items;
    topic->fold.ops->release(&topic->fold, &recall->snapshot);
    recall->is_made = true;
    changes_sort(changes->items, changes->items + changes->count_max / 2, changes->count, recall->from,
                 recall->to - recall->from);
    topic->looks += changes->count / RECALL_SORT_LOOK;
    size_t size = changes->count * sizeof *changes->items;
    if (arena_alloc(topic->arena, size > 0 ? size : 1, topic->common->feeds_budget, &items))
        return;
    memcpy(arena_data(topic->arena, items), changes->items, size);
    arena_drop(topic->arena, recall->items);
    recall->items = items;
    changes->items = arena_data(topic->arena, items);
}

void recall_make(struct topic *topic, struct feed *feed)
{
    struct recall *recall = feed->stage->as.live.recall;
    struct fold_changes *changes = &recall->changes;
    if (recall->is_read) {
        recall_finish(topic, recall);
        return;
    }
    topic->looks += RECALL_LOOKS;
    recall->is_read = topic->fold.ops->newer(&topic->fold, &recall->snapshot, &recall->cursor, changes) == WEIR_AGAIN;
    if (recall->is_read || changes->count > changes->count_max - RECALL_SIZE_MIN)
        recall_cut(topic, recall, changes->count_max / 2);
}

bool recall_is_making(const struct feed *feed) { return feed->is_recalling && !feed->stage->as.live.recall->is_made; }

/* ----------------------------------------------------------------------------------------- who reads it */

static bool recall_covers(const struct recall *recall, uint64_t seq)
{
    return recall->from <= seq && seq <= recall->to;
}

/* One that has what the feed needs next, perhaps still to be made. False: no memory, or there are too many. */
static bool recall_enter(struct topic *topic, struct feed *feed)
{
    struct recall *recall = topic->recalls;
    uint32_t count = 0;
    for (; recall != NULL && !recall_covers(recall, feed->cursor.seq); recall = recall->next)
        count++;
    if (recall == NULL && count < RECALLS_MAX)
        recall = recall_create(topic, feed->cursor.seq);
    if (recall == NULL)
        return false;
    recall->refs++;
    feed->stage->as.live.recall = recall;
    feed->is_recalling = true;
    return true;
}

void recall_leave(struct topic *topic, struct feed *feed)
{
    if (!feed->is_recalling)
        return;
    struct recall *recall = feed->stage->as.live.recall;
    feed->is_recalling = false;
    feed->stage->as.live.recall = NULL;
    if (--recall->refs > 0)
        return;
    struct recall **link = &topic->recalls;
    while (*link != recall)
        link = &(*link)->next;
    *link = recall->next;
    if (!recall->is_made)
        topic->fold.ops->release(&topic->fold, &recall->snapshot);
    arena_drop(topic->arena, recall->page);
    arena_drop(topic->arena, recall->items);
    arena_drop(topic->arena, recall->block);
}

/* The cursor has moved: to where the ring has what follows, perhaps, or beyond the recall. */
static void recall_settle(struct topic *topic, struct feed *feed)
{
    bool is_retained = ring_find(&topic->ring, feed->cursor.seq, &feed->cursor) == WEIR_OK;
    if (feed->is_recalling && (is_retained || !recall_covers(feed->stage->as.live.recall, feed->cursor.seq)))
        recall_leave(topic, feed);
}

/* All before seq is left out, or was sent. */
static void feed_pass(struct feed *feed, uint64_t seq)
{
    INVARIANT(seq >= feed->cursor.seq);
    if (seq == feed->cursor.seq)
        return;
    if (feed->stage->as.live.conflated_from == 0)
        feed->stage->as.live.conflated_from = feed->cursor.seq;
    feed->cursor = (struct ring_cursor){.seq = seq};
}

static uint32_t change_find(const struct fold_changes *changes, uint64_t seq)
{
    uint32_t low = 0, high = changes->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (changes->items[middle].seq < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* What is sent next: pairs of neighbouring seqs. */
struct recall_walk {
    uint64_t to; /* no further */
    size_t size_max;
    bool is_found; /* there is one to be sent */
    struct ring_run run;
};

/* Where a walk is among what may be sent. */
struct recall_place {
    uint32_t index;          /* among the changes */
    struct fold_run deleted; /* count 0: none */
};

static void place_deleted(struct topic *topic, struct recall_place *place, uint64_t after)
{
    if (topic->fold.ops->deleted_after(&topic->fold, after, &place->deleted) != WEIR_OK)
        place->deleted = (struct fold_run){.count = 0, .seq = UINT64_MAX};
}

/* Moves the place behind its next record. False: that was replaced, or is not for this feed. */
static bool place_next(struct topic *topic, const struct feed *feed, const struct fold_snapshot *now,
                       struct recall_place *place, struct ring_run *out)
{
    const struct fold_changes *changes = &feed->stage->as.live.recall->changes;
    struct fold_run pair = place->deleted, newest;
    bool is_set = place->index < changes->count && changes->items[place->index].seq < pair.seq;
    bool is_newest = true;
    if (is_set)
        is_newest = topic->fold.ops->change_at(&topic->fold, &changes->items[place->index++], &pair) == WEIR_OK;
    else
        place_deleted(topic, place, pair.seq);
    *out = (struct ring_run){.pairs = pair.pairs, .seq = pair.seq, .count = 1};
    is_newest = is_newest && (is_set || record_is_newest(topic, now, out, &newest));
    return is_newest && (feed_filter(feed) == NULL || filter_wants(topic, feed, out));
}

static uint64_t place_seq(const struct recall *recall, const struct recall_place *place)
{
    const struct fold_changes *changes = &recall->changes;
    bool is_set = place->index < changes->count && changes->items[place->index].seq < place->deleted.seq;
    return is_set ? changes->items[place->index].seq : place->deleted.seq;
}

/* Puts a pair behind the run's, in a page of its own: what is on its way to a subscriber must not keep a leaf of state
 * for it, which would be copied with the next write. A large pair has its block to itself, and is sent as it stands;
 * so is one that there is no page for. False: it does not fit. */
static bool run_append(struct topic *topic, struct recall *recall, const struct ring_run *record,
                       struct recall_walk *walk)
{
    struct ring_run *run = &walk->run;
    uint32_t size = record->pairs.size;
    bool is_alone = size > MAP_LARGE_SIZE;
    bool has_room = !msg_is_none(recall->page) && recall->page_used + size <= RECALL_PAGE;
    bool is_in_page = run->pairs.block.bits == recall->page.bits;
    if (run->count > 0 && (is_alone || !is_in_page || !has_room || run->pairs.size + size > walk->size_max))
        return false;
    if (!is_alone && !has_room) {
        arena_drop(topic->arena, recall->page);
        recall->page = WEIR_MSG_NONE;
        recall->page_used = 0;
        is_alone = arena_alloc(topic->arena, RECALL_PAGE, topic->common->feeds_budget, &recall->page) != WEIR_OK;
    }
    if (is_alone) {
        *run = *record;
        return true;
    }
    const uint8_t *from = arena_data(topic->arena, record->pairs.block);
    uint8_t *page = arena_data(topic->arena, recall->page);
    memcpy(page + recall->page_used, from + record->pairs.offset, size);
    if (run->count++ == 0)
        *run = (struct ring_run){{recall->page, recall->page_used, 0}, record->seq, 1};
    run->pairs.size += size;
    recall->page_used += size;
    return true;
}

/* Walks over what is left out, and then over what can be sent in one run; stops in front of it while what was left out
 * is still to be told. */
static void recall_walk(struct topic *topic, struct feed *feed, struct recall_walk *walk)
{
    struct recall *recall = feed->stage->as.live.recall;
    struct recall_place place = {.index = change_find(&recall->changes, feed->cursor.seq)};
    struct fold_snapshot now;
    uint32_t looks = 0;
    topic->fold.ops->capture(&topic->fold, &now);
    place_deleted(topic, &place, feed->cursor.seq - 1);
    for (; looks < CONFLATE_LOOKS_MAX; looks++) {
        uint64_t seq = place_seq(recall, &place), next = feed->cursor.seq + walk->run.count;
        struct ring_run record;
        bool is_there = seq <= walk->to;
        if (walk->run.count > 0 && (!is_there || seq != next))
            break;
        if (walk->run.count == 0)
            feed_pass(feed, is_there ? seq : walk->to + 1);
        if (!is_there)
            break;
        bool is_wanted = place_next(topic, feed, &now, &place, &record);
        if (!is_wanted && walk->run.count == 0) {
            feed_pass(feed, seq + 1);
            continue;
        }
        walk->is_found = true;
        if (!is_wanted || feed->stage->as.live.conflated_from != 0 || !run_append(topic, recall, &record, walk))
            break;
    }
    topic->fold.ops->release(&topic->fold, &now);
    topic->looks += looks * CONFLATE_LOOKS_SEND;
}

/* In a topic of kind `last` the ring's records have replaced all before them. */
static enum step step_recall_last(struct topic *topic, struct feed *feed)
{
    feed_pass(feed, topic->ring.seq_first);
    recall_settle(topic, feed);
    return STEP_SENT;
}

enum step step_recall(struct turn *turn, struct topic *topic, struct feed *feed, size_t size_max)
{
    if (!feed_stage_ensure(topic, feed))
        return STEP_SENT;
    if (topic->fold.rule->kind == TOPIC_LAST)
        return step_recall_last(topic, feed);
    if (feed->is_recalling && !recall_covers(feed->stage->as.live.recall, feed->cursor.seq))
        recall_leave(topic, feed); /* it was cut when it was made */
    if (!feed->is_recalling && !recall_enter(topic, feed)) {
        feed_start_over(topic, feed);
        return STEP_SENT;
    }
    if (recall_is_making(feed))
        return STEP_SENT; /* what it is made by comes first in a step */
    struct recall_walk walk = {.to = feed->stage->as.live.recall->to, .size_max = size_max};
    if (feed_interval_ns(feed) && feed->stage->extra->batch_to < walk.to)
        walk.to = feed->stage->extra->batch_to;
    recall_walk(topic, feed, &walk);
    if (walk.run.count > 0) {
        enum step step = step_send_slice(turn, feed, TOPIC_UPDATES, walk.run.pairs, walk.run.count, walk.run.seq);
        if (step != STEP_SENT)
            return step;
        feed->credit -= (int32_t)walk.run.pairs.size;
        feed->cursor.seq += walk.run.count;
        filter_told(feed);
    }
    recall_settle(topic, feed);
    return feed->stage->as.live.conflated_from && walk.is_found ? step_conflated(turn, feed) : STEP_SENT;
}
