/* The runtime's life, its registry and its pool for blocking work. */
#include "fixture.h"

#include "tests/unit/instrumented.h"

#include <pthread.h>
#include <stdio.h>

enum { TAG_GO = 1 };

static enum weir_error count(struct turn *turn, struct probe *probe, struct message *message)
{
    (void)turn;
    (void)message;
    atomic_fetch_add((_Atomic uint64_t *)probe->context, 1);
    return WEIR_OK;
}

static void count_stop(struct turn *turn, struct probe *probe, enum weir_error cause)
{
    (void)turn;
    (void)cause;
    atomic_fetch_add((_Atomic uint64_t *)probe->context, 1);
}

static void actors_spawned_before_the_start_run_after_it(void **state)
{
    (void)state;
    struct arena_config arena_config = {.bytes_max = (size_t)64 << 20};
    struct fixture fixture;
    _Atomic uint64_t handled = 0;
    must(arena_create(&arena_config, &fixture.arena));
    struct runtime_config config = {.arena = fixture.arena, .workers = 2};
    must(runtime_create(&config, &fixture.runtime));
    weir_actor actor =
        fixture_spawn(&fixture, (struct probe){.on_message = count, .context = &handled}, (struct actor_options){0});
    fixture_send(&fixture, actor, TAG_GO, 0);
    must(runtime_start(fixture.runtime));
    await_at_least(&handled, 1);
    fixture_end(&fixture);
}

static void a_runtime_that_never_started_stops_its_actors_too(void **state)
{
    (void)state;
    struct arena_config arena_config = {.bytes_max = (size_t)64 << 20};
    struct fixture fixture;
    _Atomic uint64_t stops = 0;
    must(arena_create(&arena_config, &fixture.arena));
    struct runtime_config config = {.arena = fixture.arena, .workers = 2};
    must(runtime_create(&config, &fixture.runtime));
    weir_actor actor =
        fixture_spawn(&fixture, (struct probe){.on_stop = count_stop, .context = &stops}, (struct actor_options){0});
    struct message message = {.tag = TAG_GO};
    must(arena_alloc(fixture.arena, 10, NULL, &message.hold[0]));
    must(actor_send(fixture.runtime, WEIR_ACTOR_NONE, actor, &message));
    fixture_end(&fixture);
    assert_int_equal(stops, 0); /* it had not started */
}

static void a_stopped_runtime_refuses_actors_and_has_none(void **state)
{
    (void)state;
    struct fixture fixture = fixture_threaded(2);
    _Atomic uint64_t stops = 0;
    struct probe probe = {.on_stop = count_stop, .context = &stops};
    weir_actor actor;
    struct runtime_status status;
    for (int i = 0; i < 1000; i++)
        actor = fixture_spawn(&fixture, probe, (struct actor_options){0});
    runtime_status(fixture.runtime, &status);
    assert_int_equal(status.actors, 1000);
    assert_int_equal(status.workers, 2);
    runtime_stop(fixture.runtime);
    runtime_status(fixture.runtime, &status);
    assert_int_equal(status.actors, 0);
    assert_int_equal(actor_spawn(fixture.runtime, &probe_behaviour, &probe, sizeof probe, NULL, &actor), WEIR_CLOSED);
    fixture_end(&fixture);
}

