/* A topic that is stopped before its first turn: its publishers, and who gave it orders, are answered all the same. */
#include "tests/unit/actors/topic/topic_scene.h"

#include "actors/topic/shared.h"

struct answers {
    uint32_t nacked, done, answered;
};

static struct answers told;

static enum weir_error asker_message(struct turn *turn, void *state, struct message *message)
{
    (void)turn;
    (void)state;
    if (message->tag == TOPIC_NACK) {
        assert_int_equal(message->word[1], WEIR_CLOSED);
        told.nacked += message->detail;
    }
    told.done += message->tag == TOPIC_DONE && message->word[0] == WEIR_NOT_FOUND;
    told.answered += message->tag == TOPIC_ANSWER && message->word[1] == WEIR_NOT_FOUND;
    return WEIR_OK;
}

static const struct behaviour asker_behaviour = {.name = "asker", .state_size = 8, .on_message = asker_message};

static void send(struct world *world, weir_actor from, weir_actor topic, struct message message)
{
    assert_int_equal(actor_send(world->runtime, from, topic, &message), WEIR_OK);
}

static void a_topic_that_never_started_answers_what_it_was_sent(void **state)
{
    (void)state;
    struct world world;
    struct directory_config config = world_config(NULL, 0, 1);
    unsigned char args[ACTOR_ARGS_SIZE_MAX];
    weir_actor asker, topic;
    memset(args, 0xab, sizeof args); /* nobody is to take them for the topic */
    memset(&told, 0, sizeof told);
    world_open(&world, &config, 1);
    assert_int_equal(actor_spawn(world.runtime, &asker_behaviour, NULL, 0, NULL, &asker), WEIR_OK);
    world_settle(&world);
    assert_int_equal(actor_spawn(world.runtime, &topic_behaviour, args, sizeof args, NULL, &topic), WEIR_OK);
    send(&world, asker, topic, (struct message){.tag = TOPIC_PUBLISH, .detail = 3, .word = {0, 0, 5}});
    send(&world, asker, topic, (struct message){.tag = TOPIC_DELETE});
    send(&world, asker, topic, (struct message){.tag = TOPIC_ASK});
    assert_int_equal(actor_stop(world.runtime, topic, WEIR_OK), WEIR_OK);
    world_settle(&world);
    assert_int_equal(told.nacked, 3);
    assert_int_equal(told.done, 1);
    assert_int_equal(told.answered, 1);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_topic_that_never_started_answers_what_it_was_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
