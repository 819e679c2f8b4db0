/* The load generator: gives every driver the same work and prints the result as a line of JSON.
 *
 *   stream    publishers send to all subscribers, as fast as the window allows or at a fixed rate
 *   snapshot  a late joiner receives the last value of each topic
 *   idle      memory of the broker for connections, or for subscriptions of one connection
 *
 * Flow control is end to end: a publisher keeps at most `window` messages on their way, so that peers which drop
 * messages or disconnect slow consumers compete on equal terms. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/peers/load.h"
#include "tests/bench/peers/util.h"

struct load load = {.work = "stream",
                    .size = 128,
                    .publishers = 1,
                    .subscribers = 1,
                    .topics = 1,
                    .batch = 256, /* messages between two flushes, unpaced */
                    .connections = 1000,
                    .window = 65536,
                    .window_mib = 32, /* the window in bytes, if that is less */
                    .seconds = 1,
                    .warmup = 0.2,
                    .patience = 60};

/* Options by kind of value, so that reading is one loop. */
static const struct {
    const char *name;
    const char **text;
    unsigned *number;
    double *real;
} known[] = {
    {"pub", &load.pub_address, NULL, NULL},  /* address for publishers */
    {"sub", &load.sub_address, NULL, NULL},  /* address for subscribers, where it differs */
    {"work", &load.work, NULL, NULL},        /* stream, snapshot or idle */
    {"size", NULL, &load.size, NULL},        /* of a message */
    {"pubs", NULL, &load.publishers, NULL},  /* publishers */
    {"subs", NULL, &load.subscribers, NULL}, /* subscribers */
    {"topics", NULL, &load.topics, NULL},    /* in turn; of a snapshot, keys */
    {"batch", NULL, &load.batch, NULL},      /* messages between two flushes */
    {"connections", NULL, &load.connections, NULL},
    {"window", NULL, &load.window, NULL}, /* messages on their way */
    {"window-mib", NULL, &load.window_mib, NULL},
    {"seconds", NULL, NULL, &load.seconds},   /* measured */
    {"warmup", NULL, NULL, &load.warmup},     /* seconds before that */
    {"rate", NULL, NULL, &load.rate},         /* messages a second; 0: unpaced */
    {"patience", NULL, NULL, &load.patience}, /* seconds until a probe or a snapshot is given up */
};
enum { KNOWN_COUNT = sizeof known / sizeof known[0], DRIVER = KNOWN_COUNT, PID };

static void choose_driver(const char *name)
{
    for (load.driver = drivers; load.driver->name != NULL; load.driver++)
        if (strcmp(load.driver->name, name) == 0)
            return;
    die("no driver %s in this program", name);
}

static void read_options(int argc, char **argv)
{
    struct option options[KNOWN_COUNT + 3] = {{NULL, 0, NULL, 0}};
    for (int i = 0; i < KNOWN_COUNT; i++)
        options[i] = (struct option){known[i].name, required_argument, NULL, i};
    options[DRIVER] = (struct option){"driver", required_argument, NULL, DRIVER};
    options[PID] = (struct option){"pid", required_argument, NULL, PID}; /* of the broker */
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == DRIVER)
            choose_driver(optarg);
        else if (option == PID)
            load.broker = (pid_t)strtol(optarg, NULL, 10);
        else if (option < 0 || option >= KNOWN_COUNT)
            die("unknown option");
        else if (known[option].text != NULL)
            *known[option].text = optarg;
        else if (known[option].number != NULL)
            *known[option].number = (unsigned)strtoul(optarg, NULL, 10);
        else
            *known[option].real = strtod(optarg, NULL);
    }
}

static unsigned window_in_bytes(uint64_t bytes, unsigned window)
{
    return (uint64_t)window * load.size > bytes ? (unsigned)(bytes / load.size) : window;
}

static void check_options(void)
{
    const struct driver *d = load.driver;
    if (d == NULL || load.pub_address == NULL || load.broker == 0)
        die("--driver, --pub and --pid are needed");
    if (load.sub_address == NULL)
        load.sub_address = load.pub_address;
    if (load.size < sizeof(struct header) || load.size > MAX_SIZE || load.topics == 0 || load.batch == 0)
        die("size, topics or batch out of range");
    if (load.publishers == 0 || load.publishers > MAX_PUBLISHERS || load.subscribers == 0 ||
        load.subscribers > MAX_SUBSCRIBERS)
        die("number of publishers or subscribers out of range");
    if (d->max_topics != 0 && load.topics > d->max_topics && strcmp(load.work, "snapshot") != 0)
        exit(NOT_APPLICABLE);
    if (d->max_window != 0 && load.window > d->max_window)
        load.window = d->max_window;
    if (d->max_window_kib != 0)
        load.window = window_in_bytes((uint64_t)d->max_window_kib << 10, load.window);
    if (load.window < 4 * load.publishers)
        exit(NOT_APPLICABLE); /* so few of them flow at all */
    load.window = window_in_bytes((uint64_t)load.window_mib << 20, load.window);
    if (load.window < 4 * load.publishers)
        die("the window is too small");
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    read_options(argc, argv);
    check_options();
    load_subscribers = aligned_alloc(64, MAX_SUBSCRIBERS * sizeof *load_subscribers);
    if (load_subscribers == NULL)
        die("out of memory");
    memset(load_subscribers, 0, MAX_SUBSCRIBERS * sizeof *load_subscribers);

    printf("{\"driver\":\"%s\",\"work\":\"%s\",\"size\":%u,\"topics\":%u", load.driver->name, load.work, load.size,
           load.topics);
    if (strcmp(load.work, "stream") == 0) {
        printf(",\"pubs\":%u,\"subs\":%u,\"rate\":%.0f,\"window\":%u", load.publishers, load.subscribers, load.rate,
               load.window);
        work_stream();
    } else if (strcmp(load.work, "snapshot") == 0) {
        work_snapshot();
    } else if (strcmp(load.work, "idle") == 0) {
        work_idle();
    } else {
        die("unknown work %s", load.work);
    }
    printf("}\n");
    fflush(stdout);
    _exit(0); /* the libraries' own goodbyes are not part of the work */
}
