/* Dialing: connection and handshake before one deadline, blocking. Called by clients on a thread of their own, never
 * from a handler. */
#include "clients/sp/pipe.h"

#include "clients/sp/stream.h"

#include "actors/base/assert.h"
#include "actors/base/clock.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A local listener whose queue of connections is full answers "again" at once; it empties in microseconds. */
#define DIAL_AGAIN_MS 5
/* More of one host are not tried. */
#define ADDRESSES_MAX 16

/* ------------------------------------------------------------------------------------------- resolving */

/* One host being looked up, which the C library does for as long as it likes: on a thread of its own, which the dialer
 * leaves behind at its deadline. Whoever is last frees it. */
struct lookup {
    pthread_mutex_t lock; /* guards all below host */
    pthread_cond_t changed;
    struct sp_url url; /* without its path */
    bool is_done, is_abandoned;
    int code; /* of getaddrinfo */
    struct addrinfo *found;
};

static void lookup_free(struct lookup *lookup)
{
    if (lookup->found != NULL)
        freeaddrinfo(lookup->found);
    pthread_cond_destroy(&lookup->changed);
    pthread_mutex_destroy(&lookup->lock);
    free(lookup);
}

static int host_find(const struct sp_url *url, int flags, struct addrinfo **out)
{
    const struct addrinfo hints = {
        .ai_family = url->family, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};
    return getaddrinfo(url->host[0] != '\0' ? url->host : NULL, url->port, &hints, out);
}

static void *lookup_main(void *argument)
{
    struct lookup *lookup = argument;
    struct addrinfo *found = NULL;
    int code = host_find(&lookup->url, 0, &found);
    pthread_mutex_lock(&lookup->lock);
    lookup->code = code;
    lookup->found = found;
    lookup->is_done = true;
    bool is_last = lookup->is_abandoned;
    pthread_cond_signal(&lookup->changed);
    pthread_mutex_unlock(&lookup->lock);
    if (is_last)
        lookup_free(lookup);
    return NULL;
}

static struct lookup *lookup_create(const struct sp_url *url)
{
    struct lookup *lookup = calloc(1, sizeof *lookup);
    if (lookup == NULL)
        return NULL;
    pthread_condattr_t monotonic;
    pthread_mutex_init(&lookup->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&lookup->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    lookup->url = *url;
    /* Signals are for the user's threads. */
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int failed = pthread_create(&thread, NULL, lookup_main, lookup);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        lookup_free(lookup);
        return NULL;
    }
    pthread_detach(thread);
    return lookup;
}

static enum weir_error lookup_error(int code, const char **reason)
{
    if (code == 0)
        return WEIR_OK;
    *reason = code == EAI_MEMORY ? weir_error_text(WEIR_NO_MEMORY) : "the host of the URL has no address";
    return code == EAI_MEMORY ? WEIR_NO_MEMORY : code == EAI_AGAIN ? WEIR_CONNECT : WEIR_BAD_REQUEST;
}

static enum weir_error lookup_wait(const struct sp_url *url, uint64_t deadline_ns, struct addrinfo **out,
                                   const char **reason)
{
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / NS_PER_S), .tv_nsec = (long)(deadline_ns % NS_PER_S)};
    struct lookup *lookup = lookup_create(url);
    int late = 0;
    *reason = weir_error_text(WEIR_NO_MEMORY);
    if (lookup == NULL)
        return WEIR_NO_MEMORY;
    pthread_mutex_lock(&lookup->lock);
    while (!lookup->is_done && late != ETIMEDOUT)
        late = pthread_cond_timedwait(&lookup->changed, &lookup->lock, &until);
    bool is_done = lookup->is_done;
    lookup->is_abandoned = !is_done;
    pthread_mutex_unlock(&lookup->lock);
    *reason = "the name of the host was not found out in time";
    if (!is_done)
        return WEIR_TIMEOUT;
    enum weir_error error = lookup_error(lookup->code, reason);
    *out = lookup->found;
    lookup->found = NULL;
    lookup_free(lookup);
    return error;
}

/* Where to try, in that order. Numbers need no looking up, nor a thread. */
static enum weir_error addresses_find(const struct sp_url *url, uint64_t deadline_ns,
                                      struct sp_address out[ADDRESSES_MAX], unsigned *count, const char **reason)
{
    struct addrinfo *found = NULL;
    *count = 1;
    if (url->transport == SP_IPC) {
        sp_path_address(url->path, &out[0]);
        return WEIR_OK;
    }
    enum weir_error error = WEIR_OK;
    if (host_find(url, AI_NUMERICHOST, &found) != 0)
        error = lookup_wait(url, deadline_ns, &found, reason);
    if (error)
        return error;
    *count = 0;
    for (const struct addrinfo *at = found; at != NULL && *count < ADDRESSES_MAX; at = at->ai_next) {
        memcpy(&out[*count].bytes, at->ai_addr, at->ai_addrlen);
        out[(*count)++].size = at->ai_addrlen;
    }
    freeaddrinfo(found);
    return WEIR_OK;
}

/* ------------------------------------------------------------------------------------------ connecting */

/* 0 once one of the events is there, else a code of errno. */
static int socket_await(int descriptor, short events, uint64_t deadline_ns)
{
    for (;;) {
        struct pollfd source = {.fd = descriptor, .events = events};
        int left_ms = sp_time_left_ms(deadline_ns);
        if (left_ms == 0)
            return ETIMEDOUT;
        int ready = poll(&source, 1, left_ms);
        if (ready > 0)
            return 0;
        if (ready < 0 && errno != EINTR)
            return errno;
    }
}

