/* Items by index, see directory_pool.h. In the directory's turns. */
#include "actors/topic/directory_pool.h"

#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"

/* A block of this size, its head included, is a whole size class of the arena. */
#define CHUNK_BYTES (16384 - ARENA_BLOCK_OVERHEAD)
#define ITEM_NONE UINT32_MAX
#define CHUNK_NONE UINT32_MAX

enum weir_error index_pool_init(struct index_pool *pool, struct arena *arena, struct budget *budget, size_t item_size,
                                size_t items_max)
{
    REQUIRE(item_size >= sizeof(struct index_item) && item_size % sizeof(uint64_t) == 0);
    uint32_t chunk_items = (uint32_t)(CHUNK_BYTES / item_size);
    uint32_t chunk_max = (uint32_t)(items_max / chunk_items + 1);
    *pool = (struct index_pool){.arena = arena,
                                .budget = budget,
                                .item_size = item_size,
                                .chunk_items = chunk_items,
                                .chunk_max = chunk_max,
                                .open = CHUNK_NONE,
                                .absent = CHUNK_NONE,
                                .spare = CHUNK_NONE};
    pool->chunks = calloc(chunk_max, sizeof *pool->chunks);
    return pool->chunks != NULL ? WEIR_OK : WEIR_NO_MEMORY;
}

void index_pool_fini(struct index_pool *pool)
{
    for (uint32_t i = 0; i < pool->chunk_count; i++)
        arena_drop(pool->arena, pool->chunks[i].block);
    free(pool->chunks);
    *pool = (struct index_pool){.chunk_count = 0};
}

void *index_pool_at(const struct index_pool *pool, uint32_t index)
{
    char *chunk = arena_data(pool->arena, pool->chunks[index / pool->chunk_items].block);
    return chunk + index % pool->chunk_items * pool->item_size;
}

void *index_pool_find(const struct index_pool *pool, uint64_t index)
{
    if (index >= index_pool_count(pool) || msg_is_none(pool->chunks[index / pool->chunk_items].block))
        return NULL;
    struct index_item *item = index_pool_at(pool, (uint32_t)index);
    return item->is_used != 0 ? item : NULL;
}

static void chunk_list(struct index_pool *pool, uint32_t *list, uint32_t number)
{
    pool->chunks[number].next = *list;
    pool->chunks[number].prev = CHUNK_NONE;
    if (*list != CHUNK_NONE)
        pool->chunks[*list].prev = number;
    *list = number;
}

static void chunk_unlist(struct index_pool *pool, uint32_t *list, uint32_t number)
{
    const struct index_chunk *chunk = &pool->chunks[number];
    if (chunk->prev == CHUNK_NONE)
        *list = chunk->next;
    else
        pool->chunks[chunk->prev].next = chunk->next;
    if (chunk->next != CHUNK_NONE)
        pool->chunks[chunk->next].prev = chunk->prev;
}

/* A block for one that was given back, or for the next. */
static enum weir_error chunk_add(struct index_pool *pool)
{
    weir_msg block;
    if (pool->absent == CHUNK_NONE && pool->chunk_count == pool->chunk_max)
        return WEIR_FULL;
    enum weir_error error = arena_alloc(pool->arena, pool->chunk_items * pool->item_size, pool->budget, &block);
    if (error)
        return error;
    uint32_t number = pool->absent;
    if (number != CHUNK_NONE)
        chunk_unlist(pool, &pool->absent, number);
    else
        number = pool->chunk_count++;
    pool->chunks[number] = (struct index_chunk){.block = block, .free = ITEM_NONE};
    uint32_t first = number * pool->chunk_items;
    for (uint32_t i = first + pool->chunk_items; i-- > first;) {
        *(struct index_item *)index_pool_at(pool, i) = (struct index_item){.next = pool->chunks[number].free};
        pool->chunks[number].free = i;
    }
    chunk_list(pool, &pool->open, number);
    return WEIR_OK;
}

enum weir_error index_pool_take(struct index_pool *pool, uint32_t *index_out)
{
    enum weir_error error = pool->open == CHUNK_NONE ? chunk_add(pool) : WEIR_OK;
    if (error)
        return error;
    uint32_t number = pool->open;
    struct index_chunk *chunk = &pool->chunks[number];
    struct index_item *item = index_pool_at(pool, chunk->free);
    INVARIANT(item->is_used == 0);
    *index_out = chunk->free;
    chunk->free = item->next;
    chunk->used++;
    if (pool->spare == number)
        pool->spare = CHUNK_NONE;
    if (chunk->free == ITEM_NONE)
        chunk_unlist(pool, &pool->open, number);
    memset(item, 0, pool->item_size);
    return WEIR_OK;
}

/* No item of it is in use. */
static void chunk_rest(struct index_pool *pool, uint32_t number)
{
    if (pool->spare == CHUNK_NONE) {
        pool->spare = number;
        return;
    }
    chunk_unlist(pool, &pool->open, number);
    arena_drop(pool->arena, pool->chunks[number].block);
    pool->chunks[number].block = WEIR_MSG_NONE;
    chunk_list(pool, &pool->absent, number);
}

void index_pool_give(struct index_pool *pool, uint32_t index)
{
    uint32_t number = index / pool->chunk_items;
    struct index_chunk *chunk = &pool->chunks[number];
    struct index_item *item = index_pool_at(pool, index);
    REQUIRE(item->is_used != 0);
    *item = (struct index_item){.next = chunk->free};
    if (chunk->free == ITEM_NONE)
        chunk_list(pool, &pool->open, number);
    chunk->free = index;
    if (--chunk->used == 0)
        chunk_rest(pool, number);
}
