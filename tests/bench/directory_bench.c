/* What subscriptions by pattern cost those whom they do not concern: new topics while many patterns stand, and new
 * patterns while there are many topics. By hand: directory_bench. Prints processor time; the simulated runtime. */
#include "actors/base/clock.h"
#include "actors/runtime/runtime.h"
#include "actors/topic/directory.h"

#include <stdio.h>
#include <stdlib.h>

enum { PATTERNS = 100000, TOPICS = 100000, ROUNDS = 100 };

struct asker {
    weir_actor actor;
    struct runtime *runtime;
    struct directory *directory;
    struct arena *arena;
};

static void check(enum weir_error error)
{
    if (error) {
        fprintf(stderr, "directory_bench: %s\n", weir_error_text(error));
        exit(1);
    }
}

static enum weir_error asker_message(struct turn *turn, void *state, struct message *message)
{
    (void)turn;
    (void)state;
    (void)message;
    return WEIR_OK;
}

static const struct behaviour asker_behaviour = {.name = "asker", .on_message = asker_message};

static void send_and_settle(struct asker *asker, struct message *message)
{
    check(actor_send(asker->runtime, asker->actor, directory_actor(asker->directory), message));
    while (runtime_step(asker->runtime))
        ;
}

static void ensure(struct asker *asker, const char *name)
{
    struct message message = {.tag = DIRECTORY_ENSURE};
    check(arena_alloc(asker->arena, strlen(name), NULL, &message.hold[0]));
    memcpy(arena_data(asker->arena, message.hold[0]), name, strlen(name));
    send_and_settle(asker, &message);
}

static void subscribe(struct asker *asker, uint32_t sub, const char *pattern)
{
    struct message message = {.tag = DIRECTORY_SUBSCRIBE};
    size_t size = strlen(pattern);
    check(arena_alloc(asker->arena, sizeof(struct directory_subscribe) + size, NULL, &message.hold[0]));
    struct directory_subscribe *order = arena_data(asker->arena, message.hold[0]);
    *order = (struct directory_subscribe){
        .sub = sub, .snapshot = true, .updates = true, .credit = 1, .pattern_size = (uint32_t)size};
    memcpy(order->bytes, pattern, size);
    send_and_settle(asker, &message);
}

static void asker_open(struct asker *asker, struct arena *arena, struct runtime *runtime, struct directory *directory)
{
    *asker = (struct asker){.runtime = runtime, .directory = directory, .arena = arena};
    check(actor_spawn(runtime, &asker_behaviour, NULL, 0, NULL, &asker->actor));
}

/* Patterns of many subscribers, as many sessions would have them: a subscriber's own are told apart one by one. */
static void patterns_open(struct arena *arena, struct runtime *runtime, struct directory *directory)
{
    struct asker asker = {.arena = NULL};
    char text[64];
    for (int i = 0; i < PATTERNS; i++) {
        if (i % 100 == 0)
            asker_open(&asker, arena, runtime, directory);
        snprintf(text, sizeof text, i % 2 ? "site/%d/+/state" : "site/%d/device/#", i);
        subscribe(&asker, (uint32_t)i + 1, text);
    }
}

static double topics_make(struct asker *asker, const char *prefix, int count)
{
    char text[64];
    uint64_t before = clock_cpu_ns();
    for (int i = 0; i < count; i++) {
        snprintf(text, sizeof text, "%s/%d/device/state", prefix, i);
        ensure(asker, text);
    }
    return (double)(clock_cpu_ns() - before) / count;
}

int main(void)
{
    struct arena *arena;
    struct runtime *runtime;
    struct directory *directory;
    struct asker asker;
    struct arena_usage before, after;
    check(arena_create(&(struct arena_config){.bytes_max = (size_t)4 << 30}, &arena));
    check(runtime_create(&(struct runtime_config){.arena = arena, .simulate = true, .seed = 1}, &runtime));
    struct directory_config config = {.auto_create = true,
                                      .topics_max = 2 * TOPICS,
                                      .subscriptions_max = 2 * PATTERNS,
                                      .feeds_max = 2 * PATTERNS,
                                      .seed = 1};
    check(directory_create(runtime, WEIR_ACTOR_NONE, NULL, &config, &directory));
    asker_open(&asker, arena, runtime, directory);
    double alone = topics_make(&asker, "first", TOPICS / 10);
    arena_usage(arena, &before);
    patterns_open(arena, runtime, directory);
    arena_usage(arena, &after);
    double among = topics_make(&asker, "second", TOPICS / 10);
    printf("new topic    %8.1f ns without patterns, %.1f ns with %d that do not match it\n", alone, among, PATTERNS);
    printf("pattern      %8zu bytes of arena\n", (after.bytes_live - before.bytes_live) / PATTERNS);
    (void)topics_make(&asker, "third", TOPICS);
    uint64_t start = clock_cpu_ns();
    for (uint32_t i = 0; i < ROUNDS; i++)
        subscribe(&asker, i + 1, "site/+/device/state/#");
    printf("new pattern  %8.1f us with %d topics that it does not match\n",
           (double)(clock_cpu_ns() - start) / ROUNDS / 1000, TOPICS + TOPICS / 5);
    runtime_stop(runtime);
    directory_destroy(&directory);
    runtime_destroy(&runtime);
    arena_usage(arena, &after);
    if (after.blocks_live != 0)
        fprintf(stderr, "directory_bench: %zu blocks leaked\n", after.blocks_live);
    arena_thread_flush(arena);
    arena_destroy(&arena);
    return 0;
}
