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
    size_t merged_bytes_max;      /* the map of a topic of kind merge, which must fit what carries it; 0: no bound */
    size_t subscriptions_max;     /* in all */
    size_t feeds_max;             /* topics under all subscriptions, in all */
    size_t retain_count_max_dead; /* $dead/TOPIC logs */
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
    /* control, from the directory */
    DIRECTORY_TOPIC,      /* word[0]: echoed; word[1]: the topic's weir_actor bits; word[2]: enum weir_error */
    DIRECTORY_SUBSCRIBED, /* detail: sub. word[0]: topics that match now; word[2]: enum weir_error (WEIR_OK: it stands)
                           */
    DIRECTORY_UNSUBSCRIBED, /* detail: sub. word[2]: enum weir_error */
};

struct directory_subscribe {
    uint32_t sub;
    enum overflow_policy policy;
    bool snapshot, updates;
    uint32_t credit; /* for each feed at first */
    size_t outbox_max;
    uint32_t key_size; /* a GET of one key; the encoded key follows the pattern */
    uint32_t pattern_size;
    uint32_t cursors_size; /* encoded [topic, epoch, seq]..., see cursors_next; behind pattern and key */
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
    size_t state_bytes, state_bytes_max;
    uint64_t published, refused, dead;
};
void directory_status(struct directory *directory, struct directory_status *out);

#endif
