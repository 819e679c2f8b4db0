"""Clients and brokers that are killed: nobody else notices, and what was promised holds across the gap."""

import json
import os
import random
import signal
import subprocess
import threading

from harness import BINARY, WAIT, Broker, Op, Peer, sanitized, wait_until
from ledger import History, Ledger, Load, check_follower, finals, seeded
from sp import PAIR0, PUSH0, pack


@sanitized
def test_kill_9_of_a_client_in_the_middle_of_a_frame_is_noticed_by_nobody():
    source = random.Random(5)
    with Broker(topics=["m=map"]) as broker, broker.session() as session, broker.follow("m") as follower:
        ledger = Ledger(session)
        for round in range(10):
            victim = os.fork()
            if victim == 0:
                half_a_frame(broker.tcp if round % 2 else broker.ipc, source.randrange(10_000))
            wait_until(lambda: any(row["client"] == "victim" or row["protocol"] == "push"
                                   for row in broker.ask_admin("connections")["connections"]), what="the victim")
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
            ledger.publish("m", (f"k{round}", round))
            ledger.settle()
        wait_until(lambda: len(broker.ask_admin("connections")["connections"]) == 2, what="the victims' ends")
        check_follower(broker, ledger.history, follower, ["m"])
        assert broker.get("m")["seq"] == 10, "of half a frame nothing was taken"


def half_a_frame(url, cut):
    """In a process of its own: a session's or a PUSH peer's message, cut off; then waits to be killed."""
    try:
        if cut % 2:
            peer = Peer(url, PAIR0)
            peer.send(pack([0, 1, {"client": "victim", "credit": 1 << 20}]))
            body = pack([9, "m", 1, 2, ["half", "x" * 10_000]])
        else:
            peer = Peer(url, PUSH0)
            body = pack(["m", "x" * 10_000, "half"])
        peer.send_bytes((peer.prefix(len(body)) + body)[:cut + 20])
        signal.pause()
    finally:
        os._exit(1)


@sanitized
def test_clients_killed_while_they_publish_and_follow_leave_sums_that_agree():
    with Broker(topics=["l=log"]) as broker, broker.follow("l") as bystander:
        for round in range(4):
            publishing = subprocess.Popen([BINARY, "pub", "-s", broker.tcp, "l", "--stdin"], stdin=subprocess.PIPE,
                                          text=True)
            feeding = threading.Thread(target=feed, args=(publishing,), daemon=True)
            feeding.start()
            with broker.follow("l") as follower:
                follower.wait_event("update")
                follower.process.kill()
                publishing.kill()
                publishing.wait()
                feeding.join(WAIT)
        wait_until(lambda: len(broker.ask_admin("connections")["connections"]) == 1, what="their ends")
        wait_until(lambda: all_is_folded(broker), what="the last fold")
        status = broker.ask_admin("status")
        assert status["records_in"] == status["records_accepted"] + status["records_refused"], status
        assert status["records_folded"] == broker.get("l")["seq"] <= status["records_accepted"], status
        check_follower(broker, History(), bystander, ["l"], timeout=2 * WAIT)


def all_is_folded(broker):
    """What was accepted may be on its way into its topic still."""
    status = broker.ask_admin("status")
    return status["records_folded"] == status["records_accepted"]


def feed(process):
    try:
        while True:
            process.stdin.write("line\n" * 100)
    except (BrokenPipeError, ValueError):
        pass


def last_begins(follower):
    """The newest begin of each topic. It may come before its session's "subscribed": these have no order."""
    return {event["topic"]: event for event in follower.events if event["event"] == "begin"}.values()


@sanitized
def test_clients_go_on_when_their_broker_is_killed_and_comes_back():
    source = seeded()
    with Broker(topics=["m/#=map"]) as broker:
        with broker.follow("m/#") as follower, broker.follow("m/1", options=["--policy", "block"]) as second:
            command = [BINARY, "pub", "-s", broker.tcp, "--records", "--json", "--timeout", "20000"]
            publishing = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                          stderr=subprocess.PIPE, text=True)
            written = 0

            def write(count):
                nonlocal written
                for _ in range(count):
                    record = {"topic": f"m/{source.randrange(3)}", "key": f"k{source.randrange(30)}", "value": written}
                    publishing.stdin.write(json.dumps(record) + "\n")
                    written += 1
                publishing.stdin.flush()

            for round in range(3):
                write(500)
                for _ in range(20):
                    follower.wait(lambda event: event["event"] in ("update", "entry"), 2 * WAIT)
                broker.kill()
                write(50)
                broker.start()
            write(500)
            output, errors = publishing.communicate(timeout=3 * WAIT)
            counts = json.loads(output.splitlines()[-1])
            assert counts["published"] == written, (counts, written)
            assert counts["published"] == counts["acked"] + counts["refused"] + counts["unknown"], counts
            assert counts["refused"] == 0 and publishing.returncode in (0, 3), (counts, errors)
            rows = broker.ask_admin("topics", "m/#")["topics"]
            epochs = {row["topic"]: row["epoch"] for row in rows}
            check_follower(broker, History(), follower, list(epochs), timeout=3 * WAIT)
            check_follower(broker, History(), second, ["m/1"], timeout=3 * WAIT)
            resumed = [event for event in follower.events if event["event"] == "begin" and event["resumed"]]
            assert not resumed, "no cursor of an earlier epoch is honoured"
            fresh = last_begins(follower)
            assert {event["topic"]: event["epoch"] for event in fresh} == epochs, (fresh, epochs)
            assert all(event["cause"] in ("epoch", "new") for event in fresh), fresh


@sanitized
def test_a_follower_resumes_from_its_cursor_after_a_lost_connection():
    random_source = seeded()
    with Broker(topics=["m/#=map"]) as broker, Load(broker, ["m/1", "m/2"], random_source, batch=5, pause=0.01) as load:
        with broker.follow("m/#") as follower:
            cut = 0

            def connection():  # feeds of the last one may be there still
                return max((row["connection"] for row in broker.ask_admin("subscriptions")["subscriptions"]), default=0)

            for _ in range(5):
                follower.wait_event("update")
                wait_until(lambda: connection() > cut, what="its feeds")
                cut = connection()
                broker.ask_admin("disconnect", cut)
                follower.wait(lambda event: event["event"] == "begin" and event["resumed"], 2 * WAIT)
            ledger = load.stop()
            view = check_follower(broker, ledger.history, follower, ["m/1", "m/2"], timeout=2 * WAIT)
            for topic in ("m/1", "m/2"):
                feed = view.feeds[topic]
                assert feed.updates >= finals(broker, [topic])[topic][1] - 200, "from the retained updates"


@sanitized
def test_a_publisher_that_loses_its_connection_knows_what_it_does_not_know():
    with Broker(topics=["l=log"]) as broker:
        session = broker.session(name="cut")
        ledger = Ledger(session)
        for number in range(200):
            ledger.publish("l", (None, number))
        identifier = next(row["id"] for row in broker.ask_admin("connections")["connections"])
        broker.ask_admin("disconnect", identifier)
        while True:
            frame = session.next_frame()
            if frame[0] == Op.CLOSE:
                break
            ledger.take(frame)
        session.close()
        wait_until(lambda: broker.ask_admin("connections")["connections"] == [], what="its end")
        wait_until(lambda: all_is_folded(broker), what="the last fold")
        seq = broker.get("l")["seq"]
        assert ledger.published == ledger.acked + ledger.refused + ledger.unknown
        assert ledger.acked <= seq <= ledger.acked + ledger.unknown, (ledger, seq)
        assert broker.get("l")["state"] == list(range(seq)), "in order, nothing twice"
