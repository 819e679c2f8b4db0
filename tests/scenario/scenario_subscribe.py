"""Subscribing: state first, then every update; patterns; cursors; what a session may ask for."""

import threading

from harness import WAIT, Broker, Op, Refused, cli, sanitized, wait_until
from ledger import History, Ledger, Load, View, catch_up, check_follower, finals, seeded
from session import pairs


def names_of(events, name):
    return [event["topic"] for event in events if event["event"] == name]


@sanitized
def test_late_subscriber_gets_the_snapshot_and_then_updates():
    with Broker(topics=["price/#=map"]) as broker, broker.request() as request:
        for value, key in ((1, "a"), (2, "b"), (3, "a"), (None, "b"), (4, "c")):
            request.publish("price/all", value, key)
        with broker.follow("price/all") as follower:
            end = follower.wait_event("end", topic="price/all")
            entries = {event["key"]: event["value"] for event in follower.events if event["event"] == "entry"}
            assert entries == {"a": 3, "c": 4} and end["seq"] == 5, follower.events
            request.publish("price/all", 5, "d")
            update = follower.wait_event("update")
            assert (update["event"], update["seq"], update["key"], update["value"]) == ("update", 6, "d", 5), update
            view = check_follower(broker, History(), follower, ["price/all"])
            assert view.state("price/all") == {"a": 3, "c": 4, "d": 5}


@sanitized
def test_the_end_comes_also_for_an_empty_topic():
    with Broker(topics=["a/map=map", "a/log=log", "a/merge=merge"]) as broker:
        for topic in ("a/map", "a/log", "a/merge", "a/last"):
            with broker.follow(topic) as follower:
                end = follower.wait_event("end", topic=topic)
                names = [event["event"] for event in follower.events if event["event"] != "subscribed"]
                assert end["seq"] == 0 and names == ["begin", "end"], follower.events
                broker.cli("pub", topic, '{"x":1}', "--json", "--key", "k")
                update = follower.wait_event("update")
                assert (update["seq"], update["value"]) == (1, {"x": 1}), update


def test_patterns_match_as_in_mqtt():
    with Broker() as broker, broker.request() as request:
        topics = ["a", "a/b", "a/c", "a/b/c", "b", "b/b", "a/b/c/d"]
        for topic in topics:
            request.publish(topic, topic)
        for pattern, matched in {"a": {"a"}, "+": {"a", "b"}, "a/+": {"a/b", "a/c"}, "+/b": {"a/b", "b/b"},
                                 "a/#": {"a", "a/b", "a/c", "a/b/c", "a/b/c/d"}, "#": set(topics),
                                 "a/+/c": {"a/b/c"}, "+/+/+/#": {"a/b/c", "a/b/c/d"}, "c/#": set()}.items():
            done = broker.cli("sub", "--snapshot-only", pattern)
            assert {line.split()[0] for line in done.stdout.splitlines()} == matched, (pattern, done.stdout)
            listed = broker.cli("list", pattern, "--json").stdout
            assert all(f'"{topic}"' in listed for topic in matched), (pattern, listed)


@sanitized
def test_a_pattern_follows_later_topics_from_their_first_record():
    with Broker(topics=["room/+/map=map"]) as broker, broker.request() as request, broker.follow("room/#") as follower:
        follower.wait_event("subscribed")
        history, topics = History(), [f"room/{number}/{kind}" for number in range(30) for kind in ("map", "last")]
        for round in range(3):
            for topic in topics:
                result = request.publish(topic, round, "k")
                history.published(topic, "k", round, result["epoch"], result["seq"])
        view = check_follower(broker, history, follower, topics)
        for topic in topics:
            assert view.feeds[topic].snapshots == 1, topic
        assert set(names_of(follower.events, "begin")) == set(topics)


@sanitized
def test_joining_is_atomic_at_random_moments_under_load():
    random = seeded()
    rules = ["m/#=map", "l/#=log", "g/#=merge"]
    topics = ["m/1", "m/2", "l/1", "s/1", "m/3"]
    with Broker(topics=rules) as broker, Load(broker, topics, random, pause=0.001) as load:
        followers = []
        for number in range(8):
            wanted = load.ledger.published + random.randrange(300)
            wait_until(lambda wanted=wanted: load.ledger.published >= wanted or load.error, what="more load")
            followers.append(broker.follow("#" if number % 2 else random.choice(["m/#", "+/1", "l/+"])))
        ledger = load.stop()
        for follower in followers:
            with follower:
                followed = [topic for topic in topics if topic in finals(broker, topics)]
                begun = wait_begun(follower, followed)
                check_follower(broker, ledger.history, follower, begun)
        assert ledger.refused == 0 and ledger.acked == ledger.published, ledger


