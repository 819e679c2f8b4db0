"""The short tables for README.md: a row a case, Weir beside the best of the others and the floor."""

from cases import COLUMNS, PEERLESS, case_named
from tables import all_tables, by_case, cell, median

BEGIN, END = "<!-- figures of tests/bench/peers/run -->", "<!-- end of figures -->"
FLOORS = ("tcp",)
NO_PEERS = ("tcp", "nng", "nng-batch")  # forwarders without topics, state or subscriptions
HIGHER_IS_BETTER = {"deliveries_per_s", "records_per_s"}


def best(results, key):
    """The name of the other system with the best median."""
    values = {name: median(of_peer, key) for name, of_peer in results.items()
              if not name.startswith("weir") and name not in NO_PEERS}
    values = {name: value for name, value in values.items() if value == value}
    choose = max if key in HIGHER_IS_BETTER else min
    return choose(values, key=values.get) if values else None


def figure(results, name, column):
    """A median with its format; "-" where there is none."""
    _, key, style, divisor = column
    return cell(results[name], key, style, divisor) if name in results else "-"


def row(case, results, ours):
    ratios, columns, *_ = COLUMNS[case.kind]
    cells = [case.name]
    for key in ratios[:2]:
        column = next(column for column in columns if column[1] == key)
        peer = best(results, key)
        times = median(results[ours], key) / median(results[peer], key) if peer else float("nan")
        cells += [figure(results, ours, column) + f" {column[0].removeprefix('broker ').replace('us', 'µs')}",
                  f"{figure(results, peer, column)} ({peer})" if peer else "-",
                  f"{times:.2f}" if times == times else "-",
                  next((figure(results, floor, column) for floor in FLOORS if floor in results), "-")]
    return cells + ["-"] * (9 - len(cells))


def readme(records, about):
    """Markdown; to be put under "Figures" of README.md as it is."""
    machine = f"{about['cores']} cores of {about['cpu']}, Linux {about['kernel']}, commit {about['commit']}"
    noise = median(records, "other_cores")
    out = [f"`tests/bench/peers/run --{about['mode']}` on {machine}:",
           f"medians of {about['repeats']} interleaved runs, while other programs used {noise:.1f} of the cores.", "",
           "| work | Weir | best other | times | floor | broker's time | best other | times | floor |",
           "|---" + "|---:" * 8 + "|"]
    for name, results in by_case(records).items():
        case = case_named(name)
        ours = next((name for name in ("weir", "weir-block") if name in results), None)
        if case.kind not in PEERLESS and ours:
            out.append("| " + " | ".join(row(case, results, ours)) + " |")
    for title, rows in all_tables(records, ()):
        if not title.startswith("Weir alone"):
            continue
        out += ["", "| " + " | ".join(rows[0]) + " |", "|---" + "|---:" * (len(rows[0]) - 1) + "|"]
        out += ["| " + " | ".join(cells) + " |" for cells in rows[1:]]
    return "\n".join(out) + "\n"


def put_into(path, text):
    """Replaces what stands between the two marks of a Markdown file."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{path} has no lines {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
