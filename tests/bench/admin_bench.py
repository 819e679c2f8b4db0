#!/usr/bin/env python3
"""How soon the admin socket answers while the data plane is saturated: goal 100 ms.

`weir bench pubsub` keeps the broker as busy as it gets: two sessions publish to a hundred topics and two follow all of
them. It is a process of its own, so that who asks waits for nobody but the broker: with the load in threads of this
interpreter the figures were those of its lock. Prints how long answers took, in ms, for each command, and how many
records were published meanwhile.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scenario"))
from harness import BINARY, WAIT, Broker, wait_until  # noqa: E402

COMMANDS = ("status", "topics", "connections", "tree")
LOAD = ("--connections", "2", "--subscribers", "2", "--topics", "100", "--duration", "86400")


def records(admin):
    return admin.ask("status")["records_folded"]


def measure(admin, command, questions):
    times = []
    first, began = records(admin), time.monotonic()
    for _ in range(questions):
        start = time.monotonic()
        admin.ask(command)
        times.append((time.monotonic() - start) * 1000)
    per_second = (records(admin) - first) / (time.monotonic() - began)
    times.sort()
    return {"command": command, "p50_ms": times[len(times) // 2], "p99_ms": times[len(times) * 99 // 100],
            "max_ms": times[-1], "records_per_s": per_second}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter,
                                     epilog="WEIR_BINARY chooses the broker's program.")
    parser.add_argument("--questions", type=int, default=1000, metavar="N", help="of each command (1000)")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each command")
    options = parser.parse_args()
    with Broker() as broker:
        load = subprocess.Popen([BINARY, "bench", "pubsub", "-s", broker.tcp, "--admin", broker.admin, *LOAD],
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            with broker.admin_request() as admin:
                wait_until(lambda: records(admin) > 1_000_000, 3 * WAIT, "load")
                for command in COMMANDS:
                    row = measure(admin, command, options.questions)
                    if options.json:
                        print(json.dumps(row))
                    else:
                        print("{command:12} p50 {p50_ms:7.2f}   p99 {p99_ms:7.2f}   max {max_ms:7.2f} ms"
                              "   beside {records_per_s:,.0f} records/s".format(**row))
                if load.poll() is not None:
                    sys.exit("admin_bench: the load ended by itself: its broker or its session failed")
        finally:
            load.kill()
            load.wait()


if __name__ == "__main__":
    main()
