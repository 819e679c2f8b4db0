/* Every bound that is a constant, with its reason. Bounds that an operator can set are in the
 * configuration; what stands here for those is the default. */
#ifndef ACTORS_BASE_LIMITS_H
#define ACTORS_BASE_LIMITS_H

/* Data messages in one mailbox unless told otherwise: at 64 B each a full one is 64 KiB, and a worker
 * goes through it in well under a millisecond, so a publisher held back by it is not held long. */
#define MAILBOX_MAX_DEFAULT 1024
/* The mailbox counts in 16 bits. */
#define MAILBOX_MAX 65535
/* Control messages (credit, joins, timers): each sender has a few under way at most; this serves the
 * most connections a broker may have (CONNECTIONS_MAX_DEFAULT), several times over. */
#define CONTROL_MAX 65535
/* Messages handled in one turn before other actors get theirs: long enough to spread the cost of a
 * switch, short enough that the last of 1,000 busy actors waits some milliseconds. */
#define TURN_MESSAGES_MAX 128
/* A turn longer than this is reported with the actor's name. */
#define TURN_WARN_NS (UINT64_C(100) * 1000 * 1000)
#define BLOCKING_THREADS_DEFAULT 2
#define BLOCKING_QUEUE_MAX 1024
#define WORKERS_MAX 64

/* A topic name, as MQTT and NATS users write them; fits one length byte. */
#define TOPIC_NAME_SIZE_MAX 255
/* Deeper values are no data, they are attacks on recursive readers. */
#define MSGPACK_DEPTH_MAX_DEFAULT 16
/* One message on the wire. Larger state is streamed in many. */
#define MESSAGE_SIZE_MAX_DEFAULT (1024 * 1024)
#define MESSAGE_SIZE_MAX (64 * 1024 * 1024)
/* Records in one message: each costs an entry of an index, so this bounds it at 1 MiB. */
#define RECORDS_PER_MESSAGE_MAX_DEFAULT 65536
#define KEY_SIZE_MAX 1024

/* One log line: a label, a peer and a topic name in quotes fit; longer lines are cut. Below PIPE_BUF,
 * so that lines of different threads never mix in a pipe. */
#define LOG_LINE_SIZE_MAX 2048

/* Slots that a thread's cache trades with its pool at once: one lock for so many messages that cross
 * threads. A cache holds twice as many, of envelopes as many as its user says. */
#define SLOTS_BATCH 64

/* Bytes that a budget keeps from its parent without using them, so that not every charge climbs the
 * chain: little enough for ten thousand idle topics, much enough for a burst of blocks. */
#define BUDGET_SLACK_MIN (4 * 1024)
#define BUDGET_SLACK_MAX (256 * 1024)
/* broker, kind of owner, owner, part of an owner. */
#define BUDGET_DEPTH_MAX 4

/* Free slabs of 256 KiB whose memory the arena keeps for reuse: 8 MiB, so that bursts of large blocks do not
 * fault their pages in each time, but no more than a sixteenth of the ceiling; and once much is in use, a
 * thirty-second of that. More would show in resident memory: it should stay within 1.3 of what is live. */
#define ARENA_SLABS_KEPT 32
#define ARENA_SLABS_KEPT_CEILING_PART 16
#define ARENA_SLABS_KEPT_USED_PART 32
/* Threads that come to rest look this often for free memory that nobody needed since: then half of it goes back, a slab
 * at least, since what one burst needed the next may, too; and not more slabs at once than take some 0.2 ms, which who
 * wants memory meanwhile waits for. So 8 MiB are gone within three seconds, but for the first MiB. */
#define ARENA_REST_NS (UINT64_C(250) * 1000 * 1000)
#define ARENA_REST_RETURNS_MAX 4
#define ARENA_SLABS_KEPT_RESTING 4

/* Supervision. How long a child may take to end in order unless its spec says otherwise: OTP's 5 s. */
#define SUPERVISOR_SHUTDOWN_MS 5000
/* Restarts in a period before a supervisor gives up, unless told: enough for a stumble, few enough that a
 * child that cannot live is known within seconds. */
#define SUPERVISOR_INTENSITY_DEFAULT 5
#define SUPERVISOR_PERIOD_MS_DEFAULT 10000
/* The window keeps the time of each restart, 8 bytes each; more than so many mean "unlimited". */
#define SUPERVISOR_INTENSITY_MAX 10000
/* Deaths remembered for each child that ever failed: what fits on a person's screen beside the tree. */
#define SUPERVISOR_DEATHS_KEPT 8
/* Dynamic children told to end at the same time: far below what the supervisor's control lane holds. */
#define SUPERVISOR_STOP_WAVE 1024
/* The runtime could not spawn a child (memory): ask again after so long. */
#define SUPERVISOR_SPAWN_RETRY_MS 100
/* Children in one tree unless told: twice the million actors a broker is measured with. 32 bytes each. */
#define SUPERVISION_CHILDREN_MAX (2 * 1024 * 1024)
/* Supervisors in one tree: their ids have 16 bits. */
#define SUPERVISORS_MAX 65534

#endif
