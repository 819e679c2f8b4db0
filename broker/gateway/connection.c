/* The actor of a connection: what its messages mean, its pauses, and its end. Its turns run on whichever worker has it;
 * the three handlers at the end run on a poller's thread and only send it messages. */
#include "broker/gateway/connection.h"

#include <stdio.h>
#include <stdlib.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "broker/gateway/parked.h"
#include "broker/gateway/roster.h"

enum {
    RETRY_MS = 1000,  /* when an answer is missing: topics and directory are late by microseconds, if at all */
    FINISH_MS = 1000, /* to send what there is to a peer that is told the end */
    LINGER_MS = 100,  /* for the peer to read it before the socket closes over unread bytes */
    GONE_MS = 10000,  /* for topics to take what a peer sent before it left */
    /* Received at once, up to this much is handled by the thread that brought it: a hundred small records at the most,
     * which take about as long as a worker that sleeps would take to come. More is a stream: it goes to the worker, and
     * the next gathers meanwhile. */
    HERE_SIZE_MAX = 16 * 1024,
};

struct connection_actor {
    struct connection *connection;
};

/* ------------------------------------------------------------------------------------------ small things */

void connection_pause(struct connection *connection, enum pause reason) { connection->paused |= reason; }

void connection_resume(struct connection *connection, enum pause reason)
{
    if ((connection->paused & reason) == 0)
        return;
    connection->paused &= ~(unsigned)reason;
    if (connection->paused == 0)
        connection->is_resumed = true;
}

void connection_parked_changed(struct connection *connection)
{
    if (connection->publisher.parked_count > connection->ops->parked_max)
        connection_pause(connection, PAUSE_PARKED);
    else
        connection_resume(connection, PAUSE_PARKED);
}

weir_timer connection_timer(struct connection *connection, enum connection_timer timer, uint64_t delay_ms,
                            bool is_periodic)
{
    weir_timer handle = {0};
    uint64_t period_ns = delay_ms * NS_PER_MS, delay_ns = period_ns;
    /* Connections that tick at the same moments wake a worker, and nng's threads for the answers, once for some of
     * them, not once each. */
    if (is_periodic)
        delay_ns -= (turn_now_ns(connection->turn) + delay_ns) % (period_ns / connection->tick_moments);
    if (timer_start(connection->runtime, connection->actor, delay_ns, is_periodic ? period_ns : 0, timer, &handle) ==
        WEIR_OK)
        return handle;
    if (connection->is_finishing)
        connection_close(connection); /* nothing would end it */
    else
        connection_starve(connection, "there is no memory for a timer");
    return handle;
}

bool connection_may_have(const struct connection *connection, size_t size, unsigned reserve_part)
{
    size_t used, max;
    budget_level(connection->budget, &used, &max);
    return max == 0 || used + size <= max - max / reserve_part;
}

void connection_wake(struct connection *connection)
{
    /* With a full control lane there are turns to come anyway. */
    (void)!turn_control(connection->turn, connection->actor, &(struct message){.tag = CONNECTION_WAKE});
}

void connection_retry(struct connection *connection)
{
    if (connection->is_retry_armed)
        return;
    connection->is_retry_armed = true;
    connection_timer(connection, TIMER_RETRY, RETRY_MS, false);
}

/* A text for people in the place of another; none (size 0), or without memory, nothing is shown. */
static void text_exchange(struct connection *connection, char **place, struct view wanted)
{
    char *text = wanted.size > 0 ? malloc(wanted.size + 1) : NULL;
    if (text != NULL) {
        memcpy(text, wanted.data, wanted.size);
        text[wanted.size] = '\0';
    }
    pthread_mutex_lock(&connection->lock);
    char *before = *place;
    *place = text;
    pthread_mutex_unlock(&connection->lock);
    free(before);
}

void connection_name_set(struct connection *connection, struct view client)
{
    if (client.size >= CONNECTION_CLIENT_MAX)
        client.size = CONNECTION_CLIENT_MAX - 1;
    text_exchange(connection, &connection->client, client);
}

void connection_blocked_set(struct connection *connection, struct view topic)
{
    REQUIRE(topic.size <= TOPIC_NAME_SIZE_MAX);
    text_exchange(connection, &connection->blocked_on, topic);
}

/* ------------------------------------------------------------------------------------------------ orders */

static void orders_send(struct connection *connection)
{
    weir_actor directory = directory_actor(connection->gateway->directory);
    struct queue *orders = &connection->orders;
    while (orders->count > 0) {
        struct message *order = queue_first(orders);
        enum weir_error error = turn_send(connection->turn, directory, order);
        if (error == WEIR_FULL && turn_await_room(connection->turn, directory) == WEIR_OK)
            return;
        if (error == WEIR_OK)
            order->hold[0] = order->hold[1] = WEIR_MSG_NONE;
        queue_drop_first(connection, orders); /* the directory is gone for good: so is what it was to do */
    }
    connection_resume(connection, PAUSE_ORDERS);
}

