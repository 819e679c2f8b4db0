/* Actors that cannot tell their supervisor something, since its control lane is full, and a supervisor that does not go
 * through its lane meanwhile, as it is suspended. */
#include "fixture.h"

#include <sched.h>

#include "actors/runtime/state.h"

enum { TAG_GO = 1, TAG_FAIL, CHILDREN = CONTROL_MAX + 5000 };

struct place {
    weir_actor supervisor;
    _Atomic uint64_t ready, spawned, failed;
};

static enum weir_error hear(struct turn *turn, struct probe *probe, struct message *message)
{
    struct place *place = probe->context;
    (void)turn;
    if (message->tag == MESSAGE_EVENT && message->word[0] == ACTOR_EVENT_READY)
        atomic_fetch_add(&place->ready, 1);
    return message->tag == TAG_FAIL && probe->n[0]++ == 0 ? WEIR_IO : WEIR_OK;
}

static enum weir_error hear_of_failure(struct turn *turn, struct probe *probe, struct message *message)
{
    struct place *place = probe->context;
    (void)turn;
    if (message->tag == MESSAGE_EVENT && message->word[0] == ACTOR_EVENT_FAILED)
        atomic_fetch_add(&place->failed, 1);
    return WEIR_OK;
}

static enum weir_error ignore(struct turn *turn, void *state, struct message *message)
{
    (void)turn, (void)state, (void)message;
    return WEIR_OK;
}

static enum weir_error spawn_children(struct turn *turn, struct probe *probe, struct message *message)
{
    static const struct behaviour behaviour = {.name = "child", .on_message = ignore};
    struct place *place = probe->context;
    struct actor_options options = {.supervisor = place->supervisor};
    weir_actor child;
    (void)message;
    for (int i = 0; i < CHILDREN; i++)
        must(actor_spawn(turn_runtime(turn), &behaviour, NULL, 0, &options, &child));
    atomic_fetch_add(&place->spawned, CHILDREN);
    return WEIR_OK;
}

static void place_begin(struct fixture *fixture, struct place *place)
{
    weir_actor above = fixture_spawn(fixture, (struct probe){.on_message = hear_of_failure, .context = place},
                                     (struct actor_options){0});
    place->supervisor = fixture_spawn(fixture, (struct probe){.on_message = hear, .context = place},
                                      (struct actor_options){.supervisor = above});
    fixture_send(fixture, place->supervisor, TAG_FAIL, 0);
    await_at_least(&place->failed, 1);
    weir_actor spawner = fixture_spawn(fixture, (struct probe){.on_message = spawn_children, .context = place},
                                       (struct actor_options){0});
    fixture_send(fixture, spawner, TAG_GO, 0);
    await_at_least(&place->spawned, CHILDREN);
}

static uint64_t parks(struct fixture *fixture, uint64_t *turns)
{
    struct worker_status each[2];
    must(runtime_worker_status(fixture->runtime, 0, &each[0]));
    must(runtime_worker_status(fixture->runtime, 1, &each[1]));
    *turns = each[0].turns + each[1].turns;
    return each[0].parks + each[1].parks;
}

static void who_cannot_tell_a_suspended_supervisor_waits_asleep_and_tells_it_after_its_restart(void **state)
{
    (void)state;
    enum { PARKS = 40, TURNS_A_PARK_MAX = 600 };
    struct fixture fixture = fixture_threaded(2);
    struct place place = {0};
    place_begin(&fixture, &place);
    /* Most children have to have their first turns before. What is left goes to sleep between one try and the next. */
    uint64_t before, after, turns, deadline = clock_now_ns() + DEADLINE_NS;
    do {
        assert_true(clock_now_ns() < deadline);
        (void)parks(&fixture, &turns);
        sched_yield();
    } while (turns < CHILDREN);
    uint64_t least = parks(&fixture, &before) + PARKS;
    do {
        if (clock_now_ns() > deadline)
            fail_msg("no worker sleeps: %llu turns", (unsigned long long)after - before);
        sched_yield();
    } while (parks(&fixture, &after) < least);
    print_message("%llu turns in %d parks\n", (unsigned long long)(after - before), PARKS);
    assert_true(after - before < (uint64_t)PARKS * TURNS_A_PARK_MAX + CHILDREN);
    assert_true(atomic_load(&place.ready) == 0);
    must(actor_restart(fixture.runtime, place.supervisor, 0));
    await_at_least(&place.ready, CHILDREN);
    fixture_end(&fixture);
    assert_int_equal(place.ready, CHILDREN);
}

static void who_cannot_tell_a_supervisor_that_ends_goes_on_without(void **state)
{
    (void)state;
    struct fixture fixture = fixture_threaded(2);
    struct place place = {0};
    struct runtime_status status;
    place_begin(&fixture, &place);
    must(actor_stop(fixture.runtime, place.supervisor, WEIR_OK));
    /* Nobody is left that has something to tell: then the workers sleep for good. */
    uint64_t deadline = clock_now_ns() + DEADLINE_NS;
    while (atomic_load(&fixture.runtime->later.count) > 0 || strcmp(fixture_state(&fixture, place.supervisor), "ended"))
        assert_true(clock_now_ns() < deadline && sched_yield() == 0);
    /* Its handle is stale a moment before it is counted as ended. */
    do {
        assert_true(clock_now_ns() < deadline && sched_yield() == 0);
        runtime_status(fixture.runtime, &status);
    } while (status.actors > CHILDREN + 2);
    assert_int_equal(status.actors, CHILDREN + 2);
    fixture_end(&fixture);
}

static void all_can_be_stopped_while_a_suspended_supervisor_hears_nothing(void **state)
{
    (void)state;
    struct fixture fixture = fixture_threaded(2);
    struct place place = {0};
    place_begin(&fixture, &place);
    fixture_end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_cannot_tell_a_suspended_supervisor_waits_asleep_and_tells_it_after_its_restart),
        cmocka_unit_test(who_cannot_tell_a_supervisor_that_ends_goes_on_without),
        cmocka_unit_test(all_can_be_stopped_while_a_suspended_supervisor_hears_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
