/* The bounds of plugins, each with its reason. What an instance's configuration leaves at 0 takes the default here. */
#ifndef ACTORS_PLUGIN_PLUGIN_LIMITS_H
#define ACTORS_PLUGIN_PLUGIN_LIMITS_H

#include <stddef.h>
#include <stdint.h>

/* A shared object is read whole into memory before it is opened; with debug information a large one has some MiB. */
#define PLUGIN_FILE_BYTES_MAX ((size_t)64 << 20)
/* State of an aggregation over a hundred thousand keys, several times over. */
#define PLUGIN_MEMORY_BYTES_DEFAULT ((uint64_t)256 << 20)
/* One message may bring about a page of changes; more in one go is a flood, and would have to wait in the broker. */
#define PLUGIN_EMITS_DEFAULT 1024
#define PLUGIN_EMIT_BYTES_DEFAULT ((uint32_t)4 << 20)
/* What one record may have unless told otherwise (MESSAGE_SIZE_MAX_DEFAULT). */
#define PLUGIN_VALUE_BYTES_DEFAULT ((uint32_t)1 << 20)
/* One block of the arena, less its head: a snapshot is kept as one. */
#define PLUGIN_SNAPSHOT_BYTES_DEFAULT ((uint32_t)8 << 20)
#define PLUGIN_SNAPSHOT_BYTES_MAX (((uint32_t)64 << 20) - 4096)
/* A snapshot is tried with so much room first, then with four times as much each time. */
#define PLUGIN_SNAPSHOT_BYTES_FIRST ((uint32_t)64 << 10)
/* Why a call failed, and a log line of a plugin, its end included: what the public header promises. */
#define PLUGIN_TEXT_SIZE 256
/* Patterns and grants of one plugin, and their sizes: a table of a dozen KiB. */
#define PLUGIN_PATTERNS_MAX 16
#define PLUGIN_GRANTS_MAX 16
#define PLUGIN_PATH_MAX 512
/* Restarts of one instance in a period before it is given up: three tries for each of twenty bad messages. */
#define PLUGIN_INTENSITY_DEFAULT 60
#define PLUGIN_PERIOD_MS_DEFAULT 10000
/* The first restart after a quiet time comes at once. While it goes on failing they are held back, but by less than the
 * start of a process takes: it is the intensity that bounds what they cost. */
#define PLUGIN_BACKOFF_MIN_MS 1
#define PLUGIN_BACKOFF_MAX_MS 2
#define PLUGIN_BACKOFF_QUIET_MS 500
/* Tries of one message before it goes to $dead/TOPIC: as for topics. */
#define PLUGIN_ATTEMPTS_MAX 3
/* A snapshot, a restore or an input handled again that failed so often in a row is given up: state is lost rather than
 * the plugin. More often than a message is tried, since whoever ends instances from outside meets them at it now and
 * then, and far below the restarts of a period. */
#define PLUGIN_STATE_ATTEMPTS_MAX 5

/* Of what a processor failed of for good, the last ones are not given to it again as entries: as many as may fail in a
 * period before it is given up, three times over. */
#define PLUGIN_BURIED_MAX 64u

/* Inputs since the last snapshot, kept to be handled again: what a restart goes through, some ten milliseconds. A
 * snapshot is asked for after the first number, or, where snapshots are large, before the bound. */
#define PLUGIN_KEPT_SNAPSHOT 4096u
#define PLUGIN_KEPT_MAX 16384u
#define PLUGIN_KEPT_FIRST 64u
#define PLUGIN_KEPT_BYTES_SNAPSHOT ((size_t)1 << 20)
#define PLUGIN_KEPT_BYTES_MAX ((size_t)8 << 20)
/* Their bytes lie in blocks, each twice as large as the one that was filled before it, up to this size; larger ones
 * have one of their own. */
#define PLUGIN_PAGE_FIRST ((size_t)256)
#define PLUGIN_PAGE_SIZE (((size_t)64 << 10) - 64)
/* Inputs given to a host and not done: enough to keep a process busy over its wake-up. */
#define PLUGIN_INFLIGHT_MAX 1024u
/* Records emitted to a fold's topics and not acknowledged yet. */
#define PLUGIN_SENT_MAX 8192u
/* Of a batch of smaller values each is copied, and those emitted as they are, too, into what is gathered for one topic:
 * that costs less than a message for each batch. */
#define PLUGIN_LEND_MIN ((size_t)1024)
/* Records and bytes gathered for one topic before they are sent. */
#define PLUGIN_GATHER_BYTES (((size_t)64 << 10) - 64)
/* A processor's emissions that their topics have not folded: as many bytes as of inputs. What keeping those of one
 * topic costs beside them counts as well; of so many topics it is kept also while there are none. */
#define PLUGIN_OUTGOING_BYTES_MAX PLUGIN_KEPT_BYTES_MAX
#define PLUGIN_OUTGOING_COST ((size_t)1024)
#define PLUGIN_OUTGOING_KEPT 256u
/* Those that a topic had no memory for come again after PLUGIN_RETRY_NS, twice as long each time, up to this. */
#define PLUGIN_OUTGOING_BACKOFF_MAX_NS (UINT64_C(500) * 1000 * 1000)
/* How long one that is unloaded waits for topics to decide what it emitted: a topic that is merely busy needs far less.
 * Its supervisor waits somewhat longer, and a broker that is shut down has all of them end at once. */
#define PLUGIN_ENDING_MS 1000
#define PLUGIN_SHUTDOWN_MS 2000
/* How long a reload waits for the running instance to end what it has, which topics without room or memory may hold up
 * for any time: less than whoever ordered it waits for an answer. */
#define PLUGIN_RELOAD_MS 2500
/* Topics that a plugin knows: its own, those it follows and those it emits to. */
#define PLUGIN_PLACES_MAX (1u << 20)
#define PLUGIN_TIMERS_MAX 1024u
/* Bytes that each followed topic may send ahead; a pattern may match very many. */
#define PLUGIN_FEED_WINDOW ((uint32_t)256 << 10)
#define PLUGIN_FEED_WINDOW_PATTERN ((uint32_t)64 << 10)
/* Inputs given in one turn before other actors get theirs. */
#define PLUGIN_TURN_INPUTS 1024u
/* Without memory or room on a control lane, which no message tells of: try again after so long. */
#define PLUGIN_RETRY_NS (UINT64_C(5) * 1000 * 1000)
/* A subscription that the broker had no room for is asked for again after so long; each time topics tell it their state
 * anew. */
#define PLUGIN_FOLLOW_RETRY_NS (UINT64_C(2) * 1000 * 1000 * 1000)

/* A timer: a year, far from where milliseconds as nanoseconds would overflow. */
#define PLUGIN_TIMER_MS_MAX (UINT64_C(366) * 24 * 3600 * 1000)
/* One input. A turn of an actor is reported at a tenth of this; what needs longer is no handling of one record. */
#define PLUGIN_TIME_MS_DEFAULT 1000
/* Opening, init and restore: a snapshot of many MiB is read again in well under a second. */
#define PLUGIN_START_MS_DEFAULT 5000
/* Each way between broker and child, allocated whole: thousands of usual records, so that each wake-up serves many. */
#define PLUGIN_RING_BYTES_DEFAULT ((uint32_t)512 << 10)

#endif