def wait_begun(follower, topics):
    """The topics that this follower's pattern matches: those it was told of."""
    count = follower.wait_event("subscribed")["topics"] if not has(follower, "subscribed") else \
        next(event for event in follower.events if event["event"] == "subscribed")["topics"]
    while len(set(names_of(follower.events, "end"))) < count:
        follower.next()
    return [topic for topic in topics if topic in names_of(follower.events, "end")]


def has(follower, name):
    return any(event["event"] == name for event in follower.events)


def begin_of(broker, topic, epoch, seq):
    """BEGIN for a cursor, and the updates and entries that came until the topic's present seq."""
    present = finals(broker, [topic])[topic]
    with broker.session() as session:
        session.subscribe(1, topic, cursors=[[topic, epoch, seq]])
        begin, entries, end = session.snapshot()
        at, updates = end[3], []
        while at < present[1]:
            frame = session.wait_for(Op.UPDATES)
            assert frame[2] == at + 1, frame
            updates += pairs(frame[3])
            at += len(pairs(frame[3]))
        return begin[7], begin[6], entries, updates


@sanitized
def test_a_cursor_resumes_from_retained_updates_else_afresh_and_says_which():
    with Broker(topics=["a=map,retain_count_max=64,retain_bytes_max=4096"]) as broker, broker.request() as request:
        for number in range(20):
            epoch = request.publish("a", number, f"k{number % 5}")["epoch"]
        options, seq, entries, updates = begin_of(broker, "a", epoch, 15)
        assert options.get("resumed") and (seq, entries) == (15, []), (options, entries)
        assert updates == [(f"k{number % 5}", number) for number in range(15, 20)], updates
        options, seq, entries, updates = begin_of(broker, "a", epoch, 20)
        assert options.get("resumed") and (seq, entries, updates) == (20, [], []), "at the present seq"
        for wrong in (epoch + 1, epoch - 1, 1):
            options, seq, entries, updates = begin_of(broker, "a", wrong, 15)
            assert not options.get("resumed") and options["cause"] == "epoch" and len(entries) == 5, (wrong, options)
        options, seq, entries, updates = begin_of(broker, "a", epoch, 21)
        assert not options.get("resumed") and options["cause"] == "epoch", "a seq not reached yet"
        for number in range(2000):
            request.publish("a", number, f"k{number % 5}", ack="accepted")
        wait_until(lambda: broker.get("a")["seq"] == 2020)
        options, seq, entries, updates = begin_of(broker, "a", epoch, 15)
        assert not options.get("resumed") and options["cause"] == "trimmed" and len(entries) == 5, options
        request.publish("other", 1)
        with broker.session() as session:
            session.subscribe(1, "other", cursors=[["a", epoch, 15]])
            assert session.snapshot()[0][7]["cause"] == "new", "a cursor of another topic is ignored"


@sanitized
def test_following_again_from_the_last_event_leaves_no_gap_and_no_duplicate():
    random = seeded()
    with Broker(topics=["m/#=map"]) as broker, Load(broker, ["m/1", "m/2"], random, pause=0.002) as load:
        cursors, runs = [], []
        for _ in range(5):
            options = [part for topic, epoch, seq in cursors for part in ("--since", f"{topic}:{epoch}:{seq}")]
            with broker.follow("m/#", options=[*options, "--count", "100"]) as follower:
                runs.append((follower.rest(3 * WAIT), cursors))
            feeds = View(*runs[-1]).feeds
            cursors = [(topic, feed.epoch, feed.seq) for topic, feed in feeds.items() if feed.entries is None]
        ledger = load.stop()
        # Not before: until then some answers have not been read, and their records would be nobody's.
        seen = [sum(feed.updates for feed in ledger.history.check(*run).feeds.values()) for run in runs]
        assert ledger.acked == ledger.published and sum(seen) > 200, (ledger, seen)


