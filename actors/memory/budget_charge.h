/* Charging blocks: like budget_charge, but each block also keeps its budget alive. Called by the arena
 * on every allocation with an owner; any thread. */
#ifndef ACTORS_MEMORY_BUDGET_CHARGE_H
#define ACTORS_MEMORY_BUDGET_CHARGE_H

#include <stddef.h>

#include "actors/memory/budget.h"

/* The caller has a hold on the budget for as long as the call lasts. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error budget_block_charge(struct budget *budget, size_t size);

/* Gives back what budget_block_charge took, size being the same; may free the budget. */
void budget_block_release(struct budget *budget, size_t size);

/* How much of an arena with this ceiling the budget's blocks leave to others. */
size_t budget_left(const struct budget *budget, size_t bytes_max);

/* The owner's name. The budget must not end meanwhile. */
const char *budget_owner(const struct budget *budget);

#endif
