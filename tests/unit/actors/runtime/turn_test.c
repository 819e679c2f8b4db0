/* Turns: starting, failing, going on, ending. Simulated, with several seeds, since a turn may be cut anywhere. */
#include "fixture.h"

enum { TAG_ADD = 1, TAG_FAIL, TAG_FAIL_TWICE, TAG_EXIT, TAG_CHECK };
enum { SEEDS = 30 };

/* What a supervisor has been told, and what it does about it. */
struct told {
    uint64_t ready, failed, exited, causes, attempts_max;
    enum weir_error cause;
    bool restarts;
    uint64_t delay_ns;
    uint64_t sum, stops, restarts_seen, turn_ends, letters;
    enum weir_error stop_cause;
    bool mends, restart_fails;
};

static enum weir_error supervise(struct turn *turn, struct probe *probe, struct message *message)
{
    struct told *told = probe->context;
    if (message->tag != MESSAGE_EVENT)
        return WEIR_OK;
    told->ready += message->word[0] == ACTOR_EVENT_READY;
    told->failed += message->word[0] == ACTOR_EVENT_FAILED;
    told->exited += message->word[0] == ACTOR_EVENT_EXITED;
    told->cause = (enum weir_error)message->word[1];
    if (message->word[2] > told->attempts_max)
        told->attempts_max = message->word[2];
    if (message->word[0] == ACTOR_EVENT_FAILED && told->restarts)
        return actor_restart(turn_runtime(turn), message->from, told->delay_ns);
    return WEIR_OK;
}

static enum weir_error work(struct turn *turn, struct probe *probe, struct message *message)
{
    struct told *told = probe->context;
    switch (message->tag) {
    case TAG_ADD: told->sum += message->word[0]; return WEIR_OK;
    case TAG_FAIL: return WEIR_IO;
    case TAG_CHECK: ACTOR_CHECK(turn, message->word[0] == 1); return WEIR_OK;
    case TAG_FAIL_TWICE: return ++message->word[1] <= 2 ? WEIR_IO : WEIR_OK;
    case TAG_EXIT: turn_exit(turn, (enum weir_error)message->word[0]); return WEIR_OK;
    default: return WEIR_OK;
    }
}

static enum weir_error note_restart(struct turn *turn, struct probe *probe, enum weir_error cause)
{
    struct told *told = probe->context;
    (void)turn;
    assert_true(cause != WEIR_OK);
    told->restarts_seen++;
    if (told->restart_fails) {
        told->restart_fails = false;
        return WEIR_NO_MEMORY;
    }
    return WEIR_OK;
}

static void note_stop(struct turn *turn, struct probe *probe, enum weir_error cause)
{
    struct told *told = probe->context;
    (void)turn;
    told->stops++;
    told->stop_cause = cause;
}

static void note_turn_end(struct turn *turn, struct probe *probe)
{
    (void)turn;
    ((struct told *)probe->context)->turn_ends++;
}

static bool note_letter(struct turn *turn, struct message *message, enum weir_error cause, uint32_t attempts,
                        void *context)
{
    struct told *told = context;
    assert_false(actor_is_none(turn_self(turn)));
    assert_true(cause == WEIR_IO || cause == WEIR_FAILED);
    assert_int_equal(attempts, 3);
    told->letters++;
    if (!told->mends)
        return true;
    message->tag = TAG_ADD;
    message->word[0] = 1000;
    return false;
}

struct family {
    struct fixture fixture;
    weir_actor supervisor, worker;
};

static struct probe worker_probe(struct told *told)
{
    return (struct probe){.on_message = work,
                          .on_restart = note_restart,
                          .on_stop = note_stop,
                          .on_turn_end = note_turn_end,
                          .context = told};
}

static struct family family_of(uint64_t seed, struct told *told)
{
    struct family family;
    family.fixture = fixture_with(
        (struct runtime_config){.simulate = true, .seed = seed, .on_dead_letter = note_letter, .context = told});
    family.supervisor = fixture_spawn(&family.fixture, (struct probe){.on_message = supervise, .context = told},
                                      (struct actor_options){0});
    family.worker = fixture_spawn(&family.fixture, worker_probe(told),
                                  (struct actor_options){.supervisor = family.supervisor, .label = "the worker"});
    return family;
}

