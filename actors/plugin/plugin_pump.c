/* Inputs to the host, outputs from it. In the plugin's turns. */
#include "actors/plugin/plugin_state.h"

#include "actors/base/clock.h"
#include "actors/base/log.h"

#include <stdio.h>

/* Outputs looked at in one turn; more than TURN_INPUTS inputs bring about as a rule. */
#define TURN_OUTPUTS (16 * PLUGIN_TURN_INPUTS)

static struct inflight *inflight_front(struct plugin *plugin) { return &plugin->inflight[plugin->inflight_first]; }

void inflight_add(struct plugin *plugin, enum plugin_input_kind kind, uint64_t position)
{
    uint32_t index = (plugin->inflight_first + plugin->inflight_count++) & (PLUGIN_INFLIGHT_MAX - 1);
    plugin->inflight[index] = (struct inflight){plugin->host_number, position, kind};
}

void inflight_pop(struct plugin *plugin)
{
    plugin->inflight_first = (plugin->inflight_first + 1) & (PLUGIN_INFLIGHT_MAX - 1);
    plugin->inflight_count--;
    plugin->is_alone = false;
}

void plugin_log(const struct plugin *plugin, const struct plugin_output *output)
{
    static const enum log_level levels[] = {LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR};
    char quoted[2 * PLUGIN_TEXT_SIZE];
    if (output->level < COUNT_OF(levels))
        log_write(levels[output->level], "plugin.log", "plugin=%s text=%s", plugin->config->name,
                  log_quote(quoted, sizeof quoted, (const char *)output->text.data, output->text.size));
}

/* ---------------------------------------------------------------------------------------------- outputs */

static enum weir_error on_started(struct turn *turn, struct plugin *plugin, const struct plugin_output *output)
{
    char text[PLUGIN_TEXT_SIZE];
    (void)snprintf(text, sizeof text, "%.*s", (int)output->text.size, (const char *)output->text.data);
    if (output->result != WEIR_ACTOR_OK)
        return plugin_failed(turn, plugin, WEIR_FAILED, text);
    plugin->has_snapshot = output->has_snapshot;
    pthread_mutex_lock(&plugin->instance->lock);
    memcpy(plugin->instance->status.plugin, text, sizeof text);
    pthread_mutex_unlock(&plugin->instance->lock);
    log_info("plugin.started", "plugin=%s host=%s code=\"%s\"", plugin->config->name, plugin->ops->name, text);
    brought_timers_apply(turn, plugin, &plugin->brought, true);
    replay_begin(turn, plugin);
    return WEIR_OK;
}

/* The input in hand is over, and everything of it is sent. */
static void input_over(struct turn *turn, struct plugin *plugin, struct kept *kept)
{
    inflight_pop(plugin);
    if (kept->is_replayed) {
        kept->is_replayed = false;
        kept->replays = 0;
        plugin->replay_left--;
        replay_check(turn, plugin);
    } else {
        kept_settle(turn, plugin, kept);
    }
    kept_release(plugin);
}

void commit_continue(struct turn *turn, struct plugin *plugin)
{
    struct kept *kept = kept_at(plugin, inflight_front(plugin)->position);
    bool is_clear = kept->kind == WEIR_MESSAGE_RESET && plugin->config->role == WEIR_ACTOR_FOLD;
    if (is_clear && !kept->is_replayed && !kept->is_cleared && !emit_clear(turn, plugin, kept))
        return;
    if (brought_commit(turn, plugin, kept) != WEIR_OK)
        return;
    if (!kept->is_replayed) {
        if (kept->is_owed && kept->kind == WEIR_MESSAGE_RECORD)
            kept->sent_before = place_at(plugin, kept->place)->sent_last;
        /* While it was being sent it counted as one more, or an early acknowledgement would have answered for all. */
        if (--kept->pending == 0)
            kept_answer(turn, plugin, kept);
    }
    input_over(turn, plugin, kept);
}

