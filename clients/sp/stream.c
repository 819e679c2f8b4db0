/* Error codes and peer addresses of nng's streams. Called by listener, dialer and pipe, on any thread. */
#include "clients/sp/stream.h"

#include "actors/base/assert.h"
#include "actors/base/clock.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

enum weir_error sp_url_transport(const char *url, enum sp_transport *transport, const char **reason)
{
    static const struct {
        const char *prefix;
        enum sp_transport transport;
    } served[] = {
        {"tcp://", SP_TCP}, {"tcp4://", SP_TCP}, {"tcp6://", SP_TCP}, {"ipc://", SP_IPC}, {"unix://", SP_IPC}};
    for (size_t i = 0; i < COUNT_OF(served); i++) {
        if (strncmp(url, served[i].prefix, strlen(served[i].prefix)) == 0) {
            *transport = served[i].transport;
            return WEIR_OK;
        }
    }
    *reason = "the URL is neither tcp://HOST:PORT nor ipc://PATH";
    return WEIR_BAD_REQUEST;
}

enum weir_error sp_code_error(int code)
{
    switch (code) {
    case 0: return WEIR_OK;
    case NNG_ENOMEM: return WEIR_NO_MEMORY;
    case NNG_ETIMEDOUT: return WEIR_TIMEOUT;
    case NNG_EPERM: return WEIR_FORBIDDEN;
    case NNG_EADDRINUSE:
    case NNG_EEXIST: return WEIR_EXISTS;
    case NNG_ENOENT: return WEIR_NOT_FOUND;
    case NNG_EINVAL:
    case NNG_EADDRINVAL:
    case NNG_ENOTSUP: return WEIR_BAD_REQUEST;
    case NNG_ECLOSED:
    case NNG_ECANCELED:
    case NNG_ECONNSHUT:
    case NNG_ECONNRESET:
    case NNG_ECONNABORTED: return WEIR_CLOSED;
    case NNG_ECONNREFUSED:
    case NNG_EUNREACHABLE:
    case NNG_EAGAIN: return WEIR_CONNECT;
    default: return WEIR_IO;
    }
}

/* nng_strerror formats codes that it does not know into one buffer for all threads, so those are named here. */
const char *sp_code_reason(int code)
{
    if (code & NNG_ESYSERR) {
        const char *text = strerrordesc_np(code & ~NNG_ESYSERR);
        return text ? text : "the system refused";
    }
    switch (code) {
    case NNG_EADDRINUSE: return "the address is in use";
    case NNG_EADDRINVAL: return "the address is not valid here";
    case NNG_EPERM: return "permission denied";
    case NNG_ENOFILES: return "too many open files";
    case NNG_ECONNREFUSED: return "nobody listens there";
    case NNG_EUNREACHABLE: return "the host cannot be reached";
    case NNG_ETIMEDOUT: return "no answer within the time allowed";
    case NNG_EAGAIN: return "the listener's queue of connections is full";
    case NNG_ECONNSHUT:
    case NNG_ECLOSED:
    case NNG_ECONNRESET: return "the peer closed the connection";
    default: return code > 0 && code <= NNG_ECONNSHUT ? nng_strerror(code) : "the transport failed";
    }
}

static void ipv6_text(const uint8_t bytes[16], char out[SP_ADDRESS_SIZE_MAX])
{
    struct in6_addr address;
    memcpy(&address, bytes, sizeof address);
    const char *text = IN6_IS_ADDR_V4MAPPED(&address) ? inet_ntop(AF_INET, bytes + 12, out, SP_ADDRESS_SIZE_MAX)
                                                      : inet_ntop(AF_INET6, &address, out, SP_ADDRESS_SIZE_MAX);
    ENSURE(text != NULL);
}

void sp_address_text(const nng_sockaddr *address, char out[SP_ADDRESS_SIZE_MAX], unsigned *port)
{
    *port = 0;
    if (address->s_family == NNG_AF_INET) {
        ENSURE(inet_ntop(AF_INET, &address->s_in.sa_addr, out, SP_ADDRESS_SIZE_MAX) != NULL);
        *port = ntohs(address->s_in.sa_port);
    } else if (address->s_family == NNG_AF_INET6) {
        ipv6_text(address->s_in6.sa_addr, out);
        *port = ntohs(address->s_in6.sa_port);
    } else {
        (void)snprintf(out, SP_ADDRESS_SIZE_MAX, "ipc");
    }
}

static void ipc_describe(nng_stream *stream, const nng_sockaddr *address, struct sp_peer *out)
{
    const char *path = address->s_family == NNG_AF_IPC ? address->s_ipc.sa_path : "";
    uint64_t pid = 0;
    uint64_t uid = 0;
    bool is_known = nng_stream_get_uint64(stream, NNG_OPT_IPC_PEER_PID, &pid) == 0 &&
                    nng_stream_get_uint64(stream, NNG_OPT_IPC_PEER_UID, &uid) == 0;
    if (is_known)
        (void)snprintf(out->text, sizeof out->text, "ipc://%.107s (pid %u uid %u)", path, (unsigned)pid, (unsigned)uid);
    else
        (void)snprintf(out->text, sizeof out->text, "ipc://%.107s", path);
}

enum weir_error sp_peer_describe(nng_stream *stream, enum sp_transport transport, struct sp_peer *out)
{
    nng_sockaddr address;
    unsigned port = 0;
    *out = (struct sp_peer){.is_ipc = transport == SP_IPC};
    if (nng_stream_get_addr(stream, NNG_OPT_REMADDR, &address) != 0)
        return WEIR_CLOSED;
    sp_address_text(&address, out->address, &port);
    bool is_bracketed = strchr(out->address, ':') != NULL;
    if (out->is_ipc)
        ipc_describe(stream, &address, out);
    else
        (void)snprintf(out->text, sizeof out->text, is_bracketed ? "tcp://[%s]:%u" : "tcp://%s:%u", out->address, port);
    return WEIR_OK;
}

void sp_stream_drop(nng_stream *stream)
{
    nng_stream_close(stream);
    nng_stream_free(stream);
}

nng_duration sp_time_left_ms(uint64_t deadline_ns)
{
    uint64_t now = clock_now_ns();
    if (now >= deadline_ns)
        return 0;
    uint64_t left_ms = (deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS;
    return left_ms > INT32_MAX ? INT32_MAX : (nng_duration)left_ms;
}
