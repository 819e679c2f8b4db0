/* A topic's own state, and how its files share the work:
 *
 *   topic.c     the behaviour: start, dispatch, end of turn, end
 *   publish.c   records: fold, ring, acks; held back while a subscriber blocks
 *   limits.c    how far they may go before those who block have moved on
 *   stash.c     batches that are held back
 *   forward.c   records of a topic whose kind is a plugin, on their way to it
 *   options.c   records that are published with options: numbers, conditions, an end of their own
 *   lapse.c     that end: keys whose time or session is over
 *   dead.c      records that failed for good
 *   feeds.c     the table of feeds and its lists; how they come and go
 *   joins.c     snapshots under way, shared by those who joined at one seq
 *   deliver.c   what feeds are sent
 *   delta.c     of deltas
 *   filter.c    what feeds of a part of the topic are not, and what else only some feeds have
 *   overflow.c  what becomes of feeds that cannot keep up
 *   conflate.c  feeds that get only the newest of each key, and their pace
 *   recall.c    the same where the ring has left them behind
 *   status.c    what others may know of it
 *
 * Everything here is the turn's alone, but for struct topic_shared. Only actors/topic includes this. */
#ifndef ACTORS_TOPIC_STATE_H
#define ACTORS_TOPIC_STATE_H

#include <pthread.h>
#include <string.h>

#include "actors/base/log.h"
#include "actors/runtime/runtime.h"
#include "actors/topic/dedup.h"
#include "actors/topic/admission.h"
#include "actors/topic/feed.h"
#include "actors/topic/fold.h"
#include "actors/topic/marks.h"
#include "actors/topic/ring.h"
#include "actors/topic/shared.h"
#include "actors/topic/topic.h"
#include "actors/topic/topic_limits.h"

#define TOPIC_MAGIC UINT32_C(0x746f7069)

/* Messages among topics and their directory; control. */
enum topic_internal_tag {
    TOPIC_SERVE = 0x180, /* to itself: feeds are left to be served */
    TOPIC_RESUME,        /* to itself: records held back may go on */
    TOPIC_RESUMED,       /* a TOPIC_PUBLISH that was held back; never sent */
    DIRECTORY_PRESSURE,  /* control, to the directory: topics use nearly all they may */
    TOPIC_ADMITTED,      /* control, from the directory: detail feed. Its snapshot may begin */
    TOPIC_TRIM,          /* control, from the directory: memory is short, halve the ring */
};

/* The words of its timers. */
enum topic_timer { TIMER_CLOSE = 1, TIMER_EXPIRY, TIMER_BLOCK, TIMER_PACE, TIMER_LAPSE, TIMER_PROGRESS, TIMER_SHORT };

/* A snapshot under way. */
struct join {
    weir_msg block; /* it is in */
    struct fold_snapshot snapshot;
    struct ring_cursor cursor; /* behind its seq */
    uint64_t epoch, seq;
    uint64_t number; /* the order of capture */
    uint32_t refs;   /* feeds that read it */
};

/* All of them; in an arena block of its own. */
struct joins {
    weir_msg block;
    struct join *at[TOPIC_SNAPSHOTS_MAX]; /* NULL: there is none */
    uint64_t made;
    uint32_t count;
};

/* Batches taken from the mailbox and held back, oldest first: a ring in a block of its own. */
struct stash {
    weir_msg block; /* struct message; a power of two of them */
    uint32_t count, first;
};

/* A topic of kind plugin:NAME; in an arena block of its own. */
struct forward {
    weir_msg block;
    weir_actor plugin; /* none: there is none now */
    uint32_t mark;
    bool is_attached; /* it takes records, with that mark */
    bool had_one;
    bool is_stale;
    struct stash waiting;                    /* for it to attach, or for room in its mailbox */
    uint64_t short_since_ns, short_pause_ns; /* what it emitted waits for memory; 0: it does not */
    bool has_short_timer;
    struct log_limit short_log;
};

/* What is remembered of records that were published with options; in an arena block of its own. */
struct topic_memory {
    weir_msg block;
    weir_timer lapse_timer;
    uint64_t lapse_armed_ns; /* when it fires; MARK_NEVER: it is not armed */
    struct dedup dedup;
    struct marks marks;
};

/* What feeds with more than a place need of their topic: those of policy block, with a pace or a filter. In an arena
 * block of its own, from the first of these feeds on. */
