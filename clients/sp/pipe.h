/* SP over stream sockets: listening, dialing, and one connection (pipe) with at most one receive and one send under
 * way. The owner supplies every buffer; nothing here allocates for a message. Handlers run on a poller's thread, which
 * waits for sockets, never inside a call of the owner's, and must only enqueue: they may call receive, send and close,
 * but not block, nor stop or destroy what they are called for.
 *
 * A pipe passes: close (no more I/O begins, what is under way ends soon; any thread, never blocks) -> on_closed,
 * exactly once, after which no handler of it is called again -> destroy (frees; not from a handler). */
#ifndef CLIENTS_SP_PIPE_H
#define CLIENTS_SP_PIPE_H

#include <sys/uio.h>

#include "clients/sp/framing.h"

#define SP_IOV_MAX 8           /* of one send */
#define SP_PEER_SIZE_MAX 160   /* "tcp://127.0.0.1:51234", "ipc://path (pid 12 uid 0)"; the longest socket path fits */
#define SP_ADDRESS_SIZE_MAX 64 /* "127.0.0.1", "::1", "ipc" */

struct sp_pipe;
struct sp_listener;

struct sp_pipe_handlers {
    /* sp_pipe_receive ended: size bytes are in its buffer (at least 1), or error is set and the pipe is closing. */
    void (*on_received)(void *owner, size_t size, enum weir_error error);
    /* sp_pipe_send ended: all of it is with the kernel, or error is set and the pipe is closing. */
    void (*on_sent)(void *owner, enum weir_error error);
    void (*on_closed)(void *owner);
};

struct sp_listen_options {
    uint64_t handshake_ms;  /* the peer's 8 bytes must be there within this time of accept, all of them */
    size_t handshaking_max; /* handshakes at once; beyond, the oldest one is refused (WEIR_FULL) and makes room */
    unsigned ipc_mode;      /* permissions of an ipc socket, e.g. 0600; 0 leaves them to the umask */
};

struct sp_listener_handlers {
    /* Before the handshake, cheap: false refuses the connection at once (too many, banned address). address: host
     * without port for tcp, "ipc" otherwise. Each true is paired with one on_ready or one on_refused. */
    bool (*on_accept)(void *owner, const char *address);
    /* The handshake is done: the pipe is the callee's, who calls sp_pipe_start on it (now or later). */
    void (*on_ready)(void *owner, struct sp_pipe *pipe);
    /* The handshake failed (WEIR_TIMEOUT, WEIR_PROTOCOL, WEIR_CLOSED, WEIR_FULL, WEIR_NO_MEMORY); the connection is
     * gone. reason: for people. Also comes from within sp_listener_stop, for each handshake that it cuts off. */
    void (*on_refused)(void *owner, const char *address, const char *peer, enum weir_error error, const char *reason);
};

/* Listens on "tcp://host:port" or "ipc://path" and accepts for ever (a failing accept is retried with a delay, never
 * given up). A stale ipc socket file is removed, one in use is not (WEIR_EXISTS), nor anything else of that name;
 * PATH.lock is locked for as long and stays behind. Port 0 takes a free port (sp_listener_url). Other errors:
 * WEIR_BAD_REQUEST, WEIR_FORBIDDEN, WEIR_NOT_FOUND, WEIR_NO_MEMORY, WEIR_IO. On failure *reason is a sentence in static
 * storage. */
WEIR_MUST_USE enum weir_error sp_listen(const char *url, const struct sp_listen_options *options,
                                        const struct sp_listener_handlers *handlers, void *owner,
                                        struct sp_listener **out, const char **reason);
/* The URL with the real port. */
const char *sp_listener_url(const struct sp_listener *listener);
/* How many accepts failed so far (no descriptors, no memory). Any thread. */
uint64_t sp_listener_accept_failures(const struct sp_listener *listener);
/* Stops accepting; connections stay. Blocks until no handler of it runs any more. */
void sp_listener_stop(struct sp_listener *listener);
void sp_listener_destroy(struct sp_listener **listener);

