/* Snapshot stream: a producer feeds snapshots into a bounded channel to a receiver that may vanish at any time: end in
 * order, fail, or be stopped from outside, with snapshots unread. The producer notices, stops, and nothing leaks.
 *
 *   producer <--credit-- receiver       and the producer monitors the receiver
 *            ---frame-->
 *
 * Who owns what: a frame in the channel is the receiver's; the runtime drops those that its mailbox still holds when it
 * ends. A frame that is refused (stale) is still the producer's, which drops it. What the producer keeps for the next
 * frame goes in its on_stop, whichever way it ends.
 * Two ways to notice: a send is refused as stale, or the monitor's event comes. A producer without credit sends
 * nothing, so the monitor is what it needs; the refusal only tells it sooner.
 *
 *   snapshot_stream [STREAMS] */
#include <stdatomic.h>
#include <string.h>

#include "actors/base/limits.h"
#include "actors/examples/example.h"

enum { TAG_CREDIT = 1, TAG_FRAME };
/* The mailbox takes the channel, and what counts until the turn that handled it is over: no frame is refused as full.
 */
enum { CHANNEL = 8, MAILBOX = CHANNEL + TURN_MESSAGES_MAX, STATE_SIZE = 1024 };
enum vanishing { VANISH_IN_ORDER, VANISH_FAILING, VANISH_STOPPED, VANISH_WAYS };

static _Atomic uint64_t frames_sent, frames_read, noticed_by_send, noticed_by_event;

/* ---------------------------------------------------------------------------------------------- the producer */

struct producer {
    weir_actor receiver;
    weir_msg present; /* the state that snapshots are taken of; the producer's alone */
    uint64_t credit, id;
};

static enum weir_error producer_start(struct turn *turn, void *state, const void *args)
{
    struct producer *self = state;
    self->receiver = *(const weir_actor *)args;
    enum weir_error error = actor_monitor(turn_runtime(turn), turn_self(turn), self->receiver);
    if (!error)
        error = arena_alloc(turn_arena(turn), STATE_SIZE, turn_budget(turn), &self->present);
    if (!error)
        memset(arena_data(turn_arena(turn), self->present), 0, STATE_SIZE);
    return error;
}

/* The state moves on; its snapshot is a block of its own. */
static enum weir_error frame_send(struct turn *turn, struct producer *self)
{
    struct arena *arena = turn_arena(turn);
    struct message frame = {.tag = TAG_FRAME, .word = {self->id + 1}};
    enum weir_error error = arena_alloc(arena, STATE_SIZE, turn_budget(turn), &frame.hold[0]);
    if (error)
        return error;
    unsigned char *present = arena_data(arena, self->present);
    memset(present, (int)(frame.word[0] & 0xff), STATE_SIZE);
    memcpy(arena_data(arena, frame.hold[0]), present, STATE_SIZE);
    error = turn_send(turn, self->receiver, &frame);
    if (error) {
        arena_drop(arena, frame.hold[0]);
        return error;
    }
    self->id++;
    self->credit--;
    return WEIR_OK;
}

static enum weir_error producer_message(struct turn *turn, void *state, struct message *message)
{
    struct producer *self = state;
    enum weir_error error = WEIR_OK;
    if (message->tag == MESSAGE_EVENT) {
        atomic_fetch_add(&noticed_by_event, 1);
        turn_exit(turn, WEIR_OK);
        return WEIR_OK;
    }
    self->credit += message->word[0];
    while (!error && self->credit > 0)
        error = frame_send(turn, self);
    if (error == WEIR_STALE) {
        atomic_fetch_add(&noticed_by_send, 1);
        turn_exit(turn, WEIR_OK);
        return WEIR_OK;
    }
    return error;
}

static void producer_stop(struct turn *turn, void *state, enum weir_error cause)
{
    struct producer *self = state;
    CHECK(cause == WEIR_OK);
    arena_drop(turn_arena(turn), self->present);
    atomic_fetch_add(&frames_sent, self->id);
    example_done();
}

