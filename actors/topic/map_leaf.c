/* Leaves of a map, see map_leaf.h. In the topic's turn. */
#include "actors/topic/map_leaf.h"

#include "actors/base/assert.h"
#include "actors/topic/topic_limits.h"

static struct leaf_slot *leaf_slot(const struct leaf *leaf, uint32_t index)
{
    return (struct leaf_slot *)(void *)((char *)(uintptr_t)leaf + leaf->capacity) - index - 1;
}

static uint32_t leaf_start(const struct leaf *leaf)
{
    return (uint32_t)(sizeof *leaf + leaf->large_count * sizeof(struct leaf_large));
}

static uint8_t *leaf_pairs(struct leaf *leaf) { return (uint8_t *)leaf + leaf_start(leaf); }

struct view leaf_key_text(struct view key)
{
    uint8_t head = key.size ? key.data[0] : 0;
    size_t skip = head == 0xd9 ? 2 : head == 0xda ? 3 : head == 0xdb ? 5 : 1;
    return skip > key.size ? view_of(key.data, 0) : view_of(key.data + skip, key.size - skip);
}

struct view leaf_pair_key_text(const uint8_t *pair)
{
    switch (pair[0]) {
    case 0xd9: return view_of(pair + 2, pair[1]);
    case 0xda: return view_of(pair + 3, (size_t)pair[1] << 8 | pair[2]);
    case 0xdb: return view_of(pair + 5, (size_t)pair[1] << 24 | (size_t)pair[2] << 16 | (size_t)pair[3] << 8 | pair[4]);
    default: return view_of(pair + 1, pair[0] & 0x1f);
    }
}

void leaf_init(struct leaf *leaf, uint32_t capacity, uint8_t depth)
{
    *leaf = (struct leaf){.shares = 1, .capacity = capacity, .depth = depth};
}

size_t leaf_room(const struct leaf *leaf)
{
    return leaf->capacity - leaf_start(leaf) - leaf->used - leaf->count * sizeof(struct leaf_slot);
}

size_t leaf_need(size_t pair_size)
{
    return pair_size > MAP_LARGE_SIZE ? sizeof(struct leaf_large) : pair_size + sizeof(struct leaf_slot);
}

uint32_t leaf_pair_offset(const struct leaf *leaf, uint32_t index)
{
    return leaf_start(leaf) + (index < leaf->count ? leaf_slot(leaf, index)->offset : leaf->used);
}

uint32_t leaf_pair_size(const struct leaf *leaf, uint32_t index)
{
    return leaf_pair_offset(leaf, index + 1) - leaf_pair_offset(leaf, index);
}

uint16_t leaf_tag(const struct leaf *leaf, uint32_t index) { return leaf_slot(leaf, index)->tag; }

struct leaf_place leaf_find(struct arena *arena, struct leaf *leaf, uint16_t tag, struct view key)
{
    struct view text = leaf_key_text(key);
    const uint8_t *pairs = leaf_pairs(leaf);
    for (uint16_t i = 0; i < leaf->count; i++) {
        const struct leaf_slot *slot = leaf_slot(leaf, i);
        if (slot->tag == tag && view_is_same(leaf_pair_key_text(pairs + slot->offset), text))
            return (struct leaf_place){true, false, i, leaf_pair_size(leaf, i)};
    }
    for (uint16_t i = 0; i < leaf->large_count; i++) {
        const struct leaf_large *large = &leaf->large[i];
        if (large->tag == tag && view_is_same(leaf_pair_key_text(arena_data(arena, large->block)), text))
            return (struct leaf_place){true, true, i, large->size};
    }
    return (struct leaf_place){.is_found = false};
}

void leaf_add(struct leaf *leaf, uint16_t tag, const uint8_t *pair, uint32_t size)
{
    REQUIRE(size <= MAP_LARGE_SIZE && leaf_room(leaf) >= leaf_need(size));
    memcpy(leaf_pairs(leaf) + leaf->used, pair, size);
    *leaf_slot(leaf, leaf->count) = (struct leaf_slot){tag, leaf->used};
    leaf->count++;
    leaf->used = (uint16_t)(leaf->used + size);
}

void leaf_add_large(struct leaf *leaf, const struct leaf_large *large)
{
    REQUIRE(leaf_room(leaf) >= sizeof *large);
    memmove(leaf_pairs(leaf) + sizeof *large, leaf_pairs(leaf), leaf->used);
    leaf->large[leaf->large_count++] = *large;
}

static void leaf_remove_large(struct arena *arena, struct leaf *leaf, uint32_t index)
{
    arena_drop(arena, leaf->large[index].block);
    leaf->large[index] = leaf->large[leaf->large_count - 1];
    uint8_t *pairs = leaf_pairs(leaf);
    leaf->large_count--;
    memmove(leaf_pairs(leaf), pairs, leaf->used);
}

void leaf_remove(struct arena *arena, struct leaf *leaf, const struct leaf_place *place)
{
    if (place->is_large) {
        leaf_remove_large(arena, leaf, place->index);
        return;
    }
    uint8_t *pair = (uint8_t *)leaf + leaf_pair_offset(leaf, place->index);
    uint8_t *end = leaf_pairs(leaf) + leaf->used;
    memmove(pair, pair + place->size, (size_t)(end - pair) - place->size);
    for (uint32_t i = place->index; i + 1u < leaf->count; i++) {
        const struct leaf_slot *next = leaf_slot(leaf, i + 1);
        *leaf_slot(leaf, i) = (struct leaf_slot){next->tag, (uint16_t)(next->offset - place->size)};
    }
    leaf->count--;
    leaf->used = (uint16_t)(leaf->used - place->size);
}

void leaf_overwrite(struct leaf *leaf, uint32_t index, const uint8_t *pair, uint32_t size)
{
    REQUIRE(size == leaf_pair_size(leaf, index));
    memcpy((uint8_t *)leaf + leaf_pair_offset(leaf, index), pair, size);
}
