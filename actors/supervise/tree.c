/* The tree's records: the pool they come from, the lists they stand in, and the hash that finds them by their actor.
 * Called by the rest of actors/supervise, under the tree's lock, on whichever thread holds it. */
#include "actors/supervise/tree.h"

#include <stdlib.h>
#include <string.h>

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

static uint32_t child_hash(const struct supervision *tree, uint32_t index)
{
    const struct child *child = slots_at(tree->pool, index);
    return actor_hash(child->actor);
}

static uint32_t *child_next(const struct supervision *tree, uint32_t index)
{
    struct child *child = slots_at(tree->pool, index);
    return &child->hash_next;
}

/* Up to two children a bucket: at a million that is 2 to 4 bytes each, and a look-up is rare beside a message. */
static const struct index_kind children_by_actor = {.load = 2, .hash = child_hash, .next = child_next};

enum weir_error child_actor_set(struct supervision *tree, child_index index, weir_actor actor)
{
    struct child *child = child_at(tree, index);
    REQUIRE(actor_is_none(child->actor) && !actor_is_none(actor));
    child->actor = actor;
    enum weir_error error = tree_index_add(tree, &tree->by_actor, &children_by_actor, index);
    if (error)
        child->actor = WEIR_ACTOR_NONE;
    return error;
}

void child_actor_clear(struct supervision *tree, child_index index)
{
    struct child *child = child_at(tree, index);
    if (actor_is_none(child->actor))
        return;
    tree_index_remove(tree, &tree->by_actor, &children_by_actor, index);
    child->actor = WEIR_ACTOR_NONE;
}

child_index child_find(struct supervision *tree, weir_actor actor)
{
    if (actor_is_none(actor))
        return 0;
    child_index index = tree_index_first(tree, &tree->by_actor, actor_hash(actor));
    while (index && !actor_is_same(child_at(tree, index)->actor, actor))
        index = child_at(tree, index)->hash_next;
    return index;
}

enum restart_type child_restart_type(struct supervision *tree, const struct child *child)
{
    if (child->plan)
        return (enum restart_type)plan_at(tree, child->plan)->restart;
    return supervisor_by_id(tree, child->supervisor)->config.adopt.restart;
}

uint32_t child_shutdown_ms(struct supervision *tree, const struct child *child)
{
    if (child->plan)
        return plan_at(tree, child->plan)->shutdown_ms;
    return supervisor_by_id(tree, child->supervisor)->config.adopt.shutdown_ms;
}

struct aside *aside_of(struct supervision *tree, const struct child *child)
{
    return child->aside ? slots_at(tree->asides, child->aside) : NULL;
}

struct aside *aside_ensure(struct supervision *tree, struct child *child)
{
    uint32_t slot;
    if (child->aside)
        return aside_of(tree, child);
    if (slots_alloc(tree->asides, &tree->asides_cache, &slot))
        return NULL;
    child->aside = slot;
    struct aside *aside = aside_of(tree, child);
    *aside = (struct aside){0};
    return aside;
}

void aside_tidy(struct supervision *tree, struct child *child)
{
    const struct aside *aside = aside_of(tree, child);
    if (!aside || aside->restarts || aside->timer.bits || !msg_is_none(aside->past) || !actor_is_none(aside->notify))
        return;
    slots_free(tree->asides, &tree->asides_cache, child->aside);
    child->aside = 0;
}

const char *child_name(struct supervision *tree, child_index index)
{
    const struct child *child = child_at(tree, index);
    return child->plan ? plan_at(tree, child->plan)->name : "";
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

enum weir_error child_add(struct supervision *tree, struct supervisor *supervisor, plan_index plan, child_index *out)
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
    struct supervisor *below = plan ? plan_at(tree, plan)->supervisor : NULL;
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
    plan_drop(tree, child->plan);
    if (child->aside) {
        arena_drop(tree->arena, aside_of(tree, child)->past);
        slots_free(tree->asides, &tree->asides_cache, child->aside);
    }
    tree->totals.children--;
    slots_free(tree->pool, &tree->cache, index);
}