struct topic_limits {
    weir_msg block;
    uint64_t block_seq, block_weight; /* no record beyond either before block feeds have moved on */
    uint64_t blocked_since_ns;
    uint64_t block_due_ns;               /* when the first of them has blocked for long enough; UINT64_MAX: never */
    uint64_t block_timer_ns;             /* a timer is armed for this moment; 0: none is */
    uint64_t pace_due_ns, pace_timer_ns; /* the same for feeds that wait for their next batch */
    uint64_t progress_timer_ns;          /* the same for when filtered ones are told how far the topic is */
    uint32_t blocked_slot;               /* feed that blocks; FEED_NONE */
};

/* What all topics of a directory have in common: its own, and constant. */
struct topic_common {
    weir_actor directory;
    struct budget *feeds_budget; /* feeds and joins: subscribers must not use up the state's */
    struct budget *all_budget;   /* of all topics: looked at, see pressure_tell */
    struct admission *admission; /* of all topics' snapshots */
};

struct topic_args {
    weir_msg shared; /* the directory's as long as the topic lives; the topic holds it, too, once it has started */
    weir_msg rule;   /* struct topic_rule, the same */
    const struct topic_common *common;
    struct budget *budget; /* its own: borrowed, the directory's as long as the topic lives */
    uint64_t epoch, seed;
};

/* What a publisher is to be told of its records once the turn's updates are on their way: subscribers wait for those,
 * and who publishes does not wait for this. */
struct topic_answer {
    uint32_t tag, count; /* tag 0: nothing */
    weir_actor to;
    weir_msg slices; /* of a TOPIC_ACK whose numbers are no neighbours */
    uint64_t word[3];
};

struct topic {
    uint32_t magic;
    uint32_t turn_weight; /* of the ring as this turn began, its low bits */
    weir_msg shared_block, rule_block;
    struct topic_shared *shared;
    const struct topic_common *common;
    struct arena *arena;
    struct budget *budget;
    uint64_t epoch;
    struct fold fold; /* with the topic's rule */
    struct ring ring;
    struct feeds feeds;
    struct topic_memory *memory; /* NULL: nothing was published with options yet */
    struct joins *joins;         /* NULL: no snapshot is under way */
    struct recall *recalls;

    uint64_t served_seq, served_weight; /* what idle feeds were last woken for */
    struct topic_limits *limits;        /* NULL: no feed has needed them */
    struct stash stash;                 /* batches that a subscriber holds back */
    struct forward *forward;            /* NULL: its kind is no plugin */

    uint64_t published, refused, dead, resyncs, duplicates;
    uint64_t pages_sent;
    uint32_t turn_records; /* folded in this turn */
    uint32_t failures;     /* of the message in hand, in a row */
    uint32_t restarts;
    enum weir_error last_cause;
    uint64_t pressure_page; /* of the ring, when memory was last looked at */
    uint64_t told_rare;     /* of what others may look at, see status.c */
    bool is_muted, is_closing, is_drained, is_stale_told, has_merged;
    bool is_trouble_told; /* others may see that it fails, or holds records back */
    bool is_serve_sent, is_resume_sent, has_expiry;
    bool is_lapse_put_off; /* a removal could not be made */
    bool has_joiners;      /* feeds opened since feeds were served last */
    bool has_untold;       /* feeds left out updates that their subscribers know nothing of */
    uint32_t looks;        /* at records, of a conflated or filtered feed in the step under way */
    struct topic_answer answer;
};

