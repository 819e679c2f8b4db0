/* The spawner process and the broker's end of the socket to it; spawner.h says what for. */
#include "actors/plugin/spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actors/base/assert.h"
#include "actors/plugin/prefault.h"

/* A request or an event goes through within this, or the other process is broken. */
#define SPAWNER_SEND_S_MAX 5
/* The one argument of a program that is executed as a spawner. */
#define SPAWNER_MARK "--plugin-spawner"

enum request_op { REQUEST_SPAWN, REQUEST_KILL };
struct request {
    uint32_t op;
    uint64_t id;
};

struct spawner {
    int fd;    /* SOCK_SEQPACKET; send is atomic, so that any thread may */
    pid_t pid; /* reaped by spawner_close */
};

/* ---------------------------------------------------------------------------------- in the spawner */

struct nursery {
    int fd, signals;
    void (*child)(void);
    pid_t self; /* a child whose parent is another one by now has outlived the spawner */
    struct {
        uint64_t id;
        pid_t pid; /* 0: free */
    } children[SPAWNER_CHILDREN_MAX];
};

static void event_send(struct nursery *nursery, const struct spawner_event *event)
{
    /* When it fails the broker is gone, which poll tells next. */
    (void)send(nursery->fd, event, sizeof *event, MSG_NOSIGNAL);
}

/* In a new child: its descriptors where they belong, no other ones, no signal blocked or handled, nothing left of the
 * broker's environment; then whatever a child does. */
__attribute__((noreturn)) static void child_enter(const struct nursery *nursery, const int fds[SPAWNER_FDS])
{
    sigset_t none;
    int high[SPAWNER_FDS];
    bool is_whole = true;
    prefault_do();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "weir-plugin");
    for (int i = 0; i < SPAWNER_FDS; i++)
        is_whole = (high[i] = fcntl(fds[i], F_DUPFD, SPAWNER_CHILD_FD + SPAWNER_FDS + 64)) >= 0 && is_whole;
    for (int i = 0; i < SPAWNER_FDS; i++)
        is_whole = is_whole && dup2(high[i], SPAWNER_CHILD_FD + i) >= 0;
    is_whole = is_whole && dup2(0, 2) >= 0; /* 0 and 1 are /dev/null: a plugin does not write into the broker's log */
    is_whole = is_whole && close_range(SPAWNER_CHILD_FD + SPAWNER_FDS, ~0u, 0) == 0;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (is_whole && getppid() == nursery->self)
        nursery->child();
    _exit(EXIT_FAILURE);
}

static void request_spawn(struct nursery *nursery, uint64_t id, const int fds[SPAWNER_FDS])
{
    struct spawner_event event = {.kind = SPAWNER_FAILED, .error = EAGAIN, .id = id};
    size_t place = 0;
    while (place < SPAWNER_CHILDREN_MAX && nursery->children[place].pid != 0)
        place++;
    pid_t pid = place < SPAWNER_CHILDREN_MAX ? fork() : -1;
    if (pid == 0)
        child_enter(nursery, fds);
    if (pid > 0) {
        nursery->children[place].id = id;
        nursery->children[place].pid = pid;
        event.kind = SPAWNER_STARTED;
        event.pid = pid;
    } else if (place < SPAWNER_CHILDREN_MAX) {
        event.error = errno;
    }
    event_send(nursery, &event);
}

/* Reaps later, so the pid cannot have become somebody else's. */
static void request_kill(const struct nursery *nursery, uint64_t id)
{
    for (size_t i = 0; i < SPAWNER_CHILDREN_MAX; i++) {
        if (nursery->children[i].pid != 0 && nursery->children[i].id == id)
            kill(nursery->children[i].pid, SIGKILL);
    }
}

