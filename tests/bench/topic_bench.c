/* What topics cost: folding records into each kind, one run delivered to many subscribers, capturing a large snapshot.
 * By hand: topic_bench. Prints processor time; one thread, the simulated runtime where actors are needed. */
#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/runtime/runtime.h"
#include "actors/topic/directory.h"
#include "actors/topic/fold.h"
#include "actors/topic/ring.h"

#include <stdio.h>
#include <stdlib.h>

enum { KEYS = 100000, RECORD_SIZE = 128, BATCH = 512, BATCHES = 4000, SUBSCRIBERS = 1000, RUNS = 200 };

static struct arena *arena;

static void check(enum weir_error error)
{
    if (error) {
        fprintf(stderr, "topic_bench: %s\n", weir_error_text(error));
        exit(1);
    }
}

static double ns_each(uint64_t before, double count) { return (double)(clock_cpu_ns() - before) / count; }

/* ---------------------------------------------------------------------------------- the actors */

struct publisher {
    weir_actor actor, topic;
    uint64_t sent, acked;
    uint32_t batch;
    uint64_t random;
    bool is_keyed;
};

static size_t record_write(const struct publisher *publisher, uint8_t *out, uint32_t key, struct record_slice *slice)
{
    uint32_t at = slice->key_offset;
    if (publisher->is_keyed) {
        out[at] = 0xa9;
        snprintf((char *)out + at + 1, 10, "key%06u", key);
        slice->key_size = 10;
        at += 10;
    }
    slice->value_offset = at;
    slice->value_size = RECORD_SIZE - slice->key_size;
    out[at] = 0xd9;
    out[at + 1] = (uint8_t)(slice->value_size - 2);
    memset(out + at + 2, 'v', slice->value_size - 2);
    return RECORD_SIZE;
}

static void publish(struct runtime *runtime, struct publisher *publisher)
{
    struct message message = {.tag = TOPIC_PUBLISH,
                              .detail = publisher->batch,
                              .word = {0, 0, TOPIC_NUMBER_WORD(publisher->sent, ACK_FOLDED)}};
    check(arena_alloc(arena, (size_t)publisher->batch * RECORD_SIZE, NULL, &message.hold[0]));
    check(arena_alloc(arena, publisher->batch * sizeof(struct record_slice), NULL, &message.hold[1]));
    uint8_t *data = arena_data(arena, message.hold[0]);
    struct record_slice *slices = arena_data(arena, message.hold[1]);
    for (uint32_t i = 0; i < publisher->batch; i++) {
        publisher->random = publisher->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        slices[i] = (struct record_slice){.key_offset = i * RECORD_SIZE};
        record_write(publisher, data, (uint32_t)((publisher->random >> 33) % KEYS), &slices[i]);
    }
    publisher->sent += publisher->batch;
    check(actor_send(runtime, publisher->actor, publisher->topic, &message));
}

static enum weir_error publisher_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    memcpy(state, args, sizeof(void *));
    return WEIR_OK;
}

static enum weir_error publisher_message(struct turn *turn, void *state, struct message *message)
{
    struct publisher *publisher = *(struct publisher **)state;
    (void)turn;
    if (message->tag == TOPIC_ACK)
        publisher->acked += message->detail;
    if (message->tag == DIRECTORY_TOPIC)
        publisher->topic = (weir_actor){message->word[1]};
    return WEIR_OK;
}

static const struct behaviour publisher_behaviour = {
    .name = "publisher", .state_size = 8, .on_start = publisher_start, .on_message = publisher_message};

static uint64_t updates_heard;

static enum weir_error subscriber_message(struct turn *turn, void *state, struct message *message)
{
    (void)state;
    if (message->tag == TOPIC_UPDATES)
        updates_heard += topic_run_read(message).count;
    if (message->tag != TOPIC_BEGIN)
        return WEIR_OK;
    const struct topic_begin *begin = arena_data(arena, message->hold[0]);
    struct message credit = {.tag = TOPIC_CREDIT, .detail = message->detail, .word = {begin->slot, UINT32_MAX}};
    return turn_control(turn, begin->topic, &credit);
}

static const struct behaviour subscriber_behaviour = {
    .name = "subscriber", .state_size = 8, .on_message = subscriber_message};

static void settle(struct runtime *runtime)
{
    while (runtime_step(runtime))
        ;
}

/* A runtime with a directory whose one topic is of that kind. */
static struct runtime *world_open(enum topic_kind kind, struct directory **directory, struct publisher *publisher)
{
    struct runtime *runtime;
    check(runtime_create(&(struct runtime_config){.arena = arena, .simulate = true, .seed = 1}, &runtime));
    struct directory_rule rule = {.pattern = "t", .rule = {.kind = kind, .log_count_max = KEYS}};
    struct directory_config config = {
        .rules = &rule, .rule_count = 1, .topics_max = 10, .subscriptions_max = 10000, .feeds_max = 10000, .seed = 1};
    check(directory_create(runtime, WEIR_ACTOR_NONE, NULL, &config, directory));
    *publisher = (struct publisher){.batch = BATCH, .random = 1, .is_keyed = kind == TOPIC_MAP};
    check(actor_spawn(runtime, &publisher_behaviour, &publisher, sizeof publisher, NULL, &publisher->actor));
    check(directory_find(*directory, view_text("t"), &publisher->topic));
    settle(runtime);
    return runtime;
}

static void world_close(struct runtime *runtime, struct directory *directory)
{
    runtime_stop(runtime);
    directory_destroy(&directory);
    runtime_destroy(&runtime);
}