static void names_are_unique_and_free_again_when_removed_or_their_actor_ended(void **state)
{
    (void)state;
    struct fixture fixture = fixture_simulated(1);
    weir_actor a = fixture_spawn(&fixture, (struct probe){0}, (struct actor_options){0});
    weir_actor b = fixture_spawn(&fixture, (struct probe){0}, (struct actor_options){0});
    weir_actor found;
    char name[32];
    assert_int_equal(registry_find(fixture.runtime, "x", 1, &found), WEIR_NOT_FOUND);
    registry_remove(fixture.runtime, "x", 1);
    for (int i = 0; i < 5000; i++) {
        int size = snprintf(name, sizeof name, "topic/%d", i);
        must(registry_add(fixture.runtime, name, (size_t)size, i % 2 ? a : b));
    }
    for (int i = 0; i < 5000; i++) {
        int size = snprintf(name, sizeof name, "topic/%d", i);
        must(registry_find(fixture.runtime, name, (size_t)size, &found));
        assert_true(actor_is_same(found, i % 2 ? a : b));
    }
    assert_int_equal(registry_add(fixture.runtime, "topic/1", 7, b), WEIR_EXISTS);
    registry_remove(fixture.runtime, "topic/1", 7);
    assert_int_equal(registry_find(fixture.runtime, "topic/1", 7, &found), WEIR_NOT_FOUND);
    must(registry_add(fixture.runtime, "topic/1", 7, b));
    must(actor_stop(fixture.runtime, a, WEIR_OK));
    fixture_settle(&fixture);
    assert_int_equal(registry_find(fixture.runtime, "topic/3", 7, &found), WEIR_NOT_FOUND);
    must(registry_add(fixture.runtime, "topic/3", 7, b));
    must(registry_find(fixture.runtime, "topic/3", 7, &found));
    assert_true(actor_is_same(found, b));
    fixture_end(&fixture);
}

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_open;
    uint64_t inside;
};

static uint64_t pass_gate(void *argument)
{
    struct gate *gate = argument;
    pthread_mutex_lock(&gate->lock);
    gate->inside++;
    while (!gate->is_open)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
    return 7;
}

static enum weir_error note_task(struct turn *turn, struct probe *probe, struct message *message)
{
    (void)turn;
    if (message->tag == MESSAGE_TASK) {
        assert_int_equal(message->word[0], 7);
        assert_int_equal(message->word[1], probe->n[0]++);
        atomic_fetch_add((_Atomic uint64_t *)probe->context, 1);
    }
    return WEIR_OK;
}

static void blocking_work_is_bounded_and_its_results_come_back(void **state)
{
    (void)state;
    struct fixture fixture = fixture_with((struct runtime_config){.workers = 1, .blocking_max = 1});
    struct gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    _Atomic uint64_t results = 0;
    weir_actor actor = fixture_spawn(&fixture, (struct probe){.on_message = note_task, .context = &results},
                                     (struct actor_options){0});
    uint64_t accepted = 0;
    uint64_t deadline = clock_now_ns() + DEADLINE_NS;
    /* One is inside, the queue is full behind it; the workers go on meanwhile. */
    while (accepted < BLOCKING_QUEUE_MAX + 1 && clock_now_ns() < deadline)
        accepted += blocking_run(fixture.runtime, pass_gate, &gate, actor, accepted) == WEIR_OK;
    assert_int_equal(blocking_run(fixture.runtime, pass_gate, &gate, actor, 0), WEIR_FULL);
    pthread_mutex_lock(&gate.lock);
    gate.is_open = true;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
    await_at_least(&results, BLOCKING_QUEUE_MAX + 1);
    assert_int_equal(gate.inside, BLOCKING_QUEUE_MAX + 1);
    fixture_end(&fixture);
}

static void a_million_idle_actors_cost_less_than_240_bytes_each_and_leave_nothing(void **state)
{
    (void)state;
    enum { ACTORS = IS_THREAD_SANITIZED ? 100000 : 1000000 }; /* no thread but this one has to do with them */
    struct arena_usage before, after;
    static const struct behaviour idle = {.name = "idle", .on_message = probe_message, .state_size = 64};
    struct fixture fixture = fixture_with((struct runtime_config){.workers = 2});
    weir_actor actor;
    arena_usage(fixture.arena, &before);
    for (int i = 0; i < ACTORS; i++)
        must(actor_spawn(fixture.runtime, &idle, NULL, 0, NULL, &actor));
    arena_usage(fixture.arena, &after);
    assert_true(after.bytes_committed - before.bytes_committed <= (size_t)240 * ACTORS);
    fixture_end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(actors_spawned_before_the_start_run_after_it),
        cmocka_unit_test(a_runtime_that_never_started_stops_its_actors_too),
        cmocka_unit_test(a_stopped_runtime_refuses_actors_and_has_none),
        cmocka_unit_test(names_are_unique_and_free_again_when_removed_or_their_actor_ended),
        cmocka_unit_test(blocking_work_is_bounded_and_its_results_come_back),
        cmocka_unit_test(a_million_idle_actors_cost_less_than_240_bytes_each_and_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
