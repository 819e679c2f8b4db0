/* The plugin `threshold`: alerts that are raised when a number has been beyond a limit for a while and cleared when it
 * has come back far enough for a while. README.md of the folder above says how it is used.
 *
 * Only keys that are not at rest are remembered: those on their way to an alert and those with one. A message settles
 * first what became due before it came, so that what is raised when does not hang on when timers are delivered. */
#include "actors/plugins/threshold/threshold.h"

#include "actors/plugins/kit_ask.h"

enum {
    FORM = 1,
    /* Alerts that one timer settles; the rest in another at once, since hosts bound what one message brings about. */
    SETTLE_MAX = 500,
    TIMER_DUE = 1,
};

enum phase { RISING, RAISED, CLEARING };

struct alert {
    struct kit_entry entry; /* by the rule's index and (topic, key) */
    enum phase phase;
    uint64_t since_ms;   /* when the phase began */
    uint64_t crossed_ms; /* when the limit was crossed */
    double value;        /* the latest */
};

struct threshold {
    struct settings settings;
    struct kit_table alerts;
    bool is_armed;
    uint64_t armed_ms; /* when the timer fires */
};

static enum weir_actor_result threshold_init(struct weir_self *self, struct weir_bytes config, void **state)
{
    struct threshold *threshold = weir_alloc(self, sizeof *threshold);
    if (threshold == NULL)
        return kit_fail(self, "no memory: memory_bytes_max is too small");
    memset(threshold, 0, sizeof *threshold);
    threshold->settings.kept = kit_keep(self, config);
    if (threshold->settings.kept.data == NULL)
        return kit_fail(self, "no memory: memory_bytes_max is too small");
    enum weir_actor_result result = settings_read(self, &threshold->settings);
    if (result != WEIR_ACTOR_OK)
        return result;
    if (!kit_table_init(self, &threshold->alerts, (uint32_t)threshold->settings.keys_max))
        return kit_fail(self, "no memory: memory_bytes_max is too small");
    *state = threshold;
    return WEIR_ACTOR_OK;
}

/* ------------------------------------------------------------------------------------------------ alerts */

static struct weir_bytes alert_id(char memory[KIT_ID_MAX + 1], uint32_t rule, struct weir_bytes topic,
                                  struct weir_bytes key)
{
    memory[0] = (char)(uint8_t)rule;
    return weir_bytes_of(memory, 1 + kit_id(memory + 1, topic, key).size);
}

static const struct rule *id_rule(const struct threshold *threshold, struct weir_bytes id)
{
    return &threshold->settings.rules[*(const uint8_t *)id.data];
}

static bool is_beyond(const struct rule *rule, double value)
{
    return rule->is_above ? value > rule->limit : value < rule->limit;
}

static bool is_back(const struct rule *rule, double value)
{
    return rule->is_above ? value <= rule->clear : value >= rule->clear;
}

static void put_text(struct weir_self *self, struct weir_writer *writer, const char *name, struct weir_bytes text)
{
    kit_put_text(self, writer, name);
    kit_put_str(self, writer, text);
}

/* Tells that an alert was raised or cleared at a time. value: the latest, or none when its key was removed. */
static enum weir_actor_result alert_emit(struct weir_self *self, const struct threshold *threshold,
                                         const struct alert *alert, bool is_raised, uint64_t time_ms,
                                         const double *value)
{
    char memory[512], key_memory[KIT_KEY_MAX + 1 + RULE_NAME_MAX];
    struct weir_writer writer = {memory, 0, sizeof memory, false};
    const struct rule *rule = id_rule(threshold, alert->entry.id);
    struct weir_bytes id = weir_bytes_of((const char *)alert->entry.id.data + 1, alert->entry.id.size - 1);
    struct weir_bytes topic = kit_id_topic(id), key = kit_id_key(id);
    if (threshold->settings.rule_count > 1) {
        memcpy(key_memory, key.data, key.size);
        key_memory[key.size] = ':';
        memcpy(key_memory + key.size + 1, rule->name.data, rule->name.size);
        key = weir_bytes_of(key_memory, key.size + 1 + rule->name.size);
    }
    if (!is_raised && threshold->settings.removes_cleared)
        return weir_emit(self, topic, key, weir_bytes_of("\xc0", 1));
    kit_put_map(self, &writer, 6);
    put_text(self, &writer, "alert", rule->name);
    put_text(self, &writer, "state", kit_of(is_raised ? "raised" : "cleared"));
    kit_put_text(self, &writer, "value");
    if (value != NULL)
        kit_put_double(self, &writer, *value);
    else
        kit_put_nil(self, &writer);
    kit_put_text(self, &writer, "limit");
    kit_put_double(self, &writer, is_raised ? rule->limit : rule->clear);
    kit_put_text(self, &writer, "since_ms");
    kit_put_uint(self, &writer, alert->crossed_ms);
    kit_put_text(self, &writer, "time_ms");
    kit_put_uint(self, &writer, time_ms);
    return weir_emit(self, topic, key, weir_bytes_of(memory, writer.size));
}

