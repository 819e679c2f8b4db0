/* Shared memory between two processes that need not trust each other: two byte rings, one each way, single producer and
 * single consumer. Each side has a half, a memfd that it alone can write: a page of words and the data it sends. It
 * maps the other's half read-only. The broker makes both halves; sizes are sealed, and its own half is sealed against
 * any further writable mapping, so that a child that maps it can only read.
 *
 *   1. Positions are 64-bit counts of bytes since the start and never go around. A producer writes data, then its tail
 *      (release); the consumer reads tail (acquire), then data, then writes its head (release), which the producer
 *      reads (acquire) before it writes those bytes again.
 *   2. Every word of the other half is read once into a local and checked before it is used: a position that moves
 *      back, or further than the data area allows, and a frame that is longer than what is there, make the ring bad for
 *      good. A frame's bytes can change while they are read: who does not trust the other side copies them first.
 *   3. The data area is mapped twice in a row, so that every frame is in one piece.
 *   4. Sleeping: a side that finds nothing says so (channel_want: its `wants` rises), looks once more, then sleeps. The
 *      other side makes its change visible, then looks at `wants`, and wakes once for each value of it. All four steps
 *     are sequentially consistent, so one of the two sees the other's. A side that lies there only harms itself. Who
 *      waits for room says that, too (channel_want_room), so that who only reads need not wake one that waits for what
 *      is written.
 *   5. Only a change since `wants` was last looked at is worth a wake-up: what was visible then is seen by whoever has
 *     wanted since. Two sides that want and have nothing would otherwise wake each other for ever.
 *
 * One thread at a time on each side, except where said. */
#ifndef ACTORS_PLUGIN_CHANNEL_H
#define ACTORS_PLUGIN_CHANNEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir_error.h"

/* The words of a half. Written by its owner alone; the other side reads them. */
struct channel_words {
    _Atomic uint64_t tail;   /* bytes produced into this half's data (release; pairs with the other's acquire) */
    _Atomic uint64_t head;   /* bytes consumed of the other half's data (the same) */
    _Atomic uint32_t wants;  /* rises when the owner is about to sleep (sequentially consistent, rule 4) */
    _Atomic uint32_t rooms;  /* rises before wants does when it is room that is waited for (the same) */
    _Atomic uint32_t bell;   /* rises when the other side is to be woken: the futex that a child sleeps on */
    _Atomic uint64_t number; /* a child's: the input in hand, a hint for people; relaxed */
    _Atomic uint32_t hint;   /* a child's: why it is about to die, enum channel_hint; relaxed, for people only */
};
enum channel_hint { CHANNEL_HINT_NONE, CHANNEL_HINT_NO_MEMORY };

struct channel {
    struct channel_words *own;
    const struct channel_words *other;
    uint8_t *own_data;
    const uint8_t *other_data;
    uint64_t size;       /* of either data area, a power of two */
    uint64_t written;    /* produced, not yet published beyond own->tail */
    uint64_t read;       /* consumed */
    uint64_t other_head; /* as last seen, checked */
    uint64_t other_tail;
    uint64_t told_tail; /* own positions when other->wants was last looked at, rule 5 */
    uint64_t told_head;
    uint32_t woken;    /* the value of other->wants that was last answered */
    uint32_t made;     /* the value of other->rooms that was */
    const char *fault; /* why the ring is bad; NULL: it is not */
};

#define CHANNEL_BYTES_MIN ((uint32_t)4096)
#define CHANNEL_BYTES_MAX ((uint32_t)64 << 20)

/* A frame: a head of eight bytes, then size bytes, rounded up to eight. */
struct channel_frame {
    uint32_t size;
    uint32_t flags; /* CHANNEL_FRAME_MORE: the next frame goes on with the same message */
};
#define CHANNEL_FRAME_MORE 1u

/* Makes a half with a data area of size (a power of two, CHANNEL_BYTES_MIN to _MAX), its size sealed, its memory
 * allocated. WEIR_NO_MEMORY, WEIR_IO. The caller closes *fd. */
WEIR_MUST_USE enum weir_error channel_half_create(uint32_t size, int *fd);
/* Lets nobody map it writable from now on (who has, keeps it). Call after channel_map. */
WEIR_MUST_USE enum weir_error channel_half_seal(int fd);

/* Maps own (writable) and other (read-only). Both keep existing when the descriptors are closed. */
WEIR_MUST_USE enum weir_error channel_map(struct channel *ring, int own_fd, int other_fd, uint32_t size);
void channel_unmap(struct channel *ring);

/* Bytes that a frame of size takes. */
static inline uint64_t channel_frame_bytes(uint64_t size)
{
    return (sizeof(struct channel_frame) + size + 7) & ~UINT64_C(7);
}

/* Room for a frame of size bytes: where to write them; NULL: none now, or the ring is bad. channel_commit then takes
 * it as written; channel_publish shows all committed frames to the other side. */
uint8_t *channel_reserve(struct channel *ring, uint32_t size);
void channel_commit(struct channel *ring, uint32_t size, uint32_t flags);
void channel_publish(struct channel *ring);
/* Free bytes for frames, heads included, as last seen; looks again when it is less than wanted. */
uint64_t channel_room(struct channel *ring, uint64_t wanted);

/* The next frame, its head read once and checked; its bytes in the other's memory. False: none now, or the ring is bad
 * (ring->fault). */
bool channel_peek(struct channel *ring, struct channel_frame *frame, const uint8_t **data);
/* Done with the frame that channel_peek gave: its room is the other side's again. */
void channel_consume(struct channel *ring, const struct channel_frame *frame);
/* Bytes that wait to be read, looked up anew (checked). */
uint64_t channel_waiting(struct channel *ring);

/* About to sleep (rule 4): then look once more before doing so. */
void channel_want(struct channel *ring);
void channel_want_room(struct channel *ring);
/* Whether the other side is to be woken now: true once for each of its wants, and only when something was published or
 * consumed since the last call. */
bool channel_must_wake(struct channel *ring);
/* The same after channel_consume alone, for one that waits for room. */
bool channel_must_wake_for_room(struct channel *ring);
/* For a thread that watches the other side and uses nothing of what it says: whether its positions have moved since the
 * last call. They only rise, and it has read no more than was published; whatever else it writes there is no move. */
struct channel_moved {
    uint64_t tail, head; /* as of then; 0 at first */
};
bool channel_has_moved(const struct channel *ring, struct channel_moved *seen);
/* A child sleeps until the other side's bell is no longer `seen` (read before channel_want), or timeout_ns (UINT64_MAX:
 * none) has passed; may return early. And the other side's ringing of it: one system call. */
uint32_t channel_bell(const struct channel *ring);
void channel_sleep(struct channel *ring, uint32_t seen);
void channel_wake(struct channel *ring);

#endif
