/* A leaf of a map: a block with the pairs of some keys in wire encoding, dense, so that all of them go out as one run,
 * and a slot for each at its end by which a key is found. A pair beyond MAP_LARGE_SIZE stands in a block of its own,
 * which the leaf holds. From the front: this head, the large pairs' places, the pairs; from the end: the slots.
 *
 * Only the topic's turn touches heads and slots. Pairs may be on their way to a socket at any time, so they are changed
 * only while the arena says that nobody else holds the block (map.c sees to that). */
#ifndef ACTORS_TOPIC_MAP_LEAF_H
#define ACTORS_TOPIC_MAP_LEAF_H

#include "actors/topic/fold.h"

/* In a member's pair, behind the nil and TOPIC_MEMBER_HEAD. */
#define MEMBER_KEY_OFFSET 2u

struct leaf_large {
    weir_msg block;
    uint64_t seq;
    uint32_t size;
    uint16_t tag;
};

struct leaf {
    uint32_t shares; /* segments that list it, each once */
    uint32_t capacity;
    uint16_t count, used; /* pairs and their bytes, the large ones not counted */
    uint16_t large_count;
    uint8_t depth;       /* bits of the hash that all its keys have in common */
    uint64_t seq_newest; /* no pair is newer */
    struct leaf_large large[];
};

/* seq: of the pair's record, in halves, so that a slot takes 12 bytes. */
struct leaf_slot {
    uint16_t tag, offset;
    uint32_t seq_high, seq_low;
};

/* Where a key is in a leaf. */
struct leaf_place {
    bool is_found, is_large;
    uint16_t index;
    uint32_t size; /* of the pair */
};

/* By an encoded key's first byte. */
static inline bool leaf_key_is_str(uint8_t head) { return (head & 0xe0) == 0xa0 || (head >= 0xd9 && head <= 0xdb); }
/* The text of an encoded key, so that two encodings of one text are one key. */
struct view leaf_key_text(struct view key);
/* The same of the key that a pair is found by: the one that it begins with, or where that is nil, of a member of a
 * merged map, see merge_plan.h. Bytes that are no UTF-8 are no str's text, so no two kinds of keys are taken for one
 * another. */
struct view leaf_pair_key_text(const uint8_t *pair, uint32_t size);

/* A member's key, encoded. */
struct view member_key(struct view pair);

void leaf_init(struct leaf *leaf, uint32_t capacity, uint8_t depth);
/* Bytes yet free. */
size_t leaf_room(const struct leaf *leaf);
/* Bytes that a pair takes, its slot included. */
size_t leaf_need(size_t pair_size);

/* By the text of the key. */
struct leaf_place leaf_find(struct arena *arena, struct leaf *leaf, uint16_t tag, struct view text);
/* Begin to fetch the slots, and the small pair that a tag leads to. */
void leaf_prefetch_slots(const struct leaf *leaf);
void leaf_prefetch_pair(const struct leaf *leaf, uint16_t tag);
/* The offset of a small pair in the leaf's block. */
uint32_t leaf_pair_offset(const struct leaf *leaf, uint32_t index);
uint32_t leaf_pair_size(const struct leaf *leaf, uint32_t index);
uint16_t leaf_tag(const struct leaf *leaf, uint32_t index);
uint64_t leaf_seq(const struct leaf *leaf, uint32_t index);

/* Adds a pair that is not there yet and fits. Of a large one the leaf takes over the reference to its block. */
void leaf_add(struct leaf *leaf, uint16_t tag, uint64_t seq, const uint8_t *pair, uint32_t size);
void leaf_add_large(struct leaf *leaf, const struct leaf_large *large);
/* Puts all that is in `from` into an empty leaf with room for it, in the same order; holds the large ones' blocks. */
void leaf_fill(struct arena *arena, struct leaf *leaf, const struct leaf *from);
/* Takes a pair out; drops a large one's block. */
void leaf_remove(struct arena *arena, struct leaf *leaf, const struct leaf_place *place);
void leaf_overwrite(struct leaf *leaf, uint32_t index, uint64_t seq, const uint8_t *pair, uint32_t size);

#endif
