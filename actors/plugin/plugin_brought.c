/* What the input in hand brought about so far: noted until its end is told, since all of it counts or none. The bytes
 * stay where the host has them (host.h: take). In the plugin's turns. */
#include "actors/plugin/plugin_state.h"
#include "actors/base/clock.h"
#include "actors/plugin/output_check.h"
#include "clients/wire/name.h"

#include <stdio.h>

#define BROUGHT_FIRST 16u
/* One that took more than usual gives its memory back. */
#define BROUGHT_KEPT 4096u

static enum weir_error brought_grow(struct plugin *plugin, struct brought *brought)
{
    size_t capacity = brought->capacity ? brought->capacity * 2 : BROUGHT_FIRST;
    const size_t size = sizeof *brought->items;
    enum weir_error error =
        arena_grow(plugin->arena, &brought->block, brought->count * size, capacity * size, plugin->budget);
    if (error)
        return error;
    brought->items = arena_data(plugin->arena, brought->block);
    brought->capacity = capacity;
    return WEIR_OK;
}

static bool is_fold(const struct plugin *plugin) { return plugin->config->role == WEIR_ACTOR_FOLD; }

/* Where an emission of the input in hand goes. */
static enum weir_error place_search(struct plugin *plugin, struct view topic, uint32_t *out, char *why, size_t why_size)
{
    const char *names = (const char *)topic.data;
    if (is_fold(plugin)) {
        *out = place_find(plugin, topic);
        if (*out != PLACE_NONE && place_at(plugin, *out)->is_own)
            return WEIR_OK;
        (void)snprintf(why, why_size, "a fold may emit to topics of its own kind, and '%.*s' is none", (int)topic.size,
                       names);
        return WEIR_FORBIDDEN;
    }
    enum weir_error error = place_ensure(plugin, topic, out);
    if (error) {
        (void)snprintf(why, why_size, "no room for one more topic: %s", weir_error_text(error));
        return error;
    }
    struct place *place = place_at(plugin, *out);
    for (size_t i = 0; i < plugin->config->emit_count && !place->may_emit; i++)
        place->may_emit = pattern_matches(view_text(plugin->config->emit[i]), topic);
    if (place->may_emit)
        return WEIR_OK;
    (void)snprintf(why, why_size, "its configuration does not let it emit to '%.*s'", (int)topic.size, names);
    return WEIR_FORBIDDEN;
}

/* The bounds are the runner's, too; but a child's runner is in its own hands. */
static enum weir_error emission_count(const struct plugin *plugin, struct brought *brought,
                                      const struct plugin_output *output, char *why, size_t why_size)
{
    const struct runner_bounds *bounds = &plugin->config->bounds;
    size_t bytes = output->topic.size + output->key.size + output->value.size;
    if (brought->emits < bounds->emits_max && brought->emit_bytes + bytes <= bounds->emit_bytes_max) {
        brought->emits++;
        brought->emit_bytes += bytes;
        return WEIR_OK;
    }
    (void)snprintf(why, why_size, "one message may bring about %u records of %u bytes together",
                   (unsigned)bounds->emits_max, (unsigned)bounds->emit_bytes_max);
    return WEIR_TOO_BIG;
}

static enum weir_error emission_place(struct plugin *plugin, struct brought *brought, struct view topic, uint32_t *out,
                                      char *why, size_t why_size)
{
    const struct places *places = &plugin->places;
    if (brought->last_place < places->used) {
        const struct place *place = &places->items[brought->last_place];
        if (!msg_is_none(place->name) && (is_fold(plugin) ? place->is_own : place->may_emit) &&
            (place->name_text == topic.data || view_is_same(view_of(place->name_text, place->name_size), topic))) {
            *out = brought->last_place;
            return WEIR_OK;
        }
    }
    enum weir_error error = place_search(plugin, topic, out, why, why_size);
    if (!error)
        brought->last_place = *out;
    return error;
}

/* Texts that publishers choose may have made the topic's name: the plugin is not to fail of it, nor are others to wait
 * for its restarts. */
static enum weir_error forbidden_note(struct plugin *plugin, struct brought *brought, const char *why)
{
    uint64_t suppressed;
    brought->has_forbidden = true;
    if (log_limit_pass(&plugin->forbidden, clock_coarse_ns(), &suppressed))
        log_warning("plugin.emission_forbidden", "plugin=%s text=\"%s\" suppressed=%llu", plugin->config->name, why,
                    (unsigned long long)suppressed);
    return WEIR_OK;
}

