"""Recordings of what `weir sub --json` reports, for the checker; and what its reader then knows.

A follower says nothing of connections: where the library came back from one that was lost, BEGIN shows it (resumed, or
with a cause that only a first snapshot has). Each topic is therefore followed on its own connection here.
"""

from checker import check
from model import Topic
from recording import LOST, NOTE, RECEIVED, SENT

OPS = {"begin": 21, "entry": 22, "end": 23, "update": 24, "gap": 25, "conflated": 26, "reset": 27, "idle": 28,
       "stale": 29, "live": 30, "ended": 31}
CAUSES_OF_JOINS = ("new", "epoch", "trimmed")  # those of a first snapshot


class Feed:
    """One topic as its reader knows it, frame by frame."""

    def __init__(self, connection, topic, cursor):
        self.connection, self.topic, self.cursor = connection, topic, cursor
        self.kind = self.epoch = self.seq = self.model = None
        self.is_open = False
        self.entries = None                             # of a snapshot that has begun
        self.updates = self.snapshots = self.resyncs = self.conflated = 0

    # ------------------------------------------------------------------ as rows of a recording

    def rows(self, event):
        """The rows that an event comes from."""
        rows = []
        if event["event"] == "begin" and not self.goes_on(event):
            if self.is_open:
                rows.append([0, self.connection, LOST, ""])
            options = {"cursors": [[self.topic, *self.cursor]]} if self.cursor else {}
            rows += [[0, self.connection, SENT, [10, 1, self.topic, options]],
                     [0, self.connection, RECEIVED, [18, 1, 1]]]
            self.is_open = True
        frame = self.frame(OPS[event["event"]], event)
        return [*rows, [0, self.connection, RECEIVED, frame]]

    def goes_on(self, event):
        return self.is_open and not event.get("resumed") and event.get("cause") not in CAUSES_OF_JOINS

    def frame(self, op, event):
        options = {name: event[name] for name in ("resumed", "delta", "cause") if event.get(name)}
        items = [event.get("key"), event.get("value")]
        fields = {21: lambda: [1, 1, self.topic, event["kind"], event["epoch"], event["seq"], options],
                  22: lambda: [1, items],
                  23: lambda: [1, event["epoch"], event["seq"], options],
                  24: lambda: [1, event["seq"], items],
                  25: lambda: [1, event["from"], event["to"], event.get("cause", "")],
                  27: lambda: [1, event["epoch"], event.get("cause", "")],
                  28: lambda: [1, event["seq"]],
                  29: lambda: [1, event.get("cause", "")],
                  30: lambda: [1],
                  31: lambda: [1, event.get("code", "")]}
        return [op, *fields[25 if op == 26 else op]()]

    # ------------------------------------------------------------------ as its reader knows it

    def take(self, event):
        name = event["event"]
        if name == "begin":
            self.kind, self.entries = event["kind"], []
            self.snapshots += 1
            self.resyncs += event.get("cause") == "overflow"
            self.is_resumed, self.is_delta = bool(event.get("resumed")), bool(event.get("delta"))
            self.cursor = self.cursor if self.is_resumed or self.is_delta else None
        elif name == "entry":
            self.entries.append((event.get("key"), event.get("value")))
        elif name == "end":
            self.take_end(event)
        elif name == "update":
            self.updates += 1
            self.move(event["seq"])
            if self.model is not None:
                self.model.fold(event.get("key"), event.get("value"))
        elif name in ("gap", "conflated"):
            self.conflated += (event["to"] - event["from"] + 1) * (name == "conflated")
            self.move(event["to"])
        elif name == "idle":
            self.move(event["seq"])
        elif name == "reset":
            self.cursor = self.model = self.entries = None
        elif name == "ended":
            self.is_open = False

    def take_end(self, event):
        self.epoch = event["epoch"]
        self.move(event["seq"])
        if self.is_delta:  # over what was known; without that, as after --since, there is no state to speak of
            if self.model is not None:
                self.model.lay_over(self.entries)
        elif not self.is_resumed:
            self.model = Topic(self.kind)
            self.model.lay(self.entries)
        self.entries = None

    def move(self, seq):
        self.seq = seq
        self.cursor = self.epoch, seq


class View:
    """What a follower knows at the end: feeds by topic."""

    def __init__(self, events, cursors):
        self.feeds, self.rows = {}, []
        cursors = {topic: (epoch, seq) for topic, epoch, seq in cursors}
        for event in events:
            topic = event.get("topic")
            if event["event"] not in OPS or topic is None:
                continue
            feed = self.feeds.get(topic)
            if feed is None:
                feed = self.feeds[topic] = Feed(len(self.feeds) + 2, topic, cursors.get(topic))
            self.rows += feed.rows(event)
            feed.take(event)

    def state(self, topic):
        return self.feeds[topic].model.state()


class History:
    """What publishers know to have been folded: records[topic][epoch][seq] = (key, value)."""

    def __init__(self):
        self.records = {}
        self.answers = []

    def published(self, topic, key, value, epoch, seq):
        self.records.setdefault(topic, {}).setdefault(epoch, {})[seq] = key, value
        self.answers.append((topic, epoch, seq, key, value))

    def published_rows(self):
        """In no order between publishers: each record is sent before any is answered."""
        answers = sorted(self.answers, key=lambda answer: answer[:3])
        return [[0, 1, SENT, [9, topic, number, 2, [key, value]]]
                for number, (topic, _, _, key, value) in enumerate(answers, 1)] + \
               [[0, 1, RECEIVED, [16, number, 1, epoch, seq]]
                for number, (_, epoch, seq, _, _) in enumerate(answers, 1)]

    def check(self, events, cursors=(), finals=None):
        """Raises Violation at a broken promise; returns the follower's view. cursors: (topic, epoch, seq) that it
        resumed from. finals: {topic: (epoch, seq)} that it must have reached."""
        view = View(list(events), cursors)
        rest = [[0, 0, NOTE, ["rest", {topic: list(final) for topic, final in finals.items()}]]] if finals else []
        check([[0, 0, NOTE, ["strangers"]], *self.published_rows(), *view.rows, *rest])
        return view
