/* JSON <-> msgpack, for people and pipes; jansson reads the JSON. bin becomes {"$bin": base64}, ext {"$ext": [type,
 * base64]}, an integer beyond 2^63 - 1 {"$uint": digits}, and back; non-string map keys their JSON text; NaN and
 * infinities null. */
#ifndef CLIENTS_WIRE_JSON_H
#define CLIENTS_WIRE_JSON_H

#include "clients/wire/view.h"
#include "weir_error.h"

/* Both return heap memory that the caller frees with free(). text gets a NUL behind its size. WEIR_BAD_REQUEST:
 * value is not exactly one well-formed value; WEIR_TOO_BIG: maps as keys of maps, more than four inside each other;
 * WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error json_from_msgpack(struct view value, unsigned depth_max, char **text, size_t *size);
/* reason (may be NULL): a sentence, with line and column where the text is no JSON, for WEIR_BAD_REQUEST; good until
 * this thread's next refusal. A key that is there twice in one object is refused. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error json_to_msgpack(struct view text, unsigned depth_max, uint8_t **value, size_t *size,
                                              const char **reason);

#endif
