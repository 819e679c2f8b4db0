"""Draws the medians as SVG bars with gnuplot, one file a case and figure."""

import re
import subprocess

from cases import COLUMNS, PEERLESS, case_named
from tables import by_case, median

SCRIPT = """
set terminal svg size 760,{height} dynamic background rgb "white" font "sans,12"
set output "{path}"
set title "{title}" noenhanced
set xlabel "{label}"
set logscale x
set yrange [-0.6:{top}] reverse
set ytics ({tics}) noenhanced
set xrange [{least}:{most}]
set grid xtics
set style fill solid 0.8 border
unset key
plot "-" using (0.5*({least}+$1)):2:({least}):1:($2-0.35):($2+0.35):3 with boxxyerror lc rgb variable, \\
     "-" using 1:2:3 with labels left offset 0.5,0
{bars}
e
{labels}
e
"""
OURS, THEIRS = 0x1F6FB2, 0xB0B0B0


def draw(path, title, label, values, style):
    """Bars of {peer: value} on a logarithmic scale, ours in a colour of its own."""
    values = {name: value for name, value in values.items() if value == value and value > 0}
    if not values:
        return
    least, most = min(values.values()) / 3, max(values.values()) * 3
    bars = [f"{value} {row} {OURS if name.startswith('weir') else THEIRS}"
            for row, (name, value) in enumerate(values.items())]
    labels = [f'{value} {row} "{format(value, style)}"' for row, value in enumerate(values.values())]
    script = SCRIPT.format(height=110 + 26 * len(values), path=path, title=title, label=label, top=len(values) - 0.4,
                           tics=", ".join(f'"{name}" {row}' for row, name in enumerate(values)), least=least,
                           most=most, bars="\n".join(bars), labels="\n".join(labels))
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def draw_all(records, folder):
    """Returns the files drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, results in by_case(records).items():
        if case_named(name).kind in PEERLESS:
            continue
        ratios, columns, *_ = COLUMNS[case_named(name).kind]
        for key in ratios:
            title, style = next((title, style) for title, of_key, style, _ in columns if of_key == key)
            file = re.sub(r"[^a-z0-9]+", "-", f"{name} {title}".lower()).strip("-") + ".svg"
            draw(folder / file, name, title, {peer: median(of_peer, key) for peer, of_peer in results.items()}, style)
    return sorted(folder.glob("*.svg"))
