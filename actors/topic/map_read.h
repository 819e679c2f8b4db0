/* What the kinds map and merge have in common: snapshots of the tree of map_tree.h, captured, read whole or as what has
 * changed, given back, and forgetting all. As fold_ops says; in the topic's turn. */
#ifndef ACTORS_TOPIC_MAP_READ_H
#define ACTORS_TOPIC_MAP_READ_H

#include "actors/topic/fold.h"

void map_capture(struct fold *fold, struct fold_snapshot *out);
bool map_knows_since(const struct fold *fold, uint64_t seq);
enum weir_error map_read(struct fold *fold, const struct fold_snapshot *snapshot, struct fold_cursor *cursor,
                         size_t size_max, struct fold_run *out);
void map_release(struct fold *fold, struct fold_snapshot *snapshot);
void map_clear(struct fold *fold);
/* The pairs alone: what was deleted stays known. */
void map_clear_tree(struct fold *fold);

#endif
