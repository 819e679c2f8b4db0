/* A session's own state, and how its files share the work:
 *
 *   session.c    hello, dispatch of frames, credit, heartbeats, the end
 *   publish.c    PUBLISH frames to topics, their answers back
 *   subscribe.c  subscriptions, and what topics send about their feeds
 *   table.c      the table of subscriptions
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
/* What a topic hands ahead of a client is no more than it may leave waiting, but not less than this: a topic's turn for
 * each few records would cost more than they do. */
#define SESSION_WINDOW_MIN 4096
/* Silence is borne for so many heartbeats, in which this often is asked whether somebody is there. */
#define SESSION_HEARTBEATS 3
#define SESSION_ASKS (SESSION_HEARTBEATS - 1)

/* Where a subscription stands with the directory. */
enum subscription_state { SUBSCRIPTION_FREE, SUBSCRIPTION_ASKED, SUBSCRIPTION_STANDS, SUBSCRIPTION_ENDING };

/* How a session's places of subscriptions are numbered for the directory and topics: by place and generation, within 31
 * bits (REQUEST_SUB_BIT), so that what is still under way for one that ended does not meet a later one. A place may be
 * used 2,048 times before it bears the same number again, and each time waits for the directory in between. */
#define SUBSCRIPTION_PLACE_BITS 20
#define SUBSCRIPTION_GENERATION_BITS (31 - SUBSCRIPTION_PLACE_BITS)

struct subscription {
    uint32_t sub;  /* the client's number */
    uint32_t next; /* in its bucket, or among the free places */
    union {
        uint32_t feed;       /* the last of its feeds to begin; 0: it has none */
        enum weir_error end; /* ending: for UNSUBSCRIBED; its feeds are forgotten by then */
    };
    uint16_t window_kib; /* of each of its feeds at most; its outbox, about */
    uint16_t generation : SUBSCRIPTION_GENERATION_BITS;
    uint16_t state : 2;    /* enum subscription_state */
    uint16_t has_more : 1; /* it may have feeds beside that one */
};

static inline size_t subscription_window_max(const struct subscription *subscription)
{
    return subscription->window_kib * (size_t)1024;
}

/* By place; a hash from the client's numbers to places behind them in the same block. */
struct subscriptions {
    weir_msg block;
    struct subscription *places;
    uint32_t *buckets;
    uint32_t capacity, bucket_count, count, free;
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
    bool is_open;        /* HELLO was exchanged */
    bool is_told_end;    /* CLOSE was sent: nothing follows it */
    uint8_t asked_count; /* PINGs since the client was last heard of, as the latest look at that found */
    weir_timer hello_timer;

    /* Credit: bytes of data frames' bodies since the start. */
    uint64_t in_granted, in_received;
    uint64_t out_granted, out_sent;
    size_t out_max; /* largest body that the client takes */

    uint64_t asked_ns; /* the last PING */

    /* The PUBLISH frame that is being read, when the connection was paused in the middle. */
    bool is_publishing;
    uint32_t published;  /* records of it that are done with */
    uint64_t unanswered; /* records with topics whose ack is to come */
    struct pending_ack ack;
    uint64_t publish_end; /* behind the highest number that came */
    uint64_t hold_from;   /* acks of records from this number on may be held back; UINT64_MAX: none */

    weir_msg alias_block;
    struct alias *aliases;
    uint32_t alias_count;

    struct subscriptions subscriptions;
    struct follows follows;
};

static inline struct session *session_of(const struct connection *connection) { return connection->state; }

/* session.c: sends a frame that needs no credit, ahead of all data. Frames with long texts say how long they may get.
 * False: CLOSE was sent already, or there is no memory and the session ends with its last words. */
bool session_frame(struct connection *connection, const struct frame *frame, size_t size_max);
/* Cuts the session for a frame that breaks the protocol. text: static. */
enum weir_error session_refuse(struct connection *connection, enum refusal refusal, enum weir_error error,
                               const char *text);

/* publish.c */
WEIR_MUST_USE enum weir_error session_alias(struct connection *connection, const struct frame *frame);
WEIR_MUST_USE enum weir_error session_publish(struct connection *connection, const struct frame *frame,
                                              size_t body_size);
void session_ahead(struct connection *connection, struct view body);
void session_on_handed(struct connection *connection, const struct handed *handed, enum weir_error error);
void session_on_ack(struct connection *connection, const struct message *message);
void session_ack_flush(struct connection *connection);
/* Whether the pending acks wait on for others, or until the client asks for them. */
bool session_ack_may_wait(const struct connection *connection);
enum weir_error session_hold(struct connection *connection, const struct frame *frame);
void session_aliases_fini(struct connection *connection);

/* subscribe.c */
WEIR_MUST_USE enum weir_error session_subscribe(struct connection *connection, const struct frame *frame);
WEIR_MUST_USE enum weir_error session_unsubscribe(struct connection *connection, const struct frame *frame);
void session_on_topic(struct connection *connection, struct message *message);
void session_ahead_message(const struct connection *connection, const struct message *message);
void session_on_directory(struct connection *connection, struct message *message);

/* table.c */
/* The subscription behind a number given to the directory; NULL when it is over. */
struct subscription *subscription_find(const struct session *session, uint32_t internal);
/* The number by which directory and topics know it. */
uint32_t subscription_internal(const struct session *session, const struct subscription *subscription);
/* That of the client's number; NULL: none. */
struct subscription *subscription_of_client(const struct session *session, uint32_t sub);
/* A new one, asked for; NULL without memory. Moves the others. */
struct subscription *subscription_take(struct connection *connection, uint32_t sub);
void subscription_free(struct connection *connection, struct subscription *subscription);
/* One of its feeds has ended. */
void subscription_feed_ended(struct subscription *subscription, uint32_t feed);
/* Forgets its feeds, so that nothing more of them is sent. */
void subscription_feeds_forget(struct connection *connection, struct subscription *subscription);
void session_subscriptions_fini(struct connection *connection);

/* deliver.c */
bool session_render(struct connection *connection, struct gather *gather, struct message *item, bool *done);

#endif
