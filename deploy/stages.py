"""The stages of deploy/test: what is built, what is run, how cases are counted.

Each stage runs commands with their output in build/test/STAGE.log and returns how many cases passed
and failed; it keeps the names of those that failed for the end of the output. A stage that finds
nothing where something must be has failed.

Tests wait for much of their time, and builds never do: the builds of all stages are made ahead, one
after the other, and with less priority than the tests that run meanwhile. Lint gives way to both.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "test"
JOBS = os.cpu_count() or 2
TESTS_AT_A_TIME = JOBS + 1  # some wait
FUZZ_SECONDS = 5
BUILD_NICE, LINT_NICE = 5, 19
# No stage may hang CI: twice what the slowest one, lint beside all others, needs on two cores.
STAGE_SECONDS_MAX = 1200
TAIL_LINES = 60
FAILURES_MAX = 100  # of which the names stand at the end

SANITIZER_ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    # A program that ends with threads left would wait a second for races of theirs: scenarios run hundreds of those.
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1:atexit_sleep_ms=50",
}
# Where races in code that is not ours are named; the file says why for each.
TSAN_SUPPRESSIONS = ROOT / "tests" / "tsan.suppressions"


class Log:
    """One stage's log: runs commands into it and says where it is when something failed."""

    def __init__(self, stage):
        LOGS.mkdir(parents=True, exist_ok=True)
        self.path = LOGS / f"{stage}.log"
        self.file = open(self.path, "w")
        self.deadline = time.monotonic() + STAGE_SECONDS_MAX
        self.cpu_seconds = 0.0  # of all its commands: what a stage costs however busy the machine is
        self.failures = []  # names, for the end of the output

    def run(self, command, environment=None, quiet=False):
        """Runs a command to its end or the stage's deadline; returns (exit status, output)."""
        self.file.write(f"$ {' '.join(map(str, command))}\n")
        self.file.flush()
        with tempfile.TemporaryFile("w+", errors="replace") as gathered:
            process = subprocess.Popen(list(map(str, command)), cwd=ROOT, env={**os.environ, **(environment or {})},
                                       stdin=subprocess.DEVNULL, stdout=gathered, stderr=subprocess.STDOUT,
                                       start_new_session=True)
            late = []
            timer = Timer(max(1, self.deadline - time.monotonic()),
                          lambda: (late.append(True), os.killpg(process.pid, signal.SIGKILL)))
            timer.start()
            # Not reaped before the timer is off, so that it cannot hit another one of that number.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            timer.cancel()
            timer.join()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.cpu_seconds += usage.ru_utime + usage.ru_stime
            gathered.seek(0)
            output = gathered.read()
        if late:
            output += f"\nstopped: the stage took more than {STAGE_SECONDS_MAX} s\n"
        self.file.write(output)
        self.file.flush()
        if process.returncode != 0 and not quiet:
            self.show(output)
        return process.returncode, output

    def show(self, output):
        lines = output.rstrip().splitlines()
        if len(lines) > TAIL_LINES:
            print(f"    ... {len(lines) - TAIL_LINES} lines above, in {self.path}")
        for line in lines[-TAIL_LINES:]:
            print(f"    {line}")
        print(f"    log: {self.path}")

    def complain(self, sentence):
        """A failure with no output of its own: counts as one failed case."""
        self.file.write(sentence + "\n")
        print(f"    {sentence}")
        self.failures.append(sentence)
        return 0, 1


def add(*counts):
    return tuple(map(sum, zip((0, 0), *counts)))


class Builds:
    """The builds, made ahead in the order in which the stages of a run want them."""

    def __init__(self):
        self.pool = ThreadPoolExecutor(1)
        self.begun = {}

    def begin(self, preset):
        """Queues a build unless it is; a future of (what failed or None, seconds, cpu seconds)."""
        if preset not in self.begun:
            self.begun[preset] = self.pool.submit(self.make, preset)
        return self.begun[preset]

    def make(self, preset):
        log, start, failed = Log(f"build-{preset}"), time.monotonic(), None
        for command in (["cmake", "--preset", preset], ["cmake", "--build", "--preset", preset, "--parallel", JOBS]):
            status, _ = log.run(["nice", "-n", BUILD_NICE, *command])
            if status != 0:
                failed = f"the {preset} build failed: {' '.join(map(str, command))}"
                break
        return failed, time.monotonic() - start, log.cpu_seconds


