/* One connection of the data plane: the state that its actor owns, and what the parts of the gateway (and the session
 * floor above) do with it. Everything here runs in the connection's own turns, on whichever worker has it, unless said
 * otherwise; a poller only sends it CONNECTION_RECEIVED, CONNECTION_SENT and CONNECTION_CLOSED.
 *
 * The way in: intake (receive blocks, SP messages) -> ops->on_body -> publisher (records to topics) and requests
 * (verbs). The way out: topics' messages and replies -> output's queues -> ops->render -> one gathered send at a time.
 *
 * The end: connection_close or connection_finish -> the pipe closes -> CONNECTION_CLOSED -> the actor exits. An actor
 * that is stopped from outside leaves its connection with the roster, which frees it once the pipe has let go. */
#ifndef BROKER_GATEWAY_CONNECTION_H
#define BROKER_GATEWAY_CONNECTION_H

#include <pthread.h>
#include <stdatomic.h>

#include "actors/base/limits.h"
#include "actors/runtime/runtime.h"
#include "broker/gateway/gateway.h"
#include "broker/gateway/intake.h"
#include "broker/gateway/output.h"
#include "broker/gateway/publisher.h"
#include "broker/gateway/requests.h"
#include "clients/sp/pipe.h"
#include "clients/wire/name.h"

#define CONNECTION_MAGIC 0x574e4e43u
#define CONNECTION_PEER_MAX 128
#define CONNECTION_CLIENT_MAX 64
/* Topics' messages that wait for a connection's turn: one each of as many topics as a subscriber commonly follows. All
 * topics that wait for room are told of any, so that with too little of it thousands of them ask in vain. */
#define CONNECTION_MAILBOX_MAX 16384

enum connection_tag {
    /* control, from a poller's thread (no sender) */
    CONNECTION_RECEIVED = 0x300, /* word[0]: bytes; word[1]: enum weir_error */
    CONNECTION_SENT,             /* word[1]: enum weir_error */
    CONNECTION_CLOSED,
    /* control, from itself: there is more to send */
    CONNECTION_WAKE,
    /* control, from the roster: end in order. detail: enum drain */
    CONNECTION_DRAIN,
};

enum drain {
    DRAIN_IN_ORDER,   /* once nothing is on its way to topics or back */
    DRAIN_AT_ONCE,    /* without waiting for topics */
    DRAIN_TAKEN_OVER, /* the same, because its publisher has another session now */
};

/* Why a connection is not read further at present; it is when none is left. */
enum pause {
    PAUSE_DIRECTORY = 1, /* a topic's name is being looked up or made */
    PAUSE_PARKED = 2,    /* topics have no room for what was read */
    PAUSE_REQUESTS = 4,  /* as many requests outstanding as may be */
    PAUSE_URGENT = 8,    /* the peer does not read the answers to what it sends */
    PAUSE_MEMORY = 16,   /* no receive block could be had; tried again soon */
    PAUSE_DRAIN = 64,    /* the connection ends once what it has is done with */
    PAUSE_ORDERS = 32,   /* the directory has no room for what was asked of it */
};

enum connection_timer {
    TIMER_TICK,     /* heartbeat or idle check, periodic */
    TIMER_HELLO,    /* a session's HELLO is due */
    TIMER_SILENCE,  /* a session was silent for as long as is borne */
    TIMER_REQUESTS, /* some request's deadline */
    TIMER_PARTIAL,  /* the rest of a message is due */
    TIMER_MEMORY,   /* a receive block may be had again */
    TIMER_RETRY,    /* a topic or the directory did not answer, or there was no memory to send from */
    TIMER_LINGER,   /* the end of a finishing connection */
    TIMER_GONE,     /* the end of one whose peer has left */
};

/* What a record's fate is told by: on_handed of the ops below. */
struct handed {
    uint32_t owner; /* as given to publisher_add: 0, or a request's token */
    uint32_t count;
    uint64_t number_word;              /* of the first record: TOPIC_NUMBER_WORD */
    const struct record_slice *slices; /* of several, with the steps from number to number; NULL: these are neighbours.
                                          Valid only when they are refused */
    size_t bytes;                      /* keys and values */
    struct view topic;
    bool was_parked;
};

