/* The bounds of topics, each with its reason. What a topic_rule leaves at 0 takes the default from here. */
#ifndef ACTORS_TOPIC_TOPIC_LIMITS_H
#define ACTORS_TOPIC_TOPIC_LIMITS_H

/* What resume and slow subscribers can reach back to, unless the rule says otherwise: some seconds of a busy topic. */
#define RETAIN_COUNT_DEFAULT 16384
#define RETAIN_BYTES_DEFAULT ((size_t)4 << 20)
/* Below this a ring would be a page or two and every breath of a subscriber a resync. */
#define RETAIN_BYTES_MIN ((size_t)4096)

/* Pages start small, so that an idle topic costs little, and grow with what is retained, so that a busy one sends long
 * runs. A page is at most 1/RING_PAGES_MIN of the ring, so that evicting one loses little. */
#define RING_PAGE_SIZE_MIN ((size_t)512)
#define RING_PAGE_SIZE_MAX ((size_t)65536)
#define RING_PAGES_MIN 16
/* Of the memory ceiling, what topics leave to connections: without an eighth of it nobody could be told that topics are
 * full. Subscriptions may use half of that, beside what is received. */
#define STATE_LEAVES_PART 8
#define SUBSCRIPTIONS_LEAVE_PART 16
/* Pages given up at once to make room when memory is short; more would throw history away in vain. */
#define RING_RELIEF_MAX 8
/* When topics use more than this part of their budget, every ring above half its share of it is halved, within these
 * sizes: what is kept for those who may come back yields to what is published now. */
#define RING_PRESSURE_PART(bytes) ((bytes) / 4 * 3)
#define RING_TRIM_SIZE_MAX ((size_t)65536)
#define RING_TRIM_SIZE_MIN ((size_t)1024)
/* Topics looked at, at the most, for each page that a ring grew by while memory was short. */
#define RING_TRIM_LOOKS 16
/* One record; the arena's largest block, less the mark. */
#define RECORD_SIZE_MAX (((size_t)64 << 20) - 4096)

/* Leaves of a map: up to about 4 KiB, as the memory page (some split from 5/8 of it on, see map_tree.c), growing
 * towards it so that a small map is small. */
#define MAP_LEAF_SIZE_MIN ((size_t)256)
#define MAP_LEAF_SIZE_MAX ((size_t)4096)
/* A larger pair has a block of its own: at least two pairs fit a leaf, so that splitting it always helps. */
#define MAP_LARGE_SIZE ((size_t)1024)
/* Deleted keys that are remembered, so that who comes back needs only what changed: some ten thousand. */
#define MAP_DELETED_BYTES_MAX ((size_t)1 << 20)
#define MAP_DELETED_PAGE_MIN ((size_t)256)
#define MAP_DELETED_PAGE_MAX ((size_t)4096)
/* Leaves and segments that one step of reading passes over, when nothing in them is wanted: some ten microseconds. */
#define MAP_READ_STEPS_MAX 256
/* Leaves that one step of a page looks at, some fifteen microseconds, and the looks that are charged for it. */
#define MAP_PAGE_STEPS_MAX 16
#define MAP_PAGE_LOOKS 256
/* Pairs that one step of a feed with a filter passes over: some ten microseconds. */
#define FILTER_LOOKS_MAX 256
/* A feed with a filter is told how far its topic is, when that left out all that came, not more often than this. */
#define FILTER_PROGRESS_MS 1000
/* 256 leaves in a segment, 8,192 segments in the root: about 4 GiB of state; what one write copies while a snapshot
 * is out is at most a root of 64 KiB, a segment of 2 KiB and a leaf. */
#define MAP_SEGMENT_BITS_MAX 8
#define MAP_ROOT_BITS_MAX 13

/* Members that one patch of a merged map may name: as many as a message may have records. The plan of them is 4 MiB.
 * They are one turn, as a patch is taken wholly or not at all: 40 to 81 ms of it on a busy machine, in states of 65,536
 * and of half a million members, with a snapshot held and without; 2.5 to 12 ms with 8,192 members. */
#define MERGE_MEMBERS_MAX 65536
/* Patches of so few members, and what they make of them, are worked out on the stack. */
#define MERGE_MEMBERS_FEW 16
#define MERGE_SCRATCH_FEW 1536
/* What more members become is put together in blocks of this size, a pair that may be longer in one of its own. */
#define MERGE_SCRATCH_SIZE ((size_t)16384)

/* Steps by which a map gives memory back in one turn, after one snapshot or clearing left much to give: below 100 us.
 */
#define TOPIC_SWEEP_STEPS 1024
/* Steps that freeing a block counts for: a few cache misses. */
#define MAP_SWEEP_FREE_STEPS 16
/* The last block of a slab gives that back to the system, for 20 to 100 us; after clearing a large map those of all
 * slabs come one after the other. After so many a turn has done enough; what a thread keeps of free blocks goes back at
 * once, so that it may be some more. */
#define MAP_SWEEP_RETURNS_MAX 2
/* For the sake of one record that found no memory: 32 blocks are more than it can need, and a batch's stay a turn. */
#define MAP_SWEEP_RELIEF_STEPS 512

/* Pages that a segment of a log holds: what one write copies while a snapshot is out is the root, 8 bytes a segment. */
#define LOG_SEGMENT_PAGES 32

/* Records whose place in the state is fetched together: as many misses as a processor has under way at once; what
 * they fetch, half a KiB each, stays in its first cache but one. */
