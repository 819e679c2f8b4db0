/* What listener, dialer and pipe share about sockets: URLs, error codes, addresses of peers, and the one way to make a
 * pipe. Private to clients/sp. */
#ifndef CLIENTS_SP_STREAM_H
#define CLIENTS_SP_STREAM_H

#include "clients/sp/pipe.h"

#include <sys/socket.h>

#define SP_HOST_SIZE_MAX 256

/* What one URL names. */
enum sp_transport { SP_TCP, SP_IPC };

struct sp_url {
    enum sp_transport transport;
    int family;                  /* AF_UNSPEC: any that the host has */
    char host[SP_HOST_SIZE_MAX]; /* empty: all of this machine's */
    char port[8];
    const char *path; /* ipc; into the URL */
};

struct sp_address {
    struct sockaddr_storage bytes;
    socklen_t size;
};

/* Who is at the other end, taken while the connection is fresh: a socket that was reset no longer knows. */
struct sp_peer {
    char text[SP_PEER_SIZE_MAX];
    char address[SP_ADDRESS_SIZE_MAX];
    bool is_ipc;
};

/* WEIR_BAD_REQUEST with *reason for what is no URL of a served kind. */
WEIR_MUST_USE enum weir_error sp_url_parse(const char *url, struct sp_url *out, const char **reason);

/* An ipc path as an address; it fits, or it was refused above. */
void sp_path_address(const char *path, struct sp_address *out);

/* A code of errno as ours, and a sentence about it in static storage. */
enum weir_error sp_errno_error(int code);
const char *sp_errno_reason(int code);

/* WEIR_CLOSED when the peer is gone already. */
WEIR_MUST_USE enum weir_error sp_peer_describe(int descriptor, enum sp_transport transport, struct sp_peer *out);

/* Sent at once, and not noticed dead only in hours: what every tcp connection wants. */
void sp_socket_tune(int descriptor, enum sp_transport transport);

/* Takes the first size bytes off parts; returns how many parts are left. */
unsigned sp_parts_advance(struct iovec *parts, unsigned count, size_t size);

/* How long until deadline_ns in milliseconds, at least 1; 0 when it has passed. */
int sp_time_left_ms(uint64_t deadline_ns);

/* A pipe over a connected socket, which does not block, whose handshake is done. The descriptor is the pipe's on OK
 * only. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error sp_pipe_create(int descriptor, const struct sp_peer *peer, uint16_t peer_protocol,
                                             struct sp_pipe **out);

#endif
