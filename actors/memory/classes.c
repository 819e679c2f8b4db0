/* Size classes: slabs cut into slots of one size, and which slots of each slab are free. Called with
 * batches from the threads' magazines; any thread, under the lock of one class.
 *
 * Slots are taken from the fullest slab that has any, so that the emptier ones get a chance to become
 * wholly free and go back. One wholly free slab is kept for each class. */
#ifndef WEIR_ARENA_CHECKED

#include <sys/mman.h>

#include "actors/memory/arena_internal.h"

enum {
    /* A fresh page of memory costs a trap and more when it is first written, which under a hypervisor is microseconds;
     * asked for together, sixteen cost little more than one. */
    POPULATE_SIZE = 64 * 1024,
    /* From so many slabs of a class on: then what is had ahead of its use is at most a thirtieth. */
    POPULATE_SLABS_MIN = 8,
};

/* Four classes a doubling, so that at most a fifth of a slot is wasted, from where this takes no more
 * than a cache line; above 32 KiB whole fractions of a slab. Multiples of SLOT_SIZE_UNIT. */
static const uint32_t slot_sizes[CLASS_COUNT] = {
    64,    96,    128,   160,   192,   224,   256,   320,   384,   448,   512,   640,   768,   896,           1024,
    1280,  1536,  1792,  2048,  2560,  3072,  3584,  4096,  5120,  6144,  7168,  8192,  10240, 12288,         14336,
    16384, 18720, 20160, 21824, 23808, 26208, 29120, 32768, 37440, 43680, 52416, 65536, 87360, SLOT_SIZE_MAX,
};

/* A magazine trades about this many bytes at once, within bounds. */
static const uint32_t batch_size = 16 * 1024;

static void class_shape_set(struct size_class *class, uint32_t slot_size)
{
    class->slot_size = slot_size;
    class->slots = SLAB_SIZE / slot_size;
    class->batch = batch_size / slot_size;
    if (class->batch < 1)
        class->batch = 1;
    if (class->batch > MAGAZINE_BATCH_MAX)
        class->batch = MAGAZINE_BATCH_MAX;
    class->bucket_scale = (BUCKET_COUNT << 16) / class->slots;
}

bool classes_init(struct arena *arena)
{
    uint32_t size = 0;
    for (uint32_t i = 0; i < CLASS_COUNT; i++) {
        struct size_class *class = &arena->classes[i];
        INVARIANT(slot_sizes[i] % SLOT_SIZE_UNIT == 0);
        class_shape_set(class, slot_sizes[i]);
        for (; size <= slot_sizes[i]; size += SLOT_SIZE_UNIT)
            arena->class_of[size / SLOT_SIZE_UNIT] = (uint8_t)i;
        if (pthread_mutex_init(&class->lock, NULL)) {
            while (i-- > 0)
                pthread_mutex_destroy(&arena->classes[i].lock);
            return false;
        }
    }
    return true;
}

void classes_fini(struct arena *arena)
{
    for (uint32_t i = 0; i < CLASS_COUNT; i++)
        pthread_mutex_destroy(&arena->classes[i].lock);
}

static uint32_t slab_used(const struct slab *slab) { return slab->carved - slab->free_count; }

static uint32_t bucket_of(const struct size_class *class, const struct slab *slab)
{
    uint32_t used = slab_used(slab);
    if (used == class->slots)
        return BUCKET_NONE;
    uint32_t bucket = used * class->bucket_scale >> 16;
    if (bucket < 1)
        return used ? 1 : 0;
    return bucket < BUCKET_COUNT ? bucket : BUCKET_COUNT - 1;
}

static void bucket_unlink(struct arena *arena, struct size_class *class, uint32_t number)
{
    struct slab *slab = &arena->slabs[number];
    if (slab->bucket == BUCKET_NONE)
        return;
    if (slab->previous)
        arena->slabs[slab->previous].next = slab->next;
    else
        class->buckets[slab->bucket] = slab->next;
    if (slab->next)
        arena->slabs[slab->next].previous = slab->previous;
    slab->bucket = BUCKET_NONE;
}

static void bucket_link(struct arena *arena, struct size_class *class, uint32_t number, uint32_t bucket)
{
    struct slab *slab = &arena->slabs[number];
    slab->bucket = (uint8_t)bucket;
    if (bucket == BUCKET_NONE)
        return;
    slab->previous = 0;
    slab->next = class->buckets[bucket];
    if (slab->next)
        arena->slabs[slab->next].previous = number;
    class->buckets[bucket] = number;
}

/* Moves a slab to the bucket that its fill asks for. */
static void slab_sort(struct arena *arena, struct size_class *class, uint32_t number)
{
    uint32_t bucket = bucket_of(class, &arena->slabs[number]);
    if (bucket == arena->slabs[number].bucket)
        return;
    bucket_unlink(arena, class, number);
    bucket_link(arena, class, number, bucket);
}

static struct block *slab_block(const struct arena *arena, uint32_t number, uint32_t slot, uint32_t slot_size)
{
    return (struct block *)(void *)(slab_address(arena, number) + (size_t)slot * slot_size);
}

/* A wholly free slab loses its class. No generation that its slots ever had may come again under the same
 * index, whatever the slab is next: the largest becomes the base. */
