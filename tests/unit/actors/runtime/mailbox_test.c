/* Mailboxes as senders and receivers see them. */
#include "fixture.h"

#include "tests/unit/instrumented.h"

#include <pthread.h>

enum { TAG = 1, TAG_HOLD };

struct order {
    uint64_t seen[4096];
    size_t count;
};

static enum weir_error note(struct turn *turn, struct probe *probe, struct message *message)
{
    struct order *order = probe->context;
    (void)turn;
    assert_true(order->count < 4096);
    order->seen[order->count++] = message->word[0];
    return WEIR_OK;
}

static void mailbox_refuses_when_full(void **state)
{
    (void)state;
    struct fixture fixture = fixture_simulated(1);
    struct order order = {0};
    weir_actor actor = fixture_spawn(&fixture, (struct probe){.on_message = note, .context = &order},
                                     (struct actor_options){.mailbox_max = 5});
    struct message message = {.tag = TAG};
    for (int i = 0; i < 5; i++)
        must(actor_send(fixture.runtime, WEIR_ACTOR_NONE, actor, &message));
    assert_int_equal(actor_send(fixture.runtime, WEIR_ACTOR_NONE, actor, &message), WEIR_FULL);
    /* Control has its own bound. */
    must(actor_control(fixture.runtime, WEIR_ACTOR_NONE, actor, &message));
    struct actor_status status;
    must(actor_status(fixture.runtime, actor, &status));
    assert_int_equal(status.depth, 5);
    assert_int_equal(status.depth_max, 5);
    assert_int_equal(status.refused, 1);
    fixture_settle(&fixture);
    assert_int_equal(order.count, 6);
    must(actor_send(fixture.runtime, WEIR_ACTOR_NONE, actor, &message));
    must(actor_status(fixture.runtime, actor, &status));
    assert_int_equal(status.depth, 1);
    fixture_end(&fixture);
}

static void control_lane_is_bounded_and_keeps_room_for_the_runtime(void **state)
{
    (void)state;
    struct fixture fixture = fixture_simulated(1);
    weir_actor actor = fixture_spawn(&fixture, (struct probe){0}, (struct actor_options){0});
    struct message message = {.tag = TAG};
    uint64_t sent = 0;
    while (actor_control(fixture.runtime, WEIR_ACTOR_NONE, actor, &message) == WEIR_OK)
        sent++;
    assert_true(sent > 60000 && sent < 65535);
    assert_int_equal(actor_control(fixture.runtime, WEIR_ACTOR_NONE, actor, &message), WEIR_FULL);
    must(actor_monitor(fixture.runtime, actor, actor));
    must(actor_stop(fixture.runtime, actor, WEIR_OK));
    fixture_settle(&fixture);
    assert_string_equal(fixture_state(&fixture, actor), "ended");
    fixture_end(&fixture);
}

static void messages_keep_their_order_and_control_comes_first(void **state)
{
    (void)state;
    struct fixture fixture = fixture_simulated(2);
    struct order order = {0};
    weir_actor actor =
        fixture_spawn(&fixture, (struct probe){.on_message = note, .context = &order}, (struct actor_options){0});
    fixture_settle(&fixture);
    for (uint64_t i = 0; i < 100; i++) {
        struct message message = {.tag = TAG, .word = {i}};
        must(actor_send(fixture.runtime, WEIR_ACTOR_NONE, actor, &message));
        message.word[0] = 1000 + i;
        must(actor_control(fixture.runtime, WEIR_ACTOR_NONE, actor, &message));
    }
    fixture_settle(&fixture);
    assert_int_equal(order.count, 200);
    for (uint64_t i = 0; i < 100; i++) {
        assert_int_equal(order.seen[i], 1000 + i);
        assert_int_equal(order.seen[100 + i], i);
    }
    fixture_end(&fixture);
}

/* The first data message of a turn sends itself control: it must come before the second data message. */
static enum weir_error interject(struct turn *turn, struct probe *probe, struct message *message)
{
    note(turn, probe, message);
    struct message control = {.tag = TAG, .word = {500}};
    return message->word[0] == 1 ? turn_control(turn, turn_self(turn), &control) : WEIR_OK;
}

