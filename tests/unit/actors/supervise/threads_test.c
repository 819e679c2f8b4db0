/* A tree on real workers, with threads that send, order and read at the same time. Made for the sanitizers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "actors/supervise/supervisor.h"
#include "tests/unit/instrumented.h"

enum { CHILDREN = 64, DEADLINE_MS = 60000, RESTARTS = IS_THREAD_SANITIZED ? 500 : 2000 };
enum { TAG_FAIL = 1, TAG_EXIT };

static _Atomic int living;
static _Atomic int downs;
static _Atomic bool is_over;

static enum weir_error on_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    (void)state;
    (void)args;
    atomic_fetch_add(&living, 1);
    return WEIR_OK;
}

static enum weir_error on_message(struct turn *turn, void *state, struct message *message)
{
    (void)state;
    if (message->tag == TAG_FAIL && message->word[0] > 0) {
        message->word[0]--;
        return WEIR_FAILED;
    }
    if (message->tag == TAG_EXIT)
        turn_exit(turn, WEIR_IO);
    return WEIR_OK;
}

static void on_stop(struct turn *turn, void *state, enum weir_error cause)
{
    (void)turn;
    (void)state;
    (void)cause;
    atomic_fetch_sub(&living, 1);
}

static const struct behaviour worker_behaviour = {
    .name = "worker", .state_size = 16, .on_start = on_start, .on_message = on_message, .on_stop = on_stop};

static void on_down(enum weir_error cause, void *context)
{
    (void)cause;
    (void)context;
    atomic_fetch_add(&downs, 1);
}

struct bench {
    struct arena *arena;
    struct runtime *runtime;
    struct supervision *tree;
    weir_actor pool;
};

static void bench_open(struct bench *bench, unsigned workers)
{
    log_level_set(LOG_OFF);
    atomic_store(&living, 0);
    atomic_store(&downs, 0);
    atomic_store(&is_over, false);
    assert_int_equal(arena_create(&(struct arena_config){.bytes_max = (size_t)256 << 20}, &bench->arena), WEIR_OK);
    struct runtime_config config = {.arena = bench->arena, .workers = workers};
    assert_int_equal(runtime_create(&config, &bench->runtime), WEIR_OK);
    struct supervision_config tree = {.runtime = bench->runtime, .on_down = on_down};
    assert_int_equal(supervision_create(&tree, &bench->tree), WEIR_OK);
    struct child_spec fixed[3] = {{.name = "a", .behaviour = &worker_behaviour},
                                  {.name = "b", .behaviour = &worker_behaviour},
                                  {.name = "c", .behaviour = &worker_behaviour}};
    struct supervisor_config group = {.name = "group",
                                      .strategy = SUPERVISOR_REST_FOR_ONE,
                                      .children = fixed,
                                      .child_count = 3,
                                      .intensity = SUPERVISOR_INTENSITY_UNLIMITED,
                                      .period_ms = 1};
    struct supervisor_config pool = {.name = "pool",
                                     .dynamic_max = 10 * CHILDREN,
                                     .intensity = 50,
                                     .period_ms = 10,
                                     .backoff_min_ms = 1,
                                     .backoff_max_ms = 2,
                                     .backoff_jitter_percent = 50,
                                     .adopt = {.is_allowed = true, .restart = RESTART_TRANSIENT}};
    struct child_spec specs[2] = {{.supervisor = &group}, {.supervisor = &pool}};
    struct supervisor_config root = {.name = "root",
                                     .children = specs,
                                     .child_count = 2,
                                     .intensity = SUPERVISOR_INTENSITY_UNLIMITED,
                                     .period_ms = 1};
    weir_actor actor;
    assert_int_equal(supervisor_spawn(bench->tree, WEIR_ACTOR_NONE, &root, &actor), WEIR_OK);
    assert_int_equal(runtime_start(bench->runtime), WEIR_OK);
    assert_int_equal(supervision_wait_ready(bench->tree, DEADLINE_MS), WEIR_OK);
    assert_int_equal(supervision_find(bench->tree, "pool", &bench->pool), WEIR_OK);
}

static void bench_close(struct bench *bench)
{
    supervision_shutdown(bench->tree);
    assert_int_equal(supervision_wait(bench->tree, DEADLINE_MS), WEIR_OK);
    runtime_stop(bench->runtime);
    assert_int_equal(atomic_load(&living), 0);
    assert_int_equal(atomic_load(&downs), 1);
    supervision_destroy(&bench->tree);
    runtime_destroy(&bench->runtime);
    struct arena_usage usage;
    arena_usage(bench->arena, &usage);
    assert_int_equal(usage.blocks_live, 0);
    arena_destroy(&bench->arena);
}

static uint64_t random_of(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed >> 33;
}

/* Leaves the processors and the tree's lock to those under test: there are more threads here than cores. */
static void pace(void) { nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL); }

