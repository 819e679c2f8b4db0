"""What a plugin's state and its records go through: crashes between timers, snapshots larger than the ring, reloads
that fail half-way, a new configuration, topics that go, and orders in any order."""

import contextlib
import os
import random
import shutil
import signal
import threading
import time

from harness import Broker, Op, Refused, cli, sanitized, wait_until
from scenario_plugin import (PLUGINS, configured, counting, definition, each_host, plugin_row, publish_acked, standing)
from scenario_plugin_process import PATIENT, child_of, children, children_of_any_thread, name_of


def restarted(broker, name, count):
    wait_until(lambda: (row := plugin_row(broker, name))["restarts"] >= count and row["state"] == "live",
               what=f"restart {count} of {name}")


def timer_survives(host):
    """A processor that is told to set a timer; it crashes before the timer fires, and after it."""
    config = configured(definition("bad", "misbehave", "processor", host, patterns=["in/+"], emit=["in/+/out", "timed"],
                                   **PATIENT),
                        rules=[("in/+", "log"), ("timed", "log"), ("in/+/out", "log")])
    with Broker(config=config) as broker, broker.session() as session, broker.follow("timed", "in/x/out") as follower:
        standing(follower, 2)
        crash = ["fail-once"] if host == "thread" else ["crash-once"]
        began = time.monotonic()
        publish_acked(session, "in/x", ["timer", 400], crash, "after the first crash")
        restarted(broker, "bad", 1)
        follower.wait_event("update", topic="timed", value=7)
        assert time.monotonic() - began >= 0.4, "before its time"
        publish_acked(session, "in/x", crash, "after the second crash")
        restarted(broker, "bad", 2)
        follower.wait_event("update", topic="in/x/out", value="after the second crash")
        # What it emitted stands once: neither the timer nor the records came again.
        assert broker.get("timed")["state"] == [7], broker.get("timed")
        assert broker.get("in/x/out")["state"] == ["after the first crash", "after the second crash"]


@sanitized
def test_a_timer_that_fired_and_was_not_handled_before_a_crash_is_handled_once():
    """The timer's input waits behind one that crashes the process: it is tried again, not fired anew."""
    config = configured(definition("bad", "misbehave", "processor", "process", patterns=["in/+"],
                                   emit=["in/+/out", "timed"], **PATIENT),
                        rules=[("in/+", "log"), ("timed", "log"), ("in/+/out", "log")])
    with Broker(config=config) as broker, broker.session() as session, broker.follow("timed") as follower:
        standing(follower)
        publish_acked(session, "in/x", ["timer", 30], ["slow-crash-once", 150])
        restarted(broker, "bad", 1)
        follower.wait_event("update", topic="timed", value=7)
        os.kill(child_of(broker), signal.SIGKILL)
        restarted(broker, "bad", 2)
        publish_acked(session, "in/x", "the end")
        wait_until(lambda: broker.cli("get", "in/x/out", expect=None).returncode == 0, what="what came after it")
        assert broker.get("timed")["state"] == [7], broker.get("timed")


@sanitized
def test_a_timer_fires_once_whether_its_plugin_crashes_before_or_after():
    each_host(timer_survives)


def test_a_snapshot_larger_than_the_ring_comes_back_after_a_crash():
    keys, pad = 3000, "x" * 200
    config = configured(definition("count", "count", host="process", ring_bytes=65536, **PATIENT),
                        rules=[("c/#", "plugin:count")])
    with Broker(config=config) as broker, broker.session() as session:
        for start in range(0, keys, 500):
            publish_acked(session, "c/x", *((f"{pad}{i}", 1) for i in range(start, start + 500)))
        # A reload takes a snapshot and restores it; the crash after it restores the same one.
        broker.ask_admin("plugin", "reload", "count")
        assert plugin_row(broker, "count")["snapshot_bytes"] > 8 * 65536, plugin_row(broker, "count")
        for round in range(2):
            os.kill(child_of(broker), signal.SIGKILL)
            restarted(broker, "count", round + 1)
            outcomes = publish_acked(session, "c/x", (f"{pad}0", 1), (f"{pad}{keys - 1}", 1))
            assert outcomes == [keys + 2 * round + 1, keys + 2 * round + 2], outcomes
        assert broker.get("c/x", f"{pad}0")["state"] == 3
        assert broker.get("c/x", f"{pad}{keys - 1}")["state"] == 3


def reload_fails(broker, expected):
    done = cli("admin", "plugin", "reload", "count", url=broker.admin, expect=None)
    assert done.returncode != 0 and expected in done.stderr, done


