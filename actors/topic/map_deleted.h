/* The keys deleted from a map of late, oldest first, as pairs of key and nil in wire encoding: what somebody who knows
 * the map as it was needs besides the pairs that are newer. Append-only pages, found by number; bounded, the oldest are
 * forgotten, and then nobody older than those can be served. In the topic's turn. */
#ifndef ACTORS_TOPIC_MAP_DELETED_H
#define ACTORS_TOPIC_MAP_DELETED_H

#include "actors/memory/arena.h"
#include "clients/wire/view.h"

struct map_deleted {
    weir_msg table; /* of pages; page n is at n & (table_count - 1) */
    uint32_t table_count;
    uint32_t head, tail; /* pages head..tail-1 are there; numbers are never used again */
    size_t bytes;        /* of the pages */
    uint64_t lost_seq;   /* the newest deletion that was forgotten; 0: none was */
};

/* A place among them: page and pair. */
struct deleted_place {
    uint32_t page, index;
};

/* Notes that what begins with `key` (encoded, and of a member of a merged map with the bytes before it) was deleted by
 * record seq. Where memory is short, or the key is longer than a page, all that is known is forgotten. */
void map_deleted_add(struct map_deleted *deleted, struct arena *arena, struct budget *budget, struct view key,
                     uint64_t seq);
void map_deleted_clear(struct map_deleted *deleted, struct arena *arena);
/* Record seq has replaced everything: nobody older can be served. */
void map_deleted_forget(struct map_deleted *deleted, struct arena *arena, uint64_t seq);
/* The place behind the newest. */
struct deleted_place map_deleted_end(const struct map_deleted *deleted, struct arena *arena);
/* The place of the first one newer than since. */
struct deleted_place map_deleted_find(const struct map_deleted *deleted, struct arena *arena, uint64_t since);
/* Of the pair at a place, which is there. */
uint64_t map_deleted_seq(const struct map_deleted *deleted, struct arena *arena, struct deleted_place place);
/* The next run before `end` of at most size_max bytes but at least one pair; moves the place behind it. WEIR_AGAIN:
 * that was all; WEIR_STALE: it has been forgotten meanwhile. */
WEIR_MUST_USE enum weir_error map_deleted_next(const struct map_deleted *deleted, struct arena *arena,
                                               struct deleted_place *place, struct deleted_place end, size_t size_max,
                                               struct slice *pairs, uint32_t *count);

#endif
