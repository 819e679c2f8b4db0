/* What SP pipes cost: an echo round trip and a one-way stream, over tcp and ipc, with the plain calls (each completion
 * comes through a poller's thread) and with the _now calls (done in the caller's thread when they can be).
 *
 * sp_bench [rounds] [stream_mebibytes] [name]: name picks one run. Each run has a server process of its own, forked
 * before any thread. */
#include "clients/sp/inbox.h"
#include "clients/sp/pipe.h"

#include "actors/base/clock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define BODY_SIZE 128
#define BUFFER_SIZE 65536
#define URL_SIZE 128
/* Receives in a row before the handler gives its thread back. */
#define NOW_ROUNDS_MAX 64

struct run {
    const char *name;
    const char *url;
    bool is_stream;
    bool is_now;
};

static void fail(const char *what, const char *reason)
{
    (void)fprintf(stderr, "sp_bench: %s: %s\n", what, reason ? reason : "failed");
    exit(1);
}

/* The server: one connection, handled on a poller's thread. */

struct service {
    struct sp_pipe *pipe;
    const struct run *run;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool is_ended;
    uint64_t messages;
    uint64_t receives;
    struct sp_inbox inbox;
    size_t echo_size;
    uint8_t echo[BUFFER_SIZE];
};

static void service_receive(struct service *service)
{
    void *space;
    size_t room;
    if (sp_inbox_reserve(&service->inbox, &space, &room))
        fail("receive", "no memory");
    sp_pipe_receive(service->pipe, space, room);
}

static void service_count(struct service *service, size_t size)
{
    const uint8_t *body;
    sp_inbox_commit(&service->inbox, size);
    service->receives++;
    while (sp_inbox_next(&service->inbox, &body, &size) == WEIR_OK)
        service->messages++;
}

/* Sends back what came, as it is: prefixes and all. */
static bool service_echo(struct service *service, size_t size)
{
    memcpy(service->echo, service->inbox.data + service->inbox.end, size);
    const struct iovec part = {service->echo, size};
    size_t sent = 0;
    if (service->run->is_now && sp_pipe_send_now(service->pipe, &part, 1, &sent) == WEIR_OK)
        return true;
    sp_pipe_send(service->pipe, &part, 1);
    return false;
}

static void service_take(struct service *service, size_t size)
{
    if (service->run->is_stream) {
        service_count(service, size);
        for (unsigned i = 0; service->run->is_now && i < NOW_ROUNDS_MAX; i++) {
            void *space;
            size_t room;
            if (sp_inbox_reserve(&service->inbox, &space, &room))
                fail("receive", "no memory");
            if (sp_pipe_receive_now(service->pipe, space, room, &size))
                break;
            service_count(service, size);
        }
        service_receive(service);
    } else if (service_echo(service, size)) {
        service_receive(service);
    }
}

static void service_received(void *owner, size_t size, enum weir_error error)
{
    if (!error)
        service_take(owner, size);
}

static void service_sent(void *owner, enum weir_error error)
{
    if (!error)
        service_receive(owner);
}

static void service_closed(void *owner)
{
    struct service *service = owner;
    pthread_mutex_lock(&service->lock);
    service->is_ended = true;
    pthread_cond_signal(&service->ended);
    pthread_mutex_unlock(&service->lock);
}

static const struct sp_pipe_handlers service_handlers = {service_received, service_sent, service_closed};

static bool service_accept(void *owner, const char *address)
{
    (void)owner;
    (void)address;
    return true;
}

static void service_ready(void *owner, struct sp_pipe *pipe)
{
    struct service *service = owner;
    service->pipe = pipe;
    sp_pipe_start(pipe, &service_handlers, service);
    service_receive(service);
}

static void service_refused(void *owner, const char *address, const char *peer, enum weir_error error,
                            const char *reason)
{
    (void)owner;
    (void)address;
    (void)error;
    fail(peer, reason);
}

static double cpu_s(void) { return (double)clock_cpu_ns() / (double)NS_PER_S; }

