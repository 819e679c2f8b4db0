/* Bytes to the socket: one gathered send at a time. Urgent bytes (credit, acks, pongs) go first, then replies, then
 * data: live ahead of bulk, which has its share. What comes while a send is under way is gathered for the next; small
 * pieces are copied into one buffer, large ones go by reference and are held until the send ended. In the connection's
 * turns. */
#ifndef BROKER_GATEWAY_OUTPUT_H
#define BROKER_GATEWAY_OUTPUT_H

#include <sys/uio.h>

#include "actors/runtime/message.h"
#include "clients/sp/pipe.h"
#include "clients/wire/view.h"
#include "weir_error.h"

struct connection;

/* Copied at most into one send: enough to spread the cost of a send over thousands of small messages. */
#define OUTPUT_BUFFER_MAX (64 * 1024 - ARENA_BLOCK_OVERHEAD)
/* With so much waiting a turn ends with a send although another one comes soon: a send's own cost is small beside it.
 */
#define OUTPUT_PUMP_MIN ((size_t)32 * 1024)
/* From here on a slice goes by reference: copying less costs below a microsecond, and parts are only 8. */
#define OUTPUT_REFERENCE_MIN (8 * 1024)
/* Bulk goes out in pieces of at most so much (or one pair), and after each what is live has its turn; live data that
 * does not end lets bulk have a piece after so many bytes. So nothing live waits for more than one piece, and a
 * snapshot gets a fifth of a line that is never idle. */
#define OUTPUT_BULK_PIECE ((size_t)64 * 1024)
#define OUTPUT_LIVE_SHARE (4 * OUTPUT_BULK_PIECE)
/* Answers that the peer has not taken; beyond, it is not read. */
#define OUTPUT_URGENT_MAX (256 * 1024)

/* A first-in-first-out of messages, in an arena block that grows and goes when empty. Their holds are the queue's. */
struct queue {
    weir_msg block;
    struct message *items;
    uint32_t first, count, capacity;
};

struct gather {
    struct connection *connection;
    weir_msg buffer;
    uint8_t *data;
    uint32_t used, capacity;
    struct iovec parts[SP_IOV_MAX];
    unsigned part_count;
    weir_msg holds[SP_IOV_MAX + 1];
    unsigned hold_count;
    size_t size;
    bool is_starved; /* no memory for a buffer */
};

struct output {
    weir_msg urgent; /* whole SP messages, one behind the other */
    uint32_t urgent_size, urgent_capacity;
    struct queue replies; /* OUTPUT_RAW items */
    struct queue data;    /* what ops->render takes: what is live */
    struct queue bulk;    /* the same: what may take long, snapshots */
    size_t live_rendered; /* bytes, less what bulk has had its share of */
    size_t data_size;     /* bytes of records in both; kept by whoever pushes and renders */
    bool is_sending;
    bool has_last_words;             /* ops->last_words go behind what is urgent: there was no memory for others */
    weir_msg flight[SP_IOV_MAX + 1]; /* held until CONNECTION_SENT */
    unsigned flight_count;
};

/* An item of whole SP messages: hold[0], word[0]: offset, word[1]: size. */
#define OUTPUT_RAW 0x3ff

/* Room for one urgent message of at most body_max bytes; NULL: no memory, and the connection ends.
 * output_urgent_commit then says how long it became. Nothing else may be called in between. */
uint8_t *output_urgent_reserve(struct connection *connection, size_t body_max);
void output_urgent_commit(struct connection *connection, size_t body_size);

/* Appends an item; its holds move to the queue on WEIR_OK. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error queue_push(struct connection *connection, struct queue *queue,
                                         const struct message *item);
struct message *queue_first(struct queue *queue);
struct message *queue_last(struct queue *queue);
/* Drops the first item with what it still holds. */
void queue_drop_first(struct connection *connection, struct queue *queue);
void queue_clear(struct connection *connection, struct queue *queue);
/* Gives the memory of an empty queue back. */
void queue_rest(struct connection *connection, struct queue *queue);

/* Sends as much as there is and fits, unless a send is under way. At the end of turns and when a send ended. */
void output_pump(struct connection *connection);
/* CONNECTION_SENT. */
void output_sent(struct connection *connection);
/* At the end of turns: gives back what only a snapshot or requests need. The queue of live data stays for the next
 * record, until the connection ticks. */
void output_rest(struct connection *connection);
/* Bytes that wait to be sent, about: replies count for nothing. */
static inline size_t output_waiting(const struct output *output) { return output->urgent_size + output->data_size; }
/* Nothing waits and nothing is under way. */
bool output_is_idle(const struct output *output);
/* Drops everything that waits; what is under way stays until output_fini. */
void output_clear(struct connection *connection);
/* The pipe has let go. */
void output_fini(struct connection *connection);

/* For render. Whether that much can be copied and that many slices referenced. A gather that is still empty of copies
 * grows its buffer for anything. */
bool gather_has_room(struct gather *gather, size_t copied, unsigned references);
/* Room that is left to be copied into. */
size_t gather_room(const struct gather *gather);
/* Appends bytes; gather_has_room said yes. Returns where they are, for patching within the same render. */
uint8_t *gather_copy(struct gather *gather, const void *bytes, size_t size);
/* Appends bytes of a block by reference; takes the caller's hold on it. */
void gather_reference(struct gather *gather, weir_msg block, const uint8_t *bytes, size_t size);

#endif
