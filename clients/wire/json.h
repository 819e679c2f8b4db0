/* JSON <-> msgpack, for people and pipes; jansson does the JSON. bin becomes {"$bin": base64}, ext {"$ext": [type, base64]},
 * non-string map keys their JSON text; NaN and infinities null. */
#ifndef CLIENTS_WIRE_JSON_H
#define CLIENTS_WIRE_JSON_H

#include "clients/wire/view.h"
#include "weir_error.h"

/* Both return heap memory in *out that the caller frees. text gets a NUL behind its size. */
WEIR_MUST_USE enum weir_error json_from_msgpack(struct view value, unsigned depth_max, char **text, size_t *size);
/* *reason: a sentence with line and column, for WEIR_BAD_REQUEST; a static or thread-local string. */
WEIR_MUST_USE enum weir_error json_to_msgpack(struct view text, unsigned depth_max, uint8_t **value, size_t *size,
                                              const char **reason);

#endif
