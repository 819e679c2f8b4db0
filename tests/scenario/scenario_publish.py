"""Publishing: by PUSH, REQ and session; what each kind of topic makes of it; what is refused, and how it is said."""

import json
import time
from contextlib import contextmanager

from harness import WAIT, Broker, Op, Refused, sanitized, wait_until
from ledger import Ledger, Topic, seeded
from session import pairs

RULES = ["map/#=map", "log/#=log", "few/#=log,log_count_max=10", "small/#=log,log_bytes_max=2000", "merge/#=merge"]


def refusal(call, *arguments, **options):
    """The error that a request is refused with."""
    try:
        result = call(*arguments, **options)
    except Refused as refused:
        return refused
    raise AssertionError(f"not refused: {result}")


def random_value(random, depth=0):
    choice = random.randrange(8 if depth < 3 else 5)
    if choice < 5:
        return [None, random.randrange(-1 << 40, 1 << 40), random.random(), "ä" * random.randrange(30), True][choice]
    if choice == 5:
        return [random_value(random, depth + 1) for _ in range(random.randrange(4))]
    return {f"m{random.randrange(6)}": random_value(random, depth + 1) for _ in range(random.randrange(5))}


def random_records(random, kind, count):
    for _ in range(count):
        value = random_value(random)
        if kind == "merge" and not isinstance(value, dict) and random.randrange(20):
            value = {f"m{random.randrange(6)}": value}
        yield (f"k{random.randrange(30)}" if kind == "map" else None), value


def send_by(broker, way, topic, records):
    """Publishes through one of the three ways and returns once all is folded."""
    if way == "push":
        with broker.push() as push:
            for start in range(0, len(records), 7):
                push.publish(*((topic, value, key) for key, value in records[start:start + 7]))
            wait_until(lambda: any(row["seq"] == len(records) for row in broker.ask_admin("topics", topic)["topics"]))
    elif way == "request":
        with broker.request() as request:
            for start in range(0, len(records), 11):
                batch = [[topic, value, key] for key, value in records[start:start + 11]]
                assert request.ask("publish", records=batch) == {"count": len(batch)}
    else:
        with broker.session() as session:
            ledger = Ledger(session)
            for start in range(0, len(records), 13):
                ledger.publish(topic, *records[start:start + 13])
            ledger.settle()
            assert ledger.acked == len(records), ledger


def state_by_snapshot(broker, topic, kind):
    """The state as a subscriber's snapshot spells it out."""
    with broker.session() as session:
        session.subscribe(1, topic, updates=False)
        begin, entries, end = session.snapshot()
        assert begin[4] == kind and begin[6] == end[3], (begin, end)
        ended = session.wait_for(Op.ENDED)
        assert ended[2] == "ok", ended
    model = Topic(kind)
    model.lay([tuple(entry) for entry in entries])
    return model.state()


@sanitized
def test_every_kind_holds_what_its_model_holds_however_it_was_published():
    random = seeded()
    with Broker(topics=RULES) as broker:
        for kind, prefix in (("last", "other"), ("map", "map"), ("log", "log"), ("merge", "merge")):
            for way in ("push", "request", "session"):
                topic, model = f"{prefix}/{way}", Topic(kind)
                records = list(random_records(random, kind, 100))
                for record in records:
                    model.fold(*record)
                send_by(broker, way, topic, records)
                answer = broker.get(topic)
                assert (answer["kind"], answer["seq"]) == (kind, len(records)), answer
                assert answer["state"] == model.state(), f"{topic}: {answer['state']} is not {model.state()}"
                assert state_by_snapshot(broker, topic, kind) == model.state(), topic


