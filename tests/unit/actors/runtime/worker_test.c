/* Workers: nothing is lost and nobody sleeps while there is work; turns are fair; stuck ones are reported and
 * do not hold up others; starting, stopping and sending at once is safe. On real threads. */
#include "fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "actors/base/log.h"

enum { TAG_GO = 1, TAG_WORK, TAG_SPIN };

static void spin_ns(uint64_t ns)
{
    uint64_t end = clock_now_ns() + ns;
    while (clock_now_ns() < end)
        continue;
}

struct stream {
    _Atomic uint64_t handled;
    uint64_t each;
};

static enum weir_error produce(struct turn *turn, struct probe *probe, struct message *message)
{
    (void)message;
    while (probe->n[0] > 0) {
        struct message work = {.tag = TAG_WORK, .word = {probe->n[1], probe->n[0]}};
        enum weir_error error = turn_send(turn, probe->other, &work);
        if (error == WEIR_FULL)
            return turn_await_room(turn, probe->other);
        if (error)
            return error;
        probe->n[0]--;
    }
    return WEIR_OK;
}

static enum weir_error consume(struct turn *turn, struct probe *probe, struct message *message)
{
    struct stream *stream = probe->context;
    (void)turn;
    if (message->tag != TAG_WORK)
        return WEIR_OK;
    uint64_t *left = &probe->n[message->word[0]];
    assert_int_equal(message->word[1], *left ? *left : stream->each);
    *left = message->word[1] - 1;
    atomic_fetch_add(&stream->handled, 1);
    return WEIR_OK;
}

static void streams_through(unsigned workers, uint32_t mailbox_max, uint64_t each)
{
    enum { PRODUCERS = 6, CONSUMERS = 3 };
    struct fixture fixture = fixture_threaded(workers);
    struct stream streams[CONSUMERS];
    weir_actor producers[PRODUCERS * CONSUMERS];
    for (int c = 0; c < CONSUMERS; c++) {
        atomic_init(&streams[c].handled, 0);
        streams[c].each = each;
        weir_actor consumer = fixture_spawn(&fixture, (struct probe){.on_message = consume, .context = &streams[c]},
                                            (struct actor_options){.mailbox_max = mailbox_max});
        for (uint64_t p = 0; p < PRODUCERS; p++)
            producers[(uint64_t)c * PRODUCERS + p] =
                fixture_spawn(&fixture, (struct probe){.on_message = produce, .other = consumer, .n = {each, p}},
                              (struct actor_options){0});
    }
    for (int i = 0; i < PRODUCERS * CONSUMERS; i++)
        fixture_send(&fixture, producers[i], TAG_GO, 0);
    for (int c = 0; c < CONSUMERS; c++)
        await_at_least(&streams[c].handled, PRODUCERS * each);
    fixture_end(&fixture);
}

static void producers_held_back_by_small_mailboxes_are_always_woken(void **state)
{
    (void)state;
    for (unsigned workers = 1; workers <= 8; workers *= 2) {
        streams_through(workers, 1, 500);
        streams_through(workers, 7, 3000);
        streams_through(workers, 256, 5000);
    }
}

static enum weir_error echo(struct turn *turn, struct probe *probe, struct message *message)
{
    (void)turn;
    (void)message;
    atomic_fetch_add((_Atomic uint64_t *)probe->context, 1);
    return WEIR_OK;
}

static void a_message_from_outside_always_wakes_a_sleeping_worker(void **state)
{
    (void)state;
    for (unsigned workers = 1; workers <= 4; workers++) {
        struct fixture fixture = fixture_threaded(workers);
        _Atomic uint64_t handled = 0;
        weir_actor actor =
            fixture_spawn(&fixture, (struct probe){.on_message = echo, .context = &handled}, (struct actor_options){0});
        for (uint64_t i = 1; i <= 3000; i++) {
            fixture_send(&fixture, actor, TAG_WORK, 0);
            uint64_t deadline = clock_now_ns() + DEADLINE_NS;
            while (atomic_load(&handled) < i)
                assert_true(clock_now_ns() < deadline);
            if (i % 3 == 0)
                spin_ns((i % 17) * NS_PER_US); /* meets the worker before, while and after it goes to sleep */
        }
        fixture_end(&fixture);
    }
}

