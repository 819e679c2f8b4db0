/* What a plugin costs where it is used: one publisher, one topic, every record acknowledged when it is folded, through
 * the same actors, mailboxes and acknowledgements: a topic of kind map, one whose plugin runs in the broker's thread,
 * and one whose plugin runs in a process. The plugin emits each record as it is. By hand: plugin_topic_bench [ROUNDS].
 * Each round runs all three in turn, at each size, so that what else the machine does falls on each; medians of rounds,
 * in processor time: of this process, and of the plugin's. For a profiler: plugin_topic_bench ROUNDS SIZE KIND runs one
 * of them alone, KIND from 0 (map) to 2. */
#include "tests/bench/plugin_child.h"
#include "tests/bench/topic_bench.h"

#include "actors/plugin/plugin.h"
#include "actors/plugin/processes.h"

#include <pthread.h>

enum { KEYS = 1024, ROUNDS_MAX = 99, KINDS = 3, VALUE_MAX = 16 << 10, AHEAD_BYTES = 1 << 20, AHEAD_MAX = 4096 };
enum { BENCH_GO = 1 };

static const char *const kind_names[KINDS] = {"map", "plugin:thread", "plugin:process"};
static const char *const topic_names[KINDS] = {"map", "thread", "process"};

/* Batches that are published again and again, as a connection would read them: 64 KiB of records, or one. */
struct load {
    size_t value_size;
    uint32_t batch; /* records in each */
    uint64_t count; /* records of a run */
    weir_msg data[KEYS], slices[KEYS];
    uint32_t batches;
};

