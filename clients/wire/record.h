/* Records as they come: the body of a PUSH message, and of a publish request's `records`. */
#ifndef CLIENTS_WIRE_RECORD_H
#define CLIENTS_WIRE_RECORD_H

#include "clients/wire/value.h"
#include "actors/base/limits.h"

struct record {
    struct view topic; /* the name's text */
    struct view value; /* encoded */
    struct view key;   /* encoded str; size 0: none */
};

/* Takes the next record [topic, value] or [topic, value, key] off *rest. The topic is checked with name_check;
 * whether a name that starts with '$' may be published is the caller's to say. WEIR_AGAIN: rest is empty.
 * WEIR_BAD_REQUEST, WEIR_BAD_TOPIC, with *reason (may be NULL) a sentence. */
WEIR_MUST_USE enum weir_error record_next(struct view *rest, unsigned depth_max, struct record *out,
                                          const char **reason);
void record_write(struct value_writer *writer, const struct record *record);

/* One message of the live feed that SUB sockets get: topic, 0x00, [seq, key|nil, value]. */
struct live {
    struct view topic;
    uint64_t seq;
    struct view key;   /* encoded str; size 0: none */
    struct view value; /* encoded */
};
/* Writes all but the value, whose bytes the sender lets follow. At most LIVE_HEAD_SIZE_MAX bytes for a checked
 * topic. */
#define LIVE_HEAD_SIZE_MAX (TOPIC_NAME_SIZE_MAX + 1 + 1 + 9 + 3 + KEY_SIZE_MAX)
void live_head_write(struct value_writer *writer, struct view topic, uint64_t seq, struct view key);
/* WEIR_BAD_REQUEST, WEIR_BAD_TOPIC. */
WEIR_MUST_USE enum weir_error live_read(struct view body, unsigned depth_max, struct live *out);

#endif
