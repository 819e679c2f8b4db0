/* The broker's configuration: one table of every number an operator may set, with default and range, from which the
 * YAML schema, the checks, the view of `config show` and the documentation test are made. Called by boot and the
 * command line, on the main thread. */
#ifndef BROKER_MAIN_CONFIG_H
#define BROKER_MAIN_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "actors/base/log.h"
#include "actors/plugin/plugin.h"
#include "actors/topic/directory.h"
#include "weir_error.h"

#define CONFIG_KIB UINT64_C(1024)
#define CONFIG_MIB (UINT64_C(1024) * CONFIG_KIB)
#define CONFIG_GIB (UINT64_C(1024) * CONFIG_MIB)

/* ROW(key, default, min, max, can be reloaded). The reason of each default stands in deploy/weir.yaml, which a test
 * holds against this table. */
#define CONFIG_BROKER_TABLE(ROW)                                                 \
    ROW(workers, 0, 0, 64, false)                                                \
    ROW(memory_bytes_max, CONFIG_GIB, 16 * CONFIG_MIB, 1024 * CONFIG_GIB, false) \
    ROW(shutdown_ms, 5000, 0, 600000, true)                                      \
    ROW(sys_interval_ms, 1000, 100, 3600000, false)

#define CONFIG_CONNECTIONS_TABLE(ROW)                                          \
    ROW(handshake_ms, 5000, 10, 600000, false)                                 \
    ROW(handshaking_max, 1024, 1, 1000000, false)                              \
    ROW(max, 10000, 1, 1000000, true)                                          \
    ROW(per_address_max, 10000, 0, 1000000, true)                              \
    ROW(message_bytes_max, CONFIG_MIB, 4 * CONFIG_KIB, 64 * CONFIG_MIB, true)  \
    ROW(receive_bytes_max, 16 * CONFIG_MIB, 64 * CONFIG_KIB, CONFIG_GIB, true) \
    ROW(heartbeat_ms, 5000, 10, 3600000, true)                                 \
    ROW(idle_ms, 0, 0, UINT32_MAX, true)                                       \
    ROW(records_per_message_max, 65536, 1, 1000000, true)                      \
    ROW(depth_max, 16, 1, 64, true)                                            \
    ROW(reply_deadline_ms, 5000, 1, 600000, true)                              \
    ROW(requests_max, 64, 1, 65536, true)                                      \
    ROW(log_interval_ms, 10000, 0, 3600000, true)

#define CONFIG_SESSIONS_TABLE(ROW)                                      \
    ROW(publish_window_bytes, CONFIG_MIB, CONFIG_KIB, CONFIG_GIB, true) \
    ROW(outbox_bytes, CONFIG_MIB, CONFIG_KIB, CONFIG_GIB, true)         \
    ROW(subscriptions_max, 1024, 1, 1000000, true)                      \
    ROW(feeds_max, 100000, 1, 10000000, true)                           \
    ROW(aliases_max, 65536, 1, 65536, true)

#define CONFIG_TOPICS_TABLE(ROW)                                                 \
    ROW(max, 100000, 1, 10000000, false)                                         \
    ROW(state_bytes_max, 512 * CONFIG_MIB, CONFIG_MIB, 1024 * CONFIG_GIB, false) \
    ROW(subscriptions_max, 100000, 1, 10000000, false)                           \
    ROW(feeds_max, 1000000, 1, 100000000, false)                                 \
    ROW(block_max_ms, 0, 0, 86400000, false)                                     \
    ROW(join_bytes_per_s, CONFIG_GIB, 0, 1024 * CONFIG_GIB, false)               \
    ROW(join_burst_bytes, 256 * CONFIG_MIB, 0, 1024 * CONFIG_GIB, false)         \
    ROW(dead_count_max, 1000, 1, 1000000, false)

/* Of one rule, and of topics without a rule. 0: no bound of this sort. */
#define CONFIG_RULE_TABLE(ROW)                                                     \
    ROW(log_count_max, 10000, 0, 100000000, true)                                  \
    ROW(log_bytes_max, 16 * CONFIG_MIB, 0, 1024 * CONFIG_GIB, true)                \
    ROW(log_age_max_ms, 0, 0, UINT64_C(10) * 365 * 86400000, true)                 \
    ROW(state_bytes_max, 64 * CONFIG_MIB, CONFIG_KIB, 1024 * CONFIG_GIB, true)     \
    ROW(retain_count_max, 65536, 1, 100000000, true)                               \
    ROW(retain_bytes_max, 4 * CONFIG_MIB, 4 * CONFIG_KIB, 1024 * CONFIG_GIB, true) \
    ROW(mailbox_max, 1024, 1, 65535, true)                                         \
    ROW(ttl_ms, 0, 0, UINT64_C(10) * 365 * 86400000, true)                         \
    ROW(bind_grace_ms, 5000, 0, 86400000, true)                                    \
    ROW(bound_keys_max, 65536, 1, 10000000, true)                                  \
    ROW(dedup_records_max, 4096, 1, 65536, true)                                   \
    ROW(dedup_publishers_max, 256, 1, 1000000, true)