static enum weir_error on_message_done(struct turn *turn, struct plugin *plugin, const struct plugin_output *output)
{
    struct kept *kept = kept_at(plugin, inflight_front(plugin)->position);
    /* Not when it is given: what is handled before it may set that very timer. */
    if (kept->is_replayed && kept->kind == WEIR_MESSAGE_TIMER)
        plugin_timers_replay(plugin, kept->as.timer, kept->time_ms);
    if (output->result == WEIR_ACTOR_OK) {
        if (!kept->is_replayed) {
            kept->state = KEPT_DONE;
            kept->pending++;
            plugin->handled++;
            plugin->has_state = true;
        }
        plugin->brought.is_committing = true;
        commit_continue(turn, plugin);
        return WEIR_OK;
    }
    brought_clear(plugin, &plugin->brought);
    if (!kept->is_replayed) {
        kept->state = KEPT_REFUSED;
        plugin->refused++;
        log_debug("plugin.refused", "plugin=%s", plugin->config->name);
        kept_refuse(turn, plugin, kept, WEIR_BAD_REQUEST, output->text);
    }
    input_over(turn, plugin, kept);
    return WEIR_OK;
}

static enum weir_error on_done(struct turn *turn, struct plugin *plugin, const struct plugin_output *output)
{
    struct inflight front = *inflight_front(plugin);
    char text[PLUGIN_TEXT_SIZE];
    if (output->result == WEIR_ACTOR_FAILED || (output->result != WEIR_ACTOR_OK && front.kind != INPUT_MESSAGE)) {
        (void)snprintf(text, sizeof text, "%.*s", (int)output->text.size, (const char *)output->text.data);
        return plugin_failed(turn, plugin, WEIR_FAILED, text);
    }
    switch (front.kind) {
    case INPUT_MESSAGE: return on_message_done(turn, plugin, output);
    case INPUT_SNAPSHOT:
        if (msg_is_none(plugin->snapshot_new))
            return plugin_failed(turn, plugin, WEIR_PROTOCOL, "the end of a snapshot, and no snapshot");
        inflight_pop(plugin);
        snapshot_done(plugin, front.position);
        return WEIR_OK;
    default:
        inflight_pop(plugin);
        plugin->restore_failures = 0;
        brought_timers_apply(turn, plugin, &plugin->brought, true);
        replay_start(turn, plugin);
        return WEIR_OK;
    }
}

/* A child may say anything: whatever does not belong to the input in hand is a failure. */
static bool is_expected(struct plugin *plugin, const struct plugin_output *output)
{
    bool is_timer = output->kind == OUTPUT_TIMER || output->kind == OUTPUT_TIMER_CANCEL;
    if (output->kind == OUTPUT_LOG)
        return true;
    if (plugin->phase == PHASE_STARTING)
        return output->number == 0 && (is_timer || output->kind == OUTPUT_DONE);
    if (plugin->inflight_count == 0 || inflight_front(plugin)->number != output->number)
        return false;
    switch (inflight_front(plugin)->kind) {
    case INPUT_MESSAGE: return output->kind != OUTPUT_SNAPSHOT;
    case INPUT_SNAPSHOT: return output->kind == OUTPUT_SNAPSHOT || output->kind == OUTPUT_DONE;
    default: return is_timer || output->kind == OUTPUT_DONE;
    }
}

static enum weir_error output_handle(struct turn *turn, struct plugin *plugin, struct plugin_output *output)
{
    char why[PLUGIN_TEXT_SIZE];
    enum weir_error error = WEIR_OK;
    if (!is_expected(plugin, output)) {
        (void)snprintf(why, sizeof why, "an output of kind %d for input %llu, which is not in hand", (int)output->kind,
                       (unsigned long long)output->number);
        return plugin_failed(turn, plugin, WEIR_PROTOCOL, why);
    }
    switch (output->kind) {
    case OUTPUT_LOG:
        if (plugin->replay_left == 0)
            plugin_log(plugin, output);
        return WEIR_OK;
    case OUTPUT_DONE:
        return plugin->phase == PHASE_STARTING ? on_started(turn, plugin, output) : on_done(turn, plugin, output);
    case OUTPUT_SNAPSHOT:
        error = snapshot_keep(plugin, output->value);
        (void)snprintf(why, sizeof why, "no memory for a snapshot of %zu bytes", output->value.size);
        break;
    default: error = brought_add(plugin, &plugin->brought, output, why, sizeof why); break;
    }
    if (error)
        return plugin_failed(turn, plugin, error, why);
    return output->is_last ? on_done(turn, plugin, output) : WEIR_OK;
}

static enum weir_error outputs_take(struct turn *turn, struct plugin *plugin, uint32_t *budget)
{
    if (plugin->brought.is_committing && !plugin->is_stalled)
        commit_continue(turn, plugin);
    struct plugin_end end; /* filled where take says that it ended; to clear it for each output would cost more */
    while (!plugin->is_stalled && *budget > 0) {
        struct plugin_output output;
        enum weir_error error = plugin->ops->take(plugin->host, &output, &end);
        if (error == WEIR_AGAIN)
            return WEIR_OK;
        if (error != WEIR_OK)
            return plugin_failed(turn, plugin, end.cause ? end.cause : WEIR_CLOSED, end.text);
        error = output_handle(turn, plugin, &output);
        if (error)
            return error;
        --*budget;
    }
    return WEIR_OK;
}

