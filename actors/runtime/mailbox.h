/* A mailbox: a stack of envelopes, its two counts and its end mark, all in one atomic word.
 *
 * Many threads push, one worker (the one that runs the actor) takes. Because queue, bound and wake-up
 * are the same word, one compare-and-swap decides all three at once:
 *
 *   1. A push links the envelope on top and counts it. It is refused when its lane's count is at the
 *      bound, so the bound is exact.
 *   2. The push that finds both counts 0 found the actor idle and is the one that schedules it.
 *   3. A take removes the stack but leaves the counts. They go down in mailbox_settle at the end of the
 *      turn; whoever brings them to 0 has made the actor idle. A push that comes before is seen there
 *      (the result is not 0, so the actor is queued again), one that comes after sees 0 and schedules:
 *      no wake-up is lost and no actor is queued twice.
 *   4. A closed mailbox refuses everything for ever, or until the slot serves a new actor.
 *
 * A sender may be held up between its look at the actor's generation and its push, while the actor ends
 * and the slot serves another one. The envelope carries the generation it was meant for; the receiver
 * discards one that is not its own. To the sender that is an actor that ended right after the push. */
#ifndef ACTORS_RUNTIME_MAILBOX_H
#define ACTORS_RUNTIME_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "actors/base/assert.h"
#include "actors/base/limits.h"
#include "actors/memory/slots.h"
#include "actors/runtime/message.h"

/* A message in its slot. Written by the sender before its push (release), by the receiver after its take
 * (acquire): never by two at once. The pool's link and ours share the first 4 bytes. */
struct envelope {
    uint32_t next;  /* the envelope below, or the one behind in the receiver's lists */
    uint32_t flags; /* ENVELOPE_* | attempts << 22 | generation it is meant for */
    struct message message;
};

_Static_assert(sizeof(struct envelope) == 64, "an envelope is one cache line");

#define ENVELOPE_CONTROL (UINT32_C(1) << 31)
#define ENVELOPE_COMMAND (UINT32_C(1) << 30) /* for the runtime, not for on_message */
#define ENVELOPE_ATTEMPT (UINT32_C(1) << 22)
#define ENVELOPE_ATTEMPTS_MAX UINT32_C(255)
#define ENVELOPE_GENERATION_MASK (ENVELOPE_ATTEMPT - 1)

static inline uint32_t envelope_attempts(uint32_t flags) { return (flags >> 22) & ENVELOPE_ATTEMPTS_MAX; }

/* The word: top envelope in bits 63 to 32, control count in 31 to 16, data count in 15 to 0. */
#define MAILBOX_DATA_ONE UINT64_C(1)
#define MAILBOX_CONTROL_ONE (UINT64_C(1) << 16)
#define MAILBOX_COUNTS UINT64_C(0xffffffff)
#define MAILBOX_TOP_CLOSED UINT32_C(0xffffffff)
#define MAILBOX_CLOSED ((uint64_t)MAILBOX_TOP_CLOSED << 32)

/* What remains of CONTROL_MAX for the runtime's own control messages, which nobody may lose, and behind
 * those for the tokens that stand for no envelope (start, stop, room): at most 3 at a time. */
#define MAILBOX_CONTROL_USERS_MAX (CONTROL_MAX - 1023)
#define MAILBOX_CONTROL_RUNTIME_MAX (CONTROL_MAX - 15)

/* A flag beside a mailbox's bound: while it is set no data message is taken in. */
#define MAILBOX_MUTED (UINT32_C(1) << 31)

static inline uint32_t mailbox_bound(uint32_t mailbox_max) { return mailbox_max & MAILBOX_MUTED ? 0 : mailbox_max; }

static inline uint32_t mailbox_top(uint64_t word) { return (uint32_t)(word >> 32); }
static inline uint32_t mailbox_data(uint64_t word) { return (uint32_t)(word & 0xffff); }
static inline uint32_t mailbox_control(uint64_t word) { return (uint32_t)(word >> 16) & 0xffff; }
static inline bool mailbox_is_closed(uint64_t word) { return mailbox_top(word) == MAILBOX_TOP_CLOSED; }

