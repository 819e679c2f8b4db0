/* Planning a patch, see merge_plan.h: members are collected, sorted by hash, each merged by itself with what is there.
 * In the topic's turn. */
#include "actors/topic/merge_plan.h"

#include "actors/base/assert.h"
#include "actors/topic/map_tree.h"
#include "clients/wire/merge.h"
#include "clients/wire/value.h"

/* A pair that may be longer than this is not made in scratch. */
#define SCRATCH_PAIR_MAX (MERGE_SCRATCH_SIZE / 4)
/* What merging two values may take beside both. */
#define MERGE_EXTRA_SIZE 16u

void merge_plan_init(struct merge_plan *plan, struct fold *fold)
{
    plan->fold = fold;
    plan->changes = plan->few;
    plan->count = 0;
    plan->changes_block = plan->scratch_block = WEIR_MSG_NONE;
    plan->free = plan->scratch;
    plan->free_size = sizeof plan->scratch;
}

void merge_plan_fini(struct merge_plan *plan)
{
    struct arena *arena = plan->fold->arena;
    for (uint32_t i = 0; i < plan->count; i++)
        arena_drop(arena, plan->changes[i].block);
    arena_drop(arena, plan->changes_block);
    while (!msg_is_none(plan->scratch_block)) {
        weir_msg block = plan->scratch_block;
        memcpy(&plan->scratch_block, arena_data(arena, block), sizeof block);
        arena_drop(arena, block);
    }
}

/* Room for `size` bytes at plan->free. */
static enum weir_error scratch_reserve(struct merge_plan *plan, size_t size)
{
    if (size <= plan->free_size)
        return WEIR_OK;
    size_t block_size = sizeof(weir_msg) + size;
    if (block_size < MERGE_SCRATCH_SIZE)
        block_size = MERGE_SCRATCH_SIZE;
    weir_msg block;
    enum weir_error error = arena_alloc(plan->fold->arena, block_size, plan->fold->budget, &block);
    if (error)
        return error;
    uint8_t *data = arena_data(plan->fold->arena, block);
    memcpy(data, &plan->scratch_block, sizeof block);
    plan->scratch_block = block;
    plan->free = data + sizeof block;
    plan->free_size = block_size - sizeof block;
    return WEIR_OK;
}

static const uint8_t *scratch_take(struct merge_plan *plan, size_t size)
{
    const uint8_t *taken = plan->free;
    plan->free += size;
    plan->free_size -= size;
    return taken;
}

/* ------------------------------------------------------------------------------------------ collecting */

static enum weir_error change_name(struct merge_plan *plan, struct merge_change *change)
{
    struct view key = view_of(change->key, change->key_size);
    if (leaf_key_is_str(key.data[0])) {
        change->text = leaf_key_text(key);
    } else {
        enum weir_error error = scratch_reserve(plan, 1 + key.size);
        if (error)
            return error;
        plan->free[0] = TOPIC_MEMBER_HEAD;
        memcpy(plan->free + 1, key.data, key.size);
        change->text = view_of(scratch_take(plan, 1 + key.size), 1 + key.size);
    }
    change->hash = map_hash(change->text, plan->fold->seed);
    return WEIR_OK;
}

static enum weir_error plan_collect(struct merge_plan *plan, struct view patch)
{
    struct value_reader reader;
    value_reader_init(&reader, patch, VALUE_DEPTH_LIMIT);
    uint32_t count = value_read_map(&reader);
    enum weir_error error = reader.error;
    if (!error && count > MERGE_MEMBERS_MAX)
        error = WEIR_TOO_BIG;
    if (!error && count > MERGE_MEMBERS_FEW) {
        error = arena_alloc(plan->fold->arena, count * sizeof *plan->changes, plan->fold->budget, &plan->changes_block);
        if (!error)
            plan->changes = arena_data(plan->fold->arena, plan->changes_block);
    }
    for (uint32_t i = 0; i < count && !error; i++) {
        struct view key = value_read_any(&reader), value = value_read_any(&reader);
        if (reader.error)
            return reader.error;
        plan->changes[i] =
            (struct merge_change){.key = key.data, .key_size = (uint32_t)key.size, .value_size = (uint32_t)value.size};
        plan->count++;
        error = change_name(plan, &plan->changes[i]);
    }
    return error;
}

static int change_compare(const struct merge_change *a, const struct merge_change *b)
{
    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    size_t size = a->text.size < b->text.size ? a->text.size : b->text.size;
    int order = size > 0 ? memcmp(a->text.data, b->text.data, size) : 0;
    return order ? order : (a->text.size > b->text.size) - (a->text.size < b->text.size);
}

