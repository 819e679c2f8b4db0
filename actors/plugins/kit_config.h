/* A plugin's configuration by a table of keys: what is missing, unknown, of another type or out of range is refused
 * with a sentence that says where, what was given and what may stand there. Copy it beside kit.h. */
#ifndef ACTORS_PLUGINS_KIT_CONFIG_H
#define ACTORS_PLUGINS_KIT_CONFIG_H

#include "actors/plugins/kit.h"

enum kit_kind {
    KIT_TEXT,   /* struct weir_bytes: its text */
    KIT_UINT,   /* uint64_t, from min to max */
    KIT_NUMBER, /* double, from min to max */
    KIT_BOOL,   /* bool */
    KIT_LIST,   /* struct weir_bytes: encoded */
    KIT_MAP,    /* struct weir_bytes: encoded */
    KIT_ANY,    /* struct weir_bytes: encoded */
};

/* One key. What is not given leaves *out as it is: set the default first. Texts and values are views into config. */
struct kit_key {
    const char *name;
    enum kit_kind kind;
    void *out;
    double min, max; /* of numbers; of a text: its size in bytes (max 0: any) */
    bool is_required;
};

static inline const char *kit_type_name(const struct weir_item *item)
{
    static const char *const names[] = {
        "nil",    "a bool", "a negative whole number", "a whole number", "a number", "text", "bin", "ext",
        "a list", "a map"};
    return item->type < sizeof names / sizeof *names ? names[item->type] : "something else";
}

static inline bool kit_key_uint(struct weir_self *self, const char *where, const struct kit_key *key,
                                struct weir_bytes value, const struct weir_item *item)
{
    uint64_t number = 0;
    bool is_number = kit_uint(self, value, &number);
    if (!is_number || (double)number < key->min || (double)number > key->max) {
        if (is_number)
            kit_fail(self, "%s: '%s' is %llu, but must be a whole number from %.0f to %.0f", where, key->name,
                     (unsigned long long)number, key->min, key->max);
        else
            kit_fail(self, "%s: '%s' must be a whole number from %.0f to %.0f, and is %s", where, key->name, key->min,
                     key->max, kit_type_name(item));
        return false;
    }
    *(uint64_t *)key->out = number;
    return true;
}

static inline bool kit_key_number(struct weir_self *self, const char *where, const struct kit_key *key,
                                  const struct weir_item *item)
{
    double number = 0;
    bool is_number = kit_number_of(item, &number);
    if (!is_number || number < key->min || number > key->max) {
        if (is_number)
            kit_fail(self, "%s: '%s' is %g, but must be a number from %g to %g", where, key->name, number, key->min,
                     key->max);
        else
            kit_fail(self, "%s: '%s' must be a number, and is %s", where, key->name, kit_type_name(item));
        return false;
    }
    *(double *)key->out = number;
    return true;
}

static inline bool kit_key_take(struct weir_self *self, const char *where, const struct kit_key *key,
                                struct weir_bytes value)
{
    static const char *const wanted[] = {"text", "", "", "true or false", "a list", "a map", "any value"};
    static const uint32_t types[] = {WEIR_VALUE_STR, 0, 0, WEIR_VALUE_BOOL, WEIR_VALUE_ARRAY, WEIR_VALUE_MAP, 0};
    struct weir_item item;
    if (!kit_item(self, value, &item)) {
        kit_fail(self, "%s: '%s' is no value", where, key->name);
        return false;
    }
    if (key->kind == KIT_UINT)
        return kit_key_uint(self, where, key, value, &item);
    if (key->kind == KIT_NUMBER)
        return kit_key_number(self, where, key, &item);
    if (key->kind != KIT_ANY && item.type != types[key->kind]) {
        kit_fail(self, "%s: '%s' must be %s, and is %s", where, key->name, wanted[key->kind], kit_type_name(&item));
        return false;
    }
    if (key->kind == KIT_TEXT && key->max > 0 &&
        ((double)item.bytes.size < key->min || (double)item.bytes.size > key->max)) {
        kit_fail(self, "%s: '%s' must have %.0f to %.0f bytes, and has %zu", where, key->name, key->min, key->max,
                 item.bytes.size);
        return false;
    }
    if (key->kind == KIT_BOOL)
        *(bool *)key->out = item.as.b;
    else
        *(struct weir_bytes *)key->out = key->kind == KIT_TEXT ? item.bytes : value;
    return true;
}

/* "unknown key 'sise_ms'; there are: size_ms, slide_ms": as many as a line holds. */
static inline void kit_key_unknown(struct weir_self *self, const char *where, struct weir_bytes name,
                                   const struct kit_key *keys, size_t count)
{
    char text[KIT_TEXT_MAX];
    int size = snprintf(text, sizeof text, "%s: there is no key '%.*s'; there are: ", where,
                        name.size < 40 ? (int)name.size : 40, (const char *)name.data);
    for (size_t i = 0; i < count && size > 0 && (size_t)size < sizeof text; i++)
        size += snprintf(text + size, sizeof text - (size_t)size, "%s%s", i > 0 ? ", " : "", keys[i].name);
    weir_fail(self, text);
}

/* Reads config, a map (nil and nothing: an empty one), by the table. where: what messages begin with, "config" or
 * "rule 3". False with weir_fail called. At most 64 keys. */
static inline bool kit_config(struct weir_self *self, const char *where, struct weir_bytes config,
                              const struct kit_key *keys, size_t count)
{
    struct weir_reader reader = {config, false};
    struct weir_item map, name;
    struct weir_bytes encoded, value;
    uint64_t given = 0;
    memset(&map, 0, sizeof map);
    if (config.size > 0 &&
        (!weir_read(self, &reader, &map) || (map.type != WEIR_VALUE_MAP && map.type != WEIR_VALUE_NIL))) {
        kit_fail(self, "%s: must be a map, and is %s", where, reader.is_bad ? "malformed" : kit_type_name(&map));
        return false;
    }
    for (uint32_t i = 0; i < map.count; i++) {
        size_t at = 0;
        if (!weir_skip(self, &reader, &encoded) || !kit_item(self, encoded, &name) ||
            !weir_skip(self, &reader, &value) || name.type != WEIR_VALUE_STR) {
            kit_fail(self, "%s: its keys must be text", where);
            return false;
        }
        while (at < count && !kit_is(name.bytes, keys[at].name))
            at++;
        if (at == count) {
            kit_key_unknown(self, where, name.bytes, keys, count);
            return false;
        }
        if (!kit_key_take(self, where, &keys[at], value))
            return false;
        given |= UINT64_C(1) << at;
    }
    for (size_t i = 0; i < count; i++) {
        if (keys[i].is_required && (given >> i & 1) == 0) {
            kit_fail(self, "%s: '%s' is missing", where, keys[i].name);
            return false;
        }
    }
    return true;
}

#endif
