"""The demonstration behind deploy/demo: data, publishers, subscribers and the comparison.

Talks to the broker only through the `weir` command line. Each subscriber is a process that folds the events of
`weir sub --json` into its own copy; what must come out is computed here from the source files alone.
"""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import demo_data as data

WEIR = os.environ["WEIR_BINARY"]
WAIT_SECONDS = 120
# Not fork: a child that inherits the publisher's stdin would keep it open.
PROCESSES = multiprocessing.get_context("spawn")
SAMPLED_KEYS = 25
CHUNK_RECORDS = 2000
# The whole index is kept as one topic's state: more than the default bound on one topic.
STATE_BYTES_MAX = 256 << 20
# The plugin `top` follows the index and keeps the largest sections; one that is sandboxed, as by default.
SECTIONS = 12
PLUGIN = f"""
plugins:
  - name: sections
    file: {Path(WEIR).parent}/plugins/top.so
    role: processor
    patterns: [apt/packages]
    emit: [apt/sections]
    config: {{k: {SECTIONS}, by: Section, to: apt/sections, every_ms: 100}}
topics:
  rules:
    - pattern: apt/sections
      kind: map
"""


class Difference(Exception):
    """Something is not as it must be; the text says what."""


def say(text):
    print(text, flush=True)


class Timer:
    def __init__(self):
        self.start = time.monotonic()

    @property
    def seconds(self):
        return time.monotonic() - self.start


# ------------------------------------------------------------------------------------------- broker

