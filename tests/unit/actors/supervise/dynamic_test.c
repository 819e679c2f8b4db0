/* Children that come and go: started on demand, adopted, in great number; and what operators see of them. */
#include "tests/unit/actors/supervise/world.h"

static weir_actor root_spawn(struct world *world, struct supervisor_config config)
{
    config.name = "root";
    weir_actor root;
    assert_int_equal(supervisor_spawn(world->tree, WEIR_ACTOR_NONE, &config, &root), WEIR_OK);
    world_run(world);
    assert_true(supervision_is_ready(world->tree));
    return root;
}

static void finish(struct world *world)
{
    supervision_shutdown(world->tree);
    world_run(world);
    assert_true(supervision_is_down(world->tree));
    world_destroy(world);
}

static weir_actor start(struct world *world, weir_actor supervisor, const char *name, enum restart_type restart)
{
    struct child_args args;
    struct child_spec spec = child_of(world, &args, name);
    spec.restart = restart;
    weir_actor actor;
    assert_int_equal(supervisor_child_start(world->tree, supervisor, &spec, WEIR_ACTOR_NONE, 0, &actor), WEIR_OK);
    return actor;
}

/* Spawns as a gateway would: directly, with a supervisor's handle. */
static weir_actor spawn_under(struct world *world, weir_actor supervisor, char name)
{
    struct child_args args = {world, name};
    struct actor_options options = {.supervisor = supervisor, .label = "adopted"};
    weir_actor actor;
    assert_int_equal(actor_spawn(world->runtime, &child_behaviour, &args, sizeof args, &options, &actor), WEIR_OK);
    return actor;
}

struct listener_state {
    uint64_t *seen; /* word, actor, error of the last SUPERVISOR_STARTED, and how many */
};

static enum weir_error listener_on_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    memcpy(state, args, sizeof(struct listener_state));
    return WEIR_OK;
}

static enum weir_error listener_on_message(struct turn *turn, void *state, struct message *message)
{
    (void)turn;
    uint64_t *seen = ((struct listener_state *)state)->seen;
    if (message->tag == SUPERVISOR_STARTED) {
        memcpy(seen, message->word, sizeof message->word);
        seen[3]++;
    }
    return WEIR_OK;
}

static void asker_hears_once_that_its_child_is_ready_or_failed_to_start(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    weir_actor root = root_spawn(world, (struct supervisor_config){.dynamic_max = 10});
    static const struct behaviour listener = {.name = "listener",
                                              .state_size = sizeof(struct listener_state),
                                              .on_start = listener_on_start,
                                              .on_message = listener_on_message};
    uint64_t seen[4] = {0};
    uint64_t *pointer = seen;
    weir_actor asker, child;
    assert_int_equal(actor_spawn(world->runtime, &listener, &pointer, sizeof pointer, NULL, &asker), WEIR_OK);
    struct child_args args;
    struct child_spec spec = child_of(world, &args, "a");
    assert_int_equal(supervisor_child_start(world->tree, root, &spec, asker, 42, &child), WEIR_OK);
    world_run(world);
    assert_int_equal(seen[0], 42);
    assert_int_equal(seen[1], child.bits);
    assert_int_equal(seen[2], WEIR_OK);
    world_send(world, child, TAG_EXIT, WEIR_IO);
    world_run(world);
    assert_int_equal(seen[3], 1);
    world->refuse_starts['a'] = 1;
    assert_int_equal(supervisor_child_start(world->tree, root, &spec, asker, 43, &child), WEIR_OK);
    world_run(world);
    assert_int_equal(seen[0], 43);
    assert_int_equal(seen[2], WEIR_IO);
    assert_int_equal(seen[3], 2);
    assert_int_equal(world_row(world, "root").children, 1);
    finish(world);
}

