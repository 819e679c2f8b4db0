/* The simulation: one thread runs every turn, a seed chooses the next actor and how many messages its turn
 * may handle, and the clock moves only when told. See runtime.h. */
#ifndef ACTORS_RUNTIME_SIMULATE_H
#define ACTORS_RUNTIME_SIMULATE_H

#include <stdint.h>

struct actor;

struct simulation {
    uint64_t random;      /* state of the generator */
    uint64_t hash;        /* over every choice */
    uint64_t now_ns;      /* the virtual clock */
    struct actor **ready; /* actors that could run, in no order */
    uint32_t count, capacity;
};

void simulate_init(struct simulation *simulation, uint64_t seed);
void simulate_fini(struct simulation *simulation);
/* An actor has a turn coming. Memory for the list is the only thing a simulation cannot do without. */
void simulate_schedule(struct simulation *simulation, struct actor *actor);

#endif
