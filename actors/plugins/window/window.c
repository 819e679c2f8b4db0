/* The plugin `window`: count, sum, mean, least, greatest and quantiles of a number, over windows of time that tumble or
 * slide, for each topic and key. README.md of the folder above says how it is used.
 *
 * Time is cut into panes of slide_ms; a window is size / slide of them, so that a record is counted once however many
 * windows it falls into. Windows are closed by the watermark: the broker's clock (the messages' time_ms and a timer at
 * each boundary), or, with `time`, the latest time in the records less lateness_ms. A group catches up with the
 * watermark when a record comes for it, else in a sweep; so no message ever closes more than a bounded number of
 * windows. */
#include "actors/plugins/window/window.h"

#include "actors/plugins/kit_target.h"

/* Where windows are closed up to: those that end with an earlier pane. */
static uint64_t closed_by(const struct window *window) { return window->watermark_ms / window->settings.slide_ms; }

static enum weir_actor_result window_init(struct weir_self *self, struct weir_bytes config, void **state)
{
    struct window *window = weir_alloc(self, sizeof *window);
    if (window == NULL)
        return kit_fail(self, "no memory: memory_bytes_max is too small");
    memset(window, 0, sizeof *window);
    struct weir_bytes kept = kit_keep(self, config);
    if (kept.data == NULL || !kit_table_init(self, &window->groups, 1))
        return kit_fail(self, "no memory: memory_bytes_max is too small");
    enum weir_actor_result result = settings_read(self, kept, &window->settings, &window->scale);
    if (result != WEIR_ACTOR_OK)
        return result;
    window->settings.kept = kept;
    window->groups.max = (uint32_t)window->settings.keys_max;
    *state = window;
    return WEIR_ACTOR_OK;
}

/* Closes what the watermark has passed, as much as one message may emit, and arms the timer for the rest or the next
 * boundary. */
static enum weir_actor_result sweep(struct weir_self *self, struct window *window, uint64_t now_ms)
{
    uint64_t closed = closed_by(window);
    uint32_t emitted = 0;
    while (window->groups.count > 0 && emitted < SWEEP_EMITS_MAX) {
        struct group *oldest = (struct group *)window->groups.oldest;
        if (oldest->closed >= closed)
            break;
        enum weir_actor_result result = group_close(self, window, &oldest, closed, &emitted);
        if (result != WEIR_ACTOR_OK)
            return result;
    }
    if (window->is_armed || window->groups.count == 0)
        return WEIR_ACTOR_OK;
    bool has_rest = ((struct group *)window->groups.oldest)->closed < closed;
    if (!has_rest && window->settings.time.size > 0)
        return WEIR_ACTOR_OK;
    window->is_armed = true;
    uint64_t boundary_ms = (closed + 1) * window->settings.slide_ms;
    return weir_timer_set(self, TIMER_SWEEP, has_rest || boundary_ms <= now_ms ? 0 : boundary_ms - now_ms, 0);
}

/* The number and the time of a record. REFUSED with weir_fail called. */
static enum weir_actor_result record_read(struct weir_self *self, const struct window *window,
                                          const struct weir_message *message, double *number, uint64_t *time_ms)
{
    const struct settings *settings = &window->settings;
    struct weir_bytes field;
    if (!kit_field(self, message->value, settings->field, &field) || !kit_number(self, field, number))
        return kit_refuse(self, "the value has no number at '%.*s'", (int)settings->field.size,
                          settings->field.size > 0 ? (const char *)settings->field.data : "");
    *time_ms = message->time_ms;
    if (settings->time.size == 0)
        return WEIR_ACTOR_OK;
    if (!kit_field(self, message->value, settings->time, &field) || !kit_uint(self, field, time_ms))
        return kit_refuse(self, "the value has no time in milliseconds at '%.*s'", (int)settings->time.size,
                          (const char *)settings->time.data);
    /* One wrong clock must not close everybody's windows. */
    if (*time_ms > message->time_ms && *time_ms - message->time_ms > settings->ahead_ms)
        return kit_refuse(self, "its time is %llu ms ahead of the broker's; ahead_ms is %llu",
                          (unsigned long long)(*time_ms - message->time_ms), (unsigned long long)settings->ahead_ms);
    return WEIR_ACTOR_OK;
}

static void watermark_raise(struct window *window, uint64_t time_ms)
{
    uint64_t lateness_ms = window->settings.lateness_ms;
    uint64_t mark_ms = time_ms > lateness_ms ? time_ms - lateness_ms : 0;
    if (mark_ms > window->watermark_ms)
        window->watermark_ms = mark_ms;
}

/* Counts and tells what is left out: the first, and then fewer and fewer lines. */
static void tally(struct weir_self *self, uint64_t *count, const char *what)
{
    char text[KIT_TEXT_MAX];
    uint64_t now = ++*count;
    if ((now & (now - 1)) != 0)
        return;
    snprintf(text, sizeof text, "%llu %s", (unsigned long long)now, what);
    weir_log(self, WEIR_LOG_WARNING, text);
}

/* Where a new key finds the table full, closes what its time has passed. Where that cannot help the record is refused;
 * where it did not it is left out (*is_stuck): what was closed for it must stay closed. */
