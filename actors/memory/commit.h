/* Committed memory: every byte of slabs and slot pools passes through here, so that the arena's ceiling
 * covers all of it. Called on refills only, by any thread. */
#ifndef ACTORS_MEMORY_COMMIT_H
#define ACTORS_MEMORY_COMMIT_H

#include <stddef.h>

#include "actors/memory/arena.h"

/* Counts size bytes as committed. At the ceiling it first gives back slabs that were kept for reuse;
 * WEIR_NO_MEMORY, counted as a refusal, when that does not help. The caller holds no lock of the arena. */
WEIR_MUST_USE enum weir_error arena_commit(struct arena *arena, size_t size);

void arena_uncommit(struct arena *arena, size_t size);

#endif
