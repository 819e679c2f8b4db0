/* A client: its options, its thread and its end. Called by users of libweir on their threads; client_main is the
 * client's own thread. */
#include "clients/lib/client.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "clients/wire/utf8.h"

enum { NAME_SIZE_MAX = 255, PUBLISHER_SIZE_MAX = 64, GOODBYE_MS = 200 };

static const char *const link_reason_none = "the broker could not be reached in time";

const char *weir_version(void) { return WEIR_VERSION; }

void client_wake(struct weir *client)
{
    pthread_cond_signal(&client->work);
    if (client->link.is_resting)
        sp_pipe_receive_interrupt(client->link.pipe);
}

bool client_is_own_thread(const struct weir *client) { return pthread_equal(pthread_self(), client->thread) != 0; }

uint64_t deadline_after_ms(uint64_t timeout_ms)
{
    if (timeout_ms == WEIR_FOREVER)
        return UINT64_MAX;
    uint64_t now = clock_now_ns();
    return timeout_ms >= (UINT64_MAX - now) / NS_PER_MS ? UINT64_MAX : now + timeout_ms * NS_PER_MS;
}

/* Waits on one of the client's conditions, whose clock is the monotonic one. */
static bool condition_wait(struct weir *client, pthread_cond_t *condition, uint64_t deadline_ns)
{
    if (deadline_ns == UINT64_MAX) {
        pthread_cond_wait(condition, &client->lock);
        return true;
    }
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / NS_PER_S), .tv_nsec = (long)(deadline_ns % NS_PER_S)};
    return pthread_cond_timedwait(condition, &client->lock, &until) != ETIMEDOUT;
}

bool client_wait(struct weir *client, uint64_t deadline_ns)
{
    /* Looked at first, so that a wait that is woken all the time ends, too. */
    if (deadline_ns != UINT64_MAX && clock_now_ns() >= deadline_ns)
        return false;
    bool was_holding = client->link.is_holding, is_in_time = true;
    client->waiting_count++;
    link_attend(client);
    if (was_holding)
        link_pump_released(client); /* what is waited for may have come meanwhile */
    else
        is_in_time = condition_wait(client, &client->changed, deadline_ns);
    client->waiting_count--;
    client->link.awaited_ns = clock_now_ns();
    return is_in_time;
}

/* The next reconnect comes after a random part of a doubling time, so that many clients do not come back at once. */
static uint64_t backoff_next_ns(struct weir *client)
{
    uint64_t limit_ms = client->backoff_ms;
    client->backoff_ms = limit_ms * 2 > client->options.backoff_max_ms ? client->options.backoff_max_ms : limit_ms * 2;
    uint64_t half_ns = limit_ms * NS_PER_MS / 2;
    /* xorshift64: neither rand's lock nor its state, which are the user's. */
    client->jitter ^= client->jitter << 13;
    client->jitter ^= client->jitter >> 7;
    client->jitter ^= client->jitter << 17;
    return clock_now_ns() + half_ns + client->jitter % (half_ns + 1);
}

static void client_end(struct weir *client, enum weir_error error)
{
    client->is_over = true;
    client->over_error = error;
    publisher_on_over(client);
    subscriptions_on_over(client);
    while (subscriptions_deliver(client)) {
    }
    pthread_cond_broadcast(&client->changed);
}

/* Will trying again not help? Looked at until the first session only: a broker that once was there may come back
 * another one. */
static bool is_hopeless(enum weir_error error)
{
    return error == WEIR_PROTOCOL || error == WEIR_BAD_REQUEST || error == WEIR_FORBIDDEN || error == WEIR_TOO_BIG;
}

/* Without a connection: ends the client, or waits and dials again. */
static void client_reconnect(struct weir *client)
{
    enum weir_error error = client->link.error == WEIR_OK ? WEIR_CLOSED : client->link.error;
    /* Another client has this one's name as publisher: coming back would only take it away again. */
    if (client->options.reconnect_never || error == WEIR_CONFLICT || (!client->link.was_up && is_hopeless(error))) {
        client_end(client, error);
        return;
    }
    uint64_t until = backoff_next_ns(client);
    while (!client->is_stopping && clock_now_ns() < until)
        condition_wait(client, &client->work, until);
    if (!client->is_stopping)
        link_dial(client);
}