#define FOLD_PREPARE_MAX 16
/* Records folded in one turn before other actors get theirs, and up to a batch more: below a millisecond, though each
 * of them may wait for memory and copy a leaf. */
#define TOPIC_TURN_RECORDS 512
/* Those of kind last without options always cost the same, some 50 ns. While what the turn has folded is below what
 * subscribers are sent in one run, it goes on, up to so many records that it is over in half a millisecond: each turn
 * costs a send to each subscriber, and one to each publisher. */
#define TOPIC_TURN_BYTES ((size_t)65536)
#define TOPIC_TURN_CHEAP 4096
/* Envelopes sent to one feed, and to all, before the others and the mailbox get their turn. */
#define FEED_SENDS_MAX 16
#define TOPIC_SENDS_MAX 4096
/* Requests that wait for a plugin to know the topic, which is a matter of one turn of each: those of a dozen
 * connections with all that they may have outstanding. */
#define TOPIC_ASKS_WAITING_MAX 1024
/* Different snapshots held at once by joiners of one topic; each may keep a copy of every page alive. */
#define TOPIC_SNAPSHOTS_MAX 8
/* Times in a row that a feed of policy resync is overtaken before it has caught up: then it is conflated until it has.
 * The first may be bad luck; each costs a snapshot. */
#define OVERTAKINGS_MAX 3
/* Records that a conflated feed looks at in one step, and for how many looks of filters one send of the turn's is
 * charged: such a look costs about a quarter of a send. One of a conflated feed goes to the map, where in a large one
 * it finds little in the processor's caches: it is charged a send. */
#define CONFLATE_LOOKS_MAX 64
#define CONFLATE_LOOKS_SEND 4
/* Of a delta, runs shorter than this are put together, up to a quarter of what a frame of a snapshot may have, from so
 * many at the most: a leaf here and there, each some misses. */
#define DELTA_RUN_MIN 1024u
#define DELTA_GATHERED_MAX ((size_t)16384)
#define DELTA_READS_MAX 128
/* What a recall holds of the changes in a map, which is gone through once for each: a part of its keys, so that a
 * bounded number of them have all of up to a million keys; at most a MiB, which is sorted in a millisecond; and more
 * than two leaves may have pairs. While it is made it takes twice as much. */
#define RECALL_PART 16
#define RECALL_SIZE_MIN 1024u
#define RECALL_SIZE_MAX 65536u
/* The looks that are charged for a step of making one, so that a turn has some half a millisecond of them, and
 * the changes that one look is charged for where many of them are cut off, or what is left is sorted. */
#define RECALL_LOOKS 1024
#define RECALL_CUT_LOOK 16
#define RECALL_SORT_LOOK 4
/* Pairs of a recall on their way to subscribers, copied one behind the other into blocks of this size. */
#define RECALL_PAGE 16384u
/* Recalls of one topic: some for each part of it. Who stalls keeps one, so that without a bound those who stalled at
 * different moments could use up the memory of all subscriptions. */
#define RECALLS_MAX 32
/* Batches of feeds with one interval begin at so many different moments of it at the most, so that a timer wakes many;
 * and not more often than this. */
#define PACE_GRAINS 8
#define PACE_GRAIN_MIN_NS UINT64_C(1000000)
/* When the bucket of snapshots is empty, the directory looks again no sooner than this: some MiB at a usual rate, so
 * that timers are few. */
#define ADMISSION_PAUSE_MIN_NS UINT64_C(1000000)
/* A log bounded by age looks this many times an age for what is too old. */
#define LOG_AGE_CHECKS 4

/* What is remembered of each publisher's numbered records, unless the rule says otherwise: more than libweir ever has
 * unanswered at once (PUBLISHER_UNANSWERED_MAX), at 24 bytes each. */
#define DEDUP_RECORDS_DEFAULT 4096
/* Publishers remembered by one topic: 24 MiB at most with the window above, of the topic's budget. */
#define DEDUP_PUBLISHERS_DEFAULT 256
/* Publishers forgotten at once to make room when memory is short. */
#define DEDUP_RELIEF_MAX 8
/* Keys that one session may have bound in one topic: a gateway speaking for its devices has thousands. */
#define BOUND_KEYS_DEFAULT 65536
/* Removals in one turn, each a search in heap and state, before other actors get theirs: below a millisecond. */
#define LAPSE_TURN_RECORDS 256
/* A removal that could not be made, for want of memory or because a subscriber blocks, is tried again after this. */
#define LAPSE_RETRY_MS 100
/* What a plugin emitted to its own topic, and there is no memory for, is tried again after so long, twice as long each
 * time up to the next one; nothing that comes behind it overtakes it. Without any progress it is refused after the last
 * one: where the topic is itself what fills the memory, only what comes behind, or an operator, can make room. */
#define FORWARD_SHORT_MIN_MS 5
#define FORWARD_SHORT_MAX_MS 500
#define FORWARD_SHORT_END_MS 10000

/* Ensures and subscriptions waiting: a connection has a few under way, and there may be thousands of connections. */
#define DIRECTORY_MAILBOX_MAX 8192
/* Topics visited, or feeds undone, in one turn of the directory: well below a millisecond. */
#define DIRECTORY_STEP_MAX 512
/* What a dead letter's record may be wrapped with: cause, attempts, seq, time and the map around them. */
#define DEAD_LETTER_EXTRA_SIZE 256

#endif
