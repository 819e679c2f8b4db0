/* The parts of the plugin `threshold` that its files share. */
#ifndef ACTORS_PLUGINS_THRESHOLD_THRESHOLD_H
#define ACTORS_PLUGINS_THRESHOLD_THRESHOLD_H

#include "actors/plugins/kit_table.h"

enum { RULES_MAX = 8, RULE_NAME_MAX = 32 };

struct rule {
    struct weir_bytes name;
    bool is_above;
    double limit, clear;
    uint64_t hold_ms, clear_hold_ms;
};

struct settings {
    struct weir_bytes kept, to, field, by; /* the configuration; texts are parts of it */
    struct rule rules[RULES_MAX];
    uint32_t rule_count;
    uint64_t keys_max;
    bool skips_missing, takes_entries, removes_cleared;
};

/* settings.c: reads settings->kept. FAILED with weir_fail called. */
enum weir_actor_result settings_read(struct weir_self *self, struct settings *settings);

#endif
