/* The configuration's defaults, what the command line adds to it, and the checks over the whole. Called by boot and the
 * command line, on the main thread. */
#include "broker/main/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/base/assert.h"
#include "actors/base/limits.h"
#include "broker/main/config_plugins.h"
#include "clients/wire/name.h"

void config_init(struct config *config)
{
    *config = (struct config){.auto_create = true, .log_level = LOG_INFO};
#define BROKER_INIT(key, initial, min, max, live) config->broker.key = initial;
    CONFIG_BROKER_TABLE(BROKER_INIT)
#define CONNECTIONS_INIT(key, initial, min, max, live) config->connections.key = initial;
    CONFIG_CONNECTIONS_TABLE(CONNECTIONS_INIT)
#define SESSIONS_INIT(key, initial, min, max, live) config->sessions.key = initial;
    CONFIG_SESSIONS_TABLE(SESSIONS_INIT)
#define TOPICS_INIT(key, initial, min, max, live) config->topics.key = initial;
    CONFIG_TOPICS_TABLE(TOPICS_INIT)
    config->fallback.kind = TOPIC_LAST;
#define RULE_INIT(key, initial, min, max, live) config->fallback.key = initial;
    CONFIG_RULE_TABLE(RULE_INIT)
}

void config_fini(struct config *config)
{
    for (size_t i = 0; i < config->listen_count; i++)
        free(config->listen[i]);
    free(config->admin);
    free(config->rules);
    for (size_t i = 0; i < config->plugin_count; i++)
        plugin_config_fini(&config->plugins[i]);
    free(config->plugins);
    *config = (struct config){.listen_count = 0};
}

enum weir_error config_listen_add(struct config *config, const char *url, char error[CONFIG_ERROR_SIZE])
{
    if (strncmp(url, "tcp://", 6) != 0 && strncmp(url, "ipc://", 6) != 0) {
        snprintf(error, CONFIG_ERROR_SIZE, "cannot listen on '%s': use tcp://HOST:PORT or ipc://PATH", url);
        return WEIR_BAD_REQUEST;
    }
    if (config->listen_count == CONFIG_LISTEN_MAX) {
        snprintf(error, CONFIG_ERROR_SIZE, "cannot listen on '%s': at most %d addresses", url, CONFIG_LISTEN_MAX);
        return WEIR_TOO_BIG;
    }
    config->listen[config->listen_count] = strdup(url);
    if (config->listen[config->listen_count] == NULL)
        return WEIR_NO_MEMORY;
    config->listen_count++;
    return WEIR_OK;
}

/* ------------------------------------------------------------------------------- PATTERN=KIND,SETTING=NUMBER */

static bool is_between(uint64_t value, uint64_t min, uint64_t max) { return value >= min && value <= max; }

