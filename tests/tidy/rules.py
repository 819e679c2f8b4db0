"""The house rules. Each takes the tree and yields (file, line, sentence) for what breaks it."""

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

from floors import FLAT_FOLDER, FLOORS, PROGRAMS, PUBLIC_HEADERS, STAND_ALONE, THIRD_PARTY, folder_of, may_use

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500
COLUMNS_MAX = 120
PRODUCT = ("actors", "clients", "broker")

TOP_LEVEL = {
    "actors", "broker", "clients", "deploy", "tests", ".ci",
    "CMakeLists.txt", "CMakePresets.json", "README.md", "CHANGELOG.md", "LICENSE",
    ".clang-format", ".clang-tidy", ".gitignore",
}

ANYWHERE = {
    "strcpy": "knows no bound; use memcpy with a size",
    "strcat": "knows no bound; use snprintf",
    "sprintf": "knows no bound; use snprintf",
    "vsprintf": "knows no bound; use vsnprintf",
    "gets": "knows no bound",
    "strtok": "has hidden state",
    "alloca": "has no failure",
    "sleep": "hopes; wait for an event with a deadline",
    "usleep": "hopes; wait for an event with a deadline",
}
# Only what talks to people may print or end the process.
LIBRARY = {name: "library code neither prints nor exits; return the error" for name in (
    "printf", "fprintf", "vprintf", "vfprintf", "dprintf", "puts", "fputs", "putchar", "perror",
    "exit", "_exit", "_Exit", "quick_exit", "abort", "err", "errx", "warn", "warnx")}
# In the product, whose input comes from outside.
INPUT = {name: "hides errors; use strtoull and look" for name in ("atoi", "atol", "atoll", "atof")}
LIBRARY["nanosleep"] = "blocks a worker; use a timer"
MAY_PRINT = ("clients/cli/", "actors/examples/", "actors/base/assert.c", "actors/base/log.c")


def rule_floors(tree):
    """Includes go downward only, and third-party headers stay where the floor plan has them."""
    for source in tree.c_files(*PRODUCT):
        user = folder_of(source.name)
        if user is None:
            yield source.name, 1, "stands in no folder of the floor plan (tests/tidy/floors.py)"
            continue
        for line, is_system, name in source.includes():
            sentence = system_fault(user, name) if is_system else own_fault(tree, source, user, name)
            if sentence:
                yield source.name, line, sentence


def system_fault(user, name):
    for library, prefixes in THIRD_PARTY.items():
        if name.startswith(prefixes) and library not in FLOORS[user][2]:
            return f"{user} may not include <{name}>"
    return None


def own_fault(tree, source, user, name):
    if "/" not in name:
        public = (header for header in sorted(PUBLIC_HEADERS) if os.path.basename(header) == name)
        flat = next(public, f"{FLAT_FOLDER}/{name}")
        if not (tree.root / flat).is_file():
            return f'"{name}": include from the root of the project'
        name = flat
    if source.name in PUBLIC_HEADERS and name not in PUBLIC_HEADERS:
        return f'a public header includes "{name}", which users do not have'
    used = folder_of(name)
    if used is None:
        return f'"{name}" stands in no folder of the floor plan'
    if user in STAND_ALONE and used != user and name not in PUBLIC_HEADERS:
        return f'{user} includes "{name}", which users do not have'
    return may_use(user, used)


LINKED = re.compile(r"^weir_floor\(([^\s)]+)\s*([^)]*)\)", re.M)


def rule_floors_linked(tree):
    """CMakeLists.txt links each folder of the floor plan, with nothing that it may not use."""
    source = next((source for source in tree.sources if source.name == "CMakeLists.txt"), None)
    if source is None:
        return
    folders = {folder.replace("/", "_"): folder for folder in FLOORS}
    rows = {match[1]: match for match in LINKED.finditer(source.text)}
    for folder in FLOORS:
        if folder not in rows and folder not in PROGRAMS:
            yield source.name, 1, f"does not link {folder}"
    for folder, match in rows.items():
        line = source.line_at(match.start())
        if folder not in FLOORS or folder in PROGRAMS:
            yield source.name, line, f"{folder} is no library of the floor plan"
            continue
        for library in match[2].split():
            sentence = library in folders and may_use(folder, folders[library])
            if sentence:
                yield source.name, line, sentence