def reloads_fail(host):
    """The file is replaced by ones that fail each at another step; each time the old code goes on with its state."""
    with Broker(start=False) as broker:
        file = broker.directory / "plugin.so"
        shutil.copy(PLUGINS / "count.so", file)
        config = definition("count", "count", host=host, **PATIENT).replace(
            str(PLUGINS / "count.so"), str(file))
        (broker.directory / "weir.yaml").write_text(configured(config, rules=[("c/#", "plugin:count")]))
        broker.options += ["--config", str(broker.directory / "weir.yaml")]
        broker.start()
        with broker.session() as session, broker.follow("c/x") as follower:
            standing(follower)
            publish_acked(session, "c/x", ("a", 1))
            steps = [(lambda: os.unlink(file), "No such file"),
                     (lambda: file.write_bytes(b"\x7fELF" + bytes(4000)), "cannot be loaded"),
                     (lambda: os.chmod(file, 0o666), "can be written by others"),
                     (lambda: replace(file, "refused_no_export"), "exports no weir_actor_plugin"),
                     (lambda: replace(file, "misbehave"), "restore")]
            for round, (change, expected) in enumerate(steps):
                change()
                reload_fails(broker, expected)
                publish_acked(session, "c/x", ("a", 1))
                assert broker.get("c/x")["state"] == {"a": round + 2}
            replace(file, "count")
            assert broker.ask_admin("plugin", "reload", "count") == {"reloaded": "count"}
            publish_acked(session, "c/x", ("a", 1))
            assert broker.get("c/x")["state"] == {"a": len(steps) + 2}
            row = plugin_row(broker, "count")
            assert row["restarts"] == 0 and row["state"] == "live", row
            follower.wait_event("update", topic="c/x", seq=len(steps) + 2)
            assert not [event for event in follower.events if event["event"] in ("stale", "reset", "gap")]


def replace(file, name):
    """As an installer does: the new file beside it, then under its name."""
    beside = file.with_suffix(".new")
    shutil.copy(PLUGINS / f"{name}.so", beside)
    os.chmod(beside, 0o755)
    os.replace(beside, file)


@sanitized
def test_a_reload_that_fails_half_way_leaves_the_old_code_going_on():
    each_host(reloads_fail)


def rewrite(broker, text):
    """A new configuration by SIGHUP."""
    seen = len(broker.output.lines)
    (broker.directory / "weir.yaml").write_text(text)
    broker.process.send_signal(signal.SIGHUP)
    broker.output.wait(r"event=config.reload outcome=done", start=seen)


@sanitized
def test_plugins_of_a_new_configuration_are_taken_by_reload_load_and_unload():
    def text(start, *more, rules=()):
        return configured(definition("count", "count", config={"start": start}), *more,
                          rules=[("c/#", "plugin:count"), *rules])

    with Broker(config=text(0)) as broker, broker.session() as session:
        publish_acked(session, "c/x", ("a", 1))
        rewrite(broker, text(100, definition("late", "count"), rules=[("l/#", "plugin:late")]))
        # Changed: what runs goes on as it was until it is reloaded, with its state.
        publish_acked(session, "c/x", ("a", 1), ("b", 1))
        assert broker.get("c/x")["state"] == {"a": 2, "b": 1}
        broker.ask_admin("plugin", "reload", "count")
        publish_acked(session, "c/x", ("a", 1), ("c", 1))
        assert broker.get("c/x")["state"] == {"a": 3, "b": 1, "c": 101}
        # New: it is there to be loaded.
        assert plugin_row(broker, "late")["state"] == "unloaded"
        broker.ask_admin("plugin", "load", "late")
        assert publish_acked(session, "l/x", ("a", 1)) == [1]
        # Gone: it runs until it is unloaded, and cannot be loaded again.
        rewrite(broker, text(100))
        assert publish_acked(session, "l/x", ("a", 1)) == [2]
        broker.ask_admin("plugin", "unload", "late")
        done = cli("admin", "plugin", "load", "late", url=broker.admin, expect=None)
        assert done.returncode != 0 and "late" in done.stderr, done
        # One that cannot start: whoever loads it is told why.
        rewrite(broker, text(100, definition("bad", "misbehave", host="process", config={"init": "fail"})))
        done = cli("admin", "plugin", "load", "bad", url=broker.admin, expect=None)
        assert done.returncode != 0 and "'bad' does not run: told to fail in init" in done.stderr, done
        # One that is wrong changes nothing.
        seen = len(broker.output.lines)
        (broker.directory / "weir.yaml").write_text(text(1, definition("x", "no-such-file")))
        broker.process.send_signal(signal.SIGHUP)
        broker.output.wait(r"event=config.reload outcome=refused .*plugins", start=seen)
        assert publish_acked(session, "c/x", ("d", 1)) == [6]
        assert broker.get("c/x")["state"]["d"] == 101


