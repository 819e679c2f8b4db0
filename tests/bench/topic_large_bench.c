/* A topic of kind map with a million keys: memory a key, what an update costs with and without snapshots out, how long
 * the topic's turns are while a hundred subscribers join and updates go on, and while it is cleared. By hand:
 *
 *     topic_large_bench [PART...]     all of them, or
 *     topic_large_bench fold          bytes a key; an update with and without snapshots out
 *     topic_large_bench joins         turns while 100 subscribers join and updates go on
 *     topic_large_bench clear         turns with up to 8 snapshots out, and while it is cleared
 *     topic_large_bench log           turns while a log of two million records is cleared
 *     topic_large_bench recall        turns while a conflated subscriber catches up that stalled until all was replaced
 *
 * Processor time; the simulated runtime, one thread; the turns are the topic's own alone. */
#include "tests/bench/topic_bench.h"

#include "actors/topic/topic_limits.h"

enum { KEYS = 1000000, UPDATES = 2000000, SNAPSHOT_UPDATES = 200000, JOINERS = 100, JOIN_BATCHES = 2000 };
enum { TURNS_MAX = 4000000, CREDIT = 262144 };

static uint64_t turn_ns[TURNS_MAX];
static size_t turn_count;
static uint64_t joined, entries_heard;

/* ---------------------------------------------------------------------------------- the fold alone */

struct bench_fold {
    struct fold fold;
    struct ring ring;
    struct publisher publisher;
};

static void fold_update(struct bench_fold *bench, uint32_t key)
{
    uint8_t data[RECORD_SIZE];
    struct record_slice slice = {.key_offset = 0};
    struct cell cell;
    record_write(&bench->publisher, data, key, &slice);
    check(ring_reserve(&bench->ring, view_of(data, 10), view_of(data + 10, RECORD_SIZE - 10), 0, &cell));
    check(bench->fold.ops->apply(&bench->fold, &cell));
    ring_commit(&bench->ring, &cell);
}

static uint32_t random_key(struct publisher *publisher)
{
    publisher->random = publisher->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)((publisher->random >> 33) % KEYS);
}

/* Random updates, prepared together as a batch's are; with snapshots one is always out, a new one each
 * SNAPSHOT_UPDATES.
 */
static double updates_ns(struct bench_fold *bench, bool has_snapshots)
{
    struct fold_snapshot snapshot;
    uint8_t data[FOLD_PREPARE_MAX][RECORD_SIZE];
    struct view keys[FOLD_PREPARE_MAX];
    uint32_t numbers[FOLD_PREPARE_MAX];
    struct record_slice slice;
    uint64_t before = clock_cpu_ns();
    for (uint32_t i = 0; i < UPDATES; i += FOLD_PREPARE_MAX) {
        if (has_snapshots && i % SNAPSHOT_UPDATES == 0) {
            if (i > 0)
                bench->fold.ops->release(&bench->fold, &snapshot);
            bench->fold.ops->capture(&bench->fold, &snapshot);
        }
        if (i % BATCH == 0)
            (void)fold_sweep(&bench->fold, TOPIC_SWEEP_STEPS);
        for (uint32_t k = 0; k < FOLD_PREPARE_MAX; k++) {
            slice = (struct record_slice){.key_offset = 0};
            numbers[k] = random_key(&bench->publisher);
            record_write(&bench->publisher, data[k], numbers[k], &slice);
            keys[k] = view_of(data[k], slice.key_size);
        }
        bench->fold.ops->prepare(&bench->fold, keys, FOLD_PREPARE_MAX);
        for (uint32_t k = 0; k < FOLD_PREPARE_MAX; k++)
            fold_update(bench, numbers[k]);
    }
    double each = ns_each(before, UPDATES);
    if (has_snapshots)
        bench->fold.ops->release(&bench->fold, &snapshot);
    while (fold_sweep(&bench->fold, TOPIC_SWEEP_STEPS))
        ;
    return each;
}

