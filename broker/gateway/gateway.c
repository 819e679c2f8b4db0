/* The gateway as boot and admin see it: create, listen, reconfigure, drain, destroy. On the owner's threads. */
#include "broker/gateway/gateway.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/base/limits.h"
#include "broker/gateway/roster.h"

enum {
    CUT_MS = 2000, /* for connections that were cut to be gone: pollers need to run, no peer is asked */
    WAIT_SLICE_MS = 50,
    MESSAGE_SIZE_MIN = 4096, /* error replies, HELLO and names of topics must fit */
};

void gateway_config_defaults(struct gateway_config *config)
{
    *config = (struct gateway_config){
        .handshake_ms = 5000,
        .handshaking_max = 1024,
        .connections_max = 10000,
        .connections_per_address_max = 1000,
        .message_size_max = MESSAGE_SIZE_MAX_DEFAULT,
        .receive_bytes_max = (size_t)32 << 20, /* a dozen messages of full size, or thousands of ordinary ones */
        .heartbeat_ms = 5000,
        .idle_ms = 0,
        .records_per_message_max = RECORDS_PER_MESSAGE_MAX_DEFAULT,
        .depth_max = MSGPACK_DEPTH_MAX_DEFAULT,
        .reply_deadline_ms = 5000,
        .requests_max = 64,
        .publish_window = (size_t)1 << 20,
        .outbox_bytes = (size_t)1 << 20,
        .subscriptions_max = 1024,
        .feeds_max = 100000,
        .aliases_max = 65536,
        .log_interval_ms = 10000,
    };
}

static const char *config_fault(const struct gateway_config *config)
{
    if (config->message_size_max < MESSAGE_SIZE_MIN || config->message_size_max > MESSAGE_SIZE_MAX)
        return "message_size_max";
    if (config->receive_bytes_max < 4 * config->message_size_max)
        return "receive_bytes_max";
    if (config->depth_max < 1 || config->depth_max > 128)
        return "depth_max";
    if (config->records_per_message_max < 1)
        return "records_per_message_max";
    if (config->requests_max < 1 || config->requests_max > 65536)
        return "requests_max";
    if (config->aliases_max > 65536)
        return "aliases_max";
    if (config->publish_window < 1024)
        return "publish_window";
    if (config->outbox_bytes < 1024)
        return "outbox_bytes";
    if (config->handshake_ms < 1 || config->heartbeat_ms < 1 || config->reply_deadline_ms < 1)
        return "handshake_ms, heartbeat_ms or reply_deadline_ms";
    return NULL;
}

static enum weir_error lock_create(struct gateway *gateway)
{
    if (pthread_mutex_init(&gateway->lock, NULL) != 0)
        return WEIR_NO_MEMORY;
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) == 0) {
        int failed = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        ENSURE(failed == 0);
        failed = pthread_cond_init(&gateway->changed, &attributes);
        pthread_condattr_destroy(&attributes);
        if (failed == 0)
            return WEIR_OK;
    }
    pthread_mutex_destroy(&gateway->lock);
    return WEIR_NO_MEMORY;
}

enum weir_error gateway_create(const struct gateway_options *options, const struct gateway_config *config,
                               struct gateway **out)
{
    REQUIRE(options->runtime != NULL && options->directory != NULL);
    if (config_fault(config) != NULL)
        return WEIR_BAD_REQUEST;
    struct gateway *gateway = calloc(1, sizeof *gateway);
    if (gateway == NULL)
        return WEIR_NO_MEMORY;
    enum weir_error error = lock_create(gateway);
    if (error) {
        free(gateway);
        return error;
    }
    gateway->magic = GATEWAY_MAGIC;
    gateway->runtime = options->runtime;
    gateway->supervisor = options->supervisor;
    gateway->directory = options->directory;
    gateway->budget = options->budget;
    gateway->session = options->session;
    gateway->server_name = options->server_name != NULL ? options->server_name : "weir";
    gateway->config = *config;
    gateway->is_accepting = true;
    *out = gateway;
    return WEIR_OK;
}

enum weir_error gateway_listen(struct gateway *gateway, const char *url, const char **reason)
{
    MAGIC_CHECK(gateway, GATEWAY_MAGIC);
    const char *ignored;
    if (reason == NULL)
        reason = &ignored;
    pthread_mutex_lock(&gateway->lock);
    bool is_accepting = gateway->is_accepting;
    struct sp_listen_options options = {.handshake_ms = gateway->config.handshake_ms,
                                        .handshaking_max = gateway->config.handshaking_max};
    pthread_mutex_unlock(&gateway->lock);
    *reason = "the gateway has stopped accepting";
    if (!is_accepting)
        return WEIR_CLOSED;
    *reason = "there are as many listeners as may be";
    if (gateway->listener_count == GATEWAY_LISTENERS_MAX)
        return WEIR_FULL;
    enum weir_error error = sp_listen(url, &options, &gateway_listener_handlers, gateway,
                                      &gateway->listeners[gateway->listener_count], reason);
    if (error == WEIR_OK)
        gateway->listener_count++;
    return error;
}

const char *gateway_listener_url(const struct gateway *gateway, size_t index)
{
    return index < gateway->listener_count ? sp_listener_url(gateway->listeners[index]) : NULL;
}

