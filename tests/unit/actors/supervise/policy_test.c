/* Intensity, backoff, shutdown times, in-place restarts, poison and history. */
#include "tests/unit/actors/supervise/world.h"

static weir_actor root_spawn(struct world *world, struct supervisor_config config, const char *const *names, int count)
{
    struct child_args args[8];
    struct child_spec specs[8];
    for (int i = 0; i < count; i++)
        specs[i] = child_of(world, &args[i], names[i]);
    config.name = "root";
    config.children = specs;
    config.child_count = (size_t)count;
    weir_actor root;
    assert_int_equal(supervisor_spawn(world->tree, WEIR_ACTOR_NONE, &config, &root), WEIR_OK);
    world_run(world);
    assert_true(supervision_is_ready(world->tree));
    journal_clear(world);
    return root;
}

static const char *const ab[] = {"a", "b"};

static void finish(struct world *world)
{
    supervision_shutdown(world->tree);
    world_run(world);
    assert_true(supervision_is_down(world->tree));
    world_destroy(world);
}

static void sixth_restart_in_ten_seconds_escalates(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    root_spawn(world, (struct supervisor_config){.intensity = 5, .period_ms = 10000}, ab, 2);
    for (int i = 0; i < 5; i++) {
        world_order(world, i % 2 ? "a" : "b", TAG_FAIL, 1);
        world_wait_ms(world, 2000);
    }
    /* The first is 10 s old to the nanosecond, and counts still (OTP: Difference > Period is out). */
    assert_false(supervision_is_down(world->tree));
    world_order(world, "a", TAG_FAIL, 1);
    assert_true(supervision_is_down(world->tree));
    assert_int_equal(world->down_cause, WEIR_FAILED);
    assert_journal(world, "~b~a~b~a~b-b!a");
    world_destroy(world);
}

static void restart_just_outside_the_period_does_not_escalate(void **state)
{
    (void)state;
    struct world *world = world_create(2);
    root_spawn(world, (struct supervisor_config){.intensity = 5, .period_ms = 10000}, ab, 2);
    for (int i = 0; i < 200; i++) {
        world_order(world, "a", TAG_FAIL, 1);
        world_wait_ms(world, 2001);
    }
    assert_true(supervision_is_ready(world->tree));
    assert_int_equal(world_row(world, "a").restarts, 200);
    finish(world);
}

static void intensity_zero_escalates_at_once(void **state)
{
    (void)state;
    struct world *world = world_create(3);
    root_spawn(world, (struct supervisor_config){.intensity = 0, .period_ms = 1000}, ab, 2);
    world_order(world, "a", TAG_FAIL, 1);
    assert_true(supervision_is_down(world->tree));
    world_destroy(world);
}

static void intensity_per_child_gives_up_that_child_alone(void **state)
{
    (void)state;
    struct world *world = world_create(4);
    root_spawn(world, (struct supervisor_config){.intensity = 2, .period_ms = 10000, .is_intensity_per_child = true},
               ab, 2);
    for (int i = 0; i < 2; i++) {
        world_order(world, "a", TAG_FAIL, 1);
        world_order(world, "b", TAG_FAIL, 1);
    }
    world_order(world, "a", TAG_FAIL, 1);
    assert_string_equal(world_row(world, "a").state, "down");
    assert_string_equal(world_row(world, "b").state, "up");
    struct supervision_totals totals;
    supervision_totals(world->tree, &totals);
    assert_int_equal(totals.given_up, 1);
    assert_int_equal(totals.escalations, 0);
    finish(world);
}

static void unlimited_intensity_never_escalates(void **state)
{
    (void)state;
    struct world *world = world_create(5);
    root_spawn(world, (struct supervisor_config){.intensity = SUPERVISOR_INTENSITY_UNLIMITED, .period_ms = 1000}, ab,
               2);
    for (int i = 0; i < 10000; i++)
        world_order(world, "a", TAG_FAIL, 1);
    assert_int_equal(world_row(world, "a").restarts, 10000);
    assert_int_equal(world->counts['a'], 10000);
    finish(world);
}

