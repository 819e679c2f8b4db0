/* Blocks: alloc, hold, drop, and the check that every handle passes. Called by whoever has or wants a
 * message, page or receive buffer; any thread. arena_checked.c is the twin for the sanitizers. */
#include "actors/memory/arena.h"

#ifndef WEIR_ARENA_CHECKED

#include "actors/memory/arena_internal.h"
#include "actors/memory/budget_charge.h"

#include <stdlib.h>

enum { CACHE_LINE = 64, PREFETCH_MAX = 4 * CACHE_LINE }; /* what is longer the processor goes on with by itself */

static _Atomic uint64_t arenas_numbered; /* relaxed: only uniqueness matters */

enum weir_error arena_create(const struct arena_config *config, struct arena **out)
{
    if (config->bytes_max < SLAB_SIZE)
        return WEIR_BAD_REQUEST;
    struct arena *arena = aligned_alloc(64, (sizeof *arena + 63) / 64 * 64);
    if (!arena)
        return WEIR_NO_MEMORY;
    *arena = (struct arena){.magic = ARENA_MAGIC, .bytes_max = config->bytes_max};
    arena->id = 1 + atomic_fetch_add_explicit(&arenas_numbered, 1, memory_order_relaxed);
    if (!runs_init(arena))
        goto free_arena;
    if (!classes_init(arena))
        goto fini_runs;
    if (pthread_mutex_init(&arena->caches_lock, NULL))
        goto fini_classes;
    *out = arena;
    return WEIR_OK;

fini_classes:
    classes_fini(arena);
fini_runs:
    runs_fini(arena);
free_arena:
    free(arena);
    return WEIR_NO_MEMORY;
}

void arena_destroy(struct arena **arena_pointer)
{
    struct arena *arena = *arena_pointer;
    if (!arena)
        return;
    MAGIC_CHECK(arena, ARENA_MAGIC);
    *arena_pointer = NULL;
    while (arena->caches) {
        struct cache *cache = arena->caches;
        arena->caches = cache->next;
        free(cache);
    }
    pthread_mutex_destroy(&arena->caches_lock);
    classes_fini(arena);
    runs_fini(arena);
    arena->magic = 0;
    free(arena);
}

/* Adds to a figure that only this thread writes: a plain addition, atomic only for whoever reads it. */
static inline void figure_add(_Atomic int64_t *figure, int64_t value)
{
    atomic_store_explicit(figure, atomic_load_explicit(figure, memory_order_relaxed) + value, memory_order_relaxed);
}

static void large_count(struct cache *cache, int64_t blocks, int64_t bytes)
{
    figure_add(&cache->large_blocks, blocks);
    figure_add(&cache->large_bytes, bytes);
}

/* Opens a new generation in a free slot; the caller's is the one reference. */
static inline weir_msg block_open(struct block *block, size_t size, struct budget *owner)
{
    uint32_t generation = word_generation(atomic_load_explicit(&block->word, memory_order_relaxed)) + 1;
    block->budget = owner;
    atomic_store_explicit(&block->size, (uint32_t)size, memory_order_relaxed);
    atomic_store_explicit(&block->word, BLOCK_REFERENCE | generation, memory_order_release);
    return (weir_msg){(uint64_t)generation << 32 | block->index};
}

/* The part of the ceiling that is not for this block. */
static size_t left_of(const struct arena *arena, const struct budget *owner, uint32_t part)
{
    size_t wanted = part > 0 ? arena->bytes_max / part : 0;
    size_t left = owner ? budget_left(owner, arena->bytes_max) : 0;
    return left > wanted ? left : wanted;
}

/* A block in slabs of its own; its generation goes on from all that its first slab ever had. */
static enum weir_error large_alloc(struct arena *arena, struct cache *cache, size_t size, struct budget *owner,
                                   uint32_t part, weir_msg *out)
{
    uint32_t count = (uint32_t)((size + sizeof(struct block) + SLAB_SIZE - 1) >> SLAB_SHIFT);
    size_t charge = (size_t)count << SLAB_SHIFT;
    enum weir_error error = owner ? budget_block_charge(owner, charge) : WEIR_OK;
    if (error)
        return error;
    size_t left = left_of(arena, owner, part);
    uint32_t number;
    error = runs_take(arena, count, left, &number);
    if (error) {
        cache_clear(arena, cache);
        classes_trim(arena);
        error = runs_take(arena, count, left, &number);
    }
    if (error) {
        atomic_fetch_add_explicit(&arena->refusals, 1, memory_order_relaxed);
        if (owner)
            budget_block_release(owner, charge);
        return error;
    }
    struct block *block = (struct block *)(void *)slab_address(arena, number);
    atomic_store_explicit(&block->word, arena->slabs[number].generation_base, memory_order_relaxed);
    block->index = number << SLOT_BITS;
    block->class_index = CLASS_LARGE;
    block->link = count;
    *out = block_open(block, size, owner);
    /* Only the first slab has a shape, with one slot as large as itself: handles to the others are refused. */
    atomic_store_explicit(&arena->shapes[number], shape_of(SLAB_SIZE, SLAB_SIZE), memory_order_release);
    large_count(cache, 1, (int64_t)charge);
    return WEIR_OK;
}

