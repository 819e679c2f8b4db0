/* A simulated runtime with a tree in it, and children that write down what happens to them. Included once by each
 * test here. */
#ifndef TESTS_UNIT_ACTORS_SUPERVISE_WORLD_H
#define TESTS_UNIT_ACTORS_SUPERVISE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "actors/supervise/supervisor.h"

struct world {
    struct arena *arena;
    struct runtime *runtime;
    struct supervision *tree;
    char journal[4096]; /* "+a" started, "-a" stopped in order, "!a" stopped otherwise, "~a" restarted in place */
    size_t journal_size;
    unsigned dead, downs;
    uint32_t dead_attempts;
    enum weir_error down_cause;
    uint64_t counts[256];        /* by a child's name: its state's counter, as last seen */
    unsigned refuse_starts[256]; /* how many starts of that child are to fail */
    bool is_stubborn[256];       /* does not end when asked to */
    unsigned starts;
};

static void journal(struct world *world, char mark, char name)
{
    if (world->journal_size + 3 >= sizeof world->journal)
        return;
    world->journal[world->journal_size++] = mark;
    world->journal[world->journal_size++] = name;
    world->journal[world->journal_size] = '\0';
}

static inline void journal_clear(struct world *world)
{
    world->journal_size = 0;
    world->journal[0] = '\0';
}

/* What children do when they get these. */
enum {
    TAG_COUNT = 1, /* state.counter++ */
    TAG_FAIL,      /* fails word[0] times, then counts */
    TAG_POISON,    /* fails every time */
    TAG_EXIT,      /* ends with cause word[0] */
};

struct child_args {
    struct world *world;
    char name;
};

struct counting_state {
    struct world *world;
    uint64_t counter;
    char name;
};

static enum weir_error child_on_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    const struct child_args *given = args;
    struct counting_state *self = state;
    self->world = given->world;
    self->name = given->name;
    given->world->starts++;
    if (given->world->refuse_starts[(unsigned char)given->name] > 0) {
        given->world->refuse_starts[(unsigned char)given->name]--;
        journal(given->world, '?', given->name);
        return WEIR_IO;
    }
    journal(given->world, '+', given->name);
    return WEIR_OK;
}

static enum weir_error child_on_message(struct turn *turn, void *state, struct message *message)
{
    struct counting_state *self = state;
    switch (message->tag) {
    case TAG_FAIL:
        if (message->word[0] > 0) {
            message->word[0]--;
            return WEIR_FAILED;
        }
        self->counter++;
        break;
    case TAG_POISON: return WEIR_POISONED;
    case TAG_COUNT: self->counter++; break;
    case TAG_EXIT: turn_exit(turn, (enum weir_error)message->word[0]); break;
    case MESSAGE_SHUTDOWN:
        if (self->world->is_stubborn[(unsigned char)self->name])
            turn_shutdown_defer(turn);
        break;
    default: break;
    }
    self->world->counts[(unsigned char)self->name] = self->counter;
    return WEIR_OK;
}

static enum weir_error child_on_restart(struct turn *turn, void *state, enum weir_error cause)
{
    (void)turn;
    (void)cause;
    struct counting_state *self = state;
    journal(self->world, '~', self->name);
    return WEIR_OK;
}

static void child_on_stop(struct turn *turn, void *state, enum weir_error cause)
{
    (void)turn;
    struct counting_state *self = state;
    journal(self->world, cause == WEIR_OK ? '-' : '!', self->name);
}

static const struct behaviour child_behaviour = {
    .name = "child",
    .state_size = sizeof(struct counting_state),
    .on_start = child_on_start,
    .on_message = child_on_message,
    .on_restart = child_on_restart,
    .on_stop = child_on_stop,
};

/* A spec whose args live in `args`. */
static inline struct child_spec child_of(struct world *world, struct child_args *args, const char *name)
{
    *args = (struct child_args){world, name[0]};
    return (struct child_spec){.name = name, .behaviour = &child_behaviour, .args = args, .args_size = sizeof *args};
}

static bool world_on_dead_letter(struct turn *turn, struct message *message, enum weir_error cause, uint32_t attempts,
                                 void *context)
{
    (void)turn;
    (void)message;
    (void)cause;
    struct world *world = context;
    world->dead++;
    world->dead_attempts = attempts;
    return true;
}

