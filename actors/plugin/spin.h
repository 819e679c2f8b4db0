/* Looking again for a moment instead of going to sleep: a wake-up costs both sides a system call and whoever sleeps
 * some ten microseconds, and a side that is answered at once need not sleep. Whether it is shows in how long it slept
 * the last few times; where it is not, or where there is only one processor, nobody spins. One of these for each
 * sleeper, its thread's alone. */
#ifndef ACTORS_PLUGIN_SPIN_H
#define ACTORS_PLUGIN_SPIN_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "actors/base/clock.h"
#include "actors/base/limits.h"

/* A wake-up or two: whoever spins in vain for so long has lost no more than what it would have gained. */
#define SPIN_NS (UINT64_C(20) * NS_PER_US)
#define SPIN_WORTH_MAX 8

struct spin {
    bool is_possible; /* there is another processor for who is to answer */
    uint8_t worth;    /* 0: not now */
};

static inline void spin_init(struct spin *spin)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    spin->worth = 0;
    spin->is_possible = sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) > 1;
}

static inline bool spin_is_worth(const struct spin *spin) { return spin->is_possible && spin->worth >= 4; }

/* It spun, and there was something, or not. */
static inline void spin_over(struct spin *spin, bool has_come)
{
    if (has_come)
        spin->worth = SPIN_WORTH_MAX;
    else
        spin->worth = (uint8_t)(spin->worth > 4 ? spin->worth - 4 : 0);
}

/* It slept: a sleep that lasted little longer than the wake-up itself would not have been one. */
static inline void spin_slept(struct spin *spin, uint64_t slept_ns)
{
    if (slept_ns > 3 * SPIN_NS)
        spin->worth = 0;
    else if (spin->worth < SPIN_WORTH_MAX)
        spin->worth++;
}

/* One breath of a loop that looks. */
static inline void spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
