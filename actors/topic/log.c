/* Kind log: state is the newest records, in the ring's own pages, which it holds by reference. The pages are listed in
 * segments, the segments in a root. A snapshot holds the root. Appending to the last segment and leaving pages behind
 * at the front change nothing that a snapshot looks at (it knows its first and last pair), so only the root is ever
 * copied on write, when a segment comes or goes. While one is out, pages are given back a segment at a time.
 *
 * A root that nobody holds any more is given back a few pages at a time.
 *
 * `shares` counts the roots that list a segment, and the fold and the snapshots that hold a root; only the topic's turn
 * touches it. */
#include "actors/topic/fold.h"

#include "actors/base/assert.h"
#include "actors/topic/topic_limits.h"

#define LOG_ROOT_MIN 4u

/* Pairs `first`..`first + count - 1` of one page of the ring. */
struct log_page {
    weir_msg block;
    uint32_t first, count, capacity;
    uint32_t end; /* offset behind the last pair */
};

struct log_segment {
    uint32_t shares, count;
    uint32_t swept; /* pages that were given back, of a dead root's last */
    struct log_page pages[LOG_SEGMENT_PAGES];
};

struct log_root {
    uint32_t shares, count, capacity;
    uint32_t swept;     /* dead: segments that were given back */
    weir_msg next_dead; /* in the fold's list */
    weir_msg segments[];
};

static struct log_root *log_root(const struct fold *fold, weir_msg root) { return arena_data(fold->arena, root); }

static struct log_segment *log_segment(const struct fold *fold, const struct log_root *root, uint32_t index)
{
    return arena_data(fold->arena, root->segments[index]);
}

static void log_segment_release(struct fold *fold, weir_msg block)
{
    struct log_segment *segment = arena_data(fold->arena, block);
    if (--segment->shares > 0)
        return;
    for (uint32_t i = 0; i < segment->count; i++)
        arena_drop(fold->arena, segment->pages[i].block);
    arena_drop(fold->arena, block);
}

/* One that nobody holds any more may be the last to hold thousands of pages: log_sweep takes it apart. */
static void log_root_release(struct fold *fold, weir_msg block)
{
    if (msg_is_none(block))
        return;
    struct log_root *root = log_root(fold, block);
    if (--root->shares > 0)
        return;
    root->next_dead = fold->as.log.dead;
    fold->as.log.dead = block;
}

/* What one call of log_sweep may do yet. */
struct log_sweep {
    uint32_t steps;
    uint64_t returns_max;
};

static bool sweep_is_over(const struct fold *fold, const struct log_sweep *sweep)
{
    return sweep->steps == 0 || arena_returns(fold->arena) >= sweep->returns_max;
}

static void sweep_take(struct log_sweep *sweep, uint32_t steps)
{
    sweep->steps -= steps < sweep->steps ? steps : sweep->steps;
}

/* False: some pages are left. */
static bool log_segment_sweep(struct fold *fold, weir_msg block, struct log_sweep *sweep)
{
    struct log_segment *segment = arena_data(fold->arena, block);
    if (segment->shares > 1) {
        segment->shares--;
        sweep_take(sweep, 1);
        return true;
    }
    while (segment->swept < segment->count) {
        if (sweep_is_over(fold, sweep))
            return false;
        arena_drop(fold->arena, segment->pages[segment->swept++].block);
        sweep_take(sweep, MAP_SWEEP_FREE_STEPS);
    }
    arena_drop(fold->arena, block);
    return true;
}

static bool log_sweep(struct fold *fold, uint32_t steps)
{
    struct log_sweep sweep = {steps, arena_returns(fold->arena) + MAP_SWEEP_RETURNS_MAX};
    while (!msg_is_none(fold->as.log.dead)) {
        weir_msg block = fold->as.log.dead;
        struct log_root *root = log_root(fold, block);
        while (root->swept < root->count) {
            if (sweep_is_over(fold, &sweep) || !log_segment_sweep(fold, root->segments[root->swept], &sweep))
                return true;
            root->swept++;
        }
        fold->as.log.dead = root->next_dead;
        arena_drop(fold->arena, block);
    }
    return false;
}

/* Puts a root of our own in place of a shared or full one, without the segments before `from`. */
static enum weir_error log_root_renew(struct fold *fold, uint32_t from, uint32_t capacity)
{
    struct log_root *old = msg_is_none(fold->as.log.root) ? NULL : log_root(fold, fold->as.log.root);
    weir_msg block;
    enum weir_error error = arena_alloc(fold->arena, sizeof *old + capacity * sizeof(weir_msg), fold->budget, &block);
    if (error)
        return error;
    struct log_root *root = arena_data(fold->arena, block);
    *root = (struct log_root){.shares = 1, .capacity = capacity};
    for (uint32_t i = from; old != NULL && i < old->count; i++) {
        root->segments[root->count++] = old->segments[i];
        log_segment(fold, old, i)->shares++;
    }
    log_root_release(fold, fold->as.log.root);
    fold->as.log.root = block;
    fold->as.log.first.segment -= from;
    return WEIR_OK;
}

