"""Backpressure: who is slow waits, alone; who is held back by it waits too; nobody else notices."""

import contextlib
import subprocess
import time

from harness import STOCK, WAIT, WEIR_TEST, Broker, Op, Refused, sanitized, wait_until
from ledger import History, Ledger, catch_up, check_follower, finals, seeded

# A small ring, so that a stalled subscriber is overtaken, or blocks, after little.
SMALL = "retain_count_max=256,retain_bytes_max=16384,mailbox_max=4"
# Who is stopped answers no ping either, for as long as a slow machine takes here.
SMALL_WINDOWS = "sessions:\n  publish_window_bytes: 16384\n  outbox_bytes: 16384\n" \
    "connections:\n  heartbeat_ms: 60000\n"


def blocked(broker, session, topic="slow/a"):
    """A subscriber of policy block that takes nothing after its snapshot, and the topic full because of it."""
    session.auto_credit = False
    session.subscribe(1, topic, policy="block", outbox=4096)
    session.snapshot()
    return fill(broker, topic)


def fill(broker, topic):
    """Publishes through a session until the broker grants no more; returns session and ledger."""
    publisher = broker.session(name="publisher")
    ledger = Ledger(publisher)
    while True:
        try:
            ledger.publish(topic, (None, "x" * 1000), timeout=0.5)
        except TimeoutError:  # which a busy machine is late enough for, too
            rows = broker.ask_admin("connections")["connections"]
            # Full for a while is also a topic that has not come to its turn.
            if any(row["client"] == "publisher" and row.get("blocked_on") == topic for row in rows) and \
                    "subscriber" in broker.ask_admin("why", topic)["held_back_by"]:
                return publisher, ledger


@sanitized
def test_a_stalled_subscriber_resyncs_when_it_reads_again_and_a_fast_one_misses_nothing():
    random = seeded()
    with Broker(topics=[f"t=map,{SMALL}"], config=SMALL_WINDOWS) as broker, broker.session() as session:
        ledger = Ledger(session)
        with broker.follow("t") as fast, broker.follow("t") as stalled:
            for follower in (fast, stalled):
                follower.wait_event("end")
            stalled.pause()
            for _ in range(300):
                ledger.publish("t", *((f"k{random.randrange(50)}", "x" * random.randrange(500)) for _ in range(100)))
                ledger.settle()
            view = check_follower(broker, ledger.history, fast, ["t"], timeout=2 * WAIT)
            fast_updates = view.feeds["t"].updates
            wait_until(lambda: any(row["phase"] == "waiting" for row in
                                   broker.ask_admin("subscriptions")["subscriptions"]), what="a subscriber that waits")
            stalled.resume()
            view = check_follower(broker, ledger.history, stalled, ["t"], timeout=2 * WAIT)
            assert view.feeds["t"].resyncs >= 1, "it missed nothing although it did not read"
            assert fast_updates + view.feeds["t"].updates > 0
            assert sum(row["resyncs"] for row in broker.ask_admin("topics")["topics"]) >= 1
        assert ledger.published == ledger.acked, ledger


@sanitized
def test_a_session_without_credit_is_overtaken_and_gets_a_fresh_snapshot_in_band():
    with Broker(topics=[f"t=map,{SMALL}"], config=SMALL_WINDOWS) as broker, \
            broker.session(credit=2000, auto_credit=False) as session:
        session.subscribe(1, "t")
        assert session.snapshot()[2][3] == 0
        with broker.session() as publisher:
            ledger = Ledger(publisher)
            for number in range(2000):
                ledger.publish("t", (f"k{number % 10}", [number, "x" * 50]))
            ledger.settle()
        session.send_frame(Op.PING, 5)
        wait_pong(session)  # control never waits behind data
        session.send_frame(Op.REQUEST, 1, "get", {"topic": "t"})
        assert session.wait_for(Op.REPLY)[2] == "ok", "nor do replies"
        session.auto_credit = True
        session.grant(1 << 20)
        begin, entries, end = session.snapshot()
        assert begin[7].get("cause") == "overflow" and end[3] == 2000, (begin, end)
        newest = {f"k{number % 10}": number for number in range(1990, 2000)}
        assert {key: value[0] for key, value in entries} == newest, entries