static void dynamic_child_is_restarted_from_its_spec_and_forgotten_when_it_is_over(void **state)
{
    (void)state;
    struct world *world = world_create(2);
    weir_actor root = root_spawn(world, (struct supervisor_config){.dynamic_max = 10});
    weir_actor a = start(world, root, "a", RESTART_TRANSIENT);
    world_run(world);
    world_send(world, a, TAG_EXIT, WEIR_IO);
    world_run(world);
    assert_journal(world, "+a!a+a");
    world_order(world, "a", TAG_EXIT, WEIR_OK);
    weir_actor gone;
    assert_int_equal(supervision_find(world->tree, "a", &gone), WEIR_NOT_FOUND);
    assert_int_equal(supervisor_child_stop(world->tree, a), WEIR_STALE);
    a = start(world, root, "a", RESTART_PERMANENT);
    world_run(world);
    assert_int_equal(supervisor_child_stop(world->tree, a), WEIR_OK);
    world_run(world);
    assert_int_equal(supervision_find(world->tree, "a", &gone), WEIR_NOT_FOUND);
    assert_int_equal(world_row(world, "root").children, 0);
    finish(world);
}

static void starting_is_refused_by_bound_by_phase_and_for_strangers(void **state)
{
    (void)state;
    struct world *world = world_create(3);
    weir_actor root =
        root_spawn(world, (struct supervisor_config){.dynamic_max = 1, .intensity = 5, .period_ms = 1000});
    weir_actor a = start(world, root, "a", RESTART_PERMANENT);
    world->is_stubborn['a'] = true;
    world_run(world);
    struct child_args args;
    struct child_spec spec = child_of(world, &args, "b");
    assert_int_equal(supervisor_child_start(world->tree, root, &spec, WEIR_ACTOR_NONE, 0, NULL), WEIR_FULL);
    assert_int_equal(supervisor_child_start(world->tree, a, &spec, WEIR_ACTOR_NONE, 0, NULL), WEIR_STALE);
    struct supervisor_config bad = {.backoff_min_ms = 2, .backoff_max_ms = 1};
    spec = (struct child_spec){.supervisor = &bad};
    supervision_shutdown(world->tree);
    world_run(world);
    assert_int_equal(supervisor_child_start(world->tree, root, &spec, WEIR_ACTOR_NONE, 0, NULL), WEIR_CLOSED);
    world_wait_ms(world, SUPERVISOR_SHUTDOWN_MS);
    assert_true(supervision_is_down(world->tree));
    assert_int_equal(supervisor_child_start(world->tree, root, &spec, WEIR_ACTOR_NONE, 0, NULL), WEIR_STALE);
    world_destroy(world);
}

static void malformed_configurations_are_refused(void **state)
{
    (void)state;
    struct world *world = world_create(4);
    struct child_args args;
    struct child_spec twice[2] = {child_of(world, &args, "a"), child_of(world, &args, "a")};
    struct child_spec neither = {.name = "x"};
    const struct supervisor_config bad[] = {
        {.backoff_min_ms = 2, .backoff_max_ms = 1}, {.backoff_jitter_percent = 101},
        {.strategy = (enum supervisor_strategy)7},  {.intensity = SUPERVISOR_INTENSITY_MAX + 1, .period_ms = 1},
        {.children = twice, .child_count = 2},      {.children = &neither, .child_count = 1},
    };
    weir_actor root;
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(supervisor_spawn(world->tree, WEIR_ACTOR_NONE, &bad[i], &root), WEIR_BAD_REQUEST);
    root = root_spawn(world, (struct supervisor_config){0});
    assert_int_equal(supervisor_spawn(world->tree, WEIR_ACTOR_NONE, &(struct supervisor_config){0}, &root),
                     WEIR_EXISTS);
    finish(world);
}

