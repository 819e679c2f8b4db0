/* PUSH peers: records reach topics in order, full topics hold back their publishers and nobody else, and nothing a peer
 * says harms anybody. */
#include <nng/nng.h>
#include <nng/protocol/pipeline0/push.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "tests/unit/broker/gateway/asking.h"
#include "tests/unit/broker/gateway/blocker.h"

static struct gateway_status status_of(struct world *world)
{
    struct gateway_status status;
    gateway_status(world->gateway, &status);
    return status;
}

static void push_text(int fd, const char *topic, const char *value)
{
    uint8_t body[1024];
    raw_message(fd, body, body_record(body, sizeof body, topic, NULL, value));
}

static void push_publishes_records(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    int fd = raw_dial(&world, SP_PUSH0);
    uint8_t body[1024];
    size_t size = body_record(body, sizeof body, "a/b", NULL, "one");
    size += body_record(body + size, sizeof body - size, "a/c", "k", "two");
    raw_message(fd, body, size);
    WAIT_UNTIL(world_seq(&world, "a/b") == 1 && world_seq(&world, "a/c") == 1);
    close(fd);
    WAIT_UNTIL(world_connections(&world) == 0); /* topics may fold before the connection has counted */
    struct gateway_status status = status_of(&world);
    assert_int_equal(status.records_in, 2);
    assert_int_equal(status.records_accepted, 2);
    assert_int_equal(status.records_refused, 0);
    world_stop(&world);
}

static atomic_uint yields;

/* In the place of the C library's. */
int sched_yield(void)
{
    atomic_fetch_add(&yields, 1);
    return (int)syscall(SYS_sched_yield);
}

static void stream_of_small_messages_lets_its_sender_run(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    int fd = raw_dial(&world, SP_PUSH0);
    atomic_store(&yields, 0);
    push_text(fd, "a", "alone");
    WAIT_UNTIL(world_seq(&world, "a") == 1);
    assert_int_equal(atomic_load(&yields), 0);
    uint64_t sent = 1, deadline = clock_now_ns() + 60 * NS_PER_S;
    for (; atomic_load(&yields) == 0 && clock_now_ns() < deadline; sent++)
        push_text(fd, "a", "one of many");
    assert_true(atomic_load(&yields) > 0);
    WAIT_UNTIL(world_seq(&world, "a") == sent);
    close(fd);
    WAIT_UNTIL(world_connections(&world) == 0);
    world_stop(&world);
}

static void interleaved_topics_keep_their_order(void **state)
{
    (void)state;
    enum { TOPICS = 150, ROUNDS = 60 };
    struct world world;
    world_start(&world, NULL, NULL);
    int fd = raw_dial(&world, SP_PUSH0);
    static uint8_t body[1 << 20], reply[1 << 20];
    for (int half = 0; half < 2; half++) {
        size_t size = 0;
        for (int round = half * ROUNDS / 2; round < (half + 1) * ROUNDS / 2; round++) {
            for (int i = 0; i < TOPICS; i++) {
                char topic[128], value[16];
                /* Some names are beyond what a connection keeps inline. */
                snprintf(topic, sizeof topic, "log/%s%d",
                         i % 3 ? "" : "an-uncommonly-long-name-for-a-topic-that-nobody-would-type/", i);
                snprintf(value, sizeof value, "%d", round);
                size += body_record(body + size, sizeof body - size, topic, NULL, value);
            }
        }
        raw_message(fd, body, size);
    }
    WAIT_UNTIL(status_of(&world).records_accepted == TOPICS * ROUNDS);
    for (int i = 0; i < TOPICS; i += 7) {
        char topic[128];
        snprintf(topic, sizeof topic, "log/%s%d",
                 i % 3 ? "" : "an-uncommonly-long-name-for-a-topic-that-nobody-would-type/", i);
        WAIT_UNTIL(world_seq(&world, topic) == ROUNDS);
        struct view found = log_state(&world, topic, reply, sizeof reply);
        struct value_reader reader;
        value_reader_init(&reader, found, 4);
        assert_int_equal(value_read_array(&reader), ROUNDS);
        for (int round = 0; round < ROUNDS; round++) {
            char value[16];
            snprintf(value, sizeof value, "%d", round);
            assert_true(view_is_same(value_read_str(&reader), view_text(value)));
        }
    }
    close(fd);
    world_stop(&world);
}

