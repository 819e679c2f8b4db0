"""What once let a client harm others: each of these peers only does what any peer may do."""

import json
import socket

from harness import Broker, Op, Refused, sanitized, wait_until


@sanitized
def test_the_admin_socket_outlives_clients_that_connect_and_close_at_once():
    with Broker() as broker:
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(broker.admin.removeprefix("ipc://"))
        assert broker.ask_admin("status")["connections"] == 0


@sanitized
def test_two_sessions_that_block_each_other_let_go_when_one_vanishes():
    with Broker(config="topics:\n  defaults:\n    kind: map\n    mailbox_max: 4\n") as broker:
        with broker.session(credit=0) as left, broker.session(credit=0) as right:
            for session, topic in ((left, "a"), (right, "b")):
                session.subscribe(1, topic, policy="block", outbox=100)
                session.wait_for(Op.SUBSCRIBED)
            for _ in range(50):
                left.publish("b", ("k", "x" * 20_000), ack="none")
                right.publish("a", ("k", "x" * 20_000), ack="none")
            wait_until(lambda: broker.ask_admin("why", "a").get("since_ms", 0) > 0, what="both held back")
            left.close_hard()
            wait_until(lambda: broker.ask_admin("topics", "a")["topics"][0]["seq"] == 50,
                       what="the records of the other")


@sanitized
def test_a_member_of_a_merged_map_never_outgrows_a_message():
    with Broker(topics=["g=merge"]) as broker, broker.request() as request, broker.session() as session:
        refusals = 0
        for number in range(8):
            try:
                request.publish("g", {"n": number, "m": {f"k{number}": "x" * 200_000}})
            except Refused as error:
                assert error.code == "too-big", error.code
                refusals += 1
        assert refusals == 3, refusals
        session.subscribe(1, "g")
        _, entries, _ = session.snapshot()
        members = {key: value for _, entry in entries for key, value in entry.items()}
        assert len(entries) == 2 and members["n"] == 4 and len(members["m"]) == 5, "refused, and left traces"


@sanitized
def test_a_merged_map_larger_than_a_message_comes_in_parts():
    with Broker(topics=["g=merge"]) as broker, broker.request() as request, broker.session() as session:
        wanted = {f"k{number}": "x" * 20_000 for number in range(200)}
        for key, value in wanted.items():
            request.publish("g", {key: value})
        session.subscribe(1, "g")
        begin, entries, _ = session.snapshot()
        assert {key: value for _, entry in entries for key, value in entry.items()} == wanted and len(entries) == 200
        assert begin[4] == "merge", begin
        assert "too-big" in broker.cli("get", "g", expect=1).stderr
        assert json.loads(broker.cli("get", "g", "--all", "--limit", "20").stdout) == wanted
        seen, after = {}, {}
        while after is not None:
            page = request.ask("get", topic="g", limit=30, **after)
            seen.update(page["state"])
            after = {"after": page["next"]} if "next" in page else None
        assert seen == wanted
