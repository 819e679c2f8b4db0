/* The plugin actor: one for each configured instance, a supervised child of its own supervisor. It stands between the
 * broker's actors and the host that runs the user's code; when that fails, the turn fails, and the restart that the
 * supervisor decides on begins a new host, while the actor keeps its mailbox, its inputs and its snapshot. */
#include "actors/plugin/plugin.h"

#include "actors/plugin/plugin_state.h"

#include "actors/base/clock.h"
#include "actors/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static struct plugin *plugin_check(void *state)
{
    struct plugin *plugin = state;
    MAGIC_CHECK(plugin, PLUGIN_MAGIC);
    return plugin;
}

static uint64_t wall_ms(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
}

void plugin_pump_send(struct turn *turn, struct plugin *plugin)
{
    if (!plugin->is_pump_sent)
        plugin->is_pump_sent = turn_control(turn, turn_self(turn), &(struct message){.tag = PLUGIN_PUMP}) == WEIR_OK;
    if (!plugin->is_pump_sent)
        plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
}

void plugin_retry_arm(struct turn *turn, struct plugin *plugin, uint64_t delay_ns)
{
    weir_timer timer;
    if (!plugin->has_retry)
        plugin->has_retry =
            timer_start(turn_runtime(turn), turn_self(turn), delay_ns, 0, PLUGIN_TIMER_RETRY, &timer) == WEIR_OK;
}

void plugin_state_tell(struct turn *turn, struct plugin *plugin, bool is_stale)
{
    plugin->is_stale_told = is_stale;
    for (uint32_t index = 0; index < plugin->places.used; index++) {
        const struct place *place = &plugin->places.items[index];
        struct message state = {.tag = TOPIC_PLUGIN_STATE, .word = {is_stale}};
        if (!msg_is_none(place->name) && place->is_own && !place->is_gone &&
            turn_control(turn, place->topic, &state) == WEIR_FULL)
            log_warning("plugin.state_untold", "plugin=%s stale=%d", plugin->config->name, is_stale);
    }
}

static const char *state_name(const struct plugin *plugin)
{
    if (plugin->is_ending)
        return "ending";
    if (plugin->phase == PHASE_DOWN)
        return "down";
    if (plugin->phase == PHASE_STARTING)
        return "starting";
    return plugin->phase == PHASE_RESTORING || plugin->replay_left > 0 ? "replaying" : "live";
}

void plugin_status_publish(struct plugin *plugin)
{
    struct plugin_status *status = &plugin->instance->status;
    pthread_mutex_lock(&plugin->instance->lock);
    status->state = state_name(plugin);
    status->handled = plugin->handled;
    status->emitted = plugin->emitted;
    status->refused = plugin->refused;
    status->dead = plugin->dead;
    status->restarts = plugin->restarts;
    status->topics = plugin->places.own_count;
    status->kept = plugin->kept.end - plugin->kept.first;
    status->kept_bytes = plugin->kept.bytes;
    status->snapshot_bytes = plugin->snapshot_size;
    status->pid = plugin->host != NULL && plugin->ops->pid != NULL ? plugin->ops->pid(plugin->host) : 0;
    pthread_mutex_unlock(&plugin->instance->lock);
}

/* ---------------------------------------------------------------------------------------------- the host */

/* On any thread of the host's. */
static void bell_ring(void *context)
{
    struct plugin_instance *instance = context;
    if (atomic_exchange(&instance->is_rung, true))
        return;
    weir_actor actor = {atomic_load(&instance->bell_actor)};
    /* One that has ended has stopped its host, or is about to. */
    enum weir_error error = WEIR_STALE;
    if (!actor_is_none(actor))
        error = actor_control_here(instance->runtime, WEIR_ACTOR_NONE, actor, &(struct message){.tag = PLUGIN_PUMP});
    if (error && error != WEIR_STALE) {
        atomic_store(&instance->is_rung, false); /* with 64,000 messages waiting it will look soon enough */
        log_error("plugin.bell_lost", "cause=%s", weir_error_code(error));
    }
}

