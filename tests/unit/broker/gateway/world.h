/* A whole data plane in one process: arena, runtime, directory of topics, gateway on a free loopback port, and raw
 * clients that can say anything, well-formed or not. Waits are on events, with a deadline. */
#ifndef TESTS_UNIT_BROKER_GATEWAY_WORLD_H
#define TESTS_UNIT_BROKER_GATEWAY_WORLD_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "actors/runtime/runtime.h"
#include "broker/gateway/gateway.h"
#include "clients/sp/framing.h"
#include "clients/wire/record.h"
#include "clients/wire/request.h"

#define WORLD_DEADLINE_MS 60000

struct world {
    struct arena *arena;
    struct runtime *runtime;
    struct directory *directory;
    struct gateway *gateway;
    struct gateway_config config;
    uint16_t port;
};

/* Of the worlds that are started; a test that fills the arena wants less. */
static size_t world_arena_max = (size_t)1 << 30;

static inline void world_rule(struct directory_rule *rule, const char *pattern, enum topic_kind kind)
{
    *rule = (struct directory_rule){.rule = {.kind = kind, .retain_count_max = 1024, .retain_bytes_max = 1 << 20}};
    snprintf(rule->pattern, sizeof rule->pattern, "%s", pattern);
}

static inline void world_directory(struct world *world)
{
    struct directory_rule rules[6];
    world_rule(&rules[0], "map/#", TOPIC_MAP);
    world_rule(&rules[1], "log/#", TOPIC_LOG);
    rules[1].rule.log_count_max = 1000;
    world_rule(&rules[2], "merge/#", TOPIC_MERGE);
    world_rule(&rules[3], "slow/#", TOPIC_LAST);
    rules[3].rule.mailbox_max = 2;
    rules[3].rule.retain_bytes_max = 4096;
    world_rule(&rules[4], "small/#", TOPIC_LAST);
    rules[4].rule.state_bytes_max = 64;
    world_rule(&rules[5], "big/#", TOPIC_MAP);
    rules[5].rule.retain_bytes_max = 16 << 20;
    struct directory_config config = {.rules = rules,
                                      .rule_count = sizeof rules / sizeof rules[0],
                                      .auto_create = true,
                                      .topics_max = 4096,
                                      .state_bytes_max = (size_t)256 << 20,
                                      .subscriptions_max = 1024,
                                      .feeds_max = 65536,
                                      .retain_count_max_dead = 16};
    config.fallback = (struct topic_rule){.kind = TOPIC_LAST, .retain_count_max = 1024, .retain_bytes_max = 1 << 20};
    assert_int_equal(directory_create(world->runtime, WEIR_ACTOR_NONE, NULL, &config, &world->directory), WEIR_OK);
}

/* tweak (may be NULL) changes the configuration before the start. */
static inline void world_start(struct world *world, const struct connection_ops *session,
                               void (*tweak)(struct gateway_config *config))
{
    *world = (struct world){.port = 0};
    log_level_set(LOG_OFF);
    struct arena_config arena_config = {.bytes_max = world_arena_max};
    assert_int_equal(arena_create(&arena_config, &world->arena), WEIR_OK);
    struct runtime_config runtime_config = {.arena = world->arena, .workers = 2};
    assert_int_equal(runtime_create(&runtime_config, &world->runtime), WEIR_OK);
    world_directory(world);
    assert_int_equal(runtime_start(world->runtime), WEIR_OK);
    gateway_config_defaults(&world->config);
    world->config.heartbeat_ms = 60000;
    if (tweak != NULL)
        tweak(&world->config);
    struct gateway_options options = {
        .runtime = world->runtime, .directory = world->directory, .session = session, .server_name = "weir test"};
    assert_int_equal(gateway_create(&options, &world->config, &world->gateway), WEIR_OK);
    const char *reason = "";
    if (gateway_listen(world->gateway, "tcp://127.0.0.1:0", &reason) != WEIR_OK)
        fail_msg("listen: %s", reason);
    const char *url = gateway_listener_url(world->gateway, 0);
    world->port = (uint16_t)atoi(strrchr(url, ':') + 1);
}

static inline void world_on_leak(weir_msg msg, size_t size, const char *owner, void *context)
{
    (void)msg;
    (void)context;
    fprintf(stderr, "leak: %zu bytes of \"%s\"\n", size, owner);
}

static inline void world_stop(struct world *world)
{
    (void)gateway_drain(world->gateway, 2000);
    runtime_stop(world->runtime);
    gateway_destroy(&world->gateway);
    directory_destroy(&world->directory);
    runtime_destroy(&world->runtime);
    assert_int_equal(arena_leaks_report(world->arena, world_on_leak, NULL), 0);
    arena_destroy(&world->arena);
}

/* --------------------------------------------------------------------------------------------- waiting */

static inline void world_pause(void) { poll(NULL, 0, 2); }

