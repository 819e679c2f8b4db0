"""What one subscriber was told, frame by frame: its subscriptions and feeds, and what must hold in each."""

from states import Told
from truth import UNKNOWN
from violation import (ATOMIC, BOOKMARKABLE, COMPLETE, EPOCH_SAFE, HONEST, ORDERED, RELIABLE, RESUMABLE, UNIQUE,
                       Violation)

(SUBSCRIBE, UNSUBSCRIBE, SUBSCRIBED, UNSUBSCRIBED, REQUEST, REPLY) = (10, 11, 18, 19, 12, 20)
(BEGIN, ENTRIES, END, UPDATES, GAP, CONFLATED, RESET, IDLE, STALE, LIVE, ENDED) = range(21, 32)
NAMES = ("BEGIN", "ENTRIES", "END", "UPDATES", "GAP", "CONFLATED", "RESET", "IDLE", "STALE", "LIVE", "ENDED")


def matches(pattern, topic):
    """MQTT's rules: + is one segment, a final # the rest, and neither starts a name with $."""
    if pattern[:1] in ("+", "#") and topic.startswith("$"):
        return False
    wanted, have = pattern.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted = wanted[:-1]
        have = have[:len(wanted)] if len(have) >= len(wanted) else have
    return len(wanted) == len(have) and all(want in ("+", name) for want, name in zip(wanted, have))


class Subscription:
    def __init__(self, pattern, options, row):
        self.pattern, self.row = pattern, row
        self.policy = options.get("policy", "resync")
        self.has_snapshot = options.get("snapshot", True)
        self.has_updates = options.get("updates", True)
        self.cursors = {topic: (epoch, seq) for topic, epoch, seq in options.get("cursors", ())}
        self.is_answered = self.is_leaving = False
        self.topics = self.begun = 0     # counted by SUBSCRIBED, and feeds that came of them
        key, prefix = options.get("key"), options.get("prefix")
        self.wants = None
        if key is not None:
            self.wants = lambda name: name == key
        elif prefix is not None:
            self.wants = lambda name: name is not None and name.startswith(prefix)


# What a feed waits for.
NOTHING_KNOWN, IN_SNAPSHOT, FOLLOWING, GONE, OVER = "nothing known", "in a snapshot", "following", "gone", "over"


