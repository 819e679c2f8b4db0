/* The sandbox of a plugin's child, but for the seccomp filters (sandbox_filter.c). Sources: landlock(7), seccomp(2),
 * user_namespaces(7), capabilities(7). */
#include "actors/plugin/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "actors/base/assert.h"

/* Beyond what it has when it is started: the broker's parts of it (a message that comes in pieces, the loader's
 * tables) and what malloc keeps between. */
#define MEMORY_SLACK ((uint64_t)4 << 20)
/* While it opens: libraries and their data. */
#define MEMORY_OPENING ((uint64_t)256 << 20)

/* Newer than Debian 12's headers; numbers as in the kernel's include/uapi/linux/landlock.h. */
#define LANDLOCK_FS_TRUNCATE (UINT64_C(1) << 14)
#define LANDLOCK_FS_IOCTL_DEV (UINT64_C(1) << 15)
#define LANDLOCK_NET_BIND_CONNECT UINT64_C(3)
#define LANDLOCK_SCOPE_SOCKET_SIGNAL UINT64_C(3)
struct landlock_ruleset {
    uint64_t fs;
    uint64_t net;    /* ABI 4 */
    uint64_t scoped; /* ABI 6 */
};

#define READ_FILE LANDLOCK_ACCESS_FS_READ_FILE
#define READ_ALL (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define EXECUTE LANDLOCK_ACCESS_FS_EXECUTE

/* Where the loader finds what an object needs. */
static const char *const libraries[] = {"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", NULL};

static void note_missing(struct sandbox *sandbox, const char *what)
{
    size_t used = strlen(sandbox->missing);
    snprintf(sandbox->missing + used, sizeof sandbox->missing - used, "%s%s", used > 0 ? ", " : "", what);
}

/* ---------------------------------------------------------------------------------------- Landlock */

/* Lets rights of path, and of what is below, through. */
static int landlock_allow(int ruleset, const char *path, uint64_t rights)
{
    struct stat status;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return errno;
    if (fstat(fd, &status) == 0 && !S_ISDIR(status.st_mode))
        rights &= ~(uint64_t)LANDLOCK_ACCESS_FS_READ_DIR;
    struct landlock_path_beneath_attr rule = {.allowed_access = rights, .parent_fd = fd};
    int error = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0 ? 0 : errno;
    close(fd);
    return error;
}

static int landlock_create(const struct sandbox *sandbox)
{
    int abi = sandbox->landlock_abi;
    struct landlock_ruleset rules = {.fs = (UINT64_C(1) << 13) - 1};
    if (abi >= 2)
        rules.fs |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3)
        rules.fs |= LANDLOCK_FS_TRUNCATE;
    if (abi >= 5)
        rules.fs |= LANDLOCK_FS_IOCTL_DEV;
    if (abi >= 4)
        rules.net = LANDLOCK_NET_BIND_CONNECT;
    if (abi >= 6)
        rules.scoped = LANDLOCK_SCOPE_SOCKET_SIGNAL;
    size_t size = abi >= 6 ? sizeof rules : abi >= 4 ? offsetof(struct landlock_ruleset, scoped) : sizeof rules.fs;
    return (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
}

/* A layer that lets through the grants, and while the object (a memory file, which no layer is about) is opened, the
 * libraries. Layers add up: what the
 * first does not let through the second cannot. */
static enum weir_error landlock_restrict(const struct sandbox *sandbox, bool is_opening, char *why, size_t why_size)
{
    const char *failed = NULL;
    int error = 0;
    if (sandbox->landlock_abi <= 0)
        return WEIR_OK;
    int ruleset = landlock_create(sandbox);
    if (ruleset < 0) {
        snprintf(why, why_size, "Landlock gives no ruleset: %s", strerror(errno));
        return WEIR_FORBIDDEN;
    }
    for (size_t i = 0; is_opening && libraries[i] != NULL; i++)
        landlock_allow(ruleset, libraries[i], READ_ALL | EXECUTE); /* not every machine has each */
    if (is_opening)
        landlock_allow(ruleset, "/etc/ld.so.cache", READ_FILE);
    for (size_t i = 0; failed == NULL && sandbox->grants != NULL && sandbox->grants[i] != NULL; i++) {
        /* The second layer may still name them: O_PATH reads nothing. */
        if ((error = landlock_allow(ruleset, sandbox->grants[i], READ_ALL)) != 0)
            failed = sandbox->grants[i];
    }
    if (failed == NULL && syscall(SYS_landlock_restrict_self, ruleset, 0) != 0) {
        error = errno;
        failed = "Landlock";
    }
    close(ruleset);
    if (failed == NULL)
        return WEIR_OK;
    snprintf(why, why_size, "%s: %s", failed, strerror(error));
    return error == ENOENT ? WEIR_NOT_FOUND : WEIR_FORBIDDEN;
}

/* ---------------------------------------------------------------------------------- the other means */

static void limit(int resource, uint64_t value)
{
    struct rlimit old;
    if (getrlimit(resource, &old) == 0 && old.rlim_max < value)
        value = old.rlim_max;
    struct rlimit now = {value, value};
    setrlimit(resource, &now);
}

