#!/usr/bin/env python3
"""The checker's own test: sound histories pass, and each way of breaking a promise is found under its name.

Every history is one run of a map topic `t` in epoch 7 whose records are

    1 a=1   2 b=2   3 a=3   4 b=nil   5 c=5   6 a=6   7 d=7   8 a=8

published on connection 1 and followed on connection 2, unless it says otherwise. A broken one is a sound one with one
thing changed.
"""

import sys

import violation as promise
from checker import check
from recording import CONNECTED, LOST, NOTE, RECEIVED, SENT
from violation import PROMISES, Violation

RECORDS = [("a", 1), ("b", 2), ("a", 3), ("b", None), ("c", 5), ("a", 6), ("d", 7), ("a", 8)]
E = 7


def sent(connection, *frame):
    return [0, connection, SENT, list(frame)]


def got(connection, *frame):
    return [0, connection, RECEIVED, list(frame)]


def note(*words):
    return [0, 0, NOTE, list(words)]


def lost(connection):
    return [0, connection, LOST, "cut"]


def sent_at(time, row):
    return [time, *row[1:]]


def publish(number, key, value, topic="t", connection=1):
    return sent(connection, 9, topic, number, 2, [key, value])


def ack(number, seq, epoch=E, count=1, connection=1):
    return got(connection, 16, number, count, epoch, seq)


def published(records=tuple(RECORDS), topic="t", epoch=E, connection=1):
    """Each record and its answer."""
    rows = [[0, connection, CONNECTED, {}]]
    for number, (key, value) in enumerate(records, 1):
        rows += [publish(number, key, value, topic, connection), ack(number, number, epoch, 1, connection)]
    return rows


def subscribe(connection=2, pattern="t", **options):
    return [sent(connection, 10, 1, pattern, options), got(connection, 18, 1, 1)]


def begin(seq, connection=2, epoch=E, topic="t", kind="map", feed=5, **options):
    return got(connection, 21, 1, feed, topic, kind, epoch, seq, options or {"cause": "new"})


def entries(*items, connection=2, feed=5):
    return got(connection, 22, feed, list(items))


def end(seq, connection=2, epoch=E, feed=5, **options):
    return got(connection, 23, feed, epoch, seq, options)


def update(seq, *items, connection=2, feed=5):
    return got(connection, 24, feed, seq, list(items) or list(RECORDS[seq - 1]))


def gap(first, last, cause="overflow"):
    return got(2, 25, 5, first, last, cause)


def conflated(first, last, cause="overflow"):
    return got(2, 26, 5, first, last, cause)


def reset(epoch, cause="cleared"):
    return got(2, 27, 5, epoch, cause)


def idle(seq):
    return got(2, 28, 5, seq)


def rest(seq=8, epoch=E, topic="t"):
    return note("rest", {topic: [epoch, seq]})


AT_3 = [begin(3), entries("a", 3, "b", 2), end(3)]
JOIN = [*published(), *subscribe(), *AT_3]
TAIL = [update(number) for number in range(4, 9)]
RESUME = {"cursors": [["t", E, 4]]}
RESUMED = [begin(4, resumed=True), end(4)]
DELTA = [*JOIN, update(4), begin(7, cause="overflow", delta=True), entries("a", 6, "c", 5, "d", 7), end(7, delta=True)]
ONLY_A = [*published(), *subscribe(key="a"), begin(3), entries("a", 3), end(3)]


def following(policy):
    return [*published(), *subscribe(policy=policy), *AT_3, update(4)]


CONFLATED = [*following("conflate"), update(5), conflated(6, 6), update(7), update(8), rest()]
DROPPED = [*following("drop"), gap(5, 6), update(7), update(8), rest()]
CLEARED = [*published(), *subscribe(), *AT_3, note("clear", "t"), publish(9, "x", 9), ack(9, 1, 8), reset(8),
           begin(1, epoch=8, cause="cleared"), entries("x", 9), end(1, epoch=8), rest(1, 8)]
RESTARTED = [*published(), *subscribe(), *AT_3, lost(1), lost(2), note("restart"), *published(epoch=9, connection=3),
             *subscribe(4, cursors=[["t", E, 3]]), begin(2, 4, 9, cause="epoch"), entries("a", 1, "b", 2, connection=4),
             end(2, 4, 9)]
