/* The arena's twin for the sanitizers: each block is one malloc of exactly its size, so that
 * AddressSanitizer sees overruns and uses after the last drop, and LeakSanitizer what was never dropped.
 * Same contract, but for speed: one lock serves everything. Any thread.
 *
 * Handles name rows of a table that grows by pages and never moves; a row keeps its generation when its
 * block ends. */
#include "actors/memory/arena.h"

#ifdef WEIR_ARENA_CHECKED

#include "actors/base/assert.h"
#include "actors/base/limits.h"
#include "actors/memory/budget_charge.h"
#include "actors/memory/commit.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    ARENA_MAGIC = 0xa4e9a002,
    ROWS_PER_PAGE = 4096,
    PAGES_MAX = 4096,
    BYTE_FRESH = 0xa5, /* what a new block is filled with, so that nobody relies on zeroes */
    BYTE_DEAD = 0xdd,  /* what a dead block is filled with, for builds without AddressSanitizer */
};

struct row {
    uint32_t generation; /* of the present or last block */
    uint32_t references; /* 0: free */
    uint32_t size;
    uint32_t next_free; /* row number + 1 of the next free one; 0: none */
    void *data;
    struct budget *budget;
};

struct arena {
    uint32_t magic;
    pthread_mutex_t lock; /* all below */
    struct row *pages[PAGES_MAX];
    uint32_t rows; /* ever used */
    uint32_t free_head;
    struct arena_usage usage;
};

enum weir_error arena_create(const struct arena_config *config, struct arena **out)
{
    if (config->bytes_max == 0)
        return WEIR_BAD_REQUEST;
    struct arena *arena = calloc(1, sizeof *arena);
    if (!arena)
        return WEIR_NO_MEMORY;
    if (pthread_mutex_init(&arena->lock, NULL)) {
        free(arena);
        return WEIR_NO_MEMORY;
    }
    arena->magic = ARENA_MAGIC;
    arena->usage.bytes_max = config->bytes_max;
    *out = arena;
    return WEIR_OK;
}

/* Live blocks are left to LeakSanitizer: with the table gone nothing points to them. */
void arena_destroy(struct arena **arena_pointer)
{
    struct arena *arena = *arena_pointer;
    if (!arena)
        return;
    MAGIC_CHECK(arena, ARENA_MAGIC);
    *arena_pointer = NULL;
    for (size_t i = 0; i < PAGES_MAX; i++)
        free(arena->pages[i]);
    pthread_mutex_destroy(&arena->lock);
    arena->magic = 0;
    free(arena);
}

static struct row *row_at(const struct arena *arena, uint32_t number)
{
    return &arena->pages[number / ROWS_PER_PAGE][number % ROWS_PER_PAGE];
}

/* The row a handle names, NULL and counted when it names none. Row n has index n + 1. Under the lock. */
static struct row *row_find(struct arena *arena, weir_msg msg)
{
    uint32_t number = (uint32_t)msg.bits - 1;
    if (number < arena->rows) {
        struct row *row = row_at(arena, number);
        if (row->references > 0 && row->generation == (uint32_t)(msg.bits >> 32))
            return row;
    }
    arena->usage.stale++;
    return NULL;
}

/* A free row, the longest unused last; UINT32_MAX when there is no memory for one. Under the lock. */
static uint32_t row_take(struct arena *arena)
{
    if (arena->free_head) {
        uint32_t number = arena->free_head - 1;
        arena->free_head = row_at(arena, number)->next_free;
        return number;
    }
    uint32_t page = arena->rows / ROWS_PER_PAGE;
    if (page == PAGES_MAX)
        return UINT32_MAX;
    if (!arena->pages[page]) {
        arena->pages[page] = calloc(ROWS_PER_PAGE, sizeof(struct row));
        if (!arena->pages[page])
            return UINT32_MAX;
    }
    return arena->rows++;
}