static void large_free(struct arena *arena, struct cache *cache, struct block *block, uint32_t generation)
{
    uint32_t number = block->index >> SLOT_BITS;
    uint32_t count = block->link;
    if (cache)
        large_count(cache, -1, -((int64_t)count << SLAB_SHIFT));
    atomic_store_explicit(&arena->shapes[number], 0, memory_order_release);
    arena->slabs[number].generation_base = generation;
    if (generation == UINT32_MAX) {
        /* The first slab has no generation left and is never used again. */
        number++;
        count--;
    }
    if (count > 0)
        runs_give(arena, number, count);
}

static inline uint32_t class_of(const struct arena *arena, size_t size)
{
    return arena->class_of[(size + sizeof(struct block) + SLOT_SIZE_UNIT - 1) / SLOT_SIZE_UNIT];
}

/* What arena_alloc does not do itself: large blocks, budgets, empty magazines, a thread's first block. */
static __attribute__((noinline)) enum weir_error block_alloc(struct arena *arena, size_t size, struct budget *owner,
                                                             uint32_t part, weir_msg *out)
{
    REQUIRE(arena->magic == ARENA_MAGIC && size > 0);
    if (size > ARENA_BLOCK_SIZE_MAX)
        return WEIR_TOO_BIG;
    struct cache *cache = cache_find(arena);
    if (!cache)
        return WEIR_NO_MEMORY;
    if (size > SLOT_SIZE_MAX - sizeof(struct block))
        return large_alloc(arena, cache, size, owner, part, out);
    uint32_t class_index = class_of(arena, size);
    struct magazine *magazine = &cache->magazines[class_index];
    if (owner) {
        enum weir_error error = budget_block_charge(owner, magazine->slot_size);
        if (error)
            return error;
    }
    struct block *block = magazine->count > 0 ? magazine->blocks[--magazine->count]
                                              : cache_refill(arena, cache, class_index, left_of(arena, owner, part));
    if (!block) {
        atomic_fetch_add_explicit(&arena->refusals, 1, memory_order_relaxed);
        if (owner)
            budget_block_release(owner, magazine->slot_size);
        return WEIR_NO_MEMORY;
    }
    figure_add(&magazine->live, 1);
    *out = block_open(block, size, owner);
    return WEIR_OK;
}

enum weir_error arena_alloc(struct arena *arena, size_t size, struct budget *owner, weir_msg *out)
{
    /* size - 1, so that 0 is among the sizes that block_alloc judges. */
    if (owner || size - 1 >= SLOT_SIZE_MAX - sizeof(struct block) || last_cache.arena_id != arena->id)
        return block_alloc(arena, size, owner, 0, out);
    struct magazine *magazine = &last_cache.cache->magazines[class_of(arena, size)];
    if (__builtin_expect(magazine->count == 0, 0))
        return block_alloc(arena, size, owner, 0, out);
    struct block *block = magazine->blocks[--magazine->count];
    figure_add(&magazine->live, 1);
    *out = block_open(block, size, NULL);
    return WEIR_OK;
}

enum weir_error arena_alloc_leaving(struct arena *arena, size_t size, struct budget *owner, uint32_t part,
                                    weir_msg *out)
{
    return block_alloc(arena, size, owner, part, out);
}

/* The block that a handle names, whatever its bits are; NULL, counted, when it names none. Nothing outside
 * the heads of slots is read. *word is what the head said, its generation being the handle's. */
static inline struct block *block_find(struct arena *arena, weir_msg msg, uint64_t *word)
{
    uint32_t index = (uint32_t)msg.bits;
    uint32_t generation = (uint32_t)(msg.bits >> 32);
    uint32_t number = index >> SLOT_BITS;
    if (__builtin_expect(number < arena->slab_count, 1)) {
        uint64_t shape = atomic_load_explicit(&arena->shapes[number], memory_order_acquire);
        uint32_t offset = (index & ((1U << SLOT_BITS) - 1)) * (uint32_t)shape;
        if (__builtin_expect(offset < (uint32_t)(shape >> 32), 1)) {
            struct block *block = (struct block *)(void *)(slab_address(arena, number) + offset);
            *word = atomic_load_explicit(&block->word, memory_order_acquire);
            if (__builtin_expect(word_generation(*word) == generation && word_references(*word) > 0, 1))
                return block;
        }
    }
    atomic_fetch_add_explicit(&arena->stale, 1, memory_order_relaxed);
    return NULL;
}

