/* Very many sessions in one thread; see crowd.h. */
#include "tests/bench/peers/crowd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clients/sp/framing.h"
#include "tests/bench/peers/util.h"

enum {
    READ_SIZE = 256 * 1024,
    READS_A_TURN = 4, /* of one session, so that each gets its turn */
    AT_ONCE = 256,    /* connections in their handshake; the broker bounds them */
    DEPTH_MAX = 16,
    SEND_WAIT_MS = 60000,
    CONNECT_S = 60
};

void crowd_init(struct crowd *crowd, unsigned capacity, uint64_t window)
{
    *crowd = (struct crowd){.capacity = capacity, .window = window, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    crowd->sessions = allocate(capacity * sizeof *crowd->sessions);
}

/* ------------------------------------------------------------------------------------------------ sending */

static void send_bytes(struct crowd_session *s, const uint8_t *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(s->fd, data + done, size - done);
        struct pollfd p = {.fd = s->fd, .events = POLLOUT};
        if (n > 0)
            done += (size_t)n;
        else if (errno != EAGAIN || poll(&p, 1, SEND_WAIT_MS) <= 0)
            die("crowd: session %ld: write: %s", (long)(s - s->crowd->sessions), strerror(errno));
    }
}

void crowd_send(struct crowd_session *s, const struct frame *frame)
{
    uint8_t bytes[8192];
    struct value_writer writer;
    value_writer_init(&writer, bytes + 8, sizeof bytes - 8);
    frame_write(&writer, frame);
    if (writer.is_full)
        die("crowd: a frame of more than %zu bytes", sizeof bytes);
    sp_prefix_write(bytes, false, writer.size);
    send_bytes(s, bytes, 8 + writer.size);
    if (frame->op == FRAME_PUBLISH)
        s->published += writer.size;
}

void crowd_subscribe(struct crowd_session *s, uint32_t sub, const char *pattern, enum overflow_policy policy)
{
    struct frame frame = {
        .op = FRAME_SUBSCRIBE,
        .as.subscribe = {
            .sub = sub, .pattern = view_text(pattern), .policy = policy, .snapshot = true, .updates = true}};
    crowd_send(s, &frame);
}

static void grant(struct crowd_session *s)
{
    if (s->consumed + s->crowd->window / 2 <= s->granted)
        return;
    s->granted = s->consumed + s->crowd->window;
    crowd_send(s, &(struct frame){.op = FRAME_CREDIT, .as.credit.total = s->granted});
}

/* ---------------------------------------------------------------------------------------------- receiving */

/* Skips a msgpack array's header; returns its count. */
static uint32_t skip_array(const uint8_t **at)
{
    const uint8_t *p = *at;
    unsigned size = *p == 0xdc ? 2 : *p == 0xdd ? 4 : 0;
    uint32_t count = size == 0 ? *p & 0x0f : 0;
    for (unsigned i = 0; i < size; i++)
        count = count << 8 | p[1 + i];
    *at = p + 1 + size;
    return count;
}

/* UPDATES [24, feed, seq, [key|nil, value, ...]]: counts the records; a value is a bin that begins with its due time.
 */
static void on_updates(struct crowd_session *s)
{
    struct crowd *crowd = s->crowd;
    struct value_reader reader;
    value_reader_init(&reader, (struct view){s->head + 2, CROWD_HEAD_SIZE - 2}, DEPTH_MAX);
    value_read_uint(&reader);
    value_read_uint(&reader);
    const uint8_t *at = reader.rest.data;
    uint32_t count = skip_array(&at) / 2;
    s->updates += count;
    crowd->updates += count;
    if (crowd->latency == NULL || at[0] != 0xc0 || (at[1] & 0xfc) != 0xc4)
        return;
    uint64_t due = 0, now = now_ns();
    memcpy(&due, at + (at[1] == 0xc4 ? 3 : at[1] == 0xc5 ? 4 : 6), sizeof due);
    hist_add(crowd->latency, now > due ? now - due : 0);
}

static void on_control(struct crowd_session *s)
{
    struct crowd *crowd = s->crowd;
    struct frame frame;
    const char *reason = "too long";
    if (s->body_size > CROWD_HEAD_SIZE ||
        frame_read((struct view){s->head, (size_t)s->body_size}, DEPTH_MAX, &frame, &reason) != WEIR_OK)
        die("crowd: a frame of op %u: %s", s->head[1], reason);
    if (frame.op == FRAME_HELLO) {
        s->may_publish = frame.as.hello.credit;
        crowd->hellos++;
    } else if (frame.op == FRAME_CREDIT) {
        s->may_publish = frame.as.credit.total;
    } else if (frame.op == FRAME_PING) {
        crowd_send(s, &(struct frame){.op = FRAME_PONG, .as.pong.n = frame.as.ping.n});
    } else if (frame.op == FRAME_ACK) {
        s->acked += frame.as.ack.count;
        crowd->acked += frame.as.ack.count;
    } else if (frame.op == FRAME_SUBSCRIBED) {
        crowd->standing++;
    } else if (frame.op == FRAME_END) {
        crowd->ended++;
    } else if (frame.op == FRAME_CLOSE || frame.op == FRAME_REFUSED || frame.op == FRAME_UNSUBSCRIBED ||
               frame.op == FRAME_ENDED) {
        die("crowd: session %ld got %s: %.*s", (long)(s - crowd->sessions), frame_op_name(frame.op),
            frame.op == FRAME_CLOSE ? (int)frame.as.close.message.size : 0, (const char *)frame.as.close.message.data);
    }
}

