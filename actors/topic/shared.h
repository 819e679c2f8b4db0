/* What a topic shows of itself to its directory and to whoever asks: see status.c. Only actors/topic includes this. */
#ifndef ACTORS_TOPIC_SHARED_H
#define ACTORS_TOPIC_SHARED_H

#include <pthread.h>

#include "actors/topic/topic.h"

struct feeds;
struct topic;

/* What others may look at: published by the topic when it has served feeds and at the end of its turns, under the lock;
 * the topic alone writes it, so it reads it without. The feeds' table too is changed under the lock only, so that it
 * can be read in place. In an arena block that topic and directory hold. What every record changes is in the first two
 * cache lines. */
struct topic_shared {
    pthread_mutex_t lock;
    const struct feeds *feeds; /* NULL: the topic has ended */
    uint64_t seq, weight;      /* of the ring */
    size_t state_bytes, ring_bytes, entries;
    uint64_t published;
    uint64_t pages_built, pages_sent; /* see struct topic_status */
    weir_actor actor;
    struct arena *arena;
    uint64_t epoch;
    uint32_t depth_max, restarts;
    uint64_t refused, dead, resyncs, duplicates;
    weir_actor blocked_by;
    uint64_t blocked_since_ns, short_since_ns;
    uint32_t blocked_feed;
    uint32_t stashed; /* batches held back */
    /* kind, name_size, name and arena never change and are read without the lock: so none of them is a bit-field, which
     * would be one place in memory with its neighbour that does change. */
    uint16_t kind;      /* enum topic_kind */
    uint8_t last_cause; /* enum weir_error */
    bool is_stale;
    uint16_t name_size;
    char name[];
};

/* The figures that every record changes. Under the lock; in the topic's turn. */
void topic_shared_figures(struct topic *topic);
/* All that has changed. Takes the lock where anything has; in the topic's turn. */
void topic_shared_publish(struct turn *turn, struct topic *topic);
/* Any thread. */
void topic_shared_status(struct runtime *runtime, struct topic_shared *shared, struct topic_status *out);
/* Calls each for every feed under the topic's lock. False: each returned false. Any thread. */
bool topic_shared_feeds_each(struct topic_shared *shared, bool (*each)(const struct feed_status *status, void *context),
                             void *context);

extern const struct behaviour topic_behaviour;

#endif
