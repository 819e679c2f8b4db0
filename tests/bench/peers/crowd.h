/* Very many sessions with a Weir broker in one process and one thread: the wire protocol of clients/PROTOCOL.md on
 * plain sockets and epoll, since a thread and buffers for each, as a client library has them, would be what is
 * measured. Frames are counted, not kept: of each only its first bytes are looked at.
 *
 * One thread uses a crowd. Every failure, also a session that the broker ends, ends the process through die(). */
#ifndef TESTS_BENCH_PEERS_CROWD_H
#define TESTS_BENCH_PEERS_CROWD_H

#include <stdbool.h>
#include <stdint.h>

#include "clients/wire/frame.h"
#include "tests/bench/peers/hist.h"

enum { CROWD_HEAD_SIZE = 256 /* holds every frame but data frames, and the first record of those */ };

struct crowd;

struct crowd_session {
    struct crowd *crowd;
    int fd;
    unsigned header_left; /* of the broker's SP header */
    unsigned prefix_size; /* of the message's length; 8: a body follows */
    uint64_t body_size, body_left;
    uint8_t prefix[8], head[CROWD_HEAD_SIZE];
    uint64_t consumed, granted;      /* bytes of data frames */
    uint64_t may_publish, published; /* the broker's grant, and what of it is used, in bytes */
    uint64_t number, acked;          /* records published, and answered for */
    uint64_t updates;                /* records that came as updates */
};

struct crowd {
    int epoll;
    unsigned capacity, count;
    struct crowd_session *sessions;
    uint64_t window; /* bytes each session lets the broker send ahead */
    /* Sums over all sessions. */
    uint64_t hellos, standing, ended, bytes, updates, acked;
    struct histogram *latency; /* of updates whose values begin with the time they were due; NULL: not measured */
};

void crowd_init(struct crowd *crowd, unsigned capacity, uint64_t window);

/* Connects `count` more sessions to tcp://HOST:PORT and waits until the broker has greeted each. Returns the first. */
struct crowd_session *crowd_connect(struct crowd *crowd, const char *url, unsigned count);

/* Takes in what has come, waiting for it at most timeout_ms; grants credit and answers pings. */
void crowd_poll(struct crowd *crowd, int timeout_ms);

/* Polls until *sum has reached `wanted`; dies after patience_s, saying what was waited for. */
void crowd_await(struct crowd *crowd, const uint64_t *sum, uint64_t wanted, double patience_s, const char *what);

/* Sends a frame; waits for room in the socket. */
void crowd_send(struct crowd_session *session, const struct frame *frame);
void crowd_subscribe(struct crowd_session *session, uint32_t sub, const char *pattern, enum overflow_policy policy);

/* From now on nothing is read from it, not even pings. */
void crowd_stall(struct crowd_session *session);

/* Closes all connections; the crowd may be used again. */
void crowd_close(struct crowd *crowd);

#endif
