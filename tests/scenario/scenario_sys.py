"""The broker's own state as topics below $sys/: current when asked for, changing while followed, idle otherwise."""

import json
import time

from harness import EXIT_REFUSED, Broker, Op, sanitized, wait_until
from sp import Refused

BOARDS = {"$sys/status": "last", "$sys/topics": "map",
          "$sys/connections": "map", "$sys/tree": "map", "$sys/dead": "map"}
FAST = "sys_interval_ms: 100\n"


def counters(request):
    return {row["topic"]: row["seq"] for row in request.ask("list", pattern="$sys/#")["topics"]}


@sanitized
def test_what_is_asked_for_is_current():
    with Broker(topics=["m=map"]) as broker, broker.request() as request:
        request.publish("m", 1, "k")
        assert request.ask("get", topic="$sys/status")["state"]["connections"] == 1
        rows = request.ask("get", topic="$sys/topics")["state"]
        assert rows["m"]["entries"] == 1 and rows["m"]["kind"] == "map" and len(rows) == 1, rows
        request.publish("a/b", 1)
        with broker.session(name="visitor"):
            rows = request.ask("get", topic="$sys/connections")["state"]
            assert {"visitor"} == {row["client"] for row in rows.values() if row["protocol"] == "pair"}, rows
            assert all(key == str(row["id"]) for key, row in rows.items())
        assert set(request.ask("get", topic="$sys/topics")["state"]) == {"m", "a/b"}
        wait_until(lambda: len(request.ask("get", topic="$sys/connections")["state"]) == 1)
        tree = request.ask("get", topic="$sys/tree")["state"]
        assert {"broker", "broker/topics", "broker/topics/topic a/b", "broker/admin/sys"} <= tree.keys(), tree.keys()
        assert request.ask("get", topic="$sys/tree", prefix="broker/admin/", limit=1)["next"]
        # What the operator's socket says is the same.
        shown = {row["topic"]: row for row in broker.ask_admin("topics")["topics"]}
        assert shown == request.ask("get", topic="$sys/topics")["state"]


@sanitized
def test_a_late_joiner_sees_a_connection_come_and_go():
    with Broker(config=FAST) as broker, broker.session(name="early"), \
            broker.follow("$sys/connections") as follower:
        follower.wait_event("end", topic="$sys/connections")
        entries = {event["value"]["client"] for event in follower.events if event["event"] == "entry"}
        assert "early" in entries, entries
        with broker.session(name="late"):
            update = follower.wait(lambda event: event["event"] == "update" and event["value"] is not None and
                                   event["value"]["client"] == "late")
        follower.wait_event("update", key=update["key"], value=None)


@sanitized
def test_nobody_follows_and_nothing_is_published():
    with Broker(config=FAST) as broker, broker.request() as request:
        assert counters(request) == dict.fromkeys(BOARDS, 0)
        time.sleep(0.5)
        assert counters(request) == dict.fromkeys(BOARDS, 0)
        with broker.follow("$sys/status") as follower:
            follower.wait_event("end", topic="$sys/status")
            for _ in range(3):
                follower.wait_event("update", topic="$sys/status")
        seen = []

        def counts():
            return counters(request), broker.ask_admin("status")["runtime"]["timers"]

        def is_still():
            seen.append(counts())
            time.sleep(0.5)
            return seen[-1] == counts()
        wait_until(is_still)
        seqs, _ = seen[-1]
        assert all(seqs[topic] == 0 for topic in BOARDS if topic != "$sys/status"), seqs


@sanitized
def test_all_of_them_are_followed_by_one_pattern_and_by_no_other():
    with Broker() as broker, broker.session() as session, broker.request() as request:
        session.subscribe(1, "$sys/#")
        kinds = {}
        for _ in BOARDS:
            begin, _, _ = session.snapshot()
            kinds[begin[3]] = begin[4]
        assert kinds == BOARDS, kinds
        assert session.wait_for(Op.SUBSCRIBED)[2] == len(BOARDS)
        assert not [row for row in request.ask("list", pattern="#")["topics"] if row["topic"].startswith("$")]
        with broker.session() as other:
            other.subscribe(1, "#")
            assert other.expect(Op.SUBSCRIBED)[2] == 0
        try:
            request.publish("$sys/status", 1)
            raise AssertionError("published")
        except Refused as refusal:
            assert refusal.code == "forbidden", refusal


@sanitized
def test_one_may_leave_before_it_was_answered():
    with Broker(topics=["m=map"]) as broker:
        for number in range(30):
            with broker.session() as session:
                session.subscribe(1, "$sys/#")
                session.send_frame(Op.UNSUBSCRIBE, 1)
                if number % 2:
                    assert session.wait_for(Op.UNSUBSCRIBED)[1:3] == [1, "ok"]
                    session.subscribe(2, "$sys/nothing")
                    frame = session.next_frame()
                    while frame[:2] != [Op.SUBSCRIBED, 2]:
                        frame = session.next_frame()
                    assert frame[2] == 0, frame
        with broker.request() as request:
            wait_until(lambda: request.ask("get", topic="$sys/status")["state"]["subscriptions"] <= 1)


@sanitized
def test_a_topic_that_was_emptied_or_deleted_fills_again():
    with Broker(config=FAST, topics=["m=map"]) as broker, broker.request() as request:
        with broker.follow("$sys/topics") as follower:
            follower.wait_event("end", topic="$sys/topics")
            broker.ask_admin("topic", "clear", "$sys/topics")
            request.publish("m", 1, "k")
            wait_until(lambda: "m" in request.ask("get", topic="$sys/topics")["state"])
        broker.ask_admin("topic", "delete", "$sys/topics")

        def is_there():
            try:
                return request.ask("get", topic="$sys/topics")["state"].get("m", {}).get("entries") == 1
            except Refused:
                # A get makes no topic; whoever follows brings the others up to date, and this one back.
                broker.cli("sub", "--snapshot-only", "$sys/#")
                return False
        wait_until(is_there)


def test_the_command_line_reads_them():
    with Broker() as broker:
        state = json.loads(broker.cli("get", "$sys/status", "--json").stdout)["state"]
        assert state["pid"] == broker.process.pid
        lines = broker.cli("sub", "$sys/#", "--snapshot-only").stdout.splitlines()
        assert {line.split()[0] for line in lines} == BOARDS.keys() - {"$sys/dead", "$sys/topics"}, lines
        broker.cli("pub", "$sys/status", "1", expect=EXIT_REFUSED)
