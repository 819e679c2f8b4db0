/* Feeds that get only the newest of each key, and their pace, see conflate.c. In the topic's turns. */
#ifndef ACTORS_TOPIC_CONFLATE_H
#define ACTORS_TOPIC_CONFLATE_H

#include "actors/topic/state.h"

/* Whether newer records of this topic stand for older ones. */
bool topic_can_conflate(const struct topic *topic);
/* Whether this feed leaves out what was replaced. */
bool feed_conflates(const struct topic *topic, const struct feed *feed);
/* Sends the next run of records that no later one replaces, or says what was left out before them. */
enum step step_conflate(struct turn *turn, struct topic *topic, struct feed *feed, size_t size_max);
enum step step_conflated(struct turn *turn, struct feed *feed);
/* Whether no record after this one replaces it. Of several deletions of a key that is gone each counts as the newest:
 * that is once too often, and harmless. `now`: the state; newest: the key's entry there, of count 0 if it has none. */
bool record_is_newest(struct topic *topic, const struct fold_snapshot *now, const struct ring_run *record,
                      struct fold_run *newest);
/* Whether a feed must wait for its next batch, whose time is kept in pace_due_ns; else a batch is under way. */
bool feed_is_early(struct topic *topic, struct feed *feed, uint64_t now_ns);
/* Readies those whose time has come. Under shared->lock. */
void feeds_pace(struct topic *topic, uint64_t now_ns);

#endif