/* When a phase ends by time alone; UINT64_MAX: never. */
static uint64_t alert_due(const struct threshold *threshold, const struct alert *alert)
{
    const struct rule *rule = id_rule(threshold, alert->entry.id);
    if (alert->phase == RAISED)
        return UINT64_MAX;
    return alert->since_ms + (alert->phase == RISING ? rule->hold_ms : rule->clear_hold_ms);
}

/* Does what became due at now_ms at the latest. *pointer is NULL afterwards when the alert was cleared. */
static enum weir_actor_result alert_settle(struct weir_self *self, struct threshold *threshold, struct alert **pointer,
                                           uint64_t now_ms)
{
    struct alert *alert = *pointer;
    uint64_t due_ms = alert_due(threshold, alert);
    if (due_ms > now_ms)
        return WEIR_ACTOR_OK;
    bool is_raised = alert->phase == RISING;
    enum weir_actor_result result = alert_emit(self, threshold, alert, is_raised, due_ms, &alert->value);
    if (is_raised) {
        alert->phase = RAISED;
        alert->since_ms = due_ms;
    } else {
        kit_table_remove(self, &threshold->alerts, &alert->entry);
        *pointer = NULL;
    }
    return result;
}

/* A number of a key that has an alert or is on its way to one; *pointer as with alert_settle. */
static enum weir_actor_result alert_follow(struct weir_self *self, struct threshold *threshold, struct alert **pointer,
                                           double value, uint64_t now_ms)
{
    struct alert *alert = *pointer;
    const struct rule *rule = id_rule(threshold, alert->entry.id);
    alert->value = value;
    if (alert->phase == RISING && !is_beyond(rule, value)) {
        kit_table_remove(self, &threshold->alerts, &alert->entry);
        *pointer = NULL;
        return WEIR_ACTOR_OK;
    }
    if (alert->phase == RAISED && is_back(rule, value)) {
        alert->phase = CLEARING;
        alert->since_ms = now_ms;
    } else if (alert->phase == CLEARING && !is_back(rule, value)) {
        alert->phase = RAISED;
        alert->since_ms = now_ms;
    }
    return alert_settle(self, threshold, pointer, now_ms);
}

