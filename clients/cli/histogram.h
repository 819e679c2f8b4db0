/* A histogram of nanoseconds with a resolution of 1/64 over the whole range, in fixed memory. One thread. */
#ifndef CLIENTS_CLI_HISTOGRAM_H
#define CLIENTS_CLI_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_STEPS = 64, HISTOGRAM_BUCKETS = (64 - 6 + 1) * HISTOGRAM_STEPS };

struct histogram {
    uint64_t count, max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value);
void histogram_merge(struct histogram *into, const struct histogram *from);
/* The value below which the part `quantile` (0 to 1) lies; 0 for an empty one. */
uint64_t histogram_quantile(const struct histogram *histogram, double quantile);

#endif
