/* Publishers and subscribers of the load generator. Each publisher has a thread of its own and keeps at most its part
 * of the window on its way; subscribers are moved by a thread of theirs, or by their library's. */
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "tests/bench/peers/load.h"
#include "tests/bench/peers/util.h"

enum { LOST_AFTER_NS = 1000000000, PROBE_MS = 2, ROOM_CHECK_NS = 50000 };

struct publisher load_publishers[MAX_PUBLISHERS];
struct subscriber *load_subscribers;
atomic_bool load_publishers_stop, load_subscribers_stop;
_Atomic uint64_t load_record_from;

/* ---------------------------------------------------------------------------------------- subscribers */

static void on_message(void *context, const void *data, size_t length)
{
    struct subscriber *s = context;
    struct header h;
    if (length < sizeof h)
        die("%s: a message of %zu bytes came", load.driver->name, length);
    memcpy(&h, data, sizeof h);
    struct flow *flow = &s->flows[h.publisher % MAX_PUBLISHERS];
    if (h.sequence == 0) {
        atomic_store(&flow->probed, true);
        return;
    }
    uint64_t last = load_get(&flow->last);
    if (h.sequence != last + 1)
        load_set(&s->out_of_sequence, load_get(&s->out_of_sequence) + 1);
    if (h.sequence > last)
        load_set(&flow->last, h.sequence);
    load_set(&flow->received, load_get(&flow->received) + 1);
    if (h.due != 0 && h.due >= load_get(&load_record_from)) {
        uint64_t latency = now_ns() - h.due, late = h.late_us * UINT64_C(1000);
        hist_add(&s->latency, latency);
        hist_add(&s->transit, latency > late ? latency - late : 0);
    }
}

void *subscriber_main(void *subscriber)
{
    struct subscriber *s = subscriber;
    while (!atomic_load(&load_subscribers_stop))
        load.driver->poll(s->endpoint, POLL_MS);
    return NULL;
}

uint64_t subscribers_received(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < load.subscribers; i++)
        for (unsigned p = 0; p < load.publishers; p++)
            sum += load_get(&load_subscribers[i].flows[p].received);
    return sum;
}

void *endpoint_open(enum role role, bool state, void *context)
{
    struct options options = {
        .role = role,
        .address = role == PUBLISHER ? load.pub_address : load.sub_address,
        .topics = load.topics,
        .prompt = load.rate > 0,
        .state = state,
        .on_message = on_message,
        .context = context,
    };
    return load.driver->open(&options);
}

/* ----------------------------------------------------------------------------------------- publishers */

void publisher_open(unsigned index, bool state)
{
    load_publishers[index].index = index;
    load_publishers[index].message = allocate(load.size);
    load_publishers[index].endpoint = endpoint_open(PUBLISHER, state, NULL);
}

static void publish(struct publisher *p, struct header h)
{
    h.publisher = (uint8_t)p->index;
    memcpy(p->message, &h, sizeof h);
    unsigned topic = load.topics == 1 ? 0 : (h.sequence + load.topics - 1) % load.topics;
    load.driver->publish(p->endpoint, topic, p->message, load.size);
}

void publisher_send(struct publisher *p, uint64_t due, uint64_t now)
{
    uint64_t sequence = load_get(&p->sent) + 1;
    uint64_t late_us = (now - due) / 1000 < 0xffffff ? (now - due) / 1000 : 0xffffff;
    publish(p, (struct header){.due = due, .sequence = (uint32_t)sequence, .late_us = (uint32_t)late_us & 0xffffff});
    load_set(&p->sent, sequence);
}

/* How many messages of this publisher the slowest subscriber still has to get. */
static uint64_t on_their_way(const struct publisher *p)
{
    uint64_t slowest = UINT64_MAX;
    for (unsigned i = 0; i < load.subscribers; i++) {
        uint64_t last = load_get(&load_subscribers[i].flows[p->index].last);
        slowest = last < slowest ? last : slowest;
    }
    if (slowest < p->written_off)
        slowest = p->written_off;
    return load_get(&p->sent) - slowest;
}

/* Waits until half of the window is free; what does not come within a second is lost. */
static void wait_for_room(struct publisher *p, uint64_t window_each)
{
    uint64_t left = on_their_way(p), since = now_ns();
    while (left > window_each / 2 && !atomic_load(&load_publishers_stop)) {
        wait_until(now_ns() + ROOM_CHECK_NS);
        load.driver->flush(p->endpoint);
        uint64_t before = left;
        left = on_their_way(p);
        if (left != before) {
            since = now_ns();
        } else if (now_ns() - since > LOST_AFTER_NS) {
            p->written_off = load_get(&p->sent);
            p->stalls++;
            return;
        }
    }
}

static void run_unpaced(struct publisher *p)
{
    uint64_t window_each = load.window / load.publishers;
    unsigned burst = load.batch < window_each / 4 ? load.batch : (unsigned)(window_each / 4);
    while (!atomic_load(&load_publishers_stop)) {
        for (unsigned i = 0; i < burst; i++)
            publisher_send(p, 0, 0);
        load.driver->flush(p->endpoint);
        if (on_their_way(p) + burst > window_each)
            wait_for_room(p, window_each);
    }
}

/* Open loop: a message counts from the moment it is due, however late it is sent. */
static void run_paced(struct publisher *p)
{
    double interval = 1e9 * load.publishers / load.rate;
    uint64_t start = now_ns(), due = start;
    for (uint64_t n = 0; !atomic_load(&load_publishers_stop);) {
        wait_until(due);
        uint64_t now = now_ns();
        do {
            publisher_send(p, due, now);
            due = start + (uint64_t)((double)++n * interval);
        } while (due <= now);
        load.driver->flush(p->endpoint);
    }
}

static bool all_probed(const struct publisher *p)
{
    for (unsigned i = 0; i < load.subscribers; i++)
        if (!atomic_load(&load_subscribers[i].flows[p->index].probed))
            return false;
    return true;
}

/* Subscriptions take effect at their own time in some systems: probe until they have. */
void publisher_probe(struct publisher *p)
{
    uint64_t deadline = now_ns() + (uint64_t)(load.patience * 1e9);
    while (!all_probed(p)) {
        if (now_ns() > deadline)
            die("%s: probes do not arrive", load.driver->name);
        publish(p, (struct header){0});
        load.driver->flush(p->endpoint);
        wait_ms(PROBE_MS);
    }
}

void *publisher_main(void *publisher)
{
    struct publisher *p = publisher;
    prctl(PR_SET_TIMERSLACK, 1);
    if (load.rate > 0)
        run_paced(p);
    else
        run_unpaced(p);
    load.driver->flush(p->endpoint);
    return NULL;
}
