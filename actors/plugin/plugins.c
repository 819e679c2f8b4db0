/* The table of plugin instances: what is defined, what runs. Called by boot on the main thread and by admin on its own;
 * each instance has a lock, the table another, which is taken first. */
#include "actors/plugin/plugin_state.h"

#include "actors/base/clock.h"
#include "actors/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct plugins {
    uint32_t magic;
    struct plugins_options options;
    pthread_mutex_t lock;
    struct plugin_instance *first; /* never fewer: a name keeps its instance until the end */
};

#define PLUGINS_MAGIC UINT32_C(0x706c7473)

enum weir_error plugins_create(const struct plugins_options *options, struct plugins **out)
{
    struct plugins *plugins = calloc(1, sizeof *plugins);
    if (plugins == NULL)
        return WEIR_NO_MEMORY;
    plugins->magic = PLUGINS_MAGIC;
    plugins->options = *options;
    pthread_mutex_init(&plugins->lock, NULL);
    *out = plugins;
    return WEIR_OK;
}

void plugins_destroy(struct plugins **pointer)
{
    struct plugins *plugins = *pointer;
    if (plugins == NULL)
        return;
    MAGIC_CHECK(plugins, PLUGINS_MAGIC);
    while (plugins->first != NULL) {
        struct plugin_instance *instance = plugins->first;
        plugins->first = instance->next;
        plugin_config_fini(&instance->config);
        pthread_cond_destroy(&instance->begun);
        pthread_mutex_destroy(&instance->lock);
        free(instance);
    }
    pthread_mutex_destroy(&plugins->lock);
    plugins->magic = 0;
    free(plugins);
    *pointer = NULL;
}

static struct plugin_instance *instance_find(const struct plugins *plugins, const char *name)
{
    struct plugin_instance *instance = plugins->first;
    while (instance != NULL && strcmp(instance->config.name, name) != 0)
        instance = instance->next;
    return instance;
}

static void condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

static struct plugin_instance *instance_create(struct plugins *plugins, const char *name)
{
    struct plugin_instance *instance = calloc(1, sizeof *instance), **place = &plugins->first;
    if (instance == NULL)
        return NULL;
    instance->plugins = plugins;
    instance->runtime = plugins->options.runtime;
    instance->directory = plugins->options.directory;
    instance->budget = plugins->options.budget;
    instance->status.state = "unloaded";
    condition_init(&instance->begun);
    (void)snprintf(instance->config.name, sizeof instance->config.name, "%s", name);
    pthread_mutex_init(&instance->lock, NULL);
    while (*place != NULL)
        place = &(*place)->next;
    *place = instance;
    return instance;
}

static enum weir_error define(struct plugins *plugins, const struct plugin_config *config)
{
    struct plugin_config copy;
    enum weir_error error = plugin_config_copy(&copy, config);
    if (error)
        return error;
    struct plugin_instance *instance = instance_find(plugins, config->name);
    if (instance == NULL)
        instance = instance_create(plugins, config->name);
    if (instance == NULL) {
        plugin_config_fini(&copy);
        return WEIR_NO_MEMORY;
    }
    pthread_mutex_lock(&instance->lock);
    plugin_config_fini(&instance->config);
    instance->config = copy;
    pthread_mutex_unlock(&instance->lock);
    instance->is_defined = true;
    return WEIR_OK;
}

enum weir_error plugins_config_set(struct plugins *plugins, const struct plugin_config *configs, size_t count)
{
    enum weir_error error = WEIR_OK;
    MAGIC_CHECK(plugins, PLUGINS_MAGIC);
    pthread_mutex_lock(&plugins->lock);
    for (struct plugin_instance *instance = plugins->first; instance != NULL; instance = instance->next)
        instance->is_defined = false;
    for (size_t i = 0; i < count && !error; i++)
        error = define(plugins, &configs[i]);
    pthread_mutex_unlock(&plugins->lock);
    return error;
}

/* Starts the instance's own supervisor, which starts the actor. */
static enum weir_error instance_start(struct plugins *plugins, struct plugin_instance *instance)
{
    const struct plugin_config *config = &instance->config;
    char actor_name[64], supervisor_name[64];
    (void)snprintf(actor_name, sizeof actor_name, "plugin %s", config->name);
    (void)snprintf(supervisor_name, sizeof supervisor_name, "plugins/%s", config->name);
    struct child_spec child = {.name = actor_name,
                               .behaviour = &plugin_behaviour,
                               .args = &instance,
                               .args_size = sizeof instance,
                               .options = {.mailbox_max = config->mailbox_max, .label = actor_name},
                               .restart = config->restart,
                               .shutdown_ms = PLUGIN_SHUTDOWN_MS,
                               .hears_its_end = true};
    struct supervisor_config supervisor = {.name = supervisor_name,
                                           .strategy = SUPERVISOR_ONE_FOR_ONE,
                                           .intensity = config->intensity,
                                           .period_ms = config->period_ms,
                                           .is_intensity_per_child = true,
                                           .backoff_min_ms = PLUGIN_BACKOFF_MIN_MS,
                                           .backoff_max_ms = PLUGIN_BACKOFF_MAX_MS,
                                           .backoff_jitter_percent = 20,
                                           .backoff_quiet_ms = PLUGIN_BACKOFF_QUIET_MS,
                                           .children = &child,
                                           .child_count = 1};
    struct child_spec spec = {.name = supervisor_name, .restart = RESTART_PERMANENT, .supervisor = &supervisor};
    return supervisor_child_start(plugins->options.supervision, plugins->options.supervisor, &spec, WEIR_ACTOR_NONE, 0,
                                  &instance->supervisor);
}

