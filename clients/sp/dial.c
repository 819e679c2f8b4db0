/* Dialing: connection and handshake before one deadline, blocking. Called by clients on a thread of their own, never
 * from a handler. */
#include "clients/sp/pipe.h"

#include "clients/sp/stream.h"

#include "actors/base/assert.h"
#include "actors/base/clock.h"

#include <nng/supplemental/util/platform.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A local listener whose queue of connections is full answers "again" at once; it empties in microseconds. */
#define DIAL_AGAIN_MS 5
#define URL_SIZE_MAX 512

/* One attempt to connect. nng 1.5.2 may abort the process when a dial is cancelled and its dialer freed while it still
 * resolves or connects; so none is ever cancelled. One that outlasts its caller's deadline is left to end by itself
 * (the kernel gives up a connect after some two minutes), and what is left of it goes with a later sp_dial. */
struct attempt {
    struct attempt *next; /* abandoned ones; under attempts_lock */
    nng_stream_dialer *dialer;
    nng_aio *aio;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_done; /* nng's thread sets it, under lock, and does not touch the attempt any more */
};

static pthread_mutex_t attempts_lock = PTHREAD_MUTEX_INITIALIZER;
static struct attempt *attempts_abandoned;

static void attempt_free(struct attempt *attempt)
{
    if (attempt->aio != NULL)
        nng_aio_free(attempt->aio); /* waits for the callback */
    if (attempt->dialer != NULL)
        nng_stream_dialer_free(attempt->dialer);
    pthread_cond_destroy(&attempt->changed);
    pthread_mutex_destroy(&attempt->lock);
    free(attempt);
}

static void on_attempt(void *argument)
{
    struct attempt *attempt = argument;
    pthread_mutex_lock(&attempt->lock);
    attempt->is_done = true;
    pthread_cond_signal(&attempt->changed);
    pthread_mutex_unlock(&attempt->lock);
}

static int attempt_create(const char *url, enum sp_transport transport, struct attempt **out)
{
    struct attempt *attempt = calloc(1, sizeof *attempt);
    if (attempt == NULL)
        return NNG_ENOMEM;
    pthread_condattr_t monotonic;
    pthread_mutex_init(&attempt->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&attempt->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int code = nng_stream_dialer_alloc(&attempt->dialer, url);
    if (!code && transport == SP_TCP)
        code = nng_stream_dialer_set_bool(attempt->dialer, NNG_OPT_TCP_NODELAY, true);
    if (!code)
        code = nng_aio_alloc(&attempt->aio, on_attempt, attempt);
    if (code)
        attempt_free(attempt);
    else
        *out = attempt;
    return code;
}

static bool attempt_wait(struct attempt *attempt, uint64_t deadline_ns)
{
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / NS_PER_S), .tv_nsec = (long)(deadline_ns % NS_PER_S)};
    int code = 0;
    pthread_mutex_lock(&attempt->lock);
    while (!attempt->is_done && code != ETIMEDOUT)
        code = pthread_cond_timedwait(&attempt->changed, &attempt->lock, &until);
    bool is_done = attempt->is_done;
    pthread_mutex_unlock(&attempt->lock);
    return is_done;
}

/* Frees the abandoned attempts that have ended meanwhile. */
static void attempts_sweep(void)
{
    struct attempt *ended = NULL;
    pthread_mutex_lock(&attempts_lock);
    for (struct attempt **at = &attempts_abandoned; *at != NULL;) {
        struct attempt *attempt = *at;
        if (!attempt_wait(attempt, 0)) {
            at = &attempt->next;
            continue;
        }
        *at = attempt->next;
        attempt->next = ended;
        ended = attempt;
    }
    pthread_mutex_unlock(&attempts_lock);
    while (ended != NULL) {
        struct attempt *attempt = ended;
        ended = attempt->next;
        nng_stream *stream = nng_aio_result(attempt->aio) == 0 ? nng_aio_get_output(attempt->aio, 0) : NULL;
        attempt_free(attempt);
        if (stream != NULL)
            sp_stream_drop(stream);
    }
}

/* One blocking attempt: nng's code. */
static int stream_dial_once(const char *url, enum sp_transport transport, uint64_t deadline_ns, nng_stream **out)
{
    struct attempt *attempt = NULL;
    int code = attempt_create(url, transport, &attempt);
    if (code)
        return code;
    nng_aio_set_timeout(attempt->aio, NNG_DURATION_INFINITE);
    nng_stream_dialer_dial(attempt->dialer, attempt->aio);
    if (!attempt_wait(attempt, deadline_ns)) {
        pthread_mutex_lock(&attempts_lock);
        attempt->next = attempts_abandoned;
        attempts_abandoned = attempt;
        pthread_mutex_unlock(&attempts_lock);
        return NNG_ETIMEDOUT;
    }
    code = nng_aio_result(attempt->aio);
    if (!code)
        *out = nng_aio_get_output(attempt->aio, 0);
    attempt_free(attempt);
    return code;
}

static int stream_dial(const char *url, enum sp_transport transport, uint64_t deadline_ns, nng_stream **out)
{
    for (;;) {
        if (sp_time_left_ms(deadline_ns) == 0)
            return NNG_ETIMEDOUT;
        int code = stream_dial_once(url, transport, deadline_ns, out);
        if (code != NNG_EAGAIN)
            return code;
        nng_msleep(DIAL_AGAIN_MS);
    }
}

