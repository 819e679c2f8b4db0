/* Pages of a map: some entries of a snapshot in the order of their keys' hashes, which is the order of the leaves and,
 * since a leaf's pairs have no order of their own, is made within each. Used by map.c, in the topic's turn. */
#ifndef ACTORS_TOPIC_MAP_PAGE_H
#define ACTORS_TOPIC_MAP_PAGE_H

#include "actors/topic/fold.h"

/* As fold_ops.page says. */
enum weir_error map_page_read(struct fold *fold, const struct fold_snapshot *snapshot, struct budget *budget,
                              struct fold_page *page);

#endif
