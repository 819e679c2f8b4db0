/* What goes on beside a crowd: a publisher at a fixed rate or as fast as it can, on a thread of its own, and a
 * subscriber that measures latency, both on libweir with its defaults. Every failure ends the process. */
#ifndef TESTS_BENCH_PEERS_LIVE_H
#define TESTS_BENCH_PEERS_LIVE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "clients/lib/weir.h"
#include "tests/bench/peers/hist.h"

struct weir *live_open(const char *url);

/* Publishes keys k0 .. k(count-1) of a topic, each with a value of that size, and waits until all is folded. */
void live_fill(const char *url, const char *topic, unsigned keys, unsigned size);

/* What $sys/topics has of a topic under this name. */
uint64_t live_figure(struct weir *client, const char *topic, const char *name);

struct live_publisher {
    const char *topic;
    unsigned keys; /* in turn; 0: records without a key */
    unsigned size;
    double rate; /* 0: as fast as it can */
    struct weir *client;
    pthread_t thread;
    atomic_bool stop;
    _Atomic uint64_t sent;
};
void live_publisher_start(struct live_publisher *publisher, const char *url);
void live_publisher_stop(struct live_publisher *publisher); /* flushes; all is folded then */

struct live_subscriber {
    struct weir *client;
    struct weir_subscription *subscription;
    _Atomic uint64_t since, until; /* records due earlier, or later, do not count; until 0: for ever */
    _Atomic uint64_t received, omitted;
    _Atomic uint64_t newest; /* due time of the last that came; it was counted before */
    atomic_bool ended;       /* its snapshot has come */
    struct histogram latency;
};
void live_subscriber_start(struct live_subscriber *subscriber, const char *url, const char *topic, bool snapshot);
void live_subscriber_stop(struct live_subscriber *subscriber);

#endif