struct connection_ops {
    const char *protocol; /* the peer's, for people: "push" */
    uint32_t parked_max;  /* topics that may hold batches back before nothing more is read */
    size_t state_size;    /* bytes at connection->state, zeroed */

    /* Optional; a failure closes the connection. */
    enum weir_error (*open)(struct connection *connection);
    /* One whole message body, in the receive block. WEIR_OK: done with it. WEIR_AGAIN: the connection was paused in the
     * middle; it is called again with the same body. Anything else: it was closed or is finishing. */
    enum weir_error (*on_body)(struct connection *connection, struct view body);
    /* Optional: a body that on_body will be called with soon, so that what it looks at can be fetched into the
     * processor's caches; changes nothing. */
    void (*on_ahead)(struct connection *connection, struct view body);
    /* Optional: a message that is not the gateway's own (from topics and the directory). May take its holds. */
    void (*on_message)(struct connection *connection, struct message *message);
    /* Optional: the same, of any message, a few messages before: to fetch what that will look at. Changes nothing. */
    void (*ahead_message)(const struct connection *connection, const struct message *message);
    /* Optional: records reached their topic (WEIR_OK) or were refused (why). */
    void (*on_handed)(struct connection *connection, const struct handed *handed, enum weir_error error);
    /* Optional: writes the head item of the data queue into the gather, whole or a part of it; false: it must wait (no
     * room or no credit). True with *done: the item is over and its holds are taken or to be dropped. */
    bool (*render)(struct connection *connection, struct gather *gather, struct message *item, bool *done);
    /* Wraps a reply for its peer: writes what goes before the result (or error) map into head, right up to its end;
     * returns where it starts. Needed where requests are served. */
    size_t (*reply_head)(const struct request_slot *slot, bool ok, uint8_t *head, size_t capacity);
    /* Optional: each of these as its name says. */
    void (*on_timer)(struct connection *connection, enum connection_timer timer);
    void (*on_turn_end)(struct connection *connection);
    /* Optional: answers are still to come from topics, so that an end in order waits. */
    bool (*has_pending)(const struct connection *connection);
    /* Optional: the connection is about to finish in order: tells the peer. */
    void (*on_drain)(struct connection *connection);
    /* Optional: what on_body refused in a way that the peer can be told of, before the connection finishes. */
    void (*on_refused)(struct connection *connection, enum weir_error error, const char *text);
    /* Optional: a whole static SP message that says that there is no memory, for when there is none to say so. */
    struct view (*last_words)(bool is_ipc);
    /* Optional: the peer has left, though records that it sent may wait for their topics a while longer. */
    void (*on_gone)(struct connection *connection);
    /* Optional: the connection ends; releases what state holds. */
    void (*close)(struct connection *connection);
};

/* Written by the connection's actor only, relaxed; read by views on any thread, which want no order among them. */
struct connection_counters {
    _Atomic uint64_t bytes_in, bytes_out, messages_in, messages_out, records_in, records_out;
    _Atomic uint64_t accepted, refused, waiting, dropped, credit, outbox_bytes;
    _Atomic uint32_t subscriptions, feeds;
};

struct connection {
    uint32_t magic;
    uint64_t id;
    struct gateway *gateway;
    const struct connection_ops *ops;
    struct sp_pipe *pipe;
    struct runtime *runtime;
    struct arena *arena;
    struct budget *budget;
    const struct gateway_config *config; /* as it was when the connection began; shared by those of that time */
    weir_actor actor;                    /* written in on_start before the pipe starts (whose lock orders it) */
    uint64_t since_ns;
    const char *peer, *address; /* the pipe's */
    bool is_ipc;
    uint16_t tick_moments; /* of a period: when its periodic timers fire, together with those of others */