/* The actor's alone, but for `done`. */
struct source {
    const struct load *load;
    weir_actor topic;
    uint64_t sent, acked, end;
    bool is_waiting; /* for room */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool is_done; /* under the lock */
static struct source source;

/* ------------------------------------------------------------------------------------------ publisher */

static void batch_make(struct load *load, uint32_t batch)
{
    size_t each = 8 + load->value_size;
    check(arena_alloc(arena, each * load->batch, NULL, &load->data[batch]));
    check(arena_alloc(arena, load->batch * sizeof(struct record_slice), NULL, &load->slices[batch]));
    uint8_t *data = arena_data(arena, load->data[batch]);
    struct record_slice *slices = arena_data(arena, load->slices[batch]);
    for (uint32_t i = 0; i < load->batch; i++) {
        uint32_t at = (uint32_t)(i * each), key = (batch * load->batch + i) * 7 % KEYS;
        slices[i] = (struct record_slice){at, 8, at + 8, (uint32_t)load->value_size, 0};
        memcpy(data + at, "\xa7key0000", 8);
        for (int digit = 7; digit > 3; digit--, key /= 10)
            data[at + digit] = (uint8_t)('0' + key % 10);
        memset(data + at + 8, 'v', load->value_size);
        data[at + 8] = 0xc5; /* bin 16 */
        data[at + 9] = (uint8_t)((load->value_size - 3) >> 8);
        data[at + 10] = (uint8_t)(load->value_size - 3);
    }
}

static void load_make(struct load *load, size_t value_size, uint64_t count)
{
    uint32_t batch = (uint32_t)((64 << 10) / (value_size + 8));
    load->value_size = value_size;
    load->batch = batch < 1 ? 1 : batch > TOPIC_BATCH_MAX ? TOPIC_BATCH_MAX : batch;
    load->batches = KEYS / load->batch;
    load->count = count / load->batch * load->batch;
    for (uint32_t i = 0; i < load->batches; i++)
        batch_make(load, i);
}

static void load_fini(struct load *load)
{
    for (uint32_t i = 0; i < load->batches; i++) {
        arena_drop(arena, load->data[i]);
        arena_drop(arena, load->slices[i]);
    }
}

static bool batch_send(struct turn *turn)
{
    const struct load *load = source.load;
    uint32_t batch = (uint32_t)(source.sent / load->batch % load->batches);
    struct message message = {.tag = TOPIC_PUBLISH,
                              .detail = load->batch,
                              .hold = {load->data[batch], load->slices[batch]},
                              .word = {0, 0, TOPIC_NUMBER_WORD(source.sent, ACK_FOLDED)}};
    check(arena_hold(arena, message.hold[0]));
    check(arena_hold(arena, message.hold[1]));
    enum weir_error error = turn_send(turn, source.topic, &message);
    if (error == WEIR_OK) {
        source.sent += load->batch;
        return true;
    }
    arena_drop(arena, message.hold[0]);
    arena_drop(arena, message.hold[1]);
    check(error == WEIR_FULL ? turn_await_room(turn, source.topic) : error);
    source.is_waiting = true;
    return false;
}

static void batches_send(struct turn *turn)
{
    size_t each = source.load->value_size + 8;
    uint64_t ahead = AHEAD_BYTES / each < AHEAD_MAX ? AHEAD_BYTES / each : AHEAD_MAX;
    while (!source.is_waiting && source.sent < source.end && source.sent - source.acked < ahead && batch_send(turn))
        ;
}

static enum weir_error source_message(struct turn *turn, void *state, struct message *message)
{
    (void)state;
    switch (message->tag) {
    case BENCH_GO: break;
    case MESSAGE_ROOM: source.is_waiting = false; break;
    case TOPIC_ACK: source.acked += message->detail; break;
    case TOPIC_NACK: check((enum weir_error)message->word[1]); break;
    default: return WEIR_OK;
    }
    batches_send(turn);
    if (source.acked < source.end)
        return WEIR_OK;
    pthread_mutex_lock(&lock);
    is_done = true;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    return WEIR_OK;
}

static const struct behaviour source_behaviour = {.name = "source", .state_size = 8, .on_message = source_message};

/* -------------------------------------------------------------------------------------------- the broker */

struct world {
    struct runtime *runtime;
    struct supervision *supervision;
    struct directory *directory;
    struct plugins *plugins;
    weir_actor source, topics[KINDS];
};

static void plugins_begin(struct world *world, weir_actor supervisor)
{
    static struct plugin_config configs[2];
    struct plugins_options options = {.runtime = world->runtime,
                                      .supervision = world->supervision,
                                      .supervisor = supervisor,
                                      .directory = directory_actor(world->directory)};
    for (int i = 0; i < 2; i++) {
        plugin_config_init(&configs[i]);
        configs[i].role = WEIR_ACTOR_FOLD;
        configs[i].host = i == 0 ? &plugin_host_thread : &plugin_host_process;
        snprintf(configs[i].name, sizeof configs[i].name, "%s", topic_names[i + 1]);
        snprintf(configs[i].file, sizeof configs[i].file, "%s", BENCH_PLUGINS "/echo.so");
    }
    check(plugins_create(&options, &world->plugins));
    check(plugins_config_set(world->plugins, configs, 2));
    check(plugins_load_all(world->plugins));
}

/* One worker: all of it happens on one thread, but for what the child does. */
static void world_begin(struct world *world)
{
    weir_actor root, topics, plugins;
    struct directory_rule rules[KINDS];
    struct supervisor_config each = {.name = "bench",
                                     .intensity = SUPERVISOR_INTENSITY_UNLIMITED,
                                     .period_ms = 1000,
                                     .dynamic_max = 16,
                                     .adopt = {true, RESTART_PERMANENT, SHUTDOWN_DEFAULT}};
    memset(rules, 0, sizeof rules);
    for (int i = 0; i < KINDS; i++) {
        snprintf(rules[i].pattern, sizeof rules[i].pattern, "%s", topic_names[i]);
        check(topic_kind_find(view_text(kind_names[i]), &rules[i].rule.kind));
    }
    check(runtime_create(&(struct runtime_config){.arena = arena, .workers = 1}, &world->runtime));
    check(supervision_create(&(struct supervision_config){.runtime = world->runtime}, &world->supervision));
    check(supervisor_spawn(world->supervision, WEIR_ACTOR_NONE, &each, &root));
    check(supervisor_spawn(world->supervision, root, &each, &topics));
    check(supervisor_spawn(world->supervision, root, &each, &plugins));
    check(runtime_start(world->runtime));
    check(supervision_wait_ready(world->supervision, 10000));
    struct directory_config config = {
        .rules = rules, .rule_count = KINDS, .topics_max = 16, .subscriptions_max = 16, .feeds_max = 16};
    check(directory_create(world->runtime, topics, NULL, &config, &world->directory));
    plugins_begin(world, plugins);
    for (int i = 0; i < KINDS; i++)
        check(directory_find(world->directory, view_text(topic_names[i]), &world->topics[i]));
    check(actor_spawn(world->runtime, &source_behaviour, NULL, 0, NULL, &world->source));
}

static void world_end(struct world *world)
{
    supervision_shutdown(world->supervision);
    check(supervision_wait(world->supervision, 10000));
    runtime_stop(world->runtime);
    processes_close();
    plugins_destroy(&world->plugins);
    directory_destroy(&world->directory);
    supervision_destroy(&world->supervision);
    runtime_destroy(&world->runtime);
}

static void run(struct world *world, int kind, const struct load *load, uint64_t count)
{
    /* The actor's from the message on, and nobody's before. */
    source = (struct source){.load = load, .topic = world->topics[kind], .end = count};
    is_done = false;
    check(actor_control(world->runtime, WEIR_ACTOR_NONE, world->source, &(struct message){.tag = BENCH_GO}));
    pthread_mutex_lock(&lock);
    while (!is_done)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

/* --------------------------------------------------------------------------------------------- figures */

struct figure {
    double cpu[ROUNDS_MAX], child[ROUNDS_MAX], wall[ROUNDS_MAX];
};

static void figure_take(struct world *world, int kind, const struct load *load, struct figure *figure, int round)
{
    uint64_t cpu = clock_cpu_ns(), child = child_cpu_ns(), wall = clock_now_ns();
    run(world, kind, load, load->count);
    double count = (double)load->count;
    figure->cpu[round] = (double)(clock_cpu_ns() - cpu) / count;
    figure->child[round] = (double)(child_cpu_ns() - child) / count;
    figure->wall[round] = (double)(clock_now_ns() - wall) / count;
}

static void print(size_t size, struct figure figures[KINDS], int rounds)
{
    double all[KINDS];
    for (int kind = 0; kind < KINDS; kind++) {
        double broker = median(figures[kind].cpu, rounds), child = median(figures[kind].child, rounds);
        double wall = median(figures[kind].wall, rounds);
        all[kind] = broker + child;
        printf("%5zu B  %-15s %7.0f ns CPU a record (broker %.0f, child %.0f), %.0f k records/s", size,
               kind_names[kind], all[kind], broker, child, 1e6 / wall);
        if (kind > 0)
            printf(", %.2f of map", all[kind] / all[0]);
        if (kind > 1)
            printf(", %.2f of thread", all[kind] / all[1]);
        printf("\n");
    }
}

static void bench(struct world *world, size_t size, int rounds, int only)
{
    static struct load load;
    static struct figure figures[KINDS];
    load_make(&load, size, size > 1024 ? 20000 : 200000);
    for (int kind = 0; kind < KINDS; kind++)
        run(world, kind, &load, load.count / 4 / load.batch * load.batch);
    for (int round = 0; round < rounds; round++) {
        for (int kind = 0; kind < KINDS; kind++) {
            if (only < 0 || only == kind)
                figure_take(world, kind, &load, &figures[kind], round);
        }
    }
    if (only < 0)
        print(size, figures, rounds);
    load_fini(&load);
}

int main(int argc, char **argv)
{
    processes_main(argc, argv);
    char why[PLUGIN_TEXT_SIZE] = "";
    static struct world world;
    static struct load first;
    int rounds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 7;
    if (rounds < 1 || rounds > ROUNDS_MAX || processes_open(why, sizeof why) != WEIR_OK) {
        fprintf(stderr, "plugin_topic_bench [ROUNDS, 1 to %d] %s\n", ROUNDS_MAX, why);
        return 2;
    }
    check(arena_create(&(struct arena_config){.bytes_max = (size_t)1 << 30}, &arena));
    world_begin(&world);
    if (argc > 3 && (strtoul(argv[2], NULL, 10) < 16 || strtoul(argv[2], NULL, 10) > VALUE_MAX))
        return 2;
    load_make(&first, 128, 1024);
    run(&world, 2, &first, first.count); /* by then the child is there */
    load_fini(&first);
    child_clock_find();
    if (argc > 3) {
        bench(&world, strtoul(argv[2], NULL, 10), rounds, (int)strtol(argv[3], NULL, 10));
    } else {
        bench(&world, 128, rounds, -1);
        bench(&world, VALUE_MAX, rounds, -1);
    }
    world_end(&world);
    arena_destroy(&arena);
    return 0;
}
