/* One connection: receive, send and close over an nng stream. Called by the connection's owner from any thread; nng's
 * threads run the two callbacks at the end of an operation.
 *
 * Two facts about nng 1.5.2 shape this file. A stream that is closed still accepts a new operation, which then never
 * ends: so an operation is submitted under its lane's lock, and closing passes through both locks first. And an aio may
 * not be freed from its own callback: so the last hold only calls on_closed, and destroy, on the owner's thread, frees.
 *
 * Holds: one while the pipe is open, given up by the first close; one for each operation under way, given up when its
 * handler has returned. Whoever gives up the last one sees to on_closed. */
#include "clients/sp/pipe.h"

#include "clients/sp/stream.h"

#include "actors/base/assert.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define PIPE_MAGIC 0x50495045u

/* One direction. Everything but aio (constant) is written under lock; what its operation uses belongs to the operation
 * while is_busy. */
struct lane {
    pthread_mutex_t lock;
    nng_aio *aio;
    bool is_busy;
    bool is_closing; /* written under both lanes' locks, read under either */
    unsigned count;
    nng_iov parts[SP_IOV_MAX];
};

struct sp_pipe {
    uint32_t magic;
    uint16_t peer_protocol;
    bool is_ipc;
    bool is_started;
    bool has_hung_up; /* belongs to the receive lane: a receive was told of the end once */
    bool is_over;     /* written with the last hold gone, read by the callback that this starts */
    /* Gives up: release, so that the last one (acquire) sees all that the others did. */
    atomic_uint holds;
    nng_stream *stream;
    struct lane receiving;
    struct lane sending;
    struct sp_pipe_handlers handlers; /* constant after start */
    void *owner;
    struct sp_peer peer;
};

static void pipe_received(void *argument);
static void pipe_sent(void *argument);

static enum weir_error lane_init(struct lane *lane, void (*on_end)(void *), struct sp_pipe *pipe)
{
    if (nng_aio_alloc(&lane->aio, on_end, pipe) != 0)
        return WEIR_NO_MEMORY;
    nng_aio_set_timeout(lane->aio, NNG_DURATION_INFINITE);
    if (pthread_mutex_init(&lane->lock, NULL) == 0)
        return WEIR_OK;
    nng_aio_free(lane->aio);
    return WEIR_NO_MEMORY;
}

static void lane_fini(struct lane *lane)
{
    nng_aio_stop(lane->aio);
    nng_aio_free(lane->aio);
    pthread_mutex_destroy(&lane->lock);
}

static void lane_lock(struct lane *lane)
{
    int failed = pthread_mutex_lock(&lane->lock);
    ENSURE(failed == 0);
}

static void lane_unlock(struct lane *lane)
{
    int failed = pthread_mutex_unlock(&lane->lock);
    ENSURE(failed == 0);
}

enum weir_error sp_pipe_create(nng_stream *stream, const struct sp_peer *peer, uint16_t peer_protocol,
                               struct sp_pipe **out)
{
    struct sp_pipe *pipe = calloc(1, sizeof *pipe);
    if (!pipe)
        return WEIR_NO_MEMORY;
    enum weir_error error = lane_init(&pipe->receiving, pipe_received, pipe);
    if (error)
        goto no_receiving;
    error = lane_init(&pipe->sending, pipe_sent, pipe);
    if (error)
        goto no_sending;
    pipe->magic = PIPE_MAGIC;
    pipe->peer_protocol = peer_protocol;
    pipe->is_ipc = peer->is_ipc;
    pipe->stream = stream;
    pipe->peer = *peer;
    atomic_init(&pipe->holds, 1);
    *out = pipe;
    return WEIR_OK;
no_sending:
    lane_fini(&pipe->receiving);
no_receiving:
    free(pipe);
    return error;
}

void sp_pipe_start(struct sp_pipe *pipe, const struct sp_pipe_handlers *handlers, void *owner)
{
    MAGIC_CHECK(pipe, PIPE_MAGIC);
    REQUIRE(!pipe->is_started);
    REQUIRE(handlers->on_received && handlers->on_sent && handlers->on_closed);
    pipe->handlers = *handlers;
    pipe->owner = owner;
    pipe->is_started = true;
}

