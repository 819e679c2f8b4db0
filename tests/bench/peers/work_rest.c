/* Work `snapshot`: a late joiner receives the last value of each topic. Work `idle`: memory of the broker for
 * connections, or for subscriptions of one connection. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/bench/peers/load.h"
#include "tests/bench/peers/usage.h"
#include "tests/bench/peers/util.h"

enum { SETTLE_MS = 4000 }; /* until the broker has given back what only the joining took */

static void store_all(struct publisher *p)
{
    for (unsigned i = 0; i < load.topics; i++) {
        publisher_send(p, 0, 0);
        if (i % load.batch == 0)
            load.driver->flush(p->endpoint);
        if (i % load.window == 0 || i == load.topics - 1)
            load.driver->sync(p->endpoint);
    }
}

void work_snapshot(void)
{
    if (!load.driver->keeps_state)
        _exit(NOT_APPLICABLE);
    load.publishers = load.subscribers = 1;
    publisher_open(0, true);
    uint64_t start = now_ns();
    store_all(&load_publishers[0]);
    uint64_t stored = now_ns();
    long rss = usage_memory_kib(load.broker, "VmRSS");
    load.driver->close(load_publishers[0].endpoint);

    struct subscriber *s = &load_subscribers[0];
    s->endpoint = endpoint_open(SUBSCRIBER, true, s);
    struct usage from = usage_now(load.broker);
    uint64_t deadline = from.time_ns + (uint64_t)(load.patience * 1e9);
    load.driver->subscribe(s->endpoint);
    while (subscribers_received() < load.topics && now_ns() < deadline)
        load.driver->poll(s->endpoint, 1);
    struct usage to = usage_now(load.broker);

    double elapsed = (double)(to.time_ns - from.time_ns) / 1e9;
    printf(",\"load_per_s\":%.0f", load.topics / ((double)(stored - start) / 1e9));
    printf(",\"snapshot_ms\":%.2f,\"keys_per_s\":%.0f", elapsed * 1e3, load.topics / elapsed);
    printf(",\"delivered\":%.5f", (double)subscribers_received() / load.topics);
    usage_print(from, to, load.topics);
    printf(",\"broker_rss_kib\":%ld,\"broker_peak_kib\":%ld", rss, usage_memory_kib(load.broker, "VmHWM"));
}

/* With one topic: what a connection costs. With more: what a subscription of one connection costs. The first
 * connection is not counted, since it also pays for what all share. */
void work_idle(void)
{
    unsigned wanted = load.topics, count = load.topics == 1 ? load.connections : 1;
    if (load.topics > 1 && load.driver->subscribes_to_all)
        _exit(NOT_APPLICABLE);
    load.topics = 1;
    void *first = endpoint_open(SUBSCRIBER, false, &load_subscribers[0]);
    load.driver->subscribe(first);
    wait_ms(SETTLE_MS);
    long before = usage_memory_kib(load.broker, "VmRSS");
    load.topics = wanted;
    void **endpoints = allocate(count * sizeof *endpoints);
    for (unsigned i = 0; i < count; i++) {
        endpoints[i] = endpoint_open(SUBSCRIBER, false, &load_subscribers[0]);
        load.driver->subscribe(endpoints[i]);
    }
    wait_ms(SETTLE_MS);
    long after = usage_memory_kib(load.broker, "VmRSS");
    printf(",\"broker_rss_kib\":%ld,\"bytes_each\":%.0f", after,
           1024.0 * (double)(after - before) / (wanted == 1 ? count : wanted));
}
