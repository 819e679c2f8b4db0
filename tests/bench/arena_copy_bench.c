/* Copying or referencing: what it costs to give one payload to many receivers, as a block each with its own copy or
 * as one block that is held for each. First through the arena alone, then through actors' messages, whose words carry
 * 24 bytes themselves. Prints tables; run by hand. Main thread, and in the second part the runtime's one worker. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/memory/arena.h"
#include "actors/runtime/runtime.h"

/* Payloads are handed over in batches that receivers have taken before the next: live memory stays within this. */
static const size_t live_size_max = (size_t)16 << 20;
static const uint64_t measure_ns = 10 * NS_PER_MS;
/* A cell that takes this long is measured once. */
static const uint64_t slow_ns = 100 * NS_PER_MS;
enum { ROUNDS = 3, RECEIVERS_MAX = 10000 };

static const size_t sizes[] = {64, 128, 256, 512, 1024, 4096, 16384, 65536, 262144, 1 << 20};
static const uint32_t receiver_counts[] = {1, 2, 4, 10, 100, 1000, 10000};

static struct arena *arena;
static weir_msg handed[RECEIVERS_MAX];
static unsigned char source[1 << 20];
static volatile unsigned char read_bytes;

static void must(enum weir_error error)
{
    if (error == WEIR_OK)
        return;
    fprintf(stderr, "arena_copy_bench: %s\n", weir_error_text(error));
    exit(1);
}

static weir_msg block_copy(const void *bytes, size_t size)
{
    weir_msg block;
    must(arena_alloc(arena, size, NULL, &block));
    memcpy(arena_data(arena, block), bytes, size);
    return block;
}

/* A receiver reads all of it: one byte a cache line. */
static void receive(weir_msg block, size_t size)
{
    const unsigned char *bytes = arena_data(arena, block);
    unsigned char sum = 0;
    for (size_t i = 0; i < size; i += 64)
        sum ^= bytes[i];
    read_bytes = sum;
    arena_drop(arena, block);
}

typedef void (*deliver)(size_t size, uint32_t receivers);

static void deliver_by_copy(size_t size, uint32_t receivers)
{
    size_t fit = live_size_max / size;
    uint32_t batch = receivers < fit ? receivers : (uint32_t)fit;
    weir_msg first = block_copy(source, size);
    const void *bytes = arena_data(arena, first);
    for (uint32_t done = 0; done < receivers; done += batch) {
        uint32_t count = receivers - done < batch ? receivers - done : batch;
        for (uint32_t i = 0; i < count; i++)
            handed[i] = block_copy(bytes, size);
        for (uint32_t i = 0; i < count; i++)
            receive(handed[i], size);
    }
    arena_drop(arena, first);
}

static void deliver_by_reference(size_t size, uint32_t receivers)
{
    weir_msg first = block_copy(source, size);
    for (uint32_t i = 0; i < receivers; i++) {
        must(arena_hold(arena, first));
        handed[i] = first;
    }
    for (uint32_t i = 0; i < receivers; i++)
        receive(handed[i], size);
    arena_drop(arena, first);
}

/* Nanoseconds a receiver: the best of some rounds. */
static double measure(deliver run, size_t size, uint32_t receivers)
{
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t count = 0, start = clock_now_ns(), end;
        do {
            run(size, receivers);
            count += receivers;
            end = clock_now_ns();
        } while (end - start < measure_ns);
        double took = (double)(end - start) / (double)count;
        if (round == 0 || took < best)
            best = took;
        if (end - start > slow_ns)
            break;
    }
    return best;
}

static void print_arena_table(void)
{
    printf("arena: ns a receiver, copy / reference (every line of the payload is read)\n%10s", "receivers");
    for (size_t s = 0; s < COUNT_OF(sizes); s++)
        printf("%17zu B", sizes[s]);
    puts("");
    for (size_t r = 0; r < COUNT_OF(receiver_counts); r++) {
        printf("%10u", receiver_counts[r]);
        for (size_t s = 0; s < COUNT_OF(sizes); s++) {
            double copy = measure(deliver_by_copy, sizes[s], receiver_counts[r]);
            double reference = measure(deliver_by_reference, sizes[s], receiver_counts[r]);
            printf("%9.1f /%8.1f", copy, reference);
        }
        puts("");
        fflush(stdout);
    }
}

/* ----------------------------------------------------------------------------------------- messages */

enum way { WAY_INLINE, WAY_COPY, WAY_REFERENCE };
enum { TAG_ROUND = 1, TAG_ITEM, INLINE_SIZE = 24, MESSAGES_MIN = 50000 };

static struct runtime *runtime;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool is_done;
static weir_actor receivers_of[RECEIVERS_MAX];

static struct {
    enum way way;
    size_t size;
    uint32_t receivers;
    uint64_t rounds;
    weir_actor sender;
} plan;

