"""Plugins that fail in every way there is: each costs that plugin a restart, and nobody else anything."""

import time

from harness import Broker, Op, wait_until
from scenario_plugin import configured, dead_of, definition, misbehaving, plugin_row, publish_acked, standing
from scenario_plugin_process import kill_one

# verb of the record, what the log and the quarantine say of it
CRASHES = (("segv", "SIGSEGV", "failed"), ("abort", "SIGABRT", "failed"), ("exit", "status 3", "failed"))


def crash_and_go_on(broker, session, verb, text, cause, count):
    [frame, after] = publish_acked(session, "b/x", (verb, [verb]), ("n", ["tell-count"]))
    assert frame[3] == "poisoned" and text in frame[4], frame
    assert after == count + 1, after
    dead = dead_of(broker, "b/x", count)[-1]
    assert dead["key"] == verb and dead["value"] == [verb] and dead["attempts"] == 3 and dead["cause"] == cause, dead


def test_a_crash_costs_that_plugin_a_restart_and_its_message_goes_to_quarantine():
    with Broker(config=misbehaving("process")) as broker, broker.session() as session, \
            broker.session() as other, broker.follow("b/x") as follower:
        standing(follower)
        assert publish_acked(session, "b/x", ("a", 1)) == [1]
        for index, (verb, text, cause) in enumerate(CRASHES):
            crash_and_go_on(broker, session, verb, text, cause, index + 1)
            assert publish_acked(other, "c/x", ("k", 1)) == [index + 1], "the other plugin goes on"
        row = plugin_row(broker, "bad")
        assert row["restarts"] == 3 * len(CRASHES) and row["dead"] == len(CRASHES), row
        follower.wait_event("update", topic="b/x", key="n", seq=len(CRASHES) + 1)
        names = [event["event"] for event in follower.events]
        assert "stale" in names and "live" in names and "reset" not in names, names


def test_an_endless_loop_is_ended_when_its_time_is_over():
    config = misbehaving("process", time_ms_max=200)
    with Broker(config=config) as broker, broker.session() as session:
        publish_acked(session, "b/x", ("a", 1))
        start = time.monotonic()
        [frame] = publish_acked(session, "b/x", ("l", ["loop"]))
        took = time.monotonic() - start
        assert frame[3] == "poisoned", frame
        assert took >= 3 * 0.2, f"three tries took {took:.2f} s"
        assert dead_of(broker, "b/x")[-1]["cause"] == "timeout"
        assert publish_acked(session, "b/x", ("a", 2)) == [2]


def test_a_memory_hog_ends_with_a_clear_cause():
    config = misbehaving("process", memory_bytes_max=64 << 20)
    with Broker(config=config) as broker, broker.session() as session:
        [frame] = publish_acked(session, "b/x", ("h", ["hog"]))
        assert frame[3] == "poisoned", frame
        assert publish_acked(session, "b/x", ("a", 2)) == [1]
        assert broker.memory() < 400 << 20


def test_a_flood_of_emissions_is_refused_whole():
    for host in ("thread", "process"):
        with Broker(config=misbehaving(host, emits_max=100)) as broker, broker.session() as session:
            [frame] = publish_acked(session, "b/x", ("f", ["emit-many", 1_000_000]))
            assert frame[3] == "poisoned" and "may bring about 100 records" in frame[4], frame
            assert publish_acked(session, "b/x", ("a", 2)) == [1], "nothing of the flood got through"
            assert publish_acked(session, "b/x", ("m", ["emit-many", 100])) == [101]


