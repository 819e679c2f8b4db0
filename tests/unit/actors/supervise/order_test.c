/* Strategies, restart types and the order of start and stop. */
#include "tests/unit/actors/supervise/world.h"

/* A root over children "a" to "d" of one restart type. */
static weir_actor root_spawn(struct world *world, struct supervisor_config config, enum restart_type restart)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    struct child_args args[4];
    struct child_spec specs[4];
    for (int i = 0; i < 4; i++) {
        specs[i] = child_of(world, &args[i], names[i]);
        specs[i].restart = restart;
    }
    config.name = "root";
    config.children = specs;
    config.child_count = 4;
    weir_actor root;
    assert_int_equal(supervisor_spawn(world->tree, WEIR_ACTOR_NONE, &config, &root), WEIR_OK);
    world_run(world);
    assert_true(supervision_is_ready(world->tree));
    assert_journal(world, "+a+b+c+d");
    journal_clear(world);
    return root;
}

static void shutdown_and_check(struct world *world, const char *expected)
{
    journal_clear(world);
    supervision_shutdown(world->tree);
    world_run(world);
    assert_true(supervision_is_down(world->tree));
    assert_journal(world, expected);
    assert_int_equal(world->downs, 1);
    assert_int_equal(world->down_cause, WEIR_OK);
    world_destroy(world);
}

static void children_start_in_order_and_stop_in_reverse(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world *world = world_create(seed);
        root_spawn(world, (struct supervisor_config){0}, RESTART_PERMANENT);
        shutdown_and_check(world, "-d-c-b-a");
    }
}

static void one_for_one_restarts_only_the_child_that_failed(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    root_spawn(world, (struct supervisor_config){.strategy = SUPERVISOR_ONE_FOR_ONE}, RESTART_PERMANENT);
    world_order(world, "b", TAG_FAIL, 1);
    assert_journal(world, "~b");
    world_order(world, "b", TAG_EXIT, WEIR_IO);
    assert_journal(world, "~b!b+b");
    assert_int_equal(world_row(world, "b").restarts, 2);
    assert_int_equal(world_row(world, "b").last_cause, WEIR_IO);
    shutdown_and_check(world, "-d-c-b-a");
}

static void one_for_all_restarts_every_child_in_order(void **state)
{
    (void)state;
    struct world *world = world_create(2);
    root_spawn(world, (struct supervisor_config){.strategy = SUPERVISOR_ONE_FOR_ALL}, RESTART_PERMANENT);
    world_order(world, "b", TAG_FAIL, 1);
    assert_journal(world, "-d-c!b-a+a+b+c+d");
    journal_clear(world);
    world_order(world, "c", TAG_EXIT, WEIR_IO);
    assert_journal(world, "!c-d-b-a+a+b+c+d");
    shutdown_and_check(world, "-d-c-b-a");
}

static void rest_for_one_restarts_the_failed_child_and_those_after_it(void **state)
{
    (void)state;
    struct world *world = world_create(3);
    root_spawn(world, (struct supervisor_config){.strategy = SUPERVISOR_REST_FOR_ONE}, RESTART_PERMANENT);
    weir_actor a = world_find(world, "a");
    world_order(world, "c", TAG_FAIL, 1);
    assert_journal(world, "-d!c+c+d");
    assert_true(actor_is_same(a, world_find(world, "a")));
    journal_clear(world);
    world_order(world, "d", TAG_EXIT, WEIR_OK);
    assert_journal(world, "-d+d");
    shutdown_and_check(world, "-d-c-b-a");
}

static void transient_child_is_restarted_unless_it_ended_in_order(void **state)
{
    (void)state;
    struct world *world = world_create(4);
    root_spawn(world, (struct supervisor_config){0}, RESTART_TRANSIENT);
    world_order(world, "a", TAG_EXIT, WEIR_OK);
    world_order(world, "b", TAG_EXIT, WEIR_CLOSED);
    world_order(world, "c", TAG_EXIT, WEIR_FAILED);
    assert_journal(world, "-a!b!c+c");
    assert_string_equal(world_row(world, "a").state, "down");
    assert_string_equal(world_row(world, "b").state, "down");
    assert_string_equal(world_row(world, "c").state, "up");
    shutdown_and_check(world, "-d-c");
}

static void temporary_child_is_never_restarted(void **state)
{
    (void)state;
    struct world *world = world_create(5);
    root_spawn(world, (struct supervisor_config){0}, RESTART_TEMPORARY);
    world_order(world, "a", TAG_EXIT, WEIR_FAILED);
    world_order(world, "b", TAG_FAIL, 1);
    assert_journal(world, "!a!b");
    assert_string_equal(world_row(world, "b").state, "down");
    shutdown_and_check(world, "-d-c");
}

