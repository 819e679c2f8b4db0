#!/usr/bin/env python3
"""How soon the admin socket answers while the data plane is saturated: goal 100 ms.

Two sessions publish batches of 200 and a stock PUSH socket floods, all without a pause, one follower follows all.
Prints the median, the 99th percentile and the longest of 1,000 questions, in ms, for each command.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scenario"))
from harness import Broker  # noqa: E402
from scenario_admin import saturated  # noqa: E402

COMMANDS = ("status", "topics", "connections", "tree")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter,
                                     epilog="WEIR_BINARY chooses the broker's program.")
    parser.add_argument("--questions", type=int, default=1000, metavar="N", help="of each command (1000)")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each command")
    options = parser.parse_args()
    with Broker(topics=["m/#=map", "l/#=log"]) as broker, broker.follow("#"), saturated(broker):
        with broker.admin_request() as admin:
            for command in COMMANDS:
                times = []
                for _ in range(options.questions):
                    start = time.monotonic()
                    admin.ask(command)
                    times.append((time.monotonic() - start) * 1000)
                times.sort()
                row = {"command": command, "p50_ms": times[len(times) // 2], "p99_ms": times[len(times) * 99 // 100],
                       "max_ms": times[-1]}
                if options.json:
                    print(json.dumps(row))
                else:
                    print("{command:12} p50 {p50_ms:7.2f}   p99 {p99_ms:7.2f}   max {max_ms:7.2f} ms".format(**row))


if __name__ == "__main__":
    main()