/* ---------------------------------------------------------------------------------------------- the receiver */

struct receiver {
    uint64_t read, lifetime; /* in frames */
    enum vanishing way;
};

static enum weir_error receiver_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    *(struct receiver *)state = *(const struct receiver *)args;
    return WEIR_OK;
}

static enum weir_error receiver_message(struct turn *turn, void *state, struct message *message)
{
    struct receiver *self = state;
    const unsigned char *bytes = arena_data(turn_arena(turn), message->hold[0]);
    CHECK(message->word[0] == self->read + 1 && bytes[0] == (message->word[0] & 0xff));
    CHECK(memcmp(bytes, bytes + 1, STATE_SIZE - 1) == 0); /* of one moment */
    self->read++;
    atomic_fetch_add(&frames_read, 1);
    if (self->read == self->lifetime && self->way == VANISH_FAILING)
        return WEIR_FAILED; /* it has no supervisor, so that is its end */
    if (self->read == self->lifetime && self->way == VANISH_IN_ORDER)
        turn_exit(turn, WEIR_OK);
    enum weir_error error = turn_control(turn, message->from, &(struct message){.tag = TAG_CREDIT, .word = {1}});
    return error == WEIR_STALE ? WEIR_OK : error;
}

static const struct behaviour producer_behaviour = {.name = "producer",
                                                    .state_size = sizeof(struct producer),
                                                    .on_start = producer_start,
                                                    .on_message = producer_message,
                                                    .on_stop = producer_stop};
static const struct behaviour receiver_behaviour = {.name = "receiver",
                                                    .state_size = sizeof(struct receiver),
                                                    .on_start = receiver_start,
                                                    .on_message = receiver_message};

/* Opens a channel, with the first credit in the receiver's name. */
static weir_actor stream_open(uint64_t number)
{
    weir_actor receiver, producer;
    struct receiver args = {.way = (enum vanishing)(number % VANISH_WAYS), .lifetime = 1 + number % 100};
    MUST(actor_spawn(example.runtime, &receiver_behaviour, &args, sizeof args,
                     &(struct actor_options){.mailbox_max = MAILBOX}, &receiver));
    MUST(actor_spawn(example.runtime, &producer_behaviour, &receiver, sizeof receiver, NULL, &producer));
    MUST(actor_control(example.runtime, receiver, producer, &(struct message){.tag = TAG_CREDIT, .word = {CHANNEL}}));
    return receiver;
}

int main(int argc, char **argv)
{
    uint64_t streams = example_size(argc, argv, 3000, 1000000);
    weir_actor *receivers = calloc(streams, sizeof *receivers);
    CHECK(receivers != NULL);
    example_begin((size_t)512 << 20, (struct runtime_config){0});
    uint64_t start = clock_cpu_ns();
    for (uint64_t i = 0; i < streams; i++)
        receivers[i] = stream_open(i);
    for (uint64_t i = VANISH_STOPPED; i < streams; i += VANISH_WAYS)
        (void)!actor_stop(example.runtime, receivers[i], WEIR_CLOSED);
    example_wait(streams); /* every producer has noticed and stopped */
    double cpu = (double)(clock_cpu_ns() - start);
    CHECK(noticed_by_send + noticed_by_event == streams);
    CHECK(frames_read <= frames_sent && frames_sent <= frames_read + streams * CHANNEL);
    printf("%" PRIu64 " streams ended by their receivers: %" PRIu64 " noticed by a refused send, %" PRIu64
           " by the monitor\n",
           streams, noticed_by_send, noticed_by_event);
    printf("%" PRIu64 " snapshots sent, %" PRIu64 " read, %" PRIu64
           " given back unread; %.0f ns of processor time each of %d bytes\n",
           frames_sent, frames_read, (frames_sent - frames_read), cpu / (double)frames_sent, STATE_SIZE);
    free(receivers);
    return example_end();
}
