/* The configuration: defaults, the documented file, ranges with file and line, rules, listeners and reloading. */
#include "broker/main/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* deploy/weir.yaml, from this file's own place in the tree. */
static const char *documented_path(void)
{
    static char path[512];
    const char *end = strstr(__FILE__, "tests/unit/");
    assert_non_null(end);
    snprintf(path, sizeof path, "%.*sdeploy/weir.yaml", (int)(end - __FILE__), __FILE__);
    return path;
}

/* Loads text as a file; error begins with the line number, without the file's name. */
static enum weir_error load_text(struct config *config, const char *text, char error[CONFIG_ERROR_SIZE])
{
    char path[] = "/tmp/config_test_XXXXXX", whole[CONFIG_ERROR_SIZE] = "";
    int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, text, strlen(text)), (ssize_t)strlen(text));
    close(file);
    config_init(config);
    enum weir_error result = config_load(config, path, whole);
    unlink(path);
    if (result == WEIR_OK) {
        *error = '\0';
        return result;
    }
    assert_int_equal(strncmp(whole, path, strlen(path)), 0);
    assert_int_equal(whole[strlen(path)], ':');
    memmove(error, whole + strlen(path) + 1, strlen(whole) - strlen(path));
    return result;
}

static void loads(const char *text)
{
    struct config config;
    char error[CONFIG_ERROR_SIZE];
    if (load_text(&config, text, error) != WEIR_OK)
        fail_msg("'%s' was refused: %s", text, error);
    config_fini(&config);
}

static void is_refused(const char *text, const char *complaint)
{
    struct config config;
    char error[CONFIG_ERROR_SIZE];
    if (load_text(&config, text, error) == WEIR_OK)
        fail_msg("'%s' was taken", text);
    if (strncmp(error, complaint, strlen(complaint)) != 0)
        fail_msg("'%s': '%s' instead of '%s'", text, error, complaint);
    config_fini(&config);
}

/* --------------------------------------------------------------------------------- the documented file */

/* Has the key's line a comment of its own above it, or shares it one with its neighbours? */
static bool has_comment(const char *text, const char *line)
{
    const char *at = line;
    while (at > text) {
        const char *above = at - 1;
        while (above > text && above[-1] != '\n')
            above--;
        const char *first = above + strspn(above, " ");
        if (*first == '#')
            return true;
        if (*first == '\n' || first[strcspn(first, ":")] != ':' || first[strcspn(first, "\n") - 1] == ':')
            return false;
        at = above;
    }
    return false;
}

static char *file_text(const char *path)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = calloc(1, 65536);
    assert_non_null(text);
    assert_true(fread(text, 1, 65535, file) > 0);
    fclose(file);
    return text;
}

/* The line "KEY: VALUE" below its section; NULL: none. */
static const char *key_line(const char *text, const char *key, uint64_t value)
{
    char line[128];
    const char *name = strrchr(key, '.') != NULL ? strrchr(key, '.') + 1 : key;
    const char *section = text;
    unsigned depth = 0;
    for (const char *at = key; (at = strchr(at, '.')) != NULL; at++)
        depth++;
    if (depth > 0) {
        snprintf(line, sizeof line, "\n%.*s:\n", (int)strcspn(key, "."), key);
        section = strstr(text, line);
        if (section == NULL)
            return NULL;
    }
    snprintf(line, sizeof line, "\n%*s%s: %llu\n", (int)(2 * depth), "", name, (unsigned long long)value);
    const char *found = strstr(section, line);
    return found == NULL ? NULL : found + 1;
}

static void check_documented(const char *key, uint64_t value, uint64_t initial, bool can_reload, void *context)
{
    const char *text = context;
    const char *line = key_line(text, key, initial);
    (void)can_reload;
    if (value != initial)
        fail_msg("%s is %llu in the file, %llu by default", key, (unsigned long long)value,
                 (unsigned long long)initial);
    if (line == NULL)
        fail_msg("%s: %llu is not in the file", key, (unsigned long long)initial);
    if (!has_comment(text, line))
        fail_msg("%s has no comment", key);
}

