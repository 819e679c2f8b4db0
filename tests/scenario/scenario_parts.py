"""Parts of topics: pages of large maps, and subscriptions to some keys only."""

import json
import threading
import time

from harness import EXIT_REFUSED, EXIT_USAGE, Broker, Op, sanitized
from session import pairs
from sp import Refused, pack


def refused(request, code, **arguments):
    try:
        request.ask("get", **arguments)
    except Refused as refusal:
        assert refusal.code == code, refusal
        return str(refusal)
    raise AssertionError(f"{arguments} was answered")


def fill(broker, topic, count, key="k{}"):
    """count entries, in batches that a message holds; returns the session, all of it acknowledged."""
    session = broker.session()
    for first in range(0, count, 1000):
        session.publish(topic, *((key.format(i), i) for i in range(first, min(first + 1000, count))))
    seen = 0
    while seen < count:
        seen += session.expect(Op.ACK)[2]
    return session


class Changes(threading.Thread):
    """Rewrites, adds and deletes keys that are not `stable`, and rewrites some that are, until stopped."""

    def __init__(self, session, topic, stable):
        super().__init__(daemon=True)
        self.session, self.topic, self.stable = session, topic, stable
        self.stopping = threading.Event()
        self.rounds = 0

    def run(self):
        while not self.stopping.is_set():
            base = self.rounds % 50 * 100
            items = [(f"new{base + i}", None if self.rounds % 3 == 2 else "x" * (i % 60)) for i in range(100)]
            items += [(f"k{(self.rounds * 97 + i * 31) % self.stable}", i) for i in range(100)]
            self.session.publish(self.topic, *items)
            seen = 0
            while seen < len(items):
                seen += self.session.expect(Op.ACK)[2]
            self.rounds += 1

    def stop(self):
        self.stopping.set()
        self.join()


@sanitized
def test_pages_of_a_changing_map_have_every_key_that_stays_once():
    count = 100_000
    with Broker(topics=["big=map"]) as broker, broker.request() as request:
        refusal = refused(request, "too-big", topic="big") if fill(broker, "big", count) else ""
        assert "limit" in refusal, refusal
        changes = Changes(broker.session(), "big", count)
        changes.start()
        seen, after, pages, seqs, epochs = {}, {}, 0, [], set()
        while True:
            page = request.ask("get", topic="big", limit=3000, **after)
            pages += 1
            seqs.append(page["seq"])
            epochs.add(page["epoch"])
            assert 0 < len(page["state"]) <= 3000 and page["kind"] == "map", page
            for key in page["state"]:
                seen[key] = seen.get(key, 0) + 1
            if "next" not in page:
                break
            assert page["next"] in page["state"]
            after = {"after": page["next"]}
        changes.stop()
        assert changes.rounds > 0 and seqs[-1] > seqs[0] and seqs == sorted(seqs) and len(epochs) == 1, seqs
        wrong = [key for key in (f"k{i}" for i in range(count)) if seen.get(key) != 1]
        assert not wrong and max(seen.values()) == 1, (len(wrong), wrong[:5])


@sanitized
def test_a_page_says_what_it_cannot_do():
    with Broker(topics=["m=map", "l=log"]) as broker, broker.request() as request:
        for i in range(30):
            request.publish("m", i, f"a/{i}" if i % 3 else f"b/{i}")
        request.publish("l", 1)
        request.publish("s", 1)
        page = request.ask("get", topic="m", prefix="b/")
        assert page["state"] == {f"b/{i}": i for i in range(0, 30, 3)} and "next" not in page, page
        first = request.ask("get", topic="m", prefix="b/", limit=6)
        rest = request.ask("get", topic="m", prefix="b/", limit=6, after=first["next"])
        assert len(first["state"]) == 6 and "next" not in rest, (first, rest)
        assert {**first["state"], **rest["state"]} == page["state"]
        assert request.ask("get", topic="m", prefix="c")["state"] == {}
        assert request.ask("get", topic="m", limit=30)["state"].keys() == request.ask("get", topic="m")["state"].keys()
        for topic in ("l", "s"):
            assert "kind map" in refused(request, "bad-request", topic=topic, limit=5)
        refused(request, "bad-request", topic="m", limit=0)
        refused(request, "bad-request", topic="m", limit="many")
        refused(request, "bad-request", topic="m", key="a/1", prefix="a")
        refused(request, "bad-request", topic="m", prefix=5)
        refused(request, "not-found", topic="none", prefix="a")


