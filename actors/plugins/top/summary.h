/* The heaviest keys of a stream in bounded memory: Space-Saving.
 *
 * Metwally, Agrawal, El Abbadi: "Efficient Computation of Frequent and Top-k Elements in Data Streams", ICDT 2005.
 * There are counters_max counters; a key that has none takes over the least one, its count included, and remembers that
 * as its error. So a count is too high by at most its error, the error is at most total / counters_max, and every key
 * whose true weight is above total / counters_max has a counter. Weights instead of ones leave all of that as it is.
 * The least counter is found by a heap. */
#ifndef ACTORS_PLUGINS_TOP_SUMMARY_H
#define ACTORS_PLUGINS_TOP_SUMMARY_H

#include "actors/plugins/kit_table.h"

struct counter {
    struct kit_entry entry; /* by the key */
    double count, error;
    uint32_t at; /* in the heap */
};

struct summary {
    struct kit_table keys;
    struct counter **heap; /* no parent is heavier than its children */
    double total;
};

/* False: beyond the memory budget (after which it is safe to fini). */
bool summary_init(struct weir_self *self, struct summary *summary, uint32_t counters_max);
void summary_fini(struct weir_self *self, struct summary *summary);
/* Counts a key. False: beyond the memory budget; the summary is as before. */
bool summary_add(struct weir_self *self, struct summary *summary, struct weir_bytes key, double weight);
/* For restoring: a counter as it was, in the order of the heap. */
bool summary_put(struct weir_self *self, struct summary *summary, struct weir_bytes key, double count, double error);
void summary_clear(struct weir_self *self, struct summary *summary);
/* The heaviest, at most `max`, heaviest first and by key among equals; memory for as many pointers as there are
 * counters. Returns how many. */
uint32_t summary_top(const struct summary *summary, const struct counter **memory, uint32_t max);

#endif
