/* A pool of items of one size, named by index, in chunks that are arena blocks: no head and no handle for each item, as
 * a block of its own would have. Chunks stay until the end, for the items to come. In the directory's turns. */
#ifndef ACTORS_TOPIC_DIRECTORY_POOL_H
#define ACTORS_TOPIC_DIRECTORY_POOL_H

#include "actors/memory/arena.h"

/* The front of every item. */
struct index_item {
    uint32_t is_used; /* 0: it is free. The user's otherwise, who keeps it from being 0 */
    uint32_t next;    /* among the free ones; the user's otherwise */
};

struct index_pool {
    struct arena *arena;
    struct budget *budget;
    weir_msg *chunks;
    size_t item_size;
    uint32_t chunk_items, chunk_count, chunk_max;
    uint32_t free;
};

/* Of at most items_max items. What is init may be fini even where that failed. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error index_pool_init(struct index_pool *pool, struct arena *arena, struct budget *budget,
                                              size_t item_size, size_t items_max);
void index_pool_fini(struct index_pool *pool);
/* Takes a free item, all zero, which the caller makes used before it takes another. WEIR_FULL, WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error index_pool_take(struct index_pool *pool, uint32_t *index_out);
void index_pool_give(struct index_pool *pool, uint32_t index);
void *index_pool_at(const struct index_pool *pool, uint32_t index);
/* Indexes below this one have items, used or free. */
static inline uint32_t index_pool_count(const struct index_pool *pool) { return pool->chunk_count * pool->chunk_items; }

#endif