@sanitized
def test_a_page_ends_where_a_message_would():
    config = "connections:\n  message_bytes_max: 65536\n"
    with Broker(topics=["m=map"], config=config) as broker, broker.request() as request:
        for i in range(40):
            request.publish("m", "v" * 5000, f"k{i}")
        request.publish("m", "v" * 60_000, "large")
        refused(request, "too-big", topic="m")
        refused(request, "too-big", topic="m", prefix="k")
        seen, after, pages = [], {}, 0
        while True:
            page = request.ask("get", topic="m", limit=1000, **after)
            assert len(pack(page)) < 65536
            seen += page["state"]
            pages += 1
            if "next" not in page:
                break
            after = {"after": page["next"]}
        assert pages > 3 and sorted(seen) == sorted([f"k{i}" for i in range(40)] + ["large"]), (pages, seen)


@sanitized
def test_a_merged_map_comes_in_pages():
    with Broker(topics=["g=merge"]) as broker, broker.request() as request:
        request.publish("g", {f"k{i}": {"n": i} for i in range(500)})
        seen, after = {}, {}
        while after is not None:
            page = request.ask("get", topic="g", limit=70, **after)
            assert len(page["state"]) <= 70 and not page["state"].keys() & seen.keys(), page
            seen.update(page["state"])
            after = {"after": page["next"]} if "next" in page else None
        assert seen == {f"k{i}": {"n": i} for i in range(500)}
        assert request.ask("get", topic="g", prefix="k49")["state"].keys() == {"k49", *(f"k49{i}" for i in range(10))}
        refused(request, "bad-request", topic="g", key="k1")
        request.publish("g", {7: 1, 8: 2})
        request.publish("g", {f"k{i}": None for i in range(500)})
        assert "limit" in refused(request, "bad-request", topic="g", limit=1), "nothing can be asked behind 7"
        assert request.ask("get", topic="g", limit=2)["state"] == {7: 1, 8: 2}


def test_the_command_line_reads_page_after_page():
    with Broker(topics=["m=map", "e=map"]) as broker:
        fill(broker, "m", 2500).close()
        whole = json.loads(broker.cli("get", "m", "--all").stdout)
        assert whole == {f"k{i}": i for i in range(2500)}
        part = json.loads(broker.cli("get", "m", "--all", "--prefix", "k24", "--limit", "7").stdout)
        assert part == {f"k{i}": i for i in (24, *range(240, 250), *range(2400, 2500))}
        lines = [json.loads(line) for line in broker.cli("get", "m", "--all", "--json").stdout.splitlines()]
        assert [len(line["state"]) for line in lines] == [1000, 1000, 500] and "next" not in lines[-1]
        first = broker.cli("get", "m", "--limit", "3")
        behind = first.stderr.split()[-1]
        second = broker.cli("get", "m", "--limit", "3", "--after", behind)
        assert behind in json.loads(first.stdout) and not json.loads(first.stdout).keys() & json.loads(second.stdout)
        broker.cli("pub", "e", "1", "--key", "k")
        broker.cli("pub", "e", "null", "--key", "k", "--json")
        assert broker.cli("get", "e", "--all").stdout == "{}\n"
        broker.cli("get", "none", "--all", expect=EXIT_REFUSED)
        broker.cli("get", "m", "k1", "--limit", "3", expect=EXIT_USAGE)


