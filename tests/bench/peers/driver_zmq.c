/* ZeroMQ PUB -> forward_zmq (XSUB/XPUB) -> SUB: topics, but hardly any other broker logic.
 * The topic is a prefix of fixed length in the only frame of a message. */
#include "tests/bench/peers/driver.h"
#include "tests/bench/peers/util.h"

#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { TURN = 256, TOPIC_SIZE = 7 /* "%07u" */ };

struct endpoint {
    struct options options;
    void *socket;
    char **topics;
};

static void *context; /* all endpoints share its one I/O thread, as is usual */

static void *driver_open(const struct options *options)
{
    int no_limit = 0, no_linger = 0;
    if (!context) {
        context = zmq_ctx_new();
        zmq_ctx_set(context, ZMQ_MAX_SOCKETS, 8192);
    }
    struct endpoint *e = allocate(sizeof *e);
    e->options = *options;
    e->topics = topic_names(options->topics, "%07u");
    e->socket = zmq_socket(context, options->role == PUBLISHER ? ZMQ_PUB : ZMQ_SUB);
    if (!e->socket)
        die("zmq: no more sockets");
    zmq_setsockopt(e->socket, ZMQ_SNDHWM, &no_limit, sizeof no_limit);
    zmq_setsockopt(e->socket, ZMQ_RCVHWM, &no_limit, sizeof no_limit);
    zmq_setsockopt(e->socket, ZMQ_LINGER, &no_linger, sizeof no_linger);
    if (zmq_connect(e->socket, options->address) != 0)
        die("zmq: cannot connect to %s", options->address);
    return e;
}

static void driver_subscribe(void *endpoint)
{
    struct endpoint *e = endpoint;
    for (unsigned i = 0; i < e->options.topics; i++)
        zmq_setsockopt(e->socket, ZMQ_SUBSCRIBE, e->topics[i], TOPIC_SIZE);
}

static void driver_publish(void *endpoint, unsigned topic, const void *data, size_t size)
{
    struct endpoint *e = endpoint;
    zmq_msg_t message;
    zmq_msg_init_size(&message, TOPIC_SIZE + size);
    char *to = zmq_msg_data(&message);
    memcpy(to, e->topics[topic], TOPIC_SIZE);
    memcpy(to + TOPIC_SIZE, data, size);
    if (zmq_msg_send(&message, e->socket, 0) < 0)
        die("zmq: cannot send");
}

static void driver_flush(void *endpoint) { (void)endpoint; /* the I/O thread sends by itself */ }

static void driver_poll(void *endpoint, int timeout_ms)
{
    struct endpoint *e = endpoint;
    zmq_pollitem_t item = {.socket = e->socket, .events = ZMQ_POLLIN};
    if (zmq_poll(&item, 1, timeout_ms) <= 0)
        return;
    zmq_msg_t message;
    zmq_msg_init(&message);
    for (int i = 0; i < TURN && zmq_msg_recv(&message, e->socket, ZMQ_DONTWAIT) >= 0; i++)
        e->options.on_message(e->options.context, (char *)zmq_msg_data(&message) + TOPIC_SIZE,
                              zmq_msg_size(&message) - TOPIC_SIZE);
    zmq_msg_close(&message);
}

static void driver_close(void *endpoint)
{
    struct endpoint *e = endpoint;
    zmq_close(e->socket);
    free_topic_names(e->topics, e->options.topics);
    free(e);
}

const struct driver drivers[] = {
    {
        .name = "zmq",
        .open = driver_open,
        .subscribe = driver_subscribe,
        .publish = driver_publish,
        .flush = driver_flush,
        .poll = driver_poll,
        .close = driver_close,
    },
    {.name = NULL},
};
