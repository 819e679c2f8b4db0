"""Configuration: errors name file and line, reloading says what it cannot do, what is insecure does not start."""

import os
import signal
import socket
import tempfile
from pathlib import Path

from harness import ROOT, WAIT, Broker, cli, free_port, sanitized, wait_until


def check(text, expect=2):
    """`weir serve --check` of this text; what it says."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = Path(directory) / "weir.yaml"
        path.write_text(text)
        done = cli("serve", "--check", path, expect=expect)
        return done.stdout + done.stderr


def test_the_documented_file_is_valid_and_holds_the_defaults():
    done = cli("serve", "--check", ROOT / "deploy/weir.yaml")
    assert "fine" in done.stdout, done
    text = (ROOT / "deploy/weir.yaml").read_text()
    with Broker(config="log_level: info\n") as broker:
        for row in broker.ask_admin("config", "show")["config"]:
            name = row["key"].rpartition(".")[2]
            assert f"{name}: " in text, f"{row['key']} is not documented"
            assert row["value"] == row["default"], row


def test_errors_name_file_and_line():
    for line, text in ((2, "log_level: info\nconections:\n  max: 1\n"), (3, "connections:\n  max: 10\n  macks: 5\n"),
                       (2, "connections:\n  max: many\n"), (3, "connections:\n  handshake_ms: 50\n  max: 0\n"),
                       (2, "connections:\n  handshake_ms: 5\n"), (1, "log_level: loud\n"), (2, "topics:\n  max: -5\n"),
                       (4, "topics:\n  rules:\n    - pattern: a/#\n      kind: heap\n"),
                       (3, "topics:\n  rules:\n    - pattern: a/#/b\n      kind: map\n"),
                       (2, "topics:\n  auto_create: perhaps\n"), (1, "insecure: flase\n")):
        said = check(text)
        assert f"weir.yaml:{line}:" in said, f"{text!r} wants line {line}: {said}"
    assert "weir.yaml" in check("a: [1\n"), "no YAML at all"
    assert "weir.yaml" in check("listen: tcp://127.0.0.1:1\n"), "a list is wanted"
    said = cli("serve", "--check", "/nowhere/weir.yaml", expect=2).stderr
    assert "/nowhere/weir.yaml" in said, said


def test_what_is_right_is_said_to_be_fine():
    for text in ("log_level: debug\n", "connections:\n  max: 5\n", "insecure: true\nlisten:\n  - tcp://0.0.0.0:7450\n",
                 "topics:\n  rules:\n    - pattern: a/+/#\n      kind: log\n      log_count_max: 5\n"):
        assert "fine" in check(text, expect=0), text


def test_a_listener_outside_loopback_is_refused_unless_insecure():
    for url in ("tcp://0.0.0.0:7450", "tcp://[::]:7450", "tcp://192.0.2.1:7450"):
        done = cli("serve", "--listen", url, expect=2)
        assert "insecure" in done.stderr and "authentication" in done.stderr, done.stderr
    assert "insecure" in check("listen:\n  - tcp://0.0.0.0:7450\n")
    port = free_port()
    with Broker(options=["--insecure", "--listen", f"tcp://0.0.0.0:{port}"]):
        socket.create_connection(("127.0.0.1", port), 5).close()


def test_bounds_that_do_not_fit_each_other_are_refused():
    assert "memory_bytes_max" in check("memory_bytes_max: 16777216\ntopics:\n  state_bytes_max: 33554432\n")
    assert "receive_bytes_max" in check("connections:\n  message_bytes_max: 67108864\n  receive_bytes_max: 1048576\n")


def test_what_the_check_calls_fine_also_starts():
    text = "connections:\n  message_bytes_max: 1048576\n  receive_bytes_max: 2097152\n  reply_deadline_ms: 0\n"
    try:
        said = check(text, expect=0)
    except AssertionError:
        return  # refused with a reason: just as well
    assert "fine" in said
    with Broker(config=text):
        pass


@sanitized
def test_sighup_takes_over_what_can_change_and_names_what_cannot():
    with Broker(config="log_level: info\nconnections:\n  max: 100\n") as broker, broker.request() as request:
        path = broker.directory / "weir.yaml"
        path.write_text("log_level: warning\nmemory_bytes_max: 2147483648\nconnections:\n  max: 50\n"
                        "  handshake_ms: 1234\ntopics:\n  rules:\n    - pattern: new/#\n      kind: map\n")
        broker.process.send_signal(signal.SIGHUP)
        wait_until(lambda: broker.ask_admin("status")["log_level"] == "warning", what="the new level")
        # The new level is there before what cannot change is named, and the rest comes after that.
        for key in ("memory_bytes_max", "connections.handshake_ms"):
            broker.output.wait(f"event=config.unchanged key={key}")

        def shown():
            return {row["key"]: row["value"] for row in broker.ask_admin("config", "show")["config"]}

        wait_until(lambda: shown()["connections.max"] == 50, what="the new bound")
        assert shown()["memory_bytes_max"] == 1 << 30, shown()
        request.publish("new/a", 1, "k")
        assert broker.get("new/a")["kind"] == "map", "a rule for topics from now on"


@sanitized
def test_a_broken_file_leaves_the_running_configuration_alone():
    with Broker(config="connections:\n  max: 100\n") as broker, broker.session() as session:
        (broker.directory / "weir.yaml").write_text("connections:\n  max: none\n")
        broker.process.send_signal(signal.SIGHUP)
        line = broker.output.wait("event=config.reload outcome=refused")
        assert "weir.yaml:2" in line, line
        rows = {row["key"]: row["value"] for row in broker.ask_admin("config", "show")["config"]}
        assert rows["connections.max"] == 100
        session.publish("t", 1)
        os.unlink(broker.directory / "weir.yaml")
        broker.process.send_signal(signal.SIGHUP)
        wait_until(lambda: sum("outcome=refused" in line for line in broker.output.lines) == 2, what="another refusal")
    with Broker() as broker:
        broker.process.send_signal(signal.SIGHUP)
        broker.output.wait("outcome=ignored")


def test_the_command_line_comes_before_the_file():
    config = "topics:\n  rules:\n    - pattern: a/#\n      kind: log\n    - pattern: b/#\n      kind: log\n"
    with Broker(config=config, topics=["a/#=map"]) as broker, broker.request() as request:
        request.publish("a/x", 1, "k")
        request.publish("b/x", 1)
        assert (broker.get("a/x")["kind"], broker.get("b/x")["kind"]) == ("map", "log")
    for bad in ("a/#", "a/#=heap", "a//b=map", "a=log,log_count_max=x", "a=log,nothing=1", "a=log,mailbox_max=0"):
        assert "weir serve:" in cli("serve", "--topic", bad, expect=2).stderr, bad
    for bad in (["--listen", "http://a"], ["--workers", "x"], ["--workers", "65"], ["--log-level", "loud"], ["--what"],
                ["stray"], ["--config", "/nowhere"]):
        cli("serve", *bad, expect=2)


def test_an_address_in_use_is_named():
    with Broker() as broker:
        done = cli("serve", "--listen", broker.tcp, "--admin", f"ipc://{broker.directory}/a2/admin.sock", expect=1)
        assert broker.tcp in done.stderr, done.stderr
        done = cli("serve", "--listen", broker.ipc, "--admin", f"ipc://{broker.directory}/a2/admin.sock", expect=1)
        assert "data.sock" in done.stderr, done.stderr
        broker.cli("pub", "t", "still here")


@sanitized
def test_readiness_is_told_to_systemd():
    with tempfile.TemporaryDirectory(dir="/tmp") as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(f"{directory}/notify")
        told.settimeout(WAIT)
        with Broker(environment={"NOTIFY_SOCKET": f"{directory}/notify"}):
            assert told.recv(4096) == b"READY=1"
        assert told.recv(4096) == b"STOPPING=1"
