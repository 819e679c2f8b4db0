/* The keys deleted from a map of late, see map_deleted.h. In the topic's turn. */
#include "actors/topic/map_deleted.h"

#include "actors/base/assert.h"
#include "actors/topic/page.h"
#include "actors/topic/topic_limits.h"

#define TABLE_MIN 4u

/* Pairs from the front, marks from the end. */
struct deleted_page {
    uint32_t count, used, capacity;
    uint8_t pairs[];
};

struct deleted_mark {
    uint64_t seq;
    uint32_t offset;
    uint32_t end;
};

static weir_msg *page_block(const struct map_deleted *deleted, struct arena *arena, uint32_t number)
{
    weir_msg *table = arena_data(arena, deleted->table);
    return &table[number & (deleted->table_count - 1)];
}

static struct deleted_page *page_at(const struct map_deleted *deleted, struct arena *arena, uint32_t number)
{
    return arena_data(arena, *page_block(deleted, arena, number));
}

static struct deleted_mark *mark_at(struct deleted_page *page, uint32_t index)
{
    return (struct deleted_mark *)(void *)((uint8_t *)page + page->capacity) - index - 1;
}

static void head_forget(struct map_deleted *deleted, struct arena *arena)
{
    struct deleted_page *page = page_at(deleted, arena, deleted->head);
    deleted->lost_seq = mark_at(page, page->count - 1)->seq;
    deleted->bytes -= page->capacity;
    arena_drop(arena, *page_block(deleted, arena, deleted->head));
    deleted->head++;
}

void map_deleted_clear(struct map_deleted *deleted, struct arena *arena)
{
    while (deleted->head != deleted->tail)
        head_forget(deleted, arena);
    arena_drop(arena, deleted->table);
    /* Numbers go on, so that a place in what is gone is not taken for one in what comes. */
    *deleted = (struct map_deleted){.head = deleted->tail, .tail = deleted->tail};
}

void map_deleted_forget(struct map_deleted *deleted, struct arena *arena, uint64_t seq)
{
    map_deleted_clear(deleted, arena);
    deleted->lost_seq = seq;
}

static enum weir_error table_grow(struct map_deleted *deleted, struct arena *arena, struct budget *budget)
{
    uint32_t count = deleted->table_count ? deleted->table_count * 2 : TABLE_MIN;
    weir_msg block;
    enum weir_error error = arena_alloc(arena, count * sizeof(weir_msg), budget, &block);
    if (error)
        return error;
    weir_msg *table = arena_data(arena, block);
    for (uint32_t n = deleted->head; n != deleted->tail; n++)
        table[n & (count - 1)] = *page_block(deleted, arena, n);
    arena_drop(arena, deleted->table);
    deleted->table = block;
    deleted->table_count = count;
    return WEIR_OK;
}

static bool page_has_room(const struct deleted_page *page, size_t size)
{
    size_t marks = ((size_t)page->count + 1) * sizeof(struct deleted_mark);
    return sizeof *page + page->used + size + marks <= page->capacity;
}

/* A new last page with room for a pair; pages grow as there is more to remember. */
static enum weir_error page_push(struct map_deleted *deleted, struct arena *arena, struct budget *budget,
                                 size_t pair_size)
{
    enum weir_error error = WEIR_OK;
    if (deleted->tail - deleted->head == deleted->table_count)
        error = table_grow(deleted, arena, budget);
    size_t size = deleted->bytes < MAP_DELETED_PAGE_MIN   ? MAP_DELETED_PAGE_MIN
                  : deleted->bytes < MAP_DELETED_PAGE_MAX ? deleted->bytes
                                                          : MAP_DELETED_PAGE_MAX;
    size_t need = sizeof(struct deleted_page) + pair_size + sizeof(struct deleted_mark) + 8;
    weir_msg block;
    if (!error)
        error = arena_alloc(arena, size > need ? size : need, budget, &block);
    if (error)
        return error;
    struct deleted_page *page = arena_data(arena, block);
    *page = (struct deleted_page){.capacity = (uint32_t)(arena_capacity(arena, block) & ~(size_t)7)};
    *page_block(deleted, arena, deleted->tail) = block;
    deleted->tail++;
    deleted->bytes += page->capacity;
    return WEIR_OK;
}

