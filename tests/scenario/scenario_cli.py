"""The command line: every verb's options, output and exit codes."""

import json
import os
import signal
import socket
import struct
import subprocess
import threading

from harness import BINARY, EXIT_CONNECT, EXIT_TIMEOUT, WAIT, Broker, Op, cli, free_port, sanitized, wait_until
from sp import PAIR0, pack, sp_header

VERBS = ("serve", "pub", "sub", "get", "list", "admin", "bench")


def lines_of(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_verb_has_help_and_refuses_what_it_does_not_know():
    for verb in VERBS:
        done = cli(verb, "--help")
        assert f"weir {verb}" in done.stdout and not done.stderr, verb
        assert cli(verb, "--unheard-of", expect=2).stderr, verb
    assert cli("version").stdout.startswith("weir ")
    assert all(verb in cli("--help").stdout for verb in VERBS)
    assert "no verb" in cli("dance", expect=2).stderr


def test_no_broker_is_exit_3():
    nowhere = f"tcp://127.0.0.1:{free_port()}"
    for words in (("pub", "t", "v"), ("sub", "t"), ("get", "t"), ("list",), ("bench", "pub", "--duration", "1")):
        done = cli(*words, "--timeout", "300", url=nowhere, expect=None)
        if done.returncode == EXIT_TIMEOUT:  # a busy machine took longer for the first try
            done = cli(*words, "--timeout", "10000", url=nowhere, expect=None)
        assert done.returncode == 3 and "cannot connect" in done.stderr, (words, done)
    assert "cannot reach" in cli("admin", "status", url="ipc:///tmp/weir-nowhere.sock", expect=3).stderr
    for bad in ("http://localhost:1", "tcp://", "nonsense"):
        assert cli("get", "t", "--timeout", "300", url=bad, expect=None).returncode in (2, 3), bad


def test_a_record_that_the_broker_takes_no_credit_for_was_not_published():
    def say_hello():
        with listener.accept()[0] as connection:
            connection.sendall(sp_header(PAIR0))
            hello = pack([int(Op.HELLO), 1, {"server": "slow", "credit": 0, "message_max": 1 << 20}])
            connection.sendall(struct.pack(">Q", len(hello)) + hello)
            while connection.recv(4096):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=say_hello)
        thread.start()
        url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        done = cli("pub", "t", "1", "--ack", "none", "--json", "--timeout", "2000", url=url, expect=EXIT_TIMEOUT)
        thread.join()
        assert not done.stdout and "topic 't'" in done.stderr, done


def test_wrong_usage_is_exit_2():
    with Broker() as broker:
        for words in (("pub",), ("pub", "t"), ("pub", "t", "v", "more"), ("pub", "t", "--ack", "soon", "v"), ("sub",),
                      ("get",), ("get", "a", "b", "c"), ("list", "a", "b"), ("sub", "t", "--count", "0"),
                      ("sub", "t", "--count", "many"), ("sub", "t", "--since", "t:1"), ("sub", "t", "--since", "t:x:1"),
                      ("pub", "t", "{bad", "--json"), ("pub", "a//b", "v"), ("bench", "dance"),
                      ("pub", "t", "v", "--timeout", "x"), ("bench", "pub", "--size", "1"), ("pub", "--records", "t")):
            broker.cli(*words, expect=2)
        cli("admin", "explode", url=broker.admin, expect=2)
        cli("admin", "why", url=broker.admin, expect=2)
        cli("admin", "status", "now", url=broker.admin, expect=2)


def test_refusals_say_what_was_wrong():
    with Broker(config="connections:\n  depth_max: 2\n  message_bytes_max: 65536\n  log_interval_ms: 0\n") as broker:
        for words, code, said in ((("a//b", "1"), 2, "segment 2 is empty"),
                                  (("a", "1", "--key", "k" * 1025), 1, "the key has 1025 bytes, more than 1024"),
                                  (("a", "1" * 70000), 1, "the value has 70000 bytes"),
                                  (("--json", "a", "[[[1]]]"), 2, "nested deeper than the 2 levels"),
                                  (("$sys/a", "1"), 1, "the broker's own")):
            assert said in (done := broker.cli("pub", *words, expect=code)).stderr, (words, done)
        assert "segment 1" in broker.cli("sub", "#/a", expect=2).stderr


