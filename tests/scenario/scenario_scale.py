"""Many: topics, connections, subscriptions; and the limits on each."""

import contextlib
import resource

from harness import WAIT, Broker, Closed, Op, Peer, Push, Request, sanitized, wait_until
from ledger import History, Ledger, catch_up, check_follower, finals
from sp import PUSH0


def files_needed(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count)), hard))


def test_ten_thousand_topics_are_followed_listed_and_limited():
    count = 10_000
    config = f"topics:\n  max: {count}\n"
    with Broker(config=config, topics=["t/#=map"]) as broker, broker.session() as session:
        ledger, topics = Ledger(session), [f"t/{number}" for number in range(count)]
        for topic in topics:
            ledger.publish(topic, ("k", topic))
        ledger.settle(6 * WAIT)
        assert ledger.acked == count, ledger
        with broker.follow("t/#") as follower:
            catch_up(follower, {topic: (epoch, 1) for topic, (epoch, _) in epochs(ledger, topics).items()}, 6 * WAIT)
            for topic in topics:
                ledger.publish(topic, ("k2", 2))
            ledger.publish("t/one-too-many", ("k", 1))
            ledger.settle(6 * WAIT)
            assert (ledger.acked, ledger.refused) == (2 * count, 1), ledger
            ends = {topic: (epoch, 2) for topic, (epoch, _) in epochs(ledger, topics).items()}
            catch_up(follower, ends, 6 * WAIT)
            view = ledger.history.check(follower.events, finals=ends)
            assert all(view.state(topic) == {"k": topic, "k2": 2} for topic in topics)
        with broker.request() as request:
            listed = request.ask("list", 6 * WAIT, pattern="t/+")["topics"]
            assert {row["topic"] for row in listed} == set(topics) and all(row["seq"] == 2 for row in listed)
        assert len(broker.ask_admin("topics")["topics"]) == count
        assert broker.memory() < 400 << 20, f"{broker.memory() >> 20} MiB"


def frames_of(session, op, count):
    """The next so many frames of one op; others are passed over, not kept."""
    found = []
    while len(found) < count:
        frame = session.next_frame(3 * WAIT)
        if frame[0] == op:
            found.append(frame)
    return found


def test_one_session_follows_a_hundred_thousand_topics_and_leaves_them():
    """With the default bounds of memory: only the counts are raised."""
    count = 100_000
    config = (f"sessions:\n  subscriptions_max: {count}\n"
              f"topics:\n  max: {count + 10}\n  subscriptions_max: {count + 10}\n")
    with Broker(config=config) as broker, broker.session() as session:
        topic_of = {}
        for start in range(0, count, 1000):
            for sub in range(start, start + 1000):
                session.subscribe(sub, f"t/{sub}")
            topic_of.update((begin[1], begin[3]) for begin in frames_of(session, Op.BEGIN, 1000))
        assert topic_of == {sub: f"t/{sub}" for sub in range(count)}
        status = broker.ask_admin("status")
        assert (status["subscriptions"], status["feeds"]) == (count, count), status
        session.subscribe(count - 1, "t/again")
        assert frames_of(session, Op.UNSUBSCRIBED, 1)[0][1:3] == [count - 1, "bad-request"], "that number is taken"
        left = set(range(0, count, 7))
        for sub in left:
            session.send_frame(Op.UNSUBSCRIBE, sub)
        assert {frame[1] for frame in frames_of(session, Op.UNSUBSCRIBED, len(left))} == left
        assert broker.ask_admin("status")["subscriptions"] == count - len(left)
        published = (0, 1, 7, 65_535, 65_536, 65_537, 98_000, 99_999)
        with broker.session() as publisher:  # only now: meanwhile it would have to answer pings
            for sub in published:
                publisher.publish(f"t/{sub}", sub)
        stay = [sub for sub in published if sub not in left]
        assert sorted(frame[3][1] for frame in frames_of(session, Op.UPDATES, len(stay))) == stay


def epochs(ledger, topics):
    return {topic: (next(iter(ledger.history.records[topic])), 0) for topic in topics}


def test_a_thousand_connections_idle_and_then_publish_all():
    files_needed(4096)
    count = 1000
    with Broker(topics=["all=log,log_count_max=0"]) as broker, broker.follow("all") as follower, \
            contextlib.ExitStack() as stack:
        follower.wait_event("end")
        before = broker.memory()
        peers = [stack.enter_context(Request(broker.tcp if number % 2 else broker.ipc)) for number in range(count)]
        wait_until(lambda: broker.ask_admin("status")["connections"] == count + 1, 3 * WAIT)
        used = broker.cpu_seconds()
        assert len(broker.ask_admin("connections")["connections"]) == count + 1
        assert broker.memory() - before < 100 << 20, f"{(broker.memory() - before) >> 20} MiB for {count} idle ones"
        for number, peer in enumerate(peers):
            peer.send_request("publish", {"topic": "all", "value": number})
        history, seqs = History(), []
        for number, peer in enumerate(peers):
            _, result = peer.receive_reply(3 * WAIT)
            history.published("all", None, number, result["epoch"], result["seq"])
            seqs.append(result["seq"])
        assert sorted(seqs) == list(range(1, count + 1)), "each is folded once"
        check_follower(broker, history, follower, ["all"])
        assert broker.cpu_seconds() - used < WAIT
    assert broker.process is None


