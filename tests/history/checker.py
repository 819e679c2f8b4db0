#!/usr/bin/env python3
"""Checks recorded runs against what subscribers are promised (clients/PROTOCOL.md, section 7).

A history is what publishers know (each record's topic, key and value, and its epoch and seq where it was acknowledged)
and what each subscriber saw, as the event lines of `weir sub --json`, in order:

    history = History()
    history.published("price/a", None, 20, epoch=1, seq=7)
    for violation in history.check(events): ...

On the command line, where published.jsonl has {"topic", "key"?, "value", "epoch", "seq"} a line:

    checker.py [--published published.jsonl] events.jsonl...
"""

import argparse
import json
import sys

from model import Topic

UNKNOWN = object()


class Violation(AssertionError):
    """A broken promise: its number and name, the event, and why."""

    def __init__(self, promise, sentence, event):
        super().__init__(f"{promise}: {sentence}: {event}")
        self.promise = promise


ORDERED, UNIQUE, RELIABLE, ATOMIC, RESUMABLE, BOOKMARKABLE, COMPLETE, HONEST, EPOCH_SAFE = (
    "1 ordered", "2 unique", "3 reliable", "4 atomic join", "5 resumable", "6 bookmarkable", "7 complete", "8 honest",
    "9 epoch-safe")


class History:
    """What is known to have been folded: records[topic][epoch][seq] = (key, value)."""

    def __init__(self):
        self.records = {}
        self.states = {}

    def published(self, topic, key, value, epoch, seq):
        known = self.records.setdefault(topic, {}).setdefault(epoch, {})
        if seq in known and known[seq] != (key, value):
            raise Violation(UNIQUE, f"acknowledged as {seq} of {topic} was {known[seq]} before", (key, value))
        known[seq] = (key, value)

    def record(self, topic, epoch, seq):
        return self.records.get(topic, {}).get(epoch, {}).get(seq, UNKNOWN)

    def state(self, topic, kind, epoch, seq):
        """The topic folded up to seq, or UNKNOWN where a record of it is not known. Bounds of a log are not applied."""
        model, folded = self.states.get((topic, kind, epoch), (None, 0))
        if model is None or folded > seq:
            model, folded = Topic(kind), 0
        while folded < seq:
            record = self.record(topic, epoch, folded + 1)
            if record is UNKNOWN:
                return UNKNOWN
            model.fold(*record)
            folded += 1
        self.states[(topic, kind, epoch)] = (model, folded)
        return model.value

    def check(self, events, cursors=(), finals=None):
        """Raises Violation at the first broken promise; returns the follower's view. cursors: (topic, epoch, seq) that
        it resumed from. finals: {topic: (epoch, seq)} that it must have reached."""
        view = View(self, cursors)
        for event in events:
            view.take(event)
        view.finish(finals or {})
        return view


class Feed:
    """One topic as one subscriber knows it."""

    def __init__(self):
        self.kind = None
        self.epoch = self.seq = None      # the cursor
        self.model = None
        self.entries = None               # of a snapshot that has begun
        self.begin = None
        self.is_reset = False
        self.updates = self.snapshots = self.resyncs = 0