/* Evaluates the condition again and again until it holds; fails at the deadline. */
#define WAIT_UNTIL(condition)                                                    \
    do {                                                                         \
        uint64_t wait_until_ns = clock_now_ns() + WORLD_DEADLINE_MS * NS_PER_MS; \
        while (!(condition)) {                                                   \
            if (clock_now_ns() > wait_until_ns)                                  \
                fail_msg("deadline passed waiting for: %s", #condition);         \
            world_pause();                                                       \
        }                                                                        \
    } while (0)

static inline uint64_t world_refusals(struct world *world, enum refusal refusal)
{
    struct gateway_status status;
    gateway_status(world->gateway, &status);
    return status.refusals[refusal];
}

static inline size_t world_connections(struct world *world)
{
    struct gateway_status status;
    gateway_status(world->gateway, &status);
    return status.connections;
}

static inline bool world_topic_copy(const struct topic_status *status, void *context)
{
    *(struct topic_status *)context = *status;
    return false;
}

/* The topic's seq; 0 when there is none. */
static inline uint64_t world_seq(struct world *world, const char *topic)
{
    struct topic_status status = {.seq = 0};
    directory_topics_each(world->directory, view_text(topic), world_topic_copy, &status);
    return status.seq;
}

static inline bool world_first_connection(const struct connection_status *status, void *context)
{
    *(struct connection_status *)context = *status;
    return false;
}

static inline struct connection_status world_connection(struct world *world)
{
    struct connection_status status = {.id = 0};
    gateway_connections_each(world->gateway, world_first_connection, &status);
    return status;
}

/* ------------------------------------------------------------------------------------------ raw clients */

static inline int raw_connect(const struct world *world)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(world->port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct timeval limit = {.tv_sec = WORLD_DEADLINE_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    return fd;
}

/* False when the broker has ended the connection, or takes nothing. */
static inline bool raw_try_send(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;
    while (size > 0) {
        ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += sent;
        size -= (size_t)sent;
    }
    return true;
}

static inline void raw_send(int fd, const void *bytes, size_t size)
{
    if (!raw_try_send(fd, bytes, size))
        fail_msg("send: %s", strerror(errno));
}

/* False at the end of the stream, or at a reset. */
static inline bool raw_receive(int fd, void *bytes, size_t size)
{
    char *at = bytes;
    while (size > 0) {
        ssize_t got = recv(fd, at, size, 0);
        if (got == 0 || (got < 0 && errno == ECONNRESET))
            return false;
        if (got < 0)
            fail_msg("receive: %s", strerror(errno));
        at += got;
        size -= (size_t)got;
    }
    return true;
}

static inline int raw_dial(const struct world *world, enum sp_protocol own)
{
    int fd = raw_connect(world);
    uint8_t header[SP_HEADER_SIZE];
    sp_header_write(header, own);
    raw_send(fd, header, sizeof header);
    assert_true(raw_receive(fd, header, sizeof header));
    return fd;
}

static inline void raw_message(int fd, const void *body, size_t size)
{
    uint8_t prefix[8];
    sp_prefix_write(prefix, false, size);
    raw_send(fd, prefix, sizeof prefix);
    raw_send(fd, body, size);
}

/* One message's body into out; SIZE_MAX when the connection ended. */
static inline size_t raw_message_receive(int fd, uint8_t *out, size_t capacity)
{
    uint8_t prefix[8];
    if (!raw_receive(fd, prefix, sizeof prefix))
        return SIZE_MAX;
    uint64_t size = 0;
    for (int i = 0; i < 8; i++)
        size = size << 8 | prefix[i];
    assert_true(size <= capacity);
    return raw_receive(fd, out, (size_t)size) ? (size_t)size : SIZE_MAX;
}

/* Waits for the broker to end the connection. */
static inline void raw_expect_end(int fd)
{
    char byte;
    while (raw_receive(fd, &byte, 1)) {
    }
    close(fd);
}

/* ---------------------------------------------------------------------------------------------- bodies */

/* One record of a str value. */
static inline size_t body_record(uint8_t *out, size_t capacity, const char *topic, const char *key, const char *value)
{
    uint8_t scratch[512];
    struct value_writer encoded, writer;
    value_writer_init(&encoded, scratch, sizeof scratch);
    value_write_str(&encoded, view_text(value));
    struct record record = {.topic = view_text(topic), .value = view_of(scratch, encoded.size)};
    size_t value_size = encoded.size;
    if (key != NULL) {
        value_write_str(&encoded, view_text(key));
        record.key = view_of(scratch + value_size, encoded.size - value_size);
    }
    value_writer_init(&writer, out, capacity);
    record_write(&writer, &record);
    assert_false(writer.is_full);
    return writer.size;
}

/* A request with its REQ id in front. */
static inline size_t body_request(uint8_t *out, size_t capacity, uint32_t id, const char *verb, struct view args)
{
    out[0] = (uint8_t)(0x80 | id >> 24);
    out[1] = (uint8_t)(id >> 16);
    out[2] = (uint8_t)(id >> 8);
    out[3] = (uint8_t)id;
    struct value_writer writer;
    value_writer_init(&writer, out + 4, capacity - 4);
    request_write(&writer, view_text(verb), args);
    assert_false(writer.is_full);
    return 4 + writer.size;
}

/* {name: text, ...} from pairs of texts, NULL ends. */
static inline size_t body_args(uint8_t *out, size_t capacity, ...)
{
    struct value_writer writer;
    value_writer_init(&writer, out, capacity);
    va_list texts;
    va_start(texts, capacity);
    uint32_t count = 0;
    while (va_arg(texts, const char *) != NULL)
        count++;
    va_end(texts);
    value_write_map(&writer, count / 2);
    va_start(texts, capacity);
    for (uint32_t i = 0; i < count; i++)
        value_write_str(&writer, view_text(va_arg(texts, const char *)));
    va_end(texts);
    assert_false(writer.is_full);
    return writer.size;
}

#endif