/* Sends itself the next message for ever; counts turns of others through context. */
static enum weir_error greedy(struct turn *turn, struct probe *probe, struct message *message)
{
    (void)probe;
    return turn_send(turn, turn_self(turn), message);
}

static void a_greedy_actor_does_not_starve_others(void **state)
{
    (void)state;
    struct fixture fixture = fixture_threaded(1);
    _Atomic uint64_t handled = 0;
    weir_actor hog = fixture_spawn(&fixture, (struct probe){.on_message = greedy}, (struct actor_options){0});
    weir_actor actor =
        fixture_spawn(&fixture, (struct probe){.on_message = echo, .context = &handled}, (struct actor_options){0});
    fixture_send(&fixture, hog, TAG_GO, 0);
    for (uint64_t i = 1; i <= 100; i++) {
        fixture_send(&fixture, actor, TAG_WORK, 0);
        await_at_least(&handled, i);
    }
    fixture_end(&fixture);
}

struct captured {
    pthread_mutex_t lock;
    char text[4096];
    size_t size;
    _Atomic uint64_t lines;
};

/* A busy machine may make any turn long: only the hog's is awaited, and counted. */
static void capture(const char *line, size_t size, void *context)
{
    struct captured *captured = context;
    if (!memmem(line, size, "the hog", strlen("the hog")))
        return;
    pthread_mutex_lock(&captured->lock);
    if (captured->size + size < sizeof captured->text) {
        memcpy(captured->text + captured->size, line, size);
        captured->size += size;
    }
    atomic_fetch_add(&captured->lines, 1);
    pthread_mutex_unlock(&captured->lock);
}

struct jam {
    _Atomic uint64_t is_stuck, is_released, handled;
};

static enum weir_error get_stuck(struct turn *turn, struct probe *probe, struct message *message)
{
    struct jam *jam = probe->context;
    (void)turn;
    if (message->tag == TAG_SPIN) {
        uint64_t deadline = clock_now_ns() + DEADLINE_NS;
        atomic_store(&jam->is_stuck, 1);
        while (!atomic_load(&jam->is_released))
            assert_true(clock_now_ns() < deadline);
    } else {
        atomic_fetch_add(&jam->handled, 1);
    }
    return WEIR_OK;
}

/* Queues others behind itself on its own worker, then gets stuck. */
static enum weir_error jam_worker(struct turn *turn, struct probe *probe, struct message *message)
{
    weir_actor *others = (weir_actor *)(uintptr_t)probe->n[0];
    struct message work = {.tag = TAG_WORK};
    for (uint64_t i = 0; i < probe->n[1]; i++)
        must(turn_send(turn, others[i], &work));
    return get_stuck(turn, probe, message);
}

