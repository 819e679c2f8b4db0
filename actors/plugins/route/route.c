/* The plugin `route`: filters, forwards and rewrites records by rules in its configuration. README.md of the folder
 * above says how it is used. Its state is the configuration, so that a snapshot is empty. */
#include "actors/plugins/route/route.h"

#include "actors/plugins/kit_ask.h"

/* Of what would become of a record. */
enum { REPLY_SIZE_MAX = 1 << 18 };

static enum weir_actor_result route_init(struct weir_self *self, struct weir_bytes config, void **state)
{
    struct route *route = weir_alloc(self, sizeof *route);
    if (route == NULL)
        return kit_fail(self, "no memory: memory_bytes_max is too small");
    memset(route, 0, sizeof *route);
    route->takes_entries = true;
    route->kept = kit_keep(self, config);
    if (route->kept.data == NULL)
        return kit_fail(self, "no memory: memory_bytes_max is too small");
    *state = route;
    return rules_read(self, route);
}

/* What a rule makes of a record. topic and key may be in the memory given, value in *memory, which is to be freed. */
static enum weir_actor_result rule_make(struct weir_self *self, const struct rule *rule,
                                        const struct weir_message *message, char topic_memory[KIT_TOPIC_MAX],
                                        char key_memory[KIT_KEY_MAX], struct weir_message *out, void **memory)
{
    *out = *message;
    if (!kit_target(self, rule->to, message, topic_memory, &out->topic))
        return WEIR_ACTOR_REFUSED;
    if (rule->key.size > 0 && !kit_expand(self, rule->key, message, key_memory, KIT_KEY_MAX, &out->key))
        return WEIR_ACTOR_REFUSED;
    if (self->role == WEIR_ACTOR_FOLD && out->key.data == NULL)
        return kit_refuse(self, "the record has no key, and a fold keeps values by key");
    return value_rewrite(self, rule, message, &out->value, memory);
}

static enum weir_actor_result rule_apply(struct weir_self *self, const struct rule *rule,
                                         const struct weir_message *message)
{
    char topic_memory[KIT_TOPIC_MAX], key_memory[KIT_KEY_MAX];
    struct weir_message made;
    void *memory = NULL;
    enum weir_actor_result result = rule_make(self, rule, message, topic_memory, key_memory, &made, &memory);
    if (result == WEIR_ACTOR_OK)
        result = weir_emit(self, made.topic, made.key, made.value);
    weir_free(self, memory);
    return result;
}

static enum weir_actor_result record_take(struct weir_self *self, const struct route *route,
                                          const struct weir_message *message)
{
    bool is_matched = false;
    for (uint32_t i = 0; i < route->rule_count; i++) {
        const struct rule *rule = &route->rules[i];
        if (!rule_matches(self, rule, message))
            continue;
        is_matched = true;
        if (rule->is_drop)
            return WEIR_ACTOR_OK;
        enum weir_actor_result result = rule_apply(self, rule, message);
        if (result != WEIR_ACTOR_OK || !rule->goes_on)
            return result;
    }
    if (is_matched || !route->refuses_others)
        return WEIR_ACTOR_OK;
    return kit_refuse(self, "no rule is for this record");
}

/* Writes what a rule would do with a record. */
static enum weir_actor_result rule_tell(struct weir_self *self, const struct route *route, uint32_t index,
                                        const struct weir_message *record, struct weir_writer *out)
{
    const struct rule *rule = &route->rules[index];
    char topic_memory[KIT_TOPIC_MAX], key_memory[KIT_KEY_MAX];
    struct weir_message made = *record;
    void *memory = NULL;
    enum weir_actor_result result = rule->is_drop
                                        ? (enum weir_actor_result)WEIR_ACTOR_OK
                                        : rule_make(self, rule, record, topic_memory, key_memory, &made, &memory);
    if (result == WEIR_ACTOR_OK) {
        kit_put_map(self, out, rule->is_drop ? 2 : made.key.data != NULL ? 4 : 3);
        kit_put_text(self, out, "rule");
        kit_put_uint(self, out, index + 1);
        kit_put_text(self, out, rule->is_drop ? "drop" : "topic");
        if (rule->is_drop)
            kit_put_bool(self, out, true);
        else
            kit_put_str(self, out, made.topic);
    }
    if (result == WEIR_ACTOR_OK && !rule->is_drop) {
        if (made.key.data != NULL) {
            kit_put_text(self, out, "key");
            kit_put_str(self, out, made.key);
        }
        kit_put_text(self, out, "value");
        kit_put_raw(out, made.value);
    }
    weir_free(self, memory);
    return result;
}

/* What would become of a record: each rule that is for it, in turn. */
static enum weir_actor_result record_ask(struct weir_self *self, const struct route *route,
                                         const struct weir_message *message)
{
    enum weir_actor_result result = WEIR_ACTOR_OK;
    struct weir_message record;
    uint32_t count = 0;
    if (!kit_question_record(self, message, &record))
        return WEIR_ACTOR_REFUSED;
    struct weir_writer rules = kit_reply_begin(self, REPLY_SIZE_MAX);
    for (uint32_t i = 0; i < route->rule_count && result == WEIR_ACTOR_OK; i++) {
        if (!rule_matches(self, &route->rules[i], &record))
            continue;
        result = rule_tell(self, route, i, &record, &rules);
        count++;
        if (!route->rules[i].goes_on)
            break;
    }
    struct weir_writer reply = kit_reply_begin(self, rules.size + 8);
    kit_put_array(self, &reply, count);
    kit_put_raw(&reply, weir_bytes_of(rules.data, rules.size));
    reply.is_full = reply.is_full || rules.is_full;
    weir_free(self, rules.data);
    if (result == WEIR_ACTOR_OK)
        return kit_reply(self, &reply);
    weir_free(self, reply.data);
    return result;
}

static enum weir_actor_result route_handle(struct weir_self *self, void *state, const struct weir_message *message)
{
    const struct route *route = state;
    switch (message->kind) {
    case WEIR_MESSAGE_RECORD: return record_take(self, route, message);
    case WEIR_MESSAGE_ENTRY: return route->takes_entries ? record_take(self, route, message) : WEIR_ACTOR_OK;
    case WEIR_MESSAGE_RESET:
    case WEIR_MESSAGE_TIMER: return WEIR_ACTOR_OK;
    case WEIR_MESSAGE_ASK: return record_ask(self, route, message);
    default: return WEIR_ACTOR_OK;
    }
}

/* There is nothing to keep, and saying so spares its topics a reset after a restart. */
static enum weir_actor_result route_snapshot(struct weir_self *self, void *state, struct weir_writer *out)
{
    (void)state;
    kit_put_nil(self, out);
    return WEIR_ACTOR_OK;
}

static enum weir_actor_result route_restore(struct weir_self *self, void *state, struct weir_bytes snapshot)
{
    (void)state;
    return kit_is_nil(snapshot) ? WEIR_ACTOR_OK : kit_fail(self, "this is no snapshot of route 1.0");
}

static void route_stop(struct weir_self *self, void *state)
{
    struct route *route = state;
    weir_free(self, route->rules);
    weir_free(self, (void *)(uintptr_t)route->kept.data);
    weir_free(self, route);
}

KIT_PLUGIN(route, "filters, forwards and rewrites records by rules");
