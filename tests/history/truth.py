"""What was folded, as far as clients can know it: each (topic, epoch) is a line of records by seq, put together from
the acknowledgements of publishers and from what any subscriber saw. All must agree, and nothing may be in a line that
nobody published, or more often than it was published.
"""

from collections import Counter

import msgpack

from recording import LOST, NOTE, RECEIVED, SENT
from violation import BOOKMARKABLE, EPOCH_SAFE, HONEST, ORDERED, RELIABLE, UNIQUE, Violation

(HELLO, PUBLISH, ALIAS, REQUEST, PUBLISH_WITH, ACK, REFUSED, REPLY, BEGIN, ENTRIES, UPDATES, GAP, CONFLATED, RESET,
 IDLE) = (0, 9, 8, 12, 13, 16, 17, 20, 21, 22, 24, 25, 26, 27, 28)

EARLY_MS_MAX = 1  # of a time to live: clocks that count whole milliseconds
HANDLED = (SENT, RECEIVED)
SEQ_MAX = 1 << 24  # no recording has more records of one topic: beyond, a seq is a lie


class Unknown:
    """A record that nobody has told of yet."""

    def __repr__(self):
        return "(unknown)"


UNKNOWN = Unknown()


def identity(key, value):
    return msgpack.packb((key, value), use_bin_type=True)