/* One round: whatever can be done now is done; false when there is nothing to do but wait. */
static bool client_round(struct weir *client)
{
    struct link *link = &client->link;
    if (link->pipe != NULL && link->is_closed) {
        link_reap(client);
        return true;
    }
    if (link->pipe == NULL) {
        client_reconnect(client);
        return true;
    }
    bool has_done = link_take(client);
    has_done |= subscriptions_deliver(client);
    link_hold_end(client, clock_now_ns());
    link_pump(client);
    return has_done;
}

/* With every signal blocked, so that the user's handlers run on the user's threads. */
static bool thread_start(struct weir *client, void *(*main)(void *))
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    bool is_started = pthread_create(&client->thread, NULL, main, client) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return is_started;
}

static void *client_main(void *argument)
{
    struct weir *client = argument;
    pthread_mutex_lock(&client->lock);
    link_dial(client);
    while (!client->is_stopping && !client->is_over) {
        if (client_round(client) || client->is_stopping || client->is_over)
            continue;
        uint64_t next = link_heartbeat(client, clock_now_ns());
        if (client->link.has_received || client->link.is_closed || client->ready.first != NULL)
            continue;
        if (!link_rest(client, next))
            condition_wait(client, &client->work, next);
    }
    if (client->link.pipe != NULL) {
        link_close(client, WEIR_CLOSED, "the client was closed");
        while (!client->link.is_closed)
            condition_wait(client, &client->work, UINT64_MAX);
        link_reap(client);
    }
    if (!client->is_over)
        client_end(client, WEIR_CLOSED);
    pthread_mutex_unlock(&client->lock);
    return NULL;
}

/* HELLO takes UTF-8 of a sensible size. */
static char *name_given(const char *name, size_t size_max)
{
    return strlen(name) <= size_max && utf8_is_valid((const uint8_t *)name, strlen(name)) ? strdup(name) : NULL;
}

static char *name_default(void)
{
    char *text = NULL;
    return asprintf(&text, "%s[%d]", program_invocation_short_name, (int)getpid()) < 0 ? NULL : text;
}

/* Numbers of a publisher go on rising when its program starts anew; by the clock they do so for everyone who publishes
 * less than a million records a second. */
