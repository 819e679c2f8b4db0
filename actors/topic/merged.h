/* Updates with a merged form (TOPIC_MERGED): the ring has the update, the state what the updates of its key have come
 * to. A topic that ever folded one `has_merged`: entries of its state may be other than the newest updates, and
 * conflated feeds are sent the entries (conflate.c). In the topic's turn. */
#ifndef ACTORS_TOPIC_MERGED_H
#define ACTORS_TOPIC_MERGED_H

#include "actors/topic/state.h"

/* As topic_fold; the key's entry in the state becomes `merged`, one value. */
WEIR_MUST_USE enum weir_error topic_fold_merged(struct topic *topic, struct view key, struct view value,
                                                struct view merged, uint32_t now_ms);

#endif