void map_deleted_add(struct map_deleted *deleted, struct arena *arena, struct budget *budget, struct view key,
                     uint64_t seq)
{
    size_t size = key.size + 1;
    bool is_there = deleted->head != deleted->tail;
    if (!is_there || !page_has_room(page_at(deleted, arena, deleted->tail - 1), size)) {
        if (size > MAP_DELETED_PAGE_MAX || page_push(deleted, arena, budget, size)) {
            map_deleted_forget(deleted, arena, seq);
            return;
        }
        while (deleted->bytes > MAP_DELETED_BYTES_MAX)
            head_forget(deleted, arena);
    }
    struct deleted_page *page = page_at(deleted, arena, deleted->tail - 1);
    memcpy(page->pairs + page->used, key.data, key.size);
    page->pairs[page->used + key.size] = MSGPACK_NIL;
    *mark_at(page, page->count) =
        (struct deleted_mark){.seq = seq, .offset = page->used, .end = page->used + (uint32_t)size};
    page->used += (uint32_t)size;
    page->count++;
}

struct deleted_place map_deleted_end(const struct map_deleted *deleted, struct arena *arena)
{
    if (deleted->head == deleted->tail)
        return (struct deleted_place){deleted->tail, 0};
    return (struct deleted_place){deleted->tail - 1, page_at(deleted, arena, deleted->tail - 1)->count};
}

struct deleted_place map_deleted_find(const struct map_deleted *deleted, struct arena *arena, uint64_t since)
{
    uint32_t low = deleted->head, high = deleted->tail; /* the first page whose last pair is newer */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct deleted_page *page = page_at(deleted, arena, middle);
        if (mark_at(page, page->count - 1)->seq > since)
            high = middle;
        else
            low = middle + 1;
    }
    if (low == deleted->tail)
        return map_deleted_end(deleted, arena);
    struct deleted_page *page = page_at(deleted, arena, low);
    uint32_t first = 0, last = page->count - 1;
    while (first < last) {
        uint32_t middle = first + (last - first) / 2;
        if (mark_at(page, middle)->seq > since)
            last = middle;
        else
            first = middle + 1;
    }
    return (struct deleted_place){low, first};
}

uint64_t map_deleted_seq(const struct map_deleted *deleted, struct arena *arena, struct deleted_place place)
{
    return mark_at(page_at(deleted, arena, place.page), place.index)->seq;
}

enum weir_error map_deleted_next(const struct map_deleted *deleted, struct arena *arena, struct deleted_place *place,
                                 struct deleted_place end, size_t size_max, struct slice *pairs, uint32_t *count)
{
    while (place->page < end.page || (place->page == end.page && place->index < end.index)) {
        if (place->page < deleted->head)
            return WEIR_STALE;
        struct deleted_page *page = page_at(deleted, arena, place->page);
        uint32_t first = place->index, limit = place->page == end.page ? end.index : page->count;
        if (first >= limit) {
            *place = (struct deleted_place){place->page + 1, 0};
            continue;
        }
        uint32_t start = mark_at(page, first)->offset, next = first + 1;
        while (next < limit && mark_at(page, next)->end - start <= size_max)
            next++;
        uint32_t offset = (uint32_t)offsetof(struct deleted_page, pairs) + start;
        *pairs = (struct slice){*page_block(deleted, arena, place->page), offset, mark_at(page, next - 1)->end - start};
        *count = next - first;
        place->index = next;
        return WEIR_OK;
    }
    return WEIR_AGAIN;
}
