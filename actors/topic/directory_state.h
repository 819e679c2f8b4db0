/* The directory's own state, and how its files share the work:
 *
 *   directory.c         made and unmade; its messages
 *   directory_topics.c  topics by name and by actor, their creation by rule
 *   directory_subs.c    subscribers and their subscriptions
 *   directory_links.c   the feeds of these
 *   directory_details.c what of a subscription few need
 *   directory_pool.c    where subscriptions and feeds are
 *   directory_patterns.c  subscriptions by pattern, for topics that appear
 *   directory_admission.c  snapshots admitted, subscribers in turn
 *   directory_jobs.c    work over many topics, a bounded step at a time
 *   directory_status.c  what other threads may ask
 *
 * Written in the directory's turns. `names` guards what other threads read: the table of topics (find, status) and the
 * rules; the directory takes it to write, others to read. All else is the turns' alone. Only actors/topic includes
 * this. */
#ifndef ACTORS_TOPIC_DIRECTORY_STATE_H
#define ACTORS_TOPIC_DIRECTORY_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "actors/topic/directory.h"
#include "actors/topic/directory_pool.h"
#include "actors/topic/state.h"

#define DIRECTORY_MAGIC UINT32_C(0x64697265)
#define INDEX_NONE UINT32_MAX
/* Rules that topics made lately have, to be shared with those made next: there are seldom more in a configuration. */
#define RULES_SHARED_MAX 16

enum directory_internal_tag {
    DIRECTORY_STEP = 0x280, /* to itself: jobs are waiting */
    DIRECTORY_TRIM,         /* to itself: more rings are to be halved */
    DIRECTORY_ADMIT,        /* control, from a topic: detail feed, word[0] link, word[1] bytes of its snapshot, about */
    DIRECTORY_UNREAD,       /* control, from a topic that was stopped: word[0]: records in its mailbox, refused */
    DIRECTORY_FEED_ENDED,   /* control, from a topic: detail feed, word[0] link, word[1] whether its subscriber was sent
                               TOPIC_BEGIN, word[2] enum weir_error. The feed ended by itself. */
};

/* A topic. In a pool. */
struct topic_entry {
    uint32_t is_used, place; /* where it is in the pool, once it is used */
    weir_msg shared_block, rule_block;
    struct topic_shared *shared; /* the name is in it */
    weir_actor actor;
    struct budget *budget;
    uint32_t name_next, actor_next; /* in their buckets */
    uint32_t links;                 /* first feed of the topic */
};

/* A feed: one topic under one subscription. Named by index: of a subscription by name, whose only one it is, with
 * LINK_OF_SUB; or in a pool, see struct pattern_link. */
struct feed_link {
    uint32_t feed; /* 0: there is none */
    uint32_t topic;
    uint32_t topic_next, topic_prev;
    uint32_t wait; /* struct feed_wait, while it waits for its snapshot's admission; INDEX_NONE: it does not */
};

#define LINK_OF_SUB (UINT32_C(1) << 31)

/* One of those of a subscription with wildcards. In a pool. */
struct pattern_link {
    struct feed_link link;
    uint32_t sub, sub_next, sub_prev;
};

/* In a pool. */
struct feed_wait {
    uint32_t kib;               /* of the snapshot it waits for, not 0 */
    uint32_t owner, next, prev; /* the subscriber in whose queue it is, and its neighbours: links */
};

/* JOB_AWAIT: not a job yet; it becomes one when the patron has brought its topics up to date. */
enum sub_job { JOB_NONE, JOB_VISIT, JOB_UNDO, JOB_AWAIT };

/* A subscription, in a pool. There may be hundreds of thousands, nearly all of them to one topic by its name: what that
 * does not need is in a block of details. One by name either follows its topic or is listed under the name, for the
 * topic to come. */
