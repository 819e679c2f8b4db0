/* compute: actors that work 1 to 5 microseconds a message, which is worth spreading over workers. With start=1 all of
 * them begin on one worker (a driver spawns them in one turn); with shift=1 half of them have all the load in the first
 * half and the others in the second. Handlers run in turns. */
#include <string.h>

#include "tests/bench/actors/bench.h"

static uint64_t computer_count, message_count, shift, computed_work;
static weir_actor *computers;

struct computer {
    uint64_t index, sum;
};

static enum weir_error computer_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    memcpy(&((struct computer *)state)->index, args, sizeof(uint64_t));
    return WEIR_OK;
}

/* A chain of multiplications, about a nanosecond each. */
static uint64_t work(uint64_t seed, uint64_t steps)
{
    for (uint64_t i = 0; i < steps; i++)
        seed = seed * UINT64_C(6364136223846793005) + 1;
    return seed;
}

/* word[0]: how many messages to itself are left. */
static enum weir_error computer_message(struct turn *turn, void *state, struct message *message)
{
    struct computer *self = state;
    uint64_t steps = computed_work / 2 + (self->index * 7919 + message->word[0]) % (computed_work * 2);
    self->sum += work(self->sum, steps) | 1;
    if (message->word[0] > 1)
        tell(turn, turn_self(turn), WORK, message->word[0] - 1, message->word[1]);
    else
        tell(turn, (weir_actor){message->word[1]}, DONE, self->sum != 0, 0);
    return WEIR_OK;
}

static const struct behaviour computer = {.name = "computer",
                                          .state_size = sizeof(struct computer),
                                          .on_start = computer_start,
                                          .on_message = computer_message};

struct compute_driver {
    uint64_t phase, done, total;
};

static void phase_begin(struct turn *turn, struct compute_driver *self)
{
    uint64_t first = shift && self->phase == 1 ? computer_count / 2 : 0;
    uint64_t last = shift && self->phase == 0 ? computer_count / 2 : computer_count;
    for (uint64_t i = first; i < last; i++)
        tell(turn, computers[i], WORK, message_count, turn_self(turn).bits);
}

static enum weir_error compute_driver_message(struct turn *turn, void *state, struct message *message)
{
    struct compute_driver *self = state;
    if (message->tag == BEGIN) {
        for (uint64_t i = 0; i < computer_count; i++)
            must(actor_spawn(bench_runtime, &computer, &i, sizeof i, NULL, &computers[i]));
        phase_begin(turn, self);
        return WEIR_OK;
    }
    self->total++;
    if (++self->done < (shift ? computer_count / 2 : computer_count))
        return WEIR_OK;
    self->done = 0;
    if (shift && self->phase++ == 0)
        phase_begin(turn, self);
    else
        bench_finish(self->total * message_count);
    return WEIR_OK;
}

static const struct behaviour compute_driver = {
    .name = "driver", .state_size = sizeof(struct compute_driver), .on_message = compute_driver_message};

static void compute(struct outcome *outcome)
{
    computer_count = param("actors", 64);
    message_count = param("n", 10000);
    computed_work = param("work", 1500);
    shift = param("shift", 0);
    outcome->msgs = computer_count * message_count;
    computers = allocate(computer_count, sizeof *computers);
    begin(spawn(&compute_driver, NULL, 0));
}

const struct benchmark compute_benchmarks[] = {{"compute", compute, NULL}, {NULL, NULL, NULL}};