/* An attempt on a socket that does not block: 0, or a code of errno. */
static int socket_connect(int descriptor, const struct sp_address *address, uint64_t deadline_ns)
{
    int code = 0;
    socklen_t size = sizeof code;
    if (connect(descriptor, (const struct sockaddr *)&address->bytes, address->size) == 0)
        return 0;
    if (errno != EINPROGRESS && errno != EINTR)
        return errno;
    int late = socket_await(descriptor, POLLOUT, deadline_ns);
    if (late)
        return late;
    return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size) == 0 ? code : errno;
}

/* A connected socket, or -1 and the code of errno. */
static int address_dial(const struct sp_address *address, uint64_t deadline_ns, int *code)
{
    for (;;) {
        int descriptor = socket(address->bytes.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (descriptor < 0) {
            *code = errno;
            return -1;
        }
        *code = socket_connect(descriptor, address, deadline_ns);
        if (*code == 0)
            return descriptor;
        close(descriptor);
        if (*code != EAGAIN)
            return -1;
        if (sp_time_left_ms(deadline_ns) == 0) {
            *code = ETIMEDOUT;
            return -1;
        }
        (void)poll(NULL, 0, DIAL_AGAIN_MS); /* there is nothing to wait on */
    }
}

/* Tries one after the other: "localhost" may be ::1 first where the broker listens on 127.0.0.1. */
static int addresses_dial(const struct sp_address *addresses, unsigned count, uint64_t deadline_ns, int *code)
{
    int descriptor = -1;
    *code = EHOSTUNREACH;
    for (unsigned i = 0; i < count && descriptor < 0 && *code != ETIMEDOUT; i++)
        descriptor = address_dial(&addresses[i], deadline_ns, code);
    return descriptor;
}

/* ------------------------------------------------------------------------------------------- handshake */

/* Moves exactly one header, in as many operations as it takes: 0, -1 when the listener hung up, or a code of errno. */
static int header_move(int descriptor, uint8_t header[SP_HEADER_SIZE], bool is_sending, uint64_t deadline_ns)
{
    for (size_t done = 0; done < SP_HEADER_SIZE;) {
        size_t left = SP_HEADER_SIZE - done;
        ssize_t moved = is_sending ? send(descriptor, header + done, left, MSG_NOSIGNAL | MSG_DONTWAIT)
                                   : recv(descriptor, header + done, left, MSG_DONTWAIT);
        if (moved > 0) {
            done += (size_t)moved;
            continue;
        }
        if (moved == 0)
            return -1;
        if (errno != EAGAIN && errno != EINTR)
            return errno == EPIPE || errno == ECONNRESET ? -1 : errno;
        int late = socket_await(descriptor, is_sending ? POLLOUT : POLLIN, deadline_ns);
        if (late)
            return late;
    }
    return 0;
}

static enum weir_error headers_exchange(int descriptor, enum sp_protocol own, enum sp_protocol peer,
                                        uint64_t deadline_ns, const char **reason)
{
    uint8_t header[SP_HEADER_SIZE];
    uint16_t answer = 0;
    sp_header_write(header, own);
    int code = header_move(descriptor, header, true, deadline_ns);
    if (code == 0)
        code = header_move(descriptor, header, false, deadline_ns);
    if (code != 0) {
        *reason = code < 0 ? "the listener refused the connection" : sp_errno_reason(code);
        return code < 0 ? WEIR_CLOSED : sp_errno_error(code);
    }
    if (sp_header_read(header, &answer)) {
        *reason = "what listens there does not speak SP";
        return WEIR_PROTOCOL;
    }
    if (answer != peer) {
        *reason = "what listens there is another kind of SP socket";
        return WEIR_PROTOCOL;
    }
    return WEIR_OK;
}

static enum weir_error pipe_shake(int descriptor, enum sp_transport transport, enum sp_protocol own,
                                  enum sp_protocol peer, uint64_t deadline_ns, struct sp_pipe **out,
                                  const char **reason)
{
    struct sp_peer description;
    enum weir_error error = sp_peer_describe(descriptor, transport, &description);
    *reason = "the listener hung up";
    if (!error)
        error = headers_exchange(descriptor, own, peer, deadline_ns, reason);
    if (error)
        return error;
    *reason = weir_error_text(WEIR_NO_MEMORY);
    return sp_pipe_create(descriptor, &description, peer, out);
}

enum weir_error sp_dial(const char *url, enum sp_protocol own, enum sp_protocol peer, uint64_t timeout_ms,
                        struct sp_pipe **out, const char **reason)
{
    uint64_t bounded_ms = timeout_ms < INT32_MAX ? timeout_ms : INT32_MAX;
    uint64_t deadline_ns = clock_now_ns() + bounded_ms * NS_PER_MS;
    struct sp_url parsed;
    struct sp_address addresses[ADDRESSES_MAX];
    unsigned count = 0;
    enum weir_error error = sp_url_parse(url, &parsed, reason);
    if (!error)
        error = addresses_find(&parsed, deadline_ns, addresses, &count, reason);
    if (error)
        return error;
    int code = 0, descriptor = addresses_dial(addresses, count, deadline_ns, &code);
    if (descriptor < 0) {
        *reason = sp_errno_reason(code);
        error = sp_errno_error(code);
        /* ECONNRESET and the like before there is a connection mean that there is none. */
        return error == WEIR_CLOSED || error == WEIR_NOT_FOUND ? WEIR_CONNECT : error;
    }
    sp_socket_tune(descriptor, parsed.transport);
    error = pipe_shake(descriptor, parsed.transport, own, peer, deadline_ns, out, reason);
    if (error)
        close(descriptor);
    else
        *reason = NULL;
    return error;
}
