/* RFC 7396 merge patch over msgpack maps. */
#ifndef CLIENTS_WIRE_MERGE_H
#define CLIENTS_WIRE_MERGE_H

#include "clients/wire/view.h"
#include "weir_error.h"

/* Writes the merge of patch into target (encoded; size 0: absent) to out. Needs at most target.size + patch.size +
 * 16 bytes. nil in the patch removes; a patch that is no map replaces. WEIR_TOO_BIG when it does not fit out,
 * WEIR_BAD_REQUEST for malformed input, WEIR_NO_MEMORY (patches over 1 KiB use the heap for the length of the call).
 * Order of keys: the target's, then the patch's new ones. No allocation below that, time n log n in the keys at
 * worst. */
WEIR_MUST_USE enum weir_error merge_apply(struct view target, struct view patch, unsigned depth_max, uint8_t *out,
                                          size_t capacity, size_t *size_out);

#endif
