/* The YAML file as libcyaml loads it, before defaults and checks; only config_load.c and config_schema.c see this.
 * Numbers are still text, since libcyaml would take 1.5 as 1 and 010 as 8; absent keys are NULL. */
#ifndef BROKER_MAIN_CONFIG_SCHEMA_H
#define BROKER_MAIN_CONFIG_SCHEMA_H

#include <cyaml/cyaml.h>

#include "broker/main/config.h"

enum config_host { CONFIG_HOST_PROCESS, CONFIG_HOST_THREAD };

#define RAW_MEMBER(key, initial, min, max, live) char *key;
struct raw_connections {
    CONFIG_CONNECTIONS_TABLE(RAW_MEMBER)
};
struct raw_sessions {
    CONFIG_SESSIONS_TABLE(RAW_MEMBER)
};
struct raw_rule {
    char *pattern;
    char *kind;
    CONFIG_RULE_TABLE(RAW_MEMBER)
};
struct raw_topics {
    bool *auto_create;
    struct raw_rule *defaults;
    struct raw_rule *rules;
    unsigned rules_count;
    CONFIG_TOPICS_TABLE(RAW_MEMBER)
};
struct raw_plugin {
    char *name, *file;
    enum weir_actor_role role;
    enum config_host *host;
    enum restart_type *restart;
    char **patterns, **emit, **grants;
    unsigned patterns_count, emit_count, grants_count;
    CONFIG_PLUGIN_TABLE(RAW_MEMBER)
};
struct raw_config {
    struct raw_plugin *plugins;
    unsigned plugins_count;
    char **listen;
    unsigned listen_count;
    char *admin;
    bool *insecure;
    enum log_level *log_level;
    struct raw_connections *connections;
    struct raw_sessions *sessions;
    struct raw_topics *topics;
    CONFIG_BROKER_TABLE(RAW_MEMBER)
};
#undef RAW_MEMBER

extern const cyaml_schema_value_t config_schema;

#endif