struct picking {
    uint64_t seed;
    uint64_t seen;
    weir_actor picked;
};

static bool pick(const struct supervision_row *row, void *context)
{
    struct picking *picking = context;
    if (!row->is_supervisor && !actor_is_none(row->actor) && random_of(&picking->seed) % ++picking->seen == 0)
        picking->picked = row->actor;
    return true;
}

/* Starts, adopts, fails and ends children. Refusals are part of it: the pool may be restarting, or the child gone. */
static void *disturb(void *context)
{
    struct bench *bench = context;
    uint64_t seed = (uint64_t)pthread_self();
    struct child_spec spec = {.name = "dynamic", .behaviour = &worker_behaviour, .restart = RESTART_TRANSIENT};
    struct actor_options options = {.supervisor = bench->pool};
    weir_actor mine[CHILDREN] = {0};
    while (!atomic_load(&is_over)) {
        weir_actor *one = &mine[random_of(&seed) % CHILDREN];
        struct message message = {.tag = random_of(&seed) % 4 ? TAG_FAIL : TAG_EXIT, .word = {random_of(&seed) % 5}};
        if (random_of(&seed) % 8 == 0)
            pace();
        if (actor_send(bench->runtime, WEIR_ACTOR_NONE, *one, &message) != WEIR_STALE)
            continue;
        if (random_of(&seed) % 2)
            (void)!actor_spawn(bench->runtime, &worker_behaviour, NULL, 0, &options, one);
        else
            (void)!supervisor_child_start(bench->tree, bench->pool, &spec, WEIR_ACTOR_NONE, 0, one);
    }
    return NULL;
}

static void *operate(void *context)
{
    struct bench *bench = context;
    uint64_t seed = (uint64_t)pthread_self();
    while (!atomic_load(&is_over)) {
        struct picking picking = {.seed = random_of(&seed)};
        supervision_each(bench->tree, pick, &picking);
        struct supervision_death deaths[SUPERVISOR_DEATHS_KEPT];
        supervision_deaths(bench->tree, picking.picked, deaths, SUPERVISOR_DEATHS_KEPT);
        if (random_of(&seed) % 2)
            (void)!supervisor_restart(bench->tree, picking.picked);
        else
            (void)!supervisor_child_stop(bench->tree, picking.picked);
        (void)!supervisor_restart_named(bench->tree, random_of(&seed) % 2 ? "b" : "group");
        pace();
    }
    return NULL;
}

static void wait_until_much_has_happened(struct bench *bench)
{
    struct supervision_totals totals;
    uint64_t deadline = clock_now_ns() + DEADLINE_MS * NS_PER_MS;
    do {
        pace();
        supervision_totals(bench->tree, &totals);
        if (clock_now_ns() >= deadline)
            fail_msg("only %llu restarts, %llu adopted, %llu escalations", (unsigned long long)totals.restarts,
                     (unsigned long long)totals.adopted, (unsigned long long)totals.escalations);
    } while (totals.restarts < RESTARTS || totals.adopted < RESTARTS || totals.escalations < RESTARTS / 200);
    atomic_store(&is_over, true);
}

