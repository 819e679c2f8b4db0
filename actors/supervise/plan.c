/* Copies of what callers say about children and supervisors, so that they can be spawned again long after.
 * Called by boot and by whoever starts a child, under the tree's lock. */
#include "actors/supervise/tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *spec_name(const struct child_spec *spec)
{
    if (spec->name)
        return spec->name;
    if (spec->supervisor && spec->supervisor->name)
        return spec->supervisor->name;
    return spec->supervisor ? "supervisor" : spec->behaviour->name;
}

static enum weir_error spec_check(const struct child_spec *spec)
{
    if (!spec->behaviour == !spec->supervisor || (unsigned)spec->restart > RESTART_TEMPORARY)
        return WEIR_BAD_REQUEST;
    return spec->args_size > ACTOR_ARGS_SIZE_MAX ? WEIR_TOO_BIG : WEIR_OK;
}

static uint32_t plan_hash(const struct supervision *tree, uint32_t index)
{
    const struct plan_slot *slot = slots_at(tree->plans, index);
    return slot->hash;
}

static uint32_t *plan_next(const struct supervision *tree, uint32_t index)
{
    struct plan_slot *slot = slots_at(tree->plans, index);
    return &slot->hash_next;
}

static const struct index_kind plans_by_spec = {.load = 1, .hash = plan_hash, .next = plan_next};

/* Every byte of a plan counts, so that none may be left to chance. As FNV-1a, but a word at a time, whose high bytes
 * must reach the low bits. */
static uint32_t bytes_hash(const void *bytes, size_t size)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t at = 0, part; at < size; at += part) {
        uint64_t word = 0;
        part = size - at < sizeof word ? size - at : sizeof word;
        memcpy(&word, (const char *)bytes + at, part);
        hash = (hash ^ word) * UINT64_C(0xbf58476d1ce4e5b9);
        hash ^= hash >> 32;
    }
    return (uint32_t)hash;
}

static uint32_t shutdown_of(uint32_t asked_ms, bool is_supervisor)
{
    if (asked_ms != SHUTDOWN_DEFAULT)
        return asked_ms;
    return is_supervisor ? SHUTDOWN_INFINITE : SUPERVISOR_SHUTDOWN_MS;
}

static void plan_fill(struct plan *plan, const struct child_spec *spec, struct supervisor *supervisor)
{
    memset(plan, 0, sizeof *plan + spec->args_size);
    plan->behaviour = supervisor ? &supervisor_behaviour : spec->behaviour;
    plan->supervisor = supervisor;
    plan->options.mailbox_max = spec->options.mailbox_max;
    plan->options.attempts_max = spec->options.attempts_max;
    plan->options.budget = spec->options.budget;
    plan->shutdown_ms = shutdown_of(spec->shutdown_ms, supervisor != NULL);
    plan->restart = (uint8_t)spec->restart;
    plan->hears_its_end = spec->hears_its_end && supervisor == NULL;
    plan->has_label = spec->options.label != NULL;
    plan->args_size = spec->args_size;
    memccpy(plan->name, spec_name(spec), '\0', sizeof plan->name - 1);
    if (spec->options.label != NULL)
        memccpy(plan->label, spec->options.label, '\0', sizeof plan->label - 1);
    if (spec->args_size)
        memcpy(plan->args, spec->args, spec->args_size);
}

/* A plan that says the same; 0: none. */
static plan_index plan_find(struct supervision *tree, const struct plan *plan, uint32_t size, uint32_t hash)
{
    plan_index index = tree_index_first(tree, &tree->by_spec, hash);
    while (index) {
        const struct plan_slot *slot = slots_at(tree->plans, index);
        if (slot->hash == hash && slot->size == size && memcmp(plan_at(tree, index), plan, size) == 0)
            break;
        index = slot->hash_next;
    }
    return index;
}

/* A place for a plan that nobody has yet, which goes in the table if it can be shared. */
static enum weir_error plan_add(struct supervision *tree, const struct plan_slot *like, plan_index *out)
{
    enum weir_error error = slots_alloc(tree->plans, &tree->plans_cache, out);
    if (error)
        return error;
    struct plan_slot *slot = slots_at(tree->plans, *out);
    *slot = *like;
    slot->children = 1;
    if (!plan_at(tree, *out)->supervisor)
        error = tree_index_add(tree, &tree->by_spec, &plans_by_spec, *out);
    if (error)
        slots_free(tree->plans, &tree->plans_cache, *out);
    return error;
}