@sanitized
def test_without_snapshot_only_updates_come_and_without_updates_only_the_state():
    with Broker(topics=["m=map"]) as broker, broker.request() as request, broker.session() as session:
        for number in range(10):
            request.publish("m", number, f"k{number}")
        session.subscribe(1, "m", snapshot=False)
        assert session.wait_for(Op.SUBSCRIBED)[1:] == [1, 1]
        begin, entries, end = session.snapshot()
        assert (entries, end[3]) == ([], 10), (entries, end)
        request.publish("m", 10, "k10")
        assert session.wait_for(Op.UPDATES)[2:] == [11, ["k10", 10]]
        session.subscribe(2, "m", updates=False)
        begin, entries, end = session.snapshot()
        assert len(entries) == 11 and session.wait_for(Op.ENDED)[1:] == [begin[2], "ok"]
        done = cli("sub", "--no-snapshot", "--snapshot-only", "m", url=broker.tcp, expect=2)
        assert "not both" in done.stderr


@sanitized
def test_unsubscribing_ends_the_feeds_and_the_number_is_free_again():
    with Broker() as broker, broker.request() as request, broker.session() as session:
        request.publish("a/1", 1)
        request.publish("a/2", 1)
        for _ in range(3):
            session.subscribe(7, "a/#")
            for _ in range(2):
                session.snapshot()
            session.send_frame(Op.UNSUBSCRIBE, 7)
            assert session.wait_for(Op.UNSUBSCRIBED)[1:3] == [7, "ok"]
        request.publish("a/1", 2)
        session.send_frame(Op.PING, 99)
        wait_until(lambda: session.read_frame()[0] == Op.PONG)
        frames = [frame for frame in session.set_aside if frame[0] == Op.UPDATES]
        assert not frames, "an update after UNSUBSCRIBED"
        wait_until(lambda: broker.ask_admin("subscriptions")["subscriptions"] == [], what="the end of the feeds")


@sanitized
def test_subscriptions_that_cannot_stand_are_answered_with_a_reason():
    with Broker() as broker, broker.session() as session:
        session.subscribe(1, "a")
        session.snapshot()
        for sub, pattern, options, code in ((1, "b", {}, "bad-request"), (2, "a//b", {}, "bad-topic"),
                                            (3, "a/#/b", {}, "bad-topic"), (4, "", {}, "bad-topic"),
                                            (6, "a", {"policy": "whatever"}, "bad-request"),
                                            (7, "a+", {}, "bad-topic"), (8, "x" * 256, {}, "bad-topic"),
                                            (9, "$share/g/a", {}, None), (10, "a\0", {}, "bad-topic")):
            session.subscribe(sub, pattern, **options)
            answer = session.wait_for(Op.UNSUBSCRIBED)
            assert answer[1] == sub and (code is None or answer[2] == code), (pattern, answer)
        session.publish("a", 5)
        assert session.wait_for(Op.UPDATES)[3] == [None, 5], "the first one still stands"


def test_subscriptions_beyond_the_quota_are_refused():
    config = "sessions:\n  subscriptions_max: 5\n  aliases_max: 4\n"
    with Broker(config=config) as broker, broker.session() as session:
        for sub in range(5):
            session.subscribe(sub, f"t/{sub}")
            session.snapshot()
        session.subscribe(5, "t/5")
        assert session.wait_for(Op.UNSUBSCRIBED)[1:3] == [5, "full"]
        session.send_frame(Op.UNSUBSCRIBE, 0)
        assert session.wait_for(Op.UNSUBSCRIBED)[1:3] == [0, "ok"]
        session.subscribe(5, "t/5")
        session.snapshot()
        for alias in range(4):
            session.send_frame(Op.ALIAS, alias, f"t/{alias}")
        session.send_frame(Op.ALIAS, 4, "t/4")
        assert session.wait_for(Op.CLOSE)[1] == "full"
        session.wait_closed()


@sanitized
def test_bounds_of_the_whole_broker_are_told_by_name():
    with Broker(config="topics:\n  max: 3\n  feeds_max: 2\n") as broker, broker.request() as request, \
            broker.session() as session, broker.session() as other:
        request.publish("t/1", 1)
        session.subscribe(7, "t/#")
        session.snapshot()
        request.publish("t/2", 2)
        session.snapshot()
        other.subscribe(1, "t/1")
        _, _, code, text = other.wait_for(Op.UNSUBSCRIBED)
        assert code == "full" and "topics.feeds_max" in text, text
        request.publish("t/3", 3)
        _, sub, code, text = session.wait_for(Op.UNSUBSCRIBED)
        assert (sub, code) == (7, "full") and "topics.feeds_max" in text, "who cannot follow t/3 is told, and why"
        other.publish("t/4", 4)
        refused = other.wait_for(Op.REFUSED)
        assert refused[3] == "full" and "topics.max" in refused[4], refused
        try:
            request.publish("t/4", 4)
            assert False, "there are as many topics as there may be"
        except Refused as error:
            assert error.code == "full" and "topics.max" in str(error), error
        other.subscribe(1, "t/1")
        assert other.snapshot()[1], "what the first subscription had is free again"


