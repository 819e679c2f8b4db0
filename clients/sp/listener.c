/* A listening address: accepts for ever and hands each connection whose handshake succeeds to the owner as a pipe.
 * Created and stopped by the owner's thread; accepting runs on one poller's.
 *
 * After a failed accept (no descriptors, no memory, whatever it is) the next one waits ACCEPT_RETRY_MS: at once would
 * spin, never would leave a dead listener behind a live process. */
#include "clients/sp/pipe.h"

#include "clients/sp/handshake.h"
#include "clients/sp/path_claim.h"
#include "clients/sp/poller.h"
#include "clients/sp/stream.h"

#include "actors/base/assert.h"
#include "actors/base/clock.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LISTENER_MAGIC 0x4c53544eu
/* Short against the second in which a listener must be back once descriptors are free, long against an accept. */
#define ACCEPT_RETRY_MS 100
#define BACKLOG 1024
/* Accepted before other sockets get their turn. */
#define ACCEPTS_MAX 32

struct sp_listener {
    uint32_t magic;
    enum sp_transport transport;
    int descriptor; /* -1: closed */
    int path_claim; /* -1: none */
    char *path;     /* of the socket file that goes with it; NULL: none */
    char *url;
    struct sp_poller *poller;
    struct sp_source source;
    struct sp_alarm retry;
    struct sp_job stopping;
    bool is_stopped; /* the owner's thread */
    struct sp_handshakes *handshakes;
    struct sp_listener_handlers handlers;
    void *owner;
    atomic_uint_fast64_t accept_failures; /* relaxed: a count for people */
};

/* --------------------------------------------------------------------------- accepting, on the poller */

/* One that is gone already, or unwelcome, is dropped before it costs a slot. */
static void connection_admit(struct sp_listener *listener, int descriptor)
{
    struct sp_peer peer;
    if (sp_peer_describe(descriptor, listener->transport, &peer) ||
        !listener->handlers.on_accept(listener->owner, peer.address)) {
        close(descriptor);
        return;
    }
    sp_socket_tune(descriptor, listener->transport);
    sp_handshakes_start(listener->handshakes, descriptor, &peer);
}

static void on_connections(struct sp_source *source, uint32_t events)
{
    struct sp_listener *listener = CONTAINER_OF(source, struct sp_listener, source);
    MAGIC_CHECK(listener, LISTENER_MAGIC);
    (void)events;
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        int descriptor = accept4(listener->descriptor, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (descriptor >= 0) {
            connection_admit(listener, descriptor);
            continue;
        }
        if (errno == EAGAIN)
            return;
        if (errno == EINTR || errno == ECONNABORTED) /* the latter's peer has left already */
            continue;
        atomic_fetch_add_explicit(&listener->accept_failures, 1, memory_order_relaxed);
        sp_poller_change(listener->poller, listener->descriptor, 0, source);
        sp_alarm_set(listener->poller, &listener->retry, clock_now_ns() + ACCEPT_RETRY_MS * NS_PER_MS);
        return;
    }
}

static void on_retry(struct sp_alarm *alarm)
{
    struct sp_listener *listener = CONTAINER_OF(alarm, struct sp_listener, retry);
    sp_poller_change(listener->poller, listener->descriptor, EPOLLIN, &listener->source);
}

static void stop_here(struct sp_job *job)
{
    struct sp_listener *listener = CONTAINER_OF(job, struct sp_listener, stopping);
    sp_poller_forget(listener->poller, listener->descriptor);
    sp_alarm_clear(listener->poller, &listener->retry);
    close(listener->descriptor);
    listener->descriptor = -1;
    sp_handshakes_stop(listener->handshakes);
}

/* ------------------------------------------------------------------------------------------- listening */

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

/* One that does not listen yet. */
static enum weir_error listener_alloc(const struct sp_listen_options *options,
                                      const struct sp_listener_handlers *handlers, void *owner,
                                      struct sp_listener **out)
{
    const struct sp_handshake_handlers on_handshake = {.on_done = handshake_done, .on_failed = handshake_failed};
    struct sp_listener *listener = calloc(1, sizeof *listener);
    if (!listener)
        return WEIR_NO_MEMORY;
    listener->poller = sp_poller_take();
    if (!listener->poller || sp_handshakes_create(listener->poller, options->handshaking_max, options->handshake_ms,
                                                  &on_handshake, listener, &listener->handshakes)) {
        free(listener);
        return WEIR_NO_MEMORY;
    }
    listener->source.on_events = on_connections;
    listener->retry.run = on_retry;
    listener->stopping.run = stop_here;
    atomic_init(&listener->accept_failures, 0);
    listener->handlers = *handlers;
    listener->owner = owner;
    listener->descriptor = listener->path_claim = -1;
    listener->magic = LISTENER_MAGIC;
    *out = listener;
    return WEIR_OK;
}

static void listener_free(struct sp_listener *listener)
{
    sp_handshakes_destroy(&listener->handshakes);
    if (listener->descriptor >= 0)
        close(listener->descriptor);
    if (listener->path != NULL)
        (void)unlink(listener->path);
    /* Last: the path is ours until its socket file is gone. */
    if (listener->path_claim >= 0)
        sp_path_release(listener->path_claim);
    free(listener->path);
    free(listener->url);
    listener->magic = 0;
    free(listener);
}

