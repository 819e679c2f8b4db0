/* Boot, signals and shutdown. The order of boot is the order of the floors; shutdown is its reverse. Main thread, but
 * for the few functions that admin calls (marked). */
#include "broker/main/boot.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/plugin/processes.h"
#include "broker/admin/admin.h"
#include "broker/gateway/gateway.h"
#include "broker/gateway/publisher.h"
#include "broker/main/readiness.h"
#include "broker/session/session.h"
#include "broker/sys/sys.h"

enum {
    TREE_STOP_MS = 5000, /* for the supervision tree: each child has its own, shorter time */
    TREE_READY_MS = 10000,
};

struct boot {
    struct config config; /* written by the main thread; under config_lock once admin reads it, on nng's threads */
    pthread_mutex_t config_lock;
    struct boot_source source;
    struct arena *arena;
    struct budget *budget;
    struct runtime *runtime;
    struct supervision *supervision;
    weir_actor root, topics, connections, admins, plugin_root;
    struct directory *directory;
    struct plugins *plugins;
    struct gateway *gateway;
    struct admin *admin;
    sem_t sys_made; /* posted by a worker */
    uint64_t started_ns;
    enum weir_error down_cause; /* written by a worker before it raises SIGTERM; read after sigwaitinfo returned */
};

/* ------------------------------------------------------------------------------------ from other threads */

static void on_tree_down(enum weir_error cause, void *context)
{
    struct boot *boot = context;
    boot->down_cause = cause;
    kill(getpid(), SIGTERM);
}

static void on_shutdown_asked(void *context)
{
    (void)context;
    kill(getpid(), SIGTERM);
}

/* Draining waits for clients, so the main thread does it. */
static void on_drain_asked(void *context)
{
    (void)context;
    kill(getpid(), SIGUSR1);
}

static void on_config_each(void (*each)(const char *key, uint64_t value, uint64_t initial, bool can_reload,
                                        void *context),
                           void *each_context, void *context)
{
    struct boot *boot = context;
    pthread_mutex_lock(&boot->config_lock);
    config_each(&boot->config, each, each_context);
    pthread_mutex_unlock(&boot->config_lock);
}

/* ------------------------------------------------------------------------------------------ configuration */

static void directory_config_make(const struct config *config, struct directory_config *out)
{
    *out = (struct directory_config){
        .rules = config->rules,
        .rule_count = config->rule_count,
        .fallback = config->fallback,
        .auto_create = config->auto_create,
        .topics_max = config->topics.max + SYS_TOPICS,
        .state_bytes_max = config->topics.state_bytes_max,
        .merged_bytes_max = config->connections.message_bytes_max - PUBLISHER_RECORD_OVERHEAD,
        .subscriptions_max = config->topics.subscriptions_max,
        .feeds_max = config->topics.feeds_max,
        .retain_count_max_dead = config->topics.dead_count_max,
        .block_max_ms = (uint32_t)config->topics.block_max_ms,
        .join_bytes_per_s = config->topics.join_bytes_per_s,
        .join_burst_bytes = config->topics.join_burst_bytes,
    };
}

static void gateway_config_make(const struct config *config, struct gateway_config *out)
{
    const struct config_connections *c = &config->connections;
    const struct config_sessions *s = &config->sessions;
    *out = (struct gateway_config){
        .handshake_ms = c->handshake_ms,
        .handshaking_max = c->handshaking_max,
        .connections_max = c->max,
        .connections_per_address_max = c->per_address_max,
        .message_size_max = c->message_bytes_max,
        .receive_bytes_max = c->receive_bytes_max,
        .heartbeat_ms = c->heartbeat_ms,
        .idle_ms = c->idle_ms,
        .records_per_message_max = (uint32_t)c->records_per_message_max,
        .depth_max = (unsigned)c->depth_max,
        .reply_deadline_ms = c->reply_deadline_ms,
        .requests_max = (uint32_t)c->requests_max,
        .publish_window = s->publish_window_bytes,
        .outbox_bytes = s->outbox_bytes,
        .subscriptions_max = (uint32_t)s->subscriptions_max,
        .feeds_max = (uint32_t)s->feeds_max,
        .aliases_max = (uint32_t)s->aliases_max,
        .log_interval_ms = c->log_interval_ms,
    };
}

