/* What a client knows by number: the broker's of a feed, its own of a subscription. An open-addressing table, as there
 * may be thousands and each frame names one. With the client's lock held. */
#ifndef CLIENTS_LIB_NUMBERS_H
#define CLIENTS_LIB_NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct number_place {
    void *thing; /* NULL: the place is free */
    uint32_t number;
};

/* Zeroed but for the seed it is empty. */
struct numbers {
    struct number_place *places;
    size_t capacity; /* 0, or a power of two; at most three quarters of it are taken */
    size_t count;
    uint64_t seed; /* odd, and unknown to who chooses the numbers, so that these cannot be made to collide */
};

/* NULL: there is none of that number. */
void *numbers_find(const struct numbers *numbers, uint32_t number);
/* thing is not NULL. What has that number already, and stays: thing itself where it is new. NULL: no memory. */
void *numbers_put(struct numbers *numbers, uint32_t number, void *thing);
/* Forgets the number, if it is known. */
void numbers_remove(struct numbers *numbers, uint32_t number);
/* Forgets all and frees the table. */
void numbers_clear(struct numbers *numbers);

#endif
