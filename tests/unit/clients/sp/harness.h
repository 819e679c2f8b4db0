/* What the socket tests share: a listener that collects its pipes, a pipe that counts what its handlers were told, and
 * waiting for either with a deadline. Handlers run on a poller's thread; everything below is guarded by its lock. */
#ifndef TESTS_UNIT_CLIENTS_SP_HARNESS_H
#define TESTS_UNIT_CLIENTS_SP_HARNESS_H

#include "clients/sp/pipe.h"

#include "actors/base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_S 60
#define SERVER_PIPES_MAX 64

struct monitor {
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

/* Waits, lock held, until the condition holds; fails the test after WAIT_S. */
#define MONITOR_WAIT(monitor, condition)                                                                \
    do {                                                                                                \
        struct timespec deadline_;                                                                      \
        clock_gettime(CLOCK_REALTIME, &deadline_);                                                      \
        deadline_.tv_sec += WAIT_S;                                                                     \
        pthread_mutex_lock(&(monitor)->lock);                                                           \
        while (!(condition)) {                                                                          \
            if (pthread_cond_timedwait(&(monitor)->changed, &(monitor)->lock, &deadline_) == ETIMEDOUT) \
                break;                                                                                  \
        }                                                                                               \
        bool holds_ = (condition);                                                                      \
        pthread_mutex_unlock(&(monitor)->lock);                                                         \
        if (!holds_)                                                                                    \
            fail_msg("waited in vain for: %s", #condition);                                             \
    } while (0)

static inline void monitor_init(struct monitor *monitor)
{
    pthread_mutex_init(&monitor->lock, NULL);
    pthread_cond_init(&monitor->changed, NULL);
}

static inline void monitor_fini(struct monitor *monitor)
{
    pthread_mutex_destroy(&monitor->lock);
    pthread_cond_destroy(&monitor->changed);
}

/* One pipe and what was heard of it. */
struct end {
    struct monitor monitor;
    struct sp_pipe *pipe;
    unsigned received_count;
    unsigned sent_count;
    unsigned closed_count;
    unsigned late_count;  /* handlers called after on_closed: must stay 0 */
    size_t received_size; /* of the last receive */
    size_t received_total;
    enum weir_error received_error;
    enum weir_error sent_error;
};

static inline void end_received(void *owner, size_t size, enum weir_error error)
{
    struct end *end = owner;
    pthread_mutex_lock(&end->monitor.lock);
    end->late_count += end->closed_count;
    end->received_count++;
    end->received_size = size;
    end->received_total += size;
    end->received_error = error;
    pthread_cond_broadcast(&end->monitor.changed);
    pthread_mutex_unlock(&end->monitor.lock);
}

static inline void end_sent(void *owner, enum weir_error error)
{
    struct end *end = owner;
    pthread_mutex_lock(&end->monitor.lock);
    end->late_count += end->closed_count;
    end->sent_count++;
    end->sent_error = error;
    pthread_cond_broadcast(&end->monitor.changed);
    pthread_mutex_unlock(&end->monitor.lock);
}

static inline void end_closed(void *owner)
{
    struct end *end = owner;
    pthread_mutex_lock(&end->monitor.lock);
    end->closed_count++;
    pthread_cond_broadcast(&end->monitor.changed);
    pthread_mutex_unlock(&end->monitor.lock);
}

static const struct sp_pipe_handlers end_handlers = {end_received, end_sent, end_closed};

static inline void end_init(struct end *end, struct sp_pipe *pipe)
{
    *end = (struct end){.pipe = pipe};
    monitor_init(&end->monitor);
    sp_pipe_start(pipe, &end_handlers, end);
}

/* Closes (again, perhaps), waits for on_closed and frees. */
static inline void end_fini(struct end *end)
{
    sp_pipe_close(end->pipe);
    MONITOR_WAIT(&end->monitor, end->closed_count > 0);
    assert_int_equal(end->closed_count, 1);
    sp_pipe_destroy(&end->pipe);
    assert_null(end->pipe);
    assert_int_equal(end->closed_count, 1);
    assert_int_equal(end->late_count, 0);
    monitor_fini(&end->monitor);
}

/* Receives once: the number of bytes, 0 when the pipe is closing. */
static inline size_t end_receive(struct end *end, void *buffer, size_t size)
{
    unsigned before = end->received_count;
    sp_pipe_receive(end->pipe, buffer, size);
    MONITOR_WAIT(&end->monitor, end->received_count > before || end->closed_count > 0);
    return end->received_count > before && end->received_error == WEIR_OK ? end->received_size : 0;
}

/* True when all size bytes came. */
static inline bool end_receive_all(struct end *end, void *buffer, size_t size)
{
    for (size_t done = 0; done < size;) {
        size_t got = end_receive(end, (char *)buffer + done, size - done);
        if (got == 0)
            return false;
        done += got;
    }
    return true;
}

static inline bool end_send(struct end *end, const void *data, size_t size)
{
    unsigned before = end->sent_count;
    const struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    sp_pipe_send(end->pipe, &part, 1);
    MONITOR_WAIT(&end->monitor, end->sent_count > before || end->closed_count > 0);
    return end->sent_count > before && end->sent_error == WEIR_OK;
}

struct server {
    struct monitor monitor;
    struct sp_listener *listener;
    struct sp_pipe *pipes[SERVER_PIPES_MAX];
    unsigned ready_count;
    unsigned taken_count;
    unsigned accept_count;
    unsigned refused_count;
    unsigned refused_by[WEIR_ERROR_COUNT];
    bool is_refusing; /* on_accept says no */
    char refused_peer[SP_PEER_SIZE_MAX];
    char accept_address[SP_ADDRESS_SIZE_MAX];
};

static inline bool server_accept(void *owner, const char *address)
{
    struct server *server = owner;
    pthread_mutex_lock(&server->monitor.lock);
    server->accept_count++;
    (void)snprintf(server->accept_address, sizeof server->accept_address, "%s", address);
    bool is_welcome = !server->is_refusing;
    pthread_cond_broadcast(&server->monitor.changed);
    pthread_mutex_unlock(&server->monitor.lock);
    return is_welcome;
}

static inline void server_ready(void *owner, struct sp_pipe *pipe)
{
    struct server *server = owner;
    pthread_mutex_lock(&server->monitor.lock);
    server->pipes[server->ready_count++ % SERVER_PIPES_MAX] = pipe;
    pthread_cond_broadcast(&server->monitor.changed);
    pthread_mutex_unlock(&server->monitor.lock);
}

static inline void server_refused(void *owner, const char *address, const char *peer, enum weir_error error,
                                  const char *reason)
{
    struct server *server = owner;
    (void)address;
    (void)reason;
    pthread_mutex_lock(&server->monitor.lock);
    server->refused_count++;
    server->refused_by[error]++;
    (void)snprintf(server->refused_peer, sizeof server->refused_peer, "%s", peer);
    pthread_cond_broadcast(&server->monitor.changed);
    pthread_mutex_unlock(&server->monitor.lock);
}

static const struct sp_listener_handlers server_handlers = {server_accept, server_ready, server_refused};

static inline void server_init(struct server *server, const char *url, uint64_t handshake_ms)
{
    const struct sp_listen_options options = {.handshake_ms = handshake_ms, .handshaking_max = 32};
    const char *reason = NULL;
    *server = (struct server){0};
    monitor_init(&server->monitor);
    enum weir_error error = sp_listen(url, &options, &server_handlers, server, &server->listener, &reason);
    if (error)
        fail_msg("cannot listen on %s: %s", url, reason);
}

/* The next pipe that became ready. */
static inline struct sp_pipe *server_take(struct server *server)
{
    MONITOR_WAIT(&server->monitor, server->ready_count > server->taken_count);
    return server->pipes[server->taken_count++ % SERVER_PIPES_MAX];
}

/* Pipes that nobody took are freed. */
static inline void server_fini(struct server *server)
{
    sp_listener_destroy(&server->listener);
    while (server->taken_count < server->ready_count)
        sp_pipe_destroy(&server->pipes[server->taken_count++ % SERVER_PIPES_MAX]);
    monitor_fini(&server->monitor);
}

/* A directory of its own for sockets. */
static inline void directory_make(char out[64])
{
    (void)snprintf(out, 64, "/tmp/weir_sp_XXXXXX");
    assert_non_null(mkdtemp(out));
}

static inline void directory_remove(const char *path)
{
    char lock[128];
    (void)snprintf(lock, sizeof lock, "%s/s.lock", path);
    (void)unlink(lock);
    assert_int_equal(rmdir(path), 0);
}

static inline bool is_ipc_url(const char *url) { return strncmp(url, "ipc://", 6) == 0; }

/* A plain socket to the listener; no byte sent yet. */
static inline int raw_connect(const char *url)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in host = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int raw = socket(is_ipc_url(url) ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(raw >= 0);
    (void)snprintf(local.sun_path, sizeof local.sun_path, "%s", url + 6);
    if (!is_ipc_url(url))
        host.sin_port = htons((uint16_t)atoi(strrchr(url, ':') + 1));
    const struct sockaddr *address = is_ipc_url(url) ? (const void *)&local : (const void *)&host;
    assert_int_equal(connect(raw, address, is_ipc_url(url) ? sizeof local : sizeof host), 0);
    return raw;
}

static inline void dial(struct end *end, const char *url)
{
    struct sp_pipe *pipe = NULL;
    const char *reason = NULL;
    enum weir_error error = sp_dial(url, SP_PAIR0, SP_PAIR0, 10000, &pipe, &reason);
    if (error)
        fail_msg("cannot dial %s: %s", url, reason);
    end_init(end, pipe);
}

static inline void over_tcp_and_ipc(void (*test)(const char *url))
{
    char directory[64];
    char url[96];
    test("tcp://127.0.0.1:0");
    directory_make(directory);
    (void)snprintf(url, sizeof url, "ipc://%s/s", directory);
    test(url);
    directory_remove(directory);
}

#endif
