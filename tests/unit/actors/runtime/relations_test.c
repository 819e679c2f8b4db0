/* Monitors, links and waiting for room. */
#include "fixture.h"

enum { TAG_GO = 1, TAG_WORK, TAG_FAIL };
enum { SEEDS = 30 };

struct told {
    uint64_t events, rooms, stops, handled;
    weir_actor from;
    enum weir_error cause;
};

static enum weir_error listen(struct turn *turn, struct probe *probe, struct message *message)
{
    struct told *told = probe->context;
    (void)turn;
    if (message->tag == MESSAGE_EVENT) {
        assert_int_equal(message->word[0], ACTOR_EVENT_EXITED);
        told->events++;
        told->from = message->from;
        told->cause = (enum weir_error)message->word[1];
    }
    return message->tag == TAG_FAIL ? WEIR_IO : WEIR_OK;
}

static void note_stop(struct turn *turn, struct probe *probe, enum weir_error cause)
{
    struct told *told = probe->context;
    (void)turn;
    told->stops++;
    told->cause = cause;
}

static void a_monitor_hears_of_the_end_once_and_at_once_when_it_has_come(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct told told = {0};
        struct fixture fixture = fixture_simulated(seed);
        weir_actor watcher =
            fixture_spawn(&fixture, (struct probe){.on_message = listen, .context = &told}, (struct actor_options){0});
        weir_actor actor = fixture_spawn(&fixture, (struct probe){0}, (struct actor_options){0});
        must(actor_monitor(fixture.runtime, watcher, actor));
        if (seed % 2)
            fixture_settle(&fixture);
        must(actor_stop(fixture.runtime, actor, WEIR_TIMEOUT));
        fixture_settle(&fixture);
        assert_int_equal(told.events, 1);
        assert_true(actor_is_same(told.from, actor));
        assert_int_equal(told.cause, WEIR_TIMEOUT);
        must(actor_monitor(fixture.runtime, watcher, actor));
        fixture_settle(&fixture);
        assert_int_equal(told.events, 2);
        assert_int_equal(told.cause, WEIR_STALE);
        must(actor_stop(fixture.runtime, watcher, WEIR_OK));
        fixture_settle(&fixture);
        assert_int_equal(actor_monitor(fixture.runtime, watcher, actor), WEIR_STALE);
        fixture_end(&fixture);
    }
}

static void a_linked_actor_is_stopped_when_the_other_ends_badly_only(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        enum weir_error cause = seed % 2 ? WEIR_IO : WEIR_OK;
        struct told told = {0};
        struct fixture fixture = fixture_simulated(seed);
        weir_actor a =
            fixture_spawn(&fixture, (struct probe){.on_stop = note_stop, .context = &told}, (struct actor_options){0});
        weir_actor b = fixture_spawn(&fixture, (struct probe){0}, (struct actor_options){0});
        fixture_settle(&fixture);
        must(actor_link(fixture.runtime, a, b));
        must(actor_stop(fixture.runtime, b, cause));
        fixture_settle(&fixture);
        assert_string_equal(fixture_state(&fixture, b), "ended");
        assert_string_equal(fixture_state(&fixture, a), cause ? "ended" : "idle");
        assert_int_equal(told.stops, cause ? 1 : 0);
        if (cause)
            assert_int_equal(told.cause, cause);
        else
            assert_int_equal(actor_link(fixture.runtime, a, b), WEIR_STALE);
        fixture_end(&fixture);
    }
}

static void relations_to_actors_that_have_ended_do_not_pile_up(void **state)
{
    (void)state;
    struct fixture fixture = fixture_simulated(1);
    struct arena_usage before, after;
    weir_actor hub = fixture_spawn(&fixture, (struct probe){0}, (struct actor_options){0});
    for (int i = 0; i < 20000; i++) {
        weir_actor watcher = fixture_spawn(&fixture, (struct probe){0}, (struct actor_options){0});
        must(actor_monitor(fixture.runtime, watcher, hub));
        must(actor_link(fixture.runtime, watcher, hub));
        fixture_settle(&fixture);
        must(actor_stop(fixture.runtime, watcher, WEIR_OK));
        fixture_settle(&fixture);
        if (i == 1000)
            arena_usage(fixture.arena, &before);
    }
    arena_usage(fixture.arena, &after);
    assert_int_equal(after.bytes_committed, before.bytes_committed);
    fixture_end(&fixture);
}

