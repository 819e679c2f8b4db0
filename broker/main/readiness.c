/* See readiness.h. */
#include "broker/main/readiness.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "actors/base/log.h"

/* For a manager whose queue is full: one that hears nothing takes the broker for one that does not start. */
#define PATIENCE_S 5

void readiness_tell(const char *state)
{
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    const char *name = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = name == NULL ? 0 : strlen(name);
    if (size == 0)
        return;
    /* Others than these two, such as a virtual machine's, are for whoever starts machines. */
    if ((name[0] != '/' && name[0] != '@') || size >= sizeof address.sun_path) {
        log_warning("readiness", "NOTIFY_SOCKET=\"%.120s\" what=\"neither a path nor an abstract name that fits\"",
                    name);
        return;
    }
    memcpy(address.sun_path, name, size);
    if (name[0] == '@')
        address.sun_path[0] = '\0'; /* an abstract name, which ends with the address */
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + (name[0] == '/'));
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    ssize_t sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address, length);
    if (sent < 0)
        log_warning("readiness", "NOTIFY_SOCKET=\"%.120s\" what=\"nobody takes it\"", name);
    close(fd);
}
