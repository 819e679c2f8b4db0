/* Deltas, which are read as a snapshot is, but of which a leaf of state has only a pair here and there. */
#ifndef ACTORS_TOPIC_DELTA_H
#define ACTORS_TOPIC_DELTA_H

#include "actors/topic/state.h"

/* As fold_ops.read, of the feed's snapshot; short runs are put together in *block, the caller's to drop; none: there is
 * no such. */
WEIR_MUST_USE enum weir_error delta_read(struct topic *topic, struct feed *feed, size_t size_max, struct fold_run *out,
                                         weir_msg *block);

#endif