/* Sends n[0] messages to `other`, waiting for room where it is full; asks twice each time. */
static enum weir_error produce(struct turn *turn, struct probe *probe, struct message *message)
{
    struct told *told = probe->context;
    told->rooms += message->tag == MESSAGE_ROOM;
    while (probe->n[0] > 0) {
        struct message work = {.tag = TAG_WORK, .word = {probe->n[0]}};
        enum weir_error error = turn_send(turn, probe->other, &work);
        if (error == WEIR_FULL) {
            probe->n[1]++;
            error = turn_await_room(turn, probe->other);
            return error ? error : turn_await_room(turn, probe->other);
        }
        if (error == WEIR_STALE) {
            turn_exit(turn, error);
            return WEIR_OK;
        }
        probe->n[0]--;
    }
    assert_int_equal(told->rooms >= probe->n[1], true);
    return WEIR_OK;
}

static enum weir_error consume(struct turn *turn, struct probe *probe, struct message *message)
{
    struct told *told = probe->context;
    struct actor_status status;
    if (message->tag == TAG_WORK)
        told->handled++;
    must(actor_status(turn_runtime(turn), turn_self(turn), &status));
    assert_true(status.depth <= status.depth_max);
    return WEIR_OK;
}

static void producers_that_wait_for_room_get_one_message_each_time_and_lose_nothing(void **state)
{
    (void)state;
    enum { PRODUCERS = 5, EACH = 200 };
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct told told = {0};
        struct told rooms[PRODUCERS] = {{0}};
        struct fixture fixture = fixture_simulated(seed);
        weir_actor consumer = fixture_spawn(&fixture, (struct probe){.on_message = consume, .context = &told},
                                            (struct actor_options){.mailbox_max = 1 + (uint32_t)seed % 7});
        for (int i = 0; i < PRODUCERS; i++) {
            weir_actor producer = fixture_spawn(
                &fixture, (struct probe){.on_message = produce, .context = &rooms[i], .other = consumer, .n = {EACH}},
                (struct actor_options){0});
            fixture_send(&fixture, producer, TAG_GO, 0);
        }
        fixture_settle(&fixture);
        if (told.handled != PRODUCERS * EACH)
            fail_msg("seed %llu: %llu", (unsigned long long)seed, (unsigned long long)told.handled);
        fixture_end(&fixture);
    }
}

static enum weir_error ask_for_room(struct turn *turn, struct probe *probe, struct message *message)
{
    struct told *told = probe->context;
    told->rooms += message->tag == MESSAGE_ROOM;
    if (message->tag != TAG_GO)
        return WEIR_OK;
    must(turn_await_room(turn, probe->other));
    must(turn_await_room(turn, probe->other));
    return WEIR_OK;
}

static void room_comes_at_once_where_there_is_some_and_once_for_two_requests(void **state)
{
    (void)state;
    struct told told = {0};
    struct fixture fixture = fixture_simulated(3);
    weir_actor target = fixture_spawn(&fixture, (struct probe){0}, (struct actor_options){0});
    weir_actor asker =
        fixture_spawn(&fixture, (struct probe){.on_message = ask_for_room, .context = &told, .other = target},
                      (struct actor_options){0});
    for (uint64_t i = 1; i <= 3; i++) {
        fixture_send(&fixture, asker, TAG_GO, 0);
        fixture_settle(&fixture);
        assert_int_equal(told.rooms, i);
    }
    fixture_end(&fixture);
}

static void who_waits_for_room_hears_of_it_when_the_actor_ends(void **state)
{
    (void)state;
    struct told told = {0};
    struct told supervisor_told = {0};
    struct fixture fixture = fixture_simulated(4);
    weir_actor supervisor =
        fixture_spawn(&fixture, (struct probe){.context = &supervisor_told}, (struct actor_options){0});
    weir_actor target = fixture_spawn(&fixture, (struct probe){.on_message = listen, .context = &supervisor_told},
                                      (struct actor_options){.mailbox_max = 2, .supervisor = supervisor});
    fixture_send(&fixture, target, TAG_FAIL, 0); /* suspended: it will never make room */
    fixture_settle(&fixture);
    weir_actor producer =
        fixture_spawn(&fixture, (struct probe){.on_message = produce, .context = &told, .other = target, .n = {10}},
                      (struct actor_options){0});
    fixture_send(&fixture, producer, TAG_GO, 0);
    fixture_settle(&fixture);
    assert_int_equal(told.rooms, 0);
    must(actor_stop(fixture.runtime, target, WEIR_FAILED));
    fixture_settle(&fixture);
    assert_int_equal(told.rooms, 1);
    assert_string_equal(fixture_state(&fixture, producer), "ended");
    fixture_end(&fixture);
}

