/* Which slabs are free. Called on refills and for large blocks, by any thread; one lock, held for a
 * search over bits and, when memory goes back, for the system call.
 *
 * Runs are taken first-fit from the lowest address, from a range eight times the ceiling. With runs of at
 * most 2^8 slabs, first-fit never needs more than about that multiple of what is live (Robson 1977), so
 * that the ceiling refuses before fragmentation does. */
#ifndef WEIR_ARENA_CHECKED

#include "actors/memory/arena_internal.h"

#include "actors/memory/commit.h"

#include <sys/mman.h>

enum {
    RANGE_FACTOR = 8,
    /* 20 bits of a handle's index number the slab. */
    SLABS_MAX = 1 << (32 - SLOT_BITS),
    SLABS_MIN = 4 * 257,
    /* A small page costs a trap when it is first written, and under some hypervisors a second one, 10 to 20 us
     * together; a page of 2 MiB costs one for all of it, and the processor's address caches reach further. So an arena
     * with that many slabs in use, of which such a page is a sixteenth, grows by them; */
    PAGE_SIZE_LARGE = 2 * 1024 * 1024,
    PAGE_SLABS = PAGE_SIZE_LARGE / SLAB_SIZE,
    PAGES_FROM = 16 * PAGE_SLABS,
    /* as long as so many of them are left below the ceiling, which would be met sooner than need be. */
    PAGES_LEFT = 4,
};
_Static_assert(PAGE_SLABS == 8, "the slabs of a large page are a byte of the bits");

static void *map_reserve(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static size_t bits_size(const struct arena *arena) { return ((size_t)arena->slab_count + 63) / 64 * 8; }

static bool bit_get(const uint64_t *bits, uint32_t i) { return bits[i / 64] >> (i % 64) & 1; }
static void bit_set(uint64_t *bits, uint32_t i) { bits[i / 64] |= UINT64_C(1) << (i % 64); }
static void bit_clear(uint64_t *bits, uint32_t i) { bits[i / 64] &= ~(UINT64_C(1) << (i % 64)); }

static void unmap(void *memory, size_t size)
{
    if (memory)
        munmap(memory, size);
}

void runs_fini(struct arena *arena)
{
    unmap(arena->reserved, ((size_t)arena->slab_count << SLAB_SHIFT) + PAGE_SIZE_LARGE);
    unmap(arena->shapes, arena->slab_count * sizeof *arena->shapes);
    unmap(arena->slabs, arena->slab_count * sizeof *arena->slabs);
    unmap(arena->used, bits_size(arena));
    unmap(arena->dirty, bits_size(arena));
    unmap(arena->large, bits_size(arena));
    pthread_mutex_destroy(&arena->runs_lock);
}

bool runs_init(struct arena *arena)
{
    size_t slabs = arena->bytes_max / SLAB_SIZE;
    slabs = slabs < SLABS_MAX / RANGE_FACTOR ? slabs * RANGE_FACTOR : SLABS_MAX;
    arena->slab_count = slabs < SLABS_MIN ? SLABS_MIN : (uint32_t)slabs;
    size_t kept = arena->bytes_max / SLAB_SIZE / ARENA_SLABS_KEPT_CEILING_PART;
    arena->slabs_kept = kept < ARENA_SLABS_KEPT ? (uint32_t)kept : ARENA_SLABS_KEPT;
    if (pthread_mutex_init(&arena->runs_lock, NULL))
        return false;
    arena->reserved = map_reserve(((size_t)arena->slab_count << SLAB_SHIFT) + PAGE_SIZE_LARGE);
    arena->base = arena->reserved + -(uintptr_t)arena->reserved % PAGE_SIZE_LARGE;
    arena->shapes = map_reserve(arena->slab_count * sizeof *arena->shapes);
    arena->slabs = map_reserve(arena->slab_count * sizeof *arena->slabs);
    arena->used = map_reserve(bits_size(arena));
    arena->dirty = map_reserve(bits_size(arena));
    arena->large = map_reserve(bits_size(arena));
    if (!arena->reserved || !arena->large || !arena->shapes || !arena->slabs || !arena->used || !arena->dirty) {
        runs_fini(arena);
        return false;
    }
    /* Slab 0 stays unused: number 0 ends lists. */
    bit_set(arena->used, 0);
    arena->slabs_low = 1;
    arena->slabs_high = 1;
    return true;
}

/* left: bytes below the ceiling that stay for others. */
static bool committed_raise(struct arena *arena, size_t size, size_t left)
{
    size_t committed = atomic_load_explicit(&arena->committed, memory_order_relaxed);
    do {
        if (size + left > arena->bytes_max - committed)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&arena->committed, &committed, committed + size,
                                                    memory_order_relaxed, memory_order_relaxed));
    size_t peak = atomic_load_explicit(&arena->committed_peak, memory_order_relaxed);
    while (committed + size > peak &&
           !atomic_compare_exchange_weak_explicit(&arena->committed_peak, &peak, committed + size, memory_order_relaxed,
                                                  memory_order_relaxed))
        continue;
    return true;
}

