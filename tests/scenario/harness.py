"""What a scenario needs: the real broker as a process, the real command line, and deadlines on every wait.

    with Broker(topics=["price/#=map"]) as broker:
        broker.cli("pub", "price/a", "1", "--json")
        with broker.follow("price/#") as follower:
            follower.wait(lambda event: event["event"] == "end")

A broker that is left in peace must end with status 0 on SIGTERM, with nothing lost and nothing reported.
"""

import collections
import contextlib
import json
import os
import queue
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from sp import PATIENCE, REQ0, WAIT, Closed, Feed, Peer, Push, Refused, Request
from session import Op, Session

ROOT = Path(__file__).resolve().parent.parent.parent
BINARY = Path(os.environ.get("WEIR_BINARY", ROOT / "build/release/weir")).resolve()
STOCK = BINARY.parent / "stock"  # programs on libnng's own sockets, built with the binary
WEIR_TEST = BINARY.parent / "scenario/weir-test"  # the same with a fold that fails or is slow on demand

EXIT_OK, EXIT_REFUSED, EXIT_USAGE, EXIT_CONNECT, EXIT_TIMEOUT = range(5)

# Verbs that give up after a while by themselves: here they wait about as long as everything else does.
PATIENT_VERBS = {"pub", "sub", "get", "list", "ask", "admin"}
PATIENTLY = ("--timeout", str(int(WAIT * 900)))

# What must never stand in a broker's output: lost blocks, failed assertions, sanitizer reports.
ALARM = re.compile(r"event=\S*leak|LeakSanitizer|AddressSanitizer|ThreadSanitizer|runtime error:"
                   r"|weir: [\w ]+ failed: |invariant failed", re.I)


def sanitized(test):
    """Marks a scenario as one that also runs against the sanitizer builds."""
    test.is_sanitized = True
    return test


def deadline(seconds):
    """Gives a scenario more (or less) than the runner's usual time."""
    def mark(test):
        test.deadline = seconds
        return test
    return mark


def wait_until(condition, timeout=WAIT, what="the condition"):
    """Asks again and again, for things that send no event; returns the first true answer."""
    end = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come true in {timeout:.0f} s")
        time.sleep(0.01)


RESERVED = collections.deque(maxlen=64)  # names that say, for as long as they are here, which ports were given


def free_port():
    """A TCP port nobody listens on at any address, below those that the kernel gives to outgoing connections, and that
    no scenario running beside is about to listen on."""
    while True:
        port = random.randrange(10_000, 30_000)
        name = socket.socket(socket.AF_UNIX)
        with socket.socket() as probe, contextlib.suppress(OSError):
            name.bind(f"\0weir-scenario-port-{port}")
            probe.bind(("0.0.0.0", port))
            RESERVED.append(name)
            return port
        name.close()


class Lines:
    """A process's output, gathered by a thread: a file on disk and lines to wait for."""

    def __init__(self, stream, path):
        self.path = path
        self.lines = []
        self.changed = threading.Condition()
        self.ended = False
        self.thread = threading.Thread(target=self.gather, args=(stream,), daemon=True)
        self.thread.start()

    def gather(self, stream):
        with open(self.path, "a") as file, stream:
            for line in stream:
                file.write(line)
                file.flush()
                with self.changed:
                    self.lines.append(line.rstrip("\n"))
                    self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def wait(self, pattern, timeout=WAIT, start=0):
        """The first line from index start on in which the pattern is found."""
        end = time.monotonic() + timeout
        expression = re.compile(pattern)
        seen = start
        with self.changed:
            while True:
                for line in self.lines[seen:]:
                    if expression.search(line):
                        return line
                seen = len(self.lines)
                left = end - time.monotonic()
                if self.ended or left <= 0:
                    raise TimeoutError(f"no line with {pattern!r} in {self.path}")
                self.changed.wait(left)


