/* Every connection there is: made when a pipe is ready (a poller), freed when its actor and its pipe are both gone
 * (workers, pollers, the owner), seen by views (any thread). */
#include "broker/gateway/roster.h"

#include <stdio.h>
#include <stdlib.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "broker/gateway/hash.h"

/* ---------------------------------------------------------------------------------------------- opening */

static const struct connection_ops *ops_for(const struct gateway *gateway, uint16_t peer_protocol)
{
    switch (peer_protocol) {
    case SP_PUSH0: return &push_ops;
    case SP_REQ0: return &request_ops;
    case SP_SUB0: return &feed_ops;
    case SP_PAIR0: return gateway->session;
    default: return NULL;
    }
}

const struct gateway_config *config_hold(struct gateway *gateway)
{
    if (gateway->share == NULL) {
        gateway->share = malloc(sizeof *gateway->share);
        if (gateway->share == NULL)
            return NULL;
        gateway->share->config = gateway->config;
        atomic_init(&gateway->share->refs, 1);
    }
    atomic_fetch_add_explicit(&gateway->share->refs, 1, memory_order_relaxed);
    return &gateway->share->config;
}

void config_drop(const struct gateway_config *config)
{
    struct config_share *share = (struct config_share *)(uintptr_t)config;
    if (share != NULL && atomic_fetch_sub_explicit(&share->refs, 1, memory_order_acq_rel) == 1)
        free(share);
}

void config_share_end(struct gateway *gateway)
{
    if (gateway->share != NULL)
        config_drop(&gateway->share->config);
    gateway->share = NULL;
}

static void connection_set(struct connection *connection, struct gateway *gateway, struct sp_pipe *pipe)
{
    connection->magic = CONNECTION_MAGIC;
    connection->gateway = gateway;
    connection->pipe = pipe;
    connection->runtime = gateway->runtime;
    connection->arena = runtime_arena(gateway->runtime);
    connection->is_ipc = sp_pipe_is_ipc(pipe);
    connection->since_ns = clock_now_ns();
    connection->peer = sp_pipe_peer(pipe);
    connection->address = sp_pipe_address(pipe);
}

static enum weir_error connection_create(struct gateway *gateway, struct sp_pipe *pipe, struct connection **out)
{
    const struct connection_ops *ops = ops_for(gateway, sp_pipe_peer_protocol(pipe));
    if (ops == NULL)
        return WEIR_PROTOCOL;
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL)
        return WEIR_NO_MEMORY;
    connection_set(connection, gateway, pipe);
    connection->ops = ops;
    enum weir_error error = WEIR_NO_MEMORY;
    pthread_mutex_lock(&gateway->lock);
    connection->id = ++gateway->next_id;
    connection->config = config_hold(gateway);
    pthread_mutex_unlock(&gateway->lock);
    if (connection->config == NULL)
        goto no_config;
    char name[64];
    snprintf(name, sizeof name, "connection %llu", (unsigned long long)connection->id);
    connection->state = calloc(1, ops->state_size > 0 ? ops->state_size : 1);
    if (connection->state == NULL)
        goto no_state;
    if (pthread_mutex_init(&connection->lock, NULL) != 0)
        goto no_lock;
    error = budget_create(gateway->budget, name, connection->config->receive_bytes_max, &connection->budget);
    if (error)
        goto no_budget;
    *out = connection;
    return WEIR_OK;
no_budget:
    pthread_mutex_destroy(&connection->lock);
no_lock:
    free(connection->state);
no_state:
    config_drop(connection->config);
no_config:
    free(connection);
    return error;
}

/* Few moments for few connections, so that some 30 tick together, and more for more, so that it is not thousands: a
 * hundred at the most, below a millisecond of work. Powers of two, so that the moments of early ones are among those of
 * later ones. */
