/* What has changed in a map since some record, by seq, see fold_ops.newer. In the topic's turn. */
#ifndef ACTORS_TOPIC_MAP_NEWER_H
#define ACTORS_TOPIC_MAP_NEWER_H

#include "actors/topic/fold.h"

WEIR_MUST_USE enum weir_error map_newer(struct fold *fold, const struct fold_snapshot *snapshot,
                                        struct fold_cursor *cursor, struct fold_changes *changes);
WEIR_MUST_USE enum weir_error map_change_at(struct fold *fold, const struct fold_change *change, struct fold_run *out);
WEIR_MUST_USE enum weir_error map_deleted_after(struct fold *fold, uint64_t seq, struct fold_run *out);

#endif
