/* Spin model of an actor's mailbox and of the sleep and wake of the workers that run it. For the verifier;
 * tests/simulate/models.sh checks it exhaustively, and that each seeded fault below is found.
 *
 * What it models, function by function, at the grain of single atomic accesses:
 *   mailbox.h    mailbox_push (PUSH), mailbox_take (TAKE), mailbox_settle, mailbox_clear_tokens, mailbox_nudge,
 *                mailbox_close
 *   turn.c       turn_sort, gather, pop_taken, handle_messages, settle, queue_again
 *   caller.c     caller_post and caller_schedule, from threads that are no workers
 *   orders.c     orders_stop (with STOP)
 *   worker.c     worker_main, worker_next with global_take and steal, worker_attends_global
 *   run_queue.c  each worker's queue and the global list, as counts of the one actor
 *   park.c       park_wait with has_work, place_await, token_wait and token_take; park_wake and wake; with GUEST:
 *                park_borrow and park_give_back
 *   guest.c      actor_control_here (with GUEST): producers that take a sleeping worker's place
 *
 * Three producers send to one actor; two workers run it. Envelopes are fewer than messages, so that slots are used
 * again while somebody still remembers their index. What depends on measured time (worth helping, attended, a
 * turn's limit) is left to chance, so every answer is checked. Every access is sequentially consistent here; why
 * the weaker orders of the code suffice is said there.
 *
 * Claimed: each message is handled once (or, with STOP, dropped with the actor or refused as stale once), in its
 * sender's order; the bound holds; one worker at a time runs the actor, which is queued at most once; no tokens pile
 * up; all messages are handled in the end, and an order is carried out, whatever the interleaving (no wake-up lost).
 *
 * The whole is too large to search for three producers. So it is searched for two, and in parts for three:
 *   WORD   workers find what is queued without being woken: all of the word's interleavings
 *   PARK   a push and a turn are one step each: all of the sleepers' interleavings; TIMED: sleeps end by themselves too
 *   GUEST  with PARK: producers run turns in the place of sleepers
 *   STOP   besides, the actor is ordered to stop; LATE: a nudge comes that no order belongs to
 *
 * Faults, one -D each, and what they leave out or do otherwise:
 *   FAULT_NO_WAKE        the push that finds the actor idle does not schedule it
 *   FAULT_WAKE_BY_TOP    a push schedules where the stack is empty, not where the counts are 0
 *   FAULT_TAKE_CLEARS    the take clears the counts too
 *   FAULT_NO_SORT        the taken stack is handled newest first
 *   FAULT_BOUND_LATE     the bound is looked at before the swap, but the swap does not depend on it
 *   FAULT_LOOK_ONCE      a worker goes to sleep without its second look
 *   FAULT_LOOK_FIRST     the second look comes before the parked bit
 *   FAULT_WAKE_FIRST     the waker looks for sleepers before it queues
 *   FAULT_TOKEN_LEFT     a worker that wakes by itself does not wait for the token it is owed (with TIMED)
 *   FAULT_GUEST_LOOKS_FIRST  a guest looks for work that others queued before it sets the bit again (with GUEST)
 *   FAULT_GUEST_UNAWAITED    a guest does not look whether the worker it stands for waits (with GUEST, TIMED)
 *   FAULT_AWAIT_ONCE         a worker that waits for its place does not look for its bit again (with GUEST, TIMED)
 *   FAULT_ORDER_LATE     orders_stop counts its token before it sets the flag (with STOP)
 *   FAULT_CLEAR_BLIND    tokens are cleared by a store (with LATE) */

#ifdef PARK
#define ONE_STEP atomic
#else
#define ONE_STEP
#endif
#ifndef PRODUCERS
#define PRODUCERS 3
#endif
#ifndef MESSAGES
#define MESSAGES 2 /* of the first producer; the others send one each */
#endif
#ifndef BOUND
#define BOUND 2
#endif
#define ENVELOPES 3
#define ALL (PRODUCERS - 1 + MESSAGES)
#define SENDS (me == 0 -> MESSAGES : 1)
#define CLOSED 255

/* The mailbox's word. Read and swapped as one: always in one step. */
byte top, data, control;

/* What somebody remembers of it. A swap that fails looks again in the same step. */
inline look() { w_top = top; w_data = data; w_control = control }
inline forget() { w_top = 0; w_data = 0; w_control = 0 }
#define SAME_WORD top == w_top && data == w_data && control == w_control

/* Envelopes; 0 is none. */
byte below[ENVELOPES + 1], sender[ENVELOPES + 1], number[ENVELOPES + 1];
bool is_used[ENVELOPES + 1];