void connection_order(struct connection *connection, const struct message *message)
{
    if (queue_push(connection, &connection->orders, message) != WEIR_OK) {
        for (int i = 0; i < MESSAGE_HOLDS; i++)
            arena_drop(connection->arena, message->hold[i]);
        connection_starve(connection, "there is no memory for an order to the directory");
        return;
    }
    if (connection->orders.count == 1)
        orders_send(connection);
    if (connection->orders.count > 0)
        connection_pause(connection, PAUSE_ORDERS);
}

/* ----------------------------------------------------------------------------------------------- the end */

void connection_close(struct connection *connection)
{
    connection->is_forced = true;
    if (connection->is_closing)
        return;
    connection->is_closing = true;
    sp_pipe_close(connection->pipe);
}

/* Closes the pipe, but what topics hold back may still find room. */
static void connection_hang_up(struct connection *connection)
{
    if (connection->is_closing)
        return;
    connection->is_closing = true;
    sp_pipe_close(connection->pipe);
}

void connection_finish(struct connection *connection)
{
    if (connection->is_finishing || connection->is_closing)
        return;
    connection->is_finishing = true;
    connection->is_resumed = true; /* to discard what still comes */
    connection_timer(connection, TIMER_LINGER, FINISH_MS, false);
}

void connection_refuse(struct connection *connection, enum refusal refusal, enum weir_error error, const char *text)
{
    if (connection->is_closing || connection->is_finishing || connection->is_refused)
        return;
    connection->is_refused = true; /* telling the peer so takes memory, which may be refused in turn */
    gateway_count(connection->gateway, refusal, 1);
    gateway_log(connection->gateway, "connection.refused", connection->address, connection->peer, refusal, text);
    if (connection->ops->on_refused == NULL) {
        connection_hang_up(connection);
        return;
    }
    connection->ops->on_refused(connection, error, text);
    connection_finish(connection);
}

void connection_starve(struct connection *connection, const char *text)
{
    connection_refuse(connection, REFUSAL_MEMORY, WEIR_NO_MEMORY, text);
}

/* Nothing more can come of it. */
static bool connection_is_over(const struct connection *connection)
{
    if (!connection->is_gone)
        return false;
    const struct publisher *publisher = &connection->publisher;
    return connection->is_forced || (publisher->parked_count == 0 && (connection->paused & PAUSE_DIRECTORY) == 0);
}

static void connection_on_gone(struct connection *connection)
{
    connection->is_gone = true;
    connection->is_closing = connection->is_closing || connection->is_finishing;
    connection->intake.posted = 0;
    output_clear(connection);
    output_sent(connection);
    if (connection->ops->on_gone != NULL)
        connection->ops->on_gone(connection);
    connection_resume(connection, PAUSE_URGENT);
    connection_resume(connection, PAUSE_REQUESTS);
    if (!connection_is_over(connection))
        connection_timer(connection, TIMER_GONE, GONE_MS, false);
}

/* Nothing more is read, and once nothing is on its way to topics or back the connection finishes; at once, where an
 * operator wants it gone. */
static void connection_drain(struct connection *connection, enum drain how)
{
    connection->is_draining = true;
    connection->is_drained = connection->is_drained || how != DRAIN_IN_ORDER;
    connection->is_taken_over = connection->is_taken_over || how == DRAIN_TAKEN_OVER;
    connection_pause(connection, PAUSE_DRAIN);
}

static bool connection_is_pending(const struct connection *connection)
{
    return connection->publisher.parked_count > 0 || connection->requests.used > 0 ||
           (connection->paused & PAUSE_DIRECTORY) != 0 ||
           (connection->ops->has_pending != NULL && connection->ops->has_pending(connection));
}

/* What the turn left to be done about an end that was asked for. */
static void connection_settle(struct connection *connection)
{
    bool is_due = connection->is_draining && !connection->is_finishing;
    if (is_due && (connection->is_drained || !connection_is_pending(connection))) {
        if (connection->ops->on_drain != NULL)
            connection->ops->on_drain(connection);
        connection_finish(connection);
        output_pump(connection);
    }
    if (!connection->is_finishing || connection->is_lingering || connection->is_closing)
        return;
    if (!output_is_idle(&connection->output))
        return;
    connection->is_lingering = true;
    connection_timer(connection, TIMER_LINGER, LINGER_MS, false);
}

/* --------------------------------------------------------------------------------------------- messages */