static void documented_file_has_every_key_with_its_default_and_a_comment(void **state)
{
    (void)state;
    struct config config;
    char error[CONFIG_ERROR_SIZE] = "";
    char *text = file_text(documented_path());
    config_init(&config);
    if (config_load(&config, documented_path(), error) != WEIR_OK)
        fail_msg("%s", error);
    assert_int_equal(config_check(&config, error), WEIR_OK);
    config_each(&config, check_documented, text);
    assert_int_equal(config.listen_count, 1);
    assert_string_equal(config.listen[0], "tcp://127.0.0.1:7450");
    assert_string_equal(config.admin, "ipc:///run/weir/admin.sock");
    assert_false(config.insecure);
    assert_true(config.auto_create);
    assert_int_equal(config.log_level, LOG_INFO);
    assert_int_equal(config.fallback.kind, TOPIC_LAST);
    assert_int_equal(config.rule_count, 0);
    static const char *const others[] = {
        "\nlisten:", "\nadmin:", "\ninsecure:", "\nlog_level:", "  auto_create:", "  rules:"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        const char *line = strstr(text, others[i]);
        assert_non_null(line);
        assert_true(has_comment(text, *line == '\n' ? line + 1 : line));
    }
    free(text);
    config_fini(&config);
}

/* ------------------------------------------------------------------------------------------------ ranges */

/* Tries the ends of a range, and what lies behind them, as the file `before` ends with the key. */
static void check_range(const char *before, const char *key, uint64_t min, uint64_t max)
{
    const uint64_t tries[] = {min, max, max + 1, min - 1};
    char text[256], complaint[256];
    unsigned line = 1;
    for (const char *at = before; (at = strchr(at, '\n')) != NULL; at++)
        line++;
    snprintf(complaint, sizeof complaint, "%u: %s must be a number between %llu and %llu", line, key,
             (unsigned long long)min, (unsigned long long)max);
    for (size_t i = 0; i < (min == 0 ? 3 : 4); i++) {
        snprintf(text, sizeof text, "%s%llu\n", before, (unsigned long long)tries[i]);
        if (i < 2)
            loads(text);
        else
            is_refused(text, complaint);
    }
}