/* How long the child needs from its failure to its restart, by the clock of the simulation. */
static uint64_t restart_delay_ns(struct world *world, const char *name, uint32_t tag, uint64_t word)
{
    uint64_t before = runtime_now_ns(world->runtime);
    uint32_t restarts = world_row(world, name).restarts;
    world_order(world, name, tag, word);
    assert_int_equal(world_row(world, name).restarts, restarts + 1);
    while (strcmp(world_row(world, name).state, "up") != 0) {
        assert_string_equal(world_row(world, name).state, "waiting");
        assert_true(runtime_advance(world->runtime));
        world_run(world);
    }
    return runtime_now_ns(world->runtime) - before;
}

static void backoff_doubles_from_min_to_max_and_resets_after_quiet(void **state)
{
    (void)state;
    struct world *world = world_create(6);
    struct supervisor_config config = {
        .intensity = 1000, .period_ms = 1000, .backoff_min_ms = 10, .backoff_max_ms = 100, .backoff_quiet_ms = 5000};
    root_spawn(world, config, ab, 2);
    static const uint64_t expected_ms[] = {0, 10, 20, 40, 80, 100, 100};
    for (size_t i = 0; i < COUNT_OF(expected_ms); i++)
        assert_int_equal(restart_delay_ns(world, "a", i % 2 ? TAG_EXIT : TAG_FAIL, i % 2 ? WEIR_IO : 1),
                         expected_ms[i] * NS_PER_MS);
    assert_int_equal(restart_delay_ns(world, "b", TAG_FAIL, 1), 0);
    world_wait_ms(world, 5000);
    assert_int_equal(restart_delay_ns(world, "a", TAG_FAIL, 1), 0);
    assert_int_equal(restart_delay_ns(world, "a", TAG_FAIL, 1), 10 * NS_PER_MS);
    finish(world);
}

static void jitter_shortens_the_backoff_within_its_bounds(void **state)
{
    (void)state;
    struct world *world = world_create(7);
    struct supervisor_config config = {.intensity = 10000,
                                       .period_ms = 1000,
                                       .backoff_min_ms = 100,
                                       .backoff_max_ms = 100,
                                       .backoff_jitter_percent = 30,
                                       .backoff_quiet_ms = 60000};
    root_spawn(world, config, ab, 2);
    restart_delay_ns(world, "a", TAG_FAIL, 1);
    uint64_t least = UINT64_MAX, most = 0;
    for (int i = 0; i < 300; i++) {
        uint64_t delay = restart_delay_ns(world, "a", TAG_FAIL, 1);
        least = delay < least ? delay : least;
        most = delay > most ? delay : most;
    }
    assert_true(least > 70 * NS_PER_MS && least < 75 * NS_PER_MS);
    assert_true(most <= 100 * NS_PER_MS && most > 95 * NS_PER_MS);
    finish(world);
}

static void group_waits_out_the_backoff_before_it_starts(void **state)
{
    (void)state;
    struct world *world = world_create(8);
    struct supervisor_config config = {.strategy = SUPERVISOR_ONE_FOR_ALL,
                                       .intensity = 1000,
                                       .period_ms = 1000,
                                       .backoff_min_ms = 10,
                                       .backoff_max_ms = 100};
    root_spawn(world, config, ab, 2);
    world_order(world, "a", TAG_FAIL, 1);
    journal_clear(world);
    world_order(world, "a", TAG_FAIL, 1);
    assert_journal(world, "-b!a");
    assert_string_equal(world_row(world, "root").phase, "restarting");
    assert_int_equal(supervisor_restart_named(world->tree, "a"), WEIR_BUSY);
    world_wait_ms(world, 10);
    assert_journal(world, "-b!a+a+b");
    finish(world);
}

