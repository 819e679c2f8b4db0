/* Items by index, see directory_pool.h. In the directory's turns. */
#include "actors/topic/directory_pool.h"

#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"

/* A block of this size, its head included, is a whole size class of the arena. */
#define CHUNK_BYTES (16384 - ARENA_BLOCK_OVERHEAD)
#define ITEM_NONE UINT32_MAX

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
                                .free = ITEM_NONE};
    pool->chunks = calloc(chunk_max, sizeof *pool->chunks);
    return pool->chunks != NULL ? WEIR_OK : WEIR_NO_MEMORY;
}

void index_pool_fini(struct index_pool *pool)
{
    for (uint32_t i = 0; i < pool->chunk_count; i++)
        arena_drop(pool->arena, pool->chunks[i]);
    free(pool->chunks);
    *pool = (struct index_pool){.chunk_count = 0};
}

void *index_pool_at(const struct index_pool *pool, uint32_t index)
{
    char *chunk = arena_data(pool->arena, pool->chunks[index / pool->chunk_items]);
    return chunk + index % pool->chunk_items * pool->item_size;
}

static enum weir_error chunk_add(struct index_pool *pool)
{
    weir_msg block;
    if (pool->chunk_count == pool->chunk_max)
        return WEIR_FULL;
    enum weir_error error = arena_alloc(pool->arena, pool->chunk_items * pool->item_size, pool->budget, &block);
    if (error)
        return error;
    uint32_t first = index_pool_count(pool);
    pool->chunks[pool->chunk_count++] = block;
    for (uint32_t i = pool->chunk_items; i-- > 0;) {
        *(struct index_item *)index_pool_at(pool, first + i) = (struct index_item){.next = pool->free};
        pool->free = first + i;
    }
    return WEIR_OK;
}

enum weir_error index_pool_take(struct index_pool *pool, uint32_t *index_out)
{
    enum weir_error error = pool->free == ITEM_NONE ? chunk_add(pool) : WEIR_OK;
    if (error)
        return error;
    struct index_item *item = index_pool_at(pool, pool->free);
    INVARIANT(item->is_used == 0);
    *index_out = pool->free;
    pool->free = item->next;
    memset(item, 0, pool->item_size);
    return WEIR_OK;
}

void index_pool_give(struct index_pool *pool, uint32_t index)
{
    struct index_item *item = index_pool_at(pool, index);
    REQUIRE(item->is_used != 0);
    *item = (struct index_item){.next = pool->free};
    pool->free = index;
}
