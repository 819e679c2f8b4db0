/* The tree as a whole: its birth, its stop, and who waits for it. Called by the program's main thread. */
#include "actors/supervise/tree.h"

#include "actors/base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

static enum weir_error waiting_init(struct supervision *tree)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes))
        return WEIR_NO_MEMORY;
    int failed = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (!failed)
        failed = pthread_cond_init(&tree->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (failed)
        return WEIR_NO_MEMORY;
    if (pthread_mutex_init(&tree->lock, NULL)) {
        pthread_cond_destroy(&tree->changed);
        return WEIR_NO_MEMORY;
    }
    return WEIR_OK;
}

/* Each child may have its own of everything. */
static enum weir_error pools_create(struct supervision *tree, uint32_t children_max)
{
    enum weir_error error = slots_create(tree->arena, sizeof(struct child), children_max, &tree->pool);
    if (!error)
        error = slots_create(tree->arena, sizeof(struct aside), children_max, &tree->asides);
    if (!error)
        error = slots_create(tree->arena, sizeof(struct plan_slot), children_max, &tree->plans);
    return error;
}

static void pools_destroy(struct supervision *tree)
{
    slots_destroy(&tree->pool);
    slots_destroy(&tree->asides);
    slots_destroy(&tree->plans);
}

enum weir_error supervision_create(const struct supervision_config *config, struct supervision **out)
{
    REQUIRE(config->runtime != NULL);
    struct supervision *tree = calloc(1, sizeof *tree);
    if (!tree)
        return WEIR_NO_MEMORY;
    tree->magic = SUPERVISION_MAGIC;
    tree->runtime = config->runtime;
    tree->arena = runtime_arena(config->runtime);
    tree->on_down = config->on_down;
    tree->context = config->context;
    tree->seed = config->seed ? config->seed : runtime_now_ns(config->runtime);
    enum weir_error error = waiting_init(tree);
    if (error)
        goto free_tree;
    uint32_t children_max = config->children_max ? config->children_max : SUPERVISION_CHILDREN_MAX;
    error = pools_create(tree, children_max);
    if (error)
        goto destroy_pools;
    *out = tree;
    return WEIR_OK;

destroy_pools:
    pools_destroy(tree);
    pthread_mutex_destroy(&tree->lock);
    pthread_cond_destroy(&tree->changed);
free_tree:
    free(tree);
    return error;
}

void supervision_destroy(struct supervision **supervision)
{
    struct supervision *tree = *supervision;
    if (!tree)
        return;
    MAGIC_CHECK(tree, SUPERVISION_MAGIC);
    REQUIRE(tree->walkers == NULL);
    if (tree->root) {
        supervisor_abandon(supervisor_of_child(tree, tree->root), WEIR_CLOSED);
        child_drop(tree, tree->root);
        child_remove(tree, tree->root);
    }
    INVARIANT(tree->totals.children == 0 && tree->totals.supervisors == 0);
    INVARIANT(tree->by_actor.count == 0 && tree->by_spec.count == 0);
    arena_drop(tree->arena, tree->by_actor.block);
    arena_drop(tree->arena, tree->by_spec.block);
    slots_cache_flush(tree->pool, &tree->cache);
    slots_cache_flush(tree->asides, &tree->asides_cache);
    slots_cache_flush(tree->plans, &tree->plans_cache);
    INVARIANT(slots_live(tree->pool) == 0 && slots_live(tree->asides) == 0 && slots_live(tree->plans) == 0);
    pools_destroy(tree);
    free(tree->supervisors);
    pthread_mutex_destroy(&tree->lock);
    pthread_cond_destroy(&tree->changed);
    tree->magic = 0;
    free(tree);
    *supervision = NULL;
}

void supervision_shutdown(struct supervision *tree)
{
    MAGIC_CHECK(tree, SUPERVISION_MAGIC);
    tree_lock(tree);
    weir_actor root = tree->root ? child_at(tree, tree->root)->actor : WEIR_ACTOR_NONE;
    if (actor_is_none(root)) {
        /* Nothing was ever spawned, or it has ended. */
        tree->is_down = true;
        pthread_cond_broadcast(&tree->changed);
    } else {
        struct message message = {.tag = MESSAGE_SHUTDOWN};
        /* Without room for the order it is stopped without its consent. */
        if (actor_control(tree->runtime, WEIR_ACTOR_NONE, root, &message))
            (void)!actor_stop(tree->runtime, root, WEIR_CLOSED);
    }
    tree_unlock(tree);
}

/* Waits under the lock until is_over says so; false when the time ran out first. */
static bool wait_until(struct supervision *tree, uint64_t timeout_ms, bool (*is_over)(const struct supervision *tree))
{
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += (time_t)(timeout_ms / 1000);
    deadline.tv_nsec += (long)(timeout_ms % 1000 * NS_PER_MS);
    if (deadline.tv_nsec >= (long)NS_PER_S) {
        deadline.tv_sec++;
        deadline.tv_nsec -= (long)NS_PER_S;
    }
    while (!is_over(tree)) {
        if (pthread_cond_timedwait(&tree->changed, &tree->lock, &deadline) == ETIMEDOUT)
            return is_over(tree);
    }
    return true;
}

static bool is_down(const struct supervision *tree) { return tree->is_down; }
static bool is_ready_or_down(const struct supervision *tree) { return tree->is_ready || tree->is_down; }

enum weir_error supervision_wait(struct supervision *tree, uint64_t timeout_ms)
{
    MAGIC_CHECK(tree, SUPERVISION_MAGIC);
    tree_lock(tree);
    bool is_over = wait_until(tree, timeout_ms, is_down);
    tree_unlock(tree);
    return is_over ? WEIR_OK : WEIR_TIMEOUT;
}

enum weir_error supervision_wait_ready(struct supervision *tree, uint64_t timeout_ms)
{
    MAGIC_CHECK(tree, SUPERVISION_MAGIC);
    tree_lock(tree);
    enum weir_error error = WEIR_OK;
    if (!wait_until(tree, timeout_ms, is_ready_or_down))
        error = WEIR_TIMEOUT;
    else if (!tree->is_ready)
        error = tree->down_cause ? tree->down_cause : WEIR_CLOSED;
    tree_unlock(tree);
    return error;
}

bool supervision_is_ready(struct supervision *tree)
{
    tree_lock(tree);
    bool is_ready = tree->is_ready;
    tree_unlock(tree);
    return is_ready;
}

bool supervision_is_down(struct supervision *tree)
{
    tree_lock(tree);
    bool is_it = tree->is_down;
    tree_unlock(tree);
    return is_it;
}

void supervision_totals(struct supervision *tree, struct supervision_totals *out)
{
    tree_lock(tree);
    *out = tree->totals;
    tree_unlock(tree);
}

void supervision_trace(struct supervision *tree,
                       void (*on_transition)(const struct supervision_transition *transition, void *context),
                       void *context)
{
    tree_lock(tree);
    tree->on_transition = on_transition;
    tree->transition_context = context;
    tree_unlock(tree);
}
