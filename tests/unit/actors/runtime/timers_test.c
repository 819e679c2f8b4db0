/* Timers: when they fire, for whom, and that a cancelled one is never heard of again. */
#include "fixture.h"

#include "actors/runtime/state.h"
#include "tests/unit/instrumented.h"

#include <stdlib.h>

enum { TAG_CANCEL = 1 };

struct beats {
    uint64_t count, last_word, last_ns;
    weir_timer cancel_at_first;
};

static enum weir_error note_beat(struct turn *turn, struct probe *probe, struct message *message)
{
    struct beats *beats = probe->context;
    if (message->tag != MESSAGE_TIMER)
        return WEIR_OK;
    beats->count++;
    beats->last_word = message->word[0];
    beats->last_ns = turn_now_ns(turn);
    if (beats->cancel_at_first.bits)
        timer_cancel(turn_runtime(turn), beats->cancel_at_first);
    return WEIR_OK;
}

static struct probe beat_probe(struct beats *beats)
{
    return (struct probe){.on_message = note_beat, .context = beats};
}

static void a_timer_fires_once_at_its_time_with_its_word(void **state)
{
    (void)state;
    struct beats beats = {0};
    struct fixture fixture = fixture_simulated(1);
    weir_actor actor = fixture_spawn(&fixture, beat_probe(&beats), (struct actor_options){0});
    weir_timer timer;
    uint64_t start = runtime_now_ns(fixture.runtime);
    must(timer_start(fixture.runtime, actor, 5 * NS_PER_MS, 0, 42, &timer));
    struct runtime_status status;
    runtime_status(fixture.runtime, &status);
    assert_int_equal(status.timers, 1);
    fixture_settle(&fixture);
    assert_int_equal(beats.count, 0);
    assert_true(runtime_advance(fixture.runtime));
    fixture_settle(&fixture);
    assert_int_equal(beats.count, 1);
    assert_int_equal(beats.last_word, 42);
    assert_int_equal(beats.last_ns, start + 5 * NS_PER_MS);
    assert_false(runtime_advance(fixture.runtime));
    timer_cancel(fixture.runtime, timer); /* over: fine */
    runtime_status(fixture.runtime, &status);
    assert_int_equal(status.timers, 0);
    fixture_end(&fixture);
}

static void a_periodic_timer_beats_until_cancelled_and_skips_while_its_message_waits(void **state)
{
    (void)state;
    struct beats beats = {0};
    struct fixture fixture = fixture_simulated(2);
    weir_actor actor = fixture_spawn(&fixture, beat_probe(&beats), (struct actor_options){0});
    weir_timer timer;
    must(timer_start(fixture.runtime, actor, NS_PER_MS, NS_PER_MS, 1, &timer));
    for (uint64_t i = 1; i <= 5; i++) {
        assert_true(runtime_advance(fixture.runtime));
        fixture_settle(&fixture);
        assert_int_equal(beats.count, i);
    }
    for (int i = 0; i < 5; i++)
        assert_true(runtime_advance(fixture.runtime)); /* nobody handles them */
    fixture_settle(&fixture);
    assert_int_equal(beats.count, 6);
    timer_cancel(fixture.runtime, timer);
    assert_false(runtime_advance(fixture.runtime));
    fixture_settle(&fixture);
    assert_int_equal(beats.count, 6);
    fixture_end(&fixture);
}

static void a_cancelled_timer_is_not_handled_even_when_its_message_waits(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SIMULATED(20); seed++) {
        struct beats beats = {0};
        struct fixture fixture = fixture_simulated(seed);
        weir_actor actor = fixture_spawn(&fixture, beat_probe(&beats), (struct actor_options){0});
        weir_timer first, second;
        fixture_settle(&fixture);
        must(timer_start(fixture.runtime, actor, NS_PER_MS, 0, 1, &first));
        must(timer_start(fixture.runtime, actor, NS_PER_MS + 1, seed % 2 ? NS_PER_MS : 0, 2, &second));
        beats.cancel_at_first = second;
        assert_true(runtime_advance(fixture.runtime));
        assert_true(runtime_advance(fixture.runtime));
        fixture_settle(&fixture);
        assert_int_equal(beats.count, 1);
        assert_int_equal(beats.last_word, 1);
        /* Its slot serves another timer now; the old handle must not reach that one. */
        weir_timer third;
        must(timer_start(fixture.runtime, actor, NS_PER_MS, 0, 3, &third));
        timer_cancel(fixture.runtime, first);
        timer_cancel(fixture.runtime, second);
        assert_true(runtime_advance(fixture.runtime));
        fixture_settle(&fixture);
        assert_int_equal(beats.last_word, 3);
        fixture_end(&fixture);
    }
}

static void timers_end_with_their_actor(void **state)
{
    (void)state;
    struct beats beats = {0};
    struct fixture fixture = fixture_simulated(3);
    weir_actor actor = fixture_spawn(&fixture, beat_probe(&beats), (struct actor_options){0});
    weir_timer timer;
    struct runtime_status status;
    for (uint64_t i = 0; i < 100; i++)
        must(timer_start(fixture.runtime, actor, NS_PER_S * (i + 1), i % 2 ? NS_PER_S : 0, i, &timer));
    must(actor_stop(fixture.runtime, actor, WEIR_OK));
    fixture_settle(&fixture);
    runtime_status(fixture.runtime, &status);
    assert_int_equal(status.timers, 0);
    assert_false(runtime_advance(fixture.runtime));
    assert_int_equal(timer_start(fixture.runtime, actor, 1, 0, 0, &timer), WEIR_STALE);
    fixture_end(&fixture);
}

static uint64_t next_random(uint64_t *random)
{
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *random >> 33;
}

