/* A histogram of nanoseconds with a resolution of 1/64 (1.6 %) over the whole range. */
#ifndef TESTS_BENCH_PEERS_HIST_H
#define TESTS_BENCH_PEERS_HIST_H

#include <stdint.h>

enum { HIST_STEPS = 64, HIST_BUCKETS = (64 - 6 + 1) * HIST_STEPS };

struct histogram {
    uint64_t count, max, buckets[HIST_BUCKETS];
};

static inline unsigned hist_index(uint64_t v)
{
    if (v < HIST_STEPS)
        return (unsigned)v;
    unsigned shift = 63u - (unsigned)__builtin_clzll(v) - 6u;
    return (shift + 1) * HIST_STEPS + (unsigned)(v >> shift) - HIST_STEPS;
}

static inline uint64_t hist_value(unsigned index) /* the upper end of a bucket */
{
    if (index < HIST_STEPS)
        return index;
    unsigned shift = index / HIST_STEPS - 1;
    return ((uint64_t)(HIST_STEPS + index % HIST_STEPS + 1) << shift) - 1;
}

static inline void hist_add(struct histogram *h, uint64_t v)
{
    h->buckets[hist_index(v)]++;
    h->count++;
    if (v > h->max)
        h->max = v;
}

static inline void hist_merge(struct histogram *into, const struct histogram *from)
{
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
    into->count += from->count;
    if (from->max > into->max)
        into->max = from->max;
}

static inline uint64_t hist_quantile(const struct histogram *h, double q)
{
    uint64_t rank = (uint64_t)(q * (double)h->count), seen = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        if ((seen += h->buckets[i]) > rank)
            return hist_value(i) < h->max ? hist_value(i) : h->max;
    return h->max;
}

#endif