static void bench_fold(void)
{
    static struct bench_fold bench = {.publisher = {.random = 1, .is_keyed = true}};
    static const struct topic_rule rule = {.kind = TOPIC_MAP};
    struct arena_usage empty, full;
    arena_usage(arena, &empty);
    fold_init(&bench.fold, &rule, arena, NULL, 1);
    ring_init(&bench.ring, arena, NULL, 0, 0, bench.fold.ops->alone_size);
    for (uint32_t i = 0; i < KEYS; i++)
        fold_update(&bench, i);
    arena_usage(arena, &full);
    double bytes = (double)bench.fold.bytes, ring = (double)bench.ring.bytes;
    printf(
        "memory         %6.1f bytes a key beyond key and value, %.1f with all that the arena keeps (%d keys, %d B)\n",
        ((double)(full.bytes_live - empty.bytes_live) - bytes - ring) / KEYS,
        ((double)(full.bytes_committed - empty.bytes_committed) - bytes - ring) / KEYS, KEYS, RECORD_SIZE);
    printf("update         %6.1f ns a record at random, without snapshots\n", updates_ns(&bench, false));
    printf("update         %6.1f ns a record at random, a snapshot always out, renewed each %d\n",
           updates_ns(&bench, true), SNAPSHOT_UPDATES);
    fold_fini(&bench.fold);
    ring_fini(&bench.ring);
}

/* ---------------------------------------------------------------------------------- the topic */

/* Reads what it is sent, and gives the credit back. */
static enum weir_error joiner_message(struct turn *turn, void *state, struct message *message)
{
    weir_actor *topic = state;
    struct message credit = {.tag = TOPIC_CREDIT, .detail = message->detail};
    if (message->tag == TOPIC_BEGIN) {
        const struct topic_begin *begin = arena_data(arena, message->hold[0]);
        *topic = begin->topic;
        credit.word[0] = CREDIT;
    } else if (message->tag == TOPIC_ENTRIES || message->tag == TOPIC_UPDATES) {
        credit.word[0] = topic_run_read(message).pairs.size;
        entries_heard += message->tag == TOPIC_ENTRIES ? topic_run_read(message).count : 0;
    } else {
        joined += message->tag == TOPIC_END;
        return WEIR_OK;
    }
    return turn_control(turn, *topic, &credit);
}

static const struct behaviour joiner_behaviour = {
    .name = "joiner", .state_size = sizeof(weir_actor), .on_message = joiner_message};

/* Reads as a joiner does, but for a while in which it gives no credit. */
static struct {
    weir_actor topic;
    uint32_t feed;
    uint64_t seq, owed, updates, begins;
    bool is_stalled;
} slow;

static enum weir_error slow_message(struct turn *turn, void *state, struct message *message)
{
    (void)state;
    uint64_t more = slow.owed;
    if (message->tag == TOPIC_BEGIN) {
        const struct topic_begin *begin = arena_data(arena, message->hold[0]);
        slow.topic = begin->topic;
        slow.feed = message->detail;
        slow.begins++;
        more += CREDIT;
    } else if (message->tag == TOPIC_ENTRIES || message->tag == TOPIC_UPDATES) {
        more += topic_run_read(message).pairs.size;
        slow.updates += message->tag == TOPIC_UPDATES ? topic_run_read(message).count : 0;
        if (message->tag == TOPIC_UPDATES)
            slow.seq = topic_run_read(message).seq + topic_run_read(message).count - 1;
    } else if (message->tag == TOPIC_END || message->tag == TOPIC_CONFLATED) {
        slow.seq = message->word[1];
        joined += message->tag == TOPIC_END;
    }
    slow.owed = slow.is_stalled ? more : 0;
    struct message credit = {.tag = TOPIC_CREDIT, .detail = slow.feed, .word = {more}};
    return slow.is_stalled || more == 0 ? WEIR_OK : turn_control(turn, slow.topic, &credit);
}

static const struct behaviour slow_behaviour = {.name = "slow", .state_size = 8, .on_message = slow_message};

/* Gives no credit, so that its snapshot stays out. */
static enum weir_error sitter_message(struct turn *turn, void *state, struct message *message)
{
    (void)turn;
    (void)state;
    (void)message;
    return WEIR_OK;
}

static const struct behaviour sitter_behaviour = {.name = "sitter", .state_size = 8, .on_message = sitter_message};

static weir_actor subscribe(struct runtime *runtime, struct directory *directory, const struct behaviour *behaviour,
                            enum overflow_policy policy)
{
    weir_actor actor;
    struct message message = {.tag = DIRECTORY_SUBSCRIBE};
    check(actor_spawn(runtime, behaviour, NULL, 0, NULL, &actor));
    check(arena_alloc(arena, sizeof(struct directory_subscribe) + 1, NULL, &message.hold[0]));
    struct directory_subscribe *order = arena_data(arena, message.hold[0]);
    *order = (struct directory_subscribe){
        .sub = 1, .policy = policy, .snapshot = true, .updates = true, .credit = 1, .pattern_size = 1};
    order->bytes[0] = 't';
    check(actor_send(runtime, actor, directory_actor(directory), &message));
    return actor;
}

