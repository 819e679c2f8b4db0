/* The seccomp filters of a plugin's child, built by libseccomp in the spawner, loaded in the child. The first is a list
 * of what is allowed; the second takes from it what only opening a shared object needs. A call that is not allowed
 * fails with EPERM: a library that tries something and can do without goes on. */
#include "actors/plugin/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "actors/base/assert.h"

/* Memory, time, sleeping, signals to itself, its end. */
static const int allowed[] = {
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(futex), SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres),
    SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(sched_yield),
    SCMP_SYS(getcpu), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getrandom), SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack), SCMP_SYS(exit), SCMP_SYS(exit_group),
    SCMP_SYS(restart_syscall), SCMP_SYS(rseq), SCMP_SYS(set_robust_list), SCMP_SYS(getrusage), SCMP_SYS(uname),
    /* On what it has been given: its bell, /dev/null, files it may read. */
    SCMP_SYS(read), SCMP_SYS(pread64), SCMP_SYS(readv), SCMP_SYS(write), SCMP_SYS(lseek), SCMP_SYS(close),
    SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(getdents64)};

/* Needed until the object is open and the second filter is in place; access() and the rest ask about files that
 * Landlock lets nobody read, so they end there too. */
static const int opening[] = {SCMP_SYS(seccomp),
                              SCMP_SYS(landlock_create_ruleset),
                              SCMP_SYS(landlock_add_rule),
                              SCMP_SYS(landlock_restrict_self),
                              SCMP_SYS(access),
                              SCMP_SYS(faccessat),
                              SCMP_SYS(readlink),
                              SCMP_SYS(readlinkat),
                              SCMP_SYS(getuid),
                              SCMP_SYS(geteuid),
                              SCMP_SYS(getgid),
                              SCMP_SYS(getegid),
                              SCMP_SYS(getcwd)};

/* Stands in a filter where the child's own id belongs: no process has it. */
#define PID_PLACE UINT32_C(0x7ff1d0ff)
/* The longest has about a hundred. */
#define PROGRAM_MAX 512

struct program {
    uint16_t count; /* 0: it could not be made */
    struct sock_filter code[PROGRAM_MAX];
};
/* Written in the spawner before it forks any child. */
static struct program enter_program, close_program, close_but_open_program;

#define OPEN_CHANGES (O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY))

static bool allow_all(scmp_filter_ctx filter, const int *calls, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0) != 0)
            return false;
    }
    return true;
}

/* Allowed with the right arguments only. */
static bool allow_some(scmp_filter_ctx filter)
{
    static const int advices[] = {MADV_DONTNEED, MADV_FREE, MADV_NORMAL, MADV_WILLNEED, MADV_HUGEPAGE, MADV_NOHUGEPAGE};
    bool is_good = true;
    /* abort() and raise(): only this process, whose id never changes. */
    is_good &= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, PID_PLACE, 0)) == 0;
    /* No memory that anybody shares; the rings are mapped already. */
    is_good &= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                                SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_TYPE, MAP_PRIVATE)) == 0;
    is_good &= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 0) == 0;
    is_good &= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
                                SCMP_A2(SCMP_CMP_MASKED_EQ, OPEN_CHANGES, O_RDONLY)) == 0;
    /* Limits can be read and lowered, its own only. */
    is_good &= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1, SCMP_A0(SCMP_CMP_EQ, 0, 0)) == 0;
    for (size_t i = 0; i < COUNT_OF(advices); i++)
        is_good &= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(madvise), 1,
                                    SCMP_A2(SCMP_CMP_EQ, (scmp_datum_t)advices[i], 0)) == 0;
    return is_good;
}

/* Takes the filter over. */
static void program_make(scmp_filter_ctx filter, bool is_good, struct program *out)
{
    int file = memfd_create("weir-filter", MFD_CLOEXEC);
    is_good = is_good && file >= 0 && seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) == 0 &&
              seccomp_export_bpf(filter, file) == 0;
    ssize_t size = is_good ? pread(file, out->code, sizeof out->code, 0) : -1;
    off_t whole = is_good ? lseek(file, 0, SEEK_END) : -1;
    out->count = size > 0 && size == whole ? (uint16_t)((size_t)size / sizeof *out->code) : 0;
    if (file >= 0)
        close(file);
    if (filter != NULL)
        seccomp_release(filter);
}

static void enter_make(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    bool is_good = filter != NULL && allow_all(filter, allowed, COUNT_OF(allowed)) &&
                   allow_all(filter, opening, COUNT_OF(opening)) && allow_some(filter);
    program_make(filter, is_good, &enter_program);
}

static void close_make(bool may_open, struct program *out)
{
    const uint32_t deny = SCMP_ACT_ERRNO(EPERM);
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    bool is_good = filter != NULL;
    for (size_t i = 0; is_good && i < COUNT_OF(opening); i++)
        is_good = seccomp_rule_add(filter, deny, opening[i], 0) == 0;
    if (is_good && !may_open) {
        is_good &= seccomp_rule_add(filter, deny, SCMP_SYS(openat), 0) == 0;
        is_good &= seccomp_rule_add(filter, deny, SCMP_SYS(statx), 0) == 0;
    }
    if (is_good) {
        is_good &=
            seccomp_rule_add(filter, deny, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC)) == 0;
        is_good &= seccomp_rule_add(filter, deny, SCMP_SYS(mprotect), 1,
                                    SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC)) == 0;
        is_good &= seccomp_rule_add(filter, deny, SCMP_SYS(prlimit64), 0) == 0;
    }
    program_make(filter, is_good, out);
}

void sandbox_filters_make(void)
{
    enter_make();
    close_make(false, &close_program);
    close_make(true, &close_but_open_program);
}

/* The caller has renounced new privileges, without which no filter is taken. */
static enum weir_error program_load(struct program *program)
{
    struct sock_fprog filter = {program->count, program->code};
    errno = ENOSYS;
    return program->count > 0 && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0 ? WEIR_OK
                                                                                                : WEIR_FORBIDDEN;
}

enum weir_error sandbox_filter_enter(void)
{
    unsigned places = 0;
    for (uint16_t i = 0; i < enter_program.count; i++) {
        struct sock_filter *step = &enter_program.code[i];
        if (step->k != PID_PLACE || BPF_CLASS(step->code) != BPF_JMP)
            continue;
        step->k = (uint32_t)getpid();
        places++;
    }
    /* With none the rule is not as it was meant. */
    if (places == 0)
        enter_program.count = 0;
    return program_load(&enter_program);
}

enum weir_error sandbox_filter_close(bool may_open)
{
    return program_load(may_open ? &close_but_open_program : &close_program);
}
