/* Plain sockets and large batches through forward_tcp: what the machine itself allows. State: the forwarder keeps all
 * bytes and sends them to each subscriber at first. */
#include "tests/bench/peers/driver.h"
#include "tests/bench/peers/util.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FLUSH_SIZE = 64 * 1024 };

struct endpoint {
    struct options options;
    int fd;
    struct batch batch; /* publisher: not yet sent; subscriber: not yet delivered */
};

static void dial(struct endpoint *e)
{
    e->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET};
    to.sin_port = htons((uint16_t)port_of(e->options.address));
    inet_pton(AF_INET, host_of(e->options.address), &to.sin_addr);
    if (connect(e->fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("tcp: cannot connect to %s", e->options.address);
    int on = 1;
    setsockopt(e->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void *driver_open(const struct options *options)
{
    struct endpoint *e = allocate(sizeof *e);
    e->options = *options;
    e->fd = -1;
    if (options->role == SUBSCRIBER)
        batch_reserve(&e->batch, 2 * BATCH_LIMIT);
    if (options->role == PUBLISHER || !options->state)
        dial(e);
    return e;
}

/* The forwarder sends everything to everyone, at once. */
static void driver_subscribe(void *endpoint)
{
    struct endpoint *e = endpoint;
    if (e->fd < 0)
        dial(e);
}

static void driver_flush(void *endpoint)
{
    struct endpoint *e = endpoint;
    if (e->batch.size == 0)
        return;
    uint32_t length = (uint32_t)e->batch.size;
    struct iovec parts[] = {{&length, sizeof length}, {e->batch.data, e->batch.size}};
    for (int first = 0; first < 2;) {
        ssize_t n = writev(e->fd, parts + first, 2 - first);
        if (n < 0)
            die("tcp: cannot write");
        for (; first < 2 && (size_t)n >= parts[first].iov_len; first++)
            n -= (ssize_t)parts[first].iov_len;
        if (first < 2) {
            parts[first].iov_base = (char *)parts[first].iov_base + n;
            parts[first].iov_len -= (size_t)n;
        }
    }
    e->batch.size = 0;
}

static void driver_publish(void *endpoint, unsigned topic, const void *data, size_t size)
{
    (void)topic;
    struct endpoint *e = endpoint;
    batch_add(&e->batch, data, size);
    if (e->batch.size >= FLUSH_SIZE)
        driver_flush(e);
}

/* The forwarder ends a connection when it has read all of it. */
static void driver_sync(void *endpoint)
{
    struct endpoint *e = endpoint;
    char byte = 0;
    driver_flush(e);
    if (shutdown(e->fd, SHUT_WR) != 0 || read(e->fd, &byte, 1) != 0)
        die("tcp: the forwarder did not take all");
    close(e->fd);
    dial(e);
}

static void driver_poll(void *endpoint, int timeout_ms)
{
    struct endpoint *e = endpoint;
    struct batch *b = &e->batch;
    struct pollfd p = {.fd = e->fd, .events = POLLIN};
    if (poll(&p, 1, timeout_ms) <= 0)
        return;
    ssize_t n = read(e->fd, b->data + b->size, b->capacity - b->size);
    if (n <= 0)
        die("tcp: connection lost");
    b->size += (size_t)n;

    size_t done = 0;
    for (uint32_t length; b->size - done >= sizeof length; done += sizeof length + length) {
        memcpy(&length, b->data + done, sizeof length);
        if (b->size - done - sizeof length < length) {
            batch_reserve(b, 2 * (sizeof length + (size_t)length));
            break;
        }
        batch_each(b->data + done + sizeof length, length, e->options.on_message, e->options.context);
    }
    b->size -= done;
    memmove(b->data, b->data + done, b->size);
}

static void driver_close(void *endpoint)
{
    struct endpoint *e = endpoint;
    close(e->fd);
    free(e->batch.data);
    free(e);
}

const struct driver drivers[] = {
    {
        .name = "tcp",
        .max_topics = 1,
        .keeps_state = true,
        .open = driver_open,
        .subscribe = driver_subscribe,
        .publish = driver_publish,
        .flush = driver_flush,
        .sync = driver_sync,
        .poll = driver_poll,
        .close = driver_close,
    },
    {.name = NULL},
};
