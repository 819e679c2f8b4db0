/* Input in memory of exactly its size, so that a sanitizer sees the first byte read beyond it. For tests only. */
#ifndef TESTS_UNIT_CLIENTS_WIRE_EXACT_H
#define TESTS_UNIT_CLIENTS_WIRE_EXACT_H

#include "clients/wire/view.h"

#include <stdlib.h>

struct exact {
    uint8_t *memory;
    struct view view;
};

static inline struct exact exact_of(struct view bytes)
{
    struct exact exact = {.memory = malloc(bytes.size > 0 ? bytes.size : 1)};
    if (exact.memory == NULL)
        abort();
    if (bytes.size > 0)
        memcpy(exact.memory, bytes.data, bytes.size);
    else { /* not even one byte may be read: the block's end */
        exact.view = view_of(exact.memory + 1, 0);
        return exact;
    }
    exact.view = view_of(exact.memory, bytes.size);
    return exact;
}

static inline void exact_free(struct exact *exact)
{
    free(exact->memory);
    exact->memory = NULL;
}

/* xorshift: small, and the same everywhere for one seed. */
static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#define BYTES(...) view_of((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

#endif
