/* What a get says while its topic comes and goes. */
#include "tests/unit/broker/gateway/asking.h"

#include "actors/base/clock.h"

enum { ROUNDS = 400 };

struct world_of_one {
    struct world world;
    int fd;
    uint8_t args[512], body[1024], reply[4096];
};

static void topic_make(struct world_of_one *one)
{
    size_t size = body_args(one->args, sizeof one->args, "topic", "map/a", "value", "x", "key", "k", NULL);
    struct reply reply = ask(one->fd, one->reply, sizeof one->reply, "publish", view_of(one->args, size));
    /* The one before may be on its way out. */
    if (!reply.ok)
        assert_true(view_is_same(reply.code, view_text("closed")));
}

static void topic_delete(struct world_of_one *one)
{
    weir_actor topic;
    struct message message = {.tag = TOPIC_DELETE};
    if (directory_find(one->world.directory, view_text("map/a"), &topic) == WEIR_OK)
        (void)!actor_control(one->world.runtime, WEIR_ACTOR_NONE, topic, &message);
}

/* Where the deletion falls differs from round to round: before the look-up, before the subscription, before the topic
 * reads the order, behind the answer. */
static void get_of_a_topic_deleted_under_it_is_answered_at_once(void **state)
{
    static struct world_of_one one;
    size_t answers[3] = {0};
    (void)state;
    world_start(&one.world, NULL, NULL);
    one.fd = raw_dial(&one.world, SP_REQ0);
    for (int round = 0; round < ROUNDS; round++) {
        topic_make(&one);
        size_t size = body_args(one.args, sizeof one.args, "topic", "map/a", NULL);
        size = body_request(one.body, sizeof one.body, 7, "get", view_of(one.args, size));
        uint64_t asked = clock_now_ns();
        raw_message(one.fd, one.body, size);
        uint64_t pause_ns = (uint64_t)(round % 40) * 3000;
        while (clock_now_ns() - asked < pause_ns)
            ;
        topic_delete(&one);
        size = raw_message_receive(one.fd, one.reply, sizeof one.reply);
        assert_true(size != SIZE_MAX && size > 4);
        struct reply reply;
        assert_int_equal(reply_read(view_of(one.reply + 4, size - 4), 64, &reply), WEIR_OK);
        if (!reply.ok && !view_is_same(reply.code, view_text("not-found")))
            expect_error(reply, "closed");
        answers[reply.ok ? 0 : view_is_same(reply.code, view_text("closed")) ? 1 : 2]++;
    }
    print_message("%zu had the state, %zu were closed, %zu not found\n", answers[0], answers[1], answers[2]);
    close(one.fd);
    world_stop(&one.world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(get_of_a_topic_deleted_under_it_is_answered_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
