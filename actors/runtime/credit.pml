/* Spin model of what happens when a mailbox is full: the refusal, await_room and ROOM between actors, and the publish
 * credit that carries it on to clients. For the verifier; tests/simulate/models.sh checks it exhaustively, and
 * that each seeded fault below is found.
 *
 * What it models, function by function, at the grain of what others can see in between:
 *   mailbox.h          mailbox_push with its refusal (one atomic word decides, so one step), mailbox_settle
 *   relations.c        turn_await_room with awaits, turn_command of COMMAND_AWAIT, turn_tell_waiters,
 *                      turn_forget_awaited
 *   turn.c             gather, handle_messages, finish with offer_room and settle
 *   publisher.c, parked.c of the gateway: a record goes to its topic, or is parked behind those that wait for it
 *   session.c of the session: session_publish's count of what was received, session_grant
 *   PROTOCOL.md 6.3    the client's side: it sends while what it sent is below the total granted
 *
 * Three producers, each a client and its session, publish to two consumers, the topics, whose mailboxes hold one
 * or two records. A record counts as 1 byte of credit. That a push to an idle actor wakes it, and that the stack keeps
 * the order of pushes, is mailbox.pml's claim and taken from there.
 *
 * Claimed: no deadlock and no wake-up lost (all records are folded in the end), each once and in its client's order
 * for its topic; mailboxes, what a session parks, and what is on its way to it stay within their bounds; at most
 * one await of a pair is out, so the control lane needs no more than that.
 *
 * With ABSENT the first session throws away what it has parked when room is told to it, as one that ends would: whoever
 * waits behind it must be told all the same.
 *
 * Faults, one -D each, and what they leave out or do otherwise:
 *   FAULT_AWAIT_FULL   a topic tells waiters only in a turn that handled records
 *   FAULT_EARLY_COUNT  offer_room judges by the count from before what was handled is taken off
 *   FAULT_NO_OFFER     a waiter that asks in the topic's last turn before it goes idle is not told
 *   FAULT_NO_FORGET    ROOM does not end the wait, so the next one is not asked for
 *   FAULT_NO_AGAIN     a topic that has told as many as there is room for goes idle; found with ABSENT
 *   FAULT_OVERTAKE     a record does not queue behind parked ones of its topic
 *   FAULT_NO_GRANT     credit is renewed where records come in, not where parked ones went out
 *   FAULT_GRANT_ALL    credit is renewed for parked records too */

#ifndef PRODUCERS
#define PRODUCERS 3
#endif
#define CONSUMERS 2
#ifndef RECORDS
#define RECORDS 2 /* of the first client; the others send one each */
#endif
#ifndef MAILBOX
#define MAILBOX 1
#endif
#define ROOM_AT (MAILBOX / 2)
#define SENDS (me == 0 -> RECORDS : 1)
#ifndef WINDOW
#define WINDOW 2
#endif

/* A topic's mailbox: records in order of their pushes, and both counts. */
chan records[CONSUMERS] = [MAILBOX] of { byte, byte };
byte data[CONSUMERS], control[CONSUMERS];
byte awaits_sent[CONSUMERS]; /* bit each session: COMMAND_AWAIT in the control lane */

/* A session's control lane and its own notes: bit each topic. */
byte rooms[PRODUCERS];
byte awaited[PRODUCERS];

/* The connection of a client, and the credit that comes back. */
chan wire[PRODUCERS] = [WINDOW] of { byte, byte };
byte granted[PRODUCERS];

byte folded;
byte next[PRODUCERS * CONSUMERS]; /* the number that topic expects from that client at least */

/* --------------------------------------------------------------------------------------- producers */

proctype Client(byte me)
{
    byte sent, topic;
    do
    :: sent == SENDS -> break
    :: sent < SENDS && sent < granted[me] ->
        atomic {
            if /* the first two begin with the same topic: nothing new comes of it where they do not meet */
            :: topic = 0
            :: sent > 0 || me == PRODUCERS - 1 -> topic = 1
            fi;
            assert(nfull(wire[me]));
            wire[me] ! topic, sent;
            sent++;
            topic = 0
        }
    od
}

/* turn_await_room. */
inline await_room(topic)
{
    atomic {
        if
        :: awaited[me] & (1 << topic)
        :: else ->
            assert((awaits_sent[topic] & (1 << me)) == 0);
            awaits_sent[topic] = awaits_sent[topic] | (1 << me);
            control[topic]++;
            awaited[me] = awaited[me] | (1 << topic)
        fi
    }
}

/* turn_send of a record. */
inline push(topic, number, went)
{
    atomic {
        if
        :: data[topic] < MAILBOX -> records[topic] ! me, number; data[topic]++; went = 1
        :: else -> went = 0
        fi
    }
}

/* session_grant, at the end of each turn. */
inline grant()
{
    atomic {
#ifdef FAULT_GRANT_ALL
        granted[me] = WINDOW + received
#else
        if
        :: WINDOW + received - len(parked0) - len(parked1) > granted[me] ->
            granted[me] = WINDOW + received - len(parked0) - len(parked1)
        :: else
        fi
#endif
    }
}

/* Parked records of one topic are tried again, oldest first. */
inline retry(topic, list)
{
    do
    :: empty(list) -> break
    :: nempty(list) ->
        atomic { list ? <number>; push(topic, number, went) }
        if
        :: went -> went = 0; list ? number
        :: else -> await_room(topic); break
        fi
    od;
    number = 0;
    went = 0
}

