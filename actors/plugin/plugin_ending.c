/* The orderly end of a plugin. From when it is told to end it handles nothing more: what waits for it is refused when
 * it has ended, behind the answers of what it has handled. What it has emitted is on its way to topics, which may have
 * no room or no memory at present; it stays until they have decided all of it, for PLUGIN_ENDING_MS at most, and then
 * says how much it gave up. So does one that was waiting for its restart, which is restarted for that alone
 * (hears_its_end in supervisor.h). One that is not asked but stopped (it takes no turns, or its supervisor has given
 * it up) gives up at once. In the plugin's turns. */
#include "actors/plugin/plugin_state.h"

#include "actors/base/clock.h"
#include "actors/base/log.h"

void ending_begin(struct turn *turn, struct plugin *plugin)
{
    weir_timer timer;
    turn_shutdown_defer(turn);
    if (plugin->is_ending)
        return;
    plugin->is_ending = true;
    reload_abort(turn, plugin, WEIR_CLOSED, "the plugin is being unloaded");
    /* What is not handled stays in the mailbox. */
    if (!plugin->is_muted)
        turn_mute(turn, true);
    plugin->is_muted = true;
    if (timer_start(turn_runtime(turn), turn_self(turn), PLUGIN_ENDING_MS * NS_PER_MS, 0, PLUGIN_TIMER_ENDING, &timer))
        log_warning("plugin.ending", "plugin=%s cause=no-memory until_ms=%d", plugin->config->name, PLUGIN_SHUTDOWN_MS);
}

static bool is_decided(const struct plugin *plugin)
{
    return !plugin->brought.is_committing && plugin->outbox->bundle.count == 0 &&
           plugin->sent_first == plugin->sent_next && plugin->outgoing_count == 0;
}

void ending_step(struct turn *turn, struct plugin *plugin)
{
    if (plugin->brought.is_committing && !plugin->is_stalled)
        commit_continue(turn, plugin);
    /* Until all of the input in hand is sent its bytes are the host's. */
    if (!plugin->brought.is_committing && plugin->host != NULL)
        plugin->ops->stop(&plugin->host);
    (void)outbox_flush(turn, plugin);
    outgoing_flush(turn, plugin);
    ack_flush(turn, plugin);
    if (is_decided(plugin))
        turn_exit(turn, WEIR_OK);
}

void ending_count(struct plugin *plugin)
{
    const struct brought *brought = &plugin->brought;
    plugin->given_up = outgoing_undecided(plugin);
    for (uint64_t number = plugin->sent_first; number < plugin->sent_next; number++)
        plugin->given_up += !sent_is_over(plugin, number);
    for (size_t at = brought->at; brought->is_committing && at < brought->count; at++)
        plugin->given_up += brought->items[at].kind == OUTPUT_EMIT;
    if (plugin->given_up > 0)
        log_warning("plugin.emissions_lost", "plugin=%s records=%llu topics=%u bytes=%zu cause=unloaded",
                    plugin->config->name, (unsigned long long)plugin->given_up, (unsigned)plugin->outgoing_count,
                    plugin->outgoing_bytes);
}

void ending_tell(struct turn *turn, struct plugin *plugin, weir_actor to, uint64_t word)
{
    struct message done = {.tag = PLUGIN_UNLOADED, .word = {plugin != NULL ? plugin->given_up : 0, word}};
    /* Who gave the order has a deadline. */
    if (!actor_is_none(to))
        (void)!turn_control(turn, to, &done);
}
