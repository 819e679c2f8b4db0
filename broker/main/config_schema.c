/* The schema of the configuration file for libcyaml, made from the tables in config.h. Read by config_load.c. */
#include "broker/main/config_schema.h"

#include "actors/base/limits.h"

#define OPTIONAL (CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER)

#define NUMBER_SIZE_MAX 32 /* longer ones are none, and are complained about as such */

#define KIND_SIZE_MAX 64 /* longer ones are none */

static const cyaml_strval_t role_names[] = {{"fold", WEIR_ACTOR_FOLD}, {"processor", WEIR_ACTOR_PROCESSOR}};
static const cyaml_strval_t host_names[] = {{"process", CONFIG_HOST_PROCESS}, {"thread", CONFIG_HOST_THREAD}};
static const cyaml_strval_t restart_names[] = {
    {"permanent", RESTART_PERMANENT}, {"transient", RESTART_TRANSIENT}, {"temporary", RESTART_TEMPORARY}};
/* Not CYAML_BOOL, which takes every text but a few for true: "insecure: flase" must not open the gates. */
static const cyaml_strval_t bool_names[] = {{"false", 0}, {"true", 1}, {"no", 0}, {"yes", 1}, {"off", 0}, {"on", 1}};
static const cyaml_strval_t level_names[] = {
    {"debug", LOG_DEBUG}, {"info", LOG_INFO}, {"warning", LOG_WARNING}, {"error", LOG_ERROR}, {"off", LOG_OFF}};

#define CONNECTIONS_FIELD(key, initial, min, max, live) \
    CYAML_FIELD_STRING_PTR(#key, OPTIONAL, struct raw_connections, key, 0, NUMBER_SIZE_MAX),
static const cyaml_schema_field_t connections_fields[] = {CONFIG_CONNECTIONS_TABLE(CONNECTIONS_FIELD) CYAML_FIELD_END};

#define SESSIONS_FIELD(key, initial, min, max, live) \
    CYAML_FIELD_STRING_PTR(#key, OPTIONAL, struct raw_sessions, key, 0, NUMBER_SIZE_MAX),
static const cyaml_schema_field_t sessions_fields[] = {CONFIG_SESSIONS_TABLE(SESSIONS_FIELD) CYAML_FIELD_END};

#define RULE_FIELD(key, initial, min, max, live) \
    CYAML_FIELD_STRING_PTR(#key, OPTIONAL, struct raw_rule, key, 0, NUMBER_SIZE_MAX),
static const cyaml_schema_field_t rule_fields[] = {
    CYAML_FIELD_STRING_PTR("pattern", CYAML_FLAG_POINTER, struct raw_rule, pattern, 1, TOPIC_NAME_SIZE_MAX),
    CYAML_FIELD_STRING_PTR("kind", CYAML_FLAG_POINTER, struct raw_rule, kind, 1, KIND_SIZE_MAX),
    CONFIG_RULE_TABLE(RULE_FIELD) CYAML_FIELD_END};

static const cyaml_schema_field_t defaults_fields[] = {
    CYAML_FIELD_STRING_PTR("kind", OPTIONAL, struct raw_rule, kind, 1, KIND_SIZE_MAX),
    CONFIG_RULE_TABLE(RULE_FIELD) CYAML_FIELD_END};

static const cyaml_schema_value_t rule_value = {CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_rule, rule_fields)};

#define TOPICS_FIELD(key, initial, min, max, live) \
    CYAML_FIELD_STRING_PTR(#key, OPTIONAL, struct raw_topics, key, 0, NUMBER_SIZE_MAX),
static const cyaml_schema_field_t topics_fields[] = {
    CYAML_FIELD_ENUM_PTR("auto_create", OPTIONAL | CYAML_FLAG_STRICT, struct raw_topics, auto_create, bool_names,
                         CYAML_ARRAY_LEN(bool_names)),
    CYAML_FIELD_MAPPING_PTR("defaults", OPTIONAL, struct raw_topics, defaults, defaults_fields),
    CYAML_FIELD_SEQUENCE("rules", OPTIONAL, struct raw_topics, rules, &rule_value, 0, CONFIG_RULES_MAX),
    CONFIG_TOPICS_TABLE(TOPICS_FIELD) CYAML_FIELD_END};

static const cyaml_schema_value_t url_value = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 1, 512)};

static const cyaml_schema_value_t pattern_value = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 1, TOPIC_NAME_SIZE_MAX)};
static const cyaml_schema_value_t path_value = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 1, PLUGIN_PATH_MAX - 1)};