static void waiting_child_can_be_restarted_at_once_or_stopped(void **state)
{
    (void)state;
    struct world *world = world_create(9);
    struct supervisor_config config = {
        .intensity = 1000, .period_ms = 1000, .backoff_min_ms = 1000, .backoff_max_ms = 1000};
    root_spawn(world, config, ab, 2);
    for (int i = 0; i < 2; i++)
        world_order(world, "a", TAG_FAIL, 1);
    for (int i = 0; i < 2; i++)
        world_order(world, "b", TAG_EXIT, WEIR_IO);
    assert_string_equal(world_row(world, "a").state, "waiting");
    assert_string_equal(world_row(world, "b").state, "waiting");
    assert_int_equal(supervisor_restart_named(world->tree, "b"), WEIR_OK);
    assert_int_equal(supervisor_restart_named(world->tree, "a"), WEIR_OK);
    world_run(world);
    assert_string_equal(world_row(world, "a").state, "up");
    assert_string_equal(world_row(world, "b").state, "up");
    assert_int_equal(world->counts['a'], 2);
    world_order(world, "a", TAG_FAIL, 1);
    world_order(world, "b", TAG_EXIT, WEIR_IO);
    journal_clear(world);
    supervision_shutdown(world->tree);
    world_run(world);
    assert_journal(world, "!a");
    assert_true(supervision_is_down(world->tree));
    world_destroy(world);
}

/* Before it is given the message once more that it would fail of again. */
static void waiting_child_that_is_to_hear_of_its_end_does(void **state)
{
    (void)state;
    struct world *world = world_create(9);
    struct child_args args;
    struct child_spec spec = child_of(world, &args, "a");
    spec.hears_its_end = true;
    struct supervisor_config config = {.name = "root",
                                       .intensity = 1000,
                                       .period_ms = 1000,
                                       .backoff_min_ms = 1000,
                                       .backoff_max_ms = 1000,
                                       .children = &spec,
                                       .child_count = 1};
    weir_actor root;
    assert_int_equal(supervisor_spawn(world->tree, WEIR_ACTOR_NONE, &config, &root), WEIR_OK);
    world_run(world);
    world_order(world, "a", TAG_FAIL, 1);
    world_order(world, "a", TAG_FAIL, 2);
    assert_string_equal(world_row(world, "a").state, "waiting");
    journal_clear(world);
    supervision_shutdown(world->tree);
    world_run(world);
    assert_journal(world, "~a-a");
    assert_true(supervision_is_down(world->tree));
    world_destroy(world);
}

/* Its supervisor hears of the failure when it has sent the news of the end. */
static void child_that_fails_before_it_hears_of_its_end_does_if_it_is_to(void **state)
{
    (void)state;
    for (int is_to_hear = 0; is_to_hear < 2; is_to_hear++) {
        struct world *world = world_create(10);
        struct child_args args;
        struct child_spec spec = child_of(world, &args, "a");
        spec.hears_its_end = is_to_hear;
        struct supervisor_config config = {.name = "root", .children = &spec, .child_count = 1};
        weir_actor root;
        assert_int_equal(supervisor_spawn(world->tree, WEIR_ACTOR_NONE, &config, &root), WEIR_OK);
        world_run(world);
        journal_clear(world);
        world_send(world, world_find(world, "a"), TAG_FAIL, 2);
        assert_true(runtime_step(world->runtime));
        assert_int_equal(supervisor_child_stop(world->tree, world_find(world, "a")), WEIR_OK);
        assert_string_equal(world_row(world, "a").state, "stopping");
        world_run(world);
        assert_journal(world, is_to_hear ? "~a-a" : "!a");
        assert_string_equal(world_row(world, "a").state, "down");
        finish(world);
    }
}

/* Not for ever: its shutdown time has begun. */
static void child_that_hears_of_its_end_and_fails_on_is_killed(void **state)
{
    (void)state;
    struct world *world = world_create(11);
    struct child_args args;
    struct child_spec spec = child_of(world, &args, "a");
    spec.hears_its_end = true;
    spec.shutdown_ms = 100;
    struct supervisor_config config = {.name = "root", .children = &spec, .child_count = 1};
    weir_actor root;
    assert_int_equal(supervisor_spawn(world->tree, WEIR_ACTOR_NONE, &config, &root), WEIR_OK);
    world_run(world);
    world->is_stubborn['a'] = true;
    journal_clear(world);
    world_send(world, world_find(world, "a"), TAG_POISON, 0);
    assert_int_equal(supervisor_child_stop(world->tree, world_find(world, "a")), WEIR_OK);
    world_run(world);
    assert_journal(world, "~a~a~a");
    assert_int_equal(world->dead, 1);
    assert_string_equal(world_row(world, "a").state, "stopping");
    world_wait_ms(world, 100);
    assert_journal(world, "~a~a~a!a");
    finish(world);
}

