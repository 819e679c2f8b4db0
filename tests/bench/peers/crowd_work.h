/* What bench_crowd measures; each work prints its figures into the line of JSON that main has begun. */
#ifndef TESTS_BENCH_PEERS_CROWD_WORK_H
#define TESTS_BENCH_PEERS_CROWD_WORK_H

#include <sys/types.h>

#include "tests/bench/peers/hist.h"

struct crowd_plan {
    const char *work, *url, *policy;
    pid_t broker;
    unsigned sessions, subscriptions, keys, size, topics, pairs;
    double seconds, rate, patience;
};

void work_join(const struct crowd_plan *plan);     /* all join one map topic at once */
void work_rest(const struct crowd_plan *plan);     /* idle sessions with subscriptions: memory, processor time */
void work_fair(const struct crowd_plan *plan);     /* all publish at once */
void work_fan(const struct crowd_plan *plan);      /* all follow one topic that is published to at a rate */
void work_beside(const struct crowd_plan *plan);   /* a subscriber beside stalled ones, and without them, in turns */
void work_pause(const struct crowd_plan *plan);    /* a subscriber's latency while all join its topic */
void work_update(const struct crowd_plan *plan);   /* folding into a topic with and without snapshots out */
void work_patterns(const struct crowd_plan *plan); /* publishing beside patterns that do not match */

/* Prints `,"NAME_p50_us":..` to p99.9 and max. */
void print_latency(const char *name, const struct histogram *latency);

#endif
