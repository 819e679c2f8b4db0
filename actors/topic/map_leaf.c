/* Leaves of a map, see map_leaf.h. In the topic's turn. */
#include "actors/topic/map_leaf.h"

#include "actors/base/assert.h"
#include "actors/topic/topic_limits.h"
#include "clients/wire/value.h"

#define CACHE_LINE_SIZE 64u

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

struct view member_key(struct view pair)
{
    size_t size = 0;
    struct view rest = view_of(pair.data + MEMBER_KEY_OFFSET, pair.size - MEMBER_KEY_OFFSET);
    enum weir_error error = value_scan(rest, VALUE_DEPTH_LIMIT, &size);
    INVARIANT(error == WEIR_OK); /* it was checked when it came */
    return view_of(rest.data, size);
}

/* A member's pair is nil and a map of one; a state that is no map is nil and that. */
static struct view member_key_text(const uint8_t *pair, uint32_t size)
{
    if (pair[1] != TOPIC_MEMBER_HEAD)
        return view_of(pair, 1);
    struct view key = member_key(view_of(pair, size));
    return leaf_key_is_str(key.data[0]) ? leaf_key_text(key) : view_of(key.data - 1, key.size + 1);
}

struct view leaf_pair_key_text(const uint8_t *pair, uint32_t size)
{
    switch (pair[0]) {
    case MSGPACK_NIL: return member_key_text(pair, size);
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

uint64_t leaf_seq(const struct leaf *leaf, uint32_t index)
{
    const struct leaf_slot *slot = leaf_slot(leaf, index);
    return (uint64_t)slot->seq_high << 32 | slot->seq_low;
}

static struct leaf_slot slot_of(uint16_t tag, uint16_t offset, uint64_t seq)
{
    return (struct leaf_slot){tag, offset, (uint32_t)(seq >> 32), (uint32_t)seq};
}

static void leaf_note_seq(struct leaf *leaf, uint64_t seq)
{
    if (seq > leaf->seq_newest)
        leaf->seq_newest = seq;
}

struct leaf_place leaf_find(struct arena *arena, struct leaf *leaf, uint16_t tag, struct view text)
{
    const uint8_t *pairs = leaf_pairs(leaf);
    for (uint16_t i = 0; i < leaf->count; i++) {
        const struct leaf_slot *slot = leaf_slot(leaf, i);
        if (slot->tag == tag && view_is_same(leaf_pair_key_text(pairs + slot->offset, leaf_pair_size(leaf, i)), text))
            return (struct leaf_place){true, false, i, leaf_pair_size(leaf, i)};
    }
    for (uint16_t i = 0; i < leaf->large_count; i++) {
        const struct leaf_large *large = &leaf->large[i];
        if (large->tag == tag && view_is_same(leaf_pair_key_text(arena_data(arena, large->block), large->size), text))
            return (struct leaf_place){true, true, i, large->size};
    }
    return (struct leaf_place){.is_found = false};
}

void leaf_prefetch_slots(const struct leaf *leaf)
{
    const char *end = (const char *)leaf + leaf->capacity;
    for (size_t at = 0; at <= leaf->count * sizeof(struct leaf_slot); at += CACHE_LINE_SIZE)
        __builtin_prefetch(end - at - 1);
}

void leaf_prefetch_pair(const struct leaf *leaf, uint16_t tag)
{
    for (uint16_t i = 0; i < leaf->count; i++) {
        if (leaf_slot(leaf, i)->tag != tag)
            continue;
        const char *pair = (const char *)leaf + leaf_pair_offset(leaf, i);
        uint32_t size = leaf_pair_size(leaf, i);
        for (uint32_t at = 0; at < size; at += CACHE_LINE_SIZE)
            __builtin_prefetch(pair + at, 1);
        return;
    }
}

void leaf_add(struct leaf *leaf, uint16_t tag, uint64_t seq, const uint8_t *pair, uint32_t size)
{
    REQUIRE(size <= MAP_LARGE_SIZE && leaf_room(leaf) >= leaf_need(size));
    memcpy(leaf_pairs(leaf) + leaf->used, pair, size);
    *leaf_slot(leaf, leaf->count) = slot_of(tag, leaf->used, seq);
    leaf_note_seq(leaf, seq);
    leaf->count++;
    leaf->used = (uint16_t)(leaf->used + size);
}

void leaf_add_large(struct leaf *leaf, const struct leaf_large *large)
{
    REQUIRE(leaf_room(leaf) >= sizeof *large);
    memmove(leaf_pairs(leaf) + sizeof *large, leaf_pairs(leaf), leaf->used);
    leaf->large[leaf->large_count++] = *large;
    leaf_note_seq(leaf, large->seq);
}

void leaf_fill(struct arena *arena, struct leaf *leaf, const struct leaf *from)
{
    size_t slots_size = from->count * sizeof(struct leaf_slot);
    size_t front_size = leaf_start(from) - sizeof *from + from->used;
    REQUIRE(leaf->count == 0 && leaf->large_count == 0 && leaf_room(leaf) >= front_size + slots_size);
    for (uint32_t i = 0; i < from->large_count; i++)
        (void)arena_hold(arena, from->large[i].block); /* cannot be stale: from has a reference */
    memcpy(leaf->large, from->large, front_size);
    if (slots_size > 0)
        memcpy(leaf_slot(leaf, from->count - 1u), leaf_slot(from, from->count - 1u), slots_size);
    leaf->count = from->count;
    leaf->used = from->used;
    leaf->large_count = from->large_count;
    leaf->seq_newest = from->seq_newest;
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
        *leaf_slot(leaf, i) = *leaf_slot(leaf, i + 1);
        leaf_slot(leaf, i)->offset = (uint16_t)(leaf_slot(leaf, i)->offset - place->size);
    }
    leaf->count--;
    leaf->used = (uint16_t)(leaf->used - place->size);
}

void leaf_overwrite(struct leaf *leaf, uint32_t index, uint64_t seq, const uint8_t *pair, uint32_t size)
{
    REQUIRE(size == leaf_pair_size(leaf, index));
    *leaf_slot(leaf, index) = slot_of(leaf_tag(leaf, index), leaf_slot(leaf, index)->offset, seq);
    leaf_note_seq(leaf, seq);
    memcpy((uint8_t *)leaf + leaf_pair_offset(leaf, index), pair, size);
}
