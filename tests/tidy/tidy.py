#!/usr/bin/env python3
"""The house rules as a test: prints FILE:LINE: RULE: what is wrong, a line a rule, and the counts.

tidy.py [--self-test] [RULE...]   --self-test also shows that each rule fires on what it forbids
"""

import argparse
import re
import sys
from pathlib import Path

from rules import RULES
from self_test import self_test
from source import Tree

HERE = Path(__file__).resolve().parent
ALLOW_LINE = re.compile(r"^(\S+) (\S+): (.{10,})$")


def read_allow(path):
    """{(rule, file): [line number, used?]} from lines `RULE FILE: reason`."""
    allowed = {}
    for number, line in enumerate(path.read_text().splitlines() if path.is_file() else [], 1):
        if not line or line.startswith("#"):
            continue
        match = ALLOW_LINE.match(line)
        if not match or match[1] not in RULES:
            sys.exit(f"{path.name}:{number}: wants `RULE FILE: reason`")
        allowed[match[1], match[2]] = [number, False]
    return allowed


def check(tree, names, allowed):
    """Runs the rules; returns (passed, failed)."""
    failed = 0
    for name in names:
        faults = 0
        for file, line, sentence in RULES[name](tree):
            if (name, file) in allowed:
                allowed[name, file][1] = True
                continue
            faults += 1
            print(f"{file}:{line}: {name}: {sentence}")
        print(f"{'ok  ' if faults == 0 else 'FAIL'} {name}: {RULES[name].__doc__.splitlines()[0]}")
        failed += faults > 0
    return len(names) - failed, failed


def check_allow(allowed):
    """An exception that nothing needs any more is a fault."""
    stale = [(number, rule, file) for (rule, file), (number, used) in allowed.items() if not used]
    for number, rule, file in stale:
        print(f"tests/tidy/allow:{number}: nothing in {file} breaks {rule} any more")
    print(f"{'ok  ' if not stale else 'FAIL'} allow: every exception is needed")
    return (0, 1) if stale else (1, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--root", default=HERE.parent.parent, type=Path)
    parser.add_argument("rules", nargs="*", choices=[[], *RULES], metavar="RULE", help=", ".join(RULES))
    options = parser.parse_args()

    allowed = read_allow(options.root / "tests/tidy/allow")
    counts = [check(Tree(options.root), options.rules or list(RULES), allowed)]
    if not options.rules:
        counts.append(check_allow(allowed))
    if options.self_test:
        counts.append(self_test(options.rules or list(RULES)))
    passed, failed = map(sum, zip(*counts))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