/* A key that is there twice: in the order of the patch. */
static bool change_is_before(const struct merge_change *a, const struct merge_change *b)
{
    int order = change_compare(a, b);
    return order ? order < 0 : a->key < b->key;
}

/* Lets the change at `at` of a heap of `count` sink to its place. */
static void heap_sink(struct merge_change *changes, uint32_t at, uint32_t count)
{
    struct merge_change change = changes[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count)
            break;
        if (child + 1 < count && change_is_before(&changes[child], &changes[child + 1]))
            child++;
        if (!change_is_before(&change, &changes[child]))
            break;
        changes[at] = changes[child];
        at = child;
    }
    changes[at] = change;
}

/* In place and n log n whatever the keys: libc's would use the heap for many. */
static void changes_sort(struct merge_change *changes, uint32_t count)
{
    for (uint32_t i = count / 2; i-- > 0;)
        heap_sink(changes, i, count);
    for (uint32_t left = count; left-- > 1;) {
        struct merge_change largest = changes[0];
        changes[0] = changes[left];
        changes[left] = largest;
        heap_sink(changes, 0, left);
    }
}

/* The last of a key that is there twice counts. Nothing has blocks yet. */
static void plan_sort(struct merge_plan *plan)
{
    uint32_t kept = 0;
    changes_sort(plan->changes, plan->count);
    for (uint32_t i = 0; i < plan->count; i++)
        if (i + 1 == plan->count || change_compare(&plan->changes[i], &plan->changes[i + 1]) != 0)
            plan->changes[kept++] = plan->changes[i];
    plan->count = kept;
}

/* ------------------------------------------------------------------------------------------- preparing */

/* The pair that is there; none: size 0. */
static struct view plan_find(const struct merge_plan *plan, const struct merge_change *change)
{
    const struct fold *fold = plan->fold;
    if (msg_is_none(fold->as.map.root))
        return view_of(NULL, 0);
    struct leaf *leaf = map_leaf_at(fold->arena, map_leaf_find(fold->arena, fold->as.map.root, change->hash));
    struct leaf_place place = leaf_find(fold->arena, leaf, (uint16_t)change->hash, change->text);
    if (!place.is_found)
        return view_of(NULL, 0);
    const uint8_t *pair = place.is_large ? arena_data(fold->arena, leaf->large[place.index].block)
                                         : (const uint8_t *)leaf + leaf_pair_offset(leaf, place.index);
    return view_of(pair, place.size);
}

/* Writes a member's pair: its key as it is there already, or as the patch has it, and both values merged. */
static enum weir_error pair_write(uint8_t *out, size_t capacity, const struct merge_change *change, struct view old,
                                  size_t *size_out)
{
    struct view key = view_of(change->key, change->key_size), value = view_of(NULL, 0);
    if (old.size > 0) {
        key = member_key(old);
        size_t head = MEMBER_KEY_OFFSET + key.size;
        value = view_of(old.data + head, old.size - head);
    }
    out[0] = MSGPACK_NIL;
    out[1] = TOPIC_MEMBER_HEAD;
    memcpy(out + MEMBER_KEY_OFFSET, key.data, key.size);
    size_t head = MEMBER_KEY_OFFSET + key.size, size = 0;
    struct view patch = view_of(change->key + change->key_size, change->value_size);
    enum weir_error error = merge_apply(value, patch, VALUE_DEPTH_LIMIT, out + head, capacity - head, &size);
    *size_out = head + size;
    return error;
}

/* Whether a pair of that size must be in a block of its own, though it was made in one with room for more. */
static bool block_fits(size_t size, size_t capacity) { return size > MAP_LARGE_SIZE && size >= capacity / 4 * 3; }

/* The change's pair where it can stay: at plan->free, or in *block, there was made one of `size` bytes, with room for
 * `capacity`. Takes the block. */
static enum weir_error pair_place(struct merge_plan *plan, struct merge_change *change, weir_msg *block, size_t size,
                                  size_t capacity)
{
    struct arena *arena = plan->fold->arena;
    const uint8_t *made = msg_is_none(*block) ? plan->free : arena_data(arena, *block);
    enum weir_error error = WEIR_OK;
    weir_msg own = WEIR_MSG_NONE;
    if (!msg_is_none(*block) && block_fits(size, capacity)) {
        own = *block;
        *block = WEIR_MSG_NONE;
    } else if (size > MAP_LARGE_SIZE) {
        error = arena_alloc(arena, size, plan->fold->budget, &own);
        if (!error)
            memcpy(arena_data(arena, own), made, size);
    } else if (msg_is_none(*block)) {
        (void)scratch_take(plan, size);
    } else {
        error = scratch_reserve(plan, size);
        if (!error) {
            memcpy(plan->free, made, size);
            made = scratch_take(plan, size);
        }
    }
    change->block = own;
    change->pair = msg_is_none(own) ? made : arena_data(arena, own);
    change->size = (uint32_t)size;
    arena_drop(arena, *block);
    return error;
}