static uint16_t tick_moments(size_t connections)
{
    enum { MOMENTS_MIN = 8, MOMENTS_MAX = 256, TOGETHER = 32 };
    uint16_t moments = MOMENTS_MIN;
    while (moments < MOMENTS_MAX && connections > (size_t)moments * TOGETHER)
        moments = (uint16_t)(moments * 2);
    return moments;
}

/* What on_accept reserved becomes a connection. Under the lock. */
static void roster_add(struct gateway *gateway, struct connection *connection)
{
    gateway->reserved--;
    connection->previous = gateway->last;
    if (gateway->last != NULL)
        gateway->last->next = connection;
    else
        gateway->first = connection;
    gateway->last = connection;
    gateway->count++;
    connection->tick_moments = tick_moments(gateway->count);
    gateway->ended.accepted_connections++;
    if (gateway->count > gateway->peak)
        gateway->peak = gateway->count;
}

static void totals_add(struct gateway_status *totals, const struct connection_counters *counters)
{
    totals->messages_in += counter_get(&counters->messages_in);
    totals->messages_out += counter_get(&counters->messages_out);
    totals->bytes_in += counter_get(&counters->bytes_in);
    totals->bytes_out += counter_get(&counters->bytes_out);
    totals->records_in += counter_get(&counters->records_in);
    totals->records_out += counter_get(&counters->records_out);
    totals->records_accepted += counter_get(&counters->accepted);
    totals->records_refused += counter_get(&counters->refused);
    totals->records_dropped += counter_get(&counters->dropped);
}

/* Under the lock. */
static void roster_unlink(struct gateway *gateway, struct connection *connection)
{
    if (connection->previous != NULL)
        connection->previous->next = connection->next;
    else
        gateway->first = connection->next;
    if (connection->next != NULL)
        connection->next->previous = connection->previous;
    else
        gateway->last = connection->previous;
    connection->next = connection->previous = NULL;
    gateway->count--;
}

static enum weir_error connection_spawn(struct gateway *gateway, struct connection *connection)
{
    char label[64];
    int size = snprintf(label, sizeof label, "%s ", connection->ops->protocol);
    text_copy(label + size, sizeof label - (size_t)size, connection->peer);
    struct actor_options options = {.mailbox_max = CONNECTION_MAILBOX_MAX,
                                    .supervisor = gateway->supervisor,
                                    .budget = connection->budget,
                                    .label = label};
    weir_actor actor; /* on_start notes it itself: it may have ended before this returns */
    return actor_spawn(gateway->runtime, &connection_behaviour, &connection, sizeof connection, &options, &actor);
}

enum weir_error roster_open(struct gateway *gateway, struct sp_pipe *pipe)
{
    struct connection *connection;
    enum weir_error error = connection_create(gateway, pipe, &connection);
    if (error)
        return error;
    pthread_mutex_lock(&gateway->lock);
    roster_add(gateway, connection);
    pthread_mutex_unlock(&gateway->lock);
    error = connection_spawn(gateway, connection);
    if (error == WEIR_OK)
        return WEIR_OK;
    pthread_mutex_lock(&gateway->lock);
    roster_unlink(gateway, connection);
    gateway->reserved++; /* the caller gives it back, and the address, with the pipe that is still its own */
    pthread_mutex_unlock(&gateway->lock);
    connection->pipe = NULL;
    connection_free(&connection);
    return error;
}

/* ----------------------------------------------------------------------------------------------- closing */

/* Takes a connection out for good; it is the caller's to free. Under the lock. */
static void roster_retire(struct gateway *gateway, struct connection *connection)
{
    roster_unlink(gateway, connection);
    totals_add(&gateway->ended, &connection->counters);
    admission_release(gateway, connection->address);
    pthread_cond_broadcast(&gateway->changed);
}