def functions(source):
    """(first line, last line) of each function; the layout puts their braces in column 0."""
    lines = source.code().splitlines()
    opened = None
    for number, line in enumerate(lines, 1):
        if line.rstrip() == "{" and opened is None:
            opened = number
            while opened > 1 and lines[opened - 2].strip() and not lines[opened - 2].rstrip().endswith((";", "}")) \
                    and not lines[opened - 2].startswith("#"):
                opened -= 1
        elif line.startswith("}") and opened is not None:
            yield opened, number
            opened = None


def rule_function_length(tree):
    """Functions have at most 70 lines, signature and braces included."""
    for source in tree.c_files():
        for first, last in functions(source):
            if last - first + 1 > FUNCTION_LINES_MAX:
                yield source.name, first, f"function of {last - first + 1} lines (at most {FUNCTION_LINES_MAX})"


def rule_file_length(tree):
    """Source files have at most 500 lines."""
    for source in tree.sources:
        if (source.is_c or source.name.endswith((".py", ".sh"))) and len(source.lines) > FILE_LINES_MAX:
            yield source.name, len(source.lines), f"{len(source.lines)} lines (at most {FILE_LINES_MAX})"


CODE_ENDINGS = (".c", ".h", ".py", ".sh", ".txt", ".cmake", ".yaml", ".service")


def is_code(source):
    return source.name.endswith(CODE_ENDINGS) or source.text.startswith("#!")


def rule_columns(tree):
    """Lines of code have at most 120 columns."""
    for source in filter(is_code, tree.sources):
        for number, line in enumerate(source.lines, 1):
            if len(line) > COLUMNS_MAX:
                yield source.name, number, f"{len(line)} columns (at most {COLUMNS_MAX})"


def rule_whitespace(tree):
    """No tabs and no blanks at a line's end in code; every file ends with a newline."""
    for source in filter(is_code, tree.sources):
        for number, line in enumerate(source.lines, 1):
            if "\t" in line or line != line.rstrip():
                yield source.name, number, "a tab or a blank at the end of the line"
        if source.text and not source.text.endswith("\n"):
            yield source.name, len(source.lines), "the last line has no newline"


def calls(source, names):
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(names) + r")\s*\(")
    for match in pattern.finditer(source.code()):
        yield source.line_at(match.start()), match[1]


def rule_banned_calls(tree):
    """Calls that know no bound, hide errors or hope; and in libraries those that print or exit."""
    for source in tree.c_files():
        for line, name in calls(source, ANYWHERE):
            yield source.name, line, f"{name}(): {ANYWHERE[name]}"
    for source in tree.c_files(*PRODUCT):
        banned = INPUT if source.name.startswith(MAY_PRINT) else {**INPUT, **LIBRARY}
        for line, name in calls(source, banned):
            yield source.name, line, f"{name}(): {banned[name]}"


def rule_header_guards(tree):
    """A header's guard is its path in capitals; a public header's is its name."""
    for source in tree.c_files():
        if not source.name.endswith(".h"):
            continue
        name = os.path.basename(source.name) if source.name in PUBLIC_HEADERS else source.name
        guard = re.sub(r"[^A-Z0-9]", "_", name.upper())
        directives = re.findall(r"^#\s*(\w+)[ \t]*(\S*)", source.code(), re.M)
        if directives[:2] != [("ifndef", guard), ("define", guard)] or directives[-1][0] != "endif":
            yield source.name, 1, f"wants the guard {guard} around all of it"