enum weir_error plugin_host_begin(struct turn *turn, const struct plugin *plugin, const struct plugin_config *config,
                                  struct plugin_host **out, char *why, size_t why_size)
{
    static const uint8_t nil = 0xc0;
    const char *grants[PLUGIN_GRANTS_MAX + 1] = {NULL};
    struct plugin_bell bell = {bell_ring, plugin->instance};
    struct plugin_spec spec = {.name = config->name,
                               .file = config->file,
                               .role = config->role,
                               .config = view_of(&nil, 1),
                               .bounds = config->bounds,
                               .time_ms_max = config->time_ms_max,
                               .start_ms_max = config->start_ms_max,
                               .ring_bytes = config->ring_bytes};
    (void)turn;
    if (config->value_size > 0)
        spec.config = view_of(config->value, config->value_size);
    for (size_t i = 0; i < config->grant_count; i++)
        grants[i] = config->grants[i];
    if (config->grant_count > 0)
        spec.grants = grants;
    return config->host->start(&spec, bell, out, why, why_size);
}

enum weir_error plugin_failed(struct turn *turn, struct plugin *plugin, enum weir_error cause, const char *text)
{
    char quoted[2 * PLUGIN_TEXT_SIZE];
    uint32_t attempts = 0;
    uint64_t suppressed = 0;
    runs_part(plugin); /* they may have to be handled again, one by one */
    if (plugin->inflight_count > 0) {
        input_failed(turn, plugin, cause, text);
        const struct inflight *front = &plugin->inflight[plugin->inflight_first];
        if (front->kind == INPUT_MESSAGE) {
            const struct kept *kept = kept_at(plugin, front->position);
            attempts = kept->is_replayed ? kept->replays : kept->attempts;
        }
    }
    /* What cannot even start says the same each time, fifty times before it is given up. */
    if (plugin->phase != PHASE_STARTING || log_limit_pass(&plugin->no_start, turn_now_ns(turn), &suppressed))
        log_error("plugin.failed", "plugin=%s host=%s cause=%s attempt=%u text=%s suppressed=%llu",
                  plugin->config->name, plugin->ops->name, weir_error_code(cause), attempts,
                  log_quote(quoted, sizeof quoted, text, strlen(text)), (unsigned long long)suppressed);
    reload_abort(turn, plugin, WEIR_FAILED, text);
    plugin->ops->stop(&plugin->host);
    inflight_clear(plugin);
    snapshot_drop(plugin);
    plugin->replay_left = 0;
    plugin->phase = PHASE_DOWN;
    brought_clear(plugin, &plugin->brought);
    plugin_timers_forget(turn, plugin);
    /* What was handled before goes out; its publishers are not to wait for the restart. */
    if (!plugin->is_stalled)
        (void)outbox_flush(turn, plugin);
    outgoing_flush(turn, plugin);
    ack_flush(turn, plugin);
    plugin_state_tell(turn, plugin, true);
    pthread_mutex_lock(&plugin->instance->lock);
    (void)snprintf(plugin->instance->status.cause, PLUGIN_TEXT_SIZE, "%s", text);
    pthread_mutex_unlock(&plugin->instance->lock);
    plugin_status_publish(plugin);
    instance_started(turn, plugin, cause, text);
    return cause;
}

/* --------------------------------------------------------------------------------------------- messages */

static void on_attach(struct turn *turn, struct plugin *plugin, const struct message *message)
{
    const struct topic_attach *attach = arena_data(plugin->arena, message->hold[0]);
    uint32_t index = PLACE_NONE;
    if (attach == NULL || plugin->config->role != WEIR_ACTOR_FOLD)
        return;
    struct view name = view_of(attach->name, attach->name_size);
    enum weir_error error = place_ensure(plugin, name, &index);
    /* A topic of that name that ended before: its mark may still come, so this one needs its own. */
    if (!error && index >= TOPIC_MARK_MAX)
        error = WEIR_FULL;
    if (!error)
        error = actor_monitor(turn_runtime(turn), turn_self(turn), message->from);
    if (error) {
        log_error("plugin.topic_refused", "plugin=%s topic=%.*s cause=%s", plugin->config->name, (int)name.size,
                  (const char *)name.data, weir_error_code(error));
        return;
    }
    struct place *place = place_at(plugin, index);
    plugin->places.own_count += !place->is_own || place->is_gone;
    place->is_own = true;
    place->is_gone = false;
    place->topic = message->from;
    place->epoch = attach->epoch;
    place->seq = attach->seq;
    struct message attached = {.tag = TOPIC_ATTACHED, .word = {index}};
    struct message state = {.tag = TOPIC_PLUGIN_STATE, .word = {plugin->is_stale_told}};
    place->clears = 0;
    error = turn_control(turn, message->from, &attached);
    /* What it shows is of an instance whose state is gone. */
    if (!error && attach->seq > 0)
        error = place_clear(turn, plugin, index, turn_self(turn), 0, CAUSE_RESTART);
    if (!error)
        error = turn_control(turn, message->from, &state);
    if (error)
        log_error("plugin.topic_refused", "plugin=%s topic=%.*s cause=%s", plugin->config->name, (int)name.size,
                  (const char *)name.data, weir_error_code(error));
}

