/* Bytes from the socket into arena blocks, and SP messages out of them in place. Records keep references to the block,
 * so a block is only written behind what was parsed, or anew once nobody else has it. In the connection's turns.
 *
 * A block starts small (many connections are idle), doubles while reads fill it, and halves when they do not; a message
 * longer than the block moves to larger and larger ones until it fits, so that a claimed length costs nothing until
 * bytes come; to a much larger one at once where the last ones were as long, and came whole. */
#ifndef BROKER_GATEWAY_INTAKE_H
#define BROKER_GATEWAY_INTAKE_H

#include <stdbool.h>

#include "actors/memory/arena.h"
#include "weir_error.h"

struct connection;

/* An idle connection's block: most costs of 10,000 of them. */
#define INTAKE_BLOCK_MIN 256
/* Read at once under load: thousands of small records, and the largest block that is cut from a shared slab. */
#define INTAKE_BLOCK_MAX (128 * 1024)

/* A message that was begun goes on within this time, or its peer is gone: with TCP alone the broker might never learn.
 */
#define INTAKE_PARTIAL_MS 30000

struct intake {
    weir_msg block;
    uint8_t *data;
    uint32_t capacity;           /* bytes of block, a little below its class */
    uint32_t block_class;        /* the size it was chosen by: capacity and the arena's overhead */
    uint32_t start, end;         /* bytes not parsed yet */
    uint32_t ahead, ahead_count; /* up to where messages were shown before their time, and how many from start on */
    uint32_t posted;             /* room that the receive under way was given; 0: none is under way */
    uint32_t next_class;         /* what the next block should be chosen by */
    uint32_t large_size;         /* of the longest message that came whole since reads were last small */
    bool is_full;                /* the last read took all the room it had */
    bool is_short;               /* little memory is left: look before another message is taken apart */
    bool is_partial_armed;
    bool is_yielding;    /* a wake-up is under way, with which it goes on */
    uint64_t starved_ns; /* since when no block could be had; 0: not so */
    size_t needed;       /* bytes of the message at start, as far as is known */
    size_t body_max;     /* of one message; sessions raise it after HELLO */
};

/* Begins receiving. */
void intake_start(struct connection *connection);

/* CONNECTION_RECEIVED: size bytes came. */
void intake_received(struct connection *connection, size_t size);

/* TIMER_MEMORY: tries again. */
void intake_on_memory(struct connection *connection);

/* TIMER_PARTIAL: cuts a peer that began a message and fell silent. */
void intake_on_partial(struct connection *connection);

/* Parses what is there until it is used up or the connection is paused or ends, hands the gathered records over, and
 * receives more when it may. Call after anything that may have ended a pause. */
void intake_run(struct connection *connection);

void intake_fini(struct connection *connection);

#endif