static void stubborn_child_is_killed_after_its_shutdown_time(void **state)
{
    (void)state;
    struct world *world = world_create(10);
    struct child_args args[3];
    struct child_spec specs[3] = {child_of(world, &args[0], "a"), child_of(world, &args[1], "b"),
                                  child_of(world, &args[2], "c")};
    specs[1].shutdown_ms = 700;
    world->is_stubborn['b'] = true;
    struct supervisor_config config = {.name = "root", .children = specs, .child_count = 3};
    weir_actor root;
    assert_int_equal(supervisor_spawn(world->tree, WEIR_ACTOR_NONE, &config, &root), WEIR_OK);
    world_run(world);
    journal_clear(world);
    supervision_shutdown(world->tree);
    world_run(world);
    assert_journal(world, "-c");
    world_wait_ms(world, 699);
    assert_journal(world, "-c");
    assert_string_equal(world_row(world, "b").state, "stopping");
    world_wait_ms(world, 1);
    assert_journal(world, "-c!b-a");
    assert_true(supervision_is_down(world->tree));
    world_destroy(world);
}

static void brutal_child_is_not_asked(void **state)
{
    (void)state;
    struct world *world = world_create(11);
    struct child_args args;
    struct child_spec spec = child_of(world, &args, "a");
    spec.shutdown_ms = SHUTDOWN_BRUTAL;
    world->is_stubborn['a'] = true;
    struct supervisor_config config = {.name = "root", .children = &spec, .child_count = 1};
    weir_actor root;
    assert_int_equal(supervisor_spawn(world->tree, WEIR_ACTOR_NONE, &config, &root), WEIR_OK);
    world_run(world);
    supervision_shutdown(world->tree);
    world_run(world);
    assert_journal(world, "+a!a");
    world_destroy(world);
}

static void infinite_shutdown_waits_as_long_as_it_takes(void **state)
{
    (void)state;
    struct world *world = world_create(12);
    struct child_args args;
    struct child_spec spec = child_of(world, &args, "a");
    spec.shutdown_ms = SHUTDOWN_INFINITE;
    world->is_stubborn['a'] = true;
    struct supervisor_config config = {.name = "root", .children = &spec, .child_count = 1};
    weir_actor root;
    assert_int_equal(supervisor_spawn(world->tree, WEIR_ACTOR_NONE, &config, &root), WEIR_OK);
    world_run(world);
    supervision_shutdown(world->tree);
    world_wait_ms(world, 100 * 86400 * UINT64_C(1000));
    assert_false(supervision_is_down(world->tree));
    world_order(world, "a", TAG_EXIT, WEIR_OK);
    assert_true(supervision_is_down(world->tree));
    world_destroy(world);
}

static void child_that_fails_while_stopping_is_ended(void **state)
{
    (void)state;
    struct world *world = world_create(13);
    world->is_stubborn['b'] = true;
    root_spawn(world, (struct supervisor_config){0}, ab, 2);
    supervision_shutdown(world->tree);
    world_run(world);
    world_order(world, "b", TAG_FAIL, 1);
    assert_journal(world, "!b-a");
    assert_true(supervision_is_down(world->tree));
    world_destroy(world);
}