def test_kill_9_again_and_again_under_load_loses_nothing_and_counts_nothing_twice():
    kills, records, each = 100, 0, 50
    config = configured(definition("count", "count", host="process", intensity=10_000),
                        definition("other", "count", host="thread"),
                        rules=[("c/#", "plugin:count"), ("o/#", "plugin:other")])
    with Broker(config=config) as broker, broker.session() as session, broker.session() as beside, \
            broker.follow("c/x") as follower:
        standing(follower)
        times, killed = [], set()
        for round in range(kills):
            first = session.publish("c/x", *((f"k{i % 10}", i) for i in range(each)))
            wait_until(lambda: kill_one(broker, killed), what="a process of the plugin that was not killed yet")
            start = time.monotonic()
            assert publish_acked(beside, "o/x", ("k", round)) == [round + 1]
            outcomes = collect(session, first, each)
            times.append(time.monotonic() - start)
            assert outcomes == list(range(records + 1, records + each + 1)), (round, outcomes)
            records += each
        assert broker.get("c/x")["state"] == {f"k{i}": records // 10 for i in range(10)}
        wait_until(lambda: plugin_row(broker, "count")["restarts"] >= kills, what="the last restart")
        row = plugin_row(broker, "count")
        assert row["restarts"] == kills and row["dead"] == 0 and row["state"] == "live", row
        assert plugin_row(broker, "other")["restarts"] == 0
        events = [event["event"] for event in follower.events]
        assert "reset" not in events and "gap" not in events
        times.sort()
        print(f"acknowledged after a kill: p50 {times[kills // 2] * 1000:.1f} ms, max {times[-1] * 1000:.1f} ms")


def collect(session, first, count):
    outcomes = {}
    while len(outcomes) < count:
        frame = session.next_frame()
        if frame[0] == Op.ACK:
            outcomes.update({frame[1] + i: frame[4] + i for i in range(frame[2])})
        elif frame[0] == Op.REFUSED:
            outcomes.update({frame[1] + i: frame for i in range(frame[2])})
    return [outcomes[first + i] for i in range(count)]


def test_plugins_that_wait_for_their_topics_share_the_time_of_a_shutdown():
    """More of them than the broker waits seconds for; each has records left that it may emit a byte a second."""
    names = [f"bad{i}" for i in range(8)]
    config = configured(*(definition(name, "misbehave", emit_bytes_per_s=1) for name in names),
                        rules=[(f"{name}/#", f"plugin:{name}") for name in names])
    with Broker(config="shutdown_ms: 0\n" + config) as broker, broker.session() as session:
        for name in names:
            session.publish(f"{name}/x", ("m", ["emit-many", 100]))
        for name in names:
            wait_until(lambda: plugin_row(broker, name)["emitted"] >= 1, what=f"the first record of {name}")
        lines = broker.output.lines
        broker.stop()
        assert not [line for line in lines if "shutdown.tree" in line], "ended in time"
        assert sum("plugin.emissions_lost" in line for line in lines) == len(names), broker.tail()


def test_topics_that_cannot_be_are_not_logged_one_by_one():
    config = configured(definition("bad", "misbehave", "processor", patterns=["in"], emit=["out/#"]),
                        rules=[("in", "log")]) + "  max: 4\n"
    with Broker(config=config) as broker, broker.session() as session:
        publish_acked(session, "in", *(["emit", f"out/{number}", "k", number] for number in range(200)), "the end")
        wait_until(lambda: plugin_row(broker, "bad")["handled"] >= 201, what="the last record")
        wait_until(lambda: plugin_row(broker, "bad")["refused"] >= 190, what="the refusals")
        told = sum("plugin.no_topic" in line for line in broker.output.lines)
        assert 0 < told < 100, told


def test_a_plugin_that_cannot_start_is_not_logged_each_time():
    config = configured(definition("bad", "refused_no_export", intensity=200, period_ms=60000))
    with Broker(config=config) as broker:
        broker.output.wait("give-up.*plugin bad")
        assert plugin_row(broker, "bad")["restarts"] >= 100, plugin_row(broker, "bad")
        told = [line for line in broker.output.lines if "event=plugin.failed" in line]
        assert 0 < len(told) < 100 and "exports no weir_actor_plugin" in told[0], told