@sanitized
def test_a_log_keeps_the_newest_by_count_bytes_and_age():
    rules = [*RULES, "young/#=log,log_age_max_ms=400", "lasting/#=log,log_age_max_ms=3600000"]
    with Broker(topics=rules) as broker, broker.request() as request:
        for number in range(100):
            request.publish("few/a", number)
            request.publish("small/a", f"{number:0100}")
        assert broker.get("few/a")["state"] == list(range(90, 100))
        kept = broker.get("small/a")["state"]
        assert 10 <= len(kept) <= 20 and kept[-1] == f"{99:0100}", len(kept)
        assert [int(text) for text in kept] == list(range(100 - len(kept), 100)), "the newest, in order"
        request.publish("young/a", 1)
        wait_until(lambda: broker.get("young/a")["state"] == [], what="the record's end of age")
        assert request.publish("young/a", 2)["seq"] == 2
        request.publish("lasting/a", 1)
        assert broker.get("lasting/a")["state"] == [1]


@sanitized
def test_the_reply_says_what_the_ack_level_asks_for():
    with Broker() as broker, broker.request() as request:
        assert request.publish("a", 1, ack="none") == {"epoch": 0, "seq": 0}
        assert request.publish("a", 2, ack="accepted") == {"epoch": 0, "seq": 0}
        third = request.publish("a", 3, ack="folded")
        fourth = request.publish("a", 4)
        assert (third["seq"], fourth["seq"], third["epoch"]) == (3, 4, fourth["epoch"]) and fourth["epoch"] > 0
        assert refusal(request.publish, "a", 5, ack="durable").code == "bad-request"
        assert refusal(request.publish, "a", 5, ack="twice").code == "bad-request"
        assert broker.get("a")["seq"] == 4


@sanitized
def test_a_session_is_acknowledged_record_by_record_in_the_order_of_its_topics():
    with Broker() as broker, broker.session() as session:
        session.send_frame(Op.ALIAS, 5, "aliased")
        session.send_frame(Op.PUBLISH, 5, 1, 2, [None, "a", None, "b"])
        number, count, epoch, seq = session.expect(Op.ACK)[1:]
        assert (number, count, seq) == (1, 2, 1) and epoch > 0
        session.send_frame(Op.PUBLISH, "named", 3, 1, [None, "c"])
        assert session.expect(Op.ACK)[1:] == [3, 1, 0, 0], "accepted has no seq"
        session.send_frame(Op.PUBLISH, 5, 4, 0, [None, "unanswered"])
        session.send_frame(Op.PUBLISH, 5, 5, 2, [None, "d"])
        assert session.expect(Op.ACK)[1:] == [5, 1, epoch, 4], "ack none is not answered"
        session.send_frame(Op.PUBLISH, 9, 6, 2, [None, "no such alias"])
        assert session.expect(Op.REFUSED)[1:4] == [6, 1, "bad-request"]
        session.send_frame(Op.PUBLISH, "a//b", 7, 0, [None, 1])
        assert session.expect(Op.REFUSED)[1:4] == [7, 1, "bad-topic"], "a refusal is told even with ack none"
        session.send_frame(Op.PUBLISH, "$dead/x", 8, 2, [None, 1])
        assert session.expect(Op.REFUSED)[1:4] == [8, 1, "forbidden"]
        session.send_frame(Op.PUBLISH, 5, 9, 3, [None, 1])
        assert session.expect(Op.REFUSED)[1:4] == [9, 1, "bad-request"], "nothing is durable yet"
        session.send_frame(Op.ALIAS, 5, "another")
        session.send_frame(Op.PUBLISH, 5, 10, 2, [None, 1])
        assert session.expect(Op.ACK)[1] == 10 and broker.get("another")["seq"] == 1


