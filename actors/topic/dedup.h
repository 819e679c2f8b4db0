/* What a topic remembers of the records that publishers numbered, so that one that comes again is answered with its
 * first seq instead of being folded twice. For each publisher by name a window of its newest numbers, exact from the
 * oldest one in it; for the topic a bounded number of publishers, of which the one silent for longest goes first. Used
 * by the topic's turn only. */
#ifndef ACTORS_TOPIC_DEDUP_H
#define ACTORS_TOPIC_DEDUP_H

#include "actors/topic/table.h"
#include "clients/wire/view.h"

struct dedup_entry {
    uint64_t number, seq;
    uint64_t hash; /* of key and value */
};

struct dedup_publisher {
    struct table_node node; /* first: the table's nodes are these */
    weir_msg self, window;
    struct dedup_publisher *newer, *older; /* by last use */
    struct dedup_entry *entries;           /* in window, a ring in order of numbers */
    uint32_t first, count, capacity;
    uint64_t known_from; /* numbers below it may have been forgotten */
    uint32_t name_size;
    uint8_t name[];
};

struct dedup {
    struct arena *arena;
    struct budget *budget;
    struct table table;
    struct dedup_publisher *newest, *oldest;
    uint32_t publishers_max, window_max;
    uint64_t seed;
};

enum dedup_answer {
    DEDUP_NEW,
    DEDUP_KNOWN,     /* folded before: *seq */
    DEDUP_OTHER,     /* that number was another record's: *seq */
    DEDUP_FORGOTTEN, /* older than what is remembered */
};

/* 0: the defaults of topic_limits.h. */
void dedup_init(struct dedup *dedup, struct arena *arena, struct budget *budget, uint32_t publishers_max,
                uint32_t window_max, uint64_t seed);
/* Forgets everything; also how it ends. */
void dedup_clear(struct dedup *dedup);

/* The publisher of that name, made where it is new, as the newest. Valid until another is ensured. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error dedup_ensure(struct dedup *dedup, struct view name, struct dedup_publisher **out);
enum dedup_answer dedup_find(const struct dedup_publisher *publisher, uint64_t number, uint64_t hash, uint64_t *seq);
/* After this one commit of a number that was found DEDUP_NEW cannot fail. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error dedup_reserve(struct dedup *dedup, struct dedup_publisher *publisher);
void dedup_commit(struct dedup *dedup, struct dedup_publisher *publisher, const struct dedup_entry *entry);

#endif
