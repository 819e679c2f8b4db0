/* Feeds of a part of their topic: of one key, of keys with a prefix, or of one page of a snapshot. Entries and updates
 * that do not match are passed over without credit, a bounded number in each step. What such feeds have beside the
 * others is made here, with what else only some need. In the topic's turns. */
#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/topic/map_leaf.h"
#include "actors/topic/state.h"

enum weir_error feed_extra_open(struct topic *topic, const struct topic_subscribe *subscribe, struct feed_extra **out)
{
    const struct topic_part *part = &subscribe->part;
    bool is_filtered = part->match != KEY_ANY || part->page_entries_max > 0;
    bool is_watched = subscribe->policy == POLICY_BLOCK || subscribe->policy == POLICY_DISCONNECT;
    uint64_t interval_ns = subscribe->policy == POLICY_CONFLATE ? subscribe->interval_ms * NS_PER_MS : 0;
    *out = NULL;
    if (!is_filtered && !is_watched && interval_ns == 0 && subscribe->outbox_max == 0)
        return WEIR_OK;
    size_t size = sizeof(struct feed_extra) + (is_filtered ? sizeof(struct feed_filter) + topic_part_size(part) : 0);
    weir_msg block;
    enum weir_error error = topic_limits_ensure(topic);
    if (!error)
        error = arena_alloc(topic->arena, size, topic->common->feeds_budget, &block);
    if (error)
        return error;
    struct feed_extra *extra = arena_data(topic->arena, block);
    *extra = (struct feed_extra){.block = block,
                                 .outbox_max = subscribe->outbox_max ? subscribe->outbox_max : UINT64_MAX,
                                 .interval_ns = interval_ns,
                                 .block_ns = subscribe->block_ms * NS_PER_MS,
                                 .watch_next = FEED_NONE,
                                 .watch_prev = FEED_NONE};
    if (is_filtered) {
        extra->filter = (struct feed_filter *)(void *)(extra + 1);
        *extra->filter = (struct feed_filter){.part = *part};
        memcpy(extra->filter->keys, subscribe->keys, topic_part_size(part));
    }
    *out = extra;
    return WEIR_OK;
}

void feed_extra_close(struct topic *topic, struct feed *feed)
{
    if (feed_extra(feed) == NULL)
        return;
    if (feed->stage->extra->filter != NULL)
        arena_drop(topic->arena, feed->stage->extra->filter->page.block);
    arena_drop(topic->arena, feed->stage->extra->block);
    feed->stage->extra = NULL;
}

static struct view filter_key(const struct feed_filter *filter) { return view_of(filter->keys, filter->part.key_size); }

/* Whether the record that a pair is wants to be seen. */
static bool filter_matches(const struct feed_filter *filter, const uint8_t *pair, uint32_t size)
{
    if (pair[0] == MSGPACK_NIL)
        return filter->part.match == KEY_ANY;
    struct view text = leaf_pair_key_text(pair, size), wanted = leaf_key_text(filter_key(filter));
    return filter->part.match == KEY_IS ? view_is_same(text, wanted) : view_begins_with(text, wanted);
}

bool filter_wants(const struct topic *topic, const struct feed *feed, const struct ring_run *record)
{
    const uint8_t *data = arena_data(topic->arena, record->pairs.block);
    return filter_matches(feed_filter(feed), data + record->pairs.offset, record->pairs.size);
}

/* ------------------------------------------------------------------------------------------- snapshots */

/* One pair behind the other, since a fold's cursor stands between runs only. */
static enum weir_error entries_scan(struct topic *topic, struct feed *feed, size_t size_max, struct fold_run *out)
{
    const struct fold_snapshot *snapshot = &topic->joins->at[feed->join]->snapshot;
    *out = (struct fold_run){.count = 0};
    for (int step = 0; step < FILTER_LOOKS_MAX; step++) {
        struct fold_cursor before = feed->stage->as.entries;
        struct fold_run run;
        topic->looks++;
        enum weir_error error = topic->fold.ops->read(&topic->fold, snapshot, &feed->stage->as.entries, 0, &run);
        if (error)
            return out->count > 0 && error == WEIR_AGAIN ? WEIR_OK : error;
        const uint8_t *pair = run.count == 0 ? NULL : (uint8_t *)arena_data(topic->arena, run.pairs.block);
        bool is_match = pair != NULL && filter_matches(feed_filter(feed), pair + run.pairs.offset, run.pairs.size);
        if (!is_match && out->count > 0)
            return WEIR_OK;
        if (!is_match)
            continue;
        bool is_next = out->count > 0 && run.pairs.block.bits == out->pairs.block.bits &&
                       run.pairs.offset == out->pairs.offset + out->pairs.size &&
                       out->pairs.size + run.pairs.size <= size_max;
        if (out->count > 0 && !is_next) {
            feed->stage->as.entries = before;
            return WEIR_OK;
        }
        if (out->count++ == 0)
            out->pairs = run.pairs;
        else
            out->pairs.size += run.pairs.size;
    }
    return WEIR_OK;
}