class Broker:
    """A broker of the demonstration's own, on a free port; its log goes to a file."""

    def __init__(self, directory):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        self.log = directory / "broker.log"
        config = directory / "weir.yaml"
        config.write_text(PLUGIN)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [WEIR, "serve", "--config", str(config),
                 "--listen", self.url, "--admin", f"ipc://{directory}/admin.sock",
                 "--topic", f"apt/packages=map,state_bytes_max={STATE_BYTES_MAX}",
                 "--topic", "dpkg/status=map", "--topic", "dpkg/lines=merge"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        end = time.monotonic() + WAIT_SECONDS
        while self.weir("list", check=False).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > end:
                raise Difference(f"the broker did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def weir(self, verb, *arguments, check=True):
        """Runs one `weir` command to its end."""
        done = subprocess.run([WEIR, verb, "-s", self.url, *arguments], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=WAIT_SECONDS)
        if check and done.returncode != 0:
            raise Difference(f"weir {verb} {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
        return done

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(WAIT_SECONDS)
        if status != 0:
            raise Difference(f"the broker ended with {status}:\n{self.log.read_text()[-4000:]}")


class Publisher:
    """`weir pub --records`, fed in parts; finish() returns once the broker has folded everything."""

    def __init__(self, broker):
        command = [WEIR, "pub", "-s", broker.url, "--records", "--timeout", str(WAIT_SECONDS * 1000)]
        self.process = subprocess.Popen(command, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.errors = []
        self.reader = threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True)
        self.reader.start()

    def feed(self, records):
        for start in range(0, len(records), CHUNK_RECORDS):
            lines = (json.dumps(record, ensure_ascii=False) for record in records[start:start + CHUNK_RECORDS])
            try:
                self.process.stdin.write("\n".join(lines) + "\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                self.finish()
                raise Difference("weir pub ended before it had read everything") from None

    def finish(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        status = self.process.wait(WAIT_SECONDS)
        self.reader.join()
        if status != 0:
            raise Difference(f"weir pub ended with {status}: {''.join(self.errors).strip()}")


# -------------------------------------------------------------------------------------- subscribers

def follow(url, pattern, policy, final, pipe):
    """The body of a subscriber's process: follows until every topic of `final` stands at its last seq."""
    # When another part failed the parent ends this process; `weir sub` must not be left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    process = subprocess.Popen([WEIR, "sub", "-s", url, "--json", "--policy", policy, pattern], text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    copies, counts, timer = {}, {"snapshots": 0, "entries": 0, "updates": 0}, Timer()
    try:
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "begin" and not copies:
                pipe.send("joined")
            seq = data.fold_event(copies, event, counts)
            if seq is not None and all(name in copies and copies[name]["seq"] == last for name, last in final.items()):
                break
        pipe.send(({name: copy["state"] for name, copy in copies.items()}, counts, timer.seconds))
    except Exception as error:  # whatever it was: the parent prints it, if it is still there
        with contextlib.suppress(OSError):
            pipe.send(error)
    finally:
        process.kill()
        process.wait()


class Subscriber:
    def __init__(self, name, broker, pattern, final, policy="resync"):
        self.name = f"{name}, {policy}"
        self.pipe, inner = PROCESSES.Pipe()
        self.process = PROCESSES.Process(target=follow, daemon=True,
                                         args=(broker.url, pattern, policy, final, inner))
        self.process.start()
        inner.close()

    def receive(self):
        if not self.pipe.poll(WAIT_SECONDS):
            raise Difference(f"subscriber '{self.name}' said nothing for {WAIT_SECONDS} s")
        try:
            answer = self.pipe.recv()
        except EOFError:
            raise Difference(f"subscriber '{self.name}' ended without a result") from None
        if isinstance(answer, Exception):
            raise Difference(f"subscriber '{self.name}': {answer!r}")
        return answer

    def wait_joined(self):
        if self.receive() != "joined":
            raise Difference(f"subscriber '{self.name}' never joined")

    def check(self, expected):
        """Its final state against the expected one."""
        states, counts, seconds = self.receive()
        self.process.join()
        for topic, state in expected.items():
            compare(f"subscriber '{self.name}', {topic}", states.get(topic), state)
        say(f"    subscriber '{self.name}': {counts['snapshots']} snapshot(s) of {counts['entries']} entries, then "
            f"{counts['updates']} updates in {seconds:.1f} s; final state equal")


def compare(what, got, wanted):
    if got == wanted:
        return
    if not isinstance(got, dict):
        raise Difference(f"{what}: got {str(got)[:200]}, wanted {str(wanted)[:200]}")
    wrong = [key for key in wanted.keys() | got.keys() if got.get(key) != wanted.get(key)]
    lines = [f"  {key}: got {str(got.get(key))[:200]}, wanted {str(wanted.get(key))[:200]}"
             for key in sorted(wrong)[:5]]
    raise Difference("\n".join([f"{what}: {len(wrong)} keys differ", *lines]))


def replay(broker, pattern, records):
    """Publishes the records while subscribers join before, in the middle and after; checks each of them.

    Returns the states that must come out, by topic."""
    expected, final = {}, {}
    for record in records:
        data.fold_record(expected, final, record)
    middle = len(records) // 2
    timer = Timer()
    publisher = Publisher(broker)
    # A topic comes to be with its first record, and joining is seen by its snapshot.
    publisher.feed(records[:1])
    subscribers = [Subscriber("before", broker, pattern, final)]
    subscribers[0].wait_joined()
    publisher.feed(records[1:middle])
    # One that sees every update after its snapshot: the publisher waits for it where it is slower.
    subscribers.append(Subscriber("in the middle", broker, pattern, final, policy="block"))
    subscribers[1].wait_joined()
    publisher.feed(records[middle:])
    publisher.finish()
    say(f"    published {len(records):,} records, all folded, in {timer.seconds:.1f} s "
        f"(waiting for subscribers to join included)")
    subscribers.append(Subscriber("after", broker, pattern, final))
    subscribers[2].wait_joined()
    for subscriber in subscribers:
        subscriber.check(expected)
    return expected


# --------------------------------------------------------------------------------- the two replays

def check_sections(broker, records):
    """What the plugin made of the index: it counted each record that names a section, once."""
    timer, answer = Timer(), None
    counts = Counter(record["value"]["Section"] for record in records if "Section" in (record["value"] or {}))
    total = sum(counts.values())
    while (answer is None or answer["total"] != total) and timer.seconds < WAIT_SECONDS:
        done = broker.weir("get", "apt/sections", "top", "--json", check=False)
        answer = json.loads(done.stdout)["state"] if done.returncode == 0 else None
        time.sleep(0.05)
    got = answer and {item["key"]: item["count"] for item in answer["top"]}
    # Sections of the same size may stand in either order at the end of the list.
    compare("the plugin top, sizes", got and sorted(got.values()), sorted(n for _, n in counts.most_common(SECTIONS)))
    compare("the plugin top", got, {section: counts[section] for section in got})
    compare("the plugin top, total", answer["total"], total)
    say(f"    plugin 'top' counted {total:,} records in {len(counts)} sections, the largest {next(iter(got))} with "
        f"{max(got.values()):,}; all equal ({timer.seconds:.1f} s behind)")


def demonstrate_index(broker):
    """(a) every stanza of the package index."""
    timer = Timer()
    stanzas = data.index_stanzas()
    records = data.index_records("apt/packages", stanzas)
    say(f"(a) {len(stanzas):,} stanzas of the apt package index, {len(records) - len(stanzas):,} of them published "
        f"again with changed values or withdrawn (read in {timer.seconds:.1f} s)")
    state = replay(broker, "apt/packages", records)["apt/packages"]
    check_sections(broker, records)

    timer = Timer()
    for key in random.Random(1).sample(sorted(state), min(SAMPLED_KEYS, len(state))):
        answer = json.loads(broker.weir("get", "apt/packages", key, "--json").stdout)
        compare(f"weir get apt/packages {key}", answer["state"], state[key])
    say(f"    {len(state):,} packages; weir get agrees for {SAMPLED_KEYS} of them ({timer.seconds:.1f} s)")


def demonstrate_log(broker, directory):
    """(b) every line of the dpkg log."""
    timer = Timer()
    lines, installed, source = data.log_and_truth(directory)
    records = data.log_records(lines, "dpkg/status", "dpkg/lines")
    say(f"(b) {len(lines):,} lines of {source} (read in {timer.seconds:.1f} s)")
    expected = replay(broker, "dpkg/#", records)

    timer = Timer()
    for topic, state in expected.items():
        answer = json.loads(broker.weir("get", topic, "--json").stdout)
        compare(f"weir get {topic}", answer["state"], state)
    wrong = data.check_against_dpkg(json.loads(broker.weir("get", "dpkg/status", "--json").stdout)["state"], installed)
    if wrong:
        raise Difference("dpkg-query says otherwise:\n" + "\n".join(f"  {line}" for line in wrong[:10]))
    count = len(expected["dpkg/status"])
    say(f"    {count:,} packages; weir get agrees, and so does dpkg-query ({timer.seconds:.1f} s)")


def main():
    timer = Timer()
    with tempfile.TemporaryDirectory(prefix="weir-demo-") as name:
        directory = Path(name)
        broker = None
        try:
            broker = Broker(directory)
            say(f"broker at {broker.url}")
            demonstrate_index(broker)
            demonstrate_log(broker, directory)
            stopping = Timer()
            broker.stop()
            say(f"broker stopped cleanly ({stopping.seconds:.1f} s)")
        except (Difference, data.Missing, subprocess.TimeoutExpired) as error:
            say(f"DIFFERENCE: {error}")
            return 1
        finally:
            if broker and broker.process.poll() is None:
                broker.process.kill()
    say(f"everything equal; {timer.seconds:.1f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
