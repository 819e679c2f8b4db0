#!/usr/bin/env python3
"""What a plugin costs beside a program outside the broker that subscribes and publishes back, through real sockets.

One publisher (libweir) sends records, each acknowledged when it is folded, to a `map` topic, to topics whose plugin
emits each record as it is (in the broker's thread, and in a process), and to a `map` topic that plugin_external
follows, which publishes each update to another one. Processor time for each record, without the publisher's: the
broker's, and that of the plugin's process or of the program. Each round runs all of them in turn; medians of rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/scenario"))

from harness import BINARY, Broker, wait_until  # noqa: E402
from scenario_plugin import configured, definition  # noqa: E402
from scenario_plugin_process import child_of  # noqa: E402

PROGRAM = BINARY.parent / "tests/bench/plugin_external"
ROWS = ("map", "thread", "process", "external")
RULES = [("map", "map"), ("thread", "plugin:thread"), ("process", "plugin:process"), ("source", "map"),
         ("target", "map")]
PATIENCE_S = 120


def cpu_ns(pid):
    """Processor time of all threads that are there now."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total


def run_row(broker, row, count, size):
    """(broker's, other's) nanoseconds a record, and records a second."""
    follower, other = None, None
    if row == "external":
        follower = subprocess.Popen([PROGRAM, "follow", broker.tcp, "source", "target", str(count)],
                                    stdout=subprocess.PIPE, text=True)
        assert follower.stdout.readline() == "ready\n"
        other = follower.pid
    elif row == "process":
        other = child_of(broker)
    before, other_before = cpu_ns(broker.process.pid), cpu_ns(other) if other else 0
    began = time.monotonic()
    subprocess.run([PROGRAM, "publish", broker.tcp, "source" if follower else row, str(count), str(size)], check=True,
                   timeout=PATIENCE_S)
    if follower:
        # Its processor time is gone with it: looked at while it is a zombie no more can be added to.
        other_after = wait_until(lambda: ended_cpu_ns(follower), timeout=PATIENCE_S, what="the program's end")
    else:
        other_after = cpu_ns(other) if other else 0
    seconds = time.monotonic() - began
    return ((cpu_ns(broker.process.pid) - before) / count, (other_after - other_before) / count, count / seconds)


def ended_cpu_ns(process):
    """A program's whole processor time once it has ended; None: it runs."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    if fields[0] != "Z":
        return None
    ticks = int(fields[11]) + int(fields[12])
    assert process.wait() == 0
    return ticks * 10_000_000


def run_size(broker, size, rounds):
    count = 20_000 if size > 1024 else 200_000
    taken = {row: [] for row in ROWS}
    for _ in range(rounds):
        for row in ROWS:
            taken[row].append(run_row(broker, row, count, size))
    medians = {row: [statistics.median(values) for values in zip(*taken[row])] for row in ROWS}
    base = sum(medians["process"][:2])
    for row in ROWS:
        inside, outside, rate = medians[row]
        print(f"{size:5} B  {row:9} {inside + outside:7.0f} ns CPU a record (broker {inside:.0f}, beside it "
              f"{outside:.0f}), {rate / 1000:.0f} k records/s, {(inside + outside) / base:.2f} of the process plugin")
    sys.stdout.flush()
    return {"size": size, **{row: dict(zip(("broker_ns", "beside_ns", "records_s"), medians[row])) for row in ROWS}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default 5")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    options = parser.parse_args()
    config = configured(definition("thread", "echo", host="thread"), definition("process", "echo", host="process"),
                        rules=RULES)
    with Broker(config=config) as broker:
        figures = [run_size(broker, size, options.rounds) for size in (128, 16 << 10)]
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