struct sub {
    bool is_used : 1;
    bool snapshot : 1, updates : 1;
    bool is_listed : 1; /* under its pattern */
    bool is_name : 1;   /* it has no wildcards */
    bool is_plain : 1;  /* `text` is a struct topic_shared, and the subscription wants nothing beyond its default */
    enum sub_job job : 8;
    enum weir_error end_error : 8; /* for DIRECTORY_UNSUBSCRIBED */
    enum overflow_policy policy : 8;
    uint32_t subscriber; /* INDEX_NONE: it is over */
    weir_msg text;       /* what the pattern is in: of its topic, which it holds, or struct sub_details */
    union {
        struct {
            uint32_t next, prev; /* the subscriber's subscriptions */
        };
        weir_actor told; /* over: who is told of its end */
    };
    uint32_t sub;         /* the subscriber's number for it */
    uint32_t number_next; /* in its bucket; over, and plain: in the list of jobs */
    uint32_t credit;
    union {
        struct feed_link link; /* by name: what it follows */
        struct {
            uint32_t links; /* with wildcards: the first of its feeds; by name, and listed: 0, for that it has none */
            uint32_t pattern_next, pattern_prev; /* listed */
        };
    };
};

/* In an arena block: what a subscription needs while its topics are visited, and then if it has wildcards or options.
 */
struct sub_details {
    weir_msg request;      /* struct directory_subscribe while topics are visited: key and cursors are in it */
    weir_msg cursor_index; /* offsets of the request's cursors, by the hash of their topics */
    uint32_t cursor_index_count;
    uint32_t job_next;
    uint32_t link_made; /* feeds made while topics were visited */
    uint32_t visited;   /* topics below this index have been looked at */
    uint32_t interval_ms, block_ms;
    struct pattern_node *pattern_node; /* of a pattern with wildcards */
    size_t outbox_max;
    struct topic_part part;
    uint16_t pattern_size;
    uint8_t pattern[]; /* and the part's keys */
};

/* Who has subscribed, until that actor ends. In a pool. */
struct subscriber {
    uint32_t is_used;
    uint32_t subs; /* first subscription */
    weir_actor actor;
    uint32_t next;                  /* in its bucket, or free */
    uint32_t wait_first, wait_last; /* feeds that wait for admission */
    uint32_t turn_next, turn_prev;  /* among subscribers with such */
};

/* Hashes of the first two segments of a name, 0 for one that it has not: enough to pass over most topics that a pattern
 * does not match, without looking at them. */
struct name_head {
    uint32_t first, second;
};

/* A table of pointers by index, of fixed capacity, with a free list. */
struct index_table {
    void **items;
    uint32_t *free;
    uint32_t capacity, used, free_count; /* used: indexes ever handed out */
};

struct directory {
    uint32_t magic;
    struct runtime *runtime;
    struct arena *arena;
    weir_actor actor, supervisor;
    struct budget *state_budget, *feeds_budget;
    struct topic_common common;
    uint64_t seed;

    pthread_rwlock_t names;
    struct directory_rule *rules;
    size_t rule_count;
    struct topic_rule fallback;
    bool auto_create;
    struct index_table topics; /* struct topic_entry */
    struct name_head *heads;   /* of the topics, by index */
    uint32_t *name_buckets, *actor_buckets;
    uint32_t bucket_count;
    uint64_t published_gone, refused_gone, dead_gone, duplicates_gone; /* of topics that have ended */
    size_t topic_count;
    /* Written in the turns, read by status: counters, relaxed. */
    _Atomic size_t sub_count, link_count;

    size_t retain_count_max_dead, subscriptions_max, feeds_max, state_bytes_max;
    size_t merged_bytes_max;
    uint32_t block_max_ms;
    struct index_pool entries, subs, subscribers, links, waits;
    uint32_t *subscriber_buckets;
    uint32_t subscriber_bucket_count;
    uint32_t *number_buckets; /* 1 + index of the first of the subscriptions whose subscriber and number hash there, so
                                 that pages of an empty table are never touched; as many as of subscribers */
    struct patterns *patterns;
    uint32_t feed_last;
    uint64_t epoch_last;
    weir_msg rules_shared[RULES_SHARED_MAX]; /* struct topic_rule; the newest replaces the oldest */
    uint32_t rules_shared_next;
    uint32_t trim_next; /* the next topic whose ring is looked at; INDEX_NONE: memory is not short */
    uint32_t trim_told; /* how often topics said that it is, since they were last looked at */
    size_t trim_size;   /* of the largest rings that are left alone */
    uint32_t job_first, job_last;
    struct admission admission;       /* of snapshots; topics take of it, too */
    uint32_t admit_first, admit_last; /* subscribers with feeds that wait, in turn */
    bool has_admit_timer;
    weir_actor patron;
    uint32_t await_first, await_last; /* subscriptions that wait for it, in the order of their coming */
    bool is_step_sent;
};