static void server_run(const struct run *run, int url_out, int result_out)
{
    static struct service service;
    const struct sp_listen_options options = {.handshake_ms = 5000, .handshaking_max = 4};
    const struct sp_listener_handlers handlers = {service_accept, service_ready, service_refused};
    struct sp_listener *listener;
    const char *reason;
    char url[URL_SIZE] = {0};
    service.run = run;
    pthread_mutex_init(&service.lock, NULL);
    pthread_cond_init(&service.ended, NULL);
    sp_inbox_init(&service.inbox, strncmp(run->url, "ipc", 3) == 0, BUFFER_SIZE, 1 << 20);
    if (sp_listen(run->url, &options, &handlers, &service, &listener, &reason))
        fail(run->url, reason);
    (void)snprintf(url, sizeof url, "%s", sp_listener_url(listener));
    if (write(url_out, url, sizeof url) != sizeof url)
        fail("pipe", NULL);
    pthread_mutex_lock(&service.lock);
    while (!service.is_ended)
        pthread_cond_wait(&service.ended, &service.lock);
    pthread_mutex_unlock(&service.lock);
    double result[3] = {(double)service.messages, (double)service.receives, cpu_s()};
    if (write(result_out, result, sizeof result) != sizeof result)
        fail("pipe", NULL);
    sp_pipe_destroy(&service.pipe);
    sp_listener_destroy(&listener);
}

/* The client: the main thread waits for its handlers. */

struct client {
    struct sp_pipe *pipe;
    const struct run *run;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t received;
    bool is_sent;
    bool is_closed;
};

static void client_received(void *owner, size_t size, enum weir_error error)
{
    struct client *client = owner;
    pthread_mutex_lock(&client->lock);
    client->received += error ? 0 : size;
    pthread_cond_signal(&client->changed);
    pthread_mutex_unlock(&client->lock);
}

static void client_sent(void *owner, enum weir_error error)
{
    struct client *client = owner;
    (void)error;
    pthread_mutex_lock(&client->lock);
    client->is_sent = true;
    pthread_cond_signal(&client->changed);
    pthread_mutex_unlock(&client->lock);
}

static void client_closed(void *owner)
{
    struct client *client = owner;
    pthread_mutex_lock(&client->lock);
    client->is_closed = true;
    pthread_cond_signal(&client->changed);
    pthread_mutex_unlock(&client->lock);
}

static const struct sp_pipe_handlers client_handlers = {client_received, client_sent, client_closed};

static void client_send(struct client *client, uint8_t *data, size_t size)
{
    struct iovec part = {data, size};
    size_t sent = 0;
    if (client->run->is_now && sp_pipe_send_now(client->pipe, &part, 1, &sent) == WEIR_OK)
        return;
    part = (struct iovec){data + sent, size - sent};
    client->is_sent = false;
    sp_pipe_send(client->pipe, &part, 1);
    pthread_mutex_lock(&client->lock);
    while (!client->is_sent && !client->is_closed)
        pthread_cond_wait(&client->changed, &client->lock);
    pthread_mutex_unlock(&client->lock);
}

static void client_receive(struct client *client, uint8_t *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        client->received = 0;
        sp_pipe_receive(client->pipe, data + done, size - done);
        pthread_mutex_lock(&client->lock);
        while (client->received == 0 && !client->is_closed)
            pthread_cond_wait(&client->changed, &client->lock);
        done += client->received;
        pthread_mutex_unlock(&client->lock);
        if (client->is_closed)
            fail("echo", "closed");
    }
}

static int ns_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void echo_run(struct client *client, size_t rounds)
{
    uint8_t message[SP_PREFIX_SIZE_MAX + BODY_SIZE] = {0};
    uint8_t copy[sizeof message];
    bool is_ipc = sp_pipe_is_ipc(client->pipe);
    size_t size = sp_prefix_size(is_ipc) + BODY_SIZE;
    uint64_t *took = malloc(rounds * sizeof *took);
    if (!took)
        fail("echo", "no memory");
    sp_prefix_write(message, is_ipc, BODY_SIZE);
    for (size_t i = 0; i < rounds; i++) {
        uint64_t begin = clock_now_ns();
        client_send(client, message, size);
        client_receive(client, copy, size);
        took[i] = clock_now_ns() - begin;
    }
    qsort(took, rounds, sizeof *took, ns_compare);
    (void)printf("%-22s round trip p50 %6.1f us  p99 %6.1f us", client->run->name, (double)took[rounds / 2] / 1000,
                 (double)took[rounds * 99 / 100] / 1000);
    free(took);
}

static void stream_run(struct client *client, size_t mebibytes)
{
    static uint8_t buffer[BUFFER_SIZE];
    bool is_ipc = sp_pipe_is_ipc(client->pipe);
    size_t message_size = sp_prefix_size(is_ipc) + BODY_SIZE;
    size_t used = 0;
    for (; used + message_size <= sizeof buffer; used += message_size)
        sp_prefix_write(buffer + used, is_ipc, BODY_SIZE);
    for (size_t i = 0; i < mebibytes * 16; i++)
        client_send(client, buffer, used);
}

