/* Names of actors: a hash table in a few parts, each with a lock. See runtime.h. */
#ifndef ACTORS_RUNTIME_REGISTRY_H
#define ACTORS_RUNTIME_REGISTRY_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct registry_entry;

enum { REGISTRY_PARTS = 16 };

/* Longest name: a topic's (TOPIC_NAME_SIZE_MAX) and a prefix that says what kind of thing it is. */
#define REGISTRY_NAME_SIZE_MAX ((size_t)512)

/* All of a part under its lock. */
struct registry_part {
    pthread_mutex_t lock;
    struct registry_entry **buckets;
    uint32_t buckets_count; /* a power of two, or 0 */
    uint32_t count;
};

struct registry {
    struct registry_part parts[REGISTRY_PARTS];
};

void registry_init(struct registry *registry);
void registry_fini(struct registry *registry);

#endif