static void on_frame(struct crowd_session *s)
{
    enum frame_op op = (enum frame_op)s->head[1]; /* behind an array's header of one byte */
    if (op == FRAME_ENTRIES || op == FRAME_UPDATES) {
        s->consumed += s->body_size;
        s->crowd->bytes += s->body_size;
        if (op == FRAME_UPDATES)
            on_updates(s);
        grant(s);
    } else {
        on_control(s);
    }
}

static size_t take_prefix(struct crowd_session *s, const uint8_t *data)
{
    s->prefix[s->prefix_size++] = *data;
    if (s->prefix_size == sizeof s->prefix) {
        s->body_size = 0;
        for (unsigned i = 0; i < sizeof s->prefix; i++)
            s->body_size = s->body_size << 8 | s->prefix[i];
        s->body_left = s->body_size;
    }
    return 1;
}

static size_t take_body(struct crowd_session *s, const uint8_t *data, size_t size)
{
    size_t taken = size < s->body_left ? size : (size_t)s->body_left;
    uint64_t at = s->body_size - s->body_left;
    if (at < CROWD_HEAD_SIZE)
        memcpy(s->head + at, data, taken < CROWD_HEAD_SIZE - at ? taken : CROWD_HEAD_SIZE - at);
    s->body_left -= taken;
    if (s->body_left == 0) {
        s->prefix_size = 0;
        on_frame(s);
    }
    return taken;
}

static void take(struct crowd_session *s, const uint8_t *data, size_t size)
{
    while (size > 0) {
        size_t taken = 1;
        if (s->header_left > 0)
            s->header_left--;
        else if (s->prefix_size < sizeof s->prefix)
            taken = take_prefix(s, data);
        else
            taken = take_body(s, data, size);
        data += taken;
        size -= taken;
    }
}

static void read_session(struct crowd_session *s)
{
    static uint8_t buffer[READ_SIZE];
    for (int i = 0; i < READS_A_TURN; i++) {
        ssize_t n = read(s->fd, buffer, sizeof buffer);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            die("crowd: session %ld of %u was cut off: %s", (long)(s - s->crowd->sessions), s->crowd->count,
                n == 0 ? "end of stream" : strerror(errno));
        if (n < 0)
            return;
        take(s, buffer, (size_t)n);
        if ((size_t)n < sizeof buffer)
            return;
    }
}

void crowd_poll(struct crowd *crowd, int timeout_ms)
{
    struct epoll_event events[AT_ONCE];
    int count = epoll_wait(crowd->epoll, events, AT_ONCE, timeout_ms);
    for (int i = 0; i < count; i++)
        read_session(events[i].data.ptr);
}

void crowd_await(struct crowd *crowd, const uint64_t *sum, uint64_t wanted, double patience_s, const char *what)
{
    uint64_t deadline = now_ns() + (uint64_t)(patience_s * 1e9);
    while (*sum < wanted) {
        if (now_ns() > deadline)
            die("crowd: %lu of %lu %s after %.0f s", (unsigned long)*sum, (unsigned long)wanted, what, patience_s);
        crowd_poll(crowd, 100);
    }
}

/* ------------------------------------------------------------------------------------------------ sessions */

static void dial(struct crowd_session *s, const char *url)
{
    const char *address = url + strlen("tcp://");
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port_of(address))};
    int on = 1;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (strncmp(url, "tcp://", 6) != 0 || inet_pton(AF_INET, host_of(address), &to.sin_addr) != 1 ||
        connect(s->fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("crowd: cannot connect to %s: %s", url, strerror(errno));
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(s->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
    if (epoll_ctl(s->crowd->epoll, EPOLL_CTL_ADD, s->fd, &event) != 0)
        die("crowd: epoll: %s", strerror(errno));
}

static void greet(struct crowd_session *s)
{
    uint8_t header[SP_HEADER_SIZE];
    sp_header_write(header, SP_PAIR0);
    send_bytes(s, header, sizeof header);
    s->granted = s->crowd->window;
    struct frame hello = {
        .op = FRAME_HELLO,
        .as.hello = {
            .version = SESSION_VERSION, .credit = s->granted, .message_max = 1 << 20, .peer = view_text("crowd")}};
    crowd_send(s, &hello);
}

struct crowd_session *crowd_connect(struct crowd *crowd, const char *url, unsigned count)
{
    struct crowd_session *first = &crowd->sessions[crowd->count];
    uint64_t hellos = crowd->hellos;
    if (count > crowd->capacity - crowd->count)
        die("crowd: more than %u sessions", crowd->capacity);
    for (unsigned i = 0; i < count; i++) {
        struct crowd_session *s = &crowd->sessions[crowd->count++];
        *s = (struct crowd_session){.crowd = crowd, .header_left = SP_HEADER_SIZE};
        dial(s, url);
        greet(s);
        if (i % AT_ONCE == AT_ONCE - 1 || i == count - 1)
            crowd_await(crowd, &crowd->hellos, hellos + i + 1, CONNECT_S, "sessions were greeted");
    }
    return first;
}

void crowd_stall(struct crowd_session *s) { epoll_ctl(s->crowd->epoll, EPOLL_CTL_DEL, s->fd, NULL); }

void crowd_close(struct crowd *crowd)
{
    for (unsigned i = 0; i < crowd->count; i++)
        close(crowd->sessions[i].fd);
    crowd->count = 0;
}
