/* Crowds: more actors with turns to come than a worker's ring holds, and what is fetched ahead for them. */
#include "fixture.h"

#include <stdlib.h>

#include "actors/runtime/ahead.h"

enum { TAG_GO = 1, TAG_TURN, TAG_ASK, TAG_ANSWER, TAG_HURRY };

/* ------------------------------------------------------------------------------------------------ order */

/* Beyond the ring of 4,096, and no multiple of anything. */
enum { QUEUED = 11003 };

struct queue {
    weir_actor actors[QUEUED];
    uint64_t turns; /* the one worker's */
    uint64_t wrong;
    _Atomic uint64_t started, over;
};

static enum weir_error note_start(struct turn *turn, struct probe *probe, struct message *message)
{
    (void)turn, (void)message;
    atomic_fetch_add(&((struct queue *)probe->context)->started, 1);
    return WEIR_OK;
}

static enum weir_error note_turn(struct turn *turn, struct probe *probe, struct message *message)
{
    struct queue *queue = probe->context;
    (void)turn, (void)message;
    queue->wrong += queue->turns++ % QUEUED != probe->n[0];
    if (queue->turns % QUEUED == 0)
        atomic_store(&queue->over, queue->turns / QUEUED);
    return WEIR_OK;
}

static enum weir_error queue_all(struct turn *turn, struct probe *probe, struct message *message)
{
    struct queue *queue = probe->context;
    struct message next = {.tag = TAG_TURN};
    (void)message;
    for (int i = 0; i < QUEUED; i++)
        must(turn_send(turn, queue->actors[i], &next));
    return WEIR_OK;
}

static void actors_beyond_the_ring_have_their_turns_in_the_order_they_were_queued(void **state)
{
    (void)state;
    struct fixture fixture = fixture_threaded(1);
    struct queue *queue = calloc(1, sizeof *queue);
    assert_non_null(queue);
    for (uint64_t i = 0; i < QUEUED; i++) {
        struct probe probe = {.on_start = note_start, .on_message = note_turn, .context = queue, .n = {i}};
        queue->actors[i] = fixture_spawn(&fixture, probe, (struct actor_options){0});
    }
    weir_actor driver =
        fixture_spawn(&fixture, (struct probe){.on_message = queue_all, .context = queue}, (struct actor_options){0});
    await_at_least(&queue->started, QUEUED);
    for (uint64_t round = 1; round <= 3; round++) {
        fixture_send(&fixture, driver, TAG_GO, 0);
        await_at_least(&queue->over, round);
    }
    fixture_end(&fixture);
    assert_int_equal(queue->wrong, 0);
    free(queue);
}

/* ---------------------------------------------------------------------------------------------- answers */

enum { ASKERS = 3000, ANSWERERS = 8, ASKS = 5 };

/* Each answerer has batches of messages; some fail at first, and some control comes between. */
struct crowd {
    weir_actor answerers[ANSWERERS];
    _Atomic uint64_t answered, wrong;
};

static enum weir_error answer(struct turn *turn, struct probe *probe, struct message *message)
{
    struct message reply = {.tag = TAG_ANSWER, .word = {message->word[0]}};
    if (message->tag != TAG_ASK)
        return WEIR_OK;
    if (++probe->n[0] % 97 == 0)
        return WEIR_IO;
    return turn_send(turn, message->from, &reply);
}

static enum weir_error restart_failed(struct turn *turn, struct probe *probe, struct message *message)
{
    (void)probe;
    if (message->tag == MESSAGE_EVENT && message->word[0] == ACTOR_EVENT_FAILED)
        must(actor_restart(turn_runtime(turn), message->from, 0));
    return WEIR_OK;
}

static enum weir_error ask(struct turn *turn, struct probe *probe, struct message *message)
{
    struct crowd *crowd = probe->context;
    if (message->tag == TAG_ANSWER) {
        atomic_fetch_add(&crowd->wrong, message->word[0] != probe->n[0] + 1);
        atomic_fetch_add(&crowd->answered, 1);
        probe->n[0]++;
    }
    if (probe->n[0] == ASKS)
        return WEIR_OK;
    weir_actor to = crowd->answerers[(probe->n[1] + probe->n[0] * 5) % ANSWERERS];
    struct message next = {.tag = TAG_ASK, .word = {probe->n[0] + 1}};
    enum weir_error error = turn_send(turn, to, &next);
    if (error == WEIR_FULL)
        return turn_await_room(turn, to);
    struct message hurry = {.tag = TAG_HURRY};
    if (probe->n[1] % 101 == 0)
        (void)!turn_control(turn, to, &hurry); /* one of these may be refused */
    return error;
}

static void each_of_a_crowd_is_answered_once_also_where_answers_fail_at_first(void **state)
{
    (void)state;
    for (unsigned workers = 1; workers <= 4; workers++) {
        struct fixture fixture = fixture_threaded(workers);
        struct crowd *crowd = calloc(1, sizeof *crowd);
        assert_non_null(crowd);
        weir_actor supervisor =
            fixture_spawn(&fixture, (struct probe){.on_message = restart_failed}, (struct actor_options){0});
        /* One that holds everything that may wait, and some that fill up. */
        for (uint32_t i = 0; i < ANSWERERS; i++)
            crowd->answerers[i] =
                fixture_spawn(&fixture, (struct probe){.on_message = answer},
                              (struct actor_options){.supervisor = supervisor, .mailbox_max = i ? 100 * i : ASKERS});
        for (uint64_t i = 0; i < ASKERS; i++) {
            struct probe probe = {.on_message = ask, .context = crowd, .n = {0, i}};
            fixture_send(&fixture, fixture_spawn(&fixture, probe, (struct actor_options){0}), TAG_GO, 0);
        }
        await_at_least(&crowd->answered, (uint64_t)ASKERS * ASKS);
        fixture_end(&fixture);
        assert_int_equal(crowd->answered, ASKERS * ASKS);
        assert_int_equal(crowd->wrong, 0);
        free(crowd);
    }
}

/* ----------------------------------------------------------------------------------------------- others */

static void who_ended_in_the_hands_of_another_worker_has_no_messages_to_be_fetched(void **state)
{
    (void)state;
    struct fixture fixture = fixture_simulated(1);
    struct worker *worker = &fixture.runtime->workers[0];
    weir_actor handle = fixture_spawn(&fixture, (struct probe){.context = NULL}, (struct actor_options){0});
    fixture_settle(&fixture);
    struct actor *actor = actor_find(fixture.runtime, handle);
    assert_non_null(actor);
    /* Looked at in this worker's queue before and closed after it was taken from there, which leaves its place in the
     * ring as it was. */
    uint64_t word = atomic_exchange(&actor->mailbox, MAILBOX_CLOSED);
    for (int i = 0; i < 4; i++)
        (void)run_queue_push(&worker->queue, actor);
    worker->chain = 1;
    ahead_turns(worker);
    assert_int_equal(worker->chain, 0);
    ahead_chain(worker);
    for (int i = 0; i < 4; i++)
        assert_ptr_equal(run_queue_pop(&worker->queue), actor);
    atomic_store(&actor->mailbox, word);
    fixture_end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(actors_beyond_the_ring_have_their_turns_in_the_order_they_were_queued),
        cmocka_unit_test(each_of_a_crowd_is_answered_once_also_where_answers_fail_at_first),
        cmocka_unit_test(who_ended_in_the_hands_of_another_worker_has_no_messages_to_be_fetched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
