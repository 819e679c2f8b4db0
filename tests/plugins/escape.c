/* Tries to get out of its sandbox. A record whose value is a text names an attempt; what is emitted is the error that
 * it met (0: it got through), so that the test can say what stopped it. Attempts that need memory or a descriptor first
 * make one in the ways that are allowed.
 */
#include "weir_actor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int failed(long result) { return result < 0 ? errno : 0; }

static int open_file(void) { return failed(open("/etc/passwd", O_RDONLY)); }
static int open_write(void) { return failed(open("/tmp/weir-escaped", O_WRONLY | O_CREAT, 0600)); }
static int open_old(void) { return failed(syscall(SYS_open, "/etc/passwd", O_RDONLY)); }
static int open_at2(void)
{
    uint64_t how[3] = {O_RDONLY, 0, 0};
    return failed(syscall(437, AT_FDCWD, "/etc/passwd", how, sizeof how));
}
static int open_memory_of_parent(void)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)syscall(SYS_getppid));
    return failed(open(path, O_RDWR));
}
static int open_own_memory(void) { return failed(open("/proc/self/mem", O_RDWR)); }
static int unlink_file(void) { return failed(unlink("/etc/passwd")); }
static int make_socket(void) { return failed(socket(AF_INET, SOCK_STREAM, 0)); }
static int make_unix_socket(void)
{
    int pair[2];
    return failed(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
}
static int connect_out(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7450)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return failed(connect(3, (struct sockaddr *)&address, sizeof address));
}
static int execute(void)
{
    char *const none[] = {NULL};
    return failed(execve("/bin/sh", none, none));
}
static int execute_memory(void)
{
    char *const none[] = {NULL};
    int file = (int)syscall(SYS_memfd_create, "x", 0u);
    int error = failed(file);
    return error != 0 ? error : failed(syscall(SYS_execveat, file, "", none, none, AT_EMPTY_PATH));
}
static int execute_at(void)
{
    char *const none[] = {NULL};
    return failed(syscall(SYS_execveat, AT_FDCWD, "/bin/sh", none, none, 0));
}
static int trace_parent(void) { return failed(ptrace(PTRACE_ATTACH, (pid_t)syscall(SYS_getppid), NULL, NULL)); }
static int trace_me(void) { return failed(ptrace(PTRACE_TRACEME, 0, NULL, NULL)); }
static int kill_parent(void) { return failed(kill(getppid(), 0)); }
static int kill_all(void) { return failed(kill(-1, 0)); }
static int kill_thread_of_others(void) { return failed(syscall(SYS_tgkill, 1, 1, 0)); }
static int signal_by_pidfd(void) { return failed(syscall(SYS_pidfd_open, 1, 0)); }
static int map_executable(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? errno : 0;
}
static int map_shared(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? errno : 0;
}
static int protect_executable(void)
{
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? 0 : failed(mprotect(memory, 4096, PROT_READ | PROT_EXEC));
}
static int protect_executable_key(void)
{
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? 0 : failed(syscall(SYS_pkey_mprotect, memory, 4096, PROT_READ | PROT_EXEC, -1));
}
static int do_fork(void) { return failed(fork()); }
static int do_vfork(void) { return failed(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }
static void *thread_run(void *argument) { return argument; }
static int make_thread(void)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, thread_run, NULL);
}
static int become_root(void) { return failed(syscall(SYS_setuid, 0)); }
static int become_group(void) { return failed(syscall(SYS_setgid, 0)); }
static int mount_something(void) { return failed(mount("none", "/tmp", "tmpfs", 0, NULL)); }
static int unshare_all(void) { return failed(unshare(CLONE_NEWUSER | CLONE_NEWNS)); }
static int enter_namespace(void) { return failed(setns(0, 0)); }
static int load_bpf(void)
{
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    return failed(syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes));
}
static int setup_uring(void)
{
    uint8_t parameters[120] = {0};
    return failed(syscall(SYS_io_uring_setup, 4, parameters));
}
static int read_other_memory(void)
{
    char bytes[8];
    struct iovec here = {bytes, sizeof bytes}, there = {bytes, sizeof bytes};
    return failed(process_vm_readv((pid_t)syscall(SYS_getppid), &here, 1, &there, 1, 0));
}
static int write_other_memory(void)
{
    char bytes[8] = "";
    struct iovec here = {bytes, sizeof bytes}, there = {bytes, sizeof bytes};
    return failed(process_vm_writev((pid_t)syscall(SYS_getppid), &here, 1, &there, 1, 0));
}
static int allow_tracing(void) { return failed(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)); }
static int outlive_parent(void) { return failed(prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)); }
static int change_root(void) { return failed(chroot("/tmp")); }
static int change_folder(void) { return failed(chdir("/")); }
static int change_personality(void) { return failed(syscall(SYS_personality, 0x0400000)); }
static int use_keys(void) { return failed(syscall(SYS_keyctl, 0, -3, 0, 0, 0)); }
static int add_key(void) { return failed(syscall(SYS_add_key, "user", "x", "y", 1, -3)); }
static int open_perf(void)
{
    struct perf_event_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.size = sizeof attributes;
    return failed(syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0));
}
static int load_module(void) { return failed(syscall(SYS_init_module, "", 0, "")); }
static int use_userfaultfd(void) { return failed(syscall(SYS_userfaultfd, 0)); }
static int raise_limits(void)
{
    struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    return failed(setrlimit(RLIMIT_AS, &none));
}
static int add_filter(void) { return failed(syscall(SYS_seccomp, 1, 0, NULL)); }
static int send_message_queue(void) { return failed(syscall(SYS_msgget, 0, 01600)); }
static int attach_shared(void) { return failed(syscall(SYS_shmget, 0, 4096, 01600)); }
static int change_mode(void) { return failed(chmod("/etc/passwd", 0666)); }
static int punch_ring(void)
{
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? 0 : failed(madvise(memory, 4096, MADV_REMOVE));
}
static int change_dump(void) { return failed(syscall(SYS_kcmp, 1, 1, 0, 0, 0)); }
/* Another way to call the kernel, with other numbers: the filter knows none of them. Ends the process. */
static int call_as_32_bit(void)
{
#if defined(__x86_64__)
    long result = 20; /* getpid there */
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory");
    return result < 0 ? (int)-result : 0;
#else
    return EPERM;
#endif
}
/* Allowed, and part of what is tested: a child that could not even do that would prove nothing. */
static int allowed(void)
{
    struct timespec now;
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return clock_gettime(CLOCK_MONOTONIC, &now) != 0 || memory == MAP_FAILED || munmap(memory, 4096) != 0;
}
static int read_grant(void)
{
    char byte;
    int file = open("/etc/hostname", O_RDONLY);
    int error = failed(file);
    if (error == 0)
        error = failed(read(file, &byte, 1));
    if (file >= 0)
        close(file);
    return error;
}

