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

/* From TOPIC_PLUGIN on: plugin:NAME, each name that was found once a number of its own, for as long as the program
 * runs. Such a topic keeps a map, which is what its plugin emits; records that others publish go to the plugin. */
enum topic_kind { TOPIC_LAST, TOPIC_MAP, TOPIC_LOG, TOPIC_MERGE };
#define TOPIC_PLUGIN ((enum topic_kind)(TOPIC_MERGE + 1))
#define TOPIC_PLUGIN_LAST ((enum topic_kind)(TOPIC_PLUGIN + 255))
#define PLUGIN_NAME_MAX 32
static inline bool topic_kind_is_plugin(enum topic_kind kind) { return kind >= TOPIC_PLUGIN; }
/* How a topic of that kind keeps its state. */
static inline enum topic_kind topic_kind_of_state(enum topic_kind kind)
{
    return topic_kind_is_plugin(kind) ? TOPIC_MAP : kind;
}
/* Any thread; static storage. */
const char *topic_kind_name(enum topic_kind kind);
/* WEIR_NOT_FOUND; WEIR_FULL: more plugins were named than there are numbers. Any thread. */
WEIR_MUST_USE enum weir_error topic_kind_find(struct view name, enum topic_kind *out);
/* NAME of plugin:NAME. */
const char *topic_kind_plugin(enum topic_kind kind);
/* 1 to PLUGIN_NAME_MAX of a-z, 0-9, '_' and '-'. */
bool plugin_name_is_valid(struct view name);
/* What the actor of a plugin is registered as, see registry_find. */
#define PLUGIN_REGISTRY_PREFIX "plugin:"

/* How the topics of one pattern behave. 0 means: no bound of this sort (but for the ring's, which always has both). */
struct topic_rule {
    enum topic_kind kind;
    size_t log_count_max, log_bytes_max; /* kind log: the state */
    uint64_t log_age_max_ms;
    size_t state_bytes_max;  /* any kind; a record that would go beyond is refused: too-big */
    size_t merged_bytes_max; /* kind merge, of a member, which is one element and goes to subscribers whole; 0: none */
    size_t retain_count_max,
        retain_bytes_max;       /* the ring of updates: what resume and slow subscribers can reach back to */
    uint32_t mailbox_max;       /* batches waiting */
    uint64_t ttl_ms;            /* kinds last and map: of records that do not say; 0: they live until replaced */
    uint64_t bind_grace_ms;     /* from a session's end to the removal of its keys */
    uint32_t bound_keys_max;    /* of one session; 0: the default */
    uint32_t dedup_records_max; /* numbered records remembered of each publisher; 0: the default */
    uint32_t dedup_publishers_max;
};

/* ----------------------------------------------------------------------------------------- messages
 * `word` halves: WORD(high, low). Blocks named here are in message.hold. */
#define TOPIC_WORD(high, low) (((uint64_t)(high) << 32) | (uint32_t)(low))
#define TOPIC_HIGH(word) ((uint32_t)((word) >> 32))
#define TOPIC_LOW(word) ((uint32_t)(word))

/* A record's place in a data block. key_size 0: no key. Both encoded. */
struct record_slice {
    uint32_t key_offset, key_size, value_offset, value_size;
    uint32_t step; /* of several: its number less that of the one before; 0: the next number. Or see TOPIC_MERGED */
};
static inline uint32_t record_step(const struct record_slice *slice) { return slice->step > 0 ? slice->step : 1; }

/* What a batch is published with; holds for each of its records. Stands at the front of hold[1], the slices behind. */
#define PUBLISHER_NAME_MAX 64
#define PUBLISH_TTL_MAX_MS (UINT64_C(10) * 365 * 86400000)
struct publish_options {
    struct publish_with with; /* ttl_ms at most PUBLISH_TTL_MAX_MS */
    uint64_t number;          /* of the first slice, by the publisher's own counting; the next ones follow by one */
    uint8_t publisher_size;   /* 0: nobody counts */
    uint8_t publisher[PUBLISHER_NAME_MAX];
};
_Static_assert(sizeof(struct publish_options) % sizeof(uint64_t) == 0, "slices follow it");

