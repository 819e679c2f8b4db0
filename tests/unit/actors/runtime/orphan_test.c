/* Failures whose supervisor ended with the news of them unread. */
#include "fixture.h"

enum { TAG_FAIL = 1, SEEDS = 50 };

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_that_its_supervisor_did_not_live_to_hear_ends_the_actor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
