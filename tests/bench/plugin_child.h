/* What the measurements of plugins share: processor time of the one child there is, and medians. */
#ifndef TESTS_BENCH_PLUGIN_CHILD_H
#define TESTS_BENCH_PLUGIN_CHILD_H

#include "actors/base/clock.h"
#include "actors/base/limits.h"
#include "actors/plugin/processes.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static clockid_t child_clock;

static inline void child_clock_find(void)
{
    char path[64], line[64] = "";
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", processes_spawner_pid(), processes_spawner_pid());
    FILE *file = fopen(path, "r");
    if (file == NULL || fgets(line, sizeof line, file) == NULL ||
        clock_getcpuclockid((pid_t)strtol(line, NULL, 10), &child_clock) != 0) {
        fprintf(stderr, "bench: the child's processor time cannot be read\n");
        exit(1);
    }
    fclose(file);
}

static inline uint64_t child_cpu_ns(void)
{
    struct timespec spent;
    if (clock_gettime(child_clock, &spent) != 0) {
        fprintf(stderr,
                "bench: the child has ended meanwhile (the log says why): its processor time is gone, measure again\n");
        exit(1);
    }
    return (uint64_t)spent.tv_sec * NS_PER_S + (uint64_t)spent.tv_nsec;
}

static inline int double_compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static inline double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, double_compare);
    return values[count / 2];
}

#endif
