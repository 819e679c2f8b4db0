/* What is asked of supervisors from outside: starting, stopping and restarting children, and reading the tree. Any
 * thread. */
#include "actors/supervise/tree.h"

#include <stdio.h>

/* ------------------------------------------------------------------------------------------ orders */

static enum weir_error start_check(const struct supervisor *supervisor)
{
    switch ((enum supervisor_phase)supervisor->phase) {
    case SUPERVISOR_DOWN:
        if (supervisor->is_fresh)
            return WEIR_OK;
        return WEIR_BUSY;
    case SUPERVISOR_REGROUPING:
    case SUPERVISOR_RESTARTING: return WEIR_BUSY;
    case SUPERVISOR_STOPPING:
    case SUPERVISOR_ESCALATING: return WEIR_CLOSED;
    default: return supervisor->dynamic < supervisor->config.dynamic_max ? WEIR_OK : WEIR_FULL;
    }
}

/* The root has no supervisor: nobody restarts it, and nobody times its shutdown. */
static enum weir_error root_add(struct supervision *tree, const struct child_spec *spec, child_index *out)
{
    plan_index plan;
    enum weir_error error = plan_ensure(tree, spec, &plan);
    if (error)
        return error;
    error = child_add(tree, NULL, plan, out);
    if (error)
        plan_drop(tree, plan);
    return error;
}

static enum weir_error spawn_or_remove(struct supervision *tree, child_index index, weir_actor *out)
{
    enum weir_error error = child_spawn(tree, index);
    if (error)
        child_remove(tree, index);
    else if (out)
        *out = child_at(tree, index)->actor;
    return error;
}

enum weir_error supervisor_spawn(struct supervision *tree, weir_actor parent, const struct supervisor_config *config,
                                 weir_actor *out)
{
    MAGIC_CHECK(tree, SUPERVISION_MAGIC);
    struct child_spec spec = {.supervisor = config, .restart = RESTART_PERMANENT};
    if (!actor_is_none(parent))
        return supervisor_child_start(tree, parent, &spec, WEIR_ACTOR_NONE, 0, out);
    tree_lock(tree);
    child_index index;
    enum weir_error error = tree->root ? WEIR_EXISTS : root_add(tree, &spec, &index);
    if (!error)
        error = spawn_or_remove(tree, index, out);
    tree_unlock(tree);
    return error;
}

/* Somebody is to hear how the child's start went. */
static enum weir_error notify_later(struct supervision *tree, struct child *child, weir_actor notify, uint64_t word)
{
    if (actor_is_none(notify))
        return WEIR_OK;
    struct aside *aside = aside_ensure(tree, child);
    if (!aside)
        return WEIR_NO_MEMORY;
    aside->notify = notify;
    aside->notify_word = word;
    return WEIR_OK;
}

enum weir_error supervisor_child_start(struct supervision *tree, weir_actor supervisor, const struct child_spec *spec,
                                       weir_actor notify, uint64_t word, weir_actor *out)
{
    MAGIC_CHECK(tree, SUPERVISION_MAGIC);
    tree_lock(tree);
    struct supervisor *parent = supervisor_of_actor(tree, supervisor);
    enum weir_error error = parent ? start_check(parent) : WEIR_STALE;
    child_index index;
    /* What is added before the start belongs to the configuration. */
    if (!error)
        error = supervisor_add(parent, spec, parent->is_fresh ? 0 : CHILD_IS_DYNAMIC, &index);
    if (!error) {
        error = notify_later(tree, child_at(tree, index), notify, word);
        if (error)
            child_remove(tree, index);
        else
            error = spawn_or_remove(tree, index, out);
    }
    tree_unlock(tree);
    return error;
}

/* The child's record, found by its actor: WEIR_STALE when it has ended, WEIR_NOT_FOUND when it is nobody's. */
static enum weir_error child_of(struct supervision *tree, weir_actor actor, child_index *out)
{
    *out = child_find(tree, actor);
    if (*out)
        return WEIR_OK;
    struct actor_status status;
    return actor_status(tree->runtime, actor, &status) ? WEIR_STALE : WEIR_NOT_FOUND;
}

enum weir_error supervisor_child_stop(struct supervision *tree, weir_actor child)
{
    MAGIC_CHECK(tree, SUPERVISION_MAGIC);
    tree_lock(tree);
    child_index index;
    enum weir_error error = child_of(tree, child, &index);
    if (!error) {
        struct child_news news = {.event = CHILD_EVENT_STOP, .cause = WEIR_CLOSED};
        error = child_handle(tree, index, &news);
    }
    tree_unlock(tree);
    return error;
}

static enum weir_error restart_child(struct supervision *tree, child_index index)
{
    const struct supervisor *supervisor = supervisor_by_id(tree, child_at(tree, index)->supervisor);
    if (!supervisor)
        return WEIR_FORBIDDEN;
    if (supervisor->phase == SUPERVISOR_STOPPING || supervisor->phase == SUPERVISOR_ESCALATING)
        return WEIR_CLOSED;
    if (supervisor->phase != SUPERVISOR_RUNNING)
        return WEIR_BUSY;
    struct child_news news = {.event = CHILD_EVENT_RESTART, .cause = WEIR_CLOSED};
    return child_handle(tree, index, &news);
}

enum weir_error supervisor_restart(struct supervision *tree, weir_actor child)
{
    MAGIC_CHECK(tree, SUPERVISION_MAGIC);
    tree_lock(tree);
    child_index index;
    enum weir_error error = child_of(tree, child, &index);
    if (!error)
        error = restart_child(tree, index);
    tree_unlock(tree);
    return error;
}

