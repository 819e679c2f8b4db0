/* Locking an ipc path and clearing what a dead listener left there. Called by sp_listen, on its caller's thread. */
#include "clients/sp/path_claim.h"

#include "actors/base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LOCK_SUFFIX ".lock"

static enum weir_error errno_error(const char **reason)
{
    const char *text = strerrordesc_np(errno);
    *reason = text ? text : "the system refused";
    switch (errno) {
    case EACCES:
    case EPERM:
    case ELOOP:
    case EROFS: return WEIR_FORBIDDEN;
    case ENOENT:
    case ENOTDIR: return WEIR_NOT_FOUND;
    case ENOMEM: return WEIR_NO_MEMORY;
    default: return WEIR_IO;
    }
}

static enum weir_error lock_take(const char *path, int *claim, const char **reason)
{
    char lock_path[sizeof((struct sockaddr_un *)0)->sun_path + sizeof LOCK_SUFFIX];
    int size = snprintf(lock_path, sizeof lock_path, "%s" LOCK_SUFFIX, path);
    ENSURE(size > 0 && (size_t)size < sizeof lock_path);
    int file = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0)
        return errno_error(reason);
    if (flock(file, LOCK_EX | LOCK_NB) == 0) {
        *claim = file;
        return WEIR_OK;
    }
    enum weir_error error = WEIR_EXISTS;
    *reason = "another listener has this path (it holds the lock file)";
    if (errno != EWOULDBLOCK)
        error = errno_error(reason);
    close(file);
    return error;
}

/* WEIR_OK: nobody listens on the socket. */
static enum weir_error socket_probe(const struct sockaddr_un *address, const char **reason)
{
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return errno_error(reason);
    int failed = connect(probe, (const struct sockaddr *)(const void *)address, sizeof *address);
    int cause = failed ? errno : 0;
    close(probe);
    errno = cause;
    switch (cause) {
    case ECONNREFUSED:
    case ENOENT: return WEIR_OK;
    case 0:
    case EAGAIN:
    case EINPROGRESS:
    case EPROTOTYPE: *reason = "another program listens on this path"; return WEIR_EXISTS;
    default: return errno_error(reason);
    }
}

static enum weir_error stale_remove(const struct sockaddr_un *address, const char **reason)
{
    struct stat status;
    if (lstat(address->sun_path, &status) != 0)
        return errno == ENOENT ? WEIR_OK : errno_error(reason);
    /* connect answers "refused" for an ordinary file too; without this look nng would delete it. */
    if (!S_ISSOCK(status.st_mode)) {
        *reason = "the path exists and is not a socket";
        return WEIR_EXISTS;
    }
    enum weir_error error = socket_probe(address, reason);
    if (error)
        return error;
    if (unlink(address->sun_path) != 0 && errno != ENOENT)
        return errno_error(reason);
    return WEIR_OK;
}

enum weir_error sp_path_claim(const char *path, int *claim, const char **reason)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof address.sun_path) {
        *reason = size == 0 ? "the ipc path is empty" : "the ipc path is longer than 107 bytes";
        return WEIR_BAD_REQUEST;
    }
    memcpy(address.sun_path, path, size);
    enum weir_error error = lock_take(path, claim, reason);
    if (error)
        return error;
    error = stale_remove(&address, reason);
    if (error)
        sp_path_release(*claim);
    return error;
}

void sp_path_release(int claim)
{
    int failed = close(claim);
    ENSURE(failed == 0 || errno != EBADF);
}
