/* forward_tcp PORT: copies each batch of every publisher (on PORT) to all subscribers (PORT+1). It looks at nothing but
 * the length of a batch, and blocks when a subscriber is slow. What comes before the first subscriber is kept for it:
 * the least that joining to some state can cost. */
#include "tests/bench/peers/util.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_PUBLISHERS = 64, MAX_SUBSCRIBERS = 16384, PUBLISHERS_AT = 0, SUBSCRIBERS_AT, FIRST };

static struct pollfd watched[FIRST + MAX_PUBLISHERS];
static struct batch inputs[FIRST + MAX_PUBLISHERS];
static unsigned watched_count = FIRST;
static int subscribers[MAX_SUBSCRIBERS];
static unsigned subscriber_count;
static struct batch kept;

static int listen_at(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 1024) != 0)
        die("forward_tcp: cannot listen at %d", port);
    return fd;
}

static int accept_at(int listener)
{
    int fd = accept(listener, NULL, NULL), on = 1;
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static bool send_all(int fd, const char *data, size_t size)
{
    ssize_t n = 0;
    for (size_t done = 0; done < size && n >= 0; done += (size_t)n)
        n = write(fd, data + done, size - done);
    return n >= 0;
}

static void send_to_all(const char *data, size_t size)
{
    if (subscriber_count == 0) {
        if (kept.size + size > kept.capacity)
            batch_reserve(&kept, 2 * (kept.size + size));
        memcpy(kept.data + kept.size, data, size);
        kept.size += size;
    }
    for (unsigned i = 0; i < subscriber_count;) {
        if (send_all(subscribers[i], data, size)) {
            i++;
        } else {
            close(subscribers[i]);
            subscribers[i] = subscribers[--subscriber_count];
        }
    }
}

/* Returns false at the end of the publisher's stream. */
static bool forward(int fd, struct batch *in)
{
    ssize_t n = read(fd, in->data + in->size, in->capacity - in->size);
    if (n <= 0)
        return false;
    in->size += (size_t)n;
    size_t whole = 0;
    for (uint32_t length; in->size - whole >= sizeof length; whole += sizeof length + length) {
        memcpy(&length, in->data + whole, sizeof length);
        if (in->size - whole - sizeof length < length) {
            batch_reserve(in, 2 * (sizeof length + (size_t)length));
            break;
        }
    }
    if (whole > 0)
        send_to_all(in->data, whole);
    in->size -= whole;
    memmove(in->data, in->data + whole, in->size);
    return true;
}

static void accept_subscriber(void)
{
    int fd = accept_at(watched[SUBSCRIBERS_AT].fd);
    if (fd < 0)
        return;
    if (kept.size > 0 && !send_all(fd, kept.data, kept.size)) {
        close(fd);
        return;
    }
    kept.size = 0;
    subscribers[subscriber_count++] = fd;
}

/* Those who only knocked are no subscribers. */
static void forget_closed(void)
{
    char byte = 0;
    for (unsigned i = 0; i < subscriber_count;) {
        if (recv(subscribers[i], &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0) {
            i++;
            continue;
        }
        close(subscribers[i]);
        subscribers[i] = subscribers[--subscriber_count];
    }
}

static void accept_publisher(void)
{
    int fd = accept_at(watched[PUBLISHERS_AT].fd);
    if (fd < 0)
        return;
    forget_closed();
    watched[watched_count] = (struct pollfd){.fd = fd, .events = POLLIN};
    inputs[watched_count] = (struct batch){0};
    batch_reserve(&inputs[watched_count], 2 * BATCH_LIMIT);
    watched_count++;
}

static void forward_all(void)
{
    for (unsigned i = watched_count; i-- > FIRST;) {
        if (watched[i].revents == 0 || forward(watched[i].fd, &inputs[i]))
            continue;
        close(watched[i].fd);
        free(inputs[i].data);
        watched_count--;
        watched[i] = watched[watched_count];
        inputs[i] = inputs[watched_count];
    }
}

int main(int argc, char **argv)
{
    if (argc != 2)
        die("usage: forward_tcp PORT");
    signal(SIGPIPE, SIG_IGN);
    watched[PUBLISHERS_AT] = (struct pollfd){.fd = listen_at(atoi(argv[1])), .events = POLLIN};
    watched[SUBSCRIBERS_AT] = (struct pollfd){.fd = listen_at(atoi(argv[1]) + 1), .events = POLLIN};
    while (poll(watched, watched_count, -1) > 0) {
        forward_all();
        if (watched[SUBSCRIBERS_AT].revents != 0 && subscriber_count < MAX_SUBSCRIBERS)
            accept_subscriber();
        if (watched[PUBLISHERS_AT].revents != 0 && watched_count < FIRST + MAX_PUBLISHERS)
            accept_publisher();
    }
    return 0;
}
