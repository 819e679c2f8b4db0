/* `weir bench`: publishers and subscribers against a running broker. The main thread starts and reports; each publisher
 * has a thread of its own; subscribers count on their clients' threads. */
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/base/clock.h"
#include "clients/cli/cli.h"
#include "clients/cli/histogram.h"

static const char help[] =
    "weir bench: measure a broker\n"
    "\n"
    "usage: weir bench pub|sub|pubsub|latency [options]\n"
    "\n"
    "  pub       publish as fast as the broker takes it\n"
    "  sub       count what comes from --pattern\n"
    "  pubsub    both, in this process: what is published must all arrive\n"
    "  latency   pubsub at a fixed rate; time counts from when a record was due, so no wait is left out\n"
    "\n" CLI_OPTIONS_HELP "      --size BYTES         of a record's value, at least 16; default 128\n"
    "      --rate N             records a second, all publishers together; 0: no limit. Default 0, latency 1000\n"
    "      --topics N           publish to so many in turn; default 1\n"
    "      --connections N      publishers; default 1\n"
    "      --subscribers N      default 1\n"
    "      --duration SECONDS   default 5\n"
    "      --ack LEVEL          none (default), accepted or folded\n"
    "      --policy P           of the subscribers: block (default, so that nothing may be left out) or resync\n"
    "      --pattern P          of the subscribers; default the topics published to, for sub 'bench/#'\n"
    "      --admin URL          where to read the broker's processor time; default as weir admin\n"
    "\n" CLI_EXIT_HELP;

enum {
    OPTION_SIZE = CLI_OPTION_VERB,
    OPTION_RATE,
    OPTION_TOPICS,
    OPTION_CONNECTIONS,
    OPTION_SUBSCRIBERS,
    OPTION_DURATION,
    OPTION_ACK,
    OPTION_POLICY,
    OPTION_PATTERN,
    OPTION_ADMIN
};

static const struct option options[] = {CLI_OPTIONS,
                                        {"size", required_argument, NULL, OPTION_SIZE},
                                        {"rate", required_argument, NULL, OPTION_RATE},
                                        {"topics", required_argument, NULL, OPTION_TOPICS},
                                        {"connections", required_argument, NULL, OPTION_CONNECTIONS},
                                        {"subscribers", required_argument, NULL, OPTION_SUBSCRIBERS},
                                        {"duration", required_argument, NULL, OPTION_DURATION},
                                        {"ack", required_argument, NULL, OPTION_ACK},
                                        {"policy", required_argument, NULL, OPTION_POLICY},
                                        {"pattern", required_argument, NULL, OPTION_PATTERN},
                                        {"admin", required_argument, NULL, OPTION_ADMIN},
                                        {NULL, 0, NULL, 0}};

enum { MEMBERS_MAX = 1024, SETTLE_MS = 10000 };

struct bench {
    struct cli cli;
    bool publishes, subscribes, is_latency;
    uint64_t size, rate, topics, connections, subscribers, duration_s;
    enum weir_ack ack;
    const char *policy, *pattern, *admin;
    char prefix[64];
    uint64_t start_ns, end_ns;
};

struct publisher {
    struct bench *bench;
    struct weir *client;
    pthread_t thread;
    uint64_t index, published;
    enum weir_error error;
};

struct subscriber {
    struct bench *bench;
    struct weir *client;
    struct weir_subscription *subscription;
    atomic_bool is_ready;           /* its client's thread sets it, release; the main thread waits for it, acquire */
    atomic_uint_least64_t received; /* relaxed: a count that the main thread looks at until it stands still */
    uint64_t bytes, omitted;        /* the client's thread; the main thread after weir_close */
    uint64_t begins, expected;
    struct histogram latency;
};

/* --------------------------------------------------------------------------------------------- arguments */

