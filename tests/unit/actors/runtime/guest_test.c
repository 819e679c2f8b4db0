/* Threads that are no workers and give actors their turns in the place of sleeping workers. */
#include "tests/unit/actors/runtime/fixture.h"

#include <pthread.h>
#include <stdlib.h>

#include "actors/runtime/state.h"

enum { TAG_WORK = 1, TAG_ARM };

static void await_parked(struct fixture *fixture)
{
    uint64_t deadline = clock_now_ns() + DEADLINE_NS;
    struct timespec pause = {.tv_nsec = 100000};
    unsigned workers = fixture->runtime->config.workers;
    while (atomic_load(&fixture->runtime->parked) != (UINT64_C(1) << workers) - 1) {
        assert_true(clock_now_ns() < deadline);
        nanosleep(&pause, NULL);
    }
}

static void bring(struct fixture *fixture, weir_actor to, uint32_t tag, uint64_t word)
{
    struct message message = {.tag = tag, .word = {word}};
    must(actor_control_here(fixture->runtime, WEIR_ACTOR_NONE, to, &message));
}

struct seen {
    _Atomic uint64_t handled, here;
    pthread_t thread;
};

static enum weir_error note(struct turn *turn, struct probe *probe, struct message *message)
{
    struct seen *seen = probe->context;
    struct message next = {.tag = TAG_WORK};
    if (pthread_equal(pthread_self(), seen->thread))
        atomic_fetch_add(&seen->here, 1);
    atomic_fetch_add(&seen->handled, 1);
    (void)message;
    return probe->other.bits != 0 ? turn_send(turn, probe->other, &next) : WEIR_OK;
}

static void what_comes_while_all_sleep_is_handled_where_it_came_with_all_that_follows(void **state)
{
    (void)state;
    for (unsigned workers = 1; workers <= 3; workers++) {
        struct fixture fixture = fixture_threaded(workers);
        struct seen seen = {.thread = pthread_self()};
        weir_actor last =
            fixture_spawn(&fixture, (struct probe){.on_message = note, .context = &seen}, (struct actor_options){0});
        weir_actor first =
            fixture_spawn(&fixture, (struct probe){.on_message = note, .context = &seen, .other = last}, //
                          (struct actor_options){0});
        for (uint64_t i = 1; i <= 50; i++) {
            await_parked(&fixture);
            bring(&fixture, first, TAG_WORK, 0);
            await_at_least(&seen.handled, 2 * i);
        }
        /* A timer or the watcher may have had a worker awake at times, not always. */
        assert_true(atomic_load(&seen.here) > 50);
        fixture_end(&fixture);
    }
}

static enum weir_error go_on(struct turn *turn, struct probe *probe, struct message *message)
{
    struct seen *seen = probe->context;
    atomic_fetch_add(&seen->handled, 1);
    if (pthread_equal(pthread_self(), seen->thread))
        atomic_fetch_add(&seen->here, 1);
    return atomic_load(&seen->handled) < probe->n[0] ? turn_send(turn, turn_self(turn), message) : WEIR_OK;
}

static void a_guest_leaves_after_some_turns_and_the_worker_goes_on(void **state)
{
    (void)state;
    enum { MESSAGES = 100000 };
    struct fixture fixture = fixture_with((struct runtime_config){.workers = 1, .turn_max = 1});
    struct seen seen = {.thread = pthread_self()};
    weir_actor actor = fixture_spawn(&fixture, (struct probe){.on_message = go_on, .context = &seen, .n = {MESSAGES}},
                                     (struct actor_options){0});
    await_parked(&fixture);
    bring(&fixture, actor, TAG_WORK, 0);
    await_at_least(&seen.handled, MESSAGES);
    assert_true(atomic_load(&seen.here) < 100);
    fixture_end(&fixture);
}

/* A turn that takes longer than a guest may stay. */
static enum weir_error go_on_slowly(struct turn *turn, struct probe *probe, struct message *message)
{
    uint64_t end = clock_now_ns() + 2 * NS_PER_MS;
    while (clock_now_ns() < end)
        continue;
    return go_on(turn, probe, message);
}

static void a_guest_leaves_when_its_turns_take_long(void **state)
{
    (void)state;
    enum { MESSAGES = 60 };
    struct fixture fixture = fixture_with((struct runtime_config){.workers = 1, .turn_max = 1});
    struct seen seen = {.thread = pthread_self()};
    weir_actor actor =
        fixture_spawn(&fixture, (struct probe){.on_message = go_on_slowly, .context = &seen, .n = {MESSAGES}},
                      (struct actor_options){0});
    await_parked(&fixture);
    bring(&fixture, actor, TAG_WORK, 0);
    await_at_least(&seen.handled, MESSAGES);
    assert_in_range(atomic_load(&seen.here), 0, 4);
    fixture_end(&fixture);
}

/* Arms a timer that is due before the one that the sleeping worker waits for. */
static enum weir_error arm(struct turn *turn, struct probe *probe, struct message *message)
{
    struct seen *seen = probe->context;
    weir_timer timer;
    if (message->tag == MESSAGE_TIMER) {
        atomic_fetch_add(&seen->handled, 1);
        return WEIR_OK;
    }
    return timer_start(turn_runtime(turn), turn_self(turn), message->word[0], 0, 0, &timer);
}