    /* The actor's. */
    struct turn *turn; /* the one under way; NULL between turns */
    struct intake intake;
    struct output output;
    struct publisher publisher;
    struct requests requests;
    struct queue orders; /* messages to the directory that wait for its room */
    unsigned paused;     /* enum pause bits */
    bool is_resumed;     /* reading is to go on at the end of this message */
    bool is_retry_armed;
    bool is_closing;    /* the pipe was told to close */
    bool is_gone;       /* the pipe has closed; what waits for topics still does */
    bool is_finishing;  /* nothing more is read; closes when all is sent */
    bool is_draining;   /* asked to end once nothing is on its way */
    bool is_drained;    /* and not to wait for that */
    bool is_taken_over; /* because its publisher has another session */
    bool is_refused;    /* it was cut: connection_refuse */
    bool is_forced;     /* does not wait for topics to take what they hold back */
    bool is_lingering;  /* all is sent; the peer has a moment to read it */
    bool is_started;    /* on_start ran: the pipe has its owner */
    uint64_t heard_ns;  /* when bytes last came */
    void *state;        /* the ops' */
    struct connection_counters counters;

    /* Under `lock`: for views. */
    pthread_mutex_t lock;
    char *client, *blocked_on; /* NULL: nothing, or no memory to say so */

    /* The roster's, under its lock. */
    weir_actor actor_shared; /* the same as actor, for other threads; none before on_start */
    struct connection *next, *previous;
    uint64_t identity_hash; /* of the publisher that its session speaks for; 0: none, or another has taken over */
    uint8_t *identity; /* its name; set once, in a turn of the connection's own, which may read it without the lock */
    uint8_t identity_size; /* 0: none */
    bool is_pipe_closed;   /* on_closed was called */
    bool is_orphan;        /* the actor is gone */
};

extern const struct behaviour connection_behaviour;
extern const struct connection_ops push_ops, request_ops, feed_ops;

static inline void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline void counter_sub(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) - n, memory_order_relaxed);
}

static inline uint64_t counter_get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Closes at once: what waits to be sent is lost, what waits for topics is refused. Twice is fine. */
void connection_close(struct connection *connection);

/* Reads nothing more, sends what there is, then closes; after a short while in any case. */
void connection_finish(struct connection *connection);

/* Cuts a peer that went beyond a bound or broke its protocol: counted, logged once per peer and interval, told through
 * ops->on_refused where its protocol can, then finished or closed. text: a sentence for people, static. */
void connection_refuse(struct connection *connection, enum refusal refusal, enum weir_error error, const char *text);

/* The same for want of memory for something that can neither wait nor be left out. text: static. */
void connection_starve(struct connection *connection, const char *text);

/* What is parked changed: pauses or goes on, as the protocol wants it. */
void connection_parked_changed(struct connection *connection);

void connection_pause(struct connection *connection, enum pause reason);
/* Takes a reason away; reading goes on at the end of this message when none is left. */
void connection_resume(struct connection *connection, enum pause reason);

/* Sends the directory a message, now or when it has room; takes its holds. Only subscriptions and their ends: what is
 * sent stays in order. */
void connection_order(struct connection *connection, const struct message *message);

/* Another turn soon, for what this one left. */
/* Whether there may be so much more in the connection's name with the reserve left. Topics hold on to what was received
 * while each of their mailboxes has room; who took the last of its memory to receive could neither hand over what came
 * nor answer. */
#define CONNECTION_RESERVE_RECEIVE 8 /* receiving leaves an eighth; */
#define CONNECTION_RESERVE_PARSE 16  /* with less than a sixteenth left no message is taken apart */
bool connection_may_have(const struct connection *connection, size_t size, unsigned reserve_part);

void connection_wake(struct connection *connection);
/* Another try in a moment, for what memory or an answer is missing. */
void connection_retry(struct connection *connection);

/* One-shot (period false) or periodic; a failure closes the connection. */
weir_timer connection_timer(struct connection *connection, enum connection_timer timer, uint64_t delay_ms,
                            bool is_periodic);

void connection_name_set(struct connection *connection, struct view client);
void connection_blocked_set(struct connection *connection, struct view topic);

/* Counts n events of a refusal. Any thread. */
void gateway_count(struct gateway *gateway, enum refusal refusal, uint64_t n);

/* Frees all that a connection has; its pipe must have closed. Not in a turn of its own. */
void connection_free(struct connection **connection);

#endif
