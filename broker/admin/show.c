/* Commands that show: from counters and short locks, on an nng thread; none waits for an actor's turn. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "broker/admin/commands.h"
#include "clients/wire/name.h"

static uint64_t rate(const atomic_uint_least64_t *value) { return atomic_load_explicit(value, memory_order_relaxed); }

/* ------------------------------------------------------------------------------------------------ status */

/* Summed up from each thread's figures when it is asked for: nobody has watched it. */
#define PEAK_UNKNOWN SIZE_MAX

static void memory_row(struct answer *answer, const char *owner, size_t used, size_t max, size_t peak,
                       uint64_t refusals)
{
    answer_map(answer, NULL);
    answer_text(answer, "owner", owner);
    answer_uint(answer, "bytes", used);
    answer_uint(answer, "max", max);
    if (peak != PEAK_UNKNOWN)
        answer_uint(answer, "peak", peak);
    answer_uint(answer, "refusals", refusals);
    answer_end(answer);
}

static void show_memory(const struct admin_options *o, const struct directory_status *directory, struct answer *answer)
{
    struct arena_usage arena;
    struct budget_usage broker;
    arena_usage(runtime_arena(o->runtime), &arena);
    budget_usage(o->budget, &broker);
    answer_rows(answer, "memory");
    memory_row(answer, "arena, committed", arena.bytes_committed, arena.bytes_max, arena.bytes_committed_peak,
               arena.refusals);
    memory_row(answer, "arena, live", arena.bytes_live, arena.bytes_max, PEAK_UNKNOWN, 0);
    memory_row(answer, "broker", broker.bytes_used, broker.bytes_max, broker.bytes_peak, broker.refusals);
    memory_row(answer, "topics", directory->state_bytes, directory->state_bytes_max, directory->state_bytes_peak, 0);
    answer_end(answer);
}

static void show_workers(struct admin *admin, unsigned count, struct answer *answer)
{
    answer_rows(answer, "workers");
    for (unsigned i = 0; i < count; i++) {
        struct worker_status w;
        if (runtime_worker_status(admin->options.runtime, i, &w) != WEIR_OK)
            break;
        answer_map(answer, NULL);
        answer_uint(answer, "worker", i);
        answer_double(answer, "load", (double)rate(&admin->rates.worker_permille[i]) / 1000);
        answer_uint(answer, "queued", w.queued);
        answer_uint(answer, "turns", w.turns);
        answer_uint(answer, "messages", w.messages);
        answer_uint(answer, "steals", w.steals);
        answer_uint(answer, "parks", w.parks);
        answer_text(answer, "running", w.running);
        answer_uint(answer, "running_us", w.running_ns / NS_PER_US);
        answer_end(answer);
    }
    answer_end(answer);
}

static void show_records(struct admin *admin, const struct gateway_status *g, const struct directory_status *d,
                         struct answer *answer)
{
    answer_uint(answer, "connections", g->connections);
    answer_uint(answer, "connections_peak", g->connections_peak);
    answer_uint(answer, "connections_accepted", g->accepted_connections);
    answer_uint(answer, "topics", d->topics);
    answer_uint(answer, "subscriptions", d->subscriptions);
    answer_uint(answer, "feeds", d->feeds);
    answer_uint(answer, "joins_waiting", d->joins_waiting);
    answer_uint(answer, "records_in", g->records_in);
    answer_uint(answer, "records_accepted", g->records_accepted);
    answer_uint(answer, "records_refused", g->records_refused);
    answer_uint(answer, "records_out", g->records_out);
    answer_uint(answer, "records_dropped", g->records_dropped);
    answer_uint(answer, "records_folded", d->published);
    answer_uint(answer, "records_refused_by_topics", d->refused);
    answer_uint(answer, "records_dead", d->dead);
    answer_uint(answer, "records_duplicate", d->duplicates);
    answer_uint(answer, "bytes_in", g->bytes_in);
    answer_uint(answer, "bytes_out", g->bytes_out);
    answer_map(answer, "per_second");
    answer_uint(answer, "records_in", rate(&admin->rates.records_in));
    answer_uint(answer, "records_out", rate(&admin->rates.records_out));
    answer_uint(answer, "bytes_in", rate(&admin->rates.bytes_in));
    answer_uint(answer, "bytes_out", rate(&admin->rates.bytes_out));
    answer_double(answer, "cpu", (double)rate(&admin->rates.cpu_permille) / 1000);
    answer_end(answer);
    answer_map(answer, "refusals");
    for (int i = 0; i < REFUSAL_COUNT; i++)
        answer_uint(answer, refusal_name((enum refusal)i), g->refusals[i]);
    answer_end(answer);
}

