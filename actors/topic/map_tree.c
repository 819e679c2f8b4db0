/* The tree of a map, copied on write, see map_tree.h. In the topic's turn. */
#include "actors/topic/map_tree.h"

#include "actors/base/assert.h"
#include "actors/topic/topic_limits.h"

struct map_root *map_root_at(struct arena *arena, weir_msg block) { return arena_data(arena, block); }
struct map_segment *map_segment_at(struct arena *arena, weir_msg block) { return arena_data(arena, block); }
struct leaf *map_leaf_at(struct arena *arena, weir_msg block) { return arena_data(arena, block); }

static uint64_t hash_mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_word(const uint8_t *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof word);
    return word;
}

/* The 1 to 7 bytes at the end, of which some may count twice: the size went into the hash before. */
static uint64_t hash_rest(const uint8_t *data, size_t size)
{
    uint32_t first, last;
    if (size < sizeof first)
        return (uint64_t)data[0] | (uint64_t)data[size / 2] << 8 | (uint64_t)data[size - 1] << 16;
    memcpy(&first, data, sizeof first);
    memcpy(&last, data + size - sizeof last, sizeof last);
    return (uint64_t)first << 32 | last;
}

/* Multiply and fold, eight bytes at a time, as wyhash does; the seed keeps outsiders from choosing keys that collide.
 */
uint64_t map_hash(struct view text, uint64_t seed)
{
    const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15), other = UINT64_C(0xd6e8feb86659fd93);
    uint64_t hash = seed ^ hash_mix(text.size ^ other, odd);
    size_t at = 0;
    for (; at + 8 <= text.size; at += 8)
        hash = hash_mix(hash ^ hash_word(text.data + at), odd ^ seed);
    if (at < text.size)
        hash = hash_mix(hash ^ hash_rest(text.data + at, text.size - at), odd ^ seed);
    return hash_mix(hash ^ other, odd);
}

weir_msg map_leaf_find(struct arena *arena, weir_msg block, uint64_t hash)
{
    const struct map_root *root = map_root_at(arena, block);
    const struct map_segment *segment = map_segment_at(arena, root->segments[hash_bits(hash, 0, root->bits)]);
    return segment->leaves[hash_bits(hash, segment->depth, segment->bits)];
}

