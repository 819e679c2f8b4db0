/* One run: builds the world from a seed, moves it event by event, lets it come to rest, stops it, and checks
 * throughout. */
#include "tests/simulate/model.h"

#include "actors/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A world that is left alone comes to rest long before this many turns and timers. */
enum { REST_EVENTS_MAX = 20000000 };

uint64_t model_random(struct model *model)
{
    uint64_t z = model->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void model_violate(struct model *model, const char *format, ...)
{
    if (model->violation[0])
        return;
    int size = snprintf(model->violation, sizeof model->violation, "event %lu: ", (unsigned long)model->event);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(model->violation + size, sizeof model->violation - (size_t)size, format, arguments);
    va_end(arguments);
    model_trace(model, "VIOLATION %s", model->violation);
}

void model_trace(struct model *model, const char *format, ...)
{
    if (!model->is_traced)
        return;
    printf("%8lu %12.6f ", (unsigned long)model->event, (double)runtime_now_ns(model->runtime) / 1e9);
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

/* Some seeds are calm, some are not; a few have thousands of actors, or mailboxes of one. */
static void temper_choose(struct model *model)
{
    static const uint32_t mailboxes[] = {1, 2, 8, 32, 256};
    static const uint32_t crowds[] = {10, 50, 200, 3000};
    static const uint32_t failures[] = {0, 5, 20, 60};
    struct temper *temper = &model->temper;
    temper->mailbox_max = mailboxes[model_below(model, COUNT_OF(mailboxes))];
    temper->nodes = crowds[model_below(model, COUNT_OF(crowds))];
    temper->fail_per_mille = failures[model_below(model, COUNT_OF(failures))];
    temper->exit_per_mille = (uint32_t)model_below(model, 10);
    temper->start_fail_per_mille = model_chance(model, 500) ? 0 : (uint32_t)model_below(model, 100);
    temper->restart_fail_per_mille = model_chance(model, 500) ? 0 : (uint32_t)model_below(model, 200);
    temper->forward_per_cent = (uint32_t)model_below(model, 60);
    temper->burst_max = 1 + (uint32_t)model_below(model, 3 * temper->mailbox_max);
    temper->advance_per_mille = 5 + (uint32_t)model_below(model, 100);
    temper->act_per_cent = 10 + (uint32_t)model_below(model, 60);
    temper->has_strict_root = model_chance(model, 200);
    temper->has_patient_pool = model_chance(model, 600);
}

static void on_down(enum weir_error cause, void *context)
{
    struct model *model = context;
    model_trace(model, "root is down: %s", weir_error_code(cause));
}

static void build(struct model *model)
{
    struct arena_config arena = {.bytes_max = (size_t)1 << 30};
    ENSURE(arena_create(&arena, &model->arena) == WEIR_OK);
    ENSURE(budget_create(NULL, "simulation", 0, &model->budget) == WEIR_OK);
    struct runtime_config config = {
        .arena = model->arena,
        .turn_max = 1 + (uint32_t)model_below(model, 32),
        .on_dead_letter = node_dead_letter,
        .context = model,
        .simulate = true,
        .seed = model_random(model),
    };
    ENSURE(runtime_create(&config, &model->runtime) == WEIR_OK);
    struct supervision_config tree = {
        .runtime = model->runtime, .seed = model_random(model), .on_down = on_down, .context = model};
    ENSURE(supervision_create(&tree, &model->tree) == WEIR_OK);
    supervision_trace(model->tree, observe_transition, model);
    ENSURE(runtime_start(model->runtime) == WEIR_OK);
    driver_build(model);
}

/* One event: perhaps something from outside, then a turn, or the clock. */
static void move(struct model *model)
{
    if (model_below(model, 100) < model->temper.act_per_cent)
        driver_act(model);
    if (model_chance(model, model->temper.advance_per_mille) && runtime_advance(model->runtime))
        return;
    if (!runtime_step(model->runtime) && !runtime_advance(model->runtime))
        driver_act(model);
}

static void populate(struct model *model)
{
    while (model->node_count < model->temper.nodes && !model->violation[0]) {
        uint32_t before = model->node_count;
        driver_act(model);
        if (model->node_count == before)
            move(model);
    }
}

static bool rest(struct model *model)
{
    for (uint64_t count = 0; count < REST_EVENTS_MAX; count++) {
        model->event++;
        if (model->violation[0])
            return false;
        if (!runtime_step(model->runtime) && !runtime_advance(model->runtime))
            return true;
        observe_step(model);
    }
    model_violate(model, "the world does not come to rest");
    return false;
}

static void come_to_rest(struct model *model)
{
    model->is_draining = true;
    for (uint32_t i = 0; i < model->timer_count; i++) {
        if (model->timers[i].period_ns == 0)
            continue;
        timer_cancel(model->runtime, model->timers[i].timer);
        model->timers[i].is_canceled = true;
    }
    if (rest(model))
        final_quiet(model);
}

static void stop(struct model *model)
{
    if (!model->violation[0]) {
        supervision_shutdown(model->tree);
        if (rest(model) && !supervision_is_down(model->tree))
            model_violate(model, "the tree does not stop");
    }
    runtime_stop(model->runtime);
    supervision_destroy(&model->tree);
    runtime_destroy(&model->runtime);
    if (!model->violation[0])
        final_stopped(model);
    budget_destroy(&model->budget);
    arena_destroy(&model->arena);
}

static void report(const struct model *model, struct outcome *out)
{
    *out = (struct outcome){
        .hash = runtime_order_hash(model->runtime),
        .events = model->event,
        .messages = model->messages,
        .dead = model->dead,
        .refusals = model->refusals,
        .restarts = model->restarts,
        .escalations = model->escalations,
        .nodes = model->node_count,
    };
}

void model_run(uint64_t seed, uint64_t events, bool is_traced, struct outcome *out)
{
    struct model *model = calloc(1, sizeof *model);
    REQUIRE(model != NULL);
    log_level_set(LOG_OFF);
    model->seed = seed;
    model->random = seed;
    model->is_traced = is_traced;
    ledger_init(model);
    temper_choose(model);
    build(model);
    populate(model);
    for (uint64_t count = 0; count < events && !model->violation[0]; count++) {
        model->event++;
        move(model);
        observe_step(model);
    }
    if (!model->violation[0])
        come_to_rest(model);
    report(model, out);
    stop(model);
    memcpy(out->violation, model->violation, sizeof out->violation);
    ledger_fini(model);
    free(model);
}
