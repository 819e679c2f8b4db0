/* A day of mixed sizes: what the process has resident for the arena stays near its live slots. A day is so
 * many steps of one alloc or drop, blocks live short or long, and the load goes up and down in waves. With a
 * number as argument, that many times as long. */
#include "actors/memory/arena.h"

#include "actors/base/clock.h"
#include "tests/unit/instrumented.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    IS_RESIDENT_TELLING = !IS_INSTRUMENTED, /* else shadow and quarantine drown what the arena does */
    PLACES = IS_INSTRUMENTED ? 4000 : 40000,
    WAVES = 24,
    STEPS_PER_WAVE = IS_INSTRUMENTED ? 6000 : 60000,
};

static uint64_t seed;
static long days = 1;

static uint64_t random_next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}

/* As a broker sees them: mostly small messages, pages and receive buffers, now and then a large value. */
static size_t random_size(void)
{
    uint64_t kind = random_next() % 1000;
    if (kind < 700)
        return 32 + random_next() % 2000;
    if (kind < 995)
        return 2000 + random_next() % 14000;
    return 65536 + random_next() % 500000;
}

static size_t resident_size(void)
{
    size_t total = 0;
    size_t resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%zu %zu", &total, &resident), 2);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static struct arena *arena;
static weir_msg places[PLACES];
static size_t live_size;

static void place_step(size_t places_used)
{
    /* Nine steps of ten fall on a tenth of the places: their blocks are short-lived. */
    size_t place = random_next() % PLACES;
    if (random_next() % 10 != 0)
        place /= 10;
    if (!msg_is_none(places[place])) {
        live_size -= arena_size(arena, places[place]);
        arena_drop(arena, places[place]);
        places[place] = WEIR_MSG_NONE;
    }
    if (place * 10 % PLACES >= places_used)
        return;
    size_t size = random_size();
    if (arena_alloc(arena, size, NULL, &places[place]) != WEIR_OK)
        return;
    memset(arena_data(arena, places[place]), 1, size);
    live_size += size;
}

static void resident_memory_stays_within_a_third_of_live_slots(void **state)
{
    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    struct arena_config config = {.bytes_max = (size_t)1 << 30};
    assert_int_equal(arena_create(&config, &arena), WEIR_OK);
    memset(places, 0, sizeof places);
    size_t before = resident_size();
    double worst = 0;
    double worst_asked = 0;
    for (long wave = 0; wave < WAVES * days; wave++) {
        /* From full down to half of it, as by day and by night. */
        size_t used = PLACES - PLACES / 2 * (size_t)(wave % 4) / 3;
        for (int i = 0; i < STEPS_PER_WAVE * (wave ? 1 : 3); i++)
            place_step(used);
        double resident = (double)(resident_size() - before);
        struct arena_usage usage;
        arena_usage(arena, &usage);
        if (resident / (double)usage.bytes_live > worst)
            worst = resident / (double)usage.bytes_live;
        if (resident / (double)live_size > worst_asked)
            worst_asked = resident / (double)live_size;
        if (wave < WAVES)
            print_message("wave %ld: asked for %zu KiB; slots %.3f, resident %.3f of it\n", wave, live_size >> 10,
                          (double)usage.bytes_live / (double)live_size, resident / (double)live_size);
    }
    print_message("worst: %.3f of live slots, %.3f of the bytes asked for\n", worst, worst_asked);
    for (size_t i = 0; i < PLACES; i++)
        arena_drop(arena, places[i]);
    arena_destroy(&arena);
    assert_true(!IS_RESIDENT_TELLING || worst < 1.3);
}

/* What so many blocks of 16 KiB have resident, before anybody writes to them. */
static double resident_part(size_t first, size_t count)
{
    enum { SIZE = 16000 };
    size_t before = resident_size();
    for (size_t i = 0; i < count; i++)
        assert_int_equal(arena_alloc(arena, SIZE, NULL, &places[first + i]), WEIR_OK);
    return (double)(resident_size() - before) / (double)(count * SIZE);
}

static bool can_populate(void)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(page, MAP_FAILED);
    bool can = madvise(page, size, MADV_POPULATE_WRITE) == 0;
    (void)munmap(page, size);
    return can;
}

static void memory_is_had_ahead_of_its_use_where_much_of_a_size_is_used(void **state)
{
    (void)state;
    enum { FEW = 64, MANY = 1024 };
    struct arena_config config = {.bytes_max = (size_t)1 << 30};
    if (!IS_RESIDENT_TELLING || !can_populate())
        skip();
    assert_int_equal(arena_create(&config, &arena), WEIR_OK);
    double of_few = resident_part(0, FEW), of_many = resident_part(FEW, MANY);
    print_message("resident: %.2f of the first MiB, %.2f of the next 16\n", of_few, of_many);
    for (size_t i = 0; i < FEW + MANY; i++)
        arena_drop(arena, places[i]);
    arena_destroy(&arena);
    assert_true(of_few < 0.6);
    assert_true(of_many > 0.85);
}

int main(int argc, char **argv)
{
    days = argc > 1 ? strtol(argv[1], NULL, 10) : 1;
    seed = clock_now_ns() | 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_had_ahead_of_its_use_where_much_of_a_size_is_used),
        cmocka_unit_test(resident_memory_stays_within_a_third_of_live_slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
