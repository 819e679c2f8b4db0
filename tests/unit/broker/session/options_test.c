/* Publishing with options over a session and over REQ: what the frames say reaches the topic, what it decides comes
 * back, and keys go with their session. */
#include "broker/session/session.h"

#include "tests/unit/broker/session/client.h"

static void client_open_as(struct client *client, const struct world *world, const char *publisher)
{
    struct frame frame = {.op = FRAME_HELLO};
    client_dial(client, world);
    frame.as.hello.version = SESSION_VERSION;
    frame.as.hello.credit = 1 << 20;
    frame.as.hello.message_max = 1 << 20;
    frame.as.hello.peer = view_text("test client");
    frame.as.hello.publisher = view_text(publisher);
    client_send(client, &frame);
    client->hello = client_expect(client, FRAME_HELLO);
    assert_true(client->hello.as.hello.publish_with);
}

/* One record of key k, or two of it. */
static void publish_with(struct client *client, const char *topic, uint64_t number, uint8_t value,
                         const struct publish_with *with)
{
    struct frame frame = {.op = with != NULL ? FRAME_PUBLISH_WITH : FRAME_PUBLISH};
    uint8_t items[] = {0xa1, 'k', value};
    frame.as.publish.topic = view_text(topic);
    frame.as.publish.number = number;
    frame.as.publish.ack = ACK_FOLDED;
    frame.as.publish.count = 1;
    frame.as.publish.items = view_of(items, sizeof items);
    if (with != NULL)
        frame.as.publish.with = *with;
    client_send(client, &frame);
}

static void expect_ack(struct client *client, uint64_t number, uint64_t seq)
{
    struct frame frame = client_expect(client, FRAME_ACK);
    assert_int_equal(frame.as.ack.number, number);
    assert_int_equal(frame.as.ack.count, 1);
    assert_int_equal(frame.as.ack.seq, seq);
}

static void expect_refused(struct client *client, uint64_t number, const char *code, const char *cause, uint64_t seq)
{
    struct frame frame = client_expect(client, FRAME_REFUSED);
    assert_int_equal(frame.as.refused.number, number);
    assert_true(view_is_same(frame.as.refused.code, view_text(code)));
    assert_true(view_is_same(frame.as.refused.cause, view_text(cause)));
    assert_int_equal(frame.as.refused.seq, seq);
}

static void conditions_are_answered(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client client;
    client_open(&client, &world, 1 << 20);
    publish_with(&client, "map/a", 1, 1, &(struct publish_with){.has_if_seq = true});
    expect_ack(&client, 1, 1);
    publish_with(&client, "map/a", 2, 2, &(struct publish_with){.has_if_seq = true});
    expect_refused(&client, 2, "conflict", "if_seq", 1);
    publish_with(&client, "map/a", 3, 3, &(struct publish_with){.has_if_seq = true, .if_seq = 1});
    expect_ack(&client, 3, 2);
    publish_with(&client, "log/a", 4, 3, &(struct publish_with){.ttl_ms = 5});
    expect_refused(&client, 4, "bad-request", "", 0);
    publish_with(&client, "map/a", 5, 3, &(struct publish_with){.ttl_ms = UINT64_MAX});
    expect_refused(&client, 5, "bad-request", "", 0);
    client_close(&client);
    world_stop(&world);
}

static void a_publisher_that_comes_back_is_folded_once(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client first, second;
    client_open_as(&first, &world, "till-7");
    publish_with(&first, "map/a", 100, 1, NULL);
    expect_ack(&first, 100, 1);
    client_publish(&first, "map/b", 101, ACK_FOLDED, 40);
    assert_int_equal(client_expect(&first, FRAME_ACK).as.ack.count, 40);
    client_open_as(&second, &world, "till-7");
    client_expect_close(&first, "conflict"); /* it has been taken over */
    publish_with(&second, "map/a", 100, 1, NULL);
    expect_ack(&second, 100, 1);
    client_publish(&second, "map/b", 101, ACK_FOLDED, 42); /* two more than before */
    struct frame frame = client_expect(&second, FRAME_ACK);
    assert_int_equal(frame.as.ack.number, 101);
    assert_int_equal(frame.as.ack.count, 42);
    assert_int_equal(frame.as.ack.seq, 1);
    publish_with(&second, "map/a", 100, 2, NULL);
    expect_refused(&second, 100, "conflict", "number", 1);
    client_close(&second);
    world_stop(&world);
}

