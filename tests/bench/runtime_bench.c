/* What a message costs: two actors that answer each other, a producer that is held back by a bounded
 * mailbox, spawning and ending, failing and starting again, timers, idle actors, and a wake-up from another
 * thread. A program for people; one line a figure.
 *
 *   runtime_bench [workers [millions of messages]] */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/clock.h"
#include "actors/runtime/runtime.h"

enum { TAG_PING = 1, TAG_PONG, TAG_ADD, TAG_GET, TAG_GO, TAG_AGAIN, TAG_CRASH };

static pthread_mutex_t done_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done_changed = PTHREAD_COND_INITIALIZER;
static bool done_is_set;
static uint64_t done_value;

static void done(uint64_t value)
{
    pthread_mutex_lock(&done_lock);
    done_is_set = true;
    done_value = value;
    pthread_cond_signal(&done_changed);
    pthread_mutex_unlock(&done_lock);
}

static uint64_t done_wait(void)
{
    pthread_mutex_lock(&done_lock);
    while (!done_is_set)
        pthread_cond_wait(&done_changed, &done_lock);
    done_is_set = false;
    uint64_t value = done_value;
    pthread_mutex_unlock(&done_lock);
    return value;
}

static void must(enum weir_error error)
{
    if (error) {
        fprintf(stderr, "runtime_bench: %s\n", weir_error_text(error));
        exit(1);
    }
}

static enum weir_error pong_message(struct turn *turn, void *state, struct message *message)
{
    (void)state;
    struct message answer = {.tag = TAG_PONG, .word = {message->word[0]}};
    return turn_send(turn, message->from, &answer);
}

struct ping {
    weir_actor other;
    uint64_t left, sum;
};

static enum weir_error ping_start(struct turn *turn, void *state, const void *args)
{
    struct ping *ping = state;
    struct message message = {.tag = TAG_PING, .word = {1}};
    *ping = *(const struct ping *)args;
    return turn_send(turn, ping->other, &message);
}

static enum weir_error ping_message(struct turn *turn, void *state, struct message *message)
{
    struct ping *ping = state;
    ping->sum += message->word[0];
    if (--ping->left == 0) {
        done(ping->sum);
        turn_exit(turn, WEIR_OK);
        return WEIR_OK;
    }
    struct message next = {.tag = TAG_PING, .word = {message->word[0] + 1}};
    return turn_send(turn, ping->other, &next);
}

static enum weir_error counter_message(struct turn *turn, void *state, struct message *message)
{
    uint64_t *count = state;
    if (message->tag == TAG_ADD) {
        (*count)++;
        return WEIR_OK;
    }
    done(*count);
    turn_exit(turn, WEIR_OK);
    return WEIR_OK;
}

static enum weir_error producer_message(struct turn *turn, void *state, struct message *message)
{
    struct ping *producer = state;
    struct message add = {.tag = TAG_ADD};
    (void)message;
    for (; producer->left > 0; producer->left--) {
        enum weir_error error = turn_send(turn, producer->other, &add);
        if (error == WEIR_FULL)
            return turn_await_room(turn, producer->other);
        if (error)
            return error;
    }
    add.tag = TAG_GET;
    enum weir_error error = turn_send(turn, producer->other, &add);
    if (error == WEIR_FULL)
        return turn_await_room(turn, producer->other);
    turn_exit(turn, error);
    return WEIR_OK;
}

static enum weir_error producer_start(struct turn *turn, void *state, const void *args)
{
    struct message go = {.tag = TAG_GO};
    memcpy(state, args, sizeof(struct ping));
    return turn_send(turn, turn_self(turn), &go);
}

static _Atomic uint64_t ended_left;

static enum weir_error once_start(struct turn *turn, void *state, const void *args)
{
    (void)state;
    (void)args;
    turn_exit(turn, WEIR_OK);
    return WEIR_OK;
}

static enum weir_error once_message(struct turn *turn, void *state, struct message *message)
{
    (void)turn;
    (void)state;
    (void)message;
    return WEIR_OK;
}

static void once_stop(struct turn *turn, void *state, enum weir_error cause)
{
    (void)turn;
    (void)state;
    (void)cause;
    if (atomic_fetch_sub(&ended_left, 1) == 1)
        done(0);
}

static const struct behaviour ping_behaviour = {
    .name = "ping", .state_size = sizeof(struct ping), .on_start = ping_start, .on_message = ping_message};
