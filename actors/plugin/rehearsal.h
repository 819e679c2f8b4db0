/* A rehearsal runs a plugin against recorded messages without a broker: `weir plugin test` and the tests of plugins.
 * Time is that of the recording: timers fire between the messages where they would have, and nobody waits. */
#ifndef ACTORS_PLUGIN_REHEARSAL_H
#define ACTORS_PLUGIN_REHEARSAL_H

#include "actors/plugin/runner.h"

struct rehearsal;

/* What to run, borrowed until rehearsal_close. The sink gets what a host would let out: what a message brought about
 * only if it succeeded, and then its OUTPUT_DONE (numbers rise by one from message to message, timers included); log
 * lines at once; no timers and no snapshots. */
struct rehearsal_spec {
    const char *file;
    enum weir_actor_role role;
    struct view config; /* one msgpack value */
    struct runner_bounds bounds;
    plugin_sink sink;
    void *context;
};

/* Opens and starts the plugin: errors as runner_open and runner_start. why: at least PLUGIN_TEXT_SIZE bytes. */
WEIR_MUST_USE enum weir_error rehearsal_open(const struct rehearsal_spec *spec, struct rehearsal **out, char *why,
                                             size_t why_size);
/* Fires the timers that are due up to the message's time_ms, then hands it over. Timers armed at init count from the
 * first message on. FAILED, also by a timer, ends the instance: it takes nothing more. */
enum weir_actor_result rehearsal_give(struct rehearsal *rehearsal, const struct weir_message *message);
/* Fires the timers that are due up to time_ms, as if nothing else had happened. */
enum weir_actor_result rehearsal_advance(struct rehearsal *rehearsal, uint64_t time_ms);
/* The time that the recording has come to. */
uint64_t rehearsal_now(const struct rehearsal *rehearsal);
/* When the next timer fires; false: none is armed. */
bool rehearsal_next(const struct rehearsal *rehearsal, uint64_t *time_ms);
/* Ends the instance and starts a new one with its snapshot, as a reload does: it should go on as if nothing had
 * happened. WEIR_BAD_REQUEST: the plugin has no snapshot. WEIR_FAILED and those of rehearsal_open. */
WEIR_MUST_USE enum weir_error rehearsal_restart(struct rehearsal *rehearsal, char *why, size_t why_size);
/* The configuration of the next instance that rehearsal_restart starts; borrowed until rehearsal_close. */
void rehearsal_configure(struct rehearsal *rehearsal, struct view config);
const struct weir_actor_plugin *rehearsal_plugin(const struct rehearsal *rehearsal);
void rehearsal_close(struct rehearsal **pointer);

#endif
