/* How many system calls the threads of a process have made, by the kernel's own count. */
#ifndef TESTS_BENCH_PEERS_SYSCALLS_H
#define TESTS_BENCH_PEERS_SYSCALLS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Begins to count for the threads that the process has now; false where the kernel does not let us. One process. */
bool syscalls_watch(pid_t pid);

/* Since then; 0 when nothing is watched. */
uint64_t syscalls_count(void);

#endif
