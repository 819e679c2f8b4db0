/* Records from a connection to topics: gathers consecutive and interleaved records to the same topic into batches over
 * one receive block, knows topics by name, has the missing ones made, and parks batches whose topic has no room, in
 * order per topic. In the connection's turns.
 *
 * Order per topic holds because a topic's records go through one open batch, and behind a parked batch everything of
 * that topic is parked too. */
#ifndef BROKER_GATEWAY_PUBLISHER_H
#define BROKER_GATEWAY_PUBLISHER_H

#include "actors/topic/topic.h"
#include "broker/gateway/gateway.h"
#include "weir_error.h"

struct connection;
struct topic_entry;
struct batch;
struct parked_topic;
struct parked_batch;

/* Topics that one connection knows by name at once; beyond, the directory is asked (a shared lock and a hash). */
#define PUBLISHER_ENTRIES_MIN 16
#define PUBLISHER_ENTRIES_MAX 16384
/* Topics with a batch being gathered; with one more, all are handed over first, and run before more is read: what goes
 * with a record from one actor to the next is still in the processor's caches then. */
#define PUBLISHER_OPEN_MAX 128
/* Topics whose batches may be parked before the whole connection is paused. */
#define PUBLISHER_PARKED_MAX 64
/* What a subscriber's frame adds to key and value at the most, so that every record taken can be delivered. */
#define PUBLISHER_RECORD_OVERHEAD 64

struct publisher {
    weir_msg table; /* entries, and batches behind them */
    struct topic_entry *entries;
    struct batch *batches; /* the first open_count are being gathered, in order of their first record */
    uint32_t entry_count, evictions;
    uint32_t open_count;
    bool is_round_over; /* as many topics as may have a batch had theirs: intake lets them run before it goes on */
    struct parked_topic *parked; /* a list, oldest first */
    uint32_t parked_count;
    size_t parked_bytes;
    /* The lookup that the connection is paused for. */
    weir_msg lookup_name;
    uint64_t lookup_token; /* even; parked topics' are odd */
    bool is_lookup_sent, is_lookup_done;
    weir_actor lookup_topic;
    enum weir_error lookup_error;
    uint64_t tokens; /* how many lookups were begun */
};

/* The topic of that name; *out is valid until the next call here. reserved names and bad ones: WEIR_FORBIDDEN,
 * WEIR_BAD_TOPIC. WEIR_AGAIN: the connection was paused, ask again. What the directory says when it makes none. */
WEIR_MUST_USE enum weir_error publisher_topic(struct connection *connection, struct view name,
                                              struct topic_entry **out);

/* A record of that topic is to come soon: what publisher_topic will look at is fetched into the processor's caches. */
void publisher_ahead(const struct connection *connection, struct view name);

/* Adds one record, key and value encoded and in the receive block; it is counted as waiting. owner: told back in
 * on_handed. options: what it is published with, its own number included; NULL: nothing. WEIR_TOO_BIG: longer than
 * what subscribers can be sent. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error publisher_add(struct connection *connection, struct topic_entry *entry, struct view key,
                                            struct view value, uint64_t number_word, uint32_t owner,
                                            const struct publish_options *options);

/* Hands all open batches to their topics, or parks them. At the end of each pass over received bytes. */
void publisher_flush(struct connection *connection);

/* Counts records as received and refused at once. */
void publisher_refuse(struct connection *connection, uint32_t count, enum refusal refusal);
/* The row that an error is counted under. */
enum refusal refusal_of(enum weir_error error);

/* MESSAGE_ROOM from a topic or the directory. */
void publisher_on_room(struct connection *connection, weir_actor from);
/* DIRECTORY_TOPIC. */
void publisher_on_topic(struct connection *connection, const struct message *message);
/* A second went by with something outstanding: asks again. */
void publisher_retry(struct connection *connection);

/* Takes back what a request's records still wait with, as refused; *topic (may be NULL): one that held them back, its
 * name valid until the next call here. */
void publisher_cancel(struct connection *connection, uint32_t owner, enum weir_error error, char topic[256]);
void publisher_fini(struct connection *connection);

#endif
