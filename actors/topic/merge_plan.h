/* What one patch makes of a merged map's members, worked out before any of them is touched, so that a patch is taken
 * wholly or not at all. First the plan: each member that the patch names, with the pair that it will be. Then room for
 * all of them in leaves of the fold's own. What is left cannot fail.
 *
 * A member is a pair like those of a map: nil, as entries of a merge topic have no key, and a map of one, the member;
 * so runs of members go out as they stand, each an entry. Any msgpack value can be a key: str are told apart by their
 * text, others by their bytes. Used by merge.c, in the topic's turn. */
#ifndef ACTORS_TOPIC_MERGE_PLAN_H
#define ACTORS_TOPIC_MERGE_PLAN_H

#include "actors/topic/fold.h"
#include "actors/topic/topic_limits.h"

struct merge_change {
    uint64_t hash;
    struct view text;   /* the key's, as leaf_pair_key_text gives it */
    const uint8_t *key; /* encoded, in the patch; its value follows */
    uint32_t key_size, value_size;
    const uint8_t *pair; /* what the member becomes; NULL: it goes */
    uint32_t size;
    uint32_t old_size; /* of the pair that is there; 0: none */
    weir_msg block;    /* of pair, where it is a large one; the plan's until a leaf takes it over */
    bool is_done;
};

struct merge_plan {
    struct fold *fold;
    struct merge_change *changes; /* few, or in changes_block; once made, in the order of their hashes */
    uint32_t count;
    weir_msg changes_block;
    /* Scratch, filled from the front: the one on the stack, then blocks that begin with the handle of the one before.
     */
    uint8_t *free;
    size_t free_size;
    weir_msg scratch_block;
    struct merge_change few[MERGE_MEMBERS_FEW];
    uint8_t scratch[MERGE_SCRATCH_FEW];
};

void merge_plan_init(struct merge_plan *plan, struct fold *fold);
/* Drops what was not taken over. */
void merge_plan_fini(struct merge_plan *plan);

/* Plans what a patch, a map, does to the fold's members. Changes nothing. WEIR_BAD_REQUEST: malformed; WEIR_TOO_BIG:
 * beyond the rule, or MERGE_MEMBERS_MAX; WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error merge_plan_patch(struct merge_plan *plan, struct view patch);
/* Plans that a value, no map, becomes the only pair. As above. */
WEIR_MUST_USE enum weir_error merge_plan_whole(struct merge_plan *plan, struct view value);

/* Carries a plan out as the record fold->as.map.seq. WEIR_NO_MEMORY: the state is as it was. */
WEIR_MUST_USE enum weir_error merge_plan_commit(struct merge_plan *plan);

#endif