static void every_range_is_kept_and_named_with_its_line(void **state)
{
    (void)state;
#define CHECK_BROKER(key, initial, min, max, live) check_range("# first\n" #key ": ", #key, min, max);
    CONFIG_BROKER_TABLE(CHECK_BROKER)
#define CHECK_CONNECTIONS(key, initial, min, max, live) \
    check_range("connections:\n\n  " #key ": ", "connections." #key, min, max);
    CONFIG_CONNECTIONS_TABLE(CHECK_CONNECTIONS)
#define CHECK_SESSIONS(key, initial, min, max, live) check_range("sessions:\n  " #key ": ", "sessions." #key, min, max);
    CONFIG_SESSIONS_TABLE(CHECK_SESSIONS)
#define CHECK_TOPICS(key, initial, min, max, live) \
    check_range("sessions:\n  feeds_max: 5\ntopics:\n  " #key ": ", "topics." #key, min, max);
    CONFIG_TOPICS_TABLE(CHECK_TOPICS)
#define CHECK_RULE(key, initial, min, max, live)                                                                      \
    check_range("topics:\n  defaults:\n    " #key ": ", "topics.defaults." #key, min, max);                           \
    check_range(                                                                                                      \
        "topics:\n  rules:\n    - pattern: a\n      kind: map\n    - pattern: b\n      kind: last\n      " #key ": ", \
        "topics.rules.1." #key, min, max);
    CONFIG_RULE_TABLE(CHECK_RULE)
}

static void what_is_no_number_is_refused(void **state)
{
    (void)state;
    static const char *const numbers[] = {
        "-1", "1.5", "010", "0x10", "abc", "1k", "1 2", "'1 '", "+1", "99999999999999999999999", "''"};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "\nworkers: %s\n", numbers[i]);
        is_refused(text, "2: workers must be a number between 0 and 64");
    }
}

static void shape_is_checked_with_the_line(void **state)
{
    (void)state;
    is_refused("nonsense: 1\n", "1: unknown key 'nonsense'");
    is_refused("workers: 1\nconnections:\n  max: 5\n  nope: 3\n", "4: unknown key 'nope'");
    is_refused("topics:\n  max: 5\n  defaults:\n    pattern: x\n", "4: unknown key 'pattern'");
    is_refused("topics:\n  rules:\n    - pattern: a\n      kind: map\n      oops: 1\n", "5: unknown key 'oops'");
    is_refused("workers: 1\nworkers: 2\n", "");
    is_refused("connections: 5\n", "1: ");
    is_refused("workers: [1]\n", "1: ");
    is_refused("workers: 1\nlisten: here\n", "2: ");
    is_refused("listen: []\n", "1: ");
    is_refused("log_level: loud\n", "1: ");
    is_refused("workers: 1\ninsecure: maybe\n", "2: ");
    is_refused("topics:\n  auto_create: 2\n", "2: ");
    is_refused("- a\n", "");
    is_refused("{", "1: ");
    is_refused("\x01\x02", "");
    is_refused("workers: &a 1\nshutdown_ms: *a\n", "");
    loads("");
    loads("# nothing\n");
}

static void file_that_is_not_there_is_said_to_be_so(void **state)
{
    (void)state;
    struct config config;
    char error[CONFIG_ERROR_SIZE];
    config_init(&config);
    assert_int_equal(config_load(&config, "/nonexistent/weir.yaml", error), WEIR_NOT_FOUND);
    assert_non_null(strstr(error, "/nonexistent/weir.yaml"));
    assert_int_not_equal(config_load(&config, "/tmp", error), WEIR_OK);
    config_fini(&config);
}

/* ------------------------------------------------------------------------------------------------ rules */

static void rules_start_from_the_defaults_and_keep_their_order(void **state)
{
    (void)state;
    struct config config;
    char error[CONFIG_ERROR_SIZE];
    const char *text = "topics:\n  rules:\n    - pattern: prices/#\n      kind: map\n    - pattern: events/+\n"
                       "      kind: log\n      log_count_max: 7\n  defaults:\n    mailbox_max: 99\n    kind: merge\n";
    assert_int_equal(load_text(&config, text, error), WEIR_OK);
    assert_int_equal(config.rule_count, 2);
    assert_string_equal(config.rules[0].pattern, "prices/#");
    assert_int_equal(config.rules[0].rule.kind, TOPIC_MAP);
    assert_int_equal(config.rules[0].rule.mailbox_max, 99);
    assert_int_equal(config.rules[1].rule.kind, TOPIC_LOG);
    assert_int_equal(config.rules[1].rule.log_count_max, 7);
    assert_int_equal(config.fallback.kind, TOPIC_MERGE);
    assert_int_equal(config_topic_add(&config, 0, "a/b=log,log_count_max=5,mailbox_max=3", error), WEIR_OK);
    assert_int_equal(config_topic_add(&config, 1, "c=last", error), WEIR_OK);
    assert_int_equal(config.rule_count, 4);
    assert_string_equal(config.rules[0].pattern, "a/b");
    assert_int_equal(config.rules[0].rule.log_count_max, 5);
    assert_int_equal(config.rules[0].rule.mailbox_max, 3);
    assert_string_equal(config.rules[1].pattern, "c");
    assert_string_equal(config.rules[2].pattern, "prices/#");
    config_fini(&config);
    is_refused("topics:\n  rules:\n    - pattern: a/#/b\n      kind: map\n", "3: pattern 'a/#/b'");
    is_refused("topics:\n  rules:\n    - pattern: a\n", "");
    is_refused("topics:\n  rules:\n    - kind: map\n", "");
    is_refused("topics:\n  rules:\n    - pattern: a\n      kind: odd\n", "4: ");
}

static void malformed_topic_options_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "=",
                                        "a",
                                        "a=",
                                        "=map",
                                        "a=odd",
                                        "a//b=map",
                                        "a=map,",
                                        "a=map,x=1",
                                        "a=map,mailbox_max",
                                        "a=map,mailbox_max=",
                                        "a=map,mailbox_max=x",
                                        "a=map,mailbox_max=-1",
                                        "a=map,mailbox_max=0",
                                        "a=map,mailbox_max=65536",
                                        "a=map=last",
                                        "a=log,ttl_ms=5",
                                        "#/a=map"};
    struct config config;
    char error[CONFIG_ERROR_SIZE];
    char long_text[4096];
    config_init(&config);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        *error = '\0';
        enum weir_error result = config_topic_add(&config, 0, texts[i], error);
        if (strcmp(texts[i], "a=map,") == 0) { /* strtok's view: nothing behind the comma */
            assert_int_equal(result, WEIR_OK);
            continue;
        }
        if (result == WEIR_OK || *error == '\0')
            fail_msg("'%s' was taken", texts[i]);
    }
    memset(long_text, 'a', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    assert_int_not_equal(config_topic_add(&config, 0, long_text, error), WEIR_OK);
    memcpy(long_text + 300, "=map", 5);
    assert_int_not_equal(config_topic_add(&config, 0, long_text, error), WEIR_OK);
    config_fini(&config);
}

