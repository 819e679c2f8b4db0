/* Operations of folds whose state is at most one pair, fold->bytes long, at fold->as.single. See struct fold_ops. */
#ifndef ACTORS_TOPIC_SINGLE_H
#define ACTORS_TOPIC_SINGLE_H

#include "actors/topic/fold.h"

void single_capture(struct fold *fold, struct fold_snapshot *out);
enum weir_error single_read(struct fold *fold, const struct fold_snapshot *snapshot, struct fold_cursor *cursor,
                            size_t size_max, struct fold_run *out);
void single_release(struct fold *fold, struct fold_snapshot *snapshot);
void single_clear(struct fold *fold);

#endif
