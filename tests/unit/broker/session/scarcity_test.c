/* Every allocation of a connection may fail: under budgets from next to nothing upwards each failure is met somewhere,
 * and each ends in a refusal or in the end of that connection, with nothing left behind. */
#include "actors/base/assert.h"
#include "actors/topic/fold.h"
#include "actors/topic/topic_limits.h"
#include "broker/session/session.h"
#include "tests/unit/broker/session/client.h"

static bool receive_soon(int fd, uint8_t *out, size_t size)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, 20) == 1 && recv(fd, out, size, 0) > 0;
}

static void send_anyway(int fd, const void *bytes, size_t size) { (void)!send(fd, bytes, size, MSG_NOSIGNAL); }

static void message_anyway(int fd, const void *body, size_t size)
{
    uint8_t prefix[8];
    sp_prefix_write(prefix, false, size);
    send_anyway(fd, prefix, sizeof prefix);
    send_anyway(fd, body, size);
}

/* Connects without insisting on an answer. */
static int dial_anyway(const struct world *world, enum sp_protocol own)
{
    int fd = raw_connect(world);
    uint8_t header[SP_HEADER_SIZE];
    sp_header_write(header, own);
    send_anyway(fd, header, sizeof header);
    (void)receive_soon(fd, header, sizeof header);
    return fd;
}

static void session_anyway(struct world *world)
{
    struct client client = {.fd = dial_anyway(world, SP_PAIR0)};
    uint8_t body[4096];
    struct value_writer writer;
    struct frame frames[4] = {
        {.op = FRAME_HELLO, .as.hello = {.version = 1, .credit = 100000, .message_max = 1 << 20}},
        {.op = FRAME_SUBSCRIBE, .as.subscribe = {.sub = 1, .snapshot = true, .updates = true}},
        {.op = FRAME_ALIAS, .as.alias = {.alias = 500, .topic = view_text("log/a")}},
        {.op = FRAME_PUBLISH,
         .as.publish = {.has_alias = true, .alias = 500, .number = 1, .ack = ACK_FOLDED, .count = 3}},
    };
    frames[1].as.subscribe.pattern = view_text("#");
    frames[3].as.publish.items = view_of("\xc0\1\xc0\2\xc0\3", 6);
    for (int i = 0; i < 4; i++) {
        value_writer_init(&writer, body, sizeof body);
        frame_write(&writer, &frames[i]);
        message_anyway(client.fd, body, writer.size);
    }
    for (int i = 0; i < 3; i++)
        (void)receive_soon(client.fd, body, sizeof body);
    close(client.fd);
}

static void request_anyway(struct world *world)
{
    static const char *const verbs[] = {"publish", "get", "list"};
    int fd = dial_anyway(world, SP_REQ0);
    uint8_t args[256], body[512];
    size_t size = body_args(args, sizeof args, "topic", "map/a", "value", "v", "key", "k", "pattern", "#", NULL);
    /* A get with a key, that is: every verb finds what it needs among these. */
    for (uint32_t i = 0; i < 3; i++)
        message_anyway(fd, body, body_request(body, sizeof body, i, verbs[i], view_of(args, size)));
    for (int i = 0; i < 3; i++)
        (void)receive_soon(fd, body, sizeof body);
    close(fd);
}

static void push_anyway(struct world *world)
{
    int fd = dial_anyway(world, SP_PUSH0), sub = dial_anyway(world, SP_SUB0);
    static uint8_t body[64 * 1024];
    size_t size = 0;
    for (int i = 0; i < 300; i++) {
        char topic[128];
        snprintf(topic, sizeof topic,
                 "log/a-name-that-is-too-long-to-be-kept-inline-by-the-connection-that-publishes/%d", i % 20);
        size += body_record(body + size, sizeof body - size, topic, NULL, "a value of some length");
    }
    message_anyway(fd, body, size);
    (void)receive_soon(sub, body, sizeof body);
    close(fd);
    close(sub);
}

/* A world with a second gateway, whose connections share one budget; it is the world's at first. */
struct scarce {
    struct world world;
    struct budget *budget;
    struct gateway *plentiful;
    uint16_t plentiful_port;
};

static void scarce_start(struct scarce *scarce)
{
    struct world *world = &scarce->world;
    world_start(world, &session_ops, NULL);
    assert_int_equal(budget_create(NULL, "scarce", 0, &scarce->budget), WEIR_OK);
    scarce->plentiful = world->gateway;
    scarce->plentiful_port = world->port;
    struct gateway_options options = {
        .runtime = world->runtime, .directory = world->directory, .session = &session_ops, .budget = scarce->budget};
    assert_int_equal(gateway_create(&options, &world->config, &world->gateway), WEIR_OK);
    assert_int_equal(gateway_listen(world->gateway, "tcp://127.0.0.1:0", NULL), WEIR_OK);
    world->port = (uint16_t)atoi(strrchr(gateway_listener_url(world->gateway, 0), ':') + 1);
}

static void scarce_stop(struct scarce *scarce)
{
    struct world *world = &scarce->world;
    (void)gateway_drain(world->gateway, 1000);
    struct gateway *gateway = world->gateway;
    world->gateway = scarce->plentiful;
    world->port = scarce->plentiful_port;
    int fd = raw_dial(world, SP_PUSH0); /* the other gateway never noticed */
    close(fd);
    (void)gateway_drain(world->gateway, 1000);
    runtime_stop(world->runtime);
    gateway_destroy(&gateway);
    gateway_destroy(&world->gateway);
    directory_destroy(&world->directory);
    runtime_destroy(&world->runtime);
    assert_int_equal(arena_leaks_report(world->arena, world_on_leak, NULL), 0);
    budget_destroy(&scarce->budget);
    arena_destroy(&world->arena);
}

