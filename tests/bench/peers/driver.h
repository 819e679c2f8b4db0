/* The interface between the load generator (bench.c) and one message system.
 *
 * A driver is one C file named driver_<library>.c that defines `drivers`, an array ended by an
 * entry without a name. An endpoint is one connection; one thread at a time uses it.
 * Every failure ends the process through die(): a benchmark has nothing to recover. */
#ifndef TESTS_BENCH_PEERS_DRIVER_H
#define TESTS_BENCH_PEERS_DRIVER_H

#include <stdbool.h>
#include <stddef.h>

enum role { PUBLISHER, SUBSCRIBER };

struct options {
    enum role role;
    const char *address; /* where the broker listens, in the driver's own notation */
    unsigned topics;     /* topics are numbered 0 .. topics-1 */
    bool prompt;         /* latency counts for more than batching */
    bool state;          /* publish sets the last value of a topic; subscribe delivers them all */

    /* Called for each message, by poll or by a thread of the library, never by two at once. */
    void (*on_message)(void *context, const void *data, size_t size);
    void *context;
};

struct driver {
    const char *name;
    unsigned max_topics;     /* 0: no limit */
    unsigned max_window;     /* messages on their way without loss or harm; 0: no limit */
    unsigned max_window_kib; /* the same in KiB */
    bool keeps_state;        /* options.state is supported */
    bool subscribes_to_all;  /* subscribe does not grow with the number of topics */

    void *(*open)(const struct options *options);
    /* Subscribe to all topics; return once the broker has confirmed it, where it does so. */
    void (*subscribe)(void *endpoint);
    /* May buffer, and may pass on what is buffered. */
    void (*publish)(void *endpoint, unsigned topic, const void *data, size_t size);
    /* Pass on what publish has buffered and take in acknowledgements, without waiting for any. */
    void (*flush)(void *endpoint);
    /* Wait until the broker has accepted all that was published; only needed with keeps_state. */
    void (*sync)(void *endpoint);
    /* Deliver messages to on_message; return when none came for timeout_ms, or earlier. */
    void (*poll)(void *endpoint, int timeout_ms);
    void (*close)(void *endpoint);
};

extern const struct driver drivers[];

#endif