WITH_LOG = [*published(topic="l"), note("topic", "l", {"kind": "log", "log_count_max": 3}), *subscribe(pattern="l"),
            begin(4, topic="l", kind="log"), entries("b", 2, "a", 3, "b", None), end(4), update(5)]
LAST = [*published(topic="v"), *subscribe(pattern="v"), begin(5, topic="v", kind="last"), entries("c", 5), end(5)]
PATCHES = [(None, {"a": 1, "b": {"c": 2}}), (None, {"a": None, "b": {"d": 3}})]
MORE_PATCHES = [*PATCHES, (None, {"e": 5, "g": {"h": 1}}), (None, {"b": None, "e": {"f": 6}})]
MERGE = [*published(PATCHES, topic="m"), *subscribe(pattern="m"), begin(2, topic="m", kind="merge"),
         entries(None, {"b": {"c": 2, "d": 3}}), end(2)]
MERGE_DELTA = [*published(MORE_PATCHES, topic="m"), *subscribe(pattern="m"), begin(3, topic="m", kind="merge"),
               entries(None, {"b": {"c": 2, "d": 3}}, None, {"e": 5}, None, {"g": {"h": 1}}), end(3),
               begin(4, topic="m", kind="merge", cause="overflow", delta=True),
               entries(None, {"b": None}, None, {"e": {"f": 6}}), end(4, delta=True)]
WHOLE_VALUE = [*published([*PATCHES, (None, 7)], topic="m"), *subscribe(pattern="m"),
               begin(3, topic="m", kind="merge"), entries(None, 7), end(3)]
# Record 2 has no answer: lost with its publisher, it is in the topic all the same.
UNANSWERED = [publish(1, "a", 1), ack(1, 1), publish(2, "b", 2), lost(1), *subscribe(), begin(0), end(0),
              update(1), update(2)]
VANISHING = [sent_at(1000, sent(1, 13, "t", 1, 2, {"ttl_ms": 5}, ["a", 1])), ack(1, 1),
             *subscribe(), begin(0), end(0), update(1), [10_000, 2, RECEIVED, [24, 5, 2, ["a", None]]]]
NAMED = (0, 1, {"publisher": "p"})
SENT_AGAIN = [sent(1, *NAMED), publish(1, "a", 1), lost(1), *subscribe(), sent(3, *NAMED),
              publish(1, "a", 1, connection=3), begin(0), end(0), update(1, "a", 1), ack(1, 1, connection=3)]
FILTERED_LAST = [*published(RECORDS[:7], topic="v"), *subscribe(pattern="v", prefix="a", policy="conflate"),
                 begin(2, topic="v", kind="last"), end(2)]
ACCEPTED = [sent(1, 9, "t", 1, 1, ["a", 1]), got(1, 16, 1, 1, 0, 0), got(1, 17, 1, 1, "poisoned", "", {})]
PUSHED = [sent(1, 9, "t", 1, 0, ["a", 1]), sent(1, 9, "t", 2, 0, ["b", 2]), *subscribe(), begin(0), end(0)]


def requested(number, key, value, topic="t", **options):
    return sent(1, 12, number, "publish", {"topic": topic, "key": key, "value": value, **options})


def replied(number, seq):
    return got(1, 20, number, "ok", {"epoch": E, "seq": seq})


REQUESTED = [requested(1, "a", 1), requested(2, "b", 2)]
MANY_REQUESTED = [sent(1, 12, 1, "publish", {"records": [["t", 1, "a"], ["t", 2, "b"]]}),
                  *subscribe(), begin(0), end(0)]
SYS = {"topic": "$sys/topics"}
SYS_FOLLOWED = [*subscribe(pattern="$sys/#"), begin(40, **SYS), entries("t", {"seq": 1}), end(40),
                update(41, "t", {"seq": 2}), *subscribe(3, pattern="$sys/topics")]
POISONED = [publish(1, "a", 1), got(1, 17, 1, 1, "poisoned", "", {}), publish(2, "b", 2), ack(2, 1), *subscribe(),
            begin(1), entries("b", 2), end(1)]