/* ----------------------------------------------------------------------------------------------- inputs */

enum weir_error give_state(struct plugin *plugin, enum plugin_input_kind kind, struct view bytes)
{
    struct plugin_input input = {.kind = kind, .number = plugin->host_number + 1, .bytes = bytes};
    enum weir_error error = plugin->ops->give(plugin->host, &input);
    if (error)
        return error;
    plugin->host_number++;
    plugin->is_snapshot_asked = plugin->is_snapshot_asked || kind == INPUT_SNAPSHOT;
    inflight_add(plugin, kind, plugin->kept.next);
    return WEIR_OK;
}

static void input_of(struct plugin *plugin, const struct kept *kept, struct plugin_input *input)
{
    struct weir_message *message = &input->message;
    input->kind = INPUT_MESSAGE;
    input->number = plugin->host_number + 1;
    input->bytes = view_of(NULL, 0);
    message->topic = weir_bytes_of(NULL, 0);
    message->key = weir_bytes_of(NULL, 0);
    message->value = weir_bytes_of(NULL, 0);
    message->kind = kept->kind;
    message->attempt = kept->attempts + kept->replays + 1u;
    if (kept->place != PLACE_NONE) {
        struct view name = place_name(plugin, kept->place);
        message->topic = weir_bytes_of(name.data, name.size);
    }
    if (kept->has_key)
        message->key = weir_bytes_of(kept->data, kept->key_size);
    if (kept->value_size > 0)
        message->value = weir_bytes_of(kept->data + kept->key_size, kept->value_size);
    message->epoch = kept->epoch;
    message->seq = kept->seq;
    message->number = kept->kind == WEIR_MESSAGE_TIMER ? kept->as.timer : 0;
    message->time_ms = kept->time_ms;
}

/* What is too large for the host fails for good at once. */
static void input_too_big(struct turn *turn, struct plugin *plugin, struct kept *kept)
{
    kept->attempts = 1;
    kept_bury(turn, plugin, kept, WEIR_TOO_BIG);
    kept_refuse(turn, plugin, kept, WEIR_TOO_BIG, view_text("it is larger than what the plugin's host takes"));
    kept_settle(turn, plugin, kept);
    plugin->kept.next++;
    kept_release(plugin);
}

/* The host has no room for an input that one before it has handled: without it the state does not come back. */
static enum weir_error replay_too_big(struct turn *turn, struct plugin *plugin, struct kept *kept)
{
    if (plugin->inflight_count > 0)
        return WEIR_AGAIN;
    kept->replays = PLUGIN_STATE_ATTEMPTS_MAX;
    inflight_add(plugin, INPUT_MESSAGE, plugin->kept.next);
    return plugin_failed(turn, plugin, WEIR_FAILED, "its host has no room for an input that is to be handled again");
}

/* An instance has ended with that in hand, as far as is known: more than one may have been. Given alone, it is cleared
 * or condemned, and nobody who ends instances from outside is likely to meet it again. */
static bool is_suspect(const struct kept *kept) { return kept->is_replayed ? kept->replays > 0 : kept->attempts > 0; }

/* Nobody waits for it any more. */
static bool ask_is_late(struct turn *turn, const struct kept *kept)
{
    return kept->kind == WEIR_MESSAGE_ASK && kept->state == KEPT_WAITING && turn_now_ns(turn) >= kept->as.deadline_ns;
}

/* WEIR_OK: something was given or passed over. WEIR_AGAIN: nothing can be now. WEIR_CLOSED: the host has ended.
 * WEIR_FAILED: so has the instance, and plugin_failed was called. */
