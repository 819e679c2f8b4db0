/* A hash (and the copying) of short texts (topic names, addresses) for tables whose keys are compared as well: quality
 * decides speed only. Pure functions, any thread. */
#ifndef BROKER_GATEWAY_HASH_H
#define BROKER_GATEWAY_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t hash_mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ (hash >> 29);
}

/* A product carries upwards alone, and names differ in their last bytes, the highest of their word: tables look at the
 * lowest bits, so what is high comes down, is multiplied once more, and comes down again. */
static inline uint64_t hash_finish(uint64_t hash)
{
    hash = (hash ^ (hash >> 32)) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ (hash >> 32);
}

/* Eight bytes at a time; the tail is read with overlap, so there is no loop over single bytes. */
static inline uint64_t hash_bytes(const uint8_t *data, size_t size)
{
    uint64_t hash = hash_mix(UINT64_C(0x57656972), size), word = 0;
    if (size < 8) {
        memcpy(&word, data, size);
        return hash_finish(hash_mix(hash, word));
    }
    for (size_t i = 0; i + 8 < size; i += 8) {
        memcpy(&word, data + i, 8);
        hash = hash_mix(hash, word);
    }
    memcpy(&word, data + size - 8, 8);
    return hash_finish(hash_mix(hash, word));
}

/* Copies a text, cut where it does not fit. */
static inline void text_copy(char *out, size_t capacity, const char *text)
{
    size_t size = strnlen(text, capacity - 1);
    memcpy(out, text, size);
    out[size] = '\0';
}

#endif
