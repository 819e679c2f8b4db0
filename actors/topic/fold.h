/* Folds: how a topic turns records into state, one file for each kind behind a small table of operations. A fold holds
 * state in arena blocks in wire encoding and gives it out as snapshots: captured at the cost of a reference, never
 * changed afterwards, read as runs of [key|nil, value] pairs. Used by the topic's turn only. */
#ifndef ACTORS_TOPIC_FOLD_H
#define ACTORS_TOPIC_FOLD_H

#include "actors/topic/map_deleted.h"
#include "actors/topic/page.h"
#include "actors/topic/topic.h"
#include "clients/wire/view.h"

/* A place in a log: a page within a segment of the log's root, and a pair of it. */
struct log_place {
    uint32_t segment, page, pair;
};

struct fold {
    const struct fold_ops *ops;
    struct arena *arena;
    struct budget *budget;
    uint64_t seed;                 /* of the map's hash, so that nobody can choose keys that collide */
    const struct topic_rule *rule; /* borrowed */
    size_t bytes, entries;         /* the state's pairs */
    uint64_t pages_built;          /* blocks that pairs were written into, other than the ring's */
    union {
        struct {
            weir_msg block;
            uint32_t offset;
        } single; /* last */
        struct {
            weir_msg root;
            weir_msg dead;   /* roots that nobody holds, yet to be swept */
            uint64_t copied; /* steps of sweeping that copies made since the last will cost */
            uint64_t seq;    /* of the newest record applied, or being applied */
            struct map_deleted deleted;
            bool is_whole; /* merge: state is no map, and stands in the only pair */
        } map;             /* and merge */
        struct {
            weir_msg root;
            weir_msg dead; /* as of a map */
            struct log_place first;
        } log;
        void *test;
    } as;
};

/* State as it was at one moment. Lives until fold_release; the fold must still be there then. */
struct fold_snapshot {
    weir_msg root;
    uint32_t offset;                  /* last */
    struct log_place first;           /* log */
    struct deleted_place deleted_end; /* map and merge */
    size_t bytes, entries;
};

/* How far a snapshot was read; {0} is its start. Plain values: a copy is a place to go back to. With `since` it is read
 * for somebody who knows the state as it was at that seq: only what has changed, see knows_since. */
struct fold_cursor {
    uint64_t since;
    uint32_t position[3];
    uint32_t done; /* pairs read so far */
    bool is_past_deleted;
};

struct fold_run {
    struct slice pairs; /* borrowed from the snapshot */
    uint32_t count;
    uint64_t seq; /* of the pair, where find gives one */
};

/* A pair by the seq of its record and the hash of its key. */
struct fold_change {
    uint64_t seq, hash;
};

/* Where changes are gathered, in no order. */
struct fold_changes {
    struct fold_change *items;
    uint32_t count, count_max;
    uint64_t seq_max; /* newer ones are passed over */
};

/* A page of a snapshot, while it is put together: entries in an order that stays the same while the state changes, so
 * that who reads page after page, each of a later snapshot, comes by every key that stays exactly once. {wanted} at
 * first. */
struct fold_page {
    struct view prefix; /* only keys with a text that begins so; borrowed, as after */
    struct view after;  /* the encoded key behind which it starts, still there or not; empty: at the beginning */
    uint32_t entries_max;
    size_t bytes_max;

    weir_msg block; /* the pairs, one behind the other; the caller's to drop */
    uint32_t size, count;
    bool has_more;
    bool is_placed; /* the rest is the fold's own */
    uint64_t after_hash;
    uint32_t position[2];
};

