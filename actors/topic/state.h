/* A topic's own state, and how its files share the work:
 *
 *   topic.c     the behaviour: start, dispatch, end of turn, end
 *   publish.c   records: fold, ring, acks; held back while a subscriber blocks
 *   dead.c      records that failed for good
 *   feeds.c     the table of feeds and its lists
 *   joins.c     snapshots under way, shared by those who joined at one seq
 *   deliver.c   what feeds are sent
 *   status.c    what others may know of it
 *
 * Everything here is the turn's alone, but for struct topic_shared. Only actors/topic includes this. */
#ifndef ACTORS_TOPIC_STATE_H
#define ACTORS_TOPIC_STATE_H

#include <pthread.h>

#include "actors/runtime/runtime.h"
#include "actors/topic/fold.h"
#include "actors/topic/ring.h"
#include "actors/topic/topic.h"
#include "actors/topic/topic_limits.h"

#define TOPIC_MAGIC UINT32_C(0x746f7069)

/* Messages among topics and their directory; control. */
enum topic_internal_tag {
    TOPIC_SERVE = 0x180, /* to itself: feeds are left to be served */
    TOPIC_RESUME,        /* to itself: records held back may go on */
    TOPIC_RESUMED,       /* a TOPIC_PUBLISH that was held back; never sent */
    TOPIC_BURY, /* to itself, from topic_dead_letter: hold[0] the data block, word[0] and word[1] key and value as in
                   TOPIC_PUBLISH, word[2] WORD(cause, attempts) */
    DIRECTORY_PRESSURE, /* control, to the directory: topics use nearly all they may */
    TOPIC_TRIM,         /* control, from the directory: memory is short, halve the ring */
};

/* Where a feed stands in its protocol. */
enum feed_phase { FEED_FREE, FEED_BEGIN, FEED_ENTRIES, FEED_END, FEED_LIVE, FEED_ENDED };

/* Which list a feed is in: what it waits for. */
enum feed_list {
    LIST_READY,   /* its turn to be served */
    LIST_IDLE,    /* the next record */
    LIST_WAITING, /* credit */
    LIST_PARKED,  /* room in its subscriber's mailbox */
    LIST_COUNT,
    LIST_NONE = LIST_COUNT,
};

#define FEED_NONE UINT32_MAX

struct feed {
    uint32_t feed, sub; /* 0: the slot is free */
    weir_actor subscriber;
    int64_t credit;  /* bytes; below 0 by what the last pair was beyond it */
    uint64_t weight; /* of the ring where it stood when it was last served */
    uint64_t outbox_max;
    uint64_t lag_allowed;              /* at least outbox_max; what a snapshot let pile up is not held against it */
    uint64_t cursor_epoch, cursor_seq; /* what it asked to resume from */
    struct ring_cursor cursor;
    struct fold_cursor entries;
    uint64_t end_seq;          /* of the snapshot or cursor that END closes */
    uint64_t gap_from, gap_to; /* updates left out that it must be told of; gap_from 0: none */
    weir_msg key;              /* of a subscription to one key */
    uint32_t key_size;
    uint32_t resyncs;
    uint32_t next, prev, chain;      /* in its list; in its bucket */
    uint32_t link;                   /* the directory's number for it */
    uint32_t block_next, block_prev; /* among those of policy block */
    enum feed_phase phase;
    enum feed_list list;
    enum overflow_policy policy;
    enum topic_cause cause; /* for BEGIN, RESET and GAP */
    enum weir_error end_error;
    int8_t join; /* index of its snapshot; -1: none */
    bool wants_snapshot, wants_updates;
    bool has_cursor;
    bool is_resumed;
    bool owes_reset, owes_stale, owes_live;
    bool is_stalled; /* was out of credit or room since it was last served */
};

struct feeds {
    struct feed *table;
    uint32_t *buckets; /* by feed number; FEED_NONE ends a chain */
    weir_msg block, bucket_block;
    uint32_t capacity, count, free;
    uint32_t blockers; /* first feed of policy block */
    struct {
        uint32_t first, last, count;
    } lists[LIST_COUNT];
};

/* A snapshot under way. */
struct join {
    struct fold_snapshot snapshot;
    struct ring_cursor cursor; /* behind its seq */
    uint64_t epoch, seq;
    uint64_t number; /* the order of capture */
    uint32_t refs;   /* feeds that read it */
};

/* What others may look at: published by the topic at the end of its turns, under the lock. The feeds' table too is
 * changed under the lock only, so that it can be read in place. In an arena block that topic and directory hold. */
struct topic_shared {
    pthread_mutex_t lock;
    struct arena *arena;
    const struct feeds *feeds; /* NULL: the topic has ended */
    uint64_t seq, weight;      /* of the ring */
    weir_actor actor;
    enum topic_kind kind;
    uint64_t epoch;
    size_t state_bytes, ring_bytes, entries;
    uint32_t depth_max, restarts;
    uint64_t published, refused, dead, resyncs;
    bool is_stale;
    enum weir_error last_cause;
    uint32_t blocked_feed;
    weir_actor blocked_by;
    uint64_t blocked_since_ns;
    uint32_t stashed; /* batches held back */
    uint16_t name_size;
    char name[];
};