void roster_pipe_closed(struct connection *connection)
{
    MAGIC_CHECK(connection, CONNECTION_MAGIC);
    struct gateway *gateway = connection->gateway;
    struct runtime *runtime = connection->runtime;
    weir_actor actor = connection->actor;
    pthread_mutex_lock(&gateway->lock);
    connection->is_pipe_closed = true;
    bool is_orphan = connection->is_orphan;
    if (is_orphan)
        pthread_cond_broadcast(&gateway->changed); /* freed by roster_reap: this is a handler */
    pthread_mutex_unlock(&gateway->lock);
    if (is_orphan)
        return;
    /* The connection may be gone from here on: its actor is told by handle. */
    struct message message = {.tag = CONNECTION_CLOSED};
    enum weir_error error = actor_control(runtime, WEIR_ACTOR_NONE, actor, &message);
    if (error != WEIR_OK && error != WEIR_STALE)
        (void)!actor_stop(runtime, actor, error);
}

bool roster_actor_started(struct connection *connection)
{
    struct gateway *gateway = connection->gateway;
    pthread_mutex_lock(&gateway->lock);
    connection->actor_shared = connection->actor;
    connection->is_started = true;
    bool is_draining = gateway->is_draining;
    pthread_mutex_unlock(&gateway->lock);
    return is_draining;
}

static bool identity_is(const struct connection *connection, uint64_t hash, struct view name)
{
    return connection->identity_hash == hash &&
           view_is_same(view_of(connection->identity, connection->identity_size), name);
}

enum weir_error roster_take_over(struct connection *connection, struct view publisher)
{
    struct gateway *gateway = connection->gateway;
    struct message message = {.tag = CONNECTION_DRAIN, .detail = DRAIN_TAKEN_OVER};
    uint64_t hash = hash_bytes(publisher.data, publisher.size) | 1;
    weir_actor other = WEIR_ACTOR_NONE;
    uint8_t *identity = malloc(publisher.size);
    if (identity == NULL)
        return WEIR_NO_MEMORY;
    memcpy(identity, publisher.data, publisher.size);
    pthread_mutex_lock(&gateway->lock);
    /* There is at most one; a glance at each connection, at a session's start only. */
    for (struct connection *at = gateway->first; at != NULL; at = at->next) {
        if (!identity_is(at, hash, publisher))
            continue;
        other = at->is_orphan ? WEIR_ACTOR_NONE : at->actor_shared;
        at->identity_hash = 0;
    }
    connection->identity_hash = hash;
    connection->identity_size = (uint8_t)publisher.size;
    connection->identity = identity;
    pthread_mutex_unlock(&gateway->lock);
    if (!actor_is_none(other))
        (void)!actor_control(gateway->runtime, WEIR_ACTOR_NONE, other, &message); /* stale: it has ended by itself */
    return WEIR_OK;
}

void roster_actor_ended(struct connection *connection)
{
    struct gateway *gateway = connection->gateway;
    pthread_mutex_lock(&gateway->lock);
    connection->is_orphan = true;
    bool is_over = connection->is_pipe_closed;
    if (is_over)
        roster_retire(gateway, connection);
    pthread_mutex_unlock(&gateway->lock);
    if (is_over)
        connection_free(&connection);
}

void roster_reap(struct gateway *gateway)
{
    pthread_mutex_lock(&gateway->lock);
    struct connection *next = NULL, *over = NULL;
    for (struct connection *connection = gateway->first; connection != NULL; connection = next) {
        next = connection->next;
        if (!connection->is_orphan || !connection->is_pipe_closed)
            continue;
        roster_retire(gateway, connection);
        connection->next = over;
        over = connection;
    }
    pthread_mutex_unlock(&gateway->lock);
    while (over != NULL) {
        next = over->next;
        connection_free(&over);
        over = next;
    }
}

/* ------------------------------------------------------------------------------------------------- views */

const char *refusal_name(enum refusal refusal)
{
    static const char *const names[] = {
#define REFUSAL_NAME(name, word) word,
        REFUSAL_TABLE(REFUSAL_NAME)
#undef REFUSAL_NAME
    };
    return refusal < REFUSAL_COUNT ? names[refusal] : "unknown";
}