static void connection_on_tick(struct connection *connection)
{
    uint64_t silent_ns = turn_now_ns(connection->turn) - connection->heard_ns;
    bool is_pushed_back = connection->paused != 0;
    if (connection->config->idle_ms > 0 && !is_pushed_back && silent_ns > connection->config->idle_ms * NS_PER_MS)
        connection_refuse(connection, REFUSAL_IDLE, WEIR_TIMEOUT, "nothing was heard from the peer for too long");
}

static void connection_on_retry(struct connection *connection)
{
    connection->is_retry_armed = false;
    orders_send(connection);
    publisher_retry(connection);
}

static void connection_on_timer(struct connection *connection, enum connection_timer timer)
{
    switch (timer) {
    case TIMER_LINGER: connection_hang_up(connection); return;
    case TIMER_GONE: connection->is_forced = true; return;
    case TIMER_MEMORY: intake_on_memory(connection); return;
    case TIMER_PARTIAL: intake_on_partial(connection); return;
    case TIMER_RETRY: connection_on_retry(connection); return;
    case TIMER_REQUESTS: requests_on_timer(connection); return;
    case TIMER_TICK: queue_rest(connection, &connection->output.data); /* fall through */
    case TIMER_HELLO:
    case TIMER_SILENCE:
        if (connection->ops->on_timer != NULL)
            connection->ops->on_timer(connection, timer);
        else
            connection_on_tick(connection);
        return;
    }
}

static void connection_on_room(struct connection *connection, weir_actor from)
{
    if (connection->orders.count > 0 && actor_is_same(from, directory_actor(connection->gateway->directory)))
        orders_send(connection);
    publisher_on_room(connection, from);
}

static void connection_on_other(struct connection *connection, struct message *message)
{
    if (connection->is_closing || connection->is_finishing || connection->is_gone)
        return; /* its references go with the message */
    if (requests_on_message(connection, message))
        return;
    if (connection->ops->on_message != NULL)
        connection->ops->on_message(connection, message);
}

static void connection_dispatch(struct connection *connection, struct message *message)
{
    switch (message->tag) {
    case CONNECTION_RECEIVED:
        if (message->word[1] == WEIR_OK && !connection->is_closing) {
            intake_received(connection, (size_t)message->word[0]);
            intake_run(connection);
        }
        return;
    case CONNECTION_SENT: output_sent(connection); return;
    case CONNECTION_CLOSED: connection_on_gone(connection); return;
    case CONNECTION_WAKE:
        connection->is_resumed = connection->is_resumed || connection->intake.is_yielding;
        connection->intake.is_yielding = false;
        return;
    case CONNECTION_DRAIN: connection_drain(connection, (enum drain)message->detail); return;
    case MESSAGE_SHUTDOWN:
        turn_shutdown_defer(connection->turn);
        connection_drain(connection, DRAIN_IN_ORDER);
        return;
    case MESSAGE_ROOM: connection_on_room(connection, message->from); return;
    case MESSAGE_TIMER: connection_on_timer(connection, (enum connection_timer)message->word[0]); return;
    case DIRECTORY_TOPIC: publisher_on_topic(connection, message); return;
    default: connection_on_other(connection, message); return;
    }
}

static enum weir_error connection_on_message(struct turn *turn, void *actor, struct message *message)
{
    struct connection *connection = ((struct connection_actor *)actor)->connection;
    MAGIC_CHECK(connection, CONNECTION_MAGIC);
    connection->turn = turn;
    connection_dispatch(connection, message);
    /* Going on with what was read may pause and resume once more; each round uses bytes up or waits for a message. */
    while (connection->is_resumed && (connection->paused == 0 || connection->is_finishing)) {
        connection->is_resumed = false;
        if (!connection->is_closing)
            intake_run(connection);
    }
    return WEIR_OK;
}

static void connection_counters_set(struct connection *connection)
{
    atomic_store_explicit(&connection->counters.outbox_bytes,
                          connection->output.urgent_size + connection->output.data_size, memory_order_relaxed);
}

static void connection_on_turn_end(struct turn *turn, void *actor)
{
    struct connection *connection = ((struct connection_actor *)actor)->connection;
    connection->turn = turn;
    if (connection->is_gone) {
        if (connection_is_over(connection))
            turn_exit(turn, WEIR_OK);
        return;
    }
    if (!connection->is_closing) {
        if (connection->ops->on_turn_end != NULL)
            connection->ops->on_turn_end(connection);
        requests_on_turn_end(connection);
        /* Under load one send for several turns. */
        if (!turn_has_more(turn) || output_waiting(&connection->output) >= OUTPUT_PUMP_MIN)
            output_pump(connection);
        connection_settle(connection);
        output_rest(connection);
    }
    queue_rest(connection, &connection->orders);
    connection_counters_set(connection);
    /* A pump that took urgent bytes or replies may have ended a pause. */
    if (connection->is_resumed && (connection->paused == 0 || connection->is_finishing))
        connection_wake(connection);
    connection->turn = NULL;
}