void *arena_data(struct arena *arena, weir_msg msg)
{
    uint64_t word;
    struct block *block = block_find(arena, msg, &word);
    return block ? block + 1 : NULL;
}

/* Where the block would be that the handle names; NULL: there is no such slab. */
static const char *block_place(const struct arena *arena, weir_msg msg)
{
    uint32_t index = (uint32_t)msg.bits, number = index >> SLOT_BITS;
    if (number >= arena->slab_count)
        return NULL;
    uint64_t shape = atomic_load_explicit(&arena->shapes[number], memory_order_relaxed);
    return slab_address(arena, number) + (index & ((1U << SLOT_BITS) - 1)) * (uint32_t)shape;
}

void arena_prefetch(struct arena *arena, weir_msg msg)
{
    const char *block = block_place(arena, msg);
    if (block == NULL)
        return;
    __builtin_prefetch(block);
    __builtin_prefetch(block + sizeof(struct block));
}

void arena_prefetch_part(struct arena *arena, weir_msg msg, size_t offset, size_t size)
{
    const char *block = block_place(arena, msg);
    if (block == NULL)
        return;
    __builtin_prefetch(block, 1);
    const char *part = block + sizeof(struct block) + offset;
    for (size_t at = 0; at < size && at < PREFETCH_MAX; at += CACHE_LINE)
        __builtin_prefetch(part + at);
}

size_t arena_size(struct arena *arena, weir_msg msg)
{
    uint64_t word;
    struct block *block = block_find(arena, msg, &word);
    return block ? atomic_load_explicit(&block->size, memory_order_relaxed) : 0;
}

static size_t block_slot_size(const struct arena *arena, const struct block *block)
{
    if (block->class_index == CLASS_LARGE)
        return (size_t)block->link << SLAB_SHIFT;
    return arena->classes[block->class_index].slot_size;
}

size_t arena_capacity(struct arena *arena, weir_msg msg)
{
    uint64_t word;
    struct block *block = block_find(arena, msg, &word);
    return block ? block_slot_size(arena, block) - sizeof *block : 0;
}

enum weir_error arena_hold(struct arena *arena, weir_msg msg)
{
    uint64_t word;
    struct block *block = block_find(arena, msg, &word);
    if (!block)
        return WEIR_STALE;
    /* Relaxed: the caller's own reference already orders what it does with the block. */
    while (!atomic_compare_exchange_weak_explicit(&block->word, &word, word + BLOCK_REFERENCE, memory_order_relaxed,
                                                  memory_order_relaxed)) {
        if (word_generation(word) != (uint32_t)(msg.bits >> 32) || word_references(word) == 0)
            return WEIR_STALE;
    }
    ENSURE(word_references(word) < UINT32_MAX);
    return WEIR_OK;
}

/* The last reference is gone: the slot is this thread's. */
static void block_close(struct arena *arena, struct block *block, uint32_t generation)
{
    struct cache *cache = cache_find(arena);
    uint32_t class_index = block->class_index;
    if (block->budget)
        budget_block_release(block->budget, block_slot_size(arena, block));
    atomic_store_explicit(&block->word, generation, memory_order_release);
    if (class_index == CLASS_LARGE) {
        large_free(arena, cache, block, generation);
        return;
    }
    /* Without a cache for want of memory the figures cannot be kept; the block goes back all the same. */
    struct magazine *magazine = cache ? &cache->magazines[class_index] : NULL;
    if (magazine)
        figure_add(&magazine->live, -1);
    /* A slot without a generation left is never used again: 2^32 blocks lived in it. */
    if (generation == UINT32_MAX)
        return;
    if (!magazine) {
        class_give(arena, class_index, &block, 1);
        return;
    }
    if (magazine->count == magazine->limit)
        cache_spill(arena, cache, class_index);
    magazine->blocks[magazine->count++] = block;
}

/* What arena_drop does not do itself: shared, large and charged blocks, full magazines. word is what the
 * head said when the handle was found good. */