/* Keeps the timer at what is due first. */
static enum weir_actor_result timer_keep(struct weir_self *self, struct threshold *threshold, uint64_t due_ms,
                                         uint64_t now_ms)
{
    if (due_ms == UINT64_MAX || (threshold->is_armed && threshold->armed_ms <= due_ms))
        return WEIR_ACTOR_OK;
    threshold->is_armed = true;
    threshold->armed_ms = due_ms;
    return weir_timer_set(self, TIMER_DUE, due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

/* ------------------------------------------------------------------------------------------------ handling */

/* One rule and one number. */
static enum weir_actor_result rule_apply(struct weir_self *self, struct threshold *threshold, struct weir_bytes id,
                                         double value, uint64_t now_ms)
{
    struct alert *alert = (struct alert *)kit_table_find(&threshold->alerts, id);
    enum weir_actor_result result = WEIR_ACTOR_OK;
    if (alert != NULL)
        result = alert_settle(self, threshold, &alert, now_ms);
    if (result != WEIR_ACTOR_OK)
        return result;
    if (alert != NULL) {
        result = alert_follow(self, threshold, &alert, value, now_ms);
    } else if (is_beyond(id_rule(threshold, id), value)) {
        alert = (struct alert *)kit_table_add(self, &threshold->alerts, id, sizeof *alert);
        if (alert == NULL)
            return kit_fail(self, "no memory for one more alert: raise memory_bytes_max, or lower keys_max");
        alert->phase = RISING;
        alert->since_ms = alert->crossed_ms = now_ms;
        alert->value = value;
        result = alert_settle(self, threshold, &alert, now_ms);
    }
    if (result != WEIR_ACTOR_OK || alert == NULL)
        return result;
    return timer_keep(self, threshold, alert_due(threshold, alert), now_ms);
}

/* The key is gone, and its alert with it. */
static enum weir_actor_result rule_remove(struct weir_self *self, struct threshold *threshold, struct weir_bytes id,
                                          uint64_t now_ms)
{
    struct alert *alert = (struct alert *)kit_table_find(&threshold->alerts, id);
    enum weir_actor_result result = WEIR_ACTOR_OK;
    if (alert != NULL)
        result = alert_settle(self, threshold, &alert, now_ms);
    if (alert == NULL || result != WEIR_ACTOR_OK)
        return result;
    if (alert->phase != RISING)
        result = alert_emit(self, threshold, alert, false, now_ms, NULL);
    kit_table_remove(self, &threshold->alerts, &alert->entry);
    return result;
}

/* Whether there is room for what a number may raise: asked before the first rule changes anything. */
static bool has_room(struct weir_self *self, const struct threshold *threshold, struct weir_bytes topic,
                     struct weir_bytes key, double value)
{
    char memory[KIT_ID_MAX + 1];
    uint32_t wanted = 0;
    for (uint32_t i = 0; i < threshold->settings.rule_count; i++)
        wanted += is_beyond(&threshold->settings.rules[i], value) &&
                  kit_table_find(&threshold->alerts, alert_id(memory, i, topic, key)) == NULL;
    if (wanted <= threshold->alerts.max - threshold->alerts.count)
        return true;
    kit_refuse(self, "keys_max: %u alerts are raised or about to be", (unsigned)threshold->alerts.count);
    return false;
}

/* The key and the number of a record; a removal has none. False with weir_fail called. */
static bool record_read(struct weir_self *self, const struct settings *settings, const struct weir_message *message,
                        bool is_removal, char number[KIT_NUMBER_TEXT_MAX], struct weir_bytes *key, double *value)
{
    struct weir_bytes field;
    if (!kit_group(self, settings->by, message, number, key))
        return false;
    if (settings->rule_count > 1 && key->size + 1 + RULE_NAME_MAX > KIT_KEY_MAX) {
        kit_refuse(self, "a key of %zu bytes leaves no room for the rule's name behind it", key->size);
        return false;
    }
    if (is_removal || (kit_field(self, message->value, settings->field, &field) && kit_number(self, field, value)))
        return true;
    kit_refuse(self, "the value has no number at '%.*s'", (int)settings->field.size,
               settings->field.size > 0 ? (const char *)settings->field.data : "");
    return false;
}

static enum weir_actor_result record_take(struct weir_self *self, struct threshold *threshold,
                                          const struct weir_message *message)
{
    const struct settings *settings = &threshold->settings;
    char topic_memory[KIT_TOPIC_MAX], number[KIT_NUMBER_TEXT_MAX], id_memory[KIT_ID_MAX + 1];
    struct weir_bytes topic, key;
    double value = 0;
    bool is_removal = kit_is_nil(message->value) && settings->by.size == 0;
    if (!record_read(self, settings, message, is_removal, number, &key, &value))
        return settings->skips_missing ? WEIR_ACTOR_OK : WEIR_ACTOR_REFUSED;
    if (!kit_target(self, settings->to, message, topic_memory, &topic))
        return WEIR_ACTOR_REFUSED;
    if (!is_removal && !has_room(self, threshold, topic, key, value))
        return WEIR_ACTOR_REFUSED;
    for (uint32_t i = 0; i < settings->rule_count; i++) {
        struct weir_bytes id = alert_id(id_memory, i, topic, key);
        enum weir_actor_result result = is_removal ? rule_remove(self, threshold, id, message->time_ms)
                                                   : rule_apply(self, threshold, id, value, message->time_ms);
        if (result != WEIR_ACTOR_OK)
            return result;
    }
    return WEIR_ACTOR_OK;
}

static enum weir_actor_result timer_take(struct weir_self *self, struct threshold *threshold,
                                         const struct weir_message *message)
{
    uint64_t next_ms = UINT64_MAX;
    uint32_t settled = 0;
    threshold->is_armed = false;
    for (struct kit_entry *entry = threshold->alerts.oldest, *newer = NULL; entry != NULL; entry = newer) {
        struct alert *alert = (struct alert *)entry;
        newer = entry->newer;
        if (alert_due(threshold, alert) <= message->time_ms && settled < SETTLE_MAX) {
            enum weir_actor_result result = alert_settle(self, threshold, &alert, message->time_ms);
            if (result != WEIR_ACTOR_OK)
                return result;
            settled++;
        }
        if (alert != NULL && alert_due(threshold, alert) < next_ms)
            next_ms = alert_due(threshold, alert);
    }
    return timer_keep(self, threshold, next_ms, message->time_ms);
}

static void topic_forget(struct weir_self *self, struct threshold *threshold, struct weir_bytes topic)
{
    for (struct kit_entry *entry = threshold->alerts.oldest, *newer = NULL; entry != NULL; entry = newer) {
        newer = entry->newer;
        struct weir_bytes id =
            weir_bytes_of((const char *)entry->id.data + 1, entry->id.size - 1); /* behind the rule */
        if (kit_same(kit_id_topic(id), topic))
            kit_table_remove(self, &threshold->alerts, entry);
    }
}

/* Where a key stands with each rule that it is not at rest with. */
static enum weir_actor_result key_ask(struct weir_self *self, const struct threshold *threshold,
                                      const struct weir_message *message)
{
    static const char *const phases[] = {[RISING] = "rising", [RAISED] = "raised", [CLEARING] = "clearing"};
    const struct alert *alerts[RULES_MAX];
    struct weir_message question;
    char memory[KIT_ID_MAX + 1];
    uint32_t count = 0;
    if (!kit_question_state(self, message, threshold->settings.to, &question))
        return WEIR_ACTOR_REFUSED;
    struct weir_bytes key = question.key.data != NULL ? question.key : kit_of("all");
    for (uint32_t i = 0; i < threshold->settings.rule_count; i++) {
        alerts[count] =
            (const struct alert *)kit_table_find(&threshold->alerts, alert_id(memory, i, question.topic, key));
        count += alerts[count] != NULL;
    }
    struct weir_writer reply = kit_reply_begin(self, 16 + (size_t)RULES_MAX * 128);
    kit_put_array(self, &reply, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct rule *rule = id_rule(threshold, alerts[i]->entry.id);
        kit_put_map(self, &reply, 5);
        put_text(self, &reply, "alert", rule->name);
        put_text(self, &reply, "state", kit_of(phases[alerts[i]->phase]));
        kit_put_text(self, &reply, "value");
        kit_put_double(self, &reply, alerts[i]->value);
        kit_put_text(self, &reply, "limit");
        kit_put_double(self, &reply, alerts[i]->phase == RISING ? rule->limit : rule->clear);
        kit_put_text(self, &reply, "since_ms");
        kit_put_uint(self, &reply, alerts[i]->crossed_ms);
    }
    return kit_reply(self, &reply);
}

static enum weir_actor_result threshold_handle(struct weir_self *self, void *state, const struct weir_message *message)
{
    struct threshold *threshold = state;
    switch (message->kind) {
    case WEIR_MESSAGE_RECORD: return record_take(self, threshold, message);
    case WEIR_MESSAGE_ENTRY:
        return threshold->settings.takes_entries ? record_take(self, threshold, message) : WEIR_ACTOR_OK;
    case WEIR_MESSAGE_TIMER: return timer_take(self, threshold, message);
    case WEIR_MESSAGE_RESET:
        if (kit_clears(self, message))
            topic_forget(self, threshold, message->topic);
        return WEIR_ACTOR_OK;
    case WEIR_MESSAGE_ASK: return key_ask(self, threshold, message);
    default: return WEIR_ACTOR_OK;
    }
}

/* ---------------------------------------------------------------------------------------------- snapshot */

/* [1, [[rule's name, id, phase, since_ms, crossed_ms, value]...]]: by names, so that rules may be added and moved. */
static enum weir_actor_result threshold_snapshot(struct weir_self *self, void *state, struct weir_writer *out)
{
    const struct threshold *threshold = state;
    kit_put_array(self, out, 2);
    kit_put_uint(self, out, FORM);
    kit_put_array(self, out, threshold->alerts.count);
    for (const struct kit_entry *entry = threshold->alerts.oldest; entry != NULL && !out->is_full;
         entry = entry->newer) {
        const struct alert *alert = (const struct alert *)entry;
        kit_put_array(self, out, 6);
        kit_put_bin(self, out, id_rule(threshold, entry->id)->name);
        kit_put_bin(self, out, weir_bytes_of((const char *)entry->id.data + 1, entry->id.size - 1));
        kit_put_uint(self, out, (uint64_t)alert->phase);
        kit_put_uint(self, out, alert->since_ms);
        kit_put_uint(self, out, alert->crossed_ms);
        kit_put_double(self, out, alert->value);
    }
    return WEIR_ACTOR_OK;
}

static bool alert_read(struct weir_self *self, struct threshold *threshold, struct weir_reader *reader)
{
    char memory[KIT_ID_MAX + 1];
    uint32_t rule = 0;
    if (kit_want_array(self, reader) != 6)
        return false;
    struct weir_bytes name = kit_want_bin(self, reader), id = kit_want_bin(self, reader);
    uint64_t phase = kit_want_uint(self, reader), since_ms = kit_want_uint(self, reader);
    uint64_t crossed_ms = kit_want_uint(self, reader);
    double value = kit_want_double(self, reader);
    if (reader->is_bad || !kit_id_is_whole(id) || phase > CLEARING)
        return false;
    while (rule < threshold->settings.rule_count && !kit_same(threshold->settings.rules[rule].name, name))
        rule++;
    if (rule == threshold->settings.rule_count)
        return true;
    struct weir_bytes whole = alert_id(memory, rule, kit_id_topic(id), kit_id_key(id));
    if (kit_table_find(&threshold->alerts, whole) != NULL)
        return false;
    struct alert *alert = (struct alert *)kit_table_add(self, &threshold->alerts, whole, sizeof *alert);
    if (alert == NULL)
        return false;
    alert->phase = (enum phase)phase;
    alert->since_ms = since_ms;
    alert->crossed_ms = crossed_ms;
    alert->value = value;
    return true;
}

static enum weir_actor_result threshold_restore(struct weir_self *self, void *state, struct weir_bytes snapshot)
{
    struct threshold *threshold = state;
    struct weir_reader reader = {snapshot, false};
    if (kit_want_array(self, &reader) != 2 || kit_want_uint(self, &reader) != FORM)
        return kit_fail(self, "this is no snapshot of threshold 1.0");
    uint32_t count = kit_want_array(self, &reader);
    for (uint32_t i = 0; i < count && !reader.is_bad; i++) {
        if (!alert_read(self, threshold, &reader))
            return kit_fail(self, "the snapshot's alert %u cannot be taken: malformed, or beyond keys_max or memory",
                            (unsigned)i + 1);
    }
    if (reader.is_bad)
        return kit_fail(self, "the snapshot is malformed");
    /* What the time is, a timer tells. */
    return threshold->alerts.count > 0 ? timer_keep(self, threshold, 0, 0) : WEIR_ACTOR_OK;
}

static void threshold_stop(struct weir_self *self, void *state)
{
    struct threshold *threshold = state;
    kit_table_fini(self, &threshold->alerts);
    weir_free(self, (void *)(uintptr_t)threshold->settings.kept.data);
    weir_free(self, threshold);
}

KIT_PLUGIN(threshold, "alerts with hysteresis and hold times");
