"""An independent session client (PAIR0): frames by name, credit both ways, nothing hidden.

Frames go out and come in as Python lists whose first element is the op; `Op` names them.
"""

import time
from enum import IntEnum

from sp import PAIR0, WAIT, Peer, pack, unpack


class Op(IntEnum):
    HELLO, PING, PONG, CREDIT, CLOSE = range(5)
    ALIAS, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, REQUEST, PUBLISH_WITH, HOLD = range(8, 15)
    (ACK, REFUSED, SUBSCRIBED, UNSUBSCRIBED, REPLY, BEGIN, ENTRIES, END, UPDATES,
     GAP, CONFLATED, RESET, IDLE, STALE, LIVE, ENDED) = range(16, 32)


# Those that use up credit: the bytes of their whole body count. One may start while any credit is left.
DATA = {Op.PUBLISH, Op.PUBLISH_WITH, Op.ENTRIES, Op.UPDATES}
ACK_LEVELS = ("none", "accepted", "folded", "durable")
VERSION = 1


def pairs(items):
    """[key, value, key, value...] as a list of (key, value)."""
    return list(zip(items[::2], items[1::2]))


class Session(Peer):
    """Says hello and keeps the books. With auto_credit, a window of `credit` bytes is kept open."""

    def __init__(self, url, credit=1 << 20, auto_credit=True, name="scenario", hello=True, heartbeat_ms=60_000,
                 **hello_options):
        super().__init__(url, PAIR0)
        self.auto_credit = auto_credit
        self.window = credit
        self.granted = credit  # in all, to the broker
        self.taken = 0  # bytes of data frames read, in all
        self.allowed = 0  # bytes of data frames that the broker lets us send, in all
        self.sent = 0
        self.number = 1  # of the next record published
        self.set_aside = []  # read while waiting for something else
        if hello:
            self.send_frame(Op.HELLO, VERSION, {"client": name, "credit": credit, "message_max": 64 << 20,
                                                "heartbeat_ms": heartbeat_ms, **hello_options})
            self.broker = self.expect(Op.HELLO)[2]

    def send_frame(self, op, *fields, timeout=WAIT):
        body = pack([int(op), *fields])
        if op in DATA:
            self.wait_allowance(timeout)
            self.sent += len(body)
        self.send(body, timeout)

    def wait_allowance(self, timeout):
        """Reads until the broker lets us start a data frame; TimeoutError when it does not."""
        deadline = time.monotonic() + timeout
        while self.sent >= self.allowed:
            self.set_aside.append(self.read_frame(max(0.001, deadline - time.monotonic())))

    def grant(self, window):
        """Lets the broker send this many bytes beyond what was read so far."""
        self.granted = max(self.granted, self.taken + window)
        self.send_frame(Op.CREDIT, self.granted)

    def read_frame(self, timeout=WAIT):
        """The next frame off the wire; CREDIT and PING are dealt with as well as returned."""
        body = self.receive(timeout)
        frame = unpack(body)
        frame[0] = op = Op(frame[0])
        if op in DATA:
            assert self.taken < self.granted, f"{op.name} started after {self.taken} bytes, credit was {self.granted}"
            self.taken += len(body)
            if self.auto_credit and self.granted - self.taken < self.window // 2:
                self.grant(self.window)
        elif op == Op.CREDIT:
            assert frame[1] >= self.allowed, "credit went back"
            self.allowed = frame[1]
        elif op == Op.HELLO:
            self.allowed = frame[2].get("credit", 0)
        elif op == Op.PING:
            self.send_frame(Op.PONG, frame[1])
        return frame

    def next_frame(self, timeout=WAIT):
        """The next frame that is not about the connection itself."""
        deadline = time.monotonic() + timeout
        while True:
            frame = self.set_aside.pop(0) if self.set_aside else \
                self.read_frame(max(0.001, deadline - time.monotonic()))
            if frame[0] not in (Op.CREDIT, Op.PING, Op.PONG):
                return frame

    def expect(self, op, timeout=WAIT):
        """The next frame, which must be of this op."""
        frame = self.next_frame(timeout)
        assert frame[0] == op, f"wanted {op.name}, got {frame[0].name} {frame[1:]}"
        return frame

    def wait_for(self, op, timeout=WAIT):
        """Reads until a frame of this op; what came before it is kept for next_frame, in order."""
        deadline = time.monotonic() + timeout
        kept = []
        try:
            while True:
                frame = self.next_frame(max(0.001, deadline - time.monotonic()))
                if frame[0] == op:
                    return frame
                kept.append(frame)
        finally:
            self.set_aside[:0] = kept

    def publish(self, topic, *items, ack="folded", timeout=WAIT):
        """One PUBLISH frame of (key, value) items or bare values; returns the number of its first record."""
        flat = [part for item in items for part in (item if isinstance(item, tuple) else (None, item))]
        first = self.number
        self.send_frame(Op.PUBLISH, topic, first, ACK_LEVELS.index(ack), flat, timeout=timeout)
        self.number += len(items)
        return first

    def publish_with(self, topic, options, *items, ack="folded"):
        """The same as PUBLISH_WITH."""
        flat = [part for item in items for part in (item if isinstance(item, tuple) else (None, item))]
        first = self.number
        self.send_frame(Op.PUBLISH_WITH, topic, first, ACK_LEVELS.index(ack), options, flat)
        self.number += len(items)
        return first

    def subscribe(self, sub, pattern, **options):
        self.send_frame(Op.SUBSCRIBE, sub, pattern, options)

    def snapshot(self, timeout=WAIT):
        """Reads BEGIN, ENTRIES..., END of one feed; returns (begin, [(key, value)], end). What comes in between and is
        not of this feed is kept for next_frame, in order."""
        begin, entries, kept = None, [], []
        deadline = time.monotonic() + timeout
        try:
            while True:
                frame = self.next_frame(max(0.001, deadline - time.monotonic()))
                if begin is None and frame[0] == Op.BEGIN:
                    begin = frame
                elif begin and frame[0] == Op.ENTRIES and frame[1] == begin[2]:
                    entries += pairs(frame[2])
                elif begin and frame[0] == Op.END and frame[1] == begin[2]:
                    return begin, entries, frame
                else:
                    assert not begin or frame[0] != Op.UPDATES or frame[1] != begin[2], "an update inside a snapshot"
                    kept.append(frame)
        finally:
            self.set_aside[:0] = kept