@sanitized
def test_a_subscription_to_some_keys_sees_those_alone_and_resumes():
    with Broker(topics=["m=map"]) as broker, broker.session() as publisher, broker.session() as reader:
        publisher.publish("m", ("a/1", 1), ("b/1", 2), ("a/2", 3))
        assert publisher.expect(Op.ACK)[2] == 3
        reader.subscribe(1, "m", prefix="a/")
        begin, entries, end = reader.snapshot()
        assert dict(entries) == {"a/1": 1, "a/2": 3} and end[3] == 3, (entries, end)
        publisher.publish("m", ("b/1", 4), ("a/3", 5), ("a/1", None), ("b/2", 6))
        got = {}
        while len(got) < 2:
            frame = reader.wait_for(Op.UPDATES)
            got.update({frame[2] + i: pair for i, pair in enumerate(pairs(frame[3]))})
        assert got == {5: ("a/3", 5), 6: ("a/1", None)}, got
        idle = reader.wait_for(Op.IDLE)
        while idle[2] < 7:  # the turn may have ended between two of them
            idle = reader.wait_for(Op.IDLE)
        assert idle[1:] == [begin[2], 7], idle
        epoch = begin[5]
        reader.send_frame(Op.UNSUBSCRIBE, 1)
        reader.wait_for(Op.UNSUBSCRIBED)
        publisher.publish("m", ("b/1", 8), ("a/9", 9), ("b/2", 10))
        reader.subscribe(2, "m", prefix="a/", cursors=[["m", epoch, 7]])
        begin, entries, end = reader.snapshot()
        assert begin[7].get("resumed") and not entries and end[3] == 7, (begin, entries, end)
        frame = reader.wait_for(Op.UPDATES)
        assert frame[2:] == [9, ["a/9", 9]], frame


def wait_each(follower, wanted):
    """Takes events until each of these (event, topic) has come; between topics there is no order."""
    while wanted:
        event = follower.wait(lambda event: (event["event"], event.get("topic")) in wanted)
        wanted = wanted - {(event["event"], event["topic"])}


@sanitized
def test_one_key_of_every_topic_of_a_pattern_also_of_later_ones():
    with Broker(topics=["m/#=map", "l/#=log"]) as broker, broker.session() as publisher:
        publisher.publish("m/1", ("x", 1), ("y", 2))
        publisher.publish("l/1", ("x", 3), ("y", 4), ("x", 5), 6)
        acked = 0
        while acked < 6:  # else some come as updates
            acked += publisher.wait_for(Op.ACK)[2]
        with broker.follow("#", options=["--key", "x"]) as follower:
            wait_each(follower, {("end", "m/1"), ("end", "l/1")})
            publisher.publish("m/2", ("y", 7), ("x", 8))
            publisher.publish("l/1", ("y", 9), ("x", 10))
            wait_each(follower, {("update", "m/2"), ("update", "l/1")})
            records = [event for event in follower.events if event["event"] in ("entry", "update")]
            assert all(event["key"] == "x" for event in records), records
            values = {topic: [event["value"] for event in records if event["topic"] == topic]
                      for topic in ("m/1", "m/2", "l/1")}
            assert values == {"m/1": [1], "m/2": [8], "l/1": [3, 5, 10]}, values
        broker.cli("sub", "m/1", "--key", "x", "--prefix", "x", expect=EXIT_USAGE)


def test_what_a_filter_leaves_out_costs_few_words():
    with Broker(topics=["m=map"]) as broker, broker.session() as publisher, broker.session() as reader:
        reader.subscribe(1, "m", key="wanted")
        reader.snapshot()
        started = time.monotonic()
        for i in range(500):
            publisher.publish("m", ("other", i))
            publisher.expect(Op.ACK)
        publisher.publish("m", ("wanted", 1))
        idles, frame = 0, reader.next_frame()
        while frame[0] != Op.UPDATES:
            idles += frame[0] == Op.IDLE
            frame = reader.next_frame()
        assert frame[2:] == [501, ["wanted", 1]] and idles <= time.monotonic() - started + 1, (frame, idles)


def test_a_subscription_cannot_be_to_a_key_and_a_prefix():
    with Broker() as broker, broker.session() as session:
        session.subscribe(1, "m", key="a", prefix="a")
        assert session.wait_for(Op.UNSUBSCRIBED)[1:3] == [1, "bad-request"]