/* ------------------------------------------------------------------------------------------- the whole */

static enum weir_error check_listen(const char *url, bool is_insecure)
{
    struct config config;
    char error[CONFIG_ERROR_SIZE] = "";
    config_init(&config);
    config.insecure = is_insecure;
    assert_int_equal(config_listen_add(&config, url, error), WEIR_OK);
    enum weir_error result = config_check(&config, error);
    assert_true(result == WEIR_OK || strlen(error) > 0);
    config_fini(&config);
    return result;
}

static void listening_outside_loopback_needs_insecure(void **state)
{
    (void)state;
    static const char *const local[] = {"tcp://127.0.0.1:7450", "tcp://127.9.9.9:0", "tcp://localhost:1",
                                        "tcp://[::1]:1", "ipc:///tmp/x"};
    static const char *const open[] = {"tcp://0.0.0.0:7450",
                                       "tcp://*:1",
                                       "tcp://10.0.0.1:1",
                                       "tcp://[::]:1",
                                       "tcp://:1",
                                       "tcp://127.example.org:1",
                                       "tcp://localhost.example.org:1",
                                       "tcp://host:1",
                                       "tcp://127.0.0.1"};
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++)
        assert_int_equal(check_listen(local[i], false), WEIR_OK);
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) {
        assert_int_equal(check_listen(open[i], false), WEIR_FORBIDDEN);
        assert_int_equal(check_listen(open[i], true), WEIR_OK);
    }
}

static void a_time_to_live_is_for_kinds_whose_records_end(void **state)
{
    (void)state;
    struct config config;
    char error[CONFIG_ERROR_SIZE];
    is_refused("topics:\n  rules:\n    - pattern: a\n      kind: log\n      ttl_ms: 5\n", "5: ttl_ms has no meaning");
    is_refused("topics:\n  rules:\n    - pattern: a\n      kind: merge\n      ttl_ms: 5\n", "5: ttl_ms has no meaning");
    is_refused("topics:\n  defaults:\n    kind: log\n    ttl_ms: 5\n", "4: ttl_ms has no meaning");
    /* What the defaults say is for the others. */
    assert_int_equal(load_text(&config,
                               "topics:\n  defaults:\n    ttl_ms: 5\n  rules:\n    - pattern: a\n      kind: log\n"
                               "    - pattern: b\n      kind: map\n",
                               error),
                     WEIR_OK);
    assert_int_equal(config.rules[0].rule.ttl_ms, 0);
    assert_int_equal(config.rules[1].rule.ttl_ms, 5);
    assert_int_equal(config_topic_add(&config, 0, "c=merge", error), WEIR_OK);
    assert_int_equal(config.rules[0].rule.ttl_ms, 0);
    config_fini(&config);
}

static void listeners_are_bounded_and_of_known_kinds(void **state)
{
    (void)state;
    struct config config;
    char error[CONFIG_ERROR_SIZE];
    config_init(&config);
    assert_int_equal(config_listen_add(&config, "udp://x", error), WEIR_BAD_REQUEST);
    for (int i = 0; i < CONFIG_LISTEN_MAX; i++)
        assert_int_equal(config_listen_add(&config, "tcp://127.0.0.1:0", error), WEIR_OK);
    assert_int_equal(config_listen_add(&config, "tcp://127.0.0.1:0", error), WEIR_TOO_BIG);
    config_fini(&config);
    is_refused("listen:\n  - tcp://127.0.0.1:1\n  - udp://x\n", "3: cannot listen on 'udp://x'");
}