static int number_option(struct bench *b, int option)
{
    static const struct {
        int option;
        const char *name;
        uint64_t min, max;
    } numbers[] = {{OPTION_SIZE, "--size", 16, 16 << 20},
                   {OPTION_RATE, "--rate", 0, 100000000},
                   {OPTION_TOPICS, "--topics", 1, 1000000},
                   {OPTION_CONNECTIONS, "--connections", 1, MEMBERS_MAX},
                   {OPTION_SUBSCRIBERS, "--subscribers", 1, MEMBERS_MAX},
                   {OPTION_DURATION, "--duration", 1, 86400}};
    uint64_t *const targets[] = {&b->size, &b->rate, &b->topics, &b->connections, &b->subscribers, &b->duration_s};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (numbers[i].option == option)
            return cli_number(&b->cli, numbers[i].name, optarg, numbers[i].min, numbers[i].max, targets[i]) ? -1
                                                                                                            : CLI_USAGE;
    }
    if (option == OPTION_ACK && strcmp(optarg, "none") != 0 && strcmp(optarg, "accepted") != 0 &&
        strcmp(optarg, "folded") != 0)
        return cli_fail(&b->cli, CLI_USAGE, "--ack: '%s' is none of none, accepted, folded", optarg);
    if (option == OPTION_ACK)
        b->ack = *optarg == 'n' ? WEIR_ACK_NONE : *optarg == 'a' ? WEIR_ACK_ACCEPTED : WEIR_ACK_FOLDED;
    else if (option == OPTION_POLICY)
        b->policy = optarg;
    else if (option == OPTION_PATTERN)
        b->pattern = optarg;
    else
        b->admin = optarg;
    return -1;
}

static int arguments_read(struct bench *b, int argc, char **argv)
{
    int option = 0, code = -1;
    bool has_rate = false;
    while ((option = getopt_long(argc, argv, "s:", options, NULL)) != -1) {
        if (!cli_option(&b->cli, option, help, &code))
            code = number_option(b, option);
        if (code >= 0)
            return code;
        has_rate |= option == OPTION_RATE;
    }
    const char *mode = argc - optind == 1 ? argv[optind] : "";
    b->is_latency = strcmp(mode, "latency") == 0;
    b->publishes = b->is_latency || strcmp(mode, "pub") == 0 || strcmp(mode, "pubsub") == 0;
    b->subscribes = b->is_latency || strcmp(mode, "sub") == 0 || strcmp(mode, "pubsub") == 0;
    if (!b->publishes && !b->subscribes) {
        fputs("weir bench: say pub, sub, pubsub or latency; see weir bench --help\n", stderr);
        return CLI_USAGE;
    }
    if (b->is_latency && !has_rate)
        b->rate = 1000;
    return -1;
}

/* --------------------------------------------------------------------------------------------- publishing */

