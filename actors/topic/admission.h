/* The admission of snapshots: a token bucket that all topics of a broker share, so that a storm of joiners gets its
 * snapshots one after another instead of all at once, ahead of everybody's updates. While there is enough, topics take
 * it by themselves; else a feed asks the directory (directory_admission.c), which gives what comes to one subscriber
 * after another. Any thread. */
#ifndef ACTORS_TOPIC_ADMISSION_H
#define ACTORS_TOPIC_ADMISSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct admission {
    uint64_t bytes_per_s; /* 0: no bound */
    uint64_t burst_ns;    /* the burst, as the time in which it comes */
    /* When all that was taken has come. A counter of time, not an order of memory: relaxed. */
    _Atomic uint64_t horizon_ns;
    _Atomic uint32_t waiting; /* feeds that asked the directory; who comes now must not pass them. Relaxed: a hint */
};

void admission_init(struct admission *admission, uint64_t bytes_per_s, uint64_t burst_bytes);
/* Takes bytes out of the bucket, beyond its bottom if need be, unless it was at the bottom: however large a snapshot
 * is, it is let in, and who comes next waits the longer. */
bool admission_take(struct admission *admission, uint64_t now_ns, uint64_t bytes);
/* When the bucket is above its bottom again. */
uint64_t admission_due_ns(const struct admission *admission);

#endif
