"""Bounds and bad inputs: who goes beyond is told where its protocol can, cut, counted and logged; nobody else notices.

Each input is sent over tcp and over ipc, while a follower and a publisher go on undisturbed.
"""

import contextlib
import json
import random
import signal
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from harness import WAIT, Broker, Closed, Op, Peer, Refused, Request, Session, sanitized, wait_until
from ledger import History, check_follower
from sp import PAIR0, PUSH0, REQ0, SUB0, open_socket, pack, sp_header

# Who says hello does so in time on any machine; where that time is to run out it is short, for a machine that is fast.
CALM = "connections:\n  handshake_ms: 60000\n  log_interval_ms: 0\n"
QUICK = "connections:\n  handshake_ms: 1000\n  log_interval_ms: 0\n"


def handshaken(connect):
    """Connects until a handshake was in time, which one is not where the machine stood still meanwhile."""
    made = []

    def is_made():
        with contextlib.suppress(Closed, ConnectionError):
            made.append(connect())
        return made

    return wait_until(is_made, what="a handshake in time")[0]


@contextlib.contextmanager
def undisturbed(config=CALM, topics=()):
    """A broker with a bystander: what it publishes while the block runs is all acknowledged and all delivered."""
    with Broker(config=config, topics=topics) as broker, \
            (handshaken(broker.request) if config == QUICK else broker.request()) as request, \
            broker.follow("bystander") as follower:
        history, stopping, errors = History(), threading.Event(), []

        def publish():
            number = 0
            try:
                while not stopping.is_set():
                    result = request.publish("bystander", number, ack="folded")
                    history.published("bystander", None, number, result["epoch"], result["seq"])
                    number += 1
                    stopping.wait(0.002)
            except Exception as error:  # handed to the main thread
                errors.append(error)

        thread = threading.Thread(target=publish, daemon=True)
        thread.start()
        try:
            yield broker
        finally:
            stopping.set()
            thread.join(WAIT)
        assert not errors, errors
        check_follower(broker, history, follower, ["bystander"])


def refusals(broker):
    return broker.ask_admin("status")["refusals"]


def urls(broker):
    return broker.tcp, broker.ipc


def raw(url, data, wait=True):
    """Sends bytes on a fresh connection; returns once the broker has closed it."""
    with open_socket(url) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
        if wait:
            connection.settimeout(WAIT)
            with contextlib.suppress(ConnectionError):
                while connection.recv(65536):
                    pass


@sanitized
def test_connections_that_end_at_once_do_not_stop_the_listener():
    with undisturbed() as broker:
        for url in urls(broker):
            for count in range(50):
                connection = open_socket(url)
                if count % 2 and url.startswith("tcp"):
                    connection.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: RST
                connection.close()
            Peer(url, PUSH0).close_hard() if url.startswith("tcp") else Peer(url, PUSH0).close()
            with Request(url) as request:
                request.publish("a", 1)


@sanitized
def test_what_is_no_sp_header_is_closed_and_counted():
    headers = {"http": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "tls": bytes.fromhex("160301020001") + b"\x03\x03" * 20,
               "magic": b"\0SQ\0\0\x10\0\0", "version": b"\0SP\1\0\x10\0\0", "reserved": b"\0SP\0\0\x10\0\1",
               "zeroes": bytes(8), "pages": bytes(4096)}
    with undisturbed() as broker:
        for url in urls(broker):
            before = refusals(broker)["handshake"]
            for header in headers.values():
                raw(url, header)
            wait_until(lambda: refusals(broker)["handshake"] == before + len(headers), what="the counts")


@sanitized
def test_protocols_that_are_not_served_are_closed_and_counted():
    with undisturbed() as broker:
        for url in urls(broker):
            before = refusals(broker)["protocol"] + refusals(broker)["handshake"]
            for protocol in (0x11, 0x20, 0x31, 0x51, 0x62, 0x63, 0x70, 0, 0xffff):
                raw(url, sp_header(protocol))
            wait_until(lambda: refusals(broker)["protocol"] + refusals(broker)["handshake"] == before + 9)