/* The first address of the host, and WEIR_BAD_REQUEST with *reason where it has none. */
static enum weir_error host_address(const struct sp_url *url, struct sp_address *out, const char **reason)
{
    const struct addrinfo hints = {
        .ai_family = url->family, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int code = getaddrinfo(url->host[0] != '\0' ? url->host : NULL, url->port, &hints, &found);
    if (code != 0) {
        *reason = "the host of the URL has no address here";
        return code == EAI_MEMORY ? WEIR_NO_MEMORY : WEIR_BAD_REQUEST;
    }
    memcpy(&out->bytes, found->ai_addr, found->ai_addrlen);
    out->size = found->ai_addrlen;
    freeaddrinfo(found);
    return WEIR_OK;
}

/* 0, or a code of errno. */
static int socket_listen(struct sp_listener *listener, const struct sp_address *address, const struct sp_url *url,
                         unsigned ipc_mode)
{
    const int yes = 1;
    int descriptor = socket(address->bytes.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0)
        return errno;
    listener->descriptor = descriptor;
    /* Connections of a listener that ended a moment ago do not keep its port. */
    if (url->transport == SP_TCP && setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0)
        return errno;
    if (bind(descriptor, (const struct sockaddr *)&address->bytes, address->size) != 0)
        return errno;
    if (url->transport == SP_IPC && (listener->path = strdup(url->path)) == NULL)
        return ENOMEM;
    if (url->transport == SP_IPC && ipc_mode != 0 && chmod(url->path, ipc_mode) != 0)
        return errno;
    return listen(descriptor, BACKLOG) == 0 ? 0 : errno;
}

/* "tcp://[::1]:0" as "tcp://[::1]:41234". NULL: no memory. */
static char *url_with_port(const char *url, int descriptor)
{
    struct sockaddr_storage bound = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof bound;
    int failed = getsockname(descriptor, (struct sockaddr *)&bound, &size);
    ENSURE(failed == 0);
    struct sockaddr_in6 any;
    _Static_assert(offsetof(struct sockaddr_in, sin_port) == offsetof(struct sockaddr_in6, sin6_port),
                   "both families have the port in one place");
    memcpy(&any, &bound, sizeof any);
    unsigned port = ntohs(any.sin6_port);
    char *out = NULL;
    int host_size = (int)(strrchr(url, ':') - url);
    return asprintf(&out, "%.*s:%u", host_size, url, port) < 0 ? NULL : out;
}

static enum weir_error listener_open(struct sp_listener *listener, const char *text,
                                     const struct sp_listen_options *options, const char **reason)
{
    struct sp_url url;
    struct sp_address address;
    enum weir_error error = sp_url_parse(text, &url, reason);
    if (error)
        return error;
    listener->transport = url.transport;
    if (url.transport == SP_TCP)
        error = host_address(&url, &address, reason);
    else if ((error = sp_path_claim(url.path, &listener->path_claim, reason)) != WEIR_OK)
        listener->path_claim = -1;
    else
        sp_path_address(url.path, &address);
    if (error)
        return error;
    int code = socket_listen(listener, &address, &url, options->ipc_mode);
    *reason = sp_errno_reason(code);
    if (code != 0)
        return sp_errno_error(code);
    *reason = weir_error_text(WEIR_NO_MEMORY);
    listener->url = url.transport == SP_TCP ? url_with_port(text, listener->descriptor) : strdup(text);
    return listener->url ? WEIR_OK : WEIR_NO_MEMORY;
}

enum weir_error sp_listen(const char *url, const struct sp_listen_options *options,
                          const struct sp_listener_handlers *handlers, void *owner, struct sp_listener **out,
                          const char **reason)
{
    REQUIRE(handlers->on_accept && handlers->on_ready && handlers->on_refused);
    struct sp_listener *listener = NULL;
    *reason = weir_error_text(WEIR_NO_MEMORY);
    enum weir_error error = listener_alloc(options, handlers, owner, &listener);
    if (error)
        return error;
    error = listener_open(listener, url, options, reason);
    if (!error) {
        *reason = weir_error_text(WEIR_NO_MEMORY);
        error = sp_poller_watch(listener->poller, listener->descriptor, EPOLLIN, &listener->source);
    }
    if (error) {
        listener_free(listener);
        return error;
    }
    *reason = NULL;
    *out = listener;
    return WEIR_OK;
}

const char *sp_listener_url(const struct sp_listener *listener) { return listener->url; }

uint64_t sp_listener_accept_failures(const struct sp_listener *listener)
{
    return atomic_load_explicit(&listener->accept_failures, memory_order_relaxed);
}

void sp_listener_stop(struct sp_listener *listener)
{
    MAGIC_CHECK(listener, LISTENER_MAGIC);
    if (listener->is_stopped)
        return;
    listener->is_stopped = true;
    sp_poller_post(listener->poller, &listener->stopping);
    sp_poller_await(listener->poller, &listener->stopping);
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
