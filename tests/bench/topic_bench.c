/* What topics cost: folding records into each kind, one run delivered to many subscribers, capturing a large snapshot.
 * By hand: topic_bench. Prints processor time; one thread, the simulated runtime where actors are needed. */
#include "tests/bench/topic_bench.h"

#include "actors/topic/topic_limits.h"

enum { KEYS = 100000, BATCHES = 4000, SUBSCRIBERS = 1000, RUNS = 200 };

static void bench_publish(enum topic_kind kind)
{
    struct directory *directory;
    struct publisher publisher;
    struct runtime *runtime =
        world_open((struct topic_rule){.kind = kind, .log_count_max = KEYS}, KEYS, &directory, &publisher);
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

static uint64_t updates_heard;

static enum weir_error subscriber_message(struct turn *turn, void *state, struct message *message)
{
    (void)state;
    if (message->tag == TOPIC_UPDATES)
        updates_heard += topic_run_read(message).count;
    if (message->tag != TOPIC_BEGIN)
        return WEIR_OK;
    const struct topic_begin *begin = arena_data(arena, message->hold[0]);
    struct message credit = {.tag = TOPIC_CREDIT, .detail = message->detail, .word = {UINT32_MAX}};
    return turn_control(turn, begin->topic, &credit);
}

static const struct behaviour subscriber_behaviour = {
    .name = "subscriber", .state_size = 8, .on_message = subscriber_message};

static void bench_deliver(void)
{
    struct directory *directory;
    struct publisher publisher;
    struct runtime *runtime = world_open((struct topic_rule){.kind = TOPIC_LAST}, KEYS, &directory, &publisher);
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
    while (fold_sweep(&fold, TOPIC_SWEEP_STEPS))
        ;
    printf("release        %6.1f us of a snapshot whose pages were all rewritten\n", ns_each(before, 1000));
    fold_fini(&fold);
    ring_fini(&ring);
}

/* ------------------------------------------------------------------------------------------ merged maps */

enum { PATCHES = 2000, MERGE_CHUNK = 1000 };

/* A patch of `count` members from `first` on; no two give a member the same value. */
static size_t patch_write(uint8_t *out, uint32_t first, uint32_t count)
{
    static uint32_t patches;
    const struct publisher publisher = {.is_keyed = true};
    size_t size = 0;
    if (count == 1) {
        out[size++] = 0x81;
    } else {
        out[size++] = 0xde;
        out[size++] = (uint8_t)(count >> 8);
        out[size++] = (uint8_t)count;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct record_slice slice = {.key_offset = 0};
        size += record_write(&publisher, out + size, first + i, &slice);
        for (uint32_t at = 1, rest = patches; at <= 8; at++, rest >>= 4)
            out[size - at] = (uint8_t)('a' + (rest & 15));
    }
    patches++;
    return size;
}

static void merge_publish(struct fold *fold, struct ring *ring, const uint8_t *patch, size_t size)
{
    struct cell cell;
    check(ring_reserve(ring, view_of(NULL, 0), view_of(patch, size), 0, &cell));
    check(fold->ops->apply(fold, &cell));
    ring_commit(ring, &cell);
    (void)fold_sweep(fold, TOPIC_SWEEP_STEPS); /* as a topic does at the end of its turn */
}

/* Patches of a few members each; with is_held, each finds a new snapshot out, so that it must copy. */
static double merge_patches(struct fold *fold, struct ring *ring, uint32_t members, uint32_t named, bool is_held)
{
    static uint8_t patch[16 * RECORD_SIZE];
    uint32_t count = members > 20000 ? PATCHES / 4 : PATCHES;
    struct fold_snapshot snapshots[2] = {{.entries = 0}};
    uint64_t before = clock_cpu_ns();
    for (uint32_t i = 0; i < count; i++) {
        size_t size = patch_write(patch, i * 7919u % (members - named), named);
        if (is_held) {
            fold->ops->release(fold, &snapshots[i % 2]);
            fold->ops->capture(fold, &snapshots[i % 2]);
        }
        merge_publish(fold, ring, patch, size);
    }
    double each = ns_each(before, count);
    for (int i = 0; i < 2; i++)
        fold->ops->release(fold, &snapshots[i]);
    while (fold_sweep(fold, TOPIC_SWEEP_STEPS))
        ;
    return each;
}

static void bench_merge(uint32_t members)
{
    static uint8_t patch[MERGE_CHUNK * RECORD_SIZE + 3];
    struct fold fold;
    struct ring ring;
    struct budget *budget;
    struct budget_usage usage;
    const struct topic_rule rule = {.kind = TOPIC_MERGE};
    check(budget_create(NULL, "merge", 0, &budget));
    fold_init(&fold, &rule, arena, budget, 1);
    ring_init(&ring, arena, NULL, 0, 0, fold.ops->alone_size);
    for (uint32_t first = 0; first < members; first += MERGE_CHUNK) {
        uint32_t count = members - first < MERGE_CHUNK ? members - first : MERGE_CHUNK;
        merge_publish(&fold, &ring, patch, patch_write(patch, first, count));
    }
    budget_usage(budget, &usage);
    double one = merge_patches(&fold, &ring, members, 1, false);
    double held = merge_patches(&fold, &ring, members, 1, true);
    double ten = merge_patches(&fold, &ring, members, 10, false);
    double ten_held = merge_patches(&fold, &ring, members, 10, true);
    printf("merge          %8.0f ns a patch of one of %5u members (%7zu bytes), %8.0f with a new snapshot out; of ten "
           "%8.0f, %8.0f; %.1f B a member beside key and value\n",
           one, members, fold.bytes, held, ten, ten_held, (double)usage.bytes_used / members - RECORD_SIZE);
    fold_fini(&fold);
    ring_fini(&ring);
    budget_destroy(&budget);
}

int main(void)
{
    check(arena_create(&(struct arena_config){.bytes_max = (size_t)2 << 30}, &arena));
    bench_publish(TOPIC_LAST);
    bench_publish(TOPIC_MAP);
    bench_publish(TOPIC_LOG);
    bench_deliver();
    bench_snapshot();
    bench_merge(100);
    bench_merge(1000);
    bench_merge(5000);
    bench_merge(50000);
    struct arena_usage usage;
    arena_usage(arena, &usage);
    if (usage.blocks_live != 0)
        fprintf(stderr, "topic_bench: %zu blocks leaked\n", usage.blocks_live);
    arena_thread_flush(arena);
    arena_destroy(&arena);
    return 0;
}