static void join(struct runtime *runtime, struct directory *directory, const struct behaviour *behaviour)
{
    (void)subscribe(runtime, directory, behaviour, POLICY_RESYNC);
}

/* One turn of somebody; it is noted if it was the topic's. */
static bool step(struct runtime *runtime, weir_actor topic)
{
    struct actor_status before, after;
    check(actor_status(runtime, topic, &before));
    uint64_t start = clock_cpu_ns();
    bool is_busy = runtime_step(runtime);
    uint64_t took = clock_cpu_ns() - start;
    check(actor_status(runtime, topic, &after));
    if (after.handled != before.handled && turn_count < TURNS_MAX)
        turn_ns[turn_count++] = took;
    return is_busy;
}

static int turn_compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void turns_print(const char *what)
{
    if (turn_count == 0)
        return;
    uint64_t sum = 0;
    for (size_t i = 0; i < turn_count; i++)
        sum += turn_ns[i];
    qsort(turn_ns, turn_count, sizeof turn_ns[0], turn_compare);
    printf("turns          p50 %.0f us, p99 %.0f us, longest %.0f us of %zu, %.0f ms together: %s\n",
           (double)turn_ns[turn_count / 2] / 1000, (double)turn_ns[turn_count - 1 - turn_count / 100] / 1000,
           (double)turn_ns[turn_count - 1] / 1000, turn_count, (double)sum / 1e6, what);
    turn_count = 0;
}

/* Twice as many updates as there are keys, at random; during them so many subscribers come who read nothing. */
static void load(struct runtime *runtime, struct directory *directory, struct publisher *publisher, uint32_t sitters,
                 const char *what)
{
    const uint32_t batches = 2 * KEYS / BATCH;
    for (uint32_t i = 0, seated = 0; i < batches; i++) {
        if (seated < sitters && i >= batches / sitters * seated) {
            join(runtime, directory, &sitter_behaviour);
            seated++;
        }
        publish(runtime, publisher);
        while (step(runtime, publisher->topic))
            ;
    }
    turns_print(what);
}

static void bench_joins(struct runtime *runtime, struct directory *directory, struct publisher *publisher)
{
    for (int i = 0; i < JOINERS; i++)
        join(runtime, directory, &joiner_behaviour);
    int batches = 0;
    while (joined < JOINERS || batches < JOIN_BATCHES) {
        if (batches < JOIN_BATCHES && publisher->sent - publisher->acked < 8 * BATCH) {
            publish(runtime, publisher);
            batches++;
        }
        if (!step(runtime, publisher->topic) && batches == JOIN_BATCHES)
            break;
    }
    turns_print("100 subscribers join while updates go on, up to 8 batches waiting");
    printf("               %llu joined, %llu entries heard\n", (unsigned long long)joined,
           (unsigned long long)entries_heard);
}

static void bench_topic(void)
{
    struct directory *directory;
    struct publisher publisher;
    /* So much is retained that nobody is overtaken while it joins. */
    struct topic_rule rule = {
        .kind = TOPIC_MAP, .retain_bytes_max = (size_t)160 << 20, .retain_count_max = 2 * JOIN_BATCHES * BATCH};
    struct runtime *runtime = world_open(rule, KEYS, &directory, &publisher);
    load(runtime, directory, &publisher, 0, "a batch of 512 records each, many of them new keys");
    bench_joins(runtime, directory, &publisher);
    world_close(runtime, directory);
}

/* A log that holds all, and a ring that retains nearly as much. */
static void bench_log(void)
{
    struct directory *directory;
    struct publisher publisher;
    struct topic_rule rule = {
        .kind = TOPIC_LOG, .retain_bytes_max = (size_t)200 << 20, .retain_count_max = 2 * (size_t)KEYS};
    struct runtime *runtime = world_open(rule, KEYS, &directory, &publisher);
    load(runtime, directory, &publisher, 0, "a batch of 512 records of a log each");
    struct message clear = {.tag = TOPIC_CLEAR};
    check(actor_control(runtime, WEIR_ACTOR_NONE, publisher.topic, &clear));
    while (step(runtime, publisher.topic))
        ;
    turns_print("it is cleared, two million records");
    world_close(runtime, directory);
}

