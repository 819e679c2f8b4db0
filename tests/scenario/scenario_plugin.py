"""Plugins in the real broker: folds and processors in both hosts, what they refuse, how they fail and come back."""

import json
import tempfile

from harness import BINARY, Broker, Op, cli, sanitized, wait_until

PLUGINS = BINARY.parent / "tests/plugins"
HOSTS = ("thread", "process")


# As much as a slow machine may need; where a plugin is to run out of its time, the test says how much that is.
TIMES = {"time_ms_max": 60000, "start_ms_max": 60000}


def definition(name, file, role="fold", host="thread", **settings):
    settings = TIMES | settings
    lines = [f"  - name: {name}", f"    file: {PLUGINS}/{file}.so", f"    role: {role}", f"    host: {host}"]
    lines += [f"    {key}: {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def configured(*definitions, rules=()):
    # A session that a test comes back to later answers no ping meanwhile, for as long as a slow machine takes.
    text = "connections:\n  heartbeat_ms: 60000\nplugins:\n" + "".join(definitions)
    if rules:
        text += "topics:\n  rules:\n"
        text += "".join(f"    - pattern: {pattern}\n      kind: {kind}\n" for pattern, kind in rules)
    return text


def counting(host):
    return configured(definition("count", "count", host=host), rules=[("c/#", "plugin:count")])


def misbehaving(host, file="misbehave", **settings):
    return configured(definition("bad", file, host=host, **settings),
                      definition("count", "count", host=host), rules=[("b/#", "plugin:bad"), ("c/#", "plugin:count")])


def plugin_row(broker, name):
    return next(row for row in broker.ask_admin("plugin", "list")["plugins"] if row["name"] == name)


def state_of(broker, topic):
    """A topic's state; None while there is no such topic."""
    done = broker.cli("get", topic, "--json", expect=None)
    return json.loads(done.stdout)["state"] if done.returncode == 0 else None


def dead_of(broker, topic, count=1):
    """So many records of a topic in quarantine. They come there on their own way: who was told of it may be first."""
    wait_until(lambda: len(state_of(broker, f"$dead/{topic}") or []) >= count, what="the quarantine")
    return state_of(broker, f"$dead/{topic}")


def publish_acked(session, topic, *items):
    """Publishes and waits for the outcome of each record: seqs of those folded, frames of those refused."""
    first = session.publish(topic, *items)
    outcomes = {}
    while len(outcomes) < len(items):
        frame = session.next_frame()
        if frame[0] == Op.ACK:
            outcomes.update({frame[1] + i: frame[4] + i for i in range(frame[2])})
        elif frame[0] == Op.REFUSED:
            outcomes.update({frame[1] + i: frame for i in range(frame[2])})
    return [outcomes[first + i] for i in range(len(items))]


def standing(follower, subscriptions=1):
    """Once its subscriptions stand, so that it is told of what happens from here on."""
    for _ in range(subscriptions):
        follower.wait_event("subscribed")
    return follower


def each_host(check):
    for host in HOSTS:
        check(host)


def fold_counts(host):
    with Broker(config=counting(host)) as broker, broker.session() as session, broker.follow("c/#") as follower:
        standing(follower)
        assert publish_acked(session, "c/x", ("a", 1), ("b", 1), ("a", 1)) == [1, 2, 3]
        assert broker.get("c/x")["state"] == {"a": 2, "b": 1}
        assert broker.get("c/x")["kind"] == "plugin:count"
        assert broker.get("c/x", "a")["state"] == 2
        assert publish_acked(session, "c/x", ("a", None)) == [4]
        assert broker.get("c/x")["state"] == {"b": 1}
        follower.wait_event("update", topic="c/x", seq=4)
        updates = [(event["key"], event["value"]) for event in follower.events if event["event"] == "update"]
        assert updates == [("a", 1), ("b", 1), ("a", 2), ("a", None)], updates
        session.subscribe(1, "c/x")
        begin, entries, _ = session.snapshot()
        assert begin[4] == "plugin:count" and entries == [("b", 1)], (begin, entries)
        row = next(row for row in broker.ask_admin("topics")["topics"] if row["topic"] == "c/x")
        assert row["kind"] == "plugin:count", row


@sanitized
def test_a_fold_makes_state_that_subscribers_get_as_snapshot_and_updates():
    each_host(fold_counts)


def fold_refuses(host):
    with Broker(config=counting(host)) as broker, broker.session() as session:
        [refused, folded] = publish_acked(session, "c/x", 7, ("a", 7))
        assert refused[3] == "bad-request" and "cannot be counted" in refused[4], refused
        assert folded == 1
        [frame] = publish_with_ttl(session, "c/x")
        assert frame[3] == "bad-request", frame


def publish_with_ttl(session, topic):
    session.publish_with(topic, {"ttl_ms": 1000}, ("a", 1))
    return [session.wait_for(Op.REFUSED)]


@sanitized
def test_what_a_fold_refuses_is_answered_with_its_reason():
    each_host(fold_refuses)


def processor_follows(host):
    config = configured(definition("count", "count", "processor", host, patterns=["in/+"], emit=["in/+/count"]),
                        rules=[("in/+", "map"), ("in/+/count", "map")])
    with Broker(config=config) as broker, broker.session() as session, broker.follow("in/+/count") as follower:
        standing(follower)
        publish_acked(session, "in/x", ("a", 1), ("b", 1), ("a", 1))
        publish_acked(session, "in/y", ("c", 1))
        wait_until(lambda: state_of(broker, "in/x/count") == {"a": 2, "b": 1}, what="the counts of x")
        wait_until(lambda: state_of(broker, "in/y/count") == {"c": 1}, what="the counts of y")
        follower.wait_event("update", topic="in/y/count")


@sanitized
def test_a_processor_follows_patterns_and_emits_to_topics():
    each_host(processor_follows)


@sanitized
def test_a_processor_that_cannot_follow_a_topic_asks_again_until_it_can():
    config = configured(definition("count", "count", "processor", patterns=["in/+"], emit=["in/+/count"]))
    config += "topics:\n  feeds_max: 2\n  defaults:\n    kind: map\n"
    with Broker(config=config) as broker, broker.session() as session:
        for topic in ("in/x", "in/y", "in/z"):
            publish_acked(session, topic, ("a", 1))
        broker.output.wait(r"event=plugin.subscription plugin=count pattern=in/\+ cause=full")
        broker.ask_admin("topic", "delete", "in/x")
        wait_until(lambda: any(row["topic"] == "in/z/count" for row in broker.ask_admin("topics")["topics"]),
                   what="the count of the topic that had no room")


def many_records(host):
    count = 30_000
    with Broker(config=counting(host)) as broker, broker.session() as session:
        for start in range(0, count, 1000):
            outcomes = publish_acked(session, "c/x", *((f"k{i % 100}", i) for i in range(start, start + 1000)))
            assert outcomes == list(range(start + 1, start + 1001)), (start, outcomes[:3])
        assert broker.get("c/x")["state"] == {f"k{i}": count // 100 for i in range(100)}
        row = plugin_row(broker, "count")
        assert row["handled"] == count and row["state"] == "live" and row["restarts"] == 0, row
        assert row["snapshot_bytes"] > 0, "with so many inputs there were snapshots"


def test_many_records_are_folded_each_once_and_acknowledged_in_order():
    each_host(many_records)


def failure_is_retried(host):
    with Broker(config=misbehaving(host)) as broker, broker.session() as session, broker.follow("b/#") as follower:
        standing(follower)
        seqs = publish_acked(session, "b/x", ("a", 1), ("once", ["fail-once"]), ("n", ["tell-count"]))
        assert seqs == [1, 1, 2], "what emits nothing is told the topic's seq"
        assert broker.get("b/x")["state"] == {"a": 1, "n": 2}
        follower.wait_event("stale", topic="b/x")
        follower.wait_event("live", topic="b/x")
        [poisoned, after] = publish_acked(session, "b/x", ("bad", ["fail"]), ("n", ["tell-count"]))
        assert poisoned[3] == "poisoned" and "told to fail" in poisoned[4], poisoned
        assert after == 3 and broker.get("b/x")["state"]["n"] == 3
        dead = dead_of(broker, "b/x")
        assert len(dead) == 1 and dead[0]["key"] == "bad" and dead[0]["value"] == ["fail"], dead
        assert dead[0]["attempts"] == 3 and dead[0]["cause"] == "failed", dead
        assert not [event for event in follower.events if event["event"] == "reset"]
        row = plugin_row(broker, "bad")
        assert row["restarts"] == 4 and row["state"] == "live" and "told to fail" in row["cause"], row


@sanitized
def test_a_message_that_fails_is_tried_again_then_quarantined_and_state_is_kept():
    each_host(failure_is_retried)


def state_is_lost(host):
    with Broker(config=misbehaving(host, file="forgetful")) as broker, broker.session() as session, \
            broker.follow("b/x") as follower:
        standing(follower)
        publish_acked(session, "b/x", ("a", 1), ("n", ["tell-count"]))
        publish_acked(session, "b/x", ("once", ["fail-once"]), ("n", ["tell-count"]))
        follower.wait_event("reset", topic="b/x", cause="restart")
        follower.wait_event("update", topic="b/x", key="n", value=1)
        assert broker.get("b/x")["state"] == {"n": 1}


@sanitized
def test_a_plugin_without_snapshot_begins_anew_and_its_topics_are_reset():
    each_host(state_is_lost)


@sanitized
def test_a_processor_that_lost_its_state_gets_what_it_follows_anew():
    config = configured(definition("bad", "forgetful", "processor", "process", patterns=["in/+"], emit=["in/+/out"]),
                        rules=[("in/+", "map"), ("in/+/out", "log")])
    with Broker(config=config) as broker, broker.session() as session, broker.request() as request:
        publish_acked(session, "in/x", ("a", 1), ("b", 2))
        wait_until(lambda: plugin_row(broker, "bad")["handled"] == 2, what="both records")
        assert request.ask("ask", plugin="bad", value=["crash-once"]) == {"value": 2}
        wait_until(lambda: len(state_of(broker, "in/x/out") or []) == 4, what="the entries of in/x")
        state = broker.get("in/x/out")["state"]
        assert state[:2] == [1, 2] and sorted(state[2:]) == [1, 2], state


def wrong_emission(host):
    with Broker(config=misbehaving(host)) as broker, broker.session() as session:
        [frame, seq] = publish_acked(session, "b/x", ("k", ["emit", "c/other", "k", 1]), ("a", 1))
        assert frame[3] == "forbidden" and seq == 1, (frame, seq)
        row = plugin_row(broker, "bad")
        assert (row["restarts"], row["refused"], row["dead"]) == (0, 1, 0), row
        assert all(topic["topic"] != "c/other" for topic in broker.ask_admin("topics")["topics"])


@sanitized
def test_an_emission_elsewhere_is_refused_and_does_not_fail_the_plugin():
    each_host(wrong_emission)


def clearing(host):
    with Broker(config=counting(host)) as broker, broker.session() as session, broker.follow("c/x") as follower:
        standing(follower)
        assert publish_acked(session, "c/x", ("a", 1), ("b", 1), ("a", 1)) == [1, 2, 3]
        broker.ask_admin("topic", "clear", "c/x")
        assert broker.get("c/x")["state"] == {}
        reset = follower.wait_event("reset", topic="c/x")
        assert reset["cause"] == "cleared", reset
        assert publish_acked(session, "c/x", ("a", 1)) == [1]
        assert broker.get("c/x")["state"] == {"a": 1}
        assert plugin_row(broker, "count")["restarts"] == 0


@sanitized
def test_clearing_a_topic_has_its_plugin_forget_it():
    each_host(clearing)


def clearing_quietly(host):
    with Broker(config=misbehaving(host)) as broker, broker.session() as session:
        assert publish_acked(session, "b/x", ("a", 1)) == [1]
        broker.ask_admin("topic", "clear", "b/x")
        session.publish("b/x", ("quiet", ["log"]))
        frame = session.next_frame()
        while frame[0] != Op.ACK:
            frame = session.next_frame()
        assert frame[3:5] == [broker.get("b/x")["epoch"], 0], frame


def test_what_emits_nothing_is_told_where_its_topic_is_also_after_a_clearing():
    each_host(clearing_quietly)


def reload_keeps_state(host):
    with Broker(config=counting(host)) as broker, broker.session() as session, broker.follow("c/x") as follower:
        standing(follower)
        publish_acked(session, "c/x", ("a", 1), ("a", 1))
        for round in range(3):
            assert broker.ask_admin("plugin", "reload", "count") == {"reloaded": "count"}
            publish_acked(session, "c/x", ("a", 1))
            assert broker.get("c/x")["state"] == {"a": 3 + round}
        assert not [event for event in follower.events if event["event"] in ("reset", "stale")]
        assert broker.ask_admin("plugin", "unload", "count") == {"unloaded": "count", "given_up": 0}
        assert plugin_row(broker, "count")["state"] == "unloaded"
        follower.wait_event("stale", topic="c/x")
        [frame] = publish_acked(session, "c/x", ("a", 1))
        assert frame[3] == "closed", frame
        assert broker.ask_admin("plugin", "load", "count") == {"loaded": "count"}
        assert plugin_row(broker, "count")["state"] == "live"
        follower.wait_event("reset", topic="c/x", cause="restart")
        publish_acked(session, "c/x", ("a", 1))
        assert broker.get("c/x")["state"] == {"a": 1}


@sanitized
def test_reload_carries_state_over_and_unload_and_load_begin_anew():
    each_host(reload_keeps_state)


def test_what_is_wrong_with_a_plugins_configuration_is_said_with_its_line():
    cases = [
        (configured(definition("x", "no-such-file")), ":5: plugins.0.file"),
        (configured(definition("X", "count")), "is no name"),
        (configured(definition("x", "count"), definition("x", "count")), "there is a plugin of that name above"),
        (configured(definition("x", "count", patterns=["a/#"])), "a fold has neither patterns nor emit"),
        (configured(definition("x", "count", "processor")), "a processor needs patterns"),
        (configured(definition("x", "count", "processor", patterns=["a/#"], emit=["a/+/b"])), "without end"),
        (configured(definition("x", "count", "processor", patterns=["a/#", "a/b"])), "overlap"),
        (configured(definition("x", "count"), rules=[("a", "plugin:y")]), "no plugin 'y' is configured"),
        (configured(definition("x", "count", "processor", patterns=["a"]), rules=[("b", "plugin:x")]),
         "only a fold can be a kind"),
        (configured(definition("x", "count", time_ms_max=0)), "time_ms_max must be a number between"),
    ]
    for text, expected in cases:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(text)
            file.flush()
            done = cli("serve", "--check", file.name, expect=2)
            assert expected in done.stderr, f"{text}\n{done.stderr}"


def test_config_reaches_the_plugin_and_one_that_it_refuses_is_given_up():
    config = configured(definition("count", "count", config={"start": 40}),
                        definition("wrong", "count", config={"begin": 40}, intensity=2),
                        rules=[("c/#", "plugin:count"), ("w/#", "plugin:wrong")])
    with Broker(config=config) as broker, broker.session() as session:
        publish_acked(session, "c/x", ("a", 1))
        assert broker.get("c/x")["state"] == {"a": 41}
        wait_until(lambda: plugin_row(broker, "wrong")["state"] == "unloaded", what="giving up")
        assert "start" in plugin_row(broker, "wrong")["cause"]