static void client_close(struct client *client)
{
    sp_pipe_close(client->pipe);
    pthread_mutex_lock(&client->lock);
    while (!client->is_closed)
        pthread_cond_wait(&client->changed, &client->lock);
    pthread_mutex_unlock(&client->lock);
    sp_pipe_destroy(&client->pipe);
}

static void client_run(const struct run *run, const char *url, int result_in, size_t rounds, size_t mebibytes)
{
    struct client client = {.run = run};
    const char *reason;
    double result[3];
    pthread_mutex_init(&client.lock, NULL);
    pthread_cond_init(&client.changed, NULL);
    if (sp_dial(url, SP_PAIR0, SP_PAIR0, 5000, &client.pipe, &reason))
        fail(url, reason);
    sp_pipe_start(client.pipe, &client_handlers, &client);
    uint64_t begin = clock_now_ns();
    if (run->is_stream)
        stream_run(&client, mebibytes);
    else
        echo_run(&client, rounds);
    client_close(&client);
    if (read(result_in, result, sizeof result) != sizeof result)
        fail("pipe", NULL);
    double took_s = (double)(clock_now_ns() - begin) / (double)NS_PER_S;
    if (run->is_stream)
        (void)printf("%-22s %5.2f M msg/s  %6.0f MB/s  receiver CPU %5.0f ns/msg  %5.0f bytes a receive\n", run->name,
                     result[0] / took_s / 1e6, result[0] * (BODY_SIZE + 8) / took_s / 1e6, result[2] / result[0] * 1e9,
                     result[0] * (BODY_SIZE + 8) / result[1]);
    else
        (void)printf("  CPU a round trip: server %5.1f us  client %5.1f us\n", result[2] / (double)rounds * 1e6,
                     cpu_s() / (double)rounds * 1e6);
}

/* Both sides are children, so that each has its own CPU clock and threads that were never forked. */
static void run_start(const struct run *run, size_t rounds, size_t mebibytes)
{
    int url_ends[2];
    int result_ends[2];
    char url[URL_SIZE];
    if (pipe(url_ends) != 0 || pipe(result_ends) != 0)
        fail("pipe", NULL);
    (void)fflush(stdout);
    pid_t server = fork();
    if (server == 0) {
        server_run(run, url_ends[1], result_ends[1]);
        exit(0);
    }
    if (read(url_ends[0], url, sizeof url) != sizeof url)
        fail(run->name, "the server did not start");
    pid_t client = fork();
    if (client == 0) {
        client_run(run, url, result_ends[0], rounds, mebibytes);
        exit(0);
    }
    (void)waitpid(client, NULL, 0);
    (void)waitpid(server, NULL, 0);
    for (unsigned i = 0; i < 2; i++) {
        close(url_ends[i]);
        close(result_ends[i]);
    }
}

int main(int argc, char **argv)
{
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 20000;
    size_t mebibytes = argc > 2 ? strtoul(argv[2], NULL, 10) : 2000;
    char directory[] = "/tmp/sp_bench_XXXXXX";
    char ipc[URL_SIZE];
    char lock[URL_SIZE];
    if (!mkdtemp(directory) || rounds == 0 || mebibytes == 0)
        fail("usage", "sp_bench [rounds] [stream_mebibytes] [name]");
    (void)snprintf(ipc, sizeof ipc, "ipc://%s/s", directory);
    (void)snprintf(lock, sizeof lock, "%s/s.lock", directory);
    const char *tcp = "tcp://127.0.0.1:0";
    const struct run runs[] = {{"tcp echo", tcp, false, false},        {"tcp echo, now", tcp, false, true},
                               {"ipc echo", ipc, false, false},        {"ipc echo, now", ipc, false, true},
                               {"tcp stream 128 B", tcp, true, false}, {"tcp stream 128 B, now", tcp, true, true},
                               {"ipc stream 128 B", ipc, true, false}, {"ipc stream 128 B, now", ipc, true, true}};
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        if (argc < 4 || strcmp(argv[3], runs[i].name) == 0)
            run_start(&runs[i], rounds, mebibytes);
    }
    (void)unlink(lock);
    (void)rmdir(directory);
    return 0;
}