@sanitized
def test_a_handshake_that_does_not_end_in_time_is_closed():
    def seven_bytes_of_eight(url):
        start = time.monotonic()
        raw(url, sp_header(PUSH0)[:7])
        assert time.monotonic() - start > 0.9, "seven bytes of eight"

    def nothing(url):
        raw(url, b"")

    def dripping(url):
        with open_socket(url) as connection, contextlib.suppress(ConnectionError):
            for byte in sp_header(PUSH0)[:6]:
                connection.sendall(bytes([byte]))
                connection.settimeout(0.25)
                with contextlib.suppress(TimeoutError):
                    assert connection.recv(1) == b""
                    return
            connection.settimeout(WAIT)
            assert connection.recv(1) == b""

    def silent(url):
        with handshaken(lambda: Peer(url, PAIR0)) as peer:
            peer.wait_closed()

    with undisturbed(QUICK) as broker, ThreadPoolExecutor(8) as pool:
        for attempt in [pool.submit(peer, url) for url in urls(broker)
                        for peer in (seven_bytes_of_eight, nothing, dripping, silent)]:
            attempt.result()


@sanitized
def test_lengths_beyond_the_bound_are_cut_before_their_body():
    with undisturbed() as broker:
        before = broker.memory()
        for url in urls(broker):
            for length in ((1 << 64) - 24, 1 << 63, (1 << 64) - 1, 1 << 40, (1 << 20) + 1):
                for protocol in (PUSH0, REQ0, PAIR0):
                    peer = Peer(url, protocol)
                    peer.send_bytes((b"\x01" if peer.is_ipc else b"") + struct.pack(">Q", length))
                    peer.wait_closed()
                    peer.close()
        assert broker.memory() - before < 64 << 20
        assert refusals(broker)["message-size"] == 30, refusals(broker)