static void actor_spawned_elsewhere_is_adopted_and_restarted_in_place(void **state)
{
    (void)state;
    struct world *world = world_create(5);
    struct supervisor_config config = {.dynamic_max = 2, .adopt = {.is_allowed = true, .restart = RESTART_PERMANENT}};
    weir_actor root = root_spawn(world, config);
    weir_actor a = spawn_under(world, root, 'a');
    world_run(world);
    assert_string_equal(world_row(world, "adopted").kind, "child");
    assert_true(actor_is_same(world_row(world, "adopted").actor, a));
    world_send(world, a, TAG_FAIL, 1);
    world_run(world);
    assert_journal(world, "+a~a");
    assert_int_equal(supervisor_restart(world->tree, a), WEIR_FORBIDDEN);
    world_send(world, a, TAG_EXIT, WEIR_IO);
    world_run(world);
    assert_journal(world, "+a~a!a");
    assert_int_equal(world_row(world, "root").children, 0);
    finish(world);
}

static void adopted_children_beyond_the_bound_or_unwanted_are_stopped(void **state)
{
    (void)state;
    struct world *world = world_create(6);
    struct supervisor_config config = {.dynamic_max = 1, .adopt = {.is_allowed = true}};
    weir_actor root = root_spawn(world, config);
    spawn_under(world, root, 'a');
    world_run(world);
    spawn_under(world, root, 'b');
    world_run(world);
    assert_journal(world, "+a+b!b");
    finish(world);

    world = world_create(7);
    root = root_spawn(world, (struct supervisor_config){.dynamic_max = 1});
    spawn_under(world, root, 'a');
    world_run(world);
    assert_journal(world, "+a!a");
    finish(world);
}

static void adopted_temporary_child_ends_with_its_failure(void **state)
{
    (void)state;
    struct world *world = world_create(8);
    struct supervisor_config config = {.dynamic_max = 9, .adopt = {.is_allowed = true, .restart = RESTART_TEMPORARY}};
    weir_actor root = root_spawn(world, config);
    weir_actor a = spawn_under(world, root, 'a');
    world_run(world);
    world_send(world, a, TAG_FAIL, 1);
    world_run(world);
    assert_journal(world, "+a!a");
    assert_int_equal(world_row(world, "root").children, 0);
    finish(world);
}

static void actor_that_is_adopted_during_the_stop_is_stopped_too(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct world *world = world_create(seed);
        struct supervisor_config config = {.dynamic_max = 9, .adopt = {.is_allowed = true}};
        weir_actor root = root_spawn(world, config);
        spawn_under(world, root, 'a');
        world_run(world);
        world->is_stubborn['a'] = true;
        supervision_shutdown(world->tree);
        spawn_under(world, root, 'b');
        world_run(world);
        world_wait_ms(world, SUPERVISOR_SHUTDOWN_MS);
        assert_true(supervision_is_down(world->tree));
        assert_non_null(strstr(world->journal, "b"));
        struct runtime_status status;
        runtime_status(world->runtime, &status);
        assert_int_equal(status.actors, 0);
        world_destroy(world);
    }
}

static void tree_built_before_the_runtime_runs_is_configured_and_survives_escalation(void **state)
{
    (void)state;
    struct world *world = world_create(9);
    struct supervisor_config config = {.name = "root"};
    weir_actor root, inner;
    assert_int_equal(supervisor_spawn(world->tree, WEIR_ACTOR_NONE, &config, &root), WEIR_OK);
    config = (struct supervisor_config){.name = "inner", .intensity = 0, .period_ms = 1000, .dynamic_max = 10};
    assert_int_equal(supervisor_spawn(world->tree, root, &config, &inner), WEIR_OK);
    start(world, inner, "a", RESTART_PERMANENT);
    world_run(world);
    assert_true(supervision_is_ready(world->tree));
    weir_actor b = start(world, inner, "b", RESTART_PERMANENT);
    world_run(world);
    assert_false(world_row(world, "a").is_dynamic);
    assert_true(world_row(world, "b").is_dynamic);
    world_send(world, b, TAG_EXIT, WEIR_IO);
    world_run(world);
    assert_journal(world, "+a+b!b-a+a");
    assert_true(actor_is_same(inner, world_find(world, "inner")));
    finish(world);
}

