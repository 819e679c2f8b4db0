/* Timers: one-shot, periodic, cancelled without a race, and a million armed at once.
 *
 * A timer is a control message that comes later, so its handler needs no lock and meets no other turn of its actor. It
 * belongs to its actor and ends with it. Cancelled, it is over when timer_cancel returns: also a message that had been
 * sent already, and waits in the mailbox, is not handled any more. So nobody needs to tell old timers from new ones.
 *
 *   timers [TIMERS] */
#include <stdatomic.h>
#include <stddef.h>

#include "actors/examples/example.h"

enum { TAG_GO = 1 };
enum { BEATS = 5, ROUNDS = 20000, SINKS = 16, CANCEL_EVERY = 4, FAR_S = 3600, REST_NS = 200000000 };
enum { WORD_ONCE = 1, WORD_BEAT };

/* ------------------------------------------------------------------------------------- one-shot and periodic */

struct clock_actor {
    weir_timer periodic, once;
    uint64_t beats;
};

static enum weir_error clock_start(struct turn *turn, void *state, const void *args)
{
    (void)args;
    struct clock_actor *self = state;
    return timer_start(turn_runtime(turn), turn_self(turn), NS_PER_MS, NS_PER_MS, WORD_BEAT, &self->periodic);
}

/* The periodic one is cancelled after some beats; the one-shot, armed for several beats later, finds no more of them.
 */
static enum weir_error clock_message(struct turn *turn, void *state, struct message *message)
{
    struct clock_actor *self = state;
    if (message->word[0] == WORD_BEAT && ++self->beats == BEATS) {
        timer_cancel(turn_runtime(turn), self->periodic);
        return timer_start(turn_runtime(turn), turn_self(turn), BEATS * NS_PER_MS, 0, WORD_ONCE, &self->once);
    }
    if (message->word[0] == WORD_ONCE) {
        CHECK(self->beats == BEATS);
        turn_exit(turn, WEIR_OK);
        example_done();
    }
    return WEIR_OK;
}

static const struct behaviour clock_behaviour = {
    .name = "clock", .state_size = sizeof(struct clock_actor), .on_start = clock_start, .on_message = clock_message};

/* ------------------------------------------------------------------------------------------------ cancelling */

struct canceller {
    weir_timer timer;
    uint64_t round, fired;
};

static uint64_t rounds_fired; /* written before example_done, read by main after it */

static enum weir_error canceller_start(struct turn *turn, void *state, const void *args)
{
    (void)state;
    (void)args;
    return turn_send(turn, turn_self(turn), &(struct message){.tag = TAG_GO});
}

/* Each round cancels the timer of the one before, which may be armed still, or fired and waiting, or handled. */
static enum weir_error canceller_message(struct turn *turn, void *state, struct message *message)
{
    struct canceller *self = state;
    if (message->tag == MESSAGE_TIMER) {
        CHECK(message->word[0] == self->round); /* never one that was cancelled */
        self->fired++;
        return WEIR_OK;
    }
    timer_cancel(turn_runtime(turn), self->timer); /* none, and one that is over, are fine */
    if (self->round == ROUNDS) {
        rounds_fired = self->fired;
        turn_exit(turn, WEIR_OK);
        example_done();
        return WEIR_OK;
    }
    self->round++;
    turn_yield(turn); /* timers fire between turns */
    enum weir_error error =
        timer_start(turn_runtime(turn), turn_self(turn), self->round % 8 * NS_PER_US, 0, self->round, &self->timer);
    return error ? error : turn_send(turn, turn_self(turn), message);
}

static const struct behaviour canceller_behaviour = {.name = "canceller",
                                                     .state_size = sizeof(struct canceller),
                                                     .on_start = canceller_start,
                                                     .on_message = canceller_message};

/* ------------------------------------------------------------------------------------------------- a million */

static _Atomic uint64_t sink_fired, sink_wanted;
static _Atomic uint64_t late_ns;

