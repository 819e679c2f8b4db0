/* Works of bench_crowd about joining: all at once, at rest, and what joiners do to those who are there already. */
#include <stdio.h>

#include "tests/bench/peers/crowd.h"
#include "tests/bench/peers/crowd_work.h"
#include "tests/bench/peers/live.h"
#include "tests/bench/peers/usage.h"
#include "tests/bench/peers/util.h"

enum {
    WINDOW = 1 << 20, /* as libweir's */
    SMALL_WINDOW = 4096,
    SETTLE_MS = 500,
    REST_MS = 4000,     /* as work idle */
    HEARTBEAT_MS = 5000 /* the broker's: less would see all of it or nothing */
};

static const char TOPIC[] = "state"; /* which the broker's configuration makes a map */

static double per(double sum, unsigned count) { return sum / (count > 0 ? count : 1); }

/* Waits while a crowd goes on answering pings. */
static void settle(struct crowd *crowd, double ms)
{
    for (uint64_t until = now_ns() + (uint64_t)(ms * 1e6); now_ns() < until;)
        crowd_poll(crowd, 10);
}

void work_join(const struct crowd_plan *plan)
{
    struct crowd crowd;
    crowd_init(&crowd, plan->sessions, WINDOW);
    live_fill(plan->url, TOPIC, plan->keys, plan->size);
    long rest = usage_memory_kib(plan->broker, "VmRSS");
    struct crowd_session *sessions = crowd_connect(&crowd, plan->url, plan->sessions);
    settle(&crowd, SETTLE_MS);
    struct weir *asker = live_open(plan->url);
    uint64_t built = live_figure(asker, TOPIC, "pages_built"), sent = live_figure(asker, TOPIC, "pages_sent");
    long connected = usage_memory_kib(plan->broker, "VmRSS");
    struct usage from = usage_now(plan->broker);
    for (unsigned i = 0; i < plan->sessions; i++)
        crowd_subscribe(&sessions[i], 1, TOPIC, POLICY_RESYNC);
    crowd_await(&crowd, &crowd.ended, plan->sessions, plan->patience, "snapshots ended");
    struct usage to = usage_now(plan->broker);
    settle(&crowd, SETTLE_MS);
    long joined = usage_memory_kib(plan->broker, "VmRSS"), peak = usage_memory_kib(plan->broker, "VmHWM");
    uint64_t built_for_joins = live_figure(asker, TOPIC, "pages_built") - built;
    sent = live_figure(asker, TOPIC, "pages_sent") - sent;
    weir_close(&asker, 0);
    crowd_close(&crowd);
    wait_ms(2 * SETTLE_MS);

    double ms = (double)(to.time_ns - from.time_ns) / 1e6;
    printf(",\"join_ms\":%.1f,\"mb_per_s\":%.1f,\"mb_each\":%.3f", ms, (double)crowd.bytes / 1e3 / ms,
           per((double)crowd.bytes / 1e6, plan->sessions));
    usage_print(from, to, plan->sessions);
    printf(",\"rest_kib\":%ld,\"connected_kib\":%ld,\"joined_kib\":%ld,\"peak_kib\":%ld,\"left_kib\":%ld", rest,
           connected, joined, peak, usage_memory_kib(plan->broker, "VmRSS"));
    printf(",\"pages_built_before\":%lu,\"pages_built\":%lu,\"pages_sent\":%lu", (unsigned long)built,
           (unsigned long)built_for_joins, (unsigned long)sent);
    printf(",\"bytes_a_connection\":%.0f,\"peak_bytes_a_joiner\":%.0f",
           per(1024.0 * (double)(connected - rest), plan->sessions),
           per(1024.0 * (double)(peak - connected), plan->sessions));
}

void work_rest(const struct crowd_plan *plan)
{
    struct crowd crowd;
    char topic[32];
    crowd_init(&crowd, plan->sessions, WINDOW);
    long before = usage_memory_kib(plan->broker, "VmRSS");
    struct crowd_session *sessions = crowd_connect(&crowd, plan->url, plan->sessions);
    settle(&crowd, REST_MS);
    long connected = usage_memory_kib(plan->broker, "VmRSS");
    for (unsigned i = 0; i < plan->sessions; i++)
        for (unsigned k = 0; k < plan->subscriptions; k++) {
            snprintf(topic, sizeof topic, "b/%u", (i * plan->subscriptions + k) % plan->topics);
            crowd_subscribe(&sessions[i], k, topic, POLICY_RESYNC);
        }
    uint64_t wanted = (uint64_t)plan->sessions * plan->subscriptions;
    crowd_await(&crowd, &crowd.standing, wanted, plan->patience, "subscriptions stand");
    crowd_await(&crowd, &crowd.ended, wanted, plan->patience, "snapshots ended");
    settle(&crowd, REST_MS);
    long subscribed = usage_memory_kib(plan->broker, "VmRSS");
    struct usage from = usage_now(plan->broker);
    settle(&crowd, plan->seconds * 1e3 > HEARTBEAT_MS ? plan->seconds * 1e3 : HEARTBEAT_MS);
    struct usage to = usage_now(plan->broker);
    crowd_close(&crowd);
    wait_ms(REST_MS);
    printf(",\"subscriptions\":%lu,\"bytes_a_connection\":%.0f,\"bytes_a_subscription\":%.0f", (unsigned long)wanted,
           per(1024.0 * (double)(connected - before), plan->sessions),
           per(1024.0 * (double)(subscribed - connected), (unsigned)wanted));
    printf(",\"cpu_at_rest\":%.5f",
           (double)(to.broker_cpu_ns - from.broker_cpu_ns) / (double)(to.time_ns - from.time_ns));
    printf(",\"rest_kib\":%ld,\"joined_kib\":%ld,\"left_kib\":%ld", before, subscribed,
           usage_memory_kib(plan->broker, "VmRSS"));
}