static enum weir_error give_one(struct turn *turn, struct plugin *plugin)
{
    struct kept_ring *ring = &plugin->kept;
    struct plugin_input input;
    if (plugin->phase != PHASE_RUNNING || reload_holds(plugin) || plugin->inflight_count == PLUGIN_INFLIGHT_MAX ||
        plugin->is_alone)
        return WEIR_AGAIN;
    if (snapshot_is_due(plugin)) {
        enum weir_error error = give_state(plugin, INPUT_SNAPSHOT, view_of(NULL, 0));
        return error == WEIR_FULL ? WEIR_AGAIN : error;
    }
    if (ring->next == ring->end)
        plugin_intake(turn, plugin);
    if (ring->next == ring->end)
        return WEIR_AGAIN;
    struct kept *kept = kept_at(plugin, ring->next);
    if (kept->state != KEPT_WAITING && !kept->is_replayed) {
        ring->next++;
        return WEIR_OK;
    }
    if (ask_is_late(turn, kept)) {
        kept->state = KEPT_REFUSED;
        kept_refuse(turn, plugin, kept, WEIR_TIMEOUT, view_of(NULL, 0));
        ring->next++;
        kept_release(plugin);
        return WEIR_OK;
    }
    bool is_alone = is_suspect(kept);
    if (is_alone && plugin->inflight_count > 0)
        return WEIR_AGAIN;
    input_of(plugin, kept, &input);
    enum weir_error error = plugin->ops->give(plugin->host, &input);
    if (error == WEIR_TOO_BIG && kept->is_replayed)
        return replay_too_big(turn, plugin, kept);
    if (error == WEIR_TOO_BIG) {
        input_too_big(turn, plugin, kept);
        return WEIR_OK;
    }
    if (error)
        return error == WEIR_FULL ? WEIR_AGAIN : WEIR_CLOSED;
    plugin->host_number++;
    inflight_add(plugin, INPUT_MESSAGE, ring->next++);
    plugin->is_alone = is_alone;
    return WEIR_OK;
}

/* WEIR_AGAIN: there can be none at this moment, and it is tried again. */
static enum weir_error host_ensure(struct turn *turn, struct plugin *plugin)
{
    char why[PLUGIN_TEXT_SIZE] = "";
    if (plugin->host != NULL)
        return WEIR_OK;
    plugin->host_number = 0;
    plugin->phase = PHASE_STARTING;
    enum weir_error error = plugin_host_begin(turn, plugin, plugin->config, &plugin->host, why, sizeof why);
    if (error == WEIR_OK)
        return WEIR_OK;
    plugin->host = NULL;
    if (error != WEIR_AGAIN)
        return plugin_failed(turn, plugin, error, why);
    plugin->phase = PHASE_DOWN;
    plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
    return WEIR_AGAIN;
}

/* As many inputs as the host is given before its outputs are looked at. WEIR_AGAIN: it can be given none now.
 * WEIR_FAILED: the instance has failed, and plugin_failed was called. */
static enum weir_error inputs_give(struct turn *turn, struct plugin *plugin, uint32_t *budget)
{
    enum weir_error error = WEIR_OK;
    uint32_t before = *budget, ahead = plugin->ops->ahead;
    while (before - *budget<ahead && * budget> 0) {
        error = give_one(turn, plugin);
        if (error)
            break;
        --*budget;
    }
    if (error == WEIR_FAILED)
        return error;
    return *budget < before ? WEIR_OK : WEIR_AGAIN;
}

enum weir_error pump(struct turn *turn, struct plugin *plugin)
{
    uint32_t outputs = TURN_OUTPUTS, inputs = PLUGIN_TURN_INPUTS;
    if (plugin->is_ending) {
        ending_step(turn, plugin);
        return WEIR_OK;
    }
    if (plugin->is_resting)
        return WEIR_OK;
    enum weir_error error = host_ensure(turn, plugin);
    if (error && error != WEIR_AGAIN)
        return error;
    plugin_intake(turn, plugin);
    if (error == WEIR_AGAIN)
        return WEIR_OK;
    while (inputs > 0 && outputs > 0) {
        error = outputs_take(turn, plugin, &outputs);
        if (!error)
            error = reload_step(turn, plugin);
        if (error)
            return error;
        if (plugin->phase == PHASE_RESTORING && plugin->inflight_count == 0)
            replay_begin(turn, plugin);
        error = straight_handle(turn, plugin, &inputs);
        if (error)
            error = plugin->is_stalled ? WEIR_AGAIN : inputs_give(turn, plugin, &inputs);
        if (error == WEIR_FAILED)
            return error;
        if (error)
            break;
    }
    plugin->ops->flush(plugin->host);
    (void)outbox_flush(turn, plugin);
    outgoing_flush(turn, plugin);
    ack_flush(turn, plugin);
    plugin_intake(turn, plugin);
    bool has_more = inputs == 0 || outputs == 0;
    if (has_more)
        plugin_pump_send(turn, plugin);
    return WEIR_OK;
}
