/* The parts of the plugin `route` that its files share. */
#ifndef ACTORS_PLUGINS_ROUTE_ROUTE_H
#define ACTORS_PLUGINS_ROUTE_ROUTE_H

#include "actors/plugins/kit.h"

enum { RULES_MAX = 64, TESTS_MAX = 8, FIELDS_MAX = 32 };

enum test_kind { TEST_IS, TEST_NOT, TEST_IN, TEST_ABOVE, TEST_BELOW, TEST_BEGINS, TEST_EXISTS };

/* What must hold of one part of a record. */
struct test {
    struct weir_bytes of; /* "topic", "topic.N", "key", "value" or "value.PATH" */
    enum test_kind kind;
    struct weir_bytes operand; /* encoded; IN: a list */
    double number;             /* ABOVE, BELOW */
    struct weir_bytes text;    /* BEGINS */
    bool wanted;               /* EXISTS */
};

/* Texts and values are parts of the configuration. */
struct rule {
    struct weir_bytes topic; /* pattern; empty: any */
    struct test tests[TESTS_MAX];
    uint32_t test_count;
    struct weir_bytes to, key, pick; /* templates; the field that becomes the value */
    struct weir_bytes set;           /* an encoded map, or nothing */
    struct weir_bytes keep[FIELDS_MAX], remove[FIELDS_MAX];
    uint32_t keep_count, remove_count;
    bool is_drop, goes_on;
};

struct route {
    struct weir_bytes kept;
    struct rule *rules; /* RULES_MAX */
    uint32_t rule_count;
    bool refuses_others, takes_entries;
};

/* rules.c: reads route->kept. FAILED with weir_fail called. */
enum weir_actor_result rules_read(struct weir_self *self, struct route *route);
/* match.c: whether a rule is for a record. */
bool rule_matches(struct weir_self *self, const struct rule *rule, const struct weir_message *message);
/* rewrite.c: the value that a rule makes of a record's; *memory is to be freed with weir_free. Not OK with weir_fail
 * called. */
enum weir_actor_result value_rewrite(struct weir_self *self, const struct rule *rule,
                                     const struct weir_message *message, struct weir_bytes *out, void **memory);

#endif