void sp_pipe_destroy(struct sp_pipe **pipe_pointer)
{
    struct sp_pipe *pipe = *pipe_pointer;
    if (!pipe)
        return;
    MAGIC_CHECK(pipe, PIPE_MAGIC);
    REQUIRE(!pipe->is_started || atomic_load_explicit(&pipe->holds, memory_order_acquire) == 0);
    *pipe_pointer = NULL;
    /* Waits for the callback that on_closed came from to return; nothing else can be under way. */
    lane_fini(&pipe->receiving);
    lane_fini(&pipe->sending);
    sp_stream_drop(pipe->stream);
    pipe->magic = 0;
    free(pipe);
}

uint16_t sp_pipe_peer_protocol(const struct sp_pipe *pipe) { return pipe->peer_protocol; }
bool sp_pipe_is_ipc(const struct sp_pipe *pipe) { return pipe->is_ipc; }
const char *sp_pipe_peer(const struct sp_pipe *pipe) { return pipe->peer.text; }
const char *sp_pipe_address(const struct sp_pipe *pipe) { return pipe->peer.address; }

/* The end of an operation, on nng's thread. The pipe may be gone afterwards. */
static void hold_drop_in_callback(struct sp_pipe *pipe)
{
    if (atomic_fetch_sub_explicit(&pipe->holds, 1, memory_order_acq_rel) == 1)
        pipe->handlers.on_closed(pipe->owner);
}

/* The same from a close. Handlers never run inside a call of the owner's, so when nothing was under way the receive
 * aio, idle for ever, carries on_closed to one of nng's threads. */
static void hold_drop_in_close(struct sp_pipe *pipe)
{
    if (atomic_fetch_sub_explicit(&pipe->holds, 1, memory_order_acq_rel) != 1)
        return;
    nng_aio *aio = pipe->receiving.aio;
    pipe->is_over = true;
    bool has_begun = nng_aio_begin(aio);
    ENSURE(has_begun);
    nng_aio_finish(aio, 0);
}

void sp_pipe_close(struct sp_pipe *pipe)
{
    MAGIC_CHECK(pipe, PIPE_MAGIC);
    REQUIRE(pipe->is_started);
    lane_lock(&pipe->receiving);
    lane_lock(&pipe->sending);
    bool is_first = !pipe->receiving.is_closing;
    pipe->receiving.is_closing = true;
    pipe->sending.is_closing = true;
    lane_unlock(&pipe->sending);
    lane_unlock(&pipe->receiving);
    if (!is_first)
        return;
    /* No submission is half done and none will follow, so this ends all there is. */
    nng_stream_close(pipe->stream);
    hold_drop_in_close(pipe);
}

/* Gives the lane's parts to nng. Under the lane's lock, lane not closing. */
static void lane_submit(struct sp_pipe *pipe, struct lane *lane)
{
    int failed = nng_aio_set_iov(lane->aio, lane->count, lane->parts);
    ENSURE(failed == 0);
    if (lane == &pipe->receiving)
        nng_stream_recv(pipe->stream, lane->aio);
    else
        nng_stream_send(pipe->stream, lane->aio);
}

/* Starts an operation on parts already set; false when the pipe is closing. Under the lane's lock. */
static bool lane_begin(struct lane *lane)
{
    REQUIRE(!lane->is_busy);
    if (lane->is_closing)
        return false;
    lane->is_busy = true;
    return true;
}

/* Goes on with an operation that is not done; false when the pipe is closing. */
static bool lane_continue(struct sp_pipe *pipe, struct lane *lane)
{
    lane_lock(lane);
    bool is_open = !lane->is_closing;
    if (is_open)
        lane_submit(pipe, lane);
    lane_unlock(lane);
    return is_open;
}

static void lane_end(struct lane *lane)
{
    lane_lock(lane);
    lane->is_busy = false;
    lane_unlock(lane);
}

