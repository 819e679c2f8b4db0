/* What a rule of `route` makes of a value: one field of it, or some of its fields and new ones. */
#include "actors/plugins/kit_target.h"
#include "actors/plugins/route/route.h"

/* Room for what a template in `set` may expand to, its head included. */
enum { SET_TEXT_MAX = 1024, HEAD_MAX = 5 };

static bool is_named(struct weir_bytes name, const struct weir_bytes *names, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (kit_same(name, names[i]))
            return true;
    }
    return false;
}

/* Whether a field of the record's own stays. What is set replaces it. */
static bool field_stays(struct weir_self *self, const struct rule *rule, struct weir_bytes name)
{
    struct weir_bytes value;
    if (rule->keep_count > 0 && !is_named(name, rule->keep, rule->keep_count))
        return false;
    return !is_named(name, rule->remove, rule->remove_count) &&
           (rule->set.size == 0 || !kit_member(self, rule->set, name, &value));
}

/* Writes the fields that stay, or only counts them (writer NULL). False: malformed. */
static bool fields_write(struct weir_self *self, const struct rule *rule, struct weir_bytes value,
                         struct weir_writer *writer, uint32_t *count)
{
    struct weir_reader reader = {value, false};
    struct weir_item map, name;
    struct weir_bytes key, field;
    *count = 0;
    if (!weir_read(self, &reader, &map))
        return false;
    for (uint32_t i = 0; i < map.count; i++) {
        if (!weir_skip(self, &reader, &key) || !weir_skip(self, &reader, &field) || !kit_item(self, key, &name))
            return false;
        if (name.type == WEIR_VALUE_STR && !field_stays(self, rule, name.bytes))
            continue;
        ++*count;
        if (writer != NULL) {
            kit_put_raw(writer, key);
            kit_put_raw(writer, field);
        }
    }
    return true;
}

/* Writes what `set` has; its texts are expanded. False with weir_fail called. */
static bool set_write(struct weir_self *self, const struct rule *rule, const struct weir_message *message,
                      struct weir_writer *writer)
{
    char memory[SET_TEXT_MAX];
    struct weir_reader reader = {rule->set, false};
    struct weir_item map, item;
    struct weir_bytes name, value, text;
    if (rule->set.size == 0 || !weir_read(self, &reader, &map))
        return true;
    for (uint32_t i = 0; i < map.count; i++) {
        if (!weir_skip(self, &reader, &name) || !weir_skip(self, &reader, &value))
            return true;
        kit_put_raw(writer, name);
        if (!kit_item(self, value, &item) || item.type != WEIR_VALUE_STR) {
            kit_put_raw(writer, value);
            continue;
        }
        if (!kit_expand(self, item.bytes, message, memory, sizeof memory, &text))
            return false;
        kit_put_str(self, writer, text);
    }
    return true;
}

static uint32_t set_count(struct weir_self *self, const struct rule *rule)
{
    struct weir_item map;
    return rule->set.size > 0 && kit_item(self, rule->set, &map) ? map.count : 0;
}

enum weir_actor_result value_rewrite(struct weir_self *self, const struct rule *rule,
                                     const struct weir_message *message, struct weir_bytes *out, void **memory)
{
    struct weir_bytes value = message->value;
    struct weir_item item;
    uint32_t kept = 0, set = set_count(self, rule);
    *memory = NULL;
    *out = value;
    if (rule->pick.size > 0 && !kit_field(self, value, rule->pick, &value))
        return kit_refuse(self, "the value has no field '%.*s', which a rule picks", (int)rule->pick.size,
                          (const char *)rule->pick.data);
    *out = value;
    /* A removal stays one. */
    if ((rule->keep_count == 0 && rule->remove_count == 0 && set == 0) || kit_is_nil(value))
        return WEIR_ACTOR_OK;
    if (!kit_item(self, value, &item) || item.type != WEIR_VALUE_MAP)
        return kit_refuse(self, "the value is no map, and a rule keeps, removes or sets fields of it");
    if (!fields_write(self, rule, value, NULL, &kept))
        return kit_refuse(self, "the value is malformed");
    size_t capacity = HEAD_MAX + value.size + rule->set.size + (size_t)set * (SET_TEXT_MAX + HEAD_MAX);
    struct weir_writer writer = {weir_alloc(self, capacity), 0, capacity, false};
    *memory = writer.data;
    if (writer.data == NULL)
        return kit_fail(self, "no memory to rewrite a value of %zu bytes: raise memory_bytes_max", value.size);
    kit_put_map(self, &writer, kept + set);
    if (!fields_write(self, rule, value, &writer, &kept) || !set_write(self, rule, message, &writer))
        return WEIR_ACTOR_REFUSED;
    *out = weir_bytes_of(writer.data, writer.size);
    return writer.is_full ? kit_fail(self, "a rewritten value does not fit where it must") : WEIR_ACTOR_OK;
}
