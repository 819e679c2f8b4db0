"""Shows that each rule fires on what it forbids and is silent about what it does not.

A case is (files of a small tree, faults it must give as "FILE:LINE"); the tree is written to a temporary folder.
"""

import shutil
import tempfile
from pathlib import Path

from floors import FLOORS, PROGRAMS
from rules import COLUMNS_MAX, FILE_LINES_MAX, FUNCTION_LINES_MAX, RULES
from source import Tree

OPENING = "/* A file. */\n"
HEADER = OPENING + "#ifndef {0}\n#define {0}\n{1}\n#endif\n"
LATER = "TO" + "DO"
MACHINE = "/ho" + "me/somebody/weir"
LIBRARIES = [folder for folder in FLOORS if folder not in PROGRAMS]
LINKED = "".join(f"weir_floor({folder})\n" for folder in LIBRARIES)


def one(name, text, *lines):
    """A tree of one file with faults on these lines."""
    return {name: text}, {f"{name}:{line}" for line in lines}


def function(lines):
    return OPENING + "int f(void)\n{\n" + "    ;\n" * (lines - 3) + "}\n"


CASES = {
    "floors": [
        one("actors/base/a.c", OPENING + '#include "actors/memory/arena.h"\n', 2),
        one("actors/memory/a.c", OPENING + '#include "actors/base/log.h"\n'),
        one("actors/runtime/a.c", OPENING + "#include <nng/nng.h>\n#include <msgpack.h>\n", 2, 3),
        one("actors/supervise/a.c", OPENING + '#include "clients/wire/value.h"\n', 2),
        one("actors/supervise/a.c", OPENING + '#include "actors/topic/topic.h"\n', 2),
        one("actors/topic/a.c", OPENING + '#include "clients/wire/value.h"\n#include "actors/supervise/s.h"\n'),
        one("actors/topic/a.c", OPENING + '#include "clients/sp/pipe.h"\n', 2),
        one("actors/examples/a.c", OPENING + '#include "actors/supervise/s.h"\n#include "actors/topic/topic.h"\n', 3),
        one("actors/plugins/a/a.c",
            OPENING + '#include "actors/plugins/kit.h"\n#include "actors/plugin/runner.h"\n', 3),
        one("actors/plugins/a/a.c", OPENING + '#include "actors/base/log.h"\n#include <jansson.h>\n', 2, 3),
        one("clients/wire/a.c", OPENING + "#include <msgpack.h>\n#include <jansson.h>\n#include <nng/nng.h>\n", 4),
        one("clients/sp/a.c", OPENING + '#include "actors/memory/arena.h"\n', 2),
        one("clients/lib/a.c", OPENING + '#include "clients/sp/pipe.h"\n#include "broker/main/boot.h"\n', 3),
        one("broker/gateway/a.c", OPENING + '#include "broker/session/session.h"\n', 2),
        one("broker/gateway/a.c", OPENING + '#include "actors/topic/topic.h"\n#include <nng/nng.h>\n', 3),
        one("broker/main/a.c", OPENING + '#include <cyaml/cyaml.h>\n#include "clients/cli/verb.h"\n', 3),
        one("clients/cli/main/main.c", OPENING + '#include "broker/main/boot.h"\n#include "broker/admin/a.h"\n', 3),
        one("actors/base/a.c", OPENING + '/*\n#include <nng/nng.h>\n*/\n'),
        one("broker/elsewhere/a.c", OPENING, 1),
        one("broker/main/a.c", OPENING + '#include "boot.h"\n', 2),
        one("clients/lib/weir.h", OPENING + '#include "clients/sp/pipe.h"\n', 2),
    ],
    "floors-linked": [
        one("CMakeLists.txt", LINKED),
        one("CMakeLists.txt", LINKED.replace("weir_floor(clients/sp)\n", ""), 1),
        one("CMakeLists.txt", "weir_floor(actors/base clients_wire)\n" + LINKED.split("\n", 1)[1], 1),
        one("CMakeLists.txt", LINKED + "weir_floor(broker/elsewhere)\n", len(LIBRARIES) + 1),
        one("CMakeLists.txt", LINKED + "weir_floor(actors/examples)\n", len(LIBRARIES) + 1),
    ],
    "function-length": [
        one("actors/base/a.c", function(FUNCTION_LINES_MAX)),
        one("actors/base/a.c", function(FUNCTION_LINES_MAX + 1), 2),
        one("actors/base/a.c", OPENING + "int f(int a,\n      int b)\n" + function(FUNCTION_LINES_MAX)[32 - 6:], 2),
    ],
    "file-length": [
        one("actors/base/a.c", "\n" * FILE_LINES_MAX),
        one("actors/base/a.c", "\n" * (FILE_LINES_MAX + 1), FILE_LINES_MAX + 1),
    ],
    "columns": [
        one("actors/base/a.c", "x" * COLUMNS_MAX + "\n"),
        one("actors/base/a.c", "\n" + "x" * (COLUMNS_MAX + 1) + "\n", 2),
        one("deploy/run", "#!/bin/sh\n" + "x" * (COLUMNS_MAX + 1) + "\n", 2),
    ],
    "whitespace": [
        one("actors/base/a.c", "int a;\n\tint b;\nint c; \nint d;", 2, 3, 4),
        one("README.md", "a\tb"),
    ],
    "banned-calls": [
        one("tests/unit/a.c", OPENING + "strcpy(a, b);\nstrcat(a, b);\nsprintf(a, b);\ngets(a);\n", 2, 3, 4, 5),
        one("clients/cli/a.c", OPENING + "atoi(a);\nstrtok(a, b);\nalloca(1);\nusleep(1);\nsleep(1);\n", 2, 3, 4, 5, 6),
        one("actors/base/a.c", OPENING + 'printf("a");\nfprintf(stderr, "a");\nexit(1);\nabort();\n', 2, 3, 4, 5),
        one("clients/cli/a.c", OPENING + 'printf("a");\nexit(1);\n'),
        one("actors/base/log.c", OPENING + "dprintf(2, line);\n"),
        one("actors/base/a.c", OPENING + '/* exit(1) */ snprintf(a, 1, "exit(%d)", 1); on_exit_(1); self->abort(1);\n'),
        one("tests/bench/a.c", OPENING + 'printf("a");\n'),
    ],
    "header-guards": [
        one("actors/base/a.h", HEADER.format("ACTORS_BASE_A_H", "")),
        one("actors/base/a.h", HEADER.format("A_H", ""), 1),
        one("clients/lib/weir.h", HEADER.format("WEIR_H", "")),
        one("actors/base/a.h", OPENING + "int a;\n", 1),
    ],
    "headers-alone": [
        one("actors/base/a.h", HEADER.format("ACTORS_BASE_A_H", "#include <stdint.h>\nuint8_t a(void);")),
        one("actors/base/a.h", HEADER.format("ACTORS_BASE_A_H", "uint8_t a(void);"), 1),
        one("clients/lib/weir.h", HEADER.format("WEIR_H", "int class(int);"), 1),
    ],
    "opens-with-comment": [
        one("actors/base/a.c", OPENING),
        one("actors/base/a.c", "#include <stdio.h>\n", 1),
    ],
    "own-header-first": [
        ({"actors/base/a.h": OPENING,
          "actors/base/a.c": OPENING + '#include "actors/base/a.h"\n#include <stdio.h>\n'}, set()),
        ({"actors/base/a.h": OPENING,
          "actors/base/a.c": OPENING + '#include <stdio.h>\n#include "actors/base/a.h"\n'},
         {"actors/base/a.c:2"}),
    ],
    "unfinished": [
        one("deploy/run", f"#!/bin/sh\n# {LATER}: more\n", 2),
        one("deploy/run", "#!/bin/sh\nmktemp -d /tmp/weir.XXXXXX\n"),
    ],
    "local-paths": [
        one("README.md", f"See\n{MACHINE}.\n", 2),
        one("README.md", f"cd {'/wo' + 'rk'}/main; ls {'/ro' + 'ot'}\n", 1),
        one("README.md", "a/workers, broker/working, /run/weir, ${x}/work, ~/work, /workers\n"),
    ],
    "top-level": [
        ({"actors/a": "", "README.md": ""}, set()),
        ({"actors/a": "", "notes/b": "", "x.c": ""}, {"notes:1", "x.c:1"}),
    ],
    "unit-tests-mirror": [
        one("tests/unit/actors/base/a_test.c", OPENING),
        one("tests/unit/actors/elsewhere/a_test.c", OPENING, 1),
    ],
    "service-hardened": [
        one("deploy/a.service", "[Service]\nExecStart=/usr/bin/weir serve\n", 1),
    ],
    "layout": [
        ({".clang-format": "BasedOnStyle: LLVM\n", "actors/base/a.c": "int a;\n"}, set()),
        ({".clang-format": "BasedOnStyle: LLVM\n", "actors/base/a.c": "int a;\nint  b;\n"}, {"actors/base/a.c:2"}),
    ],
}


def faults_of(rule, files):
    root = Path(tempfile.mkdtemp(prefix="weir-tidy-"))
    try:
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return {f"{file}:{line}" for file, line, _ in RULES[rule](Tree(root))}
    finally:
        shutil.rmtree(root)


def self_test(names):
    """Runs the cases of these rules; returns (passed, failed). A rule that no case makes fire has failed."""
    passed = failed = 0
    for name in names:
        cases = CASES.get(name, [])
        wrong = [f"case {index}: wanted {sorted(wanted) or 'none'}, got {sorted(got) or 'none'}"
                 for index, (files, wanted) in enumerate(cases, 1) if (got := faults_of(name, files)) != wanted]
        if not any(wanted for _, wanted in cases):
            wrong.append("no case makes it fire")
        for sentence in wrong:
            print(f"tests/tidy/self_test.py: {name}: {sentence}")
        print(f"{'ok  ' if not wrong else 'FAIL'} {name} fires ({len(cases)} cases)")
        passed, failed = passed + (not wrong), failed + bool(wrong)
    return passed, failed