void arena_uncommit(struct arena *arena, size_t size)
{
    atomic_fetch_sub_explicit(&arena->committed, size, memory_order_relaxed);
}

/* Whether all slabs of the large page that this one is in are free, with no memory behind them. Under the runs' lock.
 */
static bool page_is_bare(const struct arena *arena, uint32_t slab)
{
    uint32_t first = slab / PAGE_SLABS * PAGE_SLABS;
    return ((arena->used[first / 64] | arena->dirty[first / 64]) >> (first % 64) & 0xff) == 0;
}

/* Asks for a large page behind a slab that is about to be taken, and its neighbours, which are taken next. Where the
 * system has none, small ones do. Under the runs' lock. */
static void page_ask(struct arena *arena, uint32_t slab)
{
    size_t committed = atomic_load_explicit(&arena->committed, memory_order_relaxed);
    if (arena->slabs_used < PAGES_FROM || arena->bytes_max - committed < (size_t)PAGES_LEFT * PAGE_SIZE_LARGE)
        return;
    uint32_t first = slab / PAGE_SLABS * PAGE_SLABS;
    if (madvise(slab_address(arena, first), PAGE_SIZE_LARGE, MADV_HUGEPAGE) == 0)
        bit_set(arena->large, first);
}

/* Some of what lies here goes back: the system is not to make large pages of the rest by and by, which would bring it
 * all back. Under the runs' lock. */
static void pages_forget(struct arena *arena, uint32_t slab, uint32_t end)
{
    for (uint32_t first = slab / PAGE_SLABS * PAGE_SLABS; first < end; first += PAGE_SLABS) {
        if (!bit_get(arena->large, first))
            continue;
        (void)madvise(slab_address(arena, first), PAGE_SIZE_LARGE, MADV_NOHUGEPAGE);
        bit_clear(arena->large, first);
    }
}

/* Gives the memory behind free slabs back until keep of them have some, from the highest address down:
 * what is used next is lowest. Under the runs' lock. */
static void dirty_trim(struct arena *arena, uint32_t keep)
{
    for (uint32_t slab = arena->slabs_high; slab-- > 0 && arena->dirty_count > keep;) {
        if (!bit_get(arena->dirty, slab)) {
            if (arena->dirty[slab / 64] == 0)
                slab -= slab % 64;
            continue;
        }
        uint32_t end = slab + 1;
        bit_clear(arena->dirty, slab);
        arena->dirty_count--;
        arena->slabs[slab].backed = 0;
        while (arena->dirty_count > keep && bit_get(arena->dirty, slab - 1)) {
            bit_clear(arena->dirty, --slab);
            arena->dirty_count--;
            arena->slabs[slab].backed = 0;
        }
        size_t size = (size_t)(end - slab) << SLAB_SHIFT;
        pages_forget(arena, slab, end);
        /* Cannot fail on a private mapping of ours, and if it did the memory would only stay resident. */
        (void)madvise(slab_address(arena, slab), size, MADV_DONTNEED);
        arena_uncommit(arena, size);
        atomic_fetch_add_explicit(&arena->returns, end - slab, memory_order_relaxed);
    }
    if (arena->dirty_count < arena->dirty_low)
        arena->dirty_low = arena->dirty_count;
}

enum weir_error arena_commit(struct arena *arena, size_t size)
{
    if (committed_raise(arena, size, 0))
        return WEIR_OK;
    classes_trim(arena);
    pthread_mutex_lock(&arena->runs_lock);
    dirty_trim(arena, 0);
    pthread_mutex_unlock(&arena->runs_lock);
    if (committed_raise(arena, size, 0))
        return WEIR_OK;
    atomic_fetch_add_explicit(&arena->refusals, 1, memory_order_relaxed);
    return WEIR_NO_MEMORY;
}

/* The first bit from `from` on, below end, whose value is `value`; end when there is none. */
static uint32_t bit_find(const uint64_t *bits, uint32_t from, uint32_t end, bool value)
{
    for (uint32_t i = from; i < end; i = (i / 64 + 1) * 64) {
        uint64_t word = (value ? bits[i / 64] : ~bits[i / 64]) >> (i % 64);
        if (word) {
            i += (uint32_t)__builtin_ctzll(word);
            return i < end ? i : end;
        }
    }
    return end;
}

