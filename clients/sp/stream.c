/* URLs, error codes and peer addresses of sockets. Called by listener, dialer and pipe, on any thread. */
#include "clients/sp/stream.h"

#include "actors/base/assert.h"
#include "actors/base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#define PORT_DIGITS_MAX 5
#define PORT_MAX 65535

/* ------------------------------------------------------------------------------------------------ URLs */

static bool port_take(const char *text, struct sp_url *out)
{
    size_t digits = strspn(text, "0123456789");
    unsigned port = 0;
    if (digits == 0 || digits > PORT_DIGITS_MAX || text[digits] != '\0')
        return false;
    for (size_t i = 0; i < digits; i++)
        port = port * 10 + (unsigned)(text[i] - '0');
    memcpy(out->port, text, digits + 1);
    return port <= PORT_MAX;
}

/* "HOST:PORT", "[V6]:PORT", "*:PORT" or ":PORT". */
static bool host_take(const char *text, struct sp_url *out)
{
    bool is_bracketed = text[0] == '[';
    const char *end = is_bracketed ? strchr(text, ']') : strrchr(text, ':');
    if (end == NULL || (is_bracketed && end[1] != ':'))
        return false;
    const char *host = text + is_bracketed;
    size_t size = (size_t)(end - host);
    if (size >= sizeof out->host || (!is_bracketed && memchr(host, ':', size) != NULL))
        return false;
    if (size != 1 || host[0] != '*')
        memcpy(out->host, host, size);
    return port_take(end + 1 + is_bracketed, out);
}

enum weir_error sp_url_parse(const char *url, struct sp_url *out, const char **reason)
{
    static const struct {
        const char *prefix;
        enum sp_transport transport;
        int family;
    } served[] = {{"tcp://", SP_TCP, AF_UNSPEC},
                  {"tcp4://", SP_TCP, AF_INET},
                  {"tcp6://", SP_TCP, AF_INET6},
                  {"ipc://", SP_IPC, AF_UNIX},
                  {"unix://", SP_IPC, AF_UNIX}};
    *out = (struct sp_url){.path = NULL};
    *reason = "the URL is neither tcp://HOST:PORT nor ipc://PATH";
    size_t i = 0;
    while (i < COUNT_OF(served) && strncmp(url, served[i].prefix, strlen(served[i].prefix)) != 0)
        i++;
    if (i == COUNT_OF(served))
        return WEIR_BAD_REQUEST;
    const char *rest = url + strlen(served[i].prefix);
    out->transport = served[i].transport;
    out->family = served[i].family;
    if (out->transport == SP_TCP)
        return host_take(rest, out) ? WEIR_OK : WEIR_BAD_REQUEST;
    *reason = "the path of an ipc:// URL is empty or longer than 107 bytes";
    if (*rest == '\0' || strlen(rest) >= sizeof((struct sockaddr_un *)0)->sun_path)
        return WEIR_BAD_REQUEST;
    out->path = rest;
    return WEIR_OK;
}

void sp_path_address(const char *path, struct sp_address *out)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    size_t size = strlen(path);
    ENSURE(size < sizeof local.sun_path);
    memcpy(local.sun_path, path, size + 1);
    memcpy(&out->bytes, &local, sizeof local);
    out->size = sizeof local;
}

/* ---------------------------------------------------------------------------------------------- errors */

enum weir_error sp_errno_error(int code)
{
    switch (code) {
    case 0: return WEIR_OK;
    case ENOMEM:
    case ENOBUFS: return WEIR_NO_MEMORY;
    case ETIMEDOUT: return WEIR_TIMEOUT;
    case EACCES:
    case EPERM: return WEIR_FORBIDDEN;
    case EADDRINUSE:
    case EEXIST: return WEIR_EXISTS;
    case ENOENT:
    case ENOTDIR: return WEIR_NOT_FOUND;
    case EINVAL:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT: return WEIR_BAD_REQUEST;
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED: return WEIR_CLOSED;
    case ECONNREFUSED:
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EAGAIN: return WEIR_CONNECT;
    default: return WEIR_IO;
    }
}

