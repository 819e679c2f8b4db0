"""The plugins that come with Weir, each in the real broker, in both hosts: published to and followed over sockets."""

import json

from harness import BINARY, Broker, Op, cli, sanitized, wait_until
from scenario_plugin import HOSTS, publish_acked, standing, state_of

PLUGINS = BINARY.parent / "plugins"


def fold(name, host, config):
    """A broker's configuration with one plugin as the kind of the topics below its name."""
    return (f"plugins:\n  - name: {name}\n    file: {PLUGINS}/{name}.so\n    role: fold\n    host: {host}\n"
            f"    time_ms_max: 60000\n    config: {json.dumps(config)}\n"
            f"topics:\n  rules:\n    - pattern: {name}/#\n      kind: plugin:{name}\n")


def processor(name, host, config, patterns, emit):
    """One that follows and emits; what it emits to are maps, and so is what it follows."""
    rules = "".join(f"    - pattern: {pattern}\n      kind: map\n" for pattern in patterns + emit)
    return (f"plugins:\n  - name: {name}\n    file: {PLUGINS}/{name}.so\n    role: processor\n    host: {host}\n"
            f"    patterns: {json.dumps(patterns)}\n    emit: {json.dumps(emit)}\n"
            f"    time_ms_max: 60000\n    config: {json.dumps(config)}\n"
            f"topics:\n  rules:\n{rules}")


def window_as_fold(host):
    config = fold("window", host, {"size_ms": 300, "field": "ms", "quantiles": [0.5], "remove_idle": True})
    with Broker(config=config) as broker, broker.session() as session, broker.follow("window/web") as follower:
        standing(follower)
        records = [("/login", {"ms": ms}) for ms in (10, 30, 20)]
        outcomes = publish_acked(session, "window/web", *records, ("/x", {"s": 1}))
        assert outcomes[3][0] == Op.REFUSED and outcomes[3][3] == "bad-request" and "'ms'" in outcomes[3][4], outcomes
        # A boundary may lie between the three.
        windows = []
        while sum(window["count"] for window in windows) < 3:
            windows.append(follower.wait_event("update", topic="window/web", key="/login")["value"] or {"count": 0})
        whole = [window for window in windows if window["count"]]
        assert min(window["min"] for window in whole) == 10 and max(window["max"] for window in whole) == 30, windows
        assert sum(window["sum"] for window in whole) == 60 and all(window["closed"] for window in whole), windows
        if len(whole) == 1:
            assert abs(whole[0]["p50"] - 20) <= 0.2, windows
        follower.wait_event("update", topic="window/web", key="/login", value=None)
        assert state_of(broker, "window/web") == {}


@sanitized
def test_window_closes_by_the_clock_and_removes_what_is_idle():
    for host in HOSTS:
        window_as_fold(host)


def top_as_processor(host):
    config = processor("top", host, {"k": 2, "every_ms": 20, "by": "client", "to": "heavy/{topic.1}"},
                       ["access/+"], ["heavy/#"])
    with Broker(config=config) as broker, broker.session() as session:
        clients = ["a"] * 50 + ["b"] * 30 + ["c"] * 5
        publish_acked(session, "access/web", *((f"r{i}", {"client": client}) for i, client in enumerate(clients)))
        wanted = {"total": 85, "missed_max": 0,
                  "top": [{"key": "a", "count": 50, "error": 0}, {"key": "b", "count": 30, "error": 0}]}
        wait_until(lambda: state_of(broker, "heavy/web") == {"top": wanted}, what="the list of all records")


@sanitized
def test_top_lists_the_heaviest_keys_of_what_it_follows():
    for host in HOSTS:
        top_as_processor(host)


def threshold_as_fold(host):
    config = fold("threshold", host, {"rules": [{"name": "hot", "above": 90, "clear": 80, "hold_ms": 50}]})
    with Broker(config=config) as broker, broker.session() as session, broker.follow("threshold/oven") as follower:
        standing(follower)
        publish_acked(session, "threshold/oven", ("left", 91), ("right", 95), ("right", 89))
        # Nothing else comes: a timer raises it.
        raised = follower.wait_event("update", topic="threshold/oven", key="left")["value"]
        assert raised["state"] == "raised" and raised["value"] == 91 and raised["limit"] == 90, raised
        assert raised["time_ms"] - raised["since_ms"] == 50, raised
        publish_acked(session, "threshold/oven", ("left", 85), ("left", 79))
        cleared = follower.wait_event("update", topic="threshold/oven", key="left")["value"]
        assert cleared["state"] == "cleared" and cleared["value"] == 79, cleared
        assert list(state_of(broker, "threshold/oven")) == ["left"]


@sanitized
def test_threshold_raises_what_holds_and_clears_it_below():
    for host in HOSTS:
        threshold_as_fold(host)


