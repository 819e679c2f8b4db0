/* The load generator's parts: what was asked for, and what each kind of work needs of the others. */
#ifndef TESTS_BENCH_PEERS_LOAD_H
#define TESTS_BENCH_PEERS_LOAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/bench/peers/driver.h"
#include "tests/bench/peers/hist.h"

enum { MAX_PUBLISHERS = 16, MAX_SUBSCRIBERS = 256, MAX_SIZE = 1 << 20, POLL_MS = 50 };

/* The command line; read once, before any thread. */
struct load {
    const struct driver *driver;
    const char *work, *pub_address, *sub_address;
    pid_t broker;
    unsigned size, publishers, subscribers, topics, batch, connections, window, window_mib;
    double seconds, warmup, rate, patience;
};
extern struct load load;

/* Messages begin with a header; sequences start at 1 for each publisher, 0 is a probe. */
struct header {
    uint64_t due; /* when the message had to be sent, in ns; 0 where latency is not measured */
    uint32_t sequence;
    uint32_t publisher : 8, late_us : 24; /* how long after that it was sent */
};

/* What one subscriber got from one publisher. Only the subscriber writes, the publisher and the main thread look on:
 * relaxed, since each number stands for itself. */
struct flow {
    _Alignas(64) _Atomic uint64_t received;
    _Atomic uint64_t last; /* highest sequence */
    atomic_bool probed;
};

struct subscriber {
    struct flow flows[MAX_PUBLISHERS];
    struct histogram latency; /* from when a message was due */
    struct histogram transit; /* from when it was sent */
    _Atomic uint64_t out_of_sequence;
    void *endpoint;
    pthread_t thread;
};

struct publisher {
    _Alignas(64) _Atomic uint64_t sent;
    uint64_t written_off; /* sequences up to here do not count as on their way any more */
    uint64_t index, stalls;
    void *endpoint;
    pthread_t thread;
    char *message;
};

extern struct publisher load_publishers[MAX_PUBLISHERS];
extern struct subscriber *load_subscribers;
extern atomic_bool load_publishers_stop, load_subscribers_stop;
extern _Atomic uint64_t load_record_from; /* messages due earlier are not part of the histograms */

static inline uint64_t load_get(const _Atomic uint64_t *v) { return atomic_load_explicit(v, memory_order_relaxed); }

static inline void load_set(_Atomic uint64_t *to, uint64_t v) { atomic_store_explicit(to, v, memory_order_relaxed); }

/* endpoints.c: both sides, for the kinds of work to drive. */
void *endpoint_open(enum role role, bool state, void *context);
void *subscriber_main(void *subscriber); /* polls until load_subscribers_stop */
uint64_t subscribers_received(void);
void publisher_open(unsigned index, bool state);
void publisher_probe(struct publisher *publisher); /* until each subscriber has got one of its messages */
void publisher_send(struct publisher *publisher, uint64_t due, uint64_t now);
void *publisher_main(void *publisher); /* until load_publishers_stop */

/* The kinds of work; each prints its figures into the line of JSON that main has begun. */
void work_stream(void);
void work_snapshot(void);
void work_idle(void);

#endif