static void an_actor_starts_before_its_messages_and_its_supervisor_is_told(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct told told = {0};
        struct family family = family_of(seed, &told);
        assert_string_equal(fixture_state(&family.fixture, family.worker), "starting");
        for (uint64_t i = 1; i <= 10; i++)
            fixture_send(&family.fixture, family.worker, TAG_ADD, i);
        fixture_settle(&family.fixture);
        assert_int_equal(told.sum, 55);
        assert_int_equal(told.ready, 1);
        assert_true(told.turn_ends >= 1 && told.turn_ends <= 10);
        assert_string_equal(fixture_state(&family.fixture, family.worker), "idle");
        struct actor_status status;
        must(actor_status(family.fixture.runtime, family.worker, &status));
        assert_string_equal(status.label, "the worker");
        assert_string_equal(status.behaviour, "probe");
        assert_int_equal(status.handled, 10);
        fixture_end(&family.fixture);
        assert_int_equal(told.stops, 1);
        assert_int_equal(told.stop_cause, WEIR_CLOSED);
    }
}

static void a_failed_actor_is_suspended_with_its_mailbox_and_the_message_in_hand(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct told told = {0};
        struct family family = family_of(seed, &told);
        fixture_send(&family.fixture, family.worker, TAG_ADD, 1);
        fixture_send(&family.fixture, family.worker, TAG_FAIL_TWICE, 0);
        fixture_send(&family.fixture, family.worker, TAG_ADD, 2);
        fixture_settle(&family.fixture);
        struct actor_status status;
        must(actor_status(family.fixture.runtime, family.worker, &status));
        assert_string_equal(status.state, "suspended");
        assert_int_equal(status.depth, 2);
        assert_int_equal(status.failures, 1);
        assert_int_equal(status.last_cause, WEIR_IO);
        assert_int_equal(told.failed, 1);
        assert_int_equal(told.cause, WEIR_IO);
        assert_int_equal(told.sum, 1);
        fixture_send(&family.fixture, family.worker, TAG_ADD, 3);
        fixture_settle(&family.fixture);
        assert_int_equal(told.sum, 1);
        must(actor_restart(family.fixture.runtime, family.worker, 0));
        fixture_settle(&family.fixture); /* fails once more */
        must(actor_restart(family.fixture.runtime, family.worker, 0));
        fixture_settle(&family.fixture);
        assert_int_equal(told.restarts_seen, 2);
        assert_int_equal(told.failed, 2);
        assert_int_equal(told.sum, 6);
        assert_int_equal(told.letters, 0);
        assert_string_equal(fixture_state(&family.fixture, family.worker), "idle");
        fixture_end(&family.fixture);
    }
}

static void a_message_that_keeps_failing_becomes_a_dead_letter_and_the_next_is_handled(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct told told = {.restarts = true};
        struct family family = family_of(seed, &told);
        fixture_send(&family.fixture, family.worker, TAG_FAIL, 0);
        fixture_send(&family.fixture, family.worker, TAG_ADD, 7);
        fixture_settle(&family.fixture);
        assert_int_equal(told.failed, 3);
        assert_int_equal(told.attempts_max, 3);
        assert_int_equal(told.letters, 1);
        assert_int_equal(told.sum, 7);
        struct runtime_status status;
        runtime_status(family.fixture.runtime, &status);
        assert_int_equal(status.failures, 3);
        assert_int_equal(status.restarts, 3);
        assert_int_equal(status.dead_letters, 1);
        fixture_end(&family.fixture);
    }
}

static void a_failed_check_fails_the_actor_and_not_the_process(void **state)
{
    (void)state;
    struct told told = {.restarts = true};
    struct family family = family_of(6, &told);
    fixture_send(&family.fixture, family.worker, TAG_CHECK, 1);
    fixture_send(&family.fixture, family.worker, TAG_CHECK, 0);
    fixture_send(&family.fixture, family.worker, TAG_ADD, 7);
    fixture_settle(&family.fixture);
    assert_int_equal(told.failed, 3);
    assert_int_equal(told.cause, WEIR_FAILED);
    assert_int_equal(told.letters, 1);
    assert_int_equal(told.sum, 7);
    fixture_end(&family.fixture);
}

