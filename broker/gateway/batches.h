/* The topics that a publisher knows by name, and the batches being gathered for them: what publisher.c and batches.c
 * share. In the connection's turns. */
#ifndef BROKER_GATEWAY_BATCHES_H
#define BROKER_GATEWAY_BATCHES_H

#include "broker/gateway/connection.h"

#define NAME_INLINE_MAX 63

/* A topic known by name, and the batch being gathered for it. */
struct topic_entry {
    uint64_t hash;
    weir_actor topic;   /* none: it is parked, and looked up again there */
    uint16_t name_size; /* 0: the entry is free */
    uint16_t open_next; /* in the list of those with a batch */
    /* The batch; count 0: none. */
    uint16_t count, capacity;
    uint32_t owner, bytes;
    uint64_t number_word;
    struct record_slice only; /* while count is 1 */
    weir_msg index;           /* while capacity is not 0; what is above is all that one record needs, a cache line */
    struct publish_options *options; /* at the front of index; NULL: none */
    struct record_slice *slices;     /* in index */
    uint64_t number_last;            /* of its last record */
    weir_msg name_block;             /* names longer than NAME_INLINE_MAX */
    char name[NAME_INLINE_MAX];
};

_Static_assert(TOPIC_BATCH_MAX <= UINT16_MAX, "a batch's count has 16 bits");

struct view entry_name(const struct connection *connection, const struct topic_entry *entry);
/* Hands the batch of one entry, which has one, to its topic, or parks it. */
void batch_hand(struct connection *connection, struct topic_entry *entry);
/* The same for all, in the order of their first records. */
void batches_hand(struct connection *connection);

#endif
