/* The directory: an actor that knows every topic by name, creates them by rule, and keeps the pattern subscriptions, so
 * that a topic that appears later is followed from its first record. Topics are its supervised children. */
#ifndef ACTORS_TOPIC_DIRECTORY_H
#define ACTORS_TOPIC_DIRECTORY_H

#include "actors/topic/topic.h"

struct directory;

struct directory_rule {
    char pattern[256];
    struct topic_rule rule;
};

struct directory_config {
    const struct directory_rule *rules; /* copied; the first whose pattern matches decides */
    size_t rule_count;
    struct topic_rule fallback; /* for topics that no rule matches (kind last), if auto_create */
    bool auto_create;
    size_t topics_max;
    size_t state_bytes_max;       /* of all topics together: a budget with each topic's below it */
    size_t merged_bytes_max;      /* a member of a topic of kind merge, which must fit what carries it; 0: no bound */
    size_t subscriptions_max;     /* in all */
    size_t feeds_max;             /* topics under all subscriptions, in all */
    size_t retain_count_max_dead; /* $dead/TOPIC logs */
    uint64_t join_bytes_per_s;    /* snapshots begun, of all topics; 0: no bound */
    uint64_t join_burst_bytes;    /* so much at once before that */
    uint32_t block_max_ms;        /* a subscription of policy block holds a topic back at most so long; 0: no bound */
    uint64_t seed;                /* of the hashes; 0: random. For simulations */
};

/* Creates the directory actor under `supervisor` (none: unsupervised). Rules without wildcards create their topics at
 * once. */
WEIR_MUST_USE enum weir_error directory_create(struct runtime *runtime, weir_actor supervisor, struct budget *budget,
                                               const struct directory_config *config, struct directory **out);
/* After the runtime has stopped. */
void directory_destroy(struct directory **pointer);
weir_actor directory_actor(struct directory *directory);
/* New rules for topics created from now on (SIGHUP). Any thread. */
WEIR_MUST_USE enum weir_error directory_rules_set(struct directory *directory, const struct directory_config *config);

/* The topic of that name, if there is one now. Any thread; a short shared lock. WEIR_NOT_FOUND. */
WEIR_MUST_USE enum weir_error directory_find(struct directory *directory, struct view name, weir_actor *out);

/* Messages. Names, patterns and cursors travel in blocks. */
enum directory_tag {
    /* data, to the directory */
    DIRECTORY_ENSURE = 0x200, /* hold[0]: the name's bytes. word[0]: echoed. -> DIRECTORY_TOPIC */
    DIRECTORY_SUBSCRIBE,      /* hold[0]: struct directory_subscribe. -> each match's TOPIC_BEGIN..., and
                                 DIRECTORY_SUBSCRIBED.      A pattern without wildcards ensures its topic. */
    DIRECTORY_UNSUBSCRIBE, /* detail: sub. -> DIRECTORY_UNSUBSCRIBED; the feeds' last messages may still come before it
                            */
    DIRECTORY_DEAD,        /* a quarantined record on its way to $dead/TOPIC; internal */
    DIRECTORY_CREATE,      /* hold[0]: struct directory_create. -> DIRECTORY_TOPIC (WEIR_EXISTS) */
    DIRECTORY_CLOSE,       /* from: forget all subscriptions of the sender */
    DIRECTORY_PATRON,      /* from: keeps the topics below $sys/ up to date, and alone may create them */
    DIRECTORY_PLUGIN,      /* from: a plugin that is registered now; hold[0]: its name's bytes. Topics of kind
                              plugin:NAME are told: TOPIC_PLUGIN_HERE */
    DIRECTORY_FRESH,       /* from the patron: they are; subscriptions that waited for it go on */
    /* control, from the directory */
    DIRECTORY_TOPIC,      /* word[0]: echoed; word[1]: the topic's weir_actor bits; word[2]: enum weir_error */
    DIRECTORY_SUBSCRIBED, /* detail: sub. word[0]: topics that match now; word[2]: enum weir_error (WEIR_OK: it stands)
                           */
    DIRECTORY_UNSUBSCRIBED, /* detail: sub. word[2]: enum weir_error */
    DIRECTORY_TOPIC_GONE,   /* detail: sub, of a subscription without updates: a topic that was to give it a snapshot
                               is gone, and nothing of it comes. word[0]: feed; word[1]: enum weir_error; hold[0]: a
                               struct topic_begin that says which topic (none without memory: WEIR_BUSY) */
    DIRECTORY_WANTED,       /* to the patron: hold[0]: a struct directory_subscribe, to read, that waits for what its
                               pattern matches to be brought up to date. -> DIRECTORY_FRESH */
};

struct directory_subscribe {
    uint32_t sub;
    enum overflow_policy policy;
    bool snapshot, updates;
    uint32_t credit; /* for each feed at first */
    size_t outbox_max;
    uint32_t interval_ms;   /* policy conflate: between batches at least */
    uint32_t block_ms;      /* policy block: at most so long, then a resync; 0: as long as the broker allows */
    struct topic_part part; /* its keys follow the pattern; a page is for subscriptions without updates */
    uint32_t pattern_size;
    uint32_t cursors_size; /* encoded [topic, epoch, seq]..., see cursors_next; behind pattern and keys */
    uint32_t cursor_count;
    uint8_t bytes[];
};

struct directory_create {
    uint32_t name_size;
    bool has_kind; /* false: kind too by the rules, as all the rest */
    enum topic_kind kind;
    uint8_t name[];
};

/* For the operator's view. The callback runs under a lock: it must be quick and call nothing here. Stops when it
 * returns false. Any thread. pattern as in subscriptions. */
void directory_topics_each(struct directory *directory, struct view pattern,
                           bool (*each)(const struct topic_status *status, void *context), void *context);
void directory_feeds_each(struct directory *directory, struct view pattern,
                          bool (*each)(const struct feed_status *status, void *context), void *context);

struct directory_status {
    size_t topics, topics_max, subscriptions, feeds;
    size_t state_bytes, state_bytes_max, state_bytes_peak;
    uint64_t published, refused, dead, duplicates;
    uint32_t joins_waiting; /* feeds whose snapshots are not admitted yet */
};
void directory_status(struct directory *directory, struct directory_status *out);

#endif