@sanitized
def test_what_cannot_be_taken_is_refused_with_its_code():
    with Broker(topics=["tiny=map,state_bytes_max=2000"]) as broker, broker.request() as request:
        for name in ("", "/a", "a/", "a//b", "a/+/b", "#", "a#", "a\0b", "x" * 256):
            assert refusal(request.publish, name, 1).code == "bad-topic", name
        assert refusal(request.publish, "$dead/a", 1).code == "forbidden"
        assert refusal(request.publish, "$SYS", 1).code == "forbidden"
        assert refusal(request.publish, "a", 1, key="k" * 1025).code in ("bad-request", "too-big")
        assert refusal(request.publish, "a", 1, key=5).code == "bad-request"
        assert refusal(request.publish, "tiny", "x" * 3000, "k").code == "too-big"
        assert refusal(request.ask, "get", topic="nobody/published").code == "not-found"
        assert refusal(request.ask, "get", topic="a/#").code == "bad-topic"
        assert refusal(request.ask, "list", pattern="a/#/b").code == "bad-topic"
        assert refusal(request.ask, "burn").code == "bad-request"
        assert refusal(request.ask, "publish", topic="a").code == "bad-request"
        assert refusal(request.ask, "publish", value=1).code == "bad-request"
        request.publish("x" * 255, 1)
        request.publish("./..", 1)
        assert broker.get("./..")["state"] == 1, "dots mean nothing"
        request.publish("a", 7, "k", unknown_option=1)
        assert broker.get("a")["state"] == 7


@sanitized
def test_a_session_hears_of_each_refused_record_and_the_sums_agree():
    random = seeded()
    with Broker(topics=["map/#=map,state_bytes_max=8192", "merge/#=merge"]) as broker, broker.session() as session:
        ledger = Ledger(session)
        for number in range(1500):
            topic = random.choice(["map/a", "map/b", "merge/a", "plain", "$no", "bad//name"])
            value = random.choice([number, "x" * random.randrange(400), {"n": number}])
            ledger.publish(topic, (f"k{random.randrange(200)}", value))
        ledger.settle()
        assert set(ledger.codes) == {"too-big", "forbidden", "bad-topic"}, ledger
        status = broker.ask_admin("status")
        assert status["records_in"] == ledger.published, (status, ledger)
        assert status["records_folded"] == ledger.acked, (status, ledger)
        seqs = [broker.get(topic)["seq"] for topic in ("map/a", "map/b", "merge/a", "plain")]
        assert sum(seqs) == ledger.acked, "refused records have no seq"


@contextmanager
def one_write(session):
    """What is sent meanwhile goes out together, so that the broker reads much at once."""
    written = []
    session.send_bytes = lambda data, timeout: written.append(data)
    yield
    del session.send_bytes
    session.send_bytes(b"".join(written))


def test_records_to_topics_in_turn_are_each_answered_by_their_own_number():
    with Broker(topics=["tiny/#=map,state_bytes_max=2000"]) as broker, broker.session() as session, \
            broker.request() as request:
        ledger = Ledger(session)
        answered = {}
        take = ledger.take
        ledger.take = lambda frame: (answered.setdefault(frame[0], []).append(frame), take(frame))
        for _ in range(3):  # reads grow with what they bring
            with one_write(session):
                for value in range(200):
                    for topic in ("tiny/a", "roomy", "tiny/b"):
                        ledger.publish(topic, (f"k{session.number}", "x" * (value % 40)))
            ledger.settle()
        assert ledger.acked > 600 and ledger.refused > 200 and set(ledger.codes) == {"too-big"}, ledger
        first = session.number - ledger.published
        refused = {number + i for _, number, count, *_ in answered[Op.REFUSED] for i in range(count)}
        for index, topic in enumerate(("tiny/a", "roomy", "tiny/b")):
            numbers = [n for n in range(first, session.number) if (n - first) % 3 == index]
            assert topic != "roomy" or not refused & set(numbers)
            if topic != "roomy":
                kept = {f"k{n}" for n in numbers if n not in refused}
                assert set(request.ask("get", topic=topic)["state"]) == kept, topic


