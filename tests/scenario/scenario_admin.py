"""The admin socket: what it shows, what it steers, and that it answers whatever the data plane does."""

import contextlib
import json
import os
import stat
import threading

from harness import PATIENCE, WAIT, Broker, Op, Refused, cli, sanitized, wait_until
from ledger import Ledger, Load, seeded


def refused(request, command, **arguments):
    try:
        request.ask(command, **arguments)
    except Refused as error:
        return error.code
    raise AssertionError(f"{command} {arguments} was not refused")


def memory_of(broker, owner):
    return next(row for row in broker.ask_admin("status")["memory"] if row["owner"] == owner)


@sanitized
def test_status_adds_up_and_names_version_uptime_rates_memory_and_workers():
    with Broker() as broker, broker.session() as session, broker.follow("#") as follower:
        follower.wait_event("subscribed")
        ledger = Ledger(session)
        for number in range(50):
            ledger.publish("t", *((None, number) for _ in range(10)), (None, "x" * 100))
        ledger.publish("$no", (None, 1))
        ledger.settle()
        for _ in range(550):
            follower.wait_event("update")
        status = broker.ask_admin("status")
        assert status["version"] and status["pid"] == broker.process.pid and status["uptime_ms"] > 0
        assert status["records_in"] == 551 == status["records_accepted"] + status["records_refused"], status
        assert (status["records_folded"], status["records_out"]) == (550, 550), status
        assert status["refusals"]["topic-name"] == 1, status["refusals"]
        assert {"records_in", "records_out", "cpu"} <= set(status["per_second"])
        assert {row["owner"] for row in status["memory"]} >= {"broker", "topics"}
        ledger.publish("large", (None, "x" * 500_000))
        ledger.settle()
        broker.ask_admin("topic", "delete", "large")
        wait_until(lambda: memory_of(broker, "topics")["bytes"] < 400_000, what="the state to be given back")
        assert memory_of(broker, "topics")["peak"] >= 500_000, "what there was at most is still known"
        assert memory_of(broker, "arena, committed")["peak"] >= 500_000
        assert len(status["workers"]) >= 1 and all("load" in row for row in status["workers"])
        wait_until(lambda: broker.ask_admin("status")["per_second"]["records_in"] == 0, what="a rate that falls")


@sanitized
def test_topics_connections_and_subscriptions_show_what_is_there():
    with Broker(topics=["m/#=map"]) as broker, broker.request() as request, broker.session(name="viewer") as session:
        for number in range(10):
            request.publish("m/a", number, f"k{number % 3}")
        session.subscribe(4, "m/#", policy="block")
        session.snapshot()
        topic, = broker.ask_admin("topics", "m/+")["topics"]
        assert (topic["topic"], topic["kind"], topic["seq"], topic["entries"]) == ("m/a", "map", 10, 3), topic
        assert topic["subscribers"] == 1 and topic["state"] == "live" and topic["depth_max"] > 0, topic
        assert broker.ask_admin("topics", "x/#")["topics"] == []
        rows = {row["protocol"]: row for row in broker.ask_admin("connections")["connections"]}
        assert rows["pair"]["client"] == "viewer" and rows["pair"]["feeds"] == 1, rows
        assert rows["req"]["records_in"] == 10 and rows["req"]["peer"].startswith("tcp://127.0.0.1:"), rows
        feed, = broker.ask_admin("subscriptions")["subscriptions"]
        assert (feed["topic"], feed["policy"], feed["seq"], feed["lag"]) == ("m/a", "block", 10, 0), feed
        assert feed["connection"] == rows["pair"]["id"], (feed, rows)


def test_the_tree_holds_topics_connections_and_admin():
    with Broker(topics=["made/at/start=map"]) as broker, broker.session() as session:
        session.publish("later", 1)
        session.wait_for(Op.ACK)
        rows = {row["name"].strip(): row for row in broker.ask_admin("tree")["tree"]}
        for name in ("broker", "topics", "connections", "admin"):
            assert rows[name]["kind"] == "one_for_one" and rows[name]["state"] == "up", (name, rows)
        assert rows["topics"]["children"] >= 2 and rows["connections"]["children"] >= 1, rows
        depth = {row["name"].strip(): len(row["name"]) - len(row["name"].strip()) for row in
                 broker.ask_admin("tree")["tree"]}
        assert depth["broker"] < depth["topics"], "a tree"


