/* The gateway: every connection of the data plane. It listens on tcp and ipc, serves PUSH, REQ, PAIR0 and SUB peers on
 * each address by the protocol that the peer announced, and runs one actor a connection, which parses SP messages in
 * arena blocks, hands records to topics by reference, and sends what topics and replies bring.
 *
 * PAIR0 peers are served by the floor above (broker/session), which the gateway knows only through an ops table.
 *
 * Called by boot and admin, on their own threads (never from a turn), unless said otherwise. */
#ifndef BROKER_GATEWAY_GATEWAY_H
#define BROKER_GATEWAY_GATEWAY_H

#include "actors/runtime/actor.h"
#include "actors/topic/directory.h"
#include "weir_error.h"

struct gateway;
struct connection_ops; /* broker/gateway/connection.h */

/* What an operator may set; gateway_config_defaults fills in every field. 0 means "no bound" only where said. */
struct gateway_config {
    /* Read once, when a listener is opened. */
    uint64_t handshake_ms;  /* the peer's SP header, and a session's HELLO, each within this time */
    size_t handshaking_max; /* connections in the SP handshake at once, per listener */

    /* At once. */
    size_t connections_max;
    size_t connections_per_address_max; /* 0: none; an ipc listener's peers all have the address "ipc" */
    uint64_t log_interval_ms; /* one line a peer address and interval about refused connections and messages */

    /* For connections from now on. */
    size_t message_size_max;  /* body of one SP message, either way; at most MESSAGE_SIZE_MAX */
    size_t receive_bytes_max; /* memory of one connection: what its records pin, replies, queues */
    uint64_t heartbeat_ms;    /* a session silent for this long is pinged; cut after three */
    uint64_t idle_ms;         /* PUSH, REQ and SUB peers silent for this long are cut; 0: never */

    uint32_t records_per_message_max;
    unsigned depth_max;         /* msgpack nesting */
    uint64_t reply_deadline_ms; /* a request that a full topic holds back is answered "busy" after this */
    uint32_t requests_max;      /* outstanding at once in one connection; beyond, it is not read */

    size_t publish_window;      /* bytes of PUBLISH frames a session may have on the way to full topics */
    size_t outbox_bytes;        /* bytes that topics may hand a connection ahead of its peer, all feeds together */
    uint32_t subscriptions_max; /* of one session */
    uint32_t feeds_max;         /* of one session */
    uint32_t aliases_max;       /* of one session; at most 65,536 */
};

void gateway_config_defaults(struct gateway_config *config);

struct gateway_options {
    struct runtime *runtime; /* borrowed, as all here; outlive the gateway */
    weir_actor supervisor;   /* told of each connection's start and end; may be none */
    struct directory *directory;
    struct budget *budget;                /* parent of each connection's; may be NULL */
    const struct connection_ops *session; /* serves PAIR0; NULL: such peers are refused */
    const char *server_name;              /* in HELLO; at most 63 bytes; static */
};

/* WEIR_NO_MEMORY, WEIR_BAD_REQUEST (a bound out of range). config is copied. */
WEIR_MUST_USE enum weir_error gateway_create(const struct gateway_options *options, const struct gateway_config *config,
                                             struct gateway **out);

/* Listens on one more URL, "tcp://host:port" or "ipc://path"; connections are accepted at once, so the runtime must
 * have started. *reason (may be NULL): a sentence in static storage on failure. Errors of sp_listen; WEIR_CLOSED. */
WEIR_MUST_USE enum weir_error gateway_listen(struct gateway *gateway, const char *url, const char **reason);

/* The URL of listener index with its real port; NULL beyond the last. Valid until gateway_destroy. */
const char *gateway_listener_url(const struct gateway *gateway, size_t index);

/* What can change while running does so from now on; what cannot is left as it was and *reason (may be NULL) names it.
 * WEIR_BAD_REQUEST: a bound is out of range, nothing changed. Any thread. */
WEIR_MUST_USE enum weir_error gateway_config_set(struct gateway *gateway, const struct gateway_config *config,
                                                 const char **reason);
void gateway_config_get(struct gateway *gateway, struct gateway_config *out);

/* No more connections; those that stand stay. Blocks until no accept is under way. Twice is fine. */
void gateway_stop_accepting(struct gateway *gateway);

/* Stops accepting, tells sessions CLOSE "closed", lets every connection send what it has, and waits for their ends, at
 * most deadline_ms; what is left then is cut and waited for shortly. Returns how many had to be cut. The runtime must
 * run. */
size_t gateway_drain(struct gateway *gateway, uint64_t deadline_ms);