static enum weir_error receiver_message(struct turn *turn, void *state, struct message *message)
{
    (void)turn, (void)state;
    unsigned char sum = (unsigned char)message->word[0];
    if (!msg_is_none(message->hold[0])) {
        const unsigned char *bytes = arena_data(arena, message->hold[0]);
        for (size_t i = 0; i < plan.size; i += 64)
            sum ^= bytes[i];
    }
    read_bytes = sum;
    return WEIR_OK;
}

static void finish(void)
{
    pthread_mutex_lock(&lock);
    is_done = true;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

/* One payload to all. The sender's message to itself comes behind its receivers' turns: their mailboxes stay short. */
static enum weir_error sender_message(struct turn *turn, void *state, struct message *message)
{
    (void)state;
    if (message->word[0] == 0) {
        finish();
        return WEIR_OK;
    }
    struct message item = {.tag = TAG_ITEM};
    weir_msg first = WEIR_MSG_NONE;
    if (plan.way == WAY_INLINE)
        memcpy(item.word, source, INLINE_SIZE);
    else
        first = block_copy(source, plan.size);
    for (uint32_t i = 0; i < plan.receivers; i++) {
        if (plan.way == WAY_COPY) {
            item.hold[0] = block_copy(arena_data(arena, first), plan.size);
        } else if (plan.way == WAY_REFERENCE) {
            must(arena_hold(arena, first));
            item.hold[0] = first;
        }
        must(turn_send(turn, receivers_of[i], &item));
    }
    arena_drop(arena, first);
    struct message next = {.tag = TAG_ROUND, .word = {message->word[0] - 1}};
    return turn_send(turn, turn_self(turn), &next);
}

static const struct behaviour receiver = {.name = "receiver", .on_message = receiver_message};
static const struct behaviour sender = {.name = "sender", .on_message = sender_message};

static double measure_messages(enum way way, size_t size, uint32_t receivers)
{
    plan.way = way;
    plan.size = size;
    plan.receivers = receivers;
    plan.rounds = MESSAGES_MIN / receivers;
    if (plan.rounds * size * receivers > ((uint64_t)1 << 28))
        plan.rounds = ((uint64_t)1 << 28) / size / receivers + 1;
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct message begin = {.tag = TAG_ROUND, .word = {plan.rounds}};
        is_done = false;
        uint64_t start = clock_now_ns();
        must(actor_send(runtime, WEIR_ACTOR_NONE, plan.sender, &begin));
        pthread_mutex_lock(&lock);
        while (!is_done)
            pthread_cond_wait(&changed, &lock);
        pthread_mutex_unlock(&lock);
        double took = (double)(clock_now_ns() - start) / (double)(plan.rounds * receivers);
        if (round == 0 || took < best)
            best = took;
    }
    return best;
}

static void print_message_table(void)
{
    static const size_t message_sizes[] = {64, 128, 256, 512, 1024, 4096, 16384};
    static const uint32_t counts[] = {1, 2, 4, 10, 100, 1000};
    struct runtime_config config = {.arena = arena, .workers = 1};
    must(runtime_create(&config, &runtime));
    must(runtime_start(runtime));
    for (size_t i = 0; i < RECEIVERS_MAX; i++)
        must(actor_spawn(runtime, &receiver, NULL, 0, NULL, &receivers_of[i]));
    must(actor_spawn(runtime, &sender, NULL, 0, NULL, &plan.sender));
    printf("\nmessages of one worker: ns a receiver; %d B inside the message, then copy / reference\n%10s%9s",
           INLINE_SIZE, "receivers", "inside");
    for (size_t s = 0; s < COUNT_OF(message_sizes); s++)
        printf("%17zu B", message_sizes[s]);
    puts("");
    for (size_t r = 0; r < COUNT_OF(counts); r++) {
        printf("%10u%9.1f", counts[r], measure_messages(WAY_INLINE, INLINE_SIZE, counts[r]));
        for (size_t s = 0; s < COUNT_OF(message_sizes); s++) {
            double copy = measure_messages(WAY_COPY, message_sizes[s], counts[r]);
            double reference = measure_messages(WAY_REFERENCE, message_sizes[s], counts[r]);
            printf("%9.1f /%8.1f", copy, reference);
        }
        puts("");
        fflush(stdout);
    }
    runtime_stop(runtime);
    runtime_destroy(&runtime);
}

int main(void)
{
    struct arena_config config = {.bytes_max = (size_t)1 << 30};
    must(arena_create(&config, &arena));
    for (size_t i = 0; i < sizeof source; i++)
        source[i] = (unsigned char)i;
    print_arena_table();
    print_message_table();
    arena_thread_flush(arena);
    arena_destroy(&arena);
    return 0;
}