/* Of one plugin. Reloading takes effect when the plugin is loaded or reloaded. */
#define CONFIG_PLUGIN_TABLE(ROW)                                                                        \
    ROW(intensity, PLUGIN_INTENSITY_DEFAULT, 1, SUPERVISOR_INTENSITY_MAX, true)                         \
    ROW(period_ms, PLUGIN_PERIOD_MS_DEFAULT, 1, 86400000, true)                                         \
    ROW(time_ms_max, PLUGIN_TIME_MS_DEFAULT, 1, 3600000, true)                                          \
    ROW(start_ms_max, PLUGIN_START_MS_DEFAULT, 1, 3600000, true)                                        \
    ROW(memory_bytes_max, PLUGIN_MEMORY_BYTES_DEFAULT, CONFIG_MIB, 1024 * CONFIG_GIB, true)             \
    ROW(mailbox_max, MAILBOX_MAX_DEFAULT, 1, 65535, true)                                               \
    ROW(emits_max, PLUGIN_EMITS_DEFAULT, 1, 1000000, true)                                              \
    ROW(emit_bytes_max, PLUGIN_EMIT_BYTES_DEFAULT, CONFIG_KIB, 256 * CONFIG_MIB, true)                  \
    ROW(value_bytes_max, PLUGIN_VALUE_BYTES_DEFAULT, CONFIG_KIB, 32 * CONFIG_MIB, true)                 \
    ROW(snapshot_bytes_max, PLUGIN_SNAPSHOT_BYTES_DEFAULT, CONFIG_KIB, PLUGIN_SNAPSHOT_BYTES_MAX, true) \
    ROW(ring_bytes, PLUGIN_RING_BYTES_DEFAULT, 64 * CONFIG_KIB, 256 * CONFIG_MIB, true)                 \
    ROW(emit_bytes_per_s, 0, 0, 1024 * CONFIG_GIB, true)

#define CONFIG_MEMBER(key, initial, min, max, live) uint64_t key;
struct config_broker {
    CONFIG_BROKER_TABLE(CONFIG_MEMBER)
};
struct config_connections {
    CONFIG_CONNECTIONS_TABLE(CONFIG_MEMBER)
};
struct config_sessions {
    CONFIG_SESSIONS_TABLE(CONFIG_MEMBER)
};
struct config_topics {
    CONFIG_TOPICS_TABLE(CONFIG_MEMBER)
};
struct config_rule {
    CONFIG_RULE_TABLE(CONFIG_MEMBER)
};
struct config_plugin {
    CONFIG_PLUGIN_TABLE(CONFIG_MEMBER)
};
#undef CONFIG_MEMBER

#define CONFIG_RULES_MAX 1024
#define CONFIG_PLUGINS_MAX 256
/* A plugin's own block, as msgpack. */
#define CONFIG_VALUE_BYTES_MAX (64 * CONFIG_KIB)
/* With the kind's name. */
#define CONFIG_TTL_COMPLAINT \
    "ttl_ms has no meaning in a topic of kind %s, whose records do not end one by one (a log has log_age_max_ms)"
/* What topics may have of the memory ceiling. An eighth is left to connections in any case (STATE_LEAVES_PART); the
 * other is for slabs that are not full: with more, a flood of records of many sizes left no memory to answer. */
#define CONFIG_STATE_MAX(memory) ((memory) / 4 * 3)
#define CONFIG_LISTEN_MAX 16
#define CONFIG_ERROR_SIZE 512
#define CONFIG_KINDS "last, map, log, merge or plugin:NAME"

struct config {
    char *listen[CONFIG_LISTEN_MAX];
    size_t listen_count;
    char *admin; /* URL; NULL: config_admin_default */
    bool insecure, auto_create;
    enum log_level log_level;
    struct config_broker broker;
    struct config_connections connections;
    struct config_sessions sessions;
    struct config_topics topics;
    struct topic_rule fallback;   /* topics.defaults */
    struct directory_rule *rules; /* in order: the first match decides */
    size_t rule_count;
    struct plugin_config *plugins;
    size_t plugin_count;
};

/* Whether records of such a topic may end by themselves. */
static inline bool config_kind_has_ttl(enum topic_kind kind) { return kind == TOPIC_LAST || kind == TOPIC_MAP; }

/* The embedded defaults. */
void config_init(struct config *config);
void config_fini(struct config *config);

/* Reads a YAML file over *config, which config_init has filled. On failure *config is to be thrown away and error has
 * "FILE:LINE: what is wrong and what would be right". */
WEIR_MUST_USE enum weir_error config_load(struct config *config, const char *path, char error[CONFIG_ERROR_SIZE]);

/* From the command line: 'PATTERN=KIND[,SETTING=NUMBER]...', put before the rules of the file, in order of the calls.
 */
WEIR_MUST_USE enum weir_error config_topic_add(struct config *config, size_t position, const char *text,
                                               char error[CONFIG_ERROR_SIZE]);
WEIR_MUST_USE enum weir_error config_listen_add(struct config *config, const char *url, char error[CONFIG_ERROR_SIZE]);

/* What only the whole shows: a listener outside loopback without `insecure`, budgets that do not fit each other. */
WEIR_MUST_USE enum weir_error config_check(const struct config *config, char error[CONFIG_ERROR_SIZE]);

/* ipc:///run/weir/admin.sock for root, else below $XDG_RUNTIME_DIR or /tmp/weir-UID; static storage. */
const char *config_admin_default(void);

/* Logs each setting that differs between the two and cannot change while running. */
void config_unchanged_log(const struct config *running, const struct config *wanted);
/* Takes over from *from what can change while running; *from keeps the rest and is to be finished by the caller. */
void config_adopt(struct config *config, struct config *from);

/* Every setting as a row, sections as "connections.max"; for `config show` and the tests. */
void config_each(const struct config *config,
                 void (*each)(const char *key, uint64_t value, uint64_t initial, bool can_reload, void *context),
                 void *context);

#endif