class Feed:
    """One topic under one subscription."""

    def __init__(self, subscription, topic):
        self.subscription, self.topic = subscription, topic
        self.line = None
        self.phase = NOTHING_KNOWN
        self.epoch = self.seq = None     # where the client stands
        self.begin = None                # the frame
        self.entries = []
        self.since = None                # of a delta
        self.is_first = False            # no update since END yet
        self.reset = None                # epoch of a RESET whose BEGIN has not come
        self.is_stale = False
        self.has_gap = False             # since the last whole snapshot
        self.left_out = []               # ranges of seq that were passed by
        self.owed = {}                   # key: seq of its newest update that was conflated away

    # ------------------------------------------------------------------ snapshots

    def on_begin(self, frame, cursor, dead, counts):
        _, _, _, _, kind, epoch, seq, options = frame
        if kind != (self.topic.kind or kind):
            raise Violation(ATOMIC, f"a topic of kind {self.topic.kind}", frame)
        if options.get("cause") == "deleted":
            self.on_gone(frame)
            return
        if self.reset is not None and epoch != self.reset:
            raise Violation(EPOCH_SAFE, f"RESET named epoch {self.reset}", frame)
        if epoch in dead:
            raise Violation(EPOCH_SAFE, "this epoch was over before SUBSCRIBE", frame)
        if options.get("resumed"):
            self.check_resumed(frame, cursor, epoch, seq)
        else:
            self.check_fresh(frame, cursor, epoch, seq, options)
        self.since = None
        if options.get("delta"):
            self.since = self.check_delta(frame, cursor, epoch)
        self.owed, self.left_out, self.reset = {}, [], None
        self.begin, self.entries, self.phase = frame, [], IN_SNAPSHOT
        self.line = self.topic.line(epoch)
        counts["BEGIN"] += 1
        counts["of them " + ("resumed" if options.get("resumed") else options["cause"])] += 1

    def on_gone(self, frame):
        """The topic ended before its snapshot began; nothing but ENDED follows."""
        if self.subscription.has_updates or self.phase != NOTHING_KNOWN or self.seq is not None:
            raise Violation(COMPLETE, f"a topic that is gone, and the feed is {self.phase}", frame)
        self.phase = GONE

    def check_delta(self, frame, cursor, epoch):
        """The seq that the delta is laid over: what the client knows, or said by its cursor that it knows."""
        is_first = self.seq is None and self.reset is None and self.phase == NOTHING_KNOWN
        known = cursor if is_first and cursor else (self.epoch, self.seq)
        if known[0] not in (None, epoch):
            raise Violation(EPOCH_SAFE, f"a delta over {known}", frame)
        is_void = self.phase == IN_SNAPSHOT and not self.begin[7].get("delta") and not self.begin[7].get("resumed")
        if known[0] is None or is_void or self.reset is not None:
            raise Violation(ATOMIC, "a delta over nothing", frame)
        if self.has_gap or is_first and self.subscription.policy == "drop":
            raise Violation(ATOMIC, "a delta over a state with gaps", frame)
        self.epoch, self.seq = known
        return self.seq

    def check_resumed(self, frame, cursor, epoch, seq):
        if self.phase != NOTHING_KNOWN or self.seq is not None or cursor is None:
            raise Violation(RESUMABLE, "resumed, and there was no cursor", frame)
        if epoch != cursor[0]:
            raise Violation(EPOCH_SAFE, f"the cursor is {cursor}", frame)
        if epoch not in self.topic.lines or seq > self.topic.lines[epoch].last():
            raise Violation(EPOCH_SAFE, "resumed in a history that never was", frame)
        if seq != cursor[1]:
            raise Violation(RESUMABLE, f"the cursor is {cursor}", frame)
        self.epoch, self.seq = epoch, seq

    def check_fresh(self, frame, cursor, epoch, seq, options):
        cause = options.get("cause")
        if not cause:
            raise Violation(RESUMABLE, "neither resumed nor a cause", frame)
        if self.seq is None and self.reset is None and self.phase == NOTHING_KNOWN:
            # A topic that appeared after SUBSCRIBE is new to the subscription, whatever it had for a cursor.
            fits = {"new": cursor is None or cursor[0] != epoch,
                    "epoch": cursor and (cursor[0] != epoch or cursor[1] > seq),
                    "trimmed": cursor and cursor[0] == epoch}
            if not fits.get(cause, True):
                raise Violation(RESUMABLE, f"the cursor is {cursor}", frame)
        if self.epoch == epoch and self.reset is None and self.seq is not None and seq < self.seq:
            raise Violation(BOOKMARKABLE, f"a snapshot older than {self.seq}, which the client knows", frame)

    def on_entries(self, frame):
        if self.phase != IN_SNAPSHOT:
            raise Violation(COMPLETE, f"entries, and the feed is {self.phase}", frame)
        if self.begin[7].get("resumed"):
            raise Violation(RESUMABLE, "entries in a feed that resumed", frame)
        self.entries += frame[2]

    def abandon(self, states):
        """A snapshot that will not end: what came of it was true all the same."""
        if self.phase == IN_SNAPSHOT and self.entries:
            _, _, _, name, _, epoch, seq, _ = self.begin
            states.tell(name, epoch, Told(seq, self.entries, self.begin, self.subscription.wants, self.since, True))
        self.entries = []

    def on_end(self, frame, states):
        _, _, epoch, seq, options = frame
        if self.phase != IN_SNAPSHOT:
            raise Violation(COMPLETE, f"END, and the feed is {self.phase}", frame)
        if epoch != self.begin[5]:
            raise Violation(EPOCH_SAFE, f"it began as {self.begin[5:7]}", frame)
        begun = self.begin[7]
        if seq != self.begin[6]:
            raise Violation(ATOMIC, f"it began as {self.begin[5:7]}", frame)
        if bool(options.get("delta")) != bool(begun.get("delta")):
            raise Violation(ATOMIC, f"it began as {begun}", frame)
        if not self.subscription.has_snapshot and self.entries:
            raise Violation(ATOMIC, "entries that nobody asked for", frame)
        self.epoch, self.seq, self.phase, self.is_first = epoch, seq, FOLLOWING, True
        if not begun.get("resumed") and self.subscription.has_snapshot:
            self.has_gap = self.has_gap and self.since is not None
            states.tell(self.topic.name, epoch, Told(seq, self.entries, frame, self.subscription.wants, self.since))
        self.entries = []

    # ------------------------------------------------------------------ updates

    def on_updates(self, frame):
        _, _, seq, items = frame
        count = len(items) // 2
        if self.phase != FOLLOWING:
            raise Violation(COMPLETE, f"updates, and the feed is {self.phase}", frame)
        if not self.subscription.has_updates:
            raise Violation(COMPLETE, "updates that nobody asked for", frame)
        if count == 0:
            raise Violation(BOOKMARKABLE, "updates without any", frame)
        if seq != self.seq + 1:
            self.check_distance(frame, seq)
        self.seq = seq + count - 1
        if self.owed:
            for key in items[::2]:
                self.owed.pop(self.owing(key), None)
        self.is_first = False
        if self.subscription.wants:
            wrong = [key for key in items[::2] if not self.subscription.wants(key)]
            if wrong:
                raise Violation(HONEST, f"{wrong[:3]} was not asked for", frame)

    def check_distance(self, frame, seq):
        """Something other than the next update came: allowed only over what a filter leaves out."""
        if seq <= self.seq:
            if any(start <= seq <= end for start, end in self.left_out):
                raise Violation(ORDERED, f"after {self.seq}", frame)
            raise Violation(UNIQUE, f"after {self.seq}", frame)
        if self.subscription.wants and self.pass_by(seq - 1):
            return
        if self.is_first:
            raise Violation(RESUMABLE if self.begin[7].get("resumed") else ATOMIC, f"the first after {self.seq}", frame)
        raise Violation(RELIABLE, f"after {self.seq}, and no frame says so", frame)

    def pass_by(self, seq):
        """Whether a filter leaves out all up to seq."""
        keys = self.line.items[2 * self.seq:2 * seq:2]
        if any(key is not UNKNOWN and self.subscription.wants(key) for key in keys):
            return False
        self.left_out.append((self.seq + 1, seq))
        return True

    # ------------------------------------------------------------------ what is left out

    def check_range(self, frame):
        _, _, first, last, cause = frame
        if self.phase != FOLLOWING:
            raise Violation(COMPLETE, f"a range, and the feed is {self.phase}", frame)
        if not cause or last < first:
            raise Violation(HONEST, "an empty range, or no cause", frame)
        if first != self.seq + 1 and not (first > self.seq and self.subscription.wants and self.pass_by(first - 1)):
            raise Violation(HONEST, f"a range that does not follow {self.seq}", frame)

    def on_gap(self, frame):
        self.check_range(frame)
        if self.subscription.policy in ("conflate", "block") and self.subscription.has_snapshot:
            raise Violation(HONEST, f"a gap under the policy {self.subscription.policy}", frame)
        self.has_gap = True
        self.left_out.append((frame[2], frame[3]))
        self.seq = frame[3]
        for key in self.line.items[2 * (frame[2] - 1):2 * frame[3]:2]:
            self.owed.pop(self.owing(key), None) if key is not UNKNOWN else self.owed.clear()

    def owing(self, key):
        return None if self.topic.kind == "last" else key

    def on_conflated(self, frame):
        """What is left out was replaced: the newest of each key is still to come."""
        self.check_range(frame)
        _, _, first, last, _ = frame
        if self.topic.kind not in ("map", "last"):
            raise Violation(HONEST, f"a conflation of a {self.topic.kind}, in which every record counts", frame)
        wants = self.subscription.wants or (lambda key: True)
        keys = self.line.items[2 * (first - 1):2 * last:2]
        self.owed.update((self.owing(key), first + index) for index, key in enumerate(keys)
                         if key is not UNKNOWN and wants(key))
        self.left_out.append((first, last))
        self.seq = last

    def check_owed(self, where):
        """The feed has caught up: nothing that was left out may be the newest of its key; in a `last` topic, of those
        that were asked for."""
        if self.owed:
            raise Violation(HONEST, f"left out, and nothing newer came: {dict(list(self.owed.items())[:5])}", where)

    def on_reset(self, frame):
        if not frame[3]:
            raise Violation(HONEST, "a reset without cause", frame)
        if frame[2] == self.epoch:
            raise Violation(HONEST, "a reset to the same epoch", frame)
        self.phase, self.reset, self.owed, self.seq, self.epoch = NOTHING_KNOWN, frame[2], {}, None, None

    def on_idle(self, frame):
        seq = frame[2]
        if self.phase != FOLLOWING:
            raise Violation(COMPLETE, f"IDLE, and the feed is {self.phase}", frame)
        if seq < self.seq:
            raise Violation(BOOKMARKABLE, f"the client knows {self.seq}", frame)
        if seq > self.seq and not (self.subscription.wants and self.pass_by(seq)):
            raise Violation(BOOKMARKABLE, f"the client knows {self.seq} and is to skip what it asked for", frame)
        self.seq = seq
        self.check_owed(frame)

    def on_ended(self, frame):
        if self.phase in (IN_SNAPSHOT, GONE) and frame[2] == "ok":
            raise Violation(COMPLETE, "ended in the middle of a snapshot", frame)
        self.phase = OVER


