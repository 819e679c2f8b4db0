/* Zero-copy chunk stream: one large value goes to several receivers at once, in slices of the size that each chose,
 * under the credit that each grants. Nothing is copied: the budget has room for one value and no more.
 *
 *   streamer <--credit (control lane)-- receiver
 *            ---chunk {block, offset, size}--->
 *
 * Who owns what: a chunk holds one reference to the whole block; the receiver's turn gives it back. The streamer keeps
 * its own until it has sent the last slice, and may end then: the block lives until the last chunk was handled.
 * Credit bounds what is under way, so a slow receiver holds up nobody but its own streamer. Its mailbox takes that and
 * a turn's worth besides, because a message counts until the turn that handled it is over: so no chunk is ever refused.
 *
 *   chunk_stream [BYTES] */
#include "actors/base/limits.h"
#include "actors/examples/example.h"

enum { TAG_VALUE = 1, TAG_CREDIT, TAG_CHUNK };
enum { WINDOW = 8 /* chunks granted and not handled */, MAILBOX = WINDOW + TURN_MESSAGES_MAX };

static uint64_t value_size, value_sum;
static struct budget *budget;

static uint64_t sum_of(const unsigned char *bytes, size_t size)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < size; i += 64) /* looks at each cache line */
        sum += bytes[i];
    return sum;
}

/* ---------------------------------------------------------------------------------------------- the streamer */

struct streamer {
    struct slice rest; /* what is still to go; the streamer owns one reference to its block */
    uint32_t chunk_size;
    uint64_t credit; /* chunks */
    weir_actor receiver;
};

static enum weir_error streamer_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    ((struct streamer *)state)->chunk_size = *(const uint32_t *)args;
    return WEIR_OK;
}

static enum weir_error chunk_send(struct turn *turn, struct streamer *self)
{
    struct arena *arena = turn_arena(turn);
    uint32_t size = self->rest.size < self->chunk_size ? self->rest.size : self->chunk_size;
    struct message chunk = {.tag = TAG_CHUNK, .hold = {self->rest.block}, .word = {self->rest.offset, size}};
    enum weir_error error = arena_hold(arena, self->rest.block);
    if (error)
        return error;
    error = turn_send(turn, self->receiver, &chunk);
    if (error) {
        arena_drop(arena, self->rest.block);
        return error;
    }
    self->rest.offset += size;
    self->rest.size -= size;
    self->credit--;
    return WEIR_OK;
}

/* The value comes in a message, not as an argument: where it is never handled, the runtime gives its reference back. */
static enum weir_error streamer_message(struct turn *turn, void *state, struct message *message)
{
    struct streamer *self = state;
    if (message->tag == TAG_VALUE) {
        uint32_t size = (uint32_t)arena_size(turn_arena(turn), message->hold[0]);
        self->rest = (struct slice){.block = message_take(message, 0), .size = size};
    } else if (message->tag == TAG_CREDIT) { /* control: the first may come before the value */
        self->receiver = message->from;
        self->credit += message->word[0];
    }
    enum weir_error error = WEIR_OK;
    while (!error && self->credit > 0 && self->rest.size > 0)
        error = chunk_send(turn, self);
    if (error || (self->rest.size == 0 && self->rest.offset > 0))
        turn_exit(turn, error); /* all sent, or (stale) the receiver is gone */
    return WEIR_OK;
}

static void streamer_stop(struct turn *turn, void *state, enum weir_error cause)
{
    (void)cause;
    arena_drop(turn_arena(turn), ((struct streamer *)state)->rest.block);
}

/* ---------------------------------------------------------------------------------------------- the receiver */

struct receiver {
    weir_actor streamer;
    uint32_t extra_work; /* reads each chunk so many times more: some are slower */
    uint32_t handled;
    uint64_t size, sum;
};

static enum weir_error credit_grant(struct turn *turn, const struct receiver *self, uint64_t chunks)
{
    enum weir_error error = turn_control(turn, self->streamer, &(struct message){.tag = TAG_CREDIT, .word = {chunks}});
    return error == WEIR_STALE ? WEIR_OK : error; /* it has sent the last one and ended */
}

static enum weir_error receiver_start(struct turn *turn, void *state, const void *args)
{
    struct receiver *self = state;
    *self = *(const struct receiver *)args;
    enum weir_error error = actor_monitor(turn_runtime(turn), turn_self(turn), self->streamer);
    return error ? error : credit_grant(turn, self, WINDOW);
}