static void a_stuck_turn_is_reported_with_its_name_and_what_waits_behind_it_runs_elsewhere(void **state)
{
    (void)state;
    enum { OTHERS = 1000 };
    static weir_actor others[OTHERS];
    struct captured captured = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct jam jam = {0};
    log_sink_set(capture, &captured);
    struct fixture fixture = fixture_with((struct runtime_config){.workers = 2, .turn_warn_ns = 20 * NS_PER_MS});
    for (int i = 0; i < OTHERS; i++)
        others[i] = fixture_spawn(&fixture, (struct probe){.on_message = get_stuck, .context = &jam},
                                  (struct actor_options){0});
    weir_actor hog = fixture_spawn(
        &fixture, (struct probe){.on_message = jam_worker, .context = &jam, .n = {(uint64_t)(uintptr_t)others, OTHERS}},
        (struct actor_options){.label = "the hog"});
    fixture_send(&fixture, hog, TAG_SPIN, 0);
    await_at_least(&jam.is_stuck, 1);
    await_at_least(&jam.handled, OTHERS);
    /* What comes from outside, and from the clock, is not held up either. */
    weir_timer timer;
    for (uint64_t i = 1; i <= 20; i++) {
        fixture_send(&fixture, others[i], TAG_WORK, 0);
        await_at_least(&jam.handled, OTHERS + 2 * i - 1);
        must(timer_start(fixture.runtime, others[i], NS_PER_MS, 0, 0, &timer));
        await_at_least(&jam.handled, OTHERS + 2 * i);
    }
    await_at_least(&captured.lines, 1); /* the watcher's thread may not have run yet */
    /* Five times the warning's bound: time for a second report, were there one. */
    nanosleep(&(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);
    bool is_shown = false;
    for (unsigned i = 0; i < 2; i++) {
        struct worker_status status;
        must(runtime_worker_status(fixture.runtime, i, &status));
        if (strcmp(status.running, "probe the hog") == 0) {
            is_shown = true;
            assert_true(status.running_ns > 50 * NS_PER_MS);
        }
    }
    assert_true(is_shown && strcmp(fixture_state(&fixture, hog), "running") == 0);
    atomic_store(&jam.is_released, 1);
    fixture_end(&fixture);
    log_sink_set(NULL, NULL);
    captured.text[captured.size] = '\0';
    assert_int_equal(captured.lines, 1);
    assert_non_null(strstr(captured.text, "turn.stuck"));
}

struct computing {
    _Atomic uint64_t is_over;
};

static enum weir_error compute(struct turn *turn, struct probe *probe, struct message *message)
{
    struct computing *computing = probe->context;
    spin_ns(3 * NS_PER_US);
    return atomic_load(&computing->is_over) ? WEIR_OK : turn_send(turn, turn_self(turn), message);
}

/* Spawns its children from its own worker, so that all start there. */
static enum weir_error spawn_computers(struct turn *turn, struct probe *probe, struct message *message)
{
    struct probe child = {.on_message = compute, .context = probe->context};
    struct message go = {.tag = TAG_GO};
    weir_actor actor;
    (void)message;
    for (uint64_t i = 0; i < probe->n[0]; i++) {
        must(actor_spawn(turn_runtime(turn), &probe_behaviour, &child, sizeof child, NULL, &actor));
        must(turn_send(turn, actor, &go));
    }
    return WEIR_OK;
}

/* Until each worker has handled that many messages. */
static void await_shared(struct fixture *fixture, unsigned workers, uint64_t messages)
{
    uint64_t deadline = clock_now_ns() + DEADLINE_NS;
    struct timespec pause = {.tv_nsec = 1000000};
    for (unsigned i = 0; i < workers;) {
        struct worker_status status;
        must(runtime_worker_status(fixture->runtime, i, &status));
        if (status.messages >= messages) {
            i++;
            continue;
        }
        assert_true(clock_now_ns() < deadline);
        nanosleep(&pause, NULL);
    }
}

static void work_that_is_worth_moving_is_shared_among_workers(void **state)
{
    (void)state;
    for (unsigned workers = 2; workers <= 4; workers++) {
        for (uint64_t children = workers; children <= 64; children *= 4) {
            struct fixture fixture = fixture_threaded(workers);
            struct computing computing = {0};
            weir_actor parent = fixture_spawn(
                &fixture, (struct probe){.on_message = spawn_computers, .context = &computing, .n = {children}},
                (struct actor_options){0});
            fixture_send(&fixture, parent, TAG_GO, 0);
            await_shared(&fixture, workers, 1000);
            atomic_store(&computing.is_over, 1);
            fixture_end(&fixture);
        }
    }
}

struct churn {
    struct fixture *fixture;
    _Atomic uint64_t actors[64]; /* handles' bits */
    _Atomic bool is_over;
    _Atomic uint64_t sent, stale, full;
    uint64_t seed;
};

static enum weir_error churn_message(struct turn *turn, struct probe *probe, struct message *message)
{
    struct churn *churn = probe->context;
    uint64_t pick = message->word[0];
    weir_actor to = {atomic_load(&churn->actors[(pick >> 8) % 64])};
    struct message next = {.tag = TAG_WORK, .word = {pick * UINT64_C(6364136223846793005) + 1}};
    weir_timer timer;
    if (pick % 13 == 0 && arena_alloc(turn_arena(turn), 64, NULL, &next.hold[0]) != WEIR_OK)
        return WEIR_NO_MEMORY;
    if (turn_send(turn, to, &next) != WEIR_OK)
        arena_drop(turn_arena(turn), next.hold[0]);
    if (pick % 29 == 0)
        (void)!actor_monitor(turn_runtime(turn), turn_self(turn), to);
    if (pick % 31 == 0)
        (void)!turn_await_room(turn, to);
    if (pick % 37 == 0)
        (void)!timer_start(turn_runtime(turn), to, pick % NS_PER_MS, 0, 0, &timer);
    if (pick % 101 == 0)
        turn_exit(turn, WEIR_OK);
    return pick % 53 == 0 ? WEIR_FAILED : WEIR_OK;
}

static enum weir_error churn_supervise(struct turn *turn, struct probe *probe, struct message *message)
{
    (void)probe;
    if (message->tag == MESSAGE_EVENT && message->word[0] == ACTOR_EVENT_FAILED)
        (void)!actor_restart(turn_runtime(turn), message->from, message->word[2] % 2 ? 0 : 1000);
    return WEIR_OK;
}

static void *churn_main(void *argument)
{
    struct churn *churn = argument;
    struct runtime *runtime = churn->fixture->runtime;
    uint64_t random = churn->seed + (uint64_t)(uintptr_t)&random;
    weir_actor supervisor = {atomic_load(&churn->actors[0])};
    while (!atomic_load(&churn->is_over)) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint64_t place = 1 + (random >> 33) % 63;
        weir_actor actor = {atomic_load(&churn->actors[place])};
        struct message message = {.tag = TAG_WORK, .word = {random}};
        struct probe probe = {.on_message = churn_message, .context = churn};
        struct actor_options options = {.supervisor = supervisor, .mailbox_max = 32};
        struct actor_status status;
        if (random % 7 == 0)
            (void)!actor_stop(runtime, actor, random % 3 ? WEIR_FAILED : WEIR_OK);
        enum weir_error error = actor_send(runtime, WEIR_ACTOR_NONE, actor, &message);
        atomic_fetch_add(error == WEIR_OK ? &churn->sent : error == WEIR_FULL ? &churn->full : &churn->stale, 1);
        if (error == WEIR_STALE) {
            must(actor_spawn(runtime, &probe_behaviour, &probe, sizeof probe, &options, &actor));
            atomic_store(&churn->actors[place], actor.bits);
        }
        (void)!actor_status(runtime, actor, &status);
    }
    return NULL;
}