/* Under the lock. */
static bool committed_raise(struct arena *arena, size_t size, size_t left)
{
    if (size + left > arena->usage.bytes_max - arena->usage.bytes_committed) {
        arena->usage.refusals++;
        return false;
    }
    arena->usage.bytes_committed += size;
    if (arena->usage.bytes_committed > arena->usage.bytes_committed_peak)
        arena->usage.bytes_committed_peak = arena->usage.bytes_committed;
    return true;
}

enum weir_error arena_commit(struct arena *arena, size_t size)
{
    pthread_mutex_lock(&arena->lock);
    bool is_done = committed_raise(arena, size, 0);
    pthread_mutex_unlock(&arena->lock);
    return is_done ? WEIR_OK : WEIR_NO_MEMORY;
}

void arena_uncommit(struct arena *arena, size_t size)
{
    pthread_mutex_lock(&arena->lock);
    arena->usage.bytes_committed -= size;
    pthread_mutex_unlock(&arena->lock);
}

/* A row for a block of size bytes at data. Under the lock. */
static enum weir_error row_open(struct arena *arena, void *data, size_t size, struct budget *owner, size_t left,
                                weir_msg *out)
{
    if (!committed_raise(arena, size + ARENA_BLOCK_OVERHEAD, left))
        return WEIR_NO_MEMORY;
    uint32_t number = row_take(arena);
    if (number == UINT32_MAX) {
        arena->usage.bytes_committed -= size + ARENA_BLOCK_OVERHEAD;
        return WEIR_NO_MEMORY;
    }
    struct row *row = row_at(arena, number);
    row->generation++;
    row->references = 1;
    row->size = (uint32_t)size;
    row->data = data;
    row->budget = owner;
    arena->usage.blocks_live++;
    arena->usage.bytes_live += size + ARENA_BLOCK_OVERHEAD;
    *out = (weir_msg){(uint64_t)row->generation << 32 | (number + 1)};
    return WEIR_OK;
}

enum weir_error arena_alloc(struct arena *arena, size_t size, struct budget *owner, weir_msg *out)
{
    return arena_alloc_leaving(arena, size, owner, 0, out);
}

enum weir_error arena_alloc_leaving(struct arena *arena, size_t size, struct budget *owner, uint32_t part,
                                    weir_msg *out)
{
    MAGIC_CHECK(arena, ARENA_MAGIC);
    REQUIRE(size > 0);
    if (size > ARENA_BLOCK_SIZE_MAX)
        return WEIR_TOO_BIG;
    enum weir_error error = owner ? budget_block_charge(owner, size + ARENA_BLOCK_OVERHEAD) : WEIR_OK;
    if (error)
        return error;
    size_t left = owner ? budget_left(owner, arena->usage.bytes_max) : 0; /* a constant of the arena: no lock */
    if (part > 0 && arena->usage.bytes_max / part > left)
        left = arena->usage.bytes_max / part;
    void *data = malloc(size);
    error = WEIR_NO_MEMORY;
    if (!data)
        goto release_budget;
    memset(data, BYTE_FRESH, size);
    pthread_mutex_lock(&arena->lock);
    error = row_open(arena, data, size, owner, left, out);
    pthread_mutex_unlock(&arena->lock);
    if (error)
        goto free_data;
    return WEIR_OK;

free_data:
    free(data);
release_budget:
    if (owner)
        budget_block_release(owner, size + ARENA_BLOCK_OVERHEAD);
    return error;
}

void *arena_data(struct arena *arena, weir_msg msg)
{
    pthread_mutex_lock(&arena->lock);
    struct row *row = row_find(arena, msg);
    void *data = row ? row->data : NULL;
    pthread_mutex_unlock(&arena->lock);
    return data;
}

void arena_prefetch(struct arena *arena, weir_msg msg)
{
    (void)arena;
    (void)msg;
}

void arena_prefetch_part(struct arena *arena, weir_msg msg, size_t offset, size_t size)
{
    (void)arena;
    (void)msg;
    (void)offset;
    (void)size;
}