/* publish.c */
/* Tells what is still to be told to a publisher. */
void topic_answer_send(struct turn *turn, struct topic *topic);
WEIR_MUST_USE enum weir_error topic_publish(struct turn *turn, struct topic *topic, struct message *message);
/* TOPIC_RESUME: turns *message into the oldest batch held back and publishes it. */
WEIR_MUST_USE enum weir_error topic_resume(struct turn *turn, struct topic *topic, struct message *message);
/* TOPIC_RESUMED: the same once more, after a failure. */
WEIR_MUST_USE enum weir_error topic_publish_resumed(struct turn *turn, struct topic *topic, struct message *message);
/* Those of a batch that has a block of them, the first to fold at word[0]; NULL: it is one record. */
const struct record_slice *batch_slices(struct arena *arena, const struct message *batch);
/* The first record of a batch that is not folded yet. */
struct record_slice batch_first(const struct record_slice *slices, const struct message *batch);
/* What the batch is published with; NULL: nothing. */
const struct publish_options *batch_options(struct arena *arena, const struct message *batch);
/* Notes in the message itself that this record is done with, so that a retry begins behind. */
void batch_advance(const struct record_slice *slices, struct message *batch);
/* No record is in trouble any more: feeds that were told STALE are told LIVE. Takes shared->lock. */
void topic_note_success(struct topic *topic);
/* Folds one record and appends it to the ring as the next seq; key.size 0: none. Refusals leave no trace. */
WEIR_MUST_USE enum weir_error topic_fold(struct topic *topic, struct view key, struct view value, uint32_t now_ms);
/* For want of memory, before a record is refused: gives back what only waits for that. False: there was nothing. */
WEIR_MUST_USE bool topic_relieve(struct topic *topic);
bool topic_is_refusal(enum weir_error error);
/* Whether this turn has folded enough. */
static inline bool topic_turn_is_over(const struct topic *topic)
{
    bool is_cheap = topic->fold.rule->kind == TOPIC_LAST && topic->memory == NULL &&
                    (uint32_t)topic->ring.weight - topic->turn_weight < TOPIC_TURN_BYTES;
    return topic->turn_records >= (is_cheap ? TOPIC_TURN_CHEAP : TOPIC_TURN_RECORDS);
}
/* Whether the next record must wait for a subscriber. Feeds that could take something are served first. */
bool topic_is_blocked(struct turn *turn, struct topic *topic);
/* limits.c. The topic gets its limits, if it has none. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error topic_limits_ensure(struct topic *topic);
static inline uint32_t topic_blocked_slot(const struct topic *topic)
{
    return topic->limits != NULL ? topic->limits->blocked_slot : FEED_NONE;
}
/* Recomputes how far records may go before a subscriber of policy block has moved on. */
void topic_limits_update(struct turn *turn, struct topic *topic);
/* Sends TOPIC_RESUME when batches held back may go on; unmutes when there are none. */
void topic_unblock(struct turn *turn, struct topic *topic);
/* Refuses everything held back. */
void topic_stash_refuse(struct turn *turn, struct topic *topic, enum weir_error error);
/* ... what that one holds. */
void stash_refuse(struct turn *turn, struct topic *topic, struct stash *stash, enum weir_error error);
/* Refuses one batch. */
void topic_batch_refuse(struct turn *turn, struct topic *topic, struct message *batch, enum weir_error error);
/* The same for one that a topic which has stopped left in its mailbox; the directory counts it. topic: NULL where it
 * ended without having started, which is not counted. */
void topic_batch_unread(struct turn *turn, const struct topic *topic, const struct message *batch);
/* Mutes the mailbox while something is held back. */
void topic_mute_update(struct turn *turn, struct topic *topic);
/* Lets every feed be told that the topic's plugin is down, or is there again. Takes shared->lock. */
void topic_note_plugin(struct turn *turn, struct topic *topic, bool is_stale);

/* stash.c */
/* Takes the batch over; it becomes the oldest with is_front. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error stash_push(struct topic *topic, struct stash *stash, struct message *batch,
                                         bool is_front);
/* The oldest, which stays; there must be one. */
struct message *stash_front(struct topic *topic, const struct stash *stash);
/* Takes the oldest out. */
void stash_pop(struct topic *topic, struct stash *stash, struct message *out);
void stash_fini(struct topic *topic, struct stash *stash);

/* forward.c */
/* For a topic whose kind is a plugin. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error forward_init(struct topic *topic);
void forward_fini(struct topic *topic);
static inline uint32_t forward_waiting(const struct topic *topic)
{
    return topic->forward != NULL ? topic->forward->waiting.count : 0;
}
static inline bool forward_is_to(const struct topic *topic, weir_actor plugin)
{
    return topic->forward != NULL && actor_is_same(topic->forward->plugin, plugin);
}
/* A topic begins, or its plugin does: asks it to take the topic's records. */
void forward_attach(struct turn *turn, struct topic *topic, weir_actor plugin);
void forward_find(struct turn *turn, struct topic *topic);
/* TOPIC_ATTACHED. */
void forward_attached(struct turn *turn, struct topic *topic, const struct message *message);
/* A record for the plugin; refuses what a plugin cannot do. */
void forward_publish(struct turn *turn, struct topic *topic, struct message *message);
/* Passes on what waits, as far as there is room. */
void forward_drain(struct turn *turn, struct topic *topic);
/* An operator's TOPIC_CLEAR: passes it on to the plugin first, which keeps state of the topic, too. False: there is
 * none, or it has been there, and the topic is to clear. */
