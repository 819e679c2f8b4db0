#!/usr/bin/env python3
"""Draws where the broker's time goes, as an SVG: records a running process with perf and stacks its call chains.

    flame.py PID OUT.svg [--seconds N] [--title TEXT]     record PID for a while
    flame.py --work OUT.svg [--seconds N] [GENERATOR OPTION...]   a broker under bench_weir's work, W1 128 B by default
"""

import argparse
import html
import subprocess
import sys
import tempfile
from pathlib import Path

from cases import Case
from runner import Machine

ROOT = Path(__file__).resolve().parents[3]
FREQUENCY = 499  # samples a second and thread; a prime, so that it falls in step with nothing
WIDTH, ROW, FONT = 1200, 17, 11
LEAST = 0.002  # narrower frames are left out
CHARACTER = 6.4  # width of one at FONT
# A colour a layer, so that one sees at a glance who spends.
LAYERS = (("kernel", "#c9c9c9"), ("libnng", "#e8b26a"), ("libc", "#d8d08a"), ("weir", "#7fb2e0"))


def record(pid, seconds, folder):
    """Call chains of the process as perf prints them."""
    data = Path(folder, "perf.data")
    subprocess.run(["perf", "record", "-q", "-e", "cpu-clock", "-F", str(FREQUENCY), "--call-graph", "dwarf,8192",
                    "-o", data, "-p", str(pid), "--", "sleep", str(seconds)], check=True, stderr=subprocess.DEVNULL)
    done = subprocess.run(["perf", "script", "--no-inline", "-i", data, "-F", "comm,ip,sym,dso"], check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout


def layer_of(module):
    if module.startswith("[") or module.endswith(".ko"):
        return "kernel"
    return next((name for name, _ in LAYERS if name in module), "libc")


def chains(text):
    """[(frame, ...)] from the root down; a frame is (function, layer)."""
    chain, thread = [], ""
    for line in text.splitlines():
        if not line.strip():
            if chain:
                yield ((thread, "weir"), *reversed(chain))
            chain = []
        elif not line[0].isspace():
            thread, chain = line.split()[0].rstrip(":"), []
        else:
            _, symbol, *module = line.split(maxsplit=2)
            name = module[0].strip("()") if module else ""
            chain.append((symbol.split("+")[0], layer_of(Path(name).name or name)))
    if chain:
        yield ((thread, "weir"), *reversed(chain))


class Frame:
    def __init__(self):
        self.count, self.below = 0, {}

    def add(self, chain):
        self.count += 1
        if chain:
            self.below.setdefault(chain[0], Frame()).add(chain[1:])


def depth_of(frame, total):
    shown = [depth_of(below, total) for below in frame.below.values() if below.count >= LEAST * total]
    return 1 + max(shown, default=0)


def draw_frame(frame, name, layer, x, row, total, height, out):
    width = WIDTH * frame.count / total
    y = height - (row + 1) * ROW
    share = f"{100 * frame.count / total:.1f} %"
    out.append(f'<g><title>{html.escape(name)} ({layer}) {share}</title>'
               f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 1}" fill="{dict(LAYERS)[layer]}"/>')
    room = int(width / CHARACTER)
    if room > 3:
        text = name if len(name) <= room else name[:room - 1] + "\u2026"
        out.append(f'<text x="{x + 2:.1f}" y="{y + ROW - 5}">{html.escape(text)}</text>')
    out.append("</g>")
    for (below_name, below_layer), below in sorted(frame.below.items()):
        if below.count >= LEAST * total:
            draw_frame(below, below_name, below_layer, x, row + 1, total, height, out)
        x += WIDTH * below.count / total


def draw(root, title):
    total = root.count
    height = depth_of(root, total) * ROW + 40
    legend = " · ".join(f'<tspan fill="{color}">\u25a0</tspan> {name}' for name, color in LAYERS)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="monospace" '
           f'font-size="{FONT}"><rect width="100%" height="100%" fill="white"/>',
           f'<text x="4" y="14">{html.escape(title)}, {total} samples</text>',
           f'<text x="{WIDTH - 260}" y="14">{legend}</text>']
    draw_frame(root, "all", "weir", 0, 0, total, height, out)
    return "\n".join([*out, "</svg>"]) + "\n"


def record_work(seconds, options, folder):
    """A fresh broker under the load generator, recorded in the middle of it."""
    build = ROOT / "build/release"
    text = []

    class Recorder(Machine):
        def load(self, peer, name, case, broker, values):
            with subprocess.Popen([sys.executable, __file__, str(broker.pid), "-", "--seconds", str(seconds),
                                   "--delay", "1.5"], stdout=subprocess.PIPE, text=True) as recording:
                done = super().load(peer, name, case, broker, values)
                text.append(recording.communicate()[0])
            return done

    case = Case("throughput", "flame", {"size": 128, **dict(zip(options[::2], options[1::2]))})
    Recorder(build / "tests/bench/peers", build / "weir", 3 * seconds + 4, 0).measure("weir", case)
    return text[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", action="store_true")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--delay", type=float, default=0, help="before recording")
    parser.add_argument("--title", default="processor time of the broker")
    parser.add_argument("words", nargs="+")
    arguments, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.work:
            out = arguments.words[0]
            text = record_work(arguments.seconds, [option.removeprefix("--") for option in options], folder)
        else:
            pid, out = arguments.words
            subprocess.run(["sleep", str(arguments.delay)], check=True)
            text = record(int(pid), arguments.seconds, folder)
    if out == "-":
        print(text)
        return
    root = Frame()
    for chain in chains(text):
        root.add(chain)
    Path(out).write_text(draw(root, arguments.title))
    print(f"{out}: {root.count} samples")


if __name__ == "__main__":
    main()
