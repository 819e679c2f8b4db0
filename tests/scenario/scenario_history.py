"""The judge of all other scenarios is judged itself."""

import subprocess
import sys

from harness import ROOT


def test_the_checker_of_histories_finds_each_broken_promise():
    done = subprocess.run([sys.executable, ROOT / "tests/history/self_test.py"], capture_output=True, text=True)
    assert done.returncode == 0 and "broken promises found" in done.stdout, done