static void a_timer_that_a_guest_arms_is_not_slept_through(void **state)
{
    (void)state;
    for (unsigned workers = 1; workers <= 2; workers++) {
        struct fixture fixture = fixture_threaded(workers);
        struct seen seen = {.thread = pthread_self()};
        weir_timer far;
        weir_actor actor =
            fixture_spawn(&fixture, (struct probe){.on_message = arm, .context = &seen}, (struct actor_options){0});
        must(timer_start(fixture.runtime, actor, 3600 * NS_PER_S, 0, 0, &far));
        for (uint64_t i = 1; i <= 200; i++) {
            if (i % 2)
                await_parked(&fixture);
            bring(&fixture, actor, TAG_ARM, i % 5 * 100 * NS_PER_US);
            await_at_least(&seen.handled, i);
        }
        fixture_end(&fixture);
    }
}

struct crowd {
    struct fixture *fixture;
    weir_actor actors[4];
    _Atomic uint64_t handled, refused;
    _Atomic uint64_t running[4];
    uint64_t each;
};

/* One at a time, in each sender's order, whoever lends the thread. */
static enum weir_error take_turn(struct turn *turn, struct probe *probe, struct message *message)
{
    struct crowd *crowd = probe->context;
    uint64_t sender = message->word[0] % 4, number = message->word[0] / 4;
    assert_int_equal(atomic_fetch_add(&crowd->running[probe->n[5]], 1), 0);
    assert_true(number >= probe->n[sender]);
    probe->n[sender] = number + 1;
    if (number % 7 == 0) {
        weir_timer timer;
        must(timer_start(turn_runtime(turn), turn_self(turn), NS_PER_MS, 0, 0, &timer));
        timer_cancel(turn_runtime(turn), timer);
    }
    atomic_fetch_add(&crowd->handled, 1);
    atomic_fetch_sub(&crowd->running[probe->n[5]], 1);
    return WEIR_OK;
}

struct bringer {
    struct crowd *crowd;
    uint64_t index;
};

static void *bring_many(void *argument)
{
    struct bringer *bringer = argument;
    struct crowd *crowd = bringer->crowd;
    for (uint64_t i = 0; i < crowd->each; i++) {
        struct message message = {.tag = TAG_WORK, .word = {i * 4 + bringer->index}};
        enum weir_error error = WEIR_FULL;
        weir_actor to = crowd->actors[i % 4];
        while ((error = actor_control_here(crowd->fixture->runtime, WEIR_ACTOR_NONE, to, &message)) == WEIR_FULL)
            sched_yield();
        must(error);
        if (i % 64 == bringer->index * 16) {
            struct timespec pause = {.tv_nsec = (long)(i % 50) * 1000}; /* meets workers asleep, waking and awake */
            nanosleep(&pause, NULL);
        }
    }
    return NULL;
}

static void many_guests_workers_and_timers_lose_no_message_and_share_no_actor(void **state)
{
    (void)state;
    for (unsigned workers = 1; workers <= 3; workers++) {
        struct fixture fixture = fixture_threaded(workers);
        struct crowd crowd = {.fixture = &fixture, .each = 20000};
        struct bringer bringers[4];
        pthread_t threads[4];
        for (uint64_t i = 0; i < 4; i++)
            crowd.actors[i] = fixture_spawn(
                &fixture, (struct probe){.on_message = take_turn, .context = &crowd, .n = {0, 0, 0, 0, 0, i}},
                (struct actor_options){0});
        for (uint64_t i = 0; i < 4; i++) {
            bringers[i] = (struct bringer){&crowd, i};
            assert_int_equal(pthread_create(&threads[i], NULL, bring_many, &bringers[i]), 0);
        }
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        await_at_least(&crowd.handled, 4 * crowd.each);
        await_parked(&fixture);
        fixture_end(&fixture);
    }
}

static void in_the_simulation_a_guest_only_sends(void **state)
{
    (void)state;
    struct fixture fixture = fixture_simulated(7);
    struct seen seen = {.thread = pthread_self()};
    weir_actor actor =
        fixture_spawn(&fixture, (struct probe){.on_message = note, .context = &seen}, (struct actor_options){0});
    bring(&fixture, actor, TAG_WORK, 0);
    assert_int_equal(atomic_load(&seen.handled), 0);
    fixture_settle(&fixture);
    assert_int_equal(atomic_load(&seen.handled), 1);
    fixture_end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_while_all_sleep_is_handled_where_it_came_with_all_that_follows),
        cmocka_unit_test(a_guest_leaves_after_some_turns_and_the_worker_goes_on),
        cmocka_unit_test(a_guest_leaves_when_its_turns_take_long),
        cmocka_unit_test(a_timer_that_a_guest_arms_is_not_slept_through),
        cmocka_unit_test(many_guests_workers_and_timers_lose_no_message_and_share_no_actor),
        cmocka_unit_test(in_the_simulation_a_guest_only_sends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
