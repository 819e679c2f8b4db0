/* Independent task: work that owns its data and runs once, on any worker, its result sent back as a message. Here the
 * primes below a number, counted in slices, one of which fails.
 *
 *   parent --run {data}--> task --result--> parent, and the task's end (monitored) if there was none
 *
 * Who owns what: the data travels in the task's first message, so it is the runtime's until the task handles it, and is
 * given back by whichever end comes: done, failed, stopped before it ever ran. The task has no supervisor: what failed
 * is not tried again, and its parent hears of the cause from the monitor. The number of tasks under way is bounded by
 * the parent, not by the memory.
 *
 *   independent_task [NUMBER] */
#include "actors/base/limits.h"
#include "actors/examples/example.h"

enum { TAG_GO = 1, TAG_RUN, TAG_RESULT };
enum { SLICES = 256, UNDER_WAY_MAX = 32, EMPTY_TASKS = 100000 };
#define BAD_SLICE 100

struct range {
    uint64_t first, last;
};

/* ---------------------------------------------------------------------------------------------- the task */

static uint64_t primes_in(const struct range *range)
{
    uint64_t count = 0;
    for (uint64_t n = range->first; n < range->last; n++) {
        bool is_prime = n > 1;
        for (uint64_t d = 2; is_prime && d * d <= n; d++)
            is_prime = n % d != 0;
        count += is_prime;
    }
    return count;
}

/* Has no state: the message is all there is. */
static enum weir_error task_message(struct turn *turn, void *state, struct message *message)
{
    (void)state;
    const struct range *range = arena_data(turn_arena(turn), message->hold[0]);
    if (range->first > range->last)
        return WEIR_BAD_REQUEST;
    struct message result = {.tag = TAG_RESULT, .detail = message->detail, .word = {primes_in(range)}};
    enum weir_error error =
        turn_send(turn, message->from, &result); /* the parent has room for all that are under way */
    if (!error)
        turn_exit(turn, WEIR_OK);
    return error;
}

static const struct behaviour task_behaviour = {.name = "task", .on_message = task_message};

/* Spawns a task and gives it its data. Refused: nothing is left of it. */
static enum weir_error task_run(struct turn *turn, uint32_t number, const struct range *range)
{
    struct arena *arena = turn_arena(turn);
    struct message run = {.tag = TAG_RUN, .detail = number};
    weir_actor task;
    enum weir_error error = arena_alloc(arena, sizeof *range, turn_budget(turn), &run.hold[0]);
    if (error)
        return error;
    *(struct range *)arena_data(arena, run.hold[0]) = *range;
    error = actor_spawn(turn_runtime(turn), &task_behaviour, NULL, 0, &(struct actor_options){.mailbox_max = 1}, &task);
    if (!error) {
        error = actor_monitor(turn_runtime(turn), turn_self(turn), task);
        if (!error)
            error = turn_send(turn, task, &run);
        if (error) /* it may have ended already: then there is nobody to stop */
            (void)!actor_stop(turn_runtime(turn), task, error);
    }
    if (error)
        arena_drop(arena, run.hold[0]);
    return error;
}

/* ---------------------------------------------------------------------------------------------- the parent */

struct parent {
    uint64_t limit; /* primes below it */
    uint32_t tasks; /* to run in all */
    uint32_t started, results, failures;
    uint64_t primes;
};

static struct parent outcome; /* written by the parent's last turn, read by main after it */

static enum weir_error parent_start(struct turn *turn, void *state, const void *args)
{
    *(struct parent *)state = *(const struct parent *)args;
    return turn_send(turn, turn_self(turn), &(struct message){.tag = TAG_GO});
}

static struct range slice_of(const struct parent *self, uint32_t number)
{
    struct range range = {.first = self->limit * number / self->tasks,
                          .last = self->limit * (number + 1) / self->tasks};
    if (self->limit > 0 && number == BAD_SLICE)
        range = (struct range){.first = 1, .last = 0};
    return range;
}

/* A task counts as over with its result, or with an end that says why there is none. The end of one that did its work
 * is no news; being control, it may even overtake the result. */
static enum weir_error parent_message(struct turn *turn, void *state, struct message *message)
{
    struct parent *self = state;
    if (message->tag == TAG_RESULT) {
        self->results++;
        self->primes += message->word[0];
    } else if (message->tag == MESSAGE_EVENT && message->word[1] != WEIR_OK) {
        self->failures++;
    }
    while (self->started < self->tasks && self->started - self->results - self->failures < UNDER_WAY_MAX) {
        struct range range = slice_of(self, self->started);
        enum weir_error error = task_run(turn, self->started, &range);
        if (error)
            return error;
        self->started++;
    }
    if (self->results + self->failures == self->tasks)
        turn_exit(turn, WEIR_OK);
    return WEIR_OK;
}

static void parent_stop(struct turn *turn, void *state, enum weir_error cause)
{
    (void)turn;
    CHECK(cause == WEIR_OK);
    outcome = *(const struct parent *)state;
    example_done();
}

static const struct behaviour parent_behaviour = {.name = "parent",
                                                  .state_size = sizeof(struct parent),
                                                  .on_start = parent_start,
                                                  .on_message = parent_message,
                                                  .on_stop = parent_stop};

/* Returns the wall time. */
static double run(uint64_t limit, uint32_t tasks)
{
    struct parent args = {.limit = limit, .tasks = tasks};
    weir_actor parent;
    uint64_t start = clock_now_ns();
    /* Its own first message, the results, and those that count as waiting until the turn that handled them is over. */
    struct actor_options options = {.mailbox_max = 1 + UNDER_WAY_MAX + TURN_MESSAGES_MAX};
    MUST(actor_spawn(example.runtime, &parent_behaviour, &args, sizeof args, &options, &parent));
    example_wait(1);
    return (double)(clock_now_ns() - start);
}

int main(int argc, char **argv)
{
    struct worker_status worker;
    uint64_t limit = example_size(argc, argv, 300000, 100000000);
    example_begin((size_t)64 << 20, (struct runtime_config){.workers = 2});
    double elapsed = run(limit, SLICES);
    struct range bad = {.first = limit * BAD_SLICE / SLICES, .last = limit * (BAD_SLICE + 1) / SLICES};
    printf("%" PRIu64 " primes below %" PRIu64 " by %u tasks in %.0f ms; %u failed, and its parent knows why\n",
           outcome.primes, limit, outcome.results, elapsed / 1e6, outcome.failures);
    CHECK(outcome.failures == 1 && outcome.results == SLICES - 1);
    CHECK(outcome.primes + primes_in(&bad) == primes_in(&(struct range){0, limit}));
    for (unsigned i = 0; i < 2; i++) {
        MUST(runtime_worker_status(example.runtime, i, &worker));
        printf("worker %u: %" PRIu64 " turns, %" PRIu64 " of them stolen work\n", i, worker.turns, worker.steals);
    }
    uint64_t start = clock_cpu_ns();
    run(0, EMPTY_TASKS);
    double cpu = (double)(clock_cpu_ns() - start);
    CHECK(outcome.results == EMPTY_TASKS);
    printf("an empty task, from spawn to result and end: %.0f ns of processor time\n", cpu / EMPTY_TASKS);
    return example_end();
}