@sanitized
def test_a_message_of_exactly_the_bound_is_taken_and_one_byte_more_is_not():
    for bound in (4096, 65536):
        config = f"connections:\n  message_bytes_max: {bound}\n  handshake_ms: 60000\n  log_interval_ms: 0\n"
        with Broker(config=config) as broker:
            for url in urls(broker):
                head = pack(["publish", {"topic": "t", "value": ""}])[:-1]
                for extra, taken in ((0, True), (1, False)):
                    with Request(url) as request:
                        size = bound - 4 - len(head) - 3 + extra
                        body = struct.pack(">I", 0x80000001) + head + b"\xda" + struct.pack(">H", size) + b"x" * size
                        assert len(body) == bound + extra
                        try:
                            request.send(body)
                            request.receive_reply()
                            assert taken, "one byte more was taken"
                        except Refused as refused:
                            # The record is within a message and beyond what a subscriber could be sent.
                            assert taken and refused.code == "too-big", refused
                        except Closed:
                            assert not taken, "exactly the bound was cut"
            for size in (1024, 2048, 4096, bound):
                with broker.push() as push:
                    record = pack(["u", b"x"])
                    padding = min(size, bound) - len(record)
                    body = b"".join([record, *[pack(["u", 1])] * (padding // 4)])
                    push.send(body)
            wait_until(lambda: broker.ask_admin("topics", "u")["topics"], what="padded messages")


@sanitized
def test_bodies_cut_short_and_lengths_without_body_hurt_nobody():
    random_source = random.Random(7)
    with undisturbed() as broker:
        body = pack(["t", "x" * 5000]) * 3
        for url in urls(broker):
            for protocol in (PUSH0, REQ0, PAIR0):
                for _ in range(10):
                    peer = Peer(url, protocol)
                    whole = peer.prefix(len(body)) + body
                    peer.send_bytes(whole[:random_source.randrange(1, len(whole))])
                    peer.close_hard() if url.startswith("tcp") and random_source.random() < 0.5 else peer.close()
        wait_until(lambda: len(broker.ask_admin("connections")["connections"]) == 2, what="the end of those cut short")


@sanitized
def test_silent_peers_are_reaped_after_their_idle_time():
    config = CALM + "  idle_ms: 1000\n  heartbeat_ms: 300\n"
    with Broker(config=config) as broker:
        peers = [Peer(broker.tcp, PUSH0), Peer(broker.ipc, REQ0), Peer(broker.tcp, PUSH0)]
        with contextlib.suppress(Closed):  # at once where the machine stood still
            peers[2].send_bytes(peers[2].prefix(1000))  # a length and no body
        with contextlib.suppress(Closed), Session(broker.tcp, heartbeat_ms=0) as session:
            while True:
                Session.receive(session)  # nothing is answered, not even PING
        for peer in peers:
            peer.wait_closed()
        assert refusals(broker)["idle"] == 4, refusals(broker)


@sanitized
def test_sessions_outlive_a_stop_of_the_broker():
    heartbeat = 1  # so that a tester who stands still for a second is not cut himself
    with Broker(config=CALM + f"  heartbeat_ms: {1000 * heartbeat:.0f}\n") as broker, Session(broker.tcp) as session:
        assert session.read_frame()[0] == Op.PING  # and is answered
        broker.process.send_signal(signal.SIGSTOP)
        time.sleep(3.5 * heartbeat)  # longer than the broker bears silence
        broker.process.send_signal(signal.SIGCONT)
        assert session.read_frame()[0] == Op.PING  # it asks, as it did not hear of anybody
        session.publish("after/stop", 1)
        session.expect(Op.ACK)


@sanitized
def test_empty_and_tiny_messages_are_refused():
    with undisturbed() as broker:
        for url in urls(broker):
            for protocol in (PUSH0, PAIR0):
                with Peer(url, protocol) as peer:
                    peer.send(b"")
                    peer.wait_closed()
            for body in (b"", b"\x80", b"\x80\0\0", b"\0\0\0\1" * 17 + b"\x80\0\0\1\xc0", b"\0\0\0\1"):
                with Request(url) as request:
                    request.send(body)
                    request.wait_closed()


BAD_VALUES = {
    "0xc1": b"\xc1", "map32 of 2^28": b"\xdf\x10\0\0\0", "31 nested array32 of 2^27": b"\xdd\x08\0\0\0" * 31,
    "depth 17": b"\x91" * 17 + b"\xc0", "str32 of 4 GiB": b"\xdb\xff\xff\xff\xff",
    "bin32 of 4 GiB": b"\xc6\xff\xff\xff\xff",
    "ext32 of 4 GiB": b"\xc9\xff\xff\xff\xff\x01", "str of bad UTF-8": b"\xa2\xc3\x28", "overlong": b"\xa2\xc0\xaf",
    "surrogate": b"\xa3\xed\xa0\x80", "beyond unicode": b"\xa4\xf4\x90\x80\x80", "cut": b"\x92\x01", "nothing": b"",
}


@sanitized
def test_malformed_values_are_refused_by_every_door():
    with undisturbed() as broker:
        before = broker.memory()
        for url in urls(broker):
            for name, value in BAD_VALUES.items():
                with Peer(url, PUSH0) as push:
                    push.send(pack(["before", 1]) + b"\x92\xa1t" + value)
                    push.wait_closed()
                with Request(url) as request:
                    request.send(struct.pack(">I", 0x80000001) + b"\x92\xa7publish\x82\xa5topic\xa1t\xa5value" + value)
                    try:
                        request.receive_reply()
                        raise AssertionError(f"{name} was taken")
                    except Refused as refused:
                        assert refused.code == "bad-request", (name, refused)
                with Session(url) as session:
                    session.send(b"\x95\x09\xa1t\x01\x02\x92\xc0" + value)
                    assert session.wait_for(Op.CLOSE)[1] in ("bad-request", "protocol"), name
                    session.wait_closed()
        assert broker.memory() - before < 64 << 20, "claims are not believed"

        def seqs():
            return {row["topic"]: row["seq"] for row in broker.ask_admin("topics")["topics"]}

        # Its publisher is cut, which the last record may still be on its way from.
        wait_until(lambda: seqs()["before"] >= 2 * len(BAD_VALUES), what="the last record before a malformed one")
        assert seqs().get("t", 0) == 0 and seqs()["before"] == 2 * len(BAD_VALUES), seqs()
        assert broker.get("before")["state"] == 1, "the records before the malformed one were taken"


@sanitized
def test_values_at_the_edge_are_taken_and_come_back_as_they_were():
    values = [(1 << 64) - 1, -(1 << 63), 1.5, float("inf"), b"\xff" * 300, "\U0010ffff" * 100, "", {}, [], None,
              {"a": {"b": [1, {"c": None}]}}, [[[[[[[[[[[[[[[[7]]]]]]]]]]]]]]]], True, "x" * 70000, {1: 2, None: 3}]
    with Broker() as broker, broker.request() as request, broker.push() as push, broker.session() as session:
        for value in values:
            request.publish("t", value)
            assert request.ask("get", topic="t")["state"] == value, value
        session.subscribe(1, "t")
        session.snapshot()
        for value in values:
            push.publish(("t", value))
            assert session.wait_for(Op.UPDATES)[3] == [None, value], value


@sanitized
def test_requests_of_wrong_shape_are_answered_and_the_connection_goes_on():
    bad = [pack(5), pack([]), pack(["get"]), pack(["get", 5]), pack([5, {}]), pack(["get", {"topic": 5}]),
           pack(["get", {}]), pack(["list", {"pattern": []}]), pack(["publish", {"topic": "t"}]),
           pack(["publish", {"topic": "t", "value": 1, "ack": 7}]), pack(["publish", {"records": 5}]),
           pack(["publish", {"records": [["t"]]}]), pack(["publish", {"records": [["t", 1, 2]]}]),
           pack(["get", {"topic": "t"}]) + b"\0", pack({"get": 1}), pack(["get", {"topic": "t"}, 1])]
    with undisturbed() as broker:
        for url in urls(broker):
            for body in bad:
                with Request(url) as request:
                    request.send(struct.pack(">I", 0x80000001) + body)
                    try:
                        request.receive_reply()
                        raise AssertionError(f"taken: {body!r}")
                    except Refused as refused:
                        assert refused.code == "bad-request", (body, refused)


BAD_FRAMES = {
    "no array": pack(5), "empty": pack([]), "unknown op": pack([99]), "op of the broker": pack([16, 1, 1, 1, 1]),
    "second hello": pack([0, 1, {}]), "ping without n": pack([1]), "ping with text": pack([1, "n"]),
    "negative credit": pack([3, -1]), "alias beyond": pack([8, 65536, "t"]),
    "topic of number": pack([9, 1.5, 1, 2, []]),
    "odd items": pack([9, "t", 1, 2, [None]]), "ack 4": pack([9, "t", 1, 4, [None, 1]]),
    "trailing": pack([1, 1]) + b"\0", "key of number": pack([9, "t", 1, 2, [5, 1]]),
    "sub of text": pack([10, "x", "t", {}]),
    "options of list": pack([10, 1, "t", []]), "request without args": pack([12, 1, "get"]), "0xc1": b"\xc1",
    "uint64 sub": pack([10, 1 << 63, "t", {}]), "too many elements": pack([1, 1, 1]),
}


@sanitized
def test_frames_that_break_the_protocol_end_the_session_with_a_reason():
    with undisturbed() as broker:
        for url in urls(broker):
            for name, body in BAD_FRAMES.items():
                with Session(url) as session:
                    session.send(body)
                    close = session.wait_for(Op.CLOSE)
                    assert close[1] in ("protocol", "bad-request", "bad-topic", "full") and close[2], (name, close)
                    session.wait_closed()


@sanitized
def test_a_session_says_hello_first_in_time_and_in_a_known_version():
    with undisturbed() as broker:
        for url in urls(broker):
            for frame in ([9, "t", 1, 2, [None, 1]], [1, 1], [0, 2, {}], [0, 1], [0, 1, 5]):
                with Session(url, hello=False) as session:
                    session.send(pack(frame))
                    assert session.wait_for(Op.CLOSE)[1] in ("protocol", "bad-request"), frame
                    session.wait_closed()
        assert "t" not in [row["topic"] for row in broker.ask_admin("topics")["topics"]]
    with undisturbed(QUICK) as broker:
        for url in urls(broker):
            with handshaken(lambda url=url: Session(url, hello=False)) as silent:
                assert silent.wait_for(Op.CLOSE)[1] == "timeout"
                silent.wait_closed()


@sanitized
def test_sending_beyond_the_credit_ends_the_session():
    config = CALM + "sessions:\n  publish_window_bytes: 2048\n"
    with undisturbed(config, ["slow=log,mailbox_max=1,retain_bytes_max=4096"]) as broker:
        with broker.session(credit=4096) as reader, broker.session() as session:
            reader.auto_credit = False
            reader.subscribe(1, "slow", policy="block", outbox=1024)
            reader.snapshot()
            with contextlib.suppress(TimeoutError):
                while True:
                    session.publish("slow", "x" * 1000, timeout=0.3)
            session.allowed = 1 << 40
            with contextlib.suppress(Closed):
                for _ in range(100):
                    session.publish("slow", "x" * 1000)
            assert session.wait_for(Op.CLOSE)[1] == "protocol"
            session.wait_closed()
        wait_until(lambda: refusals(broker)["credit"] == 1, what="the count")


@sanitized
def test_too_many_records_in_one_message_are_refused():
    config = CALM + "  records_per_message_max: 100\n"
    with undisturbed(config) as broker:
        for url in urls(broker):
            with Peer(url, PUSH0) as push:
                push.send(pack(["t", 1]) * 100)
                push.send(pack(["t", 1]) * 101)
                push.wait_closed()
            with Request(url) as request:
                assert request.ask("publish", records=[["u", 1]] * 100) == {"count": 100}
                try:
                    request.ask("publish", records=[["u", 1]] * 101)
                    raise AssertionError("taken")
                except Refused as refused:
                    assert refused.code == "too-big", refused
        assert refusals(broker)["record-count"] + refusals(broker)["malformed"] == 4, refusals(broker)


@sanitized
def test_clients_keep_to_the_bounds_that_hello_tells():
    with Broker(config=CALM + "  records_per_message_max: 7\n  depth_max: 3\n", topics=["m=map"]) as broker:
        with broker.session() as session:
            assert session.broker["records_max"] == 7 and session.broker["depth_max"] == 3, session.broker
        records = [json.dumps({"topic": "m", "key": f"k{i}", "value": [[[i]]]}) for i in range(500)]
        done = broker.cli("pub", "--records", "--json", input="\n".join(records))
        assert json.loads(done.stdout.splitlines()[-1]) == {"published": 500, "acked": 500, "refused": 0, "unknown": 0}
        records.insert(2, json.dumps({"topic": "m", "key": "deep", "value": [[[[1]]]]}))
        assert "line 3: topic 'm': the value is nested deeper than the 3 levels" in \
            broker.cli("pub", "--records", input="\n".join(records), expect=2).stderr
        assert broker.get("m")["state"] == {f"k{i}": [[[i]]] for i in range(500)}
        assert sum(refusals(broker).values()) == 0, refusals(broker)
    value = json.loads("[" * 30 + "1" + "]" * 30)
    with Broker(config=CALM + "  depth_max: 30\n") as broker:
        broker.cli("pub", "t", "--json", json.dumps(value))
        assert broker.get("t")["state"] == value
        done = broker.cli("pub", "t", "--json", json.dumps([value]), expect=2)
        assert "nested deeper than the 30 levels" in done.stderr, done


@sanitized
def test_a_peer_that_never_reads_is_bounded():
    config = CALM + "  requests_max: 8\n"
    with undisturbed(config) as broker:
        with broker.request() as asker:
            asker.ask("publish", topic="big", value="x" * 100_000)
            before = broker.memory()
            with contextlib.suppress(TimeoutError):
                while True:  # asks on and on and reads nothing
                    asker.send(struct.pack(">I", 0x80000001) + pack(["get", {"topic": "big"}]), 0.5)
            assert broker.memory() - before < 64 << 20, "replies that nobody reads are bounded"
        with broker.feed(), broker.session() as session:
            for _ in range(300):
                session.publish("big", "x" * 100_000, ack="none")
            assert broker.memory() - before < 128 << 20, "so is the live feed"


def test_half_closed_connections_end():
    with undisturbed() as broker:
        for url in urls(broker):
            for protocol in (PUSH0, REQ0, PAIR0, SUB0):
                peer = Peer(url, protocol)
                peer.socket.shutdown(1)
                peer.wait_closed()
                peer.close()
        wait_until(lambda: len(broker.ask_admin("connections")["connections"]) == 2, what="their ends")


def test_each_refused_peer_is_logged_once_an_interval():
    config = "connections:\n  log_interval_ms: 60000\n"
    with undisturbed(config) as broker:
        for _ in range(20):
            raw(broker.tcp, b"GET / HTTP/1.1\r\n\r\n")
        wait_until(lambda: refusals(broker)["handshake"] == 20, what="all counted")
    lines = [line for line in broker.output.lines if "refusal=handshake" in line]  # it has ended: all of them
    assert len(lines) == 1, lines


@sanitized
def test_random_bytes_never_end_the_broker():
    source = random.Random(11)
    with undisturbed() as broker:
        for url in urls(broker):
            for _ in range(150):
                protocol = source.choice((PUSH0, REQ0, PAIR0))
                try:
                    with Peer(url, protocol) as peer:
                        if protocol == PAIR0 and source.random() < 0.9:
                            peer.send(pack([0, 1, {"credit": 1000}]))
                        for _ in range(source.randrange(1, 4)):
                            peer.send(mangled(source))
                except (Closed, OSError):
                    pass


def mangled(source):
    """A sound message with some bytes changed, or bytes of no sense."""
    sound = [pack([9, "fuzz/a", 1, 2, ["k", {"a": [1, 2]}]]), pack([10, 1, "fuzz/#", {"policy": "block"}]),
             struct.pack(">I", 0x80000001) + pack(["get", {"topic": "fuzz/a"}]), pack(["fuzz/b", {"x": 1}, "k"]) * 3,
             pack([12, 1, "list", {"pattern": "#"}]), pack([11, 1]), pack([8, 1, "fuzz/c"]), pack([3, 500])]
    data = bytearray(source.choice(sound) if source.random() < 0.8 else source.randbytes(source.randrange(64)))
    for _ in range(source.randrange(4)):
        if data:
            data[source.randrange(len(data))] = source.randrange(256)
    return bytes(data)
