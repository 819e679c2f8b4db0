#!/usr/bin/env python3
"""The checker's own test: a sound history passes, and each way of breaking a promise is found under its name."""

import copy
import sys

import checker
from checker import History, Violation

BEGIN = {"event": "begin", "topic": "t", "epoch": 7, "seq": 3, "kind": "map", "resumed": False, "cause": "new"}
GAP = {"event": "gap", "topic": "t", "from": 4, "to": 6, "cause": "overflow"}
SOUND = [
    BEGIN,
    {"event": "entry", "topic": "t", "key": "a", "value": 3},
    {"event": "entry", "topic": "t", "key": "b", "value": 2},
    {"event": "end", "topic": "t", "epoch": 7, "seq": 3},
    {"event": "update", "topic": "t", "epoch": 7, "seq": 4, "key": "b", "value": None},
    {"event": "update", "topic": "t", "epoch": 7, "seq": 5, "key": "c", "value": 5},
    {"event": "idle", "topic": "t", "seq": 5},
    {**BEGIN, "seq": 5, "resumed": True, "cause": ""},
    {"event": "end", "topic": "t", "epoch": 7, "seq": 5},
    {"event": "update", "topic": "t", "epoch": 7, "seq": 6, "key": "a", "value": 6},
]


def history():
    known = History()
    for seq, (key, value) in enumerate([("a", 1), ("b", 2), ("a", 3), ("b", None), ("c", 5), ("a", 6)], 1):
        known.published("t", key, value, epoch=7, seq=seq)
    return known


def changed(index, **fields):
    events = copy.deepcopy(SOUND)
    events[index].update(fields)
    return events


def without(index):
    return SOUND[:index] + SOUND[index + 1:]


BROKEN = {
    "an update is missing": (checker.RELIABLE, without(4)),
    "an update comes twice": (checker.UNIQUE, SOUND[:5] + SOUND[4:]),
    "updates change places": (checker.RELIABLE, SOUND[:4] + [SOUND[5], SOUND[4]]),
    "an update has another value": (checker.ORDERED, changed(4, value=9)),
    "an update has another key": (checker.ORDERED, changed(5, key="a")),
    "an entry is missing": (checker.ATOMIC, without(1)),
    "an entry is of a later seq": (checker.ATOMIC, changed(1, value=6)),
    "an entry comes twice": (checker.UNIQUE, SOUND[:2] + SOUND[1:]),
    "the end is missing": (checker.COMPLETE, without(3)),
    "the end is of another seq": (checker.ATOMIC, changed(3, seq=4)),
    "the beginning is missing": (checker.COMPLETE, without(0)),
    "a snapshot without cause": (checker.RESUMABLE, changed(0, cause="")),
    "resumed in another epoch": (checker.EPOCH_SAFE, changed(7, epoch=8)),
    "resumed further on": (checker.RESUMABLE, changed(7, seq=6)),
    "an update of another epoch": (checker.EPOCH_SAFE, changed(9, epoch=8)),
    "idle at another seq": (checker.BOOKMARKABLE, changed(6, seq=6)),
    "a gap of another range": (checker.HONEST, SOUND[:4] + [{**GAP, "from": 5}]),
    "a gap without cause": (checker.HONEST, SOUND[:4] + [{**GAP, "cause": ""}]),
}


def main():
    known = history()
    view = known.check(SOUND, finals={"t": (7, 6)})
    assert view.state("t") == {"a": 6, "c": 5}, view.state("t")
    known.check(SOUND[:4] + [GAP])
    for sentence, (promise, events) in BROKEN.items():
        try:
            known.check(events)
        except Violation as violation:
            assert violation.promise == promise, f"{sentence}: found as {violation}"
        else:
            raise AssertionError(f"not found: {sentence}")
    try:
        known.check(SOUND[:-1], finals={"t": (7, 6)})
    except Violation as violation:
        assert violation.promise == checker.RELIABLE
    else:
        raise AssertionError("not found: a follower that stops early")
    print(f"{len(BROKEN) + 1} broken promises found")


if __name__ == "__main__":
    sys.exit(main())
