/* Conflation out of the state, of a feed that leaves out what was replaced and whose cursor the ring does not have, see
 * recall.c. In the topic's turns. */
#ifndef ACTORS_TOPIC_RECALL_H
#define ACTORS_TOPIC_RECALL_H

#include "actors/topic/state.h"

/* Whether what follows the cursor can be told from the state. */
bool recall_can(const struct topic *topic, const struct feed *feed);
/* Sends the next run of records that no later one replaces, at most size_max bytes but at least one, or says what was
 * left out before it. */
enum step step_recall(struct turn *turn, struct topic *topic, struct feed *feed, size_t size_max);
/* Whether what it is to read is still being made; goes on with that. */
bool recall_is_making(const struct feed *feed);
void recall_make(struct topic *topic, struct feed *feed);
/* With a recall or without. */
void recall_leave(struct topic *topic, struct feed *feed);

#endif