/* One reply, to what asks. */
static enum weir_error reply_check(struct plugin *plugin, struct brought *brought, const struct plugin_output *output,
                                   char *why, size_t why_size)
{
    const struct kept *kept = kept_at(plugin, plugin->inflight[plugin->inflight_first].position);
    if (kept->kind != WEIR_MESSAGE_ASK || brought->has_reply) {
        (void)snprintf(why, why_size, "a second reply, or one to nobody");
        return WEIR_PROTOCOL;
    }
    brought->has_reply = true;
    return emission_count(plugin, brought, output, why, why_size);
}

/* Puts in what was left out of an emission, since it is the message's own. */
static enum weir_error same_resolve(struct plugin *plugin, struct plugin_output *output, char *why, size_t why_size)
{
    const struct kept *kept = kept_at(plugin, plugin->inflight[plugin->inflight_first].position);
    bool has_topic = (output->same & OUTPUT_SAME_TOPIC) != 0, has_key = (output->same & OUTPUT_SAME_KEY) != 0;
    bool has_value = (output->same & OUTPUT_SAME_VALUE) != 0;
    if ((has_topic && kept->place == PLACE_NONE) || (has_key && !kept->has_key) ||
        (has_value && kept->value_size == 0)) {
        (void)snprintf(why, why_size, "it emits what its message does not have");
        return WEIR_PROTOCOL;
    }
    if (has_topic) {
        output->topic = place_name(plugin, kept->place);
        plugin->brought.last_place = kept->place;
    }
    if (has_key)
        output->key = kept_key(kept);
    if (has_value)
        output->value = kept_value(kept);
    /* All the rest was checked when it came. */
    const struct output_known known = {.topic = true, .key = true, .value = output_known(output).value};
    bool is_good = !has_value || emission_check(output, known, &plugin->config->bounds, why, why_size);
    return is_good ? WEIR_OK : WEIR_PROTOCOL;
}

/* An emission of the input in hand, whole, and where it goes. */
static enum weir_error emission_take(struct plugin *plugin, struct brought *brought, struct plugin_output *output,
                                     uint32_t *place, char *why, size_t why_size)
{
    enum weir_error error = output->same == 0 ? WEIR_OK : same_resolve(plugin, output, why, why_size);
    if (!error)
        error = emission_count(plugin, brought, output, why, why_size);
    if (!error && output->update_size > 0 && !is_fold(plugin)) {
        (void)snprintf(why, why_size, "a processor emits records: only a fold's topics keep a merged form");
        error = WEIR_BAD_REQUEST;
    }
    return error ? error : emission_place(plugin, brought, output->topic, place, why, why_size);
}

enum weir_error brought_add(struct plugin *plugin, struct brought *brought, struct plugin_output *output, char *why,
                            size_t why_size)
{
    uint32_t place = PLACE_NONE;
    if (output->kind == OUTPUT_EMIT) {
        enum weir_error error = emission_take(plugin, brought, output, &place, why, why_size);
        if (error)
            return error == WEIR_FORBIDDEN ? forbidden_note(plugin, brought, why) : error;
    } else if (output->kind == OUTPUT_REPLY) {
        enum weir_error error = reply_check(plugin, brought, output, why, why_size);
        if (error)
            return error;
    }
    if (brought->count == brought->capacity && brought_grow(plugin, brought) != WEIR_OK) {
        (void)snprintf(why, why_size, "no memory for what it brought about");
        return WEIR_NO_MEMORY;
    }
    brought->items[brought->count++] = (struct brought_item){.key = output->key,
                                                             .value = output->value,
                                                             .timer = output->timer,
                                                             .delay_ms = output->delay_ms,
                                                             .period_ms = output->period_ms,
                                                             .place = place,
                                                             .update_size = output->update_size,
                                                             .kind = (uint8_t)output->kind,
                                                             .has_key = output->has_key};
    place_hold(plugin, place);
    return WEIR_OK;
}

void brought_clear(struct plugin *plugin, struct brought *brought)
{
    for (size_t at = brought->at; at < brought->count; at++)
        place_drop(plugin, brought->items[at].place);
    if (brought->capacity > BROUGHT_KEPT) {
        arena_drop(plugin->arena, brought->block);
        brought->block = WEIR_MSG_NONE;
        brought->items = NULL;
        brought->capacity = 0;
    }
    brought->count = brought->at = 0;
    brought->emits = 0;
    brought->emit_bytes = 0;
    brought->has_forbidden = brought->has_reply = false;
    brought->is_committing = false;
}

void brought_fini(struct plugin *plugin, struct brought *brought)
{
    brought_clear(plugin, brought);
    arena_drop(plugin->arena, brought->block);
    *brought = (struct brought){.count = 0};
}

void brought_timers_apply(struct turn *turn, struct plugin *plugin, struct brought *brought, bool is_replay)
{
    for (size_t at = 0; at < brought->count; at++)
        plugin_timers_apply(turn, plugin, &brought->items[at], plugin->now_ms, is_replay);
    brought_clear(plugin, brought);
}
