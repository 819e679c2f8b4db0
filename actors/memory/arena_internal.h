/* What the files of the real arena share. Layout:
 *
 *   one reserved range of address space, cut into slabs of 256 KiB; slab 0 is never used
 *   runs.c      which slabs are free, and which of those still have memory behind them
 *   classes.c   slabs cut into slots of one size: the free slots of each size class
 *   cache.c     each thread's magazines of free slots
 *   arena.c     blocks: alloc, hold, drop, and the check of handles
 *
 * Locks, taken in this order: a class's lock, the runs' lock. The caches' lock is taken alone. */
#ifndef ACTORS_MEMORY_ARENA_INTERNAL_H
#define ACTORS_MEMORY_ARENA_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "actors/base/assert.h"
#include "actors/base/limits.h"
#include "actors/memory/arena.h"

enum {
    ARENA_MAGIC = 0xa4e9a001,
    SLAB_SHIFT = 18,
    SLAB_SIZE = 1 << SLAB_SHIFT,
    SLOT_BITS = 12, /* 4,096 slots of the smallest class fill a slab */
    SLOT_SIZE_MIN = 64,
    SLOT_SIZE_MAX = 128 * 1024, /* larger blocks get slabs of their own */
    SLOT_SIZE_UNIT = 32,        /* every class is a multiple of it */
    CLASS_COUNT = 44,
    CLASS_LARGE = 255,
    BUCKET_COUNT = 8, /* of slabs of one class, by how full they are; bucket 0: wholly free */
    BUCKET_NONE = 255,
    MAGAZINE_BATCH_MAX = 32,
    MAGAZINE_MAX = 2 * MAGAZINE_BATCH_MAX,
};

/* A slot's head. Behind it come the bytes that the user sees. */
struct block {
    /* High half: references, 0 when the slot is free; low half: generation of the present or last block.
     * Whoever allocates or frees the slot stores it; holders change it by compare-and-swap. A drop is a
     * release, paired with the acquire of whoever finds itself the only or last holder, so that all uses
     * by others come before the reuse. The store at alloc is a release paired with the acquire of every
     * look-up: whoever finds the generation sees the size. */
    _Atomic uint64_t word;
    struct budget *budget; /* written at alloc, read by the last holder */
    _Atomic uint32_t size; /* written at alloc; atomic because a garbage handle may meet it, relaxed */
    uint32_t index;        /* of the handle; constant while the slab keeps its class */
    uint32_t class_index;  /* likewise; CLASS_LARGE for a run of slabs */
    uint32_t link;         /* free in its slab: next free slot + 1; large: slabs in the run */
};

_Static_assert(sizeof(struct block) == ARENA_BLOCK_OVERHEAD, "the public figure is this size");

#define BLOCK_REFERENCE (UINT64_C(1) << 32)

static inline uint32_t word_generation(uint64_t word) { return (uint32_t)word; }
static inline uint32_t word_references(uint64_t word) { return (uint32_t)(word >> 32); }

struct slab {
    uint32_t next, previous;  /* in its bucket; 0: none */
    uint32_t free_head;       /* slot + 1 of the first free one; 0: none */
    uint32_t free_count;      /* slots given back to the slab */
    uint32_t carved;          /* slots that were ever handed out since the slab got its class */
    uint32_t generation_base; /* no block of this slab ever had a larger one, whatever its class was */
    uint8_t class_index;
    uint8_t bucket;
    uint8_t backed; /* so many times POPULATE_SIZE from its start have memory behind them, as far as is known */
};

/* How a slab is cut, as every look-up of a handle reads it: low half the slot size, high half how many
 * bytes from the slab's start are slots with a valid head. 0: no slots. Written under the class's lock
 * (or by the owner of a run) with release, after the heads; look-ups acquire. */
typedef _Atomic uint64_t slab_shape;

struct size_class {
    pthread_mutex_t lock;
    uint32_t slot_size;             /* the four below: constant */
    uint32_t slots;                 /* in a slab */
    uint32_t batch;                 /* slots that a magazine trades at once */
    uint32_t bucket_scale;          /* used * scale >> 16 is the bucket */
    uint32_t buckets[BUCKET_COUNT]; /* first slab of each; under lock */
    uint32_t slabs;                 /* that it has; under lock */
};

struct magazine {
    uint32_t count;
    uint32_t limit; /* the three below: constant copies of the class's, on the line that alloc and drop use */
    uint32_t batch;
    uint32_t slot_size;
    _Atomic int64_t live; /* blocks allocated less dropped by this thread; may be negative */
    struct block *blocks[MAGAZINE_MAX];
};

