/* Each thread's magazines of free slots. Called by the thread itself when a magazine runs empty or full;
 * the list of caches is under a lock, their magazines are not: only their thread touches them. */
#ifndef WEIR_ARENA_CHECKED

#include "actors/memory/arena_internal.h"

#include <stdlib.h>

/* Threads are numbered, never twice, so that a cache whose thread is gone is nobody else's by mistake. */
static _Atomic uint64_t threads_numbered; /* relaxed: only uniqueness matters */
static _Thread_local uint64_t thread_number;

_Thread_local __attribute__((tls_model("initial-exec"))) struct last_cache last_cache;

static struct cache *cache_lookup(const struct arena *arena, uint64_t thread)
{
    struct cache *cache = arena->caches;
    while (cache && cache->thread != thread)
        cache = cache->next;
    return cache;
}

static void magazines_init(const struct arena *arena, struct cache *cache)
{
    for (uint32_t i = 0; i < CLASS_COUNT; i++) {
        cache->magazines[i].batch = arena->classes[i].batch;
        cache->magazines[i].limit = 2 * arena->classes[i].batch;
        cache->magazines[i].slot_size = arena->classes[i].slot_size;
    }
}

/* This thread's cache, or one that a thread gave up, or a new one. Under the caches' lock. */
static struct cache *cache_ensure(struct arena *arena)
{
    struct cache *cache = cache_lookup(arena, thread_number);
    if (!cache)
        cache = cache_lookup(arena, 0);
    if (!cache) {
        cache = calloc(1, sizeof *cache);
        if (!cache)
            return NULL;
        magazines_init(arena, cache);
        cache->next = arena->caches;
        arena->caches = cache;
    }
    cache->thread = thread_number;
    return cache;
}

static __attribute__((noinline)) struct cache *cache_find_slow(struct arena *arena)
{
    if (thread_number == 0)
        thread_number = 1 + atomic_fetch_add_explicit(&threads_numbered, 1, memory_order_relaxed);
    pthread_mutex_lock(&arena->caches_lock);
    struct cache *cache = cache_ensure(arena);
    pthread_mutex_unlock(&arena->caches_lock);
    if (cache) {
        last_cache.arena_id = arena->id;
        last_cache.cache = cache;
    }
    return cache;
}

struct cache *cache_find(struct arena *arena)
{
    if (__builtin_expect(last_cache.arena_id == arena->id, 1))
        return last_cache.cache;
    return cache_find_slow(arena);
}

struct block *cache_refill(struct arena *arena, struct cache *cache, uint32_t class_index, size_t left)
{
    struct magazine *magazine = &cache->magazines[class_index];
    uint32_t batch = magazine->batch;
    uint32_t count = class_take(arena, class_index, left, magazine->blocks, batch);
    if (count == 0) {
        /* At the ceiling: what this thread and the classes keep free may make room. */
        cache_clear(arena, cache);
        classes_trim(arena);
        count = class_take(arena, class_index, left, magazine->blocks, batch);
        if (count == 0)
            return NULL;
    }
    magazine->count = count - 1;
    return magazine->blocks[count - 1];
}

/* The longest unused go: they lie at the bottom. */
void cache_spill(struct arena *arena, struct cache *cache, uint32_t class_index)
{
    struct magazine *magazine = &cache->magazines[class_index];
    uint32_t batch = magazine->batch;
    class_give(arena, class_index, magazine->blocks, batch);
    magazine->count -= batch;
    for (uint32_t i = 0; i < magazine->count; i++)
        magazine->blocks[i] = magazine->blocks[i + batch];
}

void cache_clear(struct arena *arena, struct cache *cache)
{
    for (uint32_t i = 0; i < CLASS_COUNT; i++) {
        struct magazine *magazine = &cache->magazines[i];
        if (magazine->count > 0)
            class_give(arena, i, magazine->blocks, magazine->count);
        magazine->count = 0;
    }
}

void arena_thread_flush(struct arena *arena)
{
    MAGIC_CHECK(arena, ARENA_MAGIC);
    pthread_mutex_lock(&arena->caches_lock);
    struct cache *cache = thread_number ? cache_lookup(arena, thread_number) : NULL;
    pthread_mutex_unlock(&arena->caches_lock);
    if (!cache)
        return;
    cache_clear(arena, cache);
    last_cache.arena_id = 0;
    pthread_mutex_lock(&arena->caches_lock);
    /* The figures stay with the cache, whoever has it next: they are only ever summed. */
    cache->thread = 0;
    pthread_mutex_unlock(&arena->caches_lock);
}

bool arena_thread_rest(struct arena *arena, uint64_t now_ns)
{
    if (last_cache.arena_id != arena->id)
        return false; /* the thread has no blocks of this arena, or used another one's since */
    struct cache *cache = last_cache.cache;
    if (now_ns - cache->rested_ns < ARENA_REST_NS)
        return true;
    cache->rested_ns = now_ns;
    cache_clear(arena, cache);
    uint64_t rested_ns = atomic_load_explicit(&arena->rested_ns, memory_order_relaxed);
    if (now_ns - rested_ns < ARENA_REST_NS ||
        !atomic_compare_exchange_strong_explicit(&arena->rested_ns, &rested_ns, now_ns, memory_order_relaxed,
                                                 memory_order_relaxed))
        return true; /* another thread was here just now, before these slots came back */
    classes_trim(arena);
    return runs_rest(arena);
}

#endif