/* One request; false when the broker is gone. */
static bool request_take(struct nursery *nursery)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(SPAWNER_FDS * sizeof(int))];
    } control = {.bytes = {0}};
    struct request request = {.op = REQUEST_KILL};
    struct iovec part = {&request, sizeof request};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int fds[SPAWNER_FDS] = {-1, -1, -1, -1};
    ssize_t size = recvmsg(nursery->fd, &message, MSG_CMSG_CLOEXEC);
    if (size == 0)
        return false;
    if (size < 0)
        return errno == EINTR || errno == EAGAIN;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    size_t count = 0;
    if (header != NULL && header->cmsg_type == SCM_RIGHTS) {
        count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(header), count * sizeof(int));
    }
    if (request.op == REQUEST_SPAWN && count == SPAWNER_FDS)
        request_spawn(nursery, request.id, fds);
    else if (request.op == REQUEST_KILL)
        request_kill(nursery, request.id);
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
    return true;
}

static void children_reap(struct nursery *nursery)
{
    struct signalfd_siginfo info;
    int status = 0;
    pid_t pid = 0;
    /* Only says that there is something to reap; two ends may share one signal. */
    while (read(nursery->signals, &info, sizeof info) > 0)
        continue;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (size_t i = 0; i < SPAWNER_CHILDREN_MAX; i++) {
            if (nursery->children[i].pid != pid)
                continue;
            struct spawner_event event = {
                .kind = SPAWNER_ENDED, .id = nursery->children[i].id, .pid = pid, .status = status};
            nursery->children[i].pid = 0;
            event_send(nursery, &event);
        }
    }
}

/* Descriptors, signals, name; false: this machine does not let it. */
static bool nursery_prepare(struct nursery *nursery)
{
    sigset_t all;
    prctl(PR_SET_NAME, "weir-spawner");
    prctl(PR_SET_DUMPABLE, 0);
    /* A terminal's Ctrl-C is for the broker, which ends this process in its own time. */
    setsid();
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    /* What the environment holds is no plugin's business. */
    for (char **variable = environ; variable != NULL && *variable != NULL; variable++)
        explicit_bzero(*variable, strlen(*variable));
    clearenv();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
        return false;
    if (close_range(SPAWNER_CHILD_FD + 1, ~0u, 0) != 0)
        return false;
    sigemptyset(&all);
    sigaddset(&all, SIGCHLD);
    nursery->signals = signalfd(-1, &all, SFD_NONBLOCK | SFD_CLOEXEC);
    return nursery->signals >= 0;
}

__attribute__((noreturn)) static void nursery_run(struct nursery *nursery, void (*prepare)(void))
{
    if (!nursery_prepare(nursery))
        _exit(EXIT_FAILURE);
    prepare();
    prefault_prepare();
    for (bool is_wanted = true; is_wanted;) {
        struct pollfd ready[] = {{nursery->fd, POLLIN, 0}, {nursery->signals, POLLIN, 0}};
        if (poll(ready, COUNT_OF(ready), -1) < 0 && errno != EINTR)
            break;
        if (ready[1].revents != 0)
            children_reap(nursery);
        if (ready[0].revents != 0)
            is_wanted = request_take(nursery);
    }
    for (size_t i = 0; i < SPAWNER_CHILDREN_MAX; i++) {
        if (nursery->children[i].pid != 0)
            kill(nursery->children[i].pid, SIGKILL);
    }
    _exit(EXIT_SUCCESS);
}

/* ----------------------------------------------------------------------------------- in the broker */

