"""Runs one case over one peer: a fresh broker on a free port of 127.0.0.1, its files in a temporary folder."""

import json
import os
import socket
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from peers import ALL

NOT_APPLICABLE = 77  # exit status of a load generator whose driver cannot do the work
NOISY = 0.25  # cores busy with other programs: above that, a run is repeated
QUIET = 0.1  # cores busy with anything, before it is repeated
START_SECONDS, STOP_SECONDS, WORK_SECONDS = 30, 10, 240


def free_ports():
    """A port and the one after it, both free now."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
                return port
            except (OSError, OverflowError):
                continue


def knock(address):
    """Raises OSError where nobody listens."""
    if address.startswith("ipc://"):  # only looks: nng 1.5.2 may hang after a closed connection
        os.stat(address.removeprefix("ipc://"))
        time.sleep(0.05)  # between bind and listen
    else:
        host, port = address.removeprefix("tcp://").split(":")
        socket.create_connection((host, int(port)), 1).close()


def wait_until_listening(broker, address):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and broker.poll() is None:
        try:
            return knock(address)
        except OSError:
            time.sleep(0.01)
    raise RuntimeError(f"the broker does not listen at {address}")


def stop(process):
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Machine:
    """Where the programs are; measures, and repeats what others disturbed as long as there is time for it."""

    def __init__(self, build, weir, seconds, retry_seconds):
        self.build, self.weir, self.seconds, self.retry_seconds = build, weir, seconds, retry_seconds

    def measure(self, name, case):
        """The result of the load generator as a dictionary; None where it is not applicable."""
        if case.share:
            reached = self.measure(name, replace(case, share=0))
            if reached is None:
                return None
            rate = case.share * reached["deliveries_per_s"] / case.options["subs"]
            case = replace(case, share=0, options={**case.options, "rate": f"{rate:.0f}"})
        peer = ALL[name]
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            port = free_ports()
            values = {"build": self.build, "weir": self.weir, "dir": folder, "port": port, "next": port + 1}
            Path(folder, "config").write_text(peer.config.format(**values))
            log_path = Path(folder, "log")
            with open(log_path, "w") as log:
                broker = subprocess.Popen(peer.broker.format(**values).split(), cwd=folder, stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log)
            try:
                done = self.load(peer, name, case, broker, values)
            finally:
                stop(broker)
            if done.returncode == NOT_APPLICABLE:
                return None
            if done.returncode != 0:
                said = log_path.read_text(errors="replace").strip().splitlines()[-1:]
                raise RuntimeError(" | ".join([done.stderr.strip() or f"exit status {done.returncode}", *said]))
        return json.loads(done.stdout)

    def load(self, peer, name, case, broker, values):
        pub = peer.pub.format(**values)
        sub = peer.sub.format(**values) or pub
        for address in (pub, sub):
            wait_until_listening(broker, address)
        options = {"driver": peer.driver or name, "pub": pub, "sub": sub, "pid": broker.pid, "seconds": self.seconds,
                   **case.options}
        command = [f"{self.build}/{case.program or peer.program}"]
        for option, value in options.items():
            command += [f"--{option}", str(value)]
        return subprocess.run(command, capture_output=True, text=True, timeout=WORK_SECONDS)

    def measure_quietly(self, name, case):
        """Measures again, if time is left for it, when other programs disturbed the run."""
        best = self.measure(name, case)
        while best and best.get("other_cores", 0) > NOISY and self.retry_seconds > 0:
            start = time.monotonic()
            wait_until_quiet(self.retry_seconds)
            again = self.measure(name, case)
            self.retry_seconds -= time.monotonic() - start
            best = min(best, again, key=lambda result: result["other_cores"])
        return best


def machine_cpu_seconds():
    user, nice, system, _, _, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def wait_until_quiet(seconds, step=0.5):
    """Waits until other programs rest, for at most that long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = machine_cpu_seconds()
        time.sleep(step)
        if machine_cpu_seconds() - before < QUIET * step:
            return