static __attribute__((noinline)) void block_drop(struct arena *arena, struct block *block, uint64_t word)
{
    uint32_t generation = word_generation(word);
    /* The only holder needs no atomic exchange: nobody else may change the word. */
    while (word_references(word) > 1) {
        if (atomic_compare_exchange_weak_explicit(&block->word, &word, word - BLOCK_REFERENCE, memory_order_release,
                                                  memory_order_acquire))
            return;
        if (word_generation(word) != generation || word_references(word) == 0) {
            atomic_fetch_add_explicit(&arena->stale, 1, memory_order_relaxed);
            return;
        }
    }
    block_close(arena, block, generation);
}

void arena_drop(struct arena *arena, weir_msg msg)
{
    if (msg_is_none(msg))
        return;
    uint64_t word;
    struct block *block = block_find(arena, msg, &word);
    if (__builtin_expect(!block, 0))
        return;
    uint32_t generation = word_generation(word);
    uint32_t class_index = block->class_index;
    bool is_plain = word_references(word) == 1 && !block->budget && class_index != CLASS_LARGE &&
                    generation != UINT32_MAX && last_cache.arena_id == arena->id;
    if (!is_plain) {
        block_drop(arena, block, word);
        return;
    }
    struct magazine *magazine = &last_cache.cache->magazines[class_index];
    if (__builtin_expect(magazine->count == magazine->limit, 0)) {
        block_drop(arena, block, word);
        return;
    }
    figure_add(&magazine->live, -1);
    atomic_store_explicit(&block->word, generation, memory_order_release);
    magazine->blocks[magazine->count++] = block;
}

bool arena_is_unshared(struct arena *arena, weir_msg msg)
{
    uint64_t word;
    struct block *block = block_find(arena, msg, &word);
    return block && word_references(word) == 1;
}

static void cache_sum(const struct cache *cache, int64_t *blocks, int64_t *bytes)
{
    *blocks += atomic_load_explicit(&cache->large_blocks, memory_order_relaxed);
    *bytes += atomic_load_explicit(&cache->large_bytes, memory_order_relaxed);
    for (uint32_t i = 0; i < CLASS_COUNT; i++) {
        int64_t live = atomic_load_explicit(&cache->magazines[i].live, memory_order_relaxed);
        *blocks += live;
        *bytes += live * (int64_t)cache->magazines[i].slot_size;
    }
}

void arena_usage(struct arena *arena, struct arena_usage *out)
{
    MAGIC_CHECK(arena, ARENA_MAGIC);
    int64_t blocks = 0;
    int64_t bytes = 0;
    pthread_mutex_lock(&arena->caches_lock);
    for (const struct cache *cache = arena->caches; cache; cache = cache->next)
        cache_sum(cache, &blocks, &bytes);
    pthread_mutex_unlock(&arena->caches_lock);
    /* Read while others work, a drop may be seen before its alloc. */
    *out = (struct arena_usage){
        .bytes_max = arena->bytes_max,
        .bytes_committed = atomic_load_explicit(&arena->committed, memory_order_relaxed),
        .bytes_committed_peak = atomic_load_explicit(&arena->committed_peak, memory_order_relaxed),
        .bytes_live = bytes > 0 ? (size_t)bytes : 0,
        .blocks_live = blocks > 0 ? (size_t)blocks : 0,
        .refusals = atomic_load_explicit(&arena->refusals, memory_order_relaxed),
        .stale = atomic_load_explicit(&arena->stale, memory_order_relaxed),
    };
}

uint64_t arena_returns(struct arena *arena)
{
    MAGIC_CHECK(arena, ARENA_MAGIC);
    return atomic_load_explicit(&arena->returns, memory_order_relaxed);
}

size_t arena_leaks_report(struct arena *arena,
                          void (*on_leak)(weir_msg msg, size_t size, const char *owner, void *context), void *context)
{
    MAGIC_CHECK(arena, ARENA_MAGIC);
    size_t leaks = 0;
    for (uint32_t number = 1; number < arena->slabs_high; number++) {
        uint64_t shape = atomic_load_explicit(&arena->shapes[number], memory_order_acquire);
        for (uint32_t offset = 0; offset < (uint32_t)(shape >> 32); offset += (uint32_t)shape) {
            struct block *block = (struct block *)(void *)(slab_address(arena, number) + offset);
            uint64_t word = atomic_load_explicit(&block->word, memory_order_acquire);
            if (word_references(word) == 0)
                continue;
            leaks++;
            on_leak((weir_msg){(uint64_t)word_generation(word) << 32 | block->index},
                    atomic_load_explicit(&block->size, memory_order_relaxed),
                    block->budget ? budget_owner(block->budget) : "", context);
        }
    }
    return leaks;
}

#endif