/* TOPIC_PUBLISH word[2]: the publisher's number of the first record (62 bits) and the ack level it wants (2 bits). */
#define TOPIC_NUMBER(word) ((word) >> 2)
#define TOPIC_ACK_LEVEL(word) ((enum ack_level)((word)&3))
#define TOPIC_NUMBER_WORD(number, ack) (((uint64_t)(number) << 2) | (uint64_t)(ack))
/* Records in one TOPIC_PUBLISH at the most, so that a turn stays short. */
#define TOPIC_BATCH_MAX 512

enum topic_tag {
    /* data, to a topic. hold[0]: the data block. detail: records. word[2]: number and ack level.
     * One record: hold[1] none, word[0] WORD(key_offset, key_size), word[1] WORD(value_offset, value_size).
     * Several: hold[1] a block of struct record_slice, word[0] the index of the first to fold, word[1] 0; or, with
     * word[1] TOPIC_WITH_OPTIONS, of struct publish_options and then the slices, even if it is only one; their numbers
     * are neighbours then. Or with word[1] TOPIC_IN_ORDER, see there.
     * The sender checked every value (value_scan) and key. */
    TOPIC_PUBLISH = 0x100,

    /* control, to a topic */
    TOPIC_SUBSCRIBE,   /* hold[0]: a block of struct topic_subscribe, sent by the directory. A refusal is TOPIC_ENDED on
                          the   subscriber's control lane, without TOPIC_BEGIN. */
    TOPIC_UNSUBSCRIBE, /* detail: feed. No more messages of it come after those under way. */
    TOPIC_CREDIT,      /* detail: feed. word[0]: bytes more it may be sent */
    TOPIC_CLEAR,  /* forgets state, new epoch: RESET to its subscribers. word[1]: only if this is still its seq (0: in
                     any case), else WEIR_BUSY; word[2]: the cause, CAUSE_NONE for CAUSE_CLEARED. Replies TOPIC_DONE. */
    TOPIC_DELETE, /* ends it: ENDED to its subscribers. Replies TOPIC_DONE */
    /* control, between a topic of kind plugin:NAME and its plugin */
    TOPIC_PLUGIN_HERE,  /* to a topic, from the directory. word[0]: the plugin's weir_actor bits */
    TOPIC_ATTACH,       /* from a topic: hold[0]: struct topic_attach. The plugin is to take its records */
    TOPIC_ATTACHED,     /* to a topic. word[0]: what its records are to be marked with, below TOPIC_MARK_MAX */
    TOPIC_EMITTED,      /* to a topic: records of its plugin, as TOPIC_PUBLISH; they wait for memory */
    TOPIC_PLUGIN_STATE, /* to a topic. word[0]: 1: the plugin is down, STALE to subscribers; 0: LIVE */
    TOPIC_BURY,         /* to a topic: one record failed for good. hold[0] the data block, word[0] and word[1] key and
                           value as in TOPIC_PUBLISH, word[2] WORD(cause, attempts) */
    TOPIC_PLUGIN_CLEAR, /* from a topic to its plugin, from: who ordered TOPIC_CLEAR. detail: TOPIC_MARKED, no records;
                           word[0]: as in the order. The plugin forgets what it knows of the topic, which then gets
                           the order again, with a cause, or tells why it does not: TOPIC_DONE */
    TOPIC_CLEARED,      /* from a topic to its plugin, for each TOPIC_CLEAR with a cause. detail: TOPIC_MARKED, no
                           records; word[0]: epoch; word[1]: seq */
    /* data, from a topic to its plugin: as TOPIC_PUBLISH, without options, from: the publisher, whom the plugin is to
     * answer. detail: TOPIC_MARKED */
    TOPIC_FORWARDED,