/* `config` may be anything: config_value.c reads it. */
#define PLUGIN_FIELD(key, initial, min, max, live) \
    CYAML_FIELD_STRING_PTR(#key, OPTIONAL, struct raw_plugin, key, 0, NUMBER_SIZE_MAX),
static const cyaml_schema_field_t plugin_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, struct raw_plugin, name, 1, PLUGIN_NAME_MAX),
    CYAML_FIELD_STRING_PTR("file", CYAML_FLAG_POINTER, struct raw_plugin, file, 1, PLUGIN_PATH_MAX - 1),
    CYAML_FIELD_ENUM("role", CYAML_FLAG_STRICT, struct raw_plugin, role, role_names, CYAML_ARRAY_LEN(role_names)),
    CYAML_FIELD_ENUM_PTR("host", OPTIONAL | CYAML_FLAG_STRICT, struct raw_plugin, host, host_names,
                         CYAML_ARRAY_LEN(host_names)),
    CYAML_FIELD_ENUM_PTR("restart", OPTIONAL | CYAML_FLAG_STRICT, struct raw_plugin, restart, restart_names,
                         CYAML_ARRAY_LEN(restart_names)),
    CYAML_FIELD_SEQUENCE("patterns", OPTIONAL, struct raw_plugin, patterns, &pattern_value, 0, PLUGIN_PATTERNS_MAX),
    CYAML_FIELD_SEQUENCE("emit", OPTIONAL, struct raw_plugin, emit, &pattern_value, 0, PLUGIN_PATTERNS_MAX),
    CYAML_FIELD_SEQUENCE("grants", OPTIONAL, struct raw_plugin, grants, &path_value, 0, PLUGIN_GRANTS_MAX),
    CYAML_FIELD_IGNORE("config", CYAML_FLAG_OPTIONAL),
    CONFIG_PLUGIN_TABLE(PLUGIN_FIELD) CYAML_FIELD_END};
static const cyaml_schema_value_t plugin_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_plugin, plugin_fields)};

#define BROKER_FIELD(key, initial, min, max, live) \
    CYAML_FIELD_STRING_PTR(#key, OPTIONAL, struct raw_config, key, 0, NUMBER_SIZE_MAX),
static const cyaml_schema_field_t config_fields[] = {
    CYAML_FIELD_SEQUENCE("listen", OPTIONAL, struct raw_config, listen, &url_value, 1, CONFIG_LISTEN_MAX),
    CYAML_FIELD_STRING_PTR("admin", OPTIONAL, struct raw_config, admin, 1, 512),
    CYAML_FIELD_ENUM_PTR("insecure", OPTIONAL | CYAML_FLAG_STRICT, struct raw_config, insecure, bool_names,
                         CYAML_ARRAY_LEN(bool_names)),
    CYAML_FIELD_ENUM_PTR("log_level", OPTIONAL | CYAML_FLAG_STRICT, struct raw_config, log_level, level_names,
                         CYAML_ARRAY_LEN(level_names)),
    CYAML_FIELD_MAPPING_PTR("connections", OPTIONAL, struct raw_config, connections, connections_fields),
    CYAML_FIELD_MAPPING_PTR("sessions", OPTIONAL, struct raw_config, sessions, sessions_fields),
    CYAML_FIELD_MAPPING_PTR("topics", OPTIONAL, struct raw_config, topics, topics_fields),
    CYAML_FIELD_SEQUENCE("plugins", OPTIONAL, struct raw_config, plugins, &plugin_value, 0, CONFIG_PLUGINS_MAX),
    CONFIG_BROKER_TABLE(BROKER_FIELD) CYAML_FIELD_END};

const cyaml_schema_value_t config_schema = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw_config, config_fields)};
