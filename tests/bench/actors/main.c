/* Arguments, measurement and the result's line of JSON. Main thread; it waits while the workers work. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/bench/actors/bench.h"

enum { PARAMS_MAX = 16, EXIT_UNSUPPORTED = 3 };

static struct {
    const char *name;
    uint64_t value;
} params[PARAMS_MAX];
static size_t param_count;

struct runtime *bench_runtime;
struct supervision *bench_supervision;
weir_actor bench_supervisor;

static pthread_mutex_t finish_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t finish_changed = PTHREAD_COND_INITIALIZER;
static bool is_finished;
static uint64_t finish_check;

static const struct benchmark *const groups[] = {talk_benchmarks,   share_benchmarks,   life_benchmarks,
                                                 fanout_benchmarks, compute_benchmarks, burst_benchmarks};

/* What the command line says of a name; NULL: nothing. */
static const uint64_t *param_find(const char *name)
{
    for (size_t i = 0; i < param_count; i++) {
        if (strcmp(params[i].name, name) == 0)
            return &params[i].value;
    }
    return NULL;
}

uint64_t param(const char *name, uint64_t fallback)
{
    const uint64_t *given = param_find(name);
    if (given != NULL)
        return *given;
    if (param_count < PARAMS_MAX) {
        params[param_count].name = name;
        params[param_count++].value = fallback;
    }
    return fallback;
}

void bench_finish(uint64_t check)
{
    pthread_mutex_lock(&finish_lock);
    is_finished = true;
    finish_check = check;
    pthread_cond_signal(&finish_changed);
    pthread_mutex_unlock(&finish_lock);
}

static uint64_t await_finish(void)
{
    pthread_mutex_lock(&finish_lock);
    while (!is_finished)
        pthread_cond_wait(&finish_changed, &finish_lock);
    pthread_mutex_unlock(&finish_lock);
    return finish_check;
}

void must(enum weir_error error)
{
    if (error == WEIR_OK)
        return;
    fprintf(stderr, "weir-actors-bench: %s\n", weir_error_text(error));
    exit(1);
}

void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL)
        must(WEIR_NO_MEMORY);
    return memory;
}

weir_actor spawn(const struct behaviour *behaviour, const void *args, size_t args_size)
{
    weir_actor actor;
    must(actor_spawn(bench_runtime, behaviour, args, args_size, NULL, &actor));
    return actor;
}

void begin(weir_actor actor)
{
    struct message message = {.tag = BEGIN};
    must(actor_send(bench_runtime, WEIR_ACTOR_NONE, actor, &message));
}

uint64_t resident_bytes(void)
{
    unsigned long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL || fscanf(file, "%lu %lu", &size, &resident) != 2)
        resident = 0;
    if (file != NULL)
        fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* ------------------------------------------------------------------------------------------- measuring */

struct stamp {
    uint64_t wall_ns;
    double user, sys;
};

static struct stamp stamp_now(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (struct stamp){clock_now_ns(), (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6,
                          (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6};
}

static long peak_kb(void)
{
    char line[256];
    long kb = 0;
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "VmHWM: %ld", &kb) == 1)
            break;
    }
    if (file != NULL)
        fclose(file);
    return kb;
}

static void print_result(const struct benchmark *benchmark, const struct outcome *outcome, uint64_t check,
                         struct stamp from, struct stamp to)
{
    double seconds = (double)(to.wall_ns - from.wall_ns) / 1e9;
    double user = to.user - from.user, sys = to.sys - from.sys;
    printf("{\"runtime\":\"weir\",\"bench\":\"%s\",\"params\":{", benchmark->name);
    for (size_t i = 0; i < param_count; i++)
        printf("%s\"%s\":%llu", i == 0 ? "" : ",", params[i].name, (unsigned long long)params[i].value);
    printf("},\"unit\":\"%s\",\"msgs\":%llu,\"check\":%llu,\"seconds\":%.6f,\"ns_per_msg\":%.3f,\"cpu_user\":%.6f,"
           "\"cpu_sys\":%.6f,\"cpu_seconds\":%.6f,\"cpu_ns_per_msg\":%.3f,\"rss_peak_kb\":%ld%s}\n",
           outcome->unit, (unsigned long long)outcome->msgs, (unsigned long long)check, seconds,
           seconds * 1e9 / (double)outcome->msgs, user, sys, user + sys, (user + sys) * 1e9 / (double)outcome->msgs,
           peak_kb(), outcome->extra);
}