def wait_pong(session):
    frame = [None]
    while frame[0] != Op.PONG:
        frame = session.read_frame()
        session.set_aside.append(frame)


@sanitized
def test_policy_block_holds_its_publisher_back_and_nobody_else():
    with Broker(topics=[f"slow/#=log,{SMALL}"], config=SMALL_WINDOWS) as broker:
        with broker.session(credit=1 << 14) as reader:
            publisher, ledger = blocked(broker, reader)
            held = ledger.published
            with broker.session() as other:
                others = Ledger(other)
                for number in range(100):
                    others.publish("fast/a", *((None, number) for _ in range(100)))
                others.settle()
                assert others.acked == 10_000, others
            why = broker.ask_admin("why", "slow/a")
            assert "subscriber" in why["held_back_by"] and why["client"] == "scenario", why
            row = broker.ask_admin("topics", "slow/a")["topics"][0]
            assert row["state"] == "blocked", row
            waiting = [row for row in broker.ask_admin("connections")["connections"] if row["client"] == "publisher"]
            assert waiting[0]["blocked_on"] == "slow/a", waiting
            reader.auto_credit = True
            reader.grant(1 << 20)
            for _ in range(100):
                ledger.publish("slow/a", (None, "x" * 1000))
                drain(reader)
            read_all(reader, ledger)
            assert ledger.published == ledger.acked == held + 100, ledger
        publisher.close()


def drain(session):
    """Reads what is there."""
    try:
        while True:
            session.set_aside.append(session.read_frame(0.001))
    except TimeoutError:
        pass


def read_all(reader, ledger):
    """Reads on both sides until every record is answered and delivered, each exactly once and in order."""
    end = time.monotonic() + 2 * WAIT
    while ledger.pending and time.monotonic() < end:
        ledger.take_aside()
        drain(reader)
        try:
            ledger.take(ledger.session.read_frame(0.01))
        except TimeoutError:
            pass
    at = 0
    while at < ledger.acked:
        frame = reader.next_frame()
        if frame[0] == Op.UPDATES:
            assert frame[2] == at + 1, (frame[2], at)
            at += len(frame[3]) // 2
        else:
            assert frame[0] not in (Op.BEGIN, Op.GAP, Op.RESET), "policy block leaves nothing out"


def test_cutting_the_subscriber_that_blocks_lets_the_topic_go_on():
    with Broker(topics=[f"slow/#=log,{SMALL}"], config=SMALL_WINDOWS) as broker:
        with broker.session(credit=1 << 14) as reader:
            publisher, ledger = blocked(broker, reader)
            identifier = broker.ask_admin("why", "slow/a")["connection"]
            assert broker.ask_admin("disconnect", str(identifier)) == {"disconnected": identifier}
            assert reader.wait_for(Op.CLOSE)[1] == "closed"
            reader.wait_closed()
            ledger.settle()
            assert ledger.published == ledger.acked, ledger
            assert broker.ask_admin("why", "slow/a")["held_back_by"] == "nothing"
        publisher.close()


@sanitized
def test_a_request_to_a_full_topic_is_answered_busy_after_its_deadline():
    config = SMALL_WINDOWS + "  reply_deadline_ms: 300\n"
    with Broker(topics=[f"slow/#=log,{SMALL}"], config=config) as broker:
        with broker.session(credit=1 << 14) as reader, broker.request() as request, broker.session() as patient:
            publisher, ledger = blocked(broker, reader)
            start = time.monotonic()
            try:
                request.publish("slow/a", "x")
                raise AssertionError("not refused")
            except Refused as refused:
                assert refused.code == "busy", refused
                assert (refused.details["topic"], refused.details["cause"]) == ("slow/a", "subscriber"), refused.details
                assert refused.details["retry_ms"] > 0
            assert time.monotonic() - start > 0.25
            # Who is to be answered has no deadline, which a busy machine might miss.
            seq = broker.ask_admin("topics", "slow/a")["topics"][0]["seq"]
            patient.publish("fast/a", 1)
            patient.expect(Op.ACK)
            reader.auto_credit = True
            reader.grant(1 << 20)
            read_all(reader, ledger)
            patient.publish("slow/a", "y")
            assert patient.expect(Op.ACK)[4] == ledger.acked + 1 > seq, "what was refused was not folded"
        publisher.close()