enum weir_error gateway_config_set(struct gateway *gateway, const struct gateway_config *config, const char **reason)
{
    MAGIC_CHECK(gateway, GATEWAY_MAGIC);
    const char *fault = config_fault(config), *kept = NULL;
    if (reason != NULL)
        *reason = fault;
    if (fault != NULL)
        return WEIR_BAD_REQUEST;
    pthread_mutex_lock(&gateway->lock);
    struct gateway_config before = gateway->config;
    gateway->config = *config;
    config_share_end(gateway);
    /* A listener took these when it was opened. */
    if (before.handshaking_max != config->handshaking_max) {
        gateway->config.handshaking_max = before.handshaking_max;
        kept = "handshaking_max needs a restart";
    }
    pthread_mutex_unlock(&gateway->lock);
    if (reason != NULL)
        *reason = kept;
    return WEIR_OK;
}

void gateway_config_get(struct gateway *gateway, struct gateway_config *out)
{
    pthread_mutex_lock(&gateway->lock);
    *out = gateway->config;
    pthread_mutex_unlock(&gateway->lock);
}

void gateway_stop_accepting(struct gateway *gateway)
{
    MAGIC_CHECK(gateway, GATEWAY_MAGIC);
    pthread_mutex_lock(&gateway->lock);
    gateway->is_accepting = false;
    pthread_mutex_unlock(&gateway->lock);
    for (size_t i = 0; i < gateway->listener_count; i++)
        sp_listener_stop(gateway->listeners[i]);
}

/* ---------------------------------------------------------------------------------------------- the end */

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

/* Waits until no connection is left; returns how many are at the deadline. */
static size_t wait_for_none(struct gateway *gateway, uint64_t deadline_ns)
{
    for (;;) {
        roster_reap(gateway);
        pthread_mutex_lock(&gateway->lock);
        size_t count = gateway->count + gateway->reserved;
        uint64_t now_ns = clock_now_ns();
        if (count > 0 && now_ns < deadline_ns) {
            uint64_t until_ns = now_ns + WAIT_SLICE_MS * NS_PER_MS;
            struct timespec until = timespec_of(until_ns < deadline_ns ? until_ns : deadline_ns);
            (void)pthread_cond_timedwait(&gateway->changed, &gateway->lock, &until);
        }
        pthread_mutex_unlock(&gateway->lock);
        if (count == 0 || now_ns >= deadline_ns)
            return count;
    }
}

/* Actors' handles, so that messages are sent without the lock. Those that have not started yet have none: they drain as
 * soon as they start. */
static size_t actors_copy(struct gateway *gateway, weir_actor **out)
{
    pthread_mutex_lock(&gateway->lock);
    gateway->is_draining = true;
    size_t count = 0;
    weir_actor *actors = calloc(gateway->count + 1, sizeof *actors);
    for (struct connection *connection = gateway->first; connection != NULL && actors != NULL;
         connection = connection->next)
        if (!connection->is_orphan && connection->is_started)
            actors[count++] = connection->actor_shared;
    pthread_mutex_unlock(&gateway->lock);
    *out = actors;
    return count;
}

size_t gateway_drain(struct gateway *gateway, uint64_t deadline_ms)
{
    MAGIC_CHECK(gateway, GATEWAY_MAGIC);
    uint64_t deadline_ns = clock_now_ns() + deadline_ms * NS_PER_MS;
    gateway_stop_accepting(gateway);
    weir_actor *actors;
    size_t count = actors_copy(gateway, &actors);
    struct message message = {.tag = CONNECTION_DRAIN};
    for (size_t i = 0; i < count; i++)
        (void)!actor_control(gateway->runtime, WEIR_ACTOR_NONE, actors[i], &message);
    free(actors);
    size_t left = wait_for_none(gateway, deadline_ns);
    if (left == 0)
        return 0;
    count = actors_copy(gateway, &actors);
    for (size_t i = 0; i < count; i++)
        (void)!actor_stop(gateway->runtime, actors[i], WEIR_CLOSED);
    free(actors);
    (void)wait_for_none(gateway, clock_now_ns() + CUT_MS * NS_PER_MS);
    return left;
}

/* Connections whose actor never had a turn: their pipes have no owner yet. */
static void unstarted_free(struct gateway *gateway)
{
    struct connection *next = NULL;
    for (struct connection *connection = gateway->first; connection != NULL; connection = next) {
        next = connection->next;
        if (connection->is_started)
            continue;
        pthread_mutex_lock(&gateway->lock);
        connection->is_orphan = connection->is_pipe_closed = true;
        pthread_mutex_unlock(&gateway->lock);
    }
    roster_reap(gateway);
}

void gateway_destroy(struct gateway **gateway_pointer)
{
    struct gateway *gateway = *gateway_pointer;
    if (gateway == NULL)
        return;
    MAGIC_CHECK(gateway, GATEWAY_MAGIC);
    *gateway_pointer = NULL;
    gateway_stop_accepting(gateway);
    for (size_t i = 0; i < gateway->listener_count; i++)
        sp_listener_destroy(&gateway->listeners[i]);
    unstarted_free(gateway);
    size_t left = wait_for_none(gateway, UINT64_MAX);
    ENSURE(left == 0);
    config_share_end(gateway);
    pthread_cond_destroy(&gateway->changed);
    pthread_mutex_destroy(&gateway->lock);
    gateway->magic = 0;
    free(gateway);
}