/* -------------------------------------------------------------------------------------------- the runtime */

static bool on_dead_letter(struct turn *turn, struct message *message, enum weir_error cause, uint32_t attempts,
                           void *context)
{
    (void)turn, (void)message, (void)cause, (void)attempts, (void)context;
    return true;
}

static void runtime_up(unsigned workers, struct arena **arena)
{
    /* Eight times as much address space is reserved: less for tools that have not so much to give. */
    const uint64_t *arena_mb = param_find("arena_mb");
    struct arena_config config = {.bytes_max = arena_mb ? *arena_mb << 20 : (size_t)8 << 30};
    must(arena_create(&config, arena));
    struct runtime_config runtime = {.arena = *arena, .workers = workers, .on_dead_letter = on_dead_letter};
    must(runtime_create(&runtime, &bench_runtime));
    struct supervision_config supervision = {.runtime = bench_runtime};
    must(supervision_create(&supervision, &bench_supervision));
    struct supervisor_config root = {.name = "bench",
                                     .strategy = SUPERVISOR_ONE_FOR_ONE,
                                     .intensity = SUPERVISOR_INTENSITY_UNLIMITED,
                                     .period_ms = 1000,
                                     .dynamic_max = UINT32_MAX,
                                     .adopt = {.is_allowed = true, .restart = RESTART_PERMANENT}};
    must(supervisor_spawn(bench_supervision, WEIR_ACTOR_NONE, &root, &bench_supervisor));
    must(runtime_start(bench_runtime));
    must(supervision_wait_ready(bench_supervision, 5000));
}

static void runtime_down(struct arena **arena)
{
    supervision_shutdown(bench_supervision);
    must(supervision_wait(bench_supervision, 60000)); /* a million children are a thousand waves of orders to end */
    runtime_stop(bench_runtime);
    supervision_destroy(&bench_supervision);
    runtime_destroy(&bench_runtime);
    size_t leaks = arena_leaks_report(*arena, NULL, NULL);
    arena_destroy(arena);
    if (leaks > 0) {
        fprintf(stderr, "weir-actors-bench: %zu blocks were left behind\n", leaks);
        exit(1);
    }
}

static int run(const struct benchmark *benchmark)
{
    struct arena *arena = NULL;
    struct outcome outcome = {.unit = "msg"};
    uint64_t workers = param("workers", 1);
    if (workers < 1 || workers > 64)
        return EXIT_UNSUPPORTED;
    runtime_up((unsigned)workers, &arena);
    struct stamp from = stamp_now();
    benchmark->run(&outcome);
    uint64_t check = await_finish();
    struct stamp to = stamp_now();
    if (benchmark->report != NULL)
        benchmark->report(&outcome);
    runtime_down(&arena);
    print_result(benchmark, &outcome, check, from, to);
    return 0;
}

static const struct benchmark *find(const char *name, bool prints)
{
    for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
        for (const struct benchmark *b = groups[g]; b->name != NULL; b++) {
            if (prints)
                puts(b->name);
            else if (strcmp(b->name, name) == 0)
                return b;
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        find("", true);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("weir " WEIR_VERSION);
        return 0;
    }
    if (argc < 2) {
        fputs("usage: weir-actors-bench --list | --version | BENCH [workers=W] [NAME=NUMBER]...\n", stderr);
        return 2;
    }
    for (int i = 2; i < argc && param_count < PARAMS_MAX; i++) {
        char *equals = strchr(argv[i], '=');
        if (equals == NULL)
            return 2;
        *equals = '\0';
        params[param_count].name = argv[i];
        params[param_count++].value = strtoull(equals + 1, NULL, 10);
    }
    const struct benchmark *benchmark = find(argv[1], false);
    return benchmark == NULL ? EXIT_UNSUPPORTED : run(benchmark);
}
