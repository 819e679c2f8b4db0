/* The rules of `route`: read once, at init. */
#include "actors/plugins/kit_config.h"
#include "actors/plugins/kit_target.h"
#include "actors/plugins/route/route.h"

enum { WHERE_MAX = 48 };
#define NUMBER_LIMIT 1e300
#define NOT_GIVEN 1e301

/* The name of a variable is what a template has in braces. */
static bool of_check(struct weir_self *self, const char *where, struct weir_bytes of)
{
    char memory[258];
    if (of.size > 255) {
        kit_fail(self, "%s: 'of' has %zu bytes; at most 255", where, of.size);
        return false;
    }
    int size = snprintf(memory, sizeof memory, "{%.*s}", (int)of.size, (const char *)of.data);
    return kit_template_check(self, where, weir_bytes_of(memory, (size_t)size));
}

static bool test_read(struct weir_self *self, const char *outer, struct weir_bytes encoded, uint32_t index,
                      struct test *test)
{
    char where[WHERE_MAX];
    struct weir_bytes is = {NULL, 0}, isnt = {NULL, 0}, in = {NULL, 0};
    double above = NOT_GIVEN, below = NOT_GIVEN;
    struct weir_item item;
    bool has_exists = true;
    test->wanted = false;
    const struct kit_key keys[] = {
        {"of", KIT_TEXT, &test->of, 1, 255, true},
        {"is", KIT_ANY, &is, 0, 0, false},
        {"not", KIT_ANY, &isnt, 0, 0, false},
        {"in", KIT_LIST, &in, 0, 0, false},
        {"above", KIT_NUMBER, &above, -NUMBER_LIMIT, NUMBER_LIMIT, false},
        {"below", KIT_NUMBER, &below, -NUMBER_LIMIT, NUMBER_LIMIT, false},
        {"begins", KIT_TEXT, &test->text, 1, 255, false},
        {"exists", KIT_BOOL, &test->wanted, 0, 0, false},
    };
    snprintf(where, sizeof where, "%s, where %u", outer, (unsigned)index + 1);
    if (!kit_config(self, where, encoded, keys, sizeof keys / sizeof *keys) || !of_check(self, where, test->of))
        return false;
    int given = (is.size > 0) + (isnt.size > 0) + (in.size > 0) + (above <= NUMBER_LIMIT) + (below <= NUMBER_LIMIT) +
                (test->text.size > 0);
    /* `exists` is the only one whose value does not tell whether it was given: it is meant when the map has two keys
     * and the other is `of`. */
    if (given == 0)
        has_exists = kit_item(self, encoded, &item) && item.count == 2;
    if (given > 1 || (given == 0 && !has_exists) ||
        (given == 1 && (!kit_item(self, encoded, &item) || item.count != 2))) {
        kit_fail(self, "%s: give exactly one of is, not, in, above, below, begins, exists", where);
        return false;
    }
    test->kind = is.size > 0             ? TEST_IS
                 : isnt.size > 0         ? TEST_NOT
                 : in.size > 0           ? TEST_IN
                 : above <= NUMBER_LIMIT ? TEST_ABOVE
                 : below <= NUMBER_LIMIT ? TEST_BELOW
                 : test->text.size > 0   ? TEST_BEGINS
                                         : TEST_EXISTS;
    test->operand = is.size > 0 ? is : isnt.size > 0 ? isnt : in;
    test->number = above <= NUMBER_LIMIT ? above : below;
    return true;
}

static bool tests_read(struct weir_self *self, const char *where, struct weir_bytes list, struct rule *rule)
{
    struct weir_reader reader = {list, false};
    struct weir_item item;
    struct weir_bytes encoded;
    if (list.size == 0)
        return true;
    if (!weir_read(self, &reader, &item) || item.count > TESTS_MAX) {
        kit_fail(self, "%s: 'where' has more than %d tests", where, (int)TESTS_MAX);
        return false;
    }
    rule->test_count = item.count;
    for (uint32_t i = 0; i < rule->test_count; i++) {
        if (!weir_skip(self, &reader, &encoded) || !test_read(self, where, encoded, i, &rule->tests[i]))
            return false;
    }
    return true;
}

static bool names_read(struct weir_self *self, const char *where, const char *key, struct weir_bytes list,
                       struct weir_bytes names[FIELDS_MAX], uint32_t *count)
{
    struct weir_reader reader = {list, false};
    struct weir_item item;
    if (list.size == 0)
        return true;
    if (!weir_read(self, &reader, &item) || item.count > FIELDS_MAX) {
        kit_fail(self, "%s: '%s' has more than %d names", where, key, (int)FIELDS_MAX);
        return false;
    }
    *count = item.count;
    for (uint32_t i = 0; i < *count; i++) {
        if (!weir_read(self, &reader, &item) || item.type != WEIR_VALUE_STR) {
            kit_fail(self, "%s: '%s' must be a list of names of fields", where, key);
            return false;
        }
        names[i] = item.bytes;
    }
    return true;
}

