/* The simulation: a seed replays a run, and no run loses, doubles or reorders anything. */
#include "fixture.h"

#include <stdlib.h>

enum { TAG_TALK = 1 };
enum { ACTORS = 50, TALK = 40 };

/* Each actor numbers what it sends to each other one; each checks what it gets. */
struct world {
    weir_actor actors[ACTORS];
    uint64_t sent[ACTORS][ACTORS], received[ACTORS][ACTORS];
    uint64_t random, waits;
};

static uint64_t next_random(uint64_t *random)
{
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *random >> 33;
}

static enum weir_error talk(struct turn *turn, struct probe *probe, struct message *message)
{
    struct world *world = probe->context;
    uint64_t self = probe->n[0];
    if (message->tag == TAG_TALK && message->word[2]) {
        uint64_t from = message->word[0];
        if (next_random(&world->random) % 20 == 0)
            return WEIR_FAILED; /* before it has changed anything: it will come again */
        assert_int_equal(message->word[1], world->received[self][from]++);
    }
    while (probe->n[1] > 0) {
        uint64_t to = next_random(&world->random) % ACTORS;
        struct message next = {.tag = TAG_TALK, .word = {self, world->sent[self][to], 1}};
        enum weir_error error = turn_send(turn, world->actors[to], &next);
        if (error == WEIR_FULL) {
            world->waits++;
            return turn_await_room(turn, world->actors[to]);
        }
        assert_int_equal(error, WEIR_OK);
        world->sent[self][to]++;
        probe->n[1]--;
        if (next_random(&world->random) % 3 == 0) {
            weir_timer timer; /* goes on later */
            return timer_start(turn_runtime(turn), turn_self(turn), next_random(&world->random) % 1000, 0, 0, &timer);
        }
    }
    return WEIR_OK;
}

static enum weir_error order_on(struct turn *turn, struct probe *probe, struct message *message)
{
    struct world *world = probe->context;
    if (message->tag == MESSAGE_EVENT && message->word[0] == ACTOR_EVENT_FAILED)
        return actor_restart(turn_runtime(turn), message->from, next_random(&world->random) % 3 * 500);
    return WEIR_OK;
}

/* One run; returns its hash. Actors retry without end, so nothing becomes a dead letter. */
static uint64_t run_world(uint64_t seed)
{
    struct world *world = calloc(1, sizeof *world);
    struct fixture fixture = fixture_simulated(seed);
    world->random = seed;
    weir_actor supervisor =
        fixture_spawn(&fixture, (struct probe){.on_message = order_on, .context = world}, (struct actor_options){0});
    for (uint64_t i = 0; i < ACTORS; i++)
        world->actors[i] = fixture_spawn(
            &fixture, (struct probe){.on_message = talk, .context = world, .n = {i, TALK}},
            (struct actor_options){.supervisor = supervisor, .mailbox_max = 2 + (uint32_t)i % 5, .attempts_max = 255});
    for (uint64_t i = 0; i < ACTORS; i++)
        fixture_send(&fixture, world->actors[i], TAG_TALK, i);
    do
        fixture_settle(&fixture);
    while (runtime_advance(fixture.runtime));
    for (uint64_t a = 0; a < ACTORS; a++) {
        for (uint64_t b = 0; b < ACTORS; b++) {
            if (world->sent[a][b] != world->received[b][a])
                fail_msg("seed %llu: from %llu to %llu", (unsigned long long)seed, (unsigned long long)a,
                         (unsigned long long)b);
        }
        struct actor_status status;
        must(actor_status(fixture.runtime, world->actors[a], &status));
        assert_string_equal(status.state, "idle");
        assert_int_equal(status.depth, 0);
    }
    uint64_t hash = runtime_order_hash(fixture.runtime);
    fixture_end(&fixture);
    free(world);
    return hash;
}

static void equal_seeds_give_equal_runs_and_others_do_not(void **state)
{
    (void)state;
    uint64_t hash = run_world(1);
    assert_true(run_world(1) == hash);
    assert_true(run_world(1) == hash);
    assert_false(run_world(2) == hash);
}

static void no_seed_loses_doubles_or_reorders_a_message(void **state)
{
    (void)state;
    for (uint64_t seed = 100; seed < 400; seed++)
        run_world(seed);
}

static uint64_t double_it(void *argument) { return 2 * *(uint64_t *)argument; }

static enum weir_error note_task(struct turn *turn, struct probe *probe, struct message *message)
{
    uint64_t *result = probe->context;
    (void)turn;
    if (message->tag == MESSAGE_TASK)
        *result = message->word[0] + message->word[1];
    return WEIR_OK;
}

static void blocking_tasks_run_as_steps_of_the_simulation(void **state)
{
    (void)state;
    struct fixture fixture = fixture_simulated(1);
    uint64_t result = 0;
    uint64_t argument = 21;
    weir_actor actor =
        fixture_spawn(&fixture, (struct probe){.on_message = note_task, .context = &result}, (struct actor_options){0});
    must(blocking_run(fixture.runtime, double_it, &argument, actor, 100));
    assert_int_equal(result, 0);
    fixture_settle(&fixture);
    assert_int_equal(result, 142);
    fixture_end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_seeds_give_equal_runs_and_others_do_not),
        cmocka_unit_test(no_seed_loses_doubles_or_reorders_a_message),
        cmocka_unit_test(blocking_tasks_run_as_steps_of_the_simulation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