static void keys_bound_to_a_session_go_with_it(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client owner, watcher;
    client_open(&owner, &world, 1 << 20);
    publish_with(&owner, "map/a", 1, 1, &(struct publish_with){.bind = true});
    expect_ack(&owner, 1, 1);
    client_open(&watcher, &world, 1 << 20);
    client_subscribe(&watcher, 1, "map/a", POLICY_RESYNC);
    client_expect_begun(&watcher);
    client_close(&owner); /* without a word */
    struct frame frame;
    do
        assert_true(client_receive(&watcher, &frame));
    while (frame.op != FRAME_UPDATES);
    struct view key, value, items = frame.as.updates.items;
    assert_int_equal(frame.as.updates.seq, 2);
    assert_int_equal(items_next(&items, 16, &key, &value), WEIR_OK);
    assert_true(view_is_same(key, view_of("\xa1k", 2)) && view_is_same(value, view_of("\xc0", 1)));
    client_close(&watcher);
    world_stop(&world);
}

static void a_publishers_name_has_its_bound(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client client;
    char name[66];
    memset(name, 'n', 65);
    name[64] = '\0';
    client_open_as(&client, &world, name);
    client_close(&client);
    name[64] = 'n';
    name[65] = '\0';
    struct frame frame = {.op = FRAME_HELLO};
    client_dial(&client, &world);
    frame.as.hello.version = SESSION_VERSION;
    frame.as.hello.message_max = 1 << 20;
    frame.as.hello.publisher = view_text(name);
    client_send(&client, &frame);
    client_expect_close(&client, "bad-request");
    world_stop(&world);
}

static struct reply ask(int fd, uint8_t *buffer, size_t capacity, struct view args)
{
    uint8_t body[1024];
    struct reply reply;
    raw_message(fd, body, body_request(body, sizeof body, 7, "publish", args));
    size_t size = raw_message_receive(fd, buffer, capacity);
    assert_true(size != SIZE_MAX && size > 4);
    assert_int_equal(reply_read(view_of(buffer + 4, size - 4), 64, &reply), WEIR_OK);
    return reply;
}

/* {topic: map/a, key: k, value, and one or two options more} */
static struct view args_of(uint8_t *out, size_t capacity, uint64_t value, const char *option, uint64_t number,
                           const char *publisher)
{
    struct value_writer writer;
    value_writer_init(&writer, out, capacity);
    value_write_map(&writer, 4u + (publisher != NULL));
    value_write_str(&writer, view_text("topic"));
    value_write_str(&writer, view_text("map/a"));
    value_write_str(&writer, view_text("key"));
    value_write_str(&writer, view_text("k"));
    value_write_str(&writer, view_text("value"));
    value_write_uint(&writer, value);
    value_write_str(&writer, view_text(option));
    value_write_uint(&writer, number);
    if (publisher != NULL) {
        value_write_str(&writer, view_text("publisher"));
        value_write_str(&writer, view_text(publisher));
    }
    return view_of(out, writer.size);
}

static void assert_error(struct reply reply, const char *code, uint64_t seq)
{
    uint64_t found = 0;
    assert_false(reply.ok);
    assert_true(view_is_same(reply.code, view_text(code)));
    assert_int_equal(args_find_uint(reply.result, "seq", &found), seq > 0 ? WEIR_OK : WEIR_NOT_FOUND);
    assert_int_equal(found, seq);
}

static void requests_take_the_same_options(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    uint8_t args[256], buffer[1024];
    uint64_t seq = 0;
    int fd = raw_dial(&world, SP_REQ0);
    assert_true(ask(fd, buffer, sizeof buffer, args_of(args, sizeof args, 1, "if_seq", 0, NULL)).ok);
    assert_error(ask(fd, buffer, sizeof buffer, args_of(args, sizeof args, 2, "if_seq", 0, NULL)), "conflict", 1);
    for (int i = 0; i < 3; i++) { /* as a REQ socket does that had no reply */
        struct reply reply = ask(fd, buffer, sizeof buffer, args_of(args, sizeof args, 3, "number", 9, "gate"));
        assert_true(reply.ok);
        assert_int_equal(args_find_uint(reply.result, "seq", &seq), WEIR_OK);
        assert_int_equal(seq, 2);
    }
    assert_error(ask(fd, buffer, sizeof buffer, args_of(args, sizeof args, 4, "number", 9, "gate")), "conflict", 2);
    assert_error(ask(fd, buffer, sizeof buffer, args_of(args, sizeof args, 4, "if_seq", 2, "gate")), "bad-request", 0);
    assert_error(ask(fd, buffer, sizeof buffer, args_of(args, sizeof args, 4, "bind", 2, NULL)), "bad-request", 0);
    assert_error(ask(fd, buffer, sizeof buffer, args_of(args, sizeof args, 4, "ttl_ms", UINT64_MAX, NULL)),
                 "bad-request", 0);
    assert_error(ask(fd, buffer, sizeof buffer, args_of(args, sizeof args, 4, "number", UINT64_C(1) << 60, "gate")),
                 "bad-request", 0);
    close(fd);
    world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conditions_are_answered),
        cmocka_unit_test(a_publisher_that_comes_back_is_folded_once),
        cmocka_unit_test(keys_bound_to_a_session_go_with_it),
        cmocka_unit_test(a_publishers_name_has_its_bound),
        cmocka_unit_test(requests_take_the_same_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
