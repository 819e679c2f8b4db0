/* What a plugin costs: a record folded by the built-in map, by a plugin in the broker's thread and by one in a process,
 * each of which emits the record as it is, whereupon it is folded the same way. And the round trip through an idle
 * process, beside two processes that wake each other by futex and do nothing else. By hand: plugin_bench [ROUNDS].
 * Each round runs all of them in turn, so that what else the machine does falls on each; medians of rounds. */
#include "tests/bench/plugin_child.h"
#include "tests/bench/topic_bench.h"

#include "actors/plugin/host.h"
#include "actors/plugin/plugin_limits.h"
#include "actors/plugin/processes.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KEYS = 1024, TRIPS = 20000, ROUNDS_MAX = 99, GIVEN_MAX = 256 };

static struct fold fold;
static struct ring pages;

struct source {
    size_t size; /* of a record's value */
    uint64_t count;
    uint8_t value[64 << 10];
};

static void fold_record(struct view key_text, struct view value)
{
    struct cell cell;
    uint8_t key[16];
    key[0] = (uint8_t)(0xa0 + key_text.size);
    memcpy(key + 1, key_text.data, key_text.size);
    check(ring_reserve(&pages, view_of(key, key_text.size + 1), value, 0, &cell));
    check(fold.ops->apply(&fold, &cell));
    ring_commit(&pages, &cell);
    if ((cell.seq & 63) == 0)
        (void)fold_sweep(&fold, 64);
}

static void source_init(struct source *source, size_t size)
{
    memset(source->value, 'v', sizeof source->value);
    source->value[0] = 0xc5; /* bin 16 */
    source->value[1] = (uint8_t)((size - 3) >> 8);
    source->value[2] = (uint8_t)(size - 3);
    source->size = size;
    source->count = size > 1024 ? 20000 : 200000;
}

static void key_write(char key[8], uint64_t number)
{
    unsigned left = (unsigned)(number * 7 % KEYS);
    memcpy(key, "key0000", 7);
    for (int i = 6; left > 0; i--, left /= 10)
        key[i] = (char)('0' + left % 10);
}

static void run_builtin(const struct source *source)
{
    char key[8];
    for (uint64_t number = 1; number <= source->count; number++) {
        key_write(key, number);
        fold_record(view_of(key, 7), view_of(source->value, source->size));
    }
}

/* ------------------------------------------------------------------------------------------ instances */

struct instance {
    const struct plugin_host_ops *ops;
    struct plugin_host *host;
    uint64_t number; /* of the last input given */
    uint64_t done;
    pthread_mutex_t lock;
    pthread_cond_t rung;
    unsigned rings;
    /* Of the round trips: the watcher's thread is the plugin actor. */
    bool is_trip;
    const struct source *source; /* of the records given last */
    uint64_t trips_end;
};

static enum weir_error record_give(struct instance *instance, const struct source *source)
{
    char key[8];
    struct plugin_input input = {.kind = INPUT_MESSAGE, .number = instance->number + 1};
    key_write(key, input.number);
    input.message = (struct weir_message){.kind = WEIR_MESSAGE_RECORD, .attempt = 1};
    input.message.topic = weir_bytes_of("plugin/topic", 12);
    input.message.key = weir_bytes_of(key, 7);
    input.message.value = weir_bytes_of(source->value, source->size);
    enum weir_error error = instance->ops->give(instance->host, &input);
    if (error == WEIR_OK)
        instance->number++;
    instance->source = source;
    return error;
}

static const struct source *trip_source;

/* What a process leaves out is the record's. */
static void emission_fold(const struct instance *instance, const struct plugin_output *output)
{
    char key[8];
    bool has_key = (output->same & OUTPUT_SAME_KEY) == 0, has_value = (output->same & OUTPUT_SAME_VALUE) == 0;
    key_write(key, output->number);
    fold_record(has_key ? output->key : view_of(key, 7),
                has_value ? output->value : view_of(instance->source->value, instance->source->size));
}

static void outputs_take(struct instance *instance)
{
    struct plugin_output output;
    struct plugin_end end;
    enum weir_error error;
    while ((error = instance->ops->take(instance->host, &output, &end)) == WEIR_OK) {
        if (output.kind == OUTPUT_EMIT)
            emission_fold(instance, &output);
        if (output.kind == OUTPUT_DONE || output.is_last)
            instance->done = output.number;
        else if (output.kind == OUTPUT_LOG)
            fprintf(stderr, "%.*s\n", (int)output.text.size, (const char *)output.text.data);
    }
    if (error != WEIR_AGAIN) {
        fprintf(stderr, "plugin_bench: it ended: %s\n", end.text);
        exit(1);
    }
}

