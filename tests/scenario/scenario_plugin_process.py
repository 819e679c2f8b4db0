"""Plugins in processes of their own: whatever such a process does, it costs that plugin a restart and nobody else
anything; and no process is left when the broker is gone."""

import contextlib
import os
import re
import signal
import time
from pathlib import Path

from harness import Broker, Op, cli, sanitized, wait_until
from scenario_plugin import configured, dead_of, definition, plugin_row, publish_acked

# Beyond what a test lets it fail, so that the tree does not give it up.
PATIENT = {"intensity": 1000, "period_ms": 1000}


def bad(**settings):
    return configured(definition("bad", "misbehave", host="process", **PATIENT, **settings),
                      rules=[("b/#", "plugin:bad"), ("m", "map")])


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def spawner_of(broker):
    """The process that starts plugins; one just executed has its name soon, one that ended keeps it for a while."""
    return wait_until(lambda: [child for child in children_of_any_thread(broker.process.pid)
                               if name_of(child) == "weir-spawner" and is_there(child)], what="the spawner")[0]


def name_of(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return None


def children_of_any_thread(pid):
    """A spawner that was started again is the watcher thread's child."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def child_of(broker):
    """The plugin's process, as soon as there is exactly one."""
    found = []

    def look():
        found[:] = filter(is_there, children(spawner_of(broker)))
        return len(found) == 1

    wait_until(look, what="the plugin's process")
    return found[0]


def is_there(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def crash_is_quarantined(verb, expected, **settings):
    with Broker(config=bad(**settings)) as broker, broker.session() as session, broker.follow("b/x") as follower:
        follower.wait_event("subscribed")
        pid = broker.process.pid
        before, poisoned, after, count = publish_acked(session, "b/x", ("a", 1), ("bad", [verb]), ("c", 3),
                                                       ("n", ["tell-count"]))
        assert (before, after, count) == (1, 2, 3), (before, after, count)
        assert poisoned[3] == "poisoned" and re.search(expected, poisoned[4]), poisoned
        assert broker.get("b/x")["state"] == {"a": 1, "c": 3, "n": 2}
        [dead] = dead_of(broker, "b/x")
        assert dead["key"] == "bad" and dead["value"] == [verb] and dead["attempts"] == 3, dead
        assert publish_acked(session, "m", ("k", 1)) == [1]
        follower.wait_event("stale", topic="b/x")
        follower.wait_event("live", topic="b/x")
        assert not [event for event in follower.events if event["event"] == "reset"], "no state was lost"
        assert broker.process.pid == pid and broker.process.poll() is None
        row = plugin_row(broker, "bad")
        assert row["restarts"] == 3 and row["state"] == "live" and re.search(expected, row["cause"]), row


def test_a_crash_costs_the_plugin_a_restart_and_nobody_else_anything():
    crash_is_quarantined("segv", "SIGSEGV while handling")
    crash_is_quarantined("abort", "SIGABRT while handling")
    crash_is_quarantined("exit", "exited with status 3 while handling")


def test_an_endless_loop_is_killed_when_its_time_is_up():
    crash_is_quarantined("loop", "no end after 1000 ms", time_ms_max=1000)


def test_a_plugin_that_uses_up_its_memory_is_ended_by_it():
    crash_is_quarantined("hog", "its memory of 16777216 bytes is used up", memory_bytes_max=16 << 20)


def kill_one(broker, killed):
    """Kills a child that was not killed before, so that each kill hits a live one and costs one restart; a process is
    known by its id and its start. False: there is none at this moment."""
    spawners = [pid for pid in children_of_any_thread(broker.process.pid) if name_of(pid) == "weir-spawner"]
    for spawner in spawners:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            for pid in children(spawner):
                process = pid, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
                if process not in killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.add(process)
                    return True
    return False


def value_of(i):
    """Some are so large that they go to their topic in the block that they came in, if the first of theirs is."""
    return str(i) * 600 if i % 30 == 0 else i


@sanitized
def test_kill_9_again_and_again_loses_no_record():
    count = 3000
    with Broker(config=bad()) as broker, broker.session() as session:
        publish_acked(session, "b/x", ("a", 0))
        killed = set()
        for start in range(0, count, 100):
            first = session.publish("b/x", *((f"k{i}", value_of(i)) for i in range(start, start + 100)))
            wait_until(lambda: kill_one(broker, killed), what="a process of the plugin that was not killed yet")
            outcomes = {}
            while len(outcomes) < 100:
                frame = session.next_frame()
                assert frame[0] != Op.REFUSED, frame
                if frame[0] == Op.ACK:
                    outcomes.update({frame[1] + i: frame[4] + i for i in range(frame[2])})
            assert [outcomes[first + i] for i in range(100)] == list(range(start + 2, start + 102))
        state = broker.get("b/x")["state"]
        assert state == {"a": 0, **{f"k{i}": value_of(i) for i in range(count)}}
        wait_until(lambda: plugin_row(broker, "bad")["restarts"] >= count // 100, what="the last restart")
        assert plugin_row(broker, "bad")["restarts"] == count // 100


def live_row(broker, name, pid_before=None):
    """Once it is live in a process; that one has ended, or is there, is known a moment before, or after, its state."""
    row = wait_until(lambda: [row for row in [plugin_row(broker, name)]
                              if row["state"] == "live" and row["pid"] not in (None, pid_before)],
                     what=f"a new process of {name}")
    return row[0]


@sanitized
def test_the_list_of_plugins_says_which_process_is_whose():
    config = configured(definition("bad", "misbehave", host="process", **PATIENT), definition("here", "count"))
    with Broker(config=config) as broker:
        pid = live_row(broker, "bad")["pid"]
        assert pid == child_of(broker), pid
        os.kill(pid, signal.SIGKILL)
        after = live_row(broker, "bad", pid)
        assert after["restarts"] == 1 and after["pid"] == child_of(broker), after
        broker.ask_admin("plugin", "reload", "bad")
        assert live_row(broker, "bad", after["pid"])["pid"] == child_of(broker)
        broker.ask_admin("plugin", "unload", "bad")
        assert plugin_row(broker, "bad")["pid"] is None
        wait_until(lambda: plugin_row(broker, "here")["state"] == "live", what="the other one")
        assert plugin_row(broker, "here")["pid"] is None, "one in the broker's thread has no process of its own"
        header, *rows = cli("admin", "plugin", "list", url=broker.admin).stdout.splitlines()
        at = header.lower().split().index("pid")
        assert [row.split()[at] for row in rows] == ["-", "-"], rows


@sanitized
def test_a_process_is_listed_while_it_starts():
    # It would start for longer than any scenario may take.
    config = configured(definition("bad", "misbehave", host="process", config={"init": "loop"}, start_ms_max=3_600_000))
    with Broker(config=config) as broker:
        row = wait_until(lambda: [row for row in [plugin_row(broker, "bad")] if row["pid"] is not None],
                         what="the process that starts")[0]
        assert row["state"] == "starting" and row["pid"] == child_of(broker), row


@sanitized
def test_no_process_is_left_when_the_broker_is_gone():
    for end in (signal.SIGTERM, signal.SIGKILL):
        with Broker(config=bad()) as broker, broker.session() as session:
            publish_acked(session, "b/x", ("a", 1))
            pids = [spawner_of(broker), child_of(broker)]
            session.close()
            broker.kill() if end == signal.SIGKILL else broker.stop()
            wait_until(lambda: not any(is_there(pid) for pid in pids), what="the end of spawner and child")


@sanitized
def test_a_busy_loop_does_not_hold_up_other_topics():
    # It would loop for longer than any scenario may take.
    with Broker(config=bad(time_ms_max=3_600_000)) as broker, broker.session() as session, broker.session() as other:
        publish_acked(session, "b/x", ("a", 1))
        session.publish("b/x", ("bad", ["loop"]))
        for i in range(50):
            assert publish_acked(other, "m", ("k", i)) == [i + 1]


def switches(pid):
    """How often a process has gone to sleep."""
    return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)[1])


@sanitized
def test_a_plugin_that_has_nothing_to_do_sleeps():
    with Broker(config=bad()) as broker, broker.session() as session:
        publish_acked(session, "b/x", *((f"k{i}", i) for i in range(100)))
        child = child_of(broker)

        def is_at_rest():
            before = switches(child)
            time.sleep(0.2)
            return switches(child) == before

        wait_until(is_at_rest, what="a child that sleeps on")


@sanitized
def test_plugins_come_back_when_the_process_that_starts_them_is_killed():
    count = 2000
    with Broker(config=bad()) as broker, broker.session() as session, broker.follow("b/x") as follower:
        follower.wait_event("subscribed")
        publish_acked(session, "b/x", ("a", 0))
        follower.wait_event("update", topic="b/x", key="a")
        spawners, folded = set(), 1
        for start in range(0, count, count // 4):
            first = session.publish("b/x", *((f"k{i}", i) for i in range(start, start + count // 4)))
            spawner, child = spawner_of(broker), child_of(broker)
            spawners.add(spawner)
            os.kill(spawner, signal.SIGKILL)
            outcomes = {}
            while len(outcomes) < count // 4:
                frame = session.next_frame()
                assert frame[0] != Op.REFUSED, frame
                if frame[0] == Op.ACK:
                    outcomes.update({frame[1] + i: frame[4] + i for i in range(frame[2])})
            assert [outcomes[first + i] for i in range(count // 4)] == list(range(folded + 1, folded + count // 4 + 1))
            folded += count // 4
            wait_until(lambda: not is_there(spawner) and not is_there(child), what="the end of spawner and child")
        assert len(spawners) == 4, spawners
        assert broker.get("b/x")["state"] == {"a": 0, **{f"k{i}": i for i in range(count)}}
        wait_until(lambda: plugin_row(broker, "bad")["state"] == "live", what="the last restart")
        # Each costs a restart; while there is no spawner, plugins wait for the next one.
        assert plugin_row(broker, "bad")["restarts"] == 4, plugin_row(broker, "bad")
        follower.wait_event("update", topic="b/x", key=f"k{count - 1}")
        assert not [event for event in follower.events if event["event"] in ("reset", "gap")]