static bool count_row(const struct supervision_row *row, void *context)
{
    (void)row;
    ++*(size_t *)context;
    return true;
}

static void ten_thousand_children_are_found_restarted_and_stopped(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    struct world *world = world_create(10);
    struct supervisor_config config = {.dynamic_max = COUNT,
                                       .intensity = SUPERVISOR_INTENSITY_UNLIMITED,
                                       .period_ms = 1,
                                       .adopt = {.is_allowed = true}};
    weir_actor root = root_spawn(world, config);
    struct child_args args;
    struct child_spec spec = child_of(world, &args, "a");
    weir_actor *children = calloc(COUNT, sizeof *children);
    for (int i = 0; i < COUNT; i++) {
        if (i % 2)
            children[i] = spawn_under(world, root, 'a');
        else
            assert_int_equal(supervisor_child_start(world->tree, root, &spec, WEIR_ACTOR_NONE, 0, &children[i]),
                             WEIR_OK);
    }
    world_run(world);
    size_t rows = 0;
    supervision_each(world->tree, count_row, &rows);
    assert_int_equal(rows, COUNT + 1);
    for (int i = 0; i < COUNT; i++)
        world_send(world, children[i], TAG_FAIL, 1);
    world_run(world);
    struct supervision_totals totals;
    supervision_totals(world->tree, &totals);
    assert_int_equal(totals.restarts, COUNT);
    assert_int_equal(totals.adopted, COUNT / 2);
    free(children);
    supervision_shutdown(world->tree);
    world_run(world);
    assert_true(supervision_is_down(world->tree));
    supervision_totals(world->tree, &totals);
    assert_int_equal(totals.children, 1);
    world_destroy(world);
}

struct walk {
    struct world *world;
    weir_actor root;
    size_t rows;
};

/* Takes away what was just seen and what comes next, and adds one. */
static bool disturb(const struct supervision_row *row, void *context)
{
    struct walk *walk = context;
    walk->rows++;
    if (!row->is_dynamic)
        return true;
    assert_int_equal(supervisor_child_stop(walk->world->tree, row->actor), WEIR_OK);
    world_run(walk->world);
    return walk->rows < 100;
}

static size_t blocks_live(struct world *world)
{
    struct arena_usage usage;
    arena_usage(world->arena, &usage);
    return usage.blocks_live;
}

/* A spec that differs from the first in one thing, the i-th. */
static struct child_spec spec_differing(struct world *world, struct child_args *args, int i)
{
    struct child_spec spec = child_of(world, args, i == 0 ? "b" : "a");
    switch (i) {
    case 1: args->name = 'z'; break; /* the arguments; the name stays */
    case 2: spec.options.mailbox_max = 7; break;
    case 3: spec.options.attempts_max = 7; break;
    case 4: spec.options.label = "labelled"; break;
    case 5: spec.restart = RESTART_TEMPORARY; break;
    case 6: spec.shutdown_ms = 7; break;
    default: break;
    }
    return spec;
}

static weir_actor start_spec(struct world *world, weir_actor supervisor, const struct child_spec *spec)
{
    weir_actor actor;
    assert_int_equal(supervisor_child_start(world->tree, supervisor, spec, WEIR_ACTOR_NONE, 0, &actor), WEIR_OK);
    return actor;
}