static void bell_ring(void *context)
{
    struct instance *instance = context;
    if (instance->is_trip) {
        outputs_take(instance);
        if (instance->done < instance->number)
            return;
        if (instance->done < instance->trips_end) {
            check(record_give(instance, trip_source));
            instance->ops->flush(instance->host);
            return;
        }
    }
    pthread_mutex_lock(&instance->lock);
    instance->rings++;
    pthread_cond_signal(&instance->rung);
    pthread_mutex_unlock(&instance->lock);
}

static void instance_await(struct instance *instance, unsigned before)
{
    pthread_mutex_lock(&instance->lock);
    while (instance->rings == before)
        pthread_cond_wait(&instance->rung, &instance->lock);
    pthread_mutex_unlock(&instance->lock);
}

static unsigned instance_rings(struct instance *instance)
{
    pthread_mutex_lock(&instance->lock);
    unsigned rings = instance->rings;
    pthread_mutex_unlock(&instance->lock);
    return rings;
}

/* Fork, sandbox, object, init, and the broker knows it: returns its nanoseconds. */
static uint64_t instance_start(struct instance *instance, const struct plugin_host_ops *ops)
{
    uint64_t began_ns = clock_now_ns();
    char why[PLUGIN_TEXT_SIZE] = "";
    struct plugin_output output = {.kind = OUTPUT_LOG};
    struct plugin_end end;
    struct plugin_spec spec = {.name = "echo",
                               .file = BENCH_PLUGINS "/echo.so",
                               .role = WEIR_ACTOR_FOLD,
                               .config = {(const uint8_t *)"\xc0", 1}};
    *instance = (struct instance){.ops = ops, .lock = PTHREAD_MUTEX_INITIALIZER, .rung = PTHREAD_COND_INITIALIZER};
    if (ops->start(&spec, (struct plugin_bell){bell_ring, instance}, &instance->host, why, sizeof why) != WEIR_OK) {
        fprintf(stderr, "plugin_bench: %s\n", why);
        exit(1);
    }
    while (output.kind != OUTPUT_DONE) {
        unsigned rings = instance_rings(instance);
        if (ops->take(instance->host, &output, &end) == WEIR_AGAIN)
            instance_await(instance, rings);
    }
    if (output.result != WEIR_ACTOR_OK) {
        fprintf(stderr, "plugin_bench: %.*s\n", (int)output.text.size, (const char *)output.text.data);
        exit(1);
    }
    return clock_now_ns() - began_ns;
}

/* As the plugin actor does: give while there is room, wake once, take what there is. */
static void run_instance(struct instance *instance, const struct source *source)
{
    uint64_t end = instance->number + source->count;
    while (instance->done < end) {
        unsigned rings = instance_rings(instance);
        for (int given = 0; given < GIVEN_MAX && instance->number < end; given++) {
            if (record_give(instance, source) != WEIR_OK)
                break;
        }
        instance->ops->flush(instance->host);
        uint64_t before = instance->done;
        outputs_take(instance);
        if (instance->done == before && instance->done < instance->number)
            instance_await(instance, rings);
    }
}

/* ---------------------------------------------------------------------------------------- processor time */

struct figure {
    double cpu[ROUNDS_MAX], child[ROUNDS_MAX], wall[ROUNDS_MAX];
    int count;
};

static void figure_add(struct figure *figure, struct instance *instance, const struct source *source)
{
    uint64_t cpu = clock_cpu_ns(), child = child_cpu_ns(), wall = clock_now_ns();
    if (instance == NULL)
        run_builtin(source);
    else
        run_instance(instance, source);
    double count = (double)source->count;
    figure->cpu[figure->count] = (double)(clock_cpu_ns() - cpu) / count;
    figure->child[figure->count] = (double)(child_cpu_ns() - child) / count;
    figure->wall[figure->count++] = (double)(clock_now_ns() - wall) / count;
}

