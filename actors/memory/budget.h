/* A byte budget: who holds arena memory, how much, and how much they may. One for each owner (a
 * topic, a connection, the broker). A block is charged to the budget it was allocated under until
 * its last reference is dropped, whoever holds that. Any thread.
 *
 * A budget's own figures are exact and its own bound is never exceeded. So that not every charge climbs
 * the chain, a budget takes from its parent in steps: an ancestor's bytes_used includes what descendants
 * took and do not use, for each at most twice BUDGET_SLACK_MIN or, where larger, a quarter of what it uses, and
 * never more than twice BUDGET_SLACK_MAX. */
#ifndef ACTORS_MEMORY_BUDGET_H
#define ACTORS_MEMORY_BUDGET_H

#include <stddef.h>
#include <stdint.h>
#include <stdint.h>

#include "weir_error.h"

struct budget;

struct budget_usage {
    char owner[64];    /* for people, e.g. "topic sensors/a" (cut where longer) */
    size_t bytes_used; /* as charged: whole slots, headers included */
    size_t bytes_max;  /* 0: no bound of its own */
    size_t bytes_peak;
    size_t blocks_used;
    uint64_t refusals; /* charges refused because of bytes_max */
};

/* parent may be NULL; a charge must fit the budget and each of its ancestors (depth at most 4). */
WEIR_MUST_USE enum weir_error budget_create(struct budget *parent, const char *owner, size_t bytes_max,
                                            struct budget **out);

/* Gives up the caller's hold and nulls *budget; the memory goes once the last block charged to it (and the
 * last child) is gone. What was charged with budget_charge must have been released. NULL is fine. */
void budget_destroy(struct budget **budget);

/* Whoever is charged to this budget, or to one that is made under it from now on, leaves 1/part of the arena's ceiling
 * to others (part 0: nothing): WEIR_NO_MEMORY where the arena would have to commit of that. Set before others know it.
 */
void budget_leave_set(struct budget *budget, uint32_t part);

void budget_limit_set(struct budget *budget, size_t bytes_max);

void budget_usage(const struct budget *budget, struct budget_usage *out);
/* The first two of these figures alone, for the path of a message: a few loads, no text. */
void budget_level(const struct budget *budget, size_t *bytes_used, size_t *bytes_max);

/* For memory that is not in the arena but is counted with it (an index, say); in units of 16 bytes. The caller
 * must itself have a hold on the budget. Releases in the same sizes as it was charged. */
WEIR_MUST_USE enum weir_error budget_charge(struct budget *budget, size_t size);
void budget_release(struct budget *budget, size_t size);

#endif