struct fold_ops {
    const char *name;
    /* Pairs larger than this come in a page of their own; 0: as the ring likes. */
    size_t alone_size;
    /* Takes one record in, wholly or not at all. Refusals: WEIR_BAD_REQUEST, WEIR_TOO_BIG (beyond the rule),
     * WEIR_NO_MEMORY. Anything else is a failure of the fold. The cell's page may be held. */
    enum weir_error (*apply)(struct fold *fold, const struct cell *cell);
    /* Optional: memory is short; lets go of pages of the ring that it keeps for a small part of them. */
    void (*compact)(struct fold *fold);
    /* Optional: fetches into the processor's caches what applying records of these keys will look at, so that it waits
     * for memory once for all of them and not for each. At most FOLD_PREPARE_MAX, encoded; changes nothing. */
    void (*prepare)(const struct fold *fold, const struct view *keys, uint32_t count);
    /* Optional: gives up what has grown too old. */
    void (*expire)(struct fold *fold, uint32_t now_ms);
    void (*capture)(struct fold *fold, struct fold_snapshot *out);
    /* Optional: whether snapshots can be read with `since` this seq: first the keys deleted after it, as pairs with
     * nil, then the pairs set after it, so that who lays them over the state at `since`, in this order, has the
     * snapshot's. NULL: never; snapshots of this kind are read whole. */
    bool (*knows_since)(const struct fold *fold, uint64_t seq);
    /* The next run of at most size_max bytes but at least one pair; or of none, when it was a long way to the next.
     * WEIR_AGAIN: that was all. WEIR_STALE: the fold no longer knows what has changed since. */
    enum weir_error (*read)(struct fold *fold, const struct fold_snapshot *snapshot, struct fold_cursor *cursor,
                            size_t size_max, struct fold_run *out);
    /* Optional: the pair of one key. WEIR_NOT_FOUND. */
    enum weir_error (*find)(struct fold *fold, const struct fold_snapshot *snapshot, struct view key,
                            struct fold_run *out);
    /* Optional, all three or none, and with find and knows_since: the state by seq, for whom the ring has left behind.
     * `newer` goes on through a snapshot and adds the pairs set after cursor->since. WEIR_OK: a bounded number was
     * looked at, or there is no room for the next few; WEIR_AGAIN: that was all. */
    enum weir_error (*newer)(struct fold *fold, const struct fold_snapshot *snapshot, struct fold_cursor *cursor,
                             struct fold_changes *changes);
    /* The pair of a change, as long as it is the newest of its key. WEIR_NOT_FOUND: no more. */
    enum weir_error (*change_at)(struct fold *fold, const struct fold_change *change, struct fold_run *out);
    /* The first record after seq that deleted a key, also one that was not there. WEIR_NOT_FOUND: there is none.
     * Requires knows_since of that seq. */
    enum weir_error (*deleted_after)(struct fold *fold, uint64_t seq, struct fold_run *out);
    /* Optional: goes on with a page. WEIR_AGAIN: a bounded number of entries was looked at, call again. WEIR_OK: it is
     * complete; has_more: others follow its last. WEIR_NO_MEMORY. */
    enum weir_error (*page)(struct fold *fold, const struct fold_snapshot *snapshot, struct budget *budget,
                            struct fold_page *page);
    void (*release)(struct fold *fold, struct fold_snapshot *snapshot);
    /* Forgets all state; snapshots stand. Also how a fold ends. */
    void (*clear)(struct fold *fold);
    /* Optional: release and clear leave it to this to give memory back, a few steps at a call, more when more was
     * copied since the last. True: there is more. */
    bool (*sweep)(struct fold *fold, uint32_t steps);
};

extern const struct fold_ops fold_last, fold_map, fold_log, fold_merge;

/* An empty fold of rule->kind; the rule outlives it. Allocates nothing. */
void fold_init(struct fold *fold, const struct topic_rule *rule, struct arena *arena, struct budget *budget,
               uint64_t seed);
/* All snapshots must have been released. Takes as long as there is state to give back: clear and sweep beforehand. */
void fold_fini(struct fold *fold);

/* Gives back some of what snapshots and clearing left behind, see fold_ops. True: there is more. */
static inline bool fold_sweep(struct fold *fold, uint32_t steps)
{
    return fold->ops->sweep != NULL && fold->ops->sweep(fold, steps);
}

/* Lets tests put another fold in the place of a kind for folds made from now on; NULL undoes it. Nothing in the broker
 * calls this. Not while another thread makes folds. */
void fold_replace(enum topic_kind kind, const struct fold_ops *ops);

/* For the kinds' own use: whether state of so many bytes is within the rule. */
static inline bool fold_has_room(const struct fold *fold, size_t bytes)
{
    return fold->rule->state_bytes_max == 0 || bytes <= fold->rule->state_bytes_max;
}

#endif
