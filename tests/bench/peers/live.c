/* A publisher and a subscriber beside a crowd; see live.h. */
#include "tests/bench/peers/live.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "clients/wire/value.h"
#include "tests/bench/peers/util.h"

enum { STAND_WAIT_MS = 60000, DEPTH_MAX = 16 };

static void on_link(struct weir *client, enum weir_link link, enum weir_error cause, const char *reason, void *context)
{
    (void)client, (void)context;
    if (link == WEIR_LINK_DOWN && strcmp(reason, "the client was closed") != 0) /* by us */
        die("live: the session was lost: %s: %s", weir_error_text(cause), reason);
}

static void on_outcome(struct weir *client, uint64_t number, uint32_t count, enum weir_error outcome, uint64_t epoch,
                       uint64_t seq, const char *reason, void *context)
{
    (void)client, (void)epoch, (void)seq, (void)context;
    if (outcome != WEIR_OK && outcome != WEIR_CLOSED) /* which on_link says better */
        die("live: records %lu (%u): %s: %s", (unsigned long)number, count, weir_error_text(outcome), reason);
}

struct weir *live_open(const char *url)
{
    struct weir *client = NULL;
    const char *reason = "";
    struct weir_options options = {.url = url, .name = "live", .on_link = on_link, .on_outcome = on_outcome};
    if (weir_open(&options, &client, &reason) != WEIR_OK)
        die("live: %s: %s", url, reason);
    return client;
}

static void publish(struct weir *client, const char *topic, const char *key, const void *value, unsigned size)
{
    struct weir_record record = {
        .topic = topic, .key = key, .value = value, .value_size = size, .form = WEIR_BYTES, .ack = WEIR_ACK_FOLDED};
    enum weir_error error = weir_publish(client, &record, WEIR_FOREVER, NULL);
    if (error != WEIR_OK)
        die("live: publish: %s", weir_error_text(error));
}

void live_fill(const char *url, const char *topic, unsigned keys, unsigned size)
{
    struct weir *client = live_open(url);
    uint8_t *value = allocate(size);
    char key[24];
    for (unsigned i = 0; i < keys; i++) {
        snprintf(key, sizeof key, "k%u", i);
        publish(client, topic, key, value, size);
    }
    if (weir_flush(client, WEIR_FOREVER) != WEIR_OK)
        die("live: %u keys are not folded", keys);
    weir_close(&client, 0);
}

/* Finds a member of a map in an encoded value; a reader of nothing where there is none. */
static struct value_reader member_of(struct view map, const char *name)
{
    struct value_reader reader, member;
    value_reader_init(&member, view_of(NULL, 0), DEPTH_MAX);
    value_reader_init(&reader, map, DEPTH_MAX);
    for (uint32_t count = value_read_map(&reader); count > 0 && reader.error == WEIR_OK; count--) {
        struct view key = value_read_str(&reader), value = value_read_any(&reader);
        if (reader.error == WEIR_OK && view_is_same(key, view_text(name)))
            value_reader_init(&member, value, DEPTH_MAX);
    }
    return member;
}

uint64_t live_figure(struct weir *client, const char *topic, const char *name)
{
    struct weir_reply reply = {.error = WEIR_OK};
    enum weir_error error = weir_get(client, "$sys/topics", topic, STAND_WAIT_MS, &reply);
    if (error != WEIR_OK || reply.error != WEIR_OK)
        die("live: $sys/topics: %s", weir_error_text(error != WEIR_OK ? error : reply.error));
    struct value_reader state = member_of(view_of(reply.result, reply.result_size), "state");
    struct value_reader member = member_of(state.rest, name);
    uint64_t figure = value_read_uint(&member);
    if (member.error != WEIR_OK)
        die("live: $sys/topics has no %s of %s", name, topic);
    weir_reply_free(&reply);
    return figure;
}

static void *publisher_main(void *argument)
{
    struct live_publisher *p = argument;
    uint8_t *value = allocate(p->size < sizeof(uint64_t) ? sizeof(uint64_t) : p->size);
    uint64_t start = now_ns(), due = start;
    char key[24];
    prctl(PR_SET_TIMERSLACK, 1);
    for (uint64_t n = 0; !atomic_load(&p->stop); n++) {
        due = p->rate > 0 ? start + (uint64_t)((double)n * 1e9 / p->rate) : now_ns();
        if (p->rate > 0)
            wait_until(due);
        memcpy(value, &due, sizeof due);
        if (p->keys > 0) /* scattered: multiplying by an odd number visits all */
            snprintf(key, sizeof key, "k%u", (unsigned)(n * 2654435761u % p->keys));
        publish(p->client, p->topic, p->keys > 0 ? key : NULL, value, p->size);
        atomic_store(&p->sent, n + 1);
    }
    if (weir_flush(p->client, WEIR_FOREVER) != WEIR_OK)
        die("live: not all was folded");
    return NULL;
}

void live_publisher_start(struct live_publisher *p, const char *url)
{
    p->client = live_open(url);
    if (pthread_create(&p->thread, NULL, publisher_main, p) != 0)
        die("live: no thread");
}

void live_publisher_stop(struct live_publisher *p)
{
    atomic_store(&p->stop, true);
    pthread_join(p->thread, NULL);
    weir_close(&p->client, 0);
}

/* On the client's thread. */
static void on_event(struct weir_subscription *subscription, const struct weir_event *event, void *context)
{
    (void)subscription;
    struct live_subscriber *s = context;
    if (event->kind == WEIR_EVENT_END)
        atomic_store(&s->ended, true);
    if (event->kind == WEIR_EVENT_GAP || event->kind == WEIR_EVENT_CONFLATED)
        atomic_fetch_add(&s->omitted, event->seq_to - event->seq + 1);
    if (event->kind != WEIR_EVENT_UPDATE)
        return;
    const uint8_t *value = event->value.data;
    uint64_t due = 0, now = now_ns();
    size_t head = value[0] == 0xc4 ? 2 : value[0] == 0xc5 ? 3 : 5;
    if (event->value.size >= head + sizeof due)
        memcpy(&due, value + head, sizeof due);
    uint64_t until = atomic_load(&s->until);
    if (due >= atomic_load(&s->since) && (until == 0 || due < until))
        hist_add(&s->latency, now > due ? now - due : 0);
    atomic_store(&s->newest, due);
    atomic_fetch_add_explicit(&s->received, 1, memory_order_relaxed);
}

void live_subscriber_start(struct live_subscriber *s, const char *url, const char *topic, bool snapshot)
{
    struct weir_subscribe_options wanted = {.no_snapshot = !snapshot, .on_event = on_event, .context = s};
    s->client = live_open(url);
    if (weir_subscribe(s->client, topic, &wanted, &s->subscription) != WEIR_OK)
        die("live: cannot subscribe to %s", topic);
    for (int waited = 0; !atomic_load(&s->ended); waited++) {
        if (waited > STAND_WAIT_MS)
            die("live: no snapshot of %s", topic);
        wait_ms(1);
    }
}

void live_subscriber_stop(struct live_subscriber *s) { weir_close(&s->client, 0); }