static void bench_messages(struct instance *thread, struct instance *process, size_t size, int rounds)
{
    static const char *const names[] = {"built-in map", "thread plugin", "process plugin"};
    static struct source source;
    static struct figure figures[3];
    struct instance *instances[] = {NULL, thread, process};
    double first = 0, second = 0;
    memset(figures, 0, sizeof figures);
    source_init(&source, size);
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < 3; i++)
            figure_add(&figures[i], instances[i], &source);
    }
    for (int i = 0; i < 3; i++) {
        double broker = median(figures[i].cpu, rounds), child = median(figures[i].child, rounds);
        double wall = median(figures[i].wall, rounds), cpu = broker + child;
        printf("%5zu B  %-14s %8.0f ns CPU a record (broker %.0f, child %.0f), %.0f k records/s", size, names[i], cpu,
               broker, child, 1e6 / wall);
        if (i == 0)
            first = cpu;
        if (i == 1)
            printf(", %.2f of built-in", cpu / first);
        if (i == 2)
            printf(", %.2f of built-in, %.2f of thread", cpu / first, cpu / second);
        second = cpu;
        printf("\n");
    }
}

/* ------------------------------------------------------------------------------------------ round trips */

static void futex(_Atomic uint32_t *word, int operation, uint32_t value)
{
    syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

/* Two words, each the turn of one side. */
static double bench_futex(void)
{
    _Atomic uint32_t *words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    _Atomic uint32_t *there = words, *back = words + 64;
    pid_t pid = fork();
    if (pid == 0) {
        for (uint32_t trip = 1; trip <= TRIPS; trip++) {
            while (atomic_load(there) < trip)
                futex(there, FUTEX_WAIT, trip - 1);
            atomic_store(back, trip);
            futex(back, FUTEX_WAKE, 1);
        }
        _exit(0);
    }
    uint64_t before = clock_now_ns();
    for (uint32_t trip = 1; trip <= TRIPS; trip++) {
        atomic_store(there, trip);
        futex(there, FUTEX_WAKE, 1);
        while (atomic_load(back) < trip)
            futex(back, FUTEX_WAIT, trip - 1);
    }
    double each = (double)(clock_now_ns() - before) / TRIPS;
    waitpid(pid, NULL, 0);
    munmap((void *)(uintptr_t)words, 4096);
    return each;
}

static double bench_trip(struct instance *process, const struct source *source)
{
    unsigned rings = instance_rings(process);
    trip_source = source;
    process->trips_end = process->number + TRIPS;
    process->is_trip = true;
    uint64_t before = clock_now_ns();
    check(record_give(process, source));
    process->ops->flush(process->host);
    instance_await(process, rings);
    process->is_trip = false;
    return (double)(clock_now_ns() - before) / TRIPS;
}

static void bench_trips(struct instance *process, int rounds)
{
    static struct source source;
    double bare[ROUNDS_MAX], plugin[ROUNDS_MAX];
    source_init(&source, 128);
    for (int round = 0; round < rounds; round++) {
        bare[round] = bench_futex();
        plugin[round] = bench_trip(process, &source);
    }
    double base = median(bare, rounds), trip = median(plugin, rounds);
    printf("round trip  two processes by futex %.1f us, through an idle process plugin %.1f us: %.2f of it\n",
           base / 1000, trip / 1000, trip / base);
}

static void bench_starts(void)
{
    enum { STARTS = 200 };
    static struct instance instance;
    double each[STARTS];
    for (int i = 0; i < STARTS; i++) {
        each[i] = (double)instance_start(&instance, &plugin_host_process) / 1e6;
        instance.ops->stop(&instance.host);
    }
    double middle = median(each, STARTS);
    printf("start       a process from nothing to its first answer: %.2f ms, p99 %.2f ms\n", middle,
           each[STARTS * 99 / 100]);
}

int main(int argc, char **argv)
{
    processes_main(argc, argv);
    char why[PLUGIN_TEXT_SIZE] = "";
    static struct instance thread, process;
    int rounds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 7;
    struct arena_config config = {.bytes_max = (size_t)1 << 30};
    static const struct topic_rule rule = {.kind = TOPIC_MAP};
    if (rounds < 1 || rounds > ROUNDS_MAX || processes_open(why, sizeof why) != WEIR_OK) {
        fprintf(stderr, "plugin_bench [ROUNDS, 1 to %d] %s\n", ROUNDS_MAX, why);
        return 2;
    }
    check(arena_create(&config, &arena));
    fold_init(&fold, &rule, arena, NULL, 1);
    ring_init(&pages, arena, NULL, 0, 0, fold.ops->alone_size);
    (void)instance_start(&thread, &plugin_host_thread);
    (void)instance_start(&process, &plugin_host_process);
    child_clock_find();
    bench_messages(&thread, &process, 128, rounds);
    bench_messages(&thread, &process, 16 << 10, rounds);
    bench_trips(&process, rounds);
    bench_starts();
    thread.ops->stop(&thread.host);
    process.ops->stop(&process.host);
    processes_close();
    return 0;
}