BUILDS = Builds()


def build(log, preset):
    """Waits until everything of a preset is built; None, or the counts of the failure."""
    failed = BUILDS.begin(preset).result()[0]
    return log.complain(failed) if failed else None


# ------------------------------------------------------------------------------ programs under ctest

CASE_PASSED = re.compile(r"^\[ +OK \] ", re.M)
CASE_FAILED = re.compile(r"^\[  FAILED  \] (?!\d+ test)(\S+)", re.M)


def count_cases(test):
    """A ctest entry as (passed, names of the failed): its cmocka cases where it printed any, else itself."""
    output = test.findtext("system-out") or ""
    passed = len(CASE_PASSED.findall(output))
    failed = [f"{test.get('name')}: {case}" for case in sorted(set(CASE_FAILED.findall(output)))]
    if test.get("status") != "run" and not failed:
        failed = [f"{test.get('name')} ({test.get('status')})"]
    return (passed, failed) if passed or failed else (1, [])


def run_ctest(log, preset, choice, environment=None, prefix=()):
    """Runs the chosen ctest entries of a preset's build and counts their cases."""
    report = LOGS / f"{log.path.stem}.xml"
    report.unlink(missing_ok=True)
    status, output = log.run([*prefix, "ctest", "--test-dir", ROOT / "build" / preset, *choice,
                              "--parallel", TESTS_AT_A_TIME, "--output-on-failure", "--output-junit", report,
                              "--no-tests=error",
                              "--test-output-size-passed", 1 << 20, "--test-output-size-failed", 1 << 20],
                             {"CMOCKA_MESSAGE_OUTPUT": "stdout", **(environment or {})}, quiet=True)
    if not report.exists():
        return log.complain("ctest ran nothing")
    tests = list(xml.parse(report).getroot().iter("testcase"))
    counts = (0, 0)
    for passed, failed in map(count_cases, tests):
        counts = add(counts, (passed, len(failed)))
        log.failures += failed
    for test in tests:
        if test.get("status") != "run":
            print(f"    {test.get('name')}:")
            log.show(test.findtext("system-out") or "")
    if sum(counts) == 0 or (status != 0 and counts[1] == 0):
        return add(counts, log.complain(f"ctest ended with {status} and no failed case"))
    return counts


def ctest_entries(log, preset):
    _, listing = log.run(["ctest", "--test-dir", ROOT / "build" / preset, "--show-only"])
    return set(re.findall(r"^ *Test +#\d+: (\S+)", listing, re.M))


def unit_is_complete(log, preset):
    """Every tests/unit/**/NAME_test.c must be a ctest entry; a glob that missed one would pass silently."""
    sources = {str(path.relative_to(ROOT / "tests"))[:-2] for path in (ROOT / "tests/unit").rglob("*_test.c")}
    if not sources:
        return log.complain("there is no tests/unit/**/*_test.c")
    missing = sorted(sources - ctest_entries(log, preset))
    return log.complain(f"not run by ctest: {', '.join(missing)}") if missing else (0, 0)


# -------------------------------------------------------------------------------------------- stages

def last_counts(log, status, output):
    """The counts in the last line `N passed, N failed` of a runner of ours, which says `FAIL NAME` before."""
    log.failures += re.findall(r"^FAIL (\S+?):?(?: |$)", output, re.M)
    match = re.search(r"^(\d+) passed, (\d+) failed\s*\Z", output, re.M)
    if not match:
        return log.complain("the runner ended without its last line")
    counts = int(match[1]), int(match[2])
    if sum(counts) == 0:
        return log.complain("the runner found nothing to run")
    if (status != 0) != (counts[1] != 0):
        return add(counts, log.complain(f"the runner ended with {status}"))
    return counts


def run_scenarios(log, preset, options=(), environment=None, prefix=()):
    status, output = log.run([*prefix, "/usr/bin/python3", ROOT / "tests/scenario/run.py", *options],
                             {"WEIR_BINARY": str(ROOT / "build" / preset / "weir"), **(environment or {})})
    return last_counts(log, status, output)


def stage_unit(log):
    return build(log, "release") or add(unit_is_complete(log, "release"), run_ctest(log, "release", ["-R", "^unit/"]))


