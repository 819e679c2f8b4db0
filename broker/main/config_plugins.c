/* Plugins in the configuration; see the header. */
#include "broker/main/config_plugins.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/main/config_place.h"
#include "broker/main/config_schema.h"

static bool refuse(const struct loading *loading, size_t index, const char *key, const char *why)
{
    char place[64];
    snprintf(place, sizeof place, "plugins.%zu%s%s", index, *key != '\0' ? "." : "", key);
    snprintf(loading->error, CONFIG_ERROR_SIZE, "%s:%zu: %s: %.*s", loading->path,
             config_place_find(loading->path, place, 0), place, CONFIG_ERROR_SIZE / 2, why);
    return false;
}

#define TAKE(key, initial, min, max, live) &&config_number_take(loading, section, #key, raw->key, min, max, &to->key)

static bool numbers_take(const struct loading *loading, const char *section, const struct raw_plugin *raw,
                         struct config_plugin *to)
{
    return true CONFIG_PLUGIN_TABLE(TAKE);
}

static void numbers_set(struct plugin_config *plugin, const struct config_plugin *numbers)
{
    plugin->intensity = (uint32_t)numbers->intensity;
    plugin->period_ms = (uint32_t)numbers->period_ms;
    plugin->time_ms_max = (uint32_t)numbers->time_ms_max;
    plugin->start_ms_max = (uint32_t)numbers->start_ms_max;
    plugin->mailbox_max = (uint32_t)numbers->mailbox_max;
    plugin->ring_bytes = (uint32_t)numbers->ring_bytes;
    plugin->emit_bytes_per_s = numbers->emit_bytes_per_s;
    plugin->bounds.memory_bytes_max = numbers->memory_bytes_max;
    plugin->bounds.emits_max = (uint32_t)numbers->emits_max;
    plugin->bounds.emit_bytes_max = (uint32_t)numbers->emit_bytes_max;
    plugin->bounds.value_bytes_max = (uint32_t)numbers->value_bytes_max;
    plugin->bounds.snapshot_bytes_max = (uint32_t)numbers->snapshot_bytes_max;
}

static void texts_copy(char *out, size_t size, char *const *texts, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        snprintf(out + i * size, size, "%s", texts[i]);
}

/* Early, and at the place in the file; what opens it checks it again. */
static bool file_take(const struct loading *loading, size_t index, const struct plugin_config *plugin)
{
    struct stat found;
    char why[PLUGIN_PATH_MAX + 128];
    if (stat(plugin->file, &found) != 0)
        snprintf(why, sizeof why, "'%s' is not there, or cannot be read", plugin->file);
    else if (!S_ISREG(found.st_mode))
        snprintf(why, sizeof why, "'%s' is no file", plugin->file);
    else if ((found.st_uid != 0 && found.st_uid != geteuid()) || (found.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        snprintf(why, sizeof why, "'%s' can be written by others: chown it to root or this user, chmod go-w",
                 plugin->file);
    else
        return true;
    return refuse(loading, index, "file", why);
}

static bool plugin_take(const struct loading *loading, size_t index, const struct raw_plugin *raw,
                        struct plugin_config *plugin)
{
    char section[64], why[CONFIG_ERROR_SIZE] = "";
    struct config_plugin numbers;
    size_t line = 0;
#define INIT(key, initial, min, max, live) numbers.key = initial;
    CONFIG_PLUGIN_TABLE(INIT)
    plugin_config_init(plugin);
    snprintf(section, sizeof section, "plugins.%zu", index);
    if (!numbers_take(loading, section, raw, &numbers))
        return false;
    numbers_set(plugin, &numbers);
    snprintf(plugin->name, sizeof plugin->name, "%s", raw->name);
    snprintf(plugin->file, sizeof plugin->file, "%s", raw->file);
    plugin->role = raw->role;
    plugin->host = raw->host != NULL && *raw->host == CONFIG_HOST_THREAD ? &plugin_host_thread : &plugin_host_process;
    plugin->restart = raw->restart != NULL ? *raw->restart : plugin->restart;
    plugin->pattern_count = raw->patterns_count;
    plugin->emit_count = raw->emit_count;
    plugin->grant_count = raw->grants_count;
    texts_copy(plugin->patterns[0], sizeof plugin->patterns[0], raw->patterns, raw->patterns_count);
    texts_copy(plugin->emit[0], sizeof plugin->emit[0], raw->emit, raw->emit_count);
    texts_copy(plugin->grants[0], sizeof plugin->grants[0], raw->grants, raw->grants_count);
    if (plugin_config_check(plugin, why, sizeof why) != WEIR_OK)
        return refuse(loading, index, "", why);
    if (!file_take(loading, index, plugin))
        return false;
    if (config_value_read(loading->path, index, &plugin->value, &plugin->value_size, &line, why) == WEIR_OK)
        return true;
    snprintf(loading->error, CONFIG_ERROR_SIZE, "%s:%zu: plugins.%zu.config: %.*s", loading->path, line, index,
             CONFIG_ERROR_SIZE / 2, why);
    return false;
}

bool config_plugins_take(const struct loading *loading, const struct raw_config *raw, struct config *config)
{
    if (raw->plugins_count == 0)
        return true;
    config->plugins = calloc(raw->plugins_count, sizeof *config->plugins);
    if (config->plugins == NULL)
        return config_no_memory(loading);
    for (unsigned i = 0; i < raw->plugins_count; i++) {
        struct plugin_config *plugin = &config->plugins[config->plugin_count++];
        if (!plugin_take(loading, i, &raw->plugins[i], plugin))
            return false;
        plugin->bounds.depth_max = (uint32_t)config->connections.depth_max; /* as of whoever else publishes */
        for (unsigned k = 0; k < i; k++)
            if (strcmp(config->plugins[k].name, plugin->name) == 0)
                return refuse(loading, i, "name", "there is a plugin of that name above");
    }
    return true;
}

static enum weir_error kind_check(const struct config *config, enum topic_kind kind, const char *pattern, char *error)
{
    if (!topic_kind_is_plugin(kind))
        return WEIR_OK;
    for (size_t i = 0; i < config->plugin_count; i++) {
        if (strcmp(config->plugins[i].name, topic_kind_plugin(kind)) != 0)
            continue;
        if (config->plugins[i].role == WEIR_ACTOR_FOLD)
            return WEIR_OK;
        snprintf(error, CONFIG_ERROR_SIZE,
                 "topics '%s' are of kind plugin:%s, but that plugin is a processor: only a fold can "
                 "be a kind",
                 pattern, topic_kind_plugin(kind));
        return WEIR_BAD_REQUEST;
    }
    snprintf(error, CONFIG_ERROR_SIZE, "topics '%s' are of kind plugin:%s, but no plugin '%s' is configured", pattern,
             topic_kind_plugin(kind), topic_kind_plugin(kind));
    return WEIR_BAD_REQUEST;
}

enum weir_error config_plugins_check(const struct config *config, char error[CONFIG_ERROR_SIZE])
{
    enum weir_error result = kind_check(config, config->fallback.kind, "#", error);
    for (size_t i = 0; i < config->rule_count && result == WEIR_OK; i++)
        result = kind_check(config, config->rules[i].rule.kind, config->rules[i].pattern, error);
    return result;
}