def push_rows(broker):
    return [row for row in broker.ask_admin("connections")["connections"] if row["protocol"] == "push"]


@sanitized
def test_push_backpressure_reaches_the_peers_own_send_and_others_pass_at_full_speed():
    with Broker(topics=[f"slow/#=log,{SMALL}"], config=SMALL_WINDOWS) as broker, \
            broker.session(credit=1 << 14) as reader:
        # Its many bytes a record make it far more than the kernel's buffers and the broker's receive blocks hold.
        count, topic = 50_000, "slow/" + "a" * 240
        publisher, ledger = blocked(broker, reader, topic)
        held = subprocess.Popen([STOCK / "stock_push", broker.tcp, str(count), topic], stdout=subprocess.PIPE)
        wait_until(lambda: any(row["blocked_on"] == topic for row in push_rows(broker)), what="a PUSH peer held back")
        taken = 0
        while taken != (taken := push_rows(broker)[0]["bytes_in"]):
            others = subprocess.run([STOCK / "stock_push", broker.tcp, "5000", "fast/a"], capture_output=True,
                                    text=True, timeout=WAIT)
            assert others.stdout == "sent 5000\n", others
        assert held.poll() is None and taken < count * 250 / 2, "its own send does not wait"
        wait_until(lambda: broker.get("fast/a")["seq"] >= 5000)
        reader.auto_credit = True
        reader.window = 1 << 20
        reader.grant(1 << 20)
        at = 0
        while at < ledger.published + count:
            frame = reader.wait_for(Op.UPDATES)
            assert frame[2] == at + 1, (frame[:3], at)
            at += len(frame[3]) // 2
        assert held.wait(WAIT) == 0, "it goes on when there is room"
        publisher.close()


@sanitized
def test_a_publisher_faster_than_its_topic_loses_nothing():
    rules = ["slow/#=map,mailbox_max=4"]
    with Broker(topics=rules, config=SMALL_WINDOWS, binary=WEIR_TEST) as broker, broker.session() as session:
        ledger = Ledger(session)
        with broker.follow("slow/a", options=["--policy", "block"]) as follower:
            for number in range(500):
                ledger.publish("slow/a", (f"k{number}", "slow"), timeout=3 * WAIT)
                if number == 250:
                    with broker.session() as other:
                        others = Ledger(other)
                        others.publish("fast", *((None, number) for number in range(1000)))
                        others.settle(2)
            ledger.settle(3 * WAIT)
            assert ledger.acked == 500, ledger
            view = check_follower(broker, ledger.history, follower, ["slow/a"], timeout=3 * WAIT)
            assert len(view.state("slow/a")) == 500 and view.feeds["slow/a"].resyncs == 0


@sanitized
def test_records_that_fill_their_publishers_share_of_memory_before_any_mailbox_wait_and_are_not_lost():
    share = "connections:\n  message_bytes_max: 65536\n  receive_bytes_max: 524288\n" \
        "sessions:\n  publish_window_bytes: 65536\n"
    with Broker(topics=["slow/#=map"], config=share, binary=WEIR_TEST) as broker, broker.session() as session:
        ledger = Ledger(session)
        for round in range(3):
            ledger.publish("slow/a", *((f"s{number}", "slow") for number in range(100)))
            for number in range(120):
                ledger.publish("slow/a", *((f"k{item}", round) for item in range(50 + number * 371 % 800)),
                               timeout=3 * WAIT)
            ledger.settle(3 * WAIT)
            assert ledger.published == ledger.acked and ledger.refused == 0, ledger
        assert broker.ask_admin("status")["refusals"]["memory"] == 0


