/* The ring of updates, see ring.h. In the topic's turn. */
#include "actors/topic/ring.h"

#include "actors/base/assert.h"
#include "actors/runtime/actor.h"
#include "actors/topic/topic_limits.h"

#define RING_TABLE_MIN 2u

static const struct ring_page *ring_page(const struct ring *ring, uint64_t number)
{
    return number + 1 == ring->tail ? &ring->last : &ring->pages[number & (ring->table_count - 1)];
}

static const struct ring_page *ring_tail(const struct ring *ring)
{
    return ring->tail == ring->head ? NULL : &ring->last;
}

static uint8_t *ring_page_data(const struct ring *ring, uint64_t number)
{
    if (number + 1 == ring->tail && ring->last_data != NULL)
        return ring->last_data;
    return arena_data(ring->arena, ring_page(ring, number)->block);
}

void ring_init(struct ring *ring, struct arena *arena, struct budget *budget, size_t count_max, size_t bytes_max,
               size_t alone_size)
{
    *ring = (struct ring){.arena = arena, .budget = budget};
    ring->count_max = count_max ? count_max : RETAIN_COUNT_DEFAULT;
    ring->bytes_max = bytes_max ? bytes_max : RETAIN_BYTES_DEFAULT;
    if (ring->bytes_max < RETAIN_BYTES_MIN)
        ring->bytes_max = RETAIN_BYTES_MIN;
    size_t page_size_max = ring->bytes_max / RING_PAGES_MIN;
    if (page_size_max > RING_PAGE_SIZE_MAX)
        page_size_max = RING_PAGE_SIZE_MAX;
    if (page_size_max < RING_PAGE_SIZE_MIN)
        page_size_max = RING_PAGE_SIZE_MIN;
    ring->page_size_max = (uint32_t)page_size_max;
    /* A page takes at least four pairs, so that its slack stays below a quarter. */
    ring->alone_size = (uint32_t)(alone_size && alone_size < page_size_max / 4 ? alone_size : page_size_max / 4);
    ring->keep_page = UINT64_MAX;
    ring->seq_first = 1;
}

static void ring_evict(struct ring *ring)
{
    const struct ring_page *page = ring_page(ring, ring->head);
    ring->bytes -= page->capacity;
    arena_drop(ring->arena, page->block);
    ring->head++;
}

static void dead_drop(struct ring *ring)
{
    struct ring_dead *dead = &ring->dead;
    arena_drop(ring->arena, dead->pages[dead->head++ & (dead->table_count - 1)].block);
    if (dead->head != dead->tail)
        return;
    arena_drop(ring->arena, dead->table);
    *dead = (struct ring_dead){.head = 0};
}

bool ring_sweep(struct ring *ring, uint32_t pages)
{
    uint64_t returns_max = arena_returns(ring->arena) + MAP_SWEEP_RETURNS_MAX;
    for (; pages > 0 && ring->dead.head != ring->dead.tail && arena_returns(ring->arena) < returns_max; pages--)
        dead_drop(ring);
    return ring->dead.head != ring->dead.tail;
}

static void dead_free(struct ring *ring)
{
    while (ring->dead.head != ring->dead.tail)
        dead_drop(ring);
}

void ring_fini(struct ring *ring)
{
    if (ring->arena == NULL)
        return;
    while (ring->head != ring->tail)
        ring_evict(ring);
    dead_free(ring);
    arena_drop(ring->arena, ring->table);
    *ring = (struct ring){.arena = NULL};
}

void ring_shrink(struct ring *ring, size_t bytes_max)
{
    while (ring->bytes > bytes_max && ring->head < ring->tail && ring->head < ring->keep_page) {
        ring_evict(ring);
        ring->seq_first = ring->head == ring->tail ? ring->seq_last + 1 : ring_page(ring, ring->head)->first_seq;
    }
}

