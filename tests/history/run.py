#!/usr/bin/env python3
"""Runs seeds against the real broker, records what its clients see and has the checker decide whether every promise was
kept. Prints each seed that broke one with the command that runs it again, and ends with `N passed, N failed`.

    run.py --seeds 1..20                 a seed each; the recordings of those that fail are kept
    run.py --seeds 7..7 --repeat 20      one that fails now and then
"""

import argparse
import os
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "scenario"))

from checker import check  # noqa: E402
from recording import read  # noqa: E402
from scene import Scene  # noqa: E402

RECORDS = 2500
FAILING_EVERY = 3  # every third seed runs on weir-test, whose map topics fail on demand


def run_seed(seed, options):
    """Runs and judges one seed; returns (what the checker counted, None) or (None, what was wrong)."""
    is_failing = seed % FAILING_EVERY == 0 and options.failing.exists()
    scene = Scene(seed, options.failing if is_failing else options.binary, options.records, is_failing)
    try:
        scene.run()
        return check(read(scene.recorder.data())), None
    except Exception as error:  # whatever it is, the next seed is to run too
        options.keep.mkdir(parents=True, exist_ok=True)
        path = options.keep / f"seed-{seed}.recording"
        path.write_bytes(scene.recorder.data())
        kind = "" if type(error).__name__ == "Violation" else traceback.format_exc()
        return None, f"{kind}{error}\n    recording: {path}"
    finally:
        scene.close()


def arguments():
    binary = Path(os.environ.get("WEIR_BINARY", ROOT / "build/release/weir")).resolve()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", default="1..10", metavar="A..B")
    parser.add_argument("--records", type=int, default=RECORDS, help=f"published in a run (default {RECORDS})")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run each seed N times")
    parser.add_argument("--binary", type=lambda path: Path(path).resolve(), default=binary,
                        help="weir (default $WEIR_BINARY or the release build)")
    parser.add_argument("--failing", type=lambda path: Path(path).resolve(),
                        help="weir-test (default: beside the binary)")
    parser.add_argument("--keep", type=Path, default=ROOT / "build/history", help="where recordings of failures go")
    parser.add_argument("--verbose", action="store_true", help="a line for each seed")
    options = parser.parse_args()
    options.failing = options.failing or options.binary.parent / "scenario/weir-test"
    return options


def main():
    options = arguments()
    first, _, last = options.seeds.partition("..")
    passed = failed = events = 0
    counts, start = Counter(), time.monotonic()
    for seed in [seed for seed in range(int(first), int(last or first) + 1) for _ in range(options.repeat)]:
        checked, wrong = run_seed(seed, options)
        if wrong:
            failed += 1
            print(f"seed {seed}: {wrong}\n    again: tests/history/run.py --seeds {seed}..{seed} "
                  f"--records {options.records} --repeat 10", flush=True)
            continue
        passed += 1
        events += checked.events
        counts += checked.counts
        if options.verbose:
            print(f"seed {seed}: {checked.summary()}", flush=True)
    told = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    print(f"{events} events in {time.monotonic() - start:.0f} s; {told}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
