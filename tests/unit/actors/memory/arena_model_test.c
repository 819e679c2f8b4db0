/* The arena against a naive model: random alloc, hold, drop, get and stale handles, millions of them, from
 * one thread and from several. A failure prints the seed; the same seed as argument replays it. */
#include "actors/memory/arena.h"

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "tests/unit/instrumented.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    MODEL_BLOCKS = 2000, /* live or dead, that a model remembers */
    THREADS = 4,
    STEPS = IS_INSTRUMENTED ? 150000 : 4000000,
    EAGERNESS_STEPS = IS_INSTRUMENTED ? 7500 : 50000,
};

static struct arena *arena;
static uint64_t seed_given;

struct model_block {
    weir_msg msg;
    uint32_t references; /* 0: dead; its handle must be refused */
    uint32_t size;
    unsigned char fill;
};

struct model {
    uint64_t seed;
    struct model_block blocks[MODEL_BLOCKS];
    struct budget *budget;
    unsigned eagerness; /* of 8: how often a dead block comes to life; changes, so that slabs come and go */
    size_t refused;
    const char *failure;
};

static uint64_t random_next(struct model *model)
{
    model->seed ^= model->seed << 13;
    model->seed ^= model->seed >> 7;
    model->seed ^= model->seed << 17;
    return model->seed * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}

static void model_fail(struct model *model, const char *what)
{
    if (!model->failure)
        model->failure = what;
}

/* Mostly small, sometimes slabs of its own. */
static uint32_t random_size(struct model *model)
{
    unsigned shift = (unsigned)(random_next(model) % 100 == 0 ? 19 : 5 + random_next(model) % 12);
    return 1 + (uint32_t)(random_next(model) % ((uint64_t)1 << shift));
}

/* First and last bytes are this block's alone, or somebody else was given the same memory. */
static bool is_filled(struct model_block *block)
{
    const unsigned char *data = arena_data(arena, block->msg);
    return data && data[0] == block->fill && data[block->size / 2] == block->fill &&
           data[block->size - 1] == block->fill;
}

static void model_alloc(struct model *model, struct model_block *block)
{
    uint32_t size = random_size(model);
    weir_msg msg;
    enum weir_error error = arena_alloc(arena, size, random_next(model) % 2 ? model->budget : NULL, &msg);
    if (error == WEIR_NO_MEMORY) {
        model->refused++;
        return;
    }
    if (error) {
        model_fail(model, "alloc reported a wrong error");
        return;
    }
    if (msg.bits == block->msg.bits)
        model_fail(model, "a generation came twice");
    *block = (struct model_block){.msg = msg, .references = 1, .size = size, .fill = (unsigned char)random_next(model)};
    unsigned char *data = arena_data(arena, msg);
    data[0] = data[size / 2] = data[size - 1] = block->fill;
}

static void model_check_live(struct model *model, struct model_block *block)
{
    if (!is_filled(block))
        model_fail(model, "a live block lost its bytes");
    if (arena_size(arena, block->msg) != block->size)
        model_fail(model, "a live block lost its size");
    if (arena_is_unshared(arena, block->msg) != (block->references == 1))
        model_fail(model, "the references are not as many as held");
}

static void model_check_dead(struct model *model, struct model_block *block)
{
    if (arena_data(arena, block->msg) || arena_hold(arena, block->msg) != WEIR_STALE)
        model_fail(model, "a stale handle was taken");
    arena_drop(arena, block->msg);
}

/* No block gets to so large a generation here, so that whatever index this names, it must be refused. */
static void model_check_garbage(struct model *model)
{
    weir_msg garbage = {random_next(model) << 16 | random_next(model) % 65536 | UINT64_C(1) << 63};
    if (arena_data(arena, garbage) || arena_size(arena, garbage) || arena_hold(arena, garbage) == WEIR_OK)
        model_fail(model, "a garbage handle was taken");
    arena_drop(arena, garbage);
}

