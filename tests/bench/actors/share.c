/* Benchmarks of actors that share: big, chameneos, bounded_buffer. Handlers run in turns. */
#include <stdio.h>
#include <string.h>

#include "tests/bench/actors/bench.h"

/* --------------------------------------------------------------------------------------------------- big */

/* Everybody reports to a sink at about the same time, and a mailbox has 65,535 places: a larger crowd has several
 * sinks, which report to the first. */
enum { BIG_GROUP = 32768 };

static uint64_t big_actors, big_pings, big_groups;
static weir_actor *big, *big_sinks;

/* What it costs once everybody is there and every envelope was used: from a third of the way to the end of the last
 * ping. Written by turns, read after the end. */
static struct mark {
    uint64_t cpu_ns, messages;
} big_warm, big_over;

static struct mark mark_now(void)
{
    struct runtime_status status;
    runtime_status(bench_runtime, &status);
    return (struct mark){clock_cpu_ns(), status.messages};
}

struct bigger {
    uint64_t index, random, left, received;
};

static enum weir_error bigger_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    memcpy(state, args, sizeof(struct bigger));
    return WEIR_OK;
}

static enum weir_error bigger_message(struct turn *turn, void *state, struct message *message)
{
    struct bigger *self = state;
    if (message->tag == PING) {
        self->received++;
        tell(turn, message->from, PONG, message->word[0], 0);
    } else if (message->tag == STOP) {
        tell(turn, message->from, TOTAL, (self->index + 1) * self->received, 0);
    } else if (self->left == 0) {
        tell(turn, big_sinks[self->index / BIG_GROUP], DONE, 0, 0);
    } else {
        if (self->index == 0 && self->left == big_pings - big_pings / 3)
            big_warm = mark_now();
        self->left--;
        self->random = (self->random * 1309 + 13849) & 65535;
        tell(turn, big[(self->random >> 4) % big_actors], PING, self->index, 0);
    }
    return WEIR_OK;
}

struct sink {
    uint64_t first, end;                            /* its part of the crowd */
    uint64_t done, totals, sum;                     /* of that part */
    uint64_t groups_done, groups_ended, groups_sum; /* the first sink: of all parts */
};

static enum weir_error sink_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    memcpy(state, args, sizeof(struct sink));
    return WEIR_OK;
}

static void sink_tell_group(struct turn *turn, const struct sink *self, uint32_t tag)
{
    for (uint64_t i = self->first; i < self->end; i++)
        tell(turn, big[i], tag, 0, 0);
}

/* A part of the crowd is done with its pings (DONE) or has answered to STOP (ENDED): the first sink only. */
static void sink_group(struct turn *turn, struct sink *self, const struct message *message)
{
    if (message->word[1] == DONE && ++self->groups_done == big_groups) {
        big_over = mark_now();
        for (uint64_t i = 0; i < big_groups; i++)
            tell(turn, big_sinks[i], GO, 0, 0);
    } else if (message->word[1] == ENDED) {
        self->groups_sum += message->word[0];
        if (++self->groups_ended == big_groups)
            bench_finish(self->groups_sum);
    }
}

static enum weir_error sink_message(struct turn *turn, void *state, struct message *message)
{
    struct sink *self = state;
    switch (message->tag) {
    case BEGIN: sink_tell_group(turn, self, PONG); break;
    case GO: sink_tell_group(turn, self, STOP); break;
    case DONE:
        if (++self->done == self->end - self->first)
            tell(turn, big_sinks[0], NEXT, 0, DONE);
        break;
    case TOTAL:
        self->sum += message->word[0];
        if (++self->totals == self->end - self->first)
            tell(turn, big_sinks[0], NEXT, self->sum, ENDED);
        break;
    default: sink_group(turn, self, message); break;
    }
    return WEIR_OK;
}

static const struct behaviour bigger = {
    .name = "big", .state_size = sizeof(struct bigger), .on_start = bigger_start, .on_message = bigger_message};
static const struct behaviour sink = {
    .name = "sink", .state_size = sizeof(struct sink), .on_start = sink_start, .on_message = sink_message};

static void run_big(struct outcome *outcome)
{
    big_actors = param("actors", 120);
    big_pings = param("pings", 20000);
    big_groups = (big_actors + BIG_GROUP - 1) / BIG_GROUP;
    outcome->msgs = 2 * big_actors * big_pings;
    big = allocate(big_actors, sizeof *big);
    big_sinks = allocate(big_groups, sizeof *big_sinks);
    /* Nobody has more than one ping in flight, but of a large crowd only 4,096 are ever drawn as targets: to each of
     * those come some hundred at a time, more where it is late, and the default of 1,024 places is no sure bound. */
    struct actor_options options = {.mailbox_max = big_actors < 1000 ? 0 : MAILBOX_MAX};
    for (uint64_t i = 0; i < big_groups; i++) {
        uint64_t end = (i + 1) * BIG_GROUP;
        struct sink args = {.first = i * BIG_GROUP, .end = end < big_actors ? end : big_actors};
        must(actor_spawn(bench_runtime, &sink, &args, sizeof args, &options, &big_sinks[i]));
    }
    for (uint64_t i = 0; i < big_actors; i++) {
        struct bigger args = {.index = i, .random = i, .left = big_pings};
        must(actor_spawn(bench_runtime, &bigger, &args, sizeof args, &options, &big[i]));
    }
    for (uint64_t i = 0; i < big_groups; i++)
        begin(big_sinks[i]);
}

