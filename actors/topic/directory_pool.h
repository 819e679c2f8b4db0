/* A pool of items of one size, named by index, in chunks that are arena blocks: no head and no handle for each item, as
 * a block of its own would have. A chunk whose items are all free goes back, but for one, for the items to come. In the
 * directory's turns. */
#ifndef ACTORS_TOPIC_DIRECTORY_POOL_H
#define ACTORS_TOPIC_DIRECTORY_POOL_H

#include "actors/memory/arena.h"

/* The front of every item. */
struct index_item {
    uint32_t is_used; /* 0: it is free. The user's otherwise, who keeps it from being 0 */
    uint32_t next;    /* among the free ones of its chunk; the user's otherwise */
};

struct index_chunk {
    weir_msg block;      /* none: it was given back */
    uint32_t used, free; /* items in use; the first free one */
    uint32_t next, prev; /* in its list: chunks with free items, or those without a block */
};

struct index_pool {
    struct arena *arena;
    struct budget *budget;
    struct index_chunk *chunks;
    size_t item_size;
    uint32_t chunk_items, chunk_count, chunk_max;
    uint32_t open, absent; /* first chunks of both lists */
    uint32_t spare;        /* a chunk of which no item is in use, and that stays */
};

/* Of at most items_max items. What is init may be fini even where that failed. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error index_pool_init(struct index_pool *pool, struct arena *arena, struct budget *budget,
                                              size_t item_size, size_t items_max);
void index_pool_fini(struct index_pool *pool);
/* Takes a free item, all zero, which the caller makes used before it takes another. WEIR_FULL, WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error index_pool_take(struct index_pool *pool, uint32_t *index_out);
void index_pool_give(struct index_pool *pool, uint32_t index);
/* An item that is in use. */
void *index_pool_at(const struct index_pool *pool, uint32_t index);
/* The item of any index; NULL: there is none, or it is free. */
void *index_pool_find(const struct index_pool *pool, uint64_t index);
/* Items in use have indexes below this one. */
static inline uint32_t index_pool_count(const struct index_pool *pool) { return pool->chunk_count * pool->chunk_items; }

#endif