def test_a_refusal_of_the_broker_is_exit_1():
    with Broker() as broker:
        assert "$dead/x" in broker.cli("pub", "$dead/x", "v", expect=1).stderr
        assert "not-found" in broker.cli("get", "nobody", expect=1).stderr
        assert "--policy" in broker.cli("sub", "t", "--policy", "wait", expect=2).stderr
        assert broker.cli("pub", "t", "v", "--ack", "durable", expect=None).returncode in (1, 2)
        assert broker.cli("sub", "$share/a/b", expect=None).returncode in (1, 2)
        assert "not-found" in cli("admin", "why", "nobody", url=broker.admin, expect=1).stderr
        done = broker.cli("pub", "$no", "--stdin", "--json", input="1\n2\n3\n", expect=1)
        assert lines_of(done)[-1] == {"published": 3, "acked": 0, "refused": 3, "unknown": 0}, done.stdout


def test_a_broker_that_does_not_answer_in_time_is_exit_4():
    with Broker() as broker:
        broker.cli("pub", "t", "v")
        broker.process.send_signal(signal.SIGSTOP)
        try:
            done = cli("get", "t", "--timeout", "300", url=broker.tcp, expect=None)
            assert done.returncode in (3, 4), done
        finally:
            broker.process.send_signal(signal.SIGCONT)
    slow = "retain_count_max=64,retain_bytes_max=4096,mailbox_max=1"
    config = "sessions:\n  publish_window_bytes: 4096\n  outbox_bytes: 4096\n"
    with Broker(topics=[f"slow=log,{slow}"], config=config) as broker, broker.session(credit=1000) as reader:
        reader.auto_credit = False
        reader.subscribe(1, "slow", policy="block", outbox=1000)
        reader.snapshot()
        fill = subprocess.Popen([BINARY, "pub", "-s", broker.tcp, "slow", "--stdin"], stdin=subprocess.PIPE, text=True)
        fill.stdin.write(("x" * 500 + "\n") * 1000)
        fill.stdin.flush()
        wait_until(lambda: broker.ask_admin("why", "slow")["held_back_by"] != "nothing", what="a full topic")
        done = broker.cli("pub", "slow", "one more", "--timeout", "300", expect=None)
        if done.returncode == EXIT_CONNECT:  # a busy machine took longer to connect
            done = broker.cli("pub", "slow", "one more", "--timeout", "10000", expect=None)
        assert done.returncode in (1, 4), done
        fill.kill()
        fill.wait()


@sanitized
def test_pub_takes_text_json_lines_and_records():
    with Broker(topics=["m/#=map", "l/#=log"]) as broker:
        result, = lines_of(broker.cli("pub", "t", '{"a":[1,2.5,null,"ü"]}', "--json"))
        assert (result["published"], result["acked"], result["seq"]) == (1, 1, 1), result
        assert broker.get("t")["state"] == {"a": [1, 2.5, None, "ü"]}
        broker.cli("pub", "t", '{"a":1}')
        assert broker.get("t")["state"] == '{"a":1}', "without --json text is text"
        broker.cli("pub", "m/a", "v", "--key", "k")
        broker.cli("pub", "m/a", "w", "--key", "k2")
        broker.cli("pub", "m/a", "null", "--key", "k", "--json")
        assert broker.get("m/a")["state"] == {"k2": "w"}, "null deletes"
        done = broker.cli("pub", "l/a", "--stdin", "--json", input="".join(f"{number}\n" for number in range(1000)))
        assert lines_of(done)[-1] == {"published": 1000, "acked": 1000, "refused": 0, "unknown": 0}
        assert broker.get("l/a")["state"] == list(range(1000))
        broker.cli("pub", "l/text", "--stdin", input="one\n\ntwo words\nlast without newline")
        assert broker.get("l/text")["state"] == ["one", "", "two words", "last without newline"]
        records = [{"topic": f"m/{number % 3}", "key": f"k{number}", "value": {"n": number}} for number in range(300)]
        broker.cli("pub", "--records", input="".join(json.dumps(record) + "\n" for record in records))
        assert broker.get("m/1", "k7")["state"] == {"n": 7} and len(broker.get("m/0")["state"]) == 100
        done = broker.cli("pub", "--records", input='{"topic":"t","value":1}\n{"topic":5}\n', expect=2)
        assert "line 2" in done.stderr, done.stderr
        for level in ("none", "accepted", "folded"):
            broker.cli("pub", "acks", level, "--ack", level)
        wait_until(lambda: broker.get("acks")["seq"] == 3)