static void any_cut_of_the_stream_is_the_same_stream(void **state)
{
    (void)state;
    enum { RECORDS = 3000 };
    unsigned seed = (unsigned)clock_now_ns();
    print_message("seed %u\n", seed);
    struct world world;
    world_start(&world, NULL, NULL);
    static uint8_t stream[4 << 20];
    size_t size = 0;
    for (int i = 0; i < RECORDS; i++) {
        static uint8_t value[40000];
        uint32_t length = i % 97 == 0 ? (uint32_t)rand_r(&seed) % 40000 : (uint32_t)rand_r(&seed) % 60;
        struct value_writer writer;
        value_writer_init(&writer, stream + size + 8, sizeof stream - size - 8);
        value_write_array(&writer, 2);
        value_write_str(&writer, view_text(i % 2 ? "log/x" : "log/y"));
        value_write_bin(&writer, view_of(value, length));
        assert_false(writer.is_full);
        sp_prefix_write(stream + size, false, writer.size);
        size += 8 + writer.size;
    }
    int fd = raw_dial(&world, SP_PUSH0);
    for (size_t sent = 0; sent < size;) {
        size_t piece = 1 + (size_t)rand_r(&seed) % (rand_r(&seed) % 8 ? 300 : 200000);
        piece = piece < size - sent ? piece : size - sent;
        raw_send(fd, stream + sent, piece);
        sent += piece;
    }
    WAIT_UNTIL(world_seq(&world, "log/x") == RECORDS / 2 && world_seq(&world, "log/y") == RECORDS / 2);
    close(fd);
    world_stop(&world);
}

static void a_full_topic_stops_its_publisher_and_nobody_else(void **state)
{
    (void)state;
    enum { MESSAGES = 3000 };
    struct world world;
    world_start(&world, NULL, NULL);
    struct blocker blocker;
    blocker_start(&blocker, &world, "slow/a");
    int blocked = raw_dial(&world, SP_PUSH0);
    WAIT_UNTIL(world_connections(&world) == 1); /* so that the first connection is this one */
    int free_one = raw_dial(&world, SP_PUSH0);
    static uint8_t value[20000];
    static uint8_t body[20100];
    struct value_writer writer;
    value_writer_init(&writer, body, sizeof body);
    value_write_array(&writer, 2);
    value_write_str(&writer, view_text("slow/a"));
    value_write_bin(&writer, view_of(value, sizeof value));
    /* Sends until the kernel takes no more: the broker has stopped reading. */
    struct timeval limit = {.tv_usec = 300000};
    setsockopt(blocked, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    static uint8_t message[20200];
    sp_prefix_write(message, false, writer.size);
    memcpy(message + 8, body, writer.size);
    size_t size = 8 + writer.size, total = 0;
    int whole = 0;
    for (; whole < MESSAGES; whole++) {
        size_t at = 0;
        while (at < size) {
            ssize_t sent = send(blocked, message + at, size - at, MSG_NOSIGNAL);
            if (sent <= 0)
                break;
            at += (size_t)sent;
            total += (size_t)sent;
        }
        if (at < size)
            break;
    }
    assert_true(whole < MESSAGES);
    struct connection_status held = world_connection(&world);
    WAIT_UNTIL((held = world_connection(&world), strcmp(held.blocked_on, "slow/a") == 0));
    assert_string_equal(held.state, "held back");
    assert_int_equal(held.records_in, held.accepted + held.refused + held.waiting);
    for (int i = 0; i < 500; i++)
        push_text(free_one, "fast/b", "x");
    WAIT_UNTIL(world_seq(&world, "fast/b") == 500);
    blocker_release(&blocker);
    /* The rest of the message that was cut off in the middle, so that all are whole. */
    limit.tv_sec = 10;
    setsockopt(blocked, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    raw_send(blocked, message + total % size, size - total % size);
    WAIT_UNTIL(world_seq(&world, "slow/a") == (uint64_t)whole + 1);
    WAIT_UNTIL(world_connection(&world).blocked_on[0] == '\0');
    close(blocked);
    close(free_one);
    world_stop(&world);
}

static void what_a_peer_sent_before_it_left_is_still_published(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    struct blocker blocker;
    blocker_start(&blocker, &world, "slow/a");
    int fd = raw_dial(&world, SP_PUSH0);
    enum { RECORDS = 200 };
    for (int i = 0; i < RECORDS; i++)
        push_text(fd, "slow/a", "0123456789012345678901234567890123456789012345678901234567890123456789");
    WAIT_UNTIL(world_connection(&world).blocked_on[0] != '\0');
    close(fd);
    blocker_release(&blocker);
    WAIT_UNTIL(world_seq(&world, "slow/a") == RECORDS);
    WAIT_UNTIL(world_connections(&world) == 0);
    struct gateway_status status = status_of(&world);
    assert_int_equal(status.records_in, RECORDS);
    assert_int_equal(status.records_accepted, RECORDS);
    world_stop(&world);
}

static void malformed_bodies_end_their_connection_only(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } bodies[] = {
        {"", 0},                              /* no record */
        {"\xc1", 1},                          /* never used by msgpack */
        {"\xdf\x10\0\0\0", 5},                /* a map of 2^28 pairs in 5 bytes */
        {"\x92\xa1t\xdb\xff\xff\xff\xff", 8}, /* a str of 4 GiB */
        {"\x92\xa1t", 3},                     /* cut off */
        {"\x91\xa1t", 3},                     /* one element */
        {"\x94\xa1t\1\xa1k\1", 7},            /* four */
        {"\x92\1\1", 3},                      /* the topic is no str */
        {"\x92\xa0\1", 3},                    /* the topic is empty */
        {"\x92\xa3"
         "a+b\1",
         6}, /* a wildcard */
        {"\x92\xa3"
         "a//\1",
         6}, /* an empty segment */
        {"\x92\xa3"
         "a\0b\1",
         6},                                                                                     /* a NUL */
        {"\x93\xa1t\1\1", 5},                                                                    /* the key is no str */
        {"\x92\xa1t\xa2\xc0\x80", 6},                                                            /* overlong UTF-8 */
        {"\x92\xa1t\xa3\xed\xa0\x80", 7},                                                        /* a surrogate */
        {"\x92\xa1t\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\1", 21}, /* 17 deep */
    };
    struct world world;
    world_start(&world, NULL, NULL);
    int good = raw_dial(&world, SP_PUSH0);
    size_t count = sizeof bodies / sizeof bodies[0];
    for (size_t i = 0; i < count; i++) {
        int fd = raw_dial(&world, SP_PUSH0);
        push_text(fd, "log/before", "x");
        raw_message(fd, bodies[i].bytes, bodies[i].size);
        raw_expect_end(fd);
        push_text(good, "log/good", "x");
    }
    WAIT_UNTIL(world_seq(&world, "log/good") == count && world_seq(&world, "log/before") == count);
    WAIT_UNTIL(world_connections(&world) == 1);
    assert_int_equal(status_of(&world).records_refused, count);
    close(good);
    world_stop(&world);
}

static void powers_of_two_have_no_slack(void **state)
{
    (void)state;
    static const size_t sizes[] = {1024, 2048, 4096, 8192, 65536};
    struct world world;
    world_start(&world, NULL, NULL);
    static uint8_t body[65536];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        /* A str that claims one byte more than there is, up to the last byte of the message. */
        memset(body, 'x', sizeof body);
        memcpy(body, "\x92\xa1t\xda", 4);
        size_t claimed = sizes[i] - 6 + 1;
        body[4] = (uint8_t)(claimed >> 8);
        body[5] = (uint8_t)claimed;
        int fd = raw_dial(&world, SP_PUSH0);
        raw_message(fd, body, sizes[i]);
        raw_expect_end(fd);
        claimed--;
        body[4] = (uint8_t)(claimed >> 8);
        body[5] = (uint8_t)claimed;
        fd = raw_dial(&world, SP_PUSH0);
        raw_message(fd, body, sizes[i]);
        WAIT_UNTIL(world_seq(&world, "t") == i + 1);
        close(fd);
    }
    world_stop(&world);
}

