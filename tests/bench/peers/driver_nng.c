/* nng PUSH0 -> forward_nng -> SUB0: what nng itself allows. There are no topics.
 *   nng        one nng message for each message
 *   nng-batch  many messages packed into one, up to FLUSH_SIZE or the next flush */
#include "tests/bench/peers/driver.h"
#include "tests/bench/peers/util.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/pubsub0/sub.h>
#include <stdlib.h>
#include <string.h>

enum { FLUSH_SIZE = 64 * 1024, QUEUE = 8192 /* nng's limit */, TURN = 256 };

struct endpoint {
    struct options options;
    nng_socket socket;
    bool batching;
    struct batch batch;
    int timeout_ms;
};

static void check(int error, const char *what)
{
    if (error)
        die("nng: %s: %s", what, nng_strerror(error));
}

static struct endpoint *open_socket(const struct options *options, bool batching)
{
    struct endpoint *e = allocate(sizeof *e);
    e->options = *options;
    e->batching = batching;
    if (options->role == PUBLISHER) {
        check(nng_push0_open(&e->socket), "open");
        nng_socket_set_int(e->socket, NNG_OPT_SENDBUF, QUEUE); /* not all versions have it */
    } else {
        check(nng_sub0_open(&e->socket), "open");
        check(nng_socket_set_int(e->socket, NNG_OPT_RECVBUF, QUEUE), "receive buffer");
        check(nng_socket_set(e->socket, NNG_OPT_SUB_SUBSCRIBE, "", 0), "subscribe");
    }
    return e;
}

static void *driver_open_single(const struct options *options)
{
    struct endpoint *e = open_socket(options, false);
    check(nng_dial(e->socket, options->address, NULL, 0), "dial");
    return e;
}

static void *driver_open_batch(const struct options *options)
{
    struct endpoint *e = open_socket(options, true);
    check(nng_dial(e->socket, options->address, NULL, 0), "dial");
    return e;
}

static void driver_subscribe(void *endpoint) { (void)endpoint; /* done in open */ }

static void send_message(struct endpoint *e, const void *data, size_t size)
{
    nng_msg *message;
    check(nng_msg_alloc(&message, size), "message");
    memcpy(nng_msg_body(message), data, size);
    check(nng_sendmsg(e->socket, message, 0), "send");
}

static void driver_flush(void *endpoint)
{
    struct endpoint *e = endpoint;
    if (e->batch.size)
        send_message(e, e->batch.data, e->batch.size);
    e->batch.size = 0;
}

static void driver_publish(void *endpoint, unsigned topic, const void *data, size_t size)
{
    (void)topic;
    struct endpoint *e = endpoint;
    if (!e->batching) {
        send_message(e, data, size);
        return;
    }
    batch_add(&e->batch, data, size);
    if (e->batch.size >= FLUSH_SIZE)
        driver_flush(e);
}

static void driver_poll(void *endpoint, int timeout_ms)
{
    struct endpoint *e = endpoint;
    if (timeout_ms != e->timeout_ms) {
        e->timeout_ms = timeout_ms;
        check(nng_socket_set_ms(e->socket, NNG_OPT_RECVTIMEO, timeout_ms), "timeout");
    }
    nng_msg *message;
    for (int i = 0; i < TURN; i++) {
        if (nng_recvmsg(e->socket, &message, i == 0 ? 0 : NNG_FLAG_NONBLOCK) != 0)
            return;
        if (e->batching)
            batch_each(nng_msg_body(message), nng_msg_len(message), e->options.on_message, e->options.context);
        else
            e->options.on_message(e->options.context, nng_msg_body(message), nng_msg_len(message));
        nng_msg_free(message);
    }
}

static void driver_close(void *endpoint)
{
    struct endpoint *e = endpoint;
    nng_close(e->socket);
    free(e->batch.data);
    free(e);
}

#define COMMON                                                                                        \
    .max_topics = 1, .subscribe = driver_subscribe, .publish = driver_publish, .flush = driver_flush, \
    .poll = driver_poll, .close = driver_close

const struct driver drivers[] = {
    {.name = "nng", .max_window = QUEUE / 2, .open = driver_open_single, COMMON},
    {.name = "nng-batch", .open = driver_open_batch, COMMON},
    {.name = NULL},
};