void map_prepare(const struct fold *fold, const struct view *keys, uint32_t count)
{
    uint64_t hashes[FOLD_PREPARE_MAX];
    weir_msg blocks[FOLD_PREPARE_MAX];
    if (msg_is_none(fold->as.map.root))
        return;
    const struct map_root *root = map_root_at(fold->arena, fold->as.map.root);
    for (uint32_t i = 0; i < count; i++) {
        hashes[i] = map_hash(leaf_key_text(keys[i]), fold->seed);
        blocks[i] = root->segments[hash_bits(hashes[i], 0, root->bits)];
        arena_prefetch(fold->arena, blocks[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct map_segment *segment = map_segment_at(fold->arena, blocks[i]);
        blocks[i] = segment->leaves[hash_bits(hashes[i], segment->depth, segment->bits)];
        arena_prefetch(fold->arena, blocks[i]);
    }
    for (uint32_t i = 0; i < count; i++)
        leaf_prefetch_slots(map_leaf_at(fold->arena, blocks[i]));
    for (uint32_t i = 0; i < count; i++)
        leaf_prefetch_pair(map_leaf_at(fold->arena, blocks[i]), (uint16_t)hashes[i]);
}

static enum weir_error root_alloc(struct fold *fold, uint8_t bits, weir_msg *out)
{
    size_t size = sizeof(struct map_root) + ((size_t)1 << bits) * sizeof(weir_msg);
    enum weir_error error = arena_alloc(fold->arena, size, fold->budget, out);
    if (!error)
        *map_root_at(fold->arena, *out) = (struct map_root){.shares = 1, .bits = bits};
    return error;
}

static enum weir_error segment_alloc(struct fold *fold, uint8_t depth, uint8_t bits, weir_msg *out)
{
    size_t size = sizeof(struct map_segment) + ((size_t)1 << bits) * sizeof(weir_msg);
    enum weir_error error = arena_alloc(fold->arena, size, fold->budget, out);
    if (!error)
        *map_segment_at(fold->arena, *out) = (struct map_segment){.shares = 1, .depth = depth, .bits = bits};
    return error;
}

static enum weir_error leaf_alloc(struct fold *fold, size_t size, uint8_t depth, weir_msg *out)
{
    enum weir_error error = arena_alloc(fold->arena, size, fold->budget, out);
    if (error)
        return error;
    fold->pages_built++;
    size_t capacity = arena_capacity(fold->arena, *out) & ~(size_t)7;
    leaf_init(map_leaf_at(fold->arena, *out), (uint32_t)(capacity < 8 * MAP_LEAF_SIZE_MAX ? capacity : size), depth);
    return WEIR_OK;
}

static enum weir_error map_tree_create(struct fold *fold)
{
    weir_msg leaf = WEIR_MSG_NONE, segment = WEIR_MSG_NONE, root = WEIR_MSG_NONE;
    enum weir_error error = leaf_alloc(fold, MAP_LEAF_SIZE_MIN, 0, &leaf);
    if (!error)
        error = segment_alloc(fold, 0, 0, &segment);
    if (!error)
        error = root_alloc(fold, 0, &root);
    if (error) {
        arena_drop(fold->arena, leaf);
        arena_drop(fold->arena, segment);
        return error;
    }
    map_segment_at(fold->arena, segment)->leaves[0] = leaf;
    map_root_at(fold->arena, root)->segments[0] = segment;
    fold->as.map.root = root;
    return WEIR_OK;
}

/* Counts a new root that lists each segment of an old one. Neighbours are told apart by their handles alone, so that
 * the segments, which are all over memory, are fetched at the same time and not one for the sake of the next. */
static void root_share(struct fold *fold, const struct map_root *root)
{
    for (uint32_t i = 0; i < 1u << root->bits; i++) {
        if (i > 0 && root->segments[i].bits == root->segments[i - 1].bits)
            continue;
        map_segment_at(fold->arena, root->segments[i])->shares++;
        fold->as.map.copied++;
    }
}

/* Puts a root of our own with `bits` in the place of the present one, every segment listed as before. */
static enum weir_error root_renew(struct fold *fold, uint8_t bits)
{
    struct map_root *old = map_root_at(fold->arena, fold->as.map.root);
    weir_msg block;
    enum weir_error error = root_alloc(fold, bits, &block);
    if (error)
        return error;
    struct map_root *root = map_root_at(fold->arena, block);
    for (uint32_t i = 0; i < 1u << bits; i++)
        root->segments[i] = old->segments[i >> (bits - old->bits)];
    if (old->shares > 1) {
        root_share(fold, root);
        old->shares--;
    } else {
        arena_drop(fold->arena, fold->as.map.root); /* its shares are the new one's */
    }
    fold->as.map.root = block;
    return WEIR_OK;
}

/* Lists a segment in the fold's own root wherever its bits lead. */
static void root_list(struct fold *fold, uint64_t hash, weir_msg block)
{
    struct map_root *root = map_root_at(fold->arena, fold->as.map.root);
    uint32_t span = map_segment_span(root, map_segment_at(fold->arena, block));
    uint32_t first = hash_bits(hash, 0, root->bits) & ~(span - 1);
    for (uint32_t i = 0; i < span; i++)
        root->segments[first + i] = block;
}

static void segment_list(struct fold *fold, struct map_segment *segment, uint64_t hash, weir_msg block)
{
    uint32_t span = map_leaf_span(segment, map_leaf_at(fold->arena, block));
    uint32_t first = hash_bits(hash, segment->depth, segment->bits) & ~(span - 1);
    for (uint32_t i = 0; i < span; i++)
        segment->leaves[first + i] = block;
}

/* Copies entries first.. of old, `count` of them widened to the new segment's, and counts the leaves' new share, as
 * root_share does. */
static void segment_fill(struct fold *fold, struct map_segment *segment, const struct map_segment *old, uint32_t first,
                         unsigned widen)
{
    for (uint32_t i = 0; i < 1u << segment->bits; i++)
        segment->leaves[i] = old->leaves[first + (i >> widen)];
    for (uint32_t i = 0; i < 1u << segment->bits; i++) {
        if (i > 0 && segment->leaves[i].bits == segment->leaves[i - 1].bits)
            continue;
        map_leaf_at(fold->arena, segment->leaves[i])->shares++;
        fold->as.map.copied++;
    }
}

/* Puts a segment of our own with `bits` in the place of the one that hash leads to. The root is our own. */
static enum weir_error segment_renew(struct fold *fold, uint64_t hash, weir_msg old_block, uint8_t bits)
{
    const struct map_segment *old = map_segment_at(fold->arena, old_block);
    weir_msg block;
    enum weir_error error = segment_alloc(fold, old->depth, bits, &block);
    if (error)
        return error;
    map_segment_at(fold->arena, block)->seq_newest = old->seq_newest;
    segment_fill(fold, map_segment_at(fold->arena, block), old, 0, (unsigned)(bits - old->bits));
    root_list(fold, hash, block);
    map_segment_release(fold->arena, old_block);
    return WEIR_OK;
}

/* Puts two segments of one bit less in the place of the full one that hash leads to. The root is our own and long
 * enough. */
static enum weir_error segment_split(struct fold *fold, uint64_t hash, weir_msg old_block)
{
    const struct map_segment *old = map_segment_at(fold->arena, old_block);
    uint8_t depth = (uint8_t)(old->depth + 1), bits = (uint8_t)(old->bits - 1);
    weir_msg halves[2] = {WEIR_MSG_NONE, WEIR_MSG_NONE};
    for (uint32_t i = 0; i < 2; i++) {
        enum weir_error error = segment_alloc(fold, depth, bits, &halves[i]);
        if (error) {
            arena_drop(fold->arena, halves[0]);
            return error;
        }
    }
    uint64_t bit = UINT64_C(1) << (63 - old->depth);
    for (uint32_t i = 0; i < 2; i++) {
        map_segment_at(fold->arena, halves[i])->seq_newest = old->seq_newest;
        segment_fill(fold, map_segment_at(fold->arena, halves[i]), old, i << bits, 0);
        root_list(fold, i ? hash | bit : hash & ~bit, halves[i]);
    }
    map_segment_release(fold->arena, old_block);
    return WEIR_OK;
}

/* The segment that hash leads to, made the fold's own, its root too. */
static enum weir_error segment_own(struct fold *fold, uint64_t hash, struct map_segment **out)
{
    struct map_root *root = map_root_at(fold->arena, fold->as.map.root);
    if (root->shares > 1) {
        enum weir_error error = root_renew(fold, root->bits);
        if (error)
            return error;
        root = map_root_at(fold->arena, fold->as.map.root);
    }
    weir_msg block = root->segments[hash_bits(hash, 0, root->bits)];
    struct map_segment *segment = map_segment_at(fold->arena, block);
    if (segment->shares > 1) {
        enum weir_error error = segment_renew(fold, hash, block, segment->bits);
        if (error)
            return error;
        segment = map_segment_at(fold->arena, root->segments[hash_bits(hash, 0, root->bits)]);
    }
    *out = segment;
    return WEIR_OK;
}

/* Puts a leaf of our own with room for `size` bytes in the place of the one that hash leads to. */
static enum weir_error leaf_renew(struct fold *fold, struct map_segment *segment, uint64_t hash, weir_msg old_block,
                                  size_t size)
{
    struct leaf *old = map_leaf_at(fold->arena, old_block);
    weir_msg block;
    enum weir_error error = leaf_alloc(fold, size, old->depth, &block);
    if (error)
        return error;
    leaf_fill(fold->arena, map_leaf_at(fold->arena, block), old);
    fold->as.map.copied += MAP_SWEEP_FREE_STEPS;
    segment_list(fold, segment, hash, block);
    map_leaf_release(fold->arena, old_block);
    return WEIR_OK;
}

enum weir_error map_leaf_own(struct fold *fold, uint64_t hash, struct leaf **out)
{
    enum weir_error error = msg_is_none(fold->as.map.root) ? map_tree_create(fold) : WEIR_OK;
    if (error)
        return error;
    struct map_segment *segment;
    error = segment_own(fold, hash, &segment);
    if (error)
        return error;
    segment->seq_newest = fold->as.map.seq;
    uint32_t index = hash_bits(hash, segment->depth, segment->bits);
    weir_msg block = segment->leaves[index];
    struct leaf *leaf = map_leaf_at(fold->arena, block);
    /* A run of it may be on its way to a subscriber: those bytes stay as they are. */
    if (leaf->shares > 1 || !arena_is_unshared(fold->arena, block)) {
        error = leaf_renew(fold, segment, hash, block, leaf->capacity);
        if (error)
            return error;
        leaf = map_leaf_at(fold->arena, segment->leaves[index]);
    }
    *out = leaf;
    return WEIR_OK;
}

/* The hash bit at `depth` of a small pair's or a large one's key. */
static bool pair_is_upper(const struct fold *fold, const uint8_t *pair, uint32_t size, uint8_t depth)
{
    uint64_t hash = map_hash(leaf_pair_key_text(pair, size), fold->seed);
    return hash >> (63 - depth) & 1;
}

static void leaf_distribute(struct fold *fold, struct leaf *from, struct leaf *halves[2])
{
    for (uint32_t i = 0; i < from->large_count; i++) {
        const struct leaf_large *large = &from->large[i];
        (void)arena_hold(fold->arena, large->block); /* cannot be stale: from has a reference */
        leaf_add_large(halves[pair_is_upper(fold, arena_data(fold->arena, large->block), large->size, from->depth)],
                       large);
    }
    for (uint32_t i = 0; i < from->count; i++) {
        const uint8_t *pair = (const uint8_t *)from + leaf_pair_offset(from, i);
        uint32_t size = leaf_pair_size(from, i);
        leaf_add(halves[pair_is_upper(fold, pair, size, from->depth)], leaf_tag(from, i), leaf_seq(from, i), pair,
                 size);
    }
}

/* What the lower and the upper half of a leaf's pairs take in leaves of their own. */
static void leaf_halves_measure(const struct fold *fold, struct leaf *leaf, size_t sizes[2])
{
    sizes[0] = sizes[1] = sizeof *leaf;
    for (uint32_t i = 0; i < leaf->large_count; i++)
        sizes[pair_is_upper(fold, arena_data(fold->arena, leaf->large[i].block), leaf->large[i].size, leaf->depth)] +=
            sizeof(struct leaf_large);
    for (uint32_t i = 0; i < leaf->count; i++) {
        const uint8_t *pair = (const uint8_t *)leaf + leaf_pair_offset(leaf, i);
        uint32_t size = leaf_pair_size(leaf, i);
        sizes[pair_is_upper(fold, pair, size, leaf->depth)] += leaf_need(size);
    }
}

/* How large the leaf at a place may become before it splits: one of four sizes by chance. Hashes fill all leaves alike,
 * so with one size for all they would grow from one size class of the arena to the next at the same time, and leave
 * every slab of the former half empty; so some grow into what others leave. */
static size_t leaf_size_max(const struct fold *fold, uint64_t hash, uint8_t depth)
{
    uint64_t chance = hash_mix(hash_bits(hash, 0, depth) + fold->seed, UINT64_C(0x9e3779b97f4a7c15) + depth);
    return MAP_LEAF_SIZE_MAX / 8 * (5 + (chance & 3));
}

/* Room for a few more pairs: what a leaf has too much is paid by every key, what it has too little by copying. */
static size_t leaf_size_for(size_t bytes)
{
    size_t size = bytes + bytes / 16;
    return size < MAP_LEAF_SIZE_MIN ? MAP_LEAF_SIZE_MIN : size;
}

/* Puts two leaves in the place of the one that hash leads to. The segment is our own and has a bit to tell them apart.
 */
static enum weir_error leaf_split(struct fold *fold, struct map_segment *segment, uint64_t hash, weir_msg old_block)
{
    struct leaf *old = map_leaf_at(fold->arena, old_block);
    weir_msg blocks[2] = {WEIR_MSG_NONE, WEIR_MSG_NONE};
    struct leaf *halves[2];
    size_t sizes[2];
    leaf_halves_measure(fold, old, sizes);
    for (uint32_t i = 0; i < 2; i++) {
        enum weir_error error = leaf_alloc(fold, leaf_size_for(sizes[i]), (uint8_t)(old->depth + 1), &blocks[i]);
        if (error) {
            arena_drop(fold->arena, blocks[0]);
            return error;
        }
        halves[i] = map_leaf_at(fold->arena, blocks[i]);
    }
    leaf_distribute(fold, old, halves);
    uint64_t bit = UINT64_C(1) << (63 - old->depth);
    segment_list(fold, segment, hash & ~bit, blocks[0]);
    segment_list(fold, segment, hash | bit, blocks[1]);
    map_leaf_release(fold->arena, old_block);
    return WEIR_OK;
}

/* Gives the segment that hash leads to, our own already, one bit more to tell its leaves apart by. */
static enum weir_error segment_widen(struct fold *fold, uint64_t hash)
{
    struct map_root *root = map_root_at(fold->arena, fold->as.map.root);
    weir_msg block = root->segments[hash_bits(hash, 0, root->bits)];
    struct map_segment *segment = map_segment_at(fold->arena, block);
    if (segment->bits < MAP_SEGMENT_BITS_MAX)
        return segment_renew(fold, hash, block, (uint8_t)(segment->bits + 1));
    if (segment->depth == root->bits) {
        if (root->bits == MAP_ROOT_BITS_MAX)
            return WEIR_NO_MEMORY;
        enum weir_error error = root_renew(fold, (uint8_t)(root->bits + 1));
        if (error)
            return error;
    }
    return segment_split(fold, hash, block);
}

enum weir_error map_leaf_widen(struct fold *fold, uint64_t hash, size_t need)
{
    struct map_segment *segment;
    enum weir_error error = segment_own(fold, hash, &segment);
    if (error)
        return error;
    weir_msg block = segment->leaves[hash_bits(hash, segment->depth, segment->bits)];
    struct leaf *leaf = map_leaf_at(fold->arena, block);
    size_t size_max = leaf_size_max(fold, hash, leaf->depth);
    if (leaf->capacity < size_max) {
        size_t size = leaf_size_for(leaf->capacity - leaf_room(leaf) + need);
        return leaf_renew(fold, segment, hash, block, size < size_max ? size : size_max);
    }
    while (leaf->depth == segment->depth + segment->bits) {
        error = segment_widen(fold, hash);
        if (!error)
            error = segment_own(fold, hash, &segment);
        if (error)
            return error;
    }
    return leaf_split(fold, segment, hash, block);
}

/* Adds all pairs of another leaf. */
static void leaf_join(struct fold *fold, struct leaf *to, struct leaf *from)
{
    for (uint32_t i = 0; i < from->large_count; i++) {
        (void)arena_hold(fold->arena, from->large[i].block); /* cannot be stale: from has a reference */
        leaf_add_large(to, &from->large[i]);
    }
    for (uint32_t i = 0; i < from->count; i++) {
        const uint8_t *pair = (const uint8_t *)from + leaf_pair_offset(from, i);
        leaf_add(to, leaf_tag(from, i), leaf_seq(from, i), pair, leaf_pair_size(from, i));
    }
}

/* Puts one leaf with the pairs of both in the place of two neighbours. The segment is our own. */
static void leaf_unite(struct fold *fold, struct map_segment *segment, uint64_t hash, weir_msg one, weir_msg other,
                       size_t bytes)
{
    struct leaf *leaf = map_leaf_at(fold->arena, one);
    weir_msg block;
    if (leaf_alloc(fold, leaf_size_for(bytes), (uint8_t)(leaf->depth - 1), &block))
        return; /* memory is short: it stays as it is */
    leaf_fill(fold->arena, map_leaf_at(fold->arena, block), leaf);
    leaf_join(fold, map_leaf_at(fold->arena, block), map_leaf_at(fold->arena, other));
    segment_list(fold, segment, hash, block);
    map_leaf_release(fold->arena, one);
    map_leaf_release(fold->arena, other);
}

void map_leaf_narrow(struct fold *fold, uint64_t hash)
{
    const struct map_root *root = map_root_at(fold->arena, fold->as.map.root);
    struct map_segment *segment = map_segment_at(fold->arena, root->segments[hash_bits(hash, 0, root->bits)]);
    uint32_t index = hash_bits(hash, segment->depth, segment->bits);
    struct leaf *leaf = map_leaf_at(fold->arena, segment->leaves[index]);
    size_t bytes = leaf->capacity - leaf_room(leaf);
    if (leaf->depth > segment->depth) {
        weir_msg other_block =
            segment->leaves[(index & ~(map_leaf_span(segment, leaf) - 1)) ^ map_leaf_span(segment, leaf)];
        const struct leaf *other = map_leaf_at(fold->arena, other_block);
        size_t both = bytes + other->capacity - leaf_room(other) - sizeof *leaf;
        if (other->depth == leaf->depth && both <= MAP_LEAF_SIZE_MAX / 2) {
            leaf_unite(fold, segment, hash, segment->leaves[index], other_block, both);
            return;
        }
    }
    /* Half of it at once, or it would be copied again and again. */
    if (bytes <= leaf->capacity / 2 && leaf->capacity > MAP_LEAF_SIZE_MIN)
        (void)!leaf_renew(fold, segment, hash, segment->leaves[index], leaf_size_for(bytes));
}
