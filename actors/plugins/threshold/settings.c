/* The configuration of `threshold`: read once, at init. */
#include "actors/plugins/kit_config.h"
#include "actors/plugins/kit_target.h"
#include "actors/plugins/threshold/threshold.h"

#define HOLD_MS_MAX 604800000.0
#define NUMBER_LIMIT 1e300
#define NOT_GIVEN 1e301

static bool rule_read(struct weir_self *self, struct weir_bytes encoded, uint32_t index, struct rule *rule)
{
    char where[32];
    double above = NOT_GIVEN, below = NOT_GIVEN, clear = NOT_GIVEN;
    const struct kit_key keys[] = {
        {"name", KIT_TEXT, &rule->name, 1, RULE_NAME_MAX, false},
        {"above", KIT_NUMBER, &above, -NUMBER_LIMIT, NUMBER_LIMIT, false},
        {"below", KIT_NUMBER, &below, -NUMBER_LIMIT, NUMBER_LIMIT, false},
        {"clear", KIT_NUMBER, &clear, -NUMBER_LIMIT, NUMBER_LIMIT, false},
        {"hold_ms", KIT_UINT, &rule->hold_ms, 0, HOLD_MS_MAX, false},
        {"clear_hold_ms", KIT_UINT, &rule->clear_hold_ms, 0, HOLD_MS_MAX, false},
    };
    snprintf(where, sizeof where, "config: rule %u", (unsigned)index + 1);
    if (!kit_config(self, where, encoded, keys, sizeof keys / sizeof *keys))
        return false;
    rule->is_above = above <= NUMBER_LIMIT;
    if (rule->is_above == (below <= NUMBER_LIMIT)) {
        kit_fail(self, "%s: give either 'above' or 'below'", where);
        return false;
    }
    rule->limit = rule->is_above ? above : below;
    rule->clear = clear <= NUMBER_LIMIT ? clear : rule->limit;
    if (rule->is_above ? rule->clear > rule->limit : rule->clear < rule->limit) {
        kit_fail(self, "%s: 'clear' (%g) must be %s '%s' (%g): there the alert ends", where, rule->clear,
                 rule->is_above ? "at most" : "at least", rule->is_above ? "above" : "below", rule->limit);
        return false;
    }
    if (rule->name.size == 0)
        rule->name = kit_of(rule->is_above ? "above" : "below");
    return true;
}

static bool rules_read(struct weir_self *self, struct weir_bytes list, struct settings *settings)
{
    struct weir_reader reader = {list, false};
    struct weir_item item;
    struct weir_bytes encoded;
    if (!weir_read(self, &reader, &item) || item.count == 0 || item.count > RULES_MAX) {
        kit_fail(self, "config: 'rules' must be a list of 1 to %d rules", (int)RULES_MAX);
        return false;
    }
    settings->rule_count = item.count;
    for (uint32_t i = 0; i < settings->rule_count; i++) {
        struct rule *rule = &settings->rules[i];
        if (!weir_skip(self, &reader, &encoded) || !rule_read(self, encoded, i, rule))
            return false;
        for (uint32_t j = 0; j < i; j++) {
            if (!kit_same(rule->name, settings->rules[j].name))
                continue;
            kit_fail(self, "config: rules %u and %u have the same name '%.*s'", (unsigned)j + 1, (unsigned)i + 1,
                     (int)rule->name.size, (const char *)rule->name.data);
            return false;
        }
    }
    return true;
}

enum weir_actor_result settings_read(struct weir_self *self, struct settings *settings)
{
    struct weir_bytes missing = {NULL, 0}, rules = {NULL, 0};
    settings->keys_max = 10000;
    settings->takes_entries = true;
    const struct kit_key keys[] = {
        {"rules", KIT_LIST, &rules, 0, 0, true},
        {"to", KIT_TEXT, &settings->to, 1, KIT_TOPIC_MAX, false},
        {"field", KIT_TEXT, &settings->field, 0, 255, false},
        {"by", KIT_TEXT, &settings->by, 0, 255, false},
        {"missing", KIT_TEXT, &missing, 0, 0, false},
        {"entries", KIT_BOOL, &settings->takes_entries, 0, 0, false},
        {"remove_cleared", KIT_BOOL, &settings->removes_cleared, 0, 0, false},
        {"keys_max", KIT_UINT, &settings->keys_max, 1, 1000000, false},
    };
    if (!kit_config(self, "config", settings->kept, keys, sizeof keys / sizeof *keys) ||
        !rules_read(self, rules, settings) || !kit_target_check(self, settings->to))
        return WEIR_ACTOR_FAILED;
    if (missing.size > 0 && !kit_is(missing, "skip") && !kit_is(missing, "refuse"))
        return kit_fail(self, "config: 'missing' is '%.*s', but must be skip or refuse", (int)missing.size,
                        (const char *)missing.data);
    settings->skips_missing = missing.size > 0 ? kit_is(missing, "skip") : self->role != WEIR_ACTOR_FOLD;
    return WEIR_ACTOR_OK;
}