def test_why_says_that_nothing_holds_a_topic_back():
    with Broker() as broker, broker.request() as request, broker.admin_request() as admin:
        request.publish("t", 1)
        assert broker.ask_admin("why", "t")["held_back_by"] == "nothing"
        assert refused(admin, "why", topic="elsewhere") == "not-found"
        assert refused(admin, "why") == "bad-topic"


@sanitized
def test_topics_are_created_cleared_and_deleted():
    with Broker(topics=["m/#=map"]) as broker, broker.request() as request, broker.admin_request() as admin:
        broker.ask_admin("topic", "create", "m/a")
        broker.ask_admin("topic", "create", "l", "log")
        assert broker.get("m/a")["kind"] == "map" and broker.get("l")["kind"] == "log"
        assert refused(admin, "topic", action="create", topic="l") == "exists"
        assert refused(admin, "topic", action="create", topic="x", kind="heap") == "bad-request"
        assert refused(admin, "topic", action="create", topic="$x") == "forbidden"
        assert refused(admin, "topic", action="create", topic="a//b") == "bad-topic"
        assert refused(admin, "topic", action="burn", topic="l") == "bad-request"
        first = request.publish("m/a", 1, "k")
        broker.ask_admin("topic", "clear", "m/a")
        cleared = broker.get("m/a")
        assert (cleared["state"], cleared["seq"]) == ({}, 0) and cleared["epoch"] != first["epoch"], cleared
        broker.ask_admin("topic", "delete", "m/a")
        wait_until(lambda: broker.ask_admin("topics", "m/a")["topics"] == [], what="the topic's end")
        assert refused(request, "get", topic="m/a") == "not-found"
        assert refused(admin, "topic", action="delete", topic="m/a") == "not-found"
        assert refused(admin, "topic", action="clear", topic="m/a") == "not-found"
        for _ in range(30):  # twice at once, so that some come while it ends
            request.publish("m/b", 1, "k")
            admin.ask("topic", action="delete", topic="m/b")
            try:
                admin.ask("topic", action="delete", topic="m/b")
            except Refused as error:
                assert error.code == "not-found", error
        again = request.publish("m/a", 2, "k")
        assert again["seq"] == 1 and again["epoch"] not in (first["epoch"], cleared["epoch"]), again


def by_protocol(broker):
    return {row["protocol"]: row["id"] for row in broker.ask_admin("connections")["connections"]}


@sanitized
def test_an_operator_disconnects_a_connection():
    with Broker() as broker, broker.session(name="victim") as session, broker.push() as push, \
            broker.admin_request() as admin:
        wait_until(lambda: len(by_protocol(broker)) == 2, what="both connections")
        rows = by_protocol(broker)
        broker.ask_admin("disconnect", rows["pair"])
        assert session.wait_for(Op.CLOSE)[1] == "closed", "a session is told"
        session.wait_closed()
        broker.ask_admin("disconnect", rows["push"])
        push.wait_closed()
        wait_until(lambda: broker.ask_admin("connections")["connections"] == [], what="their ends")
        assert refused(admin, "disconnect", id=rows["pair"]) == "not-found"
        assert refused(admin, "disconnect") == "bad-request"


def test_the_log_level_changes_while_running():
    with Broker() as broker, broker.admin_request() as admin:
        for level in ("debug", "warning", "error", "off", "info"):
            assert broker.ask_admin("log", level) == {"log_level": level}
            assert broker.ask_admin("status")["log_level"] == level
        assert refused(admin, "log", level="loud") == "bad-request"


def test_config_show_lists_every_setting_with_its_default():
    with Broker(config="connections:\n  max: 77\n") as broker:
        rows = {row["key"]: row for row in broker.ask_admin("config", "show")["config"]}
        assert rows["connections.max"] == {"key": "connections.max", "value": 77, "default": 10000, "reload": True}
        assert rows["memory_bytes_max"]["reload"] is False and len(rows) > 30


@sanitized
def test_drain_says_goodbye_and_takes_nobody_new():
    with Broker() as broker, broker.session() as session:
        assert broker.ask_admin("drain") == {"draining": True}
        assert session.wait_for(Op.CLOSE)[1] == "closed"
        session.wait_closed()
        wait_until(lambda: broker.ask_admin("status")["connections"] == 0, what="the last connection's end")
        broker.cli("get", "t", "--timeout", 1000, expect=3)
        assert broker.ask_admin("status")["version"], "the operator is still answered"


