/* The ring of updates: the newest records of a topic in append-only pages, found by seq. Subscribers are cursors into
 * it. Bounded by count (exactly) and by bytes of pages (up to one page more). Used by the topic's turn only. */
#ifndef ACTORS_TOPIC_RING_H
#define ACTORS_TOPIC_RING_H

#include "actors/topic/page.h"
#include "clients/wire/view.h"

struct ring_page {
    weir_msg block;
    uint64_t first_seq;
    uint64_t weight; /* of all records before this page, see ring_weight */
    uint32_t count, used, capacity;
    bool is_alone;
};

/* A table of pages: page n, of head..tail-1, is at n & (table_count - 1). */
struct ring_dead {
    struct ring_page *pages;
    weir_msg table;
    uint64_t head, tail;
    uint32_t table_count;
};

struct ring {
    struct arena *arena;
    struct budget *budget;
    struct ring_page *pages; /* in table; page n, but the last, is at n & (table_count - 1) */
    weir_msg table;
    uint64_t head, tail;   /* pages head..tail-1 are there; numbers are never used again */
    struct ring_page last; /* page tail-1: what each record looks at, and all that many topics have */
    uint64_t seq_first;    /* the oldest record still retained; seq_last + 1 when there is none */
    uint64_t seq_last;
    uint64_t weight; /* of all records ever */
    size_t bytes;    /* of the pages held */
    size_t bytes_max, count_max;
    uint32_t page_size_max; /* at most RING_PAGE_SIZE_MAX, and so is what follows */
    uint32_t alone_size;    /* larger pairs get a page of their own */
    uint32_t alone_after;   /* bytes of the page that the newest one of these ended before it was full */
    uint32_t table_count;
    struct ring_dead dead; /* cleared away, yet to be given back */
    uint64_t keep_page;    /* pages from here on are not evicted: a subscriber with policy block is there */
    uint8_t *last_data;    /* the bytes of the last page; NULL: to be asked of the arena */
};

/* Where a reader stands: the next record it has not had. */
struct ring_cursor {
    uint64_t seq, page;
};

struct ring_run {
    struct slice pairs; /* borrowed */
    uint64_t seq;
    uint32_t count;
};

void ring_init(struct ring *ring, struct arena *arena, struct budget *budget, size_t count_max, size_t bytes_max,
               size_t alone_size);
void ring_fini(struct ring *ring);
/* Evicts old pages, the newest too, until at most bytes_max are held, or only what must be kept. */
void ring_shrink(struct ring *ring, size_t bytes_max);
/* Forgets all records; the next one is seq_last + 1. Leaves it to ring_sweep to give their memory back. */
void ring_clear(struct ring *ring, uint64_t seq_last);

/* Gives so many pages back, fewer when MAP_SWEEP_RETURNS_MAX slabs went back to the system. True: there are more. */
bool ring_sweep(struct ring *ring, uint32_t pages);

/* Writes the pair behind the last record, as yet unseen by any reader. Then commit or cancel, before anything else.
 * WEIR_TOO_BIG, WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error ring_reserve(struct ring *ring, struct view key, struct view value, uint32_t time_ms,
                                           struct cell *out);
/* The record is seq_last now; old ones may be evicted. */
void ring_commit(struct ring *ring, const struct cell *cell);
void ring_cancel(struct ring *ring);

/* Fetches what the next record will write to into the processor's caches. By the rules of a behaviour's ahead. */
void ring_ahead(const struct ring *ring);

/* The place behind the newest record. */
struct ring_cursor ring_end(const struct ring *ring);
/* The place of seq, seq_last + 1 included. WEIR_NOT_FOUND: not retained. */
WEIR_MUST_USE enum weir_error ring_find(const struct ring *ring, uint64_t seq, struct ring_cursor *out);
/* False when what the cursor wants next was evicted. */
static inline bool ring_has(const struct ring *ring, const struct ring_cursor *cursor)
{
    return cursor->seq >= ring->seq_first;
}
/* Takes a run of records that stand in one page, at most size_max bytes but at least one, and moves the cursor behind
 * it. False: there is nothing newer. Requires ring_has. */
bool ring_next(const struct ring *ring, struct ring_cursor *cursor, size_t size_max, struct ring_run *out);
/* What is between the cursor and the end: bytes of pairs and marks. Requires ring_has. */
uint64_t ring_lag(const struct ring *ring, const struct ring_cursor *cursor);

#endif