def test_sub_prints_entries_updates_and_ends_where_it_is_told():
    with Broker(topics=["m=map"]) as broker:
        for key in "abc":
            broker.cli("pub", "m", key.upper(), "--key", key)
        assert sorted(broker.cli("sub", "m", "--snapshot-only").stdout.splitlines()) == ["m a A", "m b B", "m c C"]
        events = lines_of(broker.cli("sub", "m", "--snapshot-only", "--json"))
        assert [event["event"] for event in events if event["event"] != "subscribed"] == \
            ["begin", "entry", "entry", "entry", "end", "ended"], events
        assert len(broker.cli("sub", "m", "--count", "2").stdout.splitlines()) == 2
        with broker.follow("m", "other/#", options=["--no-snapshot", "--count", "2"]) as follower:
            for _ in range(2):  # else the other topic could come before who follows it
                follower.wait_event("subscribed")
            broker.cli("pub", "m", "D", "--key", "d")
            broker.cli("pub", "other/x", "O")
            events = [event for event in follower.rest() if event["event"] in ("entry", "update")]
            assert sorted(event["value"] for event in events) == ["D", "O"], events


def test_since_resumes_where_the_last_run_ended():
    with Broker() as broker:
        for number in range(5):
            broker.cli("pub", "t", number, "--json")
        events = lines_of(broker.cli("sub", "t", "--json", "--snapshot-only"))
        end = next(event for event in events if event["event"] == "end")
        for number in range(5, 8):
            broker.cli("pub", "t", number, "--json")
        cursor = f"t:{end['epoch']}:{end['seq']}"
        events = lines_of(broker.cli("sub", "t", "--json", "--since", cursor, "--count", "3"))
        begin = next(event for event in events if event["event"] == "begin")
        assert begin["resumed"] and [event["value"] for event in events if event["event"] == "update"] == [5, 6, 7]


def test_get_and_list_print_for_people_and_for_programs():
    with Broker(topics=["m=map"]) as broker:
        broker.cli("pub", "m", "v", "--key", "k")
        broker.cli("pub", "t", "plain text")
        assert broker.cli("get", "t").stdout == "plain text\n"
        assert broker.cli("get", "m", "k").stdout == "v\n"
        assert broker.get("m") == {**broker.get("m"), "topic": "m", "kind": "map", "seq": 1, "state": {"k": "v"}}
        broker.cli("get", "m", "none", expect=1)
        broker.cli("get", "t", "key", expect=1)
        listed = json.loads(broker.cli("list", "--json").stdout)["topics"]
        assert {row["topic"]: row["seq"] for row in listed} == {"m": 1, "t": 1}
        assert "m" in broker.cli("list").stdout.split()


def test_the_url_comes_from_the_environment():
    with Broker() as broker:
        environment = {**os.environ, "WEIR_URL": broker.ipc, "WEIR_ADMIN": broker.admin}
        for words in (("pub", "t", "v"), ("get", "t"), ("admin", "status")):
            done = subprocess.run([BINARY, *words], env=environment, capture_output=True, timeout=WAIT)
            assert done.returncode == 0, done


@sanitized
def test_a_reader_that_leaves_ends_sub_and_input_that_ends_ends_pub():
    with Broker() as broker:
        broker.cli("pub", "t", "v")
        following = subprocess.Popen([BINARY, "sub", "-s", broker.tcp, "#"], stdout=subprocess.PIPE, text=True)
        assert following.stdout.readline() == "t v\n"
        following.stdout.close()
        wait_until(lambda: broker.cli("pub", "t", "w").returncode == 0 and following.poll() is not None, what="its end")
        assert following.returncode in (0, -signal.SIGPIPE), following.returncode
        assert broker.cli("pub", "t", "--stdin", input="").returncode == 0
        assert broker.cli("pub", "--records", input="").returncode == 0
        for name in (signal.SIGINT, signal.SIGTERM):
            with broker.follow("t") as follower:
                follower.wait_event("end")
                follower.process.send_signal(name)
                follower.process.wait(WAIT)
        wait_until(lambda: broker.ask_admin("connections")["connections"] == [], what="the end of all connections")


@sanitized
def test_bench_measures_and_loses_nothing():
    with Broker() as broker:
        common = ("--duration", "1", "--json", "--admin", broker.admin)
        for words in (("pub", "--size", "64", "--ack", "folded"), ("pubsub", "--topics", "3", "--connections", "2"),
                      ("latency", "--rate", "500"), ("pubsub", "--subscribers", "2", "--rate", "2000")):
            done = broker.cli("bench", *words, *common, timeout=4 * WAIT)
            result = json.loads(done.stdout.splitlines()[-1])
            assert result, done