enum { TAG_MUTE = 10, TAG_UNMUTE };

static enum weir_error mute(struct turn *turn, struct probe *probe, struct message *message)
{
    struct told *told = probe->context;
    told->handled += message->tag == TAG_WORK;
    if (message->tag == TAG_MUTE || message->tag == TAG_UNMUTE)
        turn_mute(turn, message->tag == TAG_MUTE);
    return WEIR_OK;
}

static void a_muted_mailbox_refuses_data_and_tells_of_room_once_it_is_unmuted(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct told told = {0};
        struct told rooms = {0};
        struct fixture fixture = fixture_simulated(seed);
        weir_actor target = fixture_spawn(&fixture, (struct probe){.on_message = mute, .context = &told},
                                          (struct actor_options){.mailbox_max = 4});
        struct message control = {.tag = TAG_MUTE};
        must(actor_control(fixture.runtime, WEIR_ACTOR_NONE, target, &control));
        fixture_settle(&fixture);
        weir_actor producer = fixture_spawn(
            &fixture, (struct probe){.on_message = produce, .context = &rooms, .other = target, .n = {50}},
            (struct actor_options){0});
        fixture_send(&fixture, producer, TAG_GO, 0);
        fixture_settle(&fixture);
        assert_int_equal(told.handled, 0);
        assert_int_equal(rooms.rooms, 0);
        control.tag = TAG_UNMUTE;
        must(actor_control(fixture.runtime, WEIR_ACTOR_NONE, target, &control));
        fixture_settle(&fixture);
        assert_int_equal(told.handled, 50);
        fixture_end(&fixture);
    }
}

/* Ends of children whose supervisor cannot be told yet wait until it can. */
static enum weir_error count_ends(struct turn *turn, struct probe *probe, struct message *message)
{
    struct told *told = probe->context;
    (void)turn;
    told->events += message->tag == MESSAGE_EVENT && message->word[0] == ACTOR_EVENT_EXITED;
    return WEIR_OK;
}

static void no_end_is_lost_when_more_children_end_than_a_control_lane_holds(void **state)
{
    (void)state;
    enum { CHILDREN = 70000 };
    struct told told = {0};
    struct fixture fixture = fixture_simulated(5);
    static weir_actor children[CHILDREN];
    static const struct behaviour child = {.name = "child", .on_message = probe_message};
    weir_actor supervisor =
        fixture_spawn(&fixture, (struct probe){.on_message = count_ends, .context = &told}, (struct actor_options){0});
    struct actor_options options = {.supervisor = supervisor};
    for (int i = 0; i < CHILDREN; i++)
        must(actor_spawn(fixture.runtime, &child, NULL, 0, &options, &children[i]));
    fixture_settle(&fixture);
    for (int i = 0; i < CHILDREN; i++)
        must(actor_stop(fixture.runtime, children[i], WEIR_OK));
    fixture_settle(&fixture);
    assert_int_equal(told.events, CHILDREN);
    fixture_end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_monitor_hears_of_the_end_once_and_at_once_when_it_has_come),
        cmocka_unit_test(a_linked_actor_is_stopped_when_the_other_ends_badly_only),
        cmocka_unit_test(relations_to_actors_that_have_ended_do_not_pile_up),
        cmocka_unit_test(producers_that_wait_for_room_get_one_message_each_time_and_lose_nothing),
        cmocka_unit_test(room_comes_at_once_where_there_is_some_and_once_for_two_requests),
        cmocka_unit_test(who_waits_for_room_hears_of_it_when_the_actor_ends),
        cmocka_unit_test(a_muted_mailbox_refuses_data_and_tells_of_room_once_it_is_unmuted),
        cmocka_unit_test(no_end_is_lost_when_more_children_end_than_a_control_lane_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