static void on_reload(struct boot *boot)
{
    struct config next;
    struct gateway_config gateway;
    struct directory_config directory;
    char error[CONFIG_ERROR_SIZE] = "";
    const char *kept = NULL;
    if (boot->source.path == NULL) {
        log_warning("config.reload", "outcome=ignored reason=\"started without a configuration file\"");
        return;
    }
    readiness_tell("RELOADING=1");
    if (boot->source.reload(&next, error, boot->source.context) != WEIR_OK) {
        char quoted[CONFIG_ERROR_SIZE * 2];
        log_error("config.reload", "outcome=refused reason=%s", log_quote(quoted, sizeof quoted, error, strlen(error)));
        config_fini(&next);
        readiness_tell("READY=1");
        return;
    }
    gateway_config_make(&next, &gateway);
    directory_config_make(&next, &directory);
    if (gateway_config_set(boot->gateway, &gateway, &kept) != WEIR_OK ||
        directory_rules_set(boot->directory, &directory) != WEIR_OK ||
        plugins_config_set(boot->plugins, next.plugins, next.plugin_count) != WEIR_OK) {
        log_error("config.reload", "outcome=refused reason=\"%s\"", kept != NULL ? kept : "out of memory");
    } else {
        log_level_set(next.log_level);
        config_unchanged_log(&boot->config, &next);
        pthread_mutex_lock(&boot->config_lock);
        config_adopt(&boot->config, &next);
        pthread_mutex_unlock(&boot->config_lock);
        log_info("config.reload", "outcome=done file=%s", boot->source.path);
    }
    config_fini(&next);
    readiness_tell("READY=1");
}

/* ------------------------------------------------------------------------------------------------- boot */

static enum weir_error start_runtime(struct boot *boot)
{
    struct arena_config arena = {.bytes_max = boot->config.broker.memory_bytes_max};
    enum weir_error result = arena_create(&arena, &boot->arena);
    if (result == WEIR_OK)
        result = budget_create(NULL, "broker", boot->config.broker.memory_bytes_max, &boot->budget);
    struct runtime_config runtime = {
        .arena = boot->arena, .workers = (unsigned)boot->config.broker.workers, .on_dead_letter = topic_dead_letter};
    if (result == WEIR_OK)
        result = runtime_create(&runtime, &boot->runtime);
    return result;
}

/* broker (one_for_one): topics, connections, admin; each with dynamic children of its own. What outsiders can make fail
 * never escalates: backoff holds it back. */
static enum weir_error start_tree(struct boot *boot)
{
    struct supervision_config supervision = {.runtime = boot->runtime, .on_down = on_tree_down, .context = boot};
    struct supervisor_config root = {.name = "broker", .strategy = SUPERVISOR_ONE_FOR_ONE};
    struct supervisor_config topics = {.name = "topics",
                                       .strategy = SUPERVISOR_ONE_FOR_ONE,
                                       .intensity = SUPERVISOR_INTENSITY_UNLIMITED,
                                       .period_ms = 10000,
                                       /* Three failures put a record into quarantine, so what comes again and again is
                                        * other records, each with a right to its tries. */
                                       .backoff_min_ms = 1,
                                       .backoff_max_ms = 50,
                                       .backoff_jitter_percent = 20,
                                       .dynamic_max = (uint32_t)boot->config.topics.max + SYS_TOPICS + 2,
                                       .adopt = {true, RESTART_PERMANENT, SHUTDOWN_DEFAULT}};
    struct supervisor_config plugins = {.name = "plugins",
                                        .strategy = SUPERVISOR_ONE_FOR_ONE,
                                        .intensity = SUPERVISOR_INTENSITY_UNLIMITED,
                                        .period_ms = 10000,
                                        .dynamic_max = CONFIG_PLUGINS_MAX};
    struct supervisor_config connections = {.name = "connections",
                                            .strategy = SUPERVISOR_ONE_FOR_ONE,
                                            .intensity = SUPERVISOR_INTENSITY_UNLIMITED,
                                            .period_ms = 10000,
                                            .dynamic_max = 1000000,
                                            .adopt = {true, RESTART_TEMPORARY, SHUTDOWN_DEFAULT}};
    struct supervisor_config admins = {.name = "admin",
                                       .strategy = SUPERVISOR_ONE_FOR_ONE,
                                       .dynamic_max = 16,
                                       .adopt = {true, RESTART_PERMANENT, SHUTDOWN_DEFAULT}};
    enum weir_error result = supervision_create(&supervision, &boot->supervision);
    if (result == WEIR_OK)
        result = supervisor_spawn(boot->supervision, WEIR_ACTOR_NONE, &root, &boot->root);
    if (result == WEIR_OK)
        result = supervisor_spawn(boot->supervision, boot->root, &topics, &boot->topics);
    if (result == WEIR_OK)
        result = supervisor_spawn(boot->supervision, boot->root, &plugins, &boot->plugin_root);
    if (result == WEIR_OK)
        result = supervisor_spawn(boot->supervision, boot->root, &connections, &boot->connections);
    if (result == WEIR_OK)
        result = supervisor_spawn(boot->supervision, boot->root, &admins, &boot->admins);
    if (result == WEIR_OK)
        result = runtime_start(boot->runtime);
    return result == WEIR_OK ? supervision_wait_ready(boot->supervision, TREE_READY_MS) : result;
}

