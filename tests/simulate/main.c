/* weir-simulate: runs the simulation for one seed or many. Exit code 0: no violation, 1: one, with its seed; 2:
 * usage. */
#include "tests/simulate/model.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    uint64_t first, last, events, repeat;
    bool is_traced;
};

static void usage(FILE *out)
{
    fputs("weir-simulate: runs the actor runtime and its supervisors with a seed, and checks them after each step\n\n"
          "usage: weir-simulate (--seed N | --seeds A..B) [--events N] [--repeat N] [--trace]\n"
          "  --seed N     runs one seed and prints what it did\n"
          "  --seeds A..B runs many; stops at the first violation and prints its seed\n"
          "  --events N   turns and timers in a run before it is left to come to rest (default 10000)\n"
          "  --repeat N   runs each seed N times; all must have the same order hash\n"
          "  --trace      prints what supervisors do\n"
          "  --help       this text\n\n"
          "Exit: 0 no violation, 1 one, and how to replay it, 2 usage.\n",
          out);
}

static bool number_read(const char *text, char end, uint64_t *out, const char **rest)
{
    char *after;
    errno = 0;
    *out = strtoull(text, &after, 10);
    if (errno || after == text || *after != end)
        return false;
    *rest = after;
    return true;
}

static bool options_read(int argc, char **argv, struct options *options)
{
    static const struct option names[] = {{"seed", required_argument, NULL, 's'},
                                          {"seeds", required_argument, NULL, 'S'},
                                          {"events", required_argument, NULL, 'e'},
                                          {"repeat", required_argument, NULL, 'r'},
                                          {"trace", no_argument, NULL, 't'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    const char *rest;
    bool is_good = true, has_seed = false;
    for (int name; is_good && (name = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (name) {
        case 's':
            is_good = has_seed = number_read(optarg, '\0', &options->first, &rest);
            options->last = options->first;
            break;
        case 'S':
            is_good = has_seed = number_read(optarg, '.', &options->first, &rest) && strncmp(rest, "..", 2) == 0 &&
                                 number_read(rest + 2, '\0', &options->last, &rest);
            break;
        case 'e': is_good = number_read(optarg, '\0', &options->events, &rest); break;
        case 'r': is_good = number_read(optarg, '\0', &options->repeat, &rest) && options->repeat > 0; break;
        case 't': options->is_traced = true; break;
        case 'h': usage(stdout); exit(0);
        default: is_good = false; break;
        }
    }
    return is_good && has_seed && optind == argc && options->first <= options->last;
}

static void outcome_add(struct outcome *total, const struct outcome *one)
{
    total->events += one->events;
    total->messages += one->messages;
    total->dead += one->dead;
    total->refusals += one->refusals;
    total->restarts += one->restarts;
    total->escalations += one->escalations;
    total->nodes += one->nodes;
}

/* Runs a seed as often as asked; false when a run is wrong or differs. */
static bool seed_run(const struct options *options, uint64_t seed, struct outcome *out)
{
    uint64_t hash = 0;
    for (uint64_t run = 0; run < options->repeat; run++) {
        model_run(seed, options->events, options->is_traced, out);
        if (out->violation[0]) {
            printf("seed %lu: %s\n", (unsigned long)seed, out->violation);
            return false;
        }
        if (run > 0 && out->hash != hash) {
            printf("seed %lu: run %lu has order hash %016lx, the first had %016lx\n", (unsigned long)seed,
                   (unsigned long)run, (unsigned long)out->hash, (unsigned long)hash);
            return false;
        }
        hash = out->hash;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct options options = {.events = 10000, .repeat = 1};
    if (!options_read(argc, argv, &options)) {
        usage(stderr);
        return 2;
    }
    struct outcome total = {0}, one;
    for (uint64_t seed = options.first; seed <= options.last; seed++) {
        if (!seed_run(&options, seed, &one)) {
            printf("replay: weir-simulate --seed %lu --events %lu --trace\n", (unsigned long)seed,
                   (unsigned long)options.events);
            return 1;
        }
        outcome_add(&total, &one);
    }
    printf(
        "%lu seeds: no violation in %lu events, %u actors, %lu messages, %lu refusals, %lu restarts, %lu dead letters, "
        "%lu escalations; order hash of the last %016lx\n",
        (unsigned long)(options.last - options.first + 1), (unsigned long)total.events, total.nodes,
        (unsigned long)total.messages, (unsigned long)total.refusals, (unsigned long)total.restarts,
        (unsigned long)total.dead, (unsigned long)total.escalations, (unsigned long)one.hash);
    return 0;
}
