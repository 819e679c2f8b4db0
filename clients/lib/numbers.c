/* See numbers.h. A free place ends a search, so removing moves back what would no longer be found behind the hole. */
#include "clients/lib/numbers.h"

#include <stdlib.h>

enum { CAPACITY_FIRST = 8 };

static size_t place_of(const struct numbers *numbers, uint32_t number)
{
    return (size_t)((number + UINT64_C(1)) * numbers->seed >> 32) & (numbers->capacity - 1);
}

static size_t place_next(const struct numbers *numbers, size_t at) { return (at + 1) & (numbers->capacity - 1); }

/* Where the number is, or the free place where it would be. There is a free one. */
static struct number_place *place_find(const struct numbers *numbers, uint32_t number)
{
    size_t at = place_of(numbers, number);
    while (numbers->places[at].thing != NULL && numbers->places[at].number != number)
        at = place_next(numbers, at);
    return &numbers->places[at];
}

void *numbers_find(const struct numbers *numbers, uint32_t number)
{
    return numbers->capacity == 0 ? NULL : place_find(numbers, number)->thing;
}

static bool numbers_grow(struct numbers *numbers)
{
    struct numbers grown = *numbers;
    grown.capacity = numbers->capacity == 0 ? CAPACITY_FIRST : numbers->capacity * 2;
    grown.places = calloc(grown.capacity, sizeof *grown.places);
    if (grown.places == NULL)
        return false;
    for (size_t i = 0; i < numbers->capacity; i++)
        if (numbers->places[i].thing != NULL)
            *place_find(&grown, numbers->places[i].number) = numbers->places[i];
    free(numbers->places);
    *numbers = grown;
    return true;
}

void *numbers_put(struct numbers *numbers, uint32_t number, void *thing)
{
    void *found = numbers_find(numbers, number);
    if (found != NULL)
        return found;
    if ((numbers->count + 1) * 4 > numbers->capacity * 3 && !numbers_grow(numbers))
        return NULL;
    *place_find(numbers, number) = (struct number_place){thing, number};
    numbers->count++;
    return thing;
}

void numbers_remove(struct numbers *numbers, uint32_t number)
{
    if (numbers_find(numbers, number) == NULL)
        return;
    size_t hole = (size_t)(place_find(numbers, number) - numbers->places), mask = numbers->capacity - 1;
    for (size_t at = place_next(numbers, hole); numbers->places[at].thing != NULL; at = place_next(numbers, at)) {
        size_t home = place_of(numbers, numbers->places[at].number);
        /* It stays where its home lies between the hole and itself. */
        if (((at - home) & mask) < ((at - hole) & mask))
            continue;
        numbers->places[hole] = numbers->places[at];
        hole = at;
    }
    numbers->places[hole].thing = NULL;
    numbers->count--;
}

void numbers_clear(struct numbers *numbers)
{
    free(numbers->places);
    *numbers = (struct numbers){.seed = numbers->seed};
}
