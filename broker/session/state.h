/* A session's own state, and how its files share the work:
 *
 *   session.c    hello, dispatch of frames, credit, heartbeats, the end
 *   publish.c    PUBLISH frames to topics, their answers back
 *   subscribe.c  subscriptions, and what topics send about their feeds
 *   deliver.c    feeds' frames to the socket, under the client's credit
 *
 * Everything runs in the connection's turns. Only broker/session includes this. */
#ifndef BROKER_SESSION_STATE_H
#define BROKER_SESSION_STATE_H

#include "broker/gateway/follows.h"
#include "broker/session/session.h"
#include "clients/wire/frame.h"

/* Before HELLO a peer is a stranger: it gets room for no more than that. */
#define SESSION_HELLO_MAX 4096
/* Every frame but those with items, topic patterns or request maps. */
#define SESSION_FRAME_MAX 1024
/* A new feed of a pattern may be one of thousands. */
#define SESSION_PATTERN_CREDIT (16 * 1024)
/* Silence is borne for so many heartbeats. */
#define SESSION_HEARTBEATS 3

/* Where a subscription stands with the directory. */
enum subscription_state { SUBSCRIPTION_FREE, SUBSCRIPTION_ASKED, SUBSCRIPTION_STANDS, SUBSCRIPTION_ENDING };

struct subscription {
    enum subscription_state state;
    uint32_t sub;        /* the client's number */
    uint32_t generation; /* of this place: a late message of an earlier one does not meet this one */
    uint32_t credit;     /* that each of its feeds has at first */
    enum weir_error end; /* for UNSUBSCRIBED */
};

struct alias {
    weir_msg name; /* none: it stands for nothing */
};

/* Neighbouring acks with one outcome, sent as one frame. count 0: none. */
struct pending_ack {
    uint64_t number, epoch, seq;
    uint32_t count;
};

struct session {
    bool is_open;     /* HELLO was exchanged */
    bool is_told_end; /* CLOSE was sent: nothing follows it */

    /* Credit: bytes of data frames' bodies since the start. */
    uint64_t in_granted, in_received;
    uint64_t out_granted, out_sent;
    size_t out_max; /* largest body that the client takes */

    uint64_t pings; /* sent */

    /* The PUBLISH frame that is being read, when the connection was paused in the middle. */
    bool is_publishing;
    uint32_t published;  /* records of it that are done with */
    uint64_t unanswered; /* records with topics whose ack is to come */
    struct pending_ack ack;

    weir_msg alias_block;
    struct alias *aliases;
    uint32_t alias_count;

    weir_msg subscription_block;
    struct subscription *subscriptions;
    uint32_t subscription_capacity, subscription_count;
    struct follows follows;
};

static inline struct session *session_of(const struct connection *connection) { return connection->state; }

/* session.c: sends a frame that needs no credit, ahead of all data. Frames with long texts say how long they may get.
 */
void session_frame(struct connection *connection, const struct frame *frame, size_t size_max);
/* Cuts the session for a frame that breaks the protocol. text: static. */
enum weir_error session_refuse(struct connection *connection, enum refusal refusal, enum weir_error error,
                               const char *text);

/* publish.c */
WEIR_MUST_USE enum weir_error session_alias(struct connection *connection, const struct frame *frame);
WEIR_MUST_USE enum weir_error session_publish(struct connection *connection, const struct frame *frame,
                                              size_t body_size);
void session_on_handed(struct connection *connection, const struct handed *handed, enum weir_error error);
void session_on_ack(struct connection *connection, const struct message *message);
void session_ack_flush(struct connection *connection);
void session_aliases_fini(struct connection *connection);

/* subscribe.c */
WEIR_MUST_USE enum weir_error session_subscribe(struct connection *connection, const struct frame *frame);
WEIR_MUST_USE enum weir_error session_unsubscribe(struct connection *connection, const struct frame *frame);
void session_on_topic(struct connection *connection, struct message *message);
void session_on_directory(struct connection *connection, const struct message *message);
void session_subscriptions_fini(struct connection *connection);
/* The subscription behind a number given to the directory; NULL when it is over. */
struct subscription *subscription_find(struct session *session, uint32_t internal);

/* deliver.c */
bool session_render(struct connection *connection, struct gather *gather, struct message *item, bool *done);

#endif