/* A subscriber of the topic that all the others join. */
void work_pause(const struct crowd_plan *plan)
{
    static struct live_subscriber before, during;
    static struct live_publisher publisher;
    struct crowd crowd;
    crowd_init(&crowd, plan->sessions, WINDOW);
    live_fill(plan->url, TOPIC, plan->keys, plan->size);
    struct crowd_session *sessions = crowd_connect(&crowd, plan->url, plan->sessions);
    publisher = (struct live_publisher){.topic = TOPIC, .keys = plan->keys, .size = plan->size, .rate = plan->rate};
    live_subscriber_start(&before, plan->url, TOPIC, false);
    live_publisher_start(&publisher, plan->url);
    settle(&crowd, SETTLE_MS);
    atomic_store(&before.since, now_ns());
    settle(&crowd, plan->seconds * 1e3);
    live_subscriber_stop(&before);
    live_subscriber_start(&during, plan->url, TOPIC, false);
    uint64_t start = now_ns();
    atomic_store(&during.since, start);
    for (unsigned i = 0; i < plan->sessions; i++)
        crowd_subscribe(&sessions[i], 1, TOPIC, POLICY_RESYNC);
    crowd_await(&crowd, &crowd.ended, plan->sessions, plan->patience, "snapshots ended");
    double ms = (double)(now_ns() - start) / 1e6;
    live_subscriber_stop(&during);
    atomic_store(&publisher.stop, true);
    printf(",\"join_ms\":%.1f,\"mb_per_s\":%.1f", ms, (double)crowd.bytes / 1e3 / ms);
    print_latency("before", &before.latency);
    print_latency("during", &during.latency);
    printf(",\"p99_ratio\":%.2f,\"omitted\":%lu",
           (double)hist_quantile(&during.latency, .99) / (double)hist_quantile(&before.latency, .99),
           (unsigned long)during.omitted);
}

static double fold_rate(const struct crowd_plan *plan, struct crowd *crowd)
{
    struct live_publisher publisher = {.topic = TOPIC, .keys = plan->keys, .size = plan->size};
    live_publisher_start(&publisher, plan->url);
    uint64_t start = now_ns();
    settle(crowd, plan->seconds * 1e3);
    live_publisher_stop(&publisher);
    return (double)publisher.sent / ((double)(now_ns() - start) / 1e9);
}

/* Sessions with hardly any window begin to read the topic's snapshot and hold it open. */
void work_update(const struct crowd_plan *plan)
{
    struct crowd crowd;
    crowd_init(&crowd, plan->sessions, SMALL_WINDOW);
    live_fill(plan->url, TOPIC, plan->keys, plan->size);
    struct crowd_session *sessions = crowd_connect(&crowd, plan->url, plan->sessions);
    long rest = usage_memory_kib(plan->broker, "VmRSS");
    double alone = fold_rate(plan, &crowd), again = 0, held = 0;
    for (unsigned i = 0; i < plan->sessions; i++) {
        crowd_stall(&sessions[i]);
        crowd_subscribe(&sessions[i], 1, TOPIC, POLICY_RESYNC);
    }
    wait_ms(SETTLE_MS);
    held = fold_rate(plan, &crowd);
    long peak = usage_memory_kib(plan->broker, "VmHWM");
    crowd_close(&crowd);
    wait_ms(SETTLE_MS);
    again = fold_rate(plan, &crowd);
    printf(",\"alone_per_s\":%.0f,\"held_per_s\":%.0f,\"again_per_s\":%.0f,\"held_ratio\":%.2f", alone, held, again,
           2 * held / (alone + again));
    printf(",\"rest_kib\":%ld,\"peak_kib\":%ld,\"left_kib\":%ld", rest, peak, usage_memory_kib(plan->broker, "VmRSS"));
}
