"""One connection of the driver: a session over a raw socket that never blocks, with everything it sends and receives in
the recording. It reads when it is told to, so that it can stall, and keeps no more than it needs to come back: a cursor
for each topic and what stands.
"""

import errno
import socket
import struct

import msgpack

from recording import CONNECTED, LOST, RECEIVED, SENT

(HELLO, PING, PONG, CREDIT, CLOSE) = range(5)
(ALIAS, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, REQUEST, PUBLISH_WITH) = range(8, 14)
(ACK, REFUSED, SUBSCRIBED, UNSUBSCRIBED, REPLY, BEGIN, ENTRIES, END, UPDATES, GAP, CONFLATED, RESET, IDLE, STALE, LIVE,
 ENDED) = range(16, 32)
DATA = (ENTRIES, UPDATES)

SP_HEADER = b"\0SP\0\0\x10\0\0"
HEAD_SIZE = {"tcp": 8, "ipc": 9}
READ_SIZE = 1 << 16


class Feed:
    """Where a feed stands."""

    def __init__(self, sub, topic):
        self.sub, self.topic = sub, topic
        self.epoch = self.seq = self.filter = None
        self.is_following = self.is_stale = self.is_over = False


class Client:
    """Connects at once."""

    HEADER = ANSWER = SP_HEADER

    def __init__(self, number, url, recorder, window, options=None):
        self.number, self.recorder, self.window = number, recorder, window
        self.scheme = url.partition("://")[0]
        self.socket = connect(url)
        self.out, self.received = bytearray(self.HEADER), bytearray()
        self.has_header = self.is_lost = self.is_stalled = False
        self.waiting = []                  # PUBLISH frames without credit: (body, numbers to be answered)
        self.options = options or {}
        self.on_way = {}                   # first number: (numbers, body), of frames that have records without answer
        self.allowed = self.sent = 0       # credit to publish
        self.granted = self.taken = 0      # credit of the broker
        self.next_number = 1
        self.unanswered = set()            # numbers of records that were sent and want an answer
        self.subscriptions = {}            # sub: (pattern, options)
        self.standing = {}                 # subs that were answered: topics that matched
        self.not_offered = set()           # policies that the broker does not know
        self.feeds = {}
        self.cursors = {}                  # filter: {topic: (epoch, seq)}
        self.replies = {}
        self.offers = {}                   # the broker's HELLO
        self.next_request = 1
        self.heard = 0                     # frames, but for PING and those of the broker's own topics, which never end
        recorder.add(number, CONNECTED, {"url": url})
        self.open()

    def open(self):
        self.granted = self.window
        self.send_frame(HELLO, 1, {"client": f"history-{self.number}", "credit": self.window, "message_max": 1 << 26,
                                   **self.options})

    def fileno(self):
        return self.socket.fileno()

    # ------------------------------------------------------------------ out

    def send_frame(self, *frame):
        self.send_body(msgpack.packb(frame, use_bin_type=True))

    def send_body(self, body):
        if self.is_lost:
            return
        self.recorder.add_body(self.number, SENT, body)
        self.send_message(body)

    def send_message(self, body):
        self.out += (b"\x01" if self.scheme == "ipc" else b"") + struct.pack(">Q", len(body)) + body

    def publish(self, topic, items, ack=2, options=None):
        """Waits for credit where there is none."""
        first, count = self.next_number, len(items) // 2
        self.next_number += count
        frame = (PUBLISH, topic, first, ack, items) if options is None else \
            (PUBLISH_WITH, topic, first, ack, options, items)
        self.publish_body(msgpack.packb(frame, use_bin_type=True), range(first, first + count if ack else first))

    def publish_body(self, body, numbers):
        self.waiting.append((body, numbers))
        if "publisher" in self.options and numbers:
            self.on_way[numbers[0]] = numbers, body
        self.push()

    def take_over(self, former):
        """Goes on as the same publisher on a new connection: what was not answered is sent again, as it was."""
        self.next_number = former.next_number
        for numbers, body in former.on_way.values():
            self.publish_body(body, numbers)

    def push(self):
        """Hands on what there is credit for, and what the socket takes."""
        while self.waiting and self.sent < self.allowed:
            body, numbers = self.waiting.pop(0)
            self.sent += len(body)
            self.unanswered.update(numbers)
            self.send_body(body)
        if not self.out or self.is_lost:
            return
        try:
            del self.out[:self.socket.send(self.out)]
        except BlockingIOError:
            pass
        except OSError as error:
            self.lose(errno.errorcode.get(error.errno, str(error)))

    def subscribe(self, sub, pattern, options):
        self.subscriptions[sub] = pattern, options
        self.send_frame(SUBSCRIBE, sub, pattern, options)

    def unsubscribe(self, sub):
        self.subscriptions.pop(sub, None)
        self.send_frame(UNSUBSCRIBE, sub)

    def request(self, verb, arguments):
        number = self.next_request
        self.next_request += 1
        self.send_frame(REQUEST, number, verb, arguments)
        return number

    def grant(self):
        if self.granted - self.taken < self.window // 2:
            self.granted = self.taken + self.window
            self.send_frame(CREDIT, self.granted)

    # ------------------------------------------------------------------ in

    def pull(self, size=READ_SIZE):
        """Reads what has come and deals with each whole frame."""
        try:
            data = self.socket.recv(size)
        except BlockingIOError:
            return
        except OSError as error:
            self.lose(errno.errorcode.get(error.errno, str(error)))
            return
        if not data:
            self.lose("end of stream")
            return
        self.received += data
        if not self.has_header and len(self.received) >= 8:
            assert self.received[:8] == self.ANSWER, bytes(self.received[:8])
            del self.received[:8]
            self.has_header = True
        at, head = 0, HEAD_SIZE[self.scheme]
        while self.has_header and len(self.received) - at >= head:
            size = int.from_bytes(self.received[at + head - 8:at + head], "big")
            if len(self.received) - at - head < size:
                break
            self.take(bytes(self.received[at + head:at + head + size]))
            at += head + size
        del self.received[:at]
        if not self.is_lost:
            self.grant()

    def take(self, body):
        if self.is_lost:
            return
        self.recorder.add_body(self.number, RECEIVED, body)
        frame = msgpack.unpackb(body, raw=False, strict_map_key=False)
        op = frame[0]
        if op in DATA:
            assert self.taken < self.granted, f"{frame[:3]} started after {self.taken} bytes, granted {self.granted}"
            self.taken += len(body)
        if BEGIN <= op <= ENDED:
            self.take_feed(op, frame)
            self.heard -= self.feeds[frame[2 if op == BEGIN else 1]].topic.startswith("$")
        elif op == HELLO:
            self.offers, self.allowed = frame[2], frame[2].get("credit", 0)
        elif op == CREDIT:
            self.allowed = frame[1]
        elif op == PING:
            self.send_frame(PONG, frame[1])
            return
        elif op in (ACK, REFUSED):
            self.unanswered.difference_update(range(frame[1], frame[1] + frame[2]))
            for first in [first for first in self.on_way if first < frame[1] + frame[2]]:
                if not self.is_waited_for(first):
                    del self.on_way[first]
        elif op == REPLY:
            self.replies[frame[1]] = frame[2], frame[3]
        elif op == SUBSCRIBED:
            self.standing[frame[1]] = frame[2]
        elif op == UNSUBSCRIBED:
            _, options = self.subscriptions.pop(frame[1], (None, {}))
            if frame[2] == "bad-request":
                self.not_offered.add(options.get("policy"))
            self.standing.pop(frame[1], None)
            for feed in self.feeds.values():
                feed.is_over = feed.is_over or feed.sub == frame[1]
        self.heard += 1

    def take_feed(self, op, frame):
        if op == BEGIN:
            feed = self.feeds[frame[2]] = Feed(frame[1], frame[3])
            feed.filter = filter_of(self.subscriptions.get(frame[1], (None, {}))[1])
            return
        feed = self.feeds[frame[1]]
        cursors = self.cursors.setdefault(feed.filter, {})
        if op == END:
            feed.epoch, feed.seq, feed.is_following = frame[2], frame[3], True
        elif op == UPDATES:
            feed.seq = frame[2] + len(frame[3]) // 2 - 1
        elif op in (GAP, CONFLATED):
            feed.seq = frame[3]
        elif op == IDLE:
            feed.seq = frame[2]
        elif op == RESET:
            feed.is_following = False
            cursors.pop(feed.topic, None)
        elif op in (STALE, LIVE):
            feed.is_stale = op == STALE
        elif op == ENDED:
            feed.is_over = True
        if feed.is_following:
            cursors[feed.topic] = feed.epoch, feed.seq

    def is_waited_for(self, first):
        """Whether the frame with this first number has records without answer, or was not sent yet."""
        numbers, body = self.on_way[first]
        return not self.unanswered.isdisjoint(numbers) or any(body is waiting for waiting, _ in self.waiting)

    # ------------------------------------------------------------------ the end

    def lose(self, why):
        if not self.is_lost:
            self.is_lost = True
            self.recorder.add(self.number, LOST, why)
            self.socket.close()

    def cut(self, random, half=None):
        """Ends the connection, at times with a part of a frame on the wire and with RST instead of FIN."""
        if half:
            frame = struct.pack(">Q", len(half)) + half
            self.out += (b"\x01" if self.scheme == "ipc" else b"") + frame[:random.randrange(1, len(frame))]
        self.push()
        if not self.is_lost and random.random() < 0.5 and self.scheme == "tcp":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.lose("cut by its client")


def filter_of(options):
    """A cursor counts only for those keys that it was kept for."""
    return options.get("key"), options.get("prefix")


def connect(url):
    scheme, _, address = url.partition("://")
    if scheme == "ipc":
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(address)
    else:
        host, _, port = address.rpartition(":")
        connection = socket.create_connection((host, int(port)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)
    return connection
