/* The gateway's inside: every connection there is, the bounds that accepting obeys, and the totals. Shared by the parts
 * of the gateway; any thread, under the gateway's lock, which is held only for moments. */
#ifndef BROKER_GATEWAY_ROSTER_H
#define BROKER_GATEWAY_ROSTER_H

#include <pthread.h>
#include <stdatomic.h>

#include "actors/base/log.h"
#include "broker/gateway/connection.h"

#define GATEWAY_MAGIC 0x47415445u
#define GATEWAY_LISTENERS_MAX 32
/* Peers whose lines are held apart; where two addresses meet, the later one waits for the former's interval. */
#define GATEWAY_LOG_ROWS 256
#define GATEWAY_ADDRESS_ROWS 1024

/* How many connections one address has, those in the handshake included. */
struct address_row {
    struct address_row *next;
    size_t count;
    uint64_t hash;
    char address[CONNECTION_PEER_MAX];
};

struct log_row {
    uint64_t hash;
    struct log_limit limit;
};

/* A configuration that connections share, so that each need not have a copy. */
struct config_share {
    struct gateway_config config; /* first, so that who has it finds the whole; constant */
    _Atomic size_t refs; /* the gateway's while it is the present one, and connections'. Taken under the gateway's lock,
                            relaxed; given up anywhere, release, paired with the acquire of whoever frees it */
};

struct gateway {
    uint32_t magic;

    /* Constant after gateway_create. */
    struct runtime *runtime;
    weir_actor supervisor;
    struct directory *directory;
    struct budget *budget;
    const struct connection_ops *session;
    const char *server_name;

    /* The owner's thread only. */
    struct sp_listener *listeners[GATEWAY_LISTENERS_MAX];
    size_t listener_count;

    /* Events; added by any thread, relaxed, as nothing is concluded from one of them about another. */
    _Atomic uint64_t refusals[REFUSAL_COUNT];

    pthread_mutex_t lock;
    pthread_cond_t changed; /* a connection went */

    /* Under the lock. */
    struct gateway_config config;
    struct config_share *share; /* of config; NULL: no connection has asked for it since it was set */
    bool is_accepting;
    bool is_draining; /* gateway_drain has told, or is about to tell, those that had started */
    struct connection *first, *last;
    size_t count, peak, reserved; /* reserved: accepted, not ready yet */
    uint64_t next_id;
    struct gateway_status ended; /* totals of connections that are gone */
    struct address_row *addresses[GATEWAY_ADDRESS_ROWS];
    struct log_row log_rows[GATEWAY_LOG_ROWS];
};

extern const struct sp_listener_handlers gateway_listener_handlers;

/* One line about a peer, unless its address had one in this interval. */
void gateway_log(struct gateway *gateway, const char *event, const char *address, const char *peer,
                 enum refusal refusal, const char *reason);

/* Counts an address down that on_accept counted up. Under the lock. */
void admission_release(struct gateway *gateway, const char *address);

/* The present configuration, for a connection to keep; NULL without memory. Under the lock. */
const struct gateway_config *config_hold(struct gateway *gateway);
/* Any thread; NULL is fine. */
void config_drop(const struct gateway_config *config);
/* It was changed: who connects from now on gets another. Under the lock. */
void config_share_end(struct gateway *gateway);

/* Makes a connection and its actor for a pipe, which is its from then on; otherwise the pipe is still the caller's. */
WEIR_MUST_USE enum weir_error roster_open(struct gateway *gateway, struct sp_pipe *pipe);

/* The actor's first turn: others may name it from now on. True: the gateway drains, and this one has not been told. */
bool roster_actor_started(struct connection *connection);
/* sp_pipe's on_closed: the transport has let go. */
void roster_pipe_closed(struct connection *connection);
/* The connection's session speaks for that publisher from now on; another one that did is told so and ended. In the
 * connection's turn, once. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error roster_take_over(struct connection *connection, struct view publisher);
/* The actor is gone. Frees the connection, now or when its pipe has closed. */
void roster_actor_ended(struct connection *connection);

/* Frees connections whose actor and pipe are both gone. Not from a handler. */
void roster_reap(struct gateway *gateway);

#endif