static void control_that_arrives_in_a_turn_comes_before_the_next_data_message(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SIMULATED(20); seed++) {
        struct fixture fixture = fixture_simulated(seed);
        struct order order = {0};
        weir_actor actor = fixture_spawn(&fixture, (struct probe){.on_message = interject, .context = &order},
                                         (struct actor_options){0});
        for (uint64_t i = 1; i <= 3; i++)
            fixture_send(&fixture, actor, TAG, i);
        fixture_settle(&fixture);
        assert_int_equal(order.count, 4);
        assert_int_equal(order.seen[1], 500);
        fixture_end(&fixture);
    }
}

static void an_ended_actor_is_stale_also_when_its_slot_serves_another(void **state)
{
    (void)state;
    struct fixture fixture = fixture_simulated(3);
    struct message message = {.tag = TAG};
    assert_int_equal(actor_send(fixture.runtime, WEIR_ACTOR_NONE, WEIR_ACTOR_NONE, &message), WEIR_STALE);
    enum { LIVES_MAX = 1000 };
    weir_actor ended[LIVES_MAX];
    weir_actor first = WEIR_ACTOR_NONE;
    weir_actor heir = WEIR_ACTOR_NONE;
    for (int i = 0; i < LIVES_MAX && actor_is_none(first); i++) {
        heir = fixture_spawn(&fixture, (struct probe){0}, (struct actor_options){0});
        fixture_settle(&fixture);
        for (int k = 0; k < i; k++) {
            if ((uint32_t)ended[k].bits == (uint32_t)heir.bits)
                first = ended[k];
        }
        if (!actor_is_none(first))
            break;
        ended[i] = heir;
        must(actor_stop(fixture.runtime, heir, WEIR_OK));
        fixture_settle(&fixture);
    }
    assert_false(actor_is_none(first));
    struct actor_status status;
    assert_int_equal(actor_send(fixture.runtime, WEIR_ACTOR_NONE, first, &message), WEIR_STALE);
    assert_int_equal(actor_control(fixture.runtime, WEIR_ACTOR_NONE, first, &message), WEIR_STALE);
    assert_int_equal(actor_stop(fixture.runtime, first, WEIR_OK), WEIR_STALE);
    assert_int_equal(actor_restart(fixture.runtime, first, 0), WEIR_STALE);
    assert_int_equal(actor_restart(fixture.runtime, first, 1), WEIR_STALE);
    assert_int_equal(actor_status(fixture.runtime, first, &status), WEIR_STALE);
    fixture_settle(&fixture);
    must(actor_status(fixture.runtime, heir, &status));
    assert_string_equal(status.state, "idle");
    fixture_end(&fixture);
}

static void a_made_up_handle_is_stale_and_does_no_harm(void **state)
{
    (void)state;
    struct fixture fixture = fixture_simulated(3);
    struct message timer = {.tag = MESSAGE_TIMER};
    struct message message = {.tag = TAG};
    uint64_t random = 20261123;
    weir_actor actor = fixture_spawn(&fixture, (struct probe){0}, (struct actor_options){0});
    for (int i = 0; i < 100000; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        weir_actor made_up = {random};
        weir_timer no_timer = {random};
        assert_int_equal(actor_send(fixture.runtime, WEIR_ACTOR_NONE, made_up, &message), WEIR_STALE);
        assert_int_equal(actor_stop(fixture.runtime, made_up, WEIR_OK), WEIR_STALE);
        timer_cancel(fixture.runtime, no_timer);
        timer.word[1] = random;
        must(actor_control(fixture.runtime, WEIR_ACTOR_NONE, actor, &timer));
        if (i % 1000 == 0)
            fixture_settle(&fixture);
    }
    fixture_end(&fixture);
}

static enum weir_error take_hold(struct turn *turn, struct probe *probe, struct message *message)
{
    if (message->word[0] == 1) {
        weir_msg msg = message_take(message, 0);
        probe->n[0] += arena_size(turn_arena(turn), msg);
        arena_drop(turn_arena(turn), msg);
    }
    return WEIR_OK;
}