/* nng tries only the first address of a name, and for "localhost" that may be ::1 where the broker listens on
 * 127.0.0.1. So a name that refuses is tried once for each family. */
static int stream_dial_families(const char *url, enum sp_transport transport, uint64_t deadline_ns, nng_stream **out)
{
    static const char *const schemes[] = {"tcp4", "tcp6"};
    int code = stream_dial(url, transport, deadline_ns, out);
    const char *rest = url + strlen("tcp");
    bool is_plain = strncmp(url, "tcp://", strlen("tcp://")) == 0;
    bool is_literal = is_plain && (rest[3] == '[' || strspn(rest + 3, "0123456789.:") == strlen(rest + 3));
    if (!is_plain || is_literal)
        return code;
    for (size_t i = 0; i < COUNT_OF(schemes) && (code == NNG_ECONNREFUSED || code == NNG_EUNREACHABLE); i++) {
        char other[URL_SIZE_MAX];
        int size = snprintf(other, sizeof other, "%s%s", schemes[i], rest);
        if (size < 0 || (size_t)size >= sizeof other)
            return code;
        int again = stream_dial(other, transport, deadline_ns, out);
        /* A family that the name does not have says nothing new. */
        if (again == 0 || again == NNG_ETIMEDOUT)
            return again;
    }
    return code;
}

/* Moves exactly one header, in as many operations as it takes. */
static int header_move(nng_stream *stream, nng_aio *aio, uint8_t header[SP_HEADER_SIZE], bool is_sending,
                       uint64_t deadline_ns)
{
    size_t done = 0;
    while (done < SP_HEADER_SIZE) {
        nng_duration left_ms = sp_time_left_ms(deadline_ns);
        if (left_ms == 0)
            return NNG_ETIMEDOUT;
        nng_iov part = {.iov_buf = header + done, .iov_len = SP_HEADER_SIZE - done};
        int failed = nng_aio_set_iov(aio, 1, &part);
        ENSURE(failed == 0);
        nng_aio_set_timeout(aio, left_ms);
        if (is_sending)
            nng_stream_send(stream, aio);
        else
            nng_stream_recv(stream, aio);
        nng_aio_wait(aio);
        int code = nng_aio_result(aio);
        if (code)
            return code;
        done += nng_aio_count(aio);
    }
    return 0;
}

static enum weir_error headers_exchange(nng_stream *stream, nng_aio *aio, enum sp_protocol own, enum sp_protocol peer,
                                        uint64_t deadline_ns, const char **reason)
{
    uint8_t header[SP_HEADER_SIZE];
    uint16_t answer = 0;
    sp_header_write(header, own);
    int code = header_move(stream, aio, header, true, deadline_ns);
    if (!code)
        code = header_move(stream, aio, header, false, deadline_ns);
    if (code) {
        *reason = code == NNG_ECONNSHUT ? "the listener refused the connection" : sp_code_reason(code);
        return sp_code_error(code);
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

/* Its aio is freed before anybody frees the stream: nng's expiry thread may be inside an aio that has ended, and only
 * nng_aio_free waits for it. */
static enum weir_error stream_shake(nng_stream *stream, enum sp_protocol own, enum sp_protocol peer,
                                    uint64_t deadline_ns, const char **reason)
{
    nng_aio *aio = NULL;
    int code = nng_aio_alloc(&aio, NULL, NULL);
    if (code) {
        *reason = sp_code_reason(code);
        return sp_code_error(code);
    }
    enum weir_error error = headers_exchange(stream, aio, own, peer, deadline_ns, reason);
    nng_aio_free(aio);
    return error;
}

static enum weir_error pipe_dial(const char *url, enum sp_transport transport, enum sp_protocol own,
                                 enum sp_protocol peer, uint64_t deadline_ns, struct sp_pipe **out, const char **reason)
{
    nng_stream *stream = NULL;
    int code = stream_dial_families(url, transport, deadline_ns, &stream);
    if (code) {
        enum weir_error error = sp_code_error(code);
        *reason = sp_code_reason(code);
        /* ECONNRESET and the like before there is a connection mean that there is none. */
        return error == WEIR_CLOSED || error == WEIR_NOT_FOUND ? WEIR_CONNECT : error;
    }
    struct sp_peer description;
    enum weir_error error = sp_peer_describe(stream, transport, &description);
    *reason = "the listener hung up";
    if (!error)
        error = stream_shake(stream, own, peer, deadline_ns, reason);
    if (!error) {
        *reason = weir_error_text(WEIR_NO_MEMORY);
        error = sp_pipe_create(stream, &description, peer, out);
    }
    if (error)
        sp_stream_drop(stream);
    return error;
}

enum weir_error sp_dial(const char *url, enum sp_protocol own, enum sp_protocol peer, uint64_t timeout_ms,
                        struct sp_pipe **out, const char **reason)
{
    uint64_t bounded_ms = timeout_ms < INT32_MAX ? timeout_ms : INT32_MAX;
    uint64_t deadline_ns = clock_now_ns() + bounded_ms * NS_PER_MS;
    enum sp_transport transport;
    enum weir_error error = sp_url_transport(url, &transport, reason);
    if (error)
        return error;
    attempts_sweep();
    error = pipe_dial(url, transport, own, peer, deadline_ns, out, reason);
    if (!error)
        *reason = NULL;
    return error;
}
