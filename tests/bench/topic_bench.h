/* What the measurements of topics share: a simulated runtime, one thread, with one topic and one publisher. */
#ifndef TESTS_BENCH_TOPIC_BENCH_H
#define TESTS_BENCH_TOPIC_BENCH_H

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/runtime/runtime.h"
#include "actors/topic/directory.h"
#include "actors/topic/fold.h"
#include "actors/topic/ring.h"

#include <stdio.h>
#include <stdlib.h>

enum { RECORD_SIZE = 128, BATCH = 512 };

static struct arena *arena;

static inline void check(enum weir_error error)
{
    if (error) {
        fprintf(stderr, "bench: %s\n", weir_error_text(error));
        exit(1);
    }
}

static inline double ns_each(uint64_t before, double count) { return (double)(clock_cpu_ns() - before) / count; }

/* ---------------------------------------------------------------------------------- the actors */

struct publisher {
    weir_actor actor, topic;
    uint64_t sent, acked;
    uint32_t batch;
    uint64_t random;
    uint32_t keys;
    bool is_keyed;
};

static inline size_t record_write(const struct publisher *publisher, uint8_t *out, uint32_t key,
                                  struct record_slice *slice)
{
    uint32_t at = slice->key_offset;
    if (publisher->is_keyed) {
        out[at] = 0xa9;
        for (int i = 9; i > 3; i--, key /= 10)
            out[at + i] = (uint8_t)('0' + key % 10);
        memcpy(out + at + 1, "key", 3);
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

static inline void publish(struct runtime *runtime, struct publisher *publisher)
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
        record_write(publisher, data, (uint32_t)((publisher->random >> 33) % publisher->keys), &slices[i]);
    }
    publisher->sent += publisher->batch;
    check(actor_send(runtime, publisher->actor, publisher->topic, &message));
}

static inline enum weir_error publisher_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    memcpy(state, args, sizeof(void *));
    return WEIR_OK;
}

static inline enum weir_error publisher_message(struct turn *turn, void *state, struct message *message)
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

static inline void settle(struct runtime *runtime)
{
    while (runtime_step(runtime))
        ;
}

/* A runtime with a directory whose one topic is of that kind. */
static inline struct runtime *world_open(struct topic_rule topic_rule, uint32_t keys, struct directory **directory,
                                         struct publisher *publisher)
{
    struct runtime *runtime;
    check(runtime_create(&(struct runtime_config){.arena = arena, .simulate = true, .seed = 1}, &runtime));
    struct directory_rule rule = {.pattern = "t", .rule = topic_rule};
    struct directory_config config = {
        .rules = &rule, .rule_count = 1, .topics_max = 10, .subscriptions_max = 10000, .feeds_max = 10000, .seed = 1};
    check(directory_create(runtime, WEIR_ACTOR_NONE, NULL, &config, directory));
    *publisher =
        (struct publisher){.batch = BATCH, .random = 1, .keys = keys, .is_keyed = topic_rule.kind == TOPIC_MAP};
    check(actor_spawn(runtime, &publisher_behaviour, &publisher, sizeof publisher, NULL, &publisher->actor));
    check(directory_find(*directory, view_text("t"), &publisher->topic));
    settle(runtime);
    return runtime;
}

static inline void world_close(struct runtime *runtime, struct directory *directory)
{
    runtime_stop(runtime);
    directory_destroy(&directory);
    runtime_destroy(&runtime);
}

#endif
