"""Publishing with options: numbered records are folded once whatever becomes of the connection, of those that race one
wins, and keys end with their time or their session before everybody's eyes."""

import json
import subprocess
import threading

from harness import BINARY, EXIT_OK, EXIT_REFUSED, EXIT_USAGE, WAIT, Broker, Op, Refused, sanitized, wait_until
from session import pairs

RULES = ["log/#=log,log_count_max=1000000,state_bytes_max=67108864", "map/#=map,bind_grace_ms=300",
         "slow/#=map,bind_grace_ms=600000", "brief/#=map,ttl_ms=200", "last/#=last"]


def connection_of(admin, name):
    rows = [row["id"] for row in admin.ask("connections")["connections"] if row["client"].startswith(name)]
    return max(rows, default=0)


def seq_of(admin, topic):
    return max((row["seq"] for row in admin.ask("topics", pattern=topic)["topics"]), default=0)


@sanitized
def test_a_publisher_that_is_cut_amid_its_records_loses_and_doubles_nothing():
    cuts, is_enough, fed = 6, threading.Event(), 0
    with Broker(topics=RULES) as broker, broker.admin_request() as admin:
        pub = subprocess.Popen([BINARY, "pub", "-s", broker.tcp, "--json", "--publisher", "till-7", "log/a", "--stdin"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def feed():  # without a pause, so that every cut meets records on their way
            nonlocal fed
            while not is_enough.is_set():
                pub.stdin.write(f"{fed}\n")
                fed += 1

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            last = 0
            for _ in range(cuts):
                wait_until(lambda: connection_of(admin, "weir") > last)
                last = connection_of(admin, "weir")
                seq = seq_of(admin, "log/a")
                wait_until(lambda: seq_of(admin, "log/a") > seq)
                admin.ask("disconnect", id=last)
            wait_until(lambda: connection_of(admin, "weir") > last)
            is_enough.set()
            feeder.join()
            out, _ = pub.communicate(timeout=WAIT)
        finally:
            is_enough.set()
            pub.kill()
            feeder.join()
        assert pub.returncode == EXIT_OK, pub.returncode
        assert json.loads(out) == {"published": fed, "acked": fed, "refused": 0, "unknown": 0}, out
        with broker.session() as session:
            session.subscribe(1, "log/a", updates=False)
            begin, entries, _ = session.snapshot()
        assert begin[6] == fed, begin  # as many seqs as records
        assert [value for _, value in entries] == list(range(fed))


@sanitized
def test_of_those_that_race_for_a_key_one_wins_each_round():
    with Broker(topics=RULES) as broker, broker.session() as one, broker.session() as other:
        seq = 0
        for at in range(200):
            sessions = (one, other) if at % 2 else (other, one)
            for session in sessions:
                session.publish_with("map/lock", {"if_seq": seq}, ("k", at))
            answers = [session.next_frame() for session in sessions]
            won = [answer for answer in answers if answer[0] == Op.ACK]
            lost = [answer for answer in answers if answer[0] == Op.REFUSED]
            assert len(won) == 1 and len(lost) == 1, answers
            seq = won[0][4]
            assert seq == at + 1 and lost[0][3] == "conflict", answers
            assert lost[0][5]["cause"] == "if_seq" and lost[0][5]["seq"] == seq, answers


@sanitized
def test_keys_end_with_their_time_or_their_session():
    with Broker(topics=RULES) as broker, broker.session() as watcher:
        broker.cli("pub", "map/a", "x", "--key", "first")
        watcher.subscribe(1, "map/a")
        watcher.snapshot()
        seen = []

        def updates(count):
            while len(seen) < count:
                seen.extend(pairs(watcher.wait_for(Op.UPDATES)[3]))
            return seen

        broker.cli("pub", "map/a", "x", "--key", "brief", "--ttl-ms", "200")
        broker.cli("pub", "map/a", "x", "--key", "lasting")
        assert [value for key, value in updates(3) if key == "brief"] == ["x", None], seen
        del seen[:]
        with broker.session() as next_owner:
            with broker.session() as owner:
                for key in ("mine", "kept"):
                    owner.publish_with("map/a", {"bind": True}, (key, 1))
                    owner.expect(Op.ACK)
                next_owner.publish_with("map/a", {"bind": True}, ("kept", 2))
                next_owner.expect(Op.ACK)
            assert updates(4) == [("mine", 1), ("kept", 1), ("kept", 2), ("mine", None)], seen
        assert updates(5)[4] == ("kept", None), seen
        assert broker.get("map/a")["state"] == {"first": "x", "lasting": "x"}


@sanitized
def test_a_rule_gives_records_a_time_and_a_grace_can_be_long():
    with Broker(topics=RULES) as broker:
        broker.cli("pub", "brief/a", "x", "--key", "k")
        wait_until(lambda: broker.get("brief/a")["seq"] == 2)
        assert broker.get("brief/a")["state"] == {}
        with broker.session() as owner:
            owner.publish_with("slow/a", {"bind": True}, ("k", 1))
            owner.expect(Op.ACK)
        with broker.admin_request() as admin:
            wait_until(lambda: not connection_of(admin, "scenario"))
        assert broker.get("slow/a")["state"] == {"k": 1}


@sanitized
def test_a_record_that_its_topics_kind_does_not_take_is_refused_with_what_it_lacks():
    with Broker(topics=RULES) as broker, broker.session() as session, broker.request() as request:
        for topic, options, key in (("log/a", {"bind": True}, "k"), ("log/a", {"ttl_ms": 5}, "k"), ("map/a", {}, None)):
            session.publish_with(topic, options, (key, 1))
            refused = session.expect(Op.REFUSED)
            assert refused[3] == "bad-request" and "a map needs a key; ttl_ms and bind go with" in refused[4], refused
            with_key = {"key": key} if key else {}
            try:
                answer = request.ask("publish", topic=topic, value=1, **options, **with_key)
            except Refused as error:
                answer = error.details
            assert answer.get("message") == refused[4], answer
        broker.cli("pub", "log/a", "taken")
        assert broker.get("log/a")["seq"] == 1 and not broker.get("map/a")["state"]


@sanitized
def test_requests_are_folded_once_and_told_what_is_there():
    with Broker(topics=RULES) as broker, broker.request() as request:
        arguments = {"topic": "last/a", "value": 1, "publisher": "gate", "number": 5}
        first = request.ask("publish", **arguments)
        assert request.ask("publish", **arguments) == first
        try:
            request.ask("publish", **{**arguments, "value": 2})
            raise AssertionError("another value under the same number was taken")
        except Refused as refused:
            assert refused.code == "conflict", refused
        assert broker.get("last/a")["seq"] == 1
        status = broker.ask_admin("status")
        assert status["records_duplicate"] == 1 and status["records_folded"] == 1, status
        assert broker.ask_admin("topics", "last/a")["topics"][0]["duplicates"] == 1


@sanitized
def test_the_command_line_says_what_is_in_the_way():
    with Broker(topics=RULES) as broker:
        broker.cli("pub", "map/a", "x", "--key", "k", "--if-absent")
        said = broker.cli("pub", "map/a", "y", "--key", "k", "--if-absent", expect=EXIT_REFUSED)
        assert "conflict, seq 1" in said.stderr, said
        broker.cli("pub", "map/a", "y", "--key", "k", "--if-seq", "1")
        broker.cli("pub", "map/a", "y", "--if-seq", "1", "--if-absent", expect=EXIT_USAGE)
        broker.cli("pub", "map/a", "y", "--ttl-ms", "0", expect=EXIT_USAGE)
        broker.cli("pub", "map/a", "y", "--publisher", "n" * 65, expect=3)
        assert broker.get("map/a")["seq"] == 2


@sanitized
def test_the_newer_of_two_sessions_of_a_publisher_stays():
    with Broker(topics=RULES) as broker, broker.session(publisher="till") as first:
        with broker.session(publisher="till") as second:
            closed = first.expect(Op.CLOSE)
            assert closed[1] == "conflict", closed
            second.publish("map/a", ("k", 1))
            second.expect(Op.ACK)