struct topic_args {
    weir_msg shared; /* the topic takes over this reference when it starts */
    weir_actor directory;
    struct budget *budget;       /* its own: borrowed, the directory's as long as the topic lives */
    struct budget *feeds_budget; /* feeds and joins: subscribers must not use up the state's */
    struct budget *all_budget;   /* of all topics: looked at, see pressure_tell */
    struct topic_rule rule;
    uint64_t epoch, seed;
};

struct topic {
    uint32_t magic;
    weir_msg shared_block;
    struct topic_shared *shared;
    struct arena *arena;
    struct budget *budget, *feeds_budget, *all_budget;
    weir_actor directory;
    struct topic_rule rule;
    uint64_t epoch;
    struct fold fold;
    struct ring ring;
    struct feeds feeds;

    struct join *joins[TOPIC_SNAPSHOTS_MAX];
    weir_msg join_blocks[TOPIC_SNAPSHOTS_MAX];
    uint64_t joins_made;

    uint64_t served_seq, served_weight; /* what idle feeds were last woken for */
    uint64_t block_seq, block_weight;   /* no record beyond either before block feeds have moved on */
    struct message *stash;              /* batches taken from the mailbox and held back, oldest first */
    weir_msg stash_block;
    uint32_t stash_count, stash_first, stash_capacity;
    uint32_t blocked_slot; /* feed that blocks; FEED_NONE */
    uint64_t blocked_since_ns;

    uint64_t published, refused, dead, resyncs;
    uint32_t turn_records; /* folded in this turn */
    uint32_t failures;     /* of the message in hand, in a row */
    uint32_t restarts;
    enum weir_error last_cause;
    uint64_t pressure_page; /* of the ring, when memory was last looked at */
    bool is_muted, is_closing, is_drained, is_stale_told;
    bool is_serve_sent, is_resume_sent, has_expiry;
    bool has_joiners; /* feeds opened since feeds were served last */
};

/* publish.c */
WEIR_MUST_USE enum weir_error topic_publish(struct turn *turn, struct topic *topic, struct message *message);
/* TOPIC_RESUME: turns *message into the oldest batch held back and publishes it. */
WEIR_MUST_USE enum weir_error topic_resume(struct turn *turn, struct topic *topic, struct message *message);
/* TOPIC_RESUMED: the same once more, after a failure. */
WEIR_MUST_USE enum weir_error topic_publish_resumed(struct turn *turn, struct topic *topic, struct message *message);
/* The first record of a batch that is not folded yet. */
struct record_slice batch_first(struct arena *arena, const struct message *batch);
/* Notes in the message itself that this record is done with, so that a retry begins behind. */
void batch_advance(struct message *batch);
/* Recomputes how far records may go before a subscriber of policy block has moved on. */
void topic_limits_update(struct turn *turn, struct topic *topic);
/* Sends TOPIC_RESUME when batches held back may go on; unmutes when there are none. */
void topic_unblock(struct turn *turn, struct topic *topic);
/* Refuses everything held back. */
void topic_stash_refuse(struct turn *turn, struct topic *topic, enum weir_error error);
/* Epochs rise: microseconds since 1970, so that they differ between runs of a broker and fit a double. */
uint64_t topic_epoch_next(uint64_t last);

/* dead.c */
WEIR_MUST_USE enum weir_error topic_bury(struct turn *turn, struct topic *topic, struct message *message);

/* feeds.c. Table changes only under shared->lock. */
void feeds_init(struct feeds *feeds);
void feeds_fini(struct topic *topic);
/* A free slot, listed nowhere. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error feeds_add(struct topic *topic, uint32_t number, uint32_t *slot_out);
void feeds_remove(struct topic *topic, uint32_t slot);
/* FEED_NONE: there is none of that number. */
uint32_t feeds_find(const struct feeds *feeds, uint32_t number);
void feeds_list(struct feeds *feeds, uint32_t slot, enum feed_list list);
void feeds_block(struct feeds *feeds, uint32_t slot);
/* Moves all of one list behind the ready ones. */
void feeds_wake(struct feeds *feeds, enum feed_list list);

/* joins.c */
WEIR_MUST_USE enum weir_error join_take(struct topic *topic, struct feed *feed);
void join_leave(struct topic *topic, struct feed *feed);

/* deliver.c */
WEIR_MUST_USE enum weir_error feed_open(struct turn *turn, struct topic *topic,
                                        const struct topic_subscribe *subscribe);
/* Serves ready feeds, a bounded number of messages; sends TOPIC_SERVE when some are left. Takes shared->lock. */
void topic_serve(struct turn *turn, struct topic *topic);
/* Starts a feed over with BEGIN. */
void feed_restart(struct topic *topic, uint32_t slot, enum topic_cause cause);
/* Lets every feed be told STALE or LIVE. */
void feeds_notify(struct topic *topic, bool is_stale);

/* status.c */
void topic_shared_publish(struct turn *turn, struct topic *topic);
/* Any thread. */
void topic_shared_status(struct runtime *runtime, struct topic_shared *shared, struct topic_status *out);
/* Calls each for every feed under the topic's lock. False: each returned false. Any thread. */
bool topic_shared_feeds_each(struct topic_shared *shared, bool (*each)(const struct feed_status *status, void *context),
                             void *context);

extern const struct behaviour topic_behaviour;

#endif