/* Dials and does the handshake as `own`, expecting `peer`; blocks up to timeout_ms. Not from a handler. WEIR_TIMEOUT,
 * WEIR_CONNECT, WEIR_PROTOCOL (another kind of peer), WEIR_CLOSED (hung up in the handshake), WEIR_BAD_REQUEST,
 * WEIR_NO_MEMORY, WEIR_IO; *reason is then a sentence in static storage. */
WEIR_MUST_USE enum weir_error sp_dial(const char *url, enum sp_protocol own, enum sp_protocol peer, uint64_t timeout_ms,
                                      struct sp_pipe **out, const char **reason);

/* Hands the pipe its owner; must be called once before receive, send and close. */
void sp_pipe_start(struct sp_pipe *pipe, const struct sp_pipe_handlers *handlers, void *owner);

uint16_t sp_pipe_peer_protocol(const struct sp_pipe *pipe);
bool sp_pipe_is_ipc(const struct sp_pipe *pipe);
/* For people and per-address bounds; valid as long as the pipe. */
const char *sp_pipe_peer(const struct sp_pipe *pipe);
const char *sp_pipe_address(const struct sp_pipe *pipe);

/* Receives what is there into buffer, 1 to size bytes; on_received tells. One at a time. The buffer is the pipe's until
 * then. On a pipe that is closing it does nothing and on_received does not come: after on_closed every buffer is free.
 */
void sp_pipe_receive(struct sp_pipe *pipe, void *buffer, size_t size);

/* From now on the poller lets other threads run before it looks at what came: for many small messages in a row whose
 * sender waits for no answer. On a busy machine that then goes on with the next ones, where it would be interrupted for
 * each, and they are read together; on an idle one nothing waits. What comes for the poller's other pipes in that
 * moment waits, too: with two cores and a dozen threads that want them, half a millisecond more in the middle. Any
 * thread. */
void sp_pipe_gather(struct sp_pipe *pipe, bool is_gathering);

/* The same at once, in the caller's thread and without a handler: one read, no thread switch, for when more is likely
 * there. WEIR_OK: *received bytes, at least 1. WEIR_AGAIN: nothing is there, sp_pipe_receive waits for it. WEIR_CLOSED:
 * the pipe is closing. Not while a receive is under way. A miss costs a system call. */
WEIR_MUST_USE enum weir_error sp_pipe_receive_now(struct sp_pipe *pipe, void *buffer, size_t size, size_t *received);

/* Receives in the caller's thread, which sleeps until bytes come: one switch of threads less than with
 * on_received. WEIR_OK: *received bytes, at least 1. WEIR_AGAIN: timeout_ms (at least 1) have passed, or it was
 * interrupted. WEIR_CLOSED: the pipe is closing. Not while a receive is under way, nor from a handler.
 * is_patient: bytes do not wake it; what came is received when the time is over, or when the peer has sent its last. */
WEIR_MUST_USE enum weir_error sp_pipe_receive_wait(struct sp_pipe *pipe, void *buffer, size_t size, uint64_t timeout_ms,
                                                   bool is_patient, size_t *received);
/* Ends the sp_pipe_receive_wait under way, or the next one as it begins. Any thread, while the pipe lives. */
void sp_pipe_receive_interrupt(struct sp_pipe *pipe);

/* Sends all of the count (1 to SP_IOV_MAX) parts, in as many writes as it takes; on_sent tells. One at a time. The
 * bytes are the pipe's until then; the iovec array itself is copied. On a pipe that is closing it does nothing, as
 * above. */
void sp_pipe_send(struct sp_pipe *pipe, const struct iovec *parts, unsigned count);

/* The same at once, in the caller's thread and without a handler. WEIR_OK: all is with the kernel. WEIR_AGAIN: it took
 * the first *sent bytes, perhaps none; sp_pipe_send does the rest. WEIR_CLOSED: the pipe is closing. Not while a send
 * is under way. */
WEIR_MUST_USE enum weir_error sp_pipe_send_now(struct sp_pipe *pipe, const struct iovec *parts, unsigned count,
                                               size_t *sent);

void sp_pipe_close(struct sp_pipe *pipe);
/* Only after on_closed, or when it was never started. Not from a handler of its own. */
void sp_pipe_destroy(struct sp_pipe **pipe);

#endif
