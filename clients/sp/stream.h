/* What listener, dialer and pipe share about nng's streams: error codes, addresses of peers, and the one way to make a
 * pipe. Private to clients/sp. */
#ifndef CLIENTS_SP_STREAM_H
#define CLIENTS_SP_STREAM_H

#include "clients/sp/pipe.h"

#include <nng/nng.h>

/* What one URL names. */
enum sp_transport { SP_TCP, SP_IPC };

/* Who is at the other end, taken while the connection is fresh: a socket that was reset no longer knows. */
struct sp_peer {
    char text[SP_PEER_SIZE_MAX];
    char address[SP_ADDRESS_SIZE_MAX];
    bool is_ipc;
};

/* Which transport a URL asks for; WEIR_BAD_REQUEST with *reason for one that is not served. */
WEIR_MUST_USE enum weir_error sp_url_transport(const char *url, enum sp_transport *transport, const char **reason);

/* nng's code as ours, and a sentence about it in static storage. */
enum weir_error sp_code_error(int code);
const char *sp_code_reason(int code);

/* WEIR_CLOSED when the peer is gone already. */
WEIR_MUST_USE enum weir_error sp_peer_describe(nng_stream *stream, enum sp_transport transport, struct sp_peer *out);

/* Host without port as text; v4 addresses mapped into v6 come out as v4, so that they count as one peer. */
void sp_address_text(const nng_sockaddr *address, char out[SP_ADDRESS_SIZE_MAX], unsigned *port);

/* Closes and frees a stream on which nothing is under way; does not block, so fit for callbacks. */
void sp_stream_drop(nng_stream *stream);

/* How long until deadline_ns as an aio's timeout, at least 1; 0 when it has passed. */
nng_duration sp_time_left_ms(uint64_t deadline_ns);

/* A pipe over a stream whose handshake is done. The stream is the pipe's on OK only. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error sp_pipe_create(nng_stream *stream, const struct sp_peer *peer, uint16_t peer_protocol,
                                             struct sp_pipe **out);

#endif