/* word[0]: when it is due. */
static enum weir_error sink_message(struct turn *turn, void *state, struct message *message)
{
    (void)state;
    uint64_t now = runtime_now_ns(turn_runtime(turn));
    CHECK(now >= message->word[0]);
    atomic_fetch_add_explicit(&late_ns, now - message->word[0], memory_order_relaxed);
    if (atomic_fetch_add(&sink_fired, 1) + 1 == atomic_load(&sink_wanted))
        example_done();
    return WEIR_OK;
}

static const struct behaviour sink_behaviour = {.name = "sink", .on_message = sink_message};

/* CPU that the process uses while all wait, in percent; main looks away for that long. */
static double rest(uint64_t ns)
{
    uint64_t start = clock_now_ns(), cpu = clock_cpu_ns();
    nanosleep(&(struct timespec){.tv_nsec = (long)ns}, NULL);
    return 100.0 * (double)(clock_cpu_ns() - cpu) / (double)(clock_now_ns() - start);
}

/* Arms them all, most of them due in the second after the next, cancels the others, and awaits those that are due. */
static void million(uint64_t count)
{
    weir_actor sinks[SINKS];
    weir_timer *timers = calloc(count, sizeof *timers);
    uint64_t random = 1, cancelled = count / CANCEL_EVERY;
    CHECK(timers != NULL);
    for (int i = 0; i < SINKS; i++)
        MUST(actor_spawn(example.runtime, &sink_behaviour, NULL, 0, NULL, &sinks[i]));
    atomic_store(&sink_wanted, count - cancelled);
    uint64_t start = clock_now_ns(), cpu_start = clock_cpu_ns();
    for (uint64_t i = 0; i < count; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint64_t due = start + NS_PER_S + ((i + 1) % CANCEL_EVERY ? (random >> 33) % NS_PER_S : FAR_S * NS_PER_S);
        uint64_t now = clock_now_ns();
        MUST(timer_start(example.runtime, sinks[i % SINKS], due > now ? due - now : 0, 0, due, &timers[i]));
    }
    uint64_t cpu_armed = clock_cpu_ns();
    for (uint64_t i = CANCEL_EVERY - 1; i < count; i += CANCEL_EVERY)
        timer_cancel(example.runtime, timers[i]);
    uint64_t cpu = clock_cpu_ns();
    printf("%" PRIu64 " armed at once: %.0f ns of processor time each to arm, %.0f ns to cancel\n", count,
           (double)(cpu_armed - cpu_start) / (double)count,
           (double)(cpu - cpu_armed) / (double)(cancelled ? cancelled : 1));
    if (clock_now_ns() + REST_NS < start + NS_PER_S)
        printf("while they wait the process uses %.2f %% of a processor\n", rest(REST_NS));
    cpu = clock_cpu_ns();
    example_wait(1);
    uint64_t fired = atomic_load(&sink_fired);
    printf("%" PRIu64 " fired, none early, %.0f us late on average; %.0f ns of processor time each\n", fired,
           (double)atomic_load(&late_ns) / (double)fired / 1e3, (double)(clock_cpu_ns() - cpu) / (double)fired);
    free(timers);
}

int main(int argc, char **argv)
{
    weir_actor actor;
    struct runtime_status status;
    uint64_t count = example_size(argc, argv, 1000000, 10000000);
    example_begin((size_t)1 << 30, (struct runtime_config){0});
    MUST(actor_spawn(example.runtime, &clock_behaviour, NULL, 0, NULL, &actor));
    example_wait(1);
    printf("periodic: %d beats, then cancelled; the one-shot after it saw no more of them\n", BEATS);
    MUST(actor_spawn(example.runtime, &canceller_behaviour, NULL, 0, NULL, &actor));
    example_wait(1);
    printf("cancelled in %d rounds: %" PRIu64 " had been handled before, none came after\n", ROUNDS, rounds_fired);
    million(count);
    runtime_status(example.runtime, &status);
    CHECK(status.timers == 0);
    return example_end();
}