/* directory_topics.c */
WEIR_MUST_USE enum weir_error index_table_init(struct index_table *table, size_t capacity);
void index_table_fini(struct index_table *table);
/* INDEX_NONE: full. */
uint32_t index_table_add(struct index_table *table, void *item);
void index_table_remove(struct index_table *table, uint32_t index);
/* INDEX_NONE: there is none. */
uint32_t directory_topic_find(const struct directory *directory, struct view name);
uint32_t directory_topic_find_actor(const struct directory *directory, weir_actor actor);
struct topic_entry *directory_topic_at(const struct directory *directory, uint32_t index);
struct view topic_entry_name(const struct topic_entry *entry);
/* Creates a topic by the directory's rules; kind: overrides theirs, and need not have one; may be NULL. Every
 * subscription that matches is attached before anyone can find it. turn NULL: before the runtime has started.
 * WEIR_NOT_FOUND (no rule), WEIR_FULL (topics_max), WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error directory_topic_create(struct turn *turn, struct directory *directory, struct view name,
                                                     const enum topic_kind *kind, uint32_t *index_out);
/* The topic's actor has ended. */
void directory_topic_gone(struct turn *turn, struct directory *directory, uint32_t index, enum weir_error cause);
/* To the subscriber of a feed that ended before it began, if it was to have a snapshot and nothing else: nobody else
 * waits for that topic. */
void directory_tell_gone(struct turn *turn, const struct directory *directory, uint32_t link_index,
                         enum weir_error cause);
/* directory_trim.c: halves the rings of all topics, a bounded number in each turn. */
void directory_trim_begin(struct turn *turn, struct directory *directory);
void directory_trim_step(struct turn *turn, struct directory *directory);

/* For directory_destroy. */
void directory_topic_free(struct directory *directory, uint32_t index);
uint32_t directory_hash(const struct directory *directory, struct view bytes);

/* directory_subs.c */
void directory_subscribe(struct turn *turn, struct directory *directory, struct message *message);
void directory_unsubscribe(struct turn *turn, struct directory *directory, const struct message *message);
/* Forgets the subscriptions of an actor; is_gone: it has ended. */
void directory_close(struct turn *turn, struct directory *directory, weir_actor actor, bool is_gone);
struct sub *directory_sub_at(const struct directory *directory, uint32_t index);
/* Valid as long as the subscription is what it is. */
struct view sub_pattern(const struct directory *directory, const struct sub *sub);
/* NULL: it is plain. */
struct sub_details *sub_details(const struct directory *directory, const struct sub *sub);
/* Of a new one. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error sub_details_create(const struct directory *directory,
                                                 const struct directory_subscribe *request, weir_msg *out);
void sub_details_free(struct directory *directory, struct sub *sub);
/* Its topics have been visited: gives back what was needed for that, or all of its details. */
void sub_details_shrink(struct directory *directory, uint32_t sub_index);
weir_actor directory_subscriber(const struct directory *directory, const struct sub *sub);
/* Takes a subscription away, step by step, telling its subscriber at the end. */
void directory_sub_end(struct turn *turn, struct directory *directory, uint32_t index, enum weir_error error);
void directory_sub_free(struct directory *directory, uint32_t index);