struct ledger {
    uint64_t *due; /* by word: deadline, 0 when cancelled or fired */
    uint64_t fired, last_ns;
};

static enum weir_error check_due(struct turn *turn, struct probe *probe, struct message *message)
{
    struct ledger *ledger = probe->context;
    if (message->tag != MESSAGE_TIMER)
        return WEIR_OK;
    assert_int_equal(ledger->due[message->word[0]], turn_now_ns(turn));
    ledger->due[message->word[0]] = 0;
    ledger->fired++;
    return WEIR_OK;
}

static void many_random_timers_fire_at_their_time_or_not_at_all_when_cancelled(void **state)
{
    (void)state;
    enum { TIMERS = 100000 };
    uint64_t random = 20261123;
    uint64_t *due = calloc(TIMERS, sizeof *due);
    weir_timer *timers = calloc(TIMERS, sizeof *timers);
    struct ledger ledger = {.due = due};
    struct fixture fixture = fixture_simulated(4);
    uint64_t start = runtime_now_ns(fixture.runtime);
    uint64_t cancelled = 0;
    weir_actor actor =
        fixture_spawn(&fixture, (struct probe){.on_message = check_due, .context = &ledger}, (struct actor_options){0});
    for (uint64_t i = 0; i < TIMERS; i++) {
        uint64_t delay = 1 + next_random(&random) % 1000;
        due[i] = start + delay;
        must(timer_start(fixture.runtime, actor, delay, 0, i, &timers[i]));
        uint64_t victim = next_random(&random) % (i + 1);
        if (i % 3 == 0 && due[victim]) {
            timer_cancel(fixture.runtime, timers[victim]);
            due[victim] = 0;
            cancelled++;
        }
    }
    while (runtime_advance(fixture.runtime))
        fixture_settle(&fixture);
    assert_int_equal(ledger.fired + cancelled, TIMERS);
    fixture_end(&fixture);
    free(due);
    free(timers);
}

static enum weir_error count_beats(struct turn *turn, struct probe *probe, struct message *message)
{
    (void)turn;
    if (message->tag == MESSAGE_TIMER)
        atomic_fetch_add((_Atomic uint64_t *)probe->context, 1);
    return WEIR_OK;
}

/* Until both workers and the watcher sleep: how often the workers went to sleep. */
static uint64_t await_rest(struct fixture *fixture)
{
    uint64_t deadline = clock_now_ns() + DEADLINE_NS;
    while (atomic_load(&fixture->runtime->parked) != 3 || atomic_load(&fixture->runtime->watch.is_awake) != 0)
        assert_true(clock_now_ns() < deadline);
    struct worker_status each[2];
    must(runtime_worker_status(fixture->runtime, 0, &each[0]));
    must(runtime_worker_status(fixture->runtime, 1, &each[1]));
    return each[0].parks + each[1].parks;
}

static void idle_workers_serve_timers_in_time_and_sleep_in_between(void **state)
{
    (void)state;
    struct fixture fixture = fixture_threaded(2);
    _Atomic uint64_t beats = 0;
    weir_timer timer, far;
    weir_actor actor = fixture_spawn(&fixture, (struct probe){.on_message = count_beats, .context = &beats},
                                     (struct actor_options){0});
    must(timer_start(fixture.runtime, actor, 3600 * NS_PER_S, 0, 0, &far));
    uint64_t start = clock_now_ns();
    must(timer_start(fixture.runtime, actor, 20 * NS_PER_MS, 20 * NS_PER_MS, 0, &timer));
    await_at_least(&beats, 10);
    uint64_t elapsed = clock_now_ns() - start;
    assert_true(elapsed >= 200 * NS_PER_MS);
    timer_cancel(fixture.runtime, timer);
    uint64_t seen = atomic_load(&beats);
    /* A second at rest, with a timer armed: a worker wakes once at most, to give memory back, and no thread works. */
    struct timespec second = {.tv_sec = 1};
    uint64_t parks = await_rest(&fixture), cpu = clock_cpu_ns();
    nanosleep(&second, NULL);
    cpu = clock_cpu_ns() - cpu;
    assert_in_range(await_rest(&fixture) - parks, 0, 2);
    assert_true(cpu < 5 * NS_PER_MS);
    assert_true(atomic_load(&beats) <= seen + 1);
    fixture_end(&fixture);
}

static void a_timer_armed_while_workers_sleep_for_a_later_one_is_in_time(void **state)
{
    (void)state;
    struct fixture fixture = fixture_threaded(2);
    _Atomic uint64_t beats = 0;
    weir_timer timer;
    weir_actor actor = fixture_spawn(&fixture, (struct probe){.on_message = count_beats, .context = &beats},
                                     (struct actor_options){0});
    must(timer_start(fixture.runtime, actor, 3600 * NS_PER_S, 0, 0, &timer));
    for (uint64_t i = 1; i <= 200; i++) {
        must(timer_start(fixture.runtime, actor, (i % 5) * NS_PER_MS / 4, 0, 0, &timer));
        await_at_least(&beats, i);
    }
    fixture_end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_timer_fires_once_at_its_time_with_its_word),
        cmocka_unit_test(a_periodic_timer_beats_until_cancelled_and_skips_while_its_message_waits),
        cmocka_unit_test(a_cancelled_timer_is_not_handled_even_when_its_message_waits),
        cmocka_unit_test(timers_end_with_their_actor),
        cmocka_unit_test(many_random_timers_fire_at_their_time_or_not_at_all_when_cancelled),
        cmocka_unit_test(idle_workers_serve_timers_in_time_and_sleep_in_between),
        cmocka_unit_test(a_timer_armed_while_workers_sleep_for_a_later_one_is_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
