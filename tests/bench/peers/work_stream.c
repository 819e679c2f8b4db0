/* Work `stream`: publishers send to all subscribers, as fast as the window allows or at a fixed rate. */
#include <stdio.h>

#include "tests/bench/peers/load.h"
#include "tests/bench/peers/usage.h"
#include "tests/bench/peers/util.h"

enum { DRAINED_AFTER_NS = 500000000 };

static uint64_t total_sent(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < load.publishers; i++)
        sum += load_get(&load_publishers[i].sent);
    return sum;
}

/* Waits for what is still on its way; gives up when nothing came for half a second. */
static void drain(void)
{
    uint64_t expected = total_sent() * load.subscribers, before = 0, since = now_ns();
    for (uint64_t got; (got = subscribers_received()) < expected; wait_ms(1)) {
        if (got != before) {
            before = got;
            since = now_ns();
        } else if (now_ns() - since > DRAINED_AFTER_NS) {
            return;
        }
    }
}

static void print_quantiles(const char *name, const struct histogram *h)
{
    static const struct {
        const char *name;
        double q;
    } quantiles[] = {{"p50", .5}, {"p90", .9}, {"p99", .99}, {"p999", .999}};
    for (unsigned i = 0; i < sizeof quantiles / sizeof *quantiles; i++)
        printf(",\"%s_%s_us\":%.1f", name, quantiles[i].name, (double)hist_quantile(h, quantiles[i].q) / 1e3);
    printf(",\"%s_max_us\":%.1f", name, (double)h->max / 1e3);
}

static void start(void)
{
    load_set(&load_record_from, UINT64_MAX);
    for (unsigned i = 0; i < load.subscribers; i++) {
        struct subscriber *s = &load_subscribers[i];
        s->endpoint = endpoint_open(SUBSCRIBER, false, s);
        load.driver->subscribe(s->endpoint);
        if (pthread_create(&s->thread, NULL, subscriber_main, s) != 0)
            die("no thread for subscriber %u", i);
    }
    for (unsigned i = 0; i < load.publishers; i++) {
        publisher_open(i, false);
        publisher_probe(&load_publishers[i]);
    }
    for (unsigned i = 0; i < load.publishers; i++)
        if (pthread_create(&load_publishers[i].thread, NULL, publisher_main, &load_publishers[i]) != 0)
            die("no thread for publisher %u", i);
}

/* Ends the publishers, takes in what is on its way, and prints whether all of it came. */
static void finish(void)
{
    uint64_t stalls = 0, out_of_sequence = 0;
    atomic_store(&load_publishers_stop, true);
    for (unsigned i = 0; i < load.publishers; i++) {
        pthread_join(load_publishers[i].thread, NULL);
        stalls += load_publishers[i].stalls;
    }
    drain();
    double delivered = (double)subscribers_received() / (double)(total_sent() * load.subscribers);
    double kernel = usage_kernel_share(load.broker);
    long peak = usage_memory_kib(load.broker, "VmHWM");
    atomic_store(&load_subscribers_stop, true);
    for (unsigned i = 0; i < load.subscribers; i++) {
        pthread_join(load_subscribers[i].thread, NULL);
        out_of_sequence += load_get(&load_subscribers[i].out_of_sequence);
    }
    printf(",\"delivered\":%.5f,\"out_of_sequence\":%lu,\"stalls\":%lu", delivered, (unsigned long)out_of_sequence,
           (unsigned long)stalls);
    printf(",\"broker_kernel\":%.2f,\"broker_peak_kib\":%ld", kernel, peak);
}

void work_stream(void)
{
    static struct histogram latency, transit;
    start();
    wait_ms((int)(load.warmup * 1e3));
    uint64_t received_from = subscribers_received();
    struct usage from = usage_now(load.broker);
    load_set(&load_record_from, from.time_ns);
    wait_ms((int)(load.seconds * 1e3));
    /* Figures are of a delivery: on a busy machine a moment may pass without one. */
    for (uint64_t began = now_ns(); subscribers_received() == received_from; wait_ms(1))
        if ((double)(now_ns() - began) > load.patience * 1e9)
            die("%s: nothing was delivered", load.driver->name);
    uint64_t received_to = subscribers_received();
    struct usage to = usage_now(load.broker);
    finish();

    double messages = (double)(received_to - received_from);
    double elapsed = (double)(to.time_ns - from.time_ns) / 1e9;
    printf(",\"deliveries_per_s\":%.0f,\"mb_per_s\":%.1f", messages / elapsed, messages / elapsed * load.size / 1e6);
    usage_print(from, to, messages);
    if (load.rate <= 0)
        return;
    for (unsigned i = 0; i < load.subscribers; i++) {
        hist_merge(&latency, &load_subscribers[i].latency);
        hist_merge(&transit, &load_subscribers[i].transit);
    }
    print_quantiles("latency", &latency);
    print_quantiles("transit", &transit);
}
