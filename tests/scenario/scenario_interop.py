"""Any nng socket at one address: stock sockets of libnng and nngcat, in processes of their own, over tcp and ipc."""

import contextlib
import json
import subprocess

from harness import STOCK, WAIT, Broker, Op, nngcat, sanitized, wait_until
from sp import pack, unpack


def stock(program, *arguments, lines=()):
    """Runs a stock peer to its end; its output's lines."""
    done = subprocess.run([STOCK / f"stock_{program}", *map(str, arguments)], capture_output=True, text=True,
                          input="".join(line.hex() + "\n" for line in lines), timeout=2 * WAIT)
    assert done.returncode == 0, f"stock_{program} ended with {done.returncode}: {done.stderr}"
    return done.stdout.splitlines()


def seq_of(broker, topic):
    rows = broker.ask_admin("topics", topic)["topics"]
    return rows[0]["seq"] if rows else 0


def protocols(broker):
    return [row["protocol"] for row in broker.ask_admin("connections")["connections"]]


def test_stock_push_sockets_publish():
    with Broker(topics=["many/#=log"]) as broker:
        for url, topic in ((broker.tcp, "many/tcp"), (broker.ipc, "many/ipc")):
            assert stock("push", url, 500, topic) == ["sent 500"]
            wait_until(lambda topic=topic: seq_of(broker, topic) == 500, what="all 500")
            assert broker.get(topic)["state"] == list(range(500))
            batch = b"".join(pack([topic, [number]]) for number in range(300))
            stock("push", url, "-", lines=[batch, batch])
            wait_until(lambda topic=topic: seq_of(broker, topic) == 1100, what="many records in one message")


@sanitized
def test_stock_request_sockets_with_many_contexts_get_each_their_own_reply():
    with Broker(topics=["m=map"]) as broker:
        for url in (broker.tcp, broker.ipc):
            records = [{"topic": "m", "key": f"k{number}", "value": number} for number in range(100)]
            replies = stock("req", url, 16, lines=[pack(["publish", record]) for record in records])
            seqs = []
            for line in replies:
                status, result = unpack(bytes.fromhex(line.split()[1]))
                assert status == "ok", result
                seqs.append(result["seq"])
            assert len(set(seqs)) == 100, "each its own"
            requests = [pack(["get", {"topic": "m", "key": f"k{number}"}]) for number in range(100)]
            for line in stock("req", url, 32, lines=requests):
                number, body = line.split()
                status, result = unpack(bytes.fromhex(body))
                assert status == "ok" and result["state"] == int(number), f"request {number} was answered {result}"


@sanitized
def test_a_stock_request_is_told_what_was_wrong():
    with Broker() as broker:
        bad = [pack(["burn", {}]), pack(["get", {"topic": "none"}]), pack(["publish", {"topic": "a//b", "value": 1}]),
               pack(["get"]), b"\xc1", pack(["get", {"topic": "a"}]) + b"\x00"]
        codes = {}
        for line in stock("req", broker.tcp, 1, lines=bad):
            number, body = line.split()
            codes[int(number)] = unpack(bytes.fromhex(body))[1]["code"]
        assert codes == {0: "bad-request", 1: "not-found", 2: "bad-topic", 3: "bad-request", 4: "bad-request",
                         5: "bad-request"}, codes