    /* Somebody asks a plugin. hold[0]: a block with the value, word[0] WORD(offset, size) of it; word[1]: the asker's
     * number; word[2]: until when it waits, by the runtime's clock. Data, to a plugin; or control, to a topic of kind
     * plugin:NAME, which passes it on in the asker's name: detail TOPIC_MARKED with a count of one. */
    TOPIC_ASK,
    /* control, to who asked. word[0]: its number; word[1]: enum weir_error. hold[0]: WEIR_OK: the reply, one value;
     * else a sentence that says why, or none */
    TOPIC_ANSWER,

    TOPIC_DONE, /* word[0]: enum weir_error; word[1]: as word[0] of the order */

    /* control, from a topic to a publisher */
    TOPIC_ACK,  /* detail: records. word[0]: number; word[1]: epoch; word[2]: seq of the first. hold[1]: their numbers
                   are no neighbours; detail is TOPIC_SPREAD of the first's index among the batch's slices, which these
                   are, and of the records */
    TOPIC_NACK, /* detail: records. word[0]: number; word[1]: enum weir_error; word[2]: attempts, but with WEIR_CONFLICT
                   the seq of the record that is there (0: none), with TOPIC_NACK_NUMBER when it has the number.
                   hold[0]: a sentence that says why, from a plugin; none: the error says it all */

    /* data, from a topic to a subscriber; detail: feed. In this order, as promised in clients/PROTOCOL.md */
    TOPIC_BEGIN,     /* hold[0]: a block of struct topic_begin */
    TOPIC_ENTRIES,   /* a run of [key|nil, value] pairs: see struct topic_run */
    TOPIC_END,       /* word[0]: epoch; word[1]: seq; word[2]: enum topic_end_flag */
    TOPIC_UPDATES,   /* a run: see struct topic_run */
    TOPIC_GAP,       /* word[0]: from; word[1]: to; word[2]: enum topic_cause */
    TOPIC_CONFLATED, /* as TOPIC_GAP */
    TOPIC_RESET,     /* word[0]: epoch; word[2]: enum topic_cause */
    TOPIC_IDLE,      /* word[0]: seq */
    TOPIC_STALE,     /* word[2]: enum topic_cause */
    TOPIC_LIVE,
    TOPIC_ENDED, /* word[0]: enum weir_error (WEIR_OK: it was asked for or is complete); word[1]: the subscription's
                    number; word[2]: CAUSE_OVERFLOW when policy disconnect cut it */
};

#define TOPIC_WITH_OPTIONS 1
/* TOPIC_EMITTED, word[1]: of records with a merged form. `step` of a slice is then that one's size: it stands behind
 * the value, and is the key's entry in the state; 0: the value is. */
#define TOPIC_MERGED 3
/* TOPIC_PUBLISH of several, word[1]: where one is refused for want of memory so are all that follow it in the batch. */
#define TOPIC_IN_ORDER 2
#define TOPIC_SPREAD(first, count) ((uint32_t)(first) << 16 | (uint32_t)(count))
#define TOPIC_SPREAD_FIRST(detail) ((detail) >> 16)
#define TOPIC_SPREAD_COUNT(detail) ((detail)&UINT32_C(0xffff))
/* TOPIC_FORWARDED: mark and number of records in one. */
#define TOPIC_MARK_BITS 22
#define TOPIC_MARK_MAX (UINT32_C(1) << TOPIC_MARK_BITS)
#define TOPIC_MARKED(mark, count) ((uint32_t)(mark) << 10 | (uint32_t)(count))
#define TOPIC_MARK_OF(detail) ((detail) >> 10)
#define TOPIC_MARKED_COUNT(detail) ((detail)&1023u)
_Static_assert(TOPIC_BATCH_MAX < 1024, "a batch's count is in ten bits");
#define TOPIC_NACK_NUMBER (UINT64_C(1) << 63)

enum topic_end_flag {
    END_IS_DELTA = 1, /* the entries were laid over what was known */
    END_HAS_MORE = 2, /* a page was asked for, and others follow it */
};