enum weir_error show_status(struct admin_context *context, struct view args, struct answer *answer)
{
    (void)args;
    const struct admin_options *o = &context->admin->options;
    struct gateway_status gateway;
    struct directory_status directory;
    struct runtime_status runtime;
    gateway_status(o->gateway, &gateway);
    directory_status(o->directory, &directory);
    runtime_status(o->runtime, &runtime);
    answer_text(answer, "version", WEIR_VERSION);
    answer_uint(answer, "pid", (uint64_t)getpid());
    answer_uint(answer, "uptime_ms", (clock_now_ns() - o->started_ns) / NS_PER_MS);
    answer_uint(answer, "cpu_ns", clock_cpu_ns());
    answer_text(answer, "log_level", log_level_name(log_level_get()));
    show_records(context->admin, &gateway, &directory, answer);
    answer_map(answer, "runtime");
    answer_uint(answer, "actors", runtime.actors);
    answer_uint(answer, "timers", runtime.timers);
    answer_uint(answer, "messages", runtime.messages);
    answer_uint(answer, "refused", runtime.refused);
    answer_uint(answer, "failures", runtime.failures);
    answer_uint(answer, "restarts", runtime.restarts);
    answer_uint(answer, "dead_letters", runtime.dead_letters);
    answer_end(answer);
    show_memory(o, &directory, answer);
    show_workers(context->admin, runtime.workers, answer);
    return WEIR_OK;
}

/* ------------------------------------------------------------------------------------------------ topics */

static enum weir_error pattern_take(struct admin_context *context, struct view args, char *out, size_t capacity)
{
    const char *reason = "";
    enum weir_error error = admin_text(context, args, "pattern", out, capacity);
    if (error == WEIR_NOT_FOUND) {
        snprintf(out, capacity, "#");
        return WEIR_OK;
    }
    if (error == WEIR_OK && pattern_check(view_text(out), &reason) != WEIR_OK)
        return admin_refuse(context, WEIR_BAD_TOPIC, "pattern '%s': %s", out, reason);
    return error;
}

static bool topic_row(const struct topic_status *t, void *context)
{
    struct answer *answer = context;
    answer_map(answer, NULL);
    answer_text(answer, "topic", t->name);
    answer_text(answer, "kind", topic_kind_name(t->kind));
    answer_uint(answer, "epoch", t->epoch);
    answer_uint(answer, "seq", t->seq);
    answer_uint(answer, "entries", t->entries);
    answer_uint(answer, "state_bytes", t->state_bytes);
    answer_uint(answer, "ring_bytes", t->ring_bytes);
    answer_uint(answer, "depth", t->depth);
    answer_uint(answer, "depth_max", t->depth_max);
    answer_uint(answer, "subscribers", t->subscribers);
    answer_uint(answer, "published", t->published);
    answer_uint(answer, "refused", t->refused);
    answer_uint(answer, "dead", t->dead);
    answer_uint(answer, "duplicates", t->duplicates);
    answer_uint(answer, "resyncs", t->resyncs);
    answer_uint(answer, "pages_built", t->pages_built);
    answer_uint(answer, "pages_sent", t->pages_sent);
    answer_uint(answer, "restarts", t->restarts);
    answer_text(answer, "state", t->is_stale ? "restarting" : t->blocked_feed != 0 ? "blocked" : "live");
    answer_end(answer);
    return !answer->writer.is_full;
}

enum weir_error show_topics(struct admin_context *context, struct view args, struct answer *answer)
{
    char pattern[TOPIC_NAME_SIZE_MAX + 1];
    enum weir_error error = pattern_take(context, args, pattern, sizeof pattern);
    if (error != WEIR_OK)
        return error;
    answer_rows(answer, "topics");
    directory_topics_each(context->admin->options.directory, view_text(pattern), topic_row, answer);
    answer_end(answer);
    return WEIR_OK;
}

/* -------------------------------------------------------------------------------- connections, subscriptions */