def route_as_processor(host):
    rules = [{"where": [{"of": "value.level", "is": "debug"}], "drop": True},
             {"where": [{"of": "value.level", "is": "error"}], "to": "alerts/{topic.1}", "remove": ["token"],
              "set": {"host": "{topic.1}"}, "go_on": True},
             {"to": "archive/all"}]
    config = processor("route", host, {"rules": rules}, ["logs/#"], ["alerts/#", "archive/#"])
    with Broker(config=config) as broker, broker.session() as session:
        publish_acked(session, "logs/web1", ("1", {"level": "info"}), ("2", {"level": "debug"}),
                      ("3", {"level": "error", "token": "secret"}))
        wait_until(lambda: state_of(broker, "archive/all") ==
                   {"1": {"level": "info"}, "3": {"level": "error", "token": "secret"}}, what="the archive")
        # It is no topic's kind, so that it is asked by its name.
        asked = broker.cli("ask", "--plugin", "route", "--json", json.dumps(
            {"topic": "logs/web1", "value": {"level": "debug"}})).stdout
        assert json.loads(asked)[0]["rule"] == 1, asked
        wait_until(lambda: state_of(broker, "alerts/web1") == {"3": {"level": "error", "host": "web1"}}, what="alerts")


@sanitized
def test_route_filters_and_rewrites_by_its_rules():
    for host in HOSTS:
        route_as_processor(host)


def dedup_as_fold(host):
    with Broker(config=fold("dedup", host, {"by": "{value.id}"})) as broker, broker.session() as session, \
            broker.follow("dedup/orders") as follower:
        standing(follower)
        publish_acked(session, "dedup/orders", ("a", {"id": 1, "try": 1}), ("a", {"id": 1, "try": 2}),
                      ("b", {"id": 2, "try": 1}))
        # What it remembers is carried over.
        assert broker.ask_admin("plugin", "reload", "dedup") == {"reloaded": "dedup"}
        publish_acked(session, "dedup/orders", ("a", {"id": 1, "try": 3}), ("c", {"id": 3, "try": 1}))
        asked = broker.cli("ask", "dedup/orders", "--json", json.dumps({"value": {"id": 3}})).stdout
        assert json.loads(asked)["known"] is True, asked
        follower.wait_event("update", topic="dedup/orders", key="c")
        passed = [(event["key"], event["value"]["try"]) for event in follower.events if event["event"] == "update"]
        assert passed == [("a", 1), ("b", 1), ("c", 1)], passed


@sanitized
def test_dedup_lets_each_through_once_across_a_reload():
    for host in HOSTS:
        dedup_as_fold(host)


def test_plugin_test_needs_no_broker_and_says_what_is_wrong():
    top = PLUGINS / "top.so"
    lines = [{"topic": "t", "key": key, "value": 1, "time_ms": 1000 + i} for i, key in enumerate("aab")]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    for options in ([], ["--restart-every", "1"]):
        done = cli("plugin", "test", "--config", '{"k": 1}', "--after", "1000", *options, top, input=text)
        emitted = [json.loads(line) for line in done.stdout.splitlines()]
        assert [event["value"]["top"] for event in emitted] == [[{"key": "a", "count": 2, "error": 0}]], emitted
        assert emitted[0]["time_ms"] == 2000 and emitted[0]["topic"] == "t", emitted
        assert "3 records, 1 emitted, 0 refused" in done.stderr, done.stderr
    cases = [
        (["--config", '{"k": 0}', top], text, 1, "'k' is 0, but must be a whole number from 1 to 1000"),
        (["--config", "{", top], text, 2, "--config"),
        (["--role", "actor", top], text, 2, "'actor' is neither fold nor processor"),
        ([PLUGINS / "none.so"], text, 1, "No such file"),
        ([top], '{"topic": "t", "value": 1}\n{"topic": 7, "value": 1}\n', 2, "line 2: not {"),
        ([top], '{"topic": "a//b", "value": 1}\n', 2, "line 1: segment 2 is empty"),
        ([top], "no JSON\n", 2, "line 1: "),
        ([], text, 2, "give one FILE.so"),
    ]
    for arguments, given, status, expected in cases:
        done = cli("plugin", "test", *arguments, input=given, expect=status)
        assert expected in done.stderr, f"{arguments}: {done.stderr}"
    refused = cli("plugin", "test", "--config", '{"by": "who"}', top, input='{"topic": "t", "value": {}}\n')
    assert json.loads(refused.stdout)["line"] == 1 and "'who'" in json.loads(refused.stdout)["refused"]
    for name in ("", "A", "-x", "x" * 33, "a/b"):
        assert "a name has 1 to 32" in cli("plugin", "new", "--", name, expect=2).stderr