@sanitized
def test_a_slow_live_feed_is_dropped_from_and_counted_and_a_fast_one_is_not():
    with Broker() as broker, broker.feed() as slow, broker.feed("t") as fast, broker.session() as session:
        ledger = Ledger(session)
        wait_until(lambda: broker.ask_admin("status")["subscriptions"] == 2, what="two who follow")
        ledger.publish("t", (None, "first"))
        assert fast.next()[1:] == (1, None, "first")
        for number in range(3000):
            ledger.publish("t", (None, "x" * 4000))
            assert fast.next()[1] == number + 2
        ledger.settle()
        seqs = []

        def dropped():
            rows = [row for row in broker.ask_admin("connections")["connections"] if row["protocol"] == "sub"]
            return sorted(row["dropped"] for row in rows)

        def is_all_there():
            with contextlib.suppress(TimeoutError):
                while True:
                    seqs.append(slow.next(0.1)[1])
            return len(seqs) + dropped()[1] == 3001

        wait_until(is_all_there, what="each record, delivered or counted as dropped")
        assert dropped() == [0, 3001 - len(seqs)] and len(seqs) < 3001, dropped()
        assert broker.ask_admin("status")["records_dropped"] == dropped()[1]
        session.publish("t", "last")
        seqs.append(slow.next()[1])
        assert seqs == sorted(set(seqs)) and seqs[-1] == 3002, "in order, never twice"


def test_a_follower_that_does_not_read_costs_the_others_no_time():
    with Broker(config=SMALL_WINDOWS) as broker, broker.session() as session:
        ledger = Ledger(session)
        with broker.follow("t/#") as fast, broker.follow("#") as stalled:
            fast.wait_event("subscribed")
            stalled.wait_event("subscribed")
            stalled.pause()
            for round in range(50):
                for topic in range(10):
                    ledger.publish(f"t/{topic}", *((None, "x" * 500) for _ in range(20)))
                ledger.settle()
            topics = [f"t/{topic}" for topic in range(10)]
            catch_up(fast, finals(broker, topics), 2 * WAIT)
            stalled.resume()
            check_follower(broker, ledger.history, stalled, topics, timeout=2 * WAIT)
            check_follower(broker, ledger.history, fast, topics)


def test_a_subscriber_that_cannot_keep_up_is_dealt_with_by_its_policy():
    with Broker(topics=[f"t=log,{SMALL}"], config=SMALL_WINDOWS) as broker, broker.session() as session:
        ledger = Ledger(session)
        with broker.follow("t", options=["--policy", "drop"]) as dropping, \
                broker.follow("t", options=["--policy", "disconnect"]) as cut, \
                broker.follow("t", options=["--policy", "block", "--block-ms", "100"]) as blocking:
            for follower in (dropping, cut, blocking):
                follower.wait_event("end")
                follower.pause()
            for _ in range(300):
                ledger.publish("t", *((None, "x" * 500) for _ in range(20)))
                ledger.settle(timeout=4 * WAIT)
            assert ledger.published == ledger.acked, ledger
            seq = ledger.acked
            for follower in (dropping, cut, blocking):
                follower.resume()
            ended = cut.wait_event("ended")
            assert (ended["code"], ended.get("topic")) == ("closed", None), ended
            catch_up_to(dropping, seq)
            gaps = [event for event in dropping.events if event["event"] == "gap"]
            assert gaps and all(gap["cause"] == "overflow" for gap in gaps), gaps
            assert sum(event["event"] == "begin" for event in dropping.events) == 1, "a drop is no resync"
            assert_contiguous(dropping.events)
            catch_up_to(blocking, seq)
            begins = [event for event in blocking.events if event["event"] == "begin"]
            assert len(begins) > 1 and begins[1]["cause"] == "overflow", begins


