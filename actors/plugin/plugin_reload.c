/* New code for old: the new instance is started beside the old one; when it is there, the old one ends what it has in
 * hand and tells its state, the new one gets that, and the inputs that waited go to it. Whatever fails on the way
 * leaves the old one as it was. In the plugin's turns. */
#include "actors/plugin/plugin_state.h"

#include "actors/base/clock.h"
#include "actors/base/log.h"

#include <stdio.h>
#include <stdlib.h>

static void answer(struct turn *turn, struct plugin *plugin, weir_actor to, uint64_t word, enum weir_error error,
                   const char *why)
{
    order_answer(turn, plugin, to, &(struct message){.tag = PLUGIN_RELOADED, .word = {error, word}}, why);
}

static void config_free(struct plugin_config **pointer)
{
    if (*pointer != NULL)
        plugin_config_fini(*pointer);
    free(*pointer);
    *pointer = NULL;
}

static void reload_end(struct plugin *plugin)
{
    config_free(&plugin->next_config);
    brought_clear(plugin, &plugin->next_brought);
    plugin->reload = RELOAD_NONE;
}

void reload_abort(struct turn *turn, struct plugin *plugin, enum weir_error error, const char *why)
{
    char quoted[2 * PLUGIN_TEXT_SIZE];
    if (plugin->reload == RELOAD_NONE)
        return;
    log_error("plugin.reload", "plugin=%s outcome=failed text=%s", plugin->config->name,
              log_quote(quoted, sizeof quoted, why, strlen(why)));
    if (plugin->next_host != NULL)
        plugin->next_config->host->stop(&plugin->next_host);
    answer(turn, plugin, plugin->reload_from, plugin->reload_word, error, why);
    reload_end(plugin);
}

/* The definition of now, if it can take the place of the present one. */
static enum weir_error config_take(struct plugin *plugin, struct plugin_config **out, char *why, size_t why_size)
{
    struct plugin_config *config = calloc(1, sizeof *config);
    enum weir_error error = config == NULL ? WEIR_NO_MEMORY : WEIR_OK;
    if (!error) {
        pthread_mutex_lock(&plugin->instance->lock);
        error = plugin_config_copy(config, &plugin->instance->config);
        pthread_mutex_unlock(&plugin->instance->lock);
    }
    if (error) {
        free(config);
        (void)snprintf(why, why_size, "%s", weir_error_text(error));
        return error;
    }
    runner_bounds_fill(&config->bounds);
    bool is_same = config->role == plugin->config->role && config->pattern_count == plugin->config->pattern_count &&
                   memcmp(config->patterns, plugin->config->patterns, sizeof config->patterns) == 0;
    if (!is_same) {
        (void)snprintf(why, why_size, "its role or patterns have changed: unload it and load it");
        config_free(&config);
        return WEIR_BAD_REQUEST;
    }
    *out = config;
    return WEIR_OK;
}

/* Nothing runs well now: the next start is one of the new code. */
static void reload_at_start(struct turn *turn, struct plugin *plugin)
{
    config_free(&plugin->config);
    plugin->config = plugin->next_config;
    plugin->next_config = NULL;
    plugin->ops->stop(&plugin->host);
    plugin->ops = plugin->config->host;
    inflight_clear(plugin);
    snapshot_drop(plugin);
    plugin->replay_left = 0;
    plugin->phase = PHASE_DOWN;
    brought_clear(plugin, &plugin->brought);
    plugin_timers_forget(turn, plugin);
    log_info("plugin.reload", "plugin=%s outcome=restarted", plugin->config->name);
}

void reload_order(struct turn *turn, struct plugin *plugin, const struct message *message)
{
    char why[PLUGIN_TEXT_SIZE] = "it is being reloaded already";
    enum weir_error error = plugin->reload == RELOAD_NONE ? WEIR_OK : WEIR_BUSY;
    if (plugin->is_ending) {
        answer(turn, plugin, message->from, message->word[0], WEIR_CLOSED, "it is being unloaded");
        return;
    }
    if (!error)
        error = config_take(plugin, &plugin->next_config, why, sizeof why);
    if (!error && (plugin->phase != PHASE_RUNNING || plugin->replay_left > 0)) {
        if (plugin->host != NULL && plugin->brought.is_committing) {
            error = WEIR_BUSY;
            (void)snprintf(why, sizeof why, "it is being restarted");
            config_free(&plugin->next_config);
        } else {
            reload_at_start(turn, plugin);
            answer(turn, plugin, message->from, message->word[0], WEIR_OK, "");
            return;
        }
    }
    if (!error) {
        error = plugin_host_begin(turn, plugin, plugin->next_config, &plugin->next_host, why, sizeof why);
        if (error)
            config_free(&plugin->next_config);
    }
    if (error) {
        answer(turn, plugin, message->from, message->word[0], error, why);
        return;
    }
    plugin->reload = RELOAD_STARTING;
    plugin->reload_from = message->from;
    plugin->reload_word = message->word[0];
}

static void reload_swap(struct turn *turn, struct plugin *plugin, uint64_t host_number)
{
    plugin->ops->stop(&plugin->host);
    config_free(&plugin->config);
    plugin->config = plugin->next_config;
    plugin->next_config = NULL;
    plugin->ops = plugin->config->host;
    plugin->host = plugin->next_host;
    plugin->next_host = NULL;
    plugin->host_number = host_number;
    plugin->has_snapshot = plugin->next_has_snapshot;
    plugin->phase = PHASE_RUNNING;
    plugin_timers_forget(turn, plugin);
    brought_timers_apply(turn, plugin, &plugin->next_brought, false);
    pthread_mutex_lock(&plugin->instance->lock);
    memcpy(plugin->instance->status.plugin, plugin->next_text, sizeof plugin->next_text);
    pthread_mutex_unlock(&plugin->instance->lock);
    log_info("plugin.reload", "plugin=%s outcome=done code=\"%s\"", plugin->config->name, plugin->next_text);
    answer(turn, plugin, plugin->reload_from, plugin->reload_word, WEIR_OK, "");
    reload_end(plugin);
}