static void actors_may_start_fail_and_end_while_others_send_to_them(void **state)
{
    (void)state;
    enum { THREADS = 3 };
    for (unsigned workers = 2; workers <= 8; workers *= 2) {
        struct fixture fixture = fixture_with((struct runtime_config){.workers = workers, .turn_max = 16});
        struct churn churn = {.fixture = &fixture, .seed = clock_now_ns()};
        pthread_t threads[THREADS];
        log_level_set(LOG_OFF);
        printf("seed %llu\n", (unsigned long long)churn.seed);
        weir_actor supervisor =
            fixture_spawn(&fixture, (struct probe){.on_message = churn_supervise}, (struct actor_options){0});
        atomic_store(&churn.actors[0], supervisor.bits);
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, churn_main, &churn), 0);
        nanosleep(&(struct timespec){.tv_nsec = 300 * 1000 * 1000}, NULL);
        await_at_least(&churn.sent, 101); /* on a busy machine they may hardly have begun */
        await_at_least(&churn.stale, 11);
        atomic_store(&churn.is_over, true);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        fixture_end(&fixture);
        log_level_set(LOG_INFO);
    }
}

static void *send_until_over(void *argument)
{
    struct churn *churn = argument;
    struct message message = {.tag = TAG_GO};
    weir_timer timer;
    for (uint64_t i = 0; !atomic_load(&churn->is_over); i++) {
        weir_actor to = {atomic_load(&churn->actors[i % 64])};
        weir_actor actor;
        (void)!actor_send(churn->fixture->runtime, WEIR_ACTOR_NONE, to, &message);
        (void)!actor_control(churn->fixture->runtime, WEIR_ACTOR_NONE, to, &message);
        if (i % 16)
            continue;
        /* Leaves the two processors to the workers now and then; this is about safety, not about fairness. */
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
        (void)!timer_start(churn->fixture->runtime, to, i % 1000, 0, 0, &timer);
        (void)!actor_spawn(churn->fixture->runtime, &probe_behaviour, &(struct probe){0}, sizeof(struct probe), NULL,
                           &actor);
    }
    return NULL;
}

