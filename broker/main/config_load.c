/* Loads a configuration file over the defaults: libcyaml checks its shape, this the ranges and patterns; every error
 * names file and line. Called by the command line and on SIGHUP, on the main thread. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "broker/main/config_place.h"
#include "broker/main/config_plugins.h"
#include "broker/main/config_schema.h"
#include "clients/wire/name.h"

/* ------------------------------------------------------------------------- what libcyaml says, kept */

struct complaint {
    char text[256];
    size_t line;
};

__attribute__((format(printf, 3, 0))) static void on_log(cyaml_log_t level, void *context, const char *format,
                                                         va_list arguments)
{
    (void)level;
    struct complaint *complaint = context;
    char text[256];
    vsnprintf(text, sizeof text, format, arguments);
    text[strcspn(text, "\n")] = '\0';
    const char *line = strstr(text, "(line: ");
    if (line != NULL && complaint->line == 0)
        complaint->line = strtoul(line + strlen("(line: "), NULL, 10);
    if (complaint->text[0] == '\0')
        snprintf(complaint->text, sizeof complaint->text, "%s", strncmp(text, "Load: ", 6) == 0 ? text + 6 : text);
}

static void complaint_say(const struct complaint *complaint, const char *path, cyaml_err_t code, char *error)
{
    static const char unexpected[] = "Unexpected key: ";
    size_t line = complaint->line;
    if (strncmp(complaint->text, unexpected, strlen(unexpected)) == 0) {
        char wanted[256];
        snprintf(wanted, sizeof wanted, "*.%s", complaint->text + strlen(unexpected));
        size_t found = config_place_find(path, wanted, line > 0 ? line - 1 : 0);
        line = found != 0 ? found : line;
        snprintf(error, CONFIG_ERROR_SIZE, "%s:%zu: unknown key '%s'; deploy/weir.yaml lists every key", path, line,
                 wanted + 2);
        return;
    }
    snprintf(error, CONFIG_ERROR_SIZE, "%s:%zu: %s", path, line > 0 ? line : 1,
             complaint->text[0] != '\0' ? complaint->text : cyaml_strerror(code));
}

/* --------------------------------------------------------------------------------- numbers and ranges */

/* Decimal digits only: what looks like octal, a fraction or a sign is a mistake. */
static bool number_read(const char *text, uint64_t *out)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    bool is_padded = text[0] == '0' && text[1] != '\0';
    if (*text < '0' || *text > '9' || is_padded || *end != '\0' || errno != 0)
        return false;
    *out = value;
    return true;
}

bool config_number_take(const struct loading *loading, const char *section, const char *key, const char *given,
                        uint64_t min, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;
    if (given == NULL)
        return true;
    bool is_number = number_read(given, &value);
    if (is_number && value >= min && value <= max) {
        *out = value;
        return true;
    }
    char place[256];
    snprintf(place, sizeof place, "%s%s%s", section, *section != '\0' ? "." : "", key);
    snprintf(loading->error, CONFIG_ERROR_SIZE, "%s:%zu: %s must be a number between %llu and %llu", loading->path,
             config_place_find(loading->path, place, 0), place, (unsigned long long)min, (unsigned long long)max);
    return false;
}

#define TAKE(key, initial, min, max, live) &&config_number_take(loading, section, #key, raw->key, min, max, &to->key)

static bool broker_take(const struct loading *loading, const struct raw_config *raw, struct config_broker *to)
{
    const char *section = "";
    return true CONFIG_BROKER_TABLE(TAKE);
}

static bool connections_take(const struct loading *loading, const struct raw_connections *raw,
                             struct config_connections *to)
{
    const char *section = "connections";
    return raw == NULL || (true CONFIG_CONNECTIONS_TABLE(TAKE));
}

static bool sessions_take(const struct loading *loading, const struct raw_sessions *raw, struct config_sessions *to)
{
    const char *section = "sessions";
    return raw == NULL || (true CONFIG_SESSIONS_TABLE(TAKE));
}

static bool topics_take(const struct loading *loading, const struct raw_topics *raw, struct config_topics *to)
{
    const char *section = "topics";
    return true CONFIG_TOPICS_TABLE(TAKE);
}

static bool rule_numbers_take(const struct loading *loading, const char *section, const struct raw_rule *raw,
                              struct config_rule *to)
{
    return true CONFIG_RULE_TABLE(TAKE);
}

/* Records of a log or merge topic do not end one by one: a rule that says so is a mistake, one that inherits it is not.
 */
static bool rule_ttl_fits(const struct loading *loading, const char *section, const struct raw_rule *raw,
                          struct topic_rule *rule)
{
    bool is_said = raw->ttl_ms != NULL && rule->ttl_ms > 0;
    if (config_kind_has_ttl(rule->kind))
        return true;
    rule->ttl_ms = 0;
    if (!is_said)
        return true;
    char place[80];
    snprintf(place, sizeof place, "%s.ttl_ms", section);
    snprintf(loading->error, CONFIG_ERROR_SIZE, "%s:%zu: " CONFIG_TTL_COMPLAINT, loading->path,
             config_place_find(loading->path, place, 0), topic_kind_name(rule->kind));
    return false;
}