static void on_event(struct turn *turn, struct plugin *plugin, const struct message *message)
{
    if (message->word[0] != ACTOR_EVENT_EXITED)
        return;
    for (uint32_t index = 0; index < plugin->places.used; index++) {
        const struct place *place = &plugin->places.items[index];
        if (msg_is_none(place->name) || !place->is_own || !actor_is_same(place->topic, message->from))
            continue;
        place_gone(plugin, index);
        emit_place_gone(turn, plugin, index);
        return;
    }
}

static void on_timer(struct turn *turn, struct plugin *plugin, uint64_t word)
{
    if (word == PLUGIN_TIMER_OUTGOING) {
        outgoing_on_timer(plugin);
        return;
    }
    if (word == PLUGIN_TIMER_ENDING) {
        turn_exit(turn, WEIR_OK);
        return;
    }
    if (word == PLUGIN_TIMER_RELOAD) {
        reload_on_timer(turn, plugin);
        return;
    }
    if (word == PLUGIN_TIMER_FOLLOW) {
        follow_on_timer(turn, plugin);
        return;
    }
    if (word != PLUGIN_TIMER_RETRY) {
        plugin_timers_fired(turn, plugin, word);
        return;
    }
    plugin->has_retry = false;
    plugin->is_stalled = false;
    if (plugin->is_ending || plugin->has_follow_timer)
        return;
    if (plugin->is_follow_void)
        follow_again(turn, plugin);
    else if (plugin->config->role == WEIR_ACTOR_PROCESSOR && follow_begin(turn, plugin) != WEIR_OK)
        plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
}

/* Control and data; what is to be pumped afterwards is. */
static enum weir_error dispatch(struct turn *turn, struct plugin *plugin, struct message *message)
{
    switch (message->tag) {
    case PLUGIN_NOTHING: plugin_pump_send(turn, plugin); return WEIR_OK;
    case PLUGIN_REVIVE: plugin->is_resting = false; break;
    case PLUGIN_PUMP:
        atomic_store(&plugin->instance->is_rung, false);
        plugin->is_pump_sent = false;
        break;
    case TOPIC_ACK:
    case TOPIC_NACK:
        emit_on_ack(turn, plugin, message);
        plugin->is_stalled = plugin->is_stalled && plugin->has_retry;
        break;
    case TOPIC_ATTACH: on_attach(turn, plugin, message); return WEIR_OK;
    case TOPIC_CLEARED: emit_on_cleared(turn, plugin, message); break;
    case DIRECTORY_TOPIC: emit_on_topic(turn, plugin, message); break;
    case DIRECTORY_SUBSCRIBED:
    case DIRECTORY_UNSUBSCRIBED:
        follow_answered(turn, plugin, message->detail, (enum weir_error)message->word[2]);
        break;
    case MESSAGE_ROOM:
        plugin->is_stalled = false;
        outgoing_on_room(plugin);
        break;
    case MESSAGE_TIMER: on_timer(turn, plugin, message->word[0]); break;
    case MESSAGE_EVENT: on_event(turn, plugin, message); break;
    case PLUGIN_RELOAD: reload_order(turn, plugin, message); break;
    case PLUGIN_UNLOAD:
        if (actor_is_none(plugin->unload_from)) {
            plugin->unload_from = message->from;
            plugin->unload_word = message->word[0];
        }
        break;
    case MESSAGE_SHUTDOWN: ending_begin(turn, plugin); break;
    default: break; /* data, which waits in pending */
    }
    return pump(turn, plugin);
}

