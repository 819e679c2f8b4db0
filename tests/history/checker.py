#!/usr/bin/env python3
"""Decides over a recorded run (recording.py) whether subscribers were kept the nine promises of clients/PROTOCOL.md,
section 7. It knows what stands there and what clients saw, and nothing of how a broker works.

    checker.py FILE...      a line each; status 1 when a promise was broken
"""

import sys
from collections import Counter

from feeds import NAMES, Subscriber
from recording import LOST, NOTE, RECEIVED, SENT, read
from states import States
from truth import Truth
from violation import Violation


class Checked:
    """What a recording came to."""

    def __init__(self, rows):
        self.truth = Truth()
        self.states = States(self.truth)
        self.counts = Counter()
        self.subscribers = {}
        for number, row in enumerate(rows):
            self.truth.take(number, row)
        self.truth.finish()
        for number, row in enumerate(rows):
            self.take(number, row)
        self.states.check()

    def take(self, number, row):
        _, connection, what, frame = row
        if what == NOTE:
            if frame[0] == "rest":
                for subscriber in self.subscribers.values():
                    subscriber.rest(frame[1])
            return
        if what == LOST:
            if connection in self.subscribers:
                self.subscribers.pop(connection).lost()
            return
        if what not in (SENT, RECEIVED):
            return
        subscriber = self.subscribers.get(connection)
        if subscriber is None:
            subscriber = self.subscribers[connection] = Subscriber(connection, self.truth, self.states, self.counts)
        if what == SENT:
            subscriber.sent(frame, number)
        else:
            subscriber.received(frame)

    @property
    def events(self):
        """Records published, answered and delivered, one by one, and the frames of feeds around them."""
        counts = self.truth.counts
        return counts["published"] + counts["answered"] + counts["updates"] + counts["entries"] + \
            sum(self.counts[name] for name in NAMES)

    def summary(self):
        counts = self.truth.counts
        return (f"{self.events} events: {counts['published']} published, {counts['answered']} answered, "
                f"{counts['updates']} updates, {counts['entries']} entries; {self.states.compared} states compared, "
                f"{self.states.adopted} taken as told, {self.states.skipped} skipped")


def check(rows):
    """Raises Violation at a broken promise."""
    return Checked(rows)


def main():
    broken = 0
    for path in sys.argv[1:]:
        with open(path, "rb") as file:
            rows = read(file.read())
        try:
            print(f"{path}: {check(rows).summary()}")
        except Violation as violation:
            broken += 1
            print(f"{path}: {violation}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
