/* Mail of actors that end without having read it: a failure that a supervisor was told of, and what one that never
 * started was sent. */
#include "fixture.h"

enum { TAG_FAIL = 1, TAG_MAIL, SEEDS = 50 };

static enum weir_error fail_once_told(struct turn *turn, struct probe *probe, struct message *message)
{
    (void)turn;
    (void)probe;
    return message->tag == TAG_FAIL ? WEIR_IO : WEIR_OK;
}

static void a_failure_that_its_supervisor_did_not_live_to_hear_ends_the_actor(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct fixture fixture = fixture_simulated(seed);
        weir_actor supervisor = fixture_spawn(&fixture, (struct probe){0}, (struct actor_options){0});
        weir_actor child = fixture_spawn(&fixture, (struct probe){.on_message = fail_once_told},
                                         (struct actor_options){.supervisor = supervisor});
        fixture_settle(&fixture);
        fixture_send(&fixture, child, TAG_FAIL, 0);
        /* The child fails in this turn; its supervisor ends in the next, before it looks into its mailbox. */
        assert_true(runtime_step(fixture.runtime));
        must(actor_stop(fixture.runtime, supervisor, WEIR_OK));
        fixture_settle(&fixture);
        assert_string_equal(fixture_state(&fixture, supervisor), "ended");
        assert_string_equal(fixture_state(&fixture, child), "ended");
        fixture_end(&fixture);
    }
}

static unsigned unread_count;

static void note_unread(struct turn *turn, void *state, const struct message *message)
{
    (void)turn;
    assert_null(state);
    unread_count += message->tag == TAG_MAIL;
}

static enum weir_error start_in_vain(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    (void)args;
    memset(state, 0xab, sizeof(uint64_t));
    return WEIR_NO_MEMORY;
}

static void an_actor_that_never_started_has_no_state_to_show_with_what_it_was_sent(void **state)
{
    struct behaviour behaviour = {
        .name = "unstarted", .state_size = 64, .on_message = probe_message, .on_unread = note_unread};
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct fixture fixture = fixture_simulated(seed);
        uint64_t args[8] = {seed, seed};
        weir_actor actor;
        bool is_stopped = seed % 2; /* else it fails to start */
        behaviour.on_start = is_stopped ? NULL : start_in_vain;
        unread_count = 0;
        must(actor_spawn(fixture.runtime, &behaviour, args, sizeof args, NULL, &actor));
        fixture_send(&fixture, actor, TAG_MAIL, 1);
        fixture_send(&fixture, actor, TAG_MAIL, 2);
        if (is_stopped)
            must(actor_stop(fixture.runtime, actor, WEIR_OK));
        fixture_settle(&fixture);
        assert_int_equal(unread_count, 2);
        fixture_end(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_that_its_supervisor_did_not_live_to_hear_ends_the_actor),
        cmocka_unit_test(an_actor_that_never_started_has_no_state_to_show_with_what_it_was_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
