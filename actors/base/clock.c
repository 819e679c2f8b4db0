/* The system's clocks. Called by whoever owns a decision about time; any thread. */
#include "actors/base/clock.h"

#include "actors/base/assert.h"

#include <stdio.h>
#include <time.h>

/* The clocks asked for here exist on every Linux; a failure would be a wrong argument. */
static struct timespec clock_read(clockid_t id)
{
    struct timespec now;
    int failed = clock_gettime(id, &now);
    ENSURE(failed == 0);
    return now;
}

static uint64_t clock_ns(clockid_t id)
{
    struct timespec now = clock_read(id);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t clock_now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

uint64_t clock_coarse_ns(void) { return clock_ns(CLOCK_MONOTONIC_COARSE); }

uint64_t clock_cpu_ns(void) { return clock_ns(CLOCK_PROCESS_CPUTIME_ID); }

size_t clock_wall_text(char *out, size_t capacity)
{
    REQUIRE(capacity >= 32);
    struct timespec now = clock_read(CLOCK_REALTIME);
    struct tm utc;
    ENSURE(gmtime_r(&now.tv_sec, &utc) != NULL);
    size_t size = strftime(out, capacity, "%Y-%m-%dT%H:%M:%S", &utc);
    int tail = snprintf(out + size, capacity - size, ".%03dZ", (int)(now.tv_nsec / (long)NS_PER_MS));
    return size + (size_t)tail;
}
