/* Folds: how a topic turns records into state, one file for each kind behind a small table of operations. A fold holds
 * state in arena blocks in wire encoding and gives it out as snapshots: captured at the cost of a reference, never
 * changed afterwards, read as runs of [key|nil, value] pairs. Used by the topic's turn only. */
#ifndef ACTORS_TOPIC_FOLD_H
#define ACTORS_TOPIC_FOLD_H

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
    uint64_t seed; /* of the map's hash, so that nobody can choose keys that collide */
    struct topic_rule rule;
    size_t bytes, entries; /* the state's pairs */
    union {
        struct {
            weir_msg block;
            uint32_t offset;
        } single; /* last and merge */
        struct {
            weir_msg root;
        } map;
        struct {
            weir_msg root;
            struct log_place first;
        } log;
        void *test;
    } as;
};

/* State as it was at one moment. Lives until fold_release; the fold must still be there then. */
struct fold_snapshot {
    weir_msg root;
    uint32_t offset;        /* last */
    struct log_place first; /* log */
    size_t bytes, entries;
};

/* How far a snapshot was read; {0} is its start. Plain values: a copy is a place to go back to. */
struct fold_cursor {
    uint32_t position[3];
    uint32_t done; /* pairs read so far */
};

struct fold_run {
    struct slice pairs; /* borrowed from the snapshot */
    uint32_t count;
};

struct fold_ops {
    const char *name;
    /* Pairs larger than this come in a page of their own; 0: as the ring likes. */
    size_t alone_size;
    /* Takes one record in, wholly or not at all. Refusals: WEIR_BAD_REQUEST, WEIR_TOO_BIG (beyond the rule),
     * WEIR_NO_MEMORY. Anything else is a failure of the fold. The cell's page may be held. */
    enum weir_error (*apply)(struct fold *fold, const struct cell *cell);
    /* Optional: gives up what has grown too old. */
    void (*expire)(struct fold *fold, uint32_t now_ms);
    void (*capture)(struct fold *fold, struct fold_snapshot *out);
    /* The next run of at most size_max bytes but at least one pair. WEIR_AGAIN: that was all. */
    enum weir_error (*read)(struct fold *fold, const struct fold_snapshot *snapshot, struct fold_cursor *cursor,
                            size_t size_max, struct fold_run *out);
    /* Optional: the pair of one key. WEIR_NOT_FOUND. */
    enum weir_error (*find)(struct fold *fold, const struct fold_snapshot *snapshot, struct view key,
                            struct fold_run *out);
    void (*release)(struct fold *fold, struct fold_snapshot *snapshot);
    /* Forgets all state; snapshots stand. Also how a fold ends. */
    void (*clear)(struct fold *fold);
};

extern const struct fold_ops fold_last, fold_map, fold_log, fold_merge;

/* An empty fold of rule->kind. Allocates nothing. */
void fold_init(struct fold *fold, const struct topic_rule *rule, struct arena *arena, struct budget *budget,
               uint64_t seed);
/* All snapshots must have been released. */
void fold_fini(struct fold *fold);

/* Lets tests put another fold in the place of a kind for folds made from now on; NULL undoes it. Nothing in the broker
 * calls this. Not while another thread makes folds. */
void fold_replace(enum topic_kind kind, const struct fold_ops *ops);

/* For the kinds' own use: whether state of so many bytes is within the rule. */
static inline bool fold_has_room(const struct fold *fold, size_t bytes)
{
    return fold->rule.state_bytes_max == 0 || bytes <= fold->rule.state_bytes_max;
}

#endif
