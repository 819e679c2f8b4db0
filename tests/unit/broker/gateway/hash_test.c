/* The hash of names, as tables look at it: by its lowest bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "broker/gateway/hash.h"

enum { NAMES = 10000, PLACES = 16384 };

/* So many names thrown at random would meet 7,484 of the places. */
enum { PLACES_MET_MIN = 7300 };

static uint32_t places_met(const char *before, int digits, const char *behind)
{
    static bool is_met[PLACES];
    memset(is_met, 0, sizeof is_met);
    uint32_t count = 0;
    for (int i = 0; i < NAMES; i++) {
        char name[128];
        int size = snprintf(name, sizeof name, "%s%0*d%s", before, digits, i, behind);
        assert_in_range(size, 1, sizeof name - 1);
        bool *place = &is_met[hash_bytes((const uint8_t *)name, (size_t)size) % PLACES];
        count += !*place;
        *place = true;
    }
    return count;
}

static void names_that_differ_in_their_last_letters_spread(void **state)
{
    (void)state;
    assert_in_range(places_met("b/", 1, ""), PLACES_MET_MIN, NAMES);
    assert_in_range(places_met("topic-", 5, ""), PLACES_MET_MIN, NAMES);
    assert_in_range(places_met("prices/exchange/", 1, ""), PLACES_MET_MIN, NAMES);
    assert_in_range(places_met("of/eight", 8, ""), PLACES_MET_MIN, NAMES);
}

static void names_that_differ_in_their_midst_spread(void **state)
{
    (void)state;
    assert_in_range(places_met("sensors/", 1, "/temperature"), PLACES_MET_MIN, NAMES);
    assert_in_range(places_met("", 4, "/last"), PLACES_MET_MIN, NAMES);
    assert_in_range(places_met("a", 4, "b/c/d/e/f/g/h/i/j/k"), PLACES_MET_MIN, NAMES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_that_differ_in_their_last_letters_spread),
        cmocka_unit_test(names_that_differ_in_their_midst_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
