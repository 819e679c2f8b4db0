/* Pages of a map, see map_page.h. */
#include "actors/topic/map_page.h"

#include "actors/topic/map_tree.h"
#include "actors/topic/topic_limits.h"

/* A pair that the page wants, by reference into its leaf. */
struct wanted_pair {
    uint64_t hash;
    const uint8_t *data;
    uint32_t size;
};

/* Hashes may be the same; the keys' texts never are. */
static int place_compare(uint64_t hash, struct view text, uint64_t other_hash, struct view other)
{
    if (hash != other_hash)
        return hash < other_hash ? -1 : 1;
    size_t size = text.size < other.size ? text.size : other.size;
    int order = memcmp(text.data, other.data, size);
    return order != 0 ? order : (text.size > other.size) - (text.size < other.size);
}

static bool pair_is_before(const struct wanted_pair *pair, const struct wanted_pair *other)
{
    return place_compare(pair->hash, leaf_pair_key_text(pair->data, pair->size), other->hash,
                         leaf_pair_key_text(other->data, other->size)) < 0;
}

/* Puts a pair at its place among the `count` in order. A leaf has some thirty, so this is as good as any way. */
static uint32_t pair_insert(struct wanted_pair *pairs, uint32_t count, struct wanted_pair pair)
{
    uint32_t at = count;
    for (; at > 0 && pair_is_before(&pair, &pairs[at - 1]); at--)
        pairs[at] = pairs[at - 1];
    pairs[at] = pair;
    return count + 1;
}

static uint32_t pair_consider(const struct fold *fold, const struct fold_page *page, struct wanted_pair *pairs,
                              uint32_t count, const uint8_t *data, uint32_t size)
{
    struct view text = leaf_pair_key_text(data, size);
    if (!view_begins_with(text, page->prefix))
        return count;
    uint64_t hash = map_hash(text, fold->seed);
    if (page->after.size && place_compare(hash, text, page->after_hash, leaf_key_text(page->after)) <= 0)
        return count;
    return pair_insert(pairs, count, (struct wanted_pair){hash, data, size});
}

static uint32_t leaf_pairs_find(const struct fold *fold, const struct leaf *leaf, const struct fold_page *page,
                                struct wanted_pair *pairs)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < leaf->count; i++)
        count = pair_consider(fold, page, pairs, count, (const uint8_t *)leaf + leaf_pair_offset(leaf, i),
                              leaf_pair_size(leaf, i));
    for (uint32_t i = 0; i < leaf->large_count; i++)
        count =
            pair_consider(fold, page, pairs, count, arena_data(fold->arena, leaf->large[i].block), leaf->large[i].size);
    return count;
}

static enum weir_error page_reserve(struct fold *fold, struct budget *budget, struct fold_page *page, uint32_t size)
{
    size_t capacity = msg_is_none(page->block) ? 0 : arena_size(fold->arena, page->block);
    size_t needed = (size_t)page->size + size;
    if (needed <= capacity)
        return WEIR_OK;
    weir_msg block;
    capacity = capacity < MAP_LEAF_SIZE_MAX ? MAP_LEAF_SIZE_MAX : 2 * capacity;
    enum weir_error error = arena_alloc(fold->arena, needed > capacity ? needed : capacity, budget, &block);
    if (error)
        return error;
    fold->pages_built++;
    if (page->size > 0)
        memcpy(arena_data(fold->arena, block), arena_data(fold->arena, page->block), page->size);
    arena_drop(fold->arena, page->block);
    page->block = block;
    return WEIR_OK;
}

static enum weir_error pairs_append(struct fold *fold, struct budget *budget, struct fold_page *page,
                                    const struct wanted_pair *pairs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        page->has_more =
            page->count == page->entries_max || (page->count > 0 && page->size + pairs[i].size > page->bytes_max);
        if (page->has_more)
            return WEIR_OK;
        enum weir_error error = page_reserve(fold, budget, page, pairs[i].size);
        if (error)
            return error;
        memcpy((uint8_t *)arena_data(fold->arena, page->block) + page->size, pairs[i].data, pairs[i].size);
        page->size += pairs[i].size;
        page->count++;
    }
    return WEIR_OK;
}

static enum weir_error leaf_page(struct fold *fold, struct budget *budget, const struct leaf *leaf,
                                 struct fold_page *page)
{
    uint32_t count = (uint32_t)leaf->count + leaf->large_count;
    weir_msg block;
    if (count == 0)
        return WEIR_OK;
    enum weir_error error = arena_alloc(fold->arena, count * sizeof(struct wanted_pair), budget, &block);
    if (error)
        return error;
    struct wanted_pair *pairs = arena_data(fold->arena, block);
    count = leaf_pairs_find(fold, leaf, page, pairs);
    error = pairs_append(fold, budget, page, pairs, count);
    arena_drop(fold->arena, block);
    return error;
}

/* The leaf of the key to start behind, whether it is there or not: its hash says where it would be. */
static void page_place(struct fold *fold, const struct map_root *root, struct fold_page *page)
{
    page->is_placed = true;
    if (page->after.size == 0)
        return;
    page->after_hash = map_hash(leaf_key_text(page->after), fold->seed);
    page->position[0] = hash_bits(page->after_hash, 0, root->bits);
    const struct map_segment *segment = map_segment_at(fold->arena, root->segments[page->position[0]]);
    page->position[0] &= ~((1u << (root->bits - segment->depth)) - 1);
    page->position[1] = hash_bits(page->after_hash, segment->depth, segment->bits);
    const struct leaf *leaf = map_leaf_at(fold->arena, segment->leaves[page->position[1]]);
    page->position[1] &= ~((1u << (segment->depth + segment->bits - leaf->depth)) - 1);
}

enum weir_error map_page_read(struct fold *fold, const struct fold_snapshot *snapshot, struct budget *budget,
                              struct fold_page *page)
{
    if (msg_is_none(snapshot->root))
        return WEIR_OK;
    const struct map_root *root = map_root_at(fold->arena, snapshot->root);
    if (!page->is_placed)
        page_place(fold, root, page);
    for (int step = 0; step < MAP_PAGE_STEPS_MAX; step++) {
        if (page->position[0] == 1u << root->bits)
            return WEIR_OK;
        const struct map_segment *segment = map_segment_at(fold->arena, root->segments[page->position[0]]);
        const struct leaf *leaf = map_leaf_at(fold->arena, segment->leaves[page->position[1]]);
        enum weir_error error = leaf_page(fold, budget, leaf, page);
        if (error || page->has_more)
            return error;
        page->position[1] += 1u << (segment->depth + segment->bits - leaf->depth);
        if (page->position[1] == 1u << segment->bits) {
            page->position[1] = 0;
            page->position[0] += 1u << (root->bits - segment->depth);
        }
    }
    return WEIR_AGAIN;
}