static void a_mended_dead_letter_is_handled_in_its_place_as_a_fresh_message(void **state)
{
    (void)state;
    struct told told = {.restarts = true, .mends = true};
    struct family family = family_of(5, &told);
    fixture_send(&family.fixture, family.worker, TAG_FAIL, 0);
    fixture_send(&family.fixture, family.worker, TAG_ADD, 7);
    fixture_settle(&family.fixture);
    assert_int_equal(told.letters, 1);
    assert_int_equal(told.sum, 1007);
    fixture_end(&family.fixture);
}

static void a_failed_control_message_is_tried_again_before_other_control(void **state)
{
    (void)state;
    struct told told = {.restarts = true};
    struct family family = family_of(6, &told);
    struct message message = {.tag = TAG_FAIL_TWICE};
    must(actor_control(family.fixture.runtime, WEIR_ACTOR_NONE, family.worker, &message));
    fixture_send(&family.fixture, family.worker, TAG_ADD, 7);
    fixture_settle(&family.fixture);
    assert_int_equal(told.failed, 2);
    assert_int_equal(told.letters, 0);
    assert_int_equal(told.sum, 7);
    fixture_end(&family.fixture);
}

static void a_failing_restart_is_a_failure_of_its_own(void **state)
{
    (void)state;
    struct told told = {.restarts = true, .restart_fails = true};
    struct family family = family_of(7, &told);
    fixture_send(&family.fixture, family.worker, TAG_FAIL_TWICE, 0);
    fixture_settle(&family.fixture);
    assert_int_equal(told.failed, 3);
    assert_int_equal(told.restarts_seen, 3);
    assert_int_equal(told.letters, 0);
    assert_string_equal(fixture_state(&family.fixture, family.worker), "idle");
    fixture_end(&family.fixture);
}

static void a_delayed_restart_waits_for_the_clock_and_serves_its_own_failure_only(void **state)
{
    (void)state;
    struct told told = {.restarts = true, .delay_ns = NS_PER_S};
    struct family family = family_of(8, &told);
    fixture_send(&family.fixture, family.worker, TAG_FAIL_TWICE, 0);
    fixture_settle(&family.fixture);
    assert_string_equal(fixture_state(&family.fixture, family.worker), "suspended");
    uint64_t before = runtime_now_ns(family.fixture.runtime);
    /* Somebody restarts it at once; it fails again. The first delayed order must not count for that. */
    must(actor_restart(family.fixture.runtime, family.worker, 0));
    told.delay_ns = 10 * NS_PER_S;
    fixture_settle(&family.fixture);
    assert_int_equal(told.failed, 2);
    assert_true(runtime_advance(family.fixture.runtime));
    fixture_settle(&family.fixture);
    assert_int_equal(runtime_now_ns(family.fixture.runtime) - before, NS_PER_S);
    assert_string_equal(fixture_state(&family.fixture, family.worker), "suspended");
    assert_true(runtime_advance(family.fixture.runtime));
    fixture_settle(&family.fixture);
    assert_string_equal(fixture_state(&family.fixture, family.worker), "idle");
    fixture_end(&family.fixture);
}

static void without_a_supervisor_a_failure_ends_the_actor(void **state)
{
    (void)state;
    struct told told = {0};
    struct fixture fixture = fixture_simulated(9);
    weir_actor worker = fixture_spawn(&fixture, worker_probe(&told), (struct actor_options){0});
    fixture_send(&fixture, worker, TAG_FAIL, 0);
    fixture_send(&fixture, worker, TAG_ADD, 1);
    fixture_settle(&fixture);
    assert_string_equal(fixture_state(&fixture, worker), "ended");
    assert_int_equal(told.stops, 1);
    assert_int_equal(told.stop_cause, WEIR_IO);
    assert_int_equal(told.sum, 0);
    fixture_end(&fixture);
}