const char *sp_errno_reason(int code)
{
    switch (code) {
    case EADDRINUSE: return "the address is in use";
    case EADDRNOTAVAIL:
    case EINVAL:
    case EAFNOSUPPORT: return "the address is not valid here";
    case EACCES:
    case EPERM: return "permission denied";
    case EMFILE:
    case ENFILE: return "too many open files";
    case ENOENT:
    case ENOTDIR: return "there is no such path";
    case ECONNREFUSED: return "nobody listens there";
    case ENETUNREACH:
    case EHOSTUNREACH: return "the host cannot be reached";
    case ETIMEDOUT: return "no answer within the time allowed";
    case EAGAIN: return "the listener's queue of connections is full";
    case EPIPE:
    case ECONNABORTED:
    case ECONNRESET: return "the peer closed the connection";
    default: break;
    }
    const char *text = strerrordesc_np(code);
    return text != NULL ? text : "the system refused";
}

/* ----------------------------------------------------------------------------------------------- peers */

/* v4 addresses mapped into v6 come out as v4, so that they count as one peer. */
static void address_text(const struct sockaddr_storage *from, char out[SP_ADDRESS_SIZE_MAX], unsigned *port)
{
    const char *text = NULL;
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
        text = inet_ntop(AF_INET, &v4->sin_addr, out, SP_ADDRESS_SIZE_MAX);
        *port = ntohs(v4->sin_port);
    } else {
        struct sockaddr_in6 v6;
        memcpy(&v6, from, sizeof v6);
        const struct in6_addr *bytes = &v6.sin6_addr;
        text = IN6_IS_ADDR_V4MAPPED(bytes) ? inet_ntop(AF_INET, bytes->s6_addr + 12, out, SP_ADDRESS_SIZE_MAX)
                                           : inet_ntop(AF_INET6, bytes, out, SP_ADDRESS_SIZE_MAX);
        *port = ntohs(v6.sin6_port);
    }
    ENSURE(text != NULL);
}

/* A client's own socket has no path. */
static void ipc_describe(int descriptor, const struct sockaddr_storage *from, struct sp_peer *out)
{
    const struct sockaddr_un *local = (const struct sockaddr_un *)from;
    struct ucred who;
    socklen_t size = sizeof who;
    (void)snprintf(out->address, sizeof out->address, "ipc");
    if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0)
        (void)snprintf(out->text, sizeof out->text, "ipc://%.107s (pid %u uid %u)", local->sun_path, (unsigned)who.pid,
                       (unsigned)who.uid);
    else
        (void)snprintf(out->text, sizeof out->text, "ipc://%.107s", local->sun_path);
}

enum weir_error sp_peer_describe(int descriptor, enum sp_transport transport, struct sp_peer *out)
{
    struct sockaddr_storage from = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof from;
    unsigned port = 0;
    *out = (struct sp_peer){.is_ipc = transport == SP_IPC};
    if (getpeername(descriptor, (struct sockaddr *)&from, &size) != 0)
        return WEIR_CLOSED;
    if (out->is_ipc) {
        ipc_describe(descriptor, &from, out);
        return WEIR_OK;
    }
    address_text(&from, out->address, &port);
    bool is_bracketed = strchr(out->address, ':') != NULL;
    (void)snprintf(out->text, sizeof out->text, is_bracketed ? "tcp://[%s]:%u" : "tcp://%s:%u", out->address, port);
    return WEIR_OK;
}

void sp_socket_tune(int descriptor, enum sp_transport transport)
{
    const int yes = 1;
    if (transport != SP_TCP)
        return;
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    /* Push and sub peers send us nothing to notice their death by; the kernel's probes do, in hours. */
    (void)setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
}

unsigned sp_parts_advance(struct iovec *parts, unsigned count, size_t size)
{
    unsigned first = 0;
    while (first < count && size >= parts[first].iov_len) {
        size -= parts[first].iov_len;
        first++;
    }
    for (unsigned i = first; i < count; i++)
        parts[i - first] = parts[i];
    if (first < count) {
        parts[0].iov_base = (char *)parts[0].iov_base + size;
        parts[0].iov_len -= size;
    }
    return count - first;
}

int sp_time_left_ms(uint64_t deadline_ns)
{
    uint64_t now = clock_now_ns();
    if (now >= deadline_ns)
        return 0;
    uint64_t left_ms = (deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS;
    return left_ms > INT32_MAX ? INT32_MAX : (int)left_ms;
}