static const struct behaviour pong_behaviour = {.name = "pong", .on_message = pong_message};
static const struct behaviour counter_behaviour = {
    .name = "counter", .state_size = sizeof(uint64_t), .on_message = counter_message};
static const struct behaviour producer_behaviour = {
    .name = "producer", .state_size = sizeof(struct ping), .on_start = producer_start, .on_message = producer_message};
static const struct behaviour once_behaviour = {
    .name = "once", .on_start = once_start, .on_message = once_message, .on_stop = once_stop};

struct spawner {
    uint64_t left;
};

static enum weir_error spawner_message(struct turn *turn, void *state, struct message *message)
{
    struct spawner *spawner = state;
    struct message again = {.tag = TAG_AGAIN};
    weir_actor actor;
    (void)message;
    for (int i = 0; i < 100 && spawner->left > 0; i++, spawner->left--)
        must(actor_spawn(turn_runtime(turn), &once_behaviour, NULL, 0, NULL, &actor));
    if (spawner->left == 0) {
        turn_exit(turn, WEIR_OK);
        return WEIR_OK;
    }
    return turn_send(turn, turn_self(turn), &again);
}

static enum weir_error spawner_start(struct turn *turn, void *state, const void *args)
{
    struct message again = {.tag = TAG_AGAIN};
    memcpy(state, args, sizeof(struct spawner));
    return turn_send(turn, turn_self(turn), &again);
}

static const struct behaviour spawner_behaviour = {
    .name = "spawner", .state_size = sizeof(struct spawner), .on_start = spawner_start, .on_message = spawner_message};

/* Fails on every message; its supervisor orders it on, and sends the next once the last is a dead letter. */
static enum weir_error crash_message(struct turn *turn, void *state, struct message *message)
{
    (void)turn;
    (void)state;
    return message->tag == TAG_CRASH ? WEIR_FAILED : WEIR_OK;
}

static const struct behaviour crash_behaviour = {.name = "crash", .on_message = crash_message};

static enum weir_error keeper_message(struct turn *turn, void *state, struct message *message)
{
    struct ping *keeper = state;
    struct message crash = {.tag = TAG_CRASH};
    if (message->tag == MESSAGE_EVENT && message->word[0] == ACTOR_EVENT_FAILED)
        must(actor_restart(turn_runtime(turn), message->from, 0));
    else if (message->tag == MESSAGE_EVENT && message->word[0] == ACTOR_EVENT_EXITED)
        return WEIR_OK;
    if (keeper->left-- == 0) {
        done(0);
        turn_exit(turn, WEIR_OK);
        return WEIR_OK;
    }
    return turn_send(turn, message->from, &crash);
}

static enum weir_error keeper_start(struct turn *turn, void *state, const void *args)
{
    struct ping *keeper = state;
    struct actor_options options = {.supervisor = turn_self(turn), .attempts_max = 1};
    memcpy(state, args, sizeof(struct ping));
    return actor_spawn(turn_runtime(turn), &crash_behaviour, NULL, 0, &options, &keeper->other);
}

static const struct behaviour keeper_behaviour = {
    .name = "keeper", .state_size = sizeof(struct ping), .on_start = keeper_start, .on_message = keeper_message};

static bool letter_drop(struct turn *turn, struct message *message, enum weir_error cause, uint32_t attempts,
                        void *context)
{
    (void)turn;
    (void)message;
    (void)cause;
    (void)attempts;
    (void)context;
    return true;
}

static uint64_t wall_before, cpu_before;

static void figure_begin(void)
{
    cpu_before = clock_cpu_ns();
    wall_before = clock_now_ns();
}

static void figure_end(const char *name, unsigned workers, uint64_t count)
{
    double wall = (double)(clock_now_ns() - wall_before) / (double)count;
    double cpu = (double)(clock_cpu_ns() - cpu_before) / (double)count;
    printf("%-12s workers=%u n=%llu wall=%.1f ns cpu=%.1f ns\n", name, workers, (unsigned long long)count, wall, cpu);
}

static size_t resident_bytes(void)
{
    unsigned long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%lu %lu", &total, &resident) != 2)
        resident = 0;
    if (file)
        fclose(file);
    return resident * 4096;
}