void sp_pipe_receive(struct sp_pipe *pipe, void *buffer, size_t size)
{
    MAGIC_CHECK(pipe, PIPE_MAGIC);
    REQUIRE(pipe->is_started && size > 0);
    struct lane *lane = &pipe->receiving;
    lane_lock(lane);
    if (lane_begin(lane)) {
        /* Relaxed: the open hold, which closing cannot have given up yet, keeps the count above 0. */
        atomic_fetch_add_explicit(&pipe->holds, 1, memory_order_relaxed);
        lane->parts[0] = (nng_iov){.iov_buf = buffer, .iov_len = size};
        lane->count = 1;
        lane_submit(pipe, lane);
    }
    lane_unlock(lane);
}

/* When the poller sees an error on the socket (a reset, or a local peer that closed with bytes unread), nng ends the
 * receive with "shut" although what the peer sent before may still lie in the kernel. Reading again gets it, and says
 * "shut" at once when there is none. */
static bool is_first_hangup(struct sp_pipe *pipe, int code)
{
    if (code != NNG_ECONNSHUT || pipe->has_hung_up)
        return false;
    pipe->has_hung_up = true;
    return true;
}

static void pipe_received(void *argument)
{
    struct sp_pipe *pipe = argument;
    MAGIC_CHECK(pipe, PIPE_MAGIC);
    if (pipe->is_over) {
        pipe->handlers.on_closed(pipe->owner);
        return;
    }
    struct lane *lane = &pipe->receiving;
    int code = nng_aio_result(lane->aio);
    size_t size = code == 0 ? nng_aio_count(lane->aio) : 0;
    if (is_first_hangup(pipe, code) && lane_continue(pipe, lane))
        return;
    lane_end(lane);
    if (code != 0)
        sp_pipe_close(pipe);
    pipe->handlers.on_received(pipe->owner, size, sp_code_error(code));
    hold_drop_in_callback(pipe);
}

/* Takes the first size bytes off parts; returns how many parts are left. */
static unsigned parts_advance(nng_iov *parts, unsigned count, size_t size)
{
    unsigned first = 0;
    while (first < count && size >= parts[first].iov_len) {
        size -= parts[first].iov_len;
        first++;
    }
    for (unsigned i = first; i < count; i++)
        parts[i - first] = parts[i];
    if (first < count) {
        parts[0].iov_buf = (char *)parts[0].iov_buf + size;
        parts[0].iov_len -= size;
    }
    return count - first;
}

static void parts_copy(nng_iov *out, const struct iovec *parts, unsigned count)
{
    REQUIRE(count >= 1 && count <= SP_IOV_MAX);
    for (unsigned i = 0; i < count; i++)
        out[i] = (nng_iov){.iov_buf = parts[i].iov_base, .iov_len = parts[i].iov_len};
}

void sp_pipe_send(struct sp_pipe *pipe, const struct iovec *parts, unsigned count)
{
    MAGIC_CHECK(pipe, PIPE_MAGIC);
    REQUIRE(pipe->is_started);
    struct lane *lane = &pipe->sending;
    lane_lock(lane);
    if (lane_begin(lane)) {
        /* Relaxed: as for receive. */
        atomic_fetch_add_explicit(&pipe->holds, 1, memory_order_relaxed);
        parts_copy(lane->parts, parts, count);
        lane->count = count;
        lane_submit(pipe, lane);
    }
    lane_unlock(lane);
}

static void pipe_sent(void *argument)
{
    struct sp_pipe *pipe = argument;
    MAGIC_CHECK(pipe, PIPE_MAGIC);
    struct lane *lane = &pipe->sending;
    int code = nng_aio_result(lane->aio);
    if (code == 0) {
        lane->count = parts_advance(lane->parts, lane->count, nng_aio_count(lane->aio));
        if (lane->count > 0) {
            if (lane_continue(pipe, lane))
                return;
            code = NNG_ECLOSED;
        }
    }
    lane_end(lane);
    if (code != 0)
        sp_pipe_close(pipe);
    pipe->handlers.on_sent(pipe->owner, sp_code_error(code));
    hold_drop_in_callback(pipe);
}