/* The texts among the values of `set` are templates. */
static bool set_check(struct weir_self *self, const char *where, struct weir_bytes set)
{
    struct weir_reader reader = {set, false};
    struct weir_item map, item;
    struct weir_bytes encoded;
    if (set.size == 0)
        return true;
    if (!weir_read(self, &reader, &map) || map.count > FIELDS_MAX) {
        kit_fail(self, "%s: 'set' has more than %d fields", where, (int)FIELDS_MAX);
        return false;
    }
    for (uint32_t i = 0; i < map.count; i++) {
        if (!weir_read(self, &reader, &item) || item.type != WEIR_VALUE_STR || !weir_skip(self, &reader, &encoded)) {
            kit_fail(self, "%s: the keys of 'set' must be text", where);
            return false;
        }
        if (kit_item(self, encoded, &item) && item.type == WEIR_VALUE_STR &&
            !kit_template_check(self, where, item.bytes))
            return false;
    }
    return true;
}

static bool rule_check(struct weir_self *self, const char *where, const struct rule *rule)
{
    bool makes = rule->to.size > 0 || rule->key.size > 0 || rule->pick.size > 0 || rule->set.size > 0 ||
                 rule->keep_count > 0 || rule->remove_count > 0;
    if (rule->is_drop && (makes || rule->goes_on)) {
        kit_fail(self, "%s: 'drop' ends what becomes of a record: no other action may stand beside it", where);
        return false;
    }
    if (rule->pick.size > 0 && (rule->keep_count > 0 || rule->remove_count > 0)) {
        kit_fail(self, "%s: 'pick' takes one field, so 'keep' and 'remove' have nothing to do", where);
        return false;
    }
    if (!rule->is_drop && self->role == WEIR_ACTOR_PROCESSOR && rule->to.size == 0) {
        kit_fail(self, "%s: 'to' is missing: a processor has to be told the topic (or drop: true)", where);
        return false;
    }
    if (self->role == WEIR_ACTOR_FOLD && rule->to.size > 0) {
        kit_fail(self, "%s: 'to' is for processors: a fold emits to the topic that the record came to", where);
        return false;
    }
    return kit_template_check(self, where, rule->to) && kit_template_check(self, where, rule->key) &&
           set_check(self, where, rule->set);
}

static bool rule_read(struct weir_self *self, struct weir_bytes encoded, uint32_t index, struct rule *rule)
{
    char where[WHERE_MAX / 2];
    struct weir_bytes tests = {NULL, 0}, keep = {NULL, 0}, remove = {NULL, 0};
    const struct kit_key keys[] = {
        {"topic", KIT_TEXT, &rule->topic, 1, KIT_TOPIC_MAX, false},
        {"where", KIT_LIST, &tests, 0, 0, false},
        {"drop", KIT_BOOL, &rule->is_drop, 0, 0, false},
        {"to", KIT_TEXT, &rule->to, 1, KIT_TOPIC_MAX, false},
        {"key", KIT_TEXT, &rule->key, 1, KIT_KEY_MAX, false},
        {"pick", KIT_TEXT, &rule->pick, 1, 255, false},
        {"keep", KIT_LIST, &keep, 0, 0, false},
        {"remove", KIT_LIST, &remove, 0, 0, false},
        {"set", KIT_MAP, &rule->set, 0, 0, false},
        {"go_on", KIT_BOOL, &rule->goes_on, 0, 0, false},
    };
    snprintf(where, sizeof where, "config: rule %u", (unsigned)index + 1);
    return kit_config(self, where, encoded, keys, sizeof keys / sizeof *keys) && tests_read(self, where, tests, rule) &&
           names_read(self, where, "keep", keep, rule->keep, &rule->keep_count) &&
           names_read(self, where, "remove", remove, rule->remove, &rule->remove_count) &&
           rule_check(self, where, rule);
}

enum weir_actor_result rules_read(struct weir_self *self, struct route *route)
{
    struct weir_bytes rules = {NULL, 0}, otherwise = {NULL, 0}, encoded;
    struct weir_item item;
    const struct kit_key keys[] = {
        {"rules", KIT_LIST, &rules, 0, 0, true},
        {"otherwise", KIT_TEXT, &otherwise, 0, 0, false},
        {"entries", KIT_BOOL, &route->takes_entries, 0, 0, false},
    };
    if (!kit_config(self, "config", route->kept, keys, sizeof keys / sizeof *keys))
        return WEIR_ACTOR_FAILED;
    if (otherwise.size > 0 && !kit_is(otherwise, "drop") && !kit_is(otherwise, "refuse"))
        return kit_fail(self, "config: 'otherwise' is '%.*s', but must be drop or refuse", (int)otherwise.size,
                        (const char *)otherwise.data);
    route->refuses_others = kit_is(otherwise, "refuse");
    struct weir_reader reader = {rules, false};
    if (!weir_read(self, &reader, &item) || item.count == 0 || item.count > RULES_MAX)
        return kit_fail(self, "config: 'rules' must be a list of 1 to %d rules", (int)RULES_MAX);
    route->rule_count = item.count;
    route->rules = weir_alloc(self, route->rule_count * sizeof *route->rules);
    if (route->rules == NULL)
        return kit_fail(self, "no memory for %u rules: raise memory_bytes_max", (unsigned)route->rule_count);
    memset(route->rules, 0, route->rule_count * sizeof *route->rules);
    for (uint32_t i = 0; i < route->rule_count; i++) {
        if (!weir_skip(self, &reader, &encoded) || !rule_read(self, encoded, i, &route->rules[i]))
            return WEIR_ACTOR_FAILED;
    }
    return WEIR_ACTOR_OK;
}
