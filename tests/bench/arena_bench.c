/* What a block costs: alloc and drop by size, with and without a budget, hold and drop, and blocks that
 * are dropped by another thread than the one that allocated them. Run by hand; prints one line each. */
#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/memory/arena.h"
#include "actors/memory/slots.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 5, RING_SIZE = 1024, CROSS_BLOCKS = 2000000 };

static struct arena *arena;
static weir_msg blocks[1000];

static void require_ok(enum weir_error error)
{
    if (error) {
        fprintf(stderr, "arena_bench: %s\n", weir_error_text(error));
        exit(1);
    }
}

static weir_msg alloc(size_t size, struct budget *owner)
{
    weir_msg msg = WEIR_MSG_NONE;
    require_ok(arena_alloc(arena, size, owner, &msg));
    return msg;
}

/* One at a time: the slot stays in the first-level cache. */
static uint64_t alloc_drop(size_t size, struct budget *owner, int count)
{
    uint64_t start = clock_now_ns();
    for (int i = 0; i < count; i++) {
        weir_msg msg = alloc(size, owner);
        *(char *)arena_data(arena, msg) = 1;
        arena_drop(arena, msg);
    }
    return clock_now_ns() - start;
}

/* A thousand live at a time, dropped in the order they came: magazines trade with the classes. */
static uint64_t alloc_drop_window(size_t size, struct budget *owner, int count)
{
    int window = (int)COUNT_OF(blocks);
    uint64_t start = clock_now_ns();
    for (int i = 0; i < count; i += window) {
        for (int j = 0; j < window; j++)
            blocks[j] = alloc(size, owner);
        for (int j = 0; j < window; j++)
            arena_drop(arena, blocks[j]);
    }
    return clock_now_ns() - start;
}

static uint64_t hold_drop(size_t size, struct budget *owner, int count)
{
    weir_msg msg = alloc(size, owner);
    uint64_t start = clock_now_ns();
    for (int i = 0; i < count; i++) {
        if (arena_hold(arena, msg))
            exit(1);
        arena_drop(arena, msg);
    }
    uint64_t took = clock_now_ns() - start;
    arena_drop(arena, msg);
    return took;
}

static struct ring {
    _Alignas(64) _Atomic size_t pushed; /* written by the producer, release; the consumer acquires */
    _Alignas(64) _Atomic size_t popped; /* the other way round */
    _Alignas(64) weir_msg messages[RING_SIZE];
} ring;

static void *cross_consume(void *unused)
{
    (void)unused;
    for (size_t i = 0; i < CROSS_BLOCKS;) {
        size_t end = atomic_load_explicit(&ring.pushed, memory_order_acquire);
        if (end == i)
            sched_yield();
        for (; i < end; i++)
            arena_drop(arena, ring.messages[i % RING_SIZE]);
        atomic_store_explicit(&ring.popped, i, memory_order_release);
    }
    arena_thread_flush(arena);
    return NULL;
}

static uint64_t cross_thread(size_t size)
{
    pthread_t consumer;
    ring.pushed = 0;
    ring.popped = 0;
    if (pthread_create(&consumer, NULL, cross_consume, NULL))
        exit(1);
    uint64_t start = clock_now_ns();
    for (size_t i = 0; i < CROSS_BLOCKS; i++) {
        while (i - atomic_load_explicit(&ring.popped, memory_order_acquire) >= RING_SIZE)
            sched_yield();
        ring.messages[i % RING_SIZE] = alloc(size, NULL);
        if (i % 16 == 15 || i + 1 == CROSS_BLOCKS)
            atomic_store_explicit(&ring.pushed, i + 1, memory_order_release);
    }
    pthread_join(consumer, NULL);
    return clock_now_ns() - start;
}

static uint64_t slots_bench(int count)
{
    struct slots *slots;
    struct slots_cache cache = {0};
    require_ok(slots_create(arena, 64, 1 << 20, &slots));
    uint64_t start = clock_now_ns();
    for (int i = 0; i < count; i++) {
        uint32_t index = 0;
        require_ok(slots_alloc(slots, &cache, &index));
        *((volatile char *)slots_at(slots, index) + 8) = 1;
        slots_free(slots, &cache, index);
    }
    uint64_t took = clock_now_ns() - start;
    slots_destroy(&slots);
    return took;
}

static void report(const char *what, size_t size, uint64_t took, int count)
{
    printf("%-28s %8zu B  %8.2f ns\n", what, size, (double)took / count);
}

typedef uint64_t (*measure)(size_t size, struct budget *owner, int count);

/* The best of some rounds: what the code costs without its neighbours on the machine. */
static void measure_best(const char *what, measure run, size_t size, struct budget *owner, int count)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t took = run(size, owner, count);
        if (took < best)
            best = took;
    }
    report(what, size, best, count);
}

int main(void)
{
    static const size_t sizes[] = {64, 256, 1024, 4096, 16384, 65536, 1 << 20};
    struct arena_config config = {.bytes_max = (size_t)1 << 30};
    struct budget *parent;
    struct budget *owner;
    require_ok(arena_create(&config, &arena));
    require_ok(budget_create(NULL, "parent", (size_t)1 << 30, &parent));
    require_ok(budget_create(parent, "owner", (size_t)1 << 30, &owner));
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        measure_best("alloc+drop", alloc_drop, sizes[i], NULL, sizes[i] > 100000 ? 50000 : 1000000);
    for (size_t i = 0; i < COUNT_OF(sizes) - 1; i++)
        measure_best("alloc+drop, 1000 live", alloc_drop_window, sizes[i], NULL, 200000);
    measure_best("alloc+drop, budget", alloc_drop, 64, owner, 1000000);
    measure_best("alloc+drop, root budget", alloc_drop, 64, parent, 1000000);
    measure_best("hold+drop", hold_drop, 64, NULL, 1000000);
    report("alloc here, drop there", 64, cross_thread(64), CROSS_BLOCKS);
    report("alloc here, drop there", 1024, cross_thread(1024), CROSS_BLOCKS);
    report("slots alloc+free", 64, slots_bench(5000000), 5000000);
    budget_destroy(&owner);
    budget_destroy(&parent);
    arena_destroy(&arena);
    return 0;
}