SOUND = {
    "a snapshot and all updates": [*JOIN, *TAIL, rest()],
    "updates in larger frames": [*JOIN, got(2, 24, 5, 4, [part for record in RECORDS[3:] for part in record]), rest()],
    "an empty topic": [*subscribe(), begin(0), end(0), rest(0)],
    "a snapshot that another replaces": [*published(), *subscribe(), begin(3), entries("a", 3),
                                         begin(5, cause="overflow"),
                                         entries("a", 3, "c", 5), end(5)],
    "a resync": [*JOIN, begin(8, cause="overflow"), entries("a", 8, "c", 5, "d", 7), end(8), rest()],
    "from a cursor": [*published(), *subscribe(**RESUME), *RESUMED, *TAIL[1:], rest()],
    "a cursor that was trimmed": [*published(), *subscribe(**RESUME), begin(5, cause="trimmed"),
                                  entries("a", 3, "c", 5), end(5)],
    "a delta": [*DELTA, update(8), rest()],
    "a delta from a cursor": [*published(), *subscribe(**RESUME), begin(7, cause="trimmed", delta=True),
                              entries("a", 6, "c", 5, "d", 7), end(7, delta=True)],
    "an unfinished delta": [*DELTA[:-1], begin(8, cause="overflow", delta=True),
                            entries("c", 5, "d", 7, "a", None, "a", 8), end(8, delta=True), rest()],
    "conflated updates": CONFLATED,
    "dropped updates": DROPPED,
    "a cleared topic": CLEARED,
    "a restarted broker": RESTARTED,
    "a log with a bound": WITH_LOG,
    "the newest record": LAST,
    "merged patches": MERGE,
    "a delta of a merged map": MERGE_DELTA,
    "a merged state that is no map": WHOLE_VALUE,
    "a merged map that is cut": [*MERGE[:-2], entries(), lost(2)],
    "one key": [*ONLY_A, update(6), idle(7), update(8), rest()],
    "some keys of a log": [*published(topic="l"), note("topic", "l", {"kind": "log", "log_count_max": 3}),
                           *subscribe(pattern="l", key="b"), begin(5, topic="l", kind="log"), entries("b", None),
                           end(5)],
    "some keys of the newest record": [*published(topic="v"), *subscribe(pattern="v", prefix="a"),
                                       begin(5, topic="v", kind="last"), end(5), update(6)],
    "some keys of the newest record, conflated": [*FILTERED_LAST, conflated(3, 5), update(6), idle(7),
                                                  rest(7, topic="v")],
    "a record that is accepted and then refused": [*ACCEPTED, publish(2, "b", 2), ack(2, 1), *subscribe(), begin(1),
                                                   entries("b", 2), end(1)],
    "pushed records": [*PUSHED, update(1, "a", 1), update(2, "b", 2)],
    "pushed records of which one was dropped": [*PUSHED, update(1, "b", 2)],
    "requests, answered in another order": [*REQUESTED, replied(2, 2), replied(1, 1), *subscribe(), begin(2),
                                            entries("a", 1, "b", 2), end(2)],
    "several records in a request": [*MANY_REQUESTED, got(1, 20, 1, "ok", {"count": 2}), update(1), update(2)],
    "a request of which a part was taken": [*MANY_REQUESTED, got(1, 20, 1, "error", {"code": "busy"}),
                                            update(1, "b", 2)],
    "the broker's own topics": [*SYS_FOLLOWED, begin(41, 3, **SYS), entries("t", {"seq": 2}, connection=3), end(41, 3)],
    "a get that knows more than anybody": [publish(1, "a", 1, "v"), sent(1, 12, 1, "get", {"topic": "v"}), got(
        1, 20, 1, "ok", {"epoch": E, "seq": 1, "kind": "last", "state": 1})],
    "a record without answer": UNANSWERED,
    "a record without answer that never was folded": [*UNANSWERED[:-1]],
    "a record that the broker removes": VANISHING,
    "a poisoned record": POISONED,
    "a bound key goes with its session": [sent(1, 13, "t", 1, 2, {"bind": True}, ["a", 1]), ack(1, 1), *subscribe(),
                                          begin(0), end(0), update(1), lost(1), update(2, "a", None)],
    "a record that is sent again": SENT_AGAIN,
    "a record that is sent again in a new history": [*SENT_AGAIN[:4], note("clear", "t"), *SENT_AGAIN[4:-1],
                                                     ack(1, 1, 8, connection=3)],
    "idle": [*JOIN, *TAIL, idle(8), rest()],
    "only updates": [*published(), *subscribe(snapshot=False), begin(3), end(3), *TAIL, rest()],
    "only the state": [*published(), *subscribe(updates=False), *AT_3, got(2, 31, 5, "ok"), rest()],
    "only the state, of a topic that ended first":
        [*published(), *subscribe(updates=False), begin(8, cause="deleted"), got(2, 31, 5, "not-found"), rest()],
    "a failing topic": [*JOIN, got(2, 29, 5, "restart"), got(2, 30, 5), *TAIL, rest()],
    "a condition": [*published(), sent(1, 13, "t", 9, 2, {"if_seq": 8}, ["a", 9]), ack(9, 9)],
}