static bool connection_row(const struct connection_status *c, void *context)
{
    struct answer *answer = context;
    answer_map(answer, NULL);
    answer_uint(answer, "id", c->id);
    answer_text(answer, "peer", c->peer);
    answer_text(answer, "protocol", c->protocol);
    answer_text(answer, "client", c->client);
    answer_text(answer, "state", c->state);
    answer_age(answer, "age_ms", c->since_ns);
    answer_uint(answer, "records_in", c->records_in);
    answer_uint(answer, "accepted", c->accepted);
    answer_uint(answer, "refused", c->refused);
    answer_uint(answer, "waiting", c->waiting);
    answer_uint(answer, "records_out", c->records_out);
    answer_uint(answer, "dropped", c->dropped);
    answer_uint(answer, "bytes_in", c->bytes_in);
    answer_uint(answer, "bytes_out", c->bytes_out);
    answer_uint(answer, "messages_in", c->messages_in);
    answer_uint(answer, "messages_out", c->messages_out);
    answer_uint(answer, "outbox_bytes", c->outbox_bytes);
    answer_uint(answer, "credit", c->credit);
    answer_uint(answer, "subscriptions", c->subscriptions);
    answer_uint(answer, "feeds", c->feeds);
    answer_text(answer, "blocked_on", c->blocked_on);
    answer_end(answer);
    return !answer->writer.is_full;
}

enum weir_error show_connections(struct admin_context *context, struct view args, struct answer *answer)
{
    (void)args;
    answer_rows(answer, "connections");
    gateway_connections_each(context->admin->options.gateway, connection_row, answer);
    answer_end(answer);
    return WEIR_OK;
}

struct feed_walk {
    struct answer *answer;
    struct gateway *gateway;
};

static bool feed_row(const struct feed_status *f, void *context)
{
    struct feed_walk *walk = context;
    struct answer *answer = walk->answer;
    uint64_t id = 0;
    if (gateway_connection_find(walk->gateway, f->subscriber, &id) != WEIR_OK)
        id = 0; /* gone, or no connection */
    answer_map(answer, NULL);
    answer_text(answer, "topic", f->topic);
    answer_uint(answer, "connection", id);
    answer_uint(answer, "sub", f->sub);
    answer_uint(answer, "feed", f->feed);
    answer_text(answer, "policy", policy_name(f->policy));
    answer_text(answer, "phase", f->phase);
    answer_uint(answer, "seq", f->seq);
    answer_uint(answer, "lag", f->lag);
    answer_uint(answer, "lag_bytes", f->lag_bytes);
    answer_uint(answer, "credit", f->credit);
    answer_uint(answer, "resyncs", f->resyncs);
    answer_end(answer);
    return !answer->writer.is_full;
}

enum weir_error show_subscriptions(struct admin_context *context, struct view args, struct answer *answer)
{
    char pattern[TOPIC_NAME_SIZE_MAX + 1];
    struct feed_walk walk = {answer, context->admin->options.gateway};
    enum weir_error error = pattern_take(context, args, pattern, sizeof pattern);
    if (error != WEIR_OK)
        return error;
    answer_rows(answer, "subscriptions");
    directory_feeds_each(context->admin->options.directory, view_text(pattern), feed_row, &walk);
    answer_end(answer);
    return WEIR_OK;
}

/* -------------------------------------------------------------------------------------------------- tree */

static bool tree_row(const struct supervision_row *row, void *context)
{
    static const char *const restarts[] = {"permanent", "transient", "temporary"};
    struct answer *answer = context;
    char name[128];
    snprintf(name, sizeof name, "%*s%s", (int)(row->depth > 16 ? 32 : row->depth * 2), "", row->name);
    answer_map(answer, NULL);
    answer_text(answer, "name", name);
    answer_text(answer, "kind", row->kind);
    answer_text(answer, "state", row->state);
    answer_text(answer, "restart", (size_t)row->restart < COUNT_OF(restarts) ? restarts[row->restart] : "");
    answer_uint(answer, "restarts", row->restarts);
    answer_uint(answer, "children", row->children);
    answer_text(answer, "last_cause", row->last_cause == WEIR_OK ? "" : weir_error_code(row->last_cause));
    answer_age(answer, "last_death_ms_ago", row->last_death_ns);
    answer_end(answer);
    return !answer->writer.is_full;
}

enum weir_error show_tree(struct admin_context *context, struct view args, struct answer *answer)
{
    (void)args;
    answer_rows(answer, "tree");
    supervision_each(context->admin->options.supervision, tree_row, answer);
    answer_end(answer);
    return WEIR_OK;
}

/* --------------------------------------------------------------------------------------------------- why */

