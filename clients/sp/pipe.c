/* One connection: receive, send and close on a socket that does not block. Called by the connection's owner from any
 * thread; the handlers are called by its poller's thread, one after the other.
 *
 * Reads and writes happen wherever they are wanted; the poller is asked to watch only for what had to wait, edge by
 * edge, and is not asked again for each receive: so a message that comes alone costs one wait and one read.
 *
 *   1. is_readable says that a read may find something. It is set by an event, and cleared before a read, never after:
 *      an event that comes meanwhile sets it again. A read that fills its buffer leaves it set.
 *   2. Once the peer has sent its last, or there is an error, no further event comes, so is_ended stays set: reads get
 *      what is left, then the end.
 *   3. The descriptor stays open until destroy: whatever still reads or writes after close finds it shut down. */
#include "clients/sp/pipe.h"

#include "clients/sp/poller.h"
#include "clients/sp/stream.h"

#include "actors/base/assert.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIPE_MAGIC 0x50495045u
/* Receives and sends of one pipe before other sockets of its poller get their turn. */
#define ROUNDS_MAX 8

enum sending {
    SEND_NONE,
    SEND_BUSY,  /* some thread is writing */
    SEND_WAITS, /* for room in the kernel, or for the pipe's end */
    SEND_DONE,  /* on_sent is to be called */
};

struct sp_pipe {
    uint32_t magic;
    uint16_t peer_protocol;
    bool is_ipc;
    bool is_started;
    bool is_handling; /* the poller's thread is in on_pipe_events; its alone */
    bool is_over;     /* on_closed was called */
    int descriptor;
    int bell; /* an eventfd that ends a wait; -1 until the first one. The waiting thread's, read under the lock */
    struct sp_poller *poller;
    struct sp_source source;
    struct sp_job ending; /* posted by the first close, once what is being written then is written */
    pthread_mutex_t lock; /* guards what follows, for a few instructions at a time */
    bool is_closing, is_end_due;
    bool is_readable, is_ended;
    bool is_waiting, is_interrupted;
    uint8_t sending; /* enum sending; sending_parts are whoever's is busy, or the poller's */
    uint8_t sending_count;
    uint32_t watched;     /* events of epoll; 0: the poller does not know the socket */
    void *receive_buffer; /* NULL: no receive is under way */
    size_t receive_size;
    struct iovec sending_parts[SP_IOV_MAX];
    /* Constant after start. */
    struct sp_pipe_handlers handlers;
    void *owner;
    const char *address; /* behind peer */
    char peer[];
};

static void on_pipe_events(struct sp_source *source, uint32_t events);
static void pipe_end(struct sp_job *job);

static void pipe_lock(struct sp_pipe *pipe)
{
    int failed = pthread_mutex_lock(&pipe->lock);
    ENSURE(failed == 0);
}

static void pipe_unlock(struct sp_pipe *pipe)
{
    int failed = pthread_mutex_unlock(&pipe->lock);
    ENSURE(failed == 0);
}

enum weir_error sp_pipe_create(int descriptor, const struct sp_peer *peer, uint16_t peer_protocol, struct sp_pipe **out)
{
    size_t peer_size = strlen(peer->text) + 1, address_size = strlen(peer->address) + 1;
    struct sp_poller *poller = sp_poller_take();
    struct sp_pipe *pipe = poller ? calloc(1, sizeof *pipe + peer_size + address_size) : NULL;
    if (!pipe)
        return WEIR_NO_MEMORY;
    if (pthread_mutex_init(&pipe->lock, NULL) != 0) {
        free(pipe);
        return WEIR_NO_MEMORY;
    }
    pipe->magic = PIPE_MAGIC;
    pipe->peer_protocol = peer_protocol;
    pipe->is_ipc = peer->is_ipc;
    pipe->descriptor = descriptor;
    pipe->bell = -1;
    pipe->poller = poller;
    pipe->source.on_events = on_pipe_events;
    pipe->ending.run = pipe_end;
    memcpy(pipe->peer, peer->text, peer_size);
    pipe->address = memcpy(pipe->peer + peer_size, peer->address, address_size);
    *out = pipe;
    return WEIR_OK;
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
    *pipe_pointer = NULL;
    /* For the handler that said so to return: its owner may go now, too. */
    if (pipe->is_started)
        sp_poller_await(pipe->poller, &pipe->ending);
    REQUIRE(!pipe->is_started || pipe->is_over);
    close(pipe->descriptor);
    if (pipe->bell >= 0)
        close(pipe->bell);
    pthread_mutex_destroy(&pipe->lock);
    pipe->magic = 0;
    free(pipe);
}

