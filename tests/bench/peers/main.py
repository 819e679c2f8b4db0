#!/usr/bin/env python3
"""Measure Weir and other message systems side by side: the same work for each, in turns (A B C A B C).

Prints a line of JSON for each run, then tables of medians with ratios to a reference. In the folder --out it leaves
results.json, table.md, readme.md (short, for README.md) and plots/*.svg; --render makes all but the first again.
"""

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import grid
import plots
import readme
import tables
from cases import MODES
from peers import ALL, PEERS, versions
from runner import Machine

ROOT = Path(__file__).resolve().parents[3]


def about_machine(names, weir, mode):
    """What the figures were taken on, and of what."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return {"cores": os.cpu_count(), "cpu": cpu[1] if cpu else platform.machine(), "kernel": platform.release(),
            "commit": commit.stdout.strip(), "mode": mode.name, "seconds": mode.seconds, "repeats": mode.repeats,
            "versions": versions(names, weir), "peers": {name: ALL[name].about for name in names}}


class Session:
    """Runs the cases, keeps what came out and writes it down after each case."""

    def __init__(self, machine, about, out):
        self.machine, self.about, self.out, self.records = machine, about, out, []

    def run(self, case, name, turn):
        record = {"case": case.name, "peer": name, "turn": turn}
        try:
            result = self.machine.measure_quietly(name, case)
        except (RuntimeError, OSError, subprocess.TimeoutExpired, json.JSONDecodeError) as error:
            result = {"error": str(error)}
        if result:
            self.records.append(record | result)
            print(json.dumps(self.records[-1]), flush=True)

    def save(self):
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "results.json").write_text(json.dumps({"about": self.about, "records": self.records}, indent=1))


def render(out, reference, with_plots, into):
    """Tables and plots of a folder's results.json."""
    results = json.loads((out / "results.json").read_text())
    cliffs = grid.measure_trends(results["records"])
    (out / "table.md").write_text(tables.markdown(results["records"], results["about"], reference))
    short = readme.readme(results["records"], results["about"])
    (out / "readme.md").write_text(short)
    if into:
        readme.put_into(into, short)
    drawn = plots.draw_all(results["records"], out / "plots") if with_plots else []
    tables.print_tables(results["records"], reference)
    for name in cliffs:
        print(f"a cliff: {name} costs more than {grid.CLIFF} times what its neighbours say")
    print(f"\n{out / 'table.md'}, {len(drawn)} plots")


def chosen_peers(text, mode):
    names = text.split(",") if text else list(mode.peers or PEERS)
    for name in names:
        if name not in ALL:
            sys.exit(f"no peer {name}; there are: {', '.join(ALL)}")
    return names


def peers_of(case, names, is_chosen):
    """Those chosen; where a case is for its own only, these, if nobody chose, or they are about Weir and so is the
    choice."""
    if not case.peers:
        return names
    if not is_chosen:
        return list(case.peers)
    about_weir = any(name.startswith("weir") for name in names)
    return [name for name in case.peers if name in names or (about_weir and name in ("weir-block", "nng-sockets"))]


def parse():
    parser = argparse.ArgumentParser(prog="tests/bench/peers/run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_mutually_exclusive_group()
    for mode in MODES:
        modes.add_argument(f"--{mode}", dest="mode", action="store_const", const=mode)
    parser.set_defaults(mode="quick")
    parser.add_argument("--peers", help="comma-separated; all if left out")
    parser.add_argument("--cases", default="", help="only those with this text in their name")
    parser.add_argument("--reference", default="nats,nng-sockets,jetstream",
                        help="ratios refer to the first of these peers that a table has")
    parser.add_argument("--repeats", type=int, help="turns for each case")
    parser.add_argument("--seconds", type=float, help="measured in each run")
    parser.add_argument("--retry-seconds", type=float, help="at most spent on noisy runs, in all")
    parser.add_argument("--build", default=ROOT / "build/release", type=Path, help="folder of the built project")
    parser.add_argument("--out", default=ROOT / "build/peers", type=Path, help="folder for the results")
    parser.add_argument("--into", metavar="FILE", type=Path, help="put the short tables between the marks in this file")
    parser.add_argument("--render", metavar="FOLDER", type=Path, help="only make tables and plots of its results.json")
    return parser.parse_args()


def main():
    arguments = parse()
    reference = arguments.reference.split(",")
    if arguments.render:
        return render(arguments.render, reference, True, arguments.into)
    mode = MODES[arguments.mode]
    mode.repeats = arguments.repeats or mode.repeats
    mode.seconds = arguments.seconds or mode.seconds
    retry_seconds = mode.retry_seconds if arguments.retry_seconds is None else arguments.retry_seconds
    names = chosen_peers(arguments.peers, mode)
    build = arguments.build.resolve()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    start = time.monotonic()
    machine = Machine(build / "tests/bench/peers", build / "weir", mode.seconds, retry_seconds)
    chosen = bool(arguments.peers) or arguments.mode == "smoke"
    cases = [case for case in mode.cases if arguments.cases in case.name]
    used = dict.fromkeys([*names, *(name for case in cases for name in peers_of(case, names, chosen))])
    session = Session(machine, about_machine(used, machine.weir, mode), arguments.out)
    for case in cases:
        for turn in range(mode.repeats if case.repeat or arguments.mode == "full" else 1):
            for name in peers_of(case, names, chosen):
                session.run(case, name, turn)
        session.save()
    render(arguments.out, reference, arguments.mode != "smoke", arguments.into)
    failed = [record for record in session.records if "error" in record]
    print(f"{time.monotonic() - start:.0f} s, {len(session.records)} runs, {len(failed)} failed")
    return 1 if failed or not session.records else 0


if __name__ == "__main__":
    sys.exit(main())
