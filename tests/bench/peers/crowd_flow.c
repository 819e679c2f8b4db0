/* Works of bench_crowd about what flows: many publishers, many subscribers, patterns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/peers/crowd.h"
#include "tests/bench/peers/crowd_work.h"
#include "tests/bench/peers/live.h"
#include "tests/bench/peers/usage.h"
#include "tests/bench/peers/util.h"

enum { WINDOW = 1 << 20, AHEAD = 64, BATCH = 8, ITEMS_MAX = 4096, SETTLE_MS = 500 };

static const char TOPIC[] = "b/0";

static void settle(struct crowd *crowd, double ms)
{
    for (uint64_t until = now_ns() + (uint64_t)(ms * 1e6); now_ns() < until;)
        crowd_poll(crowd, 10);
}

/* ---------------------------------------------------------------------------------------- many publishers */

/* One frame of BATCH records where its acks and the broker's credit allow it. */
static bool publish_some(struct crowd_session *s, struct view items)
{
    if (s->number - s->acked + BATCH > AHEAD || s->published >= s->may_publish)
        return false;
    struct frame frame = {
        .op = FRAME_PUBLISH,
        .as.publish = {
            .topic = view_text(TOPIC), .number = s->number + 1, .ack = ACK_FOLDED, .count = BATCH, .items = items}};
    crowd_send(s, &frame);
    s->number += BATCH;
    return true;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void print_shares(uint64_t *shares, unsigned count)
{
    double sum = 0, squares = 0;
    qsort(shares, count, sizeof *shares, compare);
    for (unsigned i = 0; i < count; i++) {
        sum += (double)shares[i];
        squares += (double)shares[i] * (double)shares[i];
    }
    double mean = sum / count;
    printf(",\"share_min\":%.3f,\"share_p5\":%.3f,\"share_p95\":%.3f,\"share_max\":%.3f,\"jain\":%.4f",
           (double)shares[0] / mean, (double)shares[count / 20] / mean, (double)shares[count - 1 - count / 20] / mean,
           (double)shares[count - 1] / mean, sum * sum / (count * squares));
}

void work_fair(const struct crowd_plan *plan)
{
    struct crowd crowd;
    uint8_t items[ITEMS_MAX], value[ITEMS_MAX / BATCH / 2] = {0};
    struct value_writer writer;
    if (plan->size > sizeof value)
        die("fair: values of at most %zu bytes", sizeof value);
    value_writer_init(&writer, items, sizeof items);
    for (int i = 0; i < BATCH; i++) {
        value_write_nil(&writer);
        value_write_bin(&writer, (struct view){value, plan->size});
    }
    crowd_init(&crowd, plan->sessions, WINDOW);
    struct crowd_session *sessions = crowd_connect(&crowd, plan->url, plan->sessions);
    uint64_t *shares = allocate(plan->sessions * sizeof *shares);
    struct usage from = {0}, to = {0};
    uint64_t start = now_ns(), warm = start + (uint64_t)(plan->seconds * 0.5e9);
    uint64_t end = warm + (uint64_t)(plan->seconds * 1e9), before = 0;
    for (uint64_t now; (now = now_ns()) < end;) {
        bool some = false;
        for (unsigned i = 0; i < plan->sessions; i++)
            some |= publish_some(&sessions[i], (struct view){items, writer.size});
        crowd_poll(&crowd, some ? 0 : 1);
        if (before == 0 && now >= warm) {
            from = usage_now(plan->broker);
            before = crowd.acked;
            for (unsigned i = 0; i < plan->sessions; i++)
                shares[i] = sessions[i].acked;
        }
    }
    to = usage_now(plan->broker);
    for (unsigned i = 0; i < plan->sessions; i++)
        shares[i] = sessions[i].acked - shares[i];
    double acked = (double)(crowd.acked - before);
    printf(",\"records_per_s\":%.0f", acked / ((double)(to.time_ns - from.time_ns) / 1e9));
    usage_print(from, to, acked);
    print_shares(shares, plan->sessions);
}

/* --------------------------------------------------------------------------------------- many subscribers */

void work_fan(const struct crowd_plan *plan)
{
    static struct histogram latency;
    struct crowd crowd;
    struct live_publisher publisher = {.topic = TOPIC, .size = plan->size, .rate = plan->rate};
    crowd_init(&crowd, plan->sessions, WINDOW);
    crowd.latency = &latency;
    struct crowd_session *sessions = crowd_connect(&crowd, plan->url, plan->sessions);
    for (unsigned i = 0; i < plan->sessions; i++)
        crowd_subscribe(&sessions[i], 1, TOPIC, POLICY_RESYNC);
    crowd_await(&crowd, &crowd.ended, plan->sessions, plan->patience, "snapshots ended");
    long before = usage_memory_kib(plan->broker, "VmRSS");
    struct usage from = usage_now(plan->broker);
    live_publisher_start(&publisher, plan->url);
    settle(&crowd, plan->seconds * 1e3);
    atomic_store(&publisher.stop, true);
    settle(&crowd, SETTLE_MS); /* its flush, and what is on its way */
    live_publisher_stop(&publisher);
    crowd_await(&crowd, &crowd.updates, publisher.sent * plan->sessions, plan->patience, "updates came");
    struct usage to = usage_now(plan->broker);
    printf(",\"deliveries\":%lu", (unsigned long)crowd.updates);
    usage_print(from, to, (double)crowd.updates);
    printf(",\"rest_kib\":%ld,\"peak_kib\":%ld", before, usage_memory_kib(plan->broker, "VmHWM"));
    print_latency("latency", &latency);
}

/* ------------------------------------------------------------------------------------------------ patterns */

static void fold_topics(struct weir *client, unsigned topics, uint64_t records, unsigned size)
{
    uint8_t *value = allocate(size);
    char topic[32];
    for (uint64_t i = 0; i < records; i++) {
        snprintf(topic, sizeof topic, "b/%u", (unsigned)(i % topics));
        struct weir_record record = {
            .topic = topic, .value = value, .value_size = size, .form = WEIR_BYTES, .ack = WEIR_ACK_FOLDED};
        if (weir_publish(client, &record, WEIR_FOREVER, NULL) != WEIR_OK)
            die("patterns: publish");
    }
    if (weir_flush(client, WEIR_FOREVER) != WEIR_OK)
        die("patterns: not all was folded");
    free(value);
}

/* Time of the broker for a record, in us, of some rounds over all topics. */
static double fold_cost(const struct crowd_plan *plan, struct weir *client, struct crowd *crowd)
{
    uint64_t records = (uint64_t)plan->topics * 2 > 200000 ? (uint64_t)plan->topics * 2 : 200000;
    crowd_poll(crowd, 0);
    struct usage from = usage_now(plan->broker);
    fold_topics(client, plan->topics, records, plan->size);
    struct usage to = usage_now(plan->broker);
    return (double)(to.broker_cpu_ns - from.broker_cpu_ns) / 1e3 / (double)records;
}

/* Patterns that match nothing, over topics that exist; then one that matches them all. */
void work_patterns(const struct crowd_plan *plan)
{
    struct crowd crowd;
    char pattern[32];
    crowd_init(&crowd, plan->sessions + 1, WINDOW);
    struct weir *client = live_open(plan->url);
    struct usage start = usage_now(plan->broker);
    fold_topics(client, plan->topics, plan->topics, plan->size);
    struct usage made = usage_now(plan->broker);
    double before = fold_cost(plan, client, &crowd);
    struct crowd_session *sessions = crowd_connect(&crowd, plan->url, plan->sessions);
    long rest = usage_memory_kib(plan->broker, "VmRSS");
    struct usage from = usage_now(plan->broker);
    for (unsigned i = 0; i < plan->sessions; i++)
        for (unsigned k = 0; k < plan->subscriptions; k++) {
            snprintf(pattern, sizeof pattern, "other/%u/+/%u", i, k);
            crowd_subscribe(&sessions[i], k, pattern, POLICY_RESYNC);
        }
    uint64_t patterns = (uint64_t)plan->sessions * plan->subscriptions;
    crowd_await(&crowd, &crowd.standing, patterns, plan->patience, "patterns stand");
    struct usage to = usage_now(plan->broker);
    long subscribed = usage_memory_kib(plan->broker, "VmRSS");
    double after = fold_cost(plan, client, &crowd);
    struct crowd_session *all = crowd_connect(&crowd, plan->url, 1);
    struct usage match_from = usage_now(plan->broker);
    crowd_subscribe(all, 1, "b/#", POLICY_RESYNC);
    crowd_await(&crowd, &crowd.ended, plan->topics, plan->patience, "topics matched");
    struct usage match_to = usage_now(plan->broker);
    printf(",\"patterns\":%lu,\"topics\":%u", (unsigned long)patterns, plan->topics);
    printf(",\"make_us\":%.2f,\"before_us\":%.3f,\"after_us\":%.3f,\"cost_ratio\":%.2f",
           (double)(made.broker_cpu_ns - start.broker_cpu_ns) / 1e3 / plan->topics, before, after, after / before);
    printf(",\"subscribe_us\":%.2f,\"bytes_a_pattern\":%.0f,\"match_all_ms\":%.1f,\"match_us\":%.2f",
           (double)(to.broker_cpu_ns - from.broker_cpu_ns) / 1e3 / (double)patterns,
           1024.0 * (double)(subscribed - rest) / (double)patterns,
           (double)(match_to.time_ns - match_from.time_ns) / 1e6,
           (double)(match_to.broker_cpu_ns - match_from.broker_cpu_ns) / 1e3 / plan->topics);
}