static void reserved_topics_are_refused_and_the_rest_passes(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    int fd = raw_dial(&world, SP_PUSH0);
    push_text(fd, "$SYS/load", "x");
    push_text(fd, "$dead/a", "x");
    push_text(fd, "..", "x");
    WAIT_UNTIL(world_seq(&world, "..") == 1);
    struct gateway_status status = status_of(&world);
    assert_int_equal(status.records_in, 3);
    assert_int_equal(status.records_refused, 2);
    assert_int_equal(status.refusals[REFUSAL_TOPIC_NAME], 2);
    close(fd);
    world_stop(&world);
}

static void small_messages(struct gateway_config *config)
{
    config->message_size_max = 4096;
    config->records_per_message_max = 10;
}

static void bounds_hold_to_the_byte(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, small_messages);
    static uint8_t body[5000];
    memset(body, 0, sizeof body);
    /* A key, so that the rest of a body can be of any length without a record beyond its own bound. */
    size_t size = 0;
    for (int i = 0; i < 2; i++) {
        memcpy(body + size, "\x92\xa1t\xc5\x07\xfa", 6);
        size += 6 + 0x7fa;
    }
    assert_int_equal(size, 4096);
    int fd = raw_dial(&world, SP_PUSH0);
    raw_message(fd, body, 4096);
    WAIT_UNTIL(world_seq(&world, "t") == 2);
    static const uint64_t lengths[] = {4097, UINT64_C(1) << 63, UINT64_MAX - 23, UINT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        int other = raw_dial(&world, SP_PUSH0);
        uint8_t prefix[8];
        sp_prefix_write(prefix, false, lengths[i]);
        raw_send(other, prefix, sizeof prefix);
        raw_expect_end(other);
        assert_int_equal(world_refusals(&world, REFUSAL_MESSAGE_SIZE), i + 1);
    }
    /* One record as long as the message: no subscriber could be sent it with a frame around. */
    memcpy(body, "\x92\xa1t\xc5\x0f\xfa", 6);
    raw_message(fd, body, 4096);
    WAIT_UNTIL(world_refusals(&world, REFUSAL_RECORD_SIZE) == 1);
    size = 0;
    for (int i = 0; i < 11; i++)
        size += body_record(body + size, sizeof body - size, "t", NULL, "x");
    raw_message(fd, body, size);
    raw_expect_end(fd);
    assert_int_equal(world_refusals(&world, REFUSAL_RECORD_COUNT), 1);
    WAIT_UNTIL(world_seq(&world, "t") == 12);
    world_stop(&world);
}

