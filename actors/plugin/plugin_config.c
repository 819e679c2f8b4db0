/* Plugins' configuration: defaults, copies, and what must fit together. Any thread. */
#include "actors/plugin/plugin.h"

#include "clients/wire/name.h"

#include <stdio.h>
#include <stdlib.h>

void plugin_config_init(struct plugin_config *config)
{
    *config = (struct plugin_config){.host = &plugin_host_process,
                                     .restart = RESTART_PERMANENT,
                                     .intensity = PLUGIN_INTENSITY_DEFAULT,
                                     .period_ms = PLUGIN_PERIOD_MS_DEFAULT,
                                     .time_ms_max = PLUGIN_TIME_MS_DEFAULT,
                                     .start_ms_max = PLUGIN_START_MS_DEFAULT,
                                     .ring_bytes = PLUGIN_RING_BYTES_DEFAULT};
    runner_bounds_fill(&config->bounds);
}

void plugin_config_fini(struct plugin_config *config)
{
    free(config->value);
    config->value = NULL;
    config->value_size = 0;
}

enum weir_error plugin_config_copy(struct plugin_config *out, const struct plugin_config *config)
{
    uint8_t *value = NULL;
    if (config->value_size > 0) {
        value = malloc(config->value_size);
        if (value == NULL)
            return WEIR_NO_MEMORY;
        memcpy(value, config->value, config->value_size);
    }
    *out = *config;
    out->value = value;
    return WEIR_OK;
}

/* Takes the first segment off *rest. */
static struct view segment_take(struct view *rest)
{
    const uint8_t *slash = rest->size > 0 ? memchr(rest->data, '/', rest->size) : NULL;
    struct view segment = view_of(rest->data, slash != NULL ? (size_t)(slash - rest->data) : rest->size);
    size_t used = segment.size + (slash != NULL);
    *rest = slash != NULL ? view_of(rest->data + used, rest->size - used) : view_of(NULL, 0);
    return segment;
}

static bool is_wild(struct view segment, uint8_t wildcard) { return segment.size == 1 && segment.data[0] == wildcard; }

bool patterns_overlap(struct view a, struct view b)
{
    for (;;) {
        bool has_a = a.data != NULL, has_b = b.data != NULL;
        struct view left = segment_take(&a), right = segment_take(&b);
        if ((has_a && is_wild(left, '#')) || (has_b && is_wild(right, '#')))
            return true;
        if (!has_a || !has_b)
            return has_a == has_b;
        if (!is_wild(left, '+') && !is_wild(right, '+') && !view_is_same(left, right))
            return false;
    }
}

static enum weir_error pattern_fault(const char *what, const char *pattern, char *why, size_t why_size)
{
    const char *reason = "";
    if (pattern_check(view_text(pattern), &reason) != WEIR_OK) {
        (void)snprintf(why, why_size, "%s '%s': %s", what, pattern, reason);
        return WEIR_BAD_REQUEST;
    }
    if (name_is_reserved(view_text(pattern)) && strcmp(what, "emit") == 0) {
        (void)snprintf(why, why_size, "emit '%s': topics that start with '$' are the broker's", pattern);
        return WEIR_BAD_REQUEST;
    }
    return WEIR_OK;
}

static enum weir_error follow_check(const struct plugin_config *config, char *why, size_t why_size)
{
    for (size_t i = 0; i < config->pattern_count; i++) {
        enum weir_error error = pattern_fault("patterns", config->patterns[i], why, why_size);
        if (error)
            return error;
        struct view pattern = view_text(config->patterns[i]);
        for (size_t k = 0; k < i; k++) {
            if (!patterns_overlap(pattern, view_text(config->patterns[k])))
                continue;
            (void)snprintf(why, why_size, "patterns '%s' and '%s' overlap: a topic that matches both would come twice",
                           config->patterns[k], config->patterns[i]);
            return WEIR_BAD_REQUEST;
        }
        for (size_t k = 0; k < config->emit_count; k++) {
            if (!patterns_overlap(pattern, view_text(config->emit[k])))
                continue;
            (void)snprintf(why, why_size,
                           "it follows '%s' and may emit to '%s': what it emits could come back to it without end",
                           config->patterns[i], config->emit[k]);
            return WEIR_BAD_REQUEST;
        }
    }
    return WEIR_OK;
}

enum weir_error plugin_config_check(const struct plugin_config *config, char *why, size_t why_size)
{
    if (!plugin_name_is_valid(view_text(config->name))) {
        (void)snprintf(why, why_size, "'%s' is no name: 1 to %d of a-z, 0-9, '_' and '-'", config->name,
                       PLUGIN_NAME_MAX);
        return WEIR_BAD_REQUEST;
    }
    if (config->file[0] != '/') {
        (void)snprintf(why, why_size, "file '%s' must be an absolute path", config->file);
        return WEIR_BAD_REQUEST;
    }
    bool is_fold = config->role == WEIR_ACTOR_FOLD;
    if (is_fold && config->pattern_count + config->emit_count > 0) {
        (void)snprintf(why, why_size, "a fold has neither patterns nor emit: topics have it by their kind, plugin:%s",
                       config->name);
        return WEIR_BAD_REQUEST;
    }
    if (!is_fold && config->pattern_count == 0) {
        (void)snprintf(why, why_size, "a processor needs patterns of the topics that it follows");
        return WEIR_BAD_REQUEST;
    }
    for (size_t i = 0; i < config->emit_count; i++) {
        enum weir_error error = pattern_fault("emit", config->emit[i], why, why_size);
        if (error)
            return error;
    }
    return follow_check(config, why, why_size);
}
