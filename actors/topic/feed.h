/* A feed: what a topic knows of one subscription that follows it. Its files are named in state.h. Everything here is
 * the topic's turn's alone, but that others may look under the lock of struct topic_shared. Only actors/topic includes
 * this. */
#ifndef ACTORS_TOPIC_FEED_H
#define ACTORS_TOPIC_FEED_H

#include <string.h>

#include "actors/topic/fold.h"
#include "actors/topic/ring.h"
#include "actors/topic/topic.h"

/* Where a feed stands in its protocol. */
enum feed_phase { FEED_FREE, FEED_BEGIN, FEED_ENTRIES, FEED_END, FEED_LIVE, FEED_ENDED };

/* Which list a feed is in: what it waits for. */
enum feed_list {
    LIST_READY,   /* its turn to be served */
    LIST_IDLE,    /* the next record */
    LIST_WAITING, /* credit */
    LIST_PARKED,  /* room in its subscriber's mailbox */
    LIST_PACED,   /* the time of its next batch */
    LIST_ASKING,  /* admission of its snapshot */
    LIST_COUNT,
    LIST_NONE = LIST_COUNT,
};

#define FEED_NONE UINT32_MAX
/* Bytes a feed may have credit for: more than a window of any subscriber, and with a pair beyond it within 32 bits. */
#define FEED_CREDIT_MAX (INT32_MAX / 2)

/* What came of serving a feed. */
enum step {
    STEP_SENT,
    STEP_CAUGHT_UP, /* nothing to send before the next record */
    STEP_NO_CREDIT,
    STEP_NO_ROOM,
    STEP_EARLY, /* its next batch is not due */
    STEP_ASKED, /* its snapshot is not admitted yet */
    STEP_OVER,  /* the feed has ended */
};

/* What a feed leaves out; behind its struct feed_extra. */
struct feed_filter {
    struct topic_part part;
    struct fold_page page;    /* while one is put together */
    uint64_t told_seq;        /* the newest seq that its subscriber was told of */
    struct ring_cursor ahead; /* between the record that a conflated feed stands at and here it wants none */
    bool is_page_done;        /* and is to be sent */
    bool is_progress_due;     /* it is to be told how far the topic is */
    uint8_t keys[];
};

/* What few feeds need: those with an outbox of their own, a pace, a part of the topic, or policy block or disconnect.
 * In an arena block of its own, with the filter behind it. */
struct feed_extra {
    weir_msg block;
    uint64_t outbox_max;
    uint64_t interval_ns;            /* policy conflate: between batches at least; 0: it has no pace */
    uint64_t due_ns, batch_to;       /* when the next one may begin; where the present one ends */
    uint64_t block_ns;               /* policy block: how long it may hold the topic back; 0: without end */
    uint64_t blocking_since_ns;      /* 0: it does not */
    bool is_released;                /* held the topic back for too long, and is resynced instead */
    uint32_t watch_next, watch_prev; /* among those of policies block and disconnect */
    struct feed_filter *filter;      /* NULL: it gets everything */
};

struct recall;

/* What a feed needs until it has caught up with its topic, live, and again when it starts over or updates are left
 * out; one with a feed_extra has it always. In an arena block of its own. */
struct feed_stage {
    weir_msg block;
    struct feed_extra *extra; /* NULL: nothing of all that */
    union {
        /* While has_cursor: what it asked to resume from. */
        struct {
            uint64_t epoch, seq;
        } asked;
        /* While it has a join. */
        struct fold_cursor entries;
        /* Otherwise, zeroed when that ends (feed_stage_clear). */
        struct {
            uint64_t conflated_from;   /* updates from here to the cursor are left out, newer ones follow; 0: none */
            uint64_t gap_from, gap_to; /* updates left out that it must be told of; gap_from 0: none */
            struct recall *recall;     /* while is_recalling */
        } live;
    } as;
    uint64_t base_seq;    /* whose state the subscriber knows, for a delta; 0: none */
    uint64_t end_seq;     /* of the snapshot or cursor that END closes */
    uint64_t lag_allowed; /* 0, or beyond its outbox: what a snapshot let pile up is not held against it */
};