static enum weir_actor_result room_make(struct weir_self *self, struct window *window, struct weir_bytes id,
                                        uint64_t time_ms, uint64_t now_ms, bool *is_stuck)
{
    if (!kit_table_is_full(&window->groups) || kit_table_find(&window->groups, id) != NULL)
        return WEIR_ACTOR_OK;
    uint64_t before_ms = window->watermark_ms;
    watermark_raise(window, time_ms);
    if (((struct group *)window->groups.oldest)->closed >= closed_by(window)) {
        window->watermark_ms = before_ms;
        return kit_refuse(self, "keys_max: windows of %u keys are open", (unsigned)window->groups.max);
    }
    enum weir_actor_result result = sweep(self, window, now_ms);
    *is_stuck = result == WEIR_ACTOR_OK && kit_table_is_full(&window->groups);
    if (*is_stuck)
        tally(self, &window->dropped, "record(s) of new keys left out: windows of keys_max keys are open");
    return result;
}

/* The group of an id, caught up with the watermark. */
static enum weir_actor_result group_take(struct weir_self *self, struct window *window, struct weir_bytes id,
                                         struct group **out)
{
    uint64_t closed = closed_by(window);
    uint32_t emitted = 0;
    bool is_full = false;
    struct group *group = (struct group *)kit_table_find(&window->groups, id);
    if (group != NULL && group->closed < closed) {
        enum weir_actor_result result = group_close(self, window, &group, closed, &emitted);
        if (result != WEIR_ACTOR_OK)
            return result;
    }
    *out = group_ensure(self, window, id, &is_full);
    if (*out == NULL)
        return kit_fail(self, "no memory for one more key: raise memory_bytes_max, or lower keys_max");
    if ((*out)->closed < closed)
        (*out)->closed = closed;
    return WEIR_ACTOR_OK;
}

static enum weir_actor_result record_take(struct weir_self *self, struct window *window,
                                          const struct weir_message *message)
{
    char topic_memory[KIT_TOPIC_MAX], number_memory[KIT_NUMBER_TEXT_MAX], id_memory[KIT_ID_MAX];
    struct weir_bytes topic, key;
    struct group *group = NULL;
    double number = 0;
    uint64_t time_ms = 0;
    if (kit_is_nil(message->value))
        return WEIR_ACTOR_OK;
    if (record_read(self, window, message, &number, &time_ms) != WEIR_ACTOR_OK ||
        !kit_group(self, window->settings.by, message, number_memory, &key))
        return window->settings.skips_missing ? WEIR_ACTOR_OK : WEIR_ACTOR_REFUSED;
    if (!kit_target(self, window->settings.to, message, topic_memory, &topic))
        return WEIR_ACTOR_REFUSED;
    struct weir_bytes id = kit_id(id_memory, topic, key);
    bool is_stuck = false;
    enum weir_actor_result result = room_make(self, window, id, time_ms, message->time_ms, &is_stuck);
    if (result != WEIR_ACTOR_OK || is_stuck)
        return result;
    watermark_raise(window, time_ms);
    uint64_t index = time_ms / window->settings.slide_ms;
    if (index < closed_by(window)) {
        tally(self, &window->late,
              "record(s) came after their window had been closed: raise lateness_ms to count them");
        return sweep(self, window, message->time_ms);
    }
    result = group_take(self, window, id, &group);
    if (result != WEIR_ACTOR_OK)
        return result;
    if (!group_add(self, window, group, index, number))
        return kit_fail(self, "no memory for the quantiles: raise memory_bytes_max, or lower buckets_max or keys_max");
    if (window->settings.emits_each) {
        bool is_empty = false;
        result = group_emit(self, window, group, index, false, &is_empty);
    }
    return result == WEIR_ACTOR_OK ? sweep(self, window, message->time_ms) : result;
}

static void topic_forget(struct weir_self *self, struct window *window, struct weir_bytes topic)
{
    for (struct kit_entry *entry = window->groups.oldest, *newer = NULL; entry != NULL; entry = newer) {
        newer = entry->newer;
        if (kit_same(kit_id_topic(entry->id), topic))
            group_remove(self, window, (struct group *)entry);
    }
}

static enum weir_actor_result window_handle(struct weir_self *self, void *state, const struct weir_message *message)
{
    struct window *window = state;
    switch (message->kind) {
    case WEIR_MESSAGE_RECORD: return record_take(self, window, message);
    case WEIR_MESSAGE_ENTRY: return window->settings.takes_entries ? record_take(self, window, message) : WEIR_ACTOR_OK;
    case WEIR_MESSAGE_TIMER:
        window->is_armed = false;
        if (window->settings.time.size == 0)
            watermark_raise(window, message->time_ms);
        return sweep(self, window, message->time_ms);
    case WEIR_MESSAGE_RESET:
        if (kit_clears(self, message))
            topic_forget(self, window, message->topic);
        return WEIR_ACTOR_OK;
    case WEIR_MESSAGE_ASK: return group_ask(self, window, message);
    default: return WEIR_ACTOR_OK;
    }
}

static void window_stop(struct weir_self *self, void *state)
{
    struct window *window = state;
    while (window->groups.oldest != NULL)
        group_remove(self, window, (struct group *)window->groups.oldest);
    kit_table_fini(self, &window->groups);
    sketch_fini(self, &window->scratch);
    weir_free(self, (void *)(uintptr_t)window->settings.kept.data);
    weir_free(self, window);
}

KIT_PLUGIN(window, "count, sum, mean, min, max and quantiles over tumbling and sliding windows");
