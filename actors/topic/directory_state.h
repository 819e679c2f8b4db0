/* The directory's own state, and how its files share the work:
 *
 *   directory.c         made and unmade; its messages
 *   directory_topics.c  topics by name and by actor, their creation by rule
 *   directory_subs.c    subscribers, their subscriptions and feeds
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
#include "actors/topic/state.h"

#define DIRECTORY_MAGIC UINT32_C(0x64697265)
#define INDEX_NONE UINT32_MAX

enum directory_internal_tag {
    DIRECTORY_STEP = 0x280, /* to itself: jobs are waiting */
    DIRECTORY_TRIM,         /* to itself: more rings are to be halved */
    DIRECTORY_FEED_ENDED,   /* control, from a topic: detail feed, word[0] link. The feed ended by itself. */
};

/* A topic, in an arena block of its own. */
struct topic_entry {
    weir_msg block, shared_block;
    struct topic_shared *shared; /* the name is in it */
    weir_actor actor;
    struct budget *budget;
    uint32_t name_next, actor_next; /* in their buckets */
    uint32_t links;                 /* first feed of the topic */
};

/* A feed: one topic under one subscription. */
struct feed_link {
    uint32_t feed; /* 0: free */
    uint32_t topic, sub;
    uint32_t topic_next, topic_prev, sub_next, sub_prev;
};

enum sub_job { JOB_NONE, JOB_VISIT, JOB_UNDO };

/* A subscription, in an arena block of its own, the pattern behind it. */
struct sub {
    weir_msg block;
    weir_msg request;      /* struct directory_subscribe while topics are visited: key and cursors are in it */
    weir_msg cursor_index; /* offsets of the request's cursors, by the hash of their topics */
    uint32_t cursor_index_count;
    uint32_t subscriber, next, prev; /* the subscriber's subscriptions */
    uint32_t sub;
    uint32_t links, link_count; /* its feeds */
    uint32_t link_made;         /* feeds made while topics were visited */
    uint32_t visited;           /* topics below this index have been looked at */
    uint32_t job_next;
    enum sub_job job;
    enum weir_error end_error; /* for DIRECTORY_UNSUBSCRIBED */
    weir_actor told;           /* who is told of its end */
    bool snapshot, updates;
    enum overflow_policy policy;
    uint32_t credit;
    size_t outbox_max;
    uint16_t pattern_size;
    uint8_t pattern[];
};

/* Who has subscribed, until that actor ends. In an arena block of its own. */
struct subscriber {
    weir_msg block;
    weir_actor actor;
    uint32_t subs; /* first subscription */
    uint32_t next; /* in its bucket, or free */
};

/* A table of pointers by index, of fixed capacity, with a free list. */
struct index_table {
    void **items;
    uint32_t *free;
    uint32_t capacity, used, free_count; /* used: indexes ever handed out */
};

#define LINK_CHUNK 1024u

struct directory {
    uint32_t magic;
    struct runtime *runtime;
    struct arena *arena;
    weir_actor actor, supervisor;
    struct budget *state_budget, *feeds_budget;
    uint64_t seed;

    pthread_rwlock_t names;
    struct directory_rule *rules;
    size_t rule_count;
    struct topic_rule fallback;
    bool auto_create;
    struct index_table topics; /* struct topic_entry */
    uint32_t *name_buckets, *actor_buckets;
    uint32_t bucket_count;
    uint64_t published_gone, refused_gone, dead_gone; /* of topics that have ended */
    size_t topic_count;
    /* Written in the turns, read by status: counters, relaxed. */
    _Atomic size_t sub_count, link_count;

    size_t retain_count_max_dead, feeds_max, state_bytes_max;
    size_t merged_bytes_max;
    struct index_table subs, subscribers;
    uint32_t *subscriber_buckets;
    uint32_t subscriber_bucket_count;
    weir_msg *link_chunks;
    uint32_t link_chunk_count, link_chunk_max, link_free;
    uint32_t feed_last;
    uint64_t epoch_last;
    uint32_t trim_next; /* the next topic whose ring is looked at; INDEX_NONE: memory is not short */
    uint32_t job_first, job_last;
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
void directory_topic_gone(struct directory *directory, uint32_t index);
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
weir_actor directory_subscriber(const struct directory *directory, const struct sub *sub);
struct feed_link *directory_link_at(const struct directory *directory, uint32_t index);
/* Makes a feed of a subscription at a topic. WEIR_FULL: feeds_max; WEIR_BUSY: the topic has no room for orders now. */
WEIR_MUST_USE enum weir_error directory_link(struct turn *turn, struct directory *directory, uint32_t sub_index,
                                             uint32_t topic_index);
void directory_unlink(struct directory *directory, uint32_t link_index);
/* The feed has ended by itself; its subscription too, if it wanted no more than that. */
void directory_link_over(struct directory *directory, uint32_t link_index);
/* Attaches all subscriptions that match to a topic not yet in the tables of names. */
void directory_subs_attach(struct turn *turn, struct directory *directory, uint32_t topic_index);
/* Takes a subscription away, step by step, telling its subscriber at the end. */
void directory_sub_end(struct turn *turn, struct directory *directory, uint32_t index, enum weir_error error);
void directory_sub_free(struct directory *directory, uint32_t index);
void directory_feed_ended(struct directory *directory, const struct message *message);

/* directory_jobs.c */
void directory_job_add(struct turn *turn, struct directory *directory, uint32_t sub_index, enum sub_job job);
void directory_jobs_step(struct turn *turn, struct directory *directory);
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