static void model_step(struct model *model)
{
    if (random_next(model) % 16 == 0)
        model_check_garbage(model);
    struct model_block *block = &model->blocks[random_next(model) % MODEL_BLOCKS];
    unsigned action = (unsigned)(random_next(model) % 8);
    if (block->references == 0) {
        if (!msg_is_none(block->msg))
            model_check_dead(model, block);
        if (action < model->eagerness)
            model_alloc(model, block);
    } else if (action < 2) {
        model_check_live(model, block);
        if (arena_hold(arena, block->msg) != WEIR_OK)
            model_fail(model, "a live handle was refused");
        block->references++;
    } else {
        model_check_live(model, block);
        arena_drop(arena, block->msg);
        block->references--;
    }
}

static void *model_run(void *argument)
{
    struct model *model = argument;
    for (int i = 0; i < STEPS && !model->failure; i++) {
        if (i % EAGERNESS_STEPS == 0)
            model->eagerness = 1 + (unsigned)(random_next(model) % 8);
        model_step(model);
        /* Now and then everything goes, and the thread looks new. */
        if (i % (STEPS / 4) == STEPS / 4 - 1) {
            for (int j = 0; j < MODEL_BLOCKS; j++) {
                for (; model->blocks[j].references > 0; model->blocks[j].references--)
                    arena_drop(arena, model->blocks[j].msg);
            }
            arena_thread_flush(arena);
        }
    }
    return NULL;
}

static size_t models_run(int threads, size_t ceiling)
{
    static struct model models[THREADS];
    pthread_t started[THREADS];
    struct arena_config config = {.bytes_max = ceiling};
    assert_int_equal(arena_create(&config, &arena), WEIR_OK);
    print_message("seed %llu\n", (unsigned long long)seed_given);
    for (int i = 0; i < threads; i++) {
        models[i] = (struct model){.seed = seed_given + (uint64_t)i * 1000};
        assert_int_equal(budget_create(NULL, "model", ceiling / 4, &models[i].budget), WEIR_OK);
        assert_int_equal(pthread_create(&started[i], NULL, model_run, &models[i]), 0);
    }
    for (int i = 0; i < threads; i++)
        pthread_join(started[i], NULL);
    size_t refused = 0;
    struct arena_usage usage;
    arena_usage(arena, &usage);
    assert_true(usage.bytes_committed <= ceiling);
    for (int i = 0; i < threads; i++) {
        if (models[i].failure)
            fail_msg("%s (seed %llu, thread %d)", models[i].failure, (unsigned long long)seed_given, i);
        struct budget_usage budget;
        budget_usage(models[i].budget, &budget);
        assert_int_equal(budget.bytes_used, 0);
        assert_int_equal(budget.blocks_used, 0);
        assert_true(budget.bytes_peak <= budget.bytes_max);
        refused += models[i].refused;
        budget_destroy(&models[i].budget);
    }
    assert_int_equal(usage.blocks_live, 0);
    assert_int_equal(usage.bytes_live, 0);
    arena_destroy(&arena);
    return refused;
}

static void one_thread_agrees_with_the_model(void **state)
{
    (void)state;
    assert_int_equal(models_run(1, (size_t)1 << 30), 0);
}

static void one_thread_agrees_with_the_model_at_the_ceiling(void **state)
{
    (void)state;
    assert_true(models_run(1, (size_t)12 << 20) > 0);
}

static void many_threads_agree_with_their_models(void **state)
{
    (void)state;
    assert_int_equal(models_run(THREADS, (size_t)1 << 30), 0);
}

static void many_threads_agree_with_their_models_at_the_ceiling(void **state)
{
    (void)state;
    assert_true(models_run(THREADS, (size_t)16 << 20) > 0);
}

enum { SHARED_PLACES = 64 };

/* Blocks on their way between threads: whoever exchanges a handle out owns its reference. */
static _Atomic uint64_t shared_places[SHARED_PLACES];