size_t arena_size(struct arena *arena, weir_msg msg)
{
    pthread_mutex_lock(&arena->lock);
    struct row *row = row_find(arena, msg);
    size_t size = row ? row->size : 0;
    pthread_mutex_unlock(&arena->lock);
    return size;
}

/* Not a byte more than asked for, so that every overrun shows. */
size_t arena_capacity(struct arena *arena, weir_msg msg) { return arena_size(arena, msg); }

enum weir_error arena_hold(struct arena *arena, weir_msg msg)
{
    pthread_mutex_lock(&arena->lock);
    struct row *row = row_find(arena, msg);
    if (row) {
        ENSURE(row->references < UINT32_MAX);
        row->references++;
    }
    pthread_mutex_unlock(&arena->lock);
    return row ? WEIR_OK : WEIR_STALE;
}

/* Ends a block and frees its row; a row without a generation left is never used again. Under the lock. */
static struct row row_close(struct arena *arena, struct row *row, uint32_t number)
{
    struct row closed = *row;
    row->data = NULL;
    row->budget = NULL;
    if (row->generation < UINT32_MAX) {
        row->next_free = arena->free_head;
        arena->free_head = number + 1;
    }
    arena->usage.blocks_live--;
    arena->usage.bytes_live -= closed.size + ARENA_BLOCK_OVERHEAD;
    arena->usage.bytes_committed -= closed.size + ARENA_BLOCK_OVERHEAD;
    return closed;
}

void arena_drop(struct arena *arena, weir_msg msg)
{
    if (msg_is_none(msg))
        return;
    struct row closed = {0};
    pthread_mutex_lock(&arena->lock);
    struct row *row = row_find(arena, msg);
    if (row && --row->references == 0)
        closed = row_close(arena, row, (uint32_t)msg.bits - 1);
    pthread_mutex_unlock(&arena->lock);
    if (!closed.data)
        return;
    memset(closed.data, BYTE_DEAD, closed.size);
    free(closed.data);
    if (closed.budget)
        budget_block_release(closed.budget, closed.size + ARENA_BLOCK_OVERHEAD);
}

bool arena_is_unshared(struct arena *arena, weir_msg msg)
{
    pthread_mutex_lock(&arena->lock);
    struct row *row = row_find(arena, msg);
    bool is_unshared = row && row->references == 1;
    pthread_mutex_unlock(&arena->lock);
    return is_unshared;
}

void arena_usage(struct arena *arena, struct arena_usage *out)
{
    MAGIC_CHECK(arena, ARENA_MAGIC);
    pthread_mutex_lock(&arena->lock);
    *out = arena->usage;
    pthread_mutex_unlock(&arena->lock);
}

/* It has no slabs. */
uint64_t arena_returns(struct arena *arena)
{
    MAGIC_CHECK(arena, ARENA_MAGIC);
    return 0;
}

size_t arena_leaks_report(struct arena *arena,
                          void (*on_leak)(weir_msg msg, size_t size, const char *owner, void *context), void *context)
{
    MAGIC_CHECK(arena, ARENA_MAGIC);
    size_t leaks = 0;
    for (uint32_t number = 0; number < arena->rows; number++) {
        const struct row *row = row_at(arena, number);
        if (row->references == 0)
            continue;
        leaks++;
        on_leak((weir_msg){(uint64_t)row->generation << 32 | (number + 1)}, row->size,
                row->budget ? budget_owner(row->budget) : "", context);
    }
    return leaks;
}

/* No thread caches anything here. */
void arena_thread_flush(struct arena *arena) { MAGIC_CHECK(arena, ARENA_MAGIC); }

bool arena_thread_rest(struct arena *arena, uint64_t now_ns)
{
    MAGIC_CHECK(arena, ARENA_MAGIC);
    (void)now_ns;
    return false;
}

#endif
