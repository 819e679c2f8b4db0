"""Ending: in order, in time, with zero blocks left, whatever goes on. (Broker.stop checks status, leaks, reports.)"""

import contextlib
import signal
import subprocess
import threading

from harness import BINARY, WAIT, Broker, Closed, Op, sanitized, wait_until
from ledger import Load, seeded
from sp import open_socket


# What ended only after it would not end in time for any scenario.
PATIENT = "shutdown_ms: 600000\n"


def assert_clean(broker):
    line = next(line for line in broker.output.lines if "event=shutdown " in line)
    assert "blocks_left=0" in line, line


def test_an_idle_broker_ends_at_once_on_either_signal():
    for name in (signal.SIGTERM, signal.SIGINT):
        with Broker(config=PATIENT) as broker:
            broker.process.send_signal(name)
            assert broker.process.wait(WAIT) == 0
            broker.process = None
            broker.output.thread.join(WAIT)
            assert_clean(broker)


@sanitized
def test_it_ends_in_order_under_load_with_zero_blocks_left():
    random = seeded()
    for round in range(3):
        with Broker(topics=["m/#=map", "l/#=log", "g/#=merge"]) as broker:
            followers = [broker.follow("#"), broker.follow("m/+", options=["--policy", "block"]), broker.follow("l/#")]
            loads = [Load(broker, ["m/1", "m/2", "l/1", "s/1"], random) for _ in range(2)]
            push = subprocess.Popen([BINARY.parent / "stock/stock_push", broker.tcp, "10000000", "l/2"],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until(lambda: broker.ask_admin("status")["records_folded"] > 2000)
            broker.stop(3 * WAIT)
            assert_clean(broker)
            for load in loads:
                load.thread.join(2 * WAIT)
                assert isinstance(load.error, (Closed, OSError)), load.error
                assert load.ledger.published == load.ledger.acked + load.ledger.refused + load.ledger.unknown
            push.kill()
            push.wait()
            for follower in followers:
                follower.process.kill()
                follower.stop()


@sanitized
def test_sessions_are_told_and_what_was_acknowledged_was_folded():
    with Broker() as broker, broker.session() as session:
        session.subscribe(1, "t")
        session.snapshot()
        for number in range(100):
            session.publish("t", number)
        broker.process.send_signal(signal.SIGTERM)
        acked, updates = 0, 0
        while True:
            frame = session.next_frame()
            if frame[0] == Op.CLOSE:
                break
            acked += frame[2] if frame[0] == Op.ACK else 0
            updates += len(frame[3]) // 2 if frame[0] == Op.UPDATES else 0
        assert frame[1] == "closed" and frame[2], frame
        session.wait_closed()
        assert updates >= acked or acked <= 100, (acked, updates)


@sanitized
def test_a_subscriber_that_does_not_read_does_not_hold_the_end_up():
    config = "shutdown_ms: 500\n"
    rule = "t=log,retain_bytes_max=16384,mailbox_max=4"
    with Broker(config=config, topics=[rule]) as broker, broker.session(credit=1000) as reader, \
            broker.session() as session:
        reader.auto_credit = False
        reader.subscribe(1, "t", policy="block", outbox=4096)
        reader.snapshot()
        try:
            while True:
                session.publish("t", "x" * 1000, timeout=0.3)
        except TimeoutError:
            pass
        broker.stop()
        assert_clean(broker)


@sanitized
def test_connections_in_their_handshake_do_not_hold_the_end_up():
    with Broker(config=PATIENT) as broker:
        half = [open_socket(url) for url in (broker.tcp, broker.ipc) for _ in range(20)]
        for connection in half[::2]:
            connection.sendall(b"\0SP")
        broker.stop()
        for connection in half:
            connection.close()


def test_sockets_are_removed_and_the_same_addresses_serve_again():
    with Broker() as broker:
        for round in range(5):
            broker.cli("pub", "t", round, "--json")
            assert broker.get("t")["seq"] == 1, "without a journal a topic starts anew"
            broker.stop()
            broker.start()


def test_a_killed_broker_leaves_sockets_that_its_successor_takes_over():
    with Broker() as broker:
        broker.cli("pub", "t", "v")
        broker.kill()
        broker.start()
        broker.cli("pub", "t", "v", "-s", broker.ipc)
        assert broker.ask_admin("status")["records_folded"] == 1


@sanitized
def test_it_ends_in_order_while_operators_go_on_asking():
    for _ in range(3):
        broker = Broker()
        with broker, contextlib.ExitStack() as stack:
            asked = threading.Semaphore(0)

            def ask(admin):
                with contextlib.suppress(Closed, OSError, TimeoutError):
                    while True:
                        admin.ask("status")
                        asked.release()

            askers = [threading.Thread(target=ask, args=(stack.enter_context(broker.admin_request()),), daemon=True)
                      for _ in range(8)]
            for asker in askers:
                asker.start()
            for _ in range(100):
                assert asked.acquire(timeout=WAIT)
            broker.stop()
            for asker in askers:
                asker.join(WAIT)
                assert not asker.is_alive()