bool forward_clear(struct turn *turn, struct topic *topic, const struct message *order);
/* Passes a TOPIC_ASK on to the plugin, as soon as that is attached, or answers it. */
void forward_ask(struct turn *turn, struct topic *topic, struct message *message);
void forward_ask_refuse(struct turn *turn, const struct message *message, enum weir_error error);
/* The plugin's own TOPIC_CLEAR is put behind what that emitted before and the topic holds back. False: nothing is. */
bool topic_clear_waits(struct turn *turn, struct topic *topic, struct message *order);
/* Under the shared lock. */
void topic_clear(struct turn *turn, struct topic *topic, const struct message *order);
/* TOPIC_DONE to whoever gave an order. */
void topic_reply_done(struct turn *turn, const struct message *order, enum weir_error error);
/* It was cleared: its plugin is told where it is now. */
void forward_cleared(struct turn *turn, struct topic *topic);
/* The plugin's actor has ended. */
void forward_gone(struct turn *turn, struct topic *topic);
/* There is no memory for what its plugin emitted: whether that is to be held back, for it to come again. */
bool forward_short(struct turn *turn, struct topic *topic);
/* Epochs rise: microseconds since 1970, so that they differ between runs of a broker and fit a double. */
uint64_t topic_epoch_next(uint64_t last);

/* options.c */
/* One record of a batch on its way through the options: what it is, and what became of it. */
struct offer {
    struct view key, value;
    const struct publish_options *options; /* NULL: none */
    struct dedup_publisher *publisher;     /* who counts, once it was looked for */
    uint64_t number;                       /* by the publisher's own counting */
    weir_actor from;
    uint64_t seq;      /* of it; with WEIR_CONFLICT see TOPIC_NACK */
    bool is_duplicate; /* it was folded before, as seq */
};
/* Whether records of that batch need topic_offer; topic_fold is enough for all others. */
bool topic_wants_offers(const struct topic *topic, const struct publish_options *options);
/* Folds one record as its options want it. */
WEIR_MUST_USE enum weir_error topic_offer(struct turn *turn, struct topic *topic, struct offer *offer);

/* Forgets all that options have left. */
void topic_memory_fini(struct topic *topic);

/* lapse.c */
/* Removes what is due, a bounded number of keys. A fold that fails gives its error. */
WEIR_MUST_USE enum weir_error topic_lapse(struct turn *turn, struct topic *topic);
/* Arms the timer of the next removal, if there is one. */
void topic_lapse_arm(struct turn *turn, struct topic *topic);

/* dead.c */
WEIR_MUST_USE enum weir_error topic_bury(struct turn *turn, struct topic *topic, struct message *message);

/* feeds.c. Table changes only under shared->lock. */
void feeds_init(struct feeds *feeds);
void feeds_fini(struct topic *topic);
/* A free slot, listed nowhere. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error feeds_add(struct topic *topic, uint32_t number, uint32_t *slot_out);
void feeds_remove(struct topic *topic, uint32_t slot);
WEIR_MUST_USE enum weir_error feed_open(struct turn *turn, struct topic *topic,
                                        const struct topic_subscribe *subscribe);
/* FEED_NONE: there is none of that number. */
uint32_t feeds_find(const struct feeds *feeds, uint32_t number);
void feeds_list(struct feeds *feeds, uint32_t slot, enum feed_list list);
void feeds_watch_add(struct feeds *feeds, uint32_t slot);
/* Gives a feed its stage, all zero where it had none. False: there is no memory, and the feed ends. */
WEIR_MUST_USE bool feed_stage_ensure(struct topic *topic, struct feed *feed);
/* One with a feed_extra keeps it, all zero. */
void feed_stage_close(struct topic *topic, struct feed *feed);
/* Moves all of one list behind the ready ones. */
void feeds_wake(struct feeds *feeds, enum feed_list list);

/* joins.c */
/* Gives the feed a snapshot to read, as a delta where that will do. WEIR_AGAIN: the directory was asked, and tells when
 * it may begin. */
WEIR_MUST_USE enum weir_error join_place(struct turn *turn, struct topic *topic, struct feed *feed);
/* Gives back what it reads of the state. */
void join_leave(struct topic *topic, struct feed *feed);