static void big_report(struct outcome *outcome)
{
    snprintf(outcome->extra, sizeof outcome->extra, ",\"warm_cpu_ns_per_msg\":%.1f",
             (double)(big_over.cpu_ns - big_warm.cpu_ns) / (double)(big_over.messages - big_warm.messages));
}

/* ---------------------------------------------------------------------------------------------- chameneos */

static uint64_t creature_count;
static weir_actor mall_actor;

struct creature {
    uint64_t color, meetings;
};

static uint64_t complement(uint64_t a, uint64_t b) { return a == b ? a : 3 - a - b; }

static enum weir_error creature_start(struct turn *turn, void *state, const void *args)
{
    struct creature *self = state;
    memcpy(&self->color, args, sizeof self->color);
    tell(turn, mall_actor, MEET, self->color, 0);
    return WEIR_OK;
}

static enum weir_error creature_message(struct turn *turn, void *state, struct message *message)
{
    struct creature *self = state;
    if (message->tag == STOP) {
        tell(turn, mall_actor, TOTAL, self->meetings, 0);
        return WEIR_OK;
    }
    if (message->tag == MATCH) {
        self->color = complement(self->color, message->word[0]);
        tell(turn, (weir_actor){message->word[1]}, CHANGE, self->color, 0);
    } else {
        self->color = message->word[0];
    }
    self->meetings++;
    tell(turn, mall_actor, MEET, self->color, 0);
    return WEIR_OK;
}

struct mall {
    weir_actor waiting;
    uint64_t left, totals, sum;
};

static enum weir_error mall_message(struct turn *turn, void *state, struct message *message)
{
    struct mall *self = state;
    if (message->tag == TOTAL) {
        self->sum += message->word[0];
        if (++self->totals == creature_count)
            bench_finish(self->sum);
    } else if (self->left == 0) {
        tell(turn, message->from, STOP, 0, 0);
    } else if (actor_is_none(self->waiting)) {
        self->waiting = message->from;
    } else {
        tell(turn, self->waiting, MATCH, message->word[0], message->from.bits);
        self->waiting = WEIR_ACTOR_NONE;
        self->left--;
    }
    return WEIR_OK;
}

static enum weir_error mall_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    memcpy(&((struct mall *)state)->left, args, sizeof(uint64_t));
    return WEIR_OK;
}

static const struct behaviour creature = {.name = "creature",
                                          .state_size = sizeof(struct creature),
                                          .on_start = creature_start,
                                          .on_message = creature_message};
static const struct behaviour mall = {
    .name = "mall", .state_size = sizeof(struct mall), .on_start = mall_start, .on_message = mall_message};

static void chameneos(struct outcome *outcome)
{
    uint64_t meetings = param("meetings", 1000000);
    creature_count = param("creatures", 100);
    outcome->msgs = 4 * meetings + 3 * creature_count;
    mall_actor = spawn(&mall, &meetings, sizeof meetings);
    for (uint64_t i = 0; i < creature_count; i++) {
        uint64_t color = i % 3;
        spawn(&creature, &color, sizeof color);
    }
}

/* ----------------------------------------------------------------------------------------- bounded_buffer */

static uint64_t producer_count, consumer_count, buffer_size, item_count, buffer_peak;
static weir_actor *producers, *consumers;

struct item_producer {
    uint64_t next, end;
};

static enum weir_error item_producer_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    memcpy(state, args, sizeof(struct item_producer));
    return WEIR_OK;
}

static enum weir_error item_producer_message(struct turn *turn, void *state, struct message *message)
{
    struct item_producer *self = state;
    if (self->next < self->end)
        tell(turn, message->from, ITEM, self->next++, 0);
    else
        tell(turn, message->from, ENDED, 0, 0);
    return WEIR_OK;
}

static enum weir_error item_consumer_message(struct turn *turn, void *state, struct message *message)
{
    uint64_t *sum = state;
    if (message->tag == STOP) {
        tell(turn, message->from, TOTAL, *sum, 0);
        return WEIR_OK;
    }
    *sum += message->word[0];
    tell(turn, message->from, AVAILABLE, 0, 0);
    return WEIR_OK;
}

