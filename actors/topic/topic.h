/* Topic actors: what they are told and what they tell. Every topic is one actor that folds the records published to it
 * into state, keeps the newest updates in a ring of pages, and feeds its subscribers from state and ring by reference.
 *
 * The way of a record: a connection sends TOPIC_PUBLISH; the topic folds it, gives it the next seq and appends key and
 * value in wire encoding to the ring; at the end of its turn each subscriber with credit gets TOPIC_UPDATES, a slice of
 * a ring page that goes to the socket as it is. A subscriber is a cursor into the ring, so a slow one costs the topic
 * nothing but the ring, which is bounded; one that is overtaken is handled by its overflow policy.
 *
 * A snapshot holds the state's pages as they are at one seq (copied on write afterwards), and is read page by page as
 * the subscriber's credit allows; joiners at the same seq share it. */
#ifndef ACTORS_TOPIC_TOPIC_H
#define ACTORS_TOPIC_TOPIC_H

#include "actors/runtime/actor.h"
#include "clients/wire/frame.h"

enum topic_kind { TOPIC_LAST, TOPIC_MAP, TOPIC_LOG, TOPIC_MERGE };
const char *topic_kind_name(enum topic_kind kind);
WEIR_MUST_USE enum weir_error topic_kind_find(struct view name, enum topic_kind *out);

/* How the topics of one pattern behave. 0 means: no bound of this sort (but for the ring's, which always has both). */
struct topic_rule {
    enum topic_kind kind;
    size_t log_count_max, log_bytes_max; /* kind log: the state */
    uint64_t log_age_max_ms;
    size_t state_bytes_max;  /* any kind; a record that would go beyond is refused: too-big */
    size_t merged_bytes_max; /* kind merge, whose map is one element and goes to subscribers whole; 0: no bound */
    size_t retain_count_max,
        retain_bytes_max; /* the ring of updates: what resume and slow subscribers can reach back to */
    uint32_t mailbox_max; /* batches waiting */
};

/* ----------------------------------------------------------------------------------------- messages
 * `word` halves: WORD(high, low). Blocks named here are in message.hold. */
#define TOPIC_WORD(high, low) (((uint64_t)(high) << 32) | (uint32_t)(low))
#define TOPIC_HIGH(word) ((uint32_t)((word) >> 32))
#define TOPIC_LOW(word) ((uint32_t)(word))

/* A record's place in a data block. key_size 0: no key. Both encoded. */
struct record_slice {
    uint32_t key_offset, key_size, value_offset, value_size;
};

/* TOPIC_PUBLISH word[2]: the publisher's number of the first record (62 bits) and the ack level it wants (2 bits). */
#define TOPIC_NUMBER(word) ((word) >> 2)
#define TOPIC_ACK_LEVEL(word) ((enum ack_level)((word)&3))
#define TOPIC_NUMBER_WORD(number, ack) (((uint64_t)(number) << 2) | (uint64_t)(ack))
/* Records in one TOPIC_PUBLISH at the most, so that a turn stays short. */
#define TOPIC_BATCH_MAX 512

enum topic_tag {
    /* data, to a topic. hold[0]: the data block. detail: records. word[2]: number and ack level.
     * One record: hold[1] none, word[0] WORD(key_offset, key_size), word[1] WORD(value_offset, value_size).
     * Several: hold[1] a block of struct record_slice, word[0] the index of the first to fold, word[1] 0.
     * The sender checked every value (value_scan) and key. */
    TOPIC_PUBLISH = 0x100,

    /* control, to a topic */
    TOPIC_SUBSCRIBE,   /* hold[0]: a block of struct topic_subscribe, sent by the directory. A refusal is TOPIC_ENDED on
                          the   subscriber's control lane, without TOPIC_BEGIN. */
    TOPIC_UNSUBSCRIBE, /* detail: feed. No more messages of it come after those under way. */
    TOPIC_CREDIT,      /* detail: feed. word[0]: slot as given in TOPIC_BEGIN; word[1]: bytes more it may be sent */
    TOPIC_CLEAR,  /* forgets state, new epoch: RESET to its subscribers. word[1]: only if this is still its seq (0: in
                     any case), else WEIR_BUSY. Replies TOPIC_DONE. */
    TOPIC_DELETE, /* ends it: ENDED to its subscribers. Replies TOPIC_DONE */
    TOPIC_DONE,   /* word[0]: enum weir_error; word[1]: as word[0] of the order */

    /* control, from a topic to a publisher */
    TOPIC_ACK,  /* detail: records. word[0]: number; word[1]: epoch; word[2]: seq of the first */
    TOPIC_NACK, /* detail: records. word[0]: number; word[1]: enum weir_error; word[2]: attempts */

