/* The plugin `route`: filters, forwards and rewrites records by rules in its configuration. README.md of the folder
 * above says how it is used. Its state is the configuration, so that a snapshot is empty. */
#include "actors/plugins/route/route.h"

#include "actors/plugins/kit_target.h"

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

/* Emits what a rule makes of a record. */
static enum weir_actor_result rule_apply(struct weir_self *self, const struct rule *rule,
                                         const struct weir_message *message)
{
    char topic_memory[KIT_TOPIC_MAX], key_memory[KIT_KEY_MAX];
    struct weir_bytes topic, key = message->key, value;
    void *memory = NULL;
    if (!kit_target(self, rule->to, message, topic_memory, &topic))
        return WEIR_ACTOR_REFUSED;
    if (rule->key.size > 0 && !kit_expand(self, rule->key, message, key_memory, sizeof key_memory, &key))
        return WEIR_ACTOR_REFUSED;
    if (self->role == WEIR_ACTOR_FOLD && key.data == NULL)
        return kit_refuse(self, "the record has no key, and a fold keeps values by key");
    enum weir_actor_result result = value_rewrite(self, rule, message, &value, &memory);
    if (result == WEIR_ACTOR_OK)
        result = weir_emit(self, topic, key, value);
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

static enum weir_actor_result route_handle(struct weir_self *self, void *state, const struct weir_message *message)
{
    const struct route *route = state;
    switch (message->kind) {
    case WEIR_MESSAGE_RECORD: return record_take(self, route, message);
    case WEIR_MESSAGE_ENTRY: return route->takes_entries ? record_take(self, route, message) : WEIR_ACTOR_OK;
    case WEIR_MESSAGE_RESET:
    case WEIR_MESSAGE_TIMER: return WEIR_ACTOR_OK;
    default: return kit_refuse(self, "route answers no questions");
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