def test_records_of_more_topics_than_are_handed_out_at_once_all_come_in_order():
    topics, rounds = 1300, 3  # a connection hands 512 topics their records, and lets them run, before it reads on
    with Broker() as broker, broker.session(credit=8 << 20) as follower, broker.session() as session:
        ledger = Ledger(session)
        for topic in range(topics):  # the first of each makes the topic, one at a time
            ledger.publish(f"many/{topic}", (None, 0))
        ledger.settle()
        follower.subscribe(1, "many/#", snapshot=False)
        wait_until(lambda: broker.ask_admin("status")["feeds"] == topics)
        for value in range(1, rounds + 1):
            with one_write(session):
                for topic in range(topics):
                    ledger.publish(f"many/{topic}", (None, value))
        ledger.settle()
        assert ledger.acked == topics * (rounds + 1), ledger
        values = {}
        while sum(map(len, values.values())) < topics * rounds:
            frame = follower.next_frame()
            if frame[0] == Op.UPDATES:
                values.setdefault(frame[1], []).extend(value for _, value in pairs(frame[3]))
        assert all(seen == list(range(1, rounds + 1)) for seen in values.values())


def test_topics_are_made_by_the_first_rule_that_matches():
    with Broker(topics=["a/b=log", "a/+=map", "a/#=merge"]) as broker, broker.request() as request:
        request.publish("a/b", 1)
        request.publish("a/c", 1, "k")
        request.publish("a/c/d", {"k": 1})
        request.publish("b", 1)
        kinds = {row["topic"]: row["kind"] for row in json.loads(broker.cli("list", "--json").stdout)["topics"]}
        assert kinds == {"a/b": "log", "a/c": "map", "a/c/d": "merge", "b": "last"}, kinds


def test_without_auto_create_unknown_topics_are_not_found():
    config = "topics:\n  auto_create: false\n  rules:\n    - pattern: there\n      kind: last\n"
    with Broker(config=config) as broker, broker.request() as request:
        request.publish("there", 1)
        assert refusal(request.publish, "elsewhere", 1).code == "not-found"
        with broker.session() as session:
            session.publish("elsewhere", 1)
            assert session.wait_for(Op.REFUSED)[3] == "not-found"
        broker.ask_admin("topic", "create", "elsewhere", "map")
        request.publish("elsewhere", 1, "k")
        assert broker.get("elsewhere")["state"] == {"k": 1}


def test_topics_beyond_the_limit_are_refused_and_those_there_go_on():
    config = "topics:\n  max: 20\n"
    with Broker(config=config) as broker, broker.session() as session:
        ledger = Ledger(session)
        for round in range(2):
            for number in range(30):
                ledger.publish(f"t/{number}", (None, round))
        ledger.settle()
        assert ledger.refused == 20 and ledger.acked == 40, ledger
        assert len(broker.ask_admin("topics")["topics"]) == 20
        assert broker.get("t/19")["state"] == 1


def taken(request, topic, key):
    """Whether a deletion was taken, not refused as busy."""
    try:
        return bool(request.publish(topic, None, key))
    except Refused as refused:
        assert refused.code == "busy", refused
        return False


@sanitized
def test_state_of_all_topics_stays_below_its_bound():
    config = "topics:\n  state_bytes_max: 4194304\n  defaults:\n    kind: map\n    retain_bytes_max: 65536\n"
    with Broker(config=config) as broker, broker.session() as session:
        ledger = Ledger(session)
        for number in range(3000):
            ledger.publish(f"t/{number % 10}", (f"k{number}", "x" * 4000))
        ledger.settle()
        assert ledger.refused > 0 and ledger.acked > 500, ledger
        assert set(ledger.codes) == {"busy"}, f"room may come again: {ledger}"
        status = broker.ask_admin("status")
        topics = next(row for row in status["memory"] if row["owner"] == "topics")
        assert topics["bytes"] <= topics["max"] == 4194304, topics
        with broker.request() as request:
            # Where not one page is free, a deletion is told to come again, too; each that is taken makes room.
            left = [(f"t/{number % 10}", f"k{number}") for number in range(3000)]
            end = time.monotonic() + 6 * WAIT
            while left and time.monotonic() < end:
                left = [item for item in left if not taken(request, *item)]
            assert not left, f"{len(left)} deletions found no room"
            request.publish("t/0", 1, "again")
        assert broker.get("t/0")["state"] == {"again": 1}, "deleting makes room"
