/* weir-actors-bench: Savina's micro-benchmarks on the public runtime, with bounded mailboxes, accounting and
 * supervision on. One process a measurement; what it prints is one line of JSON. main.c runs a benchmark, the other
 * files define them. */
#ifndef TESTS_BENCH_ACTORS_BENCH_H
#define TESTS_BENCH_ACTORS_BENCH_H

#include "actors/base/clock.h"
#include "actors/runtime/runtime.h"
#include "actors/supervise/supervisor.h"

struct outcome {
    uint64_t msgs;
    const char *unit; /* "msg", "actor", "restart", "timer" */
    char extra[512];  /* more members, each with a leading comma */
};

struct benchmark {
    const char *name;
    void (*run)(struct outcome *outcome);    /* spawns, sends the first message; main waits for bench_finish */
    void (*report)(struct outcome *outcome); /* optional: after the end */
};

extern const struct benchmark talk_benchmarks[], share_benchmarks[], life_benchmarks[], fanout_benchmarks[],
    compute_benchmarks[], burst_benchmarks[];

extern struct runtime *bench_runtime;
extern struct supervision *bench_supervision;
extern weir_actor bench_supervisor; /* of restartable children */

/* A parameter of the command line, or its default. */
uint64_t param(const char *name, uint64_t fallback);

/* The final value; called once, in a turn. */
void bench_finish(uint64_t check);

/* Ends the process with a message when error is none of WEIR_OK. */
void must(enum weir_error error);
void *allocate(size_t count, size_t size);
weir_actor spawn(const struct behaviour *behaviour, const void *args, size_t args_size);
/* The first message to an actor, from outside. */
void begin(weir_actor actor);
uint64_t resident_bytes(void);
int compare_numbers(const void *a, const void *b);

/* Message tags; 0 is "begin". */
enum {
    BEGIN,
    PING,
    PONG,
    STOP,
    DONE,
    ITEM,
    PRODUCE,
    AVAILABLE,
    UP,
    CRASH,
    WORK,
    GO,
    INCREMENT,
    GET,
    MEET,
    MATCH,
    CHANGE,
    ENDED,
    TOTAL,
    TOKEN,
    NEXT
};

/* Sends; true when it went. When the mailbox is full the sender will hear MESSAGE_ROOM and is to try again then. */
static inline bool send_or_wait(struct turn *turn, weir_actor to, const struct message *message)
{
    enum weir_error error = turn_send(turn, to, message);
    if (__builtin_expect(error == WEIR_OK, 1))
        return true;
    if (error != WEIR_FULL || turn_await_room(turn, to) != WEIR_OK)
        must(error);
    return false;
}

/* Sends where the protocol of the benchmark bounds what can be waiting, so that a refusal is a bug. */
static inline void tell(struct turn *turn, weir_actor to, uint32_t tag, uint64_t a, uint64_t b)
{
    struct message message = {.tag = tag, .word = {a, b}};
    must(turn_send(turn, to, &message));
}

#endif
