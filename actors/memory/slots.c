/* The part of slot pools behind the caches: whole batches change hands under the pool's lock. Called
 * from slots.h's inline functions when a cache runs empty or full; any thread. */
#include "actors/memory/slots.h"

#include "actors/base/assert.h"
#include "actors/memory/commit.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
    SLOTS_MAGIC = 0x510c5a11,
    SLOT_ALIGNMENT = 64,
    SLOT_SMALL = 32,
    /* Memory is committed in steps of this many bytes: sixteen pages a fault burst, little for a small pool. */
    SLOTS_STEP_SIZE = 64 * 1024,
    /* From so much on a pool grows in pages of 2 MiB: its slots are used in any order, and the processor's address
     * caches reach a few thousand pages. The page is half of what is there at the most, and used before the next. */
    SLOTS_PAGE_FROM = 4 * 1024 * 1024,
    SLOTS_PAGE_SIZE = 2 * 1024 * 1024,
    /* Pages that the arena must have left, or the ceiling would be met sooner than need be. */
    SLOTS_PAGES_LEFT = 4,
};

struct slots {
    struct slots_layout layout; /* constant; slots.h reads it */
    uint32_t magic;
    uint32_t slots_max;
    struct arena *arena;
    char *reserved; /* somewhere in it is layout.base */
    size_t reserved_size;

    /* All below: under lock. */
    pthread_mutex_t lock;
    uint32_t *batches; /* stack of heads of chains of SLOTS_BATCH free slots each */
    size_t batches_count;
    size_t batches_size;      /* of the mapping */
    struct slots_cache loose; /* free slots that make no whole batch */
    uint32_t fresh;           /* the first index never handed out */
    uint32_t committed;       /* the first index whose memory is not committed */
    size_t pooled;            /* free slots here: in batches and loose */
};

static void *map_reserve(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

enum weir_error slots_create(struct arena *arena, size_t slot_size, uint32_t slots_max, struct slots **out)
{
    REQUIRE(slot_size > 0 && slots_max > 0);
    if (slots_max >= UINT32_MAX || slot_size > (size_t)1 << 20)
        return WEIR_TOO_BIG;
    struct slots *slots = calloc(1, sizeof *slots);
    if (!slots)
        return WEIR_NO_MEMORY;
    slots->magic = SLOTS_MAGIC;
    slots->arena = arena;
    slots->slots_max = slots_max;
    size_t alignment = slot_size <= SLOT_SMALL ? SLOT_SMALL : SLOT_ALIGNMENT;
    slots->layout.slot_size = (slot_size + alignment - 1) / alignment * alignment;
    /* Slot 0 is mapped but never used; behind it begins a page of 2 MiB. */
    slots->reserved_size = ((size_t)slots_max + 1) * slots->layout.slot_size + SLOTS_PAGE_SIZE;
    slots->fresh = 1;
    slots->committed = 1;
    /* Every chain holds SLOTS_BATCH slots, so that no more of them can exist at a time. */
    slots->batches_size = ((size_t)slots_max / SLOTS_BATCH + 1) * sizeof *slots->batches;
    slots->reserved = map_reserve(slots->reserved_size);
    if (!slots->reserved)
        goto free_slots;
    slots->layout.base = slots->reserved + -((uintptr_t)slots->reserved + slots->layout.slot_size) % SLOTS_PAGE_SIZE;
    slots->batches = map_reserve(slots->batches_size);
    if (!slots->batches)
        goto unmap_base;
    if (pthread_mutex_init(&slots->lock, NULL))
        goto unmap_batches;
    *out = slots;
    return WEIR_OK;

unmap_batches:
    munmap(slots->batches, slots->batches_size);
unmap_base:
    munmap(slots->reserved, slots->reserved_size);
free_slots:
    free(slots);
    return WEIR_NO_MEMORY;
}

void slots_destroy(struct slots **slots_pointer)
{
    struct slots *slots = *slots_pointer;
    if (!slots)
        return;
    MAGIC_CHECK(slots, SLOTS_MAGIC);
    *slots_pointer = NULL;
    arena_uncommit(slots->arena, (size_t)(slots->committed - 1) * slots->layout.slot_size);
    pthread_mutex_destroy(&slots->lock);
    munmap(slots->batches, slots->batches_size);
    munmap(slots->reserved, slots->reserved_size);
    slots->magic = 0;
    free(slots);
}

static uint32_t link_get(const struct slots *slots, uint32_t index)
{
    uint32_t link;
    __builtin_memcpy(&link, slots_at(slots, index), sizeof link);
    return link;
}

static void link_set(struct slots *slots, uint32_t index, uint32_t link)
{
    __builtin_memcpy(slots_at(slots, index), &link, sizeof link);
}

/* Moves the first `count` slots of a cache, which has as many, to the front of another. */
static void cache_move(struct slots *slots, struct slots_cache *from, struct slots_cache *to, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = from->head;
        from->head = link_get(slots, index);
        link_set(slots, index, to->head);
        to->head = index;
    }
    from->count -= count;
    to->count += count;
}

/* Commits what lies wholly below the end of one more page of 2 MiB, and asks for such a page. A slot across the end
 * comes with the next: used before, it would make small pages of that. False: there is not enough room. Under lock. */