/* The actor's own: its list of taken messages. Touched by the worker that runs it. */
chan taken = [ENVELOPES] of { byte };
byte expected[PRODUCERS];

/* Where the actor is: the sum of these is at most 1. */
byte global, queue[2], running;

byte parked;   /* runtime.parked */
byte token[2]; /* worker.token */
bool awaited[2]; /* worker.is_awaited */
bool ordered, ended;

/* Ghosts: what became of the messages. */
byte handled_all, dropped_all, stale_all;

#define QUEUED (global + queue[0] + queue[1] + running)

/* ------------------------------------------------------------------------------------------ waking */

/* A freed envelope looks like any other: what it carried is nobody's business, and would only double states. */
inline free(envelope) { is_used[envelope] = 0; below[envelope] = 0; sender[envelope] = 0; number[envelope] = 0 }

/* Whoever is awake may be thought to come by in a moment. */
inline attends(wakes)
{
    if
    :: parked != 3
    :: parked != 0 -> wakes = 1
    fi
}

/* caller_schedule of a thread that is no worker: worker_attends_global, then park_wake with wake. */
inline schedule(wakes, who)
{
#ifdef FAULT_WAKE_FIRST
    atomic { attends(wakes) }
#endif
    atomic {
        global++;
        assert(QUEUED == 1)
    }
#ifndef FAULT_WAKE_FIRST
    atomic { attends(wakes) }
#endif
    if
    :: wakes ->
        /* Whoever clears a bit owes that worker the token. A bit that was seen and is gone is as one not seen. */
        atomic {
            if
            :: parked & 1 -> who = 1; parked = parked - 1
            :: parked & 2 -> who = 2; parked = parked - 2
            :: parked == 0
            fi;
            wakes = 0
        }
        if
        :: who != 0 ->
            d_step {
                assert(token[who - 1] == 0);
                token[who - 1] = 1;
                who = 0
            }
        :: who == 0
        fi
    :: else
    fi
}

/* ------------------------------------------------------------------------------------------- turns */

/* turn_sort: behind what was taken before, oldest first. */
inline sort(first, turned)
{
    turned = 0;
#ifdef FAULT_NO_SORT
    do
    :: first != 0 -> taken ! first; first = below[first]
    :: else -> break
    od
#else
    do
    :: first != 0 -> w_below = below[first]; below[first] = turned; turned = first; first = w_below
    :: else -> break
    od;
    do
    :: turned != 0 -> taken ! turned; turned = below[turned]
    :: else -> break
    od;
    w_below = 0
#endif
}

/* TAKE: gather, with mailbox_take. */
inline gather()
{
    d_step { look() }
    do
    :: w_top == 0 -> break
    :: w_top != 0 ->
        d_step {
            if
            :: SAME_WORD ->
                top = 0;
#ifdef FAULT_TAKE_CLEARS
                data = 0;
#endif
                sort(w_top, turned)
                w_top = 0
            :: else -> look()
            fi
        }
    od;
    atomic { forget() }
}

/* turn_end_actor: mailbox_close, and everything in it dropped. */
inline end_actor()
{
    d_step {
        w_top = top;
        assert(top != CLOSED);
        top = CLOSED;
        data = 0;
        control = 0;
        sort(w_top, turned)
        w_top = 0;
        do
        :: nempty(taken) -> taken ? envelope; free(envelope); dropped_all++
        :: empty(taken) -> break
        od;
        envelope = 0;
        running--;
        ended = 1
    }
}

/* turn_run: handle_messages, settle. */
inline turn(me)
{
    do
    :: handled > 0 -> break /* the turn's limit, or turn_yield */
    :: ordered -> exits = 1; break
    :: !ordered ->
        if
        :: empty(taken) || !gathered -> gathered = 1; gather()
        :: nempty(taken) && gathered
        fi;
        if
        :: empty(taken) -> break
        :: nempty(taken) ->
            d_step {
                taken ? envelope;
#ifndef PARK
                assert(number[envelope] == expected[sender[envelope]]);
                expected[sender[envelope]]++;
#endif
                free(envelope);
                envelope = 0;
                handled_all++;
                handled++
            }
        fi
    od;
    gathered = 0;
    if
    :: exits -> handled = 0; exits = 0; end_actor()
    :: else ->
        /* mailbox_settle. Counts 0: the actor is idle, and no longer ours. */
        d_step {
            data = data - handled;
            handled = 0;
            look();
            if
            :: w_data == 0 && w_control == 0 -> running--
            :: else
            fi
        }
        do
        :: w_data == 0 && w_control == 0 -> break
        :: (w_data != 0 || w_control != 0) && (nempty(taken) || w_top != 0) ->
            atomic { /* queue_again */
                running--;
                queue[me]++;
                assert(QUEUED == 1)
            }
            break
        :: (w_data != 0 || w_control != 0) && empty(taken) && w_top == 0 ->
            /* Only tokens. */
            assert(w_data == 0);
            if
            :: ordered -> end_actor(); break
            :: else
            fi;
            d_step { /* mailbox_clear_tokens */
                if
#ifdef FAULT_CLEAR_BLIND
                :: true -> top = 0; data = 0; control = 0; w_control = 0; running--
#else
                :: SAME_WORD -> control = 0; w_control = 0; running--
                :: else -> w_top = top; w_data = data; w_control = control
#endif
                fi
            }
        od;
        atomic { forget() }
    fi
}