/* Limits memory to what there is now, what the instance may have, and more. False: it is not known what there is. */
static bool memory_limit(const struct sandbox *sandbox, uint64_t more)
{
    char text[128] = "";
    char *rest = text;
    unsigned long long pages[6] = {0};
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t allowed = sandbox->memory_bytes_max + sandbox->memory_bytes_max / 8 + MEMORY_SLACK + more;
    if (!SANDBOX_HAS_MEMORY_LIMIT)
        return true;
    if (pread(sandbox->statm, text, sizeof text - 1, 0) <= 0)
        return false;
    /* Addresses, resident, shared, code, nothing, data (private and writable), in pages. */
    for (size_t i = 0; i < COUNT_OF(pages); i++)
        pages[i] = strtoull(rest, &rest, 10);
    if (pages[0] == 0 || pages[5] == 0)
        return false;
    limit(RLIMIT_DATA, pages[5] * page + allowed);
    limit(RLIMIT_AS, pages[0] * page + allowed);
    return true;
}

static void limits_set(const struct sandbox *sandbox)
{
    limit(RLIMIT_CORE, 0); /* a core would hold other people's messages */
    limit(RLIMIT_NPROC, 0);
    limit(RLIMIT_FSIZE, 0);
    limit(RLIMIT_MEMLOCK, 0);
    limit(RLIMIT_MSGQUEUE, 0);
    limit(RLIMIT_RTPRIO, 0);
    limit(RLIMIT_SIGPENDING, 8);
    /* Its own, and some for what it opens: the object and its libraries one at a time, later its grants. */
    limit(RLIMIT_NOFILE, (uint64_t)sandbox->fd_max + 17);
}

/* The first to go when the machine has no memory left: its restart costs least. */
static void prefer_for_oom(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t written = write(fd, "1000", 4);
    (void)written;
    close(fd);
}

/* True when it has none afterwards. A service that never had any may not even be allowed to ask. */
static bool capabilities_drop(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {{0, 0, 0}};
    if (syscall(SYS_capset, &header, sets) == 0)
        return true;
    if (syscall(SYS_capget, &header, sets) != 0)
        return false;
    return (sets[0].permitted | sets[1].permitted | sets[0].effective | sets[1].effective) == 0;
}

/* A user namespace of its own, in which it owns nothing and has no name, and with it networks and IPC of its own. */
static void namespaces_enter(struct sandbox *sandbox)
{
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0)
        note_missing(sandbox, "namespaces (this machine, service or build allows none)");
    if (!capabilities_drop())
        note_missing(sandbox, "dropping capabilities");
}

enum weir_error sandbox_enter(struct sandbox *sandbox, char *why, size_t why_size)
{
    pid_t parent = getppid();
    sandbox->missing[0] = '\0';
    sandbox->statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC); /* its own only, whoever reads it */
    prefer_for_oom();
    limits_set(sandbox);
    namespaces_enter(sandbox);
    prctl(PR_SET_DUMPABLE, 0);
    /* Changing capabilities has cleared it. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        snprintf(why, why_size, "the kernel does not let a process renounce new privileges: %s", strerror(errno));
        return WEIR_FORBIDDEN;
    }
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    sandbox->landlock_abi = abi > 0 ? (int)abi : 0;
    if (abi <= 0)
        note_missing(sandbox, "Landlock (this kernel has none)");
    if (abi <= 0 && sandbox->grants != NULL && sandbox->grants[0] != NULL) {
        snprintf(why, why_size, "grants need Landlock, which this kernel does not have; take the grants out");
        return WEIR_FORBIDDEN;
    }
    enum weir_error error = landlock_restrict(sandbox, true, why, why_size);
    if (error != WEIR_OK)
        return error;
    memory_limit(sandbox, MEMORY_OPENING);
    if (SANDBOX_HAS_FILTER && sandbox_filter_enter() != WEIR_OK) {
        snprintf(why, why_size, "the kernel takes no seccomp filter: %s", strerror(errno));
        return WEIR_FORBIDDEN;
    }
    return WEIR_OK;
}

enum weir_error sandbox_close(struct sandbox *sandbox, char *why, size_t why_size)
{
    bool has_grants = sandbox->grants != NULL && sandbox->grants[0] != NULL;
    if (!memory_limit(sandbox, 0)) {
        snprintf(why, why_size, "/proc/self/statm cannot be read, so that its memory cannot be limited");
        return WEIR_FORBIDDEN;
    }
    if (sandbox->statm >= 0)
        close(sandbox->statm);
    sandbox->statm = -1;
    enum weir_error error = landlock_restrict(sandbox, false, why, why_size);
    if (error != WEIR_OK)
        return error;
    if (SANDBOX_HAS_FILTER && sandbox_filter_close(has_grants) != WEIR_OK) {
        snprintf(why, why_size, "the kernel takes no second seccomp filter: %s", strerror(errno));
        return WEIR_FORBIDDEN;
    }
    return WEIR_OK;
}