    /* data, from a topic to a subscriber; detail: feed. In this order, as promised in clients/PROTOCOL.md */
    TOPIC_BEGIN,   /* hold[0]: a block of struct topic_begin */
    TOPIC_ENTRIES, /* a run of [key|nil, value] pairs: see struct topic_run */
    TOPIC_END,     /* word[0]: epoch; word[1]: seq */
    TOPIC_UPDATES, /* a run: see struct topic_run */
    TOPIC_GAP,     /* word[0]: from; word[1]: to; word[2]: enum topic_cause */
    TOPIC_CONFLATED,
    TOPIC_RESET, /* word[0]: epoch; word[2]: enum topic_cause */
    TOPIC_IDLE,  /* word[0]: seq */
    TOPIC_STALE, /* word[2]: enum topic_cause */
    TOPIC_LIVE,
    TOPIC_ENDED, /* word[0]: enum weir_error (WEIR_OK: it was asked for or is complete) */
};

/* TOPIC_ENTRIES and TOPIC_UPDATES: `count` pairs are the bytes WORD(offset, size) of hold[0] (a page). With hold[1],
 * count is 1, the page's bytes are the encoded key (or nil) and the value is the bytes word[2]... see topic_run_read.
 * The wire carries key|nil and value one behind the other, so both slices go out as they are. */
struct topic_run {
    uint32_t feed, count;
    uint64_t seq;       /* of the first pair; updates only */
    struct slice pairs; /* in hold[0] */
    struct slice value; /* in hold[1]; block none: the values are in pairs */
};
/* hold[1] none: word[0] WORD(offset, size), word[1] count, word[2] seq. hold[1]: word[0] WORD(key offset, key size),
 * word[1] WORD(value offset, value size), word[2] seq. */
static inline struct topic_run topic_run_read(const struct message *message)
{
    struct topic_run run = {.feed = message->detail, .seq = message->word[2]};
    run.pairs = (struct slice){message->hold[0], TOPIC_HIGH(message->word[0]), TOPIC_LOW(message->word[0])};
    run.count = (uint32_t)message->word[1];
    if (!msg_is_none(message->hold[1])) {
        run.count = 1;
        run.value = (struct slice){message->hold[1], TOPIC_HIGH(message->word[1]), TOPIC_LOW(message->word[1])};
    }
    return run;
}

enum topic_cause {
    CAUSE_NONE,
    CAUSE_NEW,
    CAUSE_EPOCH,
    CAUSE_TRIMMED,
    CAUSE_OVERFLOW,
    CAUSE_CLEARED,
    CAUSE_RESTART,
    CAUSE_DELETED
};
const char *topic_cause_name(enum topic_cause cause);

struct topic_subscribe {
    weir_actor subscriber;
    uint32_t sub, feed;          /* sub: the subscriber's own number; feed: unique in the broker */
    uint32_t link;               /* the directory's number of the feed */
    enum overflow_policy policy; /* POLICY_RESYNC or POLICY_BLOCK */
    bool snapshot, updates;
    bool has_cursor;
    uint64_t epoch, seq; /* the cursor */
    uint32_t credit;     /* bytes of entries and updates it may be sent at first; one pair more than that may come */
    size_t outbox_max;   /* bytes it may fall behind, live, before its policy acts; 0: the whole ring */
    uint16_t key_size;   /* GET of one key: only that entry (encoded key follows); 0: all */
    uint8_t key[];
};

struct topic_begin {
    uint32_t sub, slot; /* slot: give it back in TOPIC_CREDIT */
    enum topic_kind kind;
    bool resumed;
    enum topic_cause cause;
    weir_actor topic;
    uint64_t epoch, seq;
    uint64_t state_bytes, entries; /* for progress */
    uint16_t name_size;
    uint8_t name[];
};

/* The runtime's on_dead_letter: takes the record that failed out of a TOPIC_PUBLISH, has its topic publish it to
 * $dead/TOPIC as a map {key, value, cause, attempts, seq, time}, and tells its publisher with TOPIC_NACK
 * (WEIR_POISONED). Messages to other actors are logged and dropped. context is not used. */
bool topic_dead_letter(struct turn *turn, struct message *message, enum weir_error cause, uint32_t attempts,
                       void *context);

/* ------------------------------------------------------------------------------------------- status */

/* About now; filled from counters that the topic publishes at the end of each turn. Any thread. */
struct topic_status {
    char name[256];
    weir_actor actor;
    enum topic_kind kind;
    uint64_t epoch, seq;
    size_t state_bytes, ring_bytes, entries;
    uint32_t depth, depth_max, subscribers;
    uint64_t published, refused, dead; /* records: folded, refused (full, too big), quarantined */
    uint64_t resyncs;
    bool is_stale; /* suspended by a failure */
    uint32_t restarts;
    enum weir_error last_cause;
    /* what holds it back at present */
    uint32_t blocked_feed; /* a subscriber with policy block whose cursor the ring may not pass; 0: none */
    weir_actor blocked_by;
    uint64_t blocked_since_ns;
};

struct feed_status {
    char topic[256];
    uint32_t sub, feed;
    weir_actor subscriber;
    enum overflow_policy policy;
    const char *phase; /* "snapshot", "live", "waiting" (no credit) */
    uint64_t seq, lag; /* updates behind */
    size_t lag_bytes;
    uint64_t credit, resyncs;
};

#endif