# Folders whose programs register themselves with ctest, by the KIND of their KIND/NAME.
PROGRAM_FOLDERS = {"simulate": "tests/simulate", "examples": "actors/examples", "bench": "tests/bench/peers"}
SANITIZED_ENTRIES = "^(unit|examples)/"
RUN_PREFIXES = tuple(kind + "/" for kind in PROGRAM_FOLDERS)


def stage_programs(log):
    """Simulator seeds, examples, measurements: a folder with C files has entries."""
    failure = build(log, "release")
    if failure:
        return failure
    counts = (0, 0)
    for kind, folder in PROGRAM_FOLDERS.items():
        if any((ROOT / folder).glob("*.c")):
            counts = add(counts, run_ctest(log, "release", ["-R", f"^{kind}/"]))
    strays = sorted(name for name in ctest_entries(log, "release") if not name.startswith(("unit/", *RUN_PREFIXES)))
    return add(counts, log.complain(f"ctest entries that no stage runs: {', '.join(strays)}")) if strays else counts


def stage_scenario(log):
    return build(log, "release") or run_scenarios(log, "release")


def stage_tidy(log):
    return last_counts(log, *log.run(["/usr/bin/python3", ROOT / "tests/tidy/tidy.py", "--self-test"]))


def stage_lint(log):
    """clang-tidy over the product, a case for each file; checks in .clang-tidy."""
    failure = build(log, "release")
    if failure:
        return failure
    _, listing = log.run(["git", "ls-files", "--", *(f"{top}/*.c" for top in ("actors", "broker", "clients"))])
    database = (ROOT / "build/release/compile_commands.json").read_text()
    files = [name for name in listing.split() if f'"file": "{ROOT / name}"' in database]
    if not files:
        return log.complain("no committed C file is part of the release build")

    def lint(name):
        status, _ = log.run(["nice", "-n", LINT_NICE, "clang-tidy", "--quiet", "-p", ROOT / "build/release",
                             ROOT / name])
        if status != 0:
            log.failures.append(name)
        return status == 0

    with ThreadPoolExecutor(JOBS) as pool:
        passed = sum(pool.map(lint, files))
    return passed, len(files) - passed


def stage_asan(log):
    return build(log, "asan") or add(
        run_ctest(log, "asan", ["-R", SANITIZED_ENTRIES], SANITIZER_ENVIRONMENT),
        run_scenarios(log, "asan", ["--sanitized"], SANITIZER_ENVIRONMENT))


def fixed_addresses(log):
    """gcc 12's TSan cannot place its shadow under a kernel that randomises more bits than it knew of."""
    prefix = ["setarch", os.uname().machine, "-R"]
    status, _ = log.run([*prefix, "true"], quiet=True)
    return prefix if status == 0 else []


def stage_tsan(log):
    environment = dict(SANITIZER_ENVIRONMENT)
    if TSAN_SUPPRESSIONS.exists():
        environment["TSAN_OPTIONS"] += f":suppressions={TSAN_SUPPRESSIONS}"
    prefix = fixed_addresses(log)
    return build(log, "tsan") or add(
        run_ctest(log, "tsan", ["-R", SANITIZED_ENTRIES], environment, prefix),
        run_scenarios(log, "tsan", ["--sanitized"], environment, prefix))


def fuzz_target(log, source):
    """Runs one target for a short time, from its corpus if it has one; True when it survived."""
    programs = [path for path in (ROOT / "build/fuzz").rglob(source.stem)
                if path.is_file() and os.access(path, os.X_OK)]
    if len(programs) != 1:
        print(f"    {source.name}: {len(programs)} programs of that name in build/fuzz")
        return False
    name = re.sub(r"^fuzz_|_fuzz$", "", source.stem)
    seeds = [path for path in (ROOT / "tests/fuzz/corpus" / name, ROOT / "tests/fuzz/corpus" / source.stem)
             if path.is_dir()]
    found = LOGS / "fuzz" / source.stem  # libFuzzer writes new inputs to the first folder
    found.mkdir(parents=True, exist_ok=True)
    status, output = log.run([programs[0], f"-max_total_time={FUZZ_SECONDS}", "-timeout=10", "-rss_limit_mb=1024",
                              "-print_final_stats=1", f"-artifact_prefix={found}/", found, *seeds],
                             SANITIZER_ENVIRONMENT)
    executions = re.search(r"number_of_executed_units: (\d+)", output)
    print(f"    {source.stem}: {executions[1] if executions else 'no'} executions")
    return status == 0 and executions is not None and int(executions[1]) > 0