#ifdef GUEST
/* worker_run_some, then park_give_back: with a token where turns are left, else with the bit. */
inline guest(me)
{
    do
    :: queue[me] > 0 && guest_turns == 0 ->
        atomic { /* the other worker may have stolen it */
            if
            :: queue[me] > 0 -> queue[me]--; running++; guest_turns++; assert(QUEUED == 1)
            :: else
            fi
        }
        if
        :: running > 0 && guest_turns > 0 -> ONE_STEP { turn(me) }
        :: else
        fi
    :: queue[me] == 0 || guest_turns > 0 -> break
    od;
    guest_turns = 0;
    if
    :: queue[me] > 0 -> d_step { assert(token[me] == 0); token[me] = 1 }
    :: queue[me] == 0 ->
#ifdef FAULT_GUEST_LOOKS_FIRST
        wakes = global > 0 || queue[1 - me] > 0;
#endif
        parked = parked | (1 << me);
#ifndef FAULT_GUEST_LOOKS_FIRST
        if
        :: global > 0 || queue[1 - me] > 0 -> wakes = 1
        :: else
        fi;
#endif
#ifndef FAULT_GUEST_UNAWAITED
        if
        :: awaited[me] -> wakes = 1
        :: else
        fi;
#endif
        if
        :: wakes ->
            atomic { /* wake */
                wakes = 0;
                if
                :: (parked >> me) & 1 -> parked = parked & (3 - (1 << me)); who = 1
                :: else
                fi
            }
            if
            :: who != 0 -> d_step { assert(token[me] == 0); token[me] = 1; who = 0 }
            :: else
            fi
        :: else
        fi
    fi;
    place = 0
}
#endif

/* --------------------------------------------------------------------------------------- producers */

proctype Producer(byte me)
{
    byte sent, envelope, w_top, w_data, w_control, who, place;
    bool was_idle, went, wakes;
#ifdef GUEST
    byte seat, w_below, turned, handled, guest_turns;
    bool gathered, exits;
#endif

    do
    :: sent == SENDS -> break
    :: sent < SENDS ->
#ifdef GUEST
        /* park_borrow. */
        atomic {
            if
            :: parked & 1 -> place = 1; parked = parked - 1
            :: parked & 2 -> place = 2; parked = parked - 2
            :: true
            fi
        }
#endif
        /* slots_alloc, and the message written into the envelope. */
        atomic {
            if
            :: !is_used[1] -> envelope = 1
            :: is_used[1] && !is_used[2] -> envelope = 2
            :: is_used[1] && is_used[2] && !is_used[3] -> envelope = 3
            fi;
            is_used[envelope] = 1;
#ifndef PARK
            sender[envelope] = me;
            number[envelope] = sent;
#endif
            look()
        }
        /* PUSH: mailbox_push. */
        ONE_STEP { do
        :: went -> break
        :: !went ->
            if
            :: w_top == CLOSED -> break
            :: w_top != CLOSED && w_data >= BOUND ->
                /* WEIR_FULL: the caller keeps the message, and comes again when there is room (credit.pml). */
                d_step { (top == CLOSED || data < BOUND) -> look() }
            :: else ->
                d_step {
                    below[envelope] = w_top;
                    if
#ifdef FAULT_BOUND_LATE
                    :: top == w_top && top != CLOSED ->
                        w_data = data;
                        w_control = control;
#else
                    :: SAME_WORD ->
#endif
                        top = envelope;
                        data = data + 1;
                        assert(data <= BOUND);
#ifdef FAULT_WAKE_BY_TOP
                        was_idle = w_top == 0;
#else
                        was_idle = w_data == 0 && w_control == 0;
#endif
#ifdef FAULT_NO_WAKE
                        was_idle = 0;
#endif
                        went = 1;
                        forget()
                    :: else -> look()
                    fi
                }
            fi
        od }
        if
        :: went ->
            went = 0;
            if
#ifdef GUEST
            :: was_idle && place != 0 -> /* caller_schedule of a worker, which it is for now */
                was_idle = 0;
                atomic { queue[place - 1]++; assert(QUEUED == 1) }
#endif
            :: was_idle && place == 0 -> was_idle = 0; schedule(wakes, who)
            :: else
            fi
        :: else -> /* WEIR_STALE */
            d_step {
                forget();
                free(envelope);
                stale_all++
            }
        fi;
        envelope = 0;
#ifdef GUEST
        if
        :: place != 0 -> seat = place - 1; guest(seat); seat = 0
        :: else
        fi;
#endif
        sent++
    od
}

