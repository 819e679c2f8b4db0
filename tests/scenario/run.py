#!/usr/bin/env python3
"""Runs the scenarios: every test_ function of every scenario_*.py, each as a process of its own with a deadline.

Prints a line a scenario and ends with `N passed, N failed`. WEIR_BINARY chooses the binary.
"""

import argparse
import importlib
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEADLINE_SECONDS = 240
SANITIZER_PATIENCE = 5  # how much slower a sanitizer build may be, in each single wait
SANITIZED_DEADLINE_FACTOR = 2  # and as a whole, where much of the time is waited for as long as ever
GRACE_SECONDS = 3
PARALLEL = 2
PARALLEL_SANITIZED = 3  # they wait for most of their time, and have more patience
OUTPUT_LINES = 50  # of a failed one


def discover(wanted, only_sanitized):
    """[(module, test, deadline)] of what is to run."""
    found = []
    for path in sorted(HERE.glob("scenario_*.py")):
        module = importlib.import_module(path.stem)
        for name, test in vars(module).items():
            if name.startswith("test_") and getattr(test, "__module__", None) == path.stem:
                if only_sanitized and not getattr(test, "is_sanitized", False):
                    continue
                if not wanted or any(re.search(pattern, f"{path.stem}.{name}") for pattern in wanted):
                    found.append((path.stem, name, getattr(test, "deadline", DEADLINE_SECONDS)))
    return found


def group_is_gone(group):
    """Whether a process group is empty, or becomes so by itself: a sanitizer's symbolizer outlives a killed program."""
    end = time.monotonic() + GRACE_SECONDS
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.02)


def run_one(module, name, seconds, patience):
    """Runs one scenario; returns (passed, seconds taken, its output). Nothing it started outlives it."""
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, __file__, "--one", f"{module}.{name}"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                               start_new_session=True, env={**os.environ, "WEIR_PATIENCE": str(patience)})
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        output += f"stopped: it took more than {seconds:.0f} s\n"
    clean = group_is_gone(process.pid)
    if not clean:
        os.killpg(process.pid, signal.SIGKILL)
        output += "left processes running\n"
    return process.returncode == 0 and clean, time.monotonic() - start, output


def call(name):
    module, _, test = name.partition(".")
    getattr(importlib.import_module(module), test)()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sanitized", action="store_true", help="only those marked @sanitized, with more patience")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run each N times")
    parser.add_argument("--parallel", type=int, metavar="N", help="run N at a time: many show what only held by chance")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("filter", nargs="*", help="only those with a name in which one of these patterns is found")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE))
    if options.one:
        # A job in the background is started with SIGINT ignored, and would hand that on to the programs it tries.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return call(options.one)

    chosen = discover(options.filter, options.sanitized) * options.repeat
    if options.list:
        print(*(f"{module}.{name}" for module, name, _ in chosen), sep="\n")
        return 0
    patience, factor = (SANITIZER_PATIENCE, SANITIZED_DEADLINE_FACTOR) if options.sanitized else (1, 1)
    passed, failures = 0, []
    with ThreadPoolExecutor(options.parallel or (PARALLEL_SANITIZED if options.sanitized else PARALLEL)) as pool:
        runs = [(f"{module}.{name}", pool.submit(run_one, module, name, seconds * factor, patience))
                for module, name, seconds in chosen]
        for name, future in runs:
            good, seconds, output = future.result()
            passed += good
            print(f"{'ok  ' if good else 'FAIL'} {name} ({seconds:.1f} s)", flush=True)
            if not good:
                failures.append(f"{name}:\n" + "".join(f"    {line}\n" for line in output.splitlines()[-OUTPUT_LINES:]))
    print(*failures, sep="", end="")  # at the end, as whoever shows a part of a long run shows that one
    print(f"{passed} passed, {len(chosen) - passed} failed")
    return 0 if passed == len(chosen) and chosen else 1


if __name__ == "__main__":
    sys.exit(main())
