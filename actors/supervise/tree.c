/* The tree's records: the pool they come from, the lists they stand in, and the hash that finds them by their actor.
 * Called by the rest of actors/supervise, under the tree's lock, on whichever thread holds it. */
#include "actors/supervise/tree.h"

#include <stdlib.h>
#include <string.h>

/* Buckets to begin with; they double when there are as many children as buckets. */
#define BUCKETS_MIN 64

void tree_lock(struct supervision *tree)
{
    int failed = pthread_mutex_lock(&tree->lock);
    ENSURE(!failed);
}

void tree_unlock(struct supervision *tree)
{
    int failed = pthread_mutex_unlock(&tree->lock);
    ENSURE(!failed);
}

/* Source: the finalizer of splitmix64; handles differ in few bits. */
static uint32_t actor_hash(weir_actor actor)
{
    uint64_t bits = actor.bits;
    bits = (bits ^ (bits >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    bits = (bits ^ (bits >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)(bits ^ (bits >> 31));
}

static child_index *bucket_of(struct supervision *tree, weir_actor actor)
{
    child_index *buckets = arena_data(tree->arena, tree->buckets);
    return &buckets[actor_hash(actor) & (tree->bucket_count - 1)];
}

/* Doubles the buckets. Without memory for it the chains grow instead, and it is tried again. */
static enum weir_error buckets_grow(struct supervision *tree)
{
    uint32_t count = tree->bucket_count ? tree->bucket_count * 2 : BUCKETS_MIN;
    weir_msg grown;
    enum weir_error error = arena_alloc(tree->arena, count * sizeof(child_index), NULL, &grown);
    if (error)
        return tree->bucket_count ? WEIR_OK : error;
    memset(arena_data(tree->arena, grown), 0, count * sizeof(child_index));
    child_index *old = tree->bucket_count ? arena_data(tree->arena, tree->buckets) : NULL;
    weir_msg old_block = tree->buckets;
    uint32_t old_count = tree->bucket_count;
    tree->buckets = grown;
    tree->bucket_count = count;
    for (uint32_t i = 0; i < old_count; i++) {
        for (child_index index = old[i], next; index; index = next) {
            struct child *child = child_at(tree, index);
            child_index *bucket = bucket_of(tree, child->actor);
            next = child->hash_next;
            child->hash_next = *bucket;
            *bucket = index;
        }
    }
    arena_drop(tree->arena, old_block);
    return WEIR_OK;
}

enum weir_error child_actor_set(struct supervision *tree, child_index index, weir_actor actor)
{
    struct child *child = child_at(tree, index);
    REQUIRE(actor_is_none(child->actor) && !actor_is_none(actor));
    if (tree->hashed >= tree->bucket_count) {
        enum weir_error error = buckets_grow(tree);
        if (error)
            return error;
    }
    child_index *bucket = bucket_of(tree, actor);
    child->actor = actor;
    child->hash_next = *bucket;
    *bucket = index;
    tree->hashed++;
    return WEIR_OK;
}

void child_actor_clear(struct supervision *tree, child_index index)
{
    struct child *child = child_at(tree, index);
    if (actor_is_none(child->actor))
        return;
    child_index *at = bucket_of(tree, child->actor);
    while (*at != index) {
        INVARIANT(*at != 0);
        at = &child_at(tree, *at)->hash_next;
    }
    *at = child->hash_next;
    child->actor = WEIR_ACTOR_NONE;
    tree->hashed--;
}

child_index child_find(struct supervision *tree, weir_actor actor)
{
    if (tree->bucket_count == 0 || actor_is_none(actor))
        return 0;
    child_index index = *bucket_of(tree, actor);
    while (index && !actor_is_same(child_at(tree, index)->actor, actor))
        index = child_at(tree, index)->hash_next;
    return index;
}

const char *child_name(struct supervision *tree, child_index index)
{
    const struct child *child = child_at(tree, index);
    return msg_is_none(child->plan) ? "" : plan_at(tree, child->plan)->name;
}

child_index child_find_named(struct supervision *tree, const char *name)
{
    unsigned depth = 0;
    child_index index = tree->root;
    while (index && strcmp(child_name(tree, index), name) != 0)
        index = tree_next(tree, index, &depth);
    return index;
}

struct supervisor *supervisor_by_id(struct supervision *tree, uint16_t id)
{
    if (id == 0)
        return NULL;
    struct supervisor *supervisor = tree->supervisors[id];
    MAGIC_CHECK(supervisor, SUPERVISOR_MAGIC);
    return supervisor;
}

struct supervisor *supervisor_of_child(struct supervision *tree, child_index index)
{
    const struct child *child = child_at(tree, index);
    return child->flags & CHILD_IS_SUPERVISOR ? plan_at(tree, child->plan)->supervisor : NULL;
}

struct supervisor *supervisor_of_actor(struct supervision *tree, weir_actor actor)
{
    child_index index = child_find(tree, actor);
    return index ? supervisor_of_child(tree, index) : NULL;
}

child_index tree_next(struct supervision *tree, child_index index, unsigned *depth)
{
    const struct supervisor *below = supervisor_of_child(tree, index);
    if (below && below->first) {
        ++*depth;
        return below->first;
    }
    for (;;) {
        const struct child *child = child_at(tree, index);
        if (child->next)
            return child->next;
        if (child->supervisor == 0)
            return 0;
        index = supervisor_by_id(tree, child->supervisor)->self;
        --*depth;
    }
}

static void list_append(struct supervision *tree, struct supervisor *supervisor, child_index index)
{
    struct child *child = child_at(tree, index);
    child->supervisor = supervisor->id;
    child->prev = supervisor->last;
    if (supervisor->last)
        child_at(tree, supervisor->last)->next = index;
    else
        supervisor->first = index;
    supervisor->last = index;
    supervisor->children++;
}

static void list_remove(struct supervision *tree, struct supervisor *supervisor, child_index index)
{
    struct child *child = child_at(tree, index);
    if (child->prev)
        child_at(tree, child->prev)->next = child->next;
    else
        supervisor->first = child->next;
    if (child->next)
        child_at(tree, child->next)->prev = child->prev;
    else
        supervisor->last = child->prev;
    supervisor->children--;
}

enum weir_error child_add(struct supervision *tree, struct supervisor *supervisor, weir_msg plan, child_index *out)
{
    child_index index;
    enum weir_error error = slots_alloc(tree->pool, &tree->cache, &index);
    if (error)
        return tree->totals.children > 0 ? WEIR_FULL : error;
    struct child *child = child_at(tree, index);
    *child = (struct child){.plan = plan, .state = CHILD_DOWN};
    if (supervisor)
        list_append(tree, supervisor, index);
    else
        tree->root = index;
    struct supervisor *below = msg_is_none(plan) ? NULL : plan_at(tree, plan)->supervisor;
    if (below) {
        child->flags |= CHILD_IS_SUPERVISOR;
        below->self = index;
    }
    tree->totals.children++;
    *out = index;
    return WEIR_OK;
}

static void walkers_move_on(struct supervision *tree, child_index index)
{
    for (struct walker *walker = tree->walkers; walker; walker = walker->next) {
        if (walker->at == index)
            walker->at = tree_next(tree, index, &walker->depth);
    }
}

void child_remove(struct supervision *tree, child_index index)
{
    struct child *child = child_at(tree, index);
    REQUIRE(child->state == CHILD_DOWN && actor_is_none(child->actor));
    struct supervisor *supervisor = supervisor_by_id(tree, child->supervisor);
    struct supervisor *below = supervisor_of_child(tree, index);
    while (below && below->first)
        child_remove(tree, below->first);
    walkers_move_on(tree, index);
    if (supervisor) {
        supervisor_forget(supervisor, index);
        supervisor->dynamic -= (child->flags & CHILD_IS_DYNAMIC) != 0;
        list_remove(tree, supervisor, index);
    } else {
        tree->root = 0;
    }
    plan_destroy(tree, child->plan);
    arena_drop(tree->arena, child->past);
    tree->totals.children--;
    slots_free(tree->pool, &tree->cache, index);
}