def without(rows, *left_out):
    return [row for row in rows if row not in left_out]


def instead(rows, old, *new):
    """The rows with one of them replaced."""
    index = rows.index(old)
    return [*rows[:index], *new, *rows[index + 1:]]


BROKEN = {
    promise.ORDERED: {
        "an update has another value": [*JOIN, update(4, "b", 9)],
        "an update has another key": [*JOIN, update(4), update(5, "a", 5)],
        "two subscribers see different records": [*UNANSWERED, *subscribe(3), begin(0, 3), end(0, 3),
                                                  update(1, connection=3), update(2, "b", 3, connection=3)],
        "what was conflated away comes after it": [*following("conflate"), conflated(5, 6), update(5)],
        "what a gap left out comes after it": [*DROPPED[:-3], update(5)],
        "a publisher's records change places": [publish(1, "a", 1), publish(2, "b", 2), ack(1, 2), ack(2, 1)],
        "published after an answer, folded before": [publish(1, "a", 1), ack(1, 2), publish(1, "b", 2, connection=3),
                                                     ack(1, 1, connection=3)],
        "pushed records change places": [*PUSHED, update(1, "b", 2), update(2, "a", 1)],
        "requests change places": [*REQUESTED, replied(2, 1), replied(1, 2)],
        "a pushed record and an answered one change places": [PUSHED[0], publish(2, "b", 2), ack(2, 1), *PUSHED[2:],
                                                              update(1, "b", 2), update(2, "a", 1)],
        "records of one request change places": [*MANY_REQUESTED, got(1, 20, 1, "ok", {"count": 2}), update(1, "b", 2),
                                                 update(2, "a", 1)],
        "a row of the broker's own is another for another": [*SYS_FOLLOWED, begin(40, 3, **SYS),
                                                             entries("t", {"seq": 1}, connection=3), end(40, 3),
                                                             update(41, "t", {"seq": 3}, connection=3)],
        "a get beyond what was published": [publish(1, "a", 1, "v"), sent(1, 12, 1, "get", {"topic": "v"}), got(
            1, 20, 1, "ok", {"epoch": E, "seq": 1 << 25, "kind": "last", "state": 1})],
        "a condition that did not hold": [*published(), sent(1, 13, "t", 9, 2, {"if_seq": 6}, ["a", 9]), ack(9, 9)],
    },
    promise.UNIQUE: {
        "an update comes twice": [*JOIN, update(4), update(4)],
        "an update that the cursor covers": [*published(), *subscribe(**RESUME), *RESUMED, update(4)],
        "a key twice in a snapshot": [*published(), *subscribe(), begin(3), entries("a", 3, "b", 2, "a", 3), end(3)],
        "a member twice": instead(MERGE, entries(None, {"b": {"c": 2, "d": 3}}),
                                  entries(None, {"b": {"c": 2, "d": 3}}, None, {"b": {"c": 2, "d": 3}})),
        "a record is folded twice": [*JOIN, *TAIL, update(9, "a", 8)],
        "a record that nobody published": [*JOIN, *TAIL, update(9, "a", 99)],
        "a record without answer is folded twice": [*UNANSWERED, update(3, "b", 2)],
        "two records have one seq": [publish(1, "a", 1), publish(1, "a", 1, connection=3), ack(1, 1),
                                     ack(1, 1, connection=3)],
        "a refused record is folded": [*POISONED, update(2, "a", 1)],
        "a record that is sent again is folded again": [*SENT_AGAIN, update(2, "a", 1)],
        "a record that is sent again has two seqs": [*SENT_AGAIN, lost(3), sent(4, *NAMED),
                                                     publish(1, "a", 1, connection=4), ack(1, 2, connection=4)],
        "a removal before its time": instead(VANISHING, VANISHING[0],
                                             sent_at(1000, sent(1, 13, "t", 1, 2, {"ttl_ms": 20}, ["a", 1]))),
        "a removal of what has no end": [*VANISHING, publish(2, "a", 2), ack(2, 3),
                                         update(4, "a", None)],
        "a bound key goes before its session": [sent(1, 13, "t", 1, 2, {"bind": True}, ["a", 1]),
                                                ack(1, 1), *subscribe(), begin(0), end(0), update(1),
                                                sent_at(9000, update(2, "a", None))],
        "a record that was accepted and refused is folded": [*ACCEPTED, *subscribe(), begin(0), end(0), update(1)],
        "a record that was accepted is refused twice": [*ACCEPTED, ACCEPTED[-1]],
        "the topic has no room for what it has accepted": [*ACCEPTED[:-1],
                                                             got(1, 17, 1, 1, "busy", "", {"cause": "mailbox"})],
        "a pushed record is folded twice": [*PUSHED, update(1, "a", 1), update(2, "a", 1)],
        "a record of a refused request is folded": [*REQUESTED, got(1, 20, 1, "error", {"code": "conflict"}),
                                                    replied(2, 1), *subscribe(), begin(1), entries("b", 2), end(1),
                                                    update(2, "a", 1)],
        "a record of many in a request is folded twice": [*MANY_REQUESTED, got(1, 20, 1, "ok", {"count": 2}), update(1),
                                                          update(2), update(3, "b", 2)],
        "a topic of the broker's folds what a client published": [publish(1, "t", {}, "$sys/topics"), ack(1, 1)],
        "a record is answered twice": [publish(1, "a", 1), ack(1, 1), ack(1, 2)],
    },
    promise.RELIABLE: {
        "an update is missing": [*JOIN, update(4), update(6)],
        "the last update is missing": [*JOIN, *TAIL[:-1], rest()],
        "an update is missing inside a frame's run": [*JOIN, update(4), got(2, 24, 5, 7, ["d", 7, "a", 8])],
        "a filter leaves out what it wants": [*published(), *subscribe(key="a"), begin(1), entries("a", 1), end(1),
                                                update(3), update(8)],
        "a seq is nobody's record": [publish(1, "a", 1), ack(1, 1), publish(2, "b", 2), ack(2, 3)],
        "a conflated feed stops short": [*following("conflate"), rest()],
    },
    promise.ATOMIC: {
        "an entry is missing": [*published(), *subscribe(), begin(3), entries("a", 3), end(3)],
        "an entry is of a later seq": [*published(), *subscribe(), begin(3), entries("a", 6, "b", 2), end(3)],
        "an entry that was deleted": [*published(), *subscribe(), begin(4), entries("a", 3, "b", 2), end(4)],
        "the end is of another seq": instead(JOIN, end(3), end(4)),
        "the first update is not the next": [*JOIN, update(5)],
        "a log with a hole": instead(WITH_LOG, entries("b", 2, "a", 3, "b", None), entries("a", 1, "a", 3, "b", None)),
        "a log that forgot too much": instead(WITH_LOG, entries("b", 2, "a", 3, "b", None), entries("a", 3, "b", None)),
        "an older record as the newest": instead(LAST, entries("c", 5), entries("b", None)),
        "a patch left out": instead(MERGE, entries(None, {"b": {"c": 2, "d": 3}}),
                                    entries(None, {"a": 1}, None, {"b": {"c": 2}})),
        "an entry of no member": instead(MERGE, entries(None, {"b": {"c": 2, "d": 3}}),
                                         entries(None, {"b": {"c": 2, "d": 3}}, None, {})),
        "a member of a snapshot that is cut": [*MERGE[:-2], entries(None, {"a": 1}), lost(2)],
        "a member that was asked for by a key": [*published(PATCHES, topic="m"), *subscribe(pattern="m", key="b"),
                                                 begin(2, topic="m", kind="merge"),
                                                 entries(None, {"b": {"c": 2, "d": 3}}), end(2)],
        "a delta without a member that is gone": instead(MERGE_DELTA, entries(None, {"b": None}, None, {"e": {"f": 6}}),
                                                         entries(None, {"e": {"f": 6}})),
        "a delta with a patch for a member": instead(MERGE_DELTA, entries(None, {"b": None}, None, {"e": {"f": 6}}),
                                                     entries(None, {"b": None}, None, {"e": 5})),
        "a delta over a state that is no map": [*published([*PATCHES, (None, 7), (None, {"a": 1})], topic="m"),
                                                *subscribe(pattern="m"), begin(3, topic="m", kind="merge"),
                                                entries(None, 7), end(3),
                                                begin(4, topic="m", kind="merge", cause="overflow", delta=True),
                                                entries(None, {"a": 1}), end(4, delta=True)],
        "a map beside a state that is no map": instead(WHOLE_VALUE, entries(None, 7), entries(None, 7, None, {"a": 1})),
        "a delta without a key that changed": instead(DELTA, entries("a", 6, "c", 5, "d", 7), entries("a", 6, "c", 5)),
        "a delta with an old value": instead(DELTA, entries("a", 6, "c", 5, "d", 7), entries("a", 3, "c", 5, "d", 7)),
        "a delta over a state with gaps": [*DROPPED[:-2], begin(7, cause="overflow", delta=True)],
        "a delta that ends as a whole": instead(DELTA, end(7, delta=True), end(7)),
        "a delta over nothing": [*published(), *subscribe(), begin(3), begin(3, cause="overflow", delta=True)],
        "a filter's snapshot lacks its key": instead(ONLY_A, entries("a", 3)),
        "an entry of a snapshot that is cut": [*published(), *subscribe(), begin(3), entries("a", 6), lost(2)],
        "a filter's snapshot of a log has others": [*published(topic="l"), *subscribe(pattern="l", key="b"),
                                                    begin(3, topic="l", kind="log"), entries("b", 2, "a", 3), end(3)],
        "a filter's snapshot has another record": [*published(topic="v"), *subscribe(pattern="v", prefix="a"),
                                                   begin(5, topic="v", kind="last"), entries("c", 5), end(5)],
        "rows of the broker's own that its updates do not make": [*SYS_FOLLOWED, begin(41, 3, **SYS),
                                                                  entries("t", {"seq": 1}, connection=3), end(41, 3)],
        "a state of get": [*published(), sent(1, 12, 1, "get", {"topic": "t"}),
                           got(1, 20, 1, "ok", {"epoch": E, "seq": 4, "kind": "map", "state": {"a": 3, "b": 2}})],
    },
    promise.RESUMABLE: {
        "resumed without a cursor": [*published(), *subscribe(), begin(4, resumed=True)],
        "resumed further on": [*published(), *subscribe(**RESUME), begin(5, resumed=True)],
        "entries in a feed that resumed": [*published(), *subscribe(**RESUME), begin(4, resumed=True), entries("a", 3)],
        "neither resumed nor a cause": [*published(), *subscribe(), begin(3, delta=False)],
        "an update after the cursor is missing": [*published(), *subscribe(**RESUME), *RESUMED, update(6)],
        "a cursor is taken for none": [*published(), *subscribe(**RESUME), begin(4, cause="new")],
        "trimmed without a cursor": [*published(), *subscribe(), begin(4, cause="trimmed")],
        "a good cursor is called foreign": [*published(), *subscribe(**RESUME), begin(4, cause="epoch")],
    },
    promise.BOOKMARKABLE: {
        "idle further on": [*JOIN, idle(5)],
        "idle behind": [*JOIN, *TAIL, idle(7)],
        "idle beyond the topic": [*JOIN, *TAIL, idle(9)],
        "a snapshot older than the bookmark": [*JOIN, update(4), begin(3, cause="overflow")],
        "idle past what a filter wants": [*ONLY_A, idle(7)],
        "a filtered feed is not told where the topic is": [*published(RECORDS[:7]), *ONLY_A[len(published()):],
                                                           update(6), rest(7)],
        "updates without a record": [*JOIN, got(2, 24, 5, 4, [])],
    },
    promise.COMPLETE: {
        "the end is missing": without([*JOIN, update(4)], end(3)),
        "the beginning is missing": [*published(), *subscribe(), entries("a", 3)],
        "an entry after the end": [*JOIN, entries("a", 3)],
        "a snapshot does not end": [*published(), *subscribe(), begin(8), entries("a", 8), rest()],
        "an empty topic does not begin": [*subscribe(), rest(0)],
        "ended in a snapshot": [*published(), *subscribe(updates=False), begin(3), got(2, 31, 5, "ok")],
        "a frame after the last": [*JOIN, got(2, 31, 5, "not-found"), update(4)],
        "only the state, of which nothing came": [*published(), *subscribe(updates=False), rest()],
        "only the state, which is still to end": [*published(), *subscribe(updates=False), begin(8),
                                                  entries("a", 8, "c", 7), got(2, 23, 5, E, 8, {}), rest()],
        "gone, and does not say so": [*published(), *subscribe(updates=False), begin(8, cause="deleted"), rest()],
        "gone, and goes on": [*published(), *subscribe(updates=False), begin(8, cause="deleted"),
                              got(2, 23, 5, E, 8, {})],
        "gone for one who follows": [*published(), *subscribe(), begin(8, cause="deleted")],
        "a second end": [*JOIN, end(3)],
        "updates that a reset made void": [*CLEARED[:-4], update(4)],
    },
    promise.HONEST: {
        "a gap of another range": [*following("drop"), gap(6, 7)],
        "a gap without cause": [*following("drop"), gap(5, 6, "")],
        "a gap over what never was": [*following("drop"), gap(5, 20)],
        "a gap backwards": [*following("drop"), gap(5, 4)],
        "a gap in a feed that blocks": [*following("block"), gap(5, 6)],
        "the newest of a key is conflated away": [*following("conflate"), conflated(5, 6), update(7), update(8),
                                                  rest()],
        "idle, and the newest of a key is missing": [*following("conflate"), conflated(5, 8), idle(8)],
        "the newest of what a filter wants is conflated away": [*FILTERED_LAST, conflated(3, 6), idle(7)],
        "a conflation of a log": [*WITH_LOG[:-1], conflated(5, 6)],
        "a conflation of another range": [*following("conflate"), conflated(6, 6)],
        "a conflation without cause": [*following("conflate"), conflated(5, 8, "")],
        "a reset without cause": [*JOIN, reset(8, "")],
        "stale for ever": [*JOIN, *TAIL, got(2, 29, 5, "restart"), rest()],
        "a filter lets others through": [*ONLY_A, got(2, 24, 5, 4, ["b", None])],
    },
    promise.EPOCH_SAFE: {
        "resumed in another epoch": [*published(), *subscribe(cursors=[["t", 6, 4]]), begin(4, resumed=True)],
        "the end is of another epoch": instead(JOIN, end(3), end(3, epoch=8)),
        "a foreign cursor is honoured": [*published(), *subscribe(cursors=[["t", 6, 4]]),
                                         begin(4, epoch=6, resumed=True)],
        "a future cursor is honoured": [*published(), *subscribe(cursors=[["t", E, 50]]), begin(50, resumed=True)],
        "a cursor from before the restart is honoured": instead(RESTARTED, begin(2, 4, 9, cause="epoch"),
                                                                begin(3, 4, E, resumed=True)),
        "a history that was over": instead(RESTARTED, begin(2, 4, 9, cause="epoch"), begin(2, 4, E, cause="epoch")),
        "a reset names another epoch": instead(CLEARED, reset(8), reset(9)),
        "a delta over another epoch": [*published(), *subscribe(cursors=[["t", 6, 4]]),
                                       begin(7, cause="epoch", delta=True)],
        "folded in a history that was over": [*RESTARTED, publish(9, "z", 1, connection=3), ack(9, 9, E, connection=3)],
        "left behind in an old history": [*published(), *subscribe(), *AT_3, *TAIL, publish(9, "x", 9), ack(9, 1, 8),
                                           rest(1, 8)],
    },
}


def found(rows):
    """The promise that a history breaks and the checker's words, or (None, ...)."""
    try:
        return None, check(rows).summary()
    except Violation as violation:
        return violation.promise, violation


def main():
    wrong, count = [], 0
    for sentence, rows in SOUND.items():
        name, words = found(rows)
        if name:
            wrong.append(f"sound, and refused: {sentence}: {words}")
    for wanted, broken in BROKEN.items():
        if len(broken) < 3:
            wrong.append(f"fewer than three ways to break {wanted}")
        for sentence, rows in broken.items():
            name, words = found(rows)
            count += 1
            if name != wanted:
                wrong.append(f"{wanted}: {sentence}: found as {words}")
    if set(BROKEN) != set(PROMISES):
        wrong.append("a promise that nobody breaks")
    print(*wrong, f"{len(SOUND)} sound histories, {count} broken ones, {len(wrong)} judged wrongly", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