@sanitized
def test_connections_beyond_the_limit_are_refused_and_those_there_go_on():
    files_needed(4096)
    with Broker(config="connections:\n  max: 20\n  log_interval_ms: 0\n", start=False) as broker:
        broker.start()
        # The connection by which the start was seen is counted until the broker has noticed its end.
        wait_until(lambda: broker.ask_admin("status")["connections"] == 0, what="nobody")
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(broker.request()) for _ in range(20)]
            for _ in range(5):
                with contextlib.suppress(Closed, AssertionError), Request(broker.tcp) as refused:
                    refused.ask("list", pattern="#")
                    raise OSError("served beyond the limit")
            for peer in peers:
                peer.publish("t", 1)
            assert broker.ask_admin("status")["refusals"]["connections"] >= 5
        wait_until(lambda: broker.ask_admin("status")["connections"] == 0, what="room")
        with broker.request() as request:
            request.publish("t", 2)


@sanitized
def test_connections_of_one_address_are_limited_apart_from_the_others():
    with Broker(config="connections:\n  per_address_max: 10\n") as broker, contextlib.ExitStack() as stack:
        wait_until(lambda: broker.ask_admin("status")["connections"] == 0, what="nobody")  # the harness's probe
        peers = [stack.enter_context(Request(broker.tcp)) for _ in range(10)]
        with contextlib.suppress(Closed, AssertionError), Request(broker.tcp) as refused:
            refused.ask("list", pattern="#")
            raise OSError("served beyond the limit")
        with Request(broker.ipc) as other:
            other.publish("t", 1)
        for peer in peers:
            peer.publish("t", 1)
        assert broker.ask_admin("status")["refusals"]["address"] >= 1


def test_a_session_with_many_overlapping_subscriptions_gets_each_of_them():
    with Broker() as broker, broker.session() as session:
        patterns = ["a/#", "a/+", "+/b", "#", "a/b", "+/+"]
        for sub, pattern in enumerate(patterns):
            session.subscribe(sub, pattern)
            session.wait_for(Op.SUBSCRIBED)
        with broker.session() as publisher:
            publisher.publish("a/b", 1)
            publisher.wait_for(Op.ACK)
        begun = {}
        while len(begun) < len(patterns):
            frame = session.wait_for(Op.BEGIN)
            assert frame[3] == "a/b" and frame[1] not in begin_subs(begun), frame
            begun[frame[2]] = frame[1]
        assert sorted(begun.values()) == list(range(len(patterns)))


def begin_subs(begun):
    return set(begun.values())


@sanitized
def test_two_hundred_followers_of_one_topic_get_the_same():
    with Broker(topics=["m=map"]) as broker, contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(broker.session()) for _ in range(200)]
        for session in sessions:
            session.subscribe(1, "m")
        for session in sessions:
            assert session.snapshot(3 * WAIT)[2][3] == 0
        with broker.session() as publisher:
            ledger = Ledger(publisher)
            for number in range(50):
                ledger.publish("m", (f"k{number}", number))
            ledger.settle()
        for session in sessions:
            got = []
            while len(got) < 100:
                frame = session.wait_for(Op.UPDATES, 3 * WAIT)
                assert frame[2] == len(got) // 2 + 1, frame
                got += frame[3]
            assert got == [part for number in range(50) for part in (f"k{number}", number)]
        assert broker.ask_admin("status")["records_out"] == 200 * 50


@sanitized
def test_two_thousand_connections_that_come_and_go_leave_nothing_behind():
    files_needed(4096)
    with Broker() as broker:
        for url in (broker.tcp, broker.ipc):
            for round in range(10):
                peers = [(Push if number % 2 else Request)(url) for number in range(100)]
                for number, peer in enumerate(peers):
                    if number % 3 == 0:
                        peer.publish(("t", number)) if isinstance(peer, Push) else peer.publish("t", number)
                for number, peer in enumerate(peers):
                    peer.close_hard() if number % 5 == 0 and not peer.is_ipc else peer.close()
        wait_until(lambda: broker.ask_admin("status")["connections"] == 0, 3 * WAIT, "all to be gone")
        with Peer(broker.tcp, PUSH0):
            pass
        assert broker.ask_admin("status")["connections_accepted"] >= 2000
        assert finals(broker, ["t"])["t"][1] > 0
