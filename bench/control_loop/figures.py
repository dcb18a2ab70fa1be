"""Results and their report: tables, each figure with its target, and everything as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from bench.report import machine, table

FLOOR = "floor"
"""The name of the client that only writes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One figure. It has a target if it has a bound."""

    part: str
    what: str
    value: float
    unit: str = ""
    bound: float | None = None
    at_least: bool = False
    """Whether the bound is a minimum."""

    @property
    def met(self) -> bool | None:
        """Whether the target was reached, None if there is none."""
        if self.bound is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True, kw_only=True, slots=True)
class Creation:
    """Objects that were created at once, until the last was ready."""

    who: str
    count: int
    round: int
    seconds: Sequence[float]
    """Seconds from just before an object's POST until it was seen ready, sorted."""
    makespan: float
    """Seconds from the first POST until the last object was seen ready."""
    writes: int
    """Writes by the operator or its substitute, without the client's own POSTs."""
    cpu: dict[str, float]
    """CPU seconds by process."""


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest value that is at least as large as this percentage of all."""
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def ratios(creations: Sequence[Creation], ours: str, nack: str) -> list[Figure]:
    """Return how ours compares, by number of objects: medians over the rounds."""
    figures: list[Figure] = []
    for count in sorted({each.count for each in creations}):
        by_name: dict[str, list[Creation]] = {}
        for each in creations:
            if each.count == count:
                by_name.setdefault(each.who, []).append(each)
        part = f"create {count:,}"
        mine = by_name.get(ours, [])
        if not mine:
            continue
        if floor := by_name.get(FLOOR):
            times = median(a.makespan / b.makespan for a, b in zip(mine, floor, strict=False))
            figures.append(Figure(part=part, what="makespan / floor", value=times, unit="x", bound=1.5))
        if theirs := by_name.get(nack):
            faster = median(b.makespan for b in theirs) / median(a.makespan for a in mine)
            figures.append(
                Figure(part=part, what=f"makespan of {nack} / ours", value=faster, unit="x", bound=2.5, at_least=True)
            )
            fewer = median(a.writes for a in mine) / median(b.writes for b in theirs)
            figures.append(Figure(part=part, what=f"API writes / {nack}", value=fewer, unit="x", bound=0.5))
    return figures


def creations_table(creations: Sequence[Creation]) -> str:
    """Return the times of each contender, and the resources of its processes."""
    heads = ["queues", "who", "p50 s", "p95 s", "p99 s", "makespan s", "a second", "writes each"]
    processes = list(dict.fromkeys(name for each in creations for name in each.cpu))
    rows = [
        [
            f"{each.count:,}",
            each.who,
            *(f"{percentile(each.seconds, percent):.3f}" for percent in (50, 95, 99)),
            f"{each.makespan:.2f}",
            f"{each.count / each.makespan:,.0f}",
            f"{each.writes / each.count:.2f}",
            *(f"{each.cpu[name]:.2f}" if name in each.cpu else "-" for name in processes),
        ]
        for each in creations
    ]
    return table([*heads, *(f"CPU s: {name}" for name in processes)], rows)


def figures_table(figures: Sequence[Figure]) -> str:
    """Return each figure with its target, and whether it was reached."""
    rows = [
        [
            each.part,
            each.what,
            _formatted(each.value, each.unit),
            "-" if each.bound is None else f"{'>=' if each.at_least else '<='} {_formatted(each.bound, each.unit)}",
            {True: "yes", False: "NO", None: "-"}[each.met],
        ]
        for each in figures
    ]
    return table(["part", "what", "measured", "target", "met"], rows)


def as_json(creations: Sequence[Creation], figures: Sequence[Figure], settings: dict[str, Any]) -> dict[str, Any]:
    """Return everything that was measured."""
    return {
        "machine": machine(),
        "settings": settings,
        "creations": [asdict(each) for each in creations],
        "figures": [asdict(each) | {"met": each.met} for each in figures],
    }


def _formatted(value: float, unit: str) -> str:
    if unit in {"x", "s", "share"}:
        return f"{value:,.2f}{_UNITS.get(unit, ' ' + unit)}"
    whole = abs(value) >= 10 or value == int(value)
    return f"{value:,.{0 if whole else 2}f} {unit}".rstrip()


_UNITS = {"x": "x", "share": ""}