static enum weir_error start_service(struct boot *boot)
{
    struct directory_config directory;
    struct gateway_config gateway;
    directory_config_make(&boot->config, &directory);
    gateway_config_make(&boot->config, &gateway);
    enum weir_error result = directory_create(boot->runtime, boot->topics, boot->budget, &directory, &boot->directory);
    struct gateway_options options = {.runtime = boot->runtime,
                                      .supervisor = boot->connections,
                                      .directory = boot->directory,
                                      .budget = boot->budget,
                                      .session = &session_ops,
                                      .server_name = "weir/" WEIR_VERSION};
    return result == WEIR_OK ? gateway_create(&options, &gateway, &boot->gateway) : result;
}

/* Before anybody can publish to a topic whose kind is one of them, or ask one. */
static enum weir_error start_plugins(struct boot *boot)
{
    struct plugins_options options = {.runtime = boot->runtime,
                                      .supervision = boot->supervision,
                                      .supervisor = boot->plugin_root,
                                      .directory = directory_actor(boot->directory),
                                      .budget = boot->budget};
    enum weir_error result = plugins_create(&options, &boot->plugins);
    if (result == WEIR_OK)
        result = plugins_config_set(boot->plugins, boot->config.plugins, boot->config.plugin_count);
    if (result == WEIR_OK)
        result = plugins_load_all(boot->plugins);
    if (result == WEIR_OK && !plugins_await(boot->plugins, TREE_READY_MS))
        log_warning("boot.plugins_late", "waited_ms=%d", TREE_READY_MS);
    return result;
}

static enum weir_error start_admin(struct boot *boot)
{
    struct admin_options options = {
        .runtime = boot->runtime,
        .supervision = boot->supervision,
        .supervisor = boot->admins,
        .directory = boot->directory,
        .gateway = boot->gateway,
        .plugins = boot->plugins,
        .budget = boot->budget,
        .program = {on_shutdown_asked, on_drain_asked, on_config_each, boot},
        .started_ns = boot->started_ns,
    };
    return admin_create(&options, &boot->admin);
}

/* The directory has made the topics of the configuration before it makes these. */
static enum weir_error start_sys(struct boot *boot)
{
    struct sys_options options = {.runtime = boot->runtime,
                                  .supervisor = boot->admins,
                                  .directory = boot->directory,
                                  .admin = boot->admin,
                                  .budget = boot->budget,
                                  .made = &boot->sys_made,
                                  .interval_ms = boot->config.broker.sys_interval_ms};
    struct timespec deadline;
    enum weir_error result = sys_start(&options);
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += TREE_READY_MS / 1000;
    while (result == WEIR_OK && sem_clockwait(&boot->sys_made, CLOCK_MONOTONIC, &deadline) != 0) {
        if (errno == EINTR)
            continue;
        log_warning("boot.sys_late", "waited_ms=%d", TREE_READY_MS);
        break;
    }
    return result;
}

/* Last: who is let in finds everything there. */
static enum weir_error start_listening(struct boot *boot, char error[CONFIG_ERROR_SIZE])
{
    const char *reason = "";
    const char *admin_url = boot->config.admin;
    for (size_t i = 0; i < boot->config.listen_count; i++) {
        enum weir_error result = gateway_listen(boot->gateway, boot->config.listen[i], &reason);
        if (result == WEIR_OK)
            continue;
        snprintf(error, CONFIG_ERROR_SIZE, "cannot listen on %s: %s", boot->config.listen[i], reason);
        return result;
    }
    enum weir_error result = admin_listen(boot->admin, admin_url, &reason);
    if (result != WEIR_OK)
        snprintf(error, CONFIG_ERROR_SIZE, "cannot open the admin socket %s: %s", admin_url, reason);
    return result;
}

