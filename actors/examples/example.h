/* What the examples share: an arena with a runtime on it, a count of things done that main waits for, and the end, at
 * which no block may be live. Programs for people: they print, and exit with 1 where a check fails. */
#ifndef ACTORS_EXAMPLES_EXAMPLE_H
#define ACTORS_EXAMPLES_EXAMPLE_H

#include <inttypes.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "actors/base/clock.h"
#include "actors/runtime/runtime.h"

/* Far beyond what any of them takes, also on a busy machine and under a sanitizer. */
enum { EXAMPLE_SECONDS_MAX = 120 };

/* Any thread may raise done. */
struct example {
    struct arena *arena;
    struct runtime *runtime;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t done; /* under lock */
};

static struct example example = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

__attribute__((noreturn, cold)) static void example_fail(const char *claim, const char *file, int line)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, claim);
    exit(1);
}

/* What the example claims about itself. */
#define CHECK(condition) ((condition) ? (void)0 : example_fail(#condition, __FILE__, __LINE__))
#define MUST(call) CHECK((call) == WEIR_OK)

/* The optional argument, a size from 1 to max; otherwise as given. */
static inline uint64_t example_size(int argc, char **argv, uint64_t otherwise, uint64_t max)
{
    if (argc < 2)
        return otherwise;
    char *end = argv[1];
    unsigned long long size = strtoull(argv[1], &end, 10);
    if (argc > 2 || *end || size == 0 || size > max) {
        fprintf(stderr, "usage: %s [SIZE]   SIZE: 1 to %llu, otherwise %llu\n", argv[0], (unsigned long long)max,
                (unsigned long long)otherwise);
        exit(2);
    }
    return size;
}

/* Opens the arena and starts the runtime on two workers. config.arena is filled in. */
static inline void example_begin(size_t arena_bytes, struct runtime_config config)
{
    MUST(arena_create(&(struct arena_config){.bytes_max = arena_bytes}, &example.arena));
    config.arena = example.arena;
    config.workers = config.workers ? config.workers : 2;
    MUST(runtime_create(&config, &example.runtime));
    MUST(runtime_start(example.runtime));
}

/* One more thing is done. Any thread, turns included. */
static inline void example_done(void)
{
    pthread_mutex_lock(&example.lock);
    example.done++;
    pthread_cond_signal(&example.changed);
    pthread_mutex_unlock(&example.lock);
}

/* Waits until so many things were done since the last call. Main only. */
static inline void example_wait(uint64_t count)
{
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += EXAMPLE_SECONDS_MAX;
    pthread_mutex_lock(&example.lock);
    while (example.done < count)
        CHECK(pthread_cond_timedwait(&example.changed, &example.lock, &deadline) == 0);
    example.done -= count;
    pthread_mutex_unlock(&example.lock);
}

/* Stops what is left, frees all of it, and shows that no block was left behind. */
static inline int example_end(void)
{
    struct arena_usage usage;
    runtime_stop(example.runtime);
    runtime_destroy(&example.runtime);
    arena_usage(example.arena, &usage);
    printf("live blocks at the end: %zu\n", usage.blocks_live);
    CHECK(usage.blocks_live == 0);
    arena_destroy(&example.arena);
    return 0;
}

#endif