static void scarce_memory_costs_connections_and_nothing_else(void **state)
{
    (void)state;
    struct scarce scarce;
    scarce_start(&scarce);
    for (size_t bytes = 512; bytes < 300 * 1024; bytes += bytes / 4 + 64) {
        budget_limit_set(scarce.budget, bytes);
        session_anyway(&scarce.world);
        request_anyway(&scarce.world);
        push_anyway(&scarce.world);
        WAIT_UNTIL(world_connections(&scarce.world) == 0);
        struct budget_usage usage;
        WAIT_UNTIL((budget_usage(scarce.budget, &usage), usage.blocks_used == 0));
        struct gateway_status status; /* nobody insisted on an answer: one may have come in since */
        WAIT_UNTIL((gateway_status(scarce.world.gateway, &status),
                    status.records_in == status.records_accepted + status.records_refused));
    }
    assert_true(world_refusals(&scarce.world, REFUSAL_MEMORY) > 0);
    scarce_stop(&scarce);
}

static void a_session_is_told_of_its_end_without_memory_to_say_so(void **state)
{
    (void)state;
    struct scarce scarce;
    scarce_start(&scarce);
    struct client client;
    client_open(&client, &scarce.world, 1 << 20);
    /* What the connection has been granted it still has: aliases use it up, and leave less than an answer takes. */
    budget_limit_set(scarce.budget, 1);
    char topic[200];
    memset(topic, 'a', sizeof topic);
    struct frame alias = {.op = FRAME_ALIAS, .as.alias.topic = view_of(topic, sizeof topic)};
    for (uint32_t i = 0; i < 200; i++) {
        alias.as.alias.alias = i;
        client_send(&client, &alias);
    }
    struct frame close = {.op = FRAME_HELLO};
    while (close.op != FRAME_CLOSE)
        assert_true(client_receive(&client, &close));
    assert_true(view_is_same(close.as.close.code, view_text("no-memory")));
    assert_true(view_is_same(close.as.close.message, view_text("the broker has no memory to answer into at present")));
    assert_false(client_receive(&client, &close));
    client_close(&client);
    assert_int_equal(world_refusals(&scarce.world, REFUSAL_MEMORY), 1);
    scarce_stop(&scarce);
}

/* A map that takes all the memory that subscriptions may have when its first snapshot is captured: in the topic's turn,
 * on its thread, so that what follows for the feed finds none, not even what that thread keeps. */
static struct {
    struct fold_ops ops;
    atomic_bool is_hungry;
    weir_msg held[8192];
    size_t count;
} hungry;

static void hungry_fill(struct arena *arena, size_t size)
{
    while (hungry.count < COUNT_OF(hungry.held) &&
           arena_alloc_leaving(arena, size, NULL, SUBSCRIPTIONS_LEAVE_PART, &hungry.held[hungry.count]) == WEIR_OK)
        hungry.count++;
    ENSURE(hungry.count < COUNT_OF(hungry.held));
}

static void hungry_capture(struct fold *fold, struct fold_snapshot *out)
{
    fold_map.capture(fold, out);
    if (!atomic_exchange(&hungry.is_hungry, false))
        return;
    for (size_t size = ARENA_BLOCK_SIZE_MAX; size >= 65536; size /= 2)
        hungry_fill(fold->arena, size - ARENA_BLOCK_OVERHEAD);
    hungry_fill(fold->arena, sizeof(struct topic_begin) + strlen("map/a"));
}

static void a_subscription_whose_feed_has_no_memory_to_begin_is_told_busy(void **state)
{
    (void)state;
    struct world world;
    struct client client;
    hungry.ops = fold_map;
    hungry.ops.capture = hungry_capture;
    fold_replace(TOPIC_MAP, &hungry.ops);
    size_t arena_max = world_arena_max;
    world_arena_max = (size_t)32 << 20;
    world_start(&world, &session_ops, NULL);
    world_arena_max = arena_max;
    client_open(&client, &world, 1 << 20);
    client_publish(&client, "map/a", 1, ACK_FOLDED, 3);
    (void)client_expect(&client, FRAME_ACK);
    atomic_store(&hungry.is_hungry, true);
    client_subscribe(&client, 5, "map/a", POLICY_RESYNC);
    struct frame frame = client_expect(&client, FRAME_UNSUBSCRIBED); /* and no BEGIN before it */
    assert_false(atomic_load(&hungry.is_hungry));
    assert_int_equal(frame.as.unsubscribed.sub, 5);
    assert_true(view_is_same(frame.as.unsubscribed.code, view_text("busy")));
    assert_true(view_is_same(frame.as.unsubscribed.message,
                             view_text("the broker has no memory for the feed at present: subscribe again later")));
    /* The session goes on, its number is free, and with memory there is a snapshot. */
    for (; hungry.count > 0; hungry.count--)
        arena_drop(world.arena, hungry.held[hungry.count - 1]);
    client_subscribe(&client, 5, "map/a", POLICY_RESYNC);
    frame = client_expect(&client, FRAME_BEGIN);
    assert_int_equal(frame.as.begin.seq, 3);
    frame = client_expect(&client, FRAME_ENTRIES);
    assert_int_equal(frame.as.entries.count, 3);
    client_close(&client);
    world_stop(&world);
    fold_replace(TOPIC_MAP, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scarce_memory_costs_connections_and_nothing_else),
        cmocka_unit_test(a_session_is_told_of_its_end_without_memory_to_say_so),
        cmocka_unit_test(a_subscription_whose_feed_has_no_memory_to_begin_is_told_busy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
