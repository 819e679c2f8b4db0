/* What a message costs among many actors: a ring, a driver that works through a crowd, everybody talking to
 * everybody, and actors that compute. A program for people; one line a figure.
 *
 *   runtime_crowd_bench [workers [scale]] */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/clock.h"
#include "actors/runtime/runtime.h"

enum { TAG_TOKEN = 1, TAG_WORK, TAG_GO, TAG_PING, TAG_PONG };

static pthread_mutex_t done_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done_changed = PTHREAD_COND_INITIALIZER;
static bool done_is_set;

/* The crowd: written before the first message of a figure is sent. */
static weir_actor *crowd;
static uint64_t crowd_size;
static _Atomic uint64_t unfinished;

static void must(enum weir_error error)
{
    if (error) {
        fprintf(stderr, "runtime_crowd_bench: %s\n", weir_error_text(error));
        exit(1);
    }
}

static void finish_one(void)
{
    if (atomic_fetch_sub(&unfinished, 1) != 1)
        return;
    pthread_mutex_lock(&done_lock);
    done_is_set = true;
    pthread_cond_signal(&done_changed);
    pthread_mutex_unlock(&done_lock);
}

static void done_wait(void)
{
    pthread_mutex_lock(&done_lock);
    while (!done_is_set)
        pthread_cond_wait(&done_changed, &done_lock);
    done_is_set = false;
    pthread_mutex_unlock(&done_lock);
}

struct member {
    uint64_t index, left, random, sum;
    uint64_t round; /* of a driver */
};

static enum weir_error member_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    memcpy(state, args, sizeof(struct member));
    return WEIR_OK;
}

static enum weir_error ring_message(struct turn *turn, void *state, struct message *message)
{
    struct member *member = state;
    struct message token = {.tag = TAG_TOKEN, .word = {message->word[0] - 1}};
    if (message->word[0] == 0) {
        finish_one();
        return WEIR_OK;
    }
    return turn_send(turn, crowd[(member->index + 1) % crowd_size], &token);
}

static enum weir_error worker_message(struct turn *turn, void *state, struct message *message)
{
    struct member *member = state;
    (void)turn;
    if (message->tag == TAG_WORK && --member->left == 0)
        finish_one();
    return WEIR_OK;
}

/* Sends to each of the crowd in turn, `left` messages in all. */
static enum weir_error driver_message(struct turn *turn, void *state, struct message *message)
{
    struct member *driver = state;
    (void)message;
    for (int i = 0; driver->left > 0; i++) {
        struct message work = {.tag = TAG_WORK};
        weir_actor to = crowd[driver->left % crowd_size];
        enum weir_error error = turn_send(turn, to, &work);
        if (error == WEIR_FULL)
            return turn_await_room(turn, to);
        if (error)
            return error;
        driver->left--;
        if (i == 1000) { /* lets the others have their turns */
            struct message go = {.tag = TAG_GO};
            return turn_send(turn, turn_self(turn), &go);
        }
    }
    return WEIR_OK;
}

/* Keeps one ping in flight to somebody. */
static enum weir_error talker_message(struct turn *turn, void *state, struct message *message)
{
    struct member *member = state;
    struct message next = {.tag = TAG_PONG, .word = {message->word[0]}};
    if (message->tag == TAG_PING)
        return turn_send(turn, message->from, &next);
    if (member->left-- == 0) {
        finish_one();
        return WEIR_OK;
    }
    member->random = (1309 * member->random + 13849) % 65536;
    next = (struct message){.tag = TAG_PING, .word = {member->index}};
    return turn_send(turn, crowd[member->random / 16 % crowd_size], &next);
}

static uint64_t burn(uint64_t rounds)
{
    uint64_t x = rounds;
    for (uint64_t i = 0; i < rounds; i++)
        x = x * UINT64_C(6364136223846793005) + 1;
    return x;
}

static enum weir_error computer_message(struct turn *turn, void *state, struct message *message)
{
    struct member *member = state;
    member->sum += burn(1500);
    if (member->left-- == 0) {
        finish_one();
        return WEIR_OK;
    }
    return turn_send(turn, turn_self(turn), message);
}

/* Spawns the whole crowd from its own worker and sets it off. */
static enum weir_error parent_message(struct turn *turn, void *state, struct message *message);

#define BEHAVIOUR(text, function)                                                                           \
    {                                                                                                       \
        .name = text, .state_size = sizeof(struct member), .on_start = member_start, .on_message = function \
    }
static const struct behaviour ring = BEHAVIOUR("ring", ring_message);
static const struct behaviour worker = BEHAVIOUR("worker", worker_message);
static const struct behaviour driver = BEHAVIOUR("driver", driver_message);
static const struct behaviour talker = BEHAVIOUR("talker", talker_message);
static const struct behaviour computer = BEHAVIOUR("computer", computer_message);
static const struct behaviour parent = BEHAVIOUR("parent", parent_message);