static void a_message_cut_off_by_the_end_is_no_message(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, NULL, NULL);
    for (int cut = 1; cut < 19; cut++) {
        int fd = raw_dial(&world, SP_PUSH0);
        uint8_t message[64], record[48];
        size_t size = body_record(record, sizeof record, "cut", NULL, "value");
        sp_prefix_write(message, false, size);
        memcpy(message + 8, record, size);
        assert_true((size_t)cut < size + 8);
        raw_send(fd, message, (size_t)cut % (size + 8));
        shutdown(fd, SHUT_WR);
        raw_expect_end(fd);
    }
    WAIT_UNTIL(world_connections(&world) == 0);
    assert_int_equal(world_seq(&world, "cut"), 0);
    assert_int_equal(status_of(&world).records_in, 0);
    world_stop(&world);
}

static void a_claimed_length_costs_nothing_until_bytes_come(void **state)
{
    (void)state;
    enum { CLAIMS = 200 };
    struct world world;
    world_start(&world, NULL, NULL);
    int fds[CLAIMS];
    for (int i = 0; i < CLAIMS; i++) {
        fds[i] = raw_dial(&world, SP_PUSH0);
        uint8_t prefix[8];
        sp_prefix_write(prefix, false, 1 << 20);
        raw_send(fds[i], prefix, sizeof prefix);
    }
    WAIT_UNTIL(status_of(&world).bytes_in == CLAIMS * 8);
    struct arena_usage usage;
    arena_usage(world.arena, &usage);
    assert_true(usage.bytes_live < (size_t)CLAIMS * 4096 + (1 << 20));
    for (int i = 0; i < CLAIMS; i++)
        close(fds[i]);
    world_stop(&world);
}

static void stock_push_sockets_publish(void **state)
{
    (void)state;
    enum { RECORDS = 2000 };
    struct world world;
    world_start(&world, NULL, NULL);
    nng_socket socket;
    char url[64];
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", world.port);
    assert_int_equal(nng_push0_open(&socket), 0);
    assert_int_equal(nng_socket_set_ms(socket, NNG_OPT_SENDTIMEO, WORLD_DEADLINE_MS), 0);
    assert_int_equal(nng_dial(socket, url, NULL, 0), 0);
    for (int i = 0; i < RECORDS; i++) {
        uint8_t body[128];
        size_t size = body_record(body, sizeof body, "log/stock", NULL, "value");
        assert_int_equal(nng_send(socket, body, size, 0), 0);
    }
    WAIT_UNTIL(world_seq(&world, "log/stock") == RECORDS);
    nng_close(socket);
    world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(push_publishes_records),
        cmocka_unit_test(stream_of_small_messages_lets_its_sender_run),
        cmocka_unit_test(interleaved_topics_keep_their_order),
        cmocka_unit_test(any_cut_of_the_stream_is_the_same_stream),
        cmocka_unit_test(a_full_topic_stops_its_publisher_and_nobody_else),
        cmocka_unit_test(what_a_peer_sent_before_it_left_is_still_published),
        cmocka_unit_test(malformed_bodies_end_their_connection_only),
        cmocka_unit_test(powers_of_two_have_no_slack),
        cmocka_unit_test(reserved_topics_are_refused_and_the_rest_passes),
        cmocka_unit_test(bounds_hold_to_the_byte),
        cmocka_unit_test(a_message_cut_off_by_the_end_is_no_message),
        cmocka_unit_test(a_claimed_length_costs_nothing_until_bytes_come),
        cmocka_unit_test(stock_push_sockets_publish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