class Subscriber:
    """A connection with what it follows."""

    def __init__(self, connection, truth, states, counts):
        self.connection, self.truth, self.states, self.counts = connection, truth, states, counts
        self.subscriptions = {}
        self.feeds = {}
        self.gets = {}

    def sent(self, frame, row):
        if frame[0] == SUBSCRIBE:
            self.subscriptions[frame[1]] = Subscription(frame[2], frame[3], row)
        elif frame[0] == UNSUBSCRIBE and frame[1] in self.subscriptions:
            self.subscriptions[frame[1]].is_leaving = True
        elif frame[0] == REQUEST and frame[2] == "get":
            self.gets[frame[1]] = frame[3]

    def received(self, frame):
        op = frame[0]
        if op == BEGIN:
            self.begin(frame)
        elif ENTRIES <= op <= ENDED:
            self.feed_frame(op, frame)
        elif op == SUBSCRIBED and frame[1] in self.subscriptions:
            self.subscriptions[frame[1]].is_answered = True
            self.subscriptions[frame[1]].topics = frame[2]
        elif op == UNSUBSCRIBED:
            self.counts["UNSUBSCRIBED"] += 1
            gone = self.subscriptions.pop(frame[1], None)
            for number, feed in list(self.feeds.items()):
                if feed.subscription is gone:
                    feed.abandon(self.states)
                    del self.feeds[number]
        elif op == REPLY:
            self.reply(frame)

    def lost(self):
        for feed in self.feeds.values():
            feed.abandon(self.states)

    def begin(self, frame):
        _, sub, number, name, *_ = frame
        subscription = self.subscriptions.get(sub)
        if subscription is None or not matches(subscription.pattern, name):
            raise Violation(COMPLETE, f"a feed that nobody asked for, sub {sub}", frame)
        topic = self.truth.topic(name)
        feed = self.feeds.get(number)
        if feed is not None and (feed.topic is not topic or feed.subscription is not subscription or
                                 feed.phase == OVER):
            raise Violation(UNIQUE, f"a feed's number that was {feed.topic.name}'s", frame)
        cursor = None
        if feed is None:
            feed = self.feeds[number] = Feed(subscription, topic)
            subscription.begun += 1
            cursor = subscription.cursors.pop(name, None)  # a topic that appears again later has none
        feed.abandon(self.states)
        dead = {epoch for epoch, row in topic.is_over.items() if row < subscription.row}
        feed.on_begin(frame, cursor, dead, self.counts)

    def feed_frame(self, op, frame):
        feed = self.feeds.get(frame[1])
        if feed is None or feed.phase == OVER:
            raise Violation(COMPLETE, "a frame of a feed that has not begun, or is over", frame)
        if feed.phase == GONE and op != ENDED:
            raise Violation(COMPLETE, "a frame of a topic that is gone", frame)
        if op not in (ENTRIES, UPDATES):  # those are counted by their records
            self.counts[NAMES[op - BEGIN]] += 1
        if op == UPDATES:
            feed.on_updates(frame)
        elif op == ENTRIES:
            feed.on_entries(frame)
        elif op == END:
            feed.on_end(frame, self.states)
        elif op in (STALE, LIVE):
            if op == STALE and not frame[2]:
                raise Violation(HONEST, "STALE without cause", frame)
            feed.is_stale = op == STALE
        else:
            {GAP: feed.on_gap, CONFLATED: feed.on_conflated, RESET: feed.on_reset, IDLE: feed.on_idle,
             ENDED: feed.on_ended}[op](frame)

    def reply(self, frame):
        asked = self.gets.pop(frame[1], None)
        if asked is None or frame[2] != "ok" or "key" in asked or "prefix" in asked or "limit" in asked \
                or "after" in asked:
            return
        answer, topic = frame[3], asked["topic"]
        kind, state = answer["kind"], answer["state"]
        self.truth.topic(topic).kind = kind
        line = self.truth.topic(topic).line(answer["epoch"])
        line.reach(answer["seq"], frame)  # perhaps nobody else was told so much
        if kind == "map":
            items = [part for pair in state.items() for part in pair]
        elif kind == "merge":
            entries = [{key: value} for key, value in state.items()] if isinstance(state, dict) else [state]
            items = [part for entry in entries for part in (None, entry)]
        elif kind == "log":  # keys are not shown
            start = max(answer["seq"] - len(state), 0)
            items = [part for key, value in zip(line.items[2 * start:2 * answer["seq"]:2], state)
                     for part in (key, value)]
            items += [None, "one too many"] * (len(state) - len(items) // 2)
        else:
            items = [line.items[2 * answer["seq"] - 2], state] if answer["seq"] else []
        self.states.tell(topic, answer["epoch"], Told(answer["seq"], items, frame))

    def rest(self, topics):
        """All is said: whoever follows a topic has all of it."""
        for subscription in self.subscriptions.values():
            if subscription.is_leaving or not subscription.is_answered:
                continue
            if not subscription.has_updates:
                self.check_read(subscription)
                continue
            feeds = {feed.topic.name: feed for feed in self.feeds.values()
                     if feed.subscription is subscription and feed.phase != OVER}
            pattern = subscription.pattern
            names = topics if "+" in pattern or "#" in pattern else {pattern} & topics.keys()
            for name in names:
                if matches(pattern, name):
                    epoch, seq = topics[name]
                    self.check_rest(subscription, name, feeds.get(name), epoch, seq)

    def check_read(self, subscription):
        """Of one without updates: each topic that it was to have a snapshot of has given it, or told that it ended."""
        where = f"connection {self.connection}, {subscription.pattern} without updates"
        if subscription.begun < subscription.topics:
            raise Violation(COMPLETE, f"{subscription.topics} topics, and {subscription.begun} began", where)
        for feed in self.feeds.values():
            if feed.subscription is subscription and feed.phase != OVER:
                raise Violation(COMPLETE, f"at rest and {feed.phase}: {feed.topic.name}", where)

    def check_rest(self, subscription, name, feed, epoch, seq):
        where = f"connection {self.connection}, {subscription.pattern} ({subscription.policy}), {name}"
        if feed is None or feed.phase != FOLLOWING:
            raise Violation(COMPLETE, f"at rest and {feed.phase if feed else 'never begun'}", where)
        if feed.is_stale:
            raise Violation(HONEST, "at rest and still STALE", where)
        if feed.epoch != epoch:
            raise Violation(EPOCH_SAFE, f"at rest in epoch {feed.epoch}, the topic is at {(epoch, seq)}", where)
        if feed.seq != seq:
            is_reached = subscription.wants and feed.seq < seq and feed.pass_by(seq)
            raise Violation(BOOKMARKABLE if is_reached else RELIABLE,
                            f"at rest at {feed.seq}, the topic is at {seq}", where)
        feed.check_owed(where)