static bool page_grow(struct slots *slots)
{
    struct arena_usage usage;
    arena_usage(slots->arena, &usage);
    if (usage.bytes_max - usage.bytes_committed < (size_t)SLOTS_PAGES_LEFT * SLOTS_PAGE_SIZE)
        return false;
    size_t slot_size = slots->layout.slot_size;
    char *first = slots->layout.base + slot_size; /* a page begins here */
    size_t page = (size_t)(slots->committed - 1) * slot_size / SLOTS_PAGE_SIZE;
    size_t end = 1 + (page + 1) * SLOTS_PAGE_SIZE / slot_size;
    if (end <= slots->committed)
        end = 1 + (++page + 1) * SLOTS_PAGE_SIZE / slot_size;
    if (end > (size_t)slots->slots_max + 1 || arena_commit(slots->arena, (end - slots->committed) * slot_size))
        return false;
    slots->committed = (uint32_t)end;
    /* Where the system has none, small ones do. */
    (void)madvise(first + page * SLOTS_PAGE_SIZE, SLOTS_PAGE_SIZE, MADV_HUGEPAGE);
    return true;
}

/* Commits one more step of slots. Under lock. */
static enum weir_error slots_grow(struct slots *slots)
{
    uint32_t end = slots->slots_max + 1;
    uint32_t pages_from = 1 + SLOTS_PAGE_FROM / (uint32_t)slots->layout.slot_size;
    if (slots->committed >= pages_from && page_grow(slots))
        return WEIR_OK;
    size_t step = SLOTS_STEP_SIZE / slots->layout.slot_size;
    if (step == 0)
        step = 1;
    if (slots->committed < pages_from && pages_from < end)
        end = pages_from;
    if (step > end - slots->committed)
        step = end - slots->committed;
    if (step == 0)
        return WEIR_NO_MEMORY;
    enum weir_error error = arena_commit(slots->arena, step * slots->layout.slot_size);
    if (error)
        return error;
    slots->committed += (uint32_t)step;
    return WEIR_OK;
}

/* Links up to SLOTS_BATCH slots that were never used into an empty cache, in rising order. Under lock. */
static enum weir_error slots_fresh(struct slots *slots, struct slots_cache *cache)
{
    if (slots->fresh == slots->committed) {
        enum weir_error error = slots_grow(slots);
        if (error)
            return error;
    }
    uint32_t count = slots->committed - slots->fresh;
    if (count > SLOTS_BATCH)
        count = SLOTS_BATCH;
    for (uint32_t i = 0; i < count; i++)
        link_set(slots, slots->fresh + i, i + 1 < count ? slots->fresh + i + 1 : 0);
    cache->head = slots->fresh;
    cache->count = count;
    slots->fresh += count;
    return WEIR_OK;
}

enum weir_error slots_refill(struct slots *slots, struct slots_cache *cache)
{
    MAGIC_CHECK(slots, SLOTS_MAGIC);
    REQUIRE(cache->count == 0);
    enum weir_error error = WEIR_OK;
    cache->head = 0;
    pthread_mutex_lock(&slots->lock);
    if (slots->batches_count > 0) {
        cache->head = slots->batches[--slots->batches_count];
        cache->count = SLOTS_BATCH;
        slots->pooled -= SLOTS_BATCH;
    } else if (slots->loose.count > 0) {
        *cache = slots->loose;
        slots->loose = (struct slots_cache){0};
        slots->pooled -= cache->count;
    } else {
        error = slots_fresh(slots, cache);
    }
    pthread_mutex_unlock(&slots->lock);
    return error;
}

/* A batch is unlinked before the lock is taken: its slots are still this thread's. */
void slots_spill(struct slots *slots, struct slots_cache *cache)
{
    MAGIC_CHECK(slots, SLOTS_MAGIC);
    REQUIRE(cache->count >= SLOTS_BATCH);
    uint32_t head = cache->head;
    uint32_t last = head;
    for (uint32_t i = 1; i < SLOTS_BATCH; i++)
        last = link_get(slots, last);
    cache->head = link_get(slots, last);
    cache->count -= SLOTS_BATCH;
    link_set(slots, last, 0);
    pthread_mutex_lock(&slots->lock);
    ENSURE(slots->batches_count < slots->batches_size / sizeof *slots->batches);
    slots->batches[slots->batches_count++] = head;
    slots->pooled += SLOTS_BATCH;
    pthread_mutex_unlock(&slots->lock);
}

void slots_cache_flush(struct slots *slots, struct slots_cache *cache)
{
    MAGIC_CHECK(slots, SLOTS_MAGIC);
    while (cache->count >= SLOTS_BATCH)
        slots_spill(slots, cache);
    uint32_t rest = cache->count;
    pthread_mutex_lock(&slots->lock);
    cache_move(slots, cache, &slots->loose, rest);
    slots->pooled += rest;
    if (slots->loose.count >= SLOTS_BATCH) {
        struct slots_cache batch = {0};
        cache_move(slots, &slots->loose, &batch, SLOTS_BATCH);
        slots->batches[slots->batches_count++] = batch.head;
    }
    pthread_mutex_unlock(&slots->lock);
    cache->head = 0;
}

size_t slots_live(struct slots *slots)
{
    MAGIC_CHECK(slots, SLOTS_MAGIC);
    pthread_mutex_lock(&slots->lock);
    size_t live = slots->fresh - 1 - slots->pooled;
    pthread_mutex_unlock(&slots->lock);
    return live;
}
