/* The topics that a publisher knows by name, and the batches being gathered for them: what publisher.c and batches.c
 * share. In the connection's turns. */
#ifndef BROKER_GATEWAY_BATCHES_H
#define BROKER_GATEWAY_BATCHES_H

#include "broker/gateway/connection.h"

#define NAME_INLINE_MAX 48

/* A topic known by name. With topics in turn each record looks at another one, so this is a cache line, in a table that
 * begins at one, and the batch is elsewhere. */
struct topic_entry {
    uint32_t hash;     /* of its name, the low half */
    uint8_t name_size; /* 0: the entry is free */
    uint8_t open;      /* 1 + where its batch is among those being gathered; 0: there is none */
    weir_actor topic;  /* none: it is parked, and looked up again there */
    union {
        uint8_t name[NAME_INLINE_MAX];
        weir_msg name_block; /* of one that is longer */
    };
};
_Static_assert(sizeof(struct topic_entry) == 64, "an entry is a cache line");
_Static_assert(TOPIC_NAME_SIZE_MAX <= UINT8_MAX, "a name's size has 8 bits");

/* What is being gathered for a topic. They are used one behind the other, from the first on whenever all were handed
 * over: so these few are in the processor's caches. */
struct batch {
    uint16_t entry; /* in the table */
    uint16_t count, capacity;
    uint32_t owner, bytes;
    uint64_t number_word, number_last; /* of its first record; of its last */
    struct record_slice only;          /* while count is 1 */
    weir_msg index;                    /* while capacity is not 0 */
    struct publish_options *options;   /* at the front of index; NULL: none */
    struct record_slice *slices;       /* in index */
};
_Static_assert(TOPIC_BATCH_MAX <= UINT16_MAX, "a batch's count has 16 bits");
_Static_assert(PUBLISHER_ENTRIES_MAX <= UINT16_MAX, "an entry's number has 16 bits");
_Static_assert(PUBLISHER_OPEN_MAX < UINT8_MAX, "a batch's place has 8 bits");

struct view entry_name(const struct connection *connection, const struct topic_entry *entry);
/* Hands the batch of one entry, which has one, to its topic, or parks it. */
void batch_hand(struct connection *connection, struct topic_entry *entry);
/* The same for all, in the order of their first records. */
void batches_hand(struct connection *connection);

#endif
