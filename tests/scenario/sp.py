"""An independent reading of the wire: the scalability protocols over raw sockets, and Weir's bodies in them.

Written from clients/PROTOCOL.md, sharing no code with the broker, so that both must agree with the text.
Every wait has a deadline; what is late raises TimeoutError.
"""

import itertools
import os
import socket
import struct
import time

import msgpack

PAIR0, PUB0, SUB0, REQ0, REP0, PUSH0, PULL0 = 0x10, 0x20, 0x21, 0x30, 0x31, 0x50, 0x51
ANSWERS = {PAIR0: PAIR0, SUB0: PUB0, REQ0: REP0, PUSH0: PULL0}

# Sanitizer builds are several times slower; the runner says so.
PATIENCE = float(os.environ.get("WEIR_PATIENCE", "1"))
WAIT = 20.0 * PATIENCE


def pack(value):
    return msgpack.packb(value, use_bin_type=True)


def unpack(body):
    return msgpack.unpackb(body, raw=False, strict_map_key=False)


def sp_header(protocol):
    return b"\0SP\0" + struct.pack(">HH", protocol, 0)


def open_socket(url, timeout=WAIT):
    """A connected stream socket for tcp://HOST:PORT or ipc:///PATH."""
    scheme, _, address = url.partition("://")
    if scheme == "tcp":
        host, _, port = address.rpartition(":")
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout)
    connection.connect(address)
    return connection


class Closed(Exception):
    """The broker ended the connection."""


class Peer:
    """One connection as an nng socket of the given protocol would make it; messages in and out."""

    def __init__(self, url, protocol, handshake=True):
        self.is_ipc = url.startswith("ipc://")
        self.protocol = protocol
        self.socket = open_socket(url)
        self.received = bytearray()
        if handshake:
            self.send_bytes(sp_header(protocol))
            answer = self.read(8)
            assert answer == sp_header(ANSWERS[protocol]), f"answered {answer.hex()} to protocol {protocol:#x}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def close_hard(self):
        """Ends a tcp connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def prefix(self, size):
        return (b"\x01" if self.is_ipc else b"") + struct.pack(">Q", size)

    def send(self, body, timeout=WAIT):
        """One message; TimeoutError when the broker does not take it in time (part of it may be sent)."""
        self.send_bytes(self.prefix(len(body)) + body, timeout)

    def send_bytes(self, data, timeout=WAIT):
        self.socket.settimeout(timeout)
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed(str(error)) from error

    def read(self, size, timeout=WAIT):
        """Exactly size bytes; what arrived of them stays for the next call when the time runs out."""
        deadline = time.monotonic() + timeout
        while len(self.received) < size:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self.socket.recv(1 << 18)
            except ConnectionResetError as error:
                raise Closed(str(error)) from error
            if not data:
                raise Closed(f"end of stream, {len(self.received)} of {size} bytes there")
            self.received += data
        taken = bytes(self.received[:size])
        del self.received[:size]
        return taken

    def receive(self, timeout=WAIT):
        """The next message's body; nothing of it is consumed when the time runs out."""
        deadline = time.monotonic() + timeout
        head = self.read(len(self.prefix(0)), timeout)
        if self.is_ipc:
            assert head[0] == 1, f"ipc message of type {head[0]}"
        size, = struct.unpack(">Q", head[-8:])
        try:
            return self.read(size, max(0.001, deadline - time.monotonic()))
        except TimeoutError:
            self.received[:0] = head
            raise

    def wait_closed(self, timeout=WAIT):
        """Reads on until the broker closes; TimeoutError when it does not."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.read(len(self.received) + 1, max(0.001, deadline - time.monotonic()))
            except Closed:
                return


class Push(Peer):
    """Publishes, fire and forget."""

    def __init__(self, url):
        super().__init__(url, PUSH0)

    def publish(self, *records, timeout=WAIT):
        """Records (topic, value) or (topic, value, key), all in one message."""
        self.send(b"".join(pack(list(record)) for record in records), timeout)


class Refused(Exception):
    """The broker answered ["error", {...}]."""

    def __init__(self, details):
        super().__init__(f"{details.get('code')}: {details.get('message')}")
        self.code = details.get("code")
        self.details = details


class Request(Peer):
    """Asks and is answered; also speaks to the admin socket."""

    identifiers = itertools.count(1)

    def __init__(self, url):
        super().__init__(url, REQ0)

    def send_request(self, verb, arguments):
        identifier = struct.pack(">I", 0x80000000 | next(self.identifiers))
        self.send(identifier + pack([verb, arguments]))
        return identifier

    def receive_reply(self, timeout=WAIT):
        """(identifier, result); Refused for an error."""
        body = self.receive(timeout)
        status, result = unpack(body[4:])
        if status == "error":
            raise Refused(result)
        assert status == "ok", status
        return body[:4], result

    def ask(self, verb, timeout=WAIT, **arguments):
        identifier = self.send_request(verb, arguments)
        answered, result = self.receive_reply(timeout)
        assert answered == identifier, "the reply carries another request's id"
        return result

    def publish(self, topic, value, key=None, **arguments):
        if key is not None:
            arguments["key"] = key
        return self.ask("publish", topic=topic, value=value, **arguments)


class Feed(Peer):
    """The best-effort live feed that a SUB socket gets; filters as nng's sub0 does, at the receiver."""

    def __init__(self, url, prefix=""):
        super().__init__(url, SUB0)
        self.prefix_wanted = prefix.encode()

    def next(self, timeout=WAIT):
        """(topic, seq, key, value) of the next message whose topic starts with the prefix."""
        deadline = time.monotonic() + timeout
        while True:
            body = self.receive(max(0.001, deadline - time.monotonic()))
            topic, _, rest = body.partition(b"\0")
            if topic.startswith(self.prefix_wanted):
                return (topic.decode(), *unpack(rest))
