"""Cliffs in the grid: how far each cell's cost is above what its neighbours on each axis lead one to expect."""

import math

from cases import case_named
from tables import by_case, median

AXES = ("size", "pubs", "subs", "topics")
CLIFF = 2  # times what the neighbours say


def between(axis, at, low, high):
    """The cost of a record at `at`, by those of (at, cost) on both sides: bytes and subscribers add to it by the piece,
    of topics each power of ten is expected to cost as much more as the one before."""
    part = (at - low[0]) / (high[0] - low[0])
    if axis != "topics":
        return low[1] + part * (high[1] - low[1])
    part = math.log(at / low[0]) / math.log(high[0] / low[0])
    return low[1] * (high[1] / low[1]) ** part


def expected(axis, line, at):
    """None at the end of an axis of three and more; of two, each is the other's measure."""
    spots = sorted(line)
    index = spots.index(at)
    if len(spots) == 2:
        return line[spots[1 - index]]
    if index in (0, len(spots) - 1):
        return None
    return between(axis, at, *((spot, line[spot]) for spot in (spots[index - 1], spots[index + 1])))


def costs(records):
    """(size, pubs, subs, topics) -> name of the case, seconds that one record took to be published and reach all."""
    found = {}
    for name, results in by_case(records).items():
        case = case_named(name)
        if case.kind == "grid":
            rate = median([result for of_peer in results.values() for result in of_peer], "deliveries_per_s")
            found[tuple(case.options[axis] for axis in AXES)] = name, case.options["subs"] / rate
    return found


def measure_trends(records):
    """Gives each record of the grid its `trend`: its cost over what its neighbours say, on the axis where that is
    highest. Returns the names of the cells that are a cliff."""
    found = costs(records)
    trends = {}
    for point, (name, cost) in found.items():
        for i, axis in enumerate(AXES):
            line = {other[i]: of_other for other, (_, of_other) in found.items()
                    if other[:i] + other[i + 1:] == point[:i] + point[i + 1:]}
            by_neighbours = expected(axis, line, point[i]) if len(line) > 1 else None
            if by_neighbours:
                trends[name] = max(trends.get(name, 0), cost / by_neighbours)
    for record in records:
        if record["case"] in trends:
            record["trend"] = trends[record["case"]]
    return [name for name, trend in trends.items() if trend > CLIFF]