static void stopping_is_safe_while_other_threads_send_spawn_and_arm_timers(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++) {
        struct fixture fixture = fixture_threaded(1 + (unsigned)round % 4);
        struct churn churn = {.fixture = &fixture};
        pthread_t threads[2];
        for (int i = 0; i < 64; i++)
            churn.actors[i] = fixture_spawn(&fixture, (struct probe){0}, (struct actor_options){0}).bits;
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, send_until_over, &churn), 0);
        spin_ns(5 * NS_PER_MS);
        runtime_stop(fixture.runtime); /* they go on meanwhile and after, and are refused */
        atomic_store(&churn.is_over, true);
        for (int i = 0; i < 2; i++)
            pthread_join(threads[i], NULL);
        fixture_end(&fixture);
    }
}

static void stopping_under_load_ends_everything(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct fixture fixture = fixture_threaded(1 + (unsigned)round % 4);
        for (int i = 0; i < 50; i++) {
            weir_actor hog = fixture_spawn(&fixture, (struct probe){.on_message = greedy}, (struct actor_options){0});
            fixture_send(&fixture, hog, TAG_GO, 0);
        }
        fixture_end(&fixture);
    }
}

/* More children than a supervisor's control lane holds, ready before it has its first turn. */
enum { CROWD = CONTROL_MAX + 8192 };

static enum weir_error hear_of_children(struct turn *turn, struct probe *probe, struct message *message)
{
    (void)turn;
    if (message->tag == MESSAGE_EVENT && message->word[0] == ACTOR_EVENT_READY)
        atomic_fetch_add((_Atomic uint64_t *)probe->context, 1);
    return WEIR_OK;
}

static enum weir_error ignore(struct turn *turn, void *state, struct message *message)
{
    (void)turn, (void)state, (void)message;
    return WEIR_OK;
}

static enum weir_error spawn_crowd(struct turn *turn, struct probe *probe, struct message *message)
{
    static const struct behaviour behaviour = {.name = "child", .on_message = ignore};
    struct actor_options options = {.supervisor = probe->other};
    weir_actor child;
    (void)message;
    for (int i = 0; i < CROWD; i++)
        must(actor_spawn(turn_runtime(turn), &behaviour, NULL, 0, &options, &child));
    return WEIR_OK;
}

/* Each that finds the lane full could try again for each batch that finds room: some 340,000 turns. */
static void crowd_that_finds_no_room_tries_a_batch_at_a_time(void **state)
{
    (void)state;
    struct fixture fixture = fixture_threaded(1);
    _Atomic uint64_t heard = 0;
    struct probe listener = {.on_message = hear_of_children, .context = &heard};
    weir_actor supervisor = fixture_spawn(&fixture, listener, (struct actor_options){0});
    struct probe probe = {.on_message = spawn_crowd, .other = supervisor};
    fixture_send(&fixture, fixture_spawn(&fixture, probe, (struct actor_options){0}), TAG_GO, 0);
    await_at_least(&heard, CROWD);
    struct worker_status status;
    must(runtime_worker_status(fixture.runtime, 0, &status));
    print_message("%d children, %llu turns\n", CROWD, (unsigned long long)status.turns);
    assert_true(status.turns < 2 * (uint64_t)CROWD);
    fixture_end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(producers_held_back_by_small_mailboxes_are_always_woken),
        cmocka_unit_test(a_message_from_outside_always_wakes_a_sleeping_worker),
        cmocka_unit_test(a_greedy_actor_does_not_starve_others),
        cmocka_unit_test(a_stuck_turn_is_reported_with_its_name_and_what_waits_behind_it_runs_elsewhere),
        cmocka_unit_test(work_that_is_worth_moving_is_shared_among_workers),
        cmocka_unit_test(actors_may_start_fail_and_end_while_others_send_to_them),
        cmocka_unit_test(stopping_is_safe_while_other_threads_send_spawn_and_arm_timers),
        cmocka_unit_test(stopping_under_load_ends_everything),
        cmocka_unit_test(crowd_that_finds_no_room_tries_a_batch_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
