/* Mosquitto with libmosquitto, as MQTT 3.1.1; QoS 0, or QoS 1 with acknowledgements both ways.
 * State: retained messages. A client has no thread of its own; its user moves it. */
#include "tests/bench/peers/driver.h"
#include "tests/bench/peers/util.h"

#include <mosquitto.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { KEEPALIVE_S = 600, SUBSCRIBE_AT_ONCE = 500 };

struct endpoint {
    struct options options;
    struct mosquitto *client;
    char **topics;
    int qos;
    bool connected;
    unsigned long published, accepted, subscribed, delivered;
};

static void check(int error, const char *what)
{
    if (error)
        die("mosquitto: %s: %s", what, mosquitto_strerror(error));
}

static void on_connect(struct mosquitto *client, void *endpoint, int error)
{
    (void)client;
    check(error, "connect");
    ((struct endpoint *)endpoint)->connected = true;
}

static void on_subscribe(struct mosquitto *client, void *endpoint, int id, int count, const int *qos)
{
    (void)client, (void)id, (void)qos;
    ((struct endpoint *)endpoint)->subscribed += (unsigned long)count;
}

static void on_publish(struct mosquitto *client, void *endpoint, int id)
{
    (void)client, (void)id;
    ((struct endpoint *)endpoint)->accepted++;
}

static void on_mqtt_message(struct mosquitto *client, void *endpoint, const struct mosquitto_message *message)
{
    (void)client;
    struct endpoint *e = endpoint;
    e->delivered++;
    e->options.on_message(e->options.context, message->payload, (size_t)message->payloadlen);
}

/* Wait until the socket can do something, and do all of it. */
static void move(struct endpoint *e, int timeout_ms)
{
    struct pollfd p = {.fd = mosquitto_socket(e->client), .events = POLLIN};
    if (mosquitto_want_write(e->client))
        p.events |= POLLOUT;
    if (poll(&p, 1, timeout_ms) <= 0)
        return;
    if (p.revents & POLLOUT)
        check(mosquitto_loop_write(e->client, 1), "write");
    if (!(p.revents & ~POLLOUT))
        return;
    /* A call reads few packets and does not say whether more are there. */
    for (unsigned long before = ~0ul; before != e->delivered + e->accepted + e->subscribed;) {
        before = e->delivered + e->accepted + e->subscribed;
        check(mosquitto_loop_read(e->client, 1), "read");
    }
}

static void *open_with(const struct options *options, int qos)
{
    static bool initialised;
    if (!initialised)
        mosquitto_lib_init();
    initialised = true;
    struct endpoint *e = allocate(sizeof *e);
    e->options = *options;
    e->qos = qos;
    e->topics = topic_names(options->topics, "b/%u");
    e->client = mosquitto_new(NULL, true, e);
    mosquitto_connect_callback_set(e->client, on_connect);
    mosquitto_subscribe_callback_set(e->client, on_subscribe);
    mosquitto_publish_callback_set(e->client, on_publish);
    mosquitto_message_callback_set(e->client, on_mqtt_message);
    mosquitto_int_option(e->client, MOSQ_OPT_TCP_NODELAY, 1);
    mosquitto_max_inflight_messages_set(e->client, 0); /* no limit */
    check(mosquitto_connect(e->client, host_of(options->address), port_of(options->address), KEEPALIVE_S), "connect");
    while (!e->connected)
        move(e, 100);
    return e;
}

static void *driver_open_qos0(const struct options *options) { return open_with(options, 0); }

static void *driver_open_qos1(const struct options *options) { return open_with(options, 1); }

static void driver_subscribe(void *endpoint)
{
    struct endpoint *e = endpoint;
    if (e->options.state) {
        check(mosquitto_subscribe(e->client, NULL, "b/#", e->qos), "subscribe");
        return;
    }
    for (unsigned first = 0; first < e->options.topics; first += SUBSCRIBE_AT_ONCE) {
        unsigned left = e->options.topics - first;
        unsigned count = left < SUBSCRIBE_AT_ONCE ? left : SUBSCRIBE_AT_ONCE;
        check(mosquitto_subscribe_multiple(e->client, NULL, (int)count, e->topics + first, e->qos, 0, NULL),
              "subscribe");
        while (e->subscribed < first + count)
            move(e, 100);
    }
}

static void driver_publish(void *endpoint, unsigned topic, const void *data, size_t size)
{
    struct endpoint *e = endpoint;
    check(mosquitto_publish(e->client, NULL, e->topics[topic], (int)size, data, e->qos, e->options.state), "publish");
    e->published++;
}

static void driver_flush(void *endpoint)
{
    struct endpoint *e = endpoint;
    do
        move(e, mosquitto_want_write(e->client) ? 100 : 0);
    while (mosquitto_want_write(e->client));
}

static void driver_sync(void *endpoint)
{
    struct endpoint *e = endpoint;
    while (e->accepted < e->published) /* with QoS 0, this only tells that they were sent .. */
        move(e, 100);
    unsigned long before = e->subscribed; /* .. but the broker answers in order */
    check(mosquitto_subscribe(e->client, NULL, "sync", 0), "sync");
    while (e->subscribed == before)
        move(e, 100);
}

static void driver_poll(void *endpoint, int timeout_ms) { move(endpoint, timeout_ms); }

static void driver_close(void *endpoint)
{
    struct endpoint *e = endpoint;
    mosquitto_disconnect(e->client);
    mosquitto_destroy(e->client);
    free_topic_names(e->topics, e->options.topics);
    free(e);
}

#define COMMON                                                                                            \
    .keeps_state = true, .subscribe = driver_subscribe, .publish = driver_publish, .flush = driver_flush, \
    .sync = driver_sync, .poll = driver_poll, .close = driver_close

const struct driver drivers[] = {
    {.name = "mosquitto-q0", .max_window = 4096, .open = driver_open_qos0, COMMON},
    /* The client searches all it has in flight at each acknowledgement: a deep window slows it. */
    {.name = "mosquitto-q1", .max_window = 1024, .open = driver_open_qos1, COMMON},
    {.name = NULL},
};