enum weir_error plan_ensure(struct supervision *tree, const struct child_spec *spec, plan_index *out)
{
    enum weir_error error = spec_check(spec);
    if (error)
        return error;
    struct supervisor *supervisor = NULL;
    if (spec->supervisor && (error = supervisor_create(tree, spec->supervisor, &supervisor)) != WEIR_OK)
        return error;
    struct plan_slot like = {.size = (uint32_t)(sizeof(struct plan) + spec->args_size)};
    error = arena_alloc(tree->arena, like.size, NULL, &like.block);
    if (error)
        goto destroy_supervisor;
    struct plan *plan = arena_data(tree->arena, like.block);
    plan_fill(plan, spec, supervisor);
    like.hash = bytes_hash(plan, like.size);
    *out = supervisor ? 0 : plan_find(tree, plan, like.size, like.hash);
    if (*out) {
        ((struct plan_slot *)slots_at(tree->plans, *out))->children++;
        arena_drop(tree->arena, like.block);
        return WEIR_OK;
    }
    error = plan_add(tree, &like, out);
    if (!error)
        return WEIR_OK;
    arena_drop(tree->arena, like.block);
destroy_supervisor:
    supervisor_destroy(&supervisor);
    return error;
}

void plan_drop(struct supervision *tree, plan_index plan)
{
    if (!plan)
        return;
    struct plan_slot *slot = slots_at(tree->plans, plan);
    if (--slot->children > 0)
        return;
    struct plan *gone = plan_at(tree, plan);
    if (gone->supervisor)
        supervisor_destroy(&gone->supervisor);
    else
        tree_index_remove(tree, &tree->by_spec, &plans_by_spec, plan);
    arena_drop(tree->arena, slot->block);
    slots_free(tree->plans, &tree->plans_cache, plan);
}

/* What zeros in a configuration mean. */
static void config_complete(struct supervisor_config *config)
{
    if (config->intensity == 0 && config->period_ms == 0) {
        config->intensity = SUPERVISOR_INTENSITY_DEFAULT;
        config->period_ms = SUPERVISOR_PERIOD_MS_DEFAULT;
    }
    if (config->backoff_quiet_ms == 0) {
        uint64_t quiet = 2 * (uint64_t)config->backoff_max_ms;
        quiet = quiet > config->period_ms ? quiet : config->period_ms;
        config->backoff_quiet_ms = quiet < UINT32_MAX ? (uint32_t)quiet : UINT32_MAX;
    }
    if (config->adopt.shutdown_ms == SHUTDOWN_DEFAULT)
        config->adopt.shutdown_ms = SUPERVISOR_SHUTDOWN_MS;
    config->name = NULL;
    config->children = NULL;
    config->child_count = 0;
}

static enum weir_error config_check(const struct supervisor_config *config)
{
    bool is_bad =
        (unsigned)config->strategy > SUPERVISOR_REST_FOR_ONE || config->backoff_min_ms > config->backoff_max_ms ||
        config->backoff_jitter_percent > 100 || (unsigned)config->adopt.restart > RESTART_TEMPORARY ||
        (config->intensity > SUPERVISOR_INTENSITY_MAX && config->intensity != SUPERVISOR_INTENSITY_UNLIMITED) ||
        (config->child_count > 0 && !config->children);
    return is_bad ? WEIR_BAD_REQUEST : WEIR_OK;
}

/* The smallest free id; SUPERVISORS_MAX bounds it. */
static enum weir_error id_take(struct supervision *tree, struct supervisor *supervisor)
{
    uint32_t id = 1;
    while (id <= tree->id_last && tree->supervisors[id])
        id++;
    if (id > SUPERVISORS_MAX)
        return WEIR_FULL;
    if (id >= tree->supervisors_max) {
        uint32_t max = tree->supervisors_max ? tree->supervisors_max * 2 : 16;
        struct supervisor **grown = realloc(tree->supervisors, max * sizeof(struct supervisor *));
        if (!grown)
            return WEIR_NO_MEMORY;
        memset(grown + tree->supervisors_max, 0, (max - tree->supervisors_max) * sizeof(struct supervisor *));
        tree->supervisors = grown;
        tree->supervisors_max = max;
    }
    if (id > tree->id_last)
        tree->id_last = (uint16_t)id;
    supervisor->id = (uint16_t)id;
    tree->supervisors[id] = supervisor;
    return WEIR_OK;
}

