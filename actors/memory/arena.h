/* The arena: where every message, page and receive buffer lives. A block is named by a handle of
 * index and generation, never by a pointer, so that a handle kept too long is refused instead of
 * reading somebody else's bytes.
 *
 * A block starts with one reference. hold adds one, drop takes one; the last drop frees the slot and
 * ends the generation. Whoever has a reference may read the block; only the one holder of an unshared
 * block may write it (appending behind what readers were told of is writing nobody reads: allowed).
 *
 * Blocks come from slabs in size classes, cached for each thread; the path of alloc, hold and drop
 * takes no lock and makes no system call but for refills in batches. Blocks above the largest class,
 * up to ARENA_BLOCK_SIZE_MAX, get whole slabs. Wholly free slabs go back to the system.
 *
 * With WEIR_ARENA_CHECKED each block is one malloc (arena_checked.c), poisoned when freed, so that
 * AddressSanitizer reports use after drop, overruns and leaks.
 *
 * Copying pays only for what fits into the 24 bytes of a message itself. From 64 B and two receivers on a reference is
 * cheaper than a copy for each, by 1.5 to 2.5 times at 64 B, 4 at 1 KiB, 6 at 16 KiB (tests/bench/arena_copy_bench).
 *
 * Any thread may call anything here but create and destroy. */
#ifndef ACTORS_MEMORY_ARENA_H
#define ACTORS_MEMORY_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "actors/memory/budget.h"
#include "weir_error.h"

#define ARENA_BLOCK_SIZE_MAX ((size_t)64 << 20)

/* What each block costs beside its bytes. A size of a power of two less this fills its slot. */
#define ARENA_BLOCK_OVERHEAD ((size_t)32)

/* A reference to a block: low 32 bits index, high 32 bits generation (never 0). {0} is no block. */
typedef struct {
    uint64_t bits;
} weir_msg;

#define WEIR_MSG_NONE ((weir_msg){0})

static inline bool msg_is_none(weir_msg msg) { return msg.bits == 0; }

/* Part of a block. Does not by itself hold the block. */
struct slice {
    weir_msg block;
    uint32_t offset;
    uint32_t size;
};

struct arena;

struct arena_config {
    size_t bytes_max; /* hard ceiling on memory committed to slabs; beyond it alloc is WEIR_NO_MEMORY */
};

struct arena_usage {
    size_t bytes_max;
    size_t bytes_committed; /* slabs in use or kept for reuse */
    size_t bytes_committed_peak;
    size_t bytes_live; /* slots in use */
    size_t blocks_live;
    uint64_t refusals; /* allocations refused by the ceiling */
    uint64_t stale;    /* stale handles refused */
};

WEIR_MUST_USE enum weir_error arena_create(const struct arena_config *config, struct arena **out);

/* Blocks still live are a leak: reported through arena_leaks_report by the caller beforehand, if wanted. */
void arena_destroy(struct arena **arena);

/* A new block of size bytes (1 to ARENA_BLOCK_SIZE_MAX), its contents undefined, with one reference,
 * aligned to 16, charged to owner (NULL: to nobody but the ceiling).
 * WEIR_TOO_BIG, WEIR_NO_MEMORY (ceiling or budget). */
WEIR_MUST_USE enum weir_error arena_alloc(struct arena *arena, size_t size, struct budget *owner, weir_msg *out);

/* The same, and leaves 1/part of the ceiling to others (part 0: nothing), as budget_leave_set does for a whole budget:
 * for what can wait, so that what cannot finds memory when the ceiling is reached. */
WEIR_MUST_USE enum weir_error arena_alloc_leaving(struct arena *arena, size_t size, struct budget *owner, uint32_t part,
                                                  weir_msg *out);

/* Puts a block of size bytes in place of *block, of which the caller has the only reference and whose first used bytes
 * come along; WEIR_MSG_NONE (used 0) is fine. Errors as arena_alloc's, and then *block is as it was. Both take memory
 * for a moment. */
WEIR_MUST_USE enum weir_error arena_grow(struct arena *arena, weir_msg *block, size_t used, size_t size,
                                         struct budget *owner);

/* The block's bytes, valid while the caller has a reference; NULL for a stale handle. */
void *arena_data(struct arena *arena, weir_msg msg);

/* Begins to fetch the block's first bytes into the processor's caches and does not wait. Looks at nothing of the block;
 * any handle is fine. */
void arena_prefetch(struct arena *arena, weir_msg msg);
/* The same for what holding or dropping it takes, and for some of the bytes from offset on. */
void arena_prefetch_part(struct arena *arena, weir_msg msg, size_t offset, size_t size);

/* The size asked for at alloc; 0 for a stale handle. */
size_t arena_size(struct arena *arena, weir_msg msg);

/* How many bytes the block's slot can carry, at least arena_size; 0 for a stale handle. */
size_t arena_capacity(struct arena *arena, weir_msg msg);

/* One more reference. WEIR_STALE when the block is gone. The caller must itself be sure of a reference
 * for as long as the call lasts (its own, or one that somebody keeps for it). */
enum weir_error arena_hold(struct arena *arena, weir_msg msg);

/* Gives back one reference; the block ends with the last. A stale handle is counted and ignored.
 * WEIR_MSG_NONE is fine. */
void arena_drop(struct arena *arena, weir_msg msg);

/* True when the caller's is the only reference, so that it may write. */
bool arena_is_unshared(struct arena *arena, weir_msg msg);

void arena_usage(struct arena *arena, struct arena_usage *out);

/* How many times 256 KiB went back to the system, ever: each takes 20 to 100 us of whoever dropped the last block of
 * it, so who drops very many looks at this now and then. One load. */
uint64_t arena_returns(struct arena *arena);

/* Calls on_leak for each live block, with its owner's name ("" for none); returns how many. Only when
 * no other thread uses the arena. */
size_t arena_leaks_report(struct arena *arena,
                          void (*on_leak)(weir_msg msg, size_t size, const char *owner, void *context), void *context);

/* Gives this thread's cached free slots back; a thread calls it before it ends. */
void arena_thread_flush(struct arena *arena);

/* For a thread that has nothing to do now, as often as it likes: once in ARENA_REST_NS it gives its cached free slots
 * back, and a part of the free slabs that nobody has needed since the last time goes back to the system. True: there
 * may be more to give back after ARENA_REST_NS, even where nothing happens until then. now_ns: any monotonic clock. */
bool arena_thread_rest(struct arena *arena, uint64_t now_ns);

#endif
