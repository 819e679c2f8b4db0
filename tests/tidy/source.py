"""What the rules look at: the project's files, and C text without comments and strings."""

import re
import subprocess
from functools import lru_cache
from pathlib import Path

TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def blanked(match):
    return re.sub(r"[^\n]", " ", match[0])


class Source:
    """One file: its path from the root and its text, read once."""

    def __init__(self, root, name):
        self.name = name
        self.path = Path(root) / name
        self.folder = str(Path(name).parent)
        self.text = self.path.read_text(errors="replace")
        self.lines = self.text.splitlines()

    @property
    def is_c(self):
        return self.name.endswith((".c", ".h"))

    @lru_cache(maxsize=None)
    def code(self):
        """The text with comments and the contents of strings blanked, lines kept."""
        return TOKEN.sub(blanked, self.text)

    def line_at(self, offset):
        return self.text.count("\n", 0, offset) + 1

    @lru_cache(maxsize=None)
    def includes(self):
        """[(line, is_system, name)], those inside comments left out."""
        kept = self.code()
        return [(self.line_at(match.start()), match[1] == "<", match[2]) for match in INCLUDE.finditer(self.text)
                if kept[match.start():match.end()].strip().startswith("#")]


class Tree:
    """The files of a project: what git knows of, or, where there is no git, all but build/."""

    def __init__(self, root):
        self.root = Path(root)
        self.names = sorted(self.committed() or self.walked())
        self.sources = [Source(root, name) for name in self.names if is_text(self.root / name)]

    def committed(self):
        if not (self.root / ".git").exists():
            return []
        listing = subprocess.run(["git", "-C", self.root, "ls-files", "-z"], capture_output=True, text=True, check=True)
        return [name for name in listing.stdout.split("\0") if name and (self.root / name).is_file()]

    def walked(self):
        return [str(path.relative_to(self.root)) for path in self.root.rglob("*")
                if path.is_file() and path.relative_to(self.root).parts[0] not in (".git", "build")]

    def c_files(self, *tops):
        """The C sources and headers below the named top folders, or all of them."""
        return [source for source in self.sources if source.is_c and (not tops or source.name.split("/")[0] in tops)]


def is_text(path):
    with open(path, "rb") as file:
        return b"\0" not in file.read(4096)
