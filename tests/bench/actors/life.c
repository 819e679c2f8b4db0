/* Benchmarks of actors' lives: fork_join_create, spawn_memory, spawn_supervised, restart. Handlers run in turns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/actors/bench.h"

/* What a driver does before it lets others run; it goes on by a message to itself. */
enum { DRIVER_STEP = 256 };

static uint64_t life_count;

/* A driver whose own mailbox is full of answers hears MESSAGE_ROOM instead, and goes on then. */
static void go_on(struct turn *turn)
{
    struct message go = {.tag = GO};
    send_or_wait(turn, turn_self(turn), &go);
}

/* --------------------------------------------------------------------------------------- fork_join_create */

/* An answer that finds the driver's mailbox full waits for room. */
struct child {
    weir_actor driver;
    uint64_t index;
};

static enum weir_error child_message(struct turn *turn, void *state, struct message *message)
{
    struct child *self = state;
    if (message->tag == WORK)
        *self = (struct child){message->from, message->word[0]};
    struct message done = {.tag = DONE, .word = {self->index}};
    if (send_or_wait(turn, self->driver, &done))
        turn_exit(turn, WEIR_OK);
    return WEIR_OK;
}

static const struct behaviour child = {
    .name = "child", .state_size = sizeof(struct child), .on_message = child_message};

struct create_driver {
    uint64_t spawned, done, sum;
};

static enum weir_error create_driver_message(struct turn *turn, void *state, struct message *message)
{
    struct create_driver *self = state;
    if (message->tag == DONE) {
        self->sum += message->word[0];
        if (++self->done == life_count)
            bench_finish(self->sum);
        return WEIR_OK;
    }
    for (int i = 0; i < DRIVER_STEP && self->spawned < life_count; i++, self->spawned++) {
        weir_actor actor;
        must(actor_spawn(bench_runtime, &child, NULL, 0, NULL, &actor));
        tell(turn, actor, WORK, self->spawned, 0);
    }
    if (self->spawned < life_count)
        go_on(turn);
    return WEIR_OK;
}

static const struct behaviour create_driver = {
    .name = "driver", .state_size = sizeof(struct create_driver), .on_message = create_driver_message};

static void fork_join_create(struct outcome *outcome)
{
    life_count = param("n", 400000);
    outcome->msgs = 2 * life_count;
    begin(spawn(&create_driver, NULL, 0));
}

/* ------------------------------------------------------------------------------------------- spawn_memory */

static uint64_t resident_before, resident_spawned, resident_touched, spawn_ns;
static weir_actor *sleepers;

static enum weir_error sleeper_message(struct turn *turn, void *state, struct message *message)
{
    weir_actor *driver = state;
    if (message->tag == PING)
        *driver = message->from;
    struct message done = {.tag = DONE, .word = {1}};
    send_or_wait(turn, *driver, &done);
    return WEIR_OK;
}

static const struct behaviour sleeper = {
    .name = "sleeper", .state_size = sizeof(weir_actor), .on_message = sleeper_message};

struct memory_driver {
    uint64_t started_ns, spawned, pinged, done;
};

/* Of nobody, of a supervisor that is asked for it, or of one that adopts it. */
static enum { FREE, STARTED, ADOPTED } sleeper_kind;

/* Their supervisor hears of TURN_MESSAGES_MAX in one of its turns: more make its lane fill. */
static uint64_t sleepers_a_turn = DRIVER_STEP;

static weir_actor sleeper_spawn(void)
{
    weir_actor actor;
    struct actor_options options = {.supervisor = sleeper_kind == ADOPTED ? bench_supervisor : WEIR_ACTOR_NONE};
    struct child_spec spec = {.behaviour = &sleeper, .restart = RESTART_PERMANENT};
    if (sleeper_kind == STARTED)
        must(supervisor_child_start(bench_supervision, bench_supervisor, &spec, WEIR_ACTOR_NONE, 0, &actor));
    else
        must(actor_spawn(bench_runtime, &sleeper, NULL, 0, &options, &actor));
    return actor;
}

static void memory_spawn(struct turn *turn, struct memory_driver *self)
{
    if (self->spawned == 0) {
        resident_before = resident_bytes();
        self->started_ns = clock_now_ns();
    }
    for (uint64_t i = 0; i < sleepers_a_turn && self->spawned < life_count; i++, self->spawned++)
        sleepers[self->spawned] = sleeper_spawn();
    if (sleeper_kind != FREE)
        turn_yield(turn);
    if (self->spawned == life_count) {
        spawn_ns = clock_now_ns() - self->started_ns;
        resident_spawned = resident_bytes();
    }
    go_on(turn);
}

static void memory_ping(struct turn *turn, struct memory_driver *self)
{
    struct message ping = {.tag = PING};
    for (int i = 0; i < DRIVER_STEP && self->pinged < life_count; i++, self->pinged++)
        must(turn_send(turn, sleepers[self->pinged], &ping));
    if (self->pinged < life_count)
        go_on(turn);
}