static void *exchange_run(void *argument)
{
    struct model *model = argument;
    for (int i = 0; i < STEPS / 2 && !model->failure; i++) {
        weir_msg msg = WEIR_MSG_NONE;
        uint32_t size = 16 + random_size(model);
        if (random_next(model) % 2 && arena_alloc(arena, size, model->budget, &msg) == WEIR_OK)
            memcpy(arena_data(arena, msg), &(uint64_t){msg.bits ^ 0x1234}, 8);
        uint64_t had = atomic_exchange(&shared_places[random_next(model) % SHARED_PLACES], msg.bits);
        if (!had)
            continue;
        uint64_t told = 0;
        void *data = arena_data(arena, (weir_msg){had});
        if (data)
            memcpy(&told, data, 8);
        if (told != (had ^ 0x1234))
            model_fail(model, "a block from another thread has wrong bytes");
        if (random_next(model) % 4 == 0 && arena_hold(arena, (weir_msg){had}) == WEIR_OK)
            arena_drop(arena, (weir_msg){had});
        arena_drop(arena, (weir_msg){had});
    }
    arena_thread_flush(arena);
    return NULL;
}

static void blocks_that_change_threads_keep_bytes_and_end_once(void **state)
{
    (void)state;
    static struct model models[THREADS];
    pthread_t started[THREADS];
    struct arena_config config = {.bytes_max = (size_t)256 << 20};
    struct budget *budget = NULL;
    assert_int_equal(arena_create(&config, &arena), WEIR_OK);
    assert_int_equal(budget_create(NULL, "shared", 0, &budget), WEIR_OK);
    for (int i = 0; i < THREADS; i++) {
        models[i] = (struct model){.seed = seed_given + (uint64_t)i * 77, .budget = budget};
        assert_int_equal(pthread_create(&started[i], NULL, exchange_run, &models[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(started[i], NULL);
    for (int i = 0; i < THREADS; i++) {
        if (models[i].failure)
            fail_msg("%s (seed %llu)", models[i].failure, (unsigned long long)seed_given);
    }
    for (int i = 0; i < SHARED_PLACES; i++)
        arena_drop(arena, (weir_msg){atomic_exchange(&shared_places[i], 0)});
    struct arena_usage usage;
    arena_usage(arena, &usage);
    assert_int_equal(usage.blocks_live, 0);
    assert_int_equal(usage.stale, 0);
    struct budget_usage used;
    budget_usage(budget, &used);
    assert_int_equal(used.bytes_used, 0);
    budget_destroy(&budget);
    arena_destroy(&arena);
}

/* One block, references taken and given by all threads at once. */
static void *crowd_run(void *argument)
{
    weir_msg msg = *(weir_msg *)argument;
    for (int i = 0; i < STEPS / 8; i++) {
        if (arena_hold(arena, msg) != WEIR_OK)
            return argument;
        if (*(unsigned char *)arena_data(arena, msg) != 7)
            return argument;
        arena_drop(arena, msg);
    }
    arena_drop(arena, msg);
    return NULL;
}

static void shared_block_ends_with_the_last_of_many_holders(void **state)
{
    (void)state;
    struct arena_config config = {.bytes_max = (size_t)16 << 20};
    assert_int_equal(arena_create(&config, &arena), WEIR_OK);
    weir_msg msg;
    assert_int_equal(arena_alloc(arena, 100, NULL, &msg), WEIR_OK);
    *(unsigned char *)arena_data(arena, msg) = 7;
    pthread_t started[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(arena_hold(arena, msg), WEIR_OK);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&started[i], NULL, crowd_run, &msg), 0);
    for (int i = 0; i < THREADS; i++) {
        void *result = NULL;
        pthread_join(started[i], &result);
        assert_null(result);
    }
    assert_true(arena_is_unshared(arena, msg));
    arena_drop(arena, msg);
    assert_null(arena_data(arena, msg));
    arena_destroy(&arena);
}

int main(int argc, char **argv)
{
    seed_given = argc > 1 ? strtoull(argv[1], NULL, 10) : clock_now_ns() | 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_thread_agrees_with_the_model),
        cmocka_unit_test(one_thread_agrees_with_the_model_at_the_ceiling),
        cmocka_unit_test(many_threads_agree_with_their_models),
        cmocka_unit_test(many_threads_agree_with_their_models_at_the_ceiling),
        cmocka_unit_test(blocks_that_change_threads_keep_bytes_and_end_once),
        cmocka_unit_test(shared_block_ends_with_the_last_of_many_holders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