@sanitized
def test_shutdown_stops_the_broker_in_order():
    with Broker() as broker, broker.session() as session:
        assert broker.ask_admin("shutdown") == {"stopping": True}
        assert session.wait_for(Op.CLOSE)[1] == "closed"
        assert broker.process.wait(WAIT) == 0
        broker.process = None
        assert broker.output.wait(r"event=shutdown blocks_left=0")


@sanitized
def test_commands_that_do_not_exist_and_bad_arguments_are_answered():
    with Broker() as broker, broker.admin_request() as admin:
        assert refused(admin, "explode") in ("bad-request", "not-found")
        assert refused(admin, "restart", actor="nobody") == "not-found"
        assert refused(admin, "restart") == "bad-request"
        assert refused(admin, "dead", topic="t") == "not-found"
        assert refused(admin, "dead", action="replay") == "bad-topic"
        assert refused(admin, "topics", pattern="a/#/b") == "bad-topic"
        assert refused(admin, "topics", pattern=5) == "bad-request"
        assert refused(admin, "topics", pattern="x" * 60_000) == "bad-request"
        assert refused(admin, "log", level="$(touch /tmp/x)`id`") == "bad-request"
        for body in (b"", b"\xc1", b"\x01", b"\x91\xa1x", os.urandom(50)):
            with broker.admin_request() as other:
                other.send(b"\x80\x00\x00\x01" + body)
                try:
                    other.receive_reply()
                    raise AssertionError("taken")
                except Refused as error:
                    assert error.code == "bad-request", error
        assert admin.ask("dead") == {"dead": []}


@sanitized
def test_the_admin_socket_is_the_owners_alone():
    with Broker() as broker:
        path = broker.admin.removeprefix("ipc://")
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    os.makedirs(broker.directory / "open", exist_ok=True)
    os.chmod(broker.directory / "open", 0o755)
    url = f"ipc://{broker.directory}/open/admin.sock"
    done = cli("serve", "--listen", "tcp://127.0.0.1:0", "--admin", url, expect=1)
    assert "700" in done.stderr, done.stderr
    file = broker.directory / "open/notes"
    os.chmod(file.parent, 0o700)
    file.write_text("somebody's")
    done = cli("serve", "--listen", "tcp://127.0.0.1:0", "--admin", f"ipc://{file}", expect=1)
    assert "not a socket" in done.stderr and file.read_text() == "somebody's", done.stderr


def test_tables_and_json_say_the_same():
    with Broker(topics=["m=map"]) as broker:
        broker.cli("pub", "m", "v", "--key", "k")
        table = cli("admin", "topics", url=broker.admin).stdout.splitlines()
        assert table[0].split()[:3] == ["topic", "kind", "epoch"] and table[1].split()[:2] == ["m", "map"], table
        for command in ("status", "connections", "subscriptions", "tree", "dead", "config show"):
            text = cli("admin", *command.split(), url=broker.admin).stdout
            assert text.strip() and json.loads(cli("admin", *command.split(), "--json", url=broker.admin).stdout)


@contextlib.contextmanager
def saturated(broker):
    """Two sessions and a flooding stock socket publish as fast as they can, well on their way when this returns."""
    random = seeded()
    loads = [Load(broker, ["m/1", "m/2", "l/1"], random, batch=200) for _ in range(2)]
    flooded = threading.Event()

    def push():
        with broker.push() as peer:
            while not flooded.is_set():
                peer.publish(*(("l/2", "x" * 100) for _ in range(1000)))

    pushing = threading.Thread(target=push, daemon=True)
    pushing.start()
    try:
        wait_until(lambda: broker.ask_admin("status")["records_folded"] > 50_000 / PATIENCE, 3 * WAIT, "load")
        yield
    finally:
        flooded.set()
        pushing.join(WAIT)
        for load in loads:
            load.stop()
            load.session.close()


@sanitized
def test_it_answers_while_the_data_plane_is_saturated():
    """Every answer comes while records are still being folded; how soon is measured by tests/bench/admin_bench.py."""
    with Broker(topics=["m/#=map", "l/#=log"]) as broker, broker.follow("#"), saturated(broker):
        with broker.admin_request() as admin:
            folded = admin.ask("status")["records_folded"]
            for _ in range(20):
                assert admin.ask("topics")["topics"] and admin.ask("connections")["connections"] and admin.ask("tree")
            wait_until(lambda: admin.ask("status")["records_folded"] > folded, what="records folded meanwhile")