enum weir_error supervisor_restart_named(struct supervision *tree, const char *name)
{
    MAGIC_CHECK(tree, SUPERVISION_MAGIC);
    tree_lock(tree);
    child_index index = child_find_named(tree, name);
    enum weir_error error = index ? restart_child(tree, index) : WEIR_NOT_FOUND;
    tree_unlock(tree);
    return error;
}

enum weir_error supervisor_child_delete(struct supervision *tree, weir_actor supervisor, const char *name)
{
    MAGIC_CHECK(tree, SUPERVISION_MAGIC);
    tree_lock(tree);
    const struct supervisor *parent = supervisor_of_actor(tree, supervisor);
    enum weir_error error = parent ? WEIR_NOT_FOUND : WEIR_STALE;
    for (child_index index = parent ? parent->first : 0; index; index = child_at(tree, index)->next) {
        if (strcmp(child_name(tree, index), name) != 0)
            continue;
        error = child_at(tree, index)->state == CHILD_DOWN ? WEIR_OK : WEIR_BUSY;
        if (!error)
            child_remove(tree, index);
        break;
    }
    tree_unlock(tree);
    return error;
}

enum weir_error supervision_find(struct supervision *tree, const char *name, weir_actor *out)
{
    MAGIC_CHECK(tree, SUPERVISION_MAGIC);
    tree_lock(tree);
    child_index index = child_find_named(tree, name);
    if (index)
        *out = child_at(tree, index)->actor;
    tree_unlock(tree);
    return index ? WEIR_OK : WEIR_NOT_FOUND;
}

/* ----------------------------------------------------------------------------------------- reading */

static const char *const strategy_names[] = {
    [SUPERVISOR_ONE_FOR_ONE] = "one_for_one",
    [SUPERVISOR_ONE_FOR_ALL] = "one_for_all",
    [SUPERVISOR_REST_FOR_ONE] = "rest_for_one",
};

static void row_fill(struct supervision *tree, child_index index, unsigned depth, struct supervision_row *row)
{
    struct child *child = child_at(tree, index);
    const struct plan *plan = child->plan ? plan_at(tree, child->plan) : NULL;
    const struct aside *aside = aside_of(tree, child);
    struct supervisor *above = supervisor_by_id(tree, child->supervisor);
    const struct supervisor *below = plan ? plan->supervisor : NULL;
    *row = (struct supervision_row){
        .kind = below  ? strategy_names[below->config.strategy]
                : plan ? plan->behaviour->name
                       : "",
        .state = child_state_name((enum child_state)child->state),
        .phase = below ? supervisor_phase_name((enum supervisor_phase)below->phase) : "",
        .actor = child->actor,
        .supervisor = above ? above->actor : WEIR_ACTOR_NONE,
        .restart = child_restart_type(tree, child),
        .depth = depth,
        .is_supervisor = below != NULL,
        .is_dynamic = child->flags & CHILD_IS_DYNAMIC,
        .restarts = aside ? aside->restarts : 0,
        .children = below ? below->children : 0,
        .last_cause = (enum weir_error)child->last_cause,
    };
    struct supervision_death last;
    if (above && past_deaths(above, child, &last, 1))
        row->last_death_ns = last.at_ns;
    snprintf(row->name, sizeof row->name, "%s", plan ? plan->name : "");
}

/* What only the actor itself knows of an adopted child. */
static void row_complete(struct supervision *tree, struct supervision_row *row)
{
    struct actor_status status;
    if (row->kind[0] || actor_status(tree->runtime, row->actor, &status))
        return;
    row->kind = status.behaviour;
    snprintf(row->name, sizeof row->name, "%s", status.label[0] ? status.label : status.behaviour);
}

static void walker_begin(struct supervision *tree, struct walker *walker)
{
    tree_lock(tree);
    *walker = (struct walker){.next = tree->walkers, .at = tree->root};
    tree->walkers = walker;
    tree_unlock(tree);
}

static bool walker_next(struct supervision *tree, struct walker *walker, struct supervision_row *row)
{
    tree_lock(tree);
    bool has_row = walker->at != 0;
    if (has_row) {
        row_fill(tree, walker->at, walker->depth, row);
        walker->at = tree_next(tree, walker->at, &walker->depth);
    }
    tree_unlock(tree);
    return has_row;
}

static void walker_end(struct supervision *tree, struct walker *walker)
{
    tree_lock(tree);
    struct walker **at = &tree->walkers;
    while (*at != walker)
        at = &(*at)->next;
    *at = walker->next;
    tree_unlock(tree);
}

void supervision_each(struct supervision *tree, bool (*each)(const struct supervision_row *row, void *context),
                      void *context)
{
    MAGIC_CHECK(tree, SUPERVISION_MAGIC);
    struct walker walker;
    struct supervision_row row;
    walker_begin(tree, &walker);
    bool is_wanted = true;
    while (is_wanted && walker_next(tree, &walker, &row)) {
        row_complete(tree, &row);
        is_wanted = each(&row, context);
    }
    walker_end(tree, &walker);
}

size_t supervision_deaths(struct supervision *tree, weir_actor child, struct supervision_death *out, size_t max)
{
    MAGIC_CHECK(tree, SUPERVISION_MAGIC);
    tree_lock(tree);
    child_index index = child_find(tree, child);
    struct supervisor *above = index ? supervisor_by_id(tree, child_at(tree, index)->supervisor) : NULL;
    size_t count = above ? past_deaths(above, child_at(tree, index), out, max) : 0;
    tree_unlock(tree);
    return count;
}