static void an_orphan_that_fails_ends_too(void **state)
{
    (void)state;
    struct told told = {0};
    struct family family = family_of(10, &told);
    fixture_settle(&family.fixture);
    must(actor_stop(family.fixture.runtime, family.supervisor, WEIR_OK));
    fixture_settle(&family.fixture);
    fixture_send(&family.fixture, family.worker, TAG_FAIL, 0);
    fixture_settle(&family.fixture);
    assert_string_equal(fixture_state(&family.fixture, family.worker), "ended");
    fixture_end(&family.fixture);
}

static void an_exit_drops_the_rest_of_the_mailbox_and_tells_the_cause(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct told told = {0};
        struct family family = family_of(seed, &told);
        fixture_send(&family.fixture, family.worker, TAG_ADD, 1);
        fixture_send(&family.fixture, family.worker, TAG_EXIT, WEIR_CONNECT);
        fixture_send(&family.fixture, family.worker, TAG_ADD, 2);
        fixture_settle(&family.fixture);
        assert_int_equal(told.sum, 1);
        assert_int_equal(told.exited, 1);
        assert_int_equal(told.cause, WEIR_CONNECT);
        assert_int_equal(told.stops, 1);
        fixture_end(&family.fixture);
    }
}

static void a_stop_ends_suspended_idle_and_starting_actors(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct told told = {0};
        struct family family = family_of(seed, &told);
        weir_actor idle = fixture_spawn(&family.fixture, worker_probe(&told),
                                        (struct actor_options){.supervisor = family.supervisor});
        fixture_send(&family.fixture, family.worker, TAG_FAIL, 0);
        fixture_settle(&family.fixture);
        assert_string_equal(fixture_state(&family.fixture, family.worker), "suspended");
        weir_actor starting = fixture_spawn(&family.fixture, worker_probe(&told),
                                            (struct actor_options){.supervisor = family.supervisor});
        must(actor_stop(family.fixture.runtime, family.worker, WEIR_TIMEOUT));
        must(actor_stop(family.fixture.runtime, idle, WEIR_TIMEOUT));
        must(actor_stop(family.fixture.runtime, idle, WEIR_OK)); /* the first cause stands */
        must(actor_stop(family.fixture.runtime, starting, WEIR_TIMEOUT));
        fixture_settle(&family.fixture);
        assert_int_equal(told.exited, 3);
        assert_int_equal(told.cause, WEIR_TIMEOUT);
        assert_int_equal(told.stops, 2); /* the third never started */
        assert_string_equal(fixture_state(&family.fixture, family.worker), "ended");
        assert_string_equal(fixture_state(&family.fixture, idle), "ended");
        assert_string_equal(fixture_state(&family.fixture, starting), "ended");
        fixture_end(&family.fixture);
    }
}

static enum weir_error refuse_start(struct turn *turn, struct probe *probe, struct message *message)
{
    (void)turn;
    (void)probe;
    (void)message;
    return WEIR_CONNECT;
}

static _Atomic uint64_t unread_sum;

static void note_unread(struct turn *turn, void *state, const struct message *message)
{
    (void)turn;
    (void)state;
    if (message->tag == TAG_ADD)
        unread_sum += message->word[0];
}

static void what_an_ended_actor_has_not_read_is_shown_once(void **state)
{
    struct behaviour behaviour = probe_behaviour;
    (void)state;
    behaviour.on_unread = note_unread;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct told told = {0};
        struct family family = family_of(seed, &told);
        struct probe probe = worker_probe(&told);
        weir_actor actor;
        unread_sum = 0;
        must(actor_spawn(family.fixture.runtime, &behaviour, &probe, sizeof probe, &(struct actor_options){0}, &actor));
        for (uint64_t i = 1; i <= 5; i++)
            fixture_send(&family.fixture, actor, TAG_ADD, i);
        fixture_send(&family.fixture, actor, TAG_EXIT, WEIR_OK);
        for (uint64_t i = 6; i <= 10; i++)
            fixture_send(&family.fixture, actor, TAG_ADD, i);
        fixture_settle(&family.fixture);
        assert_int_equal(told.sum, 1 + 2 + 3 + 4 + 5);
        assert_int_equal(unread_sum, 6 + 7 + 8 + 9 + 10);
        fixture_end(&family.fixture);
    }
}