/* Half a window at a time: few credits, and the streamer never runs dry while this one works. */
static enum weir_error receiver_message(struct turn *turn, void *state, struct message *message)
{
    struct receiver *self = state;
    if (message->tag == MESSAGE_EVENT) /* in order: all is sent, and may yet have to be handled */
        return (enum weir_error)message->word[1];
    const unsigned char *bytes = arena_data(turn_arena(turn), message->hold[0]);
    CHECK(message->word[0] == self->size); /* in order, none missing */
    self->sum += sum_of(bytes + message->word[0], message->word[1]);
    for (uint32_t i = 0; i < self->extra_work; i++)
        CHECK(sum_of(bytes + message->word[0], message->word[1]) <= self->sum);
    self->size += message->word[1];
    if (self->size == value_size) {
        CHECK(self->sum == value_sum);
        turn_exit(turn, WEIR_OK);
    } else if (++self->handled == WINDOW / 2) {
        self->handled = 0;
        return credit_grant(turn, self, WINDOW / 2);
    }
    return WEIR_OK;
}

static void receiver_stop(struct turn *turn, void *state, enum weir_error cause)
{
    (void)turn;
    CHECK(cause == WEIR_OK && ((const struct receiver *)state)->size == value_size);
    example_done();
}

static const struct behaviour streamer_behaviour = {.name = "streamer",
                                                    .state_size = sizeof(struct streamer),
                                                    .on_start = streamer_start,
                                                    .on_message = streamer_message,
                                                    .on_stop = streamer_stop};
static const struct behaviour receiver_behaviour = {.name = "receiver",
                                                    .state_size = sizeof(struct receiver),
                                                    .on_start = receiver_start,
                                                    .on_message = receiver_message,
                                                    .on_stop = receiver_stop};

/* Streams the value, of which the caller keeps its reference, in chunks of that size (a multiple of 64: sum_of). */
static void stream(weir_msg value, uint32_t size, uint32_t extra_work)
{
    struct receiver receiver = {.extra_work = extra_work};
    weir_actor actor;
    struct actor_options options = {.mailbox_max = MAILBOX, .budget = budget};
    MUST(actor_spawn(example.runtime, &streamer_behaviour, &size, sizeof size, &options, &receiver.streamer));
    MUST(arena_hold(example.arena, value));
    MUST(actor_send(example.runtime, WEIR_ACTOR_NONE, receiver.streamer,
                    &(struct message){.tag = TAG_VALUE, .hold = {value}}));
    MUST(actor_spawn(example.runtime, &receiver_behaviour, &receiver, sizeof receiver, &options, &actor));
}

static void measure(weir_msg value, uint32_t chunk_size)
{
    uint64_t start = clock_cpu_ns();
    stream(value, chunk_size, 0);
    example_wait(1);
    double cpu = (double)(clock_cpu_ns() - start), chunks = (double)value_size / chunk_size;
    printf("chunks of %7u bytes: %6.0f ns of processor time each, one look at each cache line included: %.1f GB/s\n",
           chunk_size, cpu / chunks, (double)value_size / cpu);
}

int main(int argc, char **argv)
{
    struct budget_usage usage;
    weir_msg value;
    value_size = example_size(argc, argv, (uint64_t)32 << 20, ARENA_BLOCK_SIZE_MAX);
    example_begin((size_t)256 << 20, (struct runtime_config){0});
    MUST(budget_create(NULL, "value", value_size + ((size_t)512 << 10), &budget)); /* whole slabs; no second value */
    MUST(arena_alloc(example.arena, value_size, budget, &value));
    unsigned char *bytes = arena_data(example.arena, value);
    for (uint64_t i = 0; i < value_size; i++)
        bytes[i] = (unsigned char)(i * i >> 7);
    value_sum = sum_of(bytes, value_size);
    for (uint32_t chunk_size = 4 << 10; chunk_size <= 1 << 20; chunk_size <<= 4)
        measure(value, chunk_size);
    stream(value, 64 << 10, 0); /* and all at once, one of them slow */
    stream(value, 256 << 10, 3);
    stream(value, 1000000, 0);
    arena_drop(example.arena, value); /* the streams keep it */
    example_wait(3);
    budget_usage(budget, &usage);
    printf("then three streams at once, one slow: %zu KiB of memory for all, one block\n", usage.bytes_peak >> 10);
    CHECK(usage.bytes_peak <= usage.bytes_max && usage.refusals == 0);
    budget_destroy(&budget);
    return example_end();
}
