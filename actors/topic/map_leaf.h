/* A leaf of a map: a block with the pairs of some keys in wire encoding, dense, so that all of them go out as one run,
 * and a slot for each at its end by which a key is found. A pair beyond MAP_LARGE_SIZE stands in a block of its own,
 * which the leaf holds. From the front: this head, the large pairs' places, the pairs; from the end: the slots.
 *
 * Only the topic's turn touches heads and slots. Pairs may be on their way to a socket at any time, so they are changed
 * only while the arena says that nobody else holds the block (map.c sees to that). */
#ifndef ACTORS_TOPIC_MAP_LEAF_H
#define ACTORS_TOPIC_MAP_LEAF_H

#include "actors/topic/fold.h"

struct leaf_large {
    weir_msg block;
    uint32_t size;
    uint16_t tag;
    uint16_t key_size;
};

struct leaf {
    uint32_t shares; /* segments that list it, each once */
    uint32_t capacity;
    uint16_t count, used; /* pairs and their bytes, the large ones not counted */
    uint16_t large_count;
    uint8_t depth; /* bits of the hash that all its keys have in common */
    struct leaf_large large[];
};

struct leaf_slot {
    uint16_t tag, offset;
};

/* Where a key is in a leaf. */
struct leaf_place {
    bool is_found, is_large;
    uint16_t index;
    uint32_t size; /* of the pair */
};

/* The text of an encoded key, so that two encodings of one text are one key. */
struct view leaf_key_text(struct view key);
/* The same of the key that a pair begins with. */
struct view leaf_pair_key_text(const uint8_t *pair);

void leaf_init(struct leaf *leaf, uint32_t capacity, uint8_t depth);
/* Bytes yet free. */
size_t leaf_room(const struct leaf *leaf);
/* Bytes that a pair takes, its slot included. */
size_t leaf_need(size_t pair_size);

struct leaf_place leaf_find(struct arena *arena, struct leaf *leaf, uint16_t tag, struct view key);
/* The offset of a small pair in the leaf's block. */
uint32_t leaf_pair_offset(const struct leaf *leaf, uint32_t index);
uint32_t leaf_pair_size(const struct leaf *leaf, uint32_t index);
uint16_t leaf_tag(const struct leaf *leaf, uint32_t index);

/* Adds a pair that is not there yet and fits. Of a large one the leaf takes over the reference to its block. */
void leaf_add(struct leaf *leaf, uint16_t tag, const uint8_t *pair, uint32_t size);
void leaf_add_large(struct leaf *leaf, const struct leaf_large *large);
/* Takes a pair out; drops a large one's block. */
void leaf_remove(struct arena *arena, struct leaf *leaf, const struct leaf_place *place);
void leaf_overwrite(struct leaf *leaf, uint32_t index, const uint8_t *pair, uint32_t size);

#endif
