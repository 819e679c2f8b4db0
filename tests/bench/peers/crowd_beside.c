/* Work `beside` of bench_crowd: what sessions that read nothing cost a subscriber that reads, and the broker.
 *
 * What else the machine does, and which of its states a run of broker and clients happens to be in, moves a latency by
 * far more than what is asked for. So one publisher and one subscriber go on all the while, and short windows without
 * and with the stalled sessions lie side by side: without, with, with, without, ... Each pair of neighbours gives a
 * ratio; of these the median, and the interval that the median of many such ratios is in for 95 %, by their order alone
 * (the sign test's), whatever their distribution. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/peers/crowd.h"
#include "tests/bench/peers/crowd_work.h"
#include "tests/bench/peers/live.h"
#include "tests/bench/peers/usage.h"
#include "tests/bench/peers/util.h"

/* Of a session that stalls: used up before a window begins, or it would be one that follows until then. */
enum { STALLED_WINDOW = 64 << 10, SETTLE_MS = 100, PAIRS_MAX = 200, FIGURES = 3 };

static const char TOPIC[] = "b/0";
static const char *const FIGURE_NAMES[FIGURES] = {"p50", "p99", "cpu"};

/* What was seen in each window, and how many there are. */
struct figures {
    double of[FIGURES][PAIRS_MAX];
    unsigned count;
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double middle(const double *sorted, unsigned count) { return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2; }

static double median(const double *values, unsigned count)
{
    double sorted[PAIRS_MAX];
    memcpy(sorted, values, count * sizeof *values);
    qsort(sorted, count, sizeof *sorted, compare);
    return middle(sorted, count);
}

/* The largest k for which fewer than k of `count` tosses of a coin come up heads at most once in 40; at least 1. */
static unsigned interval_rank(unsigned count)
{
    double chance = 1, sum = 0;
    for (unsigned i = 0; i < count; i++)
        chance /= 2;
    for (unsigned k = 0; k < count / 2; k++) {
        sum += chance;
        if (sum > .025)
            return k > 0 ? k : 1;
        chance = chance * (count - k) / (k + 1);
    }
    return count / 2 > 0 ? count / 2 : 1;
}

static void print_ratios(const char *name, const double *alone, const double *beside, unsigned count)
{
    double ratios[PAIRS_MAX];
    for (unsigned i = 0; i < count; i++)
        ratios[i] = beside[i] / alone[i];
    qsort(ratios, count, sizeof *ratios, compare);
    unsigned rank = interval_rank(count);
    printf(",\"%s_ratio\":%.3f,\"%s_ratio_low\":%.3f,\"%s_ratio_high\":%.3f", name, middle(ratios, count), name,
           ratios[rank - 1], name, ratios[count - rank]);
}

/* Until so many records more have come: what was begun before them is over then. */
static void await_records(struct crowd *crowd, struct live_subscriber *subscriber, uint64_t records, double patience_s)
{
    uint64_t wanted = atomic_load(&subscriber->received) + records, deadline = now_ns() + (uint64_t)(patience_s * 1e9);
    while (atomic_load(&subscriber->received) < wanted) {
        if (now_ns() > deadline)
            die("beside: no records came for %.0f s", patience_s);
        crowd_poll(crowd, 10);
    }
}

static void measure_window(const struct crowd_plan *plan, struct crowd *crowd, struct live_subscriber *subscriber,
                           struct figures *figures)
{
    memset(&subscriber->latency, 0, sizeof subscriber->latency);
    uint64_t from = now_ns(), until = from + (uint64_t)(plan->seconds * 1e9);
    uint64_t received = atomic_load(&subscriber->received);
    struct usage before = usage_now(plan->broker);
    atomic_store(&subscriber->until, until);
    atomic_store(&subscriber->since, from);
    while (now_ns() < until)
        crowd_poll(crowd, 10);
    struct usage after = usage_now(plan->broker);
    received = atomic_load(&subscriber->received) - received;
    while (atomic_load(&subscriber->newest) < until) /* what was due within the window, however late it comes */
        await_records(crowd, subscriber, 1, plan->patience);
    atomic_store(&subscriber->since, UINT64_MAX);
    if (received == 0 || subscriber->latency.count == 0)
        die("beside: nothing came in a window of %.2f s", plan->seconds);
    figures->of[0][figures->count] = (double)hist_quantile(&subscriber->latency, .5) / 1e3;
    figures->of[1][figures->count] = (double)hist_quantile(&subscriber->latency, .99) / 1e3;
    figures->of[2][figures->count] = (double)(after.broker_cpu_ns - before.broker_cpu_ns) / 1e3 / (double)received;
    figures->count++;
}

static void stall_all(const struct crowd_plan *plan, struct crowd *crowd, struct live_subscriber *subscriber,
                      enum overflow_policy policy)
{
    struct crowd_session *sessions = crowd_connect(crowd, plan->url, plan->sessions);
    for (unsigned i = 0; i < plan->sessions; i++) {
        crowd_subscribe(&sessions[i], 1, TOPIC, policy);
        crowd_stall(&sessions[i]);
    }
    await_records(crowd, subscriber, 4 * STALLED_WINDOW / plan->size + 1, plan->patience);
}

void work_beside(const struct crowd_plan *plan)
{
    static struct live_subscriber subscriber;
    static struct figures alone, beside;
    static struct crowd crowd;
    struct live_publisher publisher = {.topic = TOPIC, .size = plan->size, .rate = plan->rate};
    enum overflow_policy policy = POLICY_UNKNOWN;
    if (policy_find(view_text(plan->policy), &policy) != WEIR_OK)
        die("beside: no policy %s", plan->policy);
    if (plan->pairs == 0 || plan->pairs > PAIRS_MAX || plan->rate <= 0)
        die("beside: 1 to %d pairs, and a rate", PAIRS_MAX);
    crowd_init(&crowd, plan->sessions, STALLED_WINDOW);
    atomic_store(&subscriber.since, UINT64_MAX);
    live_subscriber_start(&subscriber, plan->url, TOPIC, true);
    live_publisher_start(&publisher, plan->url);
    for (unsigned i = 0; i < 2 * plan->pairs; i++) {
        bool is_beside = i % 4 == 1 || i % 4 == 2;
        if (is_beside && crowd.count == 0)
            stall_all(plan, &crowd, &subscriber, policy);
        else if (!is_beside && crowd.count > 0)
            crowd_close(&crowd);
        await_records(&crowd, &subscriber, (uint64_t)(plan->rate * SETTLE_MS / 1e3) + 1, plan->patience);
        measure_window(plan, &crowd, &subscriber, is_beside ? &beside : &alone);
    }
    live_publisher_stop(&publisher);
    live_subscriber_stop(&subscriber);
    printf(",\"policy\":\"%s\",\"pairs\":%u,\"omitted\":%lu", plan->policy, plan->pairs,
           (unsigned long)atomic_load(&subscriber.omitted));
    for (int i = 0; i < FIGURES; i++) {
        printf(",\"alone_%s_us\":%.2f,\"beside_%s_us\":%.2f", FIGURE_NAMES[i], median(alone.of[i], plan->pairs),
               FIGURE_NAMES[i], median(beside.of[i], plan->pairs));
        print_ratios(FIGURE_NAMES[i], alone.of[i], beside.of[i], plan->pairs);
    }
}