static void references_move_with_a_message_and_are_dropped_where_nobody_takes_them(void **state)
{
    (void)state;
    struct fixture fixture = fixture_simulated(4);
    struct message message = {.tag = TAG_HOLD};
    struct arena_usage usage;
    weir_actor actor =
        fixture_spawn(&fixture, (struct probe){.on_message = take_hold}, (struct actor_options){.mailbox_max = 3});
    for (uint64_t i = 0; i < 3; i++) {
        message.word[0] = i;
        must(arena_alloc(fixture.arena, 100, NULL, &message.hold[0]));
        must(arena_alloc(fixture.arena, 200, NULL, &message.hold[1]));
        must(actor_send(fixture.runtime, WEIR_ACTOR_NONE, actor, &message));
    }
    /* A refused message stays the caller's. */
    must(arena_alloc(fixture.arena, 100, NULL, &message.hold[0]));
    message.hold[1] = WEIR_MSG_NONE;
    assert_int_equal(actor_send(fixture.runtime, WEIR_ACTOR_NONE, actor, &message), WEIR_FULL);
    fixture_settle(&fixture);
    arena_usage(fixture.arena, &usage);
    assert_int_equal(usage.blocks_live, 1);
    /* One that waits in the mailbox of an actor that ends is dropped. */
    must(actor_send(fixture.runtime, WEIR_ACTOR_NONE, actor, &message));
    must(actor_stop(fixture.runtime, actor, WEIR_FAILED));
    fixture_settle(&fixture);
    arena_usage(fixture.arena, &usage);
    assert_int_equal(usage.blocks_live, 0);
    fixture_end(&fixture);
}

enum { SENDERS = 4, EACH = 20000 };

struct crowd {
    struct fixture *fixture;
    weir_actor to;
    uint64_t id;
    _Atomic uint64_t *refused;
};

static enum weir_error check_order(struct turn *turn, struct probe *probe, struct message *message)
{
    _Atomic uint64_t *handled = probe->context;
    (void)turn;
    /* Each sender's numbers come one after the other. */
    assert_int_equal(message->word[1], probe->n[message->word[0]]++);
    atomic_fetch_add(handled, 1);
    return WEIR_OK;
}

static void *send_all(void *argument)
{
    struct crowd *crowd = argument;
    for (uint64_t i = 0; i < EACH;) {
        struct message message = {.tag = TAG, .word = {crowd->id, i}};
        enum weir_error error = actor_send(crowd->fixture->runtime, WEIR_ACTOR_NONE, crowd->to, &message);
        if (error == WEIR_OK)
            i++;
        else
            atomic_fetch_add(crowd->refused, 1);
    }
    return NULL;
}

static void threads_that_send_to_one_mailbox_lose_nothing_and_keep_their_order(void **state)
{
    (void)state;
    struct fixture fixture = fixture_threaded(2);
    _Atomic uint64_t handled = 0;
    _Atomic uint64_t refused = 0;
    weir_actor to = fixture_spawn(&fixture, (struct probe){.on_message = check_order, .context = &handled},
                                  (struct actor_options){.mailbox_max = 64});
    pthread_t threads[SENDERS];
    struct crowd crowds[SENDERS];
    for (uint64_t i = 0; i < SENDERS; i++) {
        crowds[i] = (struct crowd){.fixture = &fixture, .to = to, .id = i, .refused = &refused};
        assert_int_equal(pthread_create(&threads[i], NULL, send_all, &crowds[i]), 0);
    }
    for (int i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    await_at_least(&handled, SENDERS * EACH);
    struct actor_status status;
    must(actor_status(fixture.runtime, to, &status));
    assert_int_equal(status.refused, atomic_load(&refused));
    fixture_end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mailbox_refuses_when_full),
        cmocka_unit_test(control_lane_is_bounded_and_keeps_room_for_the_runtime),
        cmocka_unit_test(messages_keep_their_order_and_control_comes_first),
        cmocka_unit_test(control_that_arrives_in_a_turn_comes_before_the_next_data_message),
        cmocka_unit_test(an_ended_actor_is_stale_also_when_its_slot_serves_another),
        cmocka_unit_test(a_made_up_handle_is_stale_and_does_no_harm),
        cmocka_unit_test(references_move_with_a_message_and_are_dropped_where_nobody_takes_them),
        cmocka_unit_test(threads_that_send_to_one_mailbox_lose_nothing_and_keep_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
