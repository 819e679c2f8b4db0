/* Session frames: what the two ends of a PAIR0 connection say to each other. One SP message carries one frame, a
 * msgpack array whose first element is the op. clients/PROTOCOL.md is the contract; this is its code, for broker and
 * client. Reading gives views into the frame's bytes. Pure functions, any thread.
 *
 * A *feed* is one topic under one subscription: the broker numbers it in BEGIN, the frames after name it by that
 * number. */
#ifndef CLIENTS_WIRE_FRAME_H
#define CLIENTS_WIRE_FRAME_H

#include "clients/wire/value.h"

#define SESSION_VERSION 1
/* Aliases a session may use: a table of 65,536 topics at most on either side. */
#define ALIAS_MAX UINT32_C(65535)

enum frame_op {
    /* both ways */
    FRAME_HELLO = 0,  /* [0, version, {client|server: str, credit?, message_max?, heartbeat_ms?, publisher?,
                         publish_with?, hold?, records_max?, depth_max?}] */
    FRAME_PING = 1,   /* [1, n] */
    FRAME_PONG = 2,   /* [2, n] */
    FRAME_CREDIT = 3, /* [3, total]: bytes of data frames the other side may have sent since the start, in all */
    FRAME_CLOSE = 4,  /* [4, code, message]: the last frame of its sender */
    /* client to broker */
    FRAME_ALIAS = 8,         /* [8, alias, topic]: names a topic for PUBLISH; alias < 2^16, may be renamed */
    FRAME_PUBLISH = 9,       /* [9, alias|topic, number, ack, [key|nil, value, key|nil, value, ...]] data frame;
                                number: of its first record, rising by one a record; ack: enum ack_level */
    FRAME_SUBSCRIBE = 10,    /* [10, sub, pattern, {policy?, snapshot?, updates?, outbox?, interval_ms?, block_ms?,
                                key?, prefix?, cursors?}]; cursors: [[topic, epoch, seq]...] */
    FRAME_UNSUBSCRIBE = 11,  /* [11, sub] */
    FRAME_REQUEST = 12,      /* [12, id, verb, {args}]: as REQ */
    FRAME_PUBLISH_WITH = 13, /* [13, alias|topic, number, ack, {if_seq?, if_absent?, ttl_ms?, bind?}, [key|nil, value,
                               ...]] data frame: PUBLISH, with options that hold for each of its records */
    FRAME_HOLD = 14,         /* [14, on]: what is held back of ACKs is sent now; on: later ones may be held back */
    /* broker to client */
    FRAME_ACK = 16,          /* [16, number, count, epoch, seq]: records number..number+count-1 have seq, seq+1, ... */
    FRAME_REFUSED = 17,      /* [17, number, count, code, message, {topic?, cause?, retry_ms?, seq?}] */
    FRAME_SUBSCRIBED = 18,   /* [18, sub, topics]: live from here; topics: how many match now */
    FRAME_UNSUBSCRIBED = 19, /* [19, sub, code, message]: its last frame; code "ok" when asked for */
    FRAME_REPLY = 20,        /* [20, id, "ok"|"error", {...}] */
    FRAME_BEGIN = 21,        /* [21, sub, feed, topic, kind, epoch, seq, {resumed?, delta?, cause?}] */
    FRAME_ENTRIES = 22,      /* [22, feed, [key|nil, value, ...]] data frame: elements of the snapshot */
    FRAME_END = 23,          /* [23, feed, epoch, seq, {delta?}] */
    FRAME_UPDATES = 24,      /* [24, feed, seq, [key|nil, value, ...]] data frame: seq of the first */
    FRAME_GAP = 25,          /* [25, feed, from, to, cause] */
    FRAME_CONFLATED = 26,    /* [26, feed, from, to, cause] */
    FRAME_RESET = 27,        /* [27, feed, epoch, cause]: what was known of this topic is void; BEGIN follows */
    FRAME_IDLE = 28,         /* [28, feed, seq] */
    FRAME_STALE = 29,        /* [29, feed, cause]: its topic is being restarted */
    FRAME_LIVE = 30,         /* [30, feed] */
    FRAME_ENDED = 31,        /* [31, feed, code]: the topic was deleted, or the feed cut by its policy */
};

enum ack_level { ACK_NONE, ACK_ACCEPTED, ACK_FOLDED, ACK_DURABLE };
/* POLICY_UNKNOWN: a word of a later version; the receiver refuses the subscription, not the frame. */
enum overflow_policy { POLICY_RESYNC, POLICY_BLOCK, POLICY_CONFLATE, POLICY_DROP, POLICY_DISCONNECT, POLICY_UNKNOWN };

/* By their names in frames, requests and on the command line ("folded", "resync"). WEIR_NOT_FOUND. */
WEIR_MUST_USE enum weir_error ack_level_find(struct view name, enum ack_level *out);
WEIR_MUST_USE enum weir_error policy_find(struct view name, enum overflow_policy *out);
const char *ack_level_name(enum ack_level level);
const char *policy_name(enum overflow_policy policy);
/* "hello", "publish", ...; "unknown" for no op. */
const char *frame_op_name(enum frame_op op);

