"""The nine promises over recorded runs (tests/history), and the judge of all other scenarios judged itself."""

import os
import random
import subprocess
import sys

from harness import BINARY, ROOT, deadline, sanitized

HISTORY = ROOT / "tests/history"
SEEDS = 20
SEEDS_SANITIZED = 3  # they are slow, and look for other faults
SEED_MAX = 1 << 20


def run(script, *arguments):
    done = subprocess.run([sys.executable, HISTORY / script, *map(str, arguments)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    return done


def test_the_checker_of_histories_finds_each_broken_promise():
    done = run("self_test.py")
    assert done.returncode == 0 and "0 judged wrongly" in done.stdout


@sanitized
@deadline(600)
def test_every_promise_is_kept_in_runs_with_every_policy_and_fault():
    seeds = SEEDS_SANITIZED if float(os.environ.get("WEIR_PATIENCE", "1")) > 1 else SEEDS
    first = random.randrange(SEED_MAX)
    done = run("run.py", "--seeds", f"{first}..{first + seeds - 1}", "--binary", BINARY)
    assert done.returncode == 0 and f"{seeds} passed, 0 failed" in done.stdout
