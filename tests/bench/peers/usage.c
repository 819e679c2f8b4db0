/* What a run costs, from clocks and /proc. Called by the main thread. */
#include "tests/bench/peers/usage.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/peers/syscalls.h"
#include "tests/bench/peers/util.h"

static uint64_t cpu_ns(pid_t pid)
{
    clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
    struct timespec t;
    if (pid != 0 && clock_getcpuclockid(pid, &clock) != 0)
        die("the broker is gone");
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Of all processes, with what the hypervisor took away. */
static uint64_t machine_cpu_ns(void)
{
    unsigned long t[8] = {0}; /* user nice system idle iowait irq softirq steal */
    FILE *file = fopen("/proc/stat", "r");
    if (file != NULL) {
        if (fscanf(file, "cpu %lu %lu %lu %lu %lu %lu %lu %lu", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6],
                   &t[7]) != 8)
            t[0] = 0;
        fclose(file);
    }
    uint64_t ticks = t[0] + t[1] + t[2] + t[5] + t[6] + t[7];
    return ticks * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}

static uint64_t loopback_bytes(void)
{
    char line[256];
    unsigned long bytes = 0;
    FILE *file = fopen("/proc/net/dev", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, " lo: %lu", &bytes) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return bytes;
}

/* The number behind a name in a file of lines such as `VmRSS:  123 kB`; 0 where there is none. */
static long status_number(const char *path, const char *line_name)
{
    char line[256];
    long number = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, line_name, strlen(line_name)) == 0)
            sscanf(line + strlen(line_name), ": %ld", &number);
    fclose(file);
    return number;
}

static uint64_t switches(pid_t pid)
{
    char path[300];
    uint64_t sum = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL)
        die("the broker is gone");
    for (const struct dirent *task; (task = readdir(tasks)) != NULL;) {
        if (task->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/status", (int)pid, task->d_name);
        sum += (uint64_t)status_number(path, "voluntary_ctxt_switches");
    }
    closedir(tasks);
    return sum;
}

struct usage usage_now(pid_t broker)
{
    static bool is_watched;
    if (!is_watched)
        (void)syscalls_watch(broker);
    is_watched = true;
    return (struct usage){.time_ns = now_ns(),
                          .broker_cpu_ns = cpu_ns(broker),
                          .client_cpu_ns = cpu_ns(0),
                          .machine_cpu_ns = machine_cpu_ns(),
                          .loopback_bytes = loopback_bytes(),
                          .broker_switches = switches(broker),
                          .broker_syscalls = syscalls_count()};
}

long usage_memory_kib(pid_t broker, const char *line_name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", (int)broker);
    if (access(path, R_OK) != 0)
        die("the broker is gone");
    return status_number(path, line_name);
}

double usage_kernel_share(pid_t broker)
{
    char path[64];
    unsigned long user = 0, kernel = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)broker);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        if (fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) != 2)
            user = kernel = 0;
        fclose(file);
    }
    return user + kernel > 0 ? (double)kernel / (double)(user + kernel) : 0;
}

void usage_print(struct usage from, struct usage to, double messages)
{
    double per_message = messages > 0 ? 1 / messages : NAN;
    double broker = (double)(to.broker_cpu_ns - from.broker_cpu_ns);
    double client = (double)(to.client_cpu_ns - from.client_cpu_ns);
    double others = (double)(to.machine_cpu_ns - from.machine_cpu_ns) - broker - client;
    printf(",\"broker_cpu_us\":%.4f,\"client_cpu_us\":%.4f", broker / 1e3 * per_message, client / 1e3 * per_message);
    printf(",\"loopback_bytes\":%.1f", (double)(to.loopback_bytes - from.loopback_bytes) * per_message);
    printf(",\"broker_switches\":%.4f", (double)(to.broker_switches - from.broker_switches) * per_message);
    if (to.broker_syscalls > 0)
        printf(",\"broker_syscalls\":%.4f", (double)(to.broker_syscalls - from.broker_syscalls) * per_message);
    printf(",\"other_cores\":%.2f", others > 0 ? others / (double)(to.time_ns - from.time_ns) : 0);
}
