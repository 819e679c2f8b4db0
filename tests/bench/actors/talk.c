/* Benchmarks of actors that talk: ping_pong, counting, thread_ring, fork_join_throughput. Handlers run in turns. */
#include <string.h>

#include "tests/bench/actors/bench.h"

/* --------------------------------------------------------------------------------------------- ping_pong */

struct pinger {
    weir_actor other;
    uint64_t left, sum;
};

static enum weir_error pinger_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    memcpy(state, args, sizeof(struct pinger));
    return WEIR_OK;
}

static enum weir_error pinger_message(struct turn *turn, void *state, struct message *message)
{
    struct pinger *self = state;
    if (message->tag == BEGIN) {
        tell(turn, self->other, PING, 1, 0);
        return WEIR_OK;
    }
    self->sum += message->word[0];
    if (--self->left == 0)
        bench_finish(self->sum);
    else
        tell(turn, self->other, PING, message->word[0] + 1, 0);
    return WEIR_OK;
}

static enum weir_error ponger_message(struct turn *turn, void *state, struct message *message)
{
    (void)state;
    tell(turn, message->from, PONG, message->word[0], 0);
    return WEIR_OK;
}

static const struct behaviour pinger = {
    .name = "pinger", .state_size = sizeof(struct pinger), .on_start = pinger_start, .on_message = pinger_message};
static const struct behaviour ponger = {.name = "ponger", .on_message = ponger_message};

static void ping_pong(struct outcome *outcome)
{
    struct pinger args = {.left = param("n", 2000000)};
    outcome->msgs = 2 * args.left;
    args.other = spawn(&ponger, NULL, 0);
    begin(spawn(&pinger, &args, sizeof args));
}

/* ---------------------------------------------------------------------------------------------- counting */

static enum weir_error counter_message(struct turn *turn, void *state, struct message *message)
{
    uint64_t *count = state;
    if (message->tag == INCREMENT)
        ++*count;
    else
        tell(turn, message->from, DONE, *count, 0);
    return WEIR_OK;
}

static enum weir_error producer_message(struct turn *turn, void *state, struct message *message)
{
    struct pinger *self = state;
    if (message->tag == DONE) {
        bench_finish(message->word[0]);
        return WEIR_OK;
    }
    struct message increment = {.tag = INCREMENT};
    for (; self->left > 0; self->left--) {
        if (!send_or_wait(turn, self->other, &increment))
            return WEIR_OK;
    }
    struct message get = {.tag = GET};
    send_or_wait(turn, self->other, &get);
    return WEIR_OK;
}

static const struct behaviour counter = {
    .name = "counter", .state_size = sizeof(uint64_t), .on_message = counter_message};
static const struct behaviour producer = {
    .name = "producer", .state_size = sizeof(struct pinger), .on_start = pinger_start, .on_message = producer_message};

static void counting(struct outcome *outcome)
{
    struct pinger args = {.left = param("n", 10000000)};
    outcome->msgs = args.left;
    args.other = spawn(&counter, NULL, 0);
    begin(spawn(&producer, &args, sizeof args));
}

/* -------------------------------------------------------------------------------------------- thread_ring */

struct member {
    weir_actor next;
    uint64_t index;
};

static enum weir_error member_message(struct turn *turn, void *state, struct message *message)
{
    struct member *self = state;
    if (message->tag == NEXT) {
        self->next.bits = message->word[0];
        self->index = message->word[1];
    } else if (message->word[0] == 0) {
        bench_finish(self->index);
    } else {
        tell(turn, self->next, TOKEN, message->word[0] - 1, 0);
    }
    return WEIR_OK;
}

static const struct behaviour member = {
    .name = "member", .state_size = sizeof(struct member), .on_message = member_message};

static void thread_ring(struct outcome *outcome)
{
    uint64_t count = param("actors", 100), hops = param("hops", 5000000);
    weir_actor *ring = allocate(count, sizeof *ring);
    for (uint64_t i = 0; i < count; i++)
        ring[i] = spawn(&member, NULL, 0);
    for (uint64_t i = 0; i < count; i++) {
        struct message next = {.tag = NEXT, .word = {ring[(i + 1) % count].bits, i}};
        must(actor_send(bench_runtime, WEIR_ACTOR_NONE, ring[i], &next));
    }
    struct message token = {.tag = TOKEN, .word = {hops}};
    must(actor_send(bench_runtime, WEIR_ACTOR_NONE, ring[0], &token));
    outcome->msgs = hops;
}

/* ----------------------------------------------------------------------------------- fork_join_throughput */

/* What the driver sends before it lets others run; it goes on by a message to itself. Otherwise it would fill every
 * mailbox first, and 60 full mailboxes are 4 MiB of messages, which no core's cache holds. */
enum { JOIN_STEP = 256 };

static uint64_t join_actors, join_count, join_rounds;
static weir_actor *join_workers;

static enum weir_error joiner_message(struct turn *turn, void *state, struct message *message)
{
    uint64_t *had = state;
    if (++*had == join_count) {
        tell(turn, message->from, DONE, *had, 0);
        *had = 0;
    }
    return WEIR_OK;
}

struct join_driver {
    uint64_t round, sent, done, sum;
};

static void join_send(struct turn *turn, struct join_driver *self)
{
    struct message work = {.tag = WORK};
    for (uint64_t i = 0; i < JOIN_STEP && self->sent < join_actors * join_count; i++, self->sent++) {
        if (!send_or_wait(turn, join_workers[self->sent % join_actors], &work))
            return;
    }
    if (self->sent < join_actors * join_count)
        tell(turn, turn_self(turn), GO, 0, 0);
}

static enum weir_error join_driver_message(struct turn *turn, void *state, struct message *message)
{
    struct join_driver *self = state;
    if (message->tag == DONE) {
        self->sum += message->word[0];
        if (++self->done < join_actors)
            return WEIR_OK;
        self->done = self->sent = 0;
        if (++self->round == join_rounds) {
            bench_finish(self->sum);
            return WEIR_OK;
        }
    }
    join_send(turn, self);
    return WEIR_OK;
}

static const struct behaviour joiner = {.name = "joiner", .state_size = sizeof(uint64_t), .on_message = joiner_message};
static const struct behaviour join_driver = {
    .name = "driver", .state_size = sizeof(struct join_driver), .on_message = join_driver_message};

static void fork_join_throughput(struct outcome *outcome)
{
    join_actors = param("actors", 60);
    join_count = param("n", 10000);
    join_rounds = param("rounds", 5);
    outcome->msgs = join_actors * join_count * join_rounds;
    join_workers = allocate(join_actors, sizeof *join_workers);
    for (uint64_t i = 0; i < join_actors; i++)
        join_workers[i] = spawn(&joiner, NULL, 0);
    begin(spawn(&join_driver, NULL, 0));
}

const struct benchmark talk_benchmarks[] = {{"ping_pong", ping_pong, NULL},
                                            {"counting", counting, NULL},
                                            {"thread_ring", thread_ring, NULL},
                                            {"fork_join_throughput", fork_join_throughput, NULL},
                                            {NULL, NULL, NULL}};
