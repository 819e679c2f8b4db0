/* A processor's subscriptions: it follows its patterns as a session does, with policy block, so that nothing is lost
 * and who publishes faster than it handles must wait. In the plugin's turns. */
#include "actors/plugin/plugin_state.h"

#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "actors/topic/map_tree.h"
#include "clients/wire/name.h"

static uint32_t window_of(const char *pattern)
{
    return pattern_has_wildcard(view_text(pattern)) ? PLUGIN_FEED_WINDOW_PATTERN : PLUGIN_FEED_WINDOW;
}

static enum weir_error subscribe(struct turn *turn, struct plugin *plugin, uint32_t sub)
{
    const char *pattern = plugin->config->patterns[sub - 1];
    size_t size = strlen(pattern);
    struct message order = {.tag = DIRECTORY_SUBSCRIBE};
    enum weir_error error =
        arena_alloc(plugin->arena, sizeof(struct directory_subscribe) + size, plugin->budget, &order.hold[0]);
    if (error)
        return error;
    struct directory_subscribe *subscribe = arena_data(plugin->arena, order.hold[0]);
    *subscribe = (struct directory_subscribe){.sub = sub,
                                              .policy = POLICY_BLOCK,
                                              .snapshot = true,
                                              .updates = true,
                                              .credit = window_of(pattern),
                                              .part = {.match = KEY_ANY},
                                              .pattern_size = (uint32_t)size};
    memcpy(subscribe->bytes, pattern, size);
    error = turn_send(turn, plugin->instance->directory, &order);
    if (error)
        arena_drop(plugin->arena, order.hold[0]);
    return error;
}

enum weir_error follow_begin(struct turn *turn, struct plugin *plugin)
{
    if (plugin->is_subscribed)
        return WEIR_OK;
    for (uint32_t sub = 1; sub <= plugin->config->pattern_count; sub++) {
        enum weir_error error = subscribe(turn, plugin, sub);
        if (error) {
            /* What stands already is forgotten, and all of it asked for again. */
            (void)!turn_send(turn, plugin->instance->directory, &(struct message){.tag = DIRECTORY_CLOSE});
            plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
            return error;
        }
    }
    plugin->is_subscribed = true;
    return WEIR_OK;
}

void follow_again(struct turn *turn, struct plugin *plugin)
{
    const struct message close = {.tag = DIRECTORY_CLOSE};
    /* The feeds of before are known until each has begun anew, so that what they sent is handled. */
    plugin->is_follow_void = turn_send(turn, plugin->instance->directory, &close) != WEIR_OK;
    if (plugin->is_follow_void) {
        plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
        return;
    }
    plugin->is_subscribed = false;
    (void)!follow_begin(turn, plugin); /* tried again where it failed */
}

void follow_answered(struct turn *turn, struct plugin *plugin, uint32_t sub, enum weir_error error)
{
    bool is_lost = error != WEIR_OK && sub > 0 && sub <= plugin->config->pattern_count;
    if (!is_lost || plugin->is_follow_void)
        return;
    log_error("plugin.subscription", "plugin=%s pattern=%s cause=%s retry_ms=%llu", plugin->config->name,
              plugin->config->patterns[sub - 1], weir_error_code(error),
              (unsigned long long)(PLUGIN_FOLLOW_RETRY_NS / NS_PER_MS));
    plugin->is_follow_void = true;
    /* Not the timer of retries: what else is to be tried again soon would have to wait for this one. */
    weir_timer timer;
    plugin->has_follow_timer =
        plugin->has_follow_timer || timer_start(turn_runtime(turn), turn_self(turn), PLUGIN_FOLLOW_RETRY_NS, 0,
                                                PLUGIN_TIMER_FOLLOW, &timer) == WEIR_OK;
    if (!plugin->has_follow_timer)
        plugin_retry_arm(turn, plugin, PLUGIN_FOLLOW_RETRY_NS);
}

void follow_on_timer(struct turn *turn, struct plugin *plugin)
{
    plugin->has_follow_timer = false;
    if (plugin->is_follow_void && !plugin->is_ending)
        follow_again(turn, plugin);
    else if (!plugin->is_ending && follow_begin(turn, plugin) != WEIR_OK)
        plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
}

/* ---------------------------------------------------------------------------------------------- buried */