static enum weir_error log_segment_push(struct fold *fold)
{
    struct log_root *root = msg_is_none(fold->as.log.root) ? NULL : log_root(fold, fold->as.log.root);
    if (root == NULL || root->shares > 1 || root->count == root->capacity) {
        uint32_t from = fold->as.log.first.segment;
        uint32_t count = root ? root->count - from : 0;
        uint32_t capacity = LOG_ROOT_MIN;
        while (capacity < 2 * count)
            capacity *= 2;
        enum weir_error error = log_root_renew(fold, from, capacity);
        if (error)
            return error;
        root = log_root(fold, fold->as.log.root);
    }
    weir_msg block;
    enum weir_error error = arena_alloc(fold->arena, sizeof(struct log_segment), fold->budget, &block);
    if (error)
        return error;
    struct log_segment *segment = arena_data(fold->arena, block);
    segment->shares = 1;
    segment->count = segment->swept = 0;
    root->segments[root->count++] = block;
    return WEIR_OK;
}

/* Drops segments that lie wholly before the first record, where no snapshot shares the root: else they wait for the
 * next root. */
static void log_segments_shed(struct fold *fold)
{
    struct log_root *root = log_root(fold, fold->as.log.root);
    uint32_t gone = fold->as.log.first.segment;
    if (gone == 0 || root->shares > 1)
        return;
    for (uint32_t i = 0; i < gone; i++)
        log_segment_release(fold, root->segments[i]);
    root->count -= gone;
    memmove(root->segments, root->segments + gone, root->count * sizeof root->segments[0]);
    fold->as.log.first.segment = 0;
}

static uint32_t log_pair_end(struct fold *fold, const struct log_page *page, uint32_t pair)
{
    uint8_t *data = arena_data(fold->arena, page->block);
    return pair + 1 == page->count ? page->end : page_mark_at(data, page->capacity, page->first + pair + 1)->offset;
}

static const struct page_mark *log_first_mark(struct fold *fold, const struct log_page **page_out)
{
    struct log_place at = fold->as.log.first;
    const struct log_page *page = &log_segment(fold, log_root(fold, fold->as.log.root), at.segment)->pages[at.page];
    *page_out = page;
    return page_mark_at(arena_data(fold->arena, page->block), page->capacity, page->first + at.pair);
}

static void log_first_drop(struct fold *fold)
{
    struct log_place *at = &fold->as.log.first;
    const struct log_page *page;
    uint32_t offset = log_first_mark(fold, &page)->offset;
    fold->bytes -= log_pair_end(fold, page, at->pair) - offset;
    fold->entries--;
    if (++at->pair < page->count)
        return;
    const struct log_root *root = log_root(fold, fold->as.log.root);
    struct log_segment *segment = log_segment(fold, root, at->segment);
    /* The last page of all stays: the next record may stand right behind. */
    if (at->page + 1 < segment->count) {
        if (root->shares == 1 && segment->shares == 1) {
            arena_drop(fold->arena, page->block);
            segment->pages[at->page].block = WEIR_MSG_NONE;
        }
        at->page++;
        at->pair = 0;
    } else if (at->segment + 1 < root->count) {
        *at = (struct log_place){.segment = at->segment + 1};
        log_segments_shed(fold);
    }
}

static size_t log_bytes_max(const struct fold *fold)
{
    size_t log = fold->rule->log_bytes_max, state = fold->rule->state_bytes_max;
    return log == 0 || (state != 0 && state < log) ? state : log;
}

static enum weir_error log_append(struct fold *fold, const struct cell *cell)
{
    struct log_root *root = msg_is_none(fold->as.log.root) ? NULL : log_root(fold, fold->as.log.root);
    struct log_segment *segment = root && root->count ? log_segment(fold, root, root->count - 1) : NULL;
    struct log_page *page = segment && segment->count ? &segment->pages[segment->count - 1] : NULL;
    if (page == NULL || page->block.bits != cell->block.bits) {
        if (segment == NULL || segment->count == LOG_SEGMENT_PAGES) {
            enum weir_error error = log_segment_push(fold);
            if (error)
                return error;
            root = log_root(fold, fold->as.log.root);
            segment = log_segment(fold, root, root->count - 1);
        }
        enum weir_error error = arena_hold(fold->arena, cell->block);
        if (error)
            return error;
        page = &segment->pages[segment->count++];
        *page = (struct log_page){.block = cell->block, .first = cell->index, .capacity = cell->capacity};
    }
    INVARIANT(page->first + page->count == cell->index);
    page->count++;
    page->end = cell->offset + cell->size;
    return WEIR_OK;
}

