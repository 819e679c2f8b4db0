/* Every cell of a child's table: what each event leads to in each state. */
#include "tests/unit/actors/supervise/world.h"

#include "actors/supervise/tree.h"

static struct world *world_with_child(void)
{
    struct world *world = world_create(1);
    struct child_args args;
    struct child_spec spec = child_of(world, &args, "a");
    struct supervisor_config config = {.name = "root",
                                       .children = &spec,
                                       .child_count = 1,
                                       .intensity = 100,
                                       .period_ms = 1000,
                                       .backoff_min_ms = 500,
                                       .backoff_max_ms = 500};
    weir_actor root;
    assert_int_equal(supervisor_spawn(world->tree, WEIR_ACTOR_NONE, &config, &root), WEIR_OK);
    world_run(world);
    /* The first restart comes at once; from here on each waits. */
    world_order(world, "a", TAG_FAIL, 1);
    return world;
}

static void run_until(struct world *world, const char *state)
{
    while (strcmp(world_row(world, "a").state, state) != 0)
        assert_true(runtime_step(world->runtime) || runtime_advance(world->runtime));
}

static void bring_to(struct world *world, enum child_state state)
{
    switch (state) {
    case CHILD_DOWN: assert_int_equal(supervisor_child_stop(world->tree, world_find(world, "a")), WEIR_OK); break;
    case CHILD_STARTING: world_send(world, world_find(world, "a"), TAG_EXIT, WEIR_IO); break;
    case CHILD_WAITING: world_send(world, world_find(world, "a"), TAG_FAIL, 1); break;
    case CHILD_STOPPING:
    case CHILD_KILLING:
        world->is_stubborn['a'] = true;
        assert_int_equal(supervisor_child_stop(world->tree, world_find(world, "a")), WEIR_OK);
        break;
    default: break;
    }
    run_until(world, child_state_name(state));
}

/* Where each event leads, and what it returns. */
static const struct {
    enum child_state to[CHILD_EVENT_COUNT]; /* SPAWN, READY, FAILED, EXITED, TIMER, STOP, RESTART */
    enum weir_error order;                  /* of SPAWN and RESTART */
    enum weir_error restart;
} expected[CHILD_STATE_COUNT] = {
    [CHILD_DOWN] = {{CHILD_STARTING, CHILD_DOWN, CHILD_DOWN, CHILD_DOWN, CHILD_DOWN, CHILD_DOWN, CHILD_STARTING},
                    WEIR_OK,
                    WEIR_OK},
    [CHILD_STARTING] = {{CHILD_STARTING, CHILD_UP, CHILD_WAITING, CHILD_WAITING, CHILD_STARTING, CHILD_STOPPING,
                         CHILD_STARTING},
                        WEIR_BUSY,
                        WEIR_BUSY},
    [CHILD_UP] = {{CHILD_UP, CHILD_UP, CHILD_WAITING, CHILD_WAITING, CHILD_UP, CHILD_STOPPING, CHILD_STOPPING},
                  WEIR_BUSY,
                  WEIR_OK},
    [CHILD_WAITING] = {{CHILD_UP, CHILD_WAITING, CHILD_WAITING, CHILD_WAITING, CHILD_UP, CHILD_KILLING, CHILD_UP},
                       WEIR_OK,
                       WEIR_OK},
    [CHILD_STOPPING] = {{CHILD_STOPPING, CHILD_STOPPING, CHILD_KILLING, CHILD_DOWN, CHILD_KILLING, CHILD_STOPPING,
                         CHILD_STOPPING},
                        WEIR_BUSY,
                        WEIR_BUSY},
    [CHILD_KILLING] = {{CHILD_KILLING, CHILD_KILLING, CHILD_KILLING, CHILD_DOWN, CHILD_KILLING, CHILD_KILLING,
                        CHILD_KILLING},
                       WEIR_BUSY,
                       WEIR_BUSY},
};

static void every_event_leads_from_every_state_where_the_table_says(void **state)
{
    (void)state;
    for (int from = 0; from < CHILD_STATE_COUNT; from++) {
        for (int event = 0; event < CHILD_EVENT_COUNT; event++) {
            struct world *world = world_with_child();
            bring_to(world, (enum child_state)from);
            struct child_news news = {.event = (enum child_event)event, .cause = WEIR_IO, .attempts = 1};
            tree_lock(world->tree);
            child_index child = child_find_named(world->tree, "a");
            enum weir_error error = child_handle(world->tree, child, &news);
            enum child_state to = (enum child_state)child_at(world->tree, child)->state;
            tree_unlock(world->tree);
            if (to != expected[from].to[event])
                fail_msg("state %s, event %d: %s", child_state_name((enum child_state)from), event,
                         child_state_name(to));
            enum weir_error wanted = event == CHILD_EVENT_SPAWN     ? expected[from].order
                                     : event == CHILD_EVENT_RESTART ? expected[from].restart
                                                                    : WEIR_OK;
            assert_int_equal(error, wanted);
            world_destroy(world);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_event_leads_from_every_state_where_the_table_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
