/* Batches whose topic has no room, in order per topic; the publisher's other half. In the connection's turns. */
#ifndef BROKER_GATEWAY_PARKED_H
#define BROKER_GATEWAY_PARKED_H

#include "broker/gateway/connection.h"

/* A topic that holds batches of this connection back. In an arena block of its own, name behind. */
struct parked_topic {
    struct parked_topic *next;
    weir_msg self;
    weir_actor topic;     /* none: it is looked up again */
    uint64_t hash, token; /* token: names a lookup of it, never a publisher's own */
    struct parked_batch *first, *last;
    uint32_t name_size;
    uint8_t name[];
};

struct parked_batch {
    struct parked_batch *next;
    weir_msg self;
    struct message message; /* its holds are the batch's */
    struct handed handed;
};

struct parked_topic *parked_find(const struct publisher *publisher, struct view name, uint64_t hash);

/* Puts a batch behind those of its topic; topic none: the name is looked up anew. The message's holds move in any case:
 * without memory for it the records are refused. */
void parked_add(struct connection *connection, weir_actor topic, struct view name, uint64_t hash,
                struct message *message, const struct handed *handed);

/* Hands over what the topic takes now; asks to be told of room for the rest. */
void parked_drain(struct connection *connection, struct parked_topic *parked);
void parked_drain_all(struct connection *connection);

/* The directory's answer about one of them. */
void parked_on_topic(struct connection *connection, uint64_t token, weir_actor topic, enum weir_error error);

/* Refuses what belongs to owner (0: all); the last name that held it back is copied to topic, if that is not NULL. */
void parked_refuse(struct connection *connection, uint32_t owner, enum weir_error error, char topic[256]);

/* Tells of the fate of records: counters, then ops->on_handed. */
void handed_tell(struct connection *connection, const struct handed *handed, enum weir_error error);

/* Asks the directory for the topic of that name; its answer carries word. WEIR_FULL: room was asked for. */
WEIR_MUST_USE enum weir_error directory_ask(struct connection *connection, struct view name, uint64_t word);

#endif