static void settings_must_fit_each_other(void **state)
{
    (void)state;
    struct config config;
    char error[CONFIG_ERROR_SIZE];
    config_init(&config);
    assert_int_equal(config_check(&config, error), WEIR_OK);
    config.topics.state_bytes_max = config.broker.memory_bytes_max / 4 * 3 + 1;
    assert_int_equal(config_check(&config, error), WEIR_BAD_REQUEST);
    config_fini(&config);
    config_init(&config);
    config.connections.message_bytes_max = config.connections.receive_bytes_max;
    assert_int_equal(config_check(&config, error), WEIR_BAD_REQUEST);
    config_fini(&config);
    config_init(&config);
    config.admin = strdup("tcp://127.0.0.1:1");
    assert_int_equal(config_check(&config, error), WEIR_FORBIDDEN);
    config_fini(&config);
}

/* ------------------------------------------------------------------------------------------- reloading */

static void reload_takes_over_what_can_change_and_only_that(void **state)
{
    (void)state;
    struct config running, wanted;
    char error[CONFIG_ERROR_SIZE];
    assert_int_equal(
        load_text(&wanted,
                  "workers: 7\nshutdown_ms: 77\nlog_level: error\nconnections:\n  max: 5\n  handshake_ms: 99\n"
                  "topics:\n  auto_create: false\n  max: 3\n  defaults:\n    kind: log\n"
                  "  rules:\n    - pattern: x\n      kind: map\n",
                  error),
        WEIR_OK);
    config_init(&running);
    assert_int_equal(config_topic_add(&running, 0, "old=last", error), WEIR_OK);
    running.admin = strdup("ipc:///a");
    wanted.admin = strdup("ipc:///b");
    assert_int_equal(config_listen_add(&running, "tcp://127.0.0.1:1", error), WEIR_OK);
    log_level_set(LOG_OFF);
    config_unchanged_log(&running, &wanted);
    config_adopt(&running, &wanted);
    assert_int_equal(running.broker.shutdown_ms, 77);
    assert_int_equal(running.connections.max, 5);
    assert_int_equal(running.log_level, LOG_ERROR);
    assert_false(running.auto_create);
    assert_int_equal(running.fallback.kind, TOPIC_LOG);
    assert_int_equal(running.rule_count, 1);
    assert_string_equal(running.rules[0].pattern, "x");
    assert_int_equal(running.broker.workers, 0);
    assert_int_equal(running.connections.handshake_ms, 5000);
    assert_int_equal(running.topics.max, 100000);
    assert_string_equal(running.admin, "ipc:///a");
    assert_int_equal(running.listen_count, 1);
    config_fini(&wanted);
    config_fini(&running);
}

static void admin_default_is_a_private_place(void **state)
{
    (void)state;
    assert_int_equal(strncmp(config_admin_default(), "ipc:///", 7), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documented_file_has_every_key_with_its_default_and_a_comment),
        cmocka_unit_test(every_range_is_kept_and_named_with_its_line),
        cmocka_unit_test(what_is_no_number_is_refused),
        cmocka_unit_test(shape_is_checked_with_the_line),
        cmocka_unit_test(file_that_is_not_there_is_said_to_be_so),
        cmocka_unit_test(rules_start_from_the_defaults_and_keep_their_order),
        cmocka_unit_test(malformed_topic_options_are_refused),
        cmocka_unit_test(listening_outside_loopback_needs_insecure),
        cmocka_unit_test(a_time_to_live_is_for_kinds_whose_records_end),
        cmocka_unit_test(listeners_are_bounded_and_of_known_kinds),
        cmocka_unit_test(settings_must_fit_each_other),
        cmocka_unit_test(reload_takes_over_what_can_change_and_only_that),
        cmocka_unit_test(admin_default_is_a_private_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
