/* Records as they come: the body of a PUSH message, and of a publish request's `records`. */
#ifndef CLIENTS_WIRE_RECORD_H
#define CLIENTS_WIRE_RECORD_H

#include "clients/wire/value.h"

struct record {
    struct view topic;  /* the name's text */
    struct view value;  /* encoded */
    struct view key;    /* encoded str; size 0: none */
};

/* Takes the next record [topic, value] or [topic, value, key] off *rest. The topic is checked as a published name.
 * WEIR_AGAIN: rest is empty. WEIR_BAD_REQUEST, WEIR_BAD_TOPIC, with *reason (may be NULL) a sentence. */
WEIR_MUST_USE enum weir_error record_next(struct view *rest, unsigned depth_max, struct record *out, const char **reason);
void record_write(struct value_writer *writer, const struct record *record);

#endif