static void run_messages(struct runtime *runtime, unsigned workers, uint64_t n)
{
    weir_actor actor;
    figure_begin();
    struct ping ping = {.left = n / 2};
    must(actor_spawn(runtime, &pong_behaviour, NULL, 0, NULL, &ping.other));
    must(actor_spawn(runtime, &ping_behaviour, &ping, sizeof ping, NULL, &actor));
    done_wait();
    figure_end("ping_pong", workers, n);

    figure_begin();
    struct ping producer = {.left = n};
    must(actor_spawn(runtime, &counter_behaviour, NULL, 0, NULL, &producer.other));
    must(actor_spawn(runtime, &producer_behaviour, &producer, sizeof producer, NULL, &actor));
    if (done_wait() != n)
        must(WEIR_INTERNAL);
    figure_end("counting", workers, n);
}

static void run_lives(struct runtime *runtime, unsigned workers, uint64_t n)
{
    weir_actor actor;
    figure_begin();
    struct spawner spawner = {.left = n / 4};
    atomic_store(&ended_left, n / 4);
    must(actor_spawn(runtime, &spawner_behaviour, &spawner, sizeof spawner, NULL, &actor));
    done_wait();
    figure_end("spawn_end", workers, n / 4);

    figure_begin();
    struct ping keeper = {.left = n / 8};
    must(actor_spawn(runtime, &keeper_behaviour, &keeper, sizeof keeper, NULL, &actor));
    done_wait();
    figure_end("restart", workers, n / 8);
}

static void run_timers(struct runtime *runtime, unsigned workers)
{
    enum { TIMERS = 1000000 };
    static weir_timer timers[TIMERS];
    weir_actor actor;
    uint64_t random = 1;
    must(actor_spawn(runtime, &pong_behaviour, NULL, 0, NULL, &actor));
    figure_begin();
    for (int i = 0; i < TIMERS; i++) {
        random = random * UINT64_C(6364136223846793005) + 1;
        must(timer_start(runtime, actor, 100 * NS_PER_S + (random >> 30), 0, 0, &timers[i]));
    }
    figure_end("timer_start", workers, TIMERS);
    figure_begin();
    for (int i = 0; i < TIMERS; i++)
        timer_cancel(runtime, timers[(uint64_t)i * 7919 % TIMERS]);
    figure_end("timer_cancel", workers, TIMERS);
}

/* One message at a time from a thread that is no worker, to a runtime at rest; waits for the answer. */
static void run_wakeups(struct runtime *runtime, unsigned workers)
{
    enum { WAKEUPS = 2000 };
    struct message get = {.tag = TAG_GET};
    weir_actor actor;
    figure_begin();
    for (int i = 0; i < WAKEUPS; i++) {
        must(actor_spawn(runtime, &counter_behaviour, NULL, 0, NULL, &actor));
        must(actor_send(runtime, WEIR_ACTOR_NONE, actor, &get));
        done_wait();
    }
    figure_end("wake_and_back", workers, WAKEUPS);
}

static void run_idle(struct runtime *runtime, unsigned workers)
{
    enum { ACTORS = 1000000 };
    weir_actor actor;
    struct message get = {.tag = TAG_GET};
    size_t before = resident_bytes();
    figure_begin();
    for (int i = 0; i < ACTORS; i++)
        must(actor_spawn(runtime, &counter_behaviour, NULL, 0, NULL, &actor));
    must(actor_send(runtime, WEIR_ACTOR_NONE, actor, &get)); /* the last one has started: so have most */
    done_wait();
    figure_end("idle_actors", workers, ACTORS);
    printf("%-12s workers=%u resident=%.1f bytes an actor\n", "idle_actors", workers,
           (double)(resident_bytes() - before) / ACTORS);
}

int main(int argc, char **argv)
{
    unsigned workers = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
    uint64_t n = (argc > 2 ? strtoull(argv[2], NULL, 10) : 4) * 1000000;
    struct arena_config arena_config = {.bytes_max = (size_t)2 << 30};
    struct arena *arena;
    struct runtime *runtime;
    must(arena_create(&arena_config, &arena));
    struct runtime_config config = {.arena = arena, .workers = workers, .on_dead_letter = letter_drop};
    must(runtime_create(&config, &runtime));
    must(runtime_start(runtime));
    run_messages(runtime, workers, n);
    run_lives(runtime, workers, n);
    run_timers(runtime, workers);
    run_wakeups(runtime, workers);
    run_idle(runtime, workers);
    figure_begin();
    runtime_stop(runtime);
    figure_end("stop_all", workers, 1000000);
    runtime_destroy(&runtime);
    arena_destroy(&arena);
    return 0;
}
