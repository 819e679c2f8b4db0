/* How state survives: snapshots now and then, and after a restart the last one and the inputs since, handled again with
 * nothing of what they bring about sent twice. In the plugin's turns. */
#include "actors/plugin/plugin_state.h"

#include "actors/base/log.h"
#include "clients/wire/value.h"

static bool is_fold(const struct plugin *plugin) { return plugin->config->role == WEIR_ACTOR_FOLD; }

bool snapshot_is_due(const struct plugin *plugin)
{
    const struct kept_ring *ring = &plugin->kept;
    uint64_t count = ring->next - (ring->cover > ring->first ? ring->cover : ring->first);
    if (!plugin->has_snapshot || plugin->is_snapshot_asked || plugin->replay_left > 0 || count == 0)
        return false;
    /* The larger it is, the more inputs share its cost; but never so many that none could come. */
    uint64_t count_due = PLUGIN_KEPT_SNAPSHOT + plugin->snapshot_size / 64;
    size_t bytes_due = PLUGIN_KEPT_BYTES_SNAPSHOT + 2 * plugin->snapshot_size;
    /* One that ended while it was asked may have been ended by somebody else: it is asked again when more has come, and
     * only at the bound is there nothing left to wait for. */
    count_due <<= plugin->snapshot_failures;
    bytes_due <<= plugin->snapshot_failures;
    if (count_due > PLUGIN_KEPT_MAX / 4 * 3)
        count_due = PLUGIN_KEPT_MAX / 4 * 3;
    if (bytes_due > PLUGIN_KEPT_BYTES_MAX / 4 * 3)
        bytes_due = PLUGIN_KEPT_BYTES_MAX / 4 * 3;
    return count >= count_due || ring->bytes >= bytes_due;
}

enum weir_error snapshot_keep(struct plugin *plugin, struct view value)
{
    arena_drop(plugin->arena, plugin->snapshot_new);
    plugin->snapshot_new = WEIR_MSG_NONE;
    enum weir_error error = arena_alloc(plugin->arena, value.size, plugin->budget, &plugin->snapshot_new);
    if (error)
        return error;
    memcpy(arena_data(plugin->arena, plugin->snapshot_new), value.data, value.size);
    plugin->snapshot_new_size = value.size;
    return WEIR_OK;
}

void snapshot_drop(struct plugin *plugin)
{
    arena_drop(plugin->arena, plugin->snapshot_new);
    plugin->snapshot_new = WEIR_MSG_NONE;
    plugin->is_snapshot_asked = false;
}

void snapshot_done(struct plugin *plugin, uint64_t cover)
{
    plugin->is_snapshot_asked = false;
    plugin->snapshot_failures = 0;
    arena_drop(plugin->arena, plugin->snapshot);
    plugin->snapshot = plugin->snapshot_new;
    plugin->snapshot_size = plugin->snapshot_new_size;
    plugin->snapshot_new = WEIR_MSG_NONE;
    plugin->kept.cover = cover;
    kept_release(plugin);
}

/* The first input that is still to be handled. */
static uint64_t first_waiting(struct plugin *plugin)
{
    uint64_t position = plugin->kept.first;
    while (position < plugin->kept.end && kept_at(plugin, position)->state != KEPT_WAITING)
        position++;
    return position;
}

void replay_state_lost(struct turn *turn, struct plugin *plugin)
{
    runs_part(plugin);
    uint64_t waiting = first_waiting(plugin);
    arena_drop(plugin->arena, plugin->snapshot);
    plugin->snapshot = WEIR_MSG_NONE;
    plugin->snapshot_size = 0;
    plugin->snapshot_failures = plugin->restore_failures = 0;
    plugin->kept.cover = plugin->kept.base = waiting;
    log_warning("plugin.state_lost", "plugin=%s topics=%u", plugin->config->name, plugin->places.own_count);
    if (!is_fold(plugin)) {
        follow_again(turn, plugin);
        return;
    }
    /* What the state had brought about comes before the clearing, or not at all. */
    if (!outbox_flush(turn, plugin))
        outbox_give_up(turn, plugin);
    for (uint32_t index = 0; index < plugin->places.used; index++) {
        const struct place *place = &plugin->places.items[index];
        if (msg_is_none(place->name) || !place->is_own || place->is_gone)
            continue;
        if (place_clear(turn, plugin, index, turn_self(turn), 0, CAUSE_RESTART) == WEIR_FULL)
            log_error("plugin.clear_lost", "plugin=%s", plugin->config->name);
    }
}

/* Something without which the state does not come back. */
static void state_failed(struct turn *turn, struct plugin *plugin, const char *of, uint32_t attempts)
{
    if (attempts < PLUGIN_STATE_ATTEMPTS_MAX)
        return;
    log_error("plugin.state_given_up", "plugin=%s of=%s attempts=%u", plugin->config->name, of, attempts);
    replay_state_lost(turn, plugin);
}