/* There may be hundreds of thousands, most of which have caught up: they have no more than this. */
struct feed {
    uint32_t feed, sub; /* 0: the slot is free */
    weir_actor subscriber;
    struct ring_cursor cursor;
    struct feed_stage *stage;   /* NULL: it is live and owes nothing, or it has ended */
    uint32_t weight;            /* of the ring where it stood when it was last served, its low bits */
    int32_t credit;             /* bytes; below 0 by what the last pair was beyond it */
    uint32_t next, prev, chain; /* in its list; in its bucket */
    uint32_t link;              /* the directory's number for it */
    enum feed_phase phase : 4;
    enum feed_list list : 4;
    enum overflow_policy policy : 4;
    enum topic_cause cause : 4; /* for BEGIN, RESET and GAP */
    enum weir_error end_error : 8;
    int8_t join : 4;         /* index of its snapshot; -1: none */
    uint8_t overtakings : 4; /* since it had caught up; at most OVERTAKINGS_MAX */
    bool wants_snapshot : 1, wants_updates : 1;
    bool has_cursor : 1;
    bool is_resumed : 1;
    bool is_delta : 1;      /* the snapshot under way is read from base_seq on */
    bool is_conflating : 1; /* until it has caught up */
    bool is_recalling : 1;  /* reads what the ring no longer has out of the state */
    bool is_admitted : 1;   /* its snapshot may begin */
    bool has_gap : 1;       /* updates were left out of what its subscriber knows */
    bool has_begun : 1;     /* its subscriber was sent a BEGIN */
    bool owes_reset : 1, owes_stale : 1, owes_live : 1;
    bool is_stalled : 1; /* was out of credit or room since it was last served */
    bool is_outrun : 1;  /* the ring evicted what follows the snapshot while that was being sent */
    uint16_t resyncs;    /* UINT16_MAX: that many or more */
};

static inline struct feed_extra *feed_extra(const struct feed *feed)
{
    return feed->stage != NULL ? feed->stage->extra : NULL;
}

static inline struct feed_filter *feed_filter(const struct feed *feed)
{
    return feed_extra(feed) != NULL ? feed->stage->extra->filter : NULL;
}

static inline uint64_t feed_outbox_max(const struct feed *feed)
{
    return feed_extra(feed) != NULL ? feed->stage->extra->outbox_max : UINT64_MAX;
}

static inline uint64_t feed_interval_ns(const struct feed *feed)
{
    return feed_extra(feed) != NULL ? feed->stage->extra->interval_ns : 0;
}

/* Policy block: it has held the topic back for too long. */
static inline bool feed_is_released(const struct feed *feed)
{
    return feed_extra(feed) != NULL && feed->stage->extra->is_released;
}

static inline void feed_released_set(struct feed *feed, bool is_released)
{
    if (feed_extra(feed) != NULL)
        feed->stage->extra->is_released = is_released;
}

/* Its snapshot, or what it asked for, is done with. */
static inline void feed_stage_clear(struct feed *feed) { memset(&feed->stage->as, 0, sizeof feed->stage->as); }

/* The first of the updates that it left out and has not told; 0: none. */
static inline uint64_t feed_gap_from(const struct feed *feed)
{
    return feed->stage != NULL ? feed->stage->as.live.gap_from : 0;
}

static inline uint64_t feed_conflated_from(const struct feed *feed)
{
    return feed->stage != NULL ? feed->stage->as.live.conflated_from : 0;
}

static inline uint64_t feed_lag_allowed(const struct feed *feed)
{
    return feed->stage != NULL ? feed->stage->lag_allowed : 0;
}

struct feeds {
    struct feed *table;
    uint32_t *buckets; /* by feed number, behind the table; FEED_NONE ends a chain */
    weir_msg block;
    uint32_t capacity, bucket_count, count;
    uint32_t used, free; /* slots below `used` were taken once; the free ones among them */
    uint32_t watched;    /* first feed of policy block or disconnect */
    struct {
        uint32_t first, last;
    } lists[LIST_COUNT];
};

#endif
