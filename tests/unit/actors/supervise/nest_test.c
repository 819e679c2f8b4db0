/* Supervisors below supervisors: readiness, escalation, kills; and what operators order. */
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

/* root (one_for_one) over a, "inner" (of the given strategy) over x and y, and b. */
static weir_actor nest_spawn(struct world *world, struct supervisor_config inner, enum supervisor_strategy strategy)
{
    struct child_args args[4];
    struct child_spec below[2] = {child_of(world, &args[0], "x"), child_of(world, &args[1], "y")};
    inner.name = "inner";
    inner.children = below;
    inner.child_count = 2;
    struct child_spec specs[3] = {
        child_of(world, &args[2], "a"), {.name = "inner", .supervisor = &inner}, child_of(world, &args[3], "b")};
    struct supervisor_config config = {.name = "root", .strategy = strategy, .children = specs, .child_count = 3};
    weir_actor root;
    assert_int_equal(supervisor_spawn(world->tree, WEIR_ACTOR_NONE, &config, &root), WEIR_OK);
    world_run(world);
    return root;
}

static void nested_supervisor_is_ready_when_its_children_are(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct world *world = world_create(seed);
        nest_spawn(world, (struct supervisor_config){0}, SUPERVISOR_ONE_FOR_ONE);
        assert_journal(world, "+a+x+y+b");
        journal_clear(world);
        supervision_shutdown(world->tree);
        world_run(world);
        assert_journal(world, "-b-y-x-a");
        assert_true(supervision_is_down(world->tree));
        world_destroy(world);
    }
}

static void nested_supervisor_that_regroups_during_its_start_is_still_announced(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct world *world = world_create(seed);
        struct child_args args[3];
        struct child_spec below[2] = {child_of(world, &args[0], "x"), child_of(world, &args[1], "y")};
        struct supervisor_config inner = {
            .name = "inner", .strategy = SUPERVISOR_ONE_FOR_ALL, .children = below, .child_count = 2};
        struct child_spec specs[2] = {{.supervisor = &inner}, child_of(world, &args[2], "b")};
        struct supervisor_config config = {.name = "root", .children = specs, .child_count = 2};
        weir_actor root, x = WEIR_ACTOR_NONE;
        assert_int_equal(supervisor_spawn(world->tree, WEIR_ACTOR_NONE, &config, &root), WEIR_OK);
        while (supervision_find(world->tree, "x", &x) != WEIR_OK || actor_is_none(x))
            assert_true(runtime_step(world->runtime));
        world_send(world, x, TAG_FAIL, 1);
        world_run(world);
        assert_string_equal(world_row(world, "inner").state, "up");
        assert_true(supervision_is_ready(world->tree));
        finish(world);
    }
}

static void failed_start_below_stops_what_started_above(void **state)
{
    (void)state;
    struct world *world = world_create(17);
    world->refuse_starts['y'] = 1;
    nest_spawn(world, (struct supervisor_config){0}, SUPERVISOR_ONE_FOR_ONE);
    assert_journal(world, "+a+x?y-x-a");
    assert_int_equal(world->down_cause, WEIR_IO);
    world_destroy(world);
}

static void escalation_restarts_the_supervisor_in_place_with_fresh_children(void **state)
{
    (void)state;
    struct world *world = world_create(18);
    nest_spawn(world, (struct supervisor_config){.intensity = 1, .period_ms = 1000}, SUPERVISOR_ONE_FOR_ONE);
    weir_actor inner = world_find(world, "inner");
    weir_actor x = world_find(world, "x");
    world_order(world, "x", TAG_FAIL, 1);
    journal_clear(world);
    world_order(world, "x", TAG_FAIL, 1);
    assert_journal(world, "-y!x+x+y");
    assert_true(actor_is_same(inner, world_find(world, "inner")));
    assert_false(actor_is_same(x, world_find(world, "x")));
    assert_int_equal(world_row(world, "inner").restarts, 1);
    assert_int_equal(world_row(world, "inner").last_cause, WEIR_FAILED);
    /* Its window is empty again. */
    world_order(world, "x", TAG_FAIL, 1);
    assert_int_equal(world_row(world, "inner").restarts, 1);
    finish(world);
}

static void escalation_climbs_to_the_root(void **state)
{
    (void)state;
    struct world *world = world_create(19);
    nest_spawn(world, (struct supervisor_config){.intensity = 0, .period_ms = 1000}, SUPERVISOR_ONE_FOR_ONE);
    for (int i = 0; i < 5; i++)
        world_order(world, "x", TAG_EXIT, WEIR_IO);
    assert_int_equal(world_row(world, "inner").restarts, 5);
    assert_true(supervision_is_ready(world->tree));
    journal_clear(world);
    world_order(world, "x", TAG_EXIT, WEIR_IO);
    assert_journal(world, "!x-y-b-a");
    assert_true(supervision_is_down(world->tree));
    assert_int_equal(world->down_cause, WEIR_IO);
    world_destroy(world);
}