/* deliver.c */
/* Serves ready feeds, a bounded number of messages; sends TOPIC_SERVE when some are left. Takes shared->lock. */
void topic_serve(struct turn *turn, struct topic *topic);
/* Starts a feed over with BEGIN. */
void feed_restart(struct topic *topic, uint32_t slot, enum topic_cause cause);
/* It could not keep up once more. */
static inline void feed_resync_count(struct topic *topic, struct feed *feed)
{
    feed->resyncs += feed->resyncs < UINT16_MAX;
    topic->resyncs++;
}
/* The feed's last words. */
void feed_end_with(struct topic *topic, struct feed *feed, enum weir_error error);
/* Its subscriber was told that it ended, or is gone: the directory forgets it, and tells a subscriber that it had not
 * begun for. */
void feed_tell_ended(struct turn *turn, const struct topic *topic, const struct feed *feed, enum weir_error error);
/* Lets every feed be told STALE or LIVE. */
void feeds_notify(struct topic *topic, bool is_stale);

/* One message to a feed's subscriber; TOPIC_ENTRIES and TOPIC_UPDATES: a slice of a block that the caller has a
 * reference to, of which the message gets one of its own. */
enum step step_send(struct turn *turn, const struct feed *feed, enum topic_tag tag, uint64_t word0, uint64_t word1,
                    uint64_t word2);
enum step step_send_slice(struct turn *turn, const struct feed *feed, enum topic_tag tag, struct slice slice,
                          uint32_t count, uint64_t seq);

/* filter.c. All need a feed with a filter, unless they say otherwise; open and close do not. */
/* What a new feed has beside the others; NULL: nothing. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error feed_extra_open(struct topic *topic, const struct topic_subscribe *subscribe,
                                              struct feed_extra **out);
void feed_extra_close(struct topic *topic, struct feed *feed);
/* As fold_ops.read, of its snapshot, for entries that match; a run of none: nothing was found yet. */
WEIR_MUST_USE enum weir_error filter_entries(struct topic *topic, struct feed *feed, size_t size_max,
                                             struct fold_run *out);
/* Goes on with the page that it wants. As fold_ops.page; with WEIR_OK, the page is in the filter. */
WEIR_MUST_USE enum weir_error filter_page(struct topic *topic, struct feed *feed);
/* Whether an update matches. */
bool filter_wants(const struct topic *topic, const struct feed *feed, const struct ring_run *record);
/* With a filter or without: the subscriber was told of everything before the cursor. */
static inline void filter_told(struct feed *feed)
{
    if (feed_filter(feed) != NULL)
        feed_filter(feed)->told_seq = feed->cursor.seq - 1;
}
/* Moves the cursor to the next update that matches, or the end. False: not there yet, after a bounded number. Requires
 * ring_has. */
bool filter_skip(struct topic *topic, struct feed *feed);
/* Whether the feed wants a record from `behind` on. Looks at so many at the most that *looks comes to looks_max; the
 * next call goes on there. */
enum filter_ahead { AHEAD_NONE, AHEAD_WANTED, AHEAD_UNKNOWN };
enum filter_ahead filter_look_ahead(struct topic *topic, struct feed *feed, const struct ring_cursor *behind,
                                    uint32_t *looks, uint32_t looks_max);
/* Cuts a run that begins with an update that matches, taken at `before`, down to those at its front that do. */
void filter_cut(struct topic *topic, struct feed *feed, struct ring_cursor before, struct ring_run *run);
/* The timer: feeds that have left out everything for a while are to tell how far the topic is. */
void filters_progress(struct topic *topic);

/* overflow.c */
/* Whether a live feed's policy must act before it is sent more. */
bool feed_is_overtaken(const struct topic *topic, struct feed *feed);
/* Lets it act. */
void feed_overflow(struct topic *topic, struct feed *feed);
/* Has it get a snapshot, or without those leave out all that the topic has, and say so. */
void feed_start_over(struct topic *topic, struct feed *feed);
/* Cuts feeds of policy disconnect that stalled for too long, though they ask for nothing. Under shared->lock. */
void feeds_watch(struct topic *topic);
/* Notes whether a feed of policy block holds the topic back; after its time it is released. Keeps block_due_ns. */
void feed_block_note(struct topic *topic, struct feed *feed, bool is_blocking, uint64_t now_ns);

#endif