static void bench_publish(enum topic_kind kind)
{
    struct directory *directory;
    struct publisher publisher;
    struct runtime *runtime = world_open(kind, &directory, &publisher);
    uint64_t spent = 0;
    for (int i = 0; i < BATCHES; i++) {
        publish(runtime, &publisher);
        uint64_t before = clock_cpu_ns();
        settle(runtime);
        spent += clock_cpu_ns() - before;
    }
    printf("publish %-6s %6.1f ns a record (batches of %d, %d B, %d keys, acked)\n", topic_kind_name(kind),
           (double)spent / ((double)BATCHES * BATCH), BATCH, RECORD_SIZE, KEYS);
    world_close(runtime, directory);
}

static void bench_deliver(void)
{
    struct directory *directory;
    struct publisher publisher;
    struct runtime *runtime = world_open(TOPIC_LAST, &directory, &publisher);
    for (int i = 0; i < SUBSCRIBERS; i++) {
        weir_actor actor;
        struct message message = {.tag = DIRECTORY_SUBSCRIBE};
        check(actor_spawn(runtime, &subscriber_behaviour, NULL, 0, NULL, &actor));
        check(arena_alloc(arena, sizeof(struct directory_subscribe) + 1, NULL, &message.hold[0]));
        struct directory_subscribe *order = arena_data(arena, message.hold[0]);
        *order =
            (struct directory_subscribe){.sub = 1, .snapshot = true, .updates = true, .credit = 1, .pattern_size = 1};
        order->bytes[0] = 't';
        check(actor_send(runtime, actor, directory_actor(directory), &message));
    }
    settle(runtime);
    publisher.batch = 10;
    uint64_t before = clock_cpu_ns();
    for (int i = 0; i < RUNS; i++) {
        publish(runtime, &publisher);
        settle(runtime);
    }
    printf("deliver        %6.1f ns a run of 10 records and subscriber, its turn included (%d subscribers)\n",
           ns_each(before, (double)RUNS * SUBSCRIBERS), SUBSCRIBERS);
    if (updates_heard != (uint64_t)RUNS * SUBSCRIBERS * 10)
        fprintf(stderr, "topic_bench: %llu updates heard\n", (unsigned long long)updates_heard);
    world_close(runtime, directory);
}

/* The fold alone: capture, a write under a snapshot, reading it all. */
static void bench_snapshot(void)
{
    struct fold fold;
    struct ring ring;
    struct topic_rule rule = {.kind = TOPIC_MAP};
    struct publisher publisher = {.is_keyed = true};
    uint8_t data[RECORD_SIZE + 1];
    struct record_slice slice;
    struct cell cell;
    fold_init(&fold, &rule, arena, NULL, 1);
    ring_init(&ring, arena, NULL, 0, 0, fold.ops->alone_size);
    uint64_t before = 0, worst = 0;
    struct fold_snapshot snapshot = {.entries = 0};
    for (uint32_t i = 0; i < 2 * KEYS; i++) {
        slice = (struct record_slice){.key_offset = 0};
        record_write(&publisher, data, i % KEYS, &slice);
        if (i == KEYS) {
            before = clock_cpu_ns();
            for (int k = 0; k < 1000; k++) {
                fold.ops->capture(&fold, &snapshot);
                if (k < 999)
                    fold.ops->release(&fold, &snapshot);
            }
            printf("capture        %6.1f ns with %d keys\n", ns_each(before, 1000), KEYS);
            before = clock_cpu_ns();
        }
        uint64_t start = i >= KEYS ? clock_now_ns() : 0;
        check(ring_reserve(&ring, view_of(data, 10), view_of(data + 10, RECORD_SIZE - 10), 0, &cell));
        check(fold.ops->apply(&fold, &cell));
        ring_commit(&ring, &cell);
        uint64_t took = i >= KEYS ? clock_now_ns() - start : 0;
        worst = took > worst ? took : worst;
    }
    printf("rewrite        %6.1f ns a record while a snapshot holds all pages; the worst %.1f us of wall time\n",
           ns_each(before, KEYS), (double)worst / 1000);
    struct fold_cursor cursor = {.done = 0};
    struct fold_run run;
    size_t runs = 0, bytes = 0;
    before = clock_cpu_ns();
    while (fold.ops->read(&fold, &snapshot, &cursor, 65536, &run) == WEIR_OK) {
        runs++;
        bytes += run.pairs.size;
    }
    printf("read snapshot  %6.1f ns a run (%zu runs, %zu bytes)\n", ns_each(before, (double)runs), runs, bytes);
    before = clock_cpu_ns();
    fold.ops->release(&fold, &snapshot);
    printf("release        %6.1f us of a snapshot whose pages were all rewritten\n", ns_each(before, 1000));
    fold_fini(&fold);
    ring_fini(&ring);
}

int main(void)
{
    check(arena_create(&(struct arena_config){.bytes_max = (size_t)2 << 30}, &arena));
    bench_publish(TOPIC_LAST);
    bench_publish(TOPIC_MAP);
    bench_publish(TOPIC_LOG);
    bench_deliver();
    bench_snapshot();
    struct arena_usage usage;
    arena_usage(arena, &usage);
    if (usage.blocks_live != 0)
        fprintf(stderr, "topic_bench: %zu blocks leaked\n", usage.blocks_live);
    arena_thread_flush(arena);
    arena_destroy(&arena);
    return 0;
}