static void world_on_down(enum weir_error cause, void *context)
{
    struct world *world = context;
    world->downs++;
    world->down_cause = cause;
}

static inline struct world *world_create(uint64_t seed)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    log_level_set(LOG_OFF);
    assert_int_equal(arena_create(&(struct arena_config){.bytes_max = (size_t)1 << 30}, &world->arena), WEIR_OK);
    struct runtime_config config = {
        .arena = world->arena,
        .simulate = true,
        .seed = seed,
        .on_dead_letter = world_on_dead_letter,
        .context = world,
    };
    assert_int_equal(runtime_create(&config, &world->runtime), WEIR_OK);
    struct supervision_config tree = {
        .runtime = world->runtime, .seed = seed + 1, .on_down = world_on_down, .context = world};
    assert_int_equal(supervision_create(&tree, &world->tree), WEIR_OK);
    assert_int_equal(runtime_start(world->runtime), WEIR_OK);
    return world;
}

static inline void world_destroy(struct world *world)
{
    runtime_stop(world->runtime);
    supervision_destroy(&world->tree);
    runtime_destroy(&world->runtime);
    struct arena_usage usage;
    arena_usage(world->arena, &usage);
    assert_int_equal(usage.blocks_live, 0);
    arena_destroy(&world->arena);
    free(world);
}

/* Runs whatever can run, without moving the clock. */
static inline void world_run(struct world *world)
{
    for (unsigned steps = 0; runtime_step(world->runtime); steps++)
        assert_true(steps < 10000000);
}

static enum weir_error waiter_on_message(struct turn *turn, void *state, struct message *message)
{
    (void)turn;
    (void)state;
    (void)message;
    return WEIR_OK;
}

/* Moves the clock by that much, running everything that falls due. */
static inline void world_wait_ms(struct world *world, uint64_t ms)
{
    uint64_t until_ns = runtime_now_ns(world->runtime) + ms * NS_PER_MS;
    world_run(world);
    weir_timer timer;
    weir_actor nobody;
    static const struct behaviour waiter = {.name = "waiter", .on_message = waiter_on_message};
    assert_int_equal(actor_spawn(world->runtime, &waiter, NULL, 0, NULL, &nobody), WEIR_OK);
    assert_int_equal(timer_start(world->runtime, nobody, ms * NS_PER_MS, 0, 0, &timer), WEIR_OK);
    while (runtime_now_ns(world->runtime) < until_ns) {
        assert_true(runtime_advance(world->runtime));
        world_run(world);
    }
    assert_int_equal(actor_stop(world->runtime, nobody, WEIR_OK), WEIR_OK);
    world_run(world);
}

static inline weir_actor world_find(struct world *world, const char *name)
{
    weir_actor actor = WEIR_ACTOR_NONE;
    assert_int_equal(supervision_find(world->tree, name, &actor), WEIR_OK);
    return actor;
}

static inline void world_send(struct world *world, weir_actor to, uint32_t tag, uint64_t word)
{
    struct message message = {.tag = tag, .word = {word}};
    assert_int_equal(actor_send(world->runtime, WEIR_ACTOR_NONE, to, &message), WEIR_OK);
}

static inline void world_order(struct world *world, const char *name, uint32_t tag, uint64_t word)
{
    world_send(world, world_find(world, name), tag, word);
    world_run(world);
}

struct row_wanted {
    const char *name;
    struct supervision_row row;
    bool is_found;
};

static inline bool row_match(const struct supervision_row *row, void *context)
{
    struct row_wanted *wanted = context;
    wanted->is_found = strcmp(row->name, wanted->name) == 0;
    if (wanted->is_found)
        wanted->row = *row;
    return !wanted->is_found;
}

static inline struct supervision_row world_row(struct world *world, const char *name)
{
    struct row_wanted wanted = {.name = name};
    supervision_each(world->tree, row_match, &wanted);
    assert_true(wanted.is_found);
    return wanted.row;
}

#define assert_journal(world, expected) assert_string_equal((world)->journal, expected)

#endif