/* Whether a push of that lane would be refused now, and as what. */
static inline enum weir_error mailbox_refusal(uint64_t word, bool is_control, uint32_t lane_max)
{
    if (__builtin_expect(mailbox_is_closed(word), 0))
        return WEIR_STALE;
    uint32_t count = is_control ? mailbox_control(word) : mailbox_data(word);
    return __builtin_expect(count >= lane_max, 0) ? WEIR_FULL : WEIR_OK;
}

/* Pushes the envelope on OK. word: the mailbox as the caller looked at it (relaxed) and found it not refusing.
 * *was_idle: the caller must schedule the actor. WEIR_FULL, WEIR_STALE. */
WEIR_MUST_USE static inline enum weir_error mailbox_push(_Atomic uint64_t *mailbox, uint64_t word,
                                                         struct envelope *envelope, uint32_t index, bool is_control,
                                                         uint32_t lane_max, bool *was_idle)
{
    uint64_t one = is_control ? MAILBOX_CONTROL_ONE : MAILBOX_DATA_ONE;
    for (;;) {
        envelope->next = mailbox_top(word);
        uint64_t next = ((uint64_t)index << 32) | ((word & MAILBOX_COUNTS) + one);
        /* Release: the envelope's contents, for the take. Acquire: the push that finds the actor idle passes
         * on, through the run queue, what the last turn wrote before its settle. */
        if (atomic_compare_exchange_weak_explicit(mailbox, &word, next, memory_order_acq_rel, memory_order_relaxed))
            break;
        enum weir_error error = mailbox_refusal(word, is_control, lane_max);
        if (error)
            return error;
    }
    *was_idle = (word & MAILBOX_COUNTS) == 0;
    return WEIR_OK;
}

/* Counts a token, a control message that has no envelope, so that the actor gets a turn. True: the caller
 * must schedule it. False when it has turns coming anyway, or is closed. Late ones may reach the slot's next
 * actor: tokens are nobody's in particular, and whoever finds nothing but tokens clears them. */
static inline bool mailbox_nudge(_Atomic uint64_t *mailbox)
{
    uint64_t word = atomic_load_explicit(mailbox, memory_order_seq_cst);
    do {
        if (mailbox_is_closed(word) || mailbox_control(word) == CONTROL_MAX)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(mailbox, &word, word + MAILBOX_CONTROL_ONE, memory_order_acq_rel,
                                                    memory_order_relaxed));
    return (word & MAILBOX_COUNTS) == 0;
}

/* Removes the stack, newest first, keeps the counts; 0 when there is none. Only the actor's worker. */
static inline uint32_t mailbox_take(_Atomic uint64_t *mailbox)
{
    uint64_t word = atomic_load_explicit(mailbox, memory_order_relaxed);
    while (mailbox_top(word) != 0) {
        /* Acquire: pairs with every push whose envelope is in the stack (a release sequence of swaps). */
        if (atomic_compare_exchange_weak_explicit(mailbox, &word, word & MAILBOX_COUNTS, memory_order_acquire,
                                                  memory_order_relaxed))
            return mailbox_top(word);
    }
    return 0;
}

/* The word says that nothing but tokens waits. True: cleared, the actor is idle. False: the word, updated
 * here, has changed. Only the actor's worker, which has looked at the actor's orders since it read the word. */
static inline bool mailbox_clear_tokens(_Atomic uint64_t *mailbox, uint64_t *word)
{
    return atomic_compare_exchange_strong_explicit(mailbox, word, 0, memory_order_acq_rel, memory_order_acquire);
}

/* Takes what was handled off the counts. Returns the word as it is then: counts 0 means that the actor is
 * idle and that the caller may no longer touch it. Only the actor's worker. */
static inline uint64_t mailbox_settle(_Atomic uint64_t *mailbox, uint32_t data, uint32_t control)
{
    uint64_t handled = data * MAILBOX_DATA_ONE + control * MAILBOX_CONTROL_ONE;
    /* Release: the actor's state, for whoever runs it next. */
    return atomic_fetch_sub_explicit(mailbox, handled, memory_order_acq_rel) - handled;
}

/* Closes the mailbox and takes what is in it. Only the actor's worker. */
static inline uint32_t mailbox_close(_Atomic uint64_t *mailbox)
{
    uint64_t word = atomic_exchange_explicit(mailbox, MAILBOX_CLOSED, memory_order_acq_rel);
    INVARIANT(!mailbox_is_closed(word));
    return mailbox_top(word);
}

#endif
