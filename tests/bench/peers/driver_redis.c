/* Redis with hiredis, pipelined.
 *   redis         PUBLISH and SUBSCRIBE. State: one hash, HSET and HGETALL
 *   redis-stream  one stream, XADD with a length limit and blocking XREAD; topic = field name */
#include "tests/bench/peers/driver.h"
#include "tests/bench/peers/util.h"

#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLUSH_SIZE = 64 * 1024, MAX_UNANSWERED = 16384 };

static const char KEPT_ENTRIES[] = "200000", READ_AT_ONCE[] = "1000", READ_BLOCK_MS[] = "50";

struct endpoint {
    struct options options;
    redisContext *redis;
    char **topics;
    unsigned unanswered; /* commands */
    char last_id[48];    /* of the stream entries received */
};

static void *driver_open(const struct options *options)
{
    struct endpoint *e = allocate(sizeof *e);
    e->options = *options;
    e->topics = topic_names(options->topics, "b.%u");
    e->redis = redisConnect(host_of(options->address), port_of(options->address));
    if (!e->redis || e->redis->err)
        die("redis: cannot connect to %s", options->address);
    return e;
}

static void send_all(struct endpoint *e)
{
    for (int done = 0; !done;)
        if (redisBufferWrite(e->redis, &done) != REDIS_OK)
            die("redis: write: %s", e->redis->errstr);
}

/* The next reply that has come, or comes within timeout_ms; NULL if there is none. */
static redisReply *next_reply(struct endpoint *e, int timeout_ms)
{
    for (void *reply = NULL;;) {
        if (redisGetReplyFromReader(e->redis, &reply) != REDIS_OK)
            die("redis: %s", e->redis->errstr);
        if (reply && ((redisReply *)reply)->type == REDIS_REPLY_ERROR)
            die("redis: %s", ((redisReply *)reply)->str);
        if (reply)
            return reply;
        struct pollfd p = {.fd = e->redis->fd, .events = POLLIN};
        if (poll(&p, 1, timeout_ms) <= 0)
            return NULL;
        if (redisBufferRead(e->redis) != REDIS_OK)
            die("redis: read: %s", e->redis->errstr);
    }
}

static void take_answers(struct endpoint *e, unsigned allowed)
{
    for (redisReply *reply; e->unanswered; e->unanswered--, freeReplyObject(reply))
        while (!(reply = next_reply(e, e->unanswered > allowed ? 100 : 0)))
            if (e->unanswered <= allowed)
                return;
}

static void driver_flush(void *endpoint)
{
    struct endpoint *e = endpoint;
    send_all(e);
    take_answers(e, MAX_UNANSWERED);
}

static void driver_sync(void *endpoint)
{
    struct endpoint *e = endpoint;
    send_all(e);
    take_answers(e, 0);
}

static void command(struct endpoint *e, int count, const char **words, const size_t *sizes)
{
    if (redisAppendCommandArgv(e->redis, count, words, sizes) != REDIS_OK)
        die("redis: command: %s", e->redis->errstr);
}

static void publish_command(struct endpoint *e, int count, const char **words, const size_t *sizes)
{
    command(e, count, words, sizes);
    if (++e->unanswered % 64 == 0 && sdslen(e->redis->obuf) >= FLUSH_SIZE)
        driver_flush(e);
}

static void driver_publish(void *endpoint, unsigned topic, const void *data, size_t size)
{
    struct endpoint *e = endpoint;
    const char *name = e->topics[topic];
    if (e->options.state)
        publish_command(e, 4, (const char *[]){"HSET", "state", name, data}, (size_t[]){4, 5, strlen(name), size});
    else
        publish_command(e, 3, (const char *[]){"PUBLISH", name, data}, (size_t[]){7, strlen(name), size});
}

static void driver_publish_stream(void *endpoint, unsigned topic, const void *data, size_t size)
{
    struct endpoint *e = endpoint;
    const char *name = e->topics[topic];
    publish_command(e, 8, (const char *[]){"XADD", "stream", "MAXLEN", "~", KEPT_ENTRIES, "*", name, data},
                    (size_t[]){4, 6, 6, 1, strlen(KEPT_ENTRIES), 1, strlen(name), size});
}

static void driver_subscribe(void *endpoint)
{
    struct endpoint *e = endpoint;
    if (e->options.state) {
        redisAppendCommand(e->redis, "HGETALL state");
        send_all(e);
        return;
    }
    for (unsigned i = 0; i < e->options.topics; i++)
        redisAppendCommand(e->redis, "SUBSCRIBE %s", e->topics[i]);
    e->unanswered = e->options.topics;
    driver_sync(e);
}

static void request_entries(struct endpoint *e)
{
    const char *words[] = {"XREAD", "COUNT", READ_AT_ONCE, "BLOCK", READ_BLOCK_MS, "STREAMS", "stream", e->last_id};
    command(e, 8, words, NULL);
    send_all(e);
    e->unanswered = 1;
}

static void driver_subscribe_stream(void *endpoint)
{
    struct endpoint *e = endpoint;
    snprintf(e->last_id, sizeof e->last_id, "0");
    request_entries(e);
}

static void deliver(struct endpoint *e, const redisReply *value)
{
    e->options.on_message(e->options.context, value->str, value->len);
}

static void driver_poll(void *endpoint, int timeout_ms)
{
    struct endpoint *e = endpoint;
    for (redisReply *reply; (reply = next_reply(e, timeout_ms)); freeReplyObject(reply)) {
        if (e->options.state) /* name, value, name, value .. */
            for (size_t i = 1; i < reply->elements; i += 2)
                deliver(e, reply->element[i]);
        else if (reply->elements == 3 && reply->element[0]->str[0] == 'm') /* message */
            deliver(e, reply->element[2]);
        timeout_ms = 0;
    }
}

static void driver_poll_stream(void *endpoint, int timeout_ms)
{
    struct endpoint *e = endpoint;
    redisReply *reply = next_reply(e, timeout_ms);
    if (!reply)
        return;
    if (reply->elements) { /* ((key ((id (name value)) ..))) */
        const redisReply *entries = reply->element[0]->element[1];
        for (size_t i = 0; i < entries->elements; i++)
            deliver(e, entries->element[i]->element[1]->element[1]);
        const redisReply *last = entries->element[entries->elements - 1];
        snprintf(e->last_id, sizeof e->last_id, "%s", last->element[0]->str);
    }
    freeReplyObject(reply);
    request_entries(e);
}

static void driver_close(void *endpoint)
{
    struct endpoint *e = endpoint;
    redisFree(e->redis);
    free_topic_names(e->topics, e->options.topics);
    free(e);
}

const struct driver drivers[] = {
    {
        .name = "redis",
        .keeps_state = true,
        .open = driver_open,
        .subscribe = driver_subscribe,
        .publish = driver_publish,
        .flush = driver_flush,
        .sync = driver_sync,
        .poll = driver_poll,
        .close = driver_close,
    },
    {
        .name = "redis-stream",
        .subscribes_to_all = true,
        .open = driver_open,
        .subscribe = driver_subscribe_stream,
        .publish = driver_publish_stream,
        .flush = driver_flush,
        .sync = driver_sync,
        .poll = driver_poll_stream,
        .close = driver_close,
    },
    {.name = NULL},
};
