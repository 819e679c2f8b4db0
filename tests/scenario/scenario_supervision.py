"""Failures: a topic that fails restarts from its last good state with its mailbox kept; a record that keeps failing is
quarantined, told of and can be replayed. With weir-test, whose map topics fail on demand."""

import json

from harness import WAIT, WEIR_TEST, Broker, Op, Refused, sanitized, wait_until
from ledger import Ledger, check_follower

RULES = ["m/#=map"]


def dead_rows(broker, *topic):
    return broker.ask_admin("dead", *topic)["dead"]


@sanitized
def test_a_record_that_keeps_failing_is_quarantined_and_its_publisher_told():
    with Broker(topics=RULES, binary=WEIR_TEST) as broker, broker.session() as session:
        session.publish("m/a", ("good", 1), ("bad", "fail always"), ("after", 2))
        frames = [session.wait_for(Op.ACK), session.wait_for(Op.REFUSED, 2 * WAIT), session.wait_for(Op.ACK, 2 * WAIT)]
        assert frames[0][1:3] == [1, 1] and frames[1][1:4] == [2, 1, "poisoned"] and frames[2][1:3] == [3, 1], frames
        answer = broker.get("m/a")
        assert (answer["state"], answer["seq"]) == ({"good": 1, "after": 2}, 2), "it left no trace"
        wait_until(lambda: dead_rows(broker), what="the quarantine")
        row, = dead_rows(broker, "m/a")
        assert (row["topic"], row["key"], row["value"], row["attempts"]) == ("m/a", "bad", "fail always", 3), row
        assert row["cause"], row
        status = broker.ask_admin("status")
        assert status["records_dead"] == 1 and status["runtime"]["restarts"] >= 2, status
        with broker.request() as request:
            try:
                request.publish("m/a", "fail always", "bad")
                raise AssertionError("taken")
            except Refused as refused:
                assert refused.code == "poisoned", refused


@sanitized
def test_a_record_that_fails_twice_is_folded_in_the_end():
    with Broker(topics=RULES, binary=WEIR_TEST) as broker, broker.session() as session:
        session.publish("m/a", ("k", 1), ("k", "fail twice"), ("l", 2))
        acked = 0
        while acked < 3:
            acked += session.wait_for(Op.ACK, 2 * WAIT)[2]
        assert broker.get("m/a")["state"] == {"k": "fail twice", "l": 2} and dead_rows(broker) == []


@sanitized
def test_followers_of_a_failing_topic_keep_every_promise_and_its_mailbox_is_kept():
    with Broker(topics=RULES, binary=WEIR_TEST) as broker, broker.session() as session, \
            broker.follow("m/#") as follower:
        follower.wait_event("subscribed")
        ledger = Ledger(session)
        for number in range(600):
            value = "fail always" if number in (100, 101, 400) else number
            ledger.publish("m/a", (f"k{number}", value))
            ledger.publish("m/b", (f"k{number}", number))
        ledger.settle(4 * WAIT)
        assert (ledger.acked, ledger.codes) == (1197, {"poisoned": 3}), ledger
        view = check_follower(broker, ledger.history, follower, ["m/a", "m/b"])
        assert len(view.state("m/a")) == 597 and len(view.state("m/b")) == 600
        assert view.feeds["m/a"].epoch == broker.get("m/a")["epoch"], "its history was not lost"
        wait_until(lambda: len(dead_rows(broker, "m/a")) == 3, what="three in quarantine")
        row, = broker.ask_admin("topics", "m/a")["topics"]
        assert row["restarts"] >= 3 and row["dead"] == 3, row
        tree = {row["name"].strip(): row for row in broker.ask_admin("tree")["tree"]}
        failed = next(row for name, row in tree.items() if "m/a" in name)
        assert failed["restarts"] >= 3 and failed["last_cause"], failed
        assert tree["broker"]["restarts"] == 0, "nothing escalated"