uint16_t sp_pipe_peer_protocol(const struct sp_pipe *pipe) { return pipe->peer_protocol; }
bool sp_pipe_is_ipc(const struct sp_pipe *pipe) { return pipe->is_ipc; }
const char *sp_pipe_peer(const struct sp_pipe *pipe) { return pipe->peer; }
const char *sp_pipe_address(const struct sp_pipe *pipe) { return pipe->address; }

/* --------------------------------------------------------------------------------------------- closing */

static void bell_ring(const struct sp_pipe *pipe)
{
    const uint64_t one = 1;
    while (write(pipe->bell, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}

void sp_pipe_close(struct sp_pipe *pipe)
{
    MAGIC_CHECK(pipe, PIPE_MAGIC);
    REQUIRE(pipe->is_started);
    pipe_lock(pipe);
    bool is_first = !pipe->is_closing;
    pipe->is_closing = true;
    if (is_first) {
        (void)shutdown(pipe->descriptor, SHUT_RDWR);
        /* Whoever is writing sees to it afterwards. */
        pipe->is_end_due = pipe->sending == SEND_BUSY;
        if (!pipe->is_end_due)
            sp_poller_post(pipe->poller, &pipe->ending);
    }
    pipe_unlock(pipe);
}

/* On the poller's thread, once. From here on nothing is under way, and nothing begins. */
static void pipe_end(struct sp_job *job)
{
    struct sp_pipe *pipe = CONTAINER_OF(job, struct sp_pipe, ending);
    pipe_lock(pipe);
    bool was_watched = pipe->watched != 0, was_receiving = pipe->receive_buffer != NULL;
    uint8_t sending = pipe->sending;
    pipe->watched = 0;
    pipe->receive_buffer = NULL;
    pipe->sending = SEND_NONE;
    pipe_unlock(pipe);
    ENSURE(sending != SEND_BUSY);
    if (was_watched)
        sp_poller_forget(pipe->poller, pipe->descriptor);
    if (was_receiving)
        pipe->handlers.on_received(pipe->owner, 0, WEIR_CLOSED);
    if (sending != SEND_NONE)
        pipe->handlers.on_sent(pipe->owner, sending == SEND_DONE ? WEIR_OK : WEIR_CLOSED);
    pipe->is_over = true;
    pipe->handlers.on_closed(pipe->owner);
}

/* -------------------------------------------------------------------------------------------- watching */

/* Has the poller watch for these, and look at once whether they are there already. Under the lock, pipe not closing;
 * false: no memory for it, and the pipe must be closed. */
static bool watch_for(struct sp_pipe *pipe, uint32_t events)
{
    events |= EPOLLET;
    if (pipe->watched != 0)
        sp_poller_change(pipe->poller, pipe->descriptor, events, &pipe->source);
    else if (sp_poller_watch(pipe->poller, pipe->descriptor, events, &pipe->source))
        return false;
    pipe->watched = events;
    return true;
}

/* The poller comes by on its own when its thread is just handling the pipe. */
static bool is_handled_here(const struct sp_pipe *pipe) { return sp_poller_is_here(pipe->poller) && pipe->is_handling; }

/* ------------------------------------------------------------------------------------------- receiving */

/* One read: its size, 0 at the end, or -1 with errno. */
static ssize_t read_once(struct sp_pipe *pipe, void *buffer, size_t size)
{
    ssize_t got = 0;
    do
        got = recv(pipe->descriptor, buffer, size, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    return got;
}

static enum weir_error read_error(ssize_t got) { return got == 0 ? WEIR_CLOSED : sp_errno_error(errno); }

void sp_pipe_receive(struct sp_pipe *pipe, void *buffer, size_t size)
{
    MAGIC_CHECK(pipe, PIPE_MAGIC);
    REQUIRE(pipe->is_started && size > 0);
    bool is_watched = true;
    pipe_lock(pipe);
    REQUIRE(!pipe->receive_buffer && !pipe->is_waiting);
    if (!pipe->is_closing) {
        bool may_find = pipe->is_readable || pipe->is_ended;
        pipe->receive_buffer = buffer;
        pipe->receive_size = size;
        if (!(pipe->watched & EPOLLIN) || (may_find && !is_handled_here(pipe)))
            is_watched = watch_for(pipe, pipe->watched | EPOLLIN | EPOLLRDHUP);
    }
    pipe_unlock(pipe);
    if (!is_watched)
        sp_pipe_close(pipe);
}

void sp_pipe_gather(struct sp_pipe *pipe, bool is_gathering)
{
    atomic_store_explicit(&pipe->source.is_gathering, is_gathering, memory_order_relaxed);
}

/* Does the receive under way if there may be something to receive; true when a handler was called. The poller's. */
static bool receive_step(struct sp_pipe *pipe)
{
    pipe_lock(pipe);
    void *buffer = pipe->is_readable || pipe->is_ended ? pipe->receive_buffer : NULL;
    size_t size = pipe->receive_size;
    pipe->is_readable = pipe->is_readable && !buffer;
    pipe_unlock(pipe);
    if (!buffer)
        return false;
    ssize_t got = read_once(pipe, buffer, size);
    if (got < 0 && errno == EAGAIN)
        return false;
    enum weir_error error = got > 0 ? WEIR_OK : read_error(got);
    pipe_lock(pipe);
    pipe->receive_buffer = NULL;
    pipe->is_readable |= got == (ssize_t)size;
    pipe_unlock(pipe);
    if (error)
        sp_pipe_close(pipe);
    pipe->handlers.on_received(pipe->owner, got > 0 ? (size_t)got : 0, error);
    return true;
}

enum weir_error sp_pipe_receive_now(struct sp_pipe *pipe, void *buffer, size_t size, size_t *received)
{
    MAGIC_CHECK(pipe, PIPE_MAGIC);
    REQUIRE(pipe->is_started && size > 0);
    pipe_lock(pipe);
    REQUIRE(!pipe->receive_buffer);
    bool is_closing = pipe->is_closing;
    pipe->is_readable = false;
    pipe_unlock(pipe);
    if (is_closing)
        return WEIR_CLOSED;
    ssize_t got = read_once(pipe, buffer, size);
    if (got < 0 && errno == EAGAIN)
        return WEIR_AGAIN;
    if (got <= 0) {
        sp_pipe_close(pipe);
        return WEIR_CLOSED;
    }
    if (got == (ssize_t)size) {
        pipe_lock(pipe);
        pipe->is_readable = true;
        pipe_unlock(pipe);
    }
    *received = (size_t)got;
    return WEIR_OK;
}

/* Has the poller sleep on while another thread waits for the bytes. False: the wait is over before it began. Under the
 * lock. */
static bool wait_begin(struct sp_pipe *pipe)
{
    REQUIRE(!pipe->receive_buffer && !pipe->is_waiting);
    if (pipe->is_interrupted || pipe->is_closing)
        return false;
    pipe->is_waiting = true;
    if (pipe->watched & EPOLLIN) {
        (void)watch_for(pipe, pipe->watched & ~(uint32_t)(EPOLLIN | EPOLLRDHUP));
        /* Should it be watched again, the poller looks again, too. */
        pipe->is_readable = false;
    }
    return true;
}

enum weir_error sp_pipe_receive_wait(struct sp_pipe *pipe, void *buffer, size_t size, uint64_t timeout_ms,
                                     bool is_patient, size_t *received)
{
    MAGIC_CHECK(pipe, PIPE_MAGIC);
    REQUIRE(pipe->is_started && size > 0 && timeout_ms > 0);
    if (pipe->bell < 0 && (pipe->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
        sp_pipe_close(pipe);
        return WEIR_CLOSED;
    }
    struct pollfd sources[] = {{pipe->descriptor, is_patient ? POLLRDHUP : POLLIN, 0}, {pipe->bell, POLLIN, 0}};
    pipe_lock(pipe);
    bool has_begun = wait_begin(pipe);
    pipe_unlock(pipe);
    if (has_begun)
        (void)poll(sources, COUNT_OF(sources), timeout_ms > INT32_MAX ? INT32_MAX : (int)timeout_ms);
    pipe_lock(pipe);
    bool has_rung = has_begun && pipe->is_interrupted, is_closing = pipe->is_closing;
    pipe->is_waiting = pipe->is_interrupted = false;
    pipe_unlock(pipe);
    uint64_t rung;
    if (has_rung)
        (void)!read(pipe->bell, &rung, sizeof rung);
    bool is_due = is_closing || (has_begun && (sources[0].revents != 0 || (is_patient && !has_rung)));
    return is_due ? sp_pipe_receive_now(pipe, buffer, size, received) : WEIR_AGAIN;
}

void sp_pipe_receive_interrupt(struct sp_pipe *pipe)
{
    MAGIC_CHECK(pipe, PIPE_MAGIC);
    pipe_lock(pipe);
    if (pipe->is_waiting && !pipe->is_interrupted)
        bell_ring(pipe);
    pipe->is_interrupted = true;
    pipe_unlock(pipe);
}

/* --------------------------------------------------------------------------------------------- sending */

static void parts_copy(struct iovec *out, const struct iovec *parts, unsigned count)
{
    REQUIRE(count >= 1 && count <= SP_IOV_MAX);
    memcpy(out, parts, count * sizeof *parts);
}

/* Writes as much as the kernel takes; *count parts are left. WEIR_AGAIN: it is full. Any other error: of the pipe. */
static enum weir_error write_all(struct sp_pipe *pipe, struct iovec *parts, unsigned *count, size_t *sent)
{
    *count = sp_parts_advance(parts, *count, 0); /* parts of no bytes at the front */
    while (*count > 0) {
        const struct msghdr message = {.msg_iov = parts, .msg_iovlen = *count};
        ssize_t written = sendmsg(pipe->descriptor, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return errno == EAGAIN ? WEIR_AGAIN : sp_errno_error(errno);
        *sent += (size_t)written;
        *count = sp_parts_advance(parts, *count, (size_t)written);
    }
    return WEIR_OK;
}

/* Goes on with the send under way, which is busy, and leaves it as it is then: done, or waiting. Returns whether the
 * poller must be asked to come by. */
static void send_step(struct sp_pipe *pipe)
{
    unsigned count = pipe->sending_count;
    size_t sent = 0;
    enum weir_error error = write_all(pipe, pipe->sending_parts, &count, &sent);
    bool is_watched = true;
    pipe_lock(pipe);
    pipe->sending_count = (uint8_t)count;
    pipe->sending = error ? SEND_WAITS : SEND_DONE;
    if (pipe->is_closing && pipe->is_end_due) {
        pipe->is_end_due = false;
        sp_poller_post(pipe->poller, &pipe->ending);
    } else if (!pipe->is_closing && (!error || error == WEIR_AGAIN)) {
        bool comes_by = !error && is_handled_here(pipe);
        if (!comes_by)
            is_watched = watch_for(pipe, pipe->watched | EPOLLOUT);
    }
    pipe_unlock(pipe);
    if (!is_watched || (error && error != WEIR_AGAIN))
        sp_pipe_close(pipe);
}

void sp_pipe_send(struct sp_pipe *pipe, const struct iovec *parts, unsigned count)
{
    MAGIC_CHECK(pipe, PIPE_MAGIC);
    REQUIRE(pipe->is_started);
    pipe_lock(pipe);
    REQUIRE(pipe->sending == SEND_NONE);
    bool is_open = !pipe->is_closing;
    if (is_open) {
        pipe->sending = SEND_BUSY;
        parts_copy(pipe->sending_parts, parts, count);
        pipe->sending_count = (uint8_t)count;
    }
    pipe_unlock(pipe);
    if (is_open)
        send_step(pipe);
}

/* The poller's: goes on with what waited for room, and tells what is done; true when a handler was called. */
static bool sent_step(struct sp_pipe *pipe, bool has_room)
{
    pipe_lock(pipe);
    bool is_to_go_on = has_room && pipe->sending == SEND_WAITS && !pipe->is_closing;
    if (is_to_go_on)
        pipe->sending = SEND_BUSY;
    pipe_unlock(pipe);
    if (is_to_go_on)
        send_step(pipe);
    pipe_lock(pipe);
    bool is_done = pipe->sending == SEND_DONE && !pipe->is_closing;
    if (is_done)
        pipe->sending = SEND_NONE;
    pipe_unlock(pipe);
    if (is_done)
        pipe->handlers.on_sent(pipe->owner, WEIR_OK);
    return is_done;
}

enum weir_error sp_pipe_send_now(struct sp_pipe *pipe, const struct iovec *parts, unsigned count, size_t *sent)
{
    MAGIC_CHECK(pipe, PIPE_MAGIC);
    REQUIRE(pipe->is_started);
    struct iovec left[SP_IOV_MAX];
    parts_copy(left, parts, count);
    *sent = 0;
    pipe_lock(pipe);
    REQUIRE(pipe->sending == SEND_NONE);
    bool is_closing = pipe->is_closing;
    pipe_unlock(pipe);
    enum weir_error error = is_closing ? WEIR_CLOSED : write_all(pipe, left, &count, sent);
    if (!error || error == WEIR_AGAIN)
        return error;
    sp_pipe_close(pipe);
    return WEIR_CLOSED;
}

/* ---------------------------------------------------------------------------------------------- events */

/* What is left when others had to get their turn, to read or to be told, comes back as an event; and the poller need
 * not hear of room in the kernel that nobody waits for, which on a Unix socket would be each time the peer reads. */
static void events_settle(struct sp_pipe *pipe, bool has_more, bool has_room)
{
    pipe_lock(pipe);
    uint32_t wanted = pipe->watched;
    if (pipe->sending == SEND_DONE)
        wanted |= EPOLLOUT;
    else if (has_room && pipe->sending == SEND_NONE)
        wanted &= ~(uint32_t)EPOLLOUT;
    if (!pipe->is_closing && (has_more || wanted != pipe->watched))
        (void)watch_for(pipe, wanted);
    pipe_unlock(pipe);
}

static void on_pipe_events(struct sp_source *source, uint32_t events)
{
    struct sp_pipe *pipe = CONTAINER_OF(source, struct sp_pipe, source);
    MAGIC_CHECK(pipe, PIPE_MAGIC);
    bool has_room = events & (EPOLLOUT | EPOLLHUP | EPOLLERR), has_more = true;
    pipe_lock(pipe);
    pipe->is_ended |= (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    pipe->is_readable |= (events & EPOLLIN) != 0;
    pipe_unlock(pipe);
    pipe->is_handling = true;
    for (int i = 0; i < ROUNDS_MAX && has_more; i++) {
        has_more = receive_step(pipe);
        has_more |= sent_step(pipe, has_room);
    }
    pipe->is_handling = false;
    if (has_more || (events & EPOLLOUT))
        events_settle(pipe, has_more, events & EPOLLOUT);
}
