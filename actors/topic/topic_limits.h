/* The bounds of topics, each with its reason. What a topic_rule leaves at 0 takes the default from here. */
#ifndef ACTORS_TOPIC_TOPIC_LIMITS_H
#define ACTORS_TOPIC_TOPIC_LIMITS_H

/* What resume and slow subscribers can reach back to, unless the rule says otherwise: some seconds of a busy topic. */
#define RETAIN_COUNT_DEFAULT 16384
#define RETAIN_BYTES_DEFAULT ((size_t)4 << 20)
/* Below this a ring would be a page or two and every breath of a subscriber a resync. */
#define RETAIN_BYTES_MIN ((size_t)4096)

/* Pages start small, so that an idle topic costs little, and grow fourfold while they fill up, so that a busy one
 * sends long runs. A page is at most 1/RING_PAGES_MIN of the ring, so that evicting one loses little. */
#define RING_PAGE_SIZE_MIN ((size_t)512)
#define RING_PAGE_SIZE_MAX ((size_t)65536)
#define RING_PAGES_MIN 16
/* Pages given up at once to make room when memory is short; more would throw history away in vain. */
#define RING_RELIEF_MAX 8
/* When topics use more than this part of their budget, every ring above the size is halved, until they do not: what is
 * kept for those who may come back yields to what is published now. */
#define RING_PRESSURE_PART(bytes) ((bytes) / 4 * 3)
#define RING_TRIM_SIZE_MIN ((size_t)65536)
/* One record; the arena's largest block, less the mark. */
#define RECORD_SIZE_MAX (((size_t)64 << 20) - 4096)

/* Leaves of a map: 4 KiB as the memory page, growing towards it so that a small map is small. */
#define MAP_LEAF_SIZE_MIN ((size_t)256)
#define MAP_LEAF_SIZE_MAX ((size_t)4096)
/* A larger pair has a block of its own: at least three pairs fit a leaf, so that splitting it always helps. */
#define MAP_LARGE_SIZE ((size_t)1024)
/* 256 leaves in a segment, 8,192 segments in the root: about 5 GiB of state; what one write copies while a snapshot
 * is out is at most a root of 64 KiB, a segment of 2 KiB and a leaf. */
#define MAP_SEGMENT_BITS_MAX 8
#define MAP_ROOT_BITS_MAX 13

/* Pages that a segment of a log holds: what one write copies while a snapshot is out is the root, 8 bytes a segment. */
#define LOG_SEGMENT_PAGES 32

/* Records folded in one turn before other actors get theirs: about a millisecond. */
#define TOPIC_TURN_RECORDS 4096
/* Envelopes sent to one feed, and to all, before the others and the mailbox get their turn. */
#define FEED_SENDS_MAX 16
#define TOPIC_SENDS_MAX 4096
/* Different snapshots held at once by joiners of one topic; each may keep a copy of every page alive. */
#define TOPIC_SNAPSHOTS_MAX 8
/* A log bounded by age looks this many times an age for what is too old. */
#define LOG_AGE_CHECKS 4

/* Ensures and subscriptions waiting: a connection has a few under way, and there may be thousands of connections. */
#define DIRECTORY_MAILBOX_MAX 8192
/* Topics visited, or feeds undone, in one turn of the directory: well below a millisecond. */
#define DIRECTORY_STEP_MAX 512
/* What a dead letter's record may be wrapped with: cause, attempts, seq, time and the map around them. */
#define DEAD_LETTER_EXTRA_SIZE 256

#endif
