/* A listening address: accepts for ever and hands each connection whose handshake succeeds to the owner as a pipe.
 * Created and stopped by the owner's thread; accepting runs on nng's threads, one accept at a time.
 *
 * After a failed accept (no descriptors, no memory, whatever it is) the next one waits ACCEPT_RETRY_MS: at once would
 * spin, never would leave a dead listener behind a live process. */
#include "clients/sp/pipe.h"

#include "clients/sp/handshake.h"
#include "clients/sp/path_claim.h"
#include "clients/sp/stream.h"

#include "actors/base/assert.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LISTENER_MAGIC 0x4c53544eu
/* Short against the second in which a listener must be back once descriptors are free, long against an accept. */
#define ACCEPT_RETRY_MS 100

struct sp_listener {
    uint32_t magic;
    enum sp_transport transport;
    int path_claim; /* -1: none */
    char *url;
    nng_stream_listener *stream_listener;
    nng_aio *accept_aio;
    nng_aio *delay_aio;
    struct sp_handshakes *handshakes;
    struct sp_listener_handlers handlers;
    void *owner;
    /* Operations begin under this lock and only while !is_stopping, so that stop finds none half begun. */
    pthread_mutex_t lock;
    bool is_stopping;
    atomic_uint_fast64_t accept_failures; /* relaxed: a count for people */
};

static void accept_begin(struct sp_listener *listener)
{
    pthread_mutex_lock(&listener->lock);
    if (!listener->is_stopping)
        nng_stream_listener_accept(listener->stream_listener, listener->accept_aio);
    pthread_mutex_unlock(&listener->lock);
}

static void accept_begin_later(struct sp_listener *listener)
{
    pthread_mutex_lock(&listener->lock);
    if (!listener->is_stopping)
        nng_sleep_aio(ACCEPT_RETRY_MS, listener->delay_aio);
    pthread_mutex_unlock(&listener->lock);
}

static void delay_ended(void *argument) { accept_begin(argument); }

/* One that is gone already, or unwelcome, is dropped before it costs a slot. */
static void connection_admit(struct sp_listener *listener, nng_stream *stream)
{
    struct sp_peer peer;
    if (sp_peer_describe(stream, listener->transport, &peer) ||
        !listener->handlers.on_accept(listener->owner, peer.address))
        sp_stream_drop(stream);
    else
        sp_handshakes_start(listener->handshakes, stream, &peer);
}

static void accept_ended(void *argument)
{
    struct sp_listener *listener = argument;
    MAGIC_CHECK(listener, LISTENER_MAGIC);
    int code = nng_aio_result(listener->accept_aio);
    if (code != 0) {
        if (code != NNG_ECLOSED && code != NNG_ECANCELED)
            atomic_fetch_add_explicit(&listener->accept_failures, 1, memory_order_relaxed);
        accept_begin_later(listener);
        return;
    }
    connection_admit(listener, nng_aio_get_output(listener->accept_aio, 0));
    accept_begin(listener);
}

static void handshake_done(void *owner, struct sp_pipe *pipe)
{
    struct sp_listener *listener = owner;
    listener->handlers.on_ready(listener->owner, pipe);
}

static void handshake_failed(void *owner, const struct sp_peer *peer, enum weir_error error, const char *reason)
{
    struct sp_listener *listener = owner;
    listener->handlers.on_refused(listener->owner, peer->address, peer->text, error, reason);
}

/* Descriptors, memory and threads of a listener that does not listen yet. */
static enum weir_error listener_alloc(const struct sp_listen_options *options,
                                      const struct sp_listener_handlers *handlers, void *owner,
                                      struct sp_listener **out)
{
    struct sp_listener *listener = calloc(1, sizeof *listener);
    if (!listener)
        return WEIR_NO_MEMORY;
    const struct sp_handshake_handlers on_handshake = {.on_done = handshake_done, .on_failed = handshake_failed};
    if (pthread_mutex_init(&listener->lock, NULL) != 0)
        goto no_lock;
    if (nng_aio_alloc(&listener->accept_aio, accept_ended, listener) != 0)
        goto no_accept_aio;
    if (nng_aio_alloc(&listener->delay_aio, delay_ended, listener) != 0)
        goto no_delay_aio;
    if (sp_handshakes_create(options->handshaking_max, options->handshake_ms, &on_handshake, listener,
                             &listener->handshakes))
        goto no_handshakes;
    nng_aio_set_timeout(listener->accept_aio, NNG_DURATION_INFINITE);
    nng_aio_set_timeout(listener->delay_aio, NNG_DURATION_INFINITE);
    atomic_init(&listener->accept_failures, 0);
    listener->handlers = *handlers;
    listener->owner = owner;
    listener->path_claim = -1;
    listener->magic = LISTENER_MAGIC;
    *out = listener;
    return WEIR_OK;
no_handshakes:
    nng_aio_free(listener->delay_aio);
no_delay_aio:
    nng_aio_free(listener->accept_aio);
no_accept_aio:
    pthread_mutex_destroy(&listener->lock);
no_lock:
    free(listener);
    return WEIR_NO_MEMORY;
}