/* An aio without a callback ends in the thread that finishes it, so an operation that can be done at once is done when
 * nng_stream_recv or _send returns, with no switch to nng's task threads. Each thread that asks has one such aio. */
static pthread_key_t now_key;
static pthread_once_t now_once = PTHREAD_ONCE_INIT;
static bool has_now_key; /* written inside pthread_once */

static void now_aio_free(void *aio) { nng_aio_free(aio); }
static void now_key_create(void) { has_now_key = pthread_key_create(&now_key, now_aio_free) == 0; }

/* NULL without memory: the caller answers WEIR_AGAIN, and the ordinary way serves. */
static nng_aio *now_aio(void)
{
    if (pthread_once(&now_once, now_key_create) != 0 || !has_now_key)
        return NULL;
    nng_aio *aio = pthread_getspecific(now_key);
    if (aio)
        return aio;
    if (nng_aio_alloc(&aio, NULL, NULL) != 0)
        return NULL;
    nng_aio_set_timeout(aio, NNG_DURATION_INFINITE);
    if (pthread_setspecific(now_key, aio) == 0)
        return aio;
    nng_aio_free(aio);
    return NULL;
}

/* One attempt under the lane's lock: nng's code, NNG_EAGAIN when it would have to wait. */
static int lane_try(struct sp_pipe *pipe, struct lane *lane, nng_aio *aio, const nng_iov *parts, unsigned count)
{
    int failed = nng_aio_set_iov(aio, count, parts);
    ENSURE(failed == 0);
    if (lane == &pipe->receiving)
        nng_stream_recv(pipe->stream, aio);
    else
        nng_stream_send(pipe->stream, aio);
    nng_aio_cancel(aio);
    nng_aio_wait(aio);
    int code = nng_aio_result(aio);
    return code == NNG_ECANCELED ? NNG_EAGAIN : code;
}

/* What an attempt means to the caller. Not under a lock: it may close the pipe. */
static enum weir_error now_settle(struct sp_pipe *pipe, int code)
{
    if (code == 0)
        return WEIR_OK;
    if (code == NNG_EAGAIN)
        return WEIR_AGAIN;
    sp_pipe_close(pipe);
    return WEIR_CLOSED;
}

enum weir_error sp_pipe_receive_now(struct sp_pipe *pipe, void *buffer, size_t size, size_t *received)
{
    MAGIC_CHECK(pipe, PIPE_MAGIC);
    REQUIRE(pipe->is_started && size > 0);
    nng_aio *aio = now_aio();
    if (!aio)
        return WEIR_AGAIN;
    struct lane *lane = &pipe->receiving;
    nng_iov part = {.iov_buf = buffer, .iov_len = size};
    int code = NNG_ECLOSED;
    lane_lock(lane);
    REQUIRE(!lane->is_busy);
    if (!lane->is_closing) {
        code = lane_try(pipe, lane, aio, &part, 1);
        if (is_first_hangup(pipe, code))
            code = lane_try(pipe, lane, aio, &part, 1);
    }
    lane_unlock(lane);
    if (code == 0)
        *received = nng_aio_count(aio);
    return now_settle(pipe, code);
}

enum weir_error sp_pipe_send_now(struct sp_pipe *pipe, const struct iovec *parts, unsigned count, size_t *sent)
{
    MAGIC_CHECK(pipe, PIPE_MAGIC);
    REQUIRE(pipe->is_started);
    nng_iov left[SP_IOV_MAX];
    parts_copy(left, parts, count);
    *sent = 0;
    nng_aio *aio = now_aio();
    if (!aio)
        return WEIR_AGAIN;
    struct lane *lane = &pipe->sending;
    int code = NNG_ECLOSED;
    lane_lock(lane);
    REQUIRE(!lane->is_busy);
    while (count > 0 && !lane->is_closing) {
        code = lane_try(pipe, lane, aio, left, count);
        if (code != 0)
            break;
        *sent += nng_aio_count(aio);
        count = parts_advance(left, count, nng_aio_count(aio));
    }
    lane_unlock(lane);
    return now_settle(pipe, code);
}