@sanitized
def test_a_conflated_subscriber_gets_the_newest_of_each_key_and_the_state_whole():
    random = seeded()
    small = SMALL.replace("16384", "1048576").replace("256", "65536")
    with Broker(topics=[f"t=map,{small}"], config=SMALL_WINDOWS) as broker, broker.session() as session:
        ledger = Ledger(session)
        with broker.follow("t", options=["--policy", "conflate"]) as stalled, \
                broker.follow("t", options=["--policy", "conflate", "--interval-ms", "200"]) as paced:
            for follower in (stalled, paced):
                follower.wait_event("end")
            stalled.pause()
            for _ in range(200):
                ledger.publish("t", *((f"k{random.randrange(50)}", random.choice(("x" * random.randrange(300), None)))
                                      for _ in range(50)))
                ledger.settle(timeout=4 * WAIT)
            stalled.resume()
            for follower in (stalled, paced):
                view = check_follower(broker, ledger.history, follower, ["t"], timeout=4 * WAIT)
                feed = view.feeds["t"]
            assert feed.conflated > 0 and feed.snapshots == 1, (feed.conflated, feed.snapshots)
            conflations = [event for event in paced.events if event["event"] == "conflated"]
            assert {event["cause"] for event in conflations} <= {"interval", "overflow"}, conflations[:5]


@sanitized
def test_who_comes_back_late_gets_only_what_has_changed():
    with Broker(topics=["t=map,retain_count_max=10"]) as broker, broker.request() as request:
        history = History()
        def publish(key, value):
            result = request.publish("t", value, key)
            history.published("t", key, value, result["epoch"], result["seq"])
            return result
        for number in range(100):
            last = publish(f"k{number}", number)
        publish("k7", None)
        for number in range(20):
            publish(f"k{number % 5}", -number)
        with broker.follow("t", options=["--since", f"t:{last['epoch']}:{last['seq']}"]) as follower:
            end = follower.wait_event("end")
        begin = next(event for event in follower.events if event["event"] == "begin")
        entries = {event["key"]: event["value"] for event in follower.events if event["event"] == "entry"}
        assert begin["delta"] and end["delta"] and begin["cause"] == "trimmed", (begin, end)
        assert entries == {"k7": None, **{f"k{number % 5}": -number for number in range(20)}}, entries


def catch_up_to(follower, seq):
    """Waits until the follower has been told of everything up to seq."""
    follower.wait(lambda event: (event.get("to") or event.get("seq") or 0) >= seq, 2 * WAIT)


def assert_contiguous(events):
    """No update is missing, twice or out of order, but for those that a gap or a conflation names."""
    at = None
    for event in events:
        if event["event"] == "end":
            at = event["seq"]
        elif event["event"] == "update":
            assert event["seq"] == at + 1, (event, at)
            at = event["seq"]
        elif event["event"] in ("gap", "conflated"):
            assert event["from"] == at + 1 and event["to"] >= event["from"], (event, at)
            at = event["to"]


def test_a_crowd_of_joins_does_not_starve_a_single_one():
    config = "topics:\n  join_bytes_per_s: 40000\n  join_burst_bytes: 1000\n"
    with Broker(topics=["crowd/#=map", "single=map"], config=config) as broker, broker.session() as session:
        ledger = Ledger(session)
        for number in range(60):
            ledger.publish(f"crowd/{number}", *((f"k{key}", "x" * 500) for key in range(40)))
        ledger.publish("single", *((f"k{key}", "x" * 500) for key in range(40)))
        ledger.settle(timeout=4 * WAIT)
        with broker.follow("crowd/#") as crowd:
            crowd.wait_event("subscribed")
            wait_until(lambda: broker.ask_admin("status")["joins_waiting"] > 40, what="joiners that wait")
            assert "admission" in broker.ask_admin("why", "crowd/0")["joins_held_back_by"]
            assert any(row["phase"] == "admission" for row in broker.ask_admin("subscriptions")["subscriptions"])
            with broker.follow("single") as single:
                single.wait_event("end")
                assert broker.ask_admin("status")["joins_waiting"] > 10, "it waited for all of the crowd"
        wait_until(lambda: broker.ask_admin("status")["joins_waiting"] == 0, what="a bucket that nobody waits for")