/* One thread's free slots in one arena. Written by that thread only; the figures are read by arena_usage,
 * hence atomic, relaxed: they are exact once the threads are quiet. */
struct cache {
    uint64_t thread;              /* 0: nobody's; under the caches' lock */
    uint64_t rested_ns;           /* when its thread gave it back at rest; that thread's */
    struct cache *next;           /* under the caches' lock */
    _Atomic int64_t large_blocks; /* as live above, for blocks with slabs of their own */
    _Atomic int64_t large_bytes;
    struct magazine magazines[CLASS_COUNT];
};

struct arena {
    uint32_t magic; /* down to class_of: constant after create */
    uint32_t slab_count;
    uint32_t slabs_kept; /* free slabs whose memory is kept at least */
    uint64_t id;         /* unique in the process, so that a thread knows its cache is for this arena */
    char *reserved;      /* in it, from where a page of 2 MiB begins, is */
    char *base;
    slab_shape *shapes;
    struct slab *slabs;
    size_t bytes_max;
    uint8_t class_of[SLOT_SIZE_MAX / SLOT_SIZE_UNIT + 1]; /* by total size in units, rounded up */

    struct size_class classes[CLASS_COUNT];

    _Alignas(64) pthread_mutex_t runs_lock; /* down to dirty_low */
    uint64_t *used;                         /* bit set: the slab is in use */
    uint64_t *dirty;                        /* bit set: the slab is free and has memory behind it */
    uint64_t *large;                        /* bit set, of the first slab of a large page: it was asked for */
    uint32_t slabs_high;                    /* slabs from here on were never used */
    uint32_t slabs_low;                     /* slabs below are in use */
    uint32_t slabs_used;
    uint32_t dirty_count;
    uint32_t dirty_low; /* the lowest dirty_count since runs_rest: slabs that nobody has needed */

    /* Changed by whoever commits or gives back, by compare-and-swap so that it never passes bytes_max;
     * relaxed: it guards no data. */
    _Alignas(64) _Atomic size_t committed;
    _Atomic size_t committed_peak; /* raised by everybody who commits; relaxed, for people */
    _Atomic uint64_t refusals;     /* relaxed counters, down to returns */
    _Atomic uint64_t stale;
    _Atomic uint64_t returns;   /* slabs that went back to the system */
    _Atomic uint64_t rested_ns; /* when runs_rest was called last; who moves it on, calls it. Relaxed: a hint */

    pthread_mutex_t caches_lock;
    struct cache *caches;
};

static inline char *slab_address(const struct arena *arena, uint32_t slab)
{
    return arena->base + ((size_t)slab << SLAB_SHIFT);
}

static inline uint64_t shape_of(uint32_t slot_size, uint32_t bytes) { return (uint64_t)bytes << 32 | slot_size; }

/* runs.c. Reserves the range and its tables; false when the system refuses. */
bool runs_init(struct arena *arena);
void runs_fini(struct arena *arena);
/* A run of count slabs, committed, with no shape. left: bytes below the ceiling that stay for others. WEIR_NO_MEMORY:
 * ceiling, or no such gap (not counted). */
WEIR_MUST_USE enum weir_error runs_take(struct arena *arena, uint32_t count, size_t left, uint32_t *slab_out);
/* Their shape is 0 again. Keeps some memory for reuse, gives back the rest. */
void runs_give(struct arena *arena, uint32_t slab, uint32_t count);
/* Gives back half of what nobody has needed since the last call, within bounds. True: more is kept than at rest. */
bool runs_rest(struct arena *arena);

/* classes.c */
bool classes_init(struct arena *arena);
void classes_fini(struct arena *arena);
/* Up to count free slots; returns how many, 0 at the ceiling less `left`. */
uint32_t class_take(struct arena *arena, uint32_t class_index, size_t left, struct block **out, uint32_t count);
void class_give(struct arena *arena, uint32_t class_index, struct block *const *blocks, uint32_t count);
/* Gives back every slab that is wholly free. */
void classes_trim(struct arena *arena);

/* The last arena a thread used and its cache there. Initial-exec, because a call to find a thread-local would
 * cost as much as the rest of an allocation. */
struct last_cache {
    uint64_t arena_id;
    struct cache *cache;
};
extern _Thread_local __attribute__((tls_model("initial-exec"))) struct last_cache last_cache;

/* cache.c. The calling thread's cache, made when there is none; NULL when the machine has no memory. */
struct cache *cache_find(struct arena *arena);
struct block *cache_refill(struct arena *arena, struct cache *cache, uint32_t class_index, size_t left);
void cache_spill(struct arena *arena, struct cache *cache, uint32_t class_index);
void cache_clear(struct arena *arena, struct cache *cache);

#endif