class Broker:
    """`weir serve` on a free port, an ipc socket and an admin socket of its own."""

    def __init__(self, topics=(), options=(), config=None, environment=None, start=True, binary=BINARY):
        self.binary = binary
        self.directory = Path(tempfile.mkdtemp(prefix="weir-", dir="/tmp"))  # short: ipc paths end at 107 bytes
        self.tcp = f"tcp://127.0.0.1:{free_port()}"
        self.ipc = f"ipc://{self.directory}/data.sock"
        self.admin = f"ipc://{self.directory}/admin/admin.sock"
        (self.directory / "admin").mkdir(mode=0o700)
        self.options = [option for topic in topics for option in ("--topic", topic)] + list(options)
        if config is not None:
            (self.directory / "weir.yaml").write_text(config)
            self.options += ["--config", str(self.directory / "weir.yaml")]
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(self.directory), **(environment or {})}
        self.process = None
        self.output = None
        if start:
            self.start()

    def start(self):
        """Starts the process and returns once it takes connections and answers its admin socket."""
        is_first = self.output is None
        self.process = subprocess.Popen(
            [self.binary, "serve", "--listen", self.tcp, "--listen", self.ipc, "--admin", self.admin, *self.options],
            cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace")
        self.output = Lines(self.process.stdout, self.directory / "broker.log")
        try:
            wait_until(self.is_ready, what="the broker's readiness")
            if is_first:  # else its clients of before come back
                self.wait_for_nobody()
        except BaseException:
            self.kill()
            raise
        return self

    def wait_for_nobody(self):
        """Who counts connections is to find its own, not those that looked for readiness."""
        with self.admin_request() as admin:
            wait_until(lambda: admin.ask("status")["connections"] == 0, what="the end of what looked for readiness")

    def is_ready(self):
        if self.process.poll() is not None:
            self.output.thread.join(WAIT)
            raise AssertionError(f"the broker ended with {self.process.returncode}:\n{self.tail()}")
        try:
            # Whole handshakes: an nng socket (the admin's) takes a bare connect and close badly.
            for url in (self.tcp, self.ipc, self.admin):
                Peer(url, REQ0).close()
            return True
        except (OSError, Closed):
            return False

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.kill()
            print(f"--- {self.directory}/broker.log ends with\n{self.tail()}")
            return
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def tail(self, count=40):
        return "\n".join(self.output.lines[-count:])

    def stop(self, timeout=WAIT):
        """SIGTERM, and everything that a clean end promises. Once stopped or killed: nothing."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the broker did not end {timeout:.0f} s after SIGTERM:\n{self.tail()}") from None
        self.process = None
        self.output.thread.join(WAIT)
        alarms = [line for line in self.output.lines if ALARM.search(line)]
        assert status == 0 and not alarms, f"the broker ended with {status}; {alarms[:5]}\n{self.tail()}"

    def kill(self):
        """SIGKILL: no promise is looked at."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.output.thread.join(WAIT)

    def memory(self):
        """Resident bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.M)[1]) * 1024

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # ------------------------------------------------------------------ the real command line

    def cli(self, *arguments, expect=EXIT_OK, **options):
        """Runs `weir ARGUMENTS` against this broker."""
        return cli(*arguments, url=self.tcp, expect=expect, **options)

    def get(self, topic, *key):
        """A topic's state, or one key's value, by `weir get --json`."""
        return json.loads(self.cli("get", topic, *key, "--json").stdout)

    def follow(self, *patterns, url=None, options=()):
        """`weir sub --json` in the background."""
        return Follower(url or self.tcp, *patterns, options=options, directory=self.directory)

    def ask_admin(self, *arguments):
        """`weir admin ARGUMENTS --json`, parsed."""
        return json.loads(cli("admin", *arguments, "--json", url=self.admin).stdout)

    # ------------------------------------------------------------------ the independent client

    def peer(self, protocol, **options):
        return Peer(self.tcp, protocol, **options)

    def push(self):
        return Push(self.tcp)

    def request(self):
        return Request(self.tcp)

    def feed(self, prefix=""):
        return Feed(self.tcp, prefix)

    def session(self, **options):
        return Session(self.tcp, **options)

    def admin_request(self):
        return Request(self.admin)


def cli(*arguments, url=None, expect=EXIT_OK, input=None, timeout=WAIT):
    """Runs `weir ARGUMENTS` to its end; its exit status must be the expected one (None: any)."""
    verb, *rest = map(str, arguments)
    if verb in PATIENT_VERBS and expect in (EXIT_OK, EXIT_REFUSED):
        rest = [*PATIENTLY, *rest]  # one that is given later counts
    done = subprocess.run([BINARY, verb, *(["-s", url] if url else []), *rest], input=input, capture_output=True,
                          text=True, timeout=timeout, stdin=subprocess.DEVNULL if input is None else None)
    assert expect is None or done.returncode == expect, \
        f"weir {verb} {' '.join(rest)} ended with {done.returncode}, not {expect}:\n" \
        f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done


def nngcat(*arguments, timeout=WAIT, check=True):
    """Runs nngcat, a stock nng peer of libnng's own; returns the finished process."""
    done = subprocess.run(["nngcat", *map(str, arguments)], capture_output=True, timeout=timeout,
                          stdin=subprocess.DEVNULL)
    assert not check or done.returncode == 0, f"nngcat ended with {done.returncode}: {done.stderr}"
    return done


class Follower:
    """A running `weir sub --json`: its events in order, kept in `events`, each waited for with a deadline."""

    def __init__(self, url, *patterns, options=(), directory=None):
        command = [BINARY, "sub", "-s", url, "--json", *PATIENTLY, *options, *patterns]
        self.process = subprocess.Popen(command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.events = []
        self.arriving = queue.Queue()
        self.errors = []
        self.threads = [threading.Thread(target=self.gather, daemon=True),
                        threading.Thread(target=self.gather_errors, daemon=True)]
        for thread in self.threads:
            thread.start()

    def gather(self):
        with self.process.stdout:
            for line in self.process.stdout:
                if line.endswith("\n"):  # a killed follower leaves half a line
                    self.arriving.put(json.loads(line))
        self.arriving.put(None)

    def gather_errors(self):
        with self.process.stderr:
            self.errors += self.process.stderr

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def next(self, timeout=WAIT):
        """The next event; TimeoutError when none comes, AssertionError when the follower has ended."""
        try:
            event = self.arriving.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no event in {timeout:.0f} s; the last ones: {self.events[-3:]}") from None
        if event is None:
            self.arriving.put(None)
            raise AssertionError(f"weir sub ended with {self.process.wait()}: {''.join(self.errors)}")
        self.events.append(event)
        return event

    def wait(self, condition, timeout=WAIT):
        """Takes events until one for which the condition holds, and returns it."""
        end = time.monotonic() + timeout
        while True:
            event = self.next(max(0.001, end - time.monotonic()))
            if condition(event):
                return event

    def wait_event(self, name, timeout=WAIT, **fields):
        """Takes events until one of this name and with these fields."""
        wanted = {"event": name, **fields}
        return self.wait(lambda event: wanted.items() <= event.items(), timeout)

    def rest(self, timeout=WAIT):
        """All events until the follower ends by itself (--count, --snapshot-only); its exit status must be 0."""
        end = time.monotonic() + timeout
        with contextlib.suppress(AssertionError):
            while True:
                self.next(max(0.001, end - time.monotonic()))
        assert self.process.wait(WAIT) == 0, f"weir sub ended with {self.process.returncode}: {''.join(self.errors)}"
        return self.events

    def pause(self):
        """Stops reading, as a stalled subscriber does."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(WAIT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for thread in self.threads:
            thread.join(WAIT)


__all__ = ["BINARY", "EXIT_CONNECT", "EXIT_OK", "EXIT_REFUSED", "EXIT_TIMEOUT", "EXIT_USAGE", "PATIENCE", "ROOT",
           "STOCK", "WAIT", "Broker", "Closed", "Feed", "Follower", "Op", "Peer", "Push", "Refused", "Request",
           "Session", "WEIR_TEST", "cli", "deadline", "free_port", "nngcat", "sanitized", "wait_until"]