/* What a record may be published with. */
struct publish_with {
    bool has_if_seq, bind;
    uint64_t if_seq; /* 0: there must be none (if_absent) */
    uint64_t ttl_ms; /* 0: as the topic's rule says */
};

struct cursor {
    struct view topic;
    uint64_t epoch, seq;
};

struct frame {
    enum frame_op op;
    union {
        struct {
            uint64_t version, credit, message_max, heartbeat_ms;
            uint64_t records_max, depth_max; /* a broker's: of one PUBLISH, of one value */
            struct view peer;
            struct view publisher; /* a client's identity for deduplication; size 0: none */
            bool is_server;
            bool publish_with; /* a broker's: it takes PUBLISH_WITH, and publisher */
            bool hold;         /* a broker's: it takes HOLD */
        } hello;               /* is_server: peer is called "server" instead of "client" */
        struct {
            uint64_t n;
        } ping, pong;
        struct {
            uint64_t total;
        } credit;
        struct {
            struct view code, message;
        } close;
        struct {
            uint32_t alias;
            struct view topic;
        } alias; /* alias: at most ALIAS_MAX */
        struct {
            bool has_alias;
            uint32_t alias;
            struct view topic;
            uint64_t number;
            enum ack_level ack;
            uint32_t count;
            struct view items;
            struct publish_with with; /* PUBLISH_WITH */
        } publish;                    /* items: count pairs, see items_next */
        struct {
            uint32_t sub;
            struct view pattern;
            enum overflow_policy policy;
            bool snapshot, updates;
            uint64_t outbox, interval_ms, block_ms;
            struct view key, prefix; /* encoded; size 0: not given */
            uint32_t cursor_count;
            struct view cursors;
        } subscribe; /* see cursors_next */
        struct {
            uint32_t sub;
        } unsubscribe;
        struct {
            uint64_t id;
            struct view verb, args;
        } request;
        struct {
            bool on;
        } hold;
        struct {
            uint64_t number;
            uint32_t count;
            uint64_t epoch, seq;
        } ack;
        struct {
            uint64_t number;
            uint32_t count;
            struct view code, message, topic, cause;
            uint64_t retry_ms;
            uint64_t seq;
        } refused;
        struct {
            uint32_t sub;
            uint64_t topics;
        } subscribed;
        struct {
            uint32_t sub;
            struct view code, message;
        } unsubscribed;
        struct {
            uint64_t id;
            bool ok;
            struct view result;
        } reply; /* result: encoded map */
        struct {
            uint32_t sub, feed;
            struct view topic, kind;
            uint64_t epoch, seq;
            bool resumed, delta;
            struct view cause;
        } begin;
        struct {
            uint32_t feed;
            uint32_t count;
            struct view items;
        } entries;
        struct {
            uint32_t feed;
            uint64_t epoch, seq;
            bool delta;
        } end;
        struct {
            uint32_t feed;
            uint64_t seq;
            uint32_t count;
            struct view items;
        } updates;
        struct {
            uint32_t feed;
            uint64_t from, to;
            struct view cause;
        } gap, conflated;
        struct {
            uint32_t feed;
            uint64_t epoch;
            struct view cause;
        } reset;
        struct {
            uint32_t feed;
            uint64_t seq;
        } idle;
        struct {
            uint32_t feed;
            struct view cause;
        } stale, ended;
        struct {
            uint32_t feed;
        } live;
    } as;
};

/* Takes a whole SP message body apart; unknown keys in maps are ignored, unknown ops and wrong types refused, trailing
 * bytes refused. Keys that are left out of maps get their defaults (PROTOCOL.md); topics and patterns are str, their
 * grammar is the caller's to check, and so is hello.version. The items of PUBLISH, ENTRIES and UPDATES are not looked
 * into: whoever takes them off with items_next refuses the frame when they are not exactly `count` pairs.
 * WEIR_BAD_REQUEST with *reason (may be NULL) a static sentence. */
WEIR_MUST_USE enum weir_error frame_read(struct view body, unsigned depth_max, struct frame *out, const char **reason);

/* Takes the next [key|nil, value] pair off items: key encoded (size 0 for nil). WEIR_AGAIN at the end,
 * WEIR_BAD_REQUEST. */
WEIR_MUST_USE enum weir_error items_next(struct view *items, unsigned depth_max, struct view *key, struct view *value);
/* Are the items count pairs, each of them well-formed? */
bool items_are_whole(struct view items, unsigned depth_max, uint32_t count);
/* Takes the next cursor off subscribe.cursors. WEIR_AGAIN at the end; frame_read has checked their form. */
WEIR_MUST_USE enum weir_error cursors_next(struct view *cursors, struct cursor *out);

/* Writes any frame whole, its items included (frame->as.*.items copied); sets writer->is_full when it does not fit.
 * Options that have their default value are left out. */
void frame_write(struct value_writer *writer, const struct frame *frame);

/* Writes only what comes before the items of a PUBLISH, PUBLISH_WITH, ENTRIES or UPDATES frame with `count` pairs; the
 * sender lets the items' bytes follow, from wherever they are. At most FRAME_HEAD_SIZE_MAX bytes. */
#define FRAME_HEAD_SIZE_MAX (128 + 256)
void frame_head_write(struct value_writer *writer, const struct frame *frame);

#endif