#define ATTEMPT(name) \
    {                 \
#name, name   \
    }
static const struct {
    const char *name;
    int (*attempt)(void);
} attempts[] = {
    ATTEMPT(open_file),
    ATTEMPT(open_write),
    ATTEMPT(open_old),
    ATTEMPT(open_at2),
    ATTEMPT(open_memory_of_parent),
    ATTEMPT(open_own_memory),
    ATTEMPT(unlink_file),
    ATTEMPT(make_socket),
    ATTEMPT(make_unix_socket),
    ATTEMPT(connect_out),
    ATTEMPT(execute),
    ATTEMPT(execute_memory),
    ATTEMPT(execute_at),
    ATTEMPT(trace_parent),
    ATTEMPT(trace_me),
    ATTEMPT(kill_parent),
    ATTEMPT(kill_all),
    ATTEMPT(kill_thread_of_others),
    ATTEMPT(signal_by_pidfd),
    ATTEMPT(map_executable),
    ATTEMPT(map_shared),
    ATTEMPT(protect_executable),
    ATTEMPT(protect_executable_key),
    ATTEMPT(do_fork),
    ATTEMPT(do_vfork),
    ATTEMPT(make_thread),
    ATTEMPT(become_root),
    ATTEMPT(become_group),
    ATTEMPT(mount_something),
    ATTEMPT(unshare_all),
    ATTEMPT(enter_namespace),
    ATTEMPT(load_bpf),
    ATTEMPT(setup_uring),
    ATTEMPT(read_other_memory),
    ATTEMPT(write_other_memory),
    ATTEMPT(allow_tracing),
    ATTEMPT(outlive_parent),
    ATTEMPT(change_root),
    ATTEMPT(change_folder),
    ATTEMPT(change_personality),
    ATTEMPT(use_keys),
    ATTEMPT(add_key),
    ATTEMPT(open_perf),
    ATTEMPT(load_module),
    ATTEMPT(use_userfaultfd),
    ATTEMPT(raise_limits),
    ATTEMPT(add_filter),
    ATTEMPT(send_message_queue),
    ATTEMPT(attach_shared),
    ATTEMPT(change_mode),
    ATTEMPT(punch_ring),
    ATTEMPT(change_dump),
    ATTEMPT(call_as_32_bit),
    ATTEMPT(allowed),
    ATTEMPT(read_grant),
};

static enum weir_actor_result escape_init(struct weir_self *self, struct weir_bytes config, void **state)
{
    (void)self, (void)config;
    *state = NULL;
    return WEIR_ACTOR_OK;
}

static enum weir_actor_result escape_handle(struct weir_self *self, void *state, const struct weir_message *message)
{
    struct weir_reader reader = {message->value, false};
    struct weir_item name;
    uint8_t value[16];
    (void)state;
    if (!weir_read(self, &reader, &name) || name.type != WEIR_VALUE_STR)
        return WEIR_ACTOR_REFUSED;
    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++) {
        size_t size = strlen(attempts[i].name);
        if (name.bytes.size != size || memcmp(name.bytes.data, attempts[i].name, size) != 0)
            continue;
        struct weir_writer writer = {value, 0, sizeof value, false};
        struct weir_item error = {.type = WEIR_VALUE_UINT, .as = {.u = (uint64_t)attempts[i].attempt()}};
        weir_write(self, &writer, &error);
        return weir_emit(self, message->topic, message->key, weir_bytes_of(value, writer.size));
    }
    weir_fail(self, "there is no such attempt");
    return WEIR_ACTOR_REFUSED;
}

const struct weir_actor_plugin weir_actor_plugin = {
    WEIR_ACTOR_HEAD(WEIR_ACTOR_FOLD), .name = "escape",    .version = "1.0",
    .about = "tries to get out",      .init = escape_init, .handle = escape_handle,
};