/* Outputs of the new instance until the end of that input. WEIR_AGAIN: not yet. */
static enum weir_error next_take(struct plugin *plugin, uint64_t number, char why[PLUGIN_TEXT_SIZE])
{
    for (;;) {
        struct plugin_output output;
        struct plugin_end end = {.cause = WEIR_FAILED};
        enum weir_error error = plugin->next_config->host->take(plugin->next_host, &output, &end);
        if (error == WEIR_AGAIN)
            return error;
        if (error) {
            (void)snprintf(why, PLUGIN_TEXT_SIZE, "%s", end.text);
            return WEIR_FAILED;
        }
        if (output.kind == OUTPUT_LOG) {
            plugin_log(plugin, &output);
        } else if (output.kind == OUTPUT_TIMER || output.kind == OUTPUT_TIMER_CANCEL) {
            error = brought_add(plugin, &plugin->next_brought, &output, why, PLUGIN_TEXT_SIZE);
        } else if (output.kind == OUTPUT_DONE && output.number == number) {
            (void)snprintf(why, PLUGIN_TEXT_SIZE, "%.*s", (int)output.text.size, (const char *)output.text.data);
            plugin->next_has_snapshot = number == 0 ? output.has_snapshot : plugin->next_has_snapshot;
            return output.result == WEIR_ACTOR_OK ? WEIR_OK : WEIR_FAILED;
        } else {
            (void)snprintf(why, PLUGIN_TEXT_SIZE, "the new instance answers what it was not asked");
            return WEIR_PROTOCOL;
        }
        if (error)
            return error;
    }
}

static void step_starting(struct turn *turn, struct plugin *plugin)
{
    char why[PLUGIN_TEXT_SIZE];
    enum weir_error error = next_take(plugin, 0, why);
    if (error == WEIR_AGAIN)
        return;
    if (error) {
        reload_abort(turn, plugin, error, why);
        return;
    }
    memcpy(plugin->next_text, why, sizeof why);
    plugin->reload = RELOAD_DRAINING;
    weir_timer timer;
    plugin->reload_due_ns = turn_now_ns(turn) + PLUGIN_RELOAD_MS * NS_PER_MS;
    if (plugin->inflight_count > 0 && timer_start(turn_runtime(turn), turn_self(turn), PLUGIN_RELOAD_MS * NS_PER_MS, 0,
                                                  PLUGIN_TIMER_RELOAD, &timer) != WEIR_OK)
        reload_abort(turn, plugin, WEIR_NO_MEMORY, "no memory to wait for the running instance");
}

/* One of an earlier reload may come amid a later one. */
void reload_on_timer(struct turn *turn, struct plugin *plugin)
{
    if (plugin->reload != RELOAD_DRAINING || turn_now_ns(turn) < plugin->reload_due_ns)
        return;
    reload_abort(
        turn, plugin, WEIR_BUSY,
        plugin->brought.is_committing
            ? "topics that it emits to take no more at present (weir admin why TOPIC says why): try again later"
            : "the running instance does not end what it has: try again later");
}

static enum weir_error step_draining(struct turn *turn, struct plugin *plugin)
{
    if (plugin->inflight_count > 0)
        return WEIR_OK;
    if (!plugin->has_snapshot || !plugin->next_has_snapshot) {
        if (plugin->has_state)
            replay_state_lost(turn, plugin);
        reload_swap(turn, plugin, 0);
        return WEIR_OK;
    }
    enum weir_error error = give_state(plugin, INPUT_SNAPSHOT, view_of(NULL, 0));
    if (error == WEIR_OK)
        plugin->reload = RELOAD_SNAPSHOT;
    /* Else: not now, or its end will be taken. */
    plugin_pump_send(turn, plugin);
    return WEIR_OK;
}

static void step_snapshot(struct turn *turn, struct plugin *plugin)
{
    struct plugin_input input = {.kind = INPUT_RESTORE, .number = 1};
    if (plugin->is_snapshot_asked)
        return;
    input.bytes = view_of(arena_data(plugin->arena, plugin->snapshot), plugin->snapshot_size);
    enum weir_error error = plugin->next_config->host->give(plugin->next_host, &input);
    if (error == WEIR_FULL)
        return;
    if (error) {
        reload_abort(turn, plugin, error, "the new instance does not take the state");
        return;
    }
    plugin->next_config->host->flush(plugin->next_host);
    plugin->reload = RELOAD_RESTORING;
}

static void step_restoring(struct turn *turn, struct plugin *plugin)
{
    char why[PLUGIN_TEXT_SIZE];
    enum weir_error error = next_take(plugin, 1, why);
    if (error == WEIR_OK)
        reload_swap(turn, plugin, 1);
    else if (error != WEIR_AGAIN)
        reload_abort(turn, plugin, error, why);
}

enum weir_error reload_step(struct turn *turn, struct plugin *plugin)
{
    if (plugin->reload == RELOAD_STARTING)
        step_starting(turn, plugin);
    if (plugin->reload == RELOAD_DRAINING)
        return step_draining(turn, plugin);
    if (plugin->reload == RELOAD_SNAPSHOT)
        step_snapshot(turn, plugin);
    if (plugin->reload == RELOAD_RESTORING)
        step_restoring(turn, plugin);
    return WEIR_OK;
}
