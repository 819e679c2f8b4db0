/* Handshakes under way on accepted connections: the peer's 8 bytes are read, ours are sent, both before one deadline.
 * Private to clients/sp: used by the listener; callbacks run on nng's threads. The number of slots bounds what
 * strangers can make us hold. */
#ifndef CLIENTS_SP_HANDSHAKE_H
#define CLIENTS_SP_HANDSHAKE_H

#include "clients/sp/stream.h"

struct sp_handshakes;

struct sp_handshake_handlers {
    /* The pipe is the callee's. */
    void (*on_done)(void *owner, struct sp_pipe *pipe);
    /* The connection is gone. */
    void (*on_failed)(void *owner, const struct sp_peer *peer, enum weir_error error, const char *reason);
};

WEIR_MUST_USE enum weir_error sp_handshakes_create(size_t handshaking_max, uint64_t timeout_ms,
                                                   const struct sp_handshake_handlers *handlers, void *owner,
                                                   struct sp_handshakes **out);

/* Takes the stream in any case; one handler call follows, perhaps from within (no slot, no memory). */
void sp_handshakes_start(struct sp_handshakes *pool, nng_stream *stream, const struct sp_peer *peer);

/* Ends each handshake under way (on_failed, WEIR_CLOSED) and waits until no handler runs. The caller makes sure that no
 * start is called from here on. Not from a handler. */
void sp_handshakes_stop(struct sp_handshakes *pool);

/* After stop. */
void sp_handshakes_destroy(struct sp_handshakes **pool_pointer);

#endif
