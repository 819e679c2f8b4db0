/* A pool of slots of one fixed size, named by a 32-bit index: message envelopes, actors' control
 * blocks. The memory is type-stable: a slot never becomes anything else and is never unmapped while the
 * pool lives, so a late reader of a freed slot reads a slot (and its generation) and never a stranger.
 *
 * Each thread passes a cache of its own, so that alloc and free are a few instructions without a lock;
 * caches trade SLOTS_BATCH slots at a time with the pool, under its lock. What the pool commits counts
 * against the arena's ceiling and stays committed until slots_destroy.
 *
 * A free slot's first 4 bytes are the pool's link; the pool touches no other byte, ever. Fresh slots
 * read as zero behind those. Any thread may call anything but create and destroy, each with its own cache. */
#ifndef ACTORS_MEMORY_SLOTS_H
#define ACTORS_MEMORY_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "actors/base/limits.h"
#include "actors/memory/arena.h"
#include "weir_error.h"

struct slots;

/* What the inline functions below know of struct slots: its first members. Constant after create. */
struct slots_layout {
    char *base;       /* 64-byte-aligned; slot 0 is never handed out */
    size_t slot_size; /* 32, or a multiple of 64: no small slot lies on two cache lines */
};

/* Free slots held by one thread, linked through their first 4 bytes. {0} is an empty one. */
struct slots_cache {
    uint32_t head;
    uint32_t count;
};

/* A pool of at most slots_max slots (below 2^32 - 1) of slot_size bytes, rounded up to 32 or a multiple of 64.
 * Reserves address space only. arena is borrowed and outlives the pool. WEIR_NO_MEMORY, WEIR_TOO_BIG. */
WEIR_MUST_USE enum weir_error slots_create(struct arena *arena, size_t slot_size, uint32_t slots_max,
                                           struct slots **out);

/* Unmaps every slot, live or not: whoever counts them asks slots_live first. Nulls *slots; NULL is fine. */
void slots_destroy(struct slots **slots);

/* Refills an empty cache with up to SLOTS_BATCH slots. WEIR_NO_MEMORY (ceiling, slots_max). For slots_alloc. */
WEIR_MUST_USE enum weir_error slots_refill(struct slots *slots, struct slots_cache *cache);

/* Gives SLOTS_BATCH slots of a cache back. For slots_free. */
void slots_spill(struct slots *slots, struct slots_cache *cache);

/* Gives back all that the cache holds; its thread calls this before it ends. */
void slots_cache_flush(struct slots *slots, struct slots_cache *cache);

/* Slots that are not in the pool: handed out, or in some thread's cache. Exact for handed-out ones once
 * all caches are flushed. Takes the pool's lock. */
size_t slots_live(struct slots *slots);

/* The slot's address, aligned to 64 bytes (slots of 32: to 32). index is from slots_alloc of this pool, live or not. */
static inline void *slots_at(const struct slots *slots, uint32_t index)
{
    const struct slots_layout *layout = (const struct slots_layout *)(const void *)slots;
    return layout->base + (size_t)index * layout->slot_size;
}

/* The free slot on top of a cache that has one leaves it; slot is its address. For users whose slots are an array of a
 * known type, to whom an address costs less than slots_at. */
static inline void slots_cache_pop(struct slots_cache *cache, const void *slot)
{
    __builtin_memcpy(&cache->head, slot, sizeof cache->head);
    cache->count--;
}

/* And the way back, into a cache that is not full (slots_cache_is_full). */
static inline void slots_cache_push(struct slots_cache *cache, uint32_t index, void *slot)
{
    __builtin_memcpy(slot, &cache->head, sizeof cache->head);
    cache->head = index;
    cache->count++;
}

static inline bool slots_cache_is_full(const struct slots_cache *cache) { return cache->count >= 2 * SLOTS_BATCH; }

/* A slot, its contents as its last user left them but for the first 4 bytes, which are undefined; fresh
 * ones are zero. *index_out is at least 1 (0 serves as "none"). WEIR_NO_MEMORY (ceiling, slots_max). */
WEIR_MUST_USE static inline enum weir_error slots_alloc(struct slots *slots, struct slots_cache *cache,
                                                        uint32_t *index_out)
{
    if (__builtin_expect(cache->count == 0, 0)) {
        enum weir_error error = slots_refill(slots, cache);
        if (error)
            return error;
    }
    uint32_t index = cache->head;
    slots_cache_pop(cache, slots_at(slots, index));
    *index_out = index;
    return WEIR_OK;
}

/* Gives a slot back, from any thread. Overwrites its first 4 bytes. */
static inline void slots_free(struct slots *slots, struct slots_cache *cache, uint32_t index)
{
    if (__builtin_expect(slots_cache_is_full(cache), 0))
        slots_spill(slots, cache);
    slots_cache_push(cache, index, slots_at(slots, index));
}

#endif