static bool rule_take(const struct loading *loading, const char *section, const struct raw_rule *raw,
                      struct topic_rule *rule)
{
    struct config_rule numbers;
#define RULE_GET(key, initial, min, max, live) numbers.key = rule->key;
    CONFIG_RULE_TABLE(RULE_GET)
    if (!rule_numbers_take(loading, section, raw, &numbers))
        return false;
#define RULE_SET(key, initial, min, max, live) rule->key = (__typeof__(rule->key))numbers.key;
    CONFIG_RULE_TABLE(RULE_SET)
    if (raw->kind == NULL || topic_kind_find(view_text(raw->kind), &rule->kind) == WEIR_OK)
        return rule_ttl_fits(loading, section, raw, rule);
    char place[80];
    snprintf(place, sizeof place, "%s.kind", section);
    snprintf(loading->error, CONFIG_ERROR_SIZE, "%s:%zu: '%s' is no kind of topic: " CONFIG_KINDS, loading->path,
             config_place_find(loading->path, place, 0), raw->kind);
    return false;
}

bool config_no_memory(const struct loading *loading)
{
    snprintf(loading->error, CONFIG_ERROR_SIZE, "%s: no memory", loading->path);
    return false;
}

static bool rules_take(const struct loading *loading, const struct raw_topics *raw, struct config *config)
{
    config->rules = calloc(raw->rules_count + 1, sizeof *config->rules);
    if (config->rules == NULL)
        return config_no_memory(loading);
    for (unsigned i = 0; i < raw->rules_count; i++) {
        char section[64];
        const char *reason = "";
        struct directory_rule *rule = &config->rules[i];
        snprintf(section, sizeof section, "topics.rules.%u", i);
        rule->rule = config->fallback;
        snprintf(rule->pattern, sizeof rule->pattern, "%s", raw->rules[i].pattern);
        config->rule_count++;
        if (pattern_check(view_text(rule->pattern), &reason) != WEIR_OK) {
            snprintf(section, sizeof section, "topics.rules.%u.pattern", i);
            snprintf(loading->error, CONFIG_ERROR_SIZE, "%s:%zu: pattern '%s': %s", loading->path,
                     config_place_find(loading->path, section, 0), rule->pattern, reason);
            return false;
        }
        if (!rule_take(loading, section, &raw->rules[i], &rule->rule))
            return false;
    }
    return true;
}

static bool listen_take(const struct loading *loading, const struct raw_config *raw, struct config *config)
{
    for (unsigned i = 0; i < raw->listen_count; i++) {
        char place[32], reason[CONFIG_ERROR_SIZE];
        snprintf(place, sizeof place, "listen.%u", i);
        if (config_listen_add(config, raw->listen[i], reason) == WEIR_OK)
            continue;
        snprintf(loading->error, CONFIG_ERROR_SIZE, "%s:%zu: %.*s", loading->path,
                 config_place_find(loading->path, place, 0), CONFIG_ERROR_SIZE / 2, reason);
        return false;
    }
    return true;
}

static bool config_take(const struct loading *loading, const struct raw_config *raw, struct config *config)
{
    if (!listen_take(loading, raw, config))
        return false;
    if (raw->admin != NULL) {
        free(config->admin);
        config->admin = strdup(raw->admin);
        if (config->admin == NULL)
            return config_no_memory(loading);
    }
    config->insecure = raw->insecure != NULL ? *raw->insecure : config->insecure;
    config->log_level = raw->log_level != NULL ? *raw->log_level : config->log_level;
    if (!broker_take(loading, raw, &config->broker) ||
        !connections_take(loading, raw->connections, &config->connections) ||
        !sessions_take(loading, raw->sessions, &config->sessions))
        return false;
    const struct raw_topics *topics = raw->topics;
    if (!config_plugins_take(loading, raw, config))
        return false;
    if (topics == NULL)
        return true;
    config->auto_create = topics->auto_create != NULL ? *topics->auto_create : config->auto_create;
    return topics_take(loading, topics, &config->topics) &&
           (topics->defaults == NULL || rule_take(loading, "topics.defaults", topics->defaults, &config->fallback)) &&
           rules_take(loading, topics, config);
}

enum weir_error config_load(struct config *config, const char *path, char error[CONFIG_ERROR_SIZE])
{
    struct complaint complaint = {.line = 0};
    struct raw_config *raw = NULL;
    const cyaml_config_t settings = {.log_fn = on_log,
                                     .log_ctx = &complaint,
                                     .log_level = CYAML_LOG_ERROR,
                                     .mem_fn = cyaml_mem,
                                     .flags = CYAML_CFG_NO_ALIAS};
    error[0] = '\0';
    cyaml_err_t code = cyaml_load_file(path, &settings, &config_schema, (cyaml_data_t **)&raw, NULL);
    if (code == CYAML_ERR_FILE_OPEN) {
        snprintf(error, CONFIG_ERROR_SIZE, "%s: cannot be read", path);
        return WEIR_NOT_FOUND;
    }
    if (code != CYAML_OK) {
        complaint_say(&complaint, path, code, error);
        return WEIR_BAD_REQUEST;
    }
    struct loading loading = {path, error};
    bool is_taken = raw == NULL || config_take(&loading, raw, config);
    cyaml_free(&settings, &config_schema, raw, 0);
    return is_taken ? WEIR_OK : WEIR_BAD_REQUEST;
}