def topic_is_deleted(host):
    """Publishers go on while their topic is deleted again and again: each record has one outcome."""
    with Broker(config=counting(host)) as broker, broker.session() as session, broker.session() as other:
        publish_acked(other, "c/other", ("a", 1))
        outcomes, sent = {}, 0
        for _ in range(8):
            for _ in range(20):
                session.publish("c/x", *((f"k{i}", i) for i in range(25)))
                sent += 25
            cli("admin", "topic", "delete", "c/x", url=broker.admin, expect=None)
        while len(outcomes) < sent:
            frame = session.next_frame()
            if frame[0] in (Op.ACK, Op.REFUSED):
                for i in range(frame[2]):
                    assert frame[1] + i not in outcomes, f"two outcomes of one record: {frame}"
                    outcomes[frame[1] + i] = frame[0]
        row = plugin_row(broker, "count")
        assert row["state"] == "live" and row["restarts"] == 0 and row["dead"] == 0, row
        assert publish_acked(other, "c/other", ("a", 1)) == [2]
        assert broker.get("c/other")["state"] == {"a": 2}
        [outcome] = publish_acked(session, "c/x", ("k0", 0))
        assert isinstance(outcome, int) and broker.get("c/x")["state"].keys() >= {"k0"}, outcome


@sanitized
def test_a_plugins_topic_that_is_deleted_under_load_leaves_no_record_without_outcome():
    each_host(topic_is_deleted)


@sanitized
def test_orders_and_kills_in_any_order_leave_a_broker_that_works():
    config = configured(definition("count", "count", host="process", **PATIENT),
                        definition("thread", "count", host="thread"),
                        rules=[("c/#", "plugin:count"), ("t/#", "plugin:thread"), ("m/#", "map")])
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    with Broker(config=config) as broker, broker.session() as session, broker.session() as other:
        publish_acked(other, "m/x", ("a", 0))
        end = time.monotonic() + 1.5
        threads = [threading.Thread(target=orders_give, args=(broker, random.Random(seed + i), end)) for i in range(3)]
        for thread in threads:
            thread.start()
        missing = set()
        while time.monotonic() < end:
            for topic in ("c/x", "t/x"):
                first = session.publish(topic, *((f"k{i}", i) for i in range(10)))
                missing |= set(range(first, first + 10))
            while len(missing) > 200:
                missing -= outcome_numbers(session)
            publish_acked(other, "m/x", ("a", 1))
        for thread in threads:
            thread.join()
        for name in ("count", "thread"):
            wait_until(lambda name=name: is_loaded(broker, name), what=f"{name}, loaded again")
        print(f"{len(missing)} records without an outcome yet: {sorted(missing)[:50]}")
        while missing:
            missing -= outcome_numbers(session)
        for topic in ("c/y", "t/y"):
            assert publish_acked(other, topic, ("a", 1)) == [1]


def is_loaded(broker, name):
    """It may still be on its way out, or have been loaded by the last order."""
    if plugin_row(broker, name)["state"] == "live":
        return True
    cli("admin", "plugin", "load", name, url=broker.admin, expect=None)
    return False


def outcome_numbers(session):
    frame = session.next_frame()
    return {frame[1] + i for i in range(frame[2])} if frame[0] in (Op.ACK, Op.REFUSED) else set()


def orders_give(broker, chance, end):
    """Orders as people and scripts would never give them, over one admin socket each; any answer is right."""
    with broker.admin_request() as admin:
        while time.monotonic() < end:
            name = chance.choice(["count", "thread", "count", "none", "", "x" * 300, "a/../b", "\x00"])
            action = chance.choice(["load", "unload", "reload", "reload", "list", "kill", "spawner"])
            if action == "kill" or action == "spawner" and chance.random() < 0.3:
                kill_any(broker, action)
            elif action != "spawner":
                with contextlib.suppress(Refused):
                    admin.ask("plugin", action=action, name=name)


def kill_any(broker, what):
    """Nothing where there is none at this moment."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        spawners = [pid for pid in children_of_any_thread(broker.process.pid) if name_of(pid) == "weir-spawner"]
        pids = spawners if what == "spawner" else [pid for spawner in spawners for pid in children(spawner)]
        for pid in pids[:1]:
            os.kill(pid, signal.SIGKILL)