/* A topic goes on to have in its state what a processor failed of. One that then gets all that it follows anew would
 * fail of it again, and again lose its state, until it is given up. So it is remembered, by a number that stands for
 * what it says, and left out of what is told anew; published again it is tried again. */
static uint64_t mark_of(struct plugin *plugin, uint32_t index, struct view key, struct view value)
{
    return map_hash(value, map_hash(key, map_hash(place_name(plugin, index), 0)));
}

void follow_buried(struct plugin *plugin, const struct kept *kept)
{
    plugin->buried[plugin->buried_count++ % PLUGIN_BURIED_MAX] =
        mark_of(plugin, kept->place, kept_key(kept), kept_value(kept));
}

bool follow_is_buried(struct plugin *plugin, uint32_t index, struct view key, struct view value)
{
    uint64_t count = plugin->buried_count < PLUGIN_BURIED_MAX ? plugin->buried_count : PLUGIN_BURIED_MAX;
    uint64_t mark = count > 0 ? mark_of(plugin, index, key, value) : 0;
    for (uint64_t i = 0; i < count; i++)
        if (plugin->buried[i] == mark)
            return true;
    return false;
}

/* ------------------------------------------------------------------------------------------------ feeds */

static bool reset_add(struct plugin *plugin, uint32_t index)
{
    static const uint8_t nil = 0xc0;
    return kept_add_reset(plugin, index, view_of(&nil, 1));
}

static bool on_begin(struct turn *turn, struct plugin *plugin, const struct message *message)
{
    const struct topic_begin *begin = arena_data(plugin->arena, message->hold[0]);
    uint32_t index;
    if (begin == NULL || begin->sub == 0 || begin->sub > plugin->config->pattern_count)
        return true;
    if (place_ensure(plugin, view_of(begin->name, begin->name_size), &index) != WEIR_OK) {
        plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
        return false;
    }
    struct place *place = place_at(plugin, index);
    /* What it had before is told anew, unless this goes on where that ended. */
    if (place->has_begun && !begin->resumed && !begin->delta && !reset_add(plugin, index))
        return false;
    if (place->feed != message->detail)
        place->credit_owed = 0; /* of a feed that has ended */
    place_feed_set(plugin, index, message->detail);
    place->has_begun = true;
    place->topic = message->from;
    place->epoch = begin->epoch;
    place->seq = begin->seq;
    place->window = window_of(plugin->config->patterns[begin->sub - 1]);
    return true;
}

static bool on_ended(struct plugin *plugin, uint32_t index)
{
    if (!reset_add(plugin, index))
        return false;
    place_feed_set(plugin, index, 0);
    place_at(plugin, index)->has_begun = false;
    return true;
}

bool follow_message(struct turn *turn, struct plugin *plugin, struct message *message)
{
    if (message->tag == TOPIC_BEGIN)
        return on_begin(turn, plugin, message);
    uint32_t index = place_find_feed(plugin, message->detail);
    if (index == PLACE_NONE) {
        if (message->tag == TOPIC_ENDED && message->word[0] == WEIR_BUSY) /* the topic had no memory for the feed */
            follow_answered(turn, plugin, (uint32_t)message->word[1], WEIR_BUSY);
        return true;
    }
    struct place *place = place_at(plugin, index);
    struct view name = place_name(plugin, index);
    switch (message->tag) {
    case TOPIC_END:
        place->epoch = message->word[0];
        place->seq = message->word[1];
        return true;
    case TOPIC_GAP:
    case TOPIC_CONFLATED:
        log_warning("plugin.gap", "plugin=%s topic=%.*s from=%llu to=%llu", plugin->config->name, (int)name.size,
                    (const char *)name.data, (unsigned long long)message->word[0],
                    (unsigned long long)message->word[1]);
        return true;
    case TOPIC_ENDED: return on_ended(plugin, index);
    default: return true;
    }
}

void follow_credit(struct turn *turn, struct plugin *plugin, uint32_t index, uint32_t bytes)
{
    struct place *place = place_at(plugin, index);
    if (place->feed == 0)
        return;
    place->credit_owed += bytes;
    if (place->credit_owed < place->window / 2)
        return;
    struct message credit = {.tag = TOPIC_CREDIT, .detail = place->feed, .word = {(uint64_t)place->credit_owed}};
    /* Where there is no room for it now, the next one brings it along. */
    if (turn_control(turn, place->topic, &credit) == WEIR_OK)
        place->credit_owed = 0;
}