static void crowd_spawn(struct runtime *runtime, const struct behaviour *behaviour, uint64_t size, uint64_t left)
{
    crowd = realloc(crowd, size * sizeof *crowd);
    crowd_size = size;
    for (uint64_t i = 0; i < size; i++) {
        struct member member = {.index = i, .left = left, .random = i};
        must(actor_spawn(runtime, behaviour, &member, sizeof member, NULL, &crowd[i]));
    }
}

static void crowd_stop(struct runtime *runtime)
{
    for (uint64_t i = 0; i < crowd_size; i++)
        must(actor_stop(runtime, crowd[i], WEIR_OK));
}

static void send_to(struct runtime *runtime, weir_actor to, uint32_t tag, uint64_t word)
{
    struct message message = {.tag = tag, .word = {word}};
    must(actor_send(runtime, WEIR_ACTOR_NONE, to, &message));
}

static enum weir_error parent_message(struct turn *turn, void *state, struct message *message)
{
    struct member *member = state;
    struct message go = {.tag = TAG_GO};
    (void)message;
    crowd_spawn(turn_runtime(turn), &computer, member->index, member->left);
    for (uint64_t i = 0; i < crowd_size; i++)
        must(turn_send(turn, crowd[i], &go));
    turn_exit(turn, WEIR_OK);
    return WEIR_OK;
}

static uint64_t wall_before, cpu_before;

static void figure_begin(uint64_t parts)
{
    atomic_store(&unfinished, parts);
    cpu_before = clock_cpu_ns();
    wall_before = clock_now_ns();
}

static void figure_end(struct runtime *runtime, const char *name, uint64_t actors, uint64_t count)
{
    struct runtime_status status;
    double wall = (double)(clock_now_ns() - wall_before) / (double)count;
    double cpu = (double)(clock_cpu_ns() - cpu_before) / (double)count;
    uint64_t steals = 0;
    runtime_status(runtime, &status);
    for (unsigned i = 0; i < status.workers; i++) {
        struct worker_status each;
        must(runtime_worker_status(runtime, i, &each));
        steals += each.steals;
    }
    printf("%-10s workers=%u actors=%llu n=%llu wall=%.1f ns cpu=%.1f ns steals=%llu\n", name, status.workers,
           (unsigned long long)actors, (unsigned long long)count, wall, cpu, (unsigned long long)steals);
    crowd_stop(runtime);
}

static void run_ring(struct runtime *runtime, uint64_t actors, uint64_t hops)
{
    figure_begin(1);
    crowd_spawn(runtime, &ring, actors, 0);
    send_to(runtime, crowd[0], TAG_TOKEN, hops);
    done_wait();
    figure_end(runtime, "ring", actors, hops);
}

static void run_crowd(struct runtime *runtime, uint64_t actors, uint64_t each)
{
    weir_actor actor;
    struct member member = {.left = actors * each};
    figure_begin(actors);
    crowd_spawn(runtime, &worker, actors, each);
    must(actor_spawn(runtime, &driver, &member, sizeof member, NULL, &actor));
    send_to(runtime, actor, TAG_GO, 0);
    done_wait();
    figure_end(runtime, "fork_join", actors, actors * each);
    must(actor_stop(runtime, actor, WEIR_OK));
}

static void run_talk(struct runtime *runtime, uint64_t actors, uint64_t pings)
{
    figure_begin(actors);
    crowd_spawn(runtime, &talker, actors, pings);
    for (uint64_t i = 0; i < actors; i++)
        send_to(runtime, crowd[i], TAG_PONG, 0);
    done_wait();
    figure_end(runtime, "big", actors, 2 * actors * pings);
}

static void run_compute(struct runtime *runtime, uint64_t actors, uint64_t each)
{
    weir_actor actor;
    struct member member = {.index = actors, .left = each};
    figure_begin(actors);
    must(actor_spawn(runtime, &parent, &member, sizeof member, NULL, &actor));
    send_to(runtime, actor, TAG_GO, 0);
    done_wait();
    figure_end(runtime, "compute", actors, actors * each);
}

int main(int argc, char **argv)
{
    unsigned workers = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
    uint64_t scale = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    struct arena_config arena_config = {.bytes_max = (size_t)4 << 30};
    struct arena *arena;
    struct runtime *runtime;
    must(arena_create(&arena_config, &arena));
    struct runtime_config config = {.arena = arena, .workers = workers};
    must(runtime_create(&config, &runtime));
    must(runtime_start(runtime));
    run_ring(runtime, 100, 1000000 * scale);
    run_ring(runtime, 100000, 1000000 * scale);
    run_crowd(runtime, 60, 20000 * scale);
    run_talk(runtime, 100, 5000 * scale);
    run_talk(runtime, 10000, 100 * scale);
    run_talk(runtime, 200000, 5 * scale);
    run_compute(runtime, 2, 50000 * scale);
    run_compute(runtime, 16, 6000 * scale);
    run_compute(runtime, 1000, 100 * scale);
    runtime_stop(runtime);
    runtime_destroy(&runtime);
    arena_destroy(&arena);
    free(crowd);
    return 0;
}
