/* Topic names and patterns: their grammar and their matching, MQTT's rules. Pure functions, any thread.
 *
 * A name is UTF-8 segments joined by '/', 1 to TOPIC_NAME_SIZE_MAX bytes, no NUL, no empty segment, no '+' or '#'.
 * Names that start with '$' are the broker's. A pattern may have '+' for one segment and a last segment '#' for the
 * rest (also for nothing: "a/#" matches "a"). A wildcard in the first segment does not match names that start with
 * '$'. */
#ifndef CLIENTS_WIRE_NAME_H
#define CLIENTS_WIRE_NAME_H

#include "clients/wire/view.h"
#include "weir_error.h"

/* WEIR_BAD_TOPIC with *reason a sentence for people ("segment 2 is empty"), good until this thread's next refusal;
 * reason may be NULL. Reserved names pass. Patterns that start with "$share/" are refused: nobody serves them. */
WEIR_MUST_USE enum weir_error name_check(struct view name, const char **reason);
WEIR_MUST_USE enum weir_error pattern_check(struct view pattern, const char **reason);

bool name_is_reserved(struct view name); /* starts with '$' */
bool pattern_has_wildcard(struct view pattern);
/* Both must have been checked. Linear in their sizes. */
bool pattern_matches(struct view pattern, struct view name);

#endif
