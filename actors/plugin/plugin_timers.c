/* An instance's timers: a small table by id. A timer that fires becomes an input like any other, so that a restart
 * finds it among those kept. In the plugin's turns. */
#include "actors/plugin/plugin_state.h"

#include "actors/base/clock.h"
#include "actors/base/log.h"

enum weir_error plugin_timers_init(struct plugin *plugin)
{
    enum weir_error error =
        arena_alloc(plugin->arena, PLUGIN_TIMERS_MAX * sizeof *plugin->timers, plugin->budget, &plugin->timers_block);
    if (!error)
        plugin->timers = arena_data(plugin->arena, plugin->timers_block);
    return error;
}

static struct plugin_timer *timer_find(struct plugin *plugin, uint64_t id)
{
    for (uint32_t i = 0; i < plugin->timer_count; i++)
        if (plugin->timers[i].id == id)
            return &plugin->timers[i];
    return NULL;
}

static void timer_remove(struct plugin *plugin, struct plugin_timer *timer)
{
    *timer = plugin->timers[--plugin->timer_count];
}

static void timer_disarm(struct turn *turn, struct plugin_timer *timer)
{
    if (timer->is_armed)
        timer_cancel(turn_runtime(turn), timer->handle);
    timer->is_armed = false;
}

static void timer_arm(struct turn *turn, struct plugin *plugin, struct plugin_timer *timer)
{
    uint64_t delay_ms = timer->due_ms > plugin->now_ms ? timer->due_ms - plugin->now_ms : 0;
    timer->word = ++plugin->timer_word;
    timer->is_armed = timer_start(turn_runtime(turn), turn_self(turn), delay_ms * NS_PER_MS, 0, timer->word,
                                  &timer->handle) == WEIR_OK;
    if (!timer->is_armed) {
        timer->is_due = true; /* no memory: rather too early than never */
        plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
    }
}

void plugin_timers_apply(struct turn *turn, struct plugin *plugin, const struct brought_item *order, uint64_t base_ms,
                         bool is_replay)
{
    struct plugin_timer *timer = timer_find(plugin, order->timer);
    if (timer != NULL)
        timer_disarm(turn, timer);
    if (order->kind == OUTPUT_TIMER_CANCEL) {
        if (timer != NULL)
            timer_remove(plugin, timer);
        return;
    }
    if (timer == NULL && plugin->timer_count == PLUGIN_TIMERS_MAX) {
        log_error("plugin.timers", "plugin=%s timer=%llu cause=full max=%u", plugin->config->name,
                  (unsigned long long)order->timer, PLUGIN_TIMERS_MAX);
        return;
    }
    if (timer == NULL)
        timer = &plugin->timers[plugin->timer_count++];
    *timer =
        (struct plugin_timer){.id = order->timer, .due_ms = base_ms + order->delay_ms, .period_ms = order->period_ms};
    if (!is_replay)
        timer_arm(turn, plugin, timer);
}

void plugin_timers_arm_all(struct turn *turn, struct plugin *plugin)
{
    for (uint32_t i = 0; i < plugin->timer_count; i++)
        if (!plugin->timers[i].is_armed && !plugin->timers[i].is_due)
            timer_arm(turn, plugin, &plugin->timers[i]);
}

void plugin_timers_forget(struct turn *turn, struct plugin *plugin)
{
    for (uint32_t i = 0; i < plugin->timer_count; i++)
        timer_disarm(turn, &plugin->timers[i]);
    plugin->timer_count = 0;
}

void plugin_timers_fired(struct turn *turn, struct plugin *plugin, uint64_t word)
{
    for (uint32_t i = 0; i < plugin->timer_count; i++) {
        struct plugin_timer *timer = &plugin->timers[i];
        if (timer->word != word || !timer->is_armed)
            continue;
        timer->is_armed = false;
        timer->is_due = true;
        plugin_timers_take(turn, plugin);
        return;
    }
}

void plugin_timers_take(struct turn *turn, struct plugin *plugin)
{
    for (uint32_t i = 0; i < plugin->timer_count;) {
        struct plugin_timer *timer = &plugin->timers[i];
        if (!timer->is_due || !kept_add_timer(plugin, timer->id)) {
            i++;
            continue;
        }
        timer->is_due = false;
        if (timer->period_ms == 0) {
            timer_remove(plugin, timer);
            continue;
        }
        /* What the broker was too busy for is left out, as with every periodic timer. */
        timer->due_ms += timer->period_ms;
        if (timer->due_ms < plugin->now_ms)
            timer->due_ms = plugin->now_ms + timer->period_ms;
        timer_arm(turn, plugin, timer);
        i++;
    }
}

void plugin_timers_replay(struct plugin *plugin, uint64_t id, uint64_t time_ms)
{
    struct plugin_timer *timer = timer_find(plugin, id);
    if (timer == NULL || timer->is_armed)
        return;
    if (timer->period_ms == 0)
        timer_remove(plugin, timer);
    else
        timer->due_ms = time_ms + timer->period_ms;
}