static void listener_free(struct sp_listener *listener)
{
    sp_handshakes_destroy(&listener->handshakes);
    nng_aio_free(listener->delay_aio);
    nng_aio_free(listener->accept_aio);
    if (listener->stream_listener)
        nng_stream_listener_free(listener->stream_listener);
    /* Last: the path is ours until nng has removed its socket file. */
    if (listener->path_claim >= 0)
        sp_path_release(listener->path_claim);
    pthread_mutex_destroy(&listener->lock);
    free(listener->url);
    listener->magic = 0;
    free(listener);
}

/* "tcp://[::1]:0" as "tcp://[::1]:41234". */
static char *url_with_port(const char *url, int port)
{
    size_t host_size = strlen(url);
    const char *colon = strrchr(url, ':');
    if (colon && strspn(colon + 1, "0123456789") == strlen(colon + 1))
        host_size = (size_t)(colon - url);
    char *out = NULL;
    if (asprintf(&out, "%.*s:%d", (int)host_size, url, port) < 0)
        return NULL;
    return out;
}

static int options_set(struct sp_listener *listener, const struct sp_listen_options *options)
{
    if (listener->transport == SP_IPC)
        return options->ipc_mode == 0 ? 0
                                      : nng_stream_listener_set_int(listener->stream_listener, NNG_OPT_IPC_PERMISSIONS,
                                                                    (int)options->ipc_mode);
    int code = nng_stream_listener_set_bool(listener->stream_listener, NNG_OPT_TCP_NODELAY, true);
    /* Push and sub peers send us nothing to notice their death by; the kernel's probes do, in hours. */
    return code ? code : nng_stream_listener_set_bool(listener->stream_listener, NNG_OPT_TCP_KEEPALIVE, true);
}

static int listener_open(struct sp_listener *listener, const char *url, const struct sp_listen_options *options)
{
    int code = nng_stream_listener_alloc(&listener->stream_listener, url);
    if (code)
        return code;
    code = options_set(listener, options);
    if (code)
        return code;
    code = nng_stream_listener_listen(listener->stream_listener);
    if (code)
        return code;
    int port = 0;
    if (listener->transport == SP_TCP) {
        code = nng_stream_listener_get_int(listener->stream_listener, NNG_OPT_TCP_BOUND_PORT, &port);
        if (code)
            return code;
    }
    listener->url = listener->transport == SP_TCP ? url_with_port(url, port) : strdup(url);
    return listener->url ? 0 : NNG_ENOMEM;
}

enum weir_error sp_listen(const char *url, const struct sp_listen_options *options,
                          const struct sp_listener_handlers *handlers, void *owner, struct sp_listener **out,
                          const char **reason)
{
    REQUIRE(handlers->on_accept && handlers->on_ready && handlers->on_refused);
    enum sp_transport transport;
    enum weir_error error = sp_url_transport(url, &transport, reason);
    if (error)
        return error;
    struct sp_listener *listener = NULL;
    *reason = weir_error_text(WEIR_NO_MEMORY);
    error = listener_alloc(options, handlers, owner, &listener);
    if (error)
        return error;
    listener->transport = transport;
    if (transport == SP_IPC)
        error = sp_path_claim(strstr(url, "://") + strlen("://"), &listener->path_claim, reason);
    if (error) {
        listener->path_claim = -1;
        goto failed;
    }
    int code = listener_open(listener, url, options);
    if (code) {
        error = sp_code_error(code);
        *reason = sp_code_reason(code);
        goto failed;
    }
    accept_begin(listener);
    *reason = NULL;
    *out = listener;
    return WEIR_OK;
failed:
    listener_free(listener);
    return error;
}

const char *sp_listener_url(const struct sp_listener *listener) { return listener->url; }

uint64_t sp_listener_accept_failures(const struct sp_listener *listener)
{
    return atomic_load_explicit(&listener->accept_failures, memory_order_relaxed);
}

void sp_listener_stop(struct sp_listener *listener)
{
    MAGIC_CHECK(listener, LISTENER_MAGIC);
    pthread_mutex_lock(&listener->lock);
    listener->is_stopping = true;
    pthread_mutex_unlock(&listener->lock);
    nng_stream_listener_close(listener->stream_listener);
    nng_aio_stop(listener->accept_aio);
    nng_aio_stop(listener->delay_aio);
    /* After the accept callback, which starts handshakes. */
    sp_handshakes_stop(listener->handshakes);
}

void sp_listener_destroy(struct sp_listener **listener_pointer)
{
    struct sp_listener *listener = *listener_pointer;
    if (!listener)
        return;
    sp_listener_stop(listener);
    *listener_pointer = NULL;
    listener_free(listener);
}