static bool is_there(const struct plugins *plugins, weir_actor actor)
{
    struct actor_status status;
    return !actor_is_none(actor) && actor_status(plugins->options.runtime, actor, &status) == WEIR_OK;
}

static enum weir_error load(struct plugins *plugins, struct plugin_instance *instance)
{
    char actor_name[64];
    /* What was unloaded ends in its own time, and its child may even have to begin first. */
    if (is_there(plugins, instance->unloaded))
        return WEIR_BUSY;
    bool is_up = is_there(plugins, instance->supervisor);
    pthread_mutex_lock(&instance->lock);
    bool has_actor = !actor_is_none(instance->actor);
    pthread_mutex_unlock(&instance->lock);
    if (is_up && has_actor)
        return WEIR_EXISTS;
    if (!is_up)
        return instance_start(plugins, instance);
    /* It was given up; its supervisor is still there. */
    (void)snprintf(actor_name, sizeof actor_name, "plugin %s", instance->config.name);
    return supervisor_restart_named(plugins->options.supervision, actor_name);
}

enum weir_error plugins_load_all(struct plugins *plugins)
{
    enum weir_error error = WEIR_OK;
    pthread_mutex_lock(&plugins->lock);
    for (struct plugin_instance *instance = plugins->first; instance != NULL && !error; instance = instance->next)
        if (instance->is_defined)
            error = load(plugins, instance);
    pthread_mutex_unlock(&plugins->lock);
    return error;
}

bool plugins_await(struct plugins *plugins, uint64_t timeout_ms)
{
    uint64_t deadline_ns = clock_now_ns() + timeout_ms * NS_PER_MS;
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / NS_PER_S), .tv_nsec = (long)(deadline_ns % NS_PER_S)};
    bool is_late = false;
    pthread_mutex_lock(&plugins->lock);
    for (struct plugin_instance *instance = plugins->first; instance != NULL && !is_late; instance = instance->next) {
        pthread_mutex_lock(&instance->lock);
        while (instance->is_defined && !instance->has_begun && !is_late)
            is_late = pthread_cond_timedwait(&instance->begun, &instance->lock, &deadline) == ETIMEDOUT;
        pthread_mutex_unlock(&instance->lock);
    }
    pthread_mutex_unlock(&plugins->lock);
    return !is_late;
}

/* Whom to tell, before the start of which to tell may be over. Returns who was to be told so far. */
static weir_actor teller_swap(struct plugin_instance *instance, weir_actor from, uint64_t *word)
{
    pthread_mutex_lock(&instance->lock);
    weir_actor before = instance->load_from;
    uint64_t before_word = instance->load_word;
    instance->load_from = from;
    instance->load_word = *word;
    pthread_mutex_unlock(&instance->lock);
    *word = before_word;
    return before;
}

enum weir_error plugins_load(struct plugins *plugins, const char *name, weir_actor from, uint64_t word)
{
    enum weir_error error = WEIR_NOT_FOUND;
    pthread_mutex_lock(&plugins->lock);
    struct plugin_instance *instance = instance_find(plugins, name);
    if (instance != NULL && instance->is_defined) {
        weir_actor before = teller_swap(instance, from, &word);
        error = load(plugins, instance);
        if (error)
            (void)teller_swap(instance, before, &word);
    }
    pthread_mutex_unlock(&plugins->lock);
    return error;
}

enum weir_error plugins_unload(struct plugins *plugins, const char *name)
{
    enum weir_error error = WEIR_NOT_FOUND;
    pthread_mutex_lock(&plugins->lock);
    struct plugin_instance *instance = instance_find(plugins, name);
    if (instance != NULL && !actor_is_none(instance->supervisor)) {
        error = supervisor_child_stop(plugins->options.supervision, instance->supervisor);
        instance->unloaded = instance->supervisor;
        instance->supervisor = WEIR_ACTOR_NONE;
    }
    pthread_mutex_unlock(&plugins->lock);
    return error;
}

enum weir_error plugins_find(struct plugins *plugins, const char *name, weir_actor *out)
{
    *out = WEIR_ACTOR_NONE;
    pthread_mutex_lock(&plugins->lock);
    struct plugin_instance *instance = instance_find(plugins, name);
    if (instance != NULL) {
        pthread_mutex_lock(&instance->lock);
        *out = instance->actor;
        pthread_mutex_unlock(&instance->lock);
    }
    pthread_mutex_unlock(&plugins->lock);
    return actor_is_none(*out) ? WEIR_NOT_FOUND : WEIR_OK;
}

void plugins_each(struct plugins *plugins, bool (*each)(const struct plugin_status *status, void *context),
                  void *context)
{
    bool goes_on = true;
    pthread_mutex_lock(&plugins->lock);
    for (struct plugin_instance *instance = plugins->first; instance != NULL && goes_on; instance = instance->next) {
        pthread_mutex_lock(&instance->lock);
        struct plugin_status status = instance->status;
        memcpy(status.name, instance->config.name, sizeof status.name);
        memcpy(status.file, instance->config.file, sizeof status.file);
        status.role = instance->config.role == WEIR_ACTOR_FOLD ? "fold" : "processor";
        status.host = instance->config.host != NULL ? instance->config.host->name : "";
        pthread_mutex_unlock(&instance->lock);
        goes_on = each(&status, context);
    }
    pthread_mutex_unlock(&plugins->lock);
}