class Line:
    """The records of one epoch of a topic: items[2 * (seq - 1)] is a key, the next one its value."""

    def __init__(self):
        self.items = []
        self.is_acked = bytearray()
        self.published = {}  # seq: Published, of records with an end
        self.removed_at = {}  # seq of a deletion: when it was first seen
        self.claims = {}    # promise: the highest seq that a frame named which shows no record of it

    def claimed(self, seq, promise, where):
        self.reach(seq, where)
        self.claims[promise] = max(seq, self.claims.get(promise, 0))

    def last(self):
        return len(self.items) // 2

    def reach(self, seq, where):
        """Makes room for records up to seq."""
        if not 0 <= seq <= SEQ_MAX:
            raise Violation(ORDERED, f"no topic has come to {seq}", where)
        missing = seq - self.last()
        if missing > 0:
            self.items += [UNKNOWN, UNKNOWN] * missing
            self.is_acked += bytes(missing)

    def seen(self, seq, items, where, now=0):
        """Somebody was told that these records are seq, seq + 1, ..."""
        start, end = 2 * (seq - 1), 2 * (seq - 1) + len(items)
        if seq < 1:
            raise Violation(ORDERED, f"an update with seq {seq}", where)
        if self.items[start:end] == items:
            return
        self.reach(end // 2, where)
        for index in range(0, len(items), 2):
            known = self.items[start + index:start + index + 2]
            if known[1] is UNKNOWN:
                if items[index + 1] is None:
                    self.removed_at[seq + index // 2] = now
                self.items[start + index:start + index + 2] = items[index:index + 2]
            elif known != items[index:index + 2]:
                raise Violation(ORDERED, f"{items[index:index + 2]} as {seq + index // 2}, others know {known}",
                                where)

    def acked(self, seq, key, value, where):
        self.seen(seq, [key, value], where)
        if self.is_acked[seq - 1]:
            raise Violation(UNIQUE, f"{seq} was acknowledged twice, now as {(key, value)}", where)
        self.is_acked[seq - 1] = 1


class TopicTruth:
    """One topic through all its epochs."""

    def __init__(self, name):
        self.name = name
        self.kind = None
        self.log_count_max = 0
        self.lines = {}           # epoch: Line
        self.epochs = []          # in the order in which they were heard of
        self.is_over = {}         # epoch: it was known to be over when row number so and so was read
        self.newest = (None, 0)   # acknowledged so far
        self.unanswered = Counter()  # identity: how often it was published with no answer
        self.sent_again = Counter()  # identity: how often a publisher that has a name sent it once more
        self.vanishing = set()    # keys that the broker may remove by itself
        self.by_identity = {}     # what was published: Published; None: more than once
        self.conditions = []      # (epoch, seq, key, if_seq) that were acknowledged

    def line(self, epoch):
        line = self.lines.get(epoch)
        if line is None:
            line = self.lines[epoch] = Line()
            self.epochs.append(epoch)
        return line

    def end_epochs(self, count, epoch, row):
        """The first `count` epochs were known before a record was published that is in this one: they are over."""
        for old in self.epochs[:count]:
            if old != epoch:
                self.is_over.setdefault(old, row)


class Published:
    """One record on its way."""

    __slots__ = ("topic", "key", "value", "row", "after", "epochs", "options", "answer", "time", "client", "number",
                 "is_again")

    def __init__(self, topic, key, value, options, row):
        self.topic, self.key, self.value, self.options, self.row = topic, key, value, options, row
        self.after = topic.newest          # acknowledged before it was sent
        self.epochs = len(topic.epochs)
        self.answer = None
        self.time = self.client = None   # when it was sent first, and by whom
        self.number = None
        self.is_again = False            # it was sent again after a loss


class Client:
    """A connection as a publisher."""

    def __init__(self):
        self.aliases = {}
        self.pending = {}    # number: Published
        self.accepted = {}   # the same, in a mailbox: to be folded, or refused after all
        self.requests = {}   # id: Published
        self.feeds = {}      # feed: (topic, epoch)
        self.last = {}       # topic: (number, epoch, seq) acknowledged last
        self.name = None     # publisher identity, over many connections
        self.lost_at = None


class Truth:
    """Built row by row; finish() holds everything against everything."""

    def __init__(self):
        self.topics = {}
        self.clients = {}
        self.named = {}          # publisher identity: {number: Published}
        self.has_strangers = False
        self.now = 0             # time of the row at hand
        self.counts = Counter()

    def topic(self, name):
        topic = self.topics.get(name)
        if topic is None:
            topic = self.topics[name] = TopicTruth(name)
        return topic

    def take(self, number, row):
        self.now, connection, what, frame = row
        if what == NOTE:
            self.take_note(number, frame)
            return
        client = self.clients.get(connection)
        if client is None:
            client = self.clients[connection] = Client()
        self.counts["frames"] += 1
        if what == LOST:
            client.lost_at = self.now
            self.lost(client)
        elif what in HANDLED:
            handler = self.sent.get(frame[0]) if what == SENT else self.received.get(frame[0])
            if handler:
                handler(self, client, frame, number)

    def take_note(self, number, note):
        if note[0] == "topic":
            topic = self.topic(note[1])
            topic.kind, topic.log_count_max = note[2]["kind"], note[2].get("log_count_max", 0)
        elif note[0] == "strangers":
            self.has_strangers = True
        elif note[0] == "restart":
            for topic in self.topics.values():
                topic.end_epochs(len(topic.epochs), None, number)
        elif note[0] == "rest":
            for name, (epoch, seq) in note[1].items():
                self.topic(name).line(epoch).reach(seq, note)

    # ------------------------------------------------------------------ publishers

    def on_hello(self, client, frame, _):
        name = frame[2].get("publisher")
        if name:
            client.name = name
            client.pending = self.named.setdefault(name, {})

    def on_alias(self, client, frame, _):
        client.aliases[frame[1]] = frame[2]

    def on_publish(self, client, frame, row):
        self.publish(client, frame[1], frame[2], frame[4], {}, row)

    def on_publish_with(self, client, frame, row):
        self.publish(client, frame[1], frame[2], frame[5], frame[4], row)

    def publish(self, client, name, number, items, options, row):
        topic = self.topic(client.aliases.get(name, f"?{name}") if isinstance(name, int) else name)
        pending = client.pending
        for index in range(0, len(items), 2):
            if client.name and number + index // 2 in pending:
                topic.sent_again[identity(items[index], items[index + 1])] += 1
                pending[number + index // 2].is_again = True
                continue
            at = number + index // 2
            pending[at] = self.note_published(client, at, topic, items[index:index + 2], options, row)

    def note_published(self, client, number, topic, item, options, row):
        key, value = item
        if options.get("ttl_ms") or options.get("bind"):
            topic.vanishing.add(key if topic.kind != "last" else None)
        record = Published(topic, key, value, options, row)
        record.time, record.client, record.number = self.now, client, number
        name = identity(key, value)
        topic.by_identity[name] = None if name in topic.by_identity else record
        self.counts["published"] += 1
        return record

    def on_request(self, client, frame, row):
        _, number, verb, arguments = frame
        if verb != "publish":
            return
        is_single = "topic" in arguments
        records = [(arguments["topic"], arguments["value"], arguments.get("key"))] if is_single else \
            [(*record, None)[:3] for record in arguments["records"]]
        client.requests[number] = [
            self.note_published(client, number + index / len(records), self.topic(topic), (key, value), arguments, row)
            for index, (topic, value, key) in enumerate(records)]

    def on_reply(self, client, frame, row):
        _, number, status, result = frame
        records = client.requests.pop(number, ())
        self.counts["answered"] += len(records)
        if len(records) == 1 and status == "ok" and result.get("epoch"):
            self.acked(client, records[0], number, result["epoch"], result["seq"], row, frame)
        elif len(records) > 1 or status == "ok" or result.get("code") == "closed":
            for record in records:  # of several, some may be folded
                self.leave_unanswered(record)

    def on_ack(self, client, frame, row):
        _, first, count, epoch, seq = frame
        self.counts["answered"] += count
        for number in range(first, first + count):
            record = client.pending.get(number) if client.name else client.pending.pop(number, None)
            if record is None:
                raise Violation(UNIQUE, f"record {number} was answered before, or never published", frame)
            if bool(epoch) != bool(seq):
                raise Violation(ORDERED, "a seq without epoch, or none in one", frame)
            if epoch:
                self.acked(client, record, number, epoch, seq + number - first, row, frame)
            elif not client.name:
                client.accepted[number] = record

    def acked(self, client, record, number, epoch, seq, row, frame):
        topic = record.topic
        if topic.name.startswith("$"):
            raise Violation(UNIQUE, f"{topic.name} is the broker's, and folds what a client published", frame)
        if record.answer is not None and record.answer[0] == epoch:
            if record.answer[1] != seq:
                raise Violation(UNIQUE, f"folded as {record.answer} and again as {(epoch, seq)}", frame)
            return
        record.answer = (epoch, seq)
        topic.end_epochs(record.epochs, epoch, row)
        if topic.is_over.get(epoch, record.row) < record.row:
            raise Violation(EPOCH_SAFE, f"folded in epoch {epoch}, which was over", frame)
        if record.after[0] == epoch and seq <= record.after[1]:
            raise Violation(ORDERED, f"published after {record.after[1]} was acknowledged, folded before it", frame)
        last = client.last.get(topic)
        if not record.is_again and last is not None and last[1] == epoch and last[0] < number and seq <= last[2]:
            raise Violation(ORDERED, f"record {number} is before {last[0]} of the same publisher: {seq}, {last[2]}",
                            frame)
        if not record.is_again:
            client.last[topic] = (number, epoch, seq)
        topic.line(epoch).acked(seq, record.key, record.value, frame)
        if record.options.get("ttl_ms") or record.options.get("bind"):
            topic.line(epoch).published[seq] = record
        if topic.newest[0] != epoch or topic.newest[1] < seq:
            topic.newest = (epoch, seq)
        if "if_seq" in record.options or record.options.get("if_absent"):
            topic.conditions.append((epoch, seq, record.key, record.options.get("if_seq", 0)))

    def on_refused(self, client, frame, _):
        _, first, count, *_ = frame
        self.counts["answered"] += count
        for number in range(first, first + count):
            record = client.pending.pop(number, None)
            if record is None:
                record = client.accepted.pop(number, None)
                if record is not None and frame[3] == "busy" and frame[5].get("cause") != "memory":
                    raise Violation(UNIQUE, f"record {number} was accepted, and is refused for want of room", frame)
            if record is None or record.answer is not None and not record.is_again:
                raise Violation(UNIQUE, f"record {number} was answered before, or never published", frame)
            if record.is_again:
                self.leave_unanswered(record)  # that it is refused now says nothing of what came of it in another epoch
            if frame[3] == "conflict" and frame[5].get("cause") == "number":
                raise Violation(UNIQUE, f"record {number} is taken for another", frame)
            if frame[3] == "outdated":
                self.leave_unanswered(record)

    def leave_unanswered(self, record):
        record.topic.unanswered[identity(record.key, record.value)] += 1

    def lost(self, client):
        """What was not answered may be folded or not, but not twice."""
        if not client.name:
            for record in client.pending.values():
                self.leave_unanswered(record)
            client.pending = {}
        for record in (*client.accepted.values(), *(record for some in client.requests.values() for record in some)):
            self.leave_unanswered(record)
        client.accepted, client.requests = {}, {}

    # ------------------------------------------------------------------ subscribers

    def on_begin(self, client, frame, _):
        _, _, feed, name, kind, epoch, seq, options = frame
        topic = self.topic(name)
        topic.kind = topic.kind or kind
        client.feeds[feed] = (topic, epoch)
        self.counts["frames of feeds"] += 1
        if not options.get("resumed"):
            topic.line(epoch).reach(seq, frame)

    def on_reset(self, client, frame, _):
        if frame[1] in client.feeds:
            topic, _ = client.feeds[frame[1]]
            topic.line(frame[2])

    def on_updates(self, client, frame, _):
        _, feed, seq, items = frame
        self.counts["updates"] += len(items) // 2
        if feed in client.feeds:
            topic, epoch = client.feeds[feed]
            topic.line(epoch).seen(seq, items, frame, self.now)

    def on_range(self, client, frame, _):
        if frame[1] in client.feeds:
            topic, epoch = client.feeds[frame[1]]
            topic.line(epoch).claimed(frame[3], HONEST, frame)

    def on_idle(self, client, frame, _):
        if frame[1] in client.feeds:
            topic, epoch = client.feeds[frame[1]]
            topic.line(epoch).claimed(frame[2], BOOKMARKABLE, frame)

    def on_entries(self, _client, frame, _):
        self.counts["entries"] += len(frame[2]) // 2

    sent = {HELLO: on_hello, ALIAS: on_alias, PUBLISH: on_publish, PUBLISH_WITH: on_publish_with, REQUEST: on_request}
    received = {ACK: on_ack, REFUSED: on_refused, REPLY: on_reply, BEGIN: on_begin, RESET: on_reset,
                UPDATES: on_updates, ENTRIES: on_entries, GAP: on_range, CONFLATED: on_range, IDLE: on_idle}

    # ------------------------------------------------------------------ the end

    def finish(self):
        for client in self.clients.values():
            self.lost(client)
        for pending in self.named.values():
            for record in pending.values():
                if record.answer is None:
                    self.leave_unanswered(record)
        if not self.has_strangers:
            for topic in self.topics.values():
                if not topic.name.startswith("$"):
                    self.account(topic)

    def account(self, topic):
        """Everything in the lines was published, and no more often than that; every seq is somebody's."""
        left, holes, last_hole = topic.unanswered + topic.sent_again, 0, None
        for epoch, line in topic.lines.items():
            index = line.is_acked.find(0)
            while index >= 0:
                key, value = line.items[2 * index:2 * index + 2]
                if value is UNKNOWN:
                    holes, last_hole = holes + 1, (line, index + 1)
                elif value is None and key in topic.vanishing and not self.removal_fault(topic, line, index + 1):
                    pass  # deletions have no value of their own: what may be the broker's takes nobody's answer
                elif left[name := identity(key, value)]:
                    left[name] -= 1
                    if name in topic.sent_again and value is not None and twice(line.items, key, value):
                        raise Violation(UNIQUE, f"{topic.name} has {short_record(key, value)} twice in {epoch}")
                elif value is None and key in topic.vanishing:
                    raise Violation(UNIQUE, self.removal_fault(topic, line, index + 1))
                else:
                    raise Violation(UNIQUE, f"{topic.name} has {short_record(key, value)} as {(epoch, index + 1)}: "
                                            "more often than it was published, or though it was refused")
                index = line.is_acked.find(0, index + 1)
        if holes > left.total() and not topic.vanishing:
            line, seq = last_hole
            liar = next((promise for promise, claimed in line.claims.items() if claimed == seq == line.last()),
                        RELIABLE)
            raise Violation(liar, f"{holes} seqs of {topic.name}, {seq} for one, are nobody's record, "
                                  f"{left.total()} records have no answer")
        for line in topic.lines.values():
            self.check_order(topic, line)

    @staticmethod
    def check_order(topic, line):
        """What one connection published is in the order in which it was sent, answered or not."""
        newest = {}
        for index in range(0, len(line.items), 2):
            key, value = line.items[index:index + 2]
            record = topic.by_identity.get(identity(key, value)) if value is not None and value is not UNKNOWN else None
            if record is None or record.is_again:
                continue
            before = newest.get(record.client, record)
            if before.number > record.number:
                raise Violation(ORDERED, f"{topic.name} has {short_record(key, value)} as {index // 2 + 1}, behind "
                                         f"{short_record(before.key, before.value)}, which was sent after it")
            newest[record.client] = record

    @staticmethod
    def removal_fault(topic, line, seq):
        """What speaks against a removal by the broker: it had no end, or this is before it. Else None."""
        key = line.items[2 * seq - 2]
        before = next((at for at in range(seq - 1, 0, -1) if topic.kind == "last" or line.items[2 * at - 2] == key or
                       line.items[2 * at - 1] is UNKNOWN), 0)
        if before and not line.is_acked[before - 1]:
            return None  # who published it, and with what end, is not known
        record, seen = line.published.get(before), line.removed_at.get(seq)
        if record is None:
            return f"{topic.name} lost {key} as {seq}, and record {before} had no end"
        if seen is None or record.time is None:
            return None
        ttl_ms, ended = record.options.get("ttl_ms"), record.client.lost_at
        is_due = ttl_ms and seen - record.time >= 1000 * (ttl_ms - EARLY_MS_MAX)
        if not is_due and not (record.options.get("bind") and ended is not None and ended <= seen):
            return f"{topic.name} lost {key} as {seq} {(seen - record.time) // 1000} ms after it was published, with " \
                   f"{record.options}"
        return None


def twice(items, key, value):
    """Whether a record whose value is its own is in a line more than once."""
    return sum(items[index] == key and items[index + 1] == value for index in range(0, len(items), 2)) > 1


def short_record(key, value):
    return f"{key!r}: {str(value)[:100]}"