static void failed_start_in_an_escalation_is_the_parents_to_retry(void **state)
{
    (void)state;
    struct world *world = world_create(20);
    nest_spawn(world, (struct supervisor_config){.intensity = 0, .period_ms = 1000}, SUPERVISOR_ONE_FOR_ONE);
    world->refuse_starts['y'] = 2;
    world_order(world, "x", TAG_EXIT, WEIR_IO);
    assert_string_equal(world_row(world, "inner").state, "up");
    assert_string_equal(world_row(world, "y").state, "up");
    assert_int_equal(world_row(world, "inner").restarts, 3);
    finish(world);
}

static void group_restart_takes_nested_supervisors_with_it(void **state)
{
    (void)state;
    struct world *world = world_create(21);
    nest_spawn(world, (struct supervisor_config){0}, SUPERVISOR_ONE_FOR_ALL);
    journal_clear(world);
    world_order(world, "a", TAG_FAIL, 1);
    assert_journal(world, "-b-y-x!a+a+x+y+b");
    finish(world);
}

static void operator_restart_stops_and_spawns_afresh_without_counting(void **state)
{
    (void)state;
    struct world *world = world_create(22);
    nest_spawn(world, (struct supervisor_config){.intensity = 0, .period_ms = 1000}, SUPERVISOR_ONE_FOR_ONE);
    journal_clear(world);
    assert_int_equal(supervisor_restart(world->tree, world_find(world, "x")), WEIR_OK);
    world_run(world);
    assert_journal(world, "-x+x");
    assert_int_equal(world_row(world, "x").restarts, 0);
    journal_clear(world);
    assert_int_equal(supervisor_restart_named(world->tree, "inner"), WEIR_OK);
    world_run(world);
    assert_journal(world, "-y-x+x+y");
    assert_int_equal(supervisor_restart_named(world->tree, "root"), WEIR_FORBIDDEN);
    assert_int_equal(supervisor_restart_named(world->tree, "nobody"), WEIR_NOT_FOUND);
    finish(world);
}

static void stopped_child_stays_known_until_it_is_deleted(void **state)
{
    (void)state;
    struct world *world = world_create(23);
    weir_actor root = root_spawn(world, (struct supervisor_config){0}, ab, 2);
    assert_int_equal(supervisor_child_delete(world->tree, root, "a"), WEIR_BUSY);
    assert_int_equal(supervisor_child_stop(world->tree, world_find(world, "a")), WEIR_OK);
    world_run(world);
    assert_journal(world, "-a");
    assert_string_equal(world_row(world, "a").state, "down");
    assert_int_equal(supervisor_restart_named(world->tree, "a"), WEIR_OK);
    world_run(world);
    assert_journal(world, "-a+a");
    assert_int_equal(supervisor_child_stop(world->tree, world_find(world, "a")), WEIR_OK);
    world_run(world);
    assert_int_equal(supervisor_child_delete(world->tree, root, "a"), WEIR_OK);
    assert_int_equal(supervisor_child_delete(world->tree, root, "a"), WEIR_NOT_FOUND);
    finish(world);
}

static void stopping_the_root_stops_everything(void **state)
{
    (void)state;
    struct world *world = world_create(24);
    weir_actor root = root_spawn(world, (struct supervisor_config){0}, ab, 2);
    assert_int_equal(supervisor_restart(world->tree, root), WEIR_FORBIDDEN);
    assert_int_equal(supervisor_child_stop(world->tree, root), WEIR_OK);
    world_run(world);
    assert_journal(world, "-b-a");
    assert_true(supervision_is_down(world->tree));
    assert_int_equal(world->down_cause, WEIR_OK);
    assert_int_equal(supervisor_child_stop(world->tree, root), WEIR_STALE);
    assert_int_equal(supervisor_restart(world->tree, root), WEIR_STALE);
    world_destroy(world);
}

static void killed_supervisor_takes_its_children_along_and_is_respawned(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct world *world = world_create(seed);
        nest_spawn(world, (struct supervisor_config){0}, SUPERVISOR_ONE_FOR_ONE);
        journal_clear(world);
        assert_int_equal(actor_stop(world->runtime, world_find(world, "inner"), WEIR_IO), WEIR_OK);
        world_run(world);
        int ends = 0, starts = 0;
        for (size_t i = 0; i < world->journal_size; i += 2) {
            ends += world->journal[i] == '!';
            starts += world->journal[i] == '+';
        }
        assert_int_equal(ends, 2);
        assert_int_equal(starts, 2);
        assert_string_equal(world_row(world, "y").state, "up");
        finish(world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nested_supervisor_is_ready_when_its_children_are),
        cmocka_unit_test(nested_supervisor_that_regroups_during_its_start_is_still_announced),
        cmocka_unit_test(failed_start_below_stops_what_started_above),
        cmocka_unit_test(escalation_restarts_the_supervisor_in_place_with_fresh_children),
        cmocka_unit_test(escalation_climbs_to_the_root),
        cmocka_unit_test(failed_start_in_an_escalation_is_the_parents_to_retry),
        cmocka_unit_test(group_restart_takes_nested_supervisors_with_it),
        cmocka_unit_test(operator_restart_stops_and_spawns_afresh_without_counting),
        cmocka_unit_test(stopped_child_stays_known_until_it_is_deleted),
        cmocka_unit_test(stopping_the_root_stops_everything),
        cmocka_unit_test(killed_supervisor_takes_its_children_along_and_is_respawned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
