/* The tree that a map's leaves hang in: a root of segments, segments of leaves, each an extendible hash directory over
 * the next bits of the key's hash. Snapshots share it and it is copied on write, node by node, so that a snapshot costs
 * one reference and a write under one at most a root, a segment and a leaf. No step takes longer than that: a segment
 * that is full splits, and only the root, small as it is, ever doubles as a whole. Used by map.c, in the topic's turn.
 */
#ifndef ACTORS_TOPIC_MAP_TREE_H
#define ACTORS_TOPIC_MAP_TREE_H

#include "actors/topic/map_leaf.h"

struct map_segment {
    uint32_t shares; /* roots that list it, each once */
    uint8_t depth;   /* bits of the hash that lead to it */
    uint8_t bits;    /* bits that it looks at itself */
    weir_msg leaves[];
};

struct map_root {
    uint32_t shares; /* the fold and the snapshots */
    uint8_t bits;
    weir_msg segments[];
};

struct map_root *map_root_at(struct arena *arena, weir_msg block);
struct map_segment *map_segment_at(struct arena *arena, weir_msg block);
struct leaf *map_leaf_at(struct arena *arena, weir_msg block);

/* The leaf that a hash leads to. */
weir_msg map_leaf_find(struct arena *arena, weir_msg block, uint64_t hash);

/* Makes the way to a hash the fold's own: *out is a leaf that may be written. Creates the tree when there is none.
 * WEIR_NO_MEMORY; the tree's contents are the same in any case. */
WEIR_MUST_USE enum weir_error map_leaf_own(struct fold *fold, uint64_t hash, struct leaf **out);

/* Gives the leaf of hash more room, by size or by splitting it. It may move. WEIR_NO_MEMORY: none to be had; the
 * contents are the same in any case. */
WEIR_MUST_USE enum weir_error map_leaf_widen(struct fold *fold, uint64_t hash);

/* Gives back one share of a root, and with the last all below it. */
void map_root_release(struct arena *arena, weir_msg block);

uint64_t map_hash(struct view text, uint64_t seed);

#endif
