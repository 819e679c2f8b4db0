/* fanout: one payload by reference to many receivers. Handlers run in turns. */
#include <string.h>

#include "tests/bench/actors/bench.h"

static uint64_t receiver_count, payload_size, round_count, window_size;
static weir_actor *receivers;

struct receiver {
    uint64_t index, had, sum;
};

static enum weir_error receiver_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    memcpy(&((struct receiver *)state)->index, args, sizeof(uint64_t));
    return WEIR_OK;
}

static enum weir_error receiver_message(struct turn *turn, void *state, struct message *message)
{
    struct receiver *self = state;
    const uint8_t *payload = arena_data(turn_arena(turn), message->hold[0]);
    uint64_t seq = 0;
    if (payload == NULL)
        return WEIR_STALE;
    memcpy(&seq, payload, sizeof seq);
    self->sum += seq + payload[8 + (self->index + seq) % (payload_size - 8)];
    if (++self->had == round_count)
        tell(turn, message->from, DONE, self->sum, 0);
    else if (self->had % window_size == 0)
        tell(turn, message->from, AVAILABLE, 0, 0);
    return WEIR_OK;
}

struct publisher {
    uint64_t round, available, done, sum;
};

static void publish_round(struct turn *turn, struct publisher *self)
{
    struct arena *arena = turn_arena(turn);
    struct message message = {.tag = ITEM};
    weir_msg block;
    must(arena_alloc(arena, payload_size, NULL, &block));
    uint8_t *payload = arena_data(arena, block);
    self->round++;
    memcpy(payload, &self->round, sizeof self->round);
    for (uint64_t j = 8; j < payload_size; j++)
        payload[j] = (uint8_t)j;
    for (uint64_t i = 0; i < receiver_count; i++) {
        must(arena_hold(arena, block));
        message.hold[0] = block;
        must(turn_send(turn, receivers[i], &message));
    }
    arena_drop(arena, block);
}

static enum weir_error publisher_message(struct turn *turn, void *state, struct message *message)
{
    struct publisher *self = state;
    if (message->tag == DONE) {
        self->sum += message->word[0];
        if (++self->done == receiver_count)
            bench_finish(self->sum);
        return WEIR_OK;
    }
    if (message->tag == AVAILABLE && ++self->available < receiver_count)
        return WEIR_OK;
    if (message->tag == AVAILABLE)
        self->available = 0;
    publish_round(turn, self);
    if (self->round < round_count && self->round % window_size != 0)
        tell(turn, turn_self(turn), GO, 0, 0);
    return WEIR_OK;
}

static const struct behaviour receiver = {.name = "receiver",
                                          .state_size = sizeof(struct receiver),
                                          .on_start = receiver_start,
                                          .on_message = receiver_message};
static const struct behaviour publisher = {
    .name = "publisher", .state_size = sizeof(struct publisher), .on_message = publisher_message};

static void fanout(struct outcome *outcome)
{
    receiver_count = param("receivers", 1000);
    payload_size = param("size", 1024);
    round_count = param("rounds", 1000);
    window_size = param("window", 100);
    outcome->msgs = receiver_count * round_count;
    receivers = allocate(receiver_count, sizeof *receivers);
    for (uint64_t i = 0; i < receiver_count; i++)
        receivers[i] = spawn(&receiver, &i, sizeof i);
    weir_actor actor = WEIR_ACTOR_NONE;
    struct actor_options options = {.mailbox_max =
                                        (uint32_t)(receiver_count + 16 > 65535 ? 65535 : receiver_count + 16)};
    must(actor_spawn(bench_runtime, &publisher, NULL, 0, &options, &actor));
    begin(actor);
}

const struct benchmark fanout_benchmarks[] = {{"fanout", fanout, NULL}, {NULL, NULL, NULL}};