/* First in, first out, in fixed memory. */
struct fifo {
    uint64_t *slots;
    uint64_t first, count, capacity;
};

static void fifo_push(struct fifo *fifo, uint64_t value)
{
    uint64_t at = fifo->first + fifo->count++;
    fifo->slots[at >= fifo->capacity ? at - fifo->capacity : at] = value;
}

static uint64_t fifo_pop(struct fifo *fifo)
{
    uint64_t value = fifo->slots[fifo->first];
    fifo->first = fifo->first + 1 == fifo->capacity ? 0 : fifo->first + 1;
    fifo->count--;
    return value;
}

struct manager {
    struct fifo pending, idle, held;
    uint64_t ended, totals, sum;
};

static void manager_item(struct turn *turn, struct manager *self, struct message *message)
{
    if (self->idle.count > 0)
        tell(turn, (weir_actor){fifo_pop(&self->idle)}, ITEM, message->word[0], 0);
    else
        fifo_push(&self->pending, message->word[0]);
    if (self->pending.count > buffer_peak)
        buffer_peak = self->pending.count;
    if (self->pending.count >= buffer_size - producer_count)
        fifo_push(&self->held, message->from.bits);
    else
        tell(turn, message->from, PRODUCE, 0, 0);
}

static void manager_available(struct turn *turn, struct manager *self, weir_actor consumer)
{
    if (self->pending.count == 0) {
        fifo_push(&self->idle, consumer.bits);
        return;
    }
    tell(turn, consumer, ITEM, fifo_pop(&self->pending), 0);
    if (self->held.count > 0)
        tell(turn, (weir_actor){fifo_pop(&self->held)}, PRODUCE, 0, 0);
}

static enum weir_error manager_message(struct turn *turn, void *state, struct message *message)
{
    struct manager *self = state;
    if (message->tag == BEGIN) {
        self->pending = (struct fifo){allocate(buffer_size, sizeof(uint64_t)), 0, 0, buffer_size};
        self->idle = (struct fifo){allocate(consumer_count, sizeof(uint64_t)), 0, 0, consumer_count};
        self->held = (struct fifo){allocate(producer_count, sizeof(uint64_t)), 0, 0, producer_count};
        for (uint64_t i = 0; i < consumer_count; i++)
            fifo_push(&self->idle, consumers[i].bits);
        for (uint64_t i = 0; i < producer_count; i++)
            tell(turn, producers[i], PRODUCE, 0, 0);
        return WEIR_OK;
    }
    if (message->tag == TOTAL) {
        self->sum += message->word[0];
        if (++self->totals == consumer_count)
            bench_finish(self->sum);
        return WEIR_OK;
    }
    if (message->tag == ITEM)
        manager_item(turn, self, message);
    else if (message->tag == AVAILABLE)
        manager_available(turn, self, message->from);
    else
        self->ended++;
    if (self->ended == producer_count && self->pending.count == 0 && self->idle.count == consumer_count) {
        for (uint64_t i = 0; i < consumer_count; i++)
            tell(turn, consumers[i], STOP, 0, 0);
        self->ended++;
    }
    return WEIR_OK;
}

static const struct behaviour item_producer = {.name = "producer",
                                               .state_size = sizeof(struct item_producer),
                                               .on_start = item_producer_start,
                                               .on_message = item_producer_message};
static const struct behaviour item_consumer = {
    .name = "consumer", .state_size = sizeof(uint64_t), .on_message = item_consumer_message};
static const struct behaviour manager = {
    .name = "manager", .state_size = sizeof(struct manager), .on_message = manager_message};

static void bounded_buffer(struct outcome *outcome)
{
    producer_count = param("producers", 40);
    consumer_count = param("consumers", 40);
    buffer_size = param("buffer", 50);
    item_count = param("items", 25000);
    outcome->msgs = 4 * producer_count * item_count + 2 * producer_count + 2 * consumer_count;
    producers = allocate(producer_count, sizeof *producers);
    consumers = allocate(consumer_count, sizeof *consumers);
    for (uint64_t i = 0; i < producer_count; i++) {
        struct item_producer args = {i * item_count, (i + 1) * item_count};
        producers[i] = spawn(&item_producer, &args, sizeof args);
    }
    for (uint64_t i = 0; i < consumer_count; i++)
        consumers[i] = spawn(&item_consumer, NULL, 0);
    begin(spawn(&manager, NULL, 0));
}

static void bounded_buffer_report(struct outcome *outcome)
{
    snprintf(outcome->extra, sizeof outcome->extra, ",\"buffer_peak\":%llu", (unsigned long long)buffer_peak);
}

const struct benchmark share_benchmarks[] = {{"big", run_big, big_report},
                                             {"chameneos", chameneos, NULL},
                                             {"bounded_buffer", bounded_buffer, bounded_buffer_report},
                                             {NULL, NULL, NULL}};