enum weir_error filter_entries(struct topic *topic, struct feed *feed, size_t size_max, struct fold_run *out)
{
    const struct feed_filter *filter = feed_filter(feed);
    bool can_find = filter->part.match == KEY_IS && topic->fold.ops->find != NULL && feed->stage->as.entries.since == 0;
    if (!can_find)
        return entries_scan(topic, feed, size_max, out);
    if (feed->stage->as.entries.done++ > 0)
        return WEIR_AGAIN;
    return topic->fold.ops->find(&topic->fold, &topic->joins->at[feed->join]->snapshot, filter_key(filter), out);
}

enum weir_error filter_page(struct topic *topic, struct feed *feed)
{
    struct feed_filter *filter = feed_filter(feed);
    struct fold_page *page = &filter->page;
    if (filter->is_page_done || topic->fold.ops->page == NULL) /* of a kind without pages: one without entries */
        return WEIR_OK;
    if (!page->is_placed) {
        arena_drop(topic->arena, page->block); /* a resync begins anew */
        *page = (struct fold_page){.prefix = leaf_key_text(filter_key(filter)),
                                   .after = view_of(filter->keys + filter->part.key_size, filter->part.after_size),
                                   .entries_max = filter->part.page_entries_max,
                                   .bytes_max = filter->part.page_bytes_max};
    }
    topic->looks += MAP_PAGE_LOOKS;
    enum weir_error error =
        topic->fold.ops->page(&topic->fold, &topic->joins->at[feed->join]->snapshot, topic->common->feeds_budget, page);
    filter->is_page_done = error == WEIR_OK;
    return error;
}

/* --------------------------------------------------------------------------------------------- updates */

bool filter_skip(struct topic *topic, struct feed *feed)
{
    for (int step = 0; step < FILTER_LOOKS_MAX; step++) {
        struct ring_cursor before = feed->cursor;
        struct ring_run run;
        if (!ring_next(&topic->ring, &feed->cursor, 0, &run))
            return true;
        if (filter_wants(topic, feed, &run)) {
            feed->cursor = before;
            return true;
        }
    }
    topic->looks += FILTER_LOOKS_MAX;
    return false;
}

enum filter_ahead filter_look_ahead(struct topic *topic, struct feed *feed, const struct ring_cursor *behind,
                                    uint32_t *looks, uint32_t looks_max)
{
    struct ring_cursor *ahead = &feed_filter(feed)->ahead, at;
    struct ring_run run;
    if (ahead->seq < behind->seq)
        *ahead = *behind;
    for (at = *ahead; ring_next(&topic->ring, &at, 0, &run); *ahead = at) {
        if (*looks >= looks_max)
            return AHEAD_UNKNOWN;
        (*looks)++;
        if (filter_wants(topic, feed, &run))
            return AHEAD_WANTED;
    }
    return AHEAD_NONE;
}

void filter_cut(struct topic *topic, struct feed *feed, struct ring_cursor before, struct ring_run *run)
{
    struct ring_cursor at = before;
    struct ring_run one;
    uint32_t count = 0, size = 0;
    while (count < run->count && ring_next(&topic->ring, &at, 0, &one)) {
        if (!filter_wants(topic, feed, &one))
            break;
        feed->cursor = at;
        size += one.pairs.size;
        count++;
    }
    INVARIANT(count > 0);
    run->count = count;
    run->pairs.size = size;
}

void filters_progress(struct topic *topic)
{
    for (uint32_t slot = 0; slot < topic->feeds.used; slot++) {
        struct feed *feed = &topic->feeds.table[slot];
        if (feed->phase != FEED_LIVE || feed_filter(feed) == NULL ||
            feed->cursor.seq <= feed->stage->extra->filter->told_seq + 1)
            continue;
        feed->stage->extra->filter->is_progress_due = true;
        if (feed->list == LIST_IDLE)
            feeds_list(&topic->feeds, slot, LIST_READY);
    }
}
