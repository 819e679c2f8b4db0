/* The tree that a map's leaves hang in: a root of segments, segments of leaves, each an extendible hash directory over
 * the next bits of the key's hash. Snapshots share it and it is copied on write, node by node, so that a snapshot costs
 * one reference and a write under one at most a root, a segment and a leaf. No step takes longer than that: a segment
 * that is full splits, only the root, small as it is, ever doubles as a whole, and what nobody holds any more is taken
 * apart piece by piece. Used by map.c, in the topic's turn.
 */
#ifndef ACTORS_TOPIC_MAP_TREE_H
#define ACTORS_TOPIC_MAP_TREE_H

#include "actors/topic/map_leaf.h"

struct map_segment {
    uint32_t shares;     /* roots that list it, each once */
    uint8_t depth;       /* bits of the hash that lead to it */
    uint8_t bits;        /* bits that it looks at itself */
    uint16_t swept;      /* entries whose leaves were given back */
    uint64_t seq_newest; /* no pair below is newer */
    weir_msg leaves[];
};

struct map_root {
    uint32_t shares; /* the fold and the snapshots */
    uint8_t bits;
    uint32_t swept;     /* dead: entries whose segments were given back */
    weir_msg next_dead; /* in the fold's list */
    weir_msg segments[];
};

struct map_root *map_root_at(struct arena *arena, weir_msg block);
struct map_segment *map_segment_at(struct arena *arena, weir_msg block);
struct leaf *map_leaf_at(struct arena *arena, weir_msg block);

/* Nodes stand in their directory as often as the bits they leave out allow, one entry behind the other. */
static inline uint32_t map_segment_span(const struct map_root *root, const struct map_segment *segment)
{
    return 1u << (root->bits - segment->depth);
}

static inline uint32_t map_leaf_span(const struct map_segment *segment, const struct leaf *leaf)
{
    return 1u << (segment->depth + segment->bits - leaf->depth);
}

/* The leaf that a hash leads to. */
weir_msg map_leaf_find(struct arena *arena, weir_msg block, uint64_t hash);

/* See fold_ops.prepare. */
void map_prepare(const struct fold *fold, const struct view *keys, uint32_t count);

/* Makes the way to a hash the fold's own: *out is a leaf that may be written, by the record fold->as.map.seq. Creates
 * the tree when there is none.
 * WEIR_NO_MEMORY; the tree's contents are the same in any case. */
WEIR_MUST_USE enum weir_error map_leaf_own(struct fold *fold, uint64_t hash, struct leaf **out);

/* Gives the leaf of hash, the fold's own, towards `need` bytes more room, by size or by splitting it. It may move.
 * WEIR_NO_MEMORY: none to be had; the contents are the same in any case. */
WEIR_MUST_USE enum weir_error map_leaf_widen(struct fold *fold, uint64_t hash, size_t need);

/* Gives back what the leaf of hash, the fold's own, no longer needs: by size, or by uniting it with its neighbour. */
void map_leaf_narrow(struct fold *fold, uint64_t hash);

/* map_sweep.c. Give back one share of a node, and with the last all below it; of a root that is left to map_sweep. */
void map_leaf_release(struct arena *arena, weir_msg block);
void map_segment_release(struct arena *arena, weir_msg block);
void map_root_release(struct fold *fold, weir_msg block);
/* Takes dead roots apart, see fold_ops.sweep. A share given back is a step, a block freed MAP_SWEEP_FREE_STEPS. Beside
 * `steps` it takes twice as many as copying took since the last call: so however fast snapshots come and go, more is
 * given back than is left behind. When MAP_SWEEP_RETURNS_MAX slabs went back to the system it does no more than these
 * latter. True: there is more. */
bool map_sweep(struct fold *fold, uint32_t steps);

uint64_t map_hash(struct view text, uint64_t seed);
/* The `bits` bits of the hash behind the first `skip`. */
static inline uint32_t hash_bits(uint64_t hash, unsigned skip, unsigned bits)
{
    return bits == 0 ? 0 : (uint32_t)((hash << skip) >> (64 - bits));
}

#endif
