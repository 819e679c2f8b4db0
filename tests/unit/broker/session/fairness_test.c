/* What one feed of a session costs the others of it. */
#include "tests/unit/broker/session/client.h"

#include "broker/gateway/output.h"
#include "broker/session/session.h"

enum { KEYS_FEW = 28, KEYS = 100, VALUE = 7000, LIVE = 100 };

/* A topic of kind map with 7 KB a key: few are at hand at once without credit, 700 KB are not. */
static void publish_large(struct client *publisher, uint32_t keys)
{
    static uint8_t value[VALUE], items[VALUE + 64];
    for (uint32_t i = 0; i < keys; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%u", i);
        struct value_writer writer;
        value_writer_init(&writer, items, sizeof items);
        value_write_str(&writer, view_text(key));
        value_write_bin(&writer, view_of(value, sizeof value));
        struct frame frame = {.op = FRAME_PUBLISH, .as.publish = {.number = i + 1, .ack = ACK_FOLDED, .count = 1}};
        frame.as.publish.topic = view_text("big/a");
        frame.as.publish.items = view_of(items, writer.size);
        client_send(publisher, &frame);
        (void)client_expect(publisher, FRAME_ACK);
    }
}

static bool outbox_most(const struct connection_status *status, void *context)
{
    uint64_t *most = context;
    *most = status->outbox_bytes > *most ? status->outbox_bytes : *most;
    return true;
}

/* What waits for the one that does not read. */
static uint64_t waiting(struct world *world)
{
    uint64_t most = 0;
    gateway_connections_each(world->gateway, outbox_most, &most);
    return most;
}

static void live_updates_wait_for_one_piece_of_a_snapshot_at_most(void **state)
{
    (void)state;
    static const char *const topics[] = {"log/a", "log/b"};
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client client, publisher;
    client_open(&client, &world, 0);
    client_open(&publisher, &world, 0);
    publish_large(&publisher, KEYS_FEW);
    for (uint32_t i = 0; i < 2; i++) {
        client_subscribe(&client, i, topics[i], POLICY_RESYNC);
        (void)client_expect(&client, FRAME_BEGIN);
        (void)client_expect(&client, FRAME_END);
    }
    client_subscribe(&client, 2, "big/a", POLICY_RESYNC);
    /* BEGIN needs no credit; then the snapshot waits for some, and of what comes behind it END is all but nothing. */
    (void)client_expect(&client, FRAME_BEGIN);
    WAIT_UNTIL(waiting(&world) > (uint64_t)KEYS_FEW * VALUE);
    assert_true(waiting(&world) > 2 * OUTPUT_BULK_PIECE);
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t before = waiting(&world);
        client_publish(&publisher, topics[i], KEYS_FEW + 1 + i * LIVE, ACK_FOLDED, LIVE);
        (void)client_expect(&publisher, FRAME_ACK);
        WAIT_UNTIL(waiting(&world) > before + 3 * (uint64_t)LIVE);
    }
    client_send(&client, &(struct frame){.op = FRAME_CREDIT, .as.credit.total = UINT64_MAX / 2});
    size_t updates = 0, entries_size = 0;
    bool is_over = false;
    while (updates < 2 || !is_over) {
        struct frame frame;
        assert_true(client_receive(&client, &frame));
        is_over = is_over || frame.op == FRAME_END;
        if (frame.op == FRAME_ENTRIES) {
            assert_true(frame.as.entries.items.size <= OUTPUT_BULK_PIECE);
            entries_size += frame.as.entries.items.size;
        }
        if (frame.op != FRAME_UPDATES)
            continue;
        updates++;
        assert_true(entries_size <= OUTPUT_BULK_PIECE);
    }
    assert_true(entries_size > (size_t)KEYS_FEW * VALUE); /* and the snapshot came whole */
    client_close(&client);
    client_close(&publisher);
    world_stop(&world);
}

/* The broker always has updates for the client, and yet the snapshot gets on. */
static void a_snapshot_gets_on_beside_updates_without_end(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    struct client client, publisher;
    client_open(&client, &world, 0);
    client_open(&publisher, &world, 0);
    publish_large(&publisher, KEYS);
    client_subscribe(&client, 1, "log/a", POLICY_RESYNC);
    (void)client_expect(&client, FRAME_BEGIN);
    (void)client_expect(&client, FRAME_END);
    client_subscribe(&client, 2, "big/a", POLICY_RESYNC);
    uint32_t big = client_expect(&client, FRAME_BEGIN).as.begin.feed;
    WAIT_UNTIL(waiting(&world) > 2 * OUTPUT_BULK_PIECE);
    uint64_t number = KEYS + 1, granted = 0, seq = 0;
    bool is_over = false;
    for (int round = 0; !is_over; round++) {
        assert_true(round < 200); /* a fifth of what is sent is enough for that */
        for (int i = 0; i < 8; i++, number += 1000)
            client_publish(&publisher, "log/a", number, ACK_FOLDED, 1000);
        for (uint64_t acked = 0; acked < 8000;)
            acked += client_expect(&publisher, FRAME_ACK).as.ack.count;
        granted = client.data_bytes + 65536; /* less than was published */
        client_send(&client, &(struct frame){.op = FRAME_CREDIT, .as.credit.total = granted});
        struct frame frame;
        while (client.data_bytes < granted && !is_over) {
            assert_true(client_receive(&client, &frame));
            is_over = frame.op == FRAME_END && frame.as.end.feed == big;
            if (frame.op == FRAME_BEGIN)
                seq = frame.as.begin.seq;
            if (frame.op != FRAME_UPDATES)
                continue;
            assert_true(frame.as.updates.seq > seq);
            seq = frame.as.updates.seq + frame.as.updates.count - 1;
        }
    }
    assert_true(client.data_bytes > (size_t)KEYS * VALUE);
    client_close(&client);
    client_close(&publisher);
    world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(live_updates_wait_for_one_piece_of_a_snapshot_at_most),
        cmocka_unit_test(a_snapshot_gets_on_beside_updates_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