enum weir_error boot_start(struct config *config, const struct boot_source *source, struct boot **out,
                           char error[CONFIG_ERROR_SIZE])
{
    *out = NULL;
    error[0] = '\0';
    struct boot *boot = calloc(1, sizeof *boot);
    if (boot == NULL)
        return WEIR_NO_MEMORY;
    pthread_mutex_init(&boot->config_lock, NULL);
    sem_init(&boot->sys_made, 0, 0);
    boot->config = *config;
    *config = (struct config){.listen_count = 0};
    boot->source = *source;
    boot->started_ns = clock_now_ns();
    log_level_set(boot->config.log_level);
    enum weir_error result = start_runtime(boot);
    if (result == WEIR_OK)
        result = start_tree(boot);
    if (result == WEIR_OK)
        result = start_service(boot);
    if (result == WEIR_OK)
        result = start_plugins(boot);
    if (result == WEIR_OK)
        result = start_admin(boot);
    if (result == WEIR_OK)
        result = start_sys(boot);
    if (result == WEIR_OK)
        result = start_listening(boot, error);
    if (result != WEIR_OK) {
        if (error[0] == '\0')
            snprintf(error, CONFIG_ERROR_SIZE, "cannot start: %s", weir_error_text(result));
        boot->config.broker.shutdown_ms = 0;
        enum weir_error leak = boot_stop(&boot);
        return leak == WEIR_OK ? result : leak;
    }
    readiness_tell("READY=1");
    *out = boot;
    return WEIR_OK;
}

const char *boot_listener_url(const struct boot *boot, size_t index)
{
    return gateway_listener_url(boot->gateway, index);
}

const char *boot_admin_url(const struct boot *boot) { return boot->config.admin; }

/* ------------------------------------------------------------------------------------------ while it runs */

enum weir_error boot_wait(struct boot *boot)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGUSR1);
    for (;;) {
        int signal_number = sigwaitinfo(&signals, NULL);
        if (signal_number == SIGHUP)
            on_reload(boot);
        else if (signal_number == SIGUSR1)
            log_info("drain", "cut=%zu", gateway_drain(boot->gateway, boot->config.broker.shutdown_ms));
        else if (signal_number > 0)
            return boot->down_cause;
    }
}

/* ------------------------------------------------------------------------------------------------- stop */

static void on_leak(weir_msg msg, size_t size, const char *owner, void *context)
{
    (void)context;
    log_error("arena.leak", "block=%llx size=%zu owner=\"%s\"", (unsigned long long)msg.bits, size, owner);
}

static void stop_service(struct boot *boot)
{
    if (boot->gateway != NULL) {
        size_t cut = gateway_drain(boot->gateway, boot->config.broker.shutdown_ms);
        if (cut > 0)
            log_warning("shutdown.drain", "cut=%zu after_ms=%llu", cut,
                        (unsigned long long)boot->config.broker.shutdown_ms);
    }
    admin_close(boot->admin);
    if (boot->supervision != NULL) {
        supervision_shutdown(boot->supervision);
        if (supervision_wait(boot->supervision, TREE_STOP_MS) != WEIR_OK)
            log_warning("shutdown.tree", "outcome=timeout after_ms=%d", TREE_STOP_MS);
    }
}

enum weir_error boot_stop(struct boot **boot_in)
{
    struct boot *boot = *boot_in;
    size_t leaks = 0;
    *boot_in = NULL;
    readiness_tell("STOPPING=1");
    stop_service(boot);
    if (boot->runtime != NULL)
        runtime_stop(boot->runtime);
    /* Its watcher may have lent itself to the runtime for the last turns of a plugin: it must be out before that goes.
     */
    processes_close();
    admin_destroy(&boot->admin);
    gateway_destroy(&boot->gateway);
    supervision_destroy(&boot->supervision);
    runtime_destroy(&boot->runtime);
    plugins_destroy(&boot->plugins);
    directory_destroy(&boot->directory);
    if (boot->arena != NULL)
        leaks = arena_leaks_report(boot->arena, on_leak, NULL);
    budget_destroy(&boot->budget);
    arena_destroy(&boot->arena);
    config_fini(&boot->config);
    sem_destroy(&boot->sys_made);
    pthread_mutex_destroy(&boot->config_lock);
    log_info("shutdown", "blocks_left=%zu uptime_ms=%llu", leaks,
             (unsigned long long)((clock_now_ns() - boot->started_ns) / NS_PER_MS));
    free(boot);
    return leaks == 0 ? WEIR_OK : WEIR_INTERNAL;
}