static void status_fill(struct connection *connection, struct connection_status *status)
{
    const struct connection_counters *counters = &connection->counters;
    *status = (struct connection_status){.id = connection->id,
                                         .protocol = connection->ops->protocol,
                                         .since_ns = connection->since_ns,
                                         .bytes_in = counter_get(&counters->bytes_in),
                                         .bytes_out = counter_get(&counters->bytes_out),
                                         .messages_in = counter_get(&counters->messages_in),
                                         .messages_out = counter_get(&counters->messages_out),
                                         .records_in = counter_get(&counters->records_in),
                                         .records_out = counter_get(&counters->records_out),
                                         .accepted = counter_get(&counters->accepted),
                                         .refused = counter_get(&counters->refused),
                                         .waiting = counter_get(&counters->waiting),
                                         .dropped = counter_get(&counters->dropped),
                                         .credit = counter_get(&counters->credit),
                                         .outbox_bytes = counter_get(&counters->outbox_bytes)};
    status->subscriptions = atomic_load_explicit(&counters->subscriptions, memory_order_relaxed);
    status->feeds = atomic_load_explicit(&counters->feeds, memory_order_relaxed);
    text_copy(status->peer, sizeof status->peer, connection->peer);
    pthread_mutex_lock(&connection->lock);
    if (connection->client != NULL)
        text_copy(status->client, sizeof status->client, connection->client);
    if (connection->blocked_on != NULL)
        text_copy(status->blocked_on, sizeof status->blocked_on, connection->blocked_on);
    pthread_mutex_unlock(&connection->lock);
    status->state = status->blocked_on[0] != '\0' ? "held back" : "open";
    if (connection->is_pipe_closed || connection->is_orphan)
        status->state = "closing";
}

void gateway_connections_each(struct gateway *gateway,
                              bool (*each)(const struct connection_status *status, void *context), void *context)
{
    pthread_mutex_lock(&gateway->lock);
    for (struct connection *connection = gateway->first; connection != NULL; connection = connection->next) {
        struct connection_status status;
        status_fill(connection, &status);
        if (!each(&status, context))
            break;
    }
    pthread_mutex_unlock(&gateway->lock);
}

enum weir_error gateway_disconnect(struct gateway *gateway, uint64_t id)
{
    weir_actor actor = WEIR_ACTOR_NONE;
    pthread_mutex_lock(&gateway->lock);
    for (struct connection *connection = gateway->first; connection != NULL; connection = connection->next)
        if (connection->id == id && !connection->is_orphan)
            actor = connection->actor_shared;
    pthread_mutex_unlock(&gateway->lock);
    if (actor_is_none(actor))
        return WEIR_NOT_FOUND;
    struct message message = {.tag = CONNECTION_DRAIN, .detail = DRAIN_AT_ONCE};
    enum weir_error error = actor_control(gateway->runtime, WEIR_ACTOR_NONE, actor, &message);
    return error == WEIR_STALE ? WEIR_NOT_FOUND : error;
}

enum weir_error gateway_connection_find(struct gateway *gateway, weir_actor actor, uint64_t *id)
{
    enum weir_error error = WEIR_NOT_FOUND;
    pthread_mutex_lock(&gateway->lock);
    for (struct connection *connection = gateway->first; connection != NULL && error; connection = connection->next) {
        if (actor_is_same(connection->actor_shared, actor)) {
            *id = connection->id;
            error = WEIR_OK;
        }
    }
    pthread_mutex_unlock(&gateway->lock);
    return error;
}

void gateway_status(struct gateway *gateway, struct gateway_status *out)
{
    pthread_mutex_lock(&gateway->lock);
    *out = gateway->ended;
    out->connections = gateway->count;
    out->connections_peak = gateway->peak;
    for (struct connection *connection = gateway->first; connection != NULL; connection = connection->next)
        totals_add(out, &connection->counters);
    pthread_mutex_unlock(&gateway->lock);
    for (int i = 0; i < REFUSAL_COUNT; i++)
        out->refusals[i] = atomic_load_explicit(&gateway->refusals[i], memory_order_relaxed);
}