def stage_fuzz(log):
    failure = build(log, "fuzz")
    if failure:
        return failure
    sources = [path for path in sorted((ROOT / "tests/fuzz").glob("*.c"))
               if "LLVMFuzzerTestOneInput" in path.read_text()]
    if not sources:
        return log.complain("there is no fuzz target in tests/fuzz")
    with ThreadPoolExecutor(JOBS) as pool:
        survived = list(pool.map(lambda source: fuzz_target(log, source), sources))
    log.failures += [source.stem for source, good in zip(sources, survived) if not good]
    return sum(survived), len(sources) - sum(survived)


STAGES = {
    "unit": (stage_unit, "release build and its unit tests"),
    "programs": (stage_programs, "simulator seeds, examples, measurements' smoke"),
    "scenario": (stage_scenario, "the real binary as a process of its own"),
    "tidy": (stage_tidy, "house rules, and that each of them fires"),
    "lint": (stage_lint, "clang-tidy"),
    "asan": (stage_asan, "AddressSanitizer and UBSan with the checked arena: unit tests, examples, chosen scenarios"),
    "tsan": (stage_tsan, "ThreadSanitizer: unit tests, examples, chosen scenarios"),
    "fuzz": (stage_fuzz, f"each fuzz target for {FUZZ_SECONDS} s (also: everything compiles with clang)"),
}
PRESETS = {"unit": "release", "programs": "release", "scenario": "release", "lint": "release",
           "asan": "asan", "tsan": "tsan", "fuzz": "fuzz"}
QUICK = ("unit", "tidy")
BESIDE = ("lint",)  # the whole time, with what the others leave of the processors


def run_stages(names):
    """Runs the stages in order, builds ahead and lint beside them; yields (name, counts, seconds, log)."""
    def timed(name):
        print(f"== {name}: {STAGES[name][1]}")
        log, start = Log(name), time.monotonic()
        counts = STAGES[name][0](log)
        if counts[1] and not log.failures:
            log.failures.append(f"see {log.path}")
        return name, counts, time.monotonic() - start, log

    for name in names:
        if name in PRESETS:
            BUILDS.begin(PRESETS[name])
    with ThreadPoolExecutor(len(BESIDE)) as pool:
        beside = [pool.submit(timed, name) for name in names if name in BESIDE]
        yield from (timed(name) for name in names if name not in BESIDE)
        yield from (future.result() for future in beside)


def finish(total, summary, failures):
    """The end of the output, which alone says what became of the run: a line a stage, names, counts."""
    for preset, future in BUILDS.begun.items():
        _, seconds, cpu_seconds = future.result()
        summary.append(f"build {preset:26} {seconds:7.1f} s {cpu_seconds:7.1f} s of processors")
    print("==", *summary, sep="\n")
    if failures:
        print("failed:", *failures[:FAILURES_MAX], sep="\n  ")
        if len(failures) > FAILURES_MAX:
            print(f"  and {len(failures) - FAILURES_MAX} more")
    print(f"{total[0]} passed, {total[1]} failed")
    return 0 if total[1] == 0 and total[0] > 0 else 1


def main():
    listing = "\n".join(f"  {name:9} {text}" for name, (_, text) in STAGES.items())
    parser = argparse.ArgumentParser(prog="deploy/test", description="Builds and runs every test.",
                                     epilog=f"stages:\n{listing}", formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"only the stages {' and '.join(QUICK)}")
    parser.add_argument("--stage", action="append", choices=STAGES, metavar="NAME", help="only this one (repeatable)")
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)

    total, summary, failures = (0, 0), [], []
    for name, counts, seconds, log in run_stages(options.stage or (QUICK if options.quick else STAGES)):
        summary.append(f"{name:9} {counts[0]:5} passed {counts[1]:3} failed {seconds:7.1f} s "
                       f"{log.cpu_seconds:7.1f} s of processors")
        failures += [f"{name}: {failure}" for failure in log.failures]
        total = add(total, counts)
    return finish(total, summary, failures)


if __name__ == "__main__":
    sys.exit(main())