static enum weir_error memory_driver_message(struct turn *turn, void *state, struct message *message)
{
    struct memory_driver *self = state;
    if (message->tag == DONE) {
        self->done += message->word[0];
        if (self->done == life_count) {
            resident_touched = resident_bytes();
            bench_finish(self->done);
        }
    } else if (self->spawned < life_count) {
        memory_spawn(turn, self);
    } else {
        memory_ping(turn, self);
    }
    return WEIR_OK;
}

static const struct behaviour memory_driver = {
    .name = "driver", .state_size = sizeof(struct memory_driver), .on_message = memory_driver_message};

static void spawn_memory(struct outcome *outcome)
{
    life_count = param("n", 1000000);
    outcome->msgs = life_count;
    outcome->unit = "actor";
    sleepers = allocate(life_count, sizeof *sleepers);
    for (uint64_t i = 0; i < life_count; i++)
        sleepers[i] = (weir_actor){1}; /* so that the list's own pages do not count as the actors' */
    begin(spawn(&memory_driver, NULL, 0));
}

/* The same with a supervisor above them, whose table counts. */
static void spawn_supervised(struct outcome *outcome)
{
    sleeper_kind = param("adopted", 0) ? ADOPTED : STARTED;
    sleepers_a_turn = param("step", TURN_MESSAGES_MAX / 2);
    spawn_memory(outcome);
}

static void spawn_memory_report(struct outcome *outcome)
{
    snprintf(outcome->extra, sizeof outcome->extra,
             ",\"spawn_ns_per_actor\":%.1f,\"rss_bytes_per_actor\":%.1f,\"rss_bytes_per_actor_touched\":%.1f",
             (double)spawn_ns / (double)life_count, (double)(resident_spawned - resident_before) / (double)life_count,
             (double)(resident_touched - resident_before) / (double)life_count);
}

/* ------------------------------------------------------------------------------------------------ restart */

static uint64_t *latencies, crash_ns;
static weir_actor restart_driver_actor;

struct restart_driver {
    uint64_t crashes;
    weir_actor child;
};

static enum weir_error fragile_up(struct turn *turn)
{
    tell(turn, restart_driver_actor, UP, 0, 0);
    return WEIR_OK;
}

static enum weir_error fragile_start(struct turn *turn, void *state, const void *args)
{
    (void)state, (void)args;
    return fragile_up(turn);
}

static enum weir_error fragile_restart(struct turn *turn, void *state, enum weir_error cause)
{
    (void)cause;
    memset(state, 0, sizeof(uint64_t)); /* fresh */
    return fragile_up(turn);
}

static enum weir_error fragile_message(struct turn *turn, void *state, struct message *message)
{
    uint64_t *handled = state;
    if (message->tag == CRASH) {
        crash_ns = clock_now_ns();
        return WEIR_FAILED;
    }
    ++*handled;
    tell(turn, message->from, DONE, crash_ns == 0 ? 0 : clock_now_ns() - crash_ns, 0);
    return WEIR_OK;
}

static const struct behaviour fragile = {.name = "fragile",
                                         .state_size = sizeof(uint64_t),
                                         .on_start = fragile_start,
                                         .on_message = fragile_message,
                                         .on_restart = fragile_restart};

static enum weir_error restart_driver_message(struct turn *turn, void *state, struct message *message)
{
    struct restart_driver *self = state;
    if (message->tag == BEGIN) {
        struct child_spec spec = {.behaviour = &fragile, .options = {.attempts_max = 1}, .restart = RESTART_PERMANENT};
        must(supervisor_child_start(bench_supervision, bench_supervisor, &spec, WEIR_ACTOR_NONE, 0, &self->child));
    } else if (message->tag == UP) {
        tell(turn, message->from, WORK, 0, 0);
    } else {
        if (self->crashes > 0)
            latencies[self->crashes - 1] = message->word[0];
        if (self->crashes++ == life_count)
            bench_finish(life_count);
        else
            tell(turn, message->from, CRASH, 0, 0);
    }
    return WEIR_OK;
}

static const struct behaviour restart_driver = {
    .name = "driver", .state_size = sizeof(struct restart_driver), .on_message = restart_driver_message};

static void restart(struct outcome *outcome)
{
    life_count = param("n", 200000);
    param("raise", 0); /* C has no exceptions: the same */
    outcome->msgs = life_count;
    outcome->unit = "restart";
    latencies = allocate(life_count, sizeof *latencies);
    restart_driver_actor = spawn(&restart_driver, NULL, 0);
    begin(restart_driver_actor);
}

static void restart_report(struct outcome *outcome)
{
    qsort(latencies, life_count, sizeof *latencies, compare_numbers);
    snprintf(outcome->extra, sizeof outcome->extra,
             ",\"latency_p50_ns\":%llu,\"latency_p99_ns\":%llu,\"latency_max_ns\":%llu",
             (unsigned long long)latencies[life_count / 2], (unsigned long long)latencies[life_count * 99 / 100],
             (unsigned long long)latencies[life_count - 1]);
}

const struct benchmark life_benchmarks[] = {{"fork_join_create", fork_join_create, NULL},
                                            {"spawn_memory", spawn_memory, spawn_memory_report},
                                            {"spawn_supervised", spawn_supervised, spawn_memory_report},
                                            {"restart", restart, restart_report},
                                            {NULL, NULL, NULL}};
