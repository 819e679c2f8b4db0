/* Many who wait for room in one mailbox: as many are told as there is room for, the oldest first, and nobody waits for
 * ever because somebody who was told does not come. */
#include "fixture.h"

#include "tests/unit/instrumented.h"

#include <stdlib.h>

enum { TAG_GO = 1, TAG_WORK, TAG_UNMUTE };
enum { SEEDS = SIMULATED(40), WORK_MAX = 64 };

struct crowd {
    _Atomic uint64_t handled; /* by the consumer, in one turn at a time; the test reads */
    _Atomic uint64_t asked;   /* for room */
    uint64_t rooms;           /* by whoever is told; one worker or a simulation: never two at once */
    uint64_t order[WORK_MAX]; /* who sent what was handled */
};

static enum weir_error consume(struct turn *turn, struct probe *probe, struct message *message)
{
    struct crowd *crowd = probe->context;
    if (message->tag == TAG_UNMUTE)
        turn_mute(turn, false);
    if (message->tag != TAG_WORK)
        return WEIR_OK;
    uint64_t handled = atomic_load_explicit(&crowd->handled, memory_order_relaxed);
    if (handled < WORK_MAX)
        crowd->order[handled] = message->word[0];
    atomic_store_explicit(&crowd->handled, handled + 1, memory_order_release);
    return WEIR_OK;
}

static enum weir_error consume_muted(struct turn *turn, struct probe *probe, struct message *message)
{
    (void)probe;
    (void)message;
    turn_mute(turn, true);
    return WEIR_OK;
}

/* Sends n[0] messages, as there is room; with n[2] it does not come when it is told. n[1] is its number. */
static enum weir_error produce(struct turn *turn, struct probe *probe, struct message *message)
{
    struct crowd *crowd = probe->context;
    crowd->rooms += message->tag == MESSAGE_ROOM;
    if (message->tag == MESSAGE_ROOM && probe->n[2])
        return WEIR_OK;
    struct message work = {.tag = TAG_WORK, .word = {probe->n[1]}};
    for (; probe->n[0] > 0; probe->n[0]--) {
        enum weir_error error = turn_send(turn, probe->other, &work);
        if (error == WEIR_FULL) {
            must(turn_await_room(turn, probe->other));
            atomic_fetch_add(&crowd->asked, 1);
            return WEIR_OK;
        }
        must(error);
    }
    return WEIR_OK;
}

static weir_actor producer_spawn(struct fixture *fixture, struct crowd *crowd, weir_actor consumer, uint64_t number,
                                 uint64_t sends, bool is_absent)
{
    weir_actor producer = fixture_spawn(
        fixture,
        (struct probe){.on_message = produce, .context = crowd, .other = consumer, .n = {sends, number, is_absent}},
        (struct actor_options){0});
    fixture_send(fixture, producer, TAG_GO, 0);
    return producer;
}

/* ROOM_WAITERS makes it larger. */
static void as_many_are_told_as_there_is_room_for(void **state)
{
    (void)state;
    enum { EACH = 3, MAILBOX = 64 };
    const char *wanted = getenv("ROOM_WAITERS");
    uint64_t waiters = wanted ? strtoull(wanted, NULL, 10) : IS_INSTRUMENTED ? 500 : 5000;
    struct crowd crowd = {.rooms = 0};
    struct fixture fixture = fixture_threaded(1);
    weir_actor consumer = fixture_spawn(&fixture, (struct probe){.on_message = consume, .context = &crowd},
                                        (struct actor_options){.mailbox_max = MAILBOX});
    uint64_t before = clock_cpu_ns();
    for (uint64_t i = 0; i < waiters; i++)
        producer_spawn(&fixture, &crowd, consumer, i, EACH, false);
    await_at_least(&crowd.handled, EACH * waiters);
    uint64_t spent = clock_cpu_ns() - before;
    fixture_end(&fixture);
    print_message("%lu waiters: %lu told, %lu ms of processor time\n", (unsigned long)waiters,
                  (unsigned long)crowd.rooms, (unsigned long)(spent / NS_PER_MS));
    /* Each that came found room for at least one, but for few. */
    assert_true(crowd.rooms <= EACH * waiters * 3 / 2);
}

static void the_oldest_is_told_first(void **state)
{
    (void)state;
    enum { WAITERS = WORK_MAX };
    struct crowd crowd = {.rooms = 0};
    struct fixture fixture = fixture_threaded(1);
    weir_actor consumer =
        fixture_spawn(&fixture, (struct probe){.on_message = consume, .on_start = consume_muted, .context = &crowd},
                      (struct actor_options){.mailbox_max = 1});
    for (uint64_t i = 0; i < WAITERS; i++) {
        producer_spawn(&fixture, &crowd, consumer, i, 1, false);
        await_at_least(&crowd.asked, i + 1);
    }
    struct message unmute = {.tag = TAG_UNMUTE};
    must(actor_control(fixture.runtime, WEIR_ACTOR_NONE, consumer, &unmute));
    await_at_least(&crowd.handled, WAITERS);
    fixture_end(&fixture);
    assert_int_equal(crowd.rooms, WAITERS);
    for (uint64_t i = 0; i < WAITERS; i++)
        assert_int_equal(crowd.order[i], i);
}

static void one_that_is_told_and_does_not_come_keeps_nobody_waiting(void **state)
{
    (void)state;
    enum { WAITERS = 30 };
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct crowd crowd = {.rooms = 0};
        weir_actor producers[WAITERS];
        uint64_t absent = 0;
        struct fixture fixture = fixture_simulated(seed);
        weir_actor consumer =
            fixture_spawn(&fixture, (struct probe){.on_message = consume, .on_start = consume_muted, .context = &crowd},
                          (struct actor_options){.mailbox_max = 1 + (uint32_t)seed % 5});
        fixture_settle(&fixture);
        for (uint64_t i = 0; i < WAITERS; i++)
            producers[i] = producer_spawn(&fixture, &crowd, consumer, i, 2, (i * 7 + seed) % 3 > 0);
        fixture_settle(&fixture);
        /* Some end while they wait; nobody can be told in their place but by another look. */
        for (uint64_t i = 0; i < WAITERS; i++) {
            absent += (i * 7 + seed) % 3 > 0;
            if (i % 4 == 0 && (i * 7 + seed) % 3 > 0)
                must(actor_stop(fixture.runtime, producers[i], WEIR_OK));
        }
        struct message unmute = {.tag = TAG_UNMUTE};
        must(actor_control(fixture.runtime, WEIR_ACTOR_NONE, consumer, &unmute));
        fixture_settle(&fixture);
        if (crowd.handled != 2 * (WAITERS - absent))
            fail_msg("seed %lu: %lu handled", (unsigned long)seed, (unsigned long)crowd.handled);
        fixture_end(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_are_told_as_there_is_room_for),
        cmocka_unit_test(the_oldest_is_told_first),
        cmocka_unit_test(one_that_is_told_and_does_not_come_keeps_nobody_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
