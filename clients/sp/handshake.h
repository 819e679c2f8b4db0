/* Handshakes under way on accepted connections: the peer's 8 bytes are read, ours are sent, both before one deadline.
 * Private to clients/sp: used by the listener, on its poller's thread, where the callbacks run too. The number of slots
 * bounds what strangers can make us hold. */
#ifndef CLIENTS_SP_HANDSHAKE_H
#define CLIENTS_SP_HANDSHAKE_H

#include "clients/sp/poller.h"
#include "clients/sp/stream.h"

struct sp_handshakes;

struct sp_handshake_handlers {
    /* The pipe is the callee's. */
    void (*on_done)(void *owner, struct sp_pipe *pipe);
    /* The connection is gone. */
    void (*on_failed)(void *owner, const struct sp_peer *peer, enum weir_error error, const char *reason);
};

/* Any thread. */
WEIR_MUST_USE enum weir_error sp_handshakes_create(struct sp_poller *poller, size_t handshaking_max,
                                                   uint64_t timeout_ms, const struct sp_handshake_handlers *handlers,
                                                   void *owner, struct sp_handshakes **out);

/* Takes the descriptor in any case; one handler call follows, perhaps from within. */
void sp_handshakes_start(struct sp_handshakes *pool, int descriptor, const struct sp_peer *peer);

/* Ends each handshake under way (on_failed, WEIR_CLOSED). No start follows. */
void sp_handshakes_stop(struct sp_handshakes *pool);

/* After stop; any thread. */
void sp_handshakes_destroy(struct sp_handshakes **pool_pointer);

#endif