static void permanent_child_is_restarted_even_after_an_orderly_end(void **state)
{
    (void)state;
    struct world *world = world_create(6);
    root_spawn(world, (struct supervisor_config){0}, RESTART_PERMANENT);
    world_order(world, "a", TAG_EXIT, WEIR_OK);
    assert_journal(world, "-a+a");
    shutdown_and_check(world, "-d-c-b-a");
}

static void group_restart_leaves_temporary_children_out_and_takes_ended_ones_in(void **state)
{
    (void)state;
    struct world *world = world_create(7);
    struct child_args args[3];
    struct child_spec specs[3] = {child_of(world, &args[0], "a"), child_of(world, &args[1], "b"),
                                  child_of(world, &args[2], "c")};
    specs[0].restart = RESTART_TRANSIENT;
    specs[1].restart = RESTART_TEMPORARY;
    struct supervisor_config config = {
        .name = "root", .strategy = SUPERVISOR_ONE_FOR_ALL, .children = specs, .child_count = 3};
    weir_actor root;
    assert_int_equal(supervisor_spawn(world->tree, WEIR_ACTOR_NONE, &config, &root), WEIR_OK);
    world_run(world);
    world_order(world, "a", TAG_EXIT, WEIR_OK);
    assert_journal(world, "+a+b+c-a");
    journal_clear(world);
    world_order(world, "c", TAG_FAIL, 1);
    assert_journal(world, "!c-b+a+c");
    shutdown_and_check(world, "-c-a");
}

static void failed_first_start_stops_those_started_in_reverse_and_fails_the_supervisor(void **state)
{
    (void)state;
    struct world *world = world_create(8);
    static const char *const names[] = {"a", "b", "c", "d"};
    struct child_args args[4];
    struct child_spec specs[4];
    for (int i = 0; i < 4; i++)
        specs[i] = child_of(world, &args[i], names[i]);
    world->refuse_starts['c'] = 1;
    struct supervisor_config config = {.name = "root", .children = specs, .child_count = 4};
    weir_actor root;
    assert_int_equal(supervisor_spawn(world->tree, WEIR_ACTOR_NONE, &config, &root), WEIR_OK);
    world_run(world);
    assert_journal(world, "+a+b?c-b-a");
    assert_true(supervision_is_down(world->tree));
    assert_int_equal(world->down_cause, WEIR_IO);
    assert_int_equal(supervision_wait_ready(world->tree, 0), WEIR_IO);
    world_destroy(world);
}

static void failed_start_in_a_restart_is_tried_again(void **state)
{
    (void)state;
    for (int strategy = SUPERVISOR_ONE_FOR_ONE; strategy <= SUPERVISOR_REST_FOR_ONE; strategy++) {
        struct world *world = world_create(9);
        root_spawn(world, (struct supervisor_config){.strategy = (enum supervisor_strategy)strategy},
                   RESTART_PERMANENT);
        world->refuse_starts['b'] = 2;
        world_order(world, "b", TAG_EXIT, WEIR_IO);
        static const char *const expected[] = {"!b?b?b+b", "!b-d-c-a+a?b-a+a?b-a+a+b+c+d", "!b-d-c?b?b+b+c+d"};
        assert_journal(world, expected[strategy]);
        assert_int_equal(world_row(world, "b").restarts, 3);
        shutdown_and_check(world, "-d-c-b-a");
    }
}

static void shutdown_while_a_group_restarts_ends_what_is_there(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct world *world = world_create(seed);
        root_spawn(world, (struct supervisor_config){.strategy = SUPERVISOR_ONE_FOR_ALL}, RESTART_PERMANENT);
        world_send(world, world_find(world, "c"), TAG_EXIT, WEIR_IO);
        for (uint64_t steps = seed % 23; steps > 0; steps--)
            runtime_step(world->runtime);
        supervision_shutdown(world->tree);
        world_run(world);
        assert_true(supervision_is_down(world->tree));
        int balance = 0;
        for (size_t i = 0; i < world->journal_size; i += 2)
            balance += world->journal[i] == '+' ? 1 : -1;
        assert_int_equal(balance, -4); /* the four of root_spawn were taken out of the journal */
        world_destroy(world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(children_start_in_order_and_stop_in_reverse),
        cmocka_unit_test(one_for_one_restarts_only_the_child_that_failed),
        cmocka_unit_test(one_for_all_restarts_every_child_in_order),
        cmocka_unit_test(rest_for_one_restarts_the_failed_child_and_those_after_it),
        cmocka_unit_test(transient_child_is_restarted_unless_it_ended_in_order),
        cmocka_unit_test(temporary_child_is_never_restarted),
        cmocka_unit_test(permanent_child_is_restarted_even_after_an_orderly_end),
        cmocka_unit_test(group_restart_leaves_temporary_children_out_and_takes_ended_ones_in),
        cmocka_unit_test(failed_first_start_stops_those_started_in_reverse_and_fails_the_supervisor),
        cmocka_unit_test(failed_start_in_a_restart_is_tried_again),
        cmocka_unit_test(shutdown_while_a_group_restarts_ends_what_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