static bool is_data(uint32_t tag) { return is_answered(tag) || (tag >= TOPIC_BEGIN && tag <= TOPIC_ENDED); }

static enum weir_error on_message(struct turn *turn, void *state, struct message *message)
{
    struct plugin *plugin = plugin_check(state);
    enum weir_error error = WEIR_OK;
    plugin->now_ms = wall_ms();
    if (is_data(message->tag))
        error = pending_push(plugin, message);
    if (error)
        return error; /* no memory: it is tried again */
    error = dispatch(turn, plugin, message);
    if (error && plugin->host == NULL) {
        /* What it said was taken: what comes after the restart is another try of the host, not of this message. */
        message->tag = PLUGIN_NOTHING;
        for (int hold = 0; hold < MESSAGE_HOLDS; hold++)
            arena_drop(plugin->arena, message_take(message, hold));
    }
    return error;
}

static void on_turn_end(struct turn *turn, void *state)
{
    struct plugin *plugin = plugin_check(state);
    (void)turn;
    plugin_status_publish(plugin);
}

static enum weir_error on_restart(struct turn *turn, void *state, enum weir_error cause)
{
    struct plugin *plugin = plugin_check(state);
    (void)cause;
    plugin->restarts++;
    /* Acknowledgements and orders that came meanwhile are before it, and the news of its end, if it is restarted for
     * that: then it needs no instance, which might fail again, and would be ended for it. */
    plugin->is_resting = turn_control(turn, turn_self(turn), &(struct message){.tag = PLUGIN_REVIVE}) == WEIR_OK;
    return WEIR_OK;
}

/* -------------------------------------------------------------------------------------- beginning and end */

static void plugin_fini(struct plugin *plugin)
{
    brought_fini(plugin, &plugin->brought);
    brought_fini(plugin, &plugin->next_brought);
    if (plugin->outbox != NULL)
        bundle_fini(plugin, &plugin->outbox->bundle);
    places_fini(plugin);
    arena_drop(plugin->arena, plugin->outbox_block);
    arena_drop(plugin->arena, plugin->inflight_block);
    arena_drop(plugin->arena, plugin->sent_block);
    arena_drop(plugin->arena, plugin->timers_block);
    arena_drop(plugin->arena, plugin->snapshot);
    arena_drop(plugin->arena, plugin->snapshot_new);
    budget_destroy(&plugin->budget);
    plugin_config_fini(plugin->config);
    free(plugin->config);
    plugin->magic = 0;
}

static enum weir_error tables_alloc(struct plugin *plugin)
{
    enum weir_error error = places_init(plugin);
    if (!error)
        error = plugin_timers_init(plugin);
    if (!error)
        error = arena_alloc(plugin->arena, PLUGIN_INFLIGHT_MAX * sizeof *plugin->inflight, plugin->budget,
                            &plugin->inflight_block);
    if (!error)
        error = arena_alloc(plugin->arena, sizeof *plugin->outbox, plugin->budget, &plugin->outbox_block);
    if (!error && plugin->config->role == WEIR_ACTOR_FOLD)
        error = arena_alloc(plugin->arena, PLUGIN_SENT_MAX * sizeof *plugin->sent, plugin->budget, &plugin->sent_block);
    if (error)
        return error;
    plugin->inflight = arena_data(plugin->arena, plugin->inflight_block);
    plugin->outbox = arena_data(plugin->arena, plugin->outbox_block);
    *plugin->outbox = (struct outbox){.place = PLACE_NONE};
    if (!msg_is_none(plugin->sent_block))
        plugin->sent = arena_data(plugin->arena, plugin->sent_block);
    return WEIR_OK;
}