/* The lowest run of count free slabs; slab_count when there is none. Under the lock. */
static uint32_t run_find(const struct arena *arena, uint32_t count)
{
    uint32_t start = arena->slabs_low;
    while (start < arena->slab_count && arena->slab_count - start >= count) {
        start = bit_find(arena->used, start, arena->slab_count, false);
        if (arena->slab_count - start < count)
            break;
        uint32_t end = bit_find(arena->used, start, start + count, true);
        if (end == start + count)
            return start;
        start = end;
    }
    return arena->slab_count;
}

/* A single slab comes with memory if one is there, else it is the lowest. Under the lock. */
static uint32_t run_choose(const struct arena *arena, uint32_t count)
{
    if (count == 1 && arena->dirty_count > 0)
        return bit_find(arena->dirty, arena->slabs_low, arena->slabs_high, true);
    return run_find(arena, count);
}

static uint32_t dirty_in_run(const struct arena *arena, uint32_t slab, uint32_t count)
{
    uint32_t dirty = 0;
    for (uint32_t i = slab; i < slab + count; i++)
        dirty += bit_get(arena->dirty, i);
    return dirty;
}

static void run_mark_used(struct arena *arena, uint32_t slab, uint32_t count, uint32_t dirty)
{
    for (uint32_t i = slab; i < slab + count; i++) {
        bit_set(arena->used, i);
        bit_clear(arena->dirty, i);
    }
    arena->dirty_count -= dirty;
    if (arena->dirty_count < arena->dirty_low)
        arena->dirty_low = arena->dirty_count;
    arena->slabs_used += count;
    if (slab + count > arena->slabs_high)
        arena->slabs_high = slab + count;
    if (slab == arena->slabs_low)
        arena->slabs_low = slab + count;
}

enum weir_error runs_take(struct arena *arena, uint32_t count, size_t left, uint32_t *slab_out)
{
    enum weir_error error = WEIR_NO_MEMORY;
    pthread_mutex_lock(&arena->runs_lock);
    uint32_t slab = run_choose(arena, count);
    if (slab == arena->slab_count)
        goto unlock;
    uint32_t dirty = dirty_in_run(arena, slab, count);
    if (!committed_raise(arena, (size_t)(count - dirty) << SLAB_SHIFT, left)) {
        /* What is kept for reuse elsewhere may make room. */
        dirty_trim(arena, 0);
        dirty = 0;
        if (!committed_raise(arena, (size_t)count << SLAB_SHIFT, left))
            goto unlock;
    }
    /* A long run has memory only as far as it is written to. */
    if (count == 1 && page_is_bare(arena, slab))
        page_ask(arena, slab);
    run_mark_used(arena, slab, count, dirty);
    *slab_out = slab;
    error = WEIR_OK;
unlock:
    pthread_mutex_unlock(&arena->runs_lock);
    return error;
}

void runs_give(struct arena *arena, uint32_t slab, uint32_t count)
{
    pthread_mutex_lock(&arena->runs_lock);
    for (uint32_t i = slab; i < slab + count; i++) {
        bit_clear(arena->used, i);
        bit_set(arena->dirty, i);
    }
    arena->dirty_count += count;
    arena->slabs_used -= count;
    if (slab < arena->slabs_low)
        arena->slabs_low = slab;
    uint32_t keep = arena->slabs_used / ARENA_SLABS_KEPT_USED_PART;
    if (keep < arena->slabs_kept)
        keep = arena->slabs_kept;
    if (arena->dirty_count > keep)
        dirty_trim(arena, keep);
    pthread_mutex_unlock(&arena->runs_lock);
}

bool runs_rest(struct arena *arena)
{
    pthread_mutex_lock(&arena->runs_lock);
    uint32_t give = (arena->dirty_low + 1) / 2;
    if (give > ARENA_REST_RETURNS_MAX)
        give = ARENA_REST_RETURNS_MAX;
    if (arena->dirty_count > ARENA_SLABS_KEPT_RESTING && give > 0) {
        uint32_t keep = arena->dirty_count - give;
        dirty_trim(arena, keep > ARENA_SLABS_KEPT_RESTING ? keep : ARENA_SLABS_KEPT_RESTING);
    }
    arena->dirty_low = arena->dirty_count;
    bool has_more = arena->dirty_count > ARENA_SLABS_KEPT_RESTING;
    pthread_mutex_unlock(&arena->runs_lock);
    return has_more;
}

#endif