static void message_failed(struct turn *turn, struct plugin *plugin, struct kept *kept, enum weir_error cause,
                           const char *text)
{
    if (kept->is_replayed) { /* its publisher has its answer: to leave it out would be to change state in silence */
        state_failed(turn, plugin, "replay", ++kept->replays);
        return;
    }
    if (++kept->attempts < PLUGIN_ATTEMPTS_MAX)
        return;
    kept_bury(turn, plugin, kept, cause);
    kept_refuse(turn, plugin, kept, WEIR_POISONED, view_text(text));
    kept_settle(turn, plugin, kept);
}

void input_failed(struct turn *turn, struct plugin *plugin, enum weir_error cause, const char *text)
{
    const struct inflight *front = &plugin->inflight[plugin->inflight_first];
    if (front->kind == INPUT_RESTORE)
        state_failed(turn, plugin, "restore", ++plugin->restore_failures);
    else if (front->kind == INPUT_SNAPSHOT)
        state_failed(turn, plugin, "snapshot", ++plugin->snapshot_failures);
    else if (front->kind == INPUT_MESSAGE)
        message_failed(turn, plugin, kept_at(plugin, front->position), cause, text);
}

void replay_begin(struct turn *turn, struct plugin *plugin)
{
    bool is_whole = plugin->has_snapshot && plugin->kept.first <= plugin->kept.base;
    if (plugin->has_snapshot && !msg_is_none(plugin->snapshot)) {
        struct view bytes = view_of(arena_data(plugin->arena, plugin->snapshot), plugin->snapshot_size);
        enum weir_error error = give_state(plugin, INPUT_RESTORE, bytes);
        if (error != WEIR_TOO_BIG) {
            plugin->phase = PHASE_RESTORING;
            /* One that has ended already says so when it is next asked; else there is room or memory soon. */
            if (error != WEIR_OK && error != WEIR_CLOSED)
                plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
            return;
        }
        is_whole = false; /* it was taken from a host with more room */
    }
    if (plugin->has_state && !is_whole)
        replay_state_lost(turn, plugin);
    replay_start(turn, plugin);
}

void replay_start(struct turn *turn, struct plugin *plugin)
{
    struct kept_ring *ring = &plugin->kept;
    plugin->phase = PHASE_RUNNING;
    plugin->replay_left = 0;
    ring->next = ring->cover > ring->first ? ring->cover : ring->first;
    for (uint64_t position = ring->next; position < ring->end; position++) {
        struct kept *kept = kept_at(plugin, position);
        kept->is_replayed = kept->state == KEPT_DONE;
        plugin->replay_left += kept->is_replayed;
    }
    replay_check(turn, plugin);
}

/* Inputs of timers that had fired and were not handled yet when the instance failed: what was handled again has set
 * those timers again, but their firing is here already. */
static void fired_note(struct plugin *plugin)
{
    const struct kept_ring *ring = &plugin->kept;
    for (uint64_t position = ring->first; position < ring->end; position++) {
        const struct kept *kept = kept_at(plugin, position);
        if (kept->state == KEPT_WAITING && kept->kind == WEIR_MESSAGE_TIMER)
            plugin_timers_replay(plugin, kept->as.timer, kept->time_ms);
    }
}

void replay_check(struct turn *turn, struct plugin *plugin)
{
    if (plugin->replay_left > 0 || plugin->phase != PHASE_RUNNING)
        return;
    fired_note(plugin);
    plugin_timers_arm_all(turn, plugin);
    if (plugin->is_stale_told)
        plugin_state_tell(turn, plugin, false);
    plugin_status_publish(plugin);
    instance_started(turn, plugin, WEIR_OK, "");
}

void kept_bury(struct turn *turn, struct plugin *plugin, struct kept *kept, enum weir_error cause)
{
    struct message bury = {.tag = TOPIC_BURY};
    struct value_writer writer;
    size_t capacity = kept->key_size + 5 + kept->value_size;
    kept->state = KEPT_DEAD;
    plugin->dead++;
    if (kept->kind != WEIR_MESSAGE_RECORD && kept->kind != WEIR_MESSAGE_ENTRY)
        return;
    if (!is_fold(plugin))
        follow_buried(plugin, kept);
    weir_actor topic = place_at(plugin, kept->place)->topic;
    enum weir_error error = arena_alloc(plugin->arena, capacity, plugin->budget, &bury.hold[0]);
    if (!error) {
        value_writer_init(&writer, arena_data(plugin->arena, bury.hold[0]), capacity);
        if (kept->has_key)
            value_write_str(&writer, kept_key(kept));
        bury.word[0] = TOPIC_WORD(0, writer.size);
        bury.word[1] = TOPIC_WORD(writer.size, kept->value_size);
        bury.word[2] = TOPIC_WORD(cause, kept->attempts);
        value_write_raw(&writer, kept_value(kept));
        error = turn_control(turn, topic, &bury);
        if (error)
            arena_drop(plugin->arena, bury.hold[0]);
    }
    if (error)
        log_error("plugin.dead_lost", "plugin=%s cause=%s", plugin->config->name, weir_error_code(error));
}
