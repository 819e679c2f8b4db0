"""Medians of runs as tables: aligned for a terminal, Markdown for the README."""

import statistics

from cases import COLUMNS, JOINED, PEERLESS, case_named


def median(results, key):
    values = [result[key] for result in results if result.get(key) is not None]
    return statistics.median(values) if values else float("nan")


def cell(results, key, style, divisor):
    value = median(results, key)
    return format(value / divisor, style) if value == value else "-"


def ratio(results, base_results, key):
    value = median(results, key) / (median(base_results, key) or float("nan"))
    return f"{value:.2f}" if value == value else "-"


def spread(results, key):
    """How far the results are from each other, as a part of their median."""
    values = [result[key] for result in results if key in result]
    middle = statistics.median(values) if values else 0
    return f"{(max(values) - min(values)) / middle:.0%}" if middle and len(values) > 1 else "-"


def by_case(records):
    """case name -> peer -> its results, in the order of the runs."""
    grouped = {}
    for record in records:
        if "error" not in record:
            grouped.setdefault(record["case"], {}).setdefault(record["peer"], []).append(record)
    return {name: results for name, results in grouped.items() if case_named(name)}


def table_rows(case, results, reference):
    """The title and the rows of one case, the first of titles."""
    ratios, columns, *floor = COLUMNS[case.kind]
    reference = next((name for name in reference if name in results), None)
    base = results.get(reference, [])
    titles = {key: title for title, key, *_ in columns}
    rows = [["peer", *(title for title, *_ in columns), *(f"x {titles[key].split()[0]}" for key in ratios),
             *(f"x {titles[ratios[0]]} of {name}" for name in floor), "spread"]]
    for name, of_peer in results.items():
        rows.append([name, *(cell(of_peer, key, style, divisor) for _, key, style, divisor in columns),
                     *(ratio(of_peer, base, key) for key in ratios),
                     *(ratio(of_peer, results.get(name, []), ratios[0]) for name in floor),
                     spread(of_peer, ratios[0])])
    return case.name + (f" (ratios to {reference})" if reference else ""), rows


def all_tables(records, reference):
    """(title, rows) of each table: one a case, or one a kind for JOINED and where only Weir does the work."""
    alone, joined, titles = {}, {}, {}  # kind -> rows, kind -> title
    for name, results in by_case(records).items():
        case = case_named(name)
        if case.kind in JOINED:
            title, rows = table_rows(case, results, reference)
            titles[case.kind] = title.replace(case.name, JOINED[case.kind])
            joined.setdefault(case.kind, [rows[0]])
            joined[case.kind] += [[f"{case.name}: {peer}", *cells] for peer, *cells in rows[1:]]
            continue
        if case.kind not in PEERLESS:
            yield table_rows(case, results, reference)
            continue
        columns = COLUMNS[case.kind][1]
        rows = alone.setdefault(case.kind, [[case.kind, *(title.strip() for title, *_ in columns)]])
        for of_peer in results.values():
            rows.append([name, *(cell(of_peer, key, style, divisor) for _, key, style, divisor in columns)])
    for kind, rows in joined.items():
        yield titles[kind], rows
    for kind, rows in alone.items():
        yield f"Weir alone: {kind}", rows


def print_tables(records, reference):
    for title, rows in all_tables(records, reference):
        widths = [max(map(len, column)) for column in zip(*rows)]
        print(f"\n{title}")
        for row in rows:
            cells = [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:]))]
            print("  ".join(cells).rstrip())


def markdown(records, about, reference):
    """All of it as one document; `about` is the line of JSON that describes the machine."""
    out = ["# Weir beside other message systems", "",
           f"{about['cores']} cores, {about['cpu']}, Linux {about['kernel']}; commit {about['commit']}; medians of "
           f"{about['repeats']} interleaved runs of {about['seconds']} s.", ""]
    out += ["| peer | version | how it runs |", "|---|---|---|"]
    out += [f"| {name} | {about['versions'].get(name, '').splitlines()[0] if about['versions'].get(name) else ''} | "
            f"{said} |" for name, said in about["peers"].items()]
    for title, rows in all_tables(records, reference):
        out += ["", f"## {title}", "", "| " + " | ".join(rows[0]) + " |", "|---" + "|---:" * (len(rows[0]) - 1) + "|"]
        out += ["| " + " | ".join(row) + " |" for row in rows[1:]]
    failed = [record for record in records if "error" in record]
    if failed:
        out += ["", "## Runs that failed", ""]
        out += [f"* {record['case']}, {record['peer']}: {record['error']}" for record in failed]
    return "\n".join(out) + "\n"