#if defined(STOP) || defined(LATE)
/* orders_stop, and mailbox_nudge. With LATE: a nudge that was meant for the slot's last actor. */
proctype Stopper()
{
    byte w_top, w_data, w_control, who;
    bool was_idle, went, wakes;

#if defined(STOP) && !defined(FAULT_ORDER_LATE)
    ordered = 1;
#endif
    d_step { look() }
    do
    :: went -> break
    :: !went ->
        if
        :: w_top == CLOSED -> break
        :: else ->
            d_step {
                if
                :: SAME_WORD ->
                    control++;
                    was_idle = w_data == 0 && w_control == 0;
                    went = 1
                :: else -> look()
                fi
            }
        fi
    od;
#ifdef FAULT_ORDER_LATE
    ordered = 1;
#endif
    if
    :: was_idle -> schedule(wakes, who)
    :: else
    fi
}
#endif

/* ----------------------------------------------------------------------------------------- workers */

/* park_wait. */
inline park()
{
#ifdef WORD
    skip;
end_idle:
    QUEUED - running > 0
#else
#ifdef FAULT_LOOK_FIRST
    if
    :: global > 0 -> goto next
    :: else
    fi;
#endif
    parked = parked | (1 << me);
#ifndef FAULT_LOOK_ONCE
#ifndef FAULT_LOOK_FIRST
    if
    :: global > 0 -> goto awake
    :: else
    fi;
#endif
#endif
    if
    :: queue[1 - me] > 0 -> goto awake /* worth helping */
    :: true
    fi;
end_asleep: /* token_wait */
    if
    :: token[me] != 0
#ifdef TIMED
    :: true /* the next timer is due */
#endif
    fi;
awake:
    atomic {
        had_bit = (parked >> me) & 1;
        parked = parked & (3 - (1 << me))
    }
    if
    :: had_bit
#ifdef FAULT_TOKEN_LEFT
    :: !had_bit -> token[me] = 0
#else
    :: !had_bit -> /* place_await: the waker is on its way, or a guest has the place */
#ifdef GUEST
        awaited[me] = 1;
#ifndef FAULT_AWAIT_ONCE
        atomic {
            had_bit = (parked >> me) & 1;
            parked = parked & (3 - (1 << me))
        }
#endif
        if
        :: had_bit
        :: !had_bit -> d_step { token[me] != 0 -> token[me] = 0 }
        fi;
        awaited[me] = 0
#else
        d_step { token[me] != 0 -> token[me] = 0 }
#endif
#endif
    fi;
    had_bit = 0
#endif
}

proctype Worker(byte me)
{
    byte w_top, w_data, w_control, w_below, turned, envelope, handled;
    bool gathered, exits, had_bit;

next: /* worker_next */
    if
    :: atomic { queue[me] > 0 -> queue[me]--; running++; assert(QUEUED == 1) }
    :: atomic { queue[me] == 0 && global > 0 -> global--; running++; assert(QUEUED == 1) }
    :: queue[me] == 0 && global == 0 ->
        if
        :: atomic { queue[1 - me] > 0 -> queue[1 - me]--; running++; assert(QUEUED == 1) }
        :: true -> park(); goto next
        fi
    fi;
    ONE_STEP { turn(me) }
    goto next
}

/* ------------------------------------------------------------------------------------------ claims */

#ifdef STOP
#define FINISHED (handled_all + dropped_all + stale_all == ALL && ended)
#else
#define FINISHED (handled_all == ALL)
#endif

/* Stays where it is when a wake-up is lost: an end that is none. */
active proctype Main()
{
    byte i;
    atomic {
        do
        :: i < PRODUCERS -> run Producer(i); i++
        :: else -> break
        od;
        run Worker(0);
        run Worker(1);
#if defined(STOP) || defined(LATE)
        run Stopper();
#endif
        i = 0
    }
    FINISHED ->
    assert(dropped_all + stale_all == 0 || ended)
}

#ifdef LIVENESS
ltl finished { <> FINISHED }
#endif