def rule_headers_alone(tree):
    """Each header compiles alone; the public ones in C++ too."""
    headers = [source for source in tree.c_files() if source.name.endswith(".h")]
    options = ["-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-D_GNU_SOURCE=1",
               "-I", tree.root]
    for folder in sorted({FLAT_FOLDER, *map(os.path.dirname, PUBLIC_HEADERS)}):
        options += ["-iquote", tree.root / folder]

    def compile_alone(source):
        commands = [["gcc", "-std=c11", "-x", "c", *options]]
        if source.name in PUBLIC_HEADERS:
            commands.append(["clang", "-std=c++17", "-x", "c++", *options])
        for command in commands:
            done = subprocess.run([*command, source.path], capture_output=True, text=True)
            if done.returncode != 0:
                error = re.search(r"error: (.*)", done.stderr)
                return source.name, 1, f"{command[0]}: {error[1] if error else done.stderr.strip()[:200]}"
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from filter(None, pool.map(compile_alone, headers))


def rule_opens_with_comment(tree):
    """A C file opens with what it is."""
    for source in tree.c_files():
        if not source.text.startswith("/*"):
            yield source.name, 1, "does not open with a comment that says what it is"


def rule_own_header_first(tree):
    """x.c includes x.h before anything else."""
    names = set(tree.names)
    for source in tree.c_files(*PRODUCT):
        own = source.name[:-2] + ".h"
        if not source.name.endswith(".c") or own not in names or not source.includes():
            continue
        line, _, first = source.includes()[0]
        if first not in (own, os.path.basename(own)):
            yield source.name, line, f'includes "{first}" before its own "{own}"'


# Put together here, so that this file does not break its own rules.
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
LOCAL_PATH = re.compile(r"(?<![\w.$}~/])/(?:" + "|".join(("wo" + "rk", "ro" + "ot", "ho" + r"me/\w+", "Us" + r"ers"))
                        + r")(?:/|\b(?![-.\w]))")


def rule_unfinished(tree):
    """Nothing is left for later in the code."""
    yield from matches(tree, UNFINISHED, "left for later")


def rule_local_paths(tree):
    """No path of somebody's own machine."""
    yield from matches(tree, LOCAL_PATH, "a path of somebody's machine")


def matches(tree, pattern, sentence):
    for source in tree.sources:
        for number, line in enumerate(source.lines, 1):
            found = pattern.search(line)
            if found:
                yield source.name, number, f"{found[0].strip()}: {sentence}"


def rule_top_level(tree):
    """The top level is fixed."""
    for top in sorted({name.split("/")[0] for name in tree.names} - TOP_LEVEL):
        yield top, 1, "does not belong to the top level"


def rule_unit_tests_mirror(tree):
    """tests/unit mirrors the tree: FOLDER/NAME_test.c below a folder of the floor plan."""
    for source in tree.c_files("tests"):
        if source.name.startswith("tests/unit/") and source.name.endswith("_test.c"):
            if source.folder.removeprefix("tests/unit/") not in FLOORS:
                yield source.name, 1, "mirrors no folder of the floor plan, so nobody would build it"


def rule_layout(tree):
    """clang-format has nothing to change (deploy/format applies it)."""
    files = [source.name for source in tree.c_files()]
    if not files or not (tree.root / ".clang-format").is_file():
        return
    done = subprocess.run(["clang-format", "--dry-run", *files], cwd=tree.root, capture_output=True, text=True)
    seen = set()
    for name, line in re.findall(r"^(\S+?):(\d+):\d+: (?:warning|error)", done.stderr, re.M):
        if name not in seen:
            seen.add(name)
            yield name, int(line), "layout; run deploy/format"


EXPOSURE_MAX = 1.5


def rule_service_hardened(tree):
    """systemd finds a unit of ours exposed by at most 1.5 (asked where systemd-analyze is installed)."""
    units = [source for source in tree.sources if source.name.endswith(".service")]
    if not shutil.which("systemd-analyze"):
        return
    for source in units:
        done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", source.path],
                              capture_output=True, text=True)
        level = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
        if level is None or float(level[1]) > EXPOSURE_MAX:
            yield source.name, 1, f"exposure {level[1] if level else 'unknown: ' + done.stderr.strip()}"


RULES = {name.removeprefix("rule_").replace("_", "-"): rule
         for name, rule in list(globals().items()) if name.startswith("rule_")}