static void slab_release(struct arena *arena, struct size_class *class, uint32_t number)
{
    struct slab *slab = &arena->slabs[number];
    bucket_unlink(arena, class, number);
    atomic_store_explicit(&arena->shapes[number], 0, memory_order_release);
    for (uint32_t slot = 0; slot < slab->carved; slot++) {
        struct block *block = slab_block(arena, number, slot, class->slot_size);
        uint32_t generation = word_generation(atomic_load_explicit(&block->word, memory_order_relaxed));
        if (generation > slab->generation_base)
            slab->generation_base = generation;
    }
    uint32_t backed = slab->carved * class->slot_size / POPULATE_SIZE;
    if (backed > slab->backed)
        slab->backed = (uint8_t)backed;
    slab->free_head = 0;
    slab->free_count = 0;
    slab->carved = 0;
    class->slabs--;
    runs_give(arena, number, 1);
}

/* A fresh slab for a class; 0 when there is none. */
static uint32_t slab_take(struct arena *arena, struct size_class *class, uint32_t class_index, size_t left)
{
    uint32_t number;
    if (runs_take(arena, 1, left, &number))
        return 0;
    struct slab *slab = &arena->slabs[number];
    slab->class_index = (uint8_t)class_index;
    class->slabs++;
    bucket_link(arena, class, number, 0);
    return number;
}

/* Has the kernel put memory behind what is about to be carved, and what comes next. One that does not know how, before
 * Linux 5.14, puts it there page by page as they are written. */
static void slab_populate(const struct arena *arena, uint32_t number, size_t from, size_t to)
{
    size_t first = (from + POPULATE_SIZE - 1) / POPULATE_SIZE * POPULATE_SIZE;
    size_t end = (to + POPULATE_SIZE - 1) / POPULATE_SIZE * POPULATE_SIZE;
    if (first < end)
        (void)madvise(slab_address(arena, number) + first, end - first, MADV_POPULATE_WRITE);
}

/* Heads up to count slots that were not used since the slab got its class. */
static uint32_t slab_carve(struct arena *arena, const struct size_class *class, uint32_t number, struct block **out,
                           uint32_t count)
{
    struct slab *slab = &arena->slabs[number];
    uint32_t left = class->slots - slab->carved;
    if (count > left)
        count = left;
    if (class->slabs >= POPULATE_SLABS_MIN) {
        /* What the slab had in another life it has still. */
        size_t from = (size_t)slab->carved * class->slot_size, backed = (size_t)slab->backed * POPULATE_SIZE;
        slab_populate(arena, number, from > backed ? from : backed, (size_t)(slab->carved + count) * class->slot_size);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = slab->carved + i;
        struct block *block = slab_block(arena, number, slot, class->slot_size);
        atomic_store_explicit(&block->word, slab->generation_base, memory_order_relaxed);
        block->index = number << SLOT_BITS | slot;
        block->class_index = slab->class_index;
        out[i] = block;
    }
    slab->carved += count;
    atomic_store_explicit(&arena->shapes[number], shape_of(class->slot_size, slab->carved * class->slot_size),
                          memory_order_release);
    return count;
}

/* Free slots of one slab: first those that were in use before. */
static uint32_t slab_pop(struct arena *arena, const struct size_class *class, uint32_t number, struct block **out,
                         uint32_t count)
{
    struct slab *slab = &arena->slabs[number];
    uint32_t got = 0;
    while (got < count && slab->free_head) {
        struct block *block = slab_block(arena, number, slab->free_head - 1, class->slot_size);
        slab->free_head = block->link;
        slab->free_count--;
        out[got++] = block;
    }
    if (got < count && slab->carved < class->slots)
        got += slab_carve(arena, class, number, out + got, count - got);
    return got;
}

static uint32_t fullest_slab(const struct size_class *class)
{
    for (uint32_t bucket = BUCKET_COUNT; bucket-- > 0;) {
        if (class->buckets[bucket])
            return class->buckets[bucket];
    }
    return 0;
}

uint32_t class_take(struct arena *arena, uint32_t class_index, size_t left, struct block **out, uint32_t count)
{
    struct size_class *class = &arena->classes[class_index];
    uint32_t got = 0;
    pthread_mutex_lock(&class->lock);
    while (got < count) {
        uint32_t number = fullest_slab(class);
        if (!number)
            number = slab_take(arena, class, class_index, left);
        if (!number)
            break;
        got += slab_pop(arena, class, number, out + got, count - got);
        slab_sort(arena, class, number);
    }
    pthread_mutex_unlock(&class->lock);
    return got;
}

static void slab_push(struct arena *arena, struct size_class *class, struct block *block)
{
    uint32_t number = block->index >> SLOT_BITS;
    struct slab *slab = &arena->slabs[number];
    block->link = slab->free_head;
    slab->free_head = (block->index & ((1U << SLOT_BITS) - 1)) + 1;
    slab->free_count++;
    slab_sort(arena, class, number);
    uint32_t spare = class->buckets[0];
    /* Of two wholly free slabs the lower one stays. */
    if (spare && arena->slabs[spare].next) {
        uint32_t other = arena->slabs[spare].next;
        slab_release(arena, class, spare > other ? spare : other);
    }
}

void class_give(struct arena *arena, uint32_t class_index, struct block *const *blocks, uint32_t count)
{
    struct size_class *class = &arena->classes[class_index];
    pthread_mutex_lock(&class->lock);
    for (uint32_t i = 0; i < count; i++)
        slab_push(arena, class, blocks[i]);
    pthread_mutex_unlock(&class->lock);
}

void classes_trim(struct arena *arena)
{
    for (uint32_t i = 0; i < CLASS_COUNT; i++) {
        struct size_class *class = &arena->classes[i];
        pthread_mutex_lock(&class->lock);
        while (class->buckets[0])
            slab_release(arena, class, class->buckets[0]);
        pthread_mutex_unlock(&class->lock);
    }
}

#endif
