/* Weir with its own client library and its defaults: acks `folded`, accounting on.
 *   weir        policy `resync`, the default: what one falls behind by is replaced by the newest state. So no more may
 *               be on its way than a topic retains, or the run would measure omissions.
 *   weir-block  policy `block`: nothing is left out, publishers wait instead.
 * State: one `map` topic, which the broker's command line must declare. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "clients/lib/weir.h"
#include "tests/bench/peers/driver.h"
#include "tests/bench/peers/util.h"

enum { SUBSCRIBE_WAIT_MS = 60000, RETAINED_KIB = 4096 /* of a topic, by default */ };

static const char STATE_TOPIC[] = "state";

struct endpoint {
    struct options options;
    const char *policy;
    struct weir *client;
    struct weir_subscription **subscriptions;
    char **topics;
    atomic_uint standing;   /* subscriptions that the broker has confirmed; counted on the client's thread */
    atomic_bool is_closing; /* from here on the end of the session is no fault */
};

static void check(enum weir_error error, const char *what)
{
    if (error != WEIR_OK)
        die("weir: %s: %s", what, weir_error_text(error));
}

static void on_link(struct weir *client, enum weir_link link, enum weir_error cause, const char *reason, void *context)
{
    (void)client;
    if (link == WEIR_LINK_DOWN && !atomic_load(&((struct endpoint *)context)->is_closing))
        die("weir: the session was lost: %s: %s", weir_error_text(cause), reason);
}

static struct endpoint *open_with(const struct options *options, const char *policy)
{
    struct endpoint *e = allocate(sizeof *e);
    const char *reason = "";
    struct weir_options wanted = {.url = options->address, .name = "bench", .on_link = on_link, .context = e};
    e->options = *options;
    e->policy = policy;
    e->topics = topic_names(options->topics, "b/%u");
    if (weir_open(&wanted, &e->client, &reason) != WEIR_OK)
        die("weir: %s: %s", options->address, reason);
    return e;
}

static void *driver_open_resync(const struct options *options) { return open_with(options, "resync"); }

static void *driver_open_block(const struct options *options) { return open_with(options, "block"); }

/* The payload of a msgpack bin, which is what driver_publish sends. */
static struct weir_view payload_of(struct weir_view value)
{
    const uint8_t *bytes = value.data;
    size_t head = value.size > 0 && bytes[0] == 0xc4 ? 2 : value.size > 0 && bytes[0] == 0xc5 ? 3 : 5;
    if (value.size < head)
        die("weir: a value of %zu bytes is no bin", value.size);
    return (struct weir_view){bytes + head, value.size - head};
}

/* On the client's thread. */
static void on_event(struct weir_subscription *subscription, const struct weir_event *event, void *context)
{
    (void)subscription;
    struct endpoint *e = context;
    if (event->kind == WEIR_EVENT_SUBSCRIBED)
        atomic_fetch_add(&e->standing, 1);
    if (event->kind == WEIR_EVENT_ENDED)
        die("weir: a subscription ended: %s", weir_error_text(event->error));
    if (event->kind != WEIR_EVENT_UPDATE && event->kind != WEIR_EVENT_ENTRY)
        return;
    struct weir_view payload = payload_of(event->value);
    e->options.on_message(e->options.context, payload.data, payload.size);
}

static void driver_subscribe(void *endpoint)
{
    struct endpoint *e = endpoint;
    struct weir_subscribe_options wanted = {.policy = e->policy, .on_event = on_event, .context = e};
    unsigned count = e->options.state ? 1 : e->options.topics;
    e->subscriptions = allocate(count * sizeof *e->subscriptions);
    for (unsigned i = 0; i < count; i++)
        check(weir_subscribe(e->client, e->options.state ? STATE_TOPIC : e->topics[i], &wanted, &e->subscriptions[i]),
              "subscribe");
    for (int waited = 0; atomic_load(&e->standing) < count; waited++) {
        if (waited > SUBSCRIBE_WAIT_MS)
            die("weir: %u of %u subscriptions are not confirmed", count - atomic_load(&e->standing), count);
        wait_ms(1);
    }
}

static void driver_publish(void *endpoint, unsigned topic, const void *data, size_t size)
{
    struct endpoint *e = endpoint;
    bool state = e->options.state;
    struct weir_record record = {.topic = state ? STATE_TOPIC : e->topics[topic],
                                 .key = state ? e->topics[topic] : NULL,
                                 .value = data,
                                 .value_size = size,
                                 .form = WEIR_BYTES,
                                 .ack = WEIR_ACK_FOLDED};
    check(weir_publish(e->client, &record, WEIR_FOREVER, NULL), "publish");
}

/* The library sends at once, and gathers while the line is busy. Publishers ask for every ack and lose no record
 * silently: a refusal ends the run. */
static void driver_flush(void *endpoint)
{
    struct endpoint *e = endpoint;
    struct weir_counts counts;
    weir_counts(e->client, &counts);
    if (counts.refused > 0)
        die("weir: %lu records were refused", (unsigned long)counts.refused);
}

static void driver_sync(void *endpoint)
{
    struct endpoint *e = endpoint;
    check(weir_flush(e->client, WEIR_FOREVER), "acks");
    driver_flush(e);
}

static void driver_poll(void *endpoint, int timeout_ms)
{
    (void)endpoint; /* events come on the client's thread */
    wait_ms(timeout_ms);
}

static void driver_close(void *endpoint)
{
    struct endpoint *e = endpoint;
    atomic_store(&e->is_closing, true);
    weir_close(&e->client, 0);
    free_topic_names(e->topics, e->options.topics);
    free(e->subscriptions);
    free(e);
}

#define COMMON                                                                                            \
    .keeps_state = true, .subscribe = driver_subscribe, .publish = driver_publish, .flush = driver_flush, \
    .sync = driver_sync, .poll = driver_poll, .close = driver_close

const struct driver drivers[] = {
    {.name = "weir", .max_window_kib = RETAINED_KIB / 2, .open = driver_open_resync, COMMON},
    {.name = "weir-block", .open = driver_open_block, COMMON},
    {.name = NULL},
};