void ring_clear(struct ring *ring, uint64_t seq_last)
{
    dead_free(ring); /* of one that was cleared just before, and has had no time to fill */
    if (ring->head != ring->tail)
        arena_drop(ring->arena, ring->last.block);
    if (ring->tail - ring->head <= 1) /* and so the table holds none */
        arena_drop(ring->arena, ring->table);
    else
        ring->dead = (struct ring_dead){ring->pages, ring->table, ring->head, ring->tail - 1, ring->table_count};
    ring->pages = NULL;
    ring->table = WEIR_MSG_NONE;
    ring->table_count = 0;
    ring->head = ring->tail; /* numbers are never used again */
    ring->last_data = NULL;
    ring->bytes = 0;
    ring->seq_last = seq_last;
    ring->seq_first = seq_last + 1;
}

static enum weir_error ring_table_grow(struct ring *ring)
{
    uint32_t count = ring->table_count ? ring->table_count * 2 : RING_TABLE_MIN;
    weir_msg block;
    enum weir_error error = arena_alloc(ring->arena, count * sizeof(struct ring_page), ring->budget, &block);
    if (error)
        return error;
    struct ring_page *pages = arena_data(ring->arena, block);
    for (uint64_t n = ring->head; n + 1 < ring->tail; n++)
        pages[n & (count - 1)] = *ring_page(ring, n);
    arena_drop(ring->arena, ring->table);
    ring->table = block;
    ring->pages = pages;
    ring->table_count = count;
    return WEIR_OK;
}

static enum weir_error ring_block_alloc(struct ring *ring, size_t size, weir_msg *out)
{
    enum weir_error error = arena_alloc(ring->arena, size, ring->budget, out);
    for (int i = 0; error == WEIR_NO_MEMORY && i < RING_RELIEF_MAX; i++) {
        if (ring->head + 1 >= ring->tail || ring->head >= ring->keep_page)
            break;
        ring_evict(ring);
        ring->seq_first = ring_page(ring, ring->head)->first_seq;
        error = arena_alloc(ring->arena, size, ring->budget, out);
    }
    return error;
}

/* Pages grow with what is retained, so that the last one, filled or not, is a third of it at the most; and where large
 * pairs come between small ones, with what came between the last two. One must take any pair that is not alone. */
static size_t ring_page_size(const struct ring *ring, size_t pair_size)
{
    const struct ring_page *last = ring_tail(ring);
    size_t size = last != NULL && last->is_alone ? 2 * ring->alone_after : ring->bytes / 2;
    size = size < RING_PAGE_SIZE_MIN ? RING_PAGE_SIZE_MIN : size;
    size = size < ring->page_size_max ? size : ring->page_size_max;
    while (size < pair_size + sizeof(struct page_mark))
        size *= 2;
    return (size + 7) & ~(size_t)7; /* marks are aligned: a capacity is rounded down, the pair must fit all the same */
}

/* A block for a page: as large as is good, else as small as will do. One for a record with nil, which as a rule deletes
 * something, is had beyond the budget as well: used up memory must not keep others from giving some back. As its
 * predecessors are evicted first, there are never more than two of these in a ring. */
static enum weir_error ring_page_alloc(struct ring *ring, size_t pair_size, bool is_alone, bool is_nil, weir_msg *out)
{
    size_t least = ((pair_size + 7) & ~(size_t)7) + sizeof(struct page_mark);
    size_t size = is_alone ? least : ring_page_size(ring, pair_size);
    enum weir_error error = ring_block_alloc(ring, size, out);
    if (!is_alone && least < RING_PAGE_SIZE_MIN)
        least = RING_PAGE_SIZE_MIN;
    if (error == WEIR_NO_MEMORY && least < size)
        error = ring_block_alloc(ring, least, out);
    if (error == WEIR_NO_MEMORY && is_nil)
        error = arena_alloc(ring->arena, least, NULL, out);
    return error;
}

/* How much was in the page before one that is for a pair alone. */
static void ring_note_alone(struct ring *ring)
{
    const struct ring_page *last = ring_tail(ring);
    if (last == NULL || !last->is_alone)
        ring->alone_after = last == NULL ? 0 : last->used + last->count * (uint32_t)sizeof(struct page_mark);
}