/* Others find it from here on. */
static enum weir_error announce(struct turn *turn, struct plugin *plugin)
{
    char name[sizeof PLUGIN_REGISTRY_PREFIX + PLUGIN_NAME_MAX];
    struct message here = {.tag = DIRECTORY_PLUGIN};
    struct plugin_instance *instance = plugin->instance;
    int size = snprintf(name, sizeof name, PLUGIN_REGISTRY_PREFIX "%s", plugin->config->name);
    enum weir_error error = registry_add(turn_runtime(turn), name, (size_t)size, turn_self(turn));
    if (error)
        return error;
    size_t bare = strlen(plugin->config->name);
    error = arena_alloc(plugin->arena, bare, plugin->budget, &here.hold[0]);
    if (error)
        return error;
    memcpy(arena_data(plugin->arena, here.hold[0]), plugin->config->name, bare);
    error = turn_send(turn, instance->directory, &here);
    if (error)
        arena_drop(plugin->arena, here.hold[0]);
    return error;
}

static enum weir_error on_start(struct turn *turn, void *state, const void *args)
{
    struct plugin *plugin = state;
    struct plugin_instance *instance;
    memcpy(&instance, args, sizeof instance);
    *plugin = (struct plugin){.magic = PLUGIN_MAGIC, .instance = instance, .arena = turn_arena(turn)};
    plugin->sent_first = plugin->sent_next = 1;
    plugin->forbidden.interval_ns = plugin->held.interval_ns = plugin->no_topic.interval_ns = NS_PER_S;
    plugin->no_start.interval_ns = NS_PER_S;
    for (size_t i = 0; i < OUTGOING_LISTS; i++)
        plugin->outgoing_first[i] = PLACE_NONE;
    plugin->config = calloc(1, sizeof *plugin->config);
    if (plugin->config == NULL)
        return WEIR_NO_MEMORY;
    pthread_mutex_lock(&instance->lock);
    enum weir_error error = plugin_config_copy(plugin->config, &instance->config);
    instance->actor = turn_self(turn);
    pthread_mutex_unlock(&instance->lock);
    plugin->ops = plugin->config->host;
    runner_bounds_fill(&plugin->config->bounds);
    atomic_store(&instance->bell_actor, turn_self(turn).bits);
    atomic_store(&instance->is_rung, false);
    if (!error)
        error = budget_create(instance->budget, plugin->config->name, 0, &plugin->budget);
    if (!error)
        error = tables_alloc(plugin);
    if (!error)
        error = announce(turn, plugin);
    instance_begin(instance);
    if (error) {
        instance_forget(turn, plugin, error);
        plugin_fini(plugin);
        return error;
    }
    plugin_retry_arm(turn, plugin, 0); /* subscribes, and starts the host */
    plugin_pump_send(turn, plugin);
    plugin_status_publish(plugin);
    return WEIR_OK;
}

static void on_stop(struct turn *turn, void *state, enum weir_error cause)
{
    struct plugin *plugin = plugin_check(state);
    char name[sizeof PLUGIN_REGISTRY_PREFIX + PLUGIN_NAME_MAX];
    (void)cause;
    plugin->ops->stop(&plugin->host);
    reload_abort(turn, plugin, WEIR_CLOSED, "the plugin is being unloaded");
    ending_count(plugin);
    plugin_intake_fini(turn, plugin);
    int size = snprintf(name, sizeof name, PLUGIN_REGISTRY_PREFIX "%s", plugin->config->name);
    registry_remove(turn_runtime(turn), name, (size_t)size);
    instance_forget(turn, plugin, WEIR_CLOSED);
    ending_tell(turn, plugin, plugin->unload_from, plugin->unload_word);
    plugin_fini(plugin);
}

/* Those whose records or orders came too late to be taken. */
static void on_unread(struct turn *turn, void *state, const struct message *message)
{
    struct plugin *plugin = state; /* what on_stop left of it; NULL: it never started */
    if (is_answered(message->tag))
        forwarded_refuse(turn, message);
    else if (message->tag == PLUGIN_RELOAD)
        (void)!turn_control(turn, message->from,
                            &(struct message){.tag = PLUGIN_RELOADED, .word = {WEIR_CLOSED, message->word[0]}});
    else if (message->tag == PLUGIN_UNLOAD)
        ending_tell(turn, plugin, message->from, message->word[0]);
}

const struct behaviour plugin_behaviour = {
    .name = "plugin",
    .state_size = sizeof(struct plugin),
    .on_start = on_start,
    .on_message = on_message,
    .on_turn_end = on_turn_end,
    .on_restart = on_restart,
    .on_stop = on_stop,
    .on_unread = on_unread,
};
