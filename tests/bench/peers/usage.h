/* What a run costs, as the kernel sees it: time of the broker, of this process and of the machine, memory of the
 * broker, bytes over loopback. */
#ifndef TESTS_BENCH_PEERS_USAGE_H
#define TESTS_BENCH_PEERS_USAGE_H

#include <stdint.h>
#include <sys/types.h>

struct usage {
    uint64_t time_ns, broker_cpu_ns, client_cpu_ns, machine_cpu_ns;
    uint64_t loopback_bytes;  /* through the machine's loopback interface, headers included */
    uint64_t broker_switches; /* how often its threads slept and were woken */
    uint64_t broker_syscalls; /* since the first usage_now; 0 where the kernel does not count them for us */
};
struct usage usage_now(pid_t broker);

/* A line of /proc/PID/status in KiB, such as VmRSS; ends the process when the broker is gone. */
long usage_memory_kib(pid_t broker, const char *line_name);

/* The part of the broker's time that it spent in the kernel, since its start. */
double usage_kernel_share(pid_t broker);

/* Prints `,"broker_cpu_us":..` and what else a run of so many messages cost for each of them, and how many cores were
 * busy with neither the broker nor this program: high means a disturbed run. */
void usage_print(struct usage from, struct usage to, double messages);

#endif