@contextlib.contextmanager
def stock_sub(url, prefix, count):
    """A stock SUB peer that has subscribed; yields a function that waits for its messages."""
    process = subprocess.Popen([STOCK / "stock_sub", url, prefix, str(count)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "connected\n"
        yield lambda: [split_live(bytes.fromhex(line)) for line in process.communicate(timeout=WAIT)[0].split()]
    finally:
        process.kill()
        process.wait()


def split_live(body):
    topic, _, rest = body.partition(b"\0")
    return topic.decode(), unpack(rest)


def test_stock_subscribe_sockets_get_the_live_feed_by_prefix():
    with Broker() as broker, broker.request() as request:
        with stock_sub(broker.tcp, "a/", 3) as by_tcp, stock_sub(broker.ipc, "", 4) as by_ipc:
            wait_until(lambda: broker.ask_admin("status")["subscriptions"] == 2, what="two who follow")
            for topic, value in (("a/x", 1), ("b", 2), ("a/x", 3), ("a/y", {"n": 4})):
                request.publish(topic, value, "key" if topic == "a/y" else None)
            assert by_tcp() == [("a/x", [1, None, 1]), ("a/x", [2, None, 3]), ("a/y", [1, "key", {"n": 4}])]
            assert len(by_ipc()) == 4


@sanitized
def test_stock_pair_sockets_hold_a_session():
    with Broker() as broker:
        for url, topic in ((broker.tcp, "by/tcp"), (broker.ipc, "by/ipc")):
            hello = [int(Op.HELLO), 1, {"client": "stock", "credit": 1 << 20}]
            frames = [hello, [int(Op.PUBLISH), topic, 1, 2, [None, "one"]], [int(Op.PING), 3]]
            got = [unpack(bytes.fromhex(line)) for line in stock("pair", url, 3, lines=map(pack, frames))]
            assert got[0][0] == Op.HELLO and got[0][2]["server"].startswith("weir/"), got
            assert sorted(frame[0] for frame in got[1:]) == [Op.PONG, Op.ACK], got
            frames = [hello, [int(Op.SUBSCRIBE), 1, topic, {}]]
            got = [unpack(bytes.fromhex(line)) for line in stock("pair", url, 5, lines=map(pack, frames))]
            assert {frame[0] for frame in got[1:]} == {Op.SUBSCRIBED, Op.BEGIN, Op.ENTRIES, Op.END}, got
            assert [frame[2] for frame in got if frame[0] == Op.ENTRIES] == [[None, "one"]], got


def test_nngcat_publishes_asks_and_listens():
    with Broker() as broker:
        body = broker.directory / "body"
        body.write_bytes(pack(["cat", "purr"]))
        nngcat("--push", "--dial", broker.tcp, "--file", body)
        wait_until(lambda: seq_of(broker, "cat") == 1, what="nngcat's record")
        body.write_bytes(pack(["get", {"topic": "cat"}]))
        reply = nngcat("--req", "--dial", broker.ipc, "--raw", "--file", body)
        status, result = unpack(reply.stdout)
        assert (status, result["state"], result["kind"]) == ("ok", "purr", "last"), result
        listening = subprocess.Popen(["nngcat", "--sub", "--dial", broker.tcp, "--subscribe", "cat", "--count", "1",
                                      "--raw"], stdout=subprocess.PIPE)
        try:
            wait_until(lambda: broker.ask_admin("status")["subscriptions"] == 1, what="one who follows")
            broker.cli("pub", "dog", "woof")
            broker.cli("pub", "cat", "hiss")
            output, _ = listening.communicate(timeout=WAIT)
            assert split_live(output) == ("cat", [2, None, "hiss"]), output
        finally:
            listening.kill()
            listening.wait()


@sanitized
def test_one_address_serves_every_kind_of_peer_at_once_and_several_addresses_the_same_topics():
    with Broker() as broker, broker.push() as push, broker.request() as request, broker.session() as session, \
            broker.feed() as feed, broker.follow("t", url=broker.ipc) as follower:
        session.subscribe(1, "t")
        session.snapshot()
        follower.wait_event("end")
        wait_until(lambda: broker.ask_admin("status")["subscriptions"] == 3, what="three who follow")
        push.publish(("t", "by push"))
        assert feed.next()[3] == "by push"
        request.publish("t", "by request")
        session.publish("t", "by session")
        session.wait_for(Op.ACK)
        broker.cli("pub", "-s", broker.ipc, "t", "by ipc")
        for _ in range(4):
            update = follower.wait_event("update")
        assert (update["seq"], update["value"]) == (4, "by ipc"), update
        values = []
        while len(values) < 4:
            values += session.wait_for(Op.UPDATES)[3][1::2]
        assert values == ["by push", "by request", "by session", "by ipc"], values
        # The command line's has gone a moment ago.
        wait_until(lambda: sorted(protocols(broker)) == ["pair", "pair", "push", "req", "sub"], what="these five alone")
        listed = json.loads(broker.cli("list", "t", "--json").stdout)["topics"]
        assert listed[0]["subscribers"] == 3, f"two sessions and the live feed: {listed}"