/* A new last page with room for a pair: for that one alone, or for many. */
static enum weir_error ring_page_push(struct ring *ring, size_t pair_size, bool is_alone, bool is_nil)
{
    if (ring->tail - ring->head > ring->table_count) {
        enum weir_error error = ring_table_grow(ring);
        if (error)
            return error;
    }
    weir_msg block;
    enum weir_error error = ring_page_alloc(ring, pair_size, is_alone, is_nil, &block);
    if (error)
        return error;
    if (is_alone)
        ring_note_alone(ring);
    struct ring_page *page = &ring->last;
    if (ring->tail != ring->head)
        ring->pages[(ring->tail - 1) & (ring->table_count - 1)] = *page;
    *page = (struct ring_page){.block = block, .first_seq = ring->seq_last + 1, .weight = ring->weight};
    page->capacity = (uint32_t)(arena_capacity(ring->arena, block) & ~(size_t)7);
    page->is_alone = is_alone;
    ring->bytes += page->capacity;
    ring->last_data = arena_data(ring->arena, block);
    ring->tail++;
    return WEIR_OK;
}

static bool ring_page_fits(const struct ring_page *page, size_t size)
{
    size_t marks = ((size_t)page->count + 1) * sizeof(struct page_mark);
    return !page->is_alone && page->used + size + marks <= page->capacity;
}

enum weir_error ring_reserve(struct ring *ring, struct view key, struct view value, uint32_t time_ms, struct cell *out)
{
    size_t key_size = key.size ? key.size : 1;
    if (value.size > RECORD_SIZE_MAX - key_size)
        return WEIR_TOO_BIG;
    size_t size = key_size + value.size;
    bool is_alone = size > ring->alone_size;
    const struct ring_page *page = ring_tail(ring);
    if (page == NULL || is_alone || !ring_page_fits(page, size)) {
        enum weir_error error = ring_page_push(ring, size, is_alone, value_is_nil(value));
        if (error)
            return error;
        page = ring_tail(ring);
    }
    ENSURE(page->used + size + (page->count + 1) * sizeof(struct page_mark) <= page->capacity);
    uint8_t *data = ring_page_data(ring, ring->tail - 1);
    uint8_t *pair = data + page->used;
    if (key.size)
        memcpy(pair, key.data, key.size);
    else
        pair[0] = MSGPACK_NIL;
    memcpy(pair + key_size, value.data, value.size);
    *page_mark_at(data, page->capacity, page->count) = (struct page_mark){page->used, time_ms};
    *out = (struct cell){.block = page->block,
                         .data = pair,
                         .offset = page->used,
                         .size = (uint32_t)size,
                         .key_size = (uint32_t)key.size,
                         .index = page->count,
                         .capacity = page->capacity,
                         .time_ms = time_ms,
                         .seq = ring->seq_last + 1,
                         .is_alone = page->is_alone};
    return WEIR_OK;
}

static void ring_trim(struct ring *ring)
{
    uint64_t wanted = ring->seq_last >= ring->count_max ? ring->seq_last - ring->count_max + 1 : 1;
    while (ring->head + 1 < ring->tail && ring->head < ring->keep_page) {
        const struct ring_page *page = ring_page(ring, ring->head);
        if (ring->bytes <= ring->bytes_max && page->first_seq + page->count > wanted)
            break;
        ring_evict(ring);
    }
    uint64_t first = ring_page(ring, ring->head)->first_seq;
    ring->seq_first = first > wanted || ring->head >= ring->keep_page ? first : wanted;
}

void ring_commit(struct ring *ring, const struct cell *cell)
{
    struct ring_page *page = &ring->last;
    INVARIANT(ring->head != ring->tail && page->count == cell->index);
    page->count++;
    page->used += cell->size;
    ring->seq_last++;
    ring->weight += cell->size + sizeof(struct page_mark);
    ring_trim(ring);
}

AHEAD void ring_ahead(const struct ring *ring)
{
    const uint8_t *data = __atomic_load_n(&ring->last_data, __ATOMIC_RELAXED);
    uint32_t used = __atomic_load_n(&ring->last.used, __ATOMIC_RELAXED);
    uint32_t count = __atomic_load_n(&ring->last.count, __ATOMIC_RELAXED);
    uint32_t capacity = __atomic_load_n(&ring->last.capacity, __ATOMIC_RELAXED);
    if (data == NULL)
        return;
    __builtin_prefetch(data - ARENA_BLOCK_OVERHEAD); /* to be held for whom it is sent to */
    __builtin_prefetch(data + used, 1);
    __builtin_prefetch(data + used + 64, 1);
    __builtin_prefetch(data + capacity - ((size_t)count + 1) * sizeof(struct page_mark), 1);
}