static void bench_clear(void)
{
    struct directory *directory;
    struct publisher publisher;
    struct runtime *runtime = world_open((struct topic_rule){.kind = TOPIC_MAP}, KEYS, &directory, &publisher);
    load(runtime, directory, &publisher, 0, "a batch of 512 records each, many of them new keys");
    load(runtime, directory, &publisher, 0, "the same, nearly all updates");
    load(runtime, directory, &publisher, 1, "the same, a snapshot out");
    load(runtime, directory, &publisher, TOPIC_SNAPSHOTS_MAX - 1, "the same, seven more, taken one after the other");
    struct message clear = {.tag = TOPIC_CLEAR};
    check(actor_control(runtime, WEIR_ACTOR_NONE, publisher.topic, &clear));
    while (step(runtime, publisher.topic))
        ;
    turns_print("it is cleared");
    world_close(runtime, directory);
}

/* Nothing of what it missed is retained. Beside it updates go on, or do not. */
static void recall(struct runtime *runtime, struct publisher *publisher, weir_actor actor, const char *what)
{
    struct message wake = {.tag = 0x10};
    uint64_t sent = publisher->sent, before = clock_cpu_ns();
    slow.is_stalled = true;
    for (uint32_t i = 0; i < 4 * KEYS / BATCH; i++) {
        publish(runtime, publisher);
        settle(runtime);
    }
    slow.is_stalled = false;
    slow.updates = slow.begins = 0;
    printf("%llu records folded while it stalls, %.0f ms\n", (unsigned long long)(publisher->sent - sent),
           (double)(clock_cpu_ns() - before) / 1e6);
    check(actor_control(runtime, WEIR_ACTOR_NONE, actor, &wake));
    before = clock_cpu_ns();
    while (step(runtime, publisher->topic))
        ;
    double took = (double)(clock_cpu_ns() - before) / 1e6;
    turns_print(what);
    printf("               %llu updates, %llu snapshots, %.0f ms of CPU, at %llu of %llu\n",
           (unsigned long long)slow.updates, (unsigned long long)slow.begins, took, (unsigned long long)slow.seq,
           (unsigned long long)publisher->acked);
}

static void bench_recall(void)
{
    struct directory *directory;
    struct publisher publisher;
    static const enum overflow_policy policies[] = {POLICY_CONFLATE, POLICY_RESYNC};
    static const char *const what[] = {"it is conflated out of the state", "the same as a delta, of policy resync"};
    for (unsigned i = 0; i < COUNT_OF(policies); i++) {
        struct runtime *runtime = world_open((struct topic_rule){.kind = TOPIC_MAP}, KEYS, &directory, &publisher);
        load(runtime, directory, &publisher, 0, "a batch of 512 records each, many of them new keys");
        weir_actor actor = subscribe(runtime, directory, &slow_behaviour, policies[i]);
        settle(runtime);
        recall(runtime, &publisher, actor, what[i]);
        world_close(runtime, directory);
        slow.owed = 0;
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {{"fold", bench_fold},
                 {"joins", bench_topic},
                 {"clear", bench_clear},
                 {"log", bench_log},
                 {"recall", bench_recall}};
    unsigned wanted = argc < 2 ? (1u << COUNT_OF(parts)) - 1 : 0;
    for (int i = 1; i < argc; i++) {
        unsigned part = 0;
        while (part < COUNT_OF(parts) && strcmp(argv[i], parts[part].name) != 0)
            part++;
        if (part == COUNT_OF(parts)) {
            fprintf(stderr, "usage: topic_large_bench [fold|joins|clear|log|recall]...\n");
            return 2;
        }
        wanted |= 1u << part;
    }
    check(arena_create(&(struct arena_config){.bytes_max = (size_t)3 << 30}, &arena));
    for (unsigned part = 0; part < COUNT_OF(parts); part++)
        if (wanted & 1u << part)
            parts[part].run();
    struct arena_usage usage;
    arena_usage(arena, &usage);
    if (usage.blocks_live != 0)
        fprintf(stderr, "topic_large_bench: %zu blocks leaked\n", usage.blocks_live);
    arena_thread_flush(arena);
    arena_destroy(&arena);
    return 0;
}