/* After runtime_stop: closes what is still open, waits for the transports to let go, frees. NULL is fine. */
void gateway_destroy(struct gateway **gateway);

/* ------------------------------------------------------------------------------------------- views */

/* Why something was refused. ROW(name, word for people) */
#define REFUSAL_TABLE(ROW)                                                                                     \
    ROW(CONNECTIONS, "connections")    /* connections: too many in all */                                      \
    ROW(ADDRESS, "address")            /* connections: too many from one address */                            \
    ROW(HANDSHAKE, "handshake")        /* connections: no SP header, or not in time */                         \
    ROW(PROTOCOL_UNSERVED, "protocol") /* connections: a peer that is not served here */                       \
    ROW(MEMORY, "memory")              /* connections and records: the budget is used up */                    \
    ROW(FRAMING, "framing")            /* connections cut: no SP message */                                    \
    ROW(MESSAGE_SIZE, "message-size")  /* connections cut: a message beyond the bound */                       \
    ROW(MALFORMED, "malformed")        /* connections cut, requests and records: a body that does not parse */ \
    ROW(TOPIC_NAME, "topic-name")      /* records: bad or reserved topic */                                    \
    ROW(RECORD_SIZE, "record-size")    /* records: key and value beyond what a subscriber could be sent */     \
    ROW(RECORD_COUNT, "record-count")  /* connections cut, requests: too many records in one message */        \
    ROW(BUSY, "busy")                  /* records: the topic took none until the deadline */                   \
    ROW(NO_TOPIC, "no-topic")          /* records: the topic could not be made */                              \
    ROW(CONNECTION_ENDED, "ended")     /* records: their connection ended while a topic held them back */      \
    ROW(CREDIT, "credit")              /* connections cut: sent beyond the credit, or credit that shrinks */   \
    ROW(HELLO, "hello")                /* connections cut: no HELLO, a second one, or another version */       \
    ROW(IDLE, "idle")                  /* connections cut: silent for too long */                              \
    ROW(QUOTA, "quota")                /* subscriptions, aliases, requests beyond a bound */

enum refusal {
#define REFUSAL_ROW(name, word) REFUSAL_##name,
    REFUSAL_TABLE(REFUSAL_ROW)
#undef REFUSAL_ROW
        REFUSAL_COUNT
};
const char *refusal_name(enum refusal refusal);

/* About now. Records: received = accepted + refused + waiting. */
struct connection_status {
    uint64_t id;
    char peer[128];
    const char *protocol; /* the peer's: "push", "req", "pair", "sub" */
    char client[64];      /* a session's own name for itself */
    const char *state;    /* "open", "held back" (a full topic), "closing" */
    uint64_t since_ns;    /* monotonic */
    uint64_t bytes_in, bytes_out, messages_in, messages_out, records_in, records_out;
    uint64_t accepted, refused, waiting; /* records: with topics, refused, held back by full topics */
    uint64_t dropped;                    /* records not sent to a slow SUB peer */
    uint64_t credit;                     /* bytes the peer still allows us to send; sessions */
    uint64_t outbox_bytes;               /* waiting to be sent */
    uint32_t subscriptions, feeds;
    char blocked_on[256]; /* a topic that holds records back at present; "": none */
};

/* Calls each for every connection, oldest first, until it returns false. It runs under a lock: quick, and calls nothing
 * here. Any thread. */
void gateway_connections_each(struct gateway *gateway,
                              bool (*each)(const struct connection_status *status, void *context), void *context);

/* Cuts one connection (a session is told CLOSE "closed" first). WEIR_NOT_FOUND. Any thread. */
WEIR_MUST_USE enum weir_error gateway_disconnect(struct gateway *gateway, uint64_t id);

/* The connection that an actor serves, e.g. a topic's blocked_by. WEIR_NOT_FOUND. Any thread. */
WEIR_MUST_USE enum weir_error gateway_connection_find(struct gateway *gateway, weir_actor actor, uint64_t *id);

struct gateway_status {
    size_t connections, connections_peak;
    uint64_t accepted_connections; /* since the start */
    uint64_t messages_in, messages_out, bytes_in, bytes_out;
    uint64_t records_in, records_out;
    uint64_t records_accepted, records_refused; /* those still waiting are in neither */
    uint64_t records_dropped;                   /* SUB peers */
    uint64_t refusals[REFUSAL_COUNT];           /* events: a connection, message or record each */
};
/* Totals, connections that have ended included. Any thread. */
void gateway_status(struct gateway *gateway, struct gateway_status *out);

#endif
