/* bench_crowd: what many sessions at once cost a Weir broker, and do to each other. Prints a line of JSON. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/peers/crowd_work.h"
#include "tests/bench/peers/util.h"

static struct crowd_plan plan = {.work = "",
                                 .policy = "resync",
                                 .sessions = 100,
                                 .subscriptions = 1,
                                 .keys = 10000,
                                 .size = 100,
                                 .topics = 1,
                                 .pairs = 8,
                                 .seconds = 1,
                                 .rate = 1000,
                                 .patience = 120};

static const struct {
    const char *name;
    void (*run)(const struct crowd_plan *plan);
} works[] = {{"join", work_join},     {"rest", work_rest},   {"fair", work_fair},     {"fan", work_fan},
             {"beside", work_beside}, {"pause", work_pause}, {"update", work_update}, {"patterns", work_patterns}};

static const struct {
    const char *name;
    const char **text;
    unsigned *number;
    double *real;
} known[] = {
    {"work", &plan.work, NULL, NULL},         {"pub", &plan.url, NULL, NULL}, /* where the broker listens */
    {"policy", &plan.policy, NULL, NULL},                                     /* of those that stall */
    {"sessions", NULL, &plan.sessions, NULL}, {"subscriptions", NULL, &plan.subscriptions, NULL}, /* of each session */
    {"keys", NULL, &plan.keys, NULL},         {"size", NULL, &plan.size, NULL},                   /* of a value */
    {"topics", NULL, &plan.topics, NULL},     {"seconds", NULL, NULL, &plan.seconds},
    {"rate", NULL, NULL, &plan.rate},   /* records a second */
    {"pairs", NULL, &plan.pairs, NULL}, /* of windows, without and with those that stall */
    {"patience", NULL, NULL, &plan.patience},
};
enum { KNOWN_COUNT = sizeof known / sizeof known[0], PID = KNOWN_COUNT, IGNORED, HELP };

static void print_help(void)
{
    printf("bench_crowd --work WORK --pub URL --pid PID [OPTION...]: many sessions at once at a Weir broker\n"
           "  --pub URL             where the broker listens\n"
           "  --pid PID             the broker, whose processor time and memory are told\n"
           "  --sessions N          [%u]\n"
           "  --subscriptions N     of each session [%u]\n"
           "  --topics N            [%u]\n"
           "  --keys N              [%u]\n"
           "  --size BYTES          of a value [%u]\n"
           "  --rate N              records a second [%.0f]\n"
           "  --seconds S           [%.0f]\n"
           "  --pairs N             of windows, without and with those that stall [%u]\n"
           "  --policy NAME         of those that stall [%s]\n"
           "  --patience S          until what does not come is given up [%.0f]\n"
           "Prints a line of JSON. WORK is one of:",
           plan.sessions, plan.subscriptions, plan.topics, plan.keys, plan.size, plan.rate, plan.seconds, plan.pairs,
           plan.policy, plan.patience);
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++)
        printf(" %s", works[i].name);
    printf("\n");
}

static void read_options(int argc, char **argv)
{
    struct option options[KNOWN_COUNT + 5] = {{NULL, 0, NULL, 0}};
    for (int i = 0; i < KNOWN_COUNT; i++)
        options[i] = (struct option){known[i].name, required_argument, NULL, i};
    options[PID] = (struct option){"pid", required_argument, NULL, PID};
    options[IGNORED] = (struct option){"driver", required_argument, NULL, IGNORED};
    options[IGNORED + 1] = (struct option){"sub", required_argument, NULL, IGNORED}; /* as pub */
    options[IGNORED + 2] = (struct option){"help", no_argument, NULL, HELP};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == PID)
            plan.broker = (pid_t)strtol(optarg, NULL, 10);
        else if (option == IGNORED)
            continue;
        else if (option == HELP) {
            print_help();
            exit(0);
        } else if (option < 0 || option >= KNOWN_COUNT)
            die("unknown option: bench_crowd --help names those there are");
        else if (known[option].text != NULL)
            *known[option].text = optarg;
        else if (known[option].number != NULL)
            *known[option].number = (unsigned)strtoul(optarg, NULL, 10);
        else
            *known[option].real = strtod(optarg, NULL);
    }
    if (plan.url == NULL || plan.broker == 0)
        die("--pub and --pid are needed");
}

void print_latency(const char *name, const struct histogram *h)
{
    printf(",\"%s_count\":%lu,\"%s_p50_us\":%.1f,\"%s_p99_us\":%.1f,\"%s_p999_us\":%.1f,\"%s_max_us\":%.1f", name,
           (unsigned long)h->count, name, (double)hist_quantile(h, .5) / 1e3, name, (double)hist_quantile(h, .99) / 1e3,
           name, (double)hist_quantile(h, .999) / 1e3, name, (double)h->max / 1e3);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    read_options(argc, argv);
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++) {
        if (strcmp(works[i].name, plan.work) != 0)
            continue;
        printf("{\"work\":\"%s\",\"sessions\":%u", plan.work, plan.sessions);
        works[i].run(&plan);
        printf("}\n");
        fflush(stdout);
        _exit(0); /* goodbyes are not part of the work */
    }
    die("no work %s", plan.work);
}