inline forsake(list)
{
    d_step {
        do
        :: empty(list) -> break
        :: nempty(list) -> list ? number; folded++
        od;
        number = 0
    }
}

inline publish(topic, list)
{
#ifdef FAULT_OVERTAKE
    if
    :: true -> push(topic, number, went)
    fi;
#else
    if
    :: empty(list) -> push(topic, number, went)
    :: nempty(list)
    fi;
#endif
    if
    :: went
    :: else ->
        assert(nfull(list));
        list ! number;
        await_room(topic)
    fi;
    number = 0;
    went = 0
}

proctype Session(byte me)
{
    chan parked0 = [WINDOW] of { byte };
    chan parked1 = [WINDOW] of { byte };
    byte received, topic, number;
    bool went;

end_idle:
    do
    :: rooms[me] != 0 ->
        d_step {
            topic = (rooms[me] & 1 -> 0 : 1);
            rooms[me] = rooms[me] & (3 - (1 << topic));
#ifndef FAULT_NO_FORGET
            awaited[me] = awaited[me] & (3 - (1 << topic)) /* turn_forget_awaited */
#endif
        }
        if
#ifdef ABSENT
        :: me == 0 && topic == 0 -> forsake(parked0)
        :: me == 0 && topic == 1 -> topic = 0; forsake(parked1)
        :: me != 0 && topic == 0 -> retry(0, parked0)
        :: me != 0 && topic == 1 -> topic = 0; retry(1, parked1)
#else
        :: topic == 0 -> retry(0, parked0)
        :: topic == 1 -> topic = 0; retry(1, parked1)
#endif
        fi;
#ifndef FAULT_NO_GRANT
        grant()
#endif
    :: rooms[me] == 0 && nempty(wire[me]) ->
        atomic { wire[me] ? topic, number; received++ }
        if
        :: topic == 0 -> publish(0, parked0)
        :: topic == 1 -> topic = 0; publish(1, parked1)
        fi;
        grant()
    od
}

/* --------------------------------------------------------------------------------------- consumers */

/* turn_tell_waiters: ROOM to as many as there is room for (in taken); which of them is the oldest is left out. Where some
 * are left, the token stays. */
inline tell_waiters()
{
    do
    :: waiters == 0 || taken == 0 -> break
    :: waiters != 0 && taken > 0 ->
        d_step {
            who = (waiters & 1 -> 0 : (waiters & 2 -> 1 : 2));
            waiters = waiters & (7 - (1 << who));
            assert((rooms[who] & (1 << me)) == 0);
            rooms[who] = rooms[who] | (1 << me);
            who = 0;
            taken--
        }
    od;
    taken = 0;
#ifndef FAULT_NO_AGAIN
    if
    :: waiters != 0 -> offered = 1; control_done = 0
    :: else
    fi
#endif
}

proctype Topic(byte me)
{
    byte waiters, commands, taken, data_done, control_done, who, number;
    bit offered;

end_idle:
    do
    :: data[me] + control[me] > 0 ->
        /* gather: what is there now; the counts stay. */
        d_step {
            commands = awaits_sent[me];
            awaits_sent[me] = 0;
            taken = len(records[me])
        }
        /* handle_messages: control first, then records up to the turn's limit, whatever that is. */
        d_step {
            control_done = (commands & 1) + ((commands >> 1) & 1) + ((commands >> 2) & 1);
            waiters = waiters | commands;
            commands = 0
        }
        do
        :: taken == 0 -> break
        :: taken > 0 && data_done + control_done > 0 -> break
        :: taken > 0 ->
            d_step {
                records[me] ? who, number;
                assert(number >= next[who * CONSUMERS + me]);
                next[who * CONSUMERS + me] = number + 1;
                folded++;
                taken--;
                data_done++;
                who = 0;
                number = 0
            }
        od;
        taken = 0;
        /* finish: offer_room leaves a token, so that the actor does not go idle while it tells. */
        if
#ifdef FAULT_AWAIT_FULL
        :: waiters != 0 && data_done > 0 ->
#else
        :: waiters != 0 ->
#endif
            d_step {
#ifdef FAULT_EARLY_COUNT
                taken = data[me];
#endif
                data[me] = data[me] - data_done;
                control[me] = control[me] + (1 - offered) - control_done;
                offered = 0;
#ifndef FAULT_EARLY_COUNT
                taken = data[me];
#endif
                data_done = 0;
                control_done = 1
            }
            if
#ifdef FAULT_NO_OFFER
            :: taken <= ROOM_AT && taken > 0 -> taken = MAILBOX - taken; tell_waiters()
            :: taken > ROOM_AT || taken == 0 -> taken = 0
#else
            :: taken <= ROOM_AT -> taken = MAILBOX - taken; tell_waiters()
            :: taken > ROOM_AT -> taken = 0
#endif
            fi
        :: else
        fi;
        /* settle: where counts are left, another turn comes. */
        atomic {
            data[me] = data[me] - data_done;
            control[me] = control[me] - control_done;
            data_done = 0;
            control_done = 0
        }
    od
}

/* ------------------------------------------------------------------------------------------ claims */

#define FINISHED (folded == PRODUCERS - 1 + RECORDS)

/* Stays where it is when a wake-up is lost: an end that is none. */
active proctype Main()
{
    byte i;
    atomic {
        do
        :: i < PRODUCERS -> granted[i] = WINDOW; run Client(i); run Session(i); i++
        :: else -> break
        od;
        run Topic(0);
        run Topic(1);
        i = 0
    }
    FINISHED
}

#ifdef LIVENESS
ltl finished { <> FINISHED }
#endif
