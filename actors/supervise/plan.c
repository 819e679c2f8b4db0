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

enum weir_error plan_create(struct supervision *tree, const struct child_spec *spec, weir_msg *out)
{
    enum weir_error error = spec_check(spec);
    if (error)
        return error;
    struct supervisor *supervisor = NULL;
    if (spec->supervisor) {
        error = supervisor_create(tree, spec->supervisor, &supervisor);
        if (error)
            return error;
    }
    error = arena_alloc(tree->arena, sizeof(struct plan) + spec->args_size, NULL, out);
    if (error) {
        supervisor_destroy(&supervisor);
        return error;
    }
    struct plan *plan = plan_at(tree, *out);
    *plan = (struct plan){
        .behaviour = supervisor ? &supervisor_behaviour : spec->behaviour,
        .options = spec->options,
        .supervisor = supervisor,
        .args_size = spec->args_size,
        .has_label = spec->options.label != NULL,
    };
    plan->options.label = NULL;
    snprintf(plan->name, sizeof plan->name, "%s", spec_name(spec));
    if (plan->has_label)
        snprintf(plan->label, sizeof plan->label, "%s", spec->options.label);
    if (spec->args_size)
        memcpy(plan->args, spec->args, spec->args_size);
    return WEIR_OK;
}

void plan_destroy(struct supervision *tree, weir_msg plan)
{
    if (msg_is_none(plan))
        return;
    supervisor_destroy(&plan_at(tree, plan)->supervisor);
    arena_drop(tree->arena, plan);
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

static uint32_t shutdown_of(uint32_t asked_ms, bool is_supervisor)
{
    if (asked_ms != SHUTDOWN_DEFAULT)
        return asked_ms;
    return is_supervisor ? SHUTDOWN_INFINITE : SUPERVISOR_SHUTDOWN_MS;
}

enum weir_error supervisor_add(struct supervisor *supervisor, const struct child_spec *spec, uint8_t flags,
                               child_index *out)
{
    struct supervision *tree = supervisor->tree;
    weir_msg plan;
    enum weir_error error = plan_create(tree, spec, &plan);
    if (error)
        return error;
    error = child_add(tree, supervisor, plan, out);
    if (error) {
        plan_destroy(tree, plan);
        return error;
    }
    struct child *child = child_at(tree, *out);
    child->flags |= flags | CHILD_IS_NEW;
    child->restart = (uint8_t)spec->restart;
    child->shutdown_ms = shutdown_of(spec->shutdown_ms, spec->supervisor != NULL);
    supervisor->dynamic += (flags & CHILD_IS_DYNAMIC) != 0;
    return WEIR_OK;
}