static void restart_keeps_handle_mailbox_and_state(void **state)
{
    (void)state;
    struct world *world = world_create(14);
    root_spawn(world, (struct supervisor_config){0}, ab, 2);
    weir_actor a = world_find(world, "a");
    for (int i = 0; i < 10; i++)
        world_send(world, a, TAG_COUNT, 0);
    world_send(world, a, TAG_FAIL, 2);
    for (int i = 0; i < 10; i++)
        world_send(world, a, TAG_COUNT, 0);
    world_run(world);
    assert_journal(world, "~a~a");
    assert_int_equal(world->counts['a'], 21);
    assert_true(actor_is_same(a, world_find(world, "a")));
    finish(world);
}

static void poison_is_a_dead_letter_after_three_attempts_and_the_actor_goes_on(void **state)
{
    (void)state;
    struct world *world = world_create(15);
    root_spawn(world, (struct supervisor_config){0}, ab, 2);
    weir_actor a = world_find(world, "a");
    world_send(world, a, TAG_COUNT, 0);
    world_send(world, a, TAG_POISON, 0);
    world_send(world, a, TAG_COUNT, 0);
    world_run(world);
    assert_int_equal(world->dead, 1);
    assert_int_equal(world->dead_attempts, 3);
    assert_int_equal(world->counts['a'], 2);
    assert_int_equal(world_row(world, "a").restarts, 3);
    finish(world);
}

static void history_keeps_the_newest_deaths_newest_first(void **state)
{
    (void)state;
    struct world *world = world_create(16);
    root_spawn(world, (struct supervisor_config){.intensity = 1000, .period_ms = 1000}, ab, 2);
    struct supervision_death deaths[2 * SUPERVISOR_DEATHS_KEPT];
    assert_int_equal(supervision_deaths(world->tree, world_find(world, "a"), deaths, COUNT_OF(deaths)), 0);
    for (int i = 0; i < 3 * SUPERVISOR_DEATHS_KEPT; i++) {
        if (i % 2)
            world_order(world, "a", TAG_EXIT, WEIR_IO);
        else
            world_order(world, "a", TAG_FAIL, 1);
        world_wait_ms(world, 1);
    }
    size_t count = supervision_deaths(world->tree, world_find(world, "a"), deaths, COUNT_OF(deaths));
    assert_int_equal(count, SUPERVISOR_DEATHS_KEPT);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(deaths[i].event, i % 2 ? ACTOR_EVENT_FAILED : ACTOR_EVENT_EXITED);
        assert_int_equal(deaths[i].cause, i % 2 ? WEIR_FAILED : WEIR_IO);
        if (i > 0)
            assert_true(deaths[i - 1].at_ns > deaths[i].at_ns);
    }
    assert_int_equal(world_row(world, "a").last_death_ns, deaths[0].at_ns);
    finish(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sixth_restart_in_ten_seconds_escalates),
        cmocka_unit_test(restart_just_outside_the_period_does_not_escalate),
        cmocka_unit_test(intensity_zero_escalates_at_once),
        cmocka_unit_test(intensity_per_child_gives_up_that_child_alone),
        cmocka_unit_test(unlimited_intensity_never_escalates),
        cmocka_unit_test(backoff_doubles_from_min_to_max_and_resets_after_quiet),
        cmocka_unit_test(jitter_shortens_the_backoff_within_its_bounds),
        cmocka_unit_test(group_waits_out_the_backoff_before_it_starts),
        cmocka_unit_test(waiting_child_can_be_restarted_at_once_or_stopped),
        cmocka_unit_test(waiting_child_that_is_to_hear_of_its_end_does),
        cmocka_unit_test(child_that_fails_before_it_hears_of_its_end_does_if_it_is_to),
        cmocka_unit_test(child_that_hears_of_its_end_and_fails_on_is_killed),
        cmocka_unit_test(stubborn_child_is_killed_after_its_shutdown_time),
        cmocka_unit_test(brutal_child_is_not_asked),
        cmocka_unit_test(infinite_shutdown_waits_as_long_as_it_takes),
        cmocka_unit_test(child_that_fails_while_stopping_is_ended),
        cmocka_unit_test(restart_keeps_handle_mailbox_and_state),
        cmocka_unit_test(poison_is_a_dead_letter_after_three_attempts_and_the_actor_goes_on),
        cmocka_unit_test(history_keeps_the_newest_deaths_newest_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