/* directory_links.c */
/* The first of its feeds; INDEX_NONE: it has none. */
uint32_t directory_sub_links(const struct directory *directory, uint32_t sub_index);
struct feed_link *directory_link_at(const struct directory *directory, uint32_t index);
/* The subscription that the feed is of. */
uint32_t directory_link_sub(const struct directory *directory, uint32_t index);
/* Makes a feed of a subscription at a topic. WEIR_FULL: feeds_max; WEIR_BUSY: the topic has no room for orders now. */
WEIR_MUST_USE enum weir_error directory_link(struct turn *turn, struct directory *directory, uint32_t sub_index,
                                             uint32_t topic_index);
void directory_unlink(struct directory *directory, uint32_t link_index);
/* The feed has ended by itself; its subscription too, if it wanted no more than that. */
void directory_link_over(struct directory *directory, uint32_t link_index);
/* One by name follows nothing: what it is to follow has yet to come. */
void directory_sub_list(struct directory *directory, uint32_t sub_index);
/* The link that a topic's message about a feed names; INDEX_NONE: undone meanwhile. */
uint32_t directory_link_find(const struct directory *directory, const struct message *message);
void directory_feed_ended(struct turn *turn, struct directory *directory, const struct message *message);

/* directory_patterns.c */
WEIR_MUST_USE enum weir_error patterns_create(struct patterns **out);
/* When no subscription is left. */
void patterns_destroy(struct patterns **pointer);
/* Lists a subscription under its pattern. WEIR_NO_MEMORY, but never for one by name. */
WEIR_MUST_USE enum weir_error patterns_add(struct directory *directory, uint32_t sub_index);
/* One that was never listed is fine. */
void patterns_remove(struct directory *directory, uint32_t sub_index);
/* The head of a name; of a pattern, with 0 from the first wildcard on. */
struct name_head name_head_of(const struct directory *directory, struct view name);
/* Whether a name with this head may match a pattern with that one. */
static inline bool name_head_may_match(struct name_head pattern, struct name_head name)
{
    return (pattern.first == 0 || pattern.first == name.first) &&
           (pattern.second == 0 || pattern.second == name.second);
}
/* Attaches all subscriptions that match to a topic not yet in the tables of names. */
void patterns_attach(struct turn *turn, struct directory *directory, uint32_t topic_index);

/* directory_admission.c */
/* DIRECTORY_ADMIT: a feed waits from now on, unless its snapshot can begin at once. */
void directory_admit(struct turn *turn, struct directory *directory, const struct message *message);
/* Admits as many as there is enough for, a bounded number; starts a timer when some are left. */
void directory_admit_step(struct turn *turn, struct directory *directory);
/* A feed, or all of a subscriber's, no longer waits. */
void directory_wait_end(struct directory *directory, uint32_t link_index);
void directory_waits_end(struct directory *directory, const struct subscriber *owner);

/* directory_jobs.c */
void directory_job_add(struct turn *turn, struct directory *directory, uint32_t sub_index, enum sub_job job);
void directory_jobs_step(struct turn *turn, struct directory *directory);
/* Lets a new subscription to the patron's topics wait for it. False: there is nothing to wait for. */
WEIR_MUST_USE bool directory_await_patron(struct turn *turn, struct directory *directory, uint32_t sub_index);
/* Those that waited go on. */
void directory_await_over(struct turn *turn, struct directory *directory);
/* Sends DIRECTORY_STEP when jobs are left. */
void directory_jobs_continue(struct turn *turn, struct directory *directory);
void directory_subscribed(struct turn *turn, struct directory *directory, weir_actor to, uint32_t sub, uint64_t topics,
                          enum weir_error error);

/* directory_cursors.c */
/* Prepares the request's cursors for look-ups by topic. WEIR_NO_MEMORY, WEIR_BAD_REQUEST. */
WEIR_MUST_USE enum weir_error sub_cursors_index(struct directory *directory, struct sub *sub);
/* The cursor for a topic; WEIR_NOT_FOUND. */
WEIR_MUST_USE enum weir_error sub_cursor_find(const struct directory *directory, const struct sub *sub,
                                              struct view topic, struct cursor *out);

#endif
