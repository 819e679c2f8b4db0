/* NATS with its own C client.
 *   nats       core NATS: at most once, nothing is stored
 *   jetstream  one stream in a file; asynchronous publish with acknowledgements, ordered push
 *              consumer (no acknowledgements, the client detects gaps). State: one message is
 *              kept for each subject, as in a NATS key-value bucket. */
#include "tests/bench/peers/driver.h"
#include "tests/bench/peers/util.h"

#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_UNACKNOWLEDGED = 16384, TIMEOUT_MS = 60000 };

static const char STREAM[] = "bench", ALL_SUBJECTS[] = "b.>", SUBJECT[] = "b.%u";

struct endpoint {
    struct options options;
    natsConnection *connection;
    jsCtx *stream; /* NULL: core NATS */
    char **subjects;
};

static void check(natsStatus status, const char *what)
{
    if (status != NATS_OK)
        die("nats: %s: %s (%s)", what, natsStatus_GetText(status), nats_GetLastError(NULL));
}

static void *driver_open(const struct options *options)
{
    struct endpoint *e = allocate(sizeof *e);
    natsOptions *o;
    char url[128];
    snprintf(url, sizeof url, "nats://%s", options->address);
    check(nats_SetMessageDeliveryPoolSize(1), "one thread for all callbacks");
    check(natsOptions_Create(&o), "options");
    check(natsOptions_SetURL(o, url), "url");
    check(natsOptions_SetSendAsap(o, options->prompt), "prompt");
    check(natsOptions_UseGlobalMessageDelivery(o, true), "shared callback thread");
    check(natsConnection_Connect(&e->connection, o), "connect");
    natsOptions_Destroy(o);
    e->options = *options;
    e->subjects = topic_names(options->topics, SUBJECT);
    return e;
}

static void on_failed_publish(jsCtx *js, jsPubAckErr *error, void *closure)
{
    (void)js, (void)closure;
    die("jetstream: publish: %s", error->ErrText ? error->ErrText : "no acknowledgement");
}

static void *driver_open_jetstream(const struct options *options)
{
    struct endpoint *e = driver_open(options);
    jsOptions o;
    jsOptions_Init(&o);
    o.Wait = TIMEOUT_MS;
    o.PublishAsync.MaxPending = MAX_UNACKNOWLEDGED;
    o.PublishAsync.StallWait = TIMEOUT_MS;
    o.PublishAsync.ErrHandler = on_failed_publish;
    check(natsConnection_JetStream(&e->stream, e->connection, &o), "jetstream");

    jsStreamConfig config;
    jsStreamConfig_Init(&config);
    config.Name = STREAM;
    config.Subjects = (const char *[]){ALL_SUBJECTS};
    config.SubjectsLen = 1;
    config.Storage = js_FileStorage;
    config.MaxBytes = 1 << 30;
    config.Discard = js_DiscardOld;
    config.MaxMsgsPerSubject = options->state ? 1 : -1;
    check(js_AddStream(NULL, e->stream, &config, NULL, NULL), "add stream"); /* or find it */
    return e;
}

static void on_nats_message(natsConnection *c, natsSubscription *s, natsMsg *message, void *closure)
{
    (void)c, (void)s;
    struct endpoint *e = closure;
    e->options.on_message(e->options.context, natsMsg_GetData(message), (size_t)natsMsg_GetDataLength(message));
    natsMsg_Destroy(message);
}

static void driver_subscribe(void *endpoint)
{
    struct endpoint *e = endpoint;
    natsSubscription *s;
    for (unsigned i = 0; i < e->options.topics; i++) {
        check(natsConnection_Subscribe(&s, e->connection, e->subjects[i], on_nats_message, e), "subscribe");
        check(natsSubscription_SetPendingLimits(s, -1, -1), "limits");
    }
    check(natsConnection_FlushTimeout(e->connection, TIMEOUT_MS), "subscribe");
}

static void driver_subscribe_jetstream(void *endpoint)
{
    struct endpoint *e = endpoint;
    natsSubscription *s;
    jsSubOptions o;
    jsSubOptions_Init(&o);
    o.Stream = STREAM;
    o.Ordered = true;
    o.Config.DeliverPolicy = e->options.state ? js_DeliverLastPerSubject : js_DeliverNew;
    check(js_Subscribe(&s, e->stream, ALL_SUBJECTS, on_nats_message, e, NULL, &o, NULL), "subscribe");
    check(natsSubscription_SetPendingLimits(s, -1, -1), "limits");
}

static void driver_publish(void *endpoint, unsigned topic, const void *data, size_t size)
{
    struct endpoint *e = endpoint;
    check(natsConnection_Publish(e->connection, e->subjects[topic], data, (int)size), "publish");
}

static void driver_publish_jetstream(void *endpoint, unsigned topic, const void *data, size_t size)
{
    struct endpoint *e = endpoint;
    check(js_PublishAsync(e->stream, e->subjects[topic], data, (int)size, NULL), "publish");
}

static void driver_flush(void *endpoint) { (void)endpoint; /* the client's flusher thread sends by itself */ }

static void driver_sync(void *endpoint)
{
    struct endpoint *e = endpoint;
    check(natsConnection_FlushTimeout(e->connection, TIMEOUT_MS), "flush");
}

static void driver_sync_jetstream(void *endpoint)
{
    struct endpoint *e = endpoint;
    jsPubOptions o;
    jsPubOptions_Init(&o);
    o.MaxWait = TIMEOUT_MS;
    check(js_PublishAsyncComplete(e->stream, &o), "acknowledgements");
}

static void driver_poll(void *endpoint, int timeout_ms)
{
    (void)endpoint; /* messages come on the client's callback thread */
    wait_ms(timeout_ms);
}

static void driver_close(void *endpoint)
{
    struct endpoint *e = endpoint;
    jsCtx_Destroy(e->stream);
    natsConnection_Destroy(e->connection);
    free_topic_names(e->subjects, e->options.topics);
    free(e);
}

const struct driver drivers[] = {
    {
        .name = "nats",
        .open = driver_open,
        .subscribe = driver_subscribe,
        .publish = driver_publish,
        .flush = driver_flush,
        .sync = driver_sync,
        .poll = driver_poll,
        .close = driver_close,
    },
    {
        .name = "jetstream",
        .keeps_state = true,
        .subscribes_to_all = true,
        .open = driver_open_jetstream,
        .subscribe = driver_subscribe_jetstream,
        .publish = driver_publish_jetstream,
        .flush = driver_flush,
        .sync = driver_sync_jetstream,
        .poll = driver_poll,
        .close = driver_close,
    },
    {.name = NULL},
};