static bool has_name(const struct supervisor *supervisor, const char *name)
{
    for (child_index index = supervisor->first; index; index = child_at(supervisor->tree, index)->next) {
        if (strcmp(child_name(supervisor->tree, index), name) == 0)
            return true;
    }
    return false;
}

static enum weir_error children_add(struct supervisor *supervisor, const struct supervisor_config *config)
{
    for (size_t i = 0; i < config->child_count; i++) {
        const struct child_spec *spec = &config->children[i];
        enum weir_error error = spec_check(spec);
        if (!error && has_name(supervisor, spec_name(spec)))
            error = WEIR_BAD_REQUEST;
        child_index index;
        if (!error)
            error = supervisor_add(supervisor, spec, 0, &index);
        if (error)
            return error;
    }
    return WEIR_OK;
}

static bool window_init(struct supervisor *supervisor)
{
    const struct supervisor_config *config = &supervisor->config;
    if (config->intensity == 0 || config->intensity == SUPERVISOR_INTENSITY_UNLIMITED || config->is_intensity_per_child)
        return true;
    supervisor->window.max = config->intensity;
    supervisor->window.times_ns = calloc(config->intensity, sizeof(uint64_t));
    return supervisor->window.times_ns != NULL;
}

enum weir_error supervisor_create(struct supervision *tree, const struct supervisor_config *config,
                                  struct supervisor **out)
{
    enum weir_error error = config_check(config);
    if (error)
        return error;
    struct supervisor *supervisor = calloc(1, sizeof *supervisor);
    if (!supervisor)
        return WEIR_NO_MEMORY;
    supervisor->magic = SUPERVISOR_MAGIC;
    supervisor->tree = tree;
    supervisor->phase = SUPERVISOR_DOWN;
    supervisor->is_fresh = true;
    supervisor->config = *config;
    supervisor->report_limit.interval_ns = UINT64_C(1000) * 1000 * 1000;
    snprintf(supervisor->name, sizeof supervisor->name, "%s", config->name ? config->name : "supervisor");
    config_complete(&supervisor->config);
    error = window_init(supervisor) ? WEIR_OK : WEIR_NO_MEMORY;
    if (!error)
        error = id_take(tree, supervisor);
    if (!error) {
        supervisor->random = tree->seed + supervisor->id * UINT64_C(0x9e3779b97f4a7c15);
        tree->totals.supervisors++;
        error = children_add(supervisor, config);
    }
    if (error) {
        supervisor_destroy(&supervisor);
        return error;
    }
    *out = supervisor;
    return WEIR_OK;
}

void supervisor_destroy(struct supervisor **supervisor)
{
    struct supervisor *gone = *supervisor;
    if (!gone)
        return;
    MAGIC_CHECK(gone, SUPERVISOR_MAGIC);
    while (gone->first)
        child_remove(gone->tree, gone->first);
    if (gone->id) {
        gone->tree->supervisors[gone->id] = NULL;
        gone->tree->totals.supervisors--;
    }
    free(gone->window.times_ns);
    gone->magic = 0;
    free(gone);
    *supervisor = NULL;
}

enum weir_error supervisor_add(struct supervisor *supervisor, const struct child_spec *spec, uint8_t flags,
                               child_index *out)
{
    struct supervision *tree = supervisor->tree;
    plan_index plan;
    enum weir_error error = plan_ensure(tree, spec, &plan);
    if (error)
        return error;
    error = child_add(tree, supervisor, plan, out);
    if (error) {
        plan_drop(tree, plan);
        return error;
    }
    child_at(tree, *out)->flags |= flags | CHILD_IS_NEW;
    supervisor->dynamic += (flags & CHILD_IS_DYNAMIC) != 0;
    return WEIR_OK;
}