static void tree_holds_under_load_from_all_sides(void **state)
{
    (void)state;
    static const unsigned workers[] = {1, 2, 4, 16};
    for (size_t i = 0; i < sizeof workers / sizeof workers[0]; i++) {
        struct bench bench;
        bench_open(&bench, workers[i]);
        pthread_t threads[4];
        for (int t = 0; t < 4; t++)
            assert_int_equal(pthread_create(&threads[t], NULL, t < 2 ? disturb : operate, &bench), 0);
        wait_until_much_has_happened(&bench);
        for (int t = 0; t < 4; t++)
            assert_int_equal(pthread_join(threads[t], NULL), 0);
        bench_close(&bench);
    }
}

static void stop_under_load_leaves_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct bench bench;
        bench_open(&bench, 2);
        pthread_t threads[2];
        for (int t = 0; t < 2; t++)
            assert_int_equal(pthread_create(&threads[t], NULL, t ? disturb : operate, &bench), 0);
        supervision_shutdown(bench.tree);
        assert_int_equal(supervision_wait(bench.tree, DEADLINE_MS), WEIR_OK);
        atomic_store(&is_over, true);
        for (int t = 0; t < 2; t++)
            assert_int_equal(pthread_join(threads[t], NULL), 0);
        bench_close(&bench);
    }
}

static size_t descriptor_count(void)
{
    size_t count = 0;
    for (int fd = 0; fd < 1024; fd++) {
        char path[64], target[8];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        count += readlink(path, target, sizeof target) > 0;
    }
    return count;
}

static size_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    size_t pages = 0, resident = 0;
    int read = fscanf(file, "%zu %zu", &pages, &resident);
    fclose(file);
    assert_int_equal(read, 2);
    return resident * 4096;
}

static void wait_restarts(struct bench *bench, uint64_t wanted)
{
    struct supervision_totals totals;
    uint64_t deadline = clock_now_ns() + DEADLINE_MS * NS_PER_MS;
    do {
        supervision_totals(bench->tree, &totals);
        assert_true(clock_now_ns() < deadline);
    } while (totals.restarts < wanted);
}

static void crash_many(struct bench *bench, weir_actor child, uint64_t count, uint64_t *crashed)
{
    struct message fail = {.tag = TAG_FAIL, .word = {1}};
    while (count-- > 0) {
        while (actor_send(bench->runtime, WEIR_ACTOR_NONE, child, &fail) == WEIR_FULL)
            wait_restarts(bench, *crashed - 100);
        ++*crashed;
    }
    wait_restarts(bench, *crashed);
}

static void ten_thousand_crashes_cost_no_descriptor_and_no_mebibyte(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 2);
    struct child_spec spec = {.name = "crasher", .behaviour = &worker_behaviour};
    struct supervisor_config config = {
        .name = "crashers", .dynamic_max = 1, .intensity = SUPERVISOR_INTENSITY_UNLIMITED, .period_ms = 1};
    weir_actor supervisor, child;
    assert_int_equal(supervisor_spawn(bench.tree, bench.pool, &config, &supervisor), WEIR_OK);
    /* The supervisor may still be on its way up, and is dynamic itself. */
    while (supervisor_child_start(bench.tree, supervisor, &spec, WEIR_ACTOR_NONE, 0, &child) != WEIR_OK) {
    }
    uint64_t crashed = 0;
    crash_many(&bench, child, 2000, &crashed);
    size_t descriptors = descriptor_count();
    size_t resident = resident_bytes();
    crash_many(&bench, child, 10000, &crashed);
    assert_int_equal(descriptor_count(), descriptors);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(resident_bytes() <= resident + ((size_t)1 << 20));
#else
    (void)resident;
#endif
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tree_holds_under_load_from_all_sides),
        cmocka_unit_test(stop_under_load_leaves_nothing),
        cmocka_unit_test(ten_thousand_crashes_cost_no_descriptor_and_no_mebibyte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
