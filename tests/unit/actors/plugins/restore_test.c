/* What the shipped plugins do with a snapshot that is not one of theirs: cut, with bytes changed, and another's. */
#include <setjmp.h>
#include <stdarg.h>

#include "tests/unit/actors/plugins/restoring.h"

/* Behind the plugins' header, some of whose names it takes for macros. */
#include <cmocka.h>

enum { RECORDS = 40, CHANGED = 1500 };

static struct restoring instances[RESTORING_PLUGINS];
static uint8_t good[RESTORING_PLUGINS][RESTORING_SNAPSHOT_MAX];
static size_t good_size[RESTORING_PLUGINS];

static uint64_t random_next(uint64_t *seed)
{
    /* splitmix64 (Steele, Lea, Flood 2014). */
    uint64_t z = (*seed += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static int good_ones_take(void **state)
{
    (void)state;
    for (size_t plugin = 0; plugin < RESTORING_PLUGINS; plugin++) {
        struct restoring *restoring = &instances[plugin];
        restoring_open(restoring, plugin);
        restoring_begin(restoring);
        for (unsigned i = 0; i < RECORDS; i++)
            assert_int_equal(restoring_record(restoring, plugin, 60 + i), WEIR_ACTOR_OK);
        assert_int_equal(restoring_give(restoring, INPUT_SNAPSHOT, view_of(NULL, 0)), WEIR_ACTOR_OK);
        assert_true(restoring->snapshot_size > 0);
        good_size[plugin] = restoring->snapshot_size;
        memcpy(good[plugin], restoring->snapshot, good_size[plugin]);
        assert_true(restoring_try(restoring, plugin, view_of(good[plugin], good_size[plugin])));
    }
    return 0;
}

static int instances_close(void **state)
{
    (void)state;
    for (size_t plugin = 0; plugin < RESTORING_PLUGINS; plugin++) {
        runner_close(&instances[plugin].runner);
        free(instances[plugin].config);
    }
    return 0;
}

/* In memory of exactly its size, so that AddressSanitizer sees what is read beyond it. */
static bool try_copy(size_t plugin, const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    bool is_taken = restoring_try(&instances[plugin], plugin, view_of(copy, size));
    free(copy);
    return is_taken;
}

static void snapshot_cut_anywhere_is_refused(void **state)
{
    (void)state;
    for (size_t plugin = 0; plugin < RESTORING_PLUGINS; plugin++) {
        size_t step = good_size[plugin] / 400 + 1;
        for (size_t size = 0; size < good_size[plugin]; size += step)
            if (try_copy(plugin, good[plugin], size))
                fail_msg("%s takes %zu of %zu bytes", restoring_plugins[plugin].name, size, good_size[plugin]);
    }
}

static void snapshot_of_another_plugin_is_refused(void **state)
{
    (void)state;
    for (size_t plugin = 0; plugin < RESTORING_PLUGINS; plugin++)
        for (size_t other = 0; other < RESTORING_PLUGINS; other++)
            if (other != plugin && try_copy(plugin, good[other], good_size[other]))
                fail_msg("%s takes what %s told", restoring_plugins[plugin].name, restoring_plugins[other].name);
}

static void snapshot_with_changed_bytes_is_refused_or_lived_with(void **state)
{
    static uint8_t changed[RESTORING_SNAPSHOT_MAX];
    const char *given = getenv("WEIR_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : 1;
    unsigned refused = 0, taken = 0;
    (void)state;
    for (size_t plugin = 0; plugin < RESTORING_PLUGINS; plugin++) {
        for (int round = 0; round < CHANGED; round++) {
            memcpy(changed, good[plugin], good_size[plugin]);
            for (uint64_t left = 1 + random_next(&seed) % 4; left > 0; left--)
                changed[random_next(&seed) % good_size[plugin]] = (uint8_t)random_next(&seed);
            bool is_taken = try_copy(plugin, changed, good_size[plugin]);
            taken += is_taken;
            refused += !is_taken;
        }
    }
    printf("%u refused, %u taken\n", refused, taken);
    assert_true(refused > 0 && taken > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snapshot_cut_anywhere_is_refused),
        cmocka_unit_test(snapshot_of_another_plugin_is_refused),
        cmocka_unit_test(snapshot_with_changed_bytes_is_refused_or_lived_with),
    };
    return cmocka_run_group_tests(tests, good_ones_take, instances_close);
}