static void sleep_until(uint64_t at_ns)
{
    struct timespec until = {.tv_sec = (time_t)(at_ns / NS_PER_S), .tv_nsec = (long)(at_ns % NS_PER_S)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static void publish_until_end(struct publisher *p, uint8_t *value)
{
    struct bench *b = p->bench;
    char topic[128];
    struct weir_record record = {
        .topic = topic, .value = value, .value_size = b->size, .form = WEIR_BYTES, .ack = b->ack};
    uint64_t interval = b->rate == 0 ? 0 : NS_PER_S * b->connections / b->rate;
    uint64_t due = b->start_ns + (interval / b->connections) * p->index;
    for (uint64_t i = 0;; i++) {
        uint64_t now = clock_now_ns();
        if (interval == 0)
            due = now;
        else if (due > now)
            sleep_until(due);
        if (due >= b->end_ns)
            return;
        memcpy(value, &due, sizeof due);
        if (i == 0 || b->topics > 1)
            snprintf(topic, sizeof topic, "%s/%llu", b->prefix,
                     (unsigned long long)((p->index + i * b->connections) % b->topics));
        p->error = weir_publish(p->client, &record, WEIR_FOREVER, NULL);
        if (p->error != WEIR_OK)
            return;
        p->published++;
        due += interval;
    }
}

static void *publisher_main(void *argument)
{
    struct publisher *p = argument;
    uint8_t *value = calloc(1, p->bench->size);
    if (value == NULL) {
        p->error = WEIR_NO_MEMORY;
        return NULL;
    }
    sleep_until(p->bench->start_ns);
    publish_until_end(p, value);
    if (p->error == WEIR_OK)
        p->error = weir_flush(p->client, SETTLE_MS);
    free(value);
    return NULL;
}

/* -------------------------------------------------------------------------------------------- subscribing */

/* On the subscriber's client's thread. */
static void on_event(struct weir_subscription *subscription, const struct weir_event *event, void *context)
{
    struct subscriber *s = context;
    (void)subscription;
    if (event->kind == WEIR_EVENT_SUBSCRIBED)
        atomic_store_explicit(&s->is_ready, true, memory_order_release);
    if (event->kind == WEIR_EVENT_GAP || event->kind == WEIR_EVENT_CONFLATED)
        s->omitted += event->seq_to - event->seq + 1;
    if (event->kind != WEIR_EVENT_UPDATE)
        return;
    if (s->bench->is_latency && event->value.size >= s->bench->size) {
        uint64_t due = 0, now = clock_now_ns();
        memcpy(&due, (const uint8_t *)event->value.data + (event->value.size - s->bench->size), sizeof due);
        histogram_add(&s->latency, now > due ? now - due : 0);
    }
    s->bytes += event->value.size;
    atomic_fetch_add_explicit(&s->received, 1, memory_order_relaxed);
}

static int subscriber_start(struct bench *b, struct subscriber *s)
{
    struct weir_subscribe_options wanted = {.policy = b->policy, .on_event = on_event, .context = s};
    char pattern[128];
    s->bench = b;
    int code = cli_connect(&b->cli, NULL, &s->client);
    if (code != CLI_OK)
        return code;
    snprintf(pattern, sizeof pattern, "%s/#", b->publishes ? b->prefix : "bench");
    const char *wanted_pattern = b->pattern != NULL ? b->pattern : pattern;
    enum weir_error error = weir_subscribe(s->client, wanted_pattern, &wanted, &s->subscription);
    if (error != WEIR_OK)
        return cli_fail(&b->cli, CLI_USAGE, "'%s': %s", wanted_pattern, weir_reason());
    uint64_t deadline = clock_now_ns() + b->cli.timeout_ms * NS_PER_MS;
    while (!atomic_load_explicit(&s->is_ready, memory_order_acquire)) {
        if (clock_now_ns() > deadline)
            return cli_fail(&b->cli, CLI_TIMEOUT, "the broker did not answer the subscription in time");
        sleep_until(clock_now_ns() + NS_PER_MS);
    }
    return CLI_OK;
}

static uint64_t received_total(struct subscriber *subscribers, uint64_t count)
{
    uint64_t total = 0;
    for (uint64_t i = 0; i < count; i++)
        total += atomic_load_explicit(&subscribers[i].received, memory_order_relaxed);
    return total;
}

/* Until all has arrived, or nothing has for a second. Returns when the last came. */
static uint64_t await_arrival(struct subscriber *subscribers, uint64_t count, uint64_t expected)
{
    uint64_t last = 0, last_ns = clock_now_ns();
    for (;;) {
        uint64_t now = clock_now_ns(), total = received_total(subscribers, count);
        if (total != last)
            last_ns = now;
        last = total;
        if (total >= expected || now - last_ns > NS_PER_S)
            return last_ns;
        sleep_until(now + 5 * NS_PER_MS);
    }
}

/* ------------------------------------------------------------------------------------------------- report */

struct totals {
    uint64_t published, refused, received, bytes, omitted, publish_ns, receive_ns, cpu_ns;
    bool has_cpu;
    struct histogram latency;
};

static void print_figure(bool json, const char *separator, const char *name, double value)
{
    if (json)
        printf("%s\"%s\":%.3f", separator, name, value);
    else
        printf("%s: %.3f\n", name, value);
}

static void print_report(const struct bench *b, const struct totals *t)
{
    static const struct {
        const char *name;
        double quantile;
    } points[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
    bool json = b->cli.json;
    print_figure(json, "{", "published", (double)t->published);
    print_figure(json, ",", "refused", (double)t->refused);
    if (b->publishes)
        print_figure(json, ",", "published_per_s", (double)t->published * 1e9 / (double)t->publish_ns);
    if (b->subscribes) {
        print_figure(json, ",", "received", (double)t->received);
        print_figure(json, ",", "omitted", (double)t->omitted);
        print_figure(json, ",", "received_per_s", (double)t->received * 1e9 / (double)t->receive_ns);
        print_figure(json, ",", "received_mb_per_s", (double)t->bytes * 1e3 / (double)t->receive_ns);
    }
    uint64_t handled = b->subscribes ? t->received : t->published;
    if (t->has_cpu && handled > 0)
        print_figure(json, ",", "broker_cpu_us_per_record", (double)t->cpu_ns / 1e3 / (double)handled);
    for (size_t i = 0; b->is_latency && i < sizeof points / sizeof points[0]; i++) {
        char name[32];
        snprintf(name, sizeof name, "latency_%s_us", points[i].name);
        print_figure(json, ",", name, (double)histogram_quantile(&t->latency, points[i].quantile) / 1e3);
    }
    if (b->is_latency)
        print_figure(json, ",", "latency_max_us", (double)t->latency.max / 1e3);
    fputs(json ? "}\n" : "", stdout);
}

/* ---------------------------------------------------------------------------------------------------- run */

static int publishers_run(struct bench *b, struct publisher *publishers, struct totals *totals)
{
    int code = CLI_OK;
    uint64_t started = 0;
    for (uint64_t i = 0; code == CLI_OK && i < b->connections; i++) {
        publishers[i].bench = b;
        publishers[i].index = i;
        code = cli_connect(&b->cli, NULL, &publishers[i].client);
    }
    b->start_ns = clock_now_ns() + 10 * NS_PER_MS;
    b->end_ns = b->start_ns + b->duration_s * NS_PER_S;
    for (; code == CLI_OK && started < b->connections; started++) {
        if (pthread_create(&publishers[started].thread, NULL, publisher_main, &publishers[started]) != 0)
            code = cli_fail(&b->cli, CLI_REFUSED, "cannot make a thread for each of %llu publishers",
                            (unsigned long long)b->connections);
    }
    for (uint64_t i = 0; i < started; i++) {
        struct weir_counts counts;
        pthread_join(publishers[i].thread, NULL);
        weir_counts(publishers[i].client, &counts);
        totals->published += publishers[i].published;
        totals->refused += counts.refused;
        if (publishers[i].error != WEIR_OK && code == CLI_OK)
            code = cli_fail(&b->cli, cli_code(publishers[i].error), "publishing: %s",
                            weir_error_text(publishers[i].error));
    }
    totals->publish_ns = clock_now_ns() - b->start_ns;
    return code;
}

static int bench_run(struct bench *b, struct publisher *publishers, struct subscriber *subscribers)
{
    struct totals *totals = calloc(1, sizeof *totals);
    int code = totals == NULL ? CLI_REFUSED : CLI_OK;
    uint64_t cpu_before = 0, cpu_after = 0;
    for (uint64_t i = 0; code == CLI_OK && b->subscribes && i < b->subscribers; i++)
        code = subscriber_start(b, &subscribers[i]);
    b->start_ns = clock_now_ns();
    bool has_cpu = code == CLI_OK && cli_admin_number(b->admin, "cpu_ns", &cpu_before);
    if (code == CLI_OK && b->publishes)
        code = publishers_run(b, publishers, totals);
    else if (code == CLI_OK)
        sleep_until(b->start_ns + b->duration_s * NS_PER_S);
    if (code == CLI_OK && b->subscribes) {
        uint64_t expected = b->publishes ? (totals->published - totals->refused) * b->subscribers : 0;
        totals->receive_ns = await_arrival(subscribers, b->subscribers, expected) - b->start_ns;
    }
    if (has_cpu)
        has_cpu = cli_admin_number(b->admin, "cpu_ns", &cpu_after);
    for (uint64_t i = 0; i < b->connections; i++)
        weir_close(&publishers[i].client, 0);
    for (uint64_t i = 0; i < b->subscribers; i++) {
        weir_close(&subscribers[i].client, 0);
        if (totals == NULL)
            continue;
        totals->received += subscribers[i].received;
        totals->bytes += subscribers[i].bytes;
        totals->omitted += subscribers[i].omitted;
        histogram_merge(&totals->latency, &subscribers[i].latency);
    }
    if (code == CLI_OK) {
        totals->has_cpu = has_cpu;
        totals->cpu_ns = cpu_after - cpu_before;
        print_report(b, totals);
    }
    free(totals);
    return code;
}

int bench_main(int argc, char **argv)
{
    struct bench b = {.size = 128, .topics = 1, .connections = 1, .subscribers = 1, .duration_s = 5, .policy = "block"};
    cli_init(&b.cli, "bench");
    int code = arguments_read(&b, argc, argv);
    if (code >= 0)
        return code;
    struct cli admin = {.url = b.admin};
    b.admin = cli_admin_url(&admin);
    snprintf(b.prefix, sizeof b.prefix, "bench/%d", (int)getpid());
    struct publisher *publishers = calloc(b.connections, sizeof *publishers);
    struct subscriber *subscribers = calloc(b.subscribers, sizeof *subscribers);
    code = publishers == NULL || subscribers == NULL ? cli_fail(&b.cli, CLI_REFUSED, "no memory")
                                                     : bench_run(&b, publishers, subscribers);
    free(publishers);
    free(subscribers);
    return code;
}