void spawner_main(int argc, char *const argv[], void (*prepare)(void), void (*child)(void))
{
    static struct nursery nursery;
    int type = 0;
    socklen_t size = sizeof type;
    if (argc != 2 || strcmp(argv[1], SPAWNER_MARK) != 0)
        return;
    nursery.fd = SPAWNER_CHILD_FD;
    nursery.child = child;
    nursery.self = getpid();
    if (getsockopt(nursery.fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET) {
        fprintf(stderr, "%s " SPAWNER_MARK " is what a broker calls, and needs its socket\n", argv[0]);
        _exit(EXIT_FAILURE);
    }
    nursery_run(&nursery, prepare);
}

/* Its signals are blocked from the start: a terminal's Ctrl-C must not end it before it has left the terminal. */
static int program_execute(int fd, pid_t *pid)
{
    char name[] = "weir", mark[] = SPAWNER_MARK;
    char *arguments[] = {name, mark, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t all;
    sigfillset(&all);
    int error = posix_spawn_file_actions_init(&actions);
    if (error != 0)
        return error;
    if ((error = posix_spawnattr_init(&attributes)) == 0) {
        error = posix_spawn_file_actions_adddup2(&actions, fd, SPAWNER_CHILD_FD);
        if (error == 0)
            error = posix_spawnattr_setsigmask(&attributes, &all);
        if (error == 0)
            error = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
        /* The environment may say where libraries are; the spawner clears its copy. */
        if (error == 0)
            error = posix_spawn(pid, "/proc/self/exe", &actions, &attributes, arguments, environ);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

enum weir_error spawner_open(struct spawner **out, char *why, size_t why_size)
{
    struct timeval send_max = {.tv_sec = SPAWNER_SEND_S_MAX};
    int pair[2];
    pid_t pid = -1;
    struct spawner *spawner = calloc(1, sizeof *spawner);
    *out = NULL;
    if (spawner == NULL) {
        snprintf(why, why_size, "no memory for the process that starts plugins");
        return WEIR_NO_MEMORY;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        snprintf(why, why_size, "no socket for the process that starts plugins: %s", strerror(errno));
        free(spawner);
        return WEIR_IO;
    }
    for (int i = 0; i < 2; i++)
        setsockopt(pair[i], SOL_SOCKET, SO_SNDTIMEO, &send_max, sizeof send_max);
    int error = program_execute(pair[1], &pid);
    close(pair[1]);
    if (error != 0) {
        snprintf(why, why_size, "the process that starts plugins cannot be executed: %s", strerror(error));
        close(pair[0]);
        free(spawner);
        return WEIR_IO;
    }
    *spawner = (struct spawner){.fd = pair[0], .pid = pid};
    *out = spawner;
    return WEIR_OK;
}

void spawner_close(struct spawner **pointer)
{
    struct spawner *spawner = *pointer;
    *pointer = NULL;
    if (spawner == NULL)
        return;
    close(spawner->fd); /* which ends it, and it its children */
    while (waitpid(spawner->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    free(spawner);
}

/* What cannot be sent has nobody left to take it. */
static enum weir_error request_send(struct spawner *spawner, const struct request *request, const int *fds)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(SPAWNER_FDS * sizeof(int))];
    } control = {.bytes = {0}};
    struct request copy = *request;
    struct iovec part = {&copy, sizeof copy};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fds != NULL) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        control.header = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(SPAWNER_FDS * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), fds, SPAWNER_FDS * sizeof(int));
    }
    ssize_t sent = 0;
    do
        sent = sendmsg(spawner->fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)sizeof copy ? WEIR_OK : WEIR_IO;
}

enum weir_error spawner_spawn(struct spawner *spawner, uint64_t id, const int fds[SPAWNER_FDS])
{
    return request_send(spawner, &(struct request){.op = REQUEST_SPAWN, .id = id}, fds);
}

void spawner_kill(struct spawner *spawner, uint64_t id)
{
    (void)request_send(spawner, &(struct request){.op = REQUEST_KILL, .id = id}, NULL);
}

int spawner_fd(const struct spawner *spawner) { return spawner->fd; }

pid_t spawner_pid(const struct spawner *spawner) { return spawner->pid; }

enum weir_error spawner_next(struct spawner *spawner, struct spawner_event *out)
{
    ssize_t size = recv(spawner->fd, out, sizeof *out, MSG_DONTWAIT);
    if (size == (ssize_t)sizeof *out)
        return WEIR_OK;
    return size < 0 && (errno == EAGAIN || errno == EINTR) ? WEIR_AGAIN : WEIR_CLOSED;
}
