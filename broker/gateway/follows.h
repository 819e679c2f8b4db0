/* The topics that a connection follows: found by feed number, with the credit each topic has. Used by SUB peers here
 * and by sessions above. In the connection's turns.
 *
 * A topic may send a feed its window of bytes; what it sent counts until it has been rendered for the peer, so that a
 * peer that does not read stalls its own feeds and nothing else. */
#ifndef BROKER_GATEWAY_FOLLOWS_H
#define BROKER_GATEWAY_FOLLOWS_H

#include "actors/topic/topic.h"

struct connection;

/* There may be hundreds of thousands. Bytes fit 32 bits: a window is at most a quarter of a MiB, and a topic may send
 * one pair beyond it. */
struct followed {
    uint32_t id;     /* the broker's number; 0: a free place of the table */
    int32_t granted; /* bytes that the topic may still send, or has sent and that are not rendered yet; below 0: one
                        pair that was beyond */
    union {
        struct {                  /* a session's */
            uint32_t owner;       /* the subscription that made it */
            uint32_t queued : 31; /* its messages in one of the output's queues */
            uint32_t is_bulk : 1; /* which one: for its messages' order they are all in the same */
        };
        weir_msg
            begin; /* a SUB peer's: the last TOPIC_BEGIN's block, in which is the topic's name; the peer's to drop */
    };
};

_Static_assert(ARENA_BLOCK_SIZE_MAX < INT32_MAX / 2, "a window and a pair beyond it are counted in 32 bits");

struct follows {
    weir_msg block;
    struct followed *places;
    uint32_t capacity, count;
    int64_t granted; /* by all of them together */
};

/* NULL when there is none. Valid until the next ensure or remove. */
struct followed *follows_find(const struct follows *follows, uint32_t id);
/* That one is to be looked for soon: fetches it into the processor's caches. */
void follows_ahead(const struct follows *follows, uint32_t id);
/* A new or present one; NULL without memory. A new one has nothing but its id. */
struct followed *follows_ensure(struct connection *connection, struct follows *follows, uint32_t id);
void follows_remove(struct connection *connection, struct follows *follows, struct followed *followed);
/* Removes those of one owner. */
void follows_remove_owner(struct connection *connection, struct follows *follows, uint32_t owner);
void follows_fini(struct connection *connection, struct follows *follows);

/* Its topic begins with that much credit. */
void followed_begin(struct follows *follows, struct followed *followed, uint32_t credit);
/* Bytes that came from the topic were rendered. Gives it more credit once half of its window is free. */
void followed_rendered(struct connection *connection, struct follows *follows, struct followed *followed,
                       weir_actor topic, size_t size, size_t window);

/* Each of so many feeds' share of an outbox. */
size_t follow_window(size_t outbox_bytes, size_t feed_count);
/* What one of them may have when it uses its share up: where that is small, a topic would be told of credit, and have a
 * turn for it, every few records. So it is lent more, as long as all feeds of the session together have credit for no
 * more than some outboxes: those that are idle borrow nothing. */
size_t follow_window_lent(const struct follows *follows, size_t outbox_bytes);

/* Takes the next pair off items: its bytes as they go on the wire, key|nil and value. False at the end. */
bool pair_next(struct view *items, struct view *pair);

#endif