struct why_search {
    struct topic_status topic;
    struct connection_status connection;
    uint64_t id;
    bool has_topic, has_connection;
};

static bool why_topic(const struct topic_status *status, void *context)
{
    struct why_search *search = context;
    search->topic = *status;
    search->has_topic = true;
    return false;
}

static bool why_connection(const struct connection_status *status, void *context)
{
    struct why_search *search = context;
    if (status->id != search->id)
        return true;
    search->connection = *status;
    search->has_connection = true;
    return false;
}

static void why_blocked(struct admin_context *context, struct why_search *search, struct answer *answer)
{
    struct gateway *gateway = context->admin->options.gateway;
    if (gateway_connection_find(gateway, search->topic.blocked_by, &search->id) == WEIR_OK)
        gateway_connections_each(gateway, why_connection, search);
    answer_text(answer, "held_back_by", "a subscriber with policy block that takes no more");
    answer_uint(answer, "feed", search->topic.blocked_feed);
    answer_uint(answer, "since_ms", (clock_now_ns() - search->topic.blocked_since_ns) / NS_PER_MS);
    if (search->has_connection) {
        answer_uint(answer, "connection", search->id);
        answer_text(answer, "peer", search->connection.peer);
        answer_text(answer, "client", search->connection.client);
    }
    answer_text(answer, "advice", "weir admin disconnect CONNECTION lets the topic go on");
}

/* Snapshots are admitted for all topics together. */
static void why_joins(struct admin_context *context, struct answer *answer)
{
    struct directory_status status;
    directory_status(context->admin->options.directory, &status);
    answer_uint(answer, "joins_waiting", status.joins_waiting);
    if (status.joins_waiting > 0)
        answer_text(answer, "joins_held_back_by",
                    "admission: so many snapshots of all topics together wait for topics.join_bytes_per_s");
}

enum weir_error show_why(struct admin_context *context, struct view args, struct answer *answer)
{
    char name[TOPIC_NAME_SIZE_MAX + 1];
    const char *reason = "";
    struct why_search search = {.has_topic = false};
    enum weir_error error = admin_text(context, args, "topic", name, sizeof name);
    if (error != WEIR_OK || name_check(view_text(name), &reason) != WEIR_OK)
        return admin_refuse(context, WEIR_BAD_TOPIC, "why needs a topic: %s", reason);
    directory_topics_each(context->admin->options.directory, view_text(name), why_topic, &search);
    if (!search.has_topic)
        return admin_refuse(context, WEIR_NOT_FOUND, "there is no topic '%s'", name);
    const struct topic_status *t = &search.topic;
    answer_text(answer, "topic", name);
    answer_uint(answer, "depth", t->depth);
    answer_uint(answer, "depth_max", t->depth_max);
    answer_uint(answer, "refused", t->refused);
    if (t->is_stale) {
        answer_text(answer, "held_back_by", "its own failure: it is being restarted");
        answer_text(answer, "last_cause", weir_error_code(t->last_cause));
        answer_uint(answer, "restarts", t->restarts);
    } else if (t->blocked_feed != 0) {
        why_blocked(context, &search, answer);
    } else if (t->short_since_ns != 0) {
        answer_text(answer, "held_back_by", "no memory for what its plugin emitted, which waits for it");
        answer_uint(answer, "since_ms", (clock_now_ns() - t->short_since_ns) / NS_PER_MS);
        answer_text(answer, "advice",
                    "what is cleared or deleted of topics makes room; so does a higher state_bytes_max");
    } else if (t->depth >= t->depth_max) {
        answer_text(answer, "held_back_by", "a full mailbox: records come faster than it folds them");
    } else {
        answer_text(answer, "held_back_by", "nothing");
    }
    why_joins(context, answer);
    return WEIR_OK;
}

/* ------------------------------------------------------------------------------------------------ config */

static void config_row(const char *key, uint64_t value, uint64_t initial, bool can_reload, void *context)
{
    struct answer *answer = context;
    answer_map(answer, NULL);
    answer_text(answer, "key", key);
    answer_uint(answer, "value", value);
    answer_uint(answer, "default", initial);
    answer_bool(answer, "reload", can_reload);
    answer_end(answer);
}

enum weir_error show_config(struct admin_context *context, struct view args, struct answer *answer)
{
    (void)args;
    const struct admin_program *program = &context->admin->options.program;
    answer_rows(answer, "config");
    program->config_each(config_row, answer, program->context);
    answer_end(answer);
    return WEIR_OK;
}