static uint64_t number_first(const struct weir_options *options)
{
    struct timespec now = {0};
    if (options->publisher == NULL || options->first_number != 0)
        return options->publisher != NULL ? options->first_number : 1;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static enum weir_error client_init(struct weir *client, const struct weir_options *options)
{
    if (options != NULL)
        client->options = *options;
    struct weir_options *o = &client->options;
    const char *url = o->url != NULL ? o->url : getenv("WEIR_URL");
    client->url = strdup(url != NULL && *url != '\0' ? url : WEIR_DEFAULT_URL);
    client->name = o->name != NULL ? name_given(o->name, NAME_SIZE_MAX) : name_default();
    o->connect_timeout_ms = o->connect_timeout_ms != 0 ? o->connect_timeout_ms : 5000;
    o->backoff_min_ms = o->backoff_min_ms != 0 ? o->backoff_min_ms : 50;
    o->backoff_max_ms = o->backoff_max_ms != 0 ? o->backoff_max_ms : 5000;
    o->window_bytes = o->window_bytes != 0 ? o->window_bytes : (size_t)1 << 20;
    o->publish_buffer_bytes = o->publish_buffer_bytes != 0 ? o->publish_buffer_bytes : (size_t)1 << 20;
    o->heartbeat_ms = o->heartbeat_ms != 0 ? o->heartbeat_ms : 5000;
    client->magic = CLIENT_MAGIC;
    if (getrandom(&client->jitter, sizeof client->jitter, GRND_NONBLOCK) != sizeof client->jitter)
        client->jitter = clock_now_ns() ^ (uint64_t)(uintptr_t)client;
    client->jitter |= 1;
    client->feeds_by_id.seed = client->subscriptions_by_id.seed = client->jitter;
    client->backoff_ms = o->backoff_min_ms;
    if (o->publisher != NULL && *o->publisher != '\0')
        client->publisher_name = name_given(o->publisher, PUBLISHER_SIZE_MAX);
    client->publisher.lowest_number = number_first(o);
    client->publisher.next_number = client->publisher.first_number = client->publisher.lowest_number;
    client->next_sub = 1;
    client->burst = 1;
    client->next_request = 1;
    pthread_mutex_init(&client->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&client->changed, &monotonic);
    pthread_cond_init(&client->work, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if ((o->name != NULL && client->name == NULL) || (o->publisher != NULL && client->publisher_name == NULL) ||
        o->first_number >= UINT64_C(1) << 60)
        return WEIR_BAD_REQUEST;
    return client->url != NULL && client->name != NULL ? WEIR_OK : WEIR_NO_MEMORY;
}

static void client_free(struct weir *client)
{
    subscriptions_fini(client);
    events_fini(client);
    client_publisher_fini(client);
    link_fini(client);
    pthread_cond_destroy(&client->work);
    pthread_cond_destroy(&client->changed);
    pthread_mutex_destroy(&client->lock);
    free(client->url);
    free(client->name);
    free(client->publisher_name);
    client->magic = 0;
    free(client);
}

static void client_stop(struct weir *client)
{
    pthread_mutex_lock(&client->lock);
    client->is_stopping = true;
    client_wake(client);
    pthread_mutex_unlock(&client->lock);
    pthread_join(client->thread, NULL);
}

/* Waits for the first session; the reason of the last failure is kept for the caller. */
static enum weir_error client_await_up(struct weir *client, const char **reason)
{
    static _Thread_local char kept[sizeof client->link.reason];
    uint64_t deadline = deadline_after_ms(client->options.connect_timeout_ms);
    enum weir_error error = WEIR_OK;
    pthread_mutex_lock(&client->lock);
    while (!client->link.was_up && !client->is_over && client_wait(client, deadline)) {
    }
    if (!client->link.was_up) {
        snprintf(kept, sizeof kept, "%s", client->link.reason[0] != '\0' ? client->link.reason : link_reason_none);
        error = client->is_over ? client->over_error : client->link.error;
        if (error == WEIR_OK || error == WEIR_CLOSED)
            error = error == WEIR_OK ? WEIR_TIMEOUT : WEIR_CONNECT;
        if (reason != NULL)
            *reason = kept;
    }
    pthread_mutex_unlock(&client->lock);
    return error;
}

enum weir_error weir_open(const struct weir_options *options, struct weir **out, const char **reason)
{
    *out = NULL;
    if (reason != NULL)
        *reason = "";
    struct weir *client = calloc(1, sizeof *client);
    if (client == NULL)
        return WEIR_NO_MEMORY;
    enum weir_error error = client_init(client, options);
    if (error == WEIR_OK) {
        /* The new thread reads client->thread only under the lock. */
        pthread_mutex_lock(&client->lock);
        if (!thread_start(client, client_main))
            error = WEIR_NO_MEMORY;
        pthread_mutex_unlock(&client->lock);
    }
    if (error != WEIR_OK) {
        client_free(client);
        return error;
    }
    error = client_await_up(client, reason);
    if (error != WEIR_OK) {
        client_stop(client);
        client_free(client);
        return error;
    }
    *out = client;
    return WEIR_OK;
}

/* Says goodbye, so that the broker need not find out by itself; waits a moment for it to be with the kernel. */
static void client_goodbye(struct weir *client)
{
    pthread_mutex_lock(&client->lock);
    if (client->link.state == LINK_UP) {
        struct frame frame = {.op = FRAME_CLOSE};
        frame.as.close.code = view_text("ok");
        frame.as.close.message = view_text("the client was closed");
        link_control(client, &frame);
        link_pump(client);
        uint64_t deadline = deadline_after_ms(GOODBYE_MS);
        while (client->link.is_sending && client->link.state == LINK_UP && client_wait(client, deadline)) {
        }
    }
    pthread_mutex_unlock(&client->lock);
}

enum weir_error weir_close(struct weir **client, uint64_t timeout_ms)
{
    if (*client == NULL)
        return WEIR_OK;
    MAGIC_CHECK(*client, CLIENT_MAGIC);
    if (client_is_own_thread(*client))
        return WEIR_FORBIDDEN;
    enum weir_error error = weir_flush(*client, timeout_ms);
    client_goodbye(*client);
    client_stop(*client);
    client_free(*client);
    *client = NULL;
    return error;
}

void weir_counts(struct weir *client, struct weir_counts *out)
{
    MAGIC_CHECK(client, CLIENT_MAGIC);
    pthread_mutex_lock(&client->lock);
    *out = client->counts;
    pthread_mutex_unlock(&client->lock);
}