/* TOPIC_ENTRIES and TOPIC_UPDATES: `count` pairs are the bytes WORD(offset, size) of hold[0] (a page). With hold[1],
 * count is 1, the page's bytes are the encoded key (or nil) and the value is the bytes word[2]... see topic_run_read.
 * The wire carries key|nil and value one behind the other, so both slices go out as they are.
 *
 * Entries of kind merge have no key, and a map of one as value, which begins with TOPIC_MEMBER_HEAD: a member of the
 * state. Where state is no map there is one entry, and its value is the state. */
#define TOPIC_MEMBER_HEAD 0x81u
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
    CAUSE_DELETED,
    CAUSE_INTERVAL
};
const char *topic_cause_name(enum topic_cause cause);

/* Which records of a topic a feed is about. A record without a key matches only KEY_ANY. */
enum key_match { KEY_ANY, KEY_IS, KEY_BEGINS };

/* A part of a topic that is asked for. The encoded keys stand behind whatever holds this: `key`, whose text is the
 * prefix with KEY_BEGINS, then `after`. */
struct topic_part {
    enum key_match match;
    uint16_t key_size, after_size; /* 0: none */
    /* Not 0: a page, from the entry behind `after` on in the order of the map's hash, so many entries and bytes of
     * pairs at the most, but at least one entry. */
    uint32_t page_entries_max, page_bytes_max;
};
static inline uint32_t topic_part_size(const struct topic_part *part)
{
    return (uint32_t)part->key_size + part->after_size;
}

struct topic_subscribe {
    weir_actor subscriber;
    uint32_t sub, feed;          /* sub: the subscriber's own number; feed: unique in the broker */
    uint32_t link;               /* the directory's number of the feed */
    enum overflow_policy policy; /* not POLICY_UNKNOWN */
    bool snapshot, updates;
    bool has_cursor;
    uint64_t epoch, seq;  /* the cursor */
    uint32_t credit;      /* bytes of entries and updates it may be sent at first; one pair more than that may come */
    size_t outbox_max;    /* bytes it may fall behind, live, before its policy acts; 0: the whole ring */
    uint32_t interval_ms; /* policy conflate: between batches at least; 0: as soon as it can */
    uint32_t block_ms;    /* policy block: it holds the topic back at most so long; 0: as long as it takes */
    struct topic_part part;
    uint8_t keys[]; /* the part's */
};

struct topic_begin {
    uint32_t sub;
    uint32_t credit; /* bytes that it may be sent from now on */
    enum topic_kind kind;
    bool resumed, delta;
    enum topic_cause cause;
    weir_actor topic;
    uint64_t epoch, seq;
    uint64_t state_bytes, entries; /* for progress */
    uint16_t name_size;
    uint8_t name[];
};

struct topic_attach {
    uint64_t epoch, seq;
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
    uint64_t duplicates;               /* numbered ones that were folded before, and answered as then */
    uint64_t resyncs;
    /* Pages of state that were written anew, for records or for a reader alone (get's pages); and pages of snapshots
     * that went to subscribers, each a reference. So a page is built once however many read it. */
    uint64_t pages_built, pages_sent;
    bool is_stale; /* suspended by a failure */
    uint32_t restarts;
    enum weir_error last_cause;
    /* what holds it back at present */
    uint32_t blocked_feed; /* a subscriber with policy block whose cursor the ring may not pass; 0: none */
    weir_actor blocked_by;
    uint64_t blocked_since_ns;
    uint64_t short_since_ns; /* no memory for what its plugin emitted; 0: there is */
};

struct feed_status {
    char topic[256];
    uint32_t sub, feed;
    weir_actor subscriber;
    enum overflow_policy policy;
    const char *phase; /* "snapshot", "live", "waiting" (no credit), "paced" (its next batch is not due),
                        "admission" (of its snapshot: the broker has many to send) */
    uint64_t seq, lag; /* updates behind */
    size_t lag_bytes;  /* of what is retained and waits for it */
    uint64_t credit, resyncs;
};

#endif