static void a_failed_start_ends_the_actor_without_on_stop(void **state)
{
    (void)state;
    struct told told = {0};
    struct family family = family_of(11, &told);
    struct probe probe = worker_probe(&told);
    probe.on_start = refuse_start;
    fixture_settle(&family.fixture);
    fixture_spawn(&family.fixture, probe, (struct actor_options){.supervisor = family.supervisor});
    fixture_settle(&family.fixture);
    assert_int_equal(told.ready, 1);
    assert_int_equal(told.exited, 1);
    assert_int_equal(told.cause, WEIR_CONNECT);
    assert_int_equal(told.stops, 0);
    fixture_end(&family.fixture);
}

static enum weir_error defer(struct turn *turn, struct probe *probe, struct message *message)
{
    if (message->tag == MESSAGE_SHUTDOWN) {
        turn_shutdown_defer(turn);
        return WEIR_OK;
    }
    return work(turn, probe, message);
}

static void shutdown_ends_an_actor_in_order_unless_it_defers(void **state)
{
    (void)state;
    struct told told = {0};
    struct family family = family_of(12, &told);
    struct probe probe = worker_probe(&told);
    probe.on_message = defer;
    weir_actor slow = fixture_spawn(&family.fixture, probe, (struct actor_options){.supervisor = family.supervisor});
    struct message shutdown = {.tag = MESSAGE_SHUTDOWN};
    must(actor_control(family.fixture.runtime, WEIR_ACTOR_NONE, family.worker, &shutdown));
    must(actor_control(family.fixture.runtime, WEIR_ACTOR_NONE, slow, &shutdown));
    fixture_settle(&family.fixture);
    assert_int_equal(told.exited, 1);
    assert_int_equal(told.cause, WEIR_OK);
    assert_string_equal(fixture_state(&family.fixture, family.worker), "ended");
    assert_string_equal(fixture_state(&family.fixture, slow), "idle");
    fixture_send(&family.fixture, slow, TAG_EXIT, WEIR_OK);
    fixture_settle(&family.fixture);
    assert_int_equal(told.exited, 2);
    fixture_end(&family.fixture);
}

static void arguments_may_be_larger_than_the_state_and_are_bounded(void **state)
{
    (void)state;
    static const struct behaviour small = {.name = "small", .on_message = probe_message, .state_size = 0};
    struct fixture fixture = fixture_simulated(13);
    unsigned char args[ACTOR_ARGS_SIZE_MAX + 1] = {0};
    weir_actor actor;
    must(actor_spawn(fixture.runtime, &small, args, ACTOR_ARGS_SIZE_MAX, NULL, &actor));
    assert_int_equal(actor_spawn(fixture.runtime, &small, args, sizeof args, NULL, &actor), WEIR_TOO_BIG);
    fixture_settle(&fixture);
    fixture_end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_actor_starts_before_its_messages_and_its_supervisor_is_told),
        cmocka_unit_test(a_failed_actor_is_suspended_with_its_mailbox_and_the_message_in_hand),
        cmocka_unit_test(a_message_that_keeps_failing_becomes_a_dead_letter_and_the_next_is_handled),
        cmocka_unit_test(a_failed_check_fails_the_actor_and_not_the_process),
        cmocka_unit_test(a_mended_dead_letter_is_handled_in_its_place_as_a_fresh_message),
        cmocka_unit_test(a_failed_control_message_is_tried_again_before_other_control),
        cmocka_unit_test(a_failing_restart_is_a_failure_of_its_own),
        cmocka_unit_test(a_delayed_restart_waits_for_the_clock_and_serves_its_own_failure_only),
        cmocka_unit_test(without_a_supervisor_a_failure_ends_the_actor),
        cmocka_unit_test(an_orphan_that_fails_ends_too),
        cmocka_unit_test(an_exit_drops_the_rest_of_the_mailbox_and_tells_the_cause),
        cmocka_unit_test(a_stop_ends_suspended_idle_and_starting_actors),
        cmocka_unit_test(a_failed_start_ends_the_actor_without_on_stop),
        cmocka_unit_test(what_an_ended_actor_has_not_read_is_shown_once),
        cmocka_unit_test(shutdown_ends_an_actor_in_order_unless_it_defers),
        cmocka_unit_test(arguments_may_be_larger_than_the_state_and_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