@sanitized
def test_a_sub_peer_that_cannot_be_given_a_topic_is_cut():
    with Broker(config="topics:\n  feeds_max: 1\n") as broker, broker.request() as request, broker.feed() as feed:
        request.publish("t/1", 1)
        wait_until(lambda: broker.ask_admin("status")["feeds"] == 1, what="its first topic")
        request.publish("t/2", 2)
        feed.wait_closed()


@sanitized
def test_clearing_a_topic_resets_its_followers_into_a_new_epoch():
    with Broker(topics=["m=map"]) as broker, broker.request() as request, broker.follow("m") as follower:
        before = request.publish("m", 1, "a")
        follower.wait(lambda event: event["event"] in ("end", "update") and event["seq"] == 1)
        broker.ask_admin("topic", "clear", "m")
        reset = follower.wait_event("reset")
        assert reset["epoch"] != before["epoch"] and reset["cause"] == "cleared", reset
        follower.wait_event("end", seq=0, epoch=reset["epoch"])
        after = request.publish("m", 2, "b")
        assert (after["seq"], after["epoch"]) == (1, reset["epoch"]), after
        follower.wait_event("update", seq=1, key="b")
        check_follower(broker, History(), follower, ["m"])
        options, *_ = begin_of(broker, "m", before["epoch"], 1)
        assert not options.get("resumed") and options["cause"] == "epoch", "the old epoch is void"


@sanitized
def test_deleting_a_topic_ends_its_feed_and_a_new_one_is_a_new_history():
    with Broker(topics=["m=map"]) as broker, broker.request() as request, broker.follow("#") as follower:
        before = request.publish("m", 1, "a")
        follower.wait(lambda event: event["event"] in ("end", "update") and event["seq"] == 1)
        broker.ask_admin("topic", "delete", "m")
        assert follower.wait_event("ended", topic="m")["code"] == "not-found"
        wait_until(lambda: broker.ask_admin("topics")["topics"] == [], what="the topic's end")
        after = request.publish("m", 2, "b")
        assert after["seq"] == 1 and after["epoch"] != before["epoch"], (before, after)
        follower.wait(lambda event: event["event"] in ("end", "update") and event.get("seq") == 1)
        assert broker.get("m")["state"] == {"b": 2}


@sanitized
def test_many_threads_join_and_leave_while_a_topic_is_busy():
    random = seeded()
    with Broker(topics=["m=map"]) as broker, Load(broker, ["m"], random, keys=200, pause=0.001) as load:
        errors = []

        def join_and_leave():
            try:
                with broker.session() as session:
                    for sub in range(20):
                        session.subscribe(sub, "m")
                        begin, entries, end = session.snapshot(2 * WAIT)
                        at = end[3]
                        while at < end[3] + 5:
                            frame = session.wait_for(Op.UPDATES, 2 * WAIT)
                            if frame[1] == begin[2]:
                                assert frame[2] == at + 1, (frame[2], at)
                                at += len(frame[3]) // 2
                        session.send_frame(Op.UNSUBSCRIBE, sub)
                        session.wait_for(Op.UNSUBSCRIBED, 2 * WAIT)
                        session.set_aside.clear()
            except Exception as error:  # handed to the main thread
                errors.append(error)

        threads = [threading.Thread(target=join_and_leave) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors, errors
        load.stop()


@sanitized
def test_a_large_state_comes_whole_while_its_topic_keeps_folding():
    with Broker(topics=["m=map"]) as broker, broker.session() as session:
        ledger = Ledger(session)
        for start in range(0, 20_000, 500):
            ledger.publish("m", *((f"k{number}", number) for number in range(start, start + 500)))
        ledger.settle()
        with broker.follow("m") as follower, broker.follow("m", url=broker.ipc) as second:
            for number in range(2000):
                ledger.publish("m", (f"k{number * 7 % 20_000}", -number))
            ledger.settle()
            for one in (follower, second):
                view = check_follower(broker, ledger.history, one, ["m"], timeout=3 * WAIT)
                assert len(view.state("m")) == 20_000
            catch_up(follower, finals(broker, ["m"]))