/* An empty log starts at the record that comes next; what lies before it is of no use to anyone but snapshots. */
static void log_first_move(struct fold *fold)
{
    const struct log_root *root = log_root(fold, fold->as.log.root);
    const struct log_segment *segment = log_segment(fold, root, root->count - 1);
    const struct log_page *page = &segment->pages[segment->count - 1];
    fold->as.log.first = (struct log_place){root->count - 1, segment->count - 1, page->count - 1};
    log_segments_shed(fold);
}

static void log_expire(struct fold *fold, uint32_t now_ms)
{
    uint64_t age_max = fold->rule->log_age_max_ms;
    const struct log_page *page;
    while (age_max && fold->entries && (uint32_t)(now_ms - log_first_mark(fold, &page)->time_ms) > age_max)
        log_first_drop(fold);
}

static enum weir_error log_apply(struct fold *fold, const struct cell *cell)
{
    size_t bytes_max = log_bytes_max(fold);
    if (bytes_max && cell->size > bytes_max)
        return WEIR_TOO_BIG;
    enum weir_error error = log_append(fold, cell);
    if (error)
        return error;
    fold->bytes += cell->size;
    if (fold->entries++ == 0)
        log_first_move(fold);
    size_t count_max = fold->rule->log_count_max;
    while ((count_max && fold->entries > count_max) || (bytes_max && fold->bytes > bytes_max))
        log_first_drop(fold);
    log_expire(fold, cell->time_ms);
    return WEIR_OK;
}

static void log_capture(struct fold *fold, struct fold_snapshot *out)
{
    *out = (struct fold_snapshot){.entries = fold->entries, .bytes = fold->bytes};
    if (fold->entries == 0)
        return;
    out->root = fold->as.log.root;
    out->first = fold->as.log.first;
    log_root(fold, out->root)->shares++;
}

/* The cursor's position counts from the snapshot's first: segment, page, pair. */
static enum weir_error log_read(struct fold *fold, const struct fold_snapshot *snapshot, struct fold_cursor *cursor,
                                size_t size_max, struct fold_run *out)
{
    if (cursor->done >= snapshot->entries)
        return WEIR_AGAIN;
    struct log_place at = {cursor->position[0], cursor->position[1], cursor->position[2]};
    if (cursor->done == 0)
        at = snapshot->first;
    const struct log_root *root = log_root(fold, snapshot->root);
    const struct log_segment *segment = log_segment(fold, root, at.segment);
    const struct log_page *page = &segment->pages[at.page];
    uint8_t *data = arena_data(fold->arena, page->block);
    /* The last page may have got more pairs since; the snapshot's count says where it ends. */
    size_t left = snapshot->entries - cursor->done;
    uint32_t count = page->count - at.pair < left ? page->count : at.pair + (uint32_t)left;
    uint32_t end = log_pair_end(fold, page, count - 1);
    uint32_t start = page_mark_at(data, page->capacity, page->first + at.pair)->offset;
    uint32_t taken = page_pairs_within(data, page->capacity, page->first + at.pair, page->first + count, end, size_max);
    *out = (struct fold_run){.pairs = {page->block, start, log_pair_end(fold, page, at.pair + taken - 1) - start},
                             .count = taken};
    cursor->done += taken;
    at.pair += taken;
    if (at.pair == page->count) {
        at.pair = 0;
        if (++at.page == segment->count)
            at = (struct log_place){.segment = at.segment + 1};
    }
    *cursor = (struct fold_cursor){.position = {at.segment, at.page, at.pair}, .done = cursor->done};
    return WEIR_OK;
}

static void log_release(struct fold *fold, struct fold_snapshot *snapshot)
{
    log_root_release(fold, snapshot->root);
    *snapshot = (struct fold_snapshot){.entries = 0};
}

static void log_clear(struct fold *fold)
{
    log_root_release(fold, fold->as.log.root);
    fold->as.log.root = WEIR_MSG_NONE;
    fold->as.log.first = (struct log_place){0, 0, 0};
    fold->bytes = fold->entries = 0;
}

const struct fold_ops fold_log = {
    .name = "log",
    .apply = log_apply,
    .expire = log_expire,
    .capture = log_capture,
    .read = log_read,
    .release = log_release,
    .sweep = log_sweep,
    .clear = log_clear,
};