/* Makes the pair that the change's member becomes. */
static enum weir_error change_make(struct merge_plan *plan, struct merge_change *change, struct view old)
{
    struct fold *fold = plan->fold;
    size_t capacity = MEMBER_KEY_OFFSET + change->key_size + old.size + change->value_size + MERGE_EXTRA_SIZE, size = 0;
    weir_msg block = WEIR_MSG_NONE;
    enum weir_error error = capacity <= SCRATCH_PAIR_MAX ? scratch_reserve(plan, capacity)
                                                         : arena_alloc(fold->arena, capacity, fold->budget, &block);
    if (error)
        return error;
    uint8_t *out = msg_is_none(block) ? plan->free : arena_data(fold->arena, block);
    error = pair_write(out, capacity, change, old, &size);
    if (!error && fold->rule->merged_bytes_max > 0 && size - 1 > fold->rule->merged_bytes_max)
        error = WEIR_TOO_BIG;
    if (!error)
        return pair_place(plan, change, &block, size, capacity);
    arena_drop(fold->arena, block);
    return error;
}

/* What the change makes of its member. False, without error: nothing. */
static enum weir_error change_plan(struct merge_plan *plan, struct merge_change *change, bool *is_change)
{
    struct view old = plan_find(plan, change);
    change->old_size = (uint32_t)old.size;
    *is_change = old.size > 0;
    if (value_is_nil(view_of(change->key + change->key_size, change->value_size)))
        return WEIR_OK;
    enum weir_error error = change_make(plan, change, old);
    *is_change = error != WEIR_OK || !view_is_same(old, view_of(change->pair, change->size));
    return error;
}

/* Leaves out changes that change nothing. */
static enum weir_error plan_prepare(struct merge_plan *plan)
{
    enum weir_error error = WEIR_OK;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < plan->count; i++) {
        struct merge_change change = plan->changes[i];
        bool is_change = true;
        if (!error)
            error = change_plan(plan, &change, &is_change);
        if (is_change)
            plan->changes[kept++] = change;
        else
            arena_drop(plan->fold->arena, change.block);
    }
    plan->count = kept;
    return error;
}

static enum weir_error plan_check(const struct merge_plan *plan)
{
    size_t less = 0, more = 0;
    for (uint32_t i = 0; i < plan->count; i++) {
        less += plan->changes[i].old_size;
        more += plan->changes[i].size;
    }
    bool has_room = more <= less || fold_has_room(plan->fold, plan->fold->bytes - less + more);
    return has_room ? WEIR_OK : WEIR_TOO_BIG;
}

enum weir_error merge_plan_patch(struct merge_plan *plan, struct view patch)
{
    enum weir_error error = plan_collect(plan, patch);
    if (error)
        return error;
    if (plan->count > 1)
        plan_sort(plan);
    error = plan_prepare(plan);
    return error ? error : plan_check(plan);
}

enum weir_error merge_plan_whole(struct merge_plan *plan, struct view value)
{
    struct fold *fold = plan->fold;
    struct merge_change *change = &plan->changes[0];
    size_t size = 1 + value.size;
    weir_msg block = WEIR_MSG_NONE;
    if (fold->rule->merged_bytes_max > 0 && value.size > fold->rule->merged_bytes_max)
        return WEIR_TOO_BIG;
    enum weir_error error =
        size <= MAP_LARGE_SIZE ? scratch_reserve(plan, size) : arena_alloc(fold->arena, size, fold->budget, &block);
    if (error)
        return error;
    uint8_t *out = msg_is_none(block) ? plan->free : arena_data(fold->arena, block);
    out[0] = MSGPACK_NIL;
    memcpy(out + 1, value.data, value.size);
    *change = (struct merge_change){.size = 0};
    plan->count = 1;
    error = pair_place(plan, change, &block, size, size);
    change->text = leaf_pair_key_text(change->pair, change->size);
    change->hash = map_hash(change->text, fold->seed);
    return error ? error : plan_check(plan);
}
