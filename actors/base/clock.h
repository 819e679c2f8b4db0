/* Time. Everything in Weir that decides by time uses the monotonic clock in nanoseconds; the wall
 * clock is only for logs and for people. Any thread. */
#ifndef ACTORS_BASE_CLOCK_H
#define ACTORS_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t clock_now_ns(void);

/* The same clock as of the kernel's last tick, up to ten milliseconds ago, for a third of the cost: for what is told in
 * milliseconds and asked for with every message. */
uint64_t clock_coarse_ns(void);

/* The wall clock as RFC 3339 UTC with milliseconds, e.g. 2026-11-23T06:00:00.123Z; at most 32 bytes. */
size_t clock_wall_text(char *out, size_t capacity);

/* Processor time of the whole process, user and system together, in nanoseconds. */
uint64_t clock_cpu_ns(void);

#endif