static bool setting_apply(struct topic_rule *rule, const char *name, uint64_t value, char *error)
{
#define SETTING(key, initial, min, max, live)                                                                       \
    if (strcmp(name, #key) == 0) {                                                                                  \
        if (!is_between(value, min, max)) {                                                                         \
            snprintf(error, CONFIG_ERROR_SIZE, "%s must be between %llu and %llu", name, (unsigned long long)(min), \
                     (unsigned long long)(max));                                                                    \
            return false;                                                                                           \
        }                                                                                                           \
        rule->key = (__typeof__(rule->key))value;                                                                   \
        return true;                                                                                                \
    }
    CONFIG_RULE_TABLE(SETTING)
    snprintf(error, CONFIG_ERROR_SIZE, "there is no topic setting '%s'", name);
    return false;
}

static enum weir_error settings_parse(struct topic_rule *rule, char *text, char *error)
{
    char *rest = NULL;
    char *part = strtok_r(text, ",", &rest);
    if (part == NULL || topic_kind_find(view_text(part), &rule->kind) != WEIR_OK) {
        snprintf(error, CONFIG_ERROR_SIZE, "'%s' is no kind of topic: " CONFIG_KINDS, part != NULL ? part : "");
        return WEIR_BAD_REQUEST;
    }
    if (!config_kind_has_ttl(rule->kind))
        rule->ttl_ms = 0; /* the defaults' */
    while ((part = strtok_r(NULL, ",", &rest)) != NULL) {
        char *equals = strchr(part, '='), *end = NULL;
        uint64_t value = equals != NULL ? strtoull(equals + 1, &end, 10) : 0;
        if (equals == NULL || end == equals + 1 || *end != '\0' || equals[1] == '-') {
            snprintf(error, CONFIG_ERROR_SIZE, "'%s' is not SETTING=NUMBER", part);
            return WEIR_BAD_REQUEST;
        }
        *equals = '\0';
        if (!setting_apply(rule, part, value, error))
            return WEIR_BAD_REQUEST;
    }
    if (rule->ttl_ms > 0 && !config_kind_has_ttl(rule->kind)) {
        snprintf(error, CONFIG_ERROR_SIZE, CONFIG_TTL_COMPLAINT, topic_kind_name(rule->kind));
        return WEIR_BAD_REQUEST;
    }
    return WEIR_OK;
}

static enum weir_error rules_insert(struct config *config, size_t position, const struct directory_rule *rule)
{
    REQUIRE(position <= config->rule_count);
    struct directory_rule *rules = realloc(config->rules, (config->rule_count + 1) * sizeof *rules);
    if (rules == NULL)
        return WEIR_NO_MEMORY;
    memmove(&rules[position + 1], &rules[position], (config->rule_count - position) * sizeof *rules);
    rules[position] = *rule;
    config->rules = rules;
    config->rule_count++;
    return WEIR_OK;
}

enum weir_error config_topic_add(struct config *config, size_t position, const char *text,
                                 char error[CONFIG_ERROR_SIZE])
{
    char copy[1024], reason_text[CONFIG_ERROR_SIZE];
    const char *reason = "";
    struct directory_rule rule = {.rule = config->fallback};
    char *equals = NULL;
    if (strlen(text) >= sizeof copy) {
        snprintf(error, CONFIG_ERROR_SIZE, "a topic rule is at most %zu bytes long", sizeof copy - 1);
        return WEIR_TOO_BIG;
    }
    memcpy(copy, text, strlen(text) + 1);
    equals = strchr(copy, '=');
    if (equals == NULL) {
        snprintf(error, CONFIG_ERROR_SIZE, "'%.200s' is not PATTERN=KIND, for example 'prices/#=map'", text);
        return WEIR_BAD_REQUEST;
    }
    *equals = '\0';
    if (pattern_check(view_text(copy), &reason) != WEIR_OK) {
        snprintf(error, CONFIG_ERROR_SIZE, "pattern '%.200s': %s", copy, reason);
        return WEIR_BAD_TOPIC;
    }
    memcpy(rule.pattern, copy, strlen(copy) + 1); /* at most TOPIC_NAME_SIZE_MAX bytes: the check said so */
    enum weir_error result = settings_parse(&rule.rule, equals + 1, reason_text);
    if (result != WEIR_OK) {
        snprintf(error, CONFIG_ERROR_SIZE, "topic rule '%.*s': %.*s", 200, text, 200, reason_text);
        return result;
    }
    return rules_insert(config, position, &rule);
}

/* ------------------------------------------------------------------------------------------ the whole */

/* Names are not resolved: what is not written as loopback may be anything. */
static bool url_is_local(const char *url)
{
    static const char *const local[] = {"ipc://", "tcp://localhost:", "tcp://[::1]:"};
    for (size_t i = 0; i < COUNT_OF(local); i++) {
        if (strncmp(url, local[i], strlen(local[i])) == 0)
            return true;
    }
    /* 127.0.0.0/8, as a number: "127.example.org" is a name. */
    return strncmp(url, "tcp://127.", 10) == 0 && url[6 + strspn(url + 6, "0123456789.")] == ':';
}

enum weir_error config_check(const struct config *config, char error[CONFIG_ERROR_SIZE])
{
    for (size_t i = 0; i < config->listen_count; i++) {
        if (url_is_local(config->listen[i]) || config->insecure)
            continue;
        snprintf(
            error, CONFIG_ERROR_SIZE,
            "%s can be reached from other machines, and this version has no authentication yet: anyone there could "
            "read and publish everything. Listen on loopback or ipc://, or set 'insecure: true' (--insecure) if "
            "the network itself is trusted",
            config->listen[i]);
        return WEIR_FORBIDDEN;
    }
    if (config->admin != NULL && strncmp(config->admin, "ipc:///", 7) != 0) {
        snprintf(error, CONFIG_ERROR_SIZE,
                 "the admin socket '%.200s' must be ipc:///PATH: who reaches it rules the broker", config->admin);
        return WEIR_FORBIDDEN;
    }
    uint64_t state_bytes_max = CONFIG_STATE_MAX(config->broker.memory_bytes_max);
    if (config->topics.state_bytes_max > state_bytes_max) {
        snprintf(
            error, CONFIG_ERROR_SIZE,
            "topics.state_bytes_max (%llu) leaves too little of memory_bytes_max (%llu) to connections, which need "
            "a quarter: it is at most %llu",
            (unsigned long long)config->topics.state_bytes_max, (unsigned long long)config->broker.memory_bytes_max,
            (unsigned long long)state_bytes_max);
        return WEIR_BAD_REQUEST;
    }
    if (config->connections.receive_bytes_max < 4 * config->connections.message_bytes_max) {
        snprintf(
            error, CONFIG_ERROR_SIZE,
            "connections.receive_bytes_max (%llu) must be at least four times connections.message_bytes_max (%llu), so "
            "that a message can arrive while the one before it waits",
            (unsigned long long)config->connections.receive_bytes_max,
            (unsigned long long)config->connections.message_bytes_max);
        return WEIR_BAD_REQUEST;
    }
    return config_plugins_check(config, error);
}

const char *config_admin_default(void)
{
    static char url[256];
    const char *runtime_directory = getenv("XDG_RUNTIME_DIR");
    if (geteuid() == 0)
        snprintf(url, sizeof url, "ipc:///run/weir/admin.sock");
    else if (runtime_directory != NULL && *runtime_directory == '/')
        snprintf(url, sizeof url, "ipc://%s/weir/admin.sock", runtime_directory);
    else
        snprintf(url, sizeof url, "ipc:///tmp/weir-%u/admin.sock", (unsigned)geteuid());
    return url;
}

void config_each(const struct config *config,
                 void (*each)(const char *key, uint64_t value, uint64_t initial, bool can_reload, void *context),
                 void *context)
{
#define EACH_BROKER(key, initial, min, max, live) each(#key, config->broker.key, initial, live, context);
    CONFIG_BROKER_TABLE(EACH_BROKER)
#define EACH_CONNECTIONS(key, initial, min, max, live) \
    each("connections." #key, config->connections.key, initial, live, context);
    CONFIG_CONNECTIONS_TABLE(EACH_CONNECTIONS)
#define EACH_SESSIONS(key, initial, min, max, live) \
    each("sessions." #key, config->sessions.key, initial, live, context);
    CONFIG_SESSIONS_TABLE(EACH_SESSIONS)
#define EACH_TOPICS(key, initial, min, max, live) each("topics." #key, config->topics.key, initial, live, context);
    CONFIG_TOPICS_TABLE(EACH_TOPICS)
#define EACH_RULE(key, initial, min, max, live) \
    each("topics.defaults." #key, config->fallback.key, initial, live, context);
    CONFIG_RULE_TABLE(EACH_RULE)
}

/* ---------------------------------------------------------------------------------------------- reloading */

struct difference {
    const struct config *other;
    size_t index;
    uint64_t values[128];
};

static void difference_note(const char *key, uint64_t value, uint64_t initial, bool can_reload, void *context)
{
    struct difference *difference = context;
    (void)key, (void)initial, (void)can_reload;
    ENSURE(difference->index < COUNT_OF(difference->values));
    difference->values[difference->index++] = value;
}

static void difference_log(const char *key, uint64_t value, uint64_t initial, bool can_reload, void *context)
{
    struct difference *difference = context;
    uint64_t wanted = difference->values[difference->index++];
    (void)initial;
    if (!can_reload && wanted != value)
        log_warning("config.unchanged", "key=%s running=%llu wanted=%llu reason=\"needs a restart\"", key,
                    (unsigned long long)value, (unsigned long long)wanted);
}

void config_unchanged_log(const struct config *running, const struct config *wanted)
{
    struct difference difference = {.index = 0};
    config_each(wanted, difference_note, &difference);
    difference.index = 0;
    config_each(running, difference_log, &difference);
    bool is_same = running->listen_count == wanted->listen_count;
    for (size_t i = 0; is_same && i < running->listen_count; i++)
        is_same = strcmp(running->listen[i], wanted->listen[i]) == 0;
    if (!is_same)
        log_warning("config.unchanged", "key=listen reason=\"needs a restart\"");
    if (strcmp(running->admin, wanted->admin) != 0)
        log_warning("config.unchanged", "key=admin reason=\"needs a restart\"");
}

void config_adopt(struct config *config, struct config *from)
{
    config->log_level = from->log_level;
    config->auto_create = from->auto_create;
    config->fallback = from->fallback;
    struct directory_rule *rules = config->rules;
    config->rules = from->rules;
    config->rule_count = from->rule_count;
    from->rules = rules;
    struct plugin_config *plugins = config->plugins;
    size_t plugin_count = config->plugin_count;
    config->plugins = from->plugins;
    config->plugin_count = from->plugin_count;
    from->plugins = plugins;
    from->plugin_count = plugin_count;
#define ADOPT(section, key, live) \
    if (live)                     \
        config->section.key = from->section.key;
#define BROKER_ADOPT(key, initial, min, max, live) ADOPT(broker, key, live)
    CONFIG_BROKER_TABLE(BROKER_ADOPT)
#define CONNECTIONS_ADOPT(key, initial, min, max, live) ADOPT(connections, key, live)
    CONFIG_CONNECTIONS_TABLE(CONNECTIONS_ADOPT)
#define SESSIONS_ADOPT(key, initial, min, max, live) ADOPT(sessions, key, live)
    CONFIG_SESSIONS_TABLE(SESSIONS_ADOPT)
#define TOPICS_ADOPT(key, initial, min, max, live) ADOPT(topics, key, live)
    CONFIG_TOPICS_TABLE(TOPICS_ADOPT)
}
