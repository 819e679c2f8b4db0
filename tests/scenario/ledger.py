"""Publishing with books kept: what was published, acknowledged, refused and left unknown, and the history that follows
from it, against which the checker (tests/history) holds what subscribers saw."""

import random
import sys
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "history"))

from followers import History, View  # noqa: E402
from model import Topic  # noqa: E402
from violation import Violation  # noqa: E402
from session import Op  # noqa: E402
from sp import WAIT, Closed  # noqa: E402


def seeded(seed=None):
    """A random source whose seed stands in the output."""
    seed = random.randrange(1 << 32) if seed is None else seed
    print(f"seed {seed}")
    return random.Random(seed)


class Ledger:
    """Publishes through a session and notes what came of each record."""

    def __init__(self, session, history=None):
        self.session = session
        self.history = History() if history is None else history
        self.pending = {}  # number: (topic, key, value)
        self.published = self.acked = self.refused = 0
        self.codes = {}    # code of a refusal: records

    def publish(self, topic, *items, timeout=WAIT):
        """Items are (key, value); takes in what has come meanwhile."""
        first = self.session.publish(topic, *items, timeout=timeout)
        for number, (key, value) in enumerate(items, first):
            self.pending[number] = (topic, key, value)
        self.published += len(items)
        self.take_aside()
        return first

    def take_aside(self):
        while self.session.set_aside:
            self.take(self.session.set_aside.pop(0))

    def take(self, frame):
        if frame[0] == Op.ACK:
            _, number, count, epoch, seq = frame
            for index in range(count):
                topic, key, value = self.pending.pop(number + index)
                self.history.published(topic, key, value, epoch, seq + index)
            self.acked += count
        elif frame[0] == Op.REFUSED:
            _, number, count, code, *_ = frame
            for index in range(count):
                del self.pending[number + index]
            self.refused += count
            self.codes[code] = self.codes.get(code, 0) + count

    def settle(self, timeout=WAIT):
        """Waits for all answers; then published = acked + refused, exactly."""
        deadline = time.monotonic() + timeout
        self.take_aside()
        while self.pending:
            self.take(self.session.read_frame(max(0.001, deadline - time.monotonic())))
        assert self.published == self.acked + self.refused, self

    @property
    def unknown(self):
        return len(self.pending)

    def __repr__(self):
        return (f"published {self.published}, acked {self.acked}, refused {self.refused} {self.codes}, "
                f"unknown {self.unknown}")


class Load:
    """A thread that publishes random records to the topics until it is stopped, through a session of its own."""

    def __init__(self, broker, topics, seed, keys=20, batch=20, pause=0.0, count=None):
        self.topics, self.random, self.keys, self.batch, self.pause, self.left = topics, seed, keys, batch, pause, count
        self.session = broker.session(name="load")
        self.ledger = Ledger(self.session)
        self.stopping = threading.Event()
        self.error = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def items(self):
        for _ in range(self.random.randint(1, self.batch)):
            values = self.random.randrange(1000), "x" * self.random.randrange(60), None, [1, {"a": 2}]
            yield f"k{self.random.randrange(self.keys)}", self.random.choice(values)

    def run(self):
        try:
            while not self.stopping.is_set() and (self.left is None or self.left > 0):
                items = list(self.items())
                self.ledger.publish(self.random.choice(self.topics), *items)
                if self.left is not None:
                    self.left -= len(items)
                if self.pause:
                    self.stopping.wait(self.pause)
            self.ledger.settle()
        except (Closed, OSError, TimeoutError, AssertionError) as error:
            self.error = error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(2 * WAIT)
        self.session.close()

    def stop(self):
        """Ends it with all answers there; returns its ledger."""
        self.stopping.set()
        self.thread.join(2 * WAIT)
        assert not self.thread.is_alive() and self.error is None, f"the load did not end well: {self.error!r}"
        return self.ledger


def finals(broker, topics):
    """{topic: (epoch, seq)} as they are now."""
    with broker.request() as request:
        answers = {topic: request.ask("get", topic=topic) for topic in topics}
    return {topic: (answer["epoch"], answer["seq"]) for topic, answer in answers.items()}


def catch_up(follower, ends, timeout=WAIT):
    """Reads a follower's events until it has reached these ends."""
    missing = dict(ends)
    for event in follower.events:
        settle(missing, event)
    deadline = time.monotonic() + timeout
    while missing:
        try:
            settle(missing, follower.next(max(0.001, deadline - time.monotonic())))
        except TimeoutError as error:
            raise TimeoutError(f"still not at {dict(list(missing.items())[:5])}: {error}") from None


def settle(missing, event):
    wanted = missing.get(event.get("topic"))
    if event["event"] in ("end", "update", "idle") and wanted is not None \
            and event.get("epoch", wanted[0]) == wanted[0] and event.get("seq") == wanted[1]:
        del missing[event["topic"]]


def check_follower(broker, history, follower, topics, cursors=(), timeout=WAIT):
    """The follower gets to where the topics are, broke no promise on the way, and ends with their state."""
    ends = finals(broker, topics)
    catch_up(follower, ends, timeout)
    view = history.check(follower.events, cursors, ends)
    with broker.request() as request:
        states = {topic: request.ask("get", topic=topic)["state"] for topic in topics if not cursors}
    for topic, state in states.items():
        seen = view.state(topic)
        if view.feeds[topic].kind == "log":  # the follower's copy has no bound
            seen = seen[len(seen) - len(state):]
        assert seen == state, f"{topic} is {str(state)[:500]} and was seen as {str(seen)[:500]}"
    return view


__all__ = ["History", "Ledger", "Load", "Topic", "View", "Violation", "catch_up", "check_follower", "finals", "seeded"]