static void children_of_one_spec_share_a_copy_and_those_of_another_do_not(void **state)
{
    (void)state;
    enum { SAME = 1000, OTHERS = 7 };
    struct world *world = world_create(10);
    weir_actor root = root_spawn(world, (struct supervisor_config){.dynamic_max = 2 * SAME});
    struct child_args args;
    memset(&args, 0, sizeof args); /* what is between its members counts as well */
    struct child_spec spec = child_of(world, &args, "a");
    weir_actor first = start_spec(world, root, &spec);
    size_t before = blocks_live(world);
    for (int i = 1; i < SAME; i++)
        start_spec(world, root, &spec);
    assert_int_equal(blocks_live(world), before);
    weir_actor others[OTHERS];
    for (int i = 0; i < OTHERS; i++) {
        spec = spec_differing(world, &args, i);
        others[i] = start_spec(world, root, &spec);
        assert_int_equal(blocks_live(world), before + (size_t)i + 1);
    }
    world_run(world);
    /* The copy outlives the child that brought it, and goes with the last that has it. */
    assert_int_equal(supervisor_child_stop(world->tree, first), WEIR_OK);
    assert_int_equal(supervisor_child_stop(world->tree, others[1]), WEIR_OK);
    world_run(world);
    assert_int_equal(blocks_live(world), before + OTHERS - 1);
    weir_actor again = world_find(world, "a");
    assert_int_equal(supervisor_restart(world->tree, again), WEIR_OK);
    world_run(world);
    assert_int_equal(blocks_live(world), before + OTHERS - 1);
    finish(world);
}

static void tree_can_change_while_it_is_read(void **state)
{
    (void)state;
    struct world *world = world_create(11);
    struct walk walk = {.world = world, .root = root_spawn(world, (struct supervisor_config){.dynamic_max = 50})};
    for (int i = 0; i < 50; i++)
        start(world, walk.root, "a", RESTART_PERMANENT);
    world_run(world);
    supervision_each(world->tree, disturb, &walk);
    assert_int_equal(walk.rows, 51);
    assert_int_equal(world_row(world, "root").children, 0);
    finish(world);
}

static bool append_depth(const struct supervision_row *row, void *context)
{
    char *text = context;
    snprintf(text + strlen(text), 200 - strlen(text), "%u%s ", row->depth, row->name);
    return true;
}

static void rows_come_depth_first_in_start_order(void **state)
{
    (void)state;
    struct world *world = world_create(12);
    struct child_args args[3];
    struct child_spec below[1] = {child_of(world, &args[0], "x")};
    struct supervisor_config inner = {.name = "inner", .children = below, .child_count = 1};
    struct supervisor_config empty = {.name = "empty"};
    struct child_spec specs[4] = {
        child_of(world, &args[1], "a"), {.supervisor = &inner}, {.supervisor = &empty}, child_of(world, &args[2], "b")};
    root_spawn(world, (struct supervisor_config){.children = specs, .child_count = 4});
    char text[200] = "";
    supervision_each(world->tree, append_depth, text);
    assert_string_equal(text, "0root 1a 1inner 2x 1empty 1b ");
    assert_string_equal(world_row(world, "inner").kind, "one_for_one");
    assert_string_equal(world_row(world, "inner").phase, "running");
    finish(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asker_hears_once_that_its_child_is_ready_or_failed_to_start),
        cmocka_unit_test(dynamic_child_is_restarted_from_its_spec_and_forgotten_when_it_is_over),
        cmocka_unit_test(starting_is_refused_by_bound_by_phase_and_for_strangers),
        cmocka_unit_test(malformed_configurations_are_refused),
        cmocka_unit_test(actor_spawned_elsewhere_is_adopted_and_restarted_in_place),
        cmocka_unit_test(adopted_children_beyond_the_bound_or_unwanted_are_stopped),
        cmocka_unit_test(adopted_temporary_child_ends_with_its_failure),
        cmocka_unit_test(actor_that_is_adopted_during_the_stop_is_stopped_too),
        cmocka_unit_test(tree_built_before_the_runtime_runs_is_configured_and_survives_escalation),
        cmocka_unit_test(ten_thousand_children_are_found_restarted_and_stopped),
        cmocka_unit_test(children_of_one_spec_share_a_copy_and_those_of_another_do_not),
        cmocka_unit_test(tree_can_change_while_it_is_read),
        cmocka_unit_test(rows_come_depth_first_in_start_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
