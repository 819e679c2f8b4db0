"""What any socket of nng can do, as connections of the driver: PUSH and REQ publishers over raw sockets that never
block. The recording has them in the words of a session (clients/PROTOCOL.md, section 6), so that the checker need not
know how a record came: what is pushed as PUBLISH with ack 0, a request as REQUEST, its reply as REPLY.
"""

import struct

import msgpack

from client import PUBLISH, REPLY, REQUEST, Client
from recording import RECEIVED, SENT

OUT_MAX = 1 << 16          # bytes that wait for the socket before nothing more is published
REQUESTS_MAX = 60          # under way at once: a broker reads no further at 64
ID_BIT = 0x80000000
ACK_NAMES = ("none", "accepted", "folded")


def pack(value):
    return msgpack.packb(value, use_bin_type=True)


class Push(Client):
    """Fire and forget: nothing ever comes back."""

    HEADER, ANSWER = b"\0SP\0\0\x50\0\0", b"\0SP\0\0\x51\0\0"

    def open(self):
        pass

    def grant(self):
        pass

    def publish(self, topic, items, ack=0, options=None):
        """All in one message. There are no options."""
        first, self.next_number = self.next_number, self.next_number + len(items) // 2
        self.recorder.add(self.number, SENT, (PUBLISH, topic, first, 0, items))
        pairs = zip(items[::2], items[1::2])
        self.send_message(b"".join(pack([topic, value] if key is None else [topic, value, key])
                                   for key, value in pairs))
        self.push()

    def push(self):
        super().push()
        self.waiting = [None] * 4 if len(self.out) > OUT_MAX else []

    def take(self, body):
        raise AssertionError(f"a PUSH socket was sent {body[:100]}")


class Req(Client):
    """Requests with answers, many at once, as from a raw REQ socket with contexts."""

    HEADER, ANSWER = b"\0SP\0\0\x30\0\0", b"\0SP\0\0\x31\0\0"

    def __init__(self, *arguments):
        self.asked = []       # requests that wait for others to be answered
        super().__init__(*arguments)

    def open(self):
        pass

    def grant(self):
        pass

    def publish(self, topic, items, ack=2, options=None):
        """One record with its options, or several, which have none."""
        pairs = list(zip(items[::2], items[1::2]))
        arguments = {"ack": ack if self.next_number % 2 else ACK_NAMES[ack]}
        if len(pairs) > 1:
            arguments["records"] = [[topic, value] if key is None else [topic, value, key] for key, value in pairs]
        else:
            key, value = pairs[0]
            arguments.update(topic=topic, value=value, **(options or {}), **({} if key is None else {"key": key}))
        self.next_number += len(pairs)
        self.request("publish", arguments)

    def request(self, verb, arguments):
        number, self.next_request = self.next_request, self.next_request + 1
        self.asked.append((number, verb, arguments))
        self.push()
        return number

    def push(self):
        while self.asked and len(self.unanswered) < REQUESTS_MAX and not self.is_lost:
            number, verb, arguments = self.asked.pop(0)
            self.unanswered.add(number)
            self.recorder.add(self.number, SENT, (REQUEST, number, verb, arguments))
            self.send_message(struct.pack(">I", ID_BIT | number) + pack([verb, arguments]))
        super().push()
        self.waiting = list(self.asked)

    def take(self, body):
        number = int.from_bytes(body[:4], "big") & ~ID_BIT
        status, result = msgpack.unpackb(body[4:], raw=False, strict_map_key=False)
        self.recorder.add(self.number, RECEIVED, (REPLY, number, status, result))
        self.unanswered.discard(number)
        self.replies[number] = status, result
