/* Requests and replies: the bodies on REQ connections, on the admin socket and inside REQUEST frames.
 * [verb, {args}] -> ["ok", {result}] or ["error", {"code": str, "message": str, ...}]. */
#ifndef CLIENTS_WIRE_REQUEST_H
#define CLIENTS_WIRE_REQUEST_H

#include "clients/wire/frame.h"

struct request {
    struct view verb;
    struct view args; /* encoded map */
};
WEIR_MUST_USE enum weir_error request_read(struct view body, unsigned depth_max, struct request *out,
                                           const char **reason);
void request_write(struct value_writer *writer, struct view verb, struct view args_encoded);

struct reply {
    bool ok;
    struct view result;        /* encoded map */
    struct view code, message; /* when not ok */
};
WEIR_MUST_USE enum weir_error reply_read(struct view body, unsigned depth_max, struct reply *out);
/* ["ok", result] where result is an encoded map. */
void reply_ok_write(struct value_writer *writer, struct view result_encoded);

/* What an error reply says. What is empty or 0 is left out. */
struct reply_refusal {
    enum weir_error error;
    struct view message;
    struct view topic, cause;
    uint64_t retry_ms;
    uint64_t seq; /* conflict: of the record that is there */
};
/* ["error", {code, message, topic?, cause?, retry_ms?, seq?}] */
void reply_error_write(struct value_writer *writer, const struct reply_refusal *refusal);

/* The map of an error reply alone, for REPLY frames. */
void reply_error_map_write(struct value_writer *writer, const struct reply_refusal *refusal);

/* Finds args[key], the first of that name; WEIR_NOT_FOUND, WEIR_BAD_REQUEST also when it is deeper than depth_max.
 * value: encoded. */
WEIR_MUST_USE enum weir_error args_find(struct view args, unsigned depth_max, const char *key, struct view *value);
/* Typed: WEIR_NOT_FOUND where absent, WEIR_BAD_REQUEST for another type. */
WEIR_MUST_USE enum weir_error args_find_str(struct view args, const char *key, struct view *out);
WEIR_MUST_USE enum weir_error args_find_uint(struct view args, const char *key, uint64_t *out);
WEIR_MUST_USE enum weir_error args_find_bool(struct view args, const char *key, bool *out);

/* Finds the `records` of a publish request: their count, and the records one behind the other for record_next, whose
 * values may be as deep as depth_max. WEIR_NOT_FOUND, WEIR_BAD_REQUEST. */
WEIR_MUST_USE enum weir_error args_find_records(struct view args, unsigned depth_max, uint32_t *count,
                                                struct view *records);

#endif