@sanitized
def test_dead_records_are_replayed_once_the_fault_is_mended_or_dropped():
    deep = json.loads("[" * 64 + '"fail broken"' + "]" * 64)
    with Broker(topics=RULES, start=False, binary=WEIR_TEST, config="connections:\n  depth_max: 64\n") as broker:
        broken = broker.directory / "broken"
        broken.touch()
        broker.environment["WEIR_TEST_BROKEN"] = str(broken)
        broker.start()
        with broker.session() as session:
            ledger = Ledger(session)
            ledger.publish("m/a", ("x", "fail broken"), ("y", "fail broken"), ("z", 1), ("deep", deep))
            ledger.publish("m/b", ("x", "fail always"))
            ledger.settle(4 * WAIT)
            assert ledger.refused == 4, ledger
        wait_until(lambda: len(dead_rows(broker)) == 4, what="four in quarantine")
        assert [row["key"] for row in dead_rows(broker, "m/a")] == ["x", "y", "deep"]
        assert broker.get("$dead/m/a")["state"][2]["value"] == deep
        with broker.follow("$dead/m/#", options=["--snapshot-only"]) as follower:
            assert deep in [event["value"]["value"] for event in follower.rest() if event["event"] == "entry"]
        broken.unlink()
        assert broker.ask_admin("dead", "replay", "m/a") == {"topic": "m/a", "replayed": 3, "refused": 0}
        assert broker.get("m/a")["state"] == {"z": 1, "x": "fail broken", "y": "fail broken", "deep": deep}
        assert dead_rows(broker, "m/a") == []
        assert broker.ask_admin("dead", "drop", "m/b") == {"topic": "m/b", "dropped": 1}
        assert dead_rows(broker) == [] and broker.get("m/b")["state"] == {}
        with broker.follow("$dead/#", options=["--snapshot-only"]) as follower:
            assert not [event for event in follower.rest() if event["event"] == "entry"]


@sanitized
def test_a_replay_that_fails_again_is_quarantined_again():
    with Broker(topics=RULES, binary=WEIR_TEST) as broker, broker.session() as session:
        session.publish("m/a", ("k", "fail always"))
        session.wait_for(Op.REFUSED, 2 * WAIT)
        wait_until(lambda: dead_rows(broker))
        answer = broker.ask_admin("dead", "replay", "m/a")
        assert answer["refused"] == 1, answer
        wait_until(lambda: len(dead_rows(broker, "m/a")) == 1, what="its return to the quarantine")


@sanitized
def test_quarantined_records_can_be_followed_and_are_bounded():
    config = "topics:\n  dead_count_max: 2\n"
    with Broker(topics=RULES, config=config, binary=WEIR_TEST) as broker, broker.session() as session:
        ledger = Ledger(session)
        with broker.follow("$dead/#") as follower:
            follower.wait_event("subscribed")
            for number in range(3):
                ledger.publish("m/a", (f"k{number}", "fail always"))
            ledger.settle(6 * WAIT)
            wait_until(lambda: broker.ask_admin("status")["records_dead"] == 3)
            seen = []
            while len(seen) < 3:
                event = follower.next()
                if event["event"] in ("entry", "update"):
                    assert event["topic"] == "$dead/m/a" and event["value"]["attempts"] == 3, event
                    seen.append(event["value"]["key"])
            assert seen == [f"k{number}" for number in range(3)], seen
        assert [row["key"] for row in dead_rows(broker)] == [f"k{number}" for number in (1, 2)], "the newest two"


@sanitized
def test_only_what_has_failed_is_restarted_by_hand():
    with Broker(topics=RULES, binary=WEIR_TEST) as broker, broker.request() as request, broker.admin_request() as admin:
        request.publish("m/a", 1, "k")
        try:
            admin.ask("restart", actor="connections")
        except Refused as refused:
            assert refused.code == "forbidden", refused
        # Connections that come while their supervisor restarts are cut with the others.
        answers = []

        def is_answered():
            answers.append(broker.cli("get", "m/a", "--json", expect=None))
            return answers[-1].returncode == 0

        wait_until(is_answered, what="an answer after the restart")
        assert json.loads(answers[-1].stdout)["state"] == {"k": 1}, "its state is kept in any case"