class View:
    """A subscriber's events, checked one by one."""

    def __init__(self, history, cursors=()):
        self.history = history
        self.feeds = {}
        for topic, epoch, seq in cursors:
            feed = self.feeds.setdefault(topic, Feed())
            feed.epoch, feed.seq = epoch, seq

    def take(self, event):
        handler = getattr(self, "on_" + event["event"], None)
        if handler is not None and "topic" in event:
            handler(self.feeds.setdefault(event["topic"], Feed()), event)

    def finish(self, finals):
        for topic, (epoch, seq) in finals.items():
            feed = self.feeds.get(topic)
            if feed is None or feed.entries is not None or (feed.epoch, feed.seq) != (epoch, seq):
                raise Violation(RELIABLE, f"ended at {feed and (feed.epoch, feed.seq)}, not at {(epoch, seq)}", topic)

    # ------------------------------------------------------------------ snapshots

    def on_begin(self, feed, event):
        if feed.entries is not None and not feed.is_reset:
            # A connection lost in the middle of a snapshot starts it anew; within one it must have ended.
            feed.entries = None
        feed.kind = event["kind"]
        feed.begin = event
        feed.snapshots += 1
        feed.resyncs += event.get("cause") == "overflow"
        if event.get("resumed"):
            if feed.epoch != event["epoch"]:
                raise Violation(EPOCH_SAFE, f"resumed in another epoch than {feed.epoch}", event)
            if feed.seq != event["seq"]:
                raise Violation(RESUMABLE, f"resumed elsewhere than {feed.seq}", event)
        elif not event.get("cause"):
            raise Violation(RESUMABLE, "neither resumed nor a cause", event)
        feed.entries = []

    def on_entry(self, feed, event):
        if feed.entries is None:
            raise Violation(COMPLETE, "an entry outside a snapshot", event)
        if feed.begin.get("resumed"):
            raise Violation(RESUMABLE, "an entry in a feed that resumed", event)
        feed.entries.append((event.get("key"), event.get("value")))

    def on_end(self, feed, event):
        if feed.entries is None:
            raise Violation(COMPLETE, "an end without a beginning", event)
        if (event["epoch"], event["seq"]) != (feed.begin["epoch"], feed.begin["seq"]):
            raise Violation(ATOMIC, f"ends elsewhere than it began: {feed.begin}", event)
        if not feed.begin.get("resumed") and feed.epoch == event["epoch"] and feed.seq is not None \
                and event["seq"] < feed.seq and not feed.is_reset:
            raise Violation(ORDERED, f"a snapshot older than {feed.seq}", event)
        entries, feed.entries = feed.entries, None
        feed.epoch, feed.seq, feed.is_reset = event["epoch"], event["seq"], False
        if feed.begin.get("resumed"):
            return
        keys = [key for key, _ in entries]
        if feed.kind == "map" and len(keys) != len(set(keys)):
            raise Violation(UNIQUE, "a key twice in one snapshot", event)
        feed.model = Topic(feed.kind)
        feed.model.lay(entries)
        self.compare(feed, event)

    def compare(self, feed, event):
        """The snapshot at S is the fold of records 1 to S. A log may have lost its oldest, a subscriber without
        snapshot has none."""
        wanted = self.history.state(event["topic"], feed.kind, feed.epoch, feed.seq)
        if wanted is UNKNOWN or feed.model is None:
            return
        have = feed.model.value
        if feed.kind == "log":
            wanted = wanted[len(wanted) - len(have):]
        if have != wanted and (have or self.has_snapshots):
            raise Violation(ATOMIC, f"the snapshot is {str(have)[:500]}, the records make {str(wanted)[:500]}", event)

    has_snapshots = True

    # ------------------------------------------------------------------ updates

    def on_update(self, feed, event):
        if feed.entries is not None or feed.begin is None:
            raise Violation(COMPLETE, "an update before the snapshot's end", event)
        if event.get("epoch", feed.epoch) != feed.epoch:
            raise Violation(EPOCH_SAFE, f"an update of another epoch than {feed.epoch}", event)
        if event["seq"] <= feed.seq:
            raise Violation(UNIQUE, f"after {feed.seq}", event)
        if event["seq"] != feed.seq + 1:
            raise Violation(RELIABLE, f"after {feed.seq}, and no frame says so", event)
        record = (event.get("key"), event.get("value"))
        known = self.history.record(event["topic"], feed.epoch, event["seq"])
        if known is not UNKNOWN and known != record:
            raise Violation(ORDERED, f"what was folded as this seq is {known}", event)
        feed.seq = event["seq"]
        feed.updates += 1
        if feed.model is not None:
            feed.model.fold(*record)

    def on_gap(self, feed, event):
        if event["from"] != (feed.seq or 0) + 1 or event["to"] < event["from"] or not event.get("cause"):
            raise Violation(HONEST, f"a gap that does not follow {feed.seq}, or has no cause", event)
        feed.seq = event["to"]

    def on_conflated(self, feed, event):
        if event["from"] != (feed.seq or 0) + 1 or event["to"] < event["from"] or not event.get("cause"):
            raise Violation(HONEST, f"a conflation that does not follow {feed.seq}, or has no cause", event)

    def on_reset(self, feed, event):
        if not event.get("cause"):
            raise Violation(HONEST, "a reset without cause", event)
        feed.is_reset, feed.entries, feed.model = True, None, None

    def on_idle(self, feed, event):
        if feed.entries is not None or event["seq"] != feed.seq:
            raise Violation(BOOKMARKABLE, f"idle elsewhere than {feed.seq}", event)

    def on_ended(self, feed, event):
        if feed.entries is not None and event.get("code") == "ok":
            raise Violation(COMPLETE, "ended inside a snapshot", event)

    def state(self, topic):
        feed = self.feeds[topic]
        return feed.model.state()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--published", metavar="FILE", help="what publishers were acknowledged")
    parser.add_argument("events", nargs="+", help="a subscriber's event lines each")
    options = parser.parse_args()
    history = History()
    if options.published:
        with open(options.published) as lines:
            for record in map(json.loads, lines):
                history.published(record["topic"], record.get("key"), record["value"], record["epoch"], record["seq"])
    broken = 0
    for path in options.events:
        with open(path) as lines:
            try:
                view = history.check(map(json.loads, lines))
                updates = sum(feed.updates for feed in view.feeds.values())
                print(f"{path}: {updates} updates of {len(view.feeds)} topics")
            except Violation as violation:
                broken += 1
                print(f"{path}: {violation}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