void ring_cancel(struct ring *ring)
{
    const struct ring_page *page = ring_tail(ring);
    if (page == NULL || page->count > 0)
        return;
    ring->bytes -= page->capacity;
    arena_drop(ring->arena, page->block);
    ring->last_data = NULL;
    ring->tail--;
    if (ring->tail != ring->head)
        ring->last = ring->pages[(ring->tail - 1) & (ring->table_count - 1)];
}

struct ring_cursor ring_end(const struct ring *ring)
{
    const struct ring_page *page = ring_tail(ring);
    if (page == NULL)
        return (struct ring_cursor){.seq = ring->seq_last + 1, .page = ring->tail};
    return (struct ring_cursor){.seq = ring->seq_last + 1, .page = ring->tail - 1};
}

enum weir_error ring_find(const struct ring *ring, uint64_t seq, struct ring_cursor *out)
{
    if (seq < ring->seq_first || seq > ring->seq_last + 1)
        return WEIR_NOT_FOUND;
    *out = ring_end(ring);
    if (seq == ring->seq_last + 1)
        return WEIR_OK;
    uint64_t low = ring->head, high = ring->tail - 1; /* the last page that starts at seq or before */
    while (low < high) {
        uint64_t middle = low + (high - low + 1) / 2;
        if (ring_page(ring, middle)->first_seq <= seq)
            low = middle;
        else
            high = middle - 1;
    }
    *out = (struct ring_cursor){.seq = seq, .page = low};
    return WEIR_OK;
}

/* Of which pair of the page a cursor is. */
static uint32_t pair_index(const struct ring_page *page, uint64_t seq) { return (uint32_t)(seq - page->first_seq); }

/* The cursor's page may have gone meanwhile, or end before it with another one behind. */
static struct ring_cursor ring_cursor_mend(const struct ring *ring, struct ring_cursor cursor)
{
    if (cursor.page < ring->head) {
        enum weir_error error = ring_find(ring, cursor.seq, &cursor);
        INVARIANT(error == WEIR_OK);
    }
    while (cursor.page + 1 < ring->tail && cursor.seq >= ring_page(ring, cursor.page + 1)->first_seq)
        cursor.page++;
    return cursor;
}

bool ring_next(const struct ring *ring, struct ring_cursor *cursor, size_t size_max, struct ring_run *out)
{
    REQUIRE(ring_has(ring, cursor));
    if (cursor->seq > ring->seq_last)
        return false;
    struct ring_cursor at = ring_cursor_mend(ring, *cursor);
    const struct ring_page *page = ring_page(ring, at.page);
    INVARIANT(at.seq >= page->first_seq && at.seq - page->first_seq < page->count);
    uint8_t *data = ring_page_data(ring, at.page);
    uint32_t index = pair_index(page, at.seq), start = page_mark_at(data, page->capacity, index)->offset;
    uint32_t count = page_pairs_within(data, page->capacity, index, page->count, page->used, size_max);
    uint32_t end =
        index + count == page->count ? page->used : page_mark_at(data, page->capacity, index + count)->offset;
    *out = (struct ring_run){.pairs = {page->block, start, end - start}, .seq = at.seq, .count = count};
    *cursor = (struct ring_cursor){.seq = at.seq + count, .page = at.page};
    return true;
}

uint64_t ring_lag(const struct ring *ring, const struct ring_cursor *cursor)
{
    if (cursor->seq > ring->seq_last)
        return 0;
    struct ring_cursor at = ring_cursor_mend(ring, *cursor);
    const struct ring_page *page = ring_page(ring, at.page);
    uint8_t *data = ring_page_data(ring, at.page);
    uint32_t index = pair_index(page, at.seq);
    uint32_t start = index < page->count ? page_mark_at(data, page->capacity, index)->offset : page->used;
    return ring->weight - page->weight - start - (uint64_t)index * sizeof(struct page_mark);
}