/* ----------------------------------------------------------------------------------------- start and stop */

static void on_received(void *owner, size_t size, enum weir_error error);
static void on_sent(void *owner, enum weir_error error);
static void on_closed(void *owner);

static const struct sp_pipe_handlers pipe_handlers = {on_received, on_sent, on_closed};

static enum weir_error connection_on_start(struct turn *turn, void *actor, const void *args)
{
    struct connection *connection = ((const struct connection_actor *)args)->connection;
    MAGIC_CHECK(connection, CONNECTION_MAGIC);
    ((struct connection_actor *)actor)->connection = connection;
    connection->turn = turn;
    connection->actor = turn_self(turn);
    connection->heard_ns = turn_now_ns(turn);
    bool is_draining = roster_actor_started(connection);
    sp_pipe_start(connection->pipe, &pipe_handlers, connection);
    enum weir_error error = connection->ops->open != NULL ? connection->ops->open(connection) : WEIR_OK;
    if (error != WEIR_OK)
        connection_close(connection);
    if (connection->config->idle_ms > 0 && connection->ops->on_timer == NULL)
        connection_timer(connection, TIMER_TICK, connection->config->idle_ms / 2 + 1, true);
    /* The gateway has told those that it knew, and a message is what the ends of turns go by. */
    const struct message drain = {.tag = CONNECTION_DRAIN};
    if (is_draining && turn_control(turn, connection->actor, &drain) != WEIR_OK)
        connection_close(connection);
    intake_start(connection);
    output_pump(connection);
    connection->turn = NULL;
    return WEIR_OK;
}

/* Last of all, however the actor ended. What the poller still uses stays until the pipe has closed. */
static void connection_on_stop(struct turn *turn, void *actor, enum weir_error cause)
{
    (void)cause;
    struct connection *connection = ((struct connection_actor *)actor)->connection;
    connection->turn = turn;
    connection_close(connection);
    if (connection->ops->close != NULL)
        connection->ops->close(connection);
    publisher_fini(connection);
    requests_fini(connection);
    queue_clear(connection, &connection->orders);
    output_clear(connection);
    connection->turn = NULL;
    roster_actor_ended(connection);
}

static void connection_ahead_message(const void *actor, const struct message *message)
{
    const struct connection *connection = ((const struct connection_actor *)actor)->connection;
    if (connection->ops->ahead_message != NULL)
        connection->ops->ahead_message(connection, message);
}

const struct behaviour connection_behaviour = {
    .name = "connection",
    .state_size = sizeof(struct connection_actor),
    .on_start = connection_on_start,
    .on_message = connection_on_message,
    .on_turn_end = connection_on_turn_end,
    .on_stop = connection_on_stop,
    .ahead_message = connection_ahead_message,
};

void connection_free(struct connection **connection_pointer)
{
    struct connection *connection = *connection_pointer;
    MAGIC_CHECK(connection, CONNECTION_MAGIC);
    *connection_pointer = NULL;
    sp_pipe_destroy(&connection->pipe);
    intake_fini(connection);
    output_fini(connection);
    budget_destroy(&connection->budget);
    pthread_mutex_destroy(&connection->lock);
    config_drop(connection->config);
    free(connection->state);
    free(connection->client);
    free(connection->blocked_on);
    free(connection->identity);
    connection->magic = 0;
    free(connection);
}

/* ---------------------------------------------------------------------------------- a poller's thread */

/* The control lane has room for the three of each connection, whatever topics send; without memory for an envelope the
 * connection would never hear, so it is stopped: what it has goes to the roster.
 *
 * A little that comes while the workers sleep has its turn here, inside the pipe's handler. It may not free this
 * connection then, and it does not: the handler's hold keeps the pipe from closing, and a connection outlives its pipe.
 * (CONNECTION_CLOSED, which may end in freeing, is sent the other way.) */
static void tell(struct connection *connection, const struct message *message, bool is_here)
{
    enum weir_error error = is_here
                                ? actor_control_here(connection->runtime, WEIR_ACTOR_NONE, connection->actor, message)
                                : actor_control(connection->runtime, WEIR_ACTOR_NONE, connection->actor, message);
    if (error != WEIR_OK && error != WEIR_STALE)
        (void)!actor_stop(connection->runtime, connection->actor, error);
}

static void on_received(void *owner, size_t size, enum weir_error error)
{
    tell(owner, &(struct message){.tag = CONNECTION_RECEIVED, .word = {size, (uint64_t)error}}, size <= HERE_SIZE_MAX);
}

static void on_sent(void *owner, enum weir_error error)
{
    tell(owner, &(struct message){.tag = CONNECTION_SENT, .word = {0, (uint64_t)error}}, false);
}

static void on_closed(void *owner) { roster_pipe_closed(owner); }
